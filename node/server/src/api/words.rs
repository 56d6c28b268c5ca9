//! Between protobuf's words and ours: parse at the door, exactly, and print.

use crate::keyring::{Decrypted, Encrypted};
use crate::seal::{FoundAsk, Founded};
use crate::service::{
    Begun, ClusterView, CreateAsk, DecryptAsk, EncryptAsk, KeyAsk, KeyAt, KeyPage, ListAsk, NodeView,
    OfferAsk, Offered, ReadAsk, RequestStamp, RoleAt, RolePage, SealStatus, UpdateAsk,
};
use claviger_core::ceremony::{Accepted, Progress};
use claviger_core::codec::Canonical;
use claviger_core::crypto::sha256;
use claviger_core::decide::{Role, RoleCursor};
use claviger_core::envelope::{CONTEXT_PAIRS_MAX, Context};
use claviger_core::failure::{Failure, Refused};
use claviger_core::key::{Algorithm, KeyState, LABELS_MAX, Labels};
use claviger_core::name::{CeremonyId, Digest, Identity, KeyHash, KeyName, RequestId, Segment, Signature, VerifyingKey};
use claviger_core::page::{Page, Position};
use claviger_core::policy::{GRANTS_MAX, KeyGrant, RoleKind, RoleSet, SealView};
use claviger_core::roster::{CustodianKeys, HOLDERS_MAX};
use claviger_core::secret::SecretBytes;
use claviger_core::time::UnixMs;
use claviger_proto::peer::v1::{PeerSeal, StatusResponse};
use claviger_proto::v1;
use prost::Message;
use std::collections::BTreeMap;

type Parsed<T> = Result<T, Failure>;

/// Rows of a page, when the caller does not say.
const PAGE_ROWS: u32 = 100;
/// Rows of a page, at most.
const PAGE_ROWS_MAX: u32 = 256;

fn wanted(what: &'static str) -> Failure {
    Failure::Refused(Refused::BadRequest(what))
}

fn array<const N: usize>(bytes: &[u8], what: &'static str) -> Parsed<[u8; N]> {
    bytes.try_into().map_err(|_| wanted(what))
}

fn key_name(name: &str) -> Parsed<KeyName> {
    Ok(name.parse()?)
}

fn read(read: Option<v1::ReadOptions>) -> ReadAsk {
    read.map_or_else(ReadAsk::default, |r| ReadAsk { min_revision: r.min_revision, allow_stale_ms: r.allow_stale_ms })
}

/// The caller's number for the call, with the digest of all of it: protobuf writes the fields that we know in one order.
fn stamp<M: Message>(id: &[u8], whole: &M) -> Parsed<RequestStamp> {
    if id.is_empty() {
        return Ok(None);
    }
    let id = RequestId(array(id, "a request id of 16 bytes, or none")?);
    Ok(Some((id, sha256(&[&whole.encode_to_vec()]))))
}

fn labels(given: BTreeMap<String, String>) -> Parsed<Labels> {
    if given.len() > LABELS_MAX {
        return Err(Refused::TooMany("labels: 32 at most").into());
    }
    given.iter().map(|(name, value)| Ok((name.parse()?, value.parse()?))).collect()
}

fn context(pairs: &[v1::ContextPair]) -> Parsed<Context> {
    if pairs.len() > CONTEXT_PAIRS_MAX {
        return Err(Refused::TooMany("context pairs: 64 at most").into());
    }
    let pairs: Vec<_> = pairs.iter().map(|p| (p.name.as_str(), p.value.as_str())).collect();
    Context::new(&pairs).map_err(|_| wanted("a context of at most 64 pairs and 8 KiB, each name once"))
}

fn rows(asked: u32) -> Parsed<usize> {
    match asked {
        0 => Ok(PAGE_ROWS as usize),
        1..=PAGE_ROWS_MAX => Ok(asked as usize),
        _ => Err(wanted("a page of at most 256")),
    }
}

fn timestamp(at: UnixMs) -> prost_types::Timestamp {
    let seconds = i64::try_from(at.0 / 1_000).unwrap_or(i64::MAX);
    let nanos = i32::try_from(at.0 % 1_000 * 1_000_000).unwrap_or(0);
    prost_types::Timestamp { seconds, nanos }
}

// Keys.

pub(super) fn create_key(ask: v1::CreateKeyRequest) -> Parsed<CreateAsk> {
    let request = stamp(&ask.request_id, &ask)?;
    let algorithm = match ask.algorithm() {
        v1::Algorithm::Unspecified if ask.algorithm != 0 => return Err(wanted("a known algorithm")),
        v1::Algorithm::Unspecified | v1::Algorithm::Aes256Gcm => Algorithm::Aes256Gcm,
    };
    Ok(CreateAsk { name: key_name(&ask.name)?, algorithm, labels: labels(ask.labels)?, request })
}

pub(super) fn create_key_done(key: KeyAt) -> v1::CreateKeyResponse {
    v1::CreateKeyResponse { revision: key.1, key: Some(key_out(key)) }
}

pub(super) fn get_key(ask: v1::GetKeyRequest) -> Parsed<(KeyName, ReadAsk)> {
    Ok((key_name(&ask.name)?, read(ask.read)))
}

pub(super) fn get_key_done((key, revision): (KeyAt, u64)) -> v1::GetKeyResponse {
    v1::GetKeyResponse { key: Some(key_out(key)), revision }
}

pub(super) fn list_keys(ask: v1::ListKeysRequest) -> Parsed<ListAsk> {
    let tenant = ask.parent.strip_prefix("tenants/").ok_or(wanted("a parent as tenants/{tenant}"))?;
    let after = match ask.page_token.is_empty() {
        true => None,
        false => Some(array(&ask.page_token, "the page token that the page before gave")?),
    };
    Ok(ListAsk { tenant: tenant.parse()?, limit: rows(ask.page_size)?, after, read: read(ask.read) })
}

pub(super) fn list_keys_done(page: KeyPage) -> v1::ListKeysResponse {
    v1::ListKeysResponse {
        keys: page.keys.into_iter().map(key_out).collect(),
        next_page_token: page.next.map_or_else(Vec::new, |n| n.to_vec()).into(),
        revision: page.sequence,
    }
}

pub(super) fn update_key(ask: v1::UpdateKeyRequest) -> Parsed<UpdateAsk> {
    let request = stamp(&ask.request_id, &ask)?;
    Ok(UpdateAsk {
        name: key_name(&ask.name)?,
        labels: ask.labels.map(|l| labels(l.labels)).transpose()?,
        min_decrypt: ask.min_decrypt_version,
        expected: (ask.expected_revision > 0).then_some(ask.expected_revision),
        request,
    })
}

pub(super) fn update_key_done(key: KeyAt) -> v1::UpdateKeyResponse {
    v1::UpdateKeyResponse { revision: key.1, key: Some(key_out(key)) }
}

pub(super) fn enable_key(ask: v1::EnableKeyRequest) -> Parsed<KeyAsk> {
    Ok(KeyAsk { name: key_name(&ask.name)?, request: stamp(&ask.request_id, &ask)? })
}

pub(super) fn enable_key_done(key: KeyAt) -> v1::EnableKeyResponse {
    v1::EnableKeyResponse { revision: key.1, key: Some(key_out(key)) }
}

pub(super) fn disable_key(ask: v1::DisableKeyRequest) -> Parsed<KeyAsk> {
    Ok(KeyAsk { name: key_name(&ask.name)?, request: stamp(&ask.request_id, &ask)? })
}

pub(super) fn disable_key_done(key: KeyAt) -> v1::DisableKeyResponse {
    v1::DisableKeyResponse { revision: key.1, key: Some(key_out(key)) }
}

pub(super) fn rotate_key(ask: v1::RotateKeyRequest) -> Parsed<KeyAsk> {
    Ok(KeyAsk { name: key_name(&ask.name)?, request: stamp(&ask.request_id, &ask)? })
}

pub(super) fn rotate_key_done(key: KeyAt) -> v1::RotateKeyResponse {
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
    let version =
        |v: &claviger_core::key::KeyVersion| v1::KeyVersion { number: v.number, create_time: Some(timestamp(v.created)) };
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

// Crypto.

pub(super) fn encrypt(ask: v1::EncryptRequest) -> Parsed<EncryptAsk> {
    let plaintext = SecretBytes::take(ask.plaintext.into());
    Ok(EncryptAsk { name: key_name(&ask.name)?, plaintext, context: context(&ask.context)?, read: read(ask.read) })
}

pub(super) fn encrypt_done((sealed, revision): (Encrypted, u64)) -> v1::EncryptResponse {
    v1::EncryptResponse { ciphertext: sealed.ciphertext.into(), version: sealed.version, revision }
}

pub(super) fn decrypt(ask: v1::DecryptRequest) -> Parsed<DecryptAsk> {
    let ciphertext = ask.ciphertext.into();
    Ok(DecryptAsk { name: key_name(&ask.name)?, ciphertext, context: context(&ask.context)?, read: read(ask.read) })
}

pub(super) fn decrypt_done((clear, revision): (Decrypted, u64)) -> v1::DecryptResponse {
    v1::DecryptResponse { plaintext: clear.plaintext.expose_owned().into(), version: clear.version, revision }
}

// Seal.

pub(super) fn get_seal_status(_: v1::GetSealStatusRequest) -> Parsed<()> {
    Ok(())
}

pub(super) fn get_seal_status_done(status: SealStatus) -> v1::GetSealStatusResponse {
    let (threshold, shares) = status.shares.unwrap_or_default();
    v1::GetSealStatusResponse {
        node: status.own.node.0,
        state: seal_state(status.seal).into(),
        cluster: status.cluster.to_string(),
        region: status.region.to_string(),
        lineage: status.own.lineage.map_or_else(Vec::new, |l| l.0.to_vec()).into(),
        generation: status.generation,
        seal_epoch: status.seal_epoch,
        threshold: threshold.into(),
        shares: shares.into(),
        slot_kind: status.slot_kind.into(),
        ceremony: status.ceremony.map(ceremony_out),
        version: status.version.into(),
    }
}

fn seal_state(seal: SealView) -> v1::SealState {
    match seal {
        SealView::Unfounded => v1::SealState::Uninitialized,
        SealView::Sealed => v1::SealState::Sealed,
        SealView::Open => v1::SealState::Open,
    }
}

pub(super) fn initialize(ask: v1::InitializeRequest) -> Parsed<FoundAsk> {
    if ask.custodians.len() > HOLDERS_MAX || ask.administrators.len() > HOLDERS_MAX {
        return Err(Refused::TooMany("custodians or administrators: 64 at most").into());
    }
    Ok(FoundAsk {
        threshold: ask.threshold.try_into().map_err(|_| wanted("a threshold of at most 64"))?,
        custodians: ask.custodians.into_iter().map(custodian).collect::<Parsed<_>>()?,
        administrators: ask.administrators.iter().map(|a| Ok(a.parse()?)).collect::<Parsed<_>>()?,
        grants: Vec::new(),
    })
}

fn custodian(given: v1::CustodianKeys) -> Parsed<CustodianKeys> {
    Ok(CustodianKeys {
        identity: given.identity.parse()?,
        recipient: given.recipient,
        signing: VerifyingKey(array(&given.signing_key, "a signing key of 32 bytes")?),
    })
}

pub(super) fn initialize_done(founded: Founded) -> v1::InitializeResponse {
    let share = |(who, content): (Identity, String)| v1::ShareFile { custodian: who.to_string(), content };
    v1::InitializeResponse {
        lineage: founded.lineage.0.to_vec().into(),
        shares: founded.shares.into_iter().map(share).collect(),
        revision: founded.sequence,
    }
}

pub(super) fn abandon_initialize(_: v1::AbandonInitializeRequest) -> Parsed<()> {
    Ok(())
}

pub(super) fn abandon_initialize_done((): ()) -> v1::AbandonInitializeResponse {
    v1::AbandonInitializeResponse {}
}

pub(super) fn begin_unseal(_: v1::BeginUnsealRequest) -> Parsed<()> {
    Ok(())
}

pub(super) fn begin_unseal_done(begun: Begun) -> v1::BeginUnsealResponse {
    v1::BeginUnsealResponse {
        ceremony: Some(ceremony_out(begun.progress)),
        statement: begun.signed.key.to_bytes().into(),
        signature: begun.signed.signature.0.to_vec().into(),
        host_key: begun.host_key.0.to_vec().into(),
        founding: begun.founding.into(),
    }
}

pub(super) fn get_ceremony(ask: v1::GetCeremonyRequest) -> Parsed<CeremonyId> {
    ceremony_id(&ask.id)
}

pub(super) fn get_ceremony_done(ceremony: Progress) -> v1::GetCeremonyResponse {
    v1::GetCeremonyResponse { ceremony: Some(ceremony_out(ceremony)) }
}

fn ceremony_id(bytes: &[u8]) -> Parsed<CeremonyId> {
    Ok(CeremonyId(array(bytes, "a ceremony id of 16 bytes")?))
}

pub(super) fn offer_share(ask: v1::OfferShareRequest) -> Parsed<OfferAsk> {
    Ok(OfferAsk {
        ceremony: ceremony_id(&ask.ceremony)?,
        index: ask.index.try_into().map_err(|_| wanted("an index of at most 64"))?,
        sealed_share: ask.sealed_share.into(),
        proof: Signature(array(&ask.proof, "a proof of 64 bytes")?),
    })
}

pub(super) fn offer_share_done(offered: Offered) -> v1::OfferShareResponse {
    v1::OfferShareResponse {
        ceremony: Some(ceremony_out(offered.progress)),
        opened: !offered.opened_nodes.is_empty(),
        opened_nodes: offered.opened_nodes.into_iter().map(|n| n.0).collect(),
    }
}

/// A ceremony as callers see it.
fn ceremony_out(ceremony: Progress) -> v1::Ceremony {
    let accepted = |a: Accepted| v1::AcceptedShare {
        index: a.index.into(),
        holder: a.holder.to_string(),
        bearer: a.bearer.to_string(),
        time: Some(timestamp(a.time)),
    };
    v1::Ceremony {
        id: ceremony.id.0.to_vec().into(),
        host: ceremony.host.0,
        threshold: ceremony.threshold.into(),
        opener: ceremony.opener.to_string(),
        open_time: Some(timestamp(ceremony.opened)),
        expire_time: Some(timestamp(ceremony.expires)),
        accepted: ceremony.accepted.into_iter().map(accepted).collect(),
        complete: ceremony.complete,
        missing: ceremony.missing.iter().map(Identity::to_string).collect(),
    }
}

pub(super) fn seal_node(_: v1::SealNodeRequest) -> Parsed<()> {
    Ok(())
}

pub(super) fn seal_node_done((): ()) -> v1::SealNodeResponse {
    v1::SealNodeResponse {}
}

pub(super) fn seal_all(_: v1::SealAllRequest) -> Parsed<()> {
    Ok(())
}

pub(super) fn seal_all_done((seal_epoch, revision): (u64, u64)) -> v1::SealAllResponse {
    v1::SealAllResponse { seal_epoch, revision }
}

// Cluster.

pub(super) fn get_cluster_status(_: v1::GetClusterStatusRequest) -> Parsed<()> {
    Ok(())
}

pub(super) fn get_cluster_status_done(cluster: ClusterView) -> v1::GetClusterStatusResponse {
    v1::GetClusterStatusResponse {
        lineage: cluster.lineage.map_or_else(Vec::new, |l| l.0.to_vec()).into(),
        node: cluster.own.node.0,
        leader: cluster.own.leader.map_or(0, |n| n.0),
        term: cluster.own.term,
        nodes: cluster.nodes.into_iter().map(node_out).collect(),
        revision: cluster.own.revision.sequence,
    }
}

fn node_out(node: NodeView) -> v1::NodeStatus {
    let reachable = node.said.is_some();
    let said = node.said.unwrap_or_else(|| StatusResponse { role: "unknown".into(), ..StatusResponse::default() });
    let state = match said.seal() {
        PeerSeal::Unspecified => v1::SealState::Unspecified,
        PeerSeal::Unfounded => v1::SealState::Uninitialized,
        PeerSeal::Sealed => v1::SealState::Sealed,
        PeerSeal::Open => v1::SealState::Open,
    };
    v1::NodeStatus {
        node: node.node.0,
        address: node.address,
        reachable,
        state: state.into(),
        role: said.role,
        term: said.term,
        last_log_index: said.last_log_index,
        applied_index: said.applied_index,
        revision: said.revision,
        version: said.version,
        pid: said.pid,
    }
}

pub(super) fn transfer_leader(_: v1::TransferLeaderRequest) -> Parsed<()> {
    Ok(())
}

pub(super) fn transfer_leader_done((): ()) -> v1::TransferLeaderResponse {
    v1::TransferLeaderResponse {}
}

// Roles.

pub(super) fn set_role(ask: v1::SetRoleRequest) -> Parsed<(Role, RequestStamp)> {
    let request = stamp(&ask.request_id, &ask)?;
    let role = ask.role.ok_or(wanted("a role"))?;
    if role.keys.len() > GRANTS_MAX {
        return Err(Refused::TooMany("keys: 256 at most").into());
    }
    let kinds = role.kinds().map(kind).collect::<Parsed<RoleSet>>()?;
    let grants = role.keys.iter().map(grant).collect::<Parsed<_>>()?;
    Ok((Role { identity: role.identity.parse()?, kinds, grants }, request))
}

fn kind(kind: v1::RoleKind) -> Parsed<RoleKind> {
    match kind {
        v1::RoleKind::Unspecified => Err(wanted("a known role")),
        v1::RoleKind::Administrator => Ok(RoleKind::Administrator),
        v1::RoleKind::Operator => Ok(RoleKind::Operator),
        v1::RoleKind::Custodian => Ok(RoleKind::Custodian),
        v1::RoleKind::Auditor => Ok(RoleKind::Auditor),
        v1::RoleKind::KeyUser => Ok(RoleKind::KeyUser),
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

pub(super) fn set_role_done(role: RoleAt) -> v1::SetRoleResponse {
    v1::SetRoleResponse { revision: role.1, role: Some(role_out(role)) }
}

pub(super) fn get_role(ask: v1::GetRoleRequest) -> Parsed<Identity> {
    Ok(ask.identity.parse()?)
}

pub(super) fn get_role_done((role, revision): (RoleAt, u64)) -> v1::GetRoleResponse {
    v1::GetRoleResponse { role: Some(role_out(role)), revision }
}

pub(super) fn list_roles(ask: v1::ListRolesRequest) -> Parsed<(usize, Option<RoleCursor>)> {
    let after = match ask.page_token.is_empty() {
        true => None,
        false => {
            let cursor = RoleCursor::from_bytes(&ask.page_token);
            Some(cursor.map_err(|_| wanted("the page token that the page before gave"))?)
        }
    };
    Ok((rows(ask.page_size)?, after))
}

pub(super) fn list_roles_done(page: RolePage) -> v1::ListRolesResponse {
    v1::ListRolesResponse {
        roles: page.roles.into_iter().map(role_out).collect(),
        next_page_token: page.next.map_or_else(Vec::new, |n| n.to_bytes()).into(),
        revision: page.sequence,
    }
}

pub(super) fn delete_role(ask: v1::DeleteRoleRequest) -> Parsed<(Identity, RequestStamp)> {
    Ok((ask.identity.parse()?, stamp(&ask.request_id, &ask)?))
}

pub(super) fn delete_role_done(revision: u64) -> v1::DeleteRoleResponse {
    v1::DeleteRoleResponse { revision }
}

fn key_hash(bytes: &[u8]) -> Parsed<KeyHash> {
    Ok(KeyHash(array(bytes, "a key hash of 32 bytes")?))
}

pub(super) fn deny_certificate(ask: v1::DenyCertificateRequest) -> Parsed<(KeyHash, RequestStamp)> {
    Ok((key_hash(&ask.key_hash)?, stamp(&ask.request_id, &ask)?))
}

pub(super) fn deny_certificate_done(revision: u64) -> v1::DenyCertificateResponse {
    v1::DenyCertificateResponse { revision }
}

pub(super) fn allow_certificate(ask: v1::AllowCertificateRequest) -> Parsed<(KeyHash, RequestStamp)> {
    Ok((key_hash(&ask.key_hash)?, stamp(&ask.request_id, &ask)?))
}

pub(super) fn allow_certificate_done(revision: u64) -> v1::AllowCertificateResponse {
    v1::AllowCertificateResponse { revision }
}

pub(super) fn list_denied_certificates(_: v1::ListDeniedCertificatesRequest) -> Parsed<()> {
    Ok(())
}

pub(super) fn list_denied_certificates_done(
    (denied, revision): (Vec<KeyHash>, u64),
) -> v1::ListDeniedCertificatesResponse {
    let key_hashes = denied.iter().map(|h| h.0.to_vec().into()).collect();
    v1::ListDeniedCertificatesResponse { key_hashes, revision }
}

// Audit.

pub(super) fn tail_audit(ask: v1::TailAuditRequest) -> Parsed<(usize, bool)> {
    match ask.last {
        0..=1_000 => Ok((ask.last as usize, ask.follow)),
        _ => Err(wanted("at most the last 1,000 pages")),
    }
}

pub(super) fn page_out(page: Page) -> v1::TailAuditResponse {
    let resource = page.resource.map(|r| Digest(r.tag).to_string()).unwrap_or_default();
    let page = v1::AuditPage {
        number: page.number,
        time: Some(timestamp(page.time)),
        caller: page.caller.map(|c| c.to_string()).unwrap_or_default(),
        operation: page.operation.map_or("", |o| o.word()).into(),
        outcome: page.outcome.to_string(),
        resource,
        revision: page.revision,
        count: page.count,
    };
    v1::TailAuditResponse { page: Some(page) }
}

pub(super) fn get_audit_head(_: v1::GetAuditHeadRequest) -> Parsed<()> {
    Ok(())
}

pub(super) fn get_audit_head_done(at: Position) -> v1::GetAuditHeadResponse {
    v1::GetAuditHeadResponse { node: at.node.0, pages: at.next - 1, head: at.hash.0.to_vec().into() }
}
