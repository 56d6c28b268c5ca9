//! Founding: the secrets of a cluster are drawn, locked away and dealt, and the first transaction is written.

use crate::chance::Chance;
use crate::codec::Canonical;
use crate::crypto::sha256;
use crate::failure::{Cause, Failure, Refused};
use crate::header::{Header, HeaderLink};
use crate::keyring::{Keyring, SlotPublic};
use crate::material::Buckets;
use crate::name::{Digest, Identity, Lineage, Segment, TxnId};
use crate::policy::{GrantRecord, RoleKind, RoleSet, StewardRecord};
use crate::record::{RecordKey, Table};
use crate::roster::{CustodianKeys, Custodians, Founding, Genesis, Holder};
use crate::secret::Secret32;
use crate::share::{self, Share, ShareContext};
use crate::slot::{Locker, Root, SlotKind, SlotRecord, slots_digest};
use crate::txn::{Effect, Put, Reliance, Txn};
use std::collections::BTreeMap;

/// The generation that a founding begins; recover, restore and promotion raise it.
const FIRST_GENERATION: u64 = 1;
/// The one slot of a new cluster.
const FIRST_SLOT: u32 = 1;
/// The first share epoch.
const FIRST_EPOCH: u32 = 1;

/// What a founding is made of.
pub struct FoundAsk {
    /// The genesis, with every node's signature.
    pub founding: Founding,
    /// Who becomes administrator: at least one.
    pub administrators: Vec<Identity>,
    /// Rights that are there from the start.
    pub grants: Vec<GrantRecord>,
    /// The key file of the static slot, where no custodians are to hold shares.
    pub static_key: Option<Secret32>,
}

/// A share on its way to its holder. It is stored nowhere else.
pub struct Dealt {
    /// Whose it is.
    pub holder: CustodianKeys,
    /// The share.
    pub share: Share,
    /// The cluster's name.
    pub cluster: Segment,
    /// The slot that it helps to unlock.
    pub slot: u32,
}

/// What a founding comes to.
pub struct Found {
    /// To be proposed in a batch of its own, signed by the keyring, before any other.
    pub txn: Txn,
    /// In order of index; none with a static slot.
    pub shares: Vec<Dealt>,
}

/// Draws U, R and the bucket keys, deals the shares, and writes the first transaction. `keyring` is the one whose
/// transaction key the genesis names; from here on it remembers the first slot.
///
/// # Errors
/// `BadRequest`; `RolesExclude` when a key user would be administrator.
pub fn found(ask: FoundAsk, keyring: &mut Keyring, chance: &mut Chance) -> Result<Found, Failure> {
    check(&ask, keyring)?;
    let genesis = &ask.founding.genesis;
    let lineage = Lineage(sha256(&[&genesis.signed_bytes()]).0);
    let root = Root::new(1, Secret32::of(chance.fresh()));
    let locked = match &ask.static_key {
        Some(file) => lock_with_file(file, &root, &lineage, chance)?,
        None => lock_with_shares(genesis, &root, lineage, chance)?,
    };
    keyring.remember_slot(SlotPublic { number: FIRST_SLOT, public: locked.slot.public.clone() });
    let mut puts = Puts::default();
    puts.open(RecordKey::only(Table::Genesis), &ask.founding);
    puts.open(RecordKey::only(Table::Roster), &genesis.roster);
    puts.open(locked.slot.key(), &locked.slot);
    if let Some(custodians) = &locked.custodians {
        puts.open(RecordKey::only(Table::Custodians), custodians);
    }
    let sealed = keyring.seal(&root, &lineage, chance.fresh());
    puts.open(RecordKey::numbered(Table::Header, 0), &first_link(&ask, &locked, &root, lineage, &sealed, keyring));
    puts.raw(RecordKey::only(Table::Keyring), sealed);
    let buckets = Buckets::draw(chance).seal(keyring, &lineage, chance);
    puts.sealed(keyring, &lineage, keyring.buckets_record(), &buckets, chance);
    stewards(&ask).into_values().for_each(|steward| puts.open(StewardRecord::key(&steward.identity), &steward));
    for grant in &ask.grants {
        puts.sealed(keyring, &lineage, keyring.grant_record(&grant.identity), &grant.to_bytes(), chance);
    }
    Ok(Found { txn: puts.txn(&ask, chance), shares: locked.shares })
}

/// The first slot, and who can unlock it.
struct Locked {
    slot: SlotRecord,
    custodians: Option<Custodians>,
    shares: Vec<Dealt>,
}

/// The records of the first transaction.
#[derive(Default)]
struct Puts(Vec<Put>);

impl Puts {
    fn raw(&mut self, key: RecordKey, value: Vec<u8>) {
        self.0.push(Put { key, value });
    }

    fn open(&mut self, key: RecordKey, value: &impl Canonical) {
        self.raw(key, value.to_bytes());
    }

    fn sealed(&mut self, keyring: &Keyring, lineage: &Lineage, key: RecordKey, plaintext: &[u8], chance: &mut Chance) {
        self.raw(key, keyring.seal_record(lineage, &key, 0, plaintext, chance.fresh()));
    }

    /// Relies on nothing having been there.
    fn txn(self, ask: &FoundAsk, chance: &mut Chance) -> Txn {
        let txn = Txn {
            id: TxnId(chance.fresh().spend()),
            turn: 0,
            decided_at: ask.founding.genesis.founded_at,
            relies: self.0.iter().map(|put| Reliance::Exact(put.key, 0)).collect(),
            puts: self.0,
            deletes: Vec::new(),
            effect: Effect::Found,
        };
        assert!(txn.relies_on_what_it_writes(), "a founding writes every record once");
        txn
    }
}

fn check(ask: &FoundAsk, keyring: &Keyring) -> Result<(), Failure> {
    let genesis = &ask.founding.genesis;
    let key = keyring.txn_key();
    if key.public != genesis.txn_public {
        return Err(Cause("the genesis names another transaction key").into());
    }
    if ask.administrators.is_empty() {
        return Err(Refused::BadRequest("at least one administrator").into());
    }
    if ask.static_key.is_some() != genesis.custodians.is_empty() {
        return Err(Refused::BadRequest("either custodians or a static slot").into());
    }
    let mut users: Vec<_> = ask.grants.iter().map(|grant| &grant.identity).collect();
    users.sort_unstable();
    if !users.is_sorted_by(|a, b| a < b) || ask.grants.iter().any(|grant| grant.grants.is_empty()) {
        return Err(Refused::BadRequest("each key user once, with at least one key").into());
    }
    if users.iter().any(|user| ask.administrators.contains(user)) {
        return Err(Refused::RolesExclude.into());
    }
    Ok(())
}

fn lock_with_file(file: &Secret32, root: &Root, lineage: &Lineage, chance: &mut Chance) -> Result<Locked, Failure> {
    let file = Secret32::copy_from(file.expose()).ok_or(Cause("a 32-byte key has another width"))?;
    let slot = SlotRecord::make(FIRST_SLOT, SlotKind::Static, &Locker::static_key(file), root, lineage, chance);
    Ok(Locked { slot, custodians: None, shares: Vec::new() })
}

/// Draws U, locks the first slot with it, deals it, and forgets it.
fn lock_with_shares(genesis: &Genesis, root: &Root, lineage: Lineage, chance: &mut Chance) -> Result<Locked, Failure> {
    let count = u8::try_from(genesis.custodians.len()).map_err(|_| Refused::TooMany("custodians"))?;
    let context = ShareContext::new(lineage, genesis.region.clone(), FIRST_EPOCH, genesis.threshold, count)
        .map_err(|_| Refused::BadRequest("a threshold from 2 to the number of custodians, and those at most 64"))?;
    let unsealing = Secret32::of(chance.fresh());
    let locker = Locker::custodians(&unsealing, &context, FIRST_SLOT);
    let kind = SlotKind::Custodians { epoch: FIRST_EPOCH };
    let slot = SlotRecord::make(FIRST_SLOT, kind, &locker, root, &lineage, chance);
    let shares = share::deal(&unsealing, &context, chance);
    let holders = genesis.custodians.iter().zip(&shares).map(|(keys, share)| holder(keys, share)).collect();
    let (region, threshold) = (genesis.region.clone(), genesis.threshold);
    let custodians = Custodians { region, epoch: FIRST_EPOCH, threshold, holders };
    let deal = |(keys, share): (&CustodianKeys, Share)| Dealt {
        holder: keys.clone(),
        share,
        cluster: genesis.cluster.clone(),
        slot: FIRST_SLOT,
    };
    let shares = genesis.custodians.iter().zip(shares).map(deal).collect();
    Ok(Locked { slot, custodians: Some(custodians), shares })
}

fn holder(keys: &CustodianKeys, share: &Share) -> Holder {
    Holder { keys: keys.clone(), index: share.index(), digest: share.digest(), proof_key: share.proof_key() }
}

fn first_link(
    ask: &FoundAsk,
    locked: &Locked,
    root: &Root,
    lineage: Lineage,
    keyring_value: &[u8],
    keyring: &Keyring,
) -> HeaderLink {
    // Where there are no custodians there is no record of them, and the header has the hash of nothing.
    let custodians = locked.custodians.as_ref().map(Canonical::to_bytes).unwrap_or_default();
    keyring.sign_header(Header {
        lineage,
        generation: FIRST_GENERATION,
        number: 0,
        previous: Digest([0; 32]),
        root: root.number(),
        seal_epoch: 0,
        txn_key: keyring.txn_key(),
        root_commitment: root.commitment(&lineage),
        slots: slots_digest(std::slice::from_ref(&locked.slot)),
        roster: sha256(&[&ask.founding.genesis.roster.to_bytes()]),
        custodians: sha256(&[&custodians]),
        keyring: sha256(&[keyring_value]),
        mandate: None,
    })
}

/// Administrators and custodians, each once: somebody may be both.
fn stewards(ask: &FoundAsk) -> BTreeMap<Identity, StewardRecord> {
    let administrators = ask.administrators.iter().map(|identity| (identity, RoleKind::Administrator));
    let custodians = ask.founding.genesis.custodians.iter().map(|keys| (&keys.identity, RoleKind::Custodian));
    let mut all = BTreeMap::new();
    for (identity, kind) in administrators.chain(custodians) {
        let none = || StewardRecord { identity: identity.clone(), roles: RoleSet::default() };
        let steward = all.entry(identity.clone()).or_insert_with(none);
        steward.roles = steward.roles.with(kind);
    }
    all
}
