//! What the node does the moment a transaction is applied here, before anybody who waits for it wakes.

use crate::node::Ended;
use crate::service::Service;
use claviger_core::record::{RecordKey, Table};
use claviger_ledger::{Fatal, Observer, Revision};
use claviger_world::watch;
use std::sync::{Arc, OnceLock, Weak};

/// Follows the ledger for a service that is made after it.
pub(crate) struct Watcher {
    service: OnceLock<Weak<Service>>,
    end: watch::Sender<Option<Ended>>,
}

impl Watcher {
    /// A watcher that nobody listens through yet, and where the end of the node is told.
    pub(crate) fn new() -> (Arc<Self>, watch::Receiver<Option<Ended>>) {
        let (end, ended) = watch::channel(None);
        (Arc::new(Watcher { service: OnceLock::new(), end }), ended)
    }

    /// Names the service. What is applied before needs no telling: the node is sealed and keeps nothing.
    pub(crate) fn bind(&self, service: &Arc<Service>) {
        let bound = self.service.set(Arc::downgrade(service));
        assert!(bound.is_ok(), "a watcher serves one node");
    }

    fn service(&self) -> Option<Arc<Service>> {
        self.service.get().and_then(Weak::upgrade)
    }
}

impl Observer for Watcher {
    fn applied(&self, changed: &[RecordKey], _: &Revision) {
        let Some(service) = self.service() else { return };
        if let Ok(opened) = service.seal.opened() {
            opened.vault.forget(changed);
        }
        if changed.iter().any(|key| key.table == Table::Header) {
            service.follow_seal_epoch();
            service.follow_keyring();
        }
    }

    fn replaced(&self, _: &Revision) {
        let Some(service) = self.service() else { return };
        if let Ok(opened) = service.seal.opened() {
            opened.vault.forget_all();
        }
        service.gate.forget_all();
        service.follow_seal_epoch();
        service.follow_keyring();
    }

    fn fatal(&self, why: &Fatal) {
        self.end.replace(Some(why.into()));
    }
}

impl Service {
    /// Goes on with a renewed keyring. A node that cannot read it shuts: it could sign nothing, and open nothing new.
    fn follow_keyring(self: &Arc<Self>) {
        if let Err(why) = self.seal.renew(&self.ledger.view()) {
            tracing::error!(%why, "the renewed keyring does not open: the node seals itself");
            crate::node::task(self.shut());
        }
    }

    /// Shuts a node whose opening belongs to a seal epoch that is over.
    fn follow_seal_epoch(&self) {
        let epoch = self.ledger.view().head().map_or(0, |link| link.header.seal_epoch);
        if self.seal.older_than(epoch) {
            tracing::warn!(epoch, "the region was sealed");
            crate::node::task(self.shut());
        }
    }
}
