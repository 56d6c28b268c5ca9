//! A node that was away for so long that the log it needs is gone, in real processes, while others go on writing: it catches up
//! by a snapshot, also when either end of the transfer is killed in the middle, and nothing that was acknowledged is missing.

use claviger_jepsen::attempts;
use claviger_jepsen::cluster::Cluster;
use claviger_jepsen::load::{self, Worker, client};
use claviger_jepsen::process::LOOK_EVERY;
use claviger_jepsen::stage::alone;
use claviger_proto::v1::GetKeyRequest;
use std::time::{Duration, Instant};

/// How long a node may take to catch up, under load, on a busy machine.
const CAUGHT_UP_WITHIN: Duration = Duration::from_secs(120);
/// Small enough that a few thousand keys are a log that is let go of, and many chunks.
const SMALL: &str =
    "[raft]\nsnapshot_entries = 50\nkeep_entries = 20\nkeep_entries_max = 40\nsnapshot_chunk_bytes = 4096\n";
/// Entries after which the log that a node needs is surely gone.
const GONE: u64 = 300;
const WRITERS: usize = 4;

/// Three nodes that are open, with writers at full rate.
struct Scene {
    cluster: Cluster,
    writers: Vec<Worker>,
}

impl Scene {
    async fn begin(purpose: &str) -> Scene {
        let mut cluster = Cluster::prepare(3, purpose).unwrap();
        for node in &mut cluster.nodes {
            node.settings.more = SMALL.into();
            node.write_config().unwrap();
        }
        cluster.start_nodes().await.unwrap();
        cluster.found().unwrap();
        cluster.open().await.unwrap();
        cluster.give_roles().await.unwrap();
        let writers = (0..WRITERS).map(|n| {
            let journal = cluster.folder.join(format!("writer-{n}.jsonl"));
            load::keep_creating(
                client(&cluster, &cluster.administrator).unwrap(),
                &format!("tenants/default/keys/w{n}-"),
                &journal,
            )
            .unwrap()
        });
        let writers = writers.collect();
        Scene { cluster, writers }
    }

    /// Kills a follower, and waits until what it needs is gone from the log.
    async fn send_away(&mut self) -> u64 {
        let (leader, _) = self.cluster.leader(None).await.unwrap();
        let away = (1..=3).find(|id| *id != leader).unwrap();
        self.cluster.node_mut(away).unwrap().kill().unwrap();
        let end = self.last_index(leader).await + GONE;
        let started = Instant::now();
        while self.last_index(leader).await < end {
            assert!(started.elapsed() < CAUGHT_UP_WITHIN, "writers do not write");
            tokio::time::sleep(LOOK_EVERY).await;
        }
        away
    }

    async fn last_index(&self, node: u64) -> u64 {
        let status = self.cluster.status_at(node).await.unwrap();
        status.nodes.iter().find(|n| n.node == node).unwrap().last_log_index
    }

    async fn applied(&self, node: u64) -> u64 {
        let Ok(status) = self.cluster.status_at(node).await else { return 0 };
        status.nodes.iter().find(|n| n.node == node).map_or(0, |n| n.applied_index)
    }

    /// Waits until a node says something that it has not said so often yet.
    async fn says(&self, node: u64, what: &str, times: usize) {
        let started = Instant::now();
        while self.said(node, what) < times {
            assert!(started.elapsed() < CAUGHT_UP_WITHIN, "node {node} does not say {what:?}");
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }

    fn said(&self, node: u64, what: &str) -> usize {
        self.cluster.node(node).unwrap().log().unwrap().matches(what).count()
    }

    /// Waits until a node has applied what the leader had when this was called. How long that took.
    async fn catches_up(&self, node: u64) -> Duration {
        let started = Instant::now();
        let (leader, _) = self.cluster.leader(None).await.unwrap();
        let end = self.last_index(leader).await;
        while self.applied(node).await < end {
            assert!(started.elapsed() < CAUGHT_UP_WITHIN, "node {node} does not catch up");
            tokio::time::sleep(LOOK_EVERY).await;
        }
        started.elapsed()
    }

    /// Ends the load, for a log as short as this one leaves a busy follower behind again and again; opens who is sealed. Every
    /// key whose creation was acknowledged is there, as that node reads it.
    async fn nothing_is_lost(self, node: u64) {
        let mut created = Vec::new();
        for writer in self.writers {
            writer.more(1).await.expect("writes go on");
            let attempts = attempts::read(&writer.stop().await.unwrap()).unwrap();
            created.extend(attempts.into_iter().filter(|attempt| attempt.ok).map(|attempt| attempt.what));
        }
        self.cluster.open().await.unwrap();
        let line = self.cluster.line(node, &self.cluster.administrator).await.unwrap();
        assert!(created.len() as u64 > GONE, "{} keys", created.len());
        for name in created {
            let found = line.keys().get_key(GetKeyRequest { name: name.clone(), ..Default::default() }).await;
            assert!(found.is_ok(), "{name} was acknowledged: {found:?}");
        }
    }
}

#[test]
fn a_node_that_was_away_catches_up_by_a_snapshot_while_others_write() {
    alone(catch_up());
}

async fn catch_up() {
    let mut scene = Scene::begin("snapshots").await;
    let away = scene.send_away().await;
    scene.cluster.restart(away).await.unwrap();
    let took = scene.catches_up(away).await;
    eprintln!("caught up in {took:?}");
    assert!(scene.said(away, "a snapshot is the state now") >= 1, "it came by a snapshot, not by the log");
    scene.nothing_is_lost(away).await;
}

#[test]
fn a_transfer_survives_the_death_of_either_end() {
    alone(deaths());
}

async fn deaths() {
    let mut scene = Scene::begin("snapshot-deaths").await;
    let away = scene.send_away().await;
    scene.cluster.restart(away).await.unwrap();
    scene.says(away, "a snapshot is being taken in", 1).await;
    scene.cluster.node_mut(away).unwrap().kill().unwrap();
    scene.cluster.restart(away).await.unwrap();
    let taken_in = scene.said(away, "a snapshot is being taken in") + scene.said(away, "a snapshot goes on");
    scene.says(away, "a snapshot", taken_in.max(2)).await;
    let (leader, _) = scene.cluster.leader(None).await.unwrap();
    scene.cluster.node_mut(leader).unwrap().kill().unwrap();
    scene.cluster.restart(leader).await.unwrap();
    scene.catches_up(away).await;
    eprintln!("went on where it was cut: {} times", scene.said(away, "a snapshot goes on"));
    scene.nothing_is_lost(away).await;
}
