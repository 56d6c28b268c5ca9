//! Tasks and time, one and the same for both worlds, over tokio.
//!
//! In the daemon this is plain multi-threaded tokio. In the simulator every task of a node carries that node's
//! [`Context`]: its own random stream, its own clock rate and offset, and the means to end all of them at once. Whoever
//! spawns, sleeps or looks at the time goes through here, and cannot tell which world it is in.

#![allow(clippy::disallowed_methods, reason = "this is where everybody else is sent to")]

use rand_core::TryRng;
use std::convert::Infallible;
use std::future::Future;
use std::hash::{BuildHasher, RandomState};
use std::ops::{Add, AddAssign, Sub, SubAssign};
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::{self, Poll, Waker};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::task::AbortHandle;
pub use tokio::task::{JoinError, JoinHandle};
pub use tokio::time::error::Elapsed;
pub use tokio::time::{Sleep, Timeout};

/// What a simulated node's tasks carry with them.
pub struct Context {
    id: u64,
    stream: AtomicU64,
    rate_ppm: i64,
    offset: Duration,
    epoch: tokio::time::Instant,
    tasks: Mutex<Tasks>,
    /// Whether the process is stopped, and who is to be woken when it goes on.
    stopped: Mutex<Option<Vec<Waker>>>,
    starved: Starved,
}

/// How short a node is of processors: once in so many steps a task waits, for up to so many microseconds. Never when 0.
#[derive(Default)]
struct Starved {
    once_in: AtomicU64,
    us_max: AtomicU64,
    stream: AtomicU64,
}

impl Starved {
    /// How long the next step of some task waits, if it does.
    fn wait(&self) -> Option<Duration> {
        let once_in = self.once_in.load(Ordering::Relaxed);
        if once_in == 0 || !splitmix(&self.stream).is_multiple_of(once_in) {
            return None;
        }
        let us_max = self.us_max.load(Ordering::Relaxed).max(1);
        Some(Duration::from_micros(splitmix(&self.stream) % us_max))
    }
}

#[derive(Default)]
struct Tasks {
    dead: bool,
    handles: Vec<AbortHandle>,
}

/// A task of a node, which stands still while the node is stopped, or has no processor for it.
struct Stoppable<F> {
    at: Arc<Context>,
    task: Pin<Box<F>>,
    waits: Option<Pin<Box<Sleep>>>,
}

impl<F: Future> Future for Stoppable<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, cx: &mut task::Context<'_>) -> Poll<F::Output> {
        if let Some(waiting) = &mut *self.at.stopped.lock() {
            waiting.push(cx.waker().clone());
            return Poll::Pending;
        }
        if self.waits.is_none() {
            self.waits = self.at.starved.wait().map(|wait| Box::pin(tokio::time::sleep(wait)));
        }
        if let Some(wait) = &mut self.waits {
            task::ready!(wait.as_mut().poll(cx));
            self.waits = None;
        }
        self.task.as_mut().poll(cx)
    }
}

impl Context {
    /// A node's context for one life, beginning now. `seed` starts its random stream; its clock stands at `offset` and
    /// gains `rate_ppm` microseconds a second. Must be called inside a tokio runtime.
    pub fn new(id: u64, seed: u64, rate_ppm: i64, offset: Duration) -> Arc<Context> {
        Arc::new(Context {
            id,
            stream: AtomicU64::new(seed),
            rate_ppm,
            offset,
            epoch: tokio::time::Instant::now(),
            tasks: Mutex::default(),
            stopped: Mutex::new(None),
            starved: Starved { stream: AtomicU64::new(seed ^ GOLDEN), ..Starved::default() },
        })
    }

    /// The number that it was made with.
    pub fn id(&self) -> u64 {
        self.id
    }

    /// Runs `future` as a task of this node. After [`Context::kill`] it never begins.
    pub fn spawn<F>(self: &Arc<Self>, future: F) -> JoinHandle<F::Output>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        let task = Stoppable { at: self.clone(), task: Box::pin(future), waits: None };
        let handle = tokio::spawn(HERE.scope(self.clone(), task));
        let mut tasks = self.tasks.lock();
        if tasks.dead {
            handle.abort();
            return handle;
        }
        if tasks.handles.len() >= HANDLES_BEFORE_SWEEP {
            tasks.handles.retain(|h| !h.is_finished());
        }
        tasks.handles.push(handle.abort_handle());
        handle
    }

    /// Ends every task of the node where it stands, as a power cut would. Nothing graceful runs.
    pub fn kill(&self) {
        let mut tasks = self.tasks.lock();
        tasks.dead = true;
        tasks.handles.drain(..).for_each(|h| h.abort());
    }

    /// Stops every task of the node where it stands, as SIGSTOP would: its clocks go on.
    pub fn stop(&self) {
        self.stopped.lock().get_or_insert_default();
    }

    /// Lets the tasks of a stopped node go on, all late.
    pub fn go_on(&self) {
        let waiting = self.stopped.lock().take();
        waiting.into_iter().flatten().for_each(Waker::wake);
    }

    /// Has tasks of the node wait before a step, once in `once_in`, for up to `us_max` microseconds: as threads do on a
    /// machine that is short of processors. 0 ends it.
    pub fn starve(&self, once_in: u64, us_max: u64) {
        self.starved.us_max.store(us_max, Ordering::Relaxed);
        self.starved.once_in.store(once_in, Ordering::Relaxed);
    }

    /// Whether the node is stopped.
    pub fn is_stopped(&self) -> bool {
        self.stopped.lock().is_some()
    }

    /// Whether [`Context::kill`] was called.
    pub fn is_dead(&self) -> bool {
        self.tasks.lock().dead
    }

    /// This node's stopwatch, from the start of its life, as fast or slow as it runs.
    fn stopwatch(&self) -> Duration {
        let nanos = self.epoch.elapsed().as_nanos() as i128;
        let skewed = nanos + nanos * i128::from(self.rate_ppm) / MILLION;
        Duration::from_nanos(skewed.max(0) as u64) + self.offset
    }

    /// How long the world must wait until this node's stopwatch has surely gained `local`: rounded up, for who wakes
    /// before the time that was waited for goes to sleep again, at once and for nothing.
    fn worldly(&self, local: Duration) -> Duration {
        if local.is_zero() {
            return local;
        }
        let nanos = local.as_nanos().min(u128::from(u64::MAX)) as i128;
        let rate = MILLION + i128::from(self.rate_ppm);
        Duration::from_nanos(((nanos * MILLION + rate - 1) / rate) as u64)
    }
}

/// A point on this node's stopwatch. Instants of different nodes must not be compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Instant(Duration);

impl Instant {
    /// Time from `earlier` to here, none when it is not earlier.
    pub fn since(self, earlier: Instant) -> Duration {
        self.0.saturating_sub(earlier.0)
    }

    /// How long it is until this instant comes, none when it is past.
    pub fn remaining(self) -> Duration {
        self.since(now())
    }
}

impl Add<Duration> for Instant {
    type Output = Instant;
    fn add(self, d: Duration) -> Instant {
        Instant(self.0.saturating_add(d))
    }
}

impl AddAssign<Duration> for Instant {
    fn add_assign(&mut self, d: Duration) {
        *self = *self + d;
    }
}

impl Sub<Duration> for Instant {
    type Output = Instant;
    fn sub(self, d: Duration) -> Instant {
        Instant(self.0.saturating_sub(d))
    }
}

impl SubAssign<Duration> for Instant {
    fn sub_assign(&mut self, d: Duration) {
        *self = *self - d;
    }
}

impl Sub<Instant> for Instant {
    type Output = Duration;
    fn sub(self, earlier: Instant) -> Duration {
        self.since(earlier)
    }
}

/// What time it is on this node's stopwatch.
pub fn now() -> Instant {
    let since_start = match here() {
        Some(context) => context.stopwatch(),
        None => process_epoch().elapsed(),
    };
    Instant(since_start + BEFORE_THE_START)
}

/// Runs `future` as a task of the node that the caller belongs to.
pub fn spawn<F>(future: F) -> JoinHandle<F::Output>
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    match here() {
        Some(context) => context.spawn(future),
        None => tokio::spawn(future),
    }
}

/// Waits for `duration` on this node's stopwatch.
pub fn sleep(duration: Duration) -> Sleep {
    tokio::time::sleep(worldly(duration))
}

/// Waits until this node's stopwatch shows `instant`.
pub fn sleep_until(instant: Instant) -> Sleep {
    sleep(instant.remaining())
}

/// Polls `future` for at most `duration` on this node's stopwatch.
pub fn timeout<F: Future>(duration: Duration, future: F) -> Timeout<F> {
    tokio::time::timeout(worldly(duration), future)
}

/// Polls `future` until this node's stopwatch shows `instant`, at least once.
pub fn timeout_at<F: Future>(instant: Instant, future: F) -> Timeout<F> {
    timeout(instant.remaining(), future)
}

/// Lets other tasks run.
pub async fn yield_now() {
    tokio::task::yield_now().await;
}

/// The context of the node that the caller belongs to; none in the daemon.
pub fn here() -> Option<Arc<Context>> {
    HERE.try_with(Arc::clone).ok()
}

/// A number to spread retries and elections with. Not for secrets: those come from [`crate::entropy`].
pub fn jitter() -> u64 {
    match here() {
        Some(context) => splitmix(&context.stream),
        None => splitmix(PROCESS_STREAM.get_or_init(|| AtomicU64::new(RandomState::new().hash_one(0_u8)))),
    }
}

/// A generator over [`jitter`], for libraries that want one. Not for secrets.
pub struct Jitter;

impl TryRng for Jitter {
    type Error = Infallible;
    fn try_next_u32(&mut self) -> Result<u32, Infallible> {
        Ok((jitter() >> 32) as u32)
    }
    fn try_next_u64(&mut self) -> Result<u64, Infallible> {
        Ok(jitter())
    }
    fn try_fill_bytes(&mut self, out: &mut [u8]) -> Result<(), Infallible> {
        for chunk in out.chunks_mut(8) {
            let bytes = jitter().to_le_bytes();
            chunk.copy_from_slice(&bytes[..chunk.len()]);
        }
        Ok(())
    }
}

fn worldly(local: Duration) -> Duration {
    here().map_or(local, |context| context.worldly(local))
}

fn process_epoch() -> tokio::time::Instant {
    *PROCESS_EPOCH.get_or_init(tokio::time::Instant::now)
}

/// SplitMix64 (Steele, Lea and Flood, 2014).
fn splitmix(state: &AtomicU64) -> u64 {
    let mut z = state.fetch_add(GOLDEN, Ordering::Relaxed).wrapping_add(GOLDEN);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

tokio::task_local! { static HERE: Arc<Context>; }

static PROCESS_EPOCH: OnceLock<tokio::time::Instant> = OnceLock::new();
static PROCESS_STREAM: OnceLock<AtomicU64> = OnceLock::new();

/// Where a stopwatch starts, so that subtracting a lease from an early instant loses nothing.
const BEFORE_THE_START: Duration = Duration::from_secs(3_600);
/// Finished tasks are forgotten when this many are on the list.
const HANDLES_BEFORE_SWEEP: usize = 512;
const MILLION: i128 = 1_000_000;
const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;

#[cfg(test)]
mod tests {
    use super::*;

    fn paused(future: impl Future<Output = ()>) {
        let mut builder = tokio::runtime::Builder::new_current_thread();
        builder.enable_time().start_paused(true).build().unwrap().block_on(future);
    }

    #[test]
    fn a_fast_clock_sleeps_less_of_the_worlds_time() {
        paused(async {
            let fast = Context::new(1, 0, 100_000, Duration::from_secs(7));
            let start = tokio::time::Instant::now();
            let local = fast.spawn(async {
                let before = now();
                sleep(Duration::from_secs(11)).await;
                now() - before
            });
            let local = local.await.unwrap();
            assert_eq!(start.elapsed().as_millis(), 10_000);
            assert_eq!(local.as_millis(), 11_000);
        });
    }

    #[test]
    fn nobody_wakes_before_the_instant() {
        paused(async {
            for rate in [-20_000, -777, 0, 333, 19_999] {
                let node = Context::new(1, 0, rate, Duration::from_nanos(7));
                let early = node.spawn(async {
                    let mut early = 0;
                    for n in 1..500 {
                        let instant = now() + Duration::from_nanos(n * 1_237_771);
                        sleep_until(instant).await;
                        early += u64::from(now() < instant);
                    }
                    early
                });
                assert_eq!(early.await.unwrap(), 0, "{rate}");
            }
        });
    }

    #[test]
    fn a_killed_node_does_nothing_more() {
        paused(async {
            let node = Context::new(1, 0, 0, Duration::ZERO);
            let counted = Arc::new(AtomicU64::new(0));
            let inner = counted.clone();
            let outer = node.spawn(async move {
                loop {
                    let inner = inner.clone();
                    spawn(async move { inner.fetch_add(1, Ordering::Relaxed) });
                    sleep(Duration::from_millis(10)).await;
                }
            });
            sleep(Duration::from_millis(95)).await;
            node.kill();
            assert!(outer.await.unwrap_err().is_cancelled());
            let at_death = counted.load(Ordering::Relaxed);
            assert_eq!(at_death, 10);
            assert!(node.spawn(async {}).await.unwrap_err().is_cancelled());
            sleep(Duration::from_secs(1)).await;
            assert_eq!(counted.load(Ordering::Relaxed), at_death);
        });
    }

    #[test]
    fn a_stopped_node_does_nothing_until_it_goes_on() {
        paused(async {
            let node = Context::new(1, 0, 0, Duration::ZERO);
            let counted = Arc::new(AtomicU64::new(0));
            let inner = counted.clone();
            let ticking = node.spawn(async move {
                for _ in 0..10 {
                    sleep(Duration::from_millis(10)).await;
                    inner.fetch_add(1, Ordering::Relaxed);
                }
                now()
            });
            sleep(Duration::from_millis(35)).await;
            node.stop();
            sleep(Duration::from_secs(60)).await;
            assert_eq!(counted.load(Ordering::Relaxed), 3);
            node.go_on();
            let late = ticking.await.unwrap() - Instant(BEFORE_THE_START);
            assert_eq!((counted.load(Ordering::Relaxed), late.as_secs()), (10, 60));
        });
    }

    #[test]
    fn a_starved_node_does_the_same_later() {
        paused(async {
            let steps = |us_max| {
                let node = Context::new(1, 3, 0, Duration::ZERO);
                node.starve(4, us_max);
                node.spawn(async {
                    let before = now();
                    for _ in 0..100 {
                        sleep(Duration::from_millis(1)).await;
                    }
                    (now() - before).as_millis()
                })
            };
            let (free, starved) = (steps(1).await.unwrap(), steps(1_000_000).await.unwrap());
            assert!(starved > free + 1_000, "{free} {starved}");
        });
    }

    #[test]
    fn equal_seeds_give_equal_streams() {
        paused(async {
            let draw = |seed| {
                let node = Context::new(1, seed, 0, Duration::ZERO);
                node.spawn(async { [jitter(), jitter(), jitter()] })
            };
            let (a, b, c) = (draw(5).await.unwrap(), draw(5).await.unwrap(), draw(6).await.unwrap());
            assert_eq!(a, b);
            assert_ne!(a, c);
        });
    }
}
