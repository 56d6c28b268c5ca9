//! The table on the RustCrypto crates: the second opinion, and the way out if the first is found wanting.

use super::{Algorithms, TAG_BYTES, signing::canonical_point};
use crate::secret::SecretBytes;
use aes_gcm::aead::{AeadInOut, KeyInit};
use aes_gcm::{Aes256Gcm, Key, Nonce, Tag};
use ed25519_dalek::{Signature, Signer, SigningKey, VerifyingKey};
use hkdf::Hkdf;
use hmac::{Hmac, Mac};
use sha2::{Digest, Sha256};

/// The table on RustCrypto.
pub static RUST_CRYPTO: Algorithms = Algorithms {
    name: "RustCrypto",
    aead_seal,
    aead_open,
    ed25519_public: |seed| SigningKey::from_bytes(seed).verifying_key().to_bytes(),
    ed25519_sign: |seed, message| SigningKey::from_bytes(seed).sign(message).to_bytes(),
    ed25519_verify: verify,
    hmac_sha256,
    sha256,
    hkdf_expand,
};

fn aead_seal(key: &[u8; 32], nonce: &[u8; 12], aad: &[u8], in_out: &mut [u8]) -> [u8; TAG_BYTES] {
    let cipher = Aes256Gcm::new(&Key::<Aes256Gcm>::from(*key));
    let tag = cipher.encrypt_inout_detached(&Nonce::from(*nonce), aad, in_out.into());
    tag.expect("plaintexts are bounded").into()
}

fn aead_open(key: &[u8; 32], nonce: &[u8; 12], aad: &[u8], sealed: &[u8]) -> Option<SecretBytes> {
    let (ciphertext, tag) = sealed.split_last_chunk::<TAG_BYTES>()?;
    let mut plaintext = ciphertext.to_vec();
    let cipher = Aes256Gcm::new(&Key::<Aes256Gcm>::from(*key));
    let tag = Tag::from(*tag);
    let opened = cipher.decrypt_inout_detached(&Nonce::from(*nonce), aad, plaintext.as_mut_slice().into(), &tag);
    let plaintext = SecretBytes::take(plaintext);
    opened.ok().map(|()| plaintext)
}

fn verify(key: &[u8; 32], message: &[u8], signature: &[u8; 64]) -> bool {
    let strict = canonical_point(key) && signature.first_chunk().is_some_and(canonical_point);
    let signature = Signature::from_bytes(signature);
    strict && VerifyingKey::from_bytes(key).is_ok_and(|key| key.verify_strict(message, &signature).is_ok())
}

fn hmac_sha256(key: &[u8; 32], parts: &[&[u8]]) -> [u8; 32] {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("HMAC takes keys of any length");
    parts.iter().for_each(|part| mac.update(part));
    mac.finalize().into_bytes().into()
}

fn sha256(parts: &[&[u8]]) -> [u8; 32] {
    let mut hash = Sha256::new();
    parts.iter().for_each(|part| hash.update(part));
    hash.finalize().into()
}

fn hkdf_expand(key: &[u8; 32], info: &[&[u8]], out: &mut [u8]) {
    let key = Hkdf::<Sha256>::from_prk(key).expect("a key has the width of the hash");
    key.expand_multi_info(info, out).expect("at most 8,160 bytes are asked for");
}
