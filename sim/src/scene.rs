//! What everybody in a run shares: the cluster, the promises, and what was done and seen so far.

use crate::dice::{Dice, seed_of};
use crate::eye::Eye;
use crate::history::{Ask, Deed};
use crate::house::House;
use crate::last_file::LastFile;
use crate::papers::{CustodianPapers, Guest, custodian};
use crate::plan::{Kind, Plan};
use crate::promises::Board;
use crate::promises::audit::Audit;
use crate::promises::ciphertexts::Ciphertexts;
use crate::promises::clear::Clear;
use crate::promises::forged::Forged;
use crate::promises::linearizable::Linearizable;
use crate::promises::nonces::Nonces;
use crate::promises::once::Once;
use crate::promises::proven::Proven;
use crate::promises::raft::Raft;
use crate::promises::revocation::{Revocation, RightsChange};
use crate::promises::roster::Listened;
use crate::promises::sealed::Sealed;
use crate::promises::states::States;
use crate::promises::survives::Survives;
use crate::promises::threshold::Threshold;
use crate::promises::time::Time;
use crate::promises::versions::Versions;
use crate::trace::Trace;
use claviger_core::name::KeyName;
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

/// Every promise that keeps something in mind.
pub struct Promises {
    /// Pages and books.
    pub audit: Arc<Audit>,
    /// What was encrypted.
    pub ciphertexts: Ciphertexts,
    /// Secrets that must not be seen.
    pub clear: Clear,
    /// What a stranger made up.
    pub forged: Forged,
    /// One register a key.
    pub linearizable: Linearizable,
    /// Salts and nonces.
    pub nonces: Nonces,
    /// Nothing twice.
    pub once: Once,
    /// Who may be opened.
    pub proven: Proven,
    /// Terms, votes, logs.
    pub raft: Raft,
    /// What was taken away.
    pub revocation: Revocation,
    /// Who is listened to.
    pub roster: Listened,
    /// Who must be sealed.
    pub sealed: Sealed,
    /// Replicas agree.
    pub states: States,
    /// What was acknowledged.
    pub survives: Survives,
    /// Shares.
    pub threshold: Threshold,
    /// Time.
    pub time: Time,
    /// Version numbers.
    pub versions: Versions,
}

impl Promises {
    /// Nothing seen yet.
    pub fn new(plan: &Plan, board: &Arc<Board>) -> Promises {
        Promises {
            audit: Arc::new(Audit::new(board.clone())),
            ciphertexts: Ciphertexts::new(board.clone()),
            clear: Clear::new(board.clone()),
            forged: Forged::new(board.clone()),
            linearizable: Linearizable::new(board.clone()),
            nonces: Nonces::new(board.clone()),
            once: Once::new(board.clone()),
            proven: Proven::new(board.clone()),
            raft: Raft::new(board.clone()),
            revocation: Revocation::new(board.clone()),
            roster: Listened::new(board.clone()),
            sealed: Sealed::new(board.clone(), plan.threshold),
            states: States::new(board.clone()),
            survives: Survives::new(board.clone()),
            threshold: Threshold::new(board.clone(), plan.threshold),
            time: Time::new(board.clone()),
            versions: Versions::new(board.clone()),
        }
    }
}

/// How a run went, in numbers.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    /// Calls with an answer that says what happened.
    pub answered: u64,
    /// Calls that surely came to nothing.
    pub refused: u64,
    /// Calls that nobody knows the outcome of.
    pub unknown: u64,
    /// Ceremonies that opened a node.
    pub ceremonies: u64,
    /// Forged, old and replayed things that a stranger said.
    pub forgeries: u64,
    /// Faults that fired.
    pub faults: BTreeMap<Kind, u64>,
}

/// What everybody shares.
pub struct Scene {
    /// What the seed has decided.
    pub plan: Plan,
    /// The world's record.
    pub trace: Arc<Trace>,
    /// Where promises are told of.
    pub board: Arc<Board>,
    /// The cluster.
    pub house: Arc<House>,
    /// Every promise.
    pub promises: Arc<Promises>,
    /// Founds, administers, operates.
    pub root: Guest,
    /// Those who hold shares.
    pub custodians: Vec<CustodianPapers>,
    /// What each of them was dealt, once the cluster is founded.
    pub shares: OnceLock<Vec<Vec<u8>>>,
    /// What the oracle reads sealed records with.
    pub eye: OnceLock<Eye>,
    /// Clients by number, from 0.
    pub clients: Vec<Guest>,
    /// Keys by number, from 0.
    pub keys: Vec<KeyName>,
    /// Whether clients are to stop.
    pub over: AtomicBool,
    /// A snapshot that somebody keeps.
    pub last_file: Mutex<Option<LastFile>>,
    deeds: Mutex<Vec<Deed>>,
    rights: Mutex<Vec<RightsChange>>,
    tally: Mutex<Tally>,
    labels: AtomicU64,
}

impl Scene {
    /// A scene before the founding.
    pub fn new(house: Arc<House>, promises: Arc<Promises>, root: Guest) -> Arc<Scene> {
        let plan = house.plan.clone();
        let client = |n| Guest::new(plan.seed, "service", &format!("app{n}"));
        let clients: Vec<Guest> = (0..plan.groups * plan.group).map(client).collect();
        let keys = (0..plan.groups * plan.keys).map(|n| key_name(plan.seed, n)).collect();
        for name in &keys {
            let name: &KeyName = name;
            promises.clear.watch(&format!("the name {name}"), name.key.as_str().as_bytes());
        }
        for id in house.all().into_iter().chain(house.newcomers()) {
            promises.clear.watch(&format!("the identity key of node {id}"), &house.identity_seed(id));
        }
        Arc::new(Scene {
            custodians: (1..=plan.custodians).map(|n| custodian(plan.seed, n)).collect(),
            trace: house.trace.clone(),
            board: house.board.clone(),
            plan,
            house,
            promises,
            root,
            shares: OnceLock::new(),
            eye: OnceLock::new(),
            clients,
            keys,
            over: AtomicBool::new(false),
            last_file: Mutex::default(),
            deeds: Mutex::default(),
            rights: Mutex::default(),
            tally: Mutex::default(),
            labels: AtomicU64::new(1),
        })
    }

    /// Keys that a client may touch.
    pub fn keys_of(&self, client: u64) -> Vec<u64> {
        let group = client / self.plan.group;
        (group * self.plan.keys..(group + 1) * self.plan.keys).collect()
    }

    /// A label that nobody has used.
    pub fn label(&self) -> u32 {
        self.labels.fetch_add(1, Ordering::Relaxed) as u32
    }

    /// Writes down what was done.
    pub fn did(&self, deed: Deed) {
        let mut tally = self.tally.lock();
        match (&deed.seen, deed.ended) {
            (crate::history::Seen::NotDone, _) => tally.refused += 1,
            (_, None) => tally.unknown += 1,
            (_, Some(_)) => tally.answered += 1,
        }
        drop(tally);
        self.trace.tell(100 + deed.client, &story(&deed));
        self.deeds.lock().push(deed);
    }

    /// Everything that was done.
    pub fn deeds(&self) -> Vec<Deed> {
        self.deeds.lock().clone()
    }

    /// Writes down a change of rights.
    pub fn changed_rights(&self, change: RightsChange) {
        self.rights.lock().push(change);
    }

    /// Every change of rights.
    pub fn rights(&self) -> Vec<RightsChange> {
        self.rights.lock().clone()
    }

    /// Counts.
    pub fn count(&self, count: impl FnOnce(&mut Tally)) {
        count(&mut self.tally.lock());
    }

    /// The numbers so far.
    pub fn tally(&self) -> Tally {
        self.tally.lock().clone()
    }

    /// Whether clients are to stop.
    pub fn is_over(&self) -> bool {
        self.over.load(Ordering::Relaxed)
    }

    /// A stream of chance of this run.
    pub fn dice(&self, purpose: &str) -> Dice {
        Dice::of(self.plan.seed, purpose)
    }
}

fn key_name(seed: u64, number: u64) -> KeyName {
    let canary = seed_of(seed, &format!("canary {number}"));
    let hex: String = canary[..8].iter().map(|b| format!("{b:02x}")).collect();
    format!("tenants/acme/keys/canary-{hex}-{number}").parse().expect("a good name")
}

fn story(deed: &Deed) -> String {
    let asked = match deed.ask {
        Ask::Create { label } => format!("creates, label {label}"),
        Ask::Relabel { label } => format!("relabels, {label}"),
        Ask::Encrypt { stale_ms } => format!("encrypts, stale {stale_ms}"),
        Ask::Decrypt { version, stale_ms } => format!("decrypts version {version}, stale {stale_ms}"),
        Ask::Rotate => "rotates".into(),
        Ask::Disable => "disables".into(),
        Ask::Enable => "enables".into(),
        Ask::Get => "reads".into(),
    };
    let seen = match &deed.seen {
        crate::history::Seen::Key(key) => format!("version {} {}", key.primary, key.state.word()),
        other => format!("{other:?}"),
    };
    let nodes: Vec<u64> = deed.attempts.iter().map(|a| a.node.0).collect();
    let (from, to) = (deed.began.order, deed.ended.map_or("?".into(), |m| m.order.to_string()));
    format!("k{} {asked} at nodes {nodes:?}: {seen} r{} ({from}..{to})", deed.key, deed.revision)
}
