//! The state hash: LtHash16 (Bellare and Micciancio's homomorphic hash over lattices) with 1,024 lanes, so that a
//! replica keeps one hash of its whole state up to date record by record, in any order.
//!
//! An element is expanded to 2,048 bytes by SHAKE128("claviger/v1/lthash" 00 element) (FIPS 202), read as 1,024
//! big-endian u16, and added lane by lane modulo 2^16.

use crate::codec::{Canonical, Malformed, Reader, Writer};
use crate::crypto::sha256;
use crate::kdf::label;
use crate::name::Digest;
use shake::{ExtendableOutput, Shake128, Update, XofReader};
use std::fmt;

/// Lanes of 16 bits.
pub const LANES: usize = 1_024;
/// Width of the byte form.
pub const LTHASH_BYTES: usize = 2 * LANES;

/// The sum of the elements that were added and not removed.
#[derive(Clone, PartialEq, Eq)]
pub struct LtHash(Box<[u16; LANES]>);

impl LtHash {
    /// The hash of nothing.
    pub fn new() -> Self {
        LtHash(Box::new([0; LANES]))
    }

    /// Adds an element.
    pub fn add(&mut self, element: &[u8]) {
        self.each(element, |lane, other| lane.wrapping_add(other));
    }

    /// Takes an element out again that was added before.
    pub fn remove(&mut self, element: &[u8]) {
        self.each(element, |lane, other| lane.wrapping_sub(other));
    }

    /// SHA-256 of the byte form.
    pub fn digest(&self) -> Digest {
        sha256(&[&self.to_bytes()])
    }

    /// Of each `combine` a loop of its own, so that the compiler makes it one over many lanes at once.
    fn each(&mut self, element: &[u8], combine: impl Fn(u16, u16) -> u16) {
        let mut expansion = [0; LTHASH_BYTES];
        let mut xof = Shake128::default();
        xof.update(label::LTHASH.as_str().as_bytes());
        xof.update(&[0]);
        xof.update(element);
        xof.finalize_xof().read(&mut expansion);
        for (lane, bytes) in self.0.iter_mut().zip(expansion.as_chunks::<2>().0) {
            *lane = combine(*lane, u16::from_be_bytes(*bytes));
        }
    }
}

impl Default for LtHash {
    fn default() -> Self {
        LtHash::new()
    }
}

impl fmt::Debug for LtHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "LtHash({})", self.digest())
    }
}

impl Canonical for LtHash {
    fn write(&self, w: &mut Writer) {
        let mut bytes = [0; LTHASH_BYTES];
        for (to, lane) in bytes.as_chunks_mut::<2>().0.iter_mut().zip(self.0.iter()) {
            *to = lane.to_be_bytes();
        }
        w.raw(&bytes);
    }
    fn read(r: &mut Reader<'_>) -> Result<Self, Malformed> {
        let mut hash = LtHash::new();
        for lane in hash.0.iter_mut() {
            *lane = r.u16()?;
        }
        Ok(hash)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn sum(elements: &[Vec<u8>]) -> LtHash {
        let mut hash = LtHash::new();
        elements.iter().for_each(|e| hash.add(e));
        hash
    }

    proptest! {
        #[test]
        fn order_does_not_matter(elements: Vec<Vec<u8>>, seed: prop::sample::Index) {
            let mut turned = elements.clone();
            if !turned.is_empty() {
                turned.rotate_left(seed.index(elements.len()));
                turned.reverse();
            }
            prop_assert_eq!(sum(&elements), sum(&turned));
        }

        #[test]
        fn add_then_remove_is_nothing(base: Vec<Vec<u8>>, element: Vec<u8>) {
            let before = sum(&base);
            let mut hash = before.clone();
            hash.add(&element);
            prop_assert_ne!(hash.digest(), before.digest());
            hash.remove(&element);
            prop_assert_eq!(&hash, &before);
            prop_assert_eq!(LtHash::from_bytes(&hash.to_bytes()), Ok(hash));
        }
    }

    #[test]
    fn twice_is_not_once_nor_never() {
        let (once, twice) = (sum(&[b"a".to_vec()]), sum(&[b"a".to_vec(), b"a".to_vec()]));
        assert_ne!(once, twice);
        assert_ne!(twice, LtHash::new());
    }

    #[test]
    fn refuses_a_hash_of_another_width() {
        assert_eq!(LtHash::from_bytes(&[0; LTHASH_BYTES - 1]), Err(Malformed::Short));
        assert_eq!(LtHash::from_bytes(&[0; LTHASH_BYTES + 1]), Err(Malformed::Trailing));
    }
}
