//! Lets go of the log's beginning: what a snapshot covers and nobody who is near needs. openraft does it, and waits for what
//! it has on its way to others; how much is kept is decided here, because openraft counts entries and not bytes, and knows
//! no end of waiting for a follower that is away.

use crate::raft::Raft;
use crate::raft::extent::{Bound, Extent};
use crate::raft::intake::Intake;
use crate::raft::log::Log;
use crate::raft::store::Stage;
use crate::words::Timings;
use openraft_rt::WatchReceiver;
use std::sync::Arc;

/// Sees to it that the log does not grow without end.
pub(crate) struct Purger {
    pub raft: Raft,
    pub log: Log,
    pub stage: Arc<Stage>,
    pub intake: Intake,
    pub bounds: Bounds,
}

/// Raft has stopped.
struct Stopped;

/// What one of the others needs of the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Need {
    /// The first index.
    index: u64,
    /// Bytes that were spent already on bringing it so far. A log that is not longer is kept for it, else a snapshot that
    /// comes faster than the log grows could still be overtaken by it, again and again.
    spent: u64,
}

/// How much of the log is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Bounds {
    /// Behind the last entry applied, whoever needs it.
    pub usual: Bound,
    /// For a follower that needs it.
    pub most: Bound,
    /// Entries that may come on top before anything is done: it is done for many at once.
    pub slack_entries: u64,
}

impl Bounds {
    /// As configured.
    pub fn of(timings: &Timings) -> Bounds {
        let usual = Bound { entries: timings.log_entries_kept, bytes: timings.log_bytes_kept };
        let most = Bound {
            entries: timings.log_entries_max.max(usual.entries),
            bytes: timings.log_bytes_max.max(usual.bytes),
        };
        Bounds { usual, most, slack_entries: timings.snapshot_entries }
    }

    /// Whether it is time to look.
    fn exceeded(&self, size: Bound) -> bool {
        let entries = self.usual.entries.saturating_add(self.slack_entries);
        size.entries > entries || size.bytes > self.usual.bytes.saturating_add(self.usual.bytes / 4)
    }

    /// The first index to be kept. `needs` has, for each follower, the first index that it needs: one that is kept for as
    /// long as it is near, and not a step longer.
    fn first_kept(&self, extent: &Extent, needs: &[Need]) -> u64 {
        let (usual, most) = (extent.fits(self.usual), extent.fits(self.most));
        let worth = |need: &Need| extent.fits(Bound { entries: u64::MAX, bytes: need.spent });
        let near = needs.iter().filter(|need| need.index >= most.min(worth(need)));
        near.map(|need| need.index).min().unwrap_or(usual).min(usual)
    }
}

impl Purger {
    /// Looks after every batch that was applied.
    pub async fn run(self) {
        let mut revision = self.stage.revision.subscribe();
        let mut asked = 0;
        while revision.changed().await.is_ok() {
            self.intake.tidy().await;
            // Whoever leads now sends its own; a picture that nobody asks for keeps old versions alive on the disk.
            if !self.raft.is_leader() {
                *self.stage.sending.lock() = None;
            }
            let Some(first) = self.first_kept() else { continue };
            if first > asked && first > 0 {
                let Ok(done) = self.purge(first - 1).await else { return };
                asked = if done { first } else { asked };
            }
        }
    }

    /// No lock is held over another: what others need is asked for between two looks at the log.
    fn first_kept(&self) -> Option<u64> {
        if !self.log.extent(|extent| self.bounds.exceeded(extent.size())) {
            return None;
        }
        let needs = self.needs();
        Some(self.log.extent(|extent| self.bounds.first_kept(extent, &needs)))
    }

    /// Has it go if a snapshot covers it. Else has one taken, which costs nothing: it goes after one of the next batches.
    /// Fails when Raft has stopped.
    async fn purge(&self, upto: u64) -> Result<bool, Stopped> {
        let covered = self.raft.metrics().borrow_watched().snapshot.is_some_and(|last| last.index >= upto);
        let asked = match covered {
            true => self.raft.trigger().purge_log(upto).await,
            false => self.raft.trigger().snapshot().await,
        };
        asked.map(|()| covered).map_err(|_| Stopped)
    }

    /// What others need of the log: followers, and whoever takes a snapshot in.
    fn needs(&self) -> Vec<Need> {
        let metrics = self.raft.metrics().borrow_watched().clone();
        let matched = metrics.replication.into_iter().flatten().map(|(_, id)| id.map_or(0, |id| id.index + 1));
        let sending = self
            .stage
            .sending
            .lock()
            .clone()
            .and_then(|picture| Some(Need { index: picture.last()?.index + 1, spent: picture.cut_bytes() }));
        matched.map(|index| Need { index, spent: 0 }).chain(sending).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOUNDS: Bounds = Bounds {
        usual: Bound { entries: 10, bytes: 1_000 },
        most: Bound { entries: 50, bytes: 5_000 },
        slack_entries: 5,
    };

    fn log(entries: u64, bytes: usize) -> Extent {
        let mut extent = Extent::begin(0);
        (0..entries).for_each(|index| extent.push(index, bytes));
        extent
    }

    #[test]
    fn nothing_is_done_before_there_is_enough_of_it() {
        let exceeded = |entries, bytes| BOUNDS.exceeded(log(entries, bytes).size());
        assert_eq!([exceeded(15, 1), exceeded(16, 1), exceeded(5, 250), exceeded(5, 251)], [false, true, false, true]);
    }

    fn needs(indexes: &[u64]) -> Vec<Need> {
        indexes.iter().map(|index| Need { index: *index, spent: 0 }).collect()
    }

    #[test]
    fn what_follows_a_picture_is_kept_as_long_as_it_is_shorter_than_what_was_sent_of_it() {
        let extent = log(100, 10);
        let kept = |spent| BOUNDS.first_kept(&extent, &[Need { index: 20, spent }]);
        assert_eq!([kept(0), kept(799), kept(800), kept(10_000)], [90, 90, 20, 20]);
    }

    #[test]
    fn a_follower_that_is_near_keeps_what_it_needs_and_one_that_is_away_does_not() {
        let extent = log(100, 10);
        assert_eq!(BOUNDS.first_kept(&extent, &needs(&[])), 90);
        assert_eq!(BOUNDS.first_kept(&extent, &needs(&[99, 100])), 90, "whoever has all keeps nothing");
        assert_eq!(BOUNDS.first_kept(&extent, &needs(&[99, 60])), 60);
        assert_eq!(BOUNDS.first_kept(&extent, &needs(&[50, 60])), 50);
        assert_eq!(
            BOUNDS.first_kept(&extent, &needs(&[49, 0])),
            90,
            "they need a snapshot, and nothing else helps them"
        );
        assert_eq!(BOUNDS.first_kept(&extent, &needs(&[49, 60])), 60);
    }

    #[test]
    fn bytes_count_as_entries_do() {
        let extent = log(100, 200);
        assert_eq!(BOUNDS.first_kept(&extent, &needs(&[])), 95);
        assert_eq!(BOUNDS.first_kept(&extent, &needs(&[75])), 75);
        assert_eq!(BOUNDS.first_kept(&extent, &needs(&[74])), 95, "more than 5,000 bytes");
    }
}
