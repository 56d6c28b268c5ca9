//! How the state lies on disk and in a snapshot, and how it is read back, hashed anew and compared.

use super::index::{Index, Slot, Stands};
use super::outcomes::Outcomes;
use super::{Chain, Machine, Soundness};
use crate::Fatal;
use bytes::Bytes;
use claviger_core::codec::{Canonical, Malformed, Reader, Writer};
use claviger_core::crypto;
use claviger_core::header::HeaderLink;
use claviger_core::name::{Digest, Lineage, TxnId};
use claviger_core::planted;
use claviger_core::record::{Collection, RecordKey, Table, Version};
use claviger_core::roster::{Founding, Roster};
use claviger_core::state::{
    Element, Hashes, Place, Remembered, STATE_KEY, Sum, collection_key, is_remembered, outcome_key, split_record,
    tombstone_key,
};
use claviger_core::txn::{Outcome, Put};
use claviger_world::disk::{self, DiskFailed, Pair, Reading, Space};
use std::collections::{BTreeMap, VecDeque};
#[cfg(test)]
use std::ops::Bound;
use std::sync::Arc;

/// Where what a replica knows of its soundness lies.
const SOUNDNESS: &[u8] = b"l";
/// What binds a pair beside a state to that state starts with this.
const BESIDE_DOMAIN: &[u8] = b"claviger/v1/beside\0";
/// Highest sequence and turn that are taken from anywhere: no cluster counts so far, and one more must not overflow.
const COUNT_MAX: u64 = 1 << 62;
/// Pairs read at a time.
const SCAN_PAIRS: usize = 1_024;

/// Whether a pair of `Space::Machine` is about this replica alone, and stays out of snapshots.
pub(crate) fn is_own(space: Space, key: &[u8]) -> bool {
    space == Space::Machine && key == SOUNDNESS
}

/// Whether a pair is one that a state has, by its key: nothing else is taken from another node, for nothing else is hashed.
pub(crate) fn is_of_state(space: Space, key: &[u8]) -> bool {
    match space {
        Space::Records => RecordKey::from_bytes(key).is_ok(),
        Space::Machine => is_remembered(key),
        _ => false,
    }
}

/// Why stored state was not accepted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum LoadFailed {
    /// The disk did not answer.
    Disk(DiskFailed),
    /// What it answered is not a state of this cluster.
    Damaged(&'static str),
}

impl From<DiskFailed> for LoadFailed {
    fn from(failed: DiskFailed) -> Self {
        LoadFailed::Disk(failed)
    }
}

impl From<LoadFailed> for Fatal {
    fn from(failed: LoadFailed) -> Self {
        match failed {
            LoadFailed::Disk(failed) => Fatal::Disk(failed),
            LoadFailed::Damaged(what) => Fatal::Damaged(what),
        }
    }
}

impl From<Malformed> for LoadFailed {
    fn from(_: Malformed) -> Self {
        LoadFailed::Damaged("a stored value is not what its format says")
    }
}

impl Machine {
    /// Reads this replica's own state back, with what it knows of its soundness, hashes all of it anew, and refuses it when
    /// that is not what was stored with it or when its chain does not begin at the pinned lineage.
    pub fn load(reading: &dyn Reading, pinned: Option<Lineage>) -> Result<Machine, LoadFailed> {
        let (machine, sound) = Machine::gather(reading, pinned)?;
        if !sound && !planted!(RescanSkipped) {
            return Err(LoadFailed::Damaged("the state's hash is another"));
        }
        let own = reading.read(Space::Machine, SOUNDNESS)?;
        let wanted = state_in(reading)?.map(|state| soundness_value(&machine.soundness, &state));
        if own.as_deref() == wanted.as_deref() || planted!(RescanSkipped) {
            Ok(machine)
        } else {
            Err(LoadFailed::Damaged("what the replica knows of its soundness"))
        }
    }

    /// Reads a state back, this replica's or one that came, and says whether it hashes to what was stored with it. Refuses it
    /// when its chain does not begin at the pinned lineage.
    pub fn gather(reading: &dyn Reading, pinned: Option<Lineage>) -> Result<(Machine, bool), LoadFailed> {
        let mut loading = Loading::default();
        scan_all(reading, Space::Records, |pair| loading.record(pair))?;
        scan_all(reading, Space::Machine, |pair| loading.memory(pair))?;
        let machine = loading.finish(pinned)?;
        let Some(stored) = state_in(reading)? else {
            let nothing = machine.place == Place::default();
            return if nothing { Ok((machine, true)) } else { Err(LoadFailed::Damaged("the state's end is missing")) };
        };
        let sound = stored == machine.state();
        Ok((machine, sound))
    }

    /// Where the state stands, with its hashes.
    pub fn sum(&self) -> Sum {
        self.hashes.sum(self.place)
    }

    /// Adds where the state stands, with its hashes, to what must be stored; and what this replica knows of its soundness.
    /// Gives what other pairs beside the state are bound to.
    pub fn store_state(&self, writes: &mut disk::Batch) -> Vec<u8> {
        let state = self.state();
        writes.put(Space::Machine, STATE_KEY, state.clone());
        writes.put(Space::Machine, SOUNDNESS, soundness_value(&self.soundness, &state));
        state
    }

    /// Notes that the state came as a snapshot of `index`; its end came with it. Gives what [`Machine::store_state`] gives.
    pub fn store_installed(&mut self, index: u64, agreed: Option<u64>, writes: &mut disk::Batch) -> Vec<u8> {
        self.soundness = Soundness { agreed, installed: Some(index), vouched: None };
        let state = self.state();
        writes.put(Space::Machine, SOUNDNESS, soundness_value(&self.soundness, &state));
        state
    }

    fn state(&self) -> Vec<u8> {
        self.sum().to_bytes()
    }
}

/// A state while it is read back.
#[derive(Default)]
struct Loading {
    place: Place,
    index: Index,
    collections: BTreeMap<Collection, Version>,
    tombstones: Vec<(u64, RecordKey, Version)>,
    outcomes: Outcomes,
    hashes: Hashes,
    soundness: Soundness,
    genesis: Option<Founding>,
    links: Vec<HeaderLink>,
    roster: Option<Roster>,
}

impl Loading {
    fn record(&mut self, (key, stored): Pair) -> Result<(), LoadFailed> {
        let key = RecordKey::from_bytes(&key)?;
        let (version, value) = split_record(&stored)?;
        let digest = crypto::sha256(&[value]);
        self.hashes.add(Element::Record { key: &key, version, digest: &digest });
        self.index.set(key, Slot { version, stands: Stands::Record(digest) });
        match key.table {
            Table::Genesis => self.genesis = Some(Founding::from_bytes(value)?),
            Table::Header => self.links.push(HeaderLink::from_bytes(value)?),
            Table::Roster => self.roster = Some(Roster::from_bytes(value)?),
            _ => (), // the machine understands no other table
        }
        Ok(())
    }

    fn memory(&mut self, (key, stored): Pair) -> Result<(), LoadFailed> {
        let remembered = Remembered::read(&key, &stored)?;
        if let Some(element) = remembered.element() {
            self.hashes.add(element);
        }
        match remembered {
            Remembered::Collection(collection, version) => drop(self.collections.insert(collection, version)),
            Remembered::Outcome(turn, id, outcome) => self.outcome(turn, id, outcome)?,
            Remembered::Tombstone(key, version, turn) => self.tombstone(key, version, turn)?,
            Remembered::State(sum) => self.state(&sum)?,
            Remembered::Beside if key == SOUNDNESS => self.soundness(Reader::new(&stored))?,
            Remembered::Beside => (), // the position in the log, which Raft's side reads
        }
        Ok(())
    }

    fn outcome(&mut self, turn: u64, id: TxnId, outcome: Outcome) -> Result<(), LoadFailed> {
        let first = self.outcomes.insert(turn, id, outcome);
        if first { Ok(()) } else { Err(LoadFailed::Damaged("a transaction has two outcomes")) }
    }

    fn tombstone(&mut self, key: RecordKey, version: Version, turn: u64) -> Result<(), LoadFailed> {
        self.tombstones.push((turn, key, version));
        match self.index.set(key, Slot { version, stands: Stands::Tombstone(turn) }) {
            None => Ok(()),
            Some(_) => Err(LoadFailed::Damaged("a record stands where a tombstone does")),
        }
    }

    /// The hashes are compared as part of the whole, once everything is read.
    fn state(&mut self, sum: &Sum) -> Result<(), LoadFailed> {
        self.place = sum.place;
        if self.place.sequence.max(self.place.turn) > COUNT_MAX {
            return Err(LoadFailed::Damaged("the state has counted too far"));
        }
        Ok(())
    }

    fn soundness(&mut self, mut v: Reader<'_>) -> Result<(), LoadFailed> {
        let mut position = || Ok::<_, Malformed>(if v.bool()? { Some(v.u64()?) } else { None });
        self.soundness = Soundness { agreed: position()?, installed: position()?, vouched: None };
        // Compared as a whole when the state is known.
        Digest::read(&mut v)?;
        Ok(v.end()?)
    }

    fn finish(mut self, pinned: Option<Lineage>) -> Result<Machine, LoadFailed> {
        self.tombstones.sort_unstable();
        let chain = match (self.genesis, self.roster) {
            (None, None) => Chain::default(),
            (Some(genesis), Some(roster)) => Chain::walk(genesis, self.links, roster).map_err(LoadFailed::Damaged)?,
            _ => return Err(LoadFailed::Damaged("genesis or roster is missing")),
        };
        if chain.lineage().is_some_and(|found| pinned != Some(found)) {
            return Err(LoadFailed::Damaged("the state is of another cluster"));
        }
        Ok(Machine {
            pinned,
            place: self.place,
            index: Arc::new(self.index),
            collections: self.collections,
            tombstones: VecDeque::from(self.tombstones),
            outcomes: self.outcomes,
            chain: Arc::new(chain),
            hashes: self.hashes,
            recent: VecDeque::new(),
            soundness: self.soundness,
            seats: Vec::new(),
        })
    }
}

/// Reads a whole space in order.
pub(crate) fn scan_all(
    reading: &dyn Reading,
    space: Space,
    mut each: impl FnMut(Pair) -> Result<(), LoadFailed>,
) -> Result<(), LoadFailed> {
    let mut from = Vec::new();
    loop {
        let pairs = reading.scan(space, &from, None, SCAN_PAIRS)?;
        let Some((last, _)) = pairs.last() else { return Ok(()) };
        from = [last, &[0][..]].concat();
        pairs.into_iter().try_for_each(&mut each)?;
    }
}

pub(super) fn put_record(writes: &mut disk::Batch, put: &Put, version: Version) {
    let value = [&version.to_be_bytes()[..], &put.value].concat();
    writes.put(Space::Records, put.key.to_array().to_vec(), value);
}

pub(super) fn delete_record(writes: &mut disk::Batch, key: &RecordKey) {
    writes.delete(Space::Records, key.to_array().to_vec());
}

pub(super) fn put_tombstone(writes: &mut disk::Batch, key: &RecordKey, version: Version, turn: u64) {
    let value = [version.to_be_bytes(), turn.to_be_bytes()].concat();
    writes.put(Space::Machine, tombstone_key(key), value);
}

pub(super) fn delete_tombstone(writes: &mut disk::Batch, key: &RecordKey) {
    writes.delete(Space::Machine, tombstone_key(key));
}

pub(super) fn put_collection(writes: &mut disk::Batch, collection: &Collection, version: Version) {
    writes.put(Space::Machine, collection_key(collection), version.to_be_bytes().to_vec());
}

pub(super) fn put_outcome(writes: &mut disk::Batch, turn: u64, id: &TxnId, outcome: &Outcome) {
    writes.put(Space::Machine, outcome_key(turn, id), outcome.to_bytes());
}

pub(super) fn delete_outcome(writes: &mut disk::Batch, turn: u64, id: &TxnId) {
    writes.delete(Space::Machine, outcome_key(turn, id));
}

/// What the replica knows of its soundness, bound to its state: an older one alone is told from the true one.
fn soundness_value(soundness: &Soundness, state: &[u8]) -> Vec<u8> {
    let mut w = Writer::default();
    for position in [soundness.agreed, soundness.installed] {
        w.bool(position.is_some());
        if let Some(index) = position {
            w.u64(index);
        }
    }
    let value = w.into_bytes();
    let bound = bound_to(state, &[SOUNDNESS, &value]);
    [&value[..], &bound.0].concat()
}

/// The stored end of the state that lies there, if one does.
pub(crate) fn state_in(reading: &dyn Reading) -> Result<Option<Bytes>, DiskFailed> {
    reading.read(Space::Machine, STATE_KEY)
}

/// What binds a pair that is no part of a state to the state that it was stored with: SHA-256 over both.
pub(crate) fn bound_to(state: &[u8], parts: &[&[u8]]) -> Digest {
    let digests: Vec<u8> = parts.iter().flat_map(|part| crypto::sha256(&[part]).0).collect();
    crypto::sha256(&[BESIDE_DOMAIN, &crypto::sha256(&[state]).0, &digests])
}

/// Pairs in memory that can be read like a disk.
#[cfg(test)]
#[derive(Default)]
pub(crate) struct Memory(pub BTreeMap<(Space, bytes::Bytes), bytes::Bytes>);

#[cfg(test)]
impl Reading for Memory {
    fn read(&self, space: Space, key: &[u8]) -> Result<Option<bytes::Bytes>, DiskFailed> {
        Ok(self.0.get(&(space, bytes::Bytes::copy_from_slice(key))).cloned())
    }

    fn scan(&self, space: Space, from: &[u8], to: Option<&[u8]>, limit: usize) -> Result<Vec<Pair>, DiskFailed> {
        let from = Bound::Included((space, bytes::Bytes::copy_from_slice(from)));
        let inside = |key: &bytes::Bytes| to.is_none_or(|to| key[..] < *to);
        let pairs = self.0.range((from, Bound::Unbounded)).take_while(|((s, k), _)| *s == space && inside(k));
        Ok(pairs.take(limit).map(|((_, k), v)| (k.clone(), v.clone())).collect())
    }
}
