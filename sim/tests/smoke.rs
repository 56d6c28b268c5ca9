//! A few seeds of the smoke; `sim-smoke` runs more, each in two processes.

use claviger_sim::bare::smoke::{Mutant, run};

#[test]
fn three_seeds_have_no_violation_and_repeat_themselves() {
    for seed in [101, 102, 103] {
        let first = run(seed, Mutant::None, None);
        assert_eq!(first.violations, [""; 0], "seed {seed}");
        assert!(first.tally.answered > 500, "the cluster did work: {first:?}");
        let second = run(seed, Mutant::None, None);
        assert_eq!((first.digest, first.events), (second.digest, second.events), "seed {seed}");
    }
}

#[test]
fn reads_without_a_barrier_are_found() {
    let report = run(101, Mutant::LocalReads, None);
    assert!(report.violations.iter().any(|v| v.contains("history")), "{report:?}");
}

#[test]
fn a_disk_that_lies_is_found() {
    let found = (101..=105).filter(|seed| !run(*seed, Mutant::LyingDisk, None).violations.is_empty()).count();
    assert!(found > 0, "five seeds with a lying disk, and nothing was wrong");
}
