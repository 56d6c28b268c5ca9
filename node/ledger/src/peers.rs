//! Who may speak to this ledger, and how it speaks to others: every frame is in an envelope, and certificate, claimed
//! number, disk and roster must agree on both ends before anything else is looked at.

use crate::machine::{admit, lineage_of};
use crate::raft::store::Stage;
use bytes::Bytes;
use claviger_core::name::{DiskId, Lineage, NodeId};
use claviger_core::planted;
use claviger_core::roster::{Genesis, Member, Role};
use claviger_core::txn::SignedBatch;
use claviger_proto::peer::v1 as pb;
use claviger_world::network::{CallFailed, FRAME_BYTES_MAX, Frame, FrameKind, Network, PeerCertificate};
use claviger_world::runtime;
use parking_lot::RwLock;
use prost::Message;
use std::collections::BTreeMap;
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
    BarrierRequest: Barrier, BarrierReply: Barrier, CompareRequest: Compare, CompareReply: Compare
);

/// The other nodes, as this one knows them.
pub(crate) struct Peers {
    node: NodeId,
    disk: DiskId,
    network: Arc<dyn Network>,
    addresses: BTreeMap<NodeId, String>,
    genesis: RwLock<Option<(Lineage, Genesis)>>,
    stage: Arc<Stage>,
}

impl Peers {
    pub fn new(
        node: NodeId,
        disk: DiskId,
        network: Arc<dyn Network>,
        addresses: BTreeMap<NodeId, String>,
        genesis: Option<Genesis>,
        stage: Arc<Stage>,
    ) -> Peers {
        let genesis = RwLock::new(genesis.map(|g| (lineage_of(&g), g)));
        Peers { node, disk, network, addresses, genesis, stage }
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
        let address = self.addresses.get(&to).ok_or(CallFailed::Unreachable)?;
        *request.envelope() = Some(self.envelope(to).ok_or(CallFailed::Unreachable)?);
        let frame = Frame { kind: Q::KIND, body: Bytes::from(request.encode_to_vec()) };
        let answer = runtime::timeout(deadline, self.network.call(address, frame, deadline)).await;
        let answer = answer.map_err(|_| CallFailed::Late)??;
        let (from, reply) = self.open::<A>(answer.from, answer.body).map_err(|t| CallFailed::Refused(t.to_string()))?;
        if from == to { Ok(reply) } else { Err(CallFailed::Refused(Turned::OtherNumber.to_string())) }
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
            (member.role != Role::Retired, Turned::Retired),
            (member.key == from.key, Turned::OtherKey),
            (same_disk, Turned::OtherDisk),
        ];
        checks.into_iter().try_for_each(|(good, turned)| if good { Ok(()) } else { Err(turned) })?;
        Ok(sender)
    }

    /// The member of that number: by the newest roster that was applied, before that by the genesis.
    fn member(&self, node: NodeId) -> Option<Member> {
        let view = self.stage.view.read().clone();
        if let Some(roster) = view.roster() {
            return roster.member(node).cloned();
        }
        self.genesis.read().as_ref().and_then(|(_, genesis)| genesis.roster.member(node).cloned())
    }
}
