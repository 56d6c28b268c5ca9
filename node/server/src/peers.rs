//! What other nodes say to this one, apart from what the ledger hears itself. Every frame comes over mutual TLS; who
//! sent it is checked against the roster, and before founding against the configuration.

use crate::service::Service;
use bytes::Bytes;
use claviger_core::address::Announcement;
use claviger_core::name::NodeId;
use claviger_core::roster::Role;
use claviger_proto::peer::v1 as peer;
use claviger_world::disk::BoxFuture;
use claviger_world::network::{CallFailed, Frame, FrameKind, Listener, PeerCertificate};
use prost::Message;
use std::sync::Arc;
use std::time::Duration;

/// Longest that a node waits for another's answer in a founding or a ceremony.
pub(crate) const ANSWER_WAIT: Duration = Duration::from_secs(10);

/// Hears frames on behalf of a node.
pub(crate) struct Ear(pub(crate) Arc<Service>);

impl Listener for Ear {
    fn hear(&self, from: PeerCertificate, frame: Frame) -> BoxFuture<'static, Result<Bytes, String>> {
        let service = self.0.clone();
        // Whoever goes on alone takes no shares, keys or members from the cluster that it has left behind.
        if frame.kind != FrameKind::Acquaint && service.ledger.alone().is_some() {
            return Box::pin(async { Err("this node goes on alone, by a mandate of the custodians".into()) });
        }
        match frame.kind {
            FrameKind::Raft
            | FrameKind::Propose
            | FrameKind::Barrier
            | FrameKind::Compare
            | FrameKind::Acquaint
            | FrameKind::Recall => service.ledger.hear(from, frame),
            FrameKind::Join => Box::pin(async move { service.hear_join(from, frame.body).await }),
            FrameKind::Found => Box::pin(async move { service.hear_founding(from, frame.body).await }),
            FrameKind::Ceremony => Box::pin(async move {
                service.known_peer(&from)?;
                service.hear_ceremony(frame.body).await
            }),
            FrameKind::Root => Box::pin(async move {
                service.known_peer(&from)?;
                service.hear_root(frame.body).await
            }),
            FrameKind::Status => Box::pin(async move {
                service.known_peer(&from)?;
                Ok(service.own_status().encode_to_vec().into())
            }),
        }
    }
}

impl Service {
    /// Refuses a peer that the roster does not know by number and key.
    pub(crate) fn known_peer(&self, from: &PeerCertificate) -> Result<(), String> {
        let roster = self.ledger.roster().ok_or("this node belongs to no cluster yet")?;
        let member = roster.member(from.claims).filter(|m| m.key == from.key && m.role != Role::Retired);
        member.map(|_| ()).ok_or_else(|| "the certificate is not that of a member".into())
    }

    /// Asks one node, and reads its answer.
    pub(crate) async fn ask<Q: Message, A: Message + Default>(
        &self,
        to: NodeId,
        kind: FrameKind,
        question: &Q,
        wait: Duration,
    ) -> Result<(PeerCertificate, A), CallFailed> {
        let address = self.ledger.address(to).ok_or(CallFailed::Unreachable)?;
        let frame = Frame { kind, body: question.encode_to_vec().into() };
        let answer = self.world.network.call(&address, frame, wait).await?;
        let key = self.ledger.roster().and_then(|r| r.member(to).map(|m| m.key));
        if answer.from.claims != to || key.is_some_and(|key| key != answer.from.key) {
            return Err(CallFailed::Refused("another node answers at that address".into()));
        }
        let said = A::decode(answer.body).map_err(|_| CallFailed::Refused("its answer cannot be read".into()))?;
        Ok((answer.from, said))
    }

    /// Says where this node listens, to every member that asks or is asked.
    pub(crate) fn announce(&self) {
        let Some(address) = self.config.addresses.get(&self.config.node) else { return };
        let (line, incarnation) = (self.own_line(), self.ledger.incarnation());
        self.ledger.announce(Announcement::make(&line, incarnation, address, &self.config.identity));
    }

    /// Every configured node but this one: who founds a cluster.
    pub(crate) fn configured_others(&self) -> Vec<NodeId> {
        self.config.addresses.keys().copied().filter(|n| *n != self.config.node).collect()
    }
}

/// Reads a question, or says that it cannot be read.
pub(crate) fn read<M: Message + Default>(body: Bytes) -> Result<M, String> {
    M::decode(body).map_err(|_| "the frame cannot be read".into())
}

/// The question of an operator: who are you, and how are you.
pub(crate) const STATUS: peer::StatusRequest = peer::StatusRequest {};
