//! Founding, opening and sealing, as callers ask for them. Ceremonies are found and relayed whichever node is asked.

use super::{ReadAsk, Service, Visit};
use crate::peers::{self, ANSWER_WAIT};
use crate::seal::{FoundAsk, Founded, Offer, OpenCeremony};
use bytes::Bytes;
use claviger_core::ceremony::{Progress, ShareRefused, ShareWhy, SignedCeremonyKey};
use claviger_core::codec::Canonical;
use claviger_core::decide;
use claviger_core::failure::{Cause, Failure, Refused, Why};
use claviger_core::mandate::SignedMandate;
use claviger_core::name::{CeremonyId, Identity, NodeId, Signature, VerifyingKey};
use claviger_core::planted;
use claviger_core::policy::Cluster;
use claviger_core::policy::action::{
    AbandonInitialize, BeginUnseal, GetCeremony, Initialize, OfferShare, SealAll, SealNode,
};
use claviger_core::time::UnixMs;
use claviger_ledger::LedgerView;
use claviger_ledger::Proof;
use claviger_proto::peer::v1 as peer;
use claviger_proto::peer::v1::{ceremony_request, ceremony_response};
use claviger_world::network::{CallFailed, FrameKind, PeerCertificate};
use futures_util::future::join_all;
use prost::Message;
use std::sync::Arc;
use std::time::Duration;

/// Longest that a node looks for a ceremony at its peers.
const FIND_WAIT: Duration = Duration::from_secs(1);

/// A ceremony that runs, with what custodians' tools need to trust it.
pub struct Begun {
    /// How far it has come.
    pub progress: Progress,
    /// The one-time key, signed by its host.
    pub signed: SignedCeremonyKey,
    /// The host's identity key.
    pub host_key: VerifyingKey,
    /// That the host belongs to the cluster.
    pub proof: Proof,
    /// The mandate by which the host goes on alone, while the chain does not have it.
    pub mandate: Option<SignedMandate>,
}

/// A share as a caller offers it.
pub struct OfferAsk {
    /// To which ceremony.
    pub ceremony: CeremonyId,
    /// x of the share.
    pub index: u8,
    /// Sealed to the one-time key.
    pub sealed_share: Vec<u8>,
    /// Under the share's proof key.
    pub proof: Signature,
}

/// What became of an accepted share.
pub struct Offered {
    /// How far the ceremony has come.
    pub progress: Progress,
    /// Nodes that this share opened; none before the last.
    pub opened_nodes: Vec<NodeId>,
}

impl Service {
    /// Founds the cluster.
    pub async fn initialize(self: &Arc<Self>, visit: &Visit, ask: FoundAsk) -> Result<Founded, Failure> {
        if let Some(founded) = self.founded_before(visit.caller()?.identity(), &ask) {
            return Ok(founded);
        }
        let _leave = self.gate.authorise::<Initialize>(visit.caller()?, Cluster, &self.ledger.view(), None)?;
        self.found(ask).await
    }

    /// Clears what an unfinished founding left behind.
    pub async fn abandon_initialize(&self, visit: &Visit, (): ()) -> Result<(), Failure> {
        let _leave = self.gate.authorise::<AbandonInitialize>(visit.caller()?, Cluster, &self.ledger.view(), None)?;
        self.abandon().await
    }

    /// Finds the ceremony that runs, else hosts one.
    pub async fn begin_unseal(&self, visit: &Visit, (): ()) -> Result<Begun, Failure> {
        self.answered(visit.operation())?;
        let reading = self.reading(ReadAsk::default()).await?;
        let caller = visit.caller()?;
        let _leave = self.permit::<BeginUnseal>(caller, Cluster, &reading)?;
        if !self.config.unseal.by_custodians() {
            return Err(Refused::BadRequest("a cluster that custodians open; this one has a static slot").into());
        }
        let (view, opener) = (reading.view.clone(), caller.identity().clone());
        drop(reading);
        if let Some(begun) = self.found_ceremony().await? {
            return Ok(begun);
        }
        self.believed().await?;
        self.host_ceremony(&opener, &view)?;
        self.hosted()?.ok_or(Why::Contended.into())
    }

    /// The progress of a ceremony, from whichever node is asked.
    pub async fn get_ceremony(&self, visit: &Visit, id: CeremonyId) -> Result<Progress, Failure> {
        self.answered(visit.operation())?;
        let reading = self.reading(ReadAsk::default()).await?;
        let _leave = self.permit::<GetCeremony>(visit.caller()?, Cluster, &reading)?;
        drop(reading);
        let progress = self.ceremonies().await.into_iter().map(|begun| begun.progress).find(|p| p.id == id);
        Ok(progress.ok_or(Refused::NoCeremony)?)
    }

    /// Offers a share, here or through its host.
    pub async fn offer_share(self: &Arc<Self>, visit: &Visit, ask: OfferAsk) -> Result<Offered, Failure> {
        self.answered(visit.operation())?;
        let reading = self.reading(ReadAsk::default()).await?;
        let caller = visit.caller()?;
        let _leave = self.permit::<OfferShare>(caller, Cluster, &reading)?;
        let bearer = caller.identity().clone();
        let view = reading.view.clone();
        drop(reading);
        let OfferAsk { ceremony, index, sealed_share, proof } = ask;
        let offer = Offer { ceremony, index, sealed_share, proof, bearer };
        match self.ceremonies().await.into_iter().find(|begun| begun.progress.id == ceremony) {
            None => Err(Refused::NoCeremony.into()),
            Some(begun) if begun.progress.host == self.config.node => {
                let (progress, opened_nodes) = self.take_share(&offer, &view).await?;
                Ok(Offered { progress, opened_nodes })
            }
            Some(begun) => self.relay(begun.progress.host, offer).await,
        }
    }

    /// Seals this node: its keys are wiped before the answer.
    pub async fn seal_node(&self, visit: &Visit, (): ()) -> Result<(), Failure> {
        self.answered(visit.operation())?;
        let reading = self.reading(ReadAsk::default()).await?;
        let _leave = self.permit::<SealNode>(visit.caller()?, Cluster, &reading)?;
        drop(reading);
        self.shut_as(Some(self.world.clock.awake_and_asleep())).await;
        Ok(())
    }

    /// Seals every node of the region: a link of the header chain that each of them follows.
    pub async fn seal_all(&self, visit: &Visit, (): ()) -> Result<(u64, u64), Failure> {
        let done = self.change::<SealAll, u64>(visit, Cluster, None, decide::seal_all).await?;
        self.shut().await;
        Ok(done)
    }

    /// Refuses at once: no ceremony that was begun before counts any more, and a static slot does not open the node again
    /// before it starts anew. What is returned completes when the keys are wiped.
    pub(crate) fn shut(&self) -> impl Future<Output = ()> + Send + 'static {
        self.shut_as(None)
    }

    /// As [`Service::shut`]; `alone`: when this node is sealed, if not with the whole region.
    fn shut_as(&self, alone: Option<Duration>) -> impl Future<Output = ()> + Send + 'static {
        if !planted!(OldEpochOpens) {
            *self.ceremony.lock() = None;
            *self.expecting.lock() = None;
        }
        // After the ceremony is gone, before the keys are: whoever opens looks at it in between.
        self.sealings.lock().add(alone);
        self.seal.shut().drained()
    }

    /// Whether somebody sealed this node since it started: a static slot does not open it again then.
    pub(crate) fn sealed_by_hand(&self) -> bool {
        self.sealings.lock().count() > 0
    }

    /// The ceremony that this node hosts, with what its custodians check it by: that reads the whole header chain.
    fn hosted(&self) -> Result<Option<Begun>, Failure> {
        let Some((progress, signed)) = self.hosting(|open| (open.progress(), open.signed().clone())) else {
            return Ok(None);
        };
        let proof = self.ledger.proof().ok_or(Why::NotFounded)?;
        let (host_key, mandate) = (self.config.identity.public(), self.ledger.alone());
        Ok(Some(Begun { progress, signed, host_key, proof, mandate }))
    }

    /// How far the ceremony is that this node hosts.
    pub(crate) fn hosted_progress(&self) -> Option<Progress> {
        self.hosting(OpenCeremony::progress)
    }

    fn hosting<T>(&self, look: impl FnOnce(&OpenCeremony) -> T) -> Option<T> {
        let (now, view) = (self.world.clock.now(), self.ledger.view());
        let head = &view.head()?.header;
        let hosted = self.ceremony.lock();
        hosted.as_ref().filter(|c| !c.expired(now) && c.serves(head)).map(look)
    }

    /// The ceremony that still waits for shares, wherever it is hosted. Of several the furthest counts, and of equally far
    /// ones that with the lowest id, so that custodians who begin at different nodes at once meet in one.
    async fn found_ceremony(&self) -> Result<Option<Begun>, Failure> {
        let running = self.ceremonies().await.into_iter().filter(|begun| !begun.progress.complete);
        let furthest = |begun: &Begun| (std::cmp::Reverse(begun.progress.accepted.len()), begun.progress.id);
        Ok(running.min_by_key(furthest))
    }

    /// Every ceremony that some node hosts and that can be reached.
    async fn ceremonies(&self) -> Vec<Begun> {
        let find = peer::CeremonyRequest { step: Some(ceremony_request::Step::Find(peer::Find {})) };
        let asked = self.ledger.others().into_iter().map(|node| {
            let find = find.clone();
            async move { self.ask::<_, peer::CeremonyResponse>(node, FrameKind::Ceremony, &find, FIND_WAIT).await }
        });
        let mut all: Vec<Begun> = self.hosted().ok().flatten().into_iter().collect();
        let (view, proof) = (self.ledger.view(), self.ledger.proof());
        for (from, said) in join_all(asked).await.into_iter().flatten() {
            if let Some(ceremony_response::Step::Found(found)) = said.step {
                let begun = proof.as_ref().and_then(|proof| begun_in(&found, proof));
                all.extend(begun.filter(|begun| is_true(begun, &from, &view)));
            }
        }
        all
    }

    async fn relay(&self, host: NodeId, offer: Offer) -> Result<Offered, Failure> {
        let step = ceremony_request::Step::Offer(peer::Offer {
            ceremony: offer.ceremony.0.to_vec().into(),
            index: offer.index.into(),
            sealed_share: offer.sealed_share.into(),
            proof: offer.proof.0.to_vec().into(),
            bearer: offer.bearer.to_string(),
        });
        let question = peer::CeremonyRequest { step: Some(step) };
        let asked = self.ask::<_, peer::CeremonyResponse>(host, FrameKind::Ceremony, &question, ANSWER_WAIT).await;
        let (_, said) = asked.map_err(|why| match why {
            CallFailed::Unreachable | CallFailed::Late => Failure::Unavailable(Why::NoQuorum),
            CallFailed::Refused(_) => Failure::Refused(Refused::NoCeremony),
        })?;
        match said.step {
            Some(ceremony_response::Step::Offered(offered)) => {
                let progress = progress_in(&offered.progress).ok_or(STRANGE)?;
                let opened_nodes = offered.opened_nodes.into_iter().map(NodeId).collect();
                Ok(Offered { progress, opened_nodes })
            }
            Some(ceremony_response::Step::Refused(refused)) => Err(refused_in(&refused, offer.bearer).ok_or(STRANGE)?),
            Some(ceremony_response::Step::Found(_)) | None => Err(STRANGE),
        }
    }

    /// Answers a peer that looks for a ceremony, or relays a share to the one hosted here.
    pub(crate) async fn hear_ceremony(self: &Arc<Self>, body: Bytes) -> Result<Bytes, String> {
        let step = peers::read::<peer::CeremonyRequest>(body)?.step.ok_or("the frame is empty")?;
        let answer = match step {
            ceremony_request::Step::Find(_) => {
                let hosted = self.hosted().map_err(|e| e.to_string())?;
                ceremony_response::Step::Found(hosted.map_or_else(peer::Found::default, |begun| begun_out(&begun)))
            }
            ceremony_request::Step::Offer(offer) => self.hear_offer(offer).await?,
        };
        Ok(peer::CeremonyResponse { step: Some(answer) }.encode_to_vec().into())
    }

    async fn hear_offer(self: &Arc<Self>, said: peer::Offer) -> Result<ceremony_response::Step, String> {
        let cut = |_| "the offer is cut".to_string();
        let offer = Offer {
            ceremony: CeremonyId(said.ceremony.as_ref().try_into().map_err(cut)?),
            index: said.index.try_into().map_err(|_| "there is no share of that number")?,
            sealed_share: said.sealed_share.into(),
            proof: Signature(said.proof.as_ref().try_into().map_err(cut)?),
            bearer: said.bearer.parse().map_err(|_| "the bearer is no identity")?,
        };
        // The relaying node has authorised the bearer; the share's own proof says that it is theirs.
        let reading = self.reading(ReadAsk::default()).await.map_err(|e| e.to_string())?;
        let view = reading.view.clone();
        drop(reading);
        let taken = self.take_share(&offer, &view).await;
        self.page_relayed(&offer.bearer, &taken).map_err(|e| e.to_string())?;
        match taken {
            Ok((progress, opened)) => Ok(ceremony_response::Step::Offered(peer::Offered {
                progress: Some(progress_out(&progress)),
                opened_nodes: opened.into_iter().map(|n| n.0).collect(),
            })),
            Err(Failure::Refused(Refused::Share(refused))) => {
                Ok(ceremony_response::Step::Refused(peer::ShareRefused {
                    index: refused.index.into(),
                    holder: refused.holder.map(|h| h.to_string()).unwrap_or_default(),
                    why: u32::from(refused.why as u8),
                }))
            }
            Err(other) => Err(other.to_string()),
        }
    }
}

/// Whether a ceremony is hosted by the very member that speaks of it, signed by its identity key, and of the generation and
/// seal epoch that last.
fn is_true(begun: &Begun, from: &PeerCertificate, view: &LedgerView) -> bool {
    let (Some(head), Some(roster)) = (view.head().map(|link| &link.header), view.roster()) else { return false };
    let key = &begun.signed.key;
    let host = roster.member(from.claims).filter(|m| m.key == from.key);
    host.is_some_and(|m| begun.signed.verify(&m.key) && begun.host_key == m.key)
        && (key.host, begun.progress.host, begun.progress.id) == (from.claims, from.claims, key.ceremony)
        && (key.lineage, key.generation) == (head.lineage, head.generation)
        && (key.seal_epoch == head.seal_epoch || planted!(OldEpochOpens))
}

const STRANGE: Failure = Failure::Broken(Cause("the ceremony's host answered with something else"));

fn begun_out(begun: &Begun) -> peer::Found {
    let mut signed = begun.signed.key.to_bytes();
    signed.extend_from_slice(&begun.signed.signature.0);
    peer::Found {
        progress: Some(progress_out(&begun.progress)),
        signed_key: signed.into(),
        host_key: begun.host_key.0.to_vec().into(),
    }
}

/// The ceremony in an answer, if there is one that can be read.
fn begun_in(found: &peer::Found, proof: &Proof) -> Option<Begun> {
    let (key, signature) = found.signed_key.split_last_chunk::<64>()?;
    let key = claviger_core::ceremony::CeremonyKey::from_bytes(key).ok()?;
    Some(Begun {
        progress: progress_in(&found.progress)?,
        signed: SignedCeremonyKey { key, signature: Signature(*signature) },
        host_key: VerifyingKey(found.host_key.as_ref().try_into().ok()?),
        proof: proof.clone(),
        // Whoever goes on alone is not asked by others.
        mandate: None,
    })
}

fn progress_out(progress: &Progress) -> peer::Progress {
    let accepted = |a: &claviger_core::ceremony::Accepted| peer::AcceptedShare {
        index: a.index.into(),
        holder: a.holder.to_string(),
        bearer: a.bearer.to_string(),
        time_ms: a.time.0,
    };
    peer::Progress {
        id: progress.id.0.to_vec().into(),
        host: progress.host.0,
        threshold: progress.threshold.into(),
        opener: progress.opener.to_string(),
        opened_ms: progress.opened.0,
        expires_ms: progress.expires.0,
        accepted: progress.accepted.iter().map(accepted).collect(),
        missing: progress.missing.iter().map(Identity::to_string).collect(),
        complete: progress.complete,
    }
}

fn progress_in(said: &Option<peer::Progress>) -> Option<Progress> {
    let said = said.as_ref()?;
    let accepted = |a: &peer::AcceptedShare| {
        Some(claviger_core::ceremony::Accepted {
            index: a.index.try_into().ok()?,
            holder: a.holder.parse().ok()?,
            bearer: a.bearer.parse().ok()?,
            time: UnixMs(a.time_ms),
        })
    };
    Some(Progress {
        id: CeremonyId(said.id.as_ref().try_into().ok()?),
        host: NodeId(said.host),
        threshold: said.threshold.try_into().ok()?,
        opener: said.opener.parse().ok()?,
        opened: UnixMs(said.opened_ms),
        expires: UnixMs(said.expires_ms),
        accepted: said.accepted.iter().map(accepted).collect::<Option<_>>()?,
        missing: said.missing.iter().map(|m| m.parse().ok()).collect::<Option<_>>()?,
        complete: said.complete,
    })
}

fn refused_in(said: &peer::ShareRefused, bearer: Identity) -> Option<Failure> {
    let why = ShareWhy::ALL.iter().copied().find(|why| u32::from(*why as u8) == said.why)?;
    let holder = if said.holder.is_empty() { None } else { Some(said.holder.parse().ok()?) };
    Some(ShareRefused { index: said.index.try_into().ok()?, holder, bearer, why }.into())
}
