//! A book on files that are cut and changed behind its back, and opened again.

use super::reopen::{holds, reopen};
use super::{BookFailed, PREFIX, Writing};
use crate::memory::MemoryDisk;
use claviger_core::crypto::SigningKey;
use claviger_core::name::NodeId;
use claviger_core::page::{BookReader, BookWhy, Head, OutcomeWord, Page, Position};
use claviger_core::time::UnixMs;

/// A disk with nothing but a book.
struct Shelf(MemoryDisk);

impl Shelf {
    /// A book of three files with two pages each; heads where `signed` says so, by the number of the page before it.
    fn written(signed: &[u64]) -> Shelf {
        Shelf::dated(signed, 1)
    }

    fn dated(signed: &[u64], time: u64) -> Shelf {
        let shelf = MemoryDisk::default();
        let mut writing = Writing::begin(&shelf, Position::first(NodeId(1), None), 1).unwrap();
        for number in 1..=6 {
            writing.append([Page { time: UnixMs(time), ..page() }]).unwrap();
            if signed.contains(&number) {
                let mut frame = Vec::new();
                writing.writer.sign(&key(), UnixMs(number), &mut frame);
                writing.put(&frame).unwrap();
            }
            if number == 2 || number == 4 {
                let at = *writing.writer.position();
                writing.turn_over(&shelf, at).unwrap();
            }
        }
        Shelf(shelf)
    }

    /// The same, with the bytes of a file changed.
    fn with(&self, file: u64, change: impl FnOnce(&mut Vec<u8>)) -> Shelf {
        let mut files = self.0.contents();
        change(files.get_mut(&format!("{PREFIX}{file:010}")).unwrap());
        Shelf(MemoryDisk::of_files(files))
    }

    fn file_bytes(&self, file: u64) -> usize {
        self.0.contents()[&format!("{PREFIX}{file:010}")].len()
    }

    /// What a head of that page would say.
    fn head(&self, number: u64) -> Head {
        let mut reader = BookReader::new(key().public(), None).seeking(number);
        for (n, file) in self.0.contents().values().enumerate() {
            if n > 0 {
                reader.next_file().unwrap();
            }
            reader.feed(file, &mut |_| {}).unwrap();
        }
        Head { node: NodeId(1), lineage: None, number, hash: reader.finish().found.unwrap(), time: UnixMs(1) }
    }

    /// How many pages the whole book has, if it verifies.
    fn pages(&self) -> u64 {
        let mut reader = BookReader::new(key().public(), None);
        let mut pages = 0;
        for (n, file) in self.0.contents().values().enumerate() {
            if n > 0 {
                reader.next_file().unwrap();
            }
            reader.feed(file, &mut |_| pages += 1).unwrap();
        }
        assert!(!reader.finish().torn);
        pages
    }
}

fn key() -> SigningKey {
    SigningKey::from_seed(claviger_core::secret::Secret32::copy_from(&[7; 32]).unwrap())
}

fn page() -> Page {
    Page::bare(NodeId(1), UnixMs(1), OutcomeWord::Ok)
}

#[test]
fn only_the_book_that_a_head_was_signed_of_holds_it() {
    let (book, other) = (Shelf::written(&[1, 5]), Shelf::dated(&[6], 2));
    let held = |shelf: &Shelf, head: &Head| holds(&shelf.0, &key(), head).unwrap();
    for number in 1..=6 {
        let head = book.head(number);
        assert!(held(&book, &head) && !held(&other, &head), "page {number}");
        let without = |file: u64| {
            Shelf(MemoryDisk::of_files({
                let mut files = book.0.contents();
                files.remove(&format!("{PREFIX}{file:010}"));
                files
            }))
        };
        assert_eq!(held(&without(1), &head), number > 2, "pages 1 and 2 are in the first file");
        assert_eq!(held(&without(2), &head), number > 4, "what is before a gap is nobody's");
        assert_eq!(held(&without(3), &head), number < 5);
    }
    assert!(!held(&book, &Head { number: 7, ..book.head(6) }));
}

#[test]
fn a_cut_anywhere_leaves_a_book_that_goes_on_and_verifies() {
    let whole = Shelf::written(&[1]);
    for file in 1..=3 {
        for length in 0..whole.file_bytes(file) {
            let shelf = whole.with(file, |bytes| bytes.truncate(length));
            let kept = match reopen(&shelf.0, &key()).unwrap() {
                Some(ended) => {
                    let kept = ended.at.next - 1;
                    Writing::go_on(ended).append([page()]).unwrap();
                    kept
                }
                None => continue, // not even the beginning of the first file is left
            };
            let least = 2 * (file - 1);
            assert!((least..=least + 2).contains(&kept), "file {file} cut at {length}: {kept} pages");
            assert_eq!(shelf.pages(), kept + 1, "file {file} cut at {length}");
        }
    }
}

#[test]
fn a_cut_with_two_heads_behind_it_is_refused() {
    let shelf = |signed: &[u64]| Shelf::written(signed).with(1, |bytes| bytes.truncate(bytes.len() - 1));
    assert!(reopen(&shelf(&[3]).0, &key()).is_ok(), "that page and its head were never durable");
    for signed in [[3, 4], [4, 6], [5, 6]] {
        let refused = reopen(&shelf(&signed).0, &key());
        let why = refused.err().map(|why| match why {
            BookFailed::Broken(broken) => broken.why,
            BookFailed::Disk(why) => panic!("{why}"),
        });
        assert_eq!(why, Some(BookWhy::TornInside), "heads after {signed:?}");
    }
}

#[test]
fn a_changed_byte_is_refused_or_cut_off_and_never_believed() {
    let whole = Shelf::written(&[2, 4, 6]);
    for file in 1..=3 {
        for at in 0..whole.file_bytes(file) {
            let shelf = whole.with(file, |bytes| bytes[at] ^= 0x10);
            if let Ok(Some(ended)) = reopen(&shelf.0, &key()) {
                let kept = ended.at.next - 1;
                assert!(kept <= 2 * file, "file {file} changed at {at}: {kept} pages");
                drop(ended);
                assert_eq!(shelf.pages(), kept, "file {file} changed at {at}");
            }
        }
    }
}
