//! Encrypts a line with a key, decrypts it again, and says which version of the key did it.
//!
//! ```sh
//! . dev/env-app                               # or CLAVIGER_ADDR, CLAVIGER_CA, CLAVIGER_CERT, CLAVIGER_KEY_FILE by hand
//! cargo run -p claviger-client --example encrypt -- tenants/default/keys/invoices "in confidence"
//! ```
//!
//! The key must exist (`claviger key create invoices`), and the certificate must have been granted its use (`claviger
//! role set`).

#![allow(clippy::print_stdout, reason = "an example shows what it does")]

mod shared;

use std::{env, error::Error};

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let [key, text] = &env::args().skip(1).collect::<Vec<_>>()[..] else {
        return Err("usage: encrypt KEY-NAME TEXT".into());
    };
    let client = shared::client()?;

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
