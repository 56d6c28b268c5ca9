//! Certificates for tests, good and bad.

use rcgen::{
    BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, PKCS_ED25519, SanType,
    date_time_ymd,
};
use std::{fs, os::unix::fs::OpenOptionsExt, path::Path};

/// An authority that signs anything.
pub(crate) struct Authority {
    pub(crate) pem: String,
    issuer: Issuer<'static, KeyPair>,
}

/// What a certificate is to say.
pub(crate) struct Wish<'a> {
    pub(crate) uris: &'a [&'a str],
    pub(crate) ed25519: bool,
    pub(crate) expired: bool,
}

/// A certificate with its key, as PEM.
pub(crate) struct Issued {
    pub(crate) cert: String,
    pub(crate) key: String,
    pub(crate) der: Vec<u8>,
}

impl Authority {
    pub(crate) fn new() -> Authority {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate_for(&PKCS_ED25519).unwrap();
        let pem = params.self_signed(&key).unwrap().pem();
        Authority { pem, issuer: Issuer::new(params, key) }
    }

    pub(crate) fn issue(&self, wish: &Wish<'_>) -> Issued {
        let key = if wish.ed25519 { KeyPair::generate_for(&PKCS_ED25519) } else { KeyPair::generate() }.unwrap();
        self.issue_for(wish, key)
    }

    pub(crate) fn issue_for(&self, wish: &Wish<'_>, key: KeyPair) -> Issued {
        let mut params = CertificateParams::new(vec!["localhost".into()]).unwrap();
        params.subject_alt_names.extend(wish.uris.iter().map(|u| SanType::URI((*u).try_into().unwrap())));
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        if wish.expired {
            (params.not_before, params.not_after) = (date_time_ymd(2020, 1, 1), date_time_ymd(2021, 1, 1));
        }
        let cert = params.signed_by(&key, &self.issuer).unwrap();
        Issued { cert: cert.pem(), key: key.serialize_pem(), der: cert.der().to_vec() }
    }

    pub(crate) fn node(&self, number: u64) -> Issued {
        let uri = format!("spiffe://acme.example/claviger/node/{number}");
        self.issue(&Wish { uris: &[&uri], ed25519: true, expired: false })
    }
}

/// Writes a file that only its owner reads.
pub(crate) fn write(path: &Path, text: &str) {
    let open = fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path);
    std::io::Write::write_all(&mut open.unwrap(), text.as_bytes()).unwrap();
}

/// A folder with everything that a node with this number needs, and its configuration.
pub(crate) fn node_folder(folder: &Path, number: u64, callers: &Authority, peers: &Authority) -> crate::config::Config {
    let uri = format!("spiffe://acme.example/claviger/node/{number}");
    let server = callers.issue(&Wish { uris: &[&uri], ed25519: false, expired: false });
    let peer = peers.node(number);
    for (name, text) in [
        ("ca.pem", &callers.pem),
        ("server.pem", &server.cert),
        ("server.key", &server.key),
        ("peers.pem", &peers.pem),
        ("peer.pem", &peer.cert),
        ("peer.key", &peer.key),
    ] {
        write(&folder.join(name), text);
    }
    let text = format!(
        "[node]\nid = {number}\ndata_dir = \"data\"\ncluster = \"acme\"\nregion = \"north\"\n\
         [listen]\nclients = \"127.0.0.1:0\"\npeers = \"127.0.0.1:0\"\nmetrics = \"127.0.0.1:0\"\n\
         [tls.clients]\nca = \"ca.pem\"\ncert = \"server.pem\"\nkey = \"server.key\"\n\
         [tls.peers]\nca = \"peers.pem\"\ncert = \"peer.pem\"\nkey = \"peer.key\"\n\
         [peers]\n{number} = \"127.0.0.1:7002\"\n\
         [founders]\nadministrators = [\"spiffe://acme.example/claviger/operator/root\"]\n"
    );
    crate::config::Config::read(&folder.join("d.toml"), &text, Default::default()).unwrap()
}
