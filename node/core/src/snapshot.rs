//! The image of a state: what one node sends to another that is too far behind, and what an operator keeps in a file. All of
//! it is ciphertext, as it lies on the disk. A header, chunks that are hashed in a chain, an end. See `docs/formats.md`, 12.
//!
//! Nobody signs an image on its way between nodes: what is in it proves itself, by its header chain and by the state hashes. In
//! a file it is signed by the node that cut it.

pub mod file;

use crate::codec::{Canonical, Malformed, Reader, Writer};
use crate::crypto;
use crate::name::{Digest, Lineage};
use crate::roster::MEMBERS_MAX;
use crate::time::UnixMs;
use crate::txn::BATCH_BYTES_MAX;

/// Keys and values that a chunk is filled up to, in bytes, when nothing else is configured.
pub const CHUNK_BYTES: usize = 1 << 20;
/// Longest chunk in bytes: one pair that is as long as a batch, and what is around it. Fits a frame between nodes.
pub const CHUNK_BYTES_MAX: usize = BATCH_BYTES_MAX + 4_096;
/// Chunks of one image, at most.
pub const CHUNKS_MAX: u64 = 1 << 20;
/// Keys and values of one image, in bytes, at most.
pub const IMAGE_BYTES_MAX: u64 = 64 << 30;
/// Longest header, in bytes: of a cluster with as many members as can be, in joint consensus.
pub const HEADER_BYTES_MAX: usize = 4_096;
/// What a file begins with.
pub const MAGIC: &[u8; 4] = b"CLVS";

const FORMAT: u16 = 1;
/// Longest key of a pair, in bytes.
const KEY_BYTES_MAX: usize = 128;
/// Pairs of one chunk, at most: none is shorter than its two lengths and its table.
const PAIRS_MAX: usize = CHUNK_BYTES_MAX / 9;
const CHUNK: u8 = 1;
const END: u8 = 2;

/// A place in Raft's log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct LogPlace {
    /// The term that its leader led in.
    pub term: u64,
    /// That leader.
    pub leader: u64,
    /// The entry's index.
    pub index: u64,
}

impl Canonical for LogPlace {
    fn write(&self, w: &mut Writer) {
        w.u64(self.term).u64(self.leader).u64(self.index);
    }
    fn read(r: &mut Reader<'_>) -> Result<Self, Malformed> {
        Ok(LogPlace { term: r.u64()?, leader: r.u64()?, index: r.u64()? })
    }
}

/// Node ids, in rising order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ids(pub Vec<u64>);

impl Canonical for Ids {
    fn write(&self, w: &mut Writer) {
        w.u32(u32::try_from(self.0.len()).unwrap_or(u32::MAX));
        self.0.iter().for_each(|id| _ = w.u64(*id));
    }
    fn read(r: &mut Reader<'_>) -> Result<Self, Malformed> {
        let count = r.u32()? as usize;
        if count > MEMBERS_MAX {
            return Err(Malformed::Oversize);
        }
        let ids = (0..count).map(|_| r.u64()).collect::<Result<Vec<_>, _>>()?;
        if ids.windows(2).all(|two| two[0] < two[1]) { Ok(Ids(ids)) } else { Err(Malformed::Unknown) }
    }
}

/// Raft's membership, and where it stood in the log.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Members {
    /// Where it stood; none before there was any.
    pub place: Option<LogPlace>,
    /// Voters of each configuration: two while the cluster is in joint consensus.
    pub voters: Vec<Ids>,
    /// Voters and learners.
    pub nodes: Ids,
}

impl Canonical for Members {
    fn write(&self, w: &mut Writer) {
        w.option(self.place.as_ref()).list(&self.voters);
        self.nodes.write(w);
    }
    fn read(r: &mut Reader<'_>) -> Result<Self, Malformed> {
        Ok(Members { place: r.option()?, voters: r.list(2)?, nodes: Ids::read(r)? })
    }
}

/// What an image says of itself. Two images with the same header are the same, pair for pair, whichever node cut them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SnapshotHeader {
    /// The cluster.
    pub lineage: Lineage,
    /// Of the header chain's newest link.
    pub generation: u64,
    /// The last entry that was applied.
    pub last: LogPlace,
    /// Who was in Raft then.
    pub members: Members,
    /// Transactions accepted.
    pub sequence: u64,
    /// Transactions applied.
    pub turn: u64,
    /// Cluster time.
    pub time: UnixMs,
    /// State hash of what every region has alike.
    pub shared: Digest,
    /// State hash of what is this region's own.
    pub local: Digest,
}

impl SnapshotHeader {
    /// What an image is called by: SHA-256 of its header. The chain of its chunks begins with it.
    pub fn image(&self) -> Digest {
        crypto::sha256(&[&self.to_bytes()])
    }
}

impl Canonical for SnapshotHeader {
    fn write(&self, w: &mut Writer) {
        w.raw(MAGIC).u16(FORMAT).raw(&self.lineage.0).u64(self.generation);
        self.last.write(w);
        self.members.write(w);
        w.u64(self.sequence).u64(self.turn).u64(self.time.0).raw(&self.shared.0).raw(&self.local.0);
    }
    fn read(r: &mut Reader<'_>) -> Result<Self, Malformed> {
        if r.array()? != *MAGIC || r.u16()? != FORMAT {
            return Err(Malformed::Unknown);
        }
        Ok(SnapshotHeader {
            lineage: Lineage::read(r)?,
            generation: r.u64()?,
            last: LogPlace::read(r)?,
            members: Members::read(r)?,
            sequence: r.u64()?,
            turn: r.u64()?,
            time: UnixMs(r.u64()?),
            shared: Digest::read(r)?,
            local: Digest::read(r)?,
        })
    }
}

/// Which table a pair is of, in the order that an image has them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum ImageTable {
    /// Records.
    Records = 1,
    /// What the state machine remembers beside them.
    Machine = 2,
}

/// A key with its value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImagePair {
    /// Its table.
    pub table: ImageTable,
    /// Its key.
    pub key: Vec<u8>,
    /// Its value.
    pub value: Vec<u8>,
}

impl ImagePair {
    /// Where it stands among all pairs.
    pub fn place(&self) -> (ImageTable, &[u8]) {
        (self.table, &self.key)
    }
}

impl Canonical for ImagePair {
    fn write(&self, w: &mut Writer) {
        w.u8(self.table as u8).lp(&self.key).lp(&self.value);
    }
    fn read(r: &mut Reader<'_>) -> Result<Self, Malformed> {
        let table = match r.u8()? {
            1 => ImageTable::Records,
            2 => ImageTable::Machine,
            _ => return Err(Malformed::Unknown),
        };
        Ok(ImagePair { table, key: r.lp(KEY_BYTES_MAX)?.to_vec(), value: r.lp(BATCH_BYTES_MAX)?.to_vec() })
    }
}

/// A piece of an image: at least one pair, in strictly rising order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SnapshotChunk {
    /// From 0, without gap.
    pub number: u64,
    /// The pairs.
    pub pairs: Vec<ImagePair>,
}

/// The end of an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SnapshotEnd {
    /// How many chunks there were.
    pub chunks: u64,
    /// How many pairs.
    pub pairs: u64,
    /// Bytes of all keys and values.
    pub bytes: u64,
}

/// What follows a header.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Part {
    /// A piece.
    Chunk(SnapshotChunk),
    /// That was all.
    End(SnapshotEnd),
}

impl Canonical for Part {
    fn write(&self, w: &mut Writer) {
        match self {
            Part::Chunk(chunk) => w.u8(CHUNK).u64(chunk.number).list(&chunk.pairs),
            Part::End(end) => w.u8(END).u64(end.chunks).u64(end.pairs).u64(end.bytes),
        };
    }
    fn read(r: &mut Reader<'_>) -> Result<Self, Malformed> {
        match r.u8()? {
            CHUNK => {
                let (number, pairs) = (r.u64()?, r.list::<ImagePair>(PAIRS_MAX)?);
                let rising = pairs.windows(2).all(|two| two[0].place() < two[1].place());
                let sound = rising && !pairs.is_empty() && number < CHUNKS_MAX;
                if sound { Ok(Part::Chunk(SnapshotChunk { number, pairs })) } else { Err(Malformed::Unknown) }
            }
            END => Ok(Part::End(SnapshotEnd { chunks: r.u64()?, pairs: r.u64()?, bytes: r.u64()? })),
            _ => Err(Malformed::Unknown),
        }
    }
}

/// How far an image has come: what was counted, and a hash over every part so far, in a chain that begins with the header.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Progress {
    /// Chunks so far: the number of the next one.
    pub chunks: u64,
    /// Pairs so far.
    pub pairs: u64,
    /// Bytes of their keys and values.
    pub bytes: u64,
    /// The chain's newest link: `d' = SHA-256(d, part)`, from SHA-256(header).
    pub digest: Digest,
    /// The last pair's place.
    pub last: Option<(ImageTable, Vec<u8>)>,
}

/// Why a part does not follow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotNext {
    /// It is not what the format says.
    Malformed,
    /// It is another chunk than the next one, or the end comes too early or too late.
    OutOfOrder,
    /// Its hash is another than was said with it.
    OtherDigest,
    /// The image is longer than any may be.
    TooLong,
}

impl From<Malformed> for NotNext {
    fn from(_: Malformed) -> Self {
        NotNext::Malformed
    }
}

impl Progress {
    /// Of an image of which nothing has come yet.
    pub fn begin(image: Digest) -> Progress {
        Progress { chunks: 0, pairs: 0, bytes: 0, digest: image, last: None }
    }

    /// The chain's link after a part, in its canonical form.
    pub fn link(&self, part: &[u8]) -> Digest {
        crypto::sha256(&[&self.digest.0, part])
    }

    /// Reads the next part, and counts it. `digest` is what its sender said that the chain comes to with it.
    ///
    /// # Errors
    /// When it does not follow; then nothing is counted.
    pub fn take(&mut self, part: &[u8], digest: &Digest) -> Result<Part, NotNext> {
        if part.len() > CHUNK_BYTES_MAX {
            return Err(NotNext::TooLong);
        }
        let read = Part::from_bytes(part)?;
        if self.link(part) != *digest {
            return Err(NotNext::OtherDigest);
        }
        match &read {
            Part::Chunk(chunk) => self.count(chunk)?,
            Part::End(end) if *end == self.end() => (),
            Part::End(_) => return Err(NotNext::OutOfOrder),
        }
        self.digest = *digest;
        Ok(read)
    }

    /// The end of an image that has come so far.
    pub fn end(&self) -> SnapshotEnd {
        SnapshotEnd { chunks: self.chunks, pairs: self.pairs, bytes: self.bytes }
    }

    /// Counts a chunk that was just cut, and links it. Its canonical form with the link.
    ///
    /// # Errors
    /// When the image is longer than any may be.
    pub fn give(&mut self, chunk: SnapshotChunk) -> Result<(Vec<u8>, Digest), NotNext> {
        self.count(&chunk)?;
        let part = Part::Chunk(chunk).to_bytes();
        self.digest = self.link(&part);
        Ok((part, self.digest))
    }

    /// The end in its canonical form, and its link.
    pub fn close(&self) -> (Vec<u8>, Digest) {
        let part = Part::End(self.end()).to_bytes();
        let digest = self.link(&part);
        (part, digest)
    }

    fn count(&mut self, chunk: &SnapshotChunk) -> Result<(), NotNext> {
        let (Some(first), Some(last)) = (chunk.pairs.first(), chunk.pairs.last()) else {
            return Err(NotNext::Malformed);
        };
        let follows = self.last.as_ref().is_none_or(|(table, key)| (*table, &key[..]) < first.place());
        if chunk.number != self.chunks || !follows {
            return Err(NotNext::OutOfOrder);
        }
        let bytes = self.bytes + chunk.pairs.iter().map(|p| (p.key.len() + p.value.len()) as u64).sum::<u64>();
        if bytes > IMAGE_BYTES_MAX || self.chunks + 1 > CHUNKS_MAX {
            return Err(NotNext::TooLong);
        }
        self.last = Some((last.table, last.key.clone()));
        (self.chunks, self.pairs, self.bytes) = (self.chunks + 1, self.pairs + chunk.pairs.len() as u64, bytes);
        Ok(())
    }
}

/// As a node keeps it on its disk, between two chunks.
impl Canonical for Progress {
    fn write(&self, w: &mut Writer) {
        w.u64(self.chunks).u64(self.pairs).u64(self.bytes).raw(&self.digest.0).bool(self.last.is_some());
        if let Some((table, key)) = &self.last {
            w.u8(*table as u8).lp(key);
        }
    }
    fn read(r: &mut Reader<'_>) -> Result<Self, Malformed> {
        let (chunks, pairs, bytes, digest) = (r.u64()?, r.u64()?, r.u64()?, Digest::read(r)?);
        if !r.bool()? {
            return Ok(Progress { chunks, pairs, bytes, digest, last: None });
        }
        let table = match r.u8()? {
            1 => ImageTable::Records,
            2 => ImageTable::Machine,
            _ => return Err(Malformed::Unknown),
        };
        Ok(Progress { chunks, pairs, bytes, digest, last: Some((table, r.lp(KEY_BYTES_MAX)?.to_vec())) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chunk(number: u64, keys: &[u8]) -> SnapshotChunk {
        let pair = |key: &u8| ImagePair { table: ImageTable::Records, key: vec![*key], value: vec![*key; 3] };
        SnapshotChunk { number, pairs: keys.iter().map(pair).collect() }
    }

    fn cut() -> (Progress, Vec<(Vec<u8>, Digest)>) {
        let mut given = Progress::begin(Digest([7; 32]));
        let mut parts = vec![given.give(chunk(0, &[1, 2])).unwrap(), given.give(chunk(1, &[3])).unwrap()];
        parts.push(given.close());
        (given, parts)
    }

    #[test]
    fn takes_what_was_given_and_nothing_out_of_its_order() {
        let (given, parts) = cut();
        let mut taken = Progress::begin(Digest([7; 32]));
        let take = |taken: &mut Progress, n: usize| taken.take(&parts[n].0, &parts[n].1).map(drop);
        assert_eq!(take(&mut taken, 1), Err(NotNext::OtherDigest), "a chunk was left out");
        assert_eq!(take(&mut taken, 2), Err(NotNext::OtherDigest), "the end comes too early");
        assert_eq!(take(&mut taken, 0), Ok(()));
        assert_eq!(take(&mut taken, 0), Err(NotNext::OtherDigest), "a chunk comes twice");
        assert_eq!(take(&mut taken, 1), Ok(()));
        assert_eq!(taken, given);
        assert_eq!(Progress::from_bytes(&taken.to_bytes()), Ok(taken.clone()), "as it is kept between two chunks");
        assert_eq!(take(&mut taken, 2), Ok(()));
        let mut other = Progress::begin(Digest([8; 32]));
        assert_eq!(take(&mut other, 0), Err(NotNext::OtherDigest), "a chunk of another image");
    }

    #[test]
    fn numbers_and_order_are_looked_at_though_the_hash_agrees() {
        let linked = |progress: &Progress, chunk: SnapshotChunk| {
            let part = Part::Chunk(chunk).to_bytes();
            let digest = progress.link(&part);
            progress.clone().take(&part, &digest)
        };
        let mut progress = Progress::begin(Digest([7; 32]));
        progress.give(chunk(0, &[1, 2])).unwrap();
        assert_eq!(linked(&progress, chunk(2, &[3])), Err(NotNext::OutOfOrder));
        assert_eq!(linked(&progress, chunk(1, &[2])), Err(NotNext::OutOfOrder), "a key that was there");
        assert_eq!(linked(&progress, chunk(1, &[4, 3])), Err(NotNext::Malformed), "falling keys");
        assert_eq!(linked(&progress, chunk(1, &[])), Err(NotNext::Malformed), "an empty chunk");
        assert!(linked(&progress, chunk(1, &[3])).is_ok());
        progress.bytes = IMAGE_BYTES_MAX;
        assert_eq!(linked(&progress, chunk(1, &[3])), Err(NotNext::TooLong));
    }

    #[test]
    fn a_flipped_bit_anywhere_is_noticed() {
        let (_, parts) = cut();
        for bit in 0..parts[0].0.len() * 8 {
            let mut part = parts[0].0.clone();
            part[bit / 8] ^= 1 << (bit % 8);
            assert!(Progress::begin(Digest([7; 32])).take(&part, &parts[0].1).is_err(), "bit {bit}");
        }
    }
}
