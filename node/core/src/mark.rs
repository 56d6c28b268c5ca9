//! The mark: a node's word, in a small file beside its tables, on how far its log and its vote were once durable. Tables
//! that hold less were damaged or put back, not torn.

use crate::codec::{Canonical, Malformed, Reader, Writer};
use crate::crypto;
use crate::name::{DiskId, NodeId};

/// Length of a mark, in bytes.
pub const MARK_BYTES: usize = 108;

const FORMAT: u16 = 1;
const DOMAIN: &[u8] = b"claviger/v1/mark\0";

/// Whom a node has given its vote, or follows: the greater term wins, then the greater node.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Ballot {
    /// Raft's term.
    pub term: u64,
    /// The candidate, or the leader.
    pub node: NodeId,
}

/// A place in Raft's log. Of two logs the greater ends later in Raft's own order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Position {
    /// Who made the entry.
    pub leader: Ballot,
    /// Its index.
    pub index: u64,
}

/// One mark. The last one in the file holds; each has the number after the one before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mark {
    /// The disk that it is about.
    pub disk: DiskId,
    /// How often the node had started on that disk; 0 before the first start came to its end.
    pub incarnation: u64,
    /// Raised by each mark.
    pub number: u64,
    /// The vote that was durable.
    pub vote: Option<Ballot>,
    /// The last entry of the log that was durable, or what a snapshot covered.
    pub last: Option<Position>,
}

impl Mark {
    /// A mark of a disk that holds nothing yet.
    pub fn blank(disk: DiskId) -> Mark {
        Mark { disk, incarnation: 0, number: 0, vote: None, last: None }
    }

    /// Whether nothing was durable yet.
    pub fn is_blank(&self) -> bool {
        *self == Mark { number: self.number, ..Mark::blank(self.disk) }
    }

    fn body(&self) -> Vec<u8> {
        let (vote, last) = (self.vote.unwrap_or_default(), self.last.unwrap_or_default());
        let mut w = Writer::default();
        w.u16(FORMAT).raw(&self.disk.0).u64(self.incarnation).u64(self.number);
        w.bool(self.vote.is_some()).u64(vote.term).u64(vote.node.0);
        w.bool(self.last.is_some()).u64(last.leader.term).u64(last.leader.node.0).u64(last.index);
        w.into_bytes()
    }
}

impl Canonical for Mark {
    fn write(&self, w: &mut Writer) {
        let body = self.body();
        w.raw(&body).raw(&crypto::sha256(&[DOMAIN, &body]).0);
    }

    /// Every mark has the same length: what is absent is zero. The checksum is over all before it.
    fn read(r: &mut Reader<'_>) -> Result<Self, Malformed> {
        if r.u16()? != FORMAT {
            return Err(Malformed::Unknown);
        }
        let (disk, incarnation, number) = (DiskId::read(r)?, r.u64()?, r.u64()?);
        let vote = present(r.bool()?, ballot(r)?)?;
        let there = r.bool()?;
        let last = present(there, Position { leader: ballot(r)?, index: r.u64()? })?;
        let mark = Mark { disk, incarnation, number, vote, last };
        let sum = r.array::<32>()?;
        if sum == crypto::sha256(&[DOMAIN, &mark.body()]).0 { Ok(mark) } else { Err(Malformed::Unknown) }
    }
}

fn ballot(r: &mut Reader<'_>) -> Result<Ballot, Malformed> {
    Ok(Ballot { term: r.u64()?, node: NodeId::read(r)? })
}

fn present<T: Default + PartialEq>(there: bool, value: T) -> Result<Option<T>, Malformed> {
    match there {
        true => Ok(Some(value)),
        false if value == T::default() => Ok(None),
        false => Err(Malformed::Unknown),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mark() -> Mark {
        let leader = Ballot { term: 7, node: NodeId(2) };
        let last = Some(Position { leader, index: 40 });
        Mark { disk: DiskId([9; 16]), incarnation: 3, number: 11, vote: Some(leader), last }
    }

    #[test]
    fn a_mark_is_read_as_written_and_always_of_one_length() {
        for mark in [mark(), Mark { vote: None, ..mark() }, Mark { last: None, ..mark() }, Mark::blank(DiskId([1; 16]))]
        {
            let bytes = mark.to_bytes();
            assert_eq!((bytes.len(), Mark::from_bytes(&bytes)), (MARK_BYTES, Ok(mark)));
        }
    }

    #[test]
    fn refuses_a_mark_with_any_bit_flipped() {
        for bit in 0..MARK_BYTES * 8 {
            let mut bytes = mark().to_bytes();
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert!(Mark::from_bytes(&bytes).is_err(), "bit {bit}");
        }
    }

    #[test]
    fn positions_stand_in_the_order_of_raft() {
        let at = |term, index| Position { leader: Ballot { term, node: NodeId(1) }, index };
        assert!(at(1, 9) < at(2, 3) && at(2, 3) < at(2, 4) && None < Some(at(0, 0)));
    }
}
