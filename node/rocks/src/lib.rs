//! claviger-rocks: the node's disk, for real. Tables in one RocksDB, append-only files beside it, in a folder that one
//! process holds.
//!
//! The only crate that compiles RocksDB. Knows nothing of what it stores: no record, no log entry, no key; and never
//! tries again what failed once, for after a failed sync nobody knows what the disk holds.

mod disk;
mod files;
mod folder;
mod pin;
mod tables;
mod writer;

#[cfg(test)]
mod tests;

pub use disk::Rocks;
pub use folder::OpenFailed;
pub use writer::FatalHook;
