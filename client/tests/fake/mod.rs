//! A node made of nothing: real TCP, TLS and gRPC, and answers as a test wants them.

#![allow(dead_code, reason = "each test file uses its own part")]
#![allow(missing_docs, reason = "tests")]

use claviger_client::{Client, Config, Files};
use claviger_proto::v1::{self, cluster_server, crypto_server, keys_server, seal_server};
use rcgen::{BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, SanType};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};
use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::runtime::{Builder, Runtime};
use tokio_stream::StreamExt;
use tonic::codegen::Bytes;
use tonic::{Request, Response, Status, Streaming, transport::Server};

/// Any key.
pub const NAME: &str = "tenants/default/keys/k";

/// A client of these nodes.
pub fn client(pki: &Pki, addresses: &[String], deadline_ms: u64) -> Client {
    let (cert, key) = pki.issue("caller", &["spiffe://example.org/claviger/service/app"], 4000);
    let mut config = Config::new(addresses.join(",").parse().unwrap(), Files { ca: pki.ca(), cert, key });
    config.deadline = Duration::from_millis(deadline_ms);
    Client::new(&config).unwrap()
}

/// An open node.
pub fn node(pki: &Pki, number: u64, script: Script) -> Node {
    let uri = format!("spiffe://example.org/claviger/node/{number}");
    Node::start(pki, &pki.issue(&format!("node{number}"), &[&uri], 4000), v1::SealState::Open, script)
}

static NEXT: AtomicU32 = AtomicU32::new(1);

/// An authority in a folder of its own, and what it issues.
pub struct Pki {
    pub folder: tempfile::TempDir,
    pub issuer: Issuer<'static, KeyPair>,
}

impl Default for Pki {
    fn default() -> Self {
        Pki::new()
    }
}

impl Pki {
    pub fn new() -> Self {
        let mut params = CertificateParams::default();
        let (name, nonce) = (rcgen::DnType::CommonName, NEXT.fetch_add(1, Ordering::Relaxed));
        params.distinguished_name.push(name, format!("test authority {nonce}"));
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        let key = KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap();
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("ca.crt"), params.self_signed(&key).unwrap().pem()).unwrap();
        Pki { folder, issuer: Issuer::new(params, key) }
    }

    pub fn ca(&self) -> PathBuf {
        self.folder.path().join("ca.crt")
    }

    /// A certificate with these URIs, valid until the year; answers the paths of certificate and key.
    pub fn issue(&self, stem: &str, uris: &[&str], until: i32) -> (PathBuf, PathBuf) {
        let mut params = CertificateParams::default();
        params.not_after = rcgen::date_time_ymd(until, 1, 1);
        params.subject_alt_names = uris.iter().map(|u| SanType::URI((*u).try_into().unwrap())).collect();
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth, ExtendedKeyUsagePurpose::ServerAuth];
        let key = KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        let (cert_path, key_path) = (self.path(stem, "crt"), self.path(stem, "key"));
        fs::write(&cert_path, certificate.pem()).unwrap();
        fs::write(&key_path, key.serialize_pem()).unwrap();
        fs::set_permissions(&key_path, fs::Permissions::from_mode(0o600)).unwrap();
        (cert_path, key_path)
    }

    fn path(&self, stem: &str, extension: &str) -> PathBuf {
        self.folder.path().join(format!("{stem}.{extension}"))
    }
}

/// One call as it came in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Heard {
    pub rpc: &'static str,
    pub request_id: Vec<u8>,
    pub min_revision: u64,
}

/// What to answer: the revision, or a refusal. Given the call, or the item of a stream, and how many came before it.
pub type Script = Arc<dyn Fn(&Heard, usize) -> Result<u64, Status> + Send + Sync>;

/// A fake node that runs until it is dropped.
pub struct Node {
    pub address: SocketAddr,
    pub heard: Arc<Mutex<Vec<Heard>>>,
    /// Its own, so that its connections die with it.
    runtime: Option<Runtime>,
}

impl Drop for Node {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

impl Node {
    pub fn start(pki: &Pki, certificate: &(PathBuf, PathBuf), state: v1::SealState, script: Script) -> Self {
        let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let address = listener.local_addr().unwrap();
        let heard = Arc::new(Mutex::new(Vec::new()));
        let fake = Fake { script, state, heard: heard.clone() };
        let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(server_tls(&pki.ca(), certificate)));
        runtime.spawn(async move { serve(TcpListener::from_std(listener).unwrap(), acceptor, fake).await });
        Node { address, heard, runtime: Some(runtime) }
    }

    /// How many calls of that name it has heard.
    pub fn count(&self, rpc: &str) -> usize {
        self.heard.lock().unwrap().iter().filter(|call| call.rpc == rpc).count()
    }

    pub fn calls(&self) -> Vec<Heard> {
        self.heard.lock().unwrap().clone()
    }
}

/// The plaintext of a message that no answer comes to, in a call of its own or on a stream.
pub const NO_ANSWER: &[u8] = b"no answer";
/// The plaintext of an item that no answer comes to; a call of its own is answered.
pub const ANSWERED_ALONE: &[u8] = b"answered alone";
/// The plaintext of an item over which its stream breaks off; a call of its own is answered.
pub const BREAKS_OFF: &[u8] = b"breaks off";
/// A stream that is opened with this revision is never read.
pub const NEVER_READ: u64 = 0;

pub fn always(answer: impl Fn() -> Result<u64, Status> + Send + Sync + 'static) -> Script {
    Arc::new(move |_, _| answer())
}

fn server_tls(ca: &Path, (cert, key): &(PathBuf, PathBuf)) -> rustls::ServerConfig {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut roots = rustls::RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(ca).unwrap()).unwrap();
    let verifier = rustls::server::WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone());
    let mut config = rustls::ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_client_cert_verifier(verifier.build().unwrap())
        .with_single_cert(
            vec![CertificateDer::from_pem_file(cert).unwrap()],
            PrivateKeyDer::from_pem_file(key).unwrap(),
        )
        .unwrap();
    config.alpn_protocols = vec![b"h2".to_vec()];
    config
}

async fn serve(listener: TcpListener, acceptor: tokio_rustls::TlsAcceptor, fake: Fake) {
    let (sender, receiver) = tokio::sync::mpsc::channel(16);
    let accept = async move {
        while let Ok((tcp, _)) = listener.accept().await {
            if let Ok(tls) = acceptor.accept(tcp).await {
                let _ = sender.send(Ok::<_, std::io::Error>(tls)).await;
            }
        }
    };
    let server = Server::builder()
        .add_service(crypto_server::CryptoServer::new(fake.clone()))
        .add_service(keys_server::KeysServer::new(fake.clone()))
        .add_service(seal_server::SealServer::new(fake.clone()))
        .add_service(cluster_server::ClusterServer::new(fake))
        .serve_with_incoming(tokio_stream::wrappers::ReceiverStream::new(receiver));
    let _ = tokio::join!(accept, server);
}

#[derive(Clone)]
struct Fake {
    script: Script,
    state: v1::SealState,
    heard: Arc<Mutex<Vec<Heard>>>,
}

impl Fake {
    fn answer(&self, rpc: &'static str, request_id: &[u8], read: Option<v1::ReadOptions>) -> Result<u64, Status> {
        let call = Heard { rpc, request_id: request_id.to_vec(), min_revision: read.map_or(0, |r| r.min_revision) };
        let mut heard = self.heard.lock().unwrap();
        heard.push(call.clone());
        (self.script)(&call, heard.len() - 1)
    }

    fn key(&self, rpc: &'static str, name: String, id: &[u8]) -> Result<(Option<v1::Key>, u64), Status> {
        let revision = self.answer(rpc, id, None)?;
        Ok((
            Some(v1::Key { name, revision, primary_version: 1, state: 1, algorithm: 1, ..Default::default() }),
            revision,
        ))
    }
}

type Reply<T> = Result<Response<T>, Status>;

#[tonic::async_trait]
impl crypto_server::Crypto for Fake {
    async fn encrypt(&self, request: Request<v1::EncryptRequest>) -> Reply<v1::EncryptResponse> {
        let ask = request.into_inner();
        let revision = self.answer("Encrypt", &[], ask.read)?;
        if ask.plaintext == NO_ANSWER {
            std::future::pending::<()>().await;
        }
        Ok(Response::new(encrypted(&ask.plaintext, revision)))
    }
    async fn decrypt(&self, request: Request<v1::DecryptRequest>) -> Reply<v1::DecryptResponse> {
        let ask = request.into_inner();
        let revision = self.answer("Decrypt", &[], ask.read)?;
        Ok(Response::new(v1::DecryptResponse { plaintext: ask.ciphertext.slice(128..), version: 1, revision }))
    }
    async fn re_encrypt(&self, request: Request<v1::ReEncryptRequest>) -> Reply<v1::ReEncryptResponse> {
        let ask = request.into_inner();
        let revision = self.answer("ReEncrypt", &[], ask.read)?;
        let ciphertext = ask.ciphertext;
        Ok(Response::new(v1::ReEncryptResponse { ciphertext, version: 2, source_version: 1, revision }))
    }
    /// Refuses items without a plaintext, and leaves those out that get no answer.
    async fn batch_encrypt(&self, request: Request<v1::BatchEncryptRequest>) -> Reply<v1::BatchEncryptResponse> {
        use v1::batch_encrypt_result::Outcome;
        let ask = request.into_inner();
        let revision = self.answer("BatchEncrypt", &[], ask.read)?;
        let outcome = |item: v1::EncryptRequest| match item.plaintext.is_empty() {
            true => Outcome::Error(disabled()),
            false => Outcome::Response(encrypted(&item.plaintext, revision)),
        };
        let result = |item| v1::BatchEncryptResult { outcome: Some(outcome(item)) };
        let results = ask.requests.into_iter().filter(|item| item.plaintext != NO_ANSWER).map(result).collect();
        Ok(Response::new(v1::BatchEncryptResponse { results, revision }))
    }
    /// Refuses items that are too short.
    async fn batch_decrypt(&self, request: Request<v1::BatchDecryptRequest>) -> Reply<v1::BatchDecryptResponse> {
        use v1::batch_decrypt_result::Outcome;
        let ask = request.into_inner();
        let revision = self.answer("BatchDecrypt", &[], ask.read)?;
        let outcome = |item: v1::DecryptRequest| match item.ciphertext.len() < 128 {
            true => Outcome::Error(failed(&Status::invalid_argument("refused: the ciphertext does not open"))),
            false => {
                let plaintext = item.ciphertext.slice(128..);
                Outcome::Response(v1::DecryptResponse { plaintext, version: 1, revision })
            }
        };
        let result = |item| v1::BatchDecryptResult { outcome: Some(outcome(item)) };
        let results = ask.requests.into_iter().map(result).collect();
        Ok(Response::new(v1::BatchDecryptResponse { results, revision }))
    }
    /// Refuses items that are too short. Without a name there is an outcome that only a later release knows.
    async fn batch_re_encrypt(&self, request: Request<v1::BatchReEncryptRequest>) -> Reply<v1::BatchReEncryptResponse> {
        use v1::batch_re_encrypt_result::Outcome;
        let ask = request.into_inner();
        let revision = self.answer("BatchReEncrypt", &[], ask.read)?;
        let outcome = |item: v1::ReEncryptRequest| match item.ciphertext.len() < 128 {
            true => Outcome::Error(failed(&Status::invalid_argument("refused: the ciphertext does not open"))),
            false => Outcome::Response(v1::ReEncryptResponse {
                ciphertext: [b"new ", &item.ciphertext[..]].concat().into(),
                version: 2,
                source_version: 1,
                revision,
            }),
        };
        let result = |item: v1::ReEncryptRequest| v1::BatchReEncryptResult {
            outcome: (!item.name.is_empty()).then(|| outcome(item)),
        };
        let results = ask.requests.into_iter().map(result).collect();
        Ok(Response::new(v1::BatchReEncryptResponse { results, revision }))
    }

    type EncryptStreamStream = Flow<v1::EncryptStreamResponse>;
    type DecryptStreamStream = Flow<v1::DecryptStreamResponse>;

    /// Answers each piece as it is, behind a header that says little. One that begins with `!` ends the stream; one that begins with
    /// `.` ends it as if all was well.
    async fn encrypt_stream(
        &self,
        request: Request<Streaming<v1::EncryptStreamRequest>>,
    ) -> Reply<Self::EncryptStreamStream> {
        use v1::{encrypt_stream_request::Part as Asked, encrypt_stream_response::Part};
        let revision = self.answer("EncryptStream", &[], None)?;
        let header: Bytes = [&b"CLAV\x01\x02\0\0"[..], &[0; 104]].concat().into();
        let started = Part::Started(v1::EncryptStreamStarted { header, version: 1, revision });
        let answer = move |frame: Result<v1::EncryptStreamRequest, Status>| match frame?.part.unwrap() {
            Asked::Start(_) => Ok::<_, Status>(Some(started.clone())),
            Asked::Plaintext(piece) => Ok(passed(piece)?.map(Part::Ciphertext)),
        };
        let answers = request.into_inner().map(answer);
        let answers = answers.take_while(|answer| !matches!(answer, Ok(None)));
        Ok(Response::new(Box::pin(answers.map(|part| Ok(v1::EncryptStreamResponse { part: part? })))))
    }

    /// As it encrypts, but for the header.
    async fn decrypt_stream(
        &self,
        request: Request<Streaming<v1::DecryptStreamRequest>>,
    ) -> Reply<Self::DecryptStreamStream> {
        use v1::{decrypt_stream_request::Part as Asked, decrypt_stream_response::Part};
        let revision = self.answer("DecryptStream", &[], None)?;
        let answer = move |frame: Result<v1::DecryptStreamRequest, Status>| match frame?.part.unwrap() {
            Asked::Start(_) => Ok::<_, Status>(Some(Part::Started(v1::DecryptStreamStarted { version: 1, revision }))),
            Asked::Ciphertext(piece) => Ok(passed(piece)?.map(Part::Plaintext)),
        };
        let answers = request.into_inner().map(answer);
        let answers = answers.take_while(|answer| !matches!(answer, Ok(None)));
        Ok(Response::new(Box::pin(answers.map(|part| Ok(v1::DecryptStreamResponse { part: part? })))))
    }

    type PipelineStream = Answers;

    /// Answers each item as its call would be answered.
    async fn pipeline(&self, request: Request<Streaming<v1::PipelineRequest>>) -> Reply<Answers> {
        let (fake, frames) = (self.clone(), request.into_inner());
        if self.answer("Pipeline", &[], None)? == NEVER_READ {
            let unread = frames.map(|_| Err(Status::unknown("read after all")));
            return Ok(Response::new(Box::pin(tokio_stream::pending().chain(unread))));
        }
        let answers =
            frames.filter_map(move |frame| frame.map(|frame| fake.item(frame)).transpose()).map(Result::flatten);
        Ok(Response::new(Box::pin(answers)))
    }
}

impl Fake {
    /// The answer to an item, the end of the stream, or none.
    fn item(&self, frame: v1::PipelineRequest) -> Option<Result<v1::PipelineResponse, Status>> {
        use v1::{pipeline_request::Ask, pipeline_response::Outcome};
        let v1::PipelineRequest { id, ask } = frame;
        let Some(Ask::Encrypt(item)) = ask else { return Some(Err(Status::unimplemented("fake"))) };
        if item.plaintext == NO_ANSWER || item.plaintext == ANSWERED_ALONE {
            return None;
        }
        if item.plaintext == BREAKS_OFF {
            return Some(Err(Status::unavailable("unavailable: the node stops")));
        }
        let outcome = match self.answer("Item", &[], item.read) {
            Ok(_) if item.plaintext.is_empty() => Outcome::Error(disabled()),
            Ok(revision) => Outcome::Encrypt(encrypted(&item.plaintext, revision)),
            Err(status) => Outcome::Error(failed(&status)),
        };
        Some(Ok(v1::PipelineResponse { id, outcome: Some(outcome) }))
    }
}

fn encrypted(plaintext: &[u8], revision: u64) -> v1::EncryptResponse {
    v1::EncryptResponse { ciphertext: [&[0u8; 128][..], plaintext].concat().into(), version: 1, revision }
}

fn failed(status: &Status) -> v1::ItemError {
    v1::ItemError { code: status.code() as i32, reason: String::new(), message: status.message().into() }
}

type Answers = std::pin::Pin<Box<dyn tokio_stream::Stream<Item = Result<v1::PipelineResponse, Status>> + Send>>;

fn disabled() -> v1::ItemError {
    v1::ItemError { code: 9, reason: "disabled".into(), message: "refused: the key is disabled".into() }
}

#[tonic::async_trait]
impl keys_server::Keys for Fake {
    async fn create_key(&self, request: Request<v1::CreateKeyRequest>) -> Reply<v1::CreateKeyResponse> {
        let ask = request.into_inner();
        let (key, revision) = self.key("CreateKey", ask.name, &ask.request_id)?;
        Ok(Response::new(v1::CreateKeyResponse { key, revision }))
    }
    async fn get_key(&self, request: Request<v1::GetKeyRequest>) -> Reply<v1::GetKeyResponse> {
        let ask = request.into_inner();
        let revision = self.answer("GetKey", &[], ask.read)?;
        Ok(Response::new(v1::GetKeyResponse { key: Some(v1::Key { name: ask.name, ..Default::default() }), revision }))
    }
    async fn list_keys(&self, _: Request<v1::ListKeysRequest>) -> Reply<v1::ListKeysResponse> {
        Err(Status::unimplemented("fake"))
    }
    async fn update_key(&self, _: Request<v1::UpdateKeyRequest>) -> Reply<v1::UpdateKeyResponse> {
        Err(Status::unimplemented("fake"))
    }
    async fn enable_key(&self, _: Request<v1::EnableKeyRequest>) -> Reply<v1::EnableKeyResponse> {
        Err(Status::unimplemented("fake"))
    }
    async fn disable_key(&self, _: Request<v1::DisableKeyRequest>) -> Reply<v1::DisableKeyResponse> {
        Err(Status::unimplemented("fake"))
    }
    async fn rotate_key(&self, request: Request<v1::RotateKeyRequest>) -> Reply<v1::RotateKeyResponse> {
        let ask = request.into_inner();
        let (key, revision) = self.key("RotateKey", ask.name, &ask.request_id)?;
        Ok(Response::new(v1::RotateKeyResponse { key, revision }))
    }
}

#[tonic::async_trait]
impl seal_server::Seal for Fake {
    async fn get_seal_status(&self, _: Request<v1::GetSealStatusRequest>) -> Reply<v1::GetSealStatusResponse> {
        self.answer("GetSealStatus", &[], None)?;
        let answer = v1::GetSealStatusResponse {
            node: 1,
            state: self.state.into(),
            threshold: 3,
            shares: 5,
            ..Default::default()
        };
        Ok(Response::new(answer))
    }
    async fn initialize(&self, _: Request<v1::InitializeRequest>) -> Reply<v1::InitializeResponse> {
        Err(Status::unimplemented("fake"))
    }
    async fn abandon_initialize(
        &self,
        _: Request<v1::AbandonInitializeRequest>,
    ) -> Reply<v1::AbandonInitializeResponse> {
        Err(Status::unimplemented("fake"))
    }
    async fn begin_unseal(&self, _: Request<v1::BeginUnsealRequest>) -> Reply<v1::BeginUnsealResponse> {
        Err(Status::unimplemented("fake"))
    }
    async fn get_ceremony(&self, _: Request<v1::GetCeremonyRequest>) -> Reply<v1::GetCeremonyResponse> {
        Err(Status::unimplemented("fake"))
    }
    async fn offer_share(&self, _: Request<v1::OfferShareRequest>) -> Reply<v1::OfferShareResponse> {
        Err(Status::unimplemented("fake"))
    }
    async fn begin_recovery(&self, _: Request<v1::BeginRecoveryRequest>) -> Reply<v1::BeginRecoveryResponse> {
        Err(Status::unimplemented("fake"))
    }
    async fn get_recovery(&self, _: Request<v1::GetRecoveryRequest>) -> Reply<v1::GetRecoveryResponse> {
        Err(Status::unimplemented("fake"))
    }
    async fn consent_to_recovery(
        &self,
        _: Request<v1::ConsentToRecoveryRequest>,
    ) -> Reply<v1::ConsentToRecoveryResponse> {
        Err(Status::unimplemented("fake"))
    }
    async fn seal_node(&self, _: Request<v1::SealNodeRequest>) -> Reply<v1::SealNodeResponse> {
        self.answer("SealNode", &[], None)?;
        Ok(Response::new(v1::SealNodeResponse {}))
    }
    async fn seal_all(&self, _: Request<v1::SealAllRequest>) -> Reply<v1::SealAllResponse> {
        let revision = self.answer("SealAll", &[], None)?;
        Ok(Response::new(v1::SealAllResponse { seal_epoch: 1, revision }))
    }
}

#[tonic::async_trait]
impl cluster_server::Cluster for Fake {
    async fn get_cluster_status(&self, _: Request<v1::GetClusterStatusRequest>) -> Reply<v1::GetClusterStatusResponse> {
        let revision = self.answer("GetClusterStatus", &[], None)?;
        let me = v1::NodeStatus {
            node: 1,
            reachable: true,
            state: self.state.into(),
            role: "leader".into(),
            ..Default::default()
        };
        Ok(Response::new(v1::GetClusterStatusResponse {
            node: 1,
            leader: 1,
            term: 1,
            revision,
            nodes: vec![me],
            ..Default::default()
        }))
    }
    type SaveSnapshotStream = Flow<v1::SaveSnapshotResponse>;
    async fn save_snapshot(&self, _: Request<v1::SaveSnapshotRequest>) -> Reply<Self::SaveSnapshotStream> {
        Err(Status::unimplemented("fake"))
    }
    async fn restore_snapshot(
        &self,
        _: Request<Streaming<v1::RestoreSnapshotRequest>>,
    ) -> Reply<v1::RestoreSnapshotResponse> {
        Err(Status::unimplemented("fake"))
    }
    async fn create_join_ticket(&self, _: Request<v1::CreateJoinTicketRequest>) -> Reply<v1::CreateJoinTicketResponse> {
        Err(Status::unimplemented("fake"))
    }
    async fn set_member_role(&self, _: Request<v1::SetMemberRoleRequest>) -> Reply<v1::SetMemberRoleResponse> {
        Err(Status::unimplemented("fake"))
    }
    async fn retire_member(&self, _: Request<v1::RetireMemberRequest>) -> Reply<v1::RetireMemberResponse> {
        Err(Status::unimplemented("fake"))
    }
    async fn transfer_leader(&self, _: Request<v1::TransferLeaderRequest>) -> Reply<v1::TransferLeaderResponse> {
        Err(Status::unimplemented("fake"))
    }
}

/// The answers of a stream.
type Flow<T> = std::pin::Pin<Box<dyn tokio_stream::Stream<Item = Result<T, Status>> + Send>>;

/// What comes of a piece; nothing where the stream is to end with it.
fn passed(piece: Bytes) -> Result<Option<Bytes>, Status> {
    match piece.first() {
        Some(b'!') => Err(Status::failed_precondition("refused: the key is disabled")),
        Some(b'.') => Ok(None),
        Some(_) | None => Ok(Some(piece)),
    }
}
