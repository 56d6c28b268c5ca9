//! Encrypt and decrypt.

use super::{Parsed, context, key_name, read};
use crate::keyring::{Decrypted, Encrypted};
use crate::service::{DecryptAsk, EncryptAsk};
use claviger_core::envelope::{OVERHEAD_BYTES, PLAINTEXT_BYTES_MAX};
use claviger_core::failure::Refused;
use claviger_core::secret::SecretBytes;
use claviger_proto::v1;

pub(in crate::api) fn encrypt(ask: v1::EncryptRequest) -> Parsed<EncryptAsk> {
    if ask.plaintext.len() > PLAINTEXT_BYTES_MAX {
        return Err(Refused::TooLong("a plaintext of more than 65,536 bytes").into());
    }
    let plaintext = SecretBytes::take(ask.plaintext.into());
    Ok(EncryptAsk { name: key_name(&ask.name)?, plaintext, context: context(&ask.context)?, read: read(ask.read) })
}

pub(in crate::api) fn encrypt_done((sealed, revision): (Encrypted, u64)) -> v1::EncryptResponse {
    v1::EncryptResponse { ciphertext: sealed.ciphertext.into(), version: sealed.version, revision }
}

pub(in crate::api) fn decrypt(ask: v1::DecryptRequest) -> Parsed<DecryptAsk> {
    if ask.ciphertext.len() > PLAINTEXT_BYTES_MAX + OVERHEAD_BYTES {
        return Err(Refused::TooLong("a ciphertext of more than 65,664 bytes").into());
    }
    let ciphertext = ask.ciphertext.into();
    Ok(DecryptAsk { name: key_name(&ask.name)?, ciphertext, context: context(&ask.context)?, read: read(ask.read) })
}

pub(in crate::api) fn decrypt_done((clear, revision): (Decrypted, u64)) -> v1::DecryptResponse {
    v1::DecryptResponse { plaintext: clear.plaintext.expose_owned().into(), version: clear.version, revision }
}
