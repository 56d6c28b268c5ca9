//! claviger-checker: is a history of calls what one object per key, a register say, could have answered?
//!
//! Wing and Gong's search with Lowe's memory (Lowe, "Testing for linearizability", 2017), one key at a time, which is
//! sound because linearizability is local (Herlihy and Wing, 1990). An operation whose outcome nobody knows stays open:
//! it may take effect at any time after it began, or never. Of nobody's dependencies.

mod key;
mod list;

pub use key::{KeyChange, KeyFacts, KeyOp, KeyRefusal};

use list::Events;
use std::collections::{BTreeMap, BTreeSet};

/// A call together with its answer, as a step of the object that it was asked of. 0 is the object before the first step.
pub trait Step: Copy {
    /// The object's state afterwards; none when it could not have given that answer.
    fn step(self, state: u64) -> Option<u64>;
}

/// What was done to a register, and what was answered. 0 is what it holds before anybody wrote.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Op {
    /// It held this.
    Read(u64),
    /// It was made to hold this.
    Write(u64),
    /// It was made to hold `new` if it held `expected`.
    Cas {
        /// What it had to hold.
        expected: u64,
        /// What it was to hold then.
        new: u64,
        /// Whether it did; none when nobody knows.
        took: Option<bool>,
    },
}

impl Step for Op {
    fn step(self, state: u64) -> Option<u64> {
        match self {
            Op::Read(value) => (value == state).then_some(state),
            Op::Write(value) => Some(value),
            Op::Cas { expected, new, took: Some(true) } => (expected == state).then_some(new),
            Op::Cas { expected, took: Some(false), .. } => (expected != state).then_some(state),
            Op::Cas { expected, new, took: None } => Some(if expected == state { new } else { state }),
        }
    }
}

/// One operation, from outside. Times are of one clock, all different.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Call<O = Op> {
    /// Which object.
    pub key: u64,
    /// When it was asked for.
    pub began: u64,
    /// When it was answered; none when nobody knows what became of it.
    pub ended: Option<u64>,
    /// What it did.
    pub op: O,
}

/// What a check found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// One object per key could have said all this.
    Linearizable,
    /// No object could have said this of that key.
    Violated {
        /// Which object.
        key: u64,
    },
    /// The search took more steps than it was given.
    GaveUp {
        /// Which object.
        key: u64,
    },
}

/// Checks a history, key by key, with at most `steps_max` steps of search for each.
pub fn check<O: Step>(history: &[Call<O>], steps_max: u64) -> Verdict {
    let mut by_key: BTreeMap<u64, Vec<Call<O>>> = BTreeMap::new();
    for call in history {
        by_key.entry(call.key).or_default().push(*call);
    }
    let verdicts = by_key.into_iter().map(|(key, calls)| Search::new(&calls).run(key, steps_max));
    verdicts.into_iter().find(|v| *v != Verdict::Linearizable).unwrap_or(Verdict::Linearizable)
}

/// The search over one key: which calls have taken effect, in which order, and what state the
/// object is in.
struct Search<'a, O> {
    calls: &'a [Call<O>],
    events: Events,
    done: Vec<u64>,
    state: u64,
    /// Calls that took effect, each with the state before it.
    path: Vec<(usize, u64)>,
    /// Sets of done calls, with the state, from which no way leads to the end.
    seen: BTreeSet<(Vec<u64>, u64)>,
}

impl<'a, O: Step> Search<'a, O> {
    fn new(calls: &'a [Call<O>]) -> Self {
        let done = vec![0; calls.len().div_ceil(64)];
        Search { calls, events: Events::new(calls), done, state: 0, path: Vec::new(), seen: BTreeSet::new() }
    }

    fn run(mut self, key: u64, steps_max: u64) -> Verdict {
        let mut at = self.events.first();
        for _ in 0..steps_max {
            let Some(event) = at else { return Verdict::Linearizable };
            at = match self.events.call_of(event) {
                Some(call) if self.take(call) => self.events.first(),
                Some(_) => self.events.after(event),
                // A call that was answered must have taken effect by now; one that is open need not.
                None if self.events.is_open(event) => return Verdict::Linearizable,
                None => match self.back() {
                    Some(next) => next,
                    None => return Verdict::Violated { key },
                },
            };
        }
        Verdict::GaveUp { key }
    }

    /// Lets a call take effect, unless its answer does not fit or this point was reached before.
    fn take(&mut self, call: usize) -> bool {
        let Some(after) = self.calls[call].op.step(self.state) else { return false };
        // An open call that changes nothing need not happen: it may do better later.
        if self.calls[call].ended.is_none() && after == self.state {
            return false;
        }
        self.mark(call);
        if !self.seen.insert((self.done.clone(), after)) {
            self.mark(call);
            return false;
        }
        self.path.push((call, self.state));
        self.state = after;
        self.events.lift(call);
        true
    }

    /// Takes the last call back. What to look at next, inside; outside, none when there was no call left.
    fn back(&mut self) -> Option<Option<usize>> {
        let (call, before) = self.path.pop()?;
        self.state = before;
        self.mark(call);
        Some(self.events.unlift(call))
    }

    fn mark(&mut self, call: usize) {
        self.done[call / 64] ^= 1 << (call % 64);
    }
}

#[cfg(test)]
mod tests;
