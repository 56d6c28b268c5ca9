//! Equal state at equal sequence: whatever node, whatever life, however it got there.

use super::{Board, Promise};
use claviger_core::name::{Digest, NodeId};
use claviger_core::txn::Checkpoint;
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Every state that any node was in.
pub struct States {
    board: Arc<Board>,
    seen: Mutex<Seen>,
}

#[derive(Default)]
struct Seen {
    /// By log index: who showed it first, and what.
    by_index: BTreeMap<u64, (NodeId, Checkpoint)>,
    /// The shared hash by sequence, and who showed it first.
    by_sequence: BTreeMap<u64, (NodeId, Digest)>,
    /// The newest that each node showed: it is looked at more often than it changes.
    newest: BTreeMap<NodeId, Checkpoint>,
}

impl States {
    /// Has seen nothing.
    pub fn new(board: Arc<Board>) -> Self {
        States { board, seen: Mutex::default() }
    }

    /// Hears what state a node is in.
    pub fn observed(&self, node: NodeId, state: &Checkpoint) {
        let mut seen = self.seen.lock();
        if seen.newest.get(&node) == Some(state) {
            return;
        }
        seen.newest.insert(node, state.clone());
        let (first, was) = seen.by_index.entry(state.index).or_insert_with(|| (node, state.clone())).clone();
        let (other, shared) = *seen.by_sequence.entry(state.sequence).or_insert((node, state.shared));
        drop(seen);
        let good = was == *state && shared == state.shared;
        if !good || first != node || other != node {
            self.board.expect(Promise::States, good, || match was == *state {
                false => format!("node {node} is in {state:?}, and node {first} was in {was:?}"),
                true => format!("node {node} is in {state:?}, and node {other} had {shared} at that sequence"),
            });
        }
    }

    /// Hears what state a snapshot was cut of.
    pub fn kept(&self, node: NodeId, sequence: u64, shared: Digest) {
        let was = self.seen.lock().by_sequence.get(&sequence).copied();
        self.board.expect(Promise::States, was.is_none_or(|(_, was)| was == shared), || {
            format!("node {node} has saved a state that no node was in at sequence {sequence}")
        });
    }

    /// Hears of a node whose memory was hurt after the entry `since`: no checkpoint of a later one can agree with it.
    pub fn astray(&self, node: NodeId, since: u64, agreed: Option<u64>) {
        self.board.expect(Promise::States, agreed.is_none_or(|agreed| agreed <= since), || {
            format!("node {node} went astray after entry {since}, and agrees with a checkpoint of entry {agreed:?}")
        });
    }
}

#[cfg(test)]
mod tests {
    use super::super::on_a_board;
    use super::*;

    fn state(index: u64, sequence: u64, shared: u8, local: u8) -> Checkpoint {
        Checkpoint { index, sequence, shared: Digest([shared; 32]), local: Digest([local; 32]) }
    }

    /// How many are broken, and how many were checked, after these nodes showed these states.
    fn after(looks: &[(u64, Checkpoint)]) -> (usize, u64) {
        on_a_board(|board| {
            let states = States::new(board.clone());
            looks.iter().for_each(|(node, state)| states.observed(NodeId(*node), state));
            (board.broken().len(), board.counts().get(&Promise::States).copied().unwrap_or(0))
        })
    }

    #[test]
    fn replicas_agree_or_are_found_out() {
        let honest = [(1, state(4, 2, 7, 7)), (1, state(4, 2, 7, 7)), (2, state(4, 2, 7, 7)), (2, state(5, 2, 7, 8))];
        assert_eq!(after(&honest), (0, 2));
        let wrong = [state(4, 2, 7, 9), state(4, 2, 9, 7), state(4, 3, 7, 7), state(6, 2, 9, 8)];
        for state in wrong {
            let looks: Vec<_> = honest.iter().cloned().chain([(3, state)]).collect();
            assert_eq!(after(&looks), (1, 3), "{looks:?}");
        }
        // In another life, too, a node is what it was.
        assert_eq!(after(&[(1, state(4, 2, 7, 7)), (1, state(5, 3, 8, 8)), (1, state(4, 2, 6, 7))]), (1, 1));
    }

    #[test]
    fn a_node_that_went_astray_agrees_with_nobody() {
        on_a_board(|board| {
            let states = States::new(board.clone());
            [None, Some(3), Some(7)].into_iter().for_each(|agreed| states.astray(NodeId(2), 7, agreed));
            assert_eq!(board.broken(), []);
            states.astray(NodeId(2), 7, Some(8));
            assert_eq!(board.broken()[0].promise, Promise::States);
        });
    }
}
