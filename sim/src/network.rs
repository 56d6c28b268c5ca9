//! The network in memory: the same encoded frames, the same certificates; frames are late, lost, out of order, or
//! stopped by a partition, and an answer can be lost when the question was not.

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
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

/// How bad the network is.
#[derive(Clone, Copy, Debug)]
pub struct Weather {
    /// One frame in so many is lost; none when 0.
    pub lost_once_in: u64,
    /// One frame in so many is late by up to `late_us_max`; none when 0.
    pub late_once_in: u64,
    /// Most that a late frame is late, in microseconds.
    pub late_us_max: u64,
}

/// All wires.
pub struct Hub {
    trace: Arc<Trace>,
    weather: Mutex<Weather>,
    stations: Mutex<BTreeMap<String, Station>>,
    /// From whom to whom nothing passes.
    cut: Mutex<BTreeSet<(NodeId, NodeId)>>,
}

#[derive(Clone)]
struct Station {
    certificate: PeerCertificate,
    listener: SharedListener,
    context: Arc<Context>,
}

impl Hub {
    /// Wires with nobody at them.
    pub fn new(trace: Arc<Trace>, weather: Weather) -> Arc<Hub> {
        let (stations, cut) = (Mutex::default(), Mutex::default());
        Arc::new(Hub { trace, weather: Mutex::new(weather), stations, cut })
    }

    /// Puts a node at an address.
    pub fn listen(&self, address: &str, certificate: PeerCertificate, listener: SharedListener, at: Arc<Context>) {
        self.stations.lock().insert(address.to_owned(), Station { certificate, listener, context: at });
    }

    /// Takes whoever is there away.
    pub fn leave(&self, address: &str) {
        self.stations.lock().remove(address);
    }

    /// Cuts one direction.
    pub fn cut(&self, from: NodeId, to: NodeId) {
        self.cut.lock().insert((from, to));
    }

    /// Mends everything.
    pub fn mend(&self) {
        self.cut.lock().clear();
    }

    /// Changes the weather.
    pub fn weather(&self, weather: Weather) {
        *self.weather.lock() = weather;
    }

    /// Carries something one way. Whether it arrives.
    async fn hop(&self, from: NodeId, to: NodeId) -> bool {
        let weather = *self.weather.lock();
        let often = |once_in: u64| once_in > 0 && self.trace.once_in(once_in);
        let late = if often(weather.late_once_in) { self.trace.roll(0..weather.late_us_max) } else { 0 };
        let lost = often(weather.lost_once_in);
        runtime::sleep(Duration::from_micros(self.trace.roll(200..3_000) + late)).await;
        !lost && !self.cut.lock().contains(&(from, to))
    }

    async fn carry(&self, from: PeerCertificate, to: &str, frame: Frame) -> Result<Answer, CallFailed> {
        let Some(station) = self.stations.lock().get(to).cloned() else {
            runtime::sleep(Duration::from_micros(self.trace.roll(100..1_000))).await;
            return Err(CallFailed::Unreachable);
        };
        let (here, there) = (from.claims, station.certificate.claims);
        if !self.hop(here, there).await {
            return std::future::pending().await;
        }
        self.note(there, here, &frame);
        let heard = station.listener.hear(from, frame);
        let answer = station.context.spawn(heard).await.map_err(|_| CallFailed::Unreachable)?;
        if !self.hop(there, here).await {
            return std::future::pending().await;
        }
        let body = answer.map_err(CallFailed::Refused)?;
        Ok(Answer { from: station.certificate, body })
    }

    fn note(&self, at: NodeId, from: NodeId, frame: &Frame) {
        let digest = crypto::sha256(&[&frame.body]);
        let digest = u32::from_be_bytes([digest.0[0], digest.0[1], digest.0[2], digest.0[3]]);
        self.trace.note(at.0, &format!("hears n{from} {:?} {} {digest:08x}", frame.kind, frame.body.len()));
    }
}

/// One node's end of the wires.
pub struct Endpoint {
    /// The wires.
    pub hub: Arc<Hub>,
    /// Who is at this end.
    pub certificate: PeerCertificate,
}

impl Network for Endpoint {
    fn call(&self, to: &str, frame: Frame, deadline: Duration) -> BoxFuture<'static, Result<Answer, CallFailed>> {
        let (hub, from, to) = (self.hub.clone(), self.certificate, to.to_owned());
        Box::pin(async move {
            if frame.body.len() > FRAME_BYTES_MAX {
                return Err(CallFailed::Refused("the frame is too long".into()));
            }
            let call = runtime::timeout(deadline, hub.carry(from, &to, frame));
            call.await.unwrap_or(Err(CallFailed::Late))
        })
    }
}

/// Makes a frame. For tests.
pub fn frame(kind: FrameKind, body: Vec<u8>) -> Frame {
    Frame { kind, body: Bytes::from(body) }
}
