//! The door of a whole node that is a cluster by itself, in memory: real certificates, gate, ledger, keys and book behind
//! real gRPC messages. Only connections are missing.

mod batch;
mod chunks;
mod pipeline;

use super::Connection;
use crate::memory::MemoryDisk;
use crate::node::{Node, NodeConfig, Timings, Unseal, World};
use crate::seal::FoundAsk;
use claviger_core::crypto::{SigningKey, sha256};
use claviger_core::name::{Identity, NodeId};
use claviger_core::page::Page;
use claviger_core::policy::{GrantRecord, KeyGrant};
use claviger_core::secret::Secret32;
use claviger_core::time::UnixMs;
use claviger_proto::v1::{
    self, crypto_client::CryptoClient, keys_client::KeysClient, roles_client::RolesClient, seal_client::SealClient,
};
use claviger_world::clock::Clock;
use claviger_world::disk::BoxFuture;
use claviger_world::entropy::Entropy;
use claviger_world::network::{Answer, CallFailed, Frame, Network};
use claviger_world::runtime;
use rcgen::{CertificateParams, KeyPair, PKCS_ED25519, SanType};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tonic::service::Routes;
use tonic::{Request, Status};

/// Somebody with a certificate.
struct Guest {
    identity: Identity,
    der: Arc<[u8]>,
}

impl Guest {
    fn new(name: &str) -> Guest {
        let uri = format!("spiffe://test/claviger/service/{name}");
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.subject_alt_names = vec![SanType::URI(uri.as_str().try_into().unwrap())];
        let signed = params.self_signed(&KeyPair::generate_for(&PKCS_ED25519).unwrap()).unwrap();
        Guest { identity: uri.parse().unwrap(), der: Arc::from(signed.der().as_ref()) }
    }

    /// A request on a connection of theirs.
    fn asks<T>(&self, message: T) -> Request<T> {
        let mut request = Request::new(message);
        request.extensions_mut().insert(Connection::of(Some(&self.der)));
        request
    }
}

/// A founded and open node with the keys `a`, `b` and `secret`; its administrator; and a program that may use all but the
/// last.
struct House {
    node: Node,
    admin: Guest,
    app: Guest,
    /// May decrypt with `a`, and encrypt with `b`.
    mover: Guest,
}

impl House {
    async fn found() -> House {
        let (admin, app, mover) = (Guest::new("admin"), Guest::new("app"), Guest::new("mover"));
        let node = Node::start(world(), config()).await.unwrap();
        let grants = vec![
            grants(&app, &[("a", true, true), ("b", true, true), ("absent", true, true)]),
            grants(&mover, &[("a", false, true), ("b", true, false)]),
        ];
        let administrators = vec![admin.identity.clone()];
        node.found(FoundAsk { threshold: 0, custodians: vec![], administrators, grants }).await.unwrap();
        node.service().seal.follow().until(|open| open.then_some(())).await.unwrap();
        let house = House { node, admin, app, mover };
        for name in ["a", "b", "secret"] {
            house.create(name).await;
        }
        house
    }

    fn crypto(&self) -> CryptoClient<Routes> {
        CryptoClient::new(self.node.routes())
    }

    async fn create(&self, name: &str) {
        let algorithm = v1::Algorithm::Aes256Gcm.into();
        let ask = v1::CreateKeyRequest { name: key(name), algorithm, ..Default::default() };
        KeysClient::new(self.node.routes()).create_key(self.admin.asks(ask)).await.unwrap();
    }

    async fn rotate(&self, name: &str) {
        let ask = v1::RotateKeyRequest { name: key(name), ..Default::default() };
        KeysClient::new(self.node.routes()).rotate_key(self.admin.asks(ask)).await.unwrap();
    }

    async fn disable(&self, name: &str) {
        let ask = v1::DisableKeyRequest { name: key(name), ..Default::default() };
        KeysClient::new(self.node.routes()).disable_key(self.admin.asks(ask)).await.unwrap();
    }

    async fn enable(&self, name: &str) {
        let ask = v1::EnableKeyRequest { name: key(name), ..Default::default() };
        KeysClient::new(self.node.routes()).enable_key(self.admin.asks(ask)).await.unwrap();
    }

    async fn seal(&self) {
        SealClient::new(self.node.routes()).seal_node(self.admin.asks(v1::SealNodeRequest {})).await.unwrap();
    }

    async fn deny(&self, guest: &Guest) {
        let hash = crate::gate::read_leaf(&guest.der).unwrap().key_hash.0;
        let ask = v1::DenyCertificateRequest { key_hash: hash.to_vec().into(), ..Default::default() };
        RolesClient::new(self.node.routes()).deny_certificate(self.admin.asks(ask)).await.unwrap();
    }

    async fn encrypt(&self, name: &str, plaintext: &'static [u8]) -> v1::EncryptResponse {
        self.crypto().encrypt(self.app.asks(encrypt(name, plaintext))).await.unwrap().into_inner()
    }

    /// What decrypting comes to, in words.
    async fn reads(&self, name: &str, ciphertext: &[u8], context: &[(&str, &str)]) -> String {
        let ask = v1::DecryptRequest { context: pairs(context), ..decrypt(name, ciphertext) };
        match self.crypto().decrypt(self.app.asks(ask)).await {
            Ok(clear) => String::from_utf8(clear.into_inner().plaintext.to_vec()).unwrap(),
            Err(status) => told(&status),
        }
    }

    /// The pages since number `from`, in words: how many attempts, what, of how many keys, what came of it.
    fn pages(&self, from: u64) -> Vec<String> {
        let keys = |page: &Page| usize::from(page.resource.is_some()) + usize::from(page.destination.is_some());
        let told = |page: &Page| {
            let operation = page.operation.map_or("", |operation| operation.word());
            format!("{} {operation} of {} {}", page.count, keys(page), page.outcome)
        };
        self.node.pages_from(from).iter().map(told).collect()
    }
}

fn grants(guest: &Guest, keys: &[(&str, bool, bool)]) -> GrantRecord {
    let grant = |(key, encrypt, decrypt): &(&str, bool, bool)| KeyGrant {
        tenant: "acme".parse().unwrap(),
        key: Some(key.parse().unwrap()),
        encrypt: *encrypt,
        decrypt: *decrypt,
    };
    GrantRecord { identity: guest.identity.clone(), grants: keys.iter().map(grant).collect() }
}

fn key(name: &str) -> String {
    format!("tenants/acme/keys/{name}")
}

fn pairs(context: &[(&str, &str)]) -> Vec<v1::ContextPair> {
    context.iter().map(|(name, value)| v1::ContextPair { name: (*name).into(), value: (*value).into() }).collect()
}

fn encrypt(name: &str, plaintext: &'static [u8]) -> v1::EncryptRequest {
    v1::EncryptRequest { name: key(name), plaintext: plaintext.into(), ..Default::default() }
}

fn decrypt(name: &str, ciphertext: &[u8]) -> v1::DecryptRequest {
    v1::DecryptRequest { name: key(name), ciphertext: ciphertext.to_vec().into(), ..Default::default() }
}

fn re_encrypt(name: &str, ciphertext: &[u8], destination: &str) -> v1::ReEncryptRequest {
    let destination = if destination.is_empty() { String::new() } else { key(destination) };
    v1::ReEncryptRequest { name: key(name), ciphertext: ciphertext.to_vec().into(), destination, ..Default::default() }
}

/// A refusal in words: the code, and what was said.
fn told(status: &Status) -> String {
    format!("{:?}: {}", status.code(), status.message())
}

/// A refusal of one item in words: the code, and the reason.
fn item_told(error: &v1::ItemError) -> String {
    assert!(!error.message.is_empty());
    format!("{:?}: {}", tonic::Code::from(error.code), error.reason)
}

fn simulate(story: impl Future<Output = ()>) {
    let mut builder = tokio::runtime::Builder::new_current_thread();
    builder.enable_time().start_paused(true).build().unwrap().block_on(story);
}

fn config() -> NodeConfig {
    let secret = |byte: u8| Secret32::copy_from(&[byte; 32]).unwrap();
    NodeConfig {
        node: NodeId(1),
        cluster: "test".parse().unwrap(),
        region: "here".parse().unwrap(),
        addresses: BTreeMap::from([(NodeId(1), "here".into())]),
        identity: SigningKey::from_seed(secret(1)),
        founders: vec![],
        unseal: Unseal::Static(secret(2)),
        timings: Timings::default(),
        strict_audit: false,
        reflection: false,
        version: "test",
        process: 1,
        request_wait: Duration::from_secs(5),
        ticket: None,
    }
}

fn world() -> World {
    World {
        disk: Arc::new(MemoryDisk::default()),
        network: Arc::new(Nobody),
        clock: Arc::new(Stopwatch(runtime::now())),
        entropy: Arc::new(Counted::default()),
    }
}

/// Hashes of numbers: never the same again.
#[derive(Default)]
struct Counted(AtomicU64);

impl Entropy for Counted {
    fn fill(&self, out: &mut [u8]) {
        for chunk in out.chunks_mut(32) {
            let number = self.0.fetch_add(1, Ordering::Relaxed).to_be_bytes();
            chunk.copy_from_slice(&sha256(&[&number]).0[..chunk.len()]);
        }
    }
}

struct Stopwatch(runtime::Instant);

impl Clock for Stopwatch {
    fn now(&self) -> UnixMs {
        UnixMs(1_750_000_000_000 + self.awake_and_asleep().as_millis() as u64)
    }
    fn awake_and_asleep(&self) -> Duration {
        runtime::now() - self.0
    }
}

/// Nobody else is there.
struct Nobody;

impl Network for Nobody {
    fn call(&self, _: &str, _: Frame, _: Duration) -> BoxFuture<'static, Result<Answer, CallFailed>> {
        Box::pin(async { Err(CallFailed::Unreachable) })
    }
}
