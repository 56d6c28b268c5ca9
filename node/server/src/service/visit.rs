//! One attempt, from its arrival to its page in the book. No page, no answer.

use super::Service;
use super::book::{Closed, Entry};
use claviger_core::failure::{Failure, Why};
use claviger_core::name::{Digest, KeyName, TxnId};
use claviger_core::page::{OutcomeWord, Page};
use claviger_core::policy::{Caller, Operation, Unauthenticated};
use parking_lot::Mutex;
use std::sync::Arc;

/// An attempt that has no answer yet. Dropped without one (its caller left, or its deadline passed), it is paged as such.
pub struct Visit {
    service: Arc<Service>,
    operation: Operation,
    caller: Result<Caller, Unauthenticated>,
    notes: Mutex<Notes>,
    closed: bool,
}

/// What is learned of the attempt on its way.
#[derive(Default)]
struct Notes {
    resource: Option<KeyName>,
    proposed: Option<(TxnId, Digest)>,
    revision: u64,
}

/// An answer whose page is in the book.
#[must_use]
pub struct Audited<T>(T);

impl<T> Audited<T> {
    /// The answer, to be handed over.
    pub fn into_inner(self) -> T {
        self.0
    }
}

impl Service {
    /// Opens a page for an attempt by the bearer of a certificate.
    pub fn visit(self: &Arc<Self>, leaf_der: Option<&[u8]>, operation: Operation) -> Visit {
        let caller = self.gate.authenticate(leaf_der);
        Visit { service: self.clone(), operation, caller, notes: Mutex::default(), closed: false }
    }
}

impl Visit {
    /// The visit, if we know who is asking.
    pub fn known(&self) -> Result<&Visit, Failure> {
        self.caller()?;
        Ok(self)
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
        self.notes.lock().resource = Some(name.clone());
    }

    /// Notes the revision that the answer reflects.
    pub fn reflects(&self, revision: u64) {
        self.notes.lock().revision = revision;
    }

    /// The page that travels in a transaction, before there is an outcome.
    pub fn intent(&self) -> Page {
        let notes = self.notes.lock();
        self.service.page(&Entry {
            operation: self.operation,
            caller: self.caller.as_ref().ok(),
            resource: notes.resource.as_ref(),
            outcome: OutcomeWord::Pending,
            revision: 0,
            proposed: None,
        })
    }

    /// Notes the transaction that was decided upon, and the page that travels in it.
    pub fn proposed(&self, txn: TxnId, intent: &Page) {
        self.notes.lock().proposed = Some((txn, intent.intent_hash()));
    }

    /// Closes the page and gives the answer back, to be handed over. Where the book cannot be written there is no answer:
    /// but sealing is never refused for it.
    pub async fn close<T>(mut self, answer: Result<T, Failure>) -> Audited<Result<T, Failure>> {
        self.closed = true;
        let sealing = matches!(self.operation, Operation::SealNode | Operation::SealAll);
        let written = match self.write(OutcomeWord::of(&answer)) {
            Ok(()) if self.service.config.strict_audit => self.service.book.sync().await,
            other => other,
        };
        Audited(match written {
            Err(_) if !sealing => Err(Failure::Unavailable(Why::BookFull)),
            Ok(()) | Err(_) => answer,
        })
    }

    fn write(&self, outcome: OutcomeWord) -> Result<(), crate::audit::BookFailed> {
        self.service.metrics.answered(self.operation, outcome.to_string());
        let notes = self.notes.lock();
        let page = self.service.page(&Entry {
            operation: self.operation,
            caller: self.caller.as_ref().ok(),
            resource: notes.resource.as_ref(),
            outcome,
            revision: notes.revision,
            proposed: notes.proposed,
        });
        self.service.book.write(page)?;
        if let Some((txn, _)) = notes.proposed {
            self.service.closed.lock().add(Closed::In(txn));
        }
        Ok(())
    }
}

impl Drop for Visit {
    fn drop(&mut self) {
        if !self.closed {
            let late: Result<(), Failure> = Err(Why::Deadline.into());
            // The caller is gone already; a book that cannot be written refuses the next one.
            let _ = self.write(OutcomeWord::of(&late));
        }
    }
}
