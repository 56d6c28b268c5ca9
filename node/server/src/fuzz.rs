//! What must hold for everything that a caller asks and a peer says. Run over seeds and mutants by the test at the foot,
//! and searched by `make fuzz`.

use crate::api::fuzz::{many, words};
use claviger_proto::peer::v1 as peer;
use claviger_proto::v1;
use prost::Message;

/// A name, and what must hold for every input.
pub type Target = (&'static str, fn(&[u8]));

/// All of this crate.
pub const TARGETS: &[Target] = &[("requests", words), ("items", many), ("seal-frames", seal_frames)];

const KEY: &str = "tenants/acme/keys/backup";
const WHO: &str = "spiffe://acme.example/claviger/service/app";

/// First inputs that are not among the format vectors.
pub fn seeds() -> Vec<Vec<u8>> {
    let context = vec![v1::ContextPair { name: "purpose".into(), value: "backup".into() }];
    let read = Some(v1::ReadOptions { min_revision: 7, allow_stale_ms: 0 });
    let name = || KEY.to_owned();
    let plaintext = b"secret".as_slice().into();
    let encrypt = v1::EncryptRequest { name: name(), plaintext, context: context.clone(), read };
    let decrypt = v1::DecryptRequest { name: name(), ciphertext: vec![1; 140].into(), context: context.clone(), read };
    let unread = v1::EncryptRequest { read: None, ..encrypt.clone() };
    let batch = v1::BatchEncryptRequest { requests: vec![unread.clone(), unread], read };
    let item = |ask| v1::PipelineRequest { id: 1, ask: Some(ask) };
    let grant = v1::KeyGrant { key: "tenants/acme/keys/*".into(), encrypt: true, decrypt: false };
    let kinds = vec![v1::RoleKind::KeyUser.into()];
    let role = Some(v1::Role { identity: WHO.into(), kinds, keys: vec![grant], revision: 0 });
    let labels = [("env".to_owned(), "prod".to_owned())].into();
    let request_id = vec![9; 16].into();
    let create = v1::CreateKeyRequest { name: name(), algorithm: 1, labels, request_id };
    let list = v1::ListKeysRequest { parent: "tenants/acme".into(), page_size: 10, ..Default::default() };
    let signing_key = vec![7; 32].into();
    let custodian = v1::CustodianKeys { identity: WHO.into(), recipient: "age1".into(), signing_key };
    let initialize =
        v1::InitializeRequest { threshold: 1, custodians: vec![custodian], administrators: vec![WHO.into()] };
    let (ceremony, sealed_share, proof) = (vec![1; 16].into(), vec![2; 60].into(), vec![3; 64].into());
    let offer = v1::OfferShareRequest { ceremony, index: 1, sealed_share, proof };
    let start = v1::EncryptStreamStart { name: name(), context: context.clone(), min_revision: 7 };
    let seals = |part| v1::EncryptStreamRequest { part: Some(part) };
    let header = vec![4; 112].into();
    let start_opening = v1::DecryptStreamStart { name: name(), context, header, min_revision: 7 };
    let opens = |part| v1::DecryptStreamRequest { part: Some(part) };
    let joins = v1::CreateJoinTicketRequest { node: 4, good_for_seconds: 60, request_id: vec![9; 16].into() };
    let hello = peer::RootRequest { step: Some(peer::root_request::Step::Hello(peer::Hello::default())) };
    vec![
        encrypt.encode_to_vec(),
        decrypt.encode_to_vec(),
        batch.encode_to_vec(),
        item(v1::pipeline_request::Ask::Encrypt(encrypt)).encode_to_vec(),
        item(v1::pipeline_request::Ask::Decrypt(decrypt)).encode_to_vec(),
        v1::SetRoleRequest { role, request_id: Vec::new().into() }.encode_to_vec(),
        create.encode_to_vec(),
        list.encode_to_vec(),
        initialize.encode_to_vec(),
        offer.encode_to_vec(),
        seals(v1::encrypt_stream_request::Part::Start(start)).encode_to_vec(),
        seals(v1::encrypt_stream_request::Part::Plaintext(vec![5; 40].into())).encode_to_vec(),
        opens(v1::decrypt_stream_request::Part::Start(start_opening)).encode_to_vec(),
        opens(v1::decrypt_stream_request::Part::Ciphertext(vec![6; 40].into())).encode_to_vec(),
        joins.encode_to_vec(),
        hello.encode_to_vec(),
    ]
}

fn message<M: Message + Default + PartialEq>(bytes: &[u8]) {
    let Ok(message) = M::decode(bytes) else { return };
    let again = M::decode(&message.encode_to_vec()[..]).ok();
    assert!(again == Some(message), "{} changes on its way", std::any::type_name::<M>());
}

fn seal_frames(bytes: &[u8]) {
    message::<peer::FoundRequest>(bytes);
    message::<peer::FoundResponse>(bytes);
    message::<peer::CeremonyRequest>(bytes);
    message::<peer::CeremonyResponse>(bytes);
    message::<peer::RootRequest>(bytes);
    message::<peer::RootResponse>(bytes);
    message::<peer::StatusResponse>(bytes);
    message::<peer::JoinRequest>(bytes);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn holds_for_seeds_and_mutants() {
        claviger_fuzz::exercise(TARGETS, &seeds(), 4_000);
    }

    #[test]
    fn seeds_are_read() {
        let seeds = seeds();
        let (peers, callers) = seeds.split_last().unwrap();
        assert!(callers.iter().all(|seed| crate::api::fuzz::understood(seed)));
        assert!(peer::RootRequest::decode(&peers[..]).unwrap().step.is_some());
    }
}
