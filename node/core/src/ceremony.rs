//! One unseal ceremony, as its host keeps it: a one-time key that shares are sealed to, and the shares that came, each
//! checked alone, the moment it was offered, and named by its holder.
//!
//! Lives in memory only. Must not contain: clocks, calls, or what is done with the unsealing secret.

mod statement;

pub use statement::{CeremonyKey, Distrust, SignedCeremonyKey};

use crate::failure::words;
use crate::name::{CeremonyId, Identity, NodeId, Signature};
use crate::planted;
use crate::roster::{Custodians, Holder};
use crate::secret::Secret32;
use crate::share::{self, Share, ShareContext, ShareError};
use crate::time::UnixMs;
use std::fmt;

words! {
    /// Why a share was not accepted.
    ShareWhy {
        /// The ceremony's time is over.
        Expired = 1 "expired",
        /// It was offered to another ceremony.
        WrongCeremony = 2 "wrong_ceremony",
        /// Whoever brought it holds no share of this cluster.
        NotACustodian = 3 "not_a_custodian",
        /// There is no share of that number, or the share inside has another.
        WrongIndex = 4 "wrong_index",
        /// The share of that number is somebody else's than who brought it.
        NotTheHolder = 5 "not_the_holder",
        /// It was accepted before.
        Duplicate = 6 "duplicate",
        /// Enough shares were there already.
        Complete = 7 "complete",
        /// It is not sealed to this ceremony's key, or is no share.
        Unreadable = 8 "unreadable",
        /// It is of another cluster, region, epoch or sharing.
        Foreign = 9 "foreign",
        /// It is not the share that was dealt.
        Forged = 10 "forged",
        /// Its proof was not made with the share, for this ceremony, by who brought it.
        WrongProof = 11 "wrong_proof",
    }
}

/// A share that was not accepted: whose it should have been, who brought it, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShareRefused {
    /// The number that it was offered under.
    pub index: u8,
    /// Who holds the share of that number, if there is one.
    pub holder: Option<Identity>,
    /// Who brought it.
    pub bearer: Identity,
    /// Why.
    pub why: ShareWhy,
}

impl fmt::Display for ShareRefused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "share {} brought by {}", self.index, self.bearer)?;
        match &self.holder {
            Some(holder) if *holder != self.bearer => write!(f, ", held by {holder}: ")?,
            Some(_) | None => f.write_str(": ")?,
        }
        f.write_str(match self.why {
            ShareWhy::Expired => "the ceremony's time is over; begin another",
            ShareWhy::WrongCeremony => "it was offered to another ceremony",
            ShareWhy::NotACustodian => "the bearer holds no share of this cluster",
            ShareWhy::WrongIndex => "there is no share of that number, or another one is inside",
            ShareWhy::NotTheHolder => "the share of that number is somebody else's",
            ShareWhy::Duplicate => "it was accepted before",
            ShareWhy::Complete => "enough shares were there already",
            ShareWhy::Unreadable => "it is not sealed to this ceremony's key",
            ShareWhy::Foreign => "it is of another cluster, region, epoch or sharing",
            ShareWhy::Forged => "it is not the share that was dealt",
            ShareWhy::WrongProof => "the proof was not made with this share, for this ceremony, by this bearer",
        })
    }
}

impl std::error::Error for ShareRefused {}

/// A share that was accepted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Accepted {
    /// Its number.
    pub index: u8,
    /// Whose it is.
    pub holder: Identity,
    /// Who brought it: the holder.
    pub bearer: Identity,
    /// When, by the host's clock.
    pub time: UnixMs,
}

/// How far a ceremony has come. Public.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Progress {
    /// Which ceremony.
    pub id: CeremonyId,
    /// The node that hosts it.
    pub host: NodeId,
    /// Shares that open.
    pub threshold: u8,
    /// Who opened it.
    pub opener: Identity,
    /// When, by the host's clock.
    pub opened: UnixMs,
    /// When it ends, by the host's clock.
    pub expires: UnixMs,
    /// In the order that they came.
    pub accepted: Vec<Accepted>,
    /// Holders whose shares have not come.
    pub missing: Vec<Identity>,
    /// Whether enough are there.
    pub complete: bool,
}

/// A ceremony, as its host keeps it. The shares are wiped when it is completed or dropped.
pub struct Ceremony {
    key: CeremonyKey,
    context: ShareContext,
    holders: Vec<Holder>,
    opener: Identity,
    opened: UnixMs,
    accepted: Vec<Accepted>,
    shares: Vec<Share>,
}

impl Ceremony {
    /// Opens a ceremony under a one-time key, for the custodians of the day.
    ///
    /// # Errors
    /// A custodians record that no sharing could have been made by.
    pub fn open(
        key: CeremonyKey,
        custodians: &Custodians,
        opener: Identity,
        now: UnixMs,
    ) -> Result<Ceremony, ShareError> {
        let context = ShareContext::of(key.lineage, custodians)?;
        let holders = custodians.holders.clone();
        Ok(Ceremony { key, context, holders, opener, opened: now, accepted: Vec::new(), shares: Vec::new() })
    }

    /// What the one-time key is, and is for.
    pub fn key(&self) -> &CeremonyKey {
        &self.key
    }

    /// Whether its time is over.
    pub fn expired(&self, now: UnixMs) -> bool {
        self.key.expires <= now
    }

    /// Checks a share, and keeps it.
    ///
    /// # Errors
    /// Why it was not kept, and whose it is. Nothing changed then.
    pub fn offer(
        &mut self,
        now: UnixMs,
        ceremony: &CeremonyId,
        bearer: &Identity,
        index: u8,
        share: Share,
        proof: &Signature,
    ) -> Result<Progress, ShareRefused> {
        let holder = self.expect(now, ceremony, bearer, index)?;
        self.check(holder, index, &share, proof).map_err(|why| self.refuse(index, bearer, why))?;
        let accepted = Accepted { index, holder: holder.keys.identity.clone(), bearer: bearer.clone(), time: now };
        self.accepted.push(accepted);
        self.shares.push(share);
        Ok(self.progress())
    }

    /// Everything that can be said before the share is opened: whether one of that number is still wanted from that
    /// bearer.
    ///
    /// # Errors
    /// As for [`Ceremony::offer`].
    pub fn expect(
        &self,
        now: UnixMs,
        ceremony: &CeremonyId,
        bearer: &Identity,
        index: u8,
    ) -> Result<&Holder, ShareRefused> {
        self.wanted(now, ceremony, bearer, index).map_err(|why| self.refuse(index, bearer, why))
    }

    /// The refusal of that number from that bearer, with the holder's name.
    pub fn refuse(&self, index: u8, bearer: &Identity, why: ShareWhy) -> ShareRefused {
        let holder = self.holder(index).map(|h| h.keys.identity.clone());
        ShareRefused { index, holder, bearer: bearer.clone(), why }
    }

    /// How far it has come.
    pub fn progress(&self) -> Progress {
        let came = |h: &&Holder| !self.accepted.iter().any(|a| a.index == h.index);
        Progress {
            id: self.key.ceremony,
            host: self.key.host,
            threshold: self.context.threshold(),
            opener: self.opener.clone(),
            opened: self.opened,
            expires: self.key.expires,
            accepted: self.accepted.clone(),
            missing: self.holders.iter().filter(came).map(|h| h.keys.identity.clone()).collect(),
            complete: self.is_complete(),
        }
    }

    /// Whether enough shares came.
    pub fn is_complete(&self) -> bool {
        self.accepted.len() >= usize::from(self.context.threshold())
    }

    /// The unsealing secret, once, when enough shares came. They are wiped; the progress stays.
    pub fn complete(&mut self) -> Option<Result<Secret32, ShareError>> {
        if !self.is_complete() || self.shares.is_empty() {
            return None;
        }
        let shares = std::mem::take(&mut self.shares);
        Some(share::combine(&shares, &self.context, &self.holders))
    }

    /// What the shares belong to.
    pub fn context(&self) -> &ShareContext {
        &self.context
    }

    fn holder(&self, index: u8) -> Option<&Holder> {
        self.holders.iter().find(|h| h.index == index)
    }

    fn wanted(&self, now: UnixMs, id: &CeremonyId, bearer: &Identity, index: u8) -> Result<&Holder, ShareWhy> {
        if self.expired(now) {
            return Err(ShareWhy::Expired);
        }
        if *id != self.key.ceremony {
            return Err(ShareWhy::WrongCeremony);
        }
        if !self.holders.iter().any(|h| h.keys.identity == *bearer) {
            return Err(ShareWhy::NotACustodian);
        }
        let holder = self.holder(index).ok_or(ShareWhy::WrongIndex)?;
        if holder.keys.identity != *bearer {
            return Err(ShareWhy::NotTheHolder);
        }
        if self.accepted.iter().any(|a| a.index == index) && !planted!(DuplicateCounts) {
            return Err(ShareWhy::Duplicate);
        }
        if self.is_complete() { Err(ShareWhy::Complete) } else { Ok(holder) }
    }

    fn check(&self, holder: &Holder, index: u8, share: &Share, proof: &Signature) -> Result<(), ShareWhy> {
        if share.index() != index {
            return Err(ShareWhy::WrongIndex);
        }
        share.check(&self.context, &self.holders).map_err(|error| match error {
            ShareError::Foreign(_) => ShareWhy::Foreign,
            ShareError::Unheld(_) => ShareWhy::WrongIndex,
            ShareError::Duplicate(_) => ShareWhy::Duplicate,
            ShareError::Forged(_) | ShareError::Bounds | ShareError::TooFew { .. } => ShareWhy::Forged,
        })?;
        let challenge = self.key.challenge(index, &holder.keys.identity);
        let proven = share::verify_proof(&holder.proof_key, &challenge, proof) || planted!(ShareNotChecked);
        if proven { Ok(()) } else { Err(ShareWhy::WrongProof) }
    }
}

#[cfg(test)]
mod tests;
