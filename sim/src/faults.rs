//! Lets the faults of the plan strike at their hours.

use crate::dice::Dice;
use crate::disk::{Damage, DiskWeather, Extent};
use crate::door::Errand;
use crate::house::Life;
use crate::network::Weather;
use crate::people::seal_region;
use crate::plan::{Fault, Kind};
use crate::promises::Promise;
use crate::scene::Scene;
use claviger_core::name::NodeId;
use claviger_core::policy::Operation;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinSet;

/// Longest that a slow disk or a starved process is felt once it is over: what was under way then takes its time.
pub const FELT_MAX: Duration = Duration::from_secs(15);
/// Longest that a node which was away is watched for needing a snapshot.
const SNAPSHOT_WAIT: Duration = Duration::from_secs(30);
/// How long what a node has heard of another may take to be on its disk.
const STORED_WAIT: Duration = Duration::from_secs(10);
/// Longest that whoever seals waits.
const SEAL_WAIT: Duration = Duration::from_secs(90);

/// Strikes each at its hour; those with a number in `without` are left out.
pub async fn strike(scene: Arc<Scene>, without: BTreeSet<usize>) {
    let start = tokio::time::Instant::now();
    // Faults end with whoever lets them strike.
    let mut blows = JoinSet::new();
    for fault in scene.plan.faults.clone().into_iter().filter(|fault| !without.contains(&fault.number)) {
        tokio::time::sleep_until(start + fault.at).await;
        if scene.is_over() {
            return;
        }
        let blow =
            Blow { scene: scene.clone(), fault, dice: Dice::of(scene.plan.seed, &format!("fault {}", fault.number)) };
        blows.spawn(async move { blow.fall().await });
    }
    while blows.join_next().await.is_some() {}
}

/// The weather of a seed when nothing strikes.
pub fn usual_weather(scene: &Scene) -> Weather {
    let (plan, rare) = (&scene.plan, scene.plan.weather_once_in);
    Weather {
        lost_once_in: rare,
        late_once_in: rare / 2,
        late_us_max: 80_000,
        hop_us: 100..plan.hop_us_max.max(200),
        duplicated_once_in: rare,
    }
}

/// How long writes of a seed usually take.
pub fn usual_disk(scene: &Scene) -> DiskWeather {
    DiskWeather { latency_us: 30..scene.plan.disk_us_max.max(100), stall_once_in: 100, stall_us_max: 60_000 }
}

/// One fault, as it happens.
struct Blow {
    scene: Arc<Scene>,
    fault: Fault,
    dice: Dice,
}

impl Blow {
    async fn fall(self) {
        self.scene
            .trace
            .tell(0, &format!("fault {}: {} for {:?}", self.fault.number, self.fault.kind, self.fault.lasts));
        match self.fault.kind {
            Kind::IsolateLeader => self.isolate(vec![self.leader()]).await,
            Kind::Partition => self.isolate(self.minority()).await,
            Kind::OneWay => self.one_way().await,
            Kind::Chain => self.chain().await,
            Kind::SlowLink => self.slow_link().await,
            Kind::Storm => self.storm().await,
            Kind::SnapshotCuts => self.cut_snapshots().await,
            Kind::SnapshotBlows => self.blow_at_snapshots().await,
            Kind::CrashOne => self.outage(vec![self.someone()]).await,
            Kind::CrashMajority => self.outage(self.majority()).await,
            Kind::CrashAll => self.outage(self.scene.house.all()).await,
            Kind::Stop => self.stop().await,
            Kind::Starve => self.starve().await,
            Kind::RaftMuted => self.mute_raft().await,
            Kind::ClockJump => self.jump(),
            Kind::SlowDisk => self.slow_disk().await,
            Kind::WriteFails => self.fail_write(),
            Kind::DiskFull => self.fill_disk().await,
            Kind::Damage => self.damage().await,
            Kind::Wipe => self.wipe().await,
            Kind::OldDisk => self.old_disk().await,
            Kind::Stray => self.stray(),
            Kind::SealOne => self.seal_one().await,
            Kind::SealAll => self.seal_all().await,
            Kind::Transfer => self.transfer().await,
        }
    }

    /// It has struck: it counts.
    fn acts(&self) {
        self.scene.count(|tally| *tally.faults.entry(self.fault.kind).or_default() += 1);
    }

    fn someone(&self) -> NodeId {
        let sound = self.scene.house.sound();
        *self.dice.pick(&sound).expect("a majority is never lost")
    }

    fn leader(&self) -> NodeId {
        self.scene.house.leader().unwrap_or_else(|| self.someone())
    }

    /// Some nodes, in any order, each once.
    fn some(&self, count: usize) -> Vec<NodeId> {
        let mut all = self.scene.house.all();
        self.dice.shuffle(&mut all);
        all.truncate(count);
        all
    }

    fn minority(&self) -> Vec<NodeId> {
        self.some(self.dice.roll(1..self.scene.plan.may_lose() + 1) as usize)
    }

    fn majority(&self) -> Vec<NodeId> {
        let mut most = self.some(self.scene.plan.nodes as usize / 2 + 1);
        // Half of the time the leader is among them.
        if self.dice.once_in(2) && !most.contains(&self.leader()) {
            most[0] = self.leader();
        }
        most
    }

    async fn lasts(&self) {
        tokio::time::sleep(self.fault.lasts).await;
    }

    /// Cuts some off from the others, both ways.
    async fn isolate(&self, few: Vec<NodeId>) {
        let all = self.scene.house.all();
        let pairs: Vec<_> = few
            .iter()
            .flat_map(|a| all.iter().filter(|b| !few.contains(b)).flat_map(|b| [(*a, *b), (*b, *a)]))
            .collect();
        self.cut(pairs).await;
    }

    async fn one_way(&self) {
        let (one, deaf) = (self.someone(), self.dice.once_in(2));
        let others = self.scene.house.all().into_iter().filter(|n| *n != one);
        self.cut(others.map(|other| if deaf { (other, one) } else { (one, other) }).collect()).await;
    }

    async fn chain(&self) {
        let order = self.some(self.scene.plan.nodes as usize);
        let apart = |a: usize, b: usize| a.abs_diff(b) > 1;
        let mut pairs = Vec::new();
        for a in 0..order.len() {
            pairs.extend((0..order.len()).filter(|b| apart(a, *b)).map(|b| (order[a], order[b])));
        }
        self.cut(pairs).await;
    }

    /// Cuts these directions for a while. When two partitions overlap, the first to end mends both: the network is one.
    async fn cut(&self, pairs: Vec<(NodeId, NodeId)>) {
        self.acts();
        pairs.iter().for_each(|(a, b)| self.scene.house.hub.cut(*a, *b));
        self.scene.trace.tell(0, &format!("cut: {pairs:?}"));
        self.lasts().await;
        self.scene.house.hub.mend();
        self.scene.trace.tell(0, "mended");
    }

    async fn slow_link(&self) {
        self.acts();
        let pair = self.some(2);
        self.scene.house.hub.slow(pair[0], pair[1], self.dice.spread(5_000, 2_000_000));
        self.lasts().await;
        self.scene.house.hub.mend_slow();
    }

    /// The leader, most often: another comes, and it does not hear of that from Raft.
    async fn mute_raft(&self) {
        self.acts();
        let node = if self.dice.once_in(4) { self.someone() } else { self.leader() };
        self.scene.trace.tell(node.0, "Raft is mute");
        self.scene.house.hub.mute(node);
        self.lasts().await;
        self.scene.house.hub.unmute(&[node]);
        self.scene.trace.tell(node.0, "Raft is heard again");
    }

    async fn storm(&self) {
        self.acts();
        let once_in = self.dice.roll(4..20);
        let storm = Weather {
            lost_once_in: once_in,
            late_once_in: once_in,
            late_us_max: self.dice.spread(10_000, 3_000_000),
            duplicated_once_in: once_in,
            ..usual_weather(&self.scene)
        };
        self.scene.house.hub.weather(storm);
        self.lasts().await;
        self.scene.house.hub.weather(usual_weather(&self.scene));
    }

    /// Cut snapshots want somebody who needs one: a node that is away for a while.
    async fn cut_snapshots(&self) {
        self.scene.house.hub.cut_snapshots(self.dice.roll(100..3_000), 2);
        self.outage(vec![self.someone()]).await;
        tokio::time::sleep(Duration::from_secs(20)).await;
        self.scene.house.hub.cut_snapshots(0, 0);
    }

    /// A node is away until it may need a snapshot; then either end of it dies in the middle, and again.
    async fn blow_at_snapshots(&self) {
        let (node, house) = (self.someone(), &self.scene.house);
        house.keep_off(node, true);
        house.crash(node).await;
        self.lasts().await;
        if self.dice.once_in(2) {
            self.hands_over().await;
        }
        house.keep_off(node, false);
        for _ in 0..self.dice.roll(1..4) {
            let under_way = house.hub.snapshot_to(node, self.dice.roll(1..12));
            if !matches!(tokio::time::timeout(SNAPSHOT_WAIT, under_way).await, Ok(Ok(()))) {
                return;
            }
            self.acts();
            // What has just arrived is still on its way to the disk.
            tokio::time::sleep(Duration::from_micros(self.dice.spread(50, 50_000))).await;
            match self.dice.roll(0..3) {
                0 => house.crash(self.leader()).await,
                1 => house.crash(node).await,
                _ => self.flip_staged(node),
            }
        }
    }

    /// While it is taken in: a node that has died meanwhile is offered another image, mostly, and looks at this one no more.
    fn flip_staged(&self, node: NodeId) {
        let house = &self.scene.house;
        if let Some(what) = house.disk(node).damage(Damage::StagedFlip) {
            house.flipped(node);
            self.scene.trace.tell(node.0, &format!("its disk is damaged, where a snapshot is taken in: {what}"));
        }
    }

    async fn outage(&self, nodes: Vec<NodeId>) {
        self.acts();
        for node in &nodes {
            self.scene.house.keep_off(*node, true);
            self.scene.house.crash(*node).await;
        }
        self.lasts().await;
        // A leader keeps the entries that somebody lacks; one that takes over has let them go, and sends a snapshot.
        if nodes.len() == 1 && self.dice.once_in(2) {
            self.hands_over().await;
        }
        nodes.iter().for_each(|node| self.scene.house.keep_off(*node, false));
    }

    async fn stop(&self) {
        let Some(life) = self.scene.house.life(if self.dice.once_in(2) { self.leader() } else { self.someone() })
        else {
            return;
        };
        self.acts();
        self.scene.trace.tell(life.id.0, "is stopped");
        self.scene.promises.audit.hinder(life.id);
        life.context.stop();
        self.lasts().await;
        life.context.go_on();
        self.relieve(life.id);
        self.scene.trace.tell(life.id.0, "goes on");
    }

    async fn starve(&self) {
        let Some(life) = self.scene.house.life(self.someone()) else { return };
        self.acts();
        self.scene.promises.audit.hinder(life.id);
        life.context.starve(self.dice.spread(20, 2_000), self.dice.spread(2_000, 6_000_000));
        self.lasts().await;
        life.context.starve(0, 0);
        self.relieve(life.id);
    }

    fn jump(&self) {
        let Some(life) = self.scene.house.life(self.someone()) else { return };
        self.acts();
        let ms = self.dice.spread(1_000, 900_000) as i64;
        let ms = if self.dice.once_in(2) { -ms } else { ms };
        self.scene.trace.tell(life.id.0, &format!("its calendar jumps by {ms} ms"));
        life.clock.jump_ms(ms);
    }

    async fn slow_disk(&self) {
        self.acts();
        let node = self.someone();
        let (disk, most) = (self.scene.house.disk(node), self.dice.spread(20_000, 6_000_000));
        self.scene.promises.audit.hinder(node);
        disk.weather(DiskWeather { latency_us: most / 4..most, stall_once_in: 10, stall_us_max: most });
        self.lasts().await;
        disk.weather(usual_disk(&self.scene));
        self.relieve(node);
    }

    /// What hindered a node is over.
    fn relieve(&self, node: NodeId) {
        self.scene.promises.audit.relieve(node, self.scene.trace.elapsed() + FELT_MAX);
    }

    fn fail_write(&self) {
        let node = self.someone();
        if self.scene.house.life(node).is_none() {
            return;
        }
        self.acts();
        self.scene.house.excuse(node);
        self.scene.house.disk(node).fail_next_write();
    }

    async fn fill_disk(&self) {
        let node = self.someone();
        if self.scene.house.life(node).is_none() {
            return;
        }
        self.acts();
        self.scene.house.excuse(node);
        self.scene.house.disk(node).fill();
        self.lasts().await;
        self.scene.house.disk(node).free();
    }

    /// Whether one more may be lost for good.
    fn may_lose(&self) -> bool {
        let lost = self.scene.plan.nodes.saturating_sub(self.scene.house.sound().len() as u64);
        lost < self.scene.plan.may_lose()
    }

    /// Damages a disk while its node is off. The node must refuse to start by name, or not have been hurt.
    async fn damage(&self) {
        if !self.may_lose() {
            return;
        }
        let node = self.someone();
        self.scene.house.keep_off(node, true);
        self.scene.house.crash(node).await;
        let kinds = [
            Damage::BitFlip,
            Damage::LostWrite,
            Damage::MisdirectedWrite,
            Damage::MarkFlip,
            Damage::MarkLost,
            Damage::AuditFlip,
        ];
        let kind = *self.dice.pick(&kinds).expect("six kinds");
        let what = self.scene.house.disk(node).damage(kind);
        self.scene.promises.raft.forget(node);
        self.scene.house.keep_off(node, false);
        let Some(what) = what else { return };
        self.scene.promises.audit.excuse(node);
        self.acts();
        self.scene.trace.tell(node.0, &format!("its disk is damaged: {what}"));
        let starts = self.scene.house.starts_hurt(node, &what).await;
        if starts && kind == Damage::AuditFlip {
            // An older file is not read at a start: whoever verifies the book finds it.
            let (files, key) = (self.scene.house.disk(node).file_bytes(), self.scene.house.public(node));
            self.scene.promises.audit.changed_book(node, &files, &key);
        } else {
            self.scene
                .board
                .expect(Promise::Sound, !starts, || format!("node {node} starts on a damaged disk: {what}"));
        }
    }

    /// A wiped disk is another disk: the node is not listened to any more, and nobody can open it.
    async fn wipe(&self) {
        if !self.may_lose() {
            return;
        }
        let node = self.someone();
        self.scene.house.keep_off(node, true);
        self.scene.house.crash(node).await;
        self.acts();
        self.scene.house.disk(node).wipe();
        self.scene.house.wiped(node);
        self.scene.promises.raft.forget(node);
        self.scene.promises.audit.excuse(node);
        self.scene.house.keep_off(node, false);
    }

    /// A copy of a node's disk is put back after the node has gone on without it. Tables alone are betrayed by the mark
    /// beside them; a whole disk by what the others know. It must not vote nor acknowledge anything again.
    async fn old_disk(&self) {
        if !self.may_lose() {
            return;
        }
        let (house, node) = (&self.scene.house, self.someone());
        self.switch_off(node).await;
        let copy = house.disk(node).copy();
        house.keep_off(node, false);
        self.lasts().await;
        if !self.goes_on(node).await || !self.may_lose() || !house.sound().contains(&node) {
            return;
        }
        self.acts();
        self.switch_off(node).await;
        let extent = if self.dice.once_in(2) { Extent::Tables } else { Extent::Whole };
        house.disk(node).put_back(&copy, extent);
        self.scene.promises.audit.excuse(node);
        self.scene.promises.raft.went_back(node);
        house.set_back(node);
        let what = format!("its disk went back: {extent:?}");
        self.scene.trace.tell(node.0, &what);
        if extent == Extent::Tables {
            house.keep_off(node, false);
            let starts = house.starts_hurt(node, &what).await;
            let told = || format!("node {node} starts on tables that are older than their mark");
            self.scene.board.expect(Promise::Sound, !starts, told);
        } else {
            house.keep_off(node, false);
        }
    }

    /// Whether a node lives, all others know of its new start, and some time has passed in which they have stored it.
    async fn goes_on(&self, node: NodeId) -> bool {
        let Some(life) = self.scene.house.life(node) else { return false };
        let starts = life.node.ledger().status().incarnation;
        let knows = |other: &Life| other.id == node || other.node.ledger().known_starts(node) >= starts;
        if !self.scene.house.sound().iter().all(|id| self.scene.house.life(*id).is_some_and(|other| knows(&other))) {
            return false;
        }
        tokio::time::sleep(STORED_WAIT).await;
        true
    }

    async fn switch_off(&self, node: NodeId) {
        self.scene.house.keep_off(node, true);
        self.scene.house.crash(node).await;
    }

    /// A bit flips in a node's memory: its state is not what it says any more. A checkpoint must stop it, by name, before
    /// anything else rests on it; or it dies before the flip is on its disk.
    fn stray(&self) {
        if !self.may_lose() || !claviger_core::MUTANTS {
            return;
        }
        let Some(life) = self.scene.house.life(self.someone()) else { return };
        let Some(state) = life.node.ledger().status().state else { return };
        self.acts();
        self.scene.house.astray(life.id, state.index);
        #[cfg(feature = "mutants")]
        life.node.ledger().stray();
    }

    async fn seal_one(&self) {
        let node = self.someone();
        let (began, errand) = (self.scene.trace.moment(), self.errand(Operation::SealNode));
        let sealed =
            errand.run(node, |life, visit| Box::pin(async move { life.node.service().seal_node(visit, ()).await }));
        if let Some(Ok(())) = sealed.await.answer {
            self.acts();
            self.scene.promises.sealed.closed(&[node], began, self.scene.trace.moment());
            self.scene.trace.tell(node.0, "was sealed by hand");
        }
    }

    async fn seal_all(&self) {
        if seal_region(&self.scene, self.someone(), &self.dice).await {
            self.acts();
        }
    }

    async fn transfer(&self) {
        if self.hands_over().await {
            self.acts();
        }
    }

    /// Whether the leader has handed its lead over.
    async fn hands_over(&self) -> bool {
        let errand = self.errand(Operation::TransferLeader);
        let done = errand.run(self.leader(), |life, visit| {
            Box::pin(async move { life.node.service().transfer_leader(visit, ()).await })
        });
        matches!(done.await.answer, Some(Ok(())))
    }

    fn errand(&self, operation: Operation) -> Errand<'_> {
        Errand { house: &self.scene.house, guest: &self.scene.root, operation, patience: SEAL_WAIT, dice: &self.dice }
    }
}
