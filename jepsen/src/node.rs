//! One clavigerd of ours: its configuration, its process, its faults.

use crate::folder::Folder;
use crate::pki::{Authority, Credentials};
use crate::ports;
use crate::process::{LOOK_EVERY, Process};
use crate::tool::{Tool, binary};
use crate::trouble::{About, Told, Trouble};
use crate::wire::Line;
use claviger_proto::v1::{GetSealStatusRequest, GetSealStatusResponse};
use std::net::SocketAddrV4;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

/// How long a node may take from its start to its first answer.
pub const READY_WITHIN: Duration = Duration::from_secs(30);

/// Where a node listens.
#[derive(Clone, Copy, Debug)]
pub struct Addresses {
    /// For callers.
    pub callers: SocketAddrV4,
    /// For other nodes.
    pub peers: SocketAddrV4,
    /// For Prometheus.
    pub metrics: SocketAddrV4,
}

impl Addresses {
    /// Three free ports.
    pub fn free() -> Told<Addresses> {
        Ok(Addresses { callers: ports::free()?, peers: ports::free()?, metrics: ports::free()? })
    }
}

/// What a configuration file is written from. Tests change it to make a wrong one.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The node's number.
    pub id: u64,
    /// The cluster's name.
    pub cluster: String,
    /// Where the node keeps its data.
    pub data: PathBuf,
    /// Where it listens.
    pub listen: Addresses,
    /// The authority and the node's certificate for callers.
    pub callers: (PathBuf, Credentials),
    /// The same between nodes.
    pub peers: (PathBuf, Credentials),
    /// Every node's number and address for nodes.
    pub members: Vec<(u64, SocketAddrV4)>,
    /// Who may found the cluster.
    pub founders: Vec<String>,
    /// More lines, each a whole section.
    pub more: String,
}

impl Settings {
    /// The text of the file.
    pub fn to_toml(&self) -> String {
        let members: Vec<_> = self.members.iter().map(|(id, at)| format!("{id} = \"{at}\"\n")).collect();
        let Settings { id, cluster, data, listen, founders, more, .. } = self;
        format!(
            "[node]\nid = {id}\ncluster = {cluster:?}\nregion = \"here\"\ndata_dir = {data:?}\n\n\
             [listen]\nclients = \"{}\"\npeers = \"{}\"\nmetrics = \"{}\"\n\n{}\n{}\n\
             [peers]\n{}\n[founders]\nadministrators = {founders:?}\n\n[unseal]\nkind = \"custodians\"\n\n{more}",
            listen.callers,
            listen.peers,
            listen.metrics,
            tls("clients", &self.callers),
            tls("peers", &self.peers),
            members.concat(),
        )
    }
}

fn tls(port: &str, (ca, own): &(PathBuf, Credentials)) -> String {
    let Credentials { cert, key } = own;
    format!("[tls.{port}]\nca = {ca:?}\ncert = {cert:?}\nkey = {key:?}\n")
}

/// A node, running or not.
pub struct Node {
    /// What its configuration says.
    pub settings: Settings,
    /// The environment that it is started with, beside ours: for faults.
    pub environment: Vec<(String, String)>,
    /// The binary that it runs: `clavigerd`, but where a test wants to see a worse one found out.
    pub program: String,
    /// A ticket that it is started with.
    pub ticket: Option<PathBuf>,
    home: PathBuf,
    process: Option<Process>,
}

impl Node {
    /// A node that was never started.
    pub fn new(home: PathBuf, settings: Settings) -> Told<Node> {
        std::fs::create_dir_all(&home).about(home.display())?;
        let (environment, program) = (Vec::new(), "clavigerd".into());
        let node = Node { settings, environment, program, ticket: None, home, process: None };
        node.write_config()?;
        Ok(node)
    }

    /// Writes the configuration anew, after its settings were changed.
    pub fn write_config(&self) -> Told<()> {
        std::fs::write(self.config(), self.settings.to_toml()).about("configuration")
    }

    /// Its configuration file.
    pub fn config(&self) -> PathBuf {
        self.home.join("clavigerd.toml")
    }

    /// Its number.
    pub fn id(&self) -> u64 {
        self.settings.id
    }

    /// Where callers reach it.
    pub fn address(&self) -> SocketAddrV4 {
        self.settings.listen.callers
    }

    /// Its process id, while it runs.
    pub fn pid(&self) -> Option<u32> {
        self.process.as_ref().map(Process::pid)
    }

    /// What it said so far, in all its lives.
    pub fn log(&self) -> Told<String> {
        let log = self.process.as_ref().about("never started")?.log();
        std::fs::read_to_string(log).about(log.display())
    }

    /// Starts the process; does not wait for anything.
    pub fn start(&mut self, folder: &Folder) -> Told<()> {
        let mut command = Command::new(binary(&self.program)?);
        command.arg("run").arg("--config").arg(self.config()).envs(self.environment.iter().cloned());
        if let Some(ticket) = &self.ticket {
            command.arg("--join").arg(ticket);
        }
        self.process = Some(Process::start(folder, &format!("node-{}", self.id()), &mut command)?);
        Ok(())
    }

    /// Starts the process by a line for a shell, in the node's own folder; does not wait for anything.
    pub fn start_by(&mut self, folder: &Folder, line: &str, tool: &Tool) -> Told<()> {
        let mut command = Command::new("bash");
        tool.surround(command.current_dir(&self.home).args(["-euc", &format!("exec {line}")]));
        self.process = Some(Process::start(folder, &format!("node-{}", self.id()), &mut command)?);
        Ok(())
    }

    /// SIGKILL by process id. Answers the id.
    pub fn kill(&mut self) -> Told<u32> {
        let process = self.process.as_mut().about("not running")?;
        process.kill()?;
        Ok(process.pid())
    }

    /// SIGTERM, and waits for a graceful end with status 0.
    pub fn stop(&mut self, within: Duration) -> Told<()> {
        let ended = self.process.as_mut().about("not running")?.stop(within)?;
        if ended.success() { Ok(()) } else { Err(Trouble::new(format!("node {} stopped with {ended}", self.id()))) }
    }

    /// Waits until the process ends by itself; answers its exit status and everything that it said.
    pub fn wait_end(&mut self, within: Duration) -> Told<(i32, String)> {
        let ended = self.process.as_mut().about("not running")?.wait(within)?;
        Ok((ended.code().unwrap_or(-1), self.log()?))
    }

    /// Whether the process has ended.
    pub fn has_ended(&mut self) -> Told<bool> {
        Ok(self.process.as_mut().about("not running")?.ended()?.is_some())
    }

    /// A connection as somebody.
    pub async fn line(&self, ca: &Authority, who: &Credentials) -> Told<Line> {
        Line::open(self.address(), &ca.cert(), Some(who)).await
    }

    /// What the node knows of its own seal, as soon as it answers at all.
    pub async fn ready(&mut self, ca: &Authority, who: &Credentials) -> Told<GetSealStatusResponse> {
        let started = Instant::now();
        loop {
            let answer = self.seal_status(&ca.cert(), who).await;
            if answer.is_ok() || started.elapsed() > READY_WITHIN {
                return answer.about(format!("node {} does not answer; its log: {}", self.id(), self.log()?));
            }
            if self.has_ended()? {
                return Err(Trouble::new(format!("node {} ended; its log: {}", self.id(), self.log()?)));
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    async fn seal_status(&self, ca: &Path, who: &Credentials) -> Told<GetSealStatusResponse> {
        let line = Line::open(self.address(), ca, Some(who)).await?;
        Ok(line.seal().get_seal_status(GetSealStatusRequest {}).await?.into_inner())
    }
}
