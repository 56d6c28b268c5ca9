//! Every ciphertext that was ever returned opens on every unsealed node from then on, to its plaintext, with its context
//! only.

use super::{Board, Promise};
use crate::dice::Dice;
use claviger_core::failure::{Failure, Refused};
use claviger_core::name::NodeId;
use parking_lot::Mutex;
use std::collections::VecDeque;
use std::sync::Arc;

/// A ciphertext that somebody has.
#[derive(Clone, Debug)]
pub struct Kept {
    /// Of which key, by the run's number.
    pub key: u64,
    /// The version that encrypted.
    pub version: u32,
    /// The ciphertext.
    pub ciphertext: Vec<u8>,
    /// What it must open to.
    pub plaintext: Vec<u8>,
    /// The context, as a value of one pair; none for no pairs.
    pub context: Option<String>,
    /// The revision that its answer carried.
    pub revision: u64,
}

/// Keeps ciphertexts, and judges what comes of decrypting them.
pub struct Ciphertexts {
    board: Arc<Board>,
    kept: Mutex<Vec<Kept>>,
    /// The newest of those that are streams.
    streams: Mutex<VecDeque<Kept>>,
}

/// Streams that are kept, at most: each has some hundred kilobytes.
const STREAMS_KEPT_MAX: usize = 32;

impl Ciphertexts {
    /// None yet.
    pub fn new(board: Arc<Board>) -> Self {
        Ciphertexts { board, kept: Mutex::default(), streams: Mutex::default() }
    }

    /// Keeps one.
    pub fn keep(&self, kept: Kept) {
        self.kept.lock().push(kept);
    }

    /// One of a key's, the newer ones likelier; none while there are none.
    pub fn some(&self, key: u64, dice: &Dice) -> Option<Kept> {
        let kept = self.kept.lock();
        let of_key: Vec<&Kept> = kept.iter().filter(|k| k.key == key).collect();
        let newest = of_key.len().saturating_sub(20);
        let among = if dice.once_in(2) { &of_key[newest..] } else { &of_key[..] };
        dice.pick(among).map(|kept| (*kept).clone())
    }

    /// Keeps one that is a stream.
    pub fn keep_stream(&self, kept: Kept) {
        let mut streams = self.streams.lock();
        streams.push_back(kept);
        if streams.len() > STREAMS_KEPT_MAX {
            streams.pop_front();
        }
    }

    /// One of a key's that is a stream; none while there are none.
    pub fn some_stream(&self, key: u64, dice: &Dice) -> Option<Kept> {
        let streams = self.streams.lock();
        let of_key: Vec<&Kept> = streams.iter().filter(|kept| kept.key == key).collect();
        dice.pick(&of_key).map(|kept| (*kept).clone())
    }

    /// What came of decrypting a stream that was cut, or whose chunks were put otherwise: it may not end as if it were whole.
    pub fn spoiled(&self, node: NodeId, kept: &Kept, whole: bool) {
        self.board.expect(Promise::Ciphertexts, !whole, || {
            format!(
                "a stream of key {} version {} that was changed passed for whole on node {node}",
                kept.key, kept.version
            )
        });
    }

    /// At most `count`, spread over all.
    pub fn spread(&self, count: usize) -> Vec<Kept> {
        let kept = self.kept.lock();
        let step = kept.len().div_ceil(count.max(1)).max(1);
        kept.iter().step_by(step).cloned().collect()
    }

    /// What came of decrypting one in its own context, under a reading no older than its answer.
    pub fn opened(&self, node: NodeId, kept: &Kept, answer: &Result<Vec<u8>, Failure>) {
        let good = match answer {
            Ok(plaintext) => *plaintext == kept.plaintext,
            Err(Failure::Refused(Refused::Disabled)) | Err(Failure::Denied | Failure::Unavailable(_)) => return,
            Err(Failure::Refused(_) | Failure::Broken(_) | Failure::Unauthenticated(_)) => false,
        };
        self.board.expect(Promise::Ciphertexts, good, || {
            let came = answer.as_ref().map(|_| "another plaintext").map_err(Failure::to_string);
            format!("a ciphertext of key {} version {} on node {node}: {came:?}", kept.key, kept.version)
        });
    }

    /// What came of decrypting one in another context.
    pub fn opened_elsewhere(&self, node: NodeId, kept: &Kept, answer: &Result<Vec<u8>, Failure>) {
        if matches!(answer, Err(Failure::Refused(Refused::Disabled) | Failure::Denied | Failure::Unavailable(_))) {
            return;
        }
        self.board.expect(Promise::Ciphertexts, answer.is_err(), || {
            format!("a ciphertext of key {} opened in another context on node {node}", kept.key)
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::promises::on_a_board;

    #[test]
    fn only_the_plaintext_is_right_and_only_in_its_context() {
        on_a_board(|board| {
            let ciphertexts = Ciphertexts::new(board.clone());
            let plaintext = b"plain".to_vec();
            let kept = Kept { key: 1, version: 2, ciphertext: vec![1], plaintext, context: None, revision: 1 };
            ciphertexts.keep(kept.clone());
            assert_eq!(ciphertexts.spread(5).len(), 1);
            ciphertexts.opened(NodeId(1), &kept, &Ok(b"plain".to_vec()));
            ciphertexts.opened(NodeId(1), &kept, &Err(Failure::Denied));
            ciphertexts.opened_elsewhere(NodeId(1), &kept, &Err(Refused::Undecryptable.into()));
            assert_eq!(board.broken(), []);
            ciphertexts.opened(NodeId(1), &kept, &Ok(b"plane".to_vec()));
            ciphertexts.opened(NodeId(1), &kept, &Err(Refused::Undecryptable.into()));
            ciphertexts.opened_elsewhere(NodeId(1), &kept, &Ok(b"plain".to_vec()));
            assert_eq!(board.broken().len(), 3);
            ciphertexts.spoiled(NodeId(1), &kept, false);
            assert_eq!(board.broken().len(), 3);
            ciphertexts.spoiled(NodeId(1), &kept, true);
            assert_eq!(board.broken().len(), 4);
        });
    }
}
