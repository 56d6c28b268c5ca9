//! Whoever changes the members: gives tickets, lets newcomers vote in the place of others, and retires those. One change
//! after the other, at hours of their own, while everything else goes wrong as planned.

use crate::dice::Dice;
use crate::door::{Errand, LOOK};
use crate::house::Life;
use crate::promises::Promise;
use crate::scene::Scene;
use crate::stranger::propose_as;
use bytes::Bytes;
use claviger_core::codec::Canonical;
use claviger_core::decide::{RoleAsk, TicketAsk};
use claviger_core::failure::Failure;
use claviger_core::name::{NodeId, TxnId};
use claviger_core::policy::Operation;
use claviger_core::record::{RecordKey, Table};
use claviger_core::roster::Role;
use claviger_core::ticket::TICKET_MS_MAX;
use claviger_core::txn::{Batch, Effect, Put, Reliance, Txn};
use claviger_ledger::Status;
use claviger_proto::peer::v1 as pb;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

/// Replaces one node after the other, as long as there are newcomers and time.
pub async fn replace_some(scene: Arc<Scene>) {
    let dice = scene.dice("registrar");
    for newcomer in scene.house.newcomers() {
        tokio::time::sleep(Duration::from_millis(dice.roll(5_000..120_000))).await;
        let change = Change { scene: &scene, newcomer, old: old(&scene, &dice), dice: &dice };
        if scene.is_over() || change.happens().await.is_none() {
            return;
        }
    }
}

/// Somebody who votes: one who is lost, if there is one and the dice want it.
fn old(scene: &Scene, dice: &Dice) -> NodeId {
    let (voters, lost) = (scene.house.counted(), scene.house.lost());
    let gone: Vec<NodeId> = voters.iter().copied().filter(|node| lost.contains(node)).collect();
    let from = if gone.is_empty() || dice.once_in(3) { &voters } else { &gone };
    *dice.pick(from).expect("somebody votes")
}

/// One replacement on its way.
struct Change<'a> {
    scene: &'a Arc<Scene>,
    newcomer: NodeId,
    old: NodeId,
    dice: &'a Dice,
}

impl Change<'_> {
    /// None when the run is over before it has happened.
    async fn happens(&self) -> Option<()> {
        let (house, new, old) = (&self.scene.house, self.newcomer, self.old);
        self.scene.trace.tell(0, &format!("node {new} is to come in the place of node {old}"));
        let ticket = self.ticket().await?;
        house.admit(new, &ticket);
        self.until(|status, _| seat(status, new) == Some(false)).await?;
        self.votes().await?;
        self.until(|status, _| seat(status, new) == Some(true) && seat(status, old) != Some(true)).await?;
        house.swap(new, old);
        self.scene.trace.tell(0, &format!("node {new} votes in the place of node {old}"));
        if self.dice.once_in(4) {
            return Some(());
        }
        // Half of those that go are dead already.
        if self.dice.once_in(2) {
            house.crash(old).await;
        }
        house.retires(old);
        self.retired().await
    }

    /// Asks until there is a ticket: one that nobody hears of any more is nobody's.
    async fn ticket(&self) -> Option<String> {
        let ask = TicketAsk { node: self.newcomer, good_for_ms: TICKET_MS_MAX };
        while !self.scene.is_over() {
            let ask = (ask.clone(), None);
            let errand = Errand::of_root(self.scene, Operation::CreateJoinTicket, self.dice);
            let given = errand.run(self.somebody(), |life, visit| {
                Box::pin(async move {
                    life.node.service().create_join_ticket(visit, ask).await.map(|(ticket, _)| ticket.to_text())
                })
            });
            if let Some(Ok(ticket)) = given.await.answer {
                return Some(ticket);
            }
            tokio::time::sleep(LOOK).await;
        }
        None
    }

    async fn votes(&self) -> Option<()> {
        let ask = RoleAsk { node: self.newcomer, role: Role::Voter, in_place_of: Some(self.old) };
        while !self.is_in_role(self.newcomer, Role::Voter) {
            let errand = Errand::of_root(self.scene, Operation::SetMemberRole, self.dice);
            let set = errand.run(self.somebody(), move |life, visit| {
                Box::pin(async move { life.node.service().set_member_role(visit, (ask, None)).await })
            });
            self.sound("a swap", set.await.answer);
            self.wait().await?;
        }
        Some(())
    }

    /// Retires the old one, and looks whether those listen to it that have confirmed.
    async fn retired(&self) -> Option<()> {
        let node = self.old;
        while !self.is_in_role(node, Role::Retired) {
            let before = self.lives();
            let errand = Errand::of_root(self.scene, Operation::RetireMember, self.dice);
            let retired = errand.run(self.somebody(), move |life, visit| {
                Box::pin(async move { life.node.service().retire_member(visit, (node, None)).await })
            });
            if let Some(Ok(retired)) = self.sound("a retirement", retired.await.answer) {
                self.nobody_listens(&before, &retired.unconfirmed);
            }
            self.wait().await?;
        }
        self.scene.trace.tell(0, &format!("node {node} is retired"));
        self.comes_back().await;
        Some(())
    }

    /// Whoever has the retired node's papers and disk, and the transaction key that it had, comes back with them; and finds
    /// somebody who brings its batch in all the same.
    async fn comes_back(&self) {
        let (house, old) = (&self.scene.house, self.old);
        let Some((batch, id, record)) = self.outdated() else { return };
        self.scene.promises.forged.outdated(id, record);
        let key = house.public(old);
        let others = house.lives().into_iter().filter(|life| life.id != old && life.node.has_left(&key));
        let to: Vec<Life> = others.collect();
        let Some(life) = self.dice.pick(&to) else { return };
        let line = life.node.ledger().roster().and_then(|roster| roster.member(old).cloned());
        let Some(line) = line else { return };
        let request = self.request(life, (old, line.disk.0), &batch);
        let answer = propose_as(self.scene, house.papers(old), life.id, request).await;
        self.scene.promises.roster.turned_away("a retired node", answer.as_ref().copied());
        let accomplice = (life.id, life.node.ledger().disk_id().0);
        if let Some(other) = to.iter().find(|other| other.id != life.id) {
            let request = self.request(other, accomplice, &batch);
            // What becomes of it is looked at on every node, as long as the run lasts.
            let _ = propose_as(self.scene, house.papers(life.id), other.id, request).await;
        }
    }

    /// A batch that writes one record, under the transaction key of the founding.
    fn outdated(&self) -> Option<(Bytes, TxnId, RecordKey)> {
        let life = self.scene.house.lives().into_iter().find(|life| life.node.is_open())?;
        let (view, eye) = (life.node.ledger().view(), self.scene.eye.get()?);
        let (record, id) = (RecordKey::hashed(Table::Denied, self.dice.bytes()), TxnId(self.dice.bytes()));
        let revision = view.revision();
        let txn = Txn {
            id,
            turn: revision.turn,
            decided_at: revision.cluster_time,
            relies: vec![Reliance::Exact(record, 0)],
            puts: vec![Put { key: record, value: self.dice.bytes::<40>().to_vec() }],
            deletes: Vec::new(),
            effect: Effect::Records,
        };
        let header = &view.head()?.header;
        let (lineage, generation) = (header.lineage, header.generation);
        let batch = Batch { lineage, generation, author: self.old, signer: 1, txns: vec![txn] };
        Some((eye.sign(batch).to_bytes().into(), id, record))
    }

    fn request(&self, to: &Life, (sender, disk): (NodeId, [u8; 16]), batch: &Bytes) -> pb::ProposeRequest {
        let lineage = to.node.ledger().lineage().map_or_else(Vec::new, |lineage| lineage.0.to_vec());
        let sender_disk = disk.to_vec().into();
        let envelope = pb::Envelope { lineage: lineage.into(), sender: sender.0, sender_disk, target: to.id.0 };
        pb::ProposeRequest { envelope: Some(envelope), batch: batch.clone() }
    }

    fn lives(&self) -> BTreeMap<NodeId, u64> {
        self.scene.house.lives().iter().map(|life| (life.id, life.number)).collect()
    }

    /// A member that has confirmed does not take the retired one for a member, as long as it lives: in another life it may
    /// have to come as far again.
    fn nobody_listens(&self, before: &BTreeMap<NodeId, u64>, unconfirmed: &[NodeId]) {
        let key = self.scene.house.public(self.old);
        let confirmed = |life: &Life| {
            life.id != self.old && before.get(&life.id) == Some(&life.number) && !unconfirmed.contains(&life.id)
        };
        for life in self.scene.house.lives().into_iter().filter(confirmed) {
            self.scene.board.expect(Promise::Roster, life.node.has_left(&key), || {
                format!("node {} has confirmed that node {} is retired, and listens to it", life.id, self.old)
            });
        }
    }

    /// What may not be answered: that something is broken.
    fn sound<T>(&self, what: &str, answer: Option<Result<T, Failure>>) -> Option<Result<T, Failure>> {
        if let Some(Err(Failure::Broken(cause))) = &answer {
            self.scene.board.broke(Promise::Sound, format!("{what} is answered with: {cause}"));
        }
        answer
    }

    fn is_in_role(&self, node: NodeId, role: Role) -> bool {
        let says = |life: &Life| {
            let view = life.node.ledger().view();
            view.roster().and_then(|roster| roster.member(node)).is_some_and(|line| line.role == role)
        };
        self.scene.house.lives().iter().any(says)
    }

    /// Waits until whoever leads sees it so.
    async fn until(&self, good: impl Fn(&Status, &Life) -> bool) -> Option<()> {
        loop {
            let leads = |life: &Life| {
                let status = life.node.ledger().status();
                status.leader == Some(life.id) && !status.moving && good(&status, life)
            };
            if self.scene.house.lives().iter().any(leads) {
                return Some(());
            }
            self.wait().await?;
        }
    }

    async fn wait(&self) -> Option<()> {
        tokio::time::sleep(LOOK).await;
        (!self.scene.is_over()).then_some(())
    }

    fn somebody(&self) -> NodeId {
        *self.dice.pick(&self.scene.house.counted()).expect("somebody votes")
    }
}

/// Whether a node votes; none when it is not in Raft's membership.
fn seat(status: &Status, node: NodeId) -> Option<bool> {
    status.members.iter().find(|(member, _)| *member == node).map(|(_, votes)| *votes)
}
