use super::*;
use crate::tests::{MemoryDisk, simulate};
use claviger_core::name::NodeId;

const DISK: DiskId = DiskId([4; 16]);

fn at(term: u64, index: u64) -> Reach {
    let leader = Ballot { term, node: NodeId(1) };
    (Some(leader), Some(Position { leader, index }))
}

async fn begun(disk: &Arc<MemoryDisk>) -> Marker {
    let marker = Marker::open(disk.clone()).unwrap();
    let blank = marker.found().is_none();
    let starts = marker.found().map_or(0, |mark| mark.incarnation);
    let reach = marker.found().map_or((None, None), |mark| (mark.vote, mark.last));
    marker.prepare(DISK, blank).await.unwrap();
    marker.begin(starts + 1, reach).await.unwrap();
    marker
}

fn found(disk: &Arc<MemoryDisk>) -> Result<Option<Mark>, StartFailed> {
    Marker::open(disk.clone()).map(|marker| marker.found())
}

fn bytes(disk: &MemoryDisk, name: &str) -> Option<Vec<u8>> {
    disk.1.lock().get(name).map(|file| file.0.lock().clone())
}

fn put(disk: &MemoryDisk, name: &str, bytes: &[u8]) {
    *disk.1.lock().entry(name.into()).or_default().0.lock() = bytes.to_vec();
}

#[test]
fn the_last_mark_holds_also_when_it_is_lower() {
    simulate(async {
        let disk = Arc::<MemoryDisk>::default();
        let marker = begun(&disk).await;
        for reach in [at(1, 7), at(1, 9), at(1, 9), at(2, 8)] {
            marker.record(Need::Now, || reach).await.unwrap();
        }
        let mark = found(&disk).unwrap().unwrap();
        assert_eq!(((mark.vote, mark.last), mark.incarnation, mark.number), (at(2, 8), 1, 5), "one was no news");
    });
}

#[test]
fn a_torn_end_is_cut_and_damage_is_named() {
    simulate(async {
        let disk = Arc::<MemoryDisk>::default();
        let marker = begun(&disk).await;
        for index in 1..4 {
            marker.record(Need::Now, || at(1, index)).await.unwrap();
        }
        drop(marker);
        let whole = bytes(&disk, NAMES[0]).unwrap();
        assert_eq!(whole.len(), 5 * MARK_BYTES);
        for torn in 1..=MARK_BYTES {
            put(&disk, NAMES[0], &whole[..whole.len() - torn]);
            assert_eq!(found(&disk).unwrap().unwrap().last, at(1, 2).1, "{torn} bytes are not there");
        }
        for byte in 0..whole.len() {
            let flipped: Vec<u8> = whole.iter().enumerate().map(|(at, b)| b ^ u8::from(at == byte)).collect();
            put(&disk, NAMES[0], &flipped);
            let last = byte >= whole.len() - MARK_BYTES;
            assert_eq!(found(&disk).is_ok(), last, "byte {byte}: only the last may have been torn");
        }
        put(&disk, NAMES[0], &whole[..whole.len() - 9]);
        begun(&disk).await.record(Need::Now, || at(1, 3)).await.unwrap();
        let mark = found(&disk).unwrap().unwrap();
        assert_eq!((mark.last, mark.incarnation), (at(1, 3).1, 2), "it goes on behind what was cut");
    });
}

#[test]
fn a_node_that_starts_again_and_again_does_not_outgrow_its_file() {
    simulate(async {
        let disk = Arc::<MemoryDisk>::default();
        for starts in 1..=2 * FILE_BYTES_MAX / MARK_BYTES {
            drop(begun(&disk).await);
            assert_eq!(found(&disk).unwrap().unwrap().incarnation, starts as u64);
        }
    });
}

#[test]
fn marks_move_to_the_other_file_and_a_crash_on_the_way_loses_none() {
    simulate(async {
        let disk = Arc::<MemoryDisk>::default();
        let marker = begun(&disk).await;
        let mut index = 0;
        let mut before = Vec::new();
        while bytes(&disk, NAMES[1]).is_none() {
            before = bytes(&disk, NAMES[0]).unwrap();
            index += 1;
            marker.record(Need::Now, || at(1, index)).await.unwrap();
        }
        drop(marker);
        assert_eq!((before.len(), bytes(&disk, NAMES[0])), (FILE_BYTES_MAX, None), "the old file is gone");
        let after = bytes(&disk, NAMES[1]).unwrap();
        assert_eq!((after.len(), found(&disk).unwrap().unwrap().last), (MARK_BYTES, at(1, index).1));
        for written in 0..=MARK_BYTES {
            put(&disk, NAMES[0], &before);
            put(&disk, NAMES[1], &after[..written]);
            let expected = if written == MARK_BYTES { index } else { index - 1 };
            assert_eq!(found(&disk).unwrap().unwrap().last, at(1, expected).1, "{written} bytes of the first mark");
            drop(begun(&disk).await);
            assert_eq!(disk.files().unwrap().len(), 1);
            disk.1.lock().clear();
        }
    });
}
