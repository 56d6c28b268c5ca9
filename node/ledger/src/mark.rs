//! The second small file: marks of how far log and vote are durable, written after they are, so that a mark never claims
//! what is not. A vote's mark is durable before the vote is told to anybody, and a truncation's before the log is cut; that
//! of an append follows within [`MARK_MS_MAX`], and no append waits for it.
//!
//! One mark at a time is written and synced, so that a crash tears the last one at most: any other that cannot be read was
//! damaged.

use crate::went_back::{log_lost, vote_lost};
use crate::{Lost, StartFailed, WentBack};
use claviger_core::codec::Canonical;
use claviger_core::mark::{Ballot, MARK_BYTES, Mark, Position};
use claviger_core::name::DiskId;
use claviger_core::planted;
use claviger_world::disk::{AppendFile, Disk, DiskFailed};
use std::sync::Arc;
use tokio::sync::Mutex;

/// Longest that the mark of an append is put off, in milliseconds, by a disk that is not slower than that.
pub(crate) const MARK_MS_MAX: u64 = 250;
/// Length after which the marks go on in the other file, in bytes.
const FILE_BYTES_MAX: usize = 600 * MARK_BYTES;
/// The two files: one holds marks, the other is there only while they move.
const NAMES: [&str; 2] = ["mark-1", "mark-2"];

/// What a mark says of log and vote.
pub(crate) type Reach = (Option<Ballot>, Option<Position>);

/// How much a mark matters.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Need {
    /// Nothing goes on without it.
    Now,
    /// Where there is no room for it, a later one will do.
    Soon,
}

/// The file's writer.
pub(crate) struct Marker {
    disk: Arc<dyn Disk>,
    found: Option<Mark>,
    book: Mutex<Book>,
}

#[derive(Default)]
struct Book {
    shelf: Option<Shelf>,
    /// The last mark that was written.
    mark: Option<Mark>,
    /// Whether that is durable.
    synced: bool,
}

/// An open file.
struct Shelf {
    place: usize,
    file: Arc<dyn AppendFile>,
    /// Its length in bytes, as far as it holds whole marks.
    length: usize,
}

impl Marker {
    /// Reads what the file holds, and writes nothing.
    pub fn open(disk: Arc<dyn Disk>) -> Result<Marker, StartFailed> {
        let names = disk.files().map_err(StartFailed::Disk)?;
        let mut newest: Option<(Mark, Shelf)> = None;
        for (place, mine) in NAMES.iter().enumerate() {
            if !names.iter().any(|name| name == mine) {
                continue;
            }
            let (mark, shelf) = read(&*disk, place)?;
            let number = newest.as_ref().map(|(mark, _)| mark.number);
            if let Some(mark) = mark.filter(|mark| Some(mark.number) > number) {
                newest = Some((mark, shelf));
            }
        }
        let (found, shelf) = newest.unzip();
        Ok(Marker { disk, found, book: Mutex::new(Book { shelf, mark: found, synced: true }) })
    }

    /// The last mark, as it was found.
    pub fn found(&self) -> Option<Mark> {
        self.found
    }

    /// Makes the file ready for more: without its torn end, or new. `blank`: the tables are, or are about to be made, as new.
    pub async fn prepare(&self, disk: DiskId, blank: bool) -> Result<(), DiskFailed> {
        let mut book = self.book.lock().await;
        match &book.shelf {
            Some(shelf) => shelf.file.cut(shelf.length as u64)?,
            None => book.shelf = Some(self.empty(0)?),
        }
        let other = NAMES[1 - book.shelf.as_ref().map_or(0, |shelf| shelf.place)];
        if self.disk.files()?.iter().any(|name| name == other) {
            self.disk.remove(other)?;
        }
        if blank {
            self.add(&mut book, Mark::blank(disk))?;
        }
        self.settle(&mut book).await
    }

    /// Writes that the node has started on this disk so often.
    pub async fn begin(&self, incarnation: u64, reach: Reach) -> Result<(), DiskFailed> {
        let mut book = self.book.lock().await;
        if let Some(mark) = book.mark {
            self.add(&mut book, Mark { incarnation, vote: reach.0, last: reach.1, ..mark })?;
        }
        self.settle(&mut book).await
    }

    /// Writes how far log and vote are durable, as `reach` has it when it is this mark's turn. Durable when it completes.
    pub async fn record(&self, need: Need, reach: impl FnOnce() -> Reach + Send) -> Result<(), DiskFailed> {
        let mut book = self.book.lock().await;
        let Some(mark) = book.mark else { return Ok(()) };
        let (vote, last) = reach();
        if (vote, last) != (mark.vote, mark.last) {
            let written = self.add(&mut book, Mark { vote, last, ..mark });
            match (written, need) {
                (Ok(()), _) => {}
                (Err(failed), Need::Now) => return Err(failed),
                (Err(failed), Need::Soon) => {
                    tracing::warn!(%failed, "the mark of the log lags behind");
                    return Ok(());
                }
            }
        }
        self.settle(&mut book).await
    }

    fn add(&self, book: &mut Book, mark: Mark) -> Result<(), DiskFailed> {
        self.turn_over(book)?;
        book.write(mark)
    }

    async fn settle(&self, book: &mut Book) -> Result<(), DiskFailed> {
        book.sync().await?;
        self.drop_old(book)
    }

    /// Goes on in the other file, when this one is long.
    fn turn_over(&self, book: &mut Book) -> Result<(), DiskFailed> {
        let Some(shelf) = book.shelf.as_ref().filter(|shelf| shelf.length >= FILE_BYTES_MAX) else { return Ok(()) };
        book.shelf = Some(self.empty(1 - shelf.place)?);
        Ok(())
    }

    /// Removes the other file, once this one has a durable mark.
    fn drop_old(&self, book: &Book) -> Result<(), DiskFailed> {
        match &book.shelf {
            Some(shelf) if shelf.length == MARK_BYTES => {
                let old = NAMES[1 - shelf.place];
                let there = self.disk.files()?.iter().any(|name| name == old);
                if there { self.disk.remove(old) } else { Ok(()) }
            }
            Some(_) | None => Ok(()),
        }
    }

    fn empty(&self, place: usize) -> Result<Shelf, DiskFailed> {
        let file = self.disk.open(NAMES[place])?;
        file.cut(0)?;
        Ok(Shelf { place, file, length: 0 })
    }
}

impl Book {
    /// Adds a mark, under the next number.
    fn write(&mut self, mark: Mark) -> Result<(), DiskFailed> {
        let mark = Mark { number: self.mark.map_or(1, |last| last.number + 1), ..mark };
        if let Some(shelf) = &mut self.shelf {
            shelf.file.append(&mark.to_bytes())?;
            shelf.length += MARK_BYTES;
            (self.mark, self.synced) = (Some(mark), false);
        }
        Ok(())
    }

    async fn sync(&mut self) -> Result<(), DiskFailed> {
        if let Some(shelf) = self.shelf.as_ref().filter(|_| !self.synced) {
            shelf.file.sync().await?;
            self.synced = true;
        }
        Ok(())
    }
}

/// Compares what a start has found of itself, `disk` (its id, and how often it was started on) and log, with the mark.
pub(crate) fn compare(disk: Option<(DiskId, u64)>, mark: Option<Mark>, held: Reach) -> Result<(), StartFailed> {
    if planted!(MarkNotRead) {
        return Ok(());
    }
    let (mark, starts) = match (disk, mark) {
        (None, None) => return Ok(()),
        (None, Some(mark)) if mark.is_blank() => return Ok(()), // a first start that was cut short
        (None, Some(_)) => return Err(StartFailed::Damaged("its tables are gone, and their mark is there")),
        (Some(_), None) => return Err(StartFailed::Damaged("the mark of the log is gone")),
        (Some((disk, _)), Some(mark)) if mark.disk != disk => {
            return Err(StartFailed::Damaged("the mark is of another disk"));
        }
        (Some((_, starts)), Some(mark)) => (mark, starts),
    };
    let start = (mark.incarnation > starts).then_some(Lost::Start { held: starts, known: mark.incarnation });
    let lost = start.or(vote_lost(held.0, mark.vote)).or(log_lost(held.1, mark.last));
    lost.map_or(Ok(()), |lost| Err(StartFailed::WentBack(WentBack { known_by: None, lost })))
}

fn read(disk: &dyn Disk, place: usize) -> Result<(Option<Mark>, Shelf), StartFailed> {
    let file = disk.open(NAMES[place]).map_err(StartFailed::Disk)?;
    let bytes = file.read_at(0, FILE_BYTES_MAX + 2 * MARK_BYTES).map_err(StartFailed::Disk)?;
    let (mark, whole) = last_of(&bytes).ok_or(StartFailed::Damaged("the marks of the log"))?;
    Ok((mark, Shelf { place, file, length: whole * MARK_BYTES }))
}

/// The last mark, and how many there are. None when one is damaged: all but the last can be read, and follow one another.
fn last_of(bytes: &[u8]) -> Option<(Option<Mark>, usize)> {
    if bytes.len() > FILE_BYTES_MAX + MARK_BYTES {
        return None;
    }
    let (mut last, mut whole) = (None::<Mark>, 0);
    for piece in bytes.chunks(MARK_BYTES) {
        let mark = Mark::from_bytes(piece).ok();
        let follows = |mark: &Mark| last.is_none_or(|last| last.number + 1 == mark.number);
        match mark.filter(follows) {
            Some(mark) => (last, whole) = (Some(mark), whole + 1),
            None => break,
        }
    }
    let torn = bytes.len() - whole * MARK_BYTES;
    if torn > 0 && torn <= MARK_BYTES {
        tracing::warn!(torn, "the last mark of the log was torn");
    }
    (torn <= MARK_BYTES).then_some((last, whole))
}

#[cfg(test)]
mod tests;
