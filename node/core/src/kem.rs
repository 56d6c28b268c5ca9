//! Sealed boxes: sealing to a public key. X-Wing (X25519 with ML-KEM-768, draft-connolly-cfrg-xwing-kem-06), then SU
//! under the shared secret.

use crate::chance::Fresh;
use crate::codec::{Canonical, Malformed, Reader, Writer};
use crate::crypto::sha256;
use crate::kdf::{self, Ctx, Label, SALT_BYTES, SU_BYTES};
use crate::name::Digest;
use crate::secret::{Secret32, SecretBytes};
use x_wing::kem::{Decapsulator, KeyExport};
use x_wing::{Ciphertext, DecapsulationKeyRejectNonContrib, EncapsulationKey, SharedKey, TryDecapsulate};
use zeroize::{Zeroize, Zeroizing};

/// Width of a public key, in bytes: ML-KEM-768 1,184, X25519 32.
pub const KEM_PUBLIC_BYTES: usize = 1_216;
/// Width of an encapsulation, in bytes: ML-KEM-768 1,088, X25519 32.
pub const ENCAPSULATION_BYTES: usize = 1_120;
/// Longest plaintext of a box, in bytes: keys and shares, no more.
pub const BOX_PLAINTEXT_BYTES_MAX: usize = 4_096;

/// Where boxes are sealed to: ML-KEM-768, then X25519. One that was read ([`Canonical::read`]) is an X-Wing key.
#[derive(Clone, PartialEq, Eq)]
pub struct KemPublic(pub [u8; KEM_PUBLIC_BYTES]);

impl KemPublic {
    /// SHA-256 of the key: what formats bind, people compare, and Debug prints.
    pub fn fingerprint(&self) -> Digest {
        sha256(&[&self.0])
    }
}

impl std::fmt::Debug for KemPublic {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "KemPublic({})", self.fingerprint())
    }
}

impl Canonical for KemPublic {
    fn write(&self, w: &mut Writer) {
        w.raw(&self.0);
    }
    fn read(r: &mut Reader<'_>) -> Result<Self, Malformed> {
        let bytes = r.array()?;
        // FIPS 203 §7.2, the modulus check: every coefficient is below q.
        EncapsulationKey::try_from(bytes.as_slice()).map_err(|_| Malformed::Unknown)?;
        Ok(KemPublic(bytes))
    }
}

/// What opens them: the 32-byte seed that the whole key pair grows from.
pub struct KemSecret(Secret32);

impl KemSecret {
    /// The key of a seed: any 32 uniform bytes.
    pub fn from_seed(seed: Secret32) -> Self {
        KemSecret(seed)
    }

    /// The seed, for whoever stores the key sealed.
    pub fn seed(&self) -> &Secret32 {
        &self.0
    }

    /// The public half.
    pub fn public(&self) -> KemPublic {
        let bytes = self.decapsulation().encapsulation_key().to_bytes();
        KemPublic(bytes.as_slice().try_into().expect("an X-Wing public key has 1,216 bytes"))
    }

    /// X25519 against a point of small order is refused: an honest sender never sends one.
    fn decapsulation(&self) -> DecapsulationKeyRejectNonContrib {
        DecapsulationKeyRejectNonContrib::from(*self.0.expose())
    }
}

/// A plaintext sealed to a public key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SealedBox {
    encapsulation: Box<[u8; ENCAPSULATION_BYTES]>,
    sealed: Vec<u8>,
}

impl Canonical for SealedBox {
    fn write(&self, w: &mut Writer) {
        w.raw(self.encapsulation.as_slice()).lp(&self.sealed);
    }
    fn read(r: &mut Reader<'_>) -> Result<Self, Malformed> {
        let encapsulation = Box::new(r.array()?);
        let sealed = r.lp(BOX_PLAINTEXT_BYTES_MAX + SU_BYTES)?.to_vec();
        if sealed.len() < SU_BYTES { Err(Malformed::Short) } else { Ok(SealedBox { encapsulation, sealed }) }
    }
}

/// Seals a plaintext of at most [`BOX_PLAINTEXT_BYTES_MAX`] bytes to `public`; nothing if `public` is no X-Wing key.
///
/// # Panics
/// When the plaintext is longer.
pub fn seal_to(
    public: &KemPublic,
    label: Label,
    ctx: &Ctx,
    plaintext: &[u8],
    randomness: Fresh<64>,
    salt: Fresh<SALT_BYTES>,
) -> Option<SealedBox> {
    assert!(plaintext.len() <= BOX_PLAINTEXT_BYTES_MAX, "a box holds keys and shares");
    let key = EncapsulationKey::try_from(public.0.as_slice()).ok()?;
    let randomness = Zeroizing::new(randomness.spend());
    let (encapsulation, shared) = key.encapsulate_deterministic((&*randomness).into());
    let encapsulation = Box::new(encapsulation.as_slice().try_into().expect("an encapsulation has 1,120 bytes"));
    let ctx = bound(ctx, public, &encapsulation);
    let sealed = kdf::seal(&secret_of(shared), label, &ctx, plaintext, salt);
    Some(SealedBox { encapsulation, sealed })
}

/// Opens a box that was sealed to this key under the same label and context, or nothing.
pub fn open(key: &KemSecret, label: Label, ctx: &Ctx, sealed: &SealedBox) -> Option<SecretBytes> {
    let mut encapsulation = Ciphertext::default();
    encapsulation.copy_from_slice(sealed.encapsulation.as_slice());
    let shared = key.decapsulation().try_decapsulate(&encapsulation).ok()?;
    let ctx = bound(ctx, &key.public(), &sealed.encapsulation);
    kdf::open(&secret_of(shared), label, &ctx, &sealed.sealed)
}

/// The context, the recipient and the encapsulation, as one context of three fields.
fn bound(ctx: &Ctx, public: &KemPublic, encapsulation: &[u8; ENCAPSULATION_BYTES]) -> Ctx {
    let encapsulation = sha256(&[encapsulation]);
    Ctx::new().lp(ctx.as_slice()).fixed(&public.fingerprint().0).fixed(&encapsulation.0)
}

fn secret_of(mut shared: SharedKey) -> Secret32 {
    let secret = Secret32::copy_from(shared.as_slice()).expect("an X-Wing shared secret has 32 bytes");
    shared.as_mut_slice().zeroize();
    secret
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kdf::label::{SLOT_LOCK, SLOT_ROOT};

    fn secret(byte: u8) -> KemSecret {
        KemSecret::from_seed(Secret32::copy_from(&[byte; 32]).unwrap())
    }

    fn sealed(plaintext: &[u8]) -> SealedBox {
        let (randomness, salt) = (Fresh::drawn([3; 64]), Fresh::drawn([4; 32]));
        seal_to(&secret(1).public(), SLOT_ROOT, &Ctx::new().u32(7), plaintext, randomness, salt).unwrap()
    }

    #[test]
    fn a_box_opens_as_it_was_sealed() {
        for plaintext in [&b""[..], b"root", &[9; BOX_PLAINTEXT_BYTES_MAX]] {
            let read = SealedBox::from_bytes(&sealed(plaintext).to_bytes()).unwrap();
            assert_eq!(open(&secret(1), SLOT_ROOT, &Ctx::new().u32(7), &read).unwrap().expose(), plaintext);
        }
    }

    #[test]
    fn refuses_another_key_label_or_context() {
        let sealed = sealed(b"root");
        assert!(open(&secret(2), SLOT_ROOT, &Ctx::new().u32(7), &sealed).is_none());
        assert!(open(&secret(1), SLOT_LOCK, &Ctx::new().u32(7), &sealed).is_none());
        assert!(open(&secret(1), SLOT_ROOT, &Ctx::new().u32(8), &sealed).is_none());
        assert!(open(&secret(1), SLOT_ROOT, &Ctx::new(), &sealed).is_none());
    }

    /// An X25519 share of small order makes a shared secret that everybody knows.
    #[test]
    fn refuses_an_encapsulation_of_small_order() {
        let mut sealed = sealed(b"root");
        sealed.encapsulation[1_088..].fill(0);
        assert!(secret(1).decapsulation().try_decapsulate(&(*sealed.encapsulation).into()).is_err());
        assert!(open(&secret(1), SLOT_ROOT, &Ctx::new().u32(7), &sealed).is_none());
    }

    #[test]
    fn refuses_a_public_key_that_is_none() {
        let mut bytes = secret(1).public().to_bytes();
        assert!(KemPublic::from_bytes(&bytes).is_ok());
        bytes[..3].fill(0xff); // a coefficient over q
        assert_eq!(KemPublic::from_bytes(&bytes), Err(Malformed::Unknown));
        let public = KemPublic(bytes.try_into().unwrap());
        let sealed = seal_to(&public, SLOT_ROOT, &Ctx::new(), b"root", Fresh::drawn([3; 64]), Fresh::drawn([4; 32]));
        assert!(sealed.is_none());
    }

    #[test]
    fn refuses_boxes_out_of_bounds() {
        let bytes = sealed(b"").to_bytes();
        assert!(SealedBox::from_bytes(&bytes).is_ok());
        assert_eq!(SealedBox::from_bytes(&bytes[..bytes.len() - 1]), Err(Malformed::Short));
        let empty = [&bytes[..ENCAPSULATION_BYTES], &[0; 4]].concat();
        assert_eq!(SealedBox::from_bytes(&empty), Err(Malformed::Short));
        let long = [&bytes[..ENCAPSULATION_BYTES], &[0xff; 4]].concat();
        assert_eq!(SealedBox::from_bytes(&long), Err(Malformed::Oversize));
    }
}
