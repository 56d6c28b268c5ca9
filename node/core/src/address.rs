//! Where a node listens for its peers, on its own word: identity is the key, so an address may change without ceremony.

use crate::codec::{Canonical, Malformed, Reader, Writer};
use crate::crypto::{self, SigningKey};
use crate::name::{NodeId, Signature};
use crate::roster::Member;

/// Longest address of a node, in bytes: a host name, a colon, a port.
pub const ADDRESS_BYTES_MAX: usize = 261;

const FORMAT: u16 = 1;
const DOMAIN: &[u8] = b"claviger/v1/address\0";

/// A node says where it listens. Of two by one node, the later start is right.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Announcement {
    /// Which node.
    pub node: NodeId,
    /// How often it had started on its disk.
    pub incarnation: u64,
    /// `host:port`.
    pub address: String,
    signature: Signature,
}

impl Announcement {
    /// What the member of that roster line announces.
    pub fn make(line: &Member, incarnation: u64, address: &str, key: &SigningKey) -> Announcement {
        let signature = crypto::sign(key, &signed_bytes(line, incarnation, address));
        Announcement { node: line.node, incarnation, address: address.to_owned(), signature }
    }

    /// Whether that member says so, on that disk.
    pub fn is_by(&self, line: &Member) -> bool {
        let bytes = signed_bytes(line, self.incarnation, &self.address);
        self.node == line.node && crypto::verify(&line.key, &bytes, &self.signature)
    }
}

/// Bound to node and disk: what a number announced on another disk is not believed.
fn signed_bytes(line: &Member, incarnation: u64, address: &str) -> Vec<u8> {
    let mut w = Writer::default();
    w.raw(DOMAIN).u64(line.node.0).raw(&line.disk.0).u64(incarnation).lp(address.as_bytes());
    w.into_bytes()
}

impl Canonical for Announcement {
    fn write(&self, w: &mut Writer) {
        w.u16(FORMAT).u64(self.node.0).u64(self.incarnation).lp(self.address.as_bytes()).raw(&self.signature.0);
    }
    fn read(r: &mut Reader<'_>) -> Result<Self, Malformed> {
        if r.u16()? != FORMAT {
            return Err(Malformed::Unknown);
        }
        Ok(Announcement {
            node: NodeId::read(r)?,
            incarnation: r.u64()?,
            address: r.text(ADDRESS_BYTES_MAX)?.to_owned(),
            signature: Signature::read(r)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chance::Fresh;
    use crate::name::DiskId;
    use crate::roster::Role;
    use crate::secret::Secret32;

    #[test]
    fn an_announcement_is_its_node_s_own_and_of_that_disk() {
        let key = |n: u8| SigningKey::from_seed(Secret32::of(Fresh::drawn([n; 32])));
        let line = Member { node: NodeId(4), key: key(4).public(), disk: DiskId([4; 16]), role: Role::Learner };
        let said = Announcement::make(&line, 7, "n4:8444", &key(4));
        assert!(said.is_by(&line) && Announcement::from_bytes(&said.to_bytes()).as_ref() == Ok(&said));
        assert!(!said.is_by(&Member { disk: DiskId([5; 16]), ..line.clone() }), "another disk");
        assert!(!said.is_by(&Member { node: NodeId(5), ..line.clone() }), "another number");
        assert!(!Announcement::make(&line, 7, "n4:8444", &key(5)).is_by(&line), "another key");
        assert!(!Announcement { address: "evil:1".into(), ..said.clone() }.is_by(&line));
        assert!(!Announcement { incarnation: 8, ..said }.is_by(&line));
    }
}
