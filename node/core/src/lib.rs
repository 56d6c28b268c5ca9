//! claviger-core: what is true about keys.
//!
//! Pure: no async, clock, disk, network or randomness of its own. Time and chance come in as values; what should
//! happen goes out as values. Everything that Raft orders, that a disk stores or that a custodian carries is a format
//! of this crate.

pub mod address;
pub mod barrier;
pub mod books;
pub mod ceremony;
pub mod chain;
pub mod chance;
pub mod codec;
pub mod crypto;
pub mod decide;
pub mod envelope;
pub mod failure;
#[cfg(any(test, feature = "fuzz"))]
#[doc(hidden)]
pub mod fuzz;
pub mod header;
pub mod kdf;
pub mod kem;
pub mod key;
pub mod keyring;
pub mod lthash;
pub mod mandate;
pub mod mark;
pub mod material;
pub mod mutants;
pub mod name;
pub mod page;
pub mod policy;
pub mod record;
pub mod roster;
pub mod secret;
pub mod share;
pub mod slot;
pub mod snapshot;
pub mod state;
pub mod ticket;
pub mod time;
pub mod transit;
pub mod txn;

/// Whether this build carries planted bugs for the simulator. The daemon refuses to compile when it is true.
pub const MUTANTS: bool = cfg!(feature = "mutants");
