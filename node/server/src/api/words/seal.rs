//! Founding, ceremonies, sealing.

use super::{Parsed, array, timestamp, wanted};
use crate::seal::{FoundAsk, Founded};
use crate::service::{Begun, ConsentAsk, OfferAsk, Offered, Recovery, SealStatus};
use claviger_core::ceremony::{Accepted, Progress};
use claviger_core::codec::Canonical;
use claviger_core::failure::Refused;
use claviger_core::name::{CeremonyId, Digest, Identity, Signature, VerifyingKey};
use claviger_core::policy::SealView;
use claviger_core::roster::{CustodianKeys, HOLDERS_MAX};
use claviger_ledger::Status;
use claviger_proto::v1;

/// Longest sealed share: a payload of some hundred bytes in a box.
const SEALED_SHARE_BYTES_MAX: usize = 4_096;

pub(in crate::api) fn get_seal_status(_: v1::GetSealStatusRequest) -> Parsed<()> {
    Ok(())
}

pub(in crate::api) fn get_seal_status_done(status: SealStatus) -> v1::GetSealStatusResponse {
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
        waits_for: waits_for(&status.own).into(),
    }
}

fn waits_for(own: &Status) -> &'static str {
    match (own.asking, own.trusted) {
        (true, _) => "peers",
        (false, false) => "checkpoint",
        (false, true) => "",
    }
}

fn seal_state(seal: SealView) -> v1::SealState {
    match seal {
        SealView::Unfounded => v1::SealState::Uninitialized,
        SealView::Sealed => v1::SealState::Sealed,
        SealView::Open => v1::SealState::Open,
    }
}

pub(in crate::api) fn initialize(ask: v1::InitializeRequest) -> Parsed<FoundAsk> {
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

pub(in crate::api) fn initialize_done(founded: Founded) -> v1::InitializeResponse {
    let share = |(who, content): (Identity, String)| v1::ShareFile { custodian: who.to_string(), content };
    v1::InitializeResponse {
        lineage: founded.lineage.0.to_vec().into(),
        shares: founded.shares.into_iter().map(share).collect(),
        revision: founded.sequence,
    }
}

pub(in crate::api) fn abandon_initialize(_: v1::AbandonInitializeRequest) -> Parsed<()> {
    Ok(())
}

pub(in crate::api) fn abandon_initialize_done((): ()) -> v1::AbandonInitializeResponse {
    v1::AbandonInitializeResponse {}
}

pub(in crate::api) fn begin_unseal(_: v1::BeginUnsealRequest) -> Parsed<()> {
    Ok(())
}

pub(in crate::api) fn begin_unseal_done(begun: Begun) -> v1::BeginUnsealResponse {
    v1::BeginUnsealResponse {
        ceremony: Some(ceremony_out(begun.progress)),
        statement: begun.signed.key.to_bytes().into(),
        signature: begun.signed.signature.0.to_vec().into(),
        host_key: begun.host_key.0.to_vec().into(),
        founding: begun.proof.founding.to_bytes().into(),
        links: begun.proof.links.iter().map(|link| link.to_bytes().into()).collect(),
        roster: begun.proof.roster.to_bytes().into(),
        mandate: begun.mandate.map_or_else(Vec::new, |mandate| mandate.to_bytes()).into(),
    }
}

pub(in crate::api) fn begin_recovery(_: v1::BeginRecoveryRequest) -> Parsed<()> {
    Ok(())
}

pub(in crate::api) fn begin_recovery_done(recovery: Recovery) -> v1::BeginRecoveryResponse {
    v1::BeginRecoveryResponse {
        founding: recovery.proof.founding.to_bytes().into(),
        links: recovery.proof.links.iter().map(|link| link.to_bytes().into()).collect(),
        roster: recovery.proof.roster.to_bytes().into(),
        recovery: Some(recovery_out(&recovery)),
    }
}

pub(in crate::api) fn get_recovery(_: v1::GetRecoveryRequest) -> Parsed<()> {
    Ok(())
}

pub(in crate::api) fn get_recovery_done(recovery: Recovery) -> v1::GetRecoveryResponse {
    let v1::BeginRecoveryResponse { recovery, founding, links, roster } = begin_recovery_done(recovery);
    v1::GetRecoveryResponse { recovery, founding, links, roster }
}

pub(in crate::api) fn consent_to_recovery(ask: v1::ConsentToRecoveryRequest) -> Parsed<ConsentAsk> {
    Ok(ConsentAsk {
        mandate: Digest(array(&ask.mandate, "a mandate's digest of 32 bytes")?),
        index: ask.index.try_into().map_err(|_| wanted("an index of at most 64"))?,
        signature: Signature(array(&ask.signature, "a signature of 64 bytes")?),
    })
}

pub(in crate::api) fn consent_to_recovery_done(recovery: Recovery) -> v1::ConsentToRecoveryResponse {
    v1::ConsentToRecoveryResponse { recovery: Some(recovery_out(&recovery)) }
}

fn recovery_out(recovery: &Recovery) -> v1::Recovery {
    let gathering = &recovery.gathering;
    let names = |who: Vec<&Identity>| who.into_iter().map(Identity::to_string).collect();
    v1::Recovery {
        mandate: gathering.mandate().to_bytes().into(),
        threshold: gathering.custodians().threshold.into(),
        signed: names(gathering.signed()),
        missing: names(gathering.missing()),
        given: recovery.given,
    }
}

pub(in crate::api) fn get_ceremony(ask: v1::GetCeremonyRequest) -> Parsed<CeremonyId> {
    ceremony_id(&ask.id)
}

pub(in crate::api) fn get_ceremony_done(ceremony: Progress) -> v1::GetCeremonyResponse {
    v1::GetCeremonyResponse { ceremony: Some(ceremony_out(ceremony)) }
}

fn ceremony_id(bytes: &[u8]) -> Parsed<CeremonyId> {
    Ok(CeremonyId(array(bytes, "a ceremony id of 16 bytes")?))
}

pub(in crate::api) fn offer_share(ask: v1::OfferShareRequest) -> Parsed<OfferAsk> {
    if ask.sealed_share.len() > SEALED_SHARE_BYTES_MAX {
        return Err(Refused::TooLong("a sealed share of more than 4,096 bytes").into());
    }
    Ok(OfferAsk {
        ceremony: ceremony_id(&ask.ceremony)?,
        index: ask.index.try_into().map_err(|_| wanted("an index of at most 64"))?,
        sealed_share: ask.sealed_share.into(),
        proof: Signature(array(&ask.proof, "a proof of 64 bytes")?),
    })
}

pub(in crate::api) fn offer_share_done(offered: Offered) -> v1::OfferShareResponse {
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

pub(in crate::api) fn seal_node(_: v1::SealNodeRequest) -> Parsed<()> {
    Ok(())
}

pub(in crate::api) fn seal_node_done((): ()) -> v1::SealNodeResponse {
    v1::SealNodeResponse {}
}

pub(in crate::api) fn seal_all(_: v1::SealAllRequest) -> Parsed<()> {
    Ok(())
}

pub(in crate::api) fn seal_all_done((seal_epoch, revision): (u64, u64)) -> v1::SealAllResponse {
    v1::SealAllResponse { seal_epoch, revision }
}
