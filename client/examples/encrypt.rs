//! Encrypts a line with a key, decrypts it again, and says which version of the key did it.
//!
//! ```sh
//! export CLAVIGER_ADDR=127.0.0.1:7001,127.0.0.1:7002   # the nodes
//! export CLAVIGER_CA=ca.crt CLAVIGER_CERT=me.crt CLAVIGER_KEY_FILE=me.key
//! cargo run --example encrypt -- tenants/default/keys/invoices "in confidence"
//! ```
//!
//! The key must exist (`claviger key create invoices`), and the certificate must have been granted its use (`claviger
//! role set`).

#![allow(clippy::print_stdout, reason = "an example shows what it does")]

use claviger_client::{Client, Config, Files};
use std::{env, error::Error};

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let [key, text] = &env::args().skip(1).collect::<Vec<_>>()[..] else {
        return Err("usage: encrypt KEY-NAME TEXT".into());
    };
    let files = Files {
        ca: env::var("CLAVIGER_CA")?.into(),
        cert: env::var("CLAVIGER_CERT")?.into(),
        key: env::var("CLAVIGER_KEY_FILE")?.into(),
    };
    let client = Client::new(&Config::new(env::var("CLAVIGER_ADDR")?.parse()?, files))?;

    // What the ciphertext is for travels with it, in clear and authenticated: it must be given again to decrypt.
    let context = [("purpose".to_owned(), "example".to_owned())];
    let sealed = client.encrypt(key, text.clone().into_bytes(), &context).await?;
    println!("{} bytes under version {}, at revision {}", sealed.ciphertext.len(), sealed.version, sealed.revision);

    let opened = client.decrypt(key, sealed.ciphertext.clone(), &context).await?;
    println!("opened: {}", String::from_utf8_lossy(&opened.plaintext));

    let elsewhere = client.decrypt(key, sealed.ciphertext, &[]).await;
    println!("without its context: {}", elsewhere.expect_err("another context never opens it"));
    Ok(())
}
