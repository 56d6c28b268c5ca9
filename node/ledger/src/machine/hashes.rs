//! The state as two homomorphic hashes: what every region has alike, and what is this region's own.

use super::Place;
use claviger_core::codec::{Canonical, Writer};
use claviger_core::crypto;
use claviger_core::lthash::LtHash;
use claviger_core::name::{Digest, TxnId};
use claviger_core::record::{Collection, RecordKey, Version};
use claviger_core::txn::{Checkpoint, Outcome};

/// One member of the state.
pub(super) enum Element<'a> {
    Record { key: &'a RecordKey, version: Version, digest: &'a Digest },
    Tombstone { key: &'a RecordKey, version: Version, turn: u64 },
    Collection { collection: &'a Collection, version: Version },
    Outcome { turn: u64, id: &'a TxnId, outcome: &'a Outcome },
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
pub(super) struct Hashes {
    shared: LtHash,
    local: LtHash,
}

impl Hashes {
    pub fn add(&mut self, element: Element<'_>) {
        self.half(&element).add(&element.to_bytes());
    }

    pub fn remove(&mut self, element: Element<'_>) {
        self.half(&element).remove(&element.to_bytes());
    }

    /// What a checkpoint at `index` says. `local` covers turn and time too.
    pub fn checkpoint(&self, index: u64, place: &Place) -> Checkpoint {
        let (turn, time) = (place.turn.to_be_bytes(), place.time.0.to_be_bytes());
        let local = crypto::sha256(&[&self.local.digest().0, &turn, &time]);
        Checkpoint { index, sequence: place.sequence, shared: self.shared.digest(), local }
    }

    fn half(&mut self, element: &Element<'_>) -> &mut LtHash {
        if element.shared() { &mut self.shared } else { &mut self.local }
    }
}
