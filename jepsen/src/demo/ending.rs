//! The audit books are verified, and everything is ended or left running with a way to go on.

use super::{Scene, say};
use crate::cluster::Cluster;
use crate::pki::path;
use crate::trouble::{About, Told};
use std::path::{Path, PathBuf};
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

/// Verifies one node's book with the command line; answers its number of pages.
pub fn verify(cluster: &Cluster, id: u64) -> Told<u64> {
    let node = cluster.node(id)?;
    let files = book_files(&node.settings.data)?;
    let mut words = vec!["--output", "json", "audit", "verify", "--cert", path(&node.settings.peers.1.cert)];
    words.extend(files.iter().map(|f| path(f)));
    let verdict = cluster.tool(&cluster.auditor).must(&words)?.json()?;
    verdict["pages"].as_u64().about(format!("no number of pages in {verdict}"))
}

/// The files of a book, in order.
pub fn book_files(data: &Path) -> Told<Vec<PathBuf>> {
    let folder = data.join("files");
    let listed = std::fs::read_dir(&folder).about(folder.display())?;
    let mut files: Vec<_> = listed.filter_map(|f| Some(f.ok()?.path())).filter(|f| is_book(f)).collect();
    files.sort();
    Ok(files)
}

fn is_book(file: &Path) -> bool {
    file.file_name().is_some_and(|name| name.to_string_lossy().starts_with("audit"))
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
