//! Transactions: what Raft orders. Encrypted records to put or delete, what the author relied on, and his signature
//! over the whole batch. `apply` compares and writes; it understands nothing else.

use crate::codec::{Canonical, Malformed, Reader, Writer};
use crate::name::{Digest, Lineage, NodeId, Signature, TxnId, VerifyingKey};
use crate::record::{Collection, RECORD_BYTES_MAX, RecordKey, Version};
use crate::time::UnixMs;

/// Transactions in one batch, at most.
pub const BATCH_TXNS_MAX: usize = 1_024;
/// Things that one transaction relies on, at most.
pub const RELIES_MAX: usize = 1_024;
/// Puts, and deletes, in one transaction, at most.
pub const WRITES_MAX: usize = 512;
/// A transaction is refused, and its outcome forgotten, when this many turns have passed since it was decided.
pub const TURNS_KEPT: u64 = 65_536;
/// Longest batch on the wire and in the log, in bytes.
pub const BATCH_BYTES_MAX: usize = 3 << 20;

/// Format number of everything in this file.
const FORMAT: u16 = 1;
/// What a batch's signature is over starts with this.
const BATCH_DOMAIN: &[u8] = b"claviger/v1/batch\0";

/// Something that must still be true when the transaction is applied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reliance {
    /// The record, or its absence (version 0), as it was read.
    Exact(RecordKey, Version),
    /// Cluster time has come at least this far.
    AtLeast(UnixMs),
    /// No member came or went since the list was read.
    Members(Collection, Version),
}

impl Canonical for Reliance {
    fn write(&self, w: &mut Writer) {
        match self {
            Reliance::Exact(key, version) => {
                w.u8(1);
                key.write(w);
                w.u64(*version);
            }
            Reliance::AtLeast(time) => {
                w.u8(2).u64(time.0);
            }
            Reliance::Members(collection, version) => {
                w.u8(3);
                collection.write(w);
                w.u64(*version);
            }
        }
    }
    fn read(r: &mut Reader<'_>) -> Result<Self, Malformed> {
        match r.u8()? {
            1 => Ok(Reliance::Exact(RecordKey::read(r)?, r.u64()?)),
            2 => Ok(Reliance::AtLeast(UnixMs(r.u64()?))),
            3 => Ok(Reliance::Members(Collection::read(r)?, r.u64()?)),
            _ => Err(Malformed::Unknown),
        }
    }
}

/// A record to write.
#[derive(Clone, PartialEq, Eq)]
pub struct Put {
    /// Where.
    pub key: RecordKey,
    /// What: in a sealed table, ciphertext.
    pub value: Vec<u8>,
}

impl Canonical for Put {
    fn write(&self, w: &mut Writer) {
        self.key.write(w);
        w.lp(&self.value);
    }
    fn read(r: &mut Reader<'_>) -> Result<Self, Malformed> {
        Ok(Put { key: RecordKey::read(r)?, value: r.lp(RECORD_BYTES_MAX)?.to_vec() })
    }
}

/// What a transaction does beside its puts and deletes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Nothing: the records are all.
    Records,
    /// Makes the outcome of another transaction `Cancelled` if it has none yet, so that it may be decided anew.
    Cancel(TxnId),
    /// Moves cluster time from exactly `before` to `now`. Refused when `now` is not later.
    Tick {
        /// Cluster time as the author saw it.
        before: UnixMs,
        /// Cluster time from here on.
        now: UnixMs,
    },
    /// Says what the state was; a node whose own was different stops.
    Checkpoint(Checkpoint),
    /// The first transaction of a lineage. Its batch must be the log's first; its put of the genesis record is the
    /// only one that needs no earlier header.
    Found,
}

/// The state of a replica at one point of the log, as its author computed it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checkpoint {
    /// Log index of the last entry applied when the hashes were taken.
    pub index: u64,
    /// Transactions accepted by then.
    pub sequence: u64,
    /// SHA-256 of the LtHash over lineage records: equal in every region at equal sequence.
    pub shared: Digest,
    /// SHA-256 of the LtHash over all else: equal, with `shared`, between replicas at equal log index.
    pub local: Digest,
}

impl Canonical for Checkpoint {
    fn write(&self, w: &mut Writer) {
        w.u64(self.index).u64(self.sequence).raw(&self.shared.0).raw(&self.local.0);
    }
    fn read(r: &mut Reader<'_>) -> Result<Self, Malformed> {
        Ok(Checkpoint { index: r.u64()?, sequence: r.u64()?, shared: Digest::read(r)?, local: Digest::read(r)? })
    }
}

impl Canonical for Effect {
    fn write(&self, w: &mut Writer) {
        match self {
            Effect::Records => {
                w.u8(1);
            }
            Effect::Cancel(id) => {
                w.u8(2).raw(&id.0);
            }
            Effect::Tick { before, now } => {
                w.u8(3).u64(before.0).u64(now.0);
            }
            Effect::Checkpoint(checkpoint) => {
                w.u8(4);
                checkpoint.write(w);
            }
            Effect::Found => {
                w.u8(5);
            }
        }
    }
    fn read(r: &mut Reader<'_>) -> Result<Self, Malformed> {
        match r.u8()? {
            1 => Ok(Effect::Records),
            2 => Ok(Effect::Cancel(TxnId::read(r)?)),
            3 => Ok(Effect::Tick { before: UnixMs(r.u64()?), now: UnixMs(r.u64()?) }),
            4 => Ok(Effect::Checkpoint(Checkpoint::read(r)?)),
            5 => Ok(Effect::Found),
            _ => Err(Malformed::Unknown),
        }
    }
}

/// One decision, as it is proposed.
#[derive(Clone, PartialEq, Eq)]
pub struct Txn {
    /// Drawn at random: the outcome is kept under it, so sending the same again is safe.
    pub id: TxnId,
    /// How many transactions this region had applied when it was decided.
    pub turn: u64,
    /// Cluster time when it was decided.
    pub decided_at: UnixMs,
    /// What must still be true. Every put and delete relies on the version of its own record.
    pub relies: Vec<Reliance>,
    /// Records to write.
    pub puts: Vec<Put>,
    /// Records to remove; each leaves a tombstone.
    pub deletes: Vec<RecordKey>,
    /// What else it does.
    pub effect: Effect,
}

impl Txn {
    /// Whether each put and delete has an `Exact` of its own record, as §4 of the design demands, and none is named twice.
    pub fn relies_on_what_it_writes(&self) -> bool {
        let relied = |key: &RecordKey| self.relies.iter().any(|r| matches!(r, Reliance::Exact(k, _) if k == key));
        let mut written: Vec<&RecordKey> = self.puts.iter().map(|p| &p.key).chain(&self.deletes).collect();
        let count = written.len();
        written.sort_unstable();
        written.dedup();
        written.len() == count && written.into_iter().all(relied)
    }
}

impl Canonical for Txn {
    fn write(&self, w: &mut Writer) {
        w.u16(FORMAT).raw(&self.id.0).u64(self.turn).u64(self.decided_at.0);
        w.list(&self.relies).list(&self.puts).list(&self.deletes);
        self.effect.write(w);
    }
    fn read(r: &mut Reader<'_>) -> Result<Self, Malformed> {
        if r.u16()? != FORMAT {
            return Err(Malformed::Unknown);
        }
        Ok(Txn {
            id: TxnId::read(r)?,
            turn: r.u64()?,
            decided_at: UnixMs(r.u64()?),
            relies: r.list(RELIES_MAX)?,
            puts: r.list(WRITES_MAX)?,
            deletes: r.list(WRITES_MAX)?,
            effect: Effect::read(r)?,
        })
    }
}

/// Transactions that were proposed together, and under which transaction key T.
#[derive(Clone, PartialEq, Eq)]
pub struct Batch {
    /// The cluster that it was decided in.
    pub lineage: Lineage,
    /// That cluster's generation.
    pub generation: u64,
    /// The node whose author it is.
    pub author: NodeId,
    /// Number of the transaction key T that signs.
    pub signer: u32,
    /// In the order that they are applied in.
    pub txns: Vec<Txn>,
}

impl Batch {
    /// What the signature is over.
    pub fn signed_bytes(&self) -> Vec<u8> {
        let mut w = Writer::default();
        w.raw(BATCH_DOMAIN);
        self.write(&mut w);
        w.into_bytes()
    }
}

impl Canonical for Batch {
    fn write(&self, w: &mut Writer) {
        w.u16(FORMAT).raw(&self.lineage.0).u64(self.generation).u64(self.author.0).u32(self.signer);
        w.list(&self.txns);
    }
    fn read(r: &mut Reader<'_>) -> Result<Self, Malformed> {
        if r.u16()? != FORMAT {
            return Err(Malformed::Unknown);
        }
        Ok(Batch {
            lineage: Lineage::read(r)?,
            generation: r.u64()?,
            author: NodeId::read(r)?,
            signer: r.u32()?,
            txns: r.list(BATCH_TXNS_MAX)?,
        })
    }
}

/// A batch with the signature that `apply` checks: what one Raft entry carries.
#[derive(Clone, PartialEq, Eq)]
pub struct SignedBatch {
    /// The transactions.
    pub batch: Batch,
    /// Ed25519 by T over [`Batch::signed_bytes`].
    pub signature: Signature,
}

impl Canonical for SignedBatch {
    fn write(&self, w: &mut Writer) {
        self.batch.write(w);
        self.signature.write(w);
    }
    fn read(r: &mut Reader<'_>) -> Result<Self, Malformed> {
        Ok(SignedBatch { batch: Batch::read(r)?, signature: Signature::read(r)? })
    }
}

/// The transaction key that the header at some position names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TxnKey {
    /// Which renewal of T this is, from 1.
    pub number: u32,
    /// Its public half.
    pub public: VerifyingKey,
}

/// What became of a transaction. Kept by every replica for [`TURNS_KEPT`] turns.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Applied; this is its number in the lineage, and the version of every record that it wrote.
    Accepted(Version),
    /// Not applied.
    Refused(Conflict),
}

/// Why a transaction was refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Conflict {
    /// A record that it relied on is at another version by now: wait to have seen that one, decide anew.
    Record(RecordKey, Version),
    /// A list that it relied on has changed.
    Members(Collection, Version),
    /// Cluster time has not come that far, or is not what a tick said that it was.
    Time(UnixMs),
    /// Signed under another T than the header names by now.
    Superseded,
    /// Decided too many turns ago.
    TooOld,
    /// Cancelled before it was applied.
    Cancelled,
    /// A `Cancel` came too late: the transaction has been applied.
    Decided,
    /// It breaks a rule that every honest author keeps.
    Unlawful,
    /// It names another roster while Raft's membership has not followed the one before.
    Moving,
}

impl Canonical for Outcome {
    fn write(&self, w: &mut Writer) {
        match self {
            Outcome::Accepted(version) => {
                w.u8(1).u64(*version);
            }
            Outcome::Refused(conflict) => {
                w.u8(2);
                conflict.write(w);
            }
        }
    }
    fn read(r: &mut Reader<'_>) -> Result<Self, Malformed> {
        match r.u8()? {
            1 => Ok(Outcome::Accepted(r.u64()?)),
            2 => Ok(Outcome::Refused(Conflict::read(r)?)),
            _ => Err(Malformed::Unknown),
        }
    }
}

impl Canonical for Conflict {
    fn write(&self, w: &mut Writer) {
        match self {
            Conflict::Record(key, version) => {
                w.u8(1);
                key.write(w);
                w.u64(*version);
            }
            Conflict::Members(collection, version) => {
                w.u8(2);
                collection.write(w);
                w.u64(*version);
            }
            Conflict::Time(time) => {
                w.u8(3).u64(time.0);
            }
            Conflict::Superseded => {
                w.u8(4);
            }
            Conflict::TooOld => {
                w.u8(5);
            }
            Conflict::Cancelled => {
                w.u8(6);
            }
            Conflict::Decided => {
                w.u8(7);
            }
            Conflict::Unlawful => {
                w.u8(8);
            }
            Conflict::Moving => {
                w.u8(9);
            }
        }
    }
    fn read(r: &mut Reader<'_>) -> Result<Self, Malformed> {
        Ok(match r.u8()? {
            1 => Conflict::Record(RecordKey::read(r)?, r.u64()?),
            2 => Conflict::Members(Collection::read(r)?, r.u64()?),
            3 => Conflict::Time(UnixMs(r.u64()?)),
            4 => Conflict::Superseded,
            5 => Conflict::TooOld,
            6 => Conflict::Cancelled,
            7 => Conflict::Decided,
            8 => Conflict::Unlawful,
            9 => Conflict::Moving,
            _ => return Err(Malformed::Unknown),
        })
    }
}
