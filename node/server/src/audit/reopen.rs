//! How a book is gone on with after a start: what a crash cut off is put right, what was changed is refused.
//!
//! Pages are durable when a sync has covered every file that they lie in. A crash before that may leave less of a file than
//! of the one after it: then whatever follows the cut was never durable, and goes. A second signed head behind the cut says
//! otherwise: between two heads there is a sync, so the cut was made by somebody, and the book is refused.

use super::{BookFailed, PREFIX, keep};
use claviger_core::crypto::SigningKey;
use claviger_core::name::Digest;
use claviger_core::page::{BookBroken, BookReader, BookSummary, BookWhy, Head, OutcomeWord, Page, Position};
use claviger_world::disk::{AppendFile, Disk};
use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;

/// What is read at once.
const CHUNK_BYTES: usize = 1 << 20;
/// Files that are looked back at, at most: so many are never begun between two syncs.
const FILES_MAX: usize = 16;
/// A file of that size was synced many times before the next was begun.
const LONG_BYTES: u64 = 1 << 20;

/// Where the book ended.
pub struct Ended {
    pub file: Arc<dyn AppendFile>,
    pub file_number: u64,
    pub bytes: u64,
    pub at: Position,
    /// Number of the last page that a head covers; one before the first that was read when there is none.
    pub signed: u64,
    /// The newest head of those files: the number of its page, and that page's hash.
    pub head: Option<(u64, Digest)>,
    pub last: VecDeque<Page>,
    pub intents: BTreeSet<Digest>,
}

/// One file, read to its end.
struct Read {
    name: String,
    file: Arc<dyn AppendFile>,
    summary: BookSummary,
    pages: VecDeque<Page>,
    intents: BTreeSet<Digest>,
}

/// Reads the end of the book. Nothing when there is none yet.
pub fn reopen(disk: &dyn Disk, key: &SigningKey) -> Result<Option<Ended>, BookFailed> {
    let mut files = VecDeque::new();
    let mut names = names(disk)?;
    while let Some(name) = names.pop() {
        files.push_front(Read::all(disk, name, BookReader::new(key.public(), None))?);
        let looked_far = files.len() > 1 && files[0].summary.whole_bytes >= LONG_BYTES;
        if looked_far || files.len() == FILES_MAX {
            break;
        }
    }
    let whole = whole(&files)?;
    let gone: Vec<Read> = files.drain(whole..).collect();
    if gone.iter().map(|file| file.summary.heads).sum::<u64>() > 1 {
        return Err(broken(files.back(), BookWhy::TornInside));
    }
    for Read { name, file, .. } in gone.into_iter().rev() {
        tracing::warn!(file = name, "an audit file is removed: a crash cut off what comes before it");
        // A file that somebody has open is not removed.
        drop(file);
        disk.remove(&name)?;
    }
    ended(files)
}

/// The files of the book, the newest last.
fn names(disk: &dyn Disk) -> Result<Vec<String>, BookFailed> {
    let mut names: Vec<String> = disk.files()?.into_iter().filter(|name| number(name).is_some()).collect();
    names.sort_unstable();
    Ok(names)
}

/// Whether the page that a head is about is in the files, with the hash that it says, and all that follows it.
pub fn holds(disk: &dyn Disk, key: &SigningKey, head: &Head) -> Result<bool, BookFailed> {
    let (mut names, mut after) = (names(disk)?, None::<Position>);
    while let Some(name) = names.pop() {
        let reader = BookReader::new(key.public(), None).seeking(head.number);
        let BookSummary { position, begins, first, found, .. } = Read::all(disk, name, reader)?.summary;
        let place = |at: Position| (at.next, at.hash);
        if after.is_some() && position.map(place) != after.map(place) {
            return Ok(false);
        }
        if found.is_some() || first <= head.number {
            return Ok(found == Some(head.hash));
        }
        after = begins;
    }
    Ok(false)
}

/// The number in a file's name: ten digits. Whatever else lies there is not the book's.
fn number(name: &str) -> Option<u64> {
    let digits = name.strip_prefix(PREFIX).filter(|rest| rest.len() == 10)?;
    digits.bytes().all(|b| b.is_ascii_digit()).then(|| digits.parse().ok()).flatten()
}

/// How many of the files follow each other without a cut.
fn whole(files: &VecDeque<Read>) -> Result<usize, BookFailed> {
    for (n, file) in files.iter().enumerate() {
        let Some(end) = file.summary.position else { return Ok(n) };
        let Some(next) = files.get(n + 1) else { return Ok(n + 1) };
        let Some(start) = next.summary.begins else { return Ok(n + 1) };
        if file.summary.torn || start.next > end.next {
            return Ok(n + 1);
        }
        if (start.next, start.hash) != (end.next, end.hash) {
            return Err(broken(Some(next), BookWhy::Gap));
        }
    }
    Ok(files.len())
}

fn broken(file: Option<&Read>, why: BookWhy) -> BookFailed {
    let page = file.and_then(|file| file.summary.position).map_or(1, |at| at.next);
    BookFailed::Broken(BookBroken { page, byte: file.map_or(0, |file| file.summary.whole_bytes), why })
}

fn ended(mut files: VecDeque<Read>) -> Result<Option<Ended>, BookFailed> {
    let (mut last, mut intents) = (VecDeque::new(), BTreeSet::new());
    // What lies before the first file that was read was signed long ago.
    let mut signed = files.front().map_or(0, |file| file.summary.first - 1);
    let mut head = None;
    for file in &mut files {
        file.pages.drain(..).for_each(|page| keep(&mut last, page));
        intents.append(&mut file.intents);
        signed = file.summary.head.map_or(signed, |head| head.head.number);
        head = file.summary.head.map(|signed| (signed.head.number, signed.head.hash)).or(head);
    }
    let Some(Read { name, file, summary, .. }) = files.pop_back() else { return Ok(None) };
    let Some(at) = summary.position else { return Ok(None) };
    if summary.torn {
        tracing::warn!(file = name, left_bytes = summary.whole_bytes, "the audit book's torn tail is cut off");
        file.cut(summary.whole_bytes)?;
    }
    let file_number = number(&name).expect("only such names were taken");
    Ok(Some(Ended { file, file_number, bytes: summary.whole_bytes, at, signed, head, last, intents }))
}

impl Read {
    fn all(disk: &dyn Disk, name: String, mut reader: BookReader) -> Result<Read, BookFailed> {
        let file = disk.open(&name)?;
        let (mut pages, mut intents) = (VecDeque::new(), BTreeSet::new());
        let mut each = |page: Page| {
            // Of a change that was answered otherwise the outcome may be another by now.
            intents.extend(page.intent.filter(|_| page.outcome == OutcomeWord::Ok));
            keep(&mut pages, page);
        };
        let mut offset = 0;
        loop {
            let chunk = file.read_at(offset, CHUNK_BYTES)?;
            if chunk.is_empty() {
                break;
            }
            offset += chunk.len() as u64;
            reader.feed(&chunk, &mut each).map_err(BookFailed::Broken)?;
        }
        let summary = reader.finish();
        Ok(Read { name, file, summary, pages, intents })
    }
}
