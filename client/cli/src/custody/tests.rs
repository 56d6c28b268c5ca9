use super::*;
use claviger_core::chance::{Chance, Fresh};
use claviger_core::name::Lineage;
use claviger_core::share::{self, ShareContext};
use std::fs;
use std::os::unix::fs::PermissionsExt;

pub fn identity(name: &str) -> Identity {
    format!("spiffe://example.org/claviger/custodian/{name}").parse().unwrap()
}

/// A custodian's private file, and the five share files of a sharing whose second is theirs.
pub fn custodian(folder: &Path) -> (PathBuf, Vec<ShareFile>) {
    let (private_file, _, keys) = keygen(identity("bob"), folder, false).unwrap();
    let context = ShareContext::new(Lineage([7; 32]), "main".parse().unwrap(), 1, 3, 5).unwrap();
    let mut chance = Chance::grow(Fresh::drawn([1; 32]));
    let shares = share::deal(&Secret32::of(Fresh::drawn([2; 32])), &context, &mut chance);
    let recipient: x25519::Recipient = keys.recipient.parse().unwrap();
    let file = |share: &Share| ShareFile {
        cluster: "demo".parse().unwrap(),
        context: context.clone(),
        slot: 1,
        index: share.index(),
        holder: keys.identity.clone(),
        checksum: share.digest(),
        armor: age::encrypt_and_armor(&recipient, &share.to_payload().expose_owned()).unwrap(),
    };
    (private_file, shares.iter().map(file).collect())
}

#[test]
fn a_custodians_keys_are_private_and_read_back() {
    let folder = tempfile::tempdir().unwrap();
    let (private_file, public_file, keys) = keygen(identity("alice"), folder.path(), false).unwrap();
    assert_eq!(fs::metadata(&private_file).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(read_public(&public_file).unwrap(), keys);
    assert_eq!(read_private(&private_file).unwrap().keys, keys);
    let (private, public) = (fs::read_to_string(&private_file).unwrap(), fs::read_to_string(&public_file).unwrap());
    assert!(private.contains("AGE-SECRET-KEY-1") && !public.contains("AGE-SECRET-KEY"));
    assert!(!public.contains("signing_seed"));
    assert!(toml::from_str::<toml::Table>(&public).is_ok());
    assert!(keygen(identity("alice"), folder.path(), false).is_err(), "keys are not overwritten");
    assert_eq!(fs::read_to_string(&private_file).unwrap(), private);
    assert!(keygen("spiffe://example.org/claviger/service/x".parse().unwrap(), folder.path(), false).is_err());
}

#[test]
fn refuses_private_files_that_are_open_or_mixed() {
    let folder = tempfile::tempdir().unwrap();
    let (alice, public, _) = keygen(identity("alice"), folder.path(), false).unwrap();
    let (bob, ..) = keygen(identity("bob"), folder.path(), false).unwrap();
    assert!(read_private(&public).is_err());
    let (a, b) = (fs::read_to_string(&alice).unwrap(), fs::read_to_string(&bob).unwrap());
    let line = |text: &str, name: &str| text.lines().find(|l| l.starts_with(name)).unwrap().to_owned();
    fs::write(&alice, a.replace(&line(&a, "age_identity"), &line(&b, "age_identity"))).unwrap();
    assert!(read_private(&alice).err().unwrap().message.contains("halves of different keys"));
    fs::write(&alice, a.replace(&line(&a, "signing_seed"), &line(&b, "signing_seed"))).unwrap();
    assert!(read_private(&alice).err().unwrap().message.contains("halves of different keys"));
    fs::write(&alice, &a).unwrap();
    assert!(read_private(&alice).is_ok());
    fs::set_permissions(&alice, fs::Permissions::from_mode(0o640)).unwrap();
    assert!(read_private(&alice).err().unwrap().message.contains("others than its owner"));
}

#[test]
fn refuses_share_files_of_every_wrong_kind() {
    let folder = tempfile::tempdir().unwrap();
    let (private_file, shares) = custodian(folder.path());
    let private = read_private(&private_file).unwrap();
    let path = folder.path().join("share");
    let told = |text: &str| {
        fs::write(&path, text).unwrap();
        open_share(&path, &private).err().map(|f| f.message).unwrap_or_default()
    };
    let good = shares[1].to_string();
    assert_eq!(told(&good), "");
    let swapped = ShareFile { armor: shares[0].armor.clone(), ..shares[1].clone() };
    assert!(told(&swapped.to_string()).contains("another cluster, epoch or number"));
    let forged = ShareFile { checksum: shares[0].checksum, ..shares[1].clone() };
    assert!(told(&forged.to_string()).contains("checksum"));
    let other = ShareFile { holder: identity("carol"), ..shares[1].clone() };
    assert!(told(&other.to_string()).contains("is the share of spiffe://example.org/claviger/custodian/carol"));
    assert!(told(&good.replace("epoch: 1", "epoch: 2")).contains("another cluster, epoch or number"));
    assert!(told(&good.replace("threshold: 3", "threshold: 2")).contains("another cluster, epoch or number"));
    assert!(told(&good.replace("slot: 1", "slot: 01")).contains("no whole, unchanged share file"));
    assert!(told(&good[..good.len() - 1]).contains("no whole, unchanged share file"));
    assert!(told(&format!("{good}\n")).contains("no whole, unchanged share file"));
    let body = good.find("-----\n").unwrap() + 40;
    let mut flipped = good.clone().into_bytes();
    flipped[body] = if flipped[body] == b'A' { b'B' } else { b'A' };
    assert!(!told(std::str::from_utf8(&flipped).unwrap()).is_empty());
    let (stranger, ..) = keygen(identity("eve"), folder.path(), false).unwrap();
    let keys = CustodianKeys { identity: identity("bob"), ..read_private(&stranger).unwrap().keys };
    let stranger = Private { keys, age: read_private(&stranger).unwrap().age };
    fs::write(&path, &good).unwrap();
    assert!(open_share(&path, &stranger).err().unwrap().message.contains("does not open with this identity file"));
    assert_eq!(told(&good), "", "and the true one still opens");
}
