//! The machine alone: one node's cluster, batches in, outcomes out.

use super::*;
use claviger_core::chance::Fresh;
use claviger_core::codec::Canonical;
use claviger_core::crypto::{SigningKey, sha256, sign, sign_batch, sign_header};
use claviger_core::header::{Header, HeaderLink};
use claviger_core::name::{Digest, DiskId, NodeId};
use claviger_core::record::Table;
use claviger_core::roster::{Countersignature, Founding, Genesis, Member, Role, Roster};
use claviger_core::secret::Secret;
use claviger_core::time::UnixMs;
use claviger_world::disk::{Change, Space};
use std::ops::Bound;

/// A machine with its disk, and the keys of its cluster.
struct World {
    machine: Machine,
    memory: Memory,
    lineage: Lineage,
    index: u64,
    next_id: u64,
    key_number: u32,
}

pub(crate) fn key(n: u8) -> SigningKey {
    SigningKey::from_seed(Secret::of(Fresh::drawn([n; 32])))
}

pub(crate) fn genesis() -> Genesis {
    let member = Member { node: NodeId(1), key: key(1).public(), disk: DiskId([1; 16]), role: Role::Voter };
    Genesis {
        cluster: "test".parse().unwrap(),
        region: "here".parse().unwrap(),
        nonce: [9; 32],
        founded_at: UnixMs(1_000_000),
        threshold: 0,
        custodians: vec![],
        txn_public: key(100).public(),
        roster: Roster::first(vec![member]),
    }
}

fn header(lineage: Lineage) -> Header {
    let nothing = Digest([0; 32]);
    Header {
        lineage,
        generation: 1,
        number: 0,
        previous: nothing,
        root: 1,
        seal_epoch: 0,
        txn_key: TxnKey { number: 1, public: key(100).public() },
        root_commitment: nothing,
        slots: nothing,
        roster: sha256(&[&genesis().roster.to_bytes()]),
        custodians: nothing,
        keyring: nothing,
        mandate: None,
    }
}

pub(crate) fn founding_txn(countersigner: &SigningKey) -> Txn {
    let genesis = genesis();
    let link = sign_header(&key(100), header(lineage_of(&genesis)));
    let signature = sign(countersigner, &genesis.signed_bytes());
    let founding = Founding { genesis, countersignatures: vec![Countersignature { node: NodeId(1), signature }] };
    let roster = founding.genesis.roster.to_bytes();
    let puts = vec![
        Put { key: RecordKey::only(Table::Genesis), value: founding.to_bytes() },
        Put { key: RecordKey::numbered(Table::Header, 0), value: link.to_bytes() },
        Put { key: RecordKey::only(Table::Roster), value: roster },
    ];
    let relies = puts.iter().map(|p| Reliance::Exact(p.key, 0)).collect();
    let (turn, decided_at) = (0, UnixMs(0));
    Txn { id: TxnId([0xff; 16]), turn, decided_at, relies, puts, deletes: vec![], effect: Effect::Found }
}

impl World {
    fn unfounded() -> World {
        let lineage = lineage_of(&genesis());
        let memory = Memory::default();
        let machine = Machine::load(&memory, Some(lineage)).unwrap();
        World { machine, memory, lineage, index: 0, next_id: 0, key_number: 1 }
    }

    fn founded() -> World {
        let mut world = World::unfounded();
        assert_eq!(world.apply(vec![founding_txn(&key(1))]), ["accepted 1"]);
        world
    }

    fn batch(&self, txns: Vec<Txn>) -> Batch {
        Batch { lineage: self.lineage, generation: 1, author: NodeId(1), signer: self.key_number, txns }
    }

    fn apply(&mut self, txns: Vec<Txn>) -> Vec<String> {
        let signed = sign_batch(&key(99 + self.key_number as u8), self.batch(txns));
        self.apply_signed(&signed)
    }

    /// Applies an entry and stores what it wrote; what became of each transaction, in words.
    fn apply_signed(&mut self, signed: &SignedBatch) -> Vec<String> {
        self.index += 1;
        let mut writes = disk::Batch::default();
        let done = self.machine.apply(self.index, &signed.to_bytes(), &mut writes);
        let told = match done {
            Err(Diverged { index }) => return vec![format!("diverged at {index}")],
            Ok(Err(ignored)) => vec![format!("ignored: {ignored:?}")],
            Ok(Ok(applied)) => applied.outcomes.iter().map(|(_, outcome)| tell(outcome)).collect(),
        };
        self.machine.close(self.index);
        self.machine.store_state(&mut writes);
        writes.0.into_iter().for_each(|change| store(&mut self.memory, change));
        told
    }

    fn txn(&mut self) -> Txn {
        self.next_id += 1;
        let mut id = [0; 16];
        id[8..].copy_from_slice(&self.next_id.to_be_bytes());
        let place = self.machine.place();
        Txn {
            id: TxnId(id),
            turn: place.turn,
            decided_at: place.time,
            relies: vec![],
            puts: vec![],
            deletes: vec![],
            effect: Effect::Records,
        }
    }

    fn effect(&mut self, effect: Effect) -> Txn {
        Txn { effect, ..self.txn() }
    }

    fn put(&mut self, record: RecordKey, version: Version, value: &[u8]) -> Txn {
        let puts = vec![Put { key: record, value: value.to_vec() }];
        Txn { puts, relies: vec![Reliance::Exact(record, version)], ..self.txn() }
    }

    fn delete(&mut self, record: RecordKey, version: Version) -> Txn {
        Txn { deletes: vec![record], relies: vec![Reliance::Exact(record, version)], ..self.txn() }
    }

    fn link(&mut self, change: impl FnOnce(&mut Header)) -> Txn {
        let head = self.machine.chain().head().unwrap().clone();
        let mut next = head.header.clone();
        next.number += 1;
        next.previous = sha256(&[&head.to_bytes()]);
        change(&mut next);
        let link: HeaderLink = sign_header(&key(99 + self.key_number as u8), next);
        let place = RecordKey::numbered(Table::Header, link.header.number);
        self.put(place, 0, &link.to_bytes())
    }

    /// The state, as a checkpoint says it. A refused transaction changes its turn only.
    fn state(&self) -> Checkpoint {
        self.machine.checkpoint().unwrap()
    }
}

pub(crate) fn store(memory: &mut Memory, change: Change) {
    match change {
        Change::Put(space, key, value) => {
            memory.0.insert((space, key), value);
        }
        Change::Delete(space, key) => {
            memory.0.remove(&(space, key));
        }
        Change::DeleteRange(space, from, to) => {
            let range = (Bound::Included((space, from)), Bound::Excluded((space, to)));
            let keys: Vec<_> = memory.0.range(range).map(|(key, _)| key.clone()).collect();
            keys.iter().for_each(|key| {
                memory.0.remove(key);
            });
        }
    }
}

fn tell(outcome: &Outcome) -> String {
    match outcome {
        Outcome::Accepted(version) => format!("accepted {version}"),
        Outcome::Refused(Conflict::Record(_, version)) => format!("refused: the record is at {version}"),
        Outcome::Refused(Conflict::Members(_, version)) => format!("refused: the list is at {version}"),
        Outcome::Refused(other) => format!("refused: {other:?}"),
    }
}

fn steward(n: u64) -> RecordKey {
    RecordKey::numbered(Table::Steward, n)
}

#[test]
fn a_founding_begins_the_chain_and_cluster_time() {
    let world = World::founded();
    assert_eq!(world.machine.place(), Place { sequence: 1, turn: 1, time: UnixMs(1_000_000) });
    assert_eq!(world.machine.chain().lineage(), Some(world.lineage));
}

#[test]
fn refuses_a_founding_that_a_member_has_not_signed() {
    let mut world = World::unfounded();
    assert_eq!(world.apply(vec![founding_txn(&key(7))]), ["ignored: Foreign"]);
    assert_eq!(world.machine.place(), Place::default());
    assert_eq!(world.apply(vec![founding_txn(&key(1))]), ["accepted 1"]);
}

#[test]
fn refuses_anything_before_the_founding_and_a_second_founding() {
    let mut world = World::unfounded();
    let early = world.put(steward(1), 0, b"x");
    assert_eq!(world.apply(vec![early]), ["ignored: OutOfPlace"]);
    assert_eq!(world.apply(vec![founding_txn(&key(1))]), ["accepted 1"]);
    assert_eq!(world.apply(vec![founding_txn(&key(1))]), ["ignored: OutOfPlace"]);
}

#[test]
fn refuses_a_forged_signature() {
    let mut world = World::founded();
    let txn = world.put(steward(1), 0, b"x");
    let before = world.machine.place();
    let mut signed = sign_batch(&key(100), world.batch(vec![txn.clone()]));
    signed.signature.0[0] ^= 1;
    assert_eq!(world.apply_signed(&signed), ["ignored: Forged"]);
    let stranger = sign_batch(&key(42), world.batch(vec![txn.clone()]));
    assert_eq!(world.apply_signed(&stranger), ["ignored: Forged"]);
    assert_eq!(world.machine.place(), before);
    assert_eq!(world.apply(vec![txn]), ["accepted 2"]);
}

#[test]
fn refuses_a_foreign_lineage_and_another_generation() {
    let mut world = World::founded();
    let txn = world.put(steward(1), 0, b"x");
    let mut batch = world.batch(vec![txn.clone()]);
    batch.lineage = Lineage([5; 32]);
    assert_eq!(world.apply_signed(&sign_batch(&key(100), batch)), ["ignored: Foreign"]);
    let mut batch = world.batch(vec![txn.clone()]);
    batch.generation = 2;
    assert_eq!(world.apply_signed(&sign_batch(&key(100), batch)), ["ignored: Foreign"]);
    assert_eq!(world.apply(vec![txn]), ["accepted 2"]);
}

#[test]
fn a_repeated_id_has_the_same_outcome_and_writes_nothing() {
    let mut world = World::founded();
    let txn = world.put(steward(1), 0, b"first");
    let other = Txn { puts: vec![Put { key: steward(2), value: b"second".to_vec() }], ..txn.clone() };
    assert_eq!(world.apply(vec![txn.clone()]), ["accepted 2"]);
    let before = world.machine.place();
    assert_eq!(world.apply(vec![txn, other]), ["accepted 2", "accepted 2"]);
    assert_eq!(world.machine.place(), before);
    assert_eq!(world.machine.index().version(&steward(2)), 0);
}

#[test]
fn refuses_a_stale_reliance_and_says_what_stands_there() {
    let mut world = World::founded();
    let first = world.put(steward(1), 0, b"a");
    let second = world.put(steward(1), 0, b"b");
    assert_eq!(world.apply(vec![first, second]), ["accepted 2", "refused: the record is at 2"]);
    let right = world.put(steward(1), 2, b"b");
    assert_eq!(world.apply(vec![right]), ["accepted 3"]);
    let gone = world.delete(steward(1), 3);
    assert_eq!(world.apply(vec![gone]), ["accepted 4"]);
    let blind = world.put(steward(1), 0, b"c");
    let seeing = world.put(steward(1), 4, b"c");
    assert_eq!(world.apply(vec![blind, seeing]), ["refused: the record is at 4", "accepted 5"]);
}

#[test]
fn a_list_changes_when_members_come_and_go_and_not_when_they_change() {
    let mut world = World::founded();
    let list = steward(0).collection();
    let come = world.put(steward(1), 0, b"a");
    let change = world.put(steward(1), 2, b"b");
    assert_eq!(world.apply(vec![come, change]), ["accepted 2", "accepted 3"]);
    let reads = Txn { relies: vec![Reliance::Members(list, 2)], ..world.txn() };
    let go = world.delete(steward(1), 3);
    let stale = Txn { relies: vec![Reliance::Members(list, 2)], ..world.txn() };
    assert_eq!(world.apply(vec![reads, go, stale]), ["accepted 4", "accepted 5", "refused: the list is at 5"]);
}

#[test]
fn refuses_unlawful_puts() {
    let mut world = World::founded();
    let careless = Txn { puts: vec![Put { key: steward(1), value: vec![] }], ..world.txn() };
    let jump = world.link(|h| h.number += 1);
    let unrelated = world.link(|h| h.previous = Digest([1; 32]));
    let reborn = world.link(|h| h.generation = 2);
    let back = world.put(RecordKey::only(Table::Genesis), 1, b"other");
    let silent = world.put(RecordKey::only(Table::Roster), 1, &genesis().roster.to_bytes());
    let erased = world.delete(RecordKey::numbered(Table::Header, 0), 1);
    let future = Txn { turn: 99, ..world.txn() };
    let later = Txn { decided_at: UnixMs(9_999_999), ..world.txn() };
    let all = vec![careless, jump, unrelated, reborn, back, silent, erased, future, later];
    let count = all.len();
    assert_eq!(world.apply(all), vec!["refused: Unlawful"; count]);
    assert_eq!(world.machine.place().sequence, 1);
    let good = world.link(|h| h.seal_epoch = 1);
    assert_eq!(world.apply(vec![good]), ["accepted 2"]);
}

/// Two operators seal the region at once: the second is told what overtook it, and decides anew.
#[test]
fn of_two_links_at_once_the_second_is_overtaken_not_unlawful() {
    let mut world = World::founded();
    let (first, second) = (world.link(|h| h.seal_epoch = 1), world.link(|h| h.seal_epoch = 1));
    assert_eq!(world.apply(vec![first, second]), ["accepted 2", "refused: the record is at 2"]);
}

#[test]
fn a_new_transaction_key_supersedes_the_old_one_at_once() {
    let mut world = World::founded();
    let renewal = world.link(|h| h.txn_key = TxnKey { number: 2, public: key(101).public() });
    let behind = world.put(steward(1), 0, b"x");
    assert_eq!(world.apply(vec![renewal, behind]), ["accepted 2", "refused: Superseded"]);
    let old = world.put(steward(1), 0, b"x");
    assert_eq!(world.apply(vec![old.clone()]), ["refused: Superseded"]);
    world.key_number = 2;
    let new = world.put(steward(1), 0, b"x");
    assert_eq!(world.apply(vec![old, new]), ["refused: Superseded", "accepted 3"]);
}

#[test]
fn refuses_what_was_decided_too_many_turns_ago_and_forgets_outcomes_then() {
    let mut world = World::founded();
    let early = world.put(steward(1), 0, b"x");
    let gone = world.put(steward(2), 0, b"y");
    assert_eq!(world.apply(vec![gone]), ["accepted 2"]);
    let buried = world.delete(steward(2), 2);
    let buried_id = buried.id;
    assert_eq!(world.apply(vec![buried]), ["accepted 3"]);
    while world.machine.place().turn <= TURNS_KEPT {
        let filler = (0..1_024).map(|_| world.txn()).collect();
        world.apply(filler);
    }
    assert!(world.machine.outcome(&buried_id).is_some(), "not yet");
    let filler = (0..1_024).map(|_| world.txn()).collect();
    world.apply(filler);
    assert_eq!(world.apply(vec![early]), ["refused: TooOld"]);
    assert!(world.machine.outcome(&buried_id).is_none());
    assert_eq!(world.machine.index().version(&steward(2)), 0, "the tombstone is gone too");
    let reloaded = Machine::load(&world.memory, Some(world.lineage)).unwrap();
    assert_eq!(reloaded.place(), world.machine.place());
}

#[test]
fn a_cancel_wins_or_comes_too_late() {
    let mut world = World::founded();
    let slow = world.put(steward(1), 0, b"x");
    let cancel = world.effect(Effect::Cancel(slow.id));
    assert_eq!(world.apply(vec![cancel]), ["refused: Cancelled", "accepted 2"]);
    assert_eq!(world.apply(vec![slow]), ["refused: Cancelled"]);
    let quick = world.put(steward(1), 0, b"y");
    let late = world.effect(Effect::Cancel(quick.id));
    assert_eq!(world.apply(vec![quick, late]), ["accepted 3", "refused: Decided"]);
}

#[test]
fn time_moves_by_a_tick_from_where_it_stands() {
    let mut world = World::founded();
    let (before, now) = (UnixMs(1_000_000), UnixMs(1_060_000));
    let tick = world.effect(Effect::Tick { before, now });
    let rival = world.effect(Effect::Tick { before, now: UnixMs(1_060_001) });
    let backwards = world.effect(Effect::Tick { before, now: before });
    let told = world.apply(vec![tick, rival, backwards]);
    assert_eq!(told, ["accepted 2", "refused: Time(UnixMs(1060000))", "refused: Unlawful"]);
    let early = Txn { relies: vec![Reliance::AtLeast(UnixMs(1_060_001))], ..world.txn() };
    let due = Txn { relies: vec![Reliance::AtLeast(now)], ..world.txn() };
    assert_eq!(world.apply(vec![early, due]), ["refused: Time(UnixMs(1060000))", "accepted 3"]);
}

#[test]
fn a_checkpoint_that_differs_stops_this_replica_by_name() {
    let mut world = World::founded();
    let honest = world.effect(Effect::Checkpoint(world.state()));
    assert_eq!(world.apply(vec![honest]), ["accepted 2"]);
    assert_eq!(world.machine.soundness().agreed, Some(1));
    let other = Checkpoint { shared: Digest([1; 32]), ..world.state() };
    let differs = world.effect(Effect::Checkpoint(other));
    assert_eq!(world.apply(vec![differs]), ["diverged at 2"]);
}

#[test]
fn a_state_is_read_back_as_it_was_and_refuses_a_changed_bit() {
    let mut world = World::founded();
    let puts = (1..20).map(|n| world.put(steward(n), 0, &[n as u8; 40])).collect();
    world.apply(puts);
    let gone = world.delete(steward(3), 4);
    let kept = world.put(RecordKey::numbered(Table::AuditHead, 1), 0, b"head");
    world.apply(vec![gone, kept]);
    let mut reloaded = Machine::load(&world.memory, Some(world.lineage)).unwrap();
    reloaded.close(world.index);
    assert_eq!(reloaded.checkpoint(), world.machine.checkpoint());
    assert_eq!(
        Machine::load(&world.memory, Some(Lineage([1; 32]))).err(),
        Some(LoadFailed::Damaged("the state is of another cluster"))
    );
    for place in world.memory.0.keys().cloned().collect::<Vec<_>>() {
        let mut damaged = Memory(world.memory.0.clone());
        let mut value = damaged.0[&place].to_vec();
        *value.last_mut().unwrap() ^= 1;
        damaged.0.insert(place.clone(), value.into());
        assert!(Machine::load(&damaged, Some(world.lineage)).is_err(), "{place:?}");
    }
}

#[test]
fn what_a_replica_knows_of_its_soundness_is_bound_to_its_state() {
    let soundness = (Space::Machine, bytes::Bytes::from_static(b"l"));
    let mut world = World::founded();
    let before = world.memory.0[&soundness].clone();
    let put = world.put(steward(1), 0, b"one");
    world.apply(vec![put]);
    assert!(Machine::load(&world.memory, Some(world.lineage)).is_ok());
    for old in [None, Some(before)] {
        let mut spoilt = Memory(world.memory.0.clone());
        match old {
            Some(old) => drop(spoilt.0.insert(soundness.clone(), old)),
            None => drop(spoilt.0.remove(&soundness)),
        }
        let refused = Machine::load(&spoilt, Some(world.lineage)).err();
        assert_eq!(refused, Some(LoadFailed::Damaged("what the replica knows of its soundness")));
        assert!(
            Machine::gather(&spoilt, Some(world.lineage)).is_ok_and(|(_, sound)| sound),
            "a snapshot has none of it"
        );
    }
}

/// What a load refuses when one stored pair is another.
fn refused(world: &World, space: Space, key: Vec<u8>, value: Vec<u8>) -> &'static str {
    let mut spoilt = Memory(world.memory.0.clone());
    spoilt.0.insert((space, key.into()), value.into());
    match Machine::load(&spoilt, Some(world.lineage)) {
        Err(LoadFailed::Damaged(what)) => what,
        Err(LoadFailed::Disk(_)) | Ok(_) => "nothing",
    }
}

#[test]
fn a_roster_is_the_one_that_the_newest_link_names() {
    let mut world = World::founded();
    let first = genesis().roster;
    let other = Roster { epoch: 2, before: first.voters(), ..first };
    let record = RecordKey::only(Table::Roster);
    let stored = [&1_u64.to_be_bytes()[..], &other.to_bytes()].concat();
    let said = refused(&world, Space::Records, record.to_array().to_vec(), stored);
    assert_eq!(said, "the roster is not the one that the header names");
    let alone = world.link(|h| h.roster = sha256(&[&other.to_bytes()]));
    assert_eq!(world.apply(vec![alone]), ["refused: Unlawful"], "a link that names a roster brings it");
    let mut both = world.link(|h| h.roster = sha256(&[&other.to_bytes()]));
    both.relies.push(Reliance::Exact(record, 1));
    both.puts.push(Put { key: record, value: other.to_bytes() });
    assert_eq!(world.apply(vec![both]), ["accepted 2"]);
    assert_eq!(world.machine.chain().roster(), Some(&other));
    let later = world.link(|h| h.seal_epoch = 1);
    assert_eq!(world.apply(vec![later]), ["accepted 3"]);
    let reloaded = Machine::load(&world.memory, Some(world.lineage)).unwrap();
    assert_eq!(reloaded.chain().roster(), Some(&other));
}

/// A link that names the roster that follows the first one.
fn next_roster(world: &mut World, members: Vec<Member>) -> Txn {
    let first = genesis().roster;
    let next = Roster { epoch: 2, members, before: first.voters() };
    let record = RecordKey::only(Table::Roster);
    let mut txn = world.link(|h| h.roster = sha256(&[&next.to_bytes()]));
    txn.relies.push(Reliance::Exact(record, 1));
    txn.puts.push(Put { key: record, value: next.to_bytes() });
    txn
}

#[test]
fn refuses_a_roster_while_the_membership_has_not_followed() {
    let first = genesis().roster.members;
    let (one, nine) = (first[0].node, NodeId(9));
    let second = Member { node: nine, key: key(9).public(), disk: DiskId([9; 16]), role: Role::Voter };
    for (seats, verdict) in [
        (vec![[one].into()], "accepted 2"),
        (vec![[one].into(), [one, nine].into()], "accepted 2"),
        (vec![[one, nine].into()], "accepted 2"),
        (vec![[nine].into()], "refused: Moving"),
        (vec![[one].into(), [nine].into()], "refused: Moving"),
    ] {
        let mut world = World::founded();
        world.machine.seat(seats.clone());
        let txn = next_roster(&mut world, [&first[..], std::slice::from_ref(&second)].concat());
        assert_eq!(world.apply(vec![txn]), [verdict], "{seats:?}");
    }
}

#[test]
fn refuses_rosters_in_which_somebody_vanishes() {
    let mut world = World::founded();
    let stranger = Member { node: NodeId(9), key: key(9).public(), disk: DiskId([9; 16]), role: Role::Voter };
    let txn = next_roster(&mut world, vec![stranger]);
    assert_eq!(world.apply(vec![txn]), ["refused: Unlawful"]);
}

#[test]
fn refuses_a_founding_whose_header_names_another_roster() {
    let mut world = World::unfounded();
    let mut txn = founding_txn(&key(1));
    let named = Header { roster: Digest([7; 32]), ..header(world.lineage) };
    let place = RecordKey::numbered(Table::Header, 0);
    let put = txn.puts.iter_mut().find(|put| put.key == place).unwrap();
    put.value = sign_header(&key(100), named).to_bytes();
    assert_eq!(world.apply(vec![txn]), ["ignored: Foreign"]);
}

#[test]
fn a_state_with_two_outcomes_for_one_transaction_is_refused() {
    let mut world = World::founded();
    let txn = world.put(steward(1), 0, b"x");
    let id = txn.id;
    assert_eq!(world.apply(vec![txn]), ["accepted 2"]);
    let second = [&b"o"[..], &9_u64.to_be_bytes(), &id.0].concat();
    let said = refused(&world, Space::Machine, second, Outcome::Accepted(2).to_bytes());
    assert_eq!(said, "a transaction has two outcomes");
}

#[test]
fn a_state_that_cannot_count_on_is_refused() {
    let world = World::founded();
    let mut state = world.memory.0[&(Space::Machine, bytes::Bytes::from_static(b"a"))].to_vec();
    state[10..18].copy_from_slice(&u64::MAX.to_be_bytes());
    let said = refused(&world, Space::Machine, b"a".to_vec(), state);
    assert_eq!(said, "the state has counted too far");
}
