//! What keys do: `claviger.v1.Crypto`.

use super::{Door, Reply, words};
use claviger_core::policy::Operation;
use claviger_proto::v1::{self, crypto_server::Crypto};
use tonic::{Request, async_trait};

#[async_trait]
impl Crypto for Door {
    async fn encrypt(&self, request: Request<v1::EncryptRequest>) -> Reply<v1::EncryptResponse> {
        let (visit, ask) = self.admit(request, Operation::Encrypt);
        let answer =
            async { self.service.encrypt(visit.known()?, words::encrypt(ask)?).await.map(words::encrypt_done) }.await;
        self.close(visit, answer).await
    }

    async fn decrypt(&self, request: Request<v1::DecryptRequest>) -> Reply<v1::DecryptResponse> {
        let (visit, ask) = self.admit(request, Operation::Decrypt);
        let answer =
            async { self.service.decrypt(visit.known()?, words::decrypt(ask)?).await.map(words::decrypt_done) }.await;
        self.close(visit, answer).await
    }
}
