//! Many seeds: on a few threads, for a while, until one breaks a promise.
#![allow(clippy::disallowed_methods, reason = "around the runs, not in them: the wall clock is what is asked for")]

use crate::promises::Promise;
use crate::run::{Report, Wish, run};
use claviger_core::mutants::Mutant;
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Longest that one seed may take, by the wall: one that takes longer hangs.
const SEED_WAIT: Duration = Duration::from_secs(400);

/// What is to be run.
pub struct Swarm {
    /// Seeds that found something once.
    pub kept: Vec<u64>,
    /// The first fresh seed; the others follow.
    pub base: u64,
    /// No seed is begun after that.
    pub time: Duration,
    /// Threads.
    pub jobs: usize,
    /// So many of the seeds are run twice.
    pub twice: u64,
    /// A bug to plant.
    pub mutant: Option<Mutant>,
    /// Whether a promise is said to be broken in any case.
    pub canary: bool,
}

/// What came of it.
#[derive(Default)]
pub struct Outcome {
    /// Seeds that were run.
    pub seeds: u64,
    /// Those that were long, busy and troubled enough.
    pub counted: u64,
    /// All together, in the world's time.
    pub simulated: Duration,
    /// Seeds that broke a promise.
    pub violations: u64,
    /// The first of them.
    pub broken: Option<(Wish, Report)>,
    /// Seeds whose second run had another trace.
    pub unequal: Vec<u64>,
    /// How many were compared.
    pub compared: u64,
    /// How often each promise was checked.
    pub checked: BTreeMap<Promise, u64>,
    /// How often each fault fired.
    pub faults: BTreeMap<String, u64>,
    /// Rare branches: runs that were to take it, reached, taken.
    pub rare: BTreeMap<&'static str, (u64, u64, u64)>,
    /// How often each of the three ways of a revocation was checked.
    pub revocations: [u64; 3],
    /// Keys whose history was too much work to search.
    pub gave_up: u64,
    /// Calls answered, refused, unknown; ceremonies.
    pub calls: (u64, u64, u64, u64),
}

impl Outcome {
    /// Promises that nothing could have broken in any run.
    pub fn unchecked(&self) -> Vec<Promise> {
        Promise::ALL.into_iter().filter(|p| self.checked.get(p).copied().unwrap_or(0) == 0).collect()
    }

    fn add(&mut self, wish: &Wish, report: Report) {
        self.seeds += 1;
        self.counted += u64::from(report.counts());
        self.simulated += report.lasted;
        for (promise, count) in &report.checked {
            *self.checked.entry(*promise).or_default() += count;
        }
        for (kind, count) in &report.tally.faults {
            *self.faults.entry(kind.to_string()).or_default() += count;
        }
        for (name, (on, reached, taken)) in &report.rare {
            let rare = self.rare.entry(name).or_default();
            *rare = (rare.0 + u64::from(*on), rare.1 + reached, rare.2 + taken);
        }
        self.revocations.iter_mut().zip(report.revocations).for_each(|(sum, count)| *sum += count);
        self.gave_up += report.gave_up;
        let tally = &report.tally;
        let calls = &mut self.calls;
        *calls =
            (calls.0 + tally.answered, calls.1 + tally.refused, calls.2 + tally.unknown, calls.3 + tally.ceremonies);
        if !report.broken.is_empty() {
            self.violations += 1;
            self.broken.get_or_insert((wish.clone(), report));
        }
    }
}

/// Runs them.
pub fn swarm(plan: &Swarm) -> Outcome {
    let (outcome, next, start) = (Mutex::new(Outcome::default()), AtomicU64::new(0), Instant::now());
    let busy: Vec<Mutex<Option<(u64, Instant)>>> = (0..plan.jobs).map(|_| Mutex::new(None)).collect();
    std::thread::scope(|scope| {
        let workers: Vec<_> =
            busy.iter().map(|busy| scope.spawn(|| work(plan, &next, start, &outcome, busy))).collect();
        while !workers.iter().all(std::thread::ScopedJoinHandle::is_finished) {
            std::thread::park_timeout(Duration::from_millis(500));
            busy.iter().for_each(|busy| stop_if_hung(*busy.lock()));
        }
    });
    outcome.into_inner()
}

fn work(
    plan: &Swarm,
    next: &AtomicU64,
    start: Instant,
    outcome: &Mutex<Outcome>,
    busy: &Mutex<Option<(u64, Instant)>>,
) {
    loop {
        let number = next.fetch_add(1, Ordering::Relaxed);
        let kept = plan.kept.get(number as usize).copied();
        let over = start.elapsed() > plan.time || outcome.lock().broken.is_some();
        if over && (kept.is_none() || outcome.lock().broken.is_some()) {
            return;
        }
        let seed = kept.unwrap_or_else(|| plan.base + number - plan.kept.len() as u64);
        let wish = Wish { seed, mutant: plan.mutant, canary: plan.canary, ..Wish::default() };
        *busy.lock() = Some((seed, Instant::now()));
        let report = run(&wish);
        // One that is kept, and fresh ones.
        let fresh = plan.kept.len() as u64;
        if plan.twice > 0 && (number == 0 || (fresh..fresh + plan.twice - 1).contains(&number)) {
            compare(&wish, &report, outcome);
        }
        *busy.lock() = None;
        outcome.lock().add(&wish, report);
    }
}

fn compare(wish: &Wish, first: &Report, outcome: &Mutex<Outcome>) {
    let second = run(wish);
    let mut outcome = outcome.lock();
    outcome.compared += 1;
    if second.digest != first.digest {
        outcome.unequal.push(wish.seed);
    }
}

/// A run that never comes to an end can be stopped by nothing but the end of the process.
fn stop_if_hung(busy: Option<(u64, Instant)>) {
    if let Some((seed, since)) = busy
        && since.elapsed() > SEED_WAIT
    {
        eprintln!("sim: seed {seed} does not come to an end; replay with: make sim SEED={seed}");
        std::process::exit(1);
    }
}
