//! Inputs for parsers, made from good ones: seeds out of the format vectors, and a small mutator that needs nothing but a
//! stable compiler. The targets themselves stand in the crates whose parsers they try, in `fuzz.rs`, and are run there by
//! `cargo test`; `src/main.rs`, with libFuzzer, searches longer and with a sense of direction: `make fuzz`.
//!
//! Must not contain: knowledge of any format.

use std::panic::{AssertUnwindSafe, catch_unwind};

/// A parser under test: its name, and what must hold for every input. It panics where that does not hold.
pub type Target = (&'static str, fn(&[u8]));

/// Longest input that is tried, in bytes.
pub const INPUT_BYTES_MAX: usize = 1 << 16;
/// Mutations laid over one another, at most.
const MUTATIONS_MAX: u64 = 4;
/// Numbers at which formats change their mind.
const EDGES: [u64; 12] = [0, 1, 2, 0x7f, 0x80, 0xff, 0xffff, 0x0001_0000, 0x7fff_ffff, 0xffff_ffff, 1 << 62, u64::MAX];

/// Everything in `docs/vectors/v1.json` that could be an input: every text; the bytes of every text that is in hexadecimal;
/// and each of these with the next one behind it, as a signature stands behind what it signs.
pub fn vectors() -> Vec<Vec<u8>> {
    let texts = || include_str!("../../../docs/vectors/v1.json").split('"').skip(1).step_by(2);
    let bytes: Vec<Vec<u8>> = texts().filter_map(hex).collect();
    let pairs = bytes.windows(2).map(|two| two.concat());
    let mut seeds: Vec<Vec<u8>> = texts().map(|text| text.as_bytes().to_vec()).chain(pairs).collect();
    seeds.extend(bytes);
    seeds.sort();
    seeds.dedup();
    seeds.retain(|seed| seed.len() <= INPUT_BYTES_MAX);
    seeds
}

fn hex(text: &str) -> Option<Vec<u8>> {
    let digit = |d: u8| char::from(d).to_digit(16).and_then(|d| u8::try_from(d).ok());
    let pair = |pair: &[u8]| Some(digit(pair[0])? << 4 | digit(*pair.get(1)?)?);
    if text.is_empty() { None } else { text.as_bytes().chunks(2).map(pair).collect() }
}

/// Tries each target with every seed, and with `mutants` inputs made of them: the same ones at each run.
///
/// # Panics
/// At the first input that a target panics at, with the input in hexadecimal.
pub fn exercise(targets: &[Target], seeds: &[Vec<u8>], mutants: usize) {
    for (name, target) in targets {
        let mut dice = Dice(0x636c_6176_6967_6572);
        let made = (0..mutants).map(|_| mutant(seeds, &mut dice));
        for input in seeds.iter().cloned().chain(made) {
            let held = catch_unwind(AssertUnwindSafe(|| target(&input)));
            assert!(held.is_ok(), "target {name} does not hold for the input {}", print(&input));
        }
    }
}

fn print(input: &[u8]) -> String {
    input.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// SplitMix64: small, and the same on every machine.
struct Dice(u64);

impl Dice {
    fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ self.0 >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ z >> 31
    }

    /// Less than `end`, which may be 0: then 0.
    fn below(&mut self, end: usize) -> usize {
        (self.roll() % (end as u64).max(1)) as usize
    }
}

fn mutant(seeds: &[Vec<u8>], dice: &mut Dice) -> Vec<u8> {
    let empty = Vec::new();
    let pick = |dice: &mut Dice| seeds.get(dice.below(seeds.len())).unwrap_or(&empty).clone();
    let mut input = pick(dice);
    for _ in 0..=dice.roll() % MUTATIONS_MAX {
        let at = dice.below(input.len() + 1);
        match dice.roll() % 7 {
            0 => flip(&mut input, dice),
            1 => input.truncate(at),
            2 => overwrite(&mut input, at, dice),
            3 => drop(input.splice(at..at, [dice.roll() as u8])),
            4 => drop(input.drain(at..(at + 1 + dice.below(8)).min(input.len()).max(at))),
            5 => cross(&mut input, at, &pick(dice), dice),
            _ => double(&mut input, at, dice),
        }
        input.truncate(INPUT_BYTES_MAX);
    }
    input
}

fn flip(input: &mut [u8], dice: &mut Dice) {
    let at = dice.below(input.len());
    if let Some(byte) = input.get_mut(at) {
        *byte ^= 1 << dice.below(8);
    }
}

/// Puts a telling number where a length or a count may stand.
fn overwrite(input: &mut [u8], at: usize, dice: &mut Dice) {
    let number = EDGES[dice.below(EDGES.len())].to_be_bytes();
    let width = [1, 2, 4, 8][dice.below(4)];
    for (byte, new) in input.iter_mut().skip(at).zip(&number[8 - width..]) {
        *byte = *new;
    }
}

fn cross(input: &mut Vec<u8>, at: usize, other: &[u8], dice: &mut Dice) {
    input.truncate(at);
    input.extend_from_slice(&other[dice.below(other.len())..]);
}

fn double(input: &mut Vec<u8>, at: usize, dice: &mut Dice) {
    let end = (at + dice.below(64)).min(input.len());
    let again = input[at..end].to_vec();
    drop(input.splice(at..at, again));
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

    #[test]
    fn vectors_hold_bytes_and_texts() {
        let seeds = vectors();
        assert!(seeds.iter().any(|seed| seed.starts_with(b"CLAV\x01\x01")), "a ciphertext");
        assert!(seeds.iter().any(|seed| seed == b"eu-west"), "a name");
        assert!(seeds.len() > 100, "{}", seeds.len());
    }

    #[test]
    fn hexadecimal_is_read_whole_or_not_at_all() {
        assert_eq!([hex("00fF"), hex("abc"), hex("0g"), hex("")], [Some(vec![0, 255]), None, None, None]);
    }

    #[test]
    fn a_target_that_does_not_hold_is_told_with_its_input() {
        let target: Target = ("no-second-c", |input| assert!(input.get(1) != Some(&b'c')));
        exercise(&[target], &[b"ab".to_vec()], 0);
        let told = catch_unwind(|| exercise(&[target], &[b"ac".to_vec()], 0)).unwrap_err();
        let told = told.downcast_ref::<String>().unwrap();
        assert!(told.contains("no-second-c") && told.ends_with(" 6163"), "{told}");
    }

    #[test]
    fn mutants_differ_and_are_the_same_at_each_run() {
        static SUM: AtomicUsize = AtomicUsize::new(0);
        let sum: Target = ("sum", |input| {
            SUM.fetch_add(input.iter().map(|b| usize::from(*b)).sum(), Relaxed);
        });
        let run = || {
            SUM.store(0, Relaxed);
            exercise(&[sum], &[vec![7; 40]], 500);
            SUM.load(Relaxed)
        };
        let first = run();
        assert_eq!(first, run());
        assert_ne!(first, 501 * 280, "all were like the seed");
    }
}
