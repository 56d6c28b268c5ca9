//! Raft's log and vote on the node's disk. Entries can be read from memory at once, and count as stored when the disk
//! says so. Nothing here is ever tried twice: a write that failed ends the node.

use super::extent::Extent;
use super::tail::Tail;
use super::wire::{Unreadable, Wire, decode, encode};
use super::{Entry, LeaderId, LogId, Membership, Types, Vote, ballot, position};
use crate::mark::{MARK_MS_MAX, Marker, Need, Reach};
use crate::{Fatal, Halt};
use bytes::Bytes;
use claviger_core::name::NodeId;
use claviger_core::planted;
use claviger_core::txn::BATCH_BYTES_MAX;
use claviger_world::disk::{Batch, Disk, DiskFailed, Space};
use claviger_world::runtime;
use futures_util::{Stream, StreamExt, stream};
use openraft::entry::EntryPayload;
use openraft::storage::{IOFlushed, LogState, RaftLogReader, RaftLogStorage};
use openraft::{LogId as RaftLogId, OptionalSend};
use parking_lot::Mutex;
use prost::Message;
use std::collections::BTreeSet;
use std::fmt::Debug;
use std::io;
use std::ops::{Bound, RangeBounds};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::sync::Notify;

const VOTE: &[u8] = b"vote";
const PURGED: &[u8] = b"purged";
/// Bytes of entries that one append carries to a peer, and that one read hands to the machine: a frame less its rest.
const READ_BYTES_MAX: usize = BATCH_BYTES_MAX + (512 << 10);
/// Entries that the start reads at a time.
const OPEN_PAIRS: usize = 16;

/// The log, shared by its writer and all its readers.
#[derive(Clone)]
pub(crate) struct Log(Arc<Shared>);

struct Shared {
    disk: Arc<dyn Disk>,
    halt: Halt,
    marker: Arc<Marker>,
    tail: Mutex<Tail>,
    /// One more than the last index applied: what must never be truncated again.
    applied_end: AtomicU64,
    /// Told whenever more is durable than before.
    settled: Notify,
    /// Told when there may be something to mark.
    unmarked: Notify,
}

impl Log {
    /// Reads what the disk holds of log and vote.
    pub fn open(disk: Arc<dyn Disk>, marker: Arc<Marker>, halt: Halt) -> Result<Log, Fatal> {
        let read = |key| disk.read(Space::Raft, key).map_err(Fatal::Disk);
        let purged = read(PURGED)?.map(decode::<LogId>).transpose().map_err(damaged)?;
        let vote = read(VOTE)?.map(decode::<Vote>).transpose().map_err(damaged)?;
        let Found { last, first_batch, extent } = read_all(&*disk, purged)?;
        let durable_end = last.map_or(0, |l| l.index + 1);
        let tail = Tail { durable_end, durable: last, last, purged, vote, first_batch, extent, ..Tail::default() };
        let (tail, applied_end) = (Mutex::new(tail), AtomicU64::new(0));
        let (settled, unmarked) = (Notify::new(), Notify::new());
        Ok(Log(Arc::new(Shared { disk, halt, marker, tail, applied_end, settled, unmarked })))
    }

    /// How far vote and log are durable.
    pub fn reach(&self) -> Reach {
        let tail = self.0.tail.lock();
        (tail.vote.as_ref().map(ballot), tail.durable.as_ref().map(position))
    }

    /// How far this node's vote goes, and what it holds: the log, or as what its entries did. A log that lags behind the
    /// state has lost nothing, for the next start begins it where the state ends. No mark says so: it is of the log alone.
    pub fn holds(&self) -> Reach {
        let tail = self.0.tail.lock();
        (tail.vote.as_ref().map(ballot), tail.held().as_ref().map(position))
    }

    /// The last entry.
    pub fn last(&self) -> Option<LogId> {
        self.0.tail.lock().last
    }

    /// Adds to a batch, before Raft begins, that one node votes alone from here on: behind `last` stands an entry that says
    /// so, of a term in which that node leads, and the vote is for it. A log that does not reach to `last` begins after it.
    pub fn begin_alone(last: LogId, reaches: bool, vote: Option<Vote>, node: NodeId, batch: &mut Batch) {
        let term = last.leader_id.term.max(vote.map_or(0, |vote| vote.leader_id.term)) + 1;
        let (leader_id, index) = (LeaderId { term, node_id: node.0 }, last.index + 1);
        let alone = Membership::new_with_defaults(vec![BTreeSet::from([node.0])], []);
        let entry = Entry { log_id: RaftLogId { leader_id, index }, payload: EntryPayload::Membership(alone) };
        if !reaches {
            batch.delete_range(Space::Log, key(0), key(u64::MAX)).put(Space::Raft, PURGED, encode(&last));
        }
        batch.put(Space::Log, key(index), encode(&entry));
        batch.put(Space::Raft, VOTE, encode(&Vote { leader_id, committed: true }));
    }

    /// Marks, in a while, whatever has become durable, as long as the node lives.
    pub async fn keep_marked(self) {
        loop {
            self.0.unmarked.notified().await;
            if self.mark(Need::Soon).await.is_err() {
                return;
            }
            runtime::sleep(Duration::from_millis(MARK_MS_MAX)).await;
        }
    }

    async fn mark(&self, need: Need) -> Result<(), io::Error> {
        self.0.marker.record(need, || self.reach()).await.map_err(|failed| self.failed(failed))
    }

    /// Takes note that the machine has applied everything up to an entry, durably.
    pub fn applied(&self, last: LogId) {
        self.0.applied_end.fetch_max(last.index + 1, Ordering::Relaxed);
        self.0.tail.lock().apply(last);
        self.0.settled.notify_waiters();
    }

    /// Takes note that a snapshot which is durable covers everything up to an entry.
    pub fn covered(&self, upto: LogId) {
        self.0.tail.lock().cover(upto);
        self.0.unmarked.notify_one();
    }

    /// Waits until an entry, and everything before it, is durable on this node: in the log, or as what they did.
    pub async fn durable(&self, id: LogId) {
        loop {
            let mut settled = pin!(self.0.settled.notified());
            settled.as_mut().enable();
            if self.has(&id) {
                return;
            }
            settled.await;
        }
    }

    fn has(&self, id: &LogId) -> bool {
        if id.index < self.0.applied_end.load(Ordering::Relaxed) {
            return true;
        }
        if id.index >= self.0.tail.lock().durable_end {
            return false;
        }
        self.read(id.index, id.index + 1).is_ok_and(|found| found.first().is_some_and(|entry| entry.log_id == *id))
    }

    /// Looks at how long the log is.
    pub fn extent<T>(&self, look: impl FnOnce(&Extent) -> T) -> T {
        look(&self.0.tail.lock().extent)
    }

    /// The last entry that is not there any more, because a snapshot covers it.
    pub fn purged(&self) -> Option<LogId> {
        self.0.tail.lock().purged
    }

    /// Adds to the batch that installs a snapshot: the log begins after it, so that no crash leaves a gap between.
    pub fn superseded(&self, last: &LogId, batch: &mut Batch) {
        if self.purged().as_ref() < Some(last) {
            forget(last, batch);
        }
    }

    /// The last vote that is durable. No leader and no candidate hears of a vote before it stands here.
    pub fn vote(&self) -> Option<Vote> {
        self.0.tail.lock().vote
    }

    /// Whether nothing was ever appended.
    pub fn is_empty(&self) -> bool {
        self.0.tail.lock().last.is_none()
    }

    /// Whether there is a batch in the log.
    pub fn begun(&self) -> bool {
        self.0.tail.lock().first_batch.is_some()
    }

    /// Refuses every append from here on, unless there is a batch in the log already. Whether it does.
    pub fn close(&self) -> bool {
        let mut tail = self.0.tail.lock();
        tail.closed |= tail.first_batch.is_none();
        tail.closed
    }

    /// Takes appends again.
    pub fn reopen(&self) {
        self.0.tail.lock().closed = false;
    }

    /// Whether appends are refused.
    pub fn closed(&self) -> bool {
        self.0.tail.lock().closed
    }

    fn settle(&self, end: u64, edition: u64) {
        self.0.tail.lock().settle(end, edition);
        self.0.settled.notify_waiters();
        self.0.unmarked.notify_one();
    }

    async fn write(&self, batch: Batch) -> Result<(), io::Error> {
        self.0.disk.write(batch).await.map_err(|failed| self.failed(failed))
    }

    fn failed(&self, failed: DiskFailed) -> io::Error {
        let told = io::Error::other(failed.to_string());
        self.0.halt.halt(Fatal::Disk(failed));
        told
    }

    /// Entries of `from..to` up to some bytes, at least one if there is any: from memory, before that from disk.
    fn read(&self, from: u64, to: u64) -> Result<Vec<Entry>, io::Error> {
        let tail = self.0.tail.lock();
        let in_memory = tail.entries.first_key_value().map_or(tail.durable_end, |(first, _)| *first);
        let mut bytes = 0;
        if from < in_memory {
            drop(tail);
            return self.read_disk(from, to.min(in_memory));
        }
        let fits = |(_, size): &&(Entry, usize)| {
            let first = bytes == 0;
            bytes += size;
            first || bytes <= READ_BYTES_MAX
        };
        Ok(tail.entries.range(from..to).map(|(_, held)| held).take_while(fits).map(|(e, _)| e.clone()).collect())
    }

    fn read_disk(&self, from: u64, to: u64) -> Result<Vec<Entry>, io::Error> {
        let mut entries = Vec::new();
        let (mut next, mut bytes) = (from, 0);
        while next < to && bytes <= READ_BYTES_MAX / 2 {
            let (start, end) = (next.to_be_bytes(), to.to_be_bytes());
            let pairs = self.0.disk.scan(Space::Log, &start, Some(&end), 16).map_err(|f| self.failed(f))?;
            if pairs.is_empty() {
                break;
            }
            for (_, stored) in pairs {
                bytes += stored.len();
                if bytes > READ_BYTES_MAX && !entries.is_empty() {
                    return Ok(entries);
                }
                entries.push(decode(stored).map_err(|_| io::Error::other("a log entry is damaged"))?);
                next += 1;
            }
        }
        Ok(entries)
    }
}

impl RaftLogReader<Types> for Log {
    async fn try_get_log_entries<R>(&mut self, range: R) -> Result<Vec<Entry>, io::Error>
    where
        R: RangeBounds<u64> + Clone + Debug + OptionalSend,
    {
        let (mut next, end) = bounds(&range);
        let mut entries = Vec::new();
        loop {
            let more = self.read(next, end)?;
            let Some(last) = more.last() else { return Ok(entries) };
            next = last.log_id.index + 1;
            entries.extend(more);
        }
    }

    async fn limited_get_log_entries(&mut self, start: u64, end: u64) -> Result<Vec<Entry>, io::Error> {
        self.read(start, end)
    }

    async fn entries_stream<R>(&mut self, range: R) -> impl Stream<Item = io::Result<Entry>> + OptionalSend
    where
        R: RangeBounds<u64> + Clone + Debug + OptionalSend,
    {
        let (start, end) = bounds(&range);
        let log = self.clone();
        let parts = stream::unfold(start, move |next| {
            let part = log.read(next, end);
            let after = part.as_ref().ok().and_then(|p| p.last()).map_or(end, |last| last.log_id.index + 1);
            let over = next >= end || part.as_ref().is_ok_and(Vec::is_empty);
            async move { (!over).then_some((part, after)) }
        });
        let flat = parts.flat_map(|part| {
            stream::iter(match part {
                Ok(entries) => entries.into_iter().map(Ok).collect::<Vec<_>>(),
                Err(failed) => vec![Err(failed)],
            })
        });
        Box::pin(flat)
    }

    async fn read_vote(&mut self) -> Result<Option<Vote>, io::Error> {
        Ok(self.0.tail.lock().vote)
    }
}

impl RaftLogStorage<Types> for Log {
    type LogReader = Log;

    async fn get_log_state(&mut self) -> Result<LogState<Types>, io::Error> {
        let tail = self.0.tail.lock();
        Ok(LogState { last_purged_log_id: tail.purged, last_log_id: tail.last })
    }

    async fn get_log_reader(&mut self) -> Log {
        self.clone()
    }

    async fn save_vote(&mut self, vote: &Vote) -> Result<(), io::Error> {
        if planted!(VoteNotPersisted) {
            self.0.tail.lock().vote = Some(*vote);
            return Ok(());
        }
        let mut batch = Batch::default();
        batch.put(Space::Raft, VOTE, encode(vote));
        self.write(batch).await?;
        self.0.tail.lock().vote = Some(*vote);
        self.mark(Need::Now).await
    }

    // `committed` is not saved: the machine's own position is durable before anybody sees what was applied.

    async fn append<I>(&mut self, entries: I, callback: IOFlushed<Types>) -> Result<(), io::Error>
    where
        I: IntoIterator<Item = Entry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let mut batch = Batch::default();
        let mut end = 0;
        let (stored, edition) = {
            let mut tail = self.0.tail.lock();
            if tail.closed {
                return Err(io::Error::other("the founding is being abandoned"));
            }
            for entry in entries {
                let bytes = encode(&entry);
                end = entry.log_id.index + 1;
                batch.put(Space::Log, key(entry.log_id.index), bytes.clone());
                tail.push(entry, bytes.len());
            }
            (self.0.disk.write(batch), tail.edition)
        };
        let log = self.clone();
        if planted!(AckBeforeSync) {
            // The batch is queued, and that is all.
            callback.io_completed(Ok(()));
            runtime::spawn(async move {
                if stored.await.map_err(|failed| log.failed(failed)).is_ok() {
                    log.settle(end, edition);
                }
            });
            return Ok(());
        }
        runtime::spawn(async move {
            let done = stored.await.map_err(|failed| log.failed(failed));
            if done.is_ok() {
                log.settle(end, edition);
            }
            callback.io_completed(done);
        });
        Ok(())
    }

    async fn truncate_after(&mut self, last: Option<LogId>) -> Result<(), io::Error> {
        let from = last.map_or(0, |l| l.index + 1);
        if from < self.0.applied_end.load(Ordering::Relaxed) && !planted!(TruncationKeepsApplied) {
            self.0.halt.halt(Fatal::TruncatedApplied { index: from });
            return Err(io::Error::other("Raft wants to truncate what was applied"));
        }
        let edition = {
            let mut tail = self.0.tail.lock();
            tail.cut_after(last);
            tail.edition
        };
        // Before the log is cut: a mark must never claim more than there is.
        self.mark(Need::Now).await?;
        let mut batch = Batch::default();
        batch.delete_range(Space::Log, key(from), key(u64::MAX));
        self.write(batch).await?;
        // Whatever was on its way before is durable now too: the disk keeps their order.
        self.settle(from, edition);
        Ok(())
    }

    async fn purge(&mut self, upto: LogId) -> Result<(), io::Error> {
        let end = upto.index + 1;
        let mut batch = Batch::default();
        forget(&upto, &mut batch);
        let written = {
            let mut tail = self.0.tail.lock();
            tail.cut_to(end);
            tail.purged = Some(upto);
            tail.last = tail.last.max(Some(upto));
            self.0.disk.write(batch)
        };
        written.await.map_err(|failed| self.failed(failed))?;
        self.covered(upto);
        Ok(())
    }
}

/// Takes out of the log what stands up to an entry, and says so.
fn forget(upto: &LogId, batch: &mut Batch) {
    batch.delete_range(Space::Log, key(0), key(upto.index + 1)).put(Space::Raft, PURGED, encode(upto));
}

/// What the log holds, read from end to end: damage in an entry that nobody has asked for yet shows at the start, and not
/// when a peer needs it.
struct Found {
    last: Option<LogId>,
    /// Index of the first batch.
    first_batch: Option<u64>,
    extent: Extent,
}

fn read_all(disk: &dyn Disk, purged: Option<LogId>) -> Result<Found, Fatal> {
    let extent = Extent::begin(purged.map_or(0, |last| last.index + 1));
    let mut found = Found { last: purged, first_batch: None, extent };
    let mut from = key(0);
    loop {
        let pairs = disk.scan(Space::Log, &from, None, OPEN_PAIRS).map_err(Fatal::Disk)?;
        let Some((last, _)) = pairs.last() else { return Ok(found) };
        from = Bytes::from([last, &[0][..]].concat());
        pairs.into_iter().try_for_each(|(at, stored)| found.add(&at, stored))?;
    }
}

impl Found {
    /// Takes the next entry, which must follow from the one before.
    fn add(&mut self, at: &[u8], stored: Bytes) -> Result<(), Fatal> {
        let bytes = stored.len();
        let entry: Entry = decode(stored).map_err(damaged)?;
        let (id, expected) = (entry.log_id, self.last.map_or(0, |l| l.index + 1));
        if at != &key(id.index)[..] || id.index != expected || Some(id.leader_id) < self.last.map(|l| l.leader_id) {
            return Err(Fatal::Damaged("the order of Raft's log"));
        }
        if matches!(entry.payload, EntryPayload::Normal(_)) {
            self.first_batch.get_or_insert(id.index);
        }
        self.extent.push(id.index, bytes);
        self.last = Some(id);
        Ok(())
    }
}

fn key(index: u64) -> Bytes {
    Bytes::copy_from_slice(&index.to_be_bytes())
}

fn damaged(_: Unreadable) -> Fatal {
    Fatal::Damaged("Raft's log or vote")
}

fn bounds(range: &impl RangeBounds<u64>) -> (u64, u64) {
    let start = match range.start_bound() {
        Bound::Included(i) => *i,
        Bound::Excluded(i) => i + 1,
        Bound::Unbounded => 0,
    };
    let end = match range.end_bound() {
        Bound::Included(i) => i + 1,
        Bound::Excluded(i) => *i,
        Bound::Unbounded => u64::MAX,
    };
    (start, end)
}

/// Length of an entry as it lies in the log.
pub(crate) fn entry_bytes(entry: &Entry) -> usize {
    match &entry.payload {
        EntryPayload::Normal(proposal) => proposal.0.len(),
        EntryPayload::Blank | EntryPayload::Membership(_) => entry.to_wire().encoded_len(),
    }
}
