//! A leader whose own stored state is not what it should be, and a follower that needs it as a snapshot.

use super::parted::Trio;
use super::{LIMIT, MemoryDisk, idle, simulate};
use crate::{Fatal, Timings};
use claviger_core::state::Remembered;
use claviger_world::disk::Space;

/// So short a log that whoever is away for a few entries needs a snapshot.
const SHORT: Timings = Timings {
    heartbeat_ms: 100,
    election_min_ms: 300,
    election_max_ms: 600,
    snapshot_entries: 5,
    snapshot_chunk_bytes: 400,
    log_entries_kept: 4,
    log_bytes_kept: 64 << 20,
    log_entries_max: 4,
    log_bytes_max: 512 << 20,
    checkpoint_entries: 1_000,
    tick_ms: 60_000,
};

/// Three, of which the third has been away for so long that it needs a snapshot.
async fn one_was_away() -> Trio {
    let trio = Trio::timed(SHORT).await;
    trio.node(1).barrier(LIMIT).await.unwrap();
    trio.cut(&[3]);
    for id in 1..=30 {
        trio.proposes(1, idle(&trio.node(1), id)).await;
    }
    assert!(trio.node(1).figures().leads && trio.node(1).figures().snapshots_taken > 0);
    trio
}

/// A bit flips, past everything that the node itself writes and compares.
fn flip(disk: &MemoryDisk) {
    let mut memory = disk.0.lock();
    let outcome = |key: &[u8], value: &[u8]| matches!(Remembered::read(key, value), Ok(Remembered::Outcome(..)));
    let held = memory.0.iter_mut().find(|((space, key), value)| *space == Space::Machine && outcome(key, value));
    let (_, value) = held.expect("an outcome is remembered");
    let mut bytes = value.to_vec();
    *bytes.last_mut().expect("it says something") ^= 1;
    *value = bytes.into();
}

#[test]
fn a_leader_that_stores_something_else_than_it_should_ends_once_what_it_sends_is_refused() {
    simulate(async {
        let trio = one_was_away().await;
        flip(&trio.disks[&1]);
        // What is sent is a view, and that of the last entry is older than the flip.
        trio.proposes(1, idle(&trio.node(1), 31)).await;
        assert_eq!(trio.heard(1).await, [], "nothing compares it, so far");
        trio.cut(&[]);
        assert_eq!(trio.heard(1).await, [Fatal::Damaged("the state's hash is another")]);
        assert!(trio.node(3).figures().snapshots_refused > 0);
        trio.ends(1).await;
        trio.node(3).barrier(LIMIT * 10).await.unwrap();
        assert_eq!(trio.node(3).figures().snapshots_installed, 1, "another one leads, and sends what is right");
        assert_eq!((trio.heard(2).await, trio.heard(3).await), (vec![], vec![]));
    });
}
