//! Streams of items.

use super::*;
use crate::service::{Answers, EncryptAsk, ITEMS_TOGETHER, PIPELINE_ITEMS_MAX, PipelineAsk, PipelineItem, ReadAsk};
use claviger_core::envelope::Context;
use claviger_core::failure::{Failure, Refused};
use claviger_core::policy::Operation;
use claviger_core::secret::SecretBytes;
use claviger_proto::v1::{pipeline_request::Ask, pipeline_response::Outcome};
use futures_util::{Stream, StreamExt, stream};
use std::collections::BTreeSet;
use std::sync::atomic::AtomicUsize;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;

/// An open stream, as its caller has it.
struct Line {
    asks: mpsc::Sender<v1::PipelineRequest>,
    answers: Streaming<v1::PipelineResponse>,
}

impl Line {
    async fn open(house: &House, guest: &Guest) -> Result<Line, Status> {
        let (asks, frames) = mpsc::channel(16);
        let answers = house.crypto().pipeline(guest.asks(ReceiverStream::new(frames))).await?.into_inner();
        Ok(Line { asks, answers })
    }

    async fn send(&self, id: u64, ask: Ask) {
        self.asks.send(v1::PipelineRequest { id, ask: Some(ask) }).await.unwrap();
    }

    /// The next answer in words.
    async fn hear(&mut self) -> String {
        match self.answers.message().await {
            Ok(Some(answer)) => format!("{} {}", answer.id, word(answer.outcome.unwrap())),
            Ok(None) => "the end".into(),
            Err(status) => told(&status),
        }
    }

    async fn ask(&mut self, id: u64, ask: Ask) -> String {
        self.send(id, ask).await;
        self.hear().await
    }
}

fn word(outcome: Outcome) -> String {
    match outcome {
        Outcome::Encrypt(one) => format!("encrypted with {}", one.version),
        Outcome::Decrypt(one) => String::from_utf8(one.plaintext.to_vec()).unwrap(),
        Outcome::ReEncrypt(one) => format!("from {} to {}", one.source_version, one.version),
        Outcome::Error(error) => item_told(&error),
    }
}

#[test]
fn every_item_is_answered_by_its_id_and_the_stream_goes_on() {
    simulate(async {
        let house = House::found().await;
        let ciphertext = house.encrypt("a", b"in confidence").await.ciphertext;
        house.rotate("a").await;
        let from = house.node.next_page();
        let mut line = Line::open(&house, &house.app).await.unwrap();
        line.send(7, Ask::Encrypt(encrypt("a", b"x"))).await;
        line.send(3, Ask::Decrypt(decrypt("a", &ciphertext))).await;
        line.send(3, Ask::ReEncrypt(re_encrypt("a", &ciphertext, "b"))).await;
        line.send(0, Ask::Encrypt(encrypt("secret", b"x"))).await;
        line.send(u64::MAX, Ask::Decrypt(decrypt("b", &ciphertext))).await;
        line.send(1, Ask::Encrypt(encrypt("NO NAME", b"x"))).await;
        line.send(2, Ask::Encrypt(encrypt("absent", b"x"))).await;
        let mut heard = Vec::new();
        for _ in 0..7 {
            heard.push(line.hear().await);
        }
        heard.sort_unstable();
        assert_eq!(
            heard,
            [
                "0 PermissionDenied: denied",
                "1 InvalidArgument: bad_name",
                "18446744073709551615 InvalidArgument: undecryptable",
                "2 NotFound: not_found",
                "3 from 1 to 1",
                "3 in confidence",
                "7 encrypted with 2"
            ]
        );
        assert_eq!(line.ask(8, Ask::Encrypt(encrypt("a", b"y"))).await, "8 encrypted with 2");
        let mut pages = house.pages(from);
        assert_eq!((pages.remove(0), pages.pop().unwrap()), ("1 Pipeline of 0 ok".into(), "1 Encrypt of 1 ok".into()));
        pages.sort_unstable();
        assert_eq!(
            pages,
            [
                "1 Decrypt of 1 ok",
                "1 Decrypt of 1 undecryptable",
                "1 Encrypt of 0 bad_name",
                "1 Encrypt of 1 denied",
                "1 Encrypt of 1 not_found",
                "1 Encrypt of 1 ok",
                "1 ReEncrypt of 2 ok"
            ]
        );
    });
}

#[test]
fn items_that_are_alike_share_a_page_and_others_do_not() {
    simulate(async {
        let house = House::found().await;
        let Line { asks, answers } = Line::open(&house, &house.app).await.unwrap();
        let from = house.node.next_page();
        for (id, name) in ["a", "b", "a", "absent", "a", "secret", "b", "absent"].into_iter().enumerate() {
            let ask = Some(Ask::Encrypt(encrypt(name, b"x")));
            asks.send(v1::PipelineRequest { id: id as u64, ask }).await.unwrap();
        }
        drop(asks);
        assert_eq!(answers.count().await, 8);
        let pages = house.node.pages_from(from);
        let keys: BTreeSet<_> =
            pages.iter().map(|page| (page.resource.map(|tag| tag.tag), page.outcome.to_string())).collect();
        assert_eq!((pages.len(), keys.len()), (4, 4), "a page for each key, since here each has its outcome");
        let mut told = house.pages(from);
        told.sort_unstable();
        let all = ["1 Encrypt of 1 denied", "2 Encrypt of 1 not_found", "2 Encrypt of 1 ok", "3 Encrypt of 1 ok"];
        assert_eq!(told, all);
    });
}

#[test]
fn what_was_received_before_the_half_close_is_answered() {
    simulate(async {
        let house = House::found().await;
        let Line { asks, answers } = Line::open(&house, &house.app).await.unwrap();
        let sending = runtime::spawn(async move {
            for id in 0..1_000 {
                let ask = Some(Ask::Encrypt(encrypt("a", b"x")));
                asks.send(v1::PipelineRequest { id, ask }).await.unwrap();
            }
        });
        let mut ids: Vec<u64> = answers.map(|answer| answer.unwrap().id).collect().await;
        ids.sort_unstable();
        assert_eq!(ids, (0..1_000).collect::<Vec<_>>());
        sending.await.unwrap();
    });
}

#[test]
fn a_change_that_was_acknowledged_counts_for_the_next_item() {
    simulate(async {
        let house = House::found().await;
        let mut line = Line::open(&house, &house.app).await.unwrap();
        let item = || Ask::Encrypt(encrypt("a", b"x"));
        assert_eq!(line.ask(1, item()).await, "1 encrypted with 1");
        house.disable("a").await;
        assert_eq!(line.ask(2, item()).await, "2 FailedPrecondition: disabled");
        assert_eq!(line.ask(3, Ask::Encrypt(encrypt("b", b"x"))).await, "3 encrypted with 1");
        house.enable("a").await;
        house.rotate("a").await;
        assert_eq!(line.ask(4, item()).await, "4 encrypted with 2");
        house.seal().await;
        assert_eq!(line.ask(5, item()).await, "5 Unavailable: sealed", "the stream holds no keys open");
    });
}

#[test]
fn the_denial_of_a_certificate_ends_the_stream() {
    simulate(async {
        let house = House::found().await;
        let mut line = Line::open(&house, &house.app).await.unwrap();
        let item = || Ask::Encrypt(encrypt("a", b"x"));
        assert_eq!(line.ask(1, item()).await, "1 encrypted with 1");
        house.deny(&house.app).await;
        line.send(2, item()).await;
        line.send(3, item()).await;
        let mut heard = [line.hear().await, line.hear().await];
        heard.sort_unstable();
        assert_eq!(heard, ["2 PermissionDenied: denied", "3 PermissionDenied: denied"]);
        let denied = "PermissionDenied: denied: no role of yours allows this, or there is no such thing";
        assert_eq!(line.hear().await, denied);
        assert_eq!(told(&Line::open(&house, &house.app).await.err().unwrap()), denied);
    });
}

#[test]
fn a_frame_that_is_no_item_ends_the_stream_after_what_came_before() {
    simulate(async {
        let house = House::found().await;
        let mut line = Line::open(&house, &house.app).await.unwrap();
        line.send(1, Ask::Encrypt(encrypt("a", b"x"))).await;
        line.asks.send(v1::PipelineRequest { id: 2, ask: None }).await.unwrap();
        line.send(3, Ask::Encrypt(encrypt("a", b"x"))).await;
        assert_eq!(line.hear().await, "1 encrypted with 1");
        let wanted = "InvalidArgument: refused: bad request; wanted encrypt, decrypt or re_encrypt in every frame";
        assert_eq!(line.hear().await, wanted);
    });
}

#[test]
fn a_node_that_stops_answers_what_it_has_and_ends_the_stream() {
    simulate(async {
        let house = House::found().await;
        let mut line = Line::open(&house, &house.app).await.unwrap();
        assert_eq!(line.ask(1, Ask::Encrypt(encrypt("a", b"x"))).await, "1 encrypted with 1");
        house.node.end_streams();
        line.send(2, Ask::Encrypt(encrypt("a", b"x"))).await;
        assert_eq!(line.hear().await, "Unavailable: unavailable: the node is stopping; ask another");
    });
}

#[test]
fn who_may_use_no_key_opens_no_stream() {
    simulate(async {
        let house = House::found().await;
        let from = house.node.next_page();
        assert!(Line::open(&house, &house.admin).await.is_err());
        assert_eq!(house.pages(from), ["1 Pipeline of 0 denied"]);
    });
}

/// A stream past the gRPC door, of items of so many bytes without end; and how many of them were taken.
async fn endless(
    house: &House,
    bytes: usize,
    allow_stale_ms: u32,
) -> (Answers<impl Stream<Item = Result<PipelineItem, Failure>> + Send>, Arc<AtomicUsize>) {
    let service = house.node.service();
    let visit = service.visit(Some(&house.app.der), Operation::Pipeline);
    let opened = service.open_pipeline(visit.known().unwrap(), ()).await;
    let opened = visit.close(opened).await.into_inner().unwrap();
    let taken = Arc::new(AtomicUsize::new(0));
    let count = taken.clone();
    let items = stream::repeat_with(move || {
        let name = key("a").parse().unwrap();
        let plaintext = SecretBytes::take(vec![0; bytes]);
        let ask = EncryptAsk {
            name,
            plaintext,
            context: Context::empty(),
            read: ReadAsk { min_revision: 0, allow_stale_ms },
        };
        let id = count.fetch_add(1, Ordering::Relaxed) as u64;
        Ok(PipelineItem { id, ask: PipelineAsk::Encrypt(Ok(ask)) })
    });
    (service.pipeline(opened, items), taken)
}

#[test]
fn no_more_is_taken_than_the_bounds_allow() {
    simulate(async {
        let house = House::found().await;
        for (bytes, room) in [(0, PIPELINE_ITEMS_MAX), (65_536, 64)] {
            let (mut answers, taken) = endless(&house, bytes, 0).await;
            assert!(futures_util::poll!(answers.next()).is_pending(), "they wait for the barrier");
            assert_eq!(taken.load(Ordering::Relaxed), room);
            for answered in 1..=100 {
                let answer = answers.next().await.unwrap().unwrap();
                assert!(answer.outcome.into_inner().is_ok());
                assert!(taken.load(Ordering::Relaxed) <= room + answered);
            }
        }
    });
}

#[test]
fn what_grew_old_while_nobody_read_is_read_anew() {
    simulate(async {
        let house = House::found().await;
        let (mut answers, _) = endless(&house, 0, 0).await;
        assert!(futures_util::poll!(answers.next()).is_pending());
        runtime::sleep(Duration::from_millis(1_900)).await;
        assert!(futures_util::poll!(answers.next()).is_ready(), "by the round that they waited for");
        runtime::sleep(Duration::from_millis(200)).await;
        assert!(futures_util::poll!(answers.next()).is_pending(), "that round is too old by now");
        assert!(answers.next().await.unwrap().unwrap().outcome.into_inner().is_ok());
        house.disable("a").await;
        // What was done in one piece with the last answer was done before; then each is judged anew.
        let mut refused = 0;
        for _ in 0..ITEMS_TOGETHER {
            let answer = answers.next().await.unwrap().unwrap().outcome.into_inner();
            let disabled = matches!(answer, Err(Failure::Refused(Refused::Disabled)));
            assert!(disabled || (answer.is_ok() && refused == 0), "once refused, always refused");
            refused += usize::from(disabled);
        }
        assert!(refused > 0);
    });
}

#[test]
fn items_of_a_stream_that_is_gone_have_pages() {
    simulate(async {
        let house = House::found().await;
        let (mut answers, _) = endless(&house, 0, 0).await;
        let from = house.node.next_page();
        assert!(futures_util::poll!(answers.next()).is_pending());
        drop(answers);
        assert_eq!(house.pages(from), vec!["1 Encrypt of 1 deadline"; PIPELINE_ITEMS_MAX]);
        let (mut answers, _) = endless(&house, 0, 2_000).await;
        let from = house.node.next_page();
        assert!(answers.next().await.unwrap().unwrap().outcome.into_inner().is_ok());
        drop(answers);
        let done = vec![format!("{ITEMS_TOGETHER} Encrypt of 1 ok")];
        let late = vec!["1 Encrypt of 1 deadline".to_owned(); PIPELINE_ITEMS_MAX - ITEMS_TOGETHER];
        assert_eq!(house.pages(from), [done, late].concat(), "those too whose turn never came");
    });
}
