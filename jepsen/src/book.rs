//! The audit book of a node, read offline as an auditor would.

use crate::cluster::Cluster;
use crate::pki::path;
use crate::trouble::{About, Told};
use std::path::{Path, PathBuf};

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
