//! A book on files that are cut and changed behind its back, and opened again.

use super::reopen::reopen;
use super::{BookFailed, PREFIX, Writing};
use claviger_core::crypto::SigningKey;
use claviger_core::name::NodeId;
use claviger_core::page::{BookReader, BookWhy, OutcomeWord, Page, Position};
use claviger_core::time::UnixMs;
use claviger_world::disk::{AppendFile, Batch, BoxFuture, Disk, DiskFailed, Pair, Reading, Space};
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Files in memory.
#[derive(Clone, Default)]
struct Shelf(Arc<Mutex<BTreeMap<String, Arc<Sheet>>>>);

#[derive(Default)]
struct Sheet(Mutex<Vec<u8>>);

impl AppendFile for Sheet {
    fn append(&self, bytes: &[u8]) -> Result<(), DiskFailed> {
        self.0.lock().extend_from_slice(bytes);
        Ok(())
    }
    fn sync(&self) -> BoxFuture<'static, Result<(), DiskFailed>> {
        Box::pin(async { Ok(()) })
    }
    fn len(&self) -> Result<u64, DiskFailed> {
        Ok(self.0.lock().len() as u64)
    }
    fn read_at(&self, offset: u64, count: usize) -> Result<Vec<u8>, DiskFailed> {
        Ok(self.0.lock().iter().skip(offset as usize).take(count).copied().collect())
    }
    fn cut(&self, length: u64) -> Result<(), DiskFailed> {
        self.0.lock().truncate(length as usize);
        Ok(())
    }
}

impl Reading for Shelf {
    fn read(&self, _: Space, _: &[u8]) -> Result<Option<bytes::Bytes>, DiskFailed> {
        Ok(None)
    }
    fn scan(&self, _: Space, _: &[u8], _: Option<&[u8]>, _: usize) -> Result<Vec<Pair>, DiskFailed> {
        Ok(Vec::new())
    }
}

impl Disk for Shelf {
    fn write(&self, _: Batch) -> BoxFuture<'static, Result<(), DiskFailed>> {
        Box::pin(async { Err(DiskFailed { doing: "writing", cause: "there are only files here".into() }) })
    }
    fn pin(&self) -> Arc<dyn Reading> {
        Arc::new(self.clone())
    }
    fn open(&self, name: &str) -> Result<Arc<dyn AppendFile>, DiskFailed> {
        Ok(self.0.lock().entry(name.to_owned()).or_default().clone())
    }
    fn files(&self) -> Result<Vec<String>, DiskFailed> {
        Ok(self.0.lock().keys().cloned().collect())
    }
    fn remove(&self, name: &str) -> Result<(), DiskFailed> {
        self.0.lock().remove(name);
        Ok(())
    }
}

impl Shelf {
    /// A book of three files with two pages each; heads where `signed` says so, by the number of the page before it.
    fn written(signed: &[u64]) -> Shelf {
        let shelf = Shelf::default();
        let mut writing = Writing::begin(&shelf, Position::first(NodeId(1), None), 1).unwrap();
        for number in 1..=6 {
            writing.append(page()).unwrap();
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
        shelf
    }

    /// The same, with the bytes of a file changed.
    fn with(&self, file: u64, change: impl FnOnce(&mut Vec<u8>)) -> Shelf {
        let here = self.0.lock();
        let copied = here.iter().map(|(name, sheet)| (name.clone(), sheet.0.lock().clone()));
        let mut files: BTreeMap<String, Vec<u8>> = copied.collect();
        change(files.get_mut(&format!("{PREFIX}{file:010}")).unwrap());
        let sheets = files.into_iter().map(|(name, bytes)| (name, Arc::new(Sheet(Mutex::new(bytes)))));
        Shelf(Arc::new(Mutex::new(sheets.collect())))
    }

    fn file_bytes(&self, file: u64) -> usize {
        self.0.lock()[&format!("{PREFIX}{file:010}")].0.lock().len()
    }

    /// How many pages the whole book has, if it verifies.
    fn pages(&self) -> u64 {
        let mut reader = BookReader::new(key().public(), None);
        let mut pages = 0;
        for (n, sheet) in self.0.lock().values().enumerate() {
            if n > 0 {
                reader.next_file().unwrap();
            }
            reader.feed(&sheet.0.lock(), &mut |_| pages += 1).unwrap();
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
fn a_cut_anywhere_leaves_a_book_that_goes_on_and_verifies() {
    let whole = Shelf::written(&[1]);
    for file in 1..=3 {
        for length in 0..whole.file_bytes(file) {
            let shelf = whole.with(file, |bytes| bytes.truncate(length));
            let kept = match reopen(&shelf, &key()).unwrap() {
                Some(ended) => {
                    let kept = ended.at.next - 1;
                    Writing::go_on(ended).append(page()).unwrap();
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
    assert!(reopen(&shelf(&[3]), &key()).is_ok(), "that page and its head were never durable");
    for signed in [[3, 4], [4, 6], [5, 6]] {
        let refused = reopen(&shelf(&signed), &key());
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
            if let Ok(Some(ended)) = reopen(&shelf, &key()) {
                let kept = ended.at.next - 1;
                assert!(kept <= 2 * file, "file {file} changed at {at}: {kept} pages");
                drop(ended);
                assert_eq!(shelf.pages(), kept, "file {file} changed at {at}");
            }
        }
    }
}
