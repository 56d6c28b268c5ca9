//! The state machine: a pure fold over batches. It verifies who signed, compares what was relied on, and writes or
//! refuses; it understands nothing else. No clock, no randomness, no network; what to store goes out as a disk batch.
//!
//! Every replica that applies the same log comes to the same state, and says so in checkpoints.

mod index;
mod outcomes;
mod stored;
#[cfg(test)]
pub(crate) mod tests;
mod view;

pub(crate) use claviger_core::chain::{Chain, lineage_of};
pub(crate) use claviger_core::state::{Place, Sum};
pub(crate) use index::Index;
#[cfg(test)]
pub(crate) use stored::Memory;
pub(crate) use stored::{LoadFailed, bound_to, is_of_state, is_own, scan_all, state_in};
pub use view::LedgerView;
pub(crate) use view::Published;

use claviger_core::crypto;
use claviger_core::name::{Lineage, NodeId, TxnId};
use claviger_core::planted;
use claviger_core::record::{Collection, RecordKey, Version, numbers_begin_above};
use claviger_core::state::{Element, Hashes};
use claviger_core::txn::{
    Batch, Checkpoint, Conflict, Effect, Outcome, Put, Reliance, SignedBatch, TURNS_KEPT, Txn, TxnKey,
};
use claviger_world::disk;
use index::{Slot, Stands};
use outcomes::Outcomes;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

/// What this replica knows of its own soundness. Not part of the state, nor of a snapshot.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Soundness {
    /// Log index that the last agreeing checkpoint spoke of.
    pub agreed: Option<u64>,
    /// Log index of the last snapshot that was installed.
    pub installed: Option<u64>,
    /// Log index as of which the voters have said that they have the same state. Not stored: it is asked for again.
    pub vouched: Option<u64>,
}

impl Soundness {
    /// Whether no snapshot was installed since a checkpoint last agreed.
    pub fn proven(&self) -> bool {
        self.installed <= self.agreed
    }

    /// Whether the node may be opened: its state is proven, or others vouch for it.
    pub fn trusted(&self) -> bool {
        self.proven() || self.installed <= self.vouched
    }
}

/// What one entry did.
#[derive(Default)]
pub(crate) struct Applied {
    /// Records that were put or deleted.
    pub changed: Vec<RecordKey>,
    /// What became of each transaction, also of those that others cancelled.
    pub outcomes: Vec<(TxnId, Outcome)>,
}

/// Why an entry was passed over whole. It leaves no trace in the state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ignored {
    /// It is no signed batch.
    Malformed,
    /// It belongs to another cluster, or to another generation of this one.
    Foreign,
    /// It is not signed by a transaction key of this cluster.
    Forged,
    /// There is no founding yet and this is none, or there is one already.
    OutOfPlace,
}

/// This replica's state is not what a signed checkpoint says that it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Diverged {
    /// The log index that the checkpoint speaks of.
    pub index: u64,
}

/// The state, in memory but for the values of records.
pub(crate) struct Machine {
    pinned: Option<Lineage>,
    place: Place,
    index: Arc<Index>,
    collections: BTreeMap<Collection, Version>,
    /// Turn, key and version, in order of the turn that they were left at.
    tombstones: VecDeque<(u64, RecordKey, Version)>,
    outcomes: Outcomes,
    chain: Arc<Chain>,
    hashes: Hashes,
    recent: VecDeque<(u64, Place, Hashes)>,
    soundness: Soundness,
    seats: Seats,
}

/// The voter sets of Raft's membership as of the last entry: two while it is on its way from one to another.
pub(crate) type Seats = Vec<BTreeSet<NodeId>>;

impl Machine {
    /// Applies the entry at `index` and adds what must be stored to `writes`. The caller stores it, then shows it.
    pub fn apply(
        &mut self,
        index: u64,
        entry: &[u8],
        writes: &mut disk::Batch,
    ) -> Result<Result<Applied, Ignored>, Diverged> {
        let Ok(signed) = <SignedBatch as claviger_core::codec::Canonical>::from_bytes(entry) else {
            return Ok(Err(Ignored::Malformed));
        };
        if let Err(ignored) = admit(self.pinned, &self.chain, &signed) {
            return Ok(Err(ignored));
        }
        let mut run = Run { machine: self, index, signer: signed.batch.signer, writes, applied: Applied::default() };
        for txn in &signed.batch.txns {
            run.txn(txn)?;
        }
        let mut applied = run.applied;
        applied.changed.sort_unstable();
        applied.changed.dedup();
        Ok(Ok(applied))
    }

    /// Closes the entry at `index`, whatever it was: remembers the state as of it, for checkpoints to come.
    pub fn close(&mut self, index: u64) {
        if self.recent.len() == RECENT_ENTRIES {
            self.recent.pop_front();
        }
        self.recent.push_back((index, self.place, self.hashes.clone()));
    }

    /// The state as of the last closed entry, as a checkpoint says it.
    pub fn checkpoint(&self) -> Option<Checkpoint> {
        let (index, place, hashes) = self.recent.back()?;
        Some(hashes.checkpoint(*index, place))
    }

    /// The state as of a closed entry, if it is one of the last.
    pub fn checkpoint_at(&self, index: u64) -> Option<Checkpoint> {
        let (_, place, hashes) = self.recent.iter().rev().find(|(at, ..)| *at == index)?;
        Some(hashes.checkpoint(index, place))
    }

    /// For the simulator: a bit flips in memory, and the hashes are not those of the state any more.
    #[cfg(feature = "mutants")]
    pub fn stray(&mut self) {
        self.hashes.add(Element::Outcome { turn: 0, id: &TxnId([0xff; 16]), outcome: &Outcome::Accepted(0) });
    }

    /// Whether a founding was applied.
    pub fn begun(&self) -> bool {
        self.place != Place::default() || self.chain.head().is_some()
    }

    /// Where the state stands.
    pub fn place(&self) -> Place {
        self.place
    }

    /// Genesis, header chain and roster.
    pub fn chain(&self) -> &Arc<Chain> {
        &self.chain
    }

    /// Versions of all records.
    pub fn index(&self) -> &Arc<Index> {
        &self.index
    }

    /// What became of a transaction, if it is remembered.
    pub fn outcome(&self, id: &TxnId) -> Option<&Outcome> {
        self.outcomes.find(id)
    }

    /// For a planted bug: knows no outcome any more, and hashes them all the same.
    pub fn lose_outcomes(&mut self) {
        self.outcomes = Outcomes::default();
    }

    /// What this replica knows of its soundness.
    pub fn soundness(&self) -> Soundness {
        self.soundness
    }

    /// Takes note of Raft's membership as of the entry that was applied last: the same on every replica.
    pub fn seat(&mut self, seats: Seats) {
        self.seats = seats;
    }

    /// Takes note that the voters have had the same state as of an entry.
    pub fn vouched(&mut self, index: u64) {
        self.soundness.vouched = self.soundness.vouched.max(Some(index));
    }

    /// Takes note of the genesis that this node was founded with or joined.
    pub fn pin(&mut self, lineage: Option<Lineage>) {
        self.pinned = lineage;
    }
}

/// Whether a batch may be looked at: of this cluster, and signed by one of its transaction keys.
pub(crate) fn admit(pinned: Option<Lineage>, chain: &Chain, signed: &SignedBatch) -> Result<(), Ignored> {
    let batch = &signed.batch;
    if pinned.is_some_and(|lineage| lineage != batch.lineage) {
        return Err(Ignored::Foreign);
    }
    let Some(head) = chain.head() else {
        return admit_founding(signed);
    };
    if batch.lineage != head.header.lineage || batch.generation != head.header.generation {
        return Err(Ignored::Foreign);
    }
    if batch.txns.iter().any(|txn| txn.effect == Effect::Found) {
        return Err(Ignored::OutOfPlace);
    }
    let public = chain.txn_key(batch.signer).ok_or(Ignored::Forged)?;
    verified(signed, TxnKey { number: batch.signer, public })
}

fn admit_founding(signed: &SignedBatch) -> Result<(), Ignored> {
    let batch: &Batch = &signed.batch;
    let [txn @ Txn { effect: Effect::Found, .. }] = &batch.txns[..] else {
        return Err(Ignored::OutOfPlace);
    };
    let chain = Chain::found(batch, txn).ok_or(Ignored::Foreign)?;
    let head = chain.head().ok_or(Ignored::Foreign)?;
    verified(signed, head.header.txn_key)
}

fn verified(signed: &SignedBatch, key: TxnKey) -> Result<(), Ignored> {
    let good = crypto::verify_batch(signed, &key) || planted!(SignatureNotVerified);
    if good { Ok(()) } else { Err(Ignored::Forged) }
}

/// One entry on its way through the machine.
struct Run<'a> {
    machine: &'a mut Machine,
    index: u64,
    signer: u32,
    writes: &'a mut disk::Batch,
    applied: Applied,
}

impl Run<'_> {
    fn txn(&mut self, txn: &Txn) -> Result<(), Diverged> {
        if let Some(outcome) = self.machine.outcomes.find(&txn.id) {
            self.applied.outcomes.push((txn.id, outcome.clone()));
            return Ok(());
        }
        self.machine.place.turn += 1;
        let outcome = match self.judge(txn) {
            Ok(()) => Outcome::Accepted(self.enact(txn)?),
            Err(conflict) => Outcome::Refused(conflict),
        };
        self.decide(txn.id, outcome);
        self.forget();
        Ok(())
    }

    /// Whether the transaction may happen, here and now.
    fn judge(&self, txn: &Txn) -> Result<(), Conflict> {
        let machine = &*self.machine;
        let turns_before = machine.place.turn - 1;
        let renewed = machine.chain.head().is_some_and(|head| head.header.txn_key.number != self.signer);
        if renewed && !planted!(SupersededStillSigns) {
            return Err(Conflict::Superseded);
        }
        if turns_before.saturating_sub(txn.turn) > TURNS_KEPT {
            return Err(Conflict::TooOld);
        }
        // Before the law: a link that another one has overtaken does not follow, and its author shall decide anew.
        self.hold(txn)?;
        if txn.effect == Effect::Records && !self.seated(txn) {
            return Err(Conflict::Moving);
        }
        if txn.turn > turns_before || !self.lawful(txn) {
            return Err(Conflict::Unlawful);
        }
        match &txn.effect {
            Effect::Cancel(id) if machine.outcomes.find(id).is_some() => Err(Conflict::Decided),
            Effect::Tick { before, .. } if *before != machine.place.time => Err(Conflict::Time(machine.place.time)),
            Effect::Records | Effect::Cancel(_) | Effect::Tick { .. } | Effect::Checkpoint(_) | Effect::Found => Ok(()),
        }
    }

    /// The rules that every honest author keeps.
    fn lawful(&self, txn: &Txn) -> bool {
        let writes = !txn.puts.is_empty() || !txn.deletes.is_empty();
        let effect = match &txn.effect {
            Effect::Found => return txn.relies_on_what_it_writes(), // all else was checked when it was admitted
            Effect::Records => self.machine.chain.follows(txn),
            Effect::Cancel(id) => !writes && *id != txn.id,
            Effect::Tick { before, now } => !writes && (now > before || planted!(TimeGoesBack)),
            Effect::Checkpoint(c) => !writes && c.index < self.index,
        };
        effect && txn.decided_at <= self.machine.place.time && txn.relies_on_what_it_writes()
    }

    /// Whether Raft's membership, as of the entry before, stands where the next roster can be reached from: at the voters of
    /// this roster, or of the next. So no membership is ever asked for that neither of two successive rosters names.
    fn seated(&self, txn: &Txn) -> bool {
        let (Some(old), Some(chain)) = (self.machine.chain.roster(), self.machine.chain.with(txn)) else { return true };
        let Some(new) = chain.roster().filter(|new| new.epoch != old.epoch) else { return true };
        let (old, new) = (old.voters(), new.voters());
        self.machine.seats.iter().all(|seats| *seats == old || *seats == new)
    }

    /// Whether everything holds that the transaction relied on.
    fn hold(&self, txn: &Txn) -> Result<(), Conflict> {
        let held = txn.relies.iter().try_for_each(|reliance| self.holds(reliance));
        if held.is_err() && txn.effect == Effect::Records && planted!(ReliesNotCompared) {
            return Ok(());
        }
        held
    }

    fn holds(&self, reliance: &Reliance) -> Result<(), Conflict> {
        let machine = &*self.machine;
        match *reliance {
            Reliance::Exact(key, version) => match machine.index.version(&key) {
                found if found == version => Ok(()),
                found => Err(Conflict::Record(key, found)),
            },
            Reliance::AtLeast(time) if machine.place.time >= time => Ok(()),
            Reliance::AtLeast(_) => Err(Conflict::Time(machine.place.time)),
            Reliance::Members(collection, version) => match machine.members_version(&collection) {
                found if found == version => Ok(()),
                found => Err(Conflict::Members(collection, found)),
            },
        }
    }

    fn enact(&mut self, txn: &Txn) -> Result<Version, Diverged> {
        match &txn.effect {
            Effect::Records => self.chain_on(txn),
            Effect::Found => self.found(txn),
            Effect::Cancel(id) => self.decide(*id, Outcome::Refused(Conflict::Cancelled)),
            Effect::Tick { now, .. } => self.machine.place.time = *now,
            Effect::Checkpoint(checkpoint) => self.compare(checkpoint)?,
        }
        let place = &mut self.machine.place;
        place.sequence = place.sequence.max(numbers_begin_above(self.machine.chain.generation())) + 1;
        let version = place.sequence;
        txn.puts.iter().for_each(|put| self.put(put, version));
        txn.deletes.iter().for_each(|key| self.delete(*key, version));
        Ok(version)
    }

    fn chain_on(&mut self, txn: &Txn) {
        if let Some(longer) = self.machine.chain.with(txn) {
            self.machine.chain = Arc::new(longer);
        }
    }

    fn found(&mut self, txn: &Txn) {
        let chain = Chain::of_founding(txn).expect("admitted only when its chain could be read");
        self.machine.place.time = chain.founded_at();
        self.machine.chain = Arc::new(chain);
    }

    /// Compares a checkpoint with what this replica remembers; one that speaks of too long ago is passed over.
    fn compare(&mut self, theirs: &Checkpoint) -> Result<(), Diverged> {
        let machine = &mut *self.machine;
        let Some(ours) = machine.checkpoint_at(theirs.index) else { return Ok(()) };
        if ours != *theirs && !planted!(CheckpointNotCompared) {
            return Err(Diverged { index: theirs.index });
        }
        // Stored with the state.
        machine.soundness.agreed = Some(theirs.index);
        Ok(())
    }

    fn put(&mut self, put: &Put, version: Version) {
        let machine = &mut *self.machine;
        let digest = crypto::sha256(&[&put.value]);
        let old = machine.index.set(put.key, Slot { version, stands: Stands::Record(digest) });
        if !machine.lose(self.writes, &put.key, old) {
            machine.count_member(self.writes, put.key.collection(), version);
        }
        machine.hashes.add(Element::Record { key: &put.key, version, digest: &digest });
        stored::put_record(self.writes, put, version);
        self.applied.changed.push(put.key);
    }

    fn delete(&mut self, key: RecordKey, version: Version) {
        let machine = &mut *self.machine;
        let turn = machine.place.turn;
        let old = machine.index.set(key, Slot { version, stands: Stands::Tombstone(turn) });
        if machine.lose(self.writes, &key, old) {
            machine.count_member(self.writes, key.collection(), version);
        }
        machine.hashes.add(Element::Tombstone { key: &key, version, turn });
        machine.tombstones.push_back((turn, key, version));
        stored::put_tombstone(self.writes, &key, version, turn);
        self.applied.changed.push(key);
    }

    fn decide(&mut self, id: TxnId, outcome: Outcome) {
        let machine = &mut *self.machine;
        let turn = machine.place.turn;
        machine.hashes.add(Element::Outcome { turn, id: &id, outcome: &outcome });
        stored::put_outcome(self.writes, turn, &id, &outcome);
        assert!(machine.outcomes.insert(turn, id, outcome.clone()), "a transaction is decided once");
        self.applied.outcomes.push((id, outcome));
    }

    /// Drops outcomes and tombstones that no transaction still acceptable can ask for.
    fn forget(&mut self) {
        let machine = &mut *self.machine;
        let Some(horizon) = machine.place.turn.checked_sub(TURNS_KEPT) else { return };
        while let Some((turn, id, outcome)) = machine.outcomes.pop_before(horizon) {
            machine.hashes.remove(Element::Outcome { turn, id: &id, outcome: &outcome });
            stored::delete_outcome(self.writes, turn, &id);
        }
        while machine.tombstones.front().is_some_and(|(turn, ..)| *turn < horizon) {
            let Some((turn, key, version)) = machine.tombstones.pop_front() else { return };
            machine.bury(self.writes, &key, version, turn);
        }
    }
}

impl Machine {
    fn members_version(&self, collection: &Collection) -> Version {
        self.collections.get(collection).copied().unwrap_or(0)
    }

    /// Takes what stood at a key out of hashes and storage. Whether that was a live record.
    fn lose(&mut self, writes: &mut disk::Batch, key: &RecordKey, old: Option<Slot>) -> bool {
        match old {
            Some(Slot { version, stands: Stands::Record(digest) }) => {
                self.hashes.remove(Element::Record { key, version, digest: &digest });
                stored::delete_record(writes, key);
                true
            }
            Some(Slot { version, stands: Stands::Tombstone(turn) }) => {
                self.hashes.remove(Element::Tombstone { key, version, turn });
                stored::delete_tombstone(writes, key);
                false
            }
            None => false,
        }
    }

    /// A member came or went.
    fn count_member(&mut self, writes: &mut disk::Batch, collection: Collection, version: Version) {
        if let Some(old) = self.collections.insert(collection, version) {
            self.hashes.remove(Element::Collection { collection: &collection, version: old });
        }
        self.hashes.add(Element::Collection { collection: &collection, version });
        stored::put_collection(writes, &collection, version);
    }

    /// Ends a tombstone, unless a record or a later tombstone stands in its place.
    fn bury(&mut self, writes: &mut disk::Batch, key: &RecordKey, version: Version, turn: u64) {
        if self.index.slot(key) != Some(Slot { version, stands: Stands::Tombstone(turn) }) {
            return;
        }
        self.index.bury(key, self.place.turn);
        self.hashes.remove(Element::Tombstone { key, version, turn });
        stored::delete_tombstone(writes, key);
    }
}

/// How many entries back a checkpoint may speak of, and a witness remembers. Two hashes of 2 KiB each: 2 MiB.
pub(crate) const RECENT_ENTRIES: usize = 512;
