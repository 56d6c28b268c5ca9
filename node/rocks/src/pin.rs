//! A view that never changes: a RocksDB snapshot that keeps its database alive.

use crate::tables::Tables;
use bytes::Bytes;
use claviger_world::disk::{DiskFailed, Pair, Reading, Space};
use rocksdb::{DB, ReadOptions, Snapshot};
use std::sync::Arc;

/// One moment of the tables. RocksDB shows a write only after it is synced, so that everything in it is durable.
pub(crate) struct Pinned {
    // First, so that it is released before its database can go.
    snapshot: Snapshot<'static>,
    tables: Arc<Tables>,
}

impl Pinned {
    /// Takes the view.
    pub(crate) fn take(tables: &Arc<Tables>) -> Pinned {
        Pinned { snapshot: kept(tables).snapshot(), tables: tables.clone() }
    }

    fn options(&self) -> ReadOptions {
        let mut options = ReadOptions::default();
        options.set_snapshot(&self.snapshot);
        options
    }
}

impl Reading for Pinned {
    fn read(&self, space: Space, key: &[u8]) -> Result<Option<Bytes>, DiskFailed> {
        self.tables.read(&self.options(), space, key)
    }

    fn scan(&self, space: Space, from: &[u8], to: Option<&[u8]>, limit: usize) -> Result<Vec<Pair>, DiskFailed> {
        let mut options = self.options();
        // A snapshot is read once from end to end; it must not push what is in use out of the cache.
        options.fill_cache(false);
        self.tables.scan(options, space, from, to, limit)
    }
}

#[allow(unsafe_code, reason = "a snapshot borrows its database; safe Rust cannot say that both live in one value")]
fn kept(tables: &Arc<Tables>) -> &'static DB {
    let db: *const DB = tables.db();
    // SAFETY: the database does not move, for it stands behind the Arc; `Pinned` holds that Arc and drops the snapshot,
    // the only holder of this reference, before it. The reference never leaves `Pinned`.
    unsafe { &*db }
}
