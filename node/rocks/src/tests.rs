//! The disk's promises, kept by a real one: whole batches, order, durability, views that stand still, one holder.

use crate::{FatalHook, OpenFailed, Rocks};
use claviger_world::disk::{Batch, Disk, Reading, Space};
use std::{fs, os::unix::fs::PermissionsExt, path::Path, path::PathBuf, process::Command, sync::Arc};
use tempfile::TempDir;

fn folder() -> TempDir {
    tempfile::tempdir().unwrap()
}

fn open(folder: &Path) -> Rocks {
    Rocks::open(folder, Box::new(|e| panic!("{e}"))).unwrap()
}

fn one(key: &str, value: &str) -> Batch {
    let mut b = Batch::default();
    b.put(Space::Records, key.to_owned(), value.to_owned());
    b
}

/// All pairs of a space as text.
fn told(disk: &dyn Reading, space: Space) -> Vec<String> {
    let pairs = disk.scan(space, b"", None, 1_000).unwrap();
    let text = |b: &[u8]| String::from_utf8_lossy(b).into_owned();
    pairs.iter().map(|(k, v)| format!("{}={}", text(k), text(v))).collect()
}

#[tokio::test]
async fn the_contract_of_every_disk_is_kept() {
    let folder = folder();
    claviger_world::contract::disk(|| Arc::new(open(folder.path()))).await;
}

#[tokio::test]
async fn batches_happen_in_the_order_of_the_calls_not_of_the_waiting() {
    let folder = folder();
    let disk = open(folder.path());
    let mut changes = Batch::default();
    changes.put(Space::Records, "a", "1").put(Space::Log, "a", "log").put(Space::Records, "b", "1");
    changes.delete_range(Space::Records, "a", "b").put(Space::Records, "c", "1").delete(Space::Records, "nothing");
    changes.delete_range(Space::Records, "z", "a");
    let first = disk.write(changes);
    let second = disk.write(one("b", "2"));
    drop(disk.write(one("d", "1"))); // dropping the future does not undo the batch
    second.await.unwrap();
    first.await.unwrap();
    disk.write(Batch::default()).await.unwrap();
    assert_eq!(told(&disk, Space::Records), ["b=2", "c=1", "d=1"]);
    assert_eq!(told(&disk, Space::Log), ["a=log"]);
    assert_eq!(disk.read(Space::Records, b"b").unwrap().as_deref(), Some(b"2".as_slice()));
    assert_eq!(disk.read(Space::Node, b"b").unwrap(), None);
}

#[tokio::test]
async fn scans_are_half_open_bounded_and_never_run_backwards() {
    let folder = folder();
    let disk = open(folder.path());
    for key in ["a", "b", "c"] {
        disk.write(one(key, "1")).await.unwrap();
    }
    let keys = |from: &str, to: Option<&str>, limit| {
        let pairs = disk.scan(Space::Records, from.as_bytes(), to.map(str::as_bytes), limit).unwrap();
        pairs.into_iter().map(|(k, _)| String::from_utf8(k.to_vec()).unwrap()).collect::<String>()
    };
    assert_eq!(keys("a", Some("c"), 9), "ab");
    assert_eq!(keys("b", None, 9), "bc");
    assert_eq!(keys("", None, 2), "ab");
    assert_eq!(keys("c", Some("a"), 9), "");
    assert_eq!(keys("aa", Some("aa"), 9), "");
}

#[tokio::test]
async fn a_pinned_view_never_changes_and_outlives_its_disk() {
    let folder = folder();
    let disk = open(folder.path());
    disk.write(one("a", "1")).await.unwrap();
    let view = disk.pin();
    disk.write(one("a", "2")).await.unwrap();
    let mut gone = Batch::default();
    gone.delete_range(Space::Records, "", "zz");
    disk.write(gone).await.unwrap();
    assert_eq!(told(&*view, Space::Records), ["a=1"]);
    assert_eq!(view.read(Space::Records, b"a").unwrap().as_deref(), Some(b"1".as_slice()));
    assert_eq!(told(&disk, Space::Records), [""; 0]);
    drop(disk);
    assert_eq!(told(&*view, Space::Records), ["a=1"]);
    let held = Rocks::open(folder.path(), Box::new(|_| ())).err();
    assert_eq!(held, Some(OpenFailed::Held { folder: folder.path().into() }), "the view still reads the folder");
    drop(view);
    open(folder.path());
}

#[tokio::test]
async fn two_writers_lose_nothing_and_each_sees_its_own() {
    let folder = folder();
    let disk = open(folder.path());
    let write = |who: &'static str| {
        let disk = &disk;
        async move {
            for n in 0..50 {
                let key = format!("{who}{n:02}");
                disk.write(one(&key, "1")).await.unwrap();
                assert!(disk.read(Space::Records, key.as_bytes()).unwrap().is_some());
            }
        }
    };
    tokio::join!(biased; write("a"), write("b"));
    assert_eq!(told(&disk, Space::Records).len(), 100);
}

#[tokio::test]
async fn refuses_a_second_holder() {
    let folder = folder();
    let disk = open(folder.path());
    let refused = Rocks::open(folder.path(), Box::new(|_| ())).err().unwrap();
    assert_eq!(refused, OpenFailed::Held { folder: folder.path().into() });
    assert!(refused.to_string().starts_with("another process has the data folder"), "{refused}");
    disk.write(one("a", "1")).await.unwrap();
    drop(disk);
    assert_eq!(told(&open(folder.path()), Space::Records), ["a=1"]);
}

#[tokio::test]
async fn the_folder_is_private() {
    let folder = folder();
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let disk = open(folder.path());
    disk.open("book").unwrap().append(b"x").unwrap();
    let mode = |path: PathBuf| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    for inner in ["", "tables", "files"] {
        assert_eq!(mode(folder.path().join(inner)), 0o700, "{inner}");
    }
    assert_eq!(mode(folder.path().join("files/book")), 0o600);
    assert_eq!(mode(folder.path().join("lock")), 0o600);
}

#[tokio::test]
async fn an_append_only_file_grows_is_cut_and_removed() {
    let folder = folder();
    let disk = open(folder.path());
    let book = disk.open("book").unwrap();
    let again = disk.open("book").unwrap();
    book.append(b"one").unwrap();
    again.append(b"two").unwrap();
    book.sync().await.unwrap();
    assert_eq!((book.len().unwrap(), again.len().unwrap()), (6, 6));
    assert_eq!(book.read_at(2, 2).unwrap(), b"et");
    assert_eq!(book.read_at(4, usize::MAX).unwrap(), b"wo");
    assert_eq!(book.read_at(99, 4).unwrap(), b"");
    book.cut(4).unwrap();
    book.cut(99).unwrap();
    book.append(b"!").unwrap();
    assert_eq!(again.read_at(0, 99).unwrap(), b"onet!");
    assert_eq!(disk.remove("book").unwrap_err().cause, "somebody has it open");
    drop((book, again));
    assert_eq!(disk.files().unwrap(), ["book"]);
    assert_eq!(disk.open("book").unwrap().len().unwrap(), 5);
    disk.remove("book").unwrap();
    assert_eq!(disk.files().unwrap(), [""; 0]);
    assert!(disk.open("../tables/CURRENT").is_err() && disk.remove("..").is_err());
}

/// Runs one ignored test of this file in a process of its own, under shell settings.
fn child(test: &str, folder: &Path, before: &str) -> std::process::Output {
    let this = std::env::current_exe().unwrap();
    let script = format!("{before}; exec \"$0\" --exact tests::{test} --ignored --nocapture");
    let mut command = Command::new("sh");
    command.arg("-c").arg(script).arg(this).env("CLAVIGER_TEST_FOLDER", folder);
    command.output().unwrap()
}

fn child_folder() -> PathBuf {
    std::env::var_os("CLAVIGER_TEST_FOLDER").expect("run by another test").into()
}

#[tokio::test]
#[ignore = "the child of what_was_acknowledged_survives_a_kill"]
async fn child_writes_until_it_is_killed() {
    let disk = open(&child_folder());
    for n in 0..500 {
        let mut both = one(&format!("{n:03}"), "1");
        both.put(Space::Log, format!("{n:03}"), "1");
        disk.write(both).await.unwrap();
    }
    drop(disk.write(one("not waited for", "1")));
    // Ends without a destructor, as SIGKILL does.
    rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL).unwrap();
}

#[tokio::test]
async fn what_was_acknowledged_survives_a_kill() {
    let folder = folder();
    let output = child("child_writes_until_it_is_killed", folder.path(), "true");
    assert_eq!(std::os::unix::process::ExitStatusExt::signal(&output.status), Some(9), "{output:?}");
    let disk = open(folder.path());
    assert_eq!(told(&disk, Space::Log).len(), 500);
    assert!(told(&disk, Space::Records).len() >= 500);
}

#[tokio::test]
#[ignore = "the child of refuses_to_go_on_when_the_disk_is_full"]
async fn child_fills_its_disk() {
    let hook: FatalHook = Box::new(|failure| eprintln!("fatal: {}", failure.doing));
    let disk = Rocks::open(&child_folder(), hook).unwrap();
    let book = disk.open("book").unwrap();
    let mut written = 0;
    while disk.write(one(&format!("{written:04}"), &"x".repeat(16 << 10))).await.is_ok() {
        written += 1;
    }
    assert!(disk.write(one("later", "1")).await.is_err(), "no write after one that failed");
    let whole = "y".repeat(40_000);
    let pages = (0..100).take_while(|_| book.append(whole.as_bytes()).is_ok()).count();
    assert_eq!(book.len().unwrap(), pages as u64 * 40_000, "a page that did not fit left nothing behind");
    book.cut(0).unwrap();
    book.append(b"fits again").unwrap();
    book.sync().await.unwrap();
    eprintln!("written: {written}");
}

#[tokio::test]
async fn refuses_to_go_on_when_the_disk_is_full() {
    let folder = folder();
    // No file may grow over 512 KiB (ulimit counts blocks of 512 bytes); the signal is ignored, so that writes fail.
    let output = child("child_fills_its_disk", folder.path(), "trap '' XFSZ; ulimit -f 1024");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{said}");
    assert_eq!(said.matches("fatal: writing a batch").count(), 1, "{said}");
    let written = said.split("written: ").nth(1).and_then(|n| n.trim().parse::<usize>().ok()).unwrap();
    assert!(written > 8, "{said}");

    let disk = open(folder.path());
    assert_eq!(told(&disk, Space::Records).len(), written, "all that was acknowledged, and nothing else");
    disk.write(one("room again", "1")).await.unwrap();
    assert_eq!(disk.open("book").unwrap().read_at(0, 99).unwrap(), b"fits again");
}

/// The write-ahead log that has something in it.
fn log_file(folder: &Path) -> PathBuf {
    let files = fs::read_dir(folder.join("tables")).unwrap().map(|f| f.unwrap().path());
    let mut logs: Vec<_> = files.filter(|f| f.extension().is_some_and(|e| e == "log")).collect();
    logs.sort();
    logs.into_iter().rfind(|f| fs::metadata(f).unwrap().len() > 0).unwrap()
}

async fn ten_batches(folder: &Path) {
    let disk = open(folder);
    for n in 0..10 {
        disk.write(one(&format!("{n}"), &"v".repeat(1_000))).await.unwrap();
    }
}

#[tokio::test]
async fn a_torn_end_of_the_log_is_forgotten_and_nothing_before_it() {
    let folder = folder();
    ten_batches(folder.path()).await;
    let log = log_file(folder.path());
    let bytes = fs::read(&log).unwrap();
    fs::write(&log, &bytes[..bytes.len() - 300]).unwrap();
    assert_eq!(told(&open(folder.path()), Space::Records).len(), 9);
}

#[tokio::test]
async fn refuses_a_log_that_is_damaged_before_its_end() {
    let folder = folder();
    ten_batches(folder.path()).await;
    let log = log_file(folder.path());
    let mut bytes = fs::read(&log).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&log, bytes).unwrap();
    let refused = Rocks::open(folder.path(), Box::new(|_| ())).err().unwrap();
    assert!(matches!(refused, OpenFailed::Damaged { .. }), "{refused}");
    assert!(refused.to_string().contains("do not repair it in place"), "{refused}");
}
