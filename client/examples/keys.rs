//! A key from its first version to its second: made once though it is asked for twice, used, rotated, used on.
//!
//! ```sh
//! . dev/env                                   # an administrator's certificate: only they make keys
//! cargo run -p claviger-client --example keys -- invoices
//! ```
//!
//! The key is `tenants/default/keys/invoices`; a certificate that may encrypt with it is granted that by `claviger role set`.

#![allow(clippy::print_stdout, reason = "an example shows what it does")]

mod shared;

use claviger_client::{Client, Error, v1};
use std::{
    env,
    time::{SystemTime, UNIX_EPOCH},
};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let name = format!("tenants/default/keys/{}", env::args().nth(1).ok_or("usage: keys KEY")?);
    let client = shared::client()?;

    // One logical call, one request id. The client makes one for each call, and keeps it while it asks one node after
    // another. Give your own where the call must stay the same over a restart of your process: keep it with your record of
    // the job before you ask.
    let request_id = SystemTime::now().duration_since(UNIX_EPOCH)?.as_nanos().to_be_bytes();
    let first = create(&client, &name, &request_id).await?;
    let again = create(&client, &name, &request_id).await?;
    println!("made at revision {}, and asked again: still revision {}", first.revision, again.revision);

    let rotated = client.rotate_key(&name).await?;
    println!("rotated: version {} encrypts now", rotated.key.map_or(0, |key| key.primary_version));

    let key = client.get_key(&name).await?.key.ok_or("a key without a key")?;
    println!("{} has {} versions, of which all decrypt", key.name, key.versions.len());

    match client.create_key(v1::CreateKeyRequest { name, ..Default::default() }).await {
        Err(Error::Refused { reason, .. }) if reason == "already_exists" => println!("another call for it: {reason}"),
        other => println!("another call for it: {other:?}"),
    }
    Ok(())
}

async fn create(client: &Client, name: &str, request_id: &[u8]) -> Result<v1::CreateKeyResponse, Error> {
    let labels = [("env".to_owned(), "example".to_owned())].into();
    let request_id = request_id.to_vec().into();
    client.create_key(v1::CreateKeyRequest { name: name.into(), labels, request_id, ..Default::default() }).await
}
