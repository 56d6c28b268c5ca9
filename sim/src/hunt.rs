//! Looks for planted bugs, one after the other: by which seed each is caught, and by which promise. It counts only when
//! the promise that it breaks says so, the planted branch was executed, and the same seed is green without it.
#![allow(clippy::print_stdout, reason = "a command line tool speaks on standard output")]

use crate::promises::Promise;
use crate::run::{Report, Wish, run};
use claviger_core::mutants::Mutant;
use parking_lot::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// Half of all planted bugs must be caught within so many seeds.
const MEDIAN_MAX: u64 = 50;

/// The promise that a planted bug breaks.
pub fn breaks(mutant: Mutant) -> Promise {
    match mutant {
        Mutant::SnapshotOverNewer | Mutant::CheckpointNotCompared | Mutant::CheckpointNotWitnessed => Promise::States,
        Mutant::SnapshotNotSynced => Promise::Survives,
        Mutant::SnapshotNotVerified => Promise::States,
        Mutant::SnapshotChunkSkipped | Mutant::BankSwitchedEarly => Promise::Sound,
        // Raft notices that a log which was acknowledged has become shorter, and stops.
        Mutant::AckBeforeSync | Mutant::SnapshotAnsweredEarly => Promise::Sound,
        Mutant::VoteNotPersisted | Mutant::HandshakeSkipped => Promise::Raft,
        // A node starts on a disk that was damaged, or is older than its mark.
        Mutant::MarkNotRead | Mutant::RescanSkipped => Promise::Sound,
        Mutant::OpenedUnproven => Promise::Proven,
        Mutant::ReadWithoutBarrier
        | Mutant::BarrierJoinedLate
        | Mutant::FollowerConfirms
        | Mutant::ConfirmedBlindly
        | Mutant::ToldNotCounted => Promise::Linearizable,
        Mutant::ReliesNotCompared => Promise::Linearizable,
        Mutant::OutcomesNotInSnapshot | Mutant::TruncationKeepsApplied => Promise::States,
        Mutant::DecideWithoutCancel | Mutant::RequestForgotten => Promise::Once,
        Mutant::VersionReused | Mutant::VersionBeforeCommit => Promise::Versions,
        Mutant::CacheFilledLate | Mutant::RightsNotRefreshed | Mutant::RightsSeenOnce | Mutant::AnswerGrownOld => {
            Promise::Revocation
        }
        Mutant::ItemNotReadAnew | Mutant::StreamRightsOnce => Promise::Revocation,
        Mutant::RevisionNotAwaited | Mutant::TimeGoesBack => Promise::Time,
        Mutant::SealedStillAnswers | Mutant::OldEpochOpens => Promise::Sealed,
        Mutant::LowDegree | Mutant::DuplicateCounts | Mutant::ShareNotChecked => Promise::Threshold,
        Mutant::MandateOfTooFew => Promise::Threshold,
        Mutant::PageAfterAnswer | Mutant::RefusalNotPaged => Promise::Audit,
        Mutant::DiskNotCompared
        | Mutant::RetiredStillHeard
        | Mutant::OpenedAlone
        | Mutant::OthersNotLookedFor
        | Mutant::TornGoesOn => Promise::Roster,
        Mutant::SignatureNotVerified | Mutant::SupersededStillSigns | Mutant::FileNotVerified => Promise::Forged,
        Mutant::NonceFromCounter => Promise::Nonces,
        Mutant::ContextNotBound | Mutant::StreamEndNotFlagged => Promise::Ciphertexts,
        Mutant::RecordInClear => Promise::Clear,
    }
}

/// How a bug was caught.
struct Caught {
    seed: u64,
    /// Which of the seeds that were tried it was, from 1.
    tried: u64,
    report: Report,
}

/// Looks for each with seeds from 1 on. Whether every one was caught.
pub fn hunt(wanted: &[Mutant], within: u64, jobs: usize) -> bool {
    let (mut tries, mut missed) = (Vec::new(), Vec::new());
    for mutant in wanted {
        match catch(*mutant, within, jobs) {
            Ok(caught) => {
                tries.push(caught.tried);
                println!("{}", line(*mutant, &caught));
            }
            Err(why) => {
                println!("{:<26} NOT CAUGHT within {within} seeds: {why}", mutant.word());
                missed.push(mutant.word());
            }
        }
    }
    tries.sort_unstable();
    let median = tries.get(tries.len() / 2).copied().unwrap_or(0);
    println!("mutants: {} of {} caught, median at seed {median}", tries.len(), wanted.len());
    missed.is_empty() && median <= MEDIAN_MAX
}

fn line(mutant: Mutant, caught: &Caught) -> String {
    let promise = breaks(mutant);
    let what = caught.report.broken.iter().find(|b| b.promise == promise).map_or("", |b| b.what.as_str());
    let what: String = what.lines().next().unwrap_or_default().chars().take(90).collect();
    format!(
        "{:<26} seed {:<4} {:<13} executed {:>8}: {what}",
        mutant.word(),
        caught.seed,
        promise,
        caught.report.executed
    )
}

/// The first seed that catches it, looked for on several threads.
fn catch(mutant: Mutant, within: u64, jobs: usize) -> Result<Caught, String> {
    let (next, done, best) = (AtomicU64::new(1), AtomicBool::new(false), Mutex::new(None::<Caught>));
    let (executed, others) = (AtomicU64::new(0), Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        for _ in 0..jobs.max(1) {
            scope.spawn(|| {
                while !done.load(Ordering::Relaxed) {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed > within {
                        return;
                    }
                    let report = run(&Wish { seed, mutant: Some(mutant), ..Wish::default() });
                    executed.fetch_add(report.executed, Ordering::Relaxed);
                    others.lock().extend(report.broken.iter().map(|b| b.promise));
                    if convicts(mutant, seed, &report) {
                        done.store(true, Ordering::Relaxed);
                        let mut best = best.lock();
                        if best.as_ref().is_none_or(|b| seed < b.seed) {
                            *best = Some(Caught { seed, tried: seed, report });
                        }
                    }
                }
            });
        }
    });
    best.into_inner().ok_or_else(|| {
        let mut others = others.into_inner();
        others.sort_unstable();
        others.dedup();
        format!("executed {} times; other promises that broke: {others:?}", executed.into_inner())
    })
}

fn convicts(mutant: Mutant, seed: u64, report: &Report) -> bool {
    let promise = breaks(mutant);
    let broken = report.executed > 0 && report.broken.iter().any(|b| b.promise == promise);
    broken && run(&Wish { seed, ..Wish::default() }).broken.is_empty()
}
