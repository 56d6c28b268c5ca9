//! Snapshots: never a copy. The sender cuts a pinned view into chunks (`picture.rs`); the receiver puts each into the bank
//! that is not the state, durably, proves what lies there, and makes it the state by one small batch (`intake.rs`,
//! `store.rs`). What both have in common stands here.

use super::intake::Desk;
use super::picture::Picture;
use super::wire::Unreadable;
use super::{LeaderId, LogId, Membership, SnapshotMeta, StoredMembership};
use crate::machine::Machine;
use claviger_core::snapshot::{Ids, ImageTable, LogPlace, Members};
use claviger_world::disk::Space;
use openraft::{EmptyNode, LogId as RaftLogId};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use tokio::sync::OwnedMutexGuard;

/// What a snapshot's content is, on either side.
pub(crate) enum Image {
    /// A view of this node's own state.
    Own(Arc<Picture>),
    /// A state that came in and was proven.
    Proven(Box<Proven>),
}

/// A state that lies in the bank that is not the state, was read back and hashed anew there, and follows from this node's
/// lineage. Nothing else is put into that bank as long as this lives.
pub(crate) struct Proven {
    pub machine: Machine,
    pub desk: OwnedMutexGuard<Desk>,
}

/// The tables of an image, in its order, by the machine's names.
pub(crate) const TABLES: [(ImageTable, Space); 2] =
    [(ImageTable::Records, Space::Records), (ImageTable::Machine, Space::Machine)];

/// By the machine's name.
pub(crate) fn space_of(table: ImageTable) -> Space {
    match table {
        ImageTable::Records => Space::Records,
        ImageTable::Machine => Space::Machine,
    }
}

/// A place in the log, as a header says it.
pub(crate) fn place_of(id: &LogId) -> LogPlace {
    LogPlace { term: id.leader_id.term, leader: id.leader_id.node_id, index: id.index }
}

/// A membership, as a header says it.
pub(crate) fn members_of(stored: &StoredMembership) -> Members {
    let membership = stored.membership();
    let ids = |voters: &BTreeSet<u64>| Ids(voters.iter().copied().collect());
    Members {
        place: stored.log_id().as_ref().map(place_of),
        voters: membership.get_joint_config().iter().map(ids).collect(),
        nodes: Ids(membership.nodes().map(|(id, _)| *id).collect()),
    }
}

/// The same, as Raft has it.
pub(crate) fn id_of(place: &LogPlace) -> LogId {
    RaftLogId { leader_id: LeaderId { term: place.term, node_id: place.leader }, index: place.index }
}

/// What Raft is told of an image.
pub(crate) fn meta_of(last: &LogPlace, members: &Members) -> Result<SnapshotMeta, Unreadable> {
    let voters = members.voters.iter().map(|ids| ids.0.iter().copied().collect()).collect();
    let nodes: BTreeMap<u64, EmptyNode> = members.nodes.0.iter().map(|id| (*id, EmptyNode {})).collect();
    let membership = match (members.voters.is_empty(), nodes.is_empty()) {
        (true, true) => Membership::default(),
        (_, _) => Membership::new(voters, nodes).map_err(|_| Unreadable)?,
    };
    let last_membership = StoredMembership::new(members.place.as_ref().map(id_of), membership);
    Ok(SnapshotMeta { last_log_id: Some(id_of(last)), last_membership })
}
