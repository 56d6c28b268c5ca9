//! Mandates on a cluster on paper: three of five custodians, one node.

use super::*;
use crate::crypto::sign_as_heir;
use crate::decide::paper::{Paper, custodian, seeded};
use crate::decide::{Stamp, TicketAsk, create_join_ticket, left_alone, roster, seal_all, succeed};
use crate::failure::{Failure, Refused};
use crate::header::{Header, HeaderLink};
use crate::name::{DiskId, NodeId, VerifyingKey};
use crate::policy::Cluster;
use crate::record::{Collection, RecordKey, Table, TenantTag, View};
use crate::roster::{MEMBERS_MAX, Roster};
use crate::secret::Secret32;
use crate::slot::Root;
use crate::txn::Txn;

const NOW: UnixMs = UnixMs(5_000);

fn custodians(paper: &Paper) -> Custodians {
    Custodians::from_bytes(&paper.records.record(&RecordKey::only(Table::Custodians)).unwrap().value).unwrap()
}

fn stranger() -> Member {
    Member { node: NodeId(9), key: seeded(9).public(), disk: DiskId([9; 16]), role: Role::Voter }
}

fn mandate(paper: &Paper, heir: Member) -> Mandate {
    let head = paper.chain().head().unwrap().clone();
    Mandate {
        lineage: paper.lineage,
        generation: head.header.generation + 1,
        heir,
        ground: Ground::Restored(Digest([4; 32])),
        head: crypto::sha256(&[&head.to_bytes()]),
        nonce: [1; 16],
        expires: UnixMs(6_000),
    }
}

fn consent(paper: &Paper, mandate: &Mandate, at: usize) -> Consent {
    let dealt = &paper.found[at];
    let challenge = mandate.challenge(dealt.share.index(), &dealt.holder.identity);
    Consent { index: dealt.share.index(), signature: dealt.share.prove(&challenge) }
}

fn signed(paper: &Paper, mandate: Mandate, by: &[usize]) -> SignedMandate {
    let consents = by.iter().map(|at| consent(paper, &mandate, *at)).collect();
    SignedMandate { mandate, custodians: custodians(paper), consents }
}

fn root() -> Root {
    Root::new(1, Secret32::copy_from(&[7; 32]).unwrap())
}

fn decided(paper: &mut Paper, signed: SignedMandate) -> Result<Txn, Failure> {
    let (mut luck, identity) = (paper.luck(), seeded(signed.mandate.heir.node.0 as u8));
    succeed(&paper.desk(), signed, &identity, &paper.chain(), &root(), &mut luck)
}

#[test]
fn the_heir_of_three_custodians_is_alone_in_the_next_generation() {
    let mut paper = Paper::founded();
    let before = paper.keyring.txn_key();
    let given = signed(&paper, mandate(&paper, stranger()), &[0, 2, 4]);
    let txn = decided(&mut paper, given.clone()).unwrap();
    assert!(paper.chain().with(&txn).is_some(), "the state machine takes it");
    paper.apply(&txn).unwrap();
    let (chain, now) = (paper.chain(), roster(&paper.records).unwrap());
    let head = &chain.head().unwrap().header;
    assert_eq!((head.generation, head.txn_key.number), (2, before.number + 1));
    assert_eq!(head.mandate.as_deref(), Some(&given), "whoever has the chain can verify it");
    assert_eq!((now.voters(), now.member(NodeId(1)).map(|m| m.role)), ([NodeId(9)].into(), Some(Role::Retired)));
    assert!(!given.follows(&chain), "it begins one generation");
    assert!(matches!(decided(&mut paper, given), Err(Failure::Refused(Refused::BadRequest(_)))));
}

#[test]
fn a_member_can_be_the_heir() {
    let mut paper = Paper::founded();
    let own = roster(&paper.records).unwrap().member(NodeId(1)).unwrap().clone();
    let given = signed(&paper, mandate(&paper, own), &[0, 1, 2]);
    let txn = decided(&mut paper, given).unwrap();
    paper.apply(&txn).unwrap();
    assert_eq!(paper.chain().roster().unwrap().epoch, 2);
}

#[test]
fn nothing_less_than_enough_good_signatures_of_the_custodians_counts() {
    let paper = Paper::founded();
    let (chain, meant) = (paper.chain(), mandate(&paper, stranger()));
    let good = signed(&paper, meant.clone(), &[0, 2, 4]);
    assert!(good.follows(&chain));
    let bad = |change: &dyn Fn(&mut SignedMandate)| {
        let mut changed = good.clone();
        change(&mut changed);
        !changed.follows(&chain)
    };
    assert!(bad(&|m| _ = m.consents.pop()), "two of three");
    assert!(bad(&|m| m.consents[1] = m.consents[0].clone()), "one custodian twice");
    assert!(bad(&|m| m.consents.swap(0, 1)), "out of order");
    assert!(bad(&|m| m.consents[0].signature.0[5] ^= 1), "a flipped bit");
    assert!(bad(&|m| m.consents.push(Consent { index: 9, signature: m.consents[0].signature })));
    assert!(bad(&|m| m.consents[0].index = 2), "in another's name");
    assert!(bad(&|m| m.mandate.heir.disk = DiskId([8; 16])), "for another disk");
    assert!(bad(&|m| m.mandate.ground = Ground::Restored(Digest([5; 32]))), "for another state");
    assert!(bad(&|m| m.custodians.threshold = 2), "by custodians who would need fewer");
    assert!(bad(&|m| m.custodians.holders.truncate(3)));
}

#[test]
fn the_right_signatures_for_another_cluster_generation_or_role_count_for_nothing() {
    let paper = Paper::founded();
    let chain = paper.chain();
    let follows = |change: &dyn Fn(&mut Mandate)| {
        let mut meant = mandate(&paper, stranger());
        change(&mut meant);
        signed(&paper, meant, &[0, 1, 2, 3, 4]).follows(&chain)
    };
    assert!(follows(&|_| ()));
    assert!(!follows(&|m| m.lineage.0[0] ^= 1));
    assert!(!follows(&|m| m.generation = 1) && !follows(&|m| m.generation = 3));
    assert!(!follows(&|m| m.heir.role = Role::Learner));
}

#[test]
fn the_chain_takes_no_other_generation_without_a_mandate_and_nobody_beside_the_heir() {
    let mut paper = Paper::founded();
    let (chain, given) = (paper.chain(), signed(&paper, mandate(&paper, stranger()), &[0, 2, 4]));
    let txn = decided(&mut paper, given).unwrap();
    let key = RecordKey::numbered(Table::Header, 1);
    let link =
        |txn: &Txn| HeaderLink::from_bytes(&txn.puts.iter().find(|put| put.key == key).unwrap().value).unwrap().header;
    let with = |change: &dyn Fn(&mut Header, &mut crate::roster::Roster)| {
        let (mut txn, mut header) = (txn.clone(), link(&txn));
        let place = txn.puts.iter().position(|put| put.key == RecordKey::only(Table::Roster)).unwrap();
        let mut roster = crate::roster::Roster::from_bytes(&txn.puts[place].value).unwrap();
        change(&mut header, &mut roster);
        txn.puts[place].value = roster.to_bytes();
        header.roster = crypto::sha256(&[&txn.puts[place].value]);
        let linked = txn.puts.iter().position(|put| put.key == key).unwrap();
        let link = paper.keyring.sign_header(header);
        let link = if link.header.mandate.is_some() { sign_as_heir(&seeded(9), link) } else { link };
        txn.puts[linked].value = link.to_bytes();
        chain.with(&txn).is_some()
    };
    assert!(with(&|_, _| ()));
    assert!(!with(&|header, _| header.mandate = None), "the transaction key alone begins no generation");
    assert!(!with(&|header, _| header.generation = 1), "a mandate begins one");
    assert!(!with(&|header, _| header.generation = 3));
    assert!(!with(&|header, _| header.custodians = Digest([0; 32])), "its custodians stay");
    assert!(!with(&|_, roster| roster.members[0].role = Role::Learner), "the others have left");
    assert!(!with(&|_, roster| roster.members[1].disk = DiskId([3; 16])), "it is that very disk");
}

#[test]
fn signatures_are_gathered_from_those_who_hold_the_shares() {
    let paper = Paper::founded();
    let meant = mandate(&paper, stranger());
    let mut gathering = Gathering::new(meant.clone(), custodians(&paper));
    let said = |at: usize| consent(&paper, &meant, at);
    let mut give = |now, bearer: &str, index, signature| {
        let whole = gathering.consent(now, &custodian(bearer), index, signature);
        whole.map(|whole| whole.cloned()).map_err(|refused| refused.why)
    };
    assert_eq!(give(NOW, "mallory", 1, said(0).signature), Err(ShareWhy::NotACustodian));
    assert_eq!(give(NOW, "alice", 2, said(1).signature), Err(ShareWhy::NotTheHolder));
    assert_eq!(give(NOW, "alice", 6, said(0).signature), Err(ShareWhy::WrongIndex));
    assert_eq!(give(NOW, "alice", 1, said(1).signature), Err(ShareWhy::WrongProof));
    assert_eq!(give(UnixMs(6_000), "alice", 1, said(0).signature), Err(ShareWhy::Expired));
    assert_eq!(give(NOW, "erin", 5, said(4).signature), Ok(None));
    assert_eq!(give(NOW, "erin", 5, said(4).signature), Err(ShareWhy::Duplicate));
    assert_eq!(give(NOW, "alice", 1, said(0).signature), Ok(None));
    let whole = give(NOW, "carol", 3, said(2).signature).unwrap().unwrap();
    assert!(whole.follows(&paper.chain()), "though they came out of order");
    assert_eq!(gathering.signed(), [&custodian("alice"), &custodian("carol"), &custodian("erin")]);
    assert_eq!(gathering.missing(), [&custodian("bob"), &custodian("dave")]);
}

#[test]
fn a_mandate_is_read_as_it_was_written() {
    let paper = Paper::founded();
    let given = signed(&paper, mandate(&paper, stranger()), &[0, 2, 4]);
    let bytes = given.to_bytes();
    assert_eq!(SignedMandate::from_bytes(&bytes), Ok(given));
    assert!((0..bytes.len()).all(|cut| SignedMandate::from_bytes(&bytes[..cut]).is_err()));
}

fn sealed_all(paper: &mut Paper) {
    let mut luck = paper.luck();
    let decision = seal_all(&paper.desk(), paper.permit(Cluster), Stamp::default(), &mut luck).unwrap();
    paper.apply(&decision.txn).unwrap();
}

#[test]
fn a_mandate_follows_from_the_chain_that_its_custodians_were_shown_and_a_little_behind_it() {
    let mut paper = Paper::founded();
    let given = signed(&paper, mandate(&paper, stranger()), &[0, 2, 4]);
    let other = Mandate { head: Digest([7; 32]), ..given.mandate.clone() };
    assert!(!signed(&paper, other, &[0, 2, 4]).follows(&paper.chain()), "for another chain");
    // What had been in the survivor's log already.
    for _ in 1..crate::chain::TRAIL_LINKS {
        sealed_all(&mut paper);
        assert!(given.follows(&paper.chain()));
    }
    sealed_all(&mut paper);
    assert!(!given.follows(&paper.chain()), "the cluster has gone on");
}

#[test]
fn a_chain_that_begins_a_generation_is_named_by_a_roster_of_the_heir_alone() {
    let mut paper = Paper::founded();
    let (before, given) = (paper.chain(), signed(&paper, mandate(&paper, stranger()), &[0, 2, 4]));
    let alone = before.roster().unwrap().left_to(&stranger());
    let shared = Roster {
        members: before.roster().unwrap().members.iter().cloned().chain([stranger()]).collect(),
        ..alone.clone()
    };
    let head = before.head().unwrap().clone();
    let named = |roster: &Roster| {
        let header = Header {
            number: 1,
            previous: crypto::sha256(&[&head.to_bytes()]),
            generation: 2,
            roster: crypto::sha256(&[&roster.to_bytes()]),
            mandate: Some(Box::new(given.clone())),
            ..head.header.clone()
        };
        let by_t = paper.keyring.sign_header(header);
        assert!(HeaderLink::from_bytes(&by_t.to_bytes()).is_err(), "such a link has two signatures");
        assert!(before.longer(vec![by_t.clone()]).is_none(), "the transaction key alone begins nothing");
        assert!(before.longer(vec![sign_as_heir(&seeded(1), by_t.clone())]).is_none(), "nor does another node");
        before.longer(vec![sign_as_heir(&seeded(9), by_t)]).unwrap().named(roster.clone()).is_some()
    };
    assert!(named(&alone));
    assert!(!named(&shared), "somebody else is present");
    let txn = decided(&mut paper, given.clone()).unwrap();
    paper.apply(&txn).unwrap();
    let chain = paper.chain();
    assert_eq!((before.rank(), chain.rank()), ((1, 1), (2, 2)));
}

#[test]
fn a_generation_that_two_nodes_began_tears_the_cluster() {
    let begun = |nonce: u8| {
        let mut paper = Paper::founded();
        let given = signed(&paper, Mandate { nonce: [nonce; 16], ..mandate(&paper, stranger()) }, &[0, 2, 4]);
        let txn = decided(&mut paper, given).unwrap();
        paper.apply(&txn).unwrap();
        paper.chain()
    };
    let (one, other) = (begun(1), begun(2));
    assert_eq!((one.torn_from(&other), other.torn_from(&one)), (Some(2), Some(2)));
    assert_eq!((one.torn_from(&begun(1)), one.torn_from(&Paper::founded().chain())), (None, None));
}

#[test]
fn leave_to_join_the_old_generation_is_no_leave_to_join_the_next() {
    let mut paper = Paper::founded();
    let mut luck = paper.luck();
    for node in [7, 8] {
        let ask = TicketAsk { node: NodeId(node), good_for_ms: 1_000 };
        let given = create_join_ticket(&paper.desk(), paper.permit(Cluster), &ask, Stamp::default(), &mut luck);
        paper.apply(&given.unwrap().txn).unwrap();
    }
    assert_eq!(paper.live(Table::Ticket), 2);
    let given = signed(&paper, mandate(&paper, stranger()), &[0, 2, 4]);
    let txn = decided(&mut paper, given).unwrap();
    let all = Collection { table: Table::Ticket, tenant: TenantTag::default() };
    assert!(txn.relies.iter().any(|r| matches!(r, crate::txn::Reliance::Members(c, _) if *c == all)));
    paper.apply(&txn).unwrap();
    assert_eq!(paper.live(Table::Ticket), 0);
}

#[test]
fn custodians_are_asked_for_nothing_that_could_not_come_to_be() {
    let paper = Paper::founded();
    let chain = paper.chain();
    let told = |chain: &Chain, heir: &Member| left_alone(chain, heir).err();
    let own = roster(&paper.records).unwrap().members[0].clone();
    assert_eq!((told(&chain, &stranger()).is_none(), told(&chain, &own).is_none()), (true, true));
    let wrong = Member { disk: DiskId([3; 16]), ..own.clone() };
    assert!(matches!(told(&chain, &wrong), Some(Failure::Refused(Refused::BadRequest(_)))));
    // Everybody who ever was.
    let head = chain.head().unwrap().clone();
    let mut full = chain.roster().unwrap().clone();
    let gone = |n: u64| {
        let mut key = [1; 32];
        key[..8].copy_from_slice(&n.to_be_bytes());
        let mut disk = [1; 16];
        disk[..8].copy_from_slice(&n.to_be_bytes());
        Member { node: NodeId(n), key: VerifyingKey(key), disk: DiskId(disk), role: Role::Retired }
    };
    full.members.extend((100..100 + MEMBERS_MAX as u64 - 1).map(gone));
    let named = |roster: &Roster, number: u32| {
        let txn_key = crate::txn::TxnKey { number, ..head.header.txn_key };
        let roster_digest = crypto::sha256(&[&roster.to_bytes()]);
        let header = Header {
            number: 1,
            previous: crypto::sha256(&[&head.to_bytes()]),
            txn_key,
            roster: roster_digest,
            ..head.header.clone()
        };
        chain.longer(vec![paper.keyring.sign_header(header)]).unwrap().named(roster.clone()).unwrap()
    };
    let full = named(&full, head.header.txn_key.number);
    assert_eq!(told(&full, &stranger()), Some(Failure::Refused(Refused::TooMany("nodes"))));
    assert_eq!(told(&full, &own), None, "who has a line already needs no other");
    // As many keys as there can be, but one, and all of them.
    let mut keyed = chain.clone();
    for number in 2..=crate::keyring::KEYS_MAX as u32 {
        assert_eq!(told(&keyed, &own), None, "{number}");
        let head = keyed.head().unwrap();
        let previous = crypto::sha256(&[&head.to_bytes()]);
        let txn_key = crate::txn::TxnKey { number, ..head.header.txn_key };
        let header = Header { number: head.header.number + 1, previous, txn_key, ..head.header.clone() };
        let roster = keyed.roster().unwrap().clone();
        keyed = keyed.longer(vec![paper.keyring.sign_header(header)]).unwrap().named(roster).unwrap();
    }
    assert_eq!(told(&keyed, &own), Some(Failure::Refused(Refused::TooMany("audit keys"))));
}
