//! Looks on: at every frame that arrives, and again and again at every node and its disk.

use crate::house::Life;
use crate::promises::Promise;
use crate::promises::audit::Looked;
use crate::promises::proven::Seen;
use crate::scene::{Promises, Scene};
use crate::stranger::Heard;
use bytes::Bytes;
use claviger_core::codec::Canonical;
use claviger_core::name::NodeId;
use claviger_core::page::SignedHead;
use claviger_core::record::{RecordKey, Table, View};
use claviger_ledger::LedgerView;
use claviger_world::network::{Frame, FrameKind, PeerCertificate};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// How often nodes are looked at.
const LOOK_EVERY: Duration = Duration::from_millis(400);
/// How often disks are searched for secrets.
const SEARCH_EVERY: u64 = 250;

/// Hears every frame.
pub struct Tap {
    promises: Arc<Promises>,
    heard: Arc<Heard>,
}

impl Tap {
    /// Tells the promises, and whoever listens on the wires.
    pub fn new(promises: Arc<Promises>, heard: Arc<Heard>) -> Arc<Tap> {
        Arc::new(Tap { promises, heard })
    }
}

impl crate::network::Tap for Tap {
    fn request(&self, from: PeerCertificate, to: NodeId, sent: Instant, frame: &Frame) {
        self.promises.clear.pass("a frame between nodes", &frame.body);
        match frame.kind {
            FrameKind::Raft => self.promises.raft.request(from.claims, to, sent, &frame.body),
            FrameKind::Propose => self.heard.proposal(&frame.body),
            FrameKind::Barrier
            | FrameKind::Compare
            | FrameKind::Recall
            | FrameKind::Found
            | FrameKind::Ceremony
            | FrameKind::Root
            | FrameKind::Status
            | FrameKind::Acquaint
            | FrameKind::Join => {}
        }
    }

    fn answer(&self, from: NodeId, to: NodeId, question: &Frame, answer: &Result<Bytes, String>) {
        let Ok(body) = answer else { return };
        self.promises.clear.pass("an answer between nodes", body);
        if question.kind == FrameKind::Raft {
            self.promises.raft.answer(from, to, &question.body, body);
        }
    }
}

/// Looks at every node as long as the run lasts.
pub async fn look_on(scene: Arc<Scene>) {
    for round in 1_u64.. {
        tokio::time::sleep(LOOK_EVERY).await;
        look(&scene);
        if round.is_multiple_of(SEARCH_EVERY) {
            search_disks(&scene);
        }
    }
}

/// One look at every node.
pub fn look(scene: &Scene) {
    let strays = scene.house.stray_lives();
    for life in scene.house.lives() {
        scene.promises.sealed.lives(life.id, life.number, scene.trace.moment());
        let ledger = life.node.ledger();
        let status = ledger.status();
        let (open, installed) = (life.node.is_open(), status.installed_index);
        scene.promises.proven.look(life.id, Seen { life: life.number, open, installed, trusted: status.trusted });
        let early = open && ledger.alone().is_some();
        scene
            .board
            .expect(Promise::Roster, !early, || format!("node {} is open before its generation has begun", life.id));
        scene.promises.raft.status(life.id, life.number, status.term, status.applied_index);
        let sound = ledger.figures().snapshots_refused == 0 || scene.house.may_refuse(life.id);
        scene
            .board
            .expect(Promise::Sound, sound, || format!("node {} refuses a snapshot that nothing has harmed", life.id));
        scene.promises.raft.log(life.id, status.applied_index, &scene.house.disk(life.id));
        scene.promises.time.node_time(life.id, life.number, status.revision.sequence, status.revision.cluster_time);
        if let Some(since) = strays.get(&life.id) {
            if status.installed_index > Some(*since) {
                scene.house.healed(life.id);
                continue;
            }
            scene.promises.states.astray(life.id, *since, status.agreed_index);
        } else if let Some(state) = &status.state {
            scene.promises.states.observed(life.id, state);
        }
        heads(scene, &ledger.view());
        materials(scene, &ledger.view());
        book(scene, &life);
    }
    for life in scene.house.wiped_lives() {
        let inside = life.node.is_open() || life.node.ledger().view().head().is_some();
        scene.board.expect(Promise::Roster, !inside, || format!("node {} belongs again, on a wiped disk", life.id));
    }
}

/// Looks at the newest head of every book that a ledger has.
fn heads(scene: &Scene, view: &LedgerView) {
    for id in scene.house.all() {
        let record = view.record(&RecordKey::numbered(Table::AuditHead, id.0));
        if let Some(head) = record.and_then(|record| SignedHead::from_bytes(&record.value).ok()) {
            let own = head.head.node == id;
            scene.board.expect(Promise::Audit, own, || {
                format!("the head of node {} stands in the place of {id}", head.head.node)
            });
            scene.promises.audit.head(&head, &scene.house.public(id));
        }
    }
}

/// Has all key material watched for that a node's records hold.
fn materials(scene: &Scene, view: &LedgerView) {
    let Some(eye) = scene.eye.get() else { return };
    for (what, material) in scene.keys.iter().flat_map(|name| eye.new_materials(view, name)) {
        scene.board.expect(Promise::Sound, material.is_some(), || format!("the oracle does not open {what}"));
        scene.promises.clear.watch_late(material.iter().map(|material| (what.clone(), material.expose())));
    }
}

/// Looks at a node's book.
fn book(scene: &Scene, life: &Life) {
    let (disk, key) = (scene.house.disk(life.id), scene.house.public(life.id));
    let (failed, at) = (life.node.book_failed(), scene.trace.elapsed());
    scene.promises.audit.look(&Looked { node: life.id, life: life.number, key: &key, disk: &disk, failed, at });
}

/// Searches every disk for what must not lie there in the clear.
pub fn search_disks(scene: &Scene) {
    for id in scene.house.all() {
        let disk = scene.house.disk(id);
        for (space, key, value) in disk.image() {
            scene.promises.clear.look(&format!("the disk of node {id}, {space:?}"), &value);
            scene.promises.clear.look(&format!("the keys of the disk of node {id}, {space:?}"), &key);
        }
        for (name, bytes) in disk.file_bytes() {
            scene.promises.clear.look(&format!("file {name} of node {id}"), &bytes);
        }
    }
}
