//! How the story is told: short lines for somebody who watches, and every claim checked before it is told.

use crate::trouble::{Told, Trouble};
use std::fmt::Display;
use std::io::Write;
use std::time::Instant;

/// The teller. Remembers which step the story is at, so that a failure can name it.
pub struct Tale {
    began: Instant,
    step: usize,
    title: &'static str,
}

impl Default for Tale {
    fn default() -> Self {
        Tale { began: Instant::now(), step: 0, title: "before the first step" }
    }
}

impl Tale {
    /// Begins a step.
    pub fn step(&mut self, title: &'static str) {
        self.step += 1;
        self.title = title;
        say(format_args!("\n{:>2}. {title}", self.step));
    }

    /// Tells what was seen.
    pub fn tell(&self, what: impl Display) {
        say(format_args!("    {what}"));
    }

    /// Tells something that was compared, or ends the story.
    pub fn check(&self, good: bool, what: impl Display) -> Told<()> {
        if good {
            say(format_args!("    ok  {what}"));
            return Ok(());
        }
        Err(Trouble::new(format!("not so: {what}")))
    }

    /// Compares two values, and tells what their being equal means.
    pub fn same<T: PartialEq + std::fmt::Debug>(&self, found: &T, wanted: &T, what: impl Display) -> Told<()> {
        if found == wanted {
            return self.check(true, what);
        }
        Err(Trouble::new(format!("not so: {what}: wanted {wanted:?}, found {found:?}")))
    }

    /// Ends the story before its time.
    pub fn failed(&self, trouble: &Trouble) {
        say(format_args!("\nFAILED at step {}, {}: {trouble}", self.step, self.title));
    }

    /// Seconds since it began.
    pub fn seconds(&self) -> f64 {
        self.began.elapsed().as_secs_f64()
    }
}

/// One line on the standard output. A watcher who has gone away is no reason to stop.
pub fn say(line: impl Display) {
    writeln!(std::io::stdout(), "{line}").ok();
}
