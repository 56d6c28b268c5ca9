//! Keys that were used lately, opened: what encrypts and decrypts. A kept key counts only while its record's version is
//! still the newest, so a disabled key is refused by whoever looks after the barrier.
//!
//! Must not contain: rights, audit, the network. Nothing here waits.

mod chunks;

pub use chunks::{ChunkCourse, StreamKey, begin_opening, begin_sealing, stream_key, work};

use crate::seal::Opened;
use claviger_core::chance::Fresh;
use claviger_core::decide::{self, Decision, Desk};
use claviger_core::envelope::{Ciphertext, Context, MessageKey, Suite};
use claviger_core::failure::{Failure, Refused};
use claviger_core::key::KeyRecord;
use claviger_core::material::Material;
use claviger_core::name::KeyName;
use claviger_core::policy::Permit;
use claviger_core::policy::action::{Decrypt, Encrypt, ReEncrypt};
use claviger_core::record::{Collection, Record, RecordKey, Version, View};
use claviger_core::secret::SecretBytes;
use claviger_core::time::UnixMs;
use claviger_core::txn::Put;
use claviger_core::{planted, rarely};
use claviger_ledger::LedgerView;
use claviger_world::entropy::{self, Entropy};
use parking_lot::{Mutex, RwLock};
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

/// Keys that are kept open at once, at most.
const KEYS_KEPT_MAX: usize = 16_384;
/// Messages under one salt, at most (DESIGN §6).
const SALT_MESSAGES_MAX: u32 = 1 << 16;
/// How long one salt serves.
const SALT_AGE_MAX: Duration = Duration::from_secs(1);

/// The kept keys of one opening. Wiped with it.
#[derive(Default)]
pub struct Vault {
    kept: RwLock<Kept>,
}

#[derive(Default)]
struct Kept {
    keys: BTreeMap<KeyName, Arc<Key>>,
    names: BTreeMap<RecordKey, KeyName>,
}

/// One key, as its record was at `version`.
struct Key {
    place: RecordKey,
    version: Version,
    record: KeyRecord,
    materials: Mutex<BTreeMap<u32, Arc<Material>>>,
    salted: Mutex<Option<Salted>>,
}

/// A message key that several messages share.
struct Salted {
    key: Arc<MessageKey>,
    messages: u32,
    since: Duration,
}

/// Reading dates nothing.
const UNDATED: UnixMs = UnixMs(0);
/// For a planted bug: the version of a record that nobody has accepted yet.
const UNDECIDED: Version = Version::MAX;

/// What came of an encryption.
pub struct Encrypted {
    /// In format 1.
    pub ciphertext: Vec<u8>,
    /// The version that encrypted.
    pub version: u32,
}

/// What came of a decryption.
pub struct Decrypted {
    /// The plaintext.
    pub plaintext: SecretBytes,
    /// The version that had encrypted.
    pub version: u32,
}

/// What came of an encryption anew.
pub struct ReEncrypted {
    /// In format 1.
    pub ciphertext: Vec<u8>,
    /// The version that encrypted now.
    pub version: u32,
    /// The version that had encrypted before.
    pub source_version: u32,
}

/// Where keys are used: what the node holds while it is open, the records of one reading, its stopwatch and its chance.
pub struct Bench<'a> {
    opened: &'a Opened,
    view: &'a LedgerView,
    /// By the stopwatch that counts suspension.
    now: Duration,
    /// Where salts and nonces are drawn.
    entropy: &'a dyn Entropy,
    /// The key that was used last. It stays as it is: so do the records.
    last: RefCell<Option<Arc<Key>>>,
}

impl Vault {
    /// Lets go of keys whose records changed.
    pub fn forget(&self, changed: &[RecordKey]) {
        if rarely!("the vault forgets everything") {
            return self.forget_all();
        }
        let mut kept = self.kept.write();
        for place in changed {
            if let Some(name) = kept.names.remove(place) {
                kept.keys.remove(&name);
            }
        }
    }

    /// Lets go of everything.
    pub fn forget_all(&self) {
        *self.kept.write() = Kept::default();
    }

    /// The key's state at `view`. Absent keys are told only to whoever holds a permit, so callers judge first.
    fn key(&self, opened: &Opened, view: &LedgerView, name: &KeyName) -> Result<Arc<Key>, Failure> {
        let kept = self.kept.read().keys.get(name).cloned();
        if let Some(key) = kept.filter(|key| view.version(&key.place) == key.version || key.believed()) {
            return Ok(key);
        }
        let desk = opened.desk(view, UNDATED);
        let (record, version) = decide::read_key(&desk, name)?.ok_or(Refused::NotFound)?;
        let place = opened.keyring.key_record(name);
        let key = Arc::new(Key { place, version, record, materials: Mutex::default(), salted: Mutex::default() });
        self.keep(name, &key);
        Ok(key)
    }

    fn keep(&self, name: &KeyName, key: &Arc<Key>) {
        let mut kept = self.kept.write();
        if (kept.keys.len() >= KEYS_KEPT_MAX || rarely!("the vault is full"))
            && let Some((_, oldest)) = kept.keys.pop_first()
        {
            kept.names.remove(&oldest.place);
        }
        kept.names.insert(key.place, name.clone());
        kept.keys.insert(name.clone(), key.clone());
    }

    /// For a planted bug: keeps a key as a decision that nobody has accepted yet would leave it.
    pub(crate) fn keep_ahead(&self, desk: &Desk<'_>, decision: &Decision<KeyRecord>) -> Result<(), Failure> {
        let record = decision.outcome.clone();
        let ahead = Ahead { view: desk.view, puts: &decision.txn.puts };
        let material = decide::read_material(&Desk { view: &ahead, ..*desk }, &record, record.primary)?;
        let materials = Mutex::new(BTreeMap::from([(record.primary, Arc::new(material))]));
        let (place, name) = (desk.keyring.key_record(&record.name), record.name.clone());
        let key = Key { place, version: UNDECIDED, record, materials, salted: Mutex::default() };
        self.keep(&name, &Arc::new(key));
        Ok(())
    }
}

/// For a planted bug: the records as they would be after some puts.
struct Ahead<'a> {
    view: &'a dyn View,
    puts: &'a [Put],
}

impl View for Ahead<'_> {
    fn record(&self, key: &RecordKey) -> Option<Record> {
        let put = self.puts.iter().find(|put| put.key == *key);
        put.map(|put| Record { version: UNDECIDED, value: put.value.clone() }).or_else(|| self.view.record(key))
    }
    fn version(&self, key: &RecordKey) -> Version {
        self.view.version(key)
    }
    fn members_version(&self, collection: &Collection) -> Version {
        self.view.members_version(collection)
    }
    fn members(&self, collection: &Collection, after: Option<[u8; 32]>, limit: usize) -> Vec<(RecordKey, Record)> {
        self.view.members(collection, after, limit)
    }
}

impl Key {
    fn material(&self, opened: &Opened, view: &LedgerView, number: u32) -> Result<Arc<Material>, Failure> {
        let mut materials = self.materials.lock();
        if let Some(material) = materials.get(&number) {
            return Ok(material.clone());
        }
        let material = Arc::new(decide::read_material(&opened.desk(view, UNDATED), &self.record, number)?);
        materials.insert(number, material.clone());
        Ok(material)
    }

    /// For planted bugs: whether it counts although its record is at another version.
    fn believed(&self) -> bool {
        (self.version == UNDECIDED && planted!(VersionBeforeCommit)) || planted!(CacheFilledLate)
    }

    /// A message key under a salt that may still serve, else under a fresh one; and which of its messages this is.
    /// Of the primary version, `number`.
    fn message_key(&self, bench: &Bench<'_>, number: u32) -> Result<(Arc<MessageKey>, u32), Failure> {
        let mut salted = self.salted.lock();
        if let Some(current) = &mut *salted
            && current.messages < SALT_MESSAGES_MAX
            && bench.now.saturating_sub(current.since) < SALT_AGE_MAX
            && !rarely!("a salt is drawn early")
        {
            current.messages += 1;
            return Ok((current.key.clone(), current.messages));
        }
        let material = self.material(bench.opened, bench.view, number)?;
        let salt = if planted!(NonceFromCounter) { Fresh::drawn([0; 32]) } else { entropy::fresh(bench.entropy) };
        let key = Arc::new(MessageKey::fresh(&material, salt));
        *salted = Some(Salted { key: key.clone(), messages: 1, since: bench.now });
        Ok((key, 1))
    }
}

/// Encrypts with the key's primary version.
///
/// # Errors
/// Of the key: absent, disabled. Of the plaintext: longer than 64 KiB.
pub fn encrypt(
    bench: &Bench<'_>,
    permit: Permit<Encrypt>,
    plaintext: &SecretBytes,
    context: &Context,
) -> Result<Encrypted, Failure> {
    let key = bench.key(permit.key())?;
    let version = key.record.encrypting()?.number;
    let (message_key, message) = key.message_key(bench, version)?;
    let nonce: Fresh<12> = if planted!(NonceFromCounter) { counted(message) } else { entropy::fresh(bench.entropy) };
    let ciphertext = message_key
        .seal(plaintext.expose(), context, nonce)
        .map_err(|_| Refused::TooLong("a plaintext of more than 65,536 bytes"))?;
    Ok(Encrypted { ciphertext, version })
}

/// For a planted bug: a message's number, as its nonce.
fn counted(message: u32) -> Fresh<12> {
    let mut nonce = [0; 12];
    nonce[8..].copy_from_slice(&message.to_be_bytes());
    Fresh::drawn(nonce)
}

/// Decrypts what some version of the key encrypted. Shape and key are looked at first, rights have been; every other
/// failure is one and the same.
///
/// # Errors
/// Of the key: absent, disabled, that version below the lowest that decrypts. Of the ciphertext: one word for all.
pub fn decrypt(
    bench: &Bench<'_>,
    permit: Permit<Decrypt>,
    ciphertext: &[u8],
    context: &Context,
) -> Result<Decrypted, Failure> {
    bench.open(permit.key(), ciphertext, context)
}

/// Encrypts with the primary version of `to`'s key what some version of `from`'s key encrypted. The plaintext goes no
/// further than this function. `contexts`: as it was encrypted with, and as it is to be.
///
/// # Errors
/// Those of [`decrypt`] and of [`encrypt`].
pub fn re_encrypt(
    bench: &Bench<'_>,
    from: Permit<ReEncrypt>,
    to: Permit<Encrypt>,
    ciphertext: &[u8],
    contexts: (&Context, &Context),
) -> Result<ReEncrypted, Failure> {
    let clear = bench.open(from.key(), ciphertext, contexts.0)?;
    let Encrypted { ciphertext, version } = encrypt(bench, to, &clear.plaintext, contexts.1)?;
    Ok(ReEncrypted { ciphertext, version, source_version: clear.version })
}

impl<'a> Bench<'a> {
    /// With what the node holds, the records of one reading, when that was taken by the stopwatch, and chance.
    pub fn new(opened: &'a Opened, view: &'a LedgerView, now: Duration, entropy: &'a dyn Entropy) -> Self {
        Bench { opened, view, now, entropy, last: RefCell::default() }
    }

    fn key(&self, name: &KeyName) -> Result<Arc<Key>, Failure> {
        let mut last = self.last.borrow_mut();
        if let Some(key) = last.as_ref().filter(|key| key.record.name == *name) {
            return Ok(key.clone());
        }
        let key = self.opened.vault.key(self.opened, self.view, name)?;
        *last = Some(key.clone());
        Ok(key)
    }

    /// Opens a ciphertext of a key that the caller has leave for.
    fn open(&self, name: &KeyName, ciphertext: &[u8], context: &Context) -> Result<Decrypted, Failure> {
        if Suite::of(ciphertext) == Some(Suite::Stream) {
            return Err(Refused::BadRequest("a message; this is a stream, which DecryptStream opens").into());
        }
        let parsed = Ciphertext::parse(ciphertext).map_err(|_| Refused::Undecryptable)?;
        let key = self.key(name)?;
        let header = parsed.header();
        let known = key.record.version(header.version);
        if header.key != key.record.id || known.is_none_or(|v| v.material != header.material) {
            return Err(Refused::Undecryptable.into());
        }
        let version = key.record.decrypting(header.version)?.number;
        let material = key.material(self.opened, self.view, version)?;
        let message_key = MessageKey::of(&material, header).map_err(|_| Refused::Undecryptable)?;
        let plaintext = message_key.open(&parsed, context).map_err(|_| Refused::Undecryptable)?;
        Ok(Decrypted { plaintext, version })
    }
}
