//! The power goes for all nodes at once; and what exit statuses and gauges say while nothing is open.

use claviger_jepsen::cluster::Cluster;
use claviger_jepsen::stage::{Stage, State, WITNESS, decrypt_as, encrypt, valid_calls};
use claviger_jepsen::wire::refusal;
use claviger_proto::v1::EncryptRequest;
use std::io::{Read, Write};
use std::net::TcpStream;
use tonic::Code;

static STAGE: Stage = Stage::new("power");

async fn is_refused_as_sealed(cluster: &Cluster, node: u64) {
    let line = cluster.line(node, &cluster.service).await.unwrap();
    let said = refusal(line.crypto().encrypt(EncryptRequest { name: WITNESS.into(), ..Default::default() }).await);
    assert_eq!(said, Some((Code::Unavailable, "sealed".into())), "node {node}");
}

/// Exit status of `claviger operator status` at one node.
fn exit_status(cluster: &Cluster, node: u64) -> i32 {
    cluster.tool_at(node, &cluster.operator).unwrap().run(&["operator", "status"]).unwrap().code
}

/// A gauge, as Prometheus reads it.
fn gauge(cluster: &Cluster, node: u64, name: &str) -> f64 {
    let address = cluster.node(node).unwrap().settings.listen.metrics;
    let mut stream = TcpStream::connect(address).unwrap();
    write!(stream, "GET /metrics HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n").unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    value.unwrap_or_else(|| panic!("no {name} in {text}")).trim().parse().unwrap()
}

#[test]
fn a_power_cut_loses_nothing_and_opens_nothing() {
    STAGE.play(async |cluster| {
        let before = State::read(cluster).await.unwrap();
        let sealed = encrypt(cluster, 2, WITNESS, b"before").await.unwrap();
        assert_eq!(gauge(cluster, 2, "claviger_seal_open"), 1.0);
        assert_eq!(exit_status(cluster, 2), 0);
        for node in &mut cluster.nodes {
            node.kill().unwrap();
        }
        assert_eq!(exit_status(cluster, 2), 1, "nobody answers");

        cluster.start_nodes().await.unwrap();
        cluster.leader(None).await.unwrap();
        for node in 1..=3 {
            is_refused_as_sealed(cluster, node).await;
            assert_eq!(exit_status(cluster, node), 2, "node {node}");
            assert_eq!(gauge(cluster, node, "claviger_seal_open"), 0.0, "node {node}");
        }

        cluster.open().await.unwrap();
        assert_eq!(before, State::read(cluster).await.unwrap());
        assert_eq!(decrypt_as(cluster, 1, &cluster.service, WITNESS, &sealed).await.unwrap(), b"before");
        valid_calls(cluster).await.unwrap();
    });
}
