//! Calls between nodes: an encoded frame there, an encoded frame back, each end knowing the other's certificate.

use crate::disk::BoxFuture;
use bytes::Bytes;
use claviger_core::name::{NodeId, VerifyingKey};
use std::{fmt, sync::Arc, time::Duration};

/// Longest frame between nodes, in bytes.
pub const FRAME_BYTES_MAX: usize = 4 << 20;
/// Longest that any call between nodes may take, in milliseconds.
pub const PEER_CALL_MS_MAX: u64 = 60_000;

/// What a peer's certificate says once the handshake has proven it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PeerCertificate {
    /// The Ed25519 key that the handshake was signed with.
    pub key: VerifyingKey,
    /// The node number in its URI (`.../claviger/node/{number}`): a claim, until the roster agrees.
    pub claims: NodeId,
}

/// What a frame is for. Each kind has one form of request and one of answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum FrameKind {
    /// Raft's own messages: belongs to the ledger.
    Raft = 1,
    /// A proposal forwarded to the leader: belongs to the ledger.
    Propose = 2,
    /// A read barrier asked of the leader: belongs to the ledger.
    Barrier = 3,
    /// Founding: enrolment, genesis, countersignature.
    Found = 4,
    /// Ceremonies: relayed envelopes, progress.
    Ceremony = 5,
    /// The root key, sealed to a proven peer.
    Root = 6,
    /// Status, asked of a peer for an operator.
    Status = 7,
    /// The state as of an entry, asked before a checkpoint: belongs to the ledger.
    Compare = 8,
    /// Header links, roster, addresses: belongs to the ledger. Answered to whoever has a certificate of the nodes' authority.
    Acquaint = 9,
    /// A ticket, shown by a node that is no member yet.
    Join = 10,
    /// What a node that starts asks of the others, and what a leader tells them: belongs to the ledger.
    Recall = 11,
}

impl FrameKind {
    /// All of them.
    pub const ALL: [FrameKind; 11] = {
        use FrameKind::*;
        [Raft, Propose, Barrier, Found, Ceremony, Root, Status, Compare, Acquaint, Join, Recall]
    };

    /// The kind of that number on the wire.
    pub fn from_number(number: u32) -> Option<FrameKind> {
        FrameKind::ALL.into_iter().find(|kind| *kind as u32 == number)
    }
}

/// One frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// What it is for.
    pub kind: FrameKind,
    /// The encoded message, at most [`FRAME_BYTES_MAX`].
    pub body: Bytes,
}

/// Why a call brought no answer. Whether the other side acted is unknown, save for `Refused`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CallFailed {
    /// No connection, or it broke.
    Unreachable,
    /// The deadline passed.
    Late,
    /// The other side refused to listen: not of the same cluster, not in its roster, or a frame that it cannot read.
    Refused(String),
}

impl fmt::Display for CallFailed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            CallFailed::Unreachable => f.write_str("the peer cannot be reached"),
            CallFailed::Late => f.write_str("the peer did not answer in time"),
            CallFailed::Refused(why) => write!(f, "the peer refused: {why}"),
        }
    }
}

impl std::error::Error for CallFailed {}

/// An answer, and the certificate of the peer that gave it.
#[derive(Clone, Debug)]
pub struct Answer {
    /// Who answered.
    pub from: PeerCertificate,
    /// The encoded answer.
    pub body: Bytes,
}

/// The way to other nodes.
pub trait Network: Send + Sync + 'static {
    /// Calls `to`, an address as configuration or a handshake gave it, and waits at most `deadline`.
    fn call(&self, to: &str, frame: Frame, deadline: Duration) -> BoxFuture<'static, Result<Answer, CallFailed>>;
}

/// What a node does with a frame that came in. Given to the world when the node starts.
pub trait Listener: Send + Sync + 'static {
    /// Answers one frame from the peer of that certificate. An error is sent as [`CallFailed::Refused`].
    fn hear(&self, from: PeerCertificate, frame: Frame) -> BoxFuture<'static, Result<Bytes, String>>;
}

/// A listener that several hands hold.
pub type SharedListener = Arc<dyn Listener>;
