//! Between openraft's types and the messages of `claviger.peer.v1`. What comes in is bounded and read exactly; a
//! field that is missing makes the whole message unreadable.

use super::{Entry, LeaderId, LogId, Membership, Proposal, StoredMembership, Types, Vote};
use bytes::Bytes;
use claviger_core::roster::MEMBERS_MAX;
use claviger_core::txn::BATCH_BYTES_MAX;
use claviger_proto::peer::v1 as pb;
use claviger_proto::peer::v1::{raft_append_reply, raft_entry};
use openraft::entry::EntryPayload;
use openraft::raft::{AppendEntriesRequest, AppendEntriesResponse, TransferLeaderRequest, VoteRequest, VoteResponse};
use openraft::{EmptyNode, LogId as RaftLogId};
use prost::Message;
use std::collections::{BTreeMap, BTreeSet};

/// A message that is none of ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Unreadable;

/// Highest log index that is taken from anywhere. No log grows so long.
const INDEX_MAX: u64 = 1 << 62;
/// Entries in one append, at most.
const APPEND_ENTRIES_MAX: usize = 4_096;
/// Longest log entry on the wire or on disk: a batch and what is around it.
const ENTRY_BYTES_MAX: usize = BATCH_BYTES_MAX + 4_096;

/// A message that was sent, and its counterpart here.
pub(crate) trait Wire: Sized {
    type Message;
    fn to_wire(&self) -> Self::Message;
    fn from_wire(message: Self::Message) -> Result<Self, Unreadable>;
}

/// Reads a field that must be there.
pub(crate) fn need<T: Wire>(field: Option<T::Message>) -> Result<T, Unreadable> {
    T::from_wire(field.ok_or(Unreadable)?)
}

/// Reads a field that may be absent.
fn maybe<T: Wire>(field: Option<T::Message>) -> Result<Option<T>, Unreadable> {
    field.map(T::from_wire).transpose()
}

impl Wire for LeaderId {
    type Message = pb::RaftLeaderId;
    fn to_wire(&self) -> pb::RaftLeaderId {
        pb::RaftLeaderId { term: self.term, node: self.node_id }
    }
    fn from_wire(m: pb::RaftLeaderId) -> Result<Self, Unreadable> {
        Ok(LeaderId { term: m.term, node_id: m.node })
    }
}

impl Wire for Vote {
    type Message = pb::RaftVote;
    fn to_wire(&self) -> pb::RaftVote {
        pb::RaftVote { leader: Some(self.leader_id.to_wire()), committed: self.committed }
    }
    fn from_wire(m: pb::RaftVote) -> Result<Self, Unreadable> {
        Ok(Vote { leader_id: need(m.leader)?, committed: m.committed })
    }
}

impl Wire for LogId {
    type Message = pb::RaftLogId;
    fn to_wire(&self) -> pb::RaftLogId {
        pb::RaftLogId { leader: Some(self.leader_id.to_wire()), index: self.index }
    }
    /// What follows an index must be one too: a hostile one must not overflow anywhere.
    fn from_wire(m: pb::RaftLogId) -> Result<Self, Unreadable> {
        if m.index > INDEX_MAX {
            return Err(Unreadable);
        }
        Ok(RaftLogId { leader_id: need(m.leader)?, index: m.index })
    }
}

impl Wire for Membership {
    type Message = pb::RaftMembership;
    fn to_wire(&self) -> pb::RaftMembership {
        let configurations = self.get_joint_config().iter();
        let configuration = |voters: &BTreeSet<u64>| pb::RaftConfiguration { voters: voters.iter().copied().collect() };
        pb::RaftMembership {
            configurations: configurations.map(configuration).collect(),
            nodes: self.nodes().map(|(id, _)| *id).collect(),
        }
    }
    fn from_wire(m: pb::RaftMembership) -> Result<Self, Unreadable> {
        let small = m.configurations.len() <= 2 && m.nodes.len() <= MEMBERS_MAX;
        if !small || m.configurations.iter().any(|c| c.voters.len() > MEMBERS_MAX) {
            return Err(Unreadable);
        }
        if m.configurations.is_empty() && m.nodes.is_empty() {
            return Ok(Membership::default());
        }
        let configurations = m.configurations.into_iter().map(|c| c.voters.into_iter().collect()).collect();
        let nodes: BTreeMap<u64, EmptyNode> = m.nodes.into_iter().map(|id| (id, EmptyNode {})).collect();
        Membership::new(configurations, nodes).map_err(|_| Unreadable)
    }
}

impl Wire for StoredMembership {
    type Message = pb::RaftStoredMembership;
    fn to_wire(&self) -> pb::RaftStoredMembership {
        let log_id = self.log_id().as_ref().map(Wire::to_wire);
        pb::RaftStoredMembership { log_id, membership: Some(self.membership().to_wire()) }
    }
    fn from_wire(m: pb::RaftStoredMembership) -> Result<Self, Unreadable> {
        Ok(StoredMembership::new(maybe(m.log_id)?, need(m.membership)?))
    }
}

impl Wire for Entry {
    type Message = pb::RaftEntry;
    fn to_wire(&self) -> pb::RaftEntry {
        let payload = match &self.payload {
            EntryPayload::Blank => raft_entry::Payload::Blank(pb::RaftBlank {}),
            EntryPayload::Normal(Proposal(bytes)) => raft_entry::Payload::Batch(bytes.clone()),
            EntryPayload::Membership(membership) => raft_entry::Payload::Membership(membership.to_wire()),
        };
        pb::RaftEntry { log_id: Some(self.log_id.to_wire()), payload: Some(payload) }
    }
    fn from_wire(m: pb::RaftEntry) -> Result<Self, Unreadable> {
        let payload = match m.payload.ok_or(Unreadable)? {
            raft_entry::Payload::Blank(pb::RaftBlank {}) => EntryPayload::Blank,
            raft_entry::Payload::Batch(bytes) if bytes.len() <= BATCH_BYTES_MAX => {
                EntryPayload::Normal(Proposal(bytes))
            }
            raft_entry::Payload::Batch(_) => return Err(Unreadable),
            raft_entry::Payload::Membership(m) => EntryPayload::Membership(Membership::from_wire(m)?),
        };
        Ok(Entry { log_id: need(m.log_id)?, payload })
    }
}

impl Wire for AppendEntriesRequest<Types> {
    type Message = pb::RaftAppend;
    fn to_wire(&self) -> pb::RaftAppend {
        pb::RaftAppend {
            vote: Some(self.vote.to_wire()),
            previous: self.prev_log_id.as_ref().map(Wire::to_wire),
            entries: self.entries.iter().map(Wire::to_wire).collect(),
            leader_commit: self.leader_commit.as_ref().map(Wire::to_wire),
        }
    }
    /// Entries must follow `previous` without gap, and their terms must not fall nor pass their leader's: Raft itself looks
    /// at the last one only.
    fn from_wire(m: pb::RaftAppend) -> Result<Self, Unreadable> {
        if m.entries.len() > APPEND_ENTRIES_MAX {
            return Err(Unreadable);
        }
        let prev_log_id: Option<LogId> = maybe(m.previous)?;
        let entries = m.entries.into_iter().map(Entry::from_wire).collect::<Result<Vec<_>, _>>()?;
        let first = prev_log_id.map_or(0, |p| p.index + 1);
        let vote: Vote = need(m.vote)?;
        let leaders =
            || prev_log_id.iter().chain(entries.iter().map(|entry: &Entry| &entry.log_id)).map(|id| id.leader_id);
        let in_order = leaders().is_sorted() && leaders().all(|leader| leader <= vote.leader_id);
        if !in_order || !entries.iter().zip(first..).all(|(entry, index)| entry.log_id.index == index) {
            return Err(Unreadable);
        }
        Ok(AppendEntriesRequest { vote, prev_log_id, entries, leader_commit: maybe(m.leader_commit)? })
    }
}

impl Wire for AppendEntriesResponse<Types> {
    type Message = pb::RaftAppendReply;
    fn to_wire(&self) -> pb::RaftAppendReply {
        use raft_append_reply::Verdict;
        let (verdict, matched, vote) = match self {
            AppendEntriesResponse::Success => (Verdict::Success, None, None),
            AppendEntriesResponse::PartialSuccess(matched) => (Verdict::Partial, *matched, None),
            AppendEntriesResponse::Conflict => (Verdict::Conflict, None, None),
            AppendEntriesResponse::HigherVote(vote) => (Verdict::HigherVote, None, Some(vote.to_wire())),
        };
        pb::RaftAppendReply { verdict: verdict.into(), matched: matched.map(|l| l.to_wire()), vote }
    }
    fn from_wire(m: pb::RaftAppendReply) -> Result<Self, Unreadable> {
        use raft_append_reply::Verdict;
        match m.verdict() {
            Verdict::Success => Ok(AppendEntriesResponse::Success),
            Verdict::Partial => Ok(AppendEntriesResponse::PartialSuccess(maybe(m.matched)?)),
            Verdict::Conflict => Ok(AppendEntriesResponse::Conflict),
            Verdict::HigherVote => Ok(AppendEntriesResponse::HigherVote(need(m.vote)?)),
            Verdict::Unspecified => Err(Unreadable),
        }
    }
}

impl Wire for VoteRequest<Types> {
    type Message = pb::RaftVoteRequest;
    fn to_wire(&self) -> pb::RaftVoteRequest {
        let last = self.last_log_id.as_ref().map(Wire::to_wire);
        pb::RaftVoteRequest { vote: Some(self.vote.to_wire()), last, leadership_transfer: self.leadership_transfer }
    }
    fn from_wire(m: pb::RaftVoteRequest) -> Result<Self, Unreadable> {
        let mut request = VoteRequest::new(need(m.vote)?, maybe(m.last)?);
        request.leadership_transfer = m.leadership_transfer;
        Ok(request)
    }
}

impl Wire for VoteResponse<Types> {
    type Message = pb::RaftVoteReply;
    fn to_wire(&self) -> pb::RaftVoteReply {
        let last = self.last_log_id.as_ref().map(Wire::to_wire);
        pb::RaftVoteReply { vote: Some(self.vote.to_wire()), granted: self.vote_granted, last }
    }
    fn from_wire(m: pb::RaftVoteReply) -> Result<Self, Unreadable> {
        let vote: Vote = need(m.vote)?;
        Ok(VoteResponse { vote, vote_granted: m.granted, last_log_id: maybe(m.last)? })
    }
}

impl Wire for TransferLeaderRequest<Types> {
    type Message = pb::RaftTransfer;
    fn to_wire(&self) -> pb::RaftTransfer {
        pb::RaftTransfer {
            from_leader: Some(self.from_leader().to_wire()),
            to: *self.to_node_id(),
            last: self.last_log_id().map(Wire::to_wire),
        }
    }
    fn from_wire(m: pb::RaftTransfer) -> Result<Self, Unreadable> {
        Ok(TransferLeaderRequest::new(need(m.from_leader)?, m.to, maybe(m.last)?))
    }
}

/// The bytes of one value, for the disk.
pub(crate) fn encode<T: Wire>(value: &T) -> Bytes
where
    T::Message: Message,
{
    Bytes::from(value.to_wire().encode_to_vec())
}

/// Reads what [`encode`] wrote.
pub(crate) fn decode<T: Wire>(bytes: Bytes) -> Result<T, Unreadable>
where
    T::Message: Message + Default,
{
    if bytes.len() > ENTRY_BYTES_MAX {
        return Err(Unreadable);
    }
    T::from_wire(T::Message::decode(bytes).map_err(|_| Unreadable)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(term: u64, node_id: u64, index: u64) -> LogId {
        RaftLogId { leader_id: LeaderId { term, node_id }, index }
    }

    #[test]
    fn an_append_is_read_as_written() {
        let members =
            Membership::new(vec![BTreeSet::from([1, 2, 3])], BTreeMap::from([1, 2, 3, 4].map(|n| (n, EmptyNode {}))));
        let request = AppendEntriesRequest::<Types> {
            vote: Vote::new_committed(3, 2),
            prev_log_id: Some(id(2, 1, 6)),
            entries: vec![
                Entry { log_id: id(3, 2, 7), payload: EntryPayload::Blank },
                Entry { log_id: id(3, 2, 8), payload: EntryPayload::Normal(Proposal(Bytes::from_static(b"batch"))) },
                Entry { log_id: id(3, 2, 9), payload: EntryPayload::Membership(members.unwrap()) },
            ],
            leader_commit: None,
        };
        let back = AppendEntriesRequest::<Types>::from_wire(request.to_wire()).unwrap();
        assert_eq!(format!("{back:?}"), format!("{request:?}"));
    }

    #[test]
    fn refuses_terms_that_fall_or_pass_their_leader() {
        let entry = |term, index| Entry { log_id: id(term, 1, index), payload: EntryPayload::Blank };
        let read = |terms: [u64; 2]| {
            let request = AppendEntriesRequest::<Types> {
                vote: Vote::new_committed(5, 1),
                prev_log_id: Some(id(3, 1, 4)),
                entries: vec![entry(terms[0], 5), entry(terms[1], 6)],
                leader_commit: None,
            };
            AppendEntriesRequest::<Types>::from_wire(request.to_wire()).is_ok()
        };
        assert!(read([3, 5]) && read([4, 4]));
        assert!(!read([4, 3]), "they fall");
        assert!(!read([2, 5]), "they fall behind what they follow");
        assert!(!read([5, 6]), "they pass their leader");
    }

    #[test]
    fn refuses_entries_with_a_hole() {
        let entry = |index| Entry { log_id: id(1, 1, index), payload: EntryPayload::Blank };
        let request = |entries| AppendEntriesRequest::<Types> {
            vote: Vote::new_committed(1, 1),
            prev_log_id: Some(id(1, 1, 4)),
            entries,
            leader_commit: None,
        };
        let read = |entries| AppendEntriesRequest::<Types>::from_wire(request(entries).to_wire()).is_ok();
        assert!(read(vec![entry(5), entry(6)]));
        assert!(!read(vec![entry(5), entry(7)]));
        assert!(!read(vec![entry(6)]));
        let mut voteless = request(vec![]).to_wire();
        voteless.vote = None;
        assert!(AppendEntriesRequest::<Types>::from_wire(voteless).is_err());
    }

    #[test]
    fn refuses_an_index_that_nothing_can_follow() {
        let entry = |index| Entry { log_id: id(1, 1, index), payload: EntryPayload::Blank };
        let read = |previous, next| {
            let request = AppendEntriesRequest::<Types> {
                vote: Vote::new_committed(1, 1),
                prev_log_id: Some(id(1, 1, previous)),
                entries: vec![entry(next)],
                leader_commit: None,
            };
            AppendEntriesRequest::<Types>::from_wire(request.to_wire()).is_ok()
        };
        assert!(!read(u64::MAX - 1, u64::MAX));
        assert!(!read(u64::MAX, 0));
        assert!(read(INDEX_MAX - 1, INDEX_MAX));
    }
}
