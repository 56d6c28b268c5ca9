//! What a node holds while it is open, and how it comes by it and loses it again: founding, opening, handing over,
//! sealing.
//!
//! Must not contain: rights (gate), key states (core), anything about callers' requests.

mod ceremony;
mod founding;
mod handover;

pub use ceremony::{Offer, OpenCeremony};
pub use founding::{FoundAsk, Founded};
pub use handover::{Expecting, Sealings};

use crate::audit::Tags;
use crate::keyring::Vault;
use claviger_core::books::Books;
use claviger_core::crypto::sha256;
use claviger_core::decide::Desk;
use claviger_core::failure::{Cause, Failure, Why};
use claviger_core::header::Header;
use claviger_core::keyring::Keyring;
use claviger_core::material::Buckets;
use claviger_core::name::{Digest, Lineage};
use claviger_core::planted;
use claviger_core::policy::SealView;
use claviger_core::record::{RecordKey, Table, View};
use claviger_core::slot::{Root, slots_digest};
use claviger_core::time::UnixMs;
use claviger_core::txn::{Batch, SignedBatch};
use claviger_ledger::{Author, Ledger, LedgerView};
use claviger_world::watch;
use parking_lot::RwLock;
use std::sync::{Arc, Weak};

/// Everything that is gone after sealing. Whoever holds a clone keeps the node from being sealed, so requests hold one
/// for no longer than they compute, and never while they wait for others.
pub struct Opened {
    /// The root key, kept to be handed to peers that prove themselves.
    pub root: Root,
    /// What the root key opens.
    pub keyring: Keyring,
    /// What wraps key material.
    pub buckets: Buckets,
    /// Keys that were used lately.
    pub vault: Vault,
    /// What stands for names in the audit book.
    pub(crate) tags: Tags,
    /// The cluster.
    pub lineage: Lineage,
    /// The seal epoch that this opening belongs to.
    pub seal_epoch: u64,
    /// SHA-256 of the keyring record that was opened.
    keyring_record: Digest,
    last: Arc<Parting>,
}

impl Opened {
    /// Reads what `root` opens out of the records at `view`.
    fn read(root: Root, view: &LedgerView, last: Arc<Parting>) -> Result<Opened, Failure> {
        let head = &view.head().ok_or(Failure::Unavailable(Why::NotFounded))?.header;
        if root.number() != head.root || root.commitment(&head.lineage) != head.root_commitment {
            return Err(Failure::Broken(Cause("the root key is not the one that the header names")));
        }
        check_header(head, view)?;
        let sealed = view.record(&RecordKey::only(Table::Keyring)).ok_or(BROKEN_KEYRING)?;
        let keyring = Keyring::open(&root, &head.lineage, &sealed.value).ok_or(BROKEN_KEYRING)?;
        let key = keyring.buckets_record();
        let record = view.record(&key).ok_or(BROKEN_BUCKETS)?;
        let value = keyring.open_record(&head.lineage, &key, &record.value).map_err(|_| BROKEN_BUCKETS)?;
        let buckets = Buckets::open(value.expose(), &keyring, &head.lineage).ok_or(BROKEN_BUCKETS)?;
        let (lineage, seal_epoch, keyring_record) = (head.lineage, head.seal_epoch, head.keyring);
        Ok(Opened {
            root,
            keyring,
            buckets,
            vault: Vault::default(),
            tags: Tags::default(),
            lineage,
            seal_epoch,
            keyring_record,
            last,
        })
    }

    /// The same for a moment, before this node serves anybody.
    pub(crate) fn look(root: Root, view: &LedgerView) -> Result<Opened, Failure> {
        Opened::read(root, view, Arc::new(Parting { _open_as_long_as_held: watch::channel(()).0 }))
    }

    /// What sealed records are opened with.
    pub fn books(&self) -> Books<'_> {
        Books { keyring: &self.keyring, lineage: self.lineage }
    }

    /// What decisions are made from, at one revision, by a node whose clock says `clock`.
    pub fn desk<'a>(&'a self, view: &'a LedgerView, clock: UnixMs) -> Desk<'a> {
        let revision = view.revision();
        Desk {
            view,
            keyring: &self.keyring,
            buckets: &self.buckets,
            lineage: self.lineage,
            turn: revision.turn,
            now: revision.cluster_time,
            clock,
        }
    }
}

/// What the newest header says of the open records must be what they are (DESIGN §7): a state that came in a snapshot is
/// not believed for less.
fn check_header(head: &Header, view: &LedgerView) -> Result<(), Failure> {
    let digest = |table| {
        let value = view.record(&RecordKey::only(table)).map(|record| record.value).unwrap_or_default();
        sha256(&[&value])
    };
    let slots = slots_digest(&ceremony::slots(view)?);
    let good = digest(Table::Roster) == head.roster
        && digest(Table::Custodians) == head.custodians
        && digest(Table::Keyring) == head.keyring
        && slots == head.slots;
    if good { Ok(()) } else { Err(Cause("the open records are not those that the header names").into()) }
}

const BROKEN_KEYRING: Failure = Failure::Broken(Cause("the keyring record is missing or does not open"));
const BROKEN_BUCKETS: Failure = Failure::Broken(Cause("the bucket keys are missing or do not open"));

/// Closes, when the last holder lets go, what everybody who waits for the wiping listens to.
struct Parting {
    _open_as_long_as_held: watch::Sender<()>,
}

/// The keys of the node, or their absence.
pub struct Seal {
    ledger: Ledger,
    held: RwLock<Held>,
    open: watch::Sender<bool>,
}

#[derive(Default)]
struct Held {
    opened: Option<Arc<Opened>>,
    /// Of the newest opening, kept after it: several may wait for the same wiping.
    wiped: Option<watch::Receiver<()>>,
}

impl Seal {
    /// A sealed node.
    pub fn new(ledger: Ledger) -> Self {
        Seal { ledger, held: RwLock::default(), open: watch::channel(false).0 }
    }

    /// The keys, while the node is open.
    pub fn opened(&self) -> Result<Arc<Opened>, Failure> {
        self.held.read().opened.clone().ok_or(Failure::Unavailable(Why::Sealed))
    }

    /// What the policy wants to know of the seal.
    pub fn view(&self, view: &LedgerView) -> SealView {
        match (view.head(), &self.held.read().opened) {
            (None, _) => SealView::Unfounded,
            (Some(_), None) => SealView::Sealed,
            (Some(_), Some(_)) => SealView::Open,
        }
    }

    /// Whether the node is open.
    pub fn is_open(&self) -> bool {
        self.held.read().opened.is_some()
    }

    /// Follows whether the node is open.
    pub fn follow(&self) -> watch::Receiver<bool> {
        self.open.subscribe()
    }

    /// Opens the node with a root key, from the state at `view`. Opening an open node changes nothing.
    pub fn open(&self, root: Root, view: &LedgerView) -> Result<(), Failure> {
        let (sender, wiped) = watch::channel(());
        let opened = Arc::new(Opened::read(root, view, Arc::new(Parting { _open_as_long_as_held: sender }))?);
        {
            let mut held = self.held.write();
            if held.opened.is_some() {
                return Ok(());
            }
            self.ledger.set_author(Some(Arc::new(Pen(Arc::downgrade(&opened)))));
            *held = Held { opened: Some(opened), wiped: Some(wiped) };
            self.open.replace(true);
        }
        self.unless_sealed_meanwhile()?;
        self.renew(&self.ledger.view())
    }

    /// Goes on with the keyring that the newest header names, if it is another than the one that is held: a node has left.
    /// Called the moment that is applied, before anybody who waits for it wakes.
    pub fn renew(&self, view: &LedgerView) -> Result<(), Failure> {
        let mut held = self.held.write();
        let Some(old) = &held.opened else { return Ok(()) };
        let Some(head) = view.head().map(|link| &link.header) else { return Ok(()) };
        if head.keyring == old.keyring_record || head.seal_epoch != old.seal_epoch {
            return Ok(());
        }
        let opened = Arc::new(Opened::read(old.root.copy(), view, old.last.clone())?);
        self.ledger.set_author(Some(Arc::new(Pen(Arc::downgrade(&opened)))));
        held.opened = Some(opened);
        Ok(())
    }

    /// A seal-all that was applied while the node opened found nothing to shut: so it is looked for again.
    fn unless_sealed_meanwhile(&self) -> Result<(), Failure> {
        let epoch = self.ledger.view().head().map_or(0, |link| link.header.seal_epoch);
        if self.older_than(epoch) {
            drop(self.shut());
            return Err(Failure::Unavailable(Why::Sealed));
        }
        Ok(())
    }

    /// Refuses from now on. [`Shutting::drained`] tells when the keys are wiped.
    pub fn shut(&self) -> Shutting {
        if planted!(SealedStillAnswers) {
            return Shutting(None);
        }
        let mut held = self.held.write();
        self.ledger.set_author(None);
        let opened = held.opened.take();
        self.open.replace(false);
        let wiped = held.wiped.clone();
        drop(held);
        drop(opened);
        Shutting(wiped)
    }

    /// Whether an opening of an older seal epoch than `epoch` is held.
    pub fn older_than(&self, epoch: u64) -> bool {
        self.held.read().opened.as_ref().is_some_and(|o| o.seal_epoch < epoch)
    }
}

/// A sealing that waits for the last holder of keys.
#[must_use]
pub struct Shutting(Option<watch::Receiver<()>>);

impl Shutting {
    /// Completes when nobody holds keys any more, and they are wiped.
    pub async fn drained(self) {
        if let Some(mut wiped) = self.0 {
            // Nothing is ever sent: the end of the channel is the word.
            while wiped.changed().await.is_ok() {}
        }
    }
}

/// Signs for the ledger as long as the node is open, without keeping it open.
struct Pen(Weak<Opened>);

impl Author for Pen {
    fn sign(&self, batch: Batch) -> Option<SignedBatch> {
        self.0.upgrade().map(|opened| opened.keyring.sign_batch(batch))
    }
}
