//! Files of certificates and keys: read whole, bounded, and refused by name when they are not what they should be.

use super::Facts;
use claviger_core::name::NodeId;
use claviger_core::ticket::Ticket;
use claviger_core::{secret::Secret32, time::UnixMs};
use rustls::RootCertStore;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};
use std::{
    fmt, fs,
    io::Read,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    sync::Arc,
};
use zeroize::Zeroizing;

/// Longest file of certificates or keys, in bytes.
const PEM_BYTES_MAX: u64 = 1 << 20;

/// A file that cannot serve, by name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileMistake {
    /// Which file.
    pub file: PathBuf,
    /// What is wrong with it, and what to do.
    pub what: String,
}

impl fmt::Display for FileMistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.file.display(), self.what)
    }
}

impl std::error::Error for FileMistake {}

pub(super) fn mistake(file: &Path, what: impl Into<String>) -> FileMistake {
    FileMistake { file: file.to_owned(), what: what.into() }
}

/// The authorities in a PEM file, at least one.
pub(super) fn authorities(file: &Path) -> Result<Arc<RootCertStore>, FileMistake> {
    let mut store = RootCertStore::empty();
    for cert in chain(file)? {
        store.add(cert).map_err(|_| mistake(file, "holds a certificate that cannot be an authority"))?;
    }
    Ok(Arc::new(store))
}

/// When the first of the authorities in a PEM file expires.
pub(super) fn first_expiry(file: &Path) -> Result<UnixMs, FileMistake> {
    let ends =
        chain(file)?.iter().map(|cert| Facts::of(cert).map(|facts| facts.expires_at)).collect::<Option<Vec<_>>>();
    let first = ends.and_then(|ends| ends.into_iter().min());
    first.ok_or_else(|| mistake(file, "holds a certificate that cannot be read"))
}

/// The certificates in a PEM file, leaf first, at least one.
pub(super) fn chain(file: &Path) -> Result<Vec<CertificateDer<'static>>, FileMistake> {
    let pem = contents(file, false)?;
    let certs: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem).collect();
    match certs {
        Ok(certs) if !certs.is_empty() => Ok(certs),
        Ok(_) => Err(mistake(file, "holds no certificate; wanted PEM with BEGIN CERTIFICATE")),
        Err(_) => Err(mistake(file, "is not PEM")),
    }
}

/// The private key in a PEM file that nobody else can read.
pub(super) fn private_key(file: &Path) -> Result<PrivateKeyDer<'static>, FileMistake> {
    let pem = contents(file, true)?;
    PrivateKeyDer::from_pem_slice(&pem).map_err(|_| mistake(file, "holds no private key; wanted PEM in PKCS #8"))
}

/// The key of a static slot: a file that nobody else can read, of 64 hexadecimal digits.
///
/// # Errors
/// Names the file; never its content.
pub fn static_slot(file: &Path) -> Result<Secret32, FileMistake> {
    let text = contents(file, true)?;
    let digits = text.trim_ascii_end();
    let mut key = Zeroizing::new([0; 32]);
    let good = digits.len() == 64
        && key.iter_mut().zip(digits.chunks_exact(2)).all(|(byte, pair)| match (hex(pair[0]), hex(pair[1])) {
            (Some(high), Some(low)) => {
                *byte = high << 4 | low;
                true
            }
            (_, _) => false,
        });
    if good { Ok(Secret32::take(key)) } else { Err(mistake(file, "wanted a slot key of 64 hexadecimal digits")) }
}

/// A ticket to join a cluster: a secret, in a file that nobody else may read.
pub fn ticket(file: &Path, node: NodeId) -> Result<Ticket, FileMistake> {
    let text = contents(file, true)?;
    let ticket = std::str::from_utf8(&text).ok().and_then(|text| Ticket::from_text(text).ok());
    let ticket = ticket.ok_or_else(|| mistake(file, "wanted a ticket, whole, as `claviger operator join` wrote it"))?;
    if ticket.node == node {
        Ok(ticket)
    } else {
        Err(mistake(file, "wanted a ticket for this node; it is for another number"))
    }
}

fn hex(digit: u8) -> Option<u8> {
    char::from(digit).to_digit(16).and_then(|d| u8::try_from(d).ok())
}

/// The seed of an Ed25519 key in PKCS #8 (RFC 8410 §7), of version 1 or 2.
pub(super) fn ed25519_seed(key: &PrivateKeyDer<'_>) -> Option<Secret32> {
    // version 0 or 1, AlgorithmIdentifier of 1.3.101.112, OCTET STRING of an OCTET STRING of 32 bytes.
    const REST: &[u8] = &[0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x04, 0x22, 0x04, 0x20];
    let der = key.secret_der();
    let [0x30, length, 0x02, 0x01, 0 | 1, inner @ ..] = der else { return None };
    let whole = usize::from(*length) + 2 == der.len() && *length < 0x80;
    let seed = inner.strip_prefix(REST).and_then(|rest| rest.get(..32))?;
    if whole { Secret32::copy_from(seed) } else { None }
}

fn contents(file: &Path, private: bool) -> Result<Zeroizing<Vec<u8>>, FileMistake> {
    let refused = |e: std::io::Error| match e.kind() {
        std::io::ErrorKind::NotFound => mistake(file, "there is no such file"),
        _ => mistake(file, format!("cannot be read: {e}")),
    };
    let open = fs::File::open(file).map_err(refused)?;
    // Asked of the open file, so that nobody can put another in its place in between.
    let about = open.metadata().map_err(refused)?;
    if !about.is_file() {
        return Err(mistake(file, "is not a file"));
    }
    if private && about.mode() & 0o077 != 0 {
        return Err(mistake(file, "can be read by others; run: chmod 600 on it"));
    }
    if about.len() > PEM_BYTES_MAX {
        return Err(mistake(file, "is longer than 1 MiB"));
    }
    // All room at once: a buffer that grows would leave copies of a key behind.
    let mut bytes = Zeroizing::new(Vec::with_capacity(PEM_BYTES_MAX.min(about.len() + 1) as usize));
    open.take(PEM_BYTES_MAX).read_to_end(&mut bytes).map_err(refused)?;
    Ok(bytes)
}
