//! Our own accept loop: strangers get a bounded number of short handshakes, and only who has proven a certificate is
//! handed to gRPC. When the handshakes are full the oldest gives way, so that a flood of half-open connections cannot
//! keep a good one out: it has aged less than they have.

use crate::{
    by_age::ByAge,
    config::Limits,
    hold::Hold,
    in_flight::InFlight,
    places::{Place, Places},
    tls::Facts,
    traffic::{Held, Traffic},
};
use bytes::Bytes;
use claviger_core::time::UnixMs;
use claviger_world::clock::Clock;
use rustls::ServerConfig;
use std::{
    io,
    net::SocketAddr,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpListener, TcpSocket, TcpStream},
    sync::{mpsc, watch},
    task::JoinHandle,
    time::Instant,
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};
use tokio_stream::{StreamExt, wrappers::ReceiverStream};
use tonic::{
    service::Routes,
    transport::{Server, server::Connected},
};

/// How long a connection lives whose bearer may not stay, in milliseconds.
const PARTING_MS: u64 = 5_000;
/// Longest TLS handshake, in milliseconds.
pub const HANDSHAKE_MS_MAX: u64 = 5_000;
/// Connections that the system holds for us before we accept them.
const BACKLOG: u32 = 4_096;
/// Proven connections that wait for gRPC to take them.
const GUESTS_WAITING_MAX: usize = 64;
/// Pause when the system has no more files for us, in milliseconds: there is no event that tells when it has.
const NO_FILES_PAUSE_MS: u64 = 10;
/// The application protocol of callers.
pub const HTTP2: &[u8] = b"h2";
/// HTTP/2 windows, in bytes: of one stream, of a connection.
const STREAM_WINDOW_BYTES: u32 = 1 << 20;
const CONNECTION_WINDOW_BYTES: u32 = 4 << 20;
/// All headers of one request, in bytes.
const HEADERS_BYTES_MAX: u32 = 16 << 10;
/// A connection that says nothing is asked after so long, and dropped when it does not answer.
const KEEP_ALIVE_MS: u64 = 20_000;
const KEEP_ALIVE_ANSWER_MS_MAX: u64 = 10_000;

/// Says when to stop: true from then on.
pub type Stop = watch::Receiver<bool>;

/// Completes when it is time to stop, or nobody is left who could say so.
pub async fn stopped(mut stop: Stop) {
    // An error means that the sender is gone: that is a stop too.
    let _ = stop.wait_for(|s| *s).await;
}

/// What a door needs: which certificate to show now, and what gRPC is told of a proven leaf certificate.
pub struct Door<I> {
    /// The TLS configuration for the next connection.
    pub tls: Box<dyn Fn() -> Arc<ServerConfig> + Send + Sync>,
    /// The application protocol that TLS must have agreed on.
    pub protocol: &'static [u8],
    /// What handlers find in a request's extensions, from the leaf in DER; nothing refuses the connection.
    pub admit: Box<dyn Fn(Bytes) -> Option<I> + Send + Sync>,
    /// Whether whoever is there may stay. A connection whose bearer may not is closed, but for its first moments: long
    /// enough to be told why.
    pub stays: Box<dyn Fn(&I) -> bool + Send + Sync>,
    /// Whether more is about to be written, by those who wait for nothing else: what is small is written with it.
    pub more_follows: Box<dyn Fn() -> bool + Send + Sync>,
    /// For the end of a certificate.
    pub clock: Arc<dyn Clock>,
    /// Handshakes and connections.
    pub limits: Limits,
    /// Where they are counted.
    pub traffic: Traffic,
}

/// Binds an address, with a backlog that a flood does not fill at once.
///
/// # Errors
/// Names the address.
pub fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    let bound = || {
        let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
        socket.set_reuseaddr(true)?;
        socket.bind(address)?;
        socket.listen(BACKLOG)
    };
    bound().map_err(|e: io::Error| io::Error::new(e.kind(), format!("cannot listen on {address}: {e}")))
}

/// Serves `routes` on `listener` until `stop`; then lets requests under way finish.
///
/// # Errors
/// Those of the gRPC server, which has none once it runs.
pub async fn serve<I>(
    listener: TcpListener,
    door: Door<I>,
    routes: Routes,
    bound: InFlight,
    stop: Stop,
) -> Result<(), tonic::transport::Error>
where
    I: Clone + Send + Sync + Unpin + 'static,
{
    let streams = door.limits.streams_per_connection;
    let (come, accepting) = admitted(listener, door, stop.clone());
    let incoming = ReceiverStream::new(come).map(Ok::<_, io::Error>);
    let served = Server::builder()
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .max_concurrent_streams(streams)
        .http2_max_header_list_size(HEADERS_BYTES_MAX)
        .http2_keepalive_interval(Some(Duration::from_millis(KEEP_ALIVE_MS)))
        .http2_keepalive_timeout(Some(Duration::from_millis(KEEP_ALIVE_ANSWER_MS_MAX)))
        .layer(bound)
        .add_routes(routes)
        .serve_with_incoming_shutdown(incoming, stopped(stop))
        .await;
    accepting.abort();
    served
}

/// Accepts until `stop`: those whose certificates are proven, and the task to end.
pub fn admitted<I: Send + 'static>(
    listener: TcpListener,
    door: Door<I>,
    stop: Stop,
) -> (mpsc::Receiver<Guest<I>>, JoinHandle<()>) {
    let (guests, come) = mpsc::channel(GUESTS_WAITING_MAX);
    (come, tokio::spawn(accept(listener, Arc::new(door), guests, stop)))
}

/// A gRPC request.
pub type Request = tonic::codegen::http::Request<tonic::body::Body>;
/// A gRPC answer.
pub type Response = tonic::codegen::http::Response<tonic::body::Body>;

async fn accept<I: Send + 'static>(
    listener: TcpListener,
    door: Arc<Door<I>>,
    guests: mpsc::Sender<Guest<I>>,
    stop: Stop,
) {
    let places = Places::new(door.limits.connections);
    let mut handshakes = ByAge::default();
    let mut stopped = std::pin::pin!(stopped(stop));
    loop {
        tokio::select! {
            biased;
            () = &mut stopped => return,
            () = handshakes.ended() => {}
            next = listener.accept() => match next {
                Ok((stream, _)) => {
                    let work = receive(stream, door.clone(), places.clone(), guests.clone());
                    handshakes.begin(door.limits.handshakes, work);
                }
                Err(e) if of_one_connection(&e) => {}
                Err(e) => {
                    tracing::warn!(error = %e, "cannot accept connections; dropping the oldest handshake");
                    handshakes.drop_oldest();
                    tokio::time::sleep(Duration::from_millis(NO_FILES_PAUSE_MS)).await;
                }
            },
        }
    }
}

/// Whether accepting failed for the connection and not for us.
fn of_one_connection(e: &io::Error) -> bool {
    matches!(e.kind(), io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset | io::ErrorKind::Interrupted)
}

/// From the open socket to a guest. What a stranger does wrong ends its connection and makes no noise.
async fn receive<I>(stream: TcpStream, door: Arc<Door<I>>, places: Arc<Places>, guests: mpsc::Sender<Guest<I>>) {
    let (limit, handshake) = (Duration::from_millis(HANDSHAKE_MS_MAX), door.traffic.handshake());
    let Ok(Ok(stream)) = tokio::time::timeout(limit, shake(stream, (door.tls)())).await else { return };
    if stream.get_ref().1.alpn_protocol() != Some(door.protocol) {
        return;
    }
    let Some((leaf, facts)) = proven(&stream) else { return };
    let place = match places.take(facts.key) {
        Ok(place) => place,
        Err(full) => {
            handshake.done();
            door.traffic.connections_refused.inc();
            tracing::warn!("a connection was refused: {}", full.told());
            return;
        }
    };
    if let Some(guest) = Guest::new(stream, door, place, leaf, facts.expires_at) {
        handshake.done();
        // gRPC that has stopped takes no guests.
        let _ = guests.send(guest).await;
    }
}

/// The leaf certificate that the handshake has proven, in DER, and what it says.
fn proven(stream: &TlsStream<TcpStream>) -> Option<(Bytes, Facts)> {
    let leaf = Bytes::copy_from_slice(stream.get_ref().1.peer_certificates()?.first()?);
    let facts = Facts::of(&leaf)?;
    Some((leaf, facts))
}

async fn shake(stream: TcpStream, tls: Arc<ServerConfig>) -> io::Result<TlsStream<TcpStream>> {
    stream.set_nodelay(true)?;
    TlsAcceptor::from(tls).accept(stream).await
}

/// A connection whose certificate is proven. It ends with its certificate, and gives its place free when dropped.
pub struct Guest<I> {
    stream: TlsStream<TcpStream>,
    hold: Hold,
    info: I,
    expires_at: UnixMs,
    since: Instant,
    door: Arc<Door<I>>,
    _place: Place,
    _counted: Held,
}

impl<I> Guest<I> {
    fn new(
        stream: TlsStream<TcpStream>,
        door: Arc<Door<I>>,
        place: Place,
        leaf: Bytes,
        expires_at: UnixMs,
    ) -> Option<Guest<I>> {
        let info = (door.admit)(leaf)?;
        let counted = Held::new(&door.traffic.connections);
        let since = Instant::now();
        Some(Guest { stream, hold: Hold::default(), info, expires_at, since, door, _place: place, _counted: counted })
    }

    /// What is known of whoever is there.
    pub fn info(&self) -> &I {
        &self.info
    }

    /// Why the connection is closed now, if it is.
    fn over(&self) -> Option<&'static str> {
        if self.door.clock.now() > self.expires_at {
            return Some("the certificate of this connection has expired");
        }
        let parting = self.since.elapsed() > Duration::from_millis(PARTING_MS) && !(self.door.stays)(&self.info);
        parting.then_some("the bearer of this certificate has left the cluster")
    }

    fn waits(&mut self, cx: &mut Context<'_>, bytes: usize) -> bool {
        self.hold.waits(cx, bytes, &*self.door.more_follows)
    }
}

impl<I: Clone + Send + Sync + 'static> Connected for Guest<I> {
    type ConnectInfo = I;
    fn connect_info(&self) -> I {
        self.info.clone()
    }
}

impl<I: Unpin> AsyncRead for Guest<I> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if let Some(why) = self.over() {
            return Poll::Ready(Err(io::Error::other(why)));
        }
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl<I: Unpin> AsyncWrite for Guest<I> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        if self.waits(cx, buf.len()) {
            return Poll::Pending;
        }
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }
    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if let [only] = bufs
            && self.waits(cx, only.len())
        {
            return Poll::Pending;
        }
        Pin::new(&mut self.stream).poll_write_vectored(cx, bufs)
    }
    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}

#[cfg(test)]
#[path = "listen_tests.rs"]
mod tests;
