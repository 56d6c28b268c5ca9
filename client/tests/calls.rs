//! How a client behaves towards nodes that answer, refuse, hang, break and lie about who they are.

#![allow(missing_docs, reason = "tests")]

mod fake;

use claviger_client::{Client, Config, Error, Files, Why};
use fake::{NAME, Node, Pki, always, client, node};
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tonic::Status;

#[tokio::test]
async fn a_call_moves_on_from_a_node_that_is_gone_or_sealed() {
    let pki = Pki::new();
    let gone = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let sealed = node(&pki, 1, always(|| Err(Status::unavailable("sealed"))));
    let open = node(&pki, 2, always(|| Ok(7)));
    let client = client(&pki, &[gone.to_string(), sealed.address.to_string(), open.address.to_string()], 5_000);
    for _ in 0..4 {
        let sealed = client.encrypt(NAME, b"x".to_vec(), &[]).await.unwrap();
        assert_eq!((sealed.revision, sealed.ciphertext.len()), (7, 129));
    }
    assert_eq!(client.revision(), 7);
    assert!(sealed.calls().len() <= 1, "the client stays with the node that answers");
    assert_eq!(open.calls().len(), 4);
    assert!(open.calls()[1..].iter().all(|call| call.min_revision == 7), "no later call may see less");
}

#[tokio::test]
async fn what_one_node_has_shown_every_other_must_have_before_it_answers() {
    let pki = Pki::new();
    // The first answers once and is sealed then; the second is asked from there on.
    let first = node(&pki, 1, Arc::new(|_, nth| if nth == 0 { Ok(41) } else { Err(Status::unavailable("sealed")) }));
    let second = node(&pki, 2, always(|| Ok(42)));
    let addresses = [first.address.to_string(), second.address.to_string()];
    let client = client(&pki, &addresses, 5_000);
    let alone = client.each();
    let (_, at_first) = alone.iter().find(|(node, _)| node.to_string() == addresses[0]).unwrap();
    assert_eq!(at_first.get_key(NAME).await.unwrap().revision, 41);
    assert_eq!(client.revision(), 41, "clones share what they have seen");
    client.decrypt(NAME, vec![0; 140], &[]).await.unwrap();
    client.encrypt(NAME, b"x".to_vec(), &[]).await.unwrap();
    let asked: Vec<u64> = second.calls().iter().map(|call| call.min_revision).collect();
    assert_eq!(asked, [41, 42]);
}

#[tokio::test]
async fn a_revision_that_another_program_has_seen_is_asked_for() {
    let pki = Pki::new();
    let node = node(&pki, 1, always(|| Ok(7)));
    let client = client(&pki, &[node.address.to_string()], 5_000);
    client.at_least(99);
    client.get_key(NAME).await.unwrap();
    client.at_least(3);
    client.encrypt(NAME, b"x".to_vec(), &[]).await.unwrap();
    let asked: Vec<u64> = node.calls().iter().map(|call| call.min_revision).collect();
    assert_eq!(asked, [99, 99], "neither a lesser one nor an answer takes it back");
}

#[tokio::test]
async fn a_change_keeps_its_request_id_over_repetitions() {
    let pki = Pki::new();
    let script: fake::Script =
        Arc::new(|_, nth| if nth < 3 { Err(Status::unavailable("no quorum yet")) } else { Ok(9) });
    let node = node(&pki, 1, script);
    let client = client(&pki, &[node.address.to_string()], 5_000);
    client.rotate_key(NAME).await.unwrap();
    client.rotate_key(NAME).await.unwrap();
    let ids: Vec<Vec<u8>> = node.calls().into_iter().map(|call| call.request_id).collect();
    assert_eq!(ids.len(), 5);
    assert!(ids[0].len() == 16 && ids[..4].iter().all(|id| *id == ids[0]), "one logical call, one id");
    assert_ne!(ids[4], ids[0], "another call, another id");
}

#[tokio::test]
async fn a_refusal_is_never_repeated() {
    let pki = Pki::new();
    let first = node(&pki, 1, always(|| Err(Status::failed_precondition("refused: the key is disabled"))));
    let second = node(&pki, 2, always(|| Err(Status::failed_precondition("refused: the key is disabled"))));
    let client = client(&pki, &[first.address.to_string(), second.address.to_string()], 5_000);
    let refused = client.encrypt(NAME, b"x".to_vec(), &[]).await.unwrap_err();
    assert!(matches!(&refused, Error::Refused { message, .. } if message == "the key is disabled"), "{refused:?}");
    assert_eq!(first.calls().len() + second.calls().len(), 1);
}

#[tokio::test]
async fn a_seal_is_sent_once_and_to_one_node() {
    let pki = Pki::new();
    let node = node(&pki, 1, always(|| Err(Status::unavailable("busy"))));
    let client = client(&pki, &[node.address.to_string()], 5_000);
    let [(_, one)] = &client.each()[..] else { panic!("one node") };
    assert!(matches!(one.seal_node().await, Err(Error::Unavailable { why: Why::Other, .. })));
    assert_eq!(node.calls().len(), 1);
}

#[tokio::test]
async fn everything_is_sealed_by_whoever_can() {
    let pki = Pki::new();
    let sealed = node(&pki, 1, always(|| Err(Status::unavailable("sealed"))));
    let open = node(&pki, 2, always(|| Ok(7)));
    // Which is asked first is drawn by lot.
    for done in 1..=8 {
        let client = client(&pki, &[sealed.address.to_string(), open.address.to_string()], 5_000);
        assert_eq!(client.seal_all().await.unwrap().seal_epoch, 1);
        assert_eq!(open.calls().len(), done);
    }
}

#[tokio::test]
async fn a_node_that_hangs_does_not_use_up_the_time_of_the_others() {
    let pki = Pki::new();
    let mute = TcpListener::bind("127.0.0.1:0").await.unwrap(); // accepts, and never says a word
    let open = node(&pki, 2, always(|| Ok(1)));
    let (cert, key) = pki.issue("caller", &["spiffe://example.org/claviger/service/app"], 4000);
    let addresses = format!("{},{}", mute.local_addr().unwrap(), open.address);
    let mut config = Config::new(addresses.parse().unwrap(), Files { ca: pki.ca(), cert, key });
    config.connect = Duration::from_millis(100);
    for _ in 0..16 {
        // each client draws by lot whom it asks first
        Client::new(&config).unwrap().encrypt(NAME, b"x".to_vec(), &[]).await.unwrap();
    }
    let asked = tokio::time::timeout(Duration::from_secs(1), mute.accept()).await;
    assert!(asked.is_ok(), "one in sixteen began with the node that hangs");
}

#[tokio::test]
async fn a_call_ends_at_its_deadline_and_tells_whom_it_tried() {
    let pki = Pki::new();
    let node = node(&pki, 1, always(|| Err(Status::unavailable("unavailable: no majority"))));
    let client = client(&pki, &[node.address.to_string()], 300);
    let started = std::time::Instant::now();
    let late = client.get_key(NAME).await.unwrap_err();
    assert!(started.elapsed() < Duration::from_secs(2));
    let Error::Unavailable { message, tried, .. } = late else { panic!("{late:?}") };
    assert_eq!(message, "no majority");
    assert!(tried.len() > 1 && tried.iter().all(|t| t.endpoint.to_string() == node.address.to_string()));
}

#[tokio::test]
async fn a_call_survives_the_death_of_the_node_that_answered() {
    let pki = Pki::new();
    let first = node(&pki, 1, always(|| Ok(1)));
    let second = node(&pki, 2, always(|| Ok(2)));
    let client = client(&pki, &[first.address.to_string(), second.address.to_string()], 5_000);
    client.get_key(NAME).await.unwrap();
    let survivor = if first.calls().is_empty() {
        drop(second);
        first
    } else {
        drop(first);
        second
    };
    client.get_key(NAME).await.unwrap();
    assert!(!survivor.calls().is_empty());
}

/// A call to a node with that certificate must fail before the node hears a word.
async fn refused_certificate(uris: &[&str], until: i32, wanted: &str) {
    let pki = Pki::new();
    let certificate = pki.issue("odd", uris, until);
    let odd = Node::start(&pki, &certificate, claviger_client::v1::SealState::Open, always(|| Ok(1)));
    let client = client(&pki, &[odd.address.to_string()], 2_000);
    let refused = client.get_key(NAME).await.unwrap_err();
    let Error::Unavailable { why: Why::Unreachable, message, .. } = refused else { panic!("{refused:?}") };
    assert!(message.contains(wanted), "{message}");
    assert!(odd.calls().is_empty());
}

#[tokio::test]
async fn refuses_servers_that_are_no_nodes() {
    let node = "spiffe://example.org/claviger/node/1";
    refused_certificate(&["spiffe://example.org/claviger/service/app"], 4000, "not a node's").await;
    refused_certificate(&[node, "spiffe://example.org/claviger/node/2"], 4000, "not exactly one URI").await;
    refused_certificate(&[], 4000, "not exactly one URI").await;
    refused_certificate(&[node], 2001, "expired").await;
}

#[tokio::test]
async fn refuses_a_node_of_another_authority() {
    let (ours, theirs) = (Pki::new(), Pki::new());
    let foreign = node(&theirs, 1, always(|| Ok(1)));
    let refused = client(&ours, &[foreign.address.to_string()], 2_000).get_key(NAME).await.unwrap_err();
    assert!(refused.to_string().contains("not from the configured CA"), "{refused}");
    assert!(foreign.calls().is_empty());
}

#[test]
fn refuses_files_that_are_wrong_and_says_which() {
    use std::os::unix::fs::PermissionsExt;
    let pki = Pki::new();
    let (cert, key) = pki.issue("caller", &["spiffe://example.org/claviger/service/app"], 4000);
    let (other_cert, other_key) = pki.issue("other", &[], 4000);
    let told = |ca: &std::path::Path, cert: &std::path::Path, key: &std::path::Path| {
        let files = Files { ca: ca.into(), cert: cert.into(), key: key.into() };
        let config = Config::new("127.0.0.1:1".parse().unwrap(), files);
        Client::new(&config).err().map(|e| e.to_string()).unwrap_or_default()
    };
    let absent = pki.folder.path().join("absent");
    assert_eq!(told(&pki.ca(), &cert, &key), "");
    assert!(told(&absent, &cert, &key).contains("absent: No such file"));
    assert!(told(&key, &cert, &key).contains("caller.key: holds no certificate"));
    assert!(told(&pki.ca(), &cert, &other_key).contains("other.key: is not the key of the certificate"));
    assert!(told(&pki.ca(), &other_cert, &other_key).contains("other.crt: has not exactly one URI"));
    std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o640)).unwrap();
    assert!(told(&pki.ca(), &cert, &key).contains("chmod 600"));
}
