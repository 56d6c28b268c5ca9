//! Who belongs: the nodes of a cluster, the holders of its shares, and the genesis that binds both to a lineage.

use crate::codec::{Canonical, Malformed, Reader, Writer};
use crate::name::{Digest, DiskId, Identity, NodeId, Segment, Signature, VerifyingKey};
use crate::time::UnixMs;

/// Nodes in a roster, at most.
pub const MEMBERS_MAX: usize = 64;
/// Holders of shares, at most: x runs over the non-zero elements of GF(2^8), and people over far fewer.
pub const HOLDERS_MAX: usize = 64;
/// Longest age recipient, in bytes (an X25519 recipient has 62).
pub const RECIPIENT_BYTES_MAX: usize = 256;

const FORMAT: u16 = 1;
const GENESIS_DOMAIN: &[u8] = b"claviger/v1/genesis\0";

/// What a node is meant to be in Raft.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// Votes and stores.
    Voter,
    /// Stores.
    Learner,
    /// Was a member once; its number is not used again.
    Retired,
}

/// One node of the cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// Its number, never used twice.
    pub node: NodeId,
    /// Its Ed25519 identity key: serves TLS and domain-separated signatures.
    pub key: VerifyingKey,
    /// The disk that it was enrolled with: a wiped disk has another.
    pub disk: DiskId,
    /// What it is meant to be.
    pub role: Role,
}

impl Canonical for Member {
    fn write(&self, w: &mut Writer) {
        w.u64(self.node.0).raw(&self.key.0).raw(&self.disk.0);
        w.u8(match self.role {
            Role::Voter => 1,
            Role::Learner => 2,
            Role::Retired => 3,
        });
    }
    fn read(r: &mut Reader<'_>) -> Result<Self, Malformed> {
        Ok(Member {
            node: NodeId::read(r)?,
            key: VerifyingKey::read(r)?,
            disk: DiskId::read(r)?,
            role: match r.u8()? {
                1 => Role::Voter,
                2 => Role::Learner,
                3 => Role::Retired,
                _ => return Err(Malformed::Unknown),
            },
        })
    }
}

/// The nodes, as of one epoch. The higher epoch wins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Roster {
    /// Raised by every change.
    pub epoch: u64,
    /// In order of their numbers, each once.
    pub members: Vec<Member>,
}

impl Roster {
    /// The member of that number, retired ones too.
    pub fn member(&self, node: NodeId) -> Option<&Member> {
        self.members.iter().find(|m| m.node == node)
    }

    /// The member whose identity key that is.
    pub fn member_by_key(&self, key: &VerifyingKey) -> Option<&Member> {
        self.members.iter().find(|m| m.key == *key)
    }

    fn ordered(&self) -> bool {
        self.members.is_sorted_by(|a, b| a.node < b.node)
    }
}

impl Canonical for Roster {
    fn write(&self, w: &mut Writer) {
        w.u16(FORMAT).u64(self.epoch).list(&self.members);
    }
    fn read(r: &mut Reader<'_>) -> Result<Self, Malformed> {
        if r.u16()? != FORMAT {
            return Err(Malformed::Unknown);
        }
        let roster = Roster { epoch: r.u64()?, members: r.list(MEMBERS_MAX)? };
        if roster.ordered() { Ok(roster) } else { Err(Malformed::Unknown) }
    }
}

/// The public half of a custodian.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CustodianKeys {
    /// Who they are: the URI of their certificate.
    pub identity: Identity,
    /// The age recipient (`age1...`) that their share is sealed to.
    pub recipient: String,
    /// The Ed25519 key that they sign with.
    pub signing: VerifyingKey,
}

impl Canonical for CustodianKeys {
    fn write(&self, w: &mut Writer) {
        self.identity.write(w);
        w.lp(self.recipient.as_bytes()).raw(&self.signing.0);
    }
    fn read(r: &mut Reader<'_>) -> Result<Self, Malformed> {
        Ok(CustodianKeys {
            identity: Identity::read(r)?,
            recipient: r.text(RECIPIENT_BYTES_MAX)?.to_owned(),
            signing: VerifyingKey::read(r)?,
        })
    }
}

/// A custodian and what is public of the share that they hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holder {
    /// Who.
    pub keys: CustodianKeys,
    /// x of the share, 1..=n.
    pub index: u8,
    /// d_i: tells this share from every other, in itself and in its place.
    pub digest: Digest,
    /// pk_i: whoever can sign under it has the share.
    pub proof_key: VerifyingKey,
}

impl Canonical for Holder {
    fn write(&self, w: &mut Writer) {
        self.keys.write(w);
        w.u8(self.index).raw(&self.digest.0).raw(&self.proof_key.0);
    }
    fn read(r: &mut Reader<'_>) -> Result<Self, Malformed> {
        Ok(Holder {
            keys: CustodianKeys::read(r)?,
            index: r.u8()?,
            digest: Digest::read(r)?,
            proof_key: VerifyingKey::read(r)?,
        })
    }
}

/// Who holds the shares of one share epoch. The value of the custodians record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Custodians {
    /// The region whose unsealing secret is shared.
    pub region: Segment,
    /// Raised by refresh and rekey, from 1.
    pub epoch: u32,
    /// Shares that open, 2..=n.
    pub threshold: u8,
    /// In order of index, 1..=n.
    pub holders: Vec<Holder>,
}

impl Canonical for Custodians {
    fn write(&self, w: &mut Writer) {
        w.u16(FORMAT);
        self.region.write(w);
        w.u32(self.epoch).u8(self.threshold).list(&self.holders);
    }
    fn read(r: &mut Reader<'_>) -> Result<Self, Malformed> {
        if r.u16()? != FORMAT {
            return Err(Malformed::Unknown);
        }
        let set = Custodians {
            region: Segment::read(r)?,
            epoch: r.u32()?,
            threshold: r.u8()?,
            holders: r.list(HOLDERS_MAX)?,
        };
        let in_order = set.holders.iter().enumerate().all(|(i, h)| usize::from(h.index) == i + 1);
        if in_order { Ok(set) } else { Err(Malformed::Unknown) }
    }
}

/// What a lineage is the hash of. Never holds a root commitment, a share's digest or a header's hash: it is signed
/// before those exist.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Genesis {
    /// The cluster's name.
    pub cluster: Segment,
    /// The first region's name.
    pub region: Segment,
    /// Makes every founding another lineage.
    pub nonce: [u8; 32],
    /// When the founder's clock said that it was.
    pub founded_at: UnixMs,
    /// Shares that open. 0, with no custodians, for a cluster whose only slot is static.
    pub threshold: u8,
    /// Who is to hold a share, in order of index.
    pub custodians: Vec<CustodianKeys>,
    /// The first transaction key.
    pub txn_public: VerifyingKey,
    /// The first roster, epoch 1.
    pub roster: Roster,
}

impl Genesis {
    /// What the lineage is the SHA-256 of, and what each founding node countersigns.
    pub fn signed_bytes(&self) -> Vec<u8> {
        let mut w = Writer::default();
        w.raw(GENESIS_DOMAIN);
        self.write(&mut w);
        w.into_bytes()
    }
}

impl Canonical for Genesis {
    fn write(&self, w: &mut Writer) {
        w.u16(FORMAT);
        self.cluster.write(w);
        self.region.write(w);
        w.raw(&self.nonce).u64(self.founded_at.0).u8(self.threshold).list(&self.custodians);
        w.raw(&self.txn_public.0);
        self.roster.write(w);
    }
    fn read(r: &mut Reader<'_>) -> Result<Self, Malformed> {
        if r.u16()? != FORMAT {
            return Err(Malformed::Unknown);
        }
        Ok(Genesis {
            cluster: Segment::read(r)?,
            region: Segment::read(r)?,
            nonce: r.array()?,
            founded_at: UnixMs(r.u64()?),
            threshold: r.u8()?,
            custodians: r.list(HOLDERS_MAX)?,
            txn_public: VerifyingKey::read(r)?,
            roster: Roster::read(r)?,
        })
    }
}

/// A node's signature under the genesis.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Countersignature {
    /// Whose.
    pub node: NodeId,
    /// Ed25519 by its identity key over [`Genesis::signed_bytes`].
    pub signature: Signature,
}

impl Canonical for Countersignature {
    fn write(&self, w: &mut Writer) {
        w.u64(self.node.0).raw(&self.signature.0);
    }
    fn read(r: &mut Reader<'_>) -> Result<Self, Malformed> {
        Ok(Countersignature { node: NodeId::read(r)?, signature: Signature::read(r)? })
    }
}

/// The genesis with every founding node's signature: the value of the genesis record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Founding {
    /// What was agreed.
    pub genesis: Genesis,
    /// One for each member of its roster, in their order.
    pub countersignatures: Vec<Countersignature>,
}

impl Canonical for Founding {
    fn write(&self, w: &mut Writer) {
        self.genesis.write(w);
        w.list(&self.countersignatures);
    }
    fn read(r: &mut Reader<'_>) -> Result<Self, Malformed> {
        Ok(Founding { genesis: Genesis::read(r)?, countersignatures: r.list(MEMBERS_MAX)? })
    }
}
