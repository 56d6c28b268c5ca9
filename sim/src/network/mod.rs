//! The network in memory: the same encoded frames, the same certificates. Frames are late, lost, doubled, out of order, or
//! stopped by a partition; they arrive although the caller has given up or died; an answer can be lost when the question
//! was not.

mod badge;
mod wires;

pub use badge::Badge;
pub use wires::Weather;

use crate::trace::Trace;
use bytes::Bytes;
use claviger_core::crypto;
use claviger_core::name::NodeId;
use claviger_world::disk::BoxFuture;
use claviger_world::network::{
    Answer, CallFailed, FRAME_BYTES_MAX, Frame, FrameKind, Network, PeerCertificate, SharedListener,
};
use claviger_world::runtime::{self, Context};
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::oneshot;
use tokio::time::Instant;
use wires::Wires;

/// Who hears everything that passes.
pub trait Tap: Send + Sync {
    /// A frame has come to node `to`, and left `from` at `sent`: `from` may have died since, and begun another life.
    /// Called for a doubled one each time, for a lost one never.
    fn request(&self, from: PeerCertificate, to: NodeId, sent: Instant, frame: &Frame);

    /// The listener of node `from` has answered a frame of that kind of node `to`, who may never hear it.
    fn answer(&self, from: NodeId, to: NodeId, question: &Frame, answer: &Result<Bytes, String>);
}

/// All wires, and who stands at them.
pub struct Hub {
    trace: Arc<Trace>,
    wires: Wires,
    stations: Mutex<BTreeMap<String, Station>>,
    taps: Mutex<Vec<Arc<dyn Tap>>>,
}

#[derive(Clone)]
struct Station {
    badge: Badge,
    listener: SharedListener,
    context: Arc<Context>,
}

/// A frame on its way.
#[derive(Clone)]
struct Flight {
    hub: Arc<Hub>,
    from: PeerCertificate,
    station: Station,
    there: PeerCertificate,
    outside: bool,
    sent: Instant,
    frame: Frame,
}

impl Hub {
    /// Wires with nobody at them, and a seed of the trace's dice.
    pub fn new(trace: Arc<Trace>, weather: Weather) -> Arc<Hub> {
        let seed = trace.roll(0..u64::MAX);
        Hub::seeded(trace, seed, weather)
    }

    /// Wires with nobody at them, and a seed of their own.
    pub fn seeded(trace: Arc<Trace>, seed: u64, weather: Weather) -> Arc<Hub> {
        let wires = Wires::new(seed, weather);
        Arc::new(Hub { trace, wires, stations: Mutex::default(), taps: Mutex::default() })
    }

    /// Puts a node at an address. It shows a leaf certificate in DER, or what one would say.
    pub fn listen(&self, address: &str, badge: impl Into<Badge>, listener: SharedListener, at: Arc<Context>) {
        let station = Station { badge: badge.into(), listener, context: at };
        self.stations.lock().insert(address.to_owned(), station);
    }

    /// Takes whoever is there away.
    pub fn leave(&self, address: &str) {
        self.stations.lock().remove(address);
    }

    /// Lets `tap` hear everything from here on.
    pub fn tap(&self, tap: Arc<dyn Tap>) {
        self.taps.lock().push(tap);
    }

    /// Changes the weather.
    pub fn weather(&self, weather: Weather) {
        self.wires.weather(weather);
    }

    /// Cuts one direction.
    pub fn cut(&self, from: NodeId, to: NodeId) {
        self.wires.cut(from, to);
    }

    /// Mends every cut.
    pub fn mend(&self) {
        self.wires.mend();
    }

    /// Loses every frame of Raft from a node and to it, and nothing else.
    pub fn mute(&self, node: NodeId) {
        self.wires.mute(node);
    }

    /// Loses them no more.
    pub fn unmute(&self, nodes: &[NodeId]) {
        self.wires.unmute(nodes);
    }

    /// Lets everything from `from` to `to` take `us` microseconds longer.
    pub fn slow(&self, from: NodeId, to: NodeId, us: u64) {
        self.wires.slow(from, to, us);
    }

    /// Makes every slow direction as fast as the others.
    pub fn mend_slow(&self) {
        self.wires.mend_slow();
    }

    /// From here on one chunk of a snapshot in `once_in` cuts its direction for `ms` milliseconds, itself not coming
    /// through; none when 0.
    pub fn cut_snapshots(&self, ms: u64, once_in: u64) {
        self.wires.cut_snapshots(ms, once_in);
    }

    /// Completes when so many more pieces of a snapshot have left for a node: at least one.
    pub fn snapshot_to(&self, to: NodeId, pieces: u64) -> tokio::sync::oneshot::Receiver<()> {
        self.wires.snapshot_to(to, pieces)
    }

    /// How many frames and answers have arrived, and how many were lost.
    pub fn counts(&self) -> (u64, u64) {
        self.wires.counts()
    }

    /// How many snapshots were cut in the middle, and how many frames were doubled.
    pub fn rare_counts(&self) -> (u64, u64) {
        self.wires.rare_counts()
    }

    /// Calls an address. Waits for ever when something on the way is lost.
    async fn carry(self: Arc<Self>, from: Badge, outside: bool, to: &str, frame: Frame) -> Result<Answer, CallFailed> {
        let Some(station) = self.stations.lock().get(to).cloned() else {
            runtime::sleep(self.wires.no_connection()).await;
            return Err(CallFailed::Unreachable);
        };
        let ends = from.as_seen_by(&station.badge).zip(station.badge.as_seen_by(&from));
        let Some((here, there)) = ends else {
            runtime::sleep(self.wires.no_connection()).await;
            return Err(CallFailed::Unreachable);
        };
        let (tx, rx) = oneshot::channel();
        let flight = Flight { hub: self, from: here, station, there, outside, sent: Instant::now(), frame };
        // Not a task of the caller: what was sent arrives, whatever becomes of the sender.
        tokio::spawn(async move {
            if let Some(answer) = flight.go().await {
                // A caller that has given up does not want to know.
                let _ = tx.send(answer);
            }
        });
        match rx.await {
            Ok(answer) => answer,
            Err(_) => std::future::pending().await,
        }
    }

    fn note(&self, at: NodeId, from: NodeId, frame: &Frame) {
        let digest = crypto::sha256(&[&frame.body]);
        let digest = u32::from_be_bytes([digest.0[0], digest.0[1], digest.0[2], digest.0[3]]);
        self.trace.note(at.0, &format!("hears n{from} {:?} {} {digest:08x}", frame.kind, frame.body.len()));
    }

    fn tell(&self, what: impl Fn(&dyn Tap)) {
        let taps = self.taps.lock().clone();
        taps.iter().for_each(|tap| what(&**tap));
    }
}

impl Flight {
    /// There and back. Nothing when it, or its answer, was lost.
    async fn go(self) -> Option<Result<Answer, CallFailed>> {
        let (here, there) = (self.from.claims, self.there.claims);
        if !self.outside {
            self.hub.wires.meet(here, there, &self.frame);
            if self.hub.wires.is_mute(here, there, &self.frame) {
                return None;
            }
        }
        if !self.hop(here, there).await {
            return None;
        }
        if self.may_come_twice()
            && let Some(later) = self.hub.wires.doubled(&self.frame)
        {
            tokio::spawn(self.clone().again(later));
        }
        let heard = self.hear().await;
        if !self.hop(there, here).await {
            return None;
        }
        Some(match heard {
            Some(Ok(body)) => Ok(Answer { from: self.there, body }),
            Some(Err(why)) => Err(CallFailed::Refused(why)),
            None => Err(CallFailed::Unreachable),
        })
    }

    /// Connections lose nothing and double nothing; what comes twice is what is sent again: by the ledger, nothing else.
    fn may_come_twice(&self) -> bool {
        matches!(
            self.frame.kind,
            FrameKind::Raft | FrameKind::Propose | FrameKind::Barrier | FrameKind::Compare | FrameKind::Recall
        )
    }

    /// The same frame once more. Nobody waits for its answer.
    async fn again(self, later: Duration) {
        tokio::time::sleep(later).await;
        self.hear().await;
    }

    async fn hop(&self, from: NodeId, to: NodeId) -> bool {
        self.hub.wires.hop(from, to, self.outside).await
    }

    /// What the listener says, as a task of its node; nothing when that node dies of it, or before.
    async fn hear(&self) -> Option<Result<Bytes, String>> {
        let Flight { hub, from, station, there, sent, frame, .. } = self;
        if station.context.is_dead() {
            return None;
        }
        hub.note(there.claims, from.claims, frame);
        hub.tell(|tap| tap.request(*from, there.claims, *sent, frame));
        let (listener, from, heard) = (station.listener.clone(), *from, frame.clone());
        let answer = station.context.spawn(async move { listener.hear(from, heard).await }).await.ok()?;
        hub.tell(|tap| tap.answer(there.claims, from.claims, frame, &answer));
        Some(answer)
    }
}

/// One end of the wires.
pub struct Endpoint {
    hub: Arc<Hub>,
    badge: Badge,
    outside: bool,
}

impl Endpoint {
    /// A node's end. It shows a leaf certificate in DER, or what one would say.
    pub fn new(hub: Arc<Hub>, badge: impl Into<Badge>) -> Endpoint {
        Endpoint { hub, badge: badge.into(), outside: false }
    }

    /// The end of a stranger, whose certificate may be stolen: he stands somewhere else than the node that it names, so
    /// that its cuts and slow directions are not his.
    pub fn outside(hub: Arc<Hub>, badge: impl Into<Badge>) -> Endpoint {
        Endpoint { outside: true, ..Endpoint::new(hub, badge) }
    }
}

impl Network for Endpoint {
    fn call(&self, to: &str, frame: Frame, deadline: Duration) -> BoxFuture<'static, Result<Answer, CallFailed>> {
        let (hub, badge, outside, to) = (self.hub.clone(), self.badge.clone(), self.outside, to.to_owned());
        Box::pin(async move {
            if frame.body.len() > FRAME_BYTES_MAX {
                return Err(CallFailed::Refused("the frame is too long".into()));
            }
            let call = runtime::timeout(deadline, hub.carry(badge, outside, &to, frame));
            call.await.unwrap_or(Err(CallFailed::Late))
        })
    }
}

/// Makes a frame. For tests.
pub fn frame(kind: FrameKind, body: Vec<u8>) -> Frame {
    Frame { kind, body: Bytes::from(body) }
}
