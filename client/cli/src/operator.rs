//! `claviger operator`: founding, opening, sealing, watching.

use crate::custody;
use crate::failure::{EXIT_SEALED, Failure};
use crate::files::{self, Readers};
use crate::members;
use crate::offer;
use crate::output::{Out, Report};
use crate::recover;
use crate::settings::Settings;
use crate::snapshot;
use crate::status::{self, Status};
use crate::words::{ceremony_json, ceremony_text};
use clap::{Args, Subcommand};
use claviger_client::{Endpoint, Error, v1};
use claviger_core::name::{Identity, Lineage};
use claviger_core::roster::CustodianKeys;
use claviger_core::share::ShareFile;
use serde_json::json;
use std::collections::BTreeSet;
use std::path::PathBuf;

/// Help of `operator`.
pub const EXAMPLES: &str = "\
Examples:
  claviger operator init --threshold 3 --custodian alice.custodian.pub \\
      --custodian bob.custodian.pub --custodian carol.custodian.pub \\
      --administrator spiffe://example.org/claviger/operator/ada --out shares
  claviger operator status
  claviger operator seal --all";

const INIT_EXAMPLES: &str = "\
Founds the cluster, once, and writes one share file for each custodian, which only they can open; no copy stays behind. Ask \
on any node; all nodes must run. What is printed as the lineage names the cluster for ever: write it down.

Examples:
  claviger operator init --threshold 2 --custodian alice.custodian.pub \\
      --custodian bob.custodian.pub --custodian carol.custodian.pub \\
      --administrator spiffe://example.org/claviger/operator/ada --out shares
  claviger operator init --static-slot \\
      --administrator spiffe://example.org/claviger/operator/ada   # test systems only
  claviger operator init --abandon    # clears what a founding that broke off left behind";
const UNSEAL_EXAMPLES: &str = "\
Begins an unseal ceremony, or finds the one that runs, and tells whose shares are missing. With --share and --identity it \
is the same as `claviger custodian offer`.

Examples:
  claviger operator unseal
  claviger operator unseal --share alice.share --identity alice.custodian";
const SEAL_EXAMPLES: &str = "\
Keys are wiped before the answer. A single node is named by --addr; its operation goes on at the others.

Examples:
  claviger operator seal --all
  claviger operator seal --addr 10.0.0.1:7001";
const STATUS_EXAMPLES: &str = "\
Asks every node of --addr about itself, and one of them about the cluster. Exits with 0 when all that answer are open, with \
2 when one is sealed or the cluster was never founded, with 1 when none answers.

Examples:
  claviger operator status
  claviger operator status --watch
  claviger operator status --output json";
const TRANSFER_EXAMPLES: &str = "\
Asks the leader to hand over to the follower that is furthest, as before its host is taken down.

Examples:
  claviger operator transfer-leader";

/// What an operator does.
#[derive(Subcommand)]
pub enum Verb {
    /// Found the cluster and write the share files.
    #[command(after_help = INIT_EXAMPLES)]
    Init(Init),
    /// Begin or find an unseal ceremony.
    #[command(after_help = UNSEAL_EXAMPLES)]
    Unseal(Unseal),
    /// Seal a node, or all of them.
    #[command(after_help = SEAL_EXAMPLES)]
    Seal(Seal),
    /// Show how the nodes and the cluster are.
    #[command(after_help = STATUS_EXAMPLES)]
    Status(Watch),
    /// Ask the leader to hand over.
    #[command(after_help = TRANSFER_EXAMPLES)]
    TransferLeader,
    /// Show who belongs to the cluster, and who votes.
    #[command(after_help = members::MEMBERS_EXAMPLES)]
    Members,
    /// Write a ticket for a new node.
    #[command(after_help = members::JOIN_EXAMPLES)]
    Join(members::Join),
    /// Let a learner vote.
    #[command(after_help = members::PROMOTE_EXAMPLES)]
    Promote(members::Promote),
    /// Take a node out for ever.
    #[command(after_help = members::REMOVE_EXAMPLES)]
    Remove(members::Remove),
    /// Put a new node in the place of another.
    #[command(after_help = members::REPLACE_EXAMPLES)]
    Replace(members::Replace),
    /// Have one node go on alone, when most voters are lost.
    #[command(after_help = recover::EXAMPLES)]
    Recover,
    /// Save the state into a file, look at one, or give one to a new node.
    #[command(after_help = snapshot::EXAMPLES, subcommand)]
    Snapshot(snapshot::Verb),
}

/// A founding.
#[derive(Args)]
pub struct Init {
    /// How many shares open the cluster: 2 up to the number of custodians.
    #[arg(long, value_name = "N", required_unless_present_any = ["static_slot", "abandon"])]
    threshold: Option<u32>,
    /// A custodian's public file; repeated, once for each.
    #[arg(long = "custodian", value_name = "FILE", required_unless_present_any = ["static_slot", "abandon"])]
    custodians: Vec<PathBuf>,
    /// Who becomes administrator; may be repeated.
    #[arg(long = "administrator", value_name = "URI", required_unless_present = "abandon")]
    administrators: Vec<String>,
    /// The folder for the share files; made when it is not there.
    #[arg(long, value_name = "DIR", required_unless_present_any = ["static_slot", "abandon"])]
    out: Option<PathBuf>,
    /// No custodians: the nodes' static slot opens the cluster. For test systems.
    #[arg(long, conflicts_with_all = ["threshold", "custodians", "out"])]
    static_slot: bool,
    /// Clear what a founding that broke off left on the nodes. Refused once the cluster is founded.
    #[arg(long, conflicts_with_all = ["threshold", "custodians", "administrators", "out", "static_slot"])]
    abandon: bool,
}

/// A ceremony, with or without a share.
#[derive(Args)]
pub struct Unseal {
    /// A share file to offer at once.
    #[arg(long, value_name = "FILE", requires = "identity")]
    share: Option<PathBuf>,
    /// The custodian's private file that opens it.
    #[arg(long, value_name = "FILE", requires = "share")]
    identity: Option<PathBuf>,
}

/// What to seal.
#[derive(Args)]
pub struct Seal {
    /// Every node of the region.
    #[arg(long)]
    all: bool,
}

/// How to show the status.
#[derive(Args)]
pub struct Watch {
    /// Go on, and show each change, until interrupted.
    #[arg(long)]
    watch: bool,
}

/// Does it.
pub async fn run(verb: Verb, settings: &Settings, out: &Out) -> Result<Report, Failure> {
    match verb {
        Verb::Init(ask) if ask.abandon => abandon(settings).await,
        Verb::Init(ask) => init(&ask, settings).await,
        Verb::Unseal(ask) => unseal(&ask, settings, out).await,
        Verb::Seal(ask) if ask.all => seal_all(settings).await,
        Verb::Seal(_) => seal_one(settings).await,
        Verb::Status(ask) if ask.watch => status::watch(&settings.client()?, out).await,
        Verb::Status(_) => Status::gather(&settings.client()?).await?.report(),
        Verb::TransferLeader => transfer_leader(settings).await,
        Verb::Members => members::show(settings).await,
        Verb::Join(ask) => members::join(&ask, settings).await,
        Verb::Promote(ask) => members::promote(&ask, settings, out).await,
        Verb::Remove(ask) => members::remove(&ask, settings, out).await,
        Verb::Replace(ask) => members::replace(&ask, settings, out).await,
        Verb::Recover => recover::begin(settings).await,
        Verb::Snapshot(verb) => snapshot::run(verb, settings).await,
    }
}

/// Every node that holds a pinned genesis clears it.
async fn abandon(settings: &Settings) -> Result<Report, Failure> {
    let client = settings.client()?;
    let mut cleared = Vec::new();
    for (endpoint, node) in client.each() {
        node.abandon_initialize().await.map_err(|e| named(&endpoint, e.into()))?;
        cleared.push(endpoint.to_string());
    }
    Ok(Report::new(json!({ "cleared": cleared }), format!("cleared on {}", cleared.join(", "))))
}

async fn init(ask: &Init, settings: &Settings) -> Result<Report, Failure> {
    let custodians = custodians(ask)?;
    let administrators = administrators(ask)?;
    let places: Vec<PathBuf> = custodians.iter().filter_map(|keys| place(ask, &keys.identity)).collect();
    prepare(ask, &places)?;
    let request = v1::InitializeRequest {
        threshold: ask.threshold.unwrap_or_default(),
        custodians: custodians.iter().map(wire).collect(),
        administrators,
    };
    let answer = settings.client()?.initialize(request).await.map_err(unfounded)?;
    let lineage = hex::encode(&answer.lineage);
    let written = store(&answer, &custodians, &places)?;
    let files: Vec<String> = written.iter().map(|path| format!("  {}", path.display())).collect();
    let shares = if files.is_empty() {
        String::new()
    } else {
        format!("\nshare files, one for each custodian to take away:\n{}", files.join("\n"))
    };
    let json = json!({ "lineage": lineage, "shares": written, "revision": answer.revision });
    Ok(Report::new(json, format!("founded\nlineage  {lineage}{shares}")))
}

fn custodians(ask: &Init) -> Result<Vec<CustodianKeys>, Failure> {
    let all = ask.custodians.iter().map(|path| custody::read_public(path)).collect::<Result<Vec<_>, _>>()?;
    let names: BTreeSet<&str> = all.iter().map(|keys| keys.identity.name.as_str()).collect();
    let recipients: BTreeSet<&str> = all.iter().map(|keys| keys.recipient.as_str()).collect();
    if names.len() != all.len() || recipients.len() != all.len() {
        return Err(Failure::new("a custodian is named twice: every share goes to another person"));
    }
    let count = u32::try_from(all.len()).unwrap_or(u32::MAX);
    match ask.threshold {
        Some(threshold) if threshold < 2 || threshold > count => {
            Err(Failure::new(format!("with {count} custodians the threshold is 2 to {count}")))
        }
        Some(_) | None => Ok(all),
    }
}

fn administrators(ask: &Init) -> Result<Vec<String>, Failure> {
    let bad = |bad| Failure::new(format!("--administrator: {bad}"));
    ask.administrators.iter().map(|text| text.parse::<Identity>().map(|i| i.to_string()).map_err(bad)).collect()
}

fn place(ask: &Init, custodian: &Identity) -> Option<PathBuf> {
    ask.out.as_ref().map(|folder| folder.join(format!("{}.share", custodian.name)))
}

/// Shares come once: see that they can be written before they are asked for.
fn prepare(ask: &Init, places: &[PathBuf]) -> Result<(), Failure> {
    let Some(folder) = &ask.out else { return Ok(()) };
    files::folder(folder)?;
    files::refuse_existing(&places.iter().map(PathBuf::as_path).collect::<Vec<_>>(), false)?;
    let probe = folder.join(".claviger-probe");
    files::replace(&probe, b"", Readers::Owner)?;
    std::fs::remove_file(&probe).map_err(|e| files::at(&probe, e))
}

fn wire(keys: &CustodianKeys) -> v1::CustodianKeys {
    let signing_key = keys.signing.0.to_vec().into();
    v1::CustodianKeys { identity: keys.identity.to_string(), recipient: keys.recipient.clone(), signing_key }
}

/// Writes all share files. One that cannot be written is printed: it is sealed to its custodian, and lost otherwise.
fn store(
    answer: &v1::InitializeResponse,
    custodians: &[CustodianKeys],
    places: &[PathBuf],
) -> Result<Vec<PathBuf>, Failure> {
    let mut failure = None;
    for share in &answer.shares {
        let position = custodians.iter().position(|keys| keys.identity.to_string() == share.custodian);
        let written =
            position.and_then(|i| places.get(i)).ok_or_else(|| Failure::new("a share of nobody that was named"));
        let written = written.and_then(|path| files::replace(path, share.content.as_bytes(), Readers::Owner));
        if let Err(why) = written {
            crate::output::raw(share.content.as_bytes())?;
            failure =
                Some(why.next("the share files that could not be written were printed instead: save each to a file"));
        }
    }
    match failure {
        Some(why) => Err(why),
        None => checked(answer, custodians, places).map(|()| places.to_vec()),
    }
}

/// Reads every share file back: that each custodian has theirs, of this cluster.
fn checked(answer: &v1::InitializeResponse, custodians: &[CustodianKeys], places: &[PathBuf]) -> Result<(), Failure> {
    for (keys, path) in custodians.iter().zip(places) {
        let file: ShareFile = custody::read_share(path)?;
        let lineage: &Lineage = file.context.lineage();
        if file.holder != keys.identity || lineage.0[..] != answer.lineage[..] {
            return Err(
                files::at(path, "is not the share that it should be").next("do not use this cluster: found another")
            );
        }
    }
    Ok(())
}

/// A founding that may or may not have happened must not be forgotten.
fn unfounded(error: Error) -> Failure {
    let failure = Failure::from(error);
    let next = failure.next.clone().unwrap_or_default();
    let advice = "if the founding broke off, `claviger operator init --abandon` clears it; `claviger operator status` shows where it stands";
    failure.next(if next.is_empty() { advice.to_owned() } else { format!("{next}; {advice}") })
}

async fn unseal(ask: &Unseal, settings: &Settings, out: &Out) -> Result<Report, Failure> {
    if let (Some(share), Some(identity)) = (&ask.share, &ask.identity) {
        return offer::offer(share, identity, settings, out).await;
    }
    let found = offer::trusted(settings.client()?.begin_unseal().await?, None, offer::now())?;
    let missing = offer::missing(&found.ceremony, &found.founding);
    let json = json!({ "ceremony": ceremony_json(&found.ceremony), "lineage": found.key.lineage.to_string(), "missing": missing });
    let wanted = format!("wanted: any {} of\n  {}", offer::wanting(&found.ceremony), missing.join("\n  "));
    let how = "each of them: claviger custodian offer SHARE_FILE --identity FILE";
    Ok(Report::new(
        json,
        format!("lineage  {}\n{}\n{wanted}\n{how}", found.key.lineage, ceremony_text(&found.ceremony)),
    ))
}

async fn seal_all(settings: &Settings) -> Result<Report, Failure> {
    let sealed = |failure: Failure| match failure.exit {
        EXIT_SEALED => failure.next(
            "every node that was asked is sealed; name all nodes in --addr, and look: `claviger operator status`",
        ),
        _ => failure,
    };
    let answer = settings.client()?.seal_all().await.map_err(|error| sealed(error.into()))?;
    let json = json!({ "seal_epoch": answer.seal_epoch, "revision": answer.revision });
    Ok(Report::new(json, format!("every node seals itself: seal epoch {}", answer.seal_epoch)))
}

async fn seal_one(settings: &Settings) -> Result<Report, Failure> {
    let nodes = settings.client()?.each();
    let [(endpoint, node)] = &nodes[..] else {
        return Err(Failure::new("which node?").next("name one with --addr HOST:PORT, or all with --all"));
    };
    node.seal_node().await?;
    Ok(Report::new(json!({ "sealed": endpoint.to_string() }), format!("{endpoint} is sealed")))
}

/// Only the leader can; which of our addresses is the leader's is found by asking.
async fn transfer_leader(settings: &Settings) -> Result<Report, Failure> {
    let (mut said, mut last) = (Vec::new(), Failure::new("no node was asked"));
    for (endpoint, node) in settings.client()?.each() {
        match node.transfer_leader().await {
            Ok(_) => {
                return Ok(Report::new(json!({ "asked": endpoint.to_string() }), format!("{endpoint} hands over")));
            }
            Err(error) if elsewhere(&error) => {
                // One of them may be the leader: what it says must not go under in what the others do.
                let one = named(&endpoint, error.into());
                said.push(one.message.clone());
                last = Failure { message: said.join("; "), ..one };
            }
            Err(error) => return Err(named(&endpoint, error.into())),
        }
    }
    Err(last.next("name all nodes in --addr: only the leader can hand over, and not while it is sealed"))
}

fn elsewhere(error: &Error) -> bool {
    match error {
        Error::Refused { .. } | Error::Unavailable { .. } => true,
        Error::Denied { .. } | Error::Broken { .. } | Error::Config(_) => false,
    }
}

fn named(endpoint: &Endpoint, failure: Failure) -> Failure {
    Failure { message: format!("{endpoint}: {}", failure.message), ..failure }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::custody::tests::identity;
    use std::path::Path;

    fn read_custodians(files: &[&Path], threshold: u32) -> Result<Vec<CustodianKeys>, Failure> {
        custodians(&Init {
            threshold: Some(threshold),
            custodians: files.iter().map(|f| f.to_path_buf()).collect(),
            administrators: Vec::new(),
            out: None,
            static_slot: false,
            abandon: false,
        })
    }

    #[test]
    fn refuses_thresholds_and_custodians_that_cannot_be() {
        let folder = tempfile::tempdir().unwrap();
        let make = |name: &str| custody::keygen(identity(name), folder.path(), false).unwrap().1;
        let (a, b, c) = (make("a"), make("b"), make("c"));
        assert_eq!(read_custodians(&[&a, &b, &c], 2).unwrap().len(), 3);
        for threshold in [0, 1, 4] {
            assert!(read_custodians(&[&a, &b, &c], threshold).unwrap_err().message.contains("threshold"));
        }
        assert!(read_custodians(&[&a, &a, &c], 2).unwrap_err().message.contains("twice"));
        assert!(
            read_custodians(&[&a, &folder.path().join("a.custodian")], 2).is_err(),
            "a private file is no public one"
        );
    }
}
