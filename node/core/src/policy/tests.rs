//! The matrix, cell by cell, and the parsers of rights.

use super::*;
use crate::codec::Canonical;
use crate::crypto::sha256;
use crate::decide::paper::{ADMIN, Paper, USER, caller, custodian, name, who};
use crate::failure::{Failure, Refused, Why};
use crate::name::{Identity, KeyHash, KeyName, Segment};
use crate::record::{Record, RecordKey, Version, View};
use proptest::prelude::*;
use std::collections::BTreeMap;

/// Records that are open only.
#[derive(Default)]
struct Open(BTreeMap<RecordKey, Vec<u8>>);

impl View for Open {
    fn record(&self, key: &RecordKey) -> Option<Record> {
        self.0.get(key).map(|value| Record { version: 1, value: value.clone() })
    }
    fn version(&self, key: &RecordKey) -> Version {
        u64::from(self.0.contains_key(key))
    }
    fn members_version(&self, _: &crate::record::Collection) -> Version {
        0
    }
    fn members(&self, _: &crate::record::Collection, _: Option<[u8; 32]>, _: usize) -> Vec<(RecordKey, Record)> {
        Vec::new()
    }
}

fn steward(kinds: &[RoleKind]) -> Rights {
    let identity = who(ADMIN);
    let record = StewardRecord { identity: identity.clone(), roles: RoleSet::of(kinds) };
    let mut records = Open::default();
    if !kinds.is_empty() {
        records.0.insert(StewardRecord::key(&identity), record.to_bytes());
    }
    Rights::read(&records, None, &caller(ADMIN)).unwrap()
}

/// Judges every operation, and says which got leave.
macro_rules! allowed {
    ($rights:expr, $seal:expr; $($key:ident)*; $($tenant:ident)*; $($cluster:ident)*) => {{
        let mut words: Vec<&str> = Vec::new();
        $(if judge::<$key>($rights, name("invoices"), $seal).is_ok() { words.push(stringify!($key)) })*
        $(if judge::<$tenant>($rights, "acme".parse().unwrap(), $seal).is_ok() { words.push(stringify!($tenant)) })*
        $(if judge::<$cluster>($rights, Cluster, $seal).is_ok() { words.push(stringify!($cluster)) })*
        words.join(" ")
    }};
}

fn leave(rights: &Rights, seal: SealView) -> String {
    allowed!(rights, seal;
        CreateKey GetKey UpdateKey EnableKey DisableKey RotateKey Encrypt Decrypt ReEncrypt EncryptStream DecryptStream;
        ListKeys;
        GetSealStatus GetClusterStatus Initialize AbandonInitialize BeginUnseal GetCeremony OfferShare SealNode SealAll
        TransferLeader CreateJoinTicket SetMemberRole RetireMember SaveSnapshot BeginRecovery GetRecovery ConsentToRecovery
        RestoreSnapshot SetRole DeleteRole DenyCertificate AllowCertificate GetRole ListRoles ListDeniedCertificates TailAudit GetAuditHead BatchEncrypt BatchDecrypt BatchReEncrypt Pipeline)
}

#[test]
fn the_matrix_has_every_operation_once() {
    for operation in Operation::ALL {
        let lines = MATRIX.iter().filter(|rule| rule.operation == *operation).count();
        assert_eq!(lines, 1, "{}", operation.word());
        assert_eq!(Operation::from_rpc(operation.rpc()), Some(*operation));
        assert_eq!(Operation::from_bytes(&operation.to_bytes()), Ok(*operation));
    }
    assert_eq!(MATRIX.len(), Operation::ALL.len());
    let mut numbers: Vec<u16> = Operation::ALL.iter().map(|op| *op as u16).collect();
    numbers.dedup();
    assert_eq!(numbers.len(), Operation::ALL.len());
    assert_eq!(Operation::from_rpc("/claviger.v1.Keys/CreateKey"), Some(Operation::CreateKey));
    for foreign in ["", "/", "claviger.v1.Keys/createKey", "claviger.v2.Keys/CreateKey", "//claviger.v1.Keys/CreateKey"]
    {
        assert_eq!(Operation::from_rpc(foreign), None);
    }
}

#[test]
fn each_role_may_do_this_and_no_more() {
    use RoleKind::*;
    let open = |kinds: &[RoleKind]| leave(&steward(kinds), SealView::Open);
    assert_eq!(open(&[]), "GetSealStatus GetClusterStatus GetRecovery ConsentToRecovery");
    assert_eq!(
        open(&[Administrator]),
        "CreateKey GetKey UpdateKey EnableKey DisableKey RotateKey ListKeys GetSealStatus GetClusterStatus BeginUnseal \
         GetCeremony SealNode SealAll TransferLeader CreateJoinTicket SetMemberRole RetireMember SaveSnapshot BeginRecovery \
         GetRecovery ConsentToRecovery SetRole DeleteRole \
         DenyCertificate AllowCertificate GetRole ListRoles ListDeniedCertificates TailAudit GetAuditHead"
    );
    assert_eq!(
        open(&[Operator]),
        "GetSealStatus GetClusterStatus BeginUnseal GetCeremony SealNode SealAll TransferLeader SaveSnapshot BeginRecovery \
         GetRecovery ConsentToRecovery"
    );
    assert_eq!(
        open(&[Custodian]),
        "GetSealStatus GetClusterStatus BeginUnseal GetCeremony OfferShare SealNode SealAll BeginRecovery GetRecovery \
         ConsentToRecovery"
    );
    assert_eq!(
        open(&[Auditor]),
        "GetKey ListKeys GetSealStatus GetClusterStatus GetRecovery ConsentToRecovery GetRole ListRoles ListDeniedCertificates TailAudit GetAuditHead"
    );
}

#[test]
fn a_sealed_node_answers_ceremonies_and_status() {
    let all = steward(&[RoleKind::Administrator, RoleKind::Operator, RoleKind::Custodian, RoleKind::Auditor]);
    assert_eq!(
        leave(&all, SealView::Sealed),
        "GetSealStatus GetClusterStatus BeginUnseal GetCeremony OfferShare SealNode SaveSnapshot BeginRecovery GetRecovery \
         ConsentToRecovery"
    );
    let why = |seal| judge::<CreateKey>(&all, name("a"), seal).err();
    assert_eq!((why(SealView::Sealed), why(SealView::Unfounded)), (Some(Denied::Sealed), Some(Denied::NotFounded)));
}

#[test]
fn before_founding_founders_found_and_nobody_else() {
    let founder = Rights::before_founding(&[who(ADMIN)], &caller(ADMIN));
    let stranger = Rights::before_founding(&[who(ADMIN)], &caller(USER));
    assert_eq!(
        leave(&founder, SealView::Unfounded),
        "GetSealStatus GetClusterStatus Initialize AbandonInitialize BeginRecovery GetRecovery ConsentToRecovery RestoreSnapshot"
    );
    assert_eq!(leave(&stranger, SealView::Unfounded), "GetSealStatus GetClusterStatus GetRecovery ConsentToRecovery");
    assert_eq!(
        leave(&founder, SealView::Open),
        "GetSealStatus GetClusterStatus BeginRecovery GetRecovery ConsentToRecovery"
    );
    assert_eq!(judge::<Initialize>(&founder, Cluster, SealView::Sealed).err(), Some(Denied::Founded));
}

#[test]
fn key_users_use_their_keys_and_know_of_no_others() {
    let paper = Paper::founded();
    let rights = paper.rights(&caller(USER));
    assert_eq!(
        leave(&rights, SealView::Open),
        "GetKey Encrypt Decrypt ReEncrypt EncryptStream DecryptStream ListKeys GetSealStatus GetClusterStatus GetRecovery \
         ConsentToRecovery BatchEncrypt \
         BatchDecrypt BatchReEncrypt Pipeline"
    );
    let foreign: KeyName = "tenants/other/keys/invoices".parse().unwrap();
    assert!(judge::<Encrypt>(&rights, foreign.clone(), SealView::Open).is_err());
    // Whether it is there makes no difference to who may not know.
    assert_eq!(judge::<GetKey>(&rights, foreign, SealView::Open).err(), Some(Denied::Role));
    assert_eq!(Failure::from(Denied::Role), Failure::Denied);
    assert_eq!(Failure::from(Denied::Certificate), Failure::Denied);
}

#[test]
fn administrators_never_use_keys() {
    let mut paper = Paper::founded();
    let grant = KeyGrant { tenant: "acme".parse().unwrap(), key: None, encrypt: true, decrypt: true };
    let record = GrantRecord { identity: who(ADMIN), grants: vec![grant] };
    paper.plant(paper.keyring.grant_record(&who(ADMIN)), &record.to_bytes());
    assert!(paper.judged::<Encrypt>(ADMIN, name("invoices")).is_err());
    assert!(paper.judged::<Decrypt>(ADMIN, name("invoices")).is_err());
    assert!(paper.judged::<ReEncrypt>(ADMIN, name("invoices")).is_err());
    assert!(paper.judged::<EncryptStream>(ADMIN, name("invoices")).is_err());
    assert!(paper.judged::<DecryptStream>(ADMIN, name("invoices")).is_err());
    let in_bulk = allowed!(&paper.rights(&caller(ADMIN)), SealView::Open;
        ;; BatchEncrypt BatchDecrypt BatchReEncrypt Pipeline);
    assert_eq!(in_bulk, "");
}

#[test]
fn re_encryption_asks_for_a_right_on_either_key() {
    let mut paper = Paper::founded();
    let grant = |key: &str, encrypt: bool| KeyGrant {
        tenant: "acme".parse().unwrap(),
        key: Some(key.parse().unwrap()),
        encrypt,
        decrypt: !encrypt,
    };
    let record = GrantRecord { identity: who(USER), grants: vec![grant("old", false), grant("new", true)] };
    paper.plant(paper.keyring.grant_record(&who(USER)), &record.to_bytes());
    let from = |key: &str| paper.judged::<ReEncrypt>(USER, name(key)).is_ok();
    let to = |key: &str| paper.judged::<Encrypt>(USER, name(key)).is_ok();
    assert_eq!((from("old"), from("new")), (true, false));
    assert_eq!((to("old"), to("new")), (false, true));
}

#[test]
fn kept_rights_count_until_a_record_changes() {
    let mut paper = Paper::founded();
    let rights = paper.rights(&caller(USER));
    assert!(rights.current(&paper.records));
    let deny = DeniedRecord { key_hash: *caller(USER).key_hash(), by: who(ADMIN), since: paper.now };
    let mut luck = paper.luck();
    let permit = paper.permit::<DenyCertificate>(Cluster);
    let decision =
        crate::decide::deny_certificate(&paper.desk(), permit, deny.key_hash, Default::default(), &mut luck).unwrap();
    paper.apply(&decision.txn).unwrap();
    assert!(!rights.current(&paper.records));
    assert_eq!(rights.relies().len(), 3);
}

#[test]
fn refuses_certificates_that_do_not_say_one_thing() {
    let hash = KeyHash([1; 32]);
    let uri = |text: &str| text.to_owned();
    let ours = custodian("alice").to_string();
    let says = |uris: &[String]| Caller::authenticate(uris, hash).map(|c| c.identity().to_string());
    assert_eq!(says(&[]), Err(Unauthenticated::NoIdentity));
    assert_eq!(says(&[ours.clone(), ours.clone()]), Err(Unauthenticated::SeveralIdentities));
    assert_eq!(says(&[ours.clone(), uri("https://example.org")]), Err(Unauthenticated::SeveralIdentities));
    for foreign in ["", "spiffe://example.org/other/operator/a", "SPIFFE://example.org/claviger/operator/a"] {
        assert_eq!(says(&[uri(foreign)]), Err(Unauthenticated::ForeignIdentity));
    }
    assert_eq!(says(std::slice::from_ref(&ours)), Ok(ours));
}

#[test]
fn refuses_records_that_give_too_much() {
    let record = |roles: RoleSet| StewardRecord { identity: who(ADMIN), roles }.to_bytes();
    assert!(StewardRecord::from_bytes(&record(RoleSet::default())).is_err());
    assert!(StewardRecord::from_bytes(&record(RoleSet::of(&[RoleKind::KeyUser]))).is_err());
    let mut bytes = record(RoleSet::of(&[RoleKind::Auditor]));
    for bits in [0x01, 0x40, 0x80, 0xff] {
        *bytes.last_mut().unwrap() = bits;
        assert!(StewardRecord::from_bytes(&bytes).is_err());
    }
}

#[test]
fn denials_say_who_must_act() {
    assert_eq!(Failure::from(Denied::Sealed), Failure::Unavailable(Why::Sealed));
    assert_eq!(Failure::from(Denied::NotFounded), Failure::Unavailable(Why::NotFounded));
    assert_eq!(Failure::from(Denied::Founded), Failure::Refused(Refused::AlreadyFounded));
}

prop_compose! {
    fn segment()(text in "[a-z0-9][a-z0-9._-]{0,20}") -> Segment { text.parse().unwrap() }
}

prop_compose! {
    fn grant()(tenant in segment(), key in proptest::option::of(segment()), encrypt: bool, decrypt: bool) -> KeyGrant {
        KeyGrant { tenant, key, encrypt, decrypt }
    }
}

proptest! {
    #[test]
    fn rights_are_read_as_written(grants in proptest::collection::vec(grant(), 0..20), bits in 0usize..16, hash: [u8; 32]) {
        let identity: Identity = who(USER);
        let record = GrantRecord { identity: identity.clone(), grants };
        prop_assert_eq!(GrantRecord::from_bytes(&record.to_bytes()), Ok(record));
        let four = [RoleKind::Administrator, RoleKind::Operator, RoleKind::Custodian, RoleKind::Auditor];
        let roles: RoleSet = four.into_iter().enumerate().filter(|(i, _)| bits >> i & 1 == 1).map(|(_, k)| k).collect();
        let steward = StewardRecord { identity: identity.clone(), roles };
        prop_assert_eq!(StewardRecord::from_bytes(&steward.to_bytes()).is_ok(), bits != 0);
        let denied = DeniedRecord { key_hash: KeyHash(sha256(&[&hash]).0), by: identity, since: crate::time::UnixMs(7) };
        prop_assert_eq!(DeniedRecord::from_bytes(&denied.to_bytes()), Ok(denied));
    }

    #[test]
    fn no_bytes_make_the_readers_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        let _ = GrantRecord::from_bytes(&bytes).is_ok() | DeniedRecord::from_bytes(&bytes).is_ok();
        if let Ok(record) = StewardRecord::from_bytes(&bytes) {
            prop_assert_eq!(record.to_bytes(), bytes);
        }
    }

    #[test]
    fn a_grant_reaches_what_it_names(grant in grant(), tenant in segment(), key in segment()) {
        let other = KeyName { tenant, key };
        let own = KeyName { tenant: grant.tenant.clone(), key: grant.key.clone().unwrap_or(other.key.clone()) };
        prop_assert!(grant.reaches(&own));
        prop_assert_eq!(grant.reaches(&other), grant.tenant == other.tenant && grant.key.iter().all(|k| *k == other.key));
    }
}
