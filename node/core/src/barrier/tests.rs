//! Sealed records open in their place, and nowhere else.

use super::*;
use crate::chance::Chance;
use crate::record::{Table, TenantTag};
use proptest::prelude::*;

const LINEAGE: Lineage = Lineage([7; 32]);
const PLACE: RecordKey = RecordKey { table: Table::Key, tenant: TenantTag([1; 16]), tag: [2; 32] };

fn keyring(seed: u8) -> Keyring {
    Keyring::draw(&mut Chance::grow(Fresh::drawn([seed; 32])))
}

fn sealed(plaintext: &[u8]) -> Vec<u8> {
    keyring(1).seal_record(&LINEAGE, &PLACE, 9, plaintext, Fresh::drawn([3; 32]))
}

proptest! {
    #[test]
    fn a_record_opens_as_it_was_sealed(plaintext in prop::collection::vec(any::<u8>(), 0..400), salt: [u8; 32]) {
        let value = keyring(1).seal_record(&LINEAGE, &PLACE, 9, &plaintext, Fresh::drawn(salt));
        let opened = keyring(1).open_record(&LINEAGE, &PLACE, &value);
        prop_assert_eq!(opened.map(|p| p.expose().to_vec()), Ok(plaintext.clone()));
        prop_assert_eq!((value.len() - CLEAR_BYTES - SU_BYTES) % PAD_BYTES, 0);
    }
}

/// A disk shows sizes in steps of 64 bytes.
#[test]
fn lengths_within_a_step_look_alike() {
    let widths: Vec<usize> = [0, 1, 60, 61, 124, 125].map(|n| sealed(&vec![0; n]).len()).to_vec();
    assert_eq!(widths, [126, 126, 126, 190, 190, 254]);
    assert!(sealed(&vec![0; RECORD_PLAINTEXT_BYTES_MAX]).len() <= RECORD_BYTES_MAX);
}

#[test]
fn refuses_another_place_cluster_or_keyring() {
    let value = sealed(b"value");
    let places = [
        RecordKey { table: Table::Grant, ..PLACE },
        RecordKey { tenant: TenantTag([9; 16]), ..PLACE },
        RecordKey { tag: [9; 32], ..PLACE },
    ];
    for place in places {
        assert_eq!(keyring(1).open_record(&LINEAGE, &place, &value).err(), Some(RecordBroken::Tampered));
    }
    let foreign = keyring(1).open_record(&Lineage([8; 32]), &PLACE, &value);
    assert_eq!(foreign.err(), Some(RecordBroken::Tampered));
    assert_eq!(keyring(2).open_record(&LINEAGE, &PLACE, &value).err(), Some(RecordBroken::Tampered));
    assert!(keyring(1).open_record(&LINEAGE, &PLACE, &value).is_ok());
}

#[test]
fn refuses_every_flipped_bit_cut_and_extension_of_a_record() {
    let (ring, value) = (keyring(1), sealed(b"value"));
    for bit in 0..value.len() * 8 {
        let mut changed = value.clone();
        changed[bit / 8] ^= 1 << (bit % 8);
        assert!(ring.open_record(&LINEAGE, &PLACE, &changed).is_err(), "bit {bit}");
    }
    assert!((0..value.len()).all(|n| ring.open_record(&LINEAGE, &PLACE, &value[..n]).is_err()));
    assert!(ring.open_record(&LINEAGE, &PLACE, &[value, vec![0]].concat()).is_err());
}

#[test]
fn refuses_an_unknown_term_by_its_number() {
    let mut value = sealed(b"value");
    value[5] = 2;
    assert_eq!(keyring(1).open_record(&LINEAGE, &PLACE, &value).err(), Some(RecordBroken::Term(2)));
}

#[test]
fn refuses_padding_that_is_not_zero_or_not_the_least() {
    let padded = pad(b"value").expose_owned();
    assert!(unpad(&padded).is_ok());
    assert_eq!(unpad(&[&padded[..], &[0; 64]].concat()).err(), Some(Malformed::Unknown));
    assert_eq!(unpad(&[]).err(), Some(Malformed::Short));
    let mut dirty = padded.clone();
    dirty[63] = 1;
    assert_eq!(unpad(&dirty).err(), Some(Malformed::Unknown));
    assert_eq!(padded.len(), padded.capacity());
}
