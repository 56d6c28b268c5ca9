//! The way to other nodes: one connection to each address, dialled when it is needed, and tied to the certificate that
//! it was opened with, so that every answer comes with the identity that really gave it.

use crate::tls::{Facts, LiveTls, peer_certificate};
use claviger_core::time::UnixMs;
use claviger_proto::peer::v1::{Frame as WireFrame, peer_client::PeerClient, reply::Result as WireResult};
use claviger_world::{
    clock::Clock,
    disk::BoxFuture,
    network::{Answer, CallFailed, FRAME_BYTES_MAX, Frame, Network, PEER_CALL_MS_MAX, PeerCertificate},
};
use futures_util::future::{FutureExt, Shared};
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use rustls_pki_types::ServerName;
use std::{
    collections::BTreeMap,
    io,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll},
    time::{Duration, Instant},
};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tonic::{Code, Status, codegen::http::Uri};

/// TCP, TLS and HTTP/2 together, in milliseconds.
const CONNECT_MS_MAX: u64 = 2_000;
/// After a failure nobody dials the address again for so long, in milliseconds.
const REDIAL_PAUSE_MS: u64 = 50;
/// Addresses remembered; more than a cluster has, so that only a mistake ever fills it.
const LINES_MAX: usize = 256;
/// A protobuf frame is its body and little more, in bytes.
pub const MESSAGE_BYTES_MAX: usize = FRAME_BYTES_MAX + 1_024;
/// A silent connection is asked after so long, and dropped when it does not answer, in milliseconds.
const KEEP_ALIVE_MS: u64 = 5_000;
const KEEP_ALIVE_ANSWER_MS_MAX: u64 = 3_000;

/// Peers over mutual TLS.
pub struct PeerNetwork(Arc<Lines>);

struct Lines {
    tls: Arc<LiveTls>,
    clock: Arc<dyn Clock>,
    /// The last dialling of each address, under way or done.
    dials: Mutex<BTreeMap<String, Dial>>,
}

type Dial = Shared<BoxFuture<'static, Result<Wire, Failed>>>;

/// When a dialling failed.
#[derive(Clone, Copy)]
struct Failed(Instant);

impl PeerNetwork {
    /// Shows and believes what `tls` holds at the time of each dialling.
    pub fn new(tls: Arc<LiveTls>, clock: Arc<dyn Clock>) -> Self {
        PeerNetwork(Arc::new(Lines { tls, clock, dials: Mutex::default() }))
    }
}

impl Network for PeerNetwork {
    fn call(&self, to: &str, frame: Frame, deadline: Duration) -> BoxFuture<'static, Result<Answer, CallFailed>> {
        let (lines, to) = (self.0.clone(), to.to_owned());
        let deadline = deadline.min(Duration::from_millis(PEER_CALL_MS_MAX));
        Box::pin(async move {
            let call = async {
                let wire = lines.wire(&to)?.await.map_err(|_| CallFailed::Unreachable)?;
                wire.ask(frame, deadline).await
            };
            tokio::time::timeout(deadline, call).await.unwrap_or(Err(CallFailed::Late))
        })
    }
}

impl Lines {
    /// The connection to an address: the one that stands, the one that is being made, or a new one.
    fn wire(self: &Arc<Self>, to: &str) -> Result<Dial, CallFailed> {
        let mut dials = self.dials.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(last) = dials.get(to) {
            match last.peek() {
                None => return Ok(last.clone()),
                Some(Ok(wire)) if wire.stands(self.clock.now()) => return Ok(last.clone()),
                Some(Err(failed)) if failed.0.elapsed() < Duration::from_millis(REDIAL_PAUSE_MS) => {
                    return Err(CallFailed::Unreachable);
                }
                Some(Ok(_) | Err(_)) => {}
            }
        }
        if dials.len() >= LINES_MAX && !dials.contains_key(to) {
            dials.clear();
        }
        let dial = self.clone().dial(to.to_owned());
        dials.insert(to.to_owned(), dial.clone());
        Ok(dial)
    }

    /// Dials in a task of its own: a call with a short deadline does not break it off for those with a longer one.
    fn dial(self: Arc<Self>, to: String) -> Dial {
        let task = tokio::spawn(async move {
            let limit = Duration::from_millis(CONNECT_MS_MAX);
            let connected = tokio::time::timeout(limit, self.connect(&to)).await;
            connected.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into())).map_err(|e| {
                tracing::debug!(peer = to, error = %e, "a peer cannot be reached");
                Failed(Instant::now())
            })
        });
        async move { task.await.unwrap_or_else(|_| Err(Failed(Instant::now()))) }.boxed().shared()
    }

    async fn connect(&self, to: &str) -> io::Result<Wire> {
        let credentials = self.tls.now();
        let stream = TcpStream::connect(to).await?;
        stream.set_nodelay(true)?;
        // An address instead of a name: nothing is asked of it, and nothing sent.
        let name = ServerName::from(stream.peer_addr()?.ip());
        let stream = TlsConnector::from(credentials.dial.clone()).connect(name, stream).await?;
        let leaf = stream.get_ref().1.peer_certificates().and_then(<[_]>::first);
        let leaf = leaf.ok_or_else(|| io::Error::other("the peer showed no certificate"))?;
        let from = peer_certificate(leaf, &credentials.domain).map_err(io::Error::other)?;
        let expires_at = Facts::of(leaf).map_or(UnixMs(0), |f| f.expires_at);
        let (sender, connection) = http2::Builder::new(TokioExecutor::new())
            .timer(TokioTimer::new())
            .initial_stream_window_size(MESSAGE_BYTES_MAX as u32)
            .initial_connection_window_size(4 * MESSAGE_BYTES_MAX as u32)
            .keep_alive_interval(Duration::from_millis(KEEP_ALIVE_MS))
            .keep_alive_timeout(Duration::from_millis(KEEP_ALIVE_ANSWER_MS_MAX))
            .keep_alive_while_idle(true)
            .handshake(TokioIo::new(stream))
            .await
            .map_err(io::Error::other)?;
        // Ends with the connection; what broke it, each call is told.
        tokio::spawn(connection);
        Ok(Wire { sender, from, expires_at })
    }
}

/// One connection with the certificate that it was proven by.
#[derive(Clone)]
struct Wire {
    sender: http2::SendRequest<tonic::body::Body>,
    from: PeerCertificate,
    expires_at: UnixMs,
}

impl Wire {
    fn stands(&self, now: UnixMs) -> bool {
        !self.sender.is_closed() && now <= self.expires_at
    }

    async fn ask(self, frame: Frame, deadline: Duration) -> Result<Answer, CallFailed> {
        if frame.body.len() > FRAME_BYTES_MAX {
            return Err(CallFailed::Refused("the frame is over its bound".into()));
        }
        let from = self.from;
        let mut client = PeerClient::with_origin(self, Uri::from_static("https://peer.claviger"))
            .max_decoding_message_size(MESSAGE_BYTES_MAX)
            .max_encoding_message_size(MESSAGE_BYTES_MAX);
        let mut request = tonic::Request::new(WireFrame { kind: frame.kind as u32, body: frame.body });
        request.set_timeout(deadline);
        match client.call(request).await.map_err(|e| failed(&e))?.into_inner().result {
            Some(WireResult::Body(body)) => Ok(Answer { from, body }),
            Some(WireResult::Refused(why)) => Err(CallFailed::Refused(why)),
            None => Err(CallFailed::Refused("the answer cannot be read".into())),
        }
    }
}

impl tower::Service<crate::listen::Request> for Wire {
    type Response = tonic::codegen::http::Response<hyper::body::Incoming>;
    type Error = hyper::Error;
    type Future = BoxFuture<'static, Result<Self::Response, hyper::Error>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), hyper::Error>> {
        self.sender.poll_ready(cx)
    }

    fn call(&mut self, request: crate::listen::Request) -> Self::Future {
        Box::pin(self.sender.send_request(request))
    }
}

fn failed(status: &Status) -> CallFailed {
    match status.code() {
        Code::DeadlineExceeded | Code::Cancelled => CallFailed::Late,
        Code::Unavailable | Code::Unknown | Code::Internal => CallFailed::Unreachable,
        _ => CallFailed::Refused(status.message().to_owned()),
    }
}

#[cfg(test)]
#[path = "network_tests.rs"]
mod tests;
