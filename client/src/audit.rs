//! A node's audit book: `claviger.v1.Audit`.

use crate::call::{Client, Repeat};
use crate::dated::Dated;
use crate::error::{Attempt, Error};
use claviger_proto::v1::{self, audit_client::AuditClient};
use tonic::{Streaming, transport::Channel};

/// Pages as they come. Dropped, it ends the call.
pub struct AuditTail(Streaming<v1::TailAuditResponse>);

impl Dated for AuditTail {
    fn revision(&self) -> u64 {
        0
    }
}

impl AuditTail {
    /// The next page; nothing when the book has been read to its end and nobody asked to follow it. A broken stream is not
    /// taken up again: pages might be missed or told twice.
    pub async fn next(&mut self) -> Result<Option<v1::AuditPage>, Error> {
        loop {
            let message = self.0.message().await.map_err(|status| Attempt::of(&status).end())?;
            match message {
                Some(v1::TailAuditResponse { page: Some(page) }) => return Ok(Some(page)),
                Some(v1::TailAuditResponse { page: None }) => {} // nothing that this release knows
                None => return Ok(None),
            }
        }
    }
}

/// The book is the answering node's own; to read a certain node's, see [`Client::each`].
impl Client {
    /// The last pages (1,000 at most), and each new one when `follow` is set.
    ///
    /// The deadline is for the opening of the stream alone; the stream itself may last.
    pub async fn tail_audit(&self, last: u32, follow: bool) -> Result<AuditTail, Error> {
        let ask = v1::TailAuditRequest { last, follow };
        let send = |channel: Channel, ask: tonic::Request<v1::TailAuditRequest>| async move {
            let unlimited = ask.into_inner();
            Ok(AuditClient::new(channel).tail_audit(unlimited).await?.map(AuditTail))
        };
        self.call(Repeat::Always, ask, send).await
    }

    /// Size and head of the book.
    pub async fn audit_head(&self) -> Result<v1::GetAuditHeadResponse, Error> {
        let ask = v1::GetAuditHeadRequest {};
        self.call(
            Repeat::Always,
            ask,
            |channel, ask| async move { AuditClient::new(channel).get_audit_head(ask).await },
        )
        .await
    }
}
