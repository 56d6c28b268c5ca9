//! Roles and denials.

use super::{Parsed, array, key_name, rows, stamp, wanted};
use crate::service::{RequestStamp, RoleAt, RolePage};
use claviger_core::codec::Canonical;
use claviger_core::decide::{Role, RoleCursor};
use claviger_core::failure::Refused;
use claviger_core::name::{Identity, KeyHash, Segment};
use claviger_core::policy::{GRANTS_MAX, KeyGrant, RoleKind, RoleSet};
use claviger_proto::v1;

pub(in crate::api) fn set_role(ask: v1::SetRoleRequest) -> Parsed<(Role, RequestStamp)> {
    let request = stamp(&ask.request_id, &ask)?;
    let role = ask.role.ok_or(wanted("a role"))?;
    if role.keys.len() > GRANTS_MAX {
        return Err(Refused::TooMany("keys: 256 at most").into());
    }
    let kinds = role.kinds.iter().map(|number| kind(*number)).collect::<Parsed<RoleSet>>()?;
    let grants = role.keys.iter().map(grant).collect::<Parsed<_>>()?;
    Ok((Role { identity: role.identity.parse()?, kinds, grants }, request))
}

/// By number: protobuf's own reading of a list passes over those that it does not know.
fn kind(number: i32) -> Parsed<RoleKind> {
    match v1::RoleKind::try_from(number) {
        Err(_) | Ok(v1::RoleKind::Unspecified) => Err(wanted("a known role")),
        Ok(v1::RoleKind::Administrator) => Ok(RoleKind::Administrator),
        Ok(v1::RoleKind::Operator) => Ok(RoleKind::Operator),
        Ok(v1::RoleKind::Custodian) => Ok(RoleKind::Custodian),
        Ok(v1::RoleKind::Auditor) => Ok(RoleKind::Auditor),
        Ok(v1::RoleKind::KeyUser) => Ok(RoleKind::KeyUser),
    }
}

fn grant(grant: &v1::KeyGrant) -> Parsed<KeyGrant> {
    let (encrypt, decrypt) = (grant.encrypt, grant.decrypt);
    if !(encrypt || decrypt) {
        return Err(wanted("encrypt, decrypt or both for every key"));
    }
    if let Some(tenant) = grant.key.strip_suffix("/keys/*") {
        let tenant = tenant.strip_prefix("tenants/").ok_or(wanted("tenants/{tenant}/keys/{key}, or /keys/*"))?;
        return Ok(KeyGrant { tenant: tenant.parse()?, key: None, encrypt, decrypt });
    }
    let name = key_name(&grant.key)?;
    Ok(KeyGrant { tenant: name.tenant, key: Some(name.key), encrypt, decrypt })
}

fn role_out((role, revision): RoleAt) -> v1::Role {
    let kind = |kind: RoleKind| -> i32 {
        match kind {
            RoleKind::Administrator => v1::RoleKind::Administrator,
            RoleKind::Operator => v1::RoleKind::Operator,
            RoleKind::Custodian => v1::RoleKind::Custodian,
            RoleKind::Auditor => v1::RoleKind::Auditor,
            RoleKind::KeyUser => v1::RoleKind::KeyUser,
        }
        .into()
    };
    let grant = |grant: &KeyGrant| v1::KeyGrant {
        key: format!("tenants/{}/keys/{}", grant.tenant, grant.key.as_ref().map_or("*", Segment::as_str)),
        encrypt: grant.encrypt,
        decrypt: grant.decrypt,
    };
    v1::Role {
        identity: role.identity.to_string(),
        kinds: role.kinds.iter().map(kind).collect(),
        keys: role.grants.iter().map(grant).collect(),
        revision,
    }
}

pub(in crate::api) fn set_role_done(role: RoleAt) -> v1::SetRoleResponse {
    v1::SetRoleResponse { revision: role.1, role: Some(role_out(role)) }
}

pub(in crate::api) fn get_role(ask: v1::GetRoleRequest) -> Parsed<Identity> {
    Ok(ask.identity.parse()?)
}

pub(in crate::api) fn get_role_done((role, revision): (RoleAt, u64)) -> v1::GetRoleResponse {
    v1::GetRoleResponse { role: Some(role_out(role)), revision }
}

pub(in crate::api) fn list_roles(ask: v1::ListRolesRequest) -> Parsed<(usize, Option<RoleCursor>)> {
    let after = match ask.page_token.is_empty() {
        true => None,
        false => {
            let cursor = RoleCursor::from_bytes(&ask.page_token);
            Some(cursor.map_err(|_| wanted("the page token that the page before gave"))?)
        }
    };
    Ok((rows(ask.page_size)?, after))
}

pub(in crate::api) fn list_roles_done(page: RolePage) -> v1::ListRolesResponse {
    v1::ListRolesResponse {
        roles: page.roles.into_iter().map(role_out).collect(),
        next_page_token: page.next.map_or_else(Vec::new, |n| n.to_bytes()).into(),
        revision: page.sequence,
    }
}

pub(in crate::api) fn delete_role(ask: v1::DeleteRoleRequest) -> Parsed<(Identity, RequestStamp)> {
    Ok((ask.identity.parse()?, stamp(&ask.request_id, &ask)?))
}

pub(in crate::api) fn delete_role_done(revision: u64) -> v1::DeleteRoleResponse {
    v1::DeleteRoleResponse { revision }
}

fn key_hash(bytes: &[u8]) -> Parsed<KeyHash> {
    Ok(KeyHash(array(bytes, "a key hash of 32 bytes")?))
}

pub(in crate::api) fn deny_certificate(ask: v1::DenyCertificateRequest) -> Parsed<(KeyHash, RequestStamp)> {
    Ok((key_hash(&ask.key_hash)?, stamp(&ask.request_id, &ask)?))
}

pub(in crate::api) fn deny_certificate_done(revision: u64) -> v1::DenyCertificateResponse {
    v1::DenyCertificateResponse { revision }
}

pub(in crate::api) fn allow_certificate(ask: v1::AllowCertificateRequest) -> Parsed<(KeyHash, RequestStamp)> {
    Ok((key_hash(&ask.key_hash)?, stamp(&ask.request_id, &ask)?))
}

pub(in crate::api) fn allow_certificate_done(revision: u64) -> v1::AllowCertificateResponse {
    v1::AllowCertificateResponse { revision }
}

pub(in crate::api) fn list_denied_certificates(_: v1::ListDeniedCertificatesRequest) -> Parsed<()> {
    Ok(())
}

pub(in crate::api) fn list_denied_certificates_done(
    (denied, revision): (Vec<KeyHash>, u64),
) -> v1::ListDeniedCertificatesResponse {
    let key_hashes = denied.iter().map(|h| h.0.to_vec().into()).collect();
    v1::ListDeniedCertificatesResponse { key_hashes, revision }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refuses_a_kind_of_role_that_nobody_knows() {
        let asked = |kinds: &[i32]| {
            let identity = "spiffe://acme.example/claviger/operator/ann".to_owned();
            let role = Some(v1::Role { identity, kinds: kinds.to_vec(), ..Default::default() });
            set_role(v1::SetRoleRequest { role, ..Default::default() }).map(|(role, _)| role.kinds.iter().count())
        };
        let (operator, auditor) = (v1::RoleKind::Operator.into(), v1::RoleKind::Auditor.into());
        assert_eq!(asked(&[operator, auditor]).ok(), Some(2));
        for unknown in [0, 99, -1] {
            assert!(asked(&[operator, unknown]).is_err(), "{unknown}");
        }
    }
}
