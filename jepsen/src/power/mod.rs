//! Power cuts: three real nodes on file systems whose power is cut under full load, and everything that was acknowledged
//! held against what is there afterwards. Beside it two liars that the cuts must find out, and disks that fail or are
//! damaged. Needs root, for mounting.
//!
//! Must not contain: knowledge of what the nodes store. They are asked through their ports; only damage is done by hand.

pub mod check;
pub mod damage;
pub mod grounds;
pub mod history;
pub mod liar;
pub mod lots;
pub mod rights;
pub mod rounds;
pub mod volume;
pub mod writer;

use crate::demo::say;
use crate::trouble::Told;
use grounds::Grounds;
use liar::Liar;
use lots::Lots;
use rounds::{draw, round};

/// A part of the test.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// Cuts under honest nodes.
    Cuts,
    /// Cuts under nodes whose disks lie.
    Liars,
    /// Disks that fail or are damaged.
    Damage,
}

/// What came of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Power cuts under honest nodes.
    pub cuts: u64,
    /// Promises that were broken, and liars that were not found out.
    pub violations: u64,
}

/// Plays these parts. Each draws its lots from the seed for itself, so that one part alone repeats the same.
pub async fn run(seed: u64, cuts: u64, parts: &[Part]) -> Told<Tally> {
    let mut tally = Tally::default();
    for part in parts {
        let mut lots = Lots::new(seed);
        match part {
            Part::Cuts => honest(seed, cuts, &mut lots, &mut tally).await?,
            Part::Liars => liars(&mut lots, &mut tally).await?,
            Part::Damage => tally.violations += damage::all(&mut lots).await?.len() as u64,
        }
    }
    Ok(tally)
}

async fn honest(seed: u64, cuts: u64, lots: &mut Lots, tally: &mut Tally) -> Told<()> {
    let mut grounds = Grounds::found(lots, |_| Ok(())).await?;
    let (mut acknowledged, mut failed) = (0, 0);
    for number in 1..=cuts {
        let victims = draw(lots);
        let round = round(&mut grounds, victims, lots).await?;
        round.tell(number);
        tally.cuts += 1;
        (acknowledged, failed) = (acknowledged + round.acknowledged, failed + round.failed);
        if !round.verdict.wrongs.is_empty() {
            tally.violations += round.verdict.wrongs.len() as u64;
            let evidence = std::env::temp_dir().join(format!("claviger-powercut-evidence-{seed}-{number}"));
            grounds.save_evidence(&evidence)?;
            say(format_args!("         what the nodes said and stored: {}", evidence.display()));
            grounds = Grounds::found(lots, |_| Ok(())).await?;
        }
    }
    say(format_args!("honest nodes: {cuts} cuts, {acknowledged} calls acknowledged, {failed} failed"));
    Ok(())
}

async fn liars(lots: &mut Lots, tally: &mut Tally) -> Told<()> {
    for liar in Liar::ALL {
        say(format_args!("now {}, a majority cut each time; NOT GOOD is what must come", liar.name()));
        if liar.hunt(lots).await?.is_none() {
            tally.violations += 1;
        }
    }
    Ok(())
}
