//! Three ledgers and the wires between them, when custodians have let some of them go on alone: who meets whom afterwards, and
//! what comes of it.

use super::alone::{Given, custody, link_behind, signed_by_custodians};
use super::{Counter, LIMIT, MemoryDisk, Stopwatch, Told};
use crate::machine::lineage_of;
use crate::machine::tests::{founding_txn, genesis, key};
use crate::{Fatal, Ledger, LedgerConfig, Timings, World};
use claviger_core::address::Announcement;
use claviger_core::codec::Canonical;
use claviger_core::crypto::{sha256, sign, sign_batch, sign_header};
use claviger_core::header::{Header, HeaderLink};
use claviger_core::name::{DiskId, NodeId};
use claviger_core::record::{RecordKey, Table, View};
use claviger_core::roster::{Countersignature, Founding, Genesis, Member, Role, Roster};
use claviger_core::txn::{Batch, Outcome, Put, Reliance, Txn};
use claviger_world::disk::BoxFuture;
use claviger_world::network::{Answer, CallFailed, Frame, Network, PeerCertificate};
use claviger_world::runtime;
use parking_lot::Mutex;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::AtomicU8;
use std::time::Duration;

/// Longest until a node has asked each of the others.
const HEARD_WITHIN: Duration = Duration::from_secs(30);

fn line(n: u8) -> Member {
    Member { node: NodeId(n.into()), key: key(n).public(), disk: DiskId([n; 16]), role: Role::Voter }
}

fn genesis_of_three() -> Genesis {
    Genesis { roster: Roster::first((1..=3).map(line).collect()), ..genesis() }
}

/// Who can be called, who is cut off, and who has ended.
#[derive(Default)]
struct Hub {
    listening: Mutex<BTreeMap<u8, Ledger>>,
    cut: Mutex<BTreeSet<u8>>,
    told: BTreeMap<u8, Arc<Told>>,
}

impl Hub {
    /// Whoever has been told to end may still finish what it does, and answers nobody from then on.
    fn answers(&self, from: u8, to: u8) -> Option<Ledger> {
        let cut = self.cut.lock().iter().any(|node| [from, to].contains(node));
        let ended = !self.told[&to].0.lock().is_empty();
        self.listening.lock().get(&to).cloned().filter(|_| !cut && !ended)
    }
}

struct Wire(Arc<Hub>, u8);

impl Network for Wire {
    fn call(&self, to: &str, frame: Frame, _: Duration) -> BoxFuture<'static, Result<Answer, CallFailed>> {
        let to: u8 = to.parse().unwrap();
        let there = self.0.answers(self.1, to);
        let certificate = |n: u8| PeerCertificate { key: key(n).public(), claims: NodeId(n.into()) };
        let from = self.1;
        Box::pin(async move {
            runtime::sleep(Duration::from_millis(1)).await;
            let body = there.ok_or(CallFailed::Unreachable)?.hear(certificate(from), frame).await;
            Ok(Answer { from: certificate(to), body: body.map_err(CallFailed::Refused)? })
        })
    }
}

/// A founded cluster of three.
pub(super) struct Trio {
    hub: Arc<Hub>,
    pub disks: BTreeMap<u8, Arc<MemoryDisk>>,
    /// Whom a node that starts is configured with.
    configured: Mutex<BTreeSet<u8>>,
    timings: Timings,
}

impl Trio {
    async fn founded() -> Trio {
        Trio::timed(Timings::default()).await
    }

    pub async fn timed(timings: Timings) -> Trio {
        let each = 1..=3;
        let told = each.clone().map(|n| (n, Arc::default())).collect();
        let trio = Trio {
            hub: Arc::new(Hub { told, ..Hub::default() }),
            disks: each.clone().map(|n| (n, Arc::default())).collect(),
            configured: Mutex::new(each.clone().collect()),
            timings,
        };
        for n in each {
            trio.start(n).await.pin_genesis(&genesis_of_three()).await.unwrap();
        }
        trio.node(1).initialize(&(1..=3).map(NodeId).collect()).await.unwrap();
        trio.proposes(1, founding()).await;
        trio
    }

    async fn start(&self, n: u8) -> Ledger {
        let addresses = self.configured.lock().iter().map(|n| (NodeId((*n).into()), n.to_string())).collect();
        let (node, cluster) = (NodeId(n.into()), genesis().cluster);
        let config = LedgerConfig { node, cluster, addresses, timings: self.timings };
        let world = World {
            disk: self.disks[&n].clone(),
            network: Arc::new(Wire(self.hub.clone(), n)),
            clock: Arc::new(Stopwatch(runtime::now())),
            entropy: Arc::new(Counter(AtomicU8::new(n))),
        };
        let ledger = Ledger::start(config, world, self.hub.told[&n].clone()).await.unwrap();
        self.hub.listening.lock().insert(n, ledger.clone());
        ledger
    }

    pub fn node(&self, n: u8) -> Ledger {
        self.hub.listening.lock()[&n].clone()
    }

    pub async fn proposes(&self, n: u8, txn: Txn) {
        let (node, lineage) = (self.node(n), lineage_of(&genesis_of_three()));
        let batch = Batch { lineage, generation: 1, author: node.node(), signer: 1, txns: vec![txn] };
        let done = node.propose_signed(sign_batch(&key(100), batch), LIMIT * 10).await;
        assert!(matches!(done, Ok(Outcome::Accepted(_))), "{done:?}");
    }

    /// One more link, which only says that all are sealed, at `n` and whomever it reaches.
    async fn seals_all(&self, n: u8) {
        let ledger = self.node(n);
        ledger.barrier(LIMIT * 10).await.unwrap();
        let (view, chain) = (ledger.view(), ledger.chain());
        let head = chain.head().unwrap();
        let previous = sha256(&[&head.to_bytes()]);
        let (number, seal_epoch) = (head.header.number + 1, head.header.seal_epoch + 1);
        let header = Header { number, previous, seal_epoch, ..head.header.clone() };
        let place = RecordKey::numbered(Table::Header, number);
        let puts = vec![Put { key: place, value: sign_header(&key(100), header).to_bytes() }];
        let relies = vec![Reliance::Exact(place, view.version(&place))];
        self.proposes(n, Txn { puts, relies, ..super::idle(&ledger, number as u8) }).await;
    }

    /// Custodians let a node go on alone, from where it is; `nonce` makes the mandate another.
    async fn goes_on_alone(&self, n: u8, nonce: u8) -> Ledger {
        let ledger = self.node(n);
        let given = Given { heir: line(n), nonce, ..Given::survivor(&ledger) };
        ledger.succeed(signed_by_custodians(&ledger, given)).await.unwrap();
        self.ends(n).await;
        let ledger = self.start(n).await;
        let mandate = ledger.alone().expect("it goes on alone");
        let begun = ledger.propose_signed(link_behind(&ledger, mandate), LIMIT).await;
        assert!(matches!(begun, Ok(Outcome::Accepted(_))), "{begun:?}");
        assert_eq!(ledger.chain().generation(), 2);
        ledger
    }

    pub async fn ends(&self, n: u8) {
        let gone = self.hub.listening.lock().remove(&n);
        if let Some(gone) = gone {
            gone.shutdown().await;
        }
        self.hub.told[&n].0.lock().clear();
    }

    pub fn cut(&self, nodes: &[u8]) {
        *self.hub.cut.lock() = nodes.iter().copied().collect();
    }

    /// Why a node ended, once it has had the time to hear of it.
    pub async fn heard(&self, n: u8) -> Vec<Fatal> {
        let told = self.hub.told[&n].clone();
        // What awaits the observer would be another observer: the clock of these tests jumps to the next event.
        let until = runtime::now() + HEARD_WITHIN;
        while told.0.lock().is_empty() && until.remaining() > Duration::ZERO {
            runtime::sleep(Duration::from_millis(100)).await;
        }
        told.0.lock().clone()
    }
}

fn founding() -> Txn {
    let (mut txn, genesis) = (custody(founding_txn(&key(1)), &genesis_of_three()), genesis_of_three());
    let bytes = genesis.signed_bytes();
    let signed = |n| Countersignature { node: NodeId(n), signature: sign(&key(n as u8), &bytes) };
    let roster = genesis.roster.to_bytes();
    let founding = Founding { genesis, countersignatures: (1..=3).map(signed).collect() };
    for put in &mut txn.puts {
        match put.key.table {
            Table::Genesis => put.value = founding.to_bytes(),
            Table::Roster => put.value = roster.clone(),
            Table::Header => {
                let header = HeaderLink::from_bytes(&put.value).unwrap().header;
                let header = Header { roster: sha256(&[&roster]), ..header };
                put.value = sign_header(&key(100), header).to_bytes();
            }
            _ => (),
        }
    }
    txn
}

#[test]
fn whoever_has_as_long_or_a_longer_chain_of_an_older_generation_hears_that_it_has_left() {
    super::simulate(async {
        for further in 0..3 {
            let trio = Trio::founded().await;
            trio.node(1).barrier(LIMIT * 10).await.unwrap();
            trio.cut(&[1]);
            for _ in 0..further {
                trio.seals_all(2).await;
            }
            let heir = trio.goes_on_alone(1, 1).await;
            assert_eq!(heir.chain().length(), 2);
            assert_eq!(trio.node(2).chain().length(), 1 + further);
            trio.cut(&[3]);
            assert_eq!(trio.heard(2).await, [Fatal::Retired], "{further} links further");
            assert_eq!(trio.heard(1).await, [], "the heir goes on, whomever it has asked");
        }
    });
}

#[test]
fn two_heirs_of_one_generation_both_end_when_they_meet() {
    super::simulate(async {
        let trio = Trio::founded().await;
        trio.node(1).barrier(LIMIT * 10).await.unwrap();
        trio.node(2).barrier(LIMIT * 10).await.unwrap();
        trio.cut(&[1, 2, 3]);
        trio.goes_on_alone(1, 1).await;
        trio.goes_on_alone(2, 2).await;
        assert_eq!((trio.hub.told[&1].0.lock().len(), trio.hub.told[&2].0.lock().len()), (0, 0));
        trio.cut(&[3]);
        let torn = [Fatal::Torn { generation: 2 }];
        assert_eq!((trio.heard(1).await, trio.heard(2).await), (torn.to_vec(), torn.to_vec()));
        assert!(torn[0].to_string().contains("two nodes have each begun generation 2"));
    });
}

#[test]
fn two_heirs_meet_who_know_each_other_by_word_alone() {
    super::simulate(async {
        let trio = Trio::founded().await;
        for n in 1..=3 {
            trio.node(n).barrier(LIMIT * 10).await.unwrap();
            trio.node(n).announce(Announcement::make(&line(n), 1, &n.to_string(), &key(n)));
        }
        // Each asks one of the others a second, and keeps what it hears.
        runtime::sleep(HEARD_WITHIN).await;
        trio.configured.lock().clear();
        trio.cut(&[1, 2, 3]);
        trio.goes_on_alone(1, 1).await;
        trio.goes_on_alone(2, 2).await;
        for n in [1, 2] {
            // What was kept when the generation began is what the next life begins with.
            runtime::sleep(HEARD_WITHIN).await;
            trio.ends(n).await;
            trio.start(n).await;
        }
        assert_eq!((trio.heard(1).await, trio.heard(2).await), (vec![], vec![]), "cut off from each other");
        trio.cut(&[3]);
        let torn = vec![Fatal::Torn { generation: 2 }];
        assert_eq!((trio.heard(1).await, trio.heard(2).await), (torn.clone(), torn));
    });
}

#[test]
fn two_heirs_meet_though_the_chain_of_one_has_gone_on() {
    super::simulate(async {
        let trio = Trio::founded().await;
        trio.node(1).barrier(LIMIT * 10).await.unwrap();
        trio.cut(&[1]);
        trio.seals_all(2).await;
        trio.cut(&[1, 2, 3]);
        trio.goes_on_alone(1, 1).await;
        let other = trio.goes_on_alone(2, 2).await;
        assert_eq!(other.chain().length(), 3);
        trio.cut(&[3]);
        let torn = vec![Fatal::Torn { generation: 2 }];
        assert_eq!((trio.heard(1).await, trio.heard(2).await), (torn.clone(), torn));
    });
}
