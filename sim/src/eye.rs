//! The oracle's eye: it has every share, so it can read what the nodes keep sealed. It looks at records as a node shows
//! them at one instant, and changes nothing.

use age::x25519;
use claviger_core::books::Books;
use claviger_core::codec::{Canonical, Reader};
use claviger_core::header::Header;
use claviger_core::kdf::{self, Ctx, SU_BYTES, label};
use claviger_core::key::{KeyRecord, KeyVersion};
use claviger_core::keyring::{Keyring, SlotPublic};
use claviger_core::material::{BUCKETS, Origin, Usage, bucket};
use claviger_core::name::{KeyName, Lineage};
use claviger_core::record::{Record, RecordKey, Table, Version, View};
use claviger_core::roster::Custodians;
use claviger_core::secret::{Secret32, SecretBytes};
use claviger_core::share::{Share, ShareContext, ShareFile};
use claviger_core::slot::{Locker, Root, SLOTS_MAX, SlotRecord};
use claviger_core::txn::{Batch, SignedBatch};
use claviger_ledger::LedgerView;
use parking_lot::{Mutex, MutexGuard};
use std::collections::BTreeMap;
use std::io::Read;
use vsss_rs::Gf256;

/// Opens the age file of a share, as its holder would.
pub fn open_share(file: &str, age: &x25519::Identity) -> Option<Vec<u8>> {
    let file: ShareFile = file.parse().ok()?;
    let decryptor = age::Decryptor::new_buffered(age::armor::ArmoredReader::new(file.armor.as_bytes())).ok()?;
    let mut payload = Vec::new();
    decryptor.decrypt(std::iter::once(age as &dyn age::Identity)).ok()?.read_to_end(&mut payload).ok()?;
    file.accept(&payload).ok()?;
    Some(payload)
}

/// What is at 0 of the polynomials through these points, whatever they are: the library, with nothing checked.
pub fn interpolate(payloads: &[Vec<u8>]) -> Option<[u8; 32]> {
    let point = |payload: &Vec<u8>| {
        let share = Share::from_payload(payload).ok()?;
        Some([&[share.index()], &payload[payload.len() - 32..]].concat())
    };
    let points: Vec<Vec<u8>> = payloads.iter().map(point).collect::<Option<_>>()?;
    Gf256::combine_bytes(&points).ok()?.try_into().ok()
}

/// The root key that a guess at the unsealing secret opens, if it opens one.
pub fn root_of(guess: &[u8; 32], view: &LedgerView) -> Option<Root> {
    let head = header(view)?;
    let custodians = Custodians::from_bytes(&view.record(&RecordKey::only(Table::Custodians))?.value).ok()?;
    let context = ShareContext::of(head.lineage, &custodians).ok()?;
    let slot = SlotRecord::from_bytes(&view.record(&RecordKey::numbered(Table::Slot, 1))?.value).ok()?;
    let locker = Locker::custodians(&Secret32::copy_from(guess)?, &context, slot.number);
    slot.unlock(&locker, &head.lineage, &head.root_commitment)
}

/// The newest header that a node shows.
pub fn header(view: &LedgerView) -> Option<Header> {
    view.head().map(|link| link.header.clone())
}

/// A secret, and how it is called.
pub type Named<S> = (String, S);
/// Keys of one kind, by number.
type Numbered = BTreeMap<u32, Secret32>;

/// Reads sealed records.
pub struct Eye {
    keyring: Keyring,
    /// The cluster.
    pub lineage: Lineage,
    /// What the keyring has no door for: its record, opened past it (docs/formats.md).
    secrets: Vec<Named<Secret32>>,
    epochs: BTreeMap<u32, Secret32>,
    /// Of each key's record the newest version that was looked at, and how many of its materials were told of.
    told: Mutex<BTreeMap<RecordKey, (Version, usize)>>,
    buckets: Mutex<Buckets>,
}

/// The keys that material is sealed under, opened once for each version of their record.
#[derive(Default)]
struct Buckets {
    version: Version,
    keys: Vec<Secret32>,
}

impl Eye {
    /// An eye that has the root key.
    pub fn new(root: &Root, view: &LedgerView) -> Option<Eye> {
        let lineage = header(view)?.lineage;
        let sealed = view.record(&RecordKey::only(Table::Keyring))?;
        let keyring = Keyring::open(root, &lineage, &sealed.value)?;
        let (secrets, epochs) = keyring_secrets(root, &lineage, &sealed.value)?;
        let (told, buckets) = Default::default();
        Some(Eye { keyring, lineage, secrets, epochs, told, buckets })
    }

    /// A key as a node's records have it.
    pub fn key(&self, view: &LedgerView, name: &KeyName) -> Option<KeyRecord> {
        let found = self.books().read::<KeyRecord>(view, &self.keyring.key_record(name)).ok()?;
        found.map(|(record, _)| record)
    }

    /// A batch signed with the transaction key that the cluster was founded with: what a node keeps that leaves.
    pub fn sign(&self, batch: Batch) -> SignedBatch {
        self.keyring.sign_batch(batch)
    }

    /// Every secret of the keyring: T, and the keys of barrier, epochs, audit and index.
    pub fn keyring_secrets(&self) -> &[Named<Secret32>] {
        &self.secrets
    }

    /// Every key that material is sealed under.
    pub fn bucket_secrets(&self, view: &LedgerView) -> Vec<Named<Secret32>> {
        let buckets = self.buckets(view);
        buckets.keys.iter().zip(0..).map(|(key, b)| (format!("bucket key {b}"), copy(key))).collect()
    }

    /// The materials of a key that were not told of before; none in place of one that does not open.
    pub fn new_materials(&self, view: &LedgerView, name: &KeyName) -> Vec<Named<Option<SecretBytes>>> {
        let place = self.keyring.key_record(name);
        let version = view.version(&place);
        let mut told = self.told.lock();
        let (newest, count) = told.entry(place).or_default();
        if version <= *newest {
            return Vec::new();
        }
        let Some(record) = self.key(view, name) else { return Vec::new() };
        let new = record.versions.get(*count..).unwrap_or_default();
        (*newest, *count) = (version, record.versions.len());
        let named = |version: &KeyVersion| format!("the material of version {} of {name}", version.number);
        new.iter().map(|version| (named(version), self.material(view, &record, version))).collect()
    }

    fn books(&self) -> Books<'_> {
        Books { keyring: &self.keyring, lineage: self.lineage }
    }

    /// The key material of a version.
    fn material(&self, view: &LedgerView, key: &KeyRecord, version: &KeyVersion) -> Option<SecretBytes> {
        let place = self.keyring.material_record(&key.id, version.number, &version.material);
        let sealed = self.books().open(&place, &view.record(&place)?).ok()?;
        let tenant = self.keyring.tenant_tag(&key.name.tenant);
        let ids = Ctx::new().fixed(&tenant.0).fixed(&key.id.0).u32(version.number).fixed(&version.material.0);
        let ctx = ids.u8(key.algorithm as u8).u32(Usage::ENCRYPT_DECRYPT.bits()).u8(0).u8(Origin::Generated as u8);
        let buckets = self.buckets(view);
        kdf::open(buckets.keys.get(bucket(&version.material))?, label::MATERIAL, &ctx, sealed.expose().get(2..)?)
    }

    fn buckets(&self, view: &LedgerView) -> MutexGuard<'_, Buckets> {
        let mut buckets = self.buckets.lock();
        let place = self.keyring.buckets_record();
        let version = view.version(&place);
        if version != buckets.version {
            let keys = view.record(&place).and_then(|record| self.open_buckets(&place, &record));
            *buckets = Buckets { version, keys: keys.unwrap_or_default() };
        }
        buckets
    }

    fn open_buckets(&self, place: &RecordKey, record: &Record) -> Option<Vec<Secret32>> {
        let table = self.books().open(place, record).ok()?;
        let mut r = Reader::new(table.expose());
        let (_, epoch) = (r.u16().ok()?, r.u32().ok()?);
        let wrapping = self.epochs.get(&epoch)?;
        let mut open = |b| {
            let ctx = Ctx::new().fixed(&self.lineage.0).u32(epoch).u16(b);
            let wrapped = r.raw(32 + SU_BYTES).ok()?;
            Secret32::copy_from(kdf::open(wrapping, label::BUCKET, &ctx, wrapped)?.expose())
        };
        (0..BUCKETS as u16).map(&mut open).collect()
    }
}

/// The secrets of a keyring's record, and among them the epochs' keys by number.
fn keyring_secrets(root: &Root, lineage: &Lineage, value: &[u8]) -> Option<(Vec<Named<Secret32>>, Numbered)> {
    let ctx = Ctx::new().fixed(&lineage.0).u32(root.number());
    let key = kdf::derive(root.key(), label::KEYRING_KEY, &ctx);
    // format u16 and the root's number u32 stand in front, in the clear.
    let plaintext = kdf::open(&key, label::KEYRING, &ctx, value.get(6..)?)?;
    let mut r = Reader::new(plaintext.expose());
    let (_, number) = (r.u16().ok()?, r.u32().ok()?);
    let mut secrets = vec![(format!("transaction key {number}"), secret(&mut r)?)];
    let _: Vec<SlotPublic> = r.list(SLOTS_MAX).ok()?;
    let (terms, epochs, audit) = (series(&mut r)?, series(&mut r)?, series(&mut r)?);
    secrets.push(("the index key".into(), secret(&mut r)?));
    r.end().ok()?;
    for (kind, keys) in [("barrier", &terms), ("epoch", &epochs), ("audit", &audit)] {
        secrets.extend(keys.iter().map(|(number, key)| (format!("{kind} key {number}"), copy(key))));
    }
    Some((secrets, epochs))
}

/// Numbered keys of one kind.
fn series(r: &mut Reader<'_>) -> Option<Numbered> {
    let count = r.u32().ok()?;
    (0..count).map(|_| Some((r.u32().ok()?, secret(r)?))).collect()
}

fn secret(r: &mut Reader<'_>) -> Option<Secret32> {
    Secret32::copy_from(r.raw(32).ok()?)
}

fn copy(key: &Secret32) -> Secret32 {
    Secret32::copy_from(key.expose()).expect("as wide as it is")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::papers::signing_key;
    use claviger_core::chance::{Chance, Fresh};

    #[test]
    fn the_secrets_of_a_keyring_are_those_that_it_works_with() {
        let (root, lineage) = (Root::new(1, Secret32::copy_from(&[5; 32]).unwrap()), Lineage([6; 32]));
        let keyring = Keyring::draw(&mut Chance::grow(Fresh::drawn([7; 32])));
        let sealed = keyring.seal(&root, &lineage, Fresh::drawn([8; 32]));
        let (secrets, epochs) = keyring_secrets(&root, &lineage, &sealed).unwrap();
        let named: Vec<&str> = secrets.iter().map(|(what, _)| what.as_str()).collect();
        assert_eq!(named, ["transaction key 1", "the index key", "barrier key 1", "epoch key 0", "audit key 1"]);
        assert_eq!(signing_key(*secrets[0].1.expose()).public(), keyring.txn_key().public);
        assert_eq!(epochs[&0].expose(), secrets[3].1.expose());
        let other = Root::new(1, Secret32::copy_from(&[4; 32]).unwrap());
        assert!(keyring_secrets(&other, &lineage, &sealed).is_none());
    }
}
