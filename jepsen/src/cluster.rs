//! A cluster of real processes on loopback, made, founded and opened with the tools that a newcomer has.

use crate::folder::Folder;
use crate::node::{Addresses, Node, Settings};
use crate::people::{Custodian, as_caller};
use crate::pki::{Authority, Credentials, path, uri};
use crate::process::LOOK_EVERY;
use crate::tool::Tool;
use crate::trouble::{About, Told, Trouble};
use crate::wire::Line;
use claviger_proto::v1::{
    GetClusterStatusRequest, GetClusterStatusResponse, GetSealStatusRequest, KeyGrant, NodeStatus, Role, RoleKind,
    SealState, SetRoleRequest,
};
use std::net::SocketAddrV4;
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// Custodians of every cluster that is started here.
pub const CUSTODIANS: [&str; 5] = ["ada", "ben", "cleo", "dan", "eve"];
/// Shares that open it.
pub const THRESHOLD: usize = 3;
/// How long something that the cluster does by itself may take: elect, catch up, open.
pub const SETTLED_WITHIN: Duration = Duration::from_secs(20);

/// The cluster, and everybody who deals with it.
pub struct Cluster {
    /// Where everything lies.
    pub folder: Folder,
    /// The nodes, in order of their numbers, from 1.
    pub nodes: Vec<Node>,
    /// The authority for callers.
    pub callers: Authority,
    /// The authority between nodes.
    pub peers: Authority,
    /// Gives roles, makes keys.
    pub administrator: Credentials,
    /// Seals and asks for the status.
    pub operator: Credentials,
    /// A program that may use every key of the tenant `default`.
    pub service: Credentials,
    /// Reads audit books.
    pub auditor: Credentials,
    /// The holders of the shares.
    pub custodians: Vec<Custodian>,
    tool: Tool,
}

impl Cluster {
    /// Certificates, custodians' keys and configurations for `count` nodes; nothing runs yet.
    pub fn prepare(count: u64, purpose: &str) -> Told<Cluster> {
        let folder = Folder::new(purpose)?;
        let tool = Tool::at_home(folder.path());
        let callers = Authority::create(&tool, folder.join("ca-callers"))?;
        let peers = Authority::create(&tool, folder.join("ca-peers"))?;
        let tool = tool.with("CLAVIGER_CA", callers.cert());
        let custodian = |name: &&str| Custodian::create(&tool, &callers, folder.join("custodians"), name);
        let custodians = CUSTODIANS.iter().map(custodian).collect::<Told<Vec<_>>>()?;
        let nodes = nodes(count, &folder, &callers, &peers)?;
        Ok(Cluster {
            nodes,
            administrator: callers.issue("operator", "root")?,
            operator: callers.issue("operator", "olga")?,
            service: callers.issue("service", "billing")?,
            auditor: callers.issue("operator", "audit")?,
            custodians,
            folder,
            callers,
            peers,
            tool,
        })
    }

    /// Prepared, with every node's process started and answering.
    pub async fn start(count: u64, purpose: &str) -> Told<Cluster> {
        let mut cluster = Cluster::prepare(count, purpose)?;
        cluster.start_nodes().await?;
        Ok(cluster)
    }

    /// Started, founded, opened, with roles: ready for callers.
    pub async fn start_open(count: u64, purpose: &str) -> Told<Cluster> {
        let cluster = Cluster::start(count, purpose).await?;
        cluster.found()?;
        cluster.open().await?;
        cluster.give_roles().await?;
        Ok(cluster)
    }

    /// Starts every node's process and waits until each answers.
    pub async fn start_nodes(&mut self) -> Told<()> {
        for node in &mut self.nodes {
            node.start(&self.folder)?;
        }
        for node in &mut self.nodes {
            node.ready(&self.callers, &self.operator).await?;
        }
        Ok(())
    }

    /// Starts one node again and waits until it answers.
    pub async fn restart(&mut self, id: u64) -> Told<SealState> {
        let node = self.nodes.iter_mut().find(|n| n.id() == id).about("no such node")?;
        node.start(&self.folder)?;
        Ok(node.ready(&self.callers, &self.operator).await?.state())
    }

    /// A node that knows of no other: its configuration names itself alone. It is not started.
    pub fn newcomer(&mut self, id: u64) -> Told<&mut Node> {
        let listen = Addresses::free()?;
        let members = [(id, listen.peers)];
        let node = node(id, listen, &members, &self.folder, &self.callers, &self.peers)?;
        self.nodes.push(node);
        self.node_mut(id)
    }

    /// Starts one node by a line for a shell, and waits until it answers.
    pub async fn start_by(&mut self, id: u64, line: &str, tool: &Tool) -> Told<()> {
        let node = self.nodes.iter_mut().find(|n| n.id() == id).about("no such node")?;
        node.start_by(&self.folder, line, tool)?;
        node.ready(&self.callers, &self.operator).await.map(drop)
    }

    /// A node joins with a ticket, and answers; it has not caught up yet.
    pub async fn join(&mut self, id: u64) -> Told<()> {
        let ticket = self.folder.join(format!("node-{id}.ticket"));
        self.tool(&self.administrator).must(&["operator", "join", &id.to_string(), "--ticket", path(&ticket)])?;
        self.newcomer(id)?.ticket = Some(ticket);
        self.restart(id).await.map(drop)
    }

    /// Founds the cluster through the first node, with the command line.
    pub fn found(&self) -> Told<()> {
        self.tool(&self.administrator).must(&self.founding_words()).map(drop)
    }

    /// The words of `claviger` that found the cluster.
    pub fn founding_words(&self) -> Vec<String> {
        let mut words: Vec<String> = ["operator", "init", "--threshold"].map(String::from).into();
        words.push(THRESHOLD.to_string());
        for custodian in &self.custodians {
            words.extend(["--custodian".into(), path(&custodian.public).into()]);
        }
        words.extend(["--administrator".into(), uri("operator", "root")]);
        words.extend(["--out".into(), path(&self.folder.join("shares")).into()]);
        words
    }

    /// Somebody's share file.
    pub fn share(&self, custodian: &Custodian) -> PathBuf {
        self.folder.join(format!("shares/{}.share", custodian.name))
    }

    /// Opens every node that runs, by three custodians at the first of them that is sealed.
    pub async fn open(&self) -> Told<()> {
        let sealed = self.sealed_node().await?;
        let came = self.came(sealed.id()).await?;
        let missing = self.custodians.iter().filter(|c| !came.contains(&c.uri())).take(THRESHOLD - came.len());
        for custodian in missing {
            let ran = custodian.offer(sealed.address(), &self.share(custodian))?;
            if ran.code != 0 {
                return Err(Trouble::new(format!("{} offers a share: {}", custodian.name, ran.stderr)));
            }
        }
        self.settled("open", |nodes| nodes.iter().all(|n| !n.reachable || n.state() == SealState::Open)).await.map(drop)
    }

    /// Holders whose shares the ceremony that a node knows of has accepted.
    async fn came(&self, id: u64) -> Told<Vec<String>> {
        let line = self.line(id, &self.operator).await?;
        let status = line.seal().get_seal_status(GetSealStatusRequest {}).await?.into_inner();
        let running = status.ceremony.filter(|ceremony| !ceremony.complete);
        Ok(running.map(|c| c.accepted.into_iter().map(|a| a.holder).collect()).unwrap_or_default())
    }

    async fn sealed_node(&self) -> Told<&Node> {
        let status = self.status().await?;
        let sealed = status.nodes.iter().find(|n| n.reachable && n.state() == SealState::Sealed);
        let id = sealed.about("no node is sealed")?.node;
        self.nodes.iter().find(|n| n.id() == id).about("a node that is not ours")
    }

    /// Gives everybody their roles, through whichever node is asked first.
    pub async fn give_roles(&self) -> Told<()> {
        let all = KeyGrant { key: "tenants/default/keys/*".into(), encrypt: true, decrypt: true };
        let roles = [
            (uri("operator", "olga"), RoleKind::Operator, vec![]),
            (uri("operator", "audit"), RoleKind::Auditor, vec![]),
            (uri("service", "billing"), RoleKind::KeyUser, vec![all]),
        ];
        let line = self.line(1, &self.administrator).await?;
        for (identity, kind, keys) in roles {
            let role = Role { identity, kinds: vec![kind.into()], keys, revision: 0 };
            line.roles().set_role(SetRoleRequest { role: Some(role), request_id: Default::default() }).await?;
        }
        Ok(())
    }

    /// The command line as somebody, who knows every node.
    pub fn tool(&self, who: &Credentials) -> Tool {
        let addresses: Vec<_> = self.nodes.iter().map(|n| n.address().to_string()).collect();
        as_caller(&self.tool, who).with("CLAVIGER_ADDR", addresses.join(","))
    }

    /// The command line as somebody, who knows one node.
    pub fn tool_at(&self, id: u64, who: &Credentials) -> Told<Tool> {
        Ok(as_caller(&self.tool, who).with("CLAVIGER_ADDR", self.node(id)?.address().to_string()))
    }

    /// The node of that number.
    pub fn node(&self, id: u64) -> Told<&Node> {
        self.nodes.iter().find(|n| n.id() == id).about("no such node")
    }

    /// The node of that number.
    pub fn node_mut(&mut self, id: u64) -> Told<&mut Node> {
        self.nodes.iter_mut().find(|n| n.id() == id).about("no such node")
    }

    /// A connection to one node as somebody.
    pub async fn line(&self, id: u64, who: &Credentials) -> Told<Line> {
        self.node(id)?.line(&self.callers, who).await
    }

    /// The cluster as the first node that answers sees it.
    pub async fn status(&self) -> Told<GetClusterStatusResponse> {
        let mut last = Trouble::new("there are no nodes");
        for node in &self.nodes {
            match self.status_at(node.id()).await {
                Ok(status) => return Ok(status),
                Err(trouble) => last = trouble,
            }
        }
        Err(last)
    }

    /// The cluster as one node sees it.
    pub async fn status_at(&self, id: u64) -> Told<GetClusterStatusResponse> {
        let line = self.line(id, &self.operator).await?;
        Ok(line.cluster().get_cluster_status(GetClusterStatusRequest {}).await?.into_inner())
    }

    /// Waits until the nodes are as they should be, as the first node that answers sees them.
    pub async fn settled(&self, what: &str, good: impl Fn(&[NodeStatus]) -> bool) -> Told<GetClusterStatusResponse> {
        let started = Instant::now();
        loop {
            let status = self.status().await;
            match status {
                Ok(status) if good(&status.nodes) => return Ok(status),
                _ if started.elapsed() < SETTLED_WITHIN => tokio::time::sleep(LOOK_EVERY).await,
                Ok(status) => return Err(Trouble::new(format!("not {what} in time: {:?}", status.nodes))),
                Err(trouble) => return Err(trouble),
            }
        }
    }

    /// Waits until the node that answers knows a leader other than `not`; answers the leader and its term.
    pub async fn leader(&self, not: Option<u64>) -> Told<(u64, u64)> {
        let started = Instant::now();
        loop {
            if let Ok(status) = self.status().await
                && status.leader != 0
                && Some(status.leader) != not
            {
                return Ok((status.leader, status.term));
            }
            if started.elapsed() > SETTLED_WITHIN {
                return Err(Trouble::new("no leader in time"));
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }
}

/// `count` nodes that know each other.
fn nodes(count: u64, folder: &Folder, callers: &Authority, peers: &Authority) -> Told<Vec<Node>> {
    let listen = (1..=count).map(|_| Addresses::free()).collect::<Told<Vec<_>>>()?;
    let members: Vec<_> = (1..).zip(listen.iter().map(|l| l.peers)).collect();
    (1..).zip(&listen).map(|(id, listen)| node(id, *listen, &members, folder, callers, peers)).collect()
}

fn node(
    id: u64,
    listen: Addresses,
    members: &[(u64, SocketAddrV4)],
    folder: &Folder,
    callers: &Authority,
    peers: &Authority,
) -> Told<Node> {
    let home = folder.join(format!("node-{id}"));
    let settings = Settings {
        id,
        cluster: "demo".into(),
        data: home.join("data"),
        listen,
        callers: (callers.cert(), callers.issue("node", &id.to_string())?),
        peers: (peers.cert(), peers.issue("node", &id.to_string())?),
        members: members.to_vec(),
        founders: vec![uri("operator", "root")],
        more: String::new(),
    };
    Node::new(home, settings)
}
