//! Randomness as a value: drawn by the node's entropy, handed in, used up by use.

use rand_chacha::ChaCha20Rng;
use rand_core::{Rng, SeedableRng, TryCryptoRng, TryRng};
use std::convert::Infallible;
use zeroize::{Zeroize, ZeroizeOnDrop};

/// `N` bytes that nobody has used yet. Neither copied nor cloned: a second use does not compile.
///
/// ```compile_fail
/// use claviger_core::chance::Fresh;
/// let nonce = Fresh::<12>::drawn([7; 12]);
/// let first = nonce.spend();
/// let second = nonce.spend(); // used up
/// ```
#[derive(Zeroize, ZeroizeOnDrop)]
#[must_use]
pub struct Fresh<const N: usize>([u8; N]);

impl<const N: usize> Fresh<N> {
    /// Takes bytes that an entropy source has just drawn. Named so that its callers are easy to search for.
    pub fn drawn(bytes: [u8; N]) -> Self {
        Fresh(bytes)
    }

    /// Uses the bytes up.
    pub fn spend(self) -> [u8; N] {
        self.0
    }
}

/// A private stream of fresh bytes for one decision, grown from one draw (ChaCha20, RFC 8439 §2.3, as a generator).
///
/// Handed to `decide`, which stays a pure function of it.
pub struct Chance(ChaCha20Rng);

impl Chance {
    /// Grows a stream from one draw of the node's entropy.
    pub fn grow(seed: Fresh<32>) -> Self {
        Chance(ChaCha20Rng::from_seed(seed.spend()))
    }

    /// The next `N` bytes.
    pub fn fresh<const N: usize>(&mut self) -> Fresh<N> {
        let mut bytes = [0; N];
        self.0.fill_bytes(&mut bytes);
        Fresh(bytes)
    }
}

impl TryRng for Chance {
    type Error = Infallible;
    fn try_next_u32(&mut self) -> Result<u32, Infallible> {
        Ok(self.0.next_u32())
    }
    fn try_next_u64(&mut self) -> Result<u64, Infallible> {
        Ok(self.0.next_u64())
    }
    fn try_fill_bytes(&mut self, out: &mut [u8]) -> Result<(), Infallible> {
        self.0.fill_bytes(out);
        Ok(())
    }
}

impl TryCryptoRng for Chance {}
