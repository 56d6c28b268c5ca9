//! Streams of chunks: what sealing one and opening one have in common, and the key that is looked up anew whenever chunks
//! are worked on. Nothing here keeps a key from one time to the next.

use super::{Bench, Key};
use claviger_core::envelope::{
    CHUNK_BYTES, Context, Header, NotSealed, SEALED_CHUNK_BYTES, StreamHeader, StreamOpener, StreamSealer, Suite,
    Undecryptable,
};
use claviger_core::failure::{Cause, Failure, Refused};
use claviger_core::material::Material;
use claviger_core::name::KeyName;
use claviger_core::policy::action::{DecryptStream, EncryptStream};
use claviger_core::policy::{Action, Operation, Permit};
use claviger_core::secret::SecretBytes;
use claviger_world::entropy;
use std::sync::Arc;

/// A stream on its way: sealed, or opened. A failure uses it up.
pub trait ChunkCourse: Sized + Send + Sync {
    /// The leave that chunks are worked on by.
    type Leave: Action<On = KeyName>;
    /// What the page of the chunks names them as.
    const CHUNK: Operation;
    /// A chunk as it comes, in bytes; the last may be shorter.
    const CHUNK_BYTES: usize;
    /// The stream's header.
    fn header(&self) -> &StreamHeader;
    /// Works on a chunk that something follows.
    fn chunk(self, material: &Material, chunk: &SecretBytes) -> Result<(SecretBytes, Self), Failure>;
    /// Works on the last chunk.
    fn last(self, material: &Material, chunk: &SecretBytes) -> Result<SecretBytes, Failure>;
}

impl ChunkCourse for StreamSealer {
    type Leave = EncryptStream;
    const CHUNK: Operation = Operation::Encrypt;
    const CHUNK_BYTES: usize = CHUNK_BYTES;
    fn header(&self) -> &StreamHeader {
        self.header()
    }
    fn chunk(self, material: &Material, chunk: &SecretBytes) -> Result<(SecretBytes, Self), Failure> {
        let (sealed, next) = self.seal(material, chunk).map_err(unsealed)?;
        Ok((SecretBytes::take(sealed), next))
    }
    fn last(self, material: &Material, chunk: &SecretBytes) -> Result<SecretBytes, Failure> {
        self.seal_last(material, chunk).map(SecretBytes::take).map_err(unsealed)
    }
}

fn unsealed(why: NotSealed) -> Failure {
    match why {
        NotSealed::TooLong => Refused::TooLong("a stream of more than 2^32 chunks").into(),
        NotSealed::Misshapen | NotSealed::OtherMaterial => Cause("a chunk was not cut as streams are").into(),
    }
}

impl ChunkCourse for StreamOpener {
    type Leave = DecryptStream;
    const CHUNK: Operation = Operation::Decrypt;
    const CHUNK_BYTES: usize = SEALED_CHUNK_BYTES;
    fn header(&self) -> &StreamHeader {
        self.header()
    }
    fn chunk(self, material: &Material, chunk: &SecretBytes) -> Result<(SecretBytes, Self), Failure> {
        self.open(material, chunk.expose()).map_err(undecryptable)
    }
    fn last(self, material: &Material, chunk: &SecretBytes) -> Result<SecretBytes, Failure> {
        self.open_last(material, chunk.expose()).map_err(undecryptable)
    }
}

fn undecryptable(_: Undecryptable) -> Failure {
    Refused::Undecryptable.into()
}

/// Begins to encrypt with the key's primary version, under a salt that serves nothing else. The stream keeps that version
/// to its end.
///
/// # Errors
/// Of the key: absent, disabled.
pub fn begin_sealing(
    bench: &Bench<'_>,
    permit: Permit<EncryptStream>,
    context: &Context,
) -> Result<StreamSealer, Failure> {
    let key = bench.key(permit.key())?;
    let material = key.material(bench.opened, bench.view, key.record.encrypting()?.number)?;
    Ok(StreamSealer::begin(&material, context, entropy::fresh(bench.entropy), entropy::fresh(bench.entropy)))
}

/// Begins to decrypt what some version of the key encrypted.
///
/// # Errors
/// Of the key: absent, disabled, that version below the lowest that decrypts. Of the header: that it is a message's, else
/// one word for all.
pub fn begin_opening(
    bench: &Bench<'_>,
    permit: Permit<DecryptStream>,
    header: &[u8],
    context: &Context,
) -> Result<StreamOpener, Failure> {
    if Suite::of(header) == Some(Suite::Message) {
        return Err(Refused::BadRequest("a stream; this is a message, which Decrypt opens").into());
    }
    let header = StreamHeader::parse(header).map_err(|_| Refused::Undecryptable)?;
    let material = bench.stream_material(permit.key(), header.header())?;
    StreamOpener::begin(&material, context, header).map_err(undecryptable)
}

/// The key of a stream, if whoever has leave may still use it.
///
/// # Errors
/// Of the key: absent, another by that name, disabled, the stream's version below the lowest that decrypts.
pub fn stream_key<A: Action<On = KeyName>>(
    bench: &Bench<'_>,
    permit: Permit<A>,
    header: &StreamHeader,
) -> Result<StreamKey, Failure> {
    bench.stream_material(&permit.spend(), header.header()).map(StreamKey)
}

/// What chunks are worked on with, for as long as one reading computes. Never kept.
pub struct StreamKey(Arc<Material>);

/// Works on some chunks, and on the last where it is there; the stream goes on where it is not.
///
/// # Errors
/// Of a chunk: one word for all.
pub fn work<C: ChunkCourse>(
    key: &StreamKey,
    mut course: C,
    chunks: &[SecretBytes],
    last: Option<&SecretBytes>,
) -> Result<(Vec<SecretBytes>, Option<C>), Failure> {
    let mut made = Vec::with_capacity(chunks.len() + 1);
    for chunk in chunks {
        let (done, next) = course.chunk(&key.0, chunk)?;
        made.push(done);
        course = next;
    }
    let Some(last) = last else { return Ok((made, Some(course))) };
    made.push(course.last(&key.0, last)?);
    Ok((made, None))
}

impl Bench<'_> {
    fn stream_material(&self, name: &KeyName, header: &Header) -> Result<Arc<Material>, Failure> {
        let key: Arc<Key> = self.key(name)?;
        let known = key.record.version(header.version);
        if header.key != key.record.id || known.is_none_or(|version| version.material != header.material) {
            return Err(Refused::Undecryptable.into());
        }
        key.material(self.opened, self.view, key.record.decrypting(header.version)?.number)
    }
}
