//! The last file: while the cluster is at work somebody keeps a snapshot of it, and at the end of some runs, when everything
//! else is judged, all nodes are lost. One that never was goes on with the file, by a mandate of the custodians. It must
//! refuse a file that was changed, begin nothing beside a node that lives, and open what was encrypted before.

use crate::clients::Client;
use crate::dice::{Dice, number_of};
use crate::door::{Errand, LOOK};
use crate::heir::Asking;
use crate::history::Seen;
use crate::papers::signing_key;
use crate::promises::Promise;
use crate::promises::ciphertexts::Kept;
use crate::scene::Scene;
use bytes::Bytes;
use claviger_core::failure::Failure;
use claviger_core::name::{Digest, NodeId};
use claviger_core::policy::Operation;
use claviger_core::snapshot::SnapshotHeader;
use claviger_core::snapshot::file::{FileReader, Inspected, seal_bytes};
use claviger_ledger::Restored;
use futures_util::stream;
use std::sync::Arc;
use std::time::Duration;

/// Longest until it has, and until its node is open.
const BEGINS_WITHIN: Duration = Duration::from_secs(600);
/// Ciphertexts from before the file that are opened after it was restored.
const OPENED_AFTERWARDS: usize = 20;
/// How often an answer that is lost on its way is asked for again.
const TRIES: usize = 20;
/// What a snapshot ends with: the number of the node that cut it, and its signature.
const SEAL_BYTES: usize = 8 + 64;
/// The link of the image's end, before that.
const LINK_BYTES: usize = 32;
/// Bytes that a restore is fed with at once.
const PIECE_BYTES: usize = 30_000;

/// A snapshot in a file, and what was encrypted before it was asked for.
pub struct LastFile {
    bytes: Vec<u8>,
    ciphertexts: Vec<Kept>,
}

/// Keeps a snapshot of the cluster, at some hour of its work.
pub async fn keep_one(scene: Arc<Scene>) {
    let dice = scene.dice("last file");
    if !dice.once_in(3) {
        return;
    }
    tokio::time::sleep(Duration::from_millis(dice.roll(60_000..scene.plan.length.as_millis() as u64))).await;
    while !scene.is_over() {
        let ciphertexts = scene.promises.ciphertexts.spread(OPENED_AFTERWARDS);
        if let Some(bytes) = saved(&scene, &dice).await {
            scene.trace.tell(0, &format!("a snapshot of {} bytes is kept", bytes.len()));
            *scene.last_file.lock() = Some(LastFile { bytes, ciphertexts });
            return;
        }
        tokio::time::sleep(LOOK).await;
    }
}

async fn saved(scene: &Arc<Scene>, dice: &Dice) -> Option<Vec<u8>> {
    let node = dice.pick(&scene.house.lives())?.id;
    let errand = Errand::of_root(scene, Operation::SaveSnapshot, dice);
    let saving = errand.run(node, |life, visit| {
        Box::pin(async move {
            let mut cut = life.node.service().save_snapshot(visit, ()).await?;
            let mut bytes = Vec::new();
            while let Some(piece) = cut.piece()? {
                bytes.extend(piece);
                tokio::task::yield_now().await;
            }
            Ok(bytes)
        })
    });
    saving.await.answer?.ok()
}

/// All nodes are lost, where somebody has a file of this generation. Whether that happened.
pub async fn nothing_else_is_left(scene: &Arc<Scene>) -> bool {
    let Some(file) = scene.last_file.lock().take() else { return false };
    let (dice, house) = (scene.dice("restorer"), &scene.house);
    let Ok(inspected) = read(&file.bytes) else {
        scene.board.broke(Promise::Sound, "a snapshot that a node has saved is not believed".into());
        return false;
    };
    let (left, generation) = (house.all(), inspected.header.generation);
    let alive: Vec<NodeId> = house.sound().into_iter().filter(|id| house.generation(*id) == Some(generation)).collect();
    // Where another generation has begun since, nobody goes back to the file.
    let Some(last) = dice.pick(&alive).copied() else { return false };
    for id in left.iter().filter(|id| **id != last) {
        house.is_gone(*id).await;
    }
    let new = house.settles();
    house.start(new).await;
    scene.trace.tell(new.0, "is to go on with a snapshot");
    let restorer = Restorer { scene, new, dice: &dice, file: &file, inspected: &inspected };
    restorer.begins_nothing_beside(last).await;
    house.is_gone(last).await;
    house.inherits(new);
    restorer.begins().await;
    restorer.has_it_all().await;
    true
}

fn read(bytes: &[u8]) -> Result<Inspected, claviger_core::snapshot::file::FileBroken> {
    let mut reader = FileReader::default();
    reader.feed(bytes)?;
    reader.finish()
}

/// Whoever gives a file to a new node.
struct Restorer<'a> {
    scene: &'a Arc<Scene>,
    new: NodeId,
    dice: &'a Dice,
    file: &'a LastFile,
    inspected: &'a Inspected,
}

impl Restorer<'_> {
    /// As long as one node of the file lives, and can be asked.
    async fn begins_nothing_beside(&self, last: NodeId) {
        if !self.dice.once_in(2) || !self.is_restored().await || self.scene.house.life(last).is_none() {
            return;
        }
        let errand = Errand::of_root(self.scene, Operation::BeginRecovery, self.dice);
        let begun = errand
            .run(self.new, |life, visit| Box::pin(async move { life.node.service().begin_recovery(visit, ()).await }));
        let begun = matches!(begun.await.answer, Some(Ok(_)));
        self.scene.board.expect(Promise::Roster, !begun, || {
            format!("node {} asks for leave to go on beside node {last}", self.new)
        });
    }

    /// Until it has begun the next generation, whatever happens on the way.
    async fn begins(&self) {
        let (scene, since) = (self.scene, self.scene.trace.elapsed());
        let next = self.inspected.header.generation + 1;
        let begun = || scene.house.generation(self.new) == Some(next);
        while !begun() && scene.trace.elapsed() - since < BEGINS_WITHIN {
            if self.belongs_to_none() && self.is_restored().await {
                Asking::of(scene, self.new, self.dice).goes_on().await;
            }
            tokio::time::sleep(LOOK).await;
        }
        scene.board.expect(Promise::Liveness, begun(), || format!("node {} begins no generation", self.new));
        let open = || scene.house.life(self.new).is_some_and(|life| life.node.is_open());
        while !open() && scene.trace.elapsed() - since < BEGINS_WITHIN {
            tokio::time::sleep(LOOK).await;
        }
        scene.board.expect(Promise::Liveness, open(), || format!("node {} is not open in the end", self.new));
    }

    fn belongs_to_none(&self) -> bool {
        self.scene.house.life(self.new).is_some_and(|life| life.node.ledger().lineage().is_none())
    }

    /// Gives it the file, often one that was changed before. Whether it has it now.
    async fn is_restored(&self) -> bool {
        if self.dice.once_in(2) {
            let (what, changed) = self.changed();
            let taken = matches!(self.restore(changed).await, Some(Ok(_)));
            self.scene.board.expect(Promise::Forged, !taken, || format!("{what} was restored"));
        }
        match self.restore(self.file.bytes.clone()).await {
            Some(Ok(restored)) => {
                let same = restored.header == self.inspected.header;
                self.scene.board.expect(Promise::States, same, || "another state was restored than was kept".into());
                true
            }
            // Another attempt follows; if none comes through, the generation does not begin.
            Some(Err(_)) | None => false,
        }
    }

    async fn restore(&self, bytes: Vec<u8>) -> Option<Result<Restored, Failure>> {
        let pieces: Vec<_> = bytes.chunks(PIECE_BYTES).map(|piece| Ok(Bytes::copy_from_slice(piece))).collect();
        let errand = Errand::of_root(self.scene, Operation::RestoreSnapshot, self.dice);
        let restoring = errand.run(self.new, |life, visit| {
            Box::pin(async move { life.node.service().restore_snapshot(visit, stream::iter(pieces)).await })
        });
        restoring.await.answer
    }

    /// A file with a flipped bit, one that was cut or goes on, one that a stranger has sealed.
    fn changed(&self) -> (&'static str, Vec<u8>) {
        let mut bytes = self.file.bytes.clone();
        let end = bytes.len() - SEAL_BYTES;
        let place = self.dice.roll(0..bytes.len() as u64) as usize;
        match self.dice.roll(0..4) {
            0 => {
                bytes[place] ^= 1 << self.dice.roll(0..8);
                ("a snapshot with a flipped bit", bytes)
            }
            1 => {
                bytes.truncate(place);
                ("a snapshot that was cut", bytes)
            }
            2 => {
                bytes.push(self.dice.roll(0..256) as u8);
                ("a snapshot that goes on behind its end", bytes)
            }
            _ => {
                let link = bytes[end - LINK_BYTES..end].try_into().map(Digest).expect("32 bytes");
                let mut seed = [0; 32];
                seed[..8].copy_from_slice(&number_of(self.scene.plan.seed, "forger").to_be_bytes());
                bytes.truncate(end);
                bytes.extend(seal_bytes(self.inspected.node, &signing_key(seed), &link));
                ("a snapshot that a stranger has sealed", bytes)
            }
        }
    }

    /// The state is the one that was kept, and opens what had been encrypted.
    async fn has_it_all(&self) {
        let (scene, header) = (self.scene, &self.inspected.header);
        self.agrees_with_the_past(header);
        for one in &self.file.ciphertexts {
            let owner = one.key / scene.plan.keys * scene.plan.group;
            let mut client = Client::new(scene, owner, &format!("after all at {}", self.new));
            let mut seen = Seen::NotDone;
            for _ in 0..TRIES {
                seen = client.decrypt_at(self.new, one.clone(), 0, false).await;
                if !matches!(seen, Seen::NotDone) {
                    break;
                }
            }
            // Rights and states of keys are as they were when it was kept.
            let answered = matches!(seen, Seen::Decrypted | Seen::Denied | Seen::Disabled);
            scene.board.expect(Promise::Liveness, answered, || {
                format!("node {} does not decrypt what was encrypted before its snapshot: {seen:?}", self.new)
            });
        }
    }

    fn agrees_with_the_past(&self, header: &SnapshotHeader) {
        self.scene.promises.states.kept(self.inspected.node, header.sequence, header.shared);
    }
}
