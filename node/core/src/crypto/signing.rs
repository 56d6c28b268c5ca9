//! Signatures: all Ed25519, all over a domain and what follows it.

use super::{DEFAULT, aws_lc};
use crate::header::{Header, HeaderLink};
use crate::name::{Signature, VerifyingKey};
use crate::secret::Secret32;
use crate::txn::{Batch, SignedBatch, TxnKey};
use aws_lc_rs::signature::Ed25519KeyPair;

/// An Ed25519 private key, ready to sign. No Debug, no Clone.
pub struct SigningKey {
    seed: Secret32,
    pair: Ed25519KeyPair,
}

impl SigningKey {
    /// The key of a seed (RFC 8032 §5.1.5): any 32 uniform bytes.
    pub fn from_seed(seed: Secret32) -> Self {
        let pair = aws_lc::key_pair(seed.expose());
        SigningKey { seed, pair }
    }

    /// The public half.
    pub fn public(&self) -> VerifyingKey {
        VerifyingKey(aws_lc::public(&self.pair))
    }

    /// The seed, for whoever stores the key sealed.
    pub fn seed(&self) -> &Secret32 {
        &self.seed
    }
}

/// Signs a message, which starts with the domain that it is of.
pub fn sign(key: &SigningKey, message: &[u8]) -> Signature {
    Signature(aws_lc::sign(&key.pair, message))
}

/// Verifies a signature the strict way: s is reduced (RFC 8032 §5.1.7), and neither the key nor R is of small order or
/// encoded in any but the canonical form. So two implementations never differ over one signature, and no signature fits
/// two messages.
pub fn verify(key: &VerifyingKey, message: &[u8], signature: &Signature) -> bool {
    (DEFAULT.ed25519_verify)(&key.0, message, &signature.0)
}

/// Signs a batch with the transaction key T.
pub fn sign_batch(key: &SigningKey, batch: Batch) -> SignedBatch {
    let signature = sign(key, &batch.signed_bytes());
    SignedBatch { batch, signature }
}

/// Whether a batch names that transaction key and is signed by it.
pub fn verify_batch(signed: &SignedBatch, key: &TxnKey) -> bool {
    signed.batch.signer == key.number && verify(&key.public, &signed.batch.signed_bytes(), &signed.signature)
}

/// Signs a link of the header chain with the transaction key of the link before it.
pub fn sign_header(key: &SigningKey, header: Header) -> HeaderLink {
    let signature = sign(key, &header.signed_bytes());
    HeaderLink { header, signature, heir: None }
}

/// Has the heir of a mandate sign the link that begins its generation, with its identity key.
pub fn sign_as_heir(key: &SigningKey, link: HeaderLink) -> HeaderLink {
    let heir = Some(sign(key, &link.header.signed_bytes()));
    HeaderLink { heir, ..link }
}

/// Whether a link is signed by the transaction key of the link before it.
pub fn verify_header(link: &HeaderLink, key: &VerifyingKey) -> bool {
    verify(key, &link.header.signed_bytes(), &link.signature)
}

/// Whether 32 bytes encode a y below the field's prime that belongs to no point of small order. (Whether there is a
/// point at all, the library sees.)
pub(super) fn canonical_point(bytes: &[u8; 32]) -> bool {
    let mut y = *bytes;
    y[31] &= 0x7f;
    let reduced = y.iter().rev().lt(PRIME.iter().rev());
    reduced && !SMALL_ORDER.contains(&y)
}

/// p = 2^255 - 19, little-endian.
const PRIME: [u8; 32] = ends(0xed, 0x7f);

/// y of the eight points whose order divides 8, the sign of x apart: 0 (order 4), 1 (order 1), p-1 (order 2), and two
/// of order 8.
const SMALL_ORDER: [[u8; 32]; 5] = [
    [0; 32],
    one(),
    ends(0xec, 0x7f),
    [
        0xc7, 0x17, 0x6a, 0x70, 0x3d, 0x4d, 0xd8, 0x4f, 0xba, 0x3c, 0x0b, 0x76, 0x0d, 0x10, 0x67, 0x0f, 0x2a, 0x20,
        0x53, 0xfa, 0x2c, 0x39, 0xcc, 0xc6, 0x4e, 0xc7, 0xfd, 0x77, 0x92, 0xac, 0x03, 0x7a,
    ],
    [
        0x26, 0xe8, 0x95, 0x8f, 0xc2, 0xb2, 0x27, 0xb0, 0x45, 0xc3, 0xf4, 0x89, 0xf2, 0xef, 0x98, 0xf0, 0xd5, 0xdf,
        0xac, 0x05, 0xd3, 0xc6, 0x33, 0x39, 0xb1, 0x38, 0x02, 0x88, 0x6d, 0x53, 0xfc, 0x05,
    ],
];

const fn ends(first: u8, last: u8) -> [u8; 32] {
    let mut bytes = [0xff; 32];
    bytes[0] = first;
    bytes[31] = last;
    bytes
}

const fn one() -> [u8; 32] {
    let mut bytes = [0; 32];
    bytes[0] = 1;
    bytes
}
