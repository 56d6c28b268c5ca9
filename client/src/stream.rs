//! Files and pipes of any size: `claviger.v1.Crypto/EncryptStream` and `DecryptStream`.

use crate::call::{Client, Repeat};
use crate::crypto::pairs;
use crate::dated::Dated;
use crate::error::{Attempt, Error};
use bytes::{Bytes, BytesMut};
use claviger_proto::v1::crypto_client::CryptoClient;
use claviger_proto::v1::{
    self, decrypt_stream_request as to_open, decrypt_stream_response as opened, encrypt_stream_request as to_seal,
    encrypt_stream_response as sealed,
};
use std::future::Future;
use std::{fmt, io};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};

/// What stands before the chunks of a stream, in bytes.
pub const STREAM_HEADER_BYTES: usize = 112;
/// Bytes of one frame, at most.
const PIECE_BYTES: usize = 65_536;
/// Frames that wait here until the connection takes them, at most.
const PIECES_WAITING_MAX: usize = 4;

/// A stream that came to its end: all of it was verified and written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StreamDone {
    /// The version that encrypted.
    pub version: u32,
    /// Bytes that were written.
    pub written_bytes: u64,
}

/// Why a stream did not come to its end. What was written by then is of no use, and must not be taken for the whole.
#[derive(Debug)]
pub enum StreamError {
    /// It was not begun, and nothing was written.
    NotBegun(Error),
    /// It ended midway. It is not taken up again, and was not tried again by itself: begin anew, from the start of the
    /// input.
    Midway {
        /// What ended it.
        error: Error,
        /// Bytes that had been written.
        written_bytes: u64,
    },
    /// The input could not be read.
    Read(io::Error),
    /// The output could not be written.
    Write(io::Error),
}

impl fmt::Display for StreamError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            StreamError::NotBegun(error) => error.fmt(f),
            StreamError::Midway { error, written_bytes } => write!(f, "after {written_bytes} bytes: {error}"),
            StreamError::Read(cause) => write!(f, "the input: {cause}"),
            StreamError::Write(cause) => write!(f, "the output: {cause}"),
        }
    }
}

impl std::error::Error for StreamError {}

/// Plaintexts of any size, in constant memory. The deadline is for the opening alone; a node that does not answer any more
/// is noticed by its connection.
///
/// Nothing here is tried again midway: an encryption that broke off is never resumed, and what it wrote does not decrypt.
impl Client {
    /// Encrypts all of `from`, under the version that is primary now, into `to`. With `Ok` all of the ciphertext has been
    /// written and flushed.
    pub async fn encrypt_stream(
        &self,
        name: &str,
        context: &[(String, String)],
        from: impl AsyncRead + Unpin,
        to: impl AsyncWrite + Unpin,
    ) -> Result<StreamDone, StreamError> {
        let start =
            v1::EncryptStreamStart { name: name.into(), context: pairs(context), min_revision: self.revision() };
        let part = Some(to_seal::Part::Start(start));
        let ask = v1::EncryptStreamRequest { part };
        let open = |channel, ask: Request<v1::EncryptStreamRequest>| async move {
            open(ask, |frames| async move { CryptoClient::new(channel).encrypt_stream(frames).await }).await
        };
        let ends = self.call(Repeat::Always, ask, open).await.map_err(StreamError::NotBegun)?;
        let frame = |bytes| v1::EncryptStreamRequest { part: Some(to_seal::Part::Plaintext(bytes)) };
        self.pass(ends, frame, from, to).await
    }

    /// Decrypts what [`Client::encrypt_stream`] made, with the same key and context, into `to`.
    ///
    /// What is written to `to` on the way has been verified, but only `Ok` says that nothing is missing behind it. Until
    /// then it must not be used: a file is written beside its place and renamed then; who reads from a pipe must wait for
    /// the exit of who writes into it.
    pub async fn decrypt_stream(
        &self,
        name: &str,
        context: &[(String, String)],
        mut from: impl AsyncRead + Unpin,
        to: impl AsyncWrite + Unpin,
    ) -> Result<StreamDone, StreamError> {
        let header = first(&mut from, STREAM_HEADER_BYTES).await.map_err(StreamError::Read)?;
        let (name, context) = (name.into(), pairs(context));
        let start = v1::DecryptStreamStart { name, context, header, min_revision: self.revision() };
        let ask = v1::DecryptStreamRequest { part: Some(to_open::Part::Start(start)) };
        let open = |channel, ask: Request<v1::DecryptStreamRequest>| async move {
            open(ask, |frames| async move { CryptoClient::new(channel).decrypt_stream(frames).await }).await
        };
        let ends = self.call(Repeat::Always, ask, open).await.map_err(StreamError::NotBegun)?;
        let frame = |bytes| v1::DecryptStreamRequest { part: Some(to_open::Part::Ciphertext(bytes)) };
        self.pass(ends, frame, from, to).await
    }

    /// Sends all of `from` and writes all that comes back, at the same time.
    async fn pass<Frame, Answer: Part>(
        &self,
        Ends { frames, answers }: Ends<Frame, Answer>,
        frame: impl Fn(Bytes) -> Frame,
        from: impl AsyncRead + Unpin,
        to: impl AsyncWrite + Unpin,
    ) -> Result<StreamDone, StreamError> {
        let mut begun = Begun { version: 0, written_bytes: 0 };
        let mut receiving = Box::pin(self.receive(answers, to, &mut begun));
        let mut sending = Box::pin(send(from, frames, frame));
        let sent = tokio::select! {
            biased;
            // It ended before it had everything: with a refusal, or it is no node of ours.
            came = &mut receiving => return came.and_then(|_| Err(too_early())),
            sent = &mut sending => sent,
        };
        if let Err(Unread { cause, frames }) = sent {
            // The answers first: the node must not take what it has for the whole.
            drop(receiving);
            drop(frames);
            return Err(StreamError::Read(cause));
        }
        receiving.await
    }

    async fn receive<Answer: Part>(
        &self,
        mut answers: Streaming<Answer>,
        mut to: impl AsyncWrite + Unpin,
        begun: &mut Begun,
    ) -> Result<StreamDone, StreamError> {
        loop {
            let written_bytes = begun.written_bytes;
            let midway = |error| StreamError::Midway { error, written_bytes };
            let answer = answers.message().await.map_err(|status| midway(Attempt::of(&status).end()))?;
            let Some(answer) = answer else { break };
            let bytes = match answer.part().ok_or_else(|| midway(unknown()))? {
                Came::Started { version, revision, header } => {
                    self.saw(revision);
                    begun.version = version;
                    header
                }
                Came::Bytes(bytes) => bytes,
            };
            to.write_all(&bytes).await.map_err(StreamError::Write)?;
            begun.written_bytes += bytes.len() as u64;
        }
        to.flush().await.map_err(StreamError::Write)?;
        let Begun { version, written_bytes } = *begun;
        Ok(StreamDone { version, written_bytes })
    }
}

/// How far a stream has come.
struct Begun {
    version: u32,
    written_bytes: u64,
}

/// Both ends, as they are opened.
struct Ends<Frame, Answer> {
    frames: mpsc::Sender<Frame>,
    answers: Streaming<Answer>,
}

impl<Frame, Answer> Dated for Ends<Frame, Answer> {
    fn revision(&self) -> u64 {
        0
    }
}

/// What an answer carries.
enum Came {
    Started { version: u32, revision: u64, header: Bytes },
    Bytes(Bytes),
}

trait Part {
    fn part(self) -> Option<Came>;
}

impl Part for v1::EncryptStreamResponse {
    fn part(self) -> Option<Came> {
        Some(match self.part? {
            sealed::Part::Started(v1::EncryptStreamStarted { header, version, revision }) => {
                Came::Started { version, revision, header }
            }
            sealed::Part::Ciphertext(bytes) => Came::Bytes(bytes),
        })
    }
}

impl Part for v1::DecryptStreamResponse {
    fn part(self) -> Option<Came> {
        Some(match self.part? {
            opened::Part::Started(v1::DecryptStreamStarted { version, revision }) => {
                Came::Started { version, revision, header: Bytes::new() }
            }
            opened::Part::Plaintext(bytes) => Came::Bytes(bytes),
        })
    }
}

/// Opens a stream by its first frame. Without a deadline for the server: it may live long.
async fn open<Frame, Answer, Called>(
    ask: Request<Frame>,
    call: impl FnOnce(ReceiverStream<Frame>) -> Called,
) -> Result<Response<Ends<Frame, Answer>>, Status>
where
    Called: Future<Output = Result<Response<Streaming<Answer>>, Status>>,
{
    let (frames, waiting) = mpsc::channel(PIECES_WAITING_MAX);
    frames.try_send(ask.into_inner()).map_err(|_| Status::internal("there is room for the first"))?;
    let answers = call(ReceiverStream::new(waiting)).await?;
    Ok(answers.map(|answers| Ends { frames, answers }))
}

/// The input failed. Holds the way to the node, so that it is not closed in order.
struct Unread<Frame> {
    cause: io::Error,
    frames: mpsc::Sender<Frame>,
}

/// Sends all of `from`, then closes the caller's side. A stream that takes no more says why in its answers.
async fn send<Frame>(
    mut from: impl AsyncRead + Unpin,
    frames: mpsc::Sender<Frame>,
    frame: impl Fn(Bytes) -> Frame,
) -> Result<(), Unread<Frame>> {
    loop {
        let piece = match first(&mut from, PIECE_BYTES).await {
            Ok(piece) => piece,
            Err(cause) => return Err(Unread { cause, frames }),
        };
        if piece.is_empty() {
            return Ok(());
        }
        if frames.send(frame(piece)).await.is_err() {
            // Nobody takes it; the answers say why.
            return std::future::pending().await;
        }
    }
}

/// So many bytes, or what is left.
async fn first(from: &mut (impl AsyncRead + Unpin), bytes_max: usize) -> io::Result<Bytes> {
    let mut piece = BytesMut::with_capacity(bytes_max);
    let mut rest = from.take(bytes_max as u64);
    while piece.len() < bytes_max && rest.read_buf(&mut piece).await? > 0 {}
    Ok(piece.freeze())
}

fn too_early() -> StreamError {
    let message = "the node ended the stream before it had everything".into();
    StreamError::Midway { error: Error::Broken { message }, written_bytes: 0 }
}

fn unknown() -> Error {
    Error::Broken { message: "the node answers with what only a later release knows".into() }
}
