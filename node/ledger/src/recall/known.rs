//! What nodes are known to have held on their disks, as their peers saw it: facts that stay true, of which each is judged
//! by the disk that it speaks of.

use crate::Lost;
use crate::raft::wire::{Unreadable, need};
use crate::raft::{LeaderId, LogId, ballot_of, leader_of, position};
use crate::went_back::{log_lost, vote_lost};
use bytes::Bytes;
use claviger_core::mark::{Ballot, Position};
use claviger_core::name::NodeId;
use claviger_proto::peer::v1 as pb;
use openraft::LogId as RaftLogId;

/// Tells two starts with the same number apart.
pub(crate) type Life = [u8; 16];

/// What is known of one node.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Known {
    /// Its highest incarnation, with the life that had it.
    pub start: Option<(u64, Life)>,
    /// Its highest vote, given or followed.
    pub vote: Option<Ballot>,
    /// The furthest committed place of the log that it held.
    pub held: Option<Position>,
    /// The furthest place that it held under the newest leader that it acknowledged anything to: another leader may have
    /// had it cut off again.
    pub acknowledged: Option<(Ballot, Position)>,
}

/// What a disk says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Own {
    /// How often it was started on, and this life.
    pub start: (u64, Life),
    /// Its vote.
    pub vote: Option<Ballot>,
    /// The last entry of its log.
    pub last: Option<Position>,
}

impl Known {
    /// Takes in what another node knows. Of two lives with the same number the first that was heard of stays.
    pub fn merge(&mut self, other: &Known) {
        if other.start.map(|(number, _)| number) > self.start.map(|(number, _)| number) {
            self.start = other.start;
        }
        self.vote = self.vote.max(other.vote);
        self.held = self.held.max(other.held);
        self.acknowledged = self.acknowledged.max(other.acknowledged);
    }

    /// What of another's word a node takes: nothing that it could not have seen as well. A start it hears from whoever has
    /// started; votes and places in the log are believed as far as its own have come. Else one node that leads for a moment
    /// could have every disk refused for ever.
    pub fn within(&self, vote: Option<Ballot>, last: Option<Position>) -> Known {
        let reached = |place: &Position| last.is_some_and(|last| *place <= last && place.index <= last.index);
        let given = |ballot: &Ballot| Some(*ballot) <= vote;
        Known {
            start: None,
            vote: self.vote.filter(given),
            held: self.held.filter(reached),
            acknowledged: self.acknowledged.filter(|(to, place)| given(to) && reached(place)),
        }
    }

    /// What the disk has lost of what is known of it.
    pub fn lost_by(&self, own: &Own) -> Option<Lost> {
        self.start_lost(own.start).or(vote_lost(own.vote, self.vote)).or(log_lost(own.last, self.binding(own.vote)))
    }

    fn start_lost(&self, (held, life): (u64, Life)) -> Option<Lost> {
        let (known, known_life) = self.start?;
        if known > held {
            return Some(Lost::Start { held, known });
        }
        (known == held && known_life != life).then_some(Lost::Life { start: held })
    }

    /// How far the log must go on a disk with that vote.
    fn binding(&self, vote: Option<Ballot>) -> Option<Position> {
        let acknowledged = self.acknowledged.filter(|(to, _)| vote == Some(*to)).map(|(_, position)| position);
        self.held.max(acknowledged)
    }

    /// As it is sent and stored.
    pub fn to_wire(self, node: NodeId) -> pb::Known {
        pb::Known {
            node: node.0,
            incarnation: self.start.map_or(0, |(number, _)| number),
            life: self.start.map(|(_, life)| Bytes::copy_from_slice(&life)).unwrap_or_default(),
            vote: self.vote.map(leader_out),
            held: self.held.map(place_out),
            acknowledged_to: self.acknowledged.map(|(to, _)| leader_out(to)),
            acknowledged: self.acknowledged.map(|(_, position)| place_out(position)),
        }
    }

    /// Reads what [`Known::to_wire`] wrote, exactly.
    pub fn from_wire(m: pb::Known) -> Result<(NodeId, Known), Unreadable> {
        let start = match (m.incarnation, m.life.is_empty()) {
            (0, true) => None,
            (number, false) => Some((number, m.life[..].try_into().map_err(|_| Unreadable)?)),
            (_, true) => return Err(Unreadable),
        };
        let acknowledged = match (leader_in(m.acknowledged_to)?, place_in(m.acknowledged)?) {
            (Some(to), Some(position)) => Some((to, position)),
            (None, None) => None,
            (Some(_), None) | (None, Some(_)) => return Err(Unreadable),
        };
        let known = Known { start, vote: leader_in(m.vote)?, held: place_in(m.held)?, acknowledged };
        Ok((NodeId(m.node), known))
    }
}

impl Own {
    /// As it is asked about.
    pub fn to_wire(self) -> pb::RecallAsk {
        let (incarnation, life) = self.start;
        let (vote, last) = (self.vote.map(leader_out), self.last.map(place_out));
        pb::RecallAsk { incarnation, life: Bytes::copy_from_slice(&life), vote, last }
    }

    /// Reads what [`Own::to_wire`] wrote, exactly.
    pub fn from_wire(m: pb::RecallAsk) -> Result<Own, Unreadable> {
        let life = m.life[..].try_into().map_err(|_| Unreadable)?;
        Ok(Own { start: (m.incarnation, life), vote: leader_in(m.vote)?, last: place_in(m.last)? })
    }
}

fn place_out(position: Position) -> pb::RaftLogId {
    let id: LogId = RaftLogId { leader_id: leader_of(position.leader), index: position.index };
    crate::raft::wire::Wire::to_wire(&id)
}

fn place_in(id: Option<pb::RaftLogId>) -> Result<Option<Position>, Unreadable> {
    let id: Option<LogId> = id.map(|id| need(Some(id))).transpose()?;
    Ok(id.as_ref().map(position))
}

fn leader_out(ballot: Ballot) -> pb::RaftLeaderId {
    pb::RaftLeaderId { term: ballot.term, node: ballot.node.0 }
}

fn leader_in(id: Option<pb::RaftLeaderId>) -> Result<Option<Ballot>, Unreadable> {
    let id: Option<LeaderId> = id.map(|id| need(Some(id))).transpose()?;
    Ok(id.as_ref().map(ballot_of))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn by(term: u64) -> Ballot {
        Ballot { term, node: NodeId(1) }
    }

    fn at(term: u64, index: u64) -> Position {
        Position { leader: by(term), index }
    }

    fn known() -> Known {
        let acknowledged = Some((by(5), at(5, 30)));
        Known { start: Some((3, [7; 16])), vote: Some(by(5)), held: Some(at(4, 20)), acknowledged }
    }

    #[test]
    fn another_s_word_goes_no_further_than_one_s_own_log_and_says_nothing_of_starts() {
        let all = known().within(Some(by(5)), Some(at(5, 30)));
        assert_eq!(all, Known { start: None, ..known() });
        let old = known().within(Some(by(4)), Some(at(4, 25)));
        assert_eq!(old, Known { held: Some(at(4, 20)), ..Known::default() }, "what this node has not seen itself");
        assert_eq!(known().within(Some(by(4)), Some(at(5, 19))).held, None, "an index that it does not have");
        assert_eq!(known().within(None, None), Known::default());
        let lie = Known { start: Some((u64::MAX, [1; 16])), vote: Some(by(u64::MAX)), ..Known::default() };
        assert_eq!(lie.within(Some(by(9)), Some(at(9, 90))), Known::default());
    }

    #[test]
    fn what_is_asked_is_read_as_it_was_sent() {
        for asked in [own(), Own { vote: None, last: None, ..own() }] {
            assert_eq!(Own::from_wire(asked.to_wire()), Ok(asked));
        }
        assert!(Own::from_wire(pb::RecallAsk { life: vec![1; 15].into(), ..own().to_wire() }).is_err());
    }

    fn own() -> Own {
        Own { start: (4, [8; 16]), vote: Some(by(5)), last: Some(at(5, 30)) }
    }

    #[test]
    fn a_disk_that_holds_everything_is_believed() {
        assert_eq!(known().lost_by(&own()), None);
        assert_eq!(known().lost_by(&Own { start: (3, [7; 16]), ..own() }), None, "asked twice in one life");
        assert_eq!(Known::default().lost_by(&Own { vote: None, last: None, ..own() }), None, "nothing is known");
        let later = Own { vote: Some(by(6)), last: Some(at(4, 25)), ..own() };
        assert_eq!(known().lost_by(&later), None, "a later leader had the end cut off");
    }

    #[test]
    fn a_disk_that_holds_less_is_named() {
        let lost = |own: Own| known().lost_by(&own);
        assert_eq!(lost(Own { start: (2, [8; 16]), ..own() }), Some(Lost::Start { held: 2, known: 3 }));
        assert_eq!(lost(Own { start: (3, [8; 16]), ..own() }), Some(Lost::Life { start: 3 }), "two lives, one number");
        assert!(matches!(lost(Own { vote: Some(by(4)), ..own() }), Some(Lost::Vote { .. })));
        assert!(matches!(lost(Own { vote: None, ..own() }), Some(Lost::Vote { .. })));
        assert!(matches!(lost(Own { last: Some(at(5, 29)), ..own() }), Some(Lost::Log { .. })), "acknowledged");
        let later = Own { vote: Some(by(6)), last: Some(at(4, 19)), ..own() };
        assert!(matches!(lost(later), Some(Lost::Log { .. })), "what was committed is never cut off");
        assert!(matches!(lost(Own { last: None, ..own() }), Some(Lost::Log { .. })));
    }

    #[test]
    fn facts_are_read_as_written_and_merged_to_the_furthest() {
        for known in [known(), Known::default(), Known { acknowledged: None, ..known() }] {
            assert_eq!(Known::from_wire(known.to_wire(NodeId(9))), Ok((NodeId(9), known)));
        }
        let halves = [
            pb::Known { life: Bytes::new(), ..known().to_wire(NodeId(9)) },
            pb::Known { acknowledged: None, ..known().to_wire(NodeId(9)) },
            pb::Known { life: Bytes::from_static(b"short"), ..known().to_wire(NodeId(9)) },
        ];
        assert!(halves.into_iter().all(|half| Known::from_wire(half).is_err()));
        let (mut merged, later) =
            (known(), Known { start: Some((3, [1; 16])), held: Some(at(5, 28)), ..Known::default() });
        merged.merge(&later);
        assert_eq!(merged, Known { held: Some(at(5, 28)), ..known() });
    }
}
