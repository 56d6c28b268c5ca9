//! The core service that every door leads to: it owns authorisation, audit and the ledger. A door translates; what is
//! asked is read, judged, decided and paged here.
//!
//! Must not contain: gRPC, protobuf of callers, TLS.

mod batch;
mod berths;
mod book;
mod change;
mod chunks;
mod cluster;
mod crypto;
mod idle;
mod items;
mod join;
mod judge;
mod keys;
mod members;
mod pipeline;
mod recovery;
mod roles;
mod snapshot;
mod unseal;
mod visit;

pub(crate) use berths::Berths;

pub use batch::{BATCH_BYTES_MAX, BATCH_ITEMS_MAX, BatchAsk, Batched};
pub(crate) use book::ClosedPages;
#[cfg(test)]
pub(crate) use book::LOST_BOOK;
pub use book::Tail;
pub use change::RequestStamp;
pub use chunks::{
    ChunkCourse, Chunks, DecryptStreamAsk, EncryptStreamAsk, PIECE_BYTES_MAX, Piece, STREAM_IDLE_MS_MAX, StreamStart,
};
pub use cluster::{ClusterView, NodeView, SealStatus};
pub use crypto::{DecryptAsk, EncryptAsk, ReEncryptAsk};
pub use keys::{CreateAsk, KeyAsk, KeyAt, KeyPage, ListAsk, UpdateAsk};
pub use members::Retired;
#[cfg(test)]
pub(crate) use pipeline::ITEMS_TOGETHER;
pub use pipeline::{
    Answers, ItemOutcome, PIPELINE_BYTES_MAX, PIPELINE_ITEMS_MAX, Pipeline, PipelineAnswer, PipelineAsk, PipelineDone,
    PipelineItem,
};
pub(crate) use recovery::Asked;
pub use recovery::{ConsentAsk, Recovery};
pub use roles::{RoleAt, RolePage};
pub use snapshot::SnapshotFile;
pub use unseal::{Begun, OfferAsk, Offered};
pub use visit::{Audited, Visit};

use crate::audit::Book;
use crate::gate::Gate;
use crate::metrics::Metrics;
use crate::node::{NodeConfig, World};
use crate::seal::{Expecting, FoundAsk, Founded, OpenCeremony, Opened, Seal, Sealings};
use claviger_core::failure::{Failure, Refused, Why};
use claviger_core::planted;
use claviger_core::policy::{Action, Caller, Operation, Permit, Rule, SealView};
use claviger_ledger::{Ledger, LedgerView, Restored, Revision, Unavailable};
use claviger_world::watch;
use std::sync::Arc;
use std::time::Duration;

/// An answer that rests on a read round older than this is not handed over: another round is made (DESIGN §4 (b)).
const FRESH_FOR: Duration = Duration::from_secs(2);
/// The most staleness that a caller can ask for, in milliseconds.
pub const STALE_MS_MAX: u32 = 2_000;

/// How fresh a reading must be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ReadAsk {
    /// At least this revision.
    pub min_revision: u64,
    /// As stale as this, 0 for linearizable; never more than [`STALE_MS_MAX`].
    pub allow_stale_ms: u32,
}

/// The core service of one node.
pub struct Service {
    pub(crate) config: NodeConfig,
    pub(crate) world: World,
    pub(crate) ledger: Ledger,
    pub(crate) gate: Gate,
    pub(crate) seal: Seal,
    pub(crate) book: Book,
    pub(crate) metrics: Metrics,
    /// Kept until the first share is accepted, for a founder whose answer was lost.
    pub(crate) founded: parking_lot::Mutex<Option<(FoundAsk, Founded)>>,
    pub(crate) founding: tokio::sync::Mutex<()>,
    pub(crate) ceremony: parking_lot::Mutex<Option<OpenCeremony>>,
    pub(crate) closed: parking_lot::Mutex<ClosedPages>,
    pub(crate) sealings: parking_lot::Mutex<Sealings>,
    pub(crate) expecting: parking_lot::Mutex<Option<Expecting>>,
    /// The mandate that this node asks its custodians for.
    pub(crate) recovery: parking_lot::Mutex<Option<Asked>>,
    /// The snapshot that was restored, and waits for a mandate.
    pub(crate) restored: parking_lot::Mutex<Option<Restored>>,
    /// Held by each snapshot that is being cut.
    pub(crate) saving: Arc<()>,
    /// Streams of chunks that are open.
    pub(crate) berths: Arc<Berths>,
    /// True from when the node stops: streams take nothing more.
    pub(crate) stopping: watch::Sender<bool>,
}

/// A reading of the records that is as fresh as it had to be, and the keys, for as long as one request computes.
pub(crate) struct Reading {
    pub(crate) view: LedgerView,
    pub(crate) opened: Option<Arc<Opened>>,
    /// When it was taken, by the clock that counts suspension.
    pub(crate) taken_at: Duration,
    limit: AgeLimit,
}

/// How old the reading behind an answer may be when it is handed over.
#[derive(Clone, Copy)]
pub(crate) struct AgeLimit {
    /// When the read round behind it began.
    confirmed_at: Duration,
    good_for: Duration,
}

impl AgeLimit {
    /// Whether an answer may still be handed over then, by the clock that counts suspension.
    pub(crate) fn covers(&self, now: Duration) -> bool {
        now.saturating_sub(self.confirmed_at) <= self.good_for || planted!(AnswerGrownOld)
    }
}

impl Reading {
    /// The keys, or that the node is sealed.
    pub(crate) fn opened(&self) -> Result<&Opened, Failure> {
        self.opened.as_deref().ok_or(Failure::Unavailable(Why::Sealed))
    }

    /// How old it may become.
    pub(crate) fn age_limit(&self) -> AgeLimit {
        self.limit
    }

    /// The revision that answers made from it carry.
    pub(crate) fn sequence(&self) -> u64 {
        self.view.revision().sequence
    }
}

impl Service {
    /// Waits until everything that follows is at least as fresh as asked.
    pub(crate) async fn reading(&self, read: ReadAsk) -> Result<Reading, Failure> {
        self.freshness(read).await.map(|limit| self.read_now(limit))
    }

    /// Waits until what this node shows is at least as fresh as asked. How old answers that rest on it may become.
    pub(crate) async fn freshness(&self, read: ReadAsk) -> Result<AgeLimit, Failure> {
        let stale = Duration::from_millis(read.allow_stale_ms.min(STALE_MS_MAX).into());
        let recent = self.ledger.confirmed_at().filter(|at| !stale.is_zero() && self.age(*at) <= stale);
        let revision = match recent.filter(|_| self.has(read.min_revision)) {
            Some(started_at) => Revision { started_at, ..self.ledger.revision() },
            None if planted!(ReadWithoutBarrier) => {
                Revision { started_at: self.world.clock.awake_and_asleep(), ..self.ledger.revision() }
            }
            None => self.ledger.barrier(self.config.request_wait).await.map_err(unavailable)?,
        };
        // Whatever was acknowledged before the barrier began is in it.
        if revision.sequence < read.min_revision && !planted!(RevisionNotAwaited) {
            return Err(Refused::BadRequest(NEVER_REACHED).into());
        }
        Ok(AgeLimit { confirmed_at: revision.started_at, good_for: FRESH_FOR.max(stale) })
    }

    /// What this node shows now: no older than what was waited for. Holds the keys, and so must not wait for anything.
    pub(crate) fn read_now(&self, limit: AgeLimit) -> Reading {
        Reading { view: self.ledger.view(), opened: self.seal.opened().ok(), taken_at: self.now(), limit }
    }

    fn has(&self, revision: u64) -> bool {
        self.ledger.revision().sequence >= revision || planted!(RevisionNotAwaited)
    }

    /// Whether an answer made from a reading may still be handed over. Looked at last.
    pub(crate) fn within(&self, limit: AgeLimit) -> bool {
        limit.covers(self.now())
    }

    fn age(&self, since: Duration) -> Duration {
        self.world.clock.awake_and_asleep().saturating_sub(since)
    }

    /// Leave to do `A` by the records of a reading.
    pub(crate) fn permit<A: Action>(
        &self,
        caller: &Caller,
        on: A::On,
        reading: &Reading,
    ) -> Result<Permit<A>, Failure> {
        self.gate.authorise(caller, on, &reading.view, reading.opened.as_deref())
    }

    /// Refuses what a node that has come so far never answers, before it waits for a quorum that may not be there.
    pub(crate) fn answered(&self, operation: Operation) -> Result<(), Failure> {
        answered_as(operation, self.seal_view())
    }

    /// How this node stands now.
    pub(crate) fn seal_view(&self) -> SealView {
        self.seal.view(&self.ledger.view())
    }
}

/// Refuses what a node never answers that stands so.
pub(crate) fn answered_as(operation: Operation, seal: SealView) -> Result<(), Failure> {
    let rule = Rule::of(operation).ok_or(Failure::Denied)?;
    Ok(rule.answered(seal)?)
}

/// What is wanted of a caller who was promised more than there is.
const NEVER_REACHED: &str = "a revision that the cluster has reached: this one it never had";

/// What a failed reading means for a caller.
pub(crate) fn unavailable(why: Unavailable) -> Failure {
    Failure::Unavailable(match why {
        Unavailable::NoQuorum => Why::NoQuorum,
        Unavailable::Behind => Why::Behind,
        Unavailable::Stopped => Why::Stopping,
    })
}
