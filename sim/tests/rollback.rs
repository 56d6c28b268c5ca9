//! Disks that went back in time, under a ledger alone: who notices, by what, and what the node does not do any more. And
//! what a node does while it still asks.

use claviger_core::name::NodeId;
use claviger_core::txn::Outcome;
use claviger_ledger::{Fatal, Lost, Revision, StartFailed, Timings, Unavailable, WentBack};
use claviger_proto::peer::v1::{AcquaintReply, AcquaintRequest, BarrierRequest, Envelope};
use claviger_sim::bare::cluster::Cluster;
use claviger_sim::disk::{Extent, Honesty};
use claviger_sim::network::{Weather, frame};
use claviger_sim::trace::Trace;
use claviger_world::disk::{Batch, Disk, Space};
use claviger_world::network::{FrameKind, PeerCertificate};
use prost::Message;
use std::sync::Arc;
use std::time::Duration;

const LIMIT: Duration = Duration::from_secs(5);
const OLD: NodeId = NodeId(3);

fn simulate(future: impl Future<Output = ()>) {
    let mut builder = tokio::runtime::Builder::new_current_thread();
    builder.enable_time().start_paused(true).build().unwrap().block_on(future);
}

async fn founded(seed: u64) -> Cluster {
    let trace = Arc::new(Trace::new(seed, None));
    let mut cluster = Cluster::new(seed, Timings::default(), trace, Weather::FAIR, Honesty::Honest);
    for n in 1..=3 {
        cluster.start(NodeId(n)).await.unwrap();
    }
    assert_eq!(cluster.found().await, Outcome::Accepted(1));
    cluster
}

async fn barrier(cluster: &Cluster, node: NodeId) -> Result<Revision, Unavailable> {
    let ledger = cluster.ledger(node).unwrap();
    cluster.run_on(node, async move { ledger.barrier(LIMIT).await }).await.unwrap()
}

/// One more transaction, through whoever leads.
async fn change(cluster: &Cluster) {
    barrier(cluster, NodeId(1)).await.unwrap();
    let leader = cluster.leader().unwrap();
    let ledger = cluster.ledger(leader).unwrap();
    let told = cluster.run_on(leader, async move { ledger.checkpoint(LIMIT).await }).await.unwrap();
    assert!(matches!(told, Ok(Outcome::Accepted(_))), "{told:?}");
}

/// What node 3 ended of.
fn went_back(cluster: &Cluster) -> Vec<WentBack> {
    let fatal = cluster.fatal().into_iter().filter(|(node, _)| *node == OLD);
    fatal.map(|(_, why)| if let Fatal::WentBack(what) = why { what } else { panic!("{why}") }).collect()
}

#[test]
fn an_old_copy_is_named_by_the_first_that_answers_and_takes_no_part() {
    simulate(async {
        let mut cluster = founded(1).await;
        change(&cluster).await;
        cluster.crash(OLD).await;
        let copy = cluster.nodes[&OLD].disk.copy();
        cluster.start(OLD).await.unwrap();
        tokio::time::sleep(LIMIT).await;
        change(&cluster).await;
        cluster.crash(OLD).await;
        cluster.nodes[&OLD].disk.put_back(&copy, Extent::Whole);

        cluster.start(OLD).await.unwrap();
        tokio::time::sleep(LIMIT).await;
        let [WentBack { known_by: Some(_), lost: Lost::Life { start: 2 } }] = went_back(&cluster)[..] else {
            panic!("{:?}", went_back(&cluster));
        };
        assert!(cluster.ledger(OLD).unwrap().status().asking, "and it stays out");
        assert!(barrier(&cluster, OLD).await.is_err());
        barrier(&cluster, NodeId(1)).await.unwrap();
    });
}

/// The copy was taken under a running node, which has not started since: only its log tells.
#[test]
fn a_log_that_is_shorter_than_was_acknowledged_is_named_though_no_start_was_lost() {
    simulate(async {
        let mut cluster = founded(2).await;
        change(&cluster).await;
        let copy = cluster.nodes[&OLD].disk.copy();
        for _ in 0..3 {
            change(&cluster).await;
        }
        tokio::time::sleep(LIMIT).await;
        cluster.crash(OLD).await;
        cluster.nodes[&OLD].disk.put_back(&copy, Extent::Whole);
        cluster.start(OLD).await.unwrap();
        tokio::time::sleep(LIMIT).await;
        let [WentBack { lost: Lost::Log { .. }, .. }] = went_back(&cluster)[..] else {
            panic!("{:?}", went_back(&cluster));
        };
    });
}

/// The leader that counted the entries has gone: the other has been told, and has stored it.
#[test]
fn what_the_leader_knew_is_known_when_it_is_gone() {
    simulate(async {
        let mut cluster = founded(3).await;
        for _ in 0..3 {
            let leader = cluster.leader().unwrap();
            if leader != OLD {
                break;
            }
            let ledger = cluster.ledger(leader).unwrap();
            cluster.run_on(leader, async move { ledger.transfer_leader(LIMIT).await }).await.unwrap().unwrap();
            tokio::time::sleep(LIMIT).await;
        }
        let leader = cluster.leader().filter(|leader| *leader != OLD).unwrap();
        let other = NodeId(3 - leader.0);
        change(&cluster).await;
        let copy = cluster.nodes[&OLD].disk.copy();
        change(&cluster).await;
        tokio::time::sleep(LIMIT).await;
        for node in [OLD, leader, other] {
            cluster.crash(node).await;
        }
        cluster.nodes[&OLD].disk.put_back(&copy, Extent::Whole);
        for node in [OLD, other] {
            cluster.start(node).await.unwrap();
        }
        tokio::time::sleep(LIMIT).await;
        let [WentBack { known_by, lost: Lost::Log { .. } }] = went_back(&cluster)[..] else {
            panic!("{:?}", went_back(&cluster));
        };
        assert_eq!(known_by, Some(other));
    });
}

#[test]
fn old_tables_and_a_lost_vote_are_named_by_the_mark_before_anything_is_written() {
    simulate(async {
        let mut cluster = founded(4).await;
        let copy = cluster.nodes[&OLD].disk.copy();
        change(&cluster).await;
        tokio::time::sleep(LIMIT).await;
        cluster.crash(OLD).await;
        let disk = cluster.nodes[&OLD].disk.clone();
        let now = disk.copy();
        disk.put_back(&copy, Extent::Tables);
        let before = disk.image();
        let refused = cluster.start(OLD).await.unwrap_err();
        assert!(matches!(refused, StartFailed::WentBack(WentBack { known_by: None, .. })), "{refused}");
        assert_eq!(disk.image(), before, "nothing was written");

        disk.put_back(&now, Extent::Tables);
        let mut lost = Batch::default();
        lost.delete(Space::Raft, &b"vote"[..]);
        disk.write(lost).await.unwrap();
        let refused = cluster.start(OLD).await.unwrap_err();
        let StartFailed::WentBack(WentBack { known_by: None, lost: Lost::Vote { held: None, .. } }) = refused else {
            panic!("{refused}");
        };
        disk.put_back(&now, Extent::Tables);
        cluster.start(OLD).await.unwrap();
        barrier(&cluster, OLD).await.unwrap();
    });
}

#[test]
fn nodes_that_start_at_once_answer_each_other_and_one_alone_asks_on() {
    simulate(async {
        let mut cluster = founded(5).await;
        change(&cluster).await;
        for n in 1..=3 {
            cluster.crash(NodeId(n)).await;
        }
        cluster.start(NodeId(1)).await.unwrap();
        tokio::time::sleep(LIMIT).await;
        let first = cluster.ledger(NodeId(1)).unwrap();
        assert!(first.status().asking && first.status().leader.is_none());
        let term = first.status().term;
        cluster.start(NodeId(2)).await.unwrap();
        tokio::time::sleep(LIMIT).await;
        assert!(!first.status().asking && first.status().term > term, "two of three have answered, and elect");
        barrier(&cluster, NodeId(2)).await.unwrap();
        cluster.start(NodeId(3)).await.unwrap();
        barrier(&cluster, NodeId(3)).await.unwrap();
        assert_eq!(cluster.fatal(), []);
        tokio::time::sleep(LIMIT * 2).await;
        let known = |by: u64, of: u64| cluster.ledger(NodeId(by)).unwrap().known_starts(NodeId(of));
        assert_eq!([known(1, 3), known(2, 3), known(3, 1), known(3, 2)], [2; 4], "all come to know of every start");
    });
}

/// Else whoever was retired while all were off would never hear of it, and ask for ever.
#[test]
fn who_still_asks_tells_how_the_cluster_stands_and_confirms_nothing() {
    simulate(async {
        let mut cluster = founded(6).await;
        for n in 1..=3 {
            cluster.crash(NodeId(n)).await;
        }
        cluster.start(NodeId(1)).await.unwrap();
        tokio::time::sleep(LIMIT).await;
        let ledger = cluster.ledger(NodeId(1)).unwrap();
        assert!(ledger.status().asking);
        let member = ledger.roster().unwrap().member(NodeId(2)).unwrap().clone();
        let (lineage, sender_disk) = (ledger.lineage().unwrap().0.to_vec(), member.disk.0.to_vec().into());
        let envelope = Envelope { lineage: lineage.clone().into(), sender: 2, sender_disk, target: 1 };
        let from = PeerCertificate { key: member.key, claims: NodeId(2) };
        let ask = async |frame| {
            let ledger = ledger.clone();
            cluster.run_on(NodeId(1), async move { ledger.hear(from, frame).await }).await.unwrap()
        };
        let barrier = BarrierRequest { envelope: Some(envelope), leads: None }.encode_to_vec();
        let refused = ask(frame(FrameKind::Barrier, barrier)).await.unwrap_err();
        assert!(refused.contains("still asking the others"), "{refused}");
        let request = AcquaintRequest { lineage: lineage.into(), ..AcquaintRequest::default() }.encode_to_vec();
        let told = AcquaintReply::decode(ask(frame(FrameKind::Acquaint, request)).await.unwrap()).unwrap();
        assert!(!told.founding.is_empty() && !told.links.is_empty() && !told.roster.is_empty());
    });
}
