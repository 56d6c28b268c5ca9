//! What must hold for every certificate that is shown, and for every text of a configuration. Run over seeds and mutants by
//! the test at the foot, and searched by `make fuzz`.

use crate::{
    config::Config,
    tls::{Facts, peer_certificate},
};
use claviger_core::{
    name::{NodeId, Segment},
    policy::Caller,
};
use claviger_server::read_leaf;
use rcgen::{CertificateParams, ExtendedKeyUsagePurpose, KeyPair, PKCS_ED25519, SanType};
use std::{collections::BTreeMap, path::Path};

/// A name, and what must hold for every input.
pub type Target = (&'static str, fn(&[u8]));

/// All of this crate.
pub const TARGETS: &[Target] = &[("certificate", certificate), ("config", config)];

const DOMAIN: &str = "acme.example";

/// First inputs that are not among the format vectors.
pub fn seeds() -> Vec<Vec<u8>> {
    let node = shown(&["spiffe://acme.example/claviger/node/2"]);
    let app = shown(&["spiffe://acme.example/claviger/service/app"]);
    let two = shown(&["spiffe://acme.example/claviger/service/app", "https://acme.example/"]);
    let example = include_str!("../../../deploy/clavigerd.example.toml").as_bytes().to_vec();
    let hosts = include_str!("../../../deploy/three-hosts/clavigerd.toml").as_bytes().to_vec();
    vec![node, app, two, example, hosts]
}

/// A certificate in DER, signed by itself: reading it proves nothing, and needs no proof.
fn shown(uris: &[&str]) -> Vec<u8> {
    let key = KeyPair::generate_for(&PKCS_ED25519).expect("an Ed25519 key can be made");
    let mut params = CertificateParams::default();
    let uri = |uri: &&str| SanType::URI((*uri).try_into().expect("ASCII"));
    params.subject_alt_names = uris.iter().map(uri).collect();
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    params.self_signed(&key).expect("it signs itself").der().to_vec()
}

/// All that read a certificate read the same in it.
fn certificate(der: &[u8]) {
    let (leaf, facts) = (read_leaf(der), Facts::of(der));
    if let (Some(leaf), Some(facts)) = (&leaf, &facts) {
        assert!(facts.uris.starts_with(&leaf.uris) && facts.ed25519 == leaf.ed25519, "two readings of one certificate");
    }
    let caller = leaf.as_ref().and_then(|leaf| Caller::authenticate(&leaf.uris, leaf.key_hash).ok());
    if let (Some(caller), Some(leaf)) = (caller, &leaf) {
        assert!(leaf.uris == [caller.identity().to_string()], "a caller that the certificate does not name");
    }
    let domain: Segment = DOMAIN.parse().expect("a domain");
    if let Ok(peer) = peer_certificate(der, &domain) {
        let uri = format!("spiffe://{DOMAIN}/claviger/node/{}", peer.claims);
        assert!(peer.claims != NodeId(0) && facts.is_some_and(|facts| facts.uris == [uri]), "a peer that is not named");
    }
}

/// A configuration is read or refused, with every mistake at its place.
fn config(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    if let Err(mistakes) = Config::read(Path::new("clavigerd.toml"), text, BTreeMap::new()) {
        assert!(!mistakes.0.is_empty(), "refused for nothing");
        assert!(mistakes.to_string().contains("clavigerd.toml"), "a mistake without its file");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn holds_for_seeds_and_mutants() {
        claviger_fuzz::exercise(TARGETS, &seeds(), 2_000);
    }

    #[test]
    fn seeds_are_read() {
        let seeds = seeds();
        let domain = DOMAIN.parse().unwrap();
        assert!(peer_certificate(&seeds[0], &domain).is_ok());
        let caller = |n: usize| {
            read_leaf(&seeds[n]).map(|l: claviger_server::Leaf| Caller::authenticate(&l.uris, l.key_hash).is_ok())
        };
        assert_eq!([caller(1), caller(2)], [Some(true), Some(false)]);
        for text in &seeds[3..] {
            let read = Config::read(Path::new("x"), std::str::from_utf8(text).unwrap(), BTreeMap::new());
            let told = read.map(|_| ()).map_err(|m| m.to_string()).err().unwrap_or_default();
            assert!(!told.contains("no such key"), "{told}");
        }
    }
}
