//! Clocks that are wrong: each stands off by something, runs fast or slow, and may be set.

use claviger_core::time::UnixMs;
use claviger_world::clock::Clock;
use claviger_world::runtime;
use parking_lot::Mutex;
use std::time::Duration;

/// A node's clock. Its rate is that of the node's context.
pub struct SkewedClock {
    /// What the calendar shows when the stopwatch shows nothing, in milliseconds: before 1970 too, after a jump back.
    calendar_ms: Mutex<i64>,
    start: runtime::Instant,
}

impl SkewedClock {
    /// A clock that shows `now`. Must be made inside the node's context.
    pub fn new(now: UnixMs) -> Self {
        SkewedClock { calendar_ms: Mutex::new(0_i64.saturating_add_unsigned(now.0)), start: runtime::now() }
    }

    /// Sets the calendar forward, or back. It shows nothing earlier than 1970, but remembers where it is.
    pub fn jump_ms(&self, ms: i64) {
        let mut calendar = self.calendar_ms.lock();
        *calendar = calendar.saturating_add(ms);
    }
}

impl Clock for SkewedClock {
    fn now(&self) -> UnixMs {
        let passed = self.awake_and_asleep().as_millis() as u64;
        UnixMs(self.calendar_ms.lock().saturating_add_unsigned(passed).max(0) as u64)
    }

    fn awake_and_asleep(&self) -> Duration {
        runtime::now() - self.start
    }
}
