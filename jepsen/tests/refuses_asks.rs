//! Asks that cannot be answered: each gets its own clear error, and nothing is lost.

use claviger_jepsen::cluster::Cluster;
use claviger_jepsen::pki::{Credentials, uri};
use claviger_jepsen::stage::{Stage, create, encrypt};
use claviger_jepsen::wire::{Line, refusal, within};
use claviger_proto::v1::{
    ContextPair, CreateKeyRequest, CustodianKeys, DecryptRequest, DisableKeyRequest, EnableKeyRequest, EncryptRequest,
    GetKeyRequest, InitializeRequest, ListKeysRequest, ReadOptions, RotateKeyRequest,
};
use std::time::{Duration, Instant};
use tonic::Code;

static STAGE: Stage = Stage::new("asks");

const KEY: &str = "tenants/default/keys/asked";

async fn line(cluster: &Cluster, who: &Credentials) -> Line {
    cluster.line(1, who).await.unwrap()
}

fn said(code: Code, reason: &str) -> Option<(Code, String)> {
    Some((code, reason.to_owned()))
}

fn pair(name: &str, value: &str) -> ContextPair {
    ContextPair { name: name.into(), value: value.into() }
}

fn encrypting(plaintext: &[u8], context: Vec<ContextPair>) -> EncryptRequest {
    EncryptRequest { name: KEY.into(), plaintext: plaintext.to_vec().into(), context, read: None }
}

fn decrypting(ciphertext: &[u8], context: Vec<ContextPair>) -> DecryptRequest {
    DecryptRequest { name: KEY.into(), ciphertext: ciphertext.to_vec().into(), context, read: None }
}

#[test]
fn refuses_malformed_names() {
    STAGE.unharmed(async |cluster| {
        let (admin, service) = (line(cluster, &cluster.administrator).await, line(cluster, &cluster.service).await);
        let long = format!("tenants/default/keys/{}", "x".repeat(64));
        let names = [
            "",
            "invoices",
            "tenants/default/keys/",
            "tenants//keys/a",
            "tenants/default/keys/UPPER",
            "tenants/default/keys/a/b",
            "tenants/default/keys/-a",
            "tenants/default/keys/a b",
            "tenants/default/keys/a\0",
            "tenants/default/keys/\u{e9}",
            " tenants/default/keys/a",
            "tenants/default/keys/../a",
            "keys/a",
            &long,
        ];
        let wanted = said(Code::InvalidArgument, "bad_name");
        for name in names {
            let name = name.to_owned();
            let made = admin.keys().create_key(CreateKeyRequest { name: name.clone(), ..Default::default() }).await;
            assert_eq!(refusal(made), wanted, "create {name:?}");
            let ask = EncryptRequest { name: name.clone(), ..Default::default() };
            assert_eq!(refusal(service.crypto().encrypt(ask).await), wanted, "encrypt {name:?}");
            let ask = GetKeyRequest { name: name.clone(), ..Default::default() };
            assert_eq!(refusal(admin.keys().get_key(ask).await), wanted, "get {name:?}");
        }
    });
}

#[test]
fn refuses_one_item_of_a_batch_alone() {
    use claviger_proto::v1::{self, BatchDecryptRequest, BatchEncryptRequest, ItemError};
    fn told(error: &ItemError) -> String {
        format!("{:?} {}", Code::from(error.code), error.reason)
    }
    STAGE.play(async |cluster| create(cluster, KEY).await.unwrap());
    STAGE.unharmed(async |cluster| {
        let service = line(cluster, &cluster.service).await;
        let absent = EncryptRequest { name: "tenants/default/keys/absent".into(), ..Default::default() };
        let no_name = EncryptRequest { name: "no name".into(), ..Default::default() };
        let asks = vec![encrypting(b"one", vec![]), absent, encrypting(b"two", vec![pair("a", "b")]), no_name];
        let ask = BatchEncryptRequest { requests: asks, read: None };
        let sealed = service.crypto().batch_encrypt(ask).await.unwrap().into_inner().results;
        let mut ciphertexts = Vec::new();
        let came: Vec<String> = sealed
            .into_iter()
            .map(|one| match one.outcome.unwrap() {
                v1::batch_encrypt_result::Outcome::Response(one) => {
                    ciphertexts.push(one.ciphertext);
                    "encrypted".into()
                }
                v1::batch_encrypt_result::Outcome::Error(error) => told(&error),
            })
            .collect();
        assert_eq!(came, ["encrypted", "NotFound not_found", "encrypted", "InvalidArgument bad_name"]);

        // At another node, and the context of the second is forgotten at first.
        let other = cluster.line(2, &cluster.service).await.unwrap();
        let (one, two) = (&ciphertexts[0], &ciphertexts[1]);
        let asks = vec![decrypting(one, vec![]), decrypting(two, vec![]), decrypting(two, vec![pair("a", "b")])];
        let ask = BatchDecryptRequest { requests: asks, read: None };
        let opened = other.crypto().batch_decrypt(ask).await.unwrap().into_inner().results;
        let came: Vec<String> = opened
            .into_iter()
            .map(|one| match one.outcome.unwrap() {
                v1::batch_decrypt_result::Outcome::Response(one) => String::from_utf8(one.plaintext.to_vec()).unwrap(),
                v1::batch_decrypt_result::Outcome::Error(error) => told(&error),
            })
            .collect();
        assert_eq!(came, ["one", "InvalidArgument undecryptable", "two"]);

        let too_many = BatchEncryptRequest { requests: vec![encrypting(b"x", vec![]); 101], read: None };
        let refused = refusal(service.crypto().batch_encrypt(too_many).await);
        assert_eq!(refused, said(Code::ResourceExhausted, "too_many"));
        let none = BatchEncryptRequest::default();
        assert_eq!(refusal(service.crypto().batch_encrypt(none).await), said(Code::InvalidArgument, "bad_request"));
    });
}

#[test]
fn refuses_unknown_names() {
    STAGE.unharmed(async |cluster| {
        let (admin, service) = (line(cluster, &cluster.administrator).await, line(cluster, &cluster.service).await);
        let absent = || "tenants/default/keys/absent".to_owned();
        let ask = EncryptRequest { name: absent(), ..Default::default() };
        assert_eq!(refusal(service.crypto().encrypt(ask).await), said(Code::NotFound, "not_found"));
        let ask = GetKeyRequest { name: absent(), ..Default::default() };
        assert_eq!(refusal(admin.keys().get_key(ask).await), said(Code::NotFound, "not_found"));
        let ask = RotateKeyRequest { name: absent(), ..Default::default() };
        assert_eq!(refusal(admin.keys().rotate_key(ask).await), said(Code::NotFound, "not_found"));
        // Whoever may not know gets the same answer for what is absent and for what is not theirs.
        let ask = EncryptRequest { name: "tenants/others/keys/absent".into(), ..Default::default() };
        assert_eq!(refusal(service.crypto().encrypt(ask).await), said(Code::PermissionDenied, "denied"));
    });
}

#[test]
fn refuses_a_name_that_is_taken() {
    STAGE.play(async |cluster| create(cluster, KEY).await.unwrap());
    STAGE.unharmed(async |cluster| {
        let admin = line(cluster, &cluster.administrator).await;
        let made = admin.keys().create_key(CreateKeyRequest { name: KEY.into(), ..Default::default() }).await;
        assert_eq!(refusal(made), said(Code::AlreadyExists, "already_exists"));
    });
}

#[test]
fn refuses_oversize_plaintext() {
    STAGE.play(async |cluster| create(cluster, KEY).await.unwrap());
    STAGE.unharmed(async |cluster| {
        let service = line(cluster, &cluster.service).await;
        let largest = service.crypto().encrypt(encrypting(&vec![7; 65_536], vec![])).await.unwrap().into_inner();
        assert_eq!(largest.ciphertext.len(), 65_536 + 128);
        let over = service.crypto().encrypt(encrypting(&vec![7; 65_537], vec![])).await;
        assert_eq!(refusal(over), said(Code::InvalidArgument, "too_long"));
        let over = service.crypto().decrypt(decrypting(&vec![7; 65_536 + 129], vec![])).await;
        assert_eq!(refusal(over).unwrap().0, Code::InvalidArgument);
    });
}

#[test]
fn refuses_oversize_contexts() {
    STAGE.play(async |cluster| create(cluster, KEY).await.unwrap());
    STAGE.unharmed(async |cluster| {
        let service = line(cluster, &cluster.service).await;
        let pairs = |count: usize| (0..count).map(|i| pair(&format!("n{i}"), "v")).collect::<Vec<_>>();
        assert_eq!(refusal(service.crypto().encrypt(encrypting(b"x", pairs(64))).await), None);
        let many = service.crypto().encrypt(encrypting(b"x", pairs(65))).await;
        assert_eq!(refusal(many), said(Code::ResourceExhausted, "too_many"));
        let long = service.crypto().encrypt(encrypting(b"x", vec![pair("n", &"v".repeat(8 << 10))])).await;
        assert_eq!(refusal(long), said(Code::InvalidArgument, "bad_request"));
        let twice = service.crypto().encrypt(encrypting(b"x", vec![pair("n", "1"), pair("n", "2")])).await;
        assert_eq!(refusal(twice), said(Code::InvalidArgument, "bad_request"));
    });
}

#[test]
fn refuses_oversize_messages() {
    STAGE.play(async |cluster| create(cluster, KEY).await.unwrap());
    STAGE.unharmed(async |cluster| {
        let service = line(cluster, &cluster.service).await;
        let over = service.crypto().encrypt(encrypting(&vec![7; (4 << 20) + 1], vec![])).await;
        assert_eq!(refusal(over).unwrap().0, Code::OutOfRange);
    });
}

#[test]
fn refuses_flipped_ciphertexts() {
    STAGE.play(async |cluster| create(cluster, KEY).await.unwrap());
    STAGE.unharmed(async |cluster| {
        let service = line(cluster, &cluster.service).await;
        let good = encrypt(cluster, 1, KEY, b"true").await.unwrap();
        for at in 0..good.len() {
            let mut bad = good.clone();
            bad[at] ^= 1 << (at % 8);
            let answer = refusal(service.crypto().decrypt(decrypting(&bad, vec![])).await);
            assert_eq!(answer, said(Code::InvalidArgument, "undecryptable"), "byte {at}");
        }
    });
}

#[test]
fn refuses_cut_ciphertexts() {
    STAGE.play(async |cluster| create(cluster, KEY).await.unwrap());
    STAGE.unharmed(async |cluster| {
        let service = line(cluster, &cluster.service).await;
        let good = encrypt(cluster, 1, KEY, b"whole").await.unwrap();
        for length in 0..good.len() {
            let answer = refusal(service.crypto().decrypt(decrypting(&good[..length], vec![])).await);
            assert_eq!(answer, said(Code::InvalidArgument, "undecryptable"), "the first {length} bytes");
        }
        let longer = [&good[..], b"x"].concat();
        let answer = refusal(service.crypto().decrypt(decrypting(&longer, vec![])).await);
        assert_eq!(answer, said(Code::InvalidArgument, "undecryptable"));
    });
}

#[test]
fn refuses_foreign_ciphertexts() {
    const OTHER: &str = "tenants/default/keys/other";
    STAGE.play(async |cluster| {
        create(cluster, KEY).await.unwrap();
        create(cluster, OTHER).await.unwrap();
    });
    STAGE.unharmed(async |cluster| {
        let service = line(cluster, &cluster.service).await;
        let foreign = encrypt(cluster, 1, OTHER, b"theirs").await.unwrap();
        let answer = refusal(service.crypto().decrypt(decrypting(&foreign, vec![])).await);
        assert_eq!(answer, said(Code::InvalidArgument, "undecryptable"));
        let answer = refusal(service.crypto().decrypt(decrypting(b"-----BEGIN AGE ENCRYPTED FILE-----", vec![])).await);
        assert_eq!(answer, said(Code::InvalidArgument, "undecryptable"));
    });
}

#[test]
fn refuses_the_wrong_context() {
    STAGE.play(async |cluster| create(cluster, KEY).await.unwrap());
    STAGE.unharmed(async |cluster| {
        let service = line(cluster, &cluster.service).await;
        let (a, b) = (pair("invoice", "17"), pair("year", "2026"));
        let good = service.crypto().encrypt(encrypting(b"x", vec![a.clone(), b.clone()])).await.unwrap().into_inner();
        let wrong = [
            vec![],
            vec![a.clone()],
            vec![a.clone(), pair("year", "2027")],
            vec![a.clone(), b.clone(), pair("more", "")],
            vec![pair("year", "17"), pair("invoice", "2026")],
            vec![a.clone(), pair("Year", "2026")],
        ];
        for context in wrong {
            let answer = refusal(service.crypto().decrypt(decrypting(&good.ciphertext, context.clone())).await);
            assert_eq!(answer, said(Code::InvalidArgument, "undecryptable"), "{context:?}");
        }
        let swapped = service.crypto().decrypt(decrypting(&good.ciphertext, vec![b, a])).await.unwrap().into_inner();
        assert_eq!(&swapped.plaintext[..], b"x", "the order of the pairs does not matter");
    });
}

#[test]
fn refuses_disabled_keys_on_every_node() {
    STAGE.play(async |cluster| {
        create(cluster, KEY).await.unwrap();
        let sealed = encrypt(cluster, 2, KEY, b"x").await.unwrap();
        let admin = cluster.line(2, &cluster.administrator).await.unwrap();
        let before = admin.keys().get_key(GetKeyRequest { name: KEY.into(), ..Default::default() }).await.unwrap();
        let mut lines = Vec::new();
        for node in 1..=3 {
            lines.push((node, cluster.line(node, &cluster.service).await.unwrap()));
        }
        admin.keys().disable_key(DisableKeyRequest { name: KEY.into(), ..Default::default() }).await.unwrap();
        for (node, line) in &lines {
            let wanted = said(Code::FailedPrecondition, "disabled");
            assert_eq!(
                refusal(line.crypto().encrypt(encrypting(b"x", vec![])).await),
                wanted,
                "encrypt at node {node}"
            );
            assert_eq!(
                refusal(line.crypto().decrypt(decrypting(&sealed, vec![])).await),
                wanted,
                "decrypt at node {node}"
            );
        }
        admin.keys().enable_key(EnableKeyRequest { name: KEY.into(), ..Default::default() }).await.unwrap();
        let after = admin.keys().get_key(GetKeyRequest { name: KEY.into(), ..Default::default() }).await.unwrap();
        let versions =
            |answer: tonic::Response<claviger_proto::v1::GetKeyResponse>| answer.into_inner().key.unwrap().versions;
        assert_eq!(versions(before), versions(after));
        for (_, line) in &lines {
            let opened = line.crypto().decrypt(decrypting(&sealed, vec![])).await.unwrap().into_inner();
            assert_eq!(&opened.plaintext[..], b"x");
        }
    });
}

#[test]
fn refuses_what_no_role_allows() {
    STAGE.unharmed(async |cluster| {
        let service = line(cluster, &cluster.service).await;
        let denied = said(Code::PermissionDenied, "denied");
        let made = service.keys().create_key(CreateKeyRequest { name: KEY.into(), ..Default::default() }).await;
        assert_eq!(refusal(made), denied, "a program makes a key");
        let admin = line(cluster, &cluster.administrator).await;
        assert_eq!(
            refusal(admin.crypto().encrypt(encrypting(b"x", vec![])).await),
            denied,
            "an administrator encrypts"
        );
        let nobody = cluster.callers.issue("service", "nobody").unwrap();
        let nobody = line(cluster, &nobody).await;
        assert_eq!(refusal(nobody.crypto().encrypt(encrypting(b"x", vec![])).await), denied, "somebody without a role");
        let listed =
            nobody.keys().list_keys(ListKeysRequest { parent: "tenants/default".into(), ..Default::default() }).await;
        assert!(listed.map_or_else(|s| s.code() == Code::PermissionDenied, |l| l.into_inner().keys.is_empty()));
    });
}

#[test]
fn refuses_passed_deadlines() {
    STAGE.unharmed(async |cluster| {
        // Three million bytes there and back take longer than a timer's tick, which a small call may be answered within.
        let (service, started) = (line(cluster, &cluster.service).await, Instant::now());
        let requests = vec![encrypting(&[7; 64 << 10], vec![]); 47];
        let ask = within(claviger_proto::v1::BatchEncryptRequest { requests, read: None }, Duration::from_micros(1));
        let (code, _) = refusal(service.crypto().batch_encrypt(ask).await).unwrap();
        assert!(matches!(code, Code::DeadlineExceeded | Code::Cancelled | Code::Unavailable), "{code:?}");
        assert!(started.elapsed() < Duration::from_secs(2));
    });
}

/// A barrier shows the newest revision that there is: one that is ahead of it is of another cluster, or of a generation that
/// was given up, and waiting for it would be for ever.
#[test]
fn refuses_a_revision_that_nobody_has() {
    STAGE.unharmed(async |cluster| {
        let service = line(cluster, &cluster.service).await;
        let read = Some(ReadOptions { min_revision: u64::MAX, allow_stale_ms: 0 });
        let ask = EncryptRequest { read, ..encrypting(b"x", vec![]) };
        let (code, _) = refusal(service.crypto().encrypt(within(ask, Duration::from_secs(10))).await).unwrap();
        assert_eq!(code, Code::InvalidArgument);
    });
}

/// A caller whose deadline passes does not know whether the change was made. Asking again under the same request id is
/// safe, and tells.
#[test]
fn refuses_to_make_a_key_twice_after_passed_deadlines() {
    const LATE: &str = "tenants/default/keys/late";
    STAGE.play(async |cluster| {
        let admin = line(cluster, &cluster.administrator).await;
        let request_id: Vec<u8> = (16..32).collect();
        let ask =
            || CreateKeyRequest { name: LATE.into(), request_id: request_id.clone().into(), ..Default::default() };
        for micros in 0..20 {
            let late = admin.keys().create_key(within(ask(), Duration::from_micros(50 * micros + 1))).await;
            if let Some((code, _)) = refusal(late) {
                assert!(matches!(code, Code::DeadlineExceeded | Code::Cancelled | Code::Unavailable), "{code:?}");
            }
        }
        let made = admin.keys().create_key(ask()).await.unwrap().into_inner().key.unwrap();
        assert_eq!((made.name.as_str(), made.versions.len()), (LATE, 1));
        let ask = ListKeysRequest { parent: "tenants/default".into(), page_size: 256, ..Default::default() };
        let listed = admin.keys().list_keys(ask).await.unwrap().into_inner().keys;
        assert_eq!(listed.iter().filter(|key| key.name == LATE).count(), 1);
    });
}

#[test]
fn refuses_a_second_init() {
    STAGE.unharmed(async |cluster| {
        let ran = cluster.tool(&cluster.administrator).run(&cluster.founding_words()).unwrap();
        assert_eq!(ran.code, 1, "{}", ran.stderr);
        let custodians = cluster.custodians.iter().map(|c| CustodianKeys {
            identity: c.uri(),
            recipient: age::x25519::Identity::generate().to_public().to_string(),
            signing_key: vec![7; 32].into(),
        });
        let ask = InitializeRequest {
            threshold: 3,
            custodians: custodians.collect(),
            administrators: vec![uri("operator", "root")],
        };
        for node in 1..=3 {
            let admin = cluster.line(node, &cluster.administrator).await.unwrap();
            let answer = refusal(admin.seal().initialize(ask.clone()).await);
            assert_eq!(answer, said(Code::FailedPrecondition, "already_founded"), "node {node}");
        }
    });
}

#[test]
fn refuses_a_request_id_with_another_body() {
    const FIRST: &str = "tenants/default/keys/first";
    let request_id: Vec<u8> = (0..16).collect();
    let ask = |name: &str| CreateKeyRequest {
        name: name.into(),
        request_id: request_id.clone().into(),
        ..Default::default()
    };
    STAGE.play(async |cluster| {
        let admin = line(cluster, &cluster.administrator).await;
        let once = admin.keys().create_key(ask(FIRST)).await.unwrap().into_inner();
        let twice = admin.keys().create_key(ask(FIRST)).await.unwrap().into_inner();
        assert_eq!(once.key, twice.key, "the same call again gets the same answer");
    });
    STAGE.unharmed(async |cluster| {
        let admin = line(cluster, &cluster.administrator).await;
        let answer = refusal(admin.keys().create_key(ask("tenants/default/keys/second")).await);
        assert_eq!(answer, said(Code::InvalidArgument, "request_reused"));
    });
}
