//! Keys.

use super::{Parsed, array, key_name, labels, read, rows, stamp, timestamp, wanted};
use crate::service::{CreateAsk, KeyAsk, KeyAt, KeyPage, ListAsk, ReadAsk, UpdateAsk};
use claviger_core::key::{Algorithm, KeyState, KeyVersion};
use claviger_core::name::KeyName;
use claviger_proto::v1;

pub(in crate::api) fn create_key(ask: v1::CreateKeyRequest) -> Parsed<CreateAsk> {
    let request = stamp(&ask.request_id, &ask)?;
    let algorithm = match ask.algorithm() {
        v1::Algorithm::Unspecified if ask.algorithm != 0 => return Err(wanted("a known algorithm")),
        v1::Algorithm::Unspecified | v1::Algorithm::Aes256Gcm => Algorithm::Aes256Gcm,
    };
    Ok(CreateAsk { name: key_name(&ask.name)?, algorithm, labels: labels(ask.labels)?, request })
}

pub(in crate::api) fn create_key_done(key: KeyAt) -> v1::CreateKeyResponse {
    v1::CreateKeyResponse { revision: key.1, key: Some(key_out(key)) }
}

pub(in crate::api) fn get_key(ask: v1::GetKeyRequest) -> Parsed<(KeyName, ReadAsk)> {
    Ok((key_name(&ask.name)?, read(ask.read)))
}

pub(in crate::api) fn get_key_done((key, revision): (KeyAt, u64)) -> v1::GetKeyResponse {
    v1::GetKeyResponse { key: Some(key_out(key)), revision }
}

pub(in crate::api) fn list_keys(ask: v1::ListKeysRequest) -> Parsed<ListAsk> {
    let tenant = ask.parent.strip_prefix("tenants/").ok_or(wanted("a parent as tenants/{tenant}"))?;
    let after = match ask.page_token.is_empty() {
        true => None,
        false => Some(array(&ask.page_token, "the page token that the page before gave")?),
    };
    Ok(ListAsk { tenant: tenant.parse()?, limit: rows(ask.page_size)?, after, read: read(ask.read) })
}

pub(in crate::api) fn list_keys_done(page: KeyPage) -> v1::ListKeysResponse {
    v1::ListKeysResponse {
        keys: page.keys.into_iter().map(key_out).collect(),
        next_page_token: page.next.map_or_else(Vec::new, |n| n.to_vec()).into(),
        revision: page.sequence,
    }
}

pub(in crate::api) fn update_key(ask: v1::UpdateKeyRequest) -> Parsed<UpdateAsk> {
    let request = stamp(&ask.request_id, &ask)?;
    Ok(UpdateAsk {
        name: key_name(&ask.name)?,
        labels: ask.labels.map(|l| labels(l.labels)).transpose()?,
        min_decrypt: ask.min_decrypt_version,
        expected: (ask.expected_revision > 0).then_some(ask.expected_revision),
        request,
    })
}

pub(in crate::api) fn update_key_done(key: KeyAt) -> v1::UpdateKeyResponse {
    v1::UpdateKeyResponse { revision: key.1, key: Some(key_out(key)) }
}

pub(in crate::api) fn enable_key(ask: v1::EnableKeyRequest) -> Parsed<KeyAsk> {
    Ok(KeyAsk { name: key_name(&ask.name)?, request: stamp(&ask.request_id, &ask)? })
}

pub(in crate::api) fn enable_key_done(key: KeyAt) -> v1::EnableKeyResponse {
    v1::EnableKeyResponse { revision: key.1, key: Some(key_out(key)) }
}

pub(in crate::api) fn disable_key(ask: v1::DisableKeyRequest) -> Parsed<KeyAsk> {
    Ok(KeyAsk { name: key_name(&ask.name)?, request: stamp(&ask.request_id, &ask)? })
}

pub(in crate::api) fn disable_key_done(key: KeyAt) -> v1::DisableKeyResponse {
    v1::DisableKeyResponse { revision: key.1, key: Some(key_out(key)) }
}

pub(in crate::api) fn rotate_key(ask: v1::RotateKeyRequest) -> Parsed<KeyAsk> {
    Ok(KeyAsk { name: key_name(&ask.name)?, request: stamp(&ask.request_id, &ask)? })
}

pub(in crate::api) fn rotate_key_done(key: KeyAt) -> v1::RotateKeyResponse {
    v1::RotateKeyResponse { revision: key.1, key: Some(key_out(key)) }
}

fn key_out((key, revision): KeyAt) -> v1::Key {
    let algorithm = match key.algorithm {
        Algorithm::Aes256Gcm => v1::Algorithm::Aes256Gcm,
    };
    let state = match key.state {
        KeyState::Enabled => v1::KeyState::Enabled,
        KeyState::Disabled => v1::KeyState::Disabled,
    };
    let version = |v: &KeyVersion| v1::KeyVersion { number: v.number, create_time: Some(timestamp(v.created)) };
    v1::Key {
        name: key.name.to_string(),
        id: key.id.0.to_vec().into(),
        algorithm: algorithm.into(),
        state: state.into(),
        primary_version: key.primary,
        min_decrypt_version: key.min_decrypt,
        versions: key.versions.iter().map(version).collect(),
        labels: key.labels.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect(),
        create_time: Some(timestamp(key.created)),
        update_time: Some(timestamp(key.updated)),
        revision,
    }
}
