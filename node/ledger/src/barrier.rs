//! The read barrier, shared: one round in flight, one forming. A request joins only a round that is not yet sent, so
//! what it reads is no older than itself.
//!
//! A round of the leader's asks as many of the others as make a majority with it (or all, where some were silent) whether
//! the vote that they have stored is its own, still. Who answers so has promised nothing to a later leader, and will not have when the answer is sent: so
//! there was none that could have committed anything when the round began. That costs one message there and back, past
//! Raft. Where it comes to nothing, for whatever reason, Raft's own ReadIndex is asked, with heartbeats to everybody.

use crate::peers::Peers;
use crate::raft::log::Log;
use crate::raft::store::Stage;
use crate::raft::wire::Wire;
use crate::raft::{Raft, Types, Vote};
use claviger_core::name::NodeId;
use claviger_core::{planted, rarely};
use claviger_proto::peer::v1 as pb;
use claviger_proto::peer::v1::barrier_reply;
use claviger_world::clock::Clock;
use claviger_world::runtime;
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use openraft::ReadPolicy;
use openraft::metrics::RaftServerMetrics;
use openraft::type_config::alias::WatchReceiverOf;
use openraft_rt::WatchReceiver;
use parking_lot::Mutex;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::sync::{Notify, oneshot};

/// Longest wait for nodes to say that they follow, before Raft is asked.
const FOLLOWS_WAIT: Duration = Duration::from_millis(30);
/// Rounds after which somebody else is asked first. Who was just asked is quicker, and it costs less, than who has slept.
const ROUNDS_WITH_ONE: usize = 256;
/// Rounds in which everybody is asked, after one in which those who were asked did not all say that they follow.
const WIDE_ROUNDS: usize = 256;
/// How often a round lets those who can run come aboard, at most: those who never stop coming are in the next.
const GATHERS_MAX: usize = 4;
/// Longest that a round waits for others who are likely to come.
const COMPANY_WAIT: Duration = Duration::from_millis(1);
/// It waits while fewer are aboard than one for each so many that were in the round before.
const FEW: usize = 4;
/// Only where that one ended so shortly ago: who comes long after it comes alone.
const JUST_NOW: Duration = Duration::from_millis(5);

/// A leader has said, after the round began, that it still leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Confirmed {
    /// Whoever has applied this far reads no older than the round's start.
    pub index: u64,
    /// By this node's stopwatch, suspension counted.
    pub started_at: Duration,
}

/// The last round.
#[derive(Default)]
struct Round {
    /// How many were in it.
    aboard: usize,
    /// When it ended, by this node's stopwatch.
    ended: Duration,
}

/// News of leaders since a round began that came to nothing.
pub(crate) type News = WatchReceiverOf<Types, RaftServerMetrics<Types>>;

/// Runs the rounds of one node.
pub(crate) struct Barrier {
    peers: Arc<Peers>,
    raft: Raft,
    log: Log,
    stage: Arc<Stage>,
    clock: Arc<dyn Clock>,
    round_limit: Duration,
    forming: Mutex<Vec<oneshot::Sender<Result<Confirmed, News>>>>,
    bell: Notify,
    /// Rung also when so many are aboard.
    wanted: AtomicUsize,
    /// When the last round began that was confirmed, and that this node has applied as far as.
    caught_up: Mutex<Option<Duration>>,
    /// Rounds in which everybody is asked whether they follow, since too few of those who were asked did not long ago.
    wide: AtomicUsize,
    /// Rounds so far: who is asked first moves on, so that none of the others carries all of it.
    rounds: AtomicUsize,
}

impl Barrier {
    /// `round_limit`: longest that a round may take before those in it are told that it failed.
    pub fn new(
        (peers, raft, log, stage): (Arc<Peers>, Raft, Log, Arc<Stage>),
        clock: Arc<dyn Clock>,
        round_limit: Duration,
    ) -> Barrier {
        Barrier {
            peers,
            raft,
            log,
            stage,
            clock,
            round_limit,
            forming: Mutex::default(),
            bell: Notify::new(),
            wanted: AtomicUsize::new(0),
            caught_up: Mutex::default(),
            wide: AtomicUsize::new(0),
            rounds: AtomicUsize::new(0),
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

    /// Joins the forming round and waits for it. When it found no leader or no quorum: what to wait for before the next.
    pub async fn join(&self) -> Result<Confirmed, News> {
        let (tx, rx) = oneshot::channel();
        let aboard = {
            let mut forming = self.forming.lock();
            forming.push(tx);
            forming.len()
        };
        if aboard == 1 || aboard == self.wanted.load(Ordering::Relaxed) {
            self.bell.notify_one();
        }
        rx.await.unwrap_or_else(|_| Err(self.news()))
    }

    /// What is known already is no news.
    fn news(&self) -> News {
        let mut news = self.raft.server_metrics();
        drop(news.borrow_and_update());
        news
    }

    /// Lets everybody aboard who is about to ask: as long as others come while those who can run do.
    async fn gather(&self) {
        let mut aboard = 0;
        for _ in 0..GATHERS_MAX {
            let now = self.forming.lock().len();
            if now == aboard {
                return;
            }
            aboard = now;
            runtime::yield_now().await;
        }
    }

    /// Waits for the others of those whose last round just ended: most of them ask again at once, but each for itself, and a
    /// round costs the same for the first of them as for all.
    async fn company(&self, before: &Round) {
        let wanted = before.aboard / FEW;
        if self.forming.lock().len() >= wanted || self.since(before.ended) > JUST_NOW {
            return;
        }
        self.wanted.store(wanted, Ordering::Relaxed);
        let enough = async {
            while self.forming.lock().len() < wanted {
                self.bell.notified().await;
            }
        };
        // Those who do not come in time are in the next.
        let _ = runtime::timeout(COMPANY_WAIT, enough).await;
        self.wanted.store(0, Ordering::Relaxed);
    }

    fn since(&self, at: Duration) -> Duration {
        self.clock.awake_and_asleep().saturating_sub(at)
    }

    /// Runs rounds as long as the node lives.
    pub async fn run(&self) {
        let (mut news, mut before) = (self.news(), Round::default());
        loop {
            self.bell.notified().await;
            self.gather().await;
            if self.forming.lock().is_empty() {
                continue;
            }
            self.company(&before).await;
            // Whoever comes from here on is in the next round.
            let mut aboard = std::mem::take(&mut *self.forming.lock());
            drop(news.borrow_and_update());
            let started_at = self.clock.awake_and_asleep();
            let index = runtime::timeout(self.round_limit, self.round()).await.ok().flatten();
            let confirmed = index.map(|index| Confirmed { index, started_at }).ok_or(());
            if confirmed.is_ok() && planted!(BarrierJoinedLate) {
                // Whoever came while the round was under way leaves with it.
                aboard.append(&mut self.forming.lock());
            }
            before = Round { aboard: aboard.len(), ended: self.clock.awake_and_asleep() };
            for waiter in aboard {
                // Who gave up meanwhile has dropped its end, and needs no answer.
                let _ = waiter.send(confirmed.map_err(|()| news.clone()));
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
        if let Some(index) = self.followed().await {
            return Some(index);
        }
        let (read, _) = self.raft.get_read_log_id(ReadPolicy::ReadIndex).await.ok()?;
        Some(read.index())
    }

    /// As far as whoever reads now must have come, if this node leads and a majority, itself counted, has promised nothing to
    /// a later leader since this was called. None also where that cannot be said so cheaply.
    async fn followed(&self) -> Option<u64> {
        if rarely!("followers are not asked one by one") {
            return None;
        }
        let vote = self.leading()?;
        let read = self.known_to_others(&vote)?;
        let (voters, needed) = self.voters()?;
        let followed = self.are_enough(voters, needed, vote).await;
        (followed && self.leading() == Some(vote)).then_some(read)
    }

    /// Whether so many of these follow. Asks no more than are needed, as long as they all say so.
    async fn are_enough(&self, mut voters: Vec<NodeId>, needed: usize, vote: Vote) -> bool {
        let (wide, rounds) = (self.wide.load(Ordering::Relaxed), self.rounds.fetch_add(1, Ordering::Relaxed));
        if wide == 0 && !voters.is_empty() {
            let first = (rounds / ROUNDS_WITH_ONE) % voters.len();
            voters.rotate_left(first);
            voters.truncate(needed);
        }
        self.wide.store(wide.saturating_sub(1), Ordering::Relaxed);
        let mut asked: FuturesUnordered<_> = voters.iter().map(|node| self.is_followed_by(*node, vote)).collect();
        let mut follow = 0;
        while follow < needed {
            match asked.next().await {
                Some(follows) => follow += usize::from(follows),
                None => break,
            }
        }
        if follow < needed {
            self.wide.store(WIDE_ROUNDS, Ordering::Relaxed);
        }
        follow >= needed
    }

    /// No node, this one included, shows more than that, if there is no later leader. None until this node has told others a
    /// commit of its own term: what earlier ones committed is before that, and may not be known here yet.
    ///
    /// What others show they have heard of from this leader, and it is noted before it is told. A leader that starts again
    /// does not go on leading (`enable_leader_restore`): what it told before, it would not know.
    fn known_to_others(&self, vote: &Vote) -> Option<u64> {
        let told = self.stage.told.last().filter(|told| *told.committed_leader_id() == vote.leader_id)?;
        let shown = self.stage.view.read().revision().index;
        Some(if planted!(ToldNotCounted) { shown } else { shown.max(told.index()) })
    }

    /// This node's vote, if by it this node leads.
    fn leading(&self) -> Option<Vote> {
        self.log.vote().filter(|vote| vote.committed && vote.leader_id.node_id == self.peers.node().0)
    }

    /// Whether the last vote that this node stored is that one: no later leader can have heard of one before.
    pub fn follows(&self, leader: &Vote) -> bool {
        leader.committed && self.log.vote() == Some(*leader)
    }

    /// The other voters, and how many of them make a majority with this node. None while Raft's membership moves, or without
    /// this node.
    ///
    /// The membership may be that of a moment ago. It moves by way of a joint one, so that a majority of what it was one step
    /// ago has a node in common with every majority of what it is.
    fn voters(&self) -> Option<(Vec<NodeId>, usize)> {
        let metrics = self.raft.metrics();
        let metrics = metrics.borrow_watched();
        let [voters] = &metrics.membership_config.membership().get_joint_config()[..] else { return None };
        let others = voters.iter().copied().map(NodeId).filter(|voter| *voter != self.peers.node());
        let others: Vec<NodeId> = others.collect();
        (others.len() < voters.len()).then_some((others, voters.len() / 2))
    }

    async fn is_followed_by(&self, node: NodeId, vote: Vote) -> bool {
        let request = pb::BarrierRequest { envelope: None, leads: Some(vote.to_wire()) };
        let reply: Result<pb::BarrierReply, _> = self.peers.call(node, request, FOLLOWS_WAIT).await;
        reply.is_ok_and(|reply| reply.verdict() == barrier_reply::Verdict::Follows)
    }

    async fn ask(&self, leader: NodeId) -> Option<u64> {
        let request = pb::BarrierRequest::default();
        let reply: pb::BarrierReply = self.peers.call(leader, request, self.round_limit).await.ok()?;
        (reply.verdict() == barrier_reply::Verdict::Confirmed).then_some(reply.index)
    }
}
