//! How nodes end by themselves, or do not start: each must have a reason that a fault has given it, and name it.

use super::dwelling::Dwelling;
use super::{House, Life, RETIRES, address};
use crate::promises::Promise;
use claviger_core::name::NodeId;
use claviger_server::StartFailed;
use claviger_world::runtime::Context;
use std::sync::Arc;

/// How a node says that what it has stored is not what it had computed.
const HASH_DIFFERS: &str = "the state's hash is another";
/// What a node says of a disk that was put back.
const WENT_BACK: &str = "went back in time";
/// What a node says that has met another one which goes on alone too.
const TORN: &str = "two nodes have each begun";

impl House {
    /// A node that does not start says why: fine for one whose disk was hurt.
    pub(super) fn not_started(&self, id: NodeId, context: &Context, why: &StartFailed) {
        self.hub.leave(&address(id));
        context.kill();
        // The process has ended: what its disk had refused it, it may be granted the next time.
        self.disk(id).crash();
        self.trace.tell(id.0, &format!("does not start: {why}"));
        let by_disk = why.to_string().contains("the disk failed");
        let (good, for_good) = self.dwellings.lock().get_mut(&id).map_or((false, false), |dwelling| {
            dwelling.nascent = None;
            let set_back = dwelling.set_back && why.to_string().contains(WENT_BACK);
            let astray = dwelling.astray.is_some() && why.to_string().contains(HASH_DIFFERS);
            (dwelling.hurt || astray || (dwelling.excused && by_disk), astray || set_back)
        });
        if for_good {
            self.lose(id, &why.to_string());
        }
        self.board.expect(Promise::Sound, good, || format!("node {id} does not start, for no fault: {why}"));
    }

    /// Waits for the node to end by itself, as the daemon does, and switches it off then.
    pub(super) fn watch(self: &Arc<Self>, life: Life) {
        let (house, (said, saying)) = (self.clone(), tokio::sync::oneshot::channel());
        let node = life.node.clone();
        // In the node's context, so that nothing of it is kept when its power is cut.
        drop(life.context.spawn(async move { said.send(node.ended().await.why) }));
        let (id, context) = (life.id, Arc::downgrade(&life.context));
        tokio::spawn(async move {
            let Ok(why) = saying.await else { return };
            if context.upgrade().is_some_and(|context| !context.is_dead()) {
                house.ended(id, &why);
                house.crash(id).await;
            }
        });
    }

    fn ended(&self, id: NodeId, why: &str) {
        self.trace.tell(id.0, &format!("ends by itself: {why}"));
        let is = |what: fn(&Dwelling) -> bool| self.dwellings.lock().get(&id).is_some_and(what);
        let removed = why.contains("was removed from its cluster");
        let leaves = removed && is(|d| d.lost.as_deref() == Some(RETIRES));
        if leaves || (why.contains("given their mandate") && is(|d| d.inherits)) {
            return;
        }
        if removed && is(|d| d.back) {
            self.change(id, |dwelling| dwelling.back = false);
            return self.lose(id, RETIRES);
        }
        if why.contains(TORN) && is(|d| d.torn) {
            return self.lose(id, why);
        }
        if why.contains(WENT_BACK) && is(|d| d.set_back) {
            return self.lose(id, why);
        }
        let by_disk = why.contains("the disk failed") || why.contains("Raft stopped") || why.contains("data folder");
        if why.contains("differs from the cluster's") || why.contains(HASH_DIFFERS) {
            self.board.expect(Promise::States, is(|d| d.astray.is_some()), || format!("node {id} ended: {why}"));
            // Started again it refuses, unless the flip had not come to its disk.
            return;
        }
        let good = by_disk && is(|d| d.excused);
        self.board.expect(Promise::Sound, good, || format!("node {id} ended by itself: {why}"));
    }
}
