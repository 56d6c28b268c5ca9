//! Founding a cluster, opening it, sealing it: `claviger.v1.Seal`.

use crate::call::{Client, Repeat};
use crate::error::Error;
use claviger_proto::v1::{self, seal_client::SealClient};
use std::time::Duration;

/// How long a founding may take, in milliseconds: every node writes and signs.
const FOUNDING_MS: u64 = 60_000;

/// Calls that are marked *once* are never sent twice: when their connection breaks the outcome is unknown, and the error
/// says so ([`crate::Why::Unknown`]).
impl Client {
    /// What one node knows of itself. With several nodes: of whichever answers; see [`Client::each`].
    pub async fn seal_status(&self) -> Result<v1::GetSealStatusResponse, Error> {
        let ask = v1::GetSealStatusRequest {};
        self.call(
            Repeat::Always,
            ask,
            |channel, ask| async move { SealClient::new(channel).get_seal_status(ask).await },
        )
        .await
    }

    /// Founds the cluster, *once* ever. The answer holds every custodian's share, sealed to them; nobody keeps a copy.
    pub async fn initialize(&self, ask: v1::InitializeRequest) -> Result<v1::InitializeResponse, Error> {
        let deadline = Duration::from_millis(FOUNDING_MS);
        let send = |channel, ask| async move { SealClient::new(channel).initialize(ask).await };
        self.call_for(deadline, Repeat::Unsent, ask, send).await
    }

    /// Clears what a founding that broke off left behind. *Once*.
    pub async fn abandon_initialize(&self) -> Result<v1::AbandonInitializeResponse, Error> {
        let ask = v1::AbandonInitializeRequest {};
        self.call(
            Repeat::Unsent,
            ask,
            |channel, ask| async move { SealClient::new(channel).abandon_initialize(ask).await },
        )
        .await
    }

    /// Opens an unseal ceremony, or finds the one that runs.
    pub async fn begin_unseal(&self) -> Result<v1::BeginUnsealResponse, Error> {
        let ask = v1::BeginUnsealRequest {};
        self.call(Repeat::Always, ask, |channel, ask| async move { SealClient::new(channel).begin_unseal(ask).await })
            .await
    }

    /// The progress of a ceremony.
    pub async fn ceremony(&self, id: impl Into<bytes::Bytes>) -> Result<v1::GetCeremonyResponse, Error> {
        let ask = v1::GetCeremonyRequest { id: id.into() };
        self.call(Repeat::Always, ask, |channel, ask| async move { SealClient::new(channel).get_ceremony(ask).await })
            .await
    }

    /// Offers one share, sealed to the ceremony's one-time key. *Once*: a second time it is a duplicate.
    pub async fn offer_share(&self, ask: v1::OfferShareRequest) -> Result<v1::OfferShareResponse, Error> {
        self.call(Repeat::Unsent, ask, |channel, ask| async move { SealClient::new(channel).offer_share(ask).await })
            .await
    }

    /// Has the node that is asked ask its custodians for a mandate to go on alone, or tells how far that is. Ask one node
    /// alone, see [`Client::each`].
    pub async fn begin_recovery(&self) -> Result<v1::BeginRecoveryResponse, Error> {
        let ask = v1::BeginRecoveryRequest {};
        self.call(Repeat::Always, ask, |channel, ask| async move { SealClient::new(channel).begin_recovery(ask).await })
            .await
    }

    /// The mandate that the node asks for, for whoever is to sign it.
    pub async fn recovery(&self) -> Result<v1::GetRecoveryResponse, Error> {
        let ask = v1::GetRecoveryRequest {};
        self.call(Repeat::Always, ask, |channel, ask| async move { SealClient::new(channel).get_recovery(ask).await })
            .await
    }

    /// Brings one custodian's signature under a mandate. *Once*: a second time it is a duplicate.
    pub async fn consent_to_recovery(
        &self,
        ask: v1::ConsentToRecoveryRequest,
    ) -> Result<v1::ConsentToRecoveryResponse, Error> {
        let send = |channel, ask| async move { SealClient::new(channel).consent_to_recovery(ask).await };
        self.call(Repeat::Unsent, ask, send).await
    }

    /// Seals the node that is asked. *Once*; ask one node alone, see [`Client::each`].
    pub async fn seal_node(&self) -> Result<v1::SealNodeResponse, Error> {
        let ask = v1::SealNodeRequest {};
        self.call(Repeat::Unsent, ask, |channel, ask| async move { SealClient::new(channel).seal_node(ask).await })
            .await
    }

    /// Seals every node. Said again until a node has done it, or all that are asked are sealed: to seal twice does no harm,
    /// and not to seal might.
    pub async fn seal_all(&self) -> Result<v1::SealAllResponse, Error> {
        let ask = v1::SealAllRequest {};
        self.call(Repeat::Always, ask, |channel, ask| async move { SealClient::new(channel).seal_all(ask).await }).await
    }
}
