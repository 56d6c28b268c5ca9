//! The life of keys, roles and seals, told as stories.

use super::paper::{ADMIN, CUSTODIANS, Paper, USER, caller, custodian, name, request, seeded, who};
use super::*;
use crate::codec::Canonical;
use crate::crypto::{sha256, verify_header};
use crate::envelope::{self, Context};
use crate::failure::{Failure, Refused};
use crate::key::{Algorithm, KeyRecord, Labels, VERSIONS_MAX};
use crate::keyring::Keyring;
use crate::name::{KeyHash, Segment, TxnId};
use crate::page::{BookWriter, Position};
use crate::policy::*;
use crate::record::{RecordKey, Table, Version};
use crate::roster::{Custodians, Founding};
use crate::share::{self, ShareContext};
use crate::slot::{Locker, SlotRecord};
use crate::txn::{Conflict, Effect, Reliance};
use proptest::prelude::*;

/// What an administrator may do to the key `invoices`.
#[derive(Clone, Copy)]
enum Do {
    Create,
    Rotate,
    Disable,
    Enable,
    Lowest(u32),
}

fn ask() -> CreateKeyAsk {
    CreateKeyAsk { algorithm: Algorithm::Aes256Gcm, labels: Labels::new() }
}

fn lowest(number: u32) -> UpdateKeyAsk {
    UpdateKeyAsk { min_decrypt: Some(number), ..UpdateKeyAsk::default() }
}

fn decide(paper: &mut Paper, what: Do, key: &str, stamp: Stamp) -> Result<Decision<KeyRecord>, Failure> {
    let (mut luck, name) = (paper.luck(), name(key));
    let (desk, luck) = (&paper.desk(), &mut luck);
    match what {
        Do::Create => create_key(desk, paper.permit(name), ask(), stamp, luck),
        Do::Rotate => rotate_key(desk, paper.permit(name), stamp, luck),
        Do::Disable => disable_key(desk, paper.permit(name), stamp, luck),
        Do::Enable => enable_key(desk, paper.permit(name), stamp, luck),
        Do::Lowest(number) => update_key(desk, paper.permit(name), lowest(number), stamp, luck),
    }
}

fn act(paper: &mut Paper, what: Do, key: &str, stamp: Stamp) -> Result<(KeyRecord, Version), Failure> {
    let decision = decide(paper, what, key, stamp)?;
    let version = paper.apply(&decision.txn).expect("nobody else writes");
    Ok((decision.outcome, version))
}

fn make(paper: &mut Paper, key: &str) -> KeyRecord {
    act(paper, Do::Create, key, Stamp::default()).unwrap().0
}

fn told(what: Do, result: Result<(KeyRecord, Version), Failure>) -> String {
    match (what, result) {
        (_, Err(why)) => why.to_string(),
        (Do::Create, Ok(_)) => "created".into(),
        (Do::Rotate, Ok((key, _))) => format!("rotated to version {}", key.primary),
        (Do::Disable, Ok(_)) => "disabled".into(),
        (Do::Enable, Ok(_)) => "enabled".into(),
        (Do::Lowest(_), Ok((key, _))) => format!("decrypts from version {}", key.min_decrypt),
    }
}

fn story(commands: &[Do]) -> Vec<String> {
    let mut paper = Paper::founded();
    let mut tell = |what: &Do| {
        let result = act(&mut paper, *what, "invoices", Stamp::default());
        told(*what, result)
    };
    commands.iter().map(&mut tell).collect()
}

#[test]
fn a_key_is_created_rotated_stopped_and_started() {
    use Do::*;
    assert_eq!(
        story(&[Rotate, Create, Rotate, Disable, Rotate, Disable, Enable, Rotate, Create]),
        [
            "refused: there is no such thing",
            "created",
            "rotated to version 2",
            "disabled",
            "refused: the key is disabled",
            "disabled",
            "enabled",
            "rotated to version 3",
            "refused: the name is taken",
        ]
    );
}

#[test]
fn the_lowest_version_is_one_that_there_is() {
    use Do::*;
    assert_eq!(
        story(&[Create, Rotate, Lowest(0), Lowest(3), Lowest(2), Lowest(1)]),
        [
            "created",
            "rotated to version 2",
            "refused: the key has no such version, or it may not be chosen",
            "refused: the key has no such version, or it may not be chosen",
            "decrypts from version 2",
            "decrypts from version 1",
        ]
    );
}

#[test]
fn old_versions_decrypt_after_a_rotation() {
    let mut paper = Paper::founded();
    make(&mut paper, "invoices");
    act(&mut paper, Do::Rotate, "invoices", Stamp::default()).unwrap();
    let desk = paper.desk();
    let (key, version) = read_key(&desk, &name("invoices")).unwrap().unwrap();
    assert_eq!((key.primary, version), (2, 3));
    let context = Context::empty();
    for number in [1, 2] {
        let material = read_material(&desk, &key, number).unwrap();
        let (salt, nonce) = (crate::chance::Fresh::drawn([5; 32]), crate::chance::Fresh::drawn([6; 12]));
        let sealed = envelope::encrypt(&material, b"a file", &context, salt, nonce).unwrap();
        let sealed = envelope::Ciphertext::parse(&sealed).unwrap();
        assert_eq!(envelope::decrypt(&material, &sealed, &context).unwrap().expose(), b"a file");
        let other = read_material(&desk, &key, 3 - number).unwrap();
        assert!(envelope::decrypt(&other, &sealed, &context).is_err());
    }
    assert!(read_material(&desk, &key, 3).is_err());
}

#[test]
fn refuses_more_versions_and_labels_than_there_may_be() {
    let mut paper = Paper::founded();
    let mut key = make(&mut paper, "invoices");
    let first = key.versions[0].clone();
    let number = |n: usize| crate::key::KeyVersion { number: n as u32, ..first.clone() };
    key.versions = (1..=VERSIONS_MAX).map(number).collect();
    key.primary = VERSIONS_MAX as u32;
    paper.plant(paper.keyring.key_record(&key.name), &key.to_bytes());
    let refused = act(&mut paper, Do::Rotate, "invoices", Stamp::default()).unwrap_err();
    assert_eq!(refused, Refused::TooMany("versions of this key").into());
    let label = |n: usize| (format!("l{n}").parse::<Segment>().unwrap(), "x".parse().unwrap());
    let (mut luck, labels) = (paper.luck(), (0..33).map(label).collect());
    let many = CreateKeyAsk { labels, ..ask() };
    let refused = create_key(&paper.desk(), paper.permit(name("b")), many, Stamp::default(), &mut luck).err();
    assert_eq!(refused, Some(Refused::TooMany("labels").into()));
    make(&mut paper, "b");
}

#[test]
fn refuses_an_update_of_a_key_that_moved_on() {
    let mut paper = Paper::founded();
    let (_, version) = act(&mut paper, Do::Create, "invoices", Stamp::default()).unwrap();
    let update = |paper: &mut Paper, expected| {
        let labels = Some(Labels::from([("env".parse().unwrap(), "prod".parse().unwrap())]));
        let (mut luck, ask) = (paper.luck(), UpdateKeyAsk { labels, min_decrypt: None, expected: Some(expected) });
        let decision = update_key(&paper.desk(), paper.permit(name("invoices")), ask, Stamp::default(), &mut luck)?;
        Ok::<_, Failure>(paper.apply(&decision.txn).unwrap())
    };
    let before = paper.fingerprint();
    assert_eq!(update(&mut paper, version + 1), Err(Refused::Stale.into()));
    assert_eq!(paper.fingerprint(), before);
    let newer = update(&mut paper, version).unwrap();
    assert_eq!(update(&mut paper, version), Err(Refused::Stale.into()));
    assert_eq!(update(&mut paper, newer), Ok(newer + 1));
    let (mut luck, nothing) = (paper.luck(), UpdateKeyAsk::default());
    let refused = update_key(&paper.desk(), paper.permit(name("invoices")), nothing, Stamp::default(), &mut luck);
    assert!(matches!(refused, Err(Failure::Refused(Refused::BadRequest(_)))));
}

#[test]
fn two_decisions_from_one_view_do_not_both_happen() {
    let mut paper = Paper::founded();
    let first = decide(&mut paper, Do::Create, "invoices", Stamp::default()).unwrap();
    let second = decide(&mut paper, Do::Create, "invoices", Stamp::default()).unwrap();
    let version = paper.apply(&first.txn).unwrap();
    let place = paper.keyring.key_record(&name("invoices"));
    assert_eq!(paper.apply(&second.txn), Err(Conflict::Record(place, version)));
    assert_eq!(paper.live(Table::Material), 1);
    assert!(matches!(decide(&mut paper, Do::Create, "invoices", Stamp::default()), Err(Failure::Refused(_))));
}

#[test]
fn refuses_what_was_decided_by_rights_that_are_gone() {
    let mut paper = Paper::founded();
    give(&mut paper, role(SECOND, &[RoleKind::Administrator])).unwrap();
    let mut luck = paper.luck();
    let leave = paper.judged::<CreateKey>(SECOND, name("invoices")).unwrap();
    let late = create_key(&paper.desk(), leave, ask(), Stamp::default(), &mut luck).unwrap();
    let leave = paper.judged::<CreateKey>(SECOND, name("receipts")).unwrap();
    let later = create_key(&paper.desk(), leave, ask(), Stamp::default(), &mut luck).unwrap();
    deny(&mut paper, *caller(SECOND).key_hash()).unwrap();
    assert!(matches!(paper.apply(&late.txn), Err(Conflict::Record(key, _)) if key.table == Table::Denied));
    take(&mut paper, SECOND).unwrap();
    assert!(paper.apply(&later.txn).is_err());
    assert_eq!(paper.live(Table::Key), 0);
}

#[test]
fn a_repeated_request_gets_the_same_answer() {
    let mut paper = Paper::founded();
    let (key, version) = act(&mut paper, Do::Create, "invoices", request(1, "create invoices")).unwrap();
    let (id, hash) = request(1, "create invoices").request.unwrap();
    let asked = |paper: &Paper, name, hash| replay(&paper.desk(), &paper.permit::<CreateKey>(name), &id, hash);
    let replayed = asked(&paper, name("invoices"), &hash).unwrap().unwrap();
    assert_eq!((KeyRecord::from_bytes(&replayed.outcome), replayed.version), (Ok(key), version));
    let other = sha256(&[b"create receipts"]);
    assert_eq!(asked(&paper, name("receipts"), &other), Err(Refused::RequestReused.into()));
    let rotate = paper.permit::<RotateKey>(name("invoices"));
    assert_eq!(replay(&paper.desk(), &rotate, &id, &hash), Err(Refused::RequestReused.into()));
    paper.now = paper.now.plus_ms(REQUEST_KEPT_MS);
    assert_eq!(asked(&paper, name("receipts"), &other), Ok(None));
    act(&mut paper, Do::Rotate, "invoices", request(1, "rotate")).unwrap();
    assert_eq!(paper.live(Table::Request), 1);
}

#[test]
fn one_request_sent_twice_at_once_happens_once() {
    let mut paper = Paper::founded();
    make(&mut paper, "invoices");
    let first = decide(&mut paper, Do::Rotate, "invoices", request(7, "rotate")).unwrap();
    let second = decide(&mut paper, Do::Rotate, "invoices", request(7, "rotate")).unwrap();
    assert!(paper.apply(&first.txn).is_ok() && paper.apply(&second.txn).is_err());
    assert_eq!(read_key(&paper.desk(), &name("invoices")).unwrap().unwrap().0.primary, 2);
}

#[test]
fn requests_are_forgotten_after_a_day() {
    let mut paper = Paper::founded();
    for n in 0..3 {
        act(&mut paper, Do::Create, &format!("k{n}"), request(n, "create")).unwrap();
    }
    let none = expire_requests(&paper.desk(), None, 100, TxnId([1; 16])).unwrap();
    assert!(none.0.is_none() && none.1.is_none());
    paper.now = paper.now.plus_ms(REQUEST_KEPT_MS);
    let (txn, next) = expire_requests(&paper.desk(), None, 2, TxnId([1; 16])).unwrap();
    paper.apply(&txn.unwrap()).unwrap();
    assert_eq!(paper.live(Table::Request), 1);
    let (txn, next) = expire_requests(&paper.desk(), next, 2, TxnId([2; 16])).unwrap();
    paper.apply(&txn.unwrap()).unwrap();
    assert_eq!((paper.live(Table::Request), next), (0, None));
}

#[test]
fn the_page_travels_sealed_in_the_transaction() {
    let mut paper = Paper::founded();
    let stamp = Stamp { page: Some(b"a page without its outcome".to_vec()), request: None };
    let decision = decide(&mut paper, Do::Create, "invoices", stamp).unwrap();
    let clear = |put: &crate::txn::Put| put.value.windows(6).any(|w| w == b"a page");
    assert!(!decision.txn.puts.iter().any(clear));
    paper.apply(&decision.txn).unwrap();
    let pages = pages_travelled(&paper.desk(), None, 10).unwrap();
    assert_eq!(pages.len(), 1);
    assert_eq!(pages[0].1, b"a page without its outcome");
    assert!(pages_travelled(&paper.desk(), Some(pages[0].0.tag), 10).unwrap().is_empty());
}

#[test]
fn lists_show_a_key_user_only_what_is_granted() {
    let mut paper = Paper::founded();
    ["a", "b", "c"].iter().for_each(|key| drop(make(&mut paper, key)));
    let only =
        KeyGrant { tenant: "acme".parse().unwrap(), key: Some("b".parse().unwrap()), encrypt: false, decrypt: true };
    let kinds = RoleSet::of(&[RoleKind::KeyUser]);
    give(&mut paper, Role { identity: who(SECOND), kinds, grants: vec![only] }).unwrap();
    let names = |uri: &str| {
        let permit = paper.judged::<ListKeys>(uri, "acme".parse().unwrap()).unwrap();
        let (mut names, mut after) = (Vec::new(), None);
        loop {
            let page = list_keys(&paper.desk(), &permit, after, 2).unwrap();
            names.extend(page.keys.into_iter().map(|(key, _)| key.name.key.to_string()));
            after = page.next;
            if after.is_none() {
                names.sort();
                return names;
            }
        }
    };
    assert_eq!((names(ADMIN), names(USER), names(SECOND)), (v(&["a", "b", "c"]), v(&["a", "b", "c"]), v(&["b"])));
    assert!(paper.judged::<ListKeys>(SECOND, "other".parse().unwrap()).is_err());
}

#[test]
fn refuses_records_that_were_moved_or_changed() {
    let mut paper = Paper::founded();
    let key = make(&mut paper, "invoices");
    make(&mut paper, "receipts");
    let (from, to) = (paper.keyring.key_record(&name("receipts")), paper.keyring.key_record(&key.name));
    paper.move_record(&from, to);
    assert!(read_key(&paper.desk(), &key.name).is_err());
    assert!(matches!(decide(&mut paper, Do::Rotate, "invoices", Stamp::default()), Err(Failure::Broken(_))));
    let grant = paper.keyring.grant_record(&who(USER));
    paper.plant(grant, b"no grant");
    assert!(Rights::read(&paper.records, Some(&paper.desk().books()), &caller(USER)).is_err());
    let admin = StewardRecord::key(&who(ADMIN));
    paper.move_record(&admin, StewardRecord::key(&who(SECOND)));
    assert!(Rights::read(&paper.records, None, &caller(SECOND)).is_err());
}

const SECOND: &str = "spiffe://example.org/claviger/operator/second";

fn v(words: &[&str]) -> Vec<String> {
    words.iter().map(ToString::to_string).collect()
}

fn role(uri: &str, kinds: &[RoleKind]) -> Role {
    Role { identity: who(uri), kinds: RoleSet::of(kinds), grants: Vec::new() }
}

fn give(paper: &mut Paper, role: Role) -> Result<Version, Failure> {
    let mut luck = paper.luck();
    let decision = set_role(&paper.desk(), paper.permit(Cluster), role, Stamp::default(), &mut luck)?;
    Ok(paper.apply(&decision.txn).unwrap())
}

fn take(paper: &mut Paper, uri: &str) -> Result<Version, Failure> {
    let mut luck = paper.luck();
    let decision = delete_role(&paper.desk(), paper.permit(Cluster), &who(uri), Stamp::default(), &mut luck)?;
    Ok(paper.apply(&decision.txn).unwrap())
}

fn deny(paper: &mut Paper, key_hash: KeyHash) -> Result<Version, Failure> {
    let mut luck = paper.luck();
    let decision = deny_certificate(&paper.desk(), paper.permit(Cluster), key_hash, Stamp::default(), &mut luck)?;
    Ok(paper.apply(&decision.txn).unwrap())
}

fn allow(paper: &mut Paper, key_hash: KeyHash) -> Result<Version, Failure> {
    let mut luck = paper.luck();
    let decision = allow_certificate(&paper.desk(), paper.permit(Cluster), key_hash, Stamp::default(), &mut luck)?;
    Ok(paper.apply(&decision.txn).unwrap())
}

#[test]
fn roles_are_given_read_listed_and_taken() {
    let mut paper = Paper::founded();
    let version = give(&mut paper, role(SECOND, &[RoleKind::Auditor, RoleKind::Operator])).unwrap();
    let (read, at) = read_role(&paper.desk(), &who(SECOND)).unwrap().unwrap();
    assert_eq!((read, at), (role(SECOND, &[RoleKind::Operator, RoleKind::Auditor]), version));
    assert!(read_role(&paper.desk(), &who(USER)).unwrap().unwrap().0.kinds.has(RoleKind::KeyUser));
    let (mut seen, mut after, mut pages) = (Vec::new(), None, 0);
    loop {
        let page = list_roles(&paper.desk(), after, 3).unwrap();
        seen.extend(page.roles.into_iter().map(|(role, _)| role.identity.to_string()));
        pages += 1;
        after = page.next.map(|cursor| RoleCursor::from_bytes(&cursor.to_bytes()).unwrap());
        if after.is_none() {
            break;
        }
    }
    seen.sort();
    let mut all: Vec<String> = CUSTODIANS.iter().map(|name| custodian(name).to_string()).collect();
    all.extend(v(&[ADMIN, SECOND, USER]));
    all.sort();
    assert_eq!((seen, pages), (all, 4));
    take(&mut paper, SECOND).unwrap();
    assert_eq!(read_role(&paper.desk(), &who(SECOND)), Ok(None));
    assert_eq!(take(&mut paper, SECOND), Err(Refused::NotFound.into()));
}

#[test]
fn a_role_replaces_the_one_before() {
    let mut paper = Paper::founded();
    give(&mut paper, role(USER, &[RoleKind::Auditor])).unwrap();
    assert_eq!(paper.live(Table::Grant), 0);
    assert!(paper.judged::<Encrypt>(USER, name("invoices")).is_err());
    let kinds = RoleSet::of(&[RoleKind::KeyUser]);
    let grants = vec![KeyGrant { tenant: "acme".parse().unwrap(), key: None, encrypt: true, decrypt: false }];
    give(&mut paper, Role { identity: who(USER), kinds, grants }).unwrap();
    assert!(paper.judged::<Encrypt>(USER, name("invoices")).is_ok());
    assert!(paper.judged::<Decrypt>(USER, name("invoices")).is_err());
    assert!(paper.judged::<TailAudit>(USER, Cluster).is_err());
}

#[test]
fn refuses_roles_that_contradict_themselves() {
    let mut paper = Paper::founded();
    let grant = KeyGrant { tenant: "acme".parse().unwrap(), key: None, encrypt: true, decrypt: true };
    let with = |kinds: &[RoleKind], grants: Vec<KeyGrant>| Role { grants, ..role(SECOND, kinds) };
    let useless = KeyGrant { encrypt: false, decrypt: false, ..grant.clone() };
    let before = paper.fingerprint();
    for bad in [
        with(&[], vec![]),
        with(&[RoleKind::KeyUser], vec![]),
        with(&[RoleKind::Auditor], vec![grant.clone()]),
        with(&[RoleKind::KeyUser], vec![useless]),
        with(&[RoleKind::KeyUser], vec![grant.clone(), grant.clone()]),
    ] {
        assert!(matches!(give(&mut paper, bad), Err(Failure::Refused(Refused::BadRequest(_)))));
    }
    let both = with(&[RoleKind::KeyUser, RoleKind::Administrator], vec![grant.clone()]);
    assert_eq!(give(&mut paper, both), Err(Refused::RolesExclude.into()));
    let key = |n: usize| KeyGrant { key: Some(format!("k{n}").parse().unwrap()), ..grant.clone() };
    let many = with(&[RoleKind::KeyUser], (0..=GRANTS_MAX).map(key).collect());
    assert_eq!(give(&mut paper, many), Err(Refused::TooMany("keys of one key user").into()));
    assert_eq!(paper.fingerprint(), before);
    give(&mut paper, with(&[RoleKind::KeyUser], (0..GRANTS_MAX).map(key).collect())).unwrap();
}

#[test]
fn refuses_to_lose_the_last_administrator() {
    let mut paper = Paper::founded();
    assert_eq!(take(&mut paper, ADMIN), Err(Refused::LastAdministrator.into()));
    assert_eq!(give(&mut paper, role(ADMIN, &[RoleKind::Auditor])), Err(Refused::LastAdministrator.into()));
    give(&mut paper, role(SECOND, &[RoleKind::Administrator])).unwrap();
    // Both step down at once, each for the other's sake.
    let mut luck = paper.luck();
    let one = delete_role(&paper.desk(), paper.permit(Cluster), &who(ADMIN), Stamp::default(), &mut luck).unwrap();
    let leave = paper.judged::<DeleteRole>(SECOND, Cluster).unwrap();
    let two = delete_role(&paper.desk(), leave, &who(SECOND), Stamp::default(), &mut luck).unwrap();
    assert!(paper.apply(&one.txn).is_ok());
    assert!(paper.apply(&two.txn).is_err());
    assert!(paper.judged::<SetRole>(SECOND, Cluster).is_ok());
}

#[test]
fn refuses_to_lose_the_custodians_who_could_open() {
    let mut paper = Paper::founded();
    for name in &CUSTODIANS[..2] {
        take(&mut paper, &custodian(name).to_string()).unwrap();
    }
    let third = custodian(CUSTODIANS[2]).to_string();
    assert_eq!(take(&mut paper, &third), Err(Refused::TooFewCustodians.into()));
    let auditor = give(&mut paper, role(&third, &[RoleKind::Auditor]));
    assert_eq!(auditor, Err(Refused::TooFewCustodians.into()));
    give(&mut paper, role(&third, &[RoleKind::Auditor, RoleKind::Custodian])).unwrap();
    give(&mut paper, role(&custodian(CUSTODIANS[0]).to_string(), &[RoleKind::Custodian])).unwrap();
    take(&mut paper, &third).unwrap();
}

#[test]
fn a_denied_certificate_may_do_nothing_until_it_is_allowed() {
    let mut paper = Paper::founded();
    let hash = *caller(USER).key_hash();
    deny(&mut paper, hash).unwrap();
    deny(&mut paper, hash).unwrap();
    assert_eq!(list_denied(&paper.records), Ok(vec![hash]));
    assert_eq!(paper.judged::<Encrypt>(USER, name("a")).err(), Some(Denied::Certificate));
    assert_eq!(paper.judged::<GetSealStatus>(USER, Cluster).err(), Some(Denied::Certificate));
    allow(&mut paper, hash).unwrap();
    assert!(paper.judged::<Encrypt>(USER, name("a")).is_ok());
    assert_eq!(allow(&mut paper, hash), Err(Refused::NotFound.into()));
    let own = *caller(ADMIN).key_hash();
    assert_eq!(deny(&mut paper, own), Err(Refused::OwnCertificate.into()));
}

#[test]
fn sealing_all_adds_a_signed_link() {
    let mut paper = Paper::founded();
    for epoch in 1..=5 {
        let (before, _) = newest_header(&paper.records).unwrap().unwrap();
        let mut luck = paper.luck();
        let decision = seal_all(&paper.desk(), paper.permit(Cluster), request(epoch as u8, ""), &mut luck).unwrap();
        let version = paper.apply(&decision.txn).unwrap();
        let (link, at) = newest_header(&paper.records).unwrap().unwrap();
        assert_eq!((link.header.seal_epoch, link.header.number, at), (epoch, epoch, version));
        assert_eq!((decision.outcome, link.header.previous), (epoch, sha256(&[&before.to_bytes()])));
        assert!(verify_header(&link, &before.header.txn_key.public));
    }
}

#[test]
fn two_seals_at_once_are_one_link() {
    let mut paper = Paper::founded();
    let mut luck = paper.luck();
    let one = seal_all(&paper.desk(), paper.permit(Cluster), Stamp::default(), &mut luck).unwrap();
    let two = seal_all(&paper.desk(), paper.permit(Cluster), Stamp::default(), &mut luck).unwrap();
    assert!(paper.apply(&one.txn).is_ok() && paper.apply(&two.txn).is_err());
}

#[test]
fn what_a_founding_writes_opens_with_three_shares() {
    let paper = Paper::founded();
    let founding: Founding = open(&paper, RecordKey::only(Table::Genesis));
    let custodians: Custodians = open(&paper, RecordKey::only(Table::Custodians));
    let slot: SlotRecord = open(&paper, RecordKey::numbered(Table::Slot, 1));
    let (link, _) = newest_header(&paper.records).unwrap().unwrap();
    let header = &link.header;
    assert!(verify_header(&link, &founding.genesis.txn_public));
    assert_eq!(header.slots, crate::slot::slots_digest(std::slice::from_ref(&slot)));
    assert_eq!(header.custodians, sha256(&[&custodians.to_bytes()]));
    let context = ShareContext::of(paper.lineage, &custodians).unwrap();
    let three: Vec<_> = paper
        .found
        .iter()
        .skip(1)
        .take(3)
        .map(|dealt| {
            assert_eq!(dealt.holder.identity, custodian(CUSTODIANS[usize::from(dealt.share.index()) - 1]));
            share::Share::from_payload(dealt.share.to_payload().expose()).unwrap()
        })
        .collect();
    let unsealing = share::combine(&three, &context, &custodians.holders).unwrap();
    let locker = Locker::custodians(&unsealing, &context, slot.number);
    let root = slot.unlock(&locker, &paper.lineage, &header.root_commitment).unwrap();
    let sealed = crate::record::View::record(&paper.records, &RecordKey::only(Table::Keyring)).unwrap().value;
    assert_eq!(header.keyring, sha256(&[&sealed]));
    let keyring = Keyring::open(&root, &paper.lineage, &sealed).unwrap();
    assert_eq!(keyring.slots()[0].public, slot.public);
    assert_eq!(keyring.txn_key(), header.txn_key);
}

fn open<T: Canonical>(paper: &Paper, key: RecordKey) -> T {
    crate::books::read_open(&paper.records, &key).unwrap().unwrap().0
}

#[test]
fn a_founding_relies_on_nothing_having_been_there() {
    let mut chance = crate::chance::Chance::grow(crate::chance::Fresh::drawn([4; 32]));
    let paper = Paper::founded();
    let mut founding: Founding = open(&paper, RecordKey::only(Table::Genesis));
    founding.genesis.custodians.clear();
    founding.genesis.threshold = 0;
    let file = || Some(crate::secret::Secret32::of(crate::chance::Fresh::drawn([8; 32])));
    let ask = |founding: &Founding, administrators: Vec<_>, static_key| FoundAsk {
        founding: founding.clone(),
        administrators,
        grants: Vec::new(),
        static_key,
    };
    let mut other = Keyring::draw(&mut chance);
    assert!(matches!(
        found(ask(&founding, vec![who(ADMIN)], file()), &mut other, &mut chance),
        Err(Failure::Broken(_))
    ));
    founding.genesis.txn_public = other.txn_key().public;
    for bad in [ask(&founding, vec![], file()), ask(&founding, vec![who(ADMIN)], None)] {
        assert!(matches!(found(bad, &mut other, &mut chance), Err(Failure::Refused(Refused::BadRequest(_)))));
    }
    let done = found(ask(&founding, vec![who(ADMIN)], file()), &mut other, &mut chance).unwrap();
    assert!(done.shares.is_empty() && done.txn.effect == Effect::Found);
    assert!(done.txn.relies.iter().all(|r| matches!(r, Reliance::Exact(_, 0))));
    assert!(!done.txn.puts.iter().any(|put| put.key.table == Table::Custodians));
}

#[test]
fn an_audit_head_replaces_the_one_before_and_ends_closed_pages() {
    let mut paper = Paper::founded();
    let stamp = Stamp { page: Some(b"a page".to_vec()), request: None };
    act(&mut paper, Do::Create, "invoices", stamp).unwrap();
    let closed = [pages_travelled(&paper.desk(), None, 10).unwrap()[0].0];
    let at = Position::first(crate::name::NodeId(1), Some(paper.lineage));
    let book = BookWriter::begin(at, &mut Vec::new());
    let head = book.sign(&seeded(1), paper.now, &mut Vec::new());
    for _ in 0..2 {
        let mut luck = paper.luck();
        let txn = audit_head(&paper.desk(), &head, &closed, &mut luck);
        paper.apply(&txn).unwrap();
    }
    assert_eq!(open::<crate::page::SignedHead>(&paper, RecordKey::numbered(Table::AuditHead, 1)), head);
    assert_eq!(paper.live(Table::Page), 0);
}

proptest! {
    #[test]
    fn no_bytes_make_the_readers_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        if let Ok(record) = RequestRecord::from_bytes(&bytes) {
            prop_assert_eq!(record.to_bytes(), bytes.clone());
        }
        if let Ok(cursor) = RoleCursor::from_bytes(&bytes) {
            prop_assert_eq!(cursor.to_bytes(), bytes);
        }
    }

    #[test]
    fn a_request_is_read_as_written(hash: [u8; 32], expires: u64, outcome in proptest::collection::vec(any::<u8>(), 0..99)) {
        let (hash, expires) = (crate::name::Digest(hash), crate::time::UnixMs(expires));
        let record = RequestRecord { operation: Operation::SetRole, hash, expires, outcome };
        let bytes = record.to_bytes();
        prop_assert!(RequestRecord::from_bytes(&bytes[..bytes.len() - 1]).is_err());
        prop_assert_eq!(RequestRecord::from_bytes(&bytes), Ok(record));
    }
}
