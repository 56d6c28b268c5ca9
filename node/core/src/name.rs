//! Names and numbers of things, parsed once at the door and valid ever after.

use crate::codec::{Canonical, Malformed, Reader, Writer};
use std::{fmt, str::FromStr, sync::Arc};

/// Longest segment of a name, in bytes.
pub const SEGMENT_BYTES_MAX: usize = 63;
/// Longest identity URI, in bytes (SPIFFE-ID §2.3 allows 2048; ours are short).
pub const IDENTITY_BYTES_MAX: usize = 255;

/// The text is no name of the kind that was asked for. Echoes nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BadName(pub &'static str);

impl fmt::Display for BadName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "not a valid name; wanted {}", self.0)
    }
}

impl std::error::Error for BadName {}

/// One segment of a name: `[a-z0-9][a-z0-9._-]{0,62}`, accepted or refused, never normalised. Cheap to clone: a request's
/// names go with its permit, its page and more.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Segment(Arc<str>);

impl Segment {
    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Segment {
    type Err = BadName;
    fn from_str(s: &str) -> Result<Self, BadName> {
        let lower = |b: &u8| b.is_ascii_lowercase() || b.is_ascii_digit();
        let inner = |b: &u8| lower(b) || matches!(b, b'.' | b'_' | b'-');
        let bytes = s.as_bytes();
        let good = bytes.first().is_some_and(lower) && bytes.iter().all(inner) && bytes.len() <= SEGMENT_BYTES_MAX;
        if good { Ok(Segment(s.into())) } else { Err(BadName("[a-z0-9][a-z0-9._-]{0,62}")) }
    }
}

impl fmt::Display for Segment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Canonical for Segment {
    fn write(&self, w: &mut Writer) {
        w.lp(self.0.as_bytes());
    }
    fn read(r: &mut Reader<'_>) -> Result<Self, Malformed> {
        r.text(SEGMENT_BYTES_MAX)?.parse().map_err(|_| Malformed::Unknown)
    }
}

/// `tenants/{t}/keys/{k}`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeyName {
    /// The tenant that the key belongs to.
    pub tenant: Segment,
    /// The key's name within its tenant.
    pub key: Segment,
}

impl KeyName {
    /// Whether that is how it is written. For who reads one name again and again: cheaper than to parse it.
    pub fn is_written(&self, s: &str) -> bool {
        let rest = s.strip_prefix(TENANTS).and_then(|rest| rest.strip_prefix(self.tenant.as_str()));
        rest.and_then(|rest| rest.strip_prefix(KEYS)) == Some(self.key.as_str())
    }
}

/// What stands before the two segments of a key's name.
const TENANTS: &str = "tenants/";
const KEYS: &str = "/keys/";

impl FromStr for KeyName {
    type Err = BadName;
    fn from_str(s: &str) -> Result<Self, BadName> {
        let bad = BadName("tenants/{tenant}/keys/{key}");
        let (tenant, key) = s.strip_prefix(TENANTS).and_then(|r| r.split_once(KEYS)).ok_or(bad)?;
        Ok(KeyName { tenant: tenant.parse()?, key: key.parse()? })
    }
}

impl fmt::Display for KeyName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{TENANTS}{}{KEYS}{}", self.tenant, self.key)
    }
}

impl Canonical for KeyName {
    fn write(&self, w: &mut Writer) {
        self.tenant.write(w);
        self.key.write(w);
    }
    fn read(r: &mut Reader<'_>) -> Result<Self, Malformed> {
        Ok(KeyName { tenant: Segment::read(r)?, key: Segment::read(r)? })
    }
}

/// What an identity is for. The kind in a certificate only says what its bearer claims to be; rights come from roles.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum IdentityKind {
    /// A node of the cluster.
    Node,
    /// A person who runs the cluster.
    Operator,
    /// A person who holds a share.
    Custodian,
    /// A program that uses keys.
    Service,
}

impl IdentityKind {
    /// The word in the URI.
    pub fn word(self) -> &'static str {
        match self {
            IdentityKind::Node => "node",
            IdentityKind::Operator => "operator",
            IdentityKind::Custodian => "custodian",
            IdentityKind::Service => "service",
        }
    }
}

impl FromStr for IdentityKind {
    type Err = BadName;
    fn from_str(s: &str) -> Result<Self, BadName> {
        use IdentityKind::*;
        let all = [Node, Operator, Custodian, Service];
        all.into_iter().find(|k| k.word() == s).ok_or(BadName("one of node, operator, custodian, service"))
    }
}

/// `spiffe://{domain}/claviger/{kind}/{name}`: who somebody is, as their certificate's one URI says.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Identity {
    /// The trust domain.
    pub domain: Segment,
    /// What the identity is for.
    pub kind: IdentityKind,
    /// The name within kind and domain.
    pub name: Segment,
}

impl FromStr for Identity {
    type Err = BadName;
    fn from_str(s: &str) -> Result<Self, BadName> {
        let bad = BadName("spiffe://{domain}/claviger/{kind}/{name}");
        let rest = s.strip_prefix("spiffe://").ok_or(bad)?;
        let parts: Vec<&str> = rest.split('/').collect();
        let [domain, "claviger", kind, name] = parts[..] else { return Err(bad) };
        Ok(Identity { domain: domain.parse()?, kind: kind.parse()?, name: name.parse()? })
    }
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "spiffe://{}/claviger/{}/{}", self.domain, self.kind.word(), self.name)
    }
}

impl Canonical for Identity {
    fn write(&self, w: &mut Writer) {
        w.lp(self.to_string().as_bytes());
    }
    fn read(r: &mut Reader<'_>) -> Result<Self, Malformed> {
        r.text(IDENTITY_BYTES_MAX)?.parse().map_err(|_| Malformed::Unknown)
    }
}

/// A fixed-width public value: an id, a hash, a public key. Printed as lowercase hexadecimal.
macro_rules! bytes_name {
    ($(#[$doc:meta])* $name:ident, $n:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub [u8; $n]);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.iter().try_for_each(|b| write!(f, "{b:02x}"))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }

        impl FromStr for $name {
            type Err = BadName;
            fn from_str(s: &str) -> Result<Self, BadName> {
                unhex(s).map($name).ok_or(BadName("lowercase hexadecimal of the right length"))
            }
        }

        impl Canonical for $name {
            fn write(&self, w: &mut Writer) {
                w.raw(&self.0);
            }
            fn read(r: &mut Reader<'_>) -> Result<Self, Malformed> {
                Ok($name(r.array()?))
            }
        }
    };
}

bytes_name!(/** The number that a key keeps under every name. */ KeyId, 16);
bytes_name!(/** One version's key material. Its first 12 bits choose the bucket that wraps it. */ MaterialId, 8);
bytes_name!(/** A transaction, drawn at random by its author. */ TxnId, 16);
bytes_name!(/** A caller's own number for one logical call. */ RequestId, 16);
bytes_name!(/** One ceremony. */ CeremonyId, 16);
bytes_name!(/** One disk, drawn when its data folder is made. */ DiskId, 16);
bytes_name!(/** SHA-256 of the genesis: which cluster this is, for ever. */ Lineage, 32);
bytes_name!(/** SHA-256 of a certificate's SubjectPublicKeyInfo (RFC 5280 §4.1.2.7). */ KeyHash, 32);
bytes_name!(/** An Ed25519 public key (RFC 8032 §5.1.5). */ VerifyingKey, 32);
bytes_name!(/** An Ed25519 signature (RFC 8032 §5.1.6). */ Signature, 64);
bytes_name!(/** A SHA-256 digest. */ Digest, 32);

/// A node's number in its cluster, never used twice.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeId(pub u64);

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

impl Canonical for NodeId {
    fn write(&self, w: &mut Writer) {
        w.u64(self.0);
    }
    fn read(r: &mut Reader<'_>) -> Result<Self, Malformed> {
        Ok(NodeId(r.u64()?))
    }
}

/// Lowercase hexadecimal of exactly `N` bytes.
fn unhex<const N: usize>(s: &str) -> Option<[u8; N]> {
    let digit = |b: u8| match b {
        b'0'..=b'9' => Some(b - b'0'),
        b'a'..=b'f' => Some(b - b'a' + 10),
        _ => None,
    };
    let mut out = [0; N];
    if s.len() != 2 * N {
        return None;
    }
    for (byte, pair) in out.iter_mut().zip(s.as_bytes().chunks_exact(2)) {
        *byte = digit(pair[0])? << 4 | digit(pair[1])?;
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refuses_names_that_only_look_right() {
        for bad in ["", "A", "-a", ".a", "a b", "a/b", "ä", "a\n", &"a".repeat(64)] {
            assert!(bad.parse::<Segment>().is_err(), "{bad:?}");
        }
        assert!("a".repeat(63).parse::<Segment>().is_ok());
        for bad in ["tenants/a/keys/", "tenants/a/keys/b/keys/c", "tenants//keys/b", "keys/b", "/tenants/a/keys/b"] {
            assert!(bad.parse::<KeyName>().is_err(), "{bad:?}");
        }
        for bad in [
            "spiffe://d/claviger/root/x",
            "spiffe://d/other/node/x",
            "spiffe://d/claviger/node/x/",
            "spiffe:///claviger/node/x",
        ] {
            assert!(bad.parse::<Identity>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_name_is_written_in_one_way() {
        let names =
            ["tenants/a/keys/b", "tenants/a/keys/bb", "tenants/aa/keys/b", "tenants/b/keys/a", "tenants/a/keys/b-a"];
        for name in names {
            let key: KeyName = name.parse().unwrap();
            assert!(names.iter().all(|other| key.is_written(other) == (*other == name)), "{name}");
            for cut in 0..name.len() {
                assert!(!key.is_written(&name[..cut]) && !key.is_written(&name[cut + 1..]), "{name} {cut}");
            }
            assert!(!key.is_written(&format!("{name}/")) && !key.is_written(&name.to_uppercase()));
        }
    }

    #[test]
    fn a_name_prints_as_it_was_read() {
        let key = "tenants/acme/keys/invoice-2024";
        assert_eq!(key.parse::<KeyName>().unwrap().to_string(), key);
        let who = "spiffe://example.org/claviger/custodian/alice";
        assert_eq!(who.parse::<Identity>().unwrap().to_string(), who);
        let id = "00112233445566778899aabbccddeeff";
        assert_eq!(id.parse::<KeyId>().unwrap().to_string(), id);
        assert!("0011AA".parse::<KeyId>().is_err());
    }
}
