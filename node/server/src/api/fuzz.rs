//! What must hold of our words, whatever protobuf they were read from.

use super::words;
use crate::service::{BATCH_ITEMS_MAX, PIECE_BYTES_MAX, Piece, PipelineAsk, PipelineItem};
use claviger_core::envelope::{OVERHEAD_BYTES, PLAINTEXT_BYTES_MAX};
use claviger_core::failure::Failure;
use claviger_proto::v1;
use prost::Message;

/// Reads a request and makes our words of it; what is refused is none of ours.
fn asked<M: Message + Default + Clone, T>(bytes: &[u8], parse: fn(M) -> Result<T, Failure>) -> Option<(M, T)> {
    let message = M::decode(bytes).ok()?;
    let ask = parse(message.clone()).ok()?;
    Some((message, ask))
}

/// An item of a stream, of which one came before that named the same key, as it mostly is.
fn item(frame: v1::PipelineRequest) -> Result<PipelineItem, Failure> {
    let mut names = words::Names::default();
    let first = words::pipeline_item(frame.clone(), &mut names);
    let second = words::pipeline_item(frame, &mut names);
    assert!(first.is_ok() == second.is_ok(), "what came before it decides whether it is read");
    second
}

/// Requests that are answered one by one.
pub(crate) fn words(bytes: &[u8]) {
    if let Some((given, ask)) = asked::<v1::EncryptRequest, _>(bytes, words::encrypt) {
        assert!(given.plaintext.len() <= PLAINTEXT_BYTES_MAX && ask.name.to_string() == given.name);
    }
    if let Some((given, ask)) = asked::<v1::DecryptRequest, _>(bytes, words::decrypt) {
        assert!(ask.ciphertext.len() <= PLAINTEXT_BYTES_MAX + OVERHEAD_BYTES && ask.name.to_string() == given.name);
    }
    if let Some((given, ask)) = asked::<v1::ReEncryptRequest, _>(bytes, words::re_encrypt) {
        let destination = ask.destination.map(|name| name.to_string()).unwrap_or_default();
        assert!(destination == given.destination && ask.name.to_string() == given.name);
    }
    if let Some((given, ask)) = asked::<v1::CreateKeyRequest, _>(bytes, words::create_key) {
        assert!(ask.name.to_string() == given.name && ask.labels.len() == given.labels.len());
        assert!(ask.request.is_some() != given.request_id.is_empty());
    }
    if let Some((given, (role, _))) = asked::<v1::SetRoleRequest, _>(bytes, words::set_role) {
        let asked_for = given.role.expect("a role without a role");
        let kinds = |number: &i32| v1::RoleKind::try_from(*number).is_ok_and(|kind| kind != v1::RoleKind::Unspecified);
        assert!(asked_for.kinds.iter().all(kinds), "a kind of role that nobody knows was passed over");
        assert!(role.grants.len() == asked_for.keys.len() && role.identity.to_string() == asked_for.identity);
    }
    if let Some((_, ask)) = asked::<v1::ListKeysRequest, _>(bytes, words::list_keys) {
        assert!((1..=256).contains(&ask.limit));
    }
    if let Some((_, (limit, _))) = asked::<v1::ListRolesRequest, _>(bytes, words::list_roles) {
        assert!((1..=256).contains(&limit));
    }
    if let Some((_, (last, _))) = asked::<v1::TailAuditRequest, _>(bytes, words::tail_audit) {
        assert!(last <= 1_000);
    }
    others(bytes);
}

/// Of these it is enough that they are refused or read.
fn others(bytes: &[u8]) {
    let _ = asked(bytes, words::get_key);
    let _ = asked(bytes, words::update_key);
    let _ = asked(bytes, words::enable_key);
    let _ = asked(bytes, words::disable_key);
    let _ = asked(bytes, words::rotate_key);
    let _ = asked(bytes, words::get_role);
    let _ = asked(bytes, words::delete_role);
    let _ = asked(bytes, words::deny_certificate);
    let _ = asked(bytes, words::allow_certificate);
    let _ = asked(bytes, words::get_ceremony);
    let _ = asked(bytes, words::offer_share);
    let _ = asked(bytes, words::initialize);
    let _ = asked(bytes, words::create_join_ticket);
    let _ = asked(bytes, words::set_member_role);
    let _ = asked(bytes, words::retire_member);
}

/// Batches and frames of a stream.
pub(crate) fn many(bytes: &[u8]) {
    if let Some((given, _)) = asked::<v1::BatchEncryptRequest, _>(bytes, words::batch_encrypt) {
        assert!((1..=BATCH_ITEMS_MAX).contains(&given.requests.len()));
    }
    let _ = asked(bytes, words::batch_decrypt);
    let _ = asked(bytes, words::batch_re_encrypt);
    if let Some((given, item)) = asked::<v1::PipelineRequest, _>(bytes, item) {
        let same = matches!(
            (given.ask, &item.ask),
            (Some(v1::pipeline_request::Ask::Encrypt(_)), PipelineAsk::Encrypt(_))
                | (Some(v1::pipeline_request::Ask::Decrypt(_)), PipelineAsk::Decrypt(_))
                | (Some(v1::pipeline_request::Ask::ReEncrypt(_)), PipelineAsk::ReEncrypt(_))
        );
        assert!(same && item.id == given.id, "another item than was sent");
    }
    chunks(bytes);
}

/// Frames of a stream of chunks: what was taken is of the kind and the length that was sent, within its bounds.
fn chunks(bytes: &[u8]) {
    let piece_of = |sent: usize, taken: usize| sent == taken && (1..=PIECE_BYTES_MAX).contains(&sent);
    if let Some((given, piece)) = asked::<v1::EncryptStreamRequest, _>(bytes, words::sealing_piece) {
        use v1::encrypt_stream_request::Part;
        let same = match (given.part, &piece) {
            (Some(Part::Plaintext(sent)), Piece::Bytes(taken)) => piece_of(sent.len(), taken.size_bytes()),
            (Some(Part::Start(sent)), Piece::Start(ask)) => ask.name.to_string() == sent.name,
            (Some(Part::Plaintext(_) | Part::Start(_)) | None, _) => false,
        };
        assert!(same, "another piece to seal than was sent");
    }
    if let Some((given, piece)) = asked::<v1::DecryptStreamRequest, _>(bytes, words::opening_piece) {
        use v1::decrypt_stream_request::Part;
        let same = match (given.part, &piece) {
            (Some(Part::Ciphertext(sent)), Piece::Bytes(taken)) => piece_of(sent.len(), taken.size_bytes()),
            (Some(Part::Start(sent)), Piece::Start(ask)) => {
                ask.name.to_string() == sent.name && ask.header[..] == sent.header[..]
            }
            (Some(Part::Ciphertext(_) | Part::Start(_)) | None, _) => false,
        };
        assert!(same, "another piece to open than was sent");
    }
}

/// Whether it is a request that is read, of those that the seeds have.
#[cfg(test)]
pub(crate) fn understood(bytes: &[u8]) -> bool {
    asked(bytes, words::encrypt).is_some()
        || asked(bytes, words::decrypt).is_some()
        || asked(bytes, words::batch_encrypt).is_some()
        || asked(bytes, item).is_some()
        || asked(bytes, words::set_role).is_some()
        || asked(bytes, words::create_key).is_some()
        || asked(bytes, words::list_keys).is_some()
        || asked(bytes, words::initialize).is_some()
        || asked(bytes, words::offer_share).is_some()
        || asked(bytes, words::sealing_piece).is_some()
        || asked(bytes, words::opening_piece).is_some()
        || asked(bytes, words::create_join_ticket).is_some()
}
