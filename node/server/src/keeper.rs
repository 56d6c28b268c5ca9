//! What a node does by itself: syncs and signs its book, follows its seal, counts, opens a static slot.

use crate::api::Health;
use crate::node::task;
use crate::service::Service;
use claviger_core::decide;
use claviger_core::failure::{Failure, Why};
use claviger_world::{entropy, runtime};
use std::sync::{Arc, Weak};
use std::time::Duration;

/// Longest that a page waits to be durable.
const SYNC_EVERY: Duration = Duration::from_millis(100);
/// How often the book's head enters the ledger, when there are new pages.
const HEAD_EVERY: Duration = Duration::from_secs(1);

/// Starts the node's own tasks. Each ends when the node is dropped.
pub(crate) fn start(service: &Arc<Service>, health: Health) {
    task(sync_book(Arc::downgrade(service)));
    task(sign_book(Arc::downgrade(service)));
    task(follow_seal(Arc::downgrade(service), health));
    task(follow_ledger(Arc::downgrade(service)));
}

async fn sync_book(service: Weak<Service>) {
    loop {
        runtime::sleep(SYNC_EVERY).await;
        let Some(service) = service.upgrade() else { return };
        if service.book.dirty()
            && let Err(why) = service.book.sync().await
        {
            tracing::error!(%why, "the audit book cannot be written: requests are refused");
        }
    }
}

async fn sign_book(service: Weak<Service>) {
    loop {
        runtime::sleep(HEAD_EVERY).await;
        let Some(service) = service.upgrade() else { return };
        if let Err(why) = service.sign_head().await {
            tracing::debug!(%why, "the audit head waits");
        }
    }
}

impl Service {
    /// Signs the book, and puts its head into the ledger while the node is open.
    async fn sign_head(&self) -> Result<(), Failure> {
        if !self.seal.is_open() || self.book.unsigned() == 0 {
            return Ok(());
        }
        let signed = self.book.sign(&self.config.identity, self.world.clock.now()).map_err(|_| Why::BookFull)?;
        self.book.sync().await.map_err(|_| Why::BookFull)?;
        let Some(head) = signed else { return Ok(()) };
        let txn = {
            let opened = self.seal.opened()?;
            let view = self.ledger.view();
            decide::audit_head(&opened.desk(&view), &head, &mut entropy::chance(&*self.world.entropy))
        };
        self.bookkeeping(txn).await?;
        Ok(())
    }

    /// Opens the node with its static key, once there is something to open.
    async fn open_static(&self) {
        let Some(key) = self.config.unseal.static_key() else { return };
        if self.seal.is_open() || self.sealed_by_hand() || self.ledger.view().head().is_none() {
            return;
        }
        if let Err(why) = self.open_by_file(key).await {
            tracing::error!(%why, "the static slot does not open");
        }
    }
}

async fn follow_seal(service: Weak<Service>, health: Health) {
    let Some(mut open) = service.upgrade().map(|s| s.seal.follow()) else { return };
    loop {
        let now_open = *open.borrow_and_update();
        health.set_open(now_open).await;
        if open.changed().await.is_err() {
            return;
        }
    }
}

/// What follows from transactions: the book learns of its cluster, a static slot opens.
async fn follow_ledger(service: Weak<Service>) {
    let Some(mut revision) = service.upgrade().map(|s| s.ledger.subscribe()) else { return };
    loop {
        revision.borrow_and_update();
        let Some(service) = service.upgrade() else { return };
        service.open_static().await;
        if let Some(lineage) = service.ledger.lineage()
            && let Err(why) = service.book.belong(lineage)
        {
            tracing::error!(%why, "the audit book cannot be written");
        }
        drop(service);
        if revision.changed().await.is_err() {
            return;
        }
    }
}
