//! The leader is killed while clients work; the node comes back, follows while sealed, and is opened.

use super::report::{Gaps, Killed, Leader};
use super::{Scene, Tale};
use crate::attempts::{self, Attempt, gap_ms, now_us};
use crate::cluster::{Cluster, THRESHOLD};
use crate::load::{self, Worker};
use crate::trouble::{About, Told};
use claviger_proto::v1::{ListKeysRequest, NodeStatus, SealState};
use std::collections::BTreeSet;

/// Successes of each client before the kill, and after it.
const SUCCESSES: u64 = 20;
const PREFIX: &str = "tenants/default/keys/made-";

/// Kills the leader by SIGKILL while one client encrypts and another creates keys.
pub async fn kill_the_leader(scene: &mut Scene) -> Told<()> {
    scene.tale.step("The leader is killed while clients work");
    let cluster = &scene.cluster;
    let (node, term) = cluster.leader(None).await?;
    scene.report.before = Leader { node, term };
    scene.tale.tell(format_args!("node {node} leads in term {term}; one client encrypts, another creates keys"));
    let (encrypting, creating) = clients(cluster)?;
    encrypting.more(SUCCESSES).await?;
    creating.more(SUCCESSES).await?;

    let at_us = now_us();
    let pid = scene.cluster.node_mut(node)?.kill()?;
    scene.report.killed = Killed { node, pid, at_us };
    scene.tale.tell(format_args!("SIGKILL to node {node}, process {pid}"));

    let (after, after_term) = scene.cluster.leader(Some(node)).await?;
    scene.report.after = Leader { node: after, term: after_term };
    scene.tale.check(after != node && after_term > term, format_args!("node {after} leads in term {after_term}"))?;
    encrypting.more(SUCCESSES).await?;
    creating.more(SUCCESSES).await?;
    let journals = (encrypting.stop().await?, creating.stop().await?);
    scene.report.gaps = gaps(&scene.tale, journals, at_us)?;
    nothing_lost(scene).await
}

fn clients(cluster: &Cluster) -> Told<(Worker, Worker)> {
    let log = |name| cluster.folder.join(format!("logs/{name}.jsonl"));
    let encrypting = load::client(cluster, &cluster.service)?;
    let creating = load::client(cluster, &cluster.administrator)?;
    Ok((
        load::keep_encrypting(encrypting, super::keys::INVOICES, &log("encrypting"))?,
        load::keep_creating(creating, PREFIX, &log("creating"))?,
    ))
}

fn gaps(tale: &Tale, journals: (std::path::PathBuf, std::path::PathBuf), from_us: u64) -> Told<Gaps> {
    let gap = |path: &std::path::Path| gap_ms(&attempts::read(path)?, from_us).about("no success after the kill");
    let (encrypt_ms, create_ms) = (gap(&journals.0)?, gap(&journals.1)?);
    tale.tell(format_args!("longest wait between two encryptions: {encrypt_ms:.0} ms"));
    tale.tell(format_args!("longest wait between two keys created: {create_ms:.0} ms"));
    Ok(Gaps { encrypt_ms, create_ms, encrypt_journal: journals.0, create_journal: journals.1 })
}

/// Every key whose creation was acknowledged is in the list of a node that survived.
async fn nothing_lost(scene: &mut Scene) -> Told<()> {
    let journal = attempts::read(&scene.report.gaps.create_journal)?;
    let acknowledged: BTreeSet<String> =
        journal.into_iter().filter(|a| a.ok).map(|Attempt { what, .. }| what).collect();
    let present = all_keys(&scene.cluster).await?;
    let lost = acknowledged.difference(&present).count();
    scene.report.acknowledged_keys = acknowledged.len();
    scene.tale.same(&lost, &0, format_args!("all {} keys that were acknowledged are there", acknowledged.len()))
}

/// The names of all keys, in pages, as an administrator reads them.
pub async fn all_keys(cluster: &Cluster) -> Told<BTreeSet<String>> {
    let client = load::client(cluster, &cluster.administrator)?;
    let mut ask = ListKeysRequest { parent: "tenants/default".into(), page_size: 256, ..Default::default() };
    let mut names = BTreeSet::new();
    loop {
        let page = client.list_keys(ask.clone()).await.about("list of keys")?;
        names.extend(page.keys.into_iter().map(|key| key.name));
        if page.next_page_token.is_empty() {
            return Ok(names);
        }
        ask.page_token = page.next_page_token;
    }
}

/// Starts the killed node again; it catches up while sealed, and three custodians open it.
pub async fn bring_it_back(scene: &mut Scene) -> Told<()> {
    scene.tale.step("The killed node comes back");
    let node = scene.report.killed.node;
    let state = scene.cluster.restart(node).await?;
    scene.tale.same(&state, &SealState::Sealed, format_args!("node {node} runs again, and is sealed"))?;
    let goal = scene.cluster.status_at(scene.report.after.node).await?;
    let goal = goal.nodes.iter().filter(|n| n.node != node).map(|n| n.applied_index).max().about("no other node")?;
    let caught_up = |nodes: &[NodeStatus]| find(nodes, node).is_some_and(|n| n.reachable && n.applied_index >= goal);
    let status = scene.cluster.settled("caught up", caught_up).await?;
    let seen = find(&status.nodes, node).about("the node is not in the status")?;
    let what = format_args!("it applied entry {} of the log while sealed", seen.applied_index);
    scene.tale.same(&seen.state(), &SealState::Sealed, what)?;
    scene.cluster.open().await?;
    let status = scene.cluster.status_at(node).await?;
    let open = find(&status.nodes, node).map(NodeStatus::state);
    scene.tale.same(&open, &Some(SealState::Open), format_args!("{THRESHOLD} custodians opened it"))
}

fn find(nodes: &[NodeStatus], id: u64) -> Option<&NodeStatus> {
    nodes.iter().find(|n| n.node == id)
}
