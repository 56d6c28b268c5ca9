//! The metadata of each key behaves as one register: whatever all clients were told, one key that does one thing after
//! the other could have told them.

use super::{Board, Promise};
use crate::history::{Ask, Deed, Seen};
use claviger_checker::{Call, KeyChange, KeyFacts, KeyOp, KeyRefusal, Verdict, check};
use claviger_core::key::{KeyRecord, KeyState};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Steps of search for one key, at most.
const STEPS_MAX: u64 = 3_000_000;
/// Deeds that are told of a key that is not linearizable, at most.
const TOLD_MAX: usize = 20;
/// What stands for a label that is absent or no number.
const NO_LABEL: u32 = u32::MAX;

/// Looks at each key's deeds when all are done.
pub struct Linearizable {
    board: Arc<Board>,
    steps_max: u64,
    gave_up: AtomicU64,
}

impl Linearizable {
    /// Has looked at none.
    pub fn new(board: Arc<Board>) -> Self {
        Linearizable::with_steps(board, STEPS_MAX)
    }

    /// Searches at most so many steps for a key.
    pub fn with_steps(board: Arc<Board>, steps_max: u64) -> Self {
        Linearizable { board, steps_max, gave_up: AtomicU64::new(0) }
    }

    /// Hears of all deeds, once they are all done.
    pub fn at_the_end(&self, deeds: &[Deed]) {
        let mut by_key: BTreeMap<u64, Vec<&Deed>> = BTreeMap::new();
        for deed in deeds {
            by_key.entry(deed.key).or_default().push(deed);
        }
        for (key, mut deeds) in by_key {
            deeds.sort_unstable_by_key(|deed| deed.began);
            self.look(key, &deeds);
        }
    }

    /// Keys that were too much work. Nothing is known of them.
    pub fn gave_up(&self) -> u64 {
        self.gave_up.load(Ordering::Relaxed)
    }

    fn look(&self, key: u64, deeds: &[&Deed]) {
        let calls = history(deeds, u64::MAX);
        let changes = calls.iter().filter(|c| matches!(c.op, KeyOp::Changed(..) | KeyOp::Unknown(_))).count();
        match check(&calls, self.steps_max) {
            Verdict::Linearizable if changes > 0 && changes < calls.len() => self.board.checked(Promise::Linearizable),
            Verdict::Linearizable => (),
            Verdict::GaveUp { .. } => {
                self.gave_up.fetch_add(1, Ordering::Relaxed);
            }
            Verdict::Violated { .. } => self.board.broke(Promise::Linearizable, self.tell(key, deeds)),
        }
    }

    /// Who did what, up to the first answer that does not fit.
    fn tell(&self, key: u64, deeds: &[&Deed]) -> String {
        let mut ends: Vec<u64> = deeds.iter().filter_map(|deed| Some(deed.ended?.order)).collect();
        ends.sort_unstable();
        let fits = |end: &u64| !matches!(check(&history(deeds, *end), self.steps_max), Verdict::Violated { .. });
        let first = ends.get(ends.partition_point(fits)).copied().unwrap_or(u64::MAX);
        let told: Vec<&&Deed> = deeds.iter().filter(|deed| deed.began.order < first).collect();
        let mut text = format!("key {key}: in no order could one key have answered all this");
        for deed in &told[told.len().saturating_sub(TOLD_MAX)..] {
            text.push_str(&line(deed));
        }
        text
    }
}

/// The calls about one key as they were known right after the moment `end`.
fn history(deeds: &[&Deed], end: u64) -> Vec<Call<KeyOp>> {
    let begun = deeds.iter().filter(|deed| deed.began.order < end);
    begun.filter_map(|deed| call(deed, deed.ended.is_some_and(|ended| ended.order <= end))).collect()
}

/// A deed as a call; none when it says nothing about the key.
fn call(deed: &Deed, answered: bool) -> Option<Call<KeyOp>> {
    let answer = if answered { &deed.seen } else { &Seen::Unknown };
    let op = match (answer, change(deed.ask)) {
        (Seen::Denied | Seen::NotDone, _) | (Seen::Unknown, None) => return None,
        _ if deed.ask.stale_ms() > 0 => return None,
        (Seen::Unknown, Some(change)) => KeyOp::Unknown(change),
        (Seen::Key(record), Some(change)) => KeyOp::Changed(change, facts(record)),
        (Seen::Key(record), None) => KeyOp::Saw(facts(record)),
        (Seen::Encrypted { version, .. }, _) => KeyOp::Encrypted(*version),
        (Seen::Decrypted, _) => KeyOp::Decrypted,
        (Seen::NotFound, _) => KeyOp::Refused(KeyRefusal::NotFound),
        (Seen::Exists, _) => KeyOp::Refused(KeyRefusal::Exists),
        (Seen::Disabled, _) => KeyOp::Refused(KeyRefusal::Disabled),
    };
    let open = matches!(op, KeyOp::Unknown(_));
    let ended = deed.ended.filter(|_| !open).map(|ended| ended.order);
    Some(Call { key: deed.key, began: deed.began.order, ended, op })
}

fn change(ask: Ask) -> Option<KeyChange> {
    match ask {
        Ask::Create { label } => Some(KeyChange::Create(label)),
        Ask::Rotate => Some(KeyChange::Rotate),
        Ask::Disable => Some(KeyChange::Disable),
        Ask::Enable => Some(KeyChange::Enable),
        Ask::Relabel { label } => Some(KeyChange::Relabel(label)),
        Ask::Get | Ask::Encrypt { .. } | Ask::Decrypt { .. } => None,
    }
}

fn facts(record: &KeyRecord) -> KeyFacts {
    let label = record.labels.iter().find(|(name, _)| name.as_str() == "n").and_then(|(_, n)| n.as_str().parse().ok());
    KeyFacts {
        enabled: match record.state {
            KeyState::Enabled => true,
            KeyState::Disabled => false,
        },
        primary: record.primary,
        label: label.unwrap_or(NO_LABEL),
    }
}

fn line(deed: &Deed) -> String {
    let seen = match &deed.seen {
        Seen::Key(record) => {
            let KeyFacts { enabled, primary, label } = facts(record);
            format!("{} at version {primary}, label {label}", if enabled { "enabled" } else { "disabled" })
        }
        other => format!("{other:?}"),
    };
    let ended = deed.ended.map_or("never".into(), |ended| ended.order.to_string());
    format!("\n  {}..{ended} client {}: {:?} -> {seen}", deed.began.order, deed.client, deed.ask)
}

/// Small deeds and records for the tests of the promises.
#[cfg(test)]
pub(crate) mod stories {
    use crate::history::{Ask, Deed, Moment, Seen};
    use claviger_core::key::{Algorithm, KeyRecord, KeyState, KeyVersion, Labels};
    use claviger_core::name::{KeyId, MaterialId};
    use claviger_core::time::UnixMs;
    use std::time::Duration;

    /// A moment whose order and milliseconds are the same number.
    pub(crate) fn moment(at: u64) -> Moment {
        Moment { order: at, at: Duration::from_millis(at) }
    }

    /// An enabled key with so many versions.
    pub(crate) fn record(key: u8, primary: u32, label: u32) -> KeyRecord {
        let material = |number: u32| MaterialId([key, number as u8, 0, 0, 0, 0, 0, 7]);
        let version = |number| KeyVersion { number, material: material(number), created: UnixMs(1) };
        KeyRecord {
            id: KeyId([key; 16]),
            name: format!("tenants/t/keys/k{key}").parse().unwrap(),
            algorithm: Algorithm::Aes256Gcm,
            state: KeyState::Enabled,
            primary,
            min_decrypt: 1,
            versions: (1..=primary).map(version).collect(),
            labels: Labels::from([("n".parse().unwrap(), label.to_string().parse().unwrap())]),
            created: UnixMs(1),
            updated: UnixMs(1),
        }
    }

    /// The same key, disabled.
    pub(crate) fn disabled(record: KeyRecord) -> KeyRecord {
        KeyRecord { state: KeyState::Disabled, ..record }
    }

    /// A deed of client 1 about key 1, without attempts.
    pub(crate) fn deed(began: u64, ended: Option<u64>, ask: Ask, seen: Seen) -> Deed {
        let (began, ended) = (moment(began), ended.map(moment));
        let left = ended.unwrap_or(moment(1_000_000));
        Deed { client: 1, key: 1, ask, began, ended, left, seen, revision: 0, attempts: Vec::new() }
    }

    pub(crate) fn key(record: KeyRecord) -> Seen {
        Seen::Key(Box::new(record))
    }
}

#[cfg(test)]
mod tests {
    use super::super::on_a_board;
    use super::stories::{deed, disabled, key, record};
    use super::*;
    use claviger_core::name::{KeyId, MaterialId};

    fn encrypted(version: u32) -> Seen {
        Seen::Encrypted { id: KeyId([1; 16]), version, material: MaterialId([1; 8]) }
    }

    fn honest() -> Vec<Deed> {
        let now = Ask::Encrypt { stale_ms: 0 };
        vec![
            deed(1, Some(2), Ask::Get, Seen::NotFound),
            deed(3, Some(6), Ask::Create { label: 5 }, key(record(1, 1, 5))),
            deed(4, Some(7), Ask::Create { label: 6 }, Seen::Exists),
            deed(10, Some(11), Ask::Rotate, key(record(1, 2, 5))),
            deed(12, None, Ask::Rotate, Seen::Unknown),
            deed(13, Some(14), now, encrypted(2)),
            deed(15, Some(16), Ask::Disable, key(disabled(record(1, 3, 5)))),
            deed(17, Some(18), Ask::Decrypt { version: 1, stale_ms: 0 }, Seen::Disabled),
            // Stale answers, refusals that say nothing and lost reads are nobody's business here.
            deed(19, Some(20), Ask::Encrypt { stale_ms: 500 }, encrypted(1)),
            deed(21, Some(22), Ask::Enable, Seen::Denied),
            deed(23, Some(24), Ask::Enable, Seen::NotDone),
            deed(25, None, Ask::Get, Seen::Unknown),
            deed(26, Some(27), Ask::Relabel { label: 8 }, key(disabled(record(1, 3, 8)))),
        ]
    }

    fn broken(deeds: &[Deed]) -> Vec<String> {
        on_a_board(|board| {
            let promise = Linearizable::new(board.clone());
            promise.at_the_end(deeds);
            let kept = board.counts().get(&Promise::Linearizable).copied().unwrap_or(0);
            assert_eq!((kept + board.broken().len() as u64, promise.gave_up()), (1, 0));
            board.broken().into_iter().map(|broken| broken.what).collect()
        })
    }

    #[test]
    fn what_one_key_could_have_said_is_accepted() {
        assert_eq!(broken(&honest()), [""; 0]);
    }

    #[test]
    fn what_no_key_could_have_said_is_told_up_to_where_it_shows() {
        let wrong = [
            (Ask::Get, key(record(1, 3, 8))),
            (Ask::Get, key(disabled(record(1, 2, 8)))),
            (Ask::Get, key(disabled(record(1, 3, 5)))),
            (Ask::Encrypt { stale_ms: 0 }, encrypted(3)),
            (Ask::Decrypt { version: 1, stale_ms: 0 }, Seen::Decrypted),
            (Ask::Get, Seen::NotFound),
            (Ask::Enable, key(record(1, 4, 8))),
        ];
        for (ask, seen) in wrong {
            let mut deeds = honest();
            deeds.extend([deed(30, Some(31), ask, seen), deed(40, Some(41), Ask::Get, Seen::NotDone)]);
            let told = broken(&deeds);
            assert!(told.len() == 1 && told[0].starts_with("key 1: in no order"), "{told:?}");
            assert!(told[0].contains("30..31 client 1") && !told[0].contains("40..41"), "{told:?}");
        }
    }

    #[test]
    fn what_is_too_much_work_is_counted_and_is_no_violation() {
        on_a_board(|board| {
            let promise = Linearizable::with_steps(board.clone(), 3);
            promise.at_the_end(&honest());
            assert_eq!((board.broken().len(), promise.gave_up()), (0, 1));
        });
    }
}
