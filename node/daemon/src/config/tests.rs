//! Every refusal names its file, its line and its key.

use super::*;

const GOOD: &str = r#"[node]
id = 1
data_dir = "data"
cluster = "acme"
region = "north"
[tls.clients]
ca = "ca.pem"
cert = "/etc/claviger/server.pem"
key = "server.key"
[tls.peers]
ca = "peers.pem"
cert = "peer.pem"
key = "peer.key"
[peers]
1 = "10.0.0.1:7002"
2 = "node-2.example.org:7002"
3 = "[fd00::3]:7002"
[founders]
administrators = ["spiffe://acme.example/claviger/operator/root"]
"#;

fn read(text: &str, variables: &[(&str, &str)]) -> Result<Config, String> {
    let variables = variables.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect();
    Config::read(Path::new("/etc/d.toml"), text, variables).map_err(|m| m.to_string())
}

/// What is said of the good file with one line changed.
fn with(old: &str, new: &str) -> String {
    assert!(GOOD.contains(old), "{old}");
    read(&GOOD.replace(old, new), &[]).expect_err(new)
}

#[test]
fn a_short_file_has_sensible_defaults_and_paths_beside_it() {
    let config = read(GOOD, &[]).unwrap();
    assert_eq!(config.node.data_dir, Path::new("/etc/data"));
    assert_eq!(config.tls_clients.cert, Path::new("/etc/claviger/server.pem"));
    assert_eq!(config.peers[&NodeId(3)], "[fd00::3]:7002");
    assert_eq!((config.raft.heartbeat_ms, config.unseal.clone()), (100, Unseal::Custodians));
    assert!(config.listen.metrics.ip().is_loopback() && !config.listen.reflection);
}

#[test]
fn what_is_printed_reads_back_as_the_same() {
    let text = format!("{GOOD}[unseal]\nkind = \"static\"\nfile = \"slot.key\"\n[log]\nformat = \"json\"\n");
    let config = read(&text, &[]).unwrap();
    assert_eq!(read(&config.to_string(), &[]).unwrap(), config);
}

#[test]
fn the_environment_wins() {
    let variables = [
        ("CLAVIGERD_NODE_ID", "2"),
        ("CLAVIGERD_TLS_CLIENTS_KEY", "/run/key"),
        ("CLAVIGERD_PEERS_2", "10.0.0.2:1"),
        ("CLAVIGERD_LISTEN_REFLECTION", "true"),
        ("CLAVIGERD_FOUNDERS_ADMINISTRATORS", "spiffe://a/claviger/operator/x, spiffe://a/claviger/operator/y"),
    ];
    let config = read(GOOD, &variables).unwrap();
    assert_eq!((config.node.id, config.peers[&NodeId(2)].as_str()), (NodeId(2), "10.0.0.2:1"));
    assert_eq!(config.tls_clients.key, Path::new("/run/key"));
    assert_eq!((config.administrators.len(), config.listen.reflection), (2, true));
}

#[test]
fn refuses_a_typo_and_names_what_was_meant() {
    assert_eq!(
        with("data_dir", "datadir"),
        "/etc/d.toml:1: node.data_dir: missing; wanted a path\n\
        /etc/d.toml:3: node.datadir: no such key; did you mean node.data_dir?"
    );
    let raft = format!("{GOOD}[raft]\nheartbeat_ms = 100\nheartbaet_ms = 3\n");
    assert_eq!(
        read(&raft, &[]).unwrap_err(),
        "/etc/d.toml:22: raft.heartbaet_ms: no such key; did you mean raft.heartbeat_ms?"
    );
    assert_eq!(
        read(&format!("{GOOD}[limit]\n"), &[]).unwrap_err(),
        "/etc/d.toml:20: limit: no such section; did you mean limits?"
    );
    assert_eq!(read(&format!("xyzzyplugh = 1\n{GOOD}"), &[]).unwrap_err(), "/etc/d.toml:1: xyzzyplugh: no such key");
    let said = read(GOOD, &[("CLAVIGERD_NODE_IDD", "1")]).unwrap_err();
    assert_eq!(said, "environment variable CLAVIGERD_NODE_IDD: no such setting; did you mean CLAVIGERD_NODE_ID?");
}

#[test]
fn refuses_wrong_values_with_their_line_and_never_echoes_them() {
    for (old, new, said) in [
        ("id = 1", "id = 0", "/etc/d.toml:2: node.id: wanted a whole number from 1 to 4294967295"),
        ("id = 1", "id = -1", "/etc/d.toml:2: node.id: wanted a whole number from 1 to 4294967295"),
        ("id = 1", "id = \"1\"", "/etc/d.toml:2: node.id: wanted a whole number from 1 to 4294967295"),
        ("\"acme\"", "\"Acme\"", "/etc/d.toml:4: node.cluster: wanted a name: [a-z0-9][a-z0-9._-]{0,62}"),
        ("\"data\"", "\"\"", "/etc/d.toml:3: node.data_dir: wanted a path"),
        (
            "1 = \"10.0.0.1:7002\"",
            "1 = \"10.0.0.1\"",
            "/etc/d.toml:15: peers.1: wanted \"host:port\"\n\
            /etc/d.toml:14: peers: this node is missing: add 1 = \"host:port\"",
        ),
        (
            "2 = \"node-2.example.org:7002\"",
            "2 = \"10.0.0.1:7002\"",
            "/etc/d.toml:16: peers.2: another node has this address",
        ),
        (
            "2 = \"node-2",
            "02 = \"node-2",
            "/etc/d.toml:16: peers.02: wanted a node's number as the key, such as 1 = \"host:7002\"",
        ),
        ("3 = \"[fd00::3]:7002\"", "3 = 7", "/etc/d.toml:17: peers.3: wanted a text"),
        (
            "[\"spiffe://acme.example/claviger/operator/root\"]",
            "[]",
            "/etc/d.toml:19: founders.administrators: \
            name at least one: nobody else may found the cluster",
        ),
        (
            "/operator/root",
            "/king/root",
            "/etc/d.toml:19: founders.administrators: not a valid name; wanted one of \
            node, operator, custodian, service",
        ),
    ] {
        assert_eq!(with(old, new), said);
    }
    let said = read(GOOD, &[("CLAVIGERD_NODE_ID", "hunter2")]).unwrap_err();
    assert_eq!(said, "environment variable CLAVIGERD_NODE_ID: node.id: wanted a whole number from 1 to 4294967295");
}

#[test]
fn refuses_settings_that_do_not_go_together() {
    for (more, said) in [
        (
            "[raft]\nelection_min_ms = 150\n",
            "/etc/d.toml:21: raft.election_min_ms: wanted at least twice heartbeat_ms, else one lost heartbeat elects",
        ),
        (
            "[raft]\nelection_max_ms = 300\n",
            "/etc/d.toml:21: raft.election_max_ms: wanted a quarter more than election_min_ms at least, else votes split for ever",
        ),
        ("[unseal]\nkind = \"static\"\n", "/etc/d.toml:20: unseal.file: missing; wanted a path"),
        ("[unseal]\nfile = \"x\"\n", "/etc/d.toml:21: unseal.file: only kind = \"static\" has a file"),
        ("[unseal]\nkind = \"hsm\"\n", "/etc/d.toml:21: unseal.kind: wanted one of custodians, static"),
        (
            "[listen]\nmetrics = \"0.0.0.0:7003\"\n",
            "/etc/d.toml:21: listen.metrics: metrics are told without TLS or authentication, so only on a loopback address",
        ),
        (
            "[listen]\npeers = \"127.0.0.1:7001\"\n",
            "/etc/d.toml:21: listen.peers: clients, peers and metrics need an address each",
        ),
        ("[log]\nlevel = \"loud\"\n", "/etc/d.toml:21: log.level: wanted one of error, warn, info, debug, trace"),
        ("[limits]\nhandshakes = 0\n", "/etc/d.toml:21: limits.handshakes: wanted a whole number from 1 to 65536"),
    ] {
        assert_eq!(read(&format!("{GOOD}{more}"), &[]).unwrap_err(), said);
    }
}

#[test]
fn refuses_what_is_no_toml_and_a_file_that_is_not_there() {
    assert!(with("id = 1", "id = ").starts_with("/etc/d.toml:2: not TOML: "));
    assert!(with("region = \"north\"", "id = 2").starts_with("/etc/d.toml:5: not TOML: "));
    let said = Config::load(Path::new("/nowhere/d.toml")).unwrap_err().to_string();
    assert!(said.starts_with("/nowhere/d.toml: cannot be read: "), "{said}");
}

#[test]
fn the_three_hosts_differ_in_their_number_only() {
    let text = include_str!("../../../../deploy/three-hosts/clavigerd.toml");
    for env in [
        include_str!("../../../../deploy/three-hosts/node-1.env"),
        include_str!("../../../../deploy/three-hosts/node-2.env"),
        include_str!("../../../../deploy/three-hosts/node-3.env"),
    ] {
        let config = read(text, &[env.trim_end().split_once('=').unwrap()]).unwrap();
        assert!(config.peers[&config.node.id].starts_with(&format!("claviger-{}.", config.node.id)));
    }
    assert!(read(text, &[]).unwrap_err().contains("node.id: missing"));
}

#[test]
fn the_example_names_every_setting_and_is_valid() {
    let example = include_str!("../../../../deploy/clavigerd.example.toml");
    let config = read(example, &[]).unwrap();
    for line in config.to_string().lines().filter(|l| l.contains(" = ") && !l.starts_with(|c: char| c.is_ascii_digit()))
    {
        let key = line.split(" = ").next().unwrap();
        assert!(example.contains(&format!("\n{key} = ")) || example.contains(&format!("\n#{key} = ")), "{key}");
    }
}
