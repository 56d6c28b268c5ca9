//! A node that goes on alone: when a mandate is carried out and when it is forgotten, whom the node hears meanwhile, and a
//! power cut at every write on the way.

use super::fuse::Fuse;
use super::{Counter, LIMIT, Rig, begun, found, idle, simulate};
use crate::machine::lineage_of;
use crate::machine::tests::{founding_txn, genesis, key};
use crate::{Fatal, Ledger, RestoreFailed};
use claviger_core::chain::Chain;
use claviger_core::codec::Canonical;
use claviger_core::crypto::{SigningKey, sha256, sign_as_heir, sign_batch, sign_header};
use claviger_core::header::{Header, HeaderLink};
use claviger_core::mandate::{Consent, Ground, Mandate, SignedMandate};
use claviger_core::name::{DiskId, Lineage, NodeId, TxnId};
use claviger_core::record::{RecordKey, Table, View};
use claviger_core::roster::{CustodianKeys, Custodians, Genesis, Holder, Member, Role};
use claviger_core::secret::Secret32;
use claviger_core::share::{Share, ShareContext};
use claviger_core::snapshot::{LogPlace, file};
use claviger_core::time::UnixMs;
use claviger_core::txn::{Batch, Effect, Outcome, Put, Reliance, SignedBatch, Txn};
use claviger_world::disk::{Disk, Reading, Space};
use claviger_world::network::{Frame, FrameKind, PeerCertificate};
use std::sync::Arc;
use std::sync::atomic::AtomicU8;

/// What the clock of these tests shows, always.
const NOW_MS: u64 = 1_000_000;
const HOUR_MS: u64 = 3_600_000;
/// Transactions that a cluster has acknowledged: its founding, and some more.
const ACKNOWLEDGED: u64 = 4;
/// The number of the transaction that begins the second generation, however many were acknowledged before.
const SECOND_GENERATION: u64 = (1 << 40) + 1;

/// Three shares, of which two are needed.
fn shares() -> Vec<Share> {
    let context = ShareContext::new(lineage_of(&genesis()), genesis().region, 1, 2, 3).unwrap();
    let secret = |n| Secret32::copy_from(&[n; 32]).unwrap();
    (1..=3).map(|n| Share::new(context.clone(), n, secret(n)).unwrap()).collect()
}

fn custodians() -> Custodians {
    let holder = |share: &Share| {
        let (n, signing) = (share.index(), key(share.index()).public());
        let identity = format!("spiffe://test/claviger/custodian/c{n}").parse().unwrap();
        let keys = CustodianKeys { identity, recipient: format!("age1c{n}"), signing };
        Holder { keys, index: n, digest: share.digest(), proof_key: share.proof_key() }
    };
    Custodians { region: genesis().region, epoch: 1, threshold: 2, holders: shares().iter().map(holder).collect() }
}

/// The founding of a cluster whose custodians hold shares.
pub(super) fn custody(mut txn: Txn, genesis: &Genesis) -> Txn {
    let place = RecordKey::numbered(Table::Header, 0);
    let put = txn.puts.iter_mut().find(|put| put.key == place).unwrap();
    let link = HeaderLink::from_bytes(&put.value).unwrap();
    let (set, key_of_set) = (custodians().to_bytes(), RecordKey::only(Table::Custodians));
    let (lineage, custodians) = (lineage_of(genesis), sha256(&[&set]));
    put.value = sign_header(&key(100), Header { lineage, custodians, ..link.header }).to_bytes();
    txn.puts.push(Put { key: key_of_set, value: set });
    txn.relies.push(Reliance::Exact(key_of_set, 0));
    txn
}

async fn found_in_custody(ledger: &Ledger) -> Result<Outcome, crate::ProposeFailed> {
    let txn = custody(founding_txn(&key(1)), &genesis());
    let batch = Batch { lineage: lineage_of(&genesis()), generation: 1, author: NodeId(1), signer: 1, txns: vec![txn] };
    ledger.propose_signed(sign_batch(&key(100), batch), LIMIT).await
}

/// A cluster of one, with something in it.
async fn settled(rig: &Rig) -> Ledger {
    let ledger = rig.start().await;
    begun(&ledger).await;
    assert_eq!(found_in_custody(&ledger).await, Ok(Outcome::Accepted(1)));
    for id in 2..=ACKNOWLEDGED {
        assert_eq!(ledger.propose(idle(&ledger, id as u8), LIMIT).await, Ok(Outcome::Accepted(id)));
    }
    ledger
}

fn member() -> Member {
    genesis().roster.members[0].clone()
}

/// The heir of a snapshot: of no cluster so far.
fn newcomer() -> Rig {
    Rig { node: NodeId(9), entropy: Arc::new(Counter(AtomicU8::new(9))), ..Rig::new() }
}

fn stranger() -> Member {
    Member { node: NodeId(9), key: key(9).public(), disk: DiskId([9; 16]), role: Role::Voter }
}

fn mandate(chain: &Chain, heir: Member, ground: Ground) -> Mandate {
    let head = chain.head().unwrap();
    Mandate {
        lineage: head.header.lineage,
        generation: head.header.generation + 1,
        heir,
        ground,
        head: sha256(&[&head.to_bytes()]),
        nonce: [1; 16],
        expires: UnixMs(NOW_MS + HOUR_MS),
    }
}

fn signed(mandate: Mandate) -> SignedMandate {
    let custodians = custodians();
    let consent = |share: &Share, holder: &Holder| Consent {
        index: share.index(),
        signature: share.prove(&mandate.challenge(share.index(), &holder.keys.identity)),
    };
    let consents = shares().iter().zip(&custodians.holders).take(2).map(|(s, h)| consent(s, h)).collect();
    SignedMandate { mandate, custodians, consents }
}

/// What of a mandate is not the same for all.
pub(super) struct Given {
    pub heir: Member,
    pub ground: Ground,
    pub nonce: u8,
}

impl Given {
    /// For whoever has its log where it ends now.
    pub fn survivor(ledger: &Ledger) -> Given {
        Given { heir: member(), ground: Ground::Survivor(ledger.log_end().unwrap()), nonce: 1 }
    }
}

pub(super) fn signed_by_custodians(ledger: &Ledger, Given { heir, ground, nonce }: Given) -> SignedMandate {
    signed(Mandate { nonce: [nonce; 16], ..mandate(&ledger.chain(), heir, ground) })
}

fn survivors(ledger: &Ledger) -> Mandate {
    mandate(&ledger.chain(), member(), Ground::Survivor(ledger.log_end().unwrap()))
}

/// What begins the generation: everybody else has left.
pub(super) fn link_behind(ledger: &Ledger, mandate: SignedMandate) -> SignedBatch {
    let (view, chain) = (ledger.view(), ledger.chain());
    let (head, roster) = (chain.head().unwrap(), chain.roster().unwrap().left_to(&mandate.mandate.heir).to_bytes());
    let header = Header {
        number: head.header.number + 1,
        previous: sha256(&[&head.to_bytes()]),
        generation: mandate.mandate.generation,
        roster: sha256(&[&roster]),
        mandate: Some(Box::new(mandate)),
        ..head.header.clone()
    };
    let place = RecordKey::numbered(Table::Header, header.number);
    let link = sign_as_heir(&key(ledger.node().0 as u8), sign_header(&key(100), header)).to_bytes();
    let puts = vec![Put { key: place, value: link }, Put { key: RecordKey::only(Table::Roster), value: roster }];
    let relies = puts.iter().map(|put| Reliance::Exact(put.key, view.version(&put.key))).collect();
    let txn = Txn { puts, relies, ..idle(ledger, 0xee) };
    assert_eq!((txn.id, &txn.effect), (TxnId([0xee; 16]), &Effect::Records));
    let lineage = head.header.lineage;
    let batch = Batch { lineage, generation: 1, author: ledger.node(), signer: 1, txns: vec![txn] };
    sign_batch(&key(100), batch)
}

async fn begin(ledger: &Ledger) -> Result<Outcome, crate::ProposeFailed> {
    let mandate = ledger.alone().expect("it goes on alone");
    ledger.propose_signed(link_behind(ledger, mandate), LIMIT).await
}

fn generation(ledger: &Ledger) -> u64 {
    ledger.chain().head().map_or(0, |link| link.header.generation)
}

/// A snapshot in a file, as `snapshot save` writes it.
fn saved(ledger: &Ledger, node: &SigningKey) -> Vec<u8> {
    let mut image = ledger.image().unwrap().unwrap();
    let mut bytes = file::head_bytes(image.header());
    let mut last = image.header().image();
    while let Some((part, link)) = image.part().unwrap() {
        bytes.extend(file::part_bytes(&part, &link));
        last = link;
    }
    bytes.extend(file::seal_bytes(NodeId(1), node, &last));
    bytes
}

async fn saved_cluster() -> Vec<u8> {
    let ledger = settled(&Rig::new()).await;
    let bytes = saved(&ledger, &key(1));
    ledger.shutdown().await;
    bytes
}

/// Restores a file, and the mandate to go on with it.
async fn restored(ledger: &Ledger, bytes: &[u8]) -> Result<Mandate, RestoreFailed> {
    let mut restoring = ledger.restore().await?;
    restoring.feed(bytes).await?;
    let restored = restoring.finish().await?;
    assert_eq!(restored.custodians, custodians());
    Ok(mandate(&restored.chain, stranger(), Ground::Restored(restored.header.image())))
}

fn is_kept(rig: &Rig) -> bool {
    rig.disk.read(Space::Node, b"mandate").unwrap().is_some()
}

/// A node starts as it was, though custodians had given it that mandate.
async fn is_forgotten(rig: &Rig, ledger: Ledger, given: Mandate) -> Ledger {
    ledger.succeed(signed(given)).await.unwrap();
    assert_eq!((rig.fatal().last(), is_kept(rig)), (Some(&Fatal::Mandated), true));
    let ledger = rig.restart(ledger).await;
    assert_eq!((ledger.alone(), is_kept(rig), generation(&ledger)), (None, false, 1));
    ledger
}

#[test]
fn a_survivor_goes_on_alone_until_its_generation_begins() {
    simulate(async {
        let rig = Rig::new();
        let ledger = settled(&rig).await;
        let given = survivors(&ledger);
        ledger.succeed(signed(given)).await.unwrap();
        let ledger = rig.restart(ledger).await;
        assert!(ledger.alone().is_some());
        assert_eq!(begin(&ledger).await, Ok(Outcome::Accepted(SECOND_GENERATION)));
        assert_eq!((ledger.alone(), generation(&ledger)), (None, 2));
        let ledger = rig.restart(ledger).await;
        let revision = ledger.barrier(LIMIT).await.unwrap();
        assert_eq!((revision.sequence, revision.turn), (SECOND_GENERATION, ACKNOWLEDGED + 1));
    });
}

#[test]
fn a_mandate_is_carried_out_within_an_hour_of_its_time_and_not_a_moment_later() {
    simulate(async {
        let rig = Rig::new();
        let ledger = settled(&rig).await;
        let (end, given) = (ledger.log_end(), survivors(&ledger));
        let ours = ledger.lineage();
        ledger.shutdown().await;
        for (expires_ms, now_ms, kept) in [(5, HOUR_MS + 5, true), (5, HOUR_MS + 6, false)] {
            let disk = Arc::new(super::MemoryDisk::default());
            disk.0.lock().0 = rig.disk.0.lock().0.clone();
            let disk: Arc<dyn Disk> = disk;
            let given = signed(Mandate { expires: UnixMs(expires_ms), ..given.clone() });
            crate::succession::keep(&*disk, given).await.unwrap();
            let log = opened(&disk);
            let (carried, now) =
                crate::succession::carry_out(&disk, NodeId(1), ours, &log, UnixMs(now_ms)).await.unwrap();
            assert_eq!((carried.is_some(), now), (kept, kept), "{now_ms}");
            assert_eq!(disk.read(Space::Node, b"mandate").unwrap().is_some(), kept);
            let further = opened(&disk).last().map(|last| last.index) > end.map(|end| end.index);
            assert_eq!(further, kept, "only whoever votes alone has an entry that says so");
        }
    });
}

fn opened(disk: &Arc<dyn Disk>) -> crate::raft::log::Log {
    struct Deaf;
    impl crate::Observer for Deaf {
        fn applied(&self, _: &[RecordKey], _: &crate::Revision) {}
        fn replaced(&self, _: &crate::Revision) {}
        fn fatal(&self, why: &Fatal) {
            panic!("{why}");
        }
    }
    let marker = Arc::new(crate::mark::Marker::open(disk.clone()).ok().unwrap());
    crate::raft::log::Log::open(disk.clone(), marker, crate::Halt::new(Arc::new(Deaf))).ok().unwrap()
}

#[test]
fn a_survivor_s_mandate_for_more_than_it_has_or_another_cluster_is_forgotten() {
    simulate(async {
        let rig = Rig::new();
        let mut ledger = settled(&rig).await;
        let given = survivors(&ledger);
        let end = ledger.log_end().unwrap();
        let further = Ground::Survivor(LogPlace { index: end.index + 1_000, ..end });
        let later = Ground::Survivor(LogPlace { term: end.term + 1_000, ..end });
        for other in [
            Mandate { ground: further, ..given.clone() },
            Mandate { ground: later, ..given.clone() },
            Mandate { lineage: Lineage([9; 32]), ..given.clone() },
        ] {
            ledger = is_forgotten(&rig, ledger, other).await;
            assert_eq!(ledger.barrier(LIMIT).await.unwrap().sequence, ACKNOWLEDGED);
        }
        ledger.succeed(signed(survivors(&ledger))).await.unwrap();
        assert!(rig.restart(ledger).await.alone().is_some(), "another one is taken");
    });
}

#[test]
fn a_mandate_for_a_snapshot_that_is_not_there_is_forgotten() {
    simulate(async {
        let (bytes, rig) = (saved_cluster().await, newcomer());
        let ledger = rig.start().await;
        let given = restored(&ledger, &bytes).await.unwrap();
        let other = Mandate { ground: Ground::Restored(sha256(&[b"another"])), ..given };
        let ledger = is_forgotten_unfounded(&rig, ledger, other).await;
        let given = restored(&ledger, &bytes).await.unwrap();
        ledger.succeed(signed(given)).await.unwrap();
        let ledger = rig.restart(ledger).await;
        assert_eq!(begin(&ledger).await, Ok(Outcome::Accepted(SECOND_GENERATION)));
        assert_eq!((ledger.alone(), generation(&ledger)), (None, 2));
    });
}

async fn is_forgotten_unfounded(rig: &Rig, ledger: Ledger, given: Mandate) -> Ledger {
    ledger.succeed(signed(given)).await.unwrap();
    let ledger = rig.restart(ledger).await;
    assert_eq!((ledger.alone(), is_kept(rig), ledger.lineage()), (None, false, None));
    ledger
}

/// As a node of the genesis, so that it could be founded anew.
async fn restored_beside_a_founding() -> (Rig, Ledger, Mandate) {
    let (bytes, rig) = (saved_cluster().await, Rig::new());
    let ledger = rig.start().await;
    let given = restored(&ledger, &bytes).await.unwrap();
    (rig, ledger, given)
}

#[test]
fn a_snapshot_that_was_restored_and_forgotten_stands_in_no_founding_s_way() {
    simulate(async {
        let (rig, ledger, _) = restored_beside_a_founding().await;
        let ledger = rig.restart(ledger).await;
        begun(&ledger).await;
        assert_eq!(found(&ledger).await, Ok(Outcome::Accepted(1)));
        let ledger = rig.restart(ledger).await;
        assert_eq!(ledger.barrier(LIMIT).await.unwrap().sequence, 1, "nothing of the snapshot is in it");
        assert!(matches!(ledger.restore().await.err(), Some(RestoreFailed::NotEmpty)));
    });
}

#[test]
fn a_mandate_for_a_snapshot_is_forgotten_where_another_cluster_is_pinned() {
    simulate(async {
        let (rig, ledger, given) = restored_beside_a_founding().await;
        let other = Genesis { nonce: [8; 32], ..genesis() };
        ledger.succeed(signed(given)).await.unwrap();
        ledger.pin_genesis(&other).await.unwrap();
        let ledger = rig.restart(ledger).await;
        assert_eq!((ledger.alone(), is_kept(&rig)), (None, false));
        assert_eq!(ledger.genesis(), Some(other));
        assert_eq!(ledger.log_end(), None, "and it waits for the founding");
    });
}

#[test]
fn whoever_goes_on_alone_hears_nothing_but_how_the_cluster_stands() {
    simulate(async {
        let rig = Rig::new();
        let ledger = settled(&rig).await;
        ledger.succeed(signed(survivors(&ledger))).await.unwrap();
        let ledger = rig.restart(ledger).await;
        let from = PeerCertificate { key: key(1).public(), claims: NodeId(1) };
        let told = |kind| {
            let (ledger, from) = (ledger.clone(), from);
            async move { ledger.hear(from, Frame { kind, body: bytes::Bytes::new() }).await.unwrap_err() }
        };
        for kind in FrameKind::ALL {
            assert_eq!(told(kind).await.contains("goes on alone"), kind != FrameKind::Acquaint, "{kind:?}");
        }
        assert_eq!(begin(&ledger).await, Ok(Outcome::Accepted(SECOND_GENERATION)));
        assert!(!told(FrameKind::Raft).await.contains("goes on alone"), "its generation has begun");
    });
}

/// How far a story had come when its power was cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Cut {
    AsBefore,
    Alone,
    Begun,
}

/// From the mandate to the generation, as far as the power lasts.
async fn goes_on(rig: &Rig, fuse: &Fuse, ledger: Ledger, given: Mandate) -> Option<()> {
    let kept = ledger.succeed(signed(given)).await;
    ledger.shutdown().await;
    drop(ledger);
    kept.ok()?;
    let ledger = rig.start_on(Arc::new(fuse.clone())).await.ok()?;
    let begun = begin(&ledger).await;
    ledger.shutdown().await;
    begun.ok().filter(|_| !fuse.blown()).map(drop)
}

/// What the disk holds after the cut: an entry behind the mandate's ground only where that was carried out, and a genesis as well
/// where the ground is a snapshot.
fn is_whole(rig: &Rig, before: usize) {
    let log = rig.disk.scan(Space::Log, &[], None, 1_000).unwrap().len();
    let stored = rig.disk.read(Space::Node, b"mandate").unwrap();
    let carried_out = stored.is_some_and(|bytes| bytes[2] == 1);
    assert_eq!(log > before, carried_out, "{log} entries, {before} before");
    assert!(rig.disk.read(Space::Node, b"genesis").unwrap().is_some() == (carried_out || before > 0));
}

async fn after(rig: &Rig) -> (Ledger, Cut) {
    let ledger = rig.start().await;
    let cut = match (ledger.alone().is_some(), generation(&ledger)) {
        (true, _) => Cut::Alone,
        (false, 2) => Cut::Begun,
        (false, _) => Cut::AsBefore,
    };
    (ledger, cut)
}

async fn ends_well(ledger: &Ledger, cut: Cut) {
    if cut == Cut::Alone {
        assert_eq!(begin(ledger).await, Ok(Outcome::Accepted(SECOND_GENERATION)));
    }
    ledger.barrier(LIMIT).await.unwrap();
    assert_eq!((ledger.alone(), generation(ledger)), (None, 2));
    assert_eq!(ledger.revision().turn, ACKNOWLEDGED + 1, "nothing is lost");
}

#[test]
fn a_survivor_whose_power_is_cut_anywhere_is_as_before_or_goes_on_alone() {
    simulate(async {
        let mut seen = Vec::new();
        for left in 0.. {
            let rig = Rig::new();
            settled(&rig).await.shutdown().await;
            let fuse = Fuse::new(rig.disk.clone(), i64::MAX);
            let ledger = rig.start_on(Arc::new(fuse.clone())).await.unwrap();
            ledger.barrier(LIMIT).await.unwrap();
            let (given, before) = (survivors(&ledger), rig.disk.scan(Space::Log, &[], None, 1_000).unwrap().len());
            fuse.lasts(left);
            let whole = goes_on(&rig, &fuse, ledger, given).await;
            is_whole(&rig, before);
            if left % 2 == 0 {
                fuse.lose_unsynced();
            }
            let (mut ledger, cut) = after(&rig).await;
            seen.push(cut);
            if cut == Cut::AsBefore {
                assert_eq!(ledger.barrier(LIMIT).await.unwrap().sequence, ACKNOWLEDGED);
                ledger.succeed(signed(survivors(&ledger))).await.unwrap();
                ledger = rig.restart(ledger).await;
            }
            ends_well(&ledger, if cut == Cut::Begun { cut } else { Cut::Alone }).await;
            ledger.shutdown().await;
            if whole.is_some() {
                break;
            }
        }
        came_all_the_way(&seen);
    });
}

#[test]
fn a_restored_node_whose_power_is_cut_anywhere_is_as_before_or_goes_on_alone() {
    simulate(async {
        let (bytes, mut seen) = (saved_cluster().await, Vec::new());
        for left in 0.. {
            let rig = newcomer();
            let fuse = Fuse::new(rig.disk.clone(), i64::MAX);
            let ledger = rig.start_on(Arc::new(fuse.clone())).await.unwrap();
            fuse.lasts(left);
            let whole = match restored(&ledger, &bytes).await {
                Ok(given) => goes_on(&rig, &fuse, ledger, given).await,
                Err(_) => {
                    ledger.shutdown().await;
                    None
                }
            };
            is_whole(&rig, 0);
            if left % 2 == 0 {
                fuse.lose_unsynced();
            }
            let (mut ledger, cut) = after(&rig).await;
            seen.push(cut);
            if cut == Cut::AsBefore {
                assert_eq!((ledger.lineage(), ledger.log_end()), (None, None));
                let given = restored(&ledger, &bytes).await.unwrap();
                ledger.succeed(signed(given)).await.unwrap();
                ledger = rig.restart(ledger).await;
            }
            ends_well(&ledger, if cut == Cut::Begun { cut } else { Cut::Alone }).await;
            ledger.shutdown().await;
            if whole.is_some() {
                break;
            }
        }
        came_all_the_way(&seen);
    });
}

fn came_all_the_way(seen: &[Cut]) {
    assert!(seen.is_sorted(), "later cuts come no less far: {seen:?}");
    assert!([Cut::AsBefore, Cut::Alone, Cut::Begun].iter().all(|cut| seen.contains(cut)), "{seen:?}");
}
