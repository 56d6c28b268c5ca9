//! Books that are whole, torn, and tampered with.

use super::*;
use crate::crypto::SigningKey;
use crate::decide::paper::{ADMIN, seeded, who};
use crate::name::Lineage;
use proptest::prelude::*;

const NODE: NodeId = NodeId(3);
const OURS: Lineage = Lineage([7; 32]);

fn page(n: u64) -> Page {
    Page {
        number: 0,
        time: UnixMs(1_000 + n),
        node: NODE,
        caller: n.is_multiple_of(2).then(|| who(ADMIN)),
        key_hash: Some(KeyHash([n as u8; 32])),
        operation: Some(Operation::RotateKey),
        resource: Some(ResourceTag { key: 1, tag: [5; 32] }),
        destination: None,
        outcome: OutcomeWord::Refused(RefusedKind::Disabled),
        revision: n,
        count: 1,
        txn: Some(TxnId([n as u8; 16])),
        intent: None,
    }
}

fn key() -> SigningKey {
    seeded(3)
}

/// A file of pages with a signed head after every fourth and at the end; and where each frame begins.
fn book(at: Position, pages: u64) -> (Vec<u8>, Vec<usize>, Position) {
    let (mut bytes, mut begins) = (Vec::new(), vec![0]);
    let mut book = BookWriter::begin(at, &mut bytes);
    for n in 1..=pages {
        begins.push(bytes.len());
        book.append(&mut page(n), &mut bytes);
        if n % 4 == 0 || n == pages {
            begins.push(bytes.len());
            book.sign(&key(), UnixMs(9_000 + n), &mut bytes);
        }
    }
    (bytes, begins, *book.position())
}

fn first() -> Position {
    Position::first(NODE, Some(OURS))
}

fn verify(bytes: &[u8]) -> Result<BookSummary, BookBroken> {
    verify_book([bytes], &key().public(), Some(OURS))
}

fn why(bytes: &[u8]) -> BookWhy {
    verify(bytes).unwrap_err().why
}

#[test]
fn a_whole_book_is_read_in_chunks_of_any_size() {
    let (bytes, _, end) = book(first(), 10);
    for size in [1, 7, 100, 10_000] {
        let mut reader = BookReader::new(key().public(), Some(OURS));
        let mut pages = Vec::new();
        for chunk in bytes.chunks(size) {
            reader.feed(chunk, &mut |page| pages.push(page)).unwrap();
        }
        let summary = reader.finish();
        assert_eq!(pages.iter().map(|p| p.number).collect::<Vec<_>>(), (1..=10).collect::<Vec<_>>());
        assert_eq!(pages[3], Page { number: 4, ..page(4) });
        assert_eq!((summary.position, summary.pages, summary.torn), (Some(end), 10, false));
        assert_eq!(summary.whole_bytes, bytes.len() as u64);
        assert_eq!(summary.head.unwrap().head.number, 10);
    }
}

#[test]
fn refuses_every_flipped_byte() {
    let (bytes, ..) = book(first(), 6);
    for at in 0..bytes.len() {
        for bit in [0x01, 0x80] {
            let mut bad = bytes.clone();
            bad[at] ^= bit;
            assert!(verify(&bad).is_err(), "byte {at}");
        }
    }
}

#[test]
fn refuses_missing_swapped_and_doubled_pages() {
    let (bytes, begins, _) = book(first(), 3);
    let part = |i: usize| &bytes[begins[i]..begins.get(i + 1).copied().unwrap_or(bytes.len())];
    let order = |parts: &[usize]| parts.iter().flat_map(|i| part(*i).to_vec()).collect::<Vec<u8>>();
    assert!(verify(&order(&[0, 1, 2, 3, 4])).is_ok());
    assert_eq!(why(&order(&[0, 1, 3, 4])), BookWhy::Gap);
    assert_eq!(why(&order(&[0, 2, 1, 3, 4])), BookWhy::Gap);
    assert_eq!(why(&order(&[0, 1, 1, 2, 3, 4])), BookWhy::Gap);
    assert_eq!(why(&order(&[0, 1, 2, 4])), BookWhy::Changed);
    assert_eq!(why(&order(&[1, 2, 3, 4])), BookWhy::NotABook);
    assert_eq!(why(&order(&[0, 0, 1, 2, 3, 4])), BookWhy::NotAFrame);
    let broken = verify(&order(&[0, 1, 3, 4])).unwrap_err();
    assert_eq!((broken.page, broken.byte), (2, begins[2] as u64));
}

#[test]
fn refuses_a_book_written_anew_without_the_key() {
    let mut bytes = Vec::new();
    let mut forger = BookWriter::begin(first(), &mut bytes);
    forger.append(&mut Page { outcome: OutcomeWord::Ok, ..page(1) }, &mut bytes);
    let unsigned = verify(&bytes).unwrap();
    assert_eq!(unsigned.head, None);
    forger.sign(&seeded(4), UnixMs(1), &mut bytes);
    assert_eq!(why(&bytes), BookWhy::Forged);
}

#[test]
fn refuses_a_true_head_over_other_pages() {
    let head = |outcome| {
        let mut bytes = Vec::new();
        let mut book = BookWriter::begin(first(), &mut bytes);
        book.append(&mut Page { outcome, ..page(1) }, &mut bytes);
        let before = bytes.len();
        book.sign(&key(), UnixMs(1), &mut bytes);
        (bytes[..before].to_vec(), bytes[before..].to_vec())
    };
    let ((pages, _), (_, sign)) = (head(OutcomeWord::Ok), head(OutcomeWord::Denied));
    assert_eq!(why(&[pages, sign].concat()), BookWhy::Changed);
}

#[test]
fn refuses_books_of_other_nodes_and_clusters() {
    let (bytes, ..) = book(Position::first(NODE, Some(Lineage([8; 32]))), 2);
    assert_eq!(why(&bytes), BookWhy::Foreign);
    let (bytes, ..) = book(Position::first(NodeId(4), Some(OURS)), 2);
    assert_eq!(why(&bytes), BookWhy::Foreign);
    let (bytes, ..) = book(Position { next: 0, ..first() }, 0);
    assert_eq!(why(&bytes), BookWhy::NotABook);
    let (bytes, ..) = book(Position { next: 5, ..first() }, 0);
    assert_eq!(why(&bytes), BookWhy::NotABook);
    assert_eq!(verify(b"").unwrap().position, None);
}

#[test]
fn a_torn_tail_is_no_damage() {
    let (bytes, begins, _) = book(first(), 6);
    let last = *begins.last().unwrap();
    for cut in 1..bytes.len() {
        let summary = verify(&bytes[..cut]).unwrap();
        let whole = begins.iter().rev().find(|b| **b <= cut).copied().unwrap();
        assert_eq!((summary.whole_bytes, summary.torn), (whole as u64, whole != cut), "cut at {cut}");
    }
    for zeroes in [1, 8, 9, 5_000] {
        let padded = [&bytes[..last], &vec![0; zeroes]].concat();
        for size in [3, 10_000] {
            let summary = verify_book(padded.chunks(size), &key().public(), None).unwrap();
            assert_eq!((summary.whole_bytes, summary.torn), (last as u64, true));
        }
    }
    let mended = [&bytes[..last], &[0; 50], &bytes[last..]].concat();
    assert_eq!(why(&mended), BookWhy::NotAFrame);
}

#[test]
fn a_torn_book_is_gone_on_with_where_it_was_whole() {
    let (mut bytes, ..) = book(first(), 6);
    bytes.truncate(bytes.len() - 5);
    let summary = verify(&bytes).unwrap();
    bytes.truncate(summary.whole_bytes as usize);
    let mut book = BookWriter::resume(summary.position.unwrap());
    book.append(&mut page(7), &mut bytes);
    book.sign(&key(), UnixMs(1), &mut bytes);
    assert_eq!(verify(&bytes).unwrap().pages, 7);
}

#[test]
fn files_follow_each_other() {
    let (one, _, end) = book(Position::first(NODE, None), 3);
    let (two, _, last) = book(Position { lineage: Some(OURS), ..end }, 2);
    let read = |files: &[&[u8]]| {
        let mut reader = BookReader::new(key().public(), Some(OURS));
        for (i, file) in files.iter().enumerate() {
            if i > 0 {
                reader.next_file()?;
            }
            reader.feed(file, &mut |_| {})?;
        }
        Ok::<_, BookBroken>(reader.finish())
    };
    let summary = read(&[&one, &two]).unwrap();
    assert_eq!((summary.position, summary.first, summary.pages), (Some(last), 1, 5));
    let later = read(&[&two]).unwrap();
    assert_eq!((later.first, later.pages), (4, 2));
    let why = |files: &[&[u8]]| read(files).unwrap_err().why;
    assert_eq!(why(&[&two, &one]), BookWhy::Gap);
    assert_eq!(why(&[&one, &one]), BookWhy::Gap);
    assert_eq!(why(&[&one[..one.len() - 1], &two]), BookWhy::TornInside);
    let (away, ..) = book(Position { lineage: None, ..last }, 1);
    assert_eq!(why(&[&one, &two, &away]), BookWhy::Foreign);
}

#[test]
fn an_intent_is_known_by_its_hash() {
    let intent = Page { outcome: OutcomeWord::Pending, ..page(1) };
    let closing = Page { outcome: OutcomeWord::Ok, intent: Some(intent.intent_hash()), ..page(1) };
    assert_eq!(Page::from_bytes(&closing.to_bytes()), Ok(closing));
    assert_ne!(intent.intent_hash(), page(1).intent_hash());
}

#[test]
fn a_page_of_two_keys_has_a_format_of_its_own() {
    let one = page(2);
    let two = Page { destination: Some(ResourceTag { key: 1, tag: [6; 32] }), ..page(2) };
    assert_eq!(one.to_bytes()[..2], [0, 1], "books of before are read, and written, as ever");
    assert_eq!(two.to_bytes()[..2], [0, 2]);
    assert_eq!(Page::from_bytes(&two.to_bytes()), Ok(two.clone()));
    assert!(two.to_bytes().len() + 250 < PAGE_BYTES_MAX);
    let mut short = two.to_bytes();
    short.truncate(one.to_bytes().len());
    assert!(Page::from_bytes(&short).is_err());
}

#[test]
fn every_outcome_has_a_word() {
    let outcomes = RefusedKind::ALL.iter().map(|k| OutcomeWord::Refused(*k));
    let outcomes = outcomes.chain(WhyKind::ALL.iter().map(|k| OutcomeWord::Unavailable(*k)));
    for outcome in outcomes.chain([OutcomeWord::Ok, OutcomeWord::Broken, OutcomeWord::Unauthenticated]) {
        assert_eq!(OutcomeWord::from_bytes(&outcome.to_bytes()), Ok(outcome));
        assert!(!outcome.to_string().is_empty());
    }
    assert!(page(2).to_bytes().len() + 300 < PAGE_BYTES_MAX);
}

proptest! {
    #[test]
    fn no_bytes_make_the_reader_panic(bytes in proptest::collection::vec(any::<u8>(), 0..600), cut in 0usize..2_000) {
        let (good, ..) = book(first(), 5);
        let cut = cut.min(good.len());
        let mixed = [&good[..cut], &bytes].concat();
        if let Ok(summary) = verify(&mixed) {
            prop_assert!(summary.whole_bytes <= mixed.len() as u64);
        }
        if let Ok(page) = Page::from_bytes(&bytes) {
            prop_assert_eq!(page.to_bytes(), bytes);
        }
    }
}
