//! The disk that lies: a batch is acknowledged and can be read at once, and reaches the true disk a little later, as with
//! "sync every now and then", which databases offer as an option. Append-only files are left as they are.

use bytes::Bytes;
use claviger_world::disk::{AppendFile, Batch, BoxFuture, Change, Disk, DiskFailed, Pair, Reading, Space};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// How long a batch that was acknowledged may wait for its sync.
const SYNC_EVERY: Duration = Duration::from_millis(50);

/// The node's disk, and what is acknowledged but not on it.
pub struct Hasty {
    inner: Arc<dyn Disk>,
    owed: Arc<Mutex<Owed>>,
}

/// What the true disk is still owed.
#[derive(Default)]
struct Owed {
    batches: Vec<Batch>,
    written: u64,
    changes: Changes,
}

/// The newest value of each key that changed (nothing for a removal), and the number of the batch that brought it.
type Changes = BTreeMap<(Space, Bytes), (u64, Option<Bytes>)>;

impl Hasty {
    /// Puts itself over a disk. Called inside the node's runtime.
    pub fn over(inner: Arc<dyn Disk>) -> Arc<dyn Disk> {
        let owed = Arc::new(Mutex::new(Owed::default()));
        tokio::spawn(pay(inner.clone(), owed.clone()));
        Arc::new(Hasty { inner, owed })
    }

    fn owe(&self, batch: Batch) -> Result<(), DiskFailed> {
        let mut owed = lock(&self.owed);
        owed.written += 1;
        let number = owed.written;
        for change in &batch.0 {
            match change {
                Change::Put(space, key, value) => {
                    owed.changes.insert((*space, key.clone()), (number, Some(value.clone())));
                }
                Change::Delete(space, key) => _ = owed.changes.insert((*space, key.clone()), (number, None)),
                Change::DeleteRange(space, from, to) => {
                    for (key, _) in merged(&*self.inner, &owed.changes, *space, from, Some(to), usize::MAX)? {
                        owed.changes.insert((*space, key), (number, None));
                    }
                }
            }
        }
        owed.batches.push(batch);
        Ok(())
    }
}

/// Writes what is owed, again and again. A failure ends the process by the true disk's own hook.
async fn pay(inner: Arc<dyn Disk>, owed: Arc<Mutex<Owed>>) {
    loop {
        tokio::time::sleep(SYNC_EVERY).await;
        let (batches, upto) = {
            let mut owed = lock(&owed);
            (std::mem::take(&mut owed.batches), owed.written)
        };
        // All are queued before the first is awaited, so that they share a sync.
        let writes: Vec<_> = batches.into_iter().map(|batch| inner.write(batch)).collect();
        for write in writes {
            if write.await.is_err() {
                return;
            }
        }
        lock(&owed).changes.retain(|_, (number, _)| *number > upto);
    }
}

impl Reading for Hasty {
    fn read(&self, space: Space, key: &[u8]) -> Result<Option<Bytes>, DiskFailed> {
        value(&*self.inner, &lock(&self.owed).changes, space, key)
    }

    fn scan(&self, space: Space, from: &[u8], to: Option<&[u8]>, limit: usize) -> Result<Vec<Pair>, DiskFailed> {
        merged(&*self.inner, &lock(&self.owed).changes, space, from, to, limit)
    }
}

impl Disk for Hasty {
    fn write(&self, batch: Batch) -> BoxFuture<'static, Result<(), DiskFailed>> {
        let done = self.owe(batch);
        Box::pin(async move { done })
    }

    fn pin(&self) -> Arc<dyn Reading> {
        let owed = lock(&self.owed);
        Arc::new(View { inner: self.inner.pin(), changes: owed.changes.clone() })
    }

    fn open(&self, name: &str) -> Result<Arc<dyn AppendFile>, DiskFailed> {
        self.inner.open(name)
    }

    fn files(&self) -> Result<Vec<String>, DiskFailed> {
        self.inner.files()
    }

    fn remove(&self, name: &str) -> Result<(), DiskFailed> {
        self.inner.remove(name)
    }
}

/// One moment of both.
struct View {
    inner: Arc<dyn Reading>,
    changes: Changes,
}

impl Reading for View {
    fn read(&self, space: Space, key: &[u8]) -> Result<Option<Bytes>, DiskFailed> {
        value(&*self.inner, &self.changes, space, key)
    }

    fn scan(&self, space: Space, from: &[u8], to: Option<&[u8]>, limit: usize) -> Result<Vec<Pair>, DiskFailed> {
        merged(&*self.inner, &self.changes, space, from, to, limit)
    }
}

fn value(inner: &dyn Reading, changes: &Changes, space: Space, key: &[u8]) -> Result<Option<Bytes>, DiskFailed> {
    match changes.get(&(space, Bytes::copy_from_slice(key))) {
        Some((_, value)) => Ok(value.clone()),
        None => inner.read(space, key),
    }
}

/// What `inner` has, changed. As many more pairs are read as changes may take away.
fn merged(
    inner: &dyn Reading,
    changes: &Changes,
    space: Space,
    from: &[u8],
    to: Option<&[u8]>,
    limit: usize,
) -> Result<Vec<Pair>, DiskFailed> {
    let here = |key: &(Space, Bytes)| key.0 == space && to.is_none_or(|to| key.1 < to);
    let begin = (space, Bytes::copy_from_slice(from));
    let changed: Vec<_> = changes.range(begin..).take_while(|(key, _)| here(key)).collect();
    let mut pairs: BTreeMap<Bytes, Bytes> =
        inner.scan(space, from, to, limit.saturating_add(changed.len()))?.into_iter().collect();
    for ((_, key), (_, value)) in changed {
        match value {
            Some(value) => _ = pairs.insert(key.clone(), value.clone()),
            None => _ = pairs.remove(key),
        }
    }
    Ok(pairs.into_iter().take(limit).collect())
}

/// What the lock guards is whole after every step.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
