//! `grpc.health.v1`: the data plane serves while the node is open, the rest always.

use claviger_proto::v1::{
    audit_server::AuditServer, cluster_server::ClusterServer, crypto_server::CryptoServer, keys_server::KeysServer,
    roles_server::RolesServer, seal_server::SealServer,
};
use tonic::server::NamedService;
use tonic_health::ServingStatus;
use tonic_health::pb::health_server::HealthServer;
use tonic_health::server::{HealthReporter, HealthService};

/// Says which services serve.
#[derive(Clone)]
pub struct Health {
    reporter: HealthReporter,
}

impl Health {
    /// Everything that needs keys starts as not serving.
    pub async fn sealed() -> Self {
        let health = Health { reporter: HealthReporter::new() };
        let always = [
            <SealServer<super::Door> as NamedService>::NAME,
            <ClusterServer<super::Door> as NamedService>::NAME,
            <AuditServer<super::Door> as NamedService>::NAME,
            "",
        ];
        for name in always {
            health.reporter.set_service_status(name, ServingStatus::Serving).await;
        }
        health.set_open(false).await;
        health
    }

    /// Follows the seal.
    pub async fn set_open(&self, open: bool) {
        let status = if open { ServingStatus::Serving } else { ServingStatus::NotServing };
        let data_plane = [
            <KeysServer<super::Door> as NamedService>::NAME,
            <CryptoServer<super::Door> as NamedService>::NAME,
            <RolesServer<super::Door> as NamedService>::NAME,
        ];
        for name in data_plane {
            self.reporter.set_service_status(name, status).await;
        }
    }

    pub(super) fn server(&self) -> HealthServer<HealthService> {
        HealthServer::new(HealthService::from_health_reporter(self.reporter.clone()))
    }
}
