//! Who may do what: `claviger.v1.Roles`.

use super::{Door, Reply, words};
use claviger_core::policy::Operation;
use claviger_proto::v1::{self, roles_server::Roles};
use tonic::{Request, async_trait};

#[async_trait]
impl Roles for Door {
    async fn set_role(&self, request: Request<v1::SetRoleRequest>) -> Reply<v1::SetRoleResponse> {
        let (visit, ask) = self.admit(request, Operation::SetRole);
        let answer =
            async { self.service.set_role(visit.known()?, words::set_role(ask)?).await.map(words::set_role_done) }
                .await;
        self.close(visit, answer).await
    }

    async fn get_role(&self, request: Request<v1::GetRoleRequest>) -> Reply<v1::GetRoleResponse> {
        let (visit, ask) = self.admit(request, Operation::GetRole);
        let answer =
            async { self.service.get_role(visit.known()?, words::get_role(ask)?).await.map(words::get_role_done) }
                .await;
        self.close(visit, answer).await
    }

    async fn list_roles(&self, request: Request<v1::ListRolesRequest>) -> Reply<v1::ListRolesResponse> {
        let (visit, ask) = self.admit(request, Operation::ListRoles);
        let answer = async {
            self.service.list_roles(visit.known()?, words::list_roles(ask)?).await.map(words::list_roles_done)
        }
        .await;
        self.close(visit, answer).await
    }

    async fn delete_role(&self, request: Request<v1::DeleteRoleRequest>) -> Reply<v1::DeleteRoleResponse> {
        let (visit, ask) = self.admit(request, Operation::DeleteRole);
        let answer = async {
            self.service.delete_role(visit.known()?, words::delete_role(ask)?).await.map(words::delete_role_done)
        }
        .await;
        self.close(visit, answer).await
    }

    async fn deny_certificate(
        &self,
        request: Request<v1::DenyCertificateRequest>,
    ) -> Reply<v1::DenyCertificateResponse> {
        let (visit, ask) = self.admit(request, Operation::DenyCertificate);
        let answer = async {
            self.service
                .deny_certificate(visit.known()?, words::deny_certificate(ask)?)
                .await
                .map(words::deny_certificate_done)
        }
        .await;
        self.close(visit, answer).await
    }

    async fn allow_certificate(
        &self,
        request: Request<v1::AllowCertificateRequest>,
    ) -> Reply<v1::AllowCertificateResponse> {
        let (visit, ask) = self.admit(request, Operation::AllowCertificate);
        let answer = async {
            self.service
                .allow_certificate(visit.known()?, words::allow_certificate(ask)?)
                .await
                .map(words::allow_certificate_done)
        }
        .await;
        self.close(visit, answer).await
    }

    async fn list_denied_certificates(
        &self,
        request: Request<v1::ListDeniedCertificatesRequest>,
    ) -> Reply<v1::ListDeniedCertificatesResponse> {
        let (visit, ask) = self.admit(request, Operation::ListDeniedCertificates);
        let answer = async {
            self.service
                .list_denied_certificates(visit.known()?, words::list_denied_certificates(ask)?)
                .await
                .map(words::list_denied_certificates_done)
        }
        .await;
        self.close(visit, answer).await
    }
}
