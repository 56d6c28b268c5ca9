//! The cluster as its operator sees it: `claviger.v1.Cluster`.

use super::{Door, Reply, words};
use claviger_core::policy::Operation;
use claviger_proto::v1::{self, cluster_server::Cluster};
use tonic::{Request, async_trait};

#[async_trait]
impl Cluster for Door {
    async fn get_cluster_status(
        &self,
        request: Request<v1::GetClusterStatusRequest>,
    ) -> Reply<v1::GetClusterStatusResponse> {
        let (visit, ask) = self.admit(request, Operation::GetClusterStatus);
        let answer = async {
            self.service
                .get_cluster_status(visit.known()?, words::get_cluster_status(ask)?)
                .await
                .map(words::get_cluster_status_done)
        }
        .await;
        self.close(visit, answer).await
    }

    async fn transfer_leader(&self, request: Request<v1::TransferLeaderRequest>) -> Reply<v1::TransferLeaderResponse> {
        let (visit, ask) = self.admit(request, Operation::TransferLeader);
        let answer = async {
            self.service
                .transfer_leader(visit.known()?, words::transfer_leader(ask)?)
                .await
                .map(words::transfer_leader_done)
        }
        .await;
        self.close(visit, answer).await
    }
}
