//! Mutual TLS 1.3: who we are, and whom we take for a node.
//!
//! A node is known by one URI in its certificate, `spiffe://<domain>/claviger/node/<number>`, not by a DNS name: the
//! address that it was reached under says nothing about it.

use crate::config::Files;
use crate::error::ConfigError;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::verify_server_cert_signed_by_trust_anchor;
use rustls::crypto::{CryptoProvider, aws_lc_rs, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime, pem::PemObject};
use rustls::server::ParsedCertificate;
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, OtherError, RootCertStore, SignatureScheme};
use std::{fmt, fs, path::Path, sync::Arc};
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};

/// Longest PEM file that is read, in bytes.
const PEM_BYTES_MAX: u64 = 1 << 20;

/// What a node's certificate says that it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeIdentity {
    /// The trust domain.
    pub domain: String,
    /// The node's number.
    pub node: u64,
}

/// Why a certificate that the authority vouches for is no node's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// It names no URI, or more than one.
    NotOneUri,
    /// Its URI is not a node's.
    NotANode,
    /// Its URI is of another trust domain.
    OtherDomain,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Refusal::NotOneUri => "its certificate has not exactly one URI",
            Refusal::NotANode => "its certificate is not a node's",
            Refusal::OtherDomain => "its certificate is of another trust domain",
        })
    }
}

impl std::error::Error for Refusal {}

/// Who the caller is, ready for handshakes.
pub(crate) struct Credentials {
    pub(crate) config: Arc<ClientConfig>,
    /// The one URI of the caller's certificate.
    pub(crate) identity: String,
}

/// Reads the files and makes the configuration of every handshake.
pub(crate) fn credentials(files: &Files, domain: Option<&str>) -> Result<Credentials, ConfigError> {
    let chain = certificates(&files.cert)?;
    let identity = one_uri(&chain[0]).map_err(|_| ConfigError::NoIdentity(files.cert.clone()))?;
    let provider = Arc::new(aws_lc_rs::default_provider());
    let verifier =
        NodeVerifier { roots: roots(&files.ca)?, provider: provider.clone(), domain: domain.map(str::to_owned) };
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .expect("aws-lc-rs speaks TLS 1.3")
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier))
        .with_client_auth_cert(chain, private_key(&files.key)?)
        .map_err(|_| ConfigError::KeyMismatch(files.key.clone()))?;
    config.alpn_protocols = vec![b"h2".to_vec()];
    Ok(Credentials { config: Arc::new(config), identity })
}

fn roots(path: &Path) -> Result<RootCertStore, ConfigError> {
    let mut store = RootCertStore::empty();
    for certificate in certificates(path)? {
        store.add(certificate).map_err(|_| ConfigError::NotPem(path.into(), "usable CA certificate"))?;
    }
    Ok(store)
}

/// All certificates of a file: at least one.
fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, ConfigError> {
    let pem = bytes_of(path)?;
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem).collect();
    chain.ok().filter(|c| !c.is_empty()).ok_or_else(|| ConfigError::NotPem(path.into(), "certificate"))
}

fn private_key(path: &Path) -> Result<PrivateKeyDer<'static>, ConfigError> {
    if too_open(path)? {
        return Err(ConfigError::KeyTooOpen(path.into()));
    }
    PrivateKeyDer::from_pem_slice(&bytes_of(path)?).map_err(|_| ConfigError::NotPem(path.into(), "private key"))
}

fn bytes_of(path: &Path) -> Result<Vec<u8>, ConfigError> {
    let unreadable = |why: String| ConfigError::Unreadable(path.into(), why);
    let length = fs::metadata(path).map_err(|e| unreadable(e.to_string()))?.len();
    if length > PEM_BYTES_MAX {
        return Err(unreadable("longer than any certificate or key".into()));
    }
    fs::read(path).map_err(|e| unreadable(e.to_string()))
}

#[cfg(unix)]
fn too_open(path: &Path) -> Result<bool, ConfigError> {
    use std::os::unix::fs::PermissionsExt;
    let meta = fs::metadata(path).map_err(|e| ConfigError::Unreadable(path.into(), e.to_string()))?;
    Ok(meta.permissions().mode() & 0o077 != 0)
}

/// The one URI among a certificate's alternative names (RFC 5280 §4.2.1.6).
fn one_uri(der: &CertificateDer<'_>) -> Result<String, Refusal> {
    let (rest, certificate) = X509Certificate::from_der(der).map_err(|_| Refusal::NotOneUri)?;
    let names = certificate.subject_alternative_name().map_err(|_| Refusal::NotOneUri)?;
    let names = names.map(|n| &n.value.general_names[..]).unwrap_or_default();
    let mut uris = names.iter().filter_map(|n| if let GeneralName::URI(uri) = n { Some(*uri) } else { None });
    match (rest.is_empty(), uris.next(), uris.next()) {
        (true, Some(uri), None) => Ok(uri.to_owned()),
        _ => Err(Refusal::NotOneUri),
    }
}

/// Reads `spiffe://<domain>/claviger/node/<number>`, exactly: a number has no leading zero.
fn node_identity(uri: &str) -> Result<NodeIdentity, Refusal> {
    let parts: Vec<&str> = uri.strip_prefix("spiffe://").ok_or(Refusal::NotANode)?.split('/').collect();
    let [domain, "claviger", "node", number] = parts[..] else { return Err(Refusal::NotANode) };
    let node: u64 = number.parse().map_err(|_| Refusal::NotANode)?;
    if domain.is_empty() || node.to_string() != number {
        return Err(Refusal::NotANode);
    }
    Ok(NodeIdentity { domain: domain.to_owned(), node })
}

/// Believes the authority about the chain and the one URI about who it is.
#[derive(Debug)]
struct NodeVerifier {
    roots: RootCertStore,
    provider: Arc<CryptoProvider>,
    domain: Option<String>,
}

impl NodeVerifier {
    fn node(&self, end_entity: &CertificateDer<'_>) -> Result<NodeIdentity, Refusal> {
        let node = node_identity(&one_uri(end_entity)?)?;
        let same = self.domain.as_ref().is_none_or(|domain| *domain == node.domain);
        if same { Ok(node) } else { Err(Refusal::OtherDomain) }
    }
}

impl ServerCertVerifier for NodeVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let certificate = ParsedCertificate::try_from(end_entity)?;
        let algorithms = self.provider.signature_verification_algorithms.all;
        verify_server_cert_signed_by_trust_anchor(&certificate, &self.roots, intermediates, now, algorithms)?;
        self.node(end_entity).map_err(|why| CertificateError::Other(OtherError(Arc::new(why))))?;
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Err(rustls::Error::General("only TLS 1.3 is spoken".into()))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refuses_uris_that_are_not_exactly_a_nodes() {
        let good = node_identity("spiffe://example.org/claviger/node/3").unwrap();
        assert_eq!(good, NodeIdentity { domain: "example.org".into(), node: 3 });
        for bad in [
            "spiffe://example.org/claviger/service/3",
            "spiffe://example.org/claviger/node/03",
            "spiffe://example.org/claviger/node/+3",
            "spiffe://example.org/claviger/node/3/",
            "spiffe:///claviger/node/3",
            "https://example.org/claviger/node/3",
            "spiffe://example.org/claviger/node/",
        ] {
            assert_eq!(node_identity(bad), Err(Refusal::NotANode), "{bad}");
        }
    }
}
