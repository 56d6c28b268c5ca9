//! Three nodes with their disks, keys and clocks, founded as a cluster; each can be killed and started again.

use crate::clock::SkewedClock;
use crate::disk::{Honesty, SimDisk};
use crate::entropy::SeededEntropy;
use crate::network::{Endpoint, Hub, Weather};
use crate::trace::Trace;
use bytes::Bytes;
use claviger_core::chance::Fresh;
use claviger_core::codec::Canonical;
use claviger_core::crypto::{self, SigningKey};
use claviger_core::header::Header;
use claviger_core::name::{Digest, Lineage, NodeId, Segment, TxnId};
use claviger_core::record::{RecordKey, Table};
use claviger_core::roster::{Countersignature, Founding, Genesis, Member, Role, Roster};
use claviger_core::secret::Secret;
use claviger_core::time::UnixMs;
use claviger_core::txn::{Batch, Effect, Outcome, Put, Reliance, SignedBatch, Txn, TxnKey};
use claviger_ledger::{Author, Fatal, Ledger, LedgerConfig, Observer, Revision, StartFailed, Timings, World};
use claviger_world::disk::BoxFuture;
use claviger_world::network::{Frame, Listener, PeerCertificate};
use claviger_world::runtime::Context;
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

/// How many nodes there are.
pub const NODES: u64 = 3;
/// When the world begins.
pub const GENESIS_TIME: UnixMs = UnixMs(1_750_000_000_000);

/// Signs with the cluster's transaction key, as an unsealed node does.
pub struct Keyring(SigningKey);

impl Author for Keyring {
    fn sign(&self, batch: Batch) -> Option<SignedBatch> {
        Some(crypto::sign_batch(&self.0, batch))
    }
}

/// Hears what a node's ledger tells, and checks that it tells it in order.
pub struct Watcher {
    node: u64,
    trace: Arc<Trace>,
    seen: Mutex<Revision>,
    fatal: Mutex<Vec<Fatal>>,
}

impl Watcher {
    fn advance(&self, what: &str, revision: &Revision) {
        let mut seen = self.seen.lock();
        assert!(revision.index > seen.index, "a ledger tells its revisions in order");
        *seen = *revision;
        self.trace.note(self.node, &format!("{what} {} {}", revision.index, revision.sequence));
    }
}

impl Observer for Watcher {
    fn applied(&self, changed: &[RecordKey], revision: &Revision) {
        self.advance(&format!("applied {}", changed.len()), revision);
    }
    fn replaced(&self, revision: &Revision) {
        self.advance("replaced", revision);
    }
    fn fatal(&self, why: &Fatal) {
        self.trace.note(self.node, &format!("fatal: {why}"));
        self.fatal.lock().push(why.clone());
    }
}

/// What listens at a node's address; a ledger is behind it once it has started.
#[derive(Default)]
struct Door(Mutex<Option<Ledger>>);

impl Listener for Door {
    fn hear(&self, from: PeerCertificate, frame: Frame) -> BoxFuture<'static, Result<Bytes, String>> {
        match &*self.0.lock() {
            Some(ledger) => ledger.hear(from, frame),
            None => Box::pin(async { Err("starting".into()) }),
        }
    }
}

/// A node: what of it outlives a crash, and its present life.
pub struct Node {
    /// Its number.
    pub id: NodeId,
    /// Its disk.
    pub disk: SimDisk,
    key: SigningKey,
    life: Option<Life>,
    lives: u64,
    fatal: Vec<Fatal>,
}

struct Life {
    context: Arc<Context>,
    ledger: Ledger,
    watcher: Arc<Watcher>,
}

impl Node {
    fn certificate(&self) -> PeerCertificate {
        PeerCertificate { key: self.key.public(), claims: self.id }
    }
}

/// The cluster and the world around it.
pub struct Cluster {
    /// The world's record and dice.
    pub trace: Arc<Trace>,
    /// The wires.
    pub hub: Arc<Hub>,
    /// The nodes, by number.
    pub nodes: BTreeMap<NodeId, Node>,
    /// What the nodes' configuration calls the cluster.
    pub name: Segment,
    keyring: Arc<Keyring>,
    timings: Timings,
    seed: u64,
}

impl Cluster {
    /// Three nodes, all switched off.
    pub fn new(seed: u64, timings: Timings, trace: Arc<Trace>, weather: Weather, honesty: Honesty) -> Cluster {
        let node = |n| Node {
            id: NodeId(n),
            disk: SimDisk::new(trace.clone(), honesty),
            key: signing_key(seed, n),
            life: None,
            lives: 0,
            fatal: Vec::new(),
        };
        let nodes = (1..=NODES).map(|n| (NodeId(n), node(n))).collect();
        let hub = Hub::new(trace.clone(), weather);
        let keyring = Arc::new(Keyring(signing_key(seed, 0)));
        let name = "sim".parse().expect("a good name");
        Cluster { trace, hub, nodes, name, keyring, timings, seed }
    }

    /// Switches a node on, unsealed.
    pub async fn start(&mut self, id: NodeId) -> Result<(), StartFailed> {
        let (config, hub, seed) = (self.config(id), self.hub.clone(), self.seed);
        let node = self.nodes.get_mut(&id).expect("the node exists");
        node.lives += 1;
        let life_seed = mix(seed, mix(id.0, node.lives));
        let context = Context::new(id.0, life_seed, (id.0 as i64 - 2) * 20_000, Duration::from_millis(777 * id.0));
        let watcher = Arc::new(Watcher {
            node: id.0,
            trace: self.trace.clone(),
            seen: Mutex::default(),
            fatal: Mutex::default(),
        });
        let door = Arc::new(Door::default());
        self.hub.listen(&address(id), node.certificate(), door.clone(), context.clone());
        let (disk, certificate, observer) = (node.disk.clone(), node.certificate(), watcher.clone());
        let now = GENESIS_TIME.plus_ms(self.trace.elapsed().as_millis() as u64 + 300 * id.0);
        let starting = context.spawn(async move {
            let world = World {
                disk: Arc::new(disk),
                network: Arc::new(Endpoint::new(hub, certificate)),
                clock: Arc::new(SkewedClock::new(now)),
                entropy: Arc::new(SeededEntropy::new(life_seed)),
            };
            Ledger::start(config, world, observer).await
        });
        let ledger = starting.await.expect("a start neither panics nor is killed")?;
        ledger.set_author(Some(self.keyring.clone()));
        *door.0.lock() = Some(ledger.clone());
        node.life = Some(Life { context, ledger, watcher });
        self.trace.note(id.0, "started");
        Ok(())
    }

    /// Cuts a node's power.
    pub async fn crash(&mut self, id: NodeId) {
        self.hub.leave(&address(id));
        let node = self.nodes.get_mut(&id).expect("the node exists");
        let Some(life) = node.life.take() else { return };
        node.fatal.append(&mut life.watcher.fatal.lock());
        life.context.kill();
        drop(life);
        // Aborted tasks are dropped when the runtime comes to them.
        for _ in 0..3 {
            tokio::task::yield_now().await;
        }
        self.trace.note(id.0, "crashed");
        node.disk.crash();
    }

    /// Founds the cluster: all pin one genesis, Raft begins, the first batch is applied.
    pub async fn found(&mut self) -> Outcome {
        let genesis = self.genesis();
        for id in self.running() {
            let (ledger, genesis) = (self.ledger(id).expect("running"), genesis.clone());
            let pinned = self.run_on(id, async move { ledger.pin_genesis(&genesis).await }).await;
            pinned.expect("alive").expect("a genesis that lists the node is pinned");
        }
        let first = NodeId(1);
        let ledger = self.ledger(first).expect("running");
        let batch = self.founding_batch(genesis);
        let founding = self.run_on(first, async move {
            ledger.initialize(&(1..=NODES).map(NodeId).collect()).await.expect("it is the first time");
            ledger.propose_signed(batch, Duration::from_secs(10)).await
        });
        founding.await.expect("alive").expect("a majority is there")
    }

    /// The ledger of a node, if it is on.
    pub fn ledger(&self, id: NodeId) -> Option<Ledger> {
        self.nodes[&id].life.as_ref().map(|life| life.ledger.clone())
    }

    /// The context of a node, if it is on.
    pub fn context(&self, id: NodeId) -> Option<Arc<Context>> {
        self.nodes[&id].life.as_ref().map(|life| life.context.clone())
    }

    /// The nodes that are on.
    pub fn running(&self) -> Vec<NodeId> {
        self.nodes.values().filter(|n| n.life.is_some()).map(|n| n.id).collect()
    }

    /// Who leads, as the node itself sees it.
    pub fn leader(&self) -> Option<NodeId> {
        self.running().into_iter().find(|id| self.ledger(*id).is_some_and(|l| l.status().leader == Some(*id)))
    }

    /// Everything fatal that any node has said.
    pub fn fatal(&self) -> Vec<(NodeId, Fatal)> {
        let now = |n: &Node| n.life.as_ref().map(|l| l.watcher.fatal.lock().clone()).unwrap_or_default();
        let all = |n: &Node| n.fatal.iter().cloned().chain(now(n)).map(|f| (n.id, f)).collect::<Vec<_>>();
        self.nodes.values().flat_map(all).collect()
    }

    /// Runs something as a task of a node; none when the node is off or dies meanwhile.
    pub async fn run_on<F>(&self, id: NodeId, future: F) -> Option<F::Output>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        self.context(id)?.spawn(future).await.ok()
    }

    /// The genesis that these nodes agree on. They must be on: each tells its own disk.
    pub fn genesis(&self) -> Genesis {
        let member = |n: &Node| Member {
            node: n.id,
            key: n.key.public(),
            disk: n.life.as_ref().expect("running").ledger.disk_id(),
            role: Role::Voter,
        };
        Genesis {
            cluster: "sim".parse().expect("a good name"),
            region: "here".parse().expect("a good name"),
            nonce: [self.seed as u8; 32],
            founded_at: GENESIS_TIME,
            threshold: 0,
            custodians: Vec::new(),
            txn_public: self.keyring.0.public(),
            roster: Roster::first(self.nodes.values().map(member).collect()),
        }
    }

    /// The batch that founds this genesis.
    pub fn founding_batch(&self, genesis: Genesis) -> SignedBatch {
        let lineage = Lineage(crypto::sha256(&[&genesis.signed_bytes()]).0);
        let link = crypto::sign_header(&self.keyring.0, first_header(&genesis, lineage));
        let roster = genesis.roster.to_bytes();
        let signed = genesis.signed_bytes();
        let countersign = |n: &Node| Countersignature { node: n.id, signature: crypto::sign(&n.key, &signed) };
        let countersignatures = self.nodes.values().map(countersign).collect();
        let puts = vec![
            Put { key: RecordKey::only(Table::Genesis), value: Founding { genesis, countersignatures }.to_bytes() },
            Put { key: RecordKey::numbered(Table::Header, 0), value: link.to_bytes() },
            Put { key: RecordKey::only(Table::Roster), value: roster },
        ];
        let txn = Txn {
            id: TxnId([0xf0; 16]),
            turn: 0,
            decided_at: UnixMs(0),
            relies: puts.iter().map(|p| Reliance::Exact(p.key, 0)).collect(),
            puts,
            deletes: Vec::new(),
            effect: Effect::Found,
        };
        let batch = Batch { lineage, generation: 1, author: NodeId(1), signer: 1, txns: vec![txn] };
        crypto::sign_batch(&self.keyring.0, batch)
    }

    /// How a node of this cluster is configured.
    pub fn config(&self, node: NodeId) -> LedgerConfig {
        LedgerConfig {
            node,
            cluster: self.name.clone(),
            addresses: (1..=NODES).map(|n| (NodeId(n), address(NodeId(n)))).collect(),
            timings: self.timings,
        }
    }
}

fn first_header(genesis: &Genesis, lineage: Lineage) -> Header {
    let nothing = Digest([0; 32]);
    Header {
        lineage,
        generation: 1,
        number: 0,
        previous: nothing,
        root: 1,
        seal_epoch: 0,
        txn_key: TxnKey { number: 1, public: genesis.txn_public },
        root_commitment: nothing,
        slots: nothing,
        roster: crypto::sha256(&[&genesis.roster.to_bytes()]),
        custodians: nothing,
        keyring: nothing,
        mandate: None,
    }
}

/// Where a node listens.
pub fn address(node: NodeId) -> String {
    format!("node-{node}")
}

fn signing_key(seed: u64, n: u64) -> SigningKey {
    let digest = crypto::sha256(&[b"claviger-sim key", &seed.to_be_bytes(), &n.to_be_bytes()]);
    SigningKey::from_seed(Secret::of(Fresh::drawn(digest.0)))
}

fn mix(a: u64, b: u64) -> u64 {
    (a ^ b.wrapping_mul(0x9e37_79b9_7f4a_7c15)).wrapping_mul(0xbf58_476d_1ce4_e5b9).rotate_left(31)
}
