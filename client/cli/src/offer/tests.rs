use super::*;
use crate::custody::tests::identity;
use claviger_core::crypto::{SigningKey, sha256, sign, sign_header};
use claviger_core::header::Header;
use claviger_core::kem::KemSecret;
use claviger_core::name::{CeremonyId, Digest, DiskId, NodeId};
use claviger_core::roster::{Countersignature, CustodianKeys, Genesis, Member, Role, Roster};
use claviger_core::secret::Secret32;
use claviger_core::txn::TxnKey;

const NOW: UnixMs = UnixMs(1_000_000);

fn signer(byte: u8) -> SigningKey {
    SigningKey::from_seed(Secret32::copy_from(&[byte; 32]).unwrap())
}

fn founding(nonce: u8) -> Founding {
    let custodian =
        |name: &str| CustodianKeys { identity: identity(name), recipient: "age1x".into(), signing: signer(9).public() };
    let member = Member { node: NodeId(1), key: signer(1).public(), disk: DiskId([1; 16]), role: Role::Voter };
    let genesis = Genesis {
        cluster: "demo".parse().unwrap(),
        region: "main".parse().unwrap(),
        nonce: [nonce; 32],
        founded_at: UnixMs(1),
        threshold: 2,
        custodians: ["alice", "bob", "carol"].map(custodian).to_vec(),
        txn_public: signer(2).public(),
        roster: Roster::first(vec![member]),
    };
    let signature = sign(&signer(1), &genesis.signed_bytes());
    Founding { genesis, countersignatures: vec![Countersignature { node: NodeId(1), signature }] }
}

/// The first link of that founding's header chain.
fn first_link(founding: &Founding) -> HeaderLink {
    let nothing = Digest([0; 32]);
    let header = Header {
        lineage: lineage(founding),
        generation: 1,
        number: 0,
        previous: nothing,
        root: 1,
        seal_epoch: 0,
        txn_key: TxnKey { number: 1, public: signer(2).public() },
        root_commitment: nothing,
        slots: nothing,
        roster: sha256(&[&founding.genesis.roster.to_bytes()]),
        custodians: nothing,
        keyring: nothing,
        mandate: None,
    };
    sign_header(&signer(2), header)
}

fn lineage(founding: &Founding) -> Lineage {
    Lineage(sha256(&[&founding.genesis.signed_bytes()]).0)
}

/// What an honest node of that founding answers, when its key is signed by `host`.
fn begun(founding: &Founding, host: &SigningKey) -> v1::BeginUnsealResponse {
    let key = CeremonyKey {
        lineage: lineage(founding),
        generation: 1,
        seal_epoch: 0,
        ceremony: CeremonyId([5; 16]),
        host: NodeId(1),
        incarnation: 1,
        expires: NOW.plus_ms(1_000),
        public: KemSecret::from_seed(Secret32::copy_from(&[3; 32]).unwrap()).public(),
    };
    let signed = key.sign(host);
    let accepted = v1::AcceptedShare { index: 2, holder: identity("bob").to_string(), ..Default::default() };
    let ceremony =
        v1::Ceremony { id: vec![5; 16].into(), threshold: 2, accepted: vec![accepted], ..Default::default() };
    v1::BeginUnsealResponse {
        ceremony: Some(ceremony),
        statement: signed.key.to_bytes().into(),
        signature: signed.signature.to_bytes().into(),
        host_key: host.public().to_bytes().into(),
        founding: founding.to_bytes().into(),
        links: vec![first_link(founding).to_bytes().into()],
        roster: founding.genesis.roster.to_bytes().into(),
        mandate: Vec::new().into(),
    }
}

fn told(begun: v1::BeginUnsealResponse, lineage: &Lineage, now: UnixMs) -> String {
    trusted(begun, Some(lineage), now).err().map(|f| f.message).unwrap_or_default()
}

#[test]
fn a_true_ceremony_is_trusted_and_tells_who_is_missing() {
    let ours = founding(1);
    let found = trusted(begun(&ours, &signer(1)), Some(&lineage(&ours)), NOW).map_err(|f| f.message).unwrap();
    let missing = missing(&found.ceremony, &found.founding);
    assert_eq!(missing, [identity("alice").to_string(), identity("carol").to_string()]);
    assert_eq!(wanting(&found.ceremony), 1);
}

#[test]
fn refuses_to_let_a_share_go_to_a_key_that_is_not_the_clusters() {
    let (ours, theirs) = (founding(1), founding(2));
    let good = begun(&ours, &signer(1));
    assert!(told(begun(&theirs, &signer(1)), &lineage(&ours), NOW).contains("another cluster"));
    assert!(told(begun(&ours, &signer(4)), &lineage(&ours), NOW).contains("not signed"));
    assert!(told(good.clone(), &lineage(&ours), NOW.plus_ms(2_000)).contains("time is over"));
    let swapped = v1::BeginUnsealResponse { founding: theirs.to_bytes().into(), ..good.clone() };
    assert!(told(swapped, &lineage(&ours), NOW).contains("does not prove"));
    let bare = v1::BeginUnsealResponse { links: Vec::new(), ..good.clone() };
    assert!(told(bare, &lineage(&ours), NOW).contains("does not prove"));
    let other = v1::Ceremony { id: vec![6; 16].into(), ..Default::default() };
    let mismatched = v1::BeginUnsealResponse { ceremony: Some(other), ..good.clone() };
    assert!(told(mismatched, &lineage(&ours), NOW).contains("another ceremony"));
    let cut = v1::BeginUnsealResponse { statement: good.statement.slice(1..), ..good.clone() };
    assert!(
        told(cut, &lineage(&ours), NOW).contains("cannot"),
        "{}",
        told(begun(&ours, &signer(1)), &lineage(&ours), NOW)
    );
    assert_eq!(told(good, &lineage(&ours), NOW), "");
}
