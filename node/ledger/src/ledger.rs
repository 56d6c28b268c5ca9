//! The handle: everything that the rest of the node does with the ledger.

use crate::acquaint::{Acquaint, Acquainted};
use crate::bank::Bank;
use crate::barrier::Barrier;
use crate::figures::Figures;
use crate::hear::Ear;
use crate::install::Installer;
use crate::keeper::Keeper;
use crate::machine::{LoadFailed, Machine, lineage_of};
use crate::mark::{Marker, compare};
use crate::node_files::{Found, NodeFiles};
use crate::peers::Peers;
use crate::propose::Proposer;
use crate::purge::{Bounds, Purger};
use crate::raft::Raft;
use crate::raft::intake::Intake;
use crate::raft::log::Log;
use crate::raft::network::Links;
use crate::raft::store::{Stage, Store};
use crate::recall::{Memory, Recall};
use crate::usher::Usher;
use crate::witness::{Verdict, Witness};
use crate::words::{
    Author, Fatal, InitializeFailed, LedgerConfig, Observer, PinRefused, Proof, ProposeFailed, RaftRole, Revision,
    StartFailed, Status, Timings, Unavailable, Unknown, World,
};
use crate::{Halt, LedgerView};
use bytes::Bytes;
use claviger_core::address::Announcement;
use claviger_core::name::{DiskId, Lineage, NodeId, TxnId, VerifyingKey};
use claviger_core::planted;
use claviger_core::record::View;
use claviger_core::roster::{Genesis, Roster};
use claviger_core::txn::{Conflict, Effect, Outcome, SignedBatch, Txn};
use claviger_world::disk::{BoxFuture, DiskFailed};
use claviger_world::entropy::fresh;
use claviger_world::network::{CallFailed, Frame, PeerCertificate};
use claviger_world::runtime::{self, Instant};
use claviger_world::watch;
use openraft::{Config, EmptyNode, ServerState, SnapshotPolicy};
use openraft_rt::WatchReceiver;
use parking_lot::Mutex;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

/// Longest wait for news of a leader before a barrier is asked for again.
const RETRY_MS: u64 = 25;

/// Longest that the beginning of Raft waits for what others know of this node's disk.
const ANSWERED_WAIT: Duration = Duration::from_secs(10);

/// A cluster that a node has been told of, with the proof.
pub struct Met(Acquainted);

impl Met {
    /// Its members.
    pub fn roster(&self) -> Option<&Roster> {
        self.0.ahead.chain.roster()
    }

    /// The genesis that the lineage is the hash of.
    pub fn genesis(&self) -> Option<&Genesis> {
        self.0.ahead.chain.founding().map(|founding| &founding.genesis)
    }
}

/// One node's part of the ledger. Cheap to clone.
#[derive(Clone)]
pub struct Ledger(Arc<Parts>);

struct Parts {
    config: LedgerConfig,
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
    /// Reads the disk, proves what it holds, and joins Raft. `observer` may be told things before this returns.
    pub async fn start(config: LedgerConfig, world: World, observer: Arc<dyn Observer>) -> Result<Ledger, StartFailed> {
        let halt = Halt::new(observer.clone());
        let (files, log) = open_disk(&config, &world, &halt).await?;
        let lineage = files.genesis().as_ref().map(lineage_of);
        let bank = Bank::current(&*world.disk).map_err(not_loaded)?;
        let machine = Machine::load(&bank.of(world.disk.clone()), lineage).map_err(not_loaded)?;
        let (disk, chunk_bytes) = (world.disk.clone(), config.timings.snapshot_chunk_bytes);
        let store = Store::open(disk, log.clone(), machine, observer, halt.clone(), chunk_bytes).map_err(not_loaded)?;
        if log.purged() > store.last() {
            return Err(StartFailed::Damaged("the state is older than the beginning of Raft's log"));
        }
        let stage = store.stage();
        let intake = Intake::open(world.disk.clone(), stage.clone()).await.map_err(StartFailed::Disk)?;
        let (node, disk, addresses) = (config.node, files.disk_id(), config.addresses.clone());
        let peers = Peers::new(node, disk, world.network.clone(), addresses, files.genesis(), stage.clone());
        let peers = Arc::new(peers);
        if let Some(ahead) = files.chain()? {
            peers.run_ahead(ahead);
        }
        files.announced()?.into_iter().for_each(|said| peers.hear_address(said));
        let raft_config = raft_config(&config)?;
        let memory = Arc::new(Memory::load(world.disk.clone(), lineage).map_err(not_loaded)?);
        let links = Links { peers: peers.clone(), stage: stage.clone(), memory: memory.clone() };
        let raft = Raft::new(node.0, raft_config, links, log.clone(), store).await;
        let raft = raft.map_err(|fatal| StartFailed::Raft(fatal.to_string()))?;
        let start = (files.incarnation(), fresh(&*world.entropy).spend());
        let answered = watch::channel(false).0;
        let recall = Recall {
            peers: peers.clone(),
            raft: raft.clone(),
            log: log.clone(),
            memory,
            halt: halt.clone(),
            start,
            answered,
        };
        let parts = Parts::new(config, world, files, peers, raft, log, stage, intake, Arc::new(recall), halt);
        parts.begin();
        Ok(Ledger(Arc::new(parts)))
    }

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

    /// The pinned genesis.
    pub fn genesis(&self) -> Option<Genesis> {
        self.0.files.genesis()
    }

    /// The pinned lineage.
    pub fn lineage(&self) -> Option<Lineage> {
        self.0.peers.lineage()
    }

    /// Pins a genesis, durably. The same one again is fine. Until then no peer is listened to.
    pub async fn pin_genesis(&self, genesis: &Genesis) -> Result<Lineage, PinRefused> {
        let (parts, genesis) = (self.0.clone(), genesis.clone());
        to_the_end(async move { parts.pin(genesis).await }).await
    }

    /// How a cluster stands that this node does not belong to yet, as whoever listens at `address` proves it from the
    /// lineage on.
    pub async fn meet(&self, address: &str, lineage: Lineage) -> Result<Met, CallFailed> {
        self.0.acquaint.meet(address, lineage).await.map(Met)
    }

    /// Pins the genesis of a cluster whose newest roster has this node with this disk, durably. The same one again is fine.
    pub async fn join(&self, met: Met) -> Result<Lineage, PinRefused> {
        let parts = self.0.clone();
        to_the_end(async move { parts.join(met).await }).await
    }

    /// What proves to others how the cluster stands; none before the founding.
    pub fn proof(&self) -> Option<Proof> {
        self.0.acquaint.proof()
    }

    /// The newest roster that this node has proven: its records may be behind it.
    pub fn roster(&self) -> Option<Roster> {
        self.0.peers.roster()
    }

    /// Whether the bearer of that key was a member once and is none any more.
    pub fn has_left(&self, key: &VerifyingKey) -> bool {
        self.0.peers.has_left(key)
    }

    /// Everybody whom this node could ask: the members, and whoever is configured and has not left.
    pub fn others(&self) -> BTreeSet<NodeId> {
        self.0.peers.others()
    }

    /// Where a node listens for its peers: as it announced, else as configured.
    pub fn address(&self, node: NodeId) -> Option<String> {
        self.0.peers.address(node)
    }

    /// Tells the others where this node listens, from now on.
    pub fn announce(&self, said: Announcement) {
        self.0.peers.announce(said);
    }

    /// Forgets a genesis that came to nothing. Refused once the log or the machine holds a founding. When Raft has begun
    /// with it, the observer is told [`Fatal::Abandoned`]: the next start clears what it left.
    pub async fn abandon_genesis(&self) -> Result<(), PinRefused> {
        let parts = self.0.clone();
        to_the_end(async move { parts.abandon().await }).await
    }

    /// Whether log or machine holds a founding, or anything but blank and membership entries: then it cannot be
    /// abandoned.
    pub fn founding_begun(&self) -> bool {
        self.0.log.begun() || self.0.stage.machine.lock().begun()
    }

    /// Begins Raft with these voters, on one node, once, when all have pinned the genesis.
    pub async fn initialize(&self, voters: &BTreeSet<NodeId>) -> Result<(), InitializeFailed> {
        if self.lineage().is_none() || !self.0.peers.knows_all(voters.iter().map(|v| v.0)) {
            return Err(InitializeFailed::NotFounded);
        }
        self.answered().await?;
        let members: BTreeMap<u64, EmptyNode> = voters.iter().map(|v| (v.0, EmptyNode {})).collect();
        self.0.raft.initialize(members).await.map_err(|failed| match failed.api_error() {
            Some(_) => InitializeFailed::Begun,
            None => InitializeFailed::Stopped,
        })
    }

    /// A node that has started in the middle of a founding asks the others first, like any other.
    async fn answered(&self) -> Result<(), InitializeFailed> {
        let mut answered = self.0.recall.answered.subscribe();
        match runtime::timeout(ANSWERED_WAIT, answered.until(|answered| answered.then_some(()))).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) => Err(InitializeFailed::Stopped),
            Err(_) => Err(InitializeFailed::NotFounded),
        }
    }

    /// Proposes the founding batch, signed with the T that the genesis names.
    pub async fn propose_founding(&self, batch: SignedBatch, deadline: Duration) -> Result<Outcome, ProposeFailed> {
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
            let mut news = self.0.raft.server_metrics();
            // What is known already is no news: the receiver is a copy of one that never looked.
            drop(news.borrow_and_update());
            match runtime::timeout_at(deadline, self.0.barrier.join()).await {
                Ok(Some(confirmed)) => break confirmed,
                Ok(None) if deadline.remaining() > Duration::ZERO && !self.0.halt.halted() => (),
                Ok(None) | Err(_) => return Err(self.unavailable(Unavailable::NoQuorum)),
            }
            // Either there is news of a leader, or it is time to ask again.
            if let Ok(Err(_)) = runtime::timeout(Duration::from_millis(RETRY_MS), news.changed()).await {
                return Err(Unavailable::Stopped);
            }
        };
        let revision = self.revised(deadline, |r| (r.index >= confirmed.index).then_some(*r)).await?;
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

    /// Waits until this node has applied the transaction of that number.
    pub async fn applied_at_least(&self, sequence: u64, deadline: Duration) -> Result<Revision, Unavailable> {
        self.revised(runtime::now() + deadline, |r| (r.sequence >= sequence).then_some(*r)).await
    }

    /// Follows this node's revision.
    pub fn subscribe(&self) -> watch::Receiver<Revision> {
        self.0.stage.revision.subscribe()
    }

    /// What became of a transaction, as long as it is remembered.
    pub fn outcome(&self, id: &TxnId) -> Option<Outcome> {
        self.0.stage.machine.lock().outcome(id).cloned()
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
use {crate::raft::picture::Picture, crate::raft::snapshot::Image};

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

impl Parts {
    #[allow(clippy::too_many_arguments, reason = "the one place where a ledger is put together")]
    fn new(
        config: LedgerConfig,
        world: World,
        files: NodeFiles,
        peers: Arc<Peers>,
        raft: Raft,
        log: Log,
        stage: Arc<Stage>,
        intake: Intake,
        recall: Arc<Recall>,
        halt: Halt,
    ) -> Parts {
        let timings = config.timings;
        let limit = Duration::from_millis(timings.election_max_ms);
        let barrier = Arc::new(Barrier::new(peers.clone(), raft.clone(), world.clock.clone(), limit));
        let proposer = Arc::new(Proposer::new(peers.clone(), raft.clone(), stage.clone()));
        let witness = Witness { peers: peers.clone(), raft: raft.clone(), stage: stage.clone() };
        let witness = Arc::new(witness);
        let seen = (stage.view.read().revision().cluster_time, world.clock.awake_and_asleep());
        let keeper = Arc::new(Keeper {
            proposer: proposer.clone(),
            raft: raft.clone(),
            stage: stage.clone(),
            witness: witness.clone(),
            world,
            timings,
            seen: Mutex::new(seen),
            checked: Mutex::new(0),
            looked: Mutex::new(0),
        });
        let files = Arc::new(files);
        let acquaint =
            Acquaint { peers: peers.clone(), stage: stage.clone(), files: files.clone(), halt: halt.clone() };
        let acquaint = Arc::new(acquaint);
        let (ear_peers, ear_raft, ear_barrier) = (peers.clone(), raft.clone(), barrier.clone());
        let ear = Ear {
            peers: ear_peers,
            raft: ear_raft,
            installer: Installer::new(raft.clone(), log.clone()),
            barrier: ear_barrier,
            witness,
            recall: recall.clone(),
            intake: intake.clone(),
            acquaint: acquaint.clone(),
        };
        let (ear, pinning, tasks) = (Arc::new(ear), tokio::sync::Mutex::default(), Mutex::default());
        Parts {
            config,
            files,
            peers,
            raft,
            log,
            stage,
            intake,
            acquaint,
            proposer,
            barrier,
            keeper,
            ear,
            recall,
            halt,
            pinning,
            tasks,
        }
    }

    async fn pin(&self, genesis: Genesis) -> Result<Lineage, PinRefused> {
        let _turn = self.pinning.lock().await;
        self.files.pin(&self.config, &genesis).await?;
        let lineage = lineage_of(&genesis);
        self.remember_of(lineage).await?;
        self.peers.pin(Some(genesis));
        Ok(lineage)
    }

    /// What is known of others' disks is of the cluster that is pinned: in another one it begins anew.
    async fn remember_of(&self, lineage: Lineage) -> Result<(), PinRefused> {
        if self.peers.lineage() == Some(lineage) {
            return Ok(());
        }
        self.recall.memory.forget(Some(lineage)).await.map_err(PinRefused::Disk).inspect_err(|failed| self.lost(failed))
    }

    async fn join(&self, Met(Acquainted { ahead, announced }): Met) -> Result<Lineage, PinRefused> {
        let _turn = self.pinning.lock().await;
        let genesis = self.files.pin_joined(&self.config, &ahead, &announced).await?;
        let lineage = lineage_of(&genesis);
        self.remember_of(lineage).await?;
        let asks = self.peers.lineage() != Some(lineage);
        if asks {
            self.recall.hold_back();
        }
        self.peers.pin(Some(genesis));
        self.peers.run_ahead(ahead);
        announced.into_iter().for_each(|said| self.peers.hear_address(said));
        if asks {
            self.tasks.lock().push(runtime::spawn(self.recall.clone().ask()));
        }
        Ok(lineage)
    }

    /// The log is closed first: what is looked at then is what there will ever be.
    async fn abandon(&self) -> Result<(), PinRefused> {
        let _turn = self.pinning.lock().await;
        if self.files.genesis().is_none() && self.log.closed() {
            return Ok(());
        }
        if !self.log.close() {
            return Err(PinRefused::Begun);
        }
        if self.stage.machine.lock().begun() {
            self.log.reopen();
            return Err(PinRefused::Begun);
        }
        if self.log.is_empty() { self.unpin().await } else { self.end_founding().await }
    }

    async fn unpin(&self) -> Result<(), PinRefused> {
        self.files.unpin().await.inspect_err(|failed| self.lost(failed))?;
        self.peers.pin(None);
        self.log.reopen();
        Ok(())
    }

    async fn end_founding(&self) -> Result<(), PinRefused> {
        self.files.abandon().await.inspect_err(|failed| self.lost(failed))?;
        self.peers.pin(None);
        self.halt.halt(Fatal::Abandoned);
        Ok(())
    }

    fn lost(&self, failed: &PinRefused) {
        if let PinRefused::Disk(failed) = failed {
            self.halt.halt(Fatal::Disk(failed.clone()));
        }
    }

    fn begin(&self) {
        let (barrier, proposer, keeper) = (self.barrier.clone(), self.proposer.clone(), self.keeper.clone());
        let (metrics, log, halt) = (self.raft.metrics(), self.log.clone(), self.halt.clone());
        let (raft, stage, node) = (self.raft.clone(), self.stage.clone(), self.config.node);
        let usher = Arc::new(Usher { raft, stage, node });
        let purger = Purger {
            raft: self.raft.clone(),
            log: self.log.clone(),
            stage: self.stage.clone(),
            intake: self.intake.clone(),
            bounds: Bounds::of(&self.config.timings),
        };
        *self.tasks.lock() = vec![
            runtime::spawn(purger.run()),
            runtime::spawn(self.log.clone().keep_marked()),
            runtime::spawn(self.recall.clone().ask()),
            runtime::spawn(self.recall.clone().remember()),
            runtime::spawn(async move { barrier.run().await }),
            runtime::spawn(proposer.run()),
            runtime::spawn(keeper.run()),
            runtime::spawn(usher.run()),
            runtime::spawn(self.acquaint.clone().run()),
            runtime::spawn(guard(metrics, log, halt)),
        ];
    }
}

/// Opens the folder: nothing is written to it before its mark agrees with what its tables hold.
async fn open_disk(config: &LedgerConfig, world: &World, halt: &Halt) -> Result<(NodeFiles, Log), StartFailed> {
    let disk = &world.disk;
    let found = Found::read(config, &**disk)?;
    let marker = Arc::new(Marker::open(disk.clone())?);
    let open = || Log::open(disk.clone(), marker.clone(), halt.clone()).map_err(not_opened);
    let mut log = open()?;
    compare(found.disk(), marker.found(), log.reach())?;
    let new = DiskId(fresh(&*world.entropy).spend());
    let (id, abandoned) = (found.disk().map_or(new, |(id, _)| id), found.abandoned());
    marker.prepare(id, abandoned || found.disk().is_none()).await.map_err(StartFailed::Disk)?;
    let files = NodeFiles::take(found, config.node, id, disk.clone()).await.map_err(StartFailed::Disk)?;
    if abandoned {
        log = open()?;
    }
    marker.begin(files.incarnation(), log.reach()).await.map_err(StartFailed::Disk)?;
    Ok((files, log))
}

/// Does what must not stop half way, though its caller may be gone.
async fn to_the_end<T: Send + 'static>(
    doing: impl Future<Output = Result<T, PinRefused>> + Send + 'static,
) -> Result<T, PinRefused> {
    let ended = DiskFailed { doing: "changing the genesis", cause: "the node is ending".into() };
    runtime::spawn(doing).await.unwrap_or(Err(PinRefused::Disk(ended)))
}

/// Tells the node when Raft stops by itself.
async fn guard(
    mut metrics: impl WatchReceiver<crate::raft::Watch, openraft::RaftMetrics<crate::raft::Types>>,
    log: Log,
    halt: Halt,
) {
    let died = metrics.wait_until(|m| m.running_state.is_err()).await;
    // A closed log refuses what Raft would append, and that ends it.
    if log.closed() {
        return halt.halt(Fatal::Abandoned);
    }
    let why = match died.map(|m| m.running_state) {
        Ok(Err(fatal)) => fatal.to_string(),
        Ok(Ok(())) | Err(_) => "its task is gone".into(),
    };
    halt.halt(Fatal::Raft(why));
}

fn raft_config(config: &LedgerConfig) -> Result<Arc<Config>, StartFailed> {
    let Timings { heartbeat_ms, election_min_ms, election_max_ms, .. } = config.timings;
    let raft = Config {
        cluster_name: config.cluster.to_string(),
        heartbeat_interval: heartbeat_ms,
        election_timeout_min: election_min_ms,
        election_timeout_max: election_max_ms,
        snapshot_policy: SnapshotPolicy::LogsSinceLast(config.timings.snapshot_entries),
        // How much is kept is decided in `purge.rs`.
        max_in_snapshot_log_to_keep: u64::MAX,
        replication_lag_threshold: config.timings.snapshot_entries,
        enable_pre_vote: Some(true),
        // Not before others have said what they know of this node's disk.
        enable_elect: false,
        enable_leader_restore: Some(false),
        quorum_loss_probe_interval: Some(2 * election_max_ms),
        ..Config::default()
    };
    raft.validate().map(Arc::new).map_err(|e| StartFailed::Config(e.to_string()))
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

fn not_loaded(failed: LoadFailed) -> StartFailed {
    match failed {
        LoadFailed::Disk(failed) => StartFailed::Disk(failed),
        LoadFailed::Damaged(what) => StartFailed::Damaged(what),
    }
}

fn not_opened(fatal: Fatal) -> StartFailed {
    match fatal {
        Fatal::Disk(failed) => StartFailed::Disk(failed),
        Fatal::Damaged(what) => StartFailed::Damaged(what),
        other @ (Fatal::Diverged { .. }
        | Fatal::Outvoted { .. }
        | Fatal::TruncatedApplied { .. }
        | Fatal::WentBack(_)
        | Fatal::Raft(_)
        | Fatal::Abandoned
        | Fatal::Retired) => StartFailed::Raft(other.to_string()),
    }
}
