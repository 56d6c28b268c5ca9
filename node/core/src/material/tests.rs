//! Material opens in its bucket and under what it is bound to.

use super::*;

const LINEAGE: Lineage = Lineage([7; 32]);

fn chance(seed: u8) -> Chance {
    Chance::grow(Fresh::drawn([seed; 32]))
}

fn context() -> MaterialContext {
    MaterialContext {
        tenant: TenantTag([1; 16]),
        key: KeyId([2; 16]),
        version: 3,
        material: MaterialId([0xab, 0xcd, 0, 0, 0, 0, 0, 1]),
        algorithm: Algorithm::Aes256Gcm,
        usage: Usage::ENCRYPT_DECRYPT,
        exportable: false,
        origin: Origin::Generated,
    }
}

#[test]
fn the_first_twelve_bits_choose_the_bucket() {
    assert_eq!(bucket(&context().material), 0xabc);
    assert_eq!(bucket(&MaterialId([0; 8])), 0);
    assert_eq!(bucket(&MaterialId([0xff; 8])), BUCKETS - 1);
}

#[test]
fn buckets_open_as_they_were_sealed() {
    let (ring, buckets) = (Keyring::draw(&mut chance(1)), Buckets::draw(&mut chance(2)));
    let sealed = buckets.seal(&ring, &LINEAGE, &mut chance(3));
    assert!(sealed.len() <= crate::barrier::RECORD_PLAINTEXT_BYTES_MAX);
    let opened = Buckets::open(&sealed, &ring, &LINEAGE).unwrap();
    assert_eq!(opened.0.expose(), buckets.0.expose());
    let distinct: std::collections::BTreeSet<_> = buckets.0.expose().as_chunks::<32>().0.iter().collect();
    assert_eq!(distinct.len(), BUCKETS);
}

#[test]
fn refuses_changed_swapped_and_foreign_buckets() {
    let (ring, other) = (Keyring::draw(&mut chance(1)), Keyring::draw(&mut chance(9)));
    let sealed = Buckets::draw(&mut chance(2)).seal(&ring, &LINEAGE, &mut chance(3));
    assert!(Buckets::open(&sealed, &other, &LINEAGE).is_none());
    assert!(Buckets::open(&sealed, &ring, &Lineage([8; 32])).is_none());
    assert!(Buckets::open(&sealed[..sealed.len() - 1], &ring, &LINEAGE).is_none());
    assert!(Buckets::open(&[&sealed[..], &[0]].concat(), &ring, &LINEAGE).is_none());
    let mut swapped = sealed.clone();
    let (first, second) = swapped[6..].split_at_mut(WRAPPED_BYTES);
    first.swap_with_slice(&mut second[..WRAPPED_BYTES]);
    assert!(Buckets::open(&swapped, &ring, &LINEAGE).is_none());
    for at in (0..6).chain((6..sealed.len()).step_by(4_099)) {
        let mut changed = sealed.clone();
        changed[at] ^= 1;
        assert!(Buckets::open(&changed, &ring, &LINEAGE).is_none(), "byte {at}");
    }
}

#[test]
fn material_opens_as_it_was_sealed() {
    let buckets = Buckets::draw(&mut chance(2));
    let material = Material::draw(context(), Fresh::drawn([5; 32]));
    let sealed = buckets.seal_material(&material, Fresh::drawn([6; 32]));
    let opened = buckets.open_material(&context(), &sealed).unwrap();
    assert_eq!((opened.key().expose(), opened.context()), (&[5; 32], &context()));
}

#[test]
fn refuses_material_under_anything_else_than_it_is_bound_to() {
    let buckets = Buckets::draw(&mut chance(2));
    let sealed = buckets.seal_material(&Material::draw(context(), Fresh::drawn([5; 32])), Fresh::drawn([6; 32]));
    let c = context();
    let wrong = [
        MaterialContext { tenant: TenantTag([9; 16]), ..c },
        MaterialContext { key: KeyId([9; 16]), ..c },
        MaterialContext { version: 4, ..c },
        MaterialContext { material: MaterialId([0xab, 0xcd, 0, 0, 0, 0, 0, 2]), ..c },
        MaterialContext { material: MaterialId([0xff; 8]), ..c },
        MaterialContext { usage: Usage(4), ..c },
        MaterialContext { exportable: true, ..c },
    ];
    for context in wrong {
        assert!(buckets.open_material(&context, &sealed).is_none(), "{context:?}");
    }
    assert!(Buckets::draw(&mut chance(3)).open_material(&c, &sealed).is_none());
    for bit in 0..sealed.len() * 8 {
        let mut changed = sealed.clone();
        changed[bit / 8] ^= 1 << (bit % 8);
        assert!(buckets.open_material(&c, &changed).is_none(), "bit {bit}");
    }
    assert!((0..sealed.len()).all(|n| buckets.open_material(&c, &sealed[..n]).is_none()));
    assert!(buckets.open_material(&c, &sealed).is_some());
}

#[test]
fn refuses_a_usage_that_is_unknown() {
    assert_eq!(Usage::from_bits(0xC), Ok(Usage::ENCRYPT_DECRYPT));
    for bits in [0, 4, 8, 0xD, u32::MAX] {
        assert_eq!(Usage::from_bits(bits), Err(Malformed::Unknown));
    }
}
