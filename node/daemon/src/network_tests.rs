//! Two nodes on loopback: frames there and answers back, each end knowing the other; and strangers who get nothing.

use super::*;
use crate::{
    clock::MachineClock,
    config::Limits,
    listen::{self, Door},
    peer,
    tls::forge::{Authority, node_folder},
    traffic::Traffic,
};
use claviger_core::name::NodeId;
use claviger_world::network::{FrameKind, Listener, SharedListener};
use std::net::SocketAddr;
use tempfile::TempDir;
use tokio::sync::{Notify, watch};

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

/// Answers when it is let.
#[derive(Clone, Default)]
struct Gate {
    heard: Arc<AtomicU64>,
    came: Arc<Notify>,
    goes: Arc<Notify>,
}

impl Listener for Gate {
    fn hear(&self, _: PeerCertificate, frame: Frame) -> BoxFuture<'static, Result<bytes::Bytes, String>> {
        let gate = self.clone();
        Box::pin(async move {
            gate.heard.fetch_add(1, Ordering::SeqCst);
            gate.came.notify_one();
            gate.goes.notified().await;
            Ok([b"1: ", &frame.body[..]].concat().into())
        })
    }
}

/// Passes on what comes, both ways, until it is told to swallow it. Says how many it has met.
struct Passage {
    address: SocketAddr,
    open: watch::Sender<bool>,
    met: Arc<AtomicU64>,
}

impl Passage {
    async fn to(target: SocketAddr) -> Passage {
        let listener = listen::bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let (address, met) = (listener.local_addr().unwrap(), Arc::<AtomicU64>::default());
        let (open, opened) = watch::channel(true);
        let counted = met.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                counted.fetch_add(1, Ordering::SeqCst);
                tokio::spawn(pass(stream, target, opened.clone()));
            }
        });
        Passage { address, open, met }
    }
}

async fn pass(mut near: TcpStream, target: SocketAddr, mut open: watch::Receiver<bool>) {
    let Ok(mut far) = TcpStream::connect(target).await else { return };
    tokio::select! {
        _ = tokio::io::copy_bidirectional(&mut near, &mut far) => return,
        _ = open.wait_for(|open| !open) => {}
    }
    // Both ends stay open, and nothing goes through.
    _ = open.wait_for(|open| *open).await;
}

/// A connection to `to` as `side` would dial it, with the handshake done.
async fn dialled(side: &Side, to: SocketAddr, protocol: &[u8]) -> TlsStream<TcpStream> {
    let mut config = side.tls.now().dial.as_ref().clone();
    config.alpn_protocols = vec![protocol.to_vec()];
    let stream = TcpStream::connect(to).await.unwrap();
    TlsConnector::from(Arc::new(config)).connect(ServerName::from(to.ip()), stream).await.unwrap()
}

/// How the other end ends a connection on which these bytes were sent.
async fn told(mut stream: TlsStream<TcpStream>, bytes: &[u8]) -> usize {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    stream.write_all(bytes).await.unwrap();
    let mut answer = Vec::new();
    let ended = tokio::time::timeout(Duration::from_secs(5), stream.read_to_end(&mut answer)).await;
    // Closed in order or not: it is closed.
    let _ = ended.expect("the other end closes the connection");
    answer.len()
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
    serving_as(side, Arc::new(Echo), Traffic::default())
}

fn serving_as(side: &Side, node: SharedListener, traffic: Traffic) -> (SocketAddr, watch::Sender<bool>) {
    let listener = listen::bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let address = listener.local_addr().unwrap();
    let (stop, stopped) = watch::channel(false);
    let (tls, domain) = (side.tls.clone(), side.tls.now().domain.clone());
    let limits = Limits { handshakes: 8, connections: 8, streams_per_connection: 64, ..Limits::default() };
    let door = Door {
        tls: Box::new(move || tls.peers()),
        protocol: line::PROTOCOL,
        admit: Box::new(move |leaf| peer_certificate(&leaf, &domain).ok()),
        stays: Box::new(|_| true),
        more_follows: Box::new(|| false),
        clock: Arc::new(MachineClock),
        limits,
        traffic,
    };
    let layer = crate::in_flight::InFlight::new(1_024, Traffic::default());
    tokio::spawn(peer::serve(listener, door, node, layer, stopped));
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
async fn who_stops_answers_what_is_under_way_and_hears_nothing_more() {
    let peers = Authority::new();
    let (one, two) = (side(1, &peers), side(2, &peers));
    let gate = Gate::default();
    let (to, stop) = serving_as(&two, Arc::new(gate.clone()), Traffic::default());
    let network = network(&one);
    let stopping = async {
        gate.came.notified().await;
        stop.send(true).unwrap();
        assert_eq!(ask(&network, to, "late", 200).await, Err(CallFailed::Late));
        gate.goes.notify_one();
    };
    let (answer, ()) = tokio::join!(ask(&network, to, "under way", 10_000), stopping);
    assert_eq!(answer.unwrap(), "1: under way");
    assert_eq!(gate.heard.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn who_reads_no_answers_is_dropped() {
    use tokio::io::AsyncWriteExt;
    let peers = Authority::new();
    let (one, two) = (side(1, &peers), side(2, &peers));
    let traffic = Traffic::default();
    let (to, _stop) = serving_as(&two, Arc::new(Echo), traffic.clone());
    let mut stream = dialled(&one, to, line::PROTOCOL).await;
    let ask = Ask { call: 1, kind: FrameKind::Raft as u32, within_ms: 60_000, body: vec![7; 1 << 20].into() };
    let bytes = [&u32::try_from(ask.encoded_len()).unwrap().to_be_bytes()[..], &ask.encode_to_vec()].concat();
    // More than the system takes from either end, until it can be written no more.
    let asking = async { while stream.write_all(&bytes).await.is_ok() {} };
    tokio::time::timeout(Duration::from_secs(20), asking).await.expect("it is closed while it asks");
    assert_eq!(traffic.connections.get(), 0);
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

#[tokio::test]
async fn a_peer_that_falls_silent_is_given_up_and_dialled_anew() {
    let peers = Authority::new();
    let (one, two) = (side(1, &peers), side(2, &peers));
    let (to, _stop) = serving(&two);
    let (network, passage) = (network(&one), Passage::to(to).await);
    assert_eq!(ask(&network, passage.address, "hello", 5_000).await.unwrap(), "1: hello");
    passage.open.send_replace(false);
    tokio::time::pause();
    let begun = tokio::time::Instant::now();
    assert_eq!(ask(&network, passage.address, "hello", 60_000).await, Err(CallFailed::Unreachable));
    let most = line::KEEP_ALIVE_MS + line::KEEP_ALIVE_ANSWER_MS_MAX + 2 * line::LOOK_MS;
    assert!(begun.elapsed() <= Duration::from_millis(most), "{:?}", begun.elapsed());
    tokio::time::resume();
    passage.open.send_replace(true);
    assert_eq!(ask(&network, passage.address, "again", 5_000).await.unwrap(), "1: again");
}

#[tokio::test]
async fn a_long_frame_has_a_connection_of_its_own() {
    let peers = Authority::new();
    let (one, two) = (side(1, &peers), side(2, &peers));
    let (to, _stop) = serving(&two);
    let (network, passage) = (network(&one), Passage::to(to).await);
    let long = "x".repeat(SHORT_BYTES_MAX + 1);
    for _ in 0..3 {
        assert_eq!(ask(&network, passage.address, "hello", 5_000).await.unwrap(), "1: hello");
        assert_eq!(ask(&network, passage.address, &long, 5_000).await.unwrap().len(), long.len() + 3);
    }
    assert_eq!(passage.met.load(Ordering::SeqCst), 2);
}

#[tokio::test]
async fn more_frames_than_a_connection_may_have_under_way_wait_for_their_turn() {
    let peers = Authority::new();
    let (one, two) = (side(1, &peers), side(2, &peers));
    let (to, _stop) = serving(&two);
    let network = network(&one);
    let hanging = futures_util::future::join_all((0..64).map(|_| ask(&network, to, "hang", 300)));
    let waiting = async {
        tokio::task::yield_now().await;
        futures_util::future::join_all((0..200).map(|_| ask(&network, to, "hello", 5_000))).await
    };
    let (hanging, waiting) = tokio::join!(hanging, waiting);
    assert!(hanging.into_iter().all(|answer| answer == Err(CallFailed::Late)));
    assert!(waiting.iter().all(|answer| matches!(answer, Ok(said) if said == "1: hello")), "{waiting:?}");
}

#[tokio::test]
async fn closes_what_is_no_frame_and_who_speaks_otherwise() {
    let peers = Authority::new();
    let (one, two) = (side(1, &peers), side(2, &peers));
    let (to, _stop) = serving(&two);
    let network = network(&one);
    let long = u32::try_from(line::MESSAGE_BYTES_MAX + 1).unwrap().to_be_bytes();
    for bytes in [&long[..], &[0, 0, 0, 3, 0xff, 0xff, 0xff]] {
        assert_eq!(told(dialled(&one, to, line::PROTOCOL).await, bytes).await, 0, "{bytes:?}");
    }
    let mut config = one.tls.now().dial.as_ref().clone();
    config.alpn_protocols = vec![listen::HTTP2.to_vec()];
    let stream = TcpStream::connect(to).await.unwrap();
    let connected = TlsConnector::from(Arc::new(config)).connect(ServerName::from(to.ip()), stream).await;
    assert!(connected.is_err(), "HTTP/2 is not spoken here");
    let mut silent = one.tls.now().dial.as_ref().clone();
    silent.alpn_protocols.clear();
    let stream = TcpStream::connect(to).await.unwrap();
    let connected = TlsConnector::from(Arc::new(silent)).connect(ServerName::from(to.ip()), stream).await.unwrap();
    assert_eq!(told(connected, b"").await, 0, "nor is nothing agreed on");
    assert_eq!(ask(&network, to, "still", 5_000).await.unwrap(), "1: still");
}

#[tokio::test]
async fn a_kind_of_a_later_release_is_refused_by_name_and_somebody_is_there() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let peers = Authority::new();
    let (one, two) = (side(1, &peers), side(2, &peers));
    let (to, _stop) = serving(&two);
    let mut stream = dialled(&one, to, line::PROTOCOL).await;
    for kind in [line::PING, 4_000] {
        let ask = Ask { call: 7, kind, within_ms: 1_000, body: Bytes::new() };
        let bytes = [&u32::try_from(ask.encoded_len()).unwrap().to_be_bytes()[..], &ask.encode_to_vec()].concat();
        stream.write_all(&bytes).await.unwrap();
        let mut reply = vec![0; stream.read_u32().await.unwrap() as usize];
        stream.read_exact(&mut reply).await.unwrap();
        let reply = Reply::decode(&reply[..]).unwrap();
        assert_eq!(reply.call, 7);
        match reply.result.unwrap() {
            WireResult::Body(body) => assert!(kind == line::PING && body.is_empty()),
            WireResult::Refused(why) => assert_eq!((kind, &why[..]), (4_000, "no such kind of frame in this release")),
        }
    }
}

#[tokio::test]
async fn pings_come_back_empty() {
    use tokio::io::AsyncWriteExt;
    let peers = Authority::new();
    let (one, two) = (side(1, &peers), side(2, &peers));
    let (to, _stop) = serving(&two);
    let mut stream = dialled(&one, to, line::PROTOCOL).await;
    let ask = Ask { call: 1, kind: line::PING, within_ms: 0, body: vec![7; 1 << 20].into() };
    let bytes = [&u32::try_from(ask.encoded_len()).unwrap().to_be_bytes()[..], &ask.encode_to_vec()].concat();
    for _ in 0..8 {
        stream.write_all(&bytes).await.unwrap();
    }
    let mut answers = Vec::new();
    while answers.len() < 8 * 8 {
        use tokio::io::AsyncReadExt;
        assert!(stream.read_buf(&mut answers).await.unwrap() > 0);
    }
    assert!(answers.len() < 1_024, "{} bytes for eight pings", answers.len());
}
