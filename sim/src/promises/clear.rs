//! No record, file or frame holds a secret in the clear: canaries are planted among the secrets, and looked for.
//!
//! A canary is a secret that no other bytes hold by chance. Most are known before they could be seen anywhere. Those that a
//! node draws are learned a while after: what passed between nodes just before is looked at again for them.

use super::{Board, Promise};
use parking_lot::Mutex;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

/// Canaries that are shorter are not watched: other bytes would hold them by chance.
pub const CANARY_BYTES_MIN: usize = 12;
/// Canaries that are watched briefly, at most: the oldest go first.
pub const BRIEF_MAX: usize = 4_000;

/// What must be seen nowhere.
pub struct Clear {
    board: Arc<Board>,
    canaries: Mutex<Canaries>,
}

/// The secrets, by how they begin. A bit for each beginning says quickly that there is none here.
struct Canaries {
    by_head: BTreeMap<[u8; HEAD_BYTES], Vec<Canary>>,
    bits: Vec<u64>,
    /// Those that are watched briefly, oldest first.
    brief: VecDeque<Vec<u8>>,
    /// What passed lately, and where.
    recent: VecDeque<(String, Vec<u8>)>,
    recent_bytes: usize,
    /// What was told already: which canary, and where.
    told: BTreeSet<(String, String)>,
}

struct Canary {
    what: String,
    secret: Vec<u8>,
}

const HEAD_BYTES: usize = 4;
const BITS_LOG2: u32 = 20;
/// What passed that is kept, at most.
const RECENT_BYTES_MAX: usize = 512 << 10;
/// What is longer is not kept: a snapshot would drive out everything else.
const RECENT_ONE_BYTES_MAX: usize = 64 << 10;

impl Clear {
    /// Watches for nothing yet.
    pub fn new(board: Arc<Board>) -> Self {
        Clear { board, canaries: Mutex::new(Canaries::new()) }
    }

    /// Watches for a secret from here on, unless it is too short. `what` is how it is called when it is found.
    pub fn watch(&self, what: &str, secret: &[u8]) {
        self.canaries.lock().add(what, secret);
    }

    /// Watches for a secret until [`BRIEF_MAX`] others came after it.
    pub fn watch_briefly(&self, what: &str, secret: &[u8]) {
        let mut canaries = self.canaries.lock();
        if canaries.add(what, secret) {
            canaries.brief.push_back(secret.to_vec());
        }
        if canaries.brief.len() > BRIEF_MAX {
            canaries.let_go();
        }
    }

    /// Watches for secrets that may have been about for a while, and looks again at what passed lately.
    pub fn watch_late<S: AsRef<[u8]>>(&self, secrets: impl IntoIterator<Item = (String, S)>) {
        let found = {
            let mut canaries = self.canaries.lock();
            let news = secrets.into_iter().filter(|(what, secret)| canaries.add(what, secret.as_ref())).count();
            if news > 0 { canaries.find_again() } else { Vec::new() }
        };
        self.tell(found);
    }

    /// Looks for every secret in what passes at `place`, and keeps it for a while, for secrets that are learned late.
    pub fn pass(&self, place: &str, bytes: &[u8]) {
        self.canaries.lock().keep(place, bytes);
        self.look(place, bytes);
    }

    /// Looks for every secret in what lies at `place`.
    pub fn look(&self, place: &str, bytes: &[u8]) {
        let found = {
            let canaries = self.canaries.lock();
            if canaries.by_head.is_empty() {
                return;
            }
            canaries.find(bytes)
        };
        self.board.checked(Promise::Clear);
        self.tell(found.into_iter().map(|what| (what, place.to_owned())).collect());
    }

    fn tell(&self, found: Vec<(String, String)>) {
        for (what, place) in found {
            let new = self.canaries.lock().told.insert((what.clone(), place.clone()));
            if new {
                self.board.broke(Promise::Clear, format!("{what} stands in the clear in {place}"));
            }
        }
    }
}

impl Canaries {
    fn new() -> Self {
        let (by_head, bits) = (BTreeMap::new(), vec![0; 1 << (BITS_LOG2 - 6)]);
        let (brief, recent, told) = (VecDeque::new(), VecDeque::new(), BTreeSet::new());
        Canaries { by_head, bits, brief, recent, recent_bytes: 0, told }
    }

    /// Whether it is a new one.
    fn add(&mut self, what: &str, secret: &[u8]) -> bool {
        let Some(head) = secret.first_chunk().filter(|_| secret.len() >= CANARY_BYTES_MIN) else { return false };
        let (word, mask) = bit(*head);
        self.bits[word] |= mask;
        let list = self.by_head.entry(*head).or_default();
        let new = list.iter().all(|canary| canary.secret != secret);
        if new {
            list.push(Canary { what: what.to_owned(), secret: secret.to_vec() });
        }
        new
    }

    /// Watches no longer for the oldest of the brief ones. Its bit stays: another may have the same.
    fn let_go(&mut self) {
        let Some(secret) = self.brief.pop_front() else { return };
        let Some(head) = secret.first_chunk::<HEAD_BYTES>() else { return };
        if let Some(list) = self.by_head.get_mut(head) {
            list.retain(|canary| canary.secret != secret);
        }
    }

    fn keep(&mut self, place: &str, bytes: &[u8]) {
        if bytes.len() > RECENT_ONE_BYTES_MAX {
            return;
        }
        self.recent.push_back((place.to_owned(), bytes.to_vec()));
        self.recent_bytes += bytes.len();
        while self.recent_bytes > RECENT_BYTES_MAX {
            let Some((_, oldest)) = self.recent.pop_front() else { return };
            self.recent_bytes -= oldest.len();
        }
    }

    /// What is found in what passed lately, and where.
    fn find_again(&self) -> Vec<(String, String)> {
        let found = self.recent.iter().map(|(place, bytes)| (place, self.find(bytes)));
        found.flat_map(|(place, whats)| whats.into_iter().map(|what| (what, place.clone()))).collect()
    }

    fn find(&self, bytes: &[u8]) -> BTreeSet<String> {
        let mut found = BTreeSet::new();
        for (at, head) in bytes.array_windows::<HEAD_BYTES>().enumerate() {
            let (word, mask) = bit(*head);
            if self.bits[word] & mask == 0 {
                continue;
            }
            let here = self.by_head.get(head).into_iter().flatten();
            found.extend(here.filter(|canary| bytes[at..].starts_with(&canary.secret)).map(|c| c.what.clone()));
        }
        found
    }
}

/// Which word and which bit of it stand for a beginning (Knuth's multiplicative hash).
fn bit(head: [u8; HEAD_BYTES]) -> (usize, u64) {
    let hash = u32::from_be_bytes(head).wrapping_mul(2_654_435_769) >> (32 - BITS_LOG2);
    ((hash >> 6) as usize, 1 << (hash & 63))
}

#[cfg(test)]
mod tests {
    use super::super::on_a_board;
    use super::*;

    const SECRETS: [&[u8]; 3] = [b"canary-of-the-first", b"canary-of-the-second", b"\0\0\0\0\0\0\0\0\0\0\0\x01"];

    fn found(bytes: &[u8]) -> Vec<String> {
        on_a_board(|board| {
            let clear = Clear::new(board.clone());
            clear.look("nowhere", SECRETS[0]);
            assert!(board.counts().is_empty(), "there was nothing to look for");
            SECRETS.iter().zip(["one", "two", "three"]).for_each(|(secret, what)| clear.watch(what, secret));
            clear.watch("too short", b"canary-of-t");
            clear.look("a frame", bytes);
            assert_eq!(board.counts()[&Promise::Clear], 1);
            board.broken().into_iter().map(|broken| broken.what).collect()
        })
    }

    #[test]
    fn a_secret_is_found_wherever_it_stands() {
        for what in [&b""[..], b"cana", b"canary-of-the-firs", b"Canary-of-the-first", &[0; 40]] {
            assert_eq!(found(what), [""; 0], "{what:?}");
        }
        for at in [0, 1, 7, 4_000] {
            let mut bytes = vec![b'c'; at];
            bytes.extend_from_slice(SECRETS[1]);
            assert_eq!(found(&bytes), ["two stands in the clear in a frame"]);
            bytes.push(0);
            assert_eq!(found(&bytes).len(), 1);
        }
        let all = [SECRETS[0], SECRETS[1], &[0; 9], SECRETS[2], SECRETS[0]].concat();
        assert_eq!(found(&all).len(), 3);
    }

    #[test]
    fn one_find_in_one_place_is_told_once() {
        on_a_board(|board| {
            let clear = Clear::new(board.clone());
            clear.watch("the share of Ada", SECRETS[0]);
            for place in ["a frame", "a frame", "a record"] {
                clear.look(place, SECRETS[0]);
            }
            assert_eq!(board.broken().len(), 2);
        });
    }

    fn broken_after(story: impl FnOnce(&Clear)) -> usize {
        on_a_board(|board| {
            let clear = Clear::new(board.clone());
            story(&clear);
            board.broken().len()
        })
    }

    fn plaintext(number: usize) -> Vec<u8> {
        format!("plaintext number {number}").into_bytes()
    }

    #[test]
    fn brief_canaries_are_the_newest() {
        let after = |others: usize, looked: usize| {
            broken_after(|clear| {
                clear.watch("the root key", SECRETS[0]);
                (0..=others).for_each(|number| clear.watch_briefly("a plaintext", &plaintext(number)));
                clear.look("a frame", &plaintext(looked));
                clear.look("a record", SECRETS[0]);
            })
        };
        assert_eq!(after(BRIEF_MAX - 1, 0), 2);
        assert_eq!(after(BRIEF_MAX, 0), 1, "watched briefly, and long ago");
        assert_eq!(after(BRIEF_MAX, BRIEF_MAX), 2);
    }

    #[test]
    fn a_secret_that_is_learned_late_is_found_in_what_passed_lately() {
        let late = || [("a material".to_owned(), SECRETS[0])];
        assert_eq!(broken_after(|clear| clear.watch_late(late())), 0);
        let after = |between: usize| {
            broken_after(|clear| {
                clear.pass("a frame", &[b"before ", SECRETS[0], b" after"].concat());
                (0..between).for_each(|_| clear.pass("another frame", &[7; 1 << 10]));
                clear.watch_late(late());
                clear.watch_late(late());
            })
        };
        assert_eq!(after(0), 1);
        assert_eq!(after(100), 1);
        assert_eq!(after(RECENT_BYTES_MAX >> 10), 0, "too long ago");
    }
}
