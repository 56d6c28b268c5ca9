//! Snapshots between two ledgers, part by part: cut, flipped, restarted in the middle.

use super::{LIMIT, Rig, idle, simulate};
use crate::Ledger;
use crate::bank::Bank;
use crate::machine::lineage_of;
use crate::machine::tests::genesis;
use crate::peers::Turned;
use crate::raft::intake::Taken;
use crate::raft::picture::Picture;
use crate::raft::wire::Wire;
use crate::raft::{Snapshot, Vote};
use bytes::Bytes;
use claviger_core::codec::Canonical;
use claviger_core::name::{Digest, Lineage};
use claviger_core::snapshot::{ImagePair, ImageTable, Progress, SnapshotChunk};
use claviger_core::txn::Outcome;
use claviger_proto::peer::v1 as pb;
use claviger_world::disk::{Disk, Reading, Space};
use std::sync::Arc;

type Cut = Vec<(Vec<u8>, Digest)>;

/// A node with some state, and one that has nothing but the genesis.
struct Two {
    sender: Ledger,
    rig: Rig,
    receiver: Ledger,
    vote: Vote,
}

impl Two {
    async fn new() -> Two {
        let sender = Rig::new().founded().await;
        for id in 1..=20 {
            assert!(matches!(sender.propose(idle(&sender, id), LIMIT).await, Ok(Outcome::Accepted(_))));
        }
        let rig = Rig::new();
        let receiver = rig.start().await;
        receiver.pin_genesis(&genesis()).await.unwrap();
        Two { sender, rig, receiver, vote: Vote::new_committed(5, 2) }
    }

    async fn picture(&self) -> (Arc<Picture>, Cut) {
        let picture = self.sender.picture().await;
        let mut cutter = picture.resume(0, &picture.header().image()).await.unwrap().unwrap();
        let parts: Cut = std::iter::from_fn(|| cutter.part().unwrap()).collect();
        assert!(parts.len() > 5, "the state is cut into chunks: {}", parts.len());
        (picture, parts)
    }

    async fn offer(&self, picture: &Picture, anew: bool) -> Result<u64, Turned> {
        let header = Bytes::from(picture.header().to_bytes());
        let offer = pb::SnapshotOffer { vote: Some(self.vote.to_wire()), header, anew };
        self.receiver.intake().offer(offer, self.receiver.lineage()).await.map(|(next, _)| next)
    }

    async fn give(&self, picture: &Picture, (part, digest): &(Vec<u8>, Digest)) -> Result<Taken, Turned> {
        let part = pb::SnapshotPart {
            vote: Some(self.vote.to_wire()),
            image: Bytes::copy_from_slice(&picture.header().image().0),
            part: Bytes::copy_from_slice(part),
            digest: Bytes::copy_from_slice(&digest.0),
        };
        self.receiver.intake().take(part, self.receiver.lineage()).await
    }

    /// Gives parts, of which none ends the image. How many chunks are there then.
    async fn give_all(&self, picture: &Picture, parts: &[(Vec<u8>, Digest)]) -> u64 {
        let mut there = 0;
        for part in parts {
            match self.give(picture, part).await {
                Ok(Taken::More(next, _)) => there = next,
                Ok(Taken::Whole { .. }) => panic!("this was not the end"),
                Err(turned) => panic!("{turned}"),
            }
        }
        there
    }

    async fn install(&self, whole: Taken) {
        let Taken::Whole { vote, meta, image } = whole else { panic!("more is wanted") };
        assert_eq!(self.receiver.installer().install(vote, Snapshot { meta, snapshot: image }).await, Ok(vote));
    }

    async fn restart(self) -> Two {
        let receiver = self.rig.restart(self.receiver).await;
        Two { receiver, ..self }
    }

    fn state(&self) -> (u64, Option<u64>) {
        let status = self.receiver.status();
        (status.revision.sequence, status.installed_index)
    }

    fn held(&self, space: Space) -> usize {
        self.rig.disk.scan(space, &[], None, 1_000).unwrap().len()
    }
}

fn same_state(one: &Ledger, other: &Ledger) {
    let sum = |ledger: &Ledger| ledger.stage().machine.lock().sum();
    assert_eq!(sum(one), sum(other));
}

#[test]
fn a_transfer_goes_on_where_it_was_cut_though_the_receiver_started_again() {
    simulate(async {
        let two = Two::new().await;
        let (picture, parts) = two.picture().await;
        let (end, chunks) = parts.split_last().unwrap();
        assert_eq!(two.offer(&picture, false).await, Ok(0));
        assert_eq!(two.give_all(&picture, &chunks[..3]).await, 3);
        assert_eq!(two.state(), (0, None), "nothing of it is the state");
        let two = two.restart().await;
        assert_eq!(two.give(&picture, &chunks[3]).await.err(), Some(Turned::Unreadable), "not before it is offered");
        assert_eq!(two.offer(&picture, false).await, Ok(3));
        assert_eq!(two.receiver.figures().snapshots_resumed, 1);
        assert_eq!(two.give_all(&picture, &chunks[2..3]).await, 3, "one that is here already comes again");
        two.give_all(&picture, &chunks[3..]).await;
        let whole = two.give(&picture, end).await.unwrap();
        assert_eq!((two.state(), two.offer(&picture, false).await), ((0, None), Err(Turned::NotYet)));
        two.install(whole).await;
        assert_eq!(two.state(), (21, picture.last().map(|last| last.index)));
        same_state(&two.sender, &two.receiver);
        let two = two.restart().await;
        same_state(&two.sender, &two.receiver);
        assert_eq!((two.held(Space::Records), two.held(Space::Machine)), (0, 0), "the old bank is empty");
        assert_eq!(two.rig.fatal(), []);
    });
}

#[test]
fn what_was_proven_and_never_became_the_state_is_kept_for_the_next_offer() {
    simulate(async {
        let two = Two::new().await;
        let (picture, parts) = two.picture().await;
        let (end, chunks) = parts.split_last().unwrap();
        two.offer(&picture, false).await.unwrap();
        two.give_all(&picture, chunks).await;
        drop(two.give(&picture, end).await.unwrap());
        let two = two.restart().await;
        assert_eq!((two.state(), Bank::current(&*two.rig.disk)), ((0, None), Ok(Bank::default())));
        assert_eq!(two.offer(&picture, false).await, Ok(chunks.len() as u64));
        let whole = two.give(&picture, end).await.unwrap();
        two.install(whole).await;
        same_state(&two.sender, &two.receiver);
    });
}

#[test]
fn any_flipped_bit_on_the_disk_is_noticed_before_it_becomes_the_state() {
    simulate(async {
        let two = Two::new().await;
        let (picture, parts) = two.picture().await;
        let (end, chunks) = parts.split_last().unwrap();
        two.offer(&picture, false).await.unwrap();
        two.give_all(&picture, chunks).await;
        let staged: Vec<_> = [Space::RecordsOdd, Space::MachineOdd]
            .into_iter()
            .flat_map(|space| {
                two.rig.disk.scan(space, &[], None, 1_000).unwrap().into_iter().map(move |(k, v)| (space, k, v))
            })
            .collect();
        for (times, (space, key, value)) in staged.into_iter().enumerate() {
            let mut flipped = value.to_vec();
            let at = times % flipped.len().max(1);
            flipped[at] ^= 1 << (times % 8);
            two.rig.disk.0.lock().0.insert((space, key.clone()), flipped.into());
            assert_eq!(two.give(&picture, end).await.err(), Some(Turned::Unreadable), "{space:?} {key:02x?}");
            assert_eq!((two.state(), two.receiver.figures().snapshots_refused), ((0, None), times as u64 + 1));
            assert_eq!((two.held(Space::RecordsOdd), two.held(Space::MachineOdd)), (0, 0), "nothing of it is kept");
            assert_eq!(two.offer(&picture, false).await, Ok(0));
            two.give_all(&picture, chunks).await;
        }
        let whole = two.give(&picture, end).await.unwrap();
        two.install(whole).await;
        same_state(&two.sender, &two.receiver);
        assert_eq!(two.rig.fatal(), []);
    });
}

#[test]
fn a_pair_too_many_or_too_few_is_noticed() {
    simulate(async {
        let two = Two::new().await;
        let (picture, parts) = two.picture().await;
        let (end, chunks) = parts.split_last().unwrap();
        for harm in 0..2 {
            two.offer(&picture, false).await.unwrap();
            two.give_all(&picture, chunks).await;
            {
                let mut disk = two.rig.disk.0.lock();
                match harm {
                    0 => drop(disk.0.insert((Space::MachineOdd, Bytes::from_static(b"z")), Bytes::new())),
                    _ => {
                        let gone = disk.0.keys().find(|(space, _)| *space == Space::RecordsOdd).cloned().unwrap();
                        disk.0.remove(&gone);
                    }
                }
            }
            assert_eq!(two.give(&picture, end).await.err(), Some(Turned::Unreadable));
        }
        assert_eq!(two.state(), (0, None));
    });
}

/// No hash is over such a pair: it would be kept, and sent on.
#[test]
fn a_pair_that_no_state_has_is_refused_from_whomever_it_comes() {
    simulate(async {
        let two = Two::new().await;
        let (picture, _) = two.picture().await;
        let strays = [
            (ImageTable::Records, vec![0xff; 100]),
            (ImageTable::Records, b"r".to_vec()),
            (ImageTable::Machine, b"zeal".to_vec()),
            (ImageTable::Machine, b"l".to_vec()),
            (ImageTable::Machine, vec![b'o'; 30]),
        ];
        for (refused, (table, key)) in (1..).zip(strays) {
            assert_eq!(two.offer(&picture, true).await, Ok(0));
            let pair = ImagePair { table, key: key.clone(), value: vec![0; 50] };
            let mut progress = Progress::begin(picture.header().image());
            let stray = progress.give(SnapshotChunk { number: 0, pairs: vec![pair] }).unwrap();
            assert_eq!(two.give(&picture, &stray).await.err(), Some(Turned::Unreadable), "{key:?}");
            assert_eq!(two.receiver.figures().snapshots_refused, refused);
            assert_eq!((two.held(Space::RecordsOdd), two.held(Space::MachineOdd)), (0, 0), "nothing of it stays");
        }
    });
}

#[test]
fn another_image_begins_anew_and_an_older_one_or_an_older_leader_ends_nothing() {
    simulate(async {
        let mut two = Two::new().await;
        let (old, old_parts) = two.picture().await;
        two.sender.propose(idle(&two.sender, 99), LIMIT).await.unwrap();
        let (new, new_parts) = two.picture().await;
        two.offer(&old, false).await.unwrap();
        two.give_all(&old, &old_parts[..2]).await;
        assert_eq!(two.offer(&new, false).await, Ok(0));
        assert_eq!(two.give(&old, &old_parts[2]).await.err(), Some(Turned::Unreadable));
        two.give_all(&new, &new_parts[..2]).await;
        assert_eq!(two.offer(&old, false).await, Err(Turned::NotYet), "what the leader offered before");
        two.vote = Vote::new_committed(4, 3);
        assert_eq!(two.offer(&new, false).await, Err(Turned::NotYet), "a leader that was overtaken");
        two.vote = Vote::new_committed(6, 3);
        assert_eq!(two.offer(&new, false).await, Ok(2), "the next leader has the same state");
        assert_eq!(two.offer(&new, true).await, Ok(0));
    });
}

#[test]
fn an_image_of_another_cluster_is_not_even_begun() {
    simulate(async {
        let two = Two::new().await;
        let (picture, _) = two.picture().await;
        let header = Bytes::from(picture.header().to_bytes());
        let offer = pb::SnapshotOffer { vote: Some(two.vote.to_wire()), header, anew: false };
        let told = two.receiver.intake().offer(offer.clone(), Some(Lineage([9; 32]))).await;
        assert_eq!(told, Err(Turned::OtherCluster));
        assert_eq!(two.receiver.intake().offer(offer, None).await, Err(Turned::OtherCluster));
        assert_eq!(two.receiver.lineage(), Some(lineage_of(&genesis())));
    });
}

#[test]
fn two_pictures_of_one_state_are_cut_alike_and_a_stranger_s_chain_is_not_gone_on_with() {
    simulate(async {
        let two = Two::new().await;
        let ((one, parts), (other, again)) = (two.picture().await, two.picture().await);
        assert_eq!(parts, again);
        let link = parts[2].1;
        let mut cutter = other.resume(3, &link).await.unwrap().expect("the chain has that link there");
        assert_eq!(cutter.part().unwrap(), Some(parts[3].clone()));
        assert!(one.resume(2, &link).await.unwrap().is_none(), "another place");
        assert!(one.resume(parts.len() as u64 + 9, &link).await.unwrap().is_none(), "more than there are");
    });
}

#[test]
fn a_start_clears_what_nobody_will_go_on_with() {
    simulate(async {
        let two = Two::new().await;
        let stray = |two: &Two| {
            drop(two.rig.disk.0.lock().0.insert((Space::RecordsOdd, Bytes::from_static(b"k")), Bytes::new()))
        };
        stray(&two);
        let two = two.restart().await;
        assert_eq!(two.held(Space::RecordsOdd), 0);
        let pin = two.rig.disk.pin();
        assert!(pin.scan(Space::RecordsOdd, &[], None, 1).unwrap().is_empty());
    });
}
