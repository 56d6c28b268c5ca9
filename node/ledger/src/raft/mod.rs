//! openraft, and everything that has to know it: its types, its runtime, its log, its state machine's shell, its network.

pub(crate) mod extent;
pub(crate) mod intake;
pub(crate) mod log;
pub(crate) mod network;
pub(crate) mod picture;
pub(crate) mod restore;
mod runtime;
pub(crate) mod snapshot;
pub(crate) mod store;
mod tail;
pub(crate) mod wire;

use bytes::Bytes;
use claviger_core::mark::{Ballot, Position};
use claviger_core::name::NodeId;
use openraft::type_config::alias;
use std::fmt;

openraft::declare_raft_types!(
    /// The types that this cluster's Raft runs on.
    pub(crate) Types:
        D = Proposal,
        R = (),
        NodeId = u64,
        Node = openraft::EmptyNode,
        AsyncRuntime = runtime::Runtime,
);

/// A signed batch in its canonical form. Only the machine reads it.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Proposal(pub Bytes);

impl fmt::Debug for Proposal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes", self.0.len())
    }
}

impl fmt::Display for Proposal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

pub(crate) type Raft = openraft::Raft<Types, store::Store>;
pub(crate) type Watch = runtime::FairWatch;
pub(crate) type Entry = alias::EntryOf<Types>;
pub(crate) type LogId = alias::LogIdOf<Types>;
pub(crate) type Vote = alias::VoteOf<Types>;
pub(crate) type LeaderId = alias::LeaderIdOf<Types>;
pub(crate) type Membership = openraft::Membership<u64, openraft::EmptyNode>;
pub(crate) type StoredMembership = alias::StoredMembershipOf<Types>;
pub(crate) type SnapshotMeta = alias::SnapshotMetaOf<Types>;
pub(crate) type Snapshot = alias::SnapshotOf<Types, snapshot::Image>;

/// The leader of a vote, as the formats have it.
pub(crate) fn ballot(vote: &Vote) -> Ballot {
    ballot_of(&vote.leader_id)
}

/// A leader, as the formats have it.
pub(crate) fn ballot_of(id: &LeaderId) -> Ballot {
    Ballot { term: id.term, node: NodeId(id.node_id) }
}

/// A leader, as Raft has it.
pub(crate) fn leader_of(ballot: Ballot) -> LeaderId {
    LeaderId { term: ballot.term, node_id: ballot.node.0 }
}

/// A place in the log, as the formats have it.
pub(crate) fn position(id: &LogId) -> Position {
    Position { leader: ballot_of(&id.leader_id), index: id.index }
}
