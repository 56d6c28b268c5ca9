//! Housekeeping of whoever can author: ticks of cluster time, and checkpoints of the state.

use crate::propose::Proposer;
use crate::raft::Raft;
use crate::raft::store::Stage;
use crate::witness::{Verdict, Witness};
use crate::words::{Timings, World};
use crate::{Fatal, ProposeFailed};
use claviger_core::name::TxnId;
use claviger_core::time::UnixMs;
use claviger_core::txn::{Checkpoint, Effect, Outcome, Txn};
use claviger_core::{planted, rarely};
use claviger_world::entropy::fresh;
use claviger_world::runtime;
use parking_lot::Mutex;
use std::sync::Arc;
use std::time::Duration;

/// How often the keeper looks whether something is due.
const LOOK_MS: u64 = 1_000;
/// How long the keeper waits for what it proposes.
const PATIENCE_MS: u64 = 5_000;
/// How far a tick may go beyond the time that has passed since the last one, in milliseconds.
const LEAP_MS_MAX: u64 = 600_000;
/// Ticks of a swarm.
const SWARM: u32 = 24;
const SWARM_GAP: Duration = Duration::from_millis(15);
/// How far a planted bug turns cluster time back, in milliseconds: odd, so that the tick after it goes on.
const BACK_MS: u64 = 45_001;

/// Keeps time and soundness.
pub(crate) struct Keeper {
    pub proposer: Arc<Proposer>,
    pub raft: Raft,
    pub stage: Arc<Stage>,
    pub witness: Arc<Witness>,
    pub world: World,
    pub timings: Timings,
    /// Cluster time as it was last seen to move, and when that was on the node's stopwatch.
    pub seen: Mutex<(UnixMs, Duration)>,
    /// Log index that this node's last checkpoint spoke of.
    pub checked: Mutex<u64>,
    /// From which entry on a dispute makes this node read what it has stored.
    pub looked: Mutex<u64>,
}

impl Keeper {
    /// Looks after both as long as the node lives.
    pub async fn run(self: Arc<Self>) {
        loop {
            runtime::sleep(Duration::from_millis(LOOK_MS)).await;
            if !self.proposer.can_author() {
                continue;
            }
            let patience = Duration::from_millis(PATIENCE_MS);
            // Who does not lead waits a little longer: one proposal is enough.
            let lag = if self.raft.is_leader() { 0 } else { 1 };
            if self.tick_due(self.timings.tick_ms + lag * self.timings.tick_ms / 4) {
                // A refusal means that another node was quicker; a failure is tried again at the next look.
                let _ = self.tick(patience).await;
                if rarely!("ticks come in swarms") {
                    self.swarm(patience);
                }
            }
            if self.checkpoint_due(self.timings.checkpoint_entries * (1 + lag)) {
                let _ = self.checkpoint(patience).await;
            }
        }
    }

    /// Proposes many ticks, one after another without waiting. Of a leader that is cut off, all of them are truncated later.
    fn swarm(self: &Arc<Self>, patience: Duration) {
        for n in 0..SWARM {
            let keeper = self.clone();
            runtime::spawn(async move {
                runtime::sleep(SWARM_GAP * n).await;
                keeper.tick(patience).await
            });
        }
    }

    /// Whether cluster time has stood still for `tick_ms` of this node's stopwatch.
    pub fn tick_due(&self, tick_ms: u64) -> bool {
        let time = self.stage.view.read().revision().cluster_time;
        let now = self.world.clock.awake_and_asleep();
        let mut seen = self.seen.lock();
        if seen.0 != time {
            *seen = (time, now);
        }
        time > UnixMs(0) && now.saturating_sub(seen.1) >= Duration::from_millis(tick_ms)
    }

    /// Proposes this node's reading as cluster time, but no leap beyond what can have passed.
    pub async fn tick(&self, limit: Duration) -> Option<Result<Outcome, ProposeFailed>> {
        let before = self.stage.view.read().revision().cluster_time;
        let waited = self.world.clock.awake_and_asleep().saturating_sub(self.seen.lock().1);
        let waited_ms = u64::try_from(waited.as_millis()).unwrap_or(u64::MAX);
        let now = self.world.clock.now().min(before.plus_ms(waited_ms).plus_ms(LEAP_MS_MAX));
        let back = before.0.is_multiple_of(2) && planted!(TimeGoesBack);
        let now = if back { UnixMs(before.0.saturating_sub(BACK_MS).max(1)) } else { now };
        if now <= before && !back {
            return None;
        }
        Some(self.proposer.propose(self.txn(Effect::Tick { before, now }), limit).await)
    }

    fn checkpoint_due(&self, entries: u64) -> bool {
        let applied = self.stage.view.read().revision().index;
        let agreed = self.stage.machine.lock().soundness().agreed.unwrap_or(0);
        applied >= agreed.max(*self.checked.lock()) + entries
    }

    /// Proposes what this node's state is now, if a majority of voters has the same.
    pub async fn checkpoint(&self, limit: Duration) -> Result<Outcome, ProposeFailed> {
        if !self.proposer.can_author() {
            return Err(ProposeFailed::NotAuthor);
        }
        let Some(checkpoint) = self.witness.own() else { return Err(ProposeFailed::NoQuorum) };
        self.witnessed(&checkpoint, limit).await?;
        *self.checked.lock() = checkpoint.index;
        self.proposer.propose(self.txn(Effect::Checkpoint(checkpoint)), limit).await
    }

    /// Whether the voters have the same state. Outvoted, this node ends.
    async fn witnessed(&self, own: &Checkpoint, limit: Duration) -> Result<(), ProposeFailed> {
        let verdict = self.witness.verdict(own, limit).await;
        if planted!(CheckpointNotWitnessed) {
            return Ok(());
        }
        match verdict {
            Verdict::Agreed => return Ok(()),
            Verdict::Outvoted => {
                self.stage.halt.halt(Fatal::Outvoted { index: own.index });
                return Err(ProposeFailed::Stopped);
            }
            Verdict::Disputed => self.look_inside(own),
            Verdict::Unclear => {}
        }
        Err(ProposeFailed::NoQuorum)
    }

    /// Others have another state, and there are too few to say who errs: this node reads what it has stored, once in as
    /// many entries as lie between checkpoints, and ends if that is damaged.
    fn look_inside(&self, own: &Checkpoint) {
        let mut looked = self.looked.lock();
        if *looked > own.index {
            return;
        }
        *looked = own.index + self.timings.checkpoint_entries;
        let (index, shared, local) = (own.index, own.shared, own.local);
        tracing::error!(index, %shared, %local, "nodes disagree on the state as of this entry, and no majority tells who errs");
        if let Some(what) = self.witness.damage() {
            self.stage.halt.halt(Fatal::Damaged(what));
        }
    }

    /// A transaction of this node's own that is nothing but its effect.
    pub fn txn(&self, effect: Effect) -> Txn {
        let revision = self.stage.view.read().revision();
        Txn {
            id: TxnId(fresh(&*self.world.entropy).spend()),
            turn: revision.turn,
            decided_at: revision.cluster_time,
            relies: Vec::new(),
            puts: Vec::new(),
            deletes: Vec::new(),
            effect,
        }
    }
}
