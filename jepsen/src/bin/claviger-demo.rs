//! `make demo`: tells the story, ends with status 0 only when every step held. `KEEP=1` leaves the cluster running.

use claviger_jepsen::demo;
use std::process::ExitCode;

#[tokio::main]
async fn main() -> ExitCode {
    let keep = std::env::var_os("KEEP").is_some_and(|word| word == "1");
    match demo::run(keep).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}
