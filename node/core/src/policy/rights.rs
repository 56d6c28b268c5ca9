//! What one caller may do, as read at one revision, with what was read.

use super::caller::Caller;
use super::role::{DeniedRecord, GrantRecord, KeyGrant, RoleKind, RoleSet, StewardRecord, Use};
use crate::books::{self, Books};
use crate::failure::Cause;
use crate::name::{Identity, KeyName};
use crate::record::{RecordKey, View};
use crate::txn::Reliance;
use std::sync::Arc;

/// The rights of one caller. Cheap to clone; a cache keeps them for as long as [`Rights::current`] says.
#[derive(Clone, Debug)]
pub struct Rights(Arc<Read>);

#[derive(Debug)]
struct Read {
    caller: Caller,
    denied: bool,
    founder: bool,
    roles: RoleSet,
    grants: Vec<KeyGrant>,
    relies: Vec<Reliance>,
}

impl Rights {
    /// Reads a caller's rights. A sealed node has no books, and sees no grants.
    ///
    /// # Errors
    /// A record that does not open or cannot be read: nobody is judged by half of their rights.
    pub fn read(view: &dyn View, books: Option<&Books<'_>>, caller: &Caller) -> Result<Rights, Cause> {
        let mut relies = Vec::new();
        let mut rely = |key: RecordKey| {
            relies.push(Reliance::Exact(key, view.version(&key)));
            key
        };
        let denied = rely(DeniedRecord::key(caller.key_hash()));
        let steward = rely(StewardRecord::key(caller.identity()));
        let grant = books.map(|b| (b, rely(b.keyring.grant_record(caller.identity()))));
        let grants = match grant {
            Some((books, key)) => granted(books, view, &key, caller.identity())?,
            None => Vec::new(),
        };
        Ok(Rights(Arc::new(Read {
            caller: caller.clone(),
            denied: view.record(&denied).is_some(),
            founder: false,
            roles: stewarded(view, &steward, caller.identity())?,
            grants,
            relies,
        })))
    }

    /// The rights of a caller before there are records: none, but for the founders that the configuration names.
    pub fn before_founding(founders: &[Identity], caller: &Caller) -> Rights {
        Rights(Arc::new(Read {
            caller: caller.clone(),
            denied: false,
            founder: founders.contains(caller.identity()),
            roles: RoleSet::default(),
            grants: Vec::new(),
            relies: Vec::new(),
        }))
    }

    /// Whose they are.
    pub fn caller(&self) -> &Caller {
        &self.0.caller
    }

    /// The records, absent ones too, that they were read from.
    pub fn relies(&self) -> &[Reliance] {
        &self.0.relies
    }

    /// Whether reading them again in `view` would find the same. For rights read without books, of a node that is
    /// still sealed.
    pub fn current(&self, view: &dyn View) -> bool {
        self.0.relies.iter().all(|reliance| match reliance {
            Reliance::Exact(key, version) => view.version(key) == *version,
            Reliance::AtLeast(_) | Reliance::Members(..) => false,
        })
    }

    pub(super) fn denied(&self) -> bool {
        self.0.denied
    }

    pub(super) fn founder(&self) -> bool {
        self.0.founder
    }

    pub(super) fn has(&self, kind: RoleKind) -> bool {
        self.0.roles.has(kind)
    }

    pub(super) fn grants(&self) -> &[KeyGrant] {
        &self.0.grants
    }

    /// Whether some grant allows that use of that key.
    pub(super) fn uses(&self, key: &KeyName, usage: Use) -> bool {
        self.0.grants.iter().any(|g| g.reaches(key) && g.allows(usage))
    }

    /// Whether the caller may know of that key.
    pub(super) fn sees(&self, key: &KeyName) -> bool {
        let all = self.has(RoleKind::Administrator) || self.has(RoleKind::Auditor);
        all || self.0.grants.iter().any(|g| g.reaches(key))
    }
}

fn stewarded(view: &dyn View, key: &RecordKey, who: &Identity) -> Result<RoleSet, Cause> {
    match books::read_open::<StewardRecord>(view, key)? {
        None => Ok(RoleSet::default()),
        Some((record, _)) if record.identity == *who => Ok(record.roles),
        Some(_) => Err(Cause("a steward record stands in another's place")),
    }
}

fn granted(books: &Books<'_>, view: &dyn View, key: &RecordKey, who: &Identity) -> Result<Vec<KeyGrant>, Cause> {
    match books.read::<GrantRecord>(view, key)? {
        None => Ok(Vec::new()),
        Some((record, _)) if record.identity == *who => Ok(record.grants),
        Some(_) => Err(Cause("a grant record stands in another's place")),
    }
}
