//! Raft's membership follows the roster: whoever leads brings it there, one step at a time. A voter is seated only when it
//! has what the others have, and one that goes is replaced in the same step, so that the roster never costs a majority.

use crate::peers::Peers;
use crate::raft::Raft;
use crate::raft::store::Stage;
use claviger_core::name::NodeId;
use claviger_core::roster::Roster;
use claviger_world::runtime;
use openraft::{ChangeMembers, EmptyNode};
use openraft_rt::WatchReceiver;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

/// How often whoever leads looks whether the membership is the roster's.
const LOOK_EACH: Duration = Duration::from_millis(250);
/// Longest wait before a step that failed is tried again.
const LOOK_AGAIN_MAX: Duration = Duration::from_secs(2);
/// Longest wait for one step; it is looked at again then.
const PATIENCE: Duration = Duration::from_secs(10);
/// A learner that is so many entries behind, at most, has caught up.
pub(crate) const CAUGHT_UP_WITHIN: u64 = 256;

/// Seats whom the roster names.
pub(crate) struct Usher {
    pub raft: Raft,
    pub stage: Arc<Stage>,
    pub peers: Arc<Peers>,
}

/// What Raft's membership is now, as whoever leads sees it.
#[derive(Clone, Debug, Default)]
struct Seated {
    /// Two sets while the membership is on its way.
    voters: Vec<BTreeSet<NodeId>>,
    /// Voters and learners.
    nodes: BTreeSet<NodeId>,
    /// Who has what the leader has, nearly.
    caught_up: BTreeSet<NodeId>,
}

/// The next step on the way to a roster.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Step {
    Add(NodeId),
    Vote(BTreeSet<NodeId>),
    HandOver(NodeId),
    Drop(BTreeSet<NodeId>),
}

impl Usher {
    /// Looks, and takes the next step, as long as the node lives.
    pub async fn run(self: Arc<Self>) {
        let mut wait = LOOK_EACH;
        loop {
            runtime::sleep(wait).await;
            wait = if self.look().await { LOOK_EACH } else { (wait * 2).min(LOOK_AGAIN_MAX) };
        }
    }

    /// Whether the membership is the roster's, or has come a step nearer.
    async fn look(&self) -> bool {
        // Whoever votes alone by a mandate has nobody else to seat, whatever the roster says until the mandate is in the chain.
        if !self.raft.is_leader() || self.peers.alone().is_some() {
            return true;
        }
        let roster = self.stage.view.read().roster().cloned();
        let Some(step) = roster.and_then(|roster| next(&roster, &self.seated(), self.peers.node())) else {
            return true;
        };
        tracing::info!(?step, "the membership follows the roster");
        let why = match runtime::timeout(PATIENCE, self.take(step)).await {
            Ok(Ok(())) => return true,
            Ok(Err(why)) => why,
            Err(_) => "it has not been confirmed yet".into(),
        };
        tracing::warn!(why, "a step of the membership failed");
        false
    }

    fn seated(&self) -> Seated {
        let metrics = self.raft.metrics().borrow_watched().clone();
        let last = metrics.last_log_index.unwrap_or(0);
        let membership = metrics.membership_config.membership();
        let set = |ids: &BTreeSet<u64>| ids.iter().copied().map(NodeId).collect();
        let near = |(node, matched): (u64, Option<u64>)| {
            matched.filter(|at| at + CAUGHT_UP_WITHIN >= last).map(|_| NodeId(node))
        };
        let matched: BTreeMap<u64, _> = metrics.replication.unwrap_or_default();
        Seated {
            voters: membership.get_joint_config().iter().map(set).collect(),
            nodes: membership.nodes().map(|(id, _)| NodeId(*id)).collect(),
            caught_up: matched.iter().filter_map(|(node, at)| near((*node, at.map(|at| at.index)))).collect(),
        }
    }

    /// What fails is tried again at the next look, by whoever leads then.
    async fn take(&self, step: Step) -> Result<(), String> {
        let ids = |nodes: BTreeSet<NodeId>| nodes.iter().map(|node| node.0).collect::<BTreeSet<u64>>();
        match step {
            Step::Add(node) => self.raft.add_learner(node.0, EmptyNode {}, false).await.map(drop),
            Step::Vote(voters) => self.raft.change_membership(ids(voters), true).await.map(drop),
            Step::Drop(nodes) => {
                let change = ChangeMembers::RemoveNodes(ids(nodes));
                self.raft.change_membership(change, true).await.map(drop)
            }
            Step::HandOver(heir) => {
                let handed = self.raft.trigger().transfer_leader(heir.0).await;
                return handed.map_err(|why| why.to_string());
            }
        }
        .map_err(|why| why.to_string())
    }
}

/// The step that comes next, if the membership is not the roster's yet.
fn next(roster: &Roster, now: &Seated, leader: NodeId) -> Option<Step> {
    let (wanted, present) = (roster.voters(), roster.present());
    if let Some(node) = present.difference(&now.nodes).next() {
        return Some(Step::Add(*node));
    }
    let seated = now.voters.iter().all(|voters| *voters == wanted);
    if !seated {
        let old = now.voters.iter().flatten().collect::<BTreeSet<_>>();
        let ready = wanted.iter().all(|node| old.contains(node) || now.caught_up.contains(node));
        let heir = wanted.iter().find(|node| now.voters.iter().all(|voters| voters.contains(node)));
        return match heir {
            // A leader that is to go lets another one lead first: then nobody waits for an election.
            Some(heir) if !wanted.contains(&leader) => Some(Step::HandOver(*heir)),
            Some(_) | None => ready.then_some(Step::Vote(wanted)),
        };
    }
    let gone: BTreeSet<NodeId> = now.nodes.difference(&present).copied().collect();
    (!gone.is_empty()).then_some(Step::Drop(gone))
}

#[cfg(test)]
mod tests {
    use super::*;
    use claviger_core::name::{DiskId, VerifyingKey};
    use claviger_core::roster::{Member, Role};

    fn roster(lines: &[(u64, Role)]) -> Roster {
        let line = |(n, role): &(u64, Role)| {
            let byte = *n as u8;
            Member { node: NodeId(*n), key: VerifyingKey([byte; 32]), disk: DiskId([byte; 16]), role: *role }
        };
        Roster { epoch: 2, members: lines.iter().map(line).collect(), before: set(&[1]) }
    }

    fn set(nodes: &[u64]) -> BTreeSet<NodeId> {
        nodes.iter().copied().map(NodeId).collect()
    }

    fn seated(voters: &[&[u64]], nodes: &[u64], caught_up: &[u64]) -> Seated {
        Seated { voters: voters.iter().map(|v| set(v)).collect(), nodes: set(nodes), caught_up: set(caught_up) }
    }

    #[test]
    fn a_node_joins_as_learner_and_votes_when_it_has_caught_up() {
        use Role::{Learner, Voter};
        let joined = roster(&[(1, Voter), (2, Voter), (3, Voter), (4, Learner)]);
        let three = seated(&[&[1, 2, 3]], &[1, 2, 3], &[1, 2, 3]);
        assert_eq!(next(&joined, &three, NodeId(1)), Some(Step::Add(NodeId(4))));
        let learns = seated(&[&[1, 2, 3]], &[1, 2, 3, 4], &[1, 2, 3]);
        assert_eq!(next(&joined, &learns, NodeId(1)), None);
        let promoted = roster(&[(1, Voter), (2, Voter), (3, Voter), (4, Voter)]);
        assert_eq!(next(&promoted, &learns, NodeId(1)), None, "it has not caught up");
        let caught_up = Seated { caught_up: set(&[1, 2, 3, 4]), ..learns };
        assert_eq!(next(&promoted, &caught_up, NodeId(1)), Some(Step::Vote(set(&[1, 2, 3, 4]))));
        let between = seated(&[&[1, 2, 3], &[1, 2, 3, 4]], &[1, 2, 3, 4], &[1, 2, 3]);
        assert_eq!(
            next(&promoted, &between, NodeId(1)),
            Some(Step::Vote(set(&[1, 2, 3, 4]))),
            "it ends what was begun"
        );
    }

    #[test]
    fn a_dead_voter_is_replaced_in_one_step_and_dropped_when_it_is_retired() {
        use Role::{Learner, Retired, Voter};
        let swapped = roster(&[(1, Voter), (2, Voter), (3, Learner), (4, Voter)]);
        let now = seated(&[&[1, 2, 3]], &[1, 2, 3, 4], &[1, 2, 4]);
        assert_eq!(next(&swapped, &now, NodeId(1)), Some(Step::Vote(set(&[1, 2, 4]))));
        let done = seated(&[&[1, 2, 4]], &[1, 2, 3, 4], &[1, 2, 4]);
        assert_eq!(next(&swapped, &done, NodeId(1)), None, "a learner may stay");
        let retired = roster(&[(1, Voter), (2, Voter), (3, Retired), (4, Voter)]);
        assert_eq!(next(&retired, &done, NodeId(1)), Some(Step::Drop(set(&[3]))));
    }

    #[test]
    fn a_leader_that_is_to_go_hands_over_first() {
        use Role::{Learner, Voter};
        let without = roster(&[(1, Learner), (2, Voter), (3, Voter)]);
        let now = seated(&[&[1, 2, 3]], &[1, 2, 3], &[1, 2, 3]);
        assert_eq!(next(&without, &now, NodeId(1)), Some(Step::HandOver(NodeId(2))));
        assert_eq!(next(&without, &now, NodeId(2)), Some(Step::Vote(set(&[2, 3]))));
    }
}
