//! What all examples begin with: a client out of the same environment variables that `claviger` reads.

use claviger_client::{Client, Config, Files};
use std::{env, error::Error, time::Duration};

/// How long one call may take here, retries on other nodes counted: an example's reader does not wait longer.
const CALL_MS: u64 = 5_000;

/// A client of the nodes in `CLAVIGER_ADDR`, a list as `127.0.0.1:7001,127.0.0.1:7011`. Connects to nobody yet.
pub fn client() -> Result<Client, Box<dyn Error>> {
    let files = Files {
        ca: variable("CLAVIGER_CA")?.into(),
        cert: variable("CLAVIGER_CERT")?.into(),
        key: variable("CLAVIGER_KEY_FILE")?.into(),
    };
    let mut config = Config::new(variable("CLAVIGER_ADDR")?.parse()?, files);
    config.deadline = Duration::from_millis(CALL_MS);
    Ok(Client::new(&config)?)
}

fn variable(name: &str) -> Result<String, String> {
    env::var(name)
        .map_err(|_| format!("{name} is not set; `clavigerd dev` writes what to source: see client/README.md"))
}
