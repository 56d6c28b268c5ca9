//! Randomness for keys, serial numbers and boxes: from the operating system, through the TLS provider's generator.

use claviger_core::chance::Fresh;

/// `N` bytes that nobody has used.
pub fn fresh<const N: usize>() -> Fresh<N> {
    let mut bytes = [0; N];
    let generator = rustls::crypto::aws_lc_rs::default_provider().secure_random;
    generator.fill(&mut bytes).expect("the system has randomness");
    Fresh::drawn(bytes)
}
