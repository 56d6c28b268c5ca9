//! The oracle's eye: it has every share, so it can read what the nodes keep sealed. It looks at records as a node shows
//! them at one instant, and changes nothing.

use age::x25519;
use claviger_core::books::Books;
use claviger_core::codec::Canonical;
use claviger_core::header::Header;
use claviger_core::key::KeyRecord;
use claviger_core::keyring::Keyring;
use claviger_core::name::{KeyName, Lineage};
use claviger_core::record::{RecordKey, Table, View};
use claviger_core::roster::Custodians;
use claviger_core::secret::Secret32;
use claviger_core::share::{Share, ShareContext, ShareFile};
use claviger_core::slot::{Locker, Root, SlotRecord};
use claviger_ledger::LedgerView;
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

/// Reads sealed records.
pub struct Eye {
    keyring: Keyring,
    /// The cluster.
    pub lineage: Lineage,
}

impl Eye {
    /// An eye that has the root key.
    pub fn new(root: &Root, view: &LedgerView) -> Option<Eye> {
        let lineage = header(view)?.lineage;
        let sealed = view.record(&RecordKey::only(Table::Keyring))?;
        Some(Eye { keyring: Keyring::open(root, &lineage, &sealed.value)?, lineage })
    }

    /// A key as a node's records have it.
    pub fn key(&self, view: &LedgerView, name: &KeyName) -> Option<KeyRecord> {
        let books = Books { keyring: &self.keyring, lineage: self.lineage };
        let found = books.read::<KeyRecord>(view, &self.keyring.key_record(name)).ok()?;
        found.map(|(record, _)| record)
    }
}
