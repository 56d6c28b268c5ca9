//! Frames from other nodes: checked against the roster, then handed to Raft, to the barrier, or into the log.

use crate::acquaint::Acquaint;
use crate::barrier::Barrier;
use crate::install::Installer;
use crate::peers::{Peers, Turned};
use crate::raft::intake::{Intake, Taken, last_of};
use crate::raft::wire::{Unreadable, Wire, need};
use crate::raft::{Membership, Proposal, Raft, Snapshot, SnapshotMeta, Types, Vote, ballot};
use crate::recall::Recall;
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
use openraft::entry::EntryPayload;
use openraft::errors::{ClientWriteError, RaftError};
use openraft::raft::{AppendEntriesRequest, TransferLeaderRequest, VoteRequest};
use std::sync::Arc;
use std::time::Duration;

#[cfg(feature = "mutants")]
use {crate::raft::store::Store, openraft::storage::RaftStateMachine, openraft_rt::WatchReceiver};

/// Longest that a forwarded proposal waits to be applied here, before its sender is told that it is unknown.
const PROPOSAL_MS_MAX: u64 = 10_000;
/// Terms that a peer may be ahead: as many as elections without a pause come to in months.
const TERMS_AHEAD_MAX: u64 = 1 << 24;

/// The ear of a ledger.
pub(crate) struct Ear {
    pub peers: Arc<Peers>,
    pub raft: Raft,
    pub installer: Installer,
    pub barrier: Arc<Barrier>,
    pub witness: Arc<Witness>,
    pub recall: Arc<Recall>,
    pub intake: Intake,
    pub acquaint: Arc<Acquaint>,
}

impl Ear {
    /// Answers one frame, or says by name why not.
    pub async fn hear(self: Arc<Self>, from: PeerCertificate, frame: Frame) -> Result<Bytes, String> {
        // Nothing is voted, acknowledged or confirmed before others have said what they know of this disk. What they ask of
        // theirs is answered, else nodes that start at once would wait for each other; and so is how the cluster stands, which
        // proves itself: whoever was retired hears of it though nobody has a leader.
        let always = matches!(frame.kind, FrameKind::Recall | FrameKind::Acquaint);
        if frame.kind != FrameKind::Acquaint && self.peers.alone().is_some() {
            return Err(Turned::Alone.to_string());
        }
        if !always && !self.recall.is_answered() {
            return Err(Turned::Asking.to_string());
        }
        let answer = match frame.kind {
            FrameKind::Recall => self.recall(from, frame.body).await,
            FrameKind::Raft => self.raft(from, frame.body).await,
            FrameKind::Propose => self.propose(from, frame.body).await,
            FrameKind::Barrier => self.barrier(from, frame.body).await,
            FrameKind::Compare => self.compare(from, frame.body).await,
            FrameKind::Acquaint => {
                self.acquaint.look_back(&from, &frame.body).await;
                if let Some(address) = self.acquaint.stranger_ahead(&from, &frame.body) {
                    let acquaint = self.acquaint.clone();
                    drop(runtime::spawn(async move { acquaint.ask_back(&address).await }));
                }
                self.acquaint.hear(frame.body)
            }
            FrameKind::Found | FrameKind::Ceremony | FrameKind::Root | FrameKind::Status | FrameKind::Join => {
                Err(Turned::Unreadable)
            }
        };
        answer.map_err(|turned| turned.to_string())
    }

    async fn raft(self: &Arc<Self>, from: PeerCertificate, body: Bytes) -> Result<Bytes, Turned> {
        let (from, request) = self.peers.open::<pb::RaftRequest>(from, body)?;
        let body = match request.body.ok_or(Turned::Unreadable)? {
            raft_request::Body::Append(append) => raft_reply::Body::Append(self.append(from, append).await?),
            raft_request::Body::Vote(vote) => raft_reply::Body::Vote(self.vote(from, vote, false).await?),
            raft_request::Body::PreVote(vote) => raft_reply::Body::Vote(self.vote(from, vote, true).await?),
            raft_request::Body::Offer(offer) => raft_reply::Body::Snapshot(self.offer(from, offer).await?),
            raft_request::Body::Snapshot(part) => raft_reply::Body::Snapshot(self.snapshot(from, part).await?),
            raft_request::Body::Transfer(transfer) => raft_reply::Body::Transfer(self.transfer(from, transfer).await?),
        };
        self.peers.seal(from, pb::RaftReply { envelope: None, body: Some(body) })
    }

    async fn append(&self, from: NodeId, append: pb::RaftAppend) -> Result<pb::RaftAppendReply, Turned> {
        let mut request = AppendEntriesRequest::<Types>::from_wire(append).map_err(unreadable)?;
        self.speaks_for_itself(from, &request.vote)?;
        for entry in &request.entries {
            if let EntryPayload::Membership(membership) = &entry.payload {
                // What an earlier leader proposed was looked at then. A new leader tells of no commit before its first own
                // one, which may need this very node: it must not wait for that.
                let inherited = entry.log_id.leader_id != request.vote.leader_id;
                let decided = inherited || request.leader_commit.is_some_and(|commit| commit >= entry.log_id);
                let known = self.peers.seats(membership, decided) || self.installer.holds(entry.log_id).await?;
                if !known {
                    self.seated(from, membership, decided).await?;
                }
            }
        }
        if planted!(TruncationKeepsApplied) {
            request.leader_commit = request.leader_commit.max(request.entries.last().map(|entry| entry.log_id));
        }
        self.recall.memory.voted(from, ballot(&request.vote));
        Ok(self.installer.append(request).await?.to_wire())
    }

    /// Looked at before anything is appended: all in the roster, and who votes is who voted in this epoch or in the one
    /// before, unless a majority has decided so already. Where this node's roster may be the older one, it asks first. What
    /// this node's log holds already was looked at then: a new leader may send it again and not know yet that it is decided.
    async fn seated(&self, from: NodeId, membership: &Membership, decided: bool) -> Result<(), Turned> {
        if let Err(failed) = self.acquaint.ask(from).await {
            tracing::debug!(%failed, from = from.0, "a node that speaks of another membership does not say why");
        }
        self.peers.seats(membership, decided).then_some(()).ok_or(Turned::StrangeMembership)
    }

    fn speaks_for_itself(&self, from: NodeId, vote: &Vote) -> Result<(), Turned> {
        believable(from, vote, &self.own_vote()).then_some(()).ok_or(Turned::StrangeVote)
    }

    async fn vote(&self, from: NodeId, vote: pb::RaftVoteRequest, before: bool) -> Result<pb::RaftVoteReply, Turned> {
        let request = VoteRequest::<Types>::from_wire(vote).map_err(unreadable)?;
        self.speaks_for_itself(from, &request.vote)?;
        let response = if before { self.raft.pre_vote(request).await } else { self.raft.vote(request).await };
        Ok(response.map_err(stopped)?.to_wire())
    }

    async fn offer(&self, from: NodeId, offer: pb::SnapshotOffer) -> Result<pb::SnapshotReply, Turned> {
        let vote: Vote = need(offer.vote).map_err(unreadable)?;
        if !self.follows(from, &vote)? {
            return Ok(self.outvoted());
        }
        let (last, lineage) = (last_of(&offer)?, self.peers.lineage());
        if self.installer.has(vote, last).await? {
            return Ok(pb::SnapshotReply { vote: Some(vote.to_wire()), held: true, ..Default::default() });
        }
        let (next, digest) = self.intake.offer(offer, lineage).await?;
        let digest = Bytes::copy_from_slice(&digest.0);
        Ok(pb::SnapshotReply { vote: Some(vote.to_wire()), next, digest, held: false })
    }

    /// Whether this node follows that leader; not when it was overtaken. One that it has not heard of yet is heard of by a
    /// heartbeat first: a vote that no election has brought must not outlast its bearer here.
    fn follows(&self, from: NodeId, vote: &Vote) -> Result<bool, Turned> {
        self.speaks_for_itself(from, vote)?;
        let own = self.own_vote();
        if *vote > own { Err(Turned::NotYet) } else { Ok(*vote == own) }
    }

    /// Takes a part. Proving and installing go on though the call may have come to its deadline: they may take longer, and
    /// the leader hears at its next offer that all is here.
    async fn snapshot(self: &Arc<Self>, from: NodeId, part: pb::SnapshotPart) -> Result<pb::SnapshotReply, Turned> {
        let vote: Vote = need(part.vote).map_err(unreadable)?;
        if !self.follows(from, &vote)? {
            return Ok(self.outvoted());
        }
        let ear = self.clone();
        runtime::spawn(async move { ear.take_part(vote, part).await }).await.map_err(|_| Turned::Stopped)?
    }

    async fn take_part(&self, vote: Vote, part: pb::SnapshotPart) -> Result<pb::SnapshotReply, Turned> {
        let vote = match self.intake.take(part, self.peers.lineage()).await? {
            Taken::More(next, digest) => {
                let digest = Bytes::copy_from_slice(&digest.0);
                return Ok(pb::SnapshotReply { vote: Some(vote.to_wire()), next, digest, held: false });
            }
            Taken::Whole { vote, .. } if vote < self.own_vote() => self.own_vote(),
            Taken::Whole { vote, meta, image } => {
                proper(&vote, &meta)?;
                let snapshot = Snapshot { meta, snapshot: image };
                #[cfg(feature = "mutants")]
                let snapshot = match self.install_older(snapshot).await {
                    Some(newer) => newer,
                    None => return Ok(self.outvoted()),
                };
                self.installer.install(vote, snapshot).await?
            }
        };
        Ok(pb::SnapshotReply { vote: Some(vote.to_wire()), ..Default::default() })
    }

    /// To a leader that was overtaken: by whom.
    fn outvoted(&self) -> pb::SnapshotReply {
        pb::SnapshotReply { vote: Some(self.own_vote().to_wire()), ..Default::default() }
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

    async fn transfer(&self, from: NodeId, transfer: pb::RaftTransfer) -> Result<pb::RaftTransferReply, Turned> {
        let request = TransferLeaderRequest::<Types>::from_wire(transfer).map_err(unreadable)?;
        self.speaks_for_itself(from, request.from_leader())?;
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

    async fn recall(&self, from: PeerCertificate, body: Bytes) -> Result<Bytes, Turned> {
        let (from, request) = self.peers.open::<pb::RecallRequest>(from, body)?;
        let reply = self.recall.hear(from, request.body.ok_or(Turned::Unreadable)?).await?;
        self.peers.seal(from, reply)
    }

    async fn barrier(&self, from: PeerCertificate, body: Bytes) -> Result<Bytes, Turned> {
        let (from, request) = self.peers.open::<pb::BarrierRequest>(from, body)?;
        if let Some(leads) = request.leads {
            return self.confirm(from, leads);
        }
        let leader = self.barrier.leader();
        let (verdict, index) = if leader != Some(self.peers.node()) {
            (barrier_reply::Verdict::NotLeader, 0)
        } else {
            match self.barrier.join().await {
                Ok(confirmed) => (barrier_reply::Verdict::Confirmed, confirmed.index),
                Err(_) => (barrier_reply::Verdict::NoQuorum, 0),
            }
        };
        let leader = leader.map_or(0, |node| node.0);
        self.peers.seal(from, pb::BarrierReply { envelope: None, verdict: verdict.into(), index, leader })
    }

    /// Tells a leader whether this node follows it still: whether it has promised nothing to a later one.
    fn confirm(&self, from: NodeId, leads: pb::RaftVote) -> Result<Bytes, Turned> {
        let vote = Vote::from_wire(leads).map_err(unreadable)?;
        self.speaks_for_itself(from, &vote)?;
        let follows = self.barrier.follows(&vote) || planted!(ConfirmedBlindly);
        let verdict = if follows { barrier_reply::Verdict::Follows } else { barrier_reply::Verdict::NotLeader };
        self.peers.seal(from, pb::BarrierReply { verdict: verdict.into(), ..Default::default() })
    }
}

/// A node leads and stands for election in its own name only, and in no term that honest elections do not reach: the highest
/// one would be the last.
fn believable(from: NodeId, theirs: &Vote, own: &Vote) -> bool {
    let near = theirs.leader_id.term <= own.leader_id.term.saturating_add(TERMS_AHEAD_MAX);
    theirs.leader_id.node_id == from.0 && near
}

/// A snapshot ends in no later term than its leader's. That its members are in its roster was looked at when it was proven.
fn proper(vote: &Vote, meta: &SnapshotMeta) -> Result<(), Turned> {
    let later = meta.last_log_id.is_none_or(|last| last.leader_id > vote.leader_id);
    if later { Err(Turned::StrangeVote) } else { Ok(()) }
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
    fn a_node_speaks_in_its_own_name_and_in_a_term_that_elections_reach() {
        let own = Vote::new_committed(7, 1);
        let believed = |vote: Vote| believable(NodeId(2), &vote, &own);
        assert!(believed(Vote::new_committed(8, 2)) && believed(Vote::new(7 + TERMS_AHEAD_MAX, 2)));
        assert!(believed(Vote::new(3, 2)), "an older one is Raft's to refuse");
        assert!(!believed(Vote::new_committed(8, 3)) && !believed(Vote::new_committed(7, 1)), "another's name");
        assert!(!believed(Vote::new(8 + TERMS_AHEAD_MAX, 2)) && !believed(Vote::new(u64::MAX, 2)));
    }

    #[test]
    fn an_entry_that_was_discarded_may_still_happen() {
        let to = || ForwardToLeader::<Types>::new(2, EmptyNode {});
        let failed = |error| written(Err(RaftError::APIError(error)));
        assert_eq!(failed(ClientWriteError::ForwardToLeader(to())), Written::NotLeader(Some(NodeId(2))));
        assert_eq!(failed(ClientWriteError::LogEntryDiscarded(to())), Written::Unknown);
        assert_eq!(written(Ok(())), Written::Applied);
    }
}
