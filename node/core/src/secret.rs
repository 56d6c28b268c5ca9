//! Bytes that cannot be printed, copied, compared or sent, and are gone when dropped.

use crate::chance::Fresh;
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing, optimization_barrier};

/// `N` secret bytes on the heap, wiped when dropped.
///
/// ```compile_fail
/// let s = claviger_core::secret::Secret::<32>::take([1; 32].into());
/// println!("{s:?}"); // a secret has no Debug
/// ```
/// ```compile_fail
/// let s = claviger_core::secret::Secret::<32>::take([1; 32].into());
/// let t = s.clone(); // and no Clone
/// ```
/// ```compile_fail
/// let s = claviger_core::secret::Secret::<32>::take([1; 32].into());
/// let same = s == s; // nor can it be compared
/// ```
#[derive(Zeroize, ZeroizeOnDrop)]
pub struct Secret<const N: usize>(Box<[u8; N]>);

/// A 256-bit secret.
pub type Secret32 = Secret<32>;

impl<const N: usize> Secret<N> {
    /// Takes bytes over from a wiped container.
    pub fn take(bytes: Zeroizing<[u8; N]>) -> Self {
        Secret(Box::new(*bytes))
    }

    /// Makes a secret of a draw.
    pub fn of(draw: Fresh<N>) -> Self {
        Secret(Box::new(draw.spend()))
    }

    /// Copies a secret out of a slice of exactly `N` bytes, else nothing. The slice stays its owner's to wipe.
    pub fn copy_from(bytes: &[u8]) -> Option<Self> {
        let mut secret = Secret(Box::new([0; N]));
        if bytes.len() != N {
            return None;
        }
        secret.0.copy_from_slice(bytes);
        Some(secret)
    }

    /// The one way out.
    pub fn expose(&self) -> &[u8; N] {
        &self.0
    }
}

/// Secret bytes of any length: a plaintext, a decoded record. Wiped when dropped.
pub struct SecretBytes(Vec<u8>);

impl SecretBytes {
    /// Takes the bytes over. Their buffer must not have grown since the secret came in, else a copy stays behind.
    pub fn take(bytes: Vec<u8>) -> Self {
        SecretBytes(bytes)
    }

    /// How long it is, in bytes.
    pub fn size_bytes(&self) -> usize {
        self.0.len()
    }

    /// The one way out.
    pub fn expose(&self) -> &[u8] {
        &self.0
    }

    /// Hands the buffer to a library that wants to own it, and to whom wiping it then falls.
    pub fn expose_owned(mut self) -> Vec<u8> {
        std::mem::take(&mut self.0)
    }
}

impl Zeroize for SecretBytes {
    /// Wipes the whole buffer, also what lies behind the end: a library may have moved the bytes within it. All at once,
    /// where `Vec`'s own way takes byte by byte, which for 64 KiB took longer than to encrypt them.
    fn zeroize(&mut self) {
        let room = self.0.capacity();
        self.0.clear();
        self.0.resize(room, 0);
        optimization_barrier(&self.0[..]);
        self.0.clear();
    }
}

impl Drop for SecretBytes {
    fn drop(&mut self) {
        self.zeroize();
    }
}

impl ZeroizeOnDrop for SecretBytes {}
