use super::*;
use porcupine_rs::{Model, Operation, check_operations};

const STEPS: u64 = 10_000_000;

fn call(key: u64, began: u64, ended: u64, op: Op) -> Call {
    Call { key, began, ended: Some(ended), op }
}

#[test]
fn a_read_that_overlaps_a_write_may_say_either() {
    for seen in [0, 7] {
        let history = [call(1, 1, 4, Op::Write(7)), call(1, 2, 3, Op::Read(seen))];
        assert_eq!(check(&history, STEPS), Verdict::Linearizable);
    }
}

#[test]
fn refuses_a_read_from_before_an_acknowledged_write() {
    let history = [call(1, 1, 2, Op::Write(7)), call(1, 3, 4, Op::Read(0))];
    assert_eq!(check(&history, STEPS), Verdict::Violated { key: 1 });
}

#[test]
fn refuses_two_reads_that_go_back_in_time() {
    let history = [call(4, 1, 9, Op::Write(7)), call(4, 2, 3, Op::Read(7)), call(4, 4, 5, Op::Read(0))];
    assert_eq!(check(&history, STEPS), Verdict::Violated { key: 4 });
}

#[test]
fn an_unknown_write_may_come_late_or_never_but_not_twice() {
    let unknown = Call { key: 1, began: 1, ended: None, op: Op::Write(5) };
    let late = [unknown, call(1, 2, 3, Op::Read(0)), call(1, 4, 5, Op::Read(5))];
    assert_eq!(check(&late, STEPS), Verdict::Linearizable);
    assert_eq!(check(&late[..2], STEPS), Verdict::Linearizable);
    let again = [late[0], late[1], late[2], call(1, 6, 7, Op::Write(9)), call(1, 8, 9, Op::Read(5))];
    assert_eq!(check(&again, STEPS), Verdict::Violated { key: 1 });
}

#[test]
fn two_swaps_cannot_both_take() {
    let swap = |new, took| Op::Cas { expected: 0, new, took: Some(took) };
    let both = [call(1, 1, 5, swap(1, true)), call(1, 2, 6, swap(2, true))];
    assert_eq!(check(&both, STEPS), Verdict::Violated { key: 1 });
    let one = [call(1, 1, 5, swap(1, true)), call(1, 2, 6, swap(2, false))];
    assert_eq!(check(&one, STEPS), Verdict::Linearizable);
}

#[test]
fn gives_up_when_it_was_given_too_few_steps() {
    let history: Vec<Call> = (0..9).map(|n| call(3, 1 + n, 100 + n, Op::Write(n))).collect();
    assert_eq!(check(&history, 3), Verdict::GaveUp { key: 3 });
}

#[derive(Clone)]
struct Register;

#[derive(Clone, Debug)]
struct Asked(Op);

impl Model for Register {
    type State = u64;
    type Op = Asked;
    type Metadata = ();

    fn init() -> u64 {
        0
    }

    fn step(state: &u64, op: &Asked) -> (bool, u64) {
        op.0.step(*state).map_or((false, *state), |after| (true, after))
    }
}

fn porcupine(history: &[Call]) -> bool {
    let operation = |call: &Call| Operation::<Register> {
        client_id: None,
        call_time: call.began as i64,
        return_time: call.ended.map_or(i64::MAX, |t| t as i64),
        op: Asked(call.op),
        metadata: None,
    };
    check_operations(&history.iter().map(operation).collect::<Vec<_>>())
}

/// A small generator, so that the comparison below is the same each time.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, below: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % below
    }

    /// Calls of three clients on one register that mostly behaves: a quarter of the histories has a slip.
    fn history(&mut self) -> Vec<Call> {
        let (mut calls, mut state, mut time) = (Vec::new(), 0, 0);
        let slips = self.roll(4) == 0;
        let mut free_at = [0; 3];
        for _ in 0..4 + self.roll(12) {
            let client = self.roll(3) as usize;
            let began = free_at[client] * 10 + client as u64 + 1;
            time = time.max(began) + 10;
            let op = match self.roll(4) {
                0 => Op::Write(1 + self.roll(4)),
                1 => {
                    let expected = self.roll(4);
                    Op::Cas { expected, new: 1 + self.roll(4), took: Some(expected == state) }
                }
                _ if slips && self.roll(5) == 0 => Op::Read(self.roll(4)),
                _ => Op::Read(state),
            };
            state = op.step(state).unwrap_or(state);
            let unknown = self.roll(12) == 0 && !matches!(op, Op::Read(_));
            let ended = time * 10 + client as u64 + 5 + 10 * self.roll(30);
            calls.push(Call { key: 0, began, ended: (!unknown).then_some(ended), op });
            free_at[client] = ended / 10 + 1;
        }
        calls
    }
}

#[test]
fn agrees_with_porcupine_on_four_thousand_histories() {
    let mut dice = Dice(2024);
    let (mut good, mut bad) = (0, 0);
    for _ in 0..4_000 {
        let history = dice.history();
        let theirs = porcupine(&history);
        let ours = check(&history, STEPS);
        assert_eq!(ours == Verdict::Linearizable, theirs, "{history:?}");
        *(if theirs { &mut good } else { &mut bad }) += 1;
    }
    assert!(good > 400 && bad > 400, "both kinds must occur: {good} good, {bad} bad");
}
