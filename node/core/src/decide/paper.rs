//! For tests: a founded cluster on paper. Applies transactions as the ledger does, and makes permits and desks.

use super::{Desk, Found, FoundAsk, Stamp, found};
use crate::books::Books;
use crate::chain::Chain;
use crate::chance::{Chance, Fresh};
use crate::codec::Canonical;
use crate::crypto::{SigningKey, sha256, sign};
use crate::keyring::Keyring;
use crate::material::Buckets;
use crate::name::{Digest, DiskId, Identity, KeyHash, KeyName, Lineage, NodeId, RequestId};
use crate::policy::{Action, Caller, Denied, GrantRecord, KeyGrant, Permit, Rights, SealView, judge};
use crate::record::{Collection, Record, RecordKey, Table, Version, View};
use crate::roster::{Countersignature, CustodianKeys, Founding, Genesis, Member, Role, Roster};
use crate::secret::Secret32;
use crate::state::Place;
use crate::time::UnixMs;
use crate::txn::{Conflict, Reliance, Txn};
use std::collections::BTreeMap;

/// What the state machine keeps.
#[derive(Default)]
pub(crate) struct Records {
    all: BTreeMap<RecordKey, (Version, Option<Vec<u8>>)>,
    members: BTreeMap<Collection, Version>,
    sequence: Version,
    turn: u64,
}

impl View for Records {
    fn record(&self, key: &RecordKey) -> Option<Record> {
        let (version, value) = self.all.get(key)?;
        Some(Record { version: *version, value: value.clone()? })
    }
    fn version(&self, key: &RecordKey) -> Version {
        self.all.get(key).map_or(0, |(version, _)| *version)
    }
    fn members_version(&self, collection: &Collection) -> Version {
        self.members.get(collection).copied().unwrap_or(0)
    }
    fn members(&self, collection: &Collection, after: Option<[u8; 32]>, limit: usize) -> Vec<(RecordKey, Record)> {
        let behind = |key: &RecordKey| after.is_none_or(|tag| key.tag > tag);
        let all = self.all.keys().filter(|key| key.collection() == *collection && behind(key));
        all.filter_map(|key| Some((*key, self.record(key)?))).take(limit).collect()
    }
}

impl Records {
    /// Records in the order of their keys, as they are stored.
    pub fn standing(&self) -> impl Iterator<Item = (RecordKey, Version, Vec<u8>)> {
        self.all.iter().filter_map(|(key, (version, value))| Some((*key, *version, value.clone()?)))
    }

    /// How far they have come.
    pub fn place(&self, time: UnixMs) -> Place {
        Place { sequence: self.sequence, turn: self.turn, time }
    }

    fn conflict(&self, txn: &Txn, now: UnixMs) -> Option<Conflict> {
        txn.relies.iter().find_map(|reliance| match reliance {
            Reliance::Exact(key, version) => {
                let found = self.version(key);
                (found != *version).then_some(Conflict::Record(*key, found))
            }
            Reliance::Members(collection, version) => {
                let found = self.members_version(collection);
                (found != *version).then_some(Conflict::Members(*collection, found))
            }
            Reliance::AtLeast(time) => (now < *time).then_some(Conflict::Time(now)),
        })
    }

    fn write(&mut self, key: RecordKey, value: Option<Vec<u8>>) {
        let there = self.record(&key).is_some();
        if there != value.is_some() {
            self.members.insert(key.collection(), self.sequence);
        }
        self.all.insert(key, (self.sequence, value));
    }
}

/// A cluster.
pub(crate) struct Paper {
    pub records: Records,
    pub keyring: Keyring,
    pub buckets: Buckets,
    pub lineage: Lineage,
    pub now: UnixMs,
    pub chance: Chance,
    pub found: Vec<super::Dealt>,
}

pub(crate) const ADMIN: &str = "spiffe://example.org/claviger/operator/admin";
pub(crate) const USER: &str = "spiffe://example.org/claviger/service/billing";
pub(crate) const CUSTODIANS: [&str; 5] = ["alice", "bob", "carol", "dave", "erin"];

pub(crate) fn who(uri: &str) -> Identity {
    uri.parse().unwrap()
}

pub(crate) fn custodian(name: &str) -> Identity {
    who(&format!("spiffe://example.org/claviger/custodian/{name}"))
}

/// Somebody with a certificate key of their own.
pub(crate) fn caller(uri: &str) -> Caller {
    Caller::authenticate(&[uri.to_owned()], KeyHash(sha256(&[uri.as_bytes()]).0)).unwrap()
}

pub(crate) fn name(key: &str) -> KeyName {
    format!("tenants/acme/keys/{key}").parse().unwrap()
}

pub(crate) fn seeded(seed: u8) -> SigningKey {
    SigningKey::from_seed(Secret32::of(Fresh::drawn([seed; 32])))
}

/// The request of that number, with that body.
pub(crate) fn request(number: u8, body: &str) -> Stamp {
    Stamp { request: Some((RequestId([number; 16]), sha256(&[body.as_bytes()]))), page: None }
}

fn founding(keyring: &Keyring) -> Founding {
    let keys = |name: &&str| CustodianKeys {
        identity: custodian(name),
        recipient: format!("age1{name}"),
        signing: seeded(name.len() as u8).public(),
    };
    let node = seeded(1);
    let member = Member { node: NodeId(1), key: node.public(), disk: DiskId([1; 16]), role: Role::Voter };
    let genesis = Genesis {
        cluster: "paper".parse().unwrap(),
        region: "north".parse().unwrap(),
        nonce: [9; 32],
        founded_at: UnixMs(1_000),
        threshold: 3,
        custodians: CUSTODIANS.iter().map(keys).collect(),
        txn_public: keyring.txn_key().public,
        roster: Roster::first(vec![member]),
    };
    let signature = sign(&node, &genesis.signed_bytes());
    Founding { genesis, countersignatures: vec![Countersignature { node: NodeId(1), signature }] }
}

impl Paper {
    /// Five custodians of whom three open, one administrator, one key user for all keys of `acme`.
    pub fn founded() -> Paper {
        let mut chance = Chance::grow(Fresh::drawn([3; 32]));
        let mut keyring = Keyring::draw(&mut chance);
        let founding = founding(&keyring);
        let lineage = Lineage(sha256(&[&founding.genesis.signed_bytes()]).0);
        let all = KeyGrant { tenant: "acme".parse().unwrap(), key: None, encrypt: true, decrypt: true };
        let ask = FoundAsk {
            founding,
            administrators: vec![who(ADMIN)],
            grants: vec![GrantRecord { identity: who(USER), grants: vec![all] }],
            static_key: None,
        };
        let Found { txn, shares } = found(ask, &mut keyring, &mut chance).unwrap();
        let mut records = Records { sequence: 1, turn: 1, ..Records::default() };
        txn.puts.iter().for_each(|put| records.write(put.key, Some(put.value.clone())));
        let books = Books { keyring: &keyring, lineage };
        let place = keyring.buckets_record();
        let sealed = books.open(&place, &records.record(&place).unwrap()).unwrap();
        let buckets = Buckets::open(sealed.expose(), &keyring, &lineage).unwrap();
        Paper { records, keyring, buckets, lineage, now: UnixMs(1_000), chance, found: shares }
    }

    pub fn desk(&self) -> Desk<'_> {
        let (turn, now) = (self.records.turn, self.now);
        Desk {
            view: &self.records,
            keyring: &self.keyring,
            buckets: &self.buckets,
            lineage: self.lineage,
            turn,
            now,
            clock: now,
        }
    }

    /// The header chain, as whoever has only the lineage follows it.
    pub fn chain(&self) -> Chain {
        let read =
            |number| crate::books::read_open(&self.records, &RecordKey::numbered(Table::Header, number)).unwrap();
        let links = (0..).map_while(read).map(|(link, _)| link).collect();
        let founding = crate::books::read_open(&self.records, &RecordKey::only(Table::Genesis)).unwrap().unwrap().0;
        Chain::walk(founding, links, super::roster(&self.records).unwrap()).unwrap()
    }

    /// A chance that does not borrow the paper.
    pub fn luck(&mut self) -> Chance {
        Chance::grow(self.chance.fresh())
    }

    pub fn rights(&self, caller: &Caller) -> Rights {
        Rights::read(&self.records, Some(&self.desk().books()), caller).unwrap()
    }

    pub fn judged<A: Action>(&self, uri: &str, on: A::On) -> Result<Permit<A>, Denied> {
        judge::<A>(&self.rights(&caller(uri)), on, SealView::Open)
    }

    /// Leave for the administrator.
    pub fn permit<A: Action>(&self, on: A::On) -> Permit<A> {
        self.judged(ADMIN, on).unwrap()
    }

    /// As the state machine does. Every transaction passes through its byte form.
    pub fn apply(&mut self, txn: &Txn) -> Result<Version, Conflict> {
        let txn = Txn::from_bytes(&txn.to_bytes()).unwrap();
        assert!(txn.relies_on_what_it_writes());
        self.records.turn += 1;
        if let Some(conflict) = self.records.conflict(&txn, self.now) {
            return Err(conflict);
        }
        self.records.sequence += 1;
        txn.puts.into_iter().for_each(|put| self.records.write(put.key, Some(put.value)));
        txn.deletes.into_iter().for_each(|key| self.records.write(key, None));
        Ok(self.records.sequence)
    }

    /// Puts a record aside from all decisions.
    pub fn plant(&mut self, key: RecordKey, plaintext: &[u8]) {
        let version = self.records.version(&key);
        let mut luck = self.luck();
        let put = self.desk().books().put(key, version, plaintext, &mut luck);
        self.records.sequence += 1;
        self.records.write(key, Some(put.value));
    }

    /// Copies what stands at one place to another, as a thief with a disk could.
    pub fn move_record(&mut self, from: &RecordKey, to: RecordKey) {
        let value = self.records.record(from).unwrap().value;
        self.records.write(to, Some(value));
    }

    /// How many records a table holds, and a hash over everything: tells whether anything changed.
    pub fn fingerprint(&self) -> Digest {
        let each = |(key, (version, value)): (&RecordKey, &(Version, Option<Vec<u8>>))| {
            [&key.to_bytes()[..], &version.to_be_bytes(), value.as_deref().unwrap_or(b"-")].concat()
        };
        sha256(&[&self.records.all.iter().flat_map(each).collect::<Vec<u8>>()])
    }

    pub fn live(&self, table: Table) -> usize {
        let live =
            |(key, (_, value)): &(&RecordKey, &(Version, Option<Vec<u8>>))| key.table == table && value.is_some();
        self.records.all.iter().filter(live).count()
    }
}
