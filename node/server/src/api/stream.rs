//! The one place of the door that loops: streams.

use crate::service::{Service, Tail};
use claviger_core::failure::Failure;
use claviger_core::page::Page;
use futures_util::Stream;
use futures_util::stream;
use std::collections::VecDeque;
use std::sync::Arc;

/// The pages of a tail, and, if it follows, each new one when it is written.
pub(super) fn pages(service: Arc<Service>, tail: Tail) -> impl Stream<Item = Result<Page, Failure>> {
    let Tail { pages, next, follow } = tail;
    let start = (service, VecDeque::from(pages), next, follow);
    stream::unfold(start, |(service, mut pages, mut next, mut follow)| async move {
        loop {
            if let Some(page) = pages.pop_front() {
                return Some((Ok(page), (service, pages, next, follow)));
            }
            let newest = follow.as_mut()?;
            match service.pages_from(next) {
                Err(behind) => return Some((Err(behind), (service, pages, next, None))),
                Ok(found) if found.is_empty() => newest.changed().await.ok()?,
                Ok(found) => {
                    next = found.last().map_or(next, |page| page.number + 1);
                    pages = found.into();
                }
            }
        }
    })
}
