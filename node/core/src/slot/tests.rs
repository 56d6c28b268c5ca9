//! Slots open for their locker, and for nothing else.

use super::*;
use crate::chance::Fresh;

const LINEAGE: Lineage = Lineage([7; 32]);

fn chance(seed: u8) -> Chance {
    Chance::grow(Fresh::drawn([seed; 32]))
}

fn root(number: u32) -> Root {
    Root::new(number, Secret32::copy_from(&[0x55; 32]).unwrap())
}

fn sharing(epoch: u32) -> ShareContext {
    ShareContext::new(LINEAGE, "eu-west".parse().unwrap(), epoch, 3, 5).unwrap()
}

fn locker(seed: u8, epoch: u32, slot: u32) -> Locker {
    Locker::custodians(&Secret32::copy_from(&[seed; 32]).unwrap(), &sharing(epoch), slot)
}

fn slot() -> (SlotRecord, Digest) {
    let kind = SlotKind::Custodians { epoch: 1 };
    let slot = SlotRecord::make(1, kind, &locker(1, 1, 1), &root(1), &LINEAGE, &mut chance(2));
    (slot, root(1).commitment(&LINEAGE))
}

#[test]
fn a_slot_gives_back_what_was_put_in() {
    let (slot, commitment) = slot();
    let read = SlotRecord::from_bytes(&slot.to_bytes()).unwrap();
    assert_eq!(read, slot);
    let opened = read.unlock(&locker(1, 1, 1), &LINEAGE, &commitment).unwrap();
    assert_eq!((opened.number(), opened.key().expose()), (1, root(1).key().expose()));

    let file = || Locker::static_key(Secret32::copy_from(&[9; 32]).unwrap());
    let fixed = SlotRecord::make(2, SlotKind::Static, &file(), &root(1), &LINEAGE, &mut chance(3));
    assert!(SlotRecord::from_bytes(&fixed.to_bytes()).unwrap().unlock(&file(), &LINEAGE, &commitment).is_some());
}

#[test]
fn refuses_another_locker_lineage_or_root() {
    let (slot, commitment) = slot();
    for wrong in [locker(2, 1, 1), locker(1, 2, 1), locker(1, 1, 2)] {
        assert!(slot.unlock(&wrong, &LINEAGE, &commitment).is_none());
    }
    assert!(slot.unlock(&locker(1, 1, 1), &Lineage([8; 32]), &commitment).is_none());
    assert!(slot.unlock(&locker(1, 1, 1), &LINEAGE, &root(2).commitment(&LINEAGE)).is_none());
    assert!(slot.unlock(&locker(1, 1, 1), &LINEAGE, &commitment).is_some());
}

#[test]
fn a_new_root_reaches_a_slot_with_nobody_gathered() {
    let (slot, old) = slot();
    let next = slot.reseal(&slot.public.clone(), &root(2), &LINEAGE, &mut chance(4)).unwrap();
    let commitment = root(2).commitment(&LINEAGE);
    assert_eq!(next.unlock(&locker(1, 1, 1), &LINEAGE, &commitment).unwrap().number(), 2);
    assert!(next.unlock(&locker(1, 1, 1), &LINEAGE, &old).is_none());
}

#[test]
fn refuses_to_reseal_to_a_public_half_that_was_swapped() {
    let (slot, _) = slot();
    let other = KemSecret::from_seed(Secret32::copy_from(&[6; 32]).unwrap()).public();
    assert!(slot.reseal(&other, &root(2), &LINEAGE, &mut chance(4)).is_none());
}

#[test]
fn refuses_every_flipped_bit_cut_and_extension_of_a_slot() {
    let (slot, commitment) = slot();
    let (bytes, locker) = (slot.to_bytes(), locker(1, 1, 1));
    let opens =
        |bytes: &[u8]| SlotRecord::from_bytes(bytes).is_ok_and(|s| s.unlock(&locker, &LINEAGE, &commitment).is_some());
    assert!(opens(&bytes));
    for bit in 0..bytes.len() * 8 {
        let mut changed = bytes.clone();
        changed[bit / 8] ^= 1 << (bit % 8);
        assert!(!opens(&changed), "bit {bit}");
    }
    assert!((0..bytes.len()).all(|n| !opens(&bytes[..n])));
    assert!(!opens(&[bytes, vec![0]].concat()));
}

#[test]
fn the_slots_of_a_header_are_told_apart() {
    let (a, _) = slot();
    let b = SlotRecord { number: 2, ..a.clone() };
    assert_ne!(slots_digest(std::slice::from_ref(&a)), slots_digest(&[a.clone(), b.clone()]));
    assert_ne!(slots_digest(&[a.clone(), b.clone()]), slots_digest(&[b, a]));
}
