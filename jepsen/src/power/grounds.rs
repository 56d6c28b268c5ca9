//! Where power is cut: a cluster of three, each node on a volume of its own, with its writers.

use super::check::{self, Verdict};
use super::history::{History, Wrong};
use super::lots::Lots;
use super::volume::{self, VOLUME_MB, Volume};
use super::writer::{Crew, WRITERS, Writer};
use crate::cluster::Cluster;
use crate::node::Node;
use crate::trouble::{About, Told, Trouble};
use claviger_proto::v1::SealState;
use std::time::{Duration, Instant};

/// How long nodes may take from their start until all of them are open.
const OPEN_WITHIN: Duration = Duration::from_secs(90);
/// Nodes that can go on without the others.
const MAJORITY: usize = 2;
const TRY_AGAIN_AFTER: Duration = Duration::from_millis(300);

/// The cluster with everything below it.
pub struct Grounds {
    // First: its folder's guardian ends the processes before the volumes are unmounted.
    /// The cluster.
    pub cluster: Cluster,
    /// One for each node, in their order.
    pub volumes: Vec<Volume>,
    writers: Vec<Writer>,
    /// How much each node's log had said when it was last started.
    heard: Vec<usize>,
}

impl Grounds {
    /// Founds one. `prepare` may put something between the nodes and their disks.
    pub async fn found(lots: &mut Lots, prepare: impl FnOnce(&mut Cluster) -> Told<()>) -> Told<Grounds> {
        let mut cluster = Cluster::prepare(3, "powercut")?;
        let mut volumes = Vec::new();
        for node in &mut cluster.nodes {
            let volume = Volume::create(&cluster.folder, &format!("node-{}", node.id()), VOLUME_MB)?;
            node.settings.data = volume.path().join("data");
            node.write_config()?;
            volumes.push(volume);
        }
        prepare(&mut cluster)?;
        cluster.start_nodes().await?;
        cluster.found()?;
        let writers = (1..=WRITERS).map(|number| Writer::new(number, lots.fork())).collect();
        let mut grounds = Grounds { heard: vec![0; cluster.nodes.len()], cluster, volumes, writers };
        grounds.open().await?;
        grounds.cluster.give_roles().await?;
        Ok(grounds)
    }

    /// Sets the writers to work.
    pub fn write(&mut self) -> Told<Crew> {
        Crew::start(&self.cluster, std::mem::take(&mut self.writers))
    }

    /// Has them stop.
    pub async fn rest(&mut self, crew: Crew) -> Told<()> {
        self.writers = crew.stop().await?;
        Ok(())
    }

    /// What the writers were told.
    pub fn histories(&self) -> Vec<&History> {
        self.writers.iter().map(|writer| &writer.history).collect()
    }

    /// Calls that were acknowledged, and calls whose outcome is not known.
    pub fn told(&self) -> (u64, u64) {
        let sum = |of: fn(&History) -> u64| self.writers.iter().map(|w| of(&w.history)).sum();
        (sum(|h| h.acknowledged), sum(|h| h.failed))
    }

    /// The volume of a node.
    pub fn volume(&self, id: u64) -> Told<&Volume> {
        usize::try_from(id).ok().and_then(|i| self.volumes.get(i.checked_sub(1)?)).about("no such volume")
    }

    /// Cuts the power of these nodes at one moment: first what is on its way to the disks is lost, then the processes.
    pub fn cut(&mut self, nodes: &[u64]) -> Told<()> {
        let volumes = nodes.iter().map(|&id| self.volume(id)).collect::<Told<Vec<_>>>()?;
        volume::cut(&volumes)?;
        for &id in nodes {
            self.cluster.node_mut(id)?.kill()?;
        }
        Ok(())
    }

    /// Mounts the volumes of these nodes anew.
    pub fn remount(&self, nodes: &[u64]) -> Told<()> {
        for &id in nodes {
            self.volume(id)?.unmount()?;
            self.volume(id)?.mount()?;
        }
        Ok(())
    }

    /// Starts these nodes, has custodians open them, and looks at everything.
    pub async fn come_back(&mut self, nodes: &[u64]) -> Told<Verdict> {
        self.note_logs()?;
        for &id in nodes {
            let folder = &self.cluster.folder;
            self.cluster.nodes.iter_mut().find(|n| n.id() == id).about("no such node")?.start(folder)?;
        }
        if let Err(why) = self.open().await {
            return Ok(Verdict::wrong(self.why_not(&why)?));
        }
        // What a node says of itself comes first: the rest mostly follows from it.
        let mut wrongs = self.ends()?;
        let running = self.running()?;
        let mut verdict = check::everything(&self.cluster, &running, &self.histories()).await?;
        if wrongs.is_empty() {
            wrongs = self.ends()?;
        }
        wrongs.append(&mut verdict.wrongs);
        Ok(Verdict { wrongs, ..verdict })
    }

    /// Has custodians open whatever is sealed, until all nodes are open but those that have ended.
    async fn open(&mut self) -> Told<()> {
        let started = Instant::now();
        loop {
            let done = self.open_once().await;
            if done.is_ok() || started.elapsed() > OPEN_WITHIN || self.running()?.len() < MAJORITY {
                return done;
            }
            tokio::time::sleep(TRY_AGAIN_AFTER).await;
        }
    }

    async fn open_once(&mut self) -> Told<()> {
        self.cluster.leader(None).await?;
        if self.all_open().await? {
            return Ok(());
        }
        self.cluster.open().await?;
        self.all_open().await?.then_some(()).about("not every node is open")
    }

    async fn all_open(&mut self) -> Told<bool> {
        let (running, status) = (self.running()?, self.cluster.status().await?);
        let mut nodes = status.nodes.iter().filter(|n| running.contains(&n.node));
        Ok(nodes.all(|n| n.reachable && n.state() == SealState::Open))
    }

    /// Nodes that have not ended.
    fn running(&mut self) -> Told<Vec<u64>> {
        let mut running = Vec::new();
        for node in &mut self.cluster.nodes {
            if !node.has_ended()? {
                running.push(node.id());
            }
        }
        Ok(running)
    }

    /// Why the cluster did not come back: who ended, who says something of its disk, or just what went wrong.
    fn why_not(&mut self, trouble: &Trouble) -> Told<Vec<Wrong>> {
        let mut wrongs = self.ends()?;
        for id in self.cluster.nodes.iter().map(Node::id) {
            let line = named(&self.said(id)?).map(|line| format!("node {id} says: {line}"));
            wrongs.extend(line.filter(|_| wrongs.is_empty()).map(Wrong::Refused));
        }
        wrongs.push(Wrong::Stuck(format!("the cluster does not open: {trouble}")));
        Ok(wrongs)
    }

    /// Nodes that ended since they were started, with what they said last.
    pub fn ends(&mut self) -> Told<Vec<Wrong>> {
        let mut wrongs = Vec::new();
        for (node, &heard) in self.cluster.nodes.iter_mut().zip(&self.heard) {
            if node.has_ended()? {
                let log = node.log()?;
                wrongs.push(told_end(node.id(), log.get(heard..).unwrap_or_default()));
            }
        }
        Ok(wrongs)
    }

    /// What a node said since it was last started.
    pub fn said(&self, id: u64) -> Told<String> {
        let log = self.cluster.node(id)?.log()?;
        let heard = self.heard.iter().zip(1..).find(|&(_, n)| n == id).map_or(0, |(&heard, _)| heard);
        Ok(log.get(heard..).unwrap_or_default().to_owned())
    }

    fn note_logs(&mut self) -> Told<()> {
        self.heard = self.cluster.nodes.iter().map(|node| Ok(node.log()?.len())).collect::<Told<_>>()?;
        Ok(())
    }

    /// Copies what the nodes said and stored to where it outlives the run.
    pub fn save_evidence(&self, to: &std::path::Path) -> Told<()> {
        std::fs::create_dir_all(to).about(to.display())?;
        let from = ["logs", "mounts"].map(|inner| self.cluster.folder.join(inner));
        let copied = std::process::Command::new("cp").arg("-a").args(from).arg(to).status().about("cp")?;
        copied.success().then_some(()).ok_or_else(|| Trouble::new("the evidence was not copied whole"))
    }
}

/// What a node says when it refuses its disk, in its own words.
const NAMED: [&str; 10] = [
    "is damaged",
    "went back in time",
    "the disk failed",
    "the audit book: ",
    "the audit book does not hold its head",
    "differs from the cluster's",
    "wanted to truncate applied entries",
    "belongs to",
    "No space left on device",
    "Input/output error",
];

/// The last line by which a log names a cause.
pub fn named(said: &str) -> Option<&str> {
    said.lines().rev().find(|line| NAMED.iter().any(|name| line.contains(name)))
}

fn told_end(id: u64, said: &str) -> Wrong {
    match named(said) {
        Some(line) => Wrong::Refused(format!("node {id} ended: {line}")),
        None => Wrong::Stuck(format!("node {id} ended: {}", said.lines().last().unwrap_or("without a word"))),
    }
}
