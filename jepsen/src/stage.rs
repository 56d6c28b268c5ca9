//! Where the tests of one file play: one cluster for all of them, one after the other, and what must be so after each.

use crate::cluster::Cluster;
use crate::pki::Credentials;
use crate::trouble::{About, Told};
use claviger_proto::v1::{
    CreateKeyRequest, DecryptRequest, EncryptRequest, Key, ListDeniedCertificatesRequest, ListKeysRequest,
    ListRolesRequest, Role, SealState,
};
use std::sync::LazyLock;
use tokio::runtime::Runtime;
use tokio::sync::Mutex;
use tonic::Code;

static RUNTIME: LazyLock<Runtime> = LazyLock::new(|| Runtime::new().expect("threads for the runtime"));

/// The key that the valid call after each refusal uses.
pub const WITNESS: &str = "tenants/default/keys/witness";

/// Runs a test that brings its own cluster.
pub fn alone<T>(test: impl Future<Output = T>) -> T {
    RUNTIME.block_on(test)
}

/// One cluster of three open nodes, started by the first test that asks for it.
pub struct Stage {
    purpose: &'static str,
    cluster: Mutex<Option<Cluster>>,
}

impl Stage {
    /// A stage where nothing stands yet.
    pub const fn new(purpose: &'static str) -> Stage {
        Stage { purpose, cluster: Mutex::const_new(None) }
    }

    /// Plays a test in which everything is refused: afterwards the state is what it was, and valid calls succeed at
    /// every node.
    ///
    /// # Panics
    /// When that is not so.
    pub fn unharmed(&self, test: impl AsyncFnOnce(&mut Cluster)) {
        self.play(async |cluster| {
            let before = State::read(cluster).await.expect("state before");
            test(cluster).await;
            let after = State::read(cluster).await.expect("state after");
            assert_eq!(before, after, "a refusal changed something");
            valid_calls(cluster).await.expect("the next valid calls");
        });
    }

    /// Plays a test.
    ///
    /// # Panics
    /// When the cluster does not start.
    pub fn play(&self, test: impl AsyncFnOnce(&mut Cluster)) {
        RUNTIME.block_on(async {
            let mut place = self.cluster.lock().await;
            if place.is_none() {
                let cluster = Cluster::start_open(3, self.purpose).await.expect("an open cluster");
                create(&cluster, WITNESS).await.expect("a key for the valid calls");
                *place = Some(cluster);
            }
            test(place.as_mut().expect("just put there")).await;
        });
    }
}

/// Everything that callers can change, as an administrator reads it.
#[derive(Debug, PartialEq)]
pub struct State {
    keys: Vec<Key>,
    roles: Vec<Role>,
    denied: Vec<Vec<u8>>,
    seals: Vec<(u64, SealState)>,
    lineage: Vec<u8>,
}

impl State {
    /// Reads it through the first node that answers, with barriers.
    pub async fn read(cluster: &Cluster) -> Told<State> {
        let status = cluster.status().await?;
        let line = cluster.line(status.node, &cluster.administrator).await?;
        let ask = ListKeysRequest { parent: "tenants/default".into(), page_size: 256, ..Default::default() };
        let roles = ListRolesRequest { page_size: 256, ..Default::default() };
        let denied = line.roles().list_denied_certificates(ListDeniedCertificatesRequest {}).await?.into_inner();
        Ok(State {
            keys: line.keys().list_keys(ask).await.about("list of keys")?.into_inner().keys,
            roles: line.roles().list_roles(roles).await.about("list of roles")?.into_inner().roles,
            denied: denied.key_hashes.into_iter().map(Into::into).collect(),
            seals: status.nodes.iter().map(|n| (n.node, n.state())).collect(),
            lineage: status.lineage.to_vec(),
        })
    }
}

/// Makes a key.
pub async fn create(cluster: &Cluster, name: &str) -> Told<()> {
    let line = cluster.line(cluster.status().await?.node, &cluster.administrator).await?;
    let made = line.keys().create_key(CreateKeyRequest { name: name.into(), ..Default::default() }).await;
    match made {
        Err(status) if status.code() != Code::AlreadyExists => Err(status.into()),
        Err(_) | Ok(_) => Ok(()),
    }
}

/// Encrypts through one node as the program that may.
pub async fn encrypt(cluster: &Cluster, node: u64, key: &str, plaintext: &[u8]) -> Told<Vec<u8>> {
    let line = cluster.line(node, &cluster.service).await?;
    let ask = EncryptRequest { name: key.into(), plaintext: plaintext.to_vec().into(), ..Default::default() };
    Ok(line.crypto().encrypt(ask).await.about(format!("encrypt through node {node}"))?.into_inner().ciphertext.to_vec())
}

/// Decrypts through one node as somebody.
pub async fn decrypt_as(cluster: &Cluster, node: u64, who: &Credentials, key: &str, sealed: &[u8]) -> Told<Vec<u8>> {
    let line = cluster.line(node, who).await?;
    let ask = DecryptRequest { name: key.into(), ciphertext: sealed.to_vec().into(), ..Default::default() };
    Ok(line.crypto().decrypt(ask).await.about(format!("decrypt through node {node}"))?.into_inner().plaintext.to_vec())
}

/// What one node encrypts, every open node decrypts.
pub async fn valid_calls(cluster: &Cluster) -> Told<()> {
    let status = cluster.status().await?;
    let open: Vec<u64> = status.nodes.iter().filter(|n| n.state() == SealState::Open).map(|n| n.node).collect();
    let first = *open.first().about("no open node")?;
    let sealed = encrypt(cluster, first, WITNESS, b"still here").await?;
    for node in open {
        let opened = decrypt_as(cluster, node, &cluster.service, WITNESS, &sealed).await?;
        (opened == b"still here").then_some(()).about(format!("node {node} decrypted something else"))?;
    }
    Ok(())
}
