//! What happened, as a running hash: two runs of one seed must end with the same. And the dice of the world.

use crate::history::Moment;
use claviger_core::crypto;
use parking_lot::Mutex;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use std::collections::VecDeque;
use std::io::Write;
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// The world's record and its randomness. Nodes never see either.
pub struct Trace {
    epoch: tokio::time::Instant,
    lines: Mutex<Lines>,
    dice: Mutex<ChaCha8Rng>,
    order: AtomicU64,
    tales: Mutex<VecDeque<Tale>>,
}

/// Something that a reader of a failed run wants to know.
#[derive(Clone, Debug)]
pub struct Tale {
    /// Since the start of the run.
    pub at: Duration,
    /// Who: a node's number, 0 for the world, from 100 on clients.
    pub who: u64,
    /// What happened.
    pub what: String,
}

/// Tales that are kept: the newest.
const TALES_MAX: usize = 4_000;

struct Lines {
    digest: [u8; 32],
    count: u64,
    file: Option<std::fs::File>,
}

impl Trace {
    /// Starts at the present, inside a paused runtime. `file`, if there is one, gets every line.
    pub fn new(seed: u64, file: Option<std::fs::File>) -> Trace {
        Trace {
            epoch: tokio::time::Instant::now(),
            lines: Mutex::new(Lines { digest: [0; 32], count: 0, file }),
            dice: Mutex::new(ChaCha8Rng::seed_from_u64(seed)),
            order: AtomicU64::new(0),
            tales: Mutex::default(),
        }
    }

    /// The world's time since the start.
    pub fn elapsed(&self) -> Duration {
        self.epoch.elapsed()
    }

    /// Adds a line.
    ///
    /// # Panics
    /// When the file cannot be written.
    pub fn note(&self, who: u64, what: &str) {
        let line = format!("{} n{who} {what}\n", self.elapsed().as_nanos());
        let mut lines = self.lines.lock();
        lines.digest = crypto::sha256(&[&lines.digest, line.as_bytes()]).0;
        lines.count += 1;
        if let Some(file) = &mut lines.file {
            file.write_all(line.as_bytes()).expect("the trace file can be written");
        }
    }

    /// Adds a line that is told again when the run fails.
    pub fn tell(&self, who: u64, what: &str) {
        self.note(who, what);
        let mut tales = self.tales.lock();
        if tales.len() == TALES_MAX {
            tales.pop_front();
        }
        tales.push_back(Tale { at: self.elapsed(), who, what: what.to_owned() });
    }

    /// What was told, as far as it is kept.
    pub fn tales(&self) -> Vec<Tale> {
        self.tales.lock().iter().cloned().collect()
    }

    /// Now, different from every moment before.
    pub fn moment(&self) -> Moment {
        Moment { order: self.order.fetch_add(1, Ordering::Relaxed), at: self.elapsed() }
    }

    /// The hash over all lines so far, and how many there were.
    pub fn digest(&self) -> (String, u64) {
        let lines = self.lines.lock();
        (lines.digest[..8].iter().map(|b| format!("{b:02x}")).collect(), lines.count)
    }

    /// A number of that range.
    pub fn roll(&self, range: Range<u64>) -> u64 {
        self.dice.lock().random_range(range)
    }

    /// Yes, once in `times` on average.
    pub fn once_in(&self, times: u64) -> bool {
        self.roll(0..times) == 0
    }
}
