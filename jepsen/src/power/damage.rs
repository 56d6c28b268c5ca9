//! Disks that fail or are damaged under one node: it says so by name or nothing rested on it, the cluster answers rightly
//! throughout, and with its disk mended the node is back with everything.

use super::grounds::{Grounds, named};
use super::history::Wrong;
use super::lots::Lots;
use super::rounds::tell_wrongs;
use super::writer::Crew;
use crate::demo::say;
use crate::disk::compile;
use crate::process::LOOK_EVERY;
use crate::trouble::{About, Told};
use crate::wire::refusal;
use claviger_proto::v1::EncryptRequest;
use std::fs::{self, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

const FAIL_ONCE: &str = include_str!("fail_once.c");
/// Who has the bad disk.
const VICTIM: u64 = 3;
const NAMED_WITHIN: Duration = Duration::from_secs(30);
const WRITING: Duration = Duration::from_millis(1_500);
/// The first key of the first writer, which stands from the start.
const WITNESS: &str = "tenants/default/keys/w1-1";

/// What happens to the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Damage {
    /// One sync answers EIO; the next would answer yes.
    SyncFails,
    /// The file system is full for a while.
    Full,
    /// A byte of a file is another than was written.
    Flip(Place),
}

/// Whose byte is flipped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// A sorted table of RocksDB.
    Table,
    /// Its write-ahead log.
    WriteAhead,
    /// The last record of that log, which a cut in the middle of a write may leave torn.
    WriteAheadEnd,
    /// Its list of files.
    Manifest,
    /// The marks of how far the log was durable.
    Mark,
    /// The audit book.
    Book,
}

impl Damage {
    /// All of them, in the order that they are played in.
    pub const ALL: [Damage; 8] = [
        Damage::SyncFails,
        Damage::Full,
        Damage::Flip(Place::Table),
        Damage::Flip(Place::WriteAhead),
        Damage::Flip(Place::WriteAheadEnd),
        Damage::Flip(Place::Manifest),
        Damage::Flip(Place::Mark),
        Damage::Flip(Place::Book),
    ];

    fn name(self) -> &'static str {
        match self {
            Damage::SyncFails => "a sync that fails once",
            Damage::Full => "a full disk, freed again",
            Damage::Flip(Place::Table) => "a flipped byte in a table (SST)",
            Damage::Flip(Place::WriteAhead) => "a flipped byte in the write-ahead log",
            Damage::Flip(Place::WriteAheadEnd) => "a flipped byte in the log's last record",
            Damage::Flip(Place::Manifest) => "a flipped byte in the MANIFEST",
            Damage::Flip(Place::Mark) => "a flipped byte in the marks beside the tables",
            Damage::Flip(Place::Book) => "a flipped byte in the audit book",
        }
    }
}

/// Plays all of them on one cluster; answers what was wrong.
pub async fn all(lots: &mut Lots) -> Told<Vec<Wrong>> {
    let mut flag = PathBuf::new();
    let mut grounds = Grounds::found(lots, |cluster| {
        flag = cluster.folder.join("fail-once");
        let library = compile(&cluster.folder, "fail_once", FAIL_ONCE)?;
        let node = cluster.node_mut(VICTIM)?;
        node.environment.push(("LD_PRELOAD".into(), library));
        node.environment.push(("CLAVIGER_FAIL_ONCE".into(), flag.to_string_lossy().into_owned()));
        Ok(())
    })
    .await?;
    let mut wrongs = Vec::new();
    for damage in Damage::ALL {
        let (seen, bad) = match damage {
            Damage::SyncFails => sync_fails(&mut grounds, &flag).await?,
            Damage::Full => full(&mut grounds).await?,
            Damage::Flip(place) => flip(&mut grounds, place, lots).await?,
        };
        say(format_args!("damage: {}: {seen}; {}", damage.name(), if bad.is_empty() { "good" } else { "NOT GOOD" }));
        tell_wrongs(&bad);
        let hopeless = !bad.is_empty();
        wrongs.extend(bad);
        if hopeless {
            break;
        }
    }
    Ok(wrongs)
}

/// What was seen, for people, and what was wrong.
type Seen = (String, Vec<Wrong>);

async fn writing(grounds: &mut Grounds) -> Told<Crew> {
    let crew = grounds.write()?;
    tokio::time::sleep(WRITING).await;
    Ok(crew)
}

async fn sync_fails(grounds: &mut Grounds, flag: &Path) -> Told<Seen> {
    let crew = writing(grounds).await?;
    fs::write(flag, b"").about("flag")?;
    let ended = ends(grounds).await?;
    grounds.rest(crew).await?;
    let (seen, unnamed) = said_of(grounds, ended)?;
    let mut wrongs = grounds.come_back(&[VICTIM]).await?.wrongs;
    wrongs.extend(unnamed);
    if !ended {
        wrongs.push(Wrong::Stuck("the node went on after a sync that failed".into()));
    }
    Ok((seen, wrongs))
}

async fn full(grounds: &mut Grounds) -> Told<Seen> {
    let crew = writing(grounds).await?;
    grounds.volume(VICTIM)?.fill()?;
    let refused = refuses(grounds).await?;
    grounds.rest(crew).await?;
    let ended = grounds.cluster.node_mut(VICTIM)?.has_ended()?;
    let (seen, unnamed) =
        if refused && !ended { ("refused as book_full".into(), None) } else { said_of(grounds, ended)? };
    grounds.cluster.node_mut(VICTIM)?.kill()?;
    grounds.volume(VICTIM)?.free()?;
    let mut wrongs = grounds.come_back(&[VICTIM]).await?.wrongs;
    wrongs.extend(unnamed);
    if !refused && !ended {
        wrongs.push(Wrong::Stuck("the node went on with a full disk".into()));
    }
    Ok((seen, wrongs))
}

/// Waits until the node has ended.
async fn ends(grounds: &mut Grounds) -> Told<bool> {
    let (started, node) = (Instant::now(), grounds.cluster.node_mut(VICTIM)?);
    while !node.has_ended()? {
        if started.elapsed() > NAMED_WITHIN {
            return Ok(false);
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
    Ok(true)
}

/// Waits until the node refuses by name, or has ended.
async fn refuses(grounds: &mut Grounds) -> Told<bool> {
    let started = Instant::now();
    while started.elapsed() < NAMED_WITHIN && !grounds.cluster.node_mut(VICTIM)?.has_ended()? {
        let Ok(line) = grounds.cluster.line(VICTIM, &grounds.cluster.service).await else { continue };
        let ask = EncryptRequest { name: WITNESS.into(), ..Default::default() };
        if refusal(line.crypto().encrypt(ask).await).is_some_and(|(_, reason)| reason == "book_full") {
            return Ok(true);
        }
    }
    Ok(false)
}

/// What the node said of it, and what is wrong where it ended without a name for it.
fn said_of(grounds: &Grounds, ended: bool) -> Told<(String, Option<Wrong>)> {
    let said = grounds.said(VICTIM)?;
    let line = named(&said);
    let unnamed = ended && line.is_none();
    let seen =
        format!("the node {}: {}", if ended { "ended" } else { "runs" }, line.unwrap_or("without a name for it"));
    Ok((seen, unnamed.then(|| Wrong::Stuck("the node ended without a name for what was wrong".into()))))
}

/// Flips a byte while the node is down, starts it, and flips it back if that was refused.
async fn flip(grounds: &mut Grounds, place: Place, lots: &mut Lots) -> Told<Seen> {
    let crew = writing(grounds).await?;
    grounds.rest(crew).await?;
    grounds.cluster.node_mut(VICTIM)?.kill()?;
    let file = place.file(&grounds.cluster.node(VICTIM)?.settings.data)?;
    let offset = place.offset(&file, lots)?;
    flip_at(&file, offset)?;
    let verdict = grounds.come_back(&[VICTIM]).await?;
    let shown = file.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let Some(name) = place.named(&verdict.wrongs) else {
        return Ok((format!("{shown} at {offset}: the node did not refuse"), place.unnamed(verdict.wrongs)));
    };
    let seen = format!("{shown} at {offset}: {name}");
    grounds.cluster.node_mut(VICTIM)?.kill()?;
    flip_at(&file, offset)?;
    Ok((seen, grounds.come_back(&[VICTIM]).await?.wrongs))
}

impl Place {
    /// The largest file of its kind: the one that most rests on.
    fn file(self, data: &Path) -> Told<PathBuf> {
        let (folder, mine): (_, fn(&str) -> bool) = match self {
            Place::Table => ("tables", |name| name.ends_with(".sst")),
            Place::WriteAhead | Place::WriteAheadEnd => ("tables", |name| name.ends_with(".log")),
            Place::Manifest => ("tables", |name| name.starts_with("MANIFEST-")),
            Place::Mark => ("files", |name| name.starts_with("mark-")),
            Place::Book => ("files", |name| name.starts_with("audit")),
        };
        let listed = fs::read_dir(data.join(folder)).about(folder)?.filter_map(|entry| Some(entry.ok()?.path()));
        let files = listed.filter(|file| file.file_name().is_some_and(|name| mine(&name.to_string_lossy())));
        files.max_by_key(|file| fs::metadata(file).map_or(0, |m| m.len())).about(format!("no file for {self:?}"))
    }

    /// Somewhere in its first half; or in its last bytes.
    fn offset(self, file: &Path, lots: &mut Lots) -> Told<u64> {
        let length = fs::metadata(file).about(file.display())?.len();
        Ok(match self {
            Place::WriteAheadEnd => length - 1 - lots.below(16),
            Place::Table | Place::WriteAhead | Place::Manifest | Place::Mark | Place::Book => {
                length / 8 + lots.below(length * 3 / 8)
            }
        })
    }

    /// What is wrong when nothing was named. A table may hold what nobody reads any more; the last record may be taken
    /// for one that was being written, and comes back from the other nodes. Everything else is read at a start, whole.
    fn unnamed(self, mut wrongs: Vec<Wrong>) -> Vec<Wrong> {
        match self {
            Place::Table | Place::WriteAheadEnd => {}
            Place::WriteAhead | Place::Manifest | Place::Mark | Place::Book if !wrongs.is_empty() => {}
            Place::WriteAhead | Place::Manifest | Place::Mark | Place::Book => {
                wrongs.push(Wrong::Stuck(format!("node {VICTIM} did not notice")));
            }
        }
        wrongs
    }

    /// The words by which the damage was named; nothing when there was none, or when something worse was seen.
    fn named(self, wrongs: &[Wrong]) -> Option<String> {
        let book = format!("the book of node {VICTIM}");
        let mine = |line: &str| self == Place::Book && line.starts_with(&book);
        let mut name = None;
        for wrong in wrongs {
            match wrong {
                Wrong::Lost(_) => return None,
                Wrong::Twisted(line) if !mine(line) => return None,
                Wrong::Refused(line) | Wrong::Twisted(line) => name = name.or(Some(line.clone())),
                Wrong::Stuck(_) => {}
            }
        }
        name
    }
}

fn flip_at(file: &Path, offset: u64) -> Told<()> {
    let opened = OpenOptions::new().read(true).write(true).open(file).about(file.display())?;
    let mut byte = [0];
    opened.read_exact_at(&mut byte, offset).about(file.display())?;
    opened.write_all_at(&[byte[0] ^ 0x10], offset).about(file.display())?;
    opened.sync_all().about(file.display())
}
