//! `claviger encrypt` and `claviger decrypt`: from a file or a pipe to a file or a pipe. Short ones are messages, which are
//! answered whole; longer ones are streams, of `stream.rs`.

use crate::failure::Failure;
use crate::files::{self, Readers};
use crate::key::pair;
use crate::output::{self, Report};
use crate::settings::Settings;
use crate::stream::{Passage, Source};
use clap::Args;
use claviger_client::{CIPHERTEXT_EXTRA_BYTES, PLAINTEXT_BYTES_MAX};
use claviger_core::envelope::Suite;
use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use zeroize::Zeroizing;

/// Longest ciphertext of one message, in bytes.
pub const CIPHERTEXT_BYTES_MAX: usize = PLAINTEXT_BYTES_MAX + CIPHERTEXT_EXTRA_BYTES;

/// Help of `encrypt`.
pub const ENCRYPT_EXAMPLES: &str = "\
The key never leaves the cluster: the file goes there over TLS, and comes back encrypted. Files and pipes may be of any \
size; what is longer than 64 KiB goes through in chunks, and neither side holds more than a few of them. --context pairs \
are bound to the ciphertext, in clear nowhere, and must be given again to decrypt.

The file of -o is written beside its place and renamed when it is whole. A pipe cannot be renamed: only exit code 0 says \
that all of it has been written. What was begun and broke off is never taken up again; begin anew.

Examples:
  claviger encrypt --key invoices letter.txt -o letter.clav
  claviger encrypt --key invoices --context customer=17 letter.txt > letter.clav
  pg_dump billing | claviger encrypt --key backups -o billing.clav
  claviger encrypt letter.txt | claviger decrypt | cmp - letter.txt   # key: CLAVIGER_KEY";

/// Help of `decrypt`.
pub const DECRYPT_EXAMPLES: &str = "\
The file of -o has mode 0600, is written beside its place, and renamed when all of it has been verified. On a pipe the \
beginning of a long plaintext comes out before its end has been verified: whoever reads it must not act on it before this \
program has ended with exit code 0 (`set -o pipefail` in a script).

Examples:
  claviger decrypt --key invoices letter.clav
  claviger decrypt --key backups billing.clav -o billing.sql
  claviger decrypt --key invoices --context customer=17 letter.clav -o letter.txt   # mode 0600";

/// What to encrypt.
#[derive(Args)]
pub struct Encrypt {
    #[command(flatten)]
    job: Job,
    /// Show no progress. It is shown only to a terminal, and only for what is longer than 64 KiB.
    #[arg(long, short)]
    quiet: bool,
}

/// What to decrypt.
#[derive(Args)]
pub struct Decrypt {
    #[command(flatten)]
    job: Job,
    /// Show no progress. It is shown only to a terminal, and only for what is longer than 64 KiB.
    #[arg(long, short)]
    quiet: bool,
}

/// Something from somewhere to somewhere, and the key for it.
#[derive(Args)]
pub struct Job {
    /// The file to read; without one, or with `-`, the standard input.
    #[arg(value_name = "FILE")]
    file: Option<PathBuf>,
    /// The key: `invoices`, or tenants/acme/keys/invoices.
    #[arg(long, short, env = "CLAVIGER_KEY", hide_env_values = true, value_name = "KEY")]
    key: Option<String>,
    /// A pair that is bound to the ciphertext; may be repeated, 64 at most.
    #[arg(long = "context", short, value_name = "NAME=VALUE", value_parser = pair)]
    pub context: Vec<(String, String)>,
    /// The file to write, whole or not at all; without one, or with `-`, the standard output, which cannot be taken back.
    #[arg(long, short, value_name = "FILE")]
    out: Option<PathBuf>,
}

impl Job {
    /// The file that is to be written, if it is one.
    pub fn target(&self) -> Option<&Path> {
        self.out.as_deref().filter(|path| *path != Path::new("-"))
    }

    /// The key's whole name.
    pub fn key(&self, settings: &Settings) -> Result<String, Failure> {
        let given = self.key.as_ref().or(settings.key.as_ref()).ok_or_else(|| {
            Failure::new("no key is named")
                .next("give --key NAME, set CLAVIGER_KEY, or write `key` into the configuration file")
        })?;
        Ok(settings.key_name(given)?.to_string())
    }

    /// What is to be worked on, of at most `bytes_max` bytes.
    pub fn input(&self, bytes_max: usize, too_long: &str) -> Result<Zeroizing<Vec<u8>>, Failure> {
        let (read, name) = match self.file.as_deref().filter(|path| *path != Path::new("-")) {
            Some(path) => {
                let file = std::fs::File::open(path).map_err(|e| files::at(path, e))?;
                (files::bounded(file, bytes_max), path.display().to_string())
            }
            None => (files::bounded(std::io::stdin().lock(), bytes_max), "the standard input".to_owned()),
        };
        let bytes = read.map_err(|e| Failure::new(format!("{name}: {e}")))?;
        bytes.ok_or_else(|| Failure::new(format!("{name}: {too_long}")))
    }

    /// A ciphertext is nothing for a terminal.
    pub fn refuse_terminal(&self) -> Result<(), Failure> {
        if self.target().is_some() || !std::io::stdout().is_terminal() {
            return Ok(());
        }
        Err(Failure::new("a ciphertext is not written to a terminal").next("give -o FILE, or redirect the output"))
    }

    /// Writes what came of it.
    pub fn output(&self, bytes: &[u8], readers: Readers) -> Result<Report, Failure> {
        match self.target() {
            Some(path) => files::replace(path, bytes, readers)?,
            None => output::raw(bytes)?,
        }
        Ok(Report::silent())
    }
}

/// Encrypts: what fits into one message as one, and all else as a stream.
pub async fn encrypt(verb: Encrypt, settings: &Settings) -> Result<Report, Failure> {
    let job = verb.job;
    job.refuse_terminal()?;
    let (key, client) = (job.key(settings)?, settings.client()?);
    let mut source = Source::open(job.file.as_deref())?;
    let mut head = source.head(PLAINTEXT_BYTES_MAX + 1).await?;
    if head.len() > PLAINTEXT_BYTES_MAX {
        let passage = Passage { key: &key, job: &job, quiet: verb.quiet, readers: Readers::Anyone };
        return passage.encrypt(&client, source.with(&head)).await;
    }
    let answer = client.encrypt(&key, std::mem::take(&mut *head), &job.context).await?;
    job.output(&answer.ciphertext, Readers::Anyone)
}

/// Decrypts what [`encrypt`] made, of whichever kind it is.
pub async fn decrypt(verb: Decrypt, settings: &Settings) -> Result<Report, Failure> {
    let job = verb.job;
    let (key, client) = (job.key(settings)?, settings.client()?);
    let mut source = Source::open(job.file.as_deref())?;
    let mut head = source.head(CIPHERTEXT_BYTES_MAX + 1).await?;
    if Suite::of(&head) == Some(Suite::Stream) {
        let passage = Passage { key: &key, job: &job, quiet: verb.quiet, readers: Readers::Owner };
        return passage.decrypt(&client, source.with(&head)).await;
    }
    if head.len() > CIPHERTEXT_BYTES_MAX {
        return Err(Failure::new(format!("{}: is not what claviger encrypt made", source.name)));
    }
    let answer = client.decrypt(&key, std::mem::take(&mut *head), &job.context).await?;
    job.output(&answer.plaintext, Readers::Owner)
}
