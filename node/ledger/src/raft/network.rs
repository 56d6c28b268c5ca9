//! Raft's calls to other nodes, as frames. Every one has a deadline.

use super::snapshot::{Cutter, Image};
use super::wire::{Unreadable, Wire, need};
use super::{Snapshot, Types, Vote};
use crate::peers::Peers;
use claviger_core::name::NodeId;
use claviger_proto::peer::v1 as pb;
use claviger_proto::peer::v1::{raft_reply, raft_request};
use claviger_world::network::CallFailed;
use claviger_world::runtime;
use futures_util::future::{Either, select};
use openraft::errors::{RPCError, RemoteError, ReplicationClosed, StreamingError, Timeout, Unreachable};
use openraft::network::{RPCOption, RPCTypes, RaftNetworkFactory, RaftNetworkV2};
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, TransferLeaderError, TransferLeaderRequest,
    TransferLeaderResponse, VoteRequest, VoteResponse,
};
use openraft::{AnyError, EmptyNode, OptionalSend};
use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

/// Longest that one chunk of a snapshot may be under way; the last one is installed meanwhile.
const SNAPSHOT_CALL_MS: u64 = 30_000;

/// Makes links. Heartbeats and snapshots get links of their own, so that none waits behind another's calls.
pub(crate) struct Links(pub Arc<Peers>);

impl RaftNetworkFactory<Types> for Links {
    type Network = Link;

    async fn new_client(&mut self, target: u64, _: &EmptyNode) -> Link {
        Link { peers: self.0.clone(), target: NodeId(target) }
    }

    async fn new_heartbeat_client(&mut self, target: u64, _: &EmptyNode) -> Link {
        Link { peers: self.0.clone(), target: NodeId(target) }
    }
}

/// The way to one node.
pub(crate) struct Link {
    peers: Arc<Peers>,
    target: NodeId,
}

type Failed = RPCError<Types>;

impl Link {
    async fn call(
        &self,
        action: RPCTypes,
        body: raft_request::Body,
        deadline: Duration,
    ) -> Result<raft_reply::Body, Failed> {
        let request = pb::RaftRequest { envelope: None, body: Some(body) };
        let reply: Result<pb::RaftReply, _> = self.peers.call(self.target, request, deadline).await;
        match reply {
            Ok(reply) => reply.body.ok_or_else(unreadable),
            Err(CallFailed::Late) => Err(RPCError::Timeout(Timeout {
                action,
                id: self.peers.node().0,
                target: self.target.0,
                timeout: deadline,
            })),
            Err(failed @ (CallFailed::Unreachable | CallFailed::Refused(_))) => {
                Err(RPCError::Unreachable(Unreachable::new(&failed)))
            }
        }
    }

    async fn send_snapshot(&self, vote: Vote, snapshot: Snapshot) -> Result<SnapshotResponse<Types>, Failed> {
        let Image::Own(view) = snapshot.snapshot else { return Err(unreadable()) };
        let mut cutter = Cutter::new(view, vote, &snapshot.meta, runtime::jitter());
        let deadline = Duration::from_millis(SNAPSHOT_CALL_MS);
        let mut theirs = vote;
        while let Some(chunk) = cutter.chunk().map_err(|failed| RPCError::Unreachable(Unreachable::new(&failed)))? {
            let body = raft_request::Body::Snapshot(chunk);
            let raft_reply::Body::Snapshot(reply) = self.call(RPCTypes::InstallSnapshot, body, deadline).await? else {
                return Err(unreadable());
            };
            theirs = read(reply.vote)?;
            if theirs > vote {
                break;
            }
        }
        Ok(SnapshotResponse::new(theirs))
    }
}

impl RaftNetworkV2<Types> for Link {
    type SnapshotData = Image;

    async fn append_entries(
        &mut self,
        request: AppendEntriesRequest<Types>,
        option: RPCOption,
    ) -> Result<AppendEntriesResponse<Types>, Failed> {
        let body = raft_request::Body::Append(request.to_wire());
        match self.call(RPCTypes::AppendEntries, body, option.soft_ttl()).await? {
            raft_reply::Body::Append(reply) => read(Some(reply)),
            _ => Err(unreadable()),
        }
    }

    async fn vote(&mut self, request: VoteRequest<Types>, option: RPCOption) -> Result<VoteResponse<Types>, Failed> {
        let body = raft_request::Body::Vote(request.to_wire());
        match self.call(RPCTypes::Vote, body, option.soft_ttl()).await? {
            raft_reply::Body::Vote(reply) => read(Some(reply)),
            _ => Err(unreadable()),
        }
    }

    async fn pre_vote(
        &mut self,
        request: VoteRequest<Types>,
        option: RPCOption,
    ) -> Result<VoteResponse<Types>, Failed> {
        let body = raft_request::Body::PreVote(request.to_wire());
        match self.call(RPCTypes::Vote, body, option.soft_ttl()).await? {
            raft_reply::Body::Vote(reply) => read(Some(reply)),
            _ => Err(unreadable()),
        }
    }

    async fn full_snapshot(
        &mut self,
        vote: Vote,
        snapshot: Snapshot,
        cancel: impl Future<Output = ReplicationClosed> + OptionalSend + 'static,
        _option: RPCOption,
    ) -> Result<SnapshotResponse<Types>, StreamingError<Types>> {
        let sending = pin!(self.send_snapshot(vote, snapshot));
        match select(pin!(cancel), sending).await {
            Either::Left((closed, _)) => Err(StreamingError::Closed(closed)),
            Either::Right((Ok(response), _)) => Ok(response),
            Either::Right((Err(RPCError::Timeout(late)), _)) => Err(StreamingError::Timeout(late)),
            Either::Right((Err(RPCError::Unreachable(failed)), _)) => Err(StreamingError::Unreachable(failed)),
            Either::Right((Err(RPCError::Network(failed)), _)) => Err(StreamingError::Network(failed)),
            Either::Right((Err(RPCError::RemoteError(RemoteError { source, .. })), _)) => match source {},
        }
    }

    async fn transfer_leader(
        &mut self,
        request: TransferLeaderRequest<Types>,
        option: RPCOption,
    ) -> Result<TransferLeaderResponse<Types>, Failed> {
        let expected = request.last_log_id().copied();
        let body = raft_request::Body::Transfer(request.to_wire());
        match self.call(RPCTypes::TransferLeader, body, option.soft_ttl()).await? {
            raft_reply::Body::Transfer(reply) if reply.accepted => Ok(Ok(())),
            raft_reply::Body::Transfer(_) => Ok(Err(TransferLeaderError::LogNotFlushed { expected, actual: None })),
            _ => Err(unreadable()),
        }
    }
}

fn read<T: Wire>(field: Option<T::Message>) -> Result<T, Failed> {
    need(field).map_err(|Unreadable| unreadable())
}

fn unreadable() -> Failed {
    RPCError::Unreachable(Unreachable::new(&AnyError::error("the peer's answer cannot be read")))
}
