//! The book of one node: files of frames, hash-chained page by page from file to file, with signed heads between.
//!
//! A frame is kind u8, length u32, the length's complement u32, the body, and SHA-256("claviger/v1/book" 00, kind, hash of
//! the page before, body). Of a page that is the hash that the next builds upon. The complement tells a length that was
//! changed from a frame that a crash cut off.

use super::{PAGE_BYTES_MAX, Page};
use crate::codec::{Canonical, Malformed, Reader, Writer};
use crate::crypto::{self, SigningKey};
use crate::name::{Digest, Lineage, NodeId, Signature, VerifyingKey};
use crate::time::UnixMs;

const FORMAT: u16 = 1;
const FRAME_DOMAIN: &[u8] = b"claviger/v1/book\0";
const HEAD_DOMAIN: &[u8] = b"claviger/v1/head\0";

/// Room for a page about one key, in bytes; what is longer takes more.
const PAGE_BYTES: usize = 384;
/// Longest body of a frame, in bytes.
pub(super) const BODY_BYTES_MAX: usize = PAGE_BYTES_MAX;
/// Kind, length and its complement, in bytes.
pub(super) const FRAME_HEAD_BYTES: usize = 9;
/// The hash behind the body, in bytes.
pub(super) const FRAME_HASH_BYTES: usize = 32;

/// What a frame holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum FrameKind {
    /// A [`Position`]: first in every file.
    Start = 1,
    /// A page.
    Page = 2,
    /// A signed head.
    Head = 3,
}

impl FrameKind {
    pub fn from_u8(byte: u8) -> Option<FrameKind> {
        [FrameKind::Start, FrameKind::Page, FrameKind::Head].into_iter().find(|kind| *kind as u8 == byte)
    }
}

/// How far a book has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Position {
    /// Whose book it is.
    pub node: NodeId,
    /// The cluster, once the node belongs to one.
    pub lineage: Option<Lineage>,
    /// Number of the next page.
    pub next: u64,
    /// Hash of the page before that; zeroes at the beginning.
    pub hash: Digest,
}

impl Position {
    /// The beginning of a node's book.
    pub fn first(node: NodeId, lineage: Option<Lineage>) -> Self {
        Position { node, lineage, next: 1, hash: Digest([0; 32]) }
    }
}

impl Canonical for Position {
    fn write(&self, w: &mut Writer) {
        w.u16(FORMAT).u64(self.node.0).option(self.lineage.as_ref()).u64(self.next).raw(&self.hash.0);
    }
    fn read(r: &mut Reader<'_>) -> Result<Self, Malformed> {
        if r.u16()? != FORMAT {
            return Err(Malformed::Unknown);
        }
        Ok(Position { node: NodeId::read(r)?, lineage: r.option()?, next: r.u64()?, hash: Digest::read(r)? })
    }
}

/// What a node says of its book at one time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head {
    /// Whose book.
    pub node: NodeId,
    /// The cluster, once the node belongs to one.
    pub lineage: Option<Lineage>,
    /// Pages so far: the number of the last; 0 for none.
    pub number: u64,
    /// Hash of the last page; zeroes for none.
    pub hash: Digest,
    /// By the node's clock.
    pub time: UnixMs,
}

impl Head {
    /// What the signature is over.
    pub fn signed_bytes(&self) -> Vec<u8> {
        let mut w = Writer::default();
        w.raw(HEAD_DOMAIN);
        self.write(&mut w);
        w.into_bytes()
    }
}

impl Canonical for Head {
    fn write(&self, w: &mut Writer) {
        w.u16(FORMAT).u64(self.node.0).option(self.lineage.as_ref());
        w.u64(self.number).raw(&self.hash.0).u64(self.time.0);
    }
    fn read(r: &mut Reader<'_>) -> Result<Self, Malformed> {
        if r.u16()? != FORMAT {
            return Err(Malformed::Unknown);
        }
        Ok(Head {
            node: NodeId::read(r)?,
            lineage: r.option()?,
            number: r.u64()?,
            hash: Digest::read(r)?,
            time: UnixMs(r.u64()?),
        })
    }
}

/// A head with the signature of the node's identity key: a frame of the book, and the value of an audit head record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SignedHead {
    /// What is signed.
    pub head: Head,
    /// Ed25519 over [`Head::signed_bytes`].
    pub signature: Signature,
}

impl SignedHead {
    /// Whether the node of that identity key signed it.
    pub fn verify(&self, key: &VerifyingKey) -> bool {
        crypto::verify(key, &self.head.signed_bytes(), &self.signature)
    }
}

impl Canonical for SignedHead {
    fn write(&self, w: &mut Writer) {
        self.head.write(w);
        self.signature.write(w);
    }
    fn read(r: &mut Reader<'_>) -> Result<Self, Malformed> {
        Ok(SignedHead { head: Head::read(r)?, signature: Signature::read(r)? })
    }
}

/// Writes a book: makes the bytes to append, and keeps the place.
#[derive(Clone, Debug)]
pub struct BookWriter {
    at: Position,
}

impl BookWriter {
    /// Begins a file, the first or the next, and appends its first frame to `out`.
    pub fn begin(at: Position, out: &mut Vec<u8>) -> Self {
        frame(FrameKind::Start, &at.hash, &at.to_bytes(), out);
        BookWriter { at }
    }

    /// Goes on with a file that was read to its end, and cut to its whole frames if it was torn.
    pub fn resume(at: Position) -> Self {
        BookWriter { at }
    }

    /// Appends a page to `out`, and gives it its number.
    pub fn append(&mut self, page: &mut Page, out: &mut Vec<u8>) {
        page.number = self.at.next;
        let mut body = Writer::with_room(PAGE_BYTES);
        page.write(&mut body);
        self.at.hash = frame(FrameKind::Page, &self.at.hash, body.as_slice(), out);
        self.at.next += 1;
    }

    /// Signs where the book is, and appends that to `out`.
    pub fn sign(&self, key: &SigningKey, time: UnixMs, out: &mut Vec<u8>) -> SignedHead {
        let Position { node, lineage, next, hash } = self.at;
        let head = Head { node, lineage, number: next - 1, hash, time };
        let signed = SignedHead { signature: crypto::sign(key, &head.signed_bytes()), head };
        frame(FrameKind::Head, &hash, &signed.to_bytes(), out);
        signed
    }

    /// Where the book is. The next file begins there.
    pub fn position(&self) -> &Position {
        &self.at
    }
}

fn frame(kind: FrameKind, before: &Digest, body: &[u8], out: &mut Vec<u8>) -> Digest {
    assert!(body.len() <= BODY_BYTES_MAX, "pages and heads are bounded by their fields");
    let length = u32::try_from(body.len()).expect("a body is bounded");
    let hash = frame_hash(kind, before, body);
    out.push(kind as u8);
    out.extend_from_slice(&length.to_be_bytes());
    out.extend_from_slice(&(!length).to_be_bytes());
    out.extend_from_slice(body);
    out.extend_from_slice(&hash.0);
    hash
}

pub(super) fn frame_hash(kind: FrameKind, before: &Digest, body: &[u8]) -> Digest {
    crypto::sha256(&[FRAME_DOMAIN, &[kind as u8], &before.0, body])
}
