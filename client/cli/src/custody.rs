//! What a custodian keeps: a pair of files with keys, and a share file. Everything here is done offline.

use crate::chance;
use crate::failure::Failure;
use crate::files::{self, Readers, at};
use crate::lines;
use age::secrecy::ExposeSecret;
use age::{armor::ArmoredReader, x25519};
use claviger_core::crypto::SigningKey;
use claviger_core::name::{Identity, IdentityKind, VerifyingKey};
use claviger_core::roster::CustodianKeys;
use claviger_core::secret::Secret32;
use claviger_core::share::{SHARE_FILE_BYTES_MAX, Share, ShareError, ShareFile};
use std::io::Read;
use std::path::{Path, PathBuf};
use zeroize::Zeroizing;

const PRIVATE_TITLE: &str =
    "claviger custodian, format 1. Private: who has this file and the share file can use the share.";
const PUBLIC_TITLE: &str = "claviger custodian, format 1. Public: for whoever founds the cluster.";
/// Longest key file, in bytes.
const KEY_FILE_BYTES_MAX: usize = 4_096;
/// Longest plaintext in a share file, in bytes: a payload has fewer.
const PAYLOAD_BYTES_MAX: usize = 512;

/// A custodian's own keys.
pub struct Private {
    /// The public half.
    pub keys: CustodianKeys,
    age: x25519::Identity,
}

/// A share file that was opened and found to be what it says.
pub struct Opened {
    /// The clear part.
    pub file: ShareFile,
    /// The share.
    pub share: Share,
}

/// Makes a custodian's keys and writes both files; answers their paths with the public half.
pub fn keygen(identity: Identity, folder: &Path, force: bool) -> Result<(PathBuf, PathBuf, CustodianKeys), Failure> {
    if identity.kind != IdentityKind::Custodian {
        return Err(
            Failure::new("the identity is not a custodian's").next("as spiffe://example.org/claviger/custodian/alice")
        );
    }
    let (private_file, public_file) = paths(folder, &identity);
    files::refuse_existing(&[&private_file, &public_file], force)?;
    let age = x25519::Identity::generate();
    let seed = Zeroizing::new(chance::fresh::<32>().spend());
    let signing = signing_public(&seed);
    let keys = CustodianKeys { identity, recipient: age.to_public().to_string(), signing };
    files::folder(folder)?;
    files::replace(&private_file, private_text(&keys, &age, &seed).as_bytes(), Readers::Owner)?;
    files::replace(&public_file, public_text(&keys).as_bytes(), Readers::Anyone)?;
    Ok((private_file, public_file, keys))
}

fn paths(folder: &Path, identity: &Identity) -> (PathBuf, PathBuf) {
    (folder.join(format!("{}.custodian", identity.name)), folder.join(format!("{}.custodian.pub", identity.name)))
}

fn signing_public(seed: &[u8; 32]) -> VerifyingKey {
    SigningKey::from_seed(Secret32::copy_from(seed).expect("a seed has 32 bytes")).public()
}

fn public_text(keys: &CustodianKeys) -> Zeroizing<String> {
    let (identity, signing) = (keys.identity.to_string(), keys.signing.to_string());
    lines::write(PUBLIC_TITLE, [("identity", &identity), ("recipient", &keys.recipient), ("signing_key", &signing)])
}

fn private_text(keys: &CustodianKeys, age: &x25519::Identity, seed: &[u8; 32]) -> Zeroizing<String> {
    let (identity, signing) = (keys.identity.to_string(), keys.signing.to_string());
    let (age, seed) = (age.to_string(), Zeroizing::new(hex::encode(seed)));
    let secrets = [("age_identity", age.expose_secret()), ("signing_seed", seed.as_str())];
    let [one, two] = secrets;
    lines::write(
        PRIVATE_TITLE,
        [("identity", &identity), ("recipient", &keys.recipient), ("signing_key", &signing), one, two],
    )
}

/// Reads a custodian's public file.
pub fn read_public(path: &Path) -> Result<CustodianKeys, Failure> {
    let text = files::text(path, KEY_FILE_BYTES_MAX)?;
    let bad =
        || at(path, "is no custodian's public file").next("`claviger custodian keygen` makes one, NAME.custodian.pub");
    let fields = lines::read(&text, PUBLIC_TITLE, ["identity", "recipient", "signing_key"]).ok_or_else(bad)?;
    public_keys(fields).ok_or_else(bad)
}

fn public_keys([identity, recipient, signing]: [&str; 3]) -> Option<CustodianKeys> {
    recipient.parse::<x25519::Recipient>().ok()?;
    Some(CustodianKeys {
        identity: identity.parse().ok()?,
        recipient: recipient.to_owned(),
        signing: signing.parse().ok()?,
    })
}

/// Reads a custodian's private file: refused when others may read it, or when its halves do not belong together.
pub fn read_private(path: &Path) -> Result<Private, Failure> {
    let text = files::private_text(path, KEY_FILE_BYTES_MAX)?;
    let bad =
        || at(path, "is no custodian's private file").next("`claviger custodian keygen` makes one, NAME.custodian");
    let names = ["identity", "recipient", "signing_key", "age_identity", "signing_seed"];
    let [identity, recipient, signing, age, seed] = lines::read(&text, PRIVATE_TITLE, names).ok_or_else(bad)?;
    let keys = public_keys([identity, recipient, signing]).ok_or_else(bad)?;
    let age: x25519::Identity = age.parse().map_err(|_| bad())?;
    let mut bytes = Zeroizing::new([0; 32]);
    hex::decode_to_slice(seed, bytes.as_mut()).map_err(|_| bad())?;
    let whole = age.to_public().to_string() == keys.recipient && signing_public(&bytes) == keys.signing;
    if whole { Ok(Private { keys, age }) } else { Err(at(path, "holds halves of different keys")) }
}

/// Reads a share file's clear part.
pub fn read_share(path: &Path) -> Result<ShareFile, Failure> {
    let text = files::text(path, SHARE_FILE_BYTES_MAX)?;
    text.parse().map_err(|_| at(path, "is no whole, unchanged share file"))
}

/// Opens a share file and checks that what is inside is what the clear part says.
pub fn open_share(path: &Path, private: &Private) -> Result<Opened, Failure> {
    let file = read_share(path)?;
    if file.holder != private.keys.identity {
        let (holder, mine) = (&file.holder, &private.keys.identity);
        return Err(at(path, format!("is the share of {holder}, and the identity file is that of {mine}")));
    }
    let payload = decrypted(&file.armor, &private.age);
    let payload = payload.ok_or_else(|| at(path, "does not open with this identity file").next(CHANGED))?;
    let share = file.accept(&payload).map_err(|why| refused(path, why))?;
    Ok(Opened { file, share })
}

const CHANGED: &str = "fetch an unchanged copy of the share file; the founder may have kept one";

fn refused(path: &Path, why: ShareError) -> Failure {
    match why {
        ShareError::Foreign(_) => {
            at(path, "holds a share of another cluster, epoch or number than it says").next(CHANGED)
        }
        ShareError::Forged(_)
        | ShareError::Bounds
        | ShareError::TooFew { .. }
        | ShareError::Unheld(_)
        | ShareError::Duplicate(_) => {
            at(path, "holds a share that is not the one its checksum speaks of").next(CHANGED)
        }
    }
}

/// What an armored age file holds, if it opens and is no longer than a payload. Read into one buffer that is wiped.
fn decrypted(armor: &str, identity: &x25519::Identity) -> Option<Zeroizing<Vec<u8>>> {
    let decryptor = age::Decryptor::new_buffered(ArmoredReader::new(armor.as_bytes())).ok()?;
    let reader = decryptor.decrypt(std::iter::once(identity as &dyn age::Identity)).ok()?;
    files::bounded(reader.take(PAYLOAD_BYTES_MAX as u64 + 1), PAYLOAD_BYTES_MAX).ok()?
}

#[cfg(test)]
pub mod tests;
