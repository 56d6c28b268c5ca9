//! One revision of the records, for readers: pinned on disk, with the index in memory to spare most of the reading.

use super::index::{Known, Slot, Stands};
use super::{Chain, Index, Place};
use crate::{Fatal, Halt, Revision};
use bytes::Bytes;
use claviger_core::codec::{Canonical, Malformed};
use claviger_core::header::HeaderLink;
use claviger_core::record::{Collection, Record, RecordKey, Version, View};
use claviger_core::roster::{Founding, Roster};
use claviger_core::state::{collection_key, split_record, tombstone_key};
use claviger_world::disk::{DiskFailed, Reading, Space};
use std::sync::Arc;
use std::time::Duration;

/// What the machine shows after each durable batch.
pub(crate) struct Published {
    /// Where the state stood.
    pub place: Place,
    /// Log index of the last entry applied.
    pub applied: u64,
    /// The disk, pinned at that.
    pub pin: Arc<dyn Reading>,
    /// The index, which may be ahead.
    pub index: Arc<Index>,
    /// The chain as of that.
    pub chain: Arc<Chain>,
    /// What to tell when the disk does not answer.
    pub halt: Halt,
}

/// The records at one revision. Cheap to clone; keeps the disk's old versions alive while it is held, so not for long.
///
/// # Panics
/// Reading panics when the disk fails, after the node was told to end: to call a record absent then could grant what a
/// record forbids.
#[derive(Clone)]
pub struct LedgerView(pub(crate) Arc<Published>);

impl LedgerView {
    /// Which revision this is. Its `started_at` is zero: a view alone says nothing of freshness.
    pub fn revision(&self) -> Revision {
        let Place { sequence, turn, time } = self.0.place;
        Revision { sequence, index: self.0.applied, turn, cluster_time: time, started_at: Duration::ZERO }
    }

    /// The newest link of the header chain; none before the founding.
    pub fn head(&self) -> Option<&HeaderLink> {
        self.0.chain.head()
    }

    /// The newest roster; none before the founding.
    pub fn roster(&self) -> Option<&Roster> {
        self.0.chain.roster()
    }

    /// The genesis with its countersignatures; none before the founding.
    pub fn founding(&self) -> Option<&Founding> {
        self.0.chain.founding()
    }

    /// What the index says of `key` as of this revision: it has everything that stands anywhere.
    fn known(&self, key: &RecordKey) -> Known {
        self.0.index.known(key, &self.0.place)
    }

    fn read(&self, space: Space, key: &[u8]) -> Option<Bytes> {
        self.answer(self.0.pin.read(space, key))
    }

    fn answer<T>(&self, read: Result<T, DiskFailed>) -> T {
        read.unwrap_or_else(|failed| {
            self.0.halt.halt(Fatal::Disk(failed));
            panic!("the disk failed while a record was read; the node ends");
        })
    }

    fn parse(&self, stored: &[u8]) -> Record {
        let parsed = split_record(stored).map(|(version, value)| Record { version, value: value.to_vec() });
        self.sound(parsed)
    }

    fn sound<T>(&self, parsed: Result<T, Malformed>) -> T {
        parsed.unwrap_or_else(|_| {
            self.0.halt.halt(Fatal::Damaged("a stored record"));
            panic!("a stored record is damaged; the node ends");
        })
    }
}

impl View for LedgerView {
    fn record(&self, key: &RecordKey) -> Option<Record> {
        match self.known(key) {
            Known::Nothing | Known::Slot(Slot { stands: Stands::Tombstone(_), .. }) => None,
            Known::Changed | Known::Slot(Slot { stands: Stands::Record(_), .. }) => {
                self.read(Space::Records, &key.to_array()).map(|stored| self.parse(&stored))
            }
        }
    }

    fn version(&self, key: &RecordKey) -> Version {
        match self.known(key) {
            Known::Slot(slot) => return slot.version,
            Known::Nothing => return 0,
            Known::Changed => {}
        }
        let stored = self.read(Space::Records, &key.to_array());
        match stored.or_else(|| self.read(Space::Machine, &tombstone_key(key))) {
            Some(stored) => self.parse(&stored).version,
            None => 0,
        }
    }

    fn members_version(&self, collection: &Collection) -> Version {
        let stored = self.read(Space::Machine, &collection_key(collection));
        stored.map_or(0, |stored| self.parse(&stored).version)
    }

    fn members(&self, collection: &Collection, after: Option<[u8; 32]>, limit: usize) -> Vec<(RecordKey, Record)> {
        let prefix = collection.prefix();
        let from = match after {
            Some(tag) => [&prefix[..], &tag, &[0]].concat(),
            None => prefix.to_vec(),
        };
        let to = [&prefix[..], &[0xff; 33]].concat();
        let pairs = self.answer(self.0.pin.scan(Space::Records, &from, Some(&to), limit));
        let members = pairs.iter().map(|(key, stored)| (self.sound(RecordKey::from_bytes(key)), self.parse(stored)));
        members.collect()
    }
}
