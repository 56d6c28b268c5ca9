//! What custodians agree to when a cluster cannot go on by itself, because most of its voters are gone for good or because
//! nothing is left of it but a snapshot: that one node goes on alone with the state that it has, in the next generation.
//! Everybody else has left from then on, and joins anew if at all.
//!
//! Each custodian signs with their share, and moves it nowhere. The mandate stands in the header link that begins the
//! generation, with who the custodians were: whoever has the chain can verify it. Opening that node takes the shares
//! themselves, as ever.

use crate::ceremony::{ShareRefused, ShareWhy};
use crate::chain::Chain;
use crate::codec::{Canonical, Malformed, Reader, Writer};
use crate::crypto;
use crate::name::{Digest, Identity, Lineage, Signature};
use crate::planted;
use crate::roster::{Custodians, HOLDERS_MAX, Holder, Member, Role};
use crate::share;
use crate::snapshot::LogPlace;
use crate::time::UnixMs;

const FORMAT: u16 = 1;
const DOMAIN: &[u8] = b"claviger/v1/mandate\0";
/// Longest mandate with its signatures, in bytes: of as many custodians as there can be.
pub const MANDATE_BYTES_MAX: usize = 64 << 10;

/// Which state the node goes on with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ground {
    /// What is on its own disk, where its log ended when it was asked. Most voters are lost.
    Survivor(LogPlace),
    /// A snapshot of that image (SHA-256 of its header), which was restored to an empty disk.
    Restored(Digest),
}

impl Canonical for Ground {
    fn write(&self, w: &mut Writer) {
        match self {
            Ground::Survivor(end) => end.write(w.u8(1)),
            Ground::Restored(image) => _ = w.u8(2).raw(&image.0),
        }
    }
    fn read(r: &mut Reader<'_>) -> Result<Self, Malformed> {
        match r.u8()? {
            1 => Ok(Ground::Survivor(LogPlace::read(r)?)),
            2 => Ok(Ground::Restored(Digest::read(r)?)),
            _ => Err(Malformed::Unknown),
        }
    }
}

/// What is agreed to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mandate {
    /// The cluster.
    pub lineage: Lineage,
    /// The generation that begins.
    pub generation: u64,
    /// Who goes on: a voter, with its identity key and its disk.
    pub heir: Member,
    /// With what.
    pub ground: Ground,
    /// SHA-256 of the newest header link that the node knew: the generation begins behind that one, or behind what the log
    /// that the mandate names held further.
    pub head: Digest,
    /// Makes every mandate another.
    pub nonce: [u8; 16],
    /// Until when it can be agreed to, by the node's clock.
    pub expires: UnixMs,
}

impl Mandate {
    /// SHA-256 of what is signed: names the mandate.
    pub fn digest(&self) -> Digest {
        crypto::sha256(&[DOMAIN, &self.to_bytes()])
    }

    /// What the holder of the share of that number signs with it: see `Share::prove`.
    pub fn challenge(&self, index: u8, holder: &Identity) -> Vec<u8> {
        let mut w = Writer::default();
        w.raw(&self.digest().0).u8(index);
        holder.write(&mut w);
        w.into_bytes()
    }
}

impl Canonical for Mandate {
    fn write(&self, w: &mut Writer) {
        w.u16(FORMAT).raw(&self.lineage.0).u64(self.generation);
        self.heir.write(w);
        self.ground.write(w);
        w.raw(&self.head.0).raw(&self.nonce).u64(self.expires.0);
    }
    fn read(r: &mut Reader<'_>) -> Result<Self, Malformed> {
        if r.u16()? != FORMAT {
            return Err(Malformed::Unknown);
        }
        Ok(Mandate {
            lineage: Lineage::read(r)?,
            generation: r.u64()?,
            heir: Member::read(r)?,
            ground: Ground::read(r)?,
            head: Digest::read(r)?,
            nonce: r.array()?,
            expires: UnixMs(r.u64()?),
        })
    }
}

/// One custodian's signature.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Consent {
    /// The number of their share.
    pub index: u8,
    /// Under the share's proof key, over [`Mandate::challenge`].
    pub signature: Signature,
}

impl Canonical for Consent {
    fn write(&self, w: &mut Writer) {
        w.u8(self.index).raw(&self.signature.0);
    }
    fn read(r: &mut Reader<'_>) -> Result<Self, Malformed> {
        Ok(Consent { index: r.u8()?, signature: Signature::read(r)? })
    }
}

/// A mandate with the signatures of as many custodians as open the cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignedMandate {
    /// What was agreed to.
    pub mandate: Mandate,
    /// Who the custodians were: the header chain names this record by its hash.
    pub custodians: Custodians,
    /// In order of their indices, each once.
    pub consents: Vec<Consent>,
}

impl SignedMandate {
    /// Whether it is what the newest link before it allows: that cluster, its next generation, the chain that was shown to
    /// its custodians, a voter as heir, and enough good signatures and no other.
    pub fn follows(&self, chain: &Chain) -> bool {
        let Some(before) = chain.head().map(|link| &link.header) else { return false };
        let (mandate, custodians) = (&self.mandate, crypto::sha256(&[&self.custodians.to_bytes()]));
        mandate.lineage == before.lineage
            && Some(mandate.generation) == before.generation.checked_add(1)
            && custodians == before.custodians
            && chain.has_lately(&mandate.head)
            && mandate.heir.role == Role::Voter
            && self.is_agreed()
    }

    /// Whether enough of its custodians have signed it.
    fn is_agreed(&self) -> bool {
        let (count, wanted) = (self.consents.len(), usize::from(self.custodians.threshold));
        let enough = (count >= wanted || (planted!(MandateOfTooFew) && count + 1 >= wanted)) && wanted > 0;
        let once = self.consents.is_sorted_by(|a, b| a.index < b.index);
        enough && once && self.consents.iter().all(|consent| self.is_signed(consent))
    }

    fn is_signed(&self, consent: &Consent) -> bool {
        let holder = self.custodians.holders.iter().find(|holder| holder.index == consent.index);
        holder.is_some_and(|holder| signed_by(&self.mandate, holder, &consent.signature))
    }
}

impl Canonical for SignedMandate {
    fn write(&self, w: &mut Writer) {
        self.mandate.write(w);
        self.custodians.write(w);
        w.list(&self.consents);
    }
    fn read(r: &mut Reader<'_>) -> Result<Self, Malformed> {
        Ok(SignedMandate {
            mandate: Mandate::read(r)?,
            custodians: Custodians::read(r)?,
            consents: r.list(HOLDERS_MAX)?,
        })
    }
}

fn signed_by(mandate: &Mandate, holder: &Holder, signature: &Signature) -> bool {
    share::verify_proof(&holder.proof_key, &mandate.challenge(holder.index, &holder.keys.identity), signature)
}

/// A mandate that is being agreed to, as the node keeps it that asks for it. Holds no secret.
#[derive(Clone, Debug)]
pub struct Gathering(SignedMandate);

impl Gathering {
    /// Nobody has signed yet.
    pub fn new(mandate: Mandate, custodians: Custodians) -> Gathering {
        Gathering(SignedMandate { mandate, custodians, consents: Vec::new() })
    }

    /// What it is about.
    pub fn mandate(&self) -> &Mandate {
        &self.0.mandate
    }

    /// Who may sign.
    pub fn custodians(&self) -> &Custodians {
        &self.0.custodians
    }

    /// Who has signed.
    pub fn signed(&self) -> Vec<&Identity> {
        self.holders(|index| self.has(index))
    }

    /// Who has not.
    pub fn missing(&self) -> Vec<&Identity> {
        self.holders(|index| !self.has(index))
    }

    /// Takes a signature. The whole mandate, once enough have signed.
    ///
    /// # Errors
    /// Why it does not count, and whose it should have been. Nothing changed then.
    pub fn consent(
        &mut self,
        now: UnixMs,
        bearer: &Identity,
        index: u8,
        signature: Signature,
    ) -> Result<Option<&SignedMandate>, ShareRefused> {
        let holder = self.0.custodians.holders.iter().find(|holder| holder.index == index);
        let refused = |why| ShareRefused {
            index,
            holder: holder.map(|holder| holder.keys.identity.clone()),
            bearer: bearer.clone(),
            why,
        };
        let known = self.0.custodians.holders.iter().any(|holder| holder.keys.identity == *bearer);
        let why = match holder {
            _ if self.0.mandate.expires <= now => Some(ShareWhy::Expired),
            _ if !known => Some(ShareWhy::NotACustodian),
            None => Some(ShareWhy::WrongIndex),
            Some(holder) if holder.keys.identity != *bearer => Some(ShareWhy::NotTheHolder),
            Some(_) if self.has(index) => Some(ShareWhy::Duplicate),
            Some(holder) => (!signed_by(&self.0.mandate, holder, &signature)).then_some(ShareWhy::WrongProof),
        };
        if let Some(why) = why {
            return Err(refused(why));
        }
        let at = self.0.consents.partition_point(|consent| consent.index < index);
        self.0.consents.insert(at, Consent { index, signature });
        Ok(self.0.is_agreed().then_some(&self.0))
    }

    fn has(&self, index: u8) -> bool {
        self.0.consents.iter().any(|consent| consent.index == index)
    }

    fn holders(&self, which: impl Fn(u8) -> bool) -> Vec<&Identity> {
        let holders = self.0.custodians.holders.iter().filter(|holder| which(holder.index));
        holders.map(|holder| &holder.keys.identity).collect()
    }
}

#[cfg(test)]
mod tests;
