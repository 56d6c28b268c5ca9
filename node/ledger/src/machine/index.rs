//! Which version stands at which key, in memory: what reliances are compared with, and what spares readers the disk.

use claviger_core::name::Digest;
use claviger_core::record::{RecordKey, Version};
use parking_lot::RwLock;
use std::collections::BTreeMap;

/// What stands at a key.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Slot {
    /// The transaction that wrote or deleted it.
    pub version: Version,
    /// A record or a tombstone.
    pub stands: Stands,
}

/// A record or a tombstone.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stands {
    /// A record whose value has this SHA-256.
    Record(Digest),
    /// A tombstone, left at this turn.
    Tombstone(u64),
}

/// All slots. Written by the machine alone, a little ahead of what readers are shown: a reader at an older sequence
/// must take a slot that is newer than that for unknown.
#[derive(Default)]
pub(crate) struct Index(RwLock<BTreeMap<RecordKey, Slot>>);

impl Index {
    /// The slot at `key`.
    pub fn slot(&self, key: &RecordKey) -> Option<Slot> {
        self.0.read().get(key).copied()
    }

    /// The version at `key`, of record or tombstone, else 0.
    pub fn version(&self, key: &RecordKey) -> Version {
        self.slot(key).map_or(0, |slot| slot.version)
    }

    pub(super) fn set(&self, key: RecordKey, slot: Slot) -> Option<Slot> {
        self.0.write().insert(key, slot)
    }

    pub(super) fn remove(&self, key: &RecordKey) {
        self.0.write().remove(key);
    }
}
