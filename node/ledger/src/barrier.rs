//! The read barrier, shared: one round in flight, one forming. A request joins only a round that is not yet sent, so
//! what it reads is no older than itself.

use crate::peers::Peers;
use crate::raft::Raft;
use claviger_core::name::NodeId;
use claviger_core::{planted, rarely};
use claviger_proto::peer::v1 as pb;
use claviger_proto::peer::v1::barrier_reply;
use claviger_world::clock::Clock;
use claviger_world::runtime;
use openraft::ReadPolicy;
use openraft_rt::WatchReceiver;
use parking_lot::Mutex;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Notify, oneshot};

/// A leader has said, after the round began, that it still leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Confirmed {
    /// Whoever has applied this far reads no older than the round's start.
    pub index: u64,
    /// By this node's stopwatch, suspension counted.
    pub started_at: Duration,
}

/// Runs the rounds of one node.
pub(crate) struct Barrier {
    peers: Arc<Peers>,
    raft: Raft,
    clock: Arc<dyn Clock>,
    round_limit: Duration,
    forming: Mutex<Vec<oneshot::Sender<Option<Confirmed>>>>,
    bell: Notify,
    /// When the last round began that was confirmed, and that this node has applied as far as.
    caught_up: Mutex<Option<Duration>>,
}

impl Barrier {
    /// `round_limit`: longest that a round may take before those in it are told that it failed.
    pub fn new(peers: Arc<Peers>, raft: Raft, clock: Arc<dyn Clock>, round_limit: Duration) -> Barrier {
        Barrier {
            peers,
            raft,
            clock,
            round_limit,
            forming: Mutex::default(),
            bell: Notify::new(),
            caught_up: Mutex::default(),
        }
    }

    /// Who leads, as far as this node knows.
    pub fn leader(&self) -> Option<NodeId> {
        self.raft.server_metrics().borrow_watched().current_leader.map(NodeId)
    }

    /// Takes note that this node has applied as far as a confirmed round read.
    pub fn catch_up(&self, confirmed: &Confirmed) {
        let mut caught_up = self.caught_up.lock();
        *caught_up = (*caught_up).max(Some(confirmed.started_at));
    }

    /// When the last round began that was confirmed, and that this node has applied as far as.
    pub fn caught_up(&self) -> Option<Duration> {
        *self.caught_up.lock()
    }

    /// Joins the forming round and waits for it. None when it found no leader or no quorum.
    pub async fn join(&self) -> Option<Confirmed> {
        let (tx, rx) = oneshot::channel();
        self.forming.lock().push(tx);
        self.bell.notify_one();
        rx.await.ok().flatten()
    }

    /// Runs rounds as long as the node lives.
    pub async fn run(&self) {
        loop {
            self.bell.notified().await;
            // Whoever comes from here on is in the next round.
            let mut aboard = std::mem::take(&mut *self.forming.lock());
            if aboard.is_empty() {
                continue;
            }
            let started_at = self.clock.awake_and_asleep();
            let index = runtime::timeout(self.round_limit, self.round()).await.ok().flatten();
            let confirmed = index.map(|index| Confirmed { index, started_at });
            if confirmed.is_some() && planted!(BarrierJoinedLate) {
                // Whoever came while the round was under way leaves with it.
                aboard.append(&mut self.forming.lock());
            }
            for waiter in aboard {
                // Who gave up meanwhile has dropped its end, and needs no answer.
                let _ = waiter.send(confirmed);
            }
        }
    }

    async fn round(&self) -> Option<u64> {
        if rarely!("a barrier round fails") {
            return None;
        }
        let leader = self.leader()?;
        if leader != self.peers.node() && planted!(FollowerConfirms) {
            // What is applied here counts as what the leader has committed.
            return self.raft.metrics().borrow_watched().last_applied.map(|last| last.index);
        }
        if leader != self.peers.node() {
            return self.ask(leader).await;
        }
        let (read, _) = self.raft.get_read_log_id(ReadPolicy::ReadIndex).await.ok()?;
        Some(read.index())
    }

    async fn ask(&self, leader: NodeId) -> Option<u64> {
        let request = pb::BarrierRequest::default();
        let reply: pb::BarrierReply = self.peers.call(leader, request, self.round_limit).await.ok()?;
        (reply.verdict() == barrier_reply::Verdict::Confirmed).then_some(reply.index)
    }
}
