//! What the audit books leave in the ledger: heads, and pages that travelled in transactions.

use super::Desk;
use crate::chance::Chance;
use crate::codec::Canonical;
use crate::failure::Cause;
use crate::name::TxnId;
use crate::page::SignedHead;
use crate::record::{Collection, RecordKey, Table, TenantTag};
use crate::txn::{Effect, Put, Reliance, Txn};

/// The newest head of a node's book, in place of the one before. The housekeeping of that node, on nobody's permit.
pub fn audit_head(desk: &Desk<'_>, head: &SignedHead, chance: &mut Chance) -> Txn {
    let key = RecordKey::numbered(Table::AuditHead, head.head.node.0);
    Txn {
        id: TxnId(chance.fresh().spend()),
        turn: desk.turn,
        decided_at: desk.now,
        relies: vec![Reliance::Exact(key, desk.view.version(&key))],
        puts: vec![Put { key, value: head.to_bytes() }],
        deletes: Vec::new(),
        effect: Effect::Records,
    }
}

/// Up to `limit` pages that travelled in transactions, behind the tag `after`: each with its tag, in canonical bytes. At
/// start a node closes those of its own that its book does not hold.
///
/// # Errors
/// A record that does not open.
pub fn pages_travelled(
    desk: &Desk<'_>,
    after: Option<[u8; 32]>,
    limit: usize,
) -> Result<Vec<([u8; 32], Vec<u8>)>, Cause> {
    let all = Collection { table: Table::Page, tenant: TenantTag::default() };
    let open = |(key, record): &(RecordKey, crate::record::Record)| {
        Ok((key.tag, desk.books().open(key, record)?.expose().to_vec()))
    };
    desk.view.members(&all, after, limit).iter().map(open).collect()
}
