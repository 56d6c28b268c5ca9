//! One connection to one node: dialled when needed, kept while it works, thrown away when it breaks.

use crate::config::Endpoint;
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use std::{fmt, future, io, sync::Arc, sync::Mutex as SyncMutex, time::Duration};
use tokio::{net::TcpStream, sync::Mutex, time::timeout};
use tokio_rustls::{TlsConnector, client::TlsStream};
use tonic::transport::Channel;
use tower::service_fn;

/// Name in the TLS handshake where the address is no name that TLS knows. Nodes are known by their URI.
const SERVER_NAME: &str = "claviger.invalid";
/// How often an idle connection is probed, and how long the answer may take, in milliseconds.
const KEEP_ALIVE_MS: u64 = 10_000;
const KEEP_ALIVE_ANSWER_MS: u64 = 5_000;

/// Why there is no connection to a node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ConnectFailed {
    /// Nobody answers at the address.
    Unreachable(String),
    /// Somebody answers, but the handshake failed: not a node of ours, or it does not believe our certificate.
    Handshake(String),
    /// It took longer than a connection may.
    Late,
}

impl fmt::Display for ConnectFailed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ConnectFailed::Unreachable(why) => write!(f, "cannot be reached: {why}"),
            ConnectFailed::Handshake(why) => write!(f, "the TLS handshake failed: {why}"),
            ConnectFailed::Late => f.write_str("no connection in time"),
        }
    }
}

impl std::error::Error for ConnectFailed {}

/// One node, as a client sees it.
pub(crate) struct Line {
    pub(crate) endpoint: Endpoint,
    /// The connection that works, with its number. One caller dials; the others wait for what comes of it.
    current: Mutex<Option<(u64, Channel)>>,
}

/// A connection that was handed out: its number tells whether it is still the current one.
pub(crate) struct Borrowed {
    number: u64,
    pub(crate) channel: Channel,
}

impl Line {
    pub(crate) fn new(endpoint: Endpoint) -> Self {
        Line { endpoint, current: Mutex::new(None) }
    }

    /// The connection, dialled if there is none.
    pub(crate) async fn open(
        &self,
        tls: &Arc<rustls::ClientConfig>,
        limit: Duration,
    ) -> Result<Borrowed, ConnectFailed> {
        let mut current = self.current.lock().await;
        if let Some((number, channel)) = &*current {
            return Ok(Borrowed { number: *number, channel: channel.clone() });
        }
        let dialled = timeout(limit, dial(&self.endpoint, tls.clone())).await;
        let channel = dialled.map_err(|_| ConnectFailed::Late)??;
        let number = next_number();
        *current = Some((number, channel.clone()));
        Ok(Borrowed { number, channel })
    }

    /// A connection that nobody else has used.
    pub(crate) async fn open_anew(
        &self,
        tls: &Arc<rustls::ClientConfig>,
        limit: Duration,
    ) -> Result<Borrowed, ConnectFailed> {
        let dialled = timeout(limit, dial(&self.endpoint, tls.clone())).await;
        Ok(Borrowed { number: next_number(), channel: dialled.map_err(|_| ConnectFailed::Late)?? })
    }

    /// Forgets a connection that broke, unless somebody has replaced it by now.
    pub(crate) async fn discard(&self, broken: &Borrowed) {
        let mut current = self.current.lock().await;
        if current.as_ref().is_some_and(|(number, _)| *number == broken.number) {
            *current = None;
        }
    }
}

fn next_number() -> u64 {
    use std::sync::atomic::{AtomicU64, Ordering};
    static NEXT: AtomicU64 = AtomicU64::new(1);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

/// TCP, TLS and HTTP/2. The stream is made first, so that its failures keep their types, and tonic gets it ready-made: a
/// channel that broke is not mended behind our back.
async fn dial(endpoint: &Endpoint, tls: Arc<rustls::ClientConfig>) -> Result<Channel, ConnectFailed> {
    let stream = handshake(endpoint, tls).await?;
    let slot = Arc::new(SyncMutex::new(Some(TokioIo::new(stream))));
    let connector = service_fn(move |_| future::ready(take(&slot)));
    target(endpoint)?
        .connect_with_connector(connector)
        .await
        .map_err(|_| ConnectFailed::Handshake("the node does not speak HTTP/2".into()))
}

fn take<T>(slot: &SyncMutex<Option<T>>) -> Result<T, io::Error> {
    let stream = slot.lock().map_err(|_| io::ErrorKind::BrokenPipe)?.take();
    stream.ok_or_else(|| io::ErrorKind::NotConnected.into())
}

async fn handshake(endpoint: &Endpoint, tls: Arc<rustls::ClientConfig>) -> Result<TlsStream<TcpStream>, ConnectFailed> {
    let unreachable = |e: io::Error| ConnectFailed::Unreachable(e.to_string());
    let tcp = TcpStream::connect(endpoint.authority()).await.map_err(unreachable)?;
    tcp.set_nodelay(true).map_err(unreachable)?;
    let name = server_name(endpoint.authority());
    let stream = TlsConnector::from(tls).connect(name, tcp).await.map_err(|e| ConnectFailed::Handshake(told(&e)))?;
    if stream.get_ref().1.alpn_protocol() != Some(b"h2") {
        return Err(ConnectFailed::Handshake("the other side does not speak HTTP/2".into()));
    }
    Ok(stream)
}

/// What rustls says, in words that an operator understands.
fn told(failure: &io::Error) -> String {
    let cause = failure.get_ref().and_then(|e| e.downcast_ref::<rustls::Error>());
    let Some(rustls::Error::InvalidCertificate(why)) = cause else { return failure.to_string() };
    match why {
        rustls::CertificateError::Other(refusal) => refusal.0.to_string(),
        rustls::CertificateError::UnknownIssuer | rustls::CertificateError::BadSignature => {
            "its certificate is not from the configured CA".into()
        }
        rustls::CertificateError::Expired | rustls::CertificateError::ExpiredContext { .. } => {
            "its certificate has expired".into()
        }
        other => format!("its certificate is refused: {other}"),
    }
}

fn server_name(authority: &str) -> ServerName<'static> {
    let host = authority.rsplit_once(':').map_or(authority, |(host, _)| host);
    let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
    ServerName::try_from(host).unwrap_or_else(|_| ServerName::try_from(SERVER_NAME).expect("a name that TLS knows"))
}

fn target(endpoint: &Endpoint) -> Result<tonic::transport::Endpoint, ConnectFailed> {
    let bad = |_| ConnectFailed::Unreachable("the address makes no URI".into());
    let origin = format!("https://{}", endpoint.authority()).parse().map_err(bad)?;
    // The scheme is plain for tonic alone: its own TLS must not be laid over ours.
    let target = tonic::transport::Endpoint::from_shared(format!("http://{}", endpoint.authority()));
    let target = target.map_err(|_| ConnectFailed::Unreachable("the address makes no URI".into()))?;
    Ok(target
        .origin(origin)
        .http2_keep_alive_interval(Duration::from_millis(KEEP_ALIVE_MS))
        .keep_alive_timeout(Duration::from_millis(KEEP_ALIVE_ANSWER_MS))
        .keep_alive_while_idle(true))
}
