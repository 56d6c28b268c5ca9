//! From transactions to the log: those that wait at the same time are gathered into one batch, signed once, and sent
//! through whoever leads, the very same bytes again and again until somebody says that they are in.

use crate::hear::{Written, write_local};
use crate::peers::Peers;
use crate::raft::Raft;
use crate::raft::store::{Settled, Stage};
use crate::{Author, ProposeFailed, Unknown};
use bytes::Bytes;
use claviger_core::codec::Canonical;
use claviger_core::name::{NodeId, TxnId};
use claviger_core::rarely;
use claviger_core::txn::{BATCH_BYTES_MAX, BATCH_TXNS_MAX, Batch, Outcome, SignedBatch, Txn};
use claviger_proto::peer::v1 as pb;
use claviger_proto::peer::v1::propose_reply;
use claviger_world::network::CallFailed;
use claviger_world::runtime::{self, Instant};
use openraft_rt::WatchReceiver;
use parking_lot::{Mutex, RwLock};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::sync::{Notify, Semaphore, oneshot};

/// Batches of this node that may be under way at once. While they are, later transactions gather: every batch costs every
/// node its own way through Raft and two syncs, however much is in it.
const BATCHES_IN_FLIGHT: usize = 2;
/// How often a batch waits for others to come into it, at most: those who never stop coming are in the next.
const GATHERS_MAX: usize = 4;
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

/// Where a transaction stands between its proposer, who may give up, and the batch that it is in, which may be offered
/// to a leader. One of them is first: what its proposer was told surely did not happen is never offered afterwards.
struct Ticket {
    /// Its place in the queue, which it keeps when it is put back.
    place: u64,
    stand: Mutex<Stand>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Stand {
    /// No leader can have it.
    Waiting,
    /// It may be in somebody's log.
    Offered,
    /// It was given up while it waited, and must not be offered any more.
    Abandoned,
    /// It was given up after it was offered: it may happen, but nobody here waits for it.
    Left,
}

impl Ticket {
    fn new(place: u64) -> Arc<Ticket> {
        Arc::new(Ticket { place, stand: Mutex::new(Stand::Waiting) })
    }

    /// Whether it may be offered. From here on it may be in somebody's log.
    fn offer(&self) -> bool {
        let mut stand = self.stand.lock();
        if *stand == Stand::Waiting {
            *stand = Stand::Offered;
        }
        *stand != Stand::Abandoned
    }

    /// The leader has not taken it. What was given up stays so.
    fn recall(&self) {
        let mut stand = self.stand.lock();
        if *stand == Stand::Offered {
            *stand = Stand::Waiting;
        }
    }

    /// Nobody waits for it any more. Whether it surely does not happen.
    fn give_up(&self) -> bool {
        let mut stand = self.stand.lock();
        *stand = match *stand {
            Stand::Waiting | Stand::Abandoned => Stand::Abandoned,
            Stand::Offered | Stand::Left => Stand::Left,
        };
        *stand == Stand::Abandoned
    }

    fn given_up(&self) -> bool {
        matches!(*self.stand.lock(), Stand::Abandoned | Stand::Left)
    }

    fn abandoned(&self) -> bool {
        *self.stand.lock() == Stand::Abandoned
    }
}

/// A proposer's wait. However it ends, by an answer, at its deadline, or because its future was dropped: nothing of it
/// is kept, and nothing that only waited is offered.
struct Wait<'a> {
    proposer: &'a Proposer,
    id: TxnId,
    ticket: Arc<Ticket>,
    outcome: oneshot::Receiver<Settled>,
}

impl Drop for Wait<'_> {
    fn drop(&mut self) {
        self.ticket.give_up();
        self.proposer.queue.lock().remove(&self.ticket.place);
        self.outcome.close();
        self.proposer.stage.waiters.sweep(&self.id);
    }
}

/// How offering a batch ended.
#[derive(PartialEq, Eq)]
enum Offered {
    /// Its transactions are in the log, or nobody waits for them any more, or their fate is unknown.
    Over,
    /// No leader has it, and none may get it: a transaction in it was given up.
    Broken,
}

/// Gathers, signs, sends.
pub(crate) struct Proposer {
    peers: Arc<Peers>,
    raft: Raft,
    stage: Arc<Stage>,
    author: RwLock<Option<Arc<dyn Author>>>,
    /// By place.
    queue: Mutex<BTreeMap<u64, Waiting>>,
    next_place: AtomicU64,
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
            next_place: AtomicU64::new(0),
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
        let ticket = self.ticket();
        let waiting = Waiting { bytes, txn, deadline, ticket: ticket.clone() };
        self.settled(unknown, deadline, ticket, || {
            self.queue.lock().insert(waiting.ticket.place, waiting);
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
        let ticket = self.ticket();
        let waiting = Waiting { bytes: bytes.len(), txn: first.clone(), deadline, ticket: ticket.clone() };
        let me = self.clone();
        self.settled(unknown, deadline, ticket, || {
            runtime::spawn(async move { me.offer(Bytes::from(bytes), &[waiting]).await });
        })
        .await
    }

    /// Begins to wait, sends, and waits. An outcome that was applied before is found in the table.
    async fn settled(&self, unknown: Unknown, deadline: Instant, ticket: Arc<Ticket>, send: impl FnOnce()) -> Settled {
        let outcome = self.stage.waiters.wait(unknown.id);
        let mut wait = Wait { proposer: self, id: unknown.id, ticket, outcome };
        if let Some((known, turn)) = self.known(&unknown) {
            let mut revision = self.stage.revision.subscribe();
            let seen = revision.until(|r| (r.turn >= turn).then_some(()));
            return match runtime::timeout_at(deadline, seen).await {
                Ok(Ok(())) => Ok(known),
                Ok(Err(_)) | Err(_) => Err(ProposeFailed::Unknown(unknown)),
            };
        }
        send();
        if let Ok(told) = runtime::timeout_at(deadline, &mut wait.outcome).await {
            return told.unwrap_or(Err(ProposeFailed::Stopped));
        }
        Err(if wait.ticket.give_up() { ProposeFailed::NoQuorum } else { ProposeFailed::Unknown(unknown) })
    }

    fn ticket(&self) -> Arc<Ticket> {
        Ticket::new(self.next_place.fetch_add(1, Ordering::Relaxed))
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
                self.company().await;
                let Some((batch, waiting)) = self.gather() else { continue };
                let me = self.clone();
                runtime::spawn(async move {
                    if me.offer(batch, &waiting).await == Offered::Broken {
                        me.requeue(waiting);
                    }
                    drop(slot);
                });
            }
        }
    }

    /// Lets everybody in who is about to propose: as long as others come while those who can run do.
    async fn company(&self) {
        let mut waiting = 0;
        for _ in 0..GATHERS_MAX {
            let now = self.queue.lock().len();
            if now == waiting || now >= BATCH_TXNS_MAX {
                return;
            }
            waiting = now;
            runtime::yield_now().await;
        }
    }

    /// Takes what waits into one signed batch.
    fn gather(&self) -> Option<(Bytes, Vec<Waiting>)> {
        let taken = self.take();
        if taken.is_empty() {
            return None;
        }
        let Some(signed) = self.sign(taken.iter().map(|w| w.txn.clone()).collect()) else {
            let sealed = Err(ProposeFailed::NotAuthor);
            taken.iter().for_each(|w| self.stage.waiters.tell(&w.txn.id, &sealed));
            return None;
        };
        Some((Bytes::from(signed.to_bytes()), taken))
    }

    /// Puts back what nobody has taken, but for what was given up, to be gathered anew.
    fn requeue(&self, waiting: Vec<Waiting>) {
        let mut queue = self.queue.lock();
        let wanted = waiting.into_iter().filter(|w| !w.ticket.given_up());
        queue.extend(wanted.map(|w| (w.ticket.place, w)));
        self.bell.notify_one();
    }

    fn take(&self) -> Vec<Waiting> {
        let mut queue = self.queue.lock();
        let (mut taken, mut bytes) = (Vec::new(), 0);
        while let Some(next) = queue.first_entry() {
            bytes += next.get().bytes;
            if taken.len() == BATCH_TXNS_MAX || bytes > BATCH_BYTES_MAX - BATCH_MARGIN_BYTES {
                break;
            }
            taken.push(next.remove());
            if rarely!("a batch of one transaction") {
                break;
            }
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
    async fn offer(&self, batch: Bytes, waiting: &[Waiting]) -> Offered {
        let Some(deadline) = waiting.iter().map(|w| w.deadline).max() else { return Offered::Over };
        let mut maybe_in = false;
        let mut news = self.raft.server_metrics();
        while deadline.remaining() > Duration::ZERO && !waiting.iter().all(|w| w.ticket.given_up()) {
            let leader = news.borrow_and_update().current_leader.map(NodeId);
            // One signature is over all of them: a batch with a transaction that was given up must not be offered.
            let whole = !waiting.iter().any(|w| w.ticket.abandoned());
            if !whole || (leader.is_some() && !waiting.iter().all(|w| w.ticket.offer())) {
                waiting.iter().for_each(|w| w.ticket.recall());
                return Offered::Broken;
            }
            match self.offer_once(leader, &batch, deadline).await {
                Written::Applied => return Offered::Over,
                Written::NotLeader(_) if maybe_in => (),
                Written::NotLeader(_) => waiting.iter().for_each(|w| w.ticket.recall()),
                Written::Unknown => maybe_in = true,
            }
            // Either there is news of a leader, or it is time to ask again.
            if let Ok(Err(_)) = runtime::timeout(Duration::from_millis(RETRY_MS), news.changed()).await {
                return Offered::Over;
            }
        }
        Offered::Over
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
        if rarely!("the leader's answer is lost") {
            return Written::Unknown;
        }
        forwarded(reply.as_ref().map(pb::ProposeReply::verdict))
    }
}

/// Only the leader's own word says for sure that a batch is not in its log. A refusal does not: an answer that cannot be
/// read comes as one too, after the leader has acted.
fn forwarded(reply: Result<propose_reply::Verdict, &CallFailed>) -> Written {
    match reply {
        Ok(propose_reply::Verdict::Applied) => Written::Applied,
        Ok(propose_reply::Verdict::NotLeader) => Written::NotLeader(None),
        Ok(propose_reply::Verdict::Unknown | propose_reply::Verdict::Unspecified) => Written::Unknown,
        Err(CallFailed::Refused(_) | CallFailed::Unreachable | CallFailed::Late) => Written::Unknown,
    }
}

#[cfg(test)]
impl Proposer {
    /// Transactions and batches that are on their way, and ids that somebody waits for.
    pub fn kept(&self) -> (usize, usize, usize) {
        let batches = BATCHES_IN_FLIGHT - self.slots.available_permits();
        (self.queue.lock().len(), batches, self.stage.waiters.ids().len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_is_not_the_leaders_word() {
        let refused = CallFailed::Refused("the frame cannot be read".into());
        assert_eq!(forwarded(Err(&refused)), Written::Unknown);
        assert_eq!(forwarded(Ok(propose_reply::Verdict::NotLeader)), Written::NotLeader(None));
    }
}
