//! `clavigerd dev`: one process for trying the API. Its banner says how, and what it says works.

use claviger_jepsen::development::{Banner, READY_WITHIN, banner, start};
use claviger_jepsen::folder::Folder;
use std::time::Duration;

#[test]
fn dev_works_as_its_banner_says() {
    let folder = Folder::new("dev").unwrap();
    let data = folder.join("data");
    let mut process = start(&folder, &data).unwrap();
    let Banner { said, administrator, program } = banner(&folder, &mut process).unwrap();
    assert!(said.contains("DEVELOPMENT"), "the banner does not say what this is: {said}");
    administrator.must(&["key", "create", "first"]).unwrap();
    let sealed = program.run_with(&["encrypt", "--key", "first"], b"in confidence").unwrap();
    assert_eq!((sealed.code, sealed.stdout.len()), (0, 13 + 128), "{}", sealed.stderr);
    let opened = program.run_with(&["decrypt", "--key", "first"], &sealed.stdout).unwrap();
    assert_eq!((opened.code, &opened.stdout[..]), (0, &b"in confidence"[..]), "{}", opened.stderr);

    assert!(process.stop(Duration::from_secs(20)).unwrap().success());
    std::fs::remove_file(process.log()).unwrap();
    let mut again = start(&folder, &data).unwrap();
    let Banner { program, .. } = banner(&folder, &mut again).unwrap();
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
    let mut process = start(&folder, &data).unwrap();
    let ended = process.wait(READY_WITHIN).unwrap();
    assert_eq!(ended.code(), Some(1));
    let said = std::fs::read_to_string(process.log()).unwrap();
    assert!(said.contains(&*data.to_string_lossy()), "the folder is not named: {said}");
    let left: Vec<_> = std::fs::read_dir(&data).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert_eq!(left, ["letter.txt"], "something was put into a folder that is not its own");
    assert_eq!(std::fs::read(data.join("letter.txt")).unwrap(), b"somebody's");

    std::fs::remove_file(data.join("letter.txt")).unwrap();
    let mut valid = start(&folder, &data).unwrap();
    banner(&folder, &mut valid).unwrap();
    valid.kill().unwrap();
}
