//! Snapshots: never a file. The sender reads a pinned view, in chunks that each fit a frame; the receiver puts them
//! together in memory, proves that they are a state of its own cluster, and installs them with one batch.

use super::store::Position;
use super::wire::{Unreadable, Wire, need};
use super::{LogId, SnapshotMeta, StoredMembership, Vote};
use crate::machine::{Machine, Memory, Published, SPACES, is_own};
use bytes::Bytes;
use claviger_core::crypto;
use claviger_core::name::{Digest, Lineage, NodeId};
use claviger_core::rarely;
use claviger_proto::peer::v1 as pb;
use claviger_world::disk::{DiskFailed, Space};
use parking_lot::Mutex;
use std::sync::Arc;

/// Bytes of keys and values in one chunk; a record that is longer travels alone.
const CHUNK_BYTES: usize = 1 << 20;
/// Longest state that is put together in memory, in bytes: of all senders, for only one transfer is held.
const SNAPSHOT_BYTES_MAX: usize = 1 << 30;
/// Pairs read at a time.
const SCAN_PAIRS: usize = 256;

/// What a snapshot's content is, on either side.
pub(crate) enum Image {
    /// A view of this node's own state.
    Own(Arc<Published>),
    /// A state that came in and was proven.
    Proven(Box<Proven>),
}

/// A state that was put together, hashed anew, and follows from this node's lineage.
pub(crate) struct Proven {
    pub memory: Memory,
    pub machine: Machine,
}

/// Cuts a view into chunks, one after another.
pub(crate) struct Cutter {
    view: Arc<Published>,
    vote: pb::RaftVote,
    transfer: u64,
    seal: pb::SnapshotSeal,
    number: u64,
    spaces: std::vec::IntoIter<Space>,
    space: Option<Space>,
    from: Vec<u8>,
    sum: Sum,
    over: bool,
}

impl Cutter {
    /// Begins a transfer under a number that the receiver has not heard from this sender.
    pub fn new(view: Arc<Published>, vote: Vote, meta: &SnapshotMeta, transfer: u64) -> Cutter {
        let last = meta.last_log_id.as_ref().map(Wire::to_wire);
        let mut spaces = SPACES.to_vec().into_iter();
        Cutter {
            view,
            vote: vote.to_wire(),
            transfer,
            seal: pb::SnapshotSeal { last, membership: Some(meta.last_membership.to_wire()), ..Default::default() },
            number: 0,
            space: spaces.next(),
            spaces,
            from: Vec::new(),
            sum: Sum::default(),
            over: false,
        }
    }

    /// The next chunk; none after the sealed one.
    pub fn chunk(&mut self) -> Result<Option<pb::SnapshotChunk>, DiskFailed> {
        if self.over {
            return Ok(None);
        }
        let pairs = self.pairs()?;
        self.over = self.space.is_none();
        let seal = self.over.then(|| self.sum.close(std::mem::take(&mut self.seal)));
        let (vote, transfer, number) = (Some(self.vote), self.transfer, self.number);
        self.number += 1;
        Ok(Some(pb::SnapshotChunk { vote, transfer, number, pairs, seal }))
    }

    fn pairs(&mut self) -> Result<Vec<pb::SnapshotPair>, DiskFailed> {
        let (mut pairs, mut bytes) = (Vec::new(), 0);
        let room = if rarely!("a snapshot chunk is small") { CHUNK_BYTES >> 10 } else { CHUNK_BYTES };
        while let Some(space) = self.space {
            let found = self.view.pin.scan(space, &self.from, None, SCAN_PAIRS)?;
            if found.is_empty() {
                (self.space, self.from) = (self.spaces.next(), Vec::new());
            }
            for (key, value) in found {
                let size = key.len() + value.len();
                if bytes + size > room && !pairs.is_empty() {
                    return Ok(pairs);
                }
                self.from = [&key[..], &[0]].concat();
                if !is_own(space, &key) {
                    bytes += size;
                    self.sum.add(space, &key, &value);
                    pairs.push(pb::SnapshotPair { space: space as u32, key, value });
                }
            }
        }
        Ok(pairs)
    }
}

/// How many pairs there were, and a hash over them in their order.
#[derive(Clone)]
struct Sum {
    pairs: u64,
    digest: Digest,
}

impl Default for Sum {
    fn default() -> Self {
        Sum { pairs: 0, digest: Digest([0; 32]) }
    }
}

impl Sum {
    fn add(&mut self, space: Space, key: &[u8], value: &[u8]) {
        let length = |part: &[u8]| u32::try_from(part.len()).unwrap_or(u32::MAX).to_be_bytes();
        let parts: [&[u8]; 6] = [&self.digest.0, &[space as u8], &length(key), key, &length(value), value];
        self.digest = crypto::sha256(&parts);
        self.pairs += 1;
    }

    fn close(&self, seal: pb::SnapshotSeal) -> pb::SnapshotSeal {
        pb::SnapshotSeal { pairs: self.pairs, digest: Bytes::copy_from_slice(&self.digest.0), ..seal }
    }

    fn agrees(&self, seal: &pb::SnapshotSeal) -> bool {
        seal.pairs == self.pairs && seal.digest[..] == self.digest.0
    }
}

/// The transfer that is under way. There is one leader, so there is one: that of the highest vote.
#[derive(Default)]
pub(crate) struct Inbox(Mutex<Option<Transfer>>);

struct Transfer {
    from: NodeId,
    vote: Vote,
    number: u64,
    next_chunk: u64,
    bytes: usize,
    sum: Sum,
    memory: Memory,
}

/// What a chunk led to.
pub(crate) enum Progress {
    /// More must come.
    Taken,
    /// That was all, and it is proven.
    Whole { vote: Vote, meta: SnapshotMeta, image: Image },
}

impl Inbox {
    /// Takes a chunk. A first chunk ends whatever transfer was under way, unless that was under a higher vote.
    pub fn take(
        &self,
        from: NodeId,
        chunk: pb::SnapshotChunk,
        pinned: Option<Lineage>,
    ) -> Result<Progress, Unreadable> {
        let vote: Vote = need(chunk.vote)?;
        let mut transfer = self.expected(from, vote, chunk.transfer, chunk.number)?;
        chunk.pairs.into_iter().try_for_each(|pair| transfer.add(pair))?;
        transfer.next_chunk = chunk.number + 1;
        let Some(seal) = chunk.seal else {
            return self.keep(transfer).map(|()| Progress::Taken);
        };
        if !transfer.sum.agrees(&seal) {
            return Err(Unreadable);
        }
        let last: LogId = need(seal.last)?;
        let last_membership: StoredMembership = need(seal.membership)?;
        let position = Position::read(&transfer.memory).map_err(|_| Unreadable)?;
        let machine = Machine::load_image(&transfer.memory, pinned).map_err(|_| Unreadable)?;
        if position.last != Some(last) || position.membership != last_membership {
            return Err(Unreadable);
        }
        let image = Image::Proven(Box::new(Proven { memory: transfer.memory, machine }));
        Ok(Progress::Whole { vote, meta: SnapshotMeta { last_log_id: Some(last), last_membership }, image })
    }

    /// What is held of the transfer under way, in bytes of keys and values.
    #[cfg(any(test, feature = "fuzz"))]
    pub fn held_bytes(&self) -> usize {
        self.0.lock().as_ref().map_or(0, |transfer| transfer.bytes)
    }

    /// Takes the transfer out that a chunk goes on with.
    fn expected(&self, from: NodeId, vote: Vote, number: u64, chunk: u64) -> Result<Transfer, Unreadable> {
        let mut held = self.0.lock();
        if chunk > 0 {
            let wanted = |t: &mut Transfer| (t.from, t.number, t.next_chunk, t.vote) == (from, number, chunk, vote);
            return held.take_if(wanted).ok_or(Unreadable);
        }
        if held.as_ref().is_some_and(|t| t.vote > vote && t.from != from) {
            return Err(Unreadable);
        }
        *held = None;
        Ok(Transfer { from, vote, number, next_chunk: 0, bytes: 0, sum: Sum::default(), memory: Memory::default() })
    }

    /// Holds a transfer until its next chunk, unless a better one has begun meanwhile.
    fn keep(&self, transfer: Transfer) -> Result<(), Unreadable> {
        let mut held = self.0.lock();
        if held.as_ref().is_some_and(|t| t.vote > transfer.vote) {
            return Err(Unreadable);
        }
        *held = Some(transfer);
        Ok(())
    }
}

impl Transfer {
    fn add(&mut self, pair: pb::SnapshotPair) -> Result<(), Unreadable> {
        let space = SPACES.into_iter().find(|s| *s as u32 == pair.space).ok_or(Unreadable)?;
        self.bytes += pair.key.len() + pair.value.len();
        if self.bytes > SNAPSHOT_BYTES_MAX || is_own(space, &pair.key) {
            return Err(Unreadable);
        }
        self.sum.add(space, &pair.key, &pair.value);
        match self.memory.0.insert((space, pair.key), pair.value) {
            None => Ok(()),
            Some(_) => Err(Unreadable),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chunk(term: u64, node: u64, transfer: u64, number: u64) -> pb::SnapshotChunk {
        let pair = pb::SnapshotPair { space: 3, key: vec![number as u8].into(), value: vec![0; 1_000].into() };
        let vote = Some(Vote::new_committed(term, node).to_wire());
        pb::SnapshotChunk { vote, transfer, number, pairs: vec![pair], seal: None }
    }

    #[test]
    fn holds_one_transfer_for_all_senders_and_that_of_the_newest_leader() {
        let inbox = Inbox::default();
        let take = |node, chunk| inbox.take(NodeId(node), chunk, None).is_ok();
        let held = || inbox.0.lock().as_ref().map(|t| (t.from.0, t.bytes));
        assert!(take(2, chunk(5, 2, 1, 0)));
        assert!(take(2, chunk(5, 2, 1, 1)));
        assert_eq!(held(), Some((2, 2_002)));
        assert!(!take(3, chunk(4, 3, 1, 0)), "a vote that was overtaken");
        assert!(!take(3, chunk(5, 2, 1, 2)), "another's transfer");
        assert!(take(3, chunk(6, 3, 9, 0)));
        assert_eq!(held(), Some((3, 1_001)), "the older one is gone");
        assert!(!take(2, chunk(5, 2, 1, 2)));
        assert!(take(3, chunk(6, 3, 9, 1)));
    }
}
