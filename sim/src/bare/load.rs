//! Clients: each reads, writes, swaps and deletes registers through random nodes, and remembers what it was told.

use crate::bare::cluster::Cluster;
use crate::bare::smoke::Mutant;
use crate::trace::Trace;
use claviger_checker::{Call, Op};
use claviger_core::name::{NodeId, TxnId};
use claviger_core::record::{RecordKey, Table, Version, View};
use claviger_core::txn::{Conflict, Effect, Outcome, Put, Reliance, Txn};
use claviger_ledger::{Ledger, LedgerView, ProposeFailed};
use claviger_world::runtime::Context;
use parking_lot::Mutex;
use std::sync::Arc;
use std::time::Duration;

/// Registers that the clients share.
pub const KEYS: u64 = 8;
const OP_LIMIT: Duration = Duration::from_millis(1_500);
const GIVE_UP: Duration = Duration::from_secs(4);

/// What all clients have seen.
#[derive(Default)]
pub struct History {
    calls: Mutex<Vec<Call>>,
    /// Transactions that were acknowledged, each with its number.
    accepted: Mutex<Vec<(TxnId, Version)>>,
    time: Mutex<u64>,
    tally: Mutex<Tally>,
}

/// How the operations ended.
#[derive(Clone, Copy, Debug, Default)]
pub struct Tally {
    /// Answered.
    pub answered: u64,
    /// Refused, or surely not done.
    pub refused: u64,
    /// Nobody knows.
    pub unknown: u64,
    /// Nobody knew, until a cancel told.
    pub resolved: u64,
}

impl History {
    fn tick(&self) -> u64 {
        let mut time = self.time.lock();
        *time += 1;
        *time
    }

    /// Everything, for the checker.
    pub fn calls(&self) -> Vec<Call> {
        self.calls.lock().clone()
    }

    /// Transactions that were acknowledged.
    pub fn accepted(&self) -> Vec<(TxnId, Version)> {
        self.accepted.lock().clone()
    }

    /// How the operations ended.
    pub fn tally(&self) -> Tally {
        *self.tally.lock()
    }

    /// Adds what was read of a register by something that began and ended now.
    pub fn add_read(&self, key: u64, value: u64) {
        let (began, ended) = (self.tick(), self.tick());
        self.calls.lock().push(Call { key, began, ended: Some(ended), op: Op::Read(value) });
    }
}

/// One client.
pub struct Client {
    /// Its number.
    pub number: u64,
    /// Where it writes down what it saw.
    pub history: Arc<History>,
    /// The world's dice.
    pub trace: Arc<Trace>,
    /// What is wrong on purpose.
    pub mutant: Mutant,
    /// How many operations it has begun.
    pub sequence: u64,
}

/// What an operation came to, seen from outside.
enum End {
    Answered(Op),
    NotDone,
    Unknown(Op),
}

impl Client {
    /// Does one operation through a node.
    pub async fn operate(&mut self, ledger: Ledger, context: Arc<Context>) {
        self.sequence += 1;
        let (key, kind) = (self.trace.roll(0..KEYS), self.trace.roll(0..10));
        let new = self.number * 1_000_000 + self.sequence;
        let job = Job { ledger, key, new, id: self.txn_id(), history: self.history.clone(), cancel: kind % 2 == 0 };
        let (mutant, began) = (self.mutant, self.history.tick());
        let working = context.spawn(async move {
            match kind {
                0..=3 => job.read(mutant).await,
                4..=6 => job.write(Some(new), false).await,
                7 => job.write(None, false).await,
                _ => job.write(Some(new), true).await,
            }
        });
        let open = if kind == 7 { Op::Write(0) } else { Op::Write(new) };
        let end = match tokio::time::timeout(GIVE_UP, working).await {
            Ok(Ok(end)) => end,
            // The node died: what it was doing for us may have happened. A swap may be recorded as a write left open:
            // both may or may not make the register hold the new value.
            Ok(Err(_)) | Err(_) if kind > 3 => End::Unknown(open),
            Ok(Err(_)) | Err(_) => End::NotDone,
        };
        self.record(key, began, end);
    }

    fn txn_id(&self) -> TxnId {
        let mut id = [0; 16];
        id[..8].copy_from_slice(&self.number.to_be_bytes());
        id[8..].copy_from_slice(&(self.sequence << 8).to_be_bytes());
        TxnId(id)
    }

    fn record(&self, key: u64, began: u64, end: End) {
        let (op, ended) = match end {
            End::Answered(op) => (op, Some(self.history.tick())),
            End::Unknown(op) => (op, None),
            End::NotDone => {
                self.history.tally.lock().refused += 1;
                return;
            }
        };
        let mut tally = self.history.tally.lock();
        *(if ended.is_some() { &mut tally.answered } else { &mut tally.unknown }) += 1;
        self.trace.note(100 + self.number, &format!("k{key} {op:?} {began}..{ended:?}"));
        self.history.calls.lock().push(Call { key, began, ended, op });
    }
}

/// One operation at a node.
struct Job {
    ledger: Ledger,
    key: u64,
    new: u64,
    id: TxnId,
    history: Arc<History>,
    cancel: bool,
}

impl Job {
    async fn read(self, mutant: Mutant) -> End {
        if mutant != Mutant::LocalReads && self.ledger.barrier(OP_LIMIT).await.is_err() {
            return End::NotDone;
        }
        End::Answered(Op::Read(value(&self.ledger.view(), self.key)))
    }

    /// Writes, or deletes; a swap tries once on what this node shows, a write decides anew until it is accepted.
    async fn write(mut self, new: Option<u64>, swap: bool) -> End {
        for _ in 0..8 {
            let view = self.ledger.view();
            let expected = value(&view, self.key);
            let (made, op) = match swap {
                true => (new, Op::Cas { expected, new: self.new, took: Some(true) }),
                false => (new, Op::Write(new.unwrap_or(0))),
            };
            match self.settle(self.decide(&view, made)).await {
                Ok(Outcome::Accepted(_)) => return End::Answered(op),
                // Equal values have equal versions, but for the empty register: of that a refusal says nothing.
                Ok(Outcome::Refused(Conflict::Record(..))) if swap && expected != 0 => {
                    return End::Answered(Op::Cas { expected, new: self.new, took: Some(false) });
                }
                Ok(Outcome::Refused(_)) if swap => return End::NotDone,
                Ok(Outcome::Refused(conflict)) => {
                    if self.ledger.await_conflict(&conflict, OP_LIMIT).await.is_err() {
                        return End::NotDone;
                    }
                }
                Err(ProposeFailed::Unknown(_)) => {
                    return End::Unknown(match op {
                        Op::Cas { expected, new, .. } => Op::Cas { expected, new, took: None },
                        other @ (Op::Read(_) | Op::Write(_)) => other,
                    });
                }
                Err(_) => return End::NotDone,
            }
            // Another decision is another transaction.
            self.id.0[15] += 1;
        }
        End::NotDone
    }

    /// Proposes; half of the unknown outcomes are asked after.
    async fn settle(&self, txn: Txn) -> Result<Outcome, ProposeFailed> {
        let id = txn.id;
        let outcome = match self.ledger.propose(txn, OP_LIMIT).await {
            Err(ProposeFailed::Unknown(unknown)) if self.cancel => {
                let settled = self.ledger.cancel(unknown, OP_LIMIT).await;
                if settled.is_err() {
                    return Err(ProposeFailed::Unknown(unknown));
                }
                self.history.tally.lock().resolved += 1;
                settled
            }
            other => other,
        };
        if let Ok(Outcome::Accepted(version)) = outcome {
            self.history.accepted.lock().push((id, version));
        }
        outcome
    }

    fn decide(&self, view: &LedgerView, new: Option<u64>) -> Txn {
        let (key, revision) = (register(self.key), view.revision());
        let put = |value: u64| Put { key, value: value.to_be_bytes().to_vec() };
        Txn {
            id: self.id,
            turn: revision.turn,
            decided_at: revision.cluster_time,
            relies: vec![Reliance::Exact(key, view.version(&key))],
            puts: new.map(put).into_iter().collect(),
            deletes: if new.is_none() { vec![key] } else { Vec::new() },
            effect: Effect::Records,
        }
    }
}

/// Where a register lies: half of them among the records that regions share, half among a region's own.
pub fn register(key: u64) -> RecordKey {
    let table = if key.is_multiple_of(2) { Table::Steward } else { Table::AuditHead };
    RecordKey::numbered(table, key)
}

/// What a register holds; 0 when there is no record.
///
/// # Panics
/// When a register's record is not eight bytes.
pub fn value(view: &LedgerView, key: u64) -> u64 {
    view.record(&register(key)).map_or(0, |r| u64::from_be_bytes(r.value[..].try_into().expect("eight bytes")))
}

/// A node that is on, at random.
pub fn some_node(cluster: &Cluster, trace: &Trace) -> Option<(NodeId, Ledger, Arc<Context>)> {
    let running = cluster.running();
    let id = *running.get(trace.roll(0..running.len().max(1) as u64) as usize)?;
    Some((id, cluster.ledger(id)?, cluster.context(id)?))
}
