//! The node's audit book: append-only files of chained pages, with signed heads between.
//!
//! Must not contain: what a page means (core), who may read it (service).

mod reopen;
mod sheet;
mod tags;
#[cfg(test)]
mod tests;

pub(crate) use tags::Tags;

use claviger_core::crypto::SigningKey;
use claviger_core::name::{Digest, Lineage, NodeId};
use claviger_core::page::{BookBroken, BookWriter, Head, Page, Position, SignedHead};
use claviger_core::rarely;
use claviger_core::time::UnixMs;
use claviger_ledger::World;
use claviger_world::disk::{AppendFile, Disk, DiskFailed};
use claviger_world::{runtime, watch};
use futures_util::future::join_all;
use parking_lot::Mutex;
use sheet::Gathering;
use std::collections::{BTreeSet, VecDeque};
use std::fmt;
use std::sync::Arc;

/// Pages that are kept in memory for those who look at the end of the book.
pub const PAGES_KEPT: usize = 1_000;
/// Size at which a new file is begun, in bytes.
const FILE_BYTES_MAX: u64 = 64 << 20;
/// Room for the frame of a page about one key, in bytes; what is longer takes more.
const FRAME_BYTES: usize = 512;
/// Names of the book's files: `audit-` and a number of ten digits.
const PREFIX: &str = "audit-";

/// Why there is no book.
#[derive(Clone, Debug)]
pub enum BookFailed {
    /// The disk failed, or failed before: nothing more is written until the node starts again.
    Disk(DiskFailed),
    /// The last file does not verify.
    Broken(BookBroken),
}

impl fmt::Display for BookFailed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            BookFailed::Disk(why) => why.fmt(f),
            BookFailed::Broken(why) => write!(f, "{why}; keep the file, and have it looked at"),
        }
    }
}

impl std::error::Error for BookFailed {}

impl From<DiskFailed> for BookFailed {
    fn from(why: DiskFailed) -> Self {
        BookFailed::Disk(why)
    }
}

/// The book of one node.
pub struct Book {
    disk: Arc<dyn Disk>,
    writing: Mutex<Writing>,
    newest: watch::Sender<u64>,
    gathering: Gathering,
}

struct Writing {
    writer: BookWriter,
    file: Arc<dyn AppendFile>,
    /// Files that became full and are not known to be durable yet.
    full: Vec<Arc<dyn AppendFile>>,
    file_number: u64,
    bytes: u64,
    dirty: bool,
    signed: u64,
    /// The newest signed head: the number of its page, and that page's hash.
    head: Option<(u64, Digest)>,
    failed: Option<DiskFailed>,
    last: VecDeque<Page>,
    intents: BTreeSet<Digest>,
}

impl Book {
    /// Opens the book where it ended; what a crash tore is cut off, what was changed is refused.
    pub fn open(world: &World, node: NodeId, key: &SigningKey) -> Result<Book, BookFailed> {
        let disk = world.disk.clone();
        let writing = match reopen::reopen(&*disk, key)? {
            Some(ended) => Writing::go_on(ended),
            None => Writing::begin(&*disk, Position::first(node, None), 1)?,
        };
        let (newest, _) = watch::channel(writing.writer.position().next - 1);
        Ok(Book { disk, writing: Mutex::new(writing), newest, gathering: Gathering::default() })
    }

    /// Says which cluster the book belongs to from here on: begins a file that says so.
    pub fn belong(&self, lineage: Lineage) -> Result<(), BookFailed> {
        let mut writing = self.writing.lock();
        let at = *writing.writer.position();
        if at.lineage.is_some() {
            return Ok(());
        }
        writing.turn_over(&*self.disk, Position { lineage: Some(lineage), ..at })?;
        Ok(())
    }

    /// Writes a page. It is durable with the next sync.
    pub fn write(&self, page: Page) -> Result<(), BookFailed> {
        self.write_all([page])
    }

    /// Writes pages in one piece: all of them, or it is not known which.
    pub fn write_all(&self, pages: impl IntoIterator<Item = Page>) -> Result<(), BookFailed> {
        let mut writing = self.writing.lock();
        let number = writing.append(pages)?;
        if writing.bytes >= FILE_BYTES_MAX || rarely!("an audit file is turned over early") {
            let at = *writing.writer.position();
            writing.turn_over(&*self.disk, at)?;
        }
        drop(writing);
        self.newest.replace(number);
        Ok(())
    }

    /// Writes pages in one piece with those of everybody who has some and can run. They are written also where nobody waits
    /// for it any more.
    pub async fn write_together(&self, pages: Vec<Page>) -> Result<(), BookFailed> {
        let aboard = self.gathering.join(self, pages);
        runtime::yield_now().await;
        aboard.written()
    }

    /// Whether somebody's pages are about to be written with those of others: an answer follows, and waits for nothing else.
    pub fn answers_follow(&self) -> bool {
        self.gathering.is_joined()
    }

    /// Completes when every page written before is durable, in whichever file it stands.
    pub async fn sync(&self) -> Result<(), BookFailed> {
        let (full, current) = {
            let mut writing = self.writing.lock();
            writing.dirty = false;
            (writing.full.clone(), writing.file.clone())
        };
        let synced = join_all(full.iter().chain([&current]).map(|file| file.sync())).await;
        let synced = synced.into_iter().collect::<Result<(), DiskFailed>>();
        let mut writing = self.writing.lock();
        match &synced {
            // Only those that were full already: of the others more may have been written meanwhile. And by what they are,
            // not by their number: another sync may have come in between.
            Ok(()) => writing.full.retain(|file| !full.iter().any(|known| Arc::ptr_eq(known, file))),
            Err(why) => writing.failed = Some(why.clone()),
        }
        Ok(synced?)
    }

    /// Whether nothing more can be written.
    pub fn failed(&self) -> bool {
        self.writing.lock().failed.is_some()
    }

    /// Whether a page waits to be synced.
    pub fn dirty(&self) -> bool {
        self.writing.lock().dirty
    }

    /// Signs where the book is, when there are pages that no head covers.
    pub fn sign(&self, key: &SigningKey, now: UnixMs) -> Result<Option<SignedHead>, BookFailed> {
        let mut writing = self.writing.lock();
        let newest = writing.writer.position().next - 1;
        if newest == writing.signed {
            return Ok(None);
        }
        let mut frame = Vec::new();
        let head = writing.writer.sign(key, now, &mut frame);
        writing.put(&frame)?;
        (writing.signed, writing.head) = (newest, Some((newest, head.head.hash)));
        Ok(Some(head))
    }

    /// Whether the book has the page that a head is about, with that hash: it may be another one, begun anew. Reads the files
    /// back where that is not the newest head.
    pub fn holds(&self, head: &Head, key: &SigningKey) -> Result<bool, BookFailed> {
        let (newest, next) = {
            let writing = self.writing.lock();
            (writing.head, writing.writer.position().next)
        };
        let same = newest == Some((head.number, head.hash));
        Ok(head.number < next && (same || reopen::holds(&*self.disk, key, head)?))
    }

    /// Where the book is.
    pub fn position(&self) -> Position {
        *self.writing.lock().writer.position()
    }

    /// What the pages of the files that were read at start close.
    pub fn intents(&self) -> BTreeSet<Digest> {
        self.writing.lock().intents.clone()
    }

    /// Pages that no signed head covers yet.
    pub fn unsigned(&self) -> u64 {
        let writing = self.writing.lock();
        writing.writer.position().next - 1 - writing.signed
    }

    /// Follows the number of the newest page.
    pub fn follow(&self) -> watch::Receiver<u64> {
        self.newest.subscribe()
    }

    /// Kept pages from number `from` on, in order. The first may be a later one: older pages are in the files only.
    pub fn last(&self, from: u64) -> Vec<Page> {
        self.writing.lock().last.iter().filter(|page| page.number >= from).cloned().collect()
    }
}

impl Writing {
    fn begin(disk: &dyn Disk, at: Position, file_number: u64) -> Result<Self, BookFailed> {
        let file = disk.open(&format!("{PREFIX}{file_number:010}"))?;
        let mut frame = Vec::new();
        let writer = BookWriter::begin(at, &mut frame);
        file.append(&frame)?;
        let (bytes, last) = (frame.len() as u64, VecDeque::new());
        let (signed, failed, intents) = (at.next - 1, None, BTreeSet::new());
        let (full, head) = (Vec::new(), None);
        Ok(Writing { writer, file, full, file_number, bytes, dirty: true, signed, head, failed, last, intents })
    }

    fn go_on(ended: reopen::Ended) -> Self {
        Writing {
            writer: BookWriter::resume(ended.at),
            file: ended.file,
            full: Vec::new(),
            file_number: ended.file_number,
            bytes: ended.bytes,
            dirty: false,
            signed: ended.signed,
            head: ended.head,
            failed: None,
            last: ended.last,
            intents: ended.intents,
        }
    }

    /// Appends pages, and gives the number of the last.
    fn append(&mut self, pages: impl IntoIterator<Item = Page>) -> Result<u64, BookFailed> {
        let mut frames = Vec::with_capacity(FRAME_BYTES);
        let number = |mut page: Page| {
            self.writer.append(&mut page, &mut frames);
            page
        };
        let pages: Vec<Page> = pages.into_iter().map(number).collect();
        self.put(&frames)?;
        pages.into_iter().for_each(|page| keep(&mut self.last, page));
        Ok(self.writer.position().next - 1)
    }

    /// After one failure nothing more is written: what stands at the end of the file is not known.
    fn put(&mut self, frame: &[u8]) -> Result<(), BookFailed> {
        if let Some(why) = &self.failed {
            return Err(why.clone().into());
        }
        if let Err(why) = self.file.append(frame) {
            self.failed = Some(why.clone());
            return Err(why.into());
        }
        self.bytes += frame.len() as u64;
        self.dirty = true;
        Ok(())
    }

    fn turn_over(&mut self, disk: &dyn Disk, at: Position) -> Result<(), BookFailed> {
        let next = match Writing::begin(disk, at, self.file_number + 1) {
            Ok(next) => next,
            Err(why) => {
                if let BookFailed::Disk(why) = &why {
                    self.failed = Some(why.clone());
                }
                return Err(why);
            }
        };
        let mut full = std::mem::take(&mut self.full);
        full.push(self.file.clone());
        let (last, intents) = (std::mem::take(&mut self.last), std::mem::take(&mut self.intents));
        *self = Writing { last, intents, full, signed: self.signed, head: self.head, ..next };
        Ok(())
    }
}

fn keep(last: &mut VecDeque<Page>, page: Page) {
    if last.len() == PAGES_KEPT {
        last.pop_front();
    }
    last.push_back(page);
}
