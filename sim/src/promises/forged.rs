//! Nothing forged is applied: transactions that a stranger made up leave no outcome and no record on any node.

use super::{Board, Promise};
use claviger_core::name::{NodeId, TxnId};
use claviger_core::record::{RecordKey, View};
use claviger_core::txn::Outcome;
use claviger_ledger::LedgerView;
use parking_lot::Mutex;
use std::sync::Arc;

/// Remembers what was forged.
pub struct Forged {
    board: Arc<Board>,
    made_up: Mutex<Vec<(TxnId, RecordKey)>>,
    /// Signed with a key of the cluster's own that was renewed before.
    outdated: Mutex<Vec<(TxnId, RecordKey)>>,
}

impl Forged {
    /// Nothing forged yet.
    pub fn new(board: Arc<Board>) -> Self {
        Forged { board, made_up: Mutex::default(), outdated: Mutex::default() }
    }

    /// Somebody sends this, signed with a transaction key that was renewed before: it may be refused, and not be accepted.
    pub fn outdated(&self, id: TxnId, record: RecordKey) {
        self.outdated.lock().push((id, record));
    }

    /// A stranger sends this, unsigned by the cluster.
    pub fn made_up(&self, id: TxnId, record: RecordKey) {
        self.made_up.lock().push((id, record));
    }

    /// Looks for all of it on a node.
    pub fn look(&self, node: NodeId, view: &LedgerView, outcome: impl Fn(&TxnId) -> Option<Outcome>) {
        for (id, record) in &*self.made_up.lock() {
            self.found(node, id, outcome(id).is_some() || view.version(record) > 0);
        }
        for (id, record) in &*self.outdated.lock() {
            let accepted = matches!(outcome(id), Some(Outcome::Accepted(_)));
            self.found(node, id, accepted || view.version(record) > 0);
        }
    }

    fn found(&self, node: NodeId, id: &TxnId, found: bool) {
        self.board.expect(Promise::Forged, !found, || format!("node {node} has applied the forged transaction {id}"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::promises::on_a_board;

    #[test]
    fn a_forgery_that_is_found_is_told() {
        on_a_board(|board| {
            let forged = Forged::new(board.clone());
            forged.found(NodeId(1), &TxnId([1; 16]), false);
            assert_eq!(board.broken(), []);
            forged.found(NodeId(1), &TxnId([1; 16]), true);
            assert_eq!(board.broken().len(), 1);
        });
    }
}
