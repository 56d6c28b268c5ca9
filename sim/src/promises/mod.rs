//! What must be true of every run: one file for each promise. A promise hears what happens, says how often it looked at a
//! case that could have broken it, and says what is broken; it never changes anything.

pub mod audit;
pub mod ciphertexts;
pub mod clear;
pub mod forged;
pub mod linearizable;
pub mod nonces;
pub mod once;
pub mod proven;
pub mod raft;
pub mod revocation;
pub mod roster;
pub mod sealed;
pub mod states;
pub mod survives;
pub mod threshold;
pub mod time;
pub mod versions;

use crate::trace::Trace;
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// What is promised.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Promise {
    /// What was acknowledged, or observed, survives.
    Survives,
    /// The metadata of each key behaves as one register.
    Linearizable,
    /// A version number is used once, for one material, and not before it is committed.
    Versions,
    /// Every ciphertext opens on every unsealed node, to its plaintext, with its context only.
    Ciphertexts,
    /// No two messages share salt and nonce.
    Nonces,
    /// Nothing works any more once its revocation was acknowledged (DESIGN §4 (a), (b), (c)).
    Revocation,
    /// A sealed node answers nothing of the data plane.
    Sealed,
    /// Below the threshold nothing opens; at the threshold it does.
    Threshold,
    /// A retried request happens once, an unknown outcome never twice.
    Once,
    /// Equal state at equal sequence.
    States,
    /// A node with another's state is opened only once others agree with it.
    Proven,
    /// One leader a term, logs match and are in order, committed entries never change, vote and term never go back.
    Raft,
    /// Nothing forged is applied.
    Forged,
    /// No record, file or frame holds a secret in the clear.
    Clear,
    /// Every answer has a page of its own, durable pages stay, and every book verifies.
    Audit,
    /// Only the roster is listened to.
    Roster,
    /// Time never goes back.
    Time,
    /// When faults end for a quorum the cluster answers again, in bounded time.
    Liveness,
    /// No node panics, nor ends without a reason that a fault gave it.
    Sound,
}

impl Promise {
    /// All of them.
    pub const ALL: [Promise; 19] = [
        Promise::Survives,
        Promise::Linearizable,
        Promise::Versions,
        Promise::Ciphertexts,
        Promise::Nonces,
        Promise::Revocation,
        Promise::Sealed,
        Promise::Threshold,
        Promise::Once,
        Promise::States,
        Promise::Proven,
        Promise::Raft,
        Promise::Forged,
        Promise::Clear,
        Promise::Audit,
        Promise::Roster,
        Promise::Time,
        Promise::Liveness,
        Promise::Sound,
    ];
}

impl fmt::Display for Promise {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Promise::Survives => "survives",
            Promise::Linearizable => "linearizable",
            Promise::Versions => "versions",
            Promise::Proven => "proven",
            Promise::Ciphertexts => "ciphertexts",
            Promise::Nonces => "nonces",
            Promise::Revocation => "revocation",
            Promise::Sealed => "sealed",
            Promise::Threshold => "threshold",
            Promise::Once => "once",
            Promise::States => "states",
            Promise::Raft => "raft",
            Promise::Forged => "forged",
            Promise::Clear => "clear",
            Promise::Audit => "audit",
            Promise::Roster => "roster",
            Promise::Time => "time",
            Promise::Liveness => "liveness",
            Promise::Sound => "sound",
        })
    }
}

/// A promise that is broken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Broken {
    /// Which.
    pub promise: Promise,
    /// When it was noticed, since the start of the run.
    pub at: Duration,
    /// What was seen.
    pub what: String,
}

/// Where all promises say what they found. A broken promise does not end the run: others may break too.
pub struct Board {
    trace: Arc<Trace>,
    broken: Mutex<Vec<Broken>>,
    checked: Mutex<BTreeMap<Promise, u64>>,
}

/// Broken promises that are kept. More say no more.
const BROKEN_MAX: usize = 200;

impl Board {
    /// An empty board.
    pub fn new(trace: Arc<Trace>) -> Arc<Board> {
        Arc::new(Board { trace, broken: Mutex::default(), checked: Mutex::default() })
    }

    /// Counts a case that could have broken the promise.
    pub fn checked(&self, promise: Promise) {
        *self.checked.lock().entry(promise).or_default() += 1;
    }

    /// Says that a promise is broken.
    pub fn broke(&self, promise: Promise, what: String) {
        self.trace.note(0, &format!("BROKEN {promise}: {what}"));
        let mut broken = self.broken.lock();
        if broken.len() < BROKEN_MAX {
            broken.push(Broken { promise, at: self.trace.elapsed(), what });
        }
    }

    /// Counts the case, and says that the promise is broken when it is.
    pub fn expect(&self, promise: Promise, good: bool, what: impl FnOnce() -> String) {
        self.checked(promise);
        if !good {
            self.broke(promise, what());
        }
    }

    /// Everything that is broken so far.
    pub fn broken(&self) -> Vec<Broken> {
        self.broken.lock().clone()
    }

    /// How often each promise was checked.
    pub fn counts(&self) -> BTreeMap<Promise, u64> {
        self.checked.lock().clone()
    }
}

/// Runs a test with a board, in a world whose time stands.
#[cfg(test)]
pub(crate) fn on_a_board<T>(test: impl FnOnce(Arc<Board>) -> T) -> T {
    let mut builder = tokio::runtime::Builder::new_current_thread();
    let runtime = builder.enable_time().start_paused(true).build().expect("a runtime can be made");
    runtime.block_on(async { test(Board::new(Arc::new(Trace::new(1, None)))) })
}
