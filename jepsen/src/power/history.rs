//! What one writer was told: the keys and versions that were acknowledged, and some ciphertexts to open again.

use bytes::Bytes;
use claviger_client::v1::Key;
use std::collections::BTreeMap;
use std::fmt;

/// Ciphertexts that a history keeps. Beyond, an old one makes room.
const KEPT_MAX: usize = 200;
/// The newest ones never make room: what is young may have been on its way to a disk.
const YOUNG: usize = 100;

/// One key, as its only writer knows it.
#[derive(Clone, Debug, Default)]
pub struct Known {
    /// Its id: a key made anew under the same name has another.
    pub id: Bytes,
    /// The newest version that was acknowledged, by an answer or by being used.
    pub newest: u32,
    /// Versions that were asked for: there cannot be more.
    pub asked: u32,
}

/// A ciphertext to be opened later.
#[derive(Clone, Debug)]
pub struct Kept {
    /// The key.
    pub key: String,
    /// What must come out.
    pub plaintext: Vec<u8>,
    /// What was answered.
    pub ciphertext: Bytes,
}

/// The history.
#[derive(Debug, Default)]
pub struct History {
    /// Keys whose creation was acknowledged.
    pub keys: BTreeMap<String, Known>,
    /// Ciphertexts, oldest first.
    pub kept: Vec<Kept>,
    /// Calls that were answered with yes.
    pub acknowledged: u64,
    /// Calls whose outcome is not known, or that were refused.
    pub failed: u64,
}

/// Something that must not be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wrong {
    /// It was acknowledged, and is not there.
    Lost(String),
    /// What is there cannot be: a hole, a version that nobody asked for, another answer than before.
    Twisted(String),
    /// A node ended, and said why.
    Refused(String),
    /// A node ended or hung, and did not say why by name.
    Stuck(String),
}

impl fmt::Display for Wrong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Wrong::Lost(what) => write!(f, "acknowledged and lost: {what}"),
            Wrong::Twisted(what) => write!(f, "wrong: {what}"),
            Wrong::Refused(what) => write!(f, "refused by name: {what}"),
            Wrong::Stuck(what) => write!(f, "stuck: {what}"),
        }
    }
}

impl History {
    /// A version of a key was asked for.
    pub fn asked(&mut self, key: &str) {
        if let Some(known) = self.keys.get_mut(key) {
            known.asked += 1;
        }
    }

    /// A key's creation or rotation was answered.
    pub fn acknowledge(&mut self, key: &Key) {
        self.acknowledged += 1;
        let known = self.keys.entry(key.name.clone()).or_insert_with(|| Known { asked: 1, ..Known::default() });
        known.id = key.id.clone();
        known.newest = known.newest.max(key.primary_version);
    }

    /// An encryption was answered: its version exists, whatever became of the call that made it.
    pub fn keep(&mut self, kept: Kept, version: u32, lot: usize) {
        self.acknowledged += 1;
        if let Some(known) = self.keys.get_mut(&kept.key) {
            known.newest = known.newest.max(version);
        }
        self.kept.push(kept);
        if self.kept.len() > KEPT_MAX {
            self.kept.remove(lot % (KEPT_MAX - YOUNG));
        }
    }

    /// Versions that were acknowledged.
    pub fn versions(&self) -> u64 {
        self.keys.values().map(|known| u64::from(known.newest)).sum()
    }

    /// Holds what one node shows against what was acknowledged.
    pub fn compare(&self, node: u64, present: &BTreeMap<String, Key>) -> Vec<Wrong> {
        let look = |(name, known): (&String, &Known)| match present.get(name) {
            None => Some(Wrong::Lost(format!("{name}, with {} versions, at node {node}", known.newest))),
            Some(key) => known.differs(key).map(|wrong| wrong.at(node)),
        };
        self.keys.iter().filter_map(look).collect()
    }
}

impl Known {
    fn differs(&self, key: &Key) -> Option<Wrong> {
        let (name, there) = (&key.name, key.versions.len());
        let newest = key.versions.last().map_or(0, |v| v.number);
        if newest < self.newest {
            return Some(Wrong::Lost(format!("version {} of {name}, whose newest is {newest}", self.newest)));
        }
        if key.id != self.id {
            return Some(Wrong::Twisted(format!("{name} is another key than it was")));
        }
        if !key.versions.iter().map(|v| v.number).eq(1..=newest) || key.primary_version != newest {
            return Some(Wrong::Twisted(format!("{name} has holes: {there} versions, the newest is {newest}")));
        }
        let surplus = newest > self.asked;
        surplus.then(|| Wrong::Twisted(format!("{name} has {newest} versions, {} were asked for", self.asked)))
    }
}

impl Wrong {
    /// With the node that showed it.
    fn at(self, node: u64) -> Wrong {
        let placed = |what: String| format!("{what}, at node {node}");
        match self {
            Wrong::Lost(what) => Wrong::Lost(placed(what)),
            Wrong::Twisted(what) => Wrong::Twisted(placed(what)),
            Wrong::Refused(what) => Wrong::Refused(placed(what)),
            Wrong::Stuck(what) => Wrong::Stuck(placed(what)),
        }
    }

    /// Whether a lying disk is found out by it: a mere hang proves nothing.
    pub fn proves(&self) -> bool {
        match self {
            Wrong::Lost(_) | Wrong::Refused(_) => true,
            Wrong::Twisted(_) | Wrong::Stuck(_) => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use claviger_client::v1::KeyVersion;

    fn key(numbers: &[u32]) -> Key {
        let versions = numbers.iter().map(|&number| KeyVersion { number, ..Default::default() }).collect();
        let primary_version = numbers.last().copied().unwrap_or(0);
        Key { name: "k".into(), id: Bytes::from_static(b"id"), versions, primary_version, ..Default::default() }
    }

    /// A history that was told of two versions, and asked for a third.
    fn told() -> History {
        let mut history = History::default();
        history.acknowledge(&key(&[1]));
        history.asked("k");
        history.acknowledge(&key(&[1, 2]));
        history.asked("k");
        history
    }

    fn story(present: &[Key]) -> Vec<String> {
        let present = present.iter().map(|k| (k.name.clone(), k.clone())).collect();
        told().compare(1, &present).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn what_was_asked_for_may_be_there_or_not() {
        assert_eq!(story(&[key(&[1, 2])]), Vec::<String>::new());
        assert_eq!(story(&[key(&[1, 2, 3])]), Vec::<String>::new());
    }

    #[test]
    fn refuses_losses_holes_and_surplus() {
        let lost = "acknowledged and lost: version 2 of k, whose newest is 1, at node 1";
        assert_eq!(story(&[]), ["acknowledged and lost: k, with 2 versions, at node 1"]);
        assert_eq!(story(&[key(&[1])]), [lost]);
        assert_eq!(story(&[key(&[1, 3])]), ["wrong: k has holes: 2 versions, the newest is 3, at node 1"]);
        assert_eq!(story(&[key(&[1, 2, 3, 4])]), ["wrong: k has 4 versions, 3 were asked for, at node 1"]);
        let other = Key { id: Bytes::from_static(b"other"), ..key(&[1, 2]) };
        assert_eq!(story(&[other]), ["wrong: k is another key than it was, at node 1"]);
    }

    #[test]
    fn a_version_that_encrypted_was_there() {
        let mut history = told();
        let kept = Kept { key: "k".into(), plaintext: Vec::new(), ciphertext: Bytes::new() };
        history.keep(kept, 3, 0);
        assert_eq!(history.versions(), 3);
    }

    #[test]
    fn the_newest_ciphertexts_are_kept() {
        let mut history = told();
        for number in 0..1_000_u32 {
            let plaintext = number.to_be_bytes().to_vec();
            history.keep(Kept { key: "k".into(), plaintext, ciphertext: Bytes::new() }, 1, number as usize);
        }
        assert_eq!(history.kept.len(), KEPT_MAX);
        let young = history.kept.iter().rev().take(YOUNG).map(|k| k.plaintext.clone());
        assert!(young.eq((900..1_000_u32).rev().map(|n| n.to_be_bytes().to_vec())));
    }
}
