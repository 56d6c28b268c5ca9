//! Rounds of power cuts under writers: who is cut is drawn by lot, everything is looked at afterwards.

use super::check::Verdict;
use super::grounds::Grounds;
use super::history::Wrong;
use super::lots::Lots;
use crate::demo::say;
use crate::trouble::{Told, Trouble};
use std::time::{Duration, Instant};

/// How long the writers write before a cut, in milliseconds: at least, and by lot as much again and more.
const BEFORE_MS: u64 = 700;
const BEFORE_MS_MORE: u64 = 2_500;
/// How long they go on after it, on what is left of the cluster.
const AFTER: Duration = Duration::from_millis(800);
/// Calls that must have been acknowledged before a cut: a cut of an idle cluster proves nothing.
const ACKNOWLEDGED_MIN: u64 = 20;
/// Lines about what is wrong, at most.
const WRONGS_TOLD: usize = 5;
const WRITES_WITHIN: Duration = Duration::from_secs(60);

/// What a round did and found.
pub struct Round {
    /// Who was cut.
    pub cut: Vec<u64>,
    /// How long was written before, in milliseconds.
    pub written_ms: u64,
    /// Calls that were acknowledged in this round.
    pub acknowledged: u64,
    /// Calls of this round that failed, or whose outcome is not known.
    pub failed: u64,
    /// What was found.
    pub verdict: Verdict,
}

/// One round: write, cut, write on where that is possible, come back, look.
pub async fn round(grounds: &mut Grounds, cut: Vec<u64>, lots: &mut Lots) -> Told<Round> {
    let written_ms = BEFORE_MS + lots.below(BEFORE_MS_MORE);
    let before = grounds.told();
    let crew = grounds.write()?;
    tokio::time::sleep(Duration::from_millis(written_ms)).await;
    let started = Instant::now();
    while crew.acknowledged() < ACKNOWLEDGED_MIN {
        if started.elapsed() > WRITES_WITHIN {
            return Err(Trouble::new("the writers get nothing done before the cut"));
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    grounds.cut(&cut)?;
    tokio::time::sleep(AFTER).await;
    grounds.rest(crew).await?;
    let after = grounds.told();
    grounds.remount(&cut)?;
    let verdict = grounds.come_back(&cut).await?;
    Ok(Round { cut, written_ms, acknowledged: after.0 - before.0, failed: after.1 - before.1, verdict })
}

/// Draws who is cut: of three nodes, one is a minority, two are a majority.
pub fn draw(lots: &mut Lots) -> Vec<u64> {
    let count = 1 + lots.index(3);
    lots.some(count, 3)
}

impl Round {
    /// One line for whoever watches, and one for each violation.
    pub fn tell(&self, number: u64) {
        let Round { written_ms, acknowledged, failed, verdict, .. } = self;
        let Verdict { versions, ciphertexts, pages, wrongs } = verdict;
        let outcome = if wrongs.is_empty() { "good" } else { "NOT GOOD" };
        say(format_args!(
            "cut {number:>3}: {} after {written_ms} ms of writing; acknowledged {acknowledged}, failed {failed}; \
             verified {versions} versions at 3 nodes, {ciphertexts} ciphertexts, {pages} pages; {outcome}",
            self.victims(),
        ));
        tell_wrongs(wrongs);
    }

    fn victims(&self) -> String {
        let names: Vec<_> = self.cut.iter().map(u64::to_string).collect();
        let share = ["nobody", "a minority", "a majority", "all"][self.cut.len().min(3)];
        format!("node {} ({share})", names.join("+"))
    }
}

/// The first of them: one loss mostly brings many.
pub fn tell_wrongs(wrongs: &[Wrong]) {
    for wrong in wrongs.iter().take(WRONGS_TOLD) {
        say(format_args!("         {wrong}"));
    }
    if wrongs.len() > WRONGS_TOLD {
        say(format_args!("         and {} more", wrongs.len() - WRONGS_TOLD));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everybody_and_every_number_is_drawn() {
        let mut lots = Lots::new(3);
        let drawn: std::collections::BTreeSet<_> = (0..200).map(|_| draw(&mut lots)).collect();
        assert_eq!(drawn.len(), 7, "{drawn:?}");
    }
}
