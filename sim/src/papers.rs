//! Who everybody is: keys from the seed, certificates over them, custodians' age identities. The same seed gives the same
//! papers, to the byte.

use crate::dice::seed_of;
use age::x25519;
use bech32::{ToBase32, Variant};
use claviger_core::chance::Fresh;
use claviger_core::crypto::SigningKey;
use claviger_core::name::{Identity, NodeId};
use claviger_core::roster::CustodianKeys;
use claviger_core::secret::Secret;
use rcgen::{CertificateParams, KeyPair, PKCS_ED25519, SanType};
use std::sync::Arc;

/// What stands before the 32 bytes of an Ed25519 key in PKCS #8 (RFC 8410 §7).
const PKCS8_ED25519: [u8; 16] =
    [0x30, 0x2e, 0x02, 0x01, 0x00, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x04, 0x22, 0x04, 0x20];
/// The trust domain.
const DOMAIN: &str = "sim";

/// Somebody with a certificate.
#[derive(Clone)]
pub struct Guest {
    /// Who, as the certificate says.
    pub identity: Identity,
    /// The certificate, in DER.
    pub der: Arc<[u8]>,
}

impl Guest {
    /// `kind` is a word of the identity: operator, custodian, service.
    pub fn new(seed: u64, kind: &str, name: &str) -> Guest {
        let uri = format!("spiffe://{DOMAIN}/claviger/{kind}/{name}");
        let der = certificate(&seed_of(seed, &uri), &uri);
        Guest { identity: uri.parse().expect("a good identity"), der }
    }
}

/// A node's peer key and certificate.
pub fn node_papers(seed: u64, node: NodeId) -> (SigningKey, Arc<[u8]>) {
    let uri = format!("spiffe://{DOMAIN}/claviger/node/{node}");
    let key = seed_of(seed, &uri);
    (signing_key(key), certificate(&key, &uri))
}

/// A certificate for a node of that number over a key that the cluster does not know.
pub fn false_node_papers(seed: u64, node: NodeId) -> Arc<[u8]> {
    certificate(&seed_of(seed, "false node"), &format!("spiffe://{DOMAIN}/claviger/node/{node}"))
}

/// A signing key of 32 bytes.
pub fn signing_key(seed: [u8; 32]) -> SigningKey {
    SigningKey::from_seed(Secret::of(Fresh::drawn(seed)))
}

/// A custodian: certificate, the keys that the founding names, and the age identity that opens the share.
pub struct CustodianPapers {
    /// The certificate.
    pub guest: Guest,
    /// What the founding is told of them.
    pub keys: CustodianKeys,
    /// What their share file is encrypted to.
    pub age: x25519::Identity,
}

/// The custodian of that number.
pub fn custodian(seed: u64, number: u8) -> CustodianPapers {
    let guest = Guest::new(seed, "custodian", &format!("holder{number}"));
    let secret = seed_of(seed, &format!("age {number}"));
    let text = bech32::encode("age-secret-key-", secret.to_base32(), Variant::Bech32).expect("a good prefix");
    let age: x25519::Identity = text.to_uppercase().parse().expect("the text form of an age identity");
    let signing = signing_key(seed_of(seed, &format!("custodian {number}"))).public();
    let keys = CustodianKeys { identity: guest.identity.clone(), recipient: age.to_public().to_string(), signing };
    CustodianPapers { guest, keys, age }
}

fn certificate(key: &[u8; 32], uri: &str) -> Arc<[u8]> {
    let der = [&PKCS8_ED25519[..], key].concat();
    let pair = KeyPair::from_pkcs8_der_and_sign_algo(&der.as_slice().into(), &PKCS_ED25519).expect("an Ed25519 key");
    let mut params = CertificateParams::new(Vec::new()).expect("no names, so none that is bad");
    params.subject_alt_names = vec![SanType::URI(uri.try_into().expect("an ASCII URI"))];
    let signed = params.self_signed(&pair).expect("a key that signs");
    Arc::from(signed.der().as_ref())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn papers_are_the_same_each_time_and_can_be_read() {
        let guest = Guest::new(7, "service", "app1");
        assert_eq!(guest.der, Guest::new(7, "service", "app1").der);
        let leaf = claviger_server::read_leaf(&guest.der).expect("a certificate");
        assert_eq!(leaf.uris, [guest.identity.to_string()]);
        let (key, der) = node_papers(7, NodeId(2));
        assert_eq!(claviger_server::read_leaf(&der).and_then(|l| l.ed25519), Some(key.public()));
        assert_eq!(custodian(7, 1).keys, custodian(7, 1).keys);
    }
}
