//! The state of the cluster as a file.

use crate::call::{Client, Repeat};
use crate::dated::Dated;
use crate::error::{Attempt, Error};
use bytes::Bytes;
use claviger_proto::v1::{self, cluster_client::ClusterClient};
use tonic::{Streaming, transport::Channel};

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
