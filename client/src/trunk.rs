//! The trunk: one `Pipeline` stream that the calls of a client share while many are under way.
//!
//! The rule: a call that uses a key, and that comes while [`TRUNK_CALLS_MIN`] or more of them are under way in its client, goes
//! on the trunk if one is open; else the trunk is opened beside, and no call waits for that. A call that has no answer
//! from the trunk after a third of its time, or one that says to ask elsewhere, is made as a call of its own in the time that is
//! left. So no call fails because of the trunk, and a node that does not know `Pipeline` is merely asked call by call.

use crate::call::{Client, Repeat};
use crate::dated::Dated;
use crate::error::{Attempt, Error};
use crate::pipeline::{Ends, open};
use claviger_proto::v1::{self, pipeline_request::Ask, pipeline_response::Outcome};
use std::collections::HashMap;
use std::future::Future;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio::time::{Instant, timeout};
use tonic::{Request, Response, Status, Streaming, transport::Channel};

/// Calls under way in one client from which on they share a stream: with fewer a stream saves nothing.
const TRUNK_CALLS_MIN: usize = 8;
/// Calls that are on the trunk at once, at most; as many as a node takes from one stream. Others wait for a place.
const TRUNK_CALLS_MAX: usize = 256;
/// Until a trunk is opened again that ended, or could not be opened, in milliseconds.
const PAUSE_MS: u64 = 1_000;
/// Likewise after a node said no, as one does that does not know `Pipeline`.
const REFUSED_PAUSE_MS: u64 = 60_000;

/// A use of a key that can go on a stream.
pub(crate) trait Item: Clone {
    type Answer: Dated;
    fn framed(self) -> Ask;
    /// None for an answer to something else.
    fn unframed(outcome: Outcome) -> Option<Self::Answer>;
}

/// The trunk of one client and its clones.
pub(crate) struct Trunk {
    under_way: AtomicUsize,
    state: Mutex<State>,
}

enum State {
    /// Not to be opened before then: it was just closed, or is being opened.
    ClosedUntil(Instant),
    Open(Arc<Exchange>),
}

/// An open stream, from its callers' side. The caller's half closes when the last of them lets go of it.
struct Exchange {
    frames: mpsc::Sender<v1::PipelineRequest>,
    waiting: Arc<Waiting>,
}

/// Who waits for which answer.
struct Waiting {
    places: Semaphore,
    calls: Mutex<Calls>,
}

#[derive(Default)]
struct Calls {
    next: u64,
    ended: bool,
    by_id: HashMap<u64, oneshot::Sender<Outcome>>,
}

/// One call's place among those who wait; given up with it, also by a caller who leaves.
struct Place<'a> {
    waiting: &'a Waiting,
    id: u64,
}

/// Ends everybody's waiting when nobody listens to the stream any more, for whatever reason.
struct Listening(Arc<Waiting>);

/// One more call under way, as long as it lives.
struct UnderWay<'a>(&'a Trunk);

impl Client {
    /// Makes a call that uses a key: on the trunk if there are many, else, or if that brings nothing, by `send`.
    pub(crate) async fn use_key<I, Send, Sent>(&self, ask: I, send: Send) -> Result<I::Answer, Error>
    where
        I: Item,
        Send: Fn(Channel, Request<I>) -> Sent,
        Sent: Future<Output = Result<Response<I::Answer>, Status>>,
    {
        let ends = Instant::now() + self.deadline();
        let (_under_way, many) = self.trunk().enter();
        if many
            && !self.is_of_one_node()
            && let Some(answer) = self.on_trunk(&ask).await
        {
            return answer;
        }
        self.call_for(ends.saturating_duration_since(Instant::now()), Repeat::Always, ask, send).await
    }

    /// What the trunk says to it; none if that is not final.
    async fn on_trunk<I: Item>(&self, ask: &I) -> Option<Result<I::Answer, Error>> {
        let exchange = self.exchange()?;
        let asked = timeout(self.deadline() / 3, exchange.ask(ask.clone().framed())).await;
        let answer = match asked {
            Ok(Some(Outcome::Error(item))) => match Attempt::of_item(&item) {
                Attempt::Final(error) => Some(Err(error)),
                Attempt::Elsewhere { .. } => None,
            },
            Ok(Some(outcome)) => I::unframed(outcome).map(Ok),
            Ok(None) | Err(_) => None,
        };
        match &answer {
            Some(Ok(answer)) => self.saw(answer.revision()),
            Some(Err(_)) => {}
            None => self.trunk().leave(&exchange),
        }
        answer
    }

    /// The trunk, if it is open; if it is closed and may be opened, somebody is sent to do so.
    fn exchange(&self) -> Option<Arc<Exchange>> {
        let now = Instant::now();
        let mut state = self.trunk().state();
        match &*state {
            State::Open(exchange) if !exchange.waiting.has_ended() => return Some(exchange.clone()),
            State::Open(_) => *state = closed_for(PAUSE_MS),
            State::ClosedUntil(then) if now < *then => {}
            State::ClosedUntil(_) => {
                *state = State::ClosedUntil(now + self.deadline() + Duration::from_millis(PAUSE_MS));
                tokio::spawn(self.clone().open_trunk());
            }
        }
        None
    }

    /// Opens it to the node that answered last.
    async fn open_trunk(self) {
        let Some(index) = self.choices().first().copied() else { return };
        let opened = self.attempt(index, self.deadline(), Repeat::Always, &(), &open).await;
        *self.trunk().state() = match opened {
            Ok(Ends(frames, answers)) => State::Open(Exchange::begin(frames, answers)),
            Err(Attempt::Final(_)) => closed_for(REFUSED_PAUSE_MS),
            Err(Attempt::Elsewhere { .. }) => closed_for(PAUSE_MS),
        };
    }
}

fn closed_for(pause_ms: u64) -> State {
    State::ClosedUntil(Instant::now() + Duration::from_millis(pause_ms))
}

impl Trunk {
    pub(crate) fn new() -> Self {
        Trunk { under_way: AtomicUsize::new(0), state: Mutex::new(State::ClosedUntil(Instant::now())) }
    }

    /// One more call, and whether they are many.
    fn enter(&self) -> (UnderWay<'_>, bool) {
        let before = self.under_way.fetch_add(1, Ordering::Relaxed);
        (UnderWay(self), before + 1 >= TRUNK_CALLS_MIN)
    }

    /// No new call goes on that stream. Those that are on it may still be answered.
    fn leave(&self, left: &Arc<Exchange>) {
        let mut state = self.state();
        if matches!(&*state, State::Open(exchange) if Arc::ptr_eq(exchange, left)) {
            *state = closed_for(PAUSE_MS);
        }
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        self.0.under_way.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Exchange {
    fn begin(frames: mpsc::Sender<v1::PipelineRequest>, answers: Streaming<v1::PipelineResponse>) -> Arc<Self> {
        let waiting = Arc::new(Waiting { places: Semaphore::new(TRUNK_CALLS_MAX), calls: Mutex::default() });
        tokio::spawn(Listening(waiting.clone()).listen(answers));
        Arc::new(Exchange { frames, waiting })
    }

    /// The answer; none when the stream ended before it came.
    async fn ask(&self, ask: Ask) -> Option<Outcome> {
        let _turn = self.waiting.places.acquire().await.ok()?;
        let (place, answer) = self.waiting.begin()?;
        self.frames.send(v1::PipelineRequest { id: place.id, ask: Some(ask) }).await.ok()?;
        answer.await.ok()
    }
}

impl Waiting {
    fn begin(&self) -> Option<(Place<'_>, oneshot::Receiver<Outcome>)> {
        let mut calls = self.calls();
        if calls.ended {
            return None;
        }
        let (id, (sender, receiver)) = (calls.next, oneshot::channel());
        calls.next += 1;
        calls.by_id.insert(id, sender);
        Some((Place { waiting: self, id }, receiver))
    }

    /// An answer to somebody who has left is passed over.
    fn came(&self, id: u64, outcome: Outcome) {
        if let Some(call) = self.calls().by_id.remove(&id) {
            call.send(outcome).ok();
        }
    }

    fn has_ended(&self) -> bool {
        self.calls().ended
    }

    fn calls(&self) -> std::sync::MutexGuard<'_, Calls> {
        self.calls.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.waiting.calls().by_id.remove(&self.id);
    }
}

impl Listening {
    async fn listen(self, mut answers: Streaming<v1::PipelineResponse>) {
        // An answer that says nothing which this release knows is the end too.
        while let Ok(Some(v1::PipelineResponse { id, outcome: Some(outcome) })) = answers.message().await {
            self.0.came(id, outcome);
        }
    }
}

impl Drop for Listening {
    fn drop(&mut self) {
        let mut calls = self.0.calls();
        calls.ended = true;
        calls.by_id.clear();
        drop(calls);
        self.0.places.close();
    }
}

/// How each request goes on a stream, and its answer comes off it.
macro_rules! items {
    ($($request:ident $word:ident $answer:ident),+) => {
        $(impl Item for v1::$request {
            type Answer = v1::$answer;
            fn framed(self) -> Ask {
                Ask::$word(self)
            }
            fn unframed(outcome: Outcome) -> Option<v1::$answer> {
                match outcome {
                    Outcome::$word(answer) => Some(answer),
                    _ => None, // a generated enum
                }
            }
        })+
    };
}

items!(EncryptRequest Encrypt EncryptResponse, DecryptRequest Decrypt DecryptResponse);
items!(ReEncryptRequest ReEncrypt ReEncryptResponse);
