//! Where randomness comes from.

use claviger_core::chance::{Chance, Fresh};

/// The node's source of random bytes.
pub trait Entropy: Send + Sync + 'static {
    /// Fills `out` with bytes that were never given before.
    fn fill(&self, out: &mut [u8]);
}

/// Draws `N` fresh bytes.
pub fn fresh<const N: usize>(entropy: &dyn Entropy) -> Fresh<N> {
    let mut bytes = [0; N];
    entropy.fill(&mut bytes);
    Fresh::drawn(bytes)
}

/// Draws a private stream for one decision.
pub fn chance(entropy: &dyn Entropy) -> Chance {
    Chance::grow(fresh(entropy))
}
