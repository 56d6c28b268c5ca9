//! The peer that durable writes and failovers are measured against: three nodes of etcd, mutual TLS, syncing as it does by
//! default. Spoken to as any of its clients speak: `etcdserverpb.KV/Put`.

use crate::folder::Folder;
use crate::ports;
use crate::process::{LOOK_EVERY, Process};
use crate::trouble::{About, Told, Trouble};
use bytes::Bytes;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use std::net::SocketAddrV4;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};
use tonic::Request;
use tonic::client::Grpc;
use tonic::codegen::http::uri::PathAndQuery;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity};
use tonic_prost::ProstCodec;

const PUT: &str = "/etcdserverpb.KV/Put";
const STATUS: &str = "/etcdserverpb.Maintenance/Status";
const READY_WITHIN: Duration = Duration::from_secs(20);

/// `etcdserverpb.PutRequest`, as far as it is used.
#[derive(Clone, PartialEq, Eq, prost::Message)]
struct PutRequest {
    #[prost(bytes = "bytes", tag = "1")]
    key: Bytes,
    #[prost(bytes = "bytes", tag = "2")]
    value: Bytes,
}

/// `etcdserverpb.PutResponse`: what it says is not looked at.
#[derive(Clone, PartialEq, Eq, prost::Message)]
struct PutResponse {}

/// `etcdserverpb.StatusRequest`.
#[derive(Clone, PartialEq, Eq, prost::Message)]
struct StatusRequest {}

/// `etcdserverpb.ResponseHeader`, as far as it is used.
#[derive(Clone, PartialEq, Eq, prost::Message)]
struct ResponseHeader {
    #[prost(uint64, tag = "2")]
    member_id: u64,
}

/// `etcdserverpb.StatusResponse`, as far as it is used.
#[derive(Clone, PartialEq, Eq, prost::Message)]
struct StatusResponse {
    #[prost(message, optional, tag = "1")]
    header: Option<ResponseHeader>,
    #[prost(uint64, tag = "4")]
    leader: u64,
}

/// One node.
pub struct Member {
    /// Where clients reach it.
    pub clients: SocketAddrV4,
    peers: SocketAddrV4,
    name: String,
    process: Option<Process>,
}

/// Three nodes, and what their clients show them.
pub struct Etcd {
    folder: Folder,
    /// The nodes.
    pub members: Vec<Member>,
    ca_pem: String,
    client: (String, String),
    threads: usize,
}

impl Etcd {
    /// Whether there is an etcd to be measured against on this machine.
    pub fn is_there() -> bool {
        Command::new("etcd").arg("--version").output().is_ok_and(|ran| ran.status.success())
    }

    /// Starts three nodes of so many threads each (0 for as many as they like), and waits until they take writes.
    pub async fn start(threads: usize) -> Told<Etcd> {
        let folder = Folder::new("etcd")?;
        let (ca, ca_pem) = authority()?;
        let client = issue(&ca)?;
        let member = |n: usize| {
            Ok(Member { clients: ports::free()?, peers: ports::free()?, name: format!("etcd-{n}"), process: None })
        };
        let members = (1..=3).map(member).collect::<Told<Vec<_>>>()?;
        let mut etcd = Etcd { folder, members, ca_pem, client, threads };
        std::fs::write(etcd.file("ca.pem"), &etcd.ca_pem).about("ca.pem")?;
        let server = issue(&ca)?;
        std::fs::write(etcd.file("server.pem"), &server.0).about("server.pem")?;
        std::fs::write(etcd.file("server.key"), &server.1).about("server.key")?;
        for n in 0..3 {
            etcd.start_member(n)?;
        }
        etcd.takes_writes(0).await?;
        Ok(etcd)
    }

    fn file(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// Starts one node, for the first time or again.
    pub fn start_member(&mut self, n: usize) -> Told<()> {
        let all: Vec<_> = self.members.iter().map(|m| format!("{}=https://{}", m.name, m.peers)).collect();
        let member = &self.members[n];
        let (clients, peers) = (format!("https://{}", member.clients), format!("https://{}", member.peers));
        let mut command = Command::new("etcd");
        command.args(["--name", &member.name, "--data-dir"]).arg(self.file(&member.name));
        command.args(["--listen-client-urls", &clients, "--advertise-client-urls", &clients]);
        command.args(["--listen-peer-urls", &peers, "--initial-advertise-peer-urls", &peers]);
        command.args(["--initial-cluster", &all.join(","), "--log-level", "error"]);
        for (option, name) in [("trusted-ca-file", "ca.pem"), ("cert-file", "server.pem"), ("key-file", "server.key")] {
            command.arg(format!("--{option}")).arg(self.file(name));
            command.arg(format!("--peer-{option}")).arg(self.file(name));
        }
        command.args(["--client-cert-auth", "--peer-client-cert-auth"]);
        if self.threads > 0 {
            command.env("GOMAXPROCS", self.threads.to_string());
        }
        let name = member.name.clone();
        self.members[n].process = Some(Process::start(&self.folder, &name, &mut command)?);
        Ok(())
    }

    /// SIGKILL.
    pub fn kill(&mut self, n: usize) -> Told<()> {
        let process = self.members[n].process.as_mut().about("not running")?;
        process.kill().map(drop)
    }

    /// The process ids, that of the first node first.
    pub fn pids(&self) -> Vec<u32> {
        self.members.iter().filter_map(|m| m.process.as_ref().map(Process::pid)).collect()
    }

    /// A connection to one node.
    pub async fn channel(&self, n: usize) -> Told<Channel> {
        let tls = ClientTlsConfig::new()
            .domain_name("127.0.0.1")
            .ca_certificate(Certificate::from_pem(&self.ca_pem))
            .identity(Identity::from_pem(&self.client.0, &self.client.1));
        let endpoint = Endpoint::from_shared(format!("https://{}", self.members[n].clients))?.tls_config(tls)?;
        Ok(endpoint.tcp_nodelay(true).connect().await?)
    }

    /// Which node leads, by its own status.
    pub async fn leader(&self) -> Told<usize> {
        for n in 0..self.members.len() {
            let channel = self.channel(n).await?;
            let mut grpc = Grpc::new(channel);
            grpc.ready().await?;
            let codec = ProstCodec::<StatusRequest, StatusResponse>::default();
            let asked = Request::new(StatusRequest {});
            let said = grpc.unary(asked, PathAndQuery::from_static(STATUS), codec).await?.into_inner();
            if said.header.is_some_and(|header| header.member_id == said.leader) {
                return Ok(n);
            }
        }
        Err(Trouble::new("no node of etcd leads"))
    }

    /// Waits until a node takes writes.
    pub async fn takes_writes(&self, n: usize) -> Told<()> {
        let started = Instant::now();
        loop {
            let written = match self.channel(n).await {
                Ok(channel) => put(&channel, "ready".into(), Bytes::new()).await,
                Err(trouble) => Err(trouble),
            };
            match written {
                Ok(()) => return Ok(()),
                Err(_) if started.elapsed() < READY_WITHIN => tokio::time::sleep(LOOK_EVERY).await,
                Err(trouble) => return Err(Trouble::new(format!("etcd takes no writes: {trouble}"))),
            }
        }
    }
}

/// One durable write.
pub async fn put(channel: &Channel, key: String, value: Bytes) -> Told<()> {
    let mut grpc = Grpc::new(channel.clone());
    grpc.ready().await?;
    let codec = ProstCodec::<PutRequest, PutResponse>::default();
    grpc.unary(Request::new(PutRequest { key: key.into(), value }), PathAndQuery::from_static(PUT), codec).await?;
    Ok(())
}

fn authority() -> Told<(CertifiedIssuer<'static, KeyPair>, String)> {
    let mut params = CertificateParams::new(Vec::new()).about("authority")?;
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.distinguished_name.push(DnType::CommonName, "authority");
    let ca = CertifiedIssuer::self_signed(params, KeyPair::generate().about("key")?).about("authority")?;
    let pem = ca.pem();
    Ok((ca, pem))
}

/// A certificate for 127.0.0.1, and its key: for servers and clients alike.
fn issue(ca: &CertifiedIssuer<'static, KeyPair>) -> Told<(String, String)> {
    let key = KeyPair::generate().about("key")?;
    let mut params = CertificateParams::new(vec!["127.0.0.1".to_owned()]).about("certificate")?;
    params.distinguished_name.push(DnType::CommonName, "anyone");
    let cert = params.signed_by(&key, ca).about("certificate")?;
    Ok((cert.pem(), key.serialize_pem()))
}
