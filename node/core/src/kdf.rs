//! How keys come from keys, and how one key seals one thing: the two constructions that every format is made of.
//!
//! `KDF(K, label, ctx, n)` = HKDF-Expand-SHA256(K, label 00 ctx u32(8n)). `SU(K, label; ctx)`, the single-use AEAD: a
//! fresh 32-byte salt, key = KDF(K, label, ctx salt, 32), AES-256-GCM under a nonce of zeroes with AAD = ctx salt. A
//! key that is used once needs no nonce, and whoever repeats a salt by accident has drawn 32 equal bytes.

use crate::chance::Fresh;
use crate::crypto::{AeadKey, NONCE_BYTES, TAG_BYTES, hkdf_expand};
use crate::secret::{Secret, Secret32, SecretBytes};
use zeroize::Zeroizing;

/// Every label that separates one use of a key from another. `docs/formats.md` has each with its vector.
pub mod label {
    /// A label: ASCII without zero bytes, so that the 00 behind it ends it.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct Label(pub(crate) &'static str);

    impl Label {
        /// The text.
        pub fn as_str(self) -> &'static str {
            self.0
        }
    }

    /// L of a custodian slot, from U.
    pub const LOCKER: Label = Label("claviger/v1/locker");
    /// The secret half of a slot's KEM pair, under L.
    pub const SLOT_LOCK: Label = Label("claviger/v1/slot-lock");
    /// R, sealed to the public half of a slot.
    pub const SLOT_ROOT: Label = Label("claviger/v1/slot-root");
    /// C_R, the root commitment.
    pub const ROOT_COMMIT: Label = Label("claviger/v1/root-commit");
    /// The key that seals the keyring, from R.
    pub const KEYRING_KEY: Label = Label("claviger/v1/keyring-key");
    /// The keyring record.
    pub const KEYRING: Label = Label("claviger/v1/keyring");
    /// A record of a sealed table, under B[t].
    pub const RECORD: Label = Label("claviger/v1/record");
    /// A bucket key, under E[j].
    pub const BUCKET: Label = Label("claviger/v1/bucket");
    /// Key material, under G[b].
    pub const MATERIAL: Label = Label("claviger/v1/material");
    /// A message's key and commitment, from key material.
    pub const MESSAGE: Label = Label("claviger/v1/message");
    /// The additional data of a message.
    pub const AAD: Label = Label("claviger/v1/aad");
    /// A share's digest d_i, and its proof key.
    pub const SHARE: Label = Label("claviger/v1/share");
    /// The seed of the key that proves possession of a share.
    pub const SHARE_PROOF_KEY: Label = Label("claviger/v1/share-proof-key");
    /// What a proof of possession signs.
    pub const SHARE_PROOF: Label = Label("claviger/v1/share-proof");
    /// A tenant's tag, under I.
    pub const TENANT_TAG: Label = Label("claviger/v1/tenant-tag");
    /// A record's tag, under I.
    pub const RECORD_TAG: Label = Label("claviger/v1/record-tag");
    /// What an audit page says instead of a sensitive string.
    pub const AUDIT_TAG: Label = Label("claviger/v1/audit-tag");
    /// A share on its way to a ceremony's host.
    pub const SHARE_TRANSIT: Label = Label("claviger/v1/share-transit");
    /// The root key on its way to a proven peer.
    pub const ROOT_TRANSIT: Label = Label("claviger/v1/root-transit");
    /// Expansion of an element of the state hash.
    pub const LTHASH: Label = Label("claviger/v1/lthash");

    /// The whole table.
    pub const ALL: [Label; 20] = [
        LOCKER,
        SLOT_LOCK,
        SLOT_ROOT,
        ROOT_COMMIT,
        KEYRING_KEY,
        KEYRING,
        RECORD,
        BUCKET,
        MATERIAL,
        MESSAGE,
        AAD,
        SHARE,
        SHARE_PROOF_KEY,
        SHARE_PROOF,
        TENANT_TAG,
        RECORD_TAG,
        AUDIT_TAG,
        SHARE_TRANSIT,
        ROOT_TRANSIT,
        LTHASH,
    ];
}

pub use label::Label;

/// Width of a salt, in bytes.
pub const SALT_BYTES: usize = 32;
/// What SU adds to a plaintext, in bytes: the salt in front and the tag behind.
pub const SU_BYTES: usize = SALT_BYTES + TAG_BYTES;

/// A context: its field count in one byte, then the fields. Integers big-endian, ids and hashes as they are, the rest
/// `LP`.
#[derive(Clone)]
pub struct Ctx(Vec<u8>);

impl Ctx {
    /// No fields yet.
    pub fn new() -> Self {
        let mut bytes = Vec::with_capacity(128);
        bytes.push(0);
        Ctx(bytes)
    }
    /// A field of one byte.
    pub fn u8(self, x: u8) -> Self {
        self.fixed(&[x])
    }
    /// A field of two bytes.
    pub fn u16(self, x: u16) -> Self {
        self.fixed(&x.to_be_bytes())
    }
    /// A field of four bytes.
    pub fn u32(self, x: u32) -> Self {
        self.fixed(&x.to_be_bytes())
    }
    /// A field of eight bytes.
    pub fn u64(self, x: u64) -> Self {
        self.fixed(&x.to_be_bytes())
    }
    /// A field whose width is fixed by the format: an id, a hash, a key.
    pub fn fixed(mut self, x: &[u8]) -> Self {
        self.0[0] += 1;
        self.0.extend_from_slice(x);
        self
    }
    /// A field of any width: `LP(x)`.
    pub fn lp(mut self, x: &[u8]) -> Self {
        let width = u32::try_from(x.len()).expect("a bounded value is shorter than 4 GiB");
        self.0.extend_from_slice(&width.to_be_bytes());
        self.fixed(x)
    }
    /// The byte form.
    pub fn as_slice(&self) -> &[u8] {
        &self.0
    }
}

impl Default for Ctx {
    fn default() -> Self {
        Ctx::new()
    }
}

/// `KDF(K, label, ctx, N)`: `N` bytes, 8,160 at most.
pub fn derive<const N: usize>(key: &Secret32, label: Label, ctx: &Ctx) -> Secret<N> {
    let mut out = Zeroizing::new([0; N]);
    derive_into(key, label, ctx.as_slice(), out.as_mut());
    Secret::take(out)
}

/// `KDF` into a buffer.
pub(crate) fn derive_into(key: &Secret32, label: Label, ctx: &[u8], out: &mut [u8]) {
    let bits = u32::try_from(out.len() * 8).expect("at most 8,160 bytes are asked for").to_be_bytes();
    hkdf_expand(key, &[label.0.as_bytes(), &[0], ctx, &bits], out);
}

/// `SU(K, label; ctx)` over the plaintext: salt, ciphertext, tag.
pub fn seal(key: &Secret32, label: Label, ctx: &Ctx, plaintext: &[u8], salt: Fresh<SALT_BYTES>) -> Vec<u8> {
    let mut sealed = Vec::with_capacity(plaintext.len() + SU_BYTES);
    seal_onto(&mut sealed, key, label, ctx, plaintext, salt);
    sealed
}

/// `SU` appended to what is in `out`.
pub(crate) fn seal_onto(
    out: &mut Vec<u8>,
    key: &Secret32,
    label: Label,
    ctx: &Ctx,
    plaintext: &[u8],
    salt: Fresh<SALT_BYTES>,
) {
    out.reserve_exact(plaintext.len() + SU_BYTES); // no copy of the plaintext may stay behind in an outgrown buffer
    let (key, aad, salt) = single_use(key, label, ctx, salt.spend());
    out.extend_from_slice(&salt);
    let start = out.len();
    out.extend_from_slice(plaintext);
    let tag = key.seal_in_place(&[0; NONCE_BYTES], &aad, &mut out[start..]);
    out.extend_from_slice(&tag);
}

/// Opens what [`seal`] made under the same key, label and context, or nothing.
pub fn open(key: &Secret32, label: Label, ctx: &Ctx, sealed: &[u8]) -> Option<SecretBytes> {
    let (salt, body) = sealed.split_first_chunk::<SALT_BYTES>()?;
    let (key, aad, _) = single_use(key, label, ctx, *salt);
    key.open(&[0; NONCE_BYTES], &aad, body)
}

/// The key of one salt, and its AAD: ctx salt.
fn single_use(key: &Secret32, label: Label, ctx: &Ctx, salt: [u8; 32]) -> (AeadKey, Vec<u8>, [u8; 32]) {
    let mut aad = Vec::with_capacity(ctx.0.len() + SALT_BYTES);
    aad.extend_from_slice(&ctx.0);
    aad.extend_from_slice(&salt);
    let mut okm = Zeroizing::new([0; 32]);
    derive_into(key, label, &aad, okm.as_mut());
    (AeadKey::new(&Secret::take(okm)), aad, salt)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    fn key(byte: u8) -> Secret32 {
        Secret32::copy_from(&[byte; 32]).unwrap()
    }

    #[test]
    fn no_label_is_another_nor_holds_a_zero_byte() {
        let texts: BTreeSet<&str> = label::ALL.iter().map(|l| l.as_str()).collect();
        assert_eq!(texts.len(), label::ALL.len());
        assert!(texts.iter().all(|t| t.starts_with("claviger/v1/") && t.is_ascii() && !t.contains('\0')));
    }

    #[test]
    fn the_width_is_part_of_what_is_derived() {
        let wide = derive::<64>(&key(1), label::MESSAGE, &Ctx::new());
        let narrow = derive::<32>(&key(1), label::MESSAGE, &Ctx::new());
        assert_ne!(wide.expose()[..32], narrow.expose()[..]);
    }

    #[test]
    fn a_context_counts_its_fields() {
        assert_eq!(Ctx::new().as_slice(), [0]);
        assert_eq!(Ctx::new().u8(1).u16(2).lp(b"x").as_slice(), [3, 1, 0, 2, 0, 0, 0, 1, b'x']);
        assert_ne!(Ctx::new().u16(0x0102).as_slice(), Ctx::new().u8(1).u8(2).as_slice());
    }

    #[test]
    fn refuses_another_key_label_context_and_every_flipped_bit() {
        let ctx = Ctx::new().u32(1);
        let sealed = seal(&key(1), label::RECORD, &ctx, b"plaintext", Fresh::drawn([2; 32]));
        assert_eq!(sealed.len(), 9 + SU_BYTES);
        assert_eq!(sealed.len(), sealed.capacity());
        assert_eq!(open(&key(1), label::RECORD, &ctx, &sealed).unwrap().expose(), b"plaintext");
        assert!(open(&key(2), label::RECORD, &ctx, &sealed).is_none());
        assert!(open(&key(1), label::BUCKET, &ctx, &sealed).is_none());
        assert!(open(&key(1), label::RECORD, &Ctx::new().u32(2), &sealed).is_none());
        for bit in 0..sealed.len() * 8 {
            let mut changed = sealed.clone();
            changed[bit / 8] ^= 1 << (bit % 8);
            assert!(open(&key(1), label::RECORD, &ctx, &changed).is_none(), "bit {bit}");
        }
        assert!((0..sealed.len()).all(|n| open(&key(1), label::RECORD, &ctx, &sealed[..n]).is_none()));
    }
}
