//! What clients asked and what they saw, in words that the promises are checked in.

use claviger_core::key::KeyRecord;
use claviger_core::name::{KeyId, MaterialId, NodeId};
use std::time::Duration;

/// A point in the world's time. `order` tells moments of the same instant apart, and no two are equal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Moment {
    /// One more for every moment of the run.
    pub order: u64,
    /// Since the start of the run.
    pub at: Duration,
}

/// What was asked about a key. Keys are numbered by the run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ask {
    /// Make it, with one label that says this.
    Create {
        /// What the label says.
        label: u32,
    },
    /// Add a version.
    Rotate,
    /// Stop it.
    Disable,
    /// Let it work again.
    Enable,
    /// Replace its label.
    Relabel {
        /// What the label is to say.
        label: u32,
    },
    /// Read it.
    Get,
    /// Encrypt, with an answer that may be so stale, in milliseconds.
    Encrypt {
        /// 0 for linearizable.
        stale_ms: u32,
    },
    /// Decrypt what was encrypted before, with an answer that may be so stale, in milliseconds.
    Decrypt {
        /// The version that had encrypted.
        version: u32,
        /// 0 for linearizable.
        stale_ms: u32,
    },
}

impl Ask {
    /// Whether it would change the key.
    pub fn changes(self) -> bool {
        match self {
            Ask::Create { .. } | Ask::Rotate | Ask::Disable | Ask::Enable | Ask::Relabel { .. } => true,
            Ask::Get | Ask::Encrypt { .. } | Ask::Decrypt { .. } => false,
        }
    }

    /// How stale an answer it takes, in milliseconds.
    pub fn stale_ms(self) -> u32 {
        match self {
            Ask::Encrypt { stale_ms } | Ask::Decrypt { stale_ms, .. } => stale_ms,
            Ask::Create { .. } | Ask::Rotate | Ask::Disable | Ask::Enable | Ask::Relabel { .. } | Ask::Get => 0,
        }
    }
}

/// What the asker saw of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Seen {
    /// The key, as it is after the change or at the reading.
    Key(Box<KeyRecord>),
    /// A ciphertext.
    Encrypted {
        /// The key's id, in the ciphertext.
        id: KeyId,
        /// The version that encrypted.
        version: u32,
        /// Its material.
        material: MaterialId,
    },
    /// The right plaintext. (A wrong one never gets here: the client tells the ciphertext promise itself.)
    Decrypted,
    /// There is no such key.
    NotFound,
    /// There is such a key already.
    Exists,
    /// The key is disabled.
    Disabled,
    /// The caller may not: says nothing about the key.
    Denied,
    /// It surely did not happen, or says nothing: sealed, no quorum for a reading, refused before it was decided.
    NotDone,
    /// Nobody knows whether it happened, or whether it yet will.
    Unknown,
}

/// One visit to one node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attempt {
    /// Which node.
    pub node: NodeId,
    /// When the node had the request.
    pub received: Moment,
    /// When the node handed the answer over; none when it never did.
    pub handed: Option<Moment>,
    /// Whether that answer was one of the data plane: the key's state, a ciphertext, a plaintext.
    pub served: bool,
}

/// One logical call: asked once, tried at one node or, under the same request id, at several.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Deed {
    /// Who.
    pub client: u64,
    /// About which key, by the run's number.
    pub key: u64,
    /// What.
    pub ask: Ask,
    /// When the client began.
    pub began: Moment,
    /// When it had the answer; none when it never had one that says what happened.
    pub ended: Option<Moment>,
    /// When the client stopped asking, with an answer or without: from then on no node decides it anew.
    pub left: Moment,
    /// The answer.
    pub seen: Seen,
    /// The revision that the answer carried, 0 without one.
    pub revision: u64,
    /// Every visit that it took.
    pub attempts: Vec<Attempt>,
}
