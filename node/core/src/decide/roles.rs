//! Roles and denied certificates.

use super::draft::Draft;
use super::{Decision, Desk, Stamp};
use crate::books;
use crate::chance::Chance;
use crate::codec::{Canonical, Malformed, Reader, Writer};
use crate::failure::{Cause, Failure, Refused};
use crate::name::{Identity, KeyHash};
use crate::policy::{
    Action, AllowCertificate, DeleteRole, DeniedRecord, DenyCertificate, GRANTS_MAX, GrantRecord, KeyGrant, Permit,
    RoleKind, RoleSet, SetRole, StewardRecord,
};
use crate::record::{Collection, RecordKey, Table, TenantTag, Version, View};
use crate::roster::Custodians;
use crate::txn::Reliance;

/// Denied certificates, at most.
pub const DENIED_MAX: usize = 4_096;
/// Stewards that are looked at in one reading when another administrator is sought.
const STEWARDS_AT_ONCE: usize = 64;

/// Everything that somebody may do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Role {
    /// Who.
    pub identity: Identity,
    /// What they are. `KeyUser` if and only if there are grants.
    pub kinds: RoleSet,
    /// At most [`GRANTS_MAX`], each key once.
    pub grants: Vec<KeyGrant>,
}

impl Role {
    fn check(&self) -> Result<(), Refused> {
        let user = self.kinds.has(RoleKind::KeyUser);
        if self.kinds.is_empty() {
            return Err(Refused::BadRequest("at least one role; to take all away, delete the role"));
        }
        if user == self.grants.is_empty() {
            return Err(Refused::BadRequest("keys for a key user, and for nobody else"));
        }
        if user && self.kinds.has(RoleKind::Administrator) {
            return Err(Refused::RolesExclude);
        }
        self.check_grants()
    }

    fn check_grants(&self) -> Result<(), Refused> {
        if self.grants.len() > GRANTS_MAX {
            return Err(Refused::TooMany("keys of one key user"));
        }
        let mut keys: Vec<_> = self.grants.iter().map(|g| (&g.tenant, &g.key)).collect();
        keys.sort_unstable();
        let useful = self.grants.iter().all(|g| g.encrypt || g.decrypt);
        let once = keys.is_sorted_by(|a, b| a < b);
        if useful && once { Ok(()) } else { Err(Refused::BadRequest("each key once, to encrypt, decrypt or both")) }
    }

    fn stewardship(&self) -> RoleSet {
        self.kinds.without(RoleKind::KeyUser)
    }
}

/// Gives an identity its roles and keys, in place of what it had.
///
/// # Errors
/// `BadRequest`, `RolesExclude`, `TooMany`, `LastAdministrator`, `TooFewCustodians`.
pub fn set_role(
    desk: &Desk<'_>,
    permit: Permit<SetRole>,
    role: Role,
    stamp: Stamp,
    chance: &mut Chance,
) -> Result<Decision<Role>, Failure> {
    role.check()?;
    let mut draft = Draft::by(desk, &permit);
    restrain(desk, &mut draft, &permit, &role.identity, role.stewardship())?;
    write_stewardship(&mut draft, &role);
    write_grants(desk, &mut draft, &role, chance);
    Ok(draft.finish(stamp, &[], role, chance))
}

/// Takes everything from an identity.
///
/// # Errors
/// `NotFound`, `LastAdministrator`, `TooFewCustodians`.
pub fn delete_role(
    desk: &Desk<'_>,
    permit: Permit<DeleteRole>,
    identity: &Identity,
    stamp: Stamp,
    chance: &mut Chance,
) -> Result<Decision<()>, Failure> {
    read_role(desk, identity)?.ok_or(Refused::NotFound)?;
    let mut draft = Draft::by(desk, &permit);
    restrain(desk, &mut draft, &permit, identity, RoleSet::default())?;
    draft.delete(StewardRecord::key(identity));
    draft.delete(desk.keyring.grant_record(identity));
    Ok(draft.finish(stamp, &[], (), chance))
}

/// Refuses certificates with that key from now on.
///
/// # Errors
/// `OwnCertificate`, `TooMany`.
pub fn deny_certificate(
    desk: &Desk<'_>,
    permit: Permit<DenyCertificate>,
    key_hash: KeyHash,
    stamp: Stamp,
    chance: &mut Chance,
) -> Result<Decision<()>, Failure> {
    if key_hash == *permit.caller().key_hash() {
        return Err(Refused::OwnCertificate.into());
    }
    let mut draft = Draft::by(desk, &permit);
    if desk.view.members(&DENIED, None, DENIED_MAX).len() >= DENIED_MAX {
        return Err(Refused::TooMany("denied certificates").into());
    }
    draft.also(Reliance::Members(DENIED, desk.view.members_version(&DENIED)));
    let record = DeniedRecord { key_hash, by: permit.caller().identity().clone(), since: desk.date() };
    draft.put_open(DeniedRecord::key(&key_hash), &record);
    Ok(draft.finish(stamp, &[], (), chance))
}

/// Takes a denial back.
///
/// # Errors
/// `NotFound`.
pub fn allow_certificate(
    desk: &Desk<'_>,
    permit: Permit<AllowCertificate>,
    key_hash: KeyHash,
    stamp: Stamp,
    chance: &mut Chance,
) -> Result<Decision<()>, Failure> {
    let place = DeniedRecord::key(&key_hash);
    desk.view.record(&place).ok_or(Refused::NotFound)?;
    let mut draft = Draft::by(desk, &permit);
    draft.delete(place);
    Ok(draft.finish(stamp, &[], (), chance))
}

/// What an identity may do, and the newest version among its records.
///
/// # Errors
/// A record that does not open.
pub fn read_role(desk: &Desk<'_>, identity: &Identity) -> Result<Option<(Role, Version)>, Cause> {
    let steward = books::read_open::<StewardRecord>(desk.view, &StewardRecord::key(identity))?;
    let grant = desk.books().read::<GrantRecord>(desk.view, &desk.keyring.grant_record(identity))?;
    if steward.is_none() && grant.is_none() {
        return Ok(None);
    }
    let (roles, first) = steward.map_or((RoleSet::default(), 0), |(record, version)| (record.roles, version));
    let (grants, second) = grant.map_or((Vec::new(), 0), |(record, version)| (record.grants, version));
    let kinds = if grants.is_empty() { roles } else { roles.with(RoleKind::KeyUser) };
    Ok(Some((Role { identity: identity.clone(), kinds, grants }, first.max(second))))
}

/// Where a listing of roles goes on. Stewards come first, then those who are key users and nothing else.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RoleCursor {
    /// Behind that steward.
    Stewards([u8; 32]),
    /// Behind that key user, or at the first.
    Users(Option<[u8; 32]>),
}

impl Canonical for RoleCursor {
    fn write(&self, w: &mut Writer) {
        match self {
            RoleCursor::Stewards(tag) => w.u8(1).raw(tag),
            RoleCursor::Users(Some(tag)) => w.u8(2).raw(tag),
            RoleCursor::Users(None) => w.u8(3),
        };
    }
    fn read(r: &mut Reader<'_>) -> Result<Self, Malformed> {
        match r.u8()? {
            1 => Ok(RoleCursor::Stewards(r.array()?)),
            2 => Ok(RoleCursor::Users(Some(r.array()?))),
            3 => Ok(RoleCursor::Users(None)),
            _ => Err(Malformed::Unknown),
        }
    }
}

/// One page of roles.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RoleList {
    /// Each with the newest version among its records.
    pub roles: Vec<(Role, Version)>,
    /// Where to go on, if there may be more.
    pub next: Option<RoleCursor>,
}

/// Roles, beginning behind `after`. Looks at `limit` records: a page may hold fewer, and be followed by others.
///
/// # Errors
/// A record that does not open.
pub fn list_roles(desk: &Desk<'_>, after: Option<RoleCursor>, limit: usize) -> Result<RoleList, Cause> {
    match after {
        None => list_stewards(desk, None, limit),
        Some(RoleCursor::Stewards(tag)) => list_stewards(desk, Some(tag), limit),
        Some(RoleCursor::Users(tag)) => list_users(desk, tag, limit),
    }
}

/// The denied keys, all of them.
///
/// # Errors
/// A record that cannot be read.
pub fn list_denied(view: &dyn View) -> Result<Vec<KeyHash>, Cause> {
    let read = |(_, record): &(RecordKey, crate::record::Record)| {
        let denied = DeniedRecord::from_bytes(&record.value);
        denied.map(|d| d.key_hash).map_err(|_| Cause("a denied record cannot be read"))
    };
    view.members(&DENIED, None, DENIED_MAX).iter().map(read).collect()
}

const STEWARDS: Collection = Collection { table: Table::Steward, tenant: TenantTag([0; 16]) };
const USERS: Collection = Collection { table: Table::Grant, tenant: TenantTag([0; 16]) };
const DENIED: Collection = Collection { table: Table::Denied, tenant: TenantTag([0; 16]) };

fn list_stewards(desk: &Desk<'_>, after: Option<[u8; 32]>, limit: usize) -> Result<RoleList, Cause> {
    let found = desk.view.members(&STEWARDS, after, limit);
    let more = found.last().filter(|_| found.len() == limit).map(|(place, _)| RoleCursor::Stewards(place.tag));
    let mut roles = Vec::with_capacity(found.len());
    for (_, record) in &found {
        let steward = read_steward(&record.value)?;
        roles.extend(read_role(desk, &steward.identity)?);
    }
    Ok(RoleList { roles, next: Some(more.unwrap_or(RoleCursor::Users(None))) })
}

fn list_users(desk: &Desk<'_>, after: Option<[u8; 32]>, limit: usize) -> Result<RoleList, Cause> {
    let found = desk.view.members(&USERS, after, limit);
    let next = found.last().filter(|_| found.len() == limit).map(|(place, _)| RoleCursor::Users(Some(place.tag)));
    let mut roles = Vec::with_capacity(found.len());
    for (place, record) in &found {
        let user: GrantRecord = desk.books().value(place, record)?;
        if desk.view.record(&StewardRecord::key(&user.identity)).is_none() {
            roles.extend(read_role(desk, &user.identity)?);
        }
    }
    Ok(RoleList { roles, next })
}

fn read_steward(value: &[u8]) -> Result<StewardRecord, Cause> {
    StewardRecord::from_bytes(value).map_err(|_| Cause("a steward record cannot be read"))
}

fn write_stewardship(draft: &mut Draft<'_, '_>, role: &Role) {
    let place = StewardRecord::key(&role.identity);
    match role.stewardship() {
        none if none.is_empty() => draft.delete(place),
        roles => draft.put_open(place, &StewardRecord { identity: role.identity.clone(), roles }),
    }
}

fn write_grants(desk: &Desk<'_>, draft: &mut Draft<'_, '_>, role: &Role, chance: &mut Chance) {
    let place = desk.keyring.grant_record(&role.identity);
    if role.grants.is_empty() {
        return draft.delete(place);
    }
    let record = GrantRecord { identity: role.identity.clone(), grants: role.grants.clone() };
    draft.put_sealed(place, &record.to_bytes(), chance);
}

/// Refuses to leave the cluster without somebody who can give roles, or who can open it.
fn restrain<A: Action>(
    desk: &Desk<'_>,
    draft: &mut Draft<'_, '_>,
    permit: &Permit<A>,
    identity: &Identity,
    roles: RoleSet,
) -> Result<(), Failure> {
    let before = books::read_open::<StewardRecord>(desk.view, &StewardRecord::key(identity))?;
    let before = before.map_or(RoleSet::default(), |(record, _)| record.roles);
    let loses = |kind| before.has(kind) && !roles.has(kind);
    // Who takes another's role away is an administrator, and the permit relies on it. Only one's own needs another.
    if loses(RoleKind::Administrator) && identity == permit.caller().identity() {
        draft.also(other_administrator(desk, identity)?);
    }
    if loses(RoleKind::Custodian) {
        enough_custodians(desk, draft, identity)?;
    }
    Ok(())
}

/// Some other administrator's record, to be relied on: two who step down for each other's sake cannot both succeed.
fn other_administrator(desk: &Desk<'_>, identity: &Identity) -> Result<Reliance, Failure> {
    let mut after = None;
    loop {
        let found = desk.view.members(&STEWARDS, after, STEWARDS_AT_ONCE);
        for (place, record) in &found {
            let steward = read_steward(&record.value)?;
            if steward.roles.has(RoleKind::Administrator) && steward.identity != *identity {
                return Ok(Reliance::Exact(*place, record.version));
            }
        }
        let Some((last, _)) = found.last() else { return Err(Refused::LastAdministrator.into()) };
        after = Some(last.tag);
    }
}

/// Relies on as many other holders of shares being custodians as it takes to open the cluster.
fn enough_custodians(desk: &Desk<'_>, draft: &mut Draft<'_, '_>, identity: &Identity) -> Result<(), Failure> {
    let place = RecordKey::only(Table::Custodians);
    draft.rely(&place);
    let Some((custodians, _)) = books::read_open::<Custodians>(desk.view, &place)? else { return Ok(()) };
    let holders = || custodians.holders.iter().map(|h| &h.keys.identity);
    if !holders().any(|holder| holder == identity) {
        return Ok(());
    }
    let mut able = 0;
    for holder in holders().filter(|holder| *holder != identity) {
        let place = StewardRecord::key(holder);
        let steward = books::read_open::<StewardRecord>(desk.view, &place)?;
        if steward.is_some_and(|(record, _)| record.roles.has(RoleKind::Custodian)) {
            draft.rely(&place);
            able += 1;
        }
    }
    if able < usize::from(custodians.threshold) { Err(Refused::TooFewCustodians.into()) } else { Ok(()) }
}
