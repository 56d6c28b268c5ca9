//! The tables: one RocksDB, a column family for each space, options for small machines and for never losing a write.

use crate::folder::{Folder, OpenFailed};
use bytes::Bytes;
use claviger_world::disk::{Batch, Change, DiskFailed, Pair, Space};
use rocksdb::{
    BlockBasedOptions, Cache, ColumnFamily, ColumnFamilyDescriptor, DB, DBCompressionType, DBRecoveryMode, Direction,
    ErrorKind, IteratorMode, LogLevel, Options, ReadOptions, WriteBatch, WriteOptions,
};

/// Uncompressed blocks kept in memory, in bytes.
pub(crate) const BLOCK_CACHE_BYTES_MAX: usize = 64 << 20;
/// Unflushed writes kept in memory, of all spaces together, in bytes.
pub(crate) const MEMTABLES_BYTES_MAX: usize = 64 << 20;
/// One space's unflushed writes before it is flushed, in bytes.
const MEMTABLE_BYTES_MAX: usize = 16 << 20;
/// Write-ahead log before everything is flushed, in bytes: what a restart has to replay.
const WAL_BYTES_MAX: u64 = 128 << 20;
/// Table files held open, in number.
const OPEN_FILES_MAX: i32 = 512;

/// The database, with the folder that it stands in. The folder is given free after the database is closed.
pub(crate) struct Tables {
    db: DB,
    _folder: Folder,
}

impl Tables {
    /// Opens or makes the database in `tables/` of the folder.
    pub(crate) fn open(folder: Folder) -> Result<Tables, OpenFailed> {
        let path = folder.inner("tables")?;
        let cache = Cache::new_lru_cache(BLOCK_CACHE_BYTES_MAX);
        let families = Space::ALL.map(|s| ColumnFamilyDescriptor::new(family_name(s), family_options(&cache)));
        let default = ColumnFamilyDescriptor::new("default", family_options(&cache));
        let db = DB::open_cf_descriptors(&database_options(), &path, std::iter::once(default).chain(families));
        match db {
            Ok(db) => Ok(Tables { db, _folder: folder }),
            Err(e) => Err(told(&folder, &e)),
        }
    }

    /// The database itself.
    pub(crate) fn db(&self) -> &DB {
        &self.db
    }

    /// Writes batches in their order as one, and returns when the write-ahead log is synced.
    pub(crate) fn write(&self, group: &[Batch]) -> Result<(), DiskFailed> {
        let mut all = WriteBatch::default();
        for change in group.iter().flat_map(|b| &b.0) {
            match change {
                Change::Put(space, key, value) => all.put_cf(self.family(*space), key, value),
                Change::Delete(space, key) => all.delete_cf(self.family(*space), key),
                // RocksDB refuses a range that runs backwards, and with it the whole batch; ours is merely empty.
                Change::DeleteRange(_, from, to) if from >= to => {}
                Change::DeleteRange(space, from, to) => all.delete_range_cf(self.family(*space), from, to),
            }
        }
        let mut durably = WriteOptions::default();
        durably.set_sync(true);
        self.db.write_opt(all, &durably).map_err(|e| failed("writing a batch", &e))
    }

    /// The value at a key, as `options` see it.
    pub(crate) fn read(&self, options: &ReadOptions, space: Space, key: &[u8]) -> Result<Option<Bytes>, DiskFailed> {
        let value = self.db.get_pinned_cf_opt(self.family(space), key, options);
        Ok(value.map_err(|e| failed("reading a value", &e))?.map(|v| Bytes::copy_from_slice(&v)))
    }

    /// Up to `limit` pairs of `from..to`, as `options` see them.
    pub(crate) fn scan(
        &self,
        mut options: ReadOptions,
        space: Space,
        from: &[u8],
        to: Option<&[u8]>,
        limit: usize,
    ) -> Result<Vec<Pair>, DiskFailed> {
        match to {
            Some(to) if to <= from => return Ok(Vec::new()),
            Some(to) => options.set_iterate_upper_bound(to),
            None => {}
        }
        let pairs = self.db.iterator_cf_opt(self.family(space), options, IteratorMode::From(from, Direction::Forward));
        let pairs = pairs.take(limit).map(|pair| pair.map(|(key, value)| (Bytes::from(key), Bytes::from(value))));
        pairs.collect::<Result<_, _>>().map_err(|e| failed("scanning a space", &e))
    }

    fn family(&self, space: Space) -> &ColumnFamily {
        self.db.cf_handle(family_name(space)).expect("every space was opened with the database")
    }
}

/// The name of a space on disk. Never changes.
fn family_name(space: Space) -> &'static str {
    match space {
        Space::Node => "node",
        Space::Log => "log",
        Space::Raft => "raft",
        Space::Records => "records",
        Space::Machine => "machine",
        Space::RecordsOdd => "records-odd",
        Space::MachineOdd => "machine-odd",
    }
}

fn database_options() -> Options {
    let mut o = Options::default();
    o.create_if_missing(true);
    o.create_missing_column_families(true);
    // A torn last write is what a power cut leaves, and nobody was told that it was done. Anything else that is wrong
    // with the log is damage, and refused: the default mode would stop there and forget all that follows.
    o.set_wal_recovery_mode(DBRecoveryMode::TolerateCorruptedTailRecords);
    o.set_track_and_verify_wals_in_manifest(true);
    // With logs recycled, an old record behind the tail looks like a new one: the tail could not be told.
    o.set_recycle_log_file_num(0);
    o.set_paranoid_checks(true);
    o.set_atomic_flush(true);
    o.set_db_write_buffer_size(MEMTABLES_BYTES_MAX);
    o.set_max_total_wal_size(WAL_BYTES_MAX);
    o.set_max_open_files(OPEN_FILES_MAX);
    o.set_max_background_jobs(2);
    o.set_skip_stats_update_on_db_open(true);
    o.set_stats_dump_period_sec(0);
    o.set_log_level(LogLevel::Warn);
    o.set_keep_log_file_num(4);
    o.set_max_log_file_size(4 << 20);
    o
}

fn family_options(cache: &Cache) -> Options {
    let mut blocks = BlockBasedOptions::default();
    blocks.set_block_cache(cache);
    blocks.set_cache_index_and_filter_blocks(true);
    blocks.set_bloom_filter(10.0, false);
    let mut o = Options::default();
    o.set_block_based_table_factory(&blocks);
    o.set_write_buffer_size(MEMTABLE_BYTES_MAX);
    o.set_max_write_buffer_number(2);
    // Ciphertext does not compress.
    o.set_compression_type(DBCompressionType::None);
    o
}

fn told(folder: &Folder, cause: &rocksdb::Error) -> OpenFailed {
    let (path, cause) = (folder.path().to_owned(), (cause.kind(), cause.to_string()));
    match cause {
        (ErrorKind::Corruption | ErrorKind::InvalidArgument | ErrorKind::NotSupported, cause) => {
            OpenFailed::Damaged { folder: path, cause }
        }
        // The folder is there: it is a file of the database that is not.
        (ErrorKind::IOError, cause) if cause.contains("No such file") => OpenFailed::Damaged { folder: path, cause },
        (_, cause) => OpenFailed::System { path, doing: "cannot open the database in", cause },
    }
}

fn failed(doing: &'static str, cause: &rocksdb::Error) -> DiskFailed {
    DiskFailed { doing, cause: cause.to_string() }
}
