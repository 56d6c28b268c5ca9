//! Founding, and the opening with shares of which one is forged and one comes twice.

use super::Scene;
use crate::ceremony::{Guest, flipped, open_share};
use crate::cluster::{CUSTODIANS, Cluster, THRESHOLD};
use crate::trouble::{About, Told};
use crate::wire::{Refusal, refusal};
use claviger_proto::v1::{OfferShareResponse, SealState};
use tonic::{Code, Status};

/// Founds the cluster. Every node is sealed afterwards.
pub async fn found(scene: &mut Scene) -> Told<()> {
    scene.tale.step("The cluster is founded");
    scene.cluster.found()?;
    let shares = std::fs::read_dir(scene.cluster.folder.join("shares"))?.count();
    scene.tale.same(&shares, &CUSTODIANS.len(), "five share files, each encrypted to its custodian")?;
    let status = scene.cluster.settled("founded", |nodes| nodes.iter().all(|n| n.state() == SealState::Sealed)).await?;
    let lineage: String = status.lineage.iter().take(8).map(|b| format!("{b:02x}")).collect();
    scene.tale.check(status.lineage.len() == 32, format_args!("lineage {lineage}..; all three nodes are sealed"))
}

/// Opens it: a forged share and a duplicate are refused by name, three true ones open all nodes.
pub async fn open(scene: &mut Scene) -> Told<()> {
    scene.tale.step("Custodians open it");
    let (ben, cleo) = (&scene.cluster.custodians[1], &scene.cluster.custodians[2]);
    offered(scene, 0)?;

    let forged = Guest::arrive(&scene.cluster, 1, ben).await?;
    let share = flipped(&open_share(ben, &scene.cluster.share(ben))?)?;
    let said = forged.offer(&share).await?;
    named(scene, said, &ben.uri(), "a forged share (one bit flipped) is refused, and its bearer named")?;

    let again = Guest::arrive(&scene.cluster, 1, &scene.cluster.custodians[0]).await?;
    let share = open_share(&scene.cluster.custodians[0], &scene.cluster.share(&scene.cluster.custodians[0]))?;
    named(scene, again.offer(&share).await?, &scene.cluster.custodians[0].uri(), "a share offered twice is refused")?;

    offered(scene, 1)?;
    sealed_still(&scene.cluster, scene).await?;
    scene.tale.tell(format_args!("{} brings the third share", cleo.name));
    offered(scene, 2)?;
    all_open(scene).await
}

/// One custodian offers their true share to node 1 with the command line.
fn offered(scene: &Scene, number: usize) -> Told<()> {
    let custodian = &scene.cluster.custodians[number];
    let ran = custodian.offer(scene.cluster.node(1)?.address(), &scene.cluster.share(custodian))?;
    let what = format_args!("{}: share {} of {THRESHOLD} accepted", custodian.name, number + 1);
    scene.tale.check(ran.code == 0, what).about(ran.stderr.trim())
}

fn named(scene: &Scene, said: Result<OfferShareResponse, Status>, who: &str, what: &str) -> Told<()> {
    let message = said.as_ref().err().map(|s| s.message().to_owned()).unwrap_or_default();
    let wanted: Option<Refusal> = Some((Code::InvalidArgument, "share".into()));
    scene.tale.same(&refusal(said), &wanted, what)?;
    scene.tale.check(message.contains(who), format_args!("the node says: {message}"))
}

async fn sealed_still(cluster: &Cluster, scene: &Scene) -> Told<()> {
    let status = cluster.status().await?;
    let open = status.nodes.iter().filter(|n| n.state() == SealState::Open).count();
    scene.tale.same(&open, &0, format_args!("with {} true shares every node is still sealed", THRESHOLD - 1))
}

async fn all_open(scene: &Scene) -> Told<()> {
    let open = |nodes: &[claviger_proto::v1::NodeStatus]| nodes.iter().all(|n| n.state() == SealState::Open);
    let status = scene.cluster.settled("open", open).await?;
    scene.tale.same(&status.nodes.len(), &3, "the shares went to node 1; all three nodes are open")
}
