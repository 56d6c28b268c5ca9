//! `claviger version` and `claviger completions`.

use crate::args::Cli;
use crate::output::Report;
use clap::{Args, CommandFactory};
use clap_complete::Shell;
use serde_json::json;

/// Help of `version`.
pub const VERSION_EXAMPLES: &str = "Examples:\n  claviger version\n  claviger version --output json";
/// Help of `completions`.
pub const COMPLETIONS_EXAMPLES: &str = "\
Examples:
  claviger completions bash > ~/.local/share/bash-completion/completions/claviger
  claviger completions zsh > ~/.zfunc/_claviger";

/// Which completions.
#[derive(Args)]
pub struct Completions {
    /// The shell.
    #[arg(value_enum, value_name = "SHELL")]
    shell: Shell,
}

/// The release of this program.
pub fn version() -> Report {
    let version = env!("CARGO_PKG_VERSION");
    Report::new(json!({ "version": version }), format!("claviger {version}"))
}

/// The completion script: the same in every output form.
pub fn completions(ask: &Completions) -> Report {
    let mut script = Vec::new();
    clap_complete::generate(ask.shell, &mut Cli::command(), "claviger", &mut script);
    Report::new(serde_json::Value::Null, String::from_utf8_lossy(&script).into_owned())
}
