//! Ciphertext v1: what a caller gets for a plaintext, 128 bytes longer. Says in clear which key, version and material
//! it is of, commits to its key, and binds the caller's context.
//!
//! `CLAV`, format 1, suite 1, flags u16 0 | key id 16, version u32, material id 8 | salt 32 | nonce 12 | commitment 32
//! | ciphertext, tag 16. Longer plaintexts are streams, suite 2.

mod context;
mod stream;

pub use context::{BadContext, CONTEXT_BYTES_MAX, CONTEXT_PAIRS_MAX, Context};
pub use stream::{
    CHUNK_BYTES, Cutter, NONCE_PREFIX_BYTES, NotSealed, SEALED_CHUNK_BYTES, STREAM_HEADER_BYTES, StreamHeader,
    StreamOpener, StreamSealer,
};

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
/// Bytes of associated data that are put together without asking for memory.
const AAD_SHORT_BYTES: usize = 256;

/// What a header is followed by, and so what it is the header of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Suite {
    /// One ciphertext and its tag (suite 1).
    Message,
    /// Chunks (suite 2).
    Stream,
}

impl Suite {
    /// `CLAV`, format 1, suite, flags 0.
    const fn magic(self) -> [u8; 8] {
        match self {
            Suite::Message => *b"CLAV\x01\x01\0\0",
            Suite::Stream => *b"CLAV\x01\x02\0\0",
        }
    }

    /// What bytes begin as, if it is any of ours: for a better word to whoever takes the one for the other.
    pub fn of(bytes: &[u8]) -> Option<Suite> {
        [Suite::Message, Suite::Stream].into_iter().find(|suite| bytes.starts_with(&suite.magic()))
    }
}

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

impl Header {
    fn read(head: &[u8; HEADER_BYTES], suite: Suite) -> Result<Self, Malformed> {
        let mut r = Reader::new(head);
        if r.array()? != suite.magic() {
            return Err(Malformed::Unknown);
        }
        let (key, version, material) = (KeyId(r.array()?), r.u32()?, MaterialId(r.array()?));
        Ok(Header { key, version, material, salt: r.array()?, nonce: r.array()?, commitment: r.array()? })
    }
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
        let header = Header::read(head, Suite::Message)?;
        if body.len() < TAG_BYTES {
            return Err(Malformed::Short);
        }
        if body.len() > PLAINTEXT_BYTES_MAX + TAG_BYTES {
            return Err(Malformed::Oversize);
        }
        Ok(Ciphertext { header, head, body })
    }

    /// The clear part.
    pub fn header(&self) -> &Header {
        &self.header
    }
}

/// The key of all messages of one material and salt, ready to use. May be kept and shared as DESIGN §6 allows: for up
/// to 2^16 messages or one second, on one node. No Debug, no Clone.
pub struct MessageKey(Sealing);

/// What is derived for one material, suite and salt.
struct Sealing {
    key: AeadKey,
    commitment: [u8; 32],
    prefix: [u8; PREFIX_BYTES],
    tenant: TenantTag,
}

impl Sealing {
    fn fresh(material: &Material, salt: Fresh<32>, suite: Suite) -> Self {
        Sealing::derive(material, &salt.spend(), suite)
    }

    /// What a header asks for, if it is of this material, and commits to this key. Compared in constant time.
    fn of(material: &Material, header: &Header, suite: Suite) -> Result<Self, Undecryptable> {
        let context = material.context();
        if (header.key, header.version, header.material) != (context.key, context.version, context.material) {
            return Err(Undecryptable);
        }
        let sealing = Sealing::derive(material, &header.salt, suite);
        if equal(&header.commitment, &sealing.commitment) { Ok(sealing) } else { Err(Undecryptable) }
    }

    /// okm64 = KDF(material, "claviger/v1/message", ctx(bytes 0..68, tenant16), 64): key, commitment.
    fn derive(material: &Material, salt: &[u8; 32], suite: Suite) -> Self {
        let context = material.context();
        let prefix = prefix(suite, context.key, context.version, context.material, salt);
        let ctx = Ctx::new().fixed(&prefix).fixed(&context.tenant.0);
        let mut okm = Zeroizing::new([0; 64]);
        kdf::derive_into(material.key(), label::MESSAGE, ctx.as_slice(), okm.as_mut());
        let (key, commitment) = okm.split_at(32);
        let key = AeadKey::new(&Secret32::copy_from(key).expect("half of 64 bytes"));
        let commitment = commitment.try_into().expect("half of 64 bytes");
        Sealing { key, commitment, prefix, tenant: context.tenant }
    }
}

impl MessageKey {
    /// A key to encrypt with, under a fresh salt.
    pub fn fresh(material: &Material, salt: Fresh<32>) -> Self {
        MessageKey(Sealing::fresh(material, salt, Suite::Message))
    }

    /// The key that a ciphertext with this header asks for, if it is of this material and commits to it.
    pub fn of(material: &Material, header: &Header) -> Result<Self, Undecryptable> {
        Sealing::of(material, header, Suite::Message).map(MessageKey)
    }

    /// Encrypts one message of at most [`PLAINTEXT_BYTES_MAX`] bytes, under a fresh nonce of its own.
    pub fn seal(&self, plaintext: &[u8], context: &Context, nonce: Fresh<NONCE_BYTES>) -> Result<Vec<u8>, Malformed> {
        if plaintext.len() > PLAINTEXT_BYTES_MAX {
            return Err(Malformed::Oversize);
        }
        let nonce = nonce.spend();
        let mut out = Vec::with_capacity(plaintext.len() + OVERHEAD_BYTES);
        out.extend_from_slice(&self.0.prefix);
        out.extend_from_slice(&nonce);
        out.extend_from_slice(&self.0.commitment);
        out.extend_from_slice(plaintext);
        let (head, body) = out.split_at_mut(HEADER_BYTES);
        let tag = with_aad(head, &self.0.tenant, context, |aad| self.0.key.seal_in_place(&nonce, aad, body));
        out.extend_from_slice(&tag);
        Ok(out)
    }

    /// Opens a ciphertext whose key this is. The commitment is compared first, in constant time.
    pub fn open(&self, ciphertext: &Ciphertext<'_>, context: &Context) -> Result<SecretBytes, Undecryptable> {
        let head = ciphertext.head;
        let mine =
            equal(&head[..PREFIX_BYTES], &self.0.prefix) & equal(&ciphertext.header.commitment, &self.0.commitment);
        if !mine {
            return Err(Undecryptable);
        }
        let open = |aad: &[u8]| self.0.key.open(&ciphertext.header.nonce, aad, ciphertext.body);
        with_aad(head, &self.0.tenant, context, open).ok_or(Undecryptable)
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
fn prefix(suite: Suite, key: KeyId, version: u32, material: MaterialId, salt: &[u8; 32]) -> [u8; PREFIX_BYTES] {
    let mut w = Writer::with_room(PREFIX_BYTES);
    w.raw(&suite.magic()).raw(&key.0).u32(version).raw(&material.0).raw(salt);
    w.into_bytes().try_into().expect("8 and 28 and 32 bytes")
}

/// What of "claviger/v1/aad" 00, bytes 0..112, tenant16, the context is used for, in one piece. Most contexts are short: no
/// memory is asked for then.
fn with_aad<T>(head: &[u8], tenant: &TenantTag, context: &Context, used: impl FnOnce(&[u8]) -> T) -> T {
    let context = if planted!(ContextNotBound) { &[] } else { context.encoded() };
    let parts = [label::AAD.as_str().as_bytes(), &[0], head, &tenant.0, context];
    let length = parts.iter().map(|part| part.len()).sum();
    let mut short = [0; AAD_SHORT_BYTES];
    let Some(aad) = short.get_mut(..length) else { return used(&parts.concat()) };
    let mut rest = &mut *aad;
    for part in parts {
        let (place, behind) = rest.split_at_mut(part.len());
        place.copy_from_slice(part);
        rest = behind;
    }
    used(aad)
}

#[cfg(test)]
mod tests;
