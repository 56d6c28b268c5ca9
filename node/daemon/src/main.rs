//! clavigerd: the node as a process. Configuration, hardening, the real clock, randomness, disk and TLS behind the seams;
//! the node itself is `claviger-server`, and `wiring` the one place where the two meet.
//!
//! Must not contain: what the node decides. The simulator runs the node without any of this.

mod clock;
mod config;
mod dev;
mod entropy;
mod hardening;
mod in_flight;
mod listen;
mod logs;
mod network;
mod peer;
mod scrape;
mod tls;
mod wiring;

use clap::{Parser, Subcommand};
use claviger_world::clock::Clock;
use config::{Config, Unseal};
use std::{error::Error, io::Write, net::SocketAddr, path::PathBuf, process::ExitCode};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const _: () = assert!(!claviger_core::MUTANTS, "a daemon is never built with planted bugs");

/// A node of Claviger, a key store that an organisation runs itself.
#[derive(Parser)]
#[command(name = "clavigerd", version, max_term_width = 110, arg_required_else_help = true)]
struct Cli {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Run a node. Ends with SIGTERM or SIGINT; reads its certificates again with SIGHUP.
    Run {
        /// The configuration: see deploy/clavigerd.example.toml.
        #[arg(long, value_name = "FILE")]
        config: PathBuf,
    },
    /// Try a configuration and all files that it names, and print what would be in force. Prints no secret.
    Check {
        /// The configuration.
        #[arg(long, value_name = "FILE")]
        config: PathBuf,
    },
    /// Run one node that opens itself, for trying the API. Keep nothing of worth in it.
    Dev {
        /// Its folder, made when it is not there; never a folder that something else uses.
        #[arg(long, value_name = "DIR", default_value = "claviger-dev")]
        data: PathBuf,
        /// Where it listens for callers.
        #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:7001")]
        listen: SocketAddr,
    },
    /// Print the release.
    Version,
}

fn main() -> ExitCode {
    let done = match Cli::parse().verb {
        Verb::Run { config } => run(&config),
        Verb::Check { config } => check(&config),
        Verb::Dev { data, listen } => develop(&data, listen),
        Verb::Version => say(&format!("clavigerd {}\n", env!("CARGO_PKG_VERSION"))),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            // With the standard error gone there is nobody left to tell.
            let _ = writeln!(std::io::stderr(), "clavigerd: {e}");
            ExitCode::FAILURE
        }
    }
}

type Done = Result<(), Box<dyn Error>>;

fn run(file: &std::path::Path) -> Done {
    let config = Config::load(file)?;
    logs::start(&config.log);
    hardening::harden()?;
    wiring::run(config, None)
}

fn develop(data: &std::path::Path, listen: SocketAddr) -> Done {
    hardening::harden()?;
    let home = dev::Home::take(data, listen)?;
    logs::start(&home.config.log);
    wiring::run(home.config.clone(), Some(home))
}

fn check(file: &std::path::Path) -> Done {
    let config = Config::load(file)?;
    let now = clock::MachineClock.now();
    let credentials = tls::Credentials::load(&config, now)?;
    if let Unseal::Static(slot) = &config.unseal {
        drop(tls::static_slot(slot)?);
    }
    say(&config.to_string())?;
    for (section, expires_at) in credentials.expiries {
        say(&format!("# {section}: the certificate expires at {expires_at}\n"))?;
    }
    say(&format!("# {}: good\n", file.display()))
}

fn say(text: &str) -> Done {
    Ok(std::io::stdout().write_all(text.as_bytes())?)
}
