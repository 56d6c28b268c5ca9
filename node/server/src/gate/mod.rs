//! Who is asking, and what they may do: certificates become callers, callers get permits.
//!
//! Must not contain: key states, secrets, waiting. Freshness is the caller's business and comes before.

mod certificate;

pub use certificate::{Leaf, read_leaf};

use crate::seal::Opened;
use claviger_core::failure::Failure;
use claviger_core::name::{Identity, KeyHash};
use claviger_core::policy::{Action, Caller, Permit, Rights, SealView, Unauthenticated, judge};
use claviger_core::{planted, rarely};
use claviger_ledger::LedgerView;
use parking_lot::RwLock;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};

/// Callers whose rights are kept, at most.
const RIGHTS_KEPT_MAX: usize = 4_096;

/// Whose rights: certificate key, and whether they were read with the sealed records open.
type Asker = (KeyHash, bool);

/// Rights, with the newest sequence at which they were seen to be current: that of one state and no other.
struct Kept {
    rights: Rights,
    seen_at: AtomicU64,
}

/// What a caller is judged by at one view.
pub struct Standing {
    rights: Rights,
    seal: SealView,
}

impl Standing {
    /// Leave to do `A`.
    pub fn authorise<A: Action>(&self, on: A::On) -> Result<Permit<A>, Failure> {
        Ok(judge(&self.rights, on, self.seal)?)
    }
}

/// The node's gate.
pub struct Gate {
    founders: Vec<Identity>,
    kept: RwLock<BTreeMap<Asker, Kept>>,
}

impl Gate {
    /// A gate that before founding listens to `founders` only.
    pub fn new(founders: Vec<Identity>) -> Self {
        Gate { founders, kept: RwLock::default() }
    }

    /// Leave to do `A`, by the records at `view`.
    pub fn authorise<A: Action>(
        &self,
        caller: &Caller,
        on: A::On,
        view: &LedgerView,
        opened: Option<&Opened>,
    ) -> Result<Permit<A>, Failure> {
        self.standing(caller, view, opened)?.authorise(on)
    }

    /// What a caller is judged by at `view`.
    pub fn standing(&self, caller: &Caller, view: &LedgerView, opened: Option<&Opened>) -> Result<Standing, Failure> {
        let seal = match (view.head(), opened) {
            (None, _) => SealView::Unfounded,
            (Some(_), None) => SealView::Sealed,
            (Some(_), Some(_)) => SealView::Open,
        };
        let rights = match seal {
            SealView::Unfounded => Rights::before_founding(&self.founders, caller),
            SealView::Sealed | SealView::Open => self.rights(caller, view, opened)?,
        };
        Ok(Standing { rights, seal })
    }

    /// Lets go of all kept rights: the records came anew.
    pub fn forget_all(&self) {
        self.kept.write().clear();
    }

    /// Kept rights count while every record that they were read from is still at its version.
    fn rights(&self, caller: &Caller, view: &LedgerView, opened: Option<&Opened>) -> Result<Rights, Failure> {
        let asker = (*caller.key_hash(), opened.is_some());
        if let Some(kept) = self.kept.read().get(&asker)
            && kept.rights.caller() == caller
            && kept.counts(view)
        {
            return Ok(kept.rights.clone());
        }
        let books = opened.map(Opened::books);
        let rights = Rights::read(view, books.as_ref(), caller)?;
        let mut kept = self.kept.write();
        if kept.len() >= RIGHTS_KEPT_MAX {
            kept.pop_first();
        }
        let seen_at = AtomicU64::new(view.revision().sequence);
        kept.insert(asker, Kept { rights: rights.clone(), seen_at });
        Ok(rights)
    }
}

/// Who the bearer of a certificate is.
pub fn authenticate(leaf_der: Option<&[u8]>) -> Result<Caller, Unauthenticated> {
    let leaf = leaf_der.ok_or(Unauthenticated::NoCertificate)?;
    let leaf = read_leaf(leaf).ok_or(Unauthenticated::BadCertificate)?;
    Caller::authenticate(&leaf.uris, leaf.key_hash)
}

impl Kept {
    /// Whether they may be judged by: their records are still what they were.
    fn counts(&self, view: &LedgerView) -> bool {
        if self.current(view) { !rarely!("kept rights are read anew") } else { planted!(RightsNotRefreshed) }
    }

    /// Looked up once for each state: every accepted transaction makes another sequence.
    fn current(&self, view: &LedgerView) -> bool {
        let sequence = view.revision().sequence;
        if self.seen_at.load(Ordering::Relaxed) == sequence || planted!(RightsSeenOnce) {
            return true;
        }
        let current = self.rights.current(view);
        if current {
            self.seen_at.store(sequence, Ordering::Relaxed);
        }
        current
    }
}
