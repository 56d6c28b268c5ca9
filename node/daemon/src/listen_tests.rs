//! Floods, silence and strangers at a real listener on loopback.

use super::*;
use crate::{
    clock::MachineClock,
    tls::{
        LiveTls,
        forge::{Authority, Issued, Wish, node_folder},
    },
};
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;
use tempfile::TempDir;
use tokio_rustls::TlsConnector;

/// Answers with the caller's certificate, as the connection told it.
#[derive(Clone)]
struct Mirror;

impl tonic::server::NamedService for Mirror {
    const NAME: &'static str = "claviger.test.Mirror";
}

impl tower::Service<Request> for Mirror {
    type Response = Response;
    type Error = std::convert::Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response, Self::Error>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request) -> Self::Future {
        let mut grpc = tonic::server::Grpc::new(tonic_prost::ProstCodec::<Bytes, Vec<u8>>::default());
        Box::pin(async move { Ok(grpc.unary(Mirrored, request).await) })
    }
}

struct Mirrored;

impl tonic::server::UnaryService<Vec<u8>> for Mirrored {
    type Response = Bytes;
    type Future = std::future::Ready<Result<tonic::Response<Bytes>, tonic::Status>>;

    fn call(&mut self, request: tonic::Request<Vec<u8>>) -> Self::Future {
        let leaf = request.extensions().get::<Bytes>().expect("the door admits only with a leaf").clone();
        std::future::ready(Ok(tonic::Response::new(leaf)))
    }
}

struct House {
    address: SocketAddr,
    callers: Authority,
    stop: watch::Sender<bool>,
    traffic: Traffic,
    _folder: TempDir,
}

fn house(handshakes: usize, connections: usize) -> House {
    let folder = tempfile::tempdir().unwrap();
    let callers = Authority::new();
    let config = node_folder(folder.path(), 1, &callers, &Authority::new());
    let tls = LiveTls::load(&config, Arc::new(MachineClock)).unwrap();
    let listener = bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let address = listener.local_addr().unwrap();
    let limits = Limits { handshakes, connections, ..config.limits };
    let (clock, traffic) = (Arc::new(MachineClock), Traffic::default());
    let door = Door {
        tls: Box::new(move || tls.clients()),
        protocol: HTTP2,
        admit: Box::new(Some),
        stays: Box::new(|_| true),
        more_follows: Box::new(|| false),
        clock,
        limits,
        traffic: traffic.clone(),
    };
    let (stop, stopped) = watch::channel(false);
    let routes = Routes::new(Mirror);
    tokio::spawn(serve(listener, door, routes, InFlight::new(64, traffic.clone()), stopped));
    House { address, callers, stop, traffic, _folder: folder }
}

impl House {
    /// Waits for what the listener's tasks count when they get to it.
    async fn comes_to(&self, counted: impl Fn(&Traffic) -> bool) {
        let counting = async {
            while !counted(&self.traffic) {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(5), counting).await.expect("it is counted");
    }

    fn caller(&self) -> Issued {
        let uris = &["spiffe://acme.example/claviger/service/app"];
        self.callers.issue(&Wish { uris, ed25519: false, expired: false })
    }

    /// Connects with a certificate and asks once; whatever goes wrong is nothing.
    async fn ask(
        &self,
        shown: Option<&Issued>,
        versions: &[&'static rustls::SupportedProtocolVersion],
    ) -> Option<Bytes> {
        let (mut client, _) = self.connect(shown, versions).await?;
        asked(&mut client).await
    }

    async fn connect(
        &self,
        shown: Option<&Issued>,
        versions: &[&'static rustls::SupportedProtocolVersion],
    ) -> Option<(Client, tokio::task::JoinHandle<()>)> {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(self.callers.pem.as_bytes()).unwrap()).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = ClientConfig::builder_with_provider(provider).with_protocol_versions(versions).unwrap();
        let builder = builder.with_root_certificates(roots);
        let mut tls = match shown {
            Some(shown) => {
                let key = PrivateKeyDer::from_pem_slice(shown.key.as_bytes()).unwrap();
                builder.with_client_auth_cert(vec![shown.der.clone().into()], key).unwrap()
            }
            None => builder.with_no_client_auth(),
        };
        tls.alpn_protocols = vec![b"h2".to_vec()];
        let stream = TcpStream::connect(self.address).await.ok()?;
        let name = ServerName::try_from("localhost").unwrap();
        let stream = TlsConnector::from(Arc::new(tls)).connect(name, stream).await.ok()?;
        let executor = hyper_util::rt::TokioExecutor::new();
        let io = hyper_util::rt::TokioIo::new(stream);
        let (sender, connection) = hyper::client::conn::http2::handshake(executor, io).await.ok()?;
        let running = tokio::spawn(async move { _ = connection.await });
        let origin = "https://localhost".parse().unwrap();
        Some((tonic::client::Grpc::with_origin(Sender(sender), origin), running))
    }
}

async fn asked(client: &mut Client) -> Option<Bytes> {
    client.ready().await.ok()?;
    let path = tonic::codegen::http::uri::PathAndQuery::from_static("/claviger.test.Mirror/Look");
    let codec = tonic_prost::ProstCodec::<Vec<u8>, Bytes>::default();
    Some(client.unary(tonic::Request::new(Vec::new()), path, codec).await.ok()?.into_inner())
}

type Client = tonic::client::Grpc<Sender>;

struct Sender(hyper::client::conn::http2::SendRequest<tonic::body::Body>);

impl tower::Service<Request> for Sender {
    type Response = tonic::codegen::http::Response<hyper::body::Incoming>;
    type Error = hyper::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, hyper::Error>> + Send>>;
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), hyper::Error>> {
        self.0.poll_ready(cx)
    }
    fn call(&mut self, request: Request) -> Self::Future {
        Box::pin(self.0.send_request(request))
    }
}

const TLS13: &[&rustls::SupportedProtocolVersion] = &[&rustls::version::TLS13];
const TLS12: &[&rustls::SupportedProtocolVersion] = &[&rustls::version::TLS12];

#[tokio::test]
async fn a_good_caller_is_answered_within_two_seconds_among_4000_half_open_connections() {
    let files = rustix::process::getrlimit(rustix::process::Resource::Nofile);
    let all = rustix::process::Rlimit { current: files.maximum, maximum: files.maximum };
    rustix::process::setrlimit(rustix::process::Resource::Nofile, all).unwrap();
    let house = house(1_024, 4_096);
    let caller = house.caller();
    let mut half_open = Vec::new();
    for n in 0..4_000 {
        half_open.push(TcpStream::connect(house.address).await.unwrap());
        if n % 1_000 == 999 {
            let begun = Instant::now();
            let told = house.ask(Some(&caller), TLS13).await;
            assert_eq!(told.as_deref(), Some(&caller.der[..]), "after {n}");
            assert!(begun.elapsed() < Duration::from_secs(2), "after {n}: {:?}", begun.elapsed());
        }
    }
}

#[tokio::test]
async fn refuses_strangers_and_answers_the_next_good_caller() {
    let house = house(16, 16);
    let caller = house.caller();
    let foreign = Authority::new().issue(&Wish { uris: &[], ed25519: true, expired: false });
    let expired = house.callers.issue(&Wish { uris: &[], ed25519: true, expired: true });
    assert_eq!(house.ask(None, TLS13).await, None, "no certificate");
    assert_eq!(house.ask(Some(&foreign), TLS13).await, None, "a foreign authority");
    assert_eq!(house.ask(Some(&expired), TLS13).await, None, "expired");
    assert_eq!(house.ask(Some(&caller), TLS12).await, None, "TLS 1.2");
    let told = house.ask(Some(&caller), TLS13).await;
    assert_eq!(told.as_deref(), Some(&caller.der[..]));
    house.comes_to(|t| (t.handshakes_failed.get(), t.connections_refused.get()) == (4, 0)).await;
}

#[tokio::test]
async fn refuses_connections_over_the_limit_and_gives_places_free() {
    let house = house(16, 2);
    let (caller, other) = (house.caller(), house.caller());
    let mut first = house.connect(Some(&caller), TLS13).await.unwrap();
    assert_eq!(house.ask(Some(&caller), TLS13).await, None, "the other half is for other certificates");
    let mut second = house.connect(Some(&other), TLS13).await.unwrap();
    assert!(asked(&mut first.0).await.is_some() && asked(&mut second.0).await.is_some());
    assert_eq!(house.ask(Some(&caller), TLS13).await, None);
    assert!(asked(&mut first.0).await.is_some(), "those within stay");
    house.comes_to(|t| (t.connections.get(), t.connections_refused.get()) == (2, 2)).await;
    drop(first);
    house.comes_to(|t| t.connections.get() == 1).await;
    let again = async {
        while house.ask(Some(&caller), TLS13).await.is_none() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(5), again).await.expect("the place is free again");
}

#[tokio::test]
async fn a_handshake_that_stands_still_is_dropped() {
    let house = house(16, 16);
    tokio::time::pause();
    let mut silent = TcpStream::connect(house.address).await.unwrap();
    // Paused time runs on by itself while everybody waits: to the handshake's deadline, and no further.
    let begun = tokio::time::Instant::now();
    let end = tokio::io::AsyncReadExt::read(&mut silent, &mut [0; 1]).await;
    assert!(matches!(end, Ok(0) | Err(_)));
    assert!(begun.elapsed() <= Duration::from_millis(HANDSHAKE_MS_MAX + 1_000), "{:?}", begun.elapsed());
}

#[tokio::test]
async fn the_oldest_handshake_gives_way() {
    let house = house(2, 16);
    let mut oldest = TcpStream::connect(house.address).await.unwrap();
    let _others = [TcpStream::connect(house.address).await.unwrap(), TcpStream::connect(house.address).await.unwrap()];
    let mut nothing = [0; 1];
    let end = tokio::time::timeout(Duration::from_secs(2), tokio::io::AsyncReadExt::read(&mut oldest, &mut nothing));
    assert!(matches!(end.await.expect("dropped long before its deadline"), Ok(0) | Err(_)));
    house.comes_to(|t| t.handshakes_failed.get() == 1).await;
}

/// A clock that a test sets.
struct Set(std::sync::atomic::AtomicU64);

impl Clock for Set {
    fn now(&self) -> UnixMs {
        UnixMs(self.0.load(std::sync::atomic::Ordering::SeqCst))
    }
    fn awake_and_asleep(&self) -> Duration {
        Duration::ZERO
    }
}

#[tokio::test]
async fn refuses_a_connection_whose_certificate_has_expired_since() {
    let folder = tempfile::tempdir().unwrap();
    let callers = Authority::new();
    let config = node_folder(folder.path(), 1, &callers, &Authority::new());
    let tls = LiveTls::load(&config, Arc::new(MachineClock)).unwrap();
    let listener = bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let address = listener.local_addr().unwrap();
    let clock = Arc::new(Set(MachineClock.now().0.into()));
    let limits = config.limits;
    let door = Door {
        tls: Box::new(move || tls.clients()),
        protocol: HTTP2,
        admit: Box::new(Some),
        stays: Box::new(|_| true),
        more_follows: Box::new(|| false),
        clock: clock.clone(),
        limits,
        traffic: Traffic::default(),
    };
    let (stop, stopped) = watch::channel(false);
    let routes = Routes::new(Mirror);
    tokio::spawn(serve(listener, door, routes, InFlight::new(64, Traffic::default()), stopped));
    let house = House { address, callers, stop, traffic: Traffic::default(), _folder: folder };
    let caller = house.caller();
    let (mut client, _running) = house.connect(Some(&caller), TLS13).await.unwrap();
    assert!(asked(&mut client).await.is_some());
    clock.0.store(u64::MAX, std::sync::atomic::Ordering::SeqCst);
    assert_eq!(asked(&mut client).await, None);
}

#[tokio::test]
async fn the_connection_of_who_has_left_is_closed_when_they_were_told() {
    let folder = tempfile::tempdir().unwrap();
    let callers = Authority::new();
    let config = node_folder(folder.path(), 1, &callers, &Authority::new());
    let tls = LiveTls::load(&config, Arc::new(MachineClock)).unwrap();
    let listener = bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let address = listener.local_addr().unwrap();
    let member = Arc::new(AtomicBool::new(true));
    let still = member.clone();
    let door = Door {
        tls: Box::new(move || tls.clients()),
        protocol: HTTP2,
        admit: Box::new(Some),
        stays: Box::new(move |_| still.load(Ordering::SeqCst)),
        more_follows: Box::new(|| false),
        clock: Arc::new(MachineClock),
        limits: config.limits,
        traffic: Traffic::default(),
    };
    let (stop, stopped) = watch::channel(false);
    let routes = Routes::new(Mirror);
    tokio::spawn(serve(listener, door, routes, InFlight::new(64, Traffic::default()), stopped));
    let house = House { address, callers, stop, traffic: Traffic::default(), _folder: folder };
    let caller = house.caller();
    let (mut client, _running) = house.connect(Some(&caller), TLS13).await.unwrap();
    assert!(asked(&mut client).await.is_some());
    member.store(false, Ordering::SeqCst);
    assert!(asked(&mut client).await.is_some(), "long enough to be told why");
    tokio::time::pause();
    tokio::time::advance(Duration::from_millis(PARTING_MS + 1)).await;
    tokio::time::resume();
    assert_eq!(asked(&mut client).await, None);
}

#[tokio::test]
async fn a_stop_ends_the_listener() {
    let house = house(16, 16);
    let caller = house.caller();
    assert!(house.ask(Some(&caller), TLS13).await.is_some());
    house.stop.send(true).unwrap();
    let gone = async { while house.ask(Some(&caller), TLS13).await.is_some() {} };
    tokio::time::timeout(Duration::from_secs(5), gone).await.unwrap();
}
