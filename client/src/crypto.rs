//! What keys do: `claviger.v1.Crypto`.

use crate::call::Client;
use crate::error::Error;
use bytes::Bytes;
use claviger_proto::v1::{self, crypto_client::CryptoClient};

/// Longest plaintext of one message, in bytes.
pub const PLAINTEXT_BYTES_MAX: usize = 65_536;
/// What a ciphertext is longer than its plaintext, in bytes.
pub const CIPHERTEXT_EXTRA_BYTES: usize = 128;

/// Encryption with authenticated context: pairs of name and value, in any order, no name twice, which must be given again to
/// decrypt. At most 64 pairs and 8 KiB.
impl Client {
    /// Encrypts up to [`PLAINTEXT_BYTES_MAX`] bytes under the key's primary version.
    pub async fn encrypt(
        &self,
        name: &str,
        plaintext: impl Into<Bytes>,
        context: &[(String, String)],
    ) -> Result<v1::EncryptResponse, Error> {
        let (plaintext, context) = (plaintext.into(), pairs(context));
        self.encrypt_with(v1::EncryptRequest { name: name.into(), plaintext, context, read: None }).await
    }

    /// As [`Client::encrypt`], with read options of the caller's own.
    pub async fn encrypt_with(&self, mut ask: v1::EncryptRequest) -> Result<v1::EncryptResponse, Error> {
        ask.read = self.fresh_enough(ask.read);
        self.use_key(ask, |channel, ask| async move { CryptoClient::new(channel).encrypt(ask).await }).await
    }

    /// Decrypts what [`Client::encrypt`] made, with the same key and context. `InvalidArgument`, and no word of why, for a
    /// ciphertext that is not whole, of another key, or of another context.
    pub async fn decrypt(
        &self,
        name: &str,
        ciphertext: impl Into<Bytes>,
        context: &[(String, String)],
    ) -> Result<v1::DecryptResponse, Error> {
        let (ciphertext, context) = (ciphertext.into(), pairs(context));
        self.decrypt_with(v1::DecryptRequest { name: name.into(), ciphertext, context, read: None }).await
    }

    /// As [`Client::decrypt`], with read options of the caller's own.
    pub async fn decrypt_with(&self, mut ask: v1::DecryptRequest) -> Result<v1::DecryptResponse, Error> {
        ask.read = self.fresh_enough(ask.read);
        self.use_key(ask, |channel, ask| async move { CryptoClient::new(channel).decrypt(ask).await }).await
    }

    /// Encrypts anew, under the primary version of the same key and in the same context, what some version encrypted. The
    /// plaintext never leaves the node.
    pub async fn re_encrypt(
        &self,
        name: &str,
        ciphertext: impl Into<Bytes>,
        context: &[(String, String)],
    ) -> Result<v1::ReEncryptResponse, Error> {
        let (ciphertext, context) = (ciphertext.into(), pairs(context));
        let ask = v1::ReEncryptRequest { name: name.into(), ciphertext, context, ..Default::default() };
        self.re_encrypt_with(ask).await
    }

    /// As [`Client::re_encrypt`], with another key, another context, or read options of the caller's own.
    pub async fn re_encrypt_with(&self, mut ask: v1::ReEncryptRequest) -> Result<v1::ReEncryptResponse, Error> {
        ask.read = self.fresh_enough(ask.read);
        self.use_key(ask, |channel, ask| async move { CryptoClient::new(channel).re_encrypt(ask).await }).await
    }
}

pub(crate) fn pairs(context: &[(String, String)]) -> Vec<v1::ContextPair> {
    context.iter().map(|(name, value)| v1::ContextPair { name: name.clone(), value: value.clone() }).collect()
}
