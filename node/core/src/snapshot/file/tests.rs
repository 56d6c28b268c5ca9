use super::*;
use crate::decide::paper::{Paper, seeded};
use crate::name::NodeId;
use crate::snapshot::{CHUNK_BYTES, Ids, LogPlace, Members, SnapshotChunk};
use crate::state::STATE_KEY;

/// A file, piece by piece as it was written.
fn pieces(paper: &Paper, signer: &SigningKey, spoil: impl FnOnce(&mut Vec<ImagePair>)) -> Vec<Vec<u8>> {
    let mut hashes = Hashes::default();
    let mut pairs = Vec::new();
    for (key, version, value) in paper.records.standing() {
        let digest = crypto::sha256(&[&value]);
        hashes.add(Element::Record { key: &key, version, digest: &digest });
        let value = [&version.to_be_bytes()[..], &value].concat();
        pairs.push(ImagePair { table: ImageTable::Records, key: key.to_array().to_vec(), value });
    }
    let sum = hashes.sum(paper.records.place(paper.now));
    pairs.push(ImagePair { table: ImageTable::Machine, key: STATE_KEY.to_vec(), value: sum.to_bytes() });
    spoil(&mut pairs);
    let place = LogPlace { term: 1, leader: 1, index: 9 };
    let header = SnapshotHeader {
        lineage: paper.lineage,
        generation: 1,
        members: Members { place: Some(place), voters: vec![Ids(vec![1])], nodes: Ids(vec![1]) },
        last: place,
        sequence: sum.place.sequence,
        turn: sum.place.turn,
        time: sum.place.time,
        shared: sum.shared,
        local: sum.local,
    };
    let mut progress = Progress::begin(header.image());
    let mut pieces = vec![head_bytes(&header)];
    for (number, two) in pairs.chunks(2).enumerate() {
        let chunk = SnapshotChunk { number: number as u64, pairs: two.to_vec() };
        let (part, link) = progress.give(chunk).unwrap();
        pieces.push(part_bytes(&part, &link));
    }
    let (end, link) = progress.close();
    pieces.push(part_bytes(&end, &link));
    pieces.push(seal_bytes(NodeId(1), signer, &link));
    pieces
}

fn read(bytes: &[u8], step: usize) -> Result<Inspected, FileBroken> {
    let mut reader = FileReader::default();
    bytes.chunks(step).try_for_each(|piece| reader.feed(piece).map(drop))?;
    reader.finish()
}

fn whole(paper: &Paper) -> Vec<u8> {
    pieces(paper, &seeded(1), |_| ()).concat()
}

#[test]
fn a_file_is_read_in_pieces_of_any_length_and_tells_what_it_holds() {
    let paper = Paper::founded();
    let file = whole(&paper);
    for step in [1, 7, 4_096, CHUNK_BYTES] {
        let inspected = read(&file, step).unwrap();
        assert_eq!(inspected.header.lineage, paper.lineage);
        assert_eq!(
            inspected.custodians.as_ref().map(|set| (set.epoch, set.threshold, set.holders.len())),
            Some((1, 3, 5))
        );
        assert_eq!((inspected.node, inspected.records[&Table::Genesis]), (NodeId(1), 1));
        assert_eq!(inspected.chain.length(), 1);
    }
}

/// The first and last bytes of a file, and some in between: the bucket keys alone are 200 KiB.
fn places(file: &[u8]) -> impl Iterator<Item = usize> {
    let (length, edge) = (file.len(), 1_000);
    (0..length).filter(move |at| *at < edge || *at + edge > length || at % 997 == 0)
}

#[test]
fn refuses_a_file_that_is_cut_anywhere_or_goes_on() {
    let file = whole(&Paper::founded());
    for length in places(&file) {
        assert_eq!(read(&file[..length], file.len().max(1)).err(), Some(FileBroken::Torn), "cut at {length}");
    }
    assert_eq!(read(&[&file[..], &[0]].concat(), 512).err(), Some(FileBroken::Trailing));
}

#[test]
fn refuses_a_file_of_which_any_bit_was_changed() {
    let file = whole(&Paper::founded());
    for at in places(&file) {
        let mut spoilt = file.clone();
        spoilt[at] ^= 1;
        assert!(read(&spoilt, 4_096).is_err(), "changed at {at}");
    }
}

#[test]
fn refuses_parts_that_are_left_out_doubled_or_moved() {
    let parts = pieces(&Paper::founded(), &seeded(1), |_| ());
    let without =
        |n: usize| parts.iter().enumerate().filter(|(at, _)| *at != n).map(|(_, p)| &p[..]).collect::<Vec<_>>();
    for n in 0..parts.len() {
        assert!(read(&without(n).concat(), 4_096).is_err(), "without part {n}");
    }
    let mut doubled = parts.clone();
    doubled.insert(2, parts[1].clone());
    let mut moved = parts.clone();
    moved.swap(1, 2);
    for spoilt in [doubled, moved] {
        assert_eq!(read(&spoilt.concat(), 4_096).err(), Some(FileBroken::Changed));
    }
}

#[test]
fn refuses_another_state_another_chain_and_another_signature_though_all_hashes_are_made_anew() {
    let paper = Paper::founded();
    let told = |signer: u8, spoil: &dyn Fn(&mut Vec<ImagePair>)| {
        read(&pieces(&paper, &seeded(signer), |pairs| spoil(pairs)).concat(), 4_096).err()
    };
    assert_eq!(told(1, &|_| ()), None);
    assert_eq!(told(2, &|_| ()), Some(FileBroken::Forged), "a key that is no member's");
    let of = |table: Table| move |pair: &ImagePair| pair.key.first() == Some(&(table as u8));
    let change = |table: Table| {
        move |pairs: &mut Vec<ImagePair>| {
            let found = pairs.iter_mut().find(|pair| of(table)(pair)).unwrap();
            *found.value.last_mut().unwrap() ^= 1;
        }
    };
    assert_eq!(told(1, &change(Table::Buckets)), Some(FileBroken::OtherState), "a sealed record");
    assert_eq!(told(1, &|pairs| pairs.retain(|pair| !of(Table::Buckets)(pair))), Some(FileBroken::OtherState));
    assert_eq!(told(1, &|pairs| drop(pairs.pop())), Some(FileBroken::OtherState), "without the state's end");
}
