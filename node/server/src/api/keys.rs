//! Keys and their lives: `claviger.v1.Keys`.

use super::{Door, Reply, words};
use claviger_core::policy::Operation;
use claviger_proto::v1::{self, keys_server::Keys};
use tonic::{Request, async_trait};

#[async_trait]
impl Keys for Door {
    async fn create_key(&self, request: Request<v1::CreateKeyRequest>) -> Reply<v1::CreateKeyResponse> {
        let (visit, ask) = self.admit(request, Operation::CreateKey);
        let answer = async {
            self.service.create_key(visit.known()?, words::create_key(ask)?).await.map(words::create_key_done)
        }
        .await;
        self.close(visit, answer).await
    }

    async fn get_key(&self, request: Request<v1::GetKeyRequest>) -> Reply<v1::GetKeyResponse> {
        let (visit, ask) = self.admit(request, Operation::GetKey);
        let answer =
            async { self.service.get_key(visit.known()?, words::get_key(ask)?).await.map(words::get_key_done) }.await;
        self.close(visit, answer).await
    }

    async fn list_keys(&self, request: Request<v1::ListKeysRequest>) -> Reply<v1::ListKeysResponse> {
        let (visit, ask) = self.admit(request, Operation::ListKeys);
        let answer =
            async { self.service.list_keys(visit.known()?, words::list_keys(ask)?).await.map(words::list_keys_done) }
                .await;
        self.close(visit, answer).await
    }

    async fn update_key(&self, request: Request<v1::UpdateKeyRequest>) -> Reply<v1::UpdateKeyResponse> {
        let (visit, ask) = self.admit(request, Operation::UpdateKey);
        let answer = async {
            self.service.update_key(visit.known()?, words::update_key(ask)?).await.map(words::update_key_done)
        }
        .await;
        self.close(visit, answer).await
    }

    async fn enable_key(&self, request: Request<v1::EnableKeyRequest>) -> Reply<v1::EnableKeyResponse> {
        let (visit, ask) = self.admit(request, Operation::EnableKey);
        let answer = async {
            self.service.enable_key(visit.known()?, words::enable_key(ask)?).await.map(words::enable_key_done)
        }
        .await;
        self.close(visit, answer).await
    }

    async fn disable_key(&self, request: Request<v1::DisableKeyRequest>) -> Reply<v1::DisableKeyResponse> {
        let (visit, ask) = self.admit(request, Operation::DisableKey);
        let answer = async {
            self.service.disable_key(visit.known()?, words::disable_key(ask)?).await.map(words::disable_key_done)
        }
        .await;
        self.close(visit, answer).await
    }

    async fn rotate_key(&self, request: Request<v1::RotateKeyRequest>) -> Reply<v1::RotateKeyResponse> {
        let (visit, ask) = self.admit(request, Operation::RotateKey);
        let answer = async {
            self.service.rotate_key(visit.known()?, words::rotate_key(ask)?).await.map(words::rotate_key_done)
        }
        .await;
        self.close(visit, answer).await
    }
}
