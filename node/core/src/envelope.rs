//! Ciphertext v1: what a caller gets for a plaintext, 128 bytes longer. Says in clear which key, version and material
//! it is of, commits to its key, and binds the caller's context.
//!
//! `CLAV`, format 1, suite 1, flags u16 0 | key id 16, version u32, material id 8 | salt 32 | nonce 12 | commitment 32
//! | ciphertext, tag 16.

mod context;

pub use context::{BadContext, CONTEXT_BYTES_MAX, CONTEXT_PAIRS_MAX, Context};

use crate::chance::Fresh;
use crate::codec::{Malformed, Reader, Writer};
use crate::crypto::{AeadKey, NONCE_BYTES, TAG_BYTES, equal};
use crate::kdf::{self, Ctx, label};
use crate::material::Material;
use crate::name::{KeyId, MaterialId};
use crate::planted;
use crate::record::TenantTag;
use crate::secret::{Secret32, SecretBytes};
use std::fmt;
use zeroize::Zeroizing;

/// Longest plaintext of one message, in bytes. Longer ones are for streams.
pub const PLAINTEXT_BYTES_MAX: usize = 65_536;
/// What a ciphertext is longer than its plaintext, in bytes.
pub const OVERHEAD_BYTES: usize = HEADER_BYTES + TAG_BYTES;

const HEADER_BYTES: usize = 112;
/// Up to the salt's end: what a message key is derived for.
const PREFIX_BYTES: usize = 68;
/// `CLAV`, format 1, suite 1, flags 0.
const MAGIC: [u8; 8] = *b"CLAV\x01\x01\0\0";

/// The ciphertext does not open: wrong key, wrong context, or changed bytes. There is no telling which.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Undecryptable;

impl fmt::Display for Undecryptable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the ciphertext does not open under this key and context")
    }
}

impl std::error::Error for Undecryptable {}

/// The clear part of a ciphertext. Nothing in it is to be believed before the ciphertext has opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// The key.
    pub key: KeyId,
    /// Its version, from 1.
    pub version: u32,
    /// The version's material.
    pub material: MaterialId,
    /// What the message key is derived with.
    pub salt: [u8; 32],
    /// The AES-GCM nonce.
    pub nonce: [u8; 12],
    /// The commitment to the message key.
    pub commitment: [u8; 32],
}

/// A ciphertext that has the right shape.
#[derive(Clone, Copy)]
pub struct Ciphertext<'a> {
    header: Header,
    head: &'a [u8; HEADER_BYTES],
    body: &'a [u8],
}

impl<'a> Ciphertext<'a> {
    /// Parses exactly.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, Malformed> {
        let (head, body) = bytes.split_first_chunk::<HEADER_BYTES>().ok_or(Malformed::Short)?;
        let mut r = Reader::new(head);
        if r.array()? != MAGIC {
            return Err(Malformed::Unknown);
        }
        if body.len() < TAG_BYTES {
            return Err(Malformed::Short);
        }
        if body.len() > PLAINTEXT_BYTES_MAX + TAG_BYTES {
            return Err(Malformed::Oversize);
        }
        let (key, version, material) = (KeyId(r.array()?), r.u32()?, MaterialId(r.array()?));
        let header = Header { key, version, material, salt: r.array()?, nonce: r.array()?, commitment: r.array()? };
        Ok(Ciphertext { header, head, body })
    }

    /// The clear part.
    pub fn header(&self) -> &Header {
        &self.header
    }
}

/// The key of all messages of one material and salt, ready to use. May be kept and shared as DESIGN §6 allows: for up
/// to 2^16 messages or one second, on one node. No Debug, no Clone.
pub struct MessageKey {
    key: AeadKey,
    commitment: [u8; 32],
    prefix: [u8; PREFIX_BYTES],
    tenant: TenantTag,
}

impl MessageKey {
    /// A key to encrypt with, under a fresh salt.
    pub fn fresh(material: &Material, salt: Fresh<32>) -> Self {
        MessageKey::derive(material, &salt.spend())
    }

    /// The key that a ciphertext with this header asks for, if it is of this material.
    pub fn of(material: &Material, header: &Header) -> Result<Self, Undecryptable> {
        let context = material.context();
        let same = (header.key, header.version, header.material) == (context.key, context.version, context.material);
        if same { Ok(MessageKey::derive(material, &header.salt)) } else { Err(Undecryptable) }
    }

    /// okm64 = KDF(material, "claviger/v1/message", ctx(bytes 0..68, tenant16), 64): key, commitment.
    fn derive(material: &Material, salt: &[u8; 32]) -> Self {
        let context = material.context();
        let prefix = prefix(context.key, context.version, context.material, salt);
        let ctx = Ctx::new().fixed(&prefix).fixed(&context.tenant.0);
        let mut okm = Zeroizing::new([0; 64]);
        kdf::derive_into(material.key(), label::MESSAGE, ctx.as_slice(), okm.as_mut());
        let (key, commitment) = okm.split_at(32);
        let key = AeadKey::new(&Secret32::copy_from(key).expect("half of 64 bytes"));
        let commitment = commitment.try_into().expect("half of 64 bytes");
        MessageKey { key, commitment, prefix, tenant: context.tenant }
    }

    /// Encrypts one message of at most [`PLAINTEXT_BYTES_MAX`] bytes, under a fresh nonce of its own.
    pub fn seal(&self, plaintext: &[u8], context: &Context, nonce: Fresh<NONCE_BYTES>) -> Result<Vec<u8>, Malformed> {
        if plaintext.len() > PLAINTEXT_BYTES_MAX {
            return Err(Malformed::Oversize);
        }
        let nonce = nonce.spend();
        let mut out = Vec::with_capacity(plaintext.len() + OVERHEAD_BYTES);
        out.extend_from_slice(&self.prefix);
        out.extend_from_slice(&nonce);
        out.extend_from_slice(&self.commitment);
        let aad = aad(&out, &self.tenant, context);
        out.extend_from_slice(plaintext);
        let tag = self.key.seal_in_place(&nonce, &aad, &mut out[HEADER_BYTES..]);
        out.extend_from_slice(&tag);
        Ok(out)
    }

    /// Opens a ciphertext whose key this is. The commitment is compared first, in constant time.
    pub fn open(&self, ciphertext: &Ciphertext<'_>, context: &Context) -> Result<SecretBytes, Undecryptable> {
        let head = ciphertext.head;
        let mine = equal(&head[..PREFIX_BYTES], &self.prefix) & equal(&ciphertext.header.commitment, &self.commitment);
        if !mine {
            return Err(Undecryptable);
        }
        let aad = aad(head, &self.tenant, context);
        self.key.open(&ciphertext.header.nonce, &aad, ciphertext.body).ok_or(Undecryptable)
    }
}

/// Encrypts one message under a salt of its own.
pub fn encrypt(
    material: &Material,
    plaintext: &[u8],
    context: &Context,
    salt: Fresh<32>,
    nonce: Fresh<NONCE_BYTES>,
) -> Result<Vec<u8>, Malformed> {
    MessageKey::fresh(material, salt).seal(plaintext, context, nonce)
}

/// Opens a ciphertext of this material.
pub fn decrypt(
    material: &Material,
    ciphertext: &Ciphertext<'_>,
    context: &Context,
) -> Result<SecretBytes, Undecryptable> {
    MessageKey::of(material, ciphertext.header())?.open(ciphertext, context)
}

/// Bytes 0..68 of a ciphertext.
fn prefix(key: KeyId, version: u32, material: MaterialId, salt: &[u8; 32]) -> [u8; PREFIX_BYTES] {
    let mut w = Writer::with_room(PREFIX_BYTES);
    w.raw(&MAGIC).raw(&key.0).u32(version).raw(&material.0).raw(salt);
    w.into_bytes().try_into().expect("8 and 28 and 32 bytes")
}

/// "claviger/v1/aad" 00, bytes 0..112, tenant16, the context.
fn aad(head: &[u8], tenant: &TenantTag, context: &Context) -> Vec<u8> {
    let label = label::AAD.as_str().as_bytes();
    let context = if planted!(ContextNotBound) { &[] } else { context.encoded() };
    let mut aad = Vec::with_capacity(label.len() + 1 + HEADER_BYTES + tenant.0.len() + context.len());
    for part in [label, &[0], head, &tenant.0, context] {
        aad.extend_from_slice(part);
    }
    aad
}

#[cfg(test)]
mod tests;
