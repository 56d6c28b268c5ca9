//! The only wiring: a world and a configuration in, a running node out.

use crate::api::{self, Health};
use crate::audit::{Book, BookFailed};
use crate::gate::Gate;
use crate::keeper;
use crate::metrics::{Metrics, Now};
use crate::peers::Ear;
use crate::seal::{FoundAsk, Founded, Seal};
use crate::service::Service;
use crate::watcher::Watcher;
use claviger_core::crypto::SigningKey;
use claviger_core::failure::Failure;
use claviger_core::name::{Identity, NodeId, Segment, VerifyingKey};
use claviger_core::page::Page;
use claviger_core::secret::Secret32;
use claviger_core::ticket::Ticket;
use claviger_ledger::{Fatal, Ledger, LedgerConfig, RaftRole, StartFailed as LedgerFailed};
pub use claviger_ledger::{Timings, World};
use claviger_proto::DESCRIPTOR_SET;
use claviger_world::network::Listener;
use claviger_world::runtime;
use claviger_world::watch;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;
use tonic::service::Routes;

/// Longest that a stopping node waits for its last audit head, and for another to take the lead.
const PARTING_WAIT: Duration = Duration::from_secs(2);

/// What opens the root key.
pub enum Unseal {
    /// Custodians, in a ceremony.
    Custodians,
    /// A 32-byte key that the node is given at start: for development and tests. Whoever has it has everything.
    Static(Secret32),
}

impl Unseal {
    /// Whether shares are dealt.
    pub(crate) fn by_custodians(&self) -> bool {
        matches!(self, Unseal::Custodians)
    }

    /// A copy of the static key, if that is what opens.
    pub(crate) fn static_key(&self) -> Option<Secret32> {
        match self {
            Unseal::Custodians => None,
            Unseal::Static(key) => Secret32::copy_from(key.expose()),
        }
    }

    /// The word in status answers.
    pub(crate) fn word(&self) -> &'static str {
        match self {
            Unseal::Custodians => "custodians",
            Unseal::Static(_) => "static",
        }
    }
}

/// What a node is told about itself.
pub struct NodeConfig {
    /// Its number.
    pub node: NodeId,
    /// The cluster's name.
    pub cluster: Segment,
    /// The region's name.
    pub region: Segment,
    /// Where every node of the region listens for peers, itself included.
    pub addresses: BTreeMap<NodeId, String>,
    /// The key of its peer certificate.
    pub identity: SigningKey,
    /// Who may found the cluster.
    pub founders: Vec<Identity>,
    /// What opens the root key.
    pub unseal: Unseal,
    /// Raft's timings.
    pub timings: Timings,
    /// Whether the audit book is synced before every answer, rather than within 100 ms.
    pub strict_audit: bool,
    /// Whether gRPC reflection is served.
    pub reflection: bool,
    /// The release, for status answers.
    pub version: &'static str,
    /// The number of the process, for status answers.
    pub process: u32,
    /// Longest that one step of a request may wait for the cluster.
    pub request_wait: Duration,
    /// Leave to join a cluster, for a node that belongs to none yet.
    pub ticket: Option<Ticket>,
}

impl NodeConfig {
    /// What [`NodeConfig::request_wait`] is unless somebody knows better.
    pub const REQUEST_WAIT: Duration = Duration::from_secs(30);
}

/// Why a node does not start.
#[derive(Debug)]
pub enum StartFailed {
    /// The ledger does not start on this disk or configuration.
    Ledger(LedgerFailed),
    /// An RPC has no line in the policy's matrix: nobody has said who may call it.
    Matrix(String),
    /// The audit book does not verify, or cannot be written.
    Book(BookFailed),
}

impl fmt::Display for StartFailed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            StartFailed::Ledger(why) => why.fmt(f),
            StartFailed::Matrix(rpc) => write!(f, "no line of the policy's matrix says who may call {rpc}"),
            StartFailed::Book(why) => write!(f, "the audit book: {why}"),
        }
    }
}

impl std::error::Error for StartFailed {}

impl StartFailed {
    /// Whether it fails in the same way until people have looked at the disk, or at whose it is.
    pub fn is_for_people(&self) -> bool {
        match self {
            StartFailed::Ledger(why) => why.is_for_people(),
            StartFailed::Book(why) => matches!(why, BookFailed::Broken(_)),
            StartFailed::Matrix(_) => false,
        }
    }
}

/// A running node.
pub struct Node {
    service: Arc<Service>,
    health: Health,
    ended: watch::Receiver<Option<Ended>>,
}

impl Node {
    /// Starts a node on a world.
    pub async fn start(world: World, config: NodeConfig) -> Result<Node, StartFailed> {
        api::check_matrix(DESCRIPTOR_SET).map_err(StartFailed::Matrix)?;
        let (watcher, ended) = Watcher::new();
        let ledger = Ledger::start(
            LedgerConfig {
                node: config.node,
                cluster: config.cluster.clone(),
                addresses: config.addresses.clone(),
                timings: config.timings,
            },
            world.clone(),
            watcher.clone(),
        )
        .await
        .map_err(StartFailed::Ledger)?;
        // After the ledger, which knows whose folder this is: another node's book is not to be touched, nor blamed.
        let book = match Book::open(&world, config.node, &config.identity) {
            Ok(book) => book,
            Err(why) => {
                ledger.shutdown().await;
                return Err(StartFailed::Book(why));
            }
        };
        let service = Arc::new(Service {
            gate: Gate::new(config.founders.clone()),
            seal: Seal::new(ledger.clone()),
            book,
            metrics: Metrics::new(world.clock.now()),
            founded: parking_lot::Mutex::new(None),
            founding: tokio::sync::Mutex::new(()),
            ceremony: parking_lot::Mutex::new(None),
            closed: parking_lot::Mutex::default(),
            sealings: parking_lot::Mutex::default(),
            expecting: parking_lot::Mutex::new(None),
            recovery: parking_lot::Mutex::new(None),
            restored: parking_lot::Mutex::new(None),
            saving: Arc::default(),
            berths: Arc::default(),
            stopping: watch::channel(false).0,
            config,
            world,
            ledger,
        });
        watcher.bind(&service);
        let health = Health::sealed().await;
        // Told now, and not only when custodians have gathered: the node votes and stores, and will not be opened.
        let _ = service.book_holds_its_head(&service.ledger.view());
        service.announce();
        keeper::start(&service, health.clone());
        Ok(Node { service, health, ended })
    }

    /// All services for callers.
    pub fn routes(&self) -> Routes {
        api::routes(self.service.clone(), &self.health, self.service.config.reflection)
    }

    /// The core service, for doors other than gRPC.
    pub fn service(&self) -> &Arc<Service> {
        &self.service
    }

    /// The ledger under it: what it shows may be looked at, nothing may be written past the service.
    pub fn ledger(&self) -> &Ledger {
        &self.service.ledger
    }

    /// The number that the next page of this node's book has.
    pub fn next_page(&self) -> u64 {
        self.service.book.position().next
    }

    /// Pages of this node's book from number `from` on, as far as they are kept in memory. For whoever runs the node: it
    /// asks nobody's leave, and leaves no page.
    pub fn pages_from(&self, from: u64) -> Vec<Page> {
        self.service.book.last(from)
    }

    /// Whether the audit book cannot be written any more: requests are refused until the node starts again, and health says
    /// Whether calls are about to be answered, one right after the other: whoever writes to a connection may wait for them.
    pub fn answers_follow(&self) -> bool {
        self.service.book.answers_follow()
    }

    /// so.
    pub fn book_failed(&self) -> bool {
        self.service.book.failed()
    }

    /// Whether the node's keys are in memory.
    pub fn is_open(&self) -> bool {
        self.service.seal.is_open()
    }

    /// Whether the bearer of that key was a member once and is none any more: its connections are to be closed.
    pub fn has_left(&self, key: &VerifyingKey) -> bool {
        self.service.ledger.has_left(key)
    }

    /// What hears peers.
    pub fn listener(&self) -> Arc<dyn Listener> {
        Arc::new(Ear(self.service.clone()))
    }

    /// What the node counts, for others to register theirs with.
    pub fn metrics(&self) -> &Metrics {
        &self.service.metrics
    }

    /// Everything that is counted, as of now, in the OpenMetrics text format.
    pub fn metrics_text(&self) -> String {
        let service = &self.service;
        let clock = &service.world.clock;
        service.metrics.text(&Now {
            ledger: service.ledger.figures(),
            open: service.seal.is_open(),
            ceremony_shares: service.ceremony.lock().as_ref().and_then(|open| open.waits_with(clock.now())),
            audit_pages: service.book.position().next - 1,
            audit_unsigned_pages: service.book.unsigned(),
            audit_book_failed: service.book.failed(),
            barrier_age: service.ledger.confirmed_at().map(|at| clock.awake_and_asleep().saturating_sub(at)),
        })
    }

    /// Founds a cluster on the word of whoever started the process: development nodes do, whose data is their own.
    pub async fn found(&self, ask: FoundAsk) -> Result<Founded, Failure> {
        self.service.found(ask).await
    }

    /// Completes, with the reason, when the node must end by itself: a failed disk, a diverged state.
    pub async fn ended(&self) -> Ended {
        let mut ended = self.ended.clone();
        let dropped = |_| Ended { why: "the node was dropped".into(), for_people: false };
        ended.until(Clone::clone).await.unwrap_or_else(dropped)
    }

    /// Ends streams of callers in order, before their listener is told to stop: it waits for them. Items that are under way
    /// are answered, no more are taken.
    pub fn end_streams(&self) {
        self.service.end_streams();
    }

    /// Stops: hands over the lead, seals, closes the book.
    pub async fn stop(&self) {
        self.end_streams();
        // Who ends by itself has nothing that others should take, and often nobody who could.
        if self.ended.borrow().is_none() {
            self.part().await;
        }
        self.service.shut().await;
        if let Err(why) = self.service.book.sync().await {
            tracing::error!(%why, "the audit book could not be synced");
        }
        self.service.ledger.shutdown().await;
    }

    /// Leaves to others what they need. Neither is waited for any longer than a moment: where no majority is left, nobody can
    /// lead, and no head is put.
    async fn part(&self) {
        match runtime::timeout(PARTING_WAIT, self.service.sign_head()).await {
            Ok(Ok(())) => {}
            Ok(Err(why)) => tracing::warn!(%why, "the head of the audit book is not in the ledger"),
            Err(_) => tracing::warn!("the head of the audit book is not in the ledger: no majority answers"),
        }
        if self.service.ledger.status().role == RaftRole::Leader {
            let handed = self.service.ledger.transfer_leader(PARTING_WAIT).await;
            tracing::info!(?handed, "the lead was to be handed over");
        }
    }
}

/// Why a node has ended by itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ended {
    /// In words.
    pub why: String,
    /// Whether it must not be started again before people have looked, or decided.
    pub for_people: bool,
}

impl fmt::Display for Ended {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.why.fmt(f)
    }
}

impl std::error::Error for Ended {}

impl From<&Fatal> for Ended {
    fn from(why: &Fatal) -> Self {
        Ended { why: why.to_string(), for_people: why.is_for_people() }
    }
}

/// Starts a task of the node.
pub(crate) fn task(future: impl Future<Output = ()> + Send + 'static) {
    // Tasks of a node end with it: when its runtime or its simulated context does.
    drop(runtime::spawn(future));
}
