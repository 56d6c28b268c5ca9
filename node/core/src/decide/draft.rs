//! A transaction while it is being written.

use super::requests::{self, RequestRecord};
use super::{Decision, Desk, Stamp};
use crate::chance::Chance;
use crate::codec::Canonical;
use crate::name::{RequestId, TxnId};
use crate::policy::{Action, Caller, Operation, Permit};
use crate::record::{RecordKey, Version};
use crate::txn::{Effect, Put, Reliance, Txn};

/// What is to be written so far, and what it relies on.
pub(super) struct Draft<'d, 'a> {
    desk: &'d Desk<'a>,
    caller: Caller,
    operation: Operation,
    relies: Vec<Reliance>,
    puts: Vec<Put>,
    deletes: Vec<RecordKey>,
}

impl<'d, 'a> Draft<'d, 'a> {
    /// Begins with what the permit rests on.
    pub fn by<A: Action>(desk: &'d Desk<'a>, permit: &Permit<A>) -> Self {
        Draft {
            desk,
            caller: permit.caller().clone(),
            operation: A::OPERATION,
            relies: permit.relies().to_vec(),
            puts: Vec::new(),
            deletes: Vec::new(),
        }
    }

    /// Relies on a record, or on its absence, as the desk sees it.
    pub fn rely(&mut self, key: &RecordKey) -> Version {
        let version = self.desk.view.version(key);
        self.also(Reliance::Exact(*key, version));
        version
    }

    /// Relies on something, once.
    pub fn also(&mut self, reliance: Reliance) {
        if !self.relies.contains(&reliance) {
            self.relies.push(reliance);
        }
    }

    /// Writes a sealed record over what the desk sees.
    pub fn put_sealed(&mut self, key: RecordKey, plaintext: &[u8], chance: &mut Chance) {
        let replaces = self.rely(&key);
        self.puts.push(self.desk.books().put(key, replaces, plaintext, chance));
    }

    /// Writes an open record over what the desk sees.
    pub fn put_open(&mut self, key: RecordKey, value: &impl Canonical) {
        assert!(!key.table.sealed(), "only open tables are written in clear");
        self.rely(&key);
        self.puts.push(Put { key, value: value.to_bytes() });
    }

    /// Writes a record of an open table over what the desk sees, as it is.
    pub fn put(&mut self, put: Put) {
        assert!(!put.key.table.sealed(), "only open tables are written as they are");
        self.rely(&put.key);
        self.puts.push(put);
    }

    /// Removes a record, if the desk sees one.
    pub fn delete(&mut self, key: RecordKey) {
        self.rely(&key);
        if self.desk.view.record(&key).is_some() {
            self.deletes.push(key);
        }
    }

    /// Adds the request record and the audit page, and closes the transaction. `answer` is what a replay gets.
    pub fn finish<T>(mut self, stamp: Stamp, answer: &[u8], outcome: T, chance: &mut Chance) -> Decision<T> {
        let id = TxnId(chance.fresh().spend());
        if let Some((request, hash)) = &stamp.request {
            let (operation, expires) = (self.operation, self.desk.now.plus_ms(requests::REQUEST_KEPT_MS));
            let record = RequestRecord { operation, hash: *hash, expires, outcome: answer.to_vec() };
            self.put_sealed(self.request_record(request), &record.to_bytes(), chance);
        }
        if let Some(page) = &stamp.page {
            self.put_sealed(self.desk.keyring.page_record(&id.0), page, chance);
        }
        Decision { txn: self.close(id), outcome }
    }

    fn request_record(&self, request: &RequestId) -> RecordKey {
        self.desk.keyring.request_record(self.caller.identity(), request)
    }

    fn close(self, id: TxnId) -> Txn {
        let txn = Txn {
            id,
            turn: self.desk.turn,
            decided_at: self.desk.now,
            relies: self.relies,
            puts: self.puts,
            deletes: self.deletes,
            effect: Effect::Records,
        };
        assert!(txn.relies_on_what_it_writes(), "a decision relies on every record that it writes");
        txn
    }
}
