//! `clavigerd run` with an empty call and an empty stream beside its own services: what encryption is measured against.
//! Nobody may run it for anything but `make bench`.

use std::{path::Path, process::ExitCode};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [run, option, file] = &arguments[..] else { return ExitCode::FAILURE };
    if (run.as_str(), option.as_str()) != ("run", "--config") {
        return ExitCode::FAILURE;
    }
    match clavigerd::run_beside(Path::new(file), claviger_jepsen::bench::ceiling::beside) {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            claviger_jepsen::demo::say(format_args!("claviger-ceiling: {why}"));
            ExitCode::FAILURE
        }
    }
}
