//! The machine's clocks.

use claviger_core::time::UnixMs;
use claviger_world::clock::Clock;
use rustix::time::{ClockId, Timespec, clock_gettime};
use std::time::Duration;

/// The calendar, and `CLOCK_BOOTTIME`.
pub struct MachineClock;

impl Clock for MachineClock {
    fn now(&self) -> UnixMs {
        let since = span(clock_gettime(ClockId::Realtime));
        UnixMs(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
    }

    fn awake_and_asleep(&self) -> Duration {
        span(clock_gettime(ClockId::Boottime))
    }
}

/// A clock before its epoch reads as its epoch.
fn span(at: Timespec) -> Duration {
    let (seconds, nanos) = (u64::try_from(at.tv_sec), u32::try_from(at.tv_nsec));
    Duration::new(seconds.unwrap_or(0), nanos.unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_stopwatch_never_goes_back_and_the_calendar_is_of_this_age() {
        let mut last = MachineClock.awake_and_asleep();
        for _ in 0..1_000 {
            let now = MachineClock.awake_and_asleep();
            assert!(now >= last);
            last = now;
        }
        assert!(MachineClock.now() > UnixMs(1_700_000_000_000));
    }
}
