//! A disk that forgets what was not synced: at a crash a random beginning of the waiting batches is kept, the rest is
//! gone, and of every file a random part of its unsynced tail.

use crate::trace::Trace;
use bytes::Bytes;
use claviger_world::disk::{AppendFile, Batch, BoxFuture, Change, Disk, DiskFailed, Pair, Reading, Space};
use claviger_world::runtime;
use parking_lot::Mutex;
use std::collections::{BTreeMap, VecDeque};
use std::ops::Bound;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::oneshot;

type Key = (Space, Bytes);

/// The disk as it outlives its node. Clones are the same disk.
#[derive(Clone)]
pub struct SimDisk {
    platter: Arc<Mutex<Platter>>,
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

#[derive(Default)]
struct Platter {
    /// What each key held, from which stamp on; newest last.
    values: BTreeMap<Key, Vec<(u64, Option<Bytes>)>>,
    /// Raised by each durable batch.
    stamp: u64,
    /// How many views are pinned at which stamp.
    pins: BTreeMap<u64, usize>,
    /// Keys to look over once no view is pinned before their stamp.
    stale: VecDeque<(u64, Key)>,
    waiting: VecDeque<(u64, Batch)>,
    next_write: u64,
    files: BTreeMap<String, FileBytes>,
    lost_batches: u64,
    /// Up to which stamp batches survive a crash. Of an honest disk: all.
    durable: u64,
}

#[derive(Default)]
struct FileBytes {
    bytes: Vec<u8>,
    synced: usize,
}

impl SimDisk {
    /// An empty disk.
    pub fn new(trace: Arc<Trace>, honesty: Honesty) -> Self {
        SimDisk { platter: Arc::default(), trace, honesty }
    }

    /// Power is cut. Call it when the node's tasks are gone.
    pub fn crash(&self) {
        let mut platter = self.platter.lock();
        let waiting = platter.waiting.len() as u64;
        let kept = self.trace.roll(0..waiting + 1);
        for _ in 0..kept {
            platter.settle_one();
        }
        platter.lost_batches += waiting - kept;
        platter.waiting.clear();
        platter.fall_back(&self.trace);
        for file in platter.files.values_mut() {
            let unsynced = file.bytes.len() - file.synced;
            let kept = self.trace.roll(0..unsynced as u64 + 1) as usize;
            file.bytes.truncate(file.synced + kept);
            file.synced = file.bytes.len();
        }
    }

    /// How many batches all crashes so far have lost.
    pub fn lost_batches(&self) -> u64 {
        self.platter.lock().lost_batches
    }

    /// Shows a batch and says that it is durable, which it comes to be half a second later.
    fn lie(&self, write: u64) -> BoxFuture<'static, Result<(), DiskFailed>> {
        let (platter, lag) = (self.platter.clone(), Duration::from_millis(self.trace.roll(100..900)));
        let stamp = {
            let mut platter = platter.lock();
            platter.settle(write);
            platter.stamp
        };
        runtime::spawn(async move {
            runtime::sleep(lag).await;
            let mut platter = platter.lock();
            platter.durable = platter.durable.max(stamp.min(platter.stamp));
        });
        Box::pin(async { Ok(()) })
    }

    fn latency(&self) -> Duration {
        let slow = if self.trace.once_in(50) { self.trace.roll(0..40_000) } else { 0 };
        Duration::from_micros(self.trace.roll(50..4_000) + slow)
    }
}

impl Platter {
    fn settle_one(&mut self) {
        let Some((_, batch)) = self.waiting.pop_front() else { return };
        self.stamp += 1;
        for change in batch.0 {
            match change {
                Change::Put(space, key, value) => self.set((space, key), Some(value)),
                Change::Delete(space, key) => self.set((space, key), None),
                Change::DeleteRange(space, from, to) => {
                    let range = (Bound::Included((space, from)), Bound::Excluded((space, to)));
                    let keys: Vec<Key> = self.values.range(range).map(|(key, _)| key.clone()).collect();
                    keys.into_iter().for_each(|key| self.set(key, None));
                }
            }
        }
        self.sweep();
    }

    /// Loses what was settled but is not durable: nothing, on an honest disk.
    fn fall_back(&mut self, trace: &Trace) {
        let kept = self.durable + trace.roll(0..self.stamp - self.durable + 1);
        self.lost_batches += self.stamp - kept;
        for held in self.values.values_mut() {
            held.retain(|(stamp, _)| *stamp <= kept);
        }
        self.values.retain(|_, held| !held.is_empty());
        (self.stamp, self.durable) = (kept, kept);
    }

    fn settle(&mut self, write: u64) {
        while self.waiting.front().is_some_and(|(w, _)| *w <= write) {
            self.settle_one();
        }
    }

    fn set(&mut self, key: Key, value: Option<Bytes>) {
        let stamp = self.stamp;
        self.values.entry(key.clone()).or_default().push((stamp, value));
        self.stale.push_back((stamp, key));
    }

    /// Forgets what no view can see any more.
    fn sweep(&mut self) {
        let floor = self.pins.first_key_value().map_or(self.durable, |(stamp, _)| self.durable.min(*stamp));
        while self.stale.front().is_some_and(|(stamp, _)| *stamp <= floor) {
            let Some((_, key)) = self.stale.pop_front() else { return };
            let Some(held) = self.values.get_mut(&key) else { continue };
            let visible = held.iter().rposition(|(stamp, _)| *stamp <= floor).unwrap_or(0);
            held.drain(..visible);
            if matches!(held[..], [(stamp, None)] if stamp <= floor) {
                self.values.remove(&key);
            }
        }
    }

    fn read(&self, stamp: u64, space: Space, key: &[u8]) -> Option<Bytes> {
        let held = self.values.get(&(space, Bytes::copy_from_slice(key)))?;
        as_of(held, stamp)
    }

    fn scan(&self, stamp: u64, space: Space, from: &[u8], to: Option<&[u8]>, limit: usize) -> Vec<Pair> {
        let from = Bound::Included((space, Bytes::copy_from_slice(from)));
        let inside = |key: &Bytes| to.is_none_or(|to| key[..] < *to);
        let range = self.values.range((from, Bound::Unbounded)).take_while(|((s, k), _)| *s == space && inside(k));
        range.filter_map(|((_, k), held)| Some((k.clone(), as_of(held, stamp)?))).take(limit).collect()
    }
}

fn as_of(held: &[(u64, Option<Bytes>)], stamp: u64) -> Option<Bytes> {
    held.iter().rev().find(|(s, _)| *s <= stamp)?.1.clone()
}

impl Reading for SimDisk {
    fn read(&self, space: Space, key: &[u8]) -> Result<Option<Bytes>, DiskFailed> {
        Ok(self.platter.lock().read(u64::MAX, space, key))
    }

    fn scan(&self, space: Space, from: &[u8], to: Option<&[u8]>, limit: usize) -> Result<Vec<Pair>, DiskFailed> {
        Ok(self.platter.lock().scan(u64::MAX, space, from, to, limit))
    }
}

impl Disk for SimDisk {
    fn write(&self, batch: Batch) -> BoxFuture<'static, Result<(), DiskFailed>> {
        let latency = self.latency();
        let platter = self.platter.clone();
        let write = {
            let mut platter = platter.lock();
            platter.next_write += 1;
            let write = platter.next_write;
            platter.waiting.push_back((write, batch));
            write
        };
        if self.honesty == Honesty::Lying {
            return self.lie(write);
        }
        let (tx, rx) = oneshot::channel();
        runtime::spawn(async move {
            runtime::sleep(latency).await;
            let mut platter = platter.lock();
            platter.settle(write);
            platter.durable = platter.stamp;
            // Whoever dropped the future does not want to know.
            let _ = tx.send(());
        });
        Box::pin(async { rx.await.map_err(|_| failed("writing", "the node is gone")) })
    }

    fn pin(&self) -> Arc<dyn Reading> {
        let mut platter = self.platter.lock();
        let stamp = platter.stamp;
        *platter.pins.entry(stamp).or_default() += 1;
        Arc::new(Pin { platter: self.platter.clone(), stamp })
    }

    fn open(&self, name: &str) -> Result<Arc<dyn AppendFile>, DiskFailed> {
        self.platter.lock().files.entry(name.to_owned()).or_default();
        Ok(Arc::new(SimFile { disk: self.clone(), name: name.to_owned() }))
    }

    fn files(&self) -> Result<Vec<String>, DiskFailed> {
        Ok(self.platter.lock().files.keys().cloned().collect())
    }

    fn remove(&self, name: &str) -> Result<(), DiskFailed> {
        self.platter.lock().files.remove(name);
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
        let mut platter = self.platter.lock();
        let Some(count) = platter.pins.get_mut(&self.stamp) else { return };
        *count -= 1;
        if *count == 0 {
            platter.pins.remove(&self.stamp);
        }
    }
}

impl Reading for Pin {
    fn read(&self, space: Space, key: &[u8]) -> Result<Option<Bytes>, DiskFailed> {
        Ok(self.platter.lock().read(self.stamp, space, key))
    }

    fn scan(&self, space: Space, from: &[u8], to: Option<&[u8]>, limit: usize) -> Result<Vec<Pair>, DiskFailed> {
        Ok(self.platter.lock().scan(self.stamp, space, from, to, limit))
    }
}

struct SimFile {
    disk: SimDisk,
    name: String,
}

impl SimFile {
    fn with<R>(&self, doing: &'static str, f: impl FnOnce(&mut FileBytes) -> R) -> Result<R, DiskFailed> {
        let mut platter = self.disk.platter.lock();
        platter.files.get_mut(&self.name).map(f).ok_or_else(|| failed(doing, "the file was removed"))
    }
}

impl AppendFile for SimFile {
    fn append(&self, bytes: &[u8]) -> Result<(), DiskFailed> {
        self.with("appending", |file| file.bytes.extend_from_slice(bytes))
    }

    fn sync(&self) -> BoxFuture<'static, Result<(), DiskFailed>> {
        let latency = self.disk.latency();
        let (disk, name) = (self.disk.clone(), self.name.clone());
        let length = self.with("syncing", |file| file.bytes.len());
        Box::pin(async move {
            let length = length?;
            runtime::sleep(latency).await;
            let file = SimFile { disk, name };
            file.with("syncing", |file| file.synced = file.synced.max(length.min(file.bytes.len())))
        })
    }

    fn len(&self) -> Result<u64, DiskFailed> {
        self.with("measuring", |file| file.bytes.len() as u64)
    }

    fn read_at(&self, offset: u64, count: usize) -> Result<Vec<u8>, DiskFailed> {
        self.with("reading", |file| {
            let from = (offset as usize).min(file.bytes.len());
            let to = from.saturating_add(count).min(file.bytes.len());
            file.bytes[from..to].to_vec()
        })
    }

    fn cut(&self, length: u64) -> Result<(), DiskFailed> {
        self.with("cutting", |file| {
            file.bytes.truncate(length as usize);
            file.synced = file.synced.min(file.bytes.len());
        })
    }
}

fn failed(doing: &'static str, cause: &str) -> DiskFailed {
    DiskFailed { doing, cause: cause.into() }
}
