//! How long the log is: of each entry where it ends, in bytes, so that the longest end of it that fits a bound is found at
//! once.

use std::collections::VecDeque;

/// How much of a log is kept: whichever is reached first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Bound {
    pub entries: u64,
    pub bytes: u64,
}

/// The entries from some index on, by their lengths.
#[derive(Default)]
pub(crate) struct Extent {
    first: u64,
    /// Bytes of everything before the first entry, since the count began.
    before: u64,
    /// The same up to and with each entry.
    ends: VecDeque<u64>,
}

impl Extent {
    /// No entry; the next one has that index.
    pub fn begin(first: u64) -> Extent {
        Extent { first, ..Extent::default() }
    }

    /// One more entry, at the index after the last one. An index that does not follow begins the count anew.
    pub fn push(&mut self, index: u64, bytes: usize) {
        if index != self.end() {
            *self = Extent::begin(index);
        }
        self.ends.push_back(self.last_end() + bytes as u64);
    }

    /// Entries from `index` on are gone.
    pub fn cut_from(&mut self, index: u64) {
        self.ends.truncate(usize::try_from(index.saturating_sub(self.first)).unwrap_or(usize::MAX));
    }

    /// Entries before `index` are gone.
    pub fn cut_to(&mut self, index: u64) {
        while self.first < index {
            let Some(end) = self.ends.pop_front() else {
                self.first = index;
                return;
            };
            (self.first, self.before) = (self.first + 1, end);
        }
    }

    /// What there is.
    pub fn size(&self) -> Bound {
        Bound { entries: self.ends.len() as u64, bytes: self.last_end() - self.before }
    }

    /// The first index of the longest end of the log that fits a bound.
    pub fn fits(&self, bound: Bound) -> u64 {
        let by_entries = self.end().saturating_sub(bound.entries);
        let over = self.last_end().saturating_sub(bound.bytes);
        let starts_before = if self.before >= over { 0 } else { 1 + self.ends.partition_point(|end| *end < over) };
        let by_bytes = self.first + starts_before as u64;
        by_entries.max(by_bytes).clamp(self.first, self.end())
    }

    fn end(&self) -> u64 {
        self.first + self.ends.len() as u64
    }

    fn last_end(&self) -> u64 {
        self.ends.back().copied().unwrap_or(self.before)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn extent(sizes: &[usize]) -> Extent {
        let mut extent = Extent::begin(10);
        sizes.iter().zip(10..).for_each(|(size, index)| extent.push(index, *size));
        extent
    }

    fn fits(extent: &Extent, entries: u64, bytes: u64) -> u64 {
        extent.fits(Bound { entries, bytes })
    }

    #[test]
    fn the_longest_end_that_fits_is_found() {
        let log = extent(&[100, 1, 50, 50]);
        assert_eq!(log.size(), Bound { entries: 4, bytes: 201 });
        assert_eq!([99, 4, 3, 1, 0].map(|entries| fits(&log, entries, 999)), [10, 10, 11, 13, 14]);
        assert_eq!([201, 200, 101, 100, 99, 50, 49, 0].map(|b| fits(&log, 99, b)), [10, 11, 11, 12, 13, 13, 14, 14]);
        assert_eq!(fits(&log, 1, 100), 13, "whichever is reached first");
    }

    #[test]
    fn the_count_follows_truncations_and_purges() {
        let mut log = extent(&[5; 10]);
        log.cut_to(13);
        log.cut_from(17);
        assert_eq!((log.first, log.size()), (13, Bound { entries: 4, bytes: 20 }));
        assert_eq!((fits(&log, 99, 10), fits(&log, 99, 11), fits(&log, 99, 99)), (15, 15, 13));
        log.push(17, 7);
        assert_eq!(log.size().bytes, 27);
        log.cut_to(99);
        assert_eq!((log.first, log.size()), (99, Bound { entries: 0, bytes: 0 }));
        log.push(99, 1);
        log.cut_from(0);
        assert_eq!(log.size().entries, 0);
        log.push(500, 3);
        assert_eq!(
            (log.first, log.size()),
            (500, Bound { entries: 1, bytes: 3 }),
            "a snapshot has leapt over what is between"
        );
    }
}
