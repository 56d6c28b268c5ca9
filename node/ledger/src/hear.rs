//! Frames from other nodes: checked against the roster, then handed to Raft, to the barrier, or into the log.

use crate::barrier::Barrier;
use crate::peers::{Peers, Turned};
use crate::raft::log::Log;
use crate::raft::snapshot::{Inbox, Progress};
use crate::raft::wire::{Unreadable, Wire};
use crate::raft::{Proposal, Raft, Snapshot, Types, Vote};
use crate::witness::Witness;
use bytes::Bytes;
use claviger_core::codec::Canonical;
use claviger_core::name::NodeId;
use claviger_core::planted;
use claviger_core::txn::{BATCH_BYTES_MAX, SignedBatch};
use claviger_proto::peer::v1 as pb;
use claviger_proto::peer::v1::{barrier_reply, propose_reply, raft_reply, raft_request};
use claviger_world::network::{Frame, FrameKind, PeerCertificate};
use claviger_world::runtime;
use futures_util::poll;
use openraft::entry::EntryPayload;
use openraft::errors::{ClientWriteError, RaftError};
use openraft::raft::{AppendEntriesRequest, TransferLeaderRequest, VoteRequest};
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;
use tokio::sync::RwLock;

#[cfg(feature = "mutants")]
use {crate::raft::store::Store, openraft::storage::RaftStateMachine, openraft_rt::WatchReceiver};

/// Longest that a forwarded proposal waits to be applied here, before its sender is told that it is unknown.
const PROPOSAL_MS_MAX: u64 = 10_000;
/// Longest that the answer to a snapshot waits for entries that are on their way to the disk.
const SNAPSHOT_DURABLE_MS_MAX: u64 = 10_000;

/// The ear of a ledger.
pub(crate) struct Ear {
    pub peers: Arc<Peers>,
    pub raft: Raft,
    pub log: Log,
    pub barrier: Arc<Barrier>,
    pub witness: Arc<Witness>,
    pub inbox: Inbox,
    /// Held by every append while Raft has it, and alone by a snapshot until Raft has it.
    pub appends: RwLock<()>,
}

impl Ear {
    /// Answers one frame, or says by name why not.
    pub async fn hear(&self, from: PeerCertificate, frame: Frame) -> Result<Bytes, String> {
        let answer = match frame.kind {
            FrameKind::Raft => self.raft(from, frame.body).await,
            FrameKind::Propose => self.propose(from, frame.body).await,
            FrameKind::Barrier => self.barrier(from, frame.body).await,
            FrameKind::Compare => self.compare(from, frame.body).await,
            FrameKind::Found | FrameKind::Ceremony | FrameKind::Root | FrameKind::Status => Err(Turned::Unreadable),
        };
        answer.map_err(|turned| turned.to_string())
    }

    async fn raft(&self, from: PeerCertificate, body: Bytes) -> Result<Bytes, Turned> {
        let (from, request) = self.peers.open::<pb::RaftRequest>(from, body)?;
        let body = match request.body.ok_or(Turned::Unreadable)? {
            raft_request::Body::Append(append) => raft_reply::Body::Append(self.append(append).await?),
            raft_request::Body::Vote(vote) => raft_reply::Body::Vote(self.vote(vote, false).await?),
            raft_request::Body::PreVote(vote) => raft_reply::Body::Vote(self.vote(vote, true).await?),
            raft_request::Body::Snapshot(chunk) => raft_reply::Body::Snapshot(self.snapshot(from, chunk).await?),
            raft_request::Body::Transfer(transfer) => raft_reply::Body::Transfer(self.transfer(transfer).await?),
        };
        self.peers.seal(from, pb::RaftReply { envelope: None, body: Some(body) })
    }

    async fn append(&self, append: pb::RaftAppend) -> Result<pb::RaftAppendReply, Turned> {
        let request = AppendEntriesRequest::<Types>::from_wire(append).map_err(unreadable)?;
        for entry in &request.entries {
            if let EntryPayload::Membership(membership) = &entry.payload
                && !self.peers.knows_all(membership.nodes().map(|(id, _)| *id))
            {
                return Err(Turned::StrangeMembership);
            }
        }
        let _turn = self.appends.read().await;
        let response = self.raft.append_entries(request).await.map_err(stopped)?;
        Ok(response.to_wire())
    }

    async fn vote(&self, vote: pb::RaftVoteRequest, before: bool) -> Result<pb::RaftVoteReply, Turned> {
        let request = VoteRequest::<Types>::from_wire(vote).map_err(unreadable)?;
        let response = if before { self.raft.pre_vote(request).await } else { self.raft.vote(request).await };
        Ok(response.map_err(stopped)?.to_wire())
    }

    async fn snapshot(&self, from: NodeId, chunk: pb::SnapshotChunk) -> Result<pb::SnapshotReply, Turned> {
        let vote = match self.inbox.take(from, chunk, self.peers.lineage()).map_err(unreadable)? {
            Progress::Taken => self.own_vote(),
            Progress::Whole { vote, meta, image } => {
                let snapshot = Snapshot { meta, snapshot: image };
                #[cfg(feature = "mutants")]
                let snapshot = match self.install_older(snapshot).await {
                    Some(newer) => newer,
                    None => return Ok(pb::SnapshotReply { vote: Some(self.own_vote().to_wire()) }),
                };
                self.install(vote, snapshot).await?
            }
        };
        Ok(pb::SnapshotReply { vote: Some(vote.to_wire()) })
    }

    /// Answers when all that the snapshot brings is durable here: its leader counts this node for every entry of it. Raft
    /// answers at once when it knows them to be committed, though they may still be on their way to the disk.
    async fn install(&self, vote: Vote, snapshot: Snapshot) -> Result<Vote, Turned> {
        let last = snapshot.meta.last_log_id;
        if planted!(SnapshotAnsweredEarly) {
            let raft = self.raft.clone();
            runtime::spawn(async move { raft.install_full_snapshot(vote, snapshot).await });
            return Ok(vote);
        }
        let theirs = self.hand_over(vote, snapshot).await?;
        if let Some(last) = last.filter(|_| theirs == vote) {
            let limit = Duration::from_millis(SNAPSHOT_DURABLE_MS_MAX);
            runtime::timeout(limit, self.log.durable(last.index)).await.map_err(|_| Turned::NotYet)?;
        }
        Ok(theirs)
    }

    /// Hands a snapshot to Raft, unless the log holds its end already: then Raft's own progress would go back behind what
    /// it has counted as stored. Nothing is appended between the look and the snapshot's place in Raft's queue.
    async fn hand_over(&self, vote: Vote, snapshot: Snapshot) -> Result<Vote, Turned> {
        let alone = self.appends.write().await;
        let last = snapshot.meta.last_log_id;
        let held = self.raft.with_raft_state(move |state| {
            let committed = last.as_ref() <= state.local_committed();
            let known = committed || last.is_some_and(|last| state.log_ids.get(last.index) == Some(last));
            (known && *state.vote_ref() == vote).then_some(vote)
        });
        if let Some(vote) = held.await.map_err(stopped)? {
            return Ok(vote);
        }
        let mut installing = pin!(self.raft.install_full_snapshot(vote, snapshot));
        let response = match poll!(installing.as_mut()) {
            Poll::Ready(response) => response,
            Poll::Pending => {
                drop(alone);
                installing.await
            }
        };
        Ok(response.map_err(stopped)?.vote)
    }

    /// For a planted bug: installs a snapshot that is older than the state, past Raft, which would compare. Gives every
    /// other one back.
    #[cfg(feature = "mutants")]
    async fn install_older(&self, snapshot: Snapshot) -> Option<Snapshot> {
        let applied = self.raft.metrics().borrow_watched().last_applied;
        if snapshot.meta.last_log_id >= applied || !planted!(SnapshotOverNewer) {
            return Some(snapshot);
        }
        let installed = self.raft.with_state_machine(|store: &mut Store| {
            let mut twin = store.twin();
            Box::pin(async move { twin.install_snapshot(&snapshot.meta, snapshot.snapshot).await })
        });
        if let Ok(Err(failed)) = installed.await {
            tracing::warn!(%failed, "an older snapshot was not installed");
        }
        None
    }

    fn own_vote(&self) -> Vote {
        use openraft_rt::WatchReceiver;
        self.raft.server_metrics().borrow_watched().vote
    }

    async fn transfer(&self, transfer: pb::RaftTransfer) -> Result<pb::RaftTransferReply, Turned> {
        let request = TransferLeaderRequest::<Types>::from_wire(transfer).map_err(unreadable)?;
        let accepted = self.raft.handle_transfer_leader(request).await.map_err(stopped)?.is_ok();
        Ok(pb::RaftTransferReply { accepted })
    }

    async fn propose(&self, from: PeerCertificate, body: Bytes) -> Result<Bytes, Turned> {
        let (from, request) = self.peers.open::<pb::ProposeRequest>(from, body)?;
        if request.batch.len() > BATCH_BYTES_MAX {
            return Err(Turned::Unreadable);
        }
        let signed = SignedBatch::from_bytes(&request.batch).map_err(|_| Turned::Unreadable)?;
        if !self.peers.admits(&signed) {
            return Err(Turned::Unsigned);
        }
        let limit = Duration::from_millis(PROPOSAL_MS_MAX);
        let (verdict, leader) = match write_local(&self.raft, request.batch, limit).await {
            Written::Applied => (propose_reply::Verdict::Applied, None),
            Written::NotLeader(leader) => (propose_reply::Verdict::NotLeader, leader),
            Written::Unknown => (propose_reply::Verdict::Unknown, None),
        };
        let leader = leader.map_or(0, |node| node.0);
        self.peers.seal(from, pb::ProposeReply { envelope: None, verdict: verdict.into(), leader })
    }

    async fn compare(&self, from: PeerCertificate, body: Bytes) -> Result<Bytes, Turned> {
        let (from, request) = self.peers.open::<pb::CompareRequest>(from, body)?;
        self.peers.seal(from, self.witness.testify(request.index).await)
    }

    async fn barrier(&self, from: PeerCertificate, body: Bytes) -> Result<Bytes, Turned> {
        let (from, pb::BarrierRequest { .. }) = self.peers.open::<pb::BarrierRequest>(from, body)?;
        let leader = self.barrier.leader();
        let (verdict, index) = if leader != Some(self.peers.node()) {
            (barrier_reply::Verdict::NotLeader, 0)
        } else {
            match self.barrier.join().await {
                Some(confirmed) => (barrier_reply::Verdict::Confirmed, confirmed.index),
                None => (barrier_reply::Verdict::NoQuorum, 0),
            }
        };
        let leader = leader.map_or(0, |node| node.0);
        self.peers.seal(from, pb::BarrierReply { envelope: None, verdict: verdict.into(), index, leader })
    }
}

/// What became of a batch that this node's Raft was given.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Written {
    /// It is in the log, and applied here.
    Applied,
    /// It is not in the log: this node does not lead.
    NotLeader(Option<NodeId>),
    /// It may or may not come to be in the log.
    Unknown,
}

/// Gives a batch to this node's Raft. Its waiters can hang after a lost lease, so there is a limit.
pub(crate) async fn write_local(raft: &Raft, batch: Bytes, limit: Duration) -> Written {
    match runtime::timeout(limit, raft.client_write(Proposal(batch))).await {
        Ok(done) => written(done.map(drop)),
        Err(_) => Written::Unknown,
    }
}

/// Only a refusal before the append is certain: an entry that was discarded later may be in others' logs.
fn written(done: Result<(), RaftError<Types, ClientWriteError<Types>>>) -> Written {
    match done {
        Ok(()) => Written::Applied,
        Err(RaftError::APIError(ClientWriteError::ForwardToLeader(to))) => Written::NotLeader(to.leader_id.map(NodeId)),
        Err(RaftError::APIError(_) | RaftError::Fatal(_)) => Written::Unknown,
    }
}

fn unreadable(_: Unreadable) -> Turned {
    Turned::Unreadable
}

fn stopped<E>(_: E) -> Turned {
    Turned::Stopped
}

#[cfg(test)]
mod tests {
    use super::*;
    use openraft::EmptyNode;
    use openraft::errors::ForwardToLeader;

    #[test]
    fn an_entry_that_was_discarded_may_still_happen() {
        let to = || ForwardToLeader::<Types>::new(2, EmptyNode {});
        let failed = |error| written(Err(RaftError::APIError(error)));
        assert_eq!(failed(ClientWriteError::ForwardToLeader(to())), Written::NotLeader(Some(NodeId(2))));
        assert_eq!(failed(ClientWriteError::LogEntryDiscarded(to())), Written::Unknown);
        assert_eq!(written(Ok(())), Written::Applied);
    }
}
