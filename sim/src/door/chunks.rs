//! The door for streams of chunks: pieces go into the core service as a caller sends them, and each chunk is noted the
//! moment that it is handed over.

use super::{handed, paged};
use crate::history::Moment;
use crate::house::{House, Life};
use crate::papers::Guest;
use crate::promises::Promise;
use claviger_core::envelope::StreamHeader;
use claviger_core::failure::{Failure, Why};
use claviger_core::page::OutcomeWord;
use claviger_core::policy::Operation;
use claviger_core::secret::SecretBytes;
use claviger_server::service::{ChunkCourse, Chunks, DecryptStreamAsk, EncryptStreamAsk, Piece, StreamStart};
use futures_util::{Stream, StreamExt, stream};
use parking_lot::Mutex;
use std::pin::Pin;
use std::sync::Arc;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender};
use tokio::task::JoinHandle;

/// What a stream is about.
pub enum ChunkAsk {
    /// To be sealed.
    Seal(EncryptStreamAsk),
    /// To be opened.
    Open(DecryptStreamAsk),
}

/// An open stream, as its caller has it.
pub struct ChunkLine {
    /// What is sent. Dropped, it half-closes.
    pub pieces: UnboundedSender<Vec<u8>>,
    /// What comes back.
    pub heard: UnboundedReceiver<Heard>,
    /// What the node does for it.
    pub serving: JoinHandle<()>,
}

impl ChunkLine {
    /// The connection breaks: the node drops what it is at.
    pub fn break_off(&self) {
        self.serving.abort();
    }
}

/// What comes back.
pub enum Heard {
    /// It was begun.
    Begun {
        /// What stands before the chunks.
        header: Box<StreamHeader>,
        /// The revision that the opening rests on.
        revision: u64,
    },
    /// A chunk.
    Chunk {
        /// Sealed or opened.
        bytes: Vec<u8>,
        /// When the node had all of it.
        received: Moment,
        /// When the node handed over what it made of it.
        handed: Moment,
    },
    /// The end: whole, where there is no failure.
    End {
        /// When the node had all that it made an end with.
        received: Moment,
        /// When the node said so.
        handed: Moment,
        /// Why, where it is not whole.
        why: Option<Failure>,
    },
}

/// What a node has taken of a stream: how many bytes by when, and the number of the page that came next at the newest.
struct Intake {
    taken: Vec<(usize, Moment)>,
    next_page: u64,
}

impl Intake {
    /// When it had so many bytes; where it never had, when the newest came.
    fn had(&self, bytes: usize) -> Moment {
        let last = self.taken.last().expect("it begins with nothing");
        self.taken.iter().find(|(sum, _)| *sum >= bytes).unwrap_or(last).1
    }

    /// When the newest came, and the number of the page that came next then.
    fn newest(&self) -> (Moment, u64) {
        (self.had(usize::MAX), self.next_page)
    }
}

/// Who serves a stream: the cluster, a node of it in one life, and whom.
pub(super) type Host = (Arc<House>, Life, Guest);
/// The node's ends of a line.
pub(super) type Ends = (UnboundedReceiver<Vec<u8>>, UnboundedSender<Heard>);

/// Serves one stream on a node until its end, or until the caller leaves.
pub(super) async fn serve<L>(host: Host, ask: ChunkAsk, ends: Ends, look: L)
where
    L: Fn(&Life, &StreamHeader) + Send,
{
    match ask {
        ChunkAsk::Seal(ask) => pass(host, (Operation::EncryptStream, ask), ends, look).await,
        // The header is one that somebody else has made.
        ChunkAsk::Open(ask) => pass(host, (Operation::DecryptStream, ask), ends, |_, _| ()).await,
    }
}

async fn pass<A: StreamStart, L>(host: Host, (operation, ask): (Operation, A), ends: Ends, look: L)
where
    L: Fn(&Life, &StreamHeader) + Send,
{
    let (house, life, _) = &host;
    let begun = (0, house.trace.moment());
    let intake = Arc::new(Mutex::new(Intake { taken: vec![begun], next_page: life.node.next_page() }));
    let (frames, heard) = ends;
    let pieces = pieces((house.clone(), life.clone()), ask, frames, intake.clone());
    let chunks = match open(&host, operation, pieces).await {
        Ok(chunks) => chunks,
        Err(why) => {
            let (received, handed) = (begun.1, house.trace.moment());
            // Nobody there: whoever left hears nothing.
            heard.send(Heard::End { received, handed, why: Some(why) }).ok();
            return;
        }
    };
    look(life, chunks.header());
    let (header, revision) = (Box::new(*chunks.header()), chunks.revision());
    heard.send(Heard::Begun { header, revision }).ok();
    hand_over::<A>(&host, chunks, &intake, &heard).await;
}

async fn open<A: StreamStart>(
    (house, life, guest): &Host,
    operation: Operation,
    pieces: Pieces<A>,
) -> Result<Chunks<A::Course, Pieces<A>>, Failure> {
    let (next, service) = (life.node.next_page(), life.node.service());
    let visit = service.visit(Some(&guest.der), operation);
    let answer = match visit.known() {
        Ok(visit) => service.open_chunks(visit, pieces).await,
        Err(why) => Err(why),
    };
    paged(house, life, guest, (operation, next), visit.close(answer).await)
}

type Pieces<A> = Pin<Box<dyn Stream<Item = Result<Piece<A>, Failure>> + Send>>;

/// What the caller sends, noted the moment that the node takes it.
fn pieces<A: StreamStart>(
    (house, life): (Arc<House>, Life),
    ask: A,
    frames: UnboundedReceiver<Vec<u8>>,
    intake: Arc<Mutex<Intake>>,
) -> Pieces<A> {
    let rest = stream::unfold(frames, move |mut frames| {
        let (house, life, intake) = (house.clone(), life.clone(), intake.clone());
        async move {
            let piece = frames.recv().await;
            let mut intake = intake.lock();
            let sum = intake.taken.last().map_or(0, |(sum, _)| *sum) + piece.as_ref().map_or(0, Vec::len);
            intake.taken.push((sum, house.trace.moment()));
            intake.next_page = life.node.next_page();
            Some((Ok(Piece::Bytes(SecretBytes::take(piece?))), frames))
        }
    });
    Box::pin(stream::once(std::future::ready(Ok(Piece::Start(ask)))).chain(rest))
}

async fn hand_over<A: StreamStart>(
    host: &Host,
    chunks: Chunks<A::Course, Pieces<A>>,
    intake: &Mutex<Intake>,
    heard: &UnboundedSender<Heard>,
) {
    let (house, mut answers, mut count) = (&host.0, Box::pin(chunks.answers()), 0);
    let mut why = None;
    while let Some(answer) = answers.next().await {
        match answer {
            Ok(bytes) => {
                count += 1;
                let received = intake.lock().had(count * <A::Course>::CHUNK_BYTES);
                let bytes = bytes.expose().to_vec();
                heard.send(Heard::Chunk { bytes, received, handed: house.trace.moment() }).ok();
            }
            Err(failure) => why = Some(failure),
        }
    }
    let (received, next) = intake.lock().newest();
    written_down(host, <A::Course>::CHUNK, (count as u64, next), &why);
    heard.send(Heard::End { received, handed: house.trace.moment(), why }).ok();
}

/// A stream that ended has its pages: its chunks are counted, and an end that was none has one of its own. What the caller
/// hears of an end that was overtaken, by a seal or by its age, is not what the page says.
fn written_down((house, life, guest): &Host, chunk: Operation, (count, next): (u64, u64), why: &Option<Failure>) {
    if let Some(Failure::Broken(cause)) = why {
        house.board.broke(Promise::Sound, format!("node {} ends a stream of chunks with: {cause}", life.id));
    }
    if matches!(why, Some(Failure::Unavailable(Why::BookFull))) {
        return;
    }
    let pages = life.node.pages_from(next);
    if count > 0 {
        house.audit.items_answered(&handed(house, life, guest, chunk, OutcomeWord::Ok), count, &pages);
    }
    let overtaken = matches!(why, Some(Failure::Unavailable(Why::Overloaded | Why::Sealed)));
    if let (Some(why), false) = (why, overtaken) {
        let outcome = OutcomeWord::of(&Err::<(), _>(why.clone()));
        house.audit.answered(&handed(house, life, guest, chunk, outcome), &pages);
    }
}
