//! Who may do what: `claviger.v1.Roles`.

use crate::call::{Client, Repeat, request_id};
use crate::error::Error;
use bytes::Bytes;
use claviger_proto::v1::{self, roles_client::RolesClient};

/// Identities are URIs, certificates are named by the SHA-256 of their SubjectPublicKeyInfo.
impl Client {
    /// Gives an identity its roles and keys; replaces what it had.
    pub async fn set_role(&self, role: v1::Role) -> Result<v1::SetRoleResponse, Error> {
        let ask = v1::SetRoleRequest { role: Some(role), request_id: request_id(Bytes::new()) };
        self.call(Repeat::Always, ask, |channel, ask| async move { RolesClient::new(channel).set_role(ask).await })
            .await
    }

    /// What an identity may do.
    pub async fn get_role(&self, identity: &str) -> Result<v1::GetRoleResponse, Error> {
        let ask = v1::GetRoleRequest { identity: identity.into() };
        self.call(Repeat::Always, ask, |channel, ask| async move { RolesClient::new(channel).get_role(ask).await })
            .await
    }

    /// One page of all roles.
    pub async fn list_roles(&self, ask: v1::ListRolesRequest) -> Result<v1::ListRolesResponse, Error> {
        self.call(Repeat::Always, ask, |channel, ask| async move { RolesClient::new(channel).list_roles(ask).await })
            .await
    }

    /// Takes everything from an identity.
    pub async fn delete_role(&self, identity: &str) -> Result<v1::DeleteRoleResponse, Error> {
        let ask = v1::DeleteRoleRequest { identity: identity.into(), request_id: request_id(Bytes::new()) };
        self.call(Repeat::Always, ask, |channel, ask| async move { RolesClient::new(channel).delete_role(ask).await })
            .await
    }

    /// Refuses a certificate, and renewed ones with the same key.
    pub async fn deny_certificate(&self, key_hash: [u8; 32]) -> Result<v1::DenyCertificateResponse, Error> {
        let key_hash = Bytes::copy_from_slice(&key_hash);
        let ask = v1::DenyCertificateRequest { key_hash, request_id: request_id(Bytes::new()) };
        self.call(
            Repeat::Always,
            ask,
            |channel, ask| async move { RolesClient::new(channel).deny_certificate(ask).await },
        )
        .await
    }

    /// Takes a denial back.
    pub async fn allow_certificate(&self, key_hash: [u8; 32]) -> Result<v1::AllowCertificateResponse, Error> {
        let key_hash = Bytes::copy_from_slice(&key_hash);
        let ask = v1::AllowCertificateRequest { key_hash, request_id: request_id(Bytes::new()) };
        self.call(
            Repeat::Always,
            ask,
            |channel, ask| async move { RolesClient::new(channel).allow_certificate(ask).await },
        )
        .await
    }

    /// The key hashes that are refused.
    pub async fn denied_certificates(&self) -> Result<v1::ListDeniedCertificatesResponse, Error> {
        let ask = v1::ListDeniedCertificatesRequest {};
        let send = |channel, ask| async move { RolesClient::new(channel).list_denied_certificates(ask).await };
        self.call(Repeat::Always, ask, send).await
    }
}
