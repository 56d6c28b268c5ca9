//! No two messages share salt and nonce, whichever node made them, in whichever life, under whichever key.

use super::{Board, Promise};
use claviger_core::envelope::Header;
use parking_lot::Mutex;
use std::collections::BTreeSet;
use std::sync::Arc;

/// Every pair that was ever seen on a ciphertext.
pub struct Nonces {
    board: Arc<Board>,
    seen: Mutex<BTreeSet<([u8; 32], [u8; 12])>>,
}

impl Nonces {
    /// Has seen none.
    pub fn new(board: Arc<Board>) -> Self {
        Nonces { board, seen: Mutex::default() }
    }

    /// Hears of a ciphertext that was made. Not of the same one twice.
    pub fn ciphertext(&self, header: &Header) {
        let new = self.seen.lock().insert((header.salt, header.nonce));
        self.board.expect(Promise::Nonces, new, || {
            let Header { key, version, .. } = header;
            format!("a message of key {key}, version {version}, has salt and nonce of an earlier one")
        });
    }
}

#[cfg(test)]
mod tests {
    use super::super::on_a_board;
    use super::*;
    use claviger_core::name::{KeyId, MaterialId};

    fn header(salt: u8, nonce: u8) -> Header {
        let (key, material) = (KeyId([1; 16]), MaterialId([2; 8]));
        Header { key, version: 1, material, salt: [salt; 32], nonce: [nonce; 12], commitment: [0; 32] }
    }

    #[test]
    fn a_salt_may_serve_twice_but_not_with_one_nonce() {
        on_a_board(|board| {
            let nonces = Nonces::new(board.clone());
            [header(1, 1), header(1, 2), header(2, 1)].iter().for_each(|h| nonces.ciphertext(h));
            assert_eq!(board.broken(), []);
            nonces.ciphertext(&header(1, 2));
            assert_eq!(board.broken().len(), 1);
            assert_eq!(board.broken()[0].promise, Promise::Nonces);
            assert_eq!(board.counts()[&Promise::Nonces], 4);
        });
    }
}
