//! What an end of a wire shows of itself, read as the daemon reads it once TLS has proven it: an Ed25519 key, and exactly
//! one URI that names a node.
//!
//! Absent: authorities, dates, and the proof that the bearer holds the key. Those are TLS's, and jepsen's to break.

use claviger_core::name::{Identity, IdentityKind, NodeId, Segment};
use claviger_server::read_leaf;
use claviger_world::network::PeerCertificate;
use std::sync::Arc;

/// One end's certificate, read once.
#[derive(Clone, Debug)]
pub struct Badge(Option<Read>);

#[derive(Clone, Debug)]
struct Read {
    certificate: PeerCertificate,
    /// The trust domain; none where no certificate was encoded.
    domain: Option<Segment>,
}

impl From<Arc<[u8]>> for Badge {
    /// Reads a leaf certificate in DER. One that is no node's is kept, and refused at each call.
    fn from(der: Arc<[u8]>) -> Badge {
        Badge(read(&der))
    }
}

impl From<PeerCertificate> for Badge {
    /// What a certificate would say, without one: for clusters without a server, whose ledger asks no domain.
    fn from(certificate: PeerCertificate) -> Badge {
        Badge(Some(Read { certificate, domain: None }))
    }
}

impl Badge {
    /// What this badge says to one who shows `other`; nothing when it is no node's of the same trust domain.
    pub fn as_seen_by(&self, other: &Badge) -> Option<PeerCertificate> {
        let (mine, theirs) = (self.0.as_ref()?, other.0.as_ref()?);
        let same = mine.domain.is_none() || theirs.domain.is_none() || mine.domain == theirs.domain;
        same.then_some(mine.certificate)
    }
}

fn read(der: &[u8]) -> Option<Read> {
    let leaf = read_leaf(der)?;
    let [uri] = leaf.uris.as_slice() else { return None };
    let identity: Identity = uri.parse().ok()?;
    if identity.kind != IdentityKind::Node {
        return None;
    }
    let certificate = PeerCertificate { key: leaf.ed25519?, claims: number(identity.name.as_str())? };
    Some(Read { certificate, domain: Some(identity.domain) })
}

/// A node's number, written in the one way that there is.
fn number(text: &str) -> Option<NodeId> {
    let number: u64 = text.parse().ok().filter(|n| *n > 0)?;
    (number.to_string() == text).then_some(NodeId(number))
}
