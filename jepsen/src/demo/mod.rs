//! The story that `make demo` tells: a cluster from its founding to a killed leader and back, each claim checked.
//!
//! Everything is done as a person or a program would do it, with `claviger` and the client library; only the forged
//! share needs hands of its own, because the tool does not offer one.

mod ceremony;
mod ending;
mod failover;
mod keys;
pub mod report;
mod tale;

pub use failover::all_keys;
pub use tale::{Tale, say};

use crate::cluster::{CUSTODIANS, Cluster, THRESHOLD};
use crate::trouble::Told;
use report::Report;

/// What the steps of the story share.
pub struct Scene {
    /// The cluster that it is about.
    pub cluster: Cluster,
    /// Who tells it.
    pub tale: Tale,
    /// What programs will read.
    pub report: Report,
}

/// Tells the whole story. A failure says at which step.
pub async fn run(keep: bool) -> Told<()> {
    let mut tale = Tale::default();
    say("Claviger: three nodes on this machine keep keys together.");
    let cluster = nodes(&mut tale).await.inspect_err(|trouble| tale.failed(trouble))?;
    let mut scene = Scene { cluster, tale, report: Report::default() };
    let told = story(&mut scene, keep).await;
    if let Err(trouble) = &told {
        scene.tale.failed(trouble);
        leave_for_a_look(&scene, keep)?;
    }
    told
}

fn leave_for_a_look(scene: &Scene, keep: bool) -> Told<()> {
    if keep {
        scene.cluster.folder.keep()?;
        say(format_args!("KEEP=1: everything is left as it is in {}", scene.cluster.folder.path().display()));
    }
    Ok(())
}

async fn story(scene: &mut Scene, keep: bool) -> Told<()> {
    ceremony::found(scene).await?;
    ceremony::open(scene).await?;
    keys::create(scene).await?;
    keys::encrypt_a_file(scene)?;
    keys::rotate(scene)?;
    failover::kill_the_leader(scene).await?;
    failover::bring_it_back(scene).await?;
    keys::disable(scene).await?;
    scene.report.note_nodes(&scene.cluster);
    ending::books(scene, keep)?;
    ending::end(scene, keep)
}

async fn nodes(tale: &mut Tale) -> Told<Cluster> {
    tale.step("Three nodes start");
    let mut cluster = Cluster::prepare(3, "demo")?;
    let people = CUSTODIANS.join(", ");
    tale.tell(
        "two certificate authorities, one for callers and one between nodes; every node has a certificate of each",
    );
    tale.tell(format_args!(
        "five custodians made their own keys: {people}; any {THRESHOLD} of them can open the cluster"
    ));
    cluster.start_nodes().await?;
    for node in &cluster.nodes {
        let (id, address, pid) = (node.id(), node.address(), node.pid().unwrap_or_default());
        tale.tell(format_args!("node {id} listens on {address}, process {pid}"));
    }
    Ok(cluster)
}
