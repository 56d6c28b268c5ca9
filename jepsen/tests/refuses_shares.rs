//! Shares of every wrong kind, offered to a sealed cluster: each is refused alone and by name, and three true ones
//! open it all the same.

use claviger_core::secret::Secret32;
use claviger_core::share::{Share, ShareContext};
use claviger_jepsen::ceremony::{Guest, chance, flipped, open_share};
use claviger_jepsen::cluster::{Cluster, THRESHOLD};
use claviger_jepsen::people::Custodian;
use claviger_jepsen::stage::{Stage, State, alone, valid_calls};
use claviger_proto::v1::{BeginUnsealRequest, OfferShareResponse, SealAllRequest, SealState};
use tonic::{Code, Status};

static STAGE: Stage = Stage::new("shares");

/// Seals everything, plays, opens with three true shares, and compares the state with what it was.
fn while_sealed(test: impl AsyncFnOnce(&mut Cluster)) {
    STAGE.play(async |cluster| {
        let before = State::read(cluster).await.unwrap();
        let operator = cluster.line(2, &cluster.operator).await.unwrap();
        operator.seal().seal_all(SealAllRequest {}).await.unwrap();
        let sealed = |nodes: &[claviger_proto::v1::NodeStatus]| nodes.iter().all(|n| n.state() == SealState::Sealed);
        cluster.settled("sealed", sealed).await.unwrap();
        test(cluster).await;
        assert!(sealed(&cluster.status().await.unwrap().nodes), "a wrong share opened something");
        cluster.open().await.unwrap();
        assert_eq!(before, State::read(cluster).await.unwrap(), "a refusal changed something");
        valid_calls(cluster).await.unwrap();
    });
}

fn own(cluster: &Cluster, custodian: &Custodian) -> Share {
    open_share(custodian, &cluster.share(custodian)).unwrap()
}

/// Refused as a share, with words that say whose it was and why.
fn refused(answer: Result<OfferShareResponse, Status>, bearer: &Custodian, why: &str) {
    let status = answer.expect_err("a wrong share was accepted");
    assert_eq!(
        claviger_jepsen::wire::refusal::<()>(Err(status.clone())),
        Some((Code::InvalidArgument, "share".into()))
    );
    assert!(status.message().contains(&bearer.uri()), "the bearer is not named: {}", status.message());
    assert!(status.message().contains(why), "wanted {why:?}: {}", status.message());
}

#[test]
fn refuses_a_flipped_share() {
    while_sealed(async |cluster| {
        let ben = cluster.custodians[1].clone();
        let guest = Guest::arrive(cluster, 1, &ben).await.unwrap();
        let forged = flipped(&own(cluster, &ben)).unwrap();
        refused(guest.offer(&forged).await.unwrap(), &ben, "not the share that was dealt");
        // The true one is still wanted afterwards.
        let progress = guest.offer(&own(cluster, &ben)).await.unwrap().unwrap();
        assert_eq!(progress.ceremony.unwrap().accepted.len(), 1);
    });
}

#[test]
fn refuses_a_sealed_share_that_was_flipped_or_cut() {
    while_sealed(async |cluster| {
        let ada = cluster.custodians[0].clone();
        let guest = Guest::arrive(cluster, 1, &ada).await.unwrap();
        let good = guest.offering(&own(cluster, &ada)).unwrap();
        for at in [0, 40, 1_119, good.sealed_share.len() - 1] {
            let mut sealed = good.sealed_share.to_vec();
            sealed[at] ^= 0x10;
            let bad = claviger_proto::v1::OfferShareRequest { sealed_share: sealed.into(), ..good.clone() };
            refused(guest.send(bad).await, &ada, "not sealed to this ceremony's key");
        }
        for length in [0, 1, 1_120, good.sealed_share.len() - 1] {
            let sealed_share = good.sealed_share.slice(..length);
            let bad = claviger_proto::v1::OfferShareRequest { sealed_share, ..good.clone() };
            refused(guest.send(bad).await, &ada, "not sealed to this ceremony's key");
        }
        let mut proof = good.proof.to_vec();
        proof[5] ^= 1;
        let bad = claviger_proto::v1::OfferShareRequest { proof: proof.into(), ..good.clone() };
        refused(guest.send(bad).await, &ada, "the proof was not made with this share");
    });
}

#[test]
fn refuses_a_duplicate_share() {
    while_sealed(async |cluster| {
        let ada = cluster.custodians[0].clone();
        let guest = Guest::arrive(cluster, 1, &ada).await.unwrap();
        guest.offer(&own(cluster, &ada)).await.unwrap().unwrap();
        refused(guest.offer(&own(cluster, &ada)).await.unwrap(), &ada, "accepted before");
    });
}

#[test]
fn refuses_somebody_elses_share() {
    while_sealed(async |cluster| {
        let (ada, ben) = (cluster.custodians[0].clone(), cluster.custodians[1].clone());
        let guest = Guest::arrive(cluster, 1, &ada).await.unwrap();
        refused(guest.offer(&own(cluster, &ben)).await.unwrap(), &ada, "somebody else's");
    });
}

#[test]
fn refuses_a_share_of_another_cluster() {
    while_sealed(async |cluster| {
        let ada = cluster.custodians[0].clone();
        let guest = Guest::arrive(cluster, 1, &ada).await.unwrap();
        let mine = own(cluster, &ada);
        let lineage = claviger_core::name::Lineage([7; 32]);
        let context = ShareContext::new(lineage, mine.context().region().clone(), 1, 3, 5).unwrap();
        let foreign = Share::new(context, mine.index(), Secret32::of(chance().unwrap().fresh())).unwrap();
        refused(guest.offer(&foreign).await.unwrap(), &ada, "of another cluster, region, epoch or sharing");
    });
}

#[test]
fn refuses_a_share_from_somebody_who_holds_none() {
    while_sealed(async |cluster| {
        let mallory = cluster.callers.issue("custodian", "mallory").unwrap();
        let line = cluster.line(1, &mallory).await.unwrap();
        let answer = claviger_jepsen::wire::refusal(line.seal().begin_unseal(BeginUnsealRequest {}).await);
        assert_eq!(answer, Some((Code::PermissionDenied, "denied".into())));
    });
}

#[test]
fn refuses_to_open_with_too_few() {
    while_sealed(async |cluster| {
        for custodian in &cluster.custodians[..THRESHOLD - 1] {
            let guest = Guest::arrive(cluster, 1, custodian).await.unwrap();
            let answer = guest.offer(&own(cluster, custodian)).await.unwrap().unwrap();
            assert!(!answer.opened && answer.opened_nodes.is_empty());
        }
        let status = cluster.status().await.unwrap();
        assert!(status.nodes.iter().all(|n| n.state() == SealState::Sealed));
    });
}

#[test]
fn refuses_share_files_that_were_changed() {
    alone(async {
        let cluster = Cluster::start(3, "files").await.unwrap();
        cluster.found().unwrap();
        let ada = &cluster.custodians[0];
        let (file, bad) = (cluster.share(ada), cluster.folder.join("bad.share"));
        let text = std::fs::read_to_string(&file).unwrap();
        let changes: [(&str, String); 5] = [
            ("cut", text[..text.len() / 2].into()),
            ("one letter of the armor", text.replacen("\nYWdl", "\nYWdm", 1)),
            ("another threshold", text.replace("threshold: 3", "threshold: 2")),
            ("another index", text.replace("index: 1", "index: 2")),
            ("a line more", format!("{text}\n")),
        ];
        for (what, changed) in changes {
            assert_ne!(changed, text, "{what} changes nothing");
            std::fs::write(&bad, changed).unwrap();
            let ran = ada.offer(cluster.nodes[0].address(), &bad).unwrap();
            assert_eq!(ran.code, 1, "{what}: {}", ran.stderr);
        }
        let theirs = ada.offer(cluster.nodes[0].address(), &cluster.share(&cluster.custodians[1])).unwrap();
        assert_eq!(theirs.code, 1, "somebody else's file opens with one's own key: {}", theirs.stderr);
        cluster.open().await.unwrap();
    });
}
