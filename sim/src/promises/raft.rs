//! What Raft promises, seen from outside: whoever leads in a term leads as himself, logs match, what is committed never
//! changes, and neither vote nor term nor what was applied ever goes back, across crashes too: not in what is said, and not
//! on the disks.
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
use tokio::time::Instant;

/// Term and node of a leader, or of a candidate.
type Leader = (u64, u64);
/// Whose vote it is, and whether a majority gave theirs too.
type Ballot = (Leader, bool);

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
    /// The highest vote that was ever read from each disk.
    ballots: BTreeMap<NodeId, Ballot>,
    logs: BTreeMap<NodeId, Progress>,
    /// Nodes whose disk has forgotten what it held, and since when.
    gone_back: BTreeMap<NodeId, Instant>,
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
    /// Up to which applied index its log was read.
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

    /// Hears the body of a Raft frame that `from` itself sent to `to` at `sent`, when it arrives.
    pub fn request(&self, from: NodeId, to: NodeId, sent: Instant, body: &[u8]) {
        let Ok(request) = pb::RaftRequest::decode(body) else { return };
        self.silent(
            from,
            sent,
            match &request.body {
                Some(
                    raft_request::Body::Append(_) | raft_request::Body::Offer(_) | raft_request::Body::Snapshot(_),
                ) => Some("leads"),
                Some(raft_request::Body::Vote(_) | raft_request::Body::PreVote(_)) => Some("stands for election"),
                Some(raft_request::Body::Transfer(_)) | None => None,
            },
        );
        let mut wrong = Vec::new();
        {
            let mut heard = self.heard.lock();
            match request.body {
                Some(raft_request::Body::Append(append)) => {
                    wrong.extend(leads(from, append.vote.as_ref()));
                    wrong.extend(heard.entries(&append));
                }
                Some(raft_request::Body::Snapshot(part)) => wrong.extend(leads(from, part.vote.as_ref())),
                Some(raft_request::Body::Offer(offer)) => wrong.extend(leads(from, offer.vote.as_ref())),
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
        let Ok(reply) = pb::RaftReply::decode(body) else { return };
        self.silent(
            from,
            Instant::now(),
            match &reply.body {
                Some(raft_reply::Body::Append(_) | raft_reply::Body::Snapshot(_)) => Some("answers a leader"),
                Some(raft_reply::Body::Vote(_)) => Some("answers a candidate"),
                Some(raft_reply::Body::Transfer(_)) | None => None,
            },
        );
        let Some(raft_request::Body::Vote(_)) = asked else { return };
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

    /// Looks at what lies on a node's disk: the entries up to `applied` that it has not looked at in this life, the order
    /// of those and of all that follow, and the vote.
    pub fn log(&self, node: NodeId, applied: u64, disk: &SimDisk) {
        let read = self.heard.lock().logs.entry(node).or_default().read;
        let stored = applied_entries(disk, read + 1, applied);
        // What was applied never changes: its last entry is what the next one is compared with.
        let mut wrong: Vec<String> = disorder(disk, read).into_iter().collect();
        {
            let mut heard = self.heard.lock();
            if let Some((last, _)) = stored.last() {
                heard.logs.entry(node).or_default().read = *last;
            }
            wrong.extend(stored.into_iter().filter_map(|entry| self.committed(&mut heard, node, entry)));
            trim(&mut heard.committed);
            wrong.extend(heard.vote(node, disk));
        }
        self.board.checked(Promise::Raft);
        wrong.iter().for_each(|what| self.board.broke(Promise::Raft, format!("node {node}: {what}")));
    }

    /// What is wrong with an entry that a node has applied.
    fn committed(&self, heard: &mut Heard, node: NodeId, (index, digest): (u64, Digest)) -> Option<String> {
        let (was, other) = *heard.committed.entry(index).or_insert((digest, node));
        if was != digest {
            return Some(format!("its entry {index} is {digest}, and was {was} on node {other} when committed"));
        }
        if other != node {
            self.board.checked(Promise::Raft);
        }
        None
    }

    /// Forgets what a node had promised: its disk was taken from it, or damaged.
    pub fn forget(&self, node: NodeId) {
        let mut heard = self.heard.lock();
        heard.voters.remove(&node);
        heard.ballots.remove(&node);
        heard.logs.remove(&node);
    }

    /// A node's disk was put back to what it was before: nobody may rest on what it says any more.
    pub fn went_back(&self, node: NodeId) {
        self.forget(node);
        self.heard.lock().gone_back.insert(node, Instant::now());
    }

    /// What a node must not say once its disk went back. What it said before may still be on its way.
    fn silent(&self, from: NodeId, at: Instant, says: Option<&'static str>) {
        let gone_back = self.heard.lock().gone_back.get(&from).is_some_and(|since| at > *since);
        let Some(says) = says.filter(|_| gone_back) else { return };
        self.board.broke(Promise::Raft, format!("node {from} {says}, on a disk that went back in time"));
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

    /// What is wrong with the vote on a node's disk: it is less than one that was told, or that was there before.
    fn vote(&mut self, node: NodeId, disk: &SimDisk) -> Vec<String> {
        let Some(ballot) = ballot(disk) else { return Vec::new() };
        let highest = self.ballots.entry(node).or_insert(ballot);
        let fallen = (ballot < *highest).then(|| {
            let (is, was) = (named(ballot.0), named(highest.0));
            format!("its disk has the vote for {is} (committed: {}), and had that for {was} ({})", ballot.1, highest.1)
        });
        // Told once.
        *highest = ballot;
        let lost = self.voters.get(&node).and_then(|voter| voter.lost(ballot.0));
        fallen.into_iter().chain(lost).collect()
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
    fn lost(&self, vote: Leader) -> Option<String> {
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

/// What is wrong with the order of the entries on a disk from `from` on: none is of a lesser leader than the one before
/// it, and each stands where it says. What was purged is not looked at, nor what lies before a gap: that may be the rest
/// of a log which a snapshot has replaced.
fn disorder(disk: &SimDisk, from: u64) -> Option<String> {
    let purged = disk.pair(Space::Raft, b"purged").and_then(|id| pb::RaftLogId::decode(id).ok());
    let from = from.max(purged.map_or(0, |id| id.index + 1));
    let pairs = stored(disk, Space::Log, &from.to_be_bytes(), &u64::MAX.to_be_bytes(), READ_ENTRIES_MAX);
    let (mut before, mut wrong) = (None, None);
    for (at, (index, leader)) in pairs.into_iter().filter_map(placed) {
        if at != index {
            return Some(format!("entry {index} stands at {at} in its log"));
        }
        match before {
            Some((last, other)) if last + 1 == index && other > leader => {
                let (is, was) = (named(leader), named(other));
                wrong = Some(format!("entry {index} is of {is}, and the one before it of {was}"));
            }
            Some((last, _)) if last + 1 == index => {}
            Some(_) | None => wrong = None,
        }
        before = Some((index, leader));
    }
    wrong
}

/// Where an entry stands in a log, and what it says of its place.
fn placed((key, value): (Bytes, Bytes)) -> Option<(u64, (u64, Leader))> {
    let entry = pb::RaftEntry::decode(value).ok()?;
    Some((u64::from_be_bytes(key[..].try_into().ok()?), entry.log_id.as_ref().and_then(position)?))
}

/// The vote on a disk, nobody's when there is none. None when it cannot be read: it was damaged, which is told elsewhere.
fn ballot(disk: &SimDisk) -> Option<Ballot> {
    let Some(stored) = disk.pair(Space::Raft, b"vote") else { return Some(Ballot::default()) };
    let vote = pb::RaftVote::decode(stored).ok()?;
    Some((pair(&vote)?, vote.committed))
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
mod tests;
