//! What is signed, and what is sealed on its way, against the committed vectors: genesis, header link, batch, transit.
//! See `vectors.rs` for the rest.

use claviger_core::address::Announcement;
use claviger_core::ceremony::{CeremonyKey, SignedCeremonyKey};
use claviger_core::chance::{Chance, Fresh};
use claviger_core::codec::Canonical;
use claviger_core::crypto::{SigningKey, sha256, verify_batch, verify_header};
use claviger_core::header::{Header, HeaderLink};
use claviger_core::kem::KemSecret;
use claviger_core::keyring::Keyring;
use claviger_core::mandate::{Gathering, Ground, Mandate, SignedMandate};
use claviger_core::mark::{Ballot, Mark, Position};
use claviger_core::name::{Digest, DiskId, Lineage, NodeId, Signature, TxnId, VerifyingKey};
use claviger_core::record::RecordKey;
use claviger_core::roster::{Genesis, Member, Role, Roster};
use claviger_core::secret::Secret32;
use claviger_core::share::Share;
use claviger_core::slot::Root;
use claviger_core::snapshot::file;
use claviger_core::snapshot::{Ids, ImagePair, ImageTable, LogPlace, Members, Progress, SnapshotChunk, SnapshotHeader};
use claviger_core::ticket::Ticket;
use claviger_core::time::UnixMs;
use claviger_core::transit::{self, OneTimeKey};
use claviger_core::txn::{Batch, Checkpoint, Effect, Put, Reliance, SignedBatch, Txn};
use serde_json::Value;

fn vectors(section: &str) -> Value {
    let all: Value = serde_json::from_str(include_str!("../../../docs/vectors/v1.json")).unwrap();
    let found = all[section].clone();
    assert!(!found.is_null(), "no section {section}");
    found
}

fn bytes(v: &Value) -> Vec<u8> {
    hex::decode(v.as_str().unwrap()).unwrap()
}

fn array<const N: usize>(v: &Value) -> [u8; N] {
    bytes(v).try_into().unwrap()
}

fn secret(v: &Value) -> Secret32 {
    Secret32::copy_from(&bytes(v)).unwrap()
}

fn lineage() -> Lineage {
    Lineage(array(&vectors("root")["lineage"]))
}

fn keyring() -> Keyring {
    Keyring::draw(&mut Chance::grow(Fresh::drawn(array(&vectors("keyring")["seed"]))))
}

#[test]
fn marks_are_as_the_vectors_have_them() {
    let vectors = vectors("mark");
    for v in vectors.as_array().unwrap() {
        let numbers = |v: &Value| v.as_array().map(|all| all.iter().map(|n| n.as_u64().unwrap()).collect::<Vec<_>>());
        let leader = |n: &[u64]| Ballot { term: n[0], node: NodeId(n[1]) };
        let mark = Mark {
            disk: DiskId(array(&v["disk"])),
            incarnation: v["incarnation"].as_u64().unwrap(),
            number: v["number"].as_u64().unwrap(),
            vote: numbers(&v["vote"]).map(|n| leader(&n)),
            last: numbers(&v["last"]).map(|n| Position { leader: leader(&n), index: n[2] }),
        };
        assert_eq!(mark.to_bytes(), bytes(&v["bytes"]));
        assert_eq!(Mark::from_bytes(&bytes(&v["bytes"])), Ok(mark));
    }
}

#[test]
fn the_lineage_is_the_hash_of_the_genesis() {
    let v = vectors("genesis");
    let genesis = Genesis::from_bytes(&bytes(&v["bytes"])).unwrap();
    assert_eq!(genesis.to_bytes(), bytes(&v["bytes"]));
    assert_eq!(sha256(&[&genesis.signed_bytes()]).0, array(&v["lineage"]));
    assert_eq!((genesis.cluster.as_str(), genesis.region.as_str()), ("demo", "eu-west"));
    assert_eq!((genesis.threshold, genesis.founded_at), (2, UnixMs(1_700_000_000_000)));
    assert_eq!(genesis.custodians[1].recipient, "age1bob");
    assert_eq!(genesis.roster.members.iter().map(|m| (m.node.0, m.role)).next_back(), Some((3, Role::Voter)));
    assert_eq!(genesis.txn_public, keyring().txn_key().public);
}

#[test]
fn header_links_sign_alike() {
    let v = vectors("header");
    let header = Header {
        lineage: lineage(),
        generation: 1,
        number: 2,
        previous: Digest([0xa0; 32]),
        root: 1,
        seal_epoch: 3,
        txn_key: keyring().txn_key(),
        root_commitment: Digest(array(&vectors("root")["commitment"])),
        slots: Digest(array(&vectors("slots_digest"))),
        roster: Digest([3; 32]),
        custodians: Digest([4; 32]),
        keyring: Digest([5; 32]),
        mandate: None,
    };
    assert_eq!(header.to_bytes(), bytes(&v["bytes"]));
    let read = Header::from_bytes(&bytes(&v["bytes"])).unwrap();
    let link = HeaderLink { header: read, signature: Signature(array(&v["signature"])), heir: None };
    assert!(verify_header(&link, &keyring().txn_key().public));
    assert_eq!(keyring().sign_header(header), link);
}

#[test]
fn mandates_are_signed_alike() {
    let v = vectors("mandate");
    let mandate = Mandate {
        lineage: lineage(),
        generation: 2,
        heir: Member { node: NodeId(9), key: VerifyingKey([13; 32]), disk: DiskId([17; 16]), role: Role::Voter },
        ground: Ground::Survivor(LogPlace { term: 4, leader: 3, index: 57 }),
        head: Digest([0x60; 32]),
        nonce: [0x61; 16],
        expires: UnixMs(1_700_000_000_000),
    };
    assert_eq!(mandate.to_bytes(), bytes(&v["bytes"]));
    assert_eq!(mandate.digest().0, array(&v["digest"]));
    let signed = SignedMandate::from_bytes(&bytes(&v["signed"])).unwrap();
    assert_eq!((&signed.mandate, sha256(&[&signed.custodians.to_bytes()]).0), (&mandate, array(&v["custodians"])));
    assert_eq!(signed.to_bytes(), bytes(&v["signed"]));
    // Each signature counts, for whoever gathers them.
    let mut gathering = Gathering::new(mandate, signed.custodians.clone());
    let last = signed.consents.len() - 1;
    for (n, consent) in signed.consents.iter().enumerate() {
        let holder = &signed.custodians.holders[usize::from(consent.index) - 1].keys.identity;
        let whole = gathering.consent(UnixMs(1), holder, consent.index, consent.signature).unwrap();
        assert_eq!(whole.cloned(), (n == last).then(|| signed.clone()));
    }
}

fn records(key: RecordKey, grant: RecordKey) -> Txn {
    Txn {
        id: TxnId([1; 16]),
        turn: 4,
        decided_at: UnixMs(5),
        relies: vec![
            Reliance::Exact(key, 7),
            Reliance::Exact(grant, 8),
            Reliance::AtLeast(UnixMs(9)),
            Reliance::Members(key.collection(), 10),
        ],
        puts: vec![Put { key, value: b"value".to_vec() }],
        deletes: vec![grant],
        effect: Effect::Records,
    }
}

fn bare((i, effect): (u8, Effect)) -> Txn {
    let id = TxnId([0x30 + i; 16]);
    Txn { id, turn: 4, decided_at: UnixMs(5), relies: vec![], puts: vec![], deletes: vec![], effect }
}

#[test]
fn snapshots_are_cut_alike() {
    let v = vectors("snapshot");
    let ids = |ids: &[u64]| Ids(ids.to_vec());
    let header = SnapshotHeader {
        lineage: lineage(),
        generation: 1,
        last: LogPlace { term: 4, leader: 3, index: 57 },
        members: Members {
            place: Some(LogPlace { term: 3, leader: 2, index: 40 }),
            voters: vec![ids(&[1, 2, 3]), ids(&[1, 2, 4])],
            nodes: ids(&[1, 2, 3, 4]),
        },
        sequence: 50,
        turn: 52,
        time: UnixMs(1_700_000_060_000),
        shared: Digest([1; 32]),
        local: Digest([2; 32]),
    };
    assert_eq!(header.to_bytes(), bytes(&v["header"]));
    assert_eq!(SnapshotHeader::from_bytes(&bytes(&v["header"])), Ok(header.clone()));
    assert_eq!(header.image().0, array(&v["image"]));
    let pair = |table, key: &[u8], value: &[u8]| ImagePair { table, key: key.to_vec(), value: value.to_vec() };
    let (records, machine) = (ImageTable::Records, ImageTable::Machine);
    let chunks = [
        vec![pair(records, &[3; 49], b"\0\0\0\0\0\0\0\x07value"), pair(records, &[4; 49], &8_u64.to_be_bytes())],
        vec![pair(machine, b"a", b"state"), pair(machine, b"p/last", b"position")],
    ];
    let (mut given, mut taken) = (Progress::begin(header.image()), Progress::begin(header.image()));
    let mut written = file::head_bytes(&header);
    let mut parts: Vec<_> = (0..).zip(chunks).map(|(number, pairs)| SnapshotChunk { number, pairs }).collect();
    let mut cut: Vec<_> = parts.drain(..).map(|chunk| given.give(chunk).unwrap()).collect();
    cut.push(given.close());
    for ((part, link), n) in cut.iter().zip(0..) {
        assert_eq!((part, link.0), (&bytes(&v["parts"][n]), array(&v["links"][n])));
        assert!(taken.take(part, link).is_ok());
        written.extend(file::part_bytes(part, link));
    }
    let identity = SigningKey::from_seed(secret(&v["identity"]));
    written.extend(file::seal_bytes(NodeId(2), &identity, &cut[2].1));
    assert_eq!(written, bytes(&v["file"]));
}

#[test]
fn batches_sign_alike() {
    let (v, ring) = (vectors("batch"), keyring());
    let key = ring.key_record(&"tenants/acme/keys/invoice".parse().unwrap());
    let grant = ring.grant_record(&"spiffe://example.org/claviger/service/alice".parse().unwrap());
    let checkpoint = Checkpoint { index: 7, sequence: 8, shared: Digest([9; 32]), local: Digest([10; 32]) };
    let effects = [
        Effect::Cancel(TxnId([2; 16])),
        Effect::Tick { before: UnixMs(5), now: UnixMs(6) },
        Effect::Checkpoint(checkpoint),
        Effect::Found,
    ];
    let txns = [records(key, grant)].into_iter().chain((0..).zip(effects).map(bare)).collect();
    let batch = Batch { lineage: lineage(), generation: 1, author: NodeId(2), signer: 1, txns };
    assert_eq!(batch.to_bytes(), bytes(&v["bytes"]));
    assert_eq!(ring.sign_batch(batch).signature.0, array(&v["signature"]));
    let read = Batch::from_bytes(&bytes(&v["bytes"])).unwrap();
    let signed = SignedBatch { batch: read, signature: Signature(array(&v["signature"])) };
    assert!(verify_batch(&signed, &ring.txn_key()));
}

#[test]
fn shares_travel_alike() {
    let v = vectors("ceremony");
    let key = CeremonyKey::from_bytes(&bytes(&v["statement"])).unwrap();
    assert_eq!((key.lineage, key.generation, key.seal_epoch, key.host), (lineage(), 1, 2, NodeId(3)));
    assert_eq!((key.incarnation, key.expires), (4, UnixMs(5)));
    assert_eq!(key.to_bytes(), bytes(&v["statement"]));
    assert_eq!(key.digest().0, array(&v["digest"]));
    let identity = SigningKey::from_seed(secret(&v["identity"]));
    let signed = SignedCeremonyKey { key: key.clone(), signature: Signature(array(&v["signature"])) };
    assert!(signed.verify(&identity.public()));

    let alice = "spiffe://example.org/claviger/custodian/alice".parse().unwrap();
    assert_eq!(key.challenge(1, &alice), bytes(&v["challenge"]));
    let payload = bytes(&vectors("sharing")[0]["shares"][0]["payload"]);
    let share = Share::from_payload(&payload).unwrap();
    let mut chance = Chance::grow(Fresh::drawn(array(&v["seed"])));
    assert_eq!(transit::seal_share(&key, &alice, &share, &mut chance), Some(bytes(&v["sealed"])));
    let pair = KemSecret::from_seed(secret(&v["key"]));
    let opened = transit::open_share(&key, &pair, &alice, 1, &bytes(&v["sealed"])).unwrap();
    assert_eq!(opened.to_payload().expose(), payload);
}

#[test]
fn the_root_key_travels_alike() {
    let v = vectors("transit");
    let pair = KemSecret::from_seed(secret(&v["key"]));
    let (to, nonce) = (NodeId(2), array(&v["nonce"]));
    let key = OneTimeKey { lineage: lineage(), to, seal_epoch: 5, nonce, public: pair.public() };
    let root = Root::new(1, secret(&vectors("root")["key"]));
    let mut chance = Chance::grow(Fresh::drawn(array(&v["seed"])));
    assert_eq!(transit::seal_root(&root, &key, &mut chance), Some(bytes(&v["sealed"])));
    let opened = transit::open_root(&bytes(&v["sealed"]), &key, &pair).unwrap();
    assert_eq!((opened.number(), opened.key().expose()), (1, root.key().expose()));
    let identity = SigningKey::from_seed(secret(&v["identity"]));
    assert_eq!(key.sign(&identity).0, array(&v["signature"]));
}

#[test]
fn rosters_that_follow_tickets_and_addresses() {
    let v = vectors("members");
    let roster = Roster::from_bytes(&bytes(&v["roster"])).unwrap();
    assert_eq!((roster.epoch, roster.before.clone()), (2, [NodeId(1), NodeId(3)].into()));
    assert_eq!(roster.members.iter().map(|m| m.role).collect::<Vec<_>>(), [Role::Voter, Role::Learner, Role::Retired]);
    assert_eq!(roster.to_bytes(), bytes(&v["roster"]));
    let text = v["ticket"]["text"].as_str().unwrap();
    let ticket = Ticket::from_text(text).unwrap();
    assert_eq!((ticket.to_text().as_str(), ticket.digest().0), (text, array(&v["ticket"]["digest"])));
    assert_eq!((ticket.node, ticket.lineage, ticket.seeds.len()), (NodeId(4), lineage(), 2));
    let key = SigningKey::from_seed(secret(&v["address"]["identity"]));
    let line =
        Member { node: NodeId(4), key: key.public(), disk: DiskId(array(&v["address"]["disk"])), role: Role::Voter };
    let said = Announcement::make(&line, 7, "n4:8444", &key);
    assert_eq!(said.to_bytes(), bytes(&v["address"]["bytes"]));
    assert!(Announcement::from_bytes(&said.to_bytes()).unwrap().is_by(&line));
}
