//! The smoke: half a minute of a cluster's life under load: lost and late frames, partitions, crashes of one, two and all; and
//! what must be true afterwards.

use crate::bare::cluster::{Cluster, NODES};
use crate::bare::load::{Client, History, KEYS, Tally, some_node, value};
use crate::disk::Honesty;
use crate::network::Weather;
use crate::trace::Trace;
use claviger_checker::{Verdict, check};
use claviger_core::name::NodeId;
use claviger_core::txn::Outcome;
use claviger_ledger::Timings;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::sync::Mutex;

/// Clients at work. With more, the checker's search grows exponentially.
const CLIENTS: u64 = 4;
const CHECK_STEPS_MAX: u64 = 20_000_000;
const ROUGH: Weather = Weather { lost_once_in: 50, late_once_in: 100, late_us_max: 80_000, ..Weather::FAIR };
/// Small, so that half a minute sees many snapshots, checkpoints and ticks.
const TIMINGS: Timings = Timings {
    heartbeat_ms: 100,
    election_min_ms: 300,
    election_max_ms: 600,
    snapshot_entries: 150,
    log_entries_kept: 20,
    log_bytes_kept: 1 << 20,
    log_entries_max: 300,
    log_bytes_max: 2 << 20,
    snapshot_chunk_bytes: 4_096,
    checkpoint_entries: 100,
    tick_ms: 3_000,
};

/// A bug that is planted, to see that the smoke would find it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mutant {
    /// None: what runs is what production runs.
    None,
    /// Reads do not take the barrier.
    LocalReads,
    /// Disks say that a batch is durable before it is.
    LyingDisk,
}

/// What a run came to.
#[derive(Clone, Debug)]
pub struct Report {
    /// Which run.
    pub seed: u64,
    /// Over everything that happened.
    pub digest: String,
    /// How much that was.
    pub events: u64,
    /// How the operations ended.
    pub tally: Tally,
    /// Batches that crashes took from disks.
    pub lost_batches: u64,
    /// Nodes that had to install a snapshot.
    pub installs: u64,
    /// What must not be, and is.
    pub violations: Vec<String>,
}

/// Runs one seed to its end, in a world and a runtime of its own.
///
/// # Panics
/// When the cluster cannot even be founded, or `trace_file` cannot be written.
pub fn run(seed: u64, mutant: Mutant, trace_file: Option<std::fs::File>) -> Report {
    let mut builder = tokio::runtime::Builder::new_current_thread();
    let runtime = builder.enable_time().start_paused(true).build().expect("a runtime can be made");
    runtime.block_on(story(seed, mutant, trace_file))
}

async fn story(seed: u64, mutant: Mutant, trace_file: Option<std::fs::File>) -> Report {
    let trace = Arc::new(Trace::new(seed, trace_file));
    let honesty = if mutant == Mutant::LyingDisk { Honesty::Lying } else { Honesty::Honest };
    let mut cluster = Cluster::new(seed, TIMINGS, trace.clone(), Weather::FAIR, honesty);
    for n in 1..=NODES {
        cluster.start(NodeId(n)).await.expect("a new node starts");
    }
    let founded = cluster.found().await;
    let history = Arc::new(History::default());
    let stage = Stage {
        cluster: Arc::new(Mutex::new(cluster)),
        trace,
        history,
        over: Arc::default(),
        broken: Mutex::default(),
    };
    let mut violations = Vec::new();
    if !matches!(founded, Outcome::Accepted(1)) {
        violations.push(format!("the founding was {founded:?}"));
    }
    stage.cluster.lock().await.hub.weather(ROUGH);
    let clients: Vec<_> = (1..=CLIENTS).map(|n| tokio::spawn(stage.client(n, mutant))).collect();
    stage.troubles().await;
    stage.over.store(true, Ordering::SeqCst);
    for client in clients {
        client.await.expect("a client does not panic");
    }
    violations.append(&mut *stage.broken.lock().await);
    violations.extend(stage.aftermath().await);
    stage.report(seed, violations).await
}

/// What the parts of a story share.
struct Stage {
    cluster: Arc<Mutex<Cluster>>,
    trace: Arc<Trace>,
    history: Arc<History>,
    over: Arc<AtomicBool>,
    /// What went wrong on the way.
    broken: Mutex<Vec<String>>,
}

impl Stage {
    fn client(&self, number: u64, mutant: Mutant) -> impl Future<Output = ()> + Send + 'static {
        let (cluster, trace, over) = (self.cluster.clone(), self.trace.clone(), self.over.clone());
        let history = self.history.clone();
        async move {
            let mut client = Client { number, history, trace: trace.clone(), mutant, sequence: 0 };
            while !over.load(Ordering::SeqCst) {
                tokio::time::sleep(Duration::from_millis(trace.roll(1..30))).await;
                let node = some_node(&*cluster.lock().await, &trace);
                if let Some((_, ledger, context)) = node {
                    client.operate(ledger, context).await;
                }
            }
        }
    }

    /// The half minute.
    async fn troubles(&self) {
        self.until(3_000).await;
        self.isolate_leader().await;
        self.until(6_000).await;
        self.mend().await;
        self.until(8_000).await;
        let one = self.someone();
        self.outage(&[one], 1_500).await;
        self.until(12_000).await;
        let two = self.someone();
        self.outage(&[self.leader().await, two], 1_500).await;
        self.until(16_000).await;
        self.deafen_leader().await;
        self.until(18_000).await;
        self.mend().await;
        self.until(19_000).await;
        let three = self.someone();
        self.outage(&[three], 5_000).await;
        self.until(26_000).await;
        self.outage(&[NodeId(1), NodeId(2), NodeId(3)], 500).await;
        self.until(30_000).await;
    }

    async fn until(&self, ms: u64) {
        tokio::time::sleep(Duration::from_millis(ms).saturating_sub(self.trace.elapsed())).await;
    }

    fn someone(&self) -> NodeId {
        NodeId(self.trace.roll(1..NODES + 1))
    }

    async fn leader(&self) -> NodeId {
        self.cluster.lock().await.leader().unwrap_or(NodeId(1))
    }

    /// Cuts the leader off from everybody, both ways.
    async fn isolate_leader(&self) {
        let leader = self.leader().await;
        self.trace.note(leader.0, "cut off");
        let cluster = self.cluster.lock().await;
        for other in (1..=NODES).map(NodeId).filter(|n| *n != leader) {
            cluster.hub.cut(leader, other);
            cluster.hub.cut(other, leader);
        }
    }

    /// Lets the leader speak but not hear.
    async fn deafen_leader(&self) {
        let leader = self.leader().await;
        self.trace.note(leader.0, "deaf");
        let cluster = self.cluster.lock().await;
        (1..=NODES).map(NodeId).filter(|n| *n != leader).for_each(|other| cluster.hub.cut(other, leader));
    }

    async fn mend(&self) {
        self.trace.note(0, "mended");
        self.cluster.lock().await.hub.mend();
    }

    /// Crashes these nodes at once and starts them again after a while.
    async fn outage(&self, nodes: &[NodeId], ms: u64) {
        for node in nodes {
            self.cluster.lock().await.crash(*node).await;
        }
        tokio::time::sleep(Duration::from_millis(ms)).await;
        for node in nodes {
            let mut cluster = self.cluster.lock().await;
            if cluster.ledger(*node).is_none()
                && let Err(why) = cluster.start(*node).await
            {
                self.broken.lock().await.push(format!("node {node} does not start after its crash: {why}"));
            }
        }
    }

    /// What must be true when the world has calmed down.
    async fn aftermath(&self) -> Vec<String> {
        let mut wrong = Vec::new();
        let cluster = self.cluster.lock().await;
        cluster.hub.weather(Weather::FAIR);
        tokio::time::sleep(Duration::from_secs(3)).await;
        for id in cluster.running() {
            self.read_all(&cluster, id, &mut wrong).await;
        }
        self.compare_states(&cluster, &mut wrong).await;
        self.find_acknowledged(&cluster, &mut wrong);
        wrong.extend(cluster.fatal().into_iter().map(|(id, why)| format!("node {id} ended: {why}")));
        match check(&self.history.calls(), CHECK_STEPS_MAX) {
            Verdict::Linearizable => (),
            other @ (Verdict::Violated { .. } | Verdict::GaveUp { .. }) => wrong.push(format!("history: {other:?}")),
        }
        wrong
    }

    /// A last read of every register through every node.
    async fn read_all(&self, cluster: &Cluster, id: NodeId, wrong: &mut Vec<String>) {
        let ledger = cluster.ledger(id).expect("running");
        let reader = ledger.clone();
        let barrier = cluster.run_on(id, async move { reader.barrier(Duration::from_secs(5)).await }).await;
        match barrier {
            Some(Ok(_)) => (0..KEYS).for_each(|key| self.history.add_read(key, value(&ledger.view(), key))),
            Some(Err(why)) => wrong.push(format!("node {id} cannot read: {why}")),
            None => wrong.push(format!("node {id} died of a read")),
        }
    }

    /// A checkpoint agrees on every node, and states at equal index are equal.
    async fn compare_states(&self, cluster: &Cluster, wrong: &mut Vec<String>) {
        let running = cluster.running();
        if running.len() as u64 != NODES {
            wrong.push(format!("only {} nodes are left", running.len()));
            return;
        }
        let ledger = cluster.ledger(NodeId(2)).expect("running");
        let checkpoint = cluster.run_on(NodeId(2), async move { ledger.checkpoint(Duration::from_secs(5)).await });
        if !matches!(checkpoint.await, Some(Ok(Outcome::Accepted(_)))) {
            wrong.push("a last checkpoint was not accepted".into());
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
        let states: Vec<_> = (1..=NODES).map(|n| cluster.ledger(NodeId(n)).expect("running").status()).collect();
        for status in &states {
            self.trace.note(status.node.0, &format!("ends {:?}", status.state));
            if status.state.is_none() || status.state != states[0].state {
                wrong.push(format!("node {} ends with another state than node 1", status.node));
            }
            if !status.proven {
                wrong.push(format!("node {} is not proven by any checkpoint", status.node));
            }
        }
    }

    /// What was acknowledged is what every node says.
    fn find_acknowledged(&self, cluster: &Cluster, wrong: &mut Vec<String>) {
        for id in cluster.running() {
            let ledger = cluster.ledger(id).expect("running");
            let missing = |(txn, version): &&(_, _)| ledger.outcome(txn) != Some(Outcome::Accepted(*version));
            let lost = self.history.accepted().iter().filter(missing).count();
            if lost > 0 {
                wrong.push(format!("node {id} has lost {lost} acknowledged transactions"));
            }
        }
    }

    async fn report(&self, seed: u64, violations: Vec<String>) -> Report {
        let cluster = self.cluster.lock().await;
        let (digest, events) = self.trace.digest();
        let installed = |id| cluster.ledger(id).is_some_and(|l| l.status().installed_index.is_some());
        Report {
            seed,
            digest,
            events,
            tally: self.history.tally(),
            lost_batches: cluster.nodes.values().map(|n| n.disk.lost_batches()).sum(),
            installs: cluster.running().into_iter().filter(|id| installed(*id)).count() as u64,
            violations,
        }
    }
}
