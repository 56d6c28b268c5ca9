//! Every answer has a page of its own (looked at by the door, the moment it is handed over), pages stay once they are
//! durable, and every book verifies, file after file, whatever crashes cut off.
//!
//! What must stay, of one node's book, is everything up to the highest page of which one of these is known: an answer of
//! a node that syncs before it answers rested on it; a signed head in the ledger covers it; it was seen in the synced
//! part of a file. And where nothing hinders a node, what an answer rested on is synced within [`SYNCED_WITHIN`].

use super::{Board, Promise};
use crate::disk::SimDisk;
use claviger_core::codec::Canonical;
use claviger_core::crypto::sha256;
use claviger_core::name::{Digest, Identity, NodeId, VerifyingKey};
use claviger_core::page::{BookBroken, BookReader, OutcomeWord, Page, SignedHead};
use claviger_core::policy::Operation;
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

/// Longest that a page waits to be synced where nothing hinders its node: 100 ms by the node's promise, a sync that is
/// under way, and one that follows, of 100 ms each in the worst of usual weather; and room.
pub const SYNCED_WITHIN: Duration = Duration::from_secs(1);
/// What an audit file's name begins with.
const PREFIX: &str = "audit-";
/// What a frame's hash begins with, and the kind of frame that a page is (docs/formats.md).
const PAGE_DOMAIN: &[u8] = b"claviger/v1/book\0\x02";

/// Keeps pages in mind, and verifies books.
pub struct Audit {
    board: Arc<Board>,
    books: Mutex<BTreeMap<NodeId, Kept>>,
}

/// An answer, as the door hands it over.
#[derive(Clone, Copy)]
pub struct Answered<'a> {
    /// Who answers.
    pub node: NodeId,
    /// In which life.
    pub life: u64,
    /// Who asked.
    pub caller: &'a Identity,
    /// What.
    pub operation: Operation,
    /// What came of it.
    pub outcome: OutcomeWord,
    /// Whether the node syncs a page before it answers.
    pub strict: bool,
    /// When it is handed over, since the start of the run.
    pub at: Duration,
}

/// A node that is on, and its disk, when it is looked at.
#[derive(Clone, Copy)]
pub struct Looked<'a> {
    /// Which node.
    pub node: NodeId,
    /// Its life.
    pub life: u64,
    /// What it signs with.
    pub key: &'a VerifyingKey,
    /// Where its book lies.
    pub disk: &'a SimDisk,
    /// Whether it can write no pages any more.
    pub failed: bool,
    /// When, since the start of the run.
    pub at: Duration,
}

/// What is known of one node's book.
#[derive(Default)]
struct Kept {
    /// Its disk was wiped or damaged: nothing is asked of it any more.
    excused: bool,
    life: u64,
    /// Pages that answers rested on: each on one of its own, or on one that counts as many.
    rested: BTreeMap<u64, Rested>,
    /// Every page up to this number must be there from now on; and why.
    durable: u64,
    why: &'static str,
    /// The newest head that the ledger had of it.
    head: Option<SignedHead>,
    /// The number of the newest head that was heard of.
    headed: u64,
    /// Every page that was found durable, in order from number 1.
    found: Vec<Found>,
    reading: Option<Reading>,
    /// What hinders the node now, and until when what ended may still be felt.
    hindrances: u64,
    hindered_until: Duration,
}

struct Rested {
    page: Digest,
    at: Duration,
    /// Answers that rest on it: at most as many as it counts.
    answers: u64,
}

/// A page that was found: its digest, and its hash in the chain.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Found {
    page: Digest,
    chained: Digest,
}

/// How far the durable part of a book was read in one life.
struct Reading {
    reader: BookReader,
    file: String,
    offset: usize,
    pages: u64,
    chained: Digest,
}

impl Audit {
    /// No book yet.
    pub fn new(board: Arc<Board>) -> Self {
        Audit { board, books: Mutex::default() }
    }

    /// An answer is handed over: one of `pages`, those that were written since it was asked for, is its own.
    pub fn answered(&self, answer: &Answered<'_>, pages: &[Page]) {
        let rested = self.books.lock().entry(answer.node).or_default().rest(answer, pages);
        let Answered { node, caller, operation, outcome, .. } = answer;
        self.board.expect(Promise::Audit, rested, || {
            format!("node {node} answered {operation:?} of {caller} ({outcome}) without a page of its own")
        });
    }

    /// So many items of an answer that is handed over, alike in operation and outcome: pages of `pages` count them.
    pub fn items_answered(&self, answer: &Answered<'_>, count: u64, pages: &[Page]) {
        let counted = self.books.lock().entry(answer.node).or_default().rest_items(answer, count, pages);
        let Answered { node, caller, operation, outcome, .. } = answer;
        self.board.expect(Promise::Audit, counted >= count, || {
            format!("node {node} answered {count} items of {operation:?} of {caller} ({outcome}), and {counted} are in pages")
        });
    }

    /// The ledger has this head of a node's book: what it covers was synced before.
    pub fn head(&self, head: &SignedHead, key: &VerifyingKey) {
        let node = head.head.node;
        {
            let mut books = self.books.lock();
            let kept = books.entry(node).or_default();
            if kept.excused || kept.headed >= head.head.number {
                return;
            }
            (kept.head, kept.headed) = (Some(*head), head.head.number);
            kept.must_keep(head.head.number, "the ledger has a head that covers it");
        }
        let good = head.verify(key);
        self.board
            .expect(Promise::Audit, good, || format!("the ledger has a head of node {node} that it did not sign"));
    }

    /// Looks at the durable part of a node's book, as far as it was not looked at in this life.
    pub fn look(&self, looked: &Looked<'_>) {
        let wrong = self.books.lock().entry(looked.node).or_default().look(looked);
        self.board.checked(Promise::Audit);
        for what in wrong {
            self.board.broke(Promise::Audit, format!("the book of node {}: {what}", looked.node));
        }
    }

    /// A node's disk was taken from it, or damaged: nothing is asked of its book any more.
    pub fn excuse(&self, node: NodeId) {
        self.books.lock().entry(node).or_default().excused = true;
    }

    /// Something begins to hinder a node: its syncs may come late.
    pub fn hinder(&self, node: NodeId) {
        self.books.lock().entry(node).or_default().hindrances += 1;
    }

    /// It ends. Until `felt`, since the start of the run, syncs may come late of it.
    pub fn relieve(&self, node: NodeId, felt: Duration) {
        let mut books = self.books.lock();
        let kept = books.entry(node).or_default();
        kept.hindrances = kept.hindrances.saturating_sub(1);
        kept.hindered_until = kept.hindered_until.max(felt);
    }

    /// Nothing hinders anybody any more, and is felt until then.
    pub fn relieve_all(&self, felt: Duration) {
        for kept in self.books.lock().values_mut() {
            (kept.hindrances, kept.hindered_until) = (0, kept.hindered_until.max(felt));
        }
    }

    /// A book that a fault has changed must not verify.
    pub fn changed_book(&self, node: NodeId, files: &[(String, Vec<u8>)], key: &VerifyingKey) {
        let refused = read(&sorted(files), key).is_err();
        self.board.expect(Promise::Audit, refused, || format!("the book of node {node} was changed, and verifies"));
    }

    /// A node's files as they lie on its disk, in any order. How many pages there are.
    pub fn book(&self, node: NodeId, files: &[(String, Vec<u8>)], key: &VerifyingKey) -> u64 {
        match read(&sorted(files), key) {
            Ok(pages) => {
                self.board.expect(Promise::Audit, true, String::new);
                pages
            }
            Err(why) => {
                self.board.broke(Promise::Audit, format!("the book of node {node}: {why}"));
                0
            }
        }
    }
}

impl Kept {
    /// Finds the first page that can be the answer's own, and on which fewer answers rest than it counts. Where each has one of its
    /// own, whoever is handed over first may take another's: there is one left for that one, and no newer one was taken
    /// than the newest of theirs, which is as durable.
    fn rest(&mut self, answer: &Answered<'_>, pages: &[Page]) -> bool {
        self.rest_on(answer, pages, |_| 1)
    }

    fn rest_on(&mut self, answer: &Answered<'_>, pages: &[Page], answers: fn(&Page) -> u64) -> bool {
        self.live(answer.life);
        let fits = |page: &&Page| {
            page.operation == Some(answer.operation)
                && page.caller.as_ref() == Some(answer.caller)
                && page.outcome == answer.outcome
                && self.rested.get(&page.number).map_or(0, |rested| rested.answers) + answers(page) <= page.count
        };
        let Some(page) = pages.iter().find(fits) else { return false };
        let new = Rested { page: digest(page), at: answer.at, answers: 0 };
        self.rested.entry(page.number).or_insert(new).answers += answers(page);
        if answer.strict && !self.excused {
            self.must_keep(page.number, "an answer rests on it that was to wait until it is synced");
        }
        true
    }

    /// As [`Kept::rest`], on as many pages as it takes. How many items they count.
    fn rest_items(&mut self, answer: &Answered<'_>, count: u64, pages: &[Page]) -> u64 {
        let mut counted = 0;
        for page in pages {
            if counted < count && self.rest_on(answer, std::slice::from_ref(page), |page| page.count) {
                counted += page.count;
            }
        }
        counted
    }

    /// Another life goes on with what is durable.
    fn live(&mut self, life: u64) {
        if self.life == life {
            return;
        }
        self.life = life;
        self.reading = None;
        let durable = self.durable;
        self.rested.retain(|number, _| *number <= durable);
    }

    fn must_keep(&mut self, number: u64, why: &'static str) {
        if number > self.durable {
            (self.durable, self.why) = (number, why);
        }
    }

    fn look(&mut self, looked: &Looked<'_>) -> Vec<String> {
        if self.excused {
            return Vec::new();
        }
        self.live(looked.life);
        let mut reading = self.reading.take().unwrap_or_else(|| Reading::begin(looked.key));
        let mut wrong = Vec::new();
        let read = reading.read_on(looked.disk, &mut |page, chained| wrong.extend(self.find(&page, chained)));
        // Told once: nothing that comes after it can be read.
        self.excused |= read.is_err();
        wrong.extend(read.err().map(|why| why.to_string()));
        wrong.extend(self.lost(reading.pages));
        wrong.extend(self.late(reading.pages, looked));
        wrong.extend(self.contradicted());
        self.must_keep(reading.pages, "it was found synced");
        self.reading = Some(reading);
        wrong
    }

    /// A page was found. What is wrong with it.
    fn find(&mut self, page: &Page, chained: Digest) -> Option<String> {
        let (number, found) = (page.number, Found { page: digest(page), chained });
        let rested = self.rested.get(&number).is_some_and(|rested| rested.page != found.page);
        let known = self.found.len() as u64;
        match self.found.get(number as usize - 1).copied() {
            Some(before) if before != found => Some(format!("page {number} is not what it was")),
            None if number > known + 1 => Some(format!("page {number} follows page {known}")),
            Some(_) | None if rested => Some(format!("page {number} is not the one that an answer rested on")),
            Some(_) => None,
            None => {
                self.found.push(found);
                None
            }
        }
    }

    /// What is gone although it was durable: told once.
    fn lost(&mut self, pages: u64) -> Option<String> {
        let (durable, why) = (self.durable, self.why);
        if pages >= durable {
            return None;
        }
        (self.durable, self.head) = (pages, None);
        self.found.truncate(pages as usize);
        self.rested.retain(|number, _| *number <= pages);
        Some(format!("{pages} pages are durable, and page {durable} was to be: {why}"))
    }

    /// What was to be synced by now: told once.
    fn late(&mut self, pages: u64, looked: &Looked<'_>) -> Option<String> {
        if looked.failed || self.hindrances > 0 {
            return None;
        }
        let free = self.hindered_until;
        let is_late = |rested: &Rested| rested.at >= free && looked.at.saturating_sub(rested.at) > SYNCED_WITHIN;
        let number = self.rested.range(pages + 1..).find(|(_, rested)| is_late(rested)).map(|(number, _)| *number)?;
        let rested = self.rested.remove(&number)?;
        Some(format!("page {number} is not synced {:?} after an answer rested on it", looked.at - rested.at))
    }

    /// Whether the head that the ledger has says something else than the pages: told once.
    fn contradicted(&mut self) -> Option<String> {
        let head = self.head?.head;
        let found = self.found.get(usize::try_from(head.number).ok()?.checked_sub(1)?)?;
        if found.chained == head.hash {
            return None;
        }
        self.head = None;
        Some(format!("the ledger's head of page {} says something else than the pages", head.number))
    }
}

impl Reading {
    fn begin(key: &VerifyingKey) -> Reading {
        let (file, chained) = (String::new(), Digest([0; 32]));
        Reading { reader: BookReader::new(*key, None), file, offset: 0, pages: 0, chained }
    }

    /// Reads whatever is durable by now, page by page, each with its hash in the chain. Behind a file that is not synced
    /// to its end nothing is durable: a start would cut it off there.
    fn read_on(&mut self, disk: &SimDisk, each: &mut dyn FnMut(Page, Digest)) -> Result<(), BookBroken> {
        for synced in disk.synced_from(PREFIX, &self.file, self.offset) {
            if synced.name != self.file {
                if !self.file.is_empty() {
                    self.reader.next_file()?;
                }
                (self.file, self.offset) = (synced.name, 0);
            }
            self.offset += synced.bytes.len();
            let (pages, chained) = (&mut self.pages, &mut self.chained);
            self.reader.feed(&synced.bytes, &mut |page| {
                (*pages, *chained) = (page.number, sha256(&[PAGE_DOMAIN, &chained.0, &page.to_bytes()]));
                each(page, *chained);
            })?;
            if !synced.whole {
                break;
            }
        }
        Ok(())
    }
}

fn digest(page: &Page) -> Digest {
    sha256(&[&page.to_bytes()])
}

fn sorted(files: &[(String, Vec<u8>)]) -> Vec<&(String, Vec<u8>)> {
    let mut books: Vec<_> = files.iter().filter(|(name, _)| name.starts_with(PREFIX)).collect();
    books.sort();
    books
}

fn read(books: &[&(String, Vec<u8>)], key: &VerifyingKey) -> Result<u64, BookBroken> {
    let mut reader = BookReader::new(*key, None);
    let mut pages = 0;
    for (n, (_, bytes)) in books.iter().enumerate() {
        if n > 0 {
            reader.next_file()?;
        }
        reader.feed(bytes, &mut |_| pages += 1)?;
    }
    reader.finish();
    Ok(pages)
}

#[cfg(test)]
mod tests;
