//! Sealing: one node, then all. A sealed node refuses the data plane and says so to whoever asks for its health; the
//! others go on; a node that was killed and comes back sealed catches up, and three custodians open it.

use claviger_jepsen::ceremony::{Guest, open_share};
use claviger_jepsen::cluster::Cluster;
use claviger_jepsen::stage::{Stage, create, decrypt_as, encrypt, valid_calls};
use claviger_jepsen::tool::{Ran, Tool};
use claviger_jepsen::wire::within;
use claviger_proto::v1::{NodeStatus, SealAllRequest, SealNodeRequest, SealState};
use std::path::Path;
use std::time::Duration;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;

static STAGE: Stage = Stage::new("seals");

async fn is(cluster: &Cluster, node: u64, state: SealState) -> bool {
    cluster.status().await.unwrap().nodes.iter().any(|n| n.node == node && n.state() == state)
}

/// Whether that node refuses to decrypt what was encrypted before, and says that it is sealed.
async fn refuses(cluster: &Cluster, node: u64, key: &str, sealed: &[u8]) -> bool {
    match decrypt_as(cluster, node, &cluster.service, key, sealed).await {
        Ok(_) => false,
        Err(trouble) => trouble.to_string().contains("sealed"),
    }
}

/// Whether the node comes to say that of a service to a load balancer who watches it.
async fn comes_to_say(cluster: &Cluster, node: u64, service: &str, wanted: ServingStatus) -> bool {
    let line = cluster.line(node, &cluster.service).await.unwrap();
    let ask = within(HealthCheckRequest { service: service.into() }, Duration::from_secs(5));
    let mut said = line.health().watch(ask).await.unwrap().into_inner();
    while let Ok(Some(answer)) = said.message().await {
        if answer.status() == wanted {
            return true;
        }
    }
    false
}

#[test]
fn one_sealed_node_refuses_and_the_others_go_on() {
    STAGE.play(async |cluster| {
        create(cluster, "tenants/default/keys/one-sealed").await.unwrap();
        let secret = encrypt(cluster, 2, "tenants/default/keys/one-sealed", b"before").await.unwrap();
        let operator = cluster.line(2, &cluster.operator).await.unwrap();
        operator.seal().seal_node(SealNodeRequest {}).await.unwrap();
        assert!(is(cluster, 2, SealState::Sealed).await);
        assert!(refuses(cluster, 2, "tenants/default/keys/one-sealed", &secret).await);
        assert!(comes_to_say(cluster, 2, "claviger.v1.Crypto", ServingStatus::NotServing).await);
        assert!(comes_to_say(cluster, 2, "claviger.v1.Seal", ServingStatus::Serving).await);
        assert!(comes_to_say(cluster, 1, "claviger.v1.Crypto", ServingStatus::Serving).await);
        for node in [1, 3] {
            let clear =
                decrypt_as(cluster, node, &cluster.service, "tenants/default/keys/one-sealed", &secret).await.unwrap();
            assert_eq!(clear, b"before");
        }
        create(cluster, "tenants/default/keys/made-while-one-is-sealed").await.unwrap();
        cluster.open().await.unwrap();
        assert!(is(cluster, 2, SealState::Open).await);
        valid_calls(cluster).await.unwrap();
    });
}

#[test]
fn sealing_all_seals_every_node_whichever_is_asked() {
    STAGE.play(async |cluster| {
        create(cluster, "tenants/default/keys/all-sealed").await.unwrap();
        let secret = encrypt(cluster, 1, "tenants/default/keys/all-sealed", b"before").await.unwrap();
        let operator = cluster.line(3, &cluster.operator).await.unwrap();
        operator.seal().seal_all(SealAllRequest {}).await.unwrap();
        let sealed = |nodes: &[NodeStatus]| nodes.iter().all(|n| n.state() == SealState::Sealed);
        cluster.settled("sealed", sealed).await.unwrap();
        for node in [1, 2, 3] {
            assert!(refuses(cluster, node, "tenants/default/keys/all-sealed", &secret).await, "node {node} answered");
        }
        cluster.open().await.unwrap();
        let clear = decrypt_as(cluster, 2, &cluster.service, "tenants/default/keys/all-sealed", &secret).await.unwrap();
        assert_eq!(clear, b"before");
        valid_calls(cluster).await.unwrap();
    });
}

#[test]
fn a_node_that_was_killed_catches_up_sealed_and_is_opened_again() {
    STAGE.play(async |cluster| {
        cluster.node_mut(3).unwrap().kill().unwrap();
        create(cluster, "tenants/default/keys/made-while-one-is-away").await.unwrap();
        let secret = encrypt(cluster, 1, "tenants/default/keys/made-while-one-is-away", b"away").await.unwrap();
        assert_eq!(cluster.restart(3).await.unwrap(), SealState::Sealed);
        let caught_up = |nodes: &[NodeStatus]| {
            let applied = |n: u64| nodes.iter().find(|s| s.node == n).map(|s| s.applied_index);
            applied(3).is_some_and(|index| index > 0) && applied(3) >= applied(1)
        };
        cluster.settled("caught up", caught_up).await.unwrap();
        assert!(refuses(cluster, 3, "tenants/default/keys/made-while-one-is-away", &secret).await);
        cluster.open().await.unwrap();
        let clear = decrypt_as(cluster, 3, &cluster.service, "tenants/default/keys/made-while-one-is-away", &secret)
            .await
            .unwrap();
        assert_eq!(clear, b"away");
    });
}

#[test]
fn sealing_all_ends_a_ceremony_that_was_half_way() {
    STAGE.play(async |cluster| {
        cluster.node_mut(3).unwrap().kill().unwrap();
        assert_eq!(cluster.restart(3).await.unwrap(), SealState::Sealed);
        let mut guests = Vec::new();
        for custodian in &cluster.custodians[..3] {
            let share = open_share(custodian, &cluster.share(custodian)).unwrap();
            guests.push((Guest::arrive(cluster, 3, custodian).await.unwrap(), share));
        }
        for (guest, share) in &guests[..2] {
            guest.offer(share).await.unwrap().unwrap();
        }
        let operator = cluster.line(1, &cluster.operator).await.unwrap();
        operator.seal().seal_all(SealAllRequest {}).await.unwrap();
        let sealed = |nodes: &[NodeStatus]| nodes.iter().all(|n| n.state() == SealState::Sealed);
        cluster.settled("sealed", sealed).await.unwrap();
        let (guest, share) = &guests[2];
        let refused = guest.offer(share).await.unwrap().expect_err("two old shares and a new one opened the region");
        assert_eq!(refused.code(), tonic::Code::NotFound);
        assert!(sealed(&cluster.status().await.unwrap().nodes));
        cluster.open().await.unwrap();
        valid_calls(cluster).await.unwrap();
    });
}

/// What the tool says of a snapshot, as JSON.
fn inspected(tool: &Tool, file: &Path) -> Ran {
    tool.run(&["operator", "snapshot", "inspect", file.to_str().unwrap(), "--output", "json"]).unwrap()
}

#[test]
fn a_snapshot_is_saved_open_and_sealed_and_is_not_believed_once_it_was_changed() {
    STAGE.play(async |cluster| {
        create(cluster, "tenants/default/keys/kept-in-a-file").await.unwrap();
        let (tool, file) = (cluster.tool(&cluster.operator), cluster.folder.join("open.snapshot"));
        let save = |tool: &Tool, file: &Path| {
            tool.run(&["operator", "snapshot", "save", "--out", file.to_str().unwrap()]).unwrap()
        };
        let saved = save(&tool, &file);
        assert_eq!(saved.code, 0, "{}", saved.stderr);
        assert!(String::from_utf8(saved.stdout).unwrap().contains("opened by   3 of 5 shares of epoch 1"));
        assert_ne!(save(&tool, &file).code, 0, "a file that is there is not written over");
        let told: serde_json::Value = serde_json::from_slice(&inspected(&tool, &file).stdout).unwrap();
        assert_eq!((told["generation"].as_u64(), told["members"].as_array().map(Vec::len)), (Some(1), Some(3)));

        let refused = save(&cluster.tool(&cluster.service), &cluster.folder.join("stolen.snapshot"));
        assert!(refused.code != 0 && refused.stderr.contains("denied"), "{}", refused.stderr);
        assert!(!cluster.folder.join("stolen.snapshot").exists());

        let (whole, spoilt) = (std::fs::read(&file).unwrap(), cluster.folder.join("spoilt.snapshot"));
        for at in [0, 5, whole.len() / 2, whole.len() - 1] {
            let mut bytes = whole.clone();
            bytes[at] ^= 4;
            std::fs::write(&spoilt, &bytes).unwrap();
            let ran = inspected(&tool, &spoilt);
            assert!(ran.code == 1 && ran.stderr.contains("spoilt.snapshot"), "changed at {at}: {}", ran.stderr);
        }
        std::fs::write(&spoilt, &whole[..whole.len() - 1]).unwrap();
        assert!(inspected(&tool, &spoilt).stderr.contains("ends too early"));

        let operator = cluster.line(1, &cluster.operator).await.unwrap();
        operator.seal().seal_all(SealAllRequest::default()).await.unwrap();
        let sealed = cluster.folder.join("sealed.snapshot");
        assert_eq!(save(&tool, &sealed).code, 0);
        let later: serde_json::Value = serde_json::from_slice(&inspected(&tool, &sealed).stdout).unwrap();
        assert!(later["revision"].as_u64() > told["revision"].as_u64(), "{later}");
        cluster.open().await.unwrap();
        valid_calls(cluster).await.unwrap();
    });
}
