//! Somebody whose certificate was proven by the handshake, and says exactly one thing.

use crate::name::{Identity, KeyHash};
use std::{fmt, sync::Arc};

/// Who calls. Exists only after authentication; cheap to clone, since one connection makes many calls.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caller(Arc<Proven>);

#[derive(Debug, PartialEq, Eq)]
struct Proven {
    identity: Identity,
    key_hash: KeyHash,
}

impl Caller {
    /// Takes what a verified leaf certificate says: all its SAN URIs (RFC 5280 §4.2.1.6), and the hash of its key.
    ///
    /// # Errors
    /// Anything but exactly one URI that is an identity of ours.
    pub fn authenticate(uris: &[String], key_hash: KeyHash) -> Result<Caller, Unauthenticated> {
        match uris {
            [] => Err(Unauthenticated::NoIdentity),
            [uri] => {
                let identity = uri.parse().map_err(|_| Unauthenticated::ForeignIdentity)?;
                Ok(Caller(Arc::new(Proven { identity, key_hash })))
            }
            [_, _, ..] => Err(Unauthenticated::SeveralIdentities),
        }
    }

    /// Who they are.
    pub fn identity(&self) -> &Identity {
        &self.0.identity
    }

    /// SHA-256 of the public key that they proved.
    pub fn key_hash(&self) -> &KeyHash {
        &self.0.key_hash
    }
}

/// Why a certificate does not say who somebody is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unauthenticated {
    /// There is no certificate.
    NoCertificate,
    /// It cannot be parsed.
    BadCertificate,
    /// It has no SAN URI.
    NoIdentity,
    /// It has more than one.
    SeveralIdentities,
    /// Its URI is none of `spiffe://{domain}/claviger/{kind}/{name}`.
    ForeignIdentity,
}

impl fmt::Display for Unauthenticated {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Unauthenticated::NoCertificate => "there is no client certificate",
            Unauthenticated::BadCertificate => "the client certificate cannot be parsed",
            Unauthenticated::NoIdentity => "the certificate has no SAN URI",
            Unauthenticated::SeveralIdentities => "the certificate has more than one SAN URI",
            Unauthenticated::ForeignIdentity => {
                "the certificate's SAN URI is not spiffe://{domain}/claviger/{kind}/{name}"
            }
        })
    }
}

impl std::error::Error for Unauthenticated {}
