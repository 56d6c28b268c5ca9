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

/// The tool with every `export NAME=VALUE` that the banner says, as soon as a status call says that the node is open.
fn tool_from_the_banner(folder: &Folder, process: &mut Process) -> (Tool, String) {
    let started = Instant::now();
    loop {
        let said = std::fs::read_to_string(process.log()).unwrap();
        let exports = said.lines().filter_map(|l| l.trim().strip_prefix("export ")?.split_once('='));
        let home = Tool::at_home(folder.path());
        let tool = exports.fold(home, |tool, (name, value)| tool.with(name, value.trim_matches(['"', '\''])));
        if tool.exports().count() >= 4 && tool.run(&["operator", "status"]).unwrap().code == 0 {
            return (tool, said);
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
    let (tool, said) = tool_from_the_banner(&folder, &mut process);
    assert!(said.to_lowercase().contains("development"), "the banner does not say what this is: {said}");
    tool.must(&["key", "create", "first"]).unwrap();
    let sealed = tool.run_with(&["encrypt", "--key", "first"], b"in confidence").unwrap();
    assert_eq!((sealed.code, sealed.stdout.len()), (0, 13 + 128), "{}", sealed.stderr);
    let opened = tool.run_with(&["decrypt", "--key", "first"], &sealed.stdout).unwrap();
    assert_eq!((opened.code, &opened.stdout[..]), (0, &b"in confidence"[..]), "{}", opened.stderr);

    assert!(process.stop(Duration::from_secs(20)).unwrap().success());
    let mut again = dev(&folder, &data);
    let (tool, _) = tool_from_the_banner(&folder, &mut again);
    let opened = tool.run_with(&["decrypt", "--key", "first"], &sealed.stdout).unwrap();
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
    tool_from_the_banner(&folder, &mut valid);
    valid.kill().unwrap();
}
