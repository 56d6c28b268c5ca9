//! How a change happens: read, judge, decide, propose; decided anew when something that it relied on changed meanwhile.

use super::{ReadAsk, Reading, Service, Visit};
use claviger_core::chance::Chance;
use claviger_core::codec::Canonical;
use claviger_core::decide::{self, Decision, Desk, Replayed, Stamp};
use claviger_core::failure::{Cause, Failure, Refused, Why};
use claviger_core::key::KeyRecord;
use claviger_core::name::{Digest, RequestId};
use claviger_core::policy::{Action, Permit};
use claviger_core::record::Version;
use claviger_core::txn::{Conflict, Outcome, Txn};
use claviger_core::{planted, rarely};
use claviger_ledger::{ProposeFailed, Unknown};
use claviger_world::entropy;

/// How often a change is decided anew before its caller is told that others keep changing the same thing.
const ATTEMPTS_MAX: usize = 64;

/// A caller's own number for one logical call, and the digest of everything that it asked.
pub type RequestStamp = Option<(RequestId, Digest)>;

/// What a change answers, as it is kept for a request that comes again.
pub(crate) trait Replay: Sized {
    /// Reads what `decide` kept.
    fn replay(kept: &[u8]) -> Option<Self>;
}

impl Replay for () {
    fn replay(kept: &[u8]) -> Option<()> {
        kept.is_empty().then_some(())
    }
}

impl Replay for u64 {
    fn replay(kept: &[u8]) -> Option<u64> {
        kept.try_into().ok().map(u64::from_be_bytes)
    }
}

impl Replay for KeyRecord {
    fn replay(kept: &[u8]) -> Option<KeyRecord> {
        KeyRecord::from_bytes(kept).ok()
    }
}

/// What became of one attempt.
enum Settled {
    Accepted(Version),
    Again,
}

impl Service {
    /// Makes a change: `decide` is called with leave to do `A` on `on`, and again whenever the ground has moved.
    pub(crate) async fn change<A, T>(
        &self,
        visit: &Visit,
        on: A::On,
        request: RequestStamp,
        decide: impl Fn(&Desk<'_>, Permit<A>, Stamp, &mut Chance) -> Result<Decision<T>, Failure>,
    ) -> Result<(T, Version), Failure>
    where
        A: Action<On: Clone>,
        T: Replay,
    {
        self.answered(A::OPERATION)?;
        for _ in 0..ATTEMPTS_MAX {
            let reading = self.reading(ReadAsk::default()).await?;
            let permit = self.permit::<A>(visit.caller()?, on.clone(), &reading)?;
            if let Some(done) = replayed(&permit, &reading, &request)? {
                return Ok(done);
            }
            let decision = self.decided(visit, &reading, permit, request, &decide)?;
            drop(reading);
            match self.settle(decision.txn).await? {
                Settled::Accepted(version) => {
                    visit.reflects(version);
                    return Ok((decision.outcome, version));
                }
                Settled::Again => {}
            }
        }
        Err(Why::Contended.into())
    }

    fn decided<A: Action, T>(
        &self,
        visit: &Visit,
        reading: &Reading,
        permit: Permit<A>,
        request: RequestStamp,
        decide: impl Fn(&Desk<'_>, Permit<A>, Stamp, &mut Chance) -> Result<Decision<T>, Failure>,
    ) -> Result<Decision<T>, Failure> {
        let desk = reading.opened()?.desk(&reading.view, self.world.clock.now());
        let intent = visit.intent();
        let stamp = Stamp { request, page: Some(intent.to_bytes()) };
        let decision = decide(&desk, permit, stamp, &mut entropy::chance(&*self.world.entropy))?;
        visit.proposed(decision.txn.id, &intent);
        Ok(decision)
    }

    /// Proposes a transaction until its outcome is known.
    async fn settle(&self, txn: Txn) -> Result<Settled, Failure> {
        let asked = Unknown { id: txn.id, turn: txn.turn };
        let mut proposed = self.ledger.propose(txn, self.config.request_wait).await;
        if proposed.is_ok() && rarely!("a known outcome is asked for again") {
            proposed = Err(ProposeFailed::Unknown(asked));
        }
        let outcome = match proposed {
            Err(ProposeFailed::Unknown(_)) if planted!(DecideWithoutCancel) => return Ok(Settled::Again),
            Err(ProposeFailed::Unknown(unknown)) => {
                let id = unknown.id;
                self.ledger.cancel(unknown, self.config.request_wait).await.map_err(|_| Why::Unknown(id))?
            }
            other => other.map_err(not_proposed)?,
        };
        match outcome {
            Outcome::Accepted(version) => Ok(Settled::Accepted(version)),
            Outcome::Refused(Conflict::Moving) => Err(Why::Moving.into()),
            Outcome::Refused(Conflict::Unlawful) => Err(Cause("a transaction of ours broke the rules").into()),
            Outcome::Refused(conflict) => {
                self.ledger.await_conflict(&conflict, self.config.request_wait).await.map_err(super::unavailable)?;
                Ok(Settled::Again)
            }
        }
    }

    /// Makes a change that no caller asked for, once: the node's own bookkeeping, which tries again by itself.
    pub(crate) async fn bookkeeping(&self, txn: Txn) -> Result<bool, Failure> {
        Ok(matches!(self.settle(txn).await?, Settled::Accepted(_)))
    }
}

/// The answer that the same request got before, if it did.
fn replayed<A: Action, T: Replay>(
    permit: &Permit<A>,
    reading: &Reading,
    request: &RequestStamp,
) -> Result<Option<(T, Version)>, Failure> {
    let Some((id, hash)) = request else { return Ok(None) };
    let desk = reading.opened()?.desk(&reading.view, reading.view.revision().cluster_time);
    let Some(Replayed { outcome, version }) = decide::replay(&desk, permit, id, hash)? else { return Ok(None) };
    if planted!(RequestForgotten) {
        return Ok(None);
    }
    let outcome = T::replay(&outcome).ok_or(Cause("a kept answer cannot be read"))?;
    Ok(Some((outcome, version)))
}

fn not_proposed(why: ProposeFailed) -> Failure {
    match why {
        ProposeFailed::Unknown(unknown) => Why::Unknown(unknown.id).into(),
        ProposeFailed::NoQuorum => Why::NoQuorum.into(),
        ProposeFailed::NotAuthor => Why::Sealed.into(),
        ProposeFailed::TooLarge => Refused::TooLong("the change").into(),
        ProposeFailed::Stopped => Why::Stopping.into(),
    }
}
