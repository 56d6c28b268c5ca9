//! The algorithms, as one table with two implementations that must agree. Everything else in the project that
//! encrypts, signs or hashes comes through here (the KEM of `kem` and the lattice hash of `lthash` apart).
//!
//! Keys are always 32 uniform bytes. Nothing here draws randomness.

mod aws_lc;
mod rust_crypto;
mod signing;
#[cfg(test)]
mod tests;

pub use aws_lc::{AWS_LC, AeadKey};
pub use rust_crypto::RUST_CRYPTO;
pub use signing::{SigningKey, sign, sign_as_heir, sign_batch, sign_header, verify, verify_batch, verify_header};

use crate::name::Digest;
use crate::secret::{Secret32, SecretBytes};
use subtle::ConstantTimeEq;

/// Width of an AES-GCM nonce, in bytes.
pub const NONCE_BYTES: usize = 12;
/// Width of an AES-GCM tag, in bytes.
pub const TAG_BYTES: usize = 16;

/// One implementation of every algorithm. The rows are the same functions in each: tests run them side by side.
pub struct Algorithms {
    /// The library's name.
    pub name: &'static str,
    /// AES-256-GCM (SP 800-38D): encrypts in place and answers the tag.
    pub aead_seal: AeadSeal,
    /// AES-256-GCM: opens ciphertext and tag, or nothing.
    pub aead_open: AeadOpen,
    /// Ed25519 (RFC 8032 §5.1.5): the public key of a seed.
    pub ed25519_public: fn(seed: &[u8; 32]) -> [u8; 32],
    /// Ed25519 (RFC 8032 §5.1.6).
    pub ed25519_sign: fn(seed: &[u8; 32], message: &[u8]) -> [u8; 64],
    /// Ed25519 (RFC 8032 §5.1.7), the strict way: see [`verify`].
    pub ed25519_verify: fn(public: &[u8; 32], message: &[u8], signature: &[u8; 64]) -> bool,
    /// HMAC-SHA256 (RFC 2104) over the parts, one after the other.
    pub hmac_sha256: fn(key: &[u8; 32], parts: &[&[u8]]) -> [u8; 32],
    /// SHA-256 (FIPS 180-4) over the parts, one after the other.
    pub sha256: fn(parts: &[&[u8]]) -> [u8; 32],
    /// HKDF-Expand with SHA-256 (RFC 5869 §2.3): `info` is the parts, one after the other; fills `out`, 8,160 bytes at
    /// most.
    pub hkdf_expand: fn(key: &[u8; 32], info: &[&[u8]], out: &mut [u8]),
}

/// Encrypts `in_out` in place and answers the tag.
pub type AeadSeal = fn(key: &[u8; 32], nonce: &[u8; 12], aad: &[u8], in_out: &mut [u8]) -> [u8; TAG_BYTES];
/// Opens ciphertext and tag.
pub type AeadOpen = fn(key: &[u8; 32], nonce: &[u8; 12], aad: &[u8], sealed: &[u8]) -> Option<SecretBytes>;

/// What the node runs on.
const DEFAULT: &Algorithms = &AWS_LC;

/// SHA-256 over the parts, one after the other. The caller sees to it that no two lists of parts run together alike.
pub fn sha256(parts: &[&[u8]]) -> Digest {
    Digest((DEFAULT.sha256)(parts))
}

/// HMAC-SHA256 over the parts, one after the other.
pub fn hmac_sha256(key: &Secret32, parts: &[&[u8]]) -> [u8; 32] {
    (DEFAULT.hmac_sha256)(key.expose(), parts)
}

/// HKDF-Expand-SHA256: fills `out` from a key of 32 uniform bytes.
pub(crate) fn hkdf_expand(key: &Secret32, info: &[&[u8]], out: &mut [u8]) {
    (DEFAULT.hkdf_expand)(key.expose(), info, out);
}

/// Whether two byte strings are the same, in time that depends on their lengths alone.
pub fn equal(a: &[u8], b: &[u8]) -> bool {
    a.ct_eq(b).into()
}
