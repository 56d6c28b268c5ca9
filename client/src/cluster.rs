//! The cluster as its operator sees it: `claviger.v1.Cluster`.

use crate::call::{Client, Repeat};
use crate::error::Error;
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
}
