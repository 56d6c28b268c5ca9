//! What is printed of runs: one line each, a table of all, and the story of one that broke a promise.

use crate::command::without;
use crate::run::{Report, Wish};
use crate::swarm::Outcome;
use std::fmt::Write;
use std::time::Duration;

/// Tales before the first broken promise that are told.
const TALES_TOLD: usize = 60;

/// One run in one line.
pub fn line(report: &Report) -> String {
    let (tally, plan) = (&report.tally, &report.plan);
    let faults: u64 = tally.faults.values().sum();
    format!(
        "seed {}: {} nodes, {} of {} shares, {:.0} simulated s, {} calls answered, {} refused, {} unknown, {} ceremonies, {faults} faults, {} violations",
        report.seed,
        plan.nodes,
        plan.threshold,
        plan.custodians,
        report.lasted.as_secs_f64(),
        tally.answered,
        tally.refused,
        tally.unknown,
        tally.ceremonies,
        report.broken.len()
    )
}

/// All runs in a table.
pub fn table(outcome: &Outcome) -> String {
    let mut out = String::new();
    let (answered, refused, unknown, ceremonies) = outcome.calls;
    // Writing to a string does not fail.
    let _ = writeln!(
        out,
        "{} seeds, {} of them counted, {} compared with a second run",
        outcome.seeds, outcome.counted, outcome.compared
    );
    let _ = writeln!(out, "calls: {answered} answered, {refused} refused, {unknown} unknown; {ceremonies} ceremonies");
    let _ = writeln!(out, "faults that fired:");
    for (kind, count) in &outcome.faults {
        let _ = writeln!(out, "  {kind:<16}{count:>10}");
    }
    let _ = writeln!(out, "promises, and how often each was checked on a case that could have failed:");
    for (promise, count) in &outcome.checked {
        let _ = writeln!(out, "  {:<16}{count:>10}", promise.to_string());
    }
    let [after, before, stale] = outcome.revocations;
    let _ = writeln!(
        out,
        "revocations: (a) {after}, (b) {before}, (c) {stale}; {} keys too much to search",
        outcome.gave_up
    );
    if !outcome.rare.is_empty() {
        let _ = writeln!(out, "rare branches: runs that take them, times reached, times taken without need:");
    }
    for (name, (on, reached, taken)) in &outcome.rare {
        let _ = writeln!(out, "  {name:<40}{on:>6}{reached:>10}{taken:>10}");
    }
    out
}

/// Who did what, which promise broke, and how to see it again.
pub fn story(wish: &Wish, report: &Report) -> String {
    let mut out = format!("\nVIOLATION in seed {}\n", report.seed);
    let Some(first) = report.broken.first() else { return out };
    let plan = &report.plan;
    let _ = writeln!(out, "{} nodes, {} of {} shares, {:?}", plan.nodes, plan.threshold, plan.custodians, plan.timings);
    let before: Vec<_> = report.tales.iter().filter(|tale| tale.at <= first.at).collect();
    for tale in &before[before.len().saturating_sub(TALES_TOLD)..] {
        let _ = writeln!(out, "  {:>10} {:<9} {}", seconds(tale.at), who(tale.who), tale.what);
    }
    for broken in report.broken.iter().take(10) {
        let _ =
            writeln!(out, "  {:>10} the promise `{}` is broken: {}", seconds(broken.at), broken.promise, broken.what);
    }
    if report.broken.len() > 10 {
        let _ = writeln!(out, "  and {} more", report.broken.len() - 10);
    }
    let _ = write!(out, "replay: {}", replay(wish));
    out
}

/// The one line that replays a run.
pub fn replay(wish: &Wish) -> String {
    let mut line = format!("make sim SEED={}", wish.seed);
    if !wish.without.is_empty() {
        let _ = write!(line, " WITHOUT={}", without(wish));
    }
    if let Some(length) = wish.length {
        let _ = write!(line, " UNTIL={}", length.as_secs());
    }
    if let Some(mutant) = wish.mutant {
        let _ = write!(line, " MUTANT={}", mutant.word());
    }
    if wish.canary {
        line.push_str(" CANARY=1");
    }
    line
}

fn seconds(at: Duration) -> String {
    format!("{:.3} s", at.as_secs_f64())
}

fn who(number: u64) -> String {
    match number {
        0 => "world".into(),
        1..100 => format!("node {number}"),
        _ => format!("client {}", number - 100),
    }
}
