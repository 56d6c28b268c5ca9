//! What callers read: the examples of the client library and of Python do what they say, against a real node.

use claviger_jepsen::development::{Banner, banner, start};
use claviger_jepsen::folder::Folder;
use claviger_jepsen::process::Process;
use claviger_jepsen::tool::{Tool, example};
use std::path::{Path, PathBuf};
use std::process::Command;

const KEY: &str = "tenants/default/keys/shown";
/// The one that has the modules which .ci/setup installs: another may come first on the path.
const PYTHON: &str = "/usr/bin/python3";

struct House {
    node: Process,
    administrator: Tool,
    program: Tool,
    folder: Folder,
}

/// A development node with a key.
fn house(name: &str) -> House {
    let folder = Folder::new(name).unwrap();
    let mut node = start(&folder, &folder.join("data")).unwrap();
    let Banner { administrator, program, .. } = banner(&folder, &mut node).unwrap();
    administrator.must(&["key", "create", "shown"]).unwrap();
    House { node, administrator, program, folder }
}

/// Runs a program as somebody; what it said, when it ended well.
fn said(who: &Tool, command: &mut Command) -> String {
    let out = who.surround(command).output().unwrap();
    let said = String::from_utf8_lossy(&out.stdout).into_owned();
    assert!(out.status.success(), "{command:?}: {said}\n{}", String::from_utf8_lossy(&out.stderr));
    said
}

fn shown(who: &Tool, name: &str, argument: &str) -> String {
    said(who, Command::new(example(name).unwrap()).arg(argument))
}

#[test]
fn examples_of_the_client_library_do_what_they_say() {
    let mut house = house("examples");
    let (administrator, program) = (&house.administrator, &house.program);
    let told = said(program, Command::new(example("encrypt").unwrap()).args([KEY, "in confidence"]));
    assert!(told.contains("opened: in confidence\n") && told.contains("without its context: refused"), "{told}");

    let told = shown(administrator, "keys", "twice");
    assert!(
        told.contains("version 2 encrypts now\n") && told.ends_with("another call for it: already_exists\n"),
        "{told}"
    );

    assert!(shown(program, "many", KEY).starts_with("1000 messages, "));

    let told = shown(program, "errors", KEY);
    for line in
        ["a good call: done\n", "ask otherwise (bad_name)", "ask otherwise (undecryptable)", "ask an administrator"]
    {
        assert!(told.contains(line), "{line:?} is not in {told}");
    }

    let told = shown(administrator, "freshness", KEY);
    assert_eq!(told.lines().count(), 3, "{told}");
    house.node.kill().unwrap();
}

/// Whether Python and what the example needs are here. Where everything must be, a lack is a failure.
fn python() -> bool {
    let missing = [
        (!Path::new(PYTHON).exists()).then_some("python3"),
        (!imports("grpc")).then_some("python3-grpcio"),
        (!imports("google.protobuf")).then_some("python3-protobuf"),
        (!Path::new("/usr/bin/protoc").exists()).then_some("protobuf-compiler"),
        (!Path::new("/usr/bin/grpc_python_plugin").exists()).then_some("protobuf-compiler-grpc"),
        (!Path::new("/usr/include/google/protobuf/timestamp.proto").exists()).then_some("libprotobuf-dev"),
    ];
    let missing: Vec<&str> = missing.into_iter().flatten().collect();
    assert!(missing.is_empty() || std::env::var("CI").as_deref() != Ok("true"), "CI=true, and there is no {missing:?}");
    if !missing.is_empty() {
        eprintln!("skipped: the Python example needs {}; `make setup` installs it", missing.join(", "));
    }
    missing.is_empty()
}

fn imports(module: &str) -> bool {
    Command::new(PYTHON).args(["-c", &format!("import {module}")]).output().is_ok_and(|out| out.status.success())
}

#[test]
fn the_python_example_does_what_it_says() {
    if !python() {
        return;
    }
    let mut house = house("python");
    let script: PathBuf = [env!("CARGO_MANIFEST_DIR"), "..", "client", "python", "example.py"].iter().collect();
    // Nothing is left beside it that a commit would find.
    let run = |who: &Tool, arguments: &[&str]| {
        said(who, Command::new(PYTHON).arg("-B").arg(&script).args(arguments).current_dir(house.folder.path()))
    };
    let told = run(&house.program, &[KEY]);
    assert!(told.starts_with("141 bytes under version 1, at revision "), "{told}");
    assert!(told.contains("opened: in confidence\nwithout its context: INVALID_ARGUMENT\n"), "{told}");

    let told = run(&house.administrator, &["--create", "tenants/default/keys/python"]);
    assert!(told.starts_with("made tenants/default/keys/python once, at revision "), "{told}");
    let opened = house.program.run_with(&["encrypt", "--key", "python"], b"x").unwrap();
    assert_eq!(opened.code, 0, "the key that Python made is there: {}", opened.stderr);
    house.node.kill().unwrap();
}
