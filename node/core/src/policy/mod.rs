//! Who may do what. `judge` alone makes a [`Permit`], from rights that were read for one caller at one revision.
//!
//! Absent on purpose: the existence of what is asked for. Rights are judged by name alone, so that absent and
//! forbidden look alike to whoever may not list.

mod caller;
mod matrix;
mod operation;
mod permit;
mod rights;
mod role;

pub use caller::{Caller, Unauthenticated};
pub use matrix::{MATRIX, Rule, SealView, Who};
pub use operation::action::*;
pub use operation::{Action, Cluster, Operation, Scope, action};
pub use permit::{Denied, Permit, judge};
pub use rights::Rights;
pub use role::{DeniedRecord, GRANTS_MAX, GrantRecord, KeyGrant, RoleKind, RoleSet, StewardRecord, Use};

#[cfg(test)]
mod tests;
