//! The beginnings and ends of calls in order of time, as a linked list that a call can be lifted out of and put back
//! into at once (Lowe, §4.1).

use crate::Call;

/// Slot 0 is before the first event; event `i` is slot `i + 1`.
pub(crate) struct Events {
    next: Vec<usize>,
    previous: Vec<usize>,
    /// For each slot: the call that begins there, or none where one ends.
    begins: Vec<Option<usize>>,
    /// Slots from here on are ends that nobody saw.
    open_from: usize,
    /// For each call: where it begins and where it ends.
    places: Vec<(usize, usize)>,
}

impl Events {
    pub fn new<O>(calls: &[Call<O>]) -> Events {
        let mut order: Vec<(u64, bool, usize)> = Vec::with_capacity(2 * calls.len());
        for (call, c) in calls.iter().enumerate() {
            order.push((c.began, false, call));
            order.push((c.ended.unwrap_or(u64::MAX), true, call));
        }
        order.sort_unstable();
        let mut places = vec![(0, 0); calls.len()];
        let mut begins = vec![None];
        for (slot, (_, end, call)) in (1..).zip(&order) {
            begins.push((!end).then_some(*call));
            let place = &mut places[*call];
            *(if *end { &mut place.1 } else { &mut place.0 }) = slot;
        }
        let open = calls.iter().filter(|c| c.ended.is_none()).count();
        let (slots, open_from) = (begins.len(), begins.len() - open);
        let next = (1..=slots).collect();
        let previous = (0..=slots).map(|slot| slot.saturating_sub(1)).collect();
        Events { next, previous, begins, open_from, places }
    }

    /// The first event that is left.
    pub fn first(&self) -> Option<usize> {
        self.after(0)
    }

    /// The event after `slot`.
    pub fn after(&self, slot: usize) -> Option<usize> {
        Some(self.next[slot]).filter(|next| *next < self.begins.len())
    }

    /// The call that begins at `slot`; none where one ends.
    pub fn call_of(&self, slot: usize) -> Option<usize> {
        self.begins[slot]
    }

    /// Whether `slot` is an end that nobody saw.
    pub fn is_open(&self, slot: usize) -> bool {
        slot >= self.open_from
    }

    /// Takes a call out.
    pub fn lift(&mut self, call: usize) {
        let (begin, end) = self.places[call];
        for slot in [begin, end] {
            let (before, after) = (self.previous[slot], self.next[slot]);
            self.next[before] = after;
            self.previous[after] = before;
        }
    }

    /// Puts the call that was taken out last back in. What comes after its beginning.
    pub fn unlift(&mut self, call: usize) -> Option<usize> {
        let (begin, end) = self.places[call];
        for slot in [end, begin] {
            let (before, after) = (self.previous[slot], self.next[slot]);
            self.next[before] = slot;
            self.previous[after] = slot;
        }
        self.after(begin)
    }
}
