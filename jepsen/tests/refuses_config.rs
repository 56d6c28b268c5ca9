//! Configurations with mistakes: named by file, line and key, all at once, before anything is touched.

use claviger_jepsen::cluster::Cluster;
use claviger_jepsen::stage::alone;
use claviger_jepsen::tool::binary;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Output};

fn clavigerd(verb: &str, config: &Path) -> Output {
    Command::new(binary("clavigerd").unwrap()).arg(verb).arg("--config").arg(config).output().unwrap()
}

/// `check` and `run` both refuse the text with these words, and no data folder appears.
fn refused(cluster: &Cluster, text: &str, words: &[&str]) {
    let node = &cluster.nodes[0];
    let file = node.config().with_file_name("bad.toml");
    std::fs::write(&file, text).unwrap();
    for verb in ["check", "run"] {
        let out = clavigerd(verb, &file);
        let said = String::from_utf8_lossy(&out.stderr).into_owned();
        assert_eq!(out.status.code(), Some(1), "{verb}: {said}");
        for word in words {
            assert!(said.contains(word), "{verb} does not say {word:?}: {said}");
        }
    }
    assert!(!node.settings.data.exists(), "a refused configuration made a data folder");
    let good = clavigerd("check", &node.config());
    assert_eq!(good.status.code(), Some(0), "{}", String::from_utf8_lossy(&good.stderr));
}

fn line_of(text: &str, part: &str) -> String {
    let number = text.lines().position(|l| l.contains(part)).unwrap() + 1;
    format!("bad.toml:{number}")
}

#[test]
fn refuses_a_configuration_with_a_typo() {
    alone(async {
        let cluster = Cluster::prepare(3, "config").unwrap();
        let good = cluster.nodes[0].settings.to_toml();
        let typo = good.replace("data_dir", "data_dri");
        refused(&cluster, &typo, &[&line_of(&typo, "data_dri"), "node.data_dri", "did you mean node.data_dir"]);
        let section = good.replace("[founders]", "[fuonders]");
        refused(&cluster, &section, &[&line_of(&section, "administrators = "), "did you mean founders.administrators"]);
        let kind = good.replace("id = 1", "id = \"one\"");
        refused(&cluster, &kind, &[&line_of(&kind, "id = \"one\""), "node.id", "a whole number"]);
        let syntax = good.replace("[listen]", "[listen");
        refused(&cluster, &syntax, &["bad.toml:", "not TOML"]);
        let two = good.replace("data_dir", "data_dri").replace("kind = \"custodians\"", "kind = \"nobody\"");
        refused(&cluster, &two, &["node.data_dri", "unseal.kind", "custodians, static"]);
        let variable = Command::new(binary("clavigerd").unwrap())
            .args(["check", "--config"])
            .arg(cluster.nodes[0].config())
            .env("CLAVIGERD_NODE_IDD", "2")
            .output()
            .unwrap();
        assert_eq!(variable.status.code(), Some(1));
        assert!(String::from_utf8_lossy(&variable.stderr).contains("CLAVIGERD_NODE_IDD"));
    });
}

#[test]
fn refuses_files_that_are_missing_or_readable_by_others() {
    alone(async {
        let cluster = Cluster::prepare(3, "files").unwrap();
        let good = cluster.nodes[0].settings.to_toml();
        let missing = good.replace("node-1.crt", "node-9.crt");
        refused(&cluster, &missing, &["node-9.crt"]);
        let key = &cluster.nodes[0].settings.callers.1.key;
        std::fs::set_permissions(key, PermissionsExt::from_mode(0o644)).unwrap();
        let file = cluster.nodes[0].config();
        for verb in ["check", "run"] {
            let out = clavigerd(verb, &file);
            let said = String::from_utf8_lossy(&out.stderr).into_owned();
            assert_eq!(out.status.code(), Some(1), "{verb}: {said}");
            assert!(said.contains("node-1.key"), "{verb} does not name the file: {said}");
        }
        std::fs::set_permissions(key, PermissionsExt::from_mode(0o600)).unwrap();
        assert_eq!(clavigerd("check", &file).status.code(), Some(0));
    });
}

#[test]
fn a_checked_configuration_shows_no_secret() {
    alone(async {
        let cluster = Cluster::prepare(3, "shown").unwrap();
        let out = clavigerd("check", &cluster.nodes[0].config());
        let shown = String::from_utf8_lossy(&out.stdout).into_owned();
        assert_eq!(out.status.code(), Some(0));
        assert!(shown.contains("node-1.key"), "the effective configuration names the key file: {shown}");
        let key = std::fs::read_to_string(&cluster.nodes[0].settings.callers.1.key).unwrap();
        let body = key.lines().nth(1).unwrap();
        assert!(!shown.contains(body), "the key itself is shown");
    });
}
