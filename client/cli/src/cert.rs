//! `claviger cert`: authorities, and certificates for nodes and callers. For clusters that have no PKI of their own.
//!
//! Callers and peers have an authority each: `create-ca` is run twice. All keys are Ed25519.

use crate::chance;
use crate::failure::Failure;
use crate::files::{self, Readers};
use crate::output::Report;
use crate::x509::{self, Facts, PEM_BYTES_MAX};
use clap::{Args, Subcommand};
use claviger_core::name::{Identity, IdentityKind, Segment};
use claviger_core::time::UnixMs;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
    SanType, SerialNumber,
};
use serde_json::{Value, json};
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};
use zeroize::Zeroizing;

/// Help of `cert`.
pub const EXAMPLES: &str = "\
Examples:
  claviger cert create-ca --out pki/callers
  claviger cert issue --ca pki/callers --out pki/me --domain example.org --kind operator --name me
  claviger cert show pki/me.crt";

const CREATE_EXAMPLES: &str = "\
Writes DIR/ca.crt, which everybody may have, and DIR/ca.key (mode 0600), which issues certificates: keep it away from the \
nodes. Callers and nodes trust different authorities, so run it twice.

Examples:
  claviger cert create-ca --out pki/callers
  claviger cert create-ca --out pki/peers --name payments-peers --days 1825";

const ISSUE_EXAMPLES: &str = "\
Writes PREFIX.crt and PREFIX.key (mode 0600), and prints the key hash, by which a certificate can be refused. The one URI \
in a certificate says who its bearer is: spiffe://DOMAIN/claviger/KIND/NAME. A node's name is its number.

Examples:
  claviger cert issue --ca pki/callers --out pki/me --domain example.org --kind operator --name me
  claviger cert issue --ca pki/peers --out pki/node1 \\
      --domain example.org --kind node --name 1 --ip 10.0.0.1
  claviger cert issue --ca pki/peers --out pki/node1-new \\
      --domain example.org --kind node --name 1 --key pki/node1.key
  claviger cert issue --ca pki/callers --out pki/app \\
      --uri spiffe://example.org/claviger/service/app --days 30";

const SHOW_EXAMPLES: &str =
    "Examples:\n  claviger cert show pki/me.crt\n  claviger cert show pki/node1.crt --output json";

/// How far the clocks of two hosts may be apart for a new certificate to be valid at once, in seconds.
const SKEW_S: u64 = 300;
const DAY_S: u64 = 86_400;
/// Validity of a certificate when nothing is said, in days.
const ISSUE_DAYS: u64 = 90;

/// What to do with certificates.
#[derive(Subcommand)]
pub enum Verb {
    /// Make an authority.
    #[command(after_help = CREATE_EXAMPLES)]
    CreateCa(CreateCa),
    /// Issue a certificate.
    #[command(after_help = ISSUE_EXAMPLES)]
    Issue(Issue),
    /// Show what certificates say.
    #[command(after_help = SHOW_EXAMPLES)]
    Show(Show),
}

/// A new authority.
#[derive(Args)]
pub struct CreateCa {
    /// The folder for ca.crt and ca.key; made when it is not there.
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// What the authority is called.
    #[arg(long, value_name = "TEXT", default_value = "Claviger CA")]
    name: String,
    /// How long it is valid, in days.
    #[arg(long, value_name = "DAYS", default_value_t = 3_650, value_parser = clap::value_parser!(u64).range(1..=36_500))]
    days: u64,
    /// Replace files that exist. Certificates of the old authority are worth nothing then.
    #[arg(long)]
    force: bool,
}

/// A new certificate.
#[derive(Args)]
pub struct Issue {
    /// The authority's folder, as create-ca made it.
    #[arg(long, value_name = "DIR")]
    ca: PathBuf,
    /// Where to write: PREFIX.crt and PREFIX.key.
    #[arg(long, value_name = "PREFIX")]
    out: PathBuf,
    /// Who the bearer is, in full.
    #[arg(long, value_name = "URI", conflicts_with_all = ["domain", "kind", "name"])]
    uri: Option<String>,
    /// The trust domain, as example.org.
    #[arg(long, value_name = "DOMAIN")]
    domain: Option<String>,
    /// What the bearer is: node, operator, custodian or service.
    #[arg(long, value_name = "KIND")]
    kind: Option<String>,
    /// The bearer's name; for a node, its number.
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
    /// A DNS name to put beside the URI; may be repeated.
    #[arg(long, value_name = "NAME")]
    dns: Vec<String>,
    /// An address to put beside the URI; may be repeated.
    #[arg(long, value_name = "IP")]
    ip: Vec<IpAddr>,
    /// How long it is valid, in days [default: 90, at most as long as the authority].
    #[arg(long, value_name = "DAYS", value_parser = clap::value_parser!(u64).range(1..=36_500))]
    days: Option<u64>,
    /// Use this private key (PEM, Ed25519) instead of making one.
    #[arg(long, value_name = "FILE")]
    key: Option<PathBuf>,
    /// Replace files that exist.
    #[arg(long)]
    force: bool,
}

/// Which certificates to show.
#[derive(Args)]
pub struct Show {
    /// Certificates in PEM.
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
}

/// Does it.
pub fn run(verb: Verb) -> Result<Report, Failure> {
    match verb {
        Verb::CreateCa(ask) => create_ca(&ask),
        Verb::Issue(ask) => issue(&ask),
        Verb::Show(ask) => show(&ask),
    }
}

fn create_ca(ask: &CreateCa) -> Result<Report, Failure> {
    let (certificate_file, key_file) = (ask.out.join("ca.crt"), ask.out.join("ca.key"));
    files::refuse_existing(&[&certificate_file, &key_file], ask.force)?;
    let mut params = params(&ask.name, now_s() + ask.days * DAY_S);
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let key = new_key()?;
    let certificate = params.self_signed(&key).map_err(unmade)?;
    files::folder(&ask.out)?;
    write_key(&key_file, &key)?;
    files::replace(&certificate_file, certificate.pem().as_bytes(), Readers::Anyone)?;
    reported(&certificate_file, Some(&key_file), certificate.der())
}

fn issue(ask: &Issue) -> Result<Report, Failure> {
    let (certificate_file, key_file) = (with_extension(&ask.out, "crt"), with_extension(&ask.out, "key"));
    let new: &[&Path] = if ask.key.is_some() { &[&certificate_file] } else { &[&certificate_file, &key_file] };
    files::refuse_existing(new, ask.force)?;
    let identity = identity(ask)?;
    let (issuer, authority) = authority(&ask.ca)?;
    let key = ask.key.as_deref().map_or_else(new_key, key_of)?;
    let certificate = leaf(ask, &identity, until(ask.days, &authority)?)?.signed_by(&key, &issuer).map_err(unmade)?;
    if let Some(folder) = certificate_file.parent().filter(|f| !f.as_os_str().is_empty()) {
        files::folder(folder)?;
    }
    if ask.key.is_none() {
        write_key(&key_file, &key)?;
    }
    files::replace(&certificate_file, certificate.pem().as_bytes(), Readers::Anyone)?;
    reported(&certificate_file, ask.key.is_none().then_some(&key_file), certificate.der())
}

fn identity(ask: &Issue) -> Result<Identity, Failure> {
    let bad = |what: &str, bad| Failure::new(format!("{what}: {bad}"));
    let identity = match (&ask.uri, &ask.domain, &ask.kind, &ask.name) {
        (Some(uri), ..) => uri.parse().map_err(|b| bad("--uri", b))?,
        (None, Some(domain), Some(kind), Some(name)) => Identity {
            domain: domain.parse::<Segment>().map_err(|b| bad("--domain", b))?,
            kind: kind.parse::<IdentityKind>().map_err(|b| bad("--kind", b))?,
            name: name.parse::<Segment>().map_err(|b| bad("--name", b))?,
        },
        (None, ..) => return Err(Failure::new("say who the bearer is: --uri, or --domain, --kind and --name")),
    };
    let numbered =
        identity.name.as_str().parse::<u64>().is_ok_and(|n| n > 0 && n.to_string() == identity.name.as_str());
    match identity.kind {
        IdentityKind::Node if !numbered => Err(Failure::new("a node's name is its number: 1, 2, 3 and so on")),
        IdentityKind::Node | IdentityKind::Operator | IdentityKind::Custodian | IdentityKind::Service => Ok(identity),
    }
}

fn leaf(ask: &Issue, identity: &Identity, until_s: u64) -> Result<CertificateParams, Failure> {
    let mut params = params(&format!("{} {}", identity.kind.word(), identity.name), until_s);
    let text = |t: &str| t.try_into().map_err(|_| Failure::new("a DNS name is plain ASCII"));
    params.subject_alt_names = vec![SanType::URI(text(&identity.to_string())?)];
    for dns in &ask.dns {
        params.subject_alt_names.push(SanType::DnsName(text(dns)?));
    }
    params.subject_alt_names.extend(ask.ip.iter().copied().map(SanType::IpAddress));
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    if identity.kind == IdentityKind::Node {
        params.extended_key_usages.push(ExtendedKeyUsagePurpose::ServerAuth); // a node both calls and is called
    }
    params.use_authority_key_identifier_extension = true;
    Ok(params)
}

/// What every certificate has: a name, a serial number drawn at random (RFC 5280 §4.1.2.2), a validity.
fn params(name: &str, until_s: u64) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    let mut serial = chance::fresh::<16>().spend();
    serial[0] = serial[0] & 0x7f | 0x40; // positive, and always of 16 bytes
    params.serial_number = Some(SerialNumber::from_slice(&serial));
    let epoch = rcgen::date_time_ymd(1970, 1, 1);
    params.not_before = epoch + Duration::from_secs(now_s().saturating_sub(SKEW_S));
    params.not_after = epoch + Duration::from_secs(until_s);
    params
}

/// The end of validity, in seconds of the Unix era: never after the authority's own.
fn until(days: Option<u64>, authority: &Facts) -> Result<u64, Failure> {
    let ends = authority.not_after.0 / 1_000;
    let left = ends.saturating_sub(now_s());
    match days {
        _ if left == 0 => {
            Err(Failure::new("the authority has expired").next("make a new one with `claviger cert create-ca`"))
        }
        None => Ok(ends.min(now_s() + ISSUE_DAYS * DAY_S)),
        Some(days) if days * DAY_S > left => Err(Failure::new("the certificate would outlive its authority")
            .next(format!("ask for at most {} days, or make a new authority", left / DAY_S))),
        Some(days) => Ok(now_s() + days * DAY_S),
    }
}

/// The authority in a folder, once its key is seen to be its certificate's.
fn authority(folder: &Path) -> Result<(rcgen::Issuer<'static, KeyPair>, Facts), Failure> {
    let (certificate_file, key_file) = (folder.join("ca.crt"), folder.join("ca.key"));
    let text = files::text(&certificate_file, PEM_BYTES_MAX)?;
    let facts = x509::read(&certificate_file)?.swap_remove(0);
    if !facts.authority {
        return Err(files::at(&certificate_file, "is no authority's certificate"));
    }
    let key = key_of(&key_file)?;
    if rcgen::PublicKeyData::der_bytes(&key) != facts.public_key {
        return Err(files::at(&key_file, "is not the key of ca.crt"));
    }
    let issuer = Issuer::from_ca_cert_pem(&text, key).map_err(|_| files::at(&certificate_file, "cannot issue"))?;
    Ok((issuer, facts))
}

fn new_key() -> Result<KeyPair, Failure> {
    KeyPair::generate_for(&rcgen::PKCS_ED25519).map_err(unmade)
}

/// A private key that was made before: Ed25519, readable by its owner alone.
fn key_of(path: &Path) -> Result<KeyPair, Failure> {
    let text = files::private_text(path, PEM_BYTES_MAX)?;
    let key = KeyPair::from_pem(&text).map_err(|_| files::at(path, "holds no private key in PEM"))?;
    if key.algorithm() == &rcgen::PKCS_ED25519 { Ok(key) } else { Err(files::at(path, "is no Ed25519 key")) }
}

/// In version 1 of PKCS #8: OpenSSL before 3.2, and what is built on it, does not read the version 2 that rcgen makes.
fn write_key(path: &Path, key: &KeyPair) -> Result<(), Failure> {
    let der = Zeroizing::new(key.serialize_der());
    let seed = der.strip_prefix(VERSION_2).and_then(|rest| rest.get(..SEED_BYTES));
    let seed = seed.ok_or_else(|| Failure::new("the key that was made cannot be written"))?;
    let whole = Zeroizing::new([VERSION_1, seed].concat());
    let text = Zeroizing::new(pem::encode(&pem::Pem::new("PRIVATE KEY", whole.to_vec())));
    files::replace(path, text.as_bytes(), Readers::Owner)
}

/// What stands before the seed of an Ed25519 key in PKCS #8 (RFC 8410 §7), without and with the public key behind it.
const VERSION_1: &[u8] =
    &[0x30, 0x2e, 0x02, 0x01, 0x00, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x04, 0x22, 0x04, 0x20];
const VERSION_2: &[u8] =
    &[0x30, 0x51, 0x02, 0x01, 0x01, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x04, 0x22, 0x04, 0x20];
const SEED_BYTES: usize = 32;

fn unmade(cause: rcgen::Error) -> Failure {
    Failure::new(format!("the certificate cannot be made: {cause}"))
}

fn now_s() -> u64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

/// `pki/node.1` and `crt` make `pki/node.1.crt`: what looks like an extension is part of the name.
fn with_extension(prefix: &Path, extension: &str) -> PathBuf {
    let mut name = prefix.as_os_str().to_owned();
    name.push(".");
    name.push(extension);
    name.into()
}

fn reported(certificate: &Path, key: Option<&PathBuf>, der: &[u8]) -> Result<Report, Failure> {
    let facts = x509::facts(der).ok_or_else(|| Failure::new("the certificate that was made cannot be read back"))?;
    let mut json = as_json(&facts);
    json["certificate_file"] = json!(certificate);
    json["key_file"] = json!(key);
    let mut text = format!("certificate  {}\n", certificate.display());
    if let Some(key) = key {
        text += &format!("private key  {} (mode 0600)\n", key.display());
    }
    Ok(Report::new(json, text + &as_text(&facts)))
}

fn show(ask: &Show) -> Result<Report, Failure> {
    let mut all = Vec::new();
    for file in &ask.files {
        all.extend(x509::read(file)?.into_iter().map(|facts| (file.clone(), facts)));
    }
    let json: Vec<Value> =
        all.iter().map(|(file, facts)| merged(as_json(facts), "certificate_file", json!(file))).collect();
    let text: Vec<String> =
        all.iter().map(|(file, facts)| format!("certificate  {}\n{}", file.display(), as_text(facts))).collect();
    Ok(Report::new(Value::Array(json), text.join("\n")))
}

fn merged(mut object: Value, key: &str, value: Value) -> Value {
    object[key] = value;
    object
}

fn as_json(facts: &Facts) -> Value {
    json!({
        "uris": facts.uris, "hosts": facts.hosts, "authority": facts.authority, "subject": facts.subject,
        "issuer": facts.issuer, "key_hash": facts.key_hash.to_string(), "public_key": hex::encode(&facts.public_key),
        "serial": facts.serial, "not_before": facts.not_before.to_string(), "not_after": facts.not_after.to_string(),
    })
}

fn as_text(facts: &Facts) -> String {
    let who = if facts.authority { "an authority".to_owned() } else { facts.uris.join(", ") };
    let expired = if facts.not_after.0 / 1_000 < now_s() { "  EXPIRED" } else { "" };
    let days = (facts.not_after.0 / 1_000).saturating_sub(now_s()) / DAY_S;
    let mut text = format!("identity     {who}\nissuer       {}\nkey hash     {}\n", facts.issuer, facts.key_hash);
    if !facts.hosts.is_empty() {
        text += &format!("hosts        {}\n", facts.hosts.join(", "));
    }
    text + &format!("expires      {} (in {days} days){expired}\n", UnixMs(facts.not_after.0))
}

#[cfg(test)]
mod tests;
