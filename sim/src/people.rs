//! People: whoever founds the cluster, and custodians who open it again and again, with their bad days.

use crate::dice::Dice;
use crate::door::Errand;
use crate::eye::{self, Eye};
use crate::papers::CustodianPapers;
use crate::promises::Promise;
use crate::scene::Scene;
use claviger_core::ceremony::{CeremonyKey, Progress, ShareWhy};
use claviger_core::chain::Chain;
use claviger_core::chance::{Chance, Fresh};
use claviger_core::failure::{Cause, Failure, Refused};
use claviger_core::name::{Lineage, NodeId};
use claviger_core::policy::{GrantRecord, KeyGrant, Operation};
use claviger_core::share::Share;
use claviger_core::time::UnixMs;
use claviger_core::transit::seal_share;
use claviger_ledger::LedgerView;
use claviger_server::FoundAsk;
use claviger_server::service::{Begun, OfferAsk, Offered};
use std::sync::Arc;
use std::time::Duration;

/// Founds the cluster, and gives the oracle its eye. Whether it came to that.
pub async fn found(scene: &Arc<Scene>) -> bool {
    let dice = scene.dice("founding");
    for _ in 0..20 {
        let ask = found_ask(scene);
        let errand = Errand::of_root(scene, Operation::Initialize, &dice);
        let found = errand
            .run(NodeId(1), |life, visit| Box::pin(async move { life.node.service().initialize(visit, ask).await }));
        if let Some(Ok(founded)) = found.await.answer {
            let open = |(file, papers): (&(_, String), &CustodianPapers)| eye::open_share(&file.1, &papers.age);
            let shares: Option<Vec<_>> = founded.shares.iter().zip(&scene.custodians).map(open).collect();
            return shares.is_some_and(|shares| open_eye(scene, shares));
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    false
}

fn found_ask(scene: &Scene) -> FoundAsk {
    let grant = KeyGrant { tenant: "acme".parse().expect("a name"), key: None, encrypt: true, decrypt: true };
    let mut grants: Vec<GrantRecord> = scene
        .clients
        .iter()
        .map(|guest| GrantRecord { identity: guest.identity.clone(), grants: vec![grant.clone()] })
        .collect();
    grants.sort_by(|a, b| a.identity.cmp(&b.identity));
    FoundAsk {
        threshold: scene.plan.threshold,
        custodians: scene.custodians.iter().map(|c| c.keys.clone()).collect(),
        administrators: vec![scene.root.identity.clone()],
        grants,
    }
}

/// With all shares the oracle reads what nodes keep sealed; with one too few it must not.
fn open_eye(scene: &Scene, shares: Vec<Vec<u8>>) -> bool {
    let Some(life) = scene.house.life(NodeId(1)) else { return false };
    let (view, k) = (life.node.ledger().view(), usize::from(scene.plan.threshold));
    for (n, share) in shares.iter().enumerate() {
        scene.promises.clear.watch(&format!("share {}", n + 1), &share[share.len() - 32..]);
    }
    let Some(secret) = eye::interpolate(&shares[..k]) else { return false };
    let Some(root) = eye::root_of(&secret, &view) else {
        scene.board.broke(Promise::Threshold, format!("{k} true shares do not open the root key"));
        return false;
    };
    scene.promises.clear.watch("the unsealing secret", &secret);
    scene.promises.clear.watch("the root key", root.key().expose());
    for out in 0..k {
        let few: Vec<Vec<u8>> = (0..k).filter(|n| *n != out).map(|n| shares[n].clone()).collect();
        let guess = match &few[..] {
            // One point is on every line: if it opened anything, it would be the secret itself.
            [one] => one[one.len() - 32..].try_into().ok(),
            _ => eye::interpolate(&few),
        };
        let opens = guess.and_then(|guess| eye::root_of(&guess, &view)).is_some();
        let numbers: Vec<u8> = (1..=k as u8).filter(|n| usize::from(*n) != out + 1).collect();
        scene.promises.threshold.below(&numbers, opens);
    }
    let Some(eye) = Eye::new(&root, &view) else { return false };
    watch_keyring(scene, &eye, &view);
    scene.eye.set(eye).is_ok() && scene.shares.set(shares).is_ok()
}

/// The keys of keyring and buckets were drawn at the founding, and have been about since.
fn watch_keyring(scene: &Scene, eye: &Eye, view: &LedgerView) {
    let buckets = eye.bucket_secrets(view);
    scene.board.expect(Promise::Sound, !buckets.is_empty(), || "the oracle does not open the bucket keys".into());
    let secrets = eye.keyring_secrets().iter().chain(&buckets);
    scene.promises.clear.watch_late(secrets.map(|(what, key)| (what.clone(), key.expose())));
}

/// Looks for sealed nodes as long as the run lasts, and opens them.
pub async fn custody(scene: Arc<Scene>, operator: u64) {
    let dice = scene.dice(&format!("operator {operator}"));
    loop {
        tokio::time::sleep(Duration::from_millis(dice.roll(200..scene.plan.manners.attention_ms.max(201)))).await;
        let sealed: Vec<NodeId> = scene.house.lives().iter().filter(|l| !l.node.is_open()).map(|l| l.id).collect();
        if let Some(host) = dice.pick(&sealed) {
            ceremony(&scene, *host, &dice).await;
        }
    }
}

/// One ceremony, as far as it goes.
async fn ceremony(scene: &Arc<Scene>, host: NodeId, dice: &Dice) {
    let Some(Ok(begun)) = begin(scene, host, dice).await else { return };
    scene.trace.tell(0, &format!("ceremony {} at node {}", begun.progress.id, begun.progress.host));
    let mut order: Vec<usize> = (0..scene.custodians.len()).collect();
    dice.shuffle(&mut order);
    for holder in order {
        if dice.once_in(scene.plan.manners.leaves_once_in) {
            scene.trace.tell(0, &format!("custodian {} walks away", holder + 1));
            // Somebody finds that odd, and seals what is open.
            if dice.once_in(3)
                && let Some(life) = scene.house.lives().iter().find(|life| life.node.is_open())
            {
                seal_region(scene, life.id, dice).await;
            }
            return;
        }
        let custodian = Custodian { scene, holder, begun: &begun, dice };
        if custodian.has_a_bad_day() {
            custodian.brings_something_bad().await;
        }
        match custodian.brings_the_share().await {
            Some(Ok(offered)) if offered.progress.complete => {
                scene.trace.tell(0, &format!("ceremony {} opened {:?}", begun.progress.id, offered.opened_nodes));
                scene.count(|tally| tally.ceremonies += 1);
                return;
            }
            // Brought on the bad day already.
            Some(Err(Failure::Refused(Refused::Share(refused)))) if refused.why == ShareWhy::Duplicate => {}
            // Over, lost with its host, or overtaken: somebody begins another.
            Some(Err(_)) | None => return,
            Some(Ok(_)) => {}
        }
    }
}

/// Seals the region through a node. Whether that was acknowledged.
pub async fn seal_region(scene: &Arc<Scene>, node: NodeId, dice: &Dice) -> bool {
    let began = scene.trace.moment();
    let errand = Errand::of_root(scene, Operation::SealAll, dice);
    let sealed = errand.run(node, |life, visit| Box::pin(async move { life.node.service().seal_all(visit, ()).await }));
    let Some(Ok((epoch, _))) = sealed.await.answer else { return false };
    let (all, since) = (scene.house.all(), scene.trace.moment());
    scene.promises.sealed.closed_all(&all, began, since);
    // The one that was asked has wiped its own keys before it answered.
    scene.promises.sealed.closed(&[node], began, since);
    scene.trace.tell(0, &format!("the region was sealed, epoch {epoch}"));
    true
}

async fn begin(scene: &Arc<Scene>, host: NodeId, dice: &Dice) -> Option<Result<Begun, Failure>> {
    let errand = Errand::of_root(scene, Operation::BeginUnseal, dice);
    let begun =
        errand.run(host, |life, visit| Box::pin(async move { life.node.service().begin_unseal(visit, ()).await }));
    let begun = begun.await.answer?;
    Some(begun.and_then(|begun| if trusted(scene, &begun) { Ok(begun) } else { Err(Cause("not trusted").into()) }))
}

/// What a custodian's tool looks at before a share leaves it.
fn trusted(scene: &Scene, begun: &Begun) -> bool {
    let Some(lineage) = scene.eye.get().map(|eye| eye.lineage) else { return false };
    let now = UnixMs(crate::house::GENESIS_TIME.0 + scene.trace.elapsed().as_millis() as u64);
    let proof = begun.proof.clone();
    let chain = Chain::walk(proof.founding, proof.links, proof.roster);
    chain.is_ok_and(|chain| begun.signed.trusted(&chain, begun.mandate.as_ref(), &Lineage(lineage.0), now).is_ok())
}

/// Somebody with a share, on their way to a ceremony.
struct Custodian<'a> {
    scene: &'a Arc<Scene>,
    holder: usize,
    begun: &'a Begun,
    dice: &'a Dice,
}

impl Custodian<'_> {
    fn has_a_bad_day(&self) -> bool {
        self.dice.once_in(self.scene.plan.manners.bad_share_once_in)
    }

    fn key(&self) -> &CeremonyKey {
        &self.begun.signed.key
    }

    fn index(&self) -> u8 {
        self.holder as u8 + 1
    }

    fn share(&self) -> Share {
        let shares = self.scene.shares.get().expect("nobody opens before the founding");
        Share::from_payload(&shares[self.holder]).expect("our own share")
    }

    /// The share that they were dealt, in order.
    async fn brings_the_share(&self) -> Option<Result<Offered, Failure>> {
        let (id, index) = (self.key().ceremony, self.index());
        let ask = self.ask(&self.share(), self.key(), index);
        let last = self.scene.promises.threshold.brings(id, index);
        let opens = self.scene.promises.sealed.brings(index, self.scene.trace.moment(), last);
        let answer = self.offer(self.holder, ask).await;
        if opens {
            self.scene.promises.sealed.came(self.scene.trace.moment());
        }
        if let Some(answer) = &answer {
            self.scene.promises.threshold.brought(id, index, answer);
        }
        answer
    }

    /// A share of random bytes, the right one for another ceremony, somebody else's, or one twice.
    async fn brings_something_bad(&self) {
        let index = self.index();
        let (what, holder, ask) = match self.dice.roll(0..4) {
            0 => ("a share of random bytes", self.holder, self.ask(&self.forged(), self.key(), index)),
            1 => {
                let old = CeremonyKey { incarnation: self.key().incarnation + 1, ..self.key().clone() };
                ("a share that was sealed for another ceremony", self.holder, self.ask(&self.share(), &old, index))
            }
            2 => {
                let other = (self.holder + 1) % self.scene.custodians.len();
                ("somebody else's share", other, self.ask(&self.share(), self.key(), index))
            }
            _ => return self.brings_it_twice().await,
        };
        if let Some(answer) = self.offer(holder, ask).await {
            self.scene.promises.threshold.bad(what, &answer);
        }
    }

    /// The second time it is refused, if the first was accepted in the same ceremony.
    async fn brings_it_twice(&self) {
        if let Some(Ok(first)) = self.brings_the_share().await
            && !first.progress.complete
        {
            let again = self.offer(self.holder, self.ask(&self.share(), self.key(), self.index())).await;
            if let Some(answer) = again {
                self.scene.promises.threshold.bad("a share that was brought before", &answer);
            }
        }
    }

    fn forged(&self) -> Share {
        let shares = self.scene.shares.get().expect("nobody opens before the founding");
        let mut payload = shares[self.holder].clone();
        let end = payload.len() - 32;
        payload[end..].copy_from_slice(&self.dice.bytes::<32>());
        Share::from_payload(&payload).expect("the form of a share")
    }

    fn ask(&self, share: &Share, key: &CeremonyKey, index: u8) -> OfferAsk {
        let bearer = &self.scene.custodians[self.holder].guest.identity;
        let mut chance = Chance::grow(Fresh::drawn(self.dice.bytes()));
        let sealed_share = seal_share(key, bearer, share, &mut chance).expect("an X-Wing key");
        let proof = share.prove(&key.challenge(index, bearer));
        OfferAsk { ceremony: self.key().ceremony, index, sealed_share, proof }
    }

    /// Brings it to whichever node is at hand.
    async fn offer(&self, bearer: usize, ask: OfferAsk) -> Option<Result<Offered, Failure>> {
        let lives = self.scene.house.lives();
        let node = if self.dice.once_in(2) { self.begun.progress.host } else { self.dice.pick(&lives)?.id };
        let guest = &self.scene.custodians[bearer].guest;
        let errand = Errand { guest, ..Errand::of_root(self.scene, Operation::OfferShare, self.dice) };
        let offered =
            errand.run(node, |life, visit| Box::pin(async move { life.node.service().offer_share(visit, ask).await }));
        let answer = offered.await.answer?;
        self.note(&answer);
        Some(answer)
    }

    fn note(&self, answer: &Result<Offered, Failure>) {
        let far = |p: &Progress| format!("{} of {}", p.accepted.len(), p.threshold);
        let said = answer.as_ref().map(|offered| far(&offered.progress)).map_err(Failure::to_string);
        self.scene.trace.tell(0, &format!("custodian {}: {said:?}", self.index()));
    }
}
