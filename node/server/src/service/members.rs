//! Who belongs to the cluster, as its administrators change it. A change names a roster; Raft's membership follows by
//! itself, and is shown in the cluster's status.

use super::change::{Replay, RequestStamp};
use super::{Service, Visit};
use claviger_core::codec::Canonical;
use claviger_core::decide::{self, RoleAsk, TicketAsk, TicketGiven};
use claviger_core::failure::{Failure, Refused, Why};
use claviger_core::name::NodeId;
use claviger_core::policy::Cluster;
use claviger_core::policy::action::{CreateJoinTicket, RetireMember, SetMemberRole};
use claviger_core::roster::{Role, Roster};
use claviger_core::ticket::{Seed, Ticket};
use claviger_world::runtime;
use futures_util::future::join_all;
use std::collections::BTreeSet;
use std::time::Duration;

/// Longest that a retirement waits for every node to have heard of it.
const CONFIRM_WAIT: Duration = Duration::from_secs(5);
/// Longest that voters who cannot be reached are tried again.
const REACH_WAIT: Duration = Duration::from_secs(3);
/// How often a node that has not confirmed is asked again.
const CONFIRM_EACH: Duration = Duration::from_millis(100);

impl Replay for TicketGiven {
    fn replay(kept: &[u8]) -> Option<TicketGiven> {
        TicketGiven::from_bytes(kept).ok()
    }
}

/// What became of a retirement.
pub struct Retired {
    /// The roster's epoch from then on.
    pub epoch: u64,
    /// Members that have not confirmed within a few seconds that they know of it: until they do, they may listen to the
    /// retired node.
    pub unconfirmed: Vec<NodeId>,
    /// The revision that it came with.
    pub sequence: u64,
}

impl Service {
    /// Gives leave for one node to join, as a learner, under one number.
    pub async fn create_join_ticket(
        &self,
        visit: &Visit,
        (ask, request): (TicketAsk, RequestStamp),
    ) -> Result<(Ticket, u64), Failure> {
        let (given, sequence) = self
            .change::<CreateJoinTicket, _>(visit, Cluster, request, |desk, permit, stamp, chance| {
                decide::create_join_ticket(desk, permit, &ask, stamp, chance)
            })
            .await?;
        let lineage = self.ledger.lineage().ok_or(Why::NotFounded)?;
        let (cluster, region) = (self.config.cluster.clone(), self.config.region.clone());
        let (secret, expires, seeds) = (given.secret()?, given.expires, self.seeds());
        Ok((Ticket { cluster, region, lineage, node: ask.node, expires, seeds, secret }, sequence))
    }

    /// Whom a joining node may turn to.
    fn seeds(&self) -> Vec<Seed> {
        let roster = self.ledger.roster();
        let voters = roster.iter().flat_map(|roster| &roster.members).filter(|m| m.role == Role::Voter);
        let seed = |m: &claviger_core::roster::Member| {
            Some(Seed { node: m.node, key: m.key, address: self.ledger.address(m.node)? })
        };
        voters.filter_map(seed).collect()
    }

    /// Makes a node a voter or a learner; where one votes in place of another, in one step. Raft's membership follows.
    pub async fn set_member_role(
        &self,
        visit: &Visit,
        (ask, request): (RoleAsk, RequestStamp),
    ) -> Result<(u64, u64), Failure> {
        self.answered(visit.operation())?;
        self.leaves_a_majority(&ask).await?;
        self.change::<SetMemberRole, _>(visit, Cluster, request, |desk, permit, stamp, chance| {
            decide::set_member_role(desk, permit, &ask, stamp, chance)
        })
        .await
    }

    /// Refuses a change after which too few of those who vote could be reached: it would stop the cluster. Whoever has just
    /// joined may not have said yet where it listens.
    async fn leaves_a_majority(&self, ask: &RoleAsk) -> Result<(), Failure> {
        let Some(roster) = self.ledger.roster() else { return Ok(()) };
        let (voters, deadline) = (after(&roster, ask), runtime::now() + REACH_WAIT);
        loop {
            let asked = join_all(voters.iter().map(|node| self.look_at(*node))).await;
            let reached = asked.iter().filter(|node| node.said.is_some()).count();
            if voters.is_empty() || reached > voters.len() / 2 {
                return Ok(());
            }
            if deadline.remaining().is_zero() {
                return Err(Refused::BadRequest("a change after which a majority of the voters can be reached").into());
            }
            runtime::sleep(CONFIRM_EACH).await;
        }
    }

    /// Retires a learner for ever, and renews the transaction key and the audit key. Names the members that have not
    /// confirmed it.
    pub async fn retire_member(
        &self,
        visit: &Visit,
        (node, request): (NodeId, RequestStamp),
    ) -> Result<Retired, Failure> {
        let (epoch, sequence) = self
            .change::<RetireMember, _>(visit, Cluster, request, |desk, permit, stamp, chance| {
                let opened = self.seal.opened()?;
                decide::retire_member(desk, permit, node, &opened.root, stamp, chance)
            })
            .await?;
        Ok(Retired { epoch, unconfirmed: self.unconfirmed().await, sequence })
    }

    /// Members that do not know of this node's newest header link yet, after a few seconds.
    async fn unconfirmed(&self) -> Vec<NodeId> {
        let links = self.ledger.status().links;
        let present = self.ledger.roster().map(|roster| roster.present()).unwrap_or_default();
        let deadline = runtime::now() + CONFIRM_WAIT;
        let mut left: BTreeSet<NodeId> = present.into_iter().filter(|node| *node != self.config.node).collect();
        loop {
            let asked = join_all(left.iter().map(|node| self.look_at(*node))).await;
            let knows = asked.iter().filter(|node| node.said.as_ref().is_some_and(|said| said.links >= links));
            let knows: BTreeSet<NodeId> = knows.map(|node| node.node).collect();
            left.retain(|node| !knows.contains(node));
            if left.is_empty() || deadline.remaining().is_zero() {
                return left.into_iter().collect();
            }
            runtime::sleep(CONFIRM_EACH).await;
        }
    }
}

/// Who votes after a change.
fn after(roster: &Roster, ask: &RoleAsk) -> BTreeSet<NodeId> {
    let mut voters = roster.voters();
    voters.remove(&ask.node);
    if ask.role == Role::Voter {
        voters.insert(ask.node);
    }
    voters.retain(|node| Some(*node) != ask.in_place_of);
    voters
}
