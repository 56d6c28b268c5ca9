//! openraft's idea of a runtime, over ours: the same type in the daemon and in the simulator.

use claviger_world::runtime::{self, Jitter};
use claviger_world::watch;
use openraft_rt::watch::{RecvError, SendError};
use openraft_rt::{AsyncRuntime, OptionalSend, OptionalSync, Watch, WatchReceiver, WatchSender};
use openraft_rt_tokio::{TokioMpsc, TokioMutex, TokioOneshot};
use std::future::Future;
use std::io;
use std::ops::{Add, AddAssign, Deref, Sub, SubAssign};
use std::time::Duration;

#[derive(Debug)]
pub(crate) struct Runtime;

impl AsyncRuntime for Runtime {
    type JoinError = runtime::JoinError;
    type JoinHandle<T: OptionalSend + 'static> = runtime::JoinHandle<T>;
    type Sleep = runtime::Sleep;
    type Instant = Instant;
    type TimeoutError = runtime::Elapsed;
    type Timeout<R, T: Future<Output = R> + OptionalSend> = runtime::Timeout<T>;
    type ThreadLocalRng = Jitter;
    type Mpsc = TokioMpsc;
    type Watch = FairWatch;
    type Oneshot = TokioOneshot;
    type Mutex<T: OptionalSend + 'static> = TokioMutex<T>;

    fn spawn<T>(future: T) -> Self::JoinHandle<T::Output>
    where
        T: Future + OptionalSend + 'static,
        T::Output: OptionalSend + 'static,
    {
        runtime::spawn(future)
    }

    fn sleep(duration: Duration) -> Self::Sleep {
        runtime::sleep(duration)
    }

    fn sleep_until(deadline: Instant) -> Self::Sleep {
        runtime::sleep_until(deadline.0)
    }

    fn timeout<R, F: Future<Output = R> + OptionalSend>(duration: Duration, future: F) -> Self::Timeout<R, F> {
        runtime::timeout(duration, future)
    }

    fn timeout_at<R, F: Future<Output = R> + OptionalSend>(deadline: Instant, future: F) -> Self::Timeout<R, F> {
        runtime::timeout_at(deadline.0, future)
    }

    fn is_panic(error: &Self::JoinError) -> bool {
        error.is_panic()
    }

    fn thread_rng() -> Jitter {
        Jitter
    }

    fn new(_threads: usize) -> Self {
        Runtime
    }

    /// # Panics
    /// Always: the node runs inside the world's runtime and never starts one.
    fn block_on<F: Future<Output = T>, T>(&mut self, _future: F) -> T {
        panic!("the world owns the runtime")
    }

    /// Runs at once: no thread but the runtime's own may ever touch a simulation, and nothing of ours blocks.
    async fn spawn_blocking<F, T>(f: F) -> Result<T, io::Error>
    where
        F: FnOnce() -> T + Send + 'static,
        T: Send + 'static,
    {
        Ok(f())
    }
}

/// [`runtime::Instant`], as openraft wants it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Instant(runtime::Instant);

impl openraft_rt::Instant for Instant {
    fn now() -> Self {
        Instant(runtime::now())
    }
}

impl Add<Duration> for Instant {
    type Output = Instant;
    fn add(self, d: Duration) -> Instant {
        Instant(self.0 + d)
    }
}

impl AddAssign<Duration> for Instant {
    fn add_assign(&mut self, d: Duration) {
        self.0 += d;
    }
}

impl Sub<Duration> for Instant {
    type Output = Instant;
    fn sub(self, d: Duration) -> Instant {
        Instant(self.0 - d)
    }
}

impl SubAssign<Duration> for Instant {
    fn sub_assign(&mut self, d: Duration) {
        self.0 -= d;
    }
}

impl Sub<Instant> for Instant {
    type Output = Duration;
    fn sub(self, earlier: Instant) -> Duration {
        self.0 - earlier.0
    }
}

/// [`watch`], as openraft wants it.
pub(crate) struct FairWatch;

pub(crate) struct Sender<T>(watch::Sender<T>);
pub(crate) struct Receiver<T>(watch::Receiver<T>);
pub(crate) struct Ref<'a, T>(watch::Ref<'a, T>);

impl<T> Clone for Sender<T> {
    fn clone(&self) -> Self {
        Sender(self.0.clone())
    }
}

impl<T> Clone for Receiver<T> {
    fn clone(&self) -> Self {
        Receiver(self.0.clone())
    }
}

impl<T> Deref for Ref<'_, T> {
    type Target = T;
    fn deref(&self) -> &T {
        &self.0
    }
}

impl Watch for FairWatch {
    type Sender<T: OptionalSend + OptionalSync> = Sender<T>;
    type Receiver<T: OptionalSend + OptionalSync> = Receiver<T>;
    type Ref<'a, T: OptionalSend + 'a> = Ref<'a, T>;

    fn channel<T: OptionalSend + OptionalSync>(init: T) -> (Sender<T>, Receiver<T>) {
        let (tx, rx) = watch::channel(init);
        (Sender(tx), Receiver(rx))
    }
}

impl<T: OptionalSend + OptionalSync> WatchSender<FairWatch, T> for Sender<T> {
    fn send(&self, value: T) -> Result<(), SendError<T>> {
        self.0.send(value).map_err(SendError)
    }

    fn send_if_modified<F: FnOnce(&mut T) -> bool>(&self, modify: F) -> bool {
        self.0.modify(modify)
    }

    fn borrow_watched(&self) -> Ref<'_, T> {
        Ref(self.0.borrow())
    }

    fn subscribe(&self) -> Receiver<T> {
        Receiver(self.0.subscribe())
    }
}

impl<T: OptionalSend + OptionalSync> WatchReceiver<FairWatch, T> for Receiver<T> {
    async fn changed(&mut self) -> Result<(), RecvError> {
        self.0.changed().await.map_err(|_| RecvError(()))
    }

    fn borrow_watched(&self) -> Ref<'_, T> {
        Ref(self.0.borrow())
    }

    fn borrow_and_update(&mut self) -> Ref<'_, T> {
        Ref(self.0.borrow_and_update())
    }
}
