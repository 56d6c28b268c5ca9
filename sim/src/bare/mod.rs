//! The ledger alone, without the server above it: a small cluster for tests of what only a ledger can be asked, and a
//! smoke of half a minute.

pub mod cluster;
pub mod load;
pub mod smoke;
