//! No record, file or frame holds a secret in the clear: canaries are planted among the secrets, and looked for.

use super::{Board, Promise};
use parking_lot::Mutex;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Canaries that are shorter are not watched: other bytes would hold them by chance.
pub const CANARY_BYTES_MIN: usize = 12;

/// What must be seen nowhere.
pub struct Clear {
    board: Arc<Board>,
    canaries: Mutex<Canaries>,
}

/// The secrets, by how they begin. A bit for each beginning says quickly that there is none here.
struct Canaries {
    by_head: BTreeMap<[u8; HEAD_BYTES], Vec<Canary>>,
    bits: Vec<u64>,
    /// What was told already: which canary, and where.
    told: BTreeSet<(String, String)>,
}

struct Canary {
    what: String,
    secret: Vec<u8>,
}

const HEAD_BYTES: usize = 4;
const BITS_LOG2: u32 = 18;

impl Clear {
    /// Watches for nothing yet.
    pub fn new(board: Arc<Board>) -> Self {
        let (by_head, bits) = (BTreeMap::new(), vec![0; 1 << (BITS_LOG2 - 6)]);
        Clear { board, canaries: Mutex::new(Canaries { by_head, bits, told: BTreeSet::new() }) }
    }

    /// Watches for a secret from here on, unless it is too short. `what` is how it is called when it is found.
    pub fn watch(&self, what: &str, secret: &[u8]) {
        let Some(head) = secret.first_chunk().filter(|_| secret.len() >= CANARY_BYTES_MIN) else { return };
        let mut canaries = self.canaries.lock();
        canaries.bits[bit(*head).0] |= bit(*head).1;
        let list = canaries.by_head.entry(*head).or_default();
        if list.iter().all(|canary| canary.secret != secret) {
            list.push(Canary { what: what.to_owned(), secret: secret.to_vec() });
        }
    }

    /// Looks for every secret in what lies or passes at `place`.
    pub fn look(&self, place: &str, bytes: &[u8]) {
        let mut canaries = self.canaries.lock();
        if canaries.by_head.is_empty() {
            return;
        }
        let found = canaries.find(bytes);
        let news: Vec<String> =
            found.into_iter().filter(|what| canaries.told.insert((what.clone(), place.to_owned()))).collect();
        drop(canaries);
        self.board.checked(Promise::Clear);
        for what in news {
            self.board.broke(Promise::Clear, format!("{what} stands in the clear in {place}"));
        }
    }
}

impl Canaries {
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
}
