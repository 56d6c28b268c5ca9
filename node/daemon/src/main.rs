//! The command line of `clavigerd`.

use clap::{Parser, Subcommand};
use std::{io::Write, net::SocketAddr, path::PathBuf, process::ExitCode};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// A node of Claviger, a key store that an organisation runs itself.
#[derive(Parser)]
#[command(name = "clavigerd", version, max_term_width = 110, arg_required_else_help = true)]
struct Cli {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Run a node. Ends with SIGTERM or SIGINT; reads its certificates again with SIGHUP. Ends with status 3 where people must
    /// look before it is started again: its log says what at.
    Run {
        /// The configuration: see deploy/clavigerd.example.toml.
        #[arg(long, value_name = "FILE")]
        config: PathBuf,
        /// A ticket of `claviger operator join`: a node that belongs to no cluster yet joins that one. Looked at once; the
        /// node that has joined needs it no more.
        #[arg(long = "join", value_name = "FILE")]
        ticket: Option<PathBuf>,
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

/// The status of a node that ended, and must not be started again before people have looked.
const FOR_PEOPLE: u8 = 3;

fn main() -> ExitCode {
    let done = match Cli::parse().verb {
        Verb::Run { config, ticket } => clavigerd::run(&config, ticket.as_deref()),
        Verb::Check { config } => clavigerd::check(&config).and_then(|text| say(&text)),
        Verb::Dev { data, listen } => clavigerd::develop(&data, listen),
        Verb::Version => say(&format!("clavigerd {}\n", env!("CARGO_PKG_VERSION"))),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            // With the standard error gone there is nobody left to tell.
            let _ = writeln!(std::io::stderr(), "clavigerd: {e}");
            if clavigerd::is_for_people(&*e) { ExitCode::from(FOR_PEOPLE) } else { ExitCode::FAILURE }
        }
    }
}

fn say(text: &str) -> clavigerd::Done {
    Ok(std::io::stdout().write_all(text.as_bytes())?)
}
