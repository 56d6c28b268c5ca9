//! Raft's calls to other nodes, as frames. Every one has a deadline.

use super::picture::{Cutter, Picture};
use super::snapshot::Image;
use super::store::Stage;
use super::wire::{Unreadable, Wire, need};
use super::{LogId, Snapshot, Types, Vote, ballot, position};
use crate::peers::Peers;
use crate::recall::Memory;
use bytes::Bytes;
use claviger_core::codec::Canonical;
use claviger_core::name::{Digest, NodeId};
use claviger_core::planted;
use claviger_core::snapshot::CHUNKS_MAX;
use claviger_proto::peer::v1 as pb;
use claviger_proto::peer::v1::{raft_reply, raft_request};
use claviger_world::network::CallFailed;
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
/// Longest wait until one chunk is durable there: what is lost on its way is sent again, from where it was cut.
const CHUNK_CALL_MS: u64 = 5_000;
const UNREADABLE: &str = "the peer's answer cannot be read";

/// Makes links. Heartbeats and snapshots get links of their own, so that none waits behind another's calls.
pub(crate) struct Links {
    pub peers: Arc<Peers>,
    pub stage: Arc<Stage>,
    /// Learns what the others acknowledge.
    pub memory: Arc<Memory>,
}

impl RaftNetworkFactory<Types> for Links {
    type Network = Link;

    async fn new_client(&mut self, target: u64, _: &EmptyNode) -> Link {
        self.link(target)
    }

    async fn new_heartbeat_client(&mut self, target: u64, _: &EmptyNode) -> Link {
        self.link(target)
    }
}

impl Links {
    fn link(&self, target: u64) -> Link {
        let (peers, stage, memory) = (self.peers.clone(), self.stage.clone(), self.memory.clone());
        Link { peers, stage, memory, target: NodeId(target), misfit: None }
    }
}

/// The way to one node.
pub(crate) struct Link {
    peers: Arc<Peers>,
    stage: Arc<Stage>,
    memory: Arc<Memory>,
    target: NodeId,
    /// The image of which the other has something that does not fit: it is offered anew.
    misfit: Option<Digest>,
}

type Failed = RPCError<Types>;

impl Link {
    async fn call(
        &self,
        action: RPCTypes,
        body: raft_request::Body,
        deadline: Duration,
    ) -> Result<raft_reply::Body, Failed> {
        self.ask(body, deadline).await.map_err(|failed| self.failed(action, deadline, failed))
    }

    async fn ask(&self, body: raft_request::Body, deadline: Duration) -> Result<raft_reply::Body, CallFailed> {
        let request = pb::RaftRequest { envelope: None, body: Some(body) };
        let reply: pb::RaftReply = self.peers.call(self.target, request, deadline).await?;
        reply.body.ok_or_else(|| CallFailed::Refused(UNREADABLE.to_owned()))
    }

    fn failed(&self, action: RPCTypes, timeout: Duration, failed: CallFailed) -> Failed {
        match failed {
            CallFailed::Late => {
                let (id, target) = (self.peers.node().0, self.target.0);
                RPCError::Timeout(Timeout { action, id, target, timeout })
            }
            CallFailed::Unreachable | CallFailed::Refused(_) => RPCError::Unreachable(Unreachable::new(&failed)),
        }
    }

    /// The peer follows this leader and holds the log up to there.
    fn acknowledges(&self, vote: &Vote, upto: Option<&LogId>) {
        match upto {
            Some(upto) => self.memory.acknowledged(self.target, ballot(vote), position(upto)),
            None => self.memory.voted(self.target, ballot(vote)),
        }
    }

    /// Whether the peer does not have what it has acknowledged to this very leader. Raft must not hear of it: it would
    /// never catch that node up, or stop. The node ends when it is told what it held.
    fn has_lost(&self, vote: &Vote, missing: Option<&LogId>) -> bool {
        let acknowledged = self.memory.of(self.target).acknowledged;
        let held = acknowledged.filter(|(to, _)| *to == ballot(vote)).map(|(_, held)| held.index);
        let lost = missing.is_some_and(|missing| held >= Some(missing.index));
        if lost {
            tracing::error!(node = self.target.0, "a node does not hold what it has acknowledged");
        }
        lost
    }

    /// Sends what the other does not have of a picture yet, and waits until it has made it its state.
    async fn send_snapshot(&mut self, vote: Vote, snapshot: Snapshot) -> Result<SnapshotResponse<Types>, Failed> {
        let Image::Own(picture) = snapshot.snapshot else { return Err(unreadable()) };
        *self.stage.sending.lock() = Some(picture.clone());
        let image = picture.header().image();
        let offer = self.offer(vote, &picture, self.misfit == Some(image)).await?;
        let theirs: Vote = read(offer.vote)?;
        if theirs > vote {
            return Ok(SnapshotResponse::new(theirs));
        }
        if offer.held {
            self.sent(&picture);
            return Ok(SnapshotResponse::new(theirs));
        }
        let cutter = resume(&picture, &offer).await?;
        self.misfit = cutter.is_none().then_some(image);
        let theirs = self.send_parts(vote, &picture, cutter.ok_or_else(unreadable)?).await?;
        self.sent(&picture);
        Ok(SnapshotResponse::new(theirs))
    }

    async fn offer(&self, vote: Vote, picture: &Picture, anew: bool) -> Result<pb::SnapshotReply, Failed> {
        let header = Bytes::from(picture.header().to_bytes());
        let offer = pb::SnapshotOffer { vote: Some(vote.to_wire()), header, anew };
        let answer = self.snapshot_call(raft_request::Body::Offer(offer), CHUNK_CALL_MS).await;
        answer.map_err(|failed| self.not_sent(CHUNK_CALL_MS, failed))
    }

    /// Sends chunks and end, one after another: each is durable there before the next one is cut.
    async fn send_parts(&self, vote: Vote, picture: &Picture, mut cutter: Cutter) -> Result<Vote, Failed> {
        let (mut theirs, image) = (vote, picture.header().image());
        while let Some((part, digest)) = cutter.part().map_err(|failed| unreachable(&failed))? {
            let limit = if cutter.is_over() { SNAPSHOT_CALL_MS } else { CHUNK_CALL_MS };
            let part = pb::SnapshotPart {
                vote: Some(vote.to_wire()),
                image: Bytes::copy_from_slice(&image.0),
                part: part.into(),
                digest: Bytes::copy_from_slice(&digest.0),
            };
            let answer = self.snapshot_call(raft_request::Body::Snapshot(part), limit).await;
            if matches!(answer, Err(CallFailed::Refused(_))) {
                self.look_back(picture);
            }
            theirs = read(answer.map_err(|failed| self.not_sent(limit, failed))?.vote)?;
            if theirs > vote {
                break;
            }
        }
        Ok(theirs)
    }

    /// Whoever refuses a part may have found what was wrong before it left here. A node that has stored something else than
    /// it should ends: led by it, the others would refuse what it sends for ever.
    fn look_back(&self, picture: &Picture) {
        if let Err(failed) = picture.look_back(self.peers.lineage()) {
            self.stage.halt.halt(failed.into());
        }
    }

    async fn snapshot_call(&self, body: raft_request::Body, limit_ms: u64) -> Result<pb::SnapshotReply, CallFailed> {
        match self.ask(body, Duration::from_millis(limit_ms)).await? {
            raft_reply::Body::Snapshot(reply) => Ok(reply),
            _ => Err(CallFailed::Refused(UNREADABLE.to_owned())),
        }
    }

    fn not_sent(&self, limit_ms: u64, failed: CallFailed) -> Failed {
        self.failed(RPCTypes::InstallSnapshot, Duration::from_millis(limit_ms), failed)
    }

    /// The picture has come: the next one who needs one gets a newer, unless it is on its way to somebody else too.
    fn sent(&self, picture: &Arc<Picture>) {
        let alone = |sending: &Arc<Picture>| Arc::ptr_eq(sending, picture) && Arc::strong_count(sending) == 2;
        self.stage.sending.lock().take_if(|sending| alone(sending));
    }
}

/// Goes on behind what the other has already.
async fn resume(picture: &Arc<Picture>, offer: &pb::SnapshotReply) -> Result<Option<Cutter>, Failed> {
    let digest = offer.digest[..].try_into().map(Digest).map_err(|_| unreadable())?;
    if offer.next > CHUNKS_MAX {
        return Err(unreadable());
    }
    let mut cutter = picture.resume(offer.next, &digest).await.map_err(|failed| unreachable(&failed))?;
    if planted!(SnapshotChunkSkipped)
        && offer.next > 0
        && let Some(cutter) = &mut cutter
    {
        cutter.skip();
    }
    Ok(cutter)
}

impl RaftNetworkV2<Types> for Link {
    type SnapshotData = Image;

    async fn append_entries(
        &mut self,
        request: AppendEntriesRequest<Types>,
        option: RPCOption,
    ) -> Result<AppendEntriesResponse<Types>, Failed> {
        let (vote, previous) = (request.vote, request.prev_log_id);
        let end = request.entries.last().map(|entry| entry.log_id).or(previous);
        self.stage.told.note(request.leader_commit);
        let body = raft_request::Body::Append(request.to_wire());
        let answer = match self.call(RPCTypes::AppendEntries, body, option.soft_ttl()).await? {
            raft_reply::Body::Append(reply) => read(Some(reply))?,
            _ => return Err(unreadable()),
        };
        match &answer {
            AppendEntriesResponse::Success => self.acknowledges(&vote, end.as_ref()),
            AppendEntriesResponse::PartialSuccess(matched) => self.acknowledges(&vote, matched.as_ref()),
            AppendEntriesResponse::Conflict if self.has_lost(&vote, previous.as_ref()) => return Err(went_back()),
            AppendEntriesResponse::Conflict | AppendEntriesResponse::HigherVote(_) => {}
        }
        Ok(answer)
    }

    async fn vote(&mut self, request: VoteRequest<Types>, option: RPCOption) -> Result<VoteResponse<Types>, Failed> {
        let vote = request.vote;
        let body = raft_request::Body::Vote(request.to_wire());
        let answer: VoteResponse<Types> = match self.call(RPCTypes::Vote, body, option.soft_ttl()).await? {
            raft_reply::Body::Vote(reply) => read(Some(reply))?,
            _ => return Err(unreadable()),
        };
        if answer.vote_granted && answer.vote == vote {
            self.memory.voted(self.target, ballot(&vote));
        }
        Ok(answer)
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
        let last = snapshot.meta.last_log_id;
        let sent = {
            let sending = pin!(self.send_snapshot(vote, snapshot));
            match select(pin!(cancel), sending).await {
                Either::Left((closed, _)) => return Err(StreamingError::Closed(closed)),
                Either::Right((sent, _)) => sent,
            }
        };
        match sent {
            Ok(response) => {
                if response.vote == vote {
                    self.acknowledges(&vote, last.as_ref());
                }
                Ok(response)
            }
            Err(RPCError::Timeout(late)) => Err(StreamingError::Timeout(late)),
            Err(RPCError::Unreachable(failed)) => Err(StreamingError::Unreachable(failed)),
            Err(RPCError::Network(failed)) => Err(StreamingError::Network(failed)),
            Err(RPCError::RemoteError(RemoteError { source, .. })) => match source {},
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

fn unreachable<E: std::error::Error + 'static>(failed: &E) -> Failed {
    RPCError::Unreachable(Unreachable::new(failed))
}

fn went_back() -> Failed {
    RPCError::Unreachable(Unreachable::new(&AnyError::error("the peer does not hold what it has acknowledged")))
}

fn unreadable() -> Failed {
    RPCError::Unreachable(Unreachable::new(&AnyError::error(UNREADABLE)))
}
