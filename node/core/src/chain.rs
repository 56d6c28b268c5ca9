//! Genesis, header chain and roster: what a node believes of its cluster, link by link from the lineage that it pinned.

use crate::codec::Canonical;
use crate::crypto;
use crate::header::{Header, HeaderLink};
use crate::name::{Digest, Lineage, VerifyingKey};
use crate::record::{RecordKey, Table};
use crate::roster::{Founding, Genesis, Roster};
use crate::time::UnixMs;
use crate::txn::{Batch, Txn};
use std::collections::{BTreeMap, VecDeque};

/// The chain so far. Empty before the founding.
#[derive(Clone, Default)]
pub struct Chain {
    founding: Option<Founding>,
    head: Option<HeaderLink>,
    /// Every transaction key that any link named, by number.
    txn_keys: BTreeMap<u32, VerifyingKey>,
    roster: Option<Roster>,
    /// SHA-256 of the newest links, the newest last, [`TRAIL_LINKS`] at most.
    trail: VecDeque<Digest>,
    /// Digest of the mandate that began each generation but the first.
    mandates: BTreeMap<u64, Digest>,
}

impl Chain {
    /// The chain that a founding batch begins, if that keeps every rule of a founding but the batch's own signature.
    pub fn found(batch: &Batch, txn: &Txn) -> Option<Chain> {
        let chain = Chain::of_founding(txn)?;
        let head = &chain.head.as_ref()?.header;
        let mine = chain.lineage()? == batch.lineage && head.generation == batch.generation;
        (mine && head.txn_key.number == batch.signer && txn.deletes.is_empty()).then_some(chain)
    }

    /// Reads genesis, first link and roster out of a founding transaction and checks them against each other.
    pub fn of_founding(txn: &Txn) -> Option<Chain> {
        let founding = Founding::from_bytes(value(txn, &RecordKey::only(Table::Genesis))?).ok()?;
        let link = HeaderLink::from_bytes(value(txn, &RecordKey::numbered(Table::Header, 0))?).ok()?;
        let roster = value(txn, &RecordKey::only(Table::Roster))?;
        let others = txn.puts.iter().filter(|p| p.key.table == Table::Header).count();
        let whole = others == 1 && roster == founding.genesis.roster.to_bytes();
        Chain::begin(founding, link).filter(|_| whole)
    }

    /// The chain's first link under a countersigned genesis.
    pub fn begin(founding: Founding, link: HeaderLink) -> Option<Chain> {
        let genesis = &founding.genesis;
        let header = &link.header;
        let first = header.number == 0 && header.previous == Digest([0; 32]) && header.lineage == lineage_of(genesis);
        let named = header.roster == crypto::sha256(&[&genesis.roster.to_bytes()]);
        let keyed = header.txn_key.public == genesis.txn_public && header.generation == FIRST_GENERATION;
        let signed = crypto::verify(&genesis.txn_public, &header.signed_bytes(), &link.signature);
        if !(first && named && keyed && signed && countersigned(&founding)) {
            return None;
        }
        Some(Chain {
            txn_keys: BTreeMap::from([(header.txn_key.number, header.txn_key.public)]),
            roster: Some(genesis.roster.clone()),
            founding: Some(founding),
            trail: VecDeque::from([crypto::sha256(&[&link.to_bytes()])]),
            mandates: BTreeMap::new(),
            head: Some(link),
        })
    }

    /// Follows the links that are stored, from the genesis record on, to the roster that the newest one names. Else says
    /// what is wrong.
    pub fn walk(founding: Founding, links: Vec<HeaderLink>, roster: Roster) -> Result<Chain, &'static str> {
        let mut links = links.into_iter();
        let first = links.next().and_then(|link| Chain::begin(founding, link));
        let chain = first.and_then(|first| first.longer(links.collect())).ok_or(BROKEN)?;
        chain.named(roster).ok_or("the roster is not the one that the header names")
    }

    /// The chain with these links behind it. What roster the last of them names must be told before it counts.
    pub fn longer(&self, links: Vec<HeaderLink>) -> Option<Chain> {
        links.into_iter().try_fold(self.clone(), |chain, link| chain.extend(link))
    }

    /// The chain with the roster that its newest link names: where that link begins a generation, nobody but the heir is
    /// left in it. Of links further back only whoever has their rosters can say so; nobody's state machine takes others.
    pub fn named(self, roster: Roster) -> Option<Chain> {
        let header = &self.head.as_ref()?.header;
        let named = header.roster == crypto::sha256(&[&roster.to_bytes()]);
        let alone = header.mandate.as_ref().is_none_or(|signed| roster.is_left_to(&signed.mandate.heir));
        (named && alone).then_some(Chain { roster: Some(roster), ..self })
    }

    /// How many links it has.
    pub fn length(&self) -> u64 {
        self.head.as_ref().map_or(0, |head| head.header.number + 1)
    }

    /// Of two chains of one cluster the one of the later generation counts, and of one generation the longer one.
    pub fn rank(&self) -> (u64, u64) {
        (self.generation(), self.length())
    }

    /// The generation of the newest link; 0 before the founding.
    pub fn generation(&self) -> u64 {
        self.head.as_ref().map_or(0, |head| head.header.generation)
    }

    /// SHA-256 of the newest link.
    pub fn head_digest(&self) -> Option<Digest> {
        self.trail.back().copied()
    }

    /// Whether that is the digest of one of the newest [`TRAIL_LINKS`] links.
    pub fn has_lately(&self, link: &Digest) -> bool {
        self.trail.contains(link)
    }

    /// The first generation that different nodes were given a mandate to begin, in this chain and in the other one.
    pub fn torn_from(&self, other: &Chain) -> Option<u64> {
        let differs = |(generation, mandate): &(&u64, &Digest)| {
            other.mandates.get(generation).is_some_and(|theirs| theirs != *mandate)
        };
        self.mandates.iter().find(differs).map(|(generation, _)| *generation)
    }

    /// Whether a transaction's puts and deletes leave the chain whole.
    pub fn follows(&self, txn: &Txn) -> bool {
        let deletes = txn.deletes.iter().any(|key| CHAIN_TABLES.contains(&key.table));
        let touches = txn.puts.iter().any(|put| CHAIN_TABLES.contains(&put.key.table));
        !deletes && (!touches || self.with(txn).is_some())
    }

    /// The chain after a transaction: longer by its header, if it puts one. None when it breaks a rule.
    pub fn with(&self, txn: &Txn) -> Option<Chain> {
        if txn.puts.iter().any(|put| put.key.table == Table::Genesis) {
            return None;
        }
        let mut headers = txn.puts.iter().filter(|put| put.key.table == Table::Header);
        let mut roster = txn.puts.iter().filter(|put| put.key.table == Table::Roster);
        let Some(put) = headers.next() else {
            return roster.next().is_none().then(|| self.clone());
        };
        let link = HeaderLink::from_bytes(&put.value).ok()?;
        let placed = put.key == RecordKey::numbered(Table::Header, link.header.number) && headers.next().is_none();
        let (roster_digest, mandate) = (link.header.roster, link.header.mandate.clone());
        let mut chain = self.extend(link).filter(|_| placed)?;
        match roster.next() {
            Some(put) => chain.roster = Some(self.newer_roster(&put.key, &put.value, roster_digest)?),
            // A mandate is one node's: nobody else is left.
            None if mandate.is_some() => return None,
            // A link names another roster only together with that roster.
            None if self.head.as_ref()?.header.roster != roster_digest => return None,
            None => (),
        }
        let alone = mandate
            .is_none_or(|mandate| chain.roster.as_ref().is_some_and(|left| left.is_left_to(&mandate.mandate.heir)));
        (alone && roster.next().is_none()).then_some(chain)
    }

    fn newer_roster(&self, key: &RecordKey, value: &[u8], digest: Digest) -> Option<Roster> {
        let roster = Roster::from_bytes(value).ok()?;
        let named = *key == RecordKey::only(Table::Roster) && crypto::sha256(&[value]) == digest;
        (named && self.roster.as_ref()?.leads_to(&roster)).then_some(roster)
    }

    fn extend(&self, link: HeaderLink) -> Option<Chain> {
        let (head, next) = (self.head.as_ref()?, &link.header);
        let before = &head.header;
        let placed = next.number == before.number + 1 && next.previous == crypto::sha256(&[&head.to_bytes()]);
        let same = next.lineage == before.lineage && self.generation_after(next) == Some(next.generation);
        let renewed = next.txn_key.number == before.txn_key.number.wrapping_add(1);
        let keyed = next.txn_key == before.txn_key || renewed;
        let later = next.seal_epoch >= before.seal_epoch && next.root >= before.root;
        let signed = crypto::verify(&before.txn_key.public, &next.signed_bytes(), &link.signature);
        if !(placed && same && keyed && later && signed && is_begun_by_the_heir(&link)) {
            return None;
        }
        let mut chain = self.clone();
        chain.txn_keys.insert(next.txn_key.number, next.txn_key.public);
        if let Some(signed) = &next.mandate {
            chain.mandates.insert(next.generation, signed.mandate.digest());
        }
        if chain.trail.len() >= TRAIL_LINKS {
            chain.trail.pop_front();
        }
        chain.trail.push_back(crypto::sha256(&[&link.to_bytes()]));
        chain.head = Some(link);
        Some(chain)
    }

    /// Which generation a link has to be of: that of the one before, or the next one by a mandate of the custodians, who
    /// stay the same.
    fn generation_after(&self, next: &Header) -> Option<u64> {
        let before = &self.head.as_ref()?.header;
        match &next.mandate {
            None => Some(before.generation),
            Some(mandate) => {
                let mandated = mandate.follows(self) && next.custodians == before.custodians;
                mandated.then_some(mandate.mandate.generation)
            }
        }
    }

    /// The newest link.
    pub fn head(&self) -> Option<&HeaderLink> {
        self.head.as_ref()
    }

    /// The transaction key of that number, the present or an earlier one.
    pub fn txn_key(&self, number: u32) -> Option<VerifyingKey> {
        self.txn_keys.get(&number).copied()
    }

    /// The newest roster.
    pub fn roster(&self) -> Option<&Roster> {
        self.roster.as_ref()
    }

    /// The genesis with its countersignatures.
    pub fn founding(&self) -> Option<&Founding> {
        self.founding.as_ref()
    }

    /// The cluster.
    pub fn lineage(&self) -> Option<Lineage> {
        self.founding.as_ref().map(|f| lineage_of(&f.genesis))
    }

    /// What cluster time begins at.
    pub fn founded_at(&self) -> UnixMs {
        self.founding.as_ref().map_or(UnixMs(0), |f| f.genesis.founded_at)
    }
}

/// The lineage of a genesis: SHA-256 of what is countersigned.
pub fn lineage_of(genesis: &Genesis) -> Lineage {
    Lineage(crypto::sha256(&[&genesis.signed_bytes()]).0)
}

/// Whether every member of the first roster has signed, in its order, and nobody else.
fn countersigned(founding: &Founding) -> bool {
    let (members, bytes) = (&founding.genesis.roster.members, founding.genesis.signed_bytes());
    let pairs = members.iter().zip(&founding.countersignatures);
    members.len() == founding.countersignatures.len()
        && pairs.into_iter().all(|(m, c)| m.node == c.node && crypto::verify(&m.key, &bytes, &c.signature))
}

/// Whether the heir itself has signed a link that begins a generation; true of any other.
fn is_begun_by_the_heir(link: &HeaderLink) -> bool {
    let signed_by = |key| link.heir.is_some_and(|heir| crypto::verify(key, &link.header.signed_bytes(), &heir));
    link.header.mandate.as_ref().map_or(link.heir.is_none(), |signed| signed_by(&signed.mandate.heir.key))
}

fn value<'a>(txn: &'a Txn, key: &RecordKey) -> Option<&'a [u8]> {
    txn.puts.iter().find(|put| put.key == *key).map(|put| &put.value[..])
}

/// What is wrong with a chain whose links do not follow each other.
const BROKEN: &str = "the header chain is broken";
/// Tables that change by links alone.
const CHAIN_TABLES: [Table; 3] = [Table::Header, Table::Genesis, Table::Roster];
/// How far back the link may lie that a mandate names. A survivor's log may hold links that it had not applied when its mandate
/// was asked for, and fewer than this: each takes a majority.
pub const TRAIL_LINKS: usize = 64;
/// The generation that a founding begins with; recover, restore and promotion raise it.
const FIRST_GENERATION: u64 = 1;
