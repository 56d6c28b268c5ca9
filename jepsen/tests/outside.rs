//! The demo's claims, seen from outside. Its report is only where to look: this test finds the processes itself, asks
//! the nodes itself, kills by process id itself, and computes the gaps from the clients' journals by itself.

use claviger_client::{Client, Config, Files};
use claviger_jepsen::demo::report::Report;
use claviger_jepsen::load::{self, Worker};
use claviger_jepsen::pki::{Credentials, uri};
use claviger_jepsen::process::kill;
use claviger_jepsen::stage::alone;
use claviger_jepsen::tool::binary;
use claviger_jepsen::wire::Line;
use claviger_proto::v1::{CreateKeyRequest, GetClusterStatusRequest, GetClusterStatusResponse, SealState};
use rustix::process::Signal;
use std::collections::BTreeMap;
use std::net::SocketAddrV4;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use tempfile::TempDir;

const WITHIN: Duration = Duration::from_secs(20);
const LONGEST_GAP_MS: f64 = 15_000.0;

/// What the demo left running. Dropped, it is ended, and removed with everything else that the demo made.
struct Left {
    home: TempDir,
    folder: PathBuf,
    addresses: BTreeMap<u64, SocketAddrV4>,
    processes: BTreeMap<u64, u32>,
}

impl Drop for Left {
    fn drop(&mut self) {
        for pid in processes(self.home.path()).into_values() {
            kill(pid, Signal::KILL).ok();
        }
    }
}

impl Left {
    fn credentials(&self, kind: &str, name: &str) -> Credentials {
        let file = |end: &str| self.folder.join(format!("ca-callers/{kind}-{name}.{end}"));
        Credentials { cert: file("crt"), key: file("key") }
    }

    fn ca(&self) -> PathBuf {
        self.folder.join("ca-callers/ca.crt")
    }

    fn client(&self, who: Credentials) -> Client {
        let addresses: Vec<_> = self.addresses.values().map(ToString::to_string).collect();
        let files = Files { ca: self.ca(), cert: who.cert, key: who.key };
        Client::new(&Config::new(addresses.join(",").parse().unwrap(), files)).unwrap()
    }

    async fn status(&self, node: u64) -> Option<GetClusterStatusResponse> {
        let who = self.credentials("operator", "olga");
        let line = Line::open(self.addresses[&node], &self.ca(), Some(&who)).await.ok()?;
        Some(line.cluster().get_cluster_status(GetClusterStatusRequest {}).await.ok()?.into_inner())
    }

    /// Leader and term, once all these nodes agree on a leader among them.
    async fn agreed(&self, nodes: &[u64]) -> (u64, u64) {
        let started = Instant::now();
        while started.elapsed() < WITHIN {
            let mut said = Vec::new();
            for node in nodes {
                said.extend(self.status(*node).await.map(|s| (s.leader, s.term)));
            }
            if said.len() == nodes.len() && nodes.contains(&said[0].0) && said.iter().all(|s| *s == said[0]) {
                return said[0];
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        panic!("the nodes {nodes:?} do not agree on a leader");
    }
}

/// Whether that process is a clavigerd whose configuration lies in that folder.
fn is_ours(pid: u32, folder: &Path) -> bool {
    let read = |what: &str| std::fs::read(format!("/proc/{pid}/{what}")).unwrap_or_default();
    let words = String::from_utf8_lossy(&read("cmdline")).into_owned();
    words.contains("clavigerd") && words.contains(&*folder.to_string_lossy())
}

/// Every clavigerd on this machine whose configuration lies in that folder, by its node's number.
fn processes(folder: &Path) -> BTreeMap<u64, u32> {
    let pids = std::fs::read_dir("/proc").unwrap().filter_map(|e| e.ok()?.file_name().to_str()?.parse::<u32>().ok());
    let node = |pid: u32| {
        let words = std::fs::read(format!("/proc/{pid}/cmdline")).ok()?;
        let words = String::from_utf8_lossy(&words).into_owned();
        let (_, rest) = words.split_once("/node-")?;
        Some((rest.split('/').next()?.parse().ok()?, pid))
    };
    pids.filter(|pid| is_ours(*pid, folder)).filter_map(node).collect()
}

/// Where a node listens for callers, out of its own configuration file.
fn address(folder: &Path, node: u64) -> SocketAddrV4 {
    let text = std::fs::read_to_string(folder.join(format!("node-{node}/clavigerd.toml"))).unwrap();
    let line = text.lines().find_map(|l| l.strip_prefix("clients = ")).unwrap();
    line.trim_matches('"').parse().unwrap()
}

/// Runs it in a folder of ours, so that whatever it leaves can be found, even when it fails.
fn run_the_demo() -> (Report, Left) {
    let home = tempfile::tempdir().unwrap();
    let mut left = Left { home, folder: PathBuf::new(), addresses: BTreeMap::new(), processes: BTreeMap::new() };
    let mut demo = Command::new(binary("claviger-demo").unwrap());
    let home = left.home.path();
    let out = demo.env("KEEP", "1").env("CARGO_TARGET_DIR", home).env("TMPDIR", home).output().unwrap();
    let told = String::from_utf8_lossy(&out.stdout).into_owned();
    assert!(out.status.success(), "the demo failed: {told}\n{}", String::from_utf8_lossy(&out.stderr));
    let written = std::fs::read(home.join("demo.json")).unwrap();
    let report: Report = serde_json::from_slice(&written).unwrap();
    left.folder = report.folder.clone();
    left.processes = processes(&left.folder);
    left.addresses = left.processes.keys().map(|node| (*node, address(&left.folder, *node))).collect();
    (report, left)
}

/// One line of a journal, read without the harness's own words for it.
fn successes(journal: &Path) -> Vec<(u64, String)> {
    let text = std::fs::read_to_string(journal).unwrap();
    let lines = text.lines().map(|l| serde_json::from_str::<serde_json::Value>(l).unwrap());
    let good = lines.filter(|l| l["ok"].as_bool().unwrap());
    good.map(|l| (l["answered_us"].as_u64().unwrap(), l["what"].as_str().unwrap().to_owned())).collect()
}

/// The longest silence that touches the time after the kill, in milliseconds.
fn silence_ms(journal: &Path, killed_us: u64) -> f64 {
    let times: Vec<u64> = successes(journal).into_iter().map(|(at, _)| at).collect();
    assert!(times.iter().any(|t| *t < killed_us), "no success before the kill");
    let mut longest = None;
    for (earlier, later) in times.iter().zip(&times[1..]) {
        if *later > killed_us {
            longest = longest.max(Some(later - earlier));
        }
    }
    longest.expect("no success after the kill") as f64 / 1000.0
}

#[test]
fn the_demo_holds_when_seen_from_outside() {
    alone(async {
        let (report, mut left) = run_the_demo();
        the_report_agrees_with_what_is_there(&report, &left).await;
        a_leader_killed_by_us_is_survived(&mut left).await;
        let (folder, pids) = (left.folder.clone(), left.processes.clone());
        drop(left);
        assert!(!folder.exists());
        assert!(processes(&folder).is_empty(), "something of {pids:?} still runs");
    });
}

/// A demo whose nodes do not work ends with a non-zero status, says at which step, and leaves nothing behind.
#[test]
fn the_demo_says_where_it_failed() {
    let home = tempfile::tempdir().unwrap();
    let beside = |name: &str| home.path().join(name);
    for name in ["claviger-demo", "claviger"] {
        std::fs::copy(binary(name).unwrap(), beside(name)).unwrap();
    }
    std::fs::write(beside("clavigerd"), "#!/bin/sh\nexit 1\n").unwrap();
    std::fs::set_permissions(beside("clavigerd"), PermissionsExt::from_mode(0o755)).unwrap();
    std::fs::create_dir(beside("tmp")).unwrap();
    let mut demo = Command::new(beside("claviger-demo"));
    let out =
        demo.env("CARGO_TARGET_DIR", home.path()).env("TMPDIR", beside("tmp")).env_remove("KEEP").output().unwrap();
    let told = String::from_utf8_lossy(&out.stdout).into_owned();
    assert_eq!(out.status.code(), Some(1), "{told}");
    assert!(told.contains("FAILED at step 1"), "{told}");
    assert!(!beside("demo.json").exists(), "a story that failed has no report");
    assert_eq!(std::fs::read_dir(beside("tmp")).unwrap().count(), 0, "something is left");
}

async fn the_report_agrees_with_what_is_there(report: &Report, left: &Left) {
    assert_eq!(left.processes.len(), 3, "three processes run: {:?}", left.processes);
    for node in &report.nodes {
        assert_eq!(left.processes.get(&node.id), Some(&node.pid), "node {}", node.id);
        assert_eq!(left.addresses[&node.id].to_string(), node.address);
    }
    let killed = &report.killed;
    assert!(!is_ours(killed.pid, &left.folder), "the killed process runs");
    assert_ne!(left.processes[&killed.node], killed.pid, "the killed node has another process now");
    assert_eq!((report.before.node, report.before.node != report.after.node), (killed.node, true));
    let (_, term) = left.agreed(&[1, 2, 3]).await;
    assert!(report.before.term < report.after.term && report.after.term <= term, "terms only rise");
    for (journal, told) in
        [(&report.gaps.encrypt_journal, report.gaps.encrypt_ms), (&report.gaps.create_journal, report.gaps.create_ms)]
    {
        let ours = silence_ms(journal, killed.at_us);
        assert!((ours - told).abs() < 0.01 && ours < LONGEST_GAP_MS, "told {told} ms, found {ours} ms");
    }
    all_there(left, &report.gaps.create_journal).await;
}

/// Every key whose creation the journal says was acknowledged can be read.
async fn all_there(left: &Left, journal: &Path) {
    let admin = left.client(left.credentials("operator", "root"));
    let acknowledged = successes(journal);
    assert!(!acknowledged.is_empty());
    for (_, name) in acknowledged {
        admin.get_key(&name).await.unwrap_or_else(|e| panic!("{name} was acknowledged and is lost: {e}"));
    }
}

async fn a_leader_killed_by_us_is_survived(left: &mut Left) {
    let all = [1, 2, 3];
    let (leader, term) = left.agreed(&all).await;
    let (encrypting, creating) = clients(left).await;
    encrypting.more(20).await.unwrap();
    creating.more(20).await.unwrap();

    let at_us = u64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_micros()).unwrap();
    let pid = left.processes.remove(&leader).unwrap();
    assert!(is_ours(pid, &left.folder));
    kill(pid, Signal::KILL).unwrap();

    let survivors: Vec<u64> = all.into_iter().filter(|n| *n != leader).collect();
    let (next, next_term) = left.agreed(&survivors).await;
    assert!(next != leader && next_term > term, "leader {leader} of term {term}, then {next} of {next_term}");
    encrypting.more(20).await.unwrap();
    creating.more(20).await.unwrap();
    let (encrypted, created) = (encrypting.stop().await.unwrap(), creating.stop().await.unwrap());
    for journal in [&encrypted, &created] {
        let gap = silence_ms(journal, at_us);
        assert!(gap < LONGEST_GAP_MS, "{}: {gap} ms without a success", journal.display());
    }
    all_there(left, &created).await;
    for node in survivors {
        let status = left.status(node).await.unwrap();
        let own = status.nodes.iter().find(|n| n.node == node).unwrap();
        assert_eq!((own.state(), Some(&own.pid)), (SealState::Open, left.processes.get(&node)));
    }
}

async fn clients(left: &Left) -> (Worker, Worker) {
    const KEY: &str = "tenants/default/keys/outside";
    let admin = left.client(left.credentials("operator", "root"));
    admin.create_key(CreateKeyRequest { name: KEY.into(), ..Default::default() }).await.unwrap();
    let service = left.client(left.credentials("service", "billing"));
    assert_eq!(service.identity(), uri("service", "billing"));
    let journal = |name| left.folder.join(format!("logs/outside-{name}.jsonl"));
    let encrypting = load::keep_encrypting(service, KEY, &journal("encrypting")).unwrap();
    let creating = load::keep_creating(admin, "tenants/default/keys/outside-", &journal("creating")).unwrap();
    (encrypting, creating)
}
