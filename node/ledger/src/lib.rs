//! claviger-ledger: one order of transactions for all nodes, and reads that are as fresh as if there were only one.
//!
//! A transaction goes in with [`Ledger::propose`], is signed by the node's [`Author`], ordered by Raft through whoever
//! leads, and applied on every node alike; the proposer wakes when its *own* node has applied it. A reader takes
//! [`Ledger::barrier`], then [`Ledger::view`].
//!
//! The only crate that names openraft. What it must never contain: keys, plaintext, policy.

mod acquaint;
mod bank;
mod barrier;
mod company;
mod figures;
#[cfg(any(test, feature = "fuzz"))]
#[doc(hidden)]
pub mod fuzz;
mod hear;
mod image;
mod install;
mod keeper;
mod ledger;
mod machine;
mod mark;
mod node_files;
mod peers;
mod propose;
mod purge;
mod raft;
mod recall;
mod succession;
#[cfg(test)]
mod tests;
mod usher;
mod went_back;
mod witness;
mod words;

pub use company::Company;
pub use figures::Figures;
pub use image::Image;
pub use ledger::{Ledger, Met};
pub use machine::LedgerView;
pub use raft::restore::{RestoreFailed, Restored, Restoring};
pub use went_back::{Lost, WentBack};
pub(crate) use words::Halt;
pub use words::{
    Author, Fatal, InitializeFailed, LedgerConfig, Observer, PinRefused, Proof, ProposeFailed, RaftRole, Revision,
    StartFailed, Status, Timings, Unavailable, Unknown, World,
};
