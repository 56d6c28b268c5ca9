//! `claviger operator snapshot`: the state in a file. It is ciphertext; what opens it are the shares of its own epoch.

use crate::failure::Failure;
use crate::files::{self, Part, Readers};
use crate::output::Report;
use crate::settings::Settings;
use clap::{Args, Subcommand};
use claviger_core::name::Lineage;
use claviger_core::roster::Role;
use claviger_core::snapshot::file::{FileReader, Inspected};
use serde_json::{Value, json};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};

pub const EXAMPLES: &str = "\
Examples:
  claviger operator snapshot save --out monday.snapshot
  claviger operator snapshot inspect monday.snapshot
  claviger operator snapshot restore monday.snapshot --addr 10.0.0.9:7001";
const SAVE_EXAMPLES: &str = "\
Writes the state of the cluster, as it is now, into a file: records, header chain and state hash, all of it ciphertext or \
public. It is checked while it comes, and appears under its name when it is whole. A sealed cluster can be saved too. What \
opens it are shares of the epoch that it shows: keep those as long as the file.

Examples:
  claviger operator snapshot save --out monday.snapshot
  claviger operator snapshot save --out monday.snapshot --force    # over the file of last week";
const INSPECT_EXAMPLES: &str = "\
Reads a snapshot without a cluster: whether it is whole, whether what it holds is the state that it says, whether its header \
chain leads from the genesis on, and whether a member signed it. Exits with 1 when any of that is not so. Give --lineage, as \
the founding printed it: without it, any cluster will do.

Examples:
  claviger operator snapshot inspect monday.snapshot
  claviger operator snapshot inspect monday.snapshot \\
      --lineage 8d2c5f0a6e8c4b1f9b3a7d6e5c4f3a2b1c0d9e8f7a6b5c4d3e2f1a0b9c8d7e6f";

const RESTORE_EXAMPLES: &str = "\
Gives a snapshot to one new node, named by --addr, that belongs to no cluster: for when no node is left. The node checks all \
of it and keeps it as ciphertext. To go on with it the node needs a mandate of the custodians whose shares the file shows; \
it begins the next generation, in which every node of the file has left for ever. Whatever was changed after the file was \
saved is lost, and what was disabled since is enabled again.

Examples:
  claviger operator snapshot restore monday.snapshot --addr 10.0.0.9:7001
  claviger operator recover --addr 10.0.0.9:7001    # then: asks the custodians";

/// Bytes read at a time.
const PIECE_BYTES: usize = 1 << 20;

/// What is done with a snapshot.
#[derive(Subcommand)]
pub enum Verb {
    /// Write the state of the cluster into a file.
    #[command(after_help = SAVE_EXAMPLES)]
    Save(Save),
    /// Say what a file holds, and whether it is to be believed.
    #[command(after_help = INSPECT_EXAMPLES)]
    Inspect(Inspect),
    /// Give a file to a new node, to go on with it.
    #[command(after_help = RESTORE_EXAMPLES)]
    Restore(Restore),
}

/// Which.
#[derive(Args)]
pub struct Restore {
    /// The file to give.
    #[arg(value_name = "FILE")]
    file: PathBuf,
}

/// Where to.
#[derive(Args)]
pub struct Save {
    /// The file to write.
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    /// Replace a file that is there.
    #[arg(long)]
    force: bool,
}

/// Which.
#[derive(Args)]
pub struct Inspect {
    /// The file to read.
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// The cluster that it must be of, 64 hexadecimal digits.
    #[arg(long, value_name = "LINEAGE")]
    lineage: Option<String>,
}

/// Does it.
pub async fn run(verb: Verb, settings: &Settings) -> Result<Report, Failure> {
    match verb {
        Verb::Save(ask) => save(&ask, settings).await,
        Verb::Inspect(ask) => inspect(&ask),
        Verb::Restore(ask) => restore(&ask, settings).await,
    }
}

async fn save(ask: &Save, settings: &Settings) -> Result<Report, Failure> {
    files::refuse_existing(&[&ask.out], ask.force)?;
    let mut pieces = settings.client()?.save_snapshot().await?;
    let (mut file, part) = Part::create(&ask.out, Readers::Owner)?;
    let mut reader = FileReader::default();
    while let Some(piece) = pieces.next().await? {
        reader.feed(&piece).map_err(|broken| files::at(&ask.out, broken))?;
        file.write_all(&piece).map_err(|e| files::at(&ask.out, e))?;
    }
    let inspected = reader.finish().map_err(|broken| files::at(&ask.out, broken))?;
    part.finish(&file)?;
    Ok(report(&ask.out, &inspected))
}

fn inspect(ask: &Inspect) -> Result<Report, Failure> {
    let wanted = ask.lineage.as_ref().map(|text| text.parse::<Lineage>()).transpose();
    let wanted = wanted.map_err(|bad| Failure::new(format!("--lineage: {bad}")))?;
    let inspected = read(&ask.file)?;
    if wanted.is_some_and(|wanted| wanted != inspected.header.lineage) {
        return Err(files::at(&ask.file, "it is of another cluster"));
    }
    Ok(report(&ask.file, &inspected))
}

/// The file is read twice: what the node would refuse is refused here, with the reason.
async fn restore(ask: &Restore, settings: &Settings) -> Result<Report, Failure> {
    let nodes = settings.client()?.each();
    let [(endpoint, node)] = &nodes[..] else {
        return Err(Failure::new("which node?").next("name the new node with --addr HOST:PORT"));
    };
    let inspected = read(&ask.file)?;
    let file = std::fs::File::open(&ask.file).map_err(|e| files::at(&ask.file, e))?;
    let answer = node.restore_snapshot(pieces(file)).await?;
    let (lineage, image) = (hex::encode(&answer.lineage), hex::encode(&answer.image));
    if inspected.header.image().0[..] != answer.image[..] {
        return Err(Failure::new("the node holds another snapshot than the file").next("trust neither it nor its host"));
    }
    let json: Value = json!({
        "node": endpoint.to_string(), "lineage": lineage, "generation": answer.generation, "revision": answer.revision,
        "image": image,
    });
    let text = format!(
        "{endpoint} holds the snapshot\nlineage     {lineage}\ngeneration  {}\nrevision    {}\nimage       {image}\n\
         next: claviger operator recover --addr {endpoint}",
        answer.generation, answer.revision,
    );
    Ok(Report::new(json, text))
}

/// The bytes of a file; a piece that cannot be read ends the stream as if the connection had broken.
fn pieces(file: std::fs::File) -> impl futures_util::Stream<Item = std::io::Result<bytes::Bytes>> + Send + 'static {
    futures_util::stream::unfold(Some(file), |file| async move {
        let (mut file, mut piece) = (file?, vec![0; PIECE_BYTES]);
        match file.read(&mut piece) {
            Ok(0) => None,
            Ok(count) => {
                piece.truncate(count);
                Some((Ok(piece.into()), Some(file)))
            }
            Err(failed) => Some((Err(failed), None)),
        }
    })
}

fn read(path: &Path) -> Result<Inspected, Failure> {
    let mut file = std::fs::File::open(path).map_err(|e| files::at(path, e))?;
    let (mut reader, mut piece) = (FileReader::default(), vec![0; PIECE_BYTES]);
    loop {
        let count = file.read(&mut piece).map_err(|e| files::at(path, e))?;
        if count == 0 {
            return reader.finish().map_err(|broken| files::at(path, broken));
        }
        reader.feed(&piece[..count]).map_err(|broken| files::at(path, broken))?;
    }
}

fn report(path: &Path, inspected: &Inspected) -> Report {
    let Inspected { header, progress, chain, custodians, records, node, .. } = inspected;
    let name = |pick: fn(&claviger_core::roster::Genesis) -> String| {
        chain.founding().map(|founding| pick(&founding.genesis)).unwrap_or_default()
    };
    let (cluster, region) = (name(|g| g.cluster.to_string()), name(|g| g.region.to_string()));
    let present = chain.roster().into_iter().flat_map(|roster| &roster.members);
    let members: Vec<u64> = present.filter(|m| m.role != Role::Retired).map(|m| m.node.0).collect();
    let counted: u64 = records.values().sum();
    let shares = custodians.as_ref().map(|set| (set.epoch, set.threshold, set.holders.len()));
    let json: Value = json!({
        "file": path, "image": header.image().to_string(), "lineage": header.lineage.to_string(), "cluster": cluster, "region": region,
        "generation": header.generation, "revision": header.sequence, "cluster_time_ms": header.time.0,
        "last_entry": { "term": header.last.term, "index": header.last.index },
        "state_hash": { "shared": header.shared.to_string(), "local": header.local.to_string() },
        "links": chain.length(), "members": members, "records": counted, "bytes": progress.bytes, "signed_by": node.0,
        "shares": shares.map(|(epoch, threshold, holders)| {
            json!({ "epoch": epoch, "threshold": threshold, "holders": holders })
        }),
    });
    let opened_by = shares.map_or("its static key".to_owned(), |(epoch, threshold, holders)| {
        format!("{threshold} of {holders} shares of epoch {epoch}")
    });
    let text = format!(
        "cluster     {cluster}, {region}\nimage       {}\nlineage     {}\ngeneration  {}, {} header links\nrevision    {}\n\
         time        {}, by cluster time\nstate hash  {}\n            {}\nholds       {counted} records, {} bytes\n\
         members     {}\nsigned by   node {}\nopened by   {opened_by}",
        header.image(),
        header.lineage,
        header.generation,
        chain.length(),
        header.sequence,
        header.time,
        header.shared,
        header.local,
        progress.bytes,
        members.iter().map(u64::to_string).collect::<Vec<_>>().join(", "),
        node.0,
    );
    Report::new(json, text)
}
