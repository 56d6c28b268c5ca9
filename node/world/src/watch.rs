//! A value that many wait on, woken in the order that they began to wait: tokio's own wakes in an order that the
//! operating system's randomness decides, which no replay can repeat.

use parking_lot::{Mutex, RwLock, RwLockReadGuard};
use std::collections::BTreeMap;
use std::fmt;
use std::future::Future;
use std::ops::Deref;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

/// Nobody will change the value any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Closed;

impl fmt::Display for Closed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the sender is gone")
    }
}

impl std::error::Error for Closed {}

/// Makes a channel that holds `value`.
pub fn channel<T>(value: T) -> (Sender<T>, Receiver<T>) {
    let state = State { edition: 0, senders: 1, receivers: 1, next_ticket: 0, waiting: BTreeMap::new() };
    let shared = Arc::new(Shared { value: RwLock::new(value), state: Mutex::new(state) });
    (Sender(shared.clone()), Receiver { shared, seen: 0 })
}

struct Shared<T> {
    value: RwLock<T>,
    state: Mutex<State>,
}

struct State {
    /// Raised by every change.
    edition: u64,
    senders: usize,
    receivers: usize,
    next_ticket: u64,
    /// By ticket, so that who came first is woken first.
    waiting: BTreeMap<u64, Waker>,
}

impl<T> Shared<T> {
    fn wake(&self, change: impl FnOnce(&mut State)) {
        let waiting = {
            let mut state = self.state.lock();
            change(&mut state);
            std::mem::take(&mut state.waiting)
        };
        waiting.into_values().for_each(Waker::wake);
    }
}

/// The end that changes the value.
pub struct Sender<T>(Arc<Shared<T>>);

impl<T> Sender<T> {
    /// Replaces the value and wakes everybody. Gives it back when there is no receiver.
    pub fn send(&self, value: T) -> Result<(), T> {
        if self.0.state.lock().receivers == 0 {
            return Err(value);
        }
        self.replace(value);
        Ok(())
    }

    /// Replaces the value and wakes everybody, receivers or not.
    pub fn replace(&self, value: T) {
        *self.0.value.write() = value;
        self.0.wake(|state| state.edition += 1);
    }

    /// Changes the value in place; wakes everybody if `modify` says that it did.
    pub fn modify(&self, modify: impl FnOnce(&mut T) -> bool) -> bool {
        let modified = modify(&mut self.0.value.write());
        if modified {
            self.0.wake(|state| state.edition += 1);
        }
        modified
    }

    /// Looks at the value. Nobody can change it while the look lasts.
    pub fn borrow(&self) -> Ref<'_, T> {
        Ref(self.0.value.read())
    }

    /// A receiver that has seen the present value.
    pub fn subscribe(&self) -> Receiver<T> {
        let mut state = self.0.state.lock();
        state.receivers += 1;
        Receiver { shared: self.0.clone(), seen: state.edition }
    }
}

impl<T> Clone for Sender<T> {
    fn clone(&self) -> Self {
        self.0.state.lock().senders += 1;
        Sender(self.0.clone())
    }
}

impl<T> Drop for Sender<T> {
    fn drop(&mut self) {
        let last = {
            let mut state = self.0.state.lock();
            state.senders -= 1;
            state.senders == 0
        };
        if last {
            self.0.wake(|_| ());
        }
    }
}

/// The end that waits.
pub struct Receiver<T> {
    shared: Arc<Shared<T>>,
    seen: u64,
}

impl<T> Receiver<T> {
    /// Completes when the value is another than this receiver saw last, and counts it as seen.
    pub fn changed(&mut self) -> Changed<'_, T> {
        Changed { receiver: self, ticket: None }
    }

    /// Looks at the value without counting it as seen.
    pub fn borrow(&self) -> Ref<'_, T> {
        Ref(self.shared.value.read())
    }

    /// Looks at the value and counts it as seen.
    pub fn borrow_and_update(&mut self) -> Ref<'_, T> {
        let value = self.shared.value.read();
        self.seen = self.shared.state.lock().edition;
        Ref(value)
    }

    /// Completes with `pick`'s answer as soon as it gives one for the present value.
    pub async fn until<R>(&mut self, mut pick: impl FnMut(&T) -> Option<R>) -> Result<R, Closed> {
        loop {
            if let Some(answer) = pick(&self.borrow_and_update()) {
                return Ok(answer);
            }
            self.changed().await?;
        }
    }
}

impl<T> Clone for Receiver<T> {
    fn clone(&self) -> Self {
        self.shared.state.lock().receivers += 1;
        Receiver { shared: self.shared.clone(), seen: self.seen }
    }
}

impl<T> Drop for Receiver<T> {
    fn drop(&mut self) {
        self.shared.state.lock().receivers -= 1;
    }
}

/// A look at the value.
pub struct Ref<'a, T>(RwLockReadGuard<'a, T>);

impl<T> Deref for Ref<'_, T> {
    type Target = T;
    fn deref(&self) -> &T {
        &self.0
    }
}

/// Made by [`Receiver::changed`].
pub struct Changed<'a, T> {
    receiver: &'a mut Receiver<T>,
    ticket: Option<u64>,
}

impl<T> Future for Changed<'_, T> {
    type Output = Result<(), Closed>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let shared = self.receiver.shared.clone();
        let mut state = shared.state.lock();
        if state.edition != self.receiver.seen {
            self.receiver.seen = state.edition;
            return Poll::Ready(Ok(()));
        }
        if state.senders == 0 {
            return Poll::Ready(Err(Closed));
        }
        let ticket = *self.ticket.get_or_insert(state.next_ticket);
        state.next_ticket = state.next_ticket.max(ticket + 1);
        state.waiting.insert(ticket, cx.waker().clone());
        Poll::Pending
    }
}

impl<T> Drop for Changed<'_, T> {
    fn drop(&mut self) {
        if let Some(ticket) = self.ticket {
            self.receiver.shared.state.lock().waiting.remove(&ticket);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::task::noop_waker;
    use std::task::Wake;

    struct Note(u8, Arc<Mutex<Vec<u8>>>);

    impl Wake for Note {
        fn wake(self: Arc<Self>) {
            self.1.lock().push(self.0);
        }
    }

    #[test]
    fn who_waited_first_is_woken_first() {
        let (tx, rx) = channel(0);
        let woken = Arc::new(Mutex::new(Vec::new()));
        let mut receivers = [rx.clone(), rx.clone(), rx];
        let mut waits: Vec<_> = receivers.iter_mut().map(Receiver::changed).collect();
        for (wait, name) in [(1, b'b'), (0, b'a'), (2, b'c')] {
            let waker = Waker::from(Arc::new(Note(name, woken.clone())));
            assert!(Pin::new(&mut waits[wait]).poll(&mut Context::from_waker(&waker)).is_pending());
        }
        tx.replace(1);
        assert_eq!(*woken.lock(), b"bac");
    }

    #[test]
    fn a_change_is_seen_once_and_a_gone_sender_is_told() {
        let (tx, mut rx) = channel(0);
        let waker = noop_waker();
        let mut cx = Context::from_waker(&waker);
        assert!(tx.modify(|v| {
            *v = 5;
            true
        }));
        assert!(!tx.modify(|_| false));
        assert_eq!(Pin::new(&mut rx.changed()).poll(&mut cx), Poll::Ready(Ok(())));
        assert_eq!(*rx.borrow(), 5);
        assert!(Pin::new(&mut rx.changed()).poll(&mut cx).is_pending());
        drop(tx);
        assert_eq!(Pin::new(&mut rx.changed()).poll(&mut cx), Poll::Ready(Err(Closed)));
    }

    #[test]
    fn a_wait_given_up_leaves_nothing_behind() {
        let (tx, mut rx) = channel(0);
        let waker = noop_waker();
        assert!(Pin::new(&mut rx.changed()).poll(&mut Context::from_waker(&waker)).is_pending());
        assert!(tx.0.state.lock().waiting.is_empty());
        drop(rx);
        assert_eq!(tx.send(1), Err(1));
    }
}
