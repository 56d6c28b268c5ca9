//! House rules that Cargo cannot see: a search over the sources of the node and the client.

use std::fs;
use std::path::{Path, PathBuf};

/// Every Rust source below `folder`, by its path from the top of the workspace.
fn sources(folder: &str) -> Vec<(String, String)> {
    let top = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().unwrap();
    let mut found = Vec::new();
    walk(&top.join(folder), &mut found);
    let named = |path: &PathBuf| path.strip_prefix(&top).unwrap().to_string_lossy().into_owned();
    found.iter().map(|path| (named(path), fs::read_to_string(path).unwrap())).collect()
}

fn walk(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            walk(&path, found);
        } else if path.extension().is_some_and(|e| e == "rs") {
            found.push(path);
        }
    }
}

/// Lines with `word` outside the places that may have it.
fn strays(folders: &[&str], word: &str, may: &[&str]) -> Vec<String> {
    let files = folders.iter().flat_map(|folder| sources(folder));
    let foreign = files.filter(|(path, _)| !may.iter().any(|place| path.starts_with(place)));
    foreign
        .flat_map(|(path, text)| {
            let code = text.lines().enumerate().filter(|(_, line)| !line.trim_start().starts_with("//"));
            let hits: Vec<_> = code.filter(|(_, line)| line.contains(word)).map(|(i, _)| i + 1).collect();
            hits.into_iter().map(move |line| format!("{path}:{line}"))
        })
        .collect()
}

#[test]
fn secrets_come_out_in_few_places() {
    let may = [
        "node/core/",
        "node/server/src/keyring/",
        "node/server/src/seal/",
        // A decrypted plaintext on its way to its caller.
        "node/server/src/api/words/crypto.rs",
        // The static key on its way from the configuration into the slot.
        "node/server/src/node.rs",
        // Key files: read, written by a development node, and compared in tests.
        "node/daemon/src/tls/",
        "node/daemon/src/dev.rs",
        "node/server/tests/house.rs",
    ];
    assert_eq!(strays(&["node"], ".expose", &may), Vec::<String>::new());
}

#[test]
fn few_rooms_speak_grpc() {
    let may = ["node/server/src/api/", "node/server/src/node.rs", "node/daemon/", "node/server/tests/house.rs"];
    assert_eq!(strays(&["node"], "tonic::", &may), Vec::<String>::new());
}

#[test]
fn only_the_ledger_names_openraft() {
    // And the log filter, as a source of lines.
    assert_eq!(
        strays(
            &["node", "client"],
            "openraft",
            &["node/ledger/", "node/daemon/src/logs.rs", "node/server/tests/house.rs"]
        ),
        Vec::<String>::new()
    );
}

#[test]
fn an_rpc_is_a_straight_line() {
    for word in [" if ", " match ", " for ", " while ", "loop {"] {
        for room in ["audit", "cluster", "crypto", "keys", "roles", "seal"] {
            let path = format!("node/server/src/api/{room}.rs");
            let hits: Vec<_> =
                strays(&["node/server/src/api"], word, &[]).into_iter().filter(|h| h.starts_with(&path)).collect();
            // `impl X for Door` is no loop.
            let hits: Vec<_> = hits.into_iter().filter(|h| !is_impl(h)).collect();
            assert_eq!(hits, Vec::<String>::new(), "{word:?}");
        }
    }
}

fn is_impl(hit: &str) -> bool {
    let (path, line) = hit.rsplit_once(':').unwrap();
    let text = sources("node/server/src/api").into_iter().find(|(p, _)| p == path).unwrap().1;
    text.lines().nth(line.parse::<usize>().unwrap() - 1).unwrap().starts_with("impl ")
}
