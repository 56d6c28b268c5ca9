//! `sim`: the whole cluster in a simulated world, seed by seed. `sim --help` says how; the Makefile has the usual ways.

#![allow(clippy::print_stdout, reason = "a command line tool speaks on standard output")]

use clap::Parser;
use claviger_sim::command::{self, Asked};
use std::process::ExitCode;

fn main() -> ExitCode {
    command::obey(&Asked::parse())
}
