//! The way to other nodes: a connection to each address, dialled when it is needed, and tied to the certificate that it was
//! opened with, so that every answer comes with the identity that really gave it. Long frames have a connection of their
//! own: a heartbeat does not wait behind a snapshot.

use crate::{
    line::{self, Incoming},
    tls::{Facts, LiveTls, peer_certificate},
};
use bytes::{Bytes, BytesMut};
use claviger_core::time::UnixMs;
use claviger_proto::peer::v1::{Ask, Reply, reply::Result as WireResult};
use claviger_world::{
    clock::Clock,
    disk::BoxFuture,
    network::{Answer, CallFailed, FRAME_BYTES_MAX, Frame, Network, PEER_CALL_MS_MAX, PeerCertificate},
};
use futures_util::{
    StreamExt,
    future::{FutureExt, Shared},
};
use prost::Message;
use rustls_pki_types::ServerName;
use std::{
    collections::BTreeMap,
    io,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};
use tokio::{
    net::TcpStream,
    sync::{mpsc, oneshot},
    time::{Instant, MissedTickBehavior, interval},
};
use tokio_rustls::{TlsConnector, client::TlsStream};

/// TCP and TLS together, in milliseconds.
const CONNECT_MS_MAX: u64 = 2_000;
/// After a failure nobody dials the address again for so long, in milliseconds.
const REDIAL_PAUSE_MS: u64 = 50;
/// Addresses remembered; more than a cluster has, so that only a mistake ever fills it.
const LINES_MAX: usize = 256;
/// A frame that is longer, in bytes, goes over the connection for long ones.
const SHORT_BYTES_MAX: usize = 64 << 10;

/// Peers over mutual TLS.
pub struct PeerNetwork(Arc<Lines>);

struct Lines {
    tls: Arc<LiveTls>,
    clock: Arc<dyn Clock>,
    /// The last dialling of each way, under way or done.
    dials: Mutex<BTreeMap<Way, Dial>>,
}

/// An address, and what goes there.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Way {
    to: String,
    long: bool,
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
        let (lines, length) = (self.0.clone(), frame.body.len());
        let way = Way { to: to.to_owned(), long: length > SHORT_BYTES_MAX };
        let deadline = deadline.min(Duration::from_millis(PEER_CALL_MS_MAX));
        Box::pin(async move {
            let call = async {
                if length > FRAME_BYTES_MAX {
                    return Err(CallFailed::Refused("the frame is over its bound".into()));
                }
                let wire = lines.wire(&way)?.await.map_err(|_| CallFailed::Unreachable)?;
                // It may have been made long ago, for somebody who did not wait for it.
                if !wire.stands(lines.clock.now()) {
                    return Err(CallFailed::Unreachable);
                }
                wire.ask(frame, deadline).await
            };
            tokio::time::timeout(deadline, call).await.unwrap_or(Err(CallFailed::Late))
        })
    }
}

impl Lines {
    /// The connection to an address: the one that stands, the one that is being made, or a new one.
    fn wire(self: &Arc<Self>, way: &Way) -> Result<Dial, CallFailed> {
        let mut dials = self.dials.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(last) = dials.get(way) {
            match last.peek() {
                None => return Ok(last.clone()),
                Some(Ok(wire)) if wire.stands(self.clock.now()) => return Ok(last.clone()),
                Some(Err(failed)) if failed.0.elapsed() < Duration::from_millis(REDIAL_PAUSE_MS) => {
                    return Err(CallFailed::Unreachable);
                }
                Some(Ok(_) | Err(_)) => {}
            }
        }
        if dials.len() >= LINES_MAX && !dials.contains_key(way) {
            dials.clear();
        }
        let dial = self.clone().dial(way.to.clone());
        dials.insert(way.clone(), dial.clone());
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
        if stream.get_ref().1.alpn_protocol() != Some(line::PROTOCOL) {
            return Err(io::Error::other("the other side does not speak as a node"));
        }
        let leaf = stream.get_ref().1.peer_certificates().and_then(<[_]>::first);
        let leaf = leaf.ok_or_else(|| io::Error::other("the peer showed no certificate"))?;
        let from = peer_certificate(leaf, &credentials.domain).map_err(io::Error::other)?;
        let expires_at = Facts::of(leaf).map_or(UnixMs(0), |f| f.expires_at);
        Ok(Wire::over(stream, from, expires_at))
    }
}

/// One connection with the certificate that it was proven by.
#[derive(Clone)]
struct Wire {
    asks: mpsc::Sender<Asked>,
    from: PeerCertificate,
    expires_at: UnixMs,
}

impl Wire {
    /// Has a task of its own, which ends with the connection, or when nobody can ask any more.
    fn over(stream: TlsStream<TcpStream>, from: PeerCertificate, expires_at: UnixMs) -> Wire {
        let (asks, asked) = mpsc::channel(line::WAITING_MAX);
        tokio::spawn(Asking::begin().run(stream, asked, asks.downgrade()));
        Wire { asks, from, expires_at }
    }

    fn stands(&self, now: UnixMs) -> bool {
        !self.asks.is_closed() && now <= self.expires_at
    }

    async fn ask(self, frame: Frame, deadline: Duration) -> Result<Answer, CallFailed> {
        let (answer, answered) = oneshot::channel();
        let asked = Asked { kind: frame.kind as u32, body: frame.body, deadline, answer: Some(answer) };
        self.asks.send(asked).await.map_err(|_| CallFailed::Unreachable)?;
        match answered.await.map_err(|_| CallFailed::Unreachable)? {
            Some(WireResult::Body(body)) => Ok(Answer { from: self.from, body }),
            Some(WireResult::Refused(why)) => Err(CallFailed::Refused(why)),
            None => Err(CallFailed::Late),
        }
    }
}

/// A frame on its way, and who waits for the answer.
struct Asked {
    kind: u32,
    body: Bytes,
    deadline: Duration,
    /// None where any answer will do: it shows that somebody is there.
    answer: Option<oneshot::Sender<Option<WireResult>>>,
}

/// What was asked on one connection, and is not answered.
struct Asking {
    last: AtomicU64,
    /// When the other end last took or said something.
    alive: Mutex<Instant>,
    waiting: Mutex<BTreeMap<u64, oneshot::Sender<Option<WireResult>>>>,
}

impl Asking {
    fn begin() -> Asking {
        Asking { last: AtomicU64::new(0), alive: Mutex::new(Instant::now()), waiting: Mutex::default() }
    }

    /// A long frame on a slow way is answered only when it has gone out: until then each piece of it that goes says as much.
    fn is_alive(&self) {
        *self.alive.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
    }

    fn silent(&self) -> Duration {
        self.alive.lock().unwrap_or_else(PoisonError::into_inner).elapsed()
    }

    async fn run(self, stream: TlsStream<TcpStream>, mut asked: mpsc::Receiver<Asked>, asks: mpsc::WeakSender<Asked>) {
        let (replies, mut out) = line::split(stream);
        // Whichever ends first ends the other: who still waits is told by what is dropped then.
        let ended = tokio::select! {
            written = line::write(&mut out, &mut asked, |asked| Some((self.number(asked)?, ())), || self.is_alive()) => written,
            heard = self.hear(replies, asks) => heard,
        };
        if let Err(why) = ended {
            tracing::debug!(%why, "a connection to a peer ended");
        }
    }

    /// Who gave up before the frame was written is not waited for.
    fn number(&self, Asked { kind, body, deadline, answer }: Asked) -> Option<Ask> {
        if answer.as_ref().is_some_and(oneshot::Sender::is_closed) {
            return None;
        }
        let call = self.last.fetch_add(1, Ordering::Relaxed) + 1;
        if let Some(answer) = answer {
            self.waiting().insert(call, answer);
        }
        let within_ms = u32::try_from(deadline.as_millis()).unwrap_or(u32::MAX);
        Some(Ask { call, kind, within_ms, body })
    }

    async fn hear(&self, mut replies: Incoming<TlsStream<TcpStream>>, asks: mpsc::WeakSender<Asked>) -> io::Result<()> {
        let mut look = interval(Duration::from_millis(line::LOOK_MS));
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                biased;
                reply = replies.next() => {
                    self.is_alive();
                    self.answer(reply.ok_or(io::ErrorKind::UnexpectedEof)??)?;
                }
                _ = look.tick() => self.look(&asks)?,
            }
        }
    }

    /// An answer to what nobody waits for any more is nothing.
    fn answer(&self, reply: BytesMut) -> io::Result<()> {
        let Reply { call, result } = Reply::decode(reply.freeze()).map_err(io::Error::other)?;
        if let Some(waiting) = self.waiting().remove(&call) {
            // Who gave up meanwhile has dropped its end.
            let _ = waiting.send(result);
        }
        Ok(())
    }

    /// Forgets who gave up, and asks a silent peer whether it is there.
    fn look(&self, asks: &mpsc::WeakSender<Asked>) -> io::Result<()> {
        let silent = self.silent();
        self.waiting().retain(|_, waiting| !waiting.is_closed());
        let (ask, end) = (line::KEEP_ALIVE_MS, line::KEEP_ALIVE_MS + line::KEEP_ALIVE_ANSWER_MS_MAX);
        if silent > Duration::from_millis(end) {
            return Err(io::ErrorKind::TimedOut.into());
        }
        if let Some(asks) = asks.upgrade().filter(|_| silent > Duration::from_millis(ask)) {
            let ping = Asked { kind: line::PING, body: Bytes::new(), deadline: Duration::ZERO, answer: None };
            // Where as many wait to be written, one of them will do.
            let _ = asks.try_send(ping);
        }
        Ok(())
    }

    fn waiting(&self) -> MutexGuard<'_, BTreeMap<u64, oneshot::Sender<Option<WireResult>>>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
#[path = "network_tests.rs"]
mod tests;
