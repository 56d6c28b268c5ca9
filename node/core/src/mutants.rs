//! For the simulator alone: bugs that are planted on purpose, to see that it would find them, and rare branches that it
//! takes more often. Both are compiled only with the feature `mutants`, which the daemon refuses to be built with; without
//! it [`planted!`](crate::planted) and [`rarely!`](crate::rarely) are `false`.
//!
//! What is chosen holds for one thread: a simulated cluster lives on one.

/// Whether the named [`Mutant`] is planted in this run.
#[macro_export]
macro_rules! planted {
    ($bug:ident) => {
        $crate::MUTANTS && $crate::mutants::planted($crate::mutants::Mutant::$bug)
    };
}

/// Whether a rare branch is to be taken although nothing asks for it. Every branch has a name of its own.
#[macro_export]
macro_rules! rarely {
    ($name:literal) => {
        $crate::MUTANTS && $crate::mutants::rarely($name)
    };
}

/// One line for each planted bug: its name in the code, its name for people.
macro_rules! mutants {
    ($($(#[$doc:meta])+ $name:ident $word:literal;)+) => {
        /// A bug that can be planted.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub enum Mutant {
            $($(#[$doc])+ $name),+
        }

        impl Mutant {
            /// All of them.
            pub const ALL: &[Mutant] = &[$(Mutant::$name),+];

            /// Its name for people.
            pub fn word(self) -> &'static str {
                match self {
                    $(Mutant::$name => $word),+
                }
            }
        }
    };
}

mutants! {
    /// A log entry counts as stored before the disk says so.
    AckBeforeSync "acknowledge-before-sync";
    /// A vote is kept in memory only.
    VoteNotPersisted "vote-not-persisted";
    /// Reads do not wait for the barrier.
    ReadWithoutBarrier "read-without-barrier";
    /// A read joins a barrier round that was sent before it came.
    BarrierJoinedLate "barrier-joined-late";
    /// A follower confirms a barrier as if it led.
    FollowerConfirms "follower-confirms";
    /// A node says that it follows a leader whatever it has promised to a later one.
    ConfirmedBlindly "confirmed-blindly";
    /// What a leader has told others of is not counted to what they may show.
    ToldNotCounted "told-not-counted";
    /// A transaction key that was renewed still signs.
    SupersededStillSigns "superseded-still-signs";
    /// One custodian too few gives a mandate.
    MandateOfTooFew "mandate-of-too-few";
    /// A snapshot in a file is believed whoever has signed it.
    FileNotVerified "file-not-verified";
    /// A node asks for leave to go on alone although others live.
    OthersNotLookedFor "others-not-looked-for";
    /// Two nodes that were each let go on alone go on when they meet.
    TornGoesOn "torn-goes-on";
    /// A node that goes on alone is opened before its generation begins.
    OpenedAlone "opened-alone";
    /// A node that was retired is still listened to.
    RetiredStillHeard "retired-still-heard";
    /// The mark of what was durable is not compared with what there is.
    MarkNotRead "mark-not-read";
    /// A node votes before others have said what they know of it, and whatever they say.
    HandshakeSkipped "handshake-skipped";
    /// What is stored is not hashed anew at a start.
    RescanSkipped "rescan-skipped";
    /// A node that took a snapshot is opened before a checkpoint has agreed with it.
    OpenedUnproven "opened-unproven";
    /// An installed snapshot is shown before it is durable.
    SnapshotNotSynced "snapshot-not-synced";
    /// A snapshot is answered for before it is durable.
    SnapshotAnsweredEarly "snapshot-answered-early";
    /// A follower applies what it appends before it is committed, and keeps it when the log is truncated.
    TruncationKeepsApplied "truncation-keeps-applied";
    /// A snapshot is installed although the state is newer.
    SnapshotOverNewer "snapshot-over-newer-state";
    /// A snapshot is made the state although what lies on the disk is not what was sent.
    SnapshotNotVerified "snapshot-not-verified";
    /// A transfer that goes on after a cut leaves out a chunk.
    SnapshotChunkSkipped "snapshot-chunk-skipped";
    /// The disk says that a snapshot is the state before all of it is there.
    BankSwitchedEarly "generation-switched-early";
    /// A checkpoint is written whatever the other voters say.
    CheckpointNotWitnessed "checkpoint-not-witnessed";
    /// A checkpoint that differs is passed over.
    CheckpointNotCompared "checkpoint-not-compared";
    /// What a transaction relied on is not compared.
    ReliesNotCompared "relies-not-compared";
    /// Outcomes do not come with a snapshot.
    OutcomesNotInSnapshot "outcomes-not-in-snapshot";
    /// A change is decided anew although the outcome of the first decision is unknown.
    DecideWithoutCancel "decide-without-cancel";
    /// A request that comes again is not recognised.
    RequestForgotten "request-forgotten";
    /// A rotation takes a version number that was used already.
    VersionReused "version-reused";
    /// A rotated key encrypts with its new version before the rotation is committed.
    VersionBeforeCommit "version-before-commit";
    /// A key is put into the cache after it was forgotten there, and believed.
    CacheFilledLate "cache-filled-late";
    /// Rights are kept although the records that they were read from have changed.
    RightsNotRefreshed "rights-not-refreshed";
    /// Kept rights that were current once count as current ever after.
    RightsSeenOnce "rights-seen-once";
    /// An answer is handed over however old its reading has become.
    AnswerGrownOld "answer-grown-old";
    /// An item of a stream is judged by whatever reading was there before it.
    ItemNotReadAnew "item-not-read-anew";
    /// The opener of a stream takes its last chunk for the end, flagged or not.
    StreamEndNotFlagged "stream-end-not-flagged";
    /// Rights and the state of the key are looked at when a stream of chunks opens, and not again.
    StreamRightsOnce "stream-rights-once";
    /// A caller's least revision is not waited for.
    RevisionNotAwaited "revision-not-awaited";
    /// Sealing leaves the keys in memory and in use.
    SealedStillAnswers "sealed-still-answers";
    /// A seal-all does not end the ceremonies and hand-overs before it.
    OldEpochOpens "old-epoch-opens";
    /// The polynomial is of one degree too few: k-1 shares open.
    LowDegree "low-degree";
    /// A share that is offered twice counts twice.
    DuplicateCounts "duplicate-counts";
    /// A share is taken without comparing its digest.
    ShareNotChecked "share-not-checked";
    /// The page is written after the answer was given.
    PageAfterAnswer "page-after-answer";
    /// A refused attempt leaves no page.
    RefusalNotPaged "refusal-not-paged";
    /// The sender's disk is not compared with the roster.
    DiskNotCompared "disk-not-compared";
    /// A batch's signature is not verified.
    SignatureNotVerified "signature-not-verified";
    /// Nonces come from a counter, under a salt that does not change.
    NonceFromCounter "nonce-from-counter";
    /// The context of a message is not authenticated.
    ContextNotBound "context-not-bound";
    /// A record of the sealed tables is stored in the clear.
    RecordInClear "record-in-clear";
    /// Cluster time may go back.
    TimeGoesBack "time-goes-back";
}

#[cfg(feature = "mutants")]
mod chosen {
    use super::Mutant;
    use std::cell::RefCell;
    use std::collections::BTreeMap;

    /// A rare branch.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
    pub struct Branch {
        /// Whether this run takes it now and then.
        pub on: bool,
        /// How often it was come by.
        pub reached: u64,
        /// How often it was taken though nothing asked for it.
        pub taken: u64,
    }

    /// Rare branches by name.
    pub type Rare = BTreeMap<&'static str, Branch>;

    #[derive(Default)]
    struct Chosen {
        mutant: Option<Mutant>,
        executed: u64,
        dice: Option<u64>,
        rare: Rare,
    }

    thread_local! { static CHOSEN: RefCell<Chosen> = RefCell::default(); }

    /// Begins a run on this thread: which bug is planted, and the dice for rare branches.
    pub fn begin(mutant: Option<Mutant>, seed: u64) {
        CHOSEN.set(Chosen { mutant, dice: Some(seed), ..Chosen::default() });
    }

    /// How often the planted bug was executed, and the rare branches, since [`begin`].
    pub fn told() -> (u64, Rare) {
        CHOSEN.with_borrow(|chosen| (chosen.executed, chosen.rare.clone()))
    }

    /// From here on no rare branch is taken.
    pub fn rest() {
        CHOSEN.with_borrow_mut(|chosen| chosen.dice = None);
    }

    /// Whether this bug is planted; counts that it was come by.
    pub fn planted(bug: Mutant) -> bool {
        CHOSEN.with_borrow_mut(|chosen| {
            let here = chosen.mutant == Some(bug);
            chosen.executed += u64::from(here);
            here
        })
    }

    /// Whether the branch is to be taken: in half of all runs never, else once in eight.
    pub fn rarely(name: &'static str) -> bool {
        CHOSEN.with_borrow_mut(|chosen| {
            let Some(dice) = &mut chosen.dice else { return false };
            let branch =
                chosen.rare.entry(name).or_insert_with(|| Branch { on: is_on(*dice, name), ..Branch::default() });
            branch.reached += 1;
            if !branch.on {
                return false;
            }
            *dice = dice.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let taken = *dice >> 61 == 0;
            branch.taken += u64::from(taken);
            taken
        })
    }

    fn is_on(seed: u64, name: &str) -> bool {
        let hash = name.bytes().fold(seed, |h, b| (h ^ u64::from(b)).wrapping_mul(0x0100_0000_01b3));
        (hash >> 40) & 1 == 1
    }
}

#[cfg(feature = "mutants")]
pub use chosen::{Branch, Rare, begin, planted, rarely, rest, told};

/// No bug is planted in this build.
#[cfg(not(feature = "mutants"))]
#[inline(always)]
pub const fn planted(_: Mutant) -> bool {
    false
}

/// No branch is taken without need in this build.
#[cfg(not(feature = "mutants"))]
#[inline(always)]
pub const fn rarely(_: &'static str) -> bool {
    false
}
