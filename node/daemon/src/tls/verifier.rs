//! Whom a node believes to be a node: a certificate of the peers' authority, an Ed25519 key, and exactly one URI that
//! names a node of our own trust domain. No DNS name is asked: addresses change, identities do not.

use super::facts::Facts;
use crate::config::canonical;
use claviger_core::name::{Identity, IdentityKind, NodeId, Segment};
use claviger_world::network::PeerCertificate;
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, RootCertStore, SignatureScheme,
    client::{
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
        verify_server_cert_signed_by_trust_anchor,
    },
    crypto::{CryptoProvider, verify_tls13_signature},
    server::{
        ParsedCertificate, WebPkiClientVerifier,
        danger::{ClientCertVerified, ClientCertVerifier},
    },
};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use std::sync::Arc;

/// What a proven certificate says of a node.
///
/// # Errors
/// Says in our own words why it is none of a node of `domain`.
pub fn peer_certificate(der: &[u8], domain: &Segment) -> Result<PeerCertificate, &'static str> {
    let facts = Facts::of(der).ok_or("the certificate cannot be read")?;
    let (of, claims) = node_identity(&facts)?;
    if of != *domain {
        return Err("the certificate is of another trust domain");
    }
    let key = facts.ed25519.ok_or("a node's key must be Ed25519")?;
    Ok(PeerCertificate { key, claims })
}

/// The trust domain and the number in a node's one URI.
pub(super) fn node_identity(facts: &Facts) -> Result<(Segment, NodeId), &'static str> {
    let [uri] = facts.uris.as_slice() else { return Err("a node's certificate needs exactly one URI name") };
    let identity: Identity = uri.parse().map_err(|_| "its URI is not spiffe://{domain}/claviger/node/{number}")?;
    if identity.kind != IdentityKind::Node {
        return Err("the certificate is not a node's");
    }
    let number = canonical(identity.name.as_str()).ok_or("its URI does not end in a node's number")?;
    Ok((identity.domain, number))
}

/// Verifies nodes, at both ends of a connection.
#[derive(Debug)]
pub(super) struct PeerVerifier {
    roots: Arc<RootCertStore>,
    callers: Arc<dyn ClientCertVerifier>,
    provider: Arc<CryptoProvider>,
    domain: Segment,
}

impl PeerVerifier {
    /// Believes `roots`, for nodes of `domain`.
    pub(super) fn new(
        roots: Arc<RootCertStore>,
        provider: Arc<CryptoProvider>,
        domain: Segment,
    ) -> Result<PeerVerifier, &'static str> {
        let callers = WebPkiClientVerifier::builder_with_provider(roots.clone(), provider.clone()).build();
        let callers = callers.map_err(|_| "holds no authority that can be used")?;
        Ok(PeerVerifier { roots, callers, provider, domain })
    }

    fn is_node(&self, cert: &CertificateDer<'_>) -> Result<(), Error> {
        let refused = |_| Error::InvalidCertificate(CertificateError::ApplicationVerificationFailure);
        peer_certificate(cert, &self.domain).map(|_| ()).map_err(refused)
    }

    fn signed(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, cert, signature, &self.provider.signature_verification_algorithms)
    }
}

impl ServerCertVerifier for PeerVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _address: &ServerName<'_>,
        _ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let cert = ParsedCertificate::try_from(end_entity)?;
        let algorithms = self.provider.signature_verification_algorithms.all;
        verify_server_cert_signed_by_trust_anchor(&cert, &self.roots, intermediates, now, algorithms)?;
        self.is_node(end_entity)?;
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(no_tls12())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.signed(message, cert, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ED25519]
    }
}

impl ClientCertVerifier for PeerVerifier {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.callers.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        let verified = self.callers.verify_client_cert(end_entity, intermediates, now)?;
        self.is_node(end_entity)?;
        Ok(verified)
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(no_tls12())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.signed(message, cert, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ED25519]
    }
}

/// Never asked: no configuration of ours speaks it.
fn no_tls12() -> Error {
    Error::General("nodes speak TLS 1.3 only".into())
}
