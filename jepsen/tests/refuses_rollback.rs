//! Disks that hold less than they once did: put back from a copy, whole or in part, or with a damaged mark. The node ends,
//! says why, and votes on nothing; with its own disk it is back.

use claviger_client::v1::CreateKeyRequest;
use claviger_jepsen::cluster::Cluster;
use claviger_jepsen::load;
use claviger_jepsen::stage::{WITNESS, alone, create, decrypt_as, encrypt, valid_calls};
use claviger_proto::v1::SealState;
use claviger_rocks::Rocks;
use claviger_world::disk::{Batch, Disk, Reading, Space};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

const ENDS_WITHIN: Duration = Duration::from_secs(20);
/// Status of a node that must not be started again before people have looked.
const FOR_PEOPLE: i32 = 3;
/// Whose disk it is.
const VICTIM: u64 = 3;

async fn opened(purpose: &str) -> Cluster {
    let mut cluster = Cluster::prepare(3, purpose).unwrap();
    cluster.start_nodes().await.unwrap();
    cluster.found().unwrap();
    cluster.open().await.unwrap();
    cluster.give_roles().await.unwrap();
    create(&cluster, WITNESS).await.unwrap();
    cluster
}

/// The victim's folder.
fn data(cluster: &Cluster) -> PathBuf {
    cluster.node(VICTIM).unwrap().settings.data.clone()
}

fn copy(from: &Path, to: &Path) {
    let copied = Command::new("cp").arg("-a").arg(from).arg(to).status().unwrap();
    assert!(copied.success(), "{} was not copied", from.display());
}

/// Puts one folder in another's place; answers where that one is now.
fn exchange(place: &Path, other: &Path) -> PathBuf {
    let aside = place.with_extension("aside");
    std::fs::rename(place, &aside).unwrap();
    std::fs::rename(other, place).unwrap();
    aside
}

/// Ten more keys, with or without the victim.
async fn goes_on(cluster: &Cluster, word: &str) {
    let client = load::client(cluster, &cluster.administrator).unwrap();
    for number in 0..10 {
        let name = format!("tenants/default/keys/{word}-{number}");
        client.create_key(CreateKeyRequest { name, ..Default::default() }).await.unwrap();
    }
}

/// Starts the victim, which must end by itself and say all of this.
fn ends_saying(cluster: &mut Cluster, words: &[&str]) {
    let folder = &cluster.folder;
    let node = cluster.nodes.iter_mut().find(|node| node.id() == VICTIM).unwrap();
    let said_before = node.log().unwrap().len();
    node.start(folder).unwrap();
    let (code, log) = node.wait_end(ENDS_WITHIN).unwrap();
    assert_eq!(code, FOR_PEOPLE, "{log}");
    for word in words {
        assert!(log[said_before..].contains(word), "the refusal does not say {word:?}: {}", &log[said_before..]);
    }
}

/// Starts the victim on its own disk, for a moment. A copy was started as often, so that who heard of the copy's last start
/// refuses this one, which has the same number; the next one has not.
async fn counts_past_the_copy(cluster: &mut Cluster) {
    let _refused = cluster.restart(VICTIM).await;
    // It may have ended by itself.
    let _ended = cluster.node_mut(VICTIM).unwrap().kill();
}

async fn is_back(cluster: &mut Cluster, sealed: &[u8]) {
    assert_eq!(cluster.restart(VICTIM).await.unwrap(), SealState::Sealed, "with its own disk it is back");
    cluster.open().await.unwrap();
    assert_eq!(decrypt_as(cluster, VICTIM, &cluster.service, WITNESS, sealed).await.unwrap(), b"before");
    valid_calls(cluster).await.unwrap();
}

#[test]
fn refuses_an_old_copy_of_its_own_disk() {
    alone(async {
        let mut cluster = opened("old-copy").await;
        let sealed = encrypt(&cluster, 1, WITNESS, b"before").await.unwrap();
        let (own, old) = (data(&cluster), data(&cluster).with_extension("old"));
        cluster.node_mut(VICTIM).unwrap().kill().unwrap();
        copy(&own, &old);
        cluster.restart(VICTIM).await.unwrap();
        cluster.open().await.unwrap();
        goes_on(&cluster, "with").await;
        cluster.node_mut(VICTIM).unwrap().kill().unwrap();

        let aside = exchange(&own, &old);
        ends_saying(
            &mut cluster,
            &["this disk went back in time", "knows; put the right disk back, or replace the node"],
        );
        goes_on(&cluster, "without").await;
        ends_saying(&mut cluster, &["this disk went back in time"]);

        std::fs::remove_dir_all(&own).unwrap();
        std::fs::rename(aside, &own).unwrap();
        counts_past_the_copy(&mut cluster).await;
        is_back(&mut cluster, &sealed).await;
    });
}

#[test]
fn refuses_tables_that_are_older_than_their_mark() {
    alone(async {
        let mut cluster = opened("old-tables").await;
        let sealed = encrypt(&cluster, 1, WITNESS, b"before").await.unwrap();
        let (own, old) = (data(&cluster).join("tables"), data(&cluster).with_extension("old"));
        cluster.node_mut(VICTIM).unwrap().kill().unwrap();
        copy(&own, &old);
        cluster.restart(VICTIM).await.unwrap();
        cluster.node_mut(VICTIM).unwrap().kill().unwrap();

        let aside = exchange(&own, &old);
        ends_saying(&mut cluster, &["this disk went back in time", "its mark says"]);
        std::fs::remove_dir_all(&own).unwrap();
        std::fs::rename(aside, &own).unwrap();
        is_back(&mut cluster, &sealed).await;
    });
}

/// The audit book's files.
fn book(folder: &Path) -> Vec<PathBuf> {
    let files = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    files.filter(|path| path.file_name().unwrap().to_string_lossy().starts_with("audit-")).collect()
}

fn move_all(files: &[PathBuf], to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    files.iter().for_each(|file| std::fs::rename(file, to.join(file.file_name().unwrap())).unwrap());
}

#[test]
fn refuses_to_open_over_a_book_that_was_begun_anew() {
    const LOST: &str = "the audit book does not hold its head in the ledger";
    alone(async {
        let mut cluster = opened("new-book").await;
        let sealed = encrypt(&cluster, VICTIM, WITNESS, b"before").await.unwrap();
        cluster.node_mut(VICTIM).unwrap().stop(ENDS_WITHIN).unwrap();
        let (files, aside) = (data(&cluster).join("files"), data(&cluster).with_extension("book"));
        let pages = book(&files);
        move_all(&pages, &aside);
        assert_eq!(cluster.restart(VICTIM).await.unwrap(), SealState::Sealed, "it votes and stores");
        assert!(cluster.node(VICTIM).unwrap().log().unwrap().contains(LOST), "it says so at once");
        // Each refusal is a page, so that the new book is the longer.
        for _ in 0..200 {
            decrypt_as(&cluster, VICTIM, &cluster.service, WITNESS, &sealed).await.unwrap_err();
        }
        assert!(cluster.open().await.unwrap_err().to_string().contains(LOST));
        goes_on(&cluster, "with").await;
        cluster.node_mut(VICTIM).unwrap().kill().unwrap();

        move_all(&book(&files), &aside.join("new"));
        move_all(&book(&aside), &files);
        is_back(&mut cluster, &sealed).await;
    });
}

/// The last record that is stored, changed in its last byte as the database would change it: no checksum says so. Answers what
/// puts it back.
async fn change_a_record(data: &Path) -> Batch {
    let disk = Rocks::open(data, Box::new(|failed| panic!("{failed}"))).unwrap();
    let of = |space| disk.scan(space, &[], None, 10_000).unwrap().pop().map(|pair| (space, pair));
    let (space, (key, value)) = of(Space::Records).or_else(|| of(Space::RecordsOdd)).expect("there are records");
    let mut changed = value.to_vec();
    *changed.last_mut().unwrap() ^= 1;
    let (mut there, mut back) = (Batch::default(), Batch::default());
    there.put(space, key.clone(), changed);
    back.put(space, key, value);
    disk.write(there).await.unwrap();
    back
}

#[test]
fn refuses_a_record_that_was_changed_past_the_checksums_of_the_tables() {
    alone(async {
        let mut cluster = opened("record").await;
        let sealed = encrypt(&cluster, 1, WITNESS, b"before").await.unwrap();
        cluster.node_mut(VICTIM).unwrap().kill().unwrap();
        let back = change_a_record(&data(&cluster)).await;
        ends_saying(&mut cluster, &["the data folder is damaged: the state's hash is another", "replace the node"]);
        goes_on(&cluster, "without").await;
        let disk = Rocks::open(&data(&cluster), Box::new(|failed| panic!("{failed}"))).unwrap();
        disk.write(back).await.unwrap();
        drop(disk);
        is_back(&mut cluster, &sealed).await;
    });
}

#[test]
fn refuses_a_mark_that_is_damaged_or_gone() {
    alone(async {
        let mut cluster = opened("marks").await;
        let sealed = encrypt(&cluster, 1, WITNESS, b"before").await.unwrap();
        cluster.node_mut(VICTIM).unwrap().kill().unwrap();
        let files = std::fs::read_dir(data(&cluster).join("files")).unwrap().map(|entry| entry.unwrap().path());
        let mark =
            files.into_iter().find(|path| path.file_name().unwrap().to_string_lossy().starts_with("mark-")).unwrap();
        let whole = std::fs::read(&mark).unwrap();

        let mut flipped = whole.clone();
        flipped[40] ^= 4;
        std::fs::write(&mark, &flipped).unwrap();
        ends_saying(&mut cluster, &["the data folder is damaged: the marks of the log", "replace the node"]);
        std::fs::remove_file(&mark).unwrap();
        ends_saying(&mut cluster, &["the data folder is damaged: the mark of the log is gone"]);
        std::fs::write(&mark, &whole).unwrap();
        is_back(&mut cluster, &sealed).await;
    });
}
