//! Many messages in one call, by one reading; each is judged, served or refused, and written down for itself.

use super::crypto::{ATTEMPTS_MAX, DecryptAsk, EncryptAsk, KeyUse, ReEncryptAsk};
use super::items::{Items, Keys};
use super::judge::Judge;
use super::{ReadAsk, Service, Visit};
use crate::keyring::{Decrypted, Encrypted, ReEncrypted};
use claviger_core::failure::{Failure, Refused, Why};
use claviger_core::page::OutcomeWord;
use claviger_core::policy::action::{BatchDecrypt, BatchEncrypt, BatchReEncrypt};
use claviger_core::policy::{Action, Cluster};

/// Items of one batch, at most.
pub const BATCH_ITEMS_MAX: usize = 100;
/// Plaintexts or ciphertexts of one batch together, in bytes, at most: with a hundred contexts of full length and the
/// names, both question and answer fit into a message of 4 MiB.
pub const BATCH_BYTES_MAX: usize = 3 << 20;

/// Items that are asked for together, within the bounds of a batch.
pub struct BatchAsk<T> {
    items: Vec<Result<T, Failure>>,
    read: ReadAsk,
}

/// What came of a batch.
pub struct Batched<T> {
    /// One for each item, in their order.
    pub answers: Vec<Result<T, Failure>>,
    /// The revision that all of them rest on.
    pub sequence: u64,
}

#[allow(private_bounds, reason = "what can be asked in a batch is this room's to say")]
impl<T: KeyUse> BatchAsk<T> {
    /// Takes items, of which some may have been refused while they were read: they are answered with that.
    ///
    /// # Errors
    /// Other than 1 to [`BATCH_ITEMS_MAX`] items, or more than [`BATCH_BYTES_MAX`].
    pub fn new(items: impl ExactSizeIterator<Item = Result<T, Failure>>, read: ReadAsk) -> Result<Self, Failure> {
        match items.len() {
            0 => return Err(Refused::BadRequest("at least one item").into()),
            1..=BATCH_ITEMS_MAX => {}
            _ => return Err(Refused::TooMany("items: 100 at most").into()),
        }
        let items: Vec<_> = items.collect();
        if items.iter().flatten().map(KeyUse::bytes).sum::<usize>() > BATCH_BYTES_MAX {
            return Err(Refused::TooLong("a batch of more than 3 MiB").into());
        }
        Ok(BatchAsk { items, read })
    }

    fn begun(&self) -> Items {
        let keys = |item: &Result<T, Failure>| item.as_ref().map_or_else(|_| Keys::default(), KeyUse::keys);
        Items::begun(T::OPERATION, self.items.iter().map(keys))
    }
}

impl Service {
    /// Encrypts each item.
    pub async fn batch_encrypt(&self, visit: &Visit, ask: BatchAsk<EncryptAsk>) -> Result<Batched<Encrypted>, Failure> {
        self.batch::<BatchEncrypt, _>(visit, ask).await
    }

    /// Decrypts each item.
    pub async fn batch_decrypt(&self, visit: &Visit, ask: BatchAsk<DecryptAsk>) -> Result<Batched<Decrypted>, Failure> {
        self.batch::<BatchDecrypt, _>(visit, ask).await
    }

    /// Encrypts each item anew.
    pub async fn batch_re_encrypt(
        &self,
        visit: &Visit,
        ask: BatchAsk<ReEncryptAsk>,
    ) -> Result<Batched<ReEncrypted>, Failure> {
        self.batch::<BatchReEncrypt, _>(visit, ask).await
    }

    /// One reading for all, the age of which is looked at when the last item is done.
    async fn batch<A, U>(&self, visit: &Visit, ask: BatchAsk<U>) -> Result<Batched<U::Done>, Failure>
    where
        A: Action<On = Cluster>,
        U: KeyUse,
    {
        self.answered(visit.operation())?;
        visit.holds(ask.begun());
        for _ in 0..ATTEMPTS_MAX {
            let reading = self.reading(ask.read).await?;
            let _leave = self.permit::<A>(visit.caller()?, Cluster, &reading)?;
            let answers = each(&Judge::new(self, visit.caller()?, &reading), &ask.items);
            if self.within(reading.age_limit()) {
                visit.rests_on(&reading);
                visit.items_came_to(answers.iter().map(OutcomeWord::of));
                return Ok(Batched { answers, sequence: reading.sequence() });
            }
        }
        Err(Why::Overloaded.into())
    }
}

fn each<U: KeyUse>(judge: &Judge<'_>, items: &[Result<U, Failure>]) -> Vec<Result<U::Done, Failure>> {
    let one = |item: &Result<U, Failure>| match item {
        Ok(ask) => ask.attempt(judge),
        Err(why) => Err(why.clone()),
    };
    items.iter().map(one).collect()
}
