use super::*;
use crate::args::{Cli, Verb as Top};
use clap::Parser;
use std::fs;
use std::os::unix::fs::PermissionsExt;

/// Runs one line in a folder, `@` standing for it.
fn line(folder: &Path, line: &str) -> Result<Value, Failure> {
    let line = line.replace('@', folder.to_str().unwrap());
    let cli = Cli::try_parse_from(line.split_whitespace()).map_err(|e| Failure::new(e.to_string()))?;
    let Top::Cert(verb) = cli.verb else { panic!("a cert verb") };
    run(verb).map(|report| report.json)
}

const ISSUE: &str = "claviger cert issue --ca @/ca --domain example.org";

fn with_ca() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    line(folder.path(), "claviger cert create-ca --out @/ca --days 100").unwrap();
    folder
}

#[test]
fn a_nodes_certificate_says_who_it_is_and_serves_both_ways() {
    let folder = with_ca();
    let made =
        line(folder.path(), &format!("{ISSUE} --out @/n/node.1 --kind node --name 1 --ip 127.0.0.1 --dns node1.test"))
            .unwrap();
    assert_eq!(made["uris"], json!(["spiffe://example.org/claviger/node/1"]));
    assert_eq!(made["hosts"], json!(["node1.test", "127.0.0.1"]));
    let key_file = folder.path().join("n/node.1.key");
    assert_eq!(fs::metadata(&key_file).unwrap().permissions().mode() & 0o777, 0o600);
    let pem = pem::parse(fs::read(folder.path().join("n/node.1.crt")).unwrap()).unwrap();
    let (_, certificate) = x509_parser::parse_x509_certificate(pem.contents()).unwrap();
    let usage = certificate.extended_key_usage().unwrap().unwrap().value;
    assert!(usage.client_auth && usage.server_auth && !certificate.is_ca());
    assert_eq!(certificate.public_key().algorithm.algorithm.to_id_string(), "1.3.101.112", "Ed25519 (RFC 8410)");
    assert_eq!(made["key_hash"], json!(claviger_core::crypto::sha256(&[certificate.public_key().raw]).to_string()));
    let days = (certificate.validity().not_after.timestamp() - certificate.validity().not_before.timestamp()) / 86_400;
    assert_eq!(days, 90);
}

#[test]
fn keys_are_in_the_version_of_pkcs8_that_everybody_reads() {
    let folder = with_ca();
    line(folder.path(), &format!("{ISSUE} --out @/app --kind service --name app")).unwrap();
    for file in ["app.key", "ca/ca.key"] {
        let der = pem::parse(fs::read(folder.path().join(file)).unwrap()).unwrap();
        assert_eq!((der.tag(), der.contents().len()), ("PRIVATE KEY", VERSION_1.len() + SEED_BYTES), "{file}");
        assert!(der.contents().starts_with(VERSION_1));
        key_of(&folder.path().join(file)).unwrap();
    }
}

#[test]
fn a_caller_is_no_server() {
    let folder = with_ca();
    line(folder.path(), &format!("{ISSUE} --out @/app --kind service --name app")).unwrap();
    let pem = pem::parse(fs::read(folder.path().join("app.crt")).unwrap()).unwrap();
    let (_, certificate) = x509_parser::parse_x509_certificate(pem.contents()).unwrap();
    let usage = certificate.extended_key_usage().unwrap().unwrap().value;
    assert!(usage.client_auth && !usage.server_auth);
}

#[test]
fn a_renewed_certificate_keeps_its_key_and_gets_another_serial_number() {
    let folder = with_ca();
    let first = line(folder.path(), &format!("{ISSUE} --out @/a --kind node --name 1")).unwrap();
    let second = line(folder.path(), &format!("{ISSUE} --out @/b --kind node --name 1 --key @/a.key")).unwrap();
    assert_eq!(first["key_hash"], second["key_hash"]);
    assert_ne!(first["serial"], second["serial"]);
    assert!(second["key_file"].is_null() && !folder.path().join("b.key").exists());
}

#[test]
fn refuses_to_overwrite_unless_told_to() {
    let folder = with_ca();
    let before = fs::read(folder.path().join("ca/ca.key")).unwrap();
    let refused = line(folder.path(), "claviger cert create-ca --out @/ca").unwrap_err();
    assert!(refused.message.contains("exists already") && refused.next.unwrap().contains("--force"));
    assert_eq!(fs::read(folder.path().join("ca/ca.key")).unwrap(), before);
    let issue = format!("{ISSUE} --out @/a --kind service --name a");
    line(folder.path(), &issue).unwrap();
    let before = fs::read(folder.path().join("a.key")).unwrap();
    assert!(line(folder.path(), &issue).is_err());
    assert_eq!(fs::read(folder.path().join("a.key")).unwrap(), before);
    line(folder.path(), &format!("{issue} --force")).unwrap();
    assert_ne!(fs::read(folder.path().join("a.key")).unwrap(), before);
}

#[test]
fn refuses_identities_and_authorities_that_are_wrong() {
    let folder = with_ca();
    let told = |tail: &str| {
        line(folder.path(), &format!("claviger cert issue --ca @/ca --out @/x {tail}")).unwrap_err().message
    };
    assert!(told("--domain d --kind node --name one").contains("number"));
    assert!(told("--domain d --kind node --name 01").contains("number"));
    assert!(told("--domain d --kind root --name x").contains("--kind"));
    assert!(told("--uri https://example.org/x").contains("--uri"));
    assert!(told("--domain d --kind node").contains("--name"));
    assert!(told("--domain d --kind service --name x --days 101").contains("outlive"));
    assert!(!folder.path().join("x.crt").exists() && !folder.path().join("x.key").exists());
    line(folder.path(), "claviger cert create-ca --out @/other").unwrap();
    fs::copy(folder.path().join("other/ca.key"), folder.path().join("ca/ca.key")).unwrap();
    assert!(told("--domain d --kind service --name x").contains("is not the key of ca.crt"));
    fs::set_permissions(folder.path().join("ca/ca.key"), fs::Permissions::from_mode(0o644)).unwrap();
    assert!(told("--domain d --kind service --name x").contains("others than its owner"));
}
