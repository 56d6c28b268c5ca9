//! `claviger operator recover` and `claviger custodian consent`: going on with one node, by a mandate of the custodians.

use crate::custody::{self, Opened};
use crate::failure::Failure;
use crate::offer::{self, bearer};
use crate::output::{Out, Report};
use crate::settings::Settings;
use claviger_client::{Client, Endpoint, Error, v1};
use claviger_core::chain::Chain;
use claviger_core::codec::Canonical;
use claviger_core::crypto::sha256;
use claviger_core::mandate::{Ground, Mandate};
use claviger_core::name::Lineage;
use claviger_core::roster::Role;
use serde_json::{Value, json};
use std::path::Path;

/// Help of `operator recover`.
pub const EXAMPLES: &str = "\
Quorum lost for good: most voters will never come back with their disks. One node, named by --addr, asks its custodians for a \
mandate to go on alone with what it has, in the next generation. Take the survivor with the longest log: `claviger operator \
status` shows it, and a shorter one is refused, as is any while most voters answer. Every other node has left for ever then, \
the lost ones too: should one come back, it ends. What a lost majority had acknowledged and this node never heard of is gone.

Run it again to see who has agreed. When enough have, the node ends; start it, open it as ever, and let new nodes join.

Examples:
  claviger operator recover --addr 10.0.0.3:7001
  claviger custodian consent alice.share --identity alice.custodian --addr 10.0.0.3:7001";
/// Help of `custodian consent`.
pub const CONSENT_EXAMPLES: &str = "\
Signs, with the share and without giving it away, that one node goes on alone. Read what is shown first: it says which node, \
with which state, and that everybody else leaves. Then sign it by its digest, which the operator reads out: another mandate \
than that is not signed.

Examples:
  claviger custodian consent ada.share --identity ada.custodian --addr node3:7001
  claviger custodian consent ada.share --identity ada.custodian --addr node3:7001 --mandate $DIGEST";

/// Begins, or tells how far it is.
pub async fn begin(settings: &Settings) -> Result<Report, Failure> {
    let (endpoint, node) = one(settings)?;
    let answer = node.begin_recovery().await?;
    let (mandate, chain) = proven(&answer, None)?;
    let recovery = answer.recovery.unwrap_or_default();
    let shown = shown(&mandate, &chain);
    let how = "each custodian: claviger custodian consent SHARE_FILE --identity FILE --addr";
    let (progress, digest) = (progress(&recovery), mandate.digest());
    let text = format!("{}\n{progress}\n{how} {endpoint} --mandate {digest}", shown.text);
    Ok(Report::new(json!({ "mandate": shown.json, "recovery": progress_json(&recovery) }), text))
}

/// Shows the mandate, and signs it if it is the one that was named.
pub async fn consent(
    share: &Path,
    identity: &Path,
    named: Option<&str>,
    settings: &Settings,
    out: &Out,
) -> Result<Report, Failure> {
    let (endpoint, node) = one(settings)?;
    let opened = custody::open_share(share, &custody::read_private(identity)?)?;
    let bearer = bearer(&node, &opened)?;
    let v1::GetRecoveryResponse { recovery, founding, links, roster } = node.recovery().await.map_err(not_asked)?;
    let asked = v1::BeginRecoveryResponse { recovery, founding, links, roster };
    let (mandate, chain) = proven(&asked, Some(&opened))?;
    let shown = shown(&mandate, &chain);
    let Some(named) = named else {
        let how = "nothing is signed yet: add --mandate with the digest that the operator reads out, if it is this one and all \
                   of this is what you want";
        let text = format!("{}\n{how}", shown.text);
        return Ok(Report::new(json!({ "mandate": shown.json, "signed": false }), text));
    };
    is_named(&mandate, named)?;
    out.progress(&shown.text)?;
    let index = opened.share.index();
    let ask = v1::ConsentToRecoveryRequest {
        mandate: mandate.digest().to_bytes().into(),
        index: index.into(),
        signature: opened.share.prove(&mandate.challenge(index, &bearer)).to_bytes().into(),
    };
    let recovery = node.consent_to_recovery(ask).await.map_err(not_asked)?.recovery.unwrap_or_default();
    let next = match recovery.given {
        true => format!("the mandate is given: {endpoint} ends now; start it again, and open it as ever"),
        false => progress(&recovery),
    };
    let json = json!({ "mandate": shown.json, "signed": true, "recovery": progress_json(&recovery) });
    Ok(Report::new(json, format!("signed\n{next}")))
}

/// A mandate is no ceremony, though the node calls both so.
fn not_asked(error: Error) -> Failure {
    match &error {
        Error::Refused { reason, .. } if reason == "no_ceremony" => Failure::new("this node asks for no mandate now")
            .next("ask the operator: `claviger operator recover` asks for one, where it is still needed"),
        _ => error.into(),
    }
}

/// A custodian agrees to what the operator asked for, and to nothing that came in its place.
fn is_named(mandate: &Mandate, named: &str) -> Result<(), Failure> {
    let digest = mandate.digest().to_string();
    if named.trim().eq_ignore_ascii_case(&digest) {
        return Ok(());
    }
    Err(Failure::new(format!("nothing is signed: the node asks for mandate {digest}, and another one was named"))
        .next("ask the operator which one is meant; `claviger operator recover` shows it"))
}

/// Longest that a mandate can be agreed to, in milliseconds: the hour that a node asks for, and as much again for clocks
/// that differ.
const MANDATE_MS_MAX: u64 = 2 * 3_600_000;

/// A mandate is one node's: which, has to be said.
fn one(settings: &Settings) -> Result<(Endpoint, Client), Failure> {
    let mut nodes = settings.client()?.each();
    match (nodes.pop(), nodes.is_empty()) {
        (Some(one), true) => Ok(one),
        _ => Err(Failure::new("which node?").next("name it with --addr HOST:PORT")),
    }
}

/// The mandate, if what the node shows of its cluster proves that it is asked for in good order: that cluster, its next
/// generation, and a node that is in its roster or comes from outside with a snapshot.
fn proven(answer: &v1::BeginRecoveryResponse, opened: Option<&Opened>) -> Result<(Mandate, Chain), Failure> {
    let bytes = answer.recovery.as_ref().map(|recovery| &recovery.mandate[..]).unwrap_or_default();
    let unread = |_| Failure::new("the node's answer is no mandate, or one that this release cannot read");
    let mandate = Mandate::from_bytes(bytes).map_err(unread)?;
    let chain = offer::chain(&answer.founding, &answer.links, &answer.roster)
        .ok_or_else(|| Failure::new("nothing is signed: the node does not prove how its cluster stands"))?;
    let lineage: Lineage = opened.map_or(mandate.lineage, |opened| *opened.file.context.lineage());
    let head = chain.head().filter(|head| sha256(&[&head.to_bytes()]) == mandate.head);
    let follows = head.is_some_and(|head| head.header.generation + 1 == mandate.generation);
    let member = chain.roster().and_then(|roster| roster.member(mandate.heir.node));
    let known = match mandate.ground {
        Ground::Survivor(_) => member.is_some_and(|line| {
            (line.key, line.disk) == (mandate.heir.key, mandate.heir.disk) && line.role != Role::Retired
        }),
        Ground::Restored(_) => member.is_none(),
    };
    let ours = chain.lineage() == Some(lineage) && mandate.lineage == lineage;
    let now = offer::now();
    let in_time = mandate.expires > now && mandate.expires <= now.plus_ms(MANDATE_MS_MAX);
    match (ours, follows && known, in_time) {
        (true, true, true) => Ok((mandate, chain)),
        (false, ..) => Err(Failure::new("nothing is signed: the mandate is for another cluster than the share")),
        (_, false, _) => Err(Failure::new("nothing is signed: the mandate is not for this node and what it shows")),
        (.., false) => Err(Failure::new(
            "nothing is signed: the mandate's time is over, or longer than a mandate has, or this machine's clock is wrong",
        )),
    }
}

struct Shown {
    json: Value,
    text: String,
}

fn shown(mandate: &Mandate, chain: &Chain) -> Shown {
    let genesis = chain.founding().map(|founding| &founding.genesis);
    let (cluster, region) = genesis.map(|g| (g.cluster.to_string(), g.region.to_string())).unwrap_or_default();
    let heir = &mandate.heir;
    let leave = chain.roster().map(|roster| roster.present()).unwrap_or_default();
    let leave: Vec<u64> = leave.into_iter().filter(|node| *node != heir.node).map(|node| node.0).collect();
    let named = leave.iter().map(u64::to_string).collect::<Vec<_>>().join(", ");
    let (state, ground) = match &mandate.ground {
        Ground::Survivor(end) => (
            format!("what is on its disk: log up to entry {} of term {}", end.index, end.term),
            json!({ "survivor": { "term": end.term, "index": end.index } }),
        ),
        Ground::Restored(image) => (format!("the snapshot {image}"), json!({ "restored": image.to_string() })),
    };
    let text = format!(
        "mandate     {}\ncluster     {cluster}, {region}\nlineage     {}\ngeneration  {}\ngoes on     node {} alone, disk {}\n\
         with        {state}\nleave       nodes {named}, for ever\nuntil       {}",
        mandate.digest(),
        mandate.lineage,
        mandate.generation,
        heir.node,
        heir.disk,
        mandate.expires,
    );
    let json = json!({
        "digest": mandate.digest().to_string(), "lineage": mandate.lineage.to_string(), "cluster": cluster, "region": region,
        "generation": mandate.generation, "node": heir.node.0, "disk": heir.disk.to_string(), "ground": ground,
        "leave": leave, "expires_ms": mandate.expires.0,
    });
    Shown { json, text }
}

fn progress(recovery: &v1::Recovery) -> String {
    let wanting = usize::try_from(recovery.threshold).unwrap_or_default().saturating_sub(recovery.signed.len());
    let signed = if recovery.signed.is_empty() { "nobody".to_owned() } else { recovery.signed.join(", ") };
    format!("agreed      {signed}\nwanted: any {wanting} of\n  {}", recovery.missing.join("\n  "))
}

fn progress_json(recovery: &v1::Recovery) -> Value {
    json!({
        "threshold": recovery.threshold, "signed": recovery.signed, "missing": recovery.missing, "given": recovery.given,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use claviger_core::name::{Digest, DiskId, NodeId, VerifyingKey};
    use claviger_core::roster::Member;
    use claviger_core::time::UnixMs;

    #[test]
    fn a_mandate_is_signed_by_its_own_digest_alone() {
        let key = VerifyingKey([1; 32]);
        let mandate = |nonce| Mandate {
            lineage: Lineage([1; 32]),
            generation: 2,
            heir: Member { node: NodeId(1), key, disk: DiskId([1; 16]), role: Role::Voter },
            ground: Ground::Restored(Digest([2; 32])),
            head: Digest([3; 32]),
            nonce: [nonce; 16],
            expires: UnixMs(1),
        };
        let digest = mandate(1).digest().to_string();
        assert!(is_named(&mandate(1), &digest).is_ok());
        assert!(is_named(&mandate(1), &format!(" {}\n", digest.to_uppercase())).is_ok(), "as it was read out");
        for other in ["", &digest[..8], "yes"] {
            assert!(is_named(&mandate(1), other).is_err(), "{other}");
        }
        let refused = is_named(&mandate(2), &digest).err().map(|why| why.message).unwrap_or_default();
        assert!(refused.contains("another one was named"), "{refused}");
    }
}
