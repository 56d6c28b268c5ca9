//! Two nodes on loopback: frames there and answers back, each end knowing the other; and strangers who get nothing.

use super::*;
use crate::{
    clock::MachineClock,
    listen::{self, Door},
    peer,
    tls::forge::{Authority, node_folder},
    traffic::Traffic,
};
use claviger_core::name::NodeId;
use claviger_world::network::{FrameKind, Listener};
use std::net::SocketAddr;
use tempfile::TempDir;
use tokio::sync::watch;

/// Echoes a frame's body behind its sender's number; refuses frames that say so; never answers those that hang.
struct Echo;

impl Listener for Echo {
    fn hear(&self, from: PeerCertificate, frame: Frame) -> BoxFuture<'static, Result<bytes::Bytes, String>> {
        Box::pin(async move {
            match &frame.body[..] {
                b"refuse" => Err("not of this cluster".into()),
                b"hang" => std::future::pending().await,
                body => Ok([from.claims.to_string().as_bytes(), b": ", body].concat().into()),
            }
        })
    }
}

struct Side {
    tls: Arc<LiveTls>,
    _folder: TempDir,
}

fn side(number: u64, peers: &Authority) -> Side {
    let folder = tempfile::tempdir().unwrap();
    let config = node_folder(folder.path(), number, &Authority::new(), peers);
    Side { tls: LiveTls::load(&config, Arc::new(MachineClock)).unwrap(), _folder: folder }
}

/// Serves frames until the sender is dropped.
fn serving(side: &Side) -> (SocketAddr, watch::Sender<bool>) {
    let listener = listen::bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let address = listener.local_addr().unwrap();
    let (stop, stopped) = watch::channel(false);
    let (tls, domain) = (side.tls.clone(), side.tls.now().domain.clone());
    let limits =
        crate::config::Limits { handshakes: 8, connections: 8, streams_per_connection: 64, requests_in_flight: 64 };
    let door = Door {
        tls: Box::new(move || tls.peers()),
        admit: Box::new(move |leaf| peer_certificate(&leaf, &domain).ok()),
        stays: Box::new(|_| true),
        clock: Arc::new(MachineClock),
        limits,
        traffic: Traffic::default(),
    };
    let layer = crate::in_flight::InFlight::new(64, Traffic::default());
    tokio::spawn(listen::serve(listener, door, peer::routes(Arc::new(Echo)), layer, stopped));
    (address, stop)
}

fn network(side: &Side) -> PeerNetwork {
    PeerNetwork::new(side.tls.clone(), Arc::new(MachineClock))
}

async fn ask(network: &PeerNetwork, to: SocketAddr, body: &str, ms: u64) -> Result<String, CallFailed> {
    let frame = Frame { kind: FrameKind::Raft, body: body.to_owned().into() };
    let answer = network.call(&to.to_string(), frame, Duration::from_millis(ms)).await?;
    assert_eq!(answer.from.claims, NodeId(2));
    Ok(String::from_utf8(answer.body.to_vec()).unwrap())
}

#[tokio::test]
async fn a_frame_is_answered_with_the_certificates_of_both_ends() {
    let peers = Authority::new();
    let (one, two) = (side(1, &peers), side(2, &peers));
    let (to, _stop) = serving(&two);
    let network = network(&one);
    let many = (0..50).map(|_| ask(&network, to, "hello", 5_000));
    for answer in futures_util::future::join_all(many).await {
        assert_eq!(answer.unwrap(), "1: hello");
    }
    let refused = CallFailed::Refused("not of this cluster".into());
    assert_eq!(ask(&network, to, "refuse", 5_000).await, Err(refused));
    let large = "x".repeat(FRAME_BYTES_MAX - 8);
    assert_eq!(ask(&network, to, &large, 10_000).await.unwrap().len(), FRAME_BYTES_MAX - 5);
    let over = CallFailed::Refused("the frame is over its bound".into());
    assert_eq!(ask(&network, to, &"x".repeat(FRAME_BYTES_MAX + 1), 5_000).await, Err(over));
    assert_eq!(ask(&network, to, "still", 5_000).await.unwrap(), "1: still");
}

#[tokio::test]
async fn a_call_ends_at_its_deadline_and_the_connection_stays() {
    let peers = Authority::new();
    let (one, two) = (side(1, &peers), side(2, &peers));
    let (to, _stop) = serving(&two);
    let network = network(&one);
    assert_eq!(ask(&network, to, "first", 5_000).await.unwrap(), "1: first");
    let begun = Instant::now();
    assert_eq!(ask(&network, to, "hang", 200).await, Err(CallFailed::Late));
    assert!(begun.elapsed() < Duration::from_secs(2));
    assert_eq!(ask(&network, to, "next", 5_000).await.unwrap(), "1: next");
}

#[tokio::test]
async fn a_peer_that_went_is_unreachable_and_found_again_when_it_is_back() {
    let peers = Authority::new();
    let (one, two) = (side(1, &peers), side(2, &peers));
    let listener = listen::bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let nobody = listener.local_addr().unwrap();
    drop(listener);
    let network = network(&one);
    assert_eq!(ask(&network, nobody, "hello", 5_000).await, Err(CallFailed::Unreachable));
    let (to, stop) = serving(&two);
    assert_eq!(ask(&network, to, "hello", 5_000).await.unwrap(), "1: hello");
    stop.send(true).unwrap();
    let gone = async {
        while ask(&network, to, "hello", 1_000).await.is_ok() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(5), gone).await.unwrap();
}

#[tokio::test]
async fn refuses_a_peer_of_another_authority_at_both_ends() {
    let (ours, theirs) = (Authority::new(), Authority::new());
    let (one, two, stranger) = (side(1, &ours), side(2, &ours), side(2, &theirs));
    let (good, _stop) = serving(&two);
    let (bad, _stop_too) = serving(&stranger);
    let network_of_one = network(&one);
    assert_eq!(ask(&network_of_one, bad, "hello", 5_000).await, Err(CallFailed::Unreachable));
    assert_eq!(ask(&network(&stranger), good, "hello", 5_000).await, Err(CallFailed::Unreachable));
    assert_eq!(ask(&network_of_one, good, "hello", 5_000).await.unwrap(), "1: hello");
}
