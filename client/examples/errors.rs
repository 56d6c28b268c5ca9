//! What can go wrong, by who must act next: the one question that a program has to answer.
//!
//! ```sh
//! . dev/env-app
//! cargo run -p claviger-client --example errors -- tenants/default/keys/invoices
//! ```

#![allow(clippy::print_stdout, reason = "an example shows what it does")]

mod shared;

use claviger_client::{Error, Why};
use std::env;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let key = env::args().nth(1).ok_or("usage: errors KEY-NAME")?;
    let client = shared::client()?;
    tell("a good call", client.encrypt(&key, b"x".to_vec(), &[]).await);
    tell("a name that is none", client.encrypt("Invoices", b"x".to_vec(), &[]).await);
    tell(
        "a key that is not there, or not ours",
        client.encrypt("tenants/default/keys/absent", b"x".to_vec(), &[]).await,
    );
    tell("a ciphertext that is none", client.decrypt(&key, b"not a ciphertext".to_vec(), &[]).await);
    tell("what only administrators may", client.rotate_key(&key).await);
    Ok(())
}

fn tell<T>(what: &str, outcome: Result<T, Error>) {
    println!("{what}: {}", outcome.map_or_else(|error| whose_turn(&error), |_| "done".into()));
}

/// The client has retried already what may be repeated, on every node, until its deadline: whoever repeats a `Refused`
/// only hears it again.
fn whose_turn(error: &Error) -> String {
    match error {
        Error::Refused { reason, message, .. } => format!("ask otherwise ({reason}): {message}"),
        Error::Denied { message } => format!("ask an administrator for the right: {message}"),
        Error::Unavailable { why: Why::Sealed, .. } => "wait: custodians must open the cluster".into(),
        // Only of calls that carry no request id, as a seal: look before you repeat it.
        Error::Unavailable { why: Why::Unknown, .. } => "whether it was done is unknown: look".into(),
        Error::Unavailable { why, message, tried } => {
            format!("come again later ({why}, {} attempts): {message}", tried.len())
        }
        Error::Broken { message } => format!("call an operator: {message}"),
        Error::Config(mistake) => format!("mend the configuration: {mistake}"),
    }
}
