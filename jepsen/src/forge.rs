//! Certificates that our own tool does not issue: expired, with two names, with none.

use crate::pki::{Authority, Credentials};
use crate::trouble::{About, Told};
use rcgen::{CertificateParams, ExtendedKeyUsagePurpose, Issuer, KeyPair, PKCS_ED25519, SanType, date_time_ymd};
use std::path::Path;

/// A certificate by a true authority, with whatever URIs, good or long expired.
pub fn certificate(by: &Authority, uris: &[&str], expired: bool, out: &Path, name: &str) -> Told<Credentials> {
    let authority = Issuer::from_ca_cert_pem(&read(&by.cert())?, KeyPair::from_pem(&read(&by.key())?)?)?;
    let mut wanted = CertificateParams::new(vec![])?;
    for uri in uris {
        wanted.subject_alt_names.push(SanType::URI((*uri).try_into()?));
    }
    wanted.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    wanted.not_before = date_time_ymd(2020, 1, 1);
    wanted.not_after = if expired { date_time_ymd(2020, 1, 2) } else { date_time_ymd(2120, 1, 1) };
    let key = KeyPair::generate_for(&PKCS_ED25519)?;
    let made = Credentials { cert: out.join(format!("{name}.crt")), key: out.join(format!("{name}.key")) };
    std::fs::write(&made.cert, wanted.signed_by(&key, &authority)?.pem())?;
    std::fs::write(&made.key, key.serialize_pem())?;
    Ok(made)
}

fn read(path: &Path) -> Told<String> {
    std::fs::read_to_string(path).about(path.display())
}
