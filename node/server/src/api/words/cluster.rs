//! The cluster's status.

use super::{Parsed, stamp, wanted};
use crate::service::{ClusterView, NodeView, RequestStamp, Retired};
use claviger_core::crypto::sha256;
use claviger_core::decide::{RoleAsk, TicketAsk};
use claviger_core::name::NodeId;
use claviger_core::roster::Role;
use claviger_core::ticket::Ticket;
use claviger_ledger::Restored;
use claviger_proto::peer::v1::{PeerSeal, StatusResponse};
use claviger_proto::v1;

pub(in crate::api) fn get_cluster_status(_: v1::GetClusterStatusRequest) -> Parsed<()> {
    Ok(())
}

pub(in crate::api) fn get_cluster_status_done(cluster: ClusterView) -> v1::GetClusterStatusResponse {
    v1::GetClusterStatusResponse {
        lineage: cluster.lineage.map_or_else(Vec::new, |l| l.0.to_vec()).into(),
        node: cluster.own.node.0,
        leader: cluster.own.leader.map_or(0, |n| n.0),
        term: cluster.own.term,
        nodes: cluster.nodes.into_iter().map(node_out).collect(),
        revision: cluster.own.revision.sequence,
        roster_epoch: cluster.roster_epoch,
        moving: cluster.own.moving,
    }
}

pub(in crate::api) fn save_snapshot(_: v1::SaveSnapshotRequest) -> Parsed<()> {
    Ok(())
}

pub(in crate::api) fn snapshot_piece(data: Vec<u8>) -> v1::SaveSnapshotResponse {
    v1::SaveSnapshotResponse { data: data.into() }
}

/// The bytes of one frame of a snapshot on its way in.
pub(in crate::api) fn restored_piece(frame: v1::RestoreSnapshotRequest) -> bytes::Bytes {
    frame.data
}

pub(in crate::api) fn restore_snapshot_done(restored: Restored) -> v1::RestoreSnapshotResponse {
    let header = restored.header;
    v1::RestoreSnapshotResponse {
        lineage: header.lineage.0.to_vec().into(),
        generation: header.generation,
        revision: header.sequence,
        image: header.image().0.to_vec().into(),
    }
}

fn node_out(node: NodeView) -> v1::NodeStatus {
    let reachable = node.said.is_some();
    let said = node.said.unwrap_or_else(|| StatusResponse { role: "unknown".into(), ..StatusResponse::default() });
    let state = match said.seal() {
        PeerSeal::Unspecified => v1::SealState::Unspecified,
        PeerSeal::Unfounded => v1::SealState::Uninitialized,
        PeerSeal::Sealed => v1::SealState::Sealed,
        PeerSeal::Open => v1::SealState::Open,
    };
    v1::NodeStatus {
        node: node.node.0,
        address: node.address,
        reachable,
        state: state.into(),
        role: said.role,
        term: said.term,
        last_log_index: said.last_log_index,
        applied_index: said.applied_index,
        revision: said.revision,
        version: said.version,
        pid: said.pid,
        wanted: node.line.as_ref().map_or(v1::MemberRole::Unspecified, |line| role_out(line.role)).into(),
        seated: node.votes.is_some(),
        votes: node.votes.unwrap_or(false),
        matched_index: node.matched.unwrap_or(0),
        key_hash: node.line.as_ref().map_or_else(Vec::new, |line| sha256(&[&line.key.0]).0.to_vec()).into(),
        disk: node.line.as_ref().map_or_else(Vec::new, |line| line.disk.0.to_vec()).into(),
        links: said.links,
    }
}

fn role_out(role: Role) -> v1::MemberRole {
    match role {
        Role::Voter => v1::MemberRole::Voter,
        Role::Learner => v1::MemberRole::Learner,
        Role::Retired => v1::MemberRole::Retired,
    }
}

pub(in crate::api) fn create_join_ticket(ask: v1::CreateJoinTicketRequest) -> Parsed<(TicketAsk, RequestStamp)> {
    let request = stamp(&ask.request_id, &ask)?;
    let good_for_ms = u64::from(ask.good_for_seconds) * 1_000;
    Ok((TicketAsk { node: NodeId(ask.node), good_for_ms }, request))
}

pub(in crate::api) fn create_join_ticket_done((ticket, revision): (Ticket, u64)) -> v1::CreateJoinTicketResponse {
    v1::CreateJoinTicketResponse { ticket: ticket.to_text(), expires_ms: ticket.expires.0, revision }
}

pub(in crate::api) fn set_member_role(ask: v1::SetMemberRoleRequest) -> Parsed<(RoleAsk, RequestStamp)> {
    let request = stamp(&ask.request_id, &ask)?;
    let role = match ask.role() {
        v1::MemberRole::Voter => Role::Voter,
        v1::MemberRole::Learner => Role::Learner,
        v1::MemberRole::Unspecified | v1::MemberRole::Retired => return Err(wanted("voter or learner")),
    };
    let in_place_of = (ask.in_place_of != 0).then_some(NodeId(ask.in_place_of));
    Ok((RoleAsk { node: NodeId(ask.node), role, in_place_of }, request))
}

pub(in crate::api) fn set_member_role_done((roster_epoch, revision): (u64, u64)) -> v1::SetMemberRoleResponse {
    v1::SetMemberRoleResponse { roster_epoch, revision }
}

pub(in crate::api) fn retire_member(ask: v1::RetireMemberRequest) -> Parsed<(NodeId, RequestStamp)> {
    let request = stamp(&ask.request_id, &ask)?;
    Ok((NodeId(ask.node), request))
}

pub(in crate::api) fn retire_member_done(retired: Retired) -> v1::RetireMemberResponse {
    let unconfirmed = retired.unconfirmed.iter().map(|node| node.0).collect();
    v1::RetireMemberResponse { roster_epoch: retired.epoch, unconfirmed, revision: retired.sequence }
}

pub(in crate::api) fn transfer_leader(_: v1::TransferLeaderRequest) -> Parsed<()> {
    Ok(())
}

pub(in crate::api) fn transfer_leader_done((): ()) -> v1::TransferLeaderResponse {
    v1::TransferLeaderResponse {}
}
