//! Requests that callers may repeat: what became of each stands in the transaction that it caused, for a day.

use super::Desk;
use crate::codec::{Canonical, Malformed, Reader, Writer};
use crate::failure::{Cause, Failure, Refused};
use crate::name::{Digest, RequestId, TxnId};
use crate::policy::{Action, Operation, Permit};
use crate::record::{Collection, RECORD_BYTES_MAX, Table, TenantTag, Version};
use crate::time::UnixMs;
use crate::txn::{Effect, Reliance, Txn};

/// How long a request is remembered, in milliseconds of cluster time.
pub const REQUEST_KEPT_MS: u64 = 24 * 60 * 60 * 1_000;
/// Requests that are forgotten by one transaction, at most.
const EXPIRED_AT_ONCE_MAX: usize = 256;

const FORMAT: u16 = 1;

/// What became of a request: the plaintext of a record of the request table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestRecord {
    /// The call.
    pub operation: Operation,
    /// Of the encoded request: another body under the same id is another request.
    pub hash: Digest,
    /// When the record counts no more, in cluster time.
    pub expires: UnixMs,
    /// What the caller was answered, in the operation's own form.
    pub outcome: Vec<u8>,
}

impl Canonical for RequestRecord {
    fn write(&self, w: &mut Writer) {
        w.u16(FORMAT);
        self.operation.write(w);
        w.raw(&self.hash.0).u64(self.expires.0).lp(&self.outcome);
    }
    fn read(r: &mut Reader<'_>) -> Result<Self, Malformed> {
        if r.u16()? != FORMAT {
            return Err(Malformed::Unknown);
        }
        Ok(RequestRecord {
            operation: Operation::read(r)?,
            hash: Digest::read(r)?,
            expires: UnixMs(r.u64()?),
            outcome: r.lp(RECORD_BYTES_MAX)?.to_vec(),
        })
    }
}

/// A request that was carried out before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Replayed {
    /// What was answered: a key record for calls on keys, the seal epoch for `SealAll`, else nothing.
    pub outcome: Vec<u8>,
    /// The transaction that carried it out.
    pub version: Version,
}

/// What became of a request of this caller, if it was carried out in the last day. Asked with a permit, so that a
/// caller whose rights are gone learns nothing.
///
/// # Errors
/// `RequestReused` when the id stands for another request; a broken record.
pub fn replay<A: Action>(
    desk: &Desk<'_>,
    permit: &Permit<A>,
    id: &RequestId,
    hash: &Digest,
) -> Result<Option<Replayed>, Failure> {
    let key = desk.keyring.request_record(permit.caller().identity(), id);
    let Some((record, version)) = desk.books().read::<RequestRecord>(desk.view, &key)? else { return Ok(None) };
    if record.expires <= desk.now {
        return Ok(None);
    }
    if record.operation != A::OPERATION || record.hash != *hash {
        return Err(Refused::RequestReused.into());
    }
    Ok(Some(Replayed { outcome: record.outcome, version }))
}

/// A transaction that forgets requests which have expired, if there are any among the `scan` after `after`; and where to
/// go on, if there are more. The housekeeping of a node, on nobody's permit.
///
/// # Errors
/// A broken record.
pub fn expire_requests(
    desk: &Desk<'_>,
    after: Option<[u8; 32]>,
    scan: usize,
    id: TxnId,
) -> Result<(Option<Txn>, Option<[u8; 32]>), Cause> {
    let all = Collection { table: Table::Request, tenant: TenantTag::default() };
    let found = desk.view.members(&all, after, scan);
    let next = (found.len() == scan).then(|| found.last().map(|(key, _)| key.tag)).flatten();
    let mut expired = Vec::new();
    for (key, record) in &found {
        let request: RequestRecord = desk.books().value(key, record)?;
        if request.expires <= desk.now && expired.len() < EXPIRED_AT_ONCE_MAX {
            expired.push((*key, record.version));
        }
    }
    if expired.is_empty() {
        return Ok((None, next));
    }
    let mut relies = vec![Reliance::AtLeast(desk.now)];
    relies.extend(expired.iter().map(|(key, version)| Reliance::Exact(*key, *version)));
    let deletes = expired.into_iter().map(|(key, _)| key).collect();
    let (turn, decided_at) = (desk.turn, desk.now);
    Ok((Some(Txn { id, turn, decided_at, relies, puts: Vec::new(), deletes, effect: Effect::Records }), next))
}
