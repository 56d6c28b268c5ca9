//! The keyring opens under its root alone, and gives every record a place of its own.

use super::*;
use crate::crypto::{verify_batch, verify_header};
use crate::name::NodeId;
use std::collections::BTreeSet;

const LINEAGE: Lineage = Lineage([7; 32]);

fn root(number: u32, byte: u8) -> Root {
    Root::new(number, Secret32::copy_from(&[byte; 32]).unwrap())
}

fn keyring(seed: u8) -> Keyring {
    let mut keyring = Keyring::draw(&mut Chance::grow(Fresh::drawn([seed; 32])));
    keyring.remember_slot(SlotPublic { number: 2, public: KemPublic([2; KEM_PUBLIC_BYTES]) });
    keyring.remember_slot(SlotPublic { number: 1, public: KemPublic([9; KEM_PUBLIC_BYTES]) });
    keyring.remember_slot(SlotPublic { number: 1, public: KemPublic([1; KEM_PUBLIC_BYTES]) });
    keyring
}

fn sealed() -> Vec<u8> {
    keyring(1).seal(&root(1, 5), &LINEAGE, Fresh::drawn([3; 32]))
}

#[test]
fn a_keyring_opens_as_it_was_sealed() {
    let (before, after) = (keyring(1), Keyring::open(&root(1, 5), &LINEAGE, &sealed()).unwrap());
    assert_eq!(before.plaintext().expose(), after.plaintext().expose());
    assert_eq!(after.slots().iter().map(|s| (s.number, s.public.0[0])).collect::<Vec<_>>(), [(1, 1), (2, 2)]);
    assert_eq!(before.txn_key(), after.txn_key());
}

/// Else copies of the keys would stay behind in the buffers that were outgrown.
#[test]
fn the_plaintext_never_outgrows_its_buffer() {
    let ring = keyring(1);
    let plaintext = ring.plaintext().expose_owned();
    assert_eq!(plaintext.len(), plaintext.capacity());
}

#[test]
fn refuses_another_root_or_lineage() {
    assert!(Keyring::open(&root(1, 6), &LINEAGE, &sealed()).is_none());
    assert!(Keyring::open(&root(2, 5), &LINEAGE, &sealed()).is_none());
    assert!(Keyring::open(&root(1, 5), &Lineage([8; 32]), &sealed()).is_none());
}

#[test]
fn refuses_every_flipped_bit_cut_and_extension_of_a_keyring() {
    let (root, value) = (root(1, 5), sealed());
    let opens = |bytes: &[u8]| Keyring::open(&root, &LINEAGE, bytes).is_some();
    for bit in 0..value.len() * 8 {
        let mut changed = value.clone();
        changed[bit / 8] ^= 1 << (bit % 8);
        assert!(!opens(&changed), "bit {bit}");
    }
    assert!((0..value.len()).step_by(7).all(|n| !opens(&value[..n])));
    assert!(!opens(&[value, vec![0]].concat()));
}

#[test]
fn refuses_a_plaintext_out_of_order_or_without_keys() {
    let mut ring = keyring(1);
    assert!(Keyring::read(ring.plaintext().expose()).is_ok());
    ring.slots.reverse();
    assert!(Keyring::read(ring.plaintext().expose()).is_err());
    ring.slots.clear();
    ring.epochs.clear();
    assert!(Keyring::read(ring.plaintext().expose()).is_err());
}

#[test]
fn records_have_places_of_their_own() {
    let ring = keyring(1);
    let key = |s: &str| ring.key_record(&s.parse().unwrap());
    let alice: Identity = "spiffe://example.org/claviger/service/alice".parse().unwrap();
    let (id, material) = (KeyId([1; 16]), MaterialId([1; 8]));
    let places = [
        key("tenants/a/keys/b"),
        key("tenants/b/keys/a"),
        key("tenants/ab/keys/c"),
        key("tenants/a/keys/bc"),
        ring.grant_record(&alice),
        ring.request_record(&alice, &RequestId([1; 16])),
        ring.request_record(&alice, &RequestId([2; 16])),
        ring.material_record(&id, 1, &material),
        ring.material_record(&id, 2, &material),
        ring.page_record(&[1; 16]),
        ring.buckets_record(),
    ];
    let tags: BTreeSet<[u8; 32]> = places.iter().map(|p| p.tag).collect();
    assert_eq!(tags.len(), places.len());
    assert_eq!(places[0].tenant, ring.tenant_tag(&"a".parse().unwrap()));
    assert_eq!(places[0].tenant, places[3].tenant);
    assert_ne!(places[0].tenant, places[1].tenant);
    assert_ne!(keyring(2).key_record(&"tenants/a/keys/b".parse().unwrap()).tag, places[0].tag, "another cluster");
}

#[test]
fn what_it_signs_verifies_under_its_transaction_key() {
    let ring = keyring(1);
    let batch = Batch { lineage: LINEAGE, generation: 1, author: NodeId(1), signer: 0, txns: vec![] };
    let signed = ring.sign_batch(batch);
    assert_eq!(signed.batch.signer, 1);
    assert!(verify_batch(&signed, &ring.txn_key()));
    assert!(!verify_batch(&signed, &keyring(2).txn_key()));
    let zero = crate::name::Digest([0; 32]);
    let header = Header {
        lineage: LINEAGE,
        generation: 1,
        number: 0,
        previous: zero,
        root: 1,
        seal_epoch: 0,
        txn_key: ring.txn_key(),
        root_commitment: zero,
        slots: zero,
        roster: zero,
        custodians: zero,
        keyring: zero,
        mandate: None,
    };
    assert!(verify_header(&ring.sign_header(header), &ring.txn_key().public));
}
