//! Tickets: leave for one node to join under one number. The text carries what the joining node must know of the cluster,
//! so that it joins that one and no other; the record in the ledger says that the ticket was given and not yet used.

use crate::address::ADDRESS_BYTES_MAX;
use crate::codec::{Canonical, Malformed, Reader, Writer};
use crate::crypto::sha256;
use crate::name::{Digest, Identity, Lineage, NodeId, Segment, VerifyingKey};
use crate::roster::PRESENT_MAX;
use crate::secret::Secret32;
use crate::time::UnixMs;
use std::fmt::Write as _;

/// Longest that a ticket is good for, in milliseconds: a week.
pub const TICKET_MS_MAX: u64 = 7 * 24 * 3_600_000;
/// Longest text of a ticket, in bytes.
pub const TICKET_BYTES_MAX: usize = 64 << 10;

const FORMAT: u16 = 1;
const PREFIX: &str = "claviger-join-1:";
const SECRET_DOMAIN: &[u8] = b"claviger/v1/ticket\0";
const SUM_BYTES: usize = 8;

/// A member that a joining node may turn to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seed {
    /// Which.
    pub node: NodeId,
    /// Its identity key.
    pub key: VerifyingKey,
    /// Where it listens for peers: `host:port`.
    pub address: String,
}

impl Canonical for Seed {
    fn write(&self, w: &mut Writer) {
        w.u64(self.node.0).raw(&self.key.0).lp(self.address.as_bytes());
    }
    fn read(r: &mut Reader<'_>) -> Result<Self, Malformed> {
        let (node, key) = (NodeId::read(r)?, VerifyingKey::read(r)?);
        Ok(Seed { node, key, address: r.text(ADDRESS_BYTES_MAX)?.to_owned() })
    }
}

/// A ticket, as its bearer has it. Whoever has it may join once, under that number.
pub struct Ticket {
    /// The cluster's name.
    pub cluster: Segment,
    /// The region's name.
    pub region: Segment,
    /// The cluster that the node joins: its genesis must be what this is the hash of.
    pub lineage: Lineage,
    /// The number that the node will have.
    pub node: NodeId,
    /// When it is over, by cluster time.
    pub expires: UnixMs,
    /// Whom to turn to, in order of their numbers.
    pub seeds: Vec<Seed>,
    /// What tells the ticket from every other.
    pub secret: Secret32,
}

impl Ticket {
    /// What the ledger knows the ticket by.
    pub fn digest(&self) -> Digest {
        ticket_digest(&self.secret)
    }

    /// The secret, to be shown to a member that has proven itself.
    pub fn to_show(&self) -> Vec<u8> {
        self.secret.expose().to_vec()
    }

    /// The text: a prefix, then hexadecimal of the canonical bytes and the first eight bytes of their SHA-256.
    pub fn to_text(&self) -> String {
        let bytes = self.bytes();
        let sum = sha256(&[&bytes]);
        let mut text = PREFIX.to_owned();
        for byte in bytes.iter().chain(&sum.0[..SUM_BYTES]) {
            write!(text, "{byte:02x}").expect("a string takes what is written");
        }
        text
    }

    /// Reads what [`Ticket::to_text`] wrote; white space around it does not matter.
    ///
    /// # Errors
    /// It is cut, changed, or no ticket.
    pub fn from_text(text: &str) -> Result<Ticket, Malformed> {
        let text = text.trim();
        if text.len() > TICKET_BYTES_MAX {
            return Err(Malformed::Oversize);
        }
        let all = unhex(text.strip_prefix(PREFIX).ok_or(Malformed::Unknown)?)?;
        let (bytes, sum) = all.split_at(all.len().checked_sub(SUM_BYTES).ok_or(Malformed::Short)?);
        if sha256(&[bytes]).0[..SUM_BYTES] != *sum {
            return Err(Malformed::Unknown);
        }
        Ticket::read(bytes)
    }

    fn bytes(&self) -> Vec<u8> {
        let mut w = Writer::default();
        w.u16(FORMAT);
        self.cluster.write(&mut w);
        self.region.write(&mut w);
        w.raw(&self.lineage.0).u64(self.node.0).u64(self.expires.0).list(&self.seeds).raw(self.secret.expose());
        w.into_bytes()
    }

    fn read(bytes: &[u8]) -> Result<Ticket, Malformed> {
        let mut r = Reader::new(bytes);
        if r.u16()? != FORMAT {
            return Err(Malformed::Unknown);
        }
        let ticket = Ticket {
            cluster: Segment::read(&mut r)?,
            region: Segment::read(&mut r)?,
            lineage: Lineage::read(&mut r)?,
            node: NodeId::read(&mut r)?,
            expires: UnixMs(r.u64()?),
            seeds: r.list(PRESENT_MAX)?,
            secret: Secret32::copy_from(r.raw(32)?).ok_or(Malformed::Short)?,
        };
        r.end()?;
        if ticket.seeds.is_sorted_by(|a, b| a.node < b.node) { Ok(ticket) } else { Err(Malformed::Unknown) }
    }
}

/// SHA-256("claviger/v1/ticket" 00 secret).
pub fn ticket_digest(secret: &Secret32) -> Digest {
    sha256(&[SECRET_DOMAIN, secret.expose()])
}

/// A ticket that was given and not used: the value of its record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TicketRecord {
    /// The number that it is for.
    pub node: NodeId,
    /// When it is over, by cluster time.
    pub expires: UnixMs,
    /// On whose word.
    pub by: Identity,
}

impl Canonical for TicketRecord {
    fn write(&self, w: &mut Writer) {
        w.u16(FORMAT).u64(self.node.0).u64(self.expires.0);
        self.by.write(w);
    }
    fn read(r: &mut Reader<'_>) -> Result<Self, Malformed> {
        if r.u16()? != FORMAT {
            return Err(Malformed::Unknown);
        }
        Ok(TicketRecord { node: NodeId::read(r)?, expires: UnixMs(r.u64()?), by: Identity::read(r)? })
    }
}

fn unhex(text: &str) -> Result<Vec<u8>, Malformed> {
    let digit = |byte: u8| match byte {
        b'0'..=b'9' => Ok(byte - b'0'),
        b'a'..=b'f' => Ok(byte - b'a' + 10),
        _ => Err(Malformed::Unknown),
    };
    let (pairs, rest) = text.as_bytes().as_chunks::<2>();
    if !rest.is_empty() {
        return Err(Malformed::Short);
    }
    pairs.iter().map(|[high, low]| Ok(digit(*high)? << 4 | digit(*low)?)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chance::Fresh;

    fn ticket() -> Ticket {
        let seed = |n: u64| Seed { node: NodeId(n), key: VerifyingKey([n as u8; 32]), address: format!("n{n}:8444") };
        Ticket {
            cluster: "paper".parse().unwrap(),
            region: "north".parse().unwrap(),
            lineage: Lineage([7; 32]),
            node: NodeId(4),
            expires: UnixMs(1_000),
            seeds: vec![seed(1), seed(2)],
            secret: Secret32::of(Fresh::drawn([9; 32])),
        }
    }

    #[test]
    fn a_ticket_is_read_as_it_was_written() {
        let (given, read) = (ticket(), Ticket::from_text(&format!("{}\n", ticket().to_text())).unwrap());
        assert_eq!((read.cluster.as_str(), read.node, read.lineage), ("paper", NodeId(4), Lineage([7; 32])));
        assert_eq!((&read.seeds, read.expires, read.digest()), (&given.seeds, given.expires, given.digest()));
        assert_eq!(read.to_text(), given.to_text());
    }

    #[test]
    fn refuses_a_ticket_with_any_letter_changed_or_cut() {
        let text = ticket().to_text();
        for at in 0..text.len() {
            let other = if &text[at..=at] == "0" { "1" } else { "0" };
            let changed = format!("{}{other}{}", &text[..at], &text[at + 1..]);
            assert!(Ticket::from_text(&changed).is_err(), "letter {at} changed");
            assert!(Ticket::from_text(&text[..at]).is_err(), "cut at {at}");
        }
        assert!(Ticket::from_text(&text.to_uppercase()).is_err());
        assert!(Ticket::from_text(&"0".repeat(TICKET_BYTES_MAX + 1)).is_err());
    }
}
