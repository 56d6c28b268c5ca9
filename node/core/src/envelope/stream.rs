//! Streams: ciphertexts of any length (suite 2). A header as a message has it, then chunks that are sealed one by one, so
//! that neither side ever holds more than one of them.
//!
//! Chunk i is AES-256-GCM under the stream's own key, with nonce = prefix 7, u32 i, u8 last, and AAD = SHA-256 of what a
//! message would have as its AAD (the STREAM construction of Hoang, Reyhanitabar, Rogaway and Vizár, CRYPTO 2015). Every
//! chunk has [`CHUNK_BYTES`] of plaintext but the last, which has at least one byte, unless the stream is of nothing at all.
//! So each plaintext has one shape, and a stream that was cut, reordered, or goes on behind its end does not open.
//!
//! A sealer and an opener hold no key: they are given the material for each chunk, by whoever looked at rights and at the
//! key's state for that chunk.

use super::{Context, HEADER_BYTES, Header, PREFIX_BYTES, Sealing, Suite, Undecryptable, with_aad};
use crate::chance::Fresh;
use crate::codec::Malformed;
use crate::crypto::{NONCE_BYTES, TAG_BYTES, sha256};
use crate::material::Material;
use crate::name::Digest;
use crate::planted;
use crate::secret::SecretBytes;
use std::fmt;
use zeroize::Zeroizing;

/// Plaintext of every chunk but the last, in bytes.
pub const CHUNK_BYTES: usize = 65_536;
/// A sealed chunk, in bytes; the last may be shorter.
pub const SEALED_CHUNK_BYTES: usize = CHUNK_BYTES + TAG_BYTES;
/// What stands before the first chunk, in bytes.
pub const STREAM_HEADER_BYTES: usize = HEADER_BYTES;
/// Fresh bytes of every nonce of a stream.
pub const NONCE_PREFIX_BYTES: usize = 7;

/// Why a chunk was not sealed: its caller broke the form of a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotSealed {
    /// Every chunk but the last has [`CHUNK_BYTES`]; the last has no more, and none only when it is the first.
    Misshapen,
    /// There is no number left for a chunk after this one: 2^32 of them are 256 TiB.
    TooLong,
    /// The material is not that of the stream.
    OtherMaterial,
}

impl fmt::Display for NotSealed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            NotSealed::Misshapen => "a chunk of a stream has 65,536 bytes, and only the last may have fewer",
            NotSealed::TooLong => "a stream has 2^32 chunks at most",
            NotSealed::OtherMaterial => "the material is not that of the stream",
        })
    }
}

impl std::error::Error for NotSealed {}

/// The clear part of a stream, of the right shape. Nothing in it is to be believed before a chunk has opened.
#[derive(Clone, Copy)]
pub struct StreamHeader {
    header: Header,
    head: [u8; HEADER_BYTES],
}

impl StreamHeader {
    /// Parses exactly: 112 bytes, of suite 2, the unused end of the nonce zero.
    pub fn parse(bytes: &[u8]) -> Result<Self, Malformed> {
        let head = *bytes.first_chunk::<HEADER_BYTES>().ok_or(Malformed::Short)?;
        if bytes.len() > HEADER_BYTES {
            return Err(Malformed::Trailing);
        }
        let header = Header::read(&head, Suite::Stream)?;
        let unused = &header.nonce[NONCE_PREFIX_BYTES..];
        if unused.iter().any(|byte| *byte != 0) {
            return Err(Malformed::Unknown);
        }
        Ok(StreamHeader { header, head })
    }

    /// What it says.
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// As it stands before the first chunk.
    pub fn as_bytes(&self) -> &[u8; STREAM_HEADER_BYTES] {
        &self.head
    }
}

/// Where a stream has come to. Holds no key.
struct Course {
    header: StreamHeader,
    /// Of every chunk: SHA-256 of a message's AAD.
    aad: Digest,
    /// Of the next chunk.
    number: u32,
}

/// Which chunk it is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    Middle,
    Last,
}

impl Course {
    fn begin(header: StreamHeader, material: &Material, context: &Context) -> Self {
        let aad = with_aad(&header.head, &material.context().tenant, context, |aad| sha256(&[aad]));
        Course { header, aad, number: 0 }
    }

    /// The key of the stream, if the material is its own.
    fn key(&self, material: &Material) -> Result<Sealing, Undecryptable> {
        Sealing::of(material, self.header.header(), Suite::Stream)
    }

    /// Prefix 7, u32 i, u8 last.
    fn nonce(&self, place: Place) -> [u8; NONCE_BYTES] {
        let mut nonce = [0; NONCE_BYTES];
        let (prefix, rest) = nonce.split_at_mut(NONCE_PREFIX_BYTES);
        prefix.copy_from_slice(&self.header.header.nonce[..NONCE_PREFIX_BYTES]);
        rest[..4].copy_from_slice(&self.number.to_be_bytes());
        rest[4] = u8::from(place == Place::Last);
        nonce
    }

    /// The one shape that a plaintext has in chunks.
    fn shaped(&self, bytes: usize, place: Place) -> bool {
        match place {
            Place::Middle => bytes == CHUNK_BYTES,
            Place::Last => bytes <= CHUNK_BYTES && (bytes > 0 || self.number == 0),
        }
    }

    /// After one more chunk; nothing where the numbers are used up, for a nonce is never used twice.
    fn after(self) -> Option<Self> {
        Some(Course { number: self.number.checked_add(1)?, ..self })
    }
}

/// Seals a stream, chunk after chunk. The last uses it up, and so does a failure: an interrupted encryption is never
/// resumed.
pub struct StreamSealer(Course);

impl StreamSealer {
    /// Begins a stream under a salt and a nonce prefix that nothing else has.
    pub fn begin(material: &Material, context: &Context, salt: Fresh<32>, prefix: Fresh<NONCE_PREFIX_BYTES>) -> Self {
        let (sealing, mut nonce) = (Sealing::fresh(material, salt, Suite::Stream), [0; NONCE_BYTES]);
        nonce[..NONCE_PREFIX_BYTES].copy_from_slice(&prefix.spend());
        let mut head = [0; HEADER_BYTES];
        head[..PREFIX_BYTES].copy_from_slice(&sealing.prefix);
        head[PREFIX_BYTES..PREFIX_BYTES + NONCE_BYTES].copy_from_slice(&nonce);
        head[PREFIX_BYTES + NONCE_BYTES..].copy_from_slice(&sealing.commitment);
        let header = StreamHeader::parse(&head).expect("a header of our own making");
        StreamSealer(Course::begin(header, material, context))
    }

    /// What stands before the first chunk.
    pub fn header(&self) -> &StreamHeader {
        &self.0.header
    }

    /// Seals a chunk that is not the last: [`CHUNK_BYTES`] of plaintext.
    pub fn seal(self, material: &Material, chunk: &SecretBytes) -> Result<(Vec<u8>, Self), NotSealed> {
        let sealed = self.chunk(material, chunk, Place::Middle)?;
        // The last number is for a last chunk: without it the stream could not end.
        Ok((sealed, StreamSealer(self.0.after().ok_or(NotSealed::TooLong)?)))
    }

    /// Seals the last chunk: the rest of the plaintext. Nothing comes after it.
    pub fn seal_last(self, material: &Material, chunk: &SecretBytes) -> Result<Vec<u8>, NotSealed> {
        self.chunk(material, chunk, Place::Last)
    }

    fn chunk(&self, material: &Material, chunk: &SecretBytes, place: Place) -> Result<Vec<u8>, NotSealed> {
        if !self.0.shaped(chunk.size_bytes(), place) {
            return Err(NotSealed::Misshapen);
        }
        let sealing = self.0.key(material).map_err(|_| NotSealed::OtherMaterial)?;
        let mut out = Vec::with_capacity(chunk.size_bytes() + TAG_BYTES);
        out.extend_from_slice(chunk.expose());
        let tag = sealing.key.seal_in_place(&self.0.nonce(place), &self.0.aad.0, &mut out);
        out.extend_from_slice(&tag);
        Ok(out)
    }
}

/// Opens a stream, chunk after chunk. The last uses it up, and so does a failure. Until the last chunk has opened nobody
/// knows that the stream is whole.
pub struct StreamOpener(Course);

impl StreamOpener {
    /// Begins with a header whose material this is.
    pub fn begin(material: &Material, context: &Context, header: StreamHeader) -> Result<Self, Undecryptable> {
        let course = Course::begin(header, material, context);
        course.key(material)?;
        Ok(StreamOpener(course))
    }

    /// What stood before the first chunk.
    pub fn header(&self) -> &StreamHeader {
        &self.0.header
    }

    /// Opens a chunk that something follows: [`SEALED_CHUNK_BYTES`].
    pub fn open(self, material: &Material, sealed: &[u8]) -> Result<(SecretBytes, Self), Undecryptable> {
        let chunk = self.chunk(material, sealed, Place::Middle)?;
        Ok((chunk, StreamOpener(self.0.after().ok_or(Undecryptable)?)))
    }

    /// Opens the chunk that nothing follows. From here on the stream is known to be whole.
    pub fn open_last(self, material: &Material, sealed: &[u8]) -> Result<SecretBytes, Undecryptable> {
        if planted!(StreamEndNotFlagged)
            && let Ok(chunk) = self.chunk(material, sealed, Place::Middle)
        {
            return Ok(chunk);
        }
        self.chunk(material, sealed, Place::Last)
    }

    fn chunk(&self, material: &Material, sealed: &[u8], place: Place) -> Result<SecretBytes, Undecryptable> {
        let plaintext_bytes = sealed.len().checked_sub(TAG_BYTES).ok_or(Undecryptable)?;
        if !self.0.shaped(plaintext_bytes, place) {
            return Err(Undecryptable);
        }
        let sealing = self.0.key(material)?;
        sealing.key.open(&self.0.nonce(place), &self.0.aad.0, sealed).ok_or(Undecryptable)
    }
}

/// Cuts bytes that come in pieces of any size into chunks of one size. A chunk is given out only when something follows
/// it, so that what is left at the end is the last.
pub struct Cutter {
    chunk_bytes: usize,
    held: Zeroizing<Vec<u8>>,
}

impl Cutter {
    /// Holds nothing yet.
    pub fn new(chunk_bytes: usize) -> Self {
        Cutter { chunk_bytes, held: room(chunk_bytes) }
    }

    /// Takes from the front of `piece`; the next chunk, once it is whole and not the last. None when the piece is used up.
    pub fn cut(&mut self, piece: &mut &[u8]) -> Option<SecretBytes> {
        let space = self.chunk_bytes - self.held.len();
        let (now, later) = piece.split_at(space.min(piece.len()));
        self.held.extend_from_slice(now);
        *piece = later;
        (!later.is_empty()).then(|| self.take())
    }

    /// All chunks that are whole once this piece has come, and not the last.
    pub fn feed(&mut self, piece: &SecretBytes) -> Vec<SecretBytes> {
        let mut piece = piece.expose();
        std::iter::from_fn(|| self.cut(&mut piece)).collect()
    }

    /// What is left when nothing more comes: the last chunk.
    pub fn rest(mut self) -> SecretBytes {
        self.take()
    }

    fn take(&mut self) -> SecretBytes {
        let mut whole = std::mem::replace(&mut self.held, room(self.chunk_bytes));
        SecretBytes::take(std::mem::take(&mut *whole))
    }
}

/// A buffer that never moves: no copy of a plaintext stays behind.
fn room(bytes: usize) -> Zeroizing<Vec<u8>> {
    Zeroizing::new(Vec::with_capacity(bytes))
}

#[cfg(test)]
mod tests;
