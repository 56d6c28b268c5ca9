//! The handle: everything that the rest of the node does with the ledger.

mod belonging;
mod start;

pub use belonging::Met;
pub(crate) use start::not_loaded;

use crate::acquaint::Acquaint;
use crate::barrier::Barrier;
use crate::figures::Figures;
use crate::hear::Ear;
use crate::keeper::Keeper;
use crate::node_files::NodeFiles;
use crate::peers::Peers;
use crate::propose::Proposer;
use crate::raft::Raft;
use crate::raft::intake::Intake;
use crate::raft::log::Log;
use crate::raft::store::Stage;
use crate::recall::Recall;
use crate::witness::Verdict;
use crate::words::{Author, LedgerConfig, ProposeFailed, RaftRole, Revision, Status, Unavailable, Unknown};
use crate::{Halt, LedgerView};
use bytes::Bytes;
use claviger_core::name::{DiskId, NodeId, TxnId};
use claviger_core::planted;
use claviger_core::record::View;
use claviger_core::txn::{Conflict, Effect, Outcome, SignedBatch, Txn};
use claviger_world::disk::{BoxFuture, Disk};
use claviger_world::network::{Frame, PeerCertificate};
use claviger_world::runtime::{self, Instant};
use claviger_world::watch;
use openraft::ServerState;
use openraft_rt::WatchReceiver;
use parking_lot::Mutex;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

/// Longest wait for news of a leader before a barrier is asked for again.
const RETRY_MS: u64 = 25;

/// One node's part of the ledger. Cheap to clone.
#[derive(Clone)]
pub struct Ledger(Arc<Parts>);

struct Parts {
    config: LedgerConfig,
    disk: Arc<dyn Disk>,
    files: Arc<NodeFiles>,
    peers: Arc<Peers>,
    raft: Raft,
    log: Log,
    stage: Arc<Stage>,
    acquaint: Arc<Acquaint>,
    intake: Intake,
    proposer: Arc<Proposer>,
    barrier: Arc<Barrier>,
    keeper: Arc<Keeper>,
    ear: Arc<Ear>,
    recall: Arc<Recall>,
    halt: Halt,
    /// Held by whoever changes the genesis.
    pinning: tokio::sync::Mutex<()>,
    tasks: Mutex<Vec<runtime::JoinHandle<()>>>,
}

impl Ledger {
    /// This node.
    pub fn node(&self) -> NodeId {
        self.0.config.node
    }

    /// This node's disk, as the roster must name it.
    pub fn disk_id(&self) -> DiskId {
        self.0.files.disk_id()
    }

    /// How often this node has started on this disk.
    pub fn incarnation(&self) -> u64 {
        self.0.files.incarnation()
    }

    /// Proposes a batch that was signed before: the founding, by the T that the genesis names, or what begins a generation.
    pub async fn propose_signed(&self, batch: SignedBatch, deadline: Duration) -> Result<Outcome, ProposeFailed> {
        self.0.proposer.propose_signed(batch, deadline).await
    }

    /// Hands over what signs while the keyring is open; none when it closes.
    pub fn set_author(&self, author: Option<Arc<dyn Author>>) {
        self.0.proposer.set_author(author);
    }

    /// Proposes a transaction and waits until this node has applied it, told its observer, and shows the result.
    pub async fn propose(&self, txn: Txn, deadline: Duration) -> Result<Outcome, ProposeFailed> {
        self.0.proposer.propose(txn, deadline).await
    }

    /// Finds out what became of a transaction, and makes sure that nothing will if nothing has: then the answer is
    /// `Refused(Cancelled)` and it may be decided anew.
    pub async fn cancel(&self, unknown: Unknown, deadline: Duration) -> Result<Outcome, ProposeFailed> {
        let deadline = runtime::now() + deadline;
        loop {
            let mut txn = self.0.keeper.txn(Effect::Cancel(unknown.id));
            // Refused as too old exactly when the outcome may have been forgotten: what is not known must not be granted.
            txn.turn = unknown.turn;
            match self.0.proposer.propose(txn, deadline.remaining()).await? {
                Outcome::Accepted(_) => return Ok(Outcome::Refused(Conflict::Cancelled)),
                Outcome::Refused(Conflict::Decided) => {
                    return self.outcome(&unknown.id).ok_or(ProposeFailed::Unknown(unknown));
                }
                // The transaction key was renewed meanwhile: the next is signed with the one that this node has by now.
                Outcome::Refused(Conflict::Superseded) if deadline.remaining() > Duration::ZERO => (),
                Outcome::Refused(_) => return Err(ProposeFailed::Unknown(unknown)),
            }
        }
    }

    /// Waits until this node has applied what a refusal named, so that deciding anew can see it.
    pub async fn await_conflict(&self, conflict: &Conflict, deadline: Duration) -> Result<(), Unavailable> {
        let conflict = conflict.clone();
        let seen = move |view: &LedgerView| match &conflict {
            Conflict::Record(key, version) => view.version(key) >= *version || *version == 0,
            Conflict::Members(collection, version) => view.members_version(collection) >= *version,
            Conflict::Time(time) => view.revision().cluster_time >= *time,
            Conflict::Superseded
            | Conflict::TooOld
            | Conflict::Cancelled
            | Conflict::Decided
            | Conflict::Unlawful
            | Conflict::Moving => true,
        };
        let stage = &self.0.stage;
        self.revised(runtime::now() + deadline, |_| seen(&stage.view.read()).then_some(())).await
    }

    /// Waits until a majority has confirmed a leader, after this call began, and this node has applied as far as that
    /// leader had committed: what [`Ledger::view`] shows from then on is no older than this call.
    pub async fn barrier(&self, deadline: Duration) -> Result<Revision, Unavailable> {
        let deadline = runtime::now() + deadline;
        let confirmed = loop {
            let mut news = match runtime::timeout_at(deadline, self.0.barrier.join()).await {
                Ok(Ok(confirmed)) => break confirmed,
                Ok(Err(news)) if deadline.remaining() > Duration::ZERO && !self.0.halt.halted() => news,
                Ok(Err(_)) | Err(_) => return Err(self.unavailable(Unavailable::NoQuorum)),
            };
            // Either there is news of a leader, or it is time to ask again.
            if let Ok(Err(_)) = runtime::timeout(Duration::from_millis(RETRY_MS), news.changed()).await {
                return Err(Unavailable::Stopped);
            }
        };
        let shown = *self.0.stage.revision.borrow();
        let revision = if shown.index >= confirmed.index {
            shown
        } else {
            self.revised(deadline, |r| (r.index >= confirmed.index).then_some(*r)).await?
        };
        self.0.barrier.catch_up(&confirmed);
        Ok(Revision { started_at: confirmed.started_at, ..revision })
    }

    /// The records as this node shows them now.
    pub fn view(&self) -> LedgerView {
        self.0.stage.view.read().clone()
    }

    /// How far this node's records have come. Its `started_at` is [`Ledger::confirmed_at`], zero before the first.
    pub fn revision(&self) -> Revision {
        // In this order: the records must be no older than the round that they are said to be as fresh as.
        let started_at = self.confirmed_at().unwrap_or_default();
        Revision { started_at, ..self.view().revision() }
    }

    /// When the last of this node's barriers began that was confirmed and waited out, by `Clock::awake_and_asleep`: a
    /// view that is taken afterwards is no older than that. None before the first, and then nothing counts as fresh.
    pub fn confirmed_at(&self) -> Option<Duration> {
        self.0.barrier.caught_up()
    }

    /// Follows this node's revision.
    pub fn subscribe(&self) -> watch::Receiver<Revision> {
        self.0.stage.revision.subscribe()
    }

    /// What became of a transaction, as long as it is remembered. Nothing before this node shows it: who hears of it may ask
    /// anybody what came of it, and read rounds rest on that.
    pub fn outcome(&self, id: &TxnId) -> Option<Outcome> {
        let (outcome, turn) = {
            let machine = self.0.stage.machine.lock();
            (machine.outcome(id)?.clone(), machine.place().turn)
        };
        (self.view().revision().turn >= turn).then_some(outcome)
    }

    /// How this node fares.
    pub fn status(&self) -> Status {
        let metrics = self.0.raft.metrics().borrow_watched().clone();
        let (soundness, state) = {
            let machine = self.0.stage.machine.lock();
            (machine.soundness(), machine.checkpoint())
        };
        let membership = metrics.membership_config.membership();
        let voters: BTreeSet<u64> = membership.voter_ids().collect();
        Status {
            node: self.node(),
            disk: self.disk_id(),
            incarnation: self.incarnation(),
            lineage: self.lineage(),
            leader: metrics.current_leader.map(NodeId),
            term: metrics.current_term,
            role: role(metrics.state),
            last_log_index: metrics.last_log_index.unwrap_or(0),
            applied_index: self.revision().index,
            revision: self.revision(),
            members: membership.nodes().map(|(id, _)| (NodeId(*id), voters.contains(id))).collect(),
            votes: membership.get_joint_config().iter().map(|set| set.iter().copied().map(NodeId).collect()).collect(),
            moving: membership.get_joint_config().len() > 1,
            matched: matched(&metrics),
            links: self.view().0.chain.length(),
            installed_index: soundness.installed,
            agreed_index: soundness.agreed,
            proven: soundness.proven(),
            trusted: soundness.trusted(),
            asking: !self.0.recall.is_answered(),
            state,
        }
    }

    /// How this node fares, in figures.
    pub fn figures(&self) -> Figures {
        let (raft, view) = (self.0.raft.metrics().borrow_watched().clone(), self.view());
        Figures::of(&raft, &self.0.stage.counts, view.revision().index, view.head().is_some())
    }

    /// Has every node compare its state with this one's, once a majority has said that it is the same.
    pub async fn checkpoint(&self, deadline: Duration) -> Result<Outcome, ProposeFailed> {
        self.0.keeper.checkpoint(deadline).await
    }

    /// Whether this node may be opened: it took no snapshot since a checkpoint agreed with it, or [`Ledger::vouch`] found
    /// others of one mind with it since.
    pub fn trusted(&self) -> bool {
        self.0.stage.machine.lock().soundness().trusted() || planted!(OpenedUnproven)
    }

    /// Asks the voters whether they have this node's state, if that is in doubt. A checkpoint would say as much; but where
    /// every node is sealed, nobody can write one.
    pub async fn vouch(&self, limit: Duration) -> bool {
        if !self.trusted()
            && let Some(own) = self.0.keeper.witness.own()
            && self.0.keeper.witness.verdict(&own, limit).await == Verdict::Agreed
        {
            self.0.stage.machine.lock().vouched(own.index);
        }
        self.trusted()
    }

    /// Moves cluster time if none has for as long as configured. None when it is not due.
    pub async fn tick_if_due(&self, deadline: Duration) -> Option<Result<Outcome, ProposeFailed>> {
        if !self.0.keeper.tick_due(self.0.config.timings.tick_ms) {
            return None;
        }
        self.0.keeper.tick(deadline).await
    }

    /// For the simulator: a bit of the state's hashes flips in memory.
    #[cfg(feature = "mutants")]
    pub fn stray(&self) {
        self.0.stage.machine.lock().stray();
    }

    /// How often another node has started on its disk, as far as this one knows: 0 when it was never heard of.
    pub fn known_starts(&self, node: NodeId) -> u64 {
        self.0.recall.memory.of(node).start.map_or(0, |(number, _)| number)
    }

    /// Hands leadership to the voter whose log is longest, if this node leads, and waits until it has gone.
    pub async fn transfer_leader(&self, deadline: Duration) -> Result<(), Unavailable> {
        if !self.0.raft.is_leader() {
            return Ok(());
        }
        let Some(heir) = self.heir() else { return Err(Unavailable::NoQuorum) };
        let me = self.node().0;
        let mut news = self.0.raft.server_metrics();
        self.0.raft.trigger().transfer_leader(heir).await.map_err(|_| Unavailable::Stopped)?;
        let gone = news.wait_until(move |m| m.current_leader.is_some_and(|leader| leader != me));
        match runtime::timeout(deadline, gone).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(_)) => Err(Unavailable::Stopped),
            Err(_) => Err(Unavailable::NoQuorum),
        }
    }

    fn heir(&self) -> Option<u64> {
        let metrics = self.0.raft.metrics().borrow_watched().clone();
        let voters: BTreeSet<u64> = metrics.membership_config.membership().voter_ids().collect();
        let matched = metrics.replication?;
        let others = matched.iter().filter(|(node, _)| **node != self.node().0 && voters.contains(node));
        others.max_by_key(|(_, log_id)| **log_id).map(|(node, _)| *node)
    }

    /// Has Raft take a snapshot now, so that the log before it can go.
    pub async fn trigger_snapshot(&self) -> Result<(), Unavailable> {
        self.0.raft.trigger().snapshot().await.map_err(|_| Unavailable::Stopped)
    }

    /// Leaves Raft. What was acknowledged is durable already.
    pub async fn shutdown(&self) {
        let tasks = std::mem::take(&mut *self.0.tasks.lock());
        tasks.iter().for_each(|task| task.abort());
        if let Err(failed) = self.0.raft.shutdown().await {
            tracing::warn!(%failed, "Raft did not stop in order");
        }
    }

    /// Answers a frame of kind `Raft`, `Propose`, `Barrier`, `Compare`, `Acquaint` or `Recall`; refuses by name whoever may not
    /// speak here.
    pub fn hear(&self, from: PeerCertificate, frame: Frame) -> BoxFuture<'static, Result<Bytes, String>> {
        let ear = self.0.ear.clone();
        Box::pin(async move { ear.hear(from, frame).await })
    }

    async fn revised<R>(&self, deadline: Instant, pick: impl FnMut(&Revision) -> Option<R>) -> Result<R, Unavailable> {
        let mut revision = self.0.stage.revision.subscribe();
        match runtime::timeout_at(deadline, revision.until(pick)).await {
            Ok(Ok(picked)) => Ok(picked),
            Ok(Err(_)) => Err(Unavailable::Stopped),
            Err(_) => Err(self.unavailable(Unavailable::Behind)),
        }
    }

    fn unavailable(&self, otherwise: Unavailable) -> Unavailable {
        if self.0.halt.halted() { Unavailable::Stopped } else { otherwise }
    }
}

#[cfg(test)]
use {crate::install::Installer, crate::raft::picture::Picture, crate::raft::snapshot::Image};

#[cfg(test)]
impl Ledger {
    pub(crate) fn proposer(&self) -> &Proposer {
        &self.0.proposer
    }

    pub(crate) fn stage(&self) -> &Stage {
        &self.0.stage
    }

    pub(crate) fn intake(&self) -> &Intake {
        &self.0.intake
    }

    pub(crate) fn installer(&self) -> &Installer {
        &self.0.ear.installer
    }

    /// What this node would send to another.
    pub(crate) async fn picture(&self) -> Arc<Picture> {
        match self.0.raft.get_snapshot().await {
            Ok(Some(snapshot)) => match snapshot.snapshot {
                Image::Own(picture) => picture,
                Image::Proven(_) => panic!("a node sends its own state"),
            },
            Ok(None) | Err(_) => panic!("there is a state to send"),
        }
    }
}

/// How far each node's log is known to be that of this one, where this one leads.
fn matched(metrics: &openraft::RaftMetrics<crate::raft::Types>) -> BTreeMap<NodeId, u64> {
    let replication = metrics.replication.iter().flatten();
    replication.map(|(node, at)| (NodeId(*node), at.map_or(0, |at| at.index))).collect()
}

fn role(state: ServerState) -> RaftRole {
    match state {
        ServerState::Leader => RaftRole::Leader,
        ServerState::Candidate => RaftRole::Candidate,
        ServerState::Follower => RaftRole::Follower,
        ServerState::Learner => RaftRole::Learner,
        ServerState::Shutdown => RaftRole::Stopped,
    }
}
