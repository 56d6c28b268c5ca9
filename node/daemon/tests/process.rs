//! The daemon as an operator meets it: a process, its files, its signals.

use rustix::process::{Pid, Signal, kill_process};
use std::{
    collections::BTreeSet,
    fs,
    io::{BufRead, BufReader, Read, Write},
    net::TcpStream,
    os::unix::fs::PermissionsExt,
    path::Path,
    process::{Child, Command, ExitStatus, Output, Stdio},
};
use tempfile::TempDir;

fn clavigerd(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_clavigerd"));
    command.args(arguments);
    command
}

fn output(arguments: &[&str]) -> Output {
    clavigerd(arguments).output().unwrap()
}

fn said(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// A running daemon; killed when a test fails before it is stopped.
struct Daemon {
    child: Child,
    lines: BufReader<Box<dyn Read>>,
}

impl Daemon {
    /// Starts it and reads what it says on its standard error.
    fn start(arguments: &[&str]) -> Daemon {
        let mut child = clavigerd(arguments).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let lines: Box<dyn Read> = Box::new(child.stderr.take().unwrap());
        Daemon { child, lines: BufReader::new(lines) }
    }

    /// Reads on until a line has the text in it.
    fn until(&mut self, text: &str) -> String {
        let mut all = String::new();
        loop {
            let before = all.len();
            let n = self.lines.read_line(&mut all).unwrap();
            assert!(n > 0, "ended without saying {text:?}:\n{all}");
            if all[before..].contains(text) {
                return all[before..].to_owned();
            }
        }
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    fn stop(mut self, signal: Signal) -> ExitStatus {
        self.signal(signal);
        self.until("node has stopped");
        self.child.wait().unwrap()
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // Ended already, or about to.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The value of a field in a line of the log.
fn field(line: &str, name: &str) -> String {
    let plain: String = strip_colours(line);
    let rest = plain.split(&format!("{name}=")).nth(1).unwrap_or_else(|| panic!("{name} in {plain}"));
    rest.split_whitespace().next().unwrap().to_owned()
}

fn strip_colours(line: &str) -> String {
    let mut plain = String::new();
    let mut rest = line;
    while let Some((before, after)) = rest.split_once('\u{1b}') {
        plain.push_str(before);
        rest = after.split_once('m').map_or("", |(_, r)| r);
    }
    plain + rest
}

fn scraped(address: &str) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.write_all(b"GET /metrics HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

/// Holds docs/metrics.md to a scrape, and the other way round: names and types.
fn are_on_the_page(scrape: &str) {
    // Told only once there is something to tell: a request, a barrier, a peer to lead.
    let later = ["claviger_requests_total", "claviger_barrier_age_seconds", "claviger_raft_peer_lag_entries"];
    let told: BTreeSet<_> = scrape.lines().filter_map(|line| line.strip_prefix("# TYPE ")).map(series).collect();
    let page = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/metrics.md")).unwrap();
    let rows = page.lines().filter_map(|line| line.strip_prefix("| `")).filter_map(|row| row.split_once("` | "));
    let kind = |rest: &str| rest.split(' ').next().unwrap_or_default().to_owned();
    let listed = rows.map(|(name, rest)| (name.to_owned(), kind(rest)));
    let listed: BTreeSet<_> =
        listed.filter(|(name, _)| name.contains("claviger_") || name.contains("process_")).collect();
    let missing: Vec<_> = told.difference(&listed).collect();
    assert!(told.len() > 20 && missing.is_empty(), "not in docs/metrics.md: {missing:?}");
    let gone: Vec<_> = listed.difference(&told).filter(|(name, _)| !later.contains(&name.as_str())).collect();
    assert!(gone.is_empty(), "in docs/metrics.md, and no longer told: {gone:?}");
}

/// Name and type of a metric, as Prometheus stores it, from a line of OpenMetrics.
fn series(line: &str) -> (String, String) {
    let (name, kind) = line.split_once(' ').unwrap();
    let suffix = match kind {
        "counter" => "_total",
        "info" => "_info",
        _ => "",
    };
    (format!("{name}{suffix}"), kind.to_owned())
}

/// A folder that a development node was started in once, so that it has certificates.
fn lived_in() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("dev");
    let mut daemon = Daemon::start(&["dev", "--data", data.to_str().unwrap(), "--listen", "127.0.0.1:0"]);
    daemon.until("node is up");
    assert!(daemon.stop(Signal::TERM).success());
    folder
}

/// A configuration of an ordinary node on those certificates.
fn configured(folder: &Path) -> String {
    let file = folder.join("clavigerd.toml");
    let text = "[node]\nid = 1\ndata_dir = \"data\"\ncluster = \"acme\"\nregion = \"north\"\n\
        [listen]\nclients = \"127.0.0.1:0\"\npeers = \"127.0.0.1:0\"\nmetrics = \"127.0.0.1:0\"\n\
        [tls.clients]\nca = \"dev/tls/callers-ca.pem\"\ncert = \"dev/tls/server.pem\"\nkey = \"dev/tls/server.key\"\n\
        [tls.peers]\nca = \"dev/tls/peers-ca.pem\"\ncert = \"dev/tls/peer.pem\"\nkey = \"dev/tls/peer.key\"\n\
        [peers]\n1 = \"127.0.0.1:7002\"\n\
        [founders]\nadministrators = [\"spiffe://dev.claviger/claviger/operator/me\"]\n";
    fs::write(&file, text).unwrap();
    file.to_str().unwrap().to_owned()
}

#[test]
fn a_development_node_opens_itself_and_starts_again() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("dev");
    let arguments = ["dev", "--data", data.to_str().unwrap(), "--listen", "127.0.0.1:0"];
    for signal in [Signal::TERM, Signal::INT] {
        let mut daemon = Daemon::start(&arguments);
        let up = daemon.until("node is up");
        let metrics = scraped(&field(&up, "metrics"));
        assert!(metrics.contains("claviger_tls_certificate_expiry_seconds{certificate=\"tls.peers\"} "), "{metrics}");
        assert!(metrics.contains("\nclaviger_connections_open{listener=\"clients\"} 0\n"), "{metrics}");
        are_on_the_page(&metrics);
        assert!(metrics.contains("\nclaviger_disk_free_bytes ") && metrics.ends_with("# EOF\n"), "{metrics}");
        let second = output(&arguments);
        assert_eq!(second.status.code(), Some(1));
        assert!(said(&second.stderr).contains("another process has the data folder"), "{}", said(&second.stderr));
        let env = fs::read_to_string(data.join("env")).unwrap();
        assert!(env.contains(&format!("CLAVIGER_ADDR={}", field(&up, "clients"))), "{env}");
        assert!(daemon.stop(signal).success());
    }
}

#[test]
fn refuses_to_develop_in_a_folder_of_something_else() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("thesis.tex"), "chapter").unwrap();
    let refused = output(&["dev", "--data", folder.path().to_str().unwrap()]);
    assert_eq!(refused.status.code(), Some(1));
    assert!(said(&refused.stderr).contains("in use for something else"), "{}", said(&refused.stderr));
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
}

#[test]
fn refuses_a_bad_configuration_by_file_line_and_key_and_runs_the_mended_one() {
    let folder = lived_in();
    let file = configured(folder.path());
    let check = || output(&["check", "--config", &file]);
    let good = check();
    assert!(good.status.success(), "{}", said(&good.stderr));
    assert!(said(&good.stdout).contains("[raft]\nheartbeat_ms = 100\n"));
    assert!(said(&good.stdout).contains("# tls.peers: the certificate expires at "));

    let text = fs::read_to_string(&file).unwrap();
    fs::write(&file, text.replace("cluster =", "clutser =")).unwrap();
    for verb in ["check", "run"] {
        let refused = output(&[verb, "--config", &file]);
        assert_eq!(refused.status.code(), Some(1));
        let said = said(&refused.stderr);
        assert!(said.contains(&format!("{file}:4: node.clutser: no such key; did you mean node.cluster?")), "{said}");
    }
    fs::write(&file, text).unwrap();

    let key = folder.path().join("dev/tls/peer.key");
    fs::set_permissions(&key, fs::Permissions::from_mode(0o640)).unwrap();
    for verb in ["check", "run"] {
        let refused = output(&[verb, "--config", &file]);
        assert_eq!(refused.status.code(), Some(1));
        let said = said(&refused.stderr);
        assert!(said.contains("peer.key: can be read by others"), "{said}");
    }
    assert!(!folder.path().join("data").exists(), "nothing was touched");
    fs::set_permissions(&key, fs::Permissions::from_mode(0o600)).unwrap();

    let mut daemon = Daemon::start(&["run", "--config", &file]);
    daemon.until("node is up");
    daemon.signal(Signal::HUP);
    daemon.until("certificates read again");
    fs::write(folder.path().join("dev/tls/server.pem"), "torn").unwrap();
    daemon.signal(Signal::HUP);
    daemon.until("the old ones stay");
    assert!(daemon.stop(Signal::TERM).success());
}

#[test]
fn the_process_is_hardened() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("dev");
    let mut daemon = Daemon::start(&["dev", "--data", data.to_str().unwrap(), "--listen", "127.0.0.1:0"]);
    daemon.until("node is up");
    let proc = format!("/proc/{}", daemon.child.id());
    let status = fs::read_to_string(format!("{proc}/status")).unwrap();
    assert!(status.contains("Umask:\t0077") && status.contains("NoNewPrivs:\t1"), "{status}");
    let limits = fs::read_to_string(format!("{proc}/limits")).unwrap();
    let core = limits.lines().find(|l| l.starts_with("Max core file size")).unwrap();
    assert_eq!(core.split_whitespace().nth(4), Some("0"), "{core}");
    for file in ["slot.key", "tls/me.key", "data/lock"] {
        assert_eq!(fs::metadata(data.join(file)).unwrap().permissions().mode() & 0o077, 0, "{file}");
    }
    assert!(daemon.stop(Signal::TERM).success());
}

#[test]
fn the_release_is_printed() {
    let printed = output(&["version"]);
    assert_eq!(said(&printed.stdout), format!("clavigerd {}\n", env!("CARGO_PKG_VERSION")));
}
