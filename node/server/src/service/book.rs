//! Pages: what is written of an attempt, and who may read the book.

use super::{ReadAsk, Service, Visit};
use crate::audit::PAGES_KEPT;
use claviger_core::failure::{Failure, Why};
use claviger_core::name::{Digest, KeyName, TxnId};
use claviger_core::page::{OutcomeWord, Page, Position, ResourceTag};
use claviger_core::policy::action::{GetAuditHead, TailAudit};
use claviger_core::policy::{Caller, Cluster, Operation};
use claviger_world::watch;

/// What a page is about.
pub(crate) struct Entry<'a> {
    pub operation: Operation,
    pub caller: Option<&'a Caller>,
    pub resource: Option<&'a KeyName>,
    pub outcome: OutcomeWord,
    pub revision: u64,
    /// The transaction that was proposed, and the hash of the page that travels in it.
    pub proposed: Option<(TxnId, Digest)>,
}

/// Pages for somebody who follows the book.
pub struct Tail {
    /// Pages that are there already.
    pub pages: Vec<Page>,
    /// The number that the next one has.
    pub next: u64,
    /// Follows the number of the newest, when asked to.
    pub follow: Option<watch::Receiver<u64>>,
}

impl Service {
    /// A page, not written yet. Without keys there is no HMAC, and a sealed node's pages name no key.
    pub(crate) fn page(&self, entry: &Entry<'_>) -> Page {
        let tag = |name: &KeyName| {
            let (key, tag) = self.seal.opened().ok()?.keyring.audit_tag(name.to_string().as_bytes());
            Some(ResourceTag { key, tag })
        };
        Page {
            number: 0,
            time: self.world.clock.now(),
            node: self.config.node,
            caller: entry.caller.map(|c| c.identity().clone()),
            key_hash: entry.caller.map(|c| *c.key_hash()),
            operation: Some(entry.operation),
            resource: entry.resource.and_then(tag),
            outcome: entry.outcome,
            revision: entry.revision,
            count: 1,
            txn: entry.proposed.map(|(txn, _)| txn),
            intent: entry.proposed.map(|(_, intent)| intent),
        }
    }

    /// The last pages of this node's book, and the way to follow it.
    pub async fn tail_audit(&self, visit: &Visit, (last, follow): (usize, bool)) -> Result<Tail, Failure> {
        self.answered(visit.operation())?;
        let reading = self.reading(ReadAsk::default()).await?;
        let _leave = self.permit::<TailAudit>(visit.caller()?, Cluster, &reading)?;
        let newest = self.book.position().next;
        let pages = self.book.last(newest.saturating_sub(last.min(PAGES_KEPT) as u64));
        let next = pages.last().map_or(newest, |page| page.number + 1);
        Ok(Tail { pages, next, follow: follow.then(|| self.book.follow()) })
    }

    /// The pages from `next` on. `Behind` when they are no longer kept in memory: the file has them.
    pub fn pages_from(&self, next: u64) -> Result<Vec<Page>, Failure> {
        let pages = self.book.last(next);
        match pages.first() {
            Some(first) if first.number > next => Err(Why::Behind.into()),
            Some(_) | None => Ok(pages),
        }
    }

    /// Where this node's book is.
    pub async fn get_audit_head(&self, visit: &Visit, (): ()) -> Result<Position, Failure> {
        self.answered(visit.operation())?;
        let reading = self.reading(ReadAsk::default()).await?;
        let _leave = self.permit::<GetAuditHead>(visit.caller()?, Cluster, &reading)?;
        Ok(self.book.position())
    }
}
