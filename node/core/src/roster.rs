//! Who belongs: the nodes of a cluster, the holders of its shares, and the genesis that binds both to a lineage.

use crate::codec::{Canonical, Malformed, Reader, Writer};
use crate::name::{Digest, DiskId, Identity, NodeId, Segment, Signature, VerifyingKey};
use crate::time::UnixMs;
use std::collections::BTreeSet;

/// Nodes in a roster, at most, those that left included.
pub const MEMBERS_MAX: usize = 1_024;
/// Nodes that belong to a cluster at once, at most.
pub const PRESENT_MAX: usize = 64;
/// Holders of shares, at most: x runs over the non-zero elements of GF(2^8), and people over far fewer.
pub const HOLDERS_MAX: usize = 64;
/// Longest age recipient, in bytes (an X25519 recipient has 62).
pub const RECIPIENT_BYTES_MAX: usize = 256;

const FORMAT: u16 = 1;
/// A roster that says who voted before.
const FORMAT_FOLLOWING: u16 = 2;
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
    /// Raised by one by every change, from 1.
    pub epoch: u64,
    /// In order of their numbers, each once. Whoever left stays, retired: no number, key or disk comes back.
    pub members: Vec<Member>,
    /// Who was to vote in the epoch before: none in the first. Raft may still be on its way from these.
    pub before: BTreeSet<NodeId>,
}

impl Roster {
    /// The roster that a cluster is founded with.
    pub fn first(members: Vec<Member>) -> Roster {
        Roster { epoch: 1, members, before: BTreeSet::new() }
    }

    /// The member of that number, retired ones too.
    pub fn member(&self, node: NodeId) -> Option<&Member> {
        self.members.iter().find(|m| m.node == node)
    }

    /// The member whose identity key that is.
    pub fn member_by_key(&self, key: &VerifyingKey) -> Option<&Member> {
        self.members.iter().find(|m| m.key == *key)
    }

    /// Who is to vote.
    pub fn voters(&self) -> BTreeSet<NodeId> {
        self.in_role(|role| role == Role::Voter)
    }

    /// Who is to store: voters and learners.
    pub fn present(&self) -> BTreeSet<NodeId> {
        self.in_role(|role| role != Role::Retired)
    }

    /// Whether Raft may have these voters while this roster is the newest: those of this epoch, or of the one before.
    pub fn seats(&self, voters: &BTreeSet<NodeId>) -> bool {
        *voters == self.voters() || (!self.before.is_empty() && *voters == self.before)
    }

    /// Whether `next` may be the roster of the epoch after this one: nobody vanishes, comes back, or becomes somebody else,
    /// no key and no disk serves two, and somebody votes.
    pub fn leads_to(&self, next: &Roster) -> bool {
        let stays = |old: &Member| {
            let same = |new: &&Member| new.key == old.key && new.disk == old.disk;
            let back = |new: &&Member| old.role == Role::Retired && new.role != Role::Retired;
            next.member(old.node).filter(same).is_some_and(|new| !back(&new))
        };
        let once = |take: fn(&Member) -> &[u8]| {
            next.members.iter().map(take).collect::<BTreeSet<_>>().len() == next.members.len()
        };
        let comes = |new: &Member| self.member(new.node).is_some() || new.role != Role::Retired;
        next.epoch == self.epoch + 1
            && next.before == self.voters()
            && !next.voters().is_empty()
            && next.present().len() <= PRESENT_MAX
            && self.members.iter().all(stays)
            && next.members.iter().all(comes)
            && once(|m| &m.key.0)
            && once(|m| &m.disk.0)
    }

    /// Whether nobody but this voter is present.
    pub fn is_left_to(&self, heir: &Member) -> bool {
        self.member(heir.node) == Some(heir)
            && self.present() == BTreeSet::from([heir.node])
            && heir.role == Role::Voter
    }

    /// The roster of the epoch after this one in which that node, an old member or a new one, is left alone.
    /// Whether it may follow, [`Roster::leads_to`] says.
    pub fn left_to(&self, heir: &Member) -> Roster {
        let mut members: Vec<Member> =
            self.members.iter().map(|member| Member { role: Role::Retired, ..member.clone() }).collect();
        members.retain(|member| member.node != heir.node);
        members.push(heir.clone());
        members.sort_unstable_by_key(|member| member.node);
        Roster { epoch: self.epoch + 1, members, before: self.voters() }
    }

    fn in_role(&self, is: impl Fn(Role) -> bool) -> BTreeSet<NodeId> {
        self.members.iter().filter(|m| is(m.role)).map(|m| m.node).collect()
    }

    fn ordered(&self) -> bool {
        self.members.is_sorted_by(|a, b| a.node < b.node)
    }
}

impl Canonical for Roster {
    fn write(&self, w: &mut Writer) {
        let following = !self.before.is_empty();
        w.u16(if following { FORMAT_FOLLOWING } else { FORMAT }).u64(self.epoch).list(&self.members);
        if following {
            w.list(&self.before.iter().copied().collect::<Vec<_>>());
        }
    }
    fn read(r: &mut Reader<'_>) -> Result<Self, Malformed> {
        let following = match r.u16()? {
            FORMAT => false,
            FORMAT_FOLLOWING => true,
            _ => return Err(Malformed::Unknown),
        };
        let (epoch, members) = (r.u64()?, r.list(MEMBERS_MAX)?);
        let before: Vec<NodeId> = if following { r.list(MEMBERS_MAX)? } else { Vec::new() };
        let roster = Roster { epoch, members, before: before.iter().copied().collect() };
        // The first epoch follows none, every other one does.
        let whole = roster.ordered() && before.is_sorted_by(|a, b| a < b) && (epoch > 1) != before.is_empty();
        if whole { Ok(roster) } else { Err(Malformed::Unknown) }
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

#[cfg(test)]
mod tests {
    use super::*;

    fn line(n: u64, role: Role) -> Member {
        let byte = n as u8;
        Member { node: NodeId(n), key: VerifyingKey([byte; 32]), disk: DiskId([byte; 16]), role }
    }

    fn next(before: &Roster, members: Vec<Member>) -> Roster {
        Roster { epoch: before.epoch + 1, members, before: before.voters() }
    }

    #[test]
    fn a_roster_leads_to_one_in_which_nobody_vanishes_comes_back_or_becomes_another() {
        use Role::{Learner, Retired, Voter};
        let first = Roster::first(vec![line(1, Voter), line(2, Voter)]);
        let good = |members: Vec<Member>| first.leads_to(&next(&first, members));
        assert!(good(vec![line(1, Voter), line(2, Voter), line(3, Learner)]));
        assert!(good(vec![line(1, Voter), line(2, Learner)]) && good(vec![line(1, Voter), line(2, Retired)]));
        assert!(!good(vec![line(1, Voter)]), "2 vanished");
        assert!(!good(vec![line(1, Learner), line(2, Learner)]), "nobody votes");
        assert!(!good(vec![line(1, Voter), line(2, Voter), line(3, Retired)]), "3 never was here");
        assert!(!good(vec![line(1, Voter), Member { disk: DiskId([9; 16]), ..line(2, Voter) }]), "another disk");
        assert!(!good(vec![line(1, Voter), Member { key: VerifyingKey([9; 32]), ..line(2, Voter) }]), "another key");
        let twin = Member { node: NodeId(3), ..line(2, Learner) };
        assert!(!good(vec![line(1, Voter), line(2, Voter), twin]), "one key and disk under two numbers");
        let gone = next(&first, vec![line(1, Voter), line(2, Retired)]);
        assert!(!gone.leads_to(&next(&gone, vec![line(1, Voter), line(2, Learner)])), "2 came back");
        assert!(!first.leads_to(&Roster { epoch: 3, ..next(&first, first.members.clone()) }), "an epoch was left out");
        assert!(!first.leads_to(&Roster { before: BTreeSet::new(), ..next(&first, first.members.clone()) }));
    }

    #[test]
    fn raft_may_have_the_voters_of_this_epoch_or_of_the_one_before() {
        let set = |nodes: &[u64]| nodes.iter().copied().map(NodeId).collect::<BTreeSet<_>>();
        let first = Roster::first(vec![line(1, Role::Voter), line(2, Role::Voter)]);
        assert!(first.seats(&set(&[1, 2])) && !first.seats(&set(&[])) && !first.seats(&set(&[1])));
        let second = next(&first, vec![line(1, Role::Voter), line(2, Role::Voter), line(3, Role::Voter)]);
        assert!(second.seats(&set(&[1, 2])) && second.seats(&set(&[1, 2, 3])) && !second.seats(&set(&[1, 3])));
    }

    #[test]
    fn a_roster_is_read_as_it_was_written() {
        let first = Roster::first(vec![line(1, Role::Voter)]);
        let second = next(&first, vec![line(1, Role::Voter), line(2, Role::Learner)]);
        for roster in [&first, &second] {
            assert_eq!(Roster::from_bytes(&roster.to_bytes()).as_ref(), Ok(roster));
        }
        assert_eq!(first.to_bytes()[..2], [0, 1], "the first is of the format that founded every cluster so far");
        let orphan = Roster { epoch: 2, ..first };
        assert!(Roster::from_bytes(&orphan.to_bytes()).is_err(), "a later one says who voted before");
    }
}
