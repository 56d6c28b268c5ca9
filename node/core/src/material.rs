//! Key material, and the bucket keys that it is sealed under. Destroying one bucket's key and drawing another makes
//! whatever was sealed under it unreadable, in every copy, once the epoch key is gone too.

use crate::chance::{Chance, Fresh};
use crate::codec::{Malformed, Reader, Writer};
use crate::kdf::{self, Ctx, SALT_BYTES, SU_BYTES, label};
use crate::keyring::Keyring;
use crate::name::{KeyId, Lineage, MaterialId};
use crate::record::TenantTag;
use crate::secret::{Secret32, SecretBytes};

/// Bucket keys of a cluster: as many as the first 12 bits of a material id tell apart.
pub const BUCKETS: usize = 4_096;

const FORMAT: u16 = 1;
const WRAPPED_BYTES: usize = 32 + SU_BYTES;

/// What the material is for, as its seal binds it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Algorithm {
    /// AES-256-GCM: 32 bytes of material, ciphertext v1.
    Aes256Gcm = 1,
}

/// Cryptographic usage mask (KMIP 2.1 §11.14): which uses the material has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Usage(u32);

impl Usage {
    /// Encrypt and Decrypt.
    pub const ENCRYPT_DECRYPT: Usage = Usage(0x0000_000C);

    /// The mask's bits.
    pub fn bits(self) -> u32 {
        self.0
    }

    /// Reads a mask: one that this release knows.
    pub fn from_bits(bits: u32) -> Result<Self, Malformed> {
        if bits == Usage::ENCRYPT_DECRYPT.0 { Ok(Usage(bits)) } else { Err(Malformed::Unknown) }
    }
}

/// Where the material came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Origin {
    /// Drawn by a node of this cluster.
    Generated = 1,
}

/// What a piece of material is bound to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MaterialContext {
    /// Whose it is.
    pub tenant: TenantTag,
    /// The key.
    pub key: KeyId,
    /// The key's version, from 1.
    pub version: u32,
    /// The material's own id; its first 12 bits choose the bucket.
    pub material: MaterialId,
    /// What it is for.
    pub algorithm: Algorithm,
    /// Which uses it has.
    pub usage: Usage,
    /// Whether it may ever leave the cluster.
    pub exportable: bool,
    /// Where it came from.
    pub origin: Origin,
}

impl MaterialContext {
    fn ctx(&self) -> Ctx {
        let ids = Ctx::new().fixed(&self.tenant.0).fixed(&self.key.0).u32(self.version).fixed(&self.material.0);
        ids.u8(self.algorithm as u8).u32(self.usage.0).u8(u8::from(self.exportable)).u8(self.origin as u8)
    }
}

/// The bucket of a material id: its first 12 bits.
pub fn bucket(material: &MaterialId) -> usize {
    usize::from(u16::from_be_bytes([material.0[0], material.0[1]]) >> 4)
}

/// Key material with what it is bound to. No Debug, no Clone.
pub struct Material {
    context: MaterialContext,
    key: Secret32,
}

impl Material {
    /// New material of a draw.
    pub fn draw(context: MaterialContext, draw: Fresh<32>) -> Self {
        Material { context, key: Secret32::of(draw) }
    }

    /// What it is bound to.
    pub fn context(&self) -> &MaterialContext {
        &self.context
    }

    pub(crate) fn key(&self) -> &Secret32 {
        &self.key
    }
}

/// The bucket keys G, opened. No Debug, no Clone.
pub struct Buckets(SecretBytes);

impl Buckets {
    /// A new cluster's bucket keys.
    pub fn draw(chance: &mut Chance) -> Self {
        let mut keys = Vec::with_capacity(BUCKETS * 32);
        (0..BUCKETS).for_each(|_| keys.extend_from_slice(Secret32::of(chance.fresh()).expose()));
        Buckets(SecretBytes::take(keys))
    }

    /// The plaintext of the bucket record: format u16, epoch j u32, then each key as SU(E[j]; lineage j b).
    pub fn seal(&self, keyring: &Keyring, lineage: &Lineage, chance: &mut Chance) -> Vec<u8> {
        let (epoch, wrapping) = keyring.epoch();
        let mut w = Writer::with_room(6 + BUCKETS * WRAPPED_BYTES);
        w.u16(FORMAT).u32(epoch);
        let mut out = w.into_bytes();
        for (b, key) in self.0.expose().as_chunks::<32>().0.iter().enumerate() {
            let ctx = bucket_ctx(lineage, epoch, b);
            kdf::seal_onto(&mut out, wrapping, label::BUCKET, &ctx, key, chance.fresh());
        }
        out
    }

    /// Opens what [`Buckets::seal`] made, or nothing.
    pub fn open(bytes: &[u8], keyring: &Keyring, lineage: &Lineage) -> Option<Self> {
        let (epoch, wrapped) = parse_buckets(bytes).ok()?;
        let wrapping = keyring.epoch_key(epoch)?;
        let mut keys = Vec::with_capacity(BUCKETS * 32);
        for (b, wrapped) in wrapped.iter().enumerate() {
            let key = kdf::open(wrapping, label::BUCKET, &bucket_ctx(lineage, epoch, b), wrapped)?;
            keys.extend_from_slice(key.expose());
        }
        Some(Buckets(SecretBytes::take(keys)))
    }

    /// The plaintext of a material record: format u16, SU(G[b]; tenant key version material-id algorithm usage export
    /// origin).
    pub fn seal_material(&self, material: &Material, salt: Fresh<SALT_BYTES>) -> Vec<u8> {
        let mut w = Writer::with_room(2 + WRAPPED_BYTES);
        w.u16(FORMAT);
        let mut out = w.into_bytes();
        let context = &material.context;
        kdf::seal_onto(&mut out, &self.key(context), label::MATERIAL, &context.ctx(), material.key.expose(), salt);
        out
    }

    /// Opens what [`Buckets::seal_material`] made, if it is bound to exactly `context`, or nothing.
    pub fn open_material(&self, context: &MaterialContext, bytes: &[u8]) -> Option<Material> {
        let (format, sealed) = bytes.split_first_chunk::<2>()?;
        if *format != FORMAT.to_be_bytes() {
            return None;
        }
        let opened = kdf::open(&self.key(context), label::MATERIAL, &context.ctx(), sealed)?;
        Some(Material { context: *context, key: Secret32::copy_from(opened.expose())? })
    }

    fn key(&self, context: &MaterialContext) -> Secret32 {
        let keys = self.0.expose().as_chunks::<32>().0;
        Secret32::copy_from(&keys[bucket(&context.material)]).expect("a bucket key has 32 bytes")
    }
}

/// The epoch, and the wrapped keys, exactly as many as there are buckets.
fn parse_buckets(bytes: &[u8]) -> Result<(u32, &[[u8; WRAPPED_BYTES]]), Malformed> {
    let mut r = Reader::new(bytes);
    if r.u16()? != FORMAT {
        return Err(Malformed::Unknown);
    }
    let epoch = r.u32()?;
    let wrapped = r.raw(BUCKETS * WRAPPED_BYTES)?.as_chunks::<WRAPPED_BYTES>().0;
    r.end()?;
    Ok((epoch, wrapped))
}

fn bucket_ctx(lineage: &Lineage, epoch: u32, bucket: usize) -> Ctx {
    let bucket = u16::try_from(bucket).expect("a bucket's number has 12 bits");
    Ctx::new().fixed(&lineage.0).u32(epoch).u16(bucket)
}

#[cfg(test)]
mod tests;
