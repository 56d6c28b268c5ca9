//! Somebody who has stolen a node's certificate, and listens on the wires: replays what nodes said, forges transactions,
//! and comes under other names and from other disks.

use crate::dice::Dice;
use crate::house::address;
use crate::network::Endpoint;
use crate::papers::{false_node_papers, signing_key};
use crate::scene::Scene;
use bytes::Bytes;
use claviger_core::codec::Canonical;
use claviger_core::crypto;
use claviger_core::name::{NodeId, TxnId};
use claviger_core::record::{RecordKey, Table};
use claviger_core::txn::{Put, Reliance, SignedBatch};
use claviger_proto::peer::v1 as pb;
use claviger_world::network::{CallFailed, Frame, FrameKind, Network};
use parking_lot::Mutex;
use prost::Message;
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

/// Frames that are remembered.
const HEARD_MAX: usize = 64;
/// Longest wait for an answer.
const WAIT: Duration = Duration::from_secs(15);

/// Proposals as they went over the wires.
#[derive(Default)]
pub struct Heard(Mutex<VecDeque<Bytes>>);

impl Heard {
    /// Remembers a proposal.
    pub fn proposal(&self, body: &Bytes) {
        let mut heard = self.0.lock();
        if heard.len() == HEARD_MAX {
            heard.pop_front();
        }
        heard.push_back(body.clone());
    }

    fn some(&self, dice: &Dice) -> Option<pb::ProposeRequest> {
        let heard = self.0.lock();
        if heard.is_empty() {
            return None;
        }
        let at = dice.roll(0..heard.len() as u64) as usize;
        pb::ProposeRequest::decode(heard.get(at)?.clone()).ok()
    }
}

/// Has a batch proposed by a node, as whoever has these papers.
pub async fn propose_as(
    scene: &Scene,
    papers: Arc<[u8]>,
    to: NodeId,
    request: pb::ProposeRequest,
) -> Result<(), CallFailed> {
    let endpoint = Endpoint::outside(scene.house.hub.clone(), papers);
    let frame = Frame { kind: FrameKind::Propose, body: request.encode_to_vec().into() };
    let asked = tokio::time::timeout(WAIT, endpoint.call(&address(to), frame, WAIT)).await;
    asked.map_or(Err(CallFailed::Late), |answer| answer.map(drop))
}

/// The stranger, with one certificate.
pub struct Stranger {
    scene: Arc<Scene>,
    heard: Arc<Heard>,
    victim: NodeId,
    dice: Dice,
}

impl Stranger {
    /// Has stolen the papers of some node.
    pub fn new(scene: &Arc<Scene>, heard: Arc<Heard>) -> Stranger {
        let dice = scene.dice("stranger");
        let victim = NodeId(dice.roll(1..scene.plan.nodes + 1));
        Stranger { scene: scene.clone(), heard, victim, dice }
    }

    /// Makes trouble until the run is over.
    pub async fn work(self) {
        while !self.scene.is_over() {
            tokio::time::sleep(Duration::from_millis(self.dice.roll(500..8_000))).await;
            let Some(proposal) = self.heard.some(&self.dice) else { continue };
            self.scene.count(|tally| tally.forgeries += 1);
            match self.dice.roll(0..5) {
                0 | 1 => self.replay(proposal).await,
                2 => self.forge(proposal).await,
                3 => self.come_from_another_disk(proposal).await,
                _ => self.come_under_another_key(proposal).await,
            }
        }
    }

    fn target(&self) -> NodeId {
        let others: Vec<NodeId> = self.scene.house.all().into_iter().filter(|n| *n != self.victim).collect();
        *self.dice.pick(&others).expect("three nodes at least")
    }

    /// An envelope as the victim would write it.
    fn envelope(&self, heard: &pb::ProposeRequest, to: NodeId, disk: Option<[u8; 16]>) -> Option<pb::Envelope> {
        let lineage = heard.envelope.as_ref()?.lineage.clone();
        let own = self.scene.house.life(self.victim).map(|life| life.node.ledger().disk_id().0);
        let disk = disk.or(own)?;
        Some(pb::Envelope { lineage, sender: self.victim.0, sender_disk: disk.to_vec().into(), target: to.0 })
    }

    async fn send(&self, papers: Arc<[u8]>, to: NodeId, request: pb::ProposeRequest) -> Result<(), CallFailed> {
        propose_as(&self.scene, papers, to, request).await
    }

    /// What was said once is said again, by whom it may be: it must not happen twice.
    async fn replay(&self, heard: pb::ProposeRequest) {
        let to = self.target();
        let Some(envelope) = self.envelope(&heard, to, None) else { return };
        let request = pb::ProposeRequest { envelope: Some(envelope), batch: heard.batch };
        let answer = self.send(self.scene.house.papers(self.victim), to, request).await;
        self.tell("replays a batch", to, &answer);
    }

    /// A batch that nobody signed, or that the thief did.
    async fn forge(&self, heard: pb::ProposeRequest) {
        let to = self.target();
        let Some(envelope) = self.envelope(&heard, to, None) else { return };
        let Ok(signed) = SignedBatch::from_bytes(&heard.batch) else { return };
        let batch = self.forged(signed).to_bytes().into();
        let request = pb::ProposeRequest { envelope: Some(envelope), batch };
        let answer = self.send(self.scene.house.papers(self.victim), to, request).await;
        self.tell("forges a batch", to, &answer);
    }

    fn forged(&self, mut signed: SignedBatch) -> SignedBatch {
        let record = RecordKey::hashed(Table::Denied, self.dice.bytes());
        let id = TxnId(self.dice.bytes());
        signed.batch.txns.truncate(1);
        if let Some(txn) = signed.batch.txns.first_mut() {
            txn.id = id;
            txn.relies = vec![Reliance::Exact(record, 0)];
            txn.puts = vec![Put { key: record, value: self.dice.bytes::<40>().to_vec() }];
            txn.deletes.clear();
            txn.effect = claviger_core::txn::Effect::Records;
        }
        self.scene.promises.forged.made_up(id, record);
        if self.dice.once_in(2) { crypto::sign_batch(&signing_key(self.dice.bytes()), signed.batch) } else { signed }
    }

    async fn come_from_another_disk(&self, heard: pb::ProposeRequest) {
        let to = self.target();
        let Some(envelope) = self.envelope(&heard, to, Some(self.dice.bytes())) else { return };
        let request = pb::ProposeRequest { envelope: Some(envelope), batch: heard.batch };
        let answer = self.send(self.scene.house.papers(self.victim), to, request).await;
        self.tell("comes from another disk", to, &answer);
        self.scene.promises.roster.turned_away("a member on another disk", answer.as_ref().copied());
    }

    async fn come_under_another_key(&self, heard: pb::ProposeRequest) {
        let to = self.target();
        let Some(envelope) = self.envelope(&heard, to, None) else { return };
        let request = pb::ProposeRequest { envelope: Some(envelope), batch: heard.batch };
        let papers = false_node_papers(self.scene.plan.seed, self.victim);
        let answer = self.send(papers, to, request).await;
        self.tell("comes under another key", to, &answer);
        self.scene.promises.roster.turned_away("a member's number under another key", answer.as_ref().copied());
    }

    fn tell(&self, what: &str, to: NodeId, answer: &Result<(), CallFailed>) {
        let answer = answer.as_ref().map_err(ToString::to_string);
        self.scene.trace.tell(0, &format!("a stranger as node {} {what} at node {to}: {answer:?}", self.victim));
    }
}
