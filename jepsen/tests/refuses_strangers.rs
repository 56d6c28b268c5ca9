//! Callers that are not what they should be, and callers that take more than their part.

use claviger_jepsen::cluster::Cluster;
use claviger_jepsen::flood::{half_open, streams};
use claviger_jepsen::forge;
use claviger_jepsen::pki::{Authority, Credentials, path, uri};
use claviger_jepsen::stage::{Stage, WITNESS, encrypt};
use claviger_jepsen::tool::Tool;
use claviger_jepsen::wire::{Line, Refusal, refusal};
use claviger_proto::v1::{AllowCertificateRequest, DenyCertificateRequest, EncryptRequest, GetSealStatusRequest};
use std::time::{Duration, Instant};
use tonic::Code;

static STAGE: Stage = Stage::new("strangers");

/// How far a stranger came.
#[derive(Debug, PartialEq)]
enum Came {
    /// Turned away in the handshake: no request was read.
    Nowhere,
    /// Heard, and refused.
    Heard(Refusal),
    /// Served.
    In,
}

async fn came(cluster: &Cluster, who: Option<&Credentials>) -> Came {
    let address = cluster.node(1).unwrap().address();
    let Ok(line) = Line::open(address, &cluster.callers.cert(), who).await else { return Came::Nowhere };
    let ask = EncryptRequest { name: WITNESS.into(), ..Default::default() };
    match line.crypto().encrypt(ask).await {
        Ok(_) => Came::In,
        // A status that the transport made has a source; one that a node sent has none.
        Err(status) if std::error::Error::source(&status).is_some() => Came::Nowhere,
        Err(status) => Came::Heard(refusal::<()>(Err(status)).expect("an error has a code")),
    }
}

fn forged(cluster: &Cluster, uris: &[&str], expired: bool, name: &str) -> Credentials {
    forge::certificate(&cluster.callers, uris, expired, cluster.folder.path(), name).unwrap()
}

fn unauthenticated() -> Came {
    Came::Heard((Code::Unauthenticated, "unauthenticated".into()))
}

#[test]
fn refuses_callers_without_a_certificate() {
    STAGE.unharmed(async |cluster| {
        let without = came(cluster, None).await;
        assert!(without == Came::Nowhere || without == unauthenticated(), "{without:?}");
    });
}

#[test]
fn refuses_certificates_of_a_foreign_authority() {
    STAGE.unharmed(async |cluster| {
        let folder = cluster.folder.join("ca-foreign");
        let foreign = match folder.exists() {
            true => panic!("made once"),
            false => Authority::create(&Tool::at_home(cluster.folder.path()), folder).unwrap(),
        };
        let same_name = foreign.issue("service", "billing").unwrap();
        assert_eq!(came(cluster, Some(&same_name)).await, Came::Nowhere);
        // The authority between nodes is foreign to callers, too.
        let peer = cluster.peers.issue("service", "billing").unwrap();
        assert_eq!(came(cluster, Some(&peer)).await, Came::Nowhere);
    });
}

#[test]
fn refuses_expired_certificates() {
    STAGE.unharmed(async |cluster| {
        let expired = forged(cluster, &[&uri("service", "billing")], true, "expired");
        assert_eq!(came(cluster, Some(&expired)).await, Came::Nowhere);
        let same_but_valid = forged(cluster, &[&uri("service", "billing")], false, "valid");
        assert_eq!(came(cluster, Some(&same_but_valid)).await, Came::In);
    });
}

#[test]
fn refuses_two_identities_in_one_certificate() {
    STAGE.unharmed(async |cluster| {
        let (billing, root) = (uri("service", "billing"), uri("operator", "root"));
        let two = forged(cluster, &[&billing, &root], false, "two");
        assert_eq!(came(cluster, Some(&two)).await, unauthenticated());
        let foreign_form = forged(cluster, &[&billing, "https://example.org/"], false, "beside");
        assert_eq!(came(cluster, Some(&foreign_form)).await, unauthenticated());
    });
}

#[test]
fn refuses_certificates_without_an_identity() {
    STAGE.unharmed(async |cluster| {
        let none = forged(cluster, &[], false, "none");
        assert_eq!(came(cluster, Some(&none)).await, unauthenticated());
        let odd = forged(cluster, &["spiffe://example.org/elsewhere/service/billing"], false, "odd");
        assert_eq!(came(cluster, Some(&odd)).await, unauthenticated());
    });
}

#[test]
fn refuses_denied_certificates() {
    STAGE.unharmed(async |cluster| {
        let denied = cluster.callers.issue("service", "lost").unwrap();
        let role = ["role", "set", &uri("service", "lost"), "--grant", "*=encrypt,decrypt"];
        let tool = cluster.tool(&cluster.administrator);
        tool.must(&role).unwrap();
        assert_eq!(came(cluster, Some(&denied)).await, Came::In);
        let open_line = cluster.line(1, &denied).await.unwrap();

        let shown = tool.must(&["--output", "json", "cert", "show", path(&denied.cert)]).unwrap().json().unwrap();
        let key_hash: Vec<u8> = unhex(shown[0]["key_hash"].as_str().unwrap());
        let admin = cluster.line(3, &cluster.administrator).await.unwrap();
        let ask = DenyCertificateRequest { key_hash: key_hash.clone().into(), ..Default::default() };
        admin.roles().deny_certificate(ask).await.unwrap();
        let wanted = (Code::PermissionDenied, "denied".to_owned());
        assert_eq!(came(cluster, Some(&denied)).await, Came::Heard(wanted.clone()), "a new connection");
        let ask = EncryptRequest { name: WITNESS.into(), ..Default::default() };
        assert_eq!(refusal(open_line.crypto().encrypt(ask).await), Some(wanted), "a connection that was open");

        let ask = AllowCertificateRequest { key_hash: key_hash.into(), ..Default::default() };
        admin.roles().allow_certificate(ask).await.unwrap();
        assert_eq!(came(cluster, Some(&denied)).await, Came::In, "allowed again");
        tool.must(&["role", "delete", &uri("service", "lost")]).unwrap();
    });
}

fn unhex(text: &str) -> Vec<u8> {
    (0..text.len()).step_by(2).map(|i| u8::from_str_radix(&text[i..i + 2], 16).unwrap()).collect()
}

#[test]
fn refuses_half_open_connections_more_than_it_can_bear() {
    STAGE.unharmed(async |cluster| {
        let address = cluster.node(1).unwrap().address();
        let held = half_open(address, 4_000).await.unwrap();
        assert_eq!(held.len(), 4_000);
        let started = Instant::now();
        encrypt(cluster, 1, WITNESS, b"a good client").await.unwrap();
        let waited = started.elapsed();
        assert!(waited < Duration::from_secs(2), "a good client waited {waited:?}");
        drop(held);
    });
}

#[test]
fn refuses_too_many_streams() {
    STAGE.unharmed(async |cluster| {
        let address = cluster.node(1).unwrap().address();
        let limit = 1_024;
        let flood = streams(address, &cluster.callers.cert(), &cluster.service, limit + 64).await.unwrap();
        assert!(flood.refused >= 64, "{flood:?}");
        assert!(flood.refused < limit, "streams within the limit were refused: {flood:?}");
        let other = cluster.line(1, &cluster.operator).await.unwrap();
        other.seal().get_seal_status(GetSealStatusRequest {}).await.unwrap();
    });
}
