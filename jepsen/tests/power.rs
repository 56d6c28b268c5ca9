//! The power goes for all nodes at once, or for the leader while much is asked of it; and what exit statuses and gauges say while nothing is open.

use claviger_client::{Client, Error, Pipeline};
use claviger_jepsen::cluster::{Cluster, SETTLED_WITHIN};
use claviger_jepsen::load;
use claviger_jepsen::process::LOOK_EVERY;
use claviger_jepsen::stage::{Stage, State, WITNESS, decrypt_as, encrypt, valid_calls};
use claviger_jepsen::wire::refusal;
use claviger_proto::v1::EncryptRequest;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Instant;
use tokio::task::JoinHandle;
use tonic::Code;

static STAGE: Stage = Stage::new("power");

/// Clients, and calls that each makes at once.
const CLIENTS: usize = 6;
const CALLERS: usize = 12;

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
    metric(cluster, node, name).unwrap_or_else(|| panic!("no {name} at node {node}"))
}

/// A gauge or a counter with its labels, if it is there.
fn metric(cluster: &Cluster, node: u64, name: &str) -> Option<f64> {
    let address = cluster.node(node).unwrap().settings.listen.metrics;
    let mut stream = TcpStream::connect(address).unwrap();
    write!(stream, "GET /metrics HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n").unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    value.map(|value| value.trim().parse().unwrap())
}

/// Streams that were opened.
fn streams(cluster: &Cluster) -> f64 {
    const OPENED: &str = "claviger_requests_total{operation=\"Pipeline\",outcome=\"ok\"}";
    cluster.nodes.iter().filter_map(|node| metric(cluster, node.id(), OPENED)).sum()
}

/// Encrypts again and again until told to end; every answer must be a yes.
fn keep_calling(client: &Client, ended: &Arc<AtomicBool>, done: &Arc<AtomicUsize>) -> JoinHandle<Vec<Vec<u8>>> {
    let (client, ended, done) = (client.clone(), ended.clone(), done.clone());
    tokio::spawn(async move {
        let mut ciphertexts = Vec::new();
        while !ended.load(Ordering::Acquire) {
            let answer = client.encrypt(WITNESS, b"before or after".to_vec(), &[]).await;
            ciphertexts.push(answer.expect("an answer within the deadline").ciphertext.to_vec());
            done.fetch_add(1, Ordering::AcqRel);
        }
        ciphertexts
    })
}

async fn more(done: &AtomicUsize, count: usize) {
    let (started, wanted) = (Instant::now(), done.load(Ordering::Acquire) + count);
    while done.load(Ordering::Acquire) < wanted {
        assert!(started.elapsed() < SETTLED_WITHIN, "no {count} more answers in time");
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// Many calls at once share a stream; whatever is on it when its node dies is answered by another.
#[test]
fn calls_that_share_a_stream_are_answered_over_a_killed_leader() {
    STAGE.play(async |cluster| {
        let ((leader, _), before) = (cluster.leader(None).await.unwrap(), streams(cluster));
        // Each client draws by lot which node it asks first, and so where its stream leads.
        let clients = [(); CLIENTS].map(|()| load::client(cluster, &cluster.service).unwrap());
        let (ended, done) = (Arc::default(), Arc::default());
        let callers = clients.iter().flat_map(|client| std::iter::repeat_n(client, CALLERS));
        let calling: Vec<_> = callers.map(|client| keep_calling(client, &ended, &done)).collect();
        more(&done, 500).await;
        assert!(streams(cluster) >= before + 3.0, "most clients have opened a stream");
        cluster.node_mut(leader).unwrap().kill().unwrap();
        more(&done, 500).await;
        ended.store(true, Ordering::Release);
        let mut ciphertexts = Vec::new();
        for one in calling {
            ciphertexts.extend(one.await.unwrap());
        }
        cluster.restart(leader).await.unwrap();
        cluster.open().await.unwrap();
        for one in ciphertexts.iter().step_by(ciphertexts.len() / 50) {
            let opened = decrypt_as(cluster, leader, &cluster.service, WITNESS, one).await.unwrap();
            assert_eq!(opened, b"before or after");
        }
        valid_calls(cluster).await.unwrap();
    });
}

/// A stream that its caller opened ends with its node: every item is answered, or its caller hears of the end.
#[test]
fn a_stream_says_so_when_its_node_is_killed() {
    STAGE.play(async |cluster| {
        let (leader, _) = cluster.leader(None).await.unwrap();
        let address = cluster.node(leader).unwrap().address().to_string();
        let client = load::client(cluster, &cluster.service).unwrap();
        let own = client.each().into_iter().find(|(endpoint, _)| endpoint.to_string() == address);
        let Pipeline { asks, mut answers } = own.unwrap().1.pipeline().await.unwrap();
        let sending = tokio::spawn(async move {
            let mut id = 0;
            while asks.encrypt(id, WITNESS, b"x".to_vec(), &[]).await.is_ok() {
                id += 1;
            }
            id
        });
        let mut answered = 0;
        let ended = loop {
            match answers.next().await {
                Ok(Some(answer)) => answer.outcome.map(|_| answered += 1).unwrap(),
                Ok(None) => panic!("the stream ended as if all was well"),
                Err(ended) => break ended,
            }
            if answered == 300 {
                cluster.node_mut(leader).unwrap().kill().unwrap();
            }
        };
        assert!(matches!(ended, Error::Unavailable { .. }), "{ended}");
        assert!(sending.await.unwrap() >= 300, "whoever sends hears of it too");

        let Pipeline { asks, mut answers } = client.pipeline().await.unwrap();
        asks.encrypt(1, WITNESS, b"x".to_vec(), &[]).await.unwrap();
        assert_eq!(answers.next().await.unwrap().unwrap().id, 1);
        cluster.restart(leader).await.unwrap();
        cluster.open().await.unwrap();
        valid_calls(cluster).await.unwrap();
    });
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
