//! Tags of names that were written lately. A tag is an HMAC, and the same for as long as its key is.
//!
//! Must not contain: names beyond those of one opening, which they go with.

use claviger_core::keyring::Keyring;
use claviger_core::name::KeyName;
use claviger_core::page::ResourceTag;
use parking_lot::RwLock;
use std::collections::BTreeMap;

/// Names whose tags are kept, at most.
const TAGS_KEPT_MAX: usize = 16_384;

/// The tags of one opening, by one keyring.
#[derive(Default)]
pub(crate) struct Tags(RwLock<BTreeMap<KeyName, ResourceTag>>);

impl Tags {
    /// What stands for a name, by the keyring of the same opening.
    pub fn of(&self, keyring: &Keyring, name: &KeyName) -> ResourceTag {
        if let Some(tag) = self.0.read().get(name) {
            return *tag;
        }
        let (key, tag) = keyring.audit_tag(name.to_string().as_bytes());
        let mut kept = self.0.write();
        if kept.len() >= TAGS_KEPT_MAX {
            kept.pop_first();
        }
        kept.insert(name.clone(), ResourceTag { key, tag });
        ResourceTag { key, tag }
    }
}
