//! The cluster's status.

use super::Parsed;
use crate::service::{ClusterView, NodeView};
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
    }
}

pub(in crate::api) fn transfer_leader(_: v1::TransferLeaderRequest) -> Parsed<()> {
    Ok(())
}

pub(in crate::api) fn transfer_leader_done((): ()) -> v1::TransferLeaderResponse {
    v1::TransferLeaderResponse {}
}
