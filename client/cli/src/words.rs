//! Words of the wire as words for people and programs.

use claviger_client::v1;
use claviger_core::name::KeyHash;
use claviger_core::time::UnixMs;
use serde_json::{Value, json};

/// A timestamp as RFC 3339; empty where there is none.
pub fn time(stamp: Option<&prost_types::Timestamp>) -> String {
    let Some(stamp) = stamp else { return String::new() };
    let seconds = u64::try_from(stamp.seconds).unwrap_or_default();
    let ms = u64::try_from(stamp.nanos).unwrap_or_default() / 1_000_000;
    UnixMs(seconds.saturating_mul(1_000).saturating_add(ms)).to_string()
}

/// `open`, `sealed`, `uninitialized` or `unknown`.
pub fn seal_state(state: i32) -> &'static str {
    match v1::SealState::try_from(state) {
        Ok(v1::SealState::Open) => "open",
        Ok(v1::SealState::Sealed) => "sealed",
        Ok(v1::SealState::Uninitialized) => "uninitialized",
        Ok(v1::SealState::Unspecified) | Err(_) => "unknown",
    }
}

fn key_state(state: i32) -> &'static str {
    match v1::KeyState::try_from(state) {
        Ok(v1::KeyState::Enabled) => "enabled",
        Ok(v1::KeyState::Disabled) => "disabled",
        Ok(v1::KeyState::Unspecified) | Err(_) => "unknown",
    }
}

fn algorithm(algorithm: i32) -> &'static str {
    match v1::Algorithm::try_from(algorithm) {
        Ok(v1::Algorithm::Aes256Gcm) => "aes_256_gcm",
        Ok(v1::Algorithm::Unspecified) | Err(_) => "unknown",
    }
}

/// The roles with their words.
pub const ROLES: [(v1::RoleKind, &str); 5] = [
    (v1::RoleKind::Administrator, "administrator"),
    (v1::RoleKind::Operator, "operator"),
    (v1::RoleKind::Custodian, "custodian"),
    (v1::RoleKind::Auditor, "auditor"),
    (v1::RoleKind::KeyUser, "key_user"),
];

fn role_kind(kind: i32) -> &'static str {
    ROLES.into_iter().find(|(k, _)| *k as i32 == kind).map_or("unknown", |(_, word)| word)
}

/// A key, for programs.
pub fn key_json(key: &v1::Key) -> Value {
    let version = |v: &v1::KeyVersion| json!({ "number": v.number, "create_time": time(v.create_time.as_ref()) });
    json!({
        "name": key.name, "id": hex::encode(&key.id), "algorithm": algorithm(key.algorithm), "state": key_state(key.state),
        "primary_version": key.primary_version, "min_decrypt_version": key.min_decrypt_version,
        "versions": key.versions.iter().map(version).collect::<Vec<_>>(), "labels": key.labels,
        "create_time": time(key.create_time.as_ref()), "update_time": time(key.update_time.as_ref()),
        "revision": key.revision,
    })
}

/// A key's row in a table.
pub fn key_row(key: &v1::Key) -> Vec<String> {
    let labels: Vec<String> = key.labels.iter().map(|(name, value)| format!("{name}={value}")).collect();
    let versions = format!("{} (decrypts from {})", key.primary_version, key.min_decrypt_version);
    vec![key.name.clone(), key_state(key.state).into(), versions, time(key.update_time.as_ref()), labels.join(" ")]
}

/// Heads of [`key_row`].
pub const KEY_HEAD: [&str; 5] = ["key", "state", "version", "changed", "labels"];

/// A role, for programs.
pub fn role_json(role: &v1::Role) -> Value {
    let grant = |g: &v1::KeyGrant| json!({ "key": g.key, "encrypt": g.encrypt, "decrypt": g.decrypt });
    json!({
        "identity": role.identity, "kinds": role.kinds.iter().map(|k| role_kind(*k)).collect::<Vec<_>>(),
        "keys": role.keys.iter().map(grant).collect::<Vec<_>>(), "revision": role.revision,
    })
}

/// A role's row in a table.
pub fn role_row(role: &v1::Role) -> Vec<String> {
    let kinds: Vec<&str> = role.kinds.iter().map(|k| role_kind(*k)).collect();
    let uses = |g: &v1::KeyGrant| match (g.encrypt, g.decrypt) {
        (true, true) => "encrypt,decrypt",
        (true, false) => "encrypt",
        (false, true) => "decrypt",
        (false, false) => "nothing",
    };
    let keys: Vec<String> = role.keys.iter().map(|g| format!("{}={}", g.key, uses(g))).collect();
    vec![role.identity.clone(), kinds.join(" "), keys.join(" ")]
}

/// Heads of [`role_row`].
pub const ROLE_HEAD: [&str; 3] = ["identity", "roles", "keys"];

/// A key hash as it came.
pub fn key_hash(bytes: &[u8]) -> String {
    <[u8; 32]>::try_from(bytes).map_or_else(|_| hex::encode(bytes), |array| KeyHash(array).to_string())
}

/// An audit page, for programs.
pub fn page_json(page: &v1::AuditPage) -> Value {
    json!({
        "number": page.number, "time": time(page.time.as_ref()), "caller": page.caller, "operation": page.operation,
        "outcome": page.outcome, "resource": page.resource, "revision": page.revision, "count": page.count,
    })
}

/// An audit page, as a line.
pub fn page_line(page: &v1::AuditPage) -> String {
    let caller = if page.caller.is_empty() { "-" } else { &page.caller };
    let times = if page.count > 1 { format!("  x{}", page.count) } else { String::new() };
    let resource = page.resource.get(..16).unwrap_or(&page.resource);
    let resource = if resource.is_empty() { "-" } else { resource };
    let when = time(page.time.as_ref());
    format!("{}  {when}  {}  {}  {caller}  {resource}{times}", page.number, page.operation, page.outcome)
}

/// A ceremony, for programs.
pub fn ceremony_json(ceremony: &v1::Ceremony) -> Value {
    let share = |s: &v1::AcceptedShare| json!({ "index": s.index, "holder": s.holder, "bearer": s.bearer, "time": time(s.time.as_ref()) });
    json!({
        "id": hex::encode(&ceremony.id), "host": ceremony.host, "threshold": ceremony.threshold, "opener": ceremony.opener,
        "open_time": time(ceremony.open_time.as_ref()), "expire_time": time(ceremony.expire_time.as_ref()),
        "accepted": ceremony.accepted.iter().map(share).collect::<Vec<_>>(), "complete": ceremony.complete,
    })
}

/// A ceremony, for people: how far it is, and who brought what.
pub fn ceremony_text(ceremony: &v1::Ceremony) -> String {
    let id: String = hex::encode(&ceremony.id).chars().take(8).collect();
    let have = ceremony.accepted.len();
    let mut text = format!("ceremony {id}: {have} of {} shares, on node {}", ceremony.threshold, ceremony.host);
    text += &format!(", until {}", time(ceremony.expire_time.as_ref()));
    for share in &ceremony.accepted {
        text += &format!("\n  share {} of {}, at {}", share.index, share.holder, time(share.time.as_ref()));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_of_the_wire_are_told_plainly() {
        let stamp = prost_types::Timestamp { seconds: 951_782_400, nanos: 123_000_000 };
        assert_eq!(time(Some(&stamp)), "2000-02-29T00:00:00.123Z");
        assert_eq!(time(None), "");
        assert_eq!((seal_state(3), seal_state(77), role_kind(5)), ("open", "unknown", "key_user"));
    }
}
