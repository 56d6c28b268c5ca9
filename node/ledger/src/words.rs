//! The words that the ledger and its callers share.

use crate::WentBack;
use claviger_core::header::HeaderLink;
use claviger_core::name::{DiskId, Lineage, NodeId, Segment, TxnId};
use claviger_core::record::{RecordKey, Version};
use claviger_core::roster::{Founding, Roster};
use claviger_core::snapshot::CHUNK_BYTES;
use claviger_core::time::UnixMs;
use claviger_core::txn::{Batch, Checkpoint, SignedBatch};
use claviger_world::clock::Clock;
use claviger_world::disk::{Disk, DiskFailed};
use claviger_world::entropy::Entropy;
use claviger_world::network::Network;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// What a ledger is told when it starts.
#[derive(Clone, Debug)]
pub struct LedgerConfig {
    /// This node.
    pub node: NodeId,
    /// The cluster's name: a data folder of another is refused.
    pub cluster: Segment,
    /// Where every node listens for its peers, this one too.
    pub addresses: BTreeMap<NodeId, String>,
    /// How long, how often, how much.
    pub timings: Timings,
}

/// How long, how often, how much.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timings {
    /// Between two heartbeats of a leader, in milliseconds.
    pub heartbeat_ms: u64,
    /// Least silence after which a follower stands for election, in milliseconds.
    pub election_min_ms: u64,
    /// Most silence after which a follower stands for election, in milliseconds.
    pub election_max_ms: u64,
    /// Log entries between two snapshots.
    pub snapshot_entries: u64,
    /// Keys and values that one chunk of a snapshot is filled up to, in bytes.
    pub snapshot_chunk_bytes: usize,
    /// Log entries that are kept although a snapshot covers them, whoever needs them.
    pub log_entries_kept: u64,
    /// Bytes of such entries that are kept, at most.
    pub log_bytes_kept: u64,
    /// Log entries that are kept for a follower that needs them. One that is further behind gets a snapshot.
    pub log_entries_max: u64,
    /// Bytes of such entries that are kept, at most.
    pub log_bytes_max: u64,
    /// Log entries between two checkpoints.
    pub checkpoint_entries: u64,
    /// Between two ticks of cluster time, in milliseconds.
    pub tick_ms: u64,
}

impl Default for Timings {
    fn default() -> Self {
        Timings {
            heartbeat_ms: 100,
            election_min_ms: 300,
            election_max_ms: 600,
            snapshot_entries: 5_000,
            snapshot_chunk_bytes: CHUNK_BYTES,
            log_entries_kept: 1_000,
            log_bytes_kept: 64 << 20,
            log_entries_max: 100_000,
            log_bytes_max: 512 << 20,
            checkpoint_entries: 1_000,
            tick_ms: 60_000,
        }
    }
}

/// The world that a ledger runs in.
#[derive(Clone)]
pub struct World {
    /// The node's disk.
    pub disk: Arc<dyn Disk>,
    /// The way to other nodes.
    pub network: Arc<dyn Network>,
    /// The node's clock.
    pub clock: Arc<dyn Clock>,
    /// The node's randomness.
    pub entropy: Arc<dyn Entropy>,
}

/// Hears what happened, in the order of the log, before anybody who waits for it is woken. Must not block.
pub trait Observer: Send + Sync + 'static {
    /// These records were put or deleted; sorted, each once. A view of this revision can be had already.
    fn applied(&self, changed: &[RecordKey], revision: &Revision);

    /// A snapshot was installed: anything may have changed.
    fn replaced(&self, revision: &Revision);

    /// The node must end. Said once.
    fn fatal(&self, why: &Fatal);
}

/// Signs batches, as long as the keyring is open.
pub trait Author: Send + Sync + 'static {
    /// Signs with the transaction key that the batch names. None when that is not at hand, or not any more.
    fn sign(&self, batch: Batch) -> Option<SignedBatch>;
}

/// How far a node's records have come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Revision {
    /// Transactions accepted.
    pub sequence: Version,
    /// Log index of the last entry applied.
    pub index: u64,
    /// Transactions applied, accepted or refused: what a new transaction says it was decided at.
    pub turn: u64,
    /// Cluster time: what a new transaction says it was decided at, too.
    pub cluster_time: UnixMs,
    /// From a barrier: when its round began, by `Clock::awake_and_asleep`. From `Ledger::revision`: when the last round
    /// began that was confirmed and applied here, zero if there was none yet. Else zero. Zero says nothing of freshness:
    /// for that there is `Ledger::confirmed_at`.
    pub started_at: Duration,
}

/// A transaction that may or may not have happened, or may yet happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unknown {
    /// Its id.
    pub id: TxnId,
    /// The turn that it was decided at.
    pub turn: u64,
}

/// Why a proposal brought no outcome.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProposeFailed {
    /// It may have happened, or may yet: propose the very same again, or cancel it.
    Unknown(Unknown),
    /// It did not happen and will not: nobody led in time.
    NoQuorum,
    /// It did not happen: this node is sealed, or there is no cluster yet.
    NotAuthor,
    /// It did not happen: it is longer than a batch may be.
    TooLarge,
    /// The ledger has stopped.
    Stopped,
}

impl fmt::Display for ProposeFailed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            ProposeFailed::Unknown(_) => "the outcome is not known",
            ProposeFailed::NoQuorum => "no majority of the cluster could be reached",
            ProposeFailed::NotAuthor => "this node is sealed",
            ProposeFailed::TooLarge => "the transaction is too long",
            ProposeFailed::Stopped => "the ledger has stopped",
        })
    }
}

impl std::error::Error for ProposeFailed {}

/// Why a read or a wait was given up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unavailable {
    /// No leader confirmed itself in time.
    NoQuorum,
    /// This node has not applied that far in time.
    Behind,
    /// The ledger has stopped.
    Stopped,
}

impl fmt::Display for Unavailable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Unavailable::NoQuorum => "no majority of the cluster could be reached",
            Unavailable::Behind => "this node is behind",
            Unavailable::Stopped => "the ledger has stopped",
        })
    }
}

impl std::error::Error for Unavailable {}

/// Why a ledger did not start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StartFailed {
    /// The disk did not answer.
    Disk(DiskFailed),
    /// The data folder is of another node.
    OtherNode {
        /// Whose it is.
        found: NodeId,
    },
    /// The data folder is of another cluster.
    OtherCluster {
        /// Whose it is.
        found: Segment,
    },
    /// What is stored is not what was stored.
    Damaged(&'static str),
    /// The tables hold less than they once did.
    WentBack(WentBack),
    /// The timings contradict each other.
    Config(String),
    /// Raft did not start.
    Raft(String),
}

impl fmt::Display for StartFailed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            StartFailed::Disk(failed) => failed.fmt(f),
            StartFailed::OtherNode { found } => write!(f, "the data folder belongs to node {found}"),
            StartFailed::OtherCluster { found } => write!(f, "the data folder belongs to cluster {found}"),
            StartFailed::Damaged(what) => write!(f, "the data folder is damaged: {what}; {NEXT}"),
            StartFailed::WentBack(what) => what.fmt(f),
            StartFailed::Config(why) => write!(f, "the Raft timings are not usable: {why}"),
            StartFailed::Raft(why) => write!(f, "Raft did not start: {why}"),
        }
    }
}

impl std::error::Error for StartFailed {}

impl StartFailed {
    /// Whether it fails in the same way until people have looked at the disk, or at whose it is.
    pub fn is_for_people(&self) -> bool {
        match self {
            StartFailed::OtherNode { .. }
            | StartFailed::OtherCluster { .. }
            | StartFailed::Damaged(_)
            | StartFailed::WentBack(_) => true,
            StartFailed::Disk(_) | StartFailed::Config(_) | StartFailed::Raft(_) => false,
        }
    }
}

/// Why a genesis was neither pinned nor abandoned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PinRefused {
    /// Another one is pinned.
    OtherGenesis,
    /// It names another cluster than the configuration.
    OtherCluster,
    /// Its roster has not this node with this disk.
    NotMember,
    /// The log has begun: it holds a founding, or the genesis that it began with is being abandoned.
    Begun,
    /// The disk failed.
    Disk(DiskFailed),
}

impl fmt::Display for PinRefused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            PinRefused::OtherGenesis => f.write_str("another genesis is pinned on this node"),
            PinRefused::OtherCluster => f.write_str("the genesis is of another cluster than the configuration"),
            PinRefused::NotMember => f.write_str("the genesis does not list this node with this disk"),
            PinRefused::Begun => f.write_str("the log has begun"),
            PinRefused::Disk(failed) => failed.fmt(f),
        }
    }
}

impl std::error::Error for PinRefused {}

/// What proves how a cluster stands to whoever holds its lineage: `claviger_core::chain::Chain::walk` follows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proof {
    /// What the lineage is the hash of.
    pub founding: Founding,
    /// Every link of the header chain.
    pub links: Vec<HeaderLink>,
    /// The roster that the last of them names.
    pub roster: Roster,
}

/// Why Raft was not initialised.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum InitializeFailed {
    /// No genesis is pinned, or the voters are not all in its roster.
    NotFounded,
    /// It was initialised before.
    Begun,
    /// The ledger has stopped.
    Stopped,
}

impl fmt::Display for InitializeFailed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            InitializeFailed::NotFounded => "no pinned genesis lists these voters",
            InitializeFailed::Begun => "the cluster was initialised before",
            InitializeFailed::Stopped => "the ledger has stopped",
        })
    }
}

impl std::error::Error for InitializeFailed {}

/// Why a node must end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fatal {
    /// The disk failed. There is no retry.
    Disk(DiskFailed),
    /// This replica's state differs from what a signed checkpoint says.
    Diverged {
        /// Log index of the checkpoint's own entry.
        index: u64,
        /// Log index that it speaks of.
        checkpoint: u64,
    },
    /// A majority of voters has another state than this replica.
    Outvoted {
        /// Log index of the entry that it was asked about.
        index: u64,
    },
    /// Raft wanted to truncate what was applied.
    TruncatedApplied {
        /// From this log index on.
        index: u64,
    },
    /// Something stored is not what its format says.
    Damaged(&'static str),
    /// The disk holds less than others know that it held.
    WentBack(WentBack),
    /// Raft stopped by itself.
    Raft(String),
    /// The founding was abandoned after Raft had begun. The next start clears what it left, and the node is as new.
    Abandoned,
    /// The newest roster says that this node has left for good.
    Retired,
    /// Custodians have given two nodes a mandate to begin that generation: which of them goes on is for people to say.
    Torn {
        /// The generation.
        generation: u64,
    },
    /// The custodians have given this node a mandate to go on alone: the next start carries it out.
    Mandated,
}

impl Fatal {
    /// Whether the same would come of another start, or something that people should have decided before.
    pub fn is_for_people(&self) -> bool {
        match self {
            Fatal::Diverged { .. } | Fatal::Outvoted { .. } | Fatal::WentBack(_) => true,
            Fatal::Retired | Fatal::Torn { .. } | Fatal::Mandated => true,
            Fatal::Disk(_) | Fatal::Damaged(_) | Fatal::TruncatedApplied { .. } | Fatal::Raft(_) | Fatal::Abandoned => {
                false
            }
        }
    }
}

impl fmt::Display for Fatal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Fatal::Disk(failed) => failed.fmt(f),
            Fatal::Diverged { index, checkpoint } => {
                write!(
                    f,
                    "this node's state differs from the cluster's as of entry {checkpoint}, says the checkpoint at entry \
                     {index}: replace its disk"
                )
            }
            Fatal::Outvoted { index } => write!(
                f,
                "this node's state differs from the cluster's as of entry {index}, most nodes say: replace its disk"
            ),
            Fatal::TruncatedApplied { index } => write!(f, "Raft wanted to truncate applied entries from {index} on"),
            Fatal::Damaged(what) => write!(f, "the data folder is damaged: {what}; {NEXT}"),
            Fatal::WentBack(what) => what.fmt(f),
            Fatal::Raft(why) => write!(f, "Raft stopped: {why}"),
            Fatal::Retired => f.write_str(
                "this node was removed from its cluster: switch it off; its disk and its number are not used again",
            ),
            Fatal::Torn { generation } => write!(
                f,
                "two nodes have each begun generation {generation} by a mandate of the custodians: keep one of the two \
                 clusters, and destroy the disks of the other"
            ),
            Fatal::Abandoned => f.write_str("the founding was abandoned: start the node again"),
            Fatal::Mandated => f.write_str("the custodians have given their mandate: start the node again"),
        }
    }
}

impl std::error::Error for Fatal {}

/// What an operator does about a damaged folder.
const NEXT: &str = "do not repair it in place: replace the node";

/// Tells the node, once, that it must end.
#[derive(Clone)]
pub(crate) struct Halt {
    observer: Arc<dyn Observer>,
    told: Arc<AtomicBool>,
}

impl Halt {
    pub fn new(observer: Arc<dyn Observer>) -> Halt {
        Halt { observer, told: Arc::new(AtomicBool::new(false)) }
    }

    /// Tells the observer, unless it was told before.
    pub fn halt(&self, why: Fatal) {
        if !self.told.swap(true, Ordering::SeqCst) {
            tracing::error!(%why, "the node must end");
            self.observer.fatal(&why);
        }
    }

    /// Whether the observer was told.
    pub fn halted(&self) -> bool {
        self.told.load(Ordering::SeqCst)
    }
}

/// What a node is in Raft now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RaftRole {
    /// Orders transactions.
    Leader,
    /// Stands for election.
    Candidate,
    /// Follows and votes.
    Follower,
    /// Follows.
    Learner,
    /// Has stopped.
    Stopped,
}

/// How a ledger fares.
#[derive(Clone, Debug)]
pub struct Status {
    /// This node.
    pub node: NodeId,
    /// Its disk.
    pub disk: DiskId,
    /// How often it has started on that disk.
    pub incarnation: u64,
    /// The cluster, once founded.
    pub lineage: Option<Lineage>,
    /// Who leads, as far as this node knows.
    pub leader: Option<NodeId>,
    /// Raft's term.
    pub term: u64,
    /// What this node is.
    pub role: RaftRole,
    /// Log index of the last entry that it has.
    pub last_log_index: u64,
    /// Log index of the last entry that it applied.
    pub applied_index: u64,
    /// How far its records have come.
    pub revision: Revision,
    /// Who is in Raft's membership, and whether they vote.
    pub members: Vec<(NodeId, bool)>,
    /// Who votes: one set, or two while the membership is on its way, each of which needs a majority.
    pub votes: Vec<BTreeSet<NodeId>>,
    /// Whether the membership is on its way from one set of voters to another.
    pub moving: bool,
    /// Log index up to which each node's log is known to be this one's, where this one leads.
    pub matched: BTreeMap<NodeId, u64>,
    /// Links of the header chain that this node has applied.
    pub links: u64,
    /// Log index of the last snapshot that was installed from another node.
    pub installed_index: Option<u64>,
    /// Log index that the last agreeing checkpoint spoke of.
    pub agreed_index: Option<u64>,
    /// Whether no snapshot was installed since a checkpoint last agreed.
    pub proven: bool,
    /// Whether the node may be opened: it is proven, or the other voters have vouched for its state since.
    pub trusted: bool,
    /// Whether it has just started and still asks the others what they know of its disk: it neither votes nor follows yet.
    pub asking: bool,
    /// The state that this node would checkpoint now; none until it has applied an entry in this life.
    pub state: Option<Checkpoint>,
}
