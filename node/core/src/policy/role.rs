//! Roles as records: stewards in clear, key users sealed, denials by key hash.

use crate::codec::{Canonical, Malformed, Reader, Writer};
use crate::crypto;
use crate::failure::words;
use crate::name::{Identity, KeyHash, KeyName, Segment};
use crate::record::{RecordKey, Table};
use crate::time::UnixMs;

/// Grants of one identity, at most.
pub const GRANTS_MAX: usize = 256;

const FORMAT: u16 = 1;

words! {
    /// What somebody may be.
    RoleKind {
        /// Roles, denials, keys; never plaintext or ciphertext.
        Administrator = 1 "administrator",
        /// Ceremonies, sealing, status, leader transfer.
        Operator = 2 "operator",
        /// Offers a share.
        Custodian = 3 "custodian",
        /// Reads the audit book, roles and key metadata.
        Auditor = 4 "auditor",
        /// Encrypts and decrypts with the keys that are granted.
        KeyUser = 5 "key_user",
    }
}

/// A set of roles.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RoleSet(u8);

impl RoleSet {
    /// The set of these.
    pub fn of(kinds: &[RoleKind]) -> Self {
        kinds.iter().copied().collect()
    }
    /// Whether it holds that role.
    pub fn has(self, kind: RoleKind) -> bool {
        self.0 & Self::bit(kind) != 0
    }
    /// The set with that role too.
    #[must_use]
    pub fn with(self, kind: RoleKind) -> Self {
        RoleSet(self.0 | Self::bit(kind))
    }
    /// The set without that role.
    #[must_use]
    pub fn without(self, kind: RoleKind) -> Self {
        RoleSet(self.0 & !Self::bit(kind))
    }
    /// Whether it holds none.
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }
    /// Its roles, in order.
    pub fn iter(self) -> impl Iterator<Item = RoleKind> {
        RoleKind::ALL.iter().copied().filter(move |kind| self.has(*kind))
    }
    fn bit(kind: RoleKind) -> u8 {
        1 << (kind as u8)
    }
}

impl FromIterator<RoleKind> for RoleSet {
    fn from_iter<I: IntoIterator<Item = RoleKind>>(kinds: I) -> Self {
        kinds.into_iter().fold(RoleSet::default(), RoleSet::with)
    }
}

/// The roles of somebody but for key use, in clear, so that a sealed node can authorise. Value of the steward table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StewardRecord {
    /// Whose.
    pub identity: Identity,
    /// At least one, and never `KeyUser`.
    pub roles: RoleSet,
}

impl StewardRecord {
    /// The place of somebody's record: tag = SHA-256 of the URI.
    pub fn key(identity: &Identity) -> RecordKey {
        RecordKey::hashed(Table::Steward, crypto::sha256(&[identity.to_string().as_bytes()]).0)
    }
}

impl Canonical for StewardRecord {
    fn write(&self, w: &mut Writer) {
        w.u16(FORMAT);
        self.identity.write(w);
        w.u8(self.roles.0);
    }
    fn read(r: &mut Reader<'_>) -> Result<Self, Malformed> {
        if r.u16()? != FORMAT {
            return Err(Malformed::Unknown);
        }
        let (identity, bits) = (Identity::read(r)?, r.u8()?);
        let roles: RoleSet = RoleKind::ALL.iter().copied().filter(|k| RoleSet(bits).has(*k)).collect();
        let good = roles.0 == bits && !roles.is_empty() && !roles.has(RoleKind::KeyUser);
        if good { Ok(StewardRecord { identity, roles }) } else { Err(Malformed::Unknown) }
    }
}

/// What a key may be used for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Use {
    /// Encrypting.
    Encrypt,
    /// Decrypting.
    Decrypt,
}

/// The use of one key, or of all keys of a tenant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyGrant {
    /// Of this tenant.
    pub tenant: Segment,
    /// This key; all of them, future ones too, when there is none.
    pub key: Option<Segment>,
    /// Whether it may encrypt.
    pub encrypt: bool,
    /// Whether it may decrypt.
    pub decrypt: bool,
}

impl KeyGrant {
    /// Whether the grant is about that key.
    pub fn reaches(&self, name: &KeyName) -> bool {
        self.tenant == name.tenant && self.key.as_ref().is_none_or(|key| *key == name.key)
    }

    /// Whether it allows that use.
    pub fn allows(&self, usage: Use) -> bool {
        match usage {
            Use::Encrypt => self.encrypt,
            Use::Decrypt => self.decrypt,
        }
    }
}

impl Canonical for KeyGrant {
    fn write(&self, w: &mut Writer) {
        self.tenant.write(w);
        w.option(self.key.as_ref()).bool(self.encrypt).bool(self.decrypt);
    }
    fn read(r: &mut Reader<'_>) -> Result<Self, Malformed> {
        Ok(KeyGrant { tenant: Segment::read(r)?, key: r.option()?, encrypt: r.bool()?, decrypt: r.bool()? })
    }
}

/// What a key user may do: the plaintext of a record of the grant table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GrantRecord {
    /// Whose.
    pub identity: Identity,
    /// 1 to [`GRANTS_MAX`].
    pub grants: Vec<KeyGrant>,
}

impl Canonical for GrantRecord {
    fn write(&self, w: &mut Writer) {
        w.u16(FORMAT);
        self.identity.write(w);
        w.list(&self.grants);
    }
    fn read(r: &mut Reader<'_>) -> Result<Self, Malformed> {
        if r.u16()? != FORMAT {
            return Err(Malformed::Unknown);
        }
        Ok(GrantRecord { identity: Identity::read(r)?, grants: r.list(GRANTS_MAX)? })
    }
}

/// A certificate key that is refused. Value of the denied table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeniedRecord {
    /// SHA-256 of the key: renewed certificates with the same key are refused too.
    pub key_hash: KeyHash,
    /// Who denied it.
    pub by: Identity,
    /// Cluster time when it was decided.
    pub since: UnixMs,
}

impl DeniedRecord {
    /// The place of the record: tag = key hash.
    pub fn key(key_hash: &KeyHash) -> RecordKey {
        RecordKey::hashed(Table::Denied, key_hash.0)
    }
}

impl Canonical for DeniedRecord {
    fn write(&self, w: &mut Writer) {
        w.u16(FORMAT).raw(&self.key_hash.0);
        self.by.write(w);
        w.u64(self.since.0);
    }
    fn read(r: &mut Reader<'_>) -> Result<Self, Malformed> {
        if r.u16()? != FORMAT {
            return Err(Malformed::Unknown);
        }
        Ok(DeniedRecord { key_hash: KeyHash::read(r)?, by: Identity::read(r)?, since: UnixMs(r.u64()?) })
    }
}
