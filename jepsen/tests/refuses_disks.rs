//! Disks that are wiped, swapped, full or broken: the node is refused or ends by name, the others go on, and nothing
//! that was acknowledged is lost.

use claviger_client::{Client, v1::CreateKeyRequest};
use claviger_jepsen::cluster::Cluster;
use claviger_jepsen::demo::all_keys;
use claviger_jepsen::disk::{BadDisk, Fault, SmallDisk};
use claviger_jepsen::load;
use claviger_jepsen::pki::uri;
use claviger_jepsen::process::LOOK_EVERY;
use claviger_jepsen::stage::{State, WITNESS, alone, create, decrypt_as, encrypt, valid_calls};
use claviger_jepsen::wire::refusal;
use claviger_proto::v1::{EncryptRequest, InitializeRequest, SealState};
use std::path::Path;
use std::time::{Duration, Instant};
use tonic::Code;

const SHIM: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/shim.c");
const ENDS_WITHIN: Duration = Duration::from_secs(20);

/// An open cluster whose third node stands on whatever `prepare` puts under it.
async fn opened(purpose: &str, prepare: impl FnOnce(&mut Cluster)) -> Cluster {
    let mut cluster = Cluster::prepare(3, purpose).unwrap();
    prepare(&mut cluster);
    cluster.start_nodes().await.unwrap();
    cluster.found().unwrap();
    cluster.open().await.unwrap();
    cluster.give_roles().await.unwrap();
    create(&cluster, WITNESS).await.unwrap();
    cluster
}

/// Creates keys until `enough`; answers those that were acknowledged.
async fn create_until(client: &Client, prefix: &str, mut enough: impl FnMut() -> bool) -> Vec<String> {
    let (mut made, started, mut number) = (Vec::new(), Instant::now(), 0);
    while !enough() {
        assert!(started.elapsed() < ENDS_WITHIN, "nothing came of {number} keys");
        number += 1;
        let name = format!("tenants/default/keys/{prefix}-{number}");
        let ask = CreateKeyRequest { name: name.clone(), ..Default::default() };
        if client.create_key(ask).await.is_ok() {
            made.push(name);
        }
    }
    made
}

/// The third node's disk fails while keys are made: it ends and says why; then the disk is mended and the node is back.
async fn third_disk_fails(mut cluster: Cluster, words: &[&str], fail: impl FnOnce(), mend: impl FnOnce()) {
    let client = load::client(&cluster, &cluster.administrator).unwrap();
    let before = encrypt(&cluster, 1, WITNESS, b"before").await.unwrap();
    fail();
    let mut made = Vec::new();
    {
        let third = cluster.node_mut(3).unwrap();
        made.extend(create_until(&client, "during", || third.has_ended().unwrap()).await);
    }
    let (code, log) = cluster.node_mut(3).unwrap().wait_end(ENDS_WITHIN).unwrap();
    assert_ne!(code, 0, "a node with a broken disk must not end well");
    assert!(words.iter().any(|w| log.contains(w)), "the log does not name the cause ({words:?}): {log}");
    let mut more = 0..5;
    made.extend(create_until(&client, "after", || more.next().is_none()).await);
    valid_calls(&cluster).await.unwrap();
    holds(&cluster, &made).await;

    mend();
    assert_eq!(cluster.restart(3).await.unwrap(), SealState::Sealed);
    cluster.open().await.unwrap();
    holds(&cluster, &made).await;
    let opened = decrypt_as(&cluster, 3, &cluster.service, WITNESS, &before).await.unwrap();
    assert_eq!(opened, b"before");
    valid_calls(&cluster).await.unwrap();
}

async fn holds(cluster: &Cluster, made: &[String]) {
    let present = all_keys(cluster).await.unwrap();
    let lost: Vec<_> = made.iter().filter(|name| !present.contains(*name)).collect();
    assert!(lost.is_empty(), "acknowledged and lost: {lost:?}");
}

#[test]
fn refuses_to_go_on_after_an_fsync_that_failed() {
    alone(async {
        let mut disk = None;
        let cluster = opened("fsync", |cluster| {
            let third = cluster.nodes.last_mut().unwrap();
            disk = Some(BadDisk::under(third, &cluster.folder, Path::new(SHIM), Fault::SyncFails).unwrap());
        })
        .await;
        let disk = disk.unwrap();
        let words = ["Input/output error", "os error 5"];
        third_disk_fails(cluster, &words, || disk.fail().unwrap(), || disk.mend().unwrap()).await;
    });
}

#[test]
fn refuses_to_go_on_when_writes_find_no_space() {
    alone(async {
        let mut disk = None;
        let cluster = opened("enospc", |cluster| {
            let third = cluster.nodes.last_mut().unwrap();
            disk = Some(BadDisk::under(third, &cluster.folder, Path::new(SHIM), Fault::Full).unwrap());
        })
        .await;
        let disk = disk.unwrap();
        let words = ["No space left on device", "os error 28"];
        third_disk_fails(cluster, &words, || disk.fail().unwrap(), || disk.mend().unwrap()).await;
    });
}

/// The same with a real file system that fills up. What RocksDB had reserved may last for a while, the audit book has
/// reserved nothing: the node refuses, or ends. Where nothing may be mounted, the test above has said what there is to say.
#[test]
fn refuses_requests_when_the_file_system_is_full() {
    alone(async {
        let mut disk = None;
        let mut cluster = opened("full", |cluster| {
            disk = SmallDisk::mount(&cluster.folder, 256).unwrap();
            if let Some(disk) = &disk {
                let third = cluster.nodes.last_mut().unwrap();
                third.settings.data = disk.path().join("data");
                third.write_config().unwrap();
            }
        })
        .await;
        let Some(disk) = disk else { return };
        let before = encrypt(&cluster, 3, WITNESS, b"before").await.unwrap();
        disk.fill().unwrap();
        refuses_soon(&mut cluster).await;
        let client = load::client(&cluster, &cluster.administrator).unwrap();
        let mut more = 0..5;
        let made = create_until(&client, "full", || more.next().is_none()).await;
        holds(&cluster, &made).await;

        cluster.node_mut(3).unwrap().kill().unwrap();
        disk.free().unwrap();
        assert_eq!(cluster.restart(3).await.unwrap(), SealState::Sealed);
        cluster.open().await.unwrap();
        holds(&cluster, &made).await;
        assert_eq!(decrypt_as(&cluster, 3, &cluster.service, WITNESS, &before).await.unwrap(), b"before");
        valid_calls(&cluster).await.unwrap();
    });
}

/// The third node answers with the reason, or has ended and named it.
async fn refuses_soon(cluster: &mut Cluster) {
    let started = Instant::now();
    while !cluster.node_mut(3).unwrap().has_ended().unwrap() {
        assert!(started.elapsed() < ENDS_WITHIN, "a node with a full disk goes on");
        let Ok(line) = cluster.line(3, &cluster.service).await else { continue };
        let ask = EncryptRequest { name: WITNESS.into(), ..Default::default() };
        match refusal(line.crypto().encrypt(ask).await) {
            Some((Code::Unavailable, reason)) if reason == "book_full" => return,
            None | Some(_) => {}
        }
    }
    let log = cluster.node(3).unwrap().log().unwrap();
    assert!(log.contains("No space left on device") || log.contains("os error 28"), "the cause is not named: {log}");
}

#[test]
fn refuses_a_wiped_disk_with_an_old_id() {
    alone(async {
        let mut cluster = opened("wiped", |_| {}).await;
        let before = State::read(&cluster).await.unwrap();
        let node = &mut cluster.nodes[2];
        node.kill().unwrap();
        let (data, aside) = (node.settings.data.clone(), node.settings.data.with_extension("aside"));
        std::fs::rename(&data, &aside).unwrap();

        node.start(&cluster.folder).unwrap();
        let client = load::client(&cluster, &cluster.administrator).unwrap();
        let mut rounds = 0..20;
        let made = create_until(&client, "wiped", || rounds.next().is_none()).await;
        assert_eq!(made.len(), 20, "two nodes are a majority");
        stays_outside(&mut cluster).await;

        cluster.node_mut(3).unwrap().kill().unwrap();
        std::fs::remove_dir_all(&data).unwrap();
        std::fs::rename(&aside, &data).unwrap();
        assert_eq!(cluster.restart(3).await.unwrap(), SealState::Sealed, "with its own disk it is back");
        cluster.open().await.unwrap();
        holds(&cluster, &made).await;
        valid_calls(&cluster).await.unwrap();
        assert_ne!(before, State::read(&cluster).await.unwrap(), "the twenty keys are there");
    });
}

/// The third node runs with a disk that nobody enrolled: it has nothing of the cluster, and says why.
async fn stays_outside(cluster: &mut Cluster) {
    let node = cluster.node_mut(3).unwrap();
    if !node.has_ended().unwrap() {
        let line = cluster.line(3, &cluster.operator).await.unwrap();
        let status =
            line.seal().get_seal_status(claviger_proto::v1::GetSealStatusRequest {}).await.unwrap().into_inner();
        assert_eq!(status.state(), SealState::Uninitialized, "a wiped disk took part");
    }
    let admin = cluster.line(3, &cluster.administrator).await.unwrap();
    let ask = InitializeRequest { threshold: 2, administrators: vec![uri("operator", "root")], ..Default::default() };
    assert!(admin.seal().initialize(ask).await.is_err(), "a wiped node founded something");
    let (started, named) = (Instant::now(), ["disk", "no genesis"]);
    while !cluster.nodes.iter().any(|n| named.iter().any(|word| n.log().unwrap().contains(word))) {
        assert!(started.elapsed() < ENDS_WITHIN, "nobody says what is wrong with node 3");
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

#[test]
fn refuses_a_data_folder_of_another_cluster_or_node() {
    alone(async {
        let mut cluster = opened("folders", |_| {}).await;
        let before = State::read(&cluster).await.unwrap();
        let sealed = encrypt(&cluster, 1, WITNESS, b"before").await.unwrap();
        let node = cluster.node_mut(3).unwrap();
        node.kill().unwrap();

        let own = node.settings.clone();
        node.settings.cluster = "other".into();
        ends_by_name(&mut cluster, "cluster demo").await;
        cluster.node_mut(3).unwrap().settings = own.clone();

        let second = cluster.node(2).unwrap().settings.data.clone();
        cluster.node_mut(2).unwrap().kill().unwrap();
        cluster.node_mut(3).unwrap().settings.data = second;
        ends_by_name(&mut cluster, "node 2").await;
        cluster.node_mut(3).unwrap().settings = own;
        cluster.node(3).unwrap().write_config().unwrap();

        for id in [2, 3] {
            assert_eq!(cluster.restart(id).await.unwrap(), SealState::Sealed);
        }
        cluster.open().await.unwrap();
        assert_eq!(before, State::read(&cluster).await.unwrap());
        assert_eq!(decrypt_as(&cluster, 3, &cluster.service, WITNESS, &sealed).await.unwrap(), b"before");
        valid_calls(&cluster).await.unwrap();
    });
}

/// Two clusters of the same name are still two: what tells them apart is their lineage.
#[test]
fn refuses_a_data_folder_of_a_cluster_with_the_same_name() {
    alone(async {
        let other = opened("namesake", |_| {}).await;
        let foreign = other.node(3).unwrap().settings.data.clone();
        let mut cluster = opened("same-name", |_| {}).await;
        let (before, ours) = (State::read(&cluster).await.unwrap(), cluster.status().await.unwrap().lineage);
        let own = cluster.node(3).unwrap().settings.data.clone();
        cluster.node_mut(3).unwrap().kill().unwrap();
        drop_all_but_data(other, &foreign, &own.with_extension("foreign"));

        cluster.node_mut(3).unwrap().settings.data = own.with_extension("foreign");
        cluster.node(3).unwrap().write_config().unwrap();
        takes_no_part(&mut cluster, &ours).await;

        cluster.node_mut(3).unwrap().settings.data = own;
        cluster.node(3).unwrap().write_config().unwrap();
        assert_eq!(cluster.restart(3).await.unwrap(), SealState::Sealed);
        cluster.open().await.unwrap();
        assert_eq!(before, State::read(&cluster).await.unwrap());
        valid_calls(&cluster).await.unwrap();
    });
}

/// Ends a cluster and keeps one of its data folders.
fn drop_all_but_data(mut cluster: Cluster, data: &Path, keep: &Path) {
    for node in &mut cluster.nodes {
        node.kill().unwrap();
    }
    std::fs::rename(data, keep).unwrap();
}

/// The third node, with a foreign folder, ends, or stays of another lineage, never joined by ours.
async fn takes_no_part(cluster: &mut Cluster, ours: &[u8]) {
    let (folder, node) = (&cluster.folder, &mut cluster.nodes[2]);
    node.start(folder).unwrap();
    let Ok(status) = node.ready(&cluster.callers, &cluster.operator).await else {
        assert!(node.has_ended().unwrap());
        return;
    };
    assert_ne!(&status.lineage[..], ours, "a foreign folder became ours");
    assert_eq!(status.state(), SealState::Sealed);
    let client = load::client(cluster, &cluster.administrator).unwrap();
    client.get_key(WITNESS).await.expect("two nodes are a majority");
    let share = cluster.share(&cluster.custodians[0]);
    let offered = cluster.custodians[0].offer(cluster.nodes[2].address(), &share).unwrap();
    assert_eq!(offered.code, 1, "a custodian's tool gave a share to a foreign cluster: {}", offered.stderr);
    cluster.node_mut(3).unwrap().kill().unwrap();
}

async fn ends_by_name(cluster: &mut Cluster, word: &str) {
    let folder = &cluster.folder;
    let node = cluster.nodes.iter_mut().find(|n| n.id() == 3).unwrap();
    node.write_config().unwrap();
    node.start(folder).unwrap();
    let said_before = node.log().unwrap().len();
    let (code, log) = node.wait_end(ENDS_WITHIN).unwrap();
    assert_eq!(code, 3, "people must look before it is started again");
    let said = &log[said_before..];
    assert!(said.contains(&format!("belongs to {word}")), "the refusal does not say {word:?}: {said}");
}
