//! Where the real world and the node meet: everything is opened, started, watched and stopped here, in this order.

use crate::{
    clock::MachineClock,
    config::{Config, Limits, Unseal},
    dev::Home,
    entropy::MachineEntropy,
    in_flight::InFlight,
    line,
    listen::{self, Door, Stop},
    network::PeerNetwork,
    peer, scrape, telling,
    tls::{self, LiveTls, peer_certificate},
    traffic::Traffic,
};
use claviger_core::crypto::SigningKey;
use claviger_core::ticket::Ticket;
use claviger_rocks::Rocks;
use claviger_server::{Connection, Node, NodeConfig, Timings, World};
use claviger_world::disk::Disk;
use claviger_world::network::PeerCertificate;
use rustls::crypto::aws_lc_rs;
use sd_notify::NotifyState;
use std::{error::Error, net::SocketAddr, sync::Arc, time::Duration};
use tokio::{
    net::TcpListener,
    signal::unix::{Signal, SignalKind, signal},
    sync::watch,
    task::JoinHandle,
    time::timeout,
};
use tonic::service::Routes;

/// Longest that requests of callers may take to end when the node stops, in milliseconds.
const DRAIN_MS_MAX: u64 = 5_000;
/// Longest that the node itself may take to hand over its lead and seal, in milliseconds.
const PARTING_MS_MAX: u64 = 15_000;
/// Requests of peers under way.
const PEER_REQUESTS_MAX: usize = 4_096;

type Failure = Box<dyn Error>;

/// What may stand between the node and its disk: nothing, but for tests.
pub type Layer = fn(Arc<dyn Disk>) -> Arc<dyn Disk>;

/// What callers may be served beside the node's own services: nothing, but where that is measured.
pub type Beside = fn(Routes) -> Routes;

/// What stands around a node that has to be measured, or found out.
#[derive(Clone, Copy)]
pub struct Around {
    /// Between the node and its disk.
    pub layer: Layer,
    /// Beside its services.
    pub beside: Beside,
}

impl Default for Around {
    fn default() -> Self {
        Around { layer: |disk| disk, beside: |routes| routes }
    }
}

/// Runs a node until a signal ends it, or it must end by itself.
///
/// # Errors
/// What kept it from starting, or made it end.
pub fn run(config: Config, home: Option<Home>, ticket: Option<Ticket>, around: Around) -> Result<(), Failure> {
    // One provider, chosen here: with none chosen, a library might choose for itself.
    aws_lc_rs::default_provider().install_default().map_err(|_| "a TLS provider was installed before ours")?;
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    if config.limits.threads > 0 {
        builder.worker_threads(config.limits.threads);
    }
    let runtime = builder.enable_all().build()?;
    let done = runtime.block_on(live(config, home, ticket, around));
    // Tasks that wait on a disk or a peer do not keep a process that is done.
    runtime.shutdown_timeout(Duration::from_millis(DRAIN_MS_MAX));
    done
}

/// The sockets, bound before anything else is touched.
struct Sockets {
    clients: TcpListener,
    peers: TcpListener,
    metrics: TcpListener,
}

impl Sockets {
    fn bind(config: &Config) -> std::io::Result<Sockets> {
        let listen = &config.listen;
        let (clients, peers) = (listen::bind(listen.clients)?, listen::bind(listen.peers)?);
        Ok(Sockets { clients, peers, metrics: listen::bind(listen.metrics)? })
    }

    fn addresses(&self) -> std::io::Result<[SocketAddr; 3]> {
        Ok([self.clients.local_addr()?, self.peers.local_addr()?, self.metrics.local_addr()?])
    }
}

async fn live(config: Config, home: Option<Home>, ticket: Option<Ticket>, around: Around) -> Result<(), Failure> {
    let mut ends = Ends::listen()?;
    // Heard from the start: a hang-up that nobody listens for ends a process.
    let hangup = signal(SignalKind::hangup())?;
    let clock = Arc::new(MachineClock);
    let tls = LiveTls::load(&config, clock.clone())?;
    let sockets = Sockets::bind(&config)?;
    let addresses = sockets.addresses()?;
    let disk = Arc::new(Rocks::open(&config.node.data_dir, Box::new(end_at_once))?);
    let world = World {
        disk: (around.layer)(disk.clone()),
        network: Arc::new(PeerNetwork::new(tls.clone(), clock.clone())),
        clock,
        entropy: Arc::new(MachineEntropy),
    };
    let node = Arc::new(Node::start(world, node_config(&config, ticket)?).await?);
    let running = Running::start(&config, &node, &tls, disk, sockets, around.beside);
    let following = tokio::spawn(tls.follow(hangup));
    if let Some(home) = &home {
        node.found(home.founding()).await.map_or_else(Home::founded_before, |_| Ok(()))?;
        home.tell(addresses[0], addresses[2])?;
    }
    tracing::info!(clients = %addresses[0], peers = %addresses[1], metrics = %addresses[2], "node is up");
    let status = format!("node {}: callers on {}, peers on {}", config.node.id, addresses[0], addresses[1]);
    notify(&[NotifyState::Ready, NotifyState::Status(&status)]);
    let why = ends.first(&node).await;
    notify(&[NotifyState::Stopping, NotifyState::Status("stopping")]);
    following.abort();
    running.stop(&node).await;
    why
}

fn node_config(config: &Config, ticket: Option<Ticket>) -> Result<NodeConfig, Failure> {
    let (node, raft) = (&config.node, &config.raft);
    Ok(NodeConfig {
        node: node.id,
        cluster: node.cluster.clone(),
        region: node.region.clone(),
        addresses: config.peers.clone(),
        identity: SigningKey::from_seed(tls::identity_seed(&config.tls_peers)?),
        founders: config.administrators.clone(),
        unseal: match &config.unseal {
            Unseal::Custodians => claviger_server::Unseal::Custodians,
            Unseal::Static(file) => claviger_server::Unseal::Static(tls::static_slot(file)?),
        },
        timings: Timings {
            heartbeat_ms: raft.heartbeat_ms,
            election_min_ms: raft.election_min_ms,
            election_max_ms: raft.election_max_ms,
            snapshot_entries: raft.snapshot_entries,
            snapshot_chunk_bytes: raft.snapshot_chunk_bytes as usize,
            log_entries_kept: raft.keep_entries,
            log_bytes_kept: raft.keep_bytes,
            log_entries_max: raft.keep_entries_max,
            log_bytes_max: raft.keep_bytes_max,
            ..Timings::default()
        },
        strict_audit: config.strict_audit,
        reflection: config.listen.reflection,
        process: std::process::id(),
        request_wait: NodeConfig::REQUEST_WAIT,
        version: env!("CARGO_PKG_VERSION"),
        ticket,
    })
}

/// After a failed write nobody knows what the disk holds: not one more answer may leave, so nothing is wound down.
fn end_at_once(failure: &claviger_world::disk::DiskFailed) {
    tracing::error!(error = %failure, "the disk failed; the process ends at once, so that nothing rests on that write");
    notify(&[NotifyState::Status(&format!("ended: {failure}"))]);
    std::process::abort();
}

/// What can end the process.
struct Ends {
    terminate: Signal,
    interrupt: Signal,
}

impl Ends {
    fn listen() -> std::io::Result<Ends> {
        Ok(Ends { terminate: signal(SignalKind::terminate())?, interrupt: signal(SignalKind::interrupt())? })
    }

    async fn first(&mut self, node: &Node) -> Result<(), Failure> {
        tokio::select! {
            biased;
            why = node.ended() => Err(why.into()),
            _ = self.terminate.recv() => Ok(()),
            _ = self.interrupt.recv() => Ok(()),
        }
    }
}

/// The listeners, and how they are told to stop: callers first, while peers can still take over.
struct Running {
    callers: (watch::Sender<bool>, JoinHandle<Result<(), tonic::transport::Error>>),
    peers: (watch::Sender<bool>, JoinHandle<Result<(), tonic::transport::Error>>),
    others: Vec<JoinHandle<()>>,
}

impl Running {
    fn start(
        config: &Config,
        node: &Arc<Node>,
        tls: &Arc<LiveTls>,
        disk: Arc<Rocks>,
        sockets: Sockets,
        beside: Beside,
    ) -> Running {
        let (stop_callers, callers_stopped) = watch::channel(false);
        let (stop_peers, peers_stopped) = watch::channel(false);
        let [of_callers, of_peers] = node.metrics().register(|r| Traffic::register(r, ["clients", "peers"]));
        let routes = beside(node.routes());
        let callers = callers(sockets.clients, (node, routes), tls, (config.limits, of_callers), callers_stopped);
        let peers = peers(sockets.peers, node, tls, (config.limits, of_peers), peers_stopped.clone());
        let page = telling::page(node.clone(), tls.clone(), disk);
        let mut others = vec![tokio::spawn(scrape::serve(sockets.metrics, page, peers_stopped))];
        others.extend(sd_notify::watchdog_enabled().map(|within| tokio::spawn(bark(within / 2))));
        Running { callers: (stop_callers, callers), peers: (stop_peers, peers), others }
    }

    async fn stop(self, node: &Node) {
        node.end_streams();
        end("callers", self.callers).await;
        if timeout(Duration::from_millis(PARTING_MS_MAX), node.stop()).await.is_err() {
            tracing::warn!("the node did not part in time");
        }
        end("peers", self.peers).await;
        self.others.iter().for_each(JoinHandle::abort);
        tracing::info!("node has stopped");
    }
}

async fn end(who: &str, (stop, task): (watch::Sender<bool>, JoinHandle<Result<(), tonic::transport::Error>>)) {
    stop.send_replace(true);
    match timeout(Duration::from_millis(DRAIN_MS_MAX), task).await {
        Ok(Ok(Ok(()))) => {}
        Ok(Ok(Err(e))) => tracing::warn!(who, error = %e, "a listener ended badly"),
        Ok(Err(e)) => tracing::warn!(who, error = %e, "a listener ended badly"),
        Err(_) => tracing::info!(who, "requests under way were cut off"),
    }
}

type Serving = JoinHandle<Result<(), tonic::transport::Error>>;

type Bounds = (Limits, Traffic);

fn callers(
    listener: TcpListener,
    (node, routes): (&Arc<Node>, Routes),
    tls: &Arc<LiveTls>,
    (limits, traffic): Bounds,
    stop: Stop,
) -> Serving {
    let (tls, node) = (tls.clone(), node.clone());
    let bound = InFlight::new(limits.requests_in_flight, traffic.clone());
    let door = Door {
        tls: Box::new(move || tls.clients()),
        protocol: listen::HTTP2,
        admit: Box::new(|leaf| Some(Connection::of(Some(&leaf)))),
        stays: Box::new(|_| true),
        more_follows: Box::new(move || node.answers_follow()),
        clock: Arc::new(MachineClock),
        limits,
        traffic,
    };
    tokio::spawn(listen::serve(listener, door, routes, bound, stop))
}

fn peers(
    listener: TcpListener,
    node: &Arc<Node>,
    tls: &Arc<LiveTls>,
    (limits, traffic): Bounds,
    stop: Stop,
) -> Serving {
    let bound = InFlight::new(PEER_REQUESTS_MAX, traffic.clone());
    let (tls, domain, members) = (tls.clone(), tls.now().domain.clone(), node.clone());
    let door = Door {
        tls: Box::new(move || tls.peers()),
        protocol: line::PROTOCOL,
        admit: Box::new(move |leaf| peer_certificate(&leaf, &domain).ok()),
        stays: Box::new(move |peer: &PeerCertificate| !members.has_left(&peer.key)),
        more_follows: Box::new(|| false),
        clock: Arc::new(MachineClock),
        limits,
        traffic,
    };
    let node = node.listener();
    tokio::spawn(async move {
        peer::serve(listener, door, node, bound, stop).await;
        Ok(())
    })
}

/// Tells systemd's watchdog that the runtime still turns.
async fn bark(every: Duration) {
    let mut beat = tokio::time::interval(every);
    loop {
        beat.tick().await;
        notify(&[NotifyState::Watchdog]);
    }
}

/// Tells systemd, if it is there to listen; the log has it anyway.
fn notify(state: &[NotifyState<'_>]) {
    if let Err(e) = sd_notify::notify(state) {
        tracing::debug!(error = %e, "systemd could not be told");
    }
}
