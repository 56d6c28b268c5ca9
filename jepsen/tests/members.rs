//! Nodes join, vote, are removed and replaced, as an operator does it with the command line.

use claviger_jepsen::cluster::Cluster;
use claviger_jepsen::node::READY_WITHIN;
use claviger_jepsen::pki::path;
use claviger_jepsen::process::LOOK_EVERY;
use claviger_jepsen::stage::{alone, create, decrypt_as, encrypt};
use claviger_proto::v1::{MemberRole, NodeStatus};
use std::time::Duration;

fn votes(nodes: &[NodeStatus]) -> Vec<u64> {
    nodes.iter().filter(|node| node.votes).map(|node| node.node).collect()
}

fn wanted(nodes: &[NodeStatus], id: u64) -> Option<MemberRole> {
    nodes.iter().find(|node| node.node == id).map(NodeStatus::wanted)
}

fn operator(cluster: &Cluster, words: &[&str]) -> String {
    let words: Vec<&str> = [&["operator"], words].concat();
    cluster.tool(&cluster.administrator).must(&words).unwrap().text()
}

/// What an operator's line that must fail says.
fn refused(cluster: &Cluster, words: &[&str]) -> String {
    let words: Vec<&str> = [&["operator"], words].concat();
    let ran = cluster.tool(&cluster.administrator).run(&words).unwrap();
    assert_ne!(ran.code, 0, "{words:?}: {}", ran.text());
    ran.stderr
}

#[test]
fn a_cluster_of_three_grows_to_five_and_bears_the_loss_of_two() {
    alone(async {
        let mut cluster = Cluster::start_open(3, "grows").await.unwrap();
        create(&cluster, "tenants/default/keys/before").await.unwrap();
        let sealed = encrypt(&cluster, 1, "tenants/default/keys/before", b"from the founders").await.unwrap();
        for id in [4, 5] {
            cluster.join(id).await.unwrap();
            let status = cluster.settled("joined", |nodes| wanted(nodes, id) == Some(MemberRole::Learner)).await;
            assert!(!votes(&status.unwrap().nodes).contains(&id), "it begins as a learner");
            operator(&cluster, &["promote", &id.to_string()]);
        }
        let status = cluster.settled("of five", |nodes| votes(nodes) == [1, 2, 3, 4, 5]).await.unwrap();
        assert_eq!(status.roster_epoch, 5);
        cluster.open().await.unwrap();
        let clear = decrypt_as(&cluster, 5, &cluster.service, "tenants/default/keys/before", &sealed).await.unwrap();
        assert_eq!(clear, b"from the founders");
        for id in [1, 2] {
            cluster.node_mut(id).unwrap().kill().unwrap();
        }
        cluster.leader(None).await.unwrap();
        let line = cluster.tool_at(5, &cluster.administrator).unwrap();
        line.must(&["key", "create", "tenants/default/keys/after"]).unwrap();
        // A node whose address has changed says so itself: nobody edits anything.
        cluster.node_mut(4).unwrap().stop(READY_WITHIN).unwrap();
        let moved = claviger_jepsen::node::Addresses::free().unwrap();
        let node = cluster.node_mut(4).unwrap();
        node.settings.listen.peers = moved.peers;
        node.settings.members = vec![(4, moved.peers)];
        node.write_config().unwrap();
        cluster.restart(4).await.unwrap();
        line.must(&["key", "create", "tenants/default/keys/after-the-move"]).unwrap();
    });
}

#[test]
fn a_dead_node_is_replaced_in_one_verb_and_never_listened_to_again() {
    alone(async {
        let mut cluster = Cluster::start_open(3, "replaced").await.unwrap();
        cluster.node_mut(3).unwrap().kill().unwrap();
        let ticket = cluster.folder.join("node-4.ticket");
        let tool = cluster.tool(&cluster.administrator);
        let file = ticket.clone();
        let replacing = tokio::task::spawn_blocking(move || {
            tool.run(&["operator", "replace", "3", "--with", "4", "--ticket", path(&file), "--wait", "60"])
        });
        while !ticket.exists() {
            tokio::time::sleep(LOOK_EVERY).await;
        }
        cluster.newcomer(4).unwrap().ticket = Some(ticket);
        cluster.restart(4).await.unwrap();
        let ran = replacing.await.unwrap().unwrap();
        assert_eq!(ran.code, 0, "{}{}", ran.text(), ran.stderr);
        assert!(ran.text().contains("node 3 is retired; every node has confirmed it"), "{}", ran.text());
        let status = cluster.settled("replaced", |nodes| votes(nodes) == [1, 2, 4]).await.unwrap();
        assert_eq!(wanted(&status.nodes, 3), Some(MemberRole::Retired));
        create(&cluster, "tenants/default/keys/under-the-renewed-key").await.unwrap();
        // Who comes back is told, and ends.
        let gone = cluster.node_mut(3).unwrap();
        let folder = claviger_jepsen::folder::Folder::new("replaced-3").unwrap();
        gone.start(&folder).unwrap();
        let (code, _) = gone.wait_end(Duration::from_secs(30)).unwrap();
        assert_eq!(code, 3, "its supervisor does not start it again");
        assert!(gone.log().unwrap().contains("was removed from its cluster"), "{}", gone.log().unwrap());
        // Every node may stop and start again under the renewed transaction key, and is opened as before.
        for id in [1, 2, 4] {
            cluster.node_mut(id).unwrap().stop(READY_WITHIN).unwrap();
        }
        for id in [1, 2, 4] {
            cluster.restart(id).await.unwrap();
        }
        cluster.nodes.retain(|node| node.id() != 3);
        cluster.open().await.unwrap();
        create(&cluster, "tenants/default/keys/after-a-restart").await.unwrap();
    });
}

#[test]
fn the_lead_is_handed_over_and_a_living_leader_is_removed() {
    alone(async {
        let mut cluster = Cluster::start_open(3, "removed").await.unwrap();
        cluster.join(4).await.unwrap();
        operator(&cluster, &["promote", "4"]);
        cluster.settled("of four", |nodes| votes(nodes) == [1, 2, 3, 4]).await.unwrap();
        cluster.open().await.unwrap();
        let (first, _) = cluster.leader(None).await.unwrap();
        operator(&cluster, &["transfer-leader"]);
        let (leader, _) = cluster.leader(Some(first)).await.unwrap();
        // One does not hear of the removal, and is named.
        let away = (1..=4).find(|id| ![first, leader].contains(id)).unwrap();
        cluster.node_mut(away).unwrap().kill().unwrap();
        let said = operator(&cluster, &["remove", &leader.to_string()]);
        let unheard = format!("node {leader} is retired; not confirmed by {away}: until they hear of it");
        assert!(said.contains(&unheard), "{said}");
        let gone = cluster.node_mut(leader).unwrap();
        let (code, _) = gone.wait_end(Duration::from_secs(30)).unwrap();
        assert_eq!(code, 3, "its supervisor does not start it again");
        assert!(gone.log().unwrap().contains("was removed from its cluster"), "{}", gone.log().unwrap());
        cluster.nodes.retain(|node| node.id() != leader);
        create(&cluster, "tenants/default/keys/without-it").await.unwrap();
        cluster.restart(away).await.unwrap();
        cluster.open().await.unwrap();
        let left: Vec<u64> = (1..=4).filter(|id| *id != leader).collect();
        let status = cluster.settled("of three", |nodes| votes(nodes) == left).await.unwrap();
        assert_eq!(wanted(&status.nodes, leader), Some(MemberRole::Retired));
        assert!(operator(&cluster, &["remove", &leader.to_string()]).contains("is retired already"));
    });
}

#[test]
fn refuses_tickets_that_are_spent_and_changes_that_would_stop_the_cluster() {
    alone(async {
        let mut cluster = Cluster::start_open(3, "refuses").await.unwrap();
        let file = cluster.folder.join("again.ticket");
        assert!(refused(&cluster, &["join", "3", "--ticket", path(&file)]).contains("never used"));
        assert!(refused(&cluster, &["promote", "9"]).contains("no member"));
        cluster.join(4).await.unwrap();
        cluster.settled("joined", |nodes| wanted(nodes, 4).is_some()).await.unwrap();
        // The same ticket for another number, and once more on another disk.
        let spent = cluster.folder.join("node-4.ticket");
        cluster.newcomer(5).unwrap().ticket = Some(spent.clone());
        assert!(cluster.restart(5).await.unwrap_err().to_string().contains("it is for another number"));
        cluster.nodes.pop();
        let again = cluster.node_mut(4).unwrap();
        again.kill().unwrap();
        std::fs::remove_dir_all(&again.settings.data).unwrap();
        again.ticket = Some(spent);
        cluster.restart(4).await.unwrap();
        let stranger = cluster.node(4).unwrap();
        let log = loop {
            let log = stranger.log().unwrap();
            if log.contains("did not let this node in") {
                break log;
            }
            tokio::time::sleep(LOOK_EVERY).await;
        };
        assert!(log.contains("there is no such thing"), "{log}");
        cluster.nodes.pop();
        // Two of three are reached: without one more of them nothing could be decided.
        cluster.node_mut(2).unwrap().kill().unwrap();
        cluster.leader(Some(2)).await.unwrap();
        let said = refused(&cluster, &["remove", "3", "--wait", "5"]);
        assert!(said.contains("a majority of the voters can be reached"), "{said}");
        let operator = cluster.tool(&cluster.operator).run(&["operator", "remove", "4"]).unwrap();
        assert_ne!(operator.code, 0, "an operator is no administrator");
    });
}
