//! The simulated world keeps the seams' contracts, and breaks exactly what each fault says.

use bytes::Bytes;
use claviger_core::name::{NodeId, VerifyingKey};
use claviger_core::time::UnixMs;
use claviger_proto::peer::v1::{RaftAppend, RaftRequest, SnapshotPart, raft_request};
use claviger_sim::clock::SkewedClock;
use claviger_sim::disk::{Damage, DiskWeather, Honesty, SimDisk};
use claviger_sim::entropy::SeededEntropy;
use claviger_sim::network::{Endpoint, Hub, Tap, Weather, frame};
use claviger_sim::trace::Trace;
use claviger_world::clock::Clock;
use claviger_world::contract;
use claviger_world::disk::{Batch, BoxFuture, Disk, DiskFailed, Reading, Space};
use claviger_world::network::{Answer, CallFailed, Frame, FrameKind, Listener, Network, PeerCertificate};
use claviger_world::runtime::Context;
use parking_lot::Mutex;
use prost::Message;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

fn simulate<T>(future: impl Future<Output = T>) -> T {
    let mut builder = tokio::runtime::Builder::new_current_thread();
    builder.enable_time().start_paused(true).build().unwrap().block_on(future)
}

fn trace() -> Arc<Trace> {
    Arc::new(Trace::new(1, None))
}

fn disk(seed: u64) -> SimDisk {
    SimDisk::seeded(trace(), seed)
}

#[test]
fn disk_clock_and_entropy_keep_their_contracts() {
    simulate(async {
        for honesty in [Honesty::Honest, Honesty::Lying] {
            let disk = SimDisk::new(trace(), honesty);
            contract::disk(|| Arc::new(disk.clone())).await;
        }
        contract::clock(&SkewedClock::new(UnixMs(7)));
        contract::entropy(&SeededEntropy::new(1));
    });
}

#[test]
fn a_clock_jumps_both_ways_and_remembers_where_it_is() {
    simulate(async {
        let clock = SkewedClock::new(UnixMs(1_000));
        tokio::time::sleep(Duration::from_secs(10)).await;
        let show = |ms| {
            clock.jump_ms(ms);
            clock.now().0
        };
        assert_eq!([0, -5_000, -7_000, 7_000, i64::MIN].map(show), [11_000, 6_000, 0, 6_000, 0]);
        assert_eq!(clock.awake_and_asleep().as_secs(), 10, "the stopwatch jumps with nobody");
    });
}

/// Writes ten batches, waits for the first four, crashes. How many are left.
async fn left_after_a_crash(seed: u64) -> u8 {
    let disk = disk(seed);
    let mut writes = Vec::new();
    for n in 0..10_u8 {
        let mut batch = Batch::default();
        batch.put(Space::Log, vec![n], vec![n]).put(Space::Raft, &b"last"[..], vec![n]);
        writes.push(disk.write(batch));
    }
    for write in writes.drain(..4) {
        write.await.unwrap();
    }
    disk.crash();
    let left = disk.scan(Space::Log, &[], None, 99).unwrap();
    let last = disk.read(Space::Raft, b"last").unwrap().unwrap()[0];
    assert!(left.iter().enumerate().all(|(n, (key, _))| key[0] == n as u8), "no hole");
    assert_eq!(usize::from(last) + 1, left.len(), "a batch is whole or absent");
    last + 1
}

#[test]
fn a_crash_keeps_what_was_durable_and_a_beginning_of_the_rest() {
    let left: Vec<u8> = (1..=40).map(|seed| simulate(left_after_a_crash(seed))).collect();
    assert!(left.iter().all(|n| (4..=10).contains(n)), "{left:?}");
    assert!(left.iter().any(|n| *n < 10) && left.iter().any(|n| *n > 4), "{left:?}");
}

#[test]
fn a_crash_tears_unsynced_tails_and_may_lose_a_new_file() {
    let after = |seed| {
        simulate(async move {
            let disk = disk(seed);
            let (old, new) = (disk.open("old").unwrap(), disk.open("new").unwrap());
            old.append(b"synced").unwrap();
            old.sync().await.unwrap();
            old.append(b"tail").unwrap();
            new.append(b"never synced").unwrap();
            disk.crash();
            disk.file_bytes()
        })
    };
    let runs: Vec<_> = (1..=40).map(after).collect();
    let lengths = |name: &str| -> BTreeSet<Option<usize>> {
        let length = |files: &Vec<(String, Vec<u8>)>| Some(files.iter().find(|(n, _)| n == name)?.1.len());
        runs.iter().map(length).collect()
    };
    assert_eq!(lengths("old"), (6..=10).map(Some).collect(), "every cut of the tail, nothing of what was synced");
    assert!(lengths("new").contains(&None) && lengths("new").len() > 3, "{:?}", lengths("new"));
}

async fn put(disk: &SimDisk, space: Space, key: u8, value: &'static [u8]) -> Result<(), DiskFailed> {
    let mut batch = Batch::default();
    batch.put(space, vec![key], value);
    disk.write(batch).await
}

fn cause<T>(result: Result<T, DiskFailed>) -> String {
    result.err().map_or_else(String::new, |failed| failed.cause)
}

/// A write fails. What later ones say, and what is there after a crash.
async fn after_a_failed_write(seed: u64) -> bool {
    let disk = disk(seed);
    put(&disk, Space::Log, 1, b"before").await.unwrap();
    disk.fail_next_write();
    assert_eq!(cause(put(&disk, Space::Log, 2, b"failed").await), "input/output error");
    assert_eq!(cause(put(&disk, Space::Log, 3, b"after").await), "input/output error", "not without a restart");
    assert_eq!(disk.pair(Space::Log, &[2]), None, "nobody sees it in this life");
    disk.crash();
    put(&disk, Space::Log, 4, b"later").await.unwrap();
    assert_eq!((disk.pair(Space::Log, &[1]).is_some(), disk.pair(Space::Log, &[3])), (true, None));
    disk.pair(Space::Log, &[2]).is_some()
}

#[test]
fn nobody_knows_whether_a_write_that_failed_is_durable() {
    let kept: BTreeSet<bool> = (1..=20).map(|seed| simulate(after_a_failed_write(seed))).collect();
    assert_eq!(kept.len(), 2);
}

#[test]
fn nobody_knows_whether_a_sync_that_failed_is_durable() {
    let kept = |seed| {
        simulate(async move {
            let disk = disk(seed);
            let file = disk.open("book").unwrap();
            file.append(b"page").unwrap();
            disk.fail_next_write();
            let first = file.sync().await.unwrap_err();
            assert_eq!((file.append(b"more"), file.sync().await), (Err(first.clone()), Err(first)));
            disk.crash();
            let file = disk.open("book").unwrap();
            file.append(b"!").unwrap();
            file.sync().await.unwrap();
            file.len().unwrap()
        })
    };
    let lengths: BTreeSet<u64> = (1..=40).map(kept).collect();
    assert!(lengths.contains(&1) && lengths.contains(&5), "{lengths:?}");
}

#[test]
fn a_full_disk_takes_nothing_new_and_can_be_read() {
    simulate(async {
        let disk = disk(1);
        let file = disk.open("book").unwrap();
        put(&disk, Space::Records, 1, b"value").await.unwrap();
        file.append(b"page").unwrap();
        disk.fill();
        assert_eq!(cause(file.append(b"more")), NO_SPACE);
        assert_eq!(cause(file.sync().await), NO_SPACE);
        let mut delete = Batch::default();
        delete.delete(Space::Records, vec![1]);
        disk.write(delete).await.unwrap();
        assert_eq!(cause(put(&disk, Space::Records, 2, b"value").await), NO_SPACE);
        assert_eq!(disk.scan(Space::Records, &[], None, 9).unwrap(), []);
        assert_eq!(file.read_at(0, 9).unwrap(), b"page");
        disk.crash();
        assert_eq!(disk.pair(Space::Records, &[2]), None, "there was no room for it");
        assert_eq!(cause(put(&disk, Space::Records, 2, b"value").await), NO_SPACE);
        disk.free();
        disk.crash();
        put(&disk, Space::Records, 2, b"value").await.unwrap();
        disk.open("book").unwrap().append(b"more").unwrap();
    });
}

#[test]
fn a_slow_disk_is_slow() {
    simulate(async {
        let disk = disk(1);
        disk.weather(DiskWeather { latency_us: 2_000_000..2_000_001, stall_once_in: 0, stall_us_max: 0 });
        let start = tokio::time::Instant::now();
        put(&disk, Space::Log, 1, b"slow").await.unwrap();
        assert_eq!(start.elapsed().as_secs(), 2);
        disk.weather(DiskWeather { latency_us: 0..1, stall_once_in: 1, stall_us_max: 60_000_000 });
        put(&disk, Space::Log, 1, b"stalled").await.unwrap();
        assert!(start.elapsed().as_secs() > 2);
    });
}

#[test]
fn a_flipped_bit_is_seen_raw_or_fails_its_checksum() {
    simulate(async {
        for space in Space::ALL {
            let disk = disk(3);
            let (kind, other) = match space {
                Space::RecordsOdd | Space::MachineOdd => (Damage::StagedFlip, Damage::BitFlip),
                _ => (Damage::BitFlip, Damage::StagedFlip),
            };
            assert_eq!(disk.damage(kind), None, "nothing is there");
            put(&disk, space, 1, b"value").await.unwrap();
            put(&disk, space, 2, b"").await.unwrap();
            assert_eq!(disk.damage(other), None, "what is the state, and what is not, are harmed apart");
            let told = disk.damage(kind).unwrap();
            assert!(told.ends_with(&format!("of {space:?}/01 is flipped")), "{told}");
            let read = disk.read(space, &[1]);
            if !matches!(space, Space::Node | Space::Log | Space::Raft) {
                assert_eq!(bits_apart(&read.unwrap().unwrap(), b"value"), 1);
                continue;
            }
            assert_eq!(cause(read), "checksum mismatch");
            assert_eq!(cause(disk.scan(space, &[0], None, 9)), "checksum mismatch");
            assert_eq!(cause(disk.pin().read(space, &[1])), "checksum mismatch");
            assert_eq!(disk.scan(space, &[2], None, 9).unwrap().len(), 1, "it is not touched");
            assert_eq!(disk.pair(space, &[1]).unwrap(), &b"value"[..]);
            put(&disk, space, 1, b"new").await.unwrap();
            assert!(disk.read(space, &[1]).is_ok());
        }
    });
}

fn bits_apart(a: &[u8], b: &[u8]) -> u32 {
    assert_eq!(a.len(), b.len());
    a.iter().zip(b).map(|(a, b)| (a ^ b).count_ones()).sum()
}

#[test]
fn a_lost_write_leaves_what_was_there_before() {
    simulate(async {
        let disk = disk(1);
        put(&disk, Space::Log, 1, b"not here").await.unwrap();
        put(&disk, Space::Log, 1, b"nor now").await.unwrap();
        assert_eq!(disk.damage(Damage::LostWrite), None);
        put(&disk, Space::Records, 1, b"old").await.unwrap();
        put(&disk, Space::Records, 1, b"new").await.unwrap();
        assert_eq!(disk.damage(Damage::LostWrite).unwrap(), "Records/01 is what it was before its last write");
        assert_eq!(disk.pair(Space::Records, &[1]).unwrap(), &b"old"[..]);
        assert_eq!(disk.damage(Damage::LostWrite), None);
        put(&disk, Space::Machine, 2, b"first").await.unwrap();
        assert_eq!(disk.damage(Damage::LostWrite).unwrap(), "Machine/02 is gone, as before its first write");
        assert_eq!(disk.image().len(), 2);
    });
}

#[test]
fn a_misdirected_write_stands_in_two_places() {
    simulate(async {
        let disk = disk(1);
        put(&disk, Space::Records, 1, b"one").await.unwrap();
        put(&disk, Space::Machine, 1, b"elsewhere").await.unwrap();
        assert_eq!(disk.damage(Damage::MisdirectedWrite), None, "no two of a space");
        put(&disk, Space::Records, 2, b"two").await.unwrap();
        let told = (0..9).find_map(|_| disk.damage(Damage::MisdirectedWrite)).unwrap();
        assert!(told.starts_with("Records/0"), "{told}");
        assert_eq!(disk.pair(Space::Records, &[1]), disk.pair(Space::Records, &[2]));
        assert_eq!(disk.scan_now(Space::Records, &[], None, 9).len(), 2);
    });
}

#[test]
fn an_audit_file_is_flipped_where_no_crash_could_have_torn_it() {
    for seed in 1..=20 {
        simulate(async move {
            let disk = disk(seed);
            let (book, other) = (disk.open("audit-0000000001").unwrap(), disk.open("chunks").unwrap());
            other.append(&[0; 9_000]).unwrap();
            other.sync().await.unwrap();
            book.append(&[0; 5_000]).unwrap();
            assert_eq!(disk.damage(Damage::AuditFlip), None, "nothing of it is synced");
            book.sync().await.unwrap();
            disk.damage(Damage::AuditFlip).unwrap();
            let bytes = book.read_at(0, 5_000).unwrap();
            assert_eq!(bits_apart(&bytes[..904], &[0; 904]), 1);
            assert_eq!(bits_apart(&bytes[904..], &[0; 4_096]), 0);
            assert_eq!(bits_apart(&other.read_at(0, 9_000).unwrap(), &[0; 9_000]), 0);
        });
    }
}

#[test]
fn a_wiped_disk_is_empty() {
    simulate(async {
        let disk = disk(1);
        put(&disk, Space::Node, 1, b"who").await.unwrap();
        disk.open("book").unwrap().append(b"page").unwrap();
        drop(disk.write(Batch::default()));
        disk.crash();
        disk.wipe();
        assert_eq!((disk.image(), disk.file_bytes()), (vec![], vec![]));
        contract::disk(|| Arc::new(disk.clone())).await;
    });
}

/// Answers with what it is asked, and remembers who asked.
#[derive(Default)]
struct Echo(Mutex<Vec<NodeId>>);

impl Listener for Echo {
    fn hear(&self, from: PeerCertificate, frame: Frame) -> BoxFuture<'static, Result<Bytes, String>> {
        self.0.lock().push(from.claims);
        Box::pin(async move { if frame.body.is_empty() { Err("empty".into()) } else { Ok(frame.body) } })
    }
}

/// A node that listens, and the caller's end of another.
struct Town {
    hub: Arc<Hub>,
    echo: Arc<Echo>,
    context: Arc<Context>,
    caller: Endpoint,
}

const HERE: NodeId = NodeId(1);
const THERE: NodeId = NodeId(2);
const LIMIT: Duration = Duration::from_secs(1);
const NO_SPACE: &str = "no space left on device";

fn claims(node: NodeId) -> PeerCertificate {
    PeerCertificate { key: VerifyingKey([node.0 as u8; 32]), claims: node }
}

impl Town {
    fn new(weather: Weather) -> Town {
        let (hub, echo) = (Hub::seeded(trace(), 1, weather), Arc::new(Echo::default()));
        let context = Context::new(THERE.0, 1, 0, Duration::ZERO);
        hub.listen("there", claims(THERE), echo.clone(), context.clone());
        let caller = Endpoint::new(hub.clone(), claims(HERE));
        Town { hub, echo, context, caller }
    }

    async fn ask(&self, body: &[u8]) -> Result<Answer, CallFailed> {
        ask(&self.caller, body).await
    }

    fn heard(&self) -> usize {
        self.echo.0.lock().len()
    }
}

async fn ask(caller: &Endpoint, body: &[u8]) -> Result<Answer, CallFailed> {
    caller.call("there", frame(FrameKind::Status, body.to_vec()), LIMIT).await
}

#[test]
fn a_call_is_answered_or_refused_and_each_end_knows_the_other() {
    simulate(async {
        let town = Town::new(Weather::FAIR);
        let answer = town.ask(b"hello").await.unwrap();
        assert_eq!((&answer.body[..], answer.from), (&b"hello"[..], claims(THERE)));
        assert_eq!(town.ask(b"").await.unwrap_err(), CallFailed::Refused("empty".into()));
        assert_eq!(*town.echo.0.lock(), [HERE, HERE]);
        assert_eq!(town.hub.counts(), (4, 0));
        town.context.kill();
        assert_eq!(town.ask(b"hello").await.unwrap_err(), CallFailed::Unreachable);
        town.hub.leave("there");
        assert_eq!(town.ask(b"hello").await.unwrap_err(), CallFailed::Unreachable);
    });
}

#[test]
fn a_cut_is_one_way_and_a_stranger_stands_elsewhere() {
    simulate(async {
        let town = Town::new(Weather::FAIR);
        let thief = Endpoint::outside(town.hub.clone(), claims(HERE));
        town.hub.cut(HERE, THERE);
        assert_eq!((town.ask(b"lost").await.unwrap_err(), town.heard()), (CallFailed::Late, 0));
        ask(&thief, b"heard").await.unwrap();
        town.hub.mend();
        town.hub.cut(THERE, HERE);
        assert_eq!((town.ask(b"heard, answer lost").await.unwrap_err(), town.heard()), (CallFailed::Late, 2));
        town.hub.mend();
        town.ask(b"heard").await.unwrap();
        assert_eq!((town.heard(), town.hub.counts()), (3, (5, 2)));
    });
}

#[test]
fn a_slow_way_is_late_and_its_frames_arrive_after_the_caller_has_given_up() {
    simulate(async {
        let town = Town::new(Weather::FAIR);
        town.hub.slow(HERE, THERE, 1_500_000);
        assert_eq!((town.ask(b"slow").await.unwrap_err(), town.heard()), (CallFailed::Late, 0));
        tokio::time::sleep(LIMIT).await;
        assert_eq!(town.heard(), 1);
        town.hub.mend_slow();
        town.ask(b"fast").await.unwrap();
    });
}

#[test]
fn bad_weather_loses_delays_and_doubles() {
    simulate(async {
        let bad = Weather { lost_once_in: 4, late_once_in: 4, late_us_max: 5_000_000, ..Weather::FAIR };
        let town = Town::new(bad);
        let mut late = 0;
        for _ in 0..100 {
            late += u32::from(town.ask(b"?").await.is_err());
        }
        let (delivered, lost) = town.hub.counts();
        assert!((20..80).contains(&late) && delivered > 100 && lost > 20, "{late} {delivered} {lost}");
        // First everything that is still under way arrives.
        tokio::time::sleep(LIMIT * 10).await;
        town.hub.weather(Weather { duplicated_once_in: 1, ..Weather::FAIR });
        let before = town.heard();
        town.caller.call("there", frame(FrameKind::Barrier, b"twice".to_vec()), LIMIT).await.unwrap();
        // Only the ledger sends again: what people and tools ask is on a connection, and comes once.
        town.ask(b"once").await.unwrap();
        tokio::time::sleep(LIMIT).await;
        assert_eq!((town.heard() - before, town.hub.rare_counts()), (3, (0, 1)));
    });
}

#[test]
fn a_stopped_node_answers_late_and_a_dead_caller_is_heard() {
    simulate(async {
        let town = Town::new(Weather::FAIR);
        town.context.stop();
        assert_eq!((town.ask(b"hello").await.unwrap_err(), town.heard()), (CallFailed::Late, 0));
        town.context.go_on();
        tokio::time::sleep(LIMIT).await;
        assert_eq!(town.heard(), 1);
        let mortal = Context::new(HERE.0, 1, 0, Duration::ZERO);
        let call = town.caller.call("there", frame(FrameKind::Status, vec![1]), LIMIT);
        let asking = mortal.spawn(call);
        tokio::task::yield_now().await;
        mortal.kill();
        assert!(asking.await.is_err());
        tokio::time::sleep(LIMIT).await;
        assert_eq!(town.heard(), 2);
    });
}

#[test]
fn a_snapshot_is_cut_in_the_middle_and_nothing_else_is() {
    simulate(async {
        let town = Town::new(Weather::FAIR);
        let raft = |body| RaftRequest { envelope: None, body: Some(body) }.encode_to_vec();
        let append = raft(raft_request::Body::Append(RaftAppend::default()));
        let chunk = raft(raft_request::Body::Snapshot(SnapshotPart::default()));
        let send = |body: &Vec<u8>| town.caller.call("there", frame(FrameKind::Raft, body.clone()), LIMIT);
        town.hub.cut_snapshots(10_000, 1);
        send(&append).await.unwrap();
        town.ask(&chunk).await.unwrap();
        assert_eq!(send(&chunk).await.unwrap_err(), CallFailed::Late);
        assert_eq!(send(&append).await.unwrap_err(), CallFailed::Late, "the way is down");
        tokio::time::sleep(LIMIT * 10).await;
        send(&append).await.unwrap();
        town.hub.cut_snapshots(10_000, 0);
        send(&chunk).await.unwrap();
        assert_eq!(town.hub.rare_counts(), (1, 0));
    });
}

#[derive(Default)]
struct Scribe(Mutex<Vec<String>>);

impl Tap for Scribe {
    fn request(&self, from: PeerCertificate, to: NodeId, _: Instant, frame: &Frame) {
        self.0.lock().push(format!("{} asks {to} {:?} {:?}", from.claims, frame.kind, frame.body));
    }
    fn answer(&self, from: NodeId, to: NodeId, question: &Frame, answer: &Result<Bytes, String>) {
        self.0.lock().push(format!("{from} tells {to} {:?} {answer:?}", question.kind));
    }
}

#[test]
fn a_tap_hears_what_arrives_and_what_is_answered() {
    simulate(async {
        let (town, scribe) = (Town::new(Weather::FAIR), Arc::new(Scribe::default()));
        town.hub.tap(scribe.clone());
        town.hub.cut(THERE, HERE);
        town.ask(b"a").await.unwrap_err();
        town.hub.cut(HERE, THERE);
        town.ask(b"b").await.unwrap_err();
        assert_eq!(*scribe.0.lock(), ["1 asks 2 Status b\"a\"", "2 tells 1 Status Ok(b\"a\")"]);
    });
}

/// A self-signed leaf over a fresh key, with that URI.
fn leaf(uri: &str, algorithm: &'static rcgen::SignatureAlgorithm) -> Arc<[u8]> {
    let key = rcgen::KeyPair::generate_for(algorithm).unwrap();
    let mut params = rcgen::CertificateParams::new(Vec::new()).unwrap();
    params.subject_alt_names = vec![rcgen::SanType::URI(uri.try_into().unwrap())];
    params.self_signed(&key).unwrap().der().to_vec().into()
}

#[test]
fn certificates_travel_as_der_and_only_a_nodes_is_taken() {
    simulate(async {
        let good = |uri| leaf(uri, &rcgen::PKCS_ED25519);
        let town = Town::new(Weather::FAIR);
        let there = good("spiffe://sim/claviger/node/2");
        town.hub.listen("there", there.clone(), town.echo.clone(), town.context.clone());
        let call = async |badge: Arc<[u8]>| ask(&Endpoint::new(town.hub.clone(), badge), b"hello").await;
        let answer = call(good("spiffe://sim/claviger/node/1")).await.unwrap();
        assert_eq!(Some(answer.from.key), claviger_server::read_leaf(&there).unwrap().ed25519);
        call(there).await.expect("a stolen certificate calls its own node");
        let refused = [
            good("spiffe://other/claviger/node/1"),
            good("spiffe://sim/claviger/operator/1"),
            good("spiffe://sim/claviger/node/01"),
            good("spiffe://sim/claviger/node/0"),
            leaf("spiffe://sim/claviger/node/1", &rcgen::PKCS_ECDSA_P256_SHA256),
            b"no certificate".to_vec().into(),
        ];
        for der in refused {
            assert_eq!(call(der).await.unwrap_err(), CallFailed::Unreachable);
        }
        assert_eq!(*town.echo.0.lock(), [HERE, THERE]);
    });
}
