//! One attempt, from its arrival to its page in the book. No page, no answer.

use super::book::{Closed, Entry};
use super::items::{Alike, Items, Keys};
use super::{AgeLimit, Reading, Service};
use crate::audit::BookFailed;
use crate::gate;
use claviger_core::failure::{Failure, Why};
use claviger_core::name::{Digest, KeyName, TxnId};
use claviger_core::page::{OutcomeWord, Page};
use claviger_core::policy::{Caller, Operation, Unauthenticated};
use claviger_core::{planted, rarely};
use claviger_world::runtime;
use parking_lot::Mutex;
use std::sync::Arc;
use std::time::Duration;

/// How long after the answer a planted bug writes the page.
const PAGE_LATE: Duration = Duration::from_millis(100);
/// How long an answer is held up where the simulator wants that: longer than any reading stays young.
const HELD_UP: Duration = Duration::from_secs(5);

/// An attempt that has no answer yet. Dropped without one (its caller left, or its deadline passed), it is paged as such.
pub struct Visit {
    service: Arc<Service>,
    operation: Operation,
    caller: Result<Caller, Unauthenticated>,
    notes: Mutex<Notes>,
    /// When it came, by the clock that counts suspension. None where its caller decides how long it lasts.
    came: Option<Duration>,
    closed: bool,
}

/// What is learned of the attempt on its way.
#[derive(Default)]
struct Notes {
    keys: Keys,
    items: Items,
    /// Chunks of a stream that were handed over.
    chunks: u64,
    proposed: Option<(TxnId, Digest)>,
    revision: u64,
    rests_on: Option<AgeLimit>,
    /// Whether the answer was made with the node's keys.
    with_keys: bool,
}

/// An answer whose page is in the book.
#[must_use]
pub struct Audited<T> {
    answer: T,
    written: OutcomeWord,
}

impl<T> Audited<T> {
    /// The answer, to be handed over.
    pub fn into_inner(self) -> T {
        self.answer
    }

    /// The outcome that its page has. An answer that grew old after its page was written, or whose node was sealed then,
    /// is not handed over: the page says that it was done, and the caller hears why not.
    pub fn written(&self) -> OutcomeWord {
        self.written
    }

    /// What it is, for who must know before it is handed over.
    pub(crate) fn look(&self) -> &T {
        &self.answer
    }

    /// What was made of it on its way out.
    pub fn map<U>(self, make: impl FnOnce(T) -> U) -> Audited<U> {
        Audited { answer: make(self.answer), written: self.written }
    }
}

/// An attempt that was made, one of several together.
pub(crate) struct Made<T> {
    /// Whose page is in the book once they were closed together.
    pub visit: Box<Visit>,
    /// What came of it.
    pub answer: Result<T, Failure>,
}

impl<T> Made<T> {
    /// Why the answer is not handed over any more, if it is not, and when that was looked at. Looked at last.
    pub(crate) fn overtaken(&self) -> Last {
        let now = self.visit.service.now();
        Last { now, overtaken: self.visit.overtaken_at(now) }
    }

    fn outcome(&self) -> OutcomeWord {
        OutcomeWord::of(&self.answer)
    }

    /// Whether all is the same that a page would say of either.
    fn is_like(&self, other: &Self) -> bool {
        let same = self.visit.operation == other.visit.operation && self.outcome() == other.outcome();
        same && self.visit.caller == other.visit.caller && {
            let (one, other) = (self.visit.notes.lock(), other.visit.notes.lock());
            let alone = one.proposed.is_none() && other.proposed.is_none();
            alone && one.revision == other.revision && one.keys == other.keys
        }
    }

    /// The answer, to be handed over as it was just found; none where it was overtaken.
    pub(crate) fn hand_over(self, last: Last) -> Audited<Result<T, Failure>> {
        debug_assert!(self.visit.closed, "no page, no answer");
        let written = OutcomeWord::of(&self.answer);
        let answer = last.overtaken.map_or(self.answer, |why| Err(why.into()));
        self.visit.took(last.now);
        Audited { answer, written }
    }
}

/// The last look at an answer. What follows it waits for nothing.
pub(crate) struct Last {
    now: Duration,
    /// Why it is not handed over, if it is not.
    pub overtaken: Option<Why>,
}

impl Service {
    /// Opens a page for an attempt by the bearer of a certificate.
    pub fn visit(self: &Arc<Self>, leaf_der: Option<&[u8]>, operation: Operation) -> Visit {
        self.attempt(gate::authenticate(leaf_der), operation)
    }

    /// Opens a page for something that came over a stream just now, by whoever opened the stream.
    pub(crate) fn visit_of(self: &Arc<Self>, caller: &Caller, operation: Operation, came: Duration) -> Visit {
        self.attempt_at(Ok(caller.clone()), operation, came)
    }

    /// Opens a page for all chunks of a stream, by whoever opened it. They take as long as their caller likes, so that their
    /// time is none of the node's.
    pub(crate) fn visit_of_chunks(self: &Arc<Self>, caller: &Caller, operation: Operation) -> Visit {
        let mut visit = self.visit_of(caller, operation, Duration::ZERO);
        visit.came = None;
        visit
    }

    /// Opens a page for an attempt by somebody, or by nobody that we know.
    pub(crate) fn attempt(self: &Arc<Self>, caller: Result<Caller, Unauthenticated>, operation: Operation) -> Visit {
        self.attempt_at(caller, operation, self.now())
    }

    fn attempt_at(
        self: &Arc<Self>,
        caller: Result<Caller, Unauthenticated>,
        operation: Operation,
        came: Duration,
    ) -> Visit {
        Visit { service: self.clone(), operation, caller, notes: Mutex::default(), came: Some(came), closed: false }
    }

    /// By the clock that counts suspension.
    pub(crate) fn now(&self) -> Duration {
        self.world.clock.awake_and_asleep()
    }
}

impl Visit {
    /// The visit, if we know who is asking.
    ///
    /// Refuses also, before anything is done, what could not be written down. Sealing is never refused for that.
    pub fn known(&self) -> Result<&Visit, Failure> {
        self.caller()?;
        if self.service.book.failed() && !self.seals() {
            return Err(Why::BookFull.into());
        }
        Ok(self)
    }

    fn seals(&self) -> bool {
        matches!(self.operation, Operation::SealNode | Operation::SealAll)
    }

    /// Who is asking.
    pub fn caller(&self) -> Result<&Caller, Failure> {
        self.caller.as_ref().map_err(|why| Failure::Unauthenticated(*why))
    }

    /// What is asked.
    pub fn operation(&self) -> Operation {
        self.operation
    }

    /// Notes the key that it is about.
    pub fn about(&self, name: &KeyName) {
        self.is_about(Keys::one(name));
    }

    /// Notes the keys that it is about.
    pub(crate) fn is_about(&self, keys: Keys) {
        self.notes.lock().keys = keys;
    }

    /// Notes that it is about many items: each will be in a page, whatever becomes of the call.
    pub(crate) fn holds(&self, items: Items) {
        self.notes.lock().items = items;
    }

    /// Notes what came of each item, in their order.
    pub(crate) fn items_came_to(&self, outcomes: impl Iterator<Item = OutcomeWord>) {
        self.notes.lock().items.came_to(outcomes);
    }

    /// Notes one more chunk of a stream that was handed over: its page counts them.
    pub(crate) fn chunk_came_through(&self) {
        self.notes.lock().chunks += 1;
    }

    /// Whether an answer that rests on the newest reading may be handed over now.
    pub(crate) fn still_stands(&self) -> bool {
        self.overtaken().is_none()
    }

    /// Notes the revision that the answer reflects.
    pub fn reflects(&self, revision: u64) {
        self.notes.lock().revision = revision;
    }

    /// Notes the reading that the answer rests on: one that has grown too old is not handed over.
    pub(crate) fn rests_on(&self, reading: &Reading) {
        let mut notes = self.notes.lock();
        notes.revision = reading.sequence();
        notes.rests_on = Some(reading.age_limit());
        notes.with_keys = reading.opened.is_some();
    }

    /// Notes that the answer gives nothing away, whatever was handed over before it: it does not grow old.
    pub(crate) fn rests_on_nothing(&self) {
        let mut notes = self.notes.lock();
        (notes.rests_on, notes.with_keys) = (None, false);
    }

    /// Why an answer is not handed over any more, however it was made.
    fn overtaken(&self) -> Option<Why> {
        self.overtaken_at(self.service.now())
    }

    fn overtaken_at(&self, now: Duration) -> Option<Why> {
        let notes = self.notes.lock();
        let stale = notes.rests_on.is_some_and(|limit| !limit.covers(now));
        let sealed = notes.with_keys && !self.service.seal.is_open() && !planted!(SealedStillAnswers);
        if sealed { Some(Why::Sealed) } else { stale.then_some(Why::Overloaded) }
    }

    /// The page that travels in a transaction, before there is an outcome.
    pub fn intent(&self) -> Page {
        let notes = self.notes.lock();
        self.service.page(&Entry { revision: 0, proposed: None, ..self.entry(&notes, OutcomeWord::Pending) })
    }

    /// Notes the transaction that was decided upon, and the page that travels in it.
    pub fn proposed(&self, txn: TxnId, intent: &Page) {
        self.notes.lock().proposed = Some((txn, intent.intent_hash()));
    }

    /// Writes the pages of attempts that were made together, in one piece: one for those that are alike in all that it says.
    /// Where that cannot be done, none has an answer.
    pub(crate) async fn close_together<T>(service: &Service, made: &mut [Made<T>]) {
        let mut pages: Vec<Page> = Vec::new();
        let mut first_of: Vec<usize> = Vec::new();
        for n in 0..made.len() {
            made[n].visit.closed = true;
            let (visit, outcome) = (&made[n].visit, made[n].outcome());
            if outcome != OutcomeWord::Ok && planted!(RefusalNotPaged) {
                continue;
            }
            match first_of.iter().position(|first| made[*first].is_like(&made[n])) {
                Some(alike) => pages[alike].count += 1,
                None => {
                    first_of.push(n);
                    pages.push(visit.page(&visit.notes.lock(), outcome));
                }
            }
        }
        for (page, first) in pages.iter().zip(&first_of) {
            service.metrics.answered(made[*first].visit.operation, page.outcome, page.count);
        }
        let written = match service.book.write_all(pages) {
            Ok(()) if service.config.strict_audit => service.book.sync().await,
            other => other,
        };
        if rarely!("answers of a stream are held up") {
            runtime::sleep(HELD_UP).await;
        }
        if written.is_err() {
            made.iter_mut().for_each(|made| made.answer = Err(Why::BookFull.into()));
        }
    }

    /// Closes the page and gives the answer back, to be handed over. Where the book cannot be written there is no answer:
    /// but sealing is never refused for it.
    pub async fn close<T>(mut self, answer: Result<T, Failure>) -> Audited<Result<T, Failure>> {
        self.closed = true;
        if planted!(PageAfterAnswer) {
            return self.close_later(answer);
        }
        let outcome = OutcomeWord::of(&answer);
        let unpaged = answer.is_err() && planted!(RefusalNotPaged);
        let written = if unpaged { Ok(()) } else { self.write(outcome).await };
        let written = match written {
            Ok(()) if self.service.config.strict_audit => self.service.book.sync().await,
            other => other,
        };
        if !self.seals() && rarely!("an answer is held up") {
            runtime::sleep(HELD_UP).await;
        }
        // Looked at last: a sync may have taken its time (DESIGN §4 (b)), and the node been sealed meanwhile.
        let now = self.service.now();
        let answer = match (written, self.overtaken_at(now)) {
            (Err(_), _) if !self.seals() => Err(Failure::Unavailable(Why::BookFull)),
            (Ok(()) | Err(_), Some(why)) => Err(Failure::Unavailable(why)),
            (Ok(()) | Err(_), None) => answer,
        };
        self.took(now);
        Audited { answer, written: outcome }
    }

    /// Counts how long it took, up to then.
    fn took(&self, now: Duration) {
        if let Some(came) = self.came {
            self.service.metrics.took(self.operation, now.saturating_sub(came));
        }
    }

    /// For a planted bug: the answer first.
    fn close_later<T>(self, answer: Result<T, Failure>) -> Audited<Result<T, Failure>> {
        let answer = self.overtaken().map_or(answer, |why| Err(Failure::Unavailable(why)));
        let outcome = OutcomeWord::of(&answer);
        runtime::spawn(async move {
            runtime::sleep(PAGE_LATE).await;
            // There is nobody left to be refused.
            let _ = self.write(outcome).await;
        });
        Audited { answer, written: outcome }
    }

    /// With the pages of others who are about to answer: one write to the file costs as much as an encryption.
    async fn write(&self, outcome: OutcomeWord) -> Result<(), BookFailed> {
        self.service.book.write_together(self.pages(outcome)).await?;
        // Only what is known to have been accepted is closed: else the travelled page stays, and is looked at again.
        let proposed = self.notes.lock().proposed;
        if let (Some((txn, _)), OutcomeWord::Ok) = (proposed, outcome) {
            self.service.closed.lock().add(Closed::In(txn));
        }
        Ok(())
    }

    /// All that is written of it. The pages of its items stand before its own: where one cannot be written, it has no
    /// answer. Counts what they say.
    ///
    /// A stream of chunks that came to its end has one page, which counts them. One that did not has one for the chunks that
    /// came through, and one for its end.
    fn pages(&self, outcome: OutcomeWord) -> Vec<Page> {
        let notes = self.notes.lock();
        let broke_off = outcome != OutcomeWord::Ok && notes.chunks > 0;
        let own = if broke_off { 1 } else { notes.chunks.max(1) };
        let mut pages = self.pages_of_items(&notes, outcome);
        if broke_off {
            let through = Entry { outcome: OutcomeWord::Ok, proposed: None, ..self.entry(&notes, outcome) };
            pages.push(Page { count: notes.chunks, ..self.service.page(&through) });
        }
        pages.push(Page { count: own, ..self.page(&notes, outcome) });
        for page in &pages {
            self.service.metrics.answered(page.operation.unwrap_or(self.operation), page.outcome, page.count);
        }
        pages
    }

    fn entry<'a>(&'a self, notes: &'a Notes, outcome: OutcomeWord) -> Entry<'a> {
        Entry {
            operation: self.operation,
            caller: self.caller.as_ref().ok(),
            keys: &notes.keys,
            outcome,
            revision: notes.revision,
            proposed: notes.proposed,
        }
    }

    fn page(&self, notes: &Notes, outcome: OutcomeWord) -> Page {
        self.service.page(&self.entry(notes, outcome))
    }

    fn pages_of_items(&self, notes: &Notes, whole: OutcomeWord) -> Vec<Page> {
        let of_alike = |alike: Alike| {
            let (operation, outcome) = (alike.operation, alike.outcome);
            let entry = Entry { operation, keys: &alike.keys, proposed: None, ..self.entry(notes, outcome) };
            Page { count: alike.count, ..self.service.page(&entry) }
        };
        notes.items.gathered(whole).into_iter().map(of_alike).collect()
    }
}

impl Drop for Visit {
    fn drop(&mut self) {
        if !self.closed {
            let late: Result<(), Failure> = Err(Why::Deadline.into());
            // The caller is gone already; a book that cannot be written refuses the next one.
            let _ = self.service.book.write_all(self.pages(OutcomeWord::of(&late)));
            self.took(self.service.now());
        }
    }
}
