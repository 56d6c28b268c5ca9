//! Who may not speak to a ledger, and which data folders it does not take. Each time the next good call succeeds.

use bytes::Bytes;
use claviger_core::codec::Canonical;
use claviger_core::name::{DiskId, NodeId, VerifyingKey};
use claviger_core::txn::Outcome;
use claviger_ledger::{PinRefused, ProposeFailed, Revision, StartFailed, Timings, Unavailable};
use claviger_proto::peer::v1::barrier_reply::Verdict;
use claviger_proto::peer::v1::{BarrierReply, BarrierRequest, Envelope, ProposeRequest, RaftLeaderId, RaftVote};
use claviger_sim::bare::cluster::Cluster;
use claviger_sim::disk::{Honesty, SimDisk};
use claviger_sim::network::{Weather, frame};
use claviger_sim::trace::Trace;
use claviger_world::network::{FrameKind, PeerCertificate};
use prost::Message;
use std::sync::Arc;
use std::time::Duration;

const FAIR: Weather = Weather::FAIR;
const LIMIT: Duration = Duration::from_secs(5);

fn simulate(future: impl Future<Output = ()>) {
    let mut builder = tokio::runtime::Builder::new_current_thread();
    builder.enable_time().start_paused(true).build().unwrap().block_on(future);
}

async fn started(seed: u64) -> Cluster {
    let trace = Arc::new(Trace::new(seed, None));
    let mut cluster = Cluster::new(seed, Timings::default(), trace, FAIR, Honesty::Honest);
    for n in 1..=3 {
        cluster.start(NodeId(n)).await.unwrap();
    }
    cluster
}

async fn founded(seed: u64) -> Cluster {
    let mut cluster = started(seed).await;
    assert_eq!(cluster.found().await, Outcome::Accepted(1));
    cluster
}

async fn barrier(cluster: &Cluster, node: NodeId) -> Result<Revision, Unavailable> {
    let ledger = cluster.ledger(node).unwrap();
    cluster.run_on(node, async move { ledger.barrier(LIMIT).await }).await.unwrap()
}

/// Asks the leader for a barrier as node `from`, after `spoil` had its way with envelope and certificate.
async fn ask(cluster: &Cluster, spoil: impl FnOnce(&mut Envelope, &mut PeerCertificate)) -> Result<Bytes, String> {
    let leader = cluster.leader().unwrap();
    let from = NodeId(leader.0 % 3 + 1);
    let ledger = cluster.ledger(leader).unwrap();
    let member = ledger.view().roster().unwrap().member(from).unwrap().clone();
    let mut certificate = PeerCertificate { key: member.key, claims: from };
    let mut envelope = Envelope {
        lineage: Bytes::copy_from_slice(&ledger.lineage().unwrap().0),
        sender: from.0,
        sender_disk: Bytes::copy_from_slice(&member.disk.0),
        target: leader.0,
    };
    spoil(&mut envelope, &mut certificate);
    let body = BarrierRequest { envelope: Some(envelope), leads: None }.encode_to_vec();
    let hearing = async move { ledger.hear(certificate, frame(FrameKind::Barrier, body)).await };
    cluster.run_on(leader, hearing).await.unwrap()
}

/// Asks every other node, as `leader`, whether it follows the leader of that term.
async fn follow(cluster: &Cluster, leader: NodeId, term: u64, committed: bool) -> Vec<Verdict> {
    let lineage = cluster.ledger(leader).unwrap().lineage().unwrap();
    let mut said = Vec::new();
    let member = cluster.ledger(leader).unwrap().view().roster().unwrap().member(leader).unwrap().clone();
    for node in (1..=3).map(NodeId).filter(|node| *node != leader) {
        let ledger = cluster.ledger(node).unwrap();
        let envelope = Envelope {
            lineage: Bytes::copy_from_slice(&lineage.0),
            sender: leader.0,
            sender_disk: Bytes::copy_from_slice(&member.disk.0),
            target: node.0,
        };
        let vote = RaftVote { leader: Some(RaftLeaderId { term, node: leader.0 }), committed };
        let body = BarrierRequest { envelope: Some(envelope), leads: Some(vote) }.encode_to_vec();
        let certificate = PeerCertificate { key: member.key, claims: leader };
        let hearing = async move { ledger.hear(certificate, frame(FrameKind::Barrier, body)).await };
        let answer = cluster.run_on(node, hearing).await.unwrap().unwrap();
        said.push(BarrierReply::decode(answer).unwrap().verdict());
    }
    said
}

#[test]
fn says_that_it_follows_a_leader_and_no_other_and_not_when_there_is_a_later_one() {
    simulate(async {
        let cluster = founded(11).await;
        barrier(&cluster, NodeId(2)).await.unwrap();
        let old = cluster.leader().unwrap();
        let term = cluster.ledger(old).unwrap().status().term;
        assert_eq!(follow(&cluster, old, term, true).await, [Verdict::Follows; 2]);
        assert_eq!(follow(&cluster, old, term, false).await, [Verdict::NotLeader; 2], "a candidate");
        assert_eq!(follow(&cluster, old, term - 1, true).await, [Verdict::NotLeader; 2]);
        assert_eq!(follow(&cluster, old, term + 1, true).await, [Verdict::NotLeader; 2]);
        let ledger = cluster.ledger(old).unwrap();
        cluster.run_on(old, async move { ledger.transfer_leader(LIMIT).await }).await.unwrap().unwrap();
        barrier(&cluster, old).await.unwrap();
        let new = cluster.leader().unwrap();
        let later = cluster.ledger(new).unwrap().status().term;
        assert_ne!(new, old);
        assert_eq!(follow(&cluster, old, term, true).await, [Verdict::NotLeader; 2], "of the term before");
        assert_eq!(follow(&cluster, new, later, true).await, [Verdict::Follows; 2]);
    });
}

#[test]
fn refuses_frames_of_strangers_by_name() {
    simulate(async {
        let cluster = founded(1).await;
        barrier(&cluster, NodeId(2)).await.unwrap();
        let before = cluster.ledger(NodeId(1)).unwrap().revision();
        let said = [
            ask(&cluster, |_, c| c.key = VerifyingKey([7; 32])).await,
            ask(&cluster, |_, c| c.claims = NodeId(9)).await,
            ask(&cluster, |e, _| e.sender_disk = Bytes::from_static(&[7; 16])).await,
            ask(&cluster, |e, _| e.lineage = Bytes::from_static(&[7; 32])).await,
            ask(&cluster, |e, _| e.target = 9).await,
            ask(&cluster, |e, c| (e.sender, c.claims) = (9, NodeId(9))).await,
        ];
        let wanted = [
            "the certificate's key is not the one in the roster",
            "certificate and envelope name different nodes",
            "the sender's disk is not the one in the roster",
            "the frame is of another cluster",
            "the frame is for another node",
            "the sender is not in the roster",
        ];
        assert_eq!(said.map(Result::unwrap_err), wanted);
        let good = ask(&cluster, |_, _| ()).await.unwrap();
        assert!(BarrierReply::decode(good).unwrap().index >= before.index);
    });
}

#[test]
fn refuses_a_forwarded_batch_that_nobody_signed() {
    simulate(async {
        let cluster = founded(2).await;
        let leader = cluster.leader().unwrap();
        let ledger = cluster.ledger(leader).unwrap();
        let mut forged = cluster.founding_batch(cluster.genesis());
        forged.signature.0[0] ^= 1;
        let from = NodeId(leader.0 % 3 + 1);
        let member = ledger.view().roster().unwrap().member(from).unwrap().clone();
        let envelope = Envelope {
            lineage: Bytes::copy_from_slice(&ledger.lineage().unwrap().0),
            sender: from.0,
            sender_disk: Bytes::copy_from_slice(&member.disk.0),
            target: leader.0,
        };
        let request = ProposeRequest { envelope: Some(envelope), batch: Bytes::from(forged.to_bytes()) };
        let certificate = PeerCertificate { key: member.key, claims: from };
        let last = ledger.status().last_log_index;
        let body = frame(FrameKind::Propose, request.encode_to_vec());
        let (ear, status) = (ledger.clone(), ledger.clone());
        let said = cluster.run_on(leader, async move { ear.hear(certificate, body).await }).await.unwrap();
        assert!(said.is_err());
        assert_eq!(status.status().last_log_index, last, "nothing entered the log");
        barrier(&cluster, from).await.unwrap();
    });
}

#[test]
fn refuses_peers_before_a_genesis_is_pinned_and_a_genesis_without_this_disk() {
    simulate(async {
        let mut cluster = started(3).await;
        let ledger = cluster.ledger(NodeId(1)).unwrap();
        let mut foreign = cluster.genesis();
        foreign.roster.members[0].disk = DiskId([9; 16]);
        let (pinner, other) = (ledger.clone(), foreign.clone());
        let pinned = cluster.run_on(NodeId(1), async move { pinner.pin_genesis(&other).await }).await.unwrap();
        assert_eq!(pinned, Err(PinRefused::NotMember));
        foreign = cluster.genesis();
        foreign.cluster = "other".parse().unwrap();
        let pinner = ledger.clone();
        let pinned = cluster.run_on(NodeId(1), async move { pinner.pin_genesis(&foreign).await }).await.unwrap();
        assert_eq!(pinned, Err(PinRefused::OtherCluster));
        let nobody = PeerCertificate { key: VerifyingKey([1; 32]), claims: NodeId(2) };
        let (ear, body) =
            (ledger.clone(), BarrierRequest { envelope: Some(Envelope::default()), leads: None }.encode_to_vec());
        let asking = async move { ear.hear(nobody, frame(FrameKind::Barrier, body)).await };
        let said = cluster.run_on(NodeId(1), asking).await.unwrap();
        assert_eq!(said.unwrap_err(), "this node has no genesis yet");
        assert_eq!(cluster.found().await, Outcome::Accepted(1));
        let again = cluster.run_on(NodeId(1), async move { ledger.abandon_genesis().await }).await.unwrap();
        assert_eq!(again, Err(PinRefused::Begun));
    });
}

#[test]
fn refuses_a_data_folder_of_another_node_and_of_another_cluster() {
    simulate(async {
        let mut cluster = founded(4).await;
        for n in [1, 2] {
            cluster.crash(NodeId(n)).await;
        }
        let (one, two) = (cluster.nodes[&NodeId(1)].disk.clone(), cluster.nodes[&NodeId(2)].disk.clone());
        cluster.nodes.get_mut(&NodeId(1)).unwrap().disk = two;
        let started = cluster.start(NodeId(1)).await;
        assert_eq!(started, Err(StartFailed::OtherNode { found: NodeId(2) }));
        cluster.nodes.get_mut(&NodeId(1)).unwrap().disk = one;
        cluster.name = "other".parse().unwrap();
        let started = cluster.start(NodeId(1)).await;
        assert_eq!(started, Err(StartFailed::OtherCluster { found: "sim".parse().unwrap() }));
        cluster.name = "sim".parse().unwrap();
        cluster.start(NodeId(1)).await.unwrap();
        barrier(&cluster, NodeId(1)).await.unwrap();
        assert_eq!(cluster.ledger(NodeId(1)).unwrap().incarnation(), 2, "a refused start is not counted");
    });
}

#[test]
fn refuses_a_wiped_disk_under_its_old_number() {
    simulate(async {
        let mut cluster = founded(5).await;
        cluster.crash(NodeId(3)).await;
        let wiped = SimDisk::new(cluster.trace.clone(), Honesty::Honest);
        cluster.nodes.get_mut(&NodeId(3)).unwrap().disk = wiped;
        cluster.start(NodeId(3)).await.unwrap();
        let (ledger, genesis) =
            (cluster.ledger(NodeId(3)).unwrap(), cluster.ledger(NodeId(1)).unwrap().genesis().unwrap());
        let pinner = ledger.clone();
        let pinned = cluster.run_on(NodeId(3), async move { pinner.pin_genesis(&genesis).await }).await.unwrap();
        assert_eq!(pinned, Err(PinRefused::NotMember));
        tokio::time::sleep(LIMIT).await;
        assert_eq!(ledger.status().last_log_index, 0, "it was given nothing");
        barrier(&cluster, NodeId(1)).await.unwrap();
    });
}

#[test]
fn a_sealed_node_refuses_to_author_at_once_but_follows_and_reads() {
    simulate(async {
        let cluster = founded(6).await;
        let sealed = NodeId(cluster.leader().unwrap().0 % 3 + 1);
        let ledger = cluster.ledger(sealed).unwrap();
        barrier(&cluster, sealed).await.unwrap();
        ledger.set_author(None);
        let asking = ledger.clone();
        let told = cluster.run_on(sealed, async move { asking.checkpoint(LIMIT).await }).await.unwrap();
        assert_eq!(told, Err(ProposeFailed::NotAuthor));
        let leader = cluster.leader().unwrap();
        let author = cluster.ledger(leader).unwrap();
        let told = cluster.run_on(leader, async move { author.checkpoint(LIMIT).await }).await.unwrap();
        assert_eq!(told, Ok(Outcome::Accepted(2)));
        assert_eq!(barrier(&cluster, sealed).await.unwrap().sequence, 2);
        assert!(ledger.status().proven);
    });
}

#[test]
fn leadership_is_handed_over() {
    simulate(async {
        let cluster = founded(7).await;
        let leader = cluster.leader().unwrap();
        let ledger = cluster.ledger(leader).unwrap();
        cluster.run_on(leader, async move { ledger.transfer_leader(LIMIT).await }).await.unwrap().unwrap();
        tokio::time::sleep(Duration::from_millis(100)).await;
        assert_ne!(cluster.leader(), Some(leader));
        barrier(&cluster, leader).await.unwrap();
    });
}

#[test]
fn refuses_to_answer_without_a_majority() {
    simulate(async {
        let mut cluster = founded(8).await;
        barrier(&cluster, NodeId(3)).await.unwrap();
        for n in [1, 2] {
            cluster.crash(NodeId(n)).await;
        }
        assert_eq!(barrier(&cluster, NodeId(3)).await.unwrap_err(), Unavailable::NoQuorum);
        let ledger = cluster.ledger(NodeId(3)).unwrap();
        let told = cluster.run_on(NodeId(3), async move { ledger.checkpoint(LIMIT).await }).await.unwrap();
        assert!(matches!(told, Err(ProposeFailed::NoQuorum | ProposeFailed::Unknown(_))), "{told:?}");
        cluster.start(NodeId(1)).await.unwrap();
        barrier(&cluster, NodeId(3)).await.unwrap();
    });
}
