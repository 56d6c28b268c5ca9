//! What was acknowledged is there afterwards, on every node, as it was acknowledged.

use super::{Board, Promise};
use crate::history::{Ask, Deed, Seen};
use claviger_core::key::KeyRecord;
use claviger_core::name::NodeId;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Compares what was acknowledged with what is left.
pub struct Survives {
    board: Arc<Board>,
}

impl Survives {
    /// Nothing yet.
    pub fn new(board: Arc<Board>) -> Self {
        Survives { board }
    }

    /// What a node holds in the end, against everything that was ever acknowledged.
    pub fn at_the_end(&self, node: NodeId, deeds: &[Deed], finals: &BTreeMap<u64, KeyRecord>, revision: u64) {
        for deed in deeds.iter().filter(|deed| deed.ended.is_some()) {
            self.board.expect(Promise::Survives, deed.revision <= revision, || {
                format!("node {node} ends at revision {revision}; {} was seen before", deed.revision)
            });
            if let Seen::Key(seen) = &deed.seen {
                self.key(node, deed, seen, finals.get(&deed.key));
            }
        }
    }

    fn key(&self, node: NodeId, deed: &Deed, seen: &KeyRecord, left: Option<&KeyRecord>) {
        let kept = |left: &KeyRecord| {
            left.id == seen.id
                && seen.versions.iter().all(|v| left.version(v.number).is_some_and(|l| l.material == v.material))
        };
        self.board.expect(Promise::Survives, left.is_some_and(kept), || {
            let what = if deed.ask == Ask::Get { "observed" } else { "acknowledged" };
            format!(
                "key {} was {what} with versions up to {}, and node {node} has lost some of it",
                deed.key, seen.primary
            )
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::history::Moment;
    use crate::promises::on_a_board;
    use claviger_core::key::{Algorithm, KeyState, KeyVersion, Labels};
    use claviger_core::name::{KeyId, MaterialId};
    use claviger_core::time::UnixMs;
    use std::time::Duration;

    fn key(versions: u32) -> KeyRecord {
        let version = |number| KeyVersion { number, material: MaterialId([number as u8; 8]), created: UnixMs(1) };
        KeyRecord {
            id: KeyId([7; 16]),
            name: "tenants/acme/keys/a".parse().expect("a good name"),
            algorithm: Algorithm::Aes256Gcm,
            state: KeyState::Enabled,
            primary: versions,
            min_decrypt: 1,
            versions: (1..=versions).map(version).collect(),
            labels: Labels::new(),
            created: UnixMs(1),
            updated: UnixMs(1),
        }
    }

    #[test]
    fn an_acknowledged_version_that_is_gone_is_noticed() {
        on_a_board(|board| {
            let survives = Survives::new(board.clone());
            let moment = |order| Moment { order, at: Duration::ZERO };
            let seen = Seen::Key(Box::new(key(2)));
            let (began, left, ask) = (moment(1), moment(2), Ask::Rotate);
            let ended = Some(left);
            let deeds = [Deed { client: 1, key: 0, ask, began, ended, left, seen, revision: 9, attempts: Vec::new() }];
            survives.at_the_end(NodeId(1), &deeds, &BTreeMap::from([(0, key(3))]), 9);
            assert_eq!(board.broken(), []);
            survives.at_the_end(NodeId(1), &deeds, &BTreeMap::from([(0, key(1))]), 9);
            survives.at_the_end(NodeId(2), &deeds, &BTreeMap::from([(0, key(2))]), 8);
            assert_eq!(board.broken().len(), 2);
        });
    }
}
