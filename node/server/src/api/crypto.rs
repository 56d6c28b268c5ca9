//! What keys do: `claviger.v1.Crypto`.

use super::{Door, Reply, status, stream, words};
use crate::service::Chunks;
use claviger_core::policy::Operation;
use claviger_proto::v1::{self, crypto_server::Crypto};
use futures_util::StreamExt;
use std::pin::Pin;
use tonic::{Request, Status, Streaming, async_trait};

type Stream<T> = Pin<Box<dyn futures_util::Stream<Item = Result<T, Status>> + Send>>;

#[async_trait]
impl Crypto for Door {
    type PipelineStream = Stream<v1::PipelineResponse>;
    type EncryptStreamStream = Stream<v1::EncryptStreamResponse>;
    type DecryptStreamStream = Stream<v1::DecryptStreamResponse>;

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

    async fn re_encrypt(&self, request: Request<v1::ReEncryptRequest>) -> Reply<v1::ReEncryptResponse> {
        let (visit, ask) = self.admit(request, Operation::ReEncrypt);
        let answer = async {
            self.service.re_encrypt(visit.known()?, words::re_encrypt(ask)?).await.map(words::re_encrypt_done)
        }
        .await;
        self.close(visit, answer).await
    }

    async fn batch_encrypt(&self, request: Request<v1::BatchEncryptRequest>) -> Reply<v1::BatchEncryptResponse> {
        let (visit, ask) = self.admit(request, Operation::BatchEncrypt);
        let answer = async {
            self.service.batch_encrypt(visit.known()?, words::batch_encrypt(ask)?).await.map(words::batch_encrypt_done)
        }
        .await;
        self.close(visit, answer).await
    }

    async fn batch_decrypt(&self, request: Request<v1::BatchDecryptRequest>) -> Reply<v1::BatchDecryptResponse> {
        let (visit, ask) = self.admit(request, Operation::BatchDecrypt);
        let answer = async {
            self.service.batch_decrypt(visit.known()?, words::batch_decrypt(ask)?).await.map(words::batch_decrypt_done)
        }
        .await;
        self.close(visit, answer).await
    }

    async fn batch_re_encrypt(&self, request: Request<v1::BatchReEncryptRequest>) -> Reply<v1::BatchReEncryptResponse> {
        let (visit, ask) = self.admit(request, Operation::BatchReEncrypt);
        let answer = async {
            self.service
                .batch_re_encrypt(visit.known()?, words::batch_re_encrypt(ask)?)
                .await
                .map(words::batch_re_encrypt_done)
        }
        .await;
        self.close(visit, answer).await
    }

    async fn pipeline(&self, request: Request<Streaming<v1::PipelineRequest>>) -> Reply<Self::PipelineStream> {
        let (visit, frames) = self.admit(request, Operation::Pipeline);
        let answer = async { self.service.open_pipeline(visit.known()?, ()).await }.await;
        let answers = |pipeline| -> Self::PipelineStream {
            let answers = self.service.pipeline(pipeline, stream::items(frames));
            Box::pin(answers.map(|answer| answer.map(words::pipeline_answer).map_err(status::of)))
        };
        self.close(visit, answer.map(answers)).await
    }

    async fn encrypt_stream(
        &self,
        request: Request<Streaming<v1::EncryptStreamRequest>>,
    ) -> Reply<Self::EncryptStreamStream> {
        let (visit, frames) = self.admit(request, Operation::EncryptStream);
        let answer = async { self.service.open_chunks(visit.known()?, stream::sealing(frames)).await }.await;
        let answers = |chunks: Chunks<_, _>| -> Self::EncryptStreamStream {
            let started = words::sealing_started(chunks.header(), chunks.revision());
            Box::pin(stream::answers(started, chunks.answers(), words::sealed_chunk))
        };
        self.close(visit, answer.map(answers)).await
    }

    async fn decrypt_stream(
        &self,
        request: Request<Streaming<v1::DecryptStreamRequest>>,
    ) -> Reply<Self::DecryptStreamStream> {
        let (visit, frames) = self.admit(request, Operation::DecryptStream);
        let answer = async { self.service.open_chunks(visit.known()?, stream::opening(frames)).await }.await;
        let answers = |chunks: Chunks<_, _>| -> Self::DecryptStreamStream {
            let started = words::opening_started(chunks.header(), chunks.revision());
            Box::pin(stream::answers(started, chunks.answers(), words::opened_chunk))
        };
        self.close(visit, answer.map(answers)).await
    }
}
