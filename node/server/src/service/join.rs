//! Joining: a node without a cluster shows its ticket to the members, and a member lets it in.

use super::{ReadAsk, Service};
use crate::peers::{self, ANSWER_WAIT};
use bytes::Bytes;
use claviger_core::codec::Writer;
use claviger_core::crypto;
use claviger_core::decide::{self, Joining};
use claviger_core::failure::{Failure, Why};
use claviger_core::name::{Digest, DiskId, Identity, Lineage, Signature};
use claviger_core::page::{OutcomeWord, Page};
use claviger_core::policy::Operation;
use claviger_core::roster::{Member, Role};
use claviger_core::secret::Secret32;
use claviger_core::ticket::{Seed, Ticket, ticket_digest};
use claviger_ledger::Met;
use claviger_proto::peer::v1 as peer;
use claviger_world::network::{Frame, FrameKind, PeerCertificate};
use claviger_world::{entropy, runtime};
use prost::Message;
use std::time::Duration;

/// What the signature of a joining node is over starts with this.
const JOIN_DOMAIN: &[u8] = b"claviger/v1/join\0";
/// How long a node that was not let in waits before it shows its ticket again.
const AGAIN_AFTER: Duration = Duration::from_secs(1);
/// How often a join is decided anew when others change the roster at the same time.
const ATTEMPTS_MAX: usize = 8;

impl Service {
    /// Joins the cluster of the ticket, however long that takes; at once where the node belongs to one already.
    pub(crate) async fn join(&self, ticket: &Ticket) {
        while self.ledger.lineage().is_none() {
            for seed in &ticket.seeds {
                match self.join_at(ticket, seed).await {
                    Ok(()) => {
                        tracing::info!(lineage = %ticket.lineage, "this node has joined, and learns");
                        return;
                    }
                    Err(why) => tracing::warn!(node = seed.node.0, why, "a member did not let this node in"),
                }
            }
            runtime::sleep(AGAIN_AFTER).await;
        }
    }

    /// Turns to one member: hears from it, with the proof, how the cluster stands; shows it the ticket if it is a member, and
    /// hears again.
    async fn join_at(&self, ticket: &Ticket, seed: &Seed) -> Result<(), String> {
        let met = self.meet(ticket, seed).await?;
        if !has(&met, &self.own_line()) {
            self.show(ticket, seed, &met).await?;
        }
        let met = self.meet(ticket, seed).await?;
        self.ledger.join(met).await.map(drop).map_err(|why| why.to_string())
    }

    async fn meet(&self, ticket: &Ticket, seed: &Seed) -> Result<Met, String> {
        self.ledger.meet(&seed.address, ticket.lineage).await.map_err(|why| why.to_string())
    }

    /// The secret is shown only to whoever the cluster's own roster says is a member.
    async fn show(&self, ticket: &Ticket, seed: &Seed, met: &Met) -> Result<(), String> {
        let member = met.roster().and_then(|roster| roster.member(seed.node));
        if member.is_none_or(|m| m.key != seed.key || m.role == Role::Retired) {
            return Err("it is no member any more".into());
        }
        let asked = self.world.network.call(&seed.address, nothing(ticket.lineage), ANSWER_WAIT).await;
        let there = asked.map_err(|why| why.to_string())?.from;
        if there.key != seed.key || there.claims != seed.node {
            return Err("another node listens there".into());
        }
        let frame = Frame { kind: FrameKind::Join, body: self.request(ticket).encode_to_vec().into() };
        let answer = self.world.network.call(&seed.address, frame, ANSWER_WAIT).await;
        answer.map(drop).map_err(|why| why.to_string())
    }

    fn request(&self, ticket: &Ticket) -> peer::JoinRequest {
        let line = self.own_line();
        let signature = crypto::sign(&self.config.identity, &signed_bytes(&ticket.digest(), &line));
        peer::JoinRequest {
            lineage: ticket.lineage.0.to_vec().into(),
            ticket: ticket.to_show().into(),
            node: line.node.0,
            disk: line.disk.0.to_vec().into(),
            signature: signature.0.to_vec().into(),
        }
    }

    /// Answers a node that shows a ticket.
    pub(crate) async fn hear_join(&self, from: PeerCertificate, body: Bytes) -> Result<Bytes, String> {
        let asked = peers::read::<peer::JoinRequest>(body)?;
        if self.ledger.lineage().is_none_or(|lineage| asked.lineage[..] != lineage.0) {
            return Err("this node belongs to another cluster, or to none".into());
        }
        if self.ledger.has_left(&from.key) {
            // No page: its certificate is still good, and it could fill the book.
            return Err("this node's key has left the cluster for ever".into());
        }
        let (secret, line) = read(&asked, &from).ok_or("the request is not signed by the node that it names")?;
        let let_in = self.let_in(&secret, &line).await;
        self.page_join(&let_in)?;
        let_in.map_err(|why| why.to_string())?;
        Ok(peer::JoinReply {}.encode_to_vec().into())
    }

    /// On whose word, if it is not a member already.
    async fn let_in(&self, secret: &Secret32, line: &Member) -> Result<Option<Identity>, Failure> {
        for _ in 0..ATTEMPTS_MAX {
            let joining = {
                let reading = self.reading(ReadAsk::default()).await?;
                let desk = reading.opened()?.desk(&reading.view, self.world.clock.now());
                decide::join(&desk, secret, line, &mut entropy::chance(&*self.world.entropy))?
            };
            match joining {
                Joining::Joined => return Ok(None),
                Joining::Joins(txn, record) => {
                    if self.bookkeeping(*txn).await? {
                        return Ok(Some(record.by));
                    }
                    // Somebody else changed the roster at the same time.
                }
            }
        }
        Err(Why::Contended.into())
    }

    /// A join is the change of a member's role, on the word of whoever gave the ticket.
    fn page_join(&self, let_in: &Result<Option<Identity>, Failure>) -> Result<(), String> {
        let caller = let_in.as_ref().ok().cloned().flatten();
        let page = Page::bare(self.config.node, self.world.clock.now(), OutcomeWord::of(let_in));
        let page = Page { caller, operation: Some(Operation::SetMemberRole), ..page };
        self.book.write(page).map_err(|_| Failure::from(Why::BookFull).to_string())
    }
}

/// A question that says nothing: to see who listens before anything is said.
fn nothing(lineage: Lineage) -> Frame {
    let asked = peer::AcquaintRequest { lineage: lineage.0.to_vec().into(), links: u64::MAX, ..Default::default() };
    Frame { kind: FrameKind::Acquaint, body: asked.encode_to_vec().into() }
}

fn has(met: &Met, line: &Member) -> bool {
    let found = met.roster().and_then(|roster| roster.member(line.node));
    found.is_some_and(|m| m.key == line.key && m.disk == line.disk)
}

/// Reads a request, when it is signed by the very key whose connection it came over.
fn read(asked: &peer::JoinRequest, from: &PeerCertificate) -> Option<(Secret32, Member)> {
    let secret = Secret32::copy_from(&asked.ticket)?;
    let disk = asked.disk.as_ref().try_into().ok().map(DiskId)?;
    let line = Member { node: from.claims, key: from.key, disk, role: Role::Learner };
    let signature = asked.signature.as_ref().try_into().ok().map(Signature)?;
    let good = asked.node == line.node.0;
    let signed = crypto::verify(&line.key, &signed_bytes(&ticket_digest(&secret), &line), &signature);
    (good && signed).then_some((secret, line))
}

fn signed_bytes(ticket: &Digest, line: &Member) -> Vec<u8> {
    let mut w = Writer::default();
    w.raw(JOIN_DOMAIN).raw(&ticket.0);
    w.u64(line.node.0).raw(&line.key.0).raw(&line.disk.0);
    w.into_bytes()
}
