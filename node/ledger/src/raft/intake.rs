//! The receiver's side of a snapshot. Every chunk is durable in the bank that is not the state before it is answered for,
//! together with how far the image has come: a cut of the connection, or a restart of either node, costs one chunk. The end
//! is answered for only when what lies there was read back, hashed anew, and is what the header says, of this very cluster.
//!
//! Must not contain: when a snapshot is handed to Raft (`install.rs`), and how it is made the state (`store.rs`).

use super::snapshot::{Image, Proven, id_of, meta_of, space_of};
use super::store::{Position, Stage};
use super::wire::{Unreadable, need};
use super::{LogId, SnapshotMeta, Vote};
use crate::Fatal;
use crate::bank::Bank;
use crate::machine::{LoadFailed, Machine, is_of_state};
use crate::peers::Turned;
use bytes::Bytes;
use claviger_core::codec::{Canonical, Malformed, Reader, Writer};
use claviger_core::name::{Digest, Lineage, NodeId};
use claviger_core::planted;
use claviger_core::snapshot::{HEADER_BYTES_MAX, Part, Progress, SnapshotChunk, SnapshotHeader};
use claviger_proto::peer::v1 as pb;
use claviger_world::disk::{Batch, Disk, DiskFailed, Reading, Space};
use claviger_world::runtime;
use std::sync::Arc;
use tokio::sync::{Mutex, OwnedMutexGuard};

/// In `Space::Raft`: what the other bank is being filled with, and how far.
const STAGED: &[u8] = b"staged";
const FORMAT: u16 = 1;

/// Takes snapshots in, one at a time. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Intake(Arc<Shared>);

struct Shared {
    disk: Arc<dyn Disk>,
    stage: Arc<Stage>,
    /// Held by whoever writes to the other bank, and by a snapshot that was proven until it is the state, or nothing.
    desk: Arc<Mutex<Desk>>,
}

/// What lies in the other bank. There is one leader, so there is one: that of the highest vote.
#[derive(Default)]
pub(crate) struct Desk {
    /// Whose offer was heard last, in this life.
    vote: Option<Vote>,
    staged: Option<Staged>,
}

impl Desk {
    /// What lay in the other bank is the state now.
    pub fn installed(&mut self, writes: &mut Batch) {
        self.staged = None;
        writes.delete(Space::Raft, STAGED);
    }

    /// All of an image lies in the other bank.
    pub fn keep(&mut self, staged: Staged) {
        self.staged = Some(staged);
    }
}

/// An image of which some came. As it lies on the disk: format, LP(header), progress.
#[derive(Clone)]
pub(crate) struct Staged {
    pub header: SnapshotHeader,
    progress: Progress,
}

impl Staged {
    /// An image that has come so far.
    pub fn new(header: SnapshotHeader, progress: Progress) -> Staged {
        Staged { header, progress }
    }

    /// Adds to a batch what the other bank is being filled with, and how far.
    pub fn put(&self, writes: &mut Batch) {
        writes.put(Space::Raft, STAGED, self.to_bytes());
    }
}

/// What an earlier life has left in the other bank. What cannot be read is of another release: as if it were not there.
pub(crate) fn staged(disk: &dyn Reading) -> Result<Option<Staged>, DiskFailed> {
    Ok(disk.read(Space::Raft, STAGED)?.and_then(|bytes| Staged::from_bytes(&bytes).ok()))
}

impl Canonical for Staged {
    fn write(&self, w: &mut Writer) {
        w.u16(FORMAT).lp(&self.header.to_bytes());
        self.progress.write(w);
    }
    fn read(r: &mut Reader<'_>) -> Result<Self, Malformed> {
        if r.u16()? != FORMAT {
            return Err(Malformed::Unknown);
        }
        Ok(Staged { header: SnapshotHeader::from_bytes(r.lp(HEADER_BYTES_MAX)?)?, progress: Progress::read(r)? })
    }
}

/// What a part led to.
pub(crate) enum Taken {
    /// More must come: from this chunk on, behind that link.
    More(u64, Digest),
    /// That was all, and it is proven.
    Whole { vote: Vote, meta: SnapshotMeta, image: Image },
}

/// Where a part says that it belongs.
struct Piece {
    vote: Vote,
    image: Digest,
    part: Bytes,
    digest: Digest,
}

impl Intake {
    /// Looks at what an earlier life has left in the other bank: goes on with it, or clears it when it is of no use.
    pub async fn open(disk: Arc<dyn Disk>, stage: Arc<Stage>) -> Result<Intake, DiskFailed> {
        let (stored, staged) = (disk.read(Space::Raft, STAGED)?, staged(&*disk)?);
        let applied = stage.view.read().0.applied;
        let staged = staged.filter(|staged| staged.header.last.index > applied);
        let other = stage.banks.current().next();
        if staged.is_none() && (stored.is_some() || !other.is_empty(&*disk)?) {
            let mut writes = Batch::default();
            other.clear(&mut writes);
            writes.delete(Space::Raft, STAGED);
            disk.write(writes).await?;
        }
        let desk = Arc::new(Mutex::new(Desk { vote: None, staged }));
        Ok(Intake(Arc::new(Shared { disk, stage, desk })))
    }

    /// Hears what a leader offers. How much of it is here already, and the chain's link behind that.
    pub async fn offer(&self, offer: pb::SnapshotOffer, pinned: Option<Lineage>) -> Result<(u64, Digest), Turned> {
        let vote: Vote = need(offer.vote).map_err(unreadable)?;
        let header = read_header(&offer.header)?;
        if pinned != Some(header.lineage) {
            return Err(Turned::OtherCluster);
        }
        let desk = self.desk()?;
        let intake = self.clone();
        detached(async move { intake.begin(desk, vote, header, offer.anew).await }).await
    }

    /// Takes a part of what was offered last.
    pub async fn take(&self, part: pb::SnapshotPart, pinned: Option<Lineage>) -> Result<Taken, Turned> {
        let piece = Piece::read(part).map_err(unreadable)?;
        let desk = self.desk()?;
        let intake = self.clone();
        detached(async move { intake.put(desk, piece, pinned).await }).await
    }

    /// Lets go of an image that the state has overtaken.
    pub async fn tidy(&self) {
        let applied = self.0.stage.view.read().0.applied;
        let Ok(mut desk) = self.desk() else { return };
        if desk.staged.as_ref().is_some_and(|staged| staged.header.last.index <= applied) {
            // A failure has been told to the node.
            let _ = self.drop_staged(&mut desk).await;
        }
    }

    /// Whoever comes while another one is served comes again.
    pub fn desk(&self) -> Result<OwnedMutexGuard<Desk>, Turned> {
        self.0.desk.clone().try_lock_owned().map_err(|_| Turned::NotYet)
    }

    fn other_bank(&self) -> Bank {
        self.0.stage.banks.current().next()
    }

    async fn begin(
        &self,
        mut desk: OwnedMutexGuard<Desk>,
        vote: Vote,
        header: SnapshotHeader,
        anew: bool,
    ) -> Result<(u64, Digest), Turned> {
        let older = |staged: &Staged| staged.header.last.index > header.last.index;
        let stale = desk.vote == Some(vote) && desk.staged.as_ref().is_some_and(older);
        if desk.vote.is_some_and(|heard| heard > vote) || stale {
            return Err(Turned::NotYet);
        }
        desk.vote = Some(vote);
        if let Some(staged) = desk.staged.as_ref().filter(|staged| staged.header == header && !anew) {
            if staged.progress.chunks > 0 {
                self.0.stage.counts.snapshot_resumed();
            }
            let (index, chunks) = (staged.header.last.index, staged.progress.chunks);
            tracing::info!(index, chunks, "a snapshot goes on where it was cut");
            return Ok((staged.progress.chunks, staged.progress.digest));
        }
        tracing::info!(index = header.last.index, anew, "a snapshot is being taken in");
        let progress = Progress::begin(header.image());
        let staged = Staged { header, progress };
        let mut writes = Batch::default();
        self.other_bank().clear(&mut writes);
        staged.put(&mut writes);
        if planted!(BankSwitchedEarly) {
            self.other_bank().select(&mut writes);
        }
        desk.staged = None;
        self.write(writes).await?;
        let answer = (staged.progress.chunks, staged.progress.digest);
        desk.staged = Some(staged);
        Ok(answer)
    }

    async fn put(&self, desk: OwnedMutexGuard<Desk>, piece: Piece, pinned: Option<Lineage>) -> Result<Taken, Turned> {
        let staged = desk.staged.as_ref().ok_or(Turned::Unreadable)?;
        if desk.vote != Some(piece.vote) || staged.header.image() != piece.image {
            return Err(Turned::Unreadable);
        }
        let mut progress = staged.progress.clone();
        let mut taken = progress.take(&piece.part, &piece.digest);
        if planted!(SnapshotChunkSkipped) {
            taken = taken.or_else(|why| skip(&mut progress, &piece).ok_or(why));
        }
        match taken {
            Ok(Part::Chunk(chunk)) => self.store(desk, progress, chunk).await,
            Ok(Part::End(_)) => self.close(desk, piece.vote, pinned).await,
            Err(_) if ends(&staged.progress, &piece.part) => {
                self.refuse(desk, "its end does not fit what came before it").await
            }
            // One that is here already has come again: its sender had no answer.
            Err(_) if repeats(&staged.progress, &piece.part) => {
                Ok(Taken::More(staged.progress.chunks, staged.progress.digest))
            }
            Err(_) => Err(Turned::Unreadable),
        }
    }

    async fn store(
        &self,
        mut desk: OwnedMutexGuard<Desk>,
        progress: Progress,
        chunk: SnapshotChunk,
    ) -> Result<Taken, Turned> {
        let Some(mut staged) = desk.staged.clone() else { return Err(Turned::Unreadable) };
        let mut writes = Batch::default();
        for pair in chunk.pairs {
            let space = space_of(pair.table);
            let position = space == Space::Machine && Position::lies_at(&pair.key);
            if !position && !is_of_state(space, &pair.key) {
                return self.refuse(desk, "a pair in it is none that a state has").await;
            }
            writes.put(space, pair.key, pair.value);
        }
        staged.progress = progress;
        let mut writes = self.other_bank().place(writes);
        staged.put(&mut writes);
        self.write(writes).await?;
        let answer = Taken::More(staged.progress.chunks, staged.progress.digest);
        desk.staged = Some(staged);
        Ok(answer)
    }

    /// Everything came. What lies on the disk is what counts from here on: it may be another than what was sent.
    async fn close(&self, desk: OwnedMutexGuard<Desk>, vote: Vote, pinned: Option<Lineage>) -> Result<Taken, Turned> {
        let Some(staged) = desk.staged.clone() else { return Err(Turned::Unreadable) };
        let disk: Arc<dyn Reading> = self.0.disk.clone();
        let lying = self.other_bank().of(disk);
        match prove(&lying, &staged, pinned) {
            Ok((machine, meta)) => {
                let image = Image::Proven(Box::new(Proven { machine, desk }));
                Ok(Taken::Whole { vote, meta, image })
            }
            Err(LoadFailed::Disk(failed)) => {
                self.0.stage.halt.halt(Fatal::Disk(failed));
                Err(Turned::Stopped)
            }
            Err(LoadFailed::Damaged(what)) => self.refuse(desk, what).await,
        }
    }

    /// Nothing of it is kept: whoever offers it again begins anew.
    async fn refuse(&self, mut desk: OwnedMutexGuard<Desk>, what: &'static str) -> Result<Taken, Turned> {
        self.0.stage.counts.snapshot_refused();
        let index = desk.staged.as_ref().map(|staged| staged.header.last.index);
        tracing::warn!(what, index, "a snapshot is not what it should be, and is dropped");
        self.drop_staged(&mut desk).await?;
        Err(Turned::Unreadable)
    }

    async fn drop_staged(&self, desk: &mut Desk) -> Result<(), Turned> {
        desk.staged = None;
        let mut writes = Batch::default();
        self.other_bank().clear(&mut writes);
        writes.delete(Space::Raft, STAGED);
        self.write(writes).await
    }

    async fn write(&self, writes: Batch) -> Result<(), Turned> {
        self.0.disk.write(writes).await.map_err(|failed| {
            self.0.stage.halt.halt(Fatal::Disk(failed));
            Turned::Stopped
        })
    }
}

impl Piece {
    fn read(part: pb::SnapshotPart) -> Result<Piece, Unreadable> {
        let digest = |bytes: &[u8]| bytes.try_into().map(Digest).map_err(|_| Unreadable);
        Ok(Piece {
            vote: need(part.vote)?,
            image: digest(&part.image)?,
            digest: digest(&part.digest)?,
            part: part.part,
        })
    }
}

/// Does what must come to its end though whoever asked for it may be gone: a write that nobody remembers would be
/// forgotten by the desk, and not by the disk.
async fn detached<T: Send + 'static>(
    doing: impl Future<Output = Result<T, Turned>> + Send + 'static,
) -> Result<T, Turned> {
    runtime::spawn(doing).await.unwrap_or(Err(Turned::Stopped))
}

/// Reads the other bank back, whole, and holds it against the header and this node's lineage.
pub(crate) fn prove(
    lying: &dyn Reading,
    staged: &Staged,
    pinned: Option<Lineage>,
) -> Result<(Machine, SnapshotMeta), LoadFailed> {
    let header = &staged.header;
    let meta = meta_of(&header.last, &header.members).map_err(|_| LoadFailed::Damaged("the header's membership"))?;
    let position = Position::read(lying)?;
    let (machine, sound) = Machine::gather(lying, pinned)?;
    let sum = machine.sum();
    let checks = [
        (sound, "its state's hash is another"),
        (position.last == meta.last_log_id, "it ends at another entry than its header says"),
        (position.membership == meta.last_membership, "it has other members than its header says"),
        (sum.place.sequence == header.sequence && sum.place.turn == header.turn, "it is of another place"),
        (sum.place.time == header.time, "it is of another time"),
        ((sum.shared, sum.local) == (header.shared, header.local), "its header names another state hash"),
        (machine.chain().head().is_some_and(|h| h.header.generation == header.generation), "its generation is another"),
        (pairs(lying)? == staged.progress.pairs, "there are more pairs, or fewer, than were sent"),
    ];
    if let Some((_, what)) = checks.into_iter().find(|(good, _)| !good)
        && !planted!(SnapshotNotVerified)
    {
        return Err(LoadFailed::Damaged(what));
    }
    let roster = machine.chain().roster();
    // The roster that the image brings: this node's own may be older, or newer.
    let known = |id: &u64| roster.is_some_and(|roster| roster.member(NodeId(*id)).is_some());
    if !header.members.nodes.0.iter().all(known) {
        return Err(LoadFailed::Damaged("its members are not in its roster"));
    }
    Ok((machine, meta))
}

/// How many pairs there are.
fn pairs(lying: &dyn Reading) -> Result<u64, LoadFailed> {
    let mut pairs = 0;
    for space in [Space::Records, Space::Machine] {
        crate::machine::scan_all(lying, space, |_| {
            pairs += 1;
            Ok(())
        })?;
    }
    Ok(pairs)
}

/// Whether a part is a chunk that has been taken before.
fn repeats(progress: &Progress, part: &[u8]) -> bool {
    matches!(Part::from_bytes(part), Ok(Part::Chunk(chunk)) if chunk.number < progress.chunks)
}

/// Whether a part is the end of as many chunks as there are.
fn ends(progress: &Progress, part: &[u8]) -> bool {
    matches!(Part::from_bytes(part), Ok(Part::End(end)) if end.chunks == progress.chunks)
}

/// For a planted bug: the chunk after the next one counts as the next one.
fn skip(progress: &mut Progress, piece: &Piece) -> Option<Part> {
    let part = Part::from_bytes(&piece.part).ok()?;
    let Part::Chunk(chunk) = &part else { return None };
    if chunk.number != progress.chunks + 1 {
        return None;
    }
    progress.chunks += 2;
    progress.pairs += chunk.pairs.len() as u64;
    progress.digest = piece.digest;
    progress.last = chunk.pairs.last().map(|pair| (pair.table, pair.key.clone()));
    Some(part)
}

/// The last entry that an offered image brings.
pub(crate) fn last_of(offer: &pb::SnapshotOffer) -> Result<LogId, Turned> {
    Ok(id_of(&read_header(&offer.header)?.last))
}

fn read_header(bytes: &[u8]) -> Result<SnapshotHeader, Turned> {
    if bytes.len() > HEADER_BYTES_MAX {
        return Err(Turned::Unreadable);
    }
    SnapshotHeader::from_bytes(bytes).map_err(|_| Turned::Unreadable)
}

fn unreadable(_: Unreadable) -> Turned {
    Turned::Unreadable
}
