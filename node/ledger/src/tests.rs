//! A ledger of one node on a disk in memory: what needs a whole ledger, but no cluster.

use crate::machine::tests::{founding_txn, genesis, key, store};
use crate::machine::{Memory, lineage_of};
use crate::{
    Author, Fatal, Ledger, LedgerConfig, Lost, Observer, PinRefused, ProposeFailed, Revision, StartFailed, Timings,
    WentBack, World,
};
use claviger_core::crypto::sign_batch;
use claviger_core::name::{NodeId, TxnId};
use claviger_core::record::RecordKey;
use claviger_core::roster::Genesis;
use claviger_core::time::UnixMs;
use claviger_core::txn::{Batch, Effect, Outcome, SignedBatch, Txn};
use claviger_world::clock::Clock;
use claviger_world::disk::{self, AppendFile, BoxFuture, Disk, DiskFailed, Pair, Reading, Space};
use claviger_world::entropy::Entropy;
use claviger_world::network::{Answer, CallFailed, Frame, Network};
use claviger_world::runtime;
use parking_lot::Mutex;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

mod alone;
mod fuse;
mod parted;
mod refused;
mod snapshots;

const LIMIT: Duration = Duration::from_secs(5);

/// A disk in memory. Every write takes a millisecond.
#[derive(Default)]
pub(crate) struct MemoryDisk(pub Mutex<Memory>, pub Mutex<BTreeMap<String, Arc<MemoryFile>>>);

/// A file in memory. Every sync takes a millisecond.
#[derive(Default)]
pub(crate) struct MemoryFile(pub Mutex<Vec<u8>>);

impl AppendFile for MemoryFile {
    fn append(&self, bytes: &[u8]) -> Result<(), DiskFailed> {
        self.0.lock().extend_from_slice(bytes);
        Ok(())
    }
    fn sync(&self) -> BoxFuture<'static, Result<(), DiskFailed>> {
        Box::pin(async {
            runtime::sleep(Duration::from_millis(1)).await;
            Ok(())
        })
    }
    fn len(&self) -> Result<u64, DiskFailed> {
        Ok(self.0.lock().len() as u64)
    }
    fn read_at(&self, offset: u64, count: usize) -> Result<Vec<u8>, DiskFailed> {
        Ok(self.0.lock().iter().skip(offset as usize).take(count).copied().collect())
    }
    fn cut(&self, length: u64) -> Result<(), DiskFailed> {
        self.0.lock().truncate(length as usize);
        Ok(())
    }
}

impl Reading for MemoryDisk {
    fn read(&self, space: Space, key: &[u8]) -> Result<Option<bytes::Bytes>, DiskFailed> {
        self.0.lock().read(space, key)
    }
    fn scan(&self, space: Space, from: &[u8], to: Option<&[u8]>, limit: usize) -> Result<Vec<Pair>, DiskFailed> {
        self.0.lock().scan(space, from, to, limit)
    }
}

impl Disk for MemoryDisk {
    fn write(&self, batch: disk::Batch) -> BoxFuture<'static, Result<(), DiskFailed>> {
        let mut memory = self.0.lock();
        batch.0.into_iter().for_each(|change| store(&mut memory, change));
        Box::pin(async {
            runtime::sleep(Duration::from_millis(1)).await;
            Ok(())
        })
    }
    fn pin(&self) -> Arc<dyn Reading> {
        Arc::new(Memory(self.0.lock().0.clone()))
    }
    fn open(&self, name: &str) -> Result<Arc<dyn AppendFile>, DiskFailed> {
        Ok(self.1.lock().entry(name.to_owned()).or_default().clone())
    }
    fn files(&self) -> Result<Vec<String>, DiskFailed> {
        Ok(self.1.lock().keys().cloned().collect())
    }
    fn remove(&self, name: &str) -> Result<(), DiskFailed> {
        let held = self.1.lock().remove(name);
        assert!(held.is_none_or(|file| Arc::strong_count(&file) == 1), "a file that is removed is held by nobody");
        Ok(())
    }
}

/// Nobody else is there.
struct Nobody;

impl Network for Nobody {
    fn call(&self, _: &str, _: Frame, _: Duration) -> BoxFuture<'static, Result<Answer, CallFailed>> {
        Box::pin(async { Err(CallFailed::Unreachable) })
    }
}

struct Stopwatch(runtime::Instant);

impl Clock for Stopwatch {
    fn now(&self) -> UnixMs {
        UnixMs(1_000_000)
    }
    fn awake_and_asleep(&self) -> Duration {
        runtime::now() - self.0
    }
}

/// Counts: the first that is drawn, the disk's id, is the one that the genesis names.
struct Counter(AtomicU8);

impl Entropy for Counter {
    fn fill(&self, out: &mut [u8]) {
        out.fill(self.0.fetch_add(1, Ordering::Relaxed));
    }
}

#[derive(Default)]
struct Told(Mutex<Vec<Fatal>>);

impl Observer for Told {
    fn applied(&self, _: &[RecordKey], _: &Revision) {}
    fn replaced(&self, _: &Revision) {}
    fn fatal(&self, why: &Fatal) {
        self.0.lock().push(why.clone());
    }
}

struct Keyring;

impl Author for Keyring {
    fn sign(&self, batch: Batch) -> Option<SignedBatch> {
        Some(sign_batch(&key(100), batch))
    }
}

/// What of a node outlives its lives.
struct Rig {
    node: NodeId,
    disk: Arc<MemoryDisk>,
    entropy: Arc<Counter>,
    told: Arc<Told>,
    timings: Timings,
}

impl Rig {
    fn new() -> Rig {
        Rig::timed(Timings { snapshot_chunk_bytes: 150, ..Timings::default() })
    }

    fn timed(timings: Timings) -> Rig {
        let (disk, told, entropy) = (Arc::default(), Arc::default(), Arc::new(Counter(AtomicU8::new(1))));
        Rig { node: NodeId(1), disk, entropy, told, timings }
    }

    async fn start(&self) -> Ledger {
        let ledger = self.try_start().await.unwrap();
        ledger.set_author(Some(Arc::new(Keyring)));
        ledger
    }

    async fn try_start(&self) -> Result<Ledger, StartFailed> {
        self.start_on(self.disk.clone()).await
    }

    async fn start_on(&self, disk: Arc<dyn Disk>) -> Result<Ledger, StartFailed> {
        let config = LedgerConfig {
            node: self.node,
            cluster: genesis().cluster,
            addresses: BTreeMap::from([(self.node, "here".into())]),
            timings: self.timings,
        };
        let world = World {
            disk,
            network: Arc::new(Nobody),
            clock: Arc::new(Stopwatch(runtime::now())),
            entropy: self.entropy.clone(),
        };
        Ledger::start(config, world, self.told.clone()).await
    }

    async fn founded(&self) -> Ledger {
        let ledger = self.start().await;
        begun(&ledger).await;
        assert_eq!(found(&ledger).await, Ok(Outcome::Accepted(1)));
        ledger
    }

    async fn restart(&self, ledger: Ledger) -> Ledger {
        ledger.shutdown().await;
        drop(ledger);
        self.start().await
    }

    fn fatal(&self) -> Vec<Fatal> {
        self.told.0.lock().clone()
    }
}

async fn begun(ledger: &Ledger) {
    ledger.pin_genesis(&genesis()).await.unwrap();
    ledger.initialize(&BTreeSet::from([NodeId(1)])).await.unwrap();
}

async fn found(ledger: &Ledger) -> Result<Outcome, ProposeFailed> {
    let txns = vec![founding_txn(&key(1))];
    let batch = Batch { lineage: lineage_of(&genesis()), generation: 1, author: NodeId(1), signer: 1, txns };
    ledger.propose_signed(sign_batch(&key(100), batch), LIMIT).await
}

fn idle(ledger: &Ledger, id: u8) -> Txn {
    let revision = ledger.revision();
    Txn {
        id: TxnId([id; 16]),
        turn: revision.turn,
        decided_at: revision.cluster_time,
        relies: vec![],
        puts: vec![],
        deletes: vec![],
        effect: Effect::Records,
    }
}

pub(crate) fn simulate(future: impl Future<Output = ()>) {
    let mut builder = tokio::runtime::Builder::new_current_thread();
    builder.enable_time().start_paused(true).build().unwrap().block_on(future);
}

#[test]
fn who_led_and_starts_again_leads_by_another_vote() {
    simulate(async {
        // Read rounds rest on it: what a leader has told others it knows only as long as it lives.
        let rig = Rig::new();
        let ledger = rig.start().await;
        begun(&ledger).await;
        assert_eq!(found(&ledger).await, Ok(Outcome::Accepted(1)));
        let before = ledger.status().term;
        let ledger = rig.restart(ledger).await;
        ledger.barrier(LIMIT).await.unwrap();
        assert!(ledger.status().term > before, "{} after {before}", ledger.status().term);
    });
}

#[test]
fn one_of_two_founders_is_pinned_and_memory_and_disk_agree() {
    simulate(async {
        let rig = Rig::new();
        let ledger = rig.start().await;
        let (one, two) = (genesis(), Genesis { nonce: [8; 32], ..genesis() });
        let (first, second) = futures_util::join!(ledger.pin_genesis(&one), ledger.pin_genesis(&two));
        assert_eq!((first.is_ok(), second), (true, Err(PinRefused::OtherGenesis)));
        assert_eq!(ledger.genesis(), Some(one.clone()));
        assert_eq!(rig.restart(ledger).await.genesis(), Some(one));
    });
}

#[test]
fn a_founding_that_came_to_nothing_is_abandoned_after_raft_began() {
    simulate(async {
        let rig = Rig::new();
        let ledger = rig.start().await;
        begun(&ledger).await;
        runtime::sleep(LIMIT).await;
        assert!(ledger.status().last_log_index >= 1, "membership and a leader's blank entry are there");
        assert!(!ledger.founding_begun());
        assert_eq!(ledger.abandon_genesis().await, Ok(()));
        assert_eq!(rig.fatal(), [Fatal::Abandoned]);
        assert_eq!(ledger.genesis(), None);
        assert_eq!(ledger.pin_genesis(&genesis()).await, Err(PinRefused::Begun), "not before the next start");
        let disk = ledger.disk_id();
        let ledger = rig.restart(ledger).await;
        assert_eq!((ledger.genesis(), ledger.disk_id(), ledger.incarnation()), (None, disk, 2));
        for space in [Space::Log, Space::Raft, Space::Records, Space::Machine] {
            assert_eq!(rig.disk.scan(space, &[], None, 9), Ok(vec![]), "{space:?}");
        }
        begun(&ledger).await;
        assert_eq!(found(&ledger).await, Ok(Outcome::Accepted(1)));
        assert!(ledger.founding_begun());
        assert_eq!(ledger.abandon_genesis().await, Err(PinRefused::Begun));
        let ledger = rig.restart(ledger).await;
        assert!(ledger.founding_begun());
        assert_eq!(ledger.barrier(LIMIT).await.unwrap().sequence, 1, "a refusal does no harm");
        assert_eq!(rig.fatal(), [Fatal::Abandoned]);
    });
}

#[test]
fn a_founding_is_not_taken_while_it_is_abandoned() {
    simulate(async {
        let rig = Rig::new();
        let ledger = rig.start().await;
        begun(&ledger).await;
        runtime::sleep(LIMIT).await;
        let (abandoned, founded) = futures_util::join!(ledger.abandon_genesis(), found(&ledger));
        assert_eq!(abandoned, Ok(()));
        assert!(founded.is_err(), "{founded:?}");
        assert_eq!(rig.fatal(), [Fatal::Abandoned]);
        assert!(!rig.restart(ledger).await.founding_begun());
    });
}

#[test]
fn a_genesis_is_forgotten_at_once_before_raft_begins() {
    simulate(async {
        let rig = Rig::new();
        let ledger = rig.start().await;
        ledger.pin_genesis(&genesis()).await.unwrap();
        assert_eq!(ledger.abandon_genesis().await, Ok(()));
        assert_eq!(ledger.abandon_genesis().await, Ok(()));
        begun(&ledger).await;
        assert_eq!(found(&ledger).await, Ok(Outcome::Accepted(1)));
        assert_eq!(rig.fatal(), []);
    });
}

#[test]
fn a_revision_says_how_fresh_it_is_once_a_round_was_confirmed() {
    simulate(async {
        let rig = Rig::new();
        let ledger = rig.founded().await;
        runtime::sleep(LIMIT).await;
        assert_eq!((ledger.confirmed_at(), ledger.revision().started_at), (None, Duration::ZERO));
        let first = ledger.barrier(LIMIT).await.unwrap();
        assert!(first.started_at >= LIMIT);
        assert_eq!(ledger.confirmed_at(), Some(first.started_at));
        assert_eq!(ledger.revision(), first);
        runtime::sleep(LIMIT).await;
        let second = ledger.barrier(LIMIT).await.unwrap();
        assert!(second.started_at >= first.started_at + LIMIT);
        assert_eq!(ledger.revision().started_at, second.started_at);
    });
}

#[test]
fn what_is_given_up_in_company_does_not_happen() {
    simulate(async {
        let rig = Rig::new();
        let ledger = rig.founded().await;
        let ledger = rig.restart(ledger).await;
        assert_eq!(ledger.status().leader, None);
        let impatient = ledger.propose(idle(&ledger, 0xa1), Duration::from_millis(20));
        let patient = ledger.propose(idle(&ledger, 0xa2), LIMIT);
        let (impatient, patient) = futures_util::join!(impatient, patient);
        assert_eq!((impatient, patient), (Err(ProposeFailed::NoQuorum), Ok(Outcome::Accepted(2))));
        assert_eq!(ledger.outcome(&TxnId([0xa1; 16])), None);
        assert_eq!(ledger.barrier(LIMIT).await.unwrap().turn, 2);
        assert_eq!(ledger.proposer().kept(), (0, 0, 0));
    });
}

#[test]
fn nothing_is_kept_for_a_proposer_that_is_gone() {
    simulate(async {
        let rig = Rig::new();
        let ledger = rig.founded().await;
        let ledger = rig.restart(ledger).await;
        let proposals = (0..20).map(|n| {
            let (ledger, txn) = (ledger.clone(), idle(&ledger, 0xb0 + n));
            runtime::spawn(async move { ledger.propose(txn, LIMIT * 100).await })
        });
        let proposals: Vec<_> = proposals.collect();
        runtime::sleep(Duration::from_millis(10)).await;
        assert_eq!((ledger.proposer().kept().2, ledger.status().leader), (20, None));
        proposals.iter().for_each(|proposal| proposal.abort());
        runtime::sleep(Duration::from_millis(100)).await;
        assert_eq!(ledger.proposer().kept(), (0, 0, 0));
        assert_eq!(ledger.barrier(LIMIT).await.unwrap().turn, 1, "and nothing of it happens");
    });
}

/// How many entries the log of a node has kept, of sixty.
async fn kept_of_sixty(timings: Timings) -> usize {
    let rig = Rig::timed(timings);
    let ledger = rig.founded().await;
    for id in 1..=60 {
        ledger.propose(idle(&ledger, id), LIMIT).await.unwrap();
    }
    runtime::sleep(LIMIT).await;
    let kept = rig.disk.scan(Space::Log, &[], None, 100).unwrap().len();
    let ledger = rig.restart(ledger).await;
    assert_eq!(ledger.barrier(LIMIT).await.unwrap().turn, 61, "and it starts from what is left");
    kept
}

#[test]
fn the_log_is_let_go_of_by_entries_or_by_bytes_whichever_comes_first() {
    simulate(async {
        let timings = Timings { snapshot_entries: 5, log_entries_kept: 10, ..Timings::default() };
        let by_entries = kept_of_sixty(timings).await;
        assert!((10..=17).contains(&by_entries), "{by_entries}");
        let by_bytes = kept_of_sixty(Timings { log_entries_kept: 1_000, log_bytes_kept: 2_000, ..timings }).await;
        assert!((2..=20).contains(&by_bytes), "{by_bytes}");
        assert!(kept_of_sixty(Timings::default()).await > 60, "nothing is let go of without need");
    });
}

#[test]
fn a_log_with_a_hole_or_an_entry_in_another_place_is_not_opened() {
    simulate(async {
        let rig = Rig::new();
        let ledger = rig.founded().await;
        for id in 0..4 {
            ledger.propose(idle(&ledger, 0xc0 + id), LIMIT).await.unwrap();
        }
        ledger.shutdown().await;
        let entries = || rig.disk.scan(Space::Log, &[], None, 100).unwrap();
        let (held, place) = (entries(), |index: usize| (Space::Log, entries()[index].0.clone()));
        assert!(held.len() > 5, "the founding, a blank one, and five batches");
        for index in 1..held.len() - 1 {
            let at = place(index);
            let gone = rig.disk.0.lock().0.remove(&at).unwrap();
            assert!(matches!(rig.try_start().await.err(), Some(StartFailed::Damaged(_))), "without {index}");
            rig.disk.0.lock().0.insert(at.clone(), held[index - 1].1.clone());
            assert!(matches!(rig.try_start().await.err(), Some(StartFailed::Damaged(_))), "another at {index}");
            rig.disk.0.lock().0.insert(at, gone);
        }
        let ledger = rig.start().await;
        assert_eq!(ledger.barrier(LIMIT).await.unwrap().turn, 5);
    });
}

#[test]
fn tables_that_went_back_behind_their_mark_are_not_opened() {
    simulate(async {
        let rig = Rig::new();
        let ledger = rig.founded().await;
        let then = rig.disk.0.lock().0.clone();
        for id in 0..4 {
            ledger.propose(idle(&ledger, 0xd0 + id), LIMIT).await.unwrap();
        }
        runtime::sleep(Duration::from_secs(1)).await;
        ledger.shutdown().await;
        let (now, marks) = (rig.disk.0.lock().0.clone(), rig.disk.1.lock()["mark-1"].clone());
        rig.disk.0.lock().0 = then;
        let before = rig.disk.0.lock().0.clone();
        let refused = rig.try_start().await.err();
        assert!(matches!(refused, Some(StartFailed::WentBack(WentBack { lost: Lost::Log { .. }, .. }))), "{refused:?}");
        assert!(refused.unwrap().to_string().contains("went back in time: its log ends at entry"));
        assert_eq!(rig.disk.0.lock().0, before, "and nothing was written");

        rig.disk.0.lock().0 = now.clone();
        rig.disk.0.lock().0.remove(&(Space::Raft, "vote".into()));
        let refused = rig.try_start().await.err();
        assert!(
            matches!(refused, Some(StartFailed::WentBack(WentBack { lost: Lost::Vote { .. }, .. }))),
            "{refused:?}"
        );

        rig.disk.0.lock().0 = now;
        let held = std::mem::take(&mut *marks.0.lock());
        assert!(matches!(rig.try_start().await.err(), Some(StartFailed::Damaged(_))), "without its mark");
        *marks.0.lock() = held.iter().enumerate().map(|(at, byte)| byte ^ u8::from(at == 20)).collect();
        assert!(matches!(rig.try_start().await.err(), Some(StartFailed::Damaged(_))), "with a flipped bit");
        *marks.0.lock() = held;
        let ledger = rig.start().await;
        assert_eq!(ledger.barrier(LIMIT).await.unwrap().turn, 5);
    });
}

#[test]
fn tables_that_are_gone_are_named() {
    simulate(async {
        let rig = Rig::new();
        rig.founded().await.shutdown().await;
        rig.disk.0.lock().0.clear();
        let refused = rig.try_start().await.err().map(|why| why.to_string()).unwrap_or_default();
        assert!(refused.contains("its tables are gone"), "{refused}");
        assert!(rig.disk.0.lock().0.is_empty(), "and nothing was written");
    });
}
