//! What a node does by itself: syncs and signs its book, follows its seal, counts, opens a static slot.

use crate::api::Health;
use crate::node::task;
use crate::service::Service;
use claviger_core::decide;
use claviger_core::failure::Failure;
use claviger_core::name::TxnId;
use claviger_world::{entropy, runtime};
use std::sync::{Arc, Weak};
use std::time::Duration;

/// Longest that a page waits to be durable.
const SYNC_EVERY: Duration = Duration::from_millis(100);
/// How often the book's head enters the ledger, when there are new pages.
const HEAD_EVERY: Duration = Duration::from_secs(1);

/// How often requests that nobody can repeat any more are looked for.
const EXPIRE_EVERY: Duration = Duration::from_secs(60);
/// How often a node with a static slot asks whether its state is proven.
const STATIC_AGAIN: Duration = Duration::from_secs(1);
/// Requests that are looked at in one go.
const REQUESTS_AT_ONCE: usize = 256;

/// Starts the node's own tasks. Each ends when the node is dropped.
pub(crate) fn start(service: &Arc<Service>, health: Health) {
    task(sync_book(Arc::downgrade(service), health.clone()));
    task(sign_book(Arc::downgrade(service)));
    task(follow_seal(Arc::downgrade(service), health));
    task(follow_ledger(Arc::downgrade(service)));
    task(expire_requests(Arc::downgrade(service)));
    task(join(service.clone()));
}

/// Ends when the node belongs to a cluster: until then there is nothing else that it could do.
async fn join(service: Arc<Service>) {
    if let Some(ticket) = &service.config.ticket {
        service.join(ticket).await;
    }
}

async fn sync_book(service: Weak<Service>, health: Health) {
    loop {
        runtime::sleep(SYNC_EVERY).await;
        let Some(service) = service.upgrade() else { return };
        if service.book.dirty()
            && let Err(why) = service.book.sync().await
        {
            tracing::error!(%why, "the audit book cannot be written: requests are refused");
            health.set_open(false).await;
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

async fn expire_requests(service: Weak<Service>) {
    let mut after = None;
    loop {
        runtime::sleep(EXPIRE_EVERY).await;
        let Some(service) = service.upgrade() else { return };
        match service.expire_some(after).await {
            Ok(next) => after = next,
            Err(why) => tracing::debug!(%why, "expired requests wait"),
        }
    }
}

impl Service {
    /// Forgets what has expired among the requests behind `after`, and says where to go on. Of several nodes that do the
    /// same, one is accepted.
    async fn expire_some(&self, after: Option<[u8; 32]>) -> Result<Option<[u8; 32]>, Failure> {
        let (txn, next) = {
            let (opened, view) = (self.seal.opened()?, self.ledger.view());
            let id = TxnId(entropy::fresh(&*self.world.entropy).spend());
            decide::expire_requests(&opened.desk(&view, self.world.clock.now()), after, REQUESTS_AT_ONCE, id)?
        };
        if let Some(txn) = txn {
            self.bookkeeping(txn).await?;
        }
        Ok(next)
    }

    /// Opens the node with its static key, once there is something to open.
    /// Whether it must be tried again: the node's state is not proven yet.
    async fn open_static(&self) -> bool {
        let Some(key) = self.config.unseal.static_key() else { return false };
        if self.seal.is_open() || self.sealed_by_hand() || self.ledger.view().head().is_none() {
            return false;
        }
        if let Err(why) = self.believed().await {
            tracing::warn!(%why, "the static slot waits");
            return true;
        }
        if let Err(why) = self.open_by_file(key) {
            tracing::error!(%why, "the static slot does not open");
        }
        false
    }
}

async fn follow_seal(service: Weak<Service>, health: Health) {
    let Some(mut open) = service.upgrade().map(|s| s.seal.follow()) else { return };
    // Pages that this process itself left open are closed by it; those of the process before, once.
    let mut left_open = true;
    loop {
        let now_open = *open.borrow_and_update();
        let Some(service) = service.upgrade() else { return };
        health.set_open(now_open && !service.book.failed()).await;
        if now_open && left_open {
            left_open = !settled(service.close_left_open().await);
        }
        drop(service);
        if open.changed().await.is_err() {
            return;
        }
    }
}

fn settled(closed: Result<(), Failure>) -> bool {
    if let Err(why) = &closed {
        tracing::warn!(%why, "pages that a crash left open wait for the next opening");
    }
    closed.is_ok()
}

/// What follows from transactions: the book learns of its cluster, a static slot opens.
async fn follow_ledger(service: Weak<Service>) {
    let Some(mut revision) = service.upgrade().map(|s| s.ledger.subscribe()) else { return };
    loop {
        revision.borrow_and_update();
        let Some(service) = service.upgrade() else { return };
        let again = service.open_static().await;
        if let Some(lineage) = service.ledger.lineage()
            && let Err(why) = service.book.belong(lineage)
        {
            tracing::error!(%why, "the audit book cannot be written");
        }
        drop(service);
        let news = match again {
            true => runtime::timeout(STATIC_AGAIN, revision.changed()).await.unwrap_or(Ok(())),
            false => revision.changed().await,
        };
        if news.is_err() {
            return;
        }
    }
}
