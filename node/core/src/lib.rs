//! claviger-core: what is true about keys.
//!
//! Pure: no async, clock, disk, network or randomness of its own. Time and chance come in as values; what should
//! happen goes out as values. Everything that Raft orders, that a disk stores or that a custodian carries is a format
//! of this crate.

pub mod chance;
pub mod codec;
pub mod header;
pub mod name;
pub mod record;
pub mod roster;
pub mod secret;
pub mod time;
pub mod txn;

/// Whether this build carries planted bugs for the simulator. The daemon refuses to compile when it is true.
pub const MUTANTS: bool = false;
