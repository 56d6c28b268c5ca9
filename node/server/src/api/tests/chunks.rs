//! Streams of chunks.

use super::*;
use crate::service::{EncryptStreamAsk, PIECE_BYTES_MAX, Piece, STREAM_IDLE_MS_MAX};
use claviger_core::envelope::{CHUNK_BYTES, Context, OVERHEAD_BYTES, SEALED_CHUNK_BYTES, STREAM_HEADER_BYTES};
use claviger_core::failure::{Failure, Refused, Why};
use claviger_core::policy::Operation;
use claviger_core::secret::SecretBytes;
use claviger_proto::v1::{decrypt_stream_request as to_open, decrypt_stream_response as opened};
use claviger_proto::v1::{encrypt_stream_request as to_seal, encrypt_stream_response as sealed};
use futures_util::{Stream, StreamExt, stream};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;

fn text(bytes: usize) -> Vec<u8> {
    (0..bytes).map(|i| (i % 251) as u8).collect()
}

fn start(name: &str, context: &[(&str, &str)]) -> v1::EncryptStreamRequest {
    let start = v1::EncryptStreamStart { name: key(name), context: pairs(context), min_revision: 0 };
    v1::EncryptStreamRequest { part: Some(to_seal::Part::Start(start)) }
}

fn plaintext(bytes: &[u8]) -> v1::EncryptStreamRequest {
    v1::EncryptStreamRequest { part: Some(to_seal::Part::Plaintext(bytes.to_vec().into())) }
}

fn start_opening(name: &str, context: &[(&str, &str)], header: &[u8]) -> v1::DecryptStreamRequest {
    let header = header.to_vec().into();
    let start = v1::DecryptStreamStart { name: key(name), context: pairs(context), header, min_revision: 0 };
    v1::DecryptStreamRequest { part: Some(to_open::Part::Start(start)) }
}

fn ciphertext(bytes: &[u8]) -> v1::DecryptStreamRequest {
    v1::DecryptStreamRequest { part: Some(to_open::Part::Ciphertext(bytes.to_vec().into())) }
}

/// All answers of a stream, and how it ended in words.
async fn all<T>(answers: Result<tonic::Response<Streaming<T>>, Status>, bytes: fn(T) -> Vec<u8>) -> (Vec<u8>, String) {
    let mut answers = match answers {
        Ok(answers) => answers.into_inner(),
        Err(status) => return (Vec::new(), told(&status)),
    };
    let mut out = Vec::new();
    loop {
        match answers.message().await {
            Ok(Some(answer)) => out.extend(bytes(answer)),
            Ok(None) => return (out, "whole".into()),
            Err(status) => return (out, told(&status)),
        }
    }
}

fn sealed_bytes(answer: v1::EncryptStreamResponse) -> Vec<u8> {
    match answer.part.unwrap() {
        sealed::Part::Started(started) => started.header.to_vec(),
        sealed::Part::Ciphertext(bytes) => bytes.to_vec(),
    }
}

fn opened_bytes(answer: v1::DecryptStreamResponse) -> Vec<u8> {
    match answer.part.unwrap() {
        opened::Part::Started(_) => Vec::new(),
        opened::Part::Plaintext(bytes) => bytes.to_vec(),
    }
}

impl House {
    async fn seal_stream(&self, frames: Vec<v1::EncryptStreamRequest>) -> (Vec<u8>, String) {
        let asks = self.app.asks(stream::iter(frames));
        all(self.crypto().encrypt_stream(asks).await, sealed_bytes).await
    }

    /// Sealed with the key `a` in the context of a file, in pieces of that size.
    async fn sealed_in(&self, plain: &[u8], piece_bytes: usize) -> Vec<u8> {
        let frames = std::iter::once(start("a", &[("file", "f")])).chain(plain.chunks(piece_bytes).map(plaintext));
        let (stream, end) = self.seal_stream(frames.collect()).await;
        assert_eq!(end, "whole");
        stream
    }

    async fn open_stream(&self, frames: Vec<v1::DecryptStreamRequest>) -> (Vec<u8>, String) {
        let asks = self.app.asks(stream::iter(frames));
        all(self.crypto().decrypt_stream(asks).await, opened_bytes).await
    }

    async fn opened_in(&self, name: &str, stream: &[u8], piece_bytes: usize) -> (Vec<u8>, String) {
        let (header, rest) = stream.split_at(STREAM_HEADER_BYTES.min(stream.len()));
        let first = start_opening(name, &[("file", "f")], header);
        self.open_stream(std::iter::once(first).chain(rest.chunks(piece_bytes).map(ciphertext)).collect()).await
    }
}

/// A stream that is sealed while its caller goes on.
struct Flow {
    pieces: mpsc::Sender<v1::EncryptStreamRequest>,
    answers: Streaming<v1::EncryptStreamResponse>,
}

impl Flow {
    async fn begin(house: &House) -> Flow {
        let (pieces, frames) = mpsc::channel(4);
        pieces.send(start("a", &[])).await.unwrap();
        let asks = house.app.asks(ReceiverStream::new(frames));
        let answers = house.crypto().encrypt_stream(asks).await.unwrap().into_inner();
        let mut flow = Flow { pieces, answers };
        assert_eq!(flow.hear().await, "112 bytes");
        flow
    }

    async fn send(&self, bytes: usize) {
        self.pieces.send(plaintext(&text(bytes))).await.unwrap();
    }

    async fn hear(&mut self) -> String {
        match self.answers.message().await {
            Ok(Some(answer)) => format!("{} bytes", sealed_bytes(answer).len()),
            Ok(None) => "whole".into(),
            Err(status) => told(&status),
        }
    }

    /// The first chunk, once something follows it.
    async fn first_chunk(&mut self) {
        self.send(CHUNK_BYTES + 1).await;
        assert_eq!(self.hear().await, format!("{SEALED_CHUNK_BYTES} bytes"));
    }

    /// One more chunk, once something follows it.
    async fn another(&mut self) -> String {
        self.send(CHUNK_BYTES).await;
        self.hear().await
    }
}

const UNDECRYPTABLE: &str = "InvalidArgument: refused: the ciphertext cannot be decrypted with this key and context";

#[test]
fn what_was_sealed_opens_whatever_its_size_and_pieces() {
    simulate(async {
        let house = House::found().await;
        for (bytes, chunks) in [(0, 1), (1, 1), (CHUNK_BYTES, 1), (CHUNK_BYTES + 1, 2), (20 * CHUNK_BYTES, 20)] {
            let from = house.node.next_page();
            for (there, back) in [(PIECE_BYTES_MAX, 1_000), (9_999, PIECE_BYTES_MAX)] {
                let stream = house.sealed_in(&text(bytes), there).await;
                assert_eq!(stream.len(), STREAM_HEADER_BYTES + bytes + 16 * chunks);
                let (plain, end) = house.opened_in("a", &stream, back).await;
                assert_eq!((plain == text(bytes), end.as_str()), (true, "whole"), "{bytes}");
            }
            let of_chunks = [format!("{chunks} Encrypt of 1 ok"), format!("{chunks} Decrypt of 1 ok")];
            let once = ["1 EncryptStream of 1 ok", &of_chunks[0], "1 DecryptStream of 1 ok", &of_chunks[1]];
            assert_eq!(house.pages(from), [once, once].concat());
        }
    });
}

#[test]
fn what_was_cut_reordered_doubled_or_goes_on_is_refused() {
    simulate(async {
        let house = House::found().await;
        let stream = house.sealed_in(&text(3 * CHUNK_BYTES), PIECE_BYTES_MAX).await;
        let (head, rest) = stream.split_at(STREAM_HEADER_BYTES);
        let [a, b, c] = [0, 1, 2].map(|at| &rest[at * SEALED_CHUNK_BYTES..(at + 1) * SEALED_CHUNK_BYTES]);
        assert_eq!(house.opened_in("a", &[head, a, b, c].concat(), 70_000).await.1, "whole");
        for wrong in [
            vec![head],
            vec![head, a, b],
            vec![head, a, b, &c[..c.len() - 1]],
            vec![head, b, a, c],
            vec![head, a, a, b, c],
            vec![head, a, b, c, c],
            vec![head, a, b, c, b"x"],
        ] {
            assert_eq!(house.opened_in("a", &wrong.concat(), 70_000).await.1, UNDECRYPTABLE);
        }
        let mut flipped = stream.clone();
        flipped[90] ^= 1;
        assert_eq!(house.opened_in("a", &flipped, 70_000).await.1, UNDECRYPTABLE, "the commitment");
        assert_eq!(house.opened_in("b", &stream, 70_000).await.1, UNDECRYPTABLE, "another key");
        let elsewhere = vec![start_opening("a", &[("file", "g")], head), ciphertext(a)];
        assert_eq!(house.open_stream(elsewhere).await.1, UNDECRYPTABLE, "another context");
    });
}

#[test]
fn whoever_takes_a_message_for_a_stream_is_told() {
    simulate(async {
        let house = House::found().await;
        let message = house.encrypt("a", b"m").await.ciphertext;
        let this = "InvalidArgument: refused: bad request; wanted a stream; this is a message, which Decrypt opens";
        assert_eq!(house.opened_in("a", &message, 1_000).await.1, this);
        let stream = house.sealed_in(b"m", 1).await;
        assert_eq!(stream.len(), b"m".len() + OVERHEAD_BYTES);
        let that =
            "InvalidArgument: refused: bad request; wanted a message; this is a stream, which DecryptStream opens";
        assert_eq!(house.reads("a", &stream, &[("file", "f")]).await, that);
    });
}

#[test]
fn a_revocation_stops_a_stream_at_its_next_chunk() {
    simulate(async {
        let house = House::found().await;
        let mut flow = Flow::begin(&house).await;
        flow.first_chunk().await;
        let from = house.node.next_page();
        house.disable("a").await;
        assert_eq!(flow.another().await, "FailedPrecondition: refused: the key is disabled");
        assert_eq!(house.pages(from)[1..], ["1 Encrypt of 1 ok", "1 Encrypt of 1 disabled"]);
        house.enable("a").await;

        let mut flow = Flow::begin(&house).await;
        flow.first_chunk().await;
        house.deny(&house.app).await;
        let denied = "PermissionDenied: denied: no role of yours allows this, or there is no such thing";
        assert_eq!(flow.another().await, denied);
    });
}

#[test]
fn a_sealed_node_goes_on_with_no_stream() {
    simulate(async {
        let house = House::found().await;
        let mut flow = Flow::begin(&house).await;
        flow.first_chunk().await;
        house.seal().await;
        assert!(flow.another().await.starts_with("Unavailable: unavailable: the node is sealed"));
    });
}

#[test]
fn a_rotation_stops_no_stream_but_a_higher_minimum_does() {
    simulate(async {
        let house = House::found().await;
        let mut flow = Flow::begin(&house).await;
        flow.first_chunk().await;
        house.rotate("a").await;
        assert_eq!(flow.another().await, format!("{SEALED_CHUNK_BYTES} bytes"));
        let ask = v1::UpdateKeyRequest { name: key("a"), min_decrypt_version: Some(2), ..Default::default() };
        KeysClient::new(house.node.routes()).update_key(house.admin.asks(ask)).await.unwrap();
        assert!(flow.another().await.starts_with("FailedPrecondition: refused: the version is below"));
    });
}

#[test]
fn who_has_no_right_begins_no_stream() {
    simulate(async {
        let house = House::found().await;
        let from = house.node.next_page();
        let denied = "PermissionDenied: denied: no role of yours allows this, or there is no such thing";
        assert_eq!(house.seal_stream(vec![start("secret", &[])]).await.1, denied);
        let stream = house.sealed_in(b"m", 1).await;
        let asks = house.mover.asks(stream::iter([start("a", &[])]));
        assert_eq!(all(house.crypto().encrypt_stream(asks).await, sealed_bytes).await.1, denied, "may decrypt only");
        assert_eq!(house.opened_in("secret", &stream, 1_000).await.1, denied);
        let pages = house.pages(from);
        assert_eq!(pages[0], "1 EncryptStream of 1 denied");
        assert_eq!(pages[3..], ["1 EncryptStream of 1 denied", "1 DecryptStream of 1 denied"]);
    });
}

#[test]
fn frames_of_another_form_are_refused() {
    simulate(async {
        let house = House::found().await;
        let wanted = |what: &str| format!("InvalidArgument: refused: bad request; wanted {what}");
        let first = wanted("what the stream is about, first and once");
        assert_eq!(house.seal_stream(vec![]).await.1, first);
        assert_eq!(house.seal_stream(vec![plaintext(b"x")]).await.1, first);
        assert_eq!(house.seal_stream(vec![start("a", &[]), start("a", &[])]).await.1, first);
        let size = wanted("1 to 131,072 bytes in a frame");
        assert_eq!(house.seal_stream(vec![start("a", &[]), plaintext(b"")]).await.1, size);
        assert_eq!(house.seal_stream(vec![start("a", &[]), plaintext(&text(PIECE_BYTES_MAX + 1))]).await.1, size);
        let nothing = v1::EncryptStreamRequest { part: None };
        assert_eq!(
            house.seal_stream(vec![start("a", &[]), nothing]).await.1,
            wanted("start or plaintext in every frame")
        );
        assert_eq!(house.seal_stream(vec![start("a", &[]), plaintext(b"x")]).await.1, "whole");
    });
}

#[test]
fn a_stopping_node_ends_a_stream() {
    simulate(async {
        let house = House::found().await;
        let mut flow = Flow::begin(&house).await;
        flow.first_chunk().await;
        house.node.end_streams();
        assert_eq!(flow.hear().await, "Unavailable: unavailable: the node is stopping; ask another");
    });
}

#[test]
fn a_stream_that_nobody_uses_is_let_go() {
    simulate(async {
        let house = House::found().await;
        let mut flow = Flow::begin(&house).await;
        flow.first_chunk().await;
        let from = house.node.next_page();
        runtime::sleep(Duration::from_millis(STREAM_IDLE_MS_MAX - 1_000)).await;
        flow.send(1).await;
        assert!(futures_util::poll!(Box::pin(flow.answers.message())).is_pending(), "it is taken, and is no chunk");
        runtime::sleep(Duration::from_millis(STREAM_IDLE_MS_MAX - 1_000)).await;
        assert_eq!(flow.another().await, format!("{SEALED_CHUNK_BYTES} bytes"), "a byte now and then is enough");
        assert_eq!(flow.hear().await, "DeadlineExceeded: unavailable: the deadline passed; nothing was changed");
        assert_eq!(house.pages(from), ["2 Encrypt of 1 ok", "1 Encrypt of 1 deadline"]);
    });
}

/// The chunks of a stream past the gRPC door, of pieces that come from nowhere.
async fn chunks_of<P>(
    house: &House,
    pieces: P,
) -> Result<impl Stream<Item = Result<SecretBytes, Failure>> + Unpin, Failure>
where
    P: Stream<Item = Result<Piece<EncryptStreamAsk>, Failure>> + Send + Unpin + 'static,
{
    let ask = EncryptStreamAsk { name: key("a").parse().unwrap(), context: Context::empty(), min_revision: 0 };
    let pieces = stream::once(std::future::ready(Ok(Piece::Start(ask)))).chain(pieces);
    let service = house.node.service();
    let visit = service.visit(Some(&house.app.der), Operation::EncryptStream);
    let opened = service.open_chunks(visit.known().unwrap(), pieces).await;
    let opened = visit.close(opened).await.into_inner();
    opened.map(|chunks| Box::pin(chunks.answers()))
}

fn piece(bytes: usize) -> Result<Piece<EncryptStreamAsk>, Failure> {
    Ok(Piece::Bytes(SecretBytes::take(text(bytes))))
}

#[test]
fn an_end_that_is_none_seals_nothing() {
    simulate(async {
        let house = House::found().await;
        let broken = Failure::from(Refused::BadRequest("frames"));
        let pieces = stream::iter([piece(CHUNK_BYTES), piece(1), Err(broken.clone())]);
        let came: Vec<_> = chunks_of(&house, pieces).await.ok().unwrap().collect().await;
        assert_eq!(came.into_iter().map(Result::err).collect::<Vec<_>>(), [Some(broken)]);
    });
}

#[test]
fn a_stream_that_nobody_reads_takes_no_more_and_is_let_go() {
    simulate(async {
        let house = House::found().await;
        let taken = Arc::new(AtomicU64::new(0));
        let count = taken.clone();
        let endless = stream::repeat_with(move || {
            count.fetch_add(1, Ordering::Relaxed);
            piece(CHUNK_BYTES)
        });
        let mut chunks = chunks_of(&house, endless).await.ok().unwrap();
        for _ in 0..100 {
            assert!(chunks.next().await.unwrap().is_ok());
        }
        assert!(taken.load(Ordering::Relaxed) <= 120, "a few chunks ahead at most");
        let from = house.node.next_page();
        runtime::sleep(Duration::from_millis(STREAM_IDLE_MS_MAX + 1)).await;
        assert_eq!(house.pages(from), ["100 Encrypt of 1 ok", "1 Encrypt of 1 deadline"]);
        assert_eq!(chunks.next().await.unwrap().err(), Some(Failure::from(Why::Deadline)));
        assert!(chunks.next().await.is_none());
    });
}

#[test]
fn what_grew_old_while_nobody_read_is_judged_anew() {
    simulate(async {
        let house = House::found().await;
        let mut chunks = chunks_of(&house, stream::repeat_with(|| piece(CHUNK_BYTES))).await.ok().unwrap();
        assert!(chunks.next().await.unwrap().is_ok());
        house.disable("a").await;
        assert!(chunks.next().await.unwrap().is_ok(), "it came before, and its reading is young");
        runtime::sleep(Duration::from_millis(2_100)).await;
        assert_eq!(chunks.next().await.unwrap().err(), Some(Failure::from(Refused::Disabled)));
    });
}

#[test]
fn a_caller_who_leaves_has_a_page_and_makes_room() {
    simulate(async {
        let house = House::found().await;
        let mut held = Vec::new();
        for _ in 0..64 {
            held.push(chunks_of(&house, stream::pending()).await.ok().unwrap());
        }
        assert_eq!(chunks_of(&house, stream::pending()).await.err(), Some(Failure::from(Why::Overloaded)));
        let from = house.node.next_page();
        drop(held.pop());
        assert_eq!(house.pages(from), ["1 Encrypt of 1 deadline"]);
        assert!(chunks_of(&house, stream::pending()).await.is_ok());
    });
}

#[test]
fn the_time_of_a_stream_is_that_of_its_opening() {
    simulate(async {
        let house = House::found().await;
        let mut flow = Flow::begin(&house).await;
        flow.first_chunk().await;
        runtime::sleep(Duration::from_secs(60)).await;
        assert_eq!(flow.another().await, format!("{SEALED_CHUNK_BYTES} bytes"));
        drop(flow.pieces);
        while flow.answers.message().await.unwrap().is_some() {}
        let text = house.node.metrics_text();
        let told = |what: &str| text.lines().any(|line| line == format!("claviger_{what}"));
        assert!(told("request_duration_seconds_count{operation=\"EncryptStream\"} 1"), "{text}");
        assert!(told("requests_total{operation=\"Encrypt\",outcome=\"ok\"} 3"), "{text}");
        assert!(!text.contains("request_duration_seconds_count{operation=\"Encrypt\"}"), "{text}");
    });
}
