//! An unseal ceremony as this node hosts it: the one-time key, the shares that came, and what happens when there are
//! enough.

use crate::service::Service;
use claviger_core::ceremony::{Ceremony, CeremonyKey, Progress, ShareWhy, SignedCeremonyKey};
use claviger_core::codec::Canonical;
use claviger_core::failure::{Cause, Failure, Refused, Why};
use claviger_core::header::Header;
use claviger_core::kem::KemSecret;
use claviger_core::name::{CeremonyId, Identity, NodeId, Signature};
use claviger_core::planted;
use claviger_core::record::{RecordKey, Table, View};
use claviger_core::roster::Custodians;
use claviger_core::secret::Secret32;
use claviger_core::share::ShareContext;
use claviger_core::slot::{Locker, Root, SlotKind, SlotRecord};
use claviger_core::time::UnixMs;
use claviger_core::transit;
use claviger_ledger::LedgerView;
use claviger_world::{entropy, runtime};
use std::sync::Arc;
use std::time::Duration;

/// How long a ceremony waits for its shares, in milliseconds.
const CEREMONY_MS: u64 = 3_600_000;
/// Longest that other nodes are waited for to say whether they have the same state.
const VOUCH_WAIT: Duration = Duration::from_secs(2);
/// Slots of a cluster that are looked at.
const SLOTS_MAX: usize = 16;

/// A ceremony that this node hosts. Lives in memory only; wiped when it ends.
pub struct OpenCeremony {
    ceremony: Ceremony,
    signed: SignedCeremonyKey,
    secret: KemSecret,
}

/// A share as it is brought.
pub struct Offer {
    /// To which ceremony.
    pub ceremony: CeremonyId,
    /// x of the share.
    pub index: u8,
    /// Sealed to the one-time key.
    pub sealed_share: Vec<u8>,
    /// Under the share's proof key.
    pub proof: Signature,
    /// Who brought it.
    pub bearer: Identity,
}

impl OpenCeremony {
    /// What custodians' tools need to trust and to seal.
    pub fn signed(&self) -> &SignedCeremonyKey {
        &self.signed
    }

    /// How far it has come.
    pub fn progress(&self) -> Progress {
        self.ceremony.progress()
    }

    /// Whether its time is over.
    pub fn expired(&self, now: UnixMs) -> bool {
        self.ceremony.expired(now)
    }

    /// Whether its time is over, or enough shares came.
    pub fn over(&self, now: UnixMs) -> bool {
        self.expired(now) || self.ceremony.is_complete()
    }

    /// How many shares have come, while it waits for more.
    pub fn waits_with(&self, now: UnixMs) -> Option<usize> {
        (!self.over(now)).then(|| self.progress().accepted.len())
    }

    /// Whether it was begun in the seal epoch and generation that still last: a seal-all ends every ceremony before it.
    pub fn serves(&self, head: &Header) -> bool {
        let key = &self.signed.key;
        let same = (key.lineage, key.generation, key.seal_epoch) == (head.lineage, head.generation, head.seal_epoch);
        same || planted!(OldEpochOpens)
    }

    /// Checks a share the moment it is offered.
    fn offer(&mut self, now: UnixMs, offer: &Offer) -> Result<Progress, Failure> {
        let (index, bearer) = (offer.index, &offer.bearer);
        self.ceremony.expect(now, &offer.ceremony, bearer, index)?;
        let unreadable = || self.ceremony.refuse(index, bearer, ShareWhy::Unreadable);
        let share = transit::open_share(&self.signed.key, &self.secret, bearer, index, &offer.sealed_share);
        let share = share.ok_or_else(unreadable)?;
        Ok(self.ceremony.offer(now, &offer.ceremony, bearer, index, share, &offer.proof)?)
    }
}

impl Service {
    /// The custodians of the day.
    pub(crate) fn custodians(&self, view: &LedgerView) -> Option<Custodians> {
        let record = view.record(&RecordKey::only(Table::Custodians))?;
        Custodians::from_bytes(&record.value).ok()
    }

    /// Hosts a ceremony, unless one is under way here.
    pub(crate) fn host_ceremony(&self, opener: &Identity, view: &LedgerView) -> Result<(), Failure> {
        let now = self.world.clock.now();
        let mut hosted = self.ceremony.lock();
        let head = &view.head().ok_or(Why::NotFounded)?.header;
        if hosted.as_ref().is_some_and(|c| !c.over(now) && c.serves(head)) {
            return Ok(());
        }
        let custodians = self.custodians(view).ok_or(Cause("there is no record of custodians"))?;
        let secret = KemSecret::from_seed(Secret32::of(entropy::fresh(&*self.world.entropy)));
        let key = CeremonyKey {
            lineage: head.lineage,
            generation: head.generation,
            seal_epoch: head.seal_epoch,
            ceremony: CeremonyId(entropy::fresh(&*self.world.entropy).spend()),
            host: self.config.node,
            incarnation: self.ledger.incarnation(),
            expires: now.plus_ms(CEREMONY_MS),
            public: secret.public(),
        };
        let ceremony = Ceremony::open(key.clone(), &custodians, opener.clone(), now)
            .map_err(|_| Cause("the custodians record speaks of no possible sharing"))?;
        *hosted = Some(OpenCeremony { ceremony, signed: key.sign(&self.config.identity), secret });
        Ok(())
    }

    /// Takes a share to the ceremony hosted here. With the last one the root key opens, this node, and every peer that
    /// proves itself.
    pub(crate) async fn take_share(
        self: &Arc<Self>,
        offer: &Offer,
        view: &LedgerView,
    ) -> Result<(Progress, Vec<NodeId>), Failure> {
        // Before the share is taken: it can be brought again, here or to another node.
        self.believed().await?;
        self.still_alone().await?;
        let sealings = self.sealings.lock().count();
        let (progress, unsealing) = self.accept(offer)?;
        *self.founded.lock() = None;
        tracing::info!(index = offer.index, bearer = %offer.bearer, "a share was accepted");
        let Some(unsealing) = unsealing else { return Ok((progress, Vec::new())) };
        let root = self.unlock(&unsealing, view)?;
        drop(unsealing);
        // The shares are spent: what follows must not end with the call of whoever brought the last one.
        let service = self.clone();
        let opening = runtime::spawn(async move { service.open_in_its_generation(root, sealings).await });
        opening.await.map_err(|_| Why::Stopping)??;
        let (service, opened_at) = (self.clone(), self.world.clock.awake_and_asleep());
        let handing = runtime::spawn(async move { service.hand_over(opened_at).await });
        let mut opened = handing.await.unwrap_or_default();
        opened.push(self.config.node);
        opened.sort_unstable();
        Ok((progress, opened))
    }

    async fn open_in_its_generation(&self, root: Root, sealings: u64) -> Result<(), Failure> {
        if !planted!(OpenedAlone) {
            self.begin_generation(&root).await?;
        }
        self.open_unless_sealed(root, &self.ledger.view(), sealings)
    }

    fn accept(&self, offer: &Offer) -> Result<(Progress, Option<Secret32>), Failure> {
        let now = self.world.clock.now();
        let mut hosted = self.ceremony.lock();
        // As it is now: the offer may have been on its way for a while, and a seal-all come in between.
        let view = self.ledger.view();
        let head = &view.head().ok_or(Why::NotFounded)?.header;
        if hosted.as_ref().is_some_and(|open| !open.serves(head)) {
            *hosted = None;
        }
        let ceremony = hosted.as_mut().ok_or(Refused::NoCeremony)?;
        let progress = ceremony.offer(now, offer)?;
        let unsealing = ceremony.ceremony.complete().transpose();
        Ok((progress, unsealing.map_err(|_| Cause("checked shares did not combine"))?))
    }

    fn unlock(&self, unsealing: &Secret32, view: &LedgerView) -> Result<Root, Failure> {
        let head = &view.head().ok_or(Why::NotFounded)?.header;
        let custodians = self.custodians(view).ok_or(Cause("there is no record of custodians"))?;
        let context = ShareContext::of(head.lineage, &custodians)
            .map_err(|_| Cause("the custodians record speaks of no possible sharing"))?;
        let kind = SlotKind::Custodians { epoch: custodians.epoch };
        let slot =
            slots(view)?.into_iter().find(|s| s.kind == kind).ok_or(Cause("no slot is locked by these shares"))?;
        let locker = Locker::custodians(unsealing, &context, slot.number);
        let root = slot.unlock(&locker, &head.lineage, &head.root_commitment);
        Ok(root.ok_or(Cause("the shares are right, and the slot does not open"))?)
    }

    /// Opens this node with the key of its static slot.
    pub(crate) fn open_by_file(&self, key: Secret32) -> Result<(), Failure> {
        let view = self.ledger.view();
        let head = &view.head().ok_or(Why::NotFounded)?.header;
        let slot = slots(&view)?.into_iter().find(|s| s.kind == SlotKind::Static);
        let slot = slot.ok_or(Cause("the cluster has no static slot"))?;
        let root = slot.unlock(&Locker::static_key(key), &head.lineage, &head.root_commitment);
        self.open_with(root.ok_or(Cause("the key file is not that of the static slot"))?, &view)
    }

    /// Opens this node with a root key that is worth something only if nobody has sealed the node since there were
    /// `sealings` of them. Whoever seals counts first and shuts then, so one of the two sees the other.
    pub(crate) fn open_unless_sealed(&self, root: Root, view: &LedgerView, sealings: u64) -> Result<(), Failure> {
        let mut counted = self.sealings.lock();
        if counted.count() != sealings && !planted!(OldEpochOpens) {
            return Err(Why::Sealed.into());
        }
        self.open_with(root, view)?;
        counted.opened();
        Ok(())
    }

    /// Refuses unless this node's state may be believed (DESIGN §4): one that came as a snapshot must have been compared
    /// with those of others before anybody's keys are opened over it.
    pub(crate) async fn believed(&self) -> Result<(), Failure> {
        if self.ledger.vouch(VOUCH_WAIT).await { Ok(()) } else { Err(Why::Unproven.into()) }
    }

    /// Opens this node with a root key, as the records at `view` are.
    pub(crate) fn open_with(&self, root: Root, view: &LedgerView) -> Result<(), Failure> {
        // Who goes on alone serves nobody before its generation has begun.
        let alone = self.ledger.alone().is_some() && !planted!(OpenedAlone);
        if !self.ledger.trusted() || alone {
            return Err(Why::Unproven.into());
        }
        self.book_holds_its_head(view)?;
        self.seal.open(root, view)?;
        *self.founded.lock() = None;
        self.page_opening();
        tracing::info!(node = self.config.node.0, "the node is open");
        Ok(())
    }
}

pub(super) fn slots(view: &LedgerView) -> Result<Vec<SlotRecord>, Failure> {
    let all = RecordKey::numbered(Table::Slot, 0).collection();
    let records = view.members(&all, None, SLOTS_MAX);
    let read = records.iter().map(|(_, record)| SlotRecord::from_bytes(&record.value)).collect::<Result<_, _>>();
    Ok(read.map_err(|_| Cause("a slot record cannot be read"))?)
}
