//! What became of each transaction, as long as anybody may still ask.

use claviger_core::name::TxnId;
use claviger_core::txn::Outcome;
use std::collections::VecDeque;
use std::collections::btree_map::{BTreeMap, Entry};

#[derive(Default)]
pub(super) struct Outcomes {
    by_id: BTreeMap<TxnId, Outcome>,
    /// In order of the turn that they were decided at.
    by_turn: VecDeque<(u64, TxnId)>,
}

impl Outcomes {
    pub fn find(&self, id: &TxnId) -> Option<&Outcome> {
        self.by_id.get(id)
    }

    /// Remembers an outcome. Whether there was none under that id: else nothing is remembered.
    #[must_use]
    pub fn insert(&mut self, turn: u64, id: TxnId, outcome: Outcome) -> bool {
        let Entry::Vacant(place) = self.by_id.entry(id) else { return false };
        place.insert(outcome);
        self.by_turn.push_back((turn, id));
        true
    }

    /// Takes the oldest outcome out if it was decided before `horizon`.
    pub fn pop_before(&mut self, horizon: u64) -> Option<(u64, TxnId, Outcome)> {
        let (turn, id) = *self.by_turn.front().filter(|(turn, _)| *turn < horizon)?;
        self.by_turn.pop_front();
        let outcome = self.by_id.remove(&id).expect("both maps hold the same ids");
        Some((turn, id, outcome))
    }
}
