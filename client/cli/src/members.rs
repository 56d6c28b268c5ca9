//! `claviger operator members`, `join`, `promote`, `remove`, `replace`: who belongs to the cluster. Each verb may be broken
//! off and given again: it goes on where it was.

use crate::failure::Failure;
use crate::files::{self, Readers};
use crate::output::{Out, Report, table};
use crate::settings::Settings;
use crate::words::seal_state;
use clap::Args;
use claviger_client::{Client, v1};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

pub const MEMBERS_EXAMPLES: &str = "\
What each node is meant to be, and what it is. `wanted` is the roster's word, `is` what Raft's membership has come to.

Examples:
  claviger operator members
  claviger operator members --output json";
pub const JOIN_EXAMPLES: &str = "\
Writes a ticket: leave for one node to join under that number, once. Bring it to the new host, which needs a certificate of \
the nodes' authority for that number, and start the node with it:

    clavigerd run --config clavigerd.toml --join node4.ticket

It begins as a learner: it stores and does not vote. `claviger operator promote` lets it vote.

Examples:
  claviger operator join 4 --ticket node4.ticket
  claviger operator join 4 --ticket node4.ticket --hours 2";
pub const PROMOTE_EXAMPLES: &str = "\
Lets a learner vote, as soon as it has caught up. Three voters bear the loss of one, five of two; an even number bears no \
more than one less.

Examples:
  claviger operator promote 4
  claviger operator promote 4 --in-place-of 3    # 3 becomes a learner in the same step";
pub const REMOVE_EXAMPLES: &str = "\
Takes a node out for ever: it stops voting, then it is retired, and the keys that the nodes sign and tag with are renewed. \
Its number, disk and identity key are never used again. What it had read before, it has read: see docs/members.md.

Examples:
  claviger operator remove 3";
pub const REPLACE_EXAMPLES: &str = "\
Replaces a node that is lost, or to be lost, by a new one: writes a ticket, waits until the new node has joined and has \
caught up, lets it vote in the old one's place in one step, and retires the old one. At no moment does the cluster need \
more votes than before. Broken off and given again, it goes on.

Examples:
  claviger operator replace 3 --with 4 --ticket node4.ticket";

/// Highest number that a node can be configured with.
const NODE_MAX: u64 = u32::MAX as u64;
/// How often the status is looked at while a verb waits.
const LOOK_EACH: Duration = Duration::from_millis(500);
/// Entries that a node may lack and still count as up to date: what is on its way.
const NEAR_ENTRIES: u64 = 256;

/// Leave to join.
#[derive(Args)]
pub struct Join {
    /// The number that the node will have: one that no node ever had.
    #[arg(value_name = "N", value_parser = clap::value_parser!(u64).range(1..=NODE_MAX))]
    node: u64,
    /// Where the ticket is written.
    #[arg(long = "ticket", value_name = "FILE")]
    file: PathBuf,
    /// How long it is good for.
    #[arg(long, value_name = "N", default_value_t = 24, value_parser = clap::value_parser!(u32).range(1..=168))]
    hours: u32,
}

/// A learner that is to vote.
#[derive(Args)]
pub struct Promote {
    /// Which.
    #[arg(value_name = "N")]
    node: u64,
    /// A voter that becomes a learner in the same step.
    #[arg(long, value_name = "N")]
    in_place_of: Option<u64>,
    /// How long to wait until it votes.
    #[command(flatten)]
    patience: Patience,
}

/// A node that is to go.
#[derive(Args)]
pub struct Remove {
    /// Which.
    #[arg(value_name = "N")]
    node: u64,
    /// How long to wait until it votes no more.
    #[command(flatten)]
    patience: Patience,
}

/// A node that takes the place of another.
#[derive(Args)]
pub struct Replace {
    /// The node that goes.
    #[arg(value_name = "N")]
    node: u64,
    /// The number of the node that comes.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=NODE_MAX))]
    with: u64,
    /// Where the ticket for the new node is written, if it has not joined yet.
    #[arg(long = "ticket", value_name = "FILE")]
    file: PathBuf,
    /// How long to wait for the new node.
    #[command(flatten)]
    patience: Patience,
}

/// How long a verb waits for the cluster to follow.
#[derive(Args)]
pub struct Patience {
    /// Seconds to wait for each step; what was begun goes on without this program.
    #[arg(long = "wait", value_name = "N", default_value_t = 600)]
    seconds: u64,
}

impl Patience {
    /// Looks at the cluster until `done` says so.
    async fn until(
        &self,
        client: &Client,
        what: &str,
        done: impl Fn(&v1::GetClusterStatusResponse) -> bool,
    ) -> Result<v1::GetClusterStatusResponse, Failure> {
        let since = Instant::now();
        loop {
            if let Ok(status) = client.cluster_status().await
                && done(&status)
            {
                return Ok(status);
            }
            if since.elapsed() > Duration::from_secs(self.seconds) {
                return Err(Failure::new(format!("after {} s {what} is still awaited", self.seconds))
                    .next("`claviger operator members` shows how far it is; give the same line again to go on"));
            }
            tokio::time::sleep(LOOK_EACH).await;
        }
    }
}

/// Every member.
pub async fn show(settings: &Settings) -> Result<Report, Failure> {
    let status = settings.client()?.cluster_status().await?;
    let rows: Vec<Vec<String>> = status.nodes.iter().map(|node| row(node, status.leader)).collect();
    let json = json!({
        "roster_epoch": status.roster_epoch, "moving": status.moving, "leader": status.leader,
        "nodes": status.nodes.iter().map(member_json).collect::<Vec<_>>(),
    });
    let moving = if status.moving { "\nthe votes are on their way from one set of nodes to another" } else { "" };
    let head = ["node", "wanted", "is", "state", "log", "applied", "address", "identity"];
    Ok(Report::new(json, format!("roster epoch {}{moving}\n{}", status.roster_epoch, table(&head, &rows))))
}

/// Writes a ticket.
pub async fn join(ask: &Join, settings: &Settings) -> Result<Report, Failure> {
    let expires_ms = ticket(&settings.client()?, ask.node, ask.hours, &ask.file).await?;
    let file = ask.file.display();
    let json = json!({ "node": ask.node, "ticket": ask.file, "expires_ms": expires_ms });
    Ok(Report::new(
        json,
        format!(
            "{file}: leave for node {} to join, good for {} h\non the new host: clavigerd run --config FILE --join {file}",
            ask.node, ask.hours
        ),
    ))
}

async fn ticket(client: &Client, node: u64, hours: u32, file: &Path) -> Result<u64, Failure> {
    files::refuse_existing(&[file], false).map_err(|why| why.next("choose another place, or remove it"))?;
    let answer = client.create_join_ticket(node, hours * 3_600).await?;
    files::replace(file, format!("{}\n", answer.ticket).as_bytes(), Readers::Owner)?;
    Ok(answer.expires_ms)
}

/// Lets a learner vote, and waits until it does.
pub async fn promote(ask: &Promote, settings: &Settings, out: &Out) -> Result<Report, Failure> {
    let client = settings.patient_client()?;
    let status = vote(&client, ask.node, ask.in_place_of, &ask.patience, out).await?;
    let text = format!("node {} votes", ask.node);
    Ok(Report::new(json!({ "node": ask.node, "roster_epoch": status.roster_epoch }), text))
}

async fn vote(
    client: &Client,
    node: u64,
    in_place_of: Option<u64>,
    patience: &Patience,
    out: &Out,
) -> Result<v1::GetClusterStatusResponse, Failure> {
    let status = client.cluster_status().await?;
    if find(&status, node)?.wanted() == v1::MemberRole::Voter {
        in_place_of.map_or(Ok(()), |other| is_no_voter(&status, node, other))?;
    } else {
        client.set_member_role(node, v1::MemberRole::Voter, in_place_of.unwrap_or(0)).await?;
        out.progress(&format!("node {node} is to vote; waiting until it has caught up"))?;
    }
    patience.until(client, &format!("the vote of node {node}"), |s| votes(s, node) && !s.moving).await
}

/// Refuses a node that votes already in the place of another that does: nobody would come, and one would go. Where the other does
/// not vote any more, the verb was given before.
fn is_no_voter(status: &v1::GetClusterStatusResponse, node: u64, other: u64) -> Result<(), Failure> {
    if find(status, other)?.wanted() != v1::MemberRole::Voter {
        return Ok(());
    }
    Err(Failure::new(format!("node {node} votes already, and can take nobody's place"))
        .next(format!("name one that does not vote; to go on with one voter less: `claviger operator remove {other}`")))
}

/// Takes a node out for ever.
pub async fn remove(ask: &Remove, settings: &Settings, out: &Out) -> Result<Report, Failure> {
    let client = settings.patient_client()?;
    retire(&client, ask.node, &ask.patience, out).await
}

async fn retire(client: &Client, node: u64, patience: &Patience, out: &Out) -> Result<Report, Failure> {
    let status = client.cluster_status().await?;
    match find(&status, node)?.wanted() {
        v1::MemberRole::Retired => {
            return Ok(Report::new(
                json!({ "node": node, "unconfirmed": [] }),
                format!("node {node} is retired already"),
            ));
        }
        v1::MemberRole::Voter => {
            is_not_the_last_open(&status, node)?;
            client.set_member_role(node, v1::MemberRole::Learner, 0).await?;
            out.progress(&format!("node {node} is to vote no more"))?;
        }
        v1::MemberRole::Learner | v1::MemberRole::Unspecified => {}
    }
    patience.until(client, &format!("that node {node} votes no more"), |s| !votes(s, node) && !s.moving).await?;
    let answer = client.retire_member(node).await?;
    let json = json!({ "node": node, "roster_epoch": answer.roster_epoch, "unconfirmed": answer.unconfirmed });
    Ok(Report::new(json, retired(node, &answer.unconfirmed)))
}

/// Refuses to take the one node out that is open: whoever is left could serve nobody before custodians have come.
fn is_not_the_last_open(status: &v1::GetClusterStatusResponse, node: u64) -> Result<(), Failure> {
    let open = |one: &&v1::NodeStatus| one.reachable && one.state() == v1::SealState::Open;
    let left = |one: &&v1::NodeStatus| one.node != node && one.wanted() != v1::MemberRole::Retired;
    let nodes = || status.nodes.iter().filter(open);
    if nodes().any(|one| one.node == node) && !nodes().any(|one| left(&one)) {
        return Err(Failure::new(format!(
            "node {node} is the only one that is open: nobody would be served without it"
        ))
        .next("open another one first: `claviger operator unseal`"));
    }
    Ok(())
}

fn retired(node: u64, unconfirmed: &[u64]) -> String {
    if unconfirmed.is_empty() {
        return format!("node {node} is retired; every node has confirmed it");
    }
    let left: Vec<String> = unconfirmed.iter().map(u64::to_string).collect();
    format!("node {node} is retired; not confirmed by {}: until they hear of it, they listen to it", left.join(", "))
}

/// Puts a new node in the place of another.
pub async fn replace(ask: &Replace, settings: &Settings, out: &Out) -> Result<Report, Failure> {
    let client = settings.patient_client()?;
    let status = client.cluster_status().await?;
    can_replace(&status, ask.node, ask.with)?;
    if !status.nodes.iter().any(|node| node.node == ask.with) {
        if !ask.file.exists() {
            ticket(&client, ask.with, 168, &ask.file).await?;
        }
        let file = ask.file.display();
        out.progress(&format!("{file}: on the new host: clavigerd run --config FILE --join {file}"))?;
    }
    let what = format!("that node {} has joined and caught up", ask.with);
    ask.patience.until(&client, &what, |status| caught_up(status, ask.with)).await?;
    out.progress(&format!("node {} has joined and caught up", ask.with))?;
    let old_votes = find(&client.cluster_status().await?, ask.node)?.wanted() == v1::MemberRole::Voter;
    if old_votes || find(&client.cluster_status().await?, ask.with)?.wanted() == v1::MemberRole::Voter {
        vote(&client, ask.with, old_votes.then_some(ask.node), &ask.patience, out).await?;
        out.progress(&format!("node {} votes in the place of node {}", ask.with, ask.node))?;
    }
    retire(&client, ask.node, &ask.patience, out).await
}

/// Refuses what would put nobody in the place of the old node, which goes for ever.
fn can_replace(status: &v1::GetClusterStatusResponse, old: u64, new: u64) -> Result<(), Failure> {
    find(status, old)?;
    if old == new {
        return Err(Failure::new(format!("node {old} cannot take its own place"))
            .next("name a number with --with that no node ever had"));
    }
    match find(status, new).map(v1::NodeStatus::wanted) {
        Ok(v1::MemberRole::Retired) => Err(Failure::new(format!("node {new} is retired, and never comes back"))
            .next("name a number with --with that no node ever had")),
        Ok(v1::MemberRole::Voter) => is_no_voter(status, new, old),
        Ok(v1::MemberRole::Learner | v1::MemberRole::Unspecified) | Err(_) => Ok(()),
    }
}

fn find(status: &v1::GetClusterStatusResponse, node: u64) -> Result<&v1::NodeStatus, Failure> {
    let found = status.nodes.iter().find(|one| one.node == node);
    found.ok_or_else(|| {
        Failure::new(format!("node {node} is no member")).next("`claviger operator members` shows who is")
    })
}

fn votes(status: &v1::GetClusterStatusResponse, node: u64) -> bool {
    status.nodes.iter().any(|one| one.node == node && one.votes)
}

fn caught_up(status: &v1::GetClusterStatusResponse, node: u64) -> bool {
    let furthest = status.nodes.iter().map(|one| one.applied_index).max().unwrap_or(0);
    let near = |one: &v1::NodeStatus| one.reachable && one.seated && one.applied_index + NEAR_ENTRIES >= furthest;
    status.nodes.iter().any(|one| one.node == node && near(one))
}

fn wanted(role: v1::MemberRole) -> &'static str {
    match role {
        v1::MemberRole::Unspecified => "founder",
        v1::MemberRole::Voter => "voter",
        v1::MemberRole::Learner => "learner",
        v1::MemberRole::Retired => "retired",
    }
}

/// What Raft's membership has come to.
fn is(node: &v1::NodeStatus, leader: u64) -> &'static str {
    match (node.seated, node.votes) {
        (_, true) if node.node == leader => "leader",
        (_, true) => "voter",
        (true, false) => "learner",
        (false, false) => "-",
    }
}

fn row(node: &v1::NodeStatus, leader: u64) -> Vec<String> {
    let state = if node.reachable { seal_state(node.state) } else { "unreachable" };
    let identity = hex::encode(&node.key_hash);
    vec![
        node.node.to_string(),
        wanted(node.wanted()).into(),
        is(node, leader).into(),
        if node.wanted() == v1::MemberRole::Retired { "-".into() } else { state.into() },
        node.last_log_index.to_string(),
        node.applied_index.to_string(),
        node.address.clone(),
        identity.get(..16).unwrap_or_default().into(),
    ]
}

fn member_json(node: &v1::NodeStatus) -> Value {
    json!({
        "node": node.node, "wanted": wanted(node.wanted()), "seated": node.seated, "votes": node.votes,
        "reachable": node.reachable, "state": seal_state(node.state), "last_log_index": node.last_log_index,
        "applied_index": node.applied_index, "matched_index": node.matched_index, "address": node.address,
        "key_hash": hex::encode(&node.key_hash), "disk": hex::encode(&node.disk), "links": node.links,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(node: u64, votes: bool, applied_index: u64) -> v1::NodeStatus {
        v1::NodeStatus { node, votes, seated: true, reachable: true, applied_index, ..Default::default() }
    }

    #[test]
    fn a_node_has_caught_up_when_it_is_seated_reachable_and_near() {
        let status = |fourth: v1::NodeStatus| v1::GetClusterStatusResponse {
            nodes: vec![node(1, true, 10_000), fourth],
            ..Default::default()
        };
        assert!(caught_up(&status(node(4, false, 9_744)), 4) && !caught_up(&status(node(4, false, 9_743)), 4));
        assert!(!caught_up(&status(v1::NodeStatus { seated: false, ..node(4, false, 10_000) }), 4));
        assert!(!caught_up(&status(v1::NodeStatus { reachable: false, ..node(4, false, 10_000) }), 4));
        assert!(!caught_up(&status(node(5, false, 10_000)), 4), "it has not joined");
        assert!(find(&status(node(4, false, 1)), 9).is_err_and(|why| why.message.contains("no member")));
    }

    #[test]
    fn refuses_to_put_nobody_in_the_place_of_a_node() {
        let with = |one: v1::NodeStatus, role: v1::MemberRole| v1::NodeStatus { wanted: role as i32, ..one };
        let status = |second: v1::MemberRole| v1::GetClusterStatusResponse {
            nodes: vec![with(node(1, true, 9), v1::MemberRole::Voter), with(node(2, true, 9), second)],
            ..Default::default()
        };
        let (voter, learner) = (status(v1::MemberRole::Voter), status(v1::MemberRole::Learner));
        assert!(can_replace(&voter, 1, 1).is_err_and(|why| why.message.contains("its own place")));
        assert!(can_replace(&voter, 1, 2).is_err_and(|why| why.message.contains("votes already")));
        assert!(can_replace(&status(v1::MemberRole::Retired), 1, 2).is_err_and(|why| why.message.contains("retired")));
        assert!(can_replace(&voter, 9, 2).is_err_and(|why| why.message.contains("no member")));
        assert!(can_replace(&learner, 1, 2).is_ok() && can_replace(&voter, 1, 3).is_ok());
        assert!(can_replace(&learner, 2, 1).is_ok(), "it was broken off after the votes had moved");
        assert!(is_no_voter(&voter, 2, 1).is_err() && is_no_voter(&learner, 1, 2).is_ok());
    }

    #[test]
    fn refuses_to_take_the_only_open_node_out() {
        let open = |n: u64, state: v1::SealState| v1::NodeStatus { state: state as i32, ..node(n, true, 9) };
        let status = |second| v1::GetClusterStatusResponse {
            nodes: vec![open(1, v1::SealState::Open), open(2, second)],
            ..Default::default()
        };
        let one = status(v1::SealState::Sealed);
        assert!(is_not_the_last_open(&one, 1).is_err_and(|why| why.message.contains("only one that is open")));
        assert!(is_not_the_last_open(&one, 2).is_ok());
        assert!(is_not_the_last_open(&status(v1::SealState::Open), 1).is_ok());
    }

    #[test]
    fn a_retirement_names_who_has_not_confirmed() {
        assert_eq!(retired(3, &[]), "node 3 is retired; every node has confirmed it");
        assert!(retired(3, &[2, 5]).contains("not confirmed by 2, 5"));
        assert_eq!(is(&node(1, true, 0), 1), "leader");
        assert_eq!((is(&node(1, true, 0), 2), is(&node(1, false, 0), 2)), ("voter", "learner"));
    }
}
