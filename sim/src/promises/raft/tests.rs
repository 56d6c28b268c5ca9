//! What each check is seen broken by.

use super::*;
use crate::disk::Honesty;
use claviger_world::disk::{Batch, Disk};
use std::time::Duration;

/// How long a frame is on its way.
const ON_ITS_WAY: Duration = Duration::from_millis(5);

fn leader((term, node): Leader) -> Option<pb::RaftLeaderId> {
    Some(pb::RaftLeaderId { term, node })
}

fn vote(of: Leader, committed: bool) -> Option<pb::RaftVote> {
    Some(pb::RaftVote { leader: leader(of), committed })
}

fn id(index: u64, of: Leader) -> Option<pb::RaftLogId> {
    Some(pb::RaftLogId { leader: leader(of), index })
}

fn entry(index: u64, of: Leader, text: &'static str) -> pb::RaftEntry {
    let payload = Some(pb::raft_entry::Payload::Batch(Bytes::from_static(text.as_bytes())));
    pb::RaftEntry { log_id: id(index, of), payload }
}

fn request(body: raft_request::Body) -> Vec<u8> {
    pb::RaftRequest { envelope: None, body: Some(body) }.encode_to_vec()
}

fn append(by: Leader, previous: Option<pb::RaftLogId>, entries: Vec<pb::RaftEntry>) -> Vec<u8> {
    let append = pb::RaftAppend { vote: vote(by, true), previous, entries, leader_commit: None };
    request(raft_request::Body::Append(append))
}

/// A frame comes as soon as it is sent.
fn hear(raft: &Raft, from: u64, to: u64, body: &[u8]) {
    raft.request(NodeId(from), NodeId(to), Instant::now(), body);
}

/// A candidate asks a voter, which grants it, if `granted` says so.
fn election(raft: &Raft, voter: u64, candidate: Leader, granted: bool) {
    let ask = pb::RaftVoteRequest { vote: vote(candidate, false), last: None, leadership_transfer: false };
    let question = request(raft_request::Body::Vote(ask));
    hear(raft, candidate.1, voter, &question);
    let reply = pb::RaftVoteReply { vote: vote(candidate, false), granted, last: None };
    let reply = pb::RaftReply { envelope: None, body: Some(raft_reply::Body::Vote(reply)) };
    raft.answer(NodeId(voter), NodeId(candidate.1), &question, &reply.encode_to_vec());
}

/// Which promises are broken after that.
fn broken(story: impl AsyncFnOnce(&Raft, &SimDisk)) -> Vec<Promise> {
    let mut builder = tokio::runtime::Builder::new_current_thread();
    builder.enable_time().start_paused(true).build().unwrap().block_on(async {
        let trace = Arc::new(crate::trace::Trace::new(1, None));
        let board = Board::new(trace.clone());
        let raft = Raft::new(board.clone());
        story(&raft, &SimDisk::new(trace, Honesty::Honest)).await;
        assert!(board.counts()[&Promise::Raft] > 0);
        board.broken().into_iter().map(|broken| broken.promise).collect()
    })
}

const A: Leader = (2, 1);
const B: Leader = (2, 3);

fn honest(raft: &Raft) {
    election(raft, 2, A, true);
    hear(raft, 1, 2, &append(A, None, vec![entry(1, A, "x"), entry(2, A, "y")]));
    hear(raft, 1, 3, &append(A, id(1, A), vec![entry(2, A, "y")]));
    // The same term, and a greater number: such leader ids are one after the other.
    election(raft, 2, B, true);
    hear(raft, 3, 2, &append(B, id(1, A), vec![entry(2, B, "z")]));
    election(raft, 2, A, false);
    raft.status(NodeId(2), 1, 2, 1);
    raft.status(NodeId(2), 2, 3, 2);
}

#[test]
fn leaders_lead_as_themselves_and_logs_match() {
    assert_eq!(broken(async |raft, _| honest(raft)), []);
    let wrong = [
        (3, append(A, id(1, A), vec![])),
        (1, append(A, None, vec![entry(1, A, "other")])),
        (3, append(B, id(1, (1, 1)), vec![entry(2, B, "z")])),
    ];
    for (from, body) in wrong {
        let story = async |raft: &Raft, _: &SimDisk| {
            honest(raft);
            hear(raft, from, 2, &body);
        };
        assert_eq!(broken(story), [Promise::Raft]);
    }
}

#[test]
fn neither_vote_nor_term_nor_what_was_applied_goes_back() {
    let after = |then: &dyn Fn(&Raft)| {
        broken(async |raft, _| {
            honest(raft);
            then(raft);
        })
    };
    assert_eq!(after(&|raft| election(raft, 2, (2, 2), true)), [Promise::Raft]);
    assert_eq!(after(&|raft| election(raft, 2, (1, 3), true)), [Promise::Raft]);
    assert_eq!(after(&|raft| raft.status(NodeId(2), 2, 2, 2)), [Promise::Raft]);
    assert_eq!(after(&|raft| raft.status(NodeId(2), 2, 3, 1)), [Promise::Raft]);
    assert_eq!(after(&|raft| raft.status(NodeId(2), 3, 3, 1)), [Promise::Survives]);
    assert_eq!(after(&|raft| raft.status(NodeId(2), 3, 2, 2)), [], "a term that it had told nobody");
    let wiped = |raft: &Raft| {
        raft.forget(NodeId(2));
        raft.status(NodeId(2), 3, 0, 0);
    };
    assert_eq!(after(&wiped), []);
}

async fn store(disk: &SimDisk, entries: &[pb::RaftEntry], voted: Leader) {
    let mut batch = Batch::default();
    for entry in entries {
        let index = entry.log_id.as_ref().unwrap().index;
        batch.put(Space::Log, index.to_be_bytes().to_vec(), entry.encode_to_vec());
    }
    batch.put(Space::Raft, &b"vote"[..], vote(voted, true).unwrap().encode_to_vec());
    disk.write(batch).await.unwrap();
}

#[test]
fn what_was_committed_never_changes() {
    let with = |third: pb::RaftEntry, life: u64, node: u64| {
        broken(async |raft, disk| {
            raft.status(NodeId(1), 1, 2, 3);
            store(disk, &[entry(1, A, "x"), entry(2, A, "y"), entry(3, A, "z")], A).await;
            raft.log(NodeId(1), 3, disk);
            raft.status(NodeId(node), life, 2, 3);
            store(disk, std::slice::from_ref(&third), A).await;
            raft.log(NodeId(node), 3, disk);
        })
    };
    assert_eq!(with(entry(3, A, "z"), 1, 2), []);
    assert_eq!(with(entry(3, B, "z"), 1, 2), [Promise::Raft], "on another node");
    assert_eq!(with(entry(3, A, "w"), 2, 1), [Promise::Raft], "in another life");
}

#[test]
fn what_a_snapshot_has_replaced_is_not_looked_at() {
    let story = async |raft: &Raft, disk: &SimDisk| {
        raft.status(NodeId(1), 1, 2, 5);
        store(disk, &[1, 2, 3, 4, 5, 6].map(|index| entry(index, A, "x")), A).await;
        raft.log(NodeId(1), 5, disk);
        let mut gap = Batch::default();
        gap.delete(Space::Log, 4_u64.to_be_bytes().to_vec());
        disk.write(gap).await.unwrap();
        store(disk, &[entry(2, B, "never committed")], A).await;
        raft.log(NodeId(2), 5, disk);
        raft.log(NodeId(2), 4, disk);
    };
    assert_eq!(broken(story), []);
}

#[test]
fn a_vote_that_was_told_is_on_the_disk() {
    let with = |voted| {
        broken(async |raft, disk| {
            election(raft, 2, B, true);
            store(disk, &[], voted).await;
            raft.log(NodeId(2), 0, disk);
        })
    };
    assert_eq!(with(B), []);
    assert_eq!(with((3, 1)), []);
    assert_eq!(with(A), [Promise::Raft]);
}

#[test]
fn a_vote_on_a_disk_never_falls() {
    let after = |then: pb::RaftVote, forgotten: bool| {
        broken(async |raft, disk| {
            store(disk, &[], B).await;
            raft.log(NodeId(2), 0, disk);
            let mut batch = Batch::default();
            batch.put(Space::Raft, &b"vote"[..], then.encode_to_vec());
            disk.write(batch).await.unwrap();
            disk.crash();
            if forgotten {
                raft.forget(NodeId(2));
            }
            raft.log(NodeId(2), 0, disk);
            raft.log(NodeId(2), 0, disk);
        })
    };
    assert_eq!(after(vote(B, true).unwrap(), false), []);
    assert_eq!(after(vote((3, 1), false).unwrap(), false), []);
    assert_eq!(after(vote(A, true).unwrap(), true), [], "a disk that was taken from it");
    assert_eq!(after(vote(A, true).unwrap(), false), [Promise::Raft], "a lesser node of the same term");
    assert_eq!(after(vote((1, 9), true).unwrap(), false), [Promise::Raft], "a lesser term");
    assert_eq!(after(vote(B, false).unwrap(), false), [Promise::Raft], "a leader who is a candidate again");
}

#[test]
fn a_vote_that_is_gone_from_a_disk_has_fallen() {
    let story = async |raft: &Raft, disk: &SimDisk| {
        store(disk, &[], A).await;
        raft.log(NodeId(2), 0, disk);
        let mut gone = Batch::default();
        gone.delete(Space::Raft, &b"vote"[..]);
        disk.write(gone).await.unwrap();
        raft.log(NodeId(2), 0, disk);
    };
    assert_eq!(broken(story), [Promise::Raft]);
}

#[test]
fn leaders_never_fall_along_a_log() {
    let with = |entries: &[pb::RaftEntry], applied: u64| {
        broken(async |raft, disk| {
            // Written in two parts, as it grows: the last entry of the first is what the second is compared with.
            store(disk, &entries[..2], A).await;
            raft.status(NodeId(1), 1, 2, applied);
            raft.log(NodeId(1), applied, disk);
            store(disk, &entries[2..], A).await;
            raft.log(NodeId(1), applied, disk);
        })
    };
    let old = (1, 3);
    assert_eq!(with(&[entry(1, old, "x"), entry(2, A, "y"), entry(3, A, "z"), entry(4, B, "z")], 2), []);
    assert_eq!(with(&[entry(1, old, "x"), entry(2, A, "y"), entry(3, old, "z")], 2), [Promise::Raft]);
    assert_eq!(with(&[entry(1, old, "x"), entry(2, B, "y"), entry(3, A, "z")], 2), [Promise::Raft]);
    assert_eq!(with(&[entry(1, old, "x"), entry(2, A, "y"), entry(4, old, "z")], 2), [], "behind a gap");
}

#[test]
fn what_was_purged_is_not_compared() {
    let with = |purged: u64| {
        broken(async |raft, disk| {
            store(disk, &[entry(1, B, "x"), entry(2, A, "y")], A).await;
            let mut batch = Batch::default();
            batch.put(Space::Raft, &b"purged"[..], id(purged, A).unwrap().encode_to_vec());
            disk.write(batch).await.unwrap();
            raft.log(NodeId(1), 0, disk);
        })
    };
    assert_eq!(with(1), []);
    assert_eq!(with(0), [Promise::Raft]);
}

#[test]
fn an_entry_stands_where_it_says() {
    let story = async |raft: &Raft, disk: &SimDisk| {
        let mut batch = Batch::default();
        batch.put(Space::Log, 2_u64.to_be_bytes().to_vec(), entry(1, A, "x").encode_to_vec());
        disk.write(batch).await.unwrap();
        raft.log(NodeId(1), 0, disk);
    };
    assert_eq!(broken(story), [Promise::Raft]);
}

#[test]
fn nobody_rests_on_a_disk_that_went_back() {
    let after = |then: &dyn Fn(&Raft)| {
        broken(async |raft, _| {
            honest(raft);
            raft.went_back(NodeId(2));
            raft.status(NodeId(1), 1, 2, 3);
            tokio::time::advance(ON_ITS_WAY).await;
            then(raft);
        })
    };
    assert_eq!(after(&|raft| election(raft, 3, (5, 1), true)), [], "others vote");
    assert_eq!(after(&|raft| election(raft, 2, (5, 1), true)), [Promise::Raft]);
    assert_eq!(after(&|raft| election(raft, 2, (5, 1), false)), [Promise::Raft], "it is asked, and answers");
    let leads = append((2, 2), None, vec![]);
    assert_eq!(after(&|raft| hear(raft, 2, 1, &leads)), [Promise::Raft]);
    let earlier = |raft: &Raft| raft.request(NodeId(2), NodeId(1), Instant::now() - ON_ITS_WAY, &leads);
    assert_eq!(after(&earlier), [], "it led before, and that was still on its way");
}
