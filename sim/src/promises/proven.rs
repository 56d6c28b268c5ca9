//! A node that took its state as a snapshot is opened only when others have agreed with that state: a checkpoint, or the
//! voters when it was asked for.

use super::{Board, Promise};
use claviger_core::name::NodeId;
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::sync::Arc;

/// How a node was seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seen {
    /// In which life.
    pub life: u64,
    /// Whether it is open.
    pub open: bool,
    /// The last snapshot that it took.
    pub installed: Option<u64>,
    /// Whether anybody agrees with its state.
    pub trusted: bool,
}

/// Follows how nodes come to be open.
pub struct Proven {
    board: Arc<Board>,
    last: Mutex<BTreeMap<NodeId, Seen>>,
}

impl Proven {
    /// Nobody was seen.
    pub fn new(board: Arc<Board>) -> Self {
        Proven { board, last: Mutex::default() }
    }

    /// Sees a node. One that has come to be open over the very snapshot that it had while it was sealed must be trusted: of
    /// one snapshot that cannot be taken back.
    pub fn look(&self, node: NodeId, seen: Seen) {
        let Some(before) = self.last.lock().insert(node, seen) else { return };
        let opened = before.life == seen.life && !before.open && seen.open;
        if opened && seen.installed.is_some() && seen.installed == before.installed {
            self.board.expect(Promise::Proven, seen.trusted, || {
                format!(
                    "node {node} was opened over the snapshot of entry {:?}, which nobody agrees with",
                    seen.installed
                )
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn broken(looks: &[Seen]) -> bool {
        let board = Board::new(Arc::new(crate::trace::Trace::new(1, None)));
        let proven = Proven::new(board.clone());
        looks.iter().for_each(|seen| proven.look(NodeId(1), *seen));
        !board.broken().is_empty()
    }

    #[test]
    fn who_opens_over_a_snapshot_is_trusted() {
        let sealed = Seen { life: 2, open: false, installed: Some(9), trusted: false };
        let open = Seen { open: true, ..sealed };
        assert!(broken(&[sealed, open]));
        assert!(!broken(&[sealed, Seen { trusted: true, ..open }]));
        assert!(!broken(&[Seen { installed: Some(8), ..sealed }, open]), "it took one meanwhile");
        assert!(!broken(&[Seen { life: 1, ..sealed }, open]) && !broken(&[open]), "nobody saw it sealed");
        assert!(!broken(&[Seen { installed: None, ..sealed }, Seen { installed: None, ..open }]));
    }
}
