//! The heir: at the end of some runs all nodes but one are lost, and that one goes on alone, by a mandate of the custodians,
//! in the next generation. Then one of the others comes back, and must hear that it has left. Or custodians were told of two
//! nodes, each for itself, that it is all that is left: when the two meet, neither may go on.

use crate::dice::Dice;
use crate::door::{Errand, LOOK};
use crate::house::{ASTRAY, Life, WITH_OTHERS};
use crate::promises::Promise;
use crate::scene::Scene;
use claviger_core::failure::Failure;
use claviger_core::mandate::SignedMandate;
use claviger_core::name::{NodeId, Signature};
use claviger_core::policy::Operation;
use claviger_core::share::Share;
use claviger_server::service::{ConsentAsk, Recovery};
use std::sync::Arc;
use std::time::Duration;

/// Longest until it has.
const BEGINS_WITHIN: Duration = Duration::from_secs(600);
/// Longest until whoever comes back has heard of it.
const HEARD_WITHIN: Duration = Duration::from_secs(120);

/// Once in a while, all but one of the nodes that are up to date are lost. Whether that happened.
pub async fn one_goes_on_alone(scene: &Arc<Scene>) -> bool {
    let dice = scene.dice("heir");
    let house = &scene.house;
    let Some(heir) = dice.pick(&house.sound()).copied().filter(|_| dice.once_in(3)) else { return false };
    let Some(before) = house.generation(heir) else { return false };
    scene.trace.tell(0, &format!("node {heir} is all that is left"));
    for id in house.all().into_iter().filter(|id| *id != heir) {
        // Whoever was off when the heir joined, and knows none but those who are lost, can hear of nothing any more.
        let knows = house.life(id).is_some_and(|life| life.node.ledger().address(heir).is_some());
        house.crash(id).await;
        house.lose(id, if knows { WITH_OTHERS } else { ASTRAY });
    }
    begins_alone(scene, heir, before, &dice).await;
    true
}

/// Somebody who was lost comes back after all, on its own disk.
pub async fn another_comes_back(scene: &Arc<Scene>) {
    let (dice, house) = (scene.dice("revenant"), &scene.house);
    let Some(back) = dice.pick(&house.may_come_back()).copied() else { return };
    scene.trace.tell(back.0, "comes back");
    house.comes_back(back);
    let since = scene.trace.elapsed();
    while house.is_back(back) && scene.trace.elapsed() - since < HEARD_WITHIN {
        tokio::time::sleep(LOOK).await;
    }
    scene.board.expect(Promise::Roster, !house.is_back(back), || format!("node {back} does not hear that it has left"));
}

/// Two nodes that do not reach each other are each taken for all that is left.
pub async fn two_go_on_alone(scene: &Arc<Scene>) {
    let (dice, house) = (scene.dice("two heirs"), &scene.house);
    let mut alive = house.sound();
    dice.shuffle(&mut alive);
    let (&[one, other, ..], true) = (&alive[..], dice.once_in(3)) else { return };
    let Some(before) = house.generation(one).filter(|before| house.generation(other) == Some(*before)) else { return };
    scene.trace.tell(0, &format!("nodes {one} and {other} are each taken for all that is left"));
    for id in house.all().into_iter().filter(|id| ![one, other].contains(id)) {
        house.is_gone(id).await;
    }
    house.hub.cut(one, other);
    house.hub.cut(other, one);
    tokio::join!(begins_alone(scene, one, before, &dice), begins_alone(scene, other, before, &dice));
    house.meet([one, other]);
    house.hub.mend();
    let (since, met) = (scene.trace.elapsed(), || house.has_met(one) && house.has_met(other));
    while !met() && scene.trace.elapsed() - since < HEARD_WITHIN {
        tokio::time::sleep(LOOK).await;
    }
    scene.board.expect(Promise::Roster, met(), || format!("nodes {one} and {other} both go on in one generation"));
}

async fn begins_alone(scene: &Arc<Scene>, heir: NodeId, before: u64, dice: &Dice) {
    let (house, since) = (&scene.house, scene.trace.elapsed());
    house.inherits(heir);
    // It is off in between.
    while house.generation(heir).is_none_or(|now| now == before) && scene.trace.elapsed() - since < BEGINS_WITHIN {
        Asking::of(scene, heir, dice).goes_on().await;
        tokio::time::sleep(LOOK).await;
    }
    let begun = house.generation(heir) == Some(before + 1);
    scene.board.expect(Promise::Liveness, begun, || format!("node {heir} alone begins no generation"));
}

/// A node that asks for a mandate, as its people see it.
pub struct Asking<'a> {
    scene: &'a Arc<Scene>,
    heir: NodeId,
    dice: &'a Dice,
}

impl<'a> Asking<'a> {
    /// Asked by that node.
    pub fn of(scene: &'a Arc<Scene>, heir: NodeId, dice: &'a Dice) -> Self {
        Asking { scene, heir, dice }
    }

    /// One attempt, as far as it comes: a node that is off, or has its mandate already, is waited for.
    pub async fn goes_on(&self) {
        let Some(life) = self.life() else { return };
        if let Some(mandate) = life.node.ledger().alone() {
            return self.is_of_enough(&mandate);
        }
        drop(life);
        let errand = Errand::of_root(self.scene, Operation::BeginRecovery, self.dice);
        let begun = errand
            .run(self.heir, |life, visit| Box::pin(async move { life.node.service().begin_recovery(visit, ()).await }));
        let Some(Ok(mut recovery)) = begun.await.answer else { return };
        let mut order: Vec<usize> = (0..self.scene.custodians.len()).collect();
        self.dice.shuffle(&mut order);
        for holder in order {
            if self.dice.once_in(8) {
                return self.scene.house.crash(self.heir).await;
            }
            if self.dice.once_in(4) {
                self.lies(holder, &recovery).await;
            }
            match self.consents(holder, self.ask(holder, &recovery)).await {
                Some(Ok(further)) => recovery = further,
                Some(Err(_)) => continue,
                None => return,
            }
            self.is_enough(&recovery);
            if recovery.given {
                return;
            }
        }
    }

    fn life(&self) -> Option<Life> {
        self.scene.house.life(self.heir)
    }

    fn ask(&self, holder: usize, recovery: &Recovery) -> ConsentAsk {
        let shares = self.scene.shares.get().expect("nobody is lost before the founding");
        let share = Share::from_payload(&shares[holder]).expect("our own share");
        let (mandate, identity) = (recovery.gathering.mandate(), &self.scene.custodians[holder].guest.identity);
        let signature = share.prove(&mandate.challenge(share.index(), identity));
        ConsentAsk { mandate: mandate.digest(), index: share.index(), signature }
    }

    async fn consents(&self, holder: usize, ask: ConsentAsk) -> Option<Result<Recovery, Failure>> {
        let errand = Errand {
            guest: &self.scene.custodians[holder].guest,
            ..Errand::of_root(self.scene, Operation::ConsentToRecovery, self.dice)
        };
        let given = errand.run(self.heir, |life, visit| {
            Box::pin(async move { life.node.service().consent_to_recovery(visit, ask).await })
        });
        given.await.answer
    }

    /// A signature with a flipped bit, or somebody else's, counts for nothing.
    async fn lies(&self, holder: usize, recovery: &Recovery) {
        let other = (holder + 1) % self.scene.custodians.len();
        let mut ask = self.ask(if self.dice.once_in(2) { other } else { holder }, recovery);
        if usize::from(ask.index) == holder + 1 {
            let mut bytes = ask.signature.0;
            bytes[self.dice.roll(0..64) as usize] ^= 1 << self.dice.roll(0..8);
            ask.signature = Signature(bytes);
        }
        if let Some(answer) = self.consents(holder, ask).await {
            self.scene.board.expect(Promise::Threshold, answer.is_err(), || "a false consent was counted".into());
        }
    }

    /// The answer to the last signature rarely comes: the node ends with it. What it starts again with tells.
    fn is_of_enough(&self, mandate: &SignedMandate) {
        let (signed, threshold) = (mandate.consents.len(), usize::from(self.scene.plan.threshold));
        self.scene.board.expect(Promise::Threshold, signed >= threshold, || {
            format!("node {} goes on alone by a mandate of {signed}; {threshold} are needed", self.heir)
        });
    }

    fn is_enough(&self, recovery: &Recovery) {
        let (signed, threshold) = (recovery.gathering.signed().len(), usize::from(self.scene.plan.threshold));
        self.scene.board.expect(Promise::Threshold, recovery.given == (signed >= threshold), || {
            format!("a mandate of {signed} is given: {}; {threshold} are needed", recovery.given)
        });
    }
}
