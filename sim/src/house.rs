//! The cluster and the world around it: nodes with their disks, papers and clocks, each started as the daemon starts it,
//! killed as a power cut kills it, and started again as a supervisor would.

mod dwelling;
mod ends;

use self::dwelling::Dwelling;
use crate::clock::SkewedClock;
use crate::dice::{Dice, number_of};
use crate::disk::SimDisk;
use crate::entropy::SeededEntropy;
use crate::network::{Endpoint, Hub};
use crate::plan::Plan;
use crate::promises::audit::Audit;
use crate::promises::{Board, Promise};
use crate::trace::Trace;
use bytes::Bytes;
use claviger_core::crypto::SigningKey;
use claviger_core::name::{Identity, NodeId};
use claviger_core::ticket::Ticket;
use claviger_core::time::UnixMs;
use claviger_server::{Node, NodeConfig, Unseal, World};
use claviger_world::disk::BoxFuture;
use claviger_world::network::{Frame, Listener, PeerCertificate};
use claviger_world::runtime::Context;
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

/// When the world begins.
pub const GENESIS_TIME: UnixMs = UnixMs(1_750_000_000_000);
/// Why a node is lost that leaves the cluster.
const RETIRES: &str = "it leaves the cluster";
/// Longest that a start may take before something is wrong with it.
const START_WAIT: Duration = Duration::from_secs(120);

/// What listens at a node's address; a node is behind it once it has started.
#[derive(Default)]
struct Porch(Mutex<Option<Arc<dyn Listener>>>);

impl Listener for Porch {
    fn hear(&self, from: PeerCertificate, frame: Frame) -> BoxFuture<'static, Result<Bytes, String>> {
        match &*self.0.lock() {
            Some(node) => node.hear(from, frame),
            None => Box::pin(async { Err("starting".into()) }),
        }
    }
}

/// A node's present life.
#[derive(Clone)]
pub struct Life {
    /// Which node.
    pub id: NodeId,
    /// How many lives it has had, this one too.
    pub number: u64,
    /// Its tasks.
    pub context: Arc<Context>,
    /// The node.
    pub node: Arc<Node>,
    /// Its clock.
    pub clock: Arc<SkewedClock>,
}

/// All nodes.
pub struct House {
    /// What the seed has decided.
    pub plan: Plan,
    /// The world's record.
    pub trace: Arc<Trace>,
    /// Where promises are told of.
    pub board: Arc<Board>,
    /// Pages and books.
    pub audit: Arc<Audit>,
    /// The wires.
    pub hub: Arc<Hub>,
    founder: Identity,
    dwellings: Mutex<BTreeMap<NodeId, Dwelling>>,
    dice: Dice,
}

impl House {
    /// All nodes, switched off.
    pub fn new(
        plan: &Plan,
        trace: Arc<Trace>,
        audit: Arc<Audit>,
        board: Arc<Board>,
        hub: Arc<Hub>,
        founder: Identity,
    ) -> Arc<House> {
        let dwelling = |n| Dwelling::new(plan, &trace, n, n <= plan.nodes);
        let dwellings = (1..=plan.nodes + plan.newcomers).map(|n| (NodeId(n), dwelling(n))).collect();
        let dice = Dice::of(plan.seed, "house");
        Arc::new(House {
            plan: plan.clone(),
            trace,
            board,
            audit,
            hub,
            founder,
            dwellings: Mutex::new(dwellings),
            dice,
        })
    }

    /// All nodes' numbers: those that belong to the cluster, or are on their way into it or out of it.
    pub fn all(&self) -> Vec<NodeId> {
        self.dwellings.lock().iter().filter(|(_, d)| d.belongs).map(|(id, _)| *id).collect()
    }

    /// Nodes that have never belonged yet.
    pub fn newcomers(&self) -> Vec<NodeId> {
        (self.plan.nodes + 1..=self.plan.nodes + self.plan.newcomers).map(NodeId).collect()
    }

    /// Nodes that vote.
    pub fn counted(&self) -> Vec<NodeId> {
        self.dwellings.lock().iter().filter(|(_, d)| d.counts).map(|(id, _)| *id).collect()
    }

    /// Nodes that are lost for good.
    pub fn lost(&self) -> Vec<NodeId> {
        self.dwellings.lock().iter().filter(|(_, d)| d.lost.is_some() || d.wiped).map(|(id, _)| *id).collect()
    }

    /// A newcomer is switched on, with leave to join.
    pub fn admit(&self, id: NodeId, ticket: &str) {
        self.change(id, |dwelling| (dwelling.belongs, dwelling.ticket) = (true, Some(ticket.to_owned())));
    }

    /// A newcomer votes in the place of another.
    pub fn swap(&self, new: NodeId, old: NodeId) {
        let mut dwellings = self.dwellings.lock();
        for (id, counts) in [(new, true), (old, false)] {
            if let Some(dwelling) = dwellings.get_mut(&id) {
                dwelling.counts = counts;
            }
        }
    }

    /// A node is about to leave for good: it may end by itself, and is not started again.
    pub fn retires(&self, id: NodeId) {
        self.lose(id, RETIRES);
    }

    /// A host that was never in any cluster comes, to go on with a snapshot. It knows where everybody was.
    pub fn settles(&self) -> NodeId {
        let number = self.plan.nodes + self.plan.newcomers + 1;
        let dwelling = Dwelling::new(&self.plan, &self.trace, number, true);
        self.dwellings.lock().insert(NodeId(number), dwelling);
        NodeId(number)
    }

    /// A node is gone with its disk, and nobody speaks of it any more.
    pub async fn is_gone(&self, id: NodeId) {
        self.crash(id).await;
        self.lose(id, "is gone with all others");
        self.change(id, |dwelling| (dwelling.belongs, dwelling.counts) = (false, false));
    }

    /// The generation that a node has come to; none while it is off, or belongs to no cluster.
    pub fn generation(&self, id: NodeId) -> Option<u64> {
        let life = self.life(id)?;
        life.node.ledger().view().head().map(|link| link.header.generation)
    }

    /// Two nodes that go on alone are about to meet: each may end, and is not started again then.
    pub fn meet(&self, heirs: [NodeId; 2]) {
        heirs.into_iter().for_each(|id| self.change(id, |dwelling| dwelling.torn = true));
    }

    /// Whether it has met the other one, and has ended.
    pub fn has_met(&self, id: NodeId) -> bool {
        self.dwellings.lock().get(&id).is_some_and(|dwelling| dwelling.lost.is_some())
    }

    /// A node may end, to go on alone.
    pub fn inherits(&self, id: NodeId) {
        self.change(id, |dwelling| dwelling.inherits = true);
    }

    /// Nodes that were lost with others, and stand on their own disks.
    pub fn may_come_back(&self) -> Vec<NodeId> {
        let dwellings = self.dwellings.lock();
        let may = |d: &Dwelling| d.lost.as_deref() == Some(WITH_OTHERS) && d.on_its_own_disk() && !d.hurt;
        dwellings.iter().filter(|(_, d)| may(d) && d.astray.is_none()).map(|(id, _)| *id).collect()
    }

    /// One of them is started again, though the cluster has gone on without it.
    pub fn comes_back(&self, id: NodeId) {
        self.change(id, |dwelling| (dwelling.lost, dwelling.back, dwelling.counts) = (None, true, false));
    }

    /// Whether it has not heard yet that it has left.
    pub fn is_back(&self, id: NodeId) -> bool {
        self.dwellings.lock().get(&id).is_some_and(|dwelling| dwelling.back)
    }

    /// The present life of a node, if it is on.
    pub fn life(&self, id: NodeId) -> Option<Life> {
        self.dwellings.lock().get(&id).filter(|d| d.on_its_own_disk())?.life.clone()
    }

    /// All present lives.
    pub fn lives(&self) -> Vec<Life> {
        self.dwellings.lock().values().filter(|d| d.on_its_own_disk()).filter_map(|d| d.life.clone()).collect()
    }

    /// Whether it has come in: who joins owes nothing before.
    pub fn counts(&self, id: NodeId) -> bool {
        self.dwellings.lock().get(&id).is_some_and(|dwelling| dwelling.counts)
    }

    /// Nodes that run on a wiped disk.
    pub fn wiped_lives(&self) -> Vec<Life> {
        self.dwellings.lock().values().filter(|d| d.wiped).filter_map(|d| d.life.clone()).collect()
    }

    /// Nodes that are not lost for good, nor about to be.
    pub fn sound(&self) -> Vec<NodeId> {
        self.dwellings
            .lock()
            .iter()
            .filter(|(_, d)| d.counts && d.lost.is_none() && d.on_its_own_disk() && d.astray.is_none())
            .map(|(id, _)| *id)
            .collect()
    }

    /// A node's disk.
    pub fn disk(&self, id: NodeId) -> SimDisk {
        self.dwellings.lock()[&id].disk.clone()
    }

    /// The key that a node signs with.
    pub fn public(&self, id: NodeId) -> claviger_core::name::VerifyingKey {
        self.dwellings.lock()[&id].key.public()
    }

    /// The secret half of that key: for whoever looks that it is seen nowhere.
    pub fn identity_seed(&self, id: NodeId) -> [u8; 32] {
        *self.dwellings.lock()[&id].key.seed().expose()
    }

    /// A node's certificate: what a thief would have.
    pub fn papers(&self, id: NodeId) -> Arc<[u8]> {
        self.dwellings.lock()[&id].der.clone()
    }

    /// Who leads, as the node itself sees it.
    pub fn leader(&self) -> Option<NodeId> {
        let leads = |life: &Life| life.node.ledger().status().leader == Some(life.id);
        self.lives().into_iter().find(leads).map(|life| life.id)
    }

    fn change(&self, id: NodeId, change: impl FnOnce(&mut Dwelling)) {
        self.dwellings.lock().get_mut(&id).map(change);
    }

    /// Notes that a fault has given a node a reason to end by itself.
    pub fn excuse(&self, id: NodeId) {
        self.change(id, |dwelling| dwelling.excused = true);
    }

    /// Takes a node out for good.
    pub fn lose(&self, id: NodeId, why: &str) {
        self.trace.tell(id.0, &format!("is lost for good: {why}"));
        self.change(id, |dwelling| dwelling.lost = Some(why.to_owned()));
    }

    /// A bit has flipped in a node's memory.
    pub fn astray(&self, id: NodeId, after: u64) {
        self.trace.tell(id.0, "goes astray: a bit of its memory flips");
        let mut dwellings = self.dwellings.lock();
        dwellings.entry(id).and_modify(|dwelling| dwelling.astray = Some(after));
        dwellings.values_mut().for_each(|dwelling| dwelling.may_refuse = true);
    }

    /// A sound state has come to a node that had gone astray, with a snapshot.
    pub fn healed(&self, id: NodeId) {
        self.trace.tell(id.0, "a snapshot has brought it back");
        self.change(id, |dwelling| dwelling.astray = None);
    }

    /// Nodes that went astray and have not noticed, and after which log entry they did.
    pub fn stray_lives(&self) -> BTreeMap<NodeId, u64> {
        let dwellings = self.dwellings.lock();
        dwellings.iter().filter(|(_, d)| d.life.is_some()).filter_map(|(id, d)| Some((*id, d.astray?))).collect()
    }

    /// The disk of a node that is off was damaged, and stays so. Whether the node starts on it all the same.
    pub async fn starts_hurt(self: &Arc<Self>, id: NodeId, what: &str) -> bool {
        self.change(id, |dwelling| dwelling.hurt = true);
        self.start(id).await;
        // A life on a disk that was put back is nobody's to see elsewhere; here it counts.
        let starts = self.dwellings.lock().get(&id).is_some_and(|dwelling| dwelling.life.is_some());
        self.crash(id).await;
        self.lose(id, what);
        starts
    }

    /// A bit of a snapshot that a node was taking in has flipped on its disk.
    pub fn flipped(&self, id: NodeId) {
        self.change(id, |dwelling| dwelling.may_refuse = true);
    }

    /// Whether it may refuse a snapshot.
    pub fn may_refuse(&self, id: NodeId) -> bool {
        self.dwellings.lock().get(&id).is_some_and(|dwelling| dwelling.may_refuse)
    }

    /// The disk of a node was put back to what it was before.
    pub fn set_back(&self, id: NodeId) {
        self.change(id, |dwelling| (dwelling.set_back, dwelling.hurt) = (true, true));
    }

    /// Nodes whose disk was put back and that have not said so.
    pub fn unnoticed(&self) -> Vec<NodeId> {
        let dwellings = self.dwellings.lock();
        dwellings.iter().filter(|(_, d)| d.set_back && d.lost.is_none()).map(|(id, _)| *id).collect()
    }

    /// The disk of a node was wiped.
    pub fn wiped(&self, id: NodeId) {
        self.trace.tell(id.0, "its disk was wiped");
        self.change(id, |dwelling| dwelling.wiped = true);
    }

    /// Whether somebody keeps a node off.
    pub fn keep_off(&self, id: NodeId, off: bool) {
        self.change(id, |dwelling| dwelling.off = off);
    }

    /// Switches a node on, as a supervisor would: unless it is on, meant to be off, or lost.
    pub async fn start(self: &Arc<Self>, id: NodeId) {
        let Some((number, context)) = self.prepare(id) else { return };
        let now = GENESIS_TIME.plus_ms(self.trace.elapsed().as_millis() as u64 + self.dice.roll(0..600));
        let Ok(clock) = context.spawn(async move { Arc::new(SkewedClock::new(now)) }).await else { return };
        let porch = Arc::new(Porch::default());
        self.hub.listen(&address(id), self.papers(id), porch.clone(), context.clone());
        let (world, config) = self.world(id, number, clock.clone());
        let starting = context.spawn(async move { Node::start(world, config).await });
        match tokio::time::timeout(START_WAIT, starting).await {
            Ok(Ok(Ok(node))) => {
                *porch.0.lock() = Some(node.listener());
                self.started(Life { id, number, context, node: Arc::new(node), clock });
            }
            Ok(Ok(Err(why))) => self.not_started(id, &context, &why),
            // Power was cut in the middle of it.
            Ok(Err(gone)) if gone.is_cancelled() => {}
            Ok(Err(panic)) => self.board.broke(Promise::Sound, format!("node {id} panicked at its start: {panic}")),
            Err(_) => self.board.broke(Promise::Liveness, format!("node {id} does not come to the end of its start")),
        }
    }

    fn prepare(&self, id: NodeId) -> Option<(u64, Arc<Context>)> {
        let mut dwellings = self.dwellings.lock();
        let dwelling = dwellings.get_mut(&id)?;
        if dwelling.life.is_some() || dwelling.nascent.is_some() || dwelling.lost.is_some() || dwelling.off {
            return None;
        }
        dwelling.lives += 1;
        let seed = number_of(self.plan.seed, &format!("node {id} life {}", dwelling.lives));
        let drift = self.plan.drift_ppm_max as i64;
        let rate = self.dice.roll(0..2 * drift as u64 + 1) as i64 - drift;
        let context = Context::new(id.0, seed, rate, Duration::from_millis(self.dice.roll(0..5_000)));
        dwelling.nascent = Some(context.clone());
        Some((dwelling.lives, context))
    }

    fn world(&self, id: NodeId, number: u64, clock: Arc<SkewedClock>) -> (World, NodeConfig) {
        let dwellings = self.dwellings.lock();
        let dwelling = &dwellings[&id];
        let seed = number_of(self.plan.seed, &format!("entropy of node {id} life {number}"));
        let world = World {
            disk: Arc::new(dwelling.disk.clone()),
            network: Arc::new(Endpoint::new(self.hub.clone(), dwelling.der.clone())),
            clock,
            entropy: Arc::new(SeededEntropy::new(seed)),
        };
        let identity = crate::papers::signing_key(*dwelling.key.seed().expose());
        (world, self.config(id, identity, dwelling.ticket.as_deref()))
    }

    fn started(self: &Arc<Self>, life: Life) {
        let mut dwellings = self.dwellings.lock();
        let Some(dwelling) = dwellings.get_mut(&life.id) else { return };
        dwelling.nascent = None;
        // Power was cut between the end of the start and now.
        if life.context.is_dead() {
            return;
        }
        self.trace.tell(life.id.0, &format!("started, life {}", life.number));
        dwelling.excused = false;
        // What had flipped in its memory had not come to its disk.
        dwelling.astray = None;
        dwelling.life = Some(life.clone());
        drop(dwellings);
        self.watch(life);
    }

    fn config(&self, node: NodeId, identity: SigningKey, ticket: Option<&str>) -> NodeConfig {
        // Who comes later is named in nobody's configuration, and names nobody; who comes last names all that there were.
        let others = match node.0 {
            founder if founder <= self.plan.nodes => self.plan.nodes,
            newcomer if newcomer <= self.plan.nodes + self.plan.newcomers => 0,
            last => last - 1,
        };
        let known = (1..=others).map(NodeId).chain([node]);
        NodeConfig {
            node,
            cluster: "sim".parse().expect("a good name"),
            region: "here".parse().expect("a good name"),
            addresses: known.map(|n| (n, address(n))).collect(),
            identity,
            founders: vec![self.founder.clone()],
            unseal: Unseal::Custodians,
            timings: self.plan.timings,
            strict_audit: self.plan.strict_audit,
            reflection: false,
            version: "simulated",
            process: node.0 as u32,
            request_wait: self.plan.request_wait,
            ticket: ticket.and_then(|text| Ticket::from_text(text).ok()),
        }
    }

    /// Cuts a node's power.
    pub async fn crash(&self, id: NodeId) {
        let context = {
            let mut dwellings = self.dwellings.lock();
            let Some(dwelling) = dwellings.get_mut(&id) else { return };
            let life = dwelling.life.take().map(|life| life.context);
            life.or(dwelling.nascent.take())
        };
        let Some(context) = context else { return };
        self.hub.leave(&address(id));
        context.kill();
        // A stopped process dies of a power cut too.
        context.go_on();
        // Aborted tasks are dropped when the runtime comes to them.
        for _ in 0..3 {
            tokio::task::yield_now().await;
        }
        self.trace.tell(id.0, "crashed");
        self.disk(id).crash();
    }

    /// Starts, again and again, whatever is off and should be on.
    pub async fn supervise(self: Arc<Self>) {
        loop {
            tokio::time::sleep(Duration::from_millis(self.dice.roll(300..3_000))).await;
            // A node that can write no pages says so in its health: whoever runs it starts it again.
            for life in self.lives().into_iter().filter(|life| life.node.book_failed()) {
                self.trace.tell(life.id.0, "is started again: its book cannot be written");
                self.crash(life.id).await;
            }
            for id in self.all() {
                self.start(id).await;
            }
        }
    }
}

/// Why nodes are lost where one goes on alone.
pub const WITH_OTHERS: &str = "is lost with most others";
/// Why a node is lost that could not find the one that is left.
pub const ASTRAY: &str = "is lost with most others, and does not know who is left";

/// Where a node listens.
pub fn address(node: NodeId) -> String {
    format!("node-{node}")
}
