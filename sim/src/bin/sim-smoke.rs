//! `sim-smoke --seeds 1..=20 [--check-equal] [--local-reads | --lying-disk] [--trace FILE]`: runs the smoke, one line a seed; the last
//! line counts. `--check-equal` runs each seed in a second process too and compares. Ends with 1 if anything was wrong.

#![allow(clippy::print_stdout, reason = "a command line tool speaks on standard output")]

use claviger_sim::bare::smoke::{Mutant, Report, run};
use std::env;
use std::fs::File;
use std::ops::RangeInclusive;
use std::process::{Command, ExitCode};

struct Asked {
    seeds: RangeInclusive<u64>,
    check_equal: bool,
    mutant: Mutant,
    trace: Option<String>,
}

fn main() -> ExitCode {
    match parse(env::args().skip(1)) {
        Ok(asked) => smoke(&asked),
        Err(why) => {
            eprintln!(
                "sim-smoke: {why}; usage: sim-smoke --seeds 1..=20 [--check-equal] [--local-reads | --lying-disk] [--trace FILE]"
            );
            ExitCode::from(2)
        }
    }
}

fn smoke(asked: &Asked) -> ExitCode {
    let (mut seeds, mut violations) = (0, 0);
    for seed in asked.seeds.clone() {
        let trace = asked.trace.as_ref().map(|path| File::create(path).expect("the trace file can be made"));
        let report = run(seed, asked.mutant, trace);
        let mut wrong = report.violations.clone();
        if asked.check_equal {
            wrong.extend(other_process(asked, &report));
        }
        tell(&report, &wrong);
        seeds += 1;
        violations += wrong.len();
    }
    println!("sim-smoke: {seeds} seeds, {violations} violations");
    if violations == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn tell(report: &Report, wrong: &[String]) {
    let Report { seed, digest, events, tally, lost_batches, installs, .. } = report;
    println!(
        "seed {seed} hash {digest} events {events} answered {} refused {} unknown {} resolved {} lost {lost_batches} installs {installs}",
        tally.answered, tally.refused, tally.unknown, tally.resolved
    );
    for what in wrong {
        println!("  VIOLATION {what}; replay: sim-smoke --seeds {seed}..={seed} --trace FILE");
    }
}

/// Runs the same seed in another process. What is wrong if that does not tell the same.
fn other_process(asked: &Asked, report: &Report) -> Option<String> {
    let seed = report.seed;
    let mut command = Command::new(env::current_exe().expect("a running program has a path"));
    command.args(["--seeds", &format!("{seed}..={seed}")]);
    match asked.mutant {
        Mutant::None => (),
        Mutant::LocalReads => {
            command.arg("--local-reads");
        }
        Mutant::LyingDisk => {
            command.arg("--lying-disk");
        }
    }
    let said = command.output().expect("this program can be run again").stdout;
    let same = String::from_utf8_lossy(&said).contains(&format!("hash {} events {} ", report.digest, report.events));
    (!same).then(|| "another process came to another hash".into())
}

fn parse(mut args: impl Iterator<Item = String>) -> Result<Asked, String> {
    let mut asked = Asked { seeds: 1..=20, check_equal: false, mutant: Mutant::None, trace: None };
    while let Some(arg) = args.next() {
        match arg.as_str() {
            "--seeds" => {
                asked.seeds = seeds(&args.next().unwrap_or_default()).ok_or("seeds are a number or a range")?
            }
            "--check-equal" => asked.check_equal = true,
            "--local-reads" => asked.mutant = Mutant::LocalReads,
            "--lying-disk" => asked.mutant = Mutant::LyingDisk,
            "--trace" => asked.trace = Some(args.next().ok_or("--trace wants a file")?),
            _ => return Err("unknown argument".into()),
        }
    }
    Ok(asked)
}

fn seeds(text: &str) -> Option<RangeInclusive<u64>> {
    match text.split_once("..=") {
        Some((from, to)) => Some(from.parse().ok()?..=to.parse().ok()?),
        None => text.parse().ok().map(|seed| seed..=seed),
    }
}
