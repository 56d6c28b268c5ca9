//! Pages: what is written of an attempt, and who may read the book.

use super::items::Keys;
use super::{ReadAsk, Service, Visit};
use crate::audit::PAGES_KEPT;
use claviger_core::codec::Canonical;
use claviger_core::decide::{self, CLOSED_MAX};
use claviger_core::failure::{Cause, Failure, Why};
use claviger_core::keyring::Keyring;
use claviger_core::name::{Digest, Identity, KeyName, TxnId};
use claviger_core::page::{OutcomeWord, Page, Position, SignedHead};
use claviger_core::policy::action::{GetAuditHead, TailAudit};
use claviger_core::policy::{Caller, Cluster, Operation};
use claviger_core::record::{RecordKey, Table, View};
use claviger_ledger::LedgerView;
use claviger_world::{entropy, watch};
use std::collections::{BTreeSet, VecDeque};

/// Closed pages that wait, at most.
const CLOSED_KEPT_MAX: usize = 65_536;
/// What is said of a book that is not the one of which the ledger has a head.
pub(crate) const LOST_BOOK: &str = "the audit book does not hold its head in the ledger";
/// Pages that are looked at in one go when the node opens.
const PAGES_AT_ONCE: usize = 256;

/// What a page is about.
pub(crate) struct Entry<'a> {
    pub operation: Operation,
    pub caller: Option<&'a Caller>,
    pub keys: &'a Keys,
    pub outcome: OutcomeWord,
    pub revision: u64,
    /// The transaction that was proposed, and the hash of the page that travels in it.
    pub proposed: Option<(TxnId, Digest)>,
}

/// Of what is about no key.
const NO_KEYS: &Keys = &Keys { resource: None, destination: None };

impl Entry<'_> {
    /// Something that was done without a caller of this node's own.
    fn own(operation: Operation) -> Self {
        let outcome = OutcomeWord::Ok;
        Entry { operation, caller: None, keys: NO_KEYS, outcome, revision: 0, proposed: None }
    }
}

/// Pages for somebody who follows the book.
pub struct Tail {
    /// Pages that are there already.
    pub pages: Vec<Page>,
    /// The number that the next one has.
    pub next: u64,
    /// Follows the number of the newest, when asked to.
    pub follow: Option<watch::Receiver<u64>>,
    /// Who reads: asked again for every new page.
    pub reader: Caller,
}

/// A page that travelled in a transaction, and whose outcome is in the book by now.
pub(crate) enum Closed {
    /// In that transaction.
    In(TxnId),
    /// In that record.
    At(RecordKey),
}

impl Closed {
    fn place(&self, keyring: &Keyring) -> RecordKey {
        match self {
            Closed::In(txn) => keyring.page_record(&txn.0),
            Closed::At(place) => *place,
        }
    }
}

/// Closed pages that wait for a head to cover them.
#[derive(Default)]
pub(crate) struct ClosedPages(VecDeque<Closed>);

impl ClosedPages {
    /// Adds one. Over the bound the oldest stays in the ledger until the node opens again.
    pub(crate) fn add(&mut self, page: Closed) {
        if self.0.len() == CLOSED_KEPT_MAX {
            self.0.pop_front();
        }
        self.0.push_back(page);
    }

    fn take(&mut self, count: usize) -> Vec<Closed> {
        let count = count.min(self.0.len());
        self.0.drain(..count).collect()
    }

    fn put_back(&mut self, pages: Vec<Closed>) {
        pages.into_iter().rev().for_each(|page| self.0.push_front(page));
    }
}

impl Service {
    /// A page, not written yet. Without keys there is no HMAC, and a sealed node's pages name no key.
    pub(crate) fn page(&self, entry: &Entry<'_>) -> Page {
        let opened = self.seal.opened().ok();
        let tag = |name: &KeyName| opened.as_ref().map(|opened| opened.tags.of(&opened.keyring, name));
        Page {
            number: 0,
            time: self.world.clock.now(),
            node: self.config.node,
            caller: entry.caller.map(|c| c.identity().clone()),
            key_hash: entry.caller.map(|c| *c.key_hash()),
            operation: Some(entry.operation),
            resource: entry.keys.resource.as_ref().and_then(tag),
            destination: entry.keys.destination.as_ref().and_then(tag),
            outcome: entry.outcome,
            revision: entry.revision,
            count: 1,
            txn: entry.proposed.map(|(txn, _)| txn),
            intent: entry.proposed.map(|(_, intent)| intent),
        }
    }

    /// The page of a share that a peer relayed to the ceremony hosted here.
    pub(crate) fn page_relayed<T>(&self, bearer: &Identity, taken: &Result<T, Failure>) -> Result<(), Failure> {
        let page = self.page(&Entry { outcome: OutcomeWord::of(taken), ..Entry::own(Operation::OfferShare) });
        self.book.write(Page { caller: Some(bearer.clone()), ..page }).map_err(|_| Why::BookFull.into())
    }

    /// The page of this node's opening, by whichever way. Where the book cannot be written the node is open all the same,
    /// and refuses requests.
    pub(crate) fn page_opening(&self) {
        let page = self.page(&Entry::own(Operation::BeginUnseal));
        if let Err(why) = self.book.write(page) {
            tracing::error!(%why, "the opening of the node is not in the audit book");
        }
    }

    /// Refuses a book that does not hold what the head says which the ledger has of it: somebody put an old one in its place, or
    /// none.
    pub(crate) fn book_holds_its_head(&self, view: &LedgerView) -> Result<(), Failure> {
        let place = RecordKey::numbered(Table::AuditHead, self.config.node.0);
        let Some(record) = view.record(&place) else { return Ok(()) };
        let head = SignedHead::from_bytes(&record.value).map_err(|_| Cause("an audit head cannot be read"))?;
        let held = self.book.holds(&head.head, &self.config.identity).map_err(|why| {
            tracing::error!(%why, "the audit book cannot be read back");
            Cause("the audit book cannot be read back")
        })?;
        if !held {
            tracing::error!(page = head.head.number, "{LOST_BOOK}");
            return Err(Cause(LOST_BOOK).into());
        }
        Ok(())
    }

    /// Signs the book, and puts its head into the ledger while the node is open; pages that travelled in transactions
    /// and are closed by now go from there.
    pub(crate) async fn sign_head(&self) -> Result<(), Failure> {
        if !self.seal.is_open() || self.book.unsigned() == 0 {
            return Ok(());
        }
        let signed = self.book.sign(&self.config.identity, self.world.clock.now()).map_err(|_| Why::BookFull)?;
        self.book.sync().await.map_err(|_| Why::BookFull)?;
        let Some(head) = signed else { return Ok(()) };
        let closed = self.closed.lock().take(CLOSED_MAX);
        let done = self.put_head(&head, &closed).await;
        if !matches!(done, Ok(true)) {
            self.closed.lock().put_back(closed);
        }
        done.map(|_| ())
    }

    async fn put_head(&self, head: &SignedHead, closed: &[Closed]) -> Result<bool, Failure> {
        let txn = {
            let (opened, view) = (self.seal.opened()?, self.ledger.view());
            let places: Vec<_> = closed.iter().map(|page| page.place(&opened.keyring)).collect();
            let desk = opened.desk(&view, self.world.clock.now());
            decide::audit_head(&desk, head, &places, &mut entropy::chance(&*self.world.entropy))
        };
        self.bookkeeping(txn).await
    }

    /// Closes what a crash left open: pages of this node that travelled in accepted transactions, and that its book does
    /// not hold. Runs when the node opens.
    pub(crate) async fn close_left_open(&self) -> Result<(), Failure> {
        let held = self.book.intents();
        let mut after = None;
        loop {
            let left = {
                let (opened, view) = (self.seal.opened()?, self.ledger.view());
                decide::pages_travelled(&opened.desk(&view, self.world.clock.now()), after, PAGES_AT_ONCE)?
            };
            for (place, page) in &left {
                let page = Page::from_bytes(page).map_err(|_| Cause("a page that travelled cannot be read"))?;
                if page.node == self.config.node {
                    self.close_page(*place, &page, &held)?;
                }
            }
            match left.last() {
                Some((place, _)) if left.len() == PAGES_AT_ONCE => after = Some(place.tag),
                Some(_) | None => return Ok(()),
            }
        }
    }

    fn close_page(&self, place: RecordKey, page: &Page, held: &BTreeSet<Digest>) -> Result<(), Failure> {
        let intent = page.intent_hash();
        if !held.contains(&intent) {
            let (outcome, revision) = (OutcomeWord::Ok, self.ledger.view().version(&place));
            let closing = Page { outcome, revision, intent: Some(intent), ..page.clone() };
            self.book.write(closing).map_err(|_| Why::BookFull)?;
        }
        self.closed.lock().add(Closed::At(place));
        Ok(())
    }

    /// The last pages of this node's book, and the way to follow it.
    pub async fn tail_audit(&self, visit: &Visit, (last, follow): (usize, bool)) -> Result<Tail, Failure> {
        self.answered(visit.operation())?;
        let reading = self.reading(ReadAsk::default()).await?;
        let _leave = self.permit::<TailAudit>(visit.caller()?, Cluster, &reading)?;
        let newest = self.book.position().next;
        let pages = self.book.last(newest.saturating_sub(last.min(PAGES_KEPT) as u64));
        let next = pages.last().map_or(newest, |page| page.number + 1);
        let follow = follow.then(|| self.book.follow());
        Ok(Tail { pages, next, follow, reader: visit.caller()?.clone() })
    }

    /// The pages from `next` on, for a caller who must still be allowed to read them. `Behind` when they are no longer kept
    /// in memory: the file has them.
    pub async fn pages_from(&self, caller: &Caller, next: u64) -> Result<Vec<Page>, Failure> {
        self.answered(Operation::TailAudit)?;
        let reading = self.reading(ReadAsk::default()).await?;
        let _leave = self.permit::<TailAudit>(caller, Cluster, &reading)?;
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
