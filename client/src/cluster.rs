//! The cluster as its operator sees it: `claviger.v1.Cluster`.

use crate::call::{Client, Repeat, request_id};
use crate::error::Error;
use bytes::Bytes;
use claviger_proto::v1::{self, cluster_client::ClusterClient};

/// Status needs no quorum.
impl Client {
    /// Every node, as the one that answers can see it.
    pub async fn cluster_status(&self) -> Result<v1::GetClusterStatusResponse, Error> {
        let ask = v1::GetClusterStatusRequest {};
        self.call(Repeat::Always, ask, |channel, ask| async move {
            ClusterClient::new(channel).get_cluster_status(ask).await
        })
        .await
    }

    /// Asks a node, when it leads, to hand over to the follower that is furthest; `FailedPrecondition` elsewhere, so ask one
    /// node after the other ([`Client::each`]). Never sent twice: the second would ask the new leader.
    pub async fn transfer_leader(&self) -> Result<v1::TransferLeaderResponse, Error> {
        let ask = v1::TransferLeaderRequest {};
        self.call(
            Repeat::Unsent,
            ask,
            |channel, ask| async move { ClusterClient::new(channel).transfer_leader(ask).await },
        )
        .await
    }

    /// Leave for one node to join, under a number that no node ever had.
    pub async fn create_join_ticket(
        &self,
        node: u64,
        good_for_seconds: u32,
    ) -> Result<v1::CreateJoinTicketResponse, Error> {
        let ask = v1::CreateJoinTicketRequest { node, good_for_seconds, request_id: request_id(Bytes::new()) };
        self.call(Repeat::Always, ask, |channel, ask| async move {
            ClusterClient::new(channel).create_join_ticket(ask).await
        })
        .await
    }

    /// Makes a node a voter or a learner; `in_place_of`: a voter that becomes a learner in the same step, 0 for none. Raft's
    /// membership follows by itself: [`Client::cluster_status`] shows when it has.
    pub async fn set_member_role(
        &self,
        node: u64,
        role: v1::MemberRole,
        in_place_of: u64,
    ) -> Result<v1::SetMemberRoleResponse, Error> {
        let (role, request_id) = (role.into(), request_id(Bytes::new()));
        let ask = v1::SetMemberRoleRequest { node, role, in_place_of, request_id };
        self.call(
            Repeat::Always,
            ask,
            |channel, ask| async move { ClusterClient::new(channel).set_member_role(ask).await },
        )
        .await
    }

    /// Retires a learner for ever. Where a node does not confirm it, the answer takes some six seconds: a third of the
    /// client's deadline, which is what one node is given to answer, must be longer than that.
    pub async fn retire_member(&self, node: u64) -> Result<v1::RetireMemberResponse, Error> {
        let ask = v1::RetireMemberRequest { node, request_id: request_id(Bytes::new()) };
        self.call(
            Repeat::Always,
            ask,
            |channel, ask| async move { ClusterClient::new(channel).retire_member(ask).await },
        )
        .await
    }
}
