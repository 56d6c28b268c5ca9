//! Every answer has its page (looked at by the door, the moment it is handed over), and every book verifies, file after
//! file, whatever crashes cut off.

use super::{Board, Promise};
use claviger_core::name::{NodeId, VerifyingKey};
use claviger_core::page::{BookBroken, BookReader};
use std::sync::Arc;

/// Verifies books.
pub struct Audit {
    board: Arc<Board>,
}

impl Audit {
    /// No book yet.
    pub fn new(board: Arc<Board>) -> Self {
        Audit { board }
    }

    /// A book that a fault has changed must not verify.
    pub fn changed_book(&self, node: NodeId, files: &[(String, Vec<u8>)], key: &VerifyingKey) {
        let refused = read(&sorted(files), key).is_err();
        self.board.expect(Promise::Audit, refused, || format!("the book of node {node} was changed, and verifies"));
    }

    /// A node's files as they lie on its disk, in any order. How many pages there are.
    pub fn book(&self, node: NodeId, files: &[(String, Vec<u8>)], key: &VerifyingKey) -> u64 {
        match read(&sorted(files), key) {
            Ok(pages) => {
                self.board.expect(Promise::Audit, true, String::new);
                pages
            }
            Err(why) => {
                self.board.broke(Promise::Audit, format!("the book of node {node}: {why}"));
                0
            }
        }
    }
}

fn sorted(files: &[(String, Vec<u8>)]) -> Vec<&(String, Vec<u8>)> {
    let mut books: Vec<_> = files.iter().filter(|(name, _)| name.starts_with("audit-")).collect();
    books.sort();
    books
}

fn read(books: &[&(String, Vec<u8>)], key: &VerifyingKey) -> Result<u64, BookBroken> {
    let mut reader = BookReader::new(*key, None);
    let mut pages = 0;
    for (n, (_, bytes)) in books.iter().enumerate() {
        if n > 0 {
            reader.next_file()?;
        }
        reader.feed(bytes, &mut |_| pages += 1)?;
    }
    reader.finish();
    Ok(pages)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::papers::signing_key;
    use crate::promises::on_a_board;
    use claviger_core::page::{BookWriter, OutcomeWord, Page, Position};
    use claviger_core::time::UnixMs;

    #[test]
    fn a_changed_book_does_not_verify() {
        on_a_board(|board| {
            let (audit, key) = (Audit::new(board.clone()), signing_key([3; 32]));
            let mut bytes = Vec::new();
            let mut writer = BookWriter::begin(Position::first(NodeId(1), None), &mut bytes);
            let mut page = Page {
                number: 0,
                time: UnixMs(1),
                node: NodeId(1),
                caller: None,
                key_hash: None,
                operation: None,
                resource: None,
                outcome: OutcomeWord::Ok,
                revision: 0,
                count: 1,
                txn: None,
                intent: None,
            };
            writer.append(&mut page, &mut bytes);
            writer.append(&mut page, &mut bytes);
            let name = "audit-0000000001".to_owned();
            assert_eq!(audit.book(NodeId(1), &[(name.clone(), bytes.clone())], &key.public()), 2);
            assert_eq!(board.broken(), []);
            let middle = bytes.len() / 2;
            bytes[middle] ^= 4;
            audit.changed_book(NodeId(1), &[(name.clone(), bytes.clone())], &key.public());
            assert_eq!(board.broken(), []);
            audit.book(NodeId(1), &[(name.clone(), bytes.clone())], &key.public());
            bytes[middle] ^= 4;
            audit.changed_book(NodeId(1), &[(name, bytes)], &key.public());
            assert_eq!(board.broken().len(), 2);
        });
    }
}
