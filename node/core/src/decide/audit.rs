//! What the audit books leave in the ledger: heads, and pages that travelled in transactions.

use super::Desk;
use crate::chance::Chance;
use crate::codec::Canonical;
use crate::failure::Cause;
use crate::name::TxnId;
use crate::page::SignedHead;
use crate::record::{Collection, RecordKey, Table, TenantTag};
use crate::txn::{Effect, Put, Reliance, Txn};

/// Pages that one head removes, at most.
pub const CLOSED_MAX: usize = 256;

/// The newest head of a node's book, in place of the one before, and the end of the pages in `closed`: they travelled in
/// transactions, and the book holds what came of them. The housekeeping of that node, on nobody's permit.
///
/// # Panics
/// At more than [`CLOSED_MAX`] pages.
pub fn audit_head(desk: &Desk<'_>, head: &SignedHead, closed: &[RecordKey], chance: &mut Chance) -> Txn {
    assert!(closed.len() <= CLOSED_MAX, "whoever closes pages counts them");
    let key = RecordKey::numbered(Table::AuditHead, head.head.node.0);
    let deletes: Vec<RecordKey> = closed.iter().copied().filter(|page| desk.view.record(page).is_some()).collect();
    let written = std::iter::once(&key).chain(&deletes);
    Txn {
        id: TxnId(chance.fresh().spend()),
        turn: desk.turn,
        decided_at: desk.now,
        relies: written.map(|k| Reliance::Exact(*k, desk.view.version(k))).collect(),
        puts: vec![Put { key, value: head.to_bytes() }],
        deletes,
        effect: Effect::Records,
    }
}

/// Up to `limit` pages that travelled in transactions, behind the tag `after`: each with its place, in canonical bytes.
/// When it opens, a node closes those of its own that its book does not hold.
///
/// # Errors
/// A record that does not open.
pub fn pages_travelled(
    desk: &Desk<'_>,
    after: Option<[u8; 32]>,
    limit: usize,
) -> Result<Vec<(RecordKey, Vec<u8>)>, Cause> {
    let all = Collection { table: Table::Page, tenant: TenantTag::default() };
    let open = |(key, record): &(RecordKey, crate::record::Record)| {
        Ok((*key, desk.books().open(key, record)?.expose().to_vec()))
    };
    desk.view.members(&all, after, limit).iter().map(open).collect()
}
