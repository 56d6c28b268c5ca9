//! What this node knows of the others' disks, in memory and on its own disk: votes, log positions and starts that they
//! have shown it. A start is durable before it is answered; the rest follows within a second, and nobody waits for it.

use super::known::{Known, Own};
use crate::machine::LoadFailed;
use crate::machine::scan_all;
use bytes::Bytes;
use claviger_core::mark::{Ballot, Position};
use claviger_core::name::{Lineage, NodeId};
use claviger_proto::peer::v1 as pb;
use claviger_world::disk::{Batch, Disk, DiskFailed, Space};
use parking_lot::Mutex;
use prost::Message;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

const PREFIX: &[u8] = b"known/";
/// What follows every key of that prefix.
const BEHIND: &[u8] = b"known0";

/// What is known of all.
pub(crate) struct Memory {
    disk: Arc<dyn Disk>,
    held: Mutex<Held>,
    /// Held by whoever makes durable what is not: who comes meanwhile waits for it.
    saving: tokio::sync::Mutex<()>,
}

#[derive(Default)]
struct Held {
    lineage: Option<Lineage>,
    known: BTreeMap<NodeId, Known>,
    /// Of whom more is known than is on its way to the disk.
    unsaved: BTreeSet<NodeId>,
}

impl Memory {
    /// Reads back what was known in that cluster.
    pub fn load(disk: Arc<dyn Disk>, lineage: Option<Lineage>) -> Result<Memory, LoadFailed> {
        let mut known = BTreeMap::new();
        scan_all(&*disk, Space::Node, |(key, stored)| {
            if !lineage.is_some_and(|lineage| key.starts_with(&prefix(&lineage))) {
                return Ok(());
            }
            let read = pb::Known::decode(stored).ok().and_then(|known| Known::from_wire(known).ok());
            let (node, fact) = read.ok_or(LoadFailed::Damaged("what is known of other nodes"))?;
            known.insert(node, fact);
            Ok(())
        })?;
        let held = Mutex::new(Held { lineage, known, unsaved: BTreeSet::new() });
        Ok(Memory { disk, held, saving: tokio::sync::Mutex::default() })
    }

    /// Begins anew, in another cluster or none.
    pub async fn forget(&self, lineage: Option<Lineage>) -> Result<(), DiskFailed> {
        *self.held.lock() = Held { lineage, ..Held::default() };
        let mut batch = Batch::default();
        forget(&mut batch);
        self.disk.write(batch).await
    }

    /// What is known of a node.
    pub fn of(&self, node: NodeId) -> Known {
        self.held.lock().known.get(&node).copied().unwrap_or_default()
    }

    /// Everything that is known.
    pub fn all(&self) -> Vec<(NodeId, Known)> {
        self.held.lock().known.iter().map(|(node, known)| (*node, *known)).collect()
    }

    /// A node has voted for a candidate, or followed a leader.
    pub fn voted(&self, node: NodeId, vote: Ballot) {
        self.learn(node, &Known { vote: Some(vote), ..Known::default() });
    }

    /// A node holds the log up to there, and follows that leader.
    pub fn acknowledged(&self, node: NodeId, to: Ballot, position: Position) {
        let acknowledged = Some((to, position));
        self.learn(node, &Known { vote: Some(to), acknowledged, ..Known::default() });
    }

    /// What a leader makes of acknowledgements once it has applied as far as `applied`: what is committed stays.
    pub fn committed(&self, leader: Ballot, applied: Position) {
        let holds = |known: &Known| known.acknowledged.filter(|(to, _)| *to == leader).map(|(_, at)| at.min(applied));
        let held: Vec<_> = self.all().into_iter().filter_map(|(node, known)| Some((node, holds(&known)?))).collect();
        for (node, position) in held {
            self.learn(node, &Known { held: Some(position), ..Known::default() });
        }
        self.learn(leader.node, &Known { vote: Some(leader), held: Some(applied), ..Known::default() });
    }

    /// Adds what is new.
    pub fn learn(&self, node: NodeId, news: &Known) {
        let mut held = self.held.lock();
        let known = held.known.entry(node).or_default();
        let before = *known;
        known.merge(news);
        if *known != before {
            held.unsaved.insert(node);
        }
    }

    /// Notes a start, durably, of a disk that holds what is known of it: a copy that went back must not stand in the way of
    /// the right one. What was known before.
    pub async fn started(&self, node: NodeId, own: &Own) -> Result<Known, DiskFailed> {
        let before = self.of(node);
        if before.lost_by(own).is_none() {
            self.learn(node, &Known { start: Some(own.start), ..Known::default() });
            self.save().await?;
        }
        Ok(before)
    }

    /// Makes durable what is not.
    pub async fn save(&self) -> Result<(), DiskFailed> {
        let _turn = self.saving.lock().await;
        let written = {
            let mut held = self.held.lock();
            let unsaved = std::mem::take(&mut held.unsaved);
            let Some(prefix) = held.lineage.map(|lineage| prefix(&lineage)).filter(|_| !unsaved.is_empty()) else {
                return Ok(());
            };
            let mut batch = Batch::default();
            for (node, known) in held.known.iter().filter(|(node, _)| unsaved.contains(node)) {
                let key = [&prefix[..], &node.0.to_be_bytes()].concat();
                batch.put(Space::Node, key, Bytes::from(known.to_wire(*node).encode_to_vec()));
            }
            self.disk.write(batch)
        };
        written.await
    }
}

/// Clears all that is known.
pub(crate) fn forget(batch: &mut Batch) {
    batch.delete_range(Space::Node, PREFIX, BEHIND);
}

fn prefix(lineage: &Lineage) -> Vec<u8> {
    [PREFIX, &lineage.0].concat()
}
