//! The root key on its way between nodes: given by an open node to peers that prove their enrolled identity.

use crate::peers::{self, ANSWER_WAIT};
use crate::service::{ReadAsk, Service};
use bytes::Bytes;
use claviger_core::codec::Canonical;
use claviger_core::kem::{KemPublic, KemSecret};
use claviger_core::name::{Lineage, NodeId, Signature};
use claviger_core::planted;
use claviger_core::roster::{Member, Role};
use claviger_core::secret::Secret32;
use claviger_core::transit::{self, OneTimeKey};
use claviger_proto::peer::v1 as peer;
use claviger_proto::peer::v1::{root_request, root_response};
use claviger_world::network::FrameKind;
use claviger_world::{entropy, runtime};
use prost::Message;
use std::time::Duration;

/// How often a peer is asked to take the root key.
const ATTEMPTS: u32 = 3;
/// Longest that a peer takes to say under which one-time key it would open. So much younger than a sealing shares must be
/// to open the node all the same.
const HELLO_WAIT: Duration = Duration::from_secs(2);
/// How long a peer is left alone between.
const BETWEEN_ATTEMPTS: Duration = Duration::from_millis(500);

/// A one-time key that this node has signed and that nobody has used yet. Only the newest counts.
pub struct Expecting {
    key: OneTimeKey,
    secret: KemSecret,
}

/// How often this node was sealed since it started, and when last alone: shares that were brought before do not open it
/// again, on whatever way the root key comes. Of a seal-all the seal epoch tells as much, and exactly.
#[derive(Default)]
pub struct Sealings {
    count: u64,
    alone: Option<Duration>,
}

impl Sealings {
    /// It is sealed; `alone`: when, by the node's stopwatch, if not with the whole region.
    pub fn add(&mut self, alone: Option<Duration>) {
        *self = Sealings { count: self.count + 1, alone: alone.or(self.alone) };
    }

    /// It was opened since, by shares that were brought after: what is older finds it open, or sealed by the epoch.
    pub fn opened(&mut self) {
        self.alone = None;
    }

    /// How often.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// Whether it was sealed alone, no longer ago than that.
    fn within(&self, age: Duration, now: Duration) -> bool {
        self.alone.is_some_and(|last| now.saturating_sub(last) <= age)
    }
}

impl Service {
    /// Gives the root key, which shares have opened at `opened_at`, to every other member that proves itself, and names
    /// those that are open then.
    pub(crate) async fn hand_over(&self, opened_at: Duration) -> Vec<NodeId> {
        let members = self.ledger.view().roster().map(|r| r.members.clone()).unwrap_or_default();
        let others = members.into_iter().filter(|m| m.node != self.config.node && m.role != Role::Retired);
        let given = others.map(|member| async move {
            match self.give_patiently(&member, opened_at).await {
                Ok(true) => Some(member.node),
                Ok(false) => None,
                Err(why) => {
                    tracing::warn!(node = member.node.0, why, "a peer was not opened");
                    None
                }
            }
        });
        futures_util::future::join_all(given).await.into_iter().flatten().collect()
    }

    /// A peer that is just starting, or electing, gets another chance.
    async fn give_patiently(&self, member: &Member, opened_at: Duration) -> Result<bool, String> {
        let mut given = self.give(member, opened_at).await;
        for _ in 1..ATTEMPTS {
            if given.is_ok() {
                break;
            }
            runtime::sleep(BETWEEN_ATTEMPTS).await;
            given = self.give(member, opened_at).await;
        }
        given
    }

    async fn give(&self, member: &Member, opened_at: Duration) -> Result<bool, String> {
        let (lineage, seal_epoch) = self.opening()?;
        let nonce: [u8; 32] = entropy::fresh(&*self.world.entropy).spend();
        let age = self.world.clock.awake_and_asleep().saturating_sub(opened_at);
        let age_ms = age.as_millis().try_into().unwrap_or(u64::MAX);
        let hello = root_request::Step::Hello(peer::Hello { nonce: nonce.to_vec().into(), age_ms });
        let root_response::Step::Key(said) = self.ask_root(member, hello, HELLO_WAIT).await? else {
            return Err("it answered with something else".into());
        };
        let key =
            one_time_key(&said, lineage, seal_epoch, member, nonce).ok_or("its one-time key is not signed by it")?;
        let sealed = self.sealed_root(&key)?;
        let give = root_request::Step::Give(peer::Give { sealed_root: sealed.into() });
        match self.ask_root(member, give, ANSWER_WAIT).await? {
            root_response::Step::Opened(said) => Ok(said.open),
            root_response::Step::Key(_) => Err("it answered with something else".into()),
        }
    }

    /// The cluster and the seal epoch of this node's opening.
    fn opening(&self) -> Result<(Lineage, u64), String> {
        let opened = self.seal.opened().map_err(|e| e.to_string())?;
        Ok((opened.lineage, opened.seal_epoch))
    }

    /// The root key for a peer, if this node is still open in the epoch that the peer's key is for.
    fn sealed_root(&self, key: &OneTimeKey) -> Result<Vec<u8>, String> {
        let opened = self.seal.opened().map_err(|e| e.to_string())?;
        if opened.seal_epoch != key.seal_epoch && !planted!(OldEpochOpens) {
            return Err("the region was sealed meanwhile".into());
        }
        let sealed = transit::seal_root(&opened.root, key, &mut entropy::chance(&*self.world.entropy));
        sealed.ok_or_else(|| "its one-time key is no key".into())
    }

    async fn ask_root(
        &self,
        member: &Member,
        step: root_request::Step,
        wait: Duration,
    ) -> Result<root_response::Step, String> {
        let question = peer::RootRequest { step: Some(step) };
        let asked = self.ask::<_, peer::RootResponse>(member.node, FrameKind::Root, &question, wait).await;
        let (from, said) = asked.map_err(|e| e.to_string())?;
        if from.key != member.key {
            return Err("its certificate is not that of the member".into());
        }
        said.step.ok_or_else(|| "its answer is empty".into())
    }

    /// Answers a peer that wants to hand over the root key.
    pub(crate) async fn hear_root(&self, body: Bytes) -> Result<Bytes, String> {
        let step = peers::read::<peer::RootRequest>(body)?.step.ok_or("the frame is empty")?;
        let answer = match step {
            root_request::Step::Hello(hello) => root_response::Step::Key(self.expect_root(&hello)?),
            root_request::Step::Give(give) => {
                root_response::Step::Opened(peer::Opened { open: self.take_root(&give).await? })
            }
        };
        Ok(peer::RootResponse { step: Some(answer) }.encode_to_vec().into())
    }

    fn expect_root(&self, hello: &peer::Hello) -> Result<peer::OneTimeKey, String> {
        let lineage = self.ledger.lineage().ok_or("this node belongs to no cluster yet")?;
        let nonce: [u8; 32] = hello.nonce.as_ref().try_into().map_err(|_| "the nonce is not of 32 bytes")?;
        // The sender's age is as of when it asked: on the way the question may have become older by its own deadline.
        let age = Duration::from_millis(hello.age_ms).saturating_add(HELLO_WAIT);
        if self.sealings.lock().within(age, self.world.clock.awake_and_asleep()) && !planted!(OldEpochOpens) {
            return Err("this node was sealed after those shares were brought".into());
        }
        let secret = KemSecret::from_seed(Secret32::of(entropy::fresh(&*self.world.entropy)));
        let seal_epoch = self.ledger.view().head().ok_or("this node has not caught up")?.header.seal_epoch;
        let key = OneTimeKey { lineage, to: self.config.node, seal_epoch, nonce, public: secret.public() };
        let signature = key.sign(&self.config.identity);
        let said = peer::OneTimeKey { public: key.public.0.to_vec().into(), signature: signature.0.to_vec().into() };
        *self.expecting.lock() = Some(Expecting { key, secret });
        Ok(said)
    }

    /// Opens this node with a root key that a peer sealed to the one-time key, once it has caught up.
    async fn take_root(&self, give: &peer::Give) -> Result<bool, String> {
        let sealings = self.sealings.lock().count();
        let expecting = self.expecting.lock().take().ok_or("this node expects no root key")?;
        let reading = self.reading(ReadAsk::default()).await.map_err(|e| e.to_string())?;
        let head = reading.view.head().ok_or("this node has not caught up")?;
        if head.header.seal_epoch != expecting.key.seal_epoch && !planted!(OldEpochOpens) {
            return Err("the region was sealed meanwhile".into());
        }
        self.believed().await.map_err(|e| e.to_string())?;
        let root = transit::open_root(&give.sealed_root, &expecting.key, &expecting.secret);
        let root = root.ok_or("the root key was sealed for another moment")?;
        self.open_unless_sealed(root, &reading.view, sealings).map_err(|e| e.to_string())?;
        Ok(true)
    }
}

fn one_time_key(
    said: &peer::OneTimeKey,
    lineage: Lineage,
    seal_epoch: u64,
    member: &Member,
    nonce: [u8; 32],
) -> Option<OneTimeKey> {
    let public = KemPublic::from_bytes(&said.public).ok()?;
    let signature = said.signature.as_ref().try_into().ok().map(Signature)?;
    let key = OneTimeKey { lineage, to: member.node, seal_epoch, nonce, public };
    key.verify(&member.key, &signature).then_some(key)
}
