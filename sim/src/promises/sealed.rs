//! A sealed node answers nothing of the data plane: between the moment that it started, or that its sealing was
//! acknowledged, and the next share that may open it.

use super::{Board, Promise};
use crate::history::Moment;
use claviger_core::name::NodeId;
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Follows which nodes must be sealed.
pub struct Sealed {
    board: Arc<Board>,
    /// Since when each must be.
    closed: Mutex<BTreeMap<NodeId, Moment>>,
}

impl Sealed {
    /// Nobody is known to be sealed.
    pub fn new(board: Arc<Board>) -> Self {
        Sealed { board, closed: Mutex::default() }
    }

    /// These nodes have just started, or were sealed and said so.
    pub fn closed(&self, nodes: &[NodeId], since: Moment) {
        self.closed.lock().extend(nodes.iter().map(|node| (*node, since)));
    }

    /// A share is on its way that may complete a ceremony: whoever is sealed may open from now on.
    pub fn may_open(&self) {
        self.closed.lock().clear();
    }

    /// A node has answered, or refused, a request of the data plane that it received then.
    pub fn asked(&self, node: NodeId, received: Moment, served: bool) {
        let closed = self.closed.lock().get(&node).copied().filter(|since| *since < received);
        if let Some(since) = closed {
            self.board.expect(Promise::Sealed, !served, || {
                format!("node {node} answered a request of {:?}, sealed since {:?}", received.at, since.at)
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::promises::on_a_board;
    use std::time::Duration;

    fn moment(order: u64) -> Moment {
        Moment { order, at: Duration::from_secs(order) }
    }

    #[test]
    fn a_node_answers_again_only_after_shares_came() {
        on_a_board(|board| {
            let sealed = Sealed::new(board.clone());
            sealed.asked(NodeId(1), moment(1), true);
            sealed.closed(&[NodeId(1)], moment(2));
            sealed.asked(NodeId(1), moment(3), false);
            sealed.asked(NodeId(2), moment(3), true);
            assert_eq!(board.broken(), []);
            sealed.asked(NodeId(1), moment(4), true);
            assert_eq!(board.broken().len(), 1);
            sealed.may_open();
            sealed.asked(NodeId(1), moment(5), true);
            assert_eq!(board.broken().len(), 1);
        });
    }
}
