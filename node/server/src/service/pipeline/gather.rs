//! When the items of a stream are read: once most of those are here that are likely to come.

use claviger_world::runtime::{self, Instant, Sleep};
use futures_util::FutureExt;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

/// Longest that items wait for others.
const WAIT: Duration = Duration::from_millis(1);
/// They wait while there are fewer than one for each so many that were read together before.
const FEW: usize = 4;
/// Only where that was so shortly ago: what comes long after them comes alone.
const JUST_NOW: Duration = Duration::from_millis(5);

/// What a stream knows of how its items come.
///
/// A caller with many items under way sends a new one for each answer. The answers go in one piece, and so do the new
/// items, but for the first, which the caller's transport sends off while the others are being made. Read alone it has a
/// round of its own, which costs as much as that of all the others, and so has the one that takes its place.
#[derive(Default)]
pub(super) struct Gather {
    /// Items that were read together last, and when.
    before: Option<(usize, Instant)>,
    wait: Option<Pin<Box<Sleep>>>,
}

impl Gather {
    /// Whether so many are read now; else it is asked again when others have come, or have not in time. `more`: whether
    /// others are taken at all.
    pub fn is_over(&mut self, come: usize, more: bool, cx: &mut Context<'_>) -> bool {
        if more && self.are_few(come) && self.wait(cx).is_pending() {
            return false;
        }
        *self = Gather { before: Some((come, runtime::now())), wait: None };
        true
    }

    /// Once they wait, the time that this takes does not count.
    fn are_few(&self, come: usize) -> bool {
        let recent = |at: Instant| self.wait.is_some() || runtime::now() - at < JUST_NOW;
        self.before.is_some_and(|(before, at)| come * FEW < before && recent(at))
    }

    fn wait(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.wait.get_or_insert_with(|| Box::pin(runtime::sleep(WAIT))).poll_unpin(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::task::Waker;
    use tokio::time::advance;

    fn over(gather: &mut Gather, come: usize, more: bool) -> bool {
        gather.is_over(come, more, &mut Context::from_waker(Waker::noop()))
    }

    #[tokio::test(start_paused = true)]
    async fn the_first_of_many_waits_for_the_others() {
        let mut gather = Gather::default();
        assert!(over(&mut gather, 64, true), "nothing is known yet");
        assert!(!over(&mut gather, 1, true) && !over(&mut gather, 15, true));
        assert!(over(&mut gather, 16, true), "those are many enough");
        assert!(!over(&mut gather, 3, true), "of sixteen");
        assert!(over(&mut gather, 3, false), "no others are taken");
        assert!(over(&mut gather, 1, true), "of three that is no small part");
    }

    #[tokio::test(start_paused = true)]
    async fn nobody_waits_for_long_or_twice() {
        let mut gather = Gather::default();
        assert!(over(&mut gather, 64, true) && !over(&mut gather, 1, true));
        advance(WAIT / 2).await;
        assert!(!over(&mut gather, 2, true), "others that come do not put it off");
        advance(WAIT).await;
        assert!(over(&mut gather, 2, true));
        assert!(over(&mut gather, 1, true), "and the next one does not wait");
    }

    #[tokio::test(start_paused = true)]
    async fn what_comes_long_after_many_does_not_wait() {
        let mut gather = Gather::default();
        assert!(over(&mut gather, 64, true));
        advance(JUST_NOW).await;
        assert!(over(&mut gather, 1, true));
    }
}
