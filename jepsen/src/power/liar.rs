//! Disks that lie, to see that the cuts find them out: they say that something is durable before it is.

use super::grounds::Grounds;
use super::history::Wrong;
use super::lots::Lots;
use super::rounds::round;
use super::volume::Volume;
use crate::cluster::Cluster;
use crate::demo::say;
use crate::disk::compile;
use crate::trouble::Told;

/// Cuts of a majority within which a liar must be found out.
pub const CUTS_MAX: u64 = 20;
const LYING_SYNC: &str = include_str!("lying_sync.c");

/// Who lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Liar {
    /// The system: every sync answers yes and does nothing.
    Sync,
    /// The node's disk: it acknowledges a batch before it is synced.
    Early,
}

impl Liar {
    /// Both.
    pub const ALL: [Liar; 2] = [Liar::Sync, Liar::Early];

    /// In words.
    pub fn name(self) -> &'static str {
        match self {
            Liar::Sync => "a system whose syncs do nothing",
            Liar::Early => "a disk that acknowledges before it has synced",
        }
    }

    /// Puts it under every node of a cluster that does not run yet.
    fn settle(self, cluster: &mut Cluster) -> Told<()> {
        match self {
            Liar::Sync => {
                let library = compile(&cluster.folder, "lying_sync", LYING_SYNC)?;
                for node in &mut cluster.nodes {
                    node.environment.push(("LD_PRELOAD".into(), library.clone()));
                }
            }
            Liar::Early => cluster.nodes.iter_mut().for_each(|node| node.program = "claviger-hasty".into()),
        }
        Ok(())
    }

    /// Cuts majorities until it is found out; answers after how many cuts, or nothing.
    pub async fn hunt(self, lots: &mut Lots) -> Told<Option<u64>> {
        let mut grounds = Grounds::found(lots, |cluster| self.settle(cluster)).await?;
        for number in 1..=CUTS_MAX {
            // What is old is on the disk even under a liar: else the first cut would take the founding with it, and a
            // cluster without one cannot show what it has lost.
            grounds.volumes.iter().try_for_each(Volume::settle)?;
            let cut = lots.some(2, 3);
            let round = round(&mut grounds, cut, lots).await?;
            round.tell(number);
            let wrongs = &round.verdict.wrongs;
            let lost = wrongs.iter().find(|wrong| matches!(wrong, Wrong::Lost(_)));
            if let Some(proof) = lost.or_else(|| wrongs.iter().find(|wrong| wrong.proves())) {
                say(format_args!("found out at cut {number}: {}: {proof}", self.name()));
                return Ok(Some(number));
            }
            if !wrongs.is_empty() {
                // It hangs, which proves nothing, and goes on hanging: another cluster.
                grounds = Grounds::found(lots, |cluster| self.settle(cluster)).await?;
            }
        }
        say(format_args!("NOT found out in {CUTS_MAX} cuts: {}", self.name()));
        Ok(None)
    }
}
