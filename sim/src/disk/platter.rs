//! What is on the disk: of each key all values that a view may still see, the batches that wait, the files; and what is
//! wrong with it.

use super::files::FileBytes;
use super::{DiskWeather, IO_ERROR, NO_SPACE, failed};
use bytes::Bytes;
use claviger_world::disk::{Batch, Change, DiskFailed, Pair, Space};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ops::Bound;

pub(super) type Key = (Space, Bytes);

#[derive(Default)]
pub(super) struct Platter {
    /// What each key held, from which stamp on; newest last.
    pub(super) values: BTreeMap<Key, Vec<(u64, Option<Bytes>)>>,
    /// What raw keys held before the batch that they were last written by.
    pub(super) previous: BTreeMap<Key, Option<Bytes>>,
    /// Pairs that no longer match their checksum.
    pub(super) mismatched: BTreeSet<Key>,
    /// Bits that flipped where a snapshot is taken in: where, what lies there, and what should.
    pub(super) flipped: Vec<(Key, Bytes, Bytes)>,
    /// Raised by each batch that is settled.
    pub(super) stamp: u64,
    /// Up to which stamp batches survive a crash. Of an honest disk: all.
    pub(super) durable: u64,
    /// How many views are pinned at which stamp.
    pins: BTreeMap<u64, usize>,
    /// Keys to look over once no view is pinned before their stamp.
    stale: VecDeque<(u64, Key)>,
    waiting: VecDeque<(u64, Batch)>,
    next_write: u64,
    /// The first write of this life that failed, and why: none after it succeeds, as RocksDB's writer has it.
    broken: Option<(u64, DiskFailed)>,
    pub(super) files: BTreeMap<String, FileBytes>,
    pub(super) weather: DiskWeather,
    pub(super) full: bool,
    pub(super) fail_next: bool,
    pub(super) lost_batches: u64,
}

impl Platter {
    /// Takes a batch in. Its number.
    pub(super) fn queue(&mut self, batch: Batch) -> u64 {
        self.next_write += 1;
        if self.broken.is_none() {
            self.waiting.push_back((self.next_write, batch));
        }
        self.next_write
    }

    /// Settles every batch up to `write`. Why not, when it is this that breaks the writer.
    pub(super) fn settle(&mut self, write: u64) -> Option<DiskFailed> {
        while self.broken.is_none() {
            let (number, grows) = match self.waiting.front() {
                Some((number, batch)) if *number <= write => (*number, grows(batch)),
                Some(_) | None => return None,
            };
            if let Some(why) = self.obstacle(grows) {
                self.broken = Some((number, why.clone()));
                return Some(why);
            }
            self.settle_one();
        }
        None
    }

    /// What became of a batch that [`Platter::settle`] was called for.
    pub(super) fn verdict(&self, write: u64) -> Result<(), DiskFailed> {
        match &self.broken {
            Some((first, why)) if *first <= write => Err(why.clone()),
            Some(_) | None => Ok(()),
        }
    }

    /// Why the batch in front cannot be written. What waits after a full disk is gone; after a sync that failed nobody
    /// knows, until the next start.
    fn obstacle(&mut self, grows: bool) -> Option<DiskFailed> {
        if self.full && grows {
            self.waiting.clear();
            return Some(failed(WRITING, NO_SPACE));
        }
        std::mem::take(&mut self.fail_next).then(|| failed(WRITING, IO_ERROR))
    }

    fn settle_one(&mut self) {
        let Some((_, batch)) = self.waiting.pop_front() else { return };
        self.stamp += 1;
        if batch.0.iter().any(ends_taking_in) {
            self.heal();
        }
        for change in batch.0 {
            match change {
                Change::Put(space, key, value) => self.set((space, key), Some(value)),
                Change::Delete(space, key) => self.set((space, key), None),
                Change::DeleteRange(_, from, to) if from >= to => (),
                Change::DeleteRange(space, from, to) => {
                    let range = (Bound::Included((space, from)), Bound::Excluded((space, to)));
                    let keys: Vec<Key> = self.values.range(range).map(|(key, _)| key.clone()).collect();
                    keys.into_iter().for_each(|key| self.set(key, None));
                }
            }
        }
        self.sweep();
    }

    fn set(&mut self, key: Key, value: Option<Bytes>) {
        let stamp = self.stamp;
        let held = self.values.entry(key.clone()).or_default();
        if is_raw(key.0) {
            match &value {
                Some(_) => self.previous.insert(key.clone(), as_of(held, stamp - 1)),
                None => self.previous.remove(&key),
            };
        }
        held.push((stamp, value));
        self.mismatched.remove(&key);
        self.stale.push_back((stamp, key));
    }

    /// Forgets what no view can see any more.
    fn sweep(&mut self) {
        let floor = self.pins.first_key_value().map_or(self.durable, |(stamp, _)| self.durable.min(*stamp));
        while self.stale.front().is_some_and(|(stamp, _)| *stamp <= floor) {
            let Some((_, key)) = self.stale.pop_front() else { return };
            let Some(held) = self.values.get_mut(&key) else { continue };
            let visible = held.iter().rposition(|(stamp, _)| *stamp <= floor).unwrap_or(0);
            held.drain(..visible);
            if matches!(held[..], [(stamp, None)] if stamp <= floor) {
                self.values.remove(&key);
            }
        }
    }

    /// How many batches wait.
    pub(super) fn waiting(&self) -> u64 {
        self.waiting.len() as u64
    }

    /// Power is cut: the first `kept` of the waiting batches made it. The next life may write again.
    pub(super) fn lose_waiting(&mut self, kept: u64) {
        self.lost_batches += self.waiting() - kept;
        (0..kept).for_each(|_| self.settle_one());
        self.waiting.clear();
        (self.broken, self.fail_next) = (None, false);
    }

    /// Loses everything after the stamp `kept`.
    pub(super) fn fall_back(&mut self, kept: u64) {
        if kept < self.stamp {
            self.lost_batches += self.stamp - kept;
            // What came before a write that is lost is not known any more.
            self.previous.clear();
            for held in self.values.values_mut() {
                held.retain(|(stamp, _)| *stamp <= kept);
            }
            self.values.retain(|_, held| !held.is_empty());
        }
        (self.stamp, self.durable) = (kept, kept);
    }

    /// Empties the disk. The stamps go on, so that a view of before sees nothing new.
    pub(super) fn wipe(&mut self) {
        self.lose_waiting(0);
        self.values.clear();
        self.previous.clear();
        self.mismatched.clear();
        self.flipped.clear();
        self.stale.clear();
        self.files.clear();
        self.durable = self.stamp;
    }

    /// Keeps what is visible now for a view. Its stamp.
    pub(super) fn pin(&mut self) -> u64 {
        *self.pins.entry(self.stamp).or_default() += 1;
        self.stamp
    }

    /// Lets a view go.
    pub(super) fn unpin(&mut self, stamp: u64) {
        let Some(count) = self.pins.get_mut(&stamp) else { return };
        *count -= 1;
        if *count == 0 {
            self.pins.remove(&stamp);
        }
    }

    /// The value as of `stamp`, checksum compared.
    pub(super) fn read(&self, stamp: u64, space: Space, key: &[u8]) -> Result<Option<Bytes>, DiskFailed> {
        let key = (space, Bytes::copy_from_slice(key));
        let value = self.values.get(&key).and_then(|held| as_of(held, stamp));
        if value.is_some() && self.mismatched.contains(&key) {
            return Err(failed("reading a value", MISMATCH));
        }
        Ok(value)
    }

    /// Pairs as of `stamp`, checksums compared.
    pub(super) fn scan(
        &self,
        stamp: u64,
        space: Space,
        from: &[u8],
        to: Option<&[u8]>,
        limit: usize,
    ) -> Result<Vec<Pair>, DiskFailed> {
        let pairs = self.pairs(stamp, space, from, to, limit);
        let bad = |(key, _): &Pair| self.mismatched.contains(&(space, key.clone()));
        if !self.mismatched.is_empty() && pairs.iter().any(bad) {
            return Err(failed("scanning a space", MISMATCH));
        }
        Ok(pairs)
    }

    /// Pairs as of `stamp`, as they lie there.
    pub(super) fn pairs(&self, stamp: u64, space: Space, from: &[u8], to: Option<&[u8]>, limit: usize) -> Vec<Pair> {
        let from = Bound::Included((space, Bytes::copy_from_slice(from)));
        let inside = |key: &Bytes| to.is_none_or(|to| key[..] < *to);
        let range = self.values.range((from, Bound::Unbounded)).take_while(|((s, k), _)| *s == space && inside(k));
        range.filter_map(|((_, k), held)| Some((k.clone(), as_of(held, stamp)?))).take(limit).collect()
    }
}

/// Whether the node has hashes of its own over what is in the space. Over the others stand RocksDB's checksums alone.
pub(super) fn is_raw(space: Space) -> bool {
    match space {
        Space::Records | Space::Machine | Space::RecordsOdd | Space::MachineOdd => true,
        Space::Node | Space::Log | Space::Raft => false,
    }
}

/// Whether a batch says that no snapshot is being taken in any more: it is the state now, or nothing.
fn ends_taking_in(change: &Change) -> bool {
    matches!(change, Change::Delete(Space::Raft, key) if key[..] == *b"staged")
}

/// Whether a batch takes room.
fn grows(batch: &Batch) -> bool {
    batch.0.iter().any(|change| matches!(change, Change::Put(..)))
}

fn as_of(held: &[(u64, Option<Bytes>)], stamp: u64) -> Option<Bytes> {
    held.iter().rev().find(|(s, _)| *s <= stamp)?.1.clone()
}

const WRITING: &str = "writing a batch";
const MISMATCH: &str = "checksum mismatch";
