//! The machine's randomness: a generator for each thread, seeded by the system and seeded again often.
//!
//! ChaCha20 with fast key erasure: every block drawn first replaces the key it came from, and what was given out is wiped
//! from the buffer, so that a stolen memory image tells nothing of the past. A second gone by seeds again, so that two
//! copies of this machine part within that second at the latest. A copy of the process alone cannot come to draw from it: to
//! fork without starting another program is unsafe code, which no crate of ours may have, and asking the system each time
//! which process this is cost more than a nonce does.

use claviger_world::entropy::Entropy;
use rand_chacha::ChaCha20Rng;
use rand_core::{Rng, SeedableRng};
use rustix::{
    rand::{GetRandomFlags, getrandom},
    time::{ClockId, clock_gettime},
};
use std::cell::RefCell;
use zeroize::Zeroize;

/// Bytes drawn from one seed of the system.
const RESEED_BYTES_MAX: u64 = 1 << 20;
/// Seconds that one seed of the system serves.
const RESEED_SECONDS_MAX: i64 = 1;
/// The calendar, to the kernel's tick: what is read for each nonce must cost nothing. It does not stand still while the
/// machine is suspended; where somebody sets it, forward or back, the generator is seeded again.
const CLOCK: ClockId = ClockId::RealtimeCoarse;
const KEY_BYTES: usize = 32;
const BUFFER_BYTES: usize = 1_024;

/// The machine's randomness.
pub struct MachineEntropy;

impl Entropy for MachineEntropy {
    fn fill(&self, out: &mut [u8]) {
        GENERATOR.with_borrow_mut(|generator| generator.fill(out));
    }
}

thread_local! {
    static GENERATOR: RefCell<Generator> = RefCell::new(Generator::unseeded());
}

struct Generator {
    key: [u8; KEY_BYTES],
    buffer: [u8; BUFFER_BYTES],
    /// Where the bytes begin that nobody has had; behind it stands nothing but zeros.
    unused: usize,
    drawn_bytes: u64,
    /// By [`CLOCK`], in seconds; none before the first.
    seeded_at: Option<i64>,
}

impl Generator {
    fn unseeded() -> Self {
        let (key, buffer) = ([0; KEY_BYTES], [0; BUFFER_BYTES]);
        Generator { key, buffer, unused: BUFFER_BYTES, drawn_bytes: 0, seeded_at: None }
    }

    fn fill(&mut self, out: &mut [u8]) {
        let now = clock_gettime(CLOCK).tv_sec;
        if self.stale(now) {
            self.seed(now);
        }
        for piece in out.chunks_mut(BUFFER_BYTES) {
            self.give(piece);
        }
    }

    fn stale(&self, now: i64) -> bool {
        let fresh = self.seeded_at.is_some_and(|at| now.abs_diff(at) <= RESEED_SECONDS_MAX as u64);
        !fresh || self.drawn_bytes >= RESEED_BYTES_MAX
    }

    /// Mixes 32 bytes of the system into the key; forgets what was drawn from the old one.
    fn seed(&mut self, now: i64) {
        let mut fresh = [0; KEY_BYTES];
        from_system(&mut fresh);
        self.key.iter_mut().zip(&fresh).for_each(|(k, f)| *k ^= f);
        fresh.zeroize();
        self.buffer.zeroize();
        (self.unused, self.drawn_bytes, self.seeded_at) = (BUFFER_BYTES, 0, Some(now));
    }

    fn give(&mut self, out: &mut [u8]) {
        let mut done = 0;
        while done < out.len() {
            if self.unused == BUFFER_BYTES {
                self.refill();
            }
            let n = (out.len() - done).min(BUFFER_BYTES - self.unused);
            let source = &mut self.buffer[self.unused..self.unused + n];
            out[done..done + n].copy_from_slice(source);
            source.zeroize();
            self.unused += n;
            done += n;
        }
        self.drawn_bytes += out.len() as u64;
    }

    fn refill(&mut self) {
        // The first 32 bytes of a key's stream are the next key; the buffer is the rest.
        let mut stream = ChaCha20Rng::from_seed(self.key);
        stream.fill_bytes(&mut self.key);
        stream.fill_bytes(&mut self.buffer);
        self.unused = 0;
    }
}

impl Drop for Generator {
    fn drop(&mut self) {
        self.key.zeroize();
        self.buffer.zeroize();
    }
}

/// Fills `out` from the system.
///
/// # Panics
/// When the system has no randomness to give: there is nothing safe that a key store could do then.
fn from_system(out: &mut [u8]) {
    let mut done = 0;
    while done < out.len() {
        match getrandom(&mut out[done..], GetRandomFlags::empty()) {
            Ok(n) => done += n,
            Err(rustix::io::Errno::INTR) => {}
            Err(e) => panic!("the system gives no randomness: {e}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A generator that believes it was just seeded, with a known key.
    fn known() -> Generator {
        let mut g = Generator::unseeded();
        (g.key, g.seeded_at) = ([7; KEY_BYTES], Some(clock_gettime(CLOCK).tv_sec));
        g
    }

    #[test]
    fn the_stream_is_one_whatever_the_pieces() {
        let (mut whole, mut pieces) = ([0; 5_000], [0; 5_000]);
        known().give(&mut whole);
        let mut g = known();
        let mut rest = pieces.as_mut_slice();
        for n in [1, 12, 32, 1_000, 1_024, 1_025, 1_906] {
            let (piece, after) = rest.split_at_mut(n);
            g.give(piece);
            rest = after;
        }
        assert_eq!(whole, pieces);
        assert!(whole.chunks_exact(8).all(|c| c != [0; 8]));
    }

    #[test]
    fn what_was_given_is_wiped_and_the_key_has_gone() {
        let mut g = known();
        g.give(&mut [0; 100]);
        assert!(g.buffer[..100].iter().all(|b| *b == 0) && g.buffer[100..].iter().any(|b| *b != 0));
        assert_ne!(g.key, [7; KEY_BYTES]);
    }

    #[test]
    fn a_second_and_a_count_seed_again() {
        let (g, at) = (known(), 1_000);
        let seeded = |drawn_bytes| Generator { seeded_at: Some(at), drawn_bytes, ..known() };
        assert!(!g.stale(g.seeded_at.unwrap()) && !seeded(0).stale(at + RESEED_SECONDS_MAX));
        assert!(Generator::unseeded().stale(0), "never seeded");
        assert!(seeded(0).stale(at + RESEED_SECONDS_MAX + 1));
        assert!(seeded(0).stale(at - RESEED_SECONDS_MAX - 1), "a clock of another machine");
        assert!(seeded(RESEED_BYTES_MAX).stale(at));
    }

    #[test]
    fn two_draws_never_agree_in_one_thread_or_in_two() {
        let draw = || {
            let mut bytes = [0; 32];
            MachineEntropy.fill(&mut bytes);
            bytes
        };
        let elsewhere = std::thread::spawn(draw).join().unwrap();
        let here = [draw(), draw()];
        assert!(here[0] != here[1] && here[0] != elsewhere && here[1] != elsewhere);
    }
}
