//! The table on aws-lc-rs: what the node runs on.

use super::{Algorithms, TAG_BYTES, signing::canonical_point};
use crate::secret::{Secret32, SecretBytes};
use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use aws_lc_rs::signature::{ED25519, Ed25519KeyPair, KeyPair, UnparsedPublicKey};
use aws_lc_rs::{digest, hkdf, hmac};

/// The table on aws-lc-rs.
pub static AWS_LC: Algorithms = Algorithms {
    name: "aws-lc-rs",
    aead_seal: |key, nonce, aad, in_out| AeadKey::of(key).seal_in_place(nonce, aad, in_out),
    aead_open: |key, nonce, aad, sealed| AeadKey::of(key).open(nonce, aad, sealed),
    ed25519_public: |seed| public(&key_pair(seed)),
    ed25519_sign: |seed, message| sign(&key_pair(seed), message),
    ed25519_verify: verify,
    hmac_sha256,
    sha256,
    hkdf_expand,
};

/// An AES-256-GCM key with its schedule worked out: for a key that serves more than one message.
pub struct AeadKey(LessSafeKey);

impl AeadKey {
    /// Prepares a key.
    pub fn new(key: &Secret32) -> Self {
        AeadKey::of(key.expose())
    }

    fn of(key: &[u8; 32]) -> Self {
        AeadKey(LessSafeKey::new(UnboundKey::new(&AES_256_GCM, key).expect("an AES-256 key has 32 bytes")))
    }

    /// Encrypts in place and answers the tag. The nonce must never have served this key before.
    ///
    /// # Panics
    /// Over 64 GiB, which no bounded plaintext of ours reaches.
    pub fn seal_in_place(&self, nonce: &[u8; 12], aad: &[u8], in_out: &mut [u8]) -> [u8; TAG_BYTES] {
        let nonce = Nonce::assume_unique_for_key(*nonce);
        let tag = self.0.seal_in_place_separate_tag(nonce, Aad::from(aad), in_out).expect("plaintexts are bounded");
        tag.as_ref().try_into().expect("a GCM tag has 16 bytes")
    }

    /// Opens ciphertext and tag, or nothing.
    pub fn open(&self, nonce: &[u8; 12], aad: &[u8], sealed: &[u8]) -> Option<SecretBytes> {
        let (ciphertext, tag) = sealed.split_last_chunk::<TAG_BYTES>()?;
        let mut plaintext = vec![0; ciphertext.len()];
        let nonce = Nonce::assume_unique_for_key(*nonce);
        let opened = self.0.open_separate_gather(nonce, Aad::from(aad), ciphertext, tag, &mut plaintext);
        let plaintext = SecretBytes::take(plaintext);
        opened.ok().map(|()| plaintext)
    }
}

/// The key pair of a seed, kept by whoever signs more than once.
pub(super) fn key_pair(seed: &[u8; 32]) -> Ed25519KeyPair {
    Ed25519KeyPair::from_seed_unchecked(seed).expect("an Ed25519 seed is any 32 bytes")
}

pub(super) fn public(pair: &Ed25519KeyPair) -> [u8; 32] {
    pair.public_key().as_ref().try_into().expect("an Ed25519 public key has 32 bytes")
}

pub(super) fn sign(pair: &Ed25519KeyPair, message: &[u8]) -> [u8; 64] {
    pair.sign(message).as_ref().try_into().expect("an Ed25519 signature has 64 bytes")
}

fn verify(key: &[u8; 32], message: &[u8], signature: &[u8; 64]) -> bool {
    let strict = canonical_point(key) && signature.first_chunk().is_some_and(canonical_point);
    strict && UnparsedPublicKey::new(&ED25519, key).verify(message, signature).is_ok()
}

fn hmac_sha256(key: &[u8; 32], parts: &[&[u8]]) -> [u8; 32] {
    let mut context = hmac::Context::with_key(&hmac::Key::new(hmac::HMAC_SHA256, key));
    parts.iter().for_each(|part| context.update(part));
    context.sign().as_ref().try_into().expect("an HMAC-SHA256 has 32 bytes")
}

fn sha256(parts: &[&[u8]]) -> [u8; 32] {
    let mut context = digest::Context::new(&digest::SHA256);
    parts.iter().for_each(|part| context.update(part));
    context.finish().as_ref().try_into().expect("a SHA-256 has 32 bytes")
}

fn hkdf_expand(key: &[u8; 32], info: &[&[u8]], out: &mut [u8]) {
    let key = hkdf::Prk::new_less_safe(hkdf::HKDF_SHA256, key);
    let okm = key.expand(info, Width(out.len())).expect("at most 8,160 bytes are asked for");
    okm.fill(out).expect("the width is that of the buffer");
}

/// How many bytes to expand to.
struct Width(usize);

impl hkdf::KeyType for Width {
    fn len(&self) -> usize {
        self.0
    }
}
