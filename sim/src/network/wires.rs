//! The state of the wires: weather, cuts, slow directions; and their dice. Knows nothing of who stands at them.

use crate::dice::Dice;
use claviger_core::name::NodeId;
use claviger_proto::peer::v1::{RaftRequest, raft_request};
use claviger_world::network::{Frame, FrameKind};
use parking_lot::Mutex;
use prost::Message;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::time::Duration;
use tokio::sync::oneshot;
use tokio::time::Instant;

/// How bad the network is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Weather {
    /// One frame in so many is lost; none when 0.
    pub lost_once_in: u64,
    /// One frame in so many is late by up to `late_us_max`; none when 0.
    pub late_once_in: u64,
    /// Most that a late frame is late, in microseconds.
    pub late_us_max: u64,
    /// How long one way takes, in microseconds.
    pub hop_us: Range<u64>,
    /// One request in so many is heard a second time, a little later; none when 0.
    pub duplicated_once_in: u64,
}

impl Weather {
    /// Nothing is lost, late or doubled.
    pub const FAIR: Weather =
        Weather { lost_once_in: 0, late_once_in: 0, late_us_max: 0, hop_us: 200..3_000, duplicated_once_in: 0 };
}

impl Default for Weather {
    fn default() -> Self {
        Weather::FAIR
    }
}

/// From whom to whom.
type Way = (NodeId, NodeId);

pub(super) struct Wires(Mutex<State>);

struct State {
    weather: Weather,
    chances: Chances,
    cut: BTreeSet<Way>,
    /// Cut until then, because of a snapshot.
    cut_until: BTreeMap<Way, Instant>,
    slow_us: BTreeMap<Way, u64>,
    /// Whose frames of Raft are lost, sent or received.
    mute: BTreeSet<NodeId>,
    /// For how many milliseconds a snapshot is cut, and once in how many chunks.
    cut_snapshots: (u64, u64),
    /// Who wants to be told when so many more pieces of a snapshot have left for a node.
    lookouts: Vec<Lookout>,
    delivered: u64,
    lost: u64,
    snapshots_cut: u64,
    doubled: u64,
}

struct Lookout {
    to: NodeId,
    left: u64,
    seen: oneshot::Sender<()>,
}

/// Dice for each kind of fault, so that one that is switched off moves no other.
struct Chances {
    hop: Dice,
    late: Dice,
    lost: Dice,
    doubled: Dice,
    snapshots: Dice,
}

impl Chances {
    fn new(seed: u64) -> Chances {
        let dice = |purpose| Dice::of(seed, purpose);
        Chances {
            hop: dice("wires hop"),
            late: dice("wires late"),
            lost: dice("wires lost"),
            doubled: dice("wires doubled"),
            snapshots: dice("wires snapshots"),
        }
    }
}

impl Wires {
    pub(super) fn new(seed: u64, weather: Weather) -> Wires {
        Wires(Mutex::new(State {
            weather,
            chances: Chances::new(seed),
            cut: BTreeSet::new(),
            cut_until: BTreeMap::new(),
            slow_us: BTreeMap::new(),
            mute: BTreeSet::new(),
            cut_snapshots: (0, 0),
            lookouts: Vec::new(),
            delivered: 0,
            lost: 0,
            snapshots_cut: 0,
            doubled: 0,
        }))
    }

    pub(super) fn weather(&self, weather: Weather) {
        self.0.lock().weather = weather;
    }

    pub(super) fn cut(&self, from: NodeId, to: NodeId) {
        self.0.lock().cut.insert((from, to));
    }

    pub(super) fn mend(&self) {
        let mut state = self.0.lock();
        state.cut.clear();
        state.cut_until.clear();
    }

    pub(super) fn slow(&self, from: NodeId, to: NodeId, us: u64) {
        self.0.lock().slow_us.insert((from, to), us);
    }

    pub(super) fn mend_slow(&self) {
        self.0.lock().slow_us.clear();
    }

    pub(super) fn mute(&self, node: NodeId) {
        self.0.lock().mute.insert(node);
    }

    pub(super) fn unmute(&self, nodes: &[NodeId]) {
        self.0.lock().mute.retain(|mute| !nodes.contains(mute));
    }

    /// Whether a frame is lost because Raft is mute at either end.
    pub(super) fn is_mute(&self, from: NodeId, to: NodeId, frame: &Frame) -> bool {
        let mut state = self.0.lock();
        let lost = frame.kind == FrameKind::Raft && (state.mute.contains(&from) || state.mute.contains(&to));
        state.lost += u64::from(lost);
        lost
    }

    pub(super) fn cut_snapshots(&self, ms: u64, once_in: u64) {
        self.0.lock().cut_snapshots = (ms, once_in);
    }

    pub(super) fn snapshot_to(&self, to: NodeId, pieces: u64) -> oneshot::Receiver<()> {
        let (seen, told) = oneshot::channel();
        self.0.lock().lookouts.push(Lookout { to, left: pieces, seen });
        told
    }

    pub(super) fn counts(&self) -> (u64, u64) {
        let state = self.0.lock();
        (state.delivered, state.lost)
    }

    pub(super) fn rare_counts(&self) -> (u64, u64) {
        let state = self.0.lock();
        (state.snapshots_cut, state.doubled)
    }

    /// Carries something one way, on the world's time. Whether it arrives.
    pub(super) async fn hop(&self, from: NodeId, to: NodeId, outside: bool) -> bool {
        let way = (!outside).then_some((from, to));
        let (us, lost) = self.0.lock().depart(way);
        tokio::time::sleep(Duration::from_micros(us)).await;
        self.0.lock().arrive(way, lost)
    }

    /// How long it takes to find out that nobody listens.
    pub(super) fn no_connection(&self) -> Duration {
        let us = self.0.lock().hop_us();
        Duration::from_micros(us)
    }

    /// Whether a request that has arrived is heard again, and how much later.
    pub(super) fn doubled(&self, frame: &Frame) -> Option<Duration> {
        let mut state = self.0.lock();
        let usual = state.weather.duplicated_once_in;
        // There are few of these, and an old one that comes again is worth seeing.
        let snapshot = usual > 0 && frame.body.len() > SMALL_BYTES && is_snapshot(frame);
        let once_in = if snapshot { SNAPSHOTS_DOUBLED_ONCE_IN } else { usual };
        if !state.chances.doubled.once_in(once_in) {
            return None;
        }
        state.doubled += 1;
        Some(Duration::from_micros(state.chances.doubled.spread(DOUBLED_LATER_US.start, DOUBLED_LATER_US.end)))
    }

    /// Sees a frame off. One that carries a piece of a snapshot may bring its own way down.
    pub(super) fn meet(&self, from: NodeId, to: NodeId, frame: &Frame) {
        let mut state = self.0.lock();
        let (ms, once_in) = state.cut_snapshots;
        if (once_in == 0 && state.lookouts.is_empty()) || !is_snapshot(frame) {
            return;
        }
        state.look_out(to);
        if once_in > 0 && state.chances.snapshots.once_in(once_in) {
            state.cut_until.insert((from, to), Instant::now() + Duration::from_millis(ms));
            state.snapshots_cut += 1;
        }
    }
}

impl State {
    /// Tells whoever has waited for the last of so many pieces.
    fn look_out(&mut self, to: NodeId) {
        self.lookouts.iter_mut().filter(|lookout| lookout.to == to).for_each(|lookout| lookout.left -= 1);
        for lookout in self.lookouts.extract_if(.., |lookout| lookout.left == 0) {
            // Whoever waits no longer does not want to know.
            let _ = lookout.seen.send(());
        }
    }

    /// How long the way takes, in microseconds, and whether the thing is lost on it.
    fn depart(&mut self, way: Option<Way>) -> (u64, bool) {
        let usual = self.hop_us();
        let dice = &self.chances.late;
        let is_late = dice.once_in(self.weather.late_once_in);
        let late = if is_late { dice.roll(0..self.weather.late_us_max + 1) } else { 0 };
        let slow = way.and_then(|way| self.slow_us.get(&way)).copied().unwrap_or(0);
        let lost = self.chances.lost.once_in(self.weather.lost_once_in) || self.is_cut(way);
        (usual + late + slow, lost)
    }

    /// Whether it comes out at the other end: a way that was cut meanwhile lets nothing through.
    fn arrive(&mut self, way: Option<Way>, lost: bool) -> bool {
        let lost = lost || self.is_cut(way);
        if lost {
            self.lost += 1;
        } else {
            self.delivered += 1;
        }
        !lost
    }

    fn is_cut(&mut self, way: Option<Way>) -> bool {
        let Some(way) = way else { return false };
        self.cut_until.retain(|_, until| *until > Instant::now());
        self.cut.contains(&way) || self.cut_until.contains_key(&way)
    }

    fn hop_us(&self) -> u64 {
        let Range { start, end } = self.weather.hop_us.clone();
        self.chances.hop.roll(start..end.max(start + 1))
    }
}

fn is_snapshot(frame: &Frame) -> bool {
    let carries = |body: &Frame| {
        let request = RaftRequest::decode(body.body.clone()).ok()?;
        Some(matches!(request.body, Some(raft_request::Body::Snapshot(_) | raft_request::Body::Offer(_))))
    };
    frame.kind == FrameKind::Raft && carries(frame).unwrap_or(false)
}

/// Shorter frames are not opened to see whether they carry a piece of a snapshot: heartbeats are most of them.
const SMALL_BYTES: usize = 512;
/// How often such a piece comes twice where anything does.
const SNAPSHOTS_DOUBLED_ONCE_IN: u64 = 3;
/// How much later a doubled request is heard again, in microseconds.
const DOUBLED_LATER_US: Range<u64> = 100..3_000_000;
