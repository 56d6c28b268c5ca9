//! Time never goes back: cluster time is one function of the sequence, on every node, and never falls; and no caller is
//! shown an older state than the one that it asked for.

use super::{Board, Promise};
use claviger_core::name::NodeId;
use claviger_core::time::UnixMs;
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Every time that any node showed.
pub struct Time {
    board: Arc<Board>,
    shown: Mutex<Shown>,
}

#[derive(Default)]
struct Shown {
    /// Cluster time by sequence, over all nodes.
    by_sequence: BTreeMap<u64, UnixMs>,
    /// The newest that each node showed in each life.
    newest: BTreeMap<(NodeId, u64), (u64, UnixMs)>,
}

impl Time {
    /// Has seen nothing.
    pub fn new(board: Arc<Board>) -> Self {
        Time { board, shown: Mutex::default() }
    }

    /// Hears what a node shows, in that life of it.
    pub fn node_time(&self, node: NodeId, life: u64, sequence: u64, cluster_time: UnixMs) {
        let wrong = self.shown.lock().take(node, life, sequence, cluster_time);
        if let Some(wrong) = wrong {
            self.board.expect(Promise::Time, wrong.is_empty(), || format!("node {node}, life {life}: {wrong}"));
        }
    }

    /// Hears at which revision a client was answered that had asked for at least some revision, 0 for any.
    pub fn answer(&self, client: u64, asked_min_revision: u64, revision: u64) {
        if asked_min_revision > 0 {
            self.board.expect(Promise::Time, revision >= asked_min_revision, || {
                format!("client {client} asked for revision {asked_min_revision} and was answered at {revision}")
            });
        }
    }
}

impl Shown {
    /// What is wrong, or an empty text; none when there was nothing to compare with.
    fn take(&mut self, node: NodeId, life: u64, sequence: u64, time: UnixMs) -> Option<String> {
        let now = (sequence, time);
        let before = self.newest.insert((node, life), now);
        if before == Some(now) {
            return None;
        }
        let same = self.by_sequence.get(&sequence).copied();
        let earlier = self.by_sequence.range(..sequence).next_back().map(|(s, t)| (*s, *t));
        let later = self.by_sequence.range(sequence + 1..).next().map(|(s, t)| (*s, *t));
        self.by_sequence.entry(sequence).or_insert(time);
        if let Some((s, t)) = before.filter(|(s, t)| *s > sequence || *t > time) {
            return Some(format!("it showed sequence {s} at {t}, and then {sequence} at {time}"));
        }
        if let Some(other) = same.filter(|other| *other != time) {
            return Some(format!("sequence {sequence} is at {time} here and at {other} elsewhere"));
        }
        if let Some((s, t)) = earlier.filter(|(_, t)| *t > time) {
            return Some(format!("sequence {sequence} is at {time}, and {s}, before it, at {t}"));
        }
        if let Some((s, t)) = later.filter(|(_, t)| *t < time) {
            return Some(format!("sequence {sequence} is at {time}, and {s}, after it, at {t}"));
        }
        (same.is_some() || earlier.is_some() || later.is_some()).then(String::new)
    }
}

#[cfg(test)]
mod tests {
    use super::super::on_a_board;
    use super::*;

    type Look = (u64, u64, u64, u64);

    /// How many are broken after each node, in each life, showed that sequence at that time.
    fn broken(looks: &[Look]) -> usize {
        on_a_board(|board| {
            let time = Time::new(board.clone());
            looks.iter().for_each(|(node, life, s, ms)| time.node_time(NodeId(*node), *life, *s, UnixMs(*ms)));
            assert!(board.broken().iter().all(|b| b.promise == Promise::Time));
            assert!(board.counts()[&Promise::Time] > 0);
            board.broken().len()
        })
    }

    const HONEST: [Look; 5] = [(1, 1, 5, 100), (2, 1, 3, 100), (2, 1, 5, 100), (1, 1, 8, 160), (1, 2, 7, 100)];

    #[test]
    fn time_may_stand_but_not_fall_nor_differ() {
        assert_eq!(broken(&HONEST), 0);
        let wrong = [(2, 1, 9, 159), (2, 1, 8, 161), (2, 1, 4, 101), (1, 2, 6, 100), (3, 1, 2, 101)];
        for look in wrong {
            let looks: Vec<Look> = HONEST.into_iter().chain([look]).collect();
            assert_eq!(broken(&looks), 1, "{look:?}");
        }
    }

    #[test]
    fn an_answer_is_no_older_than_it_was_asked_to_be() {
        on_a_board(|board| {
            let time = Time::new(board.clone());
            time.answer(1, 0, 0);
            time.answer(1, 7, 7);
            assert_eq!((board.broken().len(), board.counts()[&Promise::Time]), (0, 1));
            time.answer(1, 8, 7);
            assert_eq!((board.broken().len(), board.counts()[&Promise::Time]), (1, 2));
        });
    }
}
