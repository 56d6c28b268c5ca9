//! A node that must be found out: `clavigerd run`, but that its disk acknowledges what it has not synced. Power cuts are
//! tested with it; nobody may ever run it for anything else.

mod disk;

use disk::Hasty;
use std::{path::Path, process::ExitCode};

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [run, option, file] = &arguments[..] else { return ExitCode::FAILURE };
    if (run.as_str(), option.as_str()) != ("run", "--config") {
        return ExitCode::FAILURE;
    }
    match clavigerd::run_on(Path::new(file), Hasty::over) {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            claviger_jepsen::demo::say(format_args!("claviger-hasty: {why}"));
            ExitCode::FAILURE
        }
    }
}
