//! `claviger custodian`: what the holder of a share does.

use crate::custody::{self, Opened};
use crate::failure::Failure;
use crate::offer;
use crate::output::{Out, Report};
use crate::recover;
use crate::settings::Settings;
use clap::{Args, Subcommand};
use claviger_core::roster::CustodianKeys;
use claviger_core::share::ShareFile;
use serde_json::{Value, json};
use std::path::{Path, PathBuf};

/// Help of `custodian`.
pub const EXAMPLES: &str = "\
A custodian holds one share of what opens the cluster. Before the founding they make a pair of files and give away the \
public one; from the founding they get a share file, which only their private file opens.

Examples:
  claviger custodian keygen --name spiffe://example.org/claviger/custodian/alice --out .
  claviger custodian verify alice.share --identity alice.custodian
  claviger custodian offer alice.share --identity alice.custodian";

const KEYGEN_EXAMPLES: &str = "\
Writes NAME.custodian (mode 0600: keep it, keep it secret, keep a copy apart from the share) and NAME.custodian.pub, which \
goes to whoever founds the cluster. In them: an age X25519 pair, that the share is sealed to, and an Ed25519 pair.

Examples:
  claviger custodian keygen --name spiffe://example.org/claviger/custodian/alice --out keys";
const SHOW_EXAMPLES: &str = "\
Shows what is public in a custodian's file, or in a share file.

Examples:
  claviger custodian show alice.custodian.pub
  claviger custodian show alice.share";
const VERIFY_EXAMPLES: &str = "\
Needs no node: checks that the share file is whole, opens with the identity, and holds the very share that its clear part \
speaks of. Do it once a year.

Examples:
  claviger custodian verify alice.share --identity alice.custodian";
const OFFER_EXAMPLES: &str = "\
Finds the unseal ceremony that runs, or begins one. Before the share leaves this machine, sealed to the ceremony's one-time \
key, that key is checked: signed by a node that the founding of this very cluster named. Your certificate must be the \
custodian's own. When enough shares are there the cluster opens.

Examples:
  claviger custodian offer alice.share --identity alice.custodian";

/// What a custodian does.
#[derive(Subcommand)]
pub enum Verb {
    /// Make a custodian's keys.
    #[command(after_help = KEYGEN_EXAMPLES)]
    Keygen(Keygen),
    /// Show what is public in a file.
    #[command(after_help = SHOW_EXAMPLES)]
    Show(Show),
    /// Check a share, offline.
    #[command(after_help = VERIFY_EXAMPLES)]
    Verify(Bring),
    /// Offer a share to open the cluster.
    #[command(after_help = OFFER_EXAMPLES)]
    Offer(Bring),
    /// Agree, with a share, that one node goes on alone.
    #[command(after_help = recover::CONSENT_EXAMPLES)]
    Consent(Consent),
}

/// A share that signs.
#[derive(Args)]
pub struct Consent {
    #[command(flatten)]
    bring: Bring,
    /// Sign that mandate, named by its digest as the operator has read it out: without it, it is only shown.
    #[arg(long, value_name = "DIGEST")]
    mandate: Option<String>,
}

/// New keys.
#[derive(Args)]
pub struct Keygen {
    /// Who the custodian is, as in their certificate.
    #[arg(long = "name", value_name = "URI")]
    identity: String,
    /// The folder for the two files; made when it is not there.
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// Replace files that exist. A share sealed to the old keys is lost then.
    #[arg(long)]
    force: bool,
}

/// Which file.
#[derive(Args)]
pub struct Show {
    /// A custodian's public or private file, or a share file.
    #[arg(value_name = "FILE")]
    file: PathBuf,
}

/// A share with what opens it.
#[derive(Args)]
pub struct Bring {
    /// The share file, as the founding made it.
    #[arg(value_name = "SHARE_FILE")]
    pub share: PathBuf,
    /// The custodian's private file, NAME.custodian.
    #[arg(long, value_name = "FILE")]
    pub identity: PathBuf,
}

/// Does it.
pub async fn run(verb: Verb, settings: &Settings, out: &Out) -> Result<Report, Failure> {
    match verb {
        Verb::Keygen(ask) => keygen(&ask),
        Verb::Show(ask) => show(&ask.file),
        Verb::Verify(ask) => verify(&ask),
        Verb::Offer(ask) => offer::offer(&ask.share, &ask.identity, settings, out).await,
        Verb::Consent(Consent { bring, mandate }) => {
            recover::consent(&bring.share, &bring.identity, mandate.as_deref(), settings, out).await
        }
    }
}

fn keygen(ask: &Keygen) -> Result<Report, Failure> {
    let identity = ask.identity.parse().map_err(|bad| Failure::new(format!("--name: {bad}")))?;
    let (private, public, keys) = custody::keygen(identity, &ask.out, ask.force)?;
    let mut json = keys_json(&keys);
    (json["private_file"], json["public_file"]) = (json!(private), json!(public));
    let files = format!("private file  {} (mode 0600)\npublic file   {}\n", private.display(), public.display());
    Ok(Report::new(json, files + &keys_text(&keys)))
}

fn keys_json(keys: &CustodianKeys) -> Value {
    json!({ "identity": keys.identity.to_string(), "recipient": keys.recipient, "signing_key": keys.signing.to_string() })
}

fn keys_text(keys: &CustodianKeys) -> String {
    format!("custodian     {}\nrecipient     {}\nsigning key   {}\n", keys.identity, keys.recipient, keys.signing)
}

fn show(path: &Path) -> Result<Report, Failure> {
    if let Ok(keys) = custody::read_public(path).or_else(|_| custody::read_private(path).map(|private| private.keys)) {
        return Ok(Report::new(keys_json(&keys), keys_text(&keys)));
    }
    let unknown = |_| crate::files::at(path, "is neither a custodian's file (mode 0600 if private) nor a share file");
    let file = custody::read_share(path).map_err(unknown)?;
    Ok(Report::new(share_json(&file), share_text(&file)))
}

fn verify(ask: &Bring) -> Result<Report, Failure> {
    let private = custody::read_private(&ask.identity)?;
    let Opened { file, .. } = custody::open_share(&ask.share, &private)?;
    let mut json = share_json(&file);
    json["verified"] = json!(true);
    Ok(Report::new(
        json,
        share_text(&file) + "good: whole, opens with this identity, and is the share that was dealt\n",
    ))
}

/// The clear part of a share file, for programs.
pub fn share_json(file: &ShareFile) -> Value {
    let c = &file.context;
    json!({
        "cluster": file.cluster.as_str(), "region": c.region().as_str(), "lineage": c.lineage().to_string(), "epoch": c.epoch(),
        "slot": file.slot, "threshold": c.threshold(), "shares": c.count(), "index": file.index,
        "holder": file.holder.to_string(), "checksum": file.checksum.to_string(),
    })
}

fn share_text(file: &ShareFile) -> String {
    let c = &file.context;
    let share = format!("share         {} of {}, {} of which open", file.index, c.count(), c.threshold());
    let place =
        format!("cluster       {}, region {}, epoch {}, slot {}", file.cluster, c.region(), c.epoch(), file.slot);
    format!(
        "{share}\nholder        {}\n{place}\nlineage       {}\nchecksum      {}\n",
        file.holder,
        c.lineage(),
        file.checksum
    )
}
