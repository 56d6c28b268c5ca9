//! What is written of a call with many items: a page for each, or one for all that are alike. No item is without.

use claviger_core::name::KeyName;
use claviger_core::page::OutcomeWord;
use claviger_core::policy::Operation;

/// The keys that an attempt is about.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Keys {
    /// The key, where there is one.
    pub resource: Option<KeyName>,
    /// The key that is encrypted with anew, where that is another one.
    pub destination: Option<KeyName>,
}

impl Keys {
    /// One key.
    pub fn one(name: &KeyName) -> Self {
        Keys { resource: Some(name.clone()), destination: None }
    }

    /// From one key to another, which may be the same.
    pub fn two(from: &KeyName, to: &KeyName) -> Self {
        Keys { resource: Some(from.clone()), destination: (from != to).then(|| to.clone()) }
    }
}

/// The items of one call, as far as it has come.
#[derive(Default)]
pub(crate) struct Items(Vec<Item>);

struct Item {
    operation: Operation,
    keys: Keys,
    outcome: Option<OutcomeWord>,
}

/// Items that are alike in all that a page says.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Alike {
    pub operation: Operation,
    pub keys: Keys,
    pub outcome: OutcomeWord,
    /// How many.
    pub count: u64,
}

impl Items {
    /// Items of which nothing has come yet.
    pub fn begun(operation: Operation, keys: impl Iterator<Item = Keys>) -> Self {
        Items(keys.map(|keys| Item { operation, keys, outcome: None }).collect())
    }

    /// Notes what came of each, in their order.
    pub fn came_to(&mut self, outcomes: impl Iterator<Item = OutcomeWord>) {
        self.0.iter_mut().zip(outcomes).for_each(|(item, outcome)| item.outcome = Some(outcome));
    }

    /// The items, those that are alike together, in the order that the first of each came. Of what has no outcome of its
    /// own, it is that of the whole call. A batch is short: its items are compared one by one.
    pub fn gathered(&self, whole: OutcomeWord) -> Vec<Alike> {
        let mut gathered: Vec<Alike> = Vec::new();
        for item in &self.0 {
            let (keys, outcome) = (&item.keys, item.outcome.unwrap_or(whole));
            match gathered.iter_mut().find(|known| known.outcome == outcome && known.keys == *keys) {
                Some(known) => known.count += 1,
                None => gathered.push(Alike { operation: item.operation, keys: keys.clone(), outcome, count: 1 }),
            }
        }
        gathered
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use claviger_core::failure::{RefusedKind, WhyKind};

    fn keys(name: &str) -> Keys {
        Keys::one(&format!("tenants/acme/keys/{name}").parse().unwrap())
    }

    fn told(items: &Items, whole: OutcomeWord) -> Vec<String> {
        let name = |alike: &Alike| alike.keys.resource.as_ref().map_or("none".into(), |name| name.key.to_string());
        items.gathered(whole).iter().map(|a| format!("{} {} {}", a.count, name(a), a.outcome)).collect()
    }

    #[test]
    fn every_item_is_in_one_page() {
        let about = [keys("a"), keys("b"), keys("a"), Keys::default(), keys("a")];
        let mut items = Items::begun(Operation::Decrypt, about.into_iter());
        assert_eq!(told(&items, OutcomeWord::Denied), ["3 a denied", "1 b denied", "1 none denied"]);
        let disabled = OutcomeWord::Refused(RefusedKind::Disabled);
        let bad = OutcomeWord::Refused(RefusedKind::BadName);
        items.came_to([OutcomeWord::Ok, disabled, disabled, bad, OutcomeWord::Ok].into_iter());
        let late = OutcomeWord::Unavailable(WhyKind::Deadline);
        assert_eq!(told(&items, late), ["2 a ok", "1 b disabled", "1 a disabled", "1 none bad_name"]);
    }

    #[test]
    fn what_leads_elsewhere_is_another_page() {
        let [a, b] = ["a", "b"].map(|name| format!("tenants/acme/keys/{name}").parse::<KeyName>().unwrap());
        let about = [Keys::two(&a, &b), Keys::two(&a, &a), Keys::one(&a)];
        let items = Items::begun(Operation::ReEncrypt, about.into_iter());
        assert_eq!(told(&items, OutcomeWord::Ok), ["1 a ok", "2 a ok"], "the same key is named once");
    }
}
