//! What is stored: records in two spaces, their keys, their versions, and the collections that they form.

use crate::codec::{Canonical, Malformed, Reader, Writer};
use std::fmt;

/// Longest value of a record, in bytes. The largest is the table of bucket keys.
pub const RECORD_BYTES_MAX: usize = 1 << 20;

/// A kind of record. Tables below 128 are *open*: integrity, no secrecy. From 128 they are *sealed*: their tags are
/// HMACs and their values are ciphertext.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Table {
    /// Links of the header chain, by number.
    Header = 1,
    /// Places that the root key is locked in, by slot number.
    Slot = 2,
    /// Who belongs to the cluster: one record.
    Roster = 3,
    /// Who holds shares: one record.
    Custodians = 4,
    /// Administrators, operators, auditors, custodians, by hash of their URI.
    Steward = 5,
    /// Certificates that are refused, by key hash.
    Denied = 6,
    /// The newest head of each node's audit book, by node.
    AuditHead = 7,
    /// The keyring, sealed under the root key: one record.
    Keyring = 8,
    /// The genesis that the lineage is the hash of, with its countersignatures: one record.
    Genesis = 9,
    /// Key metadata, by name.
    Key = 128,
    /// Key material, by key id, version and material id.
    Material = 129,
    /// The bucket keys that wrap key material: one record.
    Buckets = 130,
    /// Rights of key users, by hash of their URI.
    Grant = 131,
    /// What became of a caller's request, by caller and request id.
    Request = 132,
    /// An audit page that travelled in a transaction, by its id.
    Page = 133,
    /// Tickets to join that were given and not used, by digest of their secret.
    Ticket = 134,
}

impl Table {
    const ALL: [Table; 16] = [
        Table::Header,
        Table::Slot,
        Table::Roster,
        Table::Custodians,
        Table::Steward,
        Table::Denied,
        Table::AuditHead,
        Table::Keyring,
        Table::Genesis,
        Table::Key,
        Table::Material,
        Table::Buckets,
        Table::Grant,
        Table::Request,
        Table::Page,
        Table::Ticket,
    ];

    /// Whether tags and values of this table are secret.
    pub fn sealed(self) -> bool {
        self as u8 >= 128
    }

    /// Whether the table belongs to this region alone. The rest, the lineage records, is the same in every region.
    pub fn regional(self) -> bool {
        matches!(self, Table::Slot | Table::Roster | Table::Custodians | Table::AuditHead | Table::Ticket)
    }

    fn from_u8(byte: u8) -> Result<Table, Malformed> {
        Table::ALL.into_iter().find(|t| *t as u8 == byte).ok_or(Malformed::Unknown)
    }
}

/// What stands for a tenant in a record's key: zeroes for no tenant, else the first half of an HMAC of its name.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TenantTag(pub [u8; 16]);

/// A record's place: table, tenant tag, tag. 49 bytes: table u8, tenant 16, tag 32.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RecordKey {
    /// The kind of record.
    pub table: Table,
    /// The tenant that it belongs to.
    pub tenant: TenantTag,
    /// Which one: a hash or HMAC, or a number in the last eight bytes.
    pub tag: [u8; 32],
}

impl RecordKey {
    /// Width of the byte form.
    pub const BYTES: usize = 49;

    /// The one record of a table that has only one.
    pub fn only(table: Table) -> Self {
        RecordKey::numbered(table, 0)
    }

    /// A record that goes by a number.
    pub fn numbered(table: Table, number: u64) -> Self {
        let mut tag = [0; 32];
        tag[24..].copy_from_slice(&number.to_be_bytes());
        RecordKey { table, tenant: TenantTag::default(), tag }
    }

    /// A record without tenant that goes by a hash.
    pub fn hashed(table: Table, tag: [u8; 32]) -> Self {
        RecordKey { table, tenant: TenantTag::default(), tag }
    }

    /// The collection that the record is a member of.
    pub fn collection(&self) -> Collection {
        Collection { table: self.table, tenant: self.tenant }
    }

    /// The byte form as an array.
    pub fn to_array(&self) -> [u8; Self::BYTES] {
        let mut out = [0; Self::BYTES];
        out[0] = self.table as u8;
        out[1..17].copy_from_slice(&self.tenant.0);
        out[17..].copy_from_slice(&self.tag);
        out
    }
}

impl fmt::Debug for RecordKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}/", self.table)?;
        self.tag[..4].iter().chain(&self.tag[28..]).try_for_each(|b| write!(f, "{b:02x}"))
    }
}

impl Canonical for RecordKey {
    fn write(&self, w: &mut Writer) {
        w.raw(&self.to_array());
    }
    fn read(r: &mut Reader<'_>) -> Result<Self, Malformed> {
        let table = Table::from_u8(r.u8()?)?;
        Ok(RecordKey { table, tenant: TenantTag(r.array()?), tag: r.array()? })
    }
}

/// All records of one table and tenant: what a decision that reads a list relies on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Collection {
    /// The kind of record.
    pub table: Table,
    /// The tenant.
    pub tenant: TenantTag,
}

impl Collection {
    /// Width of the byte form.
    pub const BYTES: usize = 17;

    /// The bytes that every key of the collection starts with.
    pub fn prefix(&self) -> [u8; Self::BYTES] {
        let mut out = [0; Self::BYTES];
        out[0] = self.table as u8;
        out[1..].copy_from_slice(&self.tenant.0);
        out
    }
}

impl Canonical for Collection {
    fn write(&self, w: &mut Writer) {
        w.raw(&self.prefix());
    }
    fn read(r: &mut Reader<'_>) -> Result<Self, Malformed> {
        Ok(Collection { table: Table::from_u8(r.u8()?)?, tenant: TenantTag(r.array()?) })
    }
}

/// The number of the transaction that wrote a record: 0 where there is neither record nor tombstone.
pub type Version = u64;

/// What every number of a transaction of that generation is above. Each generation has numbers that no generation before it
/// can have come to, also in what was lost when it began: so whoever has seen any of those waits for none of them.
pub fn numbers_begin_above(generation: u64) -> Version {
    generation.saturating_sub(1).min(GENERATIONS_APART) * GENERATION_NUMBERS
}

/// Transactions that one generation can have.
const GENERATION_NUMBERS: u64 = 1 << 40;
/// Generations whose numbers are kept apart: more than people can begin.
const GENERATIONS_APART: u64 = 1 << 21;

/// A record as a reader gets it.
#[derive(Clone, PartialEq, Eq)]
pub struct Record {
    /// The transaction that wrote it.
    pub version: Version,
    /// The value: in a sealed table, ciphertext.
    pub value: Vec<u8>,
}

/// A linearizable or pinned reading of the records, as `decide` sees it. Reading is immediate: the ledger keeps what
/// it takes in memory or on its own disk.
pub trait View {
    /// The live record at `key`, if there is one.
    fn record(&self, key: &RecordKey) -> Option<Record>;
    /// The version at `key`: that of the record, or of its tombstone, or 0.
    fn version(&self, key: &RecordKey) -> Version;
    /// The version of a collection: 0 until its first member.
    fn members_version(&self, collection: &Collection) -> Version;
    /// Up to `limit` live records of a collection in order of tag, beginning after `after`.
    fn members(&self, collection: &Collection, after: Option<[u8; 32]>, limit: usize) -> Vec<(RecordKey, Record)>;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_key_is_read_as_written() {
        for table in Table::ALL {
            let key = RecordKey { table, tenant: TenantTag([3; 16]), tag: [9; 32] };
            assert_eq!(RecordKey::from_bytes(&key.to_bytes()), Ok(key));
        }
        let mut bytes = RecordKey::only(Table::Key).to_bytes();
        bytes[0] = 99;
        assert_eq!(RecordKey::from_bytes(&bytes), Err(Malformed::Unknown));
    }
}
