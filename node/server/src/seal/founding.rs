//! Founding (DESIGN §7): gathers enrolments, agrees on a genesis, deals the shares, writes the first transaction.

use crate::peers::{self, ANSWER_WAIT};
use crate::service::Service;
use bytes::Bytes;
use claviger_core::chance::Chance;
use claviger_core::codec::{Canonical, Writer};
use claviger_core::crypto::{self, sha256};
use claviger_core::decide::{self, Dealt, FoundAsk as FoundParts};
use claviger_core::failure::{Cause, Failure, Refused, Why};
use claviger_core::keyring::Keyring;
use claviger_core::name::{DiskId, Identity, Lineage, NodeId, Signature, TxnId, VerifyingKey};
use claviger_core::policy::GrantRecord;
use claviger_core::roster::{Countersignature, CustodianKeys, Founding, Genesis, Member, Role, Roster};
use claviger_core::share::ShareFile;
use claviger_core::txn::{Batch, Outcome, SignedBatch};
use claviger_proto::peer::v1 as peer;
use claviger_proto::peer::v1::{found_request, found_response};
use claviger_world::network::{CallFailed, FrameKind, PeerCertificate};
use claviger_world::{entropy, runtime};
use prost::Message;
use std::sync::Arc;
use std::time::Duration;

/// What an enrolment's signature is over starts with this.
const ENROL_DOMAIN: &[u8] = b"claviger/v1/enrol\0";

/// How long a founding that has no outcome yet is left alone.
const AGAIN_AFTER: Duration = Duration::from_millis(200);

/// What is asked of a founding.
#[derive(Clone, PartialEq, Eq)]
pub struct FoundAsk {
    /// Shares that open; 0 for a static slot.
    pub threshold: u8,
    /// Who is to hold one, in order of index.
    pub custodians: Vec<CustodianKeys>,
    /// Who becomes administrator.
    pub administrators: Vec<Identity>,
    /// Rights that are there from the start: for development nodes.
    pub grants: Vec<GrantRecord>,
}

/// What a founding leaves in the hands of its caller.
#[derive(Clone)]
pub struct Founded {
    /// The cluster, for ever.
    pub lineage: Lineage,
    /// For each custodian the file that holds the share, sealed to them. Stored nowhere else.
    pub shares: Vec<(Identity, String)>,
    /// The first transaction.
    pub sequence: u64,
}

impl Service {
    /// Founds the cluster, to the end, whether or not the caller still waits: shares that were dealt must reach somebody.
    /// The caller has been judged.
    pub(crate) async fn found(self: &Arc<Self>, ask: FoundAsk) -> Result<Founded, Failure> {
        let service = self.clone();
        let founding = runtime::spawn(async move {
            let founded = service.found_alone(ask.clone()).await?;
            *service.founded.lock() = Some((ask, founded.clone()));
            Ok(founded)
        });
        founding.await.unwrap_or(Err(UNFINISHED))
    }

    /// What the last founding by this process came to, once more: for a founder whose answer was lost. The share files are
    /// sealed to their custodians. Only for the same ask, keys and all; forgotten with the first share that is accepted here,
    /// and when this node is opened, whoever hosted the ceremony.
    pub(crate) fn founded_before(&self, founder: &Identity, ask: &FoundAsk) -> Option<Founded> {
        let kept = self.founded.lock();
        let (asked, founded) = kept.as_ref()?;
        (self.config.founders.contains(founder) && asked == ask).then(|| founded.clone())
    }

    async fn found_alone(&self, ask: FoundAsk) -> Result<Founded, Failure> {
        let _alone = self.founding.try_lock().map_err(|_| Why::Contended)?;
        if self.ledger.view().head().is_some() {
            return Err(Refused::AlreadyFounded.into());
        }
        if self.restored_here().is_some() {
            return Err(Refused::BadRequest("a node without a restored snapshot: start it again to forget it").into());
        }
        self.check_found(&ask)?;
        let mut chance = entropy::chance(&*self.world.entropy);
        let keyring = Keyring::draw(&mut chance);
        let genesis = self.genesis(&ask, &keyring, &mut chance).await?;
        let founding = self.agree(genesis).await?;
        self.write_founding(ask, founding, keyring, chance).await
    }

    fn check_found(&self, ask: &FoundAsk) -> Result<(), Failure> {
        let count = ask.custodians.len();
        let by_custodians = self.config.unseal.by_custodians();
        if ask.administrators.is_empty() {
            return Err(Refused::BadRequest("at least one administrator").into());
        }
        if !by_custodians && (count > 0 || ask.threshold > 0) {
            return Err(Refused::BadRequest("no custodians: the configuration names a static slot").into());
        }
        if by_custodians && !(2..=count).contains(&usize::from(ask.threshold)) {
            return Err(Refused::BadRequest("a threshold from 2 to the number of custodians").into());
        }
        if ask.custodians.iter().any(|c| recipient(c).is_err()) {
            return Err(BAD_RECIPIENT.into());
        }
        check_people(ask)?;
        let mut names: Vec<_> = ask.custodians.iter().map(|c| &c.identity).collect();
        let mut keys: Vec<_> = ask.custodians.iter().map(|c| &c.recipient).collect();
        names.sort_unstable();
        keys.sort_unstable();
        if !names.is_sorted_by(|a, b| a < b) || !keys.is_sorted_by(|a, b| a < b) {
            return Err(Refused::BadRequest("every custodian once, each with a recipient of their own").into());
        }
        Ok(())
    }

    async fn genesis(&self, ask: &FoundAsk, keyring: &Keyring, chance: &mut Chance) -> Result<Genesis, Failure> {
        let nonce: [u8; 32] = chance.fresh().spend();
        let mut members = vec![self.own_line()];
        for node in self.configured_others() {
            members.push(self.enrolled(node, &nonce).await?);
        }
        members.sort_unstable_by_key(|m| m.node);
        Ok(Genesis {
            cluster: self.config.cluster.clone(),
            region: self.config.region.clone(),
            nonce,
            founded_at: self.world.clock.now(),
            threshold: ask.threshold,
            custodians: ask.custodians.clone(),
            txn_public: keyring.txn_key().public,
            roster: Roster::first(members),
        })
    }

    /// This node's line in a roster.
    pub(crate) fn own_line(&self) -> Member {
        let (node, key) = (self.config.node, self.config.identity.public());
        Member { node, key, disk: self.ledger.disk_id(), role: Role::Voter }
    }

    async fn enrolled(&self, node: NodeId, nonce: &[u8; 32]) -> Result<Member, Failure> {
        let enrol = peer::Enrol {
            nonce: nonce.to_vec().into(),
            cluster: self.config.cluster.to_string(),
            region: self.config.region.to_string(),
        };
        let (from, said) = self.ask_founding(node, found_request::Step::Enrol(enrol)).await?;
        let found_response::Step::Enrolment(line) = said else { return Err(STRANGE_ANSWER) };
        enrolment(&line, &from, nonce).ok_or(STRANGE_ANSWER)
    }

    async fn ask_founding(
        &self,
        node: NodeId,
        step: found_request::Step,
    ) -> Result<(PeerCertificate, found_response::Step), Failure> {
        let question = peer::FoundRequest { step: Some(step) };
        let asked = self.ask::<_, peer::FoundResponse>(node, FrameKind::Found, &question, ANSWER_WAIT).await;
        match asked {
            Ok((from, peer::FoundResponse { step: Some(step) })) => Ok((from, step)),
            Ok(_) => Err(STRANGE_ANSWER),
            Err(CallFailed::Refused(why)) => {
                tracing::warn!(node = node.0, why, "a node refuses the founding");
                Err(Refused::BadRequest("nodes that agree to be founded; see the founder's log").into())
            }
            Err(CallFailed::Unreachable | CallFailed::Late) => {
                tracing::warn!(node = node.0, "a configured node cannot be reached for the founding");
                Err(Why::NoQuorum.into())
            }
        }
    }

    /// Pins the genesis everywhere and gathers the signatures under it.
    async fn agree(&self, genesis: Genesis) -> Result<Founding, Failure> {
        let bytes = genesis.signed_bytes();
        let own = crypto::sign(&self.config.identity, &bytes);
        self.ledger.pin_genesis(&genesis).await.map_err(|_| UNFINISHED)?;
        let step = peer::Genesis { genesis: genesis.to_bytes().into(), signature: own.0.to_vec().into() };
        let mut countersignatures = Vec::with_capacity(genesis.roster.members.len());
        for member in &genesis.roster.members {
            let signature = match member.node == self.config.node {
                true => own,
                false => self.countersigned(member, &step, &bytes).await?,
            };
            countersignatures.push(Countersignature { node: member.node, signature });
        }
        Ok(Founding { genesis, countersignatures })
    }

    async fn countersigned(&self, member: &Member, step: &peer::Genesis, bytes: &[u8]) -> Result<Signature, Failure> {
        let (_, said) = self.ask_founding(member.node, found_request::Step::Genesis(step.clone())).await?;
        let found_response::Step::Countersignature(given) = said else { return Err(STRANGE_ANSWER) };
        let signature = given.signature.as_ref().try_into().map(Signature).map_err(|_| STRANGE_ANSWER)?;
        let good = given.node == member.node.0 && crypto::verify(&member.key, bytes, &signature);
        if good { Ok(signature) } else { Err(STRANGE_ANSWER) }
    }

    async fn write_founding(
        &self,
        ask: FoundAsk,
        founding: Founding,
        mut keyring: Keyring,
        mut chance: Chance,
    ) -> Result<Founded, Failure> {
        let lineage = Lineage(sha256(&[&founding.genesis.signed_bytes()]).0);
        let voters = founding.genesis.roster.members.iter().map(|m| m.node).collect();
        let static_key = self.config.unseal.static_key();
        let parts = FoundParts { founding, administrators: ask.administrators, grants: ask.grants, static_key };
        let found = decide::found(parts, &mut keyring, &mut chance)?;
        let shares = found.shares.iter().map(share_file).collect::<Result<Vec<_>, _>>()?;
        let id = found.txn.id;
        let batch = Batch { lineage, generation: 1, author: self.config.node, signer: 1, txns: vec![found.txn] };
        let signed = keyring.sign_batch(batch);
        self.ledger.initialize(&voters).await.map_err(|_| UNFINISHED)?;
        match self.founding_outcome(id, signed).await {
            Outcome::Accepted(sequence) => Ok(Founded { lineage, shares, sequence }),
            Outcome::Refused(_) => Err(Cause("the founding was refused by our own state machine").into()),
        }
    }

    /// Proposes the founding until its outcome is known: the same batch again and again, which is safe.
    async fn founding_outcome(&self, id: TxnId, signed: SignedBatch) -> Outcome {
        loop {
            if let Some(outcome) = self.ledger.outcome(&id) {
                return outcome;
            }
            match self.ledger.propose_signed(signed.clone(), ANSWER_WAIT).await {
                Ok(outcome) => return outcome,
                Err(why) => tracing::warn!(?why, "the founding waits for a majority of the nodes"),
            }
            runtime::sleep(AGAIN_AFTER).await;
        }
    }

    /// Clears what an unfinished founding left on every node that can be reached.
    pub(crate) async fn abandon(&self) -> Result<(), Failure> {
        let _alone = self.founding.try_lock().map_err(|_| Why::Contended)?;
        let Some(lineage) = self.ledger.lineage() else { return Ok(()) };
        if self.ledger.founding_begun() {
            return Err(Refused::AlreadyFounded.into());
        }
        for ask in [true, false] {
            for node in self.configured_others() {
                let step = peer::Abandon { lineage: lineage.0.to_vec().into(), ask };
                self.ask_founding(node, found_request::Step::Abandon(step)).await?;
            }
        }
        self.ledger.abandon_genesis().await.map_err(|_| Refused::AlreadyFounded.into())
    }

    /// Answers a founder.
    pub(crate) async fn hear_founding(&self, from: PeerCertificate, body: Bytes) -> Result<Bytes, String> {
        if !self.config.addresses.contains_key(&from.claims) {
            return Err("the founder is not in this node's configuration".into());
        }
        let step = peers::read::<peer::FoundRequest>(body)?.step.ok_or("the frame is empty")?;
        let answer = match step {
            found_request::Step::Enrol(enrol) => found_response::Step::Enrolment(self.enrol(&enrol)?),
            found_request::Step::Genesis(genesis) => {
                found_response::Step::Countersignature(self.countersign(&from, &genesis).await?)
            }
            found_request::Step::Abandon(abandon) => {
                self.hear_abandon(&abandon).await?;
                found_response::Step::Abandoned(peer::Abandoned {})
            }
        };
        Ok(peer::FoundResponse { step: Some(answer) }.encode_to_vec().into())
    }

    fn enrol(&self, enrol: &peer::Enrol) -> Result<peer::Enrolment, String> {
        if self.ledger.genesis().is_some() {
            return Err("this node belongs to a cluster, or to a founding that was not finished".into());
        }
        if self.restored_here().is_some() {
            return Err("this node waits for the mandate to go on with a restored snapshot".into());
        }
        if enrol.cluster != self.config.cluster.as_str() || enrol.region != self.config.region.as_str() {
            return Err("this node is configured for another cluster or region".into());
        }
        let nonce: [u8; 32] = enrol.nonce.as_ref().try_into().map_err(|_| "the nonce is not of 32 bytes")?;
        let line = self.own_line();
        let signature = crypto::sign(&self.config.identity, &enrolment_bytes(&nonce, &line));
        Ok(peer::Enrolment {
            node: line.node.0,
            disk: line.disk.0.to_vec().into(),
            key: line.key.0.to_vec().into(),
            signature: signature.0.to_vec().into(),
        })
    }

    async fn countersign(
        &self,
        from: &PeerCertificate,
        said: &peer::Genesis,
    ) -> Result<peer::Countersignature, String> {
        let genesis = Genesis::from_bytes(&said.genesis).map_err(|e| e.to_string())?;
        let bytes = genesis.signed_bytes();
        let signature = said.signature.as_ref().try_into().map(Signature).map_err(|_| "the signature is cut")?;
        let own = self.own_line();
        let ours = genesis.roster.member(own.node) == Some(&own);
        let theirs = genesis.roster.member(from.claims).is_some_and(|m| m.key == from.key);
        let configured = genesis.cluster == self.config.cluster && genesis.region == self.config.region;
        let nodes = genesis.roster.members.iter().map(|m| &m.node).eq(self.config.addresses.keys());
        if !(ours && theirs && configured && nodes && crypto::verify(&from.key, &bytes, &signature)) {
            return Err("the genesis does not say what this node's configuration says".into());
        }
        self.ledger.pin_genesis(&genesis).await.map_err(|e| e.to_string())?;
        let own = crypto::sign(&self.config.identity, &bytes);
        Ok(peer::Countersignature { node: self.config.node.0, signature: own.0.to_vec().into() })
    }

    async fn hear_abandon(&self, said: &peer::Abandon) -> Result<(), String> {
        match self.ledger.lineage() {
            None => Ok(()),
            Some(_) if self.ledger.founding_begun() => Err("the log of this node holds a founding".into()),
            Some(lineage) if lineage.0[..] == said.lineage[..] && said.ask => Ok(()),
            Some(lineage) if lineage.0[..] == said.lineage[..] => {
                self.ledger.abandon_genesis().await.map_err(|e| e.to_string())
            }
            Some(_) => Err("this node belongs to another lineage".into()),
        }
    }
}

fn recipient(custodian: &CustodianKeys) -> Result<age::x25519::Recipient, Refused> {
    custodian.recipient.parse().map_err(|_| BAD_RECIPIENT)
}

/// What would be refused later, when every node has the genesis already, is refused first.
fn check_people(ask: &FoundAsk) -> Result<(), Failure> {
    let mut users: Vec<_> = ask.grants.iter().map(|grant| &grant.identity).collect();
    users.sort_unstable();
    if !users.is_sorted_by(|a, b| a < b) || ask.grants.iter().any(|grant| grant.grants.is_empty()) {
        return Err(Refused::BadRequest("each key user once, with at least one key").into());
    }
    if users.iter().any(|user| ask.administrators.contains(user)) {
        return Err(Refused::RolesExclude.into());
    }
    Ok(())
}

const BAD_RECIPIENT: Refused = Refused::BadRequest("an age recipient (age1...) for every custodian");

/// A share on its way to its holder: sealed to their age recipient, with what may be said in clear. age draws its own
/// randomness; nothing of this is replicated.
fn share_file(dealt: &Dealt) -> Result<(Identity, String), Failure> {
    let holder = &dealt.holder;
    let recipient = recipient(holder)?;
    let payload = dealt.share.to_payload();
    let armor = age::encrypt_and_armor(&recipient, payload.expose()).map_err(|_| Cause("age does not encrypt"))?;
    let file = ShareFile {
        cluster: dealt.cluster.clone(),
        context: dealt.share.context().clone(),
        slot: dealt.slot,
        index: dealt.share.index(),
        holder: holder.identity.clone(),
        checksum: dealt.share.digest(),
        armor,
    };
    Ok((holder.identity.clone(), file.to_string()))
}

/// Reads an enrolment, when it is fresh, signed by the key that it names, and given over that very key's connection.
fn enrolment(line: &peer::Enrolment, from: &PeerCertificate, nonce: &[u8; 32]) -> Option<Member> {
    let member = Member {
        node: NodeId(line.node),
        key: line.key.as_ref().try_into().ok().map(VerifyingKey)?,
        disk: line.disk.as_ref().try_into().ok().map(DiskId)?,
        role: Role::Voter,
    };
    let signature = line.signature.as_ref().try_into().ok().map(Signature)?;
    let good = member.node == from.claims
        && member.key == from.key
        && crypto::verify(&member.key, &enrolment_bytes(nonce, &member), &signature);
    good.then_some(member)
}

fn enrolment_bytes(nonce: &[u8; 32], line: &Member) -> Vec<u8> {
    let mut w = Writer::default();
    w.raw(ENROL_DOMAIN).raw(nonce);
    line.write(&mut w);
    w.into_bytes()
}

const STRANGE_ANSWER: Failure = Failure::Broken(Cause("a node answered the founding with something else"));
const UNFINISHED: Failure =
    Failure::Broken(Cause("the founding was not finished; clear it with `claviger operator init --abandon`"));
