//! Pages of several attempts that end at once, and are written in one piece: a write of its own costs each as much as an
//! encryption.

use super::{Book, BookFailed};
use claviger_core::page::Page;
use parking_lot::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

/// The sheet that takes pages now, and how many are aboard of it or of those before.
#[derive(Default)]
pub(super) struct Gathering {
    current: Mutex<Arc<Sheet>>,
    aboard: AtomicUsize,
}

/// Pages that are written at once, and what came of it.
#[derive(Default)]
struct Sheet {
    pages: Mutex<Vec<Page>>,
    written: OnceLock<Result<(), BookFailed>>,
}

/// Somebody whose pages are on a sheet. Dropped, they are written all the same.
pub(super) struct Aboard<'a> {
    book: &'a Book,
    sheet: Arc<Sheet>,
}

impl Gathering {
    /// Puts pages on the sheet that nobody has written yet.
    pub fn join<'a>(&self, book: &'a Book, pages: Vec<Page>) -> Aboard<'a> {
        let current = self.current.lock();
        self.aboard.fetch_add(1, Ordering::Relaxed);
        current.pages.lock().extend(pages);
        Aboard { book, sheet: current.clone() }
    }

    /// Whether somebody is aboard.
    pub fn is_joined(&self) -> bool {
        self.aboard.load(Ordering::Relaxed) > 0
    }

    /// What was on a sheet, which takes nothing more from here on.
    fn take(&self, sheet: &Arc<Sheet>) -> Vec<Page> {
        let mut current = self.current.lock();
        if Arc::ptr_eq(&current, sheet) {
            *current = Arc::default();
        }
        std::mem::take(&mut sheet.pages.lock())
    }
}

impl Aboard<'_> {
    /// What came of writing the sheet. Whoever asks first writes it.
    pub fn written(&self) -> Result<(), BookFailed> {
        let write = || self.book.write_all(self.book.gathering.take(&self.sheet));
        self.sheet.written.get_or_init(write).clone()
    }
}

impl Drop for Aboard<'_> {
    fn drop(&mut self) {
        self.book.gathering.aboard.fetch_sub(1, Ordering::Relaxed);
        // Nobody is left to be told; a book that cannot be written refuses the next one.
        let _ = self.written();
    }
}

#[cfg(test)]
mod tests {
    use super::super::Writing;
    use super::*;
    use crate::memory::MemoryDisk;
    use claviger_core::name::NodeId;
    use claviger_core::page::{OutcomeWord, Position};
    use claviger_core::time::UnixMs;
    use claviger_world::disk::{AppendFile, BoxFuture, Disk, DiskFailed};
    use claviger_world::watch;
    use futures_util::FutureExt;
    use futures_util::future::join_all;

    /// A file that counts what is appended, and has room for so many pieces.
    struct Counted {
        appended: AtomicUsize,
        room: usize,
    }

    impl AppendFile for Counted {
        fn append(&self, _: &[u8]) -> Result<(), DiskFailed> {
            let room = self.appended.fetch_add(1, Ordering::Relaxed) < self.room;
            if room { Ok(()) } else { Err(DiskFailed { doing: "appending", cause: "no room".into() }) }
        }
        fn sync(&self) -> BoxFuture<'static, Result<(), DiskFailed>> {
            Box::pin(async { Ok(()) })
        }
        fn len(&self) -> Result<u64, DiskFailed> {
            Ok(0)
        }
        fn read_at(&self, _: u64, _: usize) -> Result<Vec<u8>, DiskFailed> {
            Ok(Vec::new())
        }
        fn cut(&self, _: u64) -> Result<(), DiskFailed> {
            Ok(())
        }
    }

    fn book(room: usize) -> (Book, Arc<Counted>) {
        let disk: Arc<dyn Disk> = Arc::new(MemoryDisk::default());
        let mut writing = Writing::begin(&*disk, Position::first(NodeId(1), None), 1).unwrap();
        let file = Arc::new(Counted { appended: AtomicUsize::new(0), room });
        writing.file = file.clone();
        let book =
            Book { disk, writing: Mutex::new(writing), newest: watch::channel(0).0, gathering: Gathering::default() };
        (book, file)
    }

    fn page(ms: u64) -> Page {
        Page::bare(NodeId(1), UnixMs(ms), OutcomeWord::Ok)
    }

    fn times(book: &Book) -> Vec<u64> {
        book.last(1).iter().map(|page| page.time.0).collect()
    }

    #[tokio::test]
    async fn who_end_at_once_share_a_write_in_the_order_that_they_came() {
        let (book, file) = book(2);
        let pages = [vec![page(1)], vec![page(2), page(3)], vec![page(4)]];
        let written = join_all(pages.map(|pages| book.write_together(pages))).await;
        assert!(written.iter().all(Result::is_ok));
        assert_eq!((times(&book), file.appended.load(Ordering::Relaxed)), (vec![1, 2, 3, 4], 1));
        book.write_together(vec![page(5)]).await.unwrap();
        assert_eq!((times(&book).len(), file.appended.load(Ordering::Relaxed)), (5, 2), "the next is another sheet");
    }

    #[tokio::test]
    async fn the_pages_of_who_left_are_written_all_the_same() {
        let (book, file) = book(1);
        let (mut leaves, mut stays) =
            (Box::pin(book.write_together(vec![page(1)])), book.write_together(vec![page(2)]).boxed());
        assert!(leaves.as_mut().now_or_never().is_none() && stays.as_mut().now_or_never().is_none());
        assert!(book.answers_follow());
        drop(leaves);
        assert_eq!(times(&book), [1, 2], "whoever leaves first writes for all");
        assert!(book.answers_follow(), "one still does");
        stays.await.unwrap();
        assert!(!book.answers_follow());
        assert_eq!(file.appended.load(Ordering::Relaxed), 1);
    }

    #[tokio::test]
    async fn where_they_cannot_be_written_everybody_hears_it() {
        let (book, _) = book(0);
        let written = join_all([page(1), page(2)].map(|page| book.write_together(vec![page]))).await;
        assert!(written.iter().all(Result::is_err) && times(&book).is_empty());
        assert!(book.write_together(vec![page(3)]).await.is_err() && book.failed());
    }
}
