//! The cluster as its operator sees it: `claviger.v1.Cluster`.

use super::{Door, Reply, status, stream, words};
use claviger_core::policy::Operation;
use claviger_proto::v1::{self, cluster_server::Cluster};
use futures_util::StreamExt;
use std::pin::Pin;
use tonic::{Request, Status, Streaming, async_trait};

type Pieces = Pin<Box<dyn futures_util::Stream<Item = Result<v1::SaveSnapshotResponse, Status>> + Send>>;

#[async_trait]
impl Cluster for Door {
    type SaveSnapshotStream = Pieces;

    async fn save_snapshot(&self, request: Request<v1::SaveSnapshotRequest>) -> Reply<Pieces> {
        let (visit, ask) = self.admit(request, Operation::SaveSnapshot);
        let answer = async { self.service.save_snapshot(visit.known()?, words::save_snapshot(ask)?).await }.await;
        let pieces = |cut| -> Pieces {
            Box::pin(stream::file(cut).map(|piece| piece.map(words::snapshot_piece).map_err(status::of)))
        };
        self.close(visit, answer.map(pieces)).await
    }

    async fn restore_snapshot(
        &self,
        request: Request<Streaming<v1::RestoreSnapshotRequest>>,
    ) -> Reply<v1::RestoreSnapshotResponse> {
        let (visit, frames) = self.admit(request, Operation::RestoreSnapshot);
        let answer = async { self.service.restore_snapshot(visit.known()?, stream::restoring(frames)).await }.await;
        self.close(visit, answer.map(words::restore_snapshot_done)).await
    }

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

    async fn create_join_ticket(
        &self,
        request: Request<v1::CreateJoinTicketRequest>,
    ) -> Reply<v1::CreateJoinTicketResponse> {
        let (visit, ask) = self.admit(request, Operation::CreateJoinTicket);
        let answer = async {
            self.service
                .create_join_ticket(visit.known()?, words::create_join_ticket(ask)?)
                .await
                .map(words::create_join_ticket_done)
        }
        .await;
        self.close(visit, answer).await
    }

    async fn set_member_role(&self, request: Request<v1::SetMemberRoleRequest>) -> Reply<v1::SetMemberRoleResponse> {
        let (visit, ask) = self.admit(request, Operation::SetMemberRole);
        let answer = async {
            self.service
                .set_member_role(visit.known()?, words::set_member_role(ask)?)
                .await
                .map(words::set_member_role_done)
        }
        .await;
        self.close(visit, answer).await
    }

    async fn retire_member(&self, request: Request<v1::RetireMemberRequest>) -> Reply<v1::RetireMemberResponse> {
        let (visit, ask) = self.admit(request, Operation::RetireMember);
        let answer = async {
            self.service.retire_member(visit.known()?, words::retire_member(ask)?).await.map(words::retire_member_done)
        }
        .await;
        self.close(visit, answer).await
    }
}
