//! From transactions to the log: those that wait at the same time are gathered into one batch, signed once, and sent
//! through whoever leads, the very same bytes again and again until somebody says that they are in.

use crate::hear::{Written, write_local};
use crate::peers::Peers;
use crate::raft::Raft;
use crate::raft::store::{Settled, Stage};
use crate::{Author, ProposeFailed, Unknown};
use bytes::Bytes;
use claviger_core::codec::Canonical;
use claviger_core::name::NodeId;
use claviger_core::txn::{BATCH_BYTES_MAX, BATCH_TXNS_MAX, Batch, Outcome, SignedBatch, Txn};
use claviger_proto::peer::v1 as pb;
use claviger_proto::peer::v1::propose_reply;
use claviger_world::network::CallFailed;
use claviger_world::runtime::{self, Instant};
use openraft_rt::WatchReceiver;
use parking_lot::{Mutex, RwLock};
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::sync::{Notify, Semaphore};

/// Batches of this node that may be under way at once. While they are, later transactions gather.
const BATCHES_IN_FLIGHT: usize = 4;
/// Longest wait for news of a leader before the same batch is offered again.
const RETRY_MS: u64 = 50;
/// Longest that one offer to a leader may take.
const OFFER_MS_MAX: u64 = 3_000;
/// Bytes of a batch beside its transactions, at most.
const BATCH_MARGIN_BYTES: usize = 512;

/// A transaction on its way.
struct Waiting {
    bytes: usize,
    txn: Txn,
    deadline: Instant,
    ticket: Arc<Ticket>,
}

/// Whether a transaction may be in somebody's log.
#[derive(Default)]
struct Ticket {
    exposed: AtomicBool,
    abandoned: AtomicBool,
}

/// Gathers, signs, sends.
pub(crate) struct Proposer {
    peers: Arc<Peers>,
    raft: Raft,
    stage: Arc<Stage>,
    author: RwLock<Option<Arc<dyn Author>>>,
    queue: Mutex<VecDeque<Waiting>>,
    bell: Notify,
    slots: Arc<Semaphore>,
}

impl Proposer {
    pub fn new(peers: Arc<Peers>, raft: Raft, stage: Arc<Stage>) -> Proposer {
        Proposer {
            peers,
            raft,
            stage,
            author: RwLock::new(None),
            queue: Mutex::default(),
            bell: Notify::new(),
            slots: Arc::new(Semaphore::new(BATCHES_IN_FLIGHT)),
        }
    }

    /// Replaces the author.
    pub fn set_author(&self, author: Option<Arc<dyn Author>>) {
        *self.author.write() = author;
    }

    /// Whether there is an author.
    pub fn can_author(&self) -> bool {
        self.author.read().is_some()
    }

    /// Proposes one transaction and waits until this node has applied it.
    pub async fn propose(&self, txn: Txn, limit: Duration) -> Settled {
        if !self.can_author() || self.peers.lineage().is_none() {
            return Err(ProposeFailed::NotAuthor);
        }
        let bytes = txn.to_bytes().len();
        if bytes > BATCH_BYTES_MAX - BATCH_MARGIN_BYTES {
            return Err(ProposeFailed::TooLarge);
        }
        let unknown = Unknown { id: txn.id, turn: txn.turn };
        let deadline = runtime::now() + limit;
        let ticket = Arc::new(Ticket::default());
        let waiting = Waiting { bytes, txn, deadline, ticket: ticket.clone() };
        self.settled(unknown, deadline, ticket, || {
            self.queue.lock().push_back(waiting);
            self.bell.notify_one();
        })
        .await
    }

    /// Proposes a batch that is signed already and waits for its first transaction.
    pub async fn propose_signed(self: &Arc<Self>, signed: SignedBatch, limit: Duration) -> Settled {
        let Some(first) = signed.batch.txns.first() else { return Err(ProposeFailed::TooLarge) };
        let bytes = signed.to_bytes();
        if bytes.len() > BATCH_BYTES_MAX {
            return Err(ProposeFailed::TooLarge);
        }
        if !self.peers.admits(&signed) {
            return Err(ProposeFailed::NotAuthor);
        }
        let unknown = Unknown { id: first.id, turn: first.turn };
        let deadline = runtime::now() + limit;
        let ticket = Arc::new(Ticket::default());
        let (me, tickets) = (self.clone(), vec![ticket.clone()]);
        self.settled(unknown, deadline, ticket, || {
            runtime::spawn(async move { me.offer(Bytes::from(bytes), deadline, &tickets).await });
        })
        .await
    }

    /// Begins to wait, sends, and waits. An outcome that was applied before is found in the table.
    async fn settled(&self, unknown: Unknown, deadline: Instant, ticket: Arc<Ticket>, send: impl FnOnce()) -> Settled {
        let outcome = self.stage.waiters.wait(unknown.id);
        if let Some((known, turn)) = self.known(&unknown) {
            let mut revision = self.stage.revision.subscribe();
            let seen = revision.until(|r| (r.turn >= turn).then_some(()));
            return match runtime::timeout_at(deadline, seen).await {
                Ok(Ok(())) => Ok(known),
                Ok(Err(_)) | Err(_) => Err(ProposeFailed::Unknown(unknown)),
            };
        }
        send();
        if let Ok(told) = runtime::timeout_at(deadline, outcome).await {
            return told.unwrap_or(Err(ProposeFailed::Stopped));
        }
        ticket.abandoned.store(true, Ordering::SeqCst);
        self.stage.waiters.sweep(&unknown.id);
        let exposed = ticket.exposed.load(Ordering::SeqCst);
        Err(if exposed { ProposeFailed::Unknown(unknown) } else { ProposeFailed::NoQuorum })
    }

    fn known(&self, unknown: &Unknown) -> Option<(Outcome, u64)> {
        let machine = self.stage.machine.lock();
        machine.outcome(&unknown.id).map(|outcome| (outcome.clone(), machine.place().turn))
    }

    /// Gathers as long as the node lives.
    pub async fn run(self: Arc<Self>) {
        loop {
            self.bell.notified().await;
            while !self.queue.lock().is_empty() {
                let Ok(slot) = self.slots.clone().acquire_owned().await else { return };
                let Some((bytes, deadline, tickets)) = self.gather() else { continue };
                let me = self.clone();
                runtime::spawn(async move {
                    me.offer(bytes, deadline, &tickets).await;
                    drop(slot);
                });
            }
        }
    }

    /// Takes what waits into one signed batch; its deadline is the latest of theirs.
    fn gather(&self) -> Option<(Bytes, Instant, Vec<Arc<Ticket>>)> {
        let taken = self.take();
        let deadline = taken.iter().map(|w| w.deadline).max()?;
        let (tickets, txns): (Vec<_>, Vec<_>) = taken.into_iter().map(|w| (w.ticket, w.txn)).unzip();
        let ids: Vec<_> = txns.iter().map(|t| t.id).collect();
        match self.sign(txns) {
            Some(signed) => Some((Bytes::from(signed.to_bytes()), deadline, tickets)),
            None => {
                ids.iter().for_each(|id| self.stage.waiters.tell(id, &Err(ProposeFailed::NotAuthor)));
                None
            }
        }
    }

    fn take(&self) -> Vec<Waiting> {
        let mut queue = self.queue.lock();
        let (mut taken, mut bytes) = (Vec::new(), 0);
        while let Some(next) = queue.pop_front() {
            if next.ticket.abandoned.load(Ordering::SeqCst) {
                continue;
            }
            bytes += next.bytes;
            if taken.len() == BATCH_TXNS_MAX || bytes > BATCH_BYTES_MAX - BATCH_MARGIN_BYTES {
                queue.push_front(next);
                break;
            }
            // From here on its proposer can no longer be told that it surely did not happen, unless nobody takes it.
            taken.push(next);
        }
        taken
    }

    fn sign(&self, txns: Vec<Txn>) -> Option<SignedBatch> {
        let author = self.author.read().clone()?;
        let view = self.stage.view.read().clone();
        let head = &view.head()?.header;
        let (lineage, generation, signer) = (head.lineage, head.generation, head.txn_key.number);
        author.sign(Batch { lineage, generation, author: self.peers.node(), signer, txns })
    }

    /// Offers the same bytes to whoever leads until somebody has taken them, or nobody waits any more.
    async fn offer(&self, batch: Bytes, deadline: Instant, tickets: &[Arc<Ticket>]) {
        let expose = |exposed| tickets.iter().for_each(|t| t.exposed.store(exposed, Ordering::SeqCst));
        let mut maybe_in = false;
        let mut news = self.raft.server_metrics();
        while deadline.remaining() > Duration::ZERO && !tickets.iter().all(|t| t.abandoned.load(Ordering::SeqCst)) {
            let leader = news.borrow_and_update().current_leader.map(NodeId);
            expose(maybe_in || leader.is_some());
            match self.offer_once(leader, &batch, deadline).await {
                Written::Applied => return,
                Written::NotLeader(_) => expose(maybe_in),
                Written::Unknown => maybe_in = true,
            }
            // Either there is news of a leader, or it is time to ask again.
            if let Ok(Err(_)) = runtime::timeout(Duration::from_millis(RETRY_MS), news.changed()).await {
                return;
            }
        }
    }

    async fn offer_once(&self, leader: Option<NodeId>, batch: &Bytes, deadline: Instant) -> Written {
        let limit = deadline.remaining().min(Duration::from_millis(OFFER_MS_MAX));
        match leader {
            None => Written::NotLeader(None),
            Some(me) if me == self.peers.node() => write_local(&self.raft, batch.clone(), limit).await,
            Some(other) => self.forward(other, batch.clone(), limit).await,
        }
    }

    async fn forward(&self, leader: NodeId, batch: Bytes, limit: Duration) -> Written {
        let request = pb::ProposeRequest { envelope: None, batch };
        let reply: Result<pb::ProposeReply, CallFailed> = self.peers.call(leader, request, limit).await;
        match reply.as_ref().map(pb::ProposeReply::verdict) {
            Ok(propose_reply::Verdict::Applied) => Written::Applied,
            Ok(propose_reply::Verdict::NotLeader) => Written::NotLeader(None),
            Ok(propose_reply::Verdict::Unknown | propose_reply::Verdict::Unspecified) => Written::Unknown,
            Err(CallFailed::Refused(_)) => Written::NotLeader(None),
            Err(CallFailed::Unreachable | CallFailed::Late) => Written::Unknown,
        }
    }
}
