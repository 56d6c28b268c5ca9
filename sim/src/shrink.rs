//! From a run that breaks a promise to a smaller one that breaks the same: fewer faults, less time.
#![allow(clippy::disallowed_methods, reason = "around the runs, not in them: the wall clock is what is asked for")]

use crate::run::{Report, Wish, run};
use std::collections::BTreeSet;
use std::time::{Duration, Instant};

/// Longest that is looked for a smaller run, by the wall.
const SHRINK_MAX: Duration = Duration::from_secs(120);

/// The smallest run that was found to break the same promise, and what came of it.
pub fn shrunk(wish: &Wish, report: &Report) -> (Wish, Report) {
    let mut search = Search { best: (wish.clone(), report.clone()), start: Instant::now() };
    search.shorter();
    search.fewer();
    search.shorter();
    search.best
}

struct Search {
    best: (Wish, Report),
    start: Instant,
}

impl Search {
    /// Whether a smaller run breaks the same promise; it is the best then.
    fn try_one(&mut self, wish: Wish) -> bool {
        if self.start.elapsed() > SHRINK_MAX {
            return false;
        }
        let report = run(&Wish { trace_file: None, ..wish.clone() });
        let promise = self.best.1.broken[0].promise;
        let same = report.broken.iter().any(|broken| broken.promise == promise);
        if same {
            self.best = (wish, report);
        }
        same
    }

    /// Ends soon after the promise broke, then sooner.
    fn shorter(&mut self) {
        let (wish, report) = &self.best;
        let length = wish.length.unwrap_or(report.plan.length);
        let broke = report.broken[0].at + Duration::from_secs(5);
        let tries = [broke.min(length), length * 3 / 4, length / 2, length / 4];
        for length in tries {
            let now = self.best.0.length.unwrap_or(self.best.1.plan.length);
            if length < now {
                self.try_one(Wish { length: Some(Duration::from_secs(length.as_secs())), ..self.best.0.clone() });
            }
        }
    }

    /// Leaves out halves of the faults, then quarters, down to single ones (Zeller's delta debugging, 2002).
    fn fewer(&mut self) {
        let mut size = self.present().len().div_ceil(2);
        while size > 0 && self.start.elapsed() < SHRINK_MAX {
            for part in self.present().chunks(size).map(<[usize]>::to_vec).collect::<Vec<_>>() {
                let mut without: BTreeSet<usize> = self.best.0.without.clone();
                without.extend(part);
                self.try_one(Wish { without, ..self.best.0.clone() });
            }
            size = if size == 1 { 0 } else { size.div_ceil(2) };
        }
    }

    /// Faults that strike before the run is over.
    fn present(&self) -> Vec<usize> {
        let (wish, report) = &self.best;
        let length = wish.length.unwrap_or(report.plan.length);
        let strikes = report.plan.faults.iter().filter(|f| f.at < length && !wish.without.contains(&f.number));
        strikes.map(|f| f.number).collect()
    }
}
