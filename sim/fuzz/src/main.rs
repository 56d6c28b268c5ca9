//! One target under libFuzzer: `FUZZ_TARGET` names it, `FUZZ_SEEDS` is the folder that its first inputs are written to.
#![no_main]

use claviger_fuzz::{Target, vectors};
use libfuzzer_sys::fuzz_target;
use std::{
    env, fs,
    io::{self, Write},
    path::Path,
    sync::OnceLock,
};

static TARGET: OnceLock<fn(&[u8])> = OnceLock::new();

fuzz_target!(
    init: begin(),
    |input: &[u8]| TARGET.get().expect("begun first")(input)
);

/// All targets, each with its crate's seeds.
fn all() -> [(&'static [Target], Vec<Vec<u8>>); 4] {
    [
        (claviger_core::fuzz::TARGETS, claviger_core::fuzz::seeds()),
        (claviger_ledger::fuzz::TARGETS, claviger_ledger::fuzz::seeds()),
        (claviger_server::fuzz::TARGETS, claviger_server::fuzz::seeds()),
        (clavigerd::fuzz::TARGETS, clavigerd::fuzz::seeds()),
    ]
}

/// Without a name it lists them.
fn begin() {
    let wanted = env::var("FUZZ_TARGET").unwrap_or_default();
    let found = all().into_iter().find_map(|(targets, seeds)| {
        targets.iter().find(|(name, _)| *name == wanted).map(|(_, target)| (*target, seeds))
    });
    let Some((target, seeds)) = found else {
        let names: Vec<&str> = all().into_iter().flat_map(|(targets, _)| targets).map(|(name, _)| *name).collect();
        writeln!(io::stdout(), "{}", names.join("\n")).expect("somebody reads the list");
        std::process::exit(if wanted.is_empty() { 0 } else { 2 });
    };
    if let Ok(folder) = env::var("FUZZ_SEEDS") {
        for (number, seed) in seeds.into_iter().chain(vectors()).enumerate() {
            fs::write(Path::new(&folder).join(format!("seed-{number}")), seed).expect("the folder can be written");
        }
    }
    TARGET.set(target).expect("begun once");
}
