//! The start handshake: before a node votes or acknowledges anything it asks the others what they know of its disk. A
//! majority of voters, itself counted, must have answered; whatever one of them knows and the disk does not hold proves
//! that it went back in time, and the node ends. It needs no leader: each answers from what it has seen and stored, while it
//! still asks itself.
//!
//! What one node knows the others learn from whoever leads, once a second; so a rollback within the last second may go
//! unnoticed when who saw it is gone, and that of all disks together always does.

mod known;
mod memory;

pub(crate) use memory::{Memory, forget};

use crate::peers::{Peers, Turned};
use crate::raft::log::Log;
use crate::raft::wire::{Wire, need};
use crate::raft::{Raft, StoredMembership, Types, ballot, position};
use crate::{Fatal, Halt, WentBack};
use claviger_core::name::NodeId;
use claviger_core::planted;
use claviger_core::roster::{PRESENT_MAX, Roster};
use claviger_proto::peer::v1 as pb;
use claviger_proto::peer::v1::recall_request;
use claviger_world::disk::DiskFailed;
use claviger_world::runtime;
use claviger_world::watch;
use futures_util::{StreamExt, stream::FuturesUnordered};
use known::Own;
pub(crate) use known::{Known, Life};
use openraft::RaftState;
use openraft_rt::WatchReceiver;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

/// How often a leader tells the others what it knows, and every node makes durable what it knows.
const TELL_EVERY: Duration = Duration::from_secs(1);
/// Longest that one answer is waited for, before all that have not answered are asked again.
const ANSWER_WAIT: Duration = Duration::from_secs(1);
/// Pause between two rounds of asking.
const ASK_EVERY: Duration = Duration::from_millis(200);
/// The same, once enough have answered.
const ASK_LATER: Duration = Duration::from_secs(5);

/// Asks, answers, tells.
pub(crate) struct Recall {
    pub peers: Arc<Peers>,
    pub raft: Raft,
    pub log: Log,
    pub memory: Arc<Memory>,
    pub halt: Halt,
    /// How often this node has started on its disk, and which life this is.
    pub start: (u64, Life),
    /// Whether enough have answered.
    pub answered: watch::Sender<bool>,
}

impl Recall {
    /// Whether this node may vote and acknowledge.
    pub fn is_answered(&self) -> bool {
        (*self.answered.borrow() && !self.halt.halted()) || planted!(HandshakeSkipped)
    }

    /// Asks until all have answered. When enough have, this node takes part in Raft; it ends when one knows better, also
    /// one that answers late. So each of them comes to know of this start too.
    pub async fn ask(self: Arc<Self>) {
        let mut heard = BTreeSet::from([self.peers.node().0]);
        let Ok(mut membership) = self.membership().await else { return };
        loop {
            // Without a cluster there is nobody who could know anything.
            if self.peers.lineage().is_none() || self.enough(&membership, &heard) || planted!(HandshakeSkipped) {
                self.take_part();
            }
            let unheard: Vec<_> = self.peers.members().into_iter().filter(|node| !heard.contains(&node.0)).collect();
            if unheard.is_empty() && *self.answered.borrow() {
                return;
            }
            let mut answers: FuturesUnordered<_> = unheard.into_iter().map(|node| self.ask_one(node)).collect();
            while let Some(answer) = answers.next().await {
                let Some((node, known, theirs)) = answer else { continue };
                if !self.stands(Some(node), &known) {
                    return;
                }
                heard.insert(node.0);
                membership = newer(membership, theirs);
                if self.enough(&membership, &heard) {
                    self.take_part();
                }
            }
            runtime::sleep(if *self.answered.borrow() { ASK_LATER } else { ASK_EVERY }).await;
        }
    }

    /// Takes part no more until it has asked anew ([`Recall::ask`]): the node comes to belong to a cluster, and may have
    /// belonged to it before.
    pub fn hold_back(&self) {
        self.raft.runtime_config().elect(false);
        self.answered.replace(false);
    }

    /// From now on this node votes, acknowledges, and may stand for election.
    fn take_part(&self) {
        if !*self.answered.borrow() && !self.halt.halted() {
            self.raft.runtime_config().elect(true);
            self.answered.replace(true);
        }
    }

    /// Keeps what is known, and tells it while this node leads.
    pub async fn remember(self: Arc<Self>) {
        loop {
            runtime::sleep(TELL_EVERY).await;
            let leads = self.review();
            if let Err(failed) = self.memory.save().await {
                return self.halt.halt(Fatal::Disk(failed));
            }
            if leads {
                self.tell().await;
            }
        }
    }

    /// Whether this node leads; then what others acknowledged counts as held once it is committed.
    fn review(&self) -> bool {
        let metrics = self.raft.metrics().borrow_watched().clone();
        if metrics.current_leader != Some(self.peers.node().0) {
            return false;
        }
        if let Some(applied) = &metrics.last_applied {
            self.memory.committed(ballot(&metrics.vote), position(applied));
        }
        true
    }

    async fn tell(&self) {
        let present = self.peers.roster().map(|roster| roster.present()).unwrap_or_default();
        let known = self.memory.all().into_iter().filter(|(node, _)| present.contains(node));
        let known: Vec<_> = known.map(|(node, known)| known.to_wire(node)).collect();
        let tell = || recall_request::Body::Tell(pb::RecallTell { known: known.clone() });
        let told = self.peers.members().into_iter().map(|node| self.call(node, tell()));
        // Who could not be reached is told again in a second.
        drop(futures_util::future::join_all(told).await);
    }

    async fn call(&self, to: NodeId, body: recall_request::Body) -> Option<pb::RecallReply> {
        let request = pb::RecallRequest { envelope: None, body: Some(body) };
        self.peers.call(to, request, ANSWER_WAIT).await.ok()
    }

    async fn ask_one(&self, node: NodeId) -> Option<(NodeId, Known, StoredMembership)> {
        let (incarnation, life) = self.start;
        let (vote, last) = self.log.holds();
        let ask = Own { start: (incarnation, life), vote, last }.to_wire();
        let reply = self.call(node, recall_request::Body::Ask(ask)).await?;
        let (of, known) = Known::from_wire(reply.known?).ok()?;
        (of == self.peers.node()).then_some((node, known, need(reply.membership).ok()?))
    }

    /// Answers a node that asks, and listens to the leader that tells.
    pub async fn hear(&self, from: NodeId, body: recall_request::Body) -> Result<pb::RecallReply, Turned> {
        match body {
            recall_request::Body::Ask(ask) => {
                let own = Own::from_wire(ask).map_err(|_| Turned::Unreadable)?;
                let known = self.memory.started(from, &own).await.map_err(|f| self.failed(f))?;
                let membership = Some(self.membership().await?.to_wire());
                Ok(pb::RecallReply { envelope: None, known: Some(known.to_wire(from)), membership })
            }
            recall_request::Body::Tell(tell) => {
                self.told(from, tell)?;
                Ok(pb::RecallReply::default())
            }
        }
    }

    fn told(&self, from: NodeId, tell: pb::RecallTell) -> Result<(), Turned> {
        if tell.known.len() > PRESENT_MAX {
            return Err(Turned::Unreadable);
        }
        // Whoever does not lead has nothing to tell: an old leader has told it, a confused one is not believed.
        if self.raft.metrics().borrow_watched().current_leader != Some(from.0) {
            return Ok(());
        }
        for known in tell.known {
            let (node, known) = Known::from_wire(known).map_err(|_| Turned::Unreadable)?;
            if node == self.peers.node() {
                self.stands(Some(from), &known);
            } else if self.peers.knows_all([node.0].into_iter()) {
                let (vote, last) = self.log.holds();
                self.memory.learn(node, &known.within(vote, last));
            }
        }
        Ok(())
    }

    /// Whether this disk holds what is known of it: else the node ends.
    fn stands(&self, known_by: Option<NodeId>, known: &Known) -> bool {
        let (vote, last) = self.log.holds();
        let lost = known.lost_by(&Own { start: self.start, vote, last }).filter(|_| !planted!(HandshakeSkipped));
        if let Some(lost) = lost {
            // It leads nobody from now on, nor stands for election, however long the node takes to end.
            self.raft.runtime_config().elect(false);
            self.raft.runtime_config().heartbeat(false);
            self.halt.halt(Fatal::WentBack(WentBack { known_by, lost }));
        }
        lost.is_none()
    }

    fn failed(&self, failed: DiskFailed) -> Turned {
        self.halt.halt(Fatal::Disk(failed));
        Turned::Stopped
    }

    async fn membership(&self) -> Result<StoredMembership, Turned> {
        let effective = |state: &RaftState<Types>| (**state.membership_state.effective()).clone();
        self.raft.with_raft_state(effective).await.map_err(|_| Turned::Stopped)
    }

    fn enough(&self, membership: &StoredMembership, heard: &BTreeSet<u64>) -> bool {
        enough(membership, self.peers.roster().as_ref(), heard)
    }
}

/// Whether a majority has answered, of both configurations in joint consensus; before Raft has begun, of those who vote by
/// the genesis. Of a cluster whose roster has changed since, somebody must say first who votes: whom a roster wants as
/// voters may not be yet, nor for long.
fn enough(membership: &StoredMembership, roster: Option<&Roster>, heard: &BTreeSet<u64>) -> bool {
    let most = |voters: &BTreeSet<u64>| voters.intersection(heard).count() > voters.len() / 2;
    let configurations = membership.membership().get_joint_config();
    if configurations.is_empty() {
        let first = roster.filter(|roster| roster.epoch == 1);
        return first.is_some_and(|roster| most(&roster.voters().iter().map(|node| node.0).collect()));
    }
    configurations.iter().all(most)
}

/// The newer of two memberships: a node that was away for long may know one of which nobody is left. Whom it names and this
/// node does not know yet, this node comes to know by the header chain, and asks then.
fn newer(own: StoredMembership, theirs: StoredMembership) -> StoredMembership {
    if theirs.log_id() > own.log_id() { theirs } else { own }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::raft::{LeaderId, Membership};
    use claviger_core::name::{DiskId, VerifyingKey};
    use claviger_core::roster::{Member, Role};
    use openraft::{EmptyNode, LogId};
    use std::collections::BTreeMap;

    fn roster(epoch: u64, lines: &[(u64, Role)]) -> Roster {
        let line = |(n, role): &(u64, Role)| {
            let byte = *n as u8;
            Member { node: NodeId(*n), key: VerifyingKey([byte; 32]), disk: DiskId([byte; 16]), role: *role }
        };
        Roster { epoch, members: lines.iter().map(line).collect(), before: BTreeSet::new() }
    }

    /// Raft's, as of an entry of that index.
    fn seated(index: u64, voters: &[&[u64]]) -> StoredMembership {
        let nodes: BTreeMap<u64, EmptyNode> = voters.concat().into_iter().map(|node| (node, EmptyNode {})).collect();
        let sets = voters.iter().map(|set| set.iter().copied().collect()).collect();
        let at = LogId { leader_id: LeaderId { term: 2, node_id: 1 }, index };
        StoredMembership::new(Some(at), Membership::new(sets, nodes).unwrap())
    }

    fn told(membership: &StoredMembership, roster: &Roster, heard: &[u64]) -> bool {
        enough(membership, Some(roster), &heard.iter().copied().collect())
    }

    #[test]
    fn before_raft_has_begun_a_majority_of_the_genesis_is_enough() {
        let (unknown, three) = (StoredMembership::default(), roster(1, &[1, 2, 3].map(|n| (n, Role::Voter))));
        assert_eq!([told(&unknown, &three, &[1]), told(&unknown, &three, &[1, 3])], [false, true]);
        assert!(told(&unknown, &roster(1, &[(1, Role::Voter)]), &[1]), "a node alone in its cluster");
        assert!(!enough(&unknown, None, &BTreeSet::from([1])), "without a roster nobody is enough");
    }

    #[test]
    fn who_has_joined_hears_first_who_votes_and_then_most_of_them() {
        let unknown = StoredMembership::default();
        let joined = roster(2, &[(1, Role::Voter), (2, Role::Voter), (3, Role::Voter), (4, Role::Learner)]);
        assert!(!told(&unknown, &joined, &[1, 2, 4]));
        let three = seated(5, &[&[1, 2, 3]]);
        assert_eq!([told(&three, &joined, &[1, 4]), told(&three, &joined, &[1, 2, 4])], [false, true]);
        let alone = roster(3, &[(1, Role::Learner), (4, Role::Voter)]);
        assert!(!told(&unknown, &alone, &[4]), "it is wanted as the only voter, and is none yet");
    }

    #[test]
    fn in_between_a_majority_of_both_is_needed_and_the_newer_membership_counts() {
        let swapped = roster(2, &[(1, Role::Voter), (2, Role::Voter), (3, Role::Learner), (4, Role::Voter)]);
        let (old, joint) = (seated(5, &[&[1, 2, 3]]), seated(9, &[&[1, 2, 3], &[1, 2, 4]]));
        assert_eq!([told(&joint, &swapped, &[1, 3]), told(&joint, &swapped, &[1, 2])], [false, true]);
        assert_eq!((newer(old.clone(), joint.clone()), newer(joint.clone(), old.clone())), (joint.clone(), joint));
        assert_eq!(newer(StoredMembership::default(), old.clone()), old);
    }
}
