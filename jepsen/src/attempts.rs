//! What a client did, one line an attempt, and the gaps that follow from it.

use crate::trouble::{About, Told};
use serde::{Deserialize, Serialize};
use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

/// One call of one client, from asking to the answer.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Attempt {
    /// What it was about: a key's name.
    pub what: String,
    /// When it was asked, in microseconds since 1970.
    pub asked_us: u64,
    /// When the answer came, likewise.
    pub answered_us: u64,
    /// Whether the answer was yes.
    pub ok: bool,
    /// Why not, else empty.
    pub why: String,
}

/// A file of attempts, written as they end.
pub struct Journal {
    file: File,
}

impl Journal {
    /// A new file.
    pub fn create(path: &Path) -> Told<Journal> {
        let file = OpenOptions::new().create_new(true).append(true).open(path).about(path.display())?;
        Ok(Journal { file })
    }

    /// Adds a line.
    pub fn write(&mut self, attempt: &Attempt) -> Told<()> {
        let mut line = serde_json::to_vec(attempt)?;
        line.push(b'\n');
        Ok(self.file.write_all(&line)?)
    }
}

/// Reads a file of attempts.
pub fn read(path: &Path) -> Told<Vec<Attempt>> {
    let lines = BufReader::new(File::open(path).about(path.display())?).lines();
    lines.map(|line| Ok(serde_json::from_str(&line?)?)).collect()
}

/// Microseconds since 1970 by this host's clock.
pub fn now_us() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_micros()).unwrap_or(u64::MAX)
}

/// Longest time between two successes of which the later one came after `from_us`, in milliseconds. Nothing when
/// nothing succeeded after it.
pub fn gap_ms(attempts: &[Attempt], from_us: u64) -> Option<f64> {
    let good: Vec<u64> = attempts.iter().filter(|a| a.ok).map(|a| a.answered_us).collect();
    let pairs = good.windows(2).filter(|pair| pair[1] > from_us);
    let longest = pairs.map(|pair| pair[1] - pair[0]).max()?;
    Some(longest as f64 / 1000.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(answered_us: u64, ok: bool) -> Attempt {
        Attempt { what: String::new(), asked_us: answered_us, answered_us, ok, why: String::new() }
    }

    #[test]
    fn a_gap_is_between_successes_and_reaches_past_the_moment() {
        let attempts = [at(0, true), at(9_000, true), at(10_000, true), at(12_000, false), at(14_000, true)];
        assert_eq!(gap_ms(&attempts, 11_000), Some(4.0));
        assert_eq!(gap_ms(&attempts, 0), Some(9.0));
        assert_eq!(gap_ms(&attempts, 14_000), None);
    }
}
