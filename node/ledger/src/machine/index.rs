//! Which version stands at which key, in memory: what reliances are compared with, and what spares readers the disk.

use super::Place;
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
pub(crate) struct Index(RwLock<Slots>);

#[derive(Default)]
struct Slots {
    by_key: BTreeMap<RecordKey, Slot>,
    /// The turn at which the last tombstone was ended: as of an older one, a key without a slot may have had one.
    buried_at: u64,
}

/// What the index says of a key, to a reader at some place in the past.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Known {
    /// This stood there.
    Slot(Slot),
    /// Nothing did.
    Nothing,
    /// It has changed since.
    Changed,
}

impl Index {
    /// The slot at `key`.
    pub fn slot(&self, key: &RecordKey) -> Option<Slot> {
        self.0.read().by_key.get(key).copied()
    }

    /// The version at `key`, of record or tombstone, else 0.
    pub fn version(&self, key: &RecordKey) -> Version {
        self.slot(key).map_or(0, |slot| slot.version)
    }

    /// What stood at `key` at a place that is not ahead of the machine's.
    pub fn known(&self, key: &RecordKey, at: &Place) -> Known {
        let slots = self.0.read();
        match slots.by_key.get(key) {
            Some(slot) if slot.version <= at.sequence => Known::Slot(*slot),
            None if slots.buried_at <= at.turn => Known::Nothing,
            Some(_) | None => Known::Changed,
        }
    }

    pub(super) fn set(&self, key: RecordKey, slot: Slot) -> Option<Slot> {
        self.0.write().by_key.insert(key, slot)
    }

    /// Ends a tombstone, at a turn.
    pub(super) fn bury(&self, key: &RecordKey, turn: u64) {
        let mut slots = self.0.write();
        slots.by_key.remove(key);
        slots.buried_at = turn;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use claviger_core::record::Table;
    use claviger_core::time::UnixMs;

    fn at(sequence: Version, turn: u64) -> Place {
        Place { sequence, turn, time: UnixMs(0) }
    }

    #[test]
    fn a_reader_in_the_past_hears_of_nothing_that_came_later() {
        let (index, key, other) =
            (Index::default(), RecordKey::numbered(Table::AuditHead, 1), RecordKey::numbered(Table::AuditHead, 2));
        let record = Slot { version: 5, stands: Stands::Record(Digest([0; 32])) };
        index.set(key, record);
        assert!(index.known(&key, &at(4, 9)) == Known::Changed, "what stood there before, the disk knows");
        assert!(index.known(&key, &at(5, 10)) == Known::Slot(record));
        assert!(index.known(&other, &at(4, 9)) == Known::Nothing);
        index.set(key, Slot { version: 6, stands: Stands::Tombstone(11) });
        index.bury(&key, 12);
        assert!(index.known(&key, &at(6, 11)) == Known::Changed, "its tombstone stood there still");
        assert!(index.known(&key, &at(6, 12)) == Known::Nothing);
    }
}
