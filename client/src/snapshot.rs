//! The state of the cluster as a file.

use crate::call::{Client, Repeat};
use crate::dated::Dated;
use crate::error::{Attempt, Error};
use bytes::Bytes;
use claviger_proto::v1::{self, cluster_client::ClusterClient};
use std::io;
use std::pin::pin;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tokio_stream::{Stream, StreamExt};
use tonic::{Response, Status, Streaming, transport::Channel};

/// The pieces of a snapshot as they come. Dropped, it ends the call.
pub struct SnapshotPieces(Streaming<v1::SaveSnapshotResponse>);

impl Dated for SnapshotPieces {
    fn revision(&self) -> u64 {
        0
    }
}

impl SnapshotPieces {
    /// The next bytes of the file; none behind its end, which the file itself tells from a stream that was cut. A broken
    /// stream is not taken up again: another node would cut another file.
    pub async fn next(&mut self) -> Result<Option<Bytes>, Error> {
        let message = self.0.message().await.map_err(|status| Attempt::of(&status).end())?;
        Ok(message.map(|piece| piece.data))
    }
}

impl Client {
    /// The whole state as the answering node has it, as fresh as every answer: ciphertext, with what proves it.
    ///
    /// The deadline is for the opening of the stream alone; the stream itself may last.
    pub async fn save_snapshot(&self) -> Result<SnapshotPieces, Error> {
        let send = |channel: Channel, ask: tonic::Request<v1::SaveSnapshotRequest>| async move {
            Ok(ClusterClient::new(channel).save_snapshot(ask.into_inner()).await?.map(SnapshotPieces))
        };
        self.call(Repeat::Always, v1::SaveSnapshotRequest {}, send).await
    }
}

/// Pieces that wait here until the connection takes them, at most.
const PIECES_WAITING_MAX: usize = 4;
/// How long a node may take for a whole snapshot.
const RESTORE_WAIT: Duration = Duration::from_secs(3_600);

impl Dated for v1::RestoreSnapshotResponse {
    /// Of the snapshot, in a generation that is over: what follows in the next one is no later than that.
    fn revision(&self) -> u64 {
        0
    }
}

impl Client {
    /// Gives a snapshot to a node that belongs to no cluster. *Once*; ask one node alone, see [`Client::each`]. A piece that
    /// cannot be read ends the call, and the node forgets what it has.
    pub async fn restore_snapshot(
        &self,
        pieces: impl Stream<Item = io::Result<Bytes>> + Send + 'static,
    ) -> Result<v1::RestoreSnapshotResponse, Error> {
        let pieces = Arc::new(Mutex::new(Some(pieces)));
        let send = |channel: Channel, _: tonic::Request<()>| {
            let pieces = pieces.lock().ok().and_then(|mut pieces| pieces.take());
            async move {
                let pieces = pieces.ok_or_else(|| Status::aborted("the pieces have been sent"))?;
                give(channel, pieces).await
            }
        };
        self.call_for(RESTORE_WAIT, Repeat::Unsent, (), send).await
    }
}

/// Sends all pieces and waits for the answer. Where a piece cannot be read the call is dropped and never ends in order: the
/// node must not take what it has for the whole.
async fn give(
    channel: Channel,
    pieces: impl Stream<Item = io::Result<Bytes>> + Send + 'static,
) -> Result<Response<v1::RestoreSnapshotResponse>, Status> {
    let (frames, waiting) = mpsc::channel(PIECES_WAITING_MAX);
    let mut client = ClusterClient::new(channel);
    let mut answer = Box::pin(client.restore_snapshot(ReceiverStream::new(waiting)));
    let mut sending = pin!(feed(pieces, frames));
    tokio::select! {
        biased;
        answer = &mut answer => answer,
        sent = &mut sending => match sent {
            Err(unread) => {
                // The call first: it must not be closed in order.
                drop(answer);
                Err(Status::data_loss(unread.cause.to_string()))
            }
            Ok(()) => answer.await,
        },
    }
}

/// Why an input was not sent whole. Holds the way to the node, so that it is not closed in order.
struct Unread {
    cause: io::Error,
    _frames: mpsc::Sender<v1::RestoreSnapshotRequest>,
}

/// Sends what can be read.
async fn feed(
    pieces: impl Stream<Item = io::Result<Bytes>>,
    frames: mpsc::Sender<v1::RestoreSnapshotRequest>,
) -> Result<(), Unread> {
    let mut pieces = pin!(pieces);
    while let Some(piece) = pieces.next().await {
        let data = match piece {
            Ok(data) => data,
            Err(cause) => return Err(Unread { cause, _frames: frames }),
        };
        if frames.send(v1::RestoreSnapshotRequest { data }).await.is_err() {
            // Nobody takes it; the answer says why.
            return Ok(());
        }
    }
    Ok(())
}
