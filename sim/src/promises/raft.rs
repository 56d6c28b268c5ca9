//! What Raft promises, seen from outside: whoever leads in a term leads as himself, logs match, what is committed never
//! changes, and neither vote nor term nor what was applied ever goes back, across crashes too.
//!
//! A leader is a pair of term and node here, in that order, as openraft's advanced leader ids have it: a term may see one
//! node lead after another, the greater number after the smaller. So what is looked for is not a second leader of a term,
//! but a second leader of one *pair*, which is what entries are told apart by; and a vote never goes back to a lesser pair.

use super::{Board, Promise};
use crate::disk::SimDisk;
use bytes::Bytes;
use claviger_core::crypto;
use claviger_core::name::{Digest, NodeId};
use claviger_proto::peer::v1 as pb;
use claviger_proto::peer::v1::{raft_reply, raft_request};
use claviger_world::disk::Space;
use parking_lot::Mutex;
use prost::Message;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Term and node of a leader, or of a candidate.
type Leader = (u64, u64);

/// Everything that nodes said to each other, and what lies on their disks.
pub struct Raft {
    board: Arc<Board>,
    heard: Mutex<Heard>,
}

#[derive(Default)]
struct Heard {
    /// What each entry held that was ever sent, by index and leader, and whose the entry before it was.
    sent: BTreeMap<(u64, Leader), Sent>,
    /// What each index held when it was committed, and who had it first.
    committed: BTreeMap<u64, (Digest, NodeId)>,
    voters: BTreeMap<NodeId, Voter>,
    logs: BTreeMap<NodeId, Progress>,
}

#[derive(Clone, Copy)]
struct Sent {
    digest: Digest,
    before: Option<Leader>,
}

/// What a node has said of its vote.
#[derive(Default)]
struct Voter {
    /// The greatest vote that it has granted.
    granted: Leader,
    /// Votes that it was asked for.
    asked: Vec<Question>,
}

/// A vote that was asked for, and not granted yet.
struct Question {
    candidate: Leader,
    /// What the voter had granted when it was asked.
    floor: Leader,
}

/// How far a node has come.
#[derive(Default)]
struct Progress {
    life: u64,
    term: u64,
    applied: u64,
    /// Up to which index its log was read.
    read: u64,
}

/// Entries that are remembered, at most: the oldest go first.
const ENTRIES_MAX: usize = 200_000;
/// Votes asked of one node and not granted that are remembered, at most.
const QUESTIONS_MAX: usize = 256;
/// Entries that are read from a log at once, at most.
const READ_ENTRIES_MAX: usize = 100_000;

impl Raft {
    /// Has heard nothing.
    pub fn new(board: Arc<Board>) -> Self {
        Raft { board, heard: Mutex::default() }
    }

    /// Hears the body of a Raft frame that `from` itself sent to `to`, when it is sent.
    pub fn request(&self, from: NodeId, to: NodeId, body: &[u8]) {
        let Ok(request) = pb::RaftRequest::decode(body) else { return };
        let mut wrong = Vec::new();
        {
            let mut heard = self.heard.lock();
            match request.body {
                Some(raft_request::Body::Append(append)) => {
                    wrong.extend(leads(from, append.vote.as_ref()));
                    wrong.extend(heard.entries(&append));
                }
                Some(raft_request::Body::Snapshot(chunk)) => wrong.extend(leads(from, chunk.vote.as_ref())),
                Some(raft_request::Body::Vote(vote)) => {
                    wrong.extend(heard.voters.entry(to).or_default().ask(from, vote.vote.as_ref()));
                }
                Some(raft_request::Body::PreVote(_) | raft_request::Body::Transfer(_)) | None => return,
            }
        }
        self.tell(from, &wrong);
    }

    /// Hears the body of the answer that `from` gave to that question of `to`, when it is given.
    pub fn answer(&self, from: NodeId, to: NodeId, question: &[u8], body: &[u8]) {
        let asked = pb::RaftRequest::decode(question).ok().and_then(|question| question.body);
        let Some(raft_request::Body::Vote(_)) = asked else { return };
        let Ok(reply) = pb::RaftReply::decode(body) else { return };
        let Some(raft_reply::Body::Vote(reply)) = reply.body else { return };
        let Some(vote) = reply.vote.as_ref().and_then(pair).filter(|vote| reply.granted && vote.1 == to.0) else {
            return;
        };
        let floor = self.heard.lock().voters.entry(from).or_default().grant(vote);
        if let Some(floor) = floor {
            self.board.expect(Promise::Raft, vote >= floor, || {
                format!("node {from} voted for {}, and had voted for {} before", named(vote), named(floor))
            });
        }
    }

    /// Hears how a node fares. What it says of its term may lag behind its vote: across lives it is the vote on its disk
    /// that counts, which [`Raft::log`] looks at.
    pub fn status(&self, node: NodeId, life: u64, term: u64, applied: u64) {
        let was = {
            let mut heard = self.heard.lock();
            let log = heard.logs.entry(node).or_default();
            // In another life the log is read again from the start: it must be what it was.
            let read = if log.life == life { log.read } else { 0 };
            std::mem::replace(log, Progress { life, term, applied, read })
        };
        let same_life = was.life == life;
        self.board.expect(Promise::Raft, !same_life || term >= was.term, || {
            format!("node {node}, life {life}, is in term {term}, and was in term {}", was.term)
        });
        let promise = if same_life { Promise::Raft } else { Promise::Survives };
        self.board.expect(promise, applied >= was.applied, || {
            format!("node {node}, life {life}, has applied {applied} entries, and had applied {}", was.applied)
        });
    }

    /// Looks at what lies on a node's disk: the entries up to `applied` that it has not looked at in this life, and the
    /// vote.
    pub fn log(&self, node: NodeId, applied: u64, disk: &SimDisk) {
        let from = self.heard.lock().logs.entry(node).or_default().read + 1;
        let stored = applied_entries(disk, from, applied);
        let mut wrong = Vec::new();
        {
            let mut heard = self.heard.lock();
            if let Some((last, _)) = stored.last() {
                heard.logs.entry(node).or_default().read = *last;
            }
            for (index, digest) in stored {
                let (was, other) = *heard.committed.entry(index).or_insert((digest, node));
                if was != digest {
                    wrong.push(format!("its entry {index} is {digest}, and was {was} on node {other} when committed"));
                } else if other != node {
                    self.board.checked(Promise::Raft);
                }
            }
            trim(&mut heard.committed);
            wrong.extend(heard.voters.get(&node).and_then(|voter| voter.lost(disk)));
        }
        wrong.iter().for_each(|what| self.board.expect(Promise::Raft, false, || format!("node {node}: {what}")));
    }

    /// Forgets what a node had promised: its disk was taken from it, or damaged.
    pub fn forget(&self, node: NodeId) {
        let mut heard = self.heard.lock();
        heard.voters.remove(&node);
        heard.logs.remove(&node);
    }

    fn tell(&self, from: NodeId, wrong: &[String]) {
        self.board.expect(Promise::Raft, wrong.is_empty(), || format!("node {from}: {}", wrong.join("; ")));
    }
}

impl Heard {
    /// What is wrong with the entries of an append.
    fn entries(&mut self, append: &pb::RaftAppend) -> Option<String> {
        let mut before = append.previous.as_ref().and_then(position);
        let mut wrong = None;
        for entry in &append.entries {
            let Some((index, leader)) = entry.log_id.as_ref().and_then(position) else { continue };
            let before_leader = before.filter(|(before, _)| before + 1 == index).map(|(_, leader)| leader);
            let new = Sent { digest: digest(&entry.encode_to_vec()), before: before_leader };
            let old = self.sent.entry((index, leader)).or_insert(new);
            if old.digest != new.digest {
                wrong = Some(format!("entry {index} of {} is not what it was", named(leader)));
            }
            if let (Some(was), Some(is)) = (old.before, new.before)
                && was != is
            {
                let (was, is) = (named(was), named(is));
                wrong =
                    Some(format!("before entry {index} of {} comes one of {is}, and came one of {was}", named(leader)));
            }
            old.before = old.before.or(new.before);
            before = Some((index, leader));
        }
        trim(&mut self.sent);
        wrong
    }
}

impl Voter {
    fn ask(&mut self, from: NodeId, vote: Option<&pb::RaftVote>) -> Option<String> {
        let candidate = vote.and_then(pair)?;
        if candidate.1 != from.0 {
            return Some(format!("it asks for votes for {}", named(candidate)));
        }
        // Asked again, it may be the first question that is answered.
        if self.asked.iter().all(|question| question.candidate != candidate) {
            self.asked.push(Question { candidate, floor: self.granted });
        }
        if self.asked.len() > QUESTIONS_MAX {
            self.asked.remove(0);
        }
        None
    }

    /// Takes a vote that was granted. What it must not be less than; none when it answers no question that is known.
    fn grant(&mut self, vote: Leader) -> Option<Leader> {
        let question = self.asked.iter().find(|question| question.candidate == vote)?;
        let floor = question.floor;
        self.granted = self.granted.max(vote);
        Some(floor)
    }

    /// What is wrong with the vote on the node's disk.
    fn lost(&self, disk: &SimDisk) -> Option<String> {
        let stored = stored(disk, Space::Raft, b"vote", b"vote\0", 1).into_iter().next();
        let stored = stored.map(|(_, bytes)| pb::RaftVote::decode(bytes).ok().as_ref().and_then(pair));
        // A vote that cannot be read was damaged: that is told elsewhere.
        let vote = stored.map_or(Some(Leader::default()), |vote| vote)?;
        (vote < self.granted)
            .then(|| format!("its disk has the vote for {}, and it had voted for {}", named(vote), named(self.granted)))
    }
}

/// What is wrong with a message that only a leader sends.
fn leads(from: NodeId, vote: Option<&pb::RaftVote>) -> Option<String> {
    let leader = vote.and_then(pair)?;
    let good = leader.1 == from.0 && vote.is_some_and(|vote| vote.committed);
    (!good).then(|| format!("it leads as {}", named(leader)))
}

/// The digests of the entries of `from..=applied` that are on the disk, without gap up to `applied`. What lies before a gap
/// may be the rest of a log that a snapshot has replaced.
fn applied_entries(disk: &SimDisk, from: u64, applied: u64) -> Vec<(u64, Digest)> {
    if from > applied {
        return Vec::new();
    }
    let pairs = stored(disk, Space::Log, &from.to_be_bytes(), &(applied + 1).to_be_bytes(), READ_ENTRIES_MAX);
    let index = |key: &Bytes| key[..].try_into().ok().map(u64::from_be_bytes);
    let entries: Vec<_> = pairs.iter().filter_map(|(key, value)| Some((index(key)?, digest(value)))).collect();
    let mut whole: Vec<_> = (0..=applied)
        .rev()
        .zip(entries.iter().rev())
        .map_while(|(index, entry)| (entry.0 == index).then_some(*entry))
        .collect();
    whole.reverse();
    whole
}

fn stored(disk: &SimDisk, space: Space, from: &[u8], to: &[u8], limit: usize) -> Vec<(Bytes, Bytes)> {
    disk.scan_now(space, from, Some(to), limit)
}

fn pair(vote: &pb::RaftVote) -> Option<Leader> {
    vote.leader.as_ref().map(|leader| (leader.term, leader.node))
}

fn position(id: &pb::RaftLogId) -> Option<(u64, Leader)> {
    id.leader.as_ref().map(|leader| (id.index, (leader.term, leader.node)))
}

fn named((term, node): Leader) -> String {
    format!("node {node} in term {term}")
}

fn digest(bytes: &[u8]) -> Digest {
    crypto::sha256(&[bytes])
}

fn trim<K: Ord, V>(entries: &mut BTreeMap<K, V>) {
    while entries.len() > ENTRIES_MAX {
        entries.pop_first();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::Honesty;
    use claviger_world::disk::{Batch, Disk};

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

    /// A candidate asks a voter, which grants it, if `granted` says so.
    fn election(raft: &Raft, voter: u64, candidate: Leader, granted: bool) {
        let ask = pb::RaftVoteRequest { vote: vote(candidate, false), last: None, leadership_transfer: false };
        let question = request(raft_request::Body::Vote(ask));
        raft.request(NodeId(candidate.1), NodeId(voter), &question);
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
        raft.request(NodeId(1), NodeId(2), &append(A, None, vec![entry(1, A, "x"), entry(2, A, "y")]));
        raft.request(NodeId(1), NodeId(3), &append(A, id(1, A), vec![entry(2, A, "y")]));
        // The same term, and a greater number: such leader ids are one after the other.
        election(raft, 2, B, true);
        raft.request(NodeId(3), NodeId(2), &append(B, id(1, A), vec![entry(2, B, "z")]));
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
                raft.request(NodeId(from), NodeId(2), &body);
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
}
