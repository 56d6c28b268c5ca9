//! A stream of items from one caller: each is read, judged, done and written down for itself, as many at once as the
//! bounds allow; what waits for the same barrier round shares it.
//!
//! An item is worked on only while somebody asks for the next answer, and its answer is handed over the moment it is made:
//! none lies about here growing old. So whoever stops reading answers stops the stream, and costs no more than its bounds.

use super::crypto::{DecryptAsk, EncryptAsk, KeyUse, ReEncryptAsk};
use super::items::Keys;
use super::visit::Audited;
use super::{ReadAsk, STALE_MS_MAX, Service, Visit};
use crate::keyring::{Decrypted, Encrypted, ReEncrypted};
use claviger_core::failure::{Failure, Why};
use claviger_core::planted;
use claviger_core::policy::action::Pipeline as MayPipeline;
use claviger_core::policy::{Caller, Cluster, Operation};
use claviger_world::disk::BoxFuture;
use futures_util::stream::FuturesUnordered;
use futures_util::{FutureExt, Stream, StreamExt};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

/// Items of one stream that are in the node at once, at most.
pub const PIPELINE_ITEMS_MAX: usize = 256;
/// Plaintexts and ciphertexts of one stream that are in the node at once, in bytes: none more is taken once there are so
/// many.
pub const PIPELINE_BYTES_MAX: usize = 4 << 20;

/// An item of a stream.
pub struct PipelineItem {
    /// What its answer will be known by: the caller's choice.
    pub id: u64,
    /// What is asked, or why that could not be read.
    pub ask: PipelineAsk,
}

/// What an item asks. One that was refused while it was read is answered with that, and written down.
pub enum PipelineAsk {
    /// To encrypt.
    Encrypt(Result<EncryptAsk, Failure>),
    /// To decrypt.
    Decrypt(Result<DecryptAsk, Failure>),
    /// To encrypt anew.
    ReEncrypt(Result<ReEncryptAsk, Failure>),
}

/// What came of an item.
pub enum PipelineDone {
    /// It was encrypted.
    Encrypted(Encrypted),
    /// It was decrypted.
    Decrypted(Decrypted),
    /// It was encrypted anew.
    ReEncrypted(ReEncrypted),
}

/// The answer to an item.
pub struct PipelineAnswer {
    /// As it was asked.
    pub id: u64,
    /// Its page is in the book.
    pub outcome: ItemOutcome,
}

/// What came of an item, and the revision that it rests on.
pub type ItemOutcome = Audited<Result<(PipelineDone, u64), Failure>>;

/// A stream that may be opened: whose it is.
pub struct Pipeline {
    caller: Caller,
}

/// One item that is through.
struct Through {
    answer: PipelineAnswer,
    bytes: usize,
    denied: bool,
}

/// The answers of a stream. Ends without a failure when no more items come; else with the one that ended it, after those
/// who were under way.
pub struct Answers<S> {
    service: Arc<Service>,
    caller: Caller,
    /// None once nothing more is taken.
    items: Option<Pin<Box<S>>>,
    under_way: FuturesUnordered<BoxFuture<'static, Through>>,
    bytes: usize,
    stopping: BoxFuture<'static, ()>,
    end: Option<Failure>,
}

impl Service {
    /// Says whether the caller may open a stream.
    pub async fn open_pipeline(&self, visit: &Visit, (): ()) -> Result<Pipeline, Failure> {
        self.answered(visit.operation())?;
        let reading = self.reading(ReadAsk::default()).await?;
        let _leave = self.permit::<MayPipeline>(visit.caller()?, Cluster, &reading)?;
        visit.rests_on(&reading);
        Ok(Pipeline { caller: visit.caller()?.clone() })
    }

    /// Answers the items of a stream, in any order, until they end, one of them is a failure, the caller may use no key any
    /// more, or the node stops.
    pub fn pipeline<S>(self: &Arc<Self>, pipeline: Pipeline, items: S) -> Answers<S>
    where
        S: Stream<Item = Result<PipelineItem, Failure>> + Send,
    {
        let mut stopping = self.stopping.subscribe();
        let stopped = async move { stopping.until(|stops| stops.then_some(())).await };
        Answers {
            service: self.clone(),
            caller: pipeline.caller,
            items: Some(Box::pin(items)),
            under_way: FuturesUnordered::new(),
            bytes: 0,
            // The end of the service is a stop too.
            stopping: Box::pin(stopped.map(drop)),
            end: None,
        }
    }

    /// Ends streams in order: nothing more is taken, what is under way is answered.
    pub(crate) fn end_streams(&self) {
        self.stopping.replace(true);
    }

    async fn item(self: Arc<Self>, caller: Caller, visit: Visit, ask: PipelineAsk) -> (ItemOutcome, bool) {
        let outcome = match ask {
            PipelineAsk::Encrypt(ask) => self.serve(visit, ask, PipelineDone::Encrypted).await,
            PipelineAsk::Decrypt(ask) => self.serve(visit, ask, PipelineDone::Decrypted).await,
            PipelineAsk::ReEncrypt(ask) => self.serve(visit, ask, PipelineDone::ReEncrypted).await,
        };
        let denied = matches!(outcome.look(), Err(Failure::Denied)) && self.shuts_out(&caller);
        (outcome, denied)
    }

    async fn serve<U: KeyUse>(
        &self,
        visit: Visit,
        ask: Result<U, Failure>,
        done: fn(U::Done) -> PipelineDone,
    ) -> ItemOutcome {
        let answer = async {
            let (visit, ask) = (visit.known()?, ask?);
            self.use_keys(visit, &ask, read_of(&ask)).await
        };
        let answer = answer.await;
        let audited = visit.close(answer).await;
        audited.map(|answer| answer.map(|(what, revision)| (done(what), revision)))
    }

    /// Whether the caller may have no stream any more, by what this node has applied: no older than what an item was just
    /// denied by.
    fn shuts_out(&self, caller: &Caller) -> bool {
        let (view, opened) = (self.ledger.view(), self.seal.opened().ok());
        let leave = self.gate.authorise::<MayPipeline>(caller, Cluster, &view, opened.as_deref());
        matches!(leave, Err(Failure::Denied))
    }
}

fn read_of<U: KeyUse>(ask: &U) -> ReadAsk {
    if planted!(ItemNotReadAnew) { ReadAsk { min_revision: 0, allow_stale_ms: STALE_MS_MAX } } else { ask.read() }
}

/// What is known of an item before it is worked on.
struct Outline {
    operation: Operation,
    keys: Keys,
    bytes: usize,
}

impl Outline {
    fn of<U: KeyUse>(ask: &Result<U, Failure>) -> Self {
        let keys = ask.as_ref().map_or_else(|_| Keys::default(), KeyUse::keys);
        Outline { operation: U::OPERATION, keys, bytes: ask.as_ref().map_or(0, KeyUse::bytes) }
    }
}

impl PipelineAsk {
    fn outline(&self) -> Outline {
        match self {
            PipelineAsk::Encrypt(ask) => Outline::of(ask),
            PipelineAsk::Decrypt(ask) => Outline::of(ask),
            PipelineAsk::ReEncrypt(ask) => Outline::of(ask),
        }
    }
}

impl<S> Answers<S>
where
    S: Stream<Item = Result<PipelineItem, Failure>>,
{
    /// Takes what has come, as far as there is room.
    fn take_in(&mut self, cx: &mut Context<'_>) {
        if self.items.is_some() && self.stopping.poll_unpin(cx).is_ready() {
            return self.end_with(Why::Stopping.into());
        }
        while let Some(items) = &mut self.items {
            if self.under_way.len() >= PIPELINE_ITEMS_MAX || self.bytes >= PIPELINE_BYTES_MAX {
                return;
            }
            match items.poll_next_unpin(cx) {
                Poll::Ready(Some(Ok(item))) => self.begin(item),
                Poll::Ready(Some(Err(why))) => return self.end_with(why),
                Poll::Ready(None) => self.items = None,
                Poll::Pending => return,
            }
        }
    }

    /// From here on the item has a page, also when the stream is gone before its turn comes.
    fn begin(&mut self, PipelineItem { id, ask }: PipelineItem) {
        let Outline { operation, keys, bytes } = ask.outline();
        let visit = self.service.visit_of(&self.caller, operation);
        visit.is_about(keys);
        let answering = self.service.clone().item(self.caller.clone(), visit, ask);
        let through =
            answering.map(move |(outcome, denied)| Through { answer: PipelineAnswer { id, outcome }, bytes, denied });
        self.bytes += bytes;
        self.under_way.push(Box::pin(through));
    }

    /// Takes nothing more. The first reason is told.
    fn end_with(&mut self, why: Failure) {
        self.items = None;
        self.end.get_or_insert(why);
    }

    fn hand_over(&mut self, through: Through) -> PipelineAnswer {
        self.bytes -= through.bytes;
        if through.denied {
            self.end_with(Failure::Denied);
        }
        through.answer
    }
}

impl<S> Stream for Answers<S>
where
    S: Stream<Item = Result<PipelineItem, Failure>>,
{
    type Item = Result<PipelineAnswer, Failure>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.get_mut();
        this.take_in(cx);
        match this.under_way.poll_next_unpin(cx) {
            Poll::Ready(Some(through)) => Poll::Ready(Some(Ok(this.hand_over(through)))),
            Poll::Ready(None) if this.items.is_none() => Poll::Ready(this.end.take().map(Err)),
            Poll::Ready(None) | Poll::Pending => Poll::Pending,
        }
    }
}
