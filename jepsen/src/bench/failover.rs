//! Leaders that are killed, on our side and on etcd's: how long until the next write is acknowledged, and for how long no
//! encryption comes back from those who are left.

use super::calls::KEY;
use super::etcd::{self, Etcd};
use super::table::Results;
use crate::cluster::Cluster;
use crate::demo::say;
use crate::process::LOOK_EVERY;
use crate::trouble::{About, Told, Trouble};
use crate::wire::Line;
use bytes::Bytes;
use claviger_proto::v1::{CreateKeyRequest, EncryptRequest, ReadOptions, SealState, keys_client::KeysClient};
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use tokio::sync::mpsc::{Sender, channel};
use tokio::task::{JoinHandle, JoinSet};

/// Election time-outs of both sides, as they are by default: said beside the figures.
pub const ELECTIONS: &str =
    "election time-outs, in ms: claviger 401 to 600, heartbeat 100; etcd 1000 to 2000, heartbeat 100";
/// How long the next write may take.
const WRITTEN_WITHIN: Duration = Duration::from_secs(30);
/// Encryptions under way at one survivor.
const IN_FLIGHT: usize = 4;
/// How stale an answer may be where that is allowed, in milliseconds: as much as a node grants.
const STALE_MS: u32 = 2_000;

/// What came of one kill, in milliseconds.
#[derive(Default)]
struct Kills {
    next_write: Vec<f64>,
    gap: Vec<f64>,
    gap_stale: Vec<f64>,
}

/// Longest gap that is aimed at, in milliseconds.
const GAP_AIM_MS: u32 = 30;

/// Kills leaders on both sides, in turns.
pub async fn kill_leaders(
    kills: usize,
    cluster: &mut Cluster,
    mut peer: Option<&mut Etcd>,
    results: &mut Results,
) -> Told<()> {
    say(format_args!("bench: {ELECTIONS}"));
    let (mut ours, mut theirs) = (Kills::default(), Vec::new());
    for number in 0..kills {
        our_failover(cluster, number, &mut ours).await?;
        if let Some(etcd) = &mut peer {
            theirs.push(their_failover(etcd, number).await?);
        }
    }
    let next_write = median(&ours.next_write);
    results.figure("failover, to the next write, median", next_write, "ms");
    results.figure("failover, to the next write, longest", longest(&ours.next_write), "ms");
    for (what, gaps) in [("fresh", &ours.gap), ("2 s stale allowed", &ours.gap_stale)] {
        results.figure(format!("failover, gap of encryptions, {what}, median"), median(gaps), "ms");
        results.figure(
            format!("failover, gap of encryptions, {what}, longest (aim {GAP_AIM_MS})"),
            longest(gaps),
            "ms",
        );
    }
    if theirs.is_empty() {
        return Ok(());
    }
    results.figure("failover of etcd, to the next write, median", median(&theirs), "ms");
    results.figure("failover of etcd, to the next write, longest", longest(&theirs), "ms");
    results.ratio("failover_vs_etcd", Some(next_write), Some(median(&theirs)), 0.5, 1.0);
    Ok(())
}

async fn our_failover(cluster: &mut Cluster, number: usize, kills: &mut Kills) -> Told<()> {
    let (leader, _) = cluster.leader(None).await?;
    let left: Vec<u64> = cluster.nodes.iter().map(|node| node.id()).filter(|id| *id != leader).collect();
    let channel = cluster.line(left[0], &cluster.administrator).await?.channel();
    let (mut fresh, mut stale) = (Vec::new(), Vec::new());
    for id in left {
        let line = cluster.line(id, &cluster.service).await?;
        fresh.push(Watch::begin(&line, ReadOptions::default()).await?);
        let old = ReadOptions { allow_stale_ms: STALE_MS, ..Default::default() };
        stale.push(Watch::begin(&line, old).await?);
    }
    let killed = Instant::now();
    cluster.node_mut(leader)?.kill()?;
    let write = |attempt| {
        let (name, channel) = (format!("tenants/bench/keys/failover-{number}-{attempt}"), channel.clone());
        async move {
            KeysClient::new(channel).create_key(CreateKeyRequest { name, ..Default::default() }).await?;
            Ok(())
        }
    };
    kills.next_write.push(first_written(killed, write).await?);
    kills.gap.push(Watch::longest(fresh, killed).await?);
    kills.gap_stale.push(Watch::longest(stale, killed).await?);
    cluster.restart(leader).await?;
    let back = |n: &claviger_proto::v1::NodeStatus| n.reachable && n.state() == SealState::Sealed;
    cluster.settled("back", |nodes| nodes.iter().any(back)).await?;
    cluster.open().await
}

async fn their_failover(etcd: &mut Etcd, number: usize) -> Told<f64> {
    let leader = etcd.leader().await?;
    let channel = etcd.channel((leader + 1) % etcd.members.len()).await?;
    let killed = Instant::now();
    etcd.kill(leader)?;
    let write = |attempt| {
        let (key, channel) = (format!("failover-{number}-{attempt}"), channel.clone());
        async move { etcd::put(&channel, key, Bytes::from_static(b"x")).await }
    };
    let next_write = first_written(killed, write).await?;
    etcd.start_member(leader)?;
    etcd.takes_writes(leader).await?;
    Ok(next_write)
}

/// Begins a write every few milliseconds, whatever becomes of those before: one that went to the leader that died may be
/// lost, and would be waited for until its deadline. Milliseconds from `since` until the first is acknowledged.
async fn first_written<Doing>(since: Instant, write: impl Fn(u64) -> Doing) -> Told<f64>
where
    Doing: Future<Output = Told<()>> + Send + 'static,
{
    let (mut under_way, mut begin, mut number) = (JoinSet::new(), tokio::time::interval(LOOK_EVERY), 0);
    let mut last = Trouble::new("none was answered");
    while since.elapsed() < WRITTEN_WITHIN {
        tokio::select! {
            biased;
            Some(done) = under_way.join_next() => match done.about("a write")? {
                Ok(()) => return Ok(since.elapsed().as_secs_f64() * 1e3),
                Err(trouble) => last = trouble,
            },
            _ = begin.tick() => {
                under_way.spawn(write(number));
                number += 1;
            }
        }
    }
    Err(Trouble::new(format!("no write after the leader's death: {last}")))
}

/// Somebody who encrypts at one node, again and again.
struct Watch {
    stop: Arc<AtomicBool>,
    workers: Vec<JoinHandle<Told<Vec<Instant>>>>,
}

impl Watch {
    /// Comes back when all have been answered once: a node at which nobody has read yet has nothing of which it could say
    /// how old it is.
    async fn begin(line: &Line, read: ReadOptions) -> Told<Watch> {
        let stop = Arc::new(AtomicBool::new(false));
        let (first, mut firsts) = channel(IN_FLIGHT);
        let worker = |_| tokio::spawn(answered(line.clone(), read, first.clone(), stop.clone()));
        let workers = (0..IN_FLIGHT).map(worker).collect();
        drop(first);
        for _ in 0..IN_FLIGHT {
            firsts
                .recv()
                .await
                .ok_or_else(|| Trouble::new("an encryption before the leader's death was not answered"))?;
        }
        Ok(Watch { workers, stop })
    }

    /// The longest time that passed at one node without an answer, in milliseconds, since `killed`, of all nodes that were
    /// watched.
    async fn longest(watches: Vec<Watch>, killed: Instant) -> Told<f64> {
        let mut gaps = Vec::new();
        for watch in watches {
            gaps.push(watch.end(killed).await?);
        }
        Ok(longest(&gaps))
    }

    async fn end(self, killed: Instant) -> Told<f64> {
        self.stop.store(true, Ordering::Relaxed);
        let mut all = vec![killed];
        for worker in self.workers {
            all.extend(worker.await.about("a watcher")??);
        }
        all.retain(|at| *at >= killed);
        all.sort_unstable();
        let gaps: Vec<f64> = all.windows(2).map(|two| (two[1] - two[0]).as_secs_f64() * 1e3).collect();
        Ok(longest(&gaps))
    }
}

/// When encryptions came back, until one that was asked after the end came back too: a gap that nothing closes would not be
/// seen.
async fn answered(line: Line, read: ReadOptions, first: Sender<()>, stop: Arc<AtomicBool>) -> Told<Vec<Instant>> {
    let (mut answered, began) = (Vec::new(), Instant::now());
    while began.elapsed() < WRITTEN_WITHIN {
        let (last, asked) = (stop.load(Ordering::Relaxed), Instant::now());
        let plaintext = Bytes::from_static(&[7; 32]);
        let ask = EncryptRequest { name: KEY.into(), plaintext, read: Some(read), ..Default::default() };
        match line.crypto().encrypt(ask).await {
            Ok(_) => {
                if answered.is_empty() {
                    first.send(()).await.about("the first answer")?;
                }
                answered.push(Instant::now());
            }
            Err(_) => tokio::time::sleep(LOOK_EVERY / 10).await,
        }
        let back = answered.last().is_some_and(|at| *at > asked);
        if last && back {
            return Ok(answered);
        }
    }
    Err(Trouble::new("no encryption came back after the leader's death"))
}

fn median(all: &[f64]) -> f64 {
    let mut sorted = all.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len() / 2).copied().unwrap_or(0.0)
}

fn longest(all: &[f64]) -> f64 {
    all.iter().copied().fold(0.0, f64::max)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_first_acknowledged_write_counts_whatever_became_of_those_before() {
        let write = |number| async move {
            match number {
                0 => std::future::pending().await,
                1 | 2 => Err(Trouble::new("no leader")),
                _ => Ok(()),
            }
        };
        let took_ms = first_written(Instant::now(), write).await.unwrap();
        assert!(took_ms >= 3.0 * LOOK_EVERY.as_secs_f64() * 1e3, "{took_ms}");
    }

    #[test]
    fn the_median_and_the_longest_of_what_was_seen() {
        assert_eq!((median(&[9.0, 1.0, 4.0]), longest(&[9.0, 1.0, 4.0]), median(&[])), (4.0, 9.0, 0.0));
    }
}
