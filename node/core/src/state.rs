//! The state as it is stored and hashed: pairs of two tables, and two homomorphic hashes over what they say. Every replica, and
//! whoever reads a snapshot, comes to the same hashes from the same pairs.

use crate::codec::{Canonical, Malformed, Reader, Writer};
use crate::crypto;
use crate::lthash::LtHash;
use crate::name::{Digest, TxnId};
use crate::record::{Collection, RecordKey, Version};
use crate::time::UnixMs;
use crate::txn::{Checkpoint, Outcome};

/// Where the end of a state lies, in the table of what the state machine remembers.
pub const STATE_KEY: &[u8] = b"a";
const COLLECTION: u8 = b'c';
const OUTCOME: u8 = b'o';
const TOMBSTONE: u8 = b't';
/// Format number of the state.
const FORMAT: u16 = 1;

/// How far a replica has come, as part of the state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Place {
    /// Transactions accepted in this lineage.
    pub sequence: Version,
    /// Transactions applied in this region, accepted or refused.
    pub turn: u64,
    /// Cluster time.
    pub time: UnixMs,
}

/// Where a state stands, and what it hashes to: the value at [`STATE_KEY`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sum {
    /// How far it has come.
    pub place: Place,
    /// The hash of what every region has alike.
    pub shared: Digest,
    /// The hash of what is this region's own; turn and time are in it.
    pub local: Digest,
}

impl Canonical for Sum {
    fn write(&self, w: &mut Writer) {
        w.u16(FORMAT).u64(self.place.sequence).u64(self.place.turn).u64(self.place.time.0);
        w.raw(&self.shared.0).raw(&self.local.0);
    }
    fn read(r: &mut Reader<'_>) -> Result<Self, Malformed> {
        if r.u16()? != FORMAT {
            return Err(Malformed::Unknown);
        }
        let place = Place { sequence: r.u64()?, turn: r.u64()?, time: UnixMs(r.u64()?) };
        Ok(Sum { place, shared: Digest::read(r)?, local: Digest::read(r)? })
    }
}

/// A pair of the table of what the state machine remembers beside records.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Remembered {
    /// A collection's version.
    Collection(Collection, Version),
    /// What became of a transaction, and in which turn.
    Outcome(u64, TxnId, Outcome),
    /// A record that is gone: the version that removed it, and the turn.
    Tombstone(RecordKey, Version, u64),
    /// The end of the state.
    State(Sum),
    /// Nothing of the state: the place in Raft's log, or what one replica knows of itself.
    Beside,
}

impl Remembered {
    /// Reads a pair.
    ///
    /// # Errors
    /// It is not what the format says.
    pub fn read(key: &[u8], value: &[u8]) -> Result<Remembered, Malformed> {
        if key == STATE_KEY {
            return Ok(Remembered::State(Sum::from_bytes(value)?));
        }
        let (mut k, mut v) = (Reader::new(key), Reader::new(value));
        let read = match k.u8()? {
            COLLECTION => Remembered::Collection(Collection::read(&mut k)?, v.u64()?),
            OUTCOME => Remembered::Outcome(k.u64()?, TxnId::read(&mut k)?, Outcome::read(&mut v)?),
            TOMBSTONE => Remembered::Tombstone(RecordKey::read(&mut k)?, v.u64()?, v.u64()?),
            _ => return Ok(Remembered::Beside),
        };
        k.end()?;
        v.end()?;
        Ok(read)
    }

    /// What it adds to the hashes.
    pub fn element(&self) -> Option<Element<'_>> {
        match self {
            Remembered::Collection(collection, version) => Some(Element::Collection { collection, version: *version }),
            Remembered::Outcome(turn, id, outcome) => Some(Element::Outcome { turn: *turn, id, outcome }),
            Remembered::Tombstone(key, version, turn) => {
                Some(Element::Tombstone { key, version: *version, turn: *turn })
            }
            Remembered::State(_) | Remembered::Beside => None,
        }
    }
}

/// Whether a pair is of the state, by its key.
pub fn is_remembered(key: &[u8]) -> bool {
    let long = |what: usize| key.len() == 1 + what;
    match key.first() {
        Some(&COLLECTION) => long(Collection::BYTES),
        Some(&OUTCOME) => long(8 + 16),
        Some(&TOMBSTONE) => long(RecordKey::BYTES),
        Some(_) | None => key == STATE_KEY,
    }
}

/// Where a tombstone lies.
pub fn tombstone_key(key: &RecordKey) -> Vec<u8> {
    [&[TOMBSTONE][..], &key.to_array()].concat()
}

/// Where a collection's version lies.
pub fn collection_key(collection: &Collection) -> Vec<u8> {
    [&[COLLECTION][..], &collection.prefix()].concat()
}

/// Where the outcome of a transaction lies.
pub fn outcome_key(turn: u64, id: &TxnId) -> Vec<u8> {
    [&[OUTCOME][..], &turn.to_be_bytes(), &id.0].concat()
}

/// Takes a stored record apart: version u64, then the value.
///
/// # Errors
/// It is too short to have a version.
pub fn split_record(stored: &[u8]) -> Result<(Version, &[u8]), Malformed> {
    let (version, value) = stored.split_first_chunk::<8>().ok_or(Malformed::Short)?;
    Ok((u64::from_be_bytes(*version), value))
}

/// One member of the state.
pub enum Element<'a> {
    /// A record, by the SHA-256 of its value.
    Record {
        /// Where it lies.
        key: &'a RecordKey,
        /// Its version.
        version: Version,
        /// SHA-256 of its value.
        digest: &'a Digest,
    },
    /// A record that is gone.
    Tombstone {
        /// Where it lay.
        key: &'a RecordKey,
        /// The version that removed it.
        version: Version,
        /// In which turn.
        turn: u64,
    },
    /// A collection's version.
    Collection {
        /// Which.
        collection: &'a Collection,
        /// Its version.
        version: Version,
    },
    /// What became of a transaction.
    Outcome {
        /// In which turn.
        turn: u64,
        /// Which.
        id: &'a TxnId,
        /// What.
        outcome: &'a Outcome,
    },
}

impl Element<'_> {
    fn shared(&self) -> bool {
        matches!(self, Element::Record { key, .. } if !key.table.regional())
    }

    fn to_bytes(&self) -> Vec<u8> {
        let mut w = Writer::default();
        match self {
            Element::Record { key, version, digest } => {
                w.u8(1).raw(&key.to_array()).u64(*version).raw(&digest.0);
            }
            Element::Tombstone { key, version, turn } => {
                w.u8(2).raw(&key.to_array()).u64(*version).u64(*turn);
            }
            Element::Collection { collection, version } => {
                w.u8(3).raw(&collection.prefix()).u64(*version);
            }
            Element::Outcome { turn, id, outcome } => {
                w.u8(4).u64(*turn).raw(&id.0);
                outcome.write(&mut w);
            }
        }
        w.into_bytes()
    }
}

/// Both hashes.
#[derive(Clone, Default)]
pub struct Hashes {
    shared: LtHash,
    local: LtHash,
}

impl Hashes {
    /// Adds a member.
    pub fn add(&mut self, element: Element<'_>) {
        self.half(&element).add(&element.to_bytes());
    }

    /// Takes a member out.
    pub fn remove(&mut self, element: Element<'_>) {
        self.half(&element).remove(&element.to_bytes());
    }

    /// What a checkpoint at `index` says. `local` covers turn and time too.
    pub fn checkpoint(&self, index: u64, place: &Place) -> Checkpoint {
        let (turn, time) = (place.turn.to_be_bytes(), place.time.0.to_be_bytes());
        let local = crypto::sha256(&[&self.local.digest().0, &turn, &time]);
        Checkpoint { index, sequence: place.sequence, shared: self.shared.digest(), local }
    }

    /// Where a state of that place stands, with these hashes.
    pub fn sum(&self, place: Place) -> Sum {
        let Checkpoint { shared, local, .. } = self.checkpoint(0, &place);
        Sum { place, shared, local }
    }

    fn half(&mut self, element: &Element<'_>) -> &mut LtHash {
        if element.shared() { &mut self.shared } else { &mut self.local }
    }
}
