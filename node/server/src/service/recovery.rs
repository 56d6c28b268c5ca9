//! Going on when most voters are lost, or when nothing is left but a snapshot: a node gathers its custodians' mandate to
//! begin the next generation alone, ends, carries it out at its next start, and begins the generation when it is opened.

use super::{Service, Visit};
use crate::seal::Opened;
use claviger_core::ceremony::ShareRefused;
use claviger_core::chain::Chain;
use claviger_core::codec::Canonical;
use claviger_core::crypto::sha256;
use claviger_core::decide;
use claviger_core::failure::{Cause, Failure, Refused, Why};
use claviger_core::mandate::{Gathering, Ground, Mandate, SignedMandate};
use claviger_core::name::{Digest, Identity, NodeId, Signature};
use claviger_core::planted;
use claviger_core::policy::Cluster;
use claviger_core::policy::action::{BeginRecovery, ConsentToRecovery, GetRecovery, RestoreSnapshot};
use claviger_core::roster::{Custodians, Member, Role};
use claviger_core::slot::Root;
use claviger_core::snapshot::LogPlace;
use claviger_core::time::UnixMs;
use claviger_core::txn::{Batch, Outcome};
use claviger_ledger::{Company, Proof, RestoreFailed, Restored, Restoring};
use claviger_world::entropy;
use futures_util::future::join_all;
use futures_util::{Stream, StreamExt};
use std::collections::BTreeSet;
use std::time::Duration;

/// How long a mandate can be agreed to, in milliseconds.
const MANDATE_MS: u64 = 3_600_000;
/// What is wanted of a survivor that was told of links which it does not have.
const BEHIND: &str = "a node that has all of the header chain that it was told of: take the one that told it, or, should that \
                      be lost, start this one again";
/// What is wanted where most voters can be reached.
const LOST: &str = "a cluster that has lost most of its voters: they answer";
/// What is wanted where another survivor's log goes further.
const LONGER: &str = "the survivor with the longest log: another one has a longer";
/// Longest that the beginning of a generation waits to be applied, on the one node that votes.
const BEGIN_WAIT: Duration = Duration::from_secs(10);

/// A signature under a mandate.
pub struct ConsentAsk {
    /// Which mandate: its digest.
    pub mandate: Digest,
    /// The number of the share that signs.
    pub index: u8,
    /// See `Mandate::challenge`.
    pub signature: Signature,
}

/// A mandate that is being agreed to.
pub struct Recovery {
    /// What it is about, and who has signed.
    pub gathering: Gathering,
    /// Whether enough have: the node ends, and goes on alone when it is started again.
    pub given: bool,
    /// What the custodians' tools check it by.
    pub proof: Proof,
}

/// What a node knows of a mandate that it asks for.
pub(crate) struct Asked {
    gathering: Gathering,
    proof: Proof,
}

impl Asked {
    fn shown(&self) -> Recovery {
        Recovery { gathering: self.gathering.clone(), given: false, proof: self.proof.clone() }
    }
}

/// The state that a mandate is asked for.
struct Found {
    ground: Ground,
    chain: Chain,
    custodians: Custodians,
    proof: Proof,
}

impl Service {
    /// Has this node ask for a mandate, or tells of the one that it asks for. Needs no quorum, and is refused where there is
    /// one.
    pub async fn begin_recovery(&self, visit: &Visit, (): ()) -> Result<Recovery, Failure> {
        let (caller, view, opened) = (visit.caller()?, self.ledger.view(), self.seal.opened().ok());
        let _leave = self.gate.authorise::<BeginRecovery>(caller, Cluster, &view, opened.as_deref())?;
        drop((view, opened));
        if self.ledger.alone().is_some() {
            return Err(Refused::BadRequest("a node that has no mandate yet: open this one").into());
        }
        let found = self.found_state().await?;
        let mandate = self.mandate(&found)?;
        let mut asked = self.recovery.lock();
        // The same again goes on where it is, unless the node has gone on meanwhile.
        if !asked.as_ref().is_some_and(|asked| stands(asked, &mandate, self.world.clock.now())) {
            *asked = Some(Asked { gathering: Gathering::new(mandate, found.custodians), proof: found.proof });
        }
        Ok(asked.as_ref().map(Asked::shown).ok_or(Refused::NoCeremony)?)
    }

    /// The mandate that this node asks for.
    pub async fn get_recovery(&self, visit: &Visit, (): ()) -> Result<Recovery, Failure> {
        let (caller, view, opened) = (visit.caller()?, self.ledger.view(), self.seal.opened().ok());
        let _leave = self.gate.authorise::<GetRecovery>(caller, Cluster, &view, opened.as_deref())?;
        Ok(self.recovery.lock().as_ref().map(Asked::shown).ok_or(Refused::NoCeremony)?)
    }

    /// Takes a custodian's signature. With the last one the mandate is on this node's disk, and the node ends.
    pub async fn consent_to_recovery(&self, visit: &Visit, ask: ConsentAsk) -> Result<Recovery, Failure> {
        let (caller, view, opened) = (visit.caller()?, self.ledger.view(), self.seal.opened().ok());
        let _leave = self.gate.authorise::<ConsentToRecovery>(caller, Cluster, &view, opened.as_deref())?;
        drop((view, opened));
        self.still_asked().await?;
        let (recovery, whole) = self.consent(caller.identity(), ask)?;
        tracing::info!(bearer = %caller.identity(), mandate = %recovery.gathering.mandate().digest(), "a custodian agrees");
        if let Some(whole) = whole {
            tracing::warn!("enough custodians agree: this node ends, and goes on alone when it is started again");
            self.ledger.succeed(whole).await.map_err(|_| Cause("the mandate could not be kept"))?;
        }
        Ok(recovery)
    }

    /// What was asked for may not be needed any more, or not be there: then nobody can agree to it.
    async fn still_asked(&self) -> Result<(), Failure> {
        let asked = self.recovery.lock().as_ref().map(|asked| asked.gathering.mandate().clone());
        let mandate = asked.ok_or(Refused::NoCeremony)?;
        let stands = match &mandate.ground {
            Ground::Survivor(end) => self.is_lost(end).await,
            Ground::Restored(image) => match self.restored_here() {
                Some(restored) if restored.header.image() == *image => self.is_left(&restored.chain).await,
                Some(_) | None => Err(Refused::NoCeremony.into()),
            },
        };
        if stands.is_err() {
            *self.recovery.lock() = None;
        }
        stands
    }

    /// The snapshot that was restored to this node, if it still belongs to no cluster.
    pub(crate) fn restored_here(&self) -> Option<Restored> {
        self.restored.lock().clone().filter(|_| self.ledger.lineage().is_none())
    }

    fn consent(&self, bearer: &Identity, ask: ConsentAsk) -> Result<(Recovery, Option<SignedMandate>), Failure> {
        let now = self.world.clock.now();
        let mut asked = self.recovery.lock();
        let asked = asked.as_mut().filter(|asked| asked.gathering.mandate().digest() == ask.mandate);
        let Asked { gathering, proof } = asked.ok_or(Refused::NoCeremony)?;
        let whole = gathering.consent(now, bearer, ask.index, ask.signature).map_err(|why: ShareRefused| why)?.cloned();
        Ok((Recovery { gathering: gathering.clone(), given: whole.is_some(), proof: proof.clone() }, whole))
    }

    /// What is to be gone on with: what was restored, else what is on this disk, if most voters are lost and no other
    /// survivor has more.
    async fn found_state(&self) -> Result<Found, Failure> {
        if let Some(Restored { header, chain, links, custodians }) = self.restored_here() {
            self.is_left(&chain).await?;
            let founding = chain.founding().cloned().ok_or(Why::NotFounded)?;
            let roster = chain.roster().cloned().ok_or(Why::NotFounded)?;
            let proof = Proof { founding, links, roster };
            return Ok(Found { ground: Ground::Restored(header.image()), chain, custodians, proof });
        }
        if self.ledger.is_behind_its_chain() {
            return Err(Refused::BadRequest(BEHIND).into());
        }
        let view = self.ledger.view();
        // Else it could not be opened once it has begun its generation.
        self.book_holds_its_head(&view)?;
        let proof = self.ledger.proof().ok_or(Why::NotFounded)?;
        let end = self.ledger.log_end().ok_or(Why::NotFounded)?;
        let nobody = Refused::BadRequest("a cluster with custodians, who alone could give a mandate");
        let custodians = self.custodians(&view).ok_or(nobody)?;
        self.is_lost(&end).await?;
        let chain = (*self.ledger.chain()).clone();
        Ok(Found { ground: Ground::Survivor(end), chain, custodians, proof })
    }

    /// Refuses where somebody can be reached who goes on with that chain, or could.
    async fn is_left(&self, chain: &Chain) -> Result<(), Failure> {
        let company = self.ledger.company(chain).await;
        let Some(company) = company.filter(|_| !planted!(OthersNotLookedFor)) else { return Ok(()) };
        tracing::warn!(?company, "this node is not the one to go on alone");
        let wanted = match company {
            Company::Voters => LOST,
            Company::Longer(_) => LONGER,
            Company::Survivor(_) => {
                "a cluster that has lost all voters: one lives and is the one to go on, its log says which"
            }
            Company::Back(_) => {
                "a node whose other voters are lost: one has come back, and may have found another, its log says which"
            }
            Company::Heir(_) => {
                "the one node that goes on alone: another one has a mandate already, its log says which"
            }
            Company::Later(_) => {
                "a node of the newest generation: another one tells of a later one, its log says which"
            }
        };
        Err(Refused::BadRequest(wanted).into())
    }

    /// Refuses where a majority of voters can still be reached, or another survivor's log goes further than this one's, or
    /// has a mandate already.
    async fn is_lost(&self, end: &LogPlace) -> Result<(), Failure> {
        let asked = join_all(self.ledger.others().into_iter().map(|node| self.look_at(node))).await;
        let mut reached: BTreeSet<NodeId> = asked.iter().filter(|n| n.said.is_some()).map(|n| n.node).collect();
        reached.insert(self.config.node);
        if is_quorum(&self.ledger.status().votes, &reached) {
            return Err(Refused::BadRequest(LOST).into());
        }
        let further = asked.iter().filter_map(|node| node.said.as_ref()).any(|said| {
            let theirs =
                LogPlace { term: said.last_log_term, leader: said.last_log_leader, index: said.last_log_index };
            theirs > *end
        });
        if further {
            return Err(Refused::BadRequest(LONGER).into());
        }
        self.is_left(&self.ledger.chain()).await
    }

    fn mandate(&self, found: &Found) -> Result<Mandate, Failure> {
        let head = found.chain.head().ok_or(Why::NotFounded)?;
        let heir = Member { role: Role::Voter, ..self.own_line() };
        decide::left_alone(&found.chain, &heir)?;
        Ok(Mandate {
            lineage: head.header.lineage,
            generation: head.header.generation + 1,
            heir,
            ground: found.ground,
            head: sha256(&[&head.to_bytes()]),
            nonce: entropy::fresh(&*self.world.entropy).spend(),
            expires: self.world.clock.now().plus_ms(MANDATE_MS),
        })
    }

    /// Takes a snapshot out of a file, on a node that belongs to no cluster. What was taken waits for its mandate.
    pub async fn restore_snapshot(
        &self,
        visit: &Visit,
        mut pieces: impl Stream<Item = Result<bytes::Bytes, Failure>> + Unpin,
    ) -> Result<Restored, Failure> {
        let view = self.ledger.view();
        let _leave = self.gate.authorise::<RestoreSnapshot>(visit.caller()?, Cluster, &view, None)?;
        drop(view);
        (*self.restored.lock(), *self.recovery.lock()) = (None, None);
        let mut restoring: Restoring = self.ledger.restore().await.map_err(not_restored)?;
        while let Some(piece) = pieces.next().await {
            restoring.feed(&piece?).await.map_err(not_restored)?;
        }
        let restored = restoring.finish().await.map_err(not_restored)?;
        let genesis = restored.chain.founding().map(|founding| &founding.genesis);
        if genesis.is_none_or(|g| (&g.cluster, &g.region) != (&self.config.cluster, &self.config.region)) {
            return Err(not_restored(RestoreFailed::OtherCluster));
        }
        *self.restored.lock() = Some(restored.clone());
        Ok(restored)
    }

    /// Refuses where this node has a mandate, and has company again: it has changed nothing yet for anybody but itself.
    pub(crate) async fn still_alone(&self) -> Result<(), Failure> {
        if self.ledger.alone().is_none() {
            return Ok(());
        }
        self.book_holds_its_head(&self.ledger.view())?;
        self.is_left(&self.ledger.chain()).await
    }

    /// Refuses what would keep this node from being opened once its generation has begun: there is no way back then. Its log
    /// is applied first, as far as it goes.
    async fn may_be_opened(&self) -> Result<(), Failure> {
        self.ledger.barrier(BEGIN_WAIT).await.map_err(super::unavailable)?;
        if !self.ledger.trusted() {
            return Err(Why::Unproven.into());
        }
        self.book_holds_its_head(&self.ledger.view())
    }

    /// Begins the generation that this node has a mandate for, with the root key that shares have opened; nothing where it
    /// has none. Nobody is served before. From here on everybody else has left, so it looks around once more.
    pub(crate) async fn begin_generation(&self, root: &Root) -> Result<(), Failure> {
        let Some(mandate) = self.ledger.alone() else { return Ok(()) };
        self.may_be_opened().await?;
        self.still_alone().await?;
        let signed = {
            let (view, chain) = (self.ledger.view(), self.ledger.chain());
            let opened = Opened::look(root.copy(), &view)?;
            let desk = opened.desk(&view, self.world.clock.now());
            let mut chance = entropy::chance(&*self.world.entropy);
            let txn = decide::succeed(&desk, mandate, &self.config.identity, &chain, &opened.root, &mut chance)?;
            let generation = chain.head().map_or(0, |link| link.header.generation);
            let signer = opened.keyring.txn_key().number;
            opened.keyring.sign_batch(Batch {
                lineage: opened.lineage,
                generation,
                author: self.config.node,
                signer,
                txns: vec![txn],
            })
        };
        match self.ledger.propose_signed(signed, BEGIN_WAIT).await {
            Ok(Outcome::Accepted(_)) => {
                tracing::warn!(node = self.config.node.0, "a new generation has begun: all other nodes have left");
                Ok(())
            }
            Ok(Outcome::Refused(_)) => Err(Why::Contended.into()),
            Err(_) => Err(Why::NoQuorum.into()),
        }
    }
}

/// Whether these nodes can decide: a majority of each set of voters, of which there are two while the membership changes.
fn is_quorum(votes: &[BTreeSet<NodeId>], reached: &BTreeSet<NodeId>) -> bool {
    let most = |set: &BTreeSet<NodeId>| set.intersection(reached).count() > set.len() / 2;
    !votes.is_empty() && votes.iter().all(most)
}

/// Whether a mandate that is being agreed to is for what would be asked for now.
fn stands(asked: &Asked, now: &Mandate, clock: UnixMs) -> bool {
    let before = asked.gathering.mandate();
    before.expires > clock && Mandate { nonce: before.nonce, expires: before.expires, ..now.clone() } == *before
}

fn not_restored(why: RestoreFailed) -> Failure {
    tracing::warn!(%why, "a snapshot was not restored");
    match why {
        RestoreFailed::NotEmpty => {
            Refused::BadRequest("a node that belongs to no cluster, and takes one snapshot at a time")
        }
        RestoreFailed::Broken(_) => {
            Refused::BadRequest("a snapshot that is whole, and signed by a member of its cluster")
        }
        RestoreFailed::OtherCluster => {
            Refused::BadRequest("a snapshot of the cluster and region that this node is configured for")
        }
        RestoreFailed::NoCustodians => Refused::BadRequest("a snapshot of a cluster whose shares custodians hold"),
        RestoreFailed::Disk(_) => return Why::Stopping.into(),
    }
    .into()
}

#[cfg(test)]
mod tests;
