//! Reads a book back, chunk by chunk, and believes nothing that does not follow.

use super::Page;
use super::book::{BODY_BYTES_MAX, FRAME_HASH_BYTES, FRAME_HEAD_BYTES, FrameKind, Position, SignedHead, frame_hash};
use crate::codec::Canonical;
use crate::name::{Digest, Lineage, VerifyingKey};
use std::fmt;

/// A book that was changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BookBroken {
    /// The page that was due.
    pub page: u64,
    /// Where in its file the frame begins that does not follow, in bytes.
    pub byte: u64,
    /// What is wrong with it.
    pub why: BookWhy,
}

/// What is wrong with a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BookWhy {
    /// The file does not begin as a book does.
    NotABook,
    /// It is no frame.
    NotAFrame,
    /// It is not what its hash says, or does not follow the page before.
    Changed,
    /// It cannot be read.
    Unreadable,
    /// Its number is not the next.
    Gap,
    /// It is of another node, or of another cluster.
    Foreign,
    /// A head that is not signed by this node's key.
    Forged,
    /// A head that says something else than the pages.
    Contradicted,
    /// A file that a crash cut off stands before another file.
    TornInside,
}

impl fmt::Display for BookBroken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the book is broken at page {} (byte {} of its file): ", self.page, self.byte)?;
        f.write_str(match self.why {
            BookWhy::NotABook => "the file does not begin as a book does",
            BookWhy::NotAFrame => "what stands there is no frame",
            BookWhy::Changed => "the frame was changed, or does not follow the page before",
            BookWhy::Unreadable => "the frame cannot be read",
            BookWhy::Gap => "a page is missing, or stands twice",
            BookWhy::Foreign => "it is of another node or cluster",
            BookWhy::Forged => "the head is not signed by this node's key",
            BookWhy::Contradicted => "the signed head says something else than the pages",
            BookWhy::TornInside => "a file is cut off, and another follows",
        })
    }
}

impl std::error::Error for BookBroken {}

/// What was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BookSummary {
    /// Where the book is; none when not even the start of a file was there.
    pub position: Option<Position>,
    /// Number of the first page that was due: above 1 when older files were left out.
    pub first: u64,
    /// Pages that were read.
    pub pages: u64,
    /// The last signed head: what follows it is chained, but not signed yet.
    pub head: Option<SignedHead>,
    /// Signed heads that were read.
    pub heads: u64,
    /// Where the book was when the first file that was read began.
    pub begins: Option<Position>,
    /// Bytes of the last file that are whole frames: a torn file is cut here before it is gone on with.
    pub whole_bytes: u64,
    /// Whether the last file ends inside a frame, or in zeroes, as a crash may leave it.
    pub torn: bool,
    /// Hash of the page that was sought, if it was read.
    pub found: Option<Digest>,
}

/// Reads one book, file after file.
pub struct BookReader {
    key: VerifyingKey,
    lineage: Option<Lineage>,
    at: Option<Position>,
    first: u64,
    pages: u64,
    head: Option<SignedHead>,
    heads: u64,
    begins: Option<Position>,
    sought: Option<u64>,
    found: Option<Digest>,
    file: File,
}

/// The file that is being read.
#[derive(Default)]
struct File {
    begun: bool,
    rest: Vec<u8>,
    whole_bytes: u64,
    zeroes: bool,
}

/// One frame, taken apart.
struct Frame<'a> {
    kind: FrameKind,
    body: &'a [u8],
    hash: Digest,
    bytes: usize,
}

impl BookReader {
    /// A reader of the book whose heads are signed by `key`, and, if one is given, of that cluster.
    pub fn new(key: VerifyingKey, lineage: Option<Lineage>) -> Self {
        BookReader {
            key,
            lineage,
            at: None,
            first: 1,
            pages: 0,
            head: None,
            heads: 0,
            begins: None,
            sought: None,
            found: None,
            file: File::default(),
        }
    }

    /// Notes the hash of the page of that number, should it come.
    pub fn seeking(self, number: u64) -> Self {
        BookReader { sought: Some(number), ..self }
    }

    /// Reads on. Every whole page goes to `each`, in order.
    ///
    /// # Errors
    /// Where the book is broken. Nothing that was handed out before is.
    pub fn feed(&mut self, chunk: &[u8], each: &mut dyn FnMut(Page)) -> Result<(), BookBroken> {
        let mut bytes = std::mem::take(&mut self.file.rest);
        bytes.extend_from_slice(chunk);
        let mut left = &bytes[..];
        while let Some(frame) = self.frame(left)? {
            left = &left[frame.bytes..];
            self.follow(&frame, each)?;
            self.file.whole_bytes += frame.bytes as u64;
        }
        self.file.rest = if self.file.zeroes { Vec::new() } else { left.to_vec() };
        Ok(())
    }

    /// Ends this file and begins the next.
    ///
    /// # Errors
    /// This one is cut off.
    pub fn next_file(&mut self) -> Result<(), BookBroken> {
        if self.torn() || !self.file.begun {
            return Err(self.broken(BookWhy::TornInside));
        }
        self.file = File::default();
        Ok(())
    }

    /// Ends the last file.
    pub fn finish(self) -> BookSummary {
        BookSummary {
            position: self.at,
            first: self.first,
            pages: self.pages,
            head: self.head,
            heads: self.heads,
            begins: self.begins,
            whole_bytes: self.file.whole_bytes,
            torn: self.torn(),
            found: self.found,
        }
    }

    fn torn(&self) -> bool {
        self.file.zeroes || !self.file.rest.is_empty()
    }

    fn broken(&self, why: BookWhy) -> BookBroken {
        BookBroken { page: self.at.map_or(1, |at| at.next), byte: self.file.whole_bytes, why }
    }

    /// Takes the next frame apart, if all of it is there. Zeroes to the end of the file are what a crash may leave.
    fn frame<'b>(&mut self, bytes: &'b [u8]) -> Result<Option<Frame<'b>>, BookBroken> {
        if self.file.zeroes || (bytes.len() >= FRAME_HEAD_BYTES && bytes[..FRAME_HEAD_BYTES] == [0; FRAME_HEAD_BYTES]) {
            self.file.zeroes = true;
            let zeroes = bytes.iter().all(|b| *b == 0);
            return if zeroes { Ok(None) } else { Err(self.broken(BookWhy::NotAFrame)) };
        }
        let Some((head, rest)) = bytes.split_first_chunk::<FRAME_HEAD_BYTES>() else { return Ok(None) };
        let (kind, length) = frame_head(head).ok_or_else(|| self.broken(BookWhy::NotAFrame))?;
        let Some((body, rest)) = rest.split_at_checked(length) else { return Ok(None) };
        let Some(hash) = rest.first_chunk::<FRAME_HASH_BYTES>() else { return Ok(None) };
        let bytes = FRAME_HEAD_BYTES + length + FRAME_HASH_BYTES;
        Ok(Some(Frame { kind, body, hash: Digest(*hash), bytes }))
    }

    fn follow(&mut self, frame: &Frame<'_>, each: &mut dyn FnMut(Page)) -> Result<(), BookBroken> {
        let done = match (frame.kind, self.at.filter(|_| self.file.begun)) {
            (FrameKind::Start, None) => self.start(frame),
            (FrameKind::Page, Some(at)) => self.page(frame, at, each),
            (FrameKind::Head, Some(at)) => self.signed(frame, at),
            (FrameKind::Start, Some(_)) => Err(BookWhy::NotAFrame),
            (FrameKind::Page | FrameKind::Head, None) => Err(BookWhy::NotABook),
        };
        done.map_err(|why| self.broken(why))
    }

    fn start(&mut self, frame: &Frame<'_>) -> Result<(), BookWhy> {
        let start: Position = read(frame.body)?;
        check(frame, &start.hash)?;
        match self.at {
            None => (self.first, self.begins) = (start.next, Some(start)),
            Some(at) if (at.next, at.hash) != (start.next, start.hash) => return Err(BookWhy::Gap),
            // A node joins a cluster once, and never leaves it for another.
            Some(at) if at.node != start.node || (at.lineage.is_some() && at.lineage != start.lineage) => {
                return Err(BookWhy::Foreign);
            }
            Some(_) => {}
        }
        if self.lineage.is_some() && start.lineage.is_some() && self.lineage != start.lineage {
            return Err(BookWhy::Foreign);
        }
        let nothing_before = start.hash == Digest([0; 32]);
        if start.next == 0 || (start.next == 1) != nothing_before {
            return Err(BookWhy::NotABook);
        }
        self.at = Some(start);
        self.file.begun = true;
        Ok(())
    }

    fn page(&mut self, frame: &Frame<'_>, at: Position, each: &mut dyn FnMut(Page)) -> Result<(), BookWhy> {
        let page: Page = read(frame.body)?;
        if page.number != at.next {
            return Err(BookWhy::Gap);
        }
        check(frame, &at.hash)?;
        if page.node != at.node {
            return Err(BookWhy::Foreign);
        }
        let next = at.next.checked_add(1).ok_or(BookWhy::Gap)?;
        self.at = Some(Position { next, hash: frame.hash, ..at });
        self.pages += 1;
        if self.sought == Some(page.number) {
            self.found = Some(frame.hash);
        }
        each(page);
        Ok(())
    }

    fn signed(&mut self, frame: &Frame<'_>, at: Position) -> Result<(), BookWhy> {
        let signed: SignedHead = read(frame.body)?;
        check(frame, &at.hash)?;
        if !signed.verify(&self.key) {
            return Err(BookWhy::Forged);
        }
        let head = &signed.head;
        if head.node != at.node || head.lineage != at.lineage {
            return Err(BookWhy::Foreign);
        }
        if head.number != at.next - 1 || head.hash != at.hash {
            return Err(BookWhy::Contradicted);
        }
        self.head = Some(signed);
        self.heads += 1;
        Ok(())
    }
}

/// Verifies a book that is one file, given in chunks of any size.
///
/// # Errors
/// Where it is broken. A torn tail is no error, and stands in the summary.
pub fn verify_book<C: AsRef<[u8]>>(
    chunks: impl IntoIterator<Item = C>,
    key: &VerifyingKey,
    lineage: Option<Lineage>,
) -> Result<BookSummary, BookBroken> {
    let mut reader = BookReader::new(*key, lineage);
    for chunk in chunks {
        reader.feed(chunk.as_ref(), &mut |_| {})?;
    }
    Ok(reader.finish())
}

fn frame_head(head: &[u8; FRAME_HEAD_BYTES]) -> Option<(FrameKind, usize)> {
    let [kind, l0, l1, l2, l3, c0, c1, c2, c3] = *head;
    let (length, complement) = (u32::from_be_bytes([l0, l1, l2, l3]), u32::from_be_bytes([c0, c1, c2, c3]));
    let good = complement == !length && length as usize <= BODY_BYTES_MAX;
    Some((FrameKind::from_u8(kind)?, length as usize)).filter(|_| good)
}

fn read<T: Canonical>(body: &[u8]) -> Result<T, BookWhy> {
    T::from_bytes(body).map_err(|_| BookWhy::Unreadable)
}

fn check(frame: &Frame<'_>, before: &Digest) -> Result<(), BookWhy> {
    let hash = frame_hash(frame.kind, before, frame.body);
    if hash == frame.hash { Ok(()) } else { Err(BookWhy::Changed) }
}
