//! Who may speak to this ledger, and how it speaks to others: every frame is in an envelope, and certificate, claimed
//! number, disk and roster must agree on both ends before anything else is looked at.

use crate::machine::{Chain, admit, lineage_of};
use crate::raft::Membership;
use crate::raft::store::Stage;
use bytes::Bytes;
use claviger_core::address::Announcement;
use claviger_core::header::HeaderLink;
use claviger_core::mandate::SignedMandate;
use claviger_core::name::{DiskId, Lineage, NodeId, VerifyingKey};
use claviger_core::planted;
use claviger_core::roster::{Genesis, Member, PRESENT_MAX, Role, Roster};
use claviger_core::txn::SignedBatch;
use claviger_proto::peer::v1 as pb;
use claviger_world::network::{CallFailed, FRAME_BYTES_MAX, Frame, FrameKind, Network, PeerCertificate};
use claviger_world::runtime;
use parking_lot::RwLock;
use prost::Message;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// Why a frame was not looked at. Said to the peer, which is of our own cluster or knows nothing from it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Turned {
    NotFounded,
    Unreadable,
    OtherCluster,
    OtherTarget,
    OtherNumber,
    NotMember,
    Retired,
    OtherKey,
    OtherDisk,
    StrangeMembership,
    Unsigned,
    StrangeVote,
    NotYet,
    Asking,
    Alone,
    Stopped,
}

impl fmt::Display for Turned {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Turned::NotFounded => "this node has no genesis yet",
            Turned::Unreadable => "the frame cannot be read",
            Turned::OtherCluster => "the frame is of another cluster",
            Turned::OtherTarget => "the frame is for another node",
            Turned::OtherNumber => "certificate and envelope name different nodes",
            Turned::NotMember => "the sender is not in the roster",
            Turned::Retired => "the sender is retired",
            Turned::OtherKey => "the certificate's key is not the one in the roster",
            Turned::OtherDisk => "the sender's disk is not the one in the roster",
            Turned::StrangeMembership => "a membership names nodes that are not in the roster",
            Turned::Unsigned => "the batch is not signed by this cluster",
            Turned::StrangeVote => "a vote is not the sender's, or of a term that it cannot be in",
            Turned::NotYet => "this node is still writing what the snapshot brings",
            Turned::Asking => "this node has just started, and is still asking the others what they know of its disk",
            Turned::Alone => "this node goes on alone, by a mandate of the custodians",
            Turned::Stopped => "this node has stopped",
        })
    }
}

/// A message that travels in an envelope.
pub(crate) trait Enveloped: Message + Default {
    /// What its frames are for.
    const KIND: FrameKind;
    /// The envelope's place.
    fn envelope(&mut self) -> &mut Option<pb::Envelope>;
}

macro_rules! enveloped {
    ($($message:ident: $kind:ident),*) => {$(
        impl Enveloped for pb::$message {
            const KIND: FrameKind = FrameKind::$kind;
            fn envelope(&mut self) -> &mut Option<pb::Envelope> {
                &mut self.envelope
            }
        }
    )*};
}

enveloped!(
    RaftRequest: Raft, RaftReply: Raft, ProposeRequest: Propose, ProposeReply: Propose,
    BarrierRequest: Barrier, BarrierReply: Barrier, CompareRequest: Compare, CompareReply: Compare,
    RecallRequest: Recall, RecallReply: Recall
);

/// The other nodes, as this one knows them.
pub(crate) struct Peers {
    node: NodeId,
    disk: DiskId,
    network: Arc<dyn Network>,
    /// As configured: where a node is looked for that has not announced itself.
    addresses: BTreeMap<NodeId, String>,
    announced: RwLock<BTreeMap<NodeId, Announcement>>,
    /// This node's own, told to others once it is a member.
    own: RwLock<Option<Announcement>>,
    genesis: RwLock<Option<(Lineage, Genesis)>>,
    /// The mandate that this disk has gone through with, if there ever was one.
    mandate: Option<SignedMandate>,
    /// How the cluster stands, where peers have proven more of it than this node's records hold yet.
    ahead: RwLock<Option<Ahead>>,
    stage: Arc<Stage>,
}

/// A chain that is newer than that of the records, with all of its links.
#[derive(Clone)]
pub(crate) struct Ahead {
    pub chain: Arc<Chain>,
    pub links: Vec<HeaderLink>,
}

impl Peers {
    pub fn new(
        node: NodeId,
        disk: DiskId,
        network: Arc<dyn Network>,
        addresses: BTreeMap<NodeId, String>,
        genesis: Option<Genesis>,
        mandate: Option<SignedMandate>,
        stage: Arc<Stage>,
    ) -> Peers {
        let genesis = RwLock::new(genesis.map(|g| (lineage_of(&g), g)));
        let (announced, own, ahead) = Default::default();
        Peers { node, disk, network, addresses, announced, own, genesis, mandate, ahead, stage }
    }

    /// The mandate by which this node votes alone, as long as the generation that it begins has not begun: meanwhile it
    /// hears nobody and turns to nobody.
    pub fn alone(&self) -> Option<&SignedMandate> {
        let chain = self.stage.view.read().0.chain.clone();
        let generation = chain.head().map_or(0, |link| link.header.generation);
        self.mandate.as_ref().filter(|signed| generation < signed.mandate.generation)
    }

    /// This node's number.
    pub fn node(&self) -> NodeId {
        self.node
    }

    /// The pinned lineage.
    pub fn lineage(&self) -> Option<Lineage> {
        self.genesis.read().as_ref().map(|(lineage, _)| *lineage)
    }

    /// Replaces the pinned genesis, here and in the machine.
    pub fn pin(&self, genesis: Option<Genesis>) {
        let pinned = genesis.map(|g| (lineage_of(&g), g));
        self.stage.machine.lock().pin(pinned.as_ref().map(|(lineage, _)| *lineage));
        *self.genesis.write() = pinned;
    }

    /// Calls a member and reads its answer, which must come from that member in an envelope for this node.
    pub async fn call<Q: Enveloped, A: Enveloped>(
        &self,
        to: NodeId,
        mut request: Q,
        deadline: Duration,
    ) -> Result<A, CallFailed> {
        if self.member(to).is_none_or(|member| member.role == Role::Retired) {
            return Err(CallFailed::Refused(Turned::Retired.to_string()));
        }
        let address = self.address(to).ok_or(CallFailed::Unreachable)?;
        *request.envelope() = Some(self.envelope(to).ok_or(CallFailed::Unreachable)?);
        let frame = Frame { kind: Q::KIND, body: Bytes::from(request.encode_to_vec()) };
        let answer = runtime::timeout(deadline, self.network.call(&address, frame, deadline)).await;
        let answer = answer.map_err(|_| CallFailed::Late)??;
        let (from, reply) = self.open::<A>(answer.from, answer.body).map_err(|t| CallFailed::Refused(t.to_string()))?;
        if from == to { Ok(reply) } else { Err(CallFailed::Refused(Turned::OtherNumber.to_string())) }
    }

    /// Calls whoever listens there, outside of any envelope: for what proves itself, whoever says it. With whose certificate
    /// it was said.
    pub async fn call_plain<Q: Message, A: Message + Default>(
        &self,
        address: &str,
        kind: FrameKind,
        request: &Q,
        deadline: Duration,
    ) -> Result<(PeerCertificate, A), CallFailed> {
        let frame = Frame { kind, body: Bytes::from(request.encode_to_vec()) };
        let answer = runtime::timeout(deadline, self.network.call(address, frame, deadline)).await;
        let answer = answer.map_err(|_| CallFailed::Late)??;
        let reply = A::decode(answer.body).map_err(|_| CallFailed::Refused(Turned::Unreadable.to_string()))?;
        Ok((answer.from, reply))
    }

    /// Where a node listens: as it announced, else as configured.
    pub fn address(&self, node: NodeId) -> Option<String> {
        let announced = self.announced.read().get(&node).map(|said| said.address.clone());
        announced.or_else(|| self.addresses.get(&node).cloned())
    }

    /// Takes note of where this node itself says that it listens.
    pub fn announce(&self, said: Announcement) {
        *self.own.write() = Some(said);
    }

    /// Takes note of where a member says that it listens, if it is the latest word.
    pub fn hear_address(&self, said: Announcement) {
        if let Some(line) = self.member(said.node).filter(|line| line.role != Role::Retired) {
            self.note_address(said, &line);
        }
    }

    /// Takes note of where a node said in an earlier life of this one that it listens: also one that was left behind when
    /// custodians began a generation.
    pub fn remember_address(&self, said: Announcement) {
        let begun = self.chain().generation() > 1;
        if let Some(line) = self.member(said.node).filter(|line| begun || line.role != Role::Retired) {
            self.note_address(said, &line);
        }
    }

    fn note_address(&self, said: Announcement, line: &Member) {
        if said.node == self.node {
            return;
        }
        let mut announced = self.announced.write();
        let newer = announced.get(&said.node).is_none_or(|old| old.incarnation < said.incarnation);
        if newer && said.is_by(line) {
            announced.insert(said.node, said);
        }
    }

    /// What this node must know at a start at which nobody says it: where the members listen, and whom it left behind, who
    /// may go on alone as well.
    pub fn worth_keeping(&self) -> Vec<Announcement> {
        let mut kept = self.announcements();
        if self.chain().generation() > 1 {
            let present: BTreeSet<NodeId> = kept.iter().map(|said| said.node).collect();
            let announced = self.announced.read();
            // The newest first: those who left long ago have long been met, or are gone.
            kept.extend(announced.values().rev().filter(|said| !present.contains(&said.node)).cloned());
            kept.truncate(PRESENT_MAX);
        }
        kept
    }

    /// Where the members of the newest roster have said that they listen.
    pub fn announcements(&self) -> Vec<Announcement> {
        let present = self.roster().map(|roster| roster.present()).unwrap_or_default();
        let (announced, own) = (self.announced.read(), self.own.read());
        announced.values().chain(own.iter()).filter(|said| present.contains(&said.node)).cloned().collect()
    }

    /// Everybody whom this node could ask: the members, and whoever is configured.
    pub fn others(&self) -> BTreeSet<NodeId> {
        if self.alone().is_some() {
            return BTreeSet::new();
        }
        let mut all: BTreeSet<NodeId> = self.addresses.keys().copied().collect();
        if let Some(roster) = self.roster() {
            let gone = |node: &NodeId| roster.member(*node).is_some_and(|m| m.role == Role::Retired);
            all.retain(|node| !gone(node));
            all.extend(roster.present());
        }
        all.remove(&self.node);
        all
    }

    /// Where anybody may listen who is configured or has announced itself, whether it has left or not; this node apart.
    pub fn anybody(&self) -> BTreeMap<NodeId, String> {
        let announced = self.announced.read();
        let known = self.addresses.keys().chain(announced.keys()).filter(|node| **node != self.node);
        let known: BTreeSet<NodeId> = known.copied().collect();
        drop(announced);
        known.into_iter().filter_map(|node| Some((node, self.address(node)?))).collect()
    }

    /// As [`Peers::others`]; where custodians have begun a generation, also whoever was left behind then, and is configured or
    /// has said where it listens: they may have been given a mandate as well.
    pub fn neighbours(&self) -> BTreeSet<NodeId> {
        let mut all = self.others();
        if self.chain().generation() > 1 && self.alone().is_none() {
            all.extend(self.anybody().into_keys());
        }
        all
    }

    /// The other members, by the newest roster that this node has proven: whom it can speak to in an envelope.
    pub fn members(&self) -> BTreeSet<NodeId> {
        if self.alone().is_some() {
            return BTreeSet::new();
        }
        let mut members = self.roster().map(|roster| roster.present()).unwrap_or_default();
        members.remove(&self.node);
        members
    }

    /// The newest chain that this node has proven, by its records or ahead of them.
    pub fn chain(&self) -> Arc<Chain> {
        let own = self.stage.view.read().0.chain.clone();
        let ahead = self.ahead.read().as_ref().map(|ahead| ahead.chain.clone());
        ahead.filter(|ahead| ahead.rank() > own.rank()).unwrap_or(own)
    }

    /// The chain that peers have proven ahead of this node's records, if it is still ahead.
    pub fn ahead(&self) -> Option<Ahead> {
        let own = self.stage.view.read().0.chain.rank();
        self.ahead.read().clone().filter(|ahead| ahead.chain.rank() > own)
    }

    /// Believes a chain that is newer than the one before.
    pub fn run_ahead(&self, newer: Ahead) {
        let mut ahead = self.ahead.write();
        if ahead.as_ref().is_none_or(|before| before.chain.rank() < newer.chain.rank()) {
            *ahead = Some(newer);
        }
    }

    /// The newest roster that this node has proven; before the founding is applied, the one of the genesis.
    pub fn roster(&self) -> Option<Roster> {
        let chain = self.chain();
        chain.roster().cloned().or_else(|| self.genesis.read().as_ref().map(|(_, genesis)| genesis.roster.clone()))
    }

    /// Reads a message that came from the bearer of that certificate, if it may speak here.
    pub fn open<M: Enveloped>(&self, from: PeerCertificate, body: Bytes) -> Result<(NodeId, M), Turned> {
        if body.len() > FRAME_BYTES_MAX {
            return Err(Turned::Unreadable);
        }
        let mut message = M::decode(body).map_err(|_| Turned::Unreadable)?;
        let envelope = message.envelope().take().ok_or(Turned::Unreadable)?;
        Ok((self.admit(from, &envelope)?, message))
    }

    /// The bytes of an answer to `to`.
    pub fn seal<M: Enveloped>(&self, to: NodeId, mut reply: M) -> Result<Bytes, Turned> {
        *reply.envelope() = Some(self.envelope(to).ok_or(Turned::NotFounded)?);
        Ok(Bytes::from(reply.encode_to_vec()))
    }

    /// Whether a signed batch may enter the log: looked at before it does, so that no peer can fill it with anything.
    pub fn admits(&self, signed: &SignedBatch) -> bool {
        let view = self.stage.view.read().clone();
        admit(self.lineage(), &view.0.chain, signed).is_ok()
    }

    /// Whether every one of these nodes is in the roster.
    pub fn knows_all(&self, mut nodes: impl Iterator<Item = u64>) -> bool {
        nodes.all(|node| self.member(NodeId(node)).is_some())
    }

    /// Whether Raft may have this membership, by the newest roster that this node has proven: everybody in it, and each set
    /// of voters that of its epoch or of the one before. What was `decided` by a majority may be of any epoch.
    pub fn seats(&self, membership: &Membership, decided: bool) -> bool {
        let Some(roster) = self.roster() else { return false };
        let known = |node: &u64| roster.member(NodeId(*node)).is_some();
        let seated = |voters: &BTreeSet<u64>| roster.seats(&voters.iter().copied().map(NodeId).collect());
        membership.nodes().all(|(node, _)| known(node)) && (decided || membership.get_joint_config().iter().all(seated))
    }

    fn envelope(&self, target: NodeId) -> Option<pb::Envelope> {
        Some(pb::Envelope {
            lineage: Bytes::copy_from_slice(&self.lineage()?.0),
            sender: self.node.0,
            sender_disk: Bytes::copy_from_slice(&self.disk.0),
            target: target.0,
        })
    }

    fn admit(&self, from: PeerCertificate, envelope: &pb::Envelope) -> Result<NodeId, Turned> {
        let lineage = self.lineage().ok_or(Turned::NotFounded)?;
        let sender = NodeId(envelope.sender);
        let checks = [
            (envelope.lineage[..] == lineage.0, Turned::OtherCluster),
            (envelope.target == self.node.0, Turned::OtherTarget),
            (from.claims == sender, Turned::OtherNumber),
        ];
        checks.into_iter().try_for_each(|(good, turned)| if good { Ok(()) } else { Err(turned) })?;
        let member = self.member(sender).ok_or(Turned::NotMember)?;
        let same_disk = envelope.sender_disk[..] == member.disk.0 || planted!(DiskNotCompared);
        let checks = [
            (member.role != Role::Retired || planted!(RetiredStillHeard), Turned::Retired),
            (member.key == from.key, Turned::OtherKey),
            (same_disk, Turned::OtherDisk),
        ];
        checks.into_iter().try_for_each(|(good, turned)| if good { Ok(()) } else { Err(turned) })?;
        Ok(sender)
    }

    /// The member of that number, by the newest roster.
    pub fn member(&self, node: NodeId) -> Option<Member> {
        let chain = self.chain();
        if let Some(roster) = chain.roster() {
            return roster.member(node).cloned();
        }
        self.genesis.read().as_ref().and_then(|(_, genesis)| genesis.roster.member(node).cloned())
    }

    /// Whether the bearer of that key was a member once and is none any more.
    pub fn has_left(&self, key: &VerifyingKey) -> bool {
        self.chain().roster().and_then(|roster| roster.member_by_key(key)).is_some_and(|m| m.role == Role::Retired)
    }
}
