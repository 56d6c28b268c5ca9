//! Answers that are given one right after the other leave a connection in one piece. Each write is a system call, a TLS record
//! and a waking at the other end, which together cost more than an encryption.
//!
//! Nothing is kept here: HTTP/2 keeps what it could not write yet, and offers it again with what has come since.

use std::pin::pin;
use std::task::{Context, Poll};

/// What is as long is written at once, in bytes: half of what HTTP/2 gathers before it must write.
const HELD_BYTES_MAX: usize = 8 << 10;

/// What waits to be written to one connection.
#[derive(Default)]
pub(crate) struct Hold {
    /// Bytes that were offered last and not taken; 0 for none.
    bytes: usize,
}

impl Hold {
    /// Whether so many bytes that are offered wait, because more follows. They do as long as they grow. Whoever offers them
    /// is woken when all who can run have.
    pub fn waits(&mut self, cx: &mut Context<'_>, bytes: usize, more_follows: impl Fn() -> bool) -> bool {
        let waits = bytes > self.bytes && bytes < HELD_BYTES_MAX && more_follows();
        self.bytes = if waits { bytes } else { 0 };
        waits && later(cx)
    }
}

/// Has the task woken when those who can run have. To poll it once is what does it; nobody waits for it.
fn later(cx: &mut Context<'_>) -> bool {
    matches!(pin!(tokio::task::yield_now()).poll(cx), Poll::Pending)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;
    use std::future::poll_fn;

    fn offered(hold: &mut Hold, cx: &mut Context<'_>, bytes: usize, more: bool) -> bool {
        hold.waits(cx, bytes, || more)
    }

    #[tokio::test]
    async fn it_waits_while_it_grows_and_more_follows() {
        let mut hold = Hold::default();
        poll_fn(|cx| {
            assert!(!offered(&mut hold, cx, 100, false), "nothing follows");
            assert!(offered(&mut hold, cx, 100, true) && offered(&mut hold, cx, 200, true));
            assert!(!offered(&mut hold, cx, 200, true), "it has not grown");
            assert!(offered(&mut hold, cx, 300, true), "what was taken is forgotten");
            assert!(!offered(&mut hold, cx, 400, false), "nothing follows any more");
            assert!(offered(&mut hold, cx, HELD_BYTES_MAX - 1, true));
            assert!(!offered(&mut hold, cx, HELD_BYTES_MAX, true), "it is enough");
            Poll::Ready(())
        })
        .await;
    }

    #[tokio::test]
    async fn whoever_waits_is_woken_when_the_others_have_run() {
        let (mut hold, others) = (Hold::default(), Cell::new(0));
        let waiting = poll_fn(|cx| match offered(&mut hold, cx, 100, others.get() < 2) {
            true => Poll::Pending,
            false => Poll::Ready(others.get()),
        });
        let one = async { others.set(others.get() + 1) };
        let two = async { others.set(others.get() + 1) };
        assert_eq!(futures_util::join!(waiting, one, two).0, 2);
    }
}
