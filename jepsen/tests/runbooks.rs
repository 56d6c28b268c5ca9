//! The runbooks in `deploy/runbooks`: every block of code in them is run as it stands, in the order of its runbook, by whoever
//! is named behind its language.

use claviger_jepsen::cluster::{Cluster, SETTLED_WITHIN};
use claviger_jepsen::node::Node;
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
        if line.contains("Open it: [restarted.md]") {
            blocks.push(Block { who: "another runbook".into(), code: "restarted".into() });
        } else if let Some(who) = line.strip_prefix("```sh ") {
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

    /// Follows a runbook from its beginning to its end, and another one where it says so.
    async fn follow(&mut self, name: &str) {
        for block in blocks(name) {
            match &block.who[..] {
                "another runbook" => Box::pin(self.follow(&block.code)).await,
                "host" => self.start_host(&block.code).await,
                "host survivor" => self.start_again(&block.code).await,
                "host kept" => self.start_kept(&block.code).await,
                _ => self.run(name, &block),
            }
            if block.code.contains("operator recover") {
                self.reads_out_the_mandate();
            }
        }
    }

    /// What the operator says to each custodian.
    fn reads_out_the_mandate(&mut self) {
        let survivor = self.variables.iter().find(|(name, _)| *name == "SURVIVOR").unwrap().1.clone();
        let asked = ["operator", "recover", "--addr", &survivor, "--output", "json"];
        let shown = self.tool("administrator").run(&asked).unwrap().json().unwrap();
        let digest = shown["mandate"]["digest"].as_str().unwrap().to_owned();
        self.variables.retain(|(name, _)| *name != "MANDATE");
        self.variables.push(("MANDATE", digest));
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
        let (address, there) = (node.address(), node.config().with_file_name(format!("node{id}.ticket")));
        if ticket.exists() {
            std::fs::copy(ticket, there).unwrap();
        }
        self.variables.push(("SURVIVOR", address.to_string()));
        self.cluster.start_by(id, code, &tool).await.unwrap();
    }

    /// The one node that is left has ended by itself, and is started again.
    async fn start_again(&mut self, code: &str) {
        let tool = self.tool("host");
        let [node] = &mut self.cluster.nodes[..] else { panic!("one node is left") };
        let (status, said) = node.wait_end(SETTLED_WITHIN).unwrap();
        assert!(said.contains("the custodians have given their mandate"), "{said}");
        assert_eq!(status, 3, "the supervisor leaves it to people when it is started again");
        let id = node.id();
        self.cluster.start_by(id, code, &tool).await.unwrap();
    }

    /// Of two that have ended, the one that is kept.
    async fn start_kept(&mut self, code: &str) {
        let (tool, id) = (self.tool("host"), self.cluster.nodes[0].id());
        self.cluster.start_by(id, code, &tool).await.unwrap();
    }

    /// All but one are lost; that one goes on alone, as its runbook says.
    async fn goes_on_alone(self, id: u64) -> (Desk, Vec<Node>) {
        let mut desk = self;
        let (left, lost) = desk.cluster.nodes.drain(..).partition(|node| node.id() == id);
        desk.cluster.nodes = left;
        let survivor = desk.cluster.node(id).unwrap().address();
        desk = desk.with("SURVIVOR", survivor);
        desk.follow("quorum-lost").await;
        (desk, lost)
    }

    async fn nodes(&self) -> Vec<NodeStatus> {
        self.cluster.status().await.unwrap().nodes
    }
}

/// The lineage as people read it.
async fn lineage(cluster: &Cluster) -> String {
    cluster.status().await.unwrap().lineage.iter().map(|byte| format!("{byte:02x}")).collect()
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
        }
        assert_eq!(desk.nodes().await.iter().filter(|node| node.votes).count(), 5);
    });
}

#[test]
fn everything_is_sealed_kept_and_opened_again() {
    alone(async {
        let mut desk = Desk::open("runbook-seal").await;
        let lineage = lineage(&desk.cluster).await;
        desk = desk.with("LINEAGE", lineage);
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
fn one_survivor_of_three_goes_on_alone_and_grows_again() {
    alone(async {
        let mut desk = Desk::open("runbook-quorum").await;
        let sealed = encrypt(&desk.cluster, 1, WITNESS, b"before").await.unwrap();
        let survivor = desk.cluster.node(1).unwrap().address();
        desk = desk.with("SURVIVOR", survivor);
        let refused = desk.tool("operator").run(&["operator", "recover", "--addr", &survivor.to_string()]).unwrap();
        assert!(refused.code != 0 && refused.stderr.contains("they answer"), "{}", refused.text());
        for id in [2, 3] {
            desk.cluster.node_mut(id).unwrap().kill().unwrap();
        }
        let mut lost = desk.cluster.nodes.split_off(1);
        desk.follow("quorum-lost").await;
        let clear = decrypt_as(&desk.cluster, 1, &desk.cluster.service, WITNESS, &sealed).await.unwrap();
        assert_eq!(clear, b"before");
        valid_calls(&desk.cluster).await.unwrap();
        // The lost ones come back together: they would be a majority of what they know.
        lost.iter_mut().for_each(|node| node.start(&desk.cluster.folder).unwrap());
        for node in &mut lost {
            let (_, said) = node.wait_end(SETTLED_WITHIN).unwrap();
            assert!(said.contains("this node was removed from its cluster"), "{said}");
        }
        desk = desk.with("NEW", 4);
        desk.follow("grow-to-five").await;
        let clear = decrypt_as(&desk.cluster, 4, &desk.cluster.service, WITNESS, &sealed).await.unwrap();
        assert_eq!(clear, b"before");
    });
}

#[test]
fn two_that_went_on_alone_end_when_they_meet_and_one_of_them_is_kept() {
    alone(async {
        let mut desk = Desk::open("runbook-torn").await;
        let sealed = encrypt(&desk.cluster, 1, WITNESS, b"before").await.unwrap();
        for id in [2, 3] {
            desk.cluster.node_mut(id).unwrap().kill().unwrap();
        }
        let (mut desk, mut lost) = desk.goes_on_alone(1).await;
        let [mut kept] = <[_; 1]>::try_from(std::mem::take(&mut desk.cluster.nodes)).unwrap_or_else(|_| panic!());
        kept.kill().unwrap();
        lost.retain(|node| node.id() == 2);
        desk.cluster.nodes = lost;
        desk.cluster.restart(2).await.unwrap();
        let (mut desk, _) = desk.goes_on_alone(2).await;
        kept.start(&desk.cluster.folder).unwrap();
        for node in desk.cluster.nodes.iter_mut().chain([&mut kept]) {
            let (_, said) = node.wait_end(SETTLED_WITHIN).unwrap();
            assert!(said.contains("two nodes have each begun generation 2"), "{said}");
        }
        let address = kept.address();
        desk.cluster.nodes = vec![kept];
        desk = desk.with("SURVIVOR", address);
        desk.follow("torn").await;
        let clear = decrypt_as(&desk.cluster, 1, &desk.cluster.service, WITNESS, &sealed).await.unwrap();
        assert_eq!(clear, b"before");
        valid_calls(&desk.cluster).await.unwrap();
    });
}

#[test]
fn a_snapshot_is_given_to_a_new_node_that_goes_on_with_it() {
    alone(async {
        let mut desk = Desk::open("runbook-restore").await;
        let sealed = encrypt(&desk.cluster, 1, WITNESS, b"before").await.unwrap();
        let lineage = lineage(&desk.cluster).await;
        desk = desk.with("LINEAGE", lineage).with("NEW", 9);
        desk.follow("keep-a-snapshot").await;
        create(&desk.cluster, "tenants/default/keys/after").await.unwrap();
        desk.cluster.nodes.iter_mut().for_each(|node| _ = node.kill().unwrap());
        desk.cluster.nodes.clear();
        desk.follow("nothing-left").await;
        let clear = decrypt_as(&desk.cluster, 9, &desk.cluster.service, WITNESS, &sealed).await.unwrap();
        assert_eq!(clear, b"before");
        valid_calls(&desk.cluster).await.unwrap();
        assert!(
            encrypt(&desk.cluster, 9, "tenants/default/keys/after", b"x").await.is_err(),
            "what came after is lost"
        );
        desk = desk.with("NEW", 10);
        desk.follow("grow-to-five").await;
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
