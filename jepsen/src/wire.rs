//! One connection to one node as one identity, with nothing clever in it: no retries, no moving on. What the node says
//! is what the test sees.

use crate::pki::Credentials;
use crate::trouble::{About, Told};
use claviger_proto::v1::{
    audit_client::AuditClient, cluster_client::ClusterClient, crypto_client::CryptoClient, keys_client::KeysClient,
    roles_client::RolesClient, seal_client::SealClient,
};
use prost::Message;
use std::net::SocketAddrV4;
use std::path::Path;
use std::time::Duration;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity};
use tonic::{Code, Request, Status};
use tonic_health::pb::health_client::HealthClient;

const CONNECT_WITHIN: Duration = Duration::from_secs(5);
const ANSWER_WITHIN: Duration = Duration::from_secs(10);

/// A connection.
#[derive(Clone)]
pub struct Line {
    channel: Channel,
}

macro_rules! services {
    ($($(#[$doc:meta])* $name:ident: $client:ident),+) => {
        $($(#[$doc])* pub fn $name(&self) -> $client<Channel> {
            $client::new(self.channel.clone())
        })+
    };
}

impl Line {
    /// Connects. Without credentials no certificate is shown.
    pub async fn open(node: SocketAddrV4, ca: &Path, who: Option<&Credentials>) -> Told<Line> {
        let mut tls = ClientTlsConfig::new().domain_name(node.ip().to_string());
        tls = tls.ca_certificate(Certificate::from_pem(std::fs::read(ca).about(ca.display())?));
        if let Some(who) = who {
            tls = tls.identity(Identity::from_pem(who.read_cert()?, who.read_key()?));
        }
        let endpoint = Endpoint::from_shared(format!("https://{node}"))?.tls_config(tls)?;
        let endpoint = endpoint.tcp_nodelay(true).connect_timeout(CONNECT_WITHIN).timeout(ANSWER_WITHIN);
        Ok(Line { channel: endpoint.connect().await.map_err(|e| rooted(&e)).about(node)? })
    }

    /// The connection itself.
    pub fn channel(&self) -> Channel {
        self.channel.clone()
    }

    services!(
        /// Keys and their lives.
        keys: KeysClient,
        /// Encrypting and decrypting.
        crypto: CryptoClient,
        /// Founding, opening, sealing.
        seal: SealClient,
        /// The cluster's status.
        cluster: ClusterClient,
        /// Roles and denials.
        roles: RolesClient,
        /// The audit book.
        audit: AuditClient,
        /// What serves (`grpc.health.v1`).
        health: HealthClient
    );
}

/// The innermost reason: tonic's own says "transport error".
fn rooted(error: &dyn std::error::Error) -> String {
    let reasons = std::iter::successors(Some(error), |e| e.source());
    reasons.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

/// A request that says how long it will be waited for.
pub fn within<T>(message: T, deadline: Duration) -> Request<T> {
    let mut request = Request::new(message);
    request.set_timeout(deadline);
    request
}

/// What a refusal says to programs: its code and the reason in its `google.rpc.ErrorInfo`.
pub type Refusal = (Code, String);

#[derive(Clone, PartialEq, Message)]
struct RpcStatus {
    #[prost(int32, tag = "1")]
    code: i32,
    #[prost(string, tag = "2")]
    message: String,
    #[prost(message, repeated, tag = "3")]
    details: Vec<prost_types::Any>,
}

#[derive(Clone, PartialEq, Message)]
struct ErrorInfo {
    #[prost(string, tag = "1")]
    reason: String,
}

/// Reads the reason out of a status' details; empty where there is none.
pub fn reason(status: &Status) -> String {
    let rpc = RpcStatus::decode(status.details()).unwrap_or_default();
    let info = rpc.details.iter().find(|any| any.type_url.ends_with("/google.rpc.ErrorInfo"));
    info.and_then(|any| ErrorInfo::decode(any.value.as_slice()).ok()).map(|info| info.reason).unwrap_or_default()
}

/// The refusal in an answer, or nothing when it was a yes.
pub fn refusal<T>(answer: Result<T, Status>) -> Option<Refusal> {
    answer.err().map(|status| (status.code(), reason(&status)))
}
