//! A door of its own into the core service, as thin as the others: a visit is opened, asked, closed. What comes between
//! client and node is here too: the way there, the way back, and patience.

mod chunks;
mod stream;

pub use chunks::{ChunkAsk, ChunkLine, Heard};
pub use stream::{ItemVisited, Line};

use crate::dice::Dice;
use crate::history::Moment;
use crate::house::{House, Life};
use crate::papers::Guest;
use crate::promises::Promise;
use crate::promises::audit::Answered;
use crate::scene::Scene;
use claviger_core::envelope::StreamHeader;
use claviger_core::failure::{Failure, Why};
use claviger_core::name::NodeId;
use claviger_core::page::OutcomeWord;
use claviger_core::policy::Operation;
use claviger_server::service::{Audited, PipelineDone, Visit};
use claviger_world::disk::BoxFuture;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;

/// Longest that an operator waits for an answer: a hand-over takes its time.
const PATIENCE: Duration = Duration::from_secs(60);
/// How often an operator looks whether what was asked for has come about.
pub const LOOK: Duration = Duration::from_millis(500);

/// What a client knows of one visit in the end.
pub struct Visited<T> {
    /// Which node was asked.
    pub node: NodeId,
    /// When the node had the request; none when it never did.
    pub received: Option<Moment>,
    /// When the node handed its answer over.
    pub handed: Option<Moment>,
    /// The answer; none when it was lost, late, or the node died over it.
    pub answer: Option<Result<T, Failure>>,
    /// Whether the node served, also when the answer was lost on its way.
    pub served: bool,
}

/// Asks a node something, through the service that every door leads to.
pub struct Errand<'a> {
    /// The cluster.
    pub house: &'a Arc<House>,
    /// Who asks.
    pub guest: &'a Guest,
    /// What is asked.
    pub operation: Operation,
    /// Longest wait.
    pub patience: Duration,
    /// The dice of whoever asks.
    pub dice: &'a Dice,
}

impl<'a> Errand<'a> {
    /// An operator's.
    pub fn of_root(scene: &'a Scene, operation: Operation, dice: &'a Dice) -> Errand<'a> {
        Errand { house: &scene.house, guest: &scene.root, operation, patience: PATIENCE, dice }
    }
}

impl Errand<'_> {
    /// Goes to `node` and does `ask` there.
    pub async fn run<T, F>(&self, node: NodeId, ask: F) -> Visited<T>
    where
        T: Send + 'static,
        F: for<'v> FnOnce(Life, &'v Visit) -> BoxFuture<'v, Result<T, Failure>> + Send + 'static,
    {
        self.run_items(node, ask, |_| Vec::new()).await
    }

    /// As [`Errand::run`], for an answer that has items: what `items` says came of each is to be in a page.
    pub async fn run_items<T, F>(&self, node: NodeId, ask: F, items: ItemsOf<T>) -> Visited<T>
    where
        T: Send + 'static,
        F: for<'v> FnOnce(Life, &'v Visit) -> BoxFuture<'v, Result<T, Failure>> + Send + 'static,
    {
        let nothing = Visited { node, received: None, handed: None, answer: None, served: false };
        tokio::time::sleep(self.hop()).await;
        let Some(life) = self.house.life(node) else { return nothing };
        let received = self.house.trace.moment();
        let visiting = visit(self.house.clone(), life.clone(), self.guest.clone(), self.operation, ask, items);
        let mut visiting = life.context.spawn(visiting);
        let visited = tokio::time::timeout(self.patience, &mut visiting).await;
        let nothing = Visited { received: Some(received), ..nothing };
        match visited {
            Ok(Ok((handed, answer))) => {
                let served = answer.is_ok();
                tokio::time::sleep(self.hop()).await;
                let lost = self.dice.once_in(self.house.plan.answer_lost_once_in);
                let answer = if lost { None } else { Some(answer) };
                Visited { handed: Some(handed), answer, served, ..nothing }
            }
            Ok(Err(_)) => nothing,
            // A caller who leaves cancels: the node drops the request.
            Err(_) => {
                visiting.abort();
                nothing
            }
        }
    }

    /// Opens a stream at `node`. On the node, `look` sees what it answers an item with, the moment it is handed over. None
    /// when nobody is there.
    pub async fn open<L>(&self, node: NodeId, look: L) -> Option<Line>
    where
        L: Fn(&Life, u64, &PipelineDone) + Send + 'static,
    {
        tokio::time::sleep(self.hop()).await;
        let life = self.house.life(node)?;
        let (asks, frames) = mpsc::unbounded_channel();
        let (heard, answers) = mpsc::unbounded_channel();
        let serving = stream::serve(self.house.clone(), life.clone(), self.guest.clone(), (frames, heard), look);
        let serving = life.context.spawn(serving);
        Some(Line { asks, answers, serving })
    }

    /// Opens a stream of chunks at `node`. On the node, `look` sees the header of one that is sealed, when it is begun. None
    /// when nobody is there.
    pub async fn open_chunks<L>(&self, node: NodeId, ask: ChunkAsk, look: L) -> Option<ChunkLine>
    where
        L: Fn(&Life, &StreamHeader) + Send + 'static,
    {
        tokio::time::sleep(self.hop()).await;
        let life = self.house.life(node)?;
        let (pieces, frames) = mpsc::unbounded_channel();
        let (hears, heard) = mpsc::unbounded_channel();
        let host = (self.house.clone(), life.clone(), self.guest.clone());
        let serving = life.context.spawn(chunks::serve(host, ask, (frames, hears), look));
        Some(ChunkLine { pieces, heard, serving })
    }

    /// How long something takes on its way to a node, or back.
    pub fn hop(&self) -> Duration {
        Duration::from_micros(self.dice.roll(100..3_000))
    }
}

/// What came of each item of an answer, and as which call it is written down.
type ItemsOf<T> = fn(&T) -> Vec<(Operation, OutcomeWord)>;

async fn visit<T, F>(
    house: Arc<House>,
    life: Life,
    guest: Guest,
    operation: Operation,
    ask: F,
    items: ItemsOf<T>,
) -> (Moment, Result<T, Failure>)
where
    F: for<'v> FnOnce(Life, &'v Visit) -> BoxFuture<'v, Result<T, Failure>>,
{
    let next = life.node.next_page();
    let visit = life.node.service().visit(Some(&guest.der), operation);
    let answer = match visit.known() {
        Ok(visit) => ask(life.clone(), visit).await,
        Err(why) => Err(why),
    };
    if let Err(Failure::Broken(cause)) = &answer {
        house.board.broke(Promise::Sound, format!("node {} answers {operation:?} with: {cause}", life.id));
    }
    let answer = paged(&house, &life, &guest, (operation, next), visit.close(answer).await);
    if let Ok(answer) = &answer {
        items_paged(&house, &life, &guest, next, &items(answer));
    }
    (house.trace.moment(), answer)
}

/// No page, no answer: looked at the moment an answer is handed over. `asked`: as which call, and the number of the page
/// that came next then. Sealing is never refused for it, and a book that cannot be written refuses everything else.
fn paged<T>(
    house: &House,
    life: &Life,
    guest: &Guest,
    asked: (Operation, u64),
    audited: Audited<Result<T, Failure>>,
) -> Result<T, Failure> {
    let ((operation, next), written) = (asked, audited.written());
    let answer = audited.into_inner();
    let seals = matches!(operation, Operation::SealNode | Operation::SealAll);
    let unwritten = seals && life.node.book_failed();
    if unwritten || matches!(answer, Err(Failure::Unavailable(Why::BookFull))) {
        return answer;
    }
    house.board.expect(Promise::Audit, says_the_same(&answer, written), || {
        format!("node {} answers {operation:?} with {}, and its page says {written}", life.id, OutcomeWord::of(&answer))
    });
    house.audit.answered(&handed(house, life, guest, operation, written), &life.node.pages_from(next));
    answer
}

/// Whether the caller hears what the page says. An answer that was overtaken after its page was written, by its age or by
/// a seal, is not handed over, and the caller hears why.
fn says_the_same<T>(answer: &Result<T, Failure>, written: OutcomeWord) -> bool {
    let overtaken = matches!(answer, Err(Failure::Unavailable(Why::Overloaded | Why::Sealed)));
    overtaken || OutcomeWord::of(answer) == written
}

/// No item without a page: items that are alike may share one, which counts them.
fn items_paged(house: &House, life: &Life, guest: &Guest, next: u64, items: &[(Operation, OutcomeWord)]) {
    let pages = life.node.pages_from(next);
    for (nth, (operation, outcome)) in items.iter().enumerate() {
        let alike = |of: &[(Operation, OutcomeWord)]| of.iter().filter(|one| **one == (*operation, *outcome)).count();
        if alike(&items[..nth]) == 0 {
            let count = alike(items) as u64;
            house.audit.items_answered(&handed(house, life, guest, *operation, *outcome), count, &pages);
        }
    }
}

fn handed<'a>(
    house: &House,
    life: &Life,
    guest: &'a Guest,
    operation: Operation,
    outcome: OutcomeWord,
) -> Answered<'a> {
    let (caller, strict, at) = (&guest.identity, house.plan.strict_audit, house.trace.elapsed());
    Answered { node: life.id, life: life.number, caller, operation, outcome, strict, at }
}
