//! Witnesses of a checkpoint: before a node writes its state's hashes into the log, a majority of voters has said that
//! theirs are the same. Else one replica gone astray, by a flipped bit in its memory or a release that computes
//! otherwise, would stop every other node with its own checkpoint. It protects from authors that err, not from one that
//! lies: who can sign a checkpoint can sign a wrong one.

use crate::machine::{LoadFailed, Machine, RECENT_ENTRIES};
use crate::peers::Peers;
use crate::raft::Raft;
use crate::raft::store::Stage;
use claviger_core::codec::Canonical;
use claviger_core::name::NodeId;
use claviger_core::txn::Checkpoint;
use claviger_proto::peer::v1 as pb;
use claviger_world::runtime;
use futures_util::{StreamExt, stream::FuturesUnordered};
use openraft_rt::WatchReceiver;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

/// Longest that a witness waits to have applied as far as it is asked about.
const COME_WAIT: Duration = Duration::from_secs(1);

/// What the voters say of a state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// A majority has the same.
    Agreed,
    /// A majority has another, all of them the same one: it is this node that went astray.
    Outvoted,
    /// Some have another, but no majority says anything.
    Disputed,
    /// Too few have answered.
    Unclear,
}

/// A voter's state, and whether a checkpoint has agreed with it since it last took a snapshot. One that has not may be
/// wrong with whoever sent the snapshot.
#[derive(Clone, PartialEq, Eq)]
struct Testimony {
    state: Checkpoint,
    proven: bool,
}

/// Asks, and answers.
pub(crate) struct Witness {
    pub peers: Arc<Peers>,
    pub raft: Raft,
    pub stage: Arc<Stage>,
}

impl Witness {
    /// This node's state as it is shown, if it remembers that entry.
    pub fn own(&self) -> Option<Checkpoint> {
        let index = self.stage.view.read().revision().index;
        self.stage.machine.lock().checkpoint_at(index)
    }

    /// What the voters say of this node's state.
    pub async fn verdict(&self, own: &Checkpoint, limit: Duration) -> Verdict {
        let voters = self.voters();
        let proven = self.stage.machine.lock().soundness().proven();
        let mut count = Count { majority: voters.len() / 2 + 1, own: own.clone(), proven, heard: Vec::new() };
        if voters.contains(&self.peers.node()) {
            count.heard.push(Testimony { state: own.clone(), proven });
        }
        let others = voters.into_iter().filter(|voter| *voter != self.peers.node());
        let mut asked: FuturesUnordered<_> = others.map(|voter| self.ask(voter, own.index, limit)).collect();
        let mut all = false;
        while !all && !matches!(count.verdict(false), Verdict::Agreed | Verdict::Outvoted) {
            match asked.next().await {
                Some(said) => count.heard.extend(said),
                None => all = true,
            }
        }
        if count.dissent() {
            self.stage.counts.disputed();
        }
        count.verdict(all)
    }

    /// Answers whoever asks: this node's state as of an entry, which it waits for a little. Empty when it does not
    /// remember that entry, or is too far from it.
    pub async fn testify(&self, index: u64) -> pb::CompareReply {
        let near = index <= self.stage.view.read().revision().index.saturating_add(RECENT_ENTRIES as u64);
        let mut revision = self.stage.revision.subscribe();
        let there = revision.until(|r| (r.index >= index).then_some(()));
        if !near || !matches!(runtime::timeout(COME_WAIT, there).await, Ok(Ok(()))) {
            return pb::CompareReply::default();
        }
        let machine = self.stage.machine.lock();
        let state = machine.checkpoint_at(index).map(|state| state.to_bytes().into()).unwrap_or_default();
        pb::CompareReply { envelope: None, state, proven: machine.soundness().proven() }
    }

    /// Reads everything that this node has stored, and says what is wrong with it.
    pub fn damage(&self) -> Option<&'static str> {
        let view = self.stage.view.read().clone();
        match Machine::load(&*view.0.pin, self.peers.lineage()) {
            Err(LoadFailed::Damaged(what)) => Some(what),
            Ok(_) | Err(LoadFailed::Disk(_)) => None,
        }
    }

    /// Of both configurations while the cluster is in joint consensus.
    fn voters(&self) -> BTreeSet<NodeId> {
        let metrics = self.raft.metrics().borrow_watched().clone();
        metrics.membership_config.membership().voter_ids().map(NodeId).collect()
    }

    async fn ask(&self, voter: NodeId, index: u64, limit: Duration) -> Option<Testimony> {
        let request = pb::CompareRequest { envelope: None, index };
        let reply: pb::CompareReply = self.peers.call(voter, request, limit).await.ok()?;
        let state = Checkpoint::from_bytes(&reply.state).ok().filter(|state| state.index == index)?;
        Some(Testimony { state, proven: reply.proven })
    }
}

/// What was said so far.
struct Count {
    majority: usize,
    own: Checkpoint,
    /// Whether the own state is proven.
    proven: bool,
    heard: Vec<Testimony>,
}

impl Count {
    /// Whether anybody has said another state, however the count ends.
    fn dissent(&self) -> bool {
        self.heard.iter().any(|said| said.state != self.own)
    }

    /// States that are not proven agree with one that is; they never outvote. They prove each other only where nobody
    /// says otherwise, when `all` have been heard: else a cluster that has lost every proven one had no checkpoint again.
    fn verdict(&self, all: bool) -> Verdict {
        let of_one_mind = |state: &Checkpoint, any: bool| {
            self.heard.iter().filter(|said| said.state == *state && (any || said.proven)).count() >= self.majority
        };
        let others: Vec<&Checkpoint> = self.heard.iter().map(|said| &said.state).filter(|s| **s != self.own).collect();
        let undisputed = all && others.is_empty();
        if of_one_mind(&self.own, self.proven || undisputed) {
            Verdict::Agreed
        } else if others.iter().any(|state| of_one_mind(state, false)) {
            Verdict::Outvoted
        } else if others.is_empty() {
            Verdict::Unclear
        } else {
            Verdict::Disputed
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use claviger_core::name::Digest;

    fn state(shared: u8) -> Checkpoint {
        Checkpoint { index: 7, sequence: 3, shared: Digest([shared; 32]), local: Digest([0; 32]) }
    }

    /// The own state is 1, and proven unless told; those above 100 are not.
    fn verdict(voters: usize, proven: bool, all: bool, heard: &[u8]) -> Verdict {
        count(voters, proven, heard).verdict(all)
    }

    fn count(voters: usize, proven: bool, heard: &[u8]) -> Count {
        let said = |n: &u8| Testimony { state: state(n % 100), proven: *n < 100 };
        let heard = heard.iter().map(said).collect();
        Count { majority: voters / 2 + 1, own: state(1), proven, heard }
    }

    #[test]
    fn one_voter_of_another_mind_is_a_dispute_however_the_count_ends() {
        let told = [&[1, 1][..], &[1, 2, 1], &[1, 2, 2], &[1, 102], &[1]].map(|heard| count(3, true, heard).dissent());
        assert_eq!(told, [false, true, true, true, false]);
    }

    #[test]
    fn only_a_majority_of_one_mind_decides() {
        use Verdict::*;
        let told = |voters, heard: &[u8]| verdict(voters, true, false, heard);
        assert_eq!(told(1, &[1]), Agreed);
        assert_eq!([told(3, &[1]), told(3, &[1, 1]), told(3, &[1, 2, 1])], [Unclear, Agreed, Agreed]);
        assert_eq!([told(3, &[1, 2]), told(3, &[1, 2, 3]), told(3, &[1, 2, 2])], [Disputed, Disputed, Outvoted]);
        assert_eq!([told(4, &[1, 1]), told(4, &[1, 2, 2]), told(5, &[1, 1, 1])], [Unclear, Disputed, Agreed]);
    }

    #[test]
    fn a_state_that_came_with_a_snapshot_outvotes_nobody() {
        use Verdict::*;
        let proven = |all, heard: &[u8]| verdict(3, true, all, heard);
        assert_eq!(proven(true, &[1, 2, 102]), Disputed, "one sent the other its state");
        assert_eq!(proven(false, &[1, 101]), Agreed);
        let unproven = |all, heard: &[u8]| verdict(3, false, all, heard);
        assert_eq!([unproven(false, &[101, 1]), unproven(false, &[101, 1, 1])], [Unclear, Agreed]);
        assert_eq!([unproven(true, &[101, 101]), unproven(true, &[101, 101, 2])], [Agreed, Disputed]);
        assert_eq!(unproven(false, &[101, 2, 2]), Outvoted);
    }
}
