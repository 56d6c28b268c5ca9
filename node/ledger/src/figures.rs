//! What a ledger tells of itself in figures, for whoever watches it.
//!
//! Must not contain: anything that a decision rests on.

use crate::raft::{LogId, Types};
use claviger_core::name::NodeId;
use openraft::RaftMetrics;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// What happened since the process started.
#[derive(Default)]
pub(crate) struct Counts {
    snapshots_taken: AtomicU64,
    snapshots_installed: AtomicU64,
    snapshots_resumed: AtomicU64,
    snapshots_refused: AtomicU64,
    disputes: AtomicU64,
}

impl Counts {
    /// Raft has taken a snapshot of this node's state.
    pub fn snapshot_taken(&self) {
        self.snapshots_taken.fetch_add(1, Relaxed);
    }

    /// This node's state was replaced by another's.
    pub fn snapshot_installed(&self) {
        self.snapshots_installed.fetch_add(1, Relaxed);
    }

    /// A snapshot goes on where it was cut.
    pub fn snapshot_resumed(&self) {
        self.snapshots_resumed.fetch_add(1, Relaxed);
    }

    /// A snapshot that had come whole was not what it should be.
    pub fn snapshot_refused(&self) {
        self.snapshots_refused.fetch_add(1, Relaxed);
    }

    /// A voter was heard to have another state than this node.
    pub fn disputed(&self) {
        self.disputes.fetch_add(1, Relaxed);
    }
}

/// A ledger in figures, at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Figures {
    /// Who leads, as far as this node knows.
    pub leader: Option<NodeId>,
    /// Whether that is this node.
    pub leads: bool,
    /// The newest term that it knows.
    pub term: u64,
    /// Log index of the last entry that it has.
    pub last_log_index: u64,
    /// Log index of the last entry that it has applied.
    pub applied_index: u64,
    /// Entries that each other member is not known to have, if this node leads: one line for each, so as many as the
    /// cluster has members.
    pub peers_lag: BTreeMap<NodeId, u64>,
    /// Snapshots that Raft has taken of this node's state, since the process started.
    pub snapshots_taken: u64,
    /// Snapshots of other nodes that have replaced this node's state, since the process started.
    pub snapshots_installed: u64,
    /// Snapshots that went on where they were cut, since the process started.
    pub snapshots_resumed: u64,
    /// Snapshots that had come whole and were not what they should be, since the process started: its disk, or the sender's,
    /// is bad.
    pub snapshots_refused: u64,
    /// How often another voter was heard to have another state than this node as of the same entry, since the process
    /// started. There is no good reason for one.
    pub disputes: u64,
    /// Whether a founding is in the state.
    pub founded: bool,
}

impl Figures {
    /// From what Raft says of itself, and what was counted beside it.
    pub(crate) fn of(raft: &RaftMetrics<Types>, counts: &Counts, applied_index: u64, founded: bool) -> Figures {
        let last_log_index = raft.last_log_index.unwrap_or(0);
        let peers = raft.replication.iter().flatten().filter(|(node, _)| **node != raft.id);
        Figures {
            leader: raft.current_leader.map(NodeId),
            leads: raft.state.is_leader(),
            term: raft.current_term,
            last_log_index,
            applied_index,
            peers_lag: peers.map(|(node, matched)| (NodeId(*node), lag(last_log_index, matched.as_ref()))).collect(),
            snapshots_taken: counts.snapshots_taken.load(Relaxed),
            snapshots_installed: counts.snapshots_installed.load(Relaxed),
            snapshots_resumed: counts.snapshots_resumed.load(Relaxed),
            snapshots_refused: counts.snapshots_refused.load(Relaxed),
            disputes: counts.disputes.load(Relaxed),
            founded,
        }
    }
}

/// A member of which nothing is known yet has nothing.
fn lag(last: u64, matched: Option<&LogId>) -> u64 {
    last.saturating_sub(matched.map_or(0, |log_id| log_id.index))
}
