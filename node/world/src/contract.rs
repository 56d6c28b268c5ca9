//! What every world owes the node, as tests that each implementation runs: the simulated disk and RocksDB alike.

use crate::clock::Clock;
use crate::disk::{Batch, Disk, Reading, Space};
use crate::entropy::Entropy;
use std::sync::Arc;

/// Tests a disk. `open` opens the same one each time; it is called only when the last one was dropped.
///
/// # Panics
/// When the disk breaks its contract.
pub async fn disk(mut open: impl FnMut() -> Arc<dyn Disk>) {
    a_batch_is_whole_and_in_order(open()).await;
    batches_happen_in_the_order_of_their_calls(open()).await;
    what_was_written_is_there_after_opening_again(&mut open).await;
    spaces_are_apart_and_scans_are_exact(open()).await;
    a_pinned_view_never_changes(open()).await;
    a_dropped_future_does_not_undo_its_batch(open()).await;
    files_grow_and_are_there_after_opening_again(&mut open).await;
}

/// Tests a clock.
///
/// # Panics
/// When its stopwatch goes back.
pub fn clock(clock: &dyn Clock) {
    let mut last = clock.awake_and_asleep();
    for _ in 0..1_000 {
        let now = clock.awake_and_asleep();
        assert!(now >= last, "a stopwatch does not go back");
        last = now;
    }
}

/// Tests a source of randomness, as far as that can be tested.
///
/// # Panics
/// When it repeats itself, or leaves bytes as they were.
pub fn entropy(entropy: &dyn Entropy) {
    let mut seen = std::collections::BTreeSet::new();
    for _ in 0..1_000 {
        let mut draw = [0; 16];
        entropy.fill(&mut draw);
        assert!(seen.insert(draw), "no draw comes twice");
    }
    let mut long = vec![0; 4_099];
    entropy.fill(&mut long);
    assert!(long.chunks(16).all(|chunk| chunk.len() < 16 || chunk.iter().any(|b| *b != 0)), "all bytes are filled");
}

const SPACE: Space = Space::Records;

fn key(n: u32) -> Vec<u8> {
    [&b"contract/"[..], &n.to_be_bytes()].concat()
}

fn get(reading: &dyn Reading, n: u32) -> Option<Vec<u8>> {
    reading.read(SPACE, &key(n)).expect("a disk that works answers").map(|v| v.to_vec())
}

async fn put(disk: &dyn Disk, n: u32, value: &[u8]) {
    let mut batch = Batch::default();
    batch.put(SPACE, key(n), value.to_vec());
    disk.write(batch).await.expect("a disk that works takes a batch");
}

async fn clear(disk: &dyn Disk) {
    let mut batch = Batch::default();
    for space in Space::ALL {
        batch.delete_range(space, &[][..], &[0xff; 64][..]);
    }
    disk.write(batch).await.expect("a disk that works takes a batch");
}

async fn a_batch_is_whole_and_in_order(disk: Arc<dyn Disk>) {
    clear(&*disk).await;
    let mut batch = Batch::default();
    batch.put(SPACE, key(1), &b"first"[..]).put(SPACE, key(1), &b"second"[..]);
    batch.put(SPACE, key(2), &b"gone"[..]).delete(SPACE, key(2));
    batch.put(SPACE, key(3), &b"gone too"[..]).put(SPACE, key(4), &b"kept"[..]);
    batch.delete_range(SPACE, key(3), key(4)).delete(SPACE, key(99));
    disk.write(batch).await.expect("a disk that works takes a batch");
    let found: Vec<_> = (1..=4).map(|n| get(&*disk, n)).collect();
    assert_eq!(found, [Some(b"second".to_vec()), None, None, Some(b"kept".to_vec())]);
}

async fn batches_happen_in_the_order_of_their_calls(disk: Arc<dyn Disk>) {
    let writes: Vec<_> = (0..100_u32)
        .map(|n| {
            let mut batch = Batch::default();
            batch.put(SPACE, key(7), n.to_be_bytes().to_vec());
            disk.write(batch)
        })
        .collect();
    // Waited for in the wrong order, on purpose.
    for write in writes.into_iter().rev() {
        write.await.expect("a disk that works takes a batch");
    }
    assert_eq!(get(&*disk, 7), Some(99_u32.to_be_bytes().to_vec()));
}

async fn what_was_written_is_there_after_opening_again(open: &mut impl FnMut() -> Arc<dyn Disk>) {
    let disk = open();
    put(&*disk, 8, b"durable").await;
    drop(disk);
    assert_eq!(get(&*open(), 8), Some(b"durable".to_vec()));
}

async fn spaces_are_apart_and_scans_are_exact(disk: Arc<dyn Disk>) {
    clear(&*disk).await;
    for n in [5, 1, 3, 2, 4] {
        put(&*disk, n, &[n as u8]).await;
    }
    let mut batch = Batch::default();
    batch.put(Space::Log, key(2), &b"elsewhere"[..]);
    disk.write(batch).await.expect("a disk that works takes a batch");
    let scan = |from, to: Option<u32>, limit| {
        let to = to.map(key);
        let pairs = disk.scan(SPACE, &key(from), to.as_deref(), limit).expect("a disk that works answers");
        pairs.into_iter().map(|(_, v)| v[0]).collect::<Vec<_>>()
    };
    assert_eq!(scan(0, None, 99), [1, 2, 3, 4, 5]);
    assert_eq!(scan(2, Some(4), 99), [2, 3], "from is in, to is out");
    assert_eq!(scan(2, Some(2), 99), [0_u8; 0]);
    assert_eq!(scan(2, None, 2), [2, 3]);
    assert_eq!(scan(2, None, 0), [0_u8; 0]);
}

async fn a_pinned_view_never_changes(disk: Arc<dyn Disk>) {
    clear(&*disk).await;
    put(&*disk, 1, b"then").await;
    put(&*disk, 2, b"then too").await;
    let pin = disk.pin();
    put(&*disk, 1, b"now").await;
    clear(&*disk).await;
    put(&*disk, 3, b"new").await;
    assert_eq!(get(&*pin, 1), Some(b"then".to_vec()));
    assert_eq!(get(&*pin, 3), None);
    let pairs = pin.scan(SPACE, &[], None, 99).expect("a disk that works answers");
    assert_eq!(pairs.len(), 2);
    drop(disk);
    assert_eq!(get(&*pin, 2), Some(b"then too".to_vec()), "a view outlives its handle");
}

async fn a_dropped_future_does_not_undo_its_batch(disk: Arc<dyn Disk>) {
    let mut batch = Batch::default();
    batch.put(SPACE, key(9), &b"kept"[..]);
    drop(disk.write(batch));
    put(&*disk, 10, b"after").await;
    assert_eq!(get(&*disk, 9), Some(b"kept".to_vec()));
}

async fn files_grow_and_are_there_after_opening_again(open: &mut impl FnMut() -> Arc<dyn Disk>) {
    let disk = open();
    let file = disk.open("contract.book-1").expect("a file can be made");
    assert!(file.is_empty().expect("a file has a length"));
    file.append(b"one").expect("a file grows");
    file.append(b"two").expect("a file grows");
    file.sync().await.expect("a file can be synced");
    assert_eq!(file.read_at(1, 4).expect("a file can be read"), b"netw");
    assert_eq!(file.read_at(4, 99).expect("a file can be read"), b"wo", "less only at the end");
    assert_eq!(file.read_at(6, 1).expect("a file can be read"), b"");
    drop((file, disk));
    let disk = open();
    assert!(disk.files().expect("files can be listed").contains(&"contract.book-1".to_owned()));
    let file = disk.open("contract.book-1").expect("a file can be opened");
    assert_eq!(file.len().expect("a file has a length"), 6);
    file.cut(4).expect("a torn tail can be cut");
    file.append(b"!").expect("a file grows");
    assert_eq!(file.read_at(0, 99).expect("a file can be read"), b"onet!");
    drop(file);
    disk.remove("contract.book-1").expect("a file can be removed");
    assert!(!disk.files().expect("files can be listed").contains(&"contract.book-1".to_owned()));
}
