//! Looks on: at every frame that arrives, and again and again at every node and its disk.

use crate::promises::Promise;
use crate::scene::{Promises, Scene};
use crate::stranger::Heard;
use bytes::Bytes;
use claviger_core::name::NodeId;
use claviger_world::network::{Frame, FrameKind, PeerCertificate};
use std::sync::Arc;
use std::time::Duration;

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
    fn request(&self, from: PeerCertificate, to: NodeId, frame: &Frame) {
        self.promises.clear.look("a frame between nodes", &frame.body);
        match frame.kind {
            FrameKind::Raft => self.promises.raft.request(from.claims, to, &frame.body),
            FrameKind::Propose => self.heard.proposal(&frame.body),
            FrameKind::Barrier
            | FrameKind::Compare
            | FrameKind::Found
            | FrameKind::Ceremony
            | FrameKind::Root
            | FrameKind::Status => {}
        }
    }

    fn answer(&self, from: NodeId, to: NodeId, question: &Frame, answer: &Result<Bytes, String>) {
        let Ok(body) = answer else { return };
        self.promises.clear.look("an answer between nodes", body);
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
        scene.promises.raft.status(life.id, life.number, status.term, status.applied_index);
        scene.promises.raft.log(life.id, status.applied_index, &scene.house.disk(life.id));
        scene.promises.time.node_time(life.id, life.number, status.revision.sequence, status.revision.cluster_time);
        if let Some(since) = strays.get(&life.id) {
            scene.promises.states.astray(life.id, *since, status.agreed_index);
        } else if let Some(state) = &status.state {
            scene.promises.states.observed(life.id, state);
        }
    }
    for life in scene.house.wiped_lives() {
        let inside = life.node.is_open() || life.node.ledger().view().head().is_some();
        scene.board.expect(Promise::Roster, !inside, || format!("node {} belongs again, on a wiped disk", life.id));
    }
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
