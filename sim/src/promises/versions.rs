//! A version number is used once, for one material, for ever; and encrypts only once it is committed.

use super::{Board, Promise};
use claviger_core::key::KeyRecord;
use claviger_core::name::{KeyId, MaterialId};
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Every version that anybody ever saw.
pub struct Versions {
    board: Arc<Board>,
    known: Mutex<Known>,
}

#[derive(Default)]
struct Known {
    /// The id of each key of the run, and the key of each id.
    ids: BTreeMap<u64, KeyId>,
    keys: BTreeMap<KeyId, u64>,
    /// The material of each version, and the version of each material.
    materials: BTreeMap<(KeyId, u32), MaterialId>,
    versions: BTreeMap<MaterialId, (KeyId, u32)>,
}

impl Versions {
    /// Has seen none.
    pub fn new(board: Arc<Board>) -> Self {
        Versions { board, known: Mutex::default() }
    }

    /// Hears of a record that somebody was shown of the run's key of that number.
    pub fn record(&self, key: u64, record: &KeyRecord) {
        let mut wrong = self.known.lock().take_all(key, record);
        if !record.versions.is_sorted_by(|a, b| a.number < b.number) {
            wrong.push("its version numbers do not ascend".into());
        }
        if record.versions.last().map(|version| version.number) != Some(record.primary) {
            wrong.push(format!("its primary, {}, is not its newest version", record.primary));
        }
        self.tell(key, &wrong);
    }

    /// Hears of a ciphertext that was made. `committed` is the key as the answering node's applied records have it at the
    /// moment of the answer.
    pub fn encrypted(&self, key: u64, id: KeyId, version: u32, material: MaterialId, committed: Option<&KeyRecord>) {
        let mut wrong = Vec::new();
        wrong.extend(self.known.lock().take(key, id, version, material));
        match committed.map(|record| (record.id == id, record.version(version), record.primary)) {
            None => wrong.push(format!("version {version} encrypted, and no key is committed")),
            Some((false, ..)) => wrong.push(format!("{id} encrypted, and another key is committed")),
            Some((true, None, primary)) => {
                wrong.push(format!("version {version} encrypted, and {primary} is the newest that is committed"));
            }
            Some((true, Some(committed), primary)) => {
                if committed.material != material || version > primary {
                    wrong.push(format!("version {version} encrypted with {material}, committed is {committed:?}"));
                }
            }
        }
        self.tell(key, &wrong);
    }

    fn tell(&self, key: u64, wrong: &[String]) {
        self.board.expect(Promise::Versions, wrong.is_empty(), || format!("key {key}: {}", wrong.join("; ")));
    }
}

impl Known {
    fn take_all(&mut self, key: u64, record: &KeyRecord) -> Vec<String> {
        let versions = record.versions.iter();
        versions.filter_map(|version| self.take(key, record.id, version.number, version.material)).collect()
    }

    /// What is wrong with it, if anything is.
    fn take(&mut self, key: u64, id: KeyId, version: u32, material: MaterialId) -> Option<String> {
        let (first_id, first_key) = (*self.ids.entry(key).or_insert(id), *self.keys.entry(id).or_insert(key));
        if (first_id, first_key) != (id, key) {
            return Some(format!("its id is {id}; it was {first_id}, and {id} was of key {first_key}"));
        }
        let first = *self.materials.entry((id, version)).or_insert(material);
        if first != material {
            return Some(format!("version {version} has material {material}, and had {first}"));
        }
        let (other, number) = *self.versions.entry(material).or_insert((id, version));
        ((other, number) != (id, version))
            .then(|| format!("version {version} has material {material}, which is that of version {number} of {other}"))
    }
}

#[cfg(test)]
mod tests {
    use super::super::linearizable::stories::record;
    use super::super::on_a_board;
    use super::*;
    use claviger_core::key::KeyVersion;

    /// How many are broken after the honest beginning of two keys, and then this.
    fn broken(then: impl FnOnce(&Versions)) -> usize {
        on_a_board(|board| {
            let versions = Versions::new(board.clone());
            [(1, record(1, 1, 0)), (1, record(1, 2, 0)), (2, record(2, 1, 0))].iter().for_each(|(key, record)| {
                versions.record(*key, record);
            });
            then(&versions);
            assert!(board.broken().iter().all(|b| b.promise == Promise::Versions));
            assert!(board.counts()[&Promise::Versions] >= 3);
            board.broken().len()
        })
    }

    fn with(change: impl FnOnce(&mut Vec<KeyVersion>)) -> KeyRecord {
        let mut record = record(1, 3, 0);
        change(&mut record.versions);
        record
    }

    #[test]
    fn a_number_keeps_its_material_for_ever() {
        assert_eq!(broken(|v| v.record(1, &with(|_| ()))), 0);
        let other = MaterialId([0xee; 8]);
        assert_eq!(broken(|v| v.record(1, &with(|list| list[1].material = other))), 1, "another material");
        assert_eq!(broken(|v| v.record(1, &with(|list| list[2].material = list[0].material))), 1, "a shared one");
        assert_eq!(broken(|v| v.record(1, &with(|list| list.swap(0, 1)))), 1, "out of order");
        assert_eq!(broken(|v| v.record(1, &KeyRecord { primary: 2, ..with(|_| ()) })), 1, "an old primary");
        assert_eq!(broken(|v| v.record(2, &record(1, 2, 0))), 1, "another key's id");
    }

    #[test]
    fn only_a_committed_version_encrypts() {
        let key = record(1, 2, 0);
        let (id, material) = (key.id, key.versions[1].material);
        assert_eq!(broken(|v| v.encrypted(1, id, 2, material, Some(&key))), 0);
        assert_eq!(broken(|v| v.encrypted(1, id, 2, material, Some(&record(1, 3, 0)))), 0, "it was rotated meanwhile");
        assert_eq!(broken(|v| v.encrypted(1, id, 2, material, Some(&record(1, 1, 0)))), 1, "before it is committed");
        assert_eq!(broken(|v| v.encrypted(1, id, 2, material, None)), 1, "no key");
        assert_eq!(broken(|v| v.encrypted(1, id, 2, key.versions[0].material, Some(&key))), 1, "another's material");
        assert_eq!(broken(|v| v.encrypted(1, id, 2, material, Some(&record(2, 2, 0)))), 1, "another key");
    }
}
