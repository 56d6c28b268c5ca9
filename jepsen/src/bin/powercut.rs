//! `make powercut`: power cuts under real nodes. Ends with status 0 only when no promise was broken.

use clap::{Parser, ValueEnum};
use claviger_jepsen::demo::say;
use claviger_jepsen::power::{Part, Tally, rights, run};
use std::process::ExitCode;
use std::time::{SystemTime, UNIX_EPOCH};

/// Cuts the power of file systems under three nodes at full load, and looks for what was acknowledged. Needs root.
#[derive(Parser)]
struct Cli {
    /// How many cuts under honest nodes.
    #[arg(long, default_value_t = 20)]
    cuts: u64,
    /// Who is cut and when; by the clock when not given.
    #[arg(long)]
    seed: Option<u64>,
    /// One part alone.
    #[arg(long, value_enum)]
    only: Option<Only>,
}

#[derive(Clone, Copy, ValueEnum)]
enum Only {
    Cuts,
    Liars,
    Damage,
}

impl Cli {
    fn parts(&self) -> Vec<Part> {
        match self.only {
            None => vec![Part::Cuts, Part::Liars, Part::Damage],
            Some(Only::Cuts) => vec![Part::Cuts],
            Some(Only::Liars) => vec![Part::Liars],
            Some(Only::Damage) => vec![Part::Damage],
        }
    }
}

#[tokio::main]
async fn main() -> ExitCode {
    let cli = Cli::parse();
    let missing = rights::missing();
    if !missing.is_empty() {
        return unable(&missing);
    }
    let seed = cli.seed.unwrap_or_else(by_the_clock);
    say(format_args!(
        "powercut: seed {seed}: {} cuts of three nodes; make powercut SEED={seed} draws the same",
        cli.cuts
    ));
    match run(seed, cli.cuts, &cli.parts()).await {
        Ok(tally) => told(tally),
        Err(trouble) => {
            say(format_args!("powercut: FAILED with seed {seed}: {trouble}"));
            ExitCode::FAILURE
        }
    }
}

/// Where everything must be there, a test that cannot run is red.
fn unable(missing: &[String]) -> ExitCode {
    let must = std::env::var("CI").is_ok_and(|word| word == "true");
    say(format_args!("powercut: {}, for there is missing:", if must { "FAILED" } else { "skipped" }));
    missing.iter().for_each(|what| say(format_args!("  {what}")));
    if must { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

fn told(Tally { cuts, violations }: Tally) -> ExitCode {
    say(format_args!("powercut: {cuts} cuts, {violations} violations"));
    if violations == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn by_the_clock() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}
