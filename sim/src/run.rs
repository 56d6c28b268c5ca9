//! One run: founding, load and faults, calm, and the reckoning.

use crate::clients::{Client, change_rights};
use crate::dice::number_of;
use crate::faults::{FELT_MAX, strike, usual_disk, usual_weather};
use crate::heir::{another_comes_back, one_goes_on_alone, two_go_on_alone};
use crate::history::{Ask, Seen};
use crate::house::{House, Life};
use crate::last_file::{keep_one, nothing_else_is_left};
use crate::network::{Hub, Weather};
use crate::papers::Guest;
use crate::people::{custody, found};
use crate::plan::Plan;
use crate::promises::{Board, Broken, Promise};
use crate::registrar::replace_some;
use crate::scene::{Promises, Scene, Tally};
use crate::stranger::{Heard, Stranger};
use crate::trace::{Tale, Trace};
use crate::watch::{Tap, look, look_on, search_disks};
use claviger_core::key::KeyRecord;
use claviger_core::mutants::Mutant;
use claviger_core::name::NodeId;
use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::task::JoinHandle;

/// Once faults have ended, every node that is not lost must be open and answer within this.
const CALM_MAX: Duration = Duration::from_secs(180);
/// How often it is looked whether they do.
const CALM_LOOK: Duration = Duration::from_millis(500);
/// How often a client asks in calm before something is wrong: often enough to come upon the one node that may be left of
/// seven.
const CALM_TRIES: usize = 40;
/// Ciphertexts that are opened on every node in the end.
const OPENED_AT_THE_END: usize = 40;

/// What is asked for.
#[derive(Clone, Debug, Default)]
pub struct Wish {
    /// Which run.
    pub seed: u64,
    /// A bug to plant.
    pub mutant: Option<Mutant>,
    /// Faults that are left out, by number.
    pub without: BTreeSet<usize>,
    /// Load and faults last this long, rather than as planned.
    pub length: Option<Duration>,
    /// A promise that is said to be broken whatever happens: to see that it is told.
    pub canary: bool,
    /// Where every line of the trace goes.
    pub trace_file: Option<std::path::PathBuf>,
}

/// What a run came to.
#[derive(Clone, Debug)]
pub struct Report {
    /// Which run.
    pub seed: u64,
    /// What the seed had decided.
    pub plan: Plan,
    /// Over everything that happened.
    pub digest: String,
    /// How many lines that is.
    pub events: u64,
    /// How long it lasted, in the world's time.
    pub lasted: Duration,
    /// In numbers.
    pub tally: Tally,
    /// How often each promise was checked.
    pub checked: BTreeMap<Promise, u64>,
    /// What is broken.
    pub broken: Vec<Broken>,
    /// How often each of the three ways of a revocation was checked.
    pub revocations: [u64; 3],
    /// Keys whose history was too much work to search.
    pub gave_up: u64,
    /// How often the planted bug was executed.
    pub executed: u64,
    /// Rare branches: on, reached, taken.
    pub rare: BTreeMap<&'static str, (bool, u64, u64)>,
    /// What is told of it.
    pub tales: Vec<Tale>,
}

impl Report {
    /// Whether the run was long, busy and troubled enough to count.
    pub fn counts(&self) -> bool {
        let faults: u64 = self.tally.faults.values().sum();
        self.lasted >= Duration::from_secs(600)
            && self.tally.answered >= 500
            && faults >= 5
            && self.tally.ceremonies >= 1
    }
}

thread_local! {
    /// What panicked on this thread since the run began.
    static PANICS: RefCell<Vec<String>> = const { RefCell::new(Vec::new()) };
    /// Whether a run is under way here: else a panic is told as usual.
    static RUNNING: Cell<bool> = const { Cell::new(false) };
}

/// Has panics of runs noted rather than printed. Once, before the first run.
pub fn note_panics() {
    let usual = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        PANICS.with_borrow_mut(|panics| panics.push(info.to_string()));
        // In a run tokio catches what a task does, and the report tells it.
        if !RUNNING.get() || tokio::task::try_id().is_none() {
            usual(info);
        }
    }));
}

/// Runs one seed to its end, on this thread, in a world of its own.
pub fn run(wish: &Wish) -> Report {
    PANICS.take();
    begin(wish);
    let mut builder = tokio::runtime::Builder::new_current_thread();
    let runtime = builder.enable_time().start_paused(true).build().expect("a runtime can be made");
    RUNNING.set(true);
    let report = runtime.block_on(story(wish.clone()));
    RUNNING.set(false);
    report
}

#[cfg(feature = "mutants")]
fn begin(wish: &Wish) {
    claviger_core::mutants::begin(wish.mutant, number_of(wish.seed, "rare branches"));
}

#[cfg(not(feature = "mutants"))]
fn begin(wish: &Wish) {
    assert!(wish.mutant.is_none(), "this build has no planted bugs");
}

/// What is rare is left to itself again.
fn rest() {
    #[cfg(feature = "mutants")]
    claviger_core::mutants::rest();
}

#[cfg(feature = "mutants")]
fn told() -> (u64, BTreeMap<&'static str, (bool, u64, u64)>) {
    let (executed, rare) = claviger_core::mutants::told();
    (executed, rare.into_iter().map(|(name, branch)| (name, (branch.on, branch.reached, branch.taken))).collect())
}

#[cfg(not(feature = "mutants"))]
fn told() -> (u64, BTreeMap<&'static str, (bool, u64, u64)>) {
    (0, BTreeMap::new())
}

async fn story(wish: Wish) -> Report {
    let mut plan = Plan::of(wish.seed);
    plan.length = wish.length.unwrap_or(plan.length);
    let file = wish.trace_file.as_ref().map(|path| std::fs::File::create(path).expect("a file can be made there"));
    let trace = Arc::new(Trace::new(wish.seed, file));
    let stage = Stage::new(&plan, &trace).await;
    if stage.found().await {
        stage.trouble(wish.without).await;
        stage.calm().await;
        stage.reckon().await;
        stage.end_of_all().await;
    }
    if wish.canary {
        stage.scene.board.broke(Promise::Sound, "the canary, which must be told".into());
    }
    stage.report(&trace)
}

/// A run on its way.
struct Stage {
    scene: Arc<Scene>,
    heard: Arc<Heard>,
    supervisor: JoinHandle<()>,
    onlooker: JoinHandle<()>,
}

impl Stage {
    async fn new(plan: &Plan, trace: &Arc<Trace>) -> Stage {
        let board = Board::new(trace.clone());
        let hub = Hub::seeded(trace.clone(), number_of(plan.seed, "network"), Weather::FAIR);
        let root = Guest::new(plan.seed, "operator", "root");
        let (promises, heard) = (Arc::new(Promises::new(plan, &board)), Arc::new(Heard::default()));
        hub.tap(Tap::new(promises.clone(), heard.clone()));
        let house = House::new(plan, trace.clone(), promises.audit.clone(), board, hub, root.identity.clone());
        let scene = Scene::new(house.clone(), promises, root);
        for id in house.all() {
            house.start(id).await;
        }
        let (supervisor, onlooker) = (tokio::spawn(house.supervise()), tokio::spawn(look_on(scene.clone())));
        Stage { scene, heard, supervisor, onlooker }
    }

    async fn found(&self) -> bool {
        let founded = found(&self.scene).await;
        self.scene.board.expect(Promise::Liveness, founded, || "the cluster cannot be founded in fair weather".into());
        founded
    }

    /// Load, faults and people, until the plan is over.
    async fn trouble(&self, without: BTreeSet<usize>) {
        let scene = &self.scene;
        let operators = if scene.plan.manners.two_operators { 2 } else { 1 };
        let people: Vec<_> = (0..operators).map(|n| tokio::spawn(custody(scene.clone(), n))).collect();
        self.all_open().await;
        scene.house.hub.weather(usual_weather(scene));
        scene.house.all().into_iter().for_each(|id| scene.house.disk(id).weather(usual_disk(scene)));
        let clients = (0..scene.clients.len() as u64).map(|n| tokio::spawn(Client::new(scene, n, "at work").work()));
        let mut busy: Vec<_> = clients.collect();
        busy.push(tokio::spawn(change_rights(scene.clone())));
        if scene.plan.manners.stranger {
            busy.push(tokio::spawn(Stranger::new(scene, self.heard.clone()).work()));
        }
        busy.push(tokio::spawn(keep_one(scene.clone())));
        let registrar = tokio::spawn(replace_some(scene.clone()));
        let striking = tokio::spawn(strike(scene.clone(), without));
        tokio::time::sleep(scene.plan.length).await;
        striking.abort();
        registrar.abort();
        self.one_stays_away().await;
        self.end_faults().await;
        self.all_open().await;
        self.nobody_astray().await;
        // A node that slept through a seal-all is open until it hears of it.
        self.all_come_to_the_furthest().await;
        self.all_open().await;
        scene.over.store(true, Ordering::Relaxed);
        scene.trace.tell(0, "clients stop");
        self.drain(busy).await;
        if one_goes_on_alone(scene).await {
            self.all_open().await;
            another_comes_back(scene).await;
            self.all_open().await;
        }
        people.iter().for_each(JoinHandle::abort);
    }

    /// Faults end for a quorum: in half of all runs somebody who can be spared does not come back.
    async fn one_stays_away(&self) {
        let (house, dice) = (&self.scene.house, self.scene.dice("who stays away"));
        let sound = house.sound();
        let lost = self.scene.plan.nodes.saturating_sub(sound.len() as u64);
        let Some(spared) = dice.pick(&sound).filter(|_| dice.once_in(2) && lost < self.scene.plan.may_lose()) else {
            return;
        };
        house.crash(*spared).await;
        house.lose(*spared, "stays away");
    }

    /// Everything else that was cut, slow, full, stopped or off is so no more.
    async fn end_faults(&self) {
        let (house, hub) = (&self.scene.house, &self.scene.house.hub);
        self.scene.trace.tell(0, "faults end");
        hub.mend();
        hub.mend_slow();
        hub.unmute(&house.all());
        hub.cut_snapshots(0, 0);
        hub.weather(Weather::FAIR);
        for id in house.all() {
            house.disk(id).free();
            house.disk(id).weather(Default::default());
            house.keep_off(id, false);
        }
        for life in house.lives() {
            life.context.go_on();
            life.context.starve(0, 0);
        }
        self.scene.promises.audit.relieve_all(self.scene.trace.elapsed() + FELT_MAX);
    }

    /// Waits until every node that is not lost is on and open.
    async fn all_open(&self) {
        let house = &self.scene.house;
        let since = self.scene.trace.elapsed();
        let closed = || {
            let open = |id: &NodeId| house.life(*id).is_some_and(|life| life.node.is_open());
            house.sound().into_iter().filter(|id| !open(id)).collect::<Vec<_>>()
        };
        while !closed().is_empty() && self.scene.trace.elapsed() - since < CALM_MAX {
            tokio::time::sleep(CALM_LOOK).await;
        }
        self.scene.board.expect(Promise::Liveness, closed().is_empty(), || {
            format!("nodes {:?} are not open {CALM_MAX:?} after the last fault", closed())
        });
    }

    /// Whoever is busy comes to an end.
    async fn drain(&self, busy: Vec<JoinHandle<()>>) {
        let count = busy.len();
        let all = async {
            for one in busy {
                if let Err(panic) = one.await {
                    self.scene.board.broke(Promise::Sound, format!("a client panicked: {panic}"));
                }
            }
        };
        let drained = tokio::time::timeout(CALM_MAX, all).await.is_ok();
        self.scene.board.expect(Promise::Liveness, drained, || format!("{count} clients do not come to an end"));
    }

    /// With nothing in the way, everything works, on every node.
    async fn calm(&self) {
        rest();
        let scene = &self.scene;
        scene.over.store(false, Ordering::Relaxed);
        let mut client = Client::new(scene, 0, "in the end");
        for key in 0..scene.keys.len() as u64 {
            let (mut seen, mut good) = (Seen::NotDone, false);
            // Some of the nodes that a client asks may be lost for good.
            for _ in 0..CALM_TRIES {
                if !good {
                    seen = client.change(key, Ask::Enable).await;
                    good = matches!(seen, Seen::Key(_) | Seen::NotFound);
                }
            }
            scene.board.expect(Promise::Liveness, good, || format!("key {key} is not enabled in calm: {seen:?}"));
        }
        self.all_come_to_the_furthest().await;
        let kept = scene.promises.ciphertexts.spread(OPENED_AT_THE_END);
        // Who is on its way into the cluster, or out of it, was waited for by nobody.
        let house = &scene.house;
        for life in house.sound().into_iter().filter_map(|id| house.life(id)) {
            for one in &kept {
                let owner = one.key / scene.plan.keys * scene.plan.group;
                let mut client = Client::new(scene, owner, &format!("in the end at {}", life.id));
                let mut seen = Seen::NotDone;
                // Answers may be lost between node and client in calm, too.
                for _ in 0..CALM_TRIES {
                    seen = client.decrypt_at(life.id, one.clone(), 0, false).await;
                    if seen == Seen::Decrypted {
                        break;
                    }
                }
                scene.board.expect(Promise::Liveness, seen == Seen::Decrypted, || {
                    format!("node {} does not decrypt in calm: {seen:?}", life.id)
                });
            }
        }
        scene.over.store(true, Ordering::Relaxed);
    }

    /// When all is judged, the cluster may be lost but for a snapshot, or two nodes may be let go on alone. What comes then goes
    /// on from an earlier time, or twice: only what is said of it is judged.
    async fn end_of_all(&self) {
        self.onlooker.abort();
        let people = tokio::spawn(custody(self.scene.clone(), 2));
        if !nothing_else_is_left(&self.scene).await {
            two_go_on_alone(&self.scene).await;
        }
        people.abort();
    }

    /// Waits until every node has applied what any of them has by now.
    async fn all_come_to_the_furthest(&self) {
        let lives = self.scene.house.lives();
        let furthest = lives.iter().map(|life| life.node.ledger().view().revision().index).max();
        self.all_come_to(furthest.unwrap_or(0)).await;
    }

    /// What must be true in the end.
    async fn reckon(&self) {
        let scene = &self.scene;
        self.same_everywhere().await;
        look(scene);
        search_disks(scene);
        let deeds = scene.deeds();
        let mut any = Vec::new();
        for life in scene.house.lives() {
            let view = life.node.ledger().view();
            let finals = self.finals(life.id);
            // Who is still on its way in, or has left, was not waited for: it may lack a snapshot that was cut until just now.
            if scene.house.counts(life.id) {
                scene.promises.survives.at_the_end(life.id, &deeds, &finals, view.revision().sequence);
            }
            scene.promises.forged.look(life.id, &view, |id| life.node.ledger().outcome(id));
            any = finals.into_iter().collect();
        }
        let unnoticed = scene.house.unnoticed();
        scene.board.expect(Promise::Sound, unnoticed.is_empty(), || {
            format!("nodes {unnoticed:?} do not say that their disks went back in time")
        });
        for id in scene.house.sound() {
            scene.promises.audit.book(id, &scene.house.disk(id).file_bytes(), &scene.house.public(id));
        }
        scene.promises.linearizable.at_the_end(&deeds);
        scene.promises.once.at_the_end(&deeds, &any);
        scene.promises.revocation.at_the_end(&deeds, &scene.rights());
        scene.promises.threshold.at_the_end();
        scene.board.checked(Promise::Sound);
    }

    /// A checkpoint that every node compares, and then the same state on all of them.
    async fn same_everywhere(&self) {
        let house = &self.scene.house;
        let lives: Vec<_> = house.sound().into_iter().filter_map(|id| house.life(id)).collect();
        let Some(life) = lives.first().cloned() else { return };
        let (since, mut told) = (self.scene.trace.elapsed(), false);
        // One that took a snapshot since the last is not believed: then another can.
        for life in lives.iter().cycle() {
            told = checkpoint(life).await;
            if told || self.scene.trace.elapsed() - since > CALM_MAX {
                break;
            }
            tokio::time::sleep(CALM_LOOK).await;
        }
        self.scene.board.expect(Promise::Liveness, told, || "nobody makes a checkpoint in calm".into());
        self.all_come_to(life.node.ledger().view().revision().index).await;
    }

    /// Every node that is not lost has applied that entry in time. One that needs a snapshot gets it again half a minute after the
    /// last one was lost on its way.
    async fn all_come_to(&self, least: u64) {
        let house = &self.scene.house;
        for life in house.sound().into_iter().filter_map(|id| house.life(id)) {
            let mut revision = life.node.ledger().subscribe();
            let there =
                life.context.spawn(async move { revision.until(|r| (r.index >= least).then_some(())).await.is_ok() });
            let there = tokio::time::timeout(CALM_MAX, there).await;
            self.scene.board.expect(Promise::Liveness, matches!(there, Ok(Ok(true))), || {
                format!("node {} does not come to entry {least} in calm", life.id)
            });
        }
    }

    /// A node that went astray notices by the next checkpoint.
    async fn nobody_astray(&self) {
        let house = &self.scene.house;
        let since = self.scene.trace.elapsed();
        let found = !house.stray_lives().is_empty();
        while !house.stray_lives().is_empty() && self.scene.trace.elapsed() - since < CALM_MAX {
            for life in house.sound().into_iter().filter_map(|id| house.life(id)) {
                // One that dies over it, or finds no majority yet, is followed by another.
                let _ = checkpoint(&life).await;
            }
            tokio::time::sleep(CALM_LOOK).await;
        }
        let strays = house.stray_lives();
        if found {
            self.scene.board.expect(Promise::States, strays.is_empty(), || {
                format!("nodes {:?} went astray, and go on though checkpoints have told them", strays.keys())
            });
        }
    }

    fn finals(&self, node: NodeId) -> BTreeMap<u64, KeyRecord> {
        let (Some(eye), Some(life)) = (self.scene.eye.get(), self.scene.house.life(node)) else {
            return BTreeMap::new();
        };
        let view = life.node.ledger().view();
        let found = self.scene.keys.iter().zip(0..).filter_map(|(name, n)| Some((n, eye.key(&view, name)?)));
        let finals: BTreeMap<u64, KeyRecord> = found.collect();
        finals.iter().for_each(|(n, record)| self.scene.promises.versions.record(*n, record));
        finals
    }

    fn report(self, trace: &Arc<Trace>) -> Report {
        self.supervisor.abort();
        self.onlooker.abort();
        for panic in PANICS.take() {
            self.scene.board.broke(Promise::Sound, panic);
        }
        let (digest, events) = trace.digest();
        let (executed, rare) = told();
        Report {
            seed: self.scene.plan.seed,
            plan: self.scene.plan.clone(),
            digest,
            events,
            lasted: trace.elapsed(),
            tally: self.scene.tally(),
            checked: self.scene.board.counts(),
            broken: self.scene.board.broken(),
            revocations: self.scene.promises.revocation.counts(),
            gave_up: self.scene.promises.linearizable.gave_up(),
            executed,
            rare,
            tales: trace.tales(),
        }
    }
}

/// Whether a node has made a checkpoint.
async fn checkpoint(life: &Life) -> bool {
    let node = life.node.clone();
    let told = life.context.spawn(async move { node.ledger().checkpoint(Duration::from_secs(10)).await });
    matches!(told.await, Ok(Ok(_)))
}
