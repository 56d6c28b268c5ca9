//! The audit book of the node that is asked: `claviger.v1.Audit`.

use super::{Door, Reply, status, stream, words};
use claviger_core::policy::Operation;
use claviger_proto::v1::{self, audit_server::Audit};
use futures_util::StreamExt;
use std::pin::Pin;
use tonic::{Request, Status, async_trait};

type Pages = Pin<Box<dyn futures_util::Stream<Item = Result<v1::TailAuditResponse, Status>> + Send>>;

#[async_trait]
impl Audit for Door {
    type TailAuditStream = Pages;

    async fn tail_audit(&self, request: Request<v1::TailAuditRequest>) -> Reply<Pages> {
        let (visit, ask) = self.admit(request, Operation::TailAudit);
        let answer = async { self.service.tail_audit(visit.known()?, words::tail_audit(ask)?).await }.await;
        let service = self.service.clone();
        let pages = |tail| -> Pages {
            Box::pin(stream::pages(service, tail).map(|page| page.map(words::page_out).map_err(status::of)))
        };
        self.close(visit, answer.map(pages)).await
    }

    async fn get_audit_head(&self, request: Request<v1::GetAuditHeadRequest>) -> Reply<v1::GetAuditHeadResponse> {
        let (visit, ask) = self.admit(request, Operation::GetAuditHead);
        let answer = async {
            let head = self.service.get_audit_head(visit.known()?, words::get_audit_head(ask)?).await;
            head.map(words::get_audit_head_done)
        };
        let answer = answer.await;
        self.close(visit, answer).await
    }
}
