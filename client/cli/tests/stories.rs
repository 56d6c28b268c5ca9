//! The command line as a program: what it prints, what it writes, and how it ends.

#![allow(missing_docs, reason = "tests")]

#[path = "../../tests/fake/mod.rs"]
mod fake;

use claviger_client::v1::SealState;
use fake::{Node, Pki, Script, always};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::Arc;
use tonic::Status;

/// A caller's home: certificate, configuration, and nodes to ask.
struct Home {
    pki: Pki,
    caller: (PathBuf, PathBuf),
}

impl Home {
    fn new() -> Self {
        let pki = Pki::new();
        let caller = pki.issue("caller", &["spiffe://example.org/claviger/service/app"], 4000);
        Home { pki, caller }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.pki.folder.path().join(name)
    }

    fn node(&self, number: u64, state: SealState, script: Script) -> Node {
        let uri = format!("spiffe://example.org/claviger/node/{number}");
        Node::start(&self.pki, &self.pki.issue(&format!("node{number}"), &[&uri], 4000), state, script)
    }

    /// A run without anything of the tester's own environment.
    fn bare(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_claviger"));
        command.args(arguments).env_clear().env("HOME", self.pki.folder.path()).current_dir(self.pki.folder.path());
        command
    }

    fn run(&self, nodes: &[&Node], arguments: &[&str]) -> Output {
        let addresses: Vec<String> = nodes.iter().map(|n| n.address.to_string()).collect();
        let mut command = self.bare(arguments);
        command.env("CLAVIGER_ADDR", addresses.join(",")).env("CLAVIGER_CA", self.pki.ca());
        command.env("CLAVIGER_CERT", &self.caller.0).env("CLAVIGER_KEY_FILE", &self.caller.1);
        command.env("CLAVIGER_DEADLINE_MS", "2000").stdin(Stdio::null());
        command.output().unwrap()
    }
}

fn code(output: &Output) -> i32 {
    output.status.code().unwrap()
}

fn out(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn err(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

#[test]
fn status_ends_with_0_when_open_2_when_sealed_1_when_nobody_answers() {
    let home = Home::new();
    let open = home.node(1, SealState::Open, always(|| Ok(1)));
    let sealed = home.node(2, SealState::Sealed, always(|| Ok(1)));
    let unfounded = home.node(3, SealState::Uninitialized, always(|| Ok(1)));
    let status = ["operator", "status"];
    assert_eq!(code(&home.run(&[&open], &status)), 0);
    assert_eq!(code(&home.run(&[&sealed], &status)), 2);
    assert_eq!(code(&home.run(&[&unfounded], &status)), 2);
    assert_eq!(code(&home.run(&[&open, &sealed], &status)), 2);
    let (address, gone) = (sealed.address, sealed);
    drop(gone);
    let mut command = home.bare(&["operator", "status", "--addr", &format!("{},{address}", open.address)]);
    command
        .env("CLAVIGER_CA", home.pki.ca())
        .env("CLAVIGER_CERT", &home.caller.0)
        .env("CLAVIGER_KEY_FILE", &home.caller.1);
    let partly = command.output().unwrap();
    assert_eq!(code(&partly), 0, "{}", err(&partly));
    assert!(out(&partly).contains("cannot be reached"));
    drop(open);
    let nobody = command.output().unwrap();
    assert_eq!(code(&nobody), 1);
    assert!(err(&nobody).contains("next: check --addr"), "{}", err(&nobody));
}

#[test]
fn status_as_json_is_one_value() {
    let home = Home::new();
    let node = home.node(1, SealState::Open, always(|| Ok(4)));
    let told: serde_json::Value =
        serde_json::from_slice(&home.run(&[&node], &["operator", "status", "--output", "json"]).stdout).unwrap();
    assert_eq!(told["endpoints"][0]["seal"]["state"], "open");
    assert_eq!(told["cluster"]["nodes"][0]["role"], "leader");
    assert_eq!(told["cluster"]["revision"], 4);
}

#[test]
fn a_file_goes_there_and_back() {
    let home = Home::new();
    let node = home.node(1, SealState::Open, always(|| Ok(1)));
    std::fs::write(home.path("letter"), b"in confidence").unwrap();
    let sealed = home.run(&[&node], &["encrypt", "--key", "invoices", "letter", "-o", "letter.clav"]);
    assert_eq!((code(&sealed), out(&sealed)), (0, String::new()), "{}", err(&sealed));
    assert_eq!(std::fs::metadata(home.path("letter.clav")).unwrap().len(), 13 + 128);
    let opened = home.run(&[&node], &["decrypt", "--key", "invoices", "letter.clav", "-o", "back"]);
    assert_eq!(code(&opened), 0);
    assert_eq!(std::fs::read(home.path("back")).unwrap(), b"in confidence");
    assert_eq!(mode(&home.path("back")), 0o600);
    let piped = home.run(&[&node], &["decrypt", "--key", "invoices", "letter.clav"]);
    assert_eq!(piped.stdout, b"in confidence");
}

#[test]
fn files_are_encrypted_anew_in_place_and_a_bad_one_is_named() {
    use std::os::unix::fs::PermissionsExt;
    let home = Home::new();
    let node = home.node(1, SealState::Open, always(|| Ok(1)));
    let old = |n: u8| vec![n; 200];
    for n in 0..120 {
        std::fs::write(home.path(&format!("{n}.clav")), old(n)).unwrap();
    }
    std::fs::set_permissions(home.path("0.clav"), PermissionsExt::from_mode(0o600)).unwrap();
    let names: Vec<String> = (0..120).map(|n| format!("{n}.clav")).collect();
    let words = |more: &[&'static str]| -> Vec<&str> {
        let start = ["reencrypt", "--key", "k", "--in-place"].into_iter();
        start.chain(names.iter().map(String::as_str)).chain(more.iter().copied()).collect()
    };
    let done = home.run(&[&node], &words(&[]));
    assert_eq!((code(&done), out(&done).trim()), (0, "120 files encrypted anew"), "{}", err(&done));
    assert_eq!(node.count("BatchReEncrypt"), 2);
    assert_eq!(std::fs::read(home.path("119.clav")).unwrap(), [b"new ", &old(119)[..]].concat());
    assert_eq!(mode(&home.path("0.clav")), 0o600);
    std::fs::write(home.path("bad.clav"), b"short").unwrap();
    let some = home.run(&[&node], &words(&["absent.clav", "bad.clav"]));
    assert_eq!(code(&some), 1);
    for wanted in ["2 of 122 files", "absent.clav: No such file", "bad.clav: refused: the ciphertext does not open"] {
        assert!(err(&some).contains(wanted), "{}", err(&some));
    }
    assert_eq!(std::fs::read(home.path("bad.clav")).unwrap(), b"short");
    assert_eq!(std::fs::read(home.path("7.clav")).unwrap(), [b"new new ", &old(7)[..]].concat());
    let one = home.run(&[&node], &["reencrypt", "--key", "k", "1.clav", "-o", "one.clav"]);
    assert_eq!((code(&one), node.count("ReEncrypt")), (0, 1), "{}", err(&one));
    assert!(home.path("one.clav").exists());
}

fn mode(path: &Path) -> u32 {
    use std::os::unix::fs::PermissionsExt;
    std::fs::metadata(path).unwrap().permissions().mode() & 0o777
}

/// The files in a home that have not come to their place.
fn parts(home: &Home) -> Vec<String> {
    let names = std::fs::read_dir(home.pki.folder.path()).unwrap();
    let names = names.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    names.filter(|name| name.ends_with(".part")).collect()
}

#[test]
fn what_is_longer_than_a_message_goes_as_a_stream() {
    let home = Home::new();
    let node = home.node(1, SealState::Open, always(|| Ok(1)));
    for (bytes, rpc, more) in
        [(65_536, "Encrypt", 128), (65_537, "EncryptStream", 112), (1_000_000, "EncryptStream", 112)]
    {
        let before = node.count(rpc);
        std::fs::write(home.path("long"), vec![1; bytes]).unwrap();
        let sealed = home.run(&[&node], &["encrypt", "--key", "k", "long", "-o", "long.clav"]);
        assert_eq!((code(&sealed), err(&sealed)), (0, String::new()), "no bar where nobody looks");
        assert_eq!(node.count(rpc), before + 1);
        assert_eq!(std::fs::metadata(home.path("long.clav")).unwrap().len(), (bytes + more) as u64);
        assert_eq!(code(&home.run(&[&node], &["decrypt", "--key", "k", "long.clav", "-o", "back"])), 0);
        assert_eq!(std::fs::read(home.path("back")).unwrap(), vec![1; bytes]);
        assert_eq!(mode(&home.path("back")), 0o600);
        let piped = home.run(&[&node], &["decrypt", "--key", "k", "--quiet", "long.clav"]);
        assert_eq!((code(&piped), piped.stdout.len()), (0, bytes));
    }
    assert_eq!(parts(&home), [""; 0]);
}

#[test]
fn a_stream_that_breaks_off_leaves_what_was_there() {
    let home = Home::new();
    let node = home.node(1, SealState::Open, always(|| Ok(1)));
    std::fs::write(home.path("long"), [vec![1; 655_360], vec![b'!']].concat()).unwrap();
    std::fs::write(home.path("out"), b"before").unwrap();
    let failed = home.run(&[&node], &["encrypt", "--key", "k", "long", "-o", "out"]);
    assert_eq!(code(&failed), 1);
    assert!(err(&failed).contains("the key is disabled") && err(&failed).contains("begin anew"), "{}", err(&failed));
    assert_eq!(std::fs::read(home.path("out")).unwrap(), b"before");
    assert_eq!(parts(&home), [""; 0]);
    let piped = home.run(&[&node], &["encrypt", "--key", "k", "long"]);
    assert_eq!(code(&piped), 1);
    assert!(err(&piped).contains("throw it away"), "{}", err(&piped));
}

/// Waits until a child has written something beside its place.
fn until_a_part_is_there(home: &Home) {
    let started = std::time::Instant::now();
    while parts(home).is_empty() {
        assert!(started.elapsed().as_secs() < 20, "no part in time");
        std::thread::yield_now();
    }
}

#[test]
fn whoever_is_interrupted_clears_away() {
    let home = Home::new();
    let node = home.node(1, SealState::Open, always(|| Ok(1)));
    for signal in ["-INT", "-TERM"] {
        let mut command = home.bare(&["encrypt", "--key", "k", "-o", "out"]);
        command.env("CLAVIGER_ADDR", node.address.to_string()).env("CLAVIGER_CA", home.pki.ca());
        command.env("CLAVIGER_CERT", &home.caller.0).env("CLAVIGER_KEY_FILE", &home.caller.1);
        command.stdin(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        // The pipe stays open: its end never comes.
        let mut stdin = child.stdin.take().unwrap();
        std::io::Write::write_all(&mut stdin, &[1; 100_000]).unwrap();
        until_a_part_is_there(&home);
        assert!(Command::new("kill").args([signal, &child.id().to_string()]).status().unwrap().success());
        let ended = child.wait_with_output().unwrap();
        assert_eq!(code(&ended), 1, "{}", err(&ended));
        assert_eq!((parts(&home).len(), home.path("out").exists()), (0, false));
    }
}

#[test]
fn refuses_to_encrypt_anew_what_is_longer_than_a_message() {
    let home = Home::new();
    let node = home.node(1, SealState::Open, always(|| Ok(1)));
    std::fs::write(home.path("long"), vec![1; 65_665]).unwrap();
    let refused = home.run(&[&node], &["reencrypt", "--key", "k", "long", "-o", "new"]);
    assert_eq!((code(&refused), home.path("new").exists()), (1, false));
    assert!(err(&refused).contains("decrypt it and encrypt it anew"), "{}", err(&refused));
    let no_such_thing = home.run(&[&node], &["decrypt", "--key", "k", "long", "-o", "new"]);
    assert!(err(&no_such_thing).contains("is not what claviger encrypt made"), "{}", err(&no_such_thing));
    assert!(node.calls().is_empty());
}

#[test]
fn a_failed_decryption_leaves_what_was_there() {
    let home = Home::new();
    let refused: Script = Arc::new(|_, _| {
        Err(Status::invalid_argument("refused: the ciphertext cannot be decrypted with this key and context"))
    });
    let node = home.node(1, SealState::Open, refused);
    std::fs::write(home.path("in"), vec![0; 200]).unwrap();
    std::fs::write(home.path("out"), b"before").unwrap();
    let failed = home.run(&[&node], &["decrypt", "--key", "k", "in", "-o", "out"]);
    assert_eq!(code(&failed), 1);
    assert_eq!(err(&failed), "claviger: refused: the ciphertext cannot be decrypted with this key and context\n");
    assert_eq!(std::fs::read(home.path("out")).unwrap(), b"before");
    assert_eq!(node.calls().len(), 1);
}

#[test]
fn a_sealed_cluster_ends_with_2_and_says_who_must_act() {
    let home = Home::new();
    let node = home.node(1, SealState::Sealed, always(|| Err(sealed())));
    let refused = home.run(&[&node], &["key", "rotate", "invoices"]);
    assert_eq!(code(&refused), 2, "{}", err(&refused));
    assert!(err(&refused).contains("custodian offer"), "{}", err(&refused));
}

/// UNAVAILABLE with `google.rpc.ErrorInfo { reason: "sealed" }`, encoded by hand.
fn sealed() -> Status {
    let url = b"type.googleapis.com/google.rpc.ErrorInfo";
    let info = [&[0x0a, 6][..], b"sealed"].concat();
    let any = [&[0x0a, url.len() as u8][..], url, &[0x12, info.len() as u8], &info].concat();
    let details = [&[0x08, 14, 0x1a, any.len() as u8][..], &any].concat();
    Status::with_details(
        tonic::Code::Unavailable,
        "unavailable: the node is sealed; custodians must open it",
        details.into(),
    )
}

#[test]
fn sealing_wants_one_node_or_all() {
    let home = Home::new();
    let (one, two) = (home.node(1, SealState::Open, always(|| Ok(1))), home.node(2, SealState::Open, always(|| Ok(1))));
    let vague = home.run(&[&one, &two], &["operator", "seal"]);
    assert_eq!(code(&vague), 1);
    assert!(err(&vague).contains("which node?") && one.calls().is_empty() && two.calls().is_empty());
    assert_eq!(code(&home.run(&[&two], &["operator", "seal"])), 0);
    assert_eq!(two.calls()[0].rpc, "SealNode");
    assert_eq!(code(&home.run(&[&one, &two], &["operator", "seal", "--all"])), 0);
}

#[test]
fn the_environment_and_the_file_are_read() {
    let home = Home::new();
    let node = home.node(1, SealState::Open, always(|| Ok(1)));
    let lines = format!(
        "addr = \"{}\"\nca = \"ca.crt\"\ncert = \"caller.crt\"\nkey_file = \"caller.key\"\nkey = \"k\"\n",
        node.address
    );
    std::fs::create_dir_all(home.path(".config/claviger")).unwrap();
    let config = home.path(".config/claviger/config.toml");
    std::fs::write(&config, lines.replace("\"c", "\"../../c")).unwrap();
    std::fs::write(home.path("x"), b"x").unwrap();
    let from_file = home.bare(&["encrypt", "x", "-o", "y"]).output().unwrap();
    assert_eq!(code(&from_file), 0, "{}", err(&from_file));
    let environment_first =
        home.bare(&["encrypt", "x", "-o", "y"]).env("CLAVIGER_ADDR", "127.0.0.1:1").output().unwrap();
    assert_eq!(code(&environment_first), 1);
    assert!(err(&environment_first).contains("127.0.0.1:1"));
    let option_first = home.bare(&["--addr", &node.address.to_string(), "encrypt", "x", "-o", "y"]);
    let option_first = { option_first }.env("CLAVIGER_ADDR", "127.0.0.1:1").output().unwrap();
    assert_eq!(code(&option_first), 0, "{}", err(&option_first));
    std::fs::write(&config, "adr = \"x\"\n").unwrap();
    let mistaken = home.bare(&["version"]).output().unwrap();
    assert_eq!(code(&mistaken), 1);
    assert!(err(&mistaken).contains("config.toml:1: `adr`"), "{}", err(&mistaken));
}

#[test]
fn a_usage_error_ends_with_1_and_help_with_0() {
    let home = Home::new();
    assert_eq!(code(&home.bare(&["no-such-verb"]).output().unwrap()), 1);
    assert_eq!(code(&home.bare(&["key", "create"]).output().unwrap()), 1);
    assert_eq!(code(&home.bare(&["--help"]).output().unwrap()), 0);
    let version = home.bare(&["version", "--output", "json"]).output().unwrap();
    assert_eq!(out(&version), format!("{{\"version\":\"{}\"}}\n", env!("CARGO_PKG_VERSION")));
    for shell in ["bash", "zsh", "fish"] {
        let script = home.bare(&["completions", shell]).output().unwrap();
        assert!(code(&script) == 0 && out(&script).contains("claviger"));
    }
}

/// Certificates and custodians' files as a newcomer makes them, and a node found by the certificate that was made.
#[test]
fn certificates_made_here_serve_here() {
    let home = Home::new();
    let ok = |line: &str| {
        let output = home.bare(&line.split(' ').collect::<Vec<_>>()).output().unwrap();
        assert_eq!(code(&output), 0, "{line}: {}", err(&output));
        out(&output)
    };
    ok("cert create-ca --out pki");
    ok("cert issue --ca pki --out pki/node1 --domain example.org --kind node --name 1 --ip 127.0.0.1");
    ok("cert issue --ca pki --out pki/me --domain example.org --kind operator --name me");
    let made = ok("custodian keygen --name spiffe://example.org/claviger/custodian/alice --out keys");
    assert!(!made.contains("AGE-SECRET-KEY"), "no secret is printed");
    assert_eq!(mode(&home.path("keys/alice.custodian")), 0o600);
    assert!(ok("custodian show keys/alice.custodian.pub").contains("age1"));
    assert!(!ok("custodian show keys/alice.custodian").contains("AGE-SECRET-KEY"));
    let pki = Pki { folder: tempfile::tempdir().unwrap(), ..Pki::new() };
    std::fs::copy(home.path("pki/ca.crt"), pki.ca()).unwrap();
    let node =
        Node::start(&pki, &(home.path("pki/node1.crt"), home.path("pki/node1.key")), SealState::Open, always(|| Ok(1)));
    let address = node.address.to_string();
    let tls = ["--tls-ca", "pki/ca.crt", "--tls-cert", "pki/me.crt", "--tls-key", "pki/me.key", "--addr", &address];
    let status = home.bare(&[&["operator", "status"][..], &tls].concat()).output().unwrap();
    assert_eq!(code(&status), 0, "{}", err(&status));
}
