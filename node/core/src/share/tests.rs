//! The sharing, tried hard: every way to come back, every way not to.

use super::*;
use crate::chance::Fresh;
use crate::roster::CustodianKeys;
use proptest::prelude::*;

fn context(k: u8, n: u8) -> ShareContext {
    ShareContext::new(Lineage([7; 32]), "eu-west".parse().unwrap(), 1, k, n).unwrap()
}

fn chance(seed: u8) -> Chance {
    Chance::grow(Fresh::drawn([seed; 32]))
}

fn secret(seed: u8) -> Secret32 {
    Secret32::of(chance(seed).fresh())
}

fn holders(shares: &[Share]) -> Vec<Holder> {
    let keys = CustodianKeys {
        identity: "spiffe://example.org/claviger/custodian/alice".parse().unwrap(),
        recipient: "age1example".into(),
        signing: VerifyingKey([1; 32]),
    };
    let holder =
        |s: &Share| Holder { keys: keys.clone(), index: s.index(), digest: s.digest(), proof_key: s.proof_key() };
    shares.iter().map(holder).collect()
}

/// The shares of a dealing whose indexes are the bits of `mask`.
fn chosen(shares: &[Share], mask: u32) -> Vec<Share> {
    let wanted = shares.iter().filter(|s| mask >> (s.index - 1) & 1 == 1);
    wanted.map(|s| Share::from_payload(s.to_payload().expose()).unwrap()).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(16))]
    #[test]
    fn every_subset_of_five_opens_or_is_refused(seed: [u8; 32], bytes: [u8; 32], k in 2u8..=5) {
        let (ctx, u) = (context(k, 5), Secret32::copy_from(&bytes).unwrap());
        let shares = deal(&u, &ctx, &mut Chance::grow(Fresh::drawn(seed)));
        let holders = holders(&shares);
        for mask in 0u32..32 {
            match combine(&chosen(&shares, mask), &ctx, &holders) {
                Ok(back) => prop_assert!(mask.count_ones() >= u32::from(k) && *back.expose() == bytes),
                Err(e) => {
                    let have = mask.count_ones() as usize;
                    prop_assert_eq!(e, ShareError::TooFew { have, need: usize::from(k) });
                }
            }
        }
    }
}

#[test]
fn the_order_of_shares_does_not_matter() {
    let (ctx, u) = (context(3, 5), secret(1));
    let shares = deal(&u, &ctx, &mut chance(2));
    let holders = holders(&shares);
    let mut three = chosen(&shares, 0b10110);
    three.reverse();
    assert_eq!(combine(&three, &ctx, &holders).unwrap().expose(), u.expose());
}

/// Multiplication in GF(2^8) modulo x^8 + x^4 + x^3 + x + 1, bit by bit: not the library's.
fn times(mut a: u8, mut b: u8) -> u8 {
    let mut product = 0;
    while b != 0 {
        if b & 1 == 1 {
            product ^= a;
        }
        a = a << 1 ^ if a & 0x80 == 0 { 0 } else { 0x1b };
        b >>= 1;
    }
    product
}

fn inverse(a: u8) -> u8 {
    (1..=255).find(|b| times(a, *b) == 1).unwrap()
}

/// The coefficient of x^(m-1) of the polynomial through m points, for one byte.
fn leading(shares: &[Share], byte: usize) -> u8 {
    let weight = |i: usize| {
        let others = shares.iter().enumerate().filter(|(j, _)| *j != i);
        inverse(others.fold(1, |p, (_, s)| times(p, s.index ^ shares[i].index)))
    };
    (0..shares.len()).fold(0, |sum, i| sum ^ times(shares[i].y.expose()[byte], weight(i)))
}

/// Pearson's chi-squared against the uniform distribution over bytes: 255 degrees of freedom, so 255 +- 23.
fn chi_squared(counts: &[u32; 256]) -> f64 {
    let expected = f64::from(counts.iter().sum::<u32>()) / 256.0;
    counts.iter().map(|c| (f64::from(*c) - expected).powi(2) / expected).sum()
}

/// The highest coefficient is uniform, zero included: then k-1 shares fit every secret equally well. And there is none
/// above it: k shares suffice.
#[test]
fn polynomials_have_degree_k_minus_1_and_a_uniform_leading_coefficient() {
    let (ctx, u, mut chance) = (context(3, 4), secret(3), chance(4));
    let mut counts = [0; 256];
    for _ in 0..1_000 {
        let shares = deal(&u, &ctx, &mut chance);
        for byte in 0..32 {
            assert_eq!(leading(&shares, byte), 0, "a cubic term");
            counts[usize::from(leading(&shares[1..], byte))] += 1;
        }
    }
    assert!(counts.iter().all(|c| *c > 0), "a coefficient that never comes up");
    let chi = chi_squared(&counts);
    assert!((150.0..380.0).contains(&chi), "chi-squared {chi}");
}

/// With the secret fixed, each single share's bytes are uniform.
#[test]
fn a_share_says_nothing_of_the_secret() {
    for u in [[0; 32], [0xff; 32]] {
        let (u, ctx, mut chance) = (Secret32::copy_from(&u).unwrap(), context(2, 3), chance(5));
        let mut counts = [0; 256];
        for _ in 0..1_000 {
            let shares = deal(&u, &ctx, &mut chance);
            shares[2].y.expose().iter().for_each(|b| counts[usize::from(*b)] += 1);
        }
        let chi = chi_squared(&counts);
        assert!((150.0..380.0).contains(&chi), "chi-squared {chi}");
    }
}

/// What the library would answer if it were asked: Ok, and wrong. That is why it is not asked.
#[test]
fn k_minus_1_shares_interpolate_to_something_else() {
    let (ctx, u) = (context(5, 5), secret(6));
    let shares = deal(&u, &ctx, &mut chance(7));
    for fewer in 2..5 {
        assert_ne!(interpolate(&shares[..fewer]).expose(), u.expose());
    }
    assert_eq!(interpolate(&shares).expose(), u.expose());
}

/// The library at the field's edge, and ours at our own bound.
#[test]
fn the_edges_hold() {
    let mut dealt = Gf256::split_bytes(3, 255, b"edge", chance(8)).unwrap();
    assert_eq!(dealt.iter().map(|s| s[0]).collect::<Vec<_>>(), (1..=255).collect::<Vec<u8>>());
    assert_eq!(Gf256::combine_bytes(dealt.split_off(252)).unwrap(), b"edge");
    assert!(Gf256::split_bytes(3, 256, b"edge", chance(8)).is_err());
    let all = Gf256::split_bytes(255, 255, b"edge", chance(8)).unwrap();
    assert_eq!(Gf256::combine_bytes(&all).unwrap(), b"edge");
    assert_ne!(Gf256::combine_bytes(&all[1..]).unwrap(), b"edge");

    let (ctx, u) = (context(64, 64), secret(9));
    let shares = deal(&u, &ctx, &mut chance(10));
    let holders = holders(&shares);
    assert_eq!(combine(&shares, &ctx, &holders).unwrap().expose(), u.expose());
    assert_eq!(combine(&shares[1..], &ctx, &holders).err(), Some(ShareError::TooFew { have: 63, need: 64 }));
}

#[test]
fn refuses_bounds_that_make_no_sharing() {
    let new = |k, n| ShareContext::new(Lineage([7; 32]), "eu-west".parse().unwrap(), 1, k, n);
    for (k, n) in [(0, 0), (0, 5), (1, 1), (1, 5), (4, 3), (2, 65), (2, 255), (255, 255)] {
        assert_eq!(new(k, n).err(), Some(ShareError::Bounds), "{k} of {n}");
    }
    for (k, n) in [(2, 2), (2, 64), (64, 64)] {
        assert!(new(k, n).is_ok(), "{k} of {n}");
    }
    for index in [0, 6, 255] {
        assert_eq!(Share::new(context(3, 5), index, secret(1)).err(), Some(ShareError::Unheld(index)));
    }
}

#[test]
fn refuses_shares_of_every_wrong_kind_by_name() {
    let (ctx, u) = (context(3, 5), secret(11));
    let shares = deal(&u, &ctx, &mut chance(12));
    let holders = holders(&shares);
    let with = |extra: Share| {
        let mut three = chosen(&shares, 0b00011);
        three.push(extra);
        combine(&three, &ctx, &holders).map(|_| ())
    };
    let forged = Share::new(ctx.clone(), 4, secret(13)).unwrap();
    assert_eq!(with(forged), Err(ShareError::Forged(4)));
    assert_eq!(with(chosen(&shares, 0b00010).remove(0)), Err(ShareError::Duplicate(2)));
    let moved = Share::new(ctx.clone(), 5, Secret32::copy_from(shares[3].y.expose()).unwrap()).unwrap();
    assert_eq!(with(moved), Err(ShareError::Forged(5)));
    let foreign = [
        ShareContext::new(Lineage([8; 32]), "eu-west".parse().unwrap(), 1, 3, 5),
        ShareContext::new(Lineage([7; 32]), "eu-east".parse().unwrap(), 1, 3, 5),
        ShareContext::new(Lineage([7; 32]), "eu-west".parse().unwrap(), 2, 3, 5),
        ShareContext::new(Lineage([7; 32]), "eu-west".parse().unwrap(), 1, 2, 5),
        ShareContext::new(Lineage([7; 32]), "eu-west".parse().unwrap(), 1, 3, 6),
    ];
    for other in foreign {
        let y = Secret32::copy_from(shares[2].y.expose()).unwrap();
        assert_eq!(with(Share::new(other.unwrap(), 3, y).unwrap()), Err(ShareError::Foreign(3)));
    }
    assert_eq!(combine(&chosen(&shares, 0b111), &ctx, &holders[..2]).err(), Some(ShareError::Unheld(3)));
    assert_eq!(with(chosen(&shares, 0b00100).remove(0)), Ok(()), "and the true one is taken");
}

#[test]
fn refuses_a_proof_of_another_share_or_challenge() {
    let shares = deal(&secret(1), &context(2, 3), &mut chance(2));
    let proof = shares[0].prove(b"challenge");
    assert!(verify_proof(&shares[0].proof_key(), b"challenge", &proof));
    assert!(!verify_proof(&shares[0].proof_key(), b"challenge!", &proof));
    assert!(!verify_proof(&shares[1].proof_key(), b"challenge", &proof));
    let epoch_2 = ShareContext { epoch: 2, ..context(2, 3) };
    let same_y = Share::new(epoch_2, 1, Secret32::copy_from(shares[0].y.expose()).unwrap()).unwrap();
    assert_ne!(same_y.proof_key(), shares[0].proof_key());
}

#[test]
fn refuses_every_flipped_bit_cut_and_extension_of_a_payload() {
    let ctx = context(3, 5);
    let shares = deal(&secret(14), &ctx, &mut chance(15));
    let holders = holders(&shares);
    let payload = shares[1].to_payload().expose().to_vec();
    let accepted = |bytes: &[u8]| Share::from_payload(bytes).is_ok_and(|s| s.check(&ctx, &holders).is_ok());
    assert!(accepted(&payload));
    for bit in 0..payload.len() * 8 {
        let mut changed = payload.clone();
        changed[bit / 8] ^= 1 << (bit % 8);
        assert!(!accepted(&changed), "bit {bit}");
    }
    assert!((0..payload.len()).all(|n| !accepted(&payload[..n])));
    assert!(!accepted(&[payload, vec![0]].concat()));
}

fn file() -> (ShareFile, Share) {
    let context = context(3, 5);
    let share = deal(&secret(1), &context, &mut chance(2)).remove(1);
    let file = ShareFile {
        cluster: "demo".parse().unwrap(),
        context,
        slot: 1,
        index: 2,
        holder: "spiffe://example.org/claviger/custodian/bob".parse().unwrap(),
        checksum: share.digest(),
        armor: "-----BEGIN AGE ENCRYPTED FILE-----\nYWdl\n-----END AGE ENCRYPTED FILE-----\n".into(),
    };
    (file, share)
}

#[test]
fn a_share_file_is_read_as_written() {
    let (file, share) = file();
    let text = file.to_string();
    let expected = format!(
        "claviger share, format 1\ncluster: demo\nregion: eu-west\nlineage: {}\nepoch: 1\nslot: 1\nthreshold: 3\n\
         shares: 5\nindex: 2\nholder: spiffe://example.org/claviger/custodian/bob\nchecksum: {}\n\n{}",
        Lineage([7; 32]),
        share.digest(),
        file.armor
    );
    assert_eq!(text, expected);
    assert_eq!(text.parse::<ShareFile>().unwrap(), file);
    assert!(file.accept(share.to_payload().expose()).is_ok());
}

#[test]
fn refuses_a_share_file_with_any_line_changed() {
    let (file, _) = file();
    let text = file.to_string();
    let lines: Vec<&str> = text.split_inclusive('\n').collect();
    let refused = |text: String| assert!(text.parse::<ShareFile>().is_err(), "{text}");
    for (i, line) in lines.iter().enumerate() {
        refused([&lines[..i], &lines[i + 1..]].concat().concat());
        if *line != "YWdl\n" {
            refused([&lines[..=i], &lines[i..]].concat().concat()); // what age wrote is age's to judge
        }
    }
    for (from, to) in [
        ("epoch: 1", "epoch: 01"),
        ("epoch: 1", "epoch: +1"),
        ("threshold: 3", "threshold: 1"),
        ("shares: 5", "shares: 65"),
        ("index: 2", "index: 6"),
        ("index: 2", "index: 0"),
        ("region: eu-west", "region:eu-west"),
        ("format 1", "format 2"),
        ("\n", "\r\n"),
        ("YWdl", "Y Wdl"),
        ("FILE-----\nY", "FILE-----Y"),
    ] {
        assert!(text.contains(from));
        refused(text.replace(from, to));
    }
    refused(text.clone() + "\n");
    refused(text[..text.len() - 1].to_owned());
    refused(text.replace("YWdl", &"A".repeat(SHARE_FILE_BYTES_MAX)));
}

#[test]
fn refuses_a_share_that_its_file_does_not_speak_of() {
    let (file, share) = file();
    let others = deal(&secret(1), &context(3, 5), &mut chance(99));
    assert_eq!(file.accept(others[1].to_payload().expose()).err(), Some(ShareError::Forged(2)));
    assert_eq!(file.accept(others[0].to_payload().expose()).err(), Some(ShareError::Foreign(2)));
    assert_eq!(file.accept(b"nonsense").err(), Some(ShareError::Forged(2)));
    let foreign = ShareFile { context: ShareContext { epoch: 2, ..file.context.clone() }, ..file };
    assert_eq!(foreign.accept(share.to_payload().expose()).err(), Some(ShareError::Foreign(2)));
}
