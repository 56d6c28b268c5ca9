//! Snapshots on their way into Raft: one at a time, behind every append that came before, and answered for only when what
//! they bring is durable here.
//!
//! Must not contain: how a snapshot is put together or proven (`raft/snapshot.rs`), how it is written (`raft/store.rs`).

use crate::peers::Turned;
use crate::raft::log::Log;
use crate::raft::{LogId, Raft, Snapshot, Types, Vote};
use claviger_core::planted;
use claviger_world::runtime;
use futures_util::future::{Either, select};
use futures_util::poll;
use openraft::RaftState;
use openraft::raft::{AppendEntriesRequest, AppendEntriesResponse};
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;
use tokio::sync::{Mutex, RwLock};

/// Longest that the answer to a snapshot waits for entries that are on their way to the disk.
const DURABLE_MS_MAX: u64 = 10_000;

/// Hands appends and snapshots to Raft, in an order that Raft's own queues do not keep.
pub(crate) struct Installer(Arc<Shared>);

struct Shared {
    raft: Raft,
    log: Log,
    /// Held by an append of entries until it is in Raft's queue; alone, by a snapshot until Raft has taken it.
    order: RwLock<()>,
    /// Held by the snapshot that is being installed, also when whoever sent it waits no longer: each is a whole state in
    /// memory.
    one: Arc<Mutex<()>>,
}

/// What Raft knows of a snapshot before it is handed over.
enum Look {
    /// The log, or the state, has its end.
    Held,
    /// Raft can take it.
    New,
    /// It contradicts what is committed here.
    Contradicts,
}

impl Installer {
    /// For this node's Raft and log.
    pub fn new(raft: Raft, log: Log) -> Installer {
        Installer(Arc::new(Shared { raft, log, order: RwLock::default(), one: Arc::default() }))
    }

    /// Hands an append over. A heartbeat makes no log longer, and waits for nobody.
    pub async fn append(&self, request: AppendEntriesRequest<Types>) -> Result<AppendEntriesResponse<Types>, Turned> {
        let raft = &self.0.raft;
        if request.entries.is_empty() {
            return raft.append_entries(request).await.map_err(stopped);
        }
        let turn = self.0.order.read().await;
        let mut appending = pin!(raft.append_entries(request));
        // Polled once, it has its place in Raft's queue.
        let answer = match poll!(appending.as_mut()) {
            Poll::Ready(answer) => answer,
            Poll::Pending => {
                drop(turn);
                appending.await
            }
        };
        answer.map_err(stopped)
    }

    /// Whether this node's log, or its state, holds that entry already.
    pub async fn holds(&self, entry: LogId) -> Result<bool, Turned> {
        let held = move |state: &RaftState<Types>| {
            state.local_committed() >= Some(&entry) || state.log_ids.get(entry.index) == Some(entry)
        };
        self.0.ask(held).await
    }

    /// Whether all that a snapshot of that leader brings is durable here: the answer to it was lost, or the log has it.
    pub async fn has(&self, vote: Vote, last: LogId) -> Result<bool, Turned> {
        let held = self.0.ask(move |state| matches!(look(state, &vote, &last), Look::Held)).await?;
        if held {
            self.0.durable(last).await?;
        }
        Ok(held)
    }

    /// Installs a snapshot. Answered when all that it brings is durable here: its leader counts this node for every entry
    /// of it. Raft itself answers at once when it knows them to be committed, though they may be on their way to the disk.
    pub async fn install(&self, vote: Vote, snapshot: Snapshot) -> Result<Vote, Turned> {
        if planted!(SnapshotAnsweredEarly) {
            let raft = self.0.raft.clone();
            runtime::spawn(async move { raft.install_full_snapshot(vote, snapshot).await });
            return Ok(vote);
        }
        let one = self.0.one.clone().try_lock_owned().map_err(|_| Turned::NotYet)?;
        let shared = self.0.clone();
        let installing = runtime::spawn(async move {
            let answer = shared.install(vote, snapshot).await;
            drop(one);
            answer
        });
        installing.await.map_err(|_| Turned::Stopped)?
    }
}

impl Shared {
    async fn install(&self, vote: Vote, snapshot: Snapshot) -> Result<Vote, Turned> {
        let last = snapshot.meta.last_log_id.ok_or(Turned::Unreadable)?;
        let theirs = self.hand_over(vote, last, snapshot).await?;
        if theirs == vote {
            self.durable(last).await?;
        }
        Ok(theirs)
    }

    async fn durable(&self, last: LogId) -> Result<(), Turned> {
        let limit = Duration::from_millis(DURABLE_MS_MAX);
        runtime::timeout(limit, self.log.durable(last)).await.map_err(|_| Turned::NotYet)
    }

    /// Hands a snapshot to Raft, unless the log holds its end already: then Raft's own progress would go back behind what
    /// it has counted as stored. No entry is appended between the look and Raft's taking the snapshot.
    async fn hand_over(&self, vote: Vote, last: LogId, snapshot: Snapshot) -> Result<Vote, Turned> {
        let alone = self.order.write().await;
        match self.ask(move |state| look(state, &vote, &last)).await? {
            Look::Held => return Ok(vote),
            Look::Contradicts => return Err(Turned::Unreadable),
            Look::New => (),
        }
        let installing = pin!(self.raft.install_full_snapshot(vote, snapshot));
        let response = match select(installing, pin!(self.taken(vote, last))).await {
            Either::Left((response, _)) => response,
            Either::Right((taken, installing)) => {
                drop(alone);
                taken?;
                installing.await
            }
        };
        Ok(response.map_err(stopped)?.vote)
    }

    /// Waits until Raft has taken a snapshot in. It has a queue of its own, which Raft looks into before that of the calls.
    async fn taken(&self, vote: Vote, last: LogId) -> Result<(), Turned> {
        let taken = move |state: &RaftState<Types>| *state.vote_ref() > vote || state.local_committed() >= Some(&last);
        while !self.ask(taken).await? {}
        Ok(())
    }

    async fn ask<T: Send + 'static>(
        &self,
        question: impl FnOnce(&RaftState<Types>) -> T + Send + 'static,
    ) -> Result<T, Turned> {
        self.raft.with_raft_state(question).await.map_err(stopped)
    }
}

fn look(state: &RaftState<Types>, vote: &Vote, last: &LogId) -> Look {
    let committed = state.local_committed();
    if committed < Some(last) && committed.is_some_and(|committed| committed.index >= last.index) {
        return Look::Contradicts;
    }
    let known = committed >= Some(last) || state.log_ids.get(last.index) == Some(*last);
    if known && state.vote_ref() == vote { Look::Held } else { Look::New }
}

fn stopped<E>(_: E) -> Turned {
    Turned::Stopped
}
