//! The way of one logical call from node to node: whom to ask next, for how long, and when to give up.

use crate::call::{Repeat, draw};
use crate::config::Endpoint;
use crate::error::{Attempt, Error, Tried, Why};
use std::time::Duration;
use tokio::time::{Instant, sleep};

/// First and longest pause between two rounds through all nodes, in milliseconds.
const PAUSE_MS: u64 = 20;
const PAUSE_MS_MAX: u64 = 500;
/// Shortest time that a node gets while there are others to ask, in milliseconds.
const ATTEMPT_MS_MIN: u64 = 1_000;
/// Attempts that an error tells of, at most: the last ones.
const TRIED_MAX: usize = 16;

/// What to do now.
pub(crate) enum Next {
    /// Ask that node, and wait that long.
    Ask { index: usize, limit: Duration },
    /// Nobody can answer.
    GiveUp(Error),
}

pub(crate) struct Journey {
    choices: Vec<usize>,
    step: usize,
    ends: Instant,
    whole: Duration,
    repeat: Repeat,
    pause_ms: u64,
    /// Whether a node of this round may answer in a moment.
    hope: bool,
    /// What says most about this round, and the words that came with it.
    nearest: Option<(Why, String)>,
    tried: Vec<Tried>,
}

impl Journey {
    pub(crate) fn begin(choices: Vec<usize>, whole: Duration, repeat: Repeat) -> Self {
        let ends = Instant::now() + whole;
        Journey {
            choices,
            step: 0,
            ends,
            whole,
            repeat,
            pause_ms: PAUSE_MS,
            hope: false,
            nearest: None,
            tried: Vec::new(),
        }
    }

    /// The next node. After a round without an answer this waits a little, or gives up when there is nothing to wait for:
    /// when every node was sealed, unfounded or out of reach.
    pub(crate) async fn next(&mut self) -> Next {
        if self.step == self.choices.len() {
            if !self.hope {
                return self.give_up();
            }
            self.pause().await;
            (self.step, self.hope, self.nearest) = (0, false, self.nearest.take());
        }
        let left = self.ends.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return self.give_up();
        }
        let index = self.choices[self.step];
        self.step += 1;
        Next::Ask { index, limit: self.limit(left) }
    }

    /// Notes what an attempt came to; an error when it is final.
    pub(crate) fn came_to(&mut self, endpoint: &Endpoint, attempt: Attempt) -> Result<(), Error> {
        let (why, message, sent, broken) = match attempt {
            Attempt::Final(error) => return Err(error),
            Attempt::Elsewhere { why, message, sent, broken } => (why, message, sent, broken),
        };
        self.note(endpoint, why, &message);
        self.hope |=
            broken || matches!(why, Why::NoQuorum | Why::Overloaded | Why::Deadline | Why::Unknown | Why::Other);
        // Whoever says that it is sealed, or belongs to no cluster, has done nothing.
        let done_nothing = !broken && matches!(why, Why::Sealed | Why::NotFounded);
        if sent && !done_nothing && self.repeat == Repeat::Unsent {
            let why = if broken { Why::Unknown } else { why };
            return Err(Error::Unavailable { why, message, tried: std::mem::take(&mut self.tried) });
        }
        Ok(())
    }

    /// A hanging node must not use up the time in which another would have answered.
    fn limit(&self, left: Duration) -> Duration {
        if self.repeat == Repeat::Unsent || self.choices.len() == 1 {
            return left;
        }
        left.min((self.whole / 3).max(Duration::from_millis(ATTEMPT_MS_MIN)))
    }

    /// Waits between half of the pause and all of it, so that clients that failed together do not come back together.
    async fn pause(&mut self) {
        let half = Duration::from_millis(self.pause_ms) / 2;
        let left = self.ends.saturating_duration_since(Instant::now());
        sleep((half + half * u32::from(draw::<1>()[0]) / 255).min(left)).await;
        self.pause_ms = (self.pause_ms * 2).min(PAUSE_MS_MAX);
    }

    fn note(&mut self, endpoint: &Endpoint, why: Why, message: &str) {
        if self.tried.len() == TRIED_MAX {
            self.tried.remove(0);
        }
        self.tried.push(Tried { endpoint: endpoint.clone(), outcome: message.to_owned() });
        if self.nearest.as_ref().is_none_or(|(known, _)| telling(why) >= telling(*known)) {
            self.nearest = Some((why, message.to_owned()));
        }
    }

    fn give_up(&mut self) -> Next {
        let (why, message) = self.nearest.take().unwrap_or((Why::Deadline, "the deadline had passed already".into()));
        Next::GiveUp(Error::Unavailable { why, message, tried: std::mem::take(&mut self.tried) })
    }
}

/// How much a cause says about the cluster: a node that answered knows more than one that did not.
fn telling(why: Why) -> u8 {
    match why {
        Why::Unreachable => 0,
        Why::Deadline => 1,
        Why::Other | Why::Unknown => 2,
        Why::Overloaded => 3,
        Why::NoQuorum => 4,
        Why::NotFounded => 5,
        Why::Sealed => 6,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_has_done_nothing_ends_no_call() {
        let goes_on = |why, broken| {
            let mut journey = Journey::begin(vec![0, 1], Duration::from_secs(5), Repeat::Unsent);
            let endpoint = "127.0.0.1:1".parse().unwrap();
            journey.came_to(&endpoint, Attempt::Elsewhere { why, message: String::new(), sent: true, broken }).is_ok()
        };
        assert!(goes_on(Why::Sealed, false) && goes_on(Why::NotFounded, false));
        for (why, broken) in [(Why::Other, false), (Why::Overloaded, false), (Why::Deadline, true), (Why::Sealed, true)]
        {
            assert!(!goes_on(why, broken), "{why:?}");
        }
    }
}
