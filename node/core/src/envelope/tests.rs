//! Ciphertexts open under their material and context, and under nothing else.

use super::*;
use crate::material::{Algorithm, MaterialContext, Origin, Usage};
use proptest::prelude::*;

fn context() -> MaterialContext {
    MaterialContext {
        tenant: TenantTag([1; 16]),
        key: KeyId([2; 16]),
        version: 3,
        material: MaterialId([4; 8]),
        algorithm: Algorithm::Aes256Gcm,
        usage: Usage::ENCRYPT_DECRYPT,
        exportable: false,
        origin: Origin::Generated,
    }
}

fn material(byte: u8) -> Material {
    Material::draw(context(), Fresh::drawn([byte; 32]))
}

fn pairs(pairs: &[(&str, &str)]) -> Context {
    Context::new(pairs).unwrap()
}

fn sealed(plaintext: &[u8], context: &Context) -> Vec<u8> {
    encrypt(&material(5), plaintext, context, Fresh::drawn([6; 32]), Fresh::drawn([7; 12])).unwrap()
}

fn opened(material: &Material, bytes: &[u8], context: &Context) -> Option<Vec<u8>> {
    let ciphertext = Ciphertext::parse(bytes).ok()?;
    decrypt(material, &ciphertext, context).ok().map(|p| p.expose().to_vec())
}

proptest! {
    #[test]
    fn a_message_opens_as_it_was_sealed(
        plaintext in prop::collection::vec(any::<u8>(), 0..2_000),
        context: std::collections::BTreeMap<String, String>,
        salt: [u8; 32],
        nonce: [u8; 12],
    ) {
        let pairs: Vec<_> = context.into_iter().take(CONTEXT_PAIRS_MAX).collect();
        let context = Context::new(&pairs).unwrap();
        let bytes = encrypt(&material(5), &plaintext, &context, Fresh::drawn(salt), Fresh::drawn(nonce)).unwrap();
        prop_assert_eq!(bytes.len(), plaintext.len() + OVERHEAD_BYTES);
        prop_assert_eq!(opened(&material(5), &bytes, &context), Some(plaintext));
    }
}

#[test]
fn one_salt_serves_many_messages() {
    let key = MessageKey::fresh(&material(5), Fresh::drawn([6; 32]));
    let empty = Context::empty();
    let first = key.seal(b"first", &empty, Fresh::drawn([1; 12])).unwrap();
    let second = key.seal(b"second", &empty, Fresh::drawn([2; 12])).unwrap();
    let theirs = MessageKey::of(&material(5), Ciphertext::parse(&first).unwrap().header()).unwrap();
    for (bytes, plaintext) in [(&first, &b"first"[..]), (&second, b"second")] {
        let opened = theirs.open(&Ciphertext::parse(bytes).unwrap(), &empty);
        assert_eq!(opened.map(|p| p.expose().to_vec()), Ok(plaintext.to_vec()));
    }
}

#[test]
fn refuses_a_cached_key_for_another_salt() {
    let bytes = sealed(b"m", &Context::empty());
    let other = MessageKey::fresh(&material(5), Fresh::drawn([8; 32]));
    assert_eq!(other.open(&Ciphertext::parse(&bytes).unwrap(), &Context::empty()).err(), Some(Undecryptable));
}

#[test]
fn refuses_another_context() {
    let bytes = sealed(b"m", &pairs(&[("a", "b"), ("c", "d")]));
    for wrong in [
        pairs(&[]),
        pairs(&[("a", "b")]),
        pairs(&[("a", "b"), ("c", "d"), ("", "")]),
        pairs(&[("a", "d"), ("c", "b")]),
        pairs(&[("a", "bc"), ("", "d")]),
        pairs(&[("A", "b"), ("c", "d")]),
    ] {
        assert_eq!(opened(&material(5), &bytes, &wrong), None);
    }
    assert!(opened(&material(5), &bytes, &pairs(&[("c", "d"), ("a", "b")])).is_some(), "order is ours to make");
}

#[test]
fn refuses_other_material() {
    let (bytes, empty) = (sealed(b"m", &Context::empty()), Context::empty());
    assert_eq!(opened(&material(9), &bytes, &empty), None);
    let c = context();
    for context in [
        MaterialContext { tenant: TenantTag([9; 16]), ..c },
        MaterialContext { key: KeyId([9; 16]), ..c },
        MaterialContext { version: 4, ..c },
        MaterialContext { material: MaterialId([9; 8]), ..c },
    ] {
        assert_eq!(opened(&Material::draw(context, Fresh::drawn([5; 32])), &bytes, &empty), None);
    }
}

#[test]
fn refuses_every_flipped_bit_cut_and_extension_of_a_ciphertext() {
    let (bytes, context) = (sealed(b"message", &pairs(&[("a", "b")])), pairs(&[("a", "b")]));
    assert!(opened(&material(5), &bytes, &context).is_some());
    for bit in 0..bytes.len() * 8 {
        let mut changed = bytes.clone();
        changed[bit / 8] ^= 1 << (bit % 8);
        assert_eq!(opened(&material(5), &changed, &context), None, "bit {bit}");
    }
    assert!((0..bytes.len()).all(|n| opened(&material(5), &bytes[..n], &context).is_none()));
    assert_eq!(opened(&material(5), &[bytes, vec![0]].concat(), &context), None);
}

#[test]
fn refuses_what_is_no_ciphertext_by_its_shape() {
    let bytes = sealed(b"", &Context::empty());
    assert_eq!(bytes.len(), OVERHEAD_BYTES);
    assert!(Ciphertext::parse(&bytes).is_ok());
    assert_eq!(Ciphertext::parse(&bytes[..127]).err(), Some(Malformed::Short));
    assert_eq!(Ciphertext::parse(&[]).err(), Some(Malformed::Short));
    let long = [&bytes[..112], &vec![0; PLAINTEXT_BYTES_MAX + TAG_BYTES + 1]].concat();
    assert_eq!(Ciphertext::parse(&long).err(), Some(Malformed::Oversize));
    assert!(Ciphertext::parse(&long[..long.len() - 1]).is_ok());
    for at in 0..8 {
        let mut other = bytes.clone();
        other[at] ^= 2;
        assert_eq!(Ciphertext::parse(&other).err(), Some(Malformed::Unknown), "byte {at}");
    }
}

#[test]
fn refuses_a_plaintext_over_the_bound() {
    let key = MessageKey::fresh(&material(5), Fresh::drawn([6; 32]));
    let seal = |n| key.seal(&vec![0; n], &Context::empty(), Fresh::drawn([7; 12])).map(|c| c.len());
    assert_eq!(seal(PLAINTEXT_BYTES_MAX), Ok(PLAINTEXT_BYTES_MAX + OVERHEAD_BYTES));
    assert_eq!(seal(PLAINTEXT_BYTES_MAX + 1), Err(Malformed::Oversize));
}

#[test]
fn refuses_contexts_out_of_bounds() {
    let many: Vec<(String, &str)> = (0..65).map(|i| (i.to_string(), "")).collect();
    assert_eq!(Context::new(&many).err(), Some(BadContext::TooMany));
    assert!(Context::new(&many[1..]).is_ok());
    let long = "x".repeat(CONTEXT_BYTES_MAX);
    assert_eq!(Context::new(&[("k", &long)]).err(), Some(BadContext::TooLong));
    assert!(Context::new(&[("k", &long[1..])]).is_ok());
    assert_eq!(Context::new(&[("k", "a"), ("l", ""), ("k", "b")]).err(), Some(BadContext::Duplicate));
    assert_eq!(Context::new(&[("k", "a"), ("k", "a")]).err(), Some(BadContext::Duplicate));
    assert!(Context::new::<&str, &str>(&[]).unwrap() == Context::empty());
}
