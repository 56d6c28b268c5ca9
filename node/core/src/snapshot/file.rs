//! A snapshot in one file: the image in its order, then the signature of the node that cut it. Whoever reads it needs nothing
//! else: it is hashed anew, its header chain is followed from the genesis on, and its own roster says whose signature that is.

use super::{
    CHUNK_BYTES_MAX, HEADER_BYTES_MAX, ImagePair, ImageTable, NotNext, Part, Progress, SnapshotChunk, SnapshotHeader,
};
use crate::chain::{Chain, lineage_of};
use crate::codec::{Canonical, Malformed, Writer};
use crate::crypto::{self, SigningKey};
use crate::header::HeaderLink;
use crate::name::{Digest, NodeId, Signature};
use crate::planted;
use crate::record::{RecordKey, Table};
use crate::roster::{Custodians, Founding, Role, Roster};
use crate::state::{Element, Hashes, Remembered, Sum, is_remembered, split_record};
use std::collections::BTreeMap;
use std::fmt;

/// What the signature at the end is over starts with this.
const SIGN_DOMAIN: &[u8] = b"claviger/v1/snapshot\0";
/// What the place in Raft's log lies under.
const PLACE_PREFIX: &[u8] = b"p/";
/// Links of a header chain, at most: they are held until the genesis has come.
const LINKS_MAX: usize = 1 << 16;
/// Bytes of a length.
const LENGTH_BYTES: usize = 4;
/// Bytes of a link.
const LINK_BYTES: usize = 32;
/// Bytes of the signature, with the node's number before it.
const SEAL_BYTES: usize = 8 + 64;

/// What a file begins with.
pub fn head_bytes(header: &SnapshotHeader) -> Vec<u8> {
    let mut w = Writer::default();
    w.lp(&header.to_bytes());
    w.into_bytes()
}

/// A part in its canonical form with its link, as it stands in a file.
pub fn part_bytes(part: &[u8], link: &Digest) -> Vec<u8> {
    let mut w = Writer::default();
    w.lp(part).raw(&link.0);
    w.into_bytes()
}

/// Whether a part is the image's end.
pub fn is_end(part: &[u8]) -> bool {
    part.first() == Some(&super::END)
}

/// What a file ends with: the number of the node that cut it, and its signature over the link of the image's end.
pub fn seal_bytes(node: NodeId, key: &SigningKey, link: &Digest) -> Vec<u8> {
    let mut w = Writer::default();
    w.u64(node.0).raw(&crypto::sign(key, &signed_bytes(node, link)).0);
    w.into_bytes()
}

fn signed_bytes(node: NodeId, link: &Digest) -> Vec<u8> {
    let mut w = Writer::default();
    w.raw(SIGN_DOMAIN).u64(node.0).raw(&link.0);
    w.into_bytes()
}

/// Why a file is not believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileBroken {
    /// It does not begin as a snapshot does.
    NotASnapshot,
    /// It ends too early.
    Torn,
    /// A part is not what its hash says, or does not follow.
    Changed,
    /// It, or a part of it, is longer than any may be.
    TooLong,
    /// Something follows its end.
    Trailing,
    /// A pair in it cannot be read.
    Unreadable,
    /// What it holds is not the state that it says.
    OtherState,
    /// Its header chain does not lead from the genesis to the roster.
    BrokenChain,
    /// It is not signed by a member of the cluster.
    Forged,
}

impl fmt::Display for FileBroken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            FileBroken::NotASnapshot => "the file does not begin as a snapshot does",
            FileBroken::Torn => "the file ends too early",
            FileBroken::Changed => "a part of the file was changed, left out or moved",
            FileBroken::TooLong => "the file is longer than a snapshot may be",
            FileBroken::Trailing => "something follows the end of the snapshot",
            FileBroken::Unreadable => "a record in the file cannot be read",
            FileBroken::OtherState => "what the file holds is not the state that it says",
            FileBroken::BrokenChain => "the header chain in the file does not hold",
            FileBroken::Forged => "the file is not signed by a member of its cluster",
        })
    }
}

impl std::error::Error for FileBroken {}

impl From<Malformed> for FileBroken {
    fn from(_: Malformed) -> Self {
        FileBroken::Unreadable
    }
}

impl From<NotNext> for FileBroken {
    fn from(why: NotNext) -> Self {
        match why {
            NotNext::TooLong => FileBroken::TooLong,
            NotNext::Malformed | NotNext::OutOfOrder | NotNext::OtherDigest => FileBroken::Changed,
        }
    }
}

/// What a whole file holds.
pub struct Inspected {
    /// What the image says of itself, compared with what it holds.
    pub header: SnapshotHeader,
    /// Its header chain, from the genesis to the newest roster.
    pub chain: Chain,
    /// The links of that chain.
    pub links: Vec<HeaderLink>,
    /// Who holds the shares that open it; none where a file does.
    pub custodians: Option<Custodians>,
    /// How many records of each table.
    pub records: BTreeMap<Table, u64>,
    /// Chunks, pairs and bytes of the image.
    pub progress: Progress,
    /// Who cut it.
    pub node: NodeId,
}

/// Reads a file in pieces of any length. Holds one part at most, and what the header chain needs.
#[derive(Default)]
pub struct FileReader {
    unread: Vec<u8>,
    stage: Stage,
    gathered: Gathered,
}

#[derive(Default)]
enum Stage {
    #[default]
    Header,
    Parts(Box<(SnapshotHeader, Progress)>),
    Seal(Box<(SnapshotHeader, Progress)>),
    Over(Box<(SnapshotHeader, Progress)>, NodeId, Signature),
}

impl FileReader {
    /// Takes the next bytes. The chunks of the image that they complete.
    ///
    /// # Errors
    /// When the file is not believed. Nothing more must be fed then.
    pub fn feed(&mut self, bytes: &[u8]) -> Result<Vec<SnapshotChunk>, FileBroken> {
        self.unread.extend_from_slice(bytes);
        let (mut read, mut chunks) = (0, Vec::new());
        while let Some(length) = self.step(read, &mut chunks)? {
            read += length;
        }
        self.unread.drain(..read);
        Ok(chunks)
    }

    /// Reads one unit at `from`, if it is whole. How long it was.
    fn step(&mut self, from: usize, chunks: &mut Vec<SnapshotChunk>) -> Result<Option<usize>, FileBroken> {
        let rest = &self.unread[from..];
        let over = |next: Stage, length: usize| (next, Some(length));
        let (stage, length) = match std::mem::take(&mut self.stage) {
            Stage::Header => match long(rest, HEADER_BYTES_MAX).map_err(|_| FileBroken::NotASnapshot)? {
                None => (Stage::Header, None),
                Some(head) => {
                    let header = SnapshotHeader::from_bytes(head).map_err(|_| FileBroken::NotASnapshot)?;
                    let progress = Progress::begin(header.image());
                    over(Stage::Parts(Box::new((header, progress))), LENGTH_BYTES + head.len())
                }
            },
            Stage::Parts(mut image) => match linked(rest)? {
                None => (Stage::Parts(image), None),
                Some((part, link)) => {
                    let length = LENGTH_BYTES + part.len() + LINK_BYTES;
                    match image.1.take(part, &link)? {
                        Part::Chunk(chunk) => {
                            chunk.pairs.iter().try_for_each(|pair| self.gathered.pair(pair))?;
                            chunks.push(chunk);
                            over(Stage::Parts(image), length)
                        }
                        Part::End(_) => over(Stage::Seal(image), length),
                    }
                }
            },
            Stage::Seal(image) => match rest.first_chunk::<SEAL_BYTES>().map(|seal| seal.split_first_chunk::<8>()) {
                Some(Some((node, signature))) => {
                    let signature = signature.try_into().map(Signature).map_err(|_| FileBroken::Forged)?;
                    over(Stage::Over(image, NodeId(u64::from_be_bytes(*node)), signature), SEAL_BYTES)
                }
                Some(None) | None => (Stage::Seal(image), None),
            },
            Stage::Over(..) if !rest.is_empty() => return Err(FileBroken::Trailing),
            whole @ Stage::Over(..) => (whole, None),
        };
        self.stage = stage;
        Ok(length)
    }

    /// That was all.
    ///
    /// # Errors
    /// When the file ends too early, or what it holds is not what it says.
    pub fn finish(self) -> Result<Inspected, FileBroken> {
        let Stage::Over(image, node, signature) = self.stage else { return Err(FileBroken::Torn) };
        let (header, progress) = *image;
        let Gathered { hashes, sum, founding, links, roster, custodians, records } = self.gathered;
        let sum = sum.filter(|sum| hashes.sum(sum.place) == *sum).ok_or(FileBroken::OtherState)?;
        let said = (header.sequence, header.turn, header.time, header.shared, header.local);
        if said != (sum.place.sequence, sum.place.turn, sum.place.time, sum.shared, sum.local) {
            return Err(FileBroken::OtherState);
        }
        let (Some(founding), Some(roster)) = (founding, roster) else { return Err(FileBroken::BrokenChain) };
        let lineage = lineage_of(&founding.genesis);
        let chain = Chain::walk(founding, links.clone(), roster).map_err(|_| FileBroken::BrokenChain)?;
        let head = chain.head().map(|link| (link.header.generation, link.header.custodians));
        let holders = crypto::sha256(&[&custodians.as_ref().map(Canonical::to_bytes).unwrap_or_default()]);
        let named = head == Some((header.generation, holders));
        if lineage != header.lineage || !named {
            return Err(FileBroken::BrokenChain);
        }
        let member = chain.roster().and_then(|roster| roster.member(node)).filter(|m| m.role != Role::Retired);
        let key = member.map(|member| member.key);
        let signed = |key| crypto::verify(&key, &signed_bytes(node, &progress.digest), &signature);
        if !key.is_some_and(signed) && !planted!(FileNotVerified) {
            return Err(FileBroken::Forged);
        }
        Ok(Inspected { header, chain, links, custodians, records, progress, node })
    }
}

/// What has a length before it, once it is whole.
fn long(rest: &[u8], max: usize) -> Result<Option<&[u8]>, FileBroken> {
    let Some((length, rest)) = rest.split_first_chunk::<LENGTH_BYTES>() else { return Ok(None) };
    let length = usize::try_from(u32::from_be_bytes(*length)).map_err(|_| FileBroken::TooLong)?;
    if length > max { Err(FileBroken::TooLong) } else { Ok(rest.get(..length)) }
}

/// A part with its link, once they are whole.
fn linked(rest: &[u8]) -> Result<Option<(&[u8], Digest)>, FileBroken> {
    let Some(part) = long(rest, CHUNK_BYTES_MAX)? else { return Ok(None) };
    let link = rest[LENGTH_BYTES + part.len()..].first_chunk::<LINK_BYTES>();
    Ok(link.map(|link| (part, Digest(*link))))
}

/// What was found in pairs so far.
#[derive(Default)]
struct Gathered {
    hashes: Hashes,
    sum: Option<Sum>,
    founding: Option<Founding>,
    links: Vec<HeaderLink>,
    roster: Option<Roster>,
    custodians: Option<Custodians>,
    records: BTreeMap<Table, u64>,
}

impl Gathered {
    fn pair(&mut self, pair: &ImagePair) -> Result<(), FileBroken> {
        match pair.table {
            ImageTable::Records => self.record(&pair.key, &pair.value),
            // What Raft needs beside the state, and nothing else that no hash is over.
            ImageTable::Machine if pair.key.starts_with(PLACE_PREFIX) => Ok(()),
            ImageTable::Machine if !is_remembered(&pair.key) => Err(FileBroken::Unreadable),
            ImageTable::Machine => {
                let remembered = Remembered::read(&pair.key, &pair.value)?;
                if let Some(element) = remembered.element() {
                    self.hashes.add(element);
                }
                if let Remembered::State(sum) = remembered {
                    self.sum = Some(sum);
                }
                Ok(())
            }
        }
    }

    fn record(&mut self, key: &[u8], stored: &[u8]) -> Result<(), FileBroken> {
        let (key, (version, value)) = (RecordKey::from_bytes(key)?, split_record(stored)?);
        let digest = crypto::sha256(&[value]);
        self.hashes.add(Element::Record { key: &key, version, digest: &digest });
        *self.records.entry(key.table).or_default() += 1;
        match key.table {
            Table::Genesis => self.founding = Some(Founding::from_bytes(value)?),
            Table::Header if self.links.len() < LINKS_MAX => self.links.push(HeaderLink::from_bytes(value)?),
            Table::Header => return Err(FileBroken::TooLong),
            Table::Roster => self.roster = Some(Roster::from_bytes(value)?),
            Table::Custodians => self.custodians = Some(Custodians::from_bytes(value)?),
            _ => (), // nothing that a reader without keys could understand, or must
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
