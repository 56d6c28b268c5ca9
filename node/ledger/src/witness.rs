//! Witnesses of a checkpoint: before a node writes its state's hashes into the log, a majority of voters has said that
//! theirs are the same. Else one replica gone astray, by a flipped bit in its memory or a release that computes
//! otherwise, would stop every other node with its own checkpoint.

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
/// Longest that whoever asks waits for one answer.
const ASK_WAIT: Duration = Duration::from_secs(2);

/// What the voters say of a state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// A majority has the same.
    Agreed,
    /// A majority has another, all of them the same one: it is this node that went astray.
    Outvoted,
    /// Neither, or too few have answered.
    Unclear,
}

/// Asks, and answers.
pub(crate) struct Witness {
    pub peers: Arc<Peers>,
    pub raft: Raft,
    pub stage: Arc<Stage>,
}

impl Witness {
    /// What the voters say of this node's state as of an entry.
    pub async fn verdict(&self, own: &Checkpoint) -> Verdict {
        let voters = self.voters();
        let mut count = Count::new(voters.len(), own.clone());
        if voters.contains(&self.peers.node()) {
            count.hear(own.clone());
        }
        let others = voters.into_iter().filter(|voter| *voter != self.peers.node());
        let mut asked: FuturesUnordered<_> = others.map(|voter| self.ask(voter, own.index)).collect();
        while count.verdict() == Verdict::Unclear {
            match asked.next().await {
                Some(Some(state)) => count.hear(state),
                Some(None) => {}
                None => break,
            }
        }
        count.verdict()
    }

    /// This node's state as of an entry, which it waits for a little; none when it does not remember that entry.
    pub async fn state_at(&self, index: u64) -> Option<Checkpoint> {
        let mut revision = self.stage.revision.subscribe();
        let there = revision.until(|r| (r.index >= index).then_some(()));
        runtime::timeout(COME_WAIT, there).await.ok()?.ok()?;
        self.stage.machine.lock().checkpoint_at(index)
    }

    /// How far this node has applied.
    pub fn applied(&self) -> u64 {
        self.stage.view.read().revision().index
    }

    fn voters(&self) -> BTreeSet<NodeId> {
        let metrics = self.raft.metrics().borrow_watched().clone();
        metrics.membership_config.membership().voter_ids().map(NodeId).collect()
    }

    async fn ask(&self, voter: NodeId, index: u64) -> Option<Checkpoint> {
        let request = pb::CompareRequest { envelope: None, index };
        let reply: pb::CompareReply = self.peers.call(voter, request, ASK_WAIT).await.ok()?;
        Checkpoint::from_bytes(&reply.state).ok().filter(|state| state.index == index)
    }
}

/// The voters' states so far, each with how many have it.
struct Count {
    majority: usize,
    own: Checkpoint,
    heard: Vec<(Checkpoint, usize)>,
}

impl Count {
    fn new(voters: usize, own: Checkpoint) -> Count {
        Count { majority: voters / 2 + 1, own, heard: Vec::new() }
    }

    fn hear(&mut self, state: Checkpoint) {
        match self.heard.iter_mut().find(|(known, _)| *known == state) {
            Some((_, count)) => *count += 1,
            None => self.heard.push((state, 1)),
        }
    }

    fn verdict(&self) -> Verdict {
        match self.heard.iter().find(|(_, count)| *count >= self.majority) {
            Some((state, _)) if *state == self.own => Verdict::Agreed,
            Some(_) => Verdict::Outvoted,
            None => Verdict::Unclear,
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

    fn verdict(voters: usize, heard: &[u8]) -> Verdict {
        let mut count = Count::new(voters, state(1));
        heard.iter().for_each(|shared| count.hear(state(*shared)));
        count.verdict()
    }

    #[test]
    fn only_a_majority_of_one_mind_decides() {
        use Verdict::*;
        assert_eq!(verdict(1, &[1]), Agreed);
        assert_eq!([verdict(3, &[1]), verdict(3, &[1, 1]), verdict(3, &[1, 2, 1])], [Unclear, Agreed, Agreed]);
        assert_eq!([verdict(3, &[1, 2]), verdict(3, &[1, 2, 3]), verdict(3, &[1, 2, 2])], [Unclear, Unclear, Outvoted]);
        assert_eq!([verdict(4, &[1, 1]), verdict(4, &[1, 2, 2]), verdict(5, &[1, 1, 1])], [Unclear, Unclear, Agreed]);
    }
}
