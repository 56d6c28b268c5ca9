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

/// Callers whose rights are kept, at most.
const RIGHTS_KEPT_MAX: usize = 4_096;

/// Whose rights: certificate key, identity, and whether they were read with the sealed records open.
type Asker = (KeyHash, Identity, bool);

/// The node's gate.
pub struct Gate {
    founders: Vec<Identity>,
    kept: RwLock<BTreeMap<Asker, Rights>>,
}

impl Gate {
    /// A gate that before founding listens to `founders` only.
    pub fn new(founders: Vec<Identity>) -> Self {
        Gate { founders, kept: RwLock::default() }
    }

    /// Who the bearer of a certificate is.
    pub fn authenticate(&self, leaf_der: Option<&[u8]>) -> Result<Caller, Unauthenticated> {
        let leaf = leaf_der.ok_or(Unauthenticated::NoCertificate)?;
        let leaf = read_leaf(leaf).ok_or(Unauthenticated::BadCertificate)?;
        Caller::authenticate(&leaf.uris, leaf.key_hash)
    }

    /// Leave to do `A`, by the records at `view`.
    pub fn authorise<A: Action>(
        &self,
        caller: &Caller,
        on: A::On,
        view: &LedgerView,
        opened: Option<&Opened>,
    ) -> Result<Permit<A>, Failure> {
        let seal = match (view.head(), opened) {
            (None, _) => SealView::Unfounded,
            (Some(_), None) => SealView::Sealed,
            (Some(_), Some(_)) => SealView::Open,
        };
        let rights = match seal {
            SealView::Unfounded => Rights::before_founding(&self.founders, caller),
            SealView::Sealed | SealView::Open => self.rights(caller, view, opened)?,
        };
        Ok(judge(&rights, on, seal)?)
    }

    /// Lets go of all kept rights: the records came anew.
    pub fn forget_all(&self) {
        self.kept.write().clear();
    }

    /// Kept rights count while every record that they were read from is still at its version.
    fn rights(&self, caller: &Caller, view: &LedgerView, opened: Option<&Opened>) -> Result<Rights, Failure> {
        let asker = (*caller.key_hash(), caller.identity().clone(), opened.is_some());
        if let Some(rights) = self.kept.read().get(&asker)
            && counts(rights, view)
        {
            return Ok(rights.clone());
        }
        let books = opened.map(Opened::books);
        let rights = Rights::read(view, books.as_ref(), caller)?;
        let mut kept = self.kept.write();
        if kept.len() >= RIGHTS_KEPT_MAX {
            kept.pop_first();
        }
        kept.insert(asker, rights.clone());
        Ok(rights)
    }
}

/// Whether kept rights may be judged by: their records are still what they were.
fn counts(rights: &Rights, view: &LedgerView) -> bool {
    if rights.current(view) { !rarely!("kept rights are read anew") } else { planted!(RightsNotRefreshed) }
}
