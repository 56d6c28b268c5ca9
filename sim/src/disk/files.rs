//! Append-only files: of each, how much is synced, and whether the folder knows its name.

use super::{IO_ERROR, NO_SPACE, SimDisk, failed};
use claviger_world::disk::{AppendFile, BoxFuture, DiskFailed};
use claviger_world::runtime;
use std::sync::Arc;

#[derive(Default)]
pub(super) struct FileBytes {
    pub(super) bytes: Vec<u8>,
    pub(super) synced: usize,
    /// Whether it is there after a crash for certain: it was synced once, or has lived through one.
    pub(super) named: bool,
    /// A sync failed in this life: nobody knows what the file holds, and a second one would prove nothing.
    broken: Option<DiskFailed>,
    /// Cloned by whoever has it open.
    held: Arc<()>,
}

impl FileBytes {
    /// A file that was there before.
    pub(super) fn durable(bytes: &[u8]) -> FileBytes {
        FileBytes { bytes: bytes.to_vec(), synced: bytes.len(), named: true, ..FileBytes::default() }
    }

    /// Whether somebody has it open.
    pub(super) fn is_held(&self) -> bool {
        Arc::strong_count(&self.held) > 1
    }

    fn good(&self) -> Result<(), DiskFailed> {
        self.broken.clone().map_or(Ok(()), Err)
    }

    fn unsynced(&self, length: usize) -> bool {
        length.min(self.bytes.len()) > self.synced
    }

    fn make_durable(&mut self, length: usize) {
        self.synced = self.synced.max(length.min(self.bytes.len()));
        self.named = true;
    }

    /// Power is cut: `kept` bytes of the unsynced tail made it, the last write perhaps in part.
    pub(super) fn tear(&mut self, kept: usize) {
        self.bytes.truncate(self.synced + kept);
        (self.synced, self.named, self.broken) = (self.bytes.len(), true, None);
        self.held = Arc::default();
    }
}

pub(super) struct SimFile {
    disk: SimDisk,
    name: String,
    _held: Arc<()>,
}

impl SimFile {
    pub(super) fn new(disk: SimDisk, name: &str) -> SimFile {
        let held = disk.platter.lock().files.entry(name.to_owned()).or_default().held.clone();
        SimFile { disk, name: name.to_owned(), _held: held }
    }

    fn with<R>(&self, doing: &'static str, f: impl FnOnce(&mut FileBytes) -> R) -> Result<R, DiskFailed> {
        let mut platter = self.disk.platter.lock();
        platter.files.get_mut(&self.name).map(f).ok_or_else(|| failed(doing, "the file was removed"))
    }

    /// Makes the first `length` bytes durable, or breaks the file.
    fn finish_sync(&self, length: usize) -> Result<(), DiskFailed> {
        let mut platter = self.disk.platter.lock();
        let (full, fails) = (platter.full, platter.fail_next);
        let file = platter.files.get_mut(&self.name).ok_or_else(|| failed(SYNCING, "the file was removed"))?;
        file.good()?;
        let why = match (full && file.unsynced(length), fails) {
            (true, _) => failed(SYNCING, NO_SPACE),
            (false, true) => failed(SYNCING, IO_ERROR),
            (false, false) => {
                file.make_durable(length);
                return Ok(());
            }
        };
        // What was on its way may have come there all the same.
        if why.cause == IO_ERROR && self.disk.chances.failure.once_in(2) {
            file.make_durable(length);
        }
        file.broken = Some(why.clone());
        platter.fail_next &= why.cause != IO_ERROR;
        self.disk.tell(&why);
        Err(why)
    }
}

impl AppendFile for SimFile {
    fn append(&self, bytes: &[u8]) -> Result<(), DiskFailed> {
        let full = self.disk.platter.lock().full;
        self.with(APPENDING, |file| {
            file.good()?;
            if full && !bytes.is_empty() {
                return Err(failed(APPENDING, NO_SPACE));
            }
            file.bytes.extend_from_slice(bytes);
            Ok(())
        })?
    }

    fn sync(&self) -> BoxFuture<'static, Result<(), DiskFailed>> {
        let latency = self.disk.latency();
        let file = SimFile::new(self.disk.clone(), &self.name);
        let length = self.with(SYNCING, |file| file.bytes.len());
        Box::pin(async move {
            let length = length?;
            runtime::sleep(latency).await;
            file.finish_sync(length)
        })
    }

    fn len(&self) -> Result<u64, DiskFailed> {
        self.with("measuring a file", |file| file.bytes.len() as u64)
    }

    fn read_at(&self, offset: u64, count: usize) -> Result<Vec<u8>, DiskFailed> {
        self.with("reading a file", |file| {
            let from = (offset as usize).min(file.bytes.len());
            let to = from.saturating_add(count).min(file.bytes.len());
            file.bytes[from..to].to_vec()
        })
    }

    fn cut(&self, length: u64) -> Result<(), DiskFailed> {
        self.with("cutting a file", |file| {
            file.good()?;
            file.bytes.truncate(length as usize);
            file.synced = file.synced.min(file.bytes.len());
            Ok(())
        })?
    }
}

const APPENDING: &str = "appending to a file";
const SYNCING: &str = "syncing a file";
