//! Whom we believe, and whom not; what a reading of the files refuses, and that the old credentials stay then.

use super::{
    forge::{Authority, Issued, Wish, node_folder, write},
    *,
};
use crate::clock::MachineClock;
use claviger_core::name::NodeId;
use claviger_world::clock::Clock;
use rustls::{client::danger::ServerCertVerifier, crypto::aws_lc_rs, server::danger::ClientCertVerifier};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime, pem::PemObject};
use std::{fs, os::unix::fs::PermissionsExt, path::Path, sync::Arc};

const NODE: &str = "spiffe://acme.example/claviger/node/2";

fn judged(authority: &Authority, shown: &Issued) -> [bool; 2] {
    let mut roots = rustls::RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(authority.pem.as_bytes()).unwrap()).unwrap();
    let provider = Arc::new(aws_lc_rs::default_provider());
    let domain = "acme.example".parse().unwrap();
    let judge = verifier::PeerVerifier::new(Arc::new(roots), provider, domain).unwrap();
    let (cert, name) = (CertificateDer::from(shown.der.clone()), ServerName::try_from("elsewhere.example").unwrap());
    [
        judge.verify_server_cert(&cert, &[], &name, &[], UnixTime::now()).is_ok(),
        judge.verify_client_cert(&cert, &[], UnixTime::now()).is_ok(),
    ]
}

#[test]
fn a_node_is_believed_under_any_address() {
    let authority = Authority::new();
    let node = authority.node(2);
    assert_eq!(judged(&authority, &node), [true, true]);
    let said = peer_certificate(&node.der, &"acme.example".parse().unwrap()).unwrap();
    assert_eq!(said.claims, NodeId(2));
    assert_eq!(Some(said.key), Facts::of(&node.der).unwrap().ed25519);
}

#[test]
fn refuses_certificates_of_anybody_else() {
    let (ours, foreign) = (Authority::new(), Authority::new());
    let wish = |uris, ed25519, expired| Wish { uris, ed25519, expired };
    for (why, shown) in [
        ("a foreign authority", foreign.node(2)),
        ("expired", ours.issue(&wish(&[NODE], true, true))),
        ("two URIs", ours.issue(&wish(&[NODE, "spiffe://acme.example/claviger/node/3"], true, false))),
        ("the same URI twice", ours.issue(&wish(&[NODE, NODE], true, false))),
        ("no URI", ours.issue(&wish(&[], true, false))),
        ("not Ed25519", ours.issue(&wish(&[NODE], false, false))),
        ("an operator", ours.issue(&wish(&["spiffe://acme.example/claviger/operator/2"], true, false))),
        ("another domain", ours.issue(&wish(&["spiffe://acme.other/claviger/node/2"], true, false))),
        ("no number", ours.issue(&wish(&["spiffe://acme.example/claviger/node/two"], true, false))),
        ("a second form of the number", ours.issue(&wish(&["spiffe://acme.example/claviger/node/02"], true, false))),
        ("number 0", ours.issue(&wish(&["spiffe://acme.example/claviger/node/0"], true, false))),
    ] {
        assert_eq!(judged(&ours, &shown), [false, false], "{why}");
    }
    assert_eq!(judged(&ours, &ours.node(2)), [true, true], "and the next good one is believed");
}

#[test]
fn reads_of_a_certificate_refuse_what_follows_it() {
    let mut der = Authority::new().node(1).der;
    assert!(Facts::of(&der).is_some());
    der.push(0);
    assert_eq!(Facts::of(&der), None);
    assert_eq!(Facts::of(&[]), None);
}

#[test]
fn refuses_files_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let (callers, peers) = (Authority::new(), Authority::new());
    let config = node_folder(folder.path(), 1, &callers, &peers);
    let at = |name: &str| folder.path().join(name);
    let load = || Credentials::load(&config, MachineClock.now()).map(|_| ()).map_err(|e| e.to_string());
    assert_eq!(load(), Ok(()));
    let refused = |name: &str, text: &str, said: &str| {
        let good = fs::read_to_string(at(name)).unwrap();
        write(&at(name), text);
        let told = load().expect_err(said);
        assert!(told.starts_with(&format!("{}: {said}", at(name).display())), "{told}");
        write(&at(name), &good);
    };
    let other = callers.issue(&Wish { uris: &[], ed25519: false, expired: false });
    let one = "spiffe://acme.example/claviger/node/1";
    let weak = peers.issue(&Wish { uris: &[one], ed25519: false, expired: false });
    let expired = peers.issue(&Wish { uris: &[one], ed25519: true, expired: true });
    refused("server.key", &other.key, "is not the key of");
    refused("server.key", "nothing", "holds no private key");
    refused("server.pem", "nothing", "holds no certificate");
    refused("ca.pem", "", "holds no certificate");
    refused("peer.pem", &expired.cert, "expired at 2021-01-01T");
    refused("peer.pem", &peers.node(2).cert, "is the certificate of node 2, but node.id is 1");
    refused("peer.pem", &Authority::new().node(1).cert, "no peer would believe it");
    refused("peer.pem", &other.cert, "a node's certificate needs exactly one URI name");
    refused("peer.pem", &weak.cert, "a node's key must be Ed25519");
    refused("server.pem", &other.cert, "a node's certificate needs exactly one URI name");
    refused("server.pem", &callers.node(3).cert, "is the certificate of node 3, but node.id is 1");

    for mode in [0o640, 0o604, 0o620] {
        fs::set_permissions(at("peer.key"), fs::Permissions::from_mode(mode)).unwrap();
        assert!(load().unwrap_err().contains("peer.key: can be read by others"));
    }
    fs::remove_file(at("peer.key")).unwrap();
    assert!(load().unwrap_err().ends_with("peer.key: there is no such file"));
    fs::create_dir(at("peer.key")).unwrap();
    assert!(load().unwrap_err().ends_with("peer.key: is not a file"));
}

#[test]
fn a_bad_renewal_keeps_the_old_credentials_and_a_good_one_replaces_them() {
    let folder = tempfile::tempdir().unwrap();
    let (callers, peers) = (Authority::new(), Authority::new());
    let config = node_folder(folder.path(), 1, &callers, &peers);
    let live = LiveTls::load(&config, Arc::new(MachineClock)).unwrap();
    let first = live.now();
    let left = live.seconds_left();
    assert!(left.iter().all(|(_, seconds)| *seconds > 86_400), "{left:?}");
    assert_eq!(left.map(|(place, _)| place), ["tls.clients", "tls.clients.ca", "tls.peers", "tls.peers.ca"]);

    write(&folder.path().join("server.pem"), "torn");
    assert!(live.reload().is_err());
    assert!(Arc::ptr_eq(&live.now(), &first));
    let server = callers.node(1);
    write(&folder.path().join("server.pem"), &server.cert);
    write(&folder.path().join("server.key"), &server.key);

    let stranger = peers.node(1);
    let old = fs::read_to_string(folder.path().join("peer.key")).unwrap();
    write(&folder.path().join("peer.pem"), &stranger.cert);
    write(&folder.path().join("peer.key"), &stranger.key);
    assert!(live.reload().unwrap_err().what.starts_with("is for another key"));
    assert_eq!(live.reloads(), (2, false));
    assert!(Arc::ptr_eq(&live.now(), &first));

    let wish = Wish { uris: &["spiffe://acme.example/claviger/node/1"], ed25519: true, expired: false };
    let renewed = peers.issue_for(&wish, rcgen::KeyPair::from_pem(&old).unwrap());
    write(&folder.path().join("peer.pem"), &renewed.cert);
    write(&folder.path().join("peer.key"), &old);
    live.reload().unwrap();
    assert_eq!(live.reloads(), (2, true));
    assert!(!Arc::ptr_eq(&live.now(), &first));
    assert_eq!(live.now().identity, first.identity);
}

#[test]
fn the_identity_seed_is_the_one_of_the_certificate() {
    let folder = tempfile::tempdir().unwrap();
    let config = node_folder(folder.path(), 1, &Authority::new(), &Authority::new());
    let seed = credentials::identity_seed(&config.tls_peers).unwrap();
    let key = public_half(seed.expose());
    assert_eq!(key, Credentials::load(&config, MachineClock.now()).unwrap().identity.key.0);
    let refused = credentials::identity_seed(&config.tls_clients).err().unwrap();
    assert!(refused.what.contains("Ed25519"), "{refused}");
}

/// The public half of a seed, worked out by the certificate library from a PKCS #8 of our own making.
fn public_half(seed: &[u8; 32]) -> [u8; 32] {
    let mut der = vec![0x30, 0x2e, 2, 1, 0, 0x30, 5, 6, 3, 0x2b, 0x65, 0x70, 4, 0x22, 4, 0x20];
    der.extend_from_slice(seed);
    let der = rustls_pki_types::PrivatePkcs8KeyDer::from(der);
    let pair = rcgen::KeyPair::from_pkcs8_der_and_sign_algo(&der, &rcgen::PKCS_ED25519).unwrap();
    rcgen::PublicKeyData::der_bytes(&pair).try_into().unwrap()
}

#[test]
fn refuses_slot_keys_that_are_none() {
    let folder = tempfile::tempdir().unwrap();
    let slot: &Path = &folder.path().join("slot.key");
    assert_eq!(static_slot(slot).err().unwrap().what, "there is no such file");
    write(slot, &format!("{}\n", "0a".repeat(32)));
    assert_eq!(static_slot(slot).unwrap().expose(), &[10; 32]);
    for bad in ["", "0a", &"0g".repeat(32), &"0a".repeat(33), &format!(" {}", "0a".repeat(32))] {
        write(slot, bad);
        assert!(static_slot(slot).is_err(), "{bad:?}");
    }
    write(slot, &"0a".repeat(32));
    fs::set_permissions(slot, fs::Permissions::from_mode(0o644)).unwrap();
    assert!(static_slot(slot).err().unwrap().what.contains("others"));
}
