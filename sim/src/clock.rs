//! Clocks that are wrong: each stands off by something, runs fast or slow, and may be set.

use claviger_core::time::UnixMs;
use claviger_world::clock::Clock;
use claviger_world::runtime;
use parking_lot::Mutex;
use std::time::Duration;

/// A node's clock. Its rate is that of the node's context.
pub struct SkewedClock {
    /// What the calendar shows when the stopwatch shows nothing.
    calendar: Mutex<UnixMs>,
    start: runtime::Instant,
}

impl SkewedClock {
    /// A clock that shows `now`. Must be made inside the node's context.
    pub fn new(now: UnixMs) -> Self {
        SkewedClock { calendar: Mutex::new(now), start: runtime::now() }
    }

    /// Sets the calendar forward, or back.
    pub fn jump_ms(&self, ms: i64) {
        let mut calendar = self.calendar.lock();
        calendar.0 = calendar.0.saturating_add_signed(ms);
    }
}

impl Clock for SkewedClock {
    fn now(&self) -> UnixMs {
        let passed = self.awake_and_asleep().as_millis() as u64;
        self.calendar.lock().plus_ms(passed)
    }

    fn awake_and_asleep(&self) -> Duration {
        runtime::now() - self.start
    }
}
