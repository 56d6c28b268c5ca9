//! The runbooks in `deploy/runbooks`: every block of code in them is run as it stands, in the order of its runbook, by whoever
//! is named behind its language.

use claviger_jepsen::cluster::Cluster;
use claviger_jepsen::people::as_caller;
use claviger_jepsen::stage::{WITNESS, alone, create, decrypt_as, encrypt, valid_calls};
use claviger_jepsen::tool::{Tool, binary};
use claviger_proto::v1::{MemberRole, NodeStatus, SealState};
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;

/// Some code, and who runs it.
struct Block {
    who: String,
    code: String,
}

/// The blocks of a runbook. Other languages than `sh` are for reading.
fn blocks(name: &str) -> Vec<Block> {
    let path = format!("{}/../deploy/runbooks/{name}.md", env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read_to_string(&path).unwrap();
    let mut blocks = Vec::new();
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        if let Some(who) = line.strip_prefix("```sh ") {
            let code: Vec<&str> = lines.by_ref().take_while(|line| *line != "```").collect();
            blocks.push(Block { who: who.into(), code: code.join("\n") });
        } else {
            assert_ne!(line, "```sh", "{name}: a block that nobody runs");
        }
    }
    assert!(!blocks.is_empty(), "{name} has no code");
    blocks
}

/// Where a runbook is followed: a cluster, and a folder with the files that people have at hand.
struct Desk {
    cluster: Cluster,
    variables: Vec<(&'static str, String)>,
}

impl Desk {
    async fn open(purpose: &str) -> Desk {
        let cluster = Cluster::start_open(3, purpose).await.unwrap();
        create(&cluster, WITNESS).await.unwrap();
        for custodian in &cluster.custodians {
            let here = |end: &str| cluster.folder.join(format!("{}.{end}", custodian.name));
            symlink(cluster.share(custodian), here("share")).unwrap();
            if !here("custodian").exists() {
                symlink(&custodian.private, here("custodian")).unwrap();
            }
        }
        Desk { cluster, variables: Vec::new() }
    }

    fn with(mut self, name: &'static str, value: impl ToString) -> Desk {
        self.variables.retain(|(known, _)| *known != name);
        self.variables.push((name, value.to_string()));
        self
    }

    fn tool(&self, who: &str) -> Tool {
        let cluster = &self.cluster;
        let custodian = |name: &str| cluster.custodians.iter().find(|c| c.name == name).map(|c| &c.credentials);
        let credentials = match who.split_once(' ') {
            None if who == "administrator" => Some(&cluster.administrator),
            None if who == "operator" || who == "host" => Some(&cluster.operator),
            Some(("custodian", name)) => custodian(name),
            _ => None,
        };
        let credentials = credentials.unwrap_or_else(|| panic!("nobody is called {who}"));
        let programs = binary("claviger").unwrap();
        let path = format!("{}:{}", programs.parent().unwrap().display(), std::env::var("PATH").unwrap());
        let tool = as_caller(&cluster.tool(&cluster.operator), credentials).with("PATH", path);
        self.variables.iter().fold(tool, |tool, (name, value)| tool.with(name, value))
    }

    /// Follows a runbook from its beginning to its end.
    async fn follow(&mut self, name: &str) {
        for block in blocks(name) {
            if block.who == "host" {
                self.start_host(&block.code).await;
            } else {
                self.run(name, &block);
            }
        }
    }

    fn run(&self, name: &str, block: &Block) {
        let mut command = Command::new("bash");
        command.args(["-euo", "pipefail", "-c", &block.code]).current_dir(self.cluster.folder.path());
        let out = self.tool(&block.who).surround(&mut command).output().unwrap();
        let said = format!("{}{}", String::from_utf8_lossy(&out.stdout), String::from_utf8_lossy(&out.stderr));
        assert!(out.status.success(), "{name}, {}: {}\n{said}", block.who, block.code);
    }

    /// The new host, with nothing but its configuration and the ticket that was brought there.
    async fn start_host(&mut self, code: &str) {
        let id = self.variables.iter().find(|(name, _)| *name == "NEW").unwrap().1.parse().unwrap();
        let (tool, ticket) = (self.tool("host"), self.cluster.folder.join(format!("node{id}.ticket")));
        let node = self.cluster.newcomer(id).unwrap();
        std::fs::copy(ticket, node.config().with_file_name(format!("node{id}.ticket"))).unwrap();
        self.cluster.start_by(id, code, &tool).await.unwrap();
    }

    async fn nodes(&self) -> Vec<NodeStatus> {
        self.cluster.status().await.unwrap().nodes
    }
}

fn is(nodes: &[NodeStatus], id: u64, state: SealState) -> bool {
    nodes.iter().any(|node| node.node == id && node.state() == state)
}

#[test]
fn a_node_that_was_restarted_is_opened() {
    alone(async {
        let mut desk = Desk::open("runbook-restarted").await;
        desk.cluster.node_mut(2).unwrap().kill().unwrap();
        desk.cluster.restart(2).await.unwrap();
        assert!(is(&desk.nodes().await, 2, SealState::Sealed));
        desk.follow("restarted").await;
        assert!(is(&desk.nodes().await, 2, SealState::Open));
        valid_calls(&desk.cluster).await.unwrap();
    });
}

#[test]
fn a_lost_node_is_replaced_and_the_new_one_is_opened() {
    alone(async {
        let mut desk = Desk::open("runbook-lost").await.with("LOST", 3).with("NEW", 4);
        let sealed = encrypt(&desk.cluster, 1, WITNESS, b"before").await.unwrap();
        desk.cluster.node_mut(3).unwrap().kill().unwrap();
        desk.cluster.nodes.retain(|node| node.id() != 3);
        desk.follow("old-disk").await;
        desk.follow("lost-node").await;
        desk.follow("restarted").await;
        let nodes = desk.nodes().await;
        assert!(nodes.iter().any(|node| node.node == 3 && node.wanted() == MemberRole::Retired));
        let clear = decrypt_as(&desk.cluster, 4, &desk.cluster.service, WITNESS, &sealed).await.unwrap();
        assert_eq!(clear, b"before");
    });
}

#[test]
fn three_nodes_become_five() {
    alone(async {
        let mut desk = Desk::open("runbook-five").await;
        for id in [4, 5] {
            desk = desk.with("NEW", id);
            desk.follow("grow-to-five").await;
            desk.follow("restarted").await;
        }
        assert_eq!(desk.nodes().await.iter().filter(|node| node.votes).count(), 5);
    });
}

#[test]
fn everything_is_sealed_kept_and_opened_again() {
    alone(async {
        let mut desk = Desk::open("runbook-seal").await;
        let lineage = desk.cluster.status().await.unwrap().lineage;
        desk = desk.with("LINEAGE", lineage.iter().map(|byte| format!("{byte:02x}")).collect::<String>());
        desk.follow("keep-a-snapshot").await;
        desk.follow("seal-everything").await;
        assert!([1, 2, 3].iter().all(|id| desk.cluster.node(*id).is_ok()));
        let nodes = desk.nodes().await;
        assert!([1, 2, 3].iter().all(|id| is(&nodes, *id, SealState::Sealed)), "{nodes:?}");
        desk.follow("restarted").await;
        valid_calls(&desk.cluster).await.unwrap();
    });
}

#[test]
fn every_runbook_is_in_the_list_and_followed_by_a_test() {
    let folder = format!("{}/../deploy/runbooks", env!("CARGO_MANIFEST_DIR"));
    let list = std::fs::read_to_string(Path::new(&folder).join("README.md")).unwrap();
    let here = include_str!("runbooks.rs");
    for entry in std::fs::read_dir(&folder).unwrap() {
        let file = entry.unwrap().file_name().into_string().unwrap();
        let name = file.trim_end_matches(".md");
        assert!(name == "README" || list.contains(&format!("({file})")), "{file} is not in the list");
        assert!(name == "README" || here.contains(&format!("follow(\"{name}\")")), "{file} is followed by no test");
    }
}
