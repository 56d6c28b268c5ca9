//! A disk that keeps its contract and nothing more: what was not synced may be gone after a crash, a write or a sync may
//! fail, the disk may be full or slow, and what lies on it may be damaged while the node is off.
//!
//! Must not contain: anything that a node could learn of the simulation by. What the oracle reads stands in `faults`.

mod faults;
mod files;
mod platter;

pub use faults::{Copy, Damage, Extent, Synced};

use crate::dice::Dice;
use crate::trace::Trace;
use bytes::Bytes;
use claviger_world::disk::{AppendFile, Batch, BoxFuture, Disk, DiskFailed, Pair, Reading, Space};
use claviger_world::runtime;
use files::SimFile;
use parking_lot::Mutex;
use platter::Platter;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::oneshot;

/// The disk as it outlives its node. Clones are the same disk.
#[derive(Clone)]
pub struct SimDisk {
    platter: Arc<Mutex<Platter>>,
    chances: Arc<Chances>,
    trace: Arc<Trace>,
    honesty: Honesty,
}

/// Whether the disk says that a batch is durable only when it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Honesty {
    /// As the contract wants it.
    Honest,
    /// A planted bug: what is seen and acknowledged is durable a while later.
    Lying,
}

/// How slow the disk is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DiskWeather {
    /// How long a batch or a sync takes, in microseconds.
    pub latency_us: Range<u64>,
    /// One in so many takes up to `stall_us_max` longer; none when 0.
    pub stall_once_in: u64,
    /// Most that a stall lasts, in microseconds.
    pub stall_us_max: u64,
}

impl Default for DiskWeather {
    fn default() -> Self {
        DiskWeather { latency_us: 50..4_000, stall_once_in: 50, stall_us_max: 40_000 }
    }
}

/// The disk's own dice: some for each kind, so that a fault that is switched off moves no other.
struct Chances {
    latency: Dice,
    crash: Dice,
    failure: Dice,
    damage: Dice,
}

impl Chances {
    fn new(seed: u64) -> Chances {
        let dice = |purpose| Dice::of(seed, purpose);
        Chances {
            latency: dice("disk latency"),
            crash: dice("disk crash"),
            failure: dice("disk failure"),
            damage: dice("disk damage"),
        }
    }
}

impl SimDisk {
    /// An empty disk with a seed of the trace's dice.
    pub fn new(trace: Arc<Trace>, honesty: Honesty) -> Self {
        let seed = trace.roll(0..u64::MAX);
        SimDisk { honesty, ..SimDisk::seeded(trace, seed) }
    }

    /// An empty, honest disk with a seed of its own.
    pub fn seeded(trace: Arc<Trace>, seed: u64) -> Self {
        SimDisk { platter: Arc::default(), chances: Arc::new(Chances::new(seed)), trace, honesty: Honesty::Honest }
    }

    /// Changes how slow the disk is, from the next write on.
    pub fn weather(&self, weather: DiskWeather) {
        self.platter.lock().weather = weather;
    }

    /// Shows a batch and says that it is durable, which it comes to be half a second later.
    fn lie(&self, write: u64) -> BoxFuture<'static, Result<(), DiskFailed>> {
        let (platter, lag) = (self.platter.clone(), self.chances.latency.roll(100..900));
        let (stamp, result) = {
            let mut platter = platter.lock();
            let result = self.settle(&mut platter, write);
            (platter.stamp, result)
        };
        runtime::spawn(async move {
            runtime::sleep(Duration::from_millis(lag)).await;
            let mut platter = platter.lock();
            platter.durable = platter.durable.max(stamp.min(platter.stamp));
        });
        Box::pin(async { result })
    }

    /// Brings all batches up to `write` onto the platter. What became of that one.
    fn settle(&self, platter: &mut Platter, write: u64) -> Result<(), DiskFailed> {
        let broke = platter.settle(write);
        if let Some(why) = broke {
            self.tell(&why);
        }
        platter.verdict(write)
    }

    /// A failure is part of the story.
    fn tell(&self, why: &DiskFailed) {
        self.trace.note(runtime::here().map_or(0, |node| node.id()), &why.to_string());
    }

    fn latency(&self) -> Duration {
        let weather = self.platter.lock().weather.clone();
        let dice = &self.chances.latency;
        let stall = if dice.once_in(weather.stall_once_in) { dice.roll(0..weather.stall_us_max + 1) } else { 0 };
        let Range { start, end } = weather.latency_us;
        Duration::from_micros(dice.roll(start..end.max(start + 1)) + stall)
    }
}

impl Reading for SimDisk {
    fn read(&self, space: Space, key: &[u8]) -> Result<Option<Bytes>, DiskFailed> {
        self.platter.lock().read(NEWEST, space, key)
    }

    fn scan(&self, space: Space, from: &[u8], to: Option<&[u8]>, limit: usize) -> Result<Vec<Pair>, DiskFailed> {
        self.platter.lock().scan(NEWEST, space, from, to, limit)
    }
}

impl Disk for SimDisk {
    fn write(&self, batch: Batch) -> BoxFuture<'static, Result<(), DiskFailed>> {
        let latency = self.latency();
        let write = self.platter.lock().queue(batch);
        if self.honesty == Honesty::Lying {
            return self.lie(write);
        }
        let (disk, (tx, rx)) = (self.clone(), oneshot::channel());
        runtime::spawn(async move {
            runtime::sleep(latency).await;
            let mut platter = disk.platter.lock();
            let result = disk.settle(&mut platter, write);
            platter.durable = platter.stamp;
            // Whoever dropped the future does not want to know.
            let _ = tx.send(result);
        });
        Box::pin(async { rx.await.unwrap_or_else(|_| Err(failed("writing", "the node is gone"))) })
    }

    fn pin(&self) -> Arc<dyn Reading> {
        let stamp = self.platter.lock().pin();
        Arc::new(Pin { platter: self.platter.clone(), stamp })
    }

    fn open(&self, name: &str) -> Result<Arc<dyn AppendFile>, DiskFailed> {
        Ok(Arc::new(SimFile::new(self.clone(), name)))
    }

    fn files(&self) -> Result<Vec<String>, DiskFailed> {
        Ok(self.platter.lock().files.keys().cloned().collect())
    }

    fn remove(&self, name: &str) -> Result<(), DiskFailed> {
        let mut platter = self.platter.lock();
        if platter.files.get(name).is_some_and(files::FileBytes::is_held) {
            return Err(failed("removing a file", "somebody has it open"));
        }
        platter.files.remove(name);
        Ok(())
    }
}

/// A view of the disk as of one stamp.
struct Pin {
    platter: Arc<Mutex<Platter>>,
    stamp: u64,
}

impl Drop for Pin {
    fn drop(&mut self) {
        self.platter.lock().unpin(self.stamp);
    }
}

impl Reading for Pin {
    fn read(&self, space: Space, key: &[u8]) -> Result<Option<Bytes>, DiskFailed> {
        self.platter.lock().read(self.stamp, space, key)
    }

    fn scan(&self, space: Space, from: &[u8], to: Option<&[u8]>, limit: usize) -> Result<Vec<Pair>, DiskFailed> {
        self.platter.lock().scan(self.stamp, space, from, to, limit)
    }
}

fn failed(doing: &'static str, cause: &str) -> DiskFailed {
    DiskFailed { doing, cause: cause.into() }
}

/// As of after everything.
const NEWEST: u64 = u64::MAX;
/// What the system says when there is no room.
const NO_SPACE: &str = "no space left on device";
/// What the system says when a write or a sync failed for no reason that it knows.
const IO_ERROR: &str = "input/output error";
