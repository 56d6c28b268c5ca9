//! What keys do, one message at a time: encrypt, decrypt, re-encrypt. What batches and streams do with their items is the
//! same.

use super::items::Keys;
use super::judge::Judge;
use super::{ReadAsk, Reading, Service, Visit};
use crate::keyring::{self, Bench, Decrypted, Encrypted, ReEncrypted};
use claviger_core::envelope::Context;
use claviger_core::failure::{Failure, Why};
use claviger_core::name::KeyName;
use claviger_core::planted;
use claviger_core::policy::Operation;
use claviger_core::policy::action::{Decrypt, Encrypt, ReEncrypt};
use claviger_core::secret::SecretBytes;
use claviger_world::runtime;
use std::time::Duration;

/// How often an answer that has grown too old is made anew.
pub(super) const ATTEMPTS_MAX: usize = 8;
/// How long a planted bug dawdles between reading and looking into the vault.
const DAWDLING: Duration = Duration::from_millis(40);

/// What is to be encrypted.
pub struct EncryptAsk {
    /// With which key.
    pub name: KeyName,
    /// At most 64 KiB.
    pub plaintext: SecretBytes,
    /// Authenticated with it.
    pub context: Context,
    /// How fresh the key's state must be. Not looked at in a batch, which has one reading for all.
    pub read: ReadAsk,
}

/// What is to be decrypted.
pub struct DecryptAsk {
    /// With which key.
    pub name: KeyName,
    /// In format 1.
    pub ciphertext: Vec<u8>,
    /// As it was encrypted with.
    pub context: Context,
    /// How fresh the key's state must be. Not looked at in a batch, which has one reading for all.
    pub read: ReadAsk,
}

/// What is to be encrypted anew.
pub struct ReEncryptAsk {
    /// The key that encrypted.
    pub name: KeyName,
    /// In format 1.
    pub ciphertext: Vec<u8>,
    /// As it was encrypted with.
    pub context: Context,
    /// The key to encrypt with, where it is another one.
    pub destination: Option<KeyName>,
    /// The context of the new ciphertext, where it is another one.
    pub new_context: Option<Context>,
    /// How fresh the state of the keys must be. Not looked at in a batch, which has one reading for all.
    pub read: ReadAsk,
}

/// A use of keys that needs no transaction: rights and the state of the keys are looked at by one reading.
pub(crate) trait KeyUse: Send + Sync {
    /// What comes of it.
    type Done: Send;
    /// The call that it is judged as, and written down as.
    const OPERATION: Operation;
    /// The keys that it is about.
    fn keys(&self) -> Keys;
    /// Plaintext or ciphertext, in bytes.
    fn bytes(&self) -> usize;
    /// How fresh its reading must be.
    fn read(&self) -> ReadAsk;
    /// Judges and does it. Nothing is handed over before the reading's age was looked at.
    fn attempt(&self, judge: &Judge<'_>) -> Result<Self::Done, Failure>;
}

impl KeyUse for EncryptAsk {
    type Done = Encrypted;
    const OPERATION: Operation = Operation::Encrypt;
    fn keys(&self) -> Keys {
        Keys::one(&self.name)
    }
    fn bytes(&self) -> usize {
        self.plaintext.size_bytes()
    }
    fn read(&self) -> ReadAsk {
        self.read
    }
    fn attempt(&self, judge: &Judge<'_>) -> Result<Encrypted, Failure> {
        let permit = judge.permit::<Encrypt>(self.name.clone())?;
        keyring::encrypt(judge.bench()?, permit, &self.plaintext, &self.context)
    }
}

impl KeyUse for DecryptAsk {
    type Done = Decrypted;
    const OPERATION: Operation = Operation::Decrypt;
    fn keys(&self) -> Keys {
        Keys::one(&self.name)
    }
    fn bytes(&self) -> usize {
        self.ciphertext.len()
    }
    fn read(&self) -> ReadAsk {
        self.read
    }
    fn attempt(&self, judge: &Judge<'_>) -> Result<Decrypted, Failure> {
        let permit = judge.permit::<Decrypt>(self.name.clone())?;
        keyring::decrypt(judge.bench()?, permit, &self.ciphertext, &self.context)
    }
}

impl ReEncryptAsk {
    fn to(&self) -> &KeyName {
        self.destination.as_ref().unwrap_or(&self.name)
    }
}

impl KeyUse for ReEncryptAsk {
    type Done = ReEncrypted;
    const OPERATION: Operation = Operation::ReEncrypt;
    fn keys(&self) -> Keys {
        Keys::two(&self.name, self.to())
    }
    fn bytes(&self) -> usize {
        self.ciphertext.len()
    }
    fn read(&self) -> ReadAsk {
        self.read
    }
    fn attempt(&self, judge: &Judge<'_>) -> Result<ReEncrypted, Failure> {
        let from = judge.permit::<ReEncrypt>(self.name.clone())?;
        let to = judge.permit::<Encrypt>(self.to().clone())?;
        let contexts = (&self.context, self.new_context.as_ref().unwrap_or(&self.context));
        keyring::re_encrypt(judge.bench()?, from, to, &self.ciphertext, contexts)
    }
}

impl Service {
    /// Encrypts. The revision that comes with it is the one that the answer rests on.
    pub async fn encrypt(&self, visit: &Visit, ask: EncryptAsk) -> Result<(Encrypted, u64), Failure> {
        visit.is_about(ask.keys());
        self.use_keys(visit, &ask, ask.read).await
    }

    /// Decrypts.
    pub async fn decrypt(&self, visit: &Visit, ask: DecryptAsk) -> Result<(Decrypted, u64), Failure> {
        visit.is_about(ask.keys());
        self.use_keys(visit, &ask, ask.read).await
    }

    /// Encrypts anew, with the primary version of the same key or of another, what some version of a key encrypted. Needs
    /// the right to decrypt with the one, and to encrypt with the other.
    pub async fn re_encrypt(&self, visit: &Visit, ask: ReEncryptAsk) -> Result<(ReEncrypted, u64), Failure> {
        visit.is_about(ask.keys());
        self.use_keys(visit, &ask, ask.read).await
    }

    /// Reads, judges, does; and again while the reading has grown too old over it. The visit knows already which keys it is
    /// about.
    pub(super) async fn use_keys<U: KeyUse>(
        &self,
        visit: &Visit,
        ask: &U,
        read: ReadAsk,
    ) -> Result<(U::Done, u64), Failure> {
        self.answered(visit.operation())?;
        for _ in 0..ATTEMPTS_MAX {
            let reading = self.reading(read).await?;
            if planted!(CacheFilledLate) {
                runtime::sleep(DAWDLING).await;
            }
            let done = ask.attempt(&Judge::new(self, visit.caller()?, &reading))?;
            if self.within(reading.age_limit()) {
                visit.rests_on(&reading);
                return Ok((done, reading.sequence()));
            }
        }
        Err(Why::Overloaded.into())
    }

    /// Where keys are used, by a reading: that the node is sealed, if it is.
    pub(super) fn bench<'a>(&'a self, reading: &'a Reading) -> Result<Bench<'a>, Failure> {
        Ok(Bench::new(reading.opened()?, &reading.view, reading.taken_at, &*self.world.entropy))
    }
}
