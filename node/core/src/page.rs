//! Audit: a page for every attempt, typed fields and never a dump of the request; and the book that holds the pages.
//!
//! A call that changes the ledger has two pages. The *intent* travels in the transaction, before there is an outcome;
//! the book gets a *closing* page with the intent's hash and the outcome, before there is an answer.

mod book;
mod reader;

pub use book::{BookWriter, Head, Position, SignedHead};
pub use reader::{BookBroken, BookReader, BookSummary, BookWhy, verify_book};

use crate::codec::{Canonical, Malformed, Reader, Writer};
use crate::crypto;
use crate::failure::{Failure, RefusedKind, WhyKind};
use crate::name::{Digest, Identity, KeyHash, NodeId, TxnId};
use crate::policy::Operation;
use crate::record::Version;
use crate::time::UnixMs;
use std::fmt;

/// Longest page, in canonical bytes.
pub const PAGE_BYTES_MAX: usize = 1_024;

const FORMAT: u16 = 1;
/// Of a page that names a second key.
const FORMAT_TWO_KEYS: u16 = 2;
const INTENT_DOMAIN: &[u8] = b"claviger/v1/intent\0";

/// One attempt, or one flood of attempts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page {
    /// Its place in the book, from 1. 0 for an intent, which stands in no book.
    pub number: u64,
    /// By the clock of the node that wrote it.
    pub time: UnixMs,
    /// The node that wrote it.
    pub node: NodeId,
    /// Who, where that was proven.
    pub caller: Option<Identity>,
    /// The certificate key, where there was one.
    pub key_hash: Option<KeyHash>,
    /// What. None for connections that never came to a call.
    pub operation: Option<Operation>,
    /// On what: an HMAC, never the name. None while sealed, and where there is nothing.
    pub resource: Option<ResourceTag>,
    /// The second key, where there is one: what a ciphertext of the first was encrypted with anew.
    pub destination: Option<ResourceTag>,
    /// What came of it.
    pub outcome: OutcomeWord,
    /// The revision that the answer reflects; 0 for none.
    pub revision: Version,
    /// How many attempts the page stands for: 1, but for floods, for items of one batch that are alike in all that a page
    /// says, and for the chunks of one stream.
    pub count: u64,
    /// The transaction, where one was proposed.
    pub txn: Option<TxnId>,
    /// On a closing page, [`Page::intent_hash`] of the page that travelled.
    pub intent: Option<Digest>,
}

impl Page {
    /// A page of one attempt of which nothing else is known. Not in a book yet.
    pub fn bare(node: NodeId, time: UnixMs, outcome: OutcomeWord) -> Page {
        Page {
            number: 0,
            time,
            node,
            caller: None,
            key_hash: None,
            operation: None,
            resource: None,
            destination: None,
            outcome,
            revision: 0,
            count: 1,
            txn: None,
            intent: None,
        }
    }

    /// What a closing page names this page by.
    pub fn intent_hash(&self) -> Digest {
        crypto::sha256(&[INTENT_DOMAIN, &self.to_bytes()])
    }
}

impl Canonical for Page {
    fn write(&self, w: &mut Writer) {
        let format = if self.destination.is_some() { FORMAT_TWO_KEYS } else { FORMAT };
        w.u16(format).u64(self.number).u64(self.time.0).u64(self.node.0);
        w.option(self.caller.as_ref()).option(self.key_hash.as_ref()).option(self.operation.as_ref());
        w.option(self.resource.as_ref());
        self.outcome.write(w);
        w.u64(self.revision).u64(self.count).option(self.txn.as_ref()).option(self.intent.as_ref());
        if let Some(destination) = &self.destination {
            destination.write(w);
        }
    }
    fn read(r: &mut Reader<'_>) -> Result<Self, Malformed> {
        let two_keys = match r.u16()? {
            FORMAT => false,
            FORMAT_TWO_KEYS => true,
            _ => return Err(Malformed::Unknown),
        };
        Ok(Page {
            number: r.u64()?,
            time: UnixMs(r.u64()?),
            node: NodeId::read(r)?,
            caller: r.option()?,
            key_hash: r.option()?,
            operation: r.option()?,
            resource: r.option()?,
            outcome: OutcomeWord::read(r)?,
            revision: r.u64()?,
            count: r.u64()?,
            txn: r.option()?,
            intent: r.option()?,
            destination: two_keys.then(|| ResourceTag::read(r)).transpose()?,
        })
    }
}

/// What stands for a name: its HMAC, and the number of the audit key that made it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ResourceTag {
    /// Which audit key.
    pub key: u32,
    /// The HMAC.
    pub tag: [u8; 32],
}

impl Canonical for ResourceTag {
    fn write(&self, w: &mut Writer) {
        w.u32(self.key).raw(&self.tag);
    }
    fn read(r: &mut Reader<'_>) -> Result<Self, Malformed> {
        Ok(ResourceTag { key: r.u32()?, tag: r.array()? })
    }
}

/// What came of an attempt, in one word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OutcomeWord {
    /// Not known yet: an intent.
    Pending,
    /// It was done.
    Ok,
    /// The caller must ask otherwise.
    Refused(RefusedKind),
    /// No role allows it.
    Denied,
    /// Nobody that we know.
    Unauthenticated,
    /// The caller may ask again.
    Unavailable(WhyKind),
    /// An operator must look.
    Broken,
}

impl OutcomeWord {
    /// The word for a result.
    pub fn of<T>(result: &Result<T, Failure>) -> Self {
        match result {
            Ok(_) => OutcomeWord::Ok,
            Err(Failure::Refused(why)) => OutcomeWord::Refused(why.kind()),
            Err(Failure::Denied) => OutcomeWord::Denied,
            Err(Failure::Unauthenticated(_)) => OutcomeWord::Unauthenticated,
            Err(Failure::Unavailable(why)) => OutcomeWord::Unavailable(why.kind()),
            Err(Failure::Broken(_)) => OutcomeWord::Broken,
        }
    }
}

impl fmt::Display for OutcomeWord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            OutcomeWord::Pending => "pending",
            OutcomeWord::Ok => "ok",
            OutcomeWord::Refused(kind) => kind.word(),
            OutcomeWord::Denied => "denied",
            OutcomeWord::Unauthenticated => "unauthenticated",
            OutcomeWord::Unavailable(kind) => kind.word(),
            OutcomeWord::Broken => "broken",
        })
    }
}

impl Canonical for OutcomeWord {
    fn write(&self, w: &mut Writer) {
        match self {
            OutcomeWord::Pending => {
                w.u8(1);
            }
            OutcomeWord::Ok => {
                w.u8(2);
            }
            OutcomeWord::Refused(kind) => kind.write(w.u8(3)),
            OutcomeWord::Denied => {
                w.u8(4);
            }
            OutcomeWord::Unauthenticated => {
                w.u8(5);
            }
            OutcomeWord::Unavailable(kind) => kind.write(w.u8(6)),
            OutcomeWord::Broken => {
                w.u8(7);
            }
        }
    }
    fn read(r: &mut Reader<'_>) -> Result<Self, Malformed> {
        Ok(match r.u8()? {
            1 => OutcomeWord::Pending,
            2 => OutcomeWord::Ok,
            3 => OutcomeWord::Refused(RefusedKind::read(r)?),
            4 => OutcomeWord::Denied,
            5 => OutcomeWord::Unauthenticated,
            6 => OutcomeWord::Unavailable(WhyKind::read(r)?),
            7 => OutcomeWord::Broken,
            _ => return Err(Malformed::Unknown),
        })
    }
}

#[cfg(test)]
mod tests;
