//! The life of keys.

use super::draft::Draft;
use super::{Decision, Desk, Stamp};
use crate::chance::Chance;
use crate::codec::Canonical;
use crate::failure::{Cause, Failure, Refused};
use crate::key::{Algorithm, KeyRecord, KeyState, KeyVersion, LABELS_MAX, Labels, VERSIONS_MAX};
use crate::material::{Material, MaterialContext, Origin, Usage};
use crate::name::{KeyId, KeyName, MaterialId};
use crate::planted;
use crate::policy::{Action, CreateKey, DisableKey, EnableKey, ListKeys, Permit, RotateKey, UpdateKey};
use crate::record::{Collection, Table, Version};

/// What is asked of a new key, beside its name, which the permit says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CreateKeyAsk {
    /// What its material is for.
    pub algorithm: Algorithm,
    /// At most [`LABELS_MAX`].
    pub labels: Labels,
}

/// What is to change. Something must.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UpdateKeyAsk {
    /// In place of all labels.
    pub labels: Option<Labels>,
    /// The lowest version that decrypts from now on.
    pub min_decrypt: Option<u32>,
    /// The version that the key's record must be at.
    pub expected: Option<Version>,
}

/// Makes a key with its first version.
///
/// # Errors
/// `AlreadyExists`, `TooMany`.
pub fn create_key(
    desk: &Desk<'_>,
    permit: Permit<CreateKey>,
    ask: CreateKeyAsk,
    stamp: Stamp,
    chance: &mut Chance,
) -> Result<Decision<KeyRecord>, Failure> {
    bounded(&ask.labels)?;
    if desk.view.record(&desk.keyring.key_record(permit.key())).is_some() {
        return Err(Refused::AlreadyExists.into());
    }
    let mut key = KeyRecord {
        id: KeyId(chance.fresh().spend()),
        name: permit.key().clone(),
        algorithm: ask.algorithm,
        state: KeyState::Enabled,
        primary: 1,
        min_decrypt: 1,
        versions: Vec::with_capacity(1),
        labels: ask.labels,
        created: desk.date(),
        updated: desk.date(),
    };
    let mut draft = Draft::by(desk, &permit);
    add_version(desk, &mut draft, &mut key, 1, chance);
    Ok(written(draft, desk, key, stamp, chance))
}

/// Adds a version, which encrypts from now on. Older ones still decrypt.
///
/// # Errors
/// `NotFound`, `Disabled`, `TooMany`.
pub fn rotate_key(
    desk: &Desk<'_>,
    permit: Permit<RotateKey>,
    stamp: Stamp,
    chance: &mut Chance,
) -> Result<Decision<KeyRecord>, Failure> {
    let (mut key, _) = present(desk, &permit)?;
    let last = key.encrypting()?.number.max(key.versions.last().map_or(0, |v| v.number));
    if key.versions.len() >= VERSIONS_MAX {
        return Err(Refused::TooMany("versions of this key").into());
    }
    let mut draft = Draft::by(desk, &permit);
    let used = key.versions.len() > 2 && planted!(VersionReused);
    let number = if used { last } else { last + 1 };
    add_version(desk, &mut draft, &mut key, number, chance);
    Ok(written(draft, desk, key, stamp, chance))
}

/// Makes a disabled key work again. An enabled one stays as it is.
///
/// # Errors
/// `NotFound`.
pub fn enable_key(
    desk: &Desk<'_>,
    permit: Permit<EnableKey>,
    stamp: Stamp,
    chance: &mut Chance,
) -> Result<Decision<KeyRecord>, Failure> {
    turn_to(KeyState::Enabled, desk, &permit, stamp, chance)
}

/// Stops a key. A disabled one stays as it is.
///
/// # Errors
/// `NotFound`.
pub fn disable_key(
    desk: &Desk<'_>,
    permit: Permit<DisableKey>,
    stamp: Stamp,
    chance: &mut Chance,
) -> Result<Decision<KeyRecord>, Failure> {
    turn_to(KeyState::Disabled, desk, &permit, stamp, chance)
}

/// Changes labels, or the lowest version that still decrypts.
///
/// # Errors
/// `NotFound`, `Stale`, `BadVersion`, `TooMany`; `BadRequest` when nothing is to change.
pub fn update_key(
    desk: &Desk<'_>,
    permit: Permit<UpdateKey>,
    ask: UpdateKeyAsk,
    stamp: Stamp,
    chance: &mut Chance,
) -> Result<Decision<KeyRecord>, Failure> {
    let (mut key, version) = present(desk, &permit)?;
    if ask.expected.is_some_and(|expected| expected != version) {
        return Err(Refused::Stale.into());
    }
    if ask.labels.is_none() && ask.min_decrypt.is_none() {
        return Err(Refused::BadRequest("labels or a lowest version").into());
    }
    if let Some(labels) = ask.labels {
        bounded(&labels)?;
        key.labels = labels;
    }
    if let Some(lowest) = ask.min_decrypt {
        if !(1..=key.primary).contains(&lowest) {
            return Err(Refused::BadVersion.into());
        }
        key.min_decrypt = lowest;
    }
    Ok(written(Draft::by(desk, &permit), desk, key, stamp, chance))
}

/// A key as it is, with the version of its record.
///
/// # Errors
/// A record that does not open, or stands under another key's name.
pub fn read_key(desk: &Desk<'_>, name: &KeyName) -> Result<Option<(KeyRecord, Version)>, Cause> {
    match desk.books().read::<KeyRecord>(desk.view, &desk.keyring.key_record(name))? {
        Some((key, _)) if key.name != *name => Err(MISPLACED),
        found => Ok(found),
    }
}

/// One page of a tenant's keys, in an order that says nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyList {
    /// Those that the permit sees, each with the version of its record.
    pub keys: Vec<(KeyRecord, Version)>,
    /// Where to go on, if there may be more.
    pub next: Option<[u8; 32]>,
}

/// Keys of the permit's tenant, beginning behind `after`. Looks at `limit` records, and leaves out those that the caller
/// may not know of: a page may hold fewer, and be followed by others.
///
/// # Errors
/// A record that does not open.
pub fn list_keys(
    desk: &Desk<'_>,
    permit: &Permit<ListKeys>,
    after: Option<[u8; 32]>,
    limit: usize,
) -> Result<KeyList, Cause> {
    let tenant = Collection { table: Table::Key, tenant: desk.keyring.tenant_tag(permit.on()) };
    let found = desk.view.members(&tenant, after, limit);
    let next = (found.len() == limit).then(|| found.last().map(|(place, _)| place.tag)).flatten();
    let mut keys = Vec::with_capacity(found.len());
    for (place, record) in &found {
        let key: KeyRecord = desk.books().value(place, record)?;
        if desk.keyring.key_record(&key.name) != *place {
            return Err(MISPLACED);
        }
        if permit.sees(&key.name) {
            keys.push((key, record.version));
        }
    }
    Ok(KeyList { keys, next })
}

/// The material of one of the key's versions, whatever the key's state: ask [`KeyRecord::encrypting`] or
/// [`KeyRecord::decrypting`] first.
///
/// # Errors
/// No such version, or a record that is missing or does not open.
pub fn read_material(desk: &Desk<'_>, key: &KeyRecord, number: u32) -> Result<Material, Cause> {
    let version = key.version(number).ok_or(Cause("material was asked of a version that the key has not"))?;
    let place = desk.keyring.material_record(&key.id, version.number, &version.material);
    let record = desk.view.record(&place).ok_or(Cause("the material of a key's version is missing"))?;
    let sealed = desk.books().open(&place, &record)?;
    let context = material_context(desk, key, version);
    desk.buckets.open_material(&context, sealed.expose()).ok_or(Cause("the material of a key's version does not open"))
}

const MISPLACED: Cause = Cause("a key record stands in another's place");

fn turn_to<A: Action<On = KeyName>>(
    state: KeyState,
    desk: &Desk<'_>,
    permit: &Permit<A>,
    stamp: Stamp,
    chance: &mut Chance,
) -> Result<Decision<KeyRecord>, Failure> {
    let (mut key, _) = present(desk, permit)?;
    key.state = state;
    Ok(written(Draft::by(desk, permit), desk, key, stamp, chance))
}

fn present<A: Action<On = KeyName>>(desk: &Desk<'_>, permit: &Permit<A>) -> Result<(KeyRecord, Version), Failure> {
    Ok(read_key(desk, permit.key())?.ok_or(Refused::NotFound)?)
}

fn bounded(labels: &Labels) -> Result<(), Refused> {
    if labels.len() > LABELS_MAX { Err(Refused::TooMany("labels")) } else { Ok(()) }
}

/// Draws material for version `number`, which becomes the primary one. Relies on the bucket keys that seal it.
fn add_version(desk: &Desk<'_>, draft: &mut Draft<'_, '_>, key: &mut KeyRecord, number: u32, chance: &mut Chance) {
    let version = KeyVersion { number, material: MaterialId(chance.fresh().spend()), created: desk.date() };
    let material = Material::draw(material_context(desk, key, &version), chance.fresh());
    let sealed = desk.buckets.seal_material(&material, chance.fresh());
    draft.rely(&desk.keyring.buckets_record());
    draft.put_sealed(desk.keyring.material_record(&key.id, number, &version.material), &sealed, chance);
    key.primary = number;
    key.versions.push(version);
}

fn material_context(desk: &Desk<'_>, key: &KeyRecord, version: &KeyVersion) -> MaterialContext {
    MaterialContext {
        tenant: desk.keyring.tenant_tag(&key.name.tenant),
        key: key.id,
        version: version.number,
        material: version.material,
        algorithm: key.algorithm,
        usage: Usage::ENCRYPT_DECRYPT,
        exportable: false,
        origin: Origin::Generated,
    }
}

/// The decision that leaves the key as it is here.
fn written(
    mut draft: Draft<'_, '_>,
    desk: &Desk<'_>,
    mut key: KeyRecord,
    stamp: Stamp,
    chance: &mut Chance,
) -> Decision<KeyRecord> {
    key.updated = desk.date();
    let bytes = key.to_bytes();
    draft.put_sealed(desk.keyring.key_record(&key.name), &bytes, chance);
    draft.finish(stamp, &bytes, key, chance)
}
