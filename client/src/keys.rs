//! Keys and their lives: `claviger.v1.Keys`.

use crate::call::{Client, Repeat, request_id};
use crate::error::Error;
use claviger_proto::v1::{self, keys_client::KeysClient};

/// Names are `tenants/{tenant}/keys/{key}`. A change gets its `request_id` here unless the caller gave one, so it may be
/// repeated after any failure and happens once.
impl Client {
    /// Makes a key with its first version. `AlreadyExists` when the name is taken.
    pub async fn create_key(&self, mut ask: v1::CreateKeyRequest) -> Result<v1::CreateKeyResponse, Error> {
        ask.request_id = request_id(ask.request_id);
        self.call(Repeat::Always, ask, |channel, ask| async move { KeysClient::new(channel).create_key(ask).await })
            .await
    }

    /// One key, without its material.
    pub async fn get_key(&self, name: &str) -> Result<v1::GetKeyResponse, Error> {
        let ask = v1::GetKeyRequest { name: name.into(), read: self.fresh_enough(None) };
        self.call(Repeat::Always, ask, |channel, ask| async move { KeysClient::new(channel).get_key(ask).await }).await
    }

    /// One page of a tenant's keys (`parent` is `tenants/{tenant}`): those that the caller may see.
    pub async fn list_keys(&self, mut ask: v1::ListKeysRequest) -> Result<v1::ListKeysResponse, Error> {
        ask.read = self.fresh_enough(ask.read);
        self.call(Repeat::Always, ask, |channel, ask| async move { KeysClient::new(channel).list_keys(ask).await })
            .await
    }

    /// Changes labels, or the lowest version that still decrypts. `Aborted` when the key is not at the expected revision.
    pub async fn update_key(&self, mut ask: v1::UpdateKeyRequest) -> Result<v1::UpdateKeyResponse, Error> {
        ask.request_id = request_id(ask.request_id);
        self.call(Repeat::Always, ask, |channel, ask| async move { KeysClient::new(channel).update_key(ask).await })
            .await
    }

    /// Makes a disabled key work again.
    pub async fn enable_key(&self, name: &str) -> Result<v1::EnableKeyResponse, Error> {
        let ask = v1::EnableKeyRequest { name: name.into(), request_id: request_id(Default::default()) };
        self.call(Repeat::Always, ask, |channel, ask| async move { KeysClient::new(channel).enable_key(ask).await })
            .await
    }

    /// Stops a key: a request that any node receives after the answer is refused.
    pub async fn disable_key(&self, name: &str) -> Result<v1::DisableKeyResponse, Error> {
        let ask = v1::DisableKeyRequest { name: name.into(), request_id: request_id(Default::default()) };
        self.call(Repeat::Always, ask, |channel, ask| async move { KeysClient::new(channel).disable_key(ask).await })
            .await
    }

    /// Adds a version that encrypts from now on; older ones still decrypt.
    pub async fn rotate_key(&self, name: &str) -> Result<v1::RotateKeyResponse, Error> {
        let ask = v1::RotateKeyRequest { name: name.into(), request_id: request_id(Default::default()) };
        self.call(Repeat::Always, ask, |channel, ask| async move { KeysClient::new(channel).rotate_key(ask).await })
            .await
    }
}
