//! One caller never sees time go back, whichever node answers next; and two programs that hand work to each other need
//! not either, if they hand over the revision with it.
//!
//! ```sh
//! . dev/env
//! cargo run -p claviger-client --example freshness -- tenants/default/keys/invoices
//! ```

#![allow(clippy::print_stdout, reason = "an example shows what it does")]

mod shared;

use std::{env, error::Error};

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let key = env::args().nth(1).ok_or("usage: freshness KEY-NAME")?;
    let writer = shared::client()?;
    writer.rotate_key(&key).await?;
    println!("the writer has seen revision {}", writer.revision());

    // Another program, of which this client knows nothing. Every reading is as fresh as if there were one node only; the
    // revision makes it wait for exactly this rotation, even where it would allow a stale answer.
    let reader = shared::client()?;
    reader.at_least(writer.revision());
    let read = reader.get_key(&key).await?;
    println!("the reader's answer reflects revision {}", read.revision);
    assert!(read.revision >= writer.revision());

    // Each node alone, one after the other: none answers with less than what was seen.
    for (node, alone) in reader.each() {
        println!("{node} answers with revision {}", alone.get_key(&key).await?.revision);
    }
    Ok(())
}
