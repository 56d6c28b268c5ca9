//! Many messages on one stream: `claviger.v1.Crypto/Pipeline`.

use crate::batch::unanswered;
use crate::call::{Client, Repeat};
use crate::crypto::pairs;
use crate::dated::Dated;
use crate::error::{Attempt, Error, Why};
use bytes::Bytes;
use claviger_proto::v1::crypto_client::CryptoClient;
use claviger_proto::v1::{self, pipeline_request::Ask, pipeline_response::Outcome};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming, transport::Channel};

/// Items that wait here until the connection takes them, at most.
const ITEMS_WAITING_MAX: usize = 64;

/// An open stream to one node, in two halves that are used side by side: whoever only sends, and reads no answers, will
/// find that sending waits.
pub struct Pipeline {
    /// What is asked. Dropped, it closes the caller's side: what was sent is still answered.
    pub asks: PipelineAsks,
    /// What is answered. Dropped, it ends the stream.
    pub answers: PipelineAnswers,
}

/// The half that asks. Each item carries an id of the caller's choice, which its answer carries too.
pub struct PipelineAsks {
    client: Client,
    frames: mpsc::Sender<v1::PipelineRequest>,
}

/// The half that answers, in any order.
pub struct PipelineAnswers {
    client: Client,
    answers: Streaming<v1::PipelineResponse>,
}

/// One answer.
#[derive(Debug)]
pub struct PipelineAnswer {
    /// Of the item.
    pub id: u64,
    /// What came of it. An error is of this item alone.
    pub outcome: Result<PipelineDone, Error>,
}

/// What came of an item.
#[derive(Debug)]
pub enum PipelineDone {
    /// It was encrypted.
    Encrypted(v1::EncryptResponse),
    /// It was decrypted.
    Decrypted(v1::DecryptResponse),
    /// It was encrypted anew.
    ReEncrypted(v1::ReEncryptResponse),
}

/// Both ends, as they are opened.
pub(crate) struct Ends(pub(crate) mpsc::Sender<v1::PipelineRequest>, pub(crate) Streaming<v1::PipelineResponse>);

impl Dated for Ends {
    fn revision(&self) -> u64 {
        0
    }
}

impl Client {
    /// Opens a stream of items to a node that answers. The deadline is for the opening alone. A stream that broke is not
    /// taken up again: items without an answer may be sent once more, on another.
    pub async fn pipeline(&self) -> Result<Pipeline, Error> {
        let Ends(frames, answers) = self.call(Repeat::Always, (), open).await?;
        let asks = PipelineAsks { client: self.clone(), frames };
        Ok(Pipeline { asks, answers: PipelineAnswers { client: self.clone(), answers } })
    }
}

/// Opens a stream. Without a deadline for the server: it may live long.
pub(crate) async fn open(channel: Channel, _: Request<()>) -> Result<Response<Ends>, Status> {
    let (asks, frames) = mpsc::channel(ITEMS_WAITING_MAX);
    let answers = CryptoClient::new(channel).pipeline(ReceiverStream::new(frames)).await?;
    Ok(answers.map(|answers| Ends(asks, answers)))
}

impl PipelineAsks {
    /// As [`Client::encrypt`]. Completes when the item is on its way, after those before it.
    pub async fn encrypt(
        &self,
        id: u64,
        name: &str,
        plaintext: impl Into<Bytes>,
        context: &[(String, String)],
    ) -> Result<(), Error> {
        let (plaintext, context) = (plaintext.into(), pairs(context));
        let read = self.client.fresh_enough(None);
        self.send(id, Ask::Encrypt(v1::EncryptRequest { name: name.into(), plaintext, context, read })).await
    }

    /// As [`Client::decrypt`].
    pub async fn decrypt(
        &self,
        id: u64,
        name: &str,
        ciphertext: impl Into<Bytes>,
        context: &[(String, String)],
    ) -> Result<(), Error> {
        let (ciphertext, context) = (ciphertext.into(), pairs(context));
        let read = self.client.fresh_enough(None);
        self.send(id, Ask::Decrypt(v1::DecryptRequest { name: name.into(), ciphertext, context, read })).await
    }

    /// As [`Client::re_encrypt_with`].
    pub async fn re_encrypt(&self, id: u64, mut ask: v1::ReEncryptRequest) -> Result<(), Error> {
        ask.read = self.client.fresh_enough(ask.read);
        self.send(id, Ask::ReEncrypt(ask)).await
    }

    async fn send(&self, id: u64, ask: Ask) -> Result<(), Error> {
        let sent = self.frames.send(v1::PipelineRequest { id, ask: Some(ask) }).await;
        let ended = || "the stream has ended; its answers say why".to_owned();
        sent.map_err(|_| Error::Unavailable { why: Why::Unreachable, message: ended(), tried: Vec::new() })
    }
}

impl PipelineAnswers {
    /// The next answer; nothing when all that was asked is answered and no more can come. An error is the end of the
    /// stream.
    pub async fn next(&mut self) -> Result<Option<PipelineAnswer>, Error> {
        let answer = self.answers.message().await.map_err(|status| Attempt::of(&status).end())?;
        Ok(answer.map(|answer| PipelineAnswer { id: answer.id, outcome: self.came(answer.outcome) }))
    }

    fn came(&self, outcome: Option<Outcome>) -> Result<PipelineDone, Error> {
        let (revision, done) = match outcome.ok_or_else(unanswered)? {
            Outcome::Encrypt(one) => (one.revision, PipelineDone::Encrypted(one)),
            Outcome::Decrypt(one) => (one.revision, PipelineDone::Decrypted(one)),
            Outcome::ReEncrypt(one) => (one.revision, PipelineDone::ReEncrypted(one)),
            Outcome::Error(error) => return Err(Error::of_item(&error)),
        };
        self.client.saw(revision);
        Ok(done)
    }
}
