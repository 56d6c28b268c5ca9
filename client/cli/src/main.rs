//! claviger: the command line. Each verb is a room of its own; this file only chooses one and tells how it ended.
//!
//! Exit codes: 0 it was done, 1 it was not, 2 the cluster is sealed or was never founded.

mod about;
mod args;
mod audit;
mod cert;
mod chance;
mod crypt;
mod custodian;
mod custody;
mod failure;
mod files;
mod key;
mod lines;
mod members;
mod offer;
mod operator;
mod output;
mod recover;
mod reencrypt;
mod role;
mod settings;
mod snapshot;
mod status;
mod stream;
mod words;
mod x509;

use args::{Cli, Verb};
use clap::Parser;
use clap::error::ErrorKind;
use failure::Failure;
use output::{Out, Report};
use settings::Settings;
use std::process::ExitCode;

fn main() -> ExitCode {
    match Cli::try_parse() {
        Ok(cli) => run(cli),
        Err(usage) => told(&usage),
    }
}

/// Usage errors exit with 1: clap's own 2 means "sealed" here.
fn told(usage: &clap::Error) -> ExitCode {
    let asked_for = matches!(usage.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion);
    let _ = usage.print(); // nobody is left to tell when the terminal is gone
    if asked_for { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn run(cli: Cli) -> ExitCode {
    let ended = Settings::gather(&cli.global).and_then(|settings| {
        let out = Out::new(settings.output);
        let report = dispatch(cli.verb, &settings, &out)?;
        out.show(&report)?;
        Ok(report.exit)
    });
    match ended {
        Ok(exit) => ExitCode::from(exit),
        Err(failure) => failure.tell(),
    }
}

/// A current-thread runtime: one call at a time is all that a command line makes.
fn dispatch(verb: Verb, settings: &Settings, out: &Out) -> Result<Report, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let report = runtime.block_on(async {
        match verb {
            Verb::Cert(verb) => cert::run(verb),
            Verb::Operator(verb) => operator::run(verb, settings, out).await,
            Verb::Custodian(verb) => custodian::run(verb, settings, out).await,
            Verb::Key(verb) => key::run(verb, settings).await,
            Verb::Encrypt(verb) => crypt::encrypt(verb, settings).await,
            Verb::Decrypt(verb) => crypt::decrypt(verb, settings).await,
            Verb::ReEncrypt(verb) => reencrypt::run(verb, settings).await,
            Verb::Role(verb) => role::run(verb, settings).await,
            Verb::Audit(verb) => audit::run(verb, settings, out).await,
            Verb::Version => Ok(about::version()),
            Verb::Completions(verb) => Ok(about::completions(&verb)),
        }
    });
    // A read of a pipe that nobody writes into any more would be waited for.
    runtime.shutdown_background();
    report
}
