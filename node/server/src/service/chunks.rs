//! Streams of chunks: a plaintext of any size, sealed or opened while it passes by.
//!
//! Pieces of any size come in, chunks of one size are cut from them, and a few at a time are worked on: all that have come
//! share one reading, which is made after they came, and by which rights and the state of the key are looked at anew. What
//! was made is handed over only while that reading is young, else it is looked at once more. So a revocation that was
//! acknowledged stops a stream at its next chunk. A stream holds no key, and a few chunks at most.
//!
//! The opening has a page. The chunks have one together, which counts them, written before the last is handed over or when
//! the stream ends otherwise.

use super::berths::Berth;
use super::crypto::ATTEMPTS_MAX;
use super::idle::{Touched, Watched};
use super::items::Keys;
use super::judge::Judge;
use super::{ReadAsk, Reading, Service, Visit};
pub use crate::keyring::ChunkCourse;
use crate::keyring::{self, StreamKey};
use claviger_core::envelope::{Context, Cutter, StreamHeader, StreamOpener, StreamSealer};
use claviger_core::failure::{Cause, Failure, Refused, Why};
use claviger_core::name::KeyName;
use claviger_core::planted;
use claviger_core::policy::Caller;
use claviger_core::secret::SecretBytes;
use claviger_world::disk::BoxFuture;
use claviger_world::runtime;
use futures_util::future::{Either, select};
use futures_util::{FutureExt, Stream, StreamExt, stream};
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

/// Longest piece that a caller sends, in bytes.
pub const PIECE_BYTES_MAX: usize = 131_072;
/// How long a stream may go without a piece and without an answer being read, in milliseconds.
pub const STREAM_IDLE_MS_MAX: u64 = 300_000;
/// Chunks that are worked on by one reading, but for those of the piece that makes them so many.
const CHUNKS_AT_ONCE: usize = 8;

/// What a caller sends: first what it is about, then bytes.
pub enum Piece<A> {
    /// What it is about.
    Start(A),
    /// The next bytes, in pieces of any size.
    Bytes(SecretBytes),
}

/// A stream to be sealed.
pub struct EncryptStreamAsk {
    /// With which key.
    pub name: KeyName,
    /// Authenticated with every chunk.
    pub context: Context,
    /// At least this revision.
    pub min_revision: u64,
}

/// A stream to be opened.
pub struct DecryptStreamAsk {
    /// With which key.
    pub name: KeyName,
    /// As it was sealed with.
    pub context: Context,
    /// The first 112 bytes of it. The pieces bring the rest.
    pub header: Vec<u8>,
    /// At least this revision.
    pub min_revision: u64,
}

/// What begins a stream of chunks.
pub trait StreamStart: Send + Sync + 'static {
    /// What is begun.
    type Course: ChunkCourse + 'static;
    /// The key.
    fn name(&self) -> &KeyName;
    /// At least this revision.
    fn min_revision(&self) -> u64;
    /// Judges, and begins.
    #[doc(hidden)]
    fn begin(&self, judge: &Judge<'_>) -> Result<Self::Course, Failure>;
}

impl StreamStart for EncryptStreamAsk {
    type Course = StreamSealer;
    fn name(&self) -> &KeyName {
        &self.name
    }
    fn min_revision(&self) -> u64 {
        self.min_revision
    }
    fn begin(&self, judge: &Judge<'_>) -> Result<StreamSealer, Failure> {
        keyring::begin_sealing(judge.bench()?, judge.permit(self.name.clone())?, &self.context)
    }
}

impl StreamStart for DecryptStreamAsk {
    type Course = StreamOpener;
    fn name(&self) -> &KeyName {
        &self.name
    }
    fn min_revision(&self) -> u64 {
        self.min_revision
    }
    fn begin(&self, judge: &Judge<'_>) -> Result<StreamOpener, Failure> {
        keyring::begin_opening(judge.bench()?, judge.permit(self.name.clone())?, &self.header, &self.context)
    }
}

/// A stream that may begin.
pub struct Chunks<C, P> {
    service: Arc<Service>,
    caller: Caller,
    name: KeyName,
    header: StreamHeader,
    /// The revision that the opening rests on.
    revision: u64,
    /// Of the chunks; none once it is closed.
    visit: Option<Visit>,
    pieces: P,
    cutter: Option<Cutter>,
    /// None once the last chunk was worked on, or one failed.
    course: Option<C>,
    /// Chunks that wait to be handed over.
    made: VecDeque<SecretBytes>,
    stopping: BoxFuture<'static, ()>,
    touched: Touched,
    /// For a planted bug: the key of its first chunks.
    first_key: Option<Arc<StreamKey>>,
    _berth: Berth,
}

impl Service {
    /// Reads the first piece, and says whether the stream may begin.
    pub async fn open_chunks<A, P>(
        self: &Arc<Self>,
        visit: &Visit,
        mut pieces: P,
    ) -> Result<Chunks<A::Course, P>, Failure>
    where
        A: StreamStart,
        P: Stream<Item = Result<Piece<A>, Failure>> + Send + Unpin + 'static,
    {
        let first = runtime::timeout(self.config.request_wait, pieces.next()).await.map_err(|_| Why::Deadline)?;
        let Some(Piece::Start(ask)) = first.transpose()? else { return Err(NOT_STARTED) };
        visit.is_about(Keys::one(ask.name()));
        self.answered(visit.operation())?;
        let caller = visit.caller()?;
        let berth = self.berths.take(*caller.key_hash())?;
        for _ in 0..ATTEMPTS_MAX {
            let read = ReadAsk { min_revision: ask.min_revision(), allow_stale_ms: 0 };
            let reading = self.reading(read).await?;
            let course = ask.begin(&Judge::new(self, caller, &reading))?;
            if self.within(reading.age_limit()) {
                visit.rests_on(&reading);
                return Ok(self.chunks((caller.clone(), ask.name().clone()), course, &reading, pieces, berth));
            }
        }
        Err(Why::Overloaded.into())
    }

    fn chunks<C: ChunkCourse, P>(
        self: &Arc<Self>,
        (caller, name): (Caller, KeyName),
        course: C,
        reading: &Reading,
        pieces: P,
        berth: Berth,
    ) -> Chunks<C, P> {
        let visit = self.visit_of_chunks(&caller, C::CHUNK);
        visit.is_about(Keys::one(&name));
        let mut stopping = self.stopping.subscribe();
        let stopped = async move { stopping.until(|stops| stops.then_some(())).await };
        Chunks {
            service: self.clone(),
            caller,
            name,
            header: *course.header(),
            revision: reading.sequence(),
            visit: Some(visit),
            pieces,
            cutter: Some(Cutter::new(C::CHUNK_BYTES)),
            course: Some(course),
            made: VecDeque::new(),
            // The end of the service is a stop too.
            stopping: Box::pin(stopped.map(drop)),
            touched: Touched::now(),
            first_key: None,
            _berth: berth,
        }
    }
}

const NOT_STARTED: Failure = Failure::Refused(Refused::BadRequest("what the stream is about, first and once"));

impl<C, P> Chunks<C, P> {
    /// What stands before the chunks.
    pub fn header(&self) -> &StreamHeader {
        &self.header
    }

    /// The revision that the opening rests on.
    pub fn revision(&self) -> u64 {
        self.revision
    }
}

impl<C, P, A> Chunks<C, P>
where
    C: ChunkCourse + 'static,
    P: Stream<Item = Result<Piece<A>, Failure>> + Send + Unpin + 'static,
    A: StreamStart,
{
    /// The chunks, as they are made; a failure is the end. Whoever opens a stream knows only by an end without a failure
    /// that it was whole.
    pub fn answers(self) -> impl Stream<Item = Result<SecretBytes, Failure>> + Send + 'static {
        let touched = self.touched.clone();
        let answers = stream::unfold(Some(self), |chunks| async move {
            let mut chunks = chunks?;
            match chunks.next().await {
                Ok(Some(chunk)) => Some((Ok(chunk), Some(chunks))),
                Ok(None) => None,
                Err(why) => Some((Err(chunks.end(why).await), None)),
            }
        });
        Watched::new(answers, touched, Duration::from_millis(STREAM_IDLE_MS_MAX))
    }

    async fn next(&mut self) -> Result<Option<SecretBytes>, Failure> {
        if self.made.is_empty() {
            let Some(course) = self.course.take() else { return Ok(None) };
            let (chunks, last) = self.gather().await?;
            let key = self.judged().await?;
            let (made, course) = keyring::work(&key, course, &chunks, last.as_ref())?;
            (self.made, self.course) = (made.into(), course);
        }
        let Some(chunk) = self.made.pop_front() else { return Ok(None) };
        self.hand_over(chunk).await.map(Some)
    }

    /// Waits for a whole chunk, or for the end; takes with it what else has come, as far as there is room.
    async fn gather(&mut self) -> Result<(Vec<SecretBytes>, Option<SecretBytes>), Failure> {
        let mut chunks = Vec::new();
        while chunks.len() < CHUNKS_AT_ONCE {
            let piece = match chunks.is_empty() {
                true => self.piece().await?,
                false => match self.piece().now_or_never() {
                    Some(piece) => piece?,
                    None => break,
                },
            };
            match (piece, &mut self.cutter) {
                (Some(piece), Some(cutter)) => chunks.extend(cutter.feed(&piece)),
                (None, cutter) => return Ok((chunks, cutter.take().map(Cutter::rest))),
                (Some(_), None) => return Err(Cause("a stream went on behind its end").into()),
            }
        }
        Ok((chunks, None))
    }

    /// The next piece; none when the caller is through.
    async fn piece(&mut self) -> Result<Option<SecretBytes>, Failure> {
        let piece = match select(&mut self.stopping, self.pieces.next()).await {
            Either::Left(((), _)) => return Err(Why::Stopping.into()),
            Either::Right((piece, _)) => piece.transpose()?,
        };
        self.touched.touch();
        match piece {
            None => Ok(None),
            Some(Piece::Bytes(bytes)) => Ok(Some(bytes)),
            Some(Piece::Start(_)) => Err(NOT_STARTED),
        }
    }

    /// Looks at rights and at the state of the key, by a reading that is made now.
    async fn judged(&mut self) -> Result<Arc<StreamKey>, Failure> {
        self.visit().known()?;
        self.service.answered(C::CHUNK)?;
        let reading = self.service.reading(ReadAsk::default()).await?;
        let judge = || {
            let judge = Judge::new(&self.service, &self.caller, &reading);
            let permit = judge.permit::<C::Leave>(self.name.clone())?;
            keyring::stream_key(judge.bench()?, permit, &self.header).map(Arc::new)
        };
        let key = match self.first_key.clone().filter(|_| planted!(StreamRightsOnce)) {
            Some(first) => first,
            None => judge()?,
        };
        if planted!(StreamRightsOnce) {
            self.first_key = Some(key.clone());
        }
        self.visit().rests_on(&reading);
        Ok(key)
    }

    /// Hands a chunk over while the newest reading is young: else rights and key are looked at once more. Before the last
    /// one the page is written.
    async fn hand_over(&mut self, chunk: SecretBytes) -> Result<SecretBytes, Failure> {
        for _ in 0..ATTEMPTS_MAX {
            if self.visit().still_stands() {
                self.visit().chunk_came_through();
                return self.closed_with(chunk).await;
            }
            self.judged().await?;
        }
        Err(Why::Overloaded.into())
    }

    async fn closed_with(&mut self, chunk: SecretBytes) -> Result<SecretBytes, Failure> {
        if self.course.is_some() || !self.made.is_empty() {
            return Ok(chunk);
        }
        let visit = self.visit.take().expect("a stream ends once");
        visit.close(Ok(chunk)).await.into_inner()
    }

    /// Writes down how it ended, where that is not done yet.
    async fn end(&mut self, why: Failure) -> Failure {
        let Some(visit) = self.visit.take() else { return why };
        // Else a reason that came late would be told as another, by the age of the reading before it.
        visit.rests_on_nothing();
        let closed: Result<(), Failure> = visit.close(Err(why.clone())).await.into_inner();
        closed.err().unwrap_or(why)
    }

    fn visit(&self) -> &Visit {
        self.visit.as_ref().expect("open until the last chunk, or a failure")
    }
}
