//! `clavigerd dev`: one process for trying the API. Its banner says how, and what it says works.

use claviger_jepsen::folder::Folder;
use claviger_jepsen::ports;
use claviger_jepsen::process::{LOOK_EVERY, Process};
use claviger_jepsen::tool::{Tool, binary};
use std::process::Command;
use std::time::{Duration, Instant};

const READY_WITHIN: Duration = Duration::from_secs(30);

fn dev(folder: &Folder, data: &std::path::Path) -> Process {
    let mut command = Command::new(binary("clavigerd").unwrap());
    command.arg("dev").arg("--data").arg(data).arg("--listen").arg(ports::free().unwrap().to_string());
    Process::start(folder, "dev", &mut command).unwrap()
}

/// What the banner says: the tool as the administrator, and as a program.
struct Banner {
    said: String,
    administrator: Tool,
    program: Tool,
}

/// The tool with every `export NAME=VALUE` of a part of the banner.
fn tool(folder: &Folder, part: &str) -> Tool {
    let exports = part.lines().filter_map(|l| l.trim().strip_prefix("export ")?.split_once('='));
    exports.fold(Tool::at_home(folder.path()), |tool, (name, value)| tool.with(name, value.trim_matches(['"', '\''])))
}

/// Reads the banner, as soon as a status call with what it says finds the node open.
fn banner(folder: &Folder, process: &mut Process) -> Banner {
    let started = Instant::now();
    loop {
        let said = std::fs::read_to_string(process.log()).unwrap();
        if let Some((first, second)) = said.split_once("As a program") {
            let (administrator, program) = (tool(folder, first), tool(folder, second));
            if program.exports().count() == 4 && program.run(&["operator", "status"]).unwrap().code == 0 {
                return Banner { administrator, program, said };
            }
        }
        assert!(process.ended().unwrap().is_none(), "it ended: {said}");
        assert!(started.elapsed() < READY_WITHIN, "not open in time: {said}");
        std::thread::sleep(LOOK_EVERY);
    }
}

#[test]
fn dev_works_as_its_banner_says() {
    let folder = Folder::new("dev").unwrap();
    let data = folder.join("data");
    let mut process = dev(&folder, &data);
    let Banner { said, administrator, program } = banner(&folder, &mut process);
    assert!(said.contains("DEVELOPMENT"), "the banner does not say what this is: {said}");
    administrator.must(&["key", "create", "first"]).unwrap();
    let sealed = program.run_with(&["encrypt", "--key", "first"], b"in confidence").unwrap();
    assert_eq!((sealed.code, sealed.stdout.len()), (0, 13 + 128), "{}", sealed.stderr);
    let opened = program.run_with(&["decrypt", "--key", "first"], &sealed.stdout).unwrap();
    assert_eq!((opened.code, &opened.stdout[..]), (0, &b"in confidence"[..]), "{}", opened.stderr);

    assert!(process.stop(Duration::from_secs(20)).unwrap().success());
    std::fs::remove_file(process.log()).unwrap();
    let mut again = dev(&folder, &data);
    let Banner { program, .. } = banner(&folder, &mut again);
    let opened = program.run_with(&["decrypt", "--key", "first"], &sealed.stdout).unwrap();
    assert_eq!(&opened.stdout[..], b"in confidence", "what was encrypted before a restart: {}", opened.stderr);
    again.kill().unwrap();
}

#[test]
fn refuses_a_data_folder_that_is_not_its_own() {
    let folder = Folder::new("foreign").unwrap();
    let data = folder.join("data");
    std::fs::create_dir(&data).unwrap();
    std::fs::write(data.join("letter.txt"), b"somebody's").unwrap();
    let mut process = dev(&folder, &data);
    let ended = process.wait(READY_WITHIN).unwrap();
    assert_eq!(ended.code(), Some(1));
    let said = std::fs::read_to_string(process.log()).unwrap();
    assert!(said.contains(&*data.to_string_lossy()), "the folder is not named: {said}");
    let left: Vec<_> = std::fs::read_dir(&data).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert_eq!(left, ["letter.txt"], "something was put into a folder that is not its own");
    assert_eq!(std::fs::read(data.join("letter.txt")).unwrap(), b"somebody's");

    std::fs::remove_file(data.join("letter.txt")).unwrap();
    let mut valid = dev(&folder, &data);
    banner(&folder, &mut valid);
    valid.kill().unwrap();
}
