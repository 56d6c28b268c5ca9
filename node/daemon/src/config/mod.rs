//! What an operator says: a TOML file, overridden by the environment, valid ever after.
//!
//! Every setting stands once, in [`Config::read`]; `deploy/clavigerd.example.toml` documents them, and a test holds the
//! two together.

mod place;
mod reader;
mod show;

#[cfg(test)]
mod tests;

pub use place::{Mistake, Mistakes};

use claviger_core::name::{Identity, NodeId, Segment};
use reader::Reader;
use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    path::{Path, PathBuf},
};

/// Nodes that a cluster may have.
const PEERS_MAX: usize = 64;
/// How long a chunk of a snapshot can be, in bytes: with what is around it, it fits a frame between nodes.
const CHUNK_BYTES: std::ops::RangeInclusive<u64> = 4 << 10..=2 << 20;
/// How much of Raft's log can be kept, in bytes: one batch at least.
const KEEP_BYTES: std::ops::RangeInclusive<u64> = 4 << 20..=1 << 40;

/// The whole configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Who this node is.
    pub node: Node,
    /// Where it listens.
    pub listen: Listen,
    /// Its certificate towards callers, and whose certificates it believes.
    pub tls_clients: TlsFiles,
    /// Its certificate towards peers, and whose certificates it believes.
    pub tls_peers: TlsFiles,
    /// All nodes of the cluster with their addresses (`host:port`), this one too.
    pub peers: BTreeMap<NodeId, String>,
    /// Who may ask for the founding, while there is no cluster that knows better.
    pub administrators: Vec<Identity>,
    /// How the node is opened.
    pub unseal: Unseal,
    /// Raft's timings.
    pub raft: Raft,
    /// Whether the audit book is synced before every answer, rather than within 100 ms: `[audit] strict`.
    pub strict_audit: bool,
    /// Bounds on what strangers and callers can take.
    pub limits: Limits,
    /// What the log says.
    pub log: Log,
}

/// `[node]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// The node's number, never used twice in a cluster.
    pub id: NodeId,
    /// Where its state is kept.
    pub data_dir: PathBuf,
    /// The cluster's name.
    pub cluster: Segment,
    /// The region's name.
    pub region: Segment,
}

/// `[listen]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listen {
    /// For callers.
    pub clients: SocketAddr,
    /// For other nodes.
    pub peers: SocketAddr,
    /// For Prometheus: plain HTTP, so on loopback.
    pub metrics: SocketAddr,
    /// Whether callers may ask which services there are.
    pub reflection: bool,
}

/// `[tls.clients]`, `[tls.peers]`: PEM files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsFiles {
    /// The authorities that the other end's certificate must come from.
    pub ca: PathBuf,
    /// Our certificate, leaf first.
    pub cert: PathBuf,
    /// Its private key, PKCS #8.
    pub key: PathBuf,
}

/// `[unseal]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unseal {
    /// Custodians put their shares together.
    Custodians,
    /// The key of the slot lies in a file. For systems that keep nothing of worth.
    Static(PathBuf),
}

/// `[raft]`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Raft {
    /// Between two heartbeats of a leader.
    pub heartbeat_ms: u64,
    /// A follower that has heard nothing for so long, at least, asks for votes.
    pub election_min_ms: u64,
    /// And at most.
    pub election_max_ms: u64,
    /// Entries between two snapshots.
    pub snapshot_entries: u64,
    /// Keys and values in one chunk of a snapshot, in bytes.
    pub snapshot_chunk_bytes: u64,
    /// Entries kept behind a snapshot, whoever lags.
    pub keep_entries: u64,
    /// Bytes of such entries, at most.
    pub keep_bytes: u64,
    /// Entries kept for a node that lags and needs them.
    pub keep_entries_max: u64,
    /// Bytes of such entries, at most.
    pub keep_bytes_max: u64,
}

/// `[limits]`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Handshakes under way on one listener. One more, and the oldest is dropped.
    pub handshakes: usize,
    /// Connections on one listener.
    pub connections: usize,
    /// HTTP/2 streams on one connection.
    pub streams_per_connection: u32,
    /// Requests of callers under way in the node.
    pub requests_in_flight: usize,
    /// Threads that answer callers and peers; 0 for as many as the machine has processors.
    pub threads: usize,
}

/// `[log]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Log {
    /// How lines look.
    pub format: LogFormat,
    /// The least level that is said.
    pub level: &'static str,
}

impl Default for Raft {
    fn default() -> Self {
        Raft {
            heartbeat_ms: 100,
            election_min_ms: 300,
            election_max_ms: 600,
            snapshot_entries: 5_000,
            snapshot_chunk_bytes: 1 << 20,
            keep_entries: 1_000,
            keep_bytes: 64 << 20,
            keep_entries_max: 100_000,
            keep_bytes_max: 512 << 20,
        }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            handshakes: 1_024,
            connections: 4_096,
            streams_per_connection: 1_024,
            requests_in_flight: 4_096,
            threads: 0,
        }
    }
}

/// How lines of the log look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    Text,
    /// For machines, one object a line.
    Json,
}

impl Config {
    /// Reads a file and the environment's `CLAVIGERD_<SECTION>_<KEY>`.
    ///
    /// # Errors
    /// All mistakes at once, each with its place.
    pub fn load(file: &Path) -> Result<Config, Mistakes> {
        let text = std::fs::read_to_string(file);
        let text = text.map_err(|e| Mistakes(vec![Mistake::of_file(file, format!("cannot be read: {e}"))]))?;
        let variables = std::env::vars_os().filter_map(|(k, v)| Some((k.into_string().ok()?, v)));
        let ours = variables.filter(|(k, _)| k.starts_with(reader::PREFIX));
        Config::read(file, &text, ours.map(|(k, v)| (k, v.to_string_lossy().into_owned())).collect())
    }

    /// Reads the text of a file with the variables that override it. Paths are relative to the file's folder.
    pub fn read(file: &Path, text: &str, variables: BTreeMap<String, String>) -> Result<Config, Mistakes> {
        let mut r = Reader::new(file, text, variables)?;
        let config = (|| {
            let (node, listen) = (node(&mut r), listen(&mut r));
            let (tls_clients, tls_peers) = (tls(&mut r, "tls.clients"), tls(&mut r, "tls.peers"));
            let (peers, administrators) = (peers(&mut r, node.as_ref().map(|n| n.id)), administrators(&mut r));
            let (unseal, raft, limits, log) = (unseal(&mut r), raft(&mut r), limits(&mut r), log(&mut r));
            let strict_audit = r.flag("audit", "strict", false);
            Some(Config {
                node: node?,
                listen: listen?,
                tls_clients: tls_clients?,
                tls_peers: tls_peers?,
                peers: peers?,
                administrators: administrators?,
                unseal: unseal?,
                raft: raft?,
                strict_audit: strict_audit?,
                limits: limits?,
                log: log?,
            })
        })();
        r.finish(config)
    }
}

fn node(r: &mut Reader) -> Option<Node> {
    let id = r.number("node", "id", None, 1..=u64::from(u32::MAX));
    let (data_dir, cluster) = (r.path("node", "data_dir"), r.parsed("node", "cluster"));
    let region = r.parsed("node", "region");
    Some(Node { id: NodeId(id?), data_dir: data_dir?, cluster: cluster?, region: region? })
}

fn listen(r: &mut Reader) -> Option<Listen> {
    let clients = r.address("listen", "clients", "127.0.0.1:7001");
    let peers = r.address("listen", "peers", "127.0.0.1:7002");
    let metrics = r.address("listen", "metrics", "127.0.0.1:7003");
    let reflection = r.flag("listen", "reflection", false);
    let listen = Listen { clients: clients?, peers: peers?, metrics: metrics?, reflection: reflection? };
    let all = BTreeSet::from([listen.clients, listen.peers, listen.metrics]);
    // Port 0 lets the system choose, so three of them do not meet.
    if all.len() < 3 && all.iter().all(|a| a.port() != 0) {
        r.refuse("listen", "peers", "clients, peers and metrics need an address each");
        return None;
    }
    if !listen.metrics.ip().is_loopback() {
        r.refuse("listen", "metrics", "metrics are told without TLS or authentication, so only on a loopback address");
        return None;
    }
    Some(listen)
}

fn tls(r: &mut Reader, section: &'static str) -> Option<TlsFiles> {
    let (ca, cert, key) = (r.path(section, "ca"), r.path(section, "cert"), r.path(section, "key"));
    Some(TlsFiles { ca: ca?, cert: cert?, key: key? })
}

fn peers(r: &mut Reader, this: Option<NodeId>) -> Option<BTreeMap<NodeId, String>> {
    let mut peers = BTreeMap::new();
    for (id, address) in r.all("peers") {
        let Some(node) = canonical(&id) else {
            r.refuse_free("peers", &id, "wanted a node's number as the key, such as 1 = \"host:7002\"");
            continue;
        };
        if !host_and_port(&address) {
            r.refuse_free("peers", &id, "wanted \"host:port\"");
        } else if peers.values().any(|other| *other == address) {
            r.refuse_free("peers", &id, "another node has this address");
        } else {
            peers.insert(node, address);
        }
    }
    if peers.len() > PEERS_MAX {
        r.refuse_section("peers", "at most 64 nodes");
    }
    if let Some(this) = this.filter(|id| !peers.contains_key(id)) {
        r.refuse_section("peers", &format!("this node is missing: add {this} = \"host:port\""));
    }
    Some(peers)
}

/// A node's number as it is printed: no sign, no leading zero.
pub(crate) fn canonical(text: &str) -> Option<NodeId> {
    let number: u64 = text.parse().ok().filter(|n| *n > 0)?;
    (number.to_string() == text).then_some(NodeId(number))
}

fn host_and_port(address: &str) -> bool {
    let Some((host, port)) = address.rsplit_once(':') else { return false };
    let host_good = match host.strip_prefix('[').and_then(|h| h.strip_suffix(']')) {
        Some(inner) => inner.parse::<std::net::Ipv6Addr>().is_ok(),
        None => !host.is_empty() && host.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-')),
    };
    host_good && port.parse::<u16>().is_ok_and(|p| p > 0)
}

fn administrators(r: &mut Reader) -> Option<Vec<Identity>> {
    let uris = r.list("founders", "administrators")?;
    let parsed: Result<Vec<Identity>, _> = uris.iter().map(|u| u.parse()).collect();
    match parsed {
        Ok(list) if !list.is_empty() => Some(list),
        Ok(_) => {
            r.refuse("founders", "administrators", "name at least one: nobody else may found the cluster");
            None
        }
        Err(bad) => {
            r.refuse("founders", "administrators", &bad.to_string());
            None
        }
    }
}

fn unseal(r: &mut Reader) -> Option<Unseal> {
    match r.choice("unseal", "kind", Some("custodians"), &["custodians", "static"])? {
        "static" => r.path("unseal", "file").map(Unseal::Static),
        _ => {
            r.absent("unseal", "file", "only kind = \"static\" has a file");
            Some(Unseal::Custodians)
        }
    }
}

fn raft(r: &mut Reader) -> Option<Raft> {
    let usual = Raft::default();
    let heartbeat_ms = r.number("raft", "heartbeat_ms", Some(usual.heartbeat_ms), 10..=10_000);
    let election_min_ms = r.number("raft", "election_min_ms", Some(usual.election_min_ms), 20..=60_000);
    let election_max_ms = r.number("raft", "election_max_ms", Some(usual.election_max_ms), 30..=120_000);
    let snapshot_entries = r.number("raft", "snapshot_entries", Some(usual.snapshot_entries), 10..=10_000_000);
    let chunk_bytes = r.number("raft", "snapshot_chunk_bytes", Some(usual.snapshot_chunk_bytes), CHUNK_BYTES);
    let keep_entries = r.number("raft", "keep_entries", Some(usual.keep_entries), 0..=10_000_000);
    let keep_bytes = r.number("raft", "keep_bytes", Some(usual.keep_bytes), KEEP_BYTES);
    let keep_entries_max = r.number("raft", "keep_entries_max", Some(usual.keep_entries_max), 0..=10_000_000);
    let keep_bytes_max = r.number("raft", "keep_bytes_max", Some(usual.keep_bytes_max), KEEP_BYTES);
    let raft = Raft {
        heartbeat_ms: heartbeat_ms?,
        election_min_ms: election_min_ms?,
        election_max_ms: election_max_ms?,
        snapshot_entries: snapshot_entries?,
        snapshot_chunk_bytes: chunk_bytes?,
        keep_entries: keep_entries?,
        keep_bytes: keep_bytes?,
        keep_entries_max: keep_entries_max?,
        keep_bytes_max: keep_bytes_max?,
    };
    if raft.election_min_ms < 2 * raft.heartbeat_ms {
        r.refuse("raft", "election_min_ms", "wanted at least twice heartbeat_ms, else one lost heartbeat elects");
        return None;
    }
    if raft.election_max_ms < raft.election_min_ms + raft.election_min_ms / 4 {
        let why = "wanted a quarter more than election_min_ms at least, else votes split for ever";
        r.refuse("raft", "election_max_ms", why);
        return None;
    }
    if raft.keep_entries_max < raft.keep_entries {
        r.refuse("raft", "keep_entries_max", "wanted at least keep_entries, which are kept whoever lags");
        return None;
    }
    if raft.keep_bytes_max < raft.keep_bytes {
        r.refuse("raft", "keep_bytes_max", "wanted at least keep_bytes, which are kept whoever lags");
        return None;
    }
    Some(raft)
}

fn limits(r: &mut Reader) -> Option<Limits> {
    let usual = Limits::default();
    let mut count = |key, default: usize, most| r.number("limits", key, Some(default as u64), 1..=most);
    let handshakes = count("handshakes", usual.handshakes, 65_536);
    let connections = count("connections", usual.connections, 1_000_000);
    let streams = count("streams_per_connection", usual.streams_per_connection as usize, 65_536);
    let requests = count("requests_in_flight", usual.requests_in_flight, 1_000_000);
    let threads = r.number("limits", "threads", Some(usual.threads as u64), 0..=1_024);
    Some(Limits {
        handshakes: usize::try_from(handshakes?).ok()?,
        connections: usize::try_from(connections?).ok()?,
        streams_per_connection: u32::try_from(streams?).ok()?,
        requests_in_flight: usize::try_from(requests?).ok()?,
        threads: usize::try_from(threads?).ok()?,
    })
}

fn log(r: &mut Reader) -> Option<Log> {
    let format = r.choice("log", "format", Some("text"), &["text", "json"]);
    let level = r.choice("log", "level", Some("info"), &["error", "warn", "info", "debug", "trace"]);
    let format = if format? == "json" { LogFormat::Json } else { LogFormat::Text };
    Some(Log { format, level: level? })
}
