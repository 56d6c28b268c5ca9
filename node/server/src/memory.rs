//! A disk in memory, for the tests of this crate.

use claviger_world::disk::{AppendFile, Batch, BoxFuture, Change, Disk, DiskFailed, Pair, Reading, Space};
use claviger_world::runtime;
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;
use std::time::Duration;

type Pairs = BTreeMap<(Space, bytes::Bytes), bytes::Bytes>;

/// A disk in memory. Every write takes a millisecond.
#[derive(Default)]
pub(crate) struct MemoryDisk {
    pairs: Mutex<Pairs>,
    files: Mutex<BTreeMap<String, Arc<MemoryFile>>>,
}

impl MemoryDisk {
    /// A disk that holds these files, and nothing else.
    pub(crate) fn of_files(files: BTreeMap<String, Vec<u8>>) -> MemoryDisk {
        let file = |(name, bytes)| (name, Arc::new(MemoryFile(Mutex::new(bytes))));
        MemoryDisk { pairs: Mutex::default(), files: Mutex::new(files.into_iter().map(file).collect()) }
    }

    /// What its files hold, by their names.
    pub(crate) fn contents(&self) -> BTreeMap<String, Vec<u8>> {
        self.files.lock().iter().map(|(name, file)| (name.clone(), file.0.lock().clone())).collect()
    }
}

struct Pinned(Pairs);

impl Reading for Pinned {
    fn read(&self, space: Space, key: &[u8]) -> Result<Option<bytes::Bytes>, DiskFailed> {
        Ok(self.0.get(&(space, bytes::Bytes::copy_from_slice(key))).cloned())
    }
    fn scan(&self, space: Space, from: &[u8], to: Option<&[u8]>, limit: usize) -> Result<Vec<Pair>, DiskFailed> {
        Ok(scan(&self.0, space, from, to, limit))
    }
}

fn scan(pairs: &Pairs, space: Space, from: &[u8], to: Option<&[u8]>, limit: usize) -> Vec<Pair> {
    let from = Bound::Included((space, bytes::Bytes::copy_from_slice(from)));
    let inside = |key: &bytes::Bytes| to.is_none_or(|to| key[..] < *to);
    let found = pairs.range((from, Bound::Unbounded)).take_while(|((s, k), _)| *s == space && inside(k));
    found.take(limit).map(|((_, k), v)| (k.clone(), v.clone())).collect()
}

impl Reading for MemoryDisk {
    fn read(&self, space: Space, key: &[u8]) -> Result<Option<bytes::Bytes>, DiskFailed> {
        Ok(self.pairs.lock().get(&(space, bytes::Bytes::copy_from_slice(key))).cloned())
    }
    fn scan(&self, space: Space, from: &[u8], to: Option<&[u8]>, limit: usize) -> Result<Vec<Pair>, DiskFailed> {
        Ok(scan(&self.pairs.lock(), space, from, to, limit))
    }
}

impl Disk for MemoryDisk {
    fn write(&self, batch: Batch) -> BoxFuture<'static, Result<(), DiskFailed>> {
        let mut pairs = self.pairs.lock();
        for change in batch.0 {
            match change {
                Change::Put(space, key, value) => drop(pairs.insert((space, key), value)),
                Change::Delete(space, key) => drop(pairs.remove(&(space, key))),
                Change::DeleteRange(space, from, to) => {
                    pairs.retain(|(s, key), _| *s != space || *key < from || *key >= to);
                }
            }
        }
        Box::pin(async {
            runtime::sleep(Duration::from_millis(1)).await;
            Ok(())
        })
    }
    fn pin(&self) -> Arc<dyn Reading> {
        Arc::new(Pinned(self.pairs.lock().clone()))
    }
    fn open(&self, name: &str) -> Result<Arc<dyn AppendFile>, DiskFailed> {
        Ok(self.files.lock().entry(name.to_owned()).or_default().clone())
    }
    fn files(&self) -> Result<Vec<String>, DiskFailed> {
        Ok(self.files.lock().keys().cloned().collect())
    }
    fn remove(&self, name: &str) -> Result<(), DiskFailed> {
        self.files.lock().remove(name);
        Ok(())
    }
}

#[derive(Default)]
struct MemoryFile(Mutex<Vec<u8>>);

impl AppendFile for MemoryFile {
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
