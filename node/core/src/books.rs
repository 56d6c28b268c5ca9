//! Records as values: read from a view, through the keyring where they are sealed, and written back as puts.

use crate::chance::Chance;
use crate::codec::Canonical;
use crate::failure::Cause;
use crate::keyring::Keyring;
use crate::name::Lineage;
use crate::record::{Record, RecordKey, Version, View};
use crate::secret::SecretBytes;
use crate::txn::Put;

/// What sealed records are opened and sealed with.
#[derive(Clone, Copy)]
pub struct Books<'a> {
    /// The opened keyring.
    pub keyring: &'a Keyring,
    /// The cluster, which every sealed record is bound to.
    pub lineage: Lineage,
}

impl Books<'_> {
    /// The live sealed record at `key`, opened and read, with its version.
    ///
    /// # Errors
    /// The record does not open, or is none of the kind.
    pub fn read<T: Canonical>(&self, view: &dyn View, key: &RecordKey) -> Result<Option<(T, Version)>, Cause> {
        let Some(record) = view.record(key) else { return Ok(None) };
        Ok(Some((self.value(key, &record)?, record.version)))
    }

    /// The value of a sealed record that was read already.
    ///
    /// # Errors
    /// As for [`Books::read`].
    pub fn value<T: Canonical>(&self, key: &RecordKey, record: &Record) -> Result<T, Cause> {
        let plaintext = self.open(key, record)?;
        T::from_bytes(plaintext.expose()).map_err(|_| Cause("a sealed record is not of its table's format"))
    }

    /// The plaintext of a sealed record.
    ///
    /// # Errors
    /// It does not open.
    pub fn open(&self, key: &RecordKey, record: &Record) -> Result<SecretBytes, Cause> {
        let opened = self.keyring.open_record(&self.lineage, key, &record.value);
        opened.map_err(|_| Cause("a sealed record does not open: it was changed, moved, or is of another cluster"))
    }

    /// A put of a sealed record that replaces that version.
    pub fn put(&self, key: RecordKey, replaces: Version, plaintext: &[u8], chance: &mut Chance) -> Put {
        assert!(key.table.sealed(), "only sealed tables are sealed");
        Put { key, value: self.keyring.seal_record(&self.lineage, &key, replaces, plaintext, chance.fresh()) }
    }
}

/// The live open record at `key`, read, with its version.
///
/// # Errors
/// The record is none of the kind.
pub fn read_open<T: Canonical>(view: &dyn View, key: &RecordKey) -> Result<Option<(T, Version)>, Cause> {
    let Some(record) = view.record(key) else { return Ok(None) };
    let value = T::from_bytes(&record.value).map_err(|_| Cause("an open record is not of its table's format"))?;
    Ok(Some((value, record.version)))
}
