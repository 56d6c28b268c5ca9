//! Chance from one printed seed, so that an operator can have the same choices again. When things happen in real processes
//! is nobody's choice: a seed repeats who is cut and when, not every answer.

/// SplitMix64 (Steele, Lea, Flood 2014): small, and good enough to draw lots.
#[derive(Clone, Debug)]
pub struct Lots(u64);

impl Lots {
    /// Lots of a seed.
    pub fn new(seed: u64) -> Lots {
        Lots(seed)
    }

    /// A number below `end`, which is not 0.
    pub fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }

    /// An index into something that is not empty.
    pub fn index(&mut self, length: usize) -> usize {
        usize::try_from(self.below(length as u64)).unwrap_or(0)
    }

    /// Lots for somebody else.
    pub fn fork(&mut self) -> Lots {
        Lots(self.next())
    }

    /// `count` different numbers out of `1..=end`, in order.
    pub fn some(&mut self, count: usize, end: u64) -> Vec<u64> {
        let mut left: Vec<u64> = (1..=end).collect();
        while left.len() > count {
            left.remove(self.index(left.len()));
        }
        left
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_says_it_all() {
        let (mut one, mut other) = (Lots::new(7), Lots::new(7));
        assert_eq!(one.fork().some(2, 3), other.fork().some(2, 3));
        // The first value of the reference implementation for seed 0.
        assert_eq!(Lots::new(0).next(), 0xe220_a839_7b1d_cdaf);
    }

    #[test]
    fn some_are_different_and_in_order() {
        let mut lots = Lots::new(1);
        for count in 1..=3 {
            let some = lots.some(count, 3);
            assert!(some.len() == count && some.is_sorted() && some.windows(2).all(|w| w[0] != w[1]), "{some:?}");
        }
    }
}
