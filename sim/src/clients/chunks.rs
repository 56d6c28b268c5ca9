//! What a client has sealed and opened in streams of chunks. Pieces of them come in over some seconds, so that rights and
//! keys change under them; some are cut or put together otherwise before they are opened. To the promises each chunk is a
//! use of the key of its own.

use super::{Client, context, made_with};
use crate::door::{ChunkAsk, ChunkLine, Errand, Heard};
use crate::history::{Ask, Attempt, Deed, Moment, Seen};
use crate::house::Life;
use crate::promises::Promise;
use crate::promises::ciphertexts::Kept;
use claviger_core::envelope::{CHUNK_BYTES, SEALED_CHUNK_BYTES, STREAM_HEADER_BYTES, StreamHeader};
use claviger_core::failure::Failure;
use claviger_core::name::NodeId;
use claviger_core::policy::Operation;
use claviger_server::service::{DecryptStreamAsk, EncryptStreamAsk, PIECE_BYTES_MAX};
use std::time::Duration;

/// Full chunks of one stream, at most.
const CHUNKS_MAX: u64 = 5;
/// Longest pause between two pieces, in milliseconds.
const PIECE_PAUSE_MS_MAX: u64 = 2_000;
/// Bytes of a plaintext that are looked for wherever they may stand in the clear.
const WATCHED_BYTES: usize = 64;

/// A stream on its way.
struct Passage {
    key: u64,
    node: NodeId,
    began: Moment,
    seals: bool,
}

/// What came of a stream.
#[derive(Default)]
struct Passed {
    /// Begun with that revision, and under that version.
    begun: Option<(u64, u32)>,
    bytes: Vec<u8>,
    /// How it ended; none when nobody heard.
    end: Option<Result<(), Failure>>,
}

impl Client {
    /// Seals one, opens one, or opens one that was spoiled.
    pub(super) async fn pass_chunks(&mut self, key: u64) {
        let kept = self.scene.promises.ciphertexts.some_stream(key, &self.chunks);
        match (kept, self.chunks.roll(0..5)) {
            (None, _) | (Some(_), 0..2) => self.seal_chunks(key).await,
            (Some(kept), 2..4) => self.open_chunks(kept).await,
            (Some(kept), _) => self.open_spoiled(kept).await,
        }
    }

    async fn seal_chunks(&mut self, key: u64) {
        let plaintext = self.long_plaintext();
        let pair = self.chunks.once_in(2).then(|| format!("context {}", self.chunks.roll(0..1_000)));
        let name = self.scene.keys[key as usize].clone();
        let context_of = context(pair.as_deref());
        let ask = ChunkAsk::Seal(EncryptStreamAsk { name, context: context_of, min_revision: self.revision });
        let (node, came) = self.pass(key, (Operation::EncryptStream, ask), &plaintext).await;
        let Passed { begun: Some((revision, version)), bytes, end: Some(Ok(())) } = came else { return };
        self.scene.promises.clear.look("a stream", &bytes);
        let kept = Kept { key, version, ciphertext: bytes, plaintext, context: pair, revision };
        let whole = kept.ciphertext.len() == sealed_bytes(kept.plaintext.len());
        let length = kept.ciphertext.len();
        self.scene.board.expect(Promise::Ciphertexts, whole, || {
            format!("a stream of {} bytes was sealed to {length} on node {node}", kept.plaintext.len())
        });
        self.scene.promises.ciphertexts.keep_stream(kept);
    }

    async fn open_chunks(&mut self, kept: Kept) {
        let elsewhere = self.chunks.once_in(8);
        let pair = if elsewhere { Some("another context") } else { kept.context.as_deref() };
        let (node, came) = self.open(&kept, &kept.ciphertext, pair).await;
        let Some(end) = came.end else { return };
        let answer = end.map(|()| came.bytes);
        let ciphertexts = &self.scene.promises.ciphertexts;
        match elsewhere {
            true => ciphertexts.opened_elsewhere(node, &kept, &answer),
            false => ciphertexts.opened(node, &kept, &answer),
        }
    }

    async fn open_spoiled(&mut self, kept: Kept) {
        let spoiled = self.spoil(&kept.ciphertext);
        let (node, came) = self.open(&kept, &spoiled, kept.context.as_deref()).await;
        if let Some(end) = came.end {
            self.scene.promises.ciphertexts.spoiled(node, &kept, end.is_ok());
        }
    }

    async fn open(&mut self, kept: &Kept, stream: &[u8], pair: Option<&str>) -> (NodeId, Passed) {
        let (header, rest) = stream.split_at(STREAM_HEADER_BYTES);
        let name = self.scene.keys[kept.key as usize].clone();
        let (header, min_revision) = (header.to_vec(), self.revision.max(kept.revision));
        let ask = ChunkAsk::Open(DecryptStreamAsk { name, context: context(pair), header, min_revision });
        self.pass(kept.key, (Operation::DecryptStream, ask), rest).await
    }

    /// Sends all of it to some node, piece by piece, and hears what comes back. Now and then the connection breaks.
    async fn pass(&mut self, key: u64, (operation, ask): (Operation, ChunkAsk), input: &[u8]) -> (NodeId, Passed) {
        let node = *self.chunks.pick(&self.scene.house.all()).expect("a cluster has nodes");
        let (scene, began) = (self.scene.clone(), self.scene.trace.moment());
        let passage = Passage { key, node, began, seals: operation == Operation::EncryptStream };
        let oracle = scene.clone();
        let look = move |life: &Life, header: &StreamHeader| made_with(&oracle, life, key, header.header());
        let patience = Duration::from_millis(self.chunks.roll(500..scene.plan.patience_ms.max(1_000)));
        let guest = &scene.clients[self.number as usize];
        let errand = Errand { house: &scene.house, guest, operation, patience, dice: &self.chunks };
        let Some(line) = errand.open_chunks(node, ask, look).await else { return (node, Passed::default()) };
        self.send_pieces(&line, input).await;
        (node, self.hear(line, patience, passage).await)
    }

    async fn send_pieces(&self, line: &ChunkLine, input: &[u8]) {
        let mut rest = input;
        while !rest.is_empty() && !self.scene.is_over() && !line.pieces.is_closed() {
            let size = self.chunks.roll(1_000..PIECE_BYTES_MAX as u64 + 1) as usize;
            let (piece, later) = rest.split_at(size.min(rest.len()));
            // Nobody there: it has ended meanwhile.
            line.pieces.send(piece.to_vec()).ok();
            rest = later;
            tokio::time::sleep(Duration::from_millis(self.chunks.roll(0..PIECE_PAUSE_MS_MAX))).await;
        }
        let left = !rest.is_empty() && !line.pieces.is_closed();
        if left || self.chunks.once_in(10) {
            line.break_off();
        }
    }

    /// Half-closes, and hears to the end, or as long as patience lasts.
    async fn hear(&mut self, line: ChunkLine, patience: Duration, passage: Passage) -> Passed {
        let ChunkLine { pieces, mut heard, serving } = line;
        drop(pieces);
        let mut came = Passed::default();
        while let Ok(Some(heard)) = tokio::time::timeout(patience, heard.recv()).await {
            let version = came.begun.map_or(0, |(_, version)| version);
            match heard {
                Heard::Begun { header, revision } => {
                    self.revision = self.revision.max(revision);
                    came.begun = Some((revision, header.header().version));
                    came.bytes.extend(passage.seals.then_some(header.as_bytes()).into_iter().flatten());
                }
                Heard::Chunk { bytes, received, handed } => {
                    came.bytes.extend(bytes);
                    self.used(&passage, version, (received, handed), true);
                }
                Heard::End { received, handed, why } => {
                    if why.is_some() {
                        self.used(&passage, version, (received, handed), false);
                    }
                    came.end = Some(why.map_or(Ok(()), Err));
                }
            }
        }
        serving.abort();
        came
    }

    /// One use of a key, for the promises.
    fn used(&mut self, passage: &Passage, version: u32, (received, handed): (Moment, Moment), served: bool) {
        let Passage { key, node, began, seals } = *passage;
        let handed = Some(handed);
        self.scene.promises.sealed.asked(node, (received, handed), Duration::ZERO, served);
        let ask = if seals { Ask::Encrypt { stale_ms: 0 } } else { Ask::Decrypt { version, stale_ms: 0 } };
        let left = self.scene.trace.moment();
        let attempts = vec![Attempt { node, received, handed, served }];
        // What came of it as a whole is told to the promise about ciphertexts.
        let (client, ended, seen) = (self.number, Some(left), Seen::NotDone);
        self.scene.did(Deed { client, key, ask, began, ended, left, seen, revision: 0, attempts });
    }

    /// Of any length, and now and then of one that is a multiple of a chunk's. It begins with bytes that occur nowhere else.
    fn long_plaintext(&self) -> Vec<u8> {
        let rest = *self.chunks.pick(&[0, 0, 1, 1_000, CHUNK_BYTES - 1]).unwrap_or(&0);
        let width = self.chunks.roll(0..CHUNKS_MAX) as usize * CHUNK_BYTES + rest;
        let block: [u8; WATCHED_BYTES] = self.chunks.bytes();
        self.scene.promises.clear.watch_briefly(&format!("a stream of client {}", self.number), &block);
        // Chunks that are not alike: a number, and the block.
        let numbered = (0_u64..).flat_map(|number| number.to_be_bytes().into_iter().chain(block));
        block.into_iter().chain(numbered).take(width).collect()
    }

    /// Cut, reordered, doubled, or going on behind its end.
    fn spoil(&self, stream: &[u8]) -> Vec<u8> {
        let (header, rest) = stream.split_at(STREAM_HEADER_BYTES);
        let mut chunks: Vec<&[u8]> = rest.chunks(SEALED_CHUNK_BYTES).collect();
        let count = chunks.len();
        let at = self.chunks.roll(0..count as u64) as usize;
        match (self.chunks.roll(0..4), count) {
            (0 | 1, 2..) => chunks.truncate(at.max(1)),
            (2, 2..) => chunks.swap(at, (at + 1) % count),
            (3, _) => chunks.insert(at, chunks[at]),
            (_, _) => chunks.push(b"and more"),
        }
        [header, &chunks.concat()].concat()
    }
}

/// How long a stream of so many bytes is.
fn sealed_bytes(plaintext_bytes: usize) -> usize {
    STREAM_HEADER_BYTES + plaintext_bytes + 16 * plaintext_bytes.div_ceil(CHUNK_BYTES).max(1)
}
