//! Re-encryption, alone and in batches.

use super::*;
use claviger_proto::v1::{batch_decrypt_result, batch_encrypt_result, batch_re_encrypt_result};

/// What came of each item of an encryption, in words.
fn sealed(done: &v1::BatchEncryptResponse) -> Vec<String> {
    let word = |result: &v1::BatchEncryptResult| match result.outcome.as_ref().unwrap() {
        batch_encrypt_result::Outcome::Response(one) => format!("version {}", one.version),
        batch_encrypt_result::Outcome::Error(error) => item_told(error),
    };
    done.results.iter().map(word).collect()
}

fn ciphertexts(done: v1::BatchEncryptResponse) -> Vec<bytes::Bytes> {
    let ciphertext = |result: v1::BatchEncryptResult| match result.outcome.unwrap() {
        batch_encrypt_result::Outcome::Response(one) => one.ciphertext,
        batch_encrypt_result::Outcome::Error(error) => panic!("{error:?}"),
    };
    done.results.into_iter().map(ciphertext).collect()
}

fn batch(requests: Vec<v1::EncryptRequest>) -> v1::BatchEncryptRequest {
    v1::BatchEncryptRequest { requests, read: None }
}

#[test]
fn a_ciphertext_is_brought_to_the_newest_version_and_to_another_key() {
    simulate(async {
        let house = House::found().await;
        let first = house.encrypt("a", b"in confidence").await;
        house.rotate("a").await;
        let ask = re_encrypt("a", &first.ciphertext, "");
        let second = house.crypto().re_encrypt(house.app.asks(ask)).await.unwrap().into_inner();
        assert_eq!((first.version, second.source_version, second.version), (1, 1, 2));
        assert!(second.revision >= first.revision);
        assert_eq!(house.reads("a", &second.ciphertext, &[]).await, "in confidence");
        let new_context = Some(v1::EncryptionContext { pairs: pairs(&[("year", "2026")]) });
        let ask = v1::ReEncryptRequest { new_context, ..re_encrypt("a", &second.ciphertext, "b") };
        let third = house.crypto().re_encrypt(house.app.asks(ask)).await.unwrap().into_inner();
        assert_eq!((third.source_version, third.version), (2, 1));
        assert_eq!(house.reads("b", &third.ciphertext, &[("year", "2026")]).await, "in confidence");
        let undecryptable = "InvalidArgument: refused: the ciphertext cannot be decrypted with this key and context";
        assert_eq!(house.reads("b", &third.ciphertext, &[]).await, undecryptable);
        assert_eq!(house.reads("a", &third.ciphertext, &[("year", "2026")]).await, undecryptable);
        assert_eq!(house.reads("a", &first.ciphertext, &[]).await, "in confidence", "the old one still opens");
    });
}

#[test]
fn a_context_stays_unless_another_is_given() {
    simulate(async {
        let house = House::found().await;
        let ask = v1::EncryptRequest { context: pairs(&[("year", "2025")]), ..encrypt("a", b"x") };
        let first = house.crypto().encrypt(house.app.asks(ask)).await.unwrap().into_inner().ciphertext;
        let ask = |new_context| v1::ReEncryptRequest {
            context: pairs(&[("year", "2025")]),
            new_context,
            ..re_encrypt("a", &first, "")
        };
        let kept = house.crypto().re_encrypt(house.app.asks(ask(None))).await.unwrap().into_inner().ciphertext;
        let none = Some(v1::EncryptionContext::default());
        let bare = house.crypto().re_encrypt(house.app.asks(ask(none))).await.unwrap().into_inner().ciphertext;
        assert_eq!(house.reads("a", &kept, &[("year", "2025")]).await, "x");
        assert_eq!(house.reads("a", &bare, &[]).await, "x");
        let wrong = house.crypto().re_encrypt(house.app.asks(re_encrypt("a", &first, ""))).await.unwrap_err();
        assert_eq!(wrong.code(), tonic::Code::InvalidArgument);
    });
}

#[test]
fn re_encryption_needs_a_right_on_either_key_and_names_both_in_one_page() {
    simulate(async {
        let house = House::found().await;
        let (a, b) = (house.encrypt("a", b"x").await.ciphertext, house.encrypt("b", b"x").await.ciphertext);
        let from = house.node.next_page();
        let mut said = Vec::new();
        for (name, ciphertext, destination) in [("a", &a, "b"), ("a", &a, ""), ("b", &b, "a"), ("b", &b, "")] {
            let ask = house.mover.asks(re_encrypt(name, ciphertext, destination));
            let answer = house.crypto().re_encrypt(ask).await;
            said.push(answer.map_or_else(|status| format!("{:?}", status.code()), |_| "done".into()));
        }
        assert_eq!(said, ["done", "PermissionDenied", "PermissionDenied", "PermissionDenied"]);
        assert_eq!(
            house.pages(from),
            ["1 ReEncrypt of 2 ok", "1 ReEncrypt of 1 denied", "1 ReEncrypt of 2 denied", "1 ReEncrypt of 1 denied"]
        );
        let pages = house.node.pages_from(from);
        assert_eq!((pages[0].resource, pages[0].destination), (pages[2].destination, pages[2].resource));
        for disabled in ["a", "b"] {
            house.disable(disabled).await;
            let refused = house.crypto().re_encrypt(house.mover.asks(re_encrypt("a", &a, "b"))).await.unwrap_err();
            assert_eq!(told(&refused), "FailedPrecondition: refused: the key is disabled");
            house.enable(disabled).await;
        }
    });
}

#[test]
fn a_bad_item_fails_alone_and_each_is_in_a_page() {
    simulate(async {
        let house = House::found().await;
        house.disable("b").await;
        let from = house.node.next_page();
        let long = v1::EncryptRequest { plaintext: vec![0; 65_537].into(), ..encrypt("a", b"") };
        let unread = v1::EncryptRequest { read: Some(v1::ReadOptions::default()), ..encrypt("a", b"") };
        let requests = vec![
            encrypt("a", b"1"),
            encrypt("b", b"2"),
            encrypt("absent", b"3"),
            encrypt("secret", b"4"),
            encrypt("NO NAME", b"5"),
            long,
            unread,
            encrypt("a", b"6"),
        ];
        let done = house.crypto().batch_encrypt(house.app.asks(batch(requests))).await.unwrap().into_inner();
        assert_eq!(
            sealed(&done),
            [
                "version 1",
                "FailedPrecondition: disabled",
                "NotFound: not_found",
                "PermissionDenied: denied",
                "InvalidArgument: bad_name",
                "InvalidArgument: too_long",
                "InvalidArgument: bad_request",
                "version 1"
            ]
        );
        assert_eq!(
            house.pages(from),
            [
                "2 Encrypt of 1 ok",
                "1 Encrypt of 1 disabled",
                "1 Encrypt of 1 not_found",
                "1 Encrypt of 1 denied",
                "1 Encrypt of 0 bad_name",
                "1 Encrypt of 0 too_long",
                "1 Encrypt of 0 bad_request",
                "1 BatchEncrypt of 0 ok"
            ]
        );
        let revisions: Vec<u64> = house.node.pages_from(from).iter().map(|page| page.revision).collect();
        assert_eq!(revisions, [done.revision; 8], "one reading for all");
    });
}

#[test]
fn batches_of_a_hundred_keep_their_order() {
    simulate(async {
        let house = House::found().await;
        let plaintext = |n: usize| -> &'static [u8] { if n.is_multiple_of(3) { b"three" } else { b"other" } };
        let requests: Vec<_> = (0..100).map(|n| encrypt(["a", "b"][n % 2], plaintext(n))).collect();
        let done = house.crypto().batch_encrypt(house.app.asks(batch(requests))).await.unwrap().into_inner();
        let first = ciphertexts(done);
        house.rotate("a").await;
        let asks = first.iter().enumerate().map(|(n, c)| re_encrypt(["a", "b"][n % 2], c, "a"));
        let ask = v1::BatchReEncryptRequest { requests: asks.collect(), read: None };
        let moved = house.crypto().batch_re_encrypt(house.app.asks(ask)).await.unwrap().into_inner();
        let moved: Vec<_> = moved
            .results
            .into_iter()
            .map(|result| match result.outcome.unwrap() {
                batch_re_encrypt_result::Outcome::Response(one) => (one.version, one.ciphertext),
                batch_re_encrypt_result::Outcome::Error(error) => panic!("{error:?}"),
            })
            .collect();
        assert!(moved.iter().all(|(version, _)| *version == 2));
        let requests = moved.iter().map(|(_, ciphertext)| decrypt("a", ciphertext)).collect();
        let ask = v1::BatchDecryptRequest { requests, read: None };
        let clear = house.crypto().batch_decrypt(house.app.asks(ask)).await.unwrap().into_inner();
        for (n, result) in clear.results.into_iter().enumerate() {
            let Some(batch_decrypt_result::Outcome::Response(one)) = result.outcome else { panic!("{result:?}") };
            assert_eq!(one.plaintext, plaintext(n), "{n}");
        }
    });
}

#[test]
fn refuses_batches_over_their_bounds_as_a_whole() {
    simulate(async {
        let house = House::found().await;
        let from = house.node.next_page();
        let megabytes = |items: usize| -> Vec<v1::EncryptRequest> {
            let plaintext = bytes::Bytes::from(vec![0; 65_536]);
            (0..items).map(|_| v1::EncryptRequest { plaintext: plaintext.clone(), ..encrypt("a", b"") }).collect()
        };
        let mut said = Vec::new();
        for requests in [vec![], vec![encrypt("a", b""); 101], megabytes(49), megabytes(48)] {
            let answer = house.crypto().batch_encrypt(house.app.asks(batch(requests))).await;
            said.push(answer.map_or_else(|status| told(&status), |done| done.into_inner().results.len().to_string()));
        }
        assert_eq!(
            said,
            [
                "InvalidArgument: refused: bad request; wanted at least one item",
                "ResourceExhausted: refused: there are too many items: 100 at most",
                "InvalidArgument: refused: a batch of more than 3 MiB is too long",
                "48"
            ]
        );
        assert_eq!(
            house.pages(from)[2..],
            ["1 BatchEncrypt of 0 too_long", "48 Encrypt of 1 ok", "1 BatchEncrypt of 0 ok"]
        );
    });
}

#[test]
fn the_longest_batch_fits_into_a_message_both_ways() {
    use prost::Message;
    let context = pairs(&[("n", &"v".repeat(8_191))]);
    let share = crate::service::BATCH_BYTES_MAX / crate::service::BATCH_ITEMS_MAX;
    let name = "k".repeat(63);
    let item = v1::EncryptRequest { plaintext: vec![0; share].into(), context, ..encrypt(&name, b"") };
    let ask = batch(vec![item; crate::service::BATCH_ITEMS_MAX]);
    assert!(ask.encoded_len() <= crate::api::MESSAGE_BYTES_MAX);
    let one = v1::EncryptResponse { ciphertext: vec![0; share + 128].into(), version: u32::MAX, revision: u64::MAX };
    let result = v1::BatchEncryptResult { outcome: Some(batch_encrypt_result::Outcome::Response(one)) };
    let answer = v1::BatchEncryptResponse { results: vec![result; 100], revision: u64::MAX };
    assert!(answer.encoded_len() <= crate::api::MESSAGE_BYTES_MAX);
}

#[test]
fn who_may_use_no_key_is_denied_as_a_whole() {
    simulate(async {
        let house = House::found().await;
        let from = house.node.next_page();
        for guest in [&house.admin, &Guest::new("stranger")] {
            let ask = guest.asks(batch(vec![encrypt("a", b""), encrypt("a", b"")]));
            let denied = house.crypto().batch_encrypt(ask).await.unwrap_err();
            assert_eq!(denied.code(), tonic::Code::PermissionDenied);
        }
        let pages = ["2 Encrypt of 1 denied", "1 BatchEncrypt of 0 denied"];
        assert_eq!(house.pages(from), [pages, pages].concat());
        house.seal().await;
        let sealed = house.crypto().batch_encrypt(house.app.asks(batch(vec![encrypt("a", b"")]))).await.unwrap_err();
        assert_eq!(told(&sealed), "Unavailable: unavailable: the node is sealed; custodians must open it");
    });
}
