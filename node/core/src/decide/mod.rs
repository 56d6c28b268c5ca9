//! What should happen. A view, a permit, a request, chance and cluster time go in; a transaction and its outcome come
//! out, or a refusal. Nothing here writes, waits, draws or looks at a clock.
//!
//! A transaction relies on the rights that its permit rests on, and on every record that the decision read or writes.

mod audit;
mod draft;
mod found;
mod keys;
mod members;
mod requests;
mod roles;
mod seal;

pub use audit::{CLOSED_MAX, audit_head, pages_travelled};
pub use found::{Dealt, Found, FoundAsk, found};
pub use keys::{
    CreateKeyAsk, KeyList, UpdateKeyAsk, create_key, disable_key, enable_key, list_keys, read_key, read_material,
    rotate_key, update_key,
};
pub use members::{
    Joining, RoleAsk, TicketAsk, TicketGiven, create_join_ticket, join, left_alone, retire_member, roster,
    set_member_role, succeed,
};
pub use requests::{REQUEST_KEPT_MS, Replayed, RequestRecord, expire_requests, replay};
pub use roles::{
    DENIED_MAX, Role, RoleCursor, RoleList, allow_certificate, delete_role, deny_certificate, list_denied, list_roles,
    read_role, set_role,
};
pub use seal::{newest_header, seal_all};

use crate::books::Books;
use crate::keyring::Keyring;
use crate::material::Buckets;
use crate::name::{Digest, Lineage, RequestId};
use crate::record::View;
use crate::time::UnixMs;
use crate::txn::Txn;

/// What a decision is made from: the records at one revision, and the keys of an open node.
#[derive(Clone, Copy)]
pub struct Desk<'a> {
    /// The records, at one revision.
    pub view: &'a dyn View,
    /// The opened keyring.
    pub keyring: &'a Keyring,
    /// The opened bucket keys.
    pub buckets: &'a Buckets,
    /// The cluster.
    pub lineage: Lineage,
    /// Transactions that this region had applied, accepted or refused, at that revision.
    pub turn: u64,
    /// Cluster time at that revision: what rules go by.
    pub now: UnixMs,
    /// The deciding node's own clock: what people are shown, as far as cluster time bears it out.
    pub clock: UnixMs,
}

/// How far ahead of cluster time a shown date may be, in milliseconds: two ticks.
const AHEAD_MS_MAX: u64 = 120_000;

impl<'a> Desk<'a> {
    /// What opens and seals its records.
    pub fn books(&self) -> Books<'a> {
        Books { keyring: self.keyring, lineage: self.lineage }
    }

    /// The date that is shown of something decided now. Cluster time moves once a minute; a node's clock may be wrong.
    pub fn date(&self) -> UnixMs {
        self.clock.clamp(self.now, self.now.plus_ms(AHEAD_MS_MAX))
    }
}

/// What a decision carries beside its own records.
#[derive(Clone, Default)]
pub struct Stamp {
    /// The caller's own number for this logical call, and the hash of the request that it stands for.
    pub request: Option<(RequestId, Digest)>,
    /// The audit page, without its outcome, in canonical bytes.
    pub page: Option<Vec<u8>>,
}

/// A transaction to propose, and what to answer when it is accepted.
#[must_use]
pub struct Decision<T> {
    /// To be proposed. Its version, once accepted, is the version of every record that it wrote.
    pub txn: Txn,
    /// What is true then.
    pub outcome: T,
}

#[cfg(test)]
pub(crate) mod paper;
#[cfg(test)]
mod tests;
