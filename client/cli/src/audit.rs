//! `claviger audit`: a node's book, online and offline.

use crate::failure::Failure;
use crate::files::at;
use crate::output::{Out, Report};
use crate::settings::Settings;
use crate::words::{page_json, page_line};
use crate::x509;
use clap::{ArgGroup, Args, Subcommand};
use claviger_core::name::{Lineage, VerifyingKey};
use claviger_core::page::{BookReader, BookSummary};
use serde_json::{Value, json};
use std::io::Read;
use std::path::{Path, PathBuf};

/// Help of `audit`.
pub const EXAMPLES: &str = "\
Every node keeps a book of its own; to have them all, ask all nodes.

Examples:
  claviger audit tail --addr 10.0.0.1:7001 --follow
  claviger audit verify --cert pki/node1.crt /var/lib/claviger/files/audit-*";

const TAIL_EXAMPLES: &str = "\
Each line: number, time, operation, outcome, caller, and the first half of the key's fingerprint.

Examples:
  claviger audit tail
  claviger audit tail --last 100 --follow --addr 10.0.0.1:7001
  claviger audit tail --output json     # one page a line";
const VERIFY_EXAMPLES: &str = "\
Reads the files of one book, in their order, and checks that each page follows the one before, that none is missing, and \
that the heads are signed by the node. Needs no node. The key is that of the node's certificate for peers.

Examples:
  claviger audit verify --cert pki/node1.crt book-1 book-2
  claviger audit verify \\
      --key d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a book-1";

/// What a file is read in, in bytes.
const CHUNK_BYTES: usize = 64 << 10;

/// What to do with books.
#[derive(Subcommand)]
pub enum Verb {
    /// Show the last pages of a node's book.
    #[command(after_help = TAIL_EXAMPLES)]
    Tail(Tail),
    /// Verify a book, offline.
    #[command(after_help = VERIFY_EXAMPLES)]
    Verify(Verify),
}

/// Which pages.
#[derive(Args)]
pub struct Tail {
    /// Pages from before now, 1,000 at most.
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u32).range(0..=1_000))]
    last: u32,
    /// Go on with each new page, until interrupted.
    #[arg(long, short)]
    follow: bool,
}

/// Which book.
#[derive(Args)]
#[command(group(ArgGroup::new("signer").required(true).args(["key", "cert"])))]
pub struct Verify {
    /// The files of the book, oldest first.
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    /// The node's Ed25519 public key, 64 hexadecimal digits.
    #[arg(long, value_name = "PUBLIC_KEY")]
    key: Option<String>,
    /// The node's certificate for peers, in PEM.
    #[arg(long, value_name = "FILE")]
    cert: Option<PathBuf>,
    /// The cluster that the book must be of, 64 hexadecimal digits.
    #[arg(long, value_name = "LINEAGE")]
    lineage: Option<String>,
}

/// Does it.
pub async fn run(verb: Verb, settings: &Settings, out: &Out) -> Result<Report, Failure> {
    match verb {
        Verb::Tail(ask) => tail(&ask, settings, out).await,
        Verb::Verify(ask) => verify(&ask),
    }
}

async fn tail(ask: &Tail, settings: &Settings, out: &Out) -> Result<Report, Failure> {
    let mut pages = settings.client()?.tail_audit(ask.last, ask.follow).await?;
    while let Some(page) = pages.next().await? {
        out.show(&Report::new(page_json(&page), page_line(&page)))?;
    }
    Ok(Report::silent())
}

fn verify(ask: &Verify) -> Result<Report, Failure> {
    let lineage = ask.lineage.as_ref().map(|text| text.parse::<Lineage>()).transpose();
    let lineage = lineage.map_err(|bad| Failure::new(format!("--lineage: {bad}")))?;
    let mut reader = BookReader::new(signer(ask)?, lineage);
    for (nth, path) in ask.files.iter().enumerate() {
        if nth > 0 {
            reader.next_file().map_err(|broken| at(&ask.files[nth - 1], broken))?;
        }
        feed(&mut reader, path)?;
    }
    let summary = reader.finish();
    Ok(Report::new(summary_json(&summary), summary_text(&summary)))
}

fn signer(ask: &Verify) -> Result<VerifyingKey, Failure> {
    match (&ask.key, &ask.cert) {
        (Some(text), _) => text.parse().map_err(|bad| Failure::new(format!("--key: {bad}"))),
        (None, Some(path)) => {
            let key = x509::read(path)?.swap_remove(0).public_key;
            key.try_into().map(VerifyingKey).map_err(|_| at(path, "has no Ed25519 key"))
        }
        (None, None) => Err(Failure::new("give --key or --cert")),
    }
}

fn feed(reader: &mut BookReader, path: &Path) -> Result<(), Failure> {
    let mut file = std::fs::File::open(path).map_err(|e| at(path, e))?;
    let mut chunk = vec![0; CHUNK_BYTES];
    loop {
        let count = file.read(&mut chunk).map_err(|e| at(path, e))?;
        if count == 0 {
            return Ok(());
        }
        let broken = |broken| {
            at(path, broken).next("keep the file as it is: it is evidence; compare with the heads in the ledger")
        };
        reader.feed(&chunk[..count], &mut |_| {}).map_err(broken)?;
    }
}

fn summary_json(summary: &BookSummary) -> Value {
    let head = summary
        .head
        .as_ref()
        .map(|h| json!({ "number": h.head.number, "hash": h.head.hash.to_string(), "time": h.head.time.to_string() }));
    json!({ "verified": true, "first": summary.first, "pages": summary.pages, "signed_head": head, "torn": summary.torn })
}

fn summary_text(summary: &BookSummary) -> String {
    let mut text = format!("good: {} pages from number {}, none missing, none changed\n", summary.pages, summary.first);
    text += &match &summary.head {
        Some(signed) => format!("signed up to page {} at {}\n", signed.head.number, signed.head.time),
        None => "not signed yet: no head is in these files\n".to_owned(),
    };
    if summary.torn {
        text += "the last file ends inside a page, as a crash leaves it\n";
    }
    text
}

#[cfg(test)]
mod tests;
