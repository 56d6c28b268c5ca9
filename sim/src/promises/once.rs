//! A retried request happens once, and an unknown outcome never twice: no key has more versions than were asked for.

use super::{Board, Promise};
use crate::history::{Ask, Deed, Seen};
use claviger_core::key::KeyRecord;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Counts each key's changes when all are done.
pub struct Once {
    board: Arc<Board>,
}

/// What was asked of one key. A deed is one request, however often it was tried.
#[derive(Default)]
struct Asked {
    creates_acknowledged: u64,
    /// The new primary of each rotation that was acknowledged.
    rotations_acknowledged: Vec<u32>,
    rotations_unknown: u64,
    /// Highest version that any answer of a change told of.
    highest: u32,
    /// Whether anything was tried twice, or came to nobody knows what.
    tempted: bool,
}

impl Once {
    /// Has counted nothing.
    pub fn new(board: Arc<Board>) -> Self {
        Once { board }
    }

    /// Hears of all deeds, and what became of each key: by the run's number, its record once nothing is under way any more.
    pub fn at_the_end(&self, deeds: &[Deed], finals: &[(u64, KeyRecord)]) {
        let mut by_key: BTreeMap<u64, Asked> = BTreeMap::new();
        for deed in deeds.iter().filter(|deed| deed.ask.changes()) {
            by_key.entry(deed.key).or_default().take(deed);
        }
        for (key, asked) in &by_key {
            if asked.tempted {
                self.board.checked(Promise::Once);
            }
            for wrong in asked.twice() {
                self.board.broke(Promise::Once, format!("key {key}: {wrong}"));
            }
        }
        for (key, last) in finals {
            if let Some(asked) = by_key.get(key) {
                self.compare(*key, asked, last.versions.len() as u64);
            }
        }
    }

    fn compare(&self, key: u64, asked: &Asked, versions: u64) {
        let acknowledged = asked.rotations_acknowledged.len() as u64;
        let most = 1 + acknowledged + asked.rotations_unknown;
        if versions > most {
            let unknown = asked.rotations_unknown;
            let what = format!("{acknowledged} rotations acknowledged, {unknown} unknown, and {versions} versions");
            self.board.broke(Promise::Once, format!("key {key}: {what}"));
        }
        let least = u64::from(asked.highest);
        self.board.expect(Promise::Survives, versions >= least, || {
            format!("key {key}: version {least} was acknowledged, and there are {versions} versions")
        });
    }
}

impl Asked {
    fn take(&mut self, deed: &Deed) {
        let unknown = deed.ended.is_none() || deed.seen == Seen::Unknown;
        self.tempted |= unknown || deed.attempts.len() > 1;
        let made = if let (Seen::Key(record), false) = (&deed.seen, unknown) { Some(record.primary) } else { None };
        self.highest = self.highest.max(made.unwrap_or(0));
        match (deed.ask, made) {
            (Ask::Rotate, Some(primary)) => self.rotations_acknowledged.push(primary),
            (Ask::Rotate, None) => self.rotations_unknown += u64::from(unknown),
            (Ask::Create { .. }, Some(_)) => self.creates_acknowledged += 1,
            (Ask::Create { .. }, None)
            | (Ask::Disable | Ask::Enable | Ask::Relabel { .. } | Ask::Get, _)
            | (Ask::Encrypt { .. } | Ask::Decrypt { .. }, _) => (),
        }
    }

    /// What was acknowledged to two.
    fn twice(&self) -> Vec<String> {
        let mut wrong = Vec::new();
        if self.creates_acknowledged > 1 {
            wrong.push(format!("{} requests were told that they had created it", self.creates_acknowledged));
        }
        let mut primaries = self.rotations_acknowledged.clone();
        primaries.sort_unstable();
        let same = primaries.array_windows().filter(|[a, b]| a == b);
        wrong.extend(same.map(|[a, _]| format!("two rotations were told that they had made version {a}")));
        wrong
    }
}

#[cfg(test)]
mod tests {
    use super::super::linearizable::stories::{deed, key, moment, record};
    use super::super::on_a_board;
    use super::*;
    use crate::history::Attempt;
    use claviger_core::name::NodeId;

    fn honest() -> Vec<Deed> {
        let visit = |at| Attempt { node: NodeId(1), received: moment(at), handed: None, served: false };
        let mut retried = deed(10, Some(19), Ask::Rotate, key(record(1, 2, 5)));
        retried.attempts = vec![visit(11), visit(15)];
        vec![
            deed(3, Some(6), Ask::Create { label: 5 }, key(record(1, 1, 5))),
            deed(4, Some(7), Ask::Create { label: 6 }, Seen::Exists),
            retried,
            deed(20, None, Ask::Rotate, Seen::Unknown),
            deed(22, Some(23), Ask::Rotate, Seen::NotDone),
            deed(30, Some(31), Ask::Disable, key(record(1, 3, 5))),
        ]
    }

    /// Which promises are broken when the key ends with so many versions.
    fn broken(deeds: &[Deed], versions: u32) -> Vec<Promise> {
        on_a_board(|board| {
            Once::new(board.clone()).at_the_end(deeds, &[(1, record(1, versions, 5)), (2, record(2, 9, 9))]);
            assert_eq!(board.counts()[&Promise::Once], 1);
            board.broken().into_iter().map(|broken| broken.promise).collect()
        })
    }

    #[test]
    fn a_key_has_the_versions_that_were_asked_for() {
        assert_eq!(broken(&honest(), 3), []);
        assert_eq!(broken(&honest()[..5], 2), [], "the unknown one never happened");
        assert_eq!(broken(&honest(), 4), [Promise::Once], "the retry rotated again");
        assert_eq!(broken(&honest(), 2), [Promise::Survives], "a version that was told of is gone");
    }

    #[test]
    fn nothing_is_acknowledged_to_two() {
        let again = [
            deed(40, Some(41), Ask::Create { label: 7 }, key(record(1, 1, 7))),
            deed(40, Some(41), Ask::Rotate, key(record(1, 2, 5))),
        ];
        for deed in again {
            let deeds: Vec<Deed> = honest().into_iter().chain([deed]).collect();
            assert_eq!(broken(&deeds, 3), [Promise::Once]);
        }
    }
}
