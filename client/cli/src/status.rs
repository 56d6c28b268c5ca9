//! How the nodes and the cluster are.

use crate::failure::{EXIT_SEALED, Failure};
use crate::output::{Out, Report, table};
use crate::words::{ceremony_json, ceremony_text, seal_state};
use claviger_client::{Client, Endpoint, Error, v1};
use serde_json::{Value, json};
use std::time::Duration;

/// How often a watched status is read, in milliseconds.
const WATCH_MS: u64 = 500;

/// What every node says of itself, and what one of them says of the cluster.
pub struct Status {
    nodes: Vec<(Endpoint, Result<v1::GetSealStatusResponse, String>)>,
    cluster: Option<v1::GetClusterStatusResponse>,
}

impl Status {
    /// Asks. An error only when nobody answered.
    pub async fn gather(client: &Client) -> Result<Self, Failure> {
        let (mut nodes, mut silent) = (Vec::new(), None);
        for (endpoint, answer) in ask_each(client).await {
            nodes.push((endpoint, answer.as_ref().map(Clone::clone).map_err(ToString::to_string)));
            silent = answer.err().or(silent);
        }
        match silent {
            Some(error) if nodes.iter().all(|(_, answer)| answer.is_err()) => Err(error.into()),
            _ => Ok(Status { nodes, cluster: cluster(client).await }),
        }
    }

    /// The answer, with the exit code: of the nodes that were asked, and not of those that they speak of.
    pub fn report(&self) -> Result<Report, Failure> {
        let open = |node: &v1::GetSealStatusResponse| node.state == i32::from(v1::SealState::Open);
        let all_open = self.answers().all(open);
        let exit = if all_open { 0 } else { EXIT_SEALED };
        Ok(Report { json: self.json(), text: self.text(), exit })
    }

    fn answers(&self) -> impl Iterator<Item = &v1::GetSealStatusResponse> {
        self.nodes.iter().filter_map(|(_, answer)| answer.as_ref().ok())
    }

    fn json(&self) -> Value {
        let asked = |(endpoint, answer): &(Endpoint, Result<v1::GetSealStatusResponse, String>)| match answer {
            Ok(status) => json!({ "endpoint": endpoint.to_string(), "seal": seal_json(status) }),
            Err(why) => json!({ "endpoint": endpoint.to_string(), "error": why }),
        };
        json!({
            "endpoints": self.nodes.iter().map(asked).collect::<Vec<_>>(),
            "cluster": self.cluster.as_ref().map(cluster_json),
        })
    }

    fn text(&self) -> String {
        let mut text = String::new();
        if let Some(first) = self.answers().next() {
            let opens = if first.shares == 0 {
                first.slot_kind.clone()
            } else {
                format!("{} of {} shares open", first.threshold, first.shares)
            };
            text += &format!("cluster {}, region {}, {opens}\n", first.cluster, first.region);
            text += &format!(
                "lineage {}\n\n",
                if first.lineage.is_empty() { "none: never founded".into() } else { hex::encode(&first.lineage) }
            );
        }
        text += &table(&["endpoint", "node", "state"], &self.nodes.iter().map(endpoint_row).collect::<Vec<_>>());
        if let Some(cluster) = &self.cluster {
            text += &format!("\n\nas node {} sees it: {}\n", cluster.node, leader(cluster));
            text += &table(&NODE_HEAD, &cluster.nodes.iter().map(node_row).collect::<Vec<_>>());
        }
        let begun = |ceremony: &&v1::Ceremony| ceremony.open_time.map(|time| (time.seconds, time.nanos));
        let ceremony = self.answers().filter_map(|status| status.ceremony.as_ref()).max_by_key(begun);
        text + &ceremony.map(|c| format!("\n\n{}", ceremony_text(c))).unwrap_or_default()
    }
}

async fn ask_each(client: &Client) -> Vec<(Endpoint, Result<v1::GetSealStatusResponse, Error>)> {
    let mut answers = Vec::new();
    let asked: Vec<_> =
        client.each().into_iter().map(|(e, node)| (e, tokio::spawn(async move { node.seal_status().await }))).collect();
    for (endpoint, task) in asked {
        let answer = task.await.unwrap_or_else(|_| Err(Error::Broken { message: "the question was dropped".into() }));
        answers.push((endpoint, answer));
    }
    answers
}

/// What one node says of the cluster. Its absence is no failure: the nodes' own answers are there.
async fn cluster(client: &Client) -> Option<v1::GetClusterStatusResponse> {
    client.cluster_status().await.ok()
}

/// Shows the status now and at each change, until interrupted or until nobody answers the first time.
pub async fn watch(client: &Client, out: &Out) -> Result<Report, Failure> {
    let mut ticks = tokio::time::interval(Duration::from_millis(WATCH_MS));
    let mut shown = String::new();
    loop {
        ticks.tick().await;
        let report = match Status::gather(client).await {
            Ok(status) => status.report()?,
            Err(failure) if shown.is_empty() => return Err(failure),
            Err(failure) => Report::new(json!({ "error": failure.message }), failure.message),
        };
        if report.text != shown {
            out.show(&report)?;
            shown = report.text;
        }
    }
}

fn endpoint_row((endpoint, answer): &(Endpoint, Result<v1::GetSealStatusResponse, String>)) -> Vec<String> {
    match answer {
        Ok(status) => vec![endpoint.to_string(), status.node.to_string(), state_and_wait(status)],
        Err(why) => vec![endpoint.to_string(), "-".into(), why.clone()],
    }
}

/// The state, and what stands in the way of another.
fn state_and_wait(status: &v1::GetSealStatusResponse) -> String {
    let state = seal_state(status.state);
    match status.waits_for.as_str() {
        "" => state.into(),
        "peers" => format!("{state}; asks the other nodes what they know of its disk"),
        "checkpoint" => format!("{state}; not opened before others say that they have the state that it took"),
        other => format!("{state}; waits for {other}"),
    }
}

fn leader(cluster: &v1::GetClusterStatusResponse) -> String {
    let (term, revision) = (cluster.term, cluster.revision);
    match cluster.leader {
        0 => format!("no leader, term {term}, revision {revision}"),
        leader => format!("node {leader} leads, term {term}, revision {revision}"),
    }
}

const NODE_HEAD: [&str; 8] = ["node", "address", "state", "role", "term", "log", "applied", "version"];

fn node_row(node: &v1::NodeStatus) -> Vec<String> {
    let state = match (node.reachable, node.wanted()) {
        (_, v1::MemberRole::Retired) => "retired",
        (true, _) => seal_state(node.state),
        (false, _) => "unreachable",
    };
    let numbers = [node.term, node.last_log_index, node.applied_index].map(|n| n.to_string());
    let mut row = vec![node.node.to_string(), node.address.clone(), state.to_owned(), node.role.clone()];
    row.extend(numbers);
    row.push(node.version.clone());
    row
}

fn seal_json(s: &v1::GetSealStatusResponse) -> Value {
    json!({
        "node": s.node, "state": seal_state(s.state), "cluster": s.cluster, "region": s.region, "lineage": hex::encode(&s.lineage),
        "generation": s.generation, "seal_epoch": s.seal_epoch, "threshold": s.threshold, "shares": s.shares,
        "slot_kind": s.slot_kind, "ceremony": s.ceremony.as_ref().map(ceremony_json), "version": s.version, "waits_for": s.waits_for,
    })
}

fn cluster_json(c: &v1::GetClusterStatusResponse) -> Value {
    let node = |n: &v1::NodeStatus| {
        json!({
            "node": n.node, "address": n.address, "reachable": n.reachable, "state": seal_state(n.state), "role": n.role,
            "term": n.term, "last_log_index": n.last_log_index, "applied_index": n.applied_index, "revision": n.revision,
            "version": n.version, "pid": n.pid,
        })
    };
    json!({
        "lineage": hex::encode(&c.lineage), "node": c.node, "leader": c.leader, "term": c.term, "revision": c.revision,
        "nodes": c.nodes.iter().map(node).collect::<Vec<_>>(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_has_left_is_not_looked_for() {
        let shown = |reachable, wanted: v1::MemberRole| {
            let state = v1::SealState::Sealed.into();
            node_row(&v1::NodeStatus { reachable, wanted: wanted.into(), state, ..Default::default() })[2].clone()
        };
        assert_eq!(shown(false, v1::MemberRole::Retired), "retired");
        assert_eq!(shown(false, v1::MemberRole::Voter), "unreachable");
        assert_eq!(shown(true, v1::MemberRole::Voter), "sealed");
    }
}
