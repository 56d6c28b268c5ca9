//! The header chain: what a node knows of its cluster's keys while it is sealed. Each link is signed by the
//! transaction key T of the link before it; the first by the T that the genesis names.

use crate::codec::{Canonical, Malformed, Reader, Writer};
use crate::mandate::{MANDATE_BYTES_MAX, SignedMandate};
use crate::name::{Digest, Lineage, Signature};
use crate::txn::TxnKey;

const FORMAT: u16 = 1;
/// A link that begins a generation.
const FORMAT_MANDATED: u16 = 2;
const LINK_DOMAIN: &[u8] = b"claviger/v1/header\0";

/// One link, as it is signed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    /// The cluster.
    pub lineage: Lineage,
    /// Raised by recover, restore and promotion.
    pub generation: u64,
    /// Position in the chain, from 0.
    pub number: u64,
    /// SHA-256 of the signed link before this one; of nothing (zeroes) for the first.
    pub previous: Digest,
    /// Number r of the root key R.
    pub root: u32,
    /// Raised by seal-all: a node that applies a higher one refuses, drains and wipes.
    pub seal_epoch: u64,
    /// The transaction key from here on.
    pub txn_key: TxnKey,
    /// C_R: tells a wrong root key at once.
    pub root_commitment: Digest,
    /// SHA-256 over the slots, in order of their numbers.
    pub slots: Digest,
    /// SHA-256 of the roster record.
    pub roster: Digest,
    /// SHA-256 of the custodians record.
    pub custodians: Digest,
    /// SHA-256 of the sealed keyring record.
    pub keyring: Digest,
    /// By what right the generation is another than that of the link before: none in a link that begins none.
    pub mandate: Option<Box<SignedMandate>>,
}

impl Header {
    /// What the signature is over.
    pub fn signed_bytes(&self) -> Vec<u8> {
        let mut w = Writer::default();
        w.raw(LINK_DOMAIN);
        self.write(&mut w);
        w.into_bytes()
    }
}

impl Canonical for Header {
    fn write(&self, w: &mut Writer) {
        let format = if self.mandate.is_some() { FORMAT_MANDATED } else { FORMAT };
        w.u16(format).raw(&self.lineage.0).u64(self.generation).u64(self.number).raw(&self.previous.0);
        w.u32(self.root).u64(self.seal_epoch).u32(self.txn_key.number).raw(&self.txn_key.public.0);
        for digest in [&self.root_commitment, &self.slots, &self.roster, &self.custodians, &self.keyring] {
            w.raw(&digest.0);
        }
        if let Some(mandate) = &self.mandate {
            w.lp(&mandate.to_bytes());
        }
    }
    fn read(r: &mut Reader<'_>) -> Result<Self, Malformed> {
        let mandated = match r.u16()? {
            FORMAT => false,
            FORMAT_MANDATED => true,
            _ => return Err(Malformed::Unknown),
        };
        Ok(Header {
            lineage: Lineage::read(r)?,
            generation: r.u64()?,
            number: r.u64()?,
            previous: Digest::read(r)?,
            root: r.u32()?,
            seal_epoch: r.u64()?,
            txn_key: TxnKey { number: r.u32()?, public: Canonical::read(r)? },
            root_commitment: Digest::read(r)?,
            slots: Digest::read(r)?,
            roster: Digest::read(r)?,
            custodians: Digest::read(r)?,
            keyring: Digest::read(r)?,
            mandate: match mandated {
                true => Some(Box::new(SignedMandate::from_bytes(r.lp(MANDATE_BYTES_MAX)?)?)),
                false => None,
            },
        })
    }
}

/// A link with its signature: the value of a header record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeaderLink {
    /// What is signed.
    pub header: Header,
    /// By the T of the link before, or of the genesis.
    pub signature: Signature,
    /// By the identity key of the heir, over the same: in a link that begins a generation, and in no other. Whoever has that
    /// T, and the mandate, which is no secret, begins nothing.
    pub heir: Option<Signature>,
}

impl Canonical for HeaderLink {
    fn write(&self, w: &mut Writer) {
        self.header.write(w);
        self.signature.write(w);
        if let Some(heir) = &self.heir {
            heir.write(w);
        }
    }
    fn read(r: &mut Reader<'_>) -> Result<Self, Malformed> {
        let (header, signature) = (Header::read(r)?, Signature::read(r)?);
        let heir = header.mandate.is_some().then(|| Signature::read(r)).transpose()?;
        Ok(HeaderLink { header, signature, heir })
    }
}
