//! What must hold for every frame that a peer sends; what must hold for the snapshot in them stands with its format, in
//! `claviger_core::fuzz`. Run over seeds and mutants by the test at the foot, and searched by `make fuzz`.

use crate::raft::wire::{Wire, decode, encode};
use crate::raft::{Entry, LogId, Membership, Proposal, StoredMembership, Types, Vote};
use crate::recall::Known;
use bytes::Bytes;
use claviger_proto::peer::v1 as pb;
use openraft::entry::EntryPayload;
use openraft::raft::{AppendEntriesRequest, AppendEntriesResponse, TransferLeaderRequest, VoteRequest, VoteResponse};
use openraft::{EmptyNode, LogId as RaftLogId};
use prost::Message;
use std::collections::{BTreeMap, BTreeSet};

/// A name, and what must hold for every input.
pub type Target = (&'static str, fn(&[u8]));

/// All of this crate.
pub const TARGETS: &[Target] = &[("raft-wire", raft_wire), ("ledger-frames", ledger_frames)];

/// First inputs that are not among the format vectors.
pub fn seeds() -> Vec<Vec<u8>> {
    let append = AppendEntriesRequest::<Types> {
        vote: Vote::new_committed(3, 2),
        prev_log_id: Some(id(6)),
        entries: vec![
            Entry { log_id: id(7), payload: EntryPayload::Blank },
            Entry { log_id: id(8), payload: EntryPayload::Normal(Proposal(Bytes::from_static(b"batch"))) },
            Entry { log_id: id(9), payload: EntryPayload::Membership(members()) },
        ],
        leader_commit: Some(id(7)),
    };
    let vote = VoteRequest::<Types>::new(Vote::new(4, 1), Some(id(9)));
    let stored = StoredMembership::new(Some(id(9)), members());
    let leads = Some(Vote::new_committed(3, 2).to_wire());
    let offer = pb::SnapshotOffer { vote: leads, header: vec![1; 300].into(), anew: true };
    let (image, part, digest) = (vec![2; 32].into(), vec![3; 40].into(), vec![4; 32].into());
    let part = pb::SnapshotPart { vote: leads, image, part, digest };
    let frame = |body| pb::RaftRequest { envelope: Some(envelope()), body: Some(body) }.encode_to_vec();
    vec![
        encode(&append).to_vec(),
        encode(&vote).to_vec(),
        encode(&stored).to_vec(),
        encode(&id(3)).to_vec(),
        frame(pb::raft_request::Body::Append(append.to_wire())),
        frame(pb::raft_request::Body::Vote(vote.to_wire())),
        frame(pb::raft_request::Body::Offer(offer)),
        frame(pb::raft_request::Body::Snapshot(part)),
    ]
}

fn id(index: u64) -> LogId {
    RaftLogId { leader_id: crate::raft::LeaderId { term: 3, node_id: 2 }, index }
}

fn members() -> Membership {
    let nodes = BTreeMap::from([1, 2, 3, 4].map(|node| (node, EmptyNode {})));
    Membership::new(vec![BTreeSet::from([1, 2, 3])], nodes).expect("voters are among the nodes")
}

fn envelope() -> pb::Envelope {
    pb::Envelope { lineage: vec![7; 32].into(), ..pb::Envelope::default() }
}

/// What was taken is written in one form, which is read as the same again.
fn settled<T: Wire>(bytes: &[u8])
where
    T::Message: Message + Default,
{
    let Ok(value) = decode::<T>(Bytes::copy_from_slice(bytes)) else { return };
    let once = encode(&value);
    let again = decode::<T>(once.clone()).ok();
    assert!(again.is_some_and(|again| encode(&again) == once), "{} changes on its way", std::any::type_name::<T>());
}

fn raft_wire(bytes: &[u8]) {
    settled::<AppendEntriesRequest<Types>>(bytes);
    settled::<AppendEntriesResponse<Types>>(bytes);
    settled::<VoteRequest<Types>>(bytes);
    settled::<VoteResponse<Types>>(bytes);
    settled::<TransferLeaderRequest<Types>>(bytes);
    settled::<StoredMembership>(bytes);
    settled::<LogId>(bytes);
    settled::<Vote>(bytes);
    settled::<Entry>(bytes);
    if let Ok(append) = decode::<AppendEntriesRequest<Types>>(Bytes::copy_from_slice(bytes)) {
        let indices: Vec<u64> = append.entries.iter().map(|entry| entry.log_id.index).collect();
        assert!(indices.windows(2).all(|two| two[1] == two[0] + 1), "entries with a hole");
        assert!(
            append.entries.iter().all(|e| e.log_id.leader_id <= append.vote.leader_id),
            "an entry of a later leader"
        );
    }
}

fn message<M: Message + Default + PartialEq>(bytes: &[u8]) {
    let Ok(message) = M::decode(bytes) else { return };
    let again = M::decode(&message.encode_to_vec()[..]).ok();
    assert!(again == Some(message), "{} changes on its way", std::any::type_name::<M>());
}

fn ledger_frames(bytes: &[u8]) {
    message::<pb::Ask>(bytes);
    message::<pb::Reply>(bytes);
    message::<pb::RaftRequest>(bytes);
    message::<pb::RaftReply>(bytes);
    message::<pb::ProposeRequest>(bytes);
    message::<pb::ProposeReply>(bytes);
    message::<pb::BarrierRequest>(bytes);
    message::<pb::BarrierReply>(bytes);
    message::<pb::CompareRequest>(bytes);
    message::<pb::CompareReply>(bytes);
    message::<pb::AcquaintRequest>(bytes);
    message::<pb::AcquaintReply>(bytes);
    message::<pb::RecallRequest>(bytes);
    message::<pb::RecallReply>(bytes);
    known(bytes);
}

/// What is known of a node is stored and sent in one form.
fn known(bytes: &[u8]) {
    let Ok((node, known)) = pb::Known::decode(bytes).map_err(|_| ()).and_then(|m| Known::from_wire(m).map_err(drop))
    else {
        return;
    };
    assert!(
        Known::from_wire(known.to_wire(node)).is_ok_and(|again| again == (node, known)),
        "known changes on its way"
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn holds_for_seeds_and_mutants() {
        claviger_fuzz::exercise(TARGETS, &seeds(), 4_000);
    }

    #[test]
    fn seeds_are_read() {
        let seeds = seeds();
        let read = |n: usize| Bytes::copy_from_slice(&seeds[n]);
        assert_eq!(decode::<AppendEntriesRequest<Types>>(read(0)).unwrap().entries.len(), 3);
        assert!(decode::<VoteRequest<Types>>(read(1)).is_ok() && decode::<StoredMembership>(read(2)).is_ok());
        let body = |n: usize| pb::RaftRequest::decode(read(n)).unwrap().body;
        assert!(matches!(body(6), Some(pb::raft_request::Body::Offer(offer)) if offer.vote.is_some()));
        assert!(matches!(body(7), Some(pb::raft_request::Body::Snapshot(part)) if part.vote.is_some()));
    }
}
