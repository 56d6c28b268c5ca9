//! Slots: the places that the root key R is locked in. Each has a KEM pair of its own: the secret half is locked by a
//! locker L, R is sealed to the public half. So a new R reaches every slot with nobody gathered.

use crate::chance::Chance;
use crate::codec::{Canonical, Malformed, Reader, Writer};
use crate::crypto::{equal, sha256};
use crate::kdf::{self, Ctx, SU_BYTES, label};
use crate::kem::{self, KemPublic, KemSecret, SealedBox};
use crate::name::{Digest, Lineage};
use crate::record::{RecordKey, Table};
use crate::secret::Secret32;
use crate::share::ShareContext;

/// Slots of a cluster, at most.
pub const SLOTS_MAX: usize = 16;

const FORMAT: u16 = 1;
const LOCKED_BYTES: usize = 32 + SU_BYTES;

/// The root key R and its number r.
pub struct Root {
    number: u32,
    key: Secret32,
}

impl Root {
    /// A root key of a draw.
    pub fn new(number: u32, key: Secret32) -> Self {
        Root { number, key }
    }

    /// r.
    pub fn number(&self) -> u32 {
        self.number
    }

    /// The key itself: to derive from, or to seal for a peer that has proven itself.
    pub fn key(&self) -> &Secret32 {
        &self.key
    }

    /// The same root key once more: for an opening that goes on with a renewed keyring.
    pub fn copy(&self) -> Root {
        let key = Secret32::copy_from(self.key.expose()).expect("a 32-byte key is as wide as a 32-byte key");
        Root { number: self.number, key }
    }

    /// C_R = KDF(R, "claviger/v1/root-commit", lineage r): tells a wrong R at once, and says nothing of the right one.
    pub fn commitment(&self, lineage: &Lineage) -> Digest {
        let ctx = Ctx::new().fixed(&lineage.0).u32(self.number);
        Digest(*kdf::derive::<32>(&self.key, label::ROOT_COMMIT, &ctx).expose())
    }
}

/// What locks a slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SlotKind {
    /// Custodians, by the shares of that epoch.
    Custodians {
        /// The share epoch.
        epoch: u32,
    },
    /// A 32-byte key in a file: for development and tests.
    Static,
}

impl SlotKind {
    /// Tag and epoch: 0 where there is none.
    fn code(self) -> (u8, u32) {
        match self {
            SlotKind::Custodians { epoch } => (1, epoch),
            SlotKind::Static => (2, 0),
        }
    }
}

impl Canonical for SlotKind {
    fn write(&self, w: &mut Writer) {
        let (tag, epoch) = self.code();
        w.u8(tag).u32(epoch);
    }
    fn read(r: &mut Reader<'_>) -> Result<Self, Malformed> {
        match (r.u8()?, r.u32()?) {
            (1, epoch) => Ok(SlotKind::Custodians { epoch }),
            (2, 0) => Ok(SlotKind::Static),
            _ => Err(Malformed::Unknown),
        }
    }
}

/// L: what locks and unlocks the secret half of one slot.
pub struct Locker(Secret32);

impl Locker {
    /// From U: KDF(U, "claviger/v1/locker", lineage region epoch slot).
    pub fn custodians(unsealing: &Secret32, sharing: &ShareContext, slot: u32) -> Self {
        let ctx = Ctx::new().fixed(&sharing.lineage().0).lp(sharing.region().as_str().as_bytes());
        Locker(kdf::derive(unsealing, label::LOCKER, &ctx.u32(sharing.epoch()).u32(slot)))
    }

    /// The bytes of a key file, as they are.
    pub fn static_key(file: Secret32) -> Self {
        Locker(file)
    }
}

/// A slot: the value of its record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SlotRecord {
    /// Its number, from 1.
    pub number: u32,
    /// What locks it.
    pub kind: SlotKind,
    /// The public half of its KEM pair. Whoever seals a new R takes it from the keyring, not from here.
    pub public: KemPublic,
    /// The secret half: SU under L.
    locked: [u8; LOCKED_BYTES],
    /// r of the root key that is inside.
    pub root: u32,
    /// R, sealed to the public half.
    sealed: SealedBox,
}

impl SlotRecord {
    /// A slot with a new KEM pair, locked, with R inside.
    pub fn make(
        number: u32,
        kind: SlotKind,
        locker: &Locker,
        root: &Root,
        lineage: &Lineage,
        chance: &mut Chance,
    ) -> Self {
        let pair = KemSecret::from_seed(Secret32::of(chance.fresh()));
        let public = pair.public();
        let ctx = lock_ctx(lineage, number, kind, &public);
        let locked = kdf::seal(&locker.0, label::SLOT_LOCK, &ctx, pair.seed().expose(), chance.fresh());
        let locked = locked.try_into().expect("a seed of 32 bytes, salt and tag");
        let sealed = seal_root(&public, number, root, lineage, chance).expect("our own public key");
        SlotRecord { number, kind, public, locked, root: root.number, sealed }
    }

    /// The same slot with another R inside, sealed to the public half that the keyring remembers; nothing if that is
    /// not the slot's.
    pub fn reseal(&self, public: &KemPublic, root: &Root, lineage: &Lineage, chance: &mut Chance) -> Option<Self> {
        if *public != self.public {
            return None;
        }
        let sealed = seal_root(public, self.number, root, lineage, chance)?;
        Some(SlotRecord { root: root.number, sealed, ..self.clone() })
    }

    /// R, if the locker is right and `commitment` (C_R of the header) agrees.
    pub fn unlock(&self, locker: &Locker, lineage: &Lineage, commitment: &Digest) -> Option<Root> {
        let ctx = lock_ctx(lineage, self.number, self.kind, &self.public);
        let seed = kdf::open(&locker.0, label::SLOT_LOCK, &ctx, &self.locked)?;
        let pair = KemSecret::from_seed(Secret32::copy_from(seed.expose())?);
        let key = kem::open(&pair, label::SLOT_ROOT, &root_ctx(lineage, self.number, self.root), &self.sealed)?;
        let root = Root { number: self.root, key: Secret32::copy_from(key.expose())? };
        equal(&root.commitment(lineage).0, &commitment.0).then_some(root)
    }

    /// Where the record stands.
    pub fn key(&self) -> RecordKey {
        RecordKey::numbered(Table::Slot, u64::from(self.number))
    }
}

/// What a header says of the slots: SHA-256 over their count and their record values, in order of their numbers.
pub fn slots_digest(slots: &[SlotRecord]) -> Digest {
    let mut w = Writer::default();
    w.list(slots);
    sha256(&[w.as_slice()])
}

fn seal_root(public: &KemPublic, slot: u32, root: &Root, lineage: &Lineage, chance: &mut Chance) -> Option<SealedBox> {
    let ctx = root_ctx(lineage, slot, root.number);
    kem::seal_to(public, label::SLOT_ROOT, &ctx, root.key.expose(), chance.fresh(), chance.fresh())
}

fn lock_ctx(lineage: &Lineage, slot: u32, kind: SlotKind, public: &KemPublic) -> Ctx {
    let (tag, epoch) = kind.code();
    Ctx::new().fixed(&lineage.0).u32(slot).u8(tag).u32(epoch).fixed(&public.fingerprint().0)
}

fn root_ctx(lineage: &Lineage, slot: u32, root: u32) -> Ctx {
    Ctx::new().fixed(&lineage.0).u32(slot).u32(root)
}

impl Canonical for SlotRecord {
    fn write(&self, w: &mut Writer) {
        w.u16(FORMAT).u32(self.number);
        self.kind.write(w);
        self.public.write(w);
        w.raw(&self.locked).u32(self.root);
        self.sealed.write(w);
    }
    fn read(r: &mut Reader<'_>) -> Result<Self, Malformed> {
        if r.u16()? != FORMAT {
            return Err(Malformed::Unknown);
        }
        Ok(SlotRecord {
            number: r.u32()?,
            kind: SlotKind::read(r)?,
            public: KemPublic::read(r)?,
            locked: r.array()?,
            root: r.u32()?,
            sealed: SealedBox::read(r)?,
        })
    }
}

#[cfg(test)]
mod tests;
