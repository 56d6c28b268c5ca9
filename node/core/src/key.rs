//! A key: its versions, its state, and which of them may do what.

use crate::codec::{Canonical, Malformed, Reader, Writer};
use crate::failure::{Refused, words};
use crate::name::{KeyId, KeyName, MaterialId, Segment};
use crate::planted;
use crate::time::UnixMs;
use std::collections::BTreeMap;

pub use crate::material::Algorithm;

/// Versions of one key, at most.
pub const VERSIONS_MAX: usize = 4_096;
/// Labels of one key, at most.
pub const LABELS_MAX: usize = 32;

const FORMAT: u16 = 1;

/// Labels: names and values, each a segment.
pub type Labels = BTreeMap<Segment, Segment>;

words! {
    /// Whether a key works (NIST SP 800-57 part 1 §7: active, suspended).
    KeyState {
        /// It works.
        Enabled = 1 "enabled",
        /// It neither encrypts nor decrypts, until it is enabled again.
        Disabled = 2 "disabled",
    }
}

impl Canonical for Algorithm {
    fn write(&self, w: &mut Writer) {
        w.u8(*self as u8);
    }
    fn read(r: &mut Reader<'_>) -> Result<Self, Malformed> {
        match r.u8()? {
            1 => Ok(Algorithm::Aes256Gcm),
            _ => Err(Malformed::Unknown),
        }
    }
}

/// One version of a key. Its material is a record of its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyVersion {
    /// From 1, one more for each rotation.
    pub number: u32,
    /// Which material.
    pub material: MaterialId,
    /// Cluster time when it was decided.
    pub created: UnixMs,
}

impl Canonical for KeyVersion {
    fn write(&self, w: &mut Writer) {
        w.u32(self.number).raw(&self.material.0).u64(self.created.0);
    }
    fn read(r: &mut Reader<'_>) -> Result<Self, Malformed> {
        Ok(KeyVersion { number: r.u32()?, material: MaterialId::read(r)?, created: UnixMs(r.u64()?) })
    }
}

/// What is known of a key, without its material: the plaintext of a record in the key table.
///
/// Versions stand in ascending order, the primary is one of them, and `1 <= min_decrypt <= primary`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyRecord {
    /// Stays when everything else changes.
    pub id: KeyId,
    /// The name that it goes by.
    pub name: KeyName,
    /// What its material is for.
    pub algorithm: Algorithm,
    /// Whether it works.
    pub state: KeyState,
    /// The version that encrypts.
    pub primary: u32,
    /// The lowest version that decrypts.
    pub min_decrypt: u32,
    /// All of them, 1 to [`VERSIONS_MAX`].
    pub versions: Vec<KeyVersion>,
    /// At most [`LABELS_MAX`].
    pub labels: Labels,
    /// Cluster time when it was created.
    pub created: UnixMs,
    /// Cluster time when it last changed.
    pub updated: UnixMs,
}

impl KeyRecord {
    /// The version of that number.
    pub fn version(&self, number: u32) -> Option<&KeyVersion> {
        let at = self.versions.binary_search_by_key(&number, |v| v.number).ok()?;
        self.versions.get(at)
    }

    /// The version that encrypts.
    ///
    /// # Errors
    /// `Disabled`.
    pub fn encrypting(&self) -> Result<&KeyVersion, Refused> {
        self.working()?.version(self.primary).ok_or(Refused::BadVersion)
    }

    /// The version of that number, if it may decrypt.
    ///
    /// # Errors
    /// `Disabled`; `BadVersion` when there is none; `BelowMinimum`.
    pub fn decrypting(&self, number: u32) -> Result<&KeyVersion, Refused> {
        let version = self.working()?.version(number).ok_or(Refused::BadVersion)?;
        if number < self.min_decrypt { Err(Refused::BelowMinimum) } else { Ok(version) }
    }

    fn working(&self) -> Result<&Self, Refused> {
        match self.state {
            KeyState::Enabled => Ok(self),
            KeyState::Disabled => Err(Refused::Disabled),
        }
    }

    /// What the doc of the type promises. A record that breaks it is not read.
    fn lawful(&self) -> bool {
        self.ascending() && self.version(self.primary).is_some() && (1..=self.primary).contains(&self.min_decrypt)
    }

    /// Of versions that a planted bug gave one number, the search finds the last.
    fn ascending(&self) -> bool {
        let strictly = self.versions.is_sorted_by(|a, b| a.number < b.number);
        strictly || (planted!(VersionReused) && self.versions.is_sorted_by(|a, b| a.number <= b.number))
    }
}

impl Canonical for KeyRecord {
    fn write(&self, w: &mut Writer) {
        w.u16(FORMAT).raw(&self.id.0);
        self.name.write(w);
        self.algorithm.write(w);
        self.state.write(w);
        w.u32(self.primary).u32(self.min_decrypt).u64(self.created.0).u64(self.updated.0);
        w.list(&self.versions);
        write_labels(&self.labels, w);
    }
    fn read(r: &mut Reader<'_>) -> Result<Self, Malformed> {
        if r.u16()? != FORMAT {
            return Err(Malformed::Unknown);
        }
        let (id, name) = (KeyId::read(r)?, KeyName::read(r)?);
        let (algorithm, state) = (Algorithm::read(r)?, KeyState::read(r)?);
        let (primary, min_decrypt) = (r.u32()?, r.u32()?);
        let (created, updated) = (UnixMs(r.u64()?), UnixMs(r.u64()?));
        let (versions, labels) = (r.list(VERSIONS_MAX)?, read_labels(r)?);
        let record = KeyRecord { id, name, algorithm, state, primary, min_decrypt, versions, labels, created, updated };
        if record.lawful() { Ok(record) } else { Err(Malformed::Unknown) }
    }
}

/// Names ascending, each once, so that equal labels have equal bytes.
fn write_labels(labels: &Labels, w: &mut Writer) {
    w.u32(u32::try_from(labels.len()).expect("labels are bounded"));
    for (name, value) in labels {
        name.write(w);
        value.write(w);
    }
}

fn read_labels(r: &mut Reader<'_>) -> Result<Labels, Malformed> {
    let count = r.u32()? as usize;
    if count > LABELS_MAX {
        return Err(Malformed::Oversize);
    }
    let mut labels = Labels::new();
    for _ in 0..count {
        let (name, value) = (Segment::read(r)?, Segment::read(r)?);
        if labels.last_key_value().is_some_and(|(last, _)| *last >= name) {
            return Err(Malformed::Unknown);
        }
        labels.insert(name, value);
    }
    Ok(labels)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn key(versions: u32, primary: u32, min_decrypt: u32) -> KeyRecord {
        let version = |number| KeyVersion { number, material: MaterialId([number as u8; 8]), created: UnixMs(5) };
        KeyRecord {
            id: KeyId([1; 16]),
            name: "tenants/acme/keys/invoices".parse().unwrap(),
            algorithm: Algorithm::Aes256Gcm,
            state: KeyState::Enabled,
            primary,
            min_decrypt,
            versions: (1..=versions).map(version).collect(),
            labels: Labels::from([("env".parse().unwrap(), "prod".parse().unwrap())]),
            created: UnixMs(5),
            updated: UnixMs(6),
        }
    }

    #[test]
    fn a_version_decrypts_from_the_minimum_on() {
        let mut key = key(3, 3, 2);
        assert_eq!(key.encrypting().map(|v| v.number), Ok(3));
        assert_eq!(key.decrypting(2).map(|v| v.number), Ok(2));
        assert_eq!(key.decrypting(1), Err(Refused::BelowMinimum));
        assert_eq!(key.decrypting(4), Err(Refused::BadVersion));
        key.state = KeyState::Disabled;
        assert_eq!(key.encrypting(), Err(Refused::Disabled));
        assert_eq!(key.decrypting(4), Err(Refused::Disabled));
    }

    #[test]
    fn refuses_records_that_contradict_themselves() {
        for bad in [key(3, 4, 1), key(3, 3, 0), key(3, 2, 3), key(0, 0, 0)] {
            assert_eq!(KeyRecord::from_bytes(&bad.to_bytes()), Err(Malformed::Unknown));
        }
        let mut swapped = key(3, 3, 1);
        swapped.versions.swap(0, 1);
        assert_eq!(KeyRecord::from_bytes(&swapped.to_bytes()), Err(Malformed::Unknown));
    }

    proptest! {
        #[test]
        fn a_key_is_read_as_written(n in 1u32..40, cut in 1usize..50) {
            let key = key(n, n, 1);
            let bytes = key.to_bytes();
            prop_assert_eq!(KeyRecord::from_bytes(&bytes[..bytes.len() - cut]).ok(), None);
            prop_assert_eq!(KeyRecord::from_bytes(&bytes), Ok(key));
        }

        #[test]
        fn no_bytes_make_the_reader_panic(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
            if let Ok(key) = KeyRecord::from_bytes(&bytes) {
                prop_assert_eq!(key.to_bytes(), bytes);
            }
        }
    }
}
