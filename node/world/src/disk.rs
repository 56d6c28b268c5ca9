//! The node's disk: ordered tables with atomic, durable batches, and append-only files.

use bytes::Bytes;
use std::{fmt, future::Future, pin::Pin, sync::Arc};

/// A future that a seam hands out.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Families of keys that are kept apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Space {
    /// What this node is: disk id, genesis, incarnation. Never part of a snapshot.
    Node = 0,
    /// Raft's log, by index.
    Log = 1,
    /// Raft's vote, committed and purged positions.
    Raft = 2,
    /// Records, by record key. Of two banks that take turns, this is the even one.
    Records = 3,
    /// The state machine's own memory: applied position, outcomes, tombstones, collection versions, hashes. The even bank.
    Machine = 4,
    /// The odd bank of `Records`: where a snapshot is put while the even one is the state, and the other way round.
    RecordsOdd = 5,
    /// The odd bank of `Machine`.
    MachineOdd = 6,
}

impl Space {
    /// All of them, in order.
    pub const ALL: [Space; 7] =
        [Space::Node, Space::Log, Space::Raft, Space::Records, Space::Machine, Space::RecordsOdd, Space::MachineOdd];
}

/// One change of a batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// Writes a value.
    Put(Space, Bytes, Bytes),
    /// Removes a value, which need not be there.
    Delete(Space, Bytes),
    /// Removes every key in `from..to`.
    DeleteRange(Space, Bytes, Bytes),
}

/// Changes that happen together or not at all, in their order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Batch(pub Vec<Change>);

impl Batch {
    /// Adds a write.
    pub fn put(&mut self, space: Space, key: impl Into<Bytes>, value: impl Into<Bytes>) -> &mut Self {
        self.0.push(Change::Put(space, key.into(), value.into()));
        self
    }
    /// Adds a removal.
    pub fn delete(&mut self, space: Space, key: impl Into<Bytes>) -> &mut Self {
        self.0.push(Change::Delete(space, key.into()));
        self
    }
    /// Adds the removal of `from..to`.
    pub fn delete_range(&mut self, space: Space, from: impl Into<Bytes>, to: impl Into<Bytes>) -> &mut Self {
        self.0.push(Change::DeleteRange(space, from.into(), to.into()));
        self
    }
    /// Whether there is nothing to do.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// The disk failed. There is no retry: a node whose write failed ends, and starts again from what is durable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DiskFailed {
    /// What was being done.
    pub doing: &'static str,
    /// What the system said.
    pub cause: String,
}

impl fmt::Display for DiskFailed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the disk failed while {}: {}", self.doing, self.cause)
    }
}

impl std::error::Error for DiskFailed {}

/// A key with its value.
pub type Pair = (Bytes, Bytes);

/// Something that can be read by key and in order.
pub trait Reading: Send + Sync {
    /// The value at `key`.
    fn read(&self, space: Space, key: &[u8]) -> Result<Option<Bytes>, DiskFailed>;

    /// Up to `limit` pairs with `from <= key < to`, in order of key. No `to` means to the end of the space.
    fn scan(&self, space: Space, from: &[u8], to: Option<&[u8]>, limit: usize) -> Result<Vec<Pair>, DiskFailed>;
}

/// The node's disk.
///
/// Contract, tested by [`contract`]: a batch is whole or absent, also after a crash; batches happen in the order that
/// `write` was *called* in (not first polled); a batch is durable, and can be read, when its future completes; a pinned
/// view never changes.
pub trait Disk: Reading + 'static {
    /// Queues a batch at once, and completes when it is durable. Dropping the future does not undo the batch.
    fn write(&self, batch: Batch) -> BoxFuture<'static, Result<(), DiskFailed>>;

    /// A view of everything that was durable when it was taken.
    fn pin(&self) -> Arc<dyn Reading>;

    /// Opens an append-only file, made when it is not there. Names match `[a-z0-9._-]+`.
    fn open(&self, name: &str) -> Result<Arc<dyn AppendFile>, DiskFailed>;

    /// Names of all append-only files, in order.
    fn files(&self) -> Result<Vec<String>, DiskFailed>;

    /// Removes an append-only file that nobody has open.
    fn remove(&self, name: &str) -> Result<(), DiskFailed>;
}

/// A file that only grows.
pub trait AppendFile: Send + Sync {
    /// Adds bytes at the end, in the order of the calls. Durable only after a later `sync` completes.
    fn append(&self, bytes: &[u8]) -> Result<(), DiskFailed>;

    /// Completes when everything appended before the call is durable.
    fn sync(&self) -> BoxFuture<'static, Result<(), DiskFailed>>;

    /// Length in bytes, unsynced ones too.
    fn len(&self) -> Result<u64, DiskFailed>;

    /// Whether nothing was ever appended.
    fn is_empty(&self) -> Result<bool, DiskFailed> {
        Ok(self.len()? == 0)
    }

    /// Up to `count` bytes from `offset`: fewer only at the end.
    fn read_at(&self, offset: u64, count: usize) -> Result<Vec<u8>, DiskFailed>;

    /// Cuts what follows `length`: for a torn tail, found at start, and nothing else.
    fn cut(&self, length: u64) -> Result<(), DiskFailed>;
}
