//! The machine as openraft's state machine: entries in, one durable batch, then readers and waiters are told, in that
//! order: the view moves first, then caches forget, then whoever waits is woken.

use super::log::{Log, entry_bytes};
use super::picture::Picture;
use super::snapshot::{Image, Proven};
use super::wire::{decode, encode};
use super::{Entry, LogId, Snapshot, SnapshotMeta, StoredMembership, Types};
use crate::bank::{Bank, Banks};
use crate::figures::Counts;
use crate::machine::{Applied, LoadFailed, Machine, Published, Seats, bound_to, state_in};
use crate::{Fatal, Halt, LedgerView, Observer, ProposeFailed, Revision};
use claviger_core::name::{NodeId, TxnId};
use claviger_core::txn::Outcome;
use claviger_core::{planted, rarely};
use claviger_world::disk::{Batch, Disk, DiskFailed, Reading, Space};
use claviger_world::{runtime, watch};
use futures_util::{Stream, StreamExt};
use openraft::OptionalSend;
use openraft::entry::EntryPayload;
use openraft::storage::{ApplyResponder, EntryResponder, RaftSnapshotBuilder, RaftStateMachine};
use parking_lot::{Mutex, RwLock};
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::Arc;
use tokio::sync::oneshot;

const LAST: &[u8] = b"p/last";
const MEMBERSHIP: &[u8] = b"p/membership";
/// Bytes of what binds the position to a state.
const BOUND_BYTES: usize = 32;
/// Entries applied by one batch of the disk, at most.
const APPLY_ENTRIES_MAX: usize = 256;
/// Bytes of entries after which a batch is closed.
const APPLY_BYTES_MAX: usize = 8 << 20;

/// What the ledger's handle and the state machine have in common.
pub(crate) struct Stage {
    pub machine: Mutex<Machine>,
    pub view: RwLock<LedgerView>,
    pub revision: watch::Sender<Revision>,
    pub waiters: Waiters,
    pub observer: Arc<dyn Observer>,
    pub halt: Halt,
    pub counts: Counts,
    /// Which bank is the state.
    pub banks: Banks,
    /// The picture that is being sent: kept between two attempts, so that the second one can go on where the first was cut.
    pub sending: Mutex<Option<Arc<Picture>>>,
    /// What this node has told others.
    pub told: Told,
}

/// The furthest commit that this node has told anybody as a leader since it started. It is noted before it is told, so that
/// nobody has applied what is neither told here nor applied here.
#[derive(Default)]
pub(crate) struct Told(Mutex<Option<LogId>>);

impl Told {
    /// It is about to be told.
    pub fn note(&self, commit: Option<LogId>) {
        let mut told = self.0.lock();
        *told = (*told).max(commit);
    }

    /// The last entry of it.
    pub fn last(&self) -> Option<LogId> {
        *self.0.lock()
    }
}

/// Who waits for the outcome of which transaction.
#[derive(Default)]
pub(crate) struct Waiters(Mutex<BTreeMap<TxnId, Vec<oneshot::Sender<Settled>>>>);

/// What a waiter is told.
pub(crate) type Settled = Result<Outcome, ProposeFailed>;

impl Waiters {
    /// Begins to wait.
    pub fn wait(&self, id: TxnId) -> oneshot::Receiver<Settled> {
        let (tx, rx) = oneshot::channel();
        let mut waiting = self.0.lock();
        let list = waiting.entry(id).or_default();
        list.retain(|waiter| !waiter.is_closed());
        list.push(tx);
        rx
    }

    /// Forgets those who gave up on `id`.
    pub fn sweep(&self, id: &TxnId) {
        let mut waiting = self.0.lock();
        if waiting.get_mut(id).is_some_and(|list| {
            list.retain(|waiter| !waiter.is_closed());
            list.is_empty()
        }) {
            waiting.remove(id);
        }
    }

    /// Tells everybody who waits for `id`.
    pub fn tell(&self, id: &TxnId, settled: &Settled) {
        for waiter in self.0.lock().remove(id).into_iter().flatten() {
            // Who gave up meanwhile has dropped its end, and needs no answer.
            let _ = waiter.send(settled.clone());
        }
    }

    fn wake(&self, outcomes: Vec<(TxnId, Outcome)>) {
        outcomes.into_iter().for_each(|(id, outcome)| self.tell(&id, &Ok(outcome)));
    }

    /// Everybody that is waited for.
    pub fn ids(&self) -> Vec<TxnId> {
        self.0.lock().keys().copied().collect()
    }
}

/// Where the machine stands in Raft's log.
#[derive(Clone, Default)]
pub(crate) struct Position {
    pub last: Option<LogId>,
    pub membership: StoredMembership,
}

impl Position {
    /// Reads it from a disk, or from a snapshot. It must be the one that was stored with the state there: an older one alone
    /// would let entries be applied a second time.
    pub fn read(reading: &dyn Reading) -> Result<Position, LoadFailed> {
        let damaged = || LoadFailed::Damaged("the position in the log");
        let read = |key| reading.read(Space::Machine, key);
        let (last, membership, state) = match (read(LAST)?, read(MEMBERSHIP)?, state_in(reading)?) {
            (None, None, None) => return Ok(Position::default()),
            (Some(last), Some(membership), Some(state)) => (last, membership, state),
            _ => return Err(damaged()),
        };
        let at = last.len().checked_sub(BOUND_BYTES).ok_or_else(damaged)?;
        let (last, bound) = (last.slice(..at), last.slice(at..));
        if bound[..] != bound_to(&state, &[&last, &membership]).0 {
            return Err(damaged());
        }
        let last = Some(decode::<LogId>(last).map_err(|_| damaged())?);
        Ok(Position { last, membership: decode::<StoredMembership>(membership).map_err(|_| damaged())? })
    }

    /// Binds it to the state that it is stored with.
    pub fn write(&self, state: &[u8], batch: &mut Batch) {
        let Some(last) = self.last.as_ref().map(encode) else { return };
        let membership = encode(&self.membership);
        let bound = bound_to(state, &[&last, &membership]);
        batch.put(Space::Machine, LAST, [&last[..], &bound.0].concat());
        batch.put(Space::Machine, MEMBERSHIP, membership);
    }

    /// Whether it lies at that key.
    pub fn lies_at(key: &[u8]) -> bool {
        key == LAST || key == MEMBERSHIP
    }

    fn index(&self) -> u64 {
        self.last.map_or(0, |l| l.index)
    }

    /// What Raft is told of it.
    pub fn meta(&self) -> SnapshotMeta {
        SnapshotMeta { last_log_id: self.last, last_membership: self.membership.clone() }
    }
}

/// The machine, its disk, and its stage.
pub(crate) struct Store {
    disk: Arc<dyn Disk>,
    log: Log,
    stage: Arc<Stage>,
    position: Position,
    /// Bytes of keys and values in one chunk of a snapshot.
    chunk_bytes: usize,
}

/// Entries that are applied but not yet durable.
#[derive(Default)]
struct Pending {
    writes: Batch,
    applied: Applied,
    responders: Vec<ApplyResponder<Types>>,
    entries: usize,
    bytes: usize,
}

impl Pending {
    fn full(&self) -> bool {
        self.entries >= APPLY_ENTRIES_MAX || self.bytes >= APPLY_BYTES_MAX || rarely!("an apply batch is closed early")
    }
}

impl Store {
    /// Takes the machine over, as it was loaded from this disk.
    pub fn open(
        disk: Arc<dyn Disk>,
        log: Log,
        machine: Machine,
        observer: Arc<dyn Observer>,
        halt: Halt,
        chunk_bytes: usize,
    ) -> Result<Store, LoadFailed> {
        let bank = Bank::current(&*disk)?;
        let position = Position::read(&bank.of(disk.clone()))?;
        let mut machine = machine;
        machine.seat(seats(&position.membership));
        // What it is now it can witness, and compare with what a checkpoint says of it.
        machine.close(position.index());
        let view = show(&machine, position.index(), &*disk, bank, &halt);
        let (revision, _) = watch::channel(view.revision());
        let stage = Stage {
            machine: Mutex::new(machine),
            view: RwLock::new(view),
            revision,
            waiters: Waiters::default(),
            observer,
            halt,
            counts: Counts::default(),
            banks: Banks::new(bank),
            sending: Mutex::default(),
            told: Told::default(),
        };
        let store = Store { disk, log, stage: Arc::new(stage), position, chunk_bytes };
        store.tell_log();
        Ok(store)
    }

    /// For a planted bug: another hand on the same machine.
    #[cfg(feature = "mutants")]
    pub fn twin(&self) -> Store {
        let (disk, log, stage) = (self.disk.clone(), self.log.clone(), self.stage.clone());
        Store { disk, log, stage, position: self.position.clone(), chunk_bytes: self.chunk_bytes }
    }

    /// The last entry that was applied.
    pub fn last(&self) -> Option<LogId> {
        self.position.last
    }

    fn tell_log(&self) {
        if let Some(last) = self.position.last {
            self.log.applied(last);
        }
    }

    /// What this machine shows.
    pub fn stage(&self) -> Arc<Stage> {
        self.stage.clone()
    }

    fn take(
        &mut self,
        entry: Entry,
        responder: Option<ApplyResponder<Types>>,
        pending: &mut Pending,
    ) -> io::Result<()> {
        let index = entry.log_id.index;
        pending.entries += 1;
        pending.bytes += entry_bytes(&entry);
        pending.responders.extend(responder);
        self.position.last = Some(entry.log_id);
        let mut machine = self.stage.machine.lock();
        match entry.payload {
            EntryPayload::Blank => (),
            EntryPayload::Membership(m) => {
                self.position.membership = StoredMembership::new(Some(entry.log_id), m);
                machine.seat(seats(&self.position.membership));
            }
            EntryPayload::Normal(proposal) => {
                let done = machine.apply(index, &proposal.0, &mut pending.writes).map_err(|diverged| {
                    self.stage.halt.halt(Fatal::Diverged { index, checkpoint: diverged.index });
                    io::Error::other("this replica's state is not what a checkpoint says")
                })?;
                match done {
                    Ok(applied) => {
                        pending.applied.changed.extend(applied.changed);
                        pending.applied.outcomes.extend(applied.outcomes);
                    }
                    Err(why) => tracing::warn!(index, ?why, "an entry was passed over"),
                }
            }
        }
        machine.close(index);
        Ok(())
    }

    async fn settle(&mut self, mut pending: Pending) -> io::Result<()> {
        if pending.entries == 0 {
            return Ok(());
        }
        let state = self.stage.machine.lock().store_state(&mut pending.writes);
        self.position.write(&state, &mut pending.writes);
        self.write(self.stage.banks.current().place(pending.writes)).await?;
        self.tell_log();
        self.let_go();
        let mut changed = pending.applied.changed;
        changed.sort_unstable();
        changed.dedup();
        let revision = self.publish();
        if !changed.is_empty() {
            self.stage.observer.applied(&changed, &revision);
        }
        self.stage.revision.replace(revision);
        self.stage.waiters.wake(pending.applied.outcomes);
        pending.responders.into_iter().for_each(|responder| responder.send(()));
        Ok(())
    }

    fn publish(&self) -> Revision {
        let bank = self.stage.banks.current();
        let view = show(&self.stage.machine.lock(), self.position.index(), &*self.disk, bank, &self.stage.halt);
        let revision = view.revision();
        *self.stage.view.write() = view;
        revision
    }

    async fn write(&self, writes: Batch) -> io::Result<()> {
        self.disk.write(writes).await.map_err(|failed: DiskFailed| {
            let told = io::Error::other(failed.to_string());
            self.stage.halt.halt(Fatal::Disk(failed));
            told
        })
    }

    /// Makes the state what lies in the other bank, with one small batch.
    async fn install(&mut self, position: Position, proven: Proven) -> io::Result<()> {
        if self.log.closed() {
            return Err(io::Error::other("the founding is being abandoned"));
        }
        let Proven { mut machine, mut desk } = proven;
        let (old, new) = (self.stage.banks.current(), self.stage.banks.current().next());
        let mut writes = Batch::default();
        let agreed = self.stage.machine.lock().soundness().agreed;
        machine.seat(seats(&position.membership));
        let state = machine.store_installed(position.index(), agreed, &mut writes);
        position.write(&state, &mut writes);
        let mut writes = new.place(writes);
        new.select(&mut writes);
        desk.installed(&mut writes);
        if let Some(last) = &position.last {
            self.log.superseded(last, &mut writes);
        }
        machine.close(position.index());
        if planted!(SnapshotNotSynced) {
            // Queued, and nobody waits for it.
            drop(self.disk.write(writes));
        } else {
            self.write(writes).await?;
            // Only now: the mark never claims what is not durable.
            if let Some(last) = position.last {
                self.log.covered(last);
            }
        }
        if planted!(OutcomesNotInSnapshot) {
            machine.lose_outcomes();
        }
        tracing::info!(index = position.index(), "a snapshot is the state now");
        self.stage.banks.switch(new);
        self.empty(old);
        self.position = position;
        self.tell_log();
        *self.stage.machine.lock() = machine;
        let revision = self.publish();
        self.stage.counts.snapshot_installed();
        self.stage.observer.replaced(&revision);
        self.stage.revision.replace(revision);
        self.stage.waiters.wake(self.decided_meanwhile());
        Ok(())
    }

    /// Queues the clearing of a bank that is the state no more; nobody waits for it. What a crash leaves of it, the next
    /// start or the next snapshot clears. Views that are pinned keep theirs.
    fn empty(&self, bank: Bank) {
        let mut writes = Batch::default();
        bank.clear(&mut writes);
        let (written, halt) = (self.disk.write(writes), self.stage.halt.clone());
        runtime::spawn(async move {
            if let Err(failed) = written.await {
                halt.halt(Fatal::Disk(failed));
            }
        });
    }

    /// Outcomes that came with a snapshot and that somebody here waits for.
    fn decided_meanwhile(&self) -> Vec<(TxnId, Outcome)> {
        let machine = self.stage.machine.lock();
        let ids = self.stage.waiters.ids().into_iter();
        ids.filter_map(|id| Some((id, machine.outcome(&id)?.clone()))).collect()
    }

    /// The picture that is being sent, as long as the log goes on where it ends; else a new one, never older than the one
    /// that Raft remembers.
    fn snapshot(&self) -> io::Result<Option<Snapshot>> {
        let sending = self.stage.sending.lock().clone().filter(|picture| self.follows(picture));
        let picture = match sending {
            Some(picture) => Some(picture),
            None => self.picture()?.map(Arc::new),
        };
        Ok(picture.map(|picture| Snapshot { meta: picture.meta().clone(), snapshot: Image::Own(picture) }))
    }

    fn picture(&self) -> io::Result<Option<Picture>> {
        let view = self.stage.view.read().0.clone();
        Picture::take(view, self.position.meta(), self.chunk_bytes).map_err(|failed| {
            self.stage.halt.halt(failed.into());
            io::Error::other("the state cannot be read")
        })
    }

    fn follows(&self, picture: &Picture) -> bool {
        picture.last() >= self.log.purged().as_ref()
    }

    /// Lets go of a picture that the log has left behind: it keeps old versions alive on the disk.
    fn let_go(&self) {
        let sending = self.stage.sending.lock().clone();
        if let Some(left) = sending.filter(|picture| !self.follows(picture)) {
            self.stage.sending.lock().take_if(|picture| Arc::ptr_eq(picture, &left));
        }
    }
}

fn seats(membership: &StoredMembership) -> Seats {
    let set = |ids: &BTreeSet<u64>| ids.iter().copied().map(NodeId).collect();
    membership.membership().get_joint_config().iter().map(set).collect()
}

/// A view of the machine as it is durable now.
fn show(machine: &Machine, applied: u64, disk: &dyn Disk, bank: Bank, halt: &Halt) -> LedgerView {
    LedgerView(Arc::new(Published {
        place: machine.place(),
        applied,
        pin: Arc::new(bank.of(disk.pin())),
        index: machine.index().clone(),
        chain: machine.chain().clone(),
        halt: halt.clone(),
    }))
}

impl RaftStateMachine<Types> for Store {
    type SnapshotData = Image;
    type SnapshotBuilder = Builder;

    async fn applied_state(&mut self) -> io::Result<(Option<LogId>, StoredMembership)> {
        Ok((self.position.last, self.position.membership.clone()))
    }

    async fn apply<S>(&mut self, entries: S) -> io::Result<()>
    where
        S: Stream<Item = io::Result<EntryResponder<Types>>> + Unpin + OptionalSend,
    {
        let mut ready = entries.ready_chunks(APPLY_ENTRIES_MAX);
        while let Some(chunk) = ready.next().await {
            let mut pending = Pending::default();
            for item in chunk {
                let (entry, responder) = item?;
                self.take(entry, responder, &mut pending)?;
                if pending.full() {
                    self.settle(std::mem::take(&mut pending)).await?;
                }
            }
            self.settle(pending).await?;
        }
        Ok(())
    }

    /// Before the founding there is nothing that a snapshot could be of; nor is anything purged then.
    async fn try_create_snapshot_builder(&mut self, force: bool) -> Option<Builder> {
        let founded = self.stage.machine.lock().chain().head().is_some();
        if founded || force { Some(self.get_snapshot_builder().await) } else { None }
    }

    async fn get_snapshot_builder(&mut self) -> Builder {
        Builder(Some(self.picture()), self.stage())
    }

    async fn install_snapshot(&mut self, meta: &SnapshotMeta, image: Image) -> io::Result<()> {
        let position = Position { last: meta.last_log_id, membership: meta.last_membership.clone() };
        match image {
            Image::Proven(proven) => self.install(position, *proven).await,
            Image::Own(_) => Err(io::Error::other("a node does not install its own state")),
        }
    }

    async fn get_current_snapshot(&mut self) -> io::Result<Option<Snapshot>> {
        self.snapshot()
    }
}

/// Holds the view that a snapshot was asked of. Raft remembers where it ends; the view itself costs nothing to take again.
pub(crate) struct Builder(Option<io::Result<Option<Picture>>>, Arc<Stage>);

impl RaftSnapshotBuilder<Types> for Builder {
    type SnapshotData = Image;

    async fn build_snapshot(&mut self) -> io::Result<Snapshot> {
        let picture = self.0.take().transpose()?.flatten().map(Arc::new);
        let picture = picture.ok_or_else(|| io::Error::other("there is no founding yet"))?;
        self.1.counts.snapshot_taken();
        Ok(Snapshot { meta: picture.meta().clone(), snapshot: Image::Own(picture) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machine::Memory;
    use bytes::Bytes;
    use claviger_world::disk::Change;

    /// What lies there after a state without transactions was stored at these indexes, one after the other.
    fn stored(indexes: &[u64]) -> Memory {
        let mut memory = Memory::default();
        for index in indexes {
            let leader = super::super::LeaderId { term: 1, node_id: 1 };
            let position = Position { last: Some(LogId::new(leader, *index)), membership: StoredMembership::default() };
            let mut writes = Batch::default();
            position.write(&[*index as u8], &mut writes);
            writes.put(Space::Machine, &b"a"[..], vec![*index as u8]);
            for change in writes.0 {
                let Change::Put(space, key, value) = change else { panic!("nothing is deleted") };
                memory.0.insert((space, key), value);
            }
        }
        memory
    }

    #[test]
    fn a_position_is_read_with_the_state_that_it_was_stored_with_and_no_other() {
        let (old, new) = (stored(&[7]), stored(&[7, 8]));
        assert_eq!(Position::read(&new).ok().and_then(|read| read.last).map(|last| last.index), Some(8));
        assert_eq!(Position::read(&Memory::default()).ok().map(|read| read.index()), Some(0));
        for key in [LAST, MEMBERSHIP, b"a"] {
            let place = (Space::Machine, Bytes::from_static(key));
            let mut spoilt = Memory(new.0.clone());
            spoilt.0.remove(&place);
            assert!(Position::read(&spoilt).is_err(), "without {key:?}");
            spoilt.0.insert(place.clone(), old.0[&place].clone());
            assert_eq!(Position::read(&spoilt).is_err(), key != MEMBERSHIP, "an older {key:?}");
        }
    }
}
