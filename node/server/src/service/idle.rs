//! A stream whose caller neither sends nor reads does not hold its place for ever: it is let go, whoever polls it next is
//! told so.

use claviger_core::failure::{Failure, Why};
use claviger_world::runtime::{self, Instant, JoinHandle};
use futures_util::{Stream, StreamExt};
use parking_lot::Mutex;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

type Inner<T> = Pin<Box<dyn Stream<Item = Result<T, Failure>> + Send>>;

/// When something last happened.
#[derive(Clone)]
pub(crate) struct Touched(Arc<Mutex<Instant>>);

impl Touched {
    pub(crate) fn now() -> Self {
        Touched(Arc::new(Mutex::new(runtime::now())))
    }

    pub(crate) fn touch(&self) {
        *self.0.lock() = runtime::now();
    }

    fn at(&self) -> Instant {
        *self.0.lock()
    }
}

/// A stream that is let go when it was not touched for too long. Only for runtimes that are running.
pub(crate) struct Watched<T> {
    shared: Arc<Mutex<Shared<T>>>,
    touched: Touched,
    watch: JoinHandle<()>,
}

struct Shared<T> {
    /// None once it has been let go.
    inner: Option<Inner<T>>,
    waker: Option<Waker>,
    late: bool,
}

impl<T: Send + 'static> Watched<T> {
    pub(crate) fn new(
        inner: impl Stream<Item = Result<T, Failure>> + Send + 'static,
        touched: Touched,
        idle_max: Duration,
    ) -> Self {
        let shared = Arc::new(Mutex::new(Shared { inner: Some(Box::pin(inner)), waker: None, late: false }));
        let watch = runtime::spawn(watch(shared.clone(), touched.clone(), idle_max));
        Watched { shared, touched, watch }
    }
}

async fn watch<T>(shared: Arc<Mutex<Shared<T>>>, touched: Touched, idle_max: Duration) {
    loop {
        let due = touched.at() + idle_max;
        if due <= runtime::now() {
            break;
        }
        runtime::sleep_until(due).await;
    }
    let (inner, waker) = {
        let mut shared = shared.lock();
        shared.late = shared.inner.is_some();
        (shared.inner.take(), shared.waker.take())
    };
    // Dropped outside the lock: a page is written with it.
    drop(inner);
    if let Some(waker) = waker {
        waker.wake();
    }
}

impl<T> Stream for Watched<T> {
    type Item = Result<T, Failure>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let mut shared = self.shared.lock();
        let Some(inner) = &mut shared.inner else {
            let late = std::mem::take(&mut shared.late);
            return Poll::Ready(late.then(|| Err(Why::Deadline.into())));
        };
        let polled = inner.poll_next_unpin(cx);
        match &polled {
            Poll::Ready(Some(_)) => self.touched.touch(),
            Poll::Ready(None) => shared.inner = None,
            Poll::Pending => shared.waker = Some(cx.waker().clone()),
        }
        polled
    }
}

impl<T> Drop for Watched<T> {
    fn drop(&mut self) {
        self.watch.abort();
        // The watch may hold its share of it a little longer.
        let inner = self.shared.lock().inner.take();
        drop(inner);
    }
}
