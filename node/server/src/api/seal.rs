//! Founding, opening, sealing: `claviger.v1.Seal`.

use super::{Door, Reply, words};
use claviger_core::policy::Operation;
use claviger_proto::v1::{self, seal_server::Seal};
use tonic::{Request, async_trait};

#[async_trait]
impl Seal for Door {
    async fn get_seal_status(&self, request: Request<v1::GetSealStatusRequest>) -> Reply<v1::GetSealStatusResponse> {
        let (visit, ask) = self.admit(request, Operation::GetSealStatus);
        let answer = async {
            self.service
                .get_seal_status(visit.known()?, words::get_seal_status(ask)?)
                .await
                .map(words::get_seal_status_done)
        }
        .await;
        self.close(visit, answer).await
    }

    async fn initialize(&self, request: Request<v1::InitializeRequest>) -> Reply<v1::InitializeResponse> {
        let (visit, ask) = self.admit(request, Operation::Initialize);
        let answer = async {
            self.service.initialize(visit.known()?, words::initialize(ask)?).await.map(words::initialize_done)
        }
        .await;
        self.close(visit, answer).await
    }

    async fn abandon_initialize(
        &self,
        request: Request<v1::AbandonInitializeRequest>,
    ) -> Reply<v1::AbandonInitializeResponse> {
        let (visit, ask) = self.admit(request, Operation::AbandonInitialize);
        let answer = async {
            self.service
                .abandon_initialize(visit.known()?, words::abandon_initialize(ask)?)
                .await
                .map(words::abandon_initialize_done)
        }
        .await;
        self.close(visit, answer).await
    }

    async fn begin_unseal(&self, request: Request<v1::BeginUnsealRequest>) -> Reply<v1::BeginUnsealResponse> {
        let (visit, ask) = self.admit(request, Operation::BeginUnseal);
        let answer = async {
            self.service.begin_unseal(visit.known()?, words::begin_unseal(ask)?).await.map(words::begin_unseal_done)
        }
        .await;
        self.close(visit, answer).await
    }

    async fn get_ceremony(&self, request: Request<v1::GetCeremonyRequest>) -> Reply<v1::GetCeremonyResponse> {
        let (visit, ask) = self.admit(request, Operation::GetCeremony);
        let answer = async {
            self.service.get_ceremony(visit.known()?, words::get_ceremony(ask)?).await.map(words::get_ceremony_done)
        }
        .await;
        self.close(visit, answer).await
    }

    async fn offer_share(&self, request: Request<v1::OfferShareRequest>) -> Reply<v1::OfferShareResponse> {
        let (visit, ask) = self.admit(request, Operation::OfferShare);
        let answer = async {
            self.service.offer_share(visit.known()?, words::offer_share(ask)?).await.map(words::offer_share_done)
        }
        .await;
        self.close(visit, answer).await
    }

    async fn begin_recovery(&self, request: Request<v1::BeginRecoveryRequest>) -> Reply<v1::BeginRecoveryResponse> {
        let (visit, ask) = self.admit(request, Operation::BeginRecovery);
        let answer = async {
            self.service
                .begin_recovery(visit.known()?, words::begin_recovery(ask)?)
                .await
                .map(words::begin_recovery_done)
        }
        .await;
        self.close(visit, answer).await
    }

    async fn get_recovery(&self, request: Request<v1::GetRecoveryRequest>) -> Reply<v1::GetRecoveryResponse> {
        let (visit, ask) = self.admit(request, Operation::GetRecovery);
        let answer = async {
            self.service.get_recovery(visit.known()?, words::get_recovery(ask)?).await.map(words::get_recovery_done)
        }
        .await;
        self.close(visit, answer).await
    }

    async fn consent_to_recovery(
        &self,
        request: Request<v1::ConsentToRecoveryRequest>,
    ) -> Reply<v1::ConsentToRecoveryResponse> {
        let (visit, ask) = self.admit(request, Operation::ConsentToRecovery);
        let answer = async {
            self.service
                .consent_to_recovery(visit.known()?, words::consent_to_recovery(ask)?)
                .await
                .map(words::consent_to_recovery_done)
        }
        .await;
        self.close(visit, answer).await
    }

    async fn seal_node(&self, request: Request<v1::SealNodeRequest>) -> Reply<v1::SealNodeResponse> {
        let (visit, ask) = self.admit(request, Operation::SealNode);
        let answer =
            async { self.service.seal_node(visit.known()?, words::seal_node(ask)?).await.map(words::seal_node_done) }
                .await;
        self.close(visit, answer).await
    }

    async fn seal_all(&self, request: Request<v1::SealAllRequest>) -> Reply<v1::SealAllResponse> {
        let (visit, ask) = self.admit(request, Operation::SealAll);
        let answer =
            async { self.service.seal_all(visit.known()?, words::seal_all(ask)?).await.map(words::seal_all_done) }
                .await;
        self.close(visit, answer).await
    }
}
