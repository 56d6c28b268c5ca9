//! Pages.

use super::{Parsed, timestamp, wanted};
use claviger_core::name::Digest;
use claviger_core::page::{Page, Position, ResourceTag};
use claviger_proto::v1;

pub(in crate::api) fn tail_audit(ask: v1::TailAuditRequest) -> Parsed<(usize, bool)> {
    match ask.last {
        0..=1_000 => Ok((ask.last as usize, ask.follow)),
        _ => Err(wanted("at most the last 1,000 pages")),
    }
}

pub(in crate::api) fn page_out(page: Page) -> v1::TailAuditResponse {
    let named = |tag: Option<ResourceTag>| tag.map(|r| Digest(r.tag).to_string()).unwrap_or_default();
    let page = v1::AuditPage {
        number: page.number,
        time: Some(timestamp(page.time)),
        caller: page.caller.map(|c| c.to_string()).unwrap_or_default(),
        operation: page.operation.map_or("", |o| o.word()).into(),
        outcome: page.outcome.to_string(),
        resource: named(page.resource),
        destination: named(page.destination),
        revision: page.revision,
        count: page.count,
    };
    v1::TailAuditResponse { page: Some(page) }
}

pub(in crate::api) fn get_audit_head(_: v1::GetAuditHeadRequest) -> Parsed<()> {
    Ok(())
}

pub(in crate::api) fn get_audit_head_done(at: Position) -> v1::GetAuditHeadResponse {
    v1::GetAuditHeadResponse { node: at.node.0, pages: at.next - 1, head: at.hash.0.to_vec().into() }
}
