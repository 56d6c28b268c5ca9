//! One reading of all files, made into what the listeners and the dialler use.

use super::{
    facts::Facts,
    files::{FileMistake, authorities, chain, ed25519_seed, first_expiry, mistake, private_key},
    verifier::{PeerVerifier, node_identity, peer_certificate},
};
use crate::{
    config::{Config, TlsFiles},
    line, listen,
};
use claviger_core::{
    name::{NodeId, Segment},
    secret::Secret32,
    time::UnixMs,
};
use claviger_world::network::PeerCertificate;
use rustls::{
    ClientConfig, ServerConfig,
    client::{Resumption, danger::ServerCertVerifier},
    crypto::{CryptoProvider, aws_lc_rs},
    server::{NoServerSessionStorage, WebPkiClientVerifier, danger::ClientCertVerifier},
    version::TLS13,
};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use std::{path::Path, sync::Arc};

/// Everything that the node shows and believes in TLS, from one reading of its files.
pub struct Credentials {
    /// For the callers' listener.
    pub clients: Arc<ServerConfig>,
    /// For the peers' listener.
    pub peers: Arc<ServerConfig>,
    /// For calls to peers.
    pub dial: Arc<ClientConfig>,
    /// Who we are to peers: number and identity key.
    pub identity: PeerCertificate,
    /// The trust domain that our peers are of.
    pub domain: Segment,
    /// Each certificate's place in the configuration with its last moment; of authorities, that of the first to expire.
    pub expiries: [(&'static str, UnixMs); 4],
}

impl Credentials {
    /// Reads and tries all files of a configuration.
    ///
    /// # Errors
    /// The first file that cannot serve, by name: missing, too widely readable, expired, no pair, not of a node.
    pub fn load(config: &Config, now: UnixMs) -> Result<Credentials, FileMistake> {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let clients = Own::load(&config.tls_clients, now)?;
        let peers = Own::load(&config.tls_peers, now)?;
        clients.domain(&config.tls_clients.cert, config.node.id)?;
        let domain = peers.domain(&config.tls_peers.cert, config.node.id)?;
        let identity =
            peer_certificate(&peers.chain[0], &domain).map_err(|why| mistake(&config.tls_peers.cert, why))?;
        let callers = authorities(&config.tls_clients.ca)?;
        let callers = WebPkiClientVerifier::builder_with_provider(callers, provider.clone()).build();
        let callers = callers.map_err(|_| mistake(&config.tls_clients.ca, "holds no authority that can be used"))?;
        let nodes = peers.verifier(&config.tls_peers, &provider, &domain, now)?;
        let expiries = [
            ("tls.clients", clients.facts.expires_at),
            ("tls.clients.ca", first_expiry(&config.tls_clients.ca)?),
            ("tls.peers", peers.facts.expires_at),
            ("tls.peers.ca", first_expiry(&config.tls_peers.ca)?),
        ];
        Ok(Credentials {
            clients: clients.server(&config.tls_clients, &provider, callers, listen::HTTP2)?,
            peers: peers.clone().server(&config.tls_peers, &provider, nodes.clone(), line::PROTOCOL)?,
            dial: peers.dial(&config.tls_peers, &provider, nodes)?,
            identity,
            domain,
            expiries,
        })
    }
}

/// The seed of the node's identity key, the one that its peers' certificate is for: for signatures outside TLS.
///
/// # Errors
/// When the file is no Ed25519 key in PKCS #8.
pub fn identity_seed(files: &TlsFiles) -> Result<Secret32, FileMistake> {
    let seed = ed25519_seed(&private_key(&files.key)?);
    seed.ok_or_else(|| mistake(&files.key, "a node's key must be Ed25519, in PKCS #8"))
}

/// Our own side of one kind of connection.
struct Own {
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
    facts: Facts,
}

impl Own {
    fn load(files: &TlsFiles, now: UnixMs) -> Result<Own, FileMistake> {
        let (chain, key) = (chain(&files.cert)?, private_key(&files.key)?);
        let facts =
            Facts::of(&chain[0]).ok_or_else(|| mistake(&files.cert, "holds no certificate that can be read"))?;
        if facts.expires_at < now {
            return Err(mistake(&files.cert, format!("expired at {}; renew it", facts.expires_at)));
        }
        Ok(Own { chain, key, facts })
    }

    fn clone(&self) -> Own {
        Own { chain: self.chain.clone(), key: self.key.clone_key(), facts: self.facts.clone() }
    }

    /// The trust domain of a certificate that names this node, as the configuration does.
    fn domain(&self, cert: &Path, configured: NodeId) -> Result<Segment, FileMistake> {
        let (domain, claims) = node_identity(&self.facts).map_err(|why| mistake(cert, why))?;
        if claims == configured {
            return Ok(domain);
        }
        Err(mistake(cert, format!("is the certificate of node {claims}, but node.id is {configured}")))
    }

    /// The judge of peers, which must believe our own certificate too: theirs believe no other.
    fn verifier(
        &self,
        files: &TlsFiles,
        provider: &Arc<CryptoProvider>,
        domain: &Segment,
        now: UnixMs,
    ) -> Result<Arc<PeerVerifier>, FileMistake> {
        let verifier = PeerVerifier::new(authorities(&files.ca)?, provider.clone(), domain.clone());
        let verifier = verifier.map_err(|why| mistake(&files.ca, why))?;
        let now = UnixTime::since_unix_epoch(std::time::Duration::from_millis(now.0));
        let us = ServerName::IpAddress(std::net::IpAddr::from([127, 0, 0, 1]).into());
        let (leaf, rest) = (&self.chain[0], &self.chain[1..]);
        let told = |e| mistake(&files.cert, format!("no peer would believe it: {e}"));
        verifier.verify_server_cert(leaf, rest, &us, &[], now).map_err(told)?;
        verifier.verify_client_cert(leaf, rest, now).map_err(told)?;
        Ok(Arc::new(verifier))
    }

    fn server(
        self,
        files: &TlsFiles,
        provider: &Arc<CryptoProvider>,
        verifier: Arc<dyn ClientCertVerifier>,
        protocol: &[u8],
    ) -> Result<Arc<ServerConfig>, FileMistake> {
        let builder = ServerConfig::builder_with_provider(provider.clone()).with_protocol_versions(&[&TLS13]);
        let builder = builder.map_err(|e| mistake(&files.cert, e.to_string()))?.with_client_cert_verifier(verifier);
        let config = builder.with_single_cert(self.chain, self.key);
        let mut config = config.map_err(|e| mistake(&files.key, not_a_pair(&files.cert, &e)))?;
        config.alpn_protocols = vec![protocol.to_vec()];
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
        Ok(Arc::new(config))
    }

    fn dial(
        self,
        files: &TlsFiles,
        provider: &Arc<CryptoProvider>,
        verifier: Arc<dyn ServerCertVerifier>,
    ) -> Result<Arc<ClientConfig>, FileMistake> {
        let builder = ClientConfig::builder_with_provider(provider.clone()).with_protocol_versions(&[&TLS13]);
        let builder = builder.map_err(|e| mistake(&files.cert, e.to_string()))?;
        // `dangerous` is the library's name for any verifier of one's own; ours asks for more than the default.
        let builder = builder.dangerous().with_custom_certificate_verifier(verifier);
        let config = builder.with_client_auth_cert(self.chain, self.key);
        let mut config = config.map_err(|e| mistake(&files.key, not_a_pair(&files.cert, &e)))?;
        config.alpn_protocols = vec![line::PROTOCOL.to_vec()];
        config.resumption = Resumption::disabled();
        Ok(Arc::new(config))
    }
}

fn not_a_pair(cert: &Path, e: &rustls::Error) -> String {
    format!("is not the key of {}: {e}", cert.display())
}
