//! A disk whose power is cut before one of its writes: nothing is written from then on, and what no sync had made durable is
//! there or is not.

use super::MemoryDisk;
use claviger_world::disk::{AppendFile, Batch, BoxFuture, Disk, DiskFailed, Pair, Reading, Space};
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

/// The disk, and how many writes are left.
#[derive(Clone)]
pub(super) struct Fuse(Arc<Parts>);

struct Parts {
    disk: Arc<MemoryDisk>,
    left: AtomicI64,
    /// Length of each file that a sync has made durable.
    synced: Mutex<BTreeMap<String, u64>>,
}

impl Fuse {
    /// A disk that takes so many writes, appends and syncs more.
    pub fn new(disk: Arc<MemoryDisk>, left: i64) -> Fuse {
        Fuse(Arc::new(Parts { disk, left: AtomicI64::new(left), synced: Mutex::default() }))
    }

    /// From now on it takes so many more.
    pub fn lasts(&self, left: i64) {
        self.0.left.store(left, Ordering::SeqCst);
    }

    /// Whether it was cut.
    pub fn blown(&self) -> bool {
        self.0.left.load(Ordering::SeqCst) < 0
    }

    /// Loses what was appended and not synced.
    pub fn lose_unsynced(&self) {
        let files = self.0.disk.1.lock();
        for (name, synced) in &*self.0.synced.lock() {
            if let Some(file) = files.get(name) {
                file.0.lock().truncate(*synced as usize);
            }
        }
    }

    fn burn(&self) -> Result<(), DiskFailed> {
        let left = self.0.left.fetch_sub(1, Ordering::SeqCst);
        let cut = DiskFailed { doing: "writing", cause: "the power is cut".into() };
        if left > 0 { Ok(()) } else { Err(cut) }
    }
}

impl Reading for Fuse {
    fn read(&self, space: Space, key: &[u8]) -> Result<Option<bytes::Bytes>, DiskFailed> {
        self.0.disk.read(space, key)
    }
    fn scan(&self, space: Space, from: &[u8], to: Option<&[u8]>, limit: usize) -> Result<Vec<Pair>, DiskFailed> {
        self.0.disk.scan(space, from, to, limit)
    }
}

impl Disk for Fuse {
    fn write(&self, batch: Batch) -> BoxFuture<'static, Result<(), DiskFailed>> {
        match self.burn() {
            Ok(()) => self.0.disk.write(batch),
            Err(cut) => Box::pin(async { Err(cut) }),
        }
    }
    fn pin(&self) -> Arc<dyn Reading> {
        self.0.disk.pin()
    }
    fn open(&self, name: &str) -> Result<Arc<dyn AppendFile>, DiskFailed> {
        let file = self.0.disk.open(name)?;
        self.0.synced.lock().entry(name.to_owned()).or_insert(file.len()?);
        Ok(Arc::new(FusedFile { fuse: self.clone(), name: name.to_owned(), file }))
    }
    fn files(&self) -> Result<Vec<String>, DiskFailed> {
        self.0.disk.files()
    }
    fn remove(&self, name: &str) -> Result<(), DiskFailed> {
        self.burn()?;
        self.0.disk.remove(name)
    }
}

struct FusedFile {
    fuse: Fuse,
    name: String,
    file: Arc<dyn AppendFile>,
}

impl AppendFile for FusedFile {
    fn append(&self, bytes: &[u8]) -> Result<(), DiskFailed> {
        self.fuse.burn()?;
        self.file.append(bytes)
    }
    fn sync(&self) -> BoxFuture<'static, Result<(), DiskFailed>> {
        if let Err(cut) = self.fuse.burn() {
            return Box::pin(async { Err(cut) });
        }
        let length = self.file.len().unwrap_or(0);
        self.fuse.0.synced.lock().insert(self.name.clone(), length);
        self.file.sync()
    }
    fn len(&self) -> Result<u64, DiskFailed> {
        self.file.len()
    }
    fn read_at(&self, offset: u64, count: usize) -> Result<Vec<u8>, DiskFailed> {
        self.file.read_at(offset, count)
    }
    fn cut(&self, length: u64) -> Result<(), DiskFailed> {
        self.fuse.burn()?;
        self.file.cut(length)
    }
}
