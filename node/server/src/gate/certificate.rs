//! What a certificate says of its bearer, once TLS has proven that the bearer holds its key.

use claviger_core::crypto;
use claviger_core::name::{KeyHash, VerifyingKey};
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer, X509Certificate};

/// URIs in one certificate that are looked at. One is wanted; more than one is refused, so there is no use in more.
const URIS_MAX: usize = 8;
/// Ed25519 in a SubjectPublicKeyInfo (RFC 8410 §3).
const ED25519_OID: &str = "1.3.101.112";

/// The parts of a leaf certificate that we go by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Leaf {
    /// URIs of the subject's alternative names (RFC 5280 §4.2.1.6), as they stand.
    pub uris: Vec<String>,
    /// SHA-256 of the SubjectPublicKeyInfo.
    pub key_hash: KeyHash,
    /// The public key, where it is Ed25519.
    pub ed25519: Option<VerifyingKey>,
}

/// Reads a certificate in DER. Nothing comes of one that cannot be read to its end.
pub fn read_leaf(der: &[u8]) -> Option<Leaf> {
    let (rest, certificate) = X509Certificate::from_der(der).ok()?;
    if !rest.is_empty() {
        return None;
    }
    let spki = certificate.public_key();
    // RFC 8410 §3: it has no parameters. The daemon's own reader goes by the same.
    let algorithm = &spki.algorithm;
    let ed25519 = algorithm.algorithm.to_id_string() == ED25519_OID && algorithm.parameters.is_none();
    Some(Leaf {
        uris: uris(&certificate)?,
        key_hash: KeyHash(crypto::sha256(&[spki.raw]).0),
        ed25519: ed25519.then(|| spki.subject_public_key.data.as_ref().try_into().ok().map(VerifyingKey)).flatten(),
    })
}

fn uris(certificate: &X509Certificate<'_>) -> Option<Vec<String>> {
    let Some(names) = certificate.subject_alternative_name().ok()? else { return Some(Vec::new()) };
    let uri = |name: &GeneralName<'_>| match name {
        GeneralName::URI(uri) => Some((*uri).to_owned()),
        _ => None,
    };
    Some(names.value.general_names.iter().filter_map(uri).take(URIS_MAX).collect())
}
