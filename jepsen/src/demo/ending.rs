//! The audit books are verified, and everything is ended or left running with a way to go on.

use super::{Scene, say};
use crate::book::verify;
use crate::trouble::Told;
use std::path::Path;
use std::time::Duration;

const STOP_WITHIN: Duration = Duration::from_secs(20);

/// Every node's book verifies offline, against the certificate that the node is known by.
pub fn books(scene: &mut Scene, keep: bool) -> Told<()> {
    scene.tale.step("The audit books are verified");
    if !keep {
        for node in &mut scene.cluster.nodes {
            node.stop(STOP_WITHIN)?;
        }
        scene.tale.tell("all nodes stopped gracefully; the books are read offline");
    }
    for id in 1..=3 {
        let pages = verify(&scene.cluster, id)?;
        scene.tale.check(pages > 0, format_args!("node {id}: {pages} pages, none missing, none changed"))?;
    }
    Ok(())
}

/// Writes the report and says what to try next.
pub fn end(scene: &mut Scene, keep: bool) -> Told<()> {
    scene.report.seconds = scene.tale.seconds();
    let written = scene.report.write()?;
    let (gaps, seconds) = (&scene.report.gaps, scene.report.seconds);
    say(format_args!(
        "\nAll of it held, in {seconds:.0} s. Without a leader: {:.0} ms until the next encryption, {:.0} ms until the next key. \
         Details: {}",
        gaps.encrypt_ms,
        gaps.create_ms,
        written.display()
    ));
    if keep { leave(scene) } else { farewell() }
}

fn farewell() -> Told<()> {
    say("Nothing is left running. Next: `KEEP=1 make demo` leaves the cluster for you; README.md has a tour by hand.");
    Ok(())
}

fn leave(scene: &Scene) -> Told<()> {
    scene.cluster.folder.keep()?;
    say("\nKEEP=1: the nodes go on running. To go on by hand:");
    for line in scene.cluster.tool(&scene.cluster.administrator).exports() {
        say(format_args!("  {line}"));
    }
    let binary = crate::tool::binary("claviger")?;
    say(format_args!("  export PATH={}:$PATH", binary.parent().unwrap_or(Path::new(".")).display()));
    say("  claviger operator status");
    let pids: Vec<_> = scene.report.nodes.iter().map(|n| n.pid.to_string()).collect();
    say(format_args!("To end it: kill {}", pids.join(" ")));
    say(format_args!("and, when they have ended: rm -r {}", scene.cluster.folder.path().display()));
    Ok(())
}
