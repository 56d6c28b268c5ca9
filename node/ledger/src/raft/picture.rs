//! The sender's side of a snapshot: a pinned view of its own state, cut into chunks one after another. Never more than one
//! of them is in memory.

use super::snapshot::{TABLES, members_of, place_of, space_of};
use super::{LogId, SnapshotMeta};
use crate::machine::{LoadFailed, Machine, Published, Sum, is_own, state_in};
use claviger_core::codec::Canonical;
use claviger_core::name::{Digest, Lineage};
use claviger_core::snapshot::{ImagePair, ImageTable, NotNext, Progress, SnapshotChunk, SnapshotHeader};
use claviger_world::disk::DiskFailed;
use parking_lot::Mutex;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Pairs read at a time. Each is at most as long as a batch.
const SCAN_PAIRS: usize = 32;

/// A view of the state that can be sent as often as somebody asks for it: the same chunks each time.
pub(crate) struct Picture {
    view: Arc<Published>,
    meta: SnapshotMeta,
    header: SnapshotHeader,
    chunk_bytes: usize,
    /// How far the image had come after each chunk that was cut already: where to go on after a cut.
    cuts: Mutex<Vec<Progress>>,
    /// Whether it was read back after somebody had refused it.
    looked: AtomicBool,
}

/// Why no chunk was cut.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum CutFailed {
    /// The disk did not answer.
    Disk(DiskFailed),
    /// The state is larger than any image may be.
    TooLong,
}

impl std::fmt::Display for CutFailed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            CutFailed::Disk(failed) => failed.fmt(f),
            CutFailed::TooLong => f.write_str("the state is longer than a snapshot may be"),
        }
    }
}

impl std::error::Error for CutFailed {}

impl Picture {
    /// Takes a picture of what a view shows. None before the founding: there is nothing to send.
    pub fn take(view: Arc<Published>, meta: SnapshotMeta, chunk_bytes: usize) -> Result<Option<Picture>, LoadFailed> {
        let (Some(last), Some(head)) = (meta.last_log_id.as_ref(), view.chain.head()) else { return Ok(None) };
        let Some(stored) = state_in(&*view.pin)? else { return Ok(None) };
        let Sum { place, shared, local } = Sum::from_bytes(&stored)?;
        let header = SnapshotHeader {
            lineage: head.header.lineage,
            generation: head.header.generation,
            last: place_of(last),
            members: members_of(&meta.last_membership),
            sequence: place.sequence,
            turn: place.turn,
            time: place.time,
            shared,
            local,
        };
        Ok(Some(Picture { view, meta, header, chunk_bytes, cuts: Mutex::default(), looked: AtomicBool::default() }))
    }

    /// What it says of itself.
    pub fn header(&self) -> &SnapshotHeader {
        &self.header
    }

    /// What Raft is told of it.
    pub fn meta(&self) -> &SnapshotMeta {
        &self.meta
    }

    /// The last entry that it has.
    pub fn last(&self) -> Option<&LogId> {
        self.meta.last_log_id.as_ref()
    }

    /// Bytes of keys and values that were cut so far, by whoever was furthest.
    pub fn cut_bytes(&self) -> u64 {
        self.cuts.lock().last().map_or(0, |progress| progress.bytes)
    }

    /// Reads what it shows back, whole, and hashes it anew: once, however often it is refused.
    pub fn look_back(&self, pinned: Option<Lineage>) -> Result<(), LoadFailed> {
        if self.looked.swap(true, Ordering::Relaxed) {
            return Ok(());
        }
        Machine::load(&*self.view.pin, pinned).map(drop)
    }

    /// Begins with the first chunk.
    pub fn cut(self: &Arc<Self>) -> Cutter {
        self.begin_near(0)
    }

    /// Goes on behind so many chunks, if the chain had that link there. None when it had another: then whoever has them
    /// has them from an image that was cut otherwise.
    pub async fn resume(self: &Arc<Self>, chunks: u64, digest: &Digest) -> Result<Option<Cutter>, CutFailed> {
        let mut cutter = self.begin_near(chunks);
        while cutter.progress.chunks < chunks {
            if cutter.chunk()?.is_none() {
                return Ok(None);
            }
            // There may be gigabytes of them, and heartbeats wait.
            tokio::task::yield_now().await;
        }
        Ok((cutter.progress.digest == *digest).then_some(cutter))
    }

    /// The nearest place before a chunk that it was cut at already.
    fn begin_near(self: &Arc<Self>, chunks: u64) -> Cutter {
        let cuts = self.cuts.lock();
        let known = cuts.len().min(usize::try_from(chunks).unwrap_or(usize::MAX));
        let nearest = known.checked_sub(1).and_then(|at| cuts.get(at)).cloned();
        let progress = nearest.unwrap_or_else(|| Progress::begin(self.header.image()));
        Cutter { picture: self.clone(), progress, over: false }
    }
}

/// Cuts a picture, from some chunk on.
pub(crate) struct Cutter {
    picture: Arc<Picture>,
    progress: Progress,
    over: bool,
}

impl Cutter {
    /// The next part with its link: chunks, then the end, then none.
    pub fn part(&mut self) -> Result<Option<(Vec<u8>, Digest)>, CutFailed> {
        if self.over {
            return Ok(None);
        }
        let chunk = self.chunk()?;
        self.over = chunk.is_none();
        Ok(Some(chunk.unwrap_or_else(|| self.progress.close())))
    }

    /// Whether the part that was cut last was the end.
    pub fn is_over(&self) -> bool {
        self.over
    }

    /// For a planted bug: leaves a chunk out.
    pub fn skip(&mut self) {
        let _ = self.chunk();
    }

    fn chunk(&mut self) -> Result<Option<(Vec<u8>, Digest)>, CutFailed> {
        let pairs = self.pairs().map_err(CutFailed::Disk)?;
        if pairs.is_empty() {
            return Ok(None);
        }
        let chunk = SnapshotChunk { number: self.progress.chunks, pairs };
        let given = self.progress.give(chunk).map_err(|_: NotNext| CutFailed::TooLong)?;
        let mut cuts = self.picture.cuts.lock();
        if cuts.len() as u64 + 1 == self.progress.chunks {
            cuts.push(self.progress.clone());
        }
        Ok(Some(given))
    }

    /// Pairs behind the last one, as many as fit a chunk; one that is longer than a chunk alone.
    fn pairs(&self) -> Result<Vec<ImagePair>, DiskFailed> {
        let (mut pairs, mut bytes) = (Vec::new(), 0);
        let mut place = self.progress.last.clone().unwrap_or((TABLES[0].0, Vec::new()));
        loop {
            let found = self.scan(&place)?;
            let Some((last, _)) = found.last() else {
                let Some((next, _)) = TABLES.into_iter().find(|(table, _)| *table > place.0) else { return Ok(pairs) };
                place = (next, Vec::new());
                continue;
            };
            let next = (place.0, last.to_vec());
            for (key, value) in found {
                if is_own(space_of(place.0), &key) {
                    continue;
                }
                bytes += key.len() + value.len();
                if bytes > self.picture.chunk_bytes && !pairs.is_empty() {
                    return Ok(pairs);
                }
                pairs.push(ImagePair { table: place.0, key: key.to_vec(), value: value.to_vec() });
            }
            place = next;
        }
    }

    fn scan(&self, (table, after): &(ImageTable, Vec<u8>)) -> Result<Vec<claviger_world::disk::Pair>, DiskFailed> {
        let from = if after.is_empty() { Vec::new() } else { [&after[..], &[0]].concat() };
        self.picture.view.pin.scan(space_of(*table), &from, None, SCAN_PAIRS)
    }
}
