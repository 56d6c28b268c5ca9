//! Nothing works any more once its revocation was acknowledged, in the three ways of DESIGN §4: (a) what was received
//! afterwards is refused; (b) what was received before is answered only while its barrier is young; (c) whoever takes
//! stale answers may go on that much longer.

use super::{Board, Promise};
use crate::history::{Ask, Attempt, Deed, Moment, Seen};
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// An administrator's word on what a client may do with a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RightsChange {
    /// Whose right.
    pub client: u64,
    /// On which key.
    pub key: u64,
    /// Given, or taken away.
    pub granted: bool,
    /// When it was asked for.
    pub began: Moment,
    /// When it was acknowledged; none when nobody knows whether it happened, or yet will.
    pub ended: Option<Moment>,
    /// When the administrator stopped asking for it, with an answer or without.
    pub left: Moment,
}

/// Looks at every attempt to use a key when all is done.
pub struct Revocation {
    board: Arc<Board>,
    counts: Mutex<[u64; 3]>,
}

/// Which of the three ways.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Way {
    /// (a): received afterwards.
    After = 0,
    /// (b): received before, answered late.
    Before = 1,
    /// (c): a stale answer, beyond its staleness.
    Stale = 2,
}

/// While something was surely revoked, and acknowledged to be.
#[derive(Clone, Copy, Debug)]
struct Window {
    acknowledged: Moment,
    /// When somebody began to undo it.
    until: Option<Moment>,
    /// What it was.
    what: &'static str,
}

/// Something that revokes, or that undoes it.
#[derive(Clone, Copy)]
struct Change {
    revokes: bool,
    began: Moment,
    ended: Option<Moment>,
    left: Moment,
}

/// How old a barrier may be when an answer is handed over (`FRESH_FOR` of the server).
pub(super) const FRESH_FOR: Duration = Duration::from_secs(2);
/// Between the node's last look at the barrier's age and the moment that we note.
pub(super) const SLACK: Duration = Duration::from_millis(100);

impl Revocation {
    /// Has looked at nothing.
    pub fn new(board: Arc<Board>) -> Self {
        Revocation { board, counts: Mutex::default() }
    }

    /// Hears of all deeds and of all changes of rights, once they are all done.
    pub fn at_the_end(&self, deeds: &[Deed], changes: &[RightsChange]) {
        let disables = windows(deeds.iter().filter_map(|deed| Some((deed.key, of_deed(deed)?))), "disabled");
        let rights = windows(changes.iter().map(|change| ((change.client, change.key), of_rights(change))), "revoked");
        for deed in deeds.iter().filter(|deed| matches!(deed.ask, Ask::Encrypt { .. } | Ask::Decrypt { .. })) {
            let of_key = disables.get(&deed.key).into_iter().flatten();
            let windows: Vec<&Window> =
                of_key.chain(rights.get(&(deed.client, deed.key)).into_iter().flatten()).collect();
            deed.attempts.iter().for_each(|attempt| self.look(deed, attempt, &windows));
        }
    }

    /// How often (a), (b) and (c) were put to the test.
    pub fn counts(&self) -> [u64; 3] {
        *self.counts.lock()
    }

    fn look(&self, deed: &Deed, attempt: &Attempt, windows: &[&Window]) {
        let Some(handed) = attempt.handed else { return };
        let stale = Duration::from_millis(u64::from(deed.ask.stale_ms()));
        let found = windows.iter().filter_map(|window| Some((window.covers(attempt.received, handed, stale)?, window)));
        let Some((way, window)) = found.min_by_key(|(way, _)| *way) else { return };
        self.counts.lock()[way as usize] += 1;
        self.board.expect(Promise::Revocation, !attempt.served, || {
            let (Deed { client, key, ask, .. }, what, at) = (deed, window.what, window.acknowledged.at);
            let (node, received) = (attempt.node, attempt.received.at);
            let handed = handed.at;
            format!(
                "{way}: key {key} was {what} at {at:?}, and node {node} served client {client} with {ask:?}, received at \
                 {received:?}, handed over at {handed:?}"
            )
        });
    }
}

impl Window {
    /// Which way an attempt falls into the window, if any. What was handed over after somebody began to undo it may have
    /// seen that.
    fn covers(&self, received: Moment, handed: Moment, stale: Duration) -> Option<Way> {
        let acknowledged = self.acknowledged;
        if self.until.is_some_and(|until| handed > until) {
            return None;
        }
        if !stale.is_zero() {
            let late = received.at > acknowledged.at + by_any_clock(stale) + SLACK;
            return late.then_some(Way::Stale);
        }
        if received > acknowledged {
            return Some(Way::After);
        }
        (handed.at > acknowledged.at + by_any_clock(FRESH_FOR) + SLACK).then_some(Way::Before)
    }
}

impl fmt::Display for Way {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Way::After => "(a)",
            Way::Before => "(b)",
            Way::Stale => "(c)",
        })
    }
}

/// As long as it takes by a clock that is a tenth too slow.
pub(super) fn by_any_clock(time: Duration) -> Duration {
    time * 11 / 10
}

fn of_deed(deed: &Deed) -> Option<Change> {
    let Deed { began, ended, left, .. } = *deed;
    let revokes = match deed.ask {
        Ask::Disable => true,
        Ask::Enable | Ask::Create { .. } => false,
        Ask::Rotate | Ask::Relabel { .. } | Ask::Get | Ask::Encrypt { .. } | Ask::Decrypt { .. } => return None,
    };
    match deed.seen {
        Seen::Key(_) => Some(Change { revokes, began, ended, left }),
        Seen::Unknown => Some(Change { revokes, began, ended: None, left }),
        // A refusal did nothing and never will. But who begins to undo something ends the window, to be on the safe side.
        Seen::NotFound | Seen::Exists | Seen::Disabled | Seen::Denied | Seen::NotDone if !revokes => {
            Some(Change { revokes, began, ended: Some(began), left: began })
        }
        Seen::NotFound | Seen::Exists | Seen::Disabled | Seen::Denied | Seen::NotDone => None,
        Seen::Encrypted { .. } | Seen::Decrypted => None,
    }
}

fn of_rights(change: &RightsChange) -> Change {
    Change { revokes: !change.granted, began: change.began, ended: change.ended, left: change.left }
}

/// While each of these was surely revoked. A revocation counts only if nothing that undoes it was under way with it, or
/// is still: that may have happened after it, or may yet.
fn windows<K: Ord>(changes: impl Iterator<Item = (K, Change)>, what: &'static str) -> BTreeMap<K, Vec<Window>> {
    let mut by_key: BTreeMap<K, Vec<Change>> = BTreeMap::new();
    for (key, change) in changes {
        by_key.entry(key).or_default().push(change);
    }
    by_key.into_iter().map(|(key, changes)| (key, windows_of(&changes, what))).collect()
}

fn windows_of(changes: &[Change], what: &'static str) -> Vec<Window> {
    let window = |revoking: &Change| {
        let acknowledged = revoking.ended?;
        let undoing = changes.iter().filter(|change| !change.revokes);
        // Also one that nobody knows the outcome of: it relied on the version that the revocation has replaced.
        let over = |change: &Change| change.left < revoking.began;
        if undoing.clone().any(|change| change.began < acknowledged && !over(change)) {
            return None;
        }
        let until = undoing.map(|change| change.began).filter(|began| *began > acknowledged).min();
        Some(Window { acknowledged, until, what })
    };
    changes.iter().filter(|change| change.revokes).filter_map(window).collect()
}

#[cfg(test)]
mod tests {
    use super::super::linearizable::stories::{deed, disabled, key, moment, record};
    use super::super::on_a_board;
    use super::*;
    use claviger_core::name::NodeId;

    fn on(began: u64, ended: u64) -> Deed {
        deed(began, Some(ended), Ask::Enable, key(record(1, 1, 0)))
    }

    fn off(began: u64, ended: u64) -> Deed {
        deed(began, Some(ended), Ask::Disable, key(disabled(record(1, 1, 0))))
    }

    /// An encryption that one node received and handed over then.
    fn used(received: u64, handed: u64, stale_ms: u32, served: bool) -> Deed {
        let (received, handed) = (moment(received), Some(moment(handed)));
        let attempts = vec![Attempt { node: NodeId(1), received, handed, served }];
        Deed { attempts, ..deed(1, None, Ask::Encrypt { stale_ms }, Seen::Unknown) }
    }

    /// How many are broken, and how often each way was checked.
    fn after(deeds: &[Deed], changes: &[RightsChange]) -> (usize, [u64; 3]) {
        on_a_board(|board| {
            let promise = Revocation::new(board.clone());
            promise.at_the_end(deeds, changes);
            let sum = promise.counts().iter().sum();
            assert_eq!(board.counts().get(&Promise::Revocation).copied().unwrap_or(0), sum);
            (board.broken().len(), promise.counts())
        })
    }

    #[test]
    fn refusals_within_the_window_are_counted() {
        let deeds = [
            on(10, 20),
            off(1_000, 1_010),
            used(900, 950, 0, true),
            used(990, 1_030, 0, true),
            used(1_020, 1_030, 0, false),
            used(1_005, 3_320, 0, false),
            used(1_020, 1_030, 500, true),
            used(4_000, 4_001, 500, false),
            on(9_000, 9_005),
            used(8_999, 9_010, 0, true),
            used(9_020, 9_030, 0, true),
        ];
        assert_eq!(after(&deeds, &[]), (0, [1, 1, 1]));
    }

    #[test]
    fn each_way_is_broken_by_an_answer() {
        for (used, counts) in [
            (used(1_011, 1_012, 0, true), [1, 0, 0]),
            (used(1_005, 3_311, 0, true), [0, 1, 0]),
            (used(1_661, 1_662, 500, true), [0, 0, 1]),
        ] {
            assert_eq!(after(&[off(1_000, 1_010), used.clone()], &[]), (1, counts));
            assert_eq!(after(&[off(1_000, 1_010), on(8_000, 8_001), used], &[]), (1, counts));
        }
        for used in [used(1_005, 3_309, 0, true), used(1_659, 1_662, 500, true)] {
            assert_eq!(after(&[off(1_000, 1_010), used], &[]), (0, [0; 3]), "the bounds");
        }
    }

    #[test]
    fn what_may_be_undone_at_any_time_does_not_count() {
        let (used, off) = (used(1_020, 1_030, 0, true), off(1_000, 1_010));
        let unknown = deed(5, None, Ask::Enable, Seen::Unknown);
        let refused = deed(5, Some(6), Ask::Enable, Seen::NotDone);
        assert_eq!(after(&[off.clone(), used.clone(), unknown], &[]), (0, [0; 3]));
        assert_eq!(after(&[off.clone(), used.clone(), on(990, 1_005)], &[]), (0, [0; 3]));
        assert_eq!(after(&[off.clone(), used.clone(), on(1_015, 1_016)], &[]), (0, [0; 3]));
        assert_eq!(after(&[off.clone(), used.clone(), refused, on(990, 999)], &[]), (1, [1, 0, 0]));
        let lost = deed(1_000, None, Ask::Disable, Seen::Unknown);
        assert_eq!(after(&[lost, used], &[]), (0, [0; 3]), "a disable that nobody acknowledged");
    }

    #[test]
    fn a_right_that_was_taken_away_is_gone_for_that_client_and_key() {
        let change = |client, granted, began, ended: Option<u64>| RightsChange {
            client,
            key: 1,
            granted,
            began: moment(began),
            ended: ended.map(moment),
            left: moment(ended.unwrap_or(began + 50)),
        };
        let taken = change(1, false, 1_000, Some(1_010));
        let used = [used(1_020, 1_030, 0, true)];
        assert_eq!(after(&used, &[change(1, true, 5, Some(6)), taken]), (1, [1, 0, 0]));
        assert_eq!(after(&used, &[change(2, false, 1_000, Some(1_010))]), (0, [0; 3]), "another client");
        assert_eq!(after(&used, &[change(1, true, 990, None), taken]), (0, [0; 3]), "may be given back");
        assert_eq!(after(&used, &[change(1, true, 5, None), taken]), (1, [1, 0, 0]), "given up before it was taken");
        assert_eq!(after(&used, &[taken, change(1, true, 1_015, None)]), (0, [0; 3]), "given back");
    }
}
