//! `make bench`: prints a table and writes `bench.json`. Ends with status 0 when no ratio misses its floor.

use clap::{Parser, ValueEnum};
use claviger_jepsen::bench::{Part, Plan, compare, run, table::Results};
use claviger_jepsen::demo::say;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Measures what operations cost, against a ceiling or a peer in the same run.
#[derive(Parser)]
struct Cli {
    /// Where the figures are written.
    #[arg(long, value_name = "FILE", default_value = "bench.json")]
    out: PathBuf,
    /// How often each case is measured; the medians count.
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// How long one measurement of calls lasts.
    #[arg(long, value_name = "MS", default_value_t = 1_000)]
    calls_ms: u64,
    /// How long one measurement of durable writes lasts.
    #[arg(long, value_name = "MS", default_value_t = 2_000)]
    writes_ms: u64,
    /// Leaders that are killed on either side.
    #[arg(long, default_value_t = 10)]
    kills: usize,
    /// Numbers of keys that are looked at, in rising order.
    #[arg(long, value_delimiter = ',', default_value = "100,10000,100000")]
    keys: Vec<u64>,
    /// Cases whose names hold this: to look at one with a profiler.
    #[arg(long = "case", value_name = "TEXT", default_value = "")]
    named: String,
    /// Threads of every server process, ours and etcd's; 0 leaves it to them.
    #[arg(long, default_value_t = 1)]
    threads: usize,
    /// Parts of it alone.
    #[arg(long, value_enum, value_delimiter = ',')]
    only: Vec<Part>,
}

impl Cli {
    fn plan(&self) -> Plan {
        let parts = if self.only.is_empty() { Part::value_variants().to_vec() } else { self.only.clone() };
        Plan {
            rounds: self.rounds,
            calls_last: Duration::from_millis(self.calls_ms),
            writes_last: Duration::from_millis(self.writes_ms),
            kills: self.kills,
            keys: self.keys.clone(),
            parts,
            named: self.named.clone(),
            threads: self.threads,
        }
    }
}

#[tokio::main]
async fn main() -> ExitCode {
    let cli = Cli::parse();
    let mut results = Results::default();
    let ran = run(&cli.plan(), &mut results).await;
    compare(&mut results);
    say(format_args!("{results}"));
    let written = ran.and_then(|()| results.write(&cli.out));
    if let Err(trouble) = written {
        say(format_args!("bench: FAILED: {trouble}"));
        return ExitCode::FAILURE;
    }
    let missed = results.missed();
    if missed.is_empty() {
        return ExitCode::SUCCESS;
    }
    say(format_args!("bench: below the floor: {}", missed.join(", ")));
    ExitCode::FAILURE
}
