//! Encrypt, decrypt, re-encrypt; in batches and streams of them.

use super::{Names, Parsed, context, key_name, read, wanted};
use crate::api::status;
use crate::keyring::{Decrypted, Encrypted, ReEncrypted};
use crate::service::{
    BatchAsk, Batched, DecryptAsk, DecryptStreamAsk, EncryptAsk, EncryptStreamAsk, PIECE_BYTES_MAX, Piece,
    PipelineAnswer, PipelineAsk, PipelineDone, PipelineItem, ReEncryptAsk,
};
use claviger_core::envelope::{OVERHEAD_BYTES, PLAINTEXT_BYTES_MAX, StreamHeader};
use claviger_core::failure::{Failure, Refused};
use claviger_core::name::KeyName;
use claviger_core::secret::SecretBytes;
use claviger_proto::v1;
use claviger_proto::v1::{
    batch_decrypt_result, batch_encrypt_result, batch_re_encrypt_result, decrypt_stream_request,
    decrypt_stream_response, encrypt_stream_request, encrypt_stream_response, pipeline_request, pipeline_response,
};

pub(in crate::api) fn encrypt(ask: v1::EncryptRequest) -> Parsed<EncryptAsk> {
    encrypt_item(ask, &mut Names::default())
}

fn encrypt_item(ask: v1::EncryptRequest, names: &mut Names) -> Parsed<EncryptAsk> {
    if ask.plaintext.len() > PLAINTEXT_BYTES_MAX {
        return Err(Refused::TooLong("a plaintext of more than 65,536 bytes").into());
    }
    let plaintext = SecretBytes::take(ask.plaintext.into());
    Ok(EncryptAsk { name: names.read(&ask.name)?, plaintext, context: context(&ask.context)?, read: read(ask.read) })
}

pub(in crate::api) fn encrypt_done((sealed, revision): (Encrypted, u64)) -> v1::EncryptResponse {
    v1::EncryptResponse { ciphertext: sealed.ciphertext.into(), version: sealed.version, revision }
}

pub(in crate::api) fn decrypt(ask: v1::DecryptRequest) -> Parsed<DecryptAsk> {
    decrypt_item(ask, &mut Names::default())
}

fn decrypt_item(ask: v1::DecryptRequest, names: &mut Names) -> Parsed<DecryptAsk> {
    let (name, context) = (names.read(&ask.name)?, context(&ask.context)?);
    Ok(DecryptAsk { name, ciphertext: ciphertext(ask.ciphertext.into())?, context, read: read(ask.read) })
}

fn ciphertext(bytes: Vec<u8>) -> Parsed<Vec<u8>> {
    if bytes.len() > PLAINTEXT_BYTES_MAX + OVERHEAD_BYTES {
        return Err(Refused::TooLong("a ciphertext of more than 65,664 bytes").into());
    }
    Ok(bytes)
}

pub(in crate::api) fn decrypt_done((clear, revision): (Decrypted, u64)) -> v1::DecryptResponse {
    v1::DecryptResponse { plaintext: clear.plaintext.expose_owned().into(), version: clear.version, revision }
}

pub(in crate::api) fn re_encrypt(ask: v1::ReEncryptRequest) -> Parsed<ReEncryptAsk> {
    re_encrypt_item(ask, &mut Names::default())
}

fn re_encrypt_item(ask: v1::ReEncryptRequest, names: &mut Names) -> Parsed<ReEncryptAsk> {
    Ok(ReEncryptAsk {
        name: names.read(&ask.name)?,
        ciphertext: ciphertext(ask.ciphertext.into())?,
        context: context(&ask.context)?,
        destination: destination(&ask.destination)?,
        new_context: ask.new_context.map(|new| context(&new.pairs)).transpose()?,
        read: read(ask.read),
    })
}

fn destination(name: &str) -> Parsed<Option<KeyName>> {
    if name.is_empty() { Ok(None) } else { Ok(Some(key_name(name)?)) }
}

pub(in crate::api) fn re_encrypt_done((sealed, revision): (ReEncrypted, u64)) -> v1::ReEncryptResponse {
    let ReEncrypted { ciphertext, version, source_version } = sealed;
    v1::ReEncryptResponse { ciphertext: ciphertext.into(), version, source_version, revision }
}

/// An item of a batch has no reading of its own.
fn unread(read: Option<v1::ReadOptions>) -> Parsed<()> {
    read.map_or(Ok(()), |_| Err(wanted("read options of the batch, and none of an item")))
}

pub(in crate::api) fn batch_encrypt(ask: v1::BatchEncryptRequest) -> Parsed<BatchAsk<EncryptAsk>> {
    let mut names = Names::default();
    let item = |item: v1::EncryptRequest| unread(item.read).and_then(|()| encrypt_item(item, &mut names));
    BatchAsk::new(ask.requests.into_iter().map(item), read(ask.read))
}

pub(in crate::api) fn batch_encrypt_done(done: Batched<Encrypted>) -> v1::BatchEncryptResponse {
    use batch_encrypt_result::Outcome;
    let revision = done.sequence;
    let outcome = |answer: Result<Encrypted, Failure>| {
        let good = answer.map(|sealed| Outcome::Response(encrypt_done((sealed, revision))));
        good.unwrap_or_else(|why| Outcome::Error(status::item(why)))
    };
    let result = |answer| v1::BatchEncryptResult { outcome: Some(outcome(answer)) };
    v1::BatchEncryptResponse { results: done.answers.into_iter().map(result).collect(), revision }
}

pub(in crate::api) fn batch_decrypt(ask: v1::BatchDecryptRequest) -> Parsed<BatchAsk<DecryptAsk>> {
    let mut names = Names::default();
    let item = |item: v1::DecryptRequest| unread(item.read).and_then(|()| decrypt_item(item, &mut names));
    BatchAsk::new(ask.requests.into_iter().map(item), read(ask.read))
}

pub(in crate::api) fn batch_decrypt_done(done: Batched<Decrypted>) -> v1::BatchDecryptResponse {
    use batch_decrypt_result::Outcome;
    let revision = done.sequence;
    let outcome = |answer: Result<Decrypted, Failure>| {
        let good = answer.map(|clear| Outcome::Response(decrypt_done((clear, revision))));
        good.unwrap_or_else(|why| Outcome::Error(status::item(why)))
    };
    let result = |answer| v1::BatchDecryptResult { outcome: Some(outcome(answer)) };
    v1::BatchDecryptResponse { results: done.answers.into_iter().map(result).collect(), revision }
}

pub(in crate::api) fn batch_re_encrypt(ask: v1::BatchReEncryptRequest) -> Parsed<BatchAsk<ReEncryptAsk>> {
    let mut names = Names::default();
    let item = |item: v1::ReEncryptRequest| unread(item.read).and_then(|()| re_encrypt_item(item, &mut names));
    BatchAsk::new(ask.requests.into_iter().map(item), read(ask.read))
}

pub(in crate::api) fn batch_re_encrypt_done(done: Batched<ReEncrypted>) -> v1::BatchReEncryptResponse {
    use batch_re_encrypt_result::Outcome;
    let revision = done.sequence;
    let outcome = |answer: Result<ReEncrypted, Failure>| {
        let good = answer.map(|sealed| Outcome::Response(re_encrypt_done((sealed, revision))));
        good.unwrap_or_else(|why| Outcome::Error(status::item(why)))
    };
    let result = |answer| v1::BatchReEncryptResult { outcome: Some(outcome(answer)) };
    v1::BatchReEncryptResponse { results: done.answers.into_iter().map(result).collect(), revision }
}

/// An error is a frame that is no item; what an item asks amiss is told in its own answer.
pub(in crate::api) fn pipeline_item(frame: v1::PipelineRequest, names: &mut Names) -> Parsed<PipelineItem> {
    use pipeline_request::Ask;
    let ask = match frame.ask.ok_or(wanted("encrypt, decrypt or re_encrypt in every frame"))? {
        Ask::Encrypt(ask) => PipelineAsk::Encrypt(encrypt_item(ask, names)),
        Ask::Decrypt(ask) => PipelineAsk::Decrypt(decrypt_item(ask, names)),
        Ask::ReEncrypt(ask) => PipelineAsk::ReEncrypt(re_encrypt_item(ask, names)),
    };
    Ok(PipelineItem { id: frame.id, ask })
}

pub(in crate::api) fn pipeline_answer(answer: PipelineAnswer) -> v1::PipelineResponse {
    use pipeline_response::Outcome;
    let good = |(done, revision)| match done {
        PipelineDone::Encrypted(sealed) => Outcome::Encrypt(encrypt_done((sealed, revision))),
        PipelineDone::Decrypted(clear) => Outcome::Decrypt(decrypt_done((clear, revision))),
        PipelineDone::ReEncrypted(sealed) => Outcome::ReEncrypt(re_encrypt_done((sealed, revision))),
    };
    let outcome = answer.outcome.into_inner().map_or_else(|why| Outcome::Error(status::item(why)), good);
    v1::PipelineResponse { id: answer.id, outcome: Some(outcome) }
}

pub(in crate::api) fn sealing_piece(frame: v1::EncryptStreamRequest) -> Parsed<Piece<EncryptStreamAsk>> {
    use encrypt_stream_request::Part;
    match frame.part.ok_or(wanted("start or plaintext in every frame"))? {
        Part::Plaintext(bytes) => Ok(Piece::Bytes(piece(bytes.into())?)),
        Part::Start(v1::EncryptStreamStart { name, context: pairs, min_revision }) => {
            let (name, context) = (key_name(&name)?, context(&pairs)?);
            Ok(Piece::Start(EncryptStreamAsk { name, context, min_revision }))
        }
    }
}

pub(in crate::api) fn opening_piece(frame: v1::DecryptStreamRequest) -> Parsed<Piece<DecryptStreamAsk>> {
    use decrypt_stream_request::Part;
    match frame.part.ok_or(wanted("start or ciphertext in every frame"))? {
        Part::Ciphertext(bytes) => Ok(Piece::Bytes(piece(bytes.into())?)),
        Part::Start(v1::DecryptStreamStart { name, context: pairs, header, min_revision }) => {
            let (name, context) = (key_name(&name)?, context(&pairs)?);
            Ok(Piece::Start(DecryptStreamAsk { name, context, header: header.into(), min_revision }))
        }
    }
}

fn piece(bytes: Vec<u8>) -> Parsed<SecretBytes> {
    if bytes.is_empty() || bytes.len() > PIECE_BYTES_MAX {
        return Err(wanted("1 to 131,072 bytes in a frame"));
    }
    Ok(SecretBytes::take(bytes))
}

pub(in crate::api) fn sealing_started(header: &StreamHeader, revision: u64) -> v1::EncryptStreamResponse {
    let (version, header) = (header.header().version, header.as_bytes().to_vec().into());
    let started = v1::EncryptStreamStarted { header, version, revision };
    v1::EncryptStreamResponse { part: Some(encrypt_stream_response::Part::Started(started)) }
}

pub(in crate::api) fn opening_started(header: &StreamHeader, revision: u64) -> v1::DecryptStreamResponse {
    let started = v1::DecryptStreamStarted { version: header.header().version, revision };
    v1::DecryptStreamResponse { part: Some(decrypt_stream_response::Part::Started(started)) }
}

pub(in crate::api) fn sealed_chunk(chunk: SecretBytes) -> v1::EncryptStreamResponse {
    v1::EncryptStreamResponse { part: Some(encrypt_stream_response::Part::Ciphertext(chunk.expose_owned().into())) }
}

pub(in crate::api) fn opened_chunk(chunk: SecretBytes) -> v1::DecryptStreamResponse {
    v1::DecryptStreamResponse { part: Some(decrypt_stream_response::Part::Plaintext(chunk.expose_owned().into())) }
}
