//! The simulated world keeps the seams' contracts.

use claviger_sim::clock::SkewedClock;
use claviger_sim::disk::{Honesty, SimDisk};
use claviger_sim::entropy::SeededEntropy;
use claviger_sim::trace::Trace;
use claviger_world::contract;
use claviger_world::disk::{Batch, Disk, Reading, Space};
use std::sync::Arc;

fn simulate<T>(future: impl Future<Output = T>) -> T {
    let mut builder = tokio::runtime::Builder::new_current_thread();
    builder.enable_time().start_paused(true).build().unwrap().block_on(future)
}

#[test]
fn disk_clock_and_entropy_keep_their_contracts() {
    simulate(async {
        let disk = SimDisk::new(Arc::new(Trace::new(1, None)), Honesty::Honest);
        contract::disk(|| Arc::new(disk.clone())).await;
        contract::clock(&SkewedClock::new(claviger_core::time::UnixMs(7)));
        contract::entropy(&SeededEntropy::new(1));
    });
}

/// Writes ten batches, waits for the first four, crashes. How many are left.
async fn left_after_a_crash(seed: u64) -> u8 {
    let disk = SimDisk::new(Arc::new(Trace::new(seed, None)), Honesty::Honest);
    let mut writes = Vec::new();
    for n in 0..10_u8 {
        let mut batch = Batch::default();
        batch.put(Space::Log, vec![n], vec![n]).put(Space::Raft, &b"last"[..], vec![n]);
        writes.push(disk.write(batch));
    }
    for write in writes.drain(..4) {
        write.await.unwrap();
    }
    disk.crash();
    let left = disk.scan(Space::Log, &[], None, 99).unwrap();
    let last = disk.read(Space::Raft, b"last").unwrap().unwrap()[0];
    assert!(left.iter().enumerate().all(|(n, (key, _))| key[0] == n as u8), "no hole");
    assert_eq!(usize::from(last) + 1, left.len(), "a batch is whole or absent");
    last + 1
}

#[test]
fn a_crash_keeps_what_was_durable_and_a_beginning_of_the_rest() {
    let left: Vec<u8> = (1..=40).map(|seed| simulate(left_after_a_crash(seed))).collect();
    assert!(left.iter().all(|n| (4..=10).contains(n)), "{left:?}");
    assert!(left.iter().any(|n| *n < 10) && left.iter().any(|n| *n > 4), "{left:?}");
}
