//! How a ledger comes to be: what is read and proven before anything runs, and what runs from then on.

use super::{Ledger, Parts};
use crate::acquaint::Acquaint;
use crate::bank::Bank;
use crate::barrier::Barrier;
use crate::hear::Ear;
use crate::install::Installer;
use crate::keeper::Keeper;
use crate::machine::{LoadFailed, Machine, lineage_of};
use crate::mark::{Marker, compare};
use crate::node_files::{Found, NodeFiles};
use crate::peers::Peers;
use crate::propose::Proposer;
use crate::purge::{Bounds, Purger};
use crate::raft::Raft;
use crate::raft::intake::Intake;
use crate::raft::log::Log;
use crate::raft::network::Links;
use crate::raft::store::{Stage, Store};
use crate::recall::{Memory, Recall};
use crate::usher::Usher;
use crate::witness::Witness;
use crate::words::{Fatal, LedgerConfig, Observer, StartFailed, Timings, World};
use crate::{Halt, succession};
use claviger_core::mandate::SignedMandate;
use claviger_core::name::DiskId;
use claviger_world::entropy::fresh;
use claviger_world::runtime;
use claviger_world::watch;
use openraft::{Config, SnapshotPolicy};
use openraft_rt::WatchReceiver;
use parking_lot::Mutex;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

impl Ledger {
    /// Reads the disk, proves what it holds, and joins Raft. `observer` may be told things before this returns.
    pub async fn start(config: LedgerConfig, world: World, observer: Arc<dyn Observer>) -> Result<Ledger, StartFailed> {
        let halt = Halt::new(observer.clone());
        let (files, log, mandate) = open_disk(&config, &world, &halt).await?;
        let lineage = files.genesis().as_ref().map(lineage_of);
        let bank = Bank::current(&*world.disk).map_err(not_loaded)?;
        let machine = Machine::load(&bank.of(world.disk.clone()), lineage).map_err(not_loaded)?;
        let (disk, chunk_bytes) = (world.disk.clone(), config.timings.snapshot_chunk_bytes);
        let store = Store::open(disk, log.clone(), machine, observer, halt.clone(), chunk_bytes).map_err(not_loaded)?;
        if log.purged() > store.last() {
            return Err(StartFailed::Damaged("the state is older than the beginning of Raft's log"));
        }
        let stage = store.stage();
        let intake = Intake::open(world.disk.clone(), stage.clone()).await.map_err(StartFailed::Disk)?;
        let (node, disk, addresses) = (config.node, files.disk_id(), config.addresses.clone());
        let peers = Peers::new(node, disk, world.network.clone(), addresses, files.genesis(), mandate, stage.clone());
        let peers = Arc::new(peers);
        if let Some(ahead) = files.chain()? {
            peers.run_ahead(ahead);
        }
        files.announced()?.into_iter().for_each(|said| peers.remember_address(said));
        let raft_config = raft_config(&config)?;
        let memory = Arc::new(Memory::load(world.disk.clone(), lineage).map_err(not_loaded)?);
        let links = Links { peers: peers.clone(), stage: stage.clone(), memory: memory.clone() };
        let raft = Raft::new(node.0, raft_config, links, log.clone(), store).await;
        let raft = raft.map_err(|fatal| StartFailed::Raft(fatal.to_string()))?;
        let start = (files.incarnation(), fresh(&*world.entropy).spend());
        let answered = watch::channel(false).0;
        let recall = Recall {
            peers: peers.clone(),
            raft: raft.clone(),
            log: log.clone(),
            memory,
            halt: halt.clone(),
            start,
            answered,
        };
        let parts = Parts::new(config, world, files, peers, raft, log, stage, intake, Arc::new(recall), halt);
        parts.begin();
        Ok(Ledger(Arc::new(parts)))
    }
}

impl Parts {
    #[allow(clippy::too_many_arguments, reason = "the one place where a ledger is put together")]
    pub(super) fn new(
        config: LedgerConfig,
        world: World,
        files: NodeFiles,
        peers: Arc<Peers>,
        raft: Raft,
        log: Log,
        stage: Arc<Stage>,
        intake: Intake,
        recall: Arc<Recall>,
        halt: Halt,
    ) -> Parts {
        let timings = config.timings;
        let limit = Duration::from_millis(timings.election_max_ms);
        let standing = (peers.clone(), raft.clone(), log.clone(), stage.clone());
        let barrier = Arc::new(Barrier::new(standing, world.clock.clone(), limit));
        let proposer = Arc::new(Proposer::new(peers.clone(), raft.clone(), stage.clone()));
        let witness = Witness { peers: peers.clone(), raft: raft.clone(), stage: stage.clone() };
        let witness = Arc::new(witness);
        let disk = world.disk.clone();
        let seen = (stage.view.read().revision().cluster_time, world.clock.awake_and_asleep());
        let keeper = Arc::new(Keeper {
            proposer: proposer.clone(),
            raft: raft.clone(),
            stage: stage.clone(),
            witness: witness.clone(),
            world,
            timings,
            seen: Mutex::new(seen),
            checked: Mutex::new(0),
            looked: Mutex::new(0),
        });
        let files = Arc::new(files);
        let acquaint = Arc::new(Acquaint {
            peers: peers.clone(),
            stage: stage.clone(),
            log: log.clone(),
            files: files.clone(),
            halt: halt.clone(),
            looking_back: tokio::sync::Mutex::default(),
            asking_back: tokio::sync::Mutex::default(),
        });
        let (ear_peers, ear_raft, ear_barrier) = (peers.clone(), raft.clone(), barrier.clone());
        let ear = Ear {
            peers: ear_peers,
            raft: ear_raft,
            installer: Installer::new(raft.clone(), log.clone()),
            barrier: ear_barrier,
            witness,
            recall: recall.clone(),
            intake: intake.clone(),
            acquaint: acquaint.clone(),
        };
        let (disk, ear, pinning, tasks) = (disk, Arc::new(ear), tokio::sync::Mutex::default(), Mutex::default());
        Parts {
            config,
            disk,
            files,
            peers,
            raft,
            log,
            stage,
            intake,
            acquaint,
            proposer,
            barrier,
            keeper,
            ear,
            recall,
            halt,
            pinning,
            tasks,
        }
    }

    fn begin(&self) {
        let (barrier, proposer, keeper) = (self.barrier.clone(), self.proposer.clone(), self.keeper.clone());
        let (metrics, log, halt) = (self.raft.metrics(), self.log.clone(), self.halt.clone());
        let (raft, stage, peers) = (self.raft.clone(), self.stage.clone(), self.peers.clone());
        let usher = Arc::new(Usher { raft, stage, peers });
        let purger = Purger {
            raft: self.raft.clone(),
            log: self.log.clone(),
            stage: self.stage.clone(),
            intake: self.intake.clone(),
            bounds: Bounds::of(&self.config.timings),
        };
        *self.tasks.lock() = vec![
            runtime::spawn(purger.run()),
            runtime::spawn(self.log.clone().keep_marked()),
            runtime::spawn(self.recall.clone().ask()),
            runtime::spawn(self.recall.clone().remember()),
            runtime::spawn(async move { barrier.run().await }),
            runtime::spawn(proposer.run()),
            runtime::spawn(keeper.run()),
            runtime::spawn(usher.run()),
            runtime::spawn(self.acquaint.clone().run()),
            runtime::spawn(guard(metrics, log, halt)),
        ];
    }
}

/// Opens the folder: nothing is written to it before its mark agrees with what its tables hold.
async fn open_disk(
    config: &LedgerConfig,
    world: &World,
    halt: &Halt,
) -> Result<(NodeFiles, Log, Option<SignedMandate>), StartFailed> {
    let disk = &world.disk;
    let mut found = Found::read(config, &**disk)?;
    let marker = Arc::new(Marker::open(disk.clone())?);
    let open = || Log::open(disk.clone(), marker.clone(), halt.clone()).map_err(not_opened);
    let mut log = open()?;
    compare(found.disk(), marker.found(), log.reach())?;
    let (mandate, now) = succession::carry_out(disk, config.node, found.pinned(), &log, world.clock.now()).await?;
    if now {
        tracing::warn!("this node votes alone from here on, by the mandate of the custodians");
        (found, log) = (Found::read(config, &**disk)?, open()?);
    }
    let new = DiskId(fresh(&*world.entropy).spend());
    let (id, abandoned) = (found.disk().map_or(new, |(id, _)| id), found.abandoned());
    marker.prepare(id, abandoned || found.disk().is_none()).await.map_err(StartFailed::Disk)?;
    let files = NodeFiles::take(found, config.node, id, disk.clone()).await.map_err(StartFailed::Disk)?;
    if abandoned {
        log = open()?;
    }
    marker.begin(files.incarnation(), log.reach()).await.map_err(StartFailed::Disk)?;
    Ok((files, log, mandate))
}

/// Tells the node when Raft stops by itself.
async fn guard(
    mut metrics: impl WatchReceiver<crate::raft::Watch, openraft::RaftMetrics<crate::raft::Types>>,
    log: Log,
    halt: Halt,
) {
    let died = metrics.wait_until(|m| m.running_state.is_err()).await;
    // A closed log refuses what Raft would append, and that ends it.
    if log.closed() {
        return halt.halt(Fatal::Abandoned);
    }
    let why = match died.map(|m| m.running_state) {
        Ok(Err(fatal)) => fatal.to_string(),
        Ok(Ok(())) | Err(_) => "its task is gone".into(),
    };
    halt.halt(Fatal::Raft(why));
}

/// openraft's election time-out for the silence that is wanted, in milliseconds. To it openraft adds the leader's lease, in
/// which nobody votes for another: that is as long as the longest time-out.
fn stands_after(timings: &Timings) -> Range<u64> {
    let lease = timings.election_max_ms / 2;
    timings.election_min_ms.saturating_sub(lease).max(timings.heartbeat_ms + 1)..lease
}

fn raft_config(config: &LedgerConfig) -> Result<Arc<Config>, StartFailed> {
    let Timings { heartbeat_ms, election_max_ms, .. } = config.timings;
    let stands_after = stands_after(&config.timings);
    let raft = Config {
        cluster_name: config.cluster.to_string(),
        heartbeat_interval: heartbeat_ms,
        election_timeout_min: stands_after.start,
        election_timeout_max: stands_after.end,
        snapshot_policy: SnapshotPolicy::LogsSinceLast(config.timings.snapshot_entries),
        // How much is kept is decided in `purge.rs`.
        max_in_snapshot_log_to_keep: u64::MAX,
        replication_lag_threshold: config.timings.snapshot_entries,
        enable_pre_vote: Some(true),
        // Not before others have said what they know of this node's disk.
        enable_elect: false,
        // A read round rests on that, too: what a leader told before it started again is not known any more.
        enable_leader_restore: Some(false),
        quorum_loss_probe_interval: Some(2 * election_max_ms),
        ..Config::default()
    };
    raft.validate().map(Arc::new).map_err(|e| StartFailed::Config(e.to_string()))
}

pub(crate) fn not_loaded(failed: LoadFailed) -> StartFailed {
    match failed {
        LoadFailed::Disk(failed) => StartFailed::Disk(failed),
        LoadFailed::Damaged(what) => StartFailed::Damaged(what),
    }
}

fn not_opened(fatal: Fatal) -> StartFailed {
    match fatal {
        Fatal::Disk(failed) => StartFailed::Disk(failed),
        Fatal::Damaged(what) => StartFailed::Damaged(what),
        other @ (Fatal::Diverged { .. }
        | Fatal::Outvoted { .. }
        | Fatal::TruncatedApplied { .. }
        | Fatal::WentBack(_)
        | Fatal::Raft(_)
        | Fatal::Abandoned
        | Fatal::Retired
        | Fatal::Torn { .. }
        | Fatal::Mandated) => StartFailed::Raft(other.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_follower_stands_after_a_silence_within_what_is_wanted() {
        let of = |heartbeat_ms, election_min_ms, election_max_ms| {
            let after = stands_after(&Timings { heartbeat_ms, election_min_ms, election_max_ms, ..Timings::default() });
            // The lease, and the time-out on top.
            (after.end + after.start, after.end + after.end)
        };
        assert_eq!([of(100, 300, 600), of(100, 500, 800), of(100, 900, 1_000)], [(401, 600), (501, 800), (900, 1_000)]);
        // The closest that a configuration may ask for.
        assert_eq!([of(10, 20, 25), of(100, 200, 250)], [(23, 24), (226, 250)]);
    }
}
