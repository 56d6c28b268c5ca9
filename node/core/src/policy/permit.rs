//! The judge, and the leave that it gives.

use super::caller::Caller;
use super::matrix::{Rule, SealView, Who};
use super::operation::{Action, Scope};
use super::rights::Rights;
use super::role::RoleKind;
use crate::failure::{Failure, Refused, Why};
use crate::name::KeyName;
use crate::txn::Reliance;
use std::marker::PhantomData;

/// Leave to do `A` once. Made only by [`judge`]; spent by doing it.
///
/// It cannot be built by hand:
/// ```compile_fail,E0451
/// use claviger_core::{name::KeyName, policy::{Permit, Rights, action::Encrypt}};
/// fn forge(rights: Rights, on: KeyName) -> Permit<Encrypt> {
///     Permit { rights, on, action: std::marker::PhantomData }
/// }
/// ```
/// It cannot be used twice:
/// ```compile_fail,E0382
/// use claviger_core::policy::{Permit, action::Encrypt};
/// fn spend(permit: Permit<Encrypt>) {}
/// fn twice(permit: Permit<Encrypt>) {
///     spend(permit);
///     spend(permit);
/// }
/// ```
/// Nor is it cloned:
/// ```compile_fail,E0599
/// use claviger_core::policy::{Permit, action::Encrypt};
/// fn double(permit: Permit<Encrypt>) -> (Permit<Encrypt>, Permit<Encrypt>) {
///     (permit.clone(), permit)
/// }
/// ```
/// And leave to decrypt is no leave to encrypt:
/// ```compile_fail,E0308
/// use claviger_core::policy::{Permit, action::{Decrypt, Encrypt}};
/// fn encrypt(permit: Permit<Encrypt>) {}
/// fn swap(permit: Permit<Decrypt>) {
///     encrypt(permit)
/// }
/// ```
#[must_use]
pub struct Permit<A: Action> {
    rights: Rights,
    on: A::On,
    action: PhantomData<fn() -> A>,
}

impl<A: Action> Permit<A> {
    /// Whose leave it is.
    pub fn caller(&self) -> &Caller {
        self.rights.caller()
    }

    /// What it is about.
    pub fn on(&self) -> &A::On {
        &self.on
    }

    /// What the leave rests on: a decision made by it relies on the same.
    pub fn relies(&self) -> &[Reliance] {
        self.rights.relies()
    }

    /// Uses the leave up, and hands out what it was about.
    pub fn spend(self) -> A::On {
        self.on
    }

    /// Whether the caller may know of that key: lists leave out the others.
    pub fn sees(&self, name: &KeyName) -> bool {
        self.rights.sees(name)
    }
}

impl<A: Action<On = KeyName>> Permit<A> {
    /// The key that it is about.
    pub fn key(&self) -> &KeyName {
        &self.on
    }
}

/// Why there is no leave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Denied {
    /// The certificate's key is on the denied list.
    Certificate,
    /// No role of the caller's allows it, for this key.
    Role,
    /// Only an open node answers it.
    Sealed,
    /// Only a founded cluster answers it.
    NotFounded,
    /// Only a cluster that was not founded answers it.
    Founded,
}

impl From<Denied> for Failure {
    /// That the node is sealed or not founded is told to everybody who can ask for its status. The rest is one word.
    fn from(why: Denied) -> Self {
        match why {
            Denied::Certificate | Denied::Role => Failure::Denied,
            Denied::Sealed => Failure::Unavailable(Why::Sealed),
            Denied::NotFounded => Failure::Unavailable(Why::NotFounded),
            Denied::Founded => Failure::Refused(Refused::AlreadyFounded),
        }
    }
}

/// Gives leave to do `A` on `on`, when the matrix allows it to whoever has these rights, on a node that has come so far.
///
/// # Errors
/// Everything that the matrix does not allow.
pub fn judge<A: Action>(rights: &Rights, on: A::On, seal: SealView) -> Result<Permit<A>, Denied> {
    let rule = Rule::of(A::OPERATION).ok_or(Denied::Role)?;
    if rights.denied() {
        return Err(Denied::Certificate);
    }
    rule.answered(seal)?;
    if allowed(rule.who, rights, &on) {
        Ok(Permit { rights: rights.clone(), on, action: PhantomData })
    } else {
        Err(Denied::Role)
    }
}

fn allowed(who: Who, rights: &Rights, on: &impl Scope) -> bool {
    match who {
        Who::Anyone => true,
        Who::Founders => rights.founder(),
        Who::Stewards(kinds) => kinds.iter().any(|kind| rights.has(*kind)),
        Who::StewardsAndFounders(kinds) => rights.founder() || kinds.iter().any(|kind| rights.has(*kind)),
        Who::StewardsAndUsers(kinds) => kinds.iter().any(|kind| rights.has(*kind)) || known_to(rights, on),
        Who::Users(usage) => match on.reach() {
            (_, Some(key)) => !rights.has(RoleKind::Administrator) && rights.uses(key, usage),
            (_, None) => false,
        },
        Who::KeyUsers => !rights.has(RoleKind::Administrator) && !rights.grants().is_empty(),
    }
}

/// Whether some grant is about that key, or about any key of that tenant.
fn known_to(rights: &Rights, on: &impl Scope) -> bool {
    match on.reach() {
        (_, Some(key)) => rights.grants().iter().any(|g| g.reaches(key)),
        (Some(tenant), None) => rights.grants().iter().any(|g| g.tenant == *tenant),
        (None, None) => false,
    }
}
