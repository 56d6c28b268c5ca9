//! The keyring: every key that an open node holds besides R, sealed under R as one record. What derives a record's
//! place, seals its value (`barrier`), and signs what the node authors.

use crate::chance::{Chance, Fresh};
use crate::codec::{Canonical, Malformed, Reader, Writer};
use crate::crypto::{SigningKey, hmac_sha256, sign_batch, sign_header};
use crate::header::{Header, HeaderLink};
use crate::kdf::{self, Ctx, Label, SALT_BYTES, SU_BYTES, label};
use crate::kem::{KEM_PUBLIC_BYTES, KemPublic};
use crate::name::{Digest, Identity, KeyId, KeyName, Lineage, MaterialId, RequestId, Segment};
use crate::record::{RecordKey, Table, TenantTag};
use crate::secret::{Secret32, SecretBytes};
use crate::slot::{Root, SLOTS_MAX};
use crate::txn::{Batch, SignedBatch, TxnKey};

/// Keys of one kind (barrier terms, epochs, audit keys) that a keyring remembers, at most.
pub const KEYS_MAX: usize = 1_024;

const FORMAT: u16 = 1;
/// format u16, r u32.
const CLEAR_BYTES: usize = 6;

/// A slot's true public half.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SlotPublic {
    /// The slot's number.
    pub number: u32,
    /// Where a new R is sealed to.
    pub public: KemPublic,
}

impl Canonical for SlotPublic {
    fn write(&self, w: &mut Writer) {
        w.u32(self.number);
        self.public.write(w);
    }
    fn read(r: &mut Reader<'_>) -> Result<Self, Malformed> {
        Ok(SlotPublic { number: r.u32()?, public: KemPublic::read(r)? })
    }
}

/// A key that is one of a series.
struct Numbered {
    number: u32,
    key: Secret32,
}

impl Numbered {
    fn draw(number: u32, chance: &mut Chance) -> Vec<Self> {
        vec![Numbered { number, key: Secret32::of(chance.fresh()) }]
    }

    fn copy(&self) -> Self {
        Numbered { number: self.number, key: copy(&self.key) }
    }
}

impl Canonical for Numbered {
    fn write(&self, w: &mut Writer) {
        w.u32(self.number).raw(self.key.expose());
    }
    fn read(r: &mut Reader<'_>) -> Result<Self, Malformed> {
        let number = r.u32()?;
        Ok(Numbered { number, key: Secret32::copy_from(r.raw(32)?).ok_or(Malformed::Short)? })
    }
}

/// The keys of an open node. No Debug, no Clone.
pub struct Keyring {
    txn_number: u32,
    txn: SigningKey,
    slots: Vec<SlotPublic>,
    terms: Vec<Numbered>,
    epochs: Vec<Numbered>,
    audit: Vec<Numbered>,
    index: Secret32,
}

impl Keyring {
    /// A new cluster's keyring: T number 1, barrier term 1, epoch 0, audit key 1; no slots yet.
    pub fn draw(chance: &mut Chance) -> Self {
        Keyring {
            txn_number: 1,
            txn: SigningKey::from_seed(Secret32::of(chance.fresh())),
            slots: Vec::new(),
            terms: Numbered::draw(1, chance),
            epochs: Numbered::draw(0, chance),
            audit: Numbered::draw(1, chance),
            index: Secret32::of(chance.fresh()),
        }
    }

    /// The keyring after a node has left: another transaction key T and another audit key, numbered one higher. Everything
    /// else stays; audit keys are kept, for what they tagged.
    ///
    /// # Panics
    /// At more than [`KEYS_MAX`] audit keys: [`Keyring::renewable`] tells before.
    pub fn renewed(&self, chance: &mut Chance) -> Self {
        assert!(self.renewable(), "whoever renews asks first");
        let mut audit: Vec<Numbered> = self.audit.iter().map(Numbered::copy).collect();
        audit.extend(Numbered::draw(newest(&self.audit).0 + 1, chance));
        Keyring {
            txn_number: self.txn_number + 1,
            txn: SigningKey::from_seed(Secret32::of(chance.fresh())),
            slots: self.slots.clone(),
            terms: self.terms.iter().map(Numbered::copy).collect(),
            epochs: self.epochs.iter().map(Numbered::copy).collect(),
            audit,
            index: copy(&self.index),
        }
    }

    /// Whether there is room for another audit key.
    pub fn renewable(&self) -> bool {
        self.audit.len() < KEYS_MAX && self.txn_number < u32::MAX
    }

    /// The keyring record's value: format u16, r u32, SU under KDF(R).
    pub fn seal(&self, root: &Root, lineage: &Lineage, salt: Fresh<SALT_BYTES>) -> Vec<u8> {
        let plaintext = self.plaintext();
        let mut w = Writer::with_room(CLEAR_BYTES + plaintext.expose().len() + SU_BYTES);
        w.u16(FORMAT).u32(root.number());
        let mut value = w.into_bytes();
        let (key, ctx) = sealing(root, lineage);
        kdf::seal_onto(&mut value, &key, label::KEYRING, &ctx, plaintext.expose(), salt);
        value
    }

    /// Opens what [`Keyring::seal`] made under the same root and lineage, or nothing.
    pub fn open(root: &Root, lineage: &Lineage, value: &[u8]) -> Option<Self> {
        let mut r = Reader::new(value);
        if r.u16() != Ok(FORMAT) || r.u32() != Ok(root.number()) {
            return None;
        }
        let (key, ctx) = sealing(root, lineage);
        let plaintext = kdf::open(&key, label::KEYRING, &ctx, &value[CLEAR_BYTES..])?;
        Keyring::read(plaintext.expose()).ok()
    }

    /// The transaction key T: its number and public half.
    pub fn txn_key(&self) -> TxnKey {
        TxnKey { number: self.txn_number, public: self.txn.public() }
    }

    /// Signs a batch with T, whose number is written into it.
    pub fn sign_batch(&self, mut batch: Batch) -> SignedBatch {
        batch.signer = self.txn_number;
        sign_batch(&self.txn, batch)
    }

    /// Signs the next link of the header chain with T.
    pub fn sign_header(&self, header: Header) -> HeaderLink {
        sign_header(&self.txn, header)
    }

    /// The slots' true public halves, in order of their numbers.
    pub fn slots(&self) -> &[SlotPublic] {
        &self.slots
    }

    /// Remembers a slot's public half, in place of what was known of that number.
    ///
    /// # Panics
    /// At more than [`SLOTS_MAX`] slots.
    pub fn remember_slot(&mut self, slot: SlotPublic) {
        self.slots.retain(|s| s.number != slot.number);
        self.slots.push(slot);
        self.slots.sort_by_key(|s| s.number);
        assert!(self.slots.len() <= SLOTS_MAX, "slots are bounded where they are made");
    }

    /// What stands for a tenant: the first half of HMAC(I, "claviger/v1/tenant-tag" 00 ctx(tenant)).
    pub fn tenant_tag(&self, tenant: &Segment) -> TenantTag {
        let tag = self.hmac(label::TENANT_TAG, &Ctx::new().lp(tenant.as_str().as_bytes()));
        TenantTag(*tag.first_chunk().expect("half of an HMAC"))
    }

    /// Where a key's metadata stands.
    pub fn key_record(&self, name: &KeyName) -> RecordKey {
        let ctx = tag_ctx(Table::Key, &name.tenant).lp(name.key.as_str().as_bytes());
        RecordKey { tenant: self.tenant_tag(&name.tenant), ..self.tagged(Table::Key, &ctx) }
    }

    /// Where the rights of a key user stand.
    pub fn grant_record(&self, user: &Identity) -> RecordKey {
        self.tagged(Table::Grant, &no_tenant(Table::Grant).lp(user.to_string().as_bytes()))
    }

    /// Where the outcome of a caller's request stands.
    pub fn request_record(&self, caller: &Identity, id: &RequestId) -> RecordKey {
        let ctx = no_tenant(Table::Request).lp(caller.to_string().as_bytes()).fixed(&id.0);
        self.tagged(Table::Request, &ctx)
    }

    /// Where key material stands.
    pub fn material_record(&self, key: &KeyId, version: u32, material: &MaterialId) -> RecordKey {
        let ctx = no_tenant(Table::Material).fixed(&key.0).u32(version).fixed(&material.0);
        self.tagged(Table::Material, &ctx)
    }

    /// Where the table of bucket keys stands.
    pub fn buckets_record(&self) -> RecordKey {
        RecordKey::only(Table::Buckets)
    }

    /// Where an audit page stands that travelled in a transaction.
    pub fn page_record(&self, page: &[u8; 16]) -> RecordKey {
        self.tagged(Table::Page, &no_tenant(Table::Page).fixed(page))
    }

    /// Where a ticket to join stands, by the digest of its secret.
    pub fn ticket_record(&self, ticket: &Digest) -> RecordKey {
        self.tagged(Table::Ticket, &no_tenant(Table::Ticket).fixed(&ticket.0))
    }

    /// What an audit page says instead of a sensitive string: the audit key's number, and HMAC(A,
    /// "claviger/v1/audit-tag" 00 ctx(text)).
    pub fn audit_tag(&self, text: &[u8]) -> (u32, [u8; 32]) {
        let key = self.audit.last().expect("a keyring has an audit key");
        (key.number, hmac(&key.key, label::AUDIT_TAG, &Ctx::new().lp(text)))
    }

    /// The barrier term that records are sealed under now.
    pub(crate) fn term(&self) -> (u32, &Secret32) {
        newest(&self.terms)
    }

    /// The key of a barrier term, while it is kept.
    pub(crate) fn term_key(&self, term: u32) -> Option<&Secret32> {
        find(&self.terms, term)
    }

    /// The epoch that bucket keys are wrapped under now.
    pub(crate) fn epoch(&self) -> (u32, &Secret32) {
        newest(&self.epochs)
    }

    /// The key of an epoch, while it is kept.
    pub(crate) fn epoch_key(&self, epoch: u32) -> Option<&Secret32> {
        find(&self.epochs, epoch)
    }

    fn tagged(&self, table: Table, ctx: &Ctx) -> RecordKey {
        RecordKey::hashed(table, self.hmac(label::RECORD_TAG, ctx))
    }

    fn hmac(&self, label: Label, ctx: &Ctx) -> [u8; 32] {
        hmac(&self.index, label, ctx)
    }

    fn plaintext(&self) -> SecretBytes {
        let keys = self.terms.len() + self.epochs.len() + self.audit.len();
        let mut w = Writer::with_room(86 + self.slots.len() * (4 + KEM_PUBLIC_BYTES) + keys * 36);
        w.u16(FORMAT).u32(self.txn_number).raw(self.txn.seed().expose());
        w.list(&self.slots).list(&self.terms).list(&self.epochs).list(&self.audit);
        w.raw(self.index.expose());
        SecretBytes::take(w.into_bytes())
    }

    fn read(plaintext: &[u8]) -> Result<Self, Malformed> {
        let mut r = Reader::new(plaintext);
        if r.u16()? != FORMAT {
            return Err(Malformed::Unknown);
        }
        let keyring = Keyring {
            txn_number: r.u32()?,
            txn: SigningKey::from_seed(Secret32::copy_from(r.raw(32)?).ok_or(Malformed::Short)?),
            slots: r.list(SLOTS_MAX)?,
            terms: series(&mut r)?,
            epochs: series(&mut r)?,
            audit: series(&mut r)?,
            index: Secret32::copy_from(r.raw(32)?).ok_or(Malformed::Short)?,
        };
        r.end()?;
        if keyring.slots.is_sorted_by(|a, b| a.number < b.number) { Ok(keyring) } else { Err(Malformed::Unknown) }
    }
}

/// Keys in order of their numbers, at least one.
fn series(r: &mut Reader<'_>) -> Result<Vec<Numbered>, Malformed> {
    let keys: Vec<Numbered> = r.list(KEYS_MAX)?;
    let ordered = !keys.is_empty() && keys.is_sorted_by(|a, b| a.number < b.number);
    if ordered { Ok(keys) } else { Err(Malformed::Unknown) }
}

/// Secrets are not cloned by accident: a renewed keyring is the one reason to.
fn copy(key: &Secret32) -> Secret32 {
    Secret32::copy_from(key.expose()).expect("a 32-byte key is as wide as a 32-byte key")
}

fn newest(keys: &[Numbered]) -> (u32, &Secret32) {
    let last = keys.last().expect("a keyring has a key of every kind");
    (last.number, &last.key)
}

fn find(keys: &[Numbered], number: u32) -> Option<&Secret32> {
    keys.iter().rev().find(|k| k.number == number).map(|k| &k.key)
}

fn hmac(key: &Secret32, label: Label, ctx: &Ctx) -> [u8; 32] {
    hmac_sha256(key, &[label.as_str().as_bytes(), &[0], ctx.as_slice()])
}

fn tag_ctx(table: Table, tenant: &Segment) -> Ctx {
    Ctx::new().u8(table as u8).lp(tenant.as_str().as_bytes())
}

/// An empty tenant: no segment is empty.
fn no_tenant(table: Table) -> Ctx {
    Ctx::new().u8(table as u8).lp(b"")
}

/// The key and the context that a keyring is sealed with.
fn sealing(root: &Root, lineage: &Lineage) -> (Secret32, Ctx) {
    let ctx = Ctx::new().fixed(&lineage.0).u32(root.number());
    (kdf::derive(root.key(), label::KEYRING_KEY, &ctx), ctx)
}

#[cfg(test)]
mod tests;
