//! What must hold for every input of this crate's parsers, whoever made it. Run over seeds and mutants by the test at the
//! foot, and searched by `make fuzz`.

use crate::address::Announcement;
use crate::ceremony::{CeremonyKey, SignedCeremonyKey};
use crate::codec::{Canonical, Reader};
use crate::crypto::SigningKey;
use crate::decide::RoleCursor;
use crate::envelope::{
    CONTEXT_BYTES_MAX, CONTEXT_PAIRS_MAX, Ciphertext, Context, OVERHEAD_BYTES, PLAINTEXT_BYTES_MAX, StreamHeader, Suite,
};
use crate::header::{Header, HeaderLink};
use crate::kem::{KemPublic, SealedBox};
use crate::key::{Algorithm, KeyRecord, KeyState, KeyVersion, Labels};
use crate::mandate::{Mandate, SignedMandate};
use crate::mark::Mark;
use crate::name::{
    CeremonyId, Digest, Identity, KeyId, KeyName, Lineage, MaterialId, NodeId, RequestId, Segment, Signature, TxnId,
    VerifyingKey,
};
use crate::page::{BookReader, BookWriter, Page, Position, SignedHead};
use crate::policy::Operation;
use crate::policy::{DeniedRecord, GrantRecord, StewardRecord};
use crate::record::{RecordKey, Table};
use crate::roster::{Countersignature, Custodians, Founding, Genesis, Roster};
use crate::secret::Secret32;
use crate::share::{Share, ShareFile};
use crate::slot::SlotRecord;
use crate::snapshot::file::FileReader;
use crate::snapshot::{CHUNK_BYTES_MAX, HEADER_BYTES_MAX, Part, Progress, SnapshotHeader};
use crate::ticket::{Ticket, TicketRecord};
use crate::time::UnixMs;
use crate::txn::{Batch, Checkpoint, Conflict, Effect, Outcome, Put, Reliance, SignedBatch, Txn};
use std::fmt::Display;
use std::str::FromStr;

/// A name, and what must hold for every input.
pub type Target = (&'static str, fn(&[u8]));

/// All of this crate.
pub const TARGETS: &[Target] = &[
    ("ciphertext", ciphertext),
    ("stream-header", stream_header),
    ("context", context),
    ("share-file", share_file),
    ("share-payload", share_payload),
    ("ticket", ticket),
    ("names", names),
    ("transactions", transactions),
    ("records", records),
    ("roster-and-headers", roster_and_headers),
    ("statements", statements),
    ("book", book),
    ("snapshot", snapshot),
    ("snapshot-file", snapshot_file),
    ("mark", mark),
];

/// First inputs that are not among the format vectors.
pub fn seeds() -> Vec<Vec<u8>> {
    let mut book = Vec::new();
    let mut writer = BookWriter::begin(Position::first(NodeId(1), None), &mut book);
    writer.append(&mut page(), &mut book);
    writer.sign(&identity(), UnixMs(2), &mut book);
    writer.append(&mut page(), &mut book);
    let texts = [
        "purpose\nbackup\ntenant\nacme",
        "tenants/acme/keys/backup",
        "spiffe://acme.example/claviger/service/app",
        SHARE_FILE,
    ];
    let values = [page().to_bytes(), txn().to_bytes(), key_record().to_bytes()];
    texts.map(|text| text.as_bytes().to_vec()).into_iter().chain(values).chain([book]).collect()
}

const SHARE_FILE: &str = "claviger share, format 1
cluster: demo
region: eu-west
lineage: 1111111111111111111111111111111111111111111111111111111111111111
epoch: 1
slot: 1
threshold: 3
shares: 5
index: 2
holder: spiffe://acme.example/claviger/custodian/alice
checksum: 2222222222222222222222222222222222222222222222222222222222222222

-----BEGIN AGE ENCRYPTED FILE-----
YWdlLWVuY3J5cHRpb24ub3JnL3YxCg==
-----END AGE ENCRYPTED FILE-----
";

fn txn() -> Txn {
    let at = RecordKey::only(Table::Roster);
    Txn {
        id: TxnId([3; 16]),
        turn: 4,
        decided_at: UnixMs(5),
        relies: vec![Reliance::Exact(at, 6), Reliance::AtLeast(UnixMs(7))],
        puts: vec![Put { key: at, value: vec![8; 40] }],
        deletes: vec![RecordKey::only(Table::Keyring)],
        effect: Effect::Tick { before: UnixMs(9), now: UnixMs(10) },
    }
}

fn key_record() -> KeyRecord {
    let version = |number: u32| KeyVersion { number, material: MaterialId([number as u8; 8]), created: UnixMs(1) };
    let name = |text: &str| text.parse::<Segment>().expect("a segment");
    KeyRecord {
        id: KeyId([1; 16]),
        name: "tenants/acme/keys/backup".parse().expect("a key name"),
        algorithm: Algorithm::Aes256Gcm,
        state: KeyState::Enabled,
        primary: 2,
        min_decrypt: 1,
        versions: vec![version(1), version(2)],
        labels: Labels::from([(name("env"), name("prod")), (name("team"), name("billing"))]),
        created: UnixMs(1),
        updated: UnixMs(2),
    }
}

fn identity() -> SigningKey {
    SigningKey::from_seed(Secret32::copy_from(&[7; 32]).expect("32 bytes"))
}

fn page() -> Page {
    Page {
        number: 0,
        time: UnixMs(1),
        node: NodeId(1),
        caller: None,
        key_hash: None,
        operation: Some(Operation::Encrypt),
        resource: None,
        destination: None,
        outcome: crate::page::OutcomeWord::Pending,
        revision: 3,
        count: 1,
        txn: None,
        intent: None,
    }
}

/// What was read has the very bytes that it was read from: there are no two forms of one value, so none to be signed as
/// one and shown as the other.
fn canonical<T: Canonical>(bytes: &[u8]) {
    if let Ok(value) = T::from_bytes(bytes) {
        assert!(value.to_bytes() == bytes, "{} has two forms", std::any::type_name::<T>());
    }
}

fn exact<T: FromStr + Display>(text: &str) {
    if let Ok(value) = text.parse::<T>() {
        assert!(value.to_string() == text, "{} has two forms", std::any::type_name::<T>());
    }
}

fn ciphertext(bytes: &[u8]) {
    let Ok(sealed) = Ciphertext::parse(bytes) else { return };
    let header = sealed.header();
    assert!((OVERHEAD_BYTES..=OVERHEAD_BYTES + PLAINTEXT_BYTES_MAX).contains(&bytes.len()));
    let version = header.version.to_be_bytes();
    let parts: [&[u8]; 7] = [
        b"CLAV\x01\x01\0\0",
        &header.key.0,
        &version,
        &header.material.0,
        &header.salt,
        &header.nonce,
        &header.commitment,
    ];
    assert!(bytes.starts_with(&parts.concat()), "the header is not what stands there");
}

fn stream_header(bytes: &[u8]) {
    let Ok(stream) = StreamHeader::parse(bytes) else { return };
    assert!(stream.as_bytes()[..] == *bytes && Suite::of(bytes) == Some(Suite::Stream), "a header has two forms");
    assert!(Ciphertext::parse(bytes).is_err(), "one is taken for the other");
}

/// Lines are names and values in turn.
fn context(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let lines: Vec<&str> = text.split('\n').collect();
    let mut pairs: Vec<(&str, &str)> = lines.chunks_exact(2).map(|pair| (pair[0], pair[1])).collect();
    let Ok(context) = Context::new(&pairs) else { return };
    assert!(pairs.len() <= CONTEXT_PAIRS_MAX);
    assert!(pairs.iter().map(|(name, value)| name.len() + value.len()).sum::<usize>() <= CONTEXT_BYTES_MAX);
    pairs.reverse();
    assert!(Context::new(&pairs) == Ok(context), "the order of pairs matters");
    if let Some(first) = pairs.first().copied() {
        pairs.push(first);
        assert!(Context::new(&pairs).is_err(), "a name may stand twice");
    }
}

fn share_file(bytes: &[u8]) {
    if let Ok(text) = std::str::from_utf8(bytes) {
        exact::<ShareFile>(text);
    }
}

fn share_payload(bytes: &[u8]) {
    if let Ok(share) = Share::from_payload(bytes) {
        assert!(share.to_payload().expose() == bytes, "a payload has two forms");
    }
}

/// What is pasted may have blanks around it, and nothing else.
fn ticket(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    if let Ok(ticket) = Ticket::from_text(text) {
        assert!(ticket.to_text() == text.trim(), "a ticket has two forms");
    }
}

fn names(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    exact::<Segment>(text);
    exact::<KeyName>(text);
    exact::<Identity>(text);
    exact::<Lineage>(text);
    exact::<Digest>(text);
    exact::<Signature>(text);
    exact::<CeremonyId>(text);
    exact::<RequestId>(text);
    if text.parse::<KeyName>().is_ok() || text.parse::<Identity>().is_ok() {
        assert!(
            text.bytes().all(|b| b.is_ascii_graphic() && !b.is_ascii_uppercase()),
            "a name that looks like another"
        );
    }
}

fn transactions(bytes: &[u8]) {
    canonical::<SignedBatch>(bytes);
    canonical::<Batch>(bytes);
    canonical::<Txn>(bytes);
    canonical::<Effect>(bytes);
    canonical::<Checkpoint>(bytes);
    canonical::<Outcome>(bytes);
    canonical::<Conflict>(bytes);
}

fn records(bytes: &[u8]) {
    canonical::<RecordKey>(bytes);
    canonical::<KeyRecord>(bytes);
    canonical::<StewardRecord>(bytes);
    canonical::<GrantRecord>(bytes);
    canonical::<DeniedRecord>(bytes);
    canonical::<TicketRecord>(bytes);
    canonical::<RoleCursor>(bytes);
    canonical::<Page>(bytes);
}

fn roster_and_headers(bytes: &[u8]) {
    canonical::<Header>(bytes);
    canonical::<Mandate>(bytes);
    canonical::<SignedMandate>(bytes);
    canonical::<HeaderLink>(bytes);
    canonical::<Roster>(bytes);
    canonical::<Custodians>(bytes);
    canonical::<Genesis>(bytes);
    canonical::<Founding>(bytes);
    canonical::<Countersignature>(bytes);
}

fn statements(bytes: &[u8]) {
    canonical::<CeremonyKey>(bytes);
    canonical::<SlotRecord>(bytes);
    canonical::<KemPublic>(bytes);
    canonical::<SealedBox>(bytes);
    canonical::<SignedHead>(bytes);
    canonical::<Announcement>(bytes);
    if let (Ok(key), Some((signature, _))) = (CeremonyKey::from_bytes(bytes), bytes.split_first_chunk::<64>()) {
        let signed = SignedCeremonyKey { key, signature: Signature(*signature) };
        assert!(!signed.verify(&VerifyingKey([7; 32])), "a signature out of nothing");
    }
}

/// Read at once or in two parts, a book says the same.
fn book(bytes: &[u8]) {
    let key = identity().public();
    let read = |parts: [&[u8]; 2]| {
        let (mut reader, mut pages) = (BookReader::new(key, None), Vec::new());
        let read = parts.iter().try_for_each(|part| reader.feed(part, &mut |page| pages.push(page.number)));
        (read.is_ok(), pages)
    };
    let cut = bytes.first().map_or(0, |first| usize::from(*first) % (bytes.len() + 1));
    let (whole, pages) = read([bytes, &[]]);
    assert!(
        (whole, &pages) == (read([&bytes[..cut], &bytes[cut..]]).0, &pages),
        "it matters how a book is handed over"
    );
    assert!(pages.windows(2).all(|two| two[1] == two[0] + 1), "pages out of order");
}

/// A whole image, from a sender who links whatever it likes: what is taken rises from pair to pair, and is counted.
fn snapshot(bytes: &[u8]) {
    canonical::<SnapshotHeader>(bytes);
    canonical::<Part>(bytes);
    let mut r = Reader::new(bytes);
    let Ok(Ok(header)) = r.lp(HEADER_BYTES_MAX).map(SnapshotHeader::from_bytes) else { return };
    let (mut progress, mut pairs) = (Progress::begin(header.image()), Vec::new());
    while let (Ok(part), Ok(_)) = (r.lp(CHUNK_BYTES_MAX), r.array::<32>()) {
        let link = progress.link(part);
        match progress.take(part, &link) {
            Ok(Part::Chunk(chunk)) => pairs.extend(chunk.pairs.into_iter().map(|pair| (pair.table, pair.key))),
            Ok(Part::End(end)) => assert!(end.pairs == pairs.len() as u64, "an end that does not fit"),
            // Whatever is refused, the next one is judged anew.
            Err(_) => {}
        }
    }
    assert!(progress.pairs == pairs.len() as u64, "what is refused was counted");
    assert!(pairs.windows(2).all(|two| two[0] < two[1]), "pairs out of order");
    assert!(Progress::from_bytes(&progress.to_bytes()) == Ok(progress), "it is not kept as it is");
}

/// A file is believed or not however it is handed over, and nothing that a stranger made is: nobody signed it.
fn snapshot_file(bytes: &[u8]) {
    let read = |cut: usize| {
        let mut reader = FileReader::default();
        reader.feed(&bytes[..cut]).and_then(|_| reader.feed(&bytes[cut..]))?;
        reader.finish().map(|inspected| inspected.header)
    };
    let whole = read(bytes.len());
    assert!(whole == read(bytes.len() / 2), "it matters how a file is handed over");
    assert!(whole.is_err(), "a file that nobody signed is believed");
}

fn mark(bytes: &[u8]) {
    canonical::<Mark>(bytes);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn holds_for_seeds_and_mutants() {
        let seeds: Vec<_> = seeds().into_iter().chain(claviger_fuzz::vectors()).collect();
        claviger_fuzz::exercise(TARGETS, &seeds, 4_000);
    }

    type Reads = fn(&[u8]) -> bool;

    /// Each format is read at least once: else its target would look at nothing.
    #[test]
    fn seeds_are_read() {
        let all: Vec<_> = seeds().into_iter().chain(claviger_fuzz::vectors()).collect();
        let text = |seed: &[u8]| String::from_utf8(seed.to_vec()).unwrap_or_default();
        let read: [(&str, Reads); 14] = [
            ("ciphertext", |b| Ciphertext::parse(b).is_ok()),
            ("share payload", |b| Share::from_payload(b).is_ok()),
            ("signed batch", |b| SignedBatch::from_bytes(b).is_ok()),
            ("transaction", |b| Txn::from_bytes(b).is_ok()),
            ("genesis", |b| Genesis::from_bytes(b).is_ok()),
            ("header link", |b| HeaderLink::from_bytes(b).is_ok()),
            ("mandate", |b| SignedMandate::from_bytes(b).is_ok()),
            ("slot", |b| SlotRecord::from_bytes(b).is_ok()),
            ("page", |b| Page::from_bytes(b).is_ok()),
            ("stream header", |b| StreamHeader::parse(b).is_ok()),
            ("announcement", |b| Announcement::from_bytes(b).is_ok()),
            ("snapshot header", |b| SnapshotHeader::from_bytes(b).is_ok()),
            ("whole snapshot", whole_snapshot),
            ("mark", |b| Mark::from_bytes(b).is_ok()),
        ];
        for (what, reads) in read {
            assert!(all.iter().any(|seed| reads(seed)), "no seed is a {what}");
        }
        assert!(all.iter().any(|seed| text(seed).parse::<ShareFile>().is_ok()), "no seed is a share file");
        assert!(all.iter().any(|seed| text(seed).parse::<KeyName>().is_ok()), "no seed is a key name");
        assert!(all.iter().any(|seed| Ticket::from_text(&text(seed)).is_ok()), "no seed is a ticket");
    }

    fn whole_snapshot(bytes: &[u8]) -> bool {
        let mut r = Reader::new(bytes);
        let header = r.lp(HEADER_BYTES_MAX).and_then(SnapshotHeader::from_bytes);
        let first = r.lp(CHUNK_BYTES_MAX).and_then(Part::from_bytes);
        header.is_ok() && matches!(first, Ok(Part::Chunk(_)))
    }
}
