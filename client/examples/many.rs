//! A thousand calls at once. Nothing is done for it: while many are under way in a client and its clones, they share a
//! stream by themselves, and what the stream does not answer is asked call by call.
//!
//! ```sh
//! . dev/env-app
//! cargo run -p claviger-client --example many -- tenants/default/keys/invoices
//! ```

#![allow(clippy::print_stdout, reason = "an example shows what it does")]

mod shared;

use claviger_client::Client;
use std::{collections::VecDeque, env, error::Error, time::Instant};
use tokio::task::JoinHandle;

/// Messages in all, and how many are under way at once: bound it, as you would any queue.
const MESSAGES: usize = 1_000;
const UNDER_WAY: usize = 64;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let key = env::args().nth(1).ok_or("usage: many KEY-NAME")?;
    let client = shared::client()?;
    let (started, mut under_way, mut bytes) = (Instant::now(), VecDeque::new(), 0);
    for number in 0..MESSAGES {
        if under_way.len() == UNDER_WAY {
            bytes += done(&mut under_way).await?;
        }
        under_way.push_back(encrypt(&client, &key, number));
    }
    while !under_way.is_empty() {
        bytes += done(&mut under_way).await?;
    }
    println!("{MESSAGES} messages, {bytes} bytes of ciphertext, in {:?}", started.elapsed());
    Ok(())
}

type Encrypting = JoinHandle<Result<usize, claviger_client::Error>>;

fn encrypt(client: &Client, key: &str, number: usize) -> Encrypting {
    // A clone shares connections, streams and the newest revision.
    let (client, key) = (client.clone(), key.to_owned());
    tokio::spawn(async move {
        let sealed = client.encrypt(&key, format!("message {number}").into_bytes(), &[]).await?;
        Ok(sealed.ciphertext.len())
    })
}

async fn done(under_way: &mut VecDeque<Encrypting>) -> Result<usize, Box<dyn Error>> {
    let oldest = under_way.pop_front().ok_or("nothing is under way")?;
    Ok(oldest.await??)
}
