//! A sealed node answers nothing of the data plane: between the moment that it started, or that its sealing was
//! acknowledged, and the next share that may open it. Whoever takes stale answers may be served that much longer by a node
//! that has not heard of the sealing of its region; never by one that was itself asked.

use super::revocation::{FRESH_FOR, SLACK, by_any_clock};
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
    /// Since when each must be, and whether it may have to hear of it first.
    closed: Mutex<BTreeMap<NodeId, (Moment, Heard)>>,
    /// When a share last came, or was given up, that may have completed a ceremony.
    opening: Mutex<Option<Duration>>,
    /// Such shares on their way: one that left before a sealing may come after it.
    coming: Mutex<usize>,
    /// In which life each was seen last.
    lives: Mutex<BTreeMap<NodeId, u64>>,
    threshold: usize,
    /// True shares, and when each was brought, to whichever ceremony.
    brought: Mutex<Vec<(u8, Moment)>>,
    /// When the last seal-all was asked for that was acknowledged: shares from before do not count any more.
    floor: Mutex<Option<Moment>>,
}

/// How a node came to be sealed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Heard {
    /// It started, or was asked itself.
    Itself,
    /// Its region was sealed, and it may not have heard of that yet.
    Region,
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
            coming: Mutex::default(),
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
        self.close(nodes, began, (since, Heard::Itself));
    }

    fn close(&self, nodes: &[NodeId], began: Moment, how: (Moment, Heard)) {
        if *self.coming.lock() > 0 || self.opening.lock().is_some_and(|last| last >= began.at) {
            return;
        }
        let mut closed = self.closed.lock();
        for node in nodes {
            match how.1 {
                Heard::Itself => _ = closed.insert(*node, how),
                // What is sealed already has nothing to hear of.
                Heard::Region => _ = closed.entry(*node).or_insert(how),
            }
        }
    }

    /// The region was sealed, as asked for at `began`, and said so at `since`.
    pub fn closed_all(&self, nodes: &[NodeId], began: Moment, since: Moment) {
        *self.floor.lock() = Some(began);
        self.close(nodes, began, (since, Heard::Region));
    }

    /// A true share is on its way; `last`: it may complete its ceremony. Whoever is sealed may open from now on, if as many
    /// as it takes were brought since the region was sealed. Whether that is so; it is on its way until `came` then.
    pub fn brings(&self, index: u8, now: Moment, last: bool) -> bool {
        let mut brought = self.brought.lock();
        brought.push((index, now));
        let floor = *self.floor.lock();
        let fresh: BTreeSet<u8> = brought.iter().filter(|(_, at)| floor.is_none_or(|f| *at > f)).map(|b| b.0).collect();
        let opens = last && fresh.len() >= self.threshold;
        if opens {
            *self.coming.lock() += 1;
            *self.opening.lock() = Some(now.at);
            self.closed.lock().clear();
        }
        opens
    }

    /// A share that may open was answered, or nobody waits for its answer any more.
    pub fn came(&self, now: Moment) {
        *self.coming.lock() -= 1;
        *self.opening.lock() = Some(now.at);
    }

    /// A node has answered, or refused, a request of the data plane: when it had it, when it handed the answer over, and how
    /// stale that may be.
    pub fn asked(&self, node: NodeId, (received, handed): (Moment, Option<Moment>), stale: Duration, served: bool) {
        let Some((since, heard)) = self.closed.lock().get(&node).copied() else { return };
        let later = |moment: Moment, time: Duration| since.at + by_any_clock(time) + SLACK < moment.at;
        let held = match heard {
            // Its keys were wiped before it said so.
            Heard::Itself => since < received || handed.is_some_and(|handed| since < handed),
            Heard::Region if stale.is_zero() => since < received || handed.is_some_and(|h| later(h, FRESH_FOR)),
            Heard::Region => later(received, stale),
        };
        if held {
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
            sealed.asked(NodeId(1), (moment(1), None), Duration::ZERO, true);
            sealed.closed(&[NodeId(1)], moment(1), moment(2));
            sealed.asked(NodeId(1), (moment(3), None), Duration::ZERO, false);
            sealed.asked(NodeId(2), (moment(3), None), Duration::ZERO, true);
            assert_eq!(board.broken(), []);
            sealed.asked(NodeId(1), (moment(4), None), Duration::ZERO, true);
            assert_eq!(board.broken().len(), 1);
            sealed.brings(1, moment(5), false);
            assert!(sealed.brings(2, moment(6), true));
            sealed.came(moment(6));
            sealed.asked(NodeId(1), (moment(7), None), Duration::ZERO, true);
            sealed.closed(&[NodeId(1)], moment(5), moment(7));
            sealed.lives(NodeId(1), 2, moment(8));
            sealed.asked(NodeId(1), (moment(9), None), Duration::ZERO, true);
            assert_eq!(board.broken().len(), 1);
            sealed.lives(NodeId(1), 3, moment(100));
            sealed.asked(NodeId(1), (moment(101), None), Duration::ZERO, true);
            assert_eq!(board.broken().len(), 2);
        });
    }

    #[test]
    fn a_stale_answer_may_come_from_a_node_that_has_not_heard_of_the_sealing() {
        on_a_board(|board| {
            let (sealed, stale) = (Sealed::new(board.clone(), 2), Duration::from_secs(3));
            sealed.closed_all(&[NodeId(1), NodeId(2)], moment(2), moment(3));
            sealed.asked(NodeId(1), (moment(5), None), stale, true);
            assert_eq!(board.broken(), []);
            sealed.asked(NodeId(1), (moment(5), None), Duration::ZERO, true);
            assert_eq!(board.broken().len(), 1);
            sealed.asked(NodeId(1), (moment(9), None), stale, true);
            assert_eq!(board.broken().len(), 2);
            sealed.closed(&[NodeId(2)], moment(10), moment(11));
            sealed.asked(NodeId(2), (moment(12), None), stale, true);
            assert_eq!(board.broken().len(), 3);
            sealed.asked(NodeId(2), (moment(9), Some(moment(12))), stale, true);
            assert_eq!(board.broken().len(), 4);
            sealed.asked(NodeId(2), (moment(9), Some(moment(10))), stale, true);
            assert_eq!(board.broken().len(), 4);
        });
    }

    #[test]
    fn shares_from_before_a_seal_all_open_nothing() {
        on_a_board(|board| {
            let sealed = Sealed::new(board.clone(), 2);
            sealed.brings(1, moment(1), false);
            sealed.closed_all(&[NodeId(1)], moment(2), moment(3));
            assert!(!sealed.brings(2, moment(4), true));
            sealed.asked(NodeId(1), (moment(5), None), Duration::ZERO, true);
            assert_eq!(board.broken().len(), 1);
            assert!(sealed.brings(1, moment(6), true));
            sealed.asked(NodeId(1), (moment(7), None), Duration::ZERO, true);
            assert_eq!(board.broken().len(), 1);
        });
    }

    #[test]
    fn a_share_that_left_before_a_sealing_may_come_after_it() {
        on_a_board(|board| {
            let sealed = Sealed::new(board.clone(), 2);
            sealed.brings(1, moment(1), false);
            assert!(sealed.brings(2, moment(2), true));
            sealed.closed(&[NodeId(1)], moment(5), moment(6));
            sealed.asked(NodeId(1), (moment(8), None), Duration::ZERO, true);
            assert_eq!(board.broken(), []);
            sealed.came(moment(9));
            sealed.closed(&[NodeId(1)], moment(10), moment(11));
            sealed.asked(NodeId(1), (moment(12), None), Duration::ZERO, true);
            assert_eq!(board.broken().len(), 1);
        });
    }
}
