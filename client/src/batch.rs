//! Many messages in one call: the batches of `claviger.v1.Crypto`.

use crate::call::{Client, Repeat};
use crate::error::Error;
use claviger_proto::v1::crypto_client::CryptoClient;
use claviger_proto::v1::{self, batch_decrypt_result, batch_encrypt_result, batch_re_encrypt_result};

/// Items of one batch, at most.
pub const BATCH_ITEMS_MAX: usize = 100;
/// Plaintexts or ciphertexts of one batch together, in bytes, at most.
pub const BATCH_BYTES_MAX: usize = 3 << 20;

/// What came of each item, in the order of the items.
pub type Each<T> = Vec<Result<T, Error>>;

/// 1 to [`BATCH_ITEMS_MAX`] items of at most [`BATCH_BYTES_MAX`] together, each with its own key, context and answer: one
/// that is refused is refused alone. An error of the whole call means that nothing was done. Items carry no read options.
impl Client {
    /// Encrypts each.
    pub async fn encrypt_batch(&self, requests: Vec<v1::EncryptRequest>) -> Result<Each<v1::EncryptResponse>, Error> {
        use batch_encrypt_result::Outcome;
        let asked = requests.len();
        let ask = v1::BatchEncryptRequest { requests, read: self.fresh_enough(None) };
        let done =
            self.call(Repeat::Always, ask, |channel, ask| async move {
                CryptoClient::new(channel).batch_encrypt(ask).await
            })
            .await?;
        let one = |result: v1::BatchEncryptResult| match result.outcome.ok_or_else(unanswered)? {
            Outcome::Response(response) => Ok(response),
            Outcome::Error(error) => Err(Error::of_item(&error)),
        };
        each_of(asked, done.results.into_iter().map(one).collect())
    }

    /// Decrypts each.
    pub async fn decrypt_batch(&self, requests: Vec<v1::DecryptRequest>) -> Result<Each<v1::DecryptResponse>, Error> {
        use batch_decrypt_result::Outcome;
        let asked = requests.len();
        let ask = v1::BatchDecryptRequest { requests, read: self.fresh_enough(None) };
        let done =
            self.call(Repeat::Always, ask, |channel, ask| async move {
                CryptoClient::new(channel).batch_decrypt(ask).await
            })
            .await?;
        let one = |result: v1::BatchDecryptResult| match result.outcome.ok_or_else(unanswered)? {
            Outcome::Response(response) => Ok(response),
            Outcome::Error(error) => Err(Error::of_item(&error)),
        };
        each_of(asked, done.results.into_iter().map(one).collect())
    }

    /// Encrypts each anew, as [`Client::re_encrypt_with`].
    pub async fn re_encrypt_batch(
        &self,
        requests: Vec<v1::ReEncryptRequest>,
    ) -> Result<Each<v1::ReEncryptResponse>, Error> {
        use batch_re_encrypt_result::Outcome;
        let asked = requests.len();
        let ask = v1::BatchReEncryptRequest { requests, read: self.fresh_enough(None) };
        let done =
            self.call(Repeat::Always, ask, |channel, ask| async move {
                CryptoClient::new(channel).batch_re_encrypt(ask).await
            })
            .await?;
        let one = |result: v1::BatchReEncryptResult| match result.outcome.ok_or_else(unanswered)? {
            Outcome::Response(response) => Ok(response),
            Outcome::Error(error) => Err(Error::of_item(&error)),
        };
        each_of(asked, done.results.into_iter().map(one).collect())
    }
}

/// Never fewer answers than were asked for: whoever pairs them with their items would lose some.
fn each_of<T>(asked: usize, each: Each<T>) -> Result<Each<T>, Error> {
    if each.len() == asked { Ok(each) } else { Err(unanswered()) }
}

/// Of an answer that says nothing which this release knows.
pub(crate) fn unanswered() -> Error {
    Error::Broken { message: "the node answered with nothing that is known".into() }
}
