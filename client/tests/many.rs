//! Many messages: in a batch, on a stream that the caller opened, and in calls that share a stream by themselves.

#![allow(missing_docs, reason = "tests")]

mod fake;

use claviger_client::{Client, Each, Error, Pipeline, PipelineDone, Why, v1};
use fake::{ANSWERED_ALONE, BREAKS_OFF, NAME, NEVER_READ, NO_ANSWER, Node, Pki, Script, always, client, node};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tonic::Status;

/// Calls at once of which some share a stream, and rounds of them until one is open: it is opened beside them.
const CALLS: usize = 40;
const ROUNDS_MAX: usize = 100;

fn encrypting(plaintext: &'static [u8]) -> v1::EncryptRequest {
    v1::EncryptRequest { name: NAME.into(), plaintext: plaintext.into(), ..Default::default() }
}

fn told<T>(each: Each<T>, good: impl Fn(T) -> String) -> Vec<String> {
    each.into_iter().map(|answer| answer.map_or_else(|e| e.to_string(), &good)).collect()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

/// A node, and a client of it.
fn pair(script: Script, deadline_ms: u64) -> (Node, Client) {
    let pki = Pki::new();
    let node = node(&pki, 1, script);
    let client = client(&pki, &[node.address.to_string()], deadline_ms);
    (node, client)
}

fn answers_streams_with(streams: impl Fn() -> Result<u64, Status> + Send + Sync + 'static) -> Script {
    Arc::new(move |call, _| if call.rpc == "Pipeline" { streams() } else { Ok(7) })
}

/// Calls that are all under way before any is answered; what came of them, in their order.
async fn at_once(client: &Client, plaintexts: Vec<Vec<u8>>) -> Vec<Result<v1::EncryptResponse, Error>> {
    let call = |plaintext: Vec<u8>| {
        let client = client.clone();
        tokio::spawn(async move { client.encrypt(NAME, plaintext, &[]).await })
    };
    let calls: Vec<_> = plaintexts.into_iter().map(call).collect();
    let mut came = Vec::new();
    for call in calls {
        came.push(call.await.unwrap());
    }
    came
}

fn numbered(count: usize) -> Vec<Vec<u8>> {
    (0..count).map(|n| format!("message {n}").into_bytes()).collect()
}

/// Every answer is that of its own message.
async fn all_answered(client: &Client, count: usize) {
    for (n, answer) in at_once(client, numbered(count)).await.into_iter().enumerate() {
        assert_eq!(text(&answer.unwrap().ciphertext[128..]), format!("message {n}"));
    }
}

/// Calls until some of them go on a stream.
async fn until_shared(client: &Client, node: &Node) {
    for _ in 0..ROUNDS_MAX {
        all_answered(client, CALLS).await;
        if node.count("Item") > 0 {
            return;
        }
    }
    panic!("no call went on a stream");
}

#[tokio::test]
async fn one_bad_item_of_a_batch_fails_alone() {
    let (node, client) = pair(always(|| Ok(7)), 5_000);
    let each = client.encrypt_batch(vec![encrypting(b"x"), encrypting(b""), encrypting(b"y")]).await.unwrap();
    let sealed: Vec<_> =
        each.iter().map(|one| one.as_ref().map(|one| one.ciphertext.clone()).unwrap_or_default()).collect();
    assert_eq!(told(each, |one| text(&one.ciphertext[128..])), ["x", "refused: the key is disabled", "y"]);
    let ask = |ciphertext| v1::DecryptRequest { name: NAME.into(), ciphertext, ..Default::default() };
    let each = client.decrypt_batch(sealed.into_iter().map(ask).collect()).await.unwrap();
    assert_eq!(told(each, |one| text(&one.plaintext)), ["x", "refused: the ciphertext does not open", "y"]);
    let each = client.re_encrypt_batch(vec![v1::ReEncryptRequest::default()]).await.unwrap();
    assert_eq!(told(each, |_| String::new()), ["a node failed: the node answered with nothing that is known"]);
    let one_short = client.encrypt_batch(vec![encrypting(b"x"), encrypting(NO_ANSWER)]).await;
    assert!(matches!(one_short, Err(Error::Broken { .. })), "{one_short:?}");
    let seen: Vec<_> = node.calls().into_iter().map(|call| (call.rpc, call.min_revision)).collect();
    let wanted = [("BatchEncrypt", 0), ("BatchDecrypt", 7), ("BatchReEncrypt", 7), ("BatchEncrypt", 7)];
    assert_eq!(seen, wanted, "no later call may see less");
}

#[tokio::test]
async fn a_batch_moves_on_from_a_node_that_is_sealed_and_is_refused_as_a_whole_once() {
    let pki = Pki::new();
    let nodes = [node(&pki, 1, always(|| Err(Status::unavailable("sealed")))), node(&pki, 2, always(|| Ok(7)))];
    let both = client(&pki, &nodes.each_ref().map(|node| node.address.to_string()), 5_000);
    assert_eq!(both.encrypt_batch(vec![encrypting(b"x")]).await.unwrap().len(), 1);
    let too_many = node(&pki, 3, always(|| Err(Status::invalid_argument("refused: items: 100 at most"))));
    let client = client(&pki, &[too_many.address.to_string()], 5_000);
    let refused = client.encrypt_batch(vec![encrypting(b"x")]).await.unwrap_err();
    assert_eq!((refused.to_string(), too_many.calls().len()), ("refused: items: 100 at most".into(), 1));
}

#[tokio::test]
async fn items_of_a_stream_are_answered_one_by_one() {
    let (_node, client) = pair(always(|| Ok(7)), 5_000);
    let Pipeline { asks, mut answers } = client.pipeline().await.unwrap();
    asks.encrypt(5, NAME, b"x".to_vec(), &[]).await.unwrap();
    asks.encrypt(4, NAME, b"".to_vec(), &[]).await.unwrap();
    let first = answers.next().await.unwrap().unwrap();
    assert!(matches!((first.id, first.outcome), (5, Ok(PipelineDone::Encrypted(one))) if one.revision == 7));
    let second = answers.next().await.unwrap().unwrap();
    assert_eq!((second.id, second.outcome.unwrap_err().to_string()), (4, "refused: the key is disabled".into()));
    drop(asks);
    assert!(answers.next().await.unwrap().is_none());
    assert_eq!(client.revision(), 7);
}

#[tokio::test]
async fn a_stream_that_breaks_off_says_so_to_both_halves() {
    let (_node, client) = pair(always(|| Ok(7)), 5_000);
    let Pipeline { asks, mut answers } = client.pipeline().await.unwrap();
    for (id, plaintext) in [&b"x"[..], NO_ANSWER, BREAKS_OFF].into_iter().enumerate() {
        asks.encrypt(id as u64, NAME, plaintext.to_vec(), &[]).await.unwrap();
    }
    assert_eq!(answers.next().await.unwrap().unwrap().id, 0);
    let ended = answers.next().await.unwrap_err();
    assert!(
        matches!(&ended, Error::Unavailable { why: Why::Other, message, .. } if message == "the node stops"),
        "{ended:?}"
    );
    let refused = loop {
        // The sending half hears of it a moment later.
        match asks.encrypt(9, NAME, b"x".to_vec(), &[]).await {
            Ok(()) => tokio::task::yield_now().await,
            Err(refused) => break refused,
        }
    };
    assert!(refused.to_string().contains("the stream has ended"), "{refused}");
}

#[tokio::test]
async fn a_stream_that_is_not_read_holds_its_sender_back() {
    let (_node, client) = pair(answers_streams_with(|| Ok(NEVER_READ)), 5_000);
    let Pipeline { asks, answers } = client.pipeline().await.unwrap();
    let mut sent = 0;
    let send = |id| asks.encrypt(id, NAME, vec![0; 60_000], &[]);
    while let Ok(sending) = tokio::time::timeout(Duration::from_millis(500), send(sent)).await {
        sending.unwrap();
        sent += 1;
    }
    assert!((60..200).contains(&sent), "{sent} items of 60,000 bytes were taken");
    drop(answers);
}

#[tokio::test]
async fn many_calls_share_a_stream_and_few_do_not() {
    let (node, client) = pair(always(|| Ok(7)), 5_000);
    for _ in 0..20 {
        all_answered(&client, 1).await;
    }
    all_answered(&client, 7).await;
    assert_eq!(node.count("Pipeline"), 0);
    until_shared(&client, &node).await;
    let before = node.count("Encrypt");
    all_answered(&client, 1_000).await;
    let alone = node.count("Encrypt") - before;
    assert!(alone < 20, "{alone} of 1000 calls went alone");
    assert_eq!((node.count("Pipeline"), client.revision()), (1, 7));
}

#[tokio::test]
async fn a_refusal_on_the_shared_stream_is_final_and_an_absence_is_asked_again() {
    let calls: Script = Arc::new(|call, _| match call.rpc {
        "Item" if call.min_revision == 7 => Err(Status::unavailable("unavailable: sealed")),
        _ => Ok(7),
    });
    let (node, client) = pair(calls, 5_000);
    until_shared(&client, &node).await; // its items answer with an absence: calls go alone then
    let empty = at_once(&client, vec![Vec::new(); CALLS]).await;
    assert!(empty.iter().all(Result::is_ok), "a call of its own takes what is empty");

    let (node, client) = pair(always(|| Ok(7)), 5_000);
    until_shared(&client, &node).await;
    let before = node.count("Encrypt");
    let empty = at_once(&client, vec![Vec::new(); CALLS]).await;
    let refused = empty.iter().filter(|one| one.is_err()).count();
    assert!(refused > 0 && refused + node.count("Encrypt") - before == CALLS, "{refused} refused");
}

#[tokio::test]
async fn a_node_that_knows_no_streams_is_asked_for_one_once() {
    let (node, client) = pair(answers_streams_with(|| Err(Status::unimplemented(""))), 5_000);
    for _ in 0..10 {
        all_answered(&client, CALLS).await;
    }
    assert_eq!((node.count("Pipeline"), node.count("Encrypt")), (1, 10 * CALLS));
}

#[tokio::test]
async fn every_call_on_a_stream_that_breaks_off_is_made_alone() {
    let (node, client) = pair(always(|| Ok(7)), 5_000);
    until_shared(&client, &node).await;
    let mut plaintexts = vec![ANSWERED_ALONE.to_vec(); CALLS];
    plaintexts.push(BREAKS_OFF.to_vec());
    plaintexts.extend(numbered(CALLS));
    let began = Instant::now();
    assert!(at_once(&client, plaintexts).await.iter().all(Result::is_ok));
    assert!(began.elapsed() < Duration::from_secs(1), "nobody waited for a stream that had ended");
}

#[tokio::test]
async fn a_call_without_an_answer_ends_at_its_deadline_and_holds_nobody_up() {
    let (node, client) = pair(always(|| Ok(7)), 1_500);
    until_shared(&client, &node).await;
    let mut plaintexts = numbered(CALLS);
    plaintexts.push(NO_ANSWER.to_vec());
    let began = Instant::now();
    let mut came = at_once(&client, plaintexts).await;
    let late = came.pop().unwrap().unwrap_err();
    assert!(matches!(late, Error::Unavailable { why: Why::Deadline, .. }), "{late:?}");
    assert!((1_400..3_000).contains(&began.elapsed().as_millis()), "{:?}", began.elapsed());
    assert!(came.iter().all(Result::is_ok));
}

#[tokio::test]
async fn calls_on_a_stream_that_is_never_read_are_made_alone() {
    let (node, client) = pair(answers_streams_with(|| Ok(NEVER_READ)), 3_000);
    let began = Instant::now();
    while node.count("Pipeline") == 0 {
        all_answered(&client, CALLS).await;
    }
    all_answered(&client, 600).await;
    assert!(began.elapsed() < Duration::from_millis(2_900), "{:?}", began.elapsed());
    assert_eq!(node.count("Item"), 0);
}
