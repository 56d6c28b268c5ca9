//! The two implementations side by side, and the strictness that both share.

use super::signing::canonical_point;
use super::*;
use crate::header::{Header, HeaderLink};
use crate::name::{Lineage, NodeId, Signature, VerifyingKey};
use crate::txn::{Batch, TxnKey};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;

const BOTH: [&Algorithms; 2] = [&AWS_LC, &RUST_CRYPTO];

/// The same question to both; one answer, or a failure.
fn agreed<T: PartialEq + std::fmt::Debug>(ask: impl Fn(&Algorithms) -> T) -> T {
    let [first, second] = BOTH.map(ask);
    assert_eq!(first, second, "{} and {} differ", AWS_LC.name, RUST_CRYPTO.name);
    first
}

fn sealed(key: &[u8; 32], nonce: &[u8; 12], aad: &[u8], plaintext: &[u8]) -> Vec<u8> {
    agreed(|a| {
        let mut out = plaintext.to_vec();
        let tag = (a.aead_seal)(key, nonce, aad, &mut out);
        [out, tag.to_vec()].concat()
    })
}

fn opened(key: &[u8; 32], nonce: &[u8; 12], aad: &[u8], sealed: &[u8]) -> Option<Vec<u8>> {
    agreed(|a| (a.aead_open)(key, nonce, aad, sealed).map(|p| p.expose().to_vec()))
}

proptest! {
    #[test]
    fn both_seal_and_open_alike(key: [u8; 32], nonce: [u8; 12], aad: Vec<u8>, plaintext in vec(any::<u8>(), 0..300)) {
        let bytes = sealed(&key, &nonce, &aad, &plaintext);
        prop_assert_eq!(opened(&key, &nonce, &aad, &bytes), Some(plaintext.clone()));
        let prepared = AeadKey::new(&Secret32::copy_from(&key).unwrap()).open(&nonce, &aad, &bytes).unwrap();
        prop_assert_eq!(prepared.expose(), &plaintext[..]);
    }

    #[test]
    fn refuses_changed_ciphertexts(
        key: [u8; 32],
        nonce: [u8; 12],
        aad: Vec<u8>,
        plaintext: Vec<u8>,
        at: Index,
        bit in 0u8..8,
    ) {
        let mut bytes = sealed(&key, &nonce, &aad, &plaintext);
        prop_assert_eq!(opened(&key, &nonce, &[&aad[..], &[0]].concat(), &bytes), None);
        prop_assert_eq!(opened(&key, &nonce, &aad, &bytes[1..]), None);
        let at = at.index(bytes.len());
        bytes[at] ^= 1 << bit;
        prop_assert_eq!(opened(&key, &nonce, &aad, &bytes), None);
    }

    #[test]
    fn both_hash_alike(key: [u8; 32], parts: Vec<Vec<u8>>, width in 0usize..200) {
        let parts: Vec<&[u8]> = parts.iter().map(Vec::as_slice).collect();
        let whole = parts.concat();
        prop_assert_eq!(agreed(|a| (a.sha256)(&parts)), agreed(|a| (a.sha256)(&[&whole])));
        prop_assert_eq!(agreed(|a| (a.hmac_sha256)(&key, &parts)), agreed(|a| (a.hmac_sha256)(&key, &[&whole])));
        let expand = |info: &[&[u8]]| agreed(|a| {
            let mut out = vec![0; width];
            (a.hkdf_expand)(&key, info, &mut out);
            out
        });
        prop_assert_eq!(expand(&parts), expand(&[&whole]));
    }

    #[test]
    fn both_sign_alike(seed: [u8; 32], message: Vec<u8>, at in 0usize..64, bit in 0u8..8) {
        let public = agreed(|a| (a.ed25519_public)(&seed));
        let mut signature = agreed(|a| (a.ed25519_sign)(&seed, &message));
        prop_assert!(agreed(|a| (a.ed25519_verify)(&public, &message, &signature)));
        prop_assert!(!agreed(|a| (a.ed25519_verify)(&public, &[&message[..], &[0]].concat(), &signature)));
        signature[at] ^= 1 << bit;
        prop_assert!(!agreed(|a| (a.ed25519_verify)(&public, &message, &signature)));
    }
}

/// RFC 8032 §7.1, test 2.
#[test]
fn signs_as_the_standard_does() {
    let bytes = |s: &str| hex::decode(s).unwrap();
    let seed = bytes("4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb");
    let key = SigningKey::from_seed(Secret32::copy_from(&seed).unwrap());
    assert_eq!(key.public().to_string(), "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c");
    let signature = sign(&key, &[0x72]);
    let expected = "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da\
                    085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00";
    assert_eq!(signature.to_string(), expected);
    assert!(verify(&key.public(), &[0x72], &signature));
}

/// Under a key of small order, one signature fits every message: R = the identity, s = 0.
#[test]
fn refuses_keys_and_signatures_of_small_order() {
    let mut identity = [0; 32];
    identity[0] = 1;
    let mut forged = [0; 64];
    forged[..32].copy_from_slice(&identity);
    assert!(!agreed(|a| (a.ed25519_verify)(&identity, b"anything", &forged)));
    let honest = (AWS_LC.ed25519_public)(&[7; 32]);
    assert!(canonical_point(&honest));
    assert!(!agreed(|a| (a.ed25519_verify)(&honest, b"anything", &forged)));
}

/// The list of points is the one that the second library computes by multiplying: each is small, none of them is
/// canonical here.
#[test]
fn refuses_exactly_the_points_of_small_order() {
    let order_8 = "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a";
    let order_8_too = "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05";
    let order_4 = "0000000000000000000000000000000000000000000000000000000000000000";
    let order_2 = "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f";
    for text in [order_8, order_8_too, order_4, order_2] {
        let y: [u8; 32] = hex::decode(text).unwrap().try_into().unwrap();
        assert!(ed25519_dalek::VerifyingKey::from_bytes(&y).unwrap().is_weak(), "{text}");
        assert!(!canonical_point(&y), "{text}");
        let mut negative = y;
        negative[31] ^= 0x80;
        assert!(!canonical_point(&negative), "{text}");
    }
}

#[test]
fn refuses_a_y_that_is_not_reduced() {
    for low in 0xed..=0xff {
        let mut y = [0xff; 32];
        (y[0], y[31]) = (low, 0x7f);
        assert!(!canonical_point(&y));
    }
    let mut largest = [0xff; 32];
    (largest[0], largest[31]) = (0xeb, 0x7f); // p - 2
    assert!(canonical_point(&largest));
}

/// s + L signs the same as s (RFC 8032 §5.1.7 wants it refused).
#[test]
fn refuses_a_signature_whose_s_is_not_reduced() {
    let order = hex::decode("edd3f55c1a631258d69cf7a2def9de1400000000000000000000000000000010").unwrap();
    let seed = [9; 32];
    let public = (AWS_LC.ed25519_public)(&seed);
    let mut signature = (AWS_LC.ed25519_sign)(&seed, b"m");
    let mut carry = 0;
    for (s, l) in signature[32..].iter_mut().zip(order) {
        let sum = u16::from(*s) + u16::from(l) + carry;
        *s = sum.to_le_bytes()[0];
        carry = sum >> 8;
    }
    assert!(!agreed(|a| (a.ed25519_verify)(&public, b"m", &signature)));
}

fn batch() -> Batch {
    Batch { lineage: Lineage([1; 32]), generation: 1, author: NodeId(1), signer: 1, txns: vec![] }
}

#[test]
fn refuses_a_batch_under_another_key_number_or_content() {
    let key = SigningKey::from_seed(Secret32::copy_from(&[3; 32]).unwrap());
    let named = TxnKey { number: 1, public: key.public() };
    let signed = sign_batch(&key, batch());
    assert!(verify_batch(&signed, &named));
    assert!(!verify_batch(&signed, &TxnKey { number: 2, ..named }));
    assert!(!verify_batch(&signed, &TxnKey { public: VerifyingKey([5; 32]), ..named }));
    let mut changed = signed.clone();
    changed.batch.generation = 2;
    assert!(!verify_batch(&changed, &named));
    let other = SigningKey::from_seed(Secret32::copy_from(&[4; 32]).unwrap());
    assert!(!verify_batch(&sign_batch(&other, batch()), &named));
}

#[test]
fn refuses_a_header_signed_as_something_else() {
    let key = SigningKey::from_seed(Secret32::copy_from(&[3; 32]).unwrap());
    let zero = Digest([0; 32]);
    let header = Header {
        lineage: Lineage([1; 32]),
        generation: 1,
        number: 0,
        previous: zero,
        root: 1,
        seal_epoch: 0,
        txn_key: TxnKey { number: 1, public: key.public() },
        root_commitment: zero,
        slots: zero,
        roster: zero,
        custodians: zero,
        keyring: zero,
        mandate: None,
    };
    let link = sign_header(&key, header.clone());
    assert!(verify_header(&link, &key.public()));
    let batch_signature = sign_batch(&key, batch()).signature;
    for signature in [batch_signature, Signature([0; 64])] {
        let forged = HeaderLink { header: header.clone(), signature, heir: None };
        assert!(!verify_header(&forged, &key.public()));
    }
}
