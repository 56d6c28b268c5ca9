//! Three whole nodes with their disks in memory, an administrator and three custodians: one node is to go on alone.

use super::{ConsentAsk, Recovery, is_quorum};
use crate::memory::MemoryDisk;
use crate::node::{Node, NodeConfig, Timings, Unseal, World};
use crate::seal::{FoundAsk, Offer};
use age::x25519;
use claviger_core::ceremony::ShareWhy;
use claviger_core::chance::{Chance, Fresh};
use claviger_core::crypto::{SigningKey, sha256};
use claviger_core::failure::{Failure, Refused};
use claviger_core::name::{Identity, NodeId};
use claviger_core::policy::Operation;
use claviger_core::record::{RecordKey, Table, View};
use claviger_core::roster::CustodianKeys;
use claviger_core::secret::Secret32;
use claviger_core::share::{Share, ShareFile};
use claviger_core::time::UnixMs;
use claviger_core::transit::seal_share;
use claviger_ledger::Restored;
use claviger_proto::peer::v1 as peer;
use claviger_world::clock::Clock;
use claviger_world::disk::BoxFuture;
use claviger_world::entropy::Entropy;
use claviger_world::network::{Answer, CallFailed, Frame, FrameKind, Listener, Network, PeerCertificate};
use claviger_world::runtime::{self, Context};
use futures_util::poll;
use parking_lot::Mutex;
use prost::Message;
use rcgen::{CertificateParams, KeyPair, PKCS_ED25519, SanType};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

const LIMIT: Duration = Duration::from_secs(60);

/// Somebody with a certificate, and what their share is sealed to.
struct Person {
    identity: Identity,
    der: Vec<u8>,
    age: x25519::Identity,
}

impl Person {
    fn new(name: &str) -> Person {
        let uri = format!("spiffe://test/claviger/{name}");
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.subject_alt_names = vec![SanType::URI(uri.as_str().try_into().unwrap())];
        let signed = params.self_signed(&KeyPair::generate_for(&PKCS_ED25519).unwrap()).unwrap();
        let (identity, age) = (uri.parse().unwrap(), x25519::Identity::generate());
        Person { identity, der: signed.der().to_vec(), age }
    }

    fn keys(&self) -> CustodianKeys {
        let (identity, recipient) = (self.identity.clone(), self.age.to_public().to_string());
        CustodianKeys { identity, recipient, signing: identity_key(200).public() }
    }

    fn opens(&self, file: &str) -> Share {
        let file: ShareFile = file.parse().unwrap();
        file.accept(&age::decrypt(&self.age, file.armor.as_bytes()).unwrap()).unwrap()
    }
}

fn identity_key(n: u64) -> SigningKey {
    SigningKey::from_seed(Secret32::copy_from(&[n as u8; 32]).unwrap())
}

/// Who can be called, who is cut off, and who hears of nothing but how the cluster stands.
#[derive(Default)]
struct Hub {
    listening: Mutex<BTreeMap<u64, Arc<dyn Listener>>>,
    cut: Mutex<BTreeSet<u64>>,
    deaf: Mutex<BTreeSet<u64>>,
}

struct Wire(Arc<Hub>, u64);

impl Network for Wire {
    fn call(&self, to: &str, frame: Frame, _: Duration) -> BoxFuture<'static, Result<Answer, CallFailed>> {
        let to: u64 = to.parse().unwrap();
        let among = |set: &Mutex<BTreeSet<u64>>| [self.1, to].iter().any(|node| set.lock().contains(node));
        let lost = among(&self.0.cut) || (among(&self.0.deaf) && frame.kind != FrameKind::Acquaint);
        let there = self.0.listening.lock().get(&to).cloned().filter(|_| !lost);
        let certificate = |n: u64| PeerCertificate { key: identity_key(n).public(), claims: NodeId(n) };
        let from = self.1;
        Box::pin(async move {
            runtime::sleep(Duration::from_millis(1)).await;
            let body = there.ok_or(CallFailed::Unreachable)?.hear(certificate(from), frame).await;
            Ok(Answer { from: certificate(to), body: body.map_err(CallFailed::Refused)? })
        })
    }
}

struct Stopwatch(runtime::Instant);

impl Clock for Stopwatch {
    fn now(&self) -> UnixMs {
        UnixMs(1_750_000_000_000 + self.awake_and_asleep().as_millis() as u64)
    }
    fn awake_and_asleep(&self) -> Duration {
        runtime::now() - self.0
    }
}

/// Hashes of numbers: never the same again.
struct Counted(AtomicU64);

impl Entropy for Counted {
    fn fill(&self, out: &mut [u8]) {
        for chunk in out.chunks_mut(32) {
            let number = self.0.fetch_add(1, Ordering::Relaxed).to_be_bytes();
            chunk.copy_from_slice(&sha256(&[&number]).0[..chunk.len()]);
        }
    }
}

/// A node that runs, and what ends with it.
type Life = (Arc<Node>, Arc<Context>);

/// A founded cluster of three, of whose three custodians two open it.
struct House {
    hub: Arc<Hub>,
    worlds: BTreeMap<u64, World>,
    lives: Mutex<BTreeMap<u64, Life>>,
    admin: Person,
    custodians: Vec<Person>,
    shares: Vec<Share>,
}

impl House {
    async fn founded() -> House {
        let hub = Arc::new(Hub::default());
        let since = runtime::now();
        let world = |n: u64| World {
            disk: Arc::new(MemoryDisk::default()),
            network: Arc::new(Wire(hub.clone(), n)),
            clock: Arc::new(Stopwatch(since)),
            entropy: Arc::new(Counted(AtomicU64::new(n << 32))),
        };
        let worlds = (1..=3).map(|n| (n, world(n))).collect();
        let custodians: Vec<_> = (1..=3).map(|n| Person::new(&format!("custodian/c{n}"))).collect();
        let admin = Person::new("operator/admin");
        let mut house = House { hub, worlds, lives: Mutex::default(), admin, custodians, shares: Vec::new() };
        for n in 1..=3 {
            house.start(n).await;
        }
        let administrators = vec![house.admin.identity.clone()];
        let custodians = house.custodians.iter().map(Person::keys).collect();
        let ask = FoundAsk { threshold: 2, custodians, administrators, grants: vec![] };
        let founded = house.node(1).found(ask).await.unwrap();
        house.shares = house.custodians.iter().zip(&founded.shares).map(|(who, (_, file))| who.opens(file)).collect();
        for n in 1..=3 {
            house.node(n).ledger().barrier(LIMIT).await.unwrap();
        }
        house
    }

    async fn start(&self, n: u64) -> Arc<Node> {
        let config = NodeConfig {
            node: NodeId(n),
            cluster: "test".parse().unwrap(),
            region: "here".parse().unwrap(),
            addresses: (1..=3).map(|n| (NodeId(n), n.to_string())).collect(),
            identity: identity_key(n),
            founders: vec![],
            unseal: Unseal::Custodians,
            timings: Timings::default(),
            strict_audit: false,
            reflection: false,
            version: "test",
            process: 1,
            request_wait: Duration::from_secs(5),
            ticket: None,
        };
        let context = Context::new(n, n, 0, Duration::ZERO);
        let node = context.spawn(Node::start(self.worlds[&n].clone(), config)).await.unwrap().unwrap();
        let node = Arc::new(node);
        self.hub.listening.lock().insert(n, node.listener());
        self.lives.lock().insert(n, (node.clone(), context));
        node
    }

    fn node(&self, n: u64) -> Arc<Node> {
        self.lives.lock()[&n].0.clone()
    }

    fn kill(&self, n: u64) {
        self.hub.listening.lock().remove(&n);
        let (_, context) = self.lives.lock().remove(&n).unwrap();
        context.kill();
    }

    fn cut(&self, nodes: &[u64]) {
        *self.hub.cut.lock() = nodes.iter().copied().collect();
    }

    async fn begins(&self, n: u64) -> Result<Recovery, Failure> {
        let node = self.node(n);
        let visit = node.service().visit(Some(&self.admin.der), Operation::BeginRecovery);
        node.service().begin_recovery(&visit, ()).await
    }

    async fn shows(&self, n: u64) -> Result<Recovery, Failure> {
        let node = self.node(n);
        let visit = node.service().visit(Some(&self.admin.der), Operation::GetRecovery);
        node.service().get_recovery(&visit, ()).await
    }

    /// A custodian agrees to what the node asked for.
    async fn consents(&self, n: u64, custodian: usize, recovery: &Recovery) -> Result<Recovery, Failure> {
        let (node, who, share) = (self.node(n), &self.custodians[custodian], &self.shares[custodian]);
        let mandate = recovery.gathering.mandate();
        let signature = share.prove(&mandate.challenge(share.index(), &who.identity));
        let ask = ConsentAsk { mandate: mandate.digest(), index: share.index(), signature };
        let visit = node.service().visit(Some(&who.der), Operation::ConsentToRecovery);
        node.service().consent_to_recovery(&visit, ask).await
    }

    /// Node 1 has its mandate, and was started again.
    async fn alone(&self) -> Arc<Node> {
        self.cut(&[1]);
        let recovery = self.begins(1).await.unwrap();
        self.consents(1, 0, &recovery).await.unwrap();
        assert!(self.consents(1, 1, &recovery).await.unwrap().given);
        assert!(self.node(1).ended().await.why.contains("the custodians have given their mandate"));
        self.kill(1);
        let node = self.start(1).await;
        assert!(node.ledger().alone().is_some());
        node
    }

    fn offer(&self, node: &Node, custodian: usize) -> Offer {
        let (who, share) = (&self.custodians[custodian], &self.shares[custodian]);
        let key = node.service().ceremony.lock().as_ref().unwrap().signed().key.clone();
        let mut chance = Chance::grow(Fresh::drawn([custodian as u8; 32]));
        let sealed_share = seal_share(&key, &who.identity, share, &mut chance).unwrap();
        let proof = share.prove(&key.challenge(share.index(), &who.identity));
        let (ceremony, index, bearer) = (key.ceremony, share.index(), who.identity.clone());
        Offer { ceremony, index, sealed_share, proof, bearer }
    }
}

fn simulate(story: impl Future<Output = ()>) {
    let mut builder = tokio::runtime::Builder::new_current_thread();
    builder.enable_time().start_paused(true).build().unwrap().block_on(story);
}

/// What was wanted instead.
fn wanted<T>(answer: Result<T, Failure>) -> &'static str {
    match answer.err() {
        Some(Failure::Refused(Refused::BadRequest(wanted))) => wanted,
        Some(Failure::Refused(Refused::NoCeremony)) => "nothing is asked for",
        Some(other) => panic!("{other:?}"),
        None => "nothing",
    }
}

#[test]
fn nobody_agrees_any_more_when_most_voters_answer_again() {
    simulate(async {
        let house = House::founded().await;
        assert!(wanted(house.begins(1).await).contains("they answer"));
        house.cut(&[1]);
        let recovery = house.begins(1).await.unwrap();
        assert!(!house.consents(1, 0, &recovery).await.unwrap().given);
        house.cut(&[]);
        assert!(wanted(house.consents(1, 1, &recovery).await).contains("they answer"));
        assert_eq!(wanted(house.shows(1).await), "nothing is asked for");
        house.cut(&[1]);
        assert_eq!(wanted(house.consents(1, 1, &recovery).await), "nothing is asked for", "it is over for good");
        let anew = house.begins(1).await.unwrap();
        assert_eq!(anew.gathering.signed().len(), 0);
        assert!(house.consents(1, 1, &recovery).await.is_err(), "that was another one");
        let twice = (house.consents(1, 0, &anew).await.is_ok(), house.consents(1, 0, &anew).await.err());
        assert!(matches!(twice, (true, Some(Failure::Refused(Refused::Share(why)))) if why.why == ShareWhy::Duplicate));
        assert!(house.consents(1, 2, &anew).await.unwrap().given);
    });
}

/// The custodians bring their shares to a node; what comes of the last one.
async fn opens(house: &House, node: &Node) -> Result<(), Failure> {
    let (service, view) = (node.service(), node.ledger().view());
    service.host_ceremony(&house.admin.identity, &view).unwrap();
    service.take_share(&house.offer(node, 0), &view).await?;
    service.take_share(&house.offer(node, 1), &view).await.map(drop)
}

#[test]
fn no_generation_begins_when_most_voters_answer_again() {
    simulate(async {
        let house = House::founded().await;
        let node = house.alone().await;
        node.ledger().barrier(LIMIT).await.unwrap();
        house.cut(&[]);
        assert!(wanted(opens(&house, &node).await).contains("they answer"));
        assert_eq!((node.ledger().chain().generation(), node.is_open()), (1, false));
        let other = house.node(2);
        other.ledger().barrier(LIMIT).await.unwrap();
        assert_eq!(other.ledger().chain().generation(), 1, "most voters go on without it");
        house.cut(&[1]);
        opens(&house, &node).await.unwrap();
        assert_eq!((node.ledger().chain().generation(), node.is_open()), (2, true));
    });
}

#[test]
fn there_is_no_second_heir_where_the_first_one_can_be_reached() {
    simulate(async {
        let house = House::founded().await;
        let first = house.alone().await;
        house.kill(3);
        house.cut(&[]);
        assert!(wanted(house.begins(2).await).contains("another one has a mandate already"));
        house.cut(&[1]);
        let recovery = house.begins(2).await.unwrap();
        house.cut(&[]);
        assert!(wanted(house.consents(2, 0, &recovery).await).contains("another one has a mandate already"));
        house.cut(&[1]);
        let recovery = house.begins(2).await.unwrap();
        house.consents(2, 0, &recovery).await.unwrap();
        assert!(house.consents(2, 1, &recovery).await.unwrap().given);
        house.kill(2);
        let second = house.start(2).await;
        second.ledger().barrier(LIMIT).await.unwrap();
        house.cut(&[]);
        first.ledger().barrier(LIMIT).await.unwrap();
        for node in [&first, &second] {
            assert!(wanted(opens(&house, node).await).contains("another one has a mandate already"));
        }
        house.kill(2);
        opens(&house, &first).await.unwrap();
        let second = house.start(2).await;
        second.ledger().barrier(LIMIT).await.unwrap();
        assert!(wanted(opens(&house, &second).await).contains("tells of a later one"));
        assert_eq!(second.ledger().chain().generation(), 1);
    });
}

#[test]
fn whoever_goes_on_alone_hears_nothing_but_how_the_cluster_stands() {
    simulate(async {
        let house = House::founded().await;
        let node = house.alone().await;
        let from = PeerCertificate { key: identity_key(2).public(), claims: NodeId(2) };
        for kind in FrameKind::ALL {
            let told = node.listener().hear(from, Frame { kind, body: bytes::Bytes::new() }).await;
            let turned = told.is_err_and(|why| why.contains("goes on alone"));
            assert_eq!(turned, kind != FrameKind::Acquaint, "{kind:?}");
        }
    });
}

#[test]
fn the_opening_goes_on_though_whoever_brought_the_last_share_has_left() {
    simulate(async {
        let house = House::founded().await;
        let node = house.alone().await;
        let service = node.service();
        node.ledger().barrier(LIMIT).await.unwrap();
        let view = node.ledger().view();
        service.host_ceremony(&house.admin.identity, &view).unwrap();
        service.take_share(&house.offer(&node, 0), &view).await.unwrap();
        let last = house.offer(&node, 1);
        {
            let mut call = Box::pin(service.take_share(&last, &view));
            let taken = || service.ceremony.lock().as_ref().unwrap().over(service.world.clock.now());
            while !taken() {
                assert!(poll!(&mut call).is_pending(), "the generation takes its time to begin");
                runtime::sleep(Duration::from_millis(1)).await;
            }
            assert!(!node.is_open());
        }
        let mut open = service.seal.follow();
        let opened = runtime::timeout(LIMIT, open.until(|open| open.then_some(()))).await;
        assert!(matches!(opened, Ok(Ok(()))), "it opens all the same");
        assert_eq!((node.ledger().chain().generation(), node.ledger().alone().is_some()), (2, false));
    });
}

#[test]
fn nothing_is_founded_beside_a_restored_snapshot() {
    simulate(async {
        let house = House::founded().await;
        let (ledger, proof) = (house.node(1).ledger().clone(), house.node(1).ledger().proof().unwrap());
        let restored = Restored {
            header: ledger.image().unwrap().unwrap().header().clone(),
            chain: (*ledger.chain()).clone(),
            links: proof.links,
            custodians: house.node(1).service().custodians(&ledger.view()).unwrap(),
        };
        let new = House {
            worlds: [(3, World { disk: Arc::new(MemoryDisk::default()), ..house.worlds[&3].clone() })].into(),
            ..house
        };
        new.kill(3);
        let node = new.start(3).await;
        let ask = || FoundAsk {
            threshold: 2,
            custodians: new.custodians.iter().map(Person::keys).collect(),
            administrators: vec![new.admin.identity.clone()],
            grants: vec![],
        };
        *node.service().restored.lock() = Some(restored);
        assert!(wanted(node.found(ask()).await.map(drop)).contains("a node without a restored snapshot"));
        let enrol = peer::Enrol { cluster: "test".into(), region: "here".into(), nonce: vec![1; 32].into() };
        let body = peer::FoundRequest { step: Some(peer::found_request::Step::Enrol(enrol)) }.encode_to_vec();
        let asked = |body: Vec<u8>| {
            let from = PeerCertificate { key: identity_key(2).public(), claims: NodeId(2) };
            node.listener().hear(from, Frame { kind: FrameKind::Found, body: body.into() })
        };
        assert!(asked(body.clone()).await.unwrap_err().contains("a restored snapshot"));
        *node.service().restored.lock() = None;
        assert!(asked(body).await.is_ok(), "nor is it in anybody's way when it is gone");
    });
}

#[test]
fn whoever_was_told_of_links_that_it_does_not_have_asks_for_no_mandate() {
    simulate(async {
        let house = House::founded().await;
        house.hub.deaf.lock().insert(3);
        let first = house.node(1);
        opens(&house, &first).await.unwrap();
        let visit = first.service().visit(Some(&house.admin.der), Operation::SealAll);
        first.service().seal_all(&visit, ()).await.unwrap();
        let behind = house.node(3);
        while !behind.ledger().is_behind_its_chain() {
            runtime::sleep(Duration::from_millis(100)).await;
        }
        house.cut(&[3]);
        assert!(wanted(house.begins(3).await).contains("all of the header chain that it was told of"));
        house.kill(3);
        house.start(3).await;
        assert!(house.begins(3).await.is_ok(), "whoever told it is lost, and it is started again");
    });
}

/// The cluster is open, and node 1 has put the head of its book into the ledger.
async fn keeps_books(house: &House) {
    let node = house.node(1);
    opens(house, &node).await.unwrap();
    let head = RecordKey::numbered(Table::AuditHead, 1);
    while node.ledger().view().record(&head).is_none() {
        runtime::sleep(Duration::from_millis(100)).await;
    }
}

/// Node 1 starts again, and its book is gone.
async fn without_its_book(house: &House) -> Arc<Node> {
    house.kill(1);
    let disk = &house.worlds[&1].disk;
    for file in disk.files().unwrap().iter().filter(|name| name.starts_with("audit-")) {
        disk.remove(file).unwrap();
    }
    house.start(1).await
}

fn has_lost_its_book<T>(answer: Result<T, Failure>) -> bool {
    matches!(answer.err(), Some(Failure::Broken(why)) if why.0 == crate::service::LOST_BOOK)
}

#[test]
fn who_could_not_be_opened_afterwards_asks_for_no_mandate() {
    simulate(async {
        let house = House::founded().await;
        keeps_books(&house).await;
        house.cut(&[1]);
        assert!(house.begins(1).await.is_ok());
        without_its_book(&house).await;
        assert!(has_lost_its_book(house.begins(1).await));
    });
}

#[test]
fn who_could_not_be_opened_afterwards_begins_no_generation() {
    simulate(async {
        let house = House::founded().await;
        keeps_books(&house).await;
        house.alone().await;
        let node = without_its_book(&house).await;
        node.ledger().barrier(LIMIT).await.unwrap();
        assert!(has_lost_its_book(opens(&house, &node).await));
        assert_eq!((node.ledger().chain().generation(), node.ledger().alone().is_some()), (1, true));
    });
}

#[test]
fn a_voter_that_comes_back_keeps_the_heir_from_going_on_until_it_is_gone() {
    simulate(async {
        let house = House::founded().await;
        let node = house.alone().await;
        house.kill(3);
        house.cut(&[]);
        assert!(wanted(house.begins(2).await).contains("another one has a mandate already"));
        assert!(wanted(opens(&house, &node).await).contains("one has come back, and may have found another"));
        house.kill(2);
        opens(&house, &node).await.unwrap();
        assert_eq!((node.ledger().chain().generation(), node.is_open()), (2, true));
    });
}

#[test]
fn who_comes_back_with_more_keeps_the_heir_from_going_on() {
    simulate(async {
        let house = House::founded().await;
        let node = house.alone().await;
        let first = house.node(2);
        opens(&house, &first).await.unwrap();
        let visit = first.service().visit(Some(&house.admin.der), Operation::SealAll);
        first.service().seal_all(&visit, ()).await.unwrap();
        house.kill(3);
        house.cut(&[]);
        assert!(wanted(opens(&house, &node).await).contains("another one has a longer"));
        assert_eq!(node.ledger().chain().generation(), 1);
        house.kill(1);
        assert!(house.begins(2).await.is_ok(), "that one goes on, when this one is switched off");
    });
}

#[test]
fn a_revision_that_was_never_reached_is_refused_at_once() {
    simulate(async {
        let house = House::founded().await;
        let service = house.node(1).service().clone();
        let reached = service.ledger.barrier(LIMIT).await.unwrap().sequence;
        let read = |min_revision, allow_stale_ms| {
            let service = service.clone();
            async move {
                let began = runtime::now();
                let read = service.reading(crate::service::ReadAsk { min_revision, allow_stale_ms }).await;
                (wanted(read.map(drop)), runtime::now() - began)
            }
        };
        for stale_ms in [0, 2_000] {
            assert_eq!(read(reached, stale_ms).await.0, "nothing");
            let (told, took) = read(reached + 1_000, stale_ms).await;
            assert!(told.contains("a revision that the cluster has reached"), "{told}");
            assert!(took < Duration::from_secs(1), "at once: {took:?}");
        }
    });
}

#[test]
fn a_quorum_is_one_of_each_set_of_voters() {
    let set = |nodes: &[u64]| nodes.iter().copied().map(NodeId).collect::<BTreeSet<_>>();
    let (old, new) = (set(&[1, 2, 3]), set(&[3, 4, 5]));
    assert!(is_quorum(std::slice::from_ref(&old), &set(&[1, 2])) && !is_quorum(std::slice::from_ref(&old), &set(&[1])));
    let joint = [old, new];
    assert!(is_quorum(&joint, &set(&[2, 3, 4])));
    assert!(!is_quorum(&joint, &set(&[1, 2, 3])), "three of the five, and the new set cannot decide");
    assert!(!is_quorum(&joint, &set(&[1, 4, 5])), "nor can the old one");
    assert!(!is_quorum(&[], &set(&[1])));
}
