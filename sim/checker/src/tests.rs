use super::*;
use porcupine_rs::{Model, Operation, check_operations};
use std::fmt::Debug;
use std::marker::PhantomData;

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
struct Object<O>(PhantomData<O>);

#[derive(Clone, Debug)]
struct Asked<O>(O);

impl<O: Step + Debug + Send + Sync> Model for Object<O> {
    type State = u64;
    type Op = Asked<O>;
    type Metadata = ();

    fn init() -> u64 {
        0
    }

    fn step(state: &u64, op: &Asked<O>) -> (bool, u64) {
        op.0.step(*state).map_or((false, *state), |after| (true, after))
    }
}

fn porcupine<O: Step + Debug + Send + Sync>(history: &[Call<O>]) -> bool {
    let operation = |call: &Call<O>| Operation::<Object<O>> {
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
        let (mut state, slips) = (0, self.roll(4) == 0);
        self.calls(|dice| {
            let op = match dice.roll(4) {
                0 => Op::Write(1 + dice.roll(4)),
                1 => {
                    let expected = dice.roll(4);
                    Op::Cas { expected, new: 1 + dice.roll(4), took: Some(expected == state) }
                }
                _ if slips && dice.roll(5) == 0 => Op::Read(dice.roll(4)),
                _ => Op::Read(state),
            };
            state = op.step(state).unwrap_or(state);
            (op, (!matches!(op, Op::Read(_))).then_some(op))
        })
    }

    /// Calls of three clients on one key, likewise.
    fn key_history(&mut self) -> Vec<Call<KeyOp>> {
        let (mut state, slips) = (0, self.roll(4) == 0);
        self.calls(|dice| {
            let wrong = slips && dice.roll(6) == 0;
            let (op, unanswered) = dice.key_op(if wrong { 0 } else { state }, wrong);
            state = op.step(state).unwrap_or(state);
            (op, unanswered)
        })
    }

    /// What a key in that state answers to something; or something that it hardly would. And the call as it is when the
    /// answer is lost, if it is a change.
    fn key_op(&mut self, state: u64, wrong: bool) -> (KeyOp, Option<KeyOp>) {
        let some =
            KeyFacts { enabled: self.roll(2) == 0, primary: 1 + self.roll(3) as u32, label: self.roll(2) as u32 };
        let Some(key) = KeyFacts::unpack(state).or(wrong.then_some(some)) else {
            let made = KeyFacts { enabled: true, primary: 1, label: 0 };
            return (KeyOp::Changed(KeyChange::Create(0), made), Some(KeyOp::Unknown(KeyChange::Create(0))));
        };
        let change = match self.roll(9) {
            0 => KeyChange::Rotate,
            1 => KeyChange::Disable,
            2 => KeyChange::Enable,
            3 => KeyChange::Relabel(self.roll(2) as u32),
            4 => KeyChange::Create(0),
            5 if key.enabled => return (KeyOp::Encrypted(key.primary), None),
            6 if key.enabled => return (KeyOp::Decrypted, None),
            5 | 6 => return (KeyOp::Refused(KeyRefusal::Disabled), None),
            _ => return (KeyOp::Saw(key), None),
        };
        let made = match change.of(Some(key)) {
            Some(after) => KeyOp::Changed(change, after),
            None if change == KeyChange::Rotate => KeyOp::Refused(KeyRefusal::Disabled),
            None => KeyOp::Refused(KeyRefusal::Exists),
        };
        (made, Some(KeyOp::Unknown(change)))
    }

    /// Up to fifteen calls that overlap. The second of what `make` gives, if any, is what the call is when its outcome is
    /// not known, which is the lot of one in twelve.
    fn calls<O>(&mut self, mut make: impl FnMut(&mut Dice) -> (O, Option<O>)) -> Vec<Call<O>> {
        let (mut calls, mut time) = (Vec::new(), 0);
        let mut free_at = [0; 3];
        for _ in 0..4 + self.roll(12) {
            let client = self.roll(3) as usize;
            let began = free_at[client] * 10 + client as u64 + 1;
            time = time.max(began) + 10;
            let (op, unanswered) = make(self);
            let lost = self.roll(12) == 0;
            let ended = time * 10 + client as u64 + 5 + 10 * self.roll(30);
            calls.push(match unanswered {
                Some(op) if lost => Call { key: 0, began, ended: None, op },
                Some(_) | None => Call { key: 0, began, ended: Some(ended), op },
            });
            free_at[client] = ended / 10 + 1;
        }
        calls
    }
}

fn agrees<O: Step + Debug + Send + Sync>(mut history: impl FnMut() -> Vec<Call<O>>) {
    let (mut good, mut bad) = (0, 0);
    for _ in 0..4_000 {
        let history = history();
        let theirs = porcupine(&history);
        let ours = check(&history, STEPS);
        assert_eq!(ours == Verdict::Linearizable, theirs, "{history:?}");
        *(if theirs { &mut good } else { &mut bad }) += 1;
    }
    assert!(good > 400 && bad > 400, "both kinds must occur: {good} good, {bad} bad");
}

#[test]
fn agrees_with_porcupine_on_four_thousand_histories_of_a_register() {
    let mut dice = Dice(2024);
    agrees(|| dice.history());
}

#[test]
fn agrees_with_porcupine_on_four_thousand_histories_of_a_key() {
    let mut dice = Dice(2025);
    agrees(|| dice.key_history());
}
