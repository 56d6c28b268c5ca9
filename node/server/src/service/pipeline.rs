//! A stream of items from one caller. Those that have come together share one reading, which is made after they came; by it
//! each is judged, done and written down for itself, as many at once as the bounds allow.
//!
//! Items are worked on only while somebody asks for the next answer, a few at a time, and an answer that grew old before it
//! was handed over is made anew. So whoever stops reading answers stops the stream, and costs no more than its bounds. No
//! key is held from one answer to the next.

mod gather;

use self::gather::Gather;
use super::crypto::{ATTEMPTS_MAX, DecryptAsk, EncryptAsk, KeyUse, ReEncryptAsk};
use super::items::Keys;
use super::judge::Judge;
use super::visit::{Audited, Made};
use super::{AgeLimit, ReadAsk, Reading, STALE_MS_MAX, Service, Visit, answered_as};
use crate::keyring::{Decrypted, Encrypted, ReEncrypted};
use claviger_core::failure::{Failure, Why};
use claviger_core::planted;
use claviger_core::policy::action::Pipeline as MayPipeline;
use claviger_core::policy::{Caller, Cluster, Operation, SealView};
use claviger_world::disk::BoxFuture;
use futures_util::stream::FuturesUnordered;
use futures_util::{FutureExt, Stream, StreamExt};
use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

/// Items of one stream that are in the node at once, at most.
pub const PIPELINE_ITEMS_MAX: usize = 256;
/// Plaintexts and ciphertexts of one stream that are in the node at once, in bytes: none more is taken once there are so
/// many.
pub const PIPELINE_BYTES_MAX: usize = 4 << 20;

/// Items that are answered, and written down, in one piece, at most.
pub(crate) const ITEMS_TOGETHER: usize = 64;
/// Their plaintexts and ciphertexts, in bytes: once there are so many, the rest waits, so that others have their turn.
const BYTES_TOGETHER: usize = 256 << 10;

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

/// One item that is in the node.
struct Item {
    id: u64,
    ask: Box<PipelineAsk>,
    visit: Box<Visit>,
    bytes: usize,
    /// How often it was done already.
    times: usize,
}

/// Items that came together, in their order.
struct Group {
    items: VecDeque<Item>,
    read: ReadAsk,
    /// What came of the reading that they share. A refusal is the answer of each.
    limit: Result<AgeLimit, Failure>,
    readings: usize,
}

/// An item that was done, and is kept until its answer is handed over.
struct Through {
    id: u64,
    ask: Box<PipelineAsk>,
    bytes: usize,
    times: usize,
    made: Made<(PipelineDone, u64)>,
}

/// Items of one group that were done together, and the rest of it.
type Answered = (Vec<Through>, Group);

/// The answers of a stream. Ends without a failure when no more items come; else with the one that ended it, after those
/// who were under way.
pub struct Answers<S> {
    service: Arc<Service>,
    caller: Caller,
    /// None once nothing more is taken.
    items: Option<Pin<Box<S>>>,
    /// Groups that came while others were under way: they are read together, when those are answered.
    come: Vec<Group>,
    gather: Gather,
    /// Groups that wait for their reading.
    reading: FuturesUnordered<BoxFuture<'static, Group>>,
    /// Groups whose reading is there.
    read: VecDeque<Group>,
    answering: Option<BoxFuture<'static, Answered>>,
    done: VecDeque<Through>,
    under_way: usize,
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
            come: Vec::new(),
            gather: Gather::default(),
            reading: FuturesUnordered::new(),
            read: VecDeque::new(),
            answering: None,
            done: VecDeque::new(),
            under_way: 0,
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

    /// Has a group wait for a reading that begins now.
    async fn read_group(self: Arc<Self>, mut group: Group) -> Group {
        group.readings += 1;
        group.limit = self.freshness(group.read).await;
        group
    }

    /// Does some items of a group, each by the records as they are now, and writes them down in one piece.
    async fn answer_some(self: Arc<Self>, caller: Caller, mut group: Group) -> Answered {
        let together = group.together();
        let (mut made, mut asks) = (Vec::with_capacity(together), Vec::with_capacity(together));
        {
            let reading = group.limit.clone().map(|limit| self.read_now(limit));
            let judged = reading.as_ref().map(|reading| (reading, Judge::new(&self, &caller, reading)));
            for Item { id, ask, visit, bytes, times } in group.items.drain(..together) {
                let answer = judged.as_ref().map_err(|why| (*why).clone());
                let answer = answer.and_then(|(reading, judge)| answer_item(&visit, &ask, reading, judge));
                made.push(Made { visit, answer });
                asks.push((id, ask, bytes, times + 1));
            }
        }
        Visit::close_together(&self, &mut made).await;
        let through = |((id, ask, bytes, times), made)| Through { id, ask, bytes, times, made };
        (asks.into_iter().zip(made).map(through).collect(), group)
    }

    /// As it is now.
    fn arrival(&self) -> Arrival {
        Arrival { came: self.now(), seal: self.seal_view() }
    }

    /// Whether the caller may have no stream any more, by what this node has applied: no older than what an item was just
    /// denied by.
    fn shuts_out(&self, caller: &Caller) -> bool {
        let (view, opened) = (self.ledger.view(), self.seal.opened().ok());
        let leave = self.gate.authorise::<MayPipeline>(caller, Cluster, &view, opened.as_deref());
        matches!(leave, Err(Failure::Denied))
    }
}

/// When items came, and how the node stood then: the same for all that are taken in at once.
#[derive(Clone, Copy)]
struct Arrival {
    /// By the clock that counts suspension.
    came: Duration,
    seal: SealView,
}

impl Arrival {
    /// Refuses what needs no reading to be refused, before it waits for a quorum that may not be there. That the node is
    /// open is judged again by the reading.
    fn may_begin(&self, visit: &Visit, ask: &PipelineAsk) -> Result<(), Failure> {
        visit.known()?;
        ask.refused().map_or(Ok(()), Err)?;
        answered_as(visit.operation(), self.seal)
    }
}

fn answer_item(
    visit: &Visit,
    ask: &PipelineAsk,
    reading: &Reading,
    judge: &Judge<'_>,
) -> Result<(PipelineDone, u64), Failure> {
    let done = match ask {
        PipelineAsk::Encrypt(Ok(ask)) => PipelineDone::Encrypted(ask.attempt(judge)?),
        PipelineAsk::Decrypt(Ok(ask)) => PipelineDone::Decrypted(ask.attempt(judge)?),
        PipelineAsk::ReEncrypt(Ok(ask)) => PipelineDone::ReEncrypted(ask.attempt(judge)?),
        PipelineAsk::Encrypt(Err(why)) | PipelineAsk::Decrypt(Err(why)) | PipelineAsk::ReEncrypt(Err(why)) => {
            return Err(why.clone());
        }
    };
    visit.rests_on(reading);
    Ok((done, reading.sequence()))
}

/// What is known of an item before it is worked on.
struct Outline {
    operation: Operation,
    keys: Keys,
    bytes: usize,
    read: ReadAsk,
}

impl Outline {
    fn of<U: KeyUse>(ask: &Result<U, Failure>) -> Self {
        let operation = U::OPERATION;
        match ask {
            Ok(ask) => Outline { operation, keys: ask.keys(), bytes: ask.bytes(), read: read_of(ask) },
            Err(_) => Outline { operation, keys: Keys::default(), bytes: 0, read: ReadAsk::default() },
        }
    }
}

fn read_of<U: KeyUse>(ask: &U) -> ReadAsk {
    if planted!(ItemNotReadAnew) { ReadAsk { min_revision: 0, allow_stale_ms: STALE_MS_MAX } } else { ask.read() }
}

impl PipelineAsk {
    fn outline(&self) -> Outline {
        match self {
            PipelineAsk::Encrypt(ask) => Outline::of(ask),
            PipelineAsk::Decrypt(ask) => Outline::of(ask),
            PipelineAsk::ReEncrypt(ask) => Outline::of(ask),
        }
    }

    /// Why it could not be read, if it could not.
    fn refused(&self) -> Option<Failure> {
        match self {
            PipelineAsk::Encrypt(ask) => ask.as_ref().err().cloned(),
            PipelineAsk::Decrypt(ask) => ask.as_ref().err().cloned(),
            PipelineAsk::ReEncrypt(ask) => ask.as_ref().err().cloned(),
        }
    }
}

impl Group {
    /// Without a reading yet.
    fn of(item: Item, read: ReadAsk) -> Self {
        Group { items: VecDeque::from([item]), read, limit: Err(Why::Overloaded.into()), readings: 0 }
    }

    /// How many of them are done in one piece: one at least. No more, where the answer grew old while nobody asked for it: it
    /// would again, and each time counts in the book.
    fn together(&self) -> usize {
        if self.items.front().is_some_and(|first| first.times > 0) {
            return 1;
        }
        let mut bytes = 0;
        let fits = |item: &&Item| {
            let fits = bytes < BYTES_TOGETHER;
            bytes += item.bytes;
            fits
        };
        self.items.iter().take(ITEMS_TOGETHER).take_while(fits).count()
    }
}

impl<S> Answers<S>
where
    S: Stream<Item = Result<PipelineItem, Failure>>,
{
    /// Takes what has come, as far as there is room. Readings begin after all of it is here.
    fn take_in(&mut self, cx: &mut Context<'_>) {
        if self.items.is_some() && self.stopping.poll_unpin(cx).is_ready() {
            return self.end_with(Why::Stopping.into());
        }
        let mut arrival = None;
        while !self.is_full() {
            let Some(items) = &mut self.items else { break };
            match items.poll_next_unpin(cx) {
                Poll::Ready(Some(Ok(item))) => {
                    let arrival = *arrival.get_or_insert_with(|| self.service.arrival());
                    self.begin(item, arrival);
                }
                Poll::Ready(Some(Err(why))) => self.end_with(why),
                Poll::Ready(None) => self.items = None,
                Poll::Pending => break,
            }
        }
    }

    fn is_full(&self) -> bool {
        self.under_way >= PIPELINE_ITEMS_MAX || self.bytes >= PIPELINE_BYTES_MAX
    }

    /// Begins a reading for all that have come, once those before are answered: a reading costs the same for one and for many.
    fn read_together(&mut self, cx: &mut Context<'_>) {
        let busy = !self.reading.is_empty() || !self.read.is_empty() || self.answering.is_some();
        let come: usize = self.come.iter().map(|group| group.items.len()).sum();
        let more = self.items.is_some() && !self.is_full();
        if !busy && come > 0 && self.gather.is_over(come, more, cx) {
            std::mem::take(&mut self.come).into_iter().for_each(|group| self.begin_reading(group));
        }
    }

    fn begin_reading(&self, group: Group) {
        self.reading.push(Box::pin(self.service.clone().read_group(group)));
    }

    /// From here on the item has a page, also when the stream is gone before its turn comes.
    fn begin(&mut self, PipelineItem { id, ask }: PipelineItem, arrival: Arrival) {
        let (read, item) = self.item(id, Box::new(ask), 0, arrival.came);
        self.bytes += item.bytes;
        self.under_way += 1;
        self.join(read, item, arrival);
    }

    fn item(&self, id: u64, ask: Box<PipelineAsk>, times: usize, came: Duration) -> (ReadAsk, Item) {
        let Outline { operation, keys, bytes, read } = ask.outline();
        let visit = Box::new(self.service.visit_of(&self.caller, operation, came));
        visit.is_about(keys);
        (read, Item { id, ask, visit, bytes, times })
    }

    /// Those that ask for the same freshness share a reading; what is refused without one does not wait.
    fn join(&mut self, read: ReadAsk, item: Item, arrival: Arrival) {
        if let Err(why) = arrival.may_begin(&item.visit, &item.ask) {
            return self.refuse(why, read, item);
        }
        match self.come.last_mut() {
            Some(group) if group.read == read => group.items.push_back(item),
            Some(_) | None => self.come.push(Group::of(item, read)),
        }
    }

    /// Those that are refused alike are written down together.
    fn refuse(&mut self, why: Failure, read: ReadAsk, item: Item) {
        match self.read.back_mut() {
            Some(group) if group.limit.as_ref().err() == Some(&why) => group.items.push_back(item),
            Some(_) | None => self.read.push_back(Group { limit: Err(why), ..Group::of(item, read) }),
        }
    }

    /// Takes nothing more. The first reason is told.
    fn end_with(&mut self, why: Failure) {
        self.items = None;
        self.end.get_or_insert(why);
    }

    /// Goes on with what waits to be answered. None when nothing does.
    fn answer_next(&mut self, cx: &mut Context<'_>) -> Option<()> {
        while let Poll::Ready(Some(group)) = self.reading.poll_next_unpin(cx) {
            self.read.push_back(group);
        }
        if self.answering.is_none() {
            let mut group = self.read.pop_front()?;
            let old = group.limit.as_ref().is_ok_and(|limit| !self.service.within(*limit));
            if old && group.readings < ATTEMPTS_MAX {
                self.begin_reading(group);
                return Some(());
            }
            if old {
                group.limit = Err(Why::Overloaded.into());
            }
            self.answering = Some(Box::pin(self.service.clone().answer_some(self.caller.clone(), group)));
        }
        let Poll::Ready((through, mut rest)) = self.answering.as_mut()?.poll_unpin(cx) else { return None };
        self.answering = None;
        self.done.extend(through);
        if !rest.items.is_empty() {
            // It has got on: what is left of it may be read anew as often.
            rest.readings = 0;
            self.read.push_front(rest);
        }
        Some(())
    }

    /// The answer, if it may still be handed over. One that grew old while nobody asked for it is made anew.
    fn hand_over(&mut self, through: Through) -> Option<PipelineAnswer> {
        let Through { id, ask, bytes, times, made } = through;
        let last = made.overtaken();
        if times < ATTEMPTS_MAX && matches!(last.overtaken, Some(Why::Overloaded)) {
            let arrival = self.service.arrival();
            let (read, item) = self.item(id, ask, times, arrival.came);
            self.join(read, item, arrival);
            return None;
        }
        self.bytes -= bytes;
        self.under_way -= 1;
        let outcome = made.hand_over(last);
        if matches!(outcome.look(), Err(Failure::Denied)) && self.service.shuts_out(&self.caller) {
            self.end_with(Failure::Denied);
        }
        Some(PipelineAnswer { id, outcome })
    }
}

impl<S> Stream for Answers<S>
where
    S: Stream<Item = Result<PipelineItem, Failure>>,
{
    type Item = Result<PipelineAnswer, Failure>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.get_mut();
        loop {
            while let Some(through) = this.done.pop_front() {
                if let Some(answer) = this.hand_over(through) {
                    return Poll::Ready(Some(Ok(answer)));
                }
            }
            this.take_in(cx);
            this.read_together(cx);
            if this.answer_next(cx).is_none() {
                let over = this.items.is_none() && this.under_way == 0;
                return if over { Poll::Ready(this.end.take().map(Err)) } else { Poll::Pending };
            }
        }
    }
}
