//! Keys and their lives.

use super::change::RequestStamp;
use super::{ReadAsk, Service, Visit};
use claviger_core::decide::{self, CreateKeyAsk, UpdateKeyAsk};
use claviger_core::failure::{Failure, Refused};
use claviger_core::key::{Algorithm, KeyRecord, Labels};
use claviger_core::name::{KeyName, Segment};
use claviger_core::planted;
use claviger_core::policy::action::{CreateKey, DisableKey, EnableKey, GetKey, ListKeys, RotateKey, UpdateKey};
use claviger_core::record::Version;

/// A key as it was written at a version.
pub type KeyAt = (KeyRecord, Version);

/// What a new key is to be.
pub struct CreateAsk {
    /// Its name.
    pub name: KeyName,
    /// What it does.
    pub algorithm: Algorithm,
    /// Its labels.
    pub labels: Labels,
    /// The logical call.
    pub request: RequestStamp,
}

/// What is to be otherwise of a key.
pub struct UpdateAsk {
    /// Which.
    pub name: KeyName,
    /// All labels, when given.
    pub labels: Option<Labels>,
    /// The lowest version that decrypts, when given.
    pub min_decrypt: Option<u32>,
    /// The version that the key must still be at, when given.
    pub expected: Option<Version>,
    /// The logical call.
    pub request: RequestStamp,
}

/// A change that says only which key.
pub struct KeyAsk {
    /// Which.
    pub name: KeyName,
    /// The logical call.
    pub request: RequestStamp,
}

/// A page of keys that is asked for.
pub struct ListAsk {
    /// Of which tenant.
    pub tenant: Segment,
    /// At most so many.
    pub limit: usize,
    /// Where the page before ended.
    pub after: Option<[u8; 32]>,
    /// How fresh.
    pub read: ReadAsk,
}

/// A page of keys.
pub struct KeyPage {
    /// The keys, in the order of their tags.
    pub keys: Vec<KeyAt>,
    /// Where the next page goes on, if there is one.
    pub next: Option<[u8; 32]>,
    /// The revision that it reflects.
    pub sequence: u64,
}

impl Service {
    /// Makes a key.
    pub async fn create_key(&self, visit: &Visit, ask: CreateAsk) -> Result<KeyAt, Failure> {
        visit.about(&ask.name);
        self.change::<CreateKey, _>(visit, ask.name, ask.request, |desk, permit, stamp, chance| {
            let ask = CreateKeyAsk { algorithm: ask.algorithm, labels: ask.labels.clone() };
            decide::create_key(desk, permit, ask, stamp, chance)
        })
        .await
    }

    /// Changes labels, or the lowest version that decrypts.
    pub async fn update_key(&self, visit: &Visit, ask: UpdateAsk) -> Result<KeyAt, Failure> {
        visit.about(&ask.name);
        self.change::<UpdateKey, _>(visit, ask.name, ask.request, |desk, permit, stamp, chance| {
            let (labels, min_decrypt, expected) = (ask.labels.clone(), ask.min_decrypt, ask.expected);
            decide::update_key(desk, permit, UpdateKeyAsk { labels, min_decrypt, expected }, stamp, chance)
        })
        .await
    }

    /// Makes a disabled key work again.
    pub async fn enable_key(&self, visit: &Visit, ask: KeyAsk) -> Result<KeyAt, Failure> {
        visit.about(&ask.name);
        self.change::<EnableKey, _>(visit, ask.name, ask.request, decide::enable_key).await
    }

    /// Stops a key on every node.
    pub async fn disable_key(&self, visit: &Visit, ask: KeyAsk) -> Result<KeyAt, Failure> {
        visit.about(&ask.name);
        self.change::<DisableKey, _>(visit, ask.name, ask.request, decide::disable_key).await
    }

    /// Adds a version and encrypts with it from now on.
    pub async fn rotate_key(&self, visit: &Visit, ask: KeyAsk) -> Result<KeyAt, Failure> {
        visit.about(&ask.name);
        self.change::<RotateKey, _>(visit, ask.name, ask.request, |desk, permit, stamp, chance| {
            let decision = decide::rotate_key(desk, permit, stamp, chance)?;
            if planted!(VersionBeforeCommit) {
                self.seal.opened()?.vault.keep_ahead(desk, &decision)?;
            }
            Ok(decision)
        })
        .await
    }

    /// One key, and the revision that the answer reflects.
    pub async fn get_key(&self, visit: &Visit, (name, read): (KeyName, ReadAsk)) -> Result<(KeyAt, u64), Failure> {
        visit.about(&name);
        self.answered(visit.operation())?;
        let reading = self.reading(read).await?;
        let permit = self.permit::<GetKey>(visit.caller()?, name, &reading)?;
        visit.rests_on(&reading);
        let key = decide::read_key(&reading.opened()?.desk(&reading.view, self.world.clock.now()), permit.key())?;
        Ok((key.ok_or(Refused::NotFound)?, reading.sequence()))
    }

    /// A page of a tenant's keys.
    pub async fn list_keys(&self, visit: &Visit, ask: ListAsk) -> Result<KeyPage, Failure> {
        self.answered(visit.operation())?;
        let reading = self.reading(ask.read).await?;
        let permit = self.permit::<ListKeys>(visit.caller()?, ask.tenant, &reading)?;
        visit.rests_on(&reading);
        let list = decide::list_keys(
            &reading.opened()?.desk(&reading.view, self.world.clock.now()),
            &permit,
            ask.after,
            ask.limit,
        )?;
        Ok(KeyPage { keys: list.keys, next: list.next, sequence: reading.sequence() })
    }
}
