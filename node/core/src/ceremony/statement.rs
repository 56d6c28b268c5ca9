//! What a host says of the one-time key of its ceremony, and how a custodian's tool comes to believe it. How a share
//! travels to that key stands in `transit`.

use crate::chain::Chain;
use crate::codec::{Canonical, Malformed, Reader, Writer};
use crate::crypto::{self, SigningKey};
use crate::kem::KemPublic;
use crate::mandate::SignedMandate;
use crate::name::{CeremonyId, Digest, Identity, Lineage, NodeId, Signature, VerifyingKey};
use crate::roster::Role;
use crate::time::UnixMs;
use std::fmt;

const FORMAT: u16 = 1;
const DOMAIN: &[u8] = b"claviger/v1/ceremony-key\0";

/// A one-time key, and what it is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CeremonyKey {
    /// The cluster.
    pub lineage: Lineage,
    /// Its generation.
    pub generation: u64,
    /// The seal epoch that the ceremony ends.
    pub seal_epoch: u64,
    /// The ceremony. It keeps its id under another host, and gets another key.
    pub ceremony: CeremonyId,
    /// The node that hosts it.
    pub host: NodeId,
    /// How often that node has started.
    pub incarnation: u64,
    /// When the key is thrown away, by the host's clock.
    pub expires: UnixMs,
    /// What shares are sealed to.
    pub public: KemPublic,
}

impl CeremonyKey {
    /// What the signature is over.
    pub fn signed_bytes(&self) -> Vec<u8> {
        let mut w = Writer::default();
        w.raw(DOMAIN);
        self.write(&mut w);
        w.into_bytes()
    }

    /// SHA-256 of the signed bytes: what proofs and sealed shares are bound to.
    pub fn digest(&self) -> Digest {
        crypto::sha256(&[&self.signed_bytes()])
    }

    /// What a bearer signs with the share of that number to prove that they have it: see `Share::prove`.
    pub fn challenge(&self, index: u8, bearer: &Identity) -> Vec<u8> {
        let mut w = Writer::default();
        w.raw(&self.digest().0).u8(index);
        bearer.write(&mut w);
        w.into_bytes()
    }

    /// Signs with the host's identity key.
    pub fn sign(self, key: &SigningKey) -> SignedCeremonyKey {
        SignedCeremonyKey { signature: crypto::sign(key, &self.signed_bytes()), key: self }
    }
}

impl Canonical for CeremonyKey {
    fn write(&self, w: &mut Writer) {
        w.u16(FORMAT).raw(&self.lineage.0).u64(self.generation).u64(self.seal_epoch).raw(&self.ceremony.0);
        w.u64(self.host.0).u64(self.incarnation).u64(self.expires.0);
        self.public.write(w);
    }
    fn read(r: &mut Reader<'_>) -> Result<Self, Malformed> {
        if r.u16()? != FORMAT {
            return Err(Malformed::Unknown);
        }
        Ok(CeremonyKey {
            lineage: Lineage::read(r)?,
            generation: r.u64()?,
            seal_epoch: r.u64()?,
            ceremony: CeremonyId::read(r)?,
            host: NodeId::read(r)?,
            incarnation: r.u64()?,
            expires: UnixMs(r.u64()?),
            public: KemPublic::read(r)?,
        })
    }
}

/// A one-time key with its host's signature.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignedCeremonyKey {
    /// What is signed.
    pub key: CeremonyKey,
    /// Ed25519 by the host's identity key over [`CeremonyKey::signed_bytes`].
    pub signature: Signature,
}

impl SignedCeremonyKey {
    /// Whether the node of that identity key signed it.
    pub fn verify(&self, host: &VerifyingKey) -> bool {
        crypto::verify(host, &self.key.signed_bytes(), &self.signature)
    }

    /// Whether a custodian of cluster `lineage` may seal a share to the key: the header chain must be that cluster's, its
    /// newest roster or a mandate of enough custodians name the host, and the host must have signed. Nothing that the server
    /// said is believed for less.
    ///
    /// # Errors
    /// Why not.
    pub fn trusted(
        &self,
        chain: &Chain,
        mandate: Option<&SignedMandate>,
        lineage: &Lineage,
        now: UnixMs,
    ) -> Result<(), Distrust> {
        if chain.lineage() != Some(*lineage) || self.key.lineage != *lineage {
            return Err(Distrust::OtherCluster);
        }
        let heir = mandate.filter(|signed| signed.follows(chain)).map(|signed| &signed.mandate.heir);
        let member = chain.roster().and_then(|r| r.member(self.key.host)).filter(|m| m.role != Role::Retired);
        let host = heir.filter(|heir| heir.node == self.key.host).or(member).ok_or(Distrust::UnknownHost)?;
        if !self.verify(&host.key) {
            return Err(Distrust::NotSigned);
        }
        if self.key.expires <= now { Err(Distrust::Expired) } else { Ok(()) }
    }
}

/// Why a custodian must not seal a share to a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Distrust {
    /// The ceremony, or the founding record shown for it, is of another cluster than the share.
    OtherCluster,
    /// The host is not among the nodes that the newest header names.
    UnknownHost,
    /// The host did not sign it.
    NotSigned,
    /// Its time is over, or this machine's clock is wrong.
    Expired,
}

impl fmt::Display for Distrust {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Distrust::OtherCluster => "the ceremony is of another cluster than the share",
            Distrust::UnknownHost => "the ceremony's host does not belong to the cluster",
            Distrust::NotSigned => "the ceremony's key is not signed by its host",
            Distrust::Expired => "the ceremony's time is over, or this machine's clock is wrong",
        })
    }
}

impl std::error::Error for Distrust {}
