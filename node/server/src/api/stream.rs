//! The one place of the door that loops: streams.

use super::{status, words};
use crate::service::{DecryptStreamAsk, EncryptStreamAsk, Piece, PipelineItem, Service, SnapshotFile, Tail};
use claviger_core::failure::{Failure, Refused};
use claviger_core::page::Page;
use claviger_core::secret::SecretBytes;
use claviger_proto::v1;
use futures_util::stream;
use futures_util::{Stream, StreamExt};
use std::collections::VecDeque;
use std::sync::Arc;
use tonic::{Status, Streaming};

/// The pages of a tail, and, if it follows, each new one when it is written.
pub(super) fn pages(service: Arc<Service>, tail: Tail) -> impl Stream<Item = Result<Page, Failure>> {
    let Tail { pages, next, follow, reader } = tail;
    let start = ((service, reader), VecDeque::from(pages), next, follow);
    stream::unfold(start, |(who, mut pages, mut next, mut follow)| async move {
        loop {
            if let Some(page) = pages.pop_front() {
                return Some((Ok(page), (who, pages, next, follow)));
            }
            let newest = follow.as_mut()?;
            match who.0.pages_from(&who.1, next).await {
                Err(end) => return Some((Err(end), (who, pages, next, None))),
                Ok(found) if found.is_empty() => newest.changed().await.ok()?,
                Ok(found) => {
                    next = found.last().map_or(next, |page| page.number + 1);
                    pages = found.into();
                }
            }
        }
    })
}

/// The pieces of a file that is being cut. A failure is the last.
pub(super) fn file(cut: SnapshotFile) -> impl Stream<Item = Result<Vec<u8>, Failure>> {
    stream::unfold(Some(cut), |cut| async move {
        let mut cut = cut?;
        match cut.piece().transpose()? {
            Ok(piece) => Some((Ok(piece), Some(cut))),
            Err(failure) => Some((Err(failure), None)),
        }
    })
}

/// The frames of a pipeline, taken apart. A failure is a frame that cannot be read, and the last.
pub(super) fn items(frames: Streaming<v1::PipelineRequest>) -> impl Stream<Item = Result<PipelineItem, Failure>> {
    let mut names = words::Names::default();
    frames.map(move |frame| words::pipeline_item(frame.map_err(|_| UNREADABLE)?, &mut names))
}

/// The frames of a stream to be sealed. What is not the end of it in order, as a connection that broke, is no end but a
/// failure: else a plaintext that was cut on its way would be sealed as if it were whole.
pub(super) fn sealing(
    frames: Streaming<v1::EncryptStreamRequest>,
) -> impl Stream<Item = Result<Piece<EncryptStreamAsk>, Failure>> + Unpin {
    frames.map(|frame| words::sealing_piece(frame.map_err(|_| UNREADABLE)?))
}

/// The frames of a stream to be opened.
pub(super) fn opening(
    frames: Streaming<v1::DecryptStreamRequest>,
) -> impl Stream<Item = Result<Piece<DecryptStreamAsk>, Failure>> + Unpin {
    frames.map(|frame| words::opening_piece(frame.map_err(|_| UNREADABLE)?))
}

/// The bytes of a snapshot on its way in.
pub(super) fn restoring(
    frames: Streaming<v1::RestoreSnapshotRequest>,
) -> impl Stream<Item = Result<bytes::Bytes, Failure>> + Unpin {
    frames.map(|frame| Ok(words::restored_piece(frame.map_err(|_| UNREADABLE)?)))
}

/// What a stream's caller gets: first what was begun, then the chunks.
pub(super) fn answers<T>(
    started: T,
    chunks: impl Stream<Item = Result<SecretBytes, Failure>>,
    word: impl Fn(SecretBytes) -> T,
) -> impl Stream<Item = Result<T, Status>> {
    let chunks = chunks.map(move |chunk| chunk.map(&word).map_err(status::of));
    stream::once(std::future::ready(Ok(started))).chain(chunks)
}

const UNREADABLE: Failure = Failure::Refused(Refused::BadRequest("frames that can be read, of 4 MiB at most"));
