//! `claviger reencrypt`: what an older version or another key encrypted, encrypted anew; one message, or many files in place.

use crate::crypt::{CIPHERTEXT_BYTES_MAX, Job};
use crate::failure::Failure;
use crate::files::{self, Readers};
use crate::key::pair;
use crate::output::Report;
use crate::settings::Settings;
use clap::Args;
use claviger_client::{BATCH_BYTES_MAX, BATCH_ITEMS_MAX, Client, Each, v1};
use serde_json::json;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// Help of `reencrypt`.
pub const EXAMPLES: &str = "\
The cluster decrypts and encrypts again without handing the plaintext out. Do it after a rotation, so that old versions of \
a key are no longer needed, or to change the key or the context of a ciphertext. A ciphertext stays valid when a newer one \
has been made of it.

Ciphertexts of more than 64 KiB are not done: decrypt those and encrypt them anew.

With --in-place many files are done in few calls. Each is replaced whole or not at all; one that cannot be done is named \
and left as it is, and the others are done.

Examples:
  claviger reencrypt --key invoices letter.clav -o letter.new.clav
  claviger reencrypt --key invoices --in-place archive/1.clav archive/2.clav
  claviger reencrypt --key invoices --to archive letter.clav -o letter.new.clav
  claviger reencrypt --key invoices --context year=2026 --new-context year=2027 a.clav -o b.clav";

/// Of what is longer than a message.
const TOO_LONG: &str = "is longer than 64 KiB and 128 bytes; decrypt it and encrypt it anew";

/// What to encrypt anew.
#[derive(Args)]
pub struct ReEncrypt {
    #[command(flatten)]
    job: Job,
    /// The key to encrypt with [default: the same].
    #[arg(long, value_name = "KEY")]
    to: Option<String>,
    /// A pair of the new context, which replaces the old one; may be repeated.
    #[arg(long, value_name = "NAME=VALUE", value_parser = pair)]
    new_context: Vec<(String, String)>,
    /// Leave the new ciphertext without context.
    #[arg(long, conflicts_with = "new_context")]
    no_context: bool,
    /// Replace each of these files by its new ciphertext.
    #[arg(long, value_name = "FILE", num_args = 1.., conflicts_with_all = ["file", "out"])]
    in_place: Vec<PathBuf>,
}

/// What is the same for every file.
struct Ask {
    name: String,
    destination: String,
    context: Vec<v1::ContextPair>,
    new_context: Option<v1::EncryptionContext>,
}

/// Files that go in one call: their places, and what they hold.
#[derive(Default)]
struct Load {
    paths: Vec<PathBuf>,
    ciphertexts: Vec<Vec<u8>>,
    bytes: usize,
}

/// How far many files have come.
#[derive(Default)]
struct Progress {
    done: usize,
    left: Vec<String>,
}

/// Encrypts anew.
pub async fn run(verb: ReEncrypt, settings: &Settings) -> Result<Report, Failure> {
    let ask = Ask::of(&verb, settings)?;
    if !verb.in_place.is_empty() {
        return in_place(&ask, verb.in_place, &settings.client()?).await;
    }
    verb.job.refuse_terminal()?;
    let client = settings.client()?;
    let ciphertext = verb.job.input(CIPHERTEXT_BYTES_MAX, TOO_LONG)?;
    let answer = client.re_encrypt_with(ask.about(ciphertext.to_vec())).await?;
    verb.job.output(&answer.ciphertext, Readers::Anyone)
}

impl Ask {
    fn of(verb: &ReEncrypt, settings: &Settings) -> Result<Ask, Failure> {
        let destination = verb.to.as_ref().map(|to| settings.key_name(to)).transpose()?;
        let replaced = verb.no_context || !verb.new_context.is_empty();
        Ok(Ask {
            name: verb.job.key(settings)?,
            destination: destination.map(|name| name.to_string()).unwrap_or_default(),
            context: pairs(&verb.job.context),
            new_context: replaced.then(|| v1::EncryptionContext { pairs: pairs(&verb.new_context) }),
        })
    }

    fn about(&self, ciphertext: Vec<u8>) -> v1::ReEncryptRequest {
        v1::ReEncryptRequest {
            name: self.name.clone(),
            ciphertext: ciphertext.into(),
            context: self.context.clone(),
            destination: self.destination.clone(),
            new_context: self.new_context.clone(),
            read: None,
        }
    }
}

fn pairs(given: &[(String, String)]) -> Vec<v1::ContextPair> {
    given.iter().map(|(name, value)| v1::ContextPair { name: name.clone(), value: value.clone() }).collect()
}

async fn in_place(ask: &Ask, paths: Vec<PathBuf>, client: &Client) -> Result<Report, Failure> {
    let (all, mut progress, mut load) = (paths.len(), Progress::default(), Load::default());
    for path in paths {
        match files::read(&path, CIPHERTEXT_BYTES_MAX) {
            Ok(ciphertext) => {
                if !load.has_room(ciphertext.len()) {
                    send(ask, std::mem::take(&mut load), client, &mut progress).await?;
                }
                load.take(path, ciphertext.to_vec());
            }
            Err(why) => progress.left.push(why.message),
        }
    }
    send(ask, load, client, &mut progress).await?;
    progress.report(all)
}

/// One call. An error of the whole call is the end: the next would have it too.
async fn send(ask: &Ask, load: Load, client: &Client, progress: &mut Progress) -> Result<(), Failure> {
    if load.paths.is_empty() {
        return Ok(());
    }
    let requests = load.ciphertexts.into_iter().map(|ciphertext| ask.about(ciphertext)).collect();
    let each = client.re_encrypt_batch(requests).await.map_err(|error| {
        let failure = Failure::from(error);
        Failure { message: format!("{} ({} files were done before)", failure.message, progress.done), ..failure }
    })?;
    progress.write(&load.paths, each);
    Ok(())
}

impl Load {
    fn has_room(&self, bytes: usize) -> bool {
        self.paths.len() < BATCH_ITEMS_MAX && self.bytes + bytes <= BATCH_BYTES_MAX
    }

    fn take(&mut self, path: PathBuf, ciphertext: Vec<u8>) {
        self.bytes += ciphertext.len();
        self.paths.push(path);
        self.ciphertexts.push(ciphertext);
    }
}

impl Progress {
    fn write(&mut self, paths: &[PathBuf], each: Each<v1::ReEncryptResponse>) {
        for (path, answer) in paths.iter().zip(each) {
            let written = answer.map_err(|error| files::at(path, error)).and_then(|new| replace(path, &new.ciphertext));
            match written {
                Ok(()) => self.done += 1,
                Err(why) => self.left.push(why.message),
            }
        }
    }

    fn report(self, all: usize) -> Result<Report, Failure> {
        if self.left.is_empty() {
            return Ok(Report::new(json!({ "files": all }), format!("{all} files encrypted anew")));
        }
        let left = self.left.join("\n  ");
        let message = format!("{} of {all} files are left as they were:\n  {left}", self.left.len());
        Err(Failure::new(message).next("mend these and run it again for them; the others are done"))
    }
}

/// A file that only its owner could read stays so.
fn replace(path: &Path, ciphertext: &[u8]) -> Result<(), Failure> {
    let mode = std::fs::metadata(path).map_err(|e| files::at(path, e))?.permissions().mode();
    let readers = if mode & 0o077 == 0 { Readers::Owner } else { Readers::Anyone };
    files::replace(path, ciphertext, readers)
}
