//! clavigerd: the node as a process. Configuration, hardening, the real clock, randomness, disk and TLS behind the seams;
//! the node itself is `claviger-server`, and `wiring` the one place where the two meet. The command line stands in
//! `main.rs`; the rest is a library, so that a test can run the very same process on a disk that lies.
//!
//! Must not contain: what the node decides. The simulator runs the node without any of this.

mod by_age;
mod clock;
mod config;
mod dev;
mod entropy;
#[cfg(any(test, feature = "fuzz"))]
#[doc(hidden)]
pub mod fuzz;
mod hardening;
mod hold;
mod in_flight;
mod line;
mod listen;
mod logs;
mod network;
mod peer;
mod places;
mod scrape;
mod telling;
mod tls;
mod traffic;
mod wiring;

use claviger_rocks::OpenFailed;
use claviger_server::{Ended, StartFailed};
use claviger_world::clock::Clock;
use config::{Config, Unseal};
use std::{error::Error, fmt::Write, net::SocketAddr, path::Path};
use wiring::Around;
pub use wiring::{Beside, Layer};

const _: () = assert!(!claviger_core::MUTANTS, "a daemon is never built with planted bugs");

/// What a verb comes to; an error is a sentence for the operator.
pub type Done<T = ()> = Result<T, Box<dyn Error>>;

/// Runs a node until a signal ends it, or it must end by itself. With a ticket in a file, a node that belongs to no cluster
/// joins the one that the ticket is of.
///
/// # Errors
/// What kept it from starting, or made it end.
pub fn run(file: &Path, ticket: Option<&Path>) -> Done {
    let config = Config::load(file)?;
    logs::start(&config.log);
    hardening::harden()?;
    let ticket = ticket.map(|file| tls::ticket(file, config.node.id)).transpose()?;
    wiring::run(config, None, ticket, Around::default())
}

/// Whether it is why a node ended, or did not start, that must not be started again before people have looked.
pub fn is_for_people(why: &(dyn Error + 'static)) -> bool {
    let damaged = why.downcast_ref::<OpenFailed>().is_some_and(|why| matches!(why, OpenFailed::Damaged { .. }));
    let refused = why.downcast_ref::<StartFailed>().is_some_and(StartFailed::is_for_people);
    damaged || refused || why.downcast_ref::<Ended>().is_some_and(|ended| ended.for_people)
}

/// As [`run`], with something between the node and its disk: for tests of what such a thing may do wrong.
///
/// # Errors
/// As [`run`].
pub fn run_on(file: &Path, layer: Layer) -> Done {
    let config = Config::load(file)?;
    logs::start(&config.log);
    hardening::harden()?;
    wiring::run(config, None, None, Around { layer, ..Around::default() })
}

/// As [`run`], with services beside the node's own: for measuring what they cost. They are asked behind the same TLS and the
/// same bounds, and without the node's leave.
///
/// # Errors
/// As [`run`].
pub fn run_beside(file: &Path, beside: Beside) -> Done {
    let config = Config::load(file)?;
    logs::start(&config.log);
    hardening::harden()?;
    wiring::run(config, None, None, Around { beside, ..Around::default() })
}

/// Runs one node that opens itself, in a folder of its own.
///
/// # Errors
/// As [`run`].
pub fn develop(data: &Path, listen: SocketAddr) -> Done {
    hardening::harden()?;
    let home = dev::Home::take(data, listen)?;
    logs::start(&home.config.log);
    wiring::run(home.config.clone(), Some(home), None, Around::default())
}

/// Tries a configuration and all files that it names; answers what would be in force. Holds no secret.
///
/// # Errors
/// What is wrong with it.
pub fn check(file: &Path) -> Done<String> {
    let config = Config::load(file)?;
    let now = clock::MachineClock.now();
    let credentials = tls::Credentials::load(&config, now)?;
    if let Unseal::Static(slot) = &config.unseal {
        drop(tls::static_slot(slot)?);
    }
    let mut text = config.to_string();
    for (section, expires_at) in credentials.expiries {
        writeln!(text, "# {section}: the certificate expires at {expires_at}")?;
    }
    writeln!(text, "# {}: good", file.display())?;
    Ok(text)
}
