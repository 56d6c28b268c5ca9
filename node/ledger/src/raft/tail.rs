//! The newest part of Raft's log, in memory, and how far it is durable.

use super::extent::Extent;
use super::{Entry, LogId, Proposal, Vote};
use bytes::Bytes;
use claviger_core::rarely;
use openraft::entry::EntryPayload;
use std::collections::BTreeMap;

/// Bytes of entries that are kept in memory once they are on disk.
const TAIL_BYTES_MAX: usize = 32 << 20;

/// The newest part of the log, in memory.
#[derive(Default)]
pub(super) struct Tail {
    pub entries: BTreeMap<u64, (Entry, usize)>,
    pub bytes: usize,
    /// One more than the last index that is durable.
    pub durable_end: u64,
    /// The last entry that is.
    pub durable: Option<LogId>,
    /// The last entry whose effects are: what a majority has committed may be applied here before this node's own log has it.
    pub applied: Option<LogId>,
    /// Raised by every truncation: an append from before says nothing of what was put in its place.
    pub edition: u64,
    pub last: Option<LogId>,
    pub purged: Option<LogId>,
    pub vote: Option<Vote>,
    /// Index of the first batch: everything before it is blank or membership.
    pub first_batch: Option<u64>,
    /// What is kept, on disk and in memory.
    pub extent: Extent,
    /// Nothing may be appended any more.
    pub closed: bool,
}

impl Tail {
    /// Adds an entry of so many bytes. It is copied: a batch may be a small part of what was read from a connection at
    /// once, and would keep all of that in memory.
    pub fn push(&mut self, mut entry: Entry, size: usize) {
        if let EntryPayload::Normal(Proposal(batch)) = &mut entry.payload {
            *batch = Bytes::copy_from_slice(batch);
        }
        self.last = Some(entry.log_id);
        self.bytes += size;
        self.extent.push(entry.log_id.index, size);
        if matches!(entry.payload, EntryPayload::Normal(_)) {
            self.first_batch.get_or_insert(entry.log_id.index);
        }
        self.entries.insert(entry.log_id.index, (entry, size));
    }

    /// Counts everything before `end` as durable, and lets go of the oldest of it.
    pub fn settle(&mut self, end: u64, edition: u64) {
        if edition != self.edition {
            return;
        }
        if end > self.durable_end {
            self.durable_end = end;
            self.durable = self.entries.get(&(end - 1)).map(|(entry, _)| entry.log_id).or(self.durable);
        }
        let kept = if rarely!("the log's tail is dropped") { 0 } else { TAIL_BYTES_MAX };
        while self.bytes > kept {
            let Some(first) = self.entries.first_entry().filter(|e| *e.key() + 1 < self.durable_end) else { return };
            self.bytes -= first.remove().1;
        }
    }

    /// Cuts everything after `last`, which stays, off.
    pub fn cut_after(&mut self, last: Option<LogId>) {
        let index = last.map_or(0, |l| l.index + 1);
        self.last = last.or(self.purged);
        self.edition += 1;
        self.extent.cut_from(index);
        if self.durable_end > index {
            self.durable = self.last;
        }
        let gone = self.entries.split_off(&index);
        self.bytes -= gone.values().map(|(_, size)| size).sum::<usize>();
        self.durable_end = self.durable_end.min(index);
        self.first_batch = self.first_batch.filter(|first| *first < index);
    }

    /// Takes note that a snapshot which is durable covers everything up to an entry.
    pub fn cover(&mut self, upto: LogId) {
        self.durable_end = self.durable_end.max(upto.index + 1);
        self.durable = self.durable.max(Some(upto));
    }

    /// Takes note that the machine has applied everything up to an entry, durably.
    pub fn apply(&mut self, last: LogId) {
        self.applied = self.applied.max(Some(last));
    }

    /// The last entry that this node holds: in its log, or as what it did.
    pub fn held(&self) -> Option<LogId> {
        self.durable.max(self.applied)
    }

    /// Lets go of everything before `end`.
    pub fn cut_to(&mut self, end: u64) {
        self.extent.cut_to(end);
        let kept = self.entries.split_off(&end);
        self.bytes = kept.values().map(|(_, size)| size).sum();
        self.entries = kept;
    }
}

#[cfg(test)]
mod tests {
    use super::super::LeaderId;
    use super::*;

    fn id(index: u64) -> LogId {
        openraft::LogId { leader_id: LeaderId { term: 1, node_id: 1 }, index }
    }

    #[test]
    fn what_is_kept_pins_nothing_else() {
        let (mut tail, read) = (Tail::default(), Bytes::from(vec![7; 1 << 20]));
        tail.push(Entry { log_id: id(1), payload: EntryPayload::Normal(Proposal(read.slice(..8))) }, 8);
        assert!(read.is_unique(), "and the rest of what was read can go");
        let kept = &tail.entries[&1].0.payload;
        assert!(matches!(kept, EntryPayload::Normal(Proposal(batch)) if batch[..] == [7; 8]), "{kept:?}");
    }

    #[test]
    fn what_is_applied_before_the_log_has_it_is_held_and_does_not_count_as_logged() {
        let mut tail = Tail::default();
        (1..=3).for_each(|index| tail.push(Entry { log_id: id(index), payload: EntryPayload::Blank }, 1));
        tail.settle(2, 0);
        tail.apply(id(3));
        assert_eq!((tail.durable, tail.held()), (Some(id(1)), Some(id(3))));
        tail.settle(4, 0);
        assert_eq!((tail.durable, tail.held()), (Some(id(3)), Some(id(3))));
        tail.cut_after(Some(id(3)));
        tail.push(Entry { log_id: id(4), payload: EntryPayload::Blank }, 1);
        assert_eq!(tail.held(), Some(id(3)), "an append that is on its way");
        tail.settle(5, 0);
        assert_eq!(tail.held(), Some(id(3)), "one from before the end was cut off says nothing");
        tail.settle(5, 1);
        assert_eq!(tail.held(), Some(id(4)));
    }
}
