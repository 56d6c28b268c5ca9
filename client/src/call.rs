//! The client, and the one way that every call goes: pick a node, send, judge what came back, go on or stop.

use crate::channel::{Borrowed, Line};
use crate::config::{Config, Endpoint};
use crate::dated::Dated;
use crate::error::{Attempt, Error};
use crate::journey::{Journey, Next};
use crate::tls;
use crate::trunk::Trunk;
use bytes::Bytes;
use claviger_proto::v1::ReadOptions;
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;
use tokio::time::timeout;
use tonic::{Request, Response, Status, transport::Channel};

/// How much longer than we wait the server is told to work at most, in milliseconds: our own deadline is to strike first.
const GRACE_MS: u64 = 100;

/// The way to a cluster. Cheap to clone; clones share connections and the newest revision seen.
#[derive(Clone)]
pub struct Client {
    shared: Arc<Shared>,
    /// The one node that may be asked, or all of them.
    only: Option<usize>,
}

struct Shared {
    lines: Vec<Line>,
    tls: tls::Credentials,
    deadline: Duration,
    connect: Duration,
    /// The newest revision that any answer had.
    seen: AtomicU64,
    /// The node that answered last.
    preferred: AtomicUsize,
    trunk: Trunk,
}

/// Whether a call may be sent twice.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Repeat {
    /// A reading, or a change that carries its request id.
    Always,
    /// Only while it is certain that no node has done anything.
    Unsent,
}

impl Client {
    /// Reads the files; connects to nobody yet. The first node that is asked is drawn by lot, so that many clients spread;
    /// from then on it is the one that answered last.
    pub fn new(config: &Config) -> Result<Self, Error> {
        let lines: Vec<Line> = config.endpoints.as_slice().iter().cloned().map(Line::new).collect();
        let first = usize::from(draw::<1>()[0]) % lines.len();
        let shared = Shared {
            lines,
            tls: tls::credentials(&config.files, config.domain.as_deref())?,
            deadline: config.deadline,
            connect: config.connect,
            seen: AtomicU64::new(0),
            preferred: AtomicUsize::new(first),
            trunk: Trunk::new(),
        };
        Ok(Client { shared: Arc::new(shared), only: None })
    }

    /// The URI in the caller's own certificate.
    pub fn identity(&self) -> &str {
        &self.shared.tls.identity
    }

    /// The newest revision that an answer to this client, or to a clone of it, reflected.
    pub fn revision(&self) -> u64 {
        self.shared.seen.load(Ordering::Acquire)
    }

    /// From here on no answer reflects less than `revision`: for one that another program has seen. A revision that the
    /// cluster never had makes calls fail, by `INVALID_ARGUMENT`.
    pub fn at_least(&self, revision: u64) {
        self.saw(revision);
    }

    /// One client for each node that this one may ask, in the order of the configuration: for what is about a single node.
    pub fn each(&self) -> Vec<(Endpoint, Client)> {
        let one =
            |i: usize| (self.shared.lines[i].endpoint.clone(), Client { shared: self.shared.clone(), only: Some(i) });
        self.choices().into_iter().map(one).collect()
    }

    /// Sends `ask` by `send` to one node after the other until one answers, all have the same to say, or time is up.
    pub(crate) async fn call<Ask, Answer, Send, Sent>(
        &self,
        repeat: Repeat,
        ask: Ask,
        send: Send,
    ) -> Result<Answer, Error>
    where
        Ask: Clone,
        Answer: Dated,
        Send: Fn(Channel, Request<Ask>) -> Sent,
        Sent: Future<Output = Result<Response<Answer>, Status>>,
    {
        self.call_for(self.shared.deadline, repeat, ask, send).await
    }

    /// As [`Client::call`], with a deadline of its own.
    pub(crate) async fn call_for<Ask, Answer, Send, Sent>(
        &self,
        deadline: Duration,
        repeat: Repeat,
        ask: Ask,
        send: Send,
    ) -> Result<Answer, Error>
    where
        Ask: Clone,
        Answer: Dated,
        Send: Fn(Channel, Request<Ask>) -> Sent,
        Sent: Future<Output = Result<Response<Answer>, Status>>,
    {
        let mut journey = Journey::begin(self.choices(), deadline, repeat);
        loop {
            let (index, limit) = match journey.next().await {
                Next::Ask { index, limit } => (index, limit),
                Next::GiveUp(error) => return Err(error),
            };
            match self.attempt(index, limit, repeat, &ask, &send).await {
                Ok(answer) => return Ok(self.note(index, answer)),
                Err(attempt) => journey.came_to(&self.shared.lines[index].endpoint, attempt)?,
            }
        }
    }

    pub(crate) async fn attempt<Ask, Answer, Send, Sent>(
        &self,
        index: usize,
        limit: Duration,
        repeat: Repeat,
        ask: &Ask,
        send: &Send,
    ) -> Result<Answer, Attempt>
    where
        Ask: Clone,
        Send: Fn(Channel, Request<Ask>) -> Sent,
        Sent: Future<Output = Result<Response<Answer>, Status>>,
    {
        let line = &self.shared.lines[index];
        let connection = self.connection(line, limit, repeat).await?;
        let mut request = Request::new(ask.clone());
        request.set_timeout(limit + Duration::from_millis(GRACE_MS));
        let outcome = match timeout(limit, send(connection.channel.clone(), request)).await {
            Ok(Ok(response)) => return Ok(response.into_inner()),
            Ok(Err(status)) => Attempt::of(&status),
            Err(_) => Attempt::late(),
        };
        if outcome.broke_the_connection() {
            line.discard(&connection).await;
        }
        Err(outcome)
    }

    /// A connection that is not kept for a call that may not be sent twice: a kept one may be dead without our knowing.
    async fn connection(&self, line: &Line, limit: Duration, repeat: Repeat) -> Result<Borrowed, Attempt> {
        let limit = limit.min(self.shared.connect);
        let opened = match repeat {
            Repeat::Always => line.open(&self.shared.tls.config, limit).await,
            Repeat::Unsent => line.open_anew(&self.shared.tls.config, limit).await,
        };
        opened.map_err(|failure| Attempt::unconnected(&failure))
    }

    fn note<Answer: Dated>(&self, index: usize, answer: Answer) -> Answer {
        self.saw(answer.revision());
        self.shared.preferred.store(index, Ordering::Relaxed);
        answer
    }

    /// Takes note of a revision that an answer reflected.
    pub(crate) fn saw(&self, revision: u64) {
        self.shared.seen.fetch_max(revision, Ordering::AcqRel);
    }

    /// How long one logical call may take.
    pub(crate) fn deadline(&self) -> Duration {
        self.shared.deadline
    }

    /// What many calls share.
    pub(crate) fn trunk(&self) -> &Trunk {
        &self.shared.trunk
    }

    /// Whether it asks one node only.
    pub(crate) fn is_of_one_node(&self) -> bool {
        self.only.is_some()
    }

    /// Indexes of the nodes that may be asked, the one that answered last first.
    pub(crate) fn choices(&self) -> Vec<usize> {
        if let Some(index) = self.only {
            return vec![index];
        }
        let count = self.shared.lines.len();
        let first = self.shared.preferred.load(Ordering::Relaxed);
        (0..count).map(|step| (first + step) % count).collect()
    }

    /// Read options that never ask for less than what this client has seen.
    pub(crate) fn fresh_enough(&self, asked: Option<ReadOptions>) -> Option<ReadOptions> {
        let mut read = asked.unwrap_or_default();
        read.min_revision = read.min_revision.max(self.revision());
        Some(read)
    }
}

/// The caller's request id, or a new one: made once for a logical call, and kept over its repetitions.
pub(crate) fn request_id(given: Bytes) -> Bytes {
    if given.is_empty() { Bytes::copy_from_slice(&draw::<16>()) } else { given }
}

/// `N` random bytes from the TLS provider's generator.
pub(crate) fn draw<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    let generator = rustls::crypto::aws_lc_rs::default_provider().secure_random;
    generator.fill(&mut bytes).expect("the system has randomness");
    bytes
}
