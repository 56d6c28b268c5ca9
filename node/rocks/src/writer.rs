//! The writer: one thread that drains its queue into one synced write, and stops for good at the first failure.

use claviger_world::disk::{Batch, BoxFuture, Change, DiskFailed};
use std::{io, sync::mpsc, thread};
use tokio::sync::oneshot;

/// Told, once and on the writer's thread, when a write failed. The node must end: nobody knows what the disk holds.
pub type FatalHook = Box<dyn Fn(&DiskFailed) + Send>;

/// Batches joined in one synced write, in bytes. One batch alone may be larger.
const GROUP_BYTES_MAX: usize = 4 << 20;

/// What the writer writes to.
pub(crate) trait Sink: Send + 'static {
    /// Writes the batches in their order, whole or not at all, and returns when they are durable.
    fn write(&mut self, group: &[Batch]) -> Result<(), DiskFailed>;
}

/// The queue's near end. The queue itself has no bound: who calls must not be held up, and waits for the future.
pub(crate) struct Writer {
    queue: Option<mpsc::Sender<Waiting>>,
    thread: Option<thread::JoinHandle<()>>,
}

struct Waiting {
    batch: Batch,
    done: oneshot::Sender<Result<(), DiskFailed>>,
}

impl Writer {
    /// Starts the thread.
    pub(crate) fn start(sink: impl Sink, fatal: FatalHook) -> io::Result<Writer> {
        let (queue, waiting) = mpsc::channel();
        let thread = thread::Builder::new().name("disk-writer".into());
        let thread = thread.spawn(move || run(&waiting, sink, &fatal))?;
        Ok(Writer { queue: Some(queue), thread: Some(thread) })
    }

    /// Queues a batch now; the future completes when it is durable.
    pub(crate) fn write(&self, batch: Batch) -> BoxFuture<'static, Result<(), DiskFailed>> {
        let (done, told) = oneshot::channel();
        if let Some(queue) = &self.queue {
            // A writer that is gone drops `done` with the batch, and the future says so.
            let _ = queue.send(Waiting { batch, done });
        }
        Box::pin(async move { told.await.unwrap_or_else(|_| Err(gone())) })
    }
}

impl Drop for Writer {
    /// Writes what is queued, then ends the thread.
    fn drop(&mut self) {
        self.queue = None;
        if let Some(thread) = self.thread.take() {
            // A writer that panicked has told its waiters by dropping them.
            let _ = thread.join();
        }
    }
}

fn run(queue: &mpsc::Receiver<Waiting>, mut sink: impl Sink, fatal: &FatalHook) {
    let mut failed: Option<DiskFailed> = None;
    while let Ok(first) = queue.recv() {
        let (group, waiters) = gather(first, queue);
        let result = match &failed {
            Some(failure) => Err(failure.clone()),
            None => sink.write(&group).inspect_err(|failure| {
                fatal(failure);
                failed = Some(failure.clone());
            }),
        };
        for waiter in waiters {
            // Whoever dropped the future does not want to know.
            let _ = waiter.send(result.clone());
        }
    }
}

type Group = (Vec<Batch>, Vec<oneshot::Sender<Result<(), DiskFailed>>>);

fn gather(first: Waiting, queue: &mpsc::Receiver<Waiting>) -> Group {
    let mut bytes = weight(&first.batch);
    let mut group = (vec![first.batch], vec![first.done]);
    while bytes < GROUP_BYTES_MAX {
        let Ok(next) = queue.try_recv() else { break };
        bytes += weight(&next.batch);
        group.0.push(next.batch);
        group.1.push(next.done);
    }
    group
}

fn weight(batch: &Batch) -> usize {
    let of = |change: &Change| match change {
        Change::Put(_, key, value) => key.len() + value.len(),
        Change::Delete(_, key) => key.len(),
        Change::DeleteRange(_, from, to) => from.len() + to.len(),
    };
    batch.0.iter().map(of).sum()
}

fn gone() -> DiskFailed {
    DiskFailed { doing: "writing a batch", cause: "the writer has ended".into() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use claviger_world::disk::Space;
    use std::sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    };

    /// Writes one group each time that it is let, so many of them, and then fails.
    struct Gated {
        gate: mpsc::Receiver<()>,
        good: usize,
        sizes: Arc<Mutex<Vec<usize>>>,
    }

    impl Sink for Gated {
        fn write(&mut self, group: &[Batch]) -> Result<(), DiskFailed> {
            self.gate.recv().expect("the test holds the gate");
            self.sizes.lock().unwrap().push(group.len());
            self.good = self.good.checked_sub(1).ok_or_else(failure)?;
            Ok(())
        }
    }

    fn gated(good: usize) -> (Gated, mpsc::Sender<()>, Arc<Mutex<Vec<usize>>>) {
        let ((open, gate), sizes) = (mpsc::channel(), Arc::default());
        (Gated { gate, good, sizes: Arc::clone(&sizes) }, open, sizes)
    }

    fn failure() -> DiskFailed {
        DiskFailed { doing: "writing a batch", cause: "fsync".into() }
    }

    fn batch(bytes: usize) -> Batch {
        let mut b = Batch::default();
        b.put(Space::Log, vec![0], vec![0; bytes]);
        b
    }

    #[tokio::test]
    async fn refuses_every_write_after_one_that_failed_and_says_so_once() {
        let (sink, open, sizes) = gated(1);
        let calls = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&calls);
        let writer = Writer::start(sink, Box::new(move |_| _ = counted.fetch_add(1, Ordering::SeqCst))).unwrap();

        let waiting: Vec<_> = (0..4).map(|_| writer.write(batch(GROUP_BYTES_MAX))).collect();
        open.send(()).unwrap();
        open.send(()).unwrap();
        let mut told = Vec::new();
        for write in waiting {
            told.push(write.await);
        }
        assert_eq!(told, [Ok(()), Err(failure()), Err(failure()), Err(failure())]);
        assert_eq!(writer.write(batch(1)).await, Err(failure()));
        assert_eq!(calls.load(Ordering::SeqCst), 1);
        assert_eq!(*sizes.lock().unwrap(), [1, 1], "nothing is written after a failure");
    }

    #[tokio::test]
    async fn what_waits_together_is_written_together() {
        let (sink, open, sizes) = gated(9);
        let writer = Writer::start(sink, Box::new(|_| ())).unwrap();
        let first = writer.write(batch(GROUP_BYTES_MAX)); // fills a group alone, and holds the thread at the gate
        let waiting: Vec<_> = (0..100).map(|_| writer.write(batch(1))).collect();
        open.send(()).unwrap();
        open.send(()).unwrap();
        assert_eq!(first.await, Ok(()));
        for write in waiting {
            assert_eq!(write.await, Ok(()));
        }
        assert_eq!(*sizes.lock().unwrap(), [1, 100]);
    }
}
