//! What a certificate says (RFC 5280), as far as people ask.

use crate::failure::Failure;
use crate::files;
use claviger_core::crypto::sha256;
use claviger_core::name::KeyHash;
use claviger_core::time::UnixMs;
use std::path::Path;
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};

/// Longest PEM file, in bytes.
pub const PEM_BYTES_MAX: usize = 1 << 20;

/// What a certificate says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Facts {
    /// Its URIs: one for everybody but an authority.
    pub uris: Vec<String>,
    /// DNS names and addresses.
    pub hosts: Vec<String>,
    /// Whether it may issue others.
    pub authority: bool,
    /// The subject's distinguished name.
    pub subject: String,
    /// The issuer's distinguished name.
    pub issuer: String,
    /// SHA-256 of the SubjectPublicKeyInfo: what denials name.
    pub key_hash: KeyHash,
    /// The raw public key: 32 bytes for Ed25519.
    pub public_key: Vec<u8>,
    /// Validity.
    pub not_before: UnixMs,
    /// Validity.
    pub not_after: UnixMs,
    /// The serial number, hexadecimal.
    pub serial: String,
}

/// Reads every certificate of a PEM file: at least one.
pub fn read(path: &Path) -> Result<Vec<Facts>, Failure> {
    let text = files::text(path, PEM_BYTES_MAX)?;
    let blocks = pem::parse_many(text.as_bytes()).map_err(|_| files::at(path, "holds no PEM"))?;
    let certificates = blocks.iter().filter(|b| b.tag() == "CERTIFICATE");
    let all = certificates.map(|b| facts(b.contents())).collect::<Option<Vec<_>>>();
    all.filter(|c| !c.is_empty()).ok_or_else(|| files::at(path, "holds no certificate that can be read"))
}

/// What the certificate says, or nothing where it is none.
pub fn facts(der: &[u8]) -> Option<Facts> {
    let (rest, certificate) = X509Certificate::from_der(der).ok()?;
    let names = certificate.subject_alternative_name().ok()?;
    let names = names.map(|n| &n.value.general_names[..]).unwrap_or_default();
    let uri = |n: &GeneralName<'_>| if let GeneralName::URI(uri) = n { Some((*uri).to_owned()) } else { None };
    rest.is_empty().then(|| Facts {
        uris: names.iter().filter_map(uri).collect(),
        hosts: names.iter().filter_map(host).collect(),
        authority: certificate.is_ca(),
        subject: certificate.subject().to_string(),
        issuer: certificate.issuer().to_string(),
        key_hash: KeyHash(sha256(&[certificate.public_key().raw]).0),
        public_key: certificate.public_key().subject_public_key.data.to_vec(),
        not_before: instant(certificate.validity().not_before.timestamp()),
        not_after: instant(certificate.validity().not_after.timestamp()),
        serial: hex::encode(certificate.tbs_certificate.raw_serial()),
    })
}

fn host(name: &GeneralName<'_>) -> Option<String> {
    match name {
        GeneralName::DNSName(dns) => Some((*dns).to_owned()),
        GeneralName::IPAddress(bytes) => match bytes.len() {
            4 => <[u8; 4]>::try_from(*bytes).ok().map(|b| std::net::Ipv4Addr::from(b).to_string()),
            _ => <[u8; 16]>::try_from(*bytes).ok().map(|b| std::net::Ipv6Addr::from(b).to_string()),
        },
        _ => None,
    }
}

fn instant(seconds: i64) -> UnixMs {
    UnixMs(u64::try_from(seconds).unwrap_or_default().saturating_mul(1_000))
}
