//! Bringing a share to a ceremony: nothing that the server says is believed before the founding record proves it.

use crate::chance;
use crate::custody::{self, Opened};
use crate::failure::Failure;
use crate::output::{Out, Report};
use crate::settings::Settings;
use crate::words::{ceremony_json, ceremony_text};
use claviger_client::{Client, Error, v1};
use claviger_core::ceremony::{CeremonyKey, SignedCeremonyKey};
use claviger_core::chain::Chain;
use claviger_core::chance::Chance;
use claviger_core::codec::Canonical;
use claviger_core::header::HeaderLink;
use claviger_core::mandate::SignedMandate;
use claviger_core::name::{Identity, Lineage, Signature};
use claviger_core::roster::{Founding, Roster};
use claviger_core::time::UnixMs;
use claviger_core::transit::seal_share;
use serde_json::json;
use std::path::Path;
use std::time::SystemTime;

/// A ceremony whose key was found to be the cluster's own.
pub struct Trusted {
    /// What shares are sealed to.
    pub key: CeremonyKey,
    /// Who founded the cluster, and holds its shares.
    pub founding: Founding,
    /// How far it is, as the server says.
    pub ceremony: v1::Ceremony,
    /// The generation that opening the host begins, where it goes on alone.
    pub begins: Option<u64>,
}

/// Checks what a server shows of its ceremony against the lineage that the share file carries.
pub fn trusted(begun: v1::BeginUnsealResponse, lineage: Option<&Lineage>, now: UnixMs) -> Result<Trusted, Failure> {
    let unread = |_| Failure::new("the node's answer is no ceremony, or one that this release cannot read");
    let key = CeremonyKey::from_bytes(&begun.statement).map_err(unread)?;
    let signature = Signature::from_bytes(&begun.signature).map_err(unread)?;
    let founding = Founding::from_bytes(&begun.founding).map_err(unread)?;
    let signed = SignedCeremonyKey { key, signature };
    let lineage = lineage.copied().unwrap_or(signed.key.lineage);
    let mandate = match begun.mandate.is_empty() {
        true => None,
        false => Some(SignedMandate::from_bytes(&begun.mandate).map_err(unread)?),
    };
    let chain = chain(&begun.founding, &begun.links, &begun.roster).ok_or_else(|| {
        Failure::new("the share stays here: the node does not prove how its cluster stands")
            .next("ask the operators which node they opened the ceremony on")
    })?;
    signed.trusted(&chain, mandate.as_ref(), &lineage, now).map_err(|why| {
        Failure::new(format!("the share stays here: {why}"))
            .next("check --addr, this machine's clock, and ask the operators which node they opened the ceremony on")
    })?;
    let ceremony = begun.ceremony.unwrap_or_default();
    if ceremony.id[..] != signed.key.ceremony.0 {
        return Err(Failure::new(
            "the share stays here: the node's key is of another ceremony than the one it tells of",
        ));
    }
    let begins = mandate.map(|signed| signed.mandate.generation);
    Ok(Trusted { key: signed.key, founding, ceremony, begins })
}

/// The header chain that an answer proves itself with.
pub fn chain(founding: &[u8], links: &[bytes::Bytes], roster: &[u8]) -> Option<Chain> {
    let links = links.iter().map(|link| HeaderLink::from_bytes(link).ok()).collect::<Option<Vec<_>>>()?;
    Chain::walk(Founding::from_bytes(founding).ok()?, links, Roster::from_bytes(roster).ok()?).ok()
}

/// Opens the share, begins or finds the ceremony, and brings the one to the other.
pub async fn offer(share: &Path, identity: &Path, settings: &Settings, out: &Out) -> Result<Report, Failure> {
    let opened = custody::open_share(share, &custody::read_private(identity)?)?;
    let client = settings.client()?;
    let bearer = bearer(&client, &opened)?;
    let (file, context) = (&opened.file, &opened.file.context);
    out.progress(&format!("share {} of {} of cluster {}: good", file.index, context.count(), file.cluster))?;
    match attempt(&client, &opened, &bearer, out).await? {
        Ok(report) => Ok(report),
        // The ceremony ended between finding it and offering: what runs now is another one.
        Err(_) => attempt(&client, &opened, &bearer, out).await?.map_err(Failure::from),
    }
}

/// Who brings the share: a certificate's bearer, who must be the share's holder.
pub fn bearer(client: &Client, opened: &Opened) -> Result<Identity, Failure> {
    let (holder, told) = (&opened.file.holder, client.identity());
    let bearer = told.parse().ok().filter(|bearer| bearer == holder);
    bearer.ok_or_else(|| {
        Failure::new(format!("the share is held by {holder}, and your certificate says {told}"))
            .next("a share is offered by its holder: use the custodian's own certificate")
    })
}

/// One go; the inner error is a ceremony that is over.
async fn attempt(
    client: &Client,
    opened: &Opened,
    bearer: &Identity,
    out: &Out,
) -> Result<Result<Report, Error>, Failure> {
    let found = trusted(client.begin_unseal().await?, Some(opened.file.context.lineage()), now())?;
    out.progress(&format!("ceremony {} on node {}: its key is this cluster's", found.key.ceremony, found.key.host))?;
    if let Some(generation) = found.begins {
        out.progress(&format!(
            "node {} goes on alone: opening it begins generation {generation}, and every other node leaves for ever",
            found.key.host
        ))?;
    }
    match client.offer_share(sealed(&found.key, opened, bearer)?).await {
        Ok(answer) => Ok(Ok(report(&answer, &found.founding))),
        Err(Error::Refused { code, reason, message }) if reason == "no_ceremony" => {
            Ok(Err(Error::Refused { code, reason, message }))
        }
        Err(error) => Err(error.into()),
    }
}

/// The share as it travels, with the proof that its bearer has it.
fn sealed(key: &CeremonyKey, opened: &Opened, bearer: &Identity) -> Result<v1::OfferShareRequest, Failure> {
    let index = opened.share.index();
    let mut chance = Chance::grow(chance::fresh());
    let sealed = seal_share(key, bearer, &opened.share, &mut chance);
    let sealed = sealed.ok_or_else(|| Failure::new("the share stays here: the ceremony's key is no key"))?;
    Ok(v1::OfferShareRequest {
        ceremony: key.ceremony.to_bytes().into(),
        index: index.into(),
        sealed_share: sealed.into(),
        proof: opened.share.prove(&key.challenge(index, bearer)).to_bytes().into(),
    })
}

fn report(answer: &v1::OfferShareResponse, founding: &Founding) -> Report {
    let ceremony = answer.ceremony.clone().unwrap_or_default();
    let json =
        json!({ "ceremony": ceremony_json(&ceremony), "opened": answer.opened, "opened_nodes": answer.opened_nodes });
    let nodes: Vec<String> = answer.opened_nodes.iter().map(u64::to_string).collect();
    let state = match answer.opened {
        true => format!("open: nodes {}", nodes.join(", ")),
        false => format!("still wanted: any {} of {}", wanting(&ceremony), missing(&ceremony, founding).join(", ")),
    };
    Report::new(json, format!("accepted\n{}\n{state}", ceremony_text(&ceremony)))
}

/// How many shares are wanting.
pub fn wanting(ceremony: &v1::Ceremony) -> usize {
    usize::try_from(ceremony.threshold).unwrap_or_default().saturating_sub(ceremony.accepted.len())
}

/// The holders whose shares have not come, by name.
pub fn missing(ceremony: &v1::Ceremony, founding: &Founding) -> Vec<String> {
    let came = |who: &str| ceremony.accepted.iter().any(|share| share.holder == who);
    let all = founding.genesis.custodians.iter().map(|keys| keys.identity.to_string());
    all.filter(|who| !came(who)).collect()
}

/// This machine's clock.
pub fn now() -> UnixMs {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    UnixMs(since.map_or(0, |since| u64::try_from(since.as_millis()).unwrap_or(u64::MAX)))
}

#[cfg(test)]
mod tests;
