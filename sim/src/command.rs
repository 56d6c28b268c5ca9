//! The command line: which seeds, how long, what is planted; and what is printed of it.
#![allow(clippy::disallowed_methods, reason = "around the runs, not in them: the wall clock is what is asked for")]
#![allow(clippy::print_stdout, reason = "a command line tool speaks on standard output")]

use crate::dice::number_of;
use crate::report;
use crate::run::{Report, Wish, note_panics, run};
use crate::shrink::shrunk;
use crate::swarm::{Swarm, swarm};
use clap::Parser;
use claviger_core::mutants::Mutant;
use std::collections::BTreeSet;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

/// Runs a whole Claviger cluster in a simulated world. One seed decides everything; the same seed gives the same run.
#[derive(Parser, Clone, Debug)]
#[command(name = "sim", version, about)]
pub struct Asked {
    /// Run this seed alone, and print its trace hash
    #[arg(long, value_name = "N")]
    pub seed: Option<u64>,
    /// Leave these faults of the seed's plan out (numbers as the story tells them)
    #[arg(long, value_name = "N,N...", value_delimiter = ',', requires = "seed")]
    pub without: Vec<usize>,
    /// End load and faults after so many simulated seconds
    #[arg(long, value_name = "S", requires = "seed")]
    pub until: Option<u64>,
    /// Write every line of the trace to this file
    #[arg(long, value_name = "FILE", requires = "seed")]
    pub trace: Option<PathBuf>,
    /// Run fresh seeds for so many minutes
    #[arg(long, value_name = "M", default_value_t = 8.0)]
    pub minutes: f64,
    /// Fewer seeds than this, and the run fails
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub at_least: u64,
    /// What fresh seeds are derived from, as the commit's hash: the same again is the same run
    #[arg(long, value_name = "TEXT", default_value = "")]
    pub from: String,
    /// Threads, each with a seed of its own at a time
    #[arg(long, value_name = "N", default_value_t = 2)]
    pub jobs: usize,
    /// A file of seeds that are run first, one a line
    #[arg(long, value_name = "FILE")]
    pub seeds: Option<PathBuf>,
    /// Run so many of the seeds twice and compare the traces
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub twice: u64,
    /// Plant this bug
    #[arg(long, value_name = "NAME", value_parser = mutant)]
    pub mutant: Option<Mutant>,
    /// Look for every planted bug, or for those named, and say by which seed and promise it was caught
    #[arg(long, value_name = "NAME,NAME...", num_args = 0.., value_delimiter = ',', value_parser = mutant)]
    pub mutants: Option<Vec<Mutant>>,
    /// Only so many of the planted bugs, which change with --from
    #[arg(long, value_name = "N", requires = "mutants")]
    pub some: Option<usize>,
    /// Seeds that a planted bug is looked for with, at most
    #[arg(long, value_name = "N", default_value_t = 200)]
    pub within: u64,
    /// Say that a promise is broken whatever happens: must fail
    #[arg(long)]
    pub canary: bool,
    /// Print simulated seconds per second of processor time over so many seeds
    #[arg(long, value_name = "N")]
    pub bench: Option<u64>,
    /// Report a violation as it is, without looking for a smaller one
    #[arg(long)]
    pub no_shrink: bool,
}

fn mutant(word: &str) -> Result<Mutant, String> {
    let found = Mutant::ALL.iter().copied().find(|m| m.word() == word);
    found.ok_or_else(|| {
        let all: Vec<&str> = Mutant::ALL.iter().map(|m| m.word()).collect();
        format!("one of {}", all.join(", "))
    })
}

/// Does what was asked. 1 when a promise was broken, or what was asked could not be done.
pub fn obey(asked: &Asked) -> ExitCode {
    note_panics();
    let good = match (&asked.mutants, asked.bench, asked.seed) {
        (Some(which), ..) => crate::hunt::hunt(&wanted(which, asked), asked.within, asked.jobs),
        (None, Some(seeds), _) => bench(seeds),
        (None, None, Some(seed)) => one(asked, seed),
        (None, None, None) => many(asked),
    };
    if good { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// The planted bugs that are looked for: those named, or all, or some of all.
fn wanted(named: &[Mutant], asked: &Asked) -> Vec<Mutant> {
    let all = if named.is_empty() { Mutant::ALL } else { named };
    let Some(some) = asked.some else { return all.to_vec() };
    let first = (number_of(0, &asked.from) % all.len() as u64) as usize;
    // Far from each other in the list: neighbours are alike.
    all.iter().cycle().skip(first).step_by(all.len() / 2 + 1).take(some).copied().collect()
}

fn one(asked: &Asked, seed: u64) -> bool {
    let wish = Wish {
        seed,
        mutant: asked.mutant,
        without: asked.without.iter().copied().collect(),
        length: asked.until.map(Duration::from_secs),
        canary: asked.canary,
        trace_file: asked.trace.clone(),
    };
    let report = run(&wish);
    println!("{}", report::line(&report));
    println!("trace {}", report.digest);
    if report.broken.is_empty() {
        return true;
    }
    tell(asked, &wish, &report);
    false
}

/// Tells a violation, after looking for the smallest run that shows it.
fn tell(asked: &Asked, wish: &Wish, report: &Report) {
    let (wish, report) =
        if asked.no_shrink || wish.canary { (wish.clone(), report.clone()) } else { shrunk(wish, report) };
    println!("{}", report::story(&wish, &report));
}

fn many(asked: &Asked) -> bool {
    let kept = match &asked.seeds {
        Some(file) => match kept_seeds(file) {
            Ok(seeds) => seeds,
            Err(why) => {
                eprintln!("sim: {}: {why}", file.display());
                return false;
            }
        },
        None => Vec::new(),
    };
    let base = number_of(0, &asked.from) >> 16;
    let plan = Swarm {
        kept,
        base,
        time: Duration::from_secs_f64(asked.minutes * 60.0),
        jobs: asked.jobs.max(1),
        twice: asked.twice,
        mutant: asked.mutant,
        canary: asked.canary,
    };
    let outcome = swarm(&plan);
    print!("{}", report::table(&outcome));
    let mut good = outcome.broken.is_none() && outcome.unequal.is_empty();
    if let Some((wish, report)) = &outcome.broken {
        tell(asked, wish, report);
    }
    for seed in &outcome.unequal {
        println!("seed {seed} gave two different traces: run `make sim SEED={seed}` twice");
    }
    if outcome.broken.is_none() {
        for silent in outcome.unchecked() {
            println!("the promise `{silent}` was never checked on a case that could have failed");
            good = false;
        }
        if outcome.revocations.contains(&0) {
            println!("one of the three ways of a revocation was never checked: {:?}", outcome.revocations);
            good = false;
        }
        if outcome.counted < asked.at_least {
            println!("only {} seeds counted, of {} that are wanted", outcome.counted, asked.at_least);
            good = false;
        }
    }
    let hours = outcome.simulated.as_secs_f64() / 3_600.0;
    println!("sim: {} seeds, {hours:.1} simulated hours, {} violations", outcome.seeds, outcome.violations);
    good
}

fn kept_seeds(file: &PathBuf) -> Result<Vec<u64>, String> {
    let text = std::fs::read_to_string(file).map_err(|e| e.to_string())?;
    let lines = text.lines().map(|line| line.split('#').next().unwrap_or_default().trim());
    lines.filter(|l| !l.is_empty()).map(|l| l.parse().map_err(|_| format!("{l:?} is no seed"))).collect()
}

/// One thread, so that time spent is processor time as far as the machine gives it.
fn bench(seeds: u64) -> bool {
    let (mut simulated, start, cpu) = (Duration::ZERO, Instant::now(), processor_time());
    for seed in 1..=seeds {
        simulated += run(&Wish { seed, ..Wish::default() }).lasted;
    }
    let spent = processor_time().zip(cpu).map_or(start.elapsed(), |(now, then)| now - then);
    let rate = simulated.as_secs_f64() / spent.as_secs_f64();
    println!(
        "sim bench: {seeds} seeds, {:.0} simulated s in {:.1} s of processor time: {rate:.1} a second",
        simulated.as_secs_f64(),
        spent.as_secs_f64()
    );
    true
}

/// What this process has used so far: user and system time, in ticks of 10 ms (proc(5), fields 14 and 15).
fn processor_time() -> Option<Duration> {
    let stat = std::fs::read_to_string("/proc/self/stat").ok()?;
    let fields: Vec<&str> = stat.rsplit(')').next()?.split_whitespace().collect();
    let ticks: u64 = fields.get(11)?.parse::<u64>().ok()? + fields.get(12)?.parse::<u64>().ok()?;
    Some(Duration::from_millis(ticks * 10))
}

/// The faults of a wish as the command line has them.
pub fn without(wish: &Wish) -> String {
    let numbers: &BTreeSet<usize> = &wish.without;
    numbers.iter().map(ToString::to_string).collect::<Vec<_>>().join(",")
}
