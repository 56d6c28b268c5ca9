//! One key as the object of a history: what can be asked of its metadata, and when an answer fits.

use crate::Step;

/// A key that exists, as far as its metadata go here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeyFacts {
    /// Whether it works.
    pub enabled: bool,
    /// The version that encrypts, from 1. 24 bits count.
    pub primary: u32,
    /// What its one label says. 24 bits count.
    pub label: u32,
}

/// A change that was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyChange {
    /// Make it, with that label.
    Create(u32),
    /// Add a version, if it works.
    Rotate,
    /// Stop it.
    Disable,
    /// Let it work again.
    Enable,
    /// Replace the label.
    Relabel(u32),
}

/// Why something was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyRefusal {
    /// It exists.
    Exists,
    /// It does not exist.
    NotFound,
    /// It exists and is disabled.
    Disabled,
}

/// A call about a key, with its answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyOp {
    /// The change was made, and left the key like this.
    Changed(KeyChange, KeyFacts),
    /// The change was asked for, and nobody knows whether it happened, or yet will. Where it cannot, it does nothing.
    Unknown(KeyChange),
    /// It was refused.
    Refused(KeyRefusal),
    /// The key was read, and is like this.
    Saw(KeyFacts),
    /// That version encrypted.
    Encrypted(u32),
    /// Some version decrypted.
    Decrypted,
}

impl KeyFacts {
    /// Bit 0 says that the key exists, bit 1 that it is enabled; then 24 bits of version, 24 of label.
    fn pack(self) -> u64 {
        1 | u64::from(self.enabled) << 1 | u64::from(self.primary & FIELD) << 2 | u64::from(self.label & FIELD) << 26
    }

    pub(crate) fn unpack(state: u64) -> Option<KeyFacts> {
        let field = |shift: u32| (state >> shift) as u32 & FIELD;
        (state & 1 == 1).then(|| KeyFacts { enabled: state >> 1 & 1 == 1, primary: field(2), label: field(26) })
    }
}

impl KeyChange {
    /// The key as the change leaves it; none when it would be refused.
    pub(crate) fn of(self, key: Option<KeyFacts>) -> Option<KeyFacts> {
        match (self, key) {
            (KeyChange::Create(label), None) => Some(KeyFacts { enabled: true, primary: 1, label }),
            (KeyChange::Create(_), Some(_)) => None,
            (KeyChange::Rotate, Some(key)) if !key.enabled => None,
            (KeyChange::Rotate, key) => key.map(|key| KeyFacts { primary: key.primary + 1, ..key }),
            (KeyChange::Disable, key) => key.map(|key| KeyFacts { enabled: false, ..key }),
            (KeyChange::Enable, key) => key.map(|key| KeyFacts { enabled: true, ..key }),
            (KeyChange::Relabel(label), key) => key.map(|key| KeyFacts { label, ..key }),
        }
    }
}

impl Step for KeyOp {
    fn step(self, state: u64) -> Option<u64> {
        let key = KeyFacts::unpack(state);
        let fits = match self {
            KeyOp::Changed(change, after) => {
                return change.of(key).map(KeyFacts::pack).filter(|made| *made == after.pack());
            }
            KeyOp::Unknown(change) => return Some(change.of(key).map_or(state, KeyFacts::pack)),
            KeyOp::Refused(KeyRefusal::Exists) => key.is_some(),
            KeyOp::Refused(KeyRefusal::NotFound) => key.is_none(),
            KeyOp::Refused(KeyRefusal::Disabled) => key.is_some_and(|key| !key.enabled),
            KeyOp::Saw(seen) => state == seen.pack(),
            KeyOp::Encrypted(version) => key.is_some_and(|key| key.enabled && key.primary == version & FIELD),
            KeyOp::Decrypted => key.is_some_and(|key| key.enabled),
        };
        fits.then_some(state)
    }
}

const FIELD: u32 = 0xff_ffff;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Call, Verdict, check};

    const NEW: KeyFacts = KeyFacts { enabled: true, primary: 1, label: 9 };

    /// One after the other, each answered before the next is asked; `None` for one that never was.
    fn one_by_one(ops: &[(KeyOp, bool)]) -> Verdict {
        let call = |(n, (op, answered)): (u64, &(KeyOp, bool))| Call {
            key: 1,
            began: 10 * n,
            ended: answered.then_some(10 * n + 1),
            op: *op,
        };
        check(&(1..).zip(ops).map(call).collect::<Vec<_>>(), 10_000)
    }

    #[test]
    fn a_life_in_order_is_one_keys() {
        let (off, two) = (KeyFacts { enabled: false, ..NEW }, KeyFacts { primary: 2, ..NEW });
        let life = [
            KeyOp::Refused(KeyRefusal::NotFound),
            KeyOp::Changed(KeyChange::Create(9), NEW),
            KeyOp::Refused(KeyRefusal::Exists),
            KeyOp::Encrypted(1),
            KeyOp::Changed(KeyChange::Disable, off),
            KeyOp::Refused(KeyRefusal::Disabled),
            KeyOp::Saw(off),
            KeyOp::Changed(KeyChange::Enable, NEW),
            KeyOp::Changed(KeyChange::Rotate, two),
            KeyOp::Decrypted,
            KeyOp::Encrypted(2),
            KeyOp::Changed(KeyChange::Relabel(3), KeyFacts { label: 3, ..two }),
        ];
        assert_eq!(one_by_one(&life.map(|op| (op, true))), Verdict::Linearizable);
    }

    #[test]
    fn what_one_key_cannot_say_is_found() {
        let create = KeyOp::Changed(KeyChange::Create(9), NEW);
        let off = KeyOp::Changed(KeyChange::Disable, KeyFacts { enabled: false, ..NEW });
        let two = KeyOp::Changed(KeyChange::Rotate, KeyFacts { primary: 2, ..NEW });
        let wrong: [&[KeyOp]; 9] = [
            &[create, create],
            &[create, two, KeyOp::Encrypted(1)],
            &[create, two, two],
            &[create, off, KeyOp::Decrypted],
            &[create, off, KeyOp::Encrypted(1)],
            &[create, KeyOp::Refused(KeyRefusal::Disabled)],
            &[create, KeyOp::Refused(KeyRefusal::NotFound)],
            &[KeyOp::Refused(KeyRefusal::Exists)],
            &[create, off, KeyOp::Saw(NEW)],
        ];
        for ops in wrong {
            let answered: Vec<_> = ops.iter().map(|op| (*op, true)).collect();
            assert_eq!(one_by_one(&answered), Verdict::Violated { key: 1 }, "{ops:?}");
        }
    }

    #[test]
    fn an_unknown_rotation_happens_late_or_never_but_once() {
        let begin = [(KeyOp::Changed(KeyChange::Create(9), NEW), true), (KeyOp::Unknown(KeyChange::Rotate), false)];
        let with = |rest: &[KeyOp]| {
            let rest = rest.iter().map(|op| (*op, true));
            one_by_one(&begin.into_iter().chain(rest).collect::<Vec<_>>())
        };
        assert_eq!(with(&[KeyOp::Encrypted(1), KeyOp::Encrypted(2)]), Verdict::Linearizable);
        assert_eq!(with(&[KeyOp::Encrypted(1), KeyOp::Encrypted(1)]), Verdict::Linearizable);
        assert_eq!(with(&[KeyOp::Encrypted(2), KeyOp::Encrypted(3)]), Verdict::Violated { key: 1 });
    }
}
