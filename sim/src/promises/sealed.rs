//! A sealed node answers nothing of the data plane: between the moment that it started, or that its sealing was
//! acknowledged, and the next share that may open it.

use super::{Board, Promise};
use crate::history::Moment;
use claviger_core::name::NodeId;
use parking_lot::Mutex;
use std::collections::{BTreeMap, BTreeSet};
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
    threshold: usize,
    /// True shares, and when each was brought, to whichever ceremony.
    brought: Mutex<Vec<(u8, Moment)>>,
    /// When the last seal-all was asked for that was acknowledged: shares from before do not count any more.
    floor: Mutex<Option<Moment>>,
}

/// So long after the last share a hand-over may still be on its way to a node that has started meanwhile.
const HAND_OVER_MAX: Duration = Duration::from_secs(60);

impl Sealed {
    /// Nobody is known to be sealed; so many shares open.
    pub fn new(board: Arc<Board>, threshold: u8) -> Self {
        Sealed {
            board,
            closed: Mutex::default(),
            opening: Mutex::default(),
            lives: Mutex::default(),
            threshold: threshold.into(),
            brought: Mutex::default(),
            floor: Mutex::default(),
        }
    }

    /// A node is seen in that life. In a new one it is sealed, unless a hand-over is on its way.
    pub fn lives(&self, node: NodeId, life: u64, since: Moment) {
        if self.lives.lock().insert(node, life) == Some(life) {
            return;
        }
        let quiet = self.opening.lock().is_none_or(|last| last + HAND_OVER_MAX < since.at);
        if quiet {
            self.closed(&[node], since, since);
        }
    }

    /// These nodes were sealed, as asked for at `began`, and said so at `since`. Unless shares came in between: what they
    /// opened may be open.
    pub fn closed(&self, nodes: &[NodeId], began: Moment, since: Moment) {
        if self.opening.lock().is_none_or(|last| last < began.at) {
            self.closed.lock().extend(nodes.iter().map(|node| (*node, since)));
        }
    }

    /// The region was sealed, as asked for at `began`, and said so at `since`.
    pub fn closed_all(&self, nodes: &[NodeId], began: Moment, since: Moment) {
        *self.floor.lock() = Some(began);
        self.closed(nodes, began, since);
    }

    /// A true share is on its way; `last`: it may complete its ceremony. Whoever is sealed may open from now on, if as many
    /// as it takes were brought since the region was sealed.
    pub fn brings(&self, index: u8, now: Moment, last: bool) {
        let mut brought = self.brought.lock();
        brought.push((index, now));
        let floor = *self.floor.lock();
        let fresh: BTreeSet<u8> = brought.iter().filter(|(_, at)| floor.is_none_or(|f| *at > f)).map(|b| b.0).collect();
        if last && fresh.len() >= self.threshold {
            *self.opening.lock() = Some(now.at);
            self.closed.lock().clear();
        }
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
            let sealed = Sealed::new(board.clone(), 2);
            sealed.asked(NodeId(1), moment(1), true);
            sealed.closed(&[NodeId(1)], moment(1), moment(2));
            sealed.asked(NodeId(1), moment(3), false);
            sealed.asked(NodeId(2), moment(3), true);
            assert_eq!(board.broken(), []);
            sealed.asked(NodeId(1), moment(4), true);
            assert_eq!(board.broken().len(), 1);
            sealed.brings(1, moment(5), false);
            sealed.brings(2, moment(6), true);
            sealed.asked(NodeId(1), moment(7), true);
            sealed.closed(&[NodeId(1)], moment(5), moment(7));
            sealed.lives(NodeId(1), 2, moment(8));
            sealed.asked(NodeId(1), moment(9), true);
            assert_eq!(board.broken().len(), 1);
            sealed.lives(NodeId(1), 3, moment(100));
            sealed.asked(NodeId(1), moment(101), true);
            assert_eq!(board.broken().len(), 2);
        });
    }

    #[test]
    fn shares_from_before_a_seal_all_open_nothing() {
        on_a_board(|board| {
            let sealed = Sealed::new(board.clone(), 2);
            sealed.brings(1, moment(1), false);
            sealed.closed_all(&[NodeId(1)], moment(2), moment(3));
            sealed.brings(2, moment(4), true);
            sealed.asked(NodeId(1), moment(5), true);
            assert_eq!(board.broken().len(), 1);
            sealed.brings(1, moment(6), true);
            sealed.asked(NodeId(1), moment(7), true);
            assert_eq!(board.broken().len(), 1);
        });
    }
}
