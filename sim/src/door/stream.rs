//! The door for streams: what a caller sends goes item by item into the core service, and each answer is looked at the
//! moment it is handed over, as that of a call of its own.

use super::paged;
use crate::history::Moment;
use crate::house::{House, Life};
use crate::papers::Guest;
use crate::promises::Promise;
use claviger_core::failure::Failure;
use claviger_core::policy::Operation;
use claviger_server::service::{Pipeline, PipelineAnswer, PipelineAsk, PipelineDone, PipelineItem};
use futures_util::{Stream, StreamExt, stream};
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::sync::Arc;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender};
use tokio::task::JoinHandle;

/// An open stream, as its caller has it. Dropped, it half-closes.
pub struct Line {
    /// What is asked, each under an id of its own.
    pub asks: UnboundedSender<PipelineItem>,
    /// What is answered, in any order.
    pub answers: UnboundedReceiver<ItemVisited>,
    pub(super) serving: JoinHandle<()>,
}

impl Line {
    /// The connection breaks: the node drops what it is at.
    pub fn break_off(self) {
        self.serving.abort();
    }
}

/// What a node did with one item.
pub struct ItemVisited {
    /// Of the item.
    pub id: u64,
    /// When the node took it.
    pub received: Moment,
    /// When the node handed its answer over.
    pub handed: Moment,
    /// The answer, with the revision that it rests on.
    pub answer: Result<(PipelineDone, u64), Failure>,
}

/// Items that a node has taken and not answered: when, as which call, and the number of the page that came next.
#[derive(Default)]
struct Taken(Mutex<BTreeMap<u64, (Moment, Operation, u64)>>);

type Ends = (UnboundedReceiver<PipelineItem>, UnboundedSender<ItemVisited>);

/// Serves one stream on a node until the caller leaves or the node has had enough.
pub(super) async fn serve<L>(house: Arc<House>, life: Life, guest: Guest, (frames, heard): Ends, look: L)
where
    L: Fn(&Life, u64, &PipelineDone) + Send + 'static,
{
    let Ok(pipeline) = open(&house, &life, &guest).await else { return };
    let taken = Arc::new(Taken::default());
    let items = items(house.clone(), life.clone(), frames, taken.clone());
    let mut answers = life.node.service().pipeline(pipeline, items);
    while let Some(Ok(PipelineAnswer { id, outcome })) = answers.next().await {
        let Some((received, operation, next)) = taken.0.lock().remove(&id) else { continue };
        // An item has a page of its own, as every attempt.
        let answer = paged(&house, &life, &guest, (operation, next), outcome);
        if let Err(Failure::Broken(cause)) = &answer {
            house.board.broke(Promise::Sound, format!("node {} answers {operation:?} with: {cause}", life.id));
        }
        if let Ok((done, _)) = &answer {
            look(&life, id, done);
        }
        let visited = ItemVisited { id, received, handed: house.trace.moment(), answer };
        if heard.send(visited).is_err() {
            return;
        }
    }
}

async fn open(house: &House, life: &Life, guest: &Guest) -> Result<Pipeline, Failure> {
    let (next, service) = (life.node.next_page(), life.node.service());
    let visit = service.visit(Some(&guest.der), Operation::Pipeline);
    let answer = match visit.known() {
        Ok(visit) => service.open_pipeline(visit, ()).await,
        Err(why) => Err(why),
    };
    paged(house, life, guest, (Operation::Pipeline, next), visit.close(answer).await)
}

/// What the caller sends, noted the moment that the node takes it.
fn items(
    house: Arc<House>,
    life: Life,
    frames: UnboundedReceiver<PipelineItem>,
    taken: Arc<Taken>,
) -> impl Stream<Item = Result<PipelineItem, Failure>> + Send {
    stream::unfold(frames, move |mut frames| {
        let (house, life, taken) = (house.clone(), life.clone(), taken.clone());
        async move {
            let item = frames.recv().await?;
            let operation = match &item.ask {
                PipelineAsk::Encrypt(_) => Operation::Encrypt,
                PipelineAsk::Decrypt(_) => Operation::Decrypt,
                PipelineAsk::ReEncrypt(_) => Operation::ReEncrypt,
            };
            let noted = (house.trace.moment(), operation, life.node.next_page());
            taken.0.lock().insert(item.id, noted);
            Some((Ok(item), frames))
        }
    })
}
