//! A sealed node answers nothing of the data plane: between the moment that it started, or that its sealing was
//! acknowledged, and the next share that may open it.

use super::{Board, Promise};
use crate::history::Moment;
use claviger_core::name::NodeId;
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

/// Follows which nodes must be sealed.
pub struct Sealed {
    board: Arc<Board>,
    /// Since when each must be.
    closed: Mutex<BTreeMap<NodeId, Moment>>,
    /// When a share last came that may have completed a ceremony.
    opening: Mutex<Option<Duration>>,
    /// In which life each was seen last.
    lives: Mutex<BTreeMap<NodeId, u64>>,
}

/// So long after the last share a hand-over may still be on its way to a node that has started meanwhile.
const HAND_OVER_MAX: Duration = Duration::from_secs(60);

impl Sealed {
    /// Nobody is known to be sealed.
    pub fn new(board: Arc<Board>) -> Self {
        Sealed { board, closed: Mutex::default(), opening: Mutex::default(), lives: Mutex::default() }
    }

    /// A node is seen in that life. In a new one it is sealed, unless a hand-over is on its way.
    pub fn lives(&self, node: NodeId, life: u64, since: Moment) {
        if self.lives.lock().insert(node, life) == Some(life) {
            return;
        }
        let quiet = self.opening.lock().is_none_or(|last| last + HAND_OVER_MAX < since.at);
        if quiet {
            self.closed(&[node], since);
        }
    }

    /// These nodes were sealed and said so.
    pub fn closed(&self, nodes: &[NodeId], since: Moment) {
        self.closed.lock().extend(nodes.iter().map(|node| (*node, since)));
    }

    /// A share is on its way that may complete a ceremony: whoever is sealed may open from now on.
    pub fn may_open(&self, now: Duration) {
        *self.opening.lock() = Some(now);
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
            sealed.may_open(Duration::from_secs(5));
            sealed.asked(NodeId(1), moment(5), true);
            sealed.lives(NodeId(1), 2, moment(6));
            sealed.asked(NodeId(1), moment(7), true);
            assert_eq!(board.broken().len(), 1);
            sealed.lives(NodeId(1), 3, moment(100));
            sealed.asked(NodeId(1), moment(101), true);
            assert_eq!(board.broken().len(), 2);
        });
    }
}
