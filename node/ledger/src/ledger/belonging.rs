//! Which cluster a node belongs to, and who else does: founding, joining, restoring, going on alone.

use super::{Ledger, Parts};
use crate::Company;
use crate::acquaint::Acquainted;
use crate::machine::lineage_of;
use crate::raft::restore::{RestoreFailed, Restoring};
use crate::raft::snapshot::place_of;
use crate::succession;
use crate::words::{Fatal, InitializeFailed, PinRefused, Proof};
use claviger_core::address::Announcement;
use claviger_core::chain::Chain;
use claviger_core::mandate::SignedMandate;
use claviger_core::name::{Lineage, NodeId, VerifyingKey};
use claviger_core::roster::{Genesis, Roster};
use claviger_core::snapshot::LogPlace;
use claviger_world::disk::DiskFailed;
use claviger_world::network::CallFailed;
use claviger_world::runtime;
use openraft::EmptyNode;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

/// Longest that the beginning of Raft waits for what others know of this node's disk.
const ANSWERED_WAIT: Duration = Duration::from_secs(10);

/// A cluster that a node has been told of, with the proof.
pub struct Met(Acquainted);

impl Met {
    /// Its members.
    pub fn roster(&self) -> Option<&Roster> {
        self.0.ahead.chain.roster()
    }

    /// The genesis that the lineage is the hash of.
    pub fn genesis(&self) -> Option<&Genesis> {
        self.0.ahead.chain.founding().map(|founding| &founding.genesis)
    }
}

impl Ledger {
    /// The pinned genesis.
    pub fn genesis(&self) -> Option<Genesis> {
        self.0.files.genesis()
    }

    /// The pinned lineage.
    pub fn lineage(&self) -> Option<Lineage> {
        self.0.peers.lineage()
    }

    /// Pins a genesis, durably. The same one again is fine. Until then no peer is listened to.
    pub async fn pin_genesis(&self, genesis: &Genesis) -> Result<Lineage, PinRefused> {
        let (parts, genesis) = (self.0.clone(), genesis.clone());
        to_the_end(async move { parts.pin(genesis).await }).await
    }

    /// How a cluster stands that this node does not belong to yet, as whoever listens at `address` proves it from the
    /// lineage on.
    pub async fn meet(&self, address: &str, lineage: Lineage) -> Result<Met, CallFailed> {
        self.0.acquaint.meet(address, lineage).await.map(Met)
    }

    /// Pins the genesis of a cluster whose newest roster has this node with this disk, durably. The same one again is fine.
    pub async fn join(&self, met: Met) -> Result<Lineage, PinRefused> {
        let parts = self.0.clone();
        to_the_end(async move { parts.join(met).await }).await
    }

    /// What proves to others how the cluster stands; none before the founding.
    pub fn proof(&self) -> Option<Proof> {
        self.0.acquaint.proof()
    }

    /// The newest roster that this node has proven: its records may be behind it.
    pub fn roster(&self) -> Option<Roster> {
        self.0.peers.roster()
    }

    /// Whether the bearer of that key was a member once and is none any more.
    pub fn has_left(&self, key: &VerifyingKey) -> bool {
        self.0.peers.has_left(key)
    }

    /// Everybody whom this node could ask: the members, and whoever is configured and has not left.
    pub fn others(&self) -> BTreeSet<NodeId> {
        self.0.peers.others()
    }

    /// Where a node listens for its peers: as it announced, else as configured.
    pub fn address(&self, node: NodeId) -> Option<String> {
        self.0.peers.address(node)
    }

    /// Tells the others where this node listens, from now on.
    pub fn announce(&self, said: Announcement) {
        self.0.peers.announce(said);
    }

    /// Forgets a genesis that came to nothing. Refused once the log or the machine holds a founding. When Raft has begun
    /// with it, the observer is told [`Fatal::Abandoned`]: the next start clears what it left.
    pub async fn abandon_genesis(&self) -> Result<(), PinRefused> {
        let parts = self.0.clone();
        to_the_end(async move { parts.abandon().await }).await
    }

    /// Whether log or machine holds a founding, or anything but blank and membership entries: then it cannot be
    /// abandoned.
    pub fn founding_begun(&self) -> bool {
        self.0.log.begun() || self.0.stage.machine.lock().begun()
    }

    /// Begins Raft with these voters, on one node, once, when all have pinned the genesis.
    pub async fn initialize(&self, voters: &BTreeSet<NodeId>) -> Result<(), InitializeFailed> {
        if self.lineage().is_none() || !self.0.peers.knows_all(voters.iter().map(|v| v.0)) {
            return Err(InitializeFailed::NotFounded);
        }
        self.answered().await?;
        let members: BTreeMap<u64, EmptyNode> = voters.iter().map(|v| (v.0, EmptyNode {})).collect();
        self.0.raft.initialize(members).await.map_err(|failed| match failed.api_error() {
            Some(_) => InitializeFailed::Begun,
            None => InitializeFailed::Stopped,
        })
    }

    /// A node that has started in the middle of a founding asks the others first, like any other.
    async fn answered(&self) -> Result<(), InitializeFailed> {
        let mut answered = self.0.recall.answered.subscribe();
        match runtime::timeout(ANSWERED_WAIT, answered.until(|answered| answered.then_some(()))).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) => Err(InitializeFailed::Stopped),
            Err(_) => Err(InitializeFailed::NotFounded),
        }
    }

    /// Takes a snapshot out of a file, on a node that belongs to no cluster.
    ///
    /// # Errors
    /// When it belongs to one, or takes another already.
    pub async fn restore(&self) -> Result<Restoring, RestoreFailed> {
        let parts = &self.0;
        let _turn = parts.pinning.lock().await;
        if parts.files.genesis().is_some() || self.founding_begun() || !parts.log.is_empty() {
            return Err(RestoreFailed::NotEmpty);
        }
        let desk = parts.intake.desk().map_err(|_| RestoreFailed::NotEmpty)?;
        Restoring::begin(parts.disk.clone(), parts.stage.clone(), desk).await
    }

    /// Keeps a mandate that makes this node go on alone, durably. The observer is told [`Fatal::Mandated`]: the next start
    /// carries it out.
    ///
    /// # Errors
    /// When the disk fails, which ends the node.
    pub async fn succeed(&self, mandate: SignedMandate) -> Result<(), DiskFailed> {
        let parts = self.0.clone();
        let keeping = runtime::spawn(async move {
            let _turn = parts.pinning.lock().await;
            let kept = succession::keep(&*parts.disk, mandate).await;
            parts.halt.halt(match &kept {
                Ok(()) => Fatal::Mandated,
                Err(failed) => Fatal::Disk(failed.clone()),
            });
            kept
        });
        let ended = || DiskFailed { doing: "keeping the custodians' mandate", cause: "the node is ending".into() };
        keeping.await.unwrap_or_else(|_| Err(ended()))
    }

    /// The mandate by which this node votes alone, as long as the generation that it begins has not begun.
    pub fn alone(&self) -> Option<SignedMandate> {
        self.0.peers.alone().cloned()
    }

    /// Who keeps this node from going on alone, from that chain: asks everybody whom it could, and waits two seconds at most.
    pub async fn company(&self, chain: &Chain) -> Option<Company> {
        self.0.acquaint.company(chain).await
    }

    /// Where this node's log ends.
    pub fn log_end(&self) -> Option<LogPlace> {
        self.0.log.last().as_ref().map(place_of)
    }

    /// Whether others have proven more of the header chain to this node than its records hold.
    pub fn is_behind_its_chain(&self) -> bool {
        self.0.peers.ahead().is_some()
    }

    /// Genesis, header chain and roster as this node's records have them.
    pub fn chain(&self) -> Arc<Chain> {
        self.view().0.chain.clone()
    }
}

impl Parts {
    async fn pin(&self, genesis: Genesis) -> Result<Lineage, PinRefused> {
        let _turn = self.pinning.lock().await;
        self.files.pin(&self.config, &genesis).await?;
        let lineage = lineage_of(&genesis);
        self.remember_of(lineage).await?;
        self.peers.pin(Some(genesis));
        Ok(lineage)
    }

    /// What is known of others' disks is of the cluster that is pinned: in another one it begins anew.
    async fn remember_of(&self, lineage: Lineage) -> Result<(), PinRefused> {
        if self.peers.lineage() == Some(lineage) {
            return Ok(());
        }
        self.recall.memory.forget(Some(lineage)).await.map_err(PinRefused::Disk).inspect_err(|failed| self.lost(failed))
    }

    async fn join(&self, Met(Acquainted { ahead, announced }): Met) -> Result<Lineage, PinRefused> {
        let _turn = self.pinning.lock().await;
        let genesis = self.files.pin_joined(&self.config, &ahead, &announced).await?;
        let lineage = lineage_of(&genesis);
        self.remember_of(lineage).await?;
        let asks = self.peers.lineage() != Some(lineage);
        if asks {
            self.recall.hold_back();
        }
        self.peers.pin(Some(genesis));
        self.peers.run_ahead(ahead);
        announced.into_iter().for_each(|said| self.peers.hear_address(said));
        if asks {
            self.tasks.lock().push(runtime::spawn(self.recall.clone().ask()));
        }
        Ok(lineage)
    }

    /// The log is closed first: what is looked at then is what there will ever be.
    async fn abandon(&self) -> Result<(), PinRefused> {
        let _turn = self.pinning.lock().await;
        if self.files.genesis().is_none() && self.log.closed() {
            return Ok(());
        }
        if !self.log.close() {
            return Err(PinRefused::Begun);
        }
        if self.stage.machine.lock().begun() {
            self.log.reopen();
            return Err(PinRefused::Begun);
        }
        if self.log.is_empty() { self.unpin().await } else { self.end_founding().await }
    }

    async fn unpin(&self) -> Result<(), PinRefused> {
        self.files.unpin().await.inspect_err(|failed| self.lost(failed))?;
        self.peers.pin(None);
        self.log.reopen();
        Ok(())
    }

    async fn end_founding(&self) -> Result<(), PinRefused> {
        self.files.abandon().await.inspect_err(|failed| self.lost(failed))?;
        self.peers.pin(None);
        self.halt.halt(Fatal::Abandoned);
        Ok(())
    }

    fn lost(&self, failed: &PinRefused) {
        if let PinRefused::Disk(failed) = failed {
            self.halt.halt(Fatal::Disk(failed.clone()));
        }
    }
}

/// Does what must not stop half way, though its caller may be gone.
async fn to_the_end<T: Send + 'static>(
    doing: impl Future<Output = Result<T, PinRefused>> + Send + 'static,
) -> Result<T, PinRefused> {
    let ended = DiskFailed { doing: "changing the genesis", cause: "the node is ending".into() };
    runtime::spawn(doing).await.unwrap_or(Err(PinRefused::Disk(ended)))
}
