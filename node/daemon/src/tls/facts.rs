//! What a certificate says of its bearer. Proves nothing: for certificates that a handshake has proven, or for our own.

use claviger_core::{
    crypto::sha256,
    name::{Digest, VerifyingKey},
    time::UnixMs,
};
use x509_parser::{
    certificate::X509Certificate, extensions::GeneralName, oid_registry::OID_SIG_ED25519, prelude::FromDer,
};

/// The parts of a leaf certificate (RFC 5280) that we look at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Facts {
    /// Every URI among its alternative names, in order.
    pub uris: Vec<String>,
    /// Its key, if that is Ed25519 (RFC 8410 §4).
    pub ed25519: Option<VerifyingKey>,
    /// SHA-256 of its key, of whatever kind: the SubjectPublicKeyInfo in DER (RFC 5280 §4.1.2.7).
    pub key: Digest,
    /// The last moment of its validity.
    pub expires_at: UnixMs,
}

impl Facts {
    /// Reads a certificate in DER; nothing when it is none.
    pub fn of(der: &[u8]) -> Option<Facts> {
        let (rest, cert) = X509Certificate::from_der(der).ok()?;
        let names = cert.subject_alternative_name().ok()?;
        let names = names.map_or(&[][..], |n| n.value.general_names.as_slice());
        let uri = |name: &GeneralName<'_>| match name {
            GeneralName::URI(uri) => Some((*uri).to_owned()),
            _ => None,
        };
        let expires_at = u64::try_from(cert.validity().not_after.timestamp()).unwrap_or(0);
        rest.is_empty().then(|| Facts {
            uris: names.iter().filter_map(uri).collect(),
            ed25519: ed25519(&cert),
            key: sha256(&[cert.public_key().raw]),
            expires_at: UnixMs(expires_at.saturating_mul(1_000)),
        })
    }
}

fn ed25519(cert: &X509Certificate<'_>) -> Option<VerifyingKey> {
    let spki = cert.public_key();
    let right = spki.algorithm.algorithm == OID_SIG_ED25519 && spki.algorithm.parameters.is_none();
    right.then(|| spki.subject_public_key.data.as_ref().try_into().ok().map(VerifyingKey))?
}
