//! What a seed decides before anything happens: how large the cluster is, how it is configured, how much is asked of it,
//! and which faults strike when. Each seed switches off a random part of the faults and draws the rest from wide ranges
//! (Groce and others, "Swarm testing", 2012).

use crate::dice::Dice;
use claviger_server::Timings;
use std::fmt;
use std::time::Duration;

/// What can go wrong, and does so at an hour of the plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// The leader is cut off, both ways.
    IsolateLeader,
    /// A random minority is cut off, both ways.
    Partition,
    /// One node hears nobody, or nobody hears it.
    OneWay,
    /// A chain: each node reaches only its neighbours.
    Chain,
    /// What Raft says to one node and what it says comes to nothing; everything else passes.
    RaftMuted,
    /// One direction is slow.
    SlowLink,
    /// Many frames are lost, late and doubled.
    Storm,
    /// Transfers of snapshots are cut in the middle.
    SnapshotCuts,
    /// Whoever sends a snapshot or takes one in loses its power in the middle, and a bit of what had come may flip.
    SnapshotBlows,
    /// One node loses its power.
    CrashOne,
    /// A majority loses its power at once.
    CrashMajority,
    /// Everybody does.
    CrashAll,
    /// A process is stopped, and goes on late.
    Stop,
    /// A process is short of processors: its tasks wait between their steps.
    Starve,
    /// A calendar is set forward or back.
    ClockJump,
    /// Writes of one node take long.
    SlowDisk,
    /// One write of one node fails.
    WriteFails,
    /// The disk of one node is full for a while.
    DiskFull,
    /// Something on the disk of one node is damaged while it is off.
    Damage,
    /// The disk of one node is wiped.
    Wipe,
    /// The disk of one node is put back to what it was a while before, whole or its tables alone.
    OldDisk,
    /// A bit flips in the memory of one node.
    Stray,
    /// Somebody seals one node.
    SealOne,
    /// Somebody seals the region.
    SealAll,
    /// The lead is handed over.
    Transfer,
}

impl Kind {
    /// All of them.
    pub const ALL: [Kind; 25] = [
        Kind::IsolateLeader,
        Kind::Partition,
        Kind::OneWay,
        Kind::Chain,
        Kind::RaftMuted,
        Kind::SlowLink,
        Kind::Storm,
        Kind::SnapshotCuts,
        Kind::SnapshotBlows,
        Kind::CrashOne,
        Kind::CrashMajority,
        Kind::CrashAll,
        Kind::Stop,
        Kind::Starve,
        Kind::ClockJump,
        Kind::SlowDisk,
        Kind::WriteFails,
        Kind::DiskFull,
        Kind::Damage,
        Kind::Wipe,
        Kind::OldDisk,
        Kind::Stray,
        Kind::SealOne,
        Kind::SealAll,
        Kind::Transfer,
    ];

    /// Whether a node is lost to it for good: at most a minority may be.
    pub fn is_final(self) -> bool {
        matches!(self, Kind::Damage | Kind::Wipe | Kind::OldDisk | Kind::Stray)
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self:?}")
    }
}

/// One fault.
#[derive(Clone, Copy, Debug)]
pub struct Fault {
    /// Its number in the plan, which it keeps when others are left out.
    pub number: usize,
    /// When it strikes, since the load began.
    pub at: Duration,
    /// How long it lasts, where it lasts.
    pub lasts: Duration,
    /// What it is.
    pub kind: Kind,
}

/// How people and strangers behave.
#[derive(Clone, Copy, Debug)]
pub struct Manners {
    /// Once in so many, a custodian brings a bad, old or doubled share first; never when 0.
    pub bad_share_once_in: u64,
    /// Once in so many, a custodian walks away half-way; never when 0.
    pub leaves_once_in: u64,
    /// Whether two operators begin ceremonies at different nodes at once.
    pub two_operators: bool,
    /// Whether somebody has stolen a node's certificate.
    pub stranger: bool,
    /// Longest that people need to notice a sealed node, in milliseconds.
    pub attention_ms: u64,
}

/// Everything that a seed decides.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Which.
    pub seed: u64,
    /// Nodes that found the cluster: 3 to 5. As many vote at any time.
    pub nodes: u64,
    /// Nodes that come later, each in the place of another.
    pub newcomers: u64,
    /// Shares that there are.
    pub custodians: u8,
    /// Shares that open.
    pub threshold: u8,
    /// Groups of clients; those of one group share keys.
    pub groups: u64,
    /// Clients of a group: at most four.
    pub group: u64,
    /// Keys of a group.
    pub keys: u64,
    /// Longest pause between two calls of a client, in milliseconds.
    pub pause_ms: u64,
    /// Longest that a client waits for one answer, in milliseconds.
    pub patience_ms: u64,
    /// Once in so many answers is lost on its way to its client; never when 0.
    pub answer_lost_once_in: u64,
    /// Raft's, and how often checkpoints and ticks come.
    pub timings: Timings,
    /// Longest that one step of a request waits for the cluster.
    pub request_wait: Duration,
    /// Whether audit pages are synced before answers.
    pub strict_audit: bool,
    /// Frames lost and late all the time: once in so many.
    pub weather_once_in: u64,
    /// Most that a hop takes, in microseconds.
    pub hop_us_max: u64,
    /// Most that a write takes, in microseconds.
    pub disk_us_max: u64,
    /// Most that clocks gain or lose, in millionths.
    pub drift_ppm_max: u64,
    /// People.
    pub manners: Manners,
    /// How long load and faults last.
    pub length: Duration,
    /// In order of time.
    pub faults: Vec<Fault>,
}

/// How long load and faults last when nobody says otherwise: with founding and calm more than ten minutes.
pub const LENGTH: Duration = Duration::from_secs(600);

impl Plan {
    /// The plan of a seed.
    pub fn of(seed: u64) -> Plan {
        let dice = Dice::of(seed, "plan");
        let nodes = *dice.pick(&[3, 3, 3, 4, 5, 5]).expect("not empty");
        let custodians = dice.roll(2..6) as u8;
        let threshold = dice.roll(2..u64::from(custodians) + 1) as u8;
        let mut plan = Plan {
            seed,
            nodes,
            custodians,
            threshold,
            groups: dice.roll(1..3),
            group: dice.roll(2..5),
            keys: dice.roll(2..5),
            pause_ms: dice.spread(600, 2_000),
            patience_ms: dice.spread(2_000, 60_000),
            answer_lost_once_in: *dice.pick(&[0, 20, 100]).expect("not empty"),
            timings: kept(timings(&dice), &Dice::of(seed, "snapshots")),
            request_wait: Duration::from_millis(dice.spread(2_000, 30_000)),
            strict_audit: dice.once_in(3),
            weather_once_in: *dice.pick(&[0, 0, 200, 50]).expect("not empty"),
            hop_us_max: dice.spread(1_000, 40_000),
            disk_us_max: dice.spread(500, 40_000),
            drift_ppm_max: *dice.pick(&[0, 200, 20_000]).expect("not empty"),
            manners: manners(&dice),
            length: LENGTH,
            faults: Vec::new(),
            newcomers: Dice::of(seed, "newcomers").roll(0..4).saturating_sub(1),
        };
        plan.faults = plan.draw_faults(&Dice::of(seed, "faults"));
        let (blows, muted) = (Dice::of(seed, "snapshot blows"), Dice::of(seed, "raft muted"));
        plan.draw_late(Kind::SnapshotBlows, if blows.once_in(2) { blows.roll(1..5) } else { 0 }, 60_000, &blows);
        plan.draw_late(Kind::RaftMuted, muted.roll(0..4), 20_000, &muted);
        plan
    }

    fn draw_faults(&self, dice: &Dice) -> Vec<Fault> {
        let drawn = Kind::ALL.into_iter().filter(|kind| !matches!(kind, Kind::SnapshotBlows | Kind::RaftMuted));
        let mut on: Vec<Kind> = drawn.filter(|_| dice.roll(0..5) < 3).collect();
        // A disk lost for good is rare, and leaves the rest with less to lose.
        on.retain(|kind| !kind.is_final() || dice.once_in(3));
        if on.is_empty() {
            on.push(Kind::CrashOne);
        }
        let gap_ms = dice.spread(6_000, 40_000);
        let (mut at, mut faults) = (5_000, Vec::new());
        let last = self.length.as_millis() as u64 - 10_000;
        while at < last {
            let kind = *dice.pick(&on).expect("at least one");
            // A disk that is lost must be out of the way when faults end.
            let kind = if kind.is_final() && at + 60_000 > last { Kind::CrashOne } else { kind };
            let lasts = Duration::from_millis(dice.spread(200, 70_000));
            faults.push(Fault { number: faults.len(), at: Duration::from_millis(at), lasts, kind });
            at += dice.roll(gap_ms / 2..gap_ms * 2);
        }
        faults
    }

    /// These have dice of their own: a seed's other faults stay what they were.
    fn draw_late(&mut self, kind: Kind, count: u64, longest_ms: u64, dice: &Dice) {
        let last = self.length.as_millis() as u64 - 60_000;
        for _ in 0..count {
            let (at, lasts) = (dice.roll(5_000..last), dice.spread(2_000, longest_ms));
            let (at, lasts) = (Duration::from_millis(at), Duration::from_millis(lasts));
            self.faults.push(Fault { number: self.faults.len(), at, lasts, kind });
        }
        self.faults.sort_by_key(|fault| fault.at);
    }

    /// How many nodes may be lost for good.
    pub fn may_lose(&self) -> u64 {
        (self.nodes - 1) / 2
    }
}

fn timings(dice: &Dice) -> Timings {
    let heartbeat_ms = dice.spread(80, 400);
    let election_min_ms = heartbeat_ms * dice.roll(3..6);
    // Half of all clusters let go of their log so soon that whoever was away needs a snapshot.
    let (snapshots, kept) = if dice.once_in(2) { (40, 8) } else { (1_000, 200) };
    Timings {
        heartbeat_ms,
        election_min_ms,
        election_max_ms: election_min_ms * 2,
        snapshot_entries: dice.spread(8, snapshots),
        log_entries_kept: dice.spread(1, kept),
        checkpoint_entries: dice.spread(10, 300),
        tick_ms: dice.spread(2_000, 60_000),
        ..Timings::default()
    }
}

/// How much of the log is kept for those who lag, in entries and in bytes, and how small a snapshot is cut.
fn kept(timings: Timings, dice: &Dice) -> Timings {
    let bytes = if dice.once_in(2) { dice.spread(4 << 10, 4 << 20) } else { 64 << 20 };
    Timings {
        log_bytes_kept: bytes,
        log_entries_max: timings.log_entries_kept + dice.spread(1, 2_000),
        log_bytes_max: bytes * dice.roll(1..8),
        snapshot_chunk_bytes: dice.spread(300, 60_000) as usize,
        ..timings
    }
}

fn manners(dice: &Dice) -> Manners {
    Manners {
        bad_share_once_in: *dice.pick(&[0, 3, 8]).expect("not empty"),
        leaves_once_in: *dice.pick(&[0, 4, 12]).expect("not empty"),
        two_operators: dice.once_in(2),
        stranger: dice.roll(0..4) > 0,
        attention_ms: dice.spread(500, 12_000),
    }
}
