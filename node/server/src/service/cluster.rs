//! The cluster as its operator sees it.

use super::{ReadAsk, Service, Visit};
use crate::peers::STATUS;
use claviger_core::ceremony::Progress;
use claviger_core::failure::{Failure, Refused};
use claviger_core::name::{Lineage, NodeId, Segment};
use claviger_core::policy::action::{GetClusterStatus, GetSealStatus, TransferLeader};
use claviger_core::policy::{Cluster, SealView};
use claviger_core::roster::{Member, Role};
use claviger_ledger::{RaftRole, Status};
use claviger_proto::peer::v1 as peer;
use claviger_world::network::FrameKind;
use futures_util::future::join_all;
use std::collections::BTreeSet;
use std::time::Duration;

/// Longest that a node waits for another's status.
const STATUS_WAIT: Duration = Duration::from_secs(1);
/// Longest that handing over the lead may take.
const TRANSFER_WAIT: Duration = Duration::from_secs(5);

/// One node, as it says itself, or as unreachable.
#[derive(Clone, Debug)]
pub struct NodeView {
    /// Which.
    pub node: NodeId,
    /// Where it listens for its peers, as it announced or as configured.
    pub address: String,
    /// Its line in the newest roster, once the cluster is founded.
    pub line: Option<Member>,
    /// Whether it votes, as the node that is asked sees Raft's membership; none when it is not in it.
    pub votes: Option<bool>,
    /// Log index up to which its log is known to be the leader's, where the leader is asked.
    pub matched: Option<u64>,
    /// What it said, if it answered in time.
    pub said: Option<peer::StatusResponse>,
}

/// The cluster, as the node that is asked can see it.
pub struct ClusterView {
    /// Which cluster.
    pub lineage: Option<Lineage>,
    /// Raft, on the node that is asked.
    pub own: Status,
    /// Every member, those that left too; before the founding every configured node.
    pub nodes: Vec<NodeView>,
    /// The newest roster's epoch; 0 before the founding.
    pub roster_epoch: u64,
}

/// What the node that is asked knows of its own seal.
pub struct SealStatus {
    /// Raft and identity.
    pub own: Status,
    /// How far it has come.
    pub seal: SealView,
    /// The newest header, after founding.
    pub generation: u64,
    /// Raised by seal-all.
    pub seal_epoch: u64,
    /// Shares that open, and shares that there are.
    pub shares: Option<(u8, u8)>,
    /// As configured.
    pub cluster: Segment,
    /// As configured.
    pub region: Segment,
    /// What opens: "custodians" or "static".
    pub slot_kind: &'static str,
    /// The ceremony that this node hosts.
    pub ceremony: Option<Progress>,
    /// The node's release.
    pub version: &'static str,
}

impl Service {
    /// What this node knows of its seal; needs no quorum.
    pub async fn get_seal_status(&self, visit: &Visit, (): ()) -> Result<SealStatus, Failure> {
        let view = self.ledger.view();
        let opened = self.seal.opened().ok();
        let _leave = self.gate.authorise::<GetSealStatus>(visit.caller()?, Cluster, &view, opened.as_deref())?;
        let head = view.head().map(|link| &link.header);
        Ok(SealStatus {
            own: self.ledger.status(),
            seal: self.seal.view(&view),
            generation: head.map_or(0, |h| h.generation),
            seal_epoch: head.map_or(0, |h| h.seal_epoch),
            shares: self.custodians(&view).map(|c| (c.threshold, c.holders.len().try_into().unwrap_or(u8::MAX))),
            cluster: self.config.cluster.clone(),
            region: self.config.region.clone(),
            slot_kind: self.config.unseal.word(),
            ceremony: self.hosted_progress(),
            version: self.config.version,
        })
    }

    /// Every node, each asked now; needs no quorum.
    pub async fn get_cluster_status(&self, visit: &Visit, (): ()) -> Result<ClusterView, Failure> {
        let view = self.ledger.view();
        let opened = self.seal.opened().ok();
        let _leave = self.gate.authorise::<GetClusterStatus>(visit.caller()?, Cluster, &view, opened.as_deref())?;
        drop(opened);
        let roster = self.ledger.roster();
        let lines = roster.iter().flat_map(|roster| &roster.members).map(|line| line.node);
        let mut all: BTreeSet<NodeId> = lines.collect();
        if roster.is_none() {
            all.extend(self.config.addresses.keys());
        }
        let nodes = join_all(all.into_iter().map(|node| self.look_at(node))).await;
        let roster_epoch = roster.map_or(0, |roster| roster.epoch);
        Ok(ClusterView { lineage: self.ledger.lineage(), own: self.ledger.status(), nodes, roster_epoch })
    }

    pub(crate) async fn look_at(&self, node: NodeId) -> NodeView {
        let (address, own) = (self.ledger.address(node).unwrap_or_default(), self.ledger.status());
        let line = self.ledger.roster().and_then(|roster| roster.member(node).cloned());
        let votes = own.members.iter().find(|(member, _)| *member == node).map(|(_, votes)| *votes);
        let seen = NodeView { node, address, line, votes, matched: own.matched.get(&node).copied(), said: None };
        let gone = seen.line.as_ref().is_some_and(|line| line.role == Role::Retired);
        let said = match node == self.config.node {
            true => Some(self.own_status()),
            false if gone => None,
            false => {
                let asked = self.ask::<_, peer::StatusResponse>(node, FrameKind::Status, &STATUS, STATUS_WAIT).await;
                asked.ok().map(|(_, said)| said)
            }
        };
        NodeView { said, ..seen }
    }

    /// What this node tells others of itself.
    pub(crate) fn own_status(&self) -> peer::StatusResponse {
        let (status, end) = (self.ledger.status(), self.ledger.log_end());
        let state = match self.seal.view(&self.ledger.view()) {
            SealView::Unfounded => peer::PeerSeal::Unfounded,
            SealView::Sealed => peer::PeerSeal::Sealed,
            SealView::Open => peer::PeerSeal::Open,
        };
        peer::StatusResponse {
            seal: state.into(),
            role: role_word(status.role).into(),
            term: status.term,
            last_log_index: end.map_or(0, |end| end.index),
            applied_index: status.applied_index,
            revision: status.revision.sequence,
            version: self.config.version.into(),
            pid: self.config.process,
            links: status.links,
            last_log_term: end.map_or(0, |end| end.term),
            last_log_leader: end.map_or(0, |end| end.leader),
        }
    }

    /// Asks the leader to hand over.
    pub async fn transfer_leader(&self, visit: &Visit, (): ()) -> Result<(), Failure> {
        self.answered(visit.operation())?;
        let reading = self.reading(ReadAsk::default()).await?;
        let _leave = self.permit::<TransferLeader>(visit.caller()?, Cluster, &reading)?;
        drop(reading);
        if self.ledger.status().role != RaftRole::Leader {
            return Err(Refused::BadRequest("the leader: ask it, as the cluster status names it").into());
        }
        self.ledger.transfer_leader(TRANSFER_WAIT).await.map_err(super::unavailable)
    }
}

fn role_word(role: RaftRole) -> &'static str {
    match role {
        RaftRole::Leader => "leader",
        RaftRole::Candidate => "candidate",
        RaftRole::Follower => "follower",
        RaftRole::Learner => "learner",
        RaftRole::Stopped => "stopped",
    }
}
