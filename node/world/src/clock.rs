//! What time it is, twice: by the calendar, and by a stopwatch that nobody sets.

use claviger_core::time::UnixMs;
use std::time::Duration;

/// The node's clock.
pub trait Clock: Send + Sync + 'static {
    /// The calendar, which may jump both ways.
    fn now(&self) -> UnixMs;

    /// Time since some fixed point, never going back, and counting what the machine slept through (`CLOCK_BOOTTIME`):
    /// what freshness is measured by.
    fn awake_and_asleep(&self) -> Duration;
}
