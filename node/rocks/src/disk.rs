//! The seam: tables, writer and files put together as the node's disk.

use crate::{
    files::Files,
    folder::{Folder, OpenFailed, system},
    pin::Pinned,
    tables::Tables,
    writer::{FatalHook, Sink, Writer},
};
use bytes::Bytes;
use claviger_world::disk::{AppendFile, Batch, BoxFuture, Disk, DiskFailed, Pair, Reading, Space};
use rocksdb::ReadOptions;
use std::{io, path::Path, path::PathBuf, sync::Arc};

/// The node's disk in one folder: `tables/` (RocksDB), `files/` (append-only), `lock`.
pub struct Rocks {
    // First, so that what is queued is written before anything closes.
    writer: Writer,
    tables: Arc<Tables>,
    files: Files,
    path: PathBuf,
}

impl Rocks {
    /// Opens the folder, made when it is not there, mode 0700. `fatal` is told when a write has failed; every write
    /// from then on fails.
    ///
    /// # Errors
    /// `Held` when another process has the folder, `Damaged` when the log is broken anywhere but at its torn end.
    pub fn open(path: &Path, fatal: FatalHook) -> Result<Rocks, OpenFailed> {
        let folder = Folder::take(path)?;
        let files = Files::new(folder.inner("files")?);
        let tables = Arc::new(Tables::open(folder)?);
        let writer = Writer::start(SyncedTables(tables.clone()), fatal);
        let writer = writer.map_err(|e| system(path, "cannot start the writer of", &e))?;
        Ok(Rocks { writer, tables, files, path: path.to_owned() })
    }

    /// Bytes that are free for this process on the disk under the folder: an operator wants to know before it is full.
    pub fn free_bytes(&self) -> io::Result<u64> {
        let fs = rustix::fs::statvfs(&self.path)?;
        Ok(fs.f_bavail.saturating_mul(fs.f_frsize))
    }
}

struct SyncedTables(Arc<Tables>);

impl Sink for SyncedTables {
    fn write(&mut self, group: &[Batch]) -> Result<(), DiskFailed> {
        self.0.write(group)
    }
}

impl Reading for Rocks {
    fn read(&self, space: Space, key: &[u8]) -> Result<Option<Bytes>, DiskFailed> {
        self.tables.read(&ReadOptions::default(), space, key)
    }

    fn scan(&self, space: Space, from: &[u8], to: Option<&[u8]>, limit: usize) -> Result<Vec<Pair>, DiskFailed> {
        self.tables.scan(ReadOptions::default(), space, from, to, limit)
    }
}

impl Disk for Rocks {
    fn write(&self, batch: Batch) -> BoxFuture<'static, Result<(), DiskFailed>> {
        self.writer.write(batch)
    }

    fn pin(&self) -> Arc<dyn Reading> {
        Arc::new(Pinned::take(&self.tables))
    }

    fn open(&self, name: &str) -> Result<Arc<dyn AppendFile>, DiskFailed> {
        Ok(self.files.open(name)?)
    }

    fn files(&self) -> Result<Vec<String>, DiskFailed> {
        self.files.names()
    }

    fn remove(&self, name: &str) -> Result<(), DiskFailed> {
        self.files.remove(name)
    }
}
