//! Streams of chance, one for each purpose: what one part of the world draws does not shift what another does, so a run
//! with a fault less is still nearly the same run.

use claviger_core::crypto;
use parking_lot::Mutex;
use rand::{Rng, RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use std::ops::Range;

/// One stream.
pub struct Dice(Mutex<ChaCha8Rng>);

impl Dice {
    /// The stream of a seed for a purpose.
    pub fn of(seed: u64, purpose: &str) -> Dice {
        Dice(Mutex::new(ChaCha8Rng::from_seed(seed_of(seed, purpose))))
    }

    /// A number of that range, which must not be empty.
    pub fn roll(&self, range: Range<u64>) -> u64 {
        self.0.lock().random_range(range)
    }

    /// Yes, once in `times` on average; never when that is 0.
    pub fn once_in(&self, times: u64) -> bool {
        times > 0 && self.roll(0..times) == 0
    }

    /// One of them, all alike; none of none.
    pub fn pick<'a, T>(&self, of: &'a [T]) -> Option<&'a T> {
        if of.is_empty() {
            return None;
        }
        of.get(self.roll(0..of.len() as u64) as usize)
    }

    /// All of them, in any order.
    pub fn shuffle<T>(&self, of: &mut [T]) {
        for end in (1..of.len()).rev() {
            of.swap(end, self.roll(0..end as u64 + 1) as usize);
        }
    }

    /// A number between two, spread by its logarithm: small ones are as likely as large ones.
    pub fn spread(&self, from: u64, to: u64) -> u64 {
        let (low, high) = (from.max(1).ilog2(), to.max(1).ilog2());
        let octave = 1_u64 << self.roll(u64::from(low)..u64::from(high) + 1);
        (octave + self.roll(0..octave)).clamp(from, to)
    }

    /// `N` bytes.
    pub fn bytes<const N: usize>(&self) -> [u8; N] {
        let mut bytes = [0; N];
        self.0.lock().fill_bytes(&mut bytes);
        bytes
    }
}

/// 32 bytes for a purpose of a seed.
pub fn seed_of(seed: u64, purpose: &str) -> [u8; 32] {
    crypto::sha256(&[b"claviger-sim", &seed.to_be_bytes(), purpose.as_bytes()]).0
}

/// A number for a purpose of a seed.
pub fn number_of(seed: u64, purpose: &str) -> u64 {
    let [a, b, c, d, e, f, g, h, ..] = seed_of(seed, purpose);
    u64::from_be_bytes([a, b, c, d, e, f, g, h])
}
