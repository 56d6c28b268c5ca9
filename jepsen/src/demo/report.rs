//! `demo.json`: what happened, for programs. A test does not trust it: it looks for itself.

use crate::cluster::Cluster;
use crate::trouble::{About, Told};
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// The file.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Report {
    /// Where the cluster's files are, or were.
    pub folder: PathBuf,
    /// The nodes as they were at the end.
    pub nodes: Vec<NodeReport>,
    /// The leader that was killed.
    pub killed: Killed,
    /// The leader's number before the kill, and its term.
    pub before: Leader,
    /// The leader's number after the kill, and its term.
    pub after: Leader,
    /// Longest time without a success around the kill.
    pub gaps: Gaps,
    /// Keys whose creation was acknowledged while the leader was killed, all of them found afterwards.
    pub acknowledged_keys: usize,
    /// How long the story took, in seconds.
    pub seconds: f64,
}

/// A node.
#[derive(Debug, Serialize, Deserialize)]
pub struct NodeReport {
    /// Its number.
    pub id: u64,
    /// Its process id.
    pub pid: u32,
    /// Where callers reach it.
    pub address: String,
}

/// The kill.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Killed {
    /// The node's number.
    pub node: u64,
    /// Its process id.
    pub pid: u32,
    /// When, in microseconds since 1970.
    pub at_us: u64,
}

/// A leader and its term.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Leader {
    /// The node's number.
    pub node: u64,
    /// The term.
    pub term: u64,
}

/// Both gaps, in milliseconds, and the journals that they follow from.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Gaps {
    /// Between two encryptions.
    pub encrypt_ms: f64,
    /// Between two keys created.
    pub create_ms: f64,
    /// The journal of the client that encrypts.
    pub encrypt_journal: PathBuf,
    /// The journal of the client that creates keys.
    pub create_journal: PathBuf,
}

impl Report {
    /// Takes down the nodes that run.
    pub fn note_nodes(&mut self, cluster: &Cluster) {
        self.folder = cluster.folder.path().to_owned();
        let running = cluster.nodes.iter().filter_map(|n| Some((n, n.pid()?)));
        self.nodes = running.map(|(n, pid)| NodeReport { id: n.id(), pid, address: n.address().to_string() }).collect();
    }

    /// Writes `target/demo.json`; the folder is that of `CARGO_TARGET_DIR` where it is set.
    pub fn write(&self) -> Told<PathBuf> {
        let path = path();
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder).about(folder.display())?;
        }
        std::fs::write(&path, serde_json::to_vec_pretty(self)?).about(path.display())?;
        Ok(path)
    }

    /// Reads it.
    pub fn read() -> Told<Report> {
        Ok(serde_json::from_slice(&std::fs::read(path()).about(path().display())?)?)
    }
}

/// Where the file is.
pub fn path() -> PathBuf {
    let default = concat!(env!("CARGO_MANIFEST_DIR"), "/../target");
    PathBuf::from(std::env::var_os("CARGO_TARGET_DIR").unwrap_or_else(|| default.into())).join("demo.json")
}
