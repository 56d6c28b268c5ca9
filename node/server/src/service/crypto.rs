//! Encrypt and decrypt.

use super::{ReadAsk, Service, Visit};
use crate::keyring::{self, Decrypted, Encrypted};
use claviger_core::envelope::Context;
use claviger_core::failure::{Failure, Why};
use claviger_core::name::KeyName;
use claviger_core::planted;
use claviger_core::policy::action::{Decrypt, Encrypt};
use claviger_core::secret::SecretBytes;
use claviger_world::runtime;
use std::time::Duration;

/// How often an answer that has grown too old is made anew.
const ATTEMPTS_MAX: usize = 8;
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
    /// How fresh the key's state must be.
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
    /// How fresh the key's state must be.
    pub read: ReadAsk,
}

impl Service {
    /// Encrypts. The revision that comes with it is the one that the answer rests on.
    pub async fn encrypt(&self, visit: &Visit, ask: EncryptAsk) -> Result<(Encrypted, u64), Failure> {
        visit.about(&ask.name);
        self.answered(visit.operation())?;
        for _ in 0..ATTEMPTS_MAX {
            let reading = self.reading(ask.read).await?;
            if planted!(CacheFilledLate) {
                runtime::sleep(DAWDLING).await;
            }
            let permit = self.permit::<Encrypt>(visit.caller()?, ask.name.clone(), &reading)?;
            let (now, entropy) = (self.world.clock.awake_and_asleep(), &*self.world.entropy);
            let opened = reading.opened()?;
            let sealed = keyring::encrypt(opened, &reading.view, permit, &ask.plaintext, &ask.context, now, entropy)?;
            if self.within(reading.age_limit()) {
                visit.rests_on(&reading);
                return Ok((sealed, reading.sequence()));
            }
        }
        Err(Why::Overloaded.into())
    }

    /// Decrypts.
    pub async fn decrypt(&self, visit: &Visit, ask: DecryptAsk) -> Result<(Decrypted, u64), Failure> {
        visit.about(&ask.name);
        self.answered(visit.operation())?;
        for _ in 0..ATTEMPTS_MAX {
            let reading = self.reading(ask.read).await?;
            if planted!(CacheFilledLate) {
                runtime::sleep(DAWDLING).await;
            }
            let permit = self.permit::<Decrypt>(visit.caller()?, ask.name.clone(), &reading)?;
            let opened = reading.opened()?;
            let clear = keyring::decrypt(opened, &reading.view, permit, &ask.ciphertext, &ask.context)?;
            if self.within(reading.age_limit()) {
                visit.rests_on(&reading);
                return Ok((clear, reading.sequence()));
            }
        }
        Err(Why::Overloaded.into())
    }
}
