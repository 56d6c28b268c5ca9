//! What each check is seen broken by.

use super::*;
use crate::disk::Honesty;
use crate::papers::{Guest, signing_key};
use crate::promises::on_a_board;
use crate::trace::Trace;
use claviger_core::crypto::{SigningKey, sign};
use claviger_core::page::{BookWriter, Position};
use claviger_core::time::UnixMs;
use claviger_world::disk::{AppendFile, Disk};

const FILES: [&str; 2] = ["audit-0000000001", "audit-0000000002"];

fn who() -> Identity {
    Guest::new(1, "service", "app0").identity
}

fn page(operation: Operation) -> Page {
    Page { caller: Some(who()), operation: Some(operation), ..Page::bare(NodeId(1), UnixMs(1), OutcomeWord::Ok) }
}

/// A node that writes its book, and the promise that looks on.
struct Desk {
    audit: Audit,
    disk: SimDisk,
    key: SigningKey,
    writer: BookWriter,
    file: Arc<dyn AppendFile>,
    life: u64,
    at: Duration,
    failed: bool,
}

impl Desk {
    fn new(board: Arc<Board>, trace: Arc<Trace>) -> Desk {
        let (disk, mut bytes) = (SimDisk::new(trace, Honesty::Honest), Vec::new());
        let (file, key) = (disk.open(FILES[0]).unwrap(), signing_key([3; 32]));
        let writer = BookWriter::begin(Position::first(NodeId(1), None), &mut bytes);
        file.append(&bytes).unwrap();
        let (audit, at) = (Audit::new(board), Duration::from_secs(10));
        Desk { audit, disk, key, writer, file, life: 1, at, failed: false }
    }

    fn write(&mut self, operation: Operation) -> Page {
        let (mut page, mut bytes) = (page(operation), Vec::new());
        self.writer.append(&mut page, &mut bytes);
        self.file.append(&bytes).unwrap();
        page
    }

    fn answer(&self, operation: Operation, strict: bool, pages: &[Page]) {
        let (node, outcome, life, at) = (NodeId(1), OutcomeWord::Ok, self.life, self.at);
        let caller = &who();
        self.audit.answered(&Answered { node, life, caller, operation, outcome, strict, at }, pages);
    }

    /// Writes a page, and answers.
    fn serve(&mut self, strict: bool) {
        let page = self.write(Operation::GetKey);
        self.answer(Operation::GetKey, strict, &[page]);
    }

    async fn sync(&self) {
        self.file.sync().await.unwrap();
    }

    fn sign(&self) -> SignedHead {
        self.writer.sign(&self.key, UnixMs(2), &mut Vec::new())
    }

    fn look(&self) {
        let (node, key, disk) = (NodeId(1), &self.key.public(), &self.disk);
        let Desk { life, at, failed, .. } = *self;
        self.audit.look(&Looked { node, life, key, disk, failed, at });
    }

    fn look_later(&mut self) {
        self.at += SYNCED_WITHIN * 2;
        self.look();
    }

    /// Begins the next file, as a book does that has grown.
    fn turn_over(&mut self) {
        let mut bytes = Vec::new();
        self.file = self.disk.open(FILES[1]).unwrap();
        self.writer = BookWriter::begin(*self.writer.position(), &mut bytes);
        self.file.append(&bytes).unwrap();
    }

    /// Another life, whose book has only the first file, up to `length` bytes, and goes on there.
    fn live_again(&mut self, length: u64, at: Position) {
        self.disk.crash();
        self.life += 1;
        self.file = self.disk.open(FILES[0]).unwrap();
        self.file.cut(length).unwrap();
        self.writer = BookWriter::resume(at);
    }

    fn end(&self) -> (u64, Position) {
        (self.file.len().unwrap(), *self.writer.position())
    }
}

/// What is broken after that.
fn broken(story: impl AsyncFnOnce(&mut Desk)) -> Vec<String> {
    let mut builder = tokio::runtime::Builder::new_current_thread();
    builder.enable_time().start_paused(true).build().unwrap().block_on(async {
        let trace = Arc::new(Trace::new(1, None));
        let board = Board::new(trace.clone());
        story(&mut Desk::new(board.clone(), trace)).await;
        board.broken().into_iter().map(|broken| broken.what).collect()
    })
}

fn assert_one(broken: &[String], what: &str) {
    assert!(matches!(broken, [one] if one.contains(what)), "{broken:?}");
}

#[test]
fn every_answer_has_a_page_of_its_own() {
    let with = |answers: &[Operation]| {
        broken(async |desk| {
            let pages = [desk.write(Operation::GetKey), desk.write(Operation::SealNode), desk.write(Operation::GetKey)];
            answers.iter().for_each(|answer| desk.answer(*answer, false, &pages));
        })
    };
    assert_eq!(with(&[Operation::GetKey, Operation::GetKey, Operation::SealNode]), [""; 0]);
    assert_one(&with(&[Operation::Encrypt]), "without a page of its own");
    assert_one(&with(&[Operation::SealNode, Operation::SealNode]), "without a page of its own");
    assert_one(&with(&[Operation::GetKey; 3]), "without a page of its own");
}

#[test]
fn a_page_carries_as_many_answers_as_it_counts() {
    let with = |answers: usize| {
        broken(async |desk| {
            let pages = [Page { count: 2, ..desk.write(Operation::GetKey) }, desk.write(Operation::SealNode)];
            (0..answers).for_each(|_| desk.answer(Operation::GetKey, false, &pages));
        })
    };
    assert_eq!(with(2), [""; 0]);
    assert_one(&with(3), "without a page of its own");
}

#[test]
fn an_answer_that_was_to_wait_has_a_synced_page() {
    let with = |strict: bool, synced: bool| {
        broken(async |desk| {
            desk.serve(strict);
            if synced {
                desk.sync().await;
            }
            desk.look();
            desk.look();
        })
    };
    assert_eq!(with(true, true), [""; 0]);
    assert_eq!(with(false, false), [""; 0]);
    assert_one(&with(true, false), "page 1 was to be: an answer rests on it");
}

#[test]
fn a_page_in_a_file_before_an_unsynced_one_is_not_durable() {
    let with = |both: bool| {
        broken(async |desk| {
            desk.serve(true);
            if both {
                desk.sync().await;
            }
            desk.turn_over();
            desk.serve(true);
            desk.sync().await;
            desk.look();
            desk.look();
        })
    };
    assert_eq!(with(true), [""; 0]);
    assert_one(&with(false), "0 pages are durable, and page 2 was to be");
}

#[test]
fn what_was_durable_is_there_in_the_next_life() {
    let with = |strict: bool, looked: bool, lost: bool| {
        broken(async |desk| {
            let before = desk.end();
            desk.serve(strict);
            desk.sync().await;
            if looked {
                desk.look();
            }
            let after = desk.end();
            let (length, at) = if lost { before } else { after };
            desk.live_again(length, at);
            desk.look();
            desk.look();
        })
    };
    assert_eq!(with(true, true, false), [""; 0]);
    assert_one(&with(true, false, true), "an answer rests on it");
    assert_one(&with(false, true, true), "it was found synced");
    assert_eq!(with(false, false, true), [""; 0], "nobody knew that it was synced");
}

#[test]
fn what_was_durable_is_what_it_was() {
    let with = |strict: bool, other: Operation| {
        broken(async |desk| {
            let (length, at) = desk.end();
            desk.serve(strict);
            desk.sync().await;
            if !strict {
                desk.look();
            }
            desk.live_again(length, at);
            desk.write(other);
            desk.sync().await;
            desk.look();
            desk.look();
        })
    };
    assert_eq!(with(false, Operation::GetKey), [""; 0]);
    assert_one(&with(false, Operation::Encrypt), "page 1 is not what it was");
    assert_one(&with(true, Operation::Encrypt), "page 1 is not the one that an answer rested on");
}

#[test]
fn what_was_not_durable_may_be_gone_and_its_number_go_to_another() {
    let story = async |desk: &mut Desk| {
        desk.sync().await;
        let (length, at) = desk.end();
        desk.serve(false);
        desk.live_again(length, at);
        let page = desk.write(Operation::Encrypt);
        desk.answer(Operation::Encrypt, false, &[page]);
        desk.sync().await;
        desk.look();
    };
    assert_eq!(broken(story), [""; 0]);
}

#[test]
fn what_a_head_in_the_ledger_covers_is_durable_and_says_the_same() {
    let with = |synced: bool, change: &dyn Fn(&mut SignedHead)| {
        broken(async |desk| {
            desk.serve(false);
            if synced {
                desk.sync().await;
            }
            let mut head = desk.sign();
            change(&mut head);
            desk.audit.head(&head, &desk.key.public());
            desk.look();
            desk.look();
        })
    };
    assert_eq!(with(true, &|_| ()), [""; 0]);
    assert_one(&with(false, &|_| ()), "page 1 was to be: the ledger has a head");
    let other = |head: &mut SignedHead| {
        head.head.hash = Digest([7; 32]);
        head.signature = sign(&signing_key([3; 32]), &head.head.signed_bytes());
    };
    assert_one(&with(true, &other), "says something else than the pages");
    assert_one(&with(true, &|head| head.head.time = UnixMs(3)), "that it did not sign");
}

#[test]
fn a_page_is_synced_in_time_where_nothing_hinders_its_node() {
    let with = |synced: bool, story: &dyn Fn(&mut Desk)| {
        broken(async |desk| {
            desk.serve(false);
            if synced {
                desk.sync().await;
            }
            story(desk);
            desk.look_later();
            desk.look();
        })
    };
    assert_eq!(with(true, &|_| ()), [""; 0]);
    assert_one(&with(false, &|_| ()), "page 1 is not synced 2s after");
    assert_eq!(with(false, &|desk| desk.failed = true), [""; 0]);
    assert_eq!(with(false, &|desk| desk.audit.hinder(NodeId(1))), [""; 0]);
    let relieved = |desk: &mut Desk, felt: Duration| {
        desk.audit.hinder(NodeId(1));
        desk.audit.relieve(NodeId(1), felt);
    };
    assert_eq!(with(false, &|desk| relieved(desk, desk.at + SYNCED_WITHIN)), [""; 0]);
    assert_eq!(with(false, &|desk| relieved(desk, desk.at)).len(), 1, "not felt any more when it answered");
    let freed = |desk: &mut Desk| {
        desk.audit.hinder(NodeId(1));
        desk.audit.relieve_all(desk.at);
    };
    assert_eq!(with(false, &freed).len(), 1);
}

#[test]
fn nothing_is_asked_of_a_book_whose_disk_was_damaged() {
    let story = async |desk: &mut Desk| {
        desk.serve(true);
        desk.audit.excuse(NodeId(1));
        desk.look_later();
    };
    assert_eq!(broken(story), [""; 0]);
}

#[test]
fn a_book_that_does_not_verify_is_told_once() {
    let story = async |desk: &mut Desk| {
        desk.serve(false);
        desk.file.append(&[9; 64]).unwrap();
        desk.sync().await;
        desk.look();
        desk.look();
    };
    assert_one(&broken(story), "no frame");
}

#[test]
fn a_changed_book_does_not_verify() {
    on_a_board(|board| {
        let (audit, key) = (Audit::new(board.clone()), signing_key([3; 32]));
        let mut bytes = Vec::new();
        let mut writer = BookWriter::begin(Position::first(NodeId(1), None), &mut bytes);
        let mut page = page(Operation::GetKey);
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

#[test]
fn items_that_no_page_counts_are_found() {
    on_a_board(|board| {
        let audit = Audit::new(board.clone());
        let numbered = |number, count| Page { number, count, ..page(Operation::Encrypt) };
        let items = |count, pages: &[Page]| {
            let (node, outcome, operation, at) = (NodeId(1), OutcomeWord::Ok, Operation::Encrypt, Duration::ZERO);
            let answer = Answered { node, life: 1, caller: &who(), operation, outcome, strict: false, at };
            audit.items_answered(&answer, count, pages);
        };
        items(3, &[numbered(1, 2), page(Operation::Decrypt), numbered(2, 1)]);
        items(1, &[numbered(3, 1), numbered(4, 1)]);
        assert_eq!(board.broken(), []);
        items(2, &[numbered(3, 1), numbered(4, 1)]);
        assert_eq!(board.broken().len(), 1, "one page was another item's");
        items(3, &[numbered(5, 2)]);
        assert_eq!(board.broken().len(), 2, "too few are counted");
    });
}
