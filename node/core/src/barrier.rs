//! The barrier: values of sealed records. Format, term, the version that the value replaces, then SU under the term's
//! key over the padded plaintext, bound to cluster, place and the version replaced. (A record's own version is known
//! only when it is applied.)

use crate::chance::Fresh;
use crate::codec::{Malformed, Reader, Writer};
use crate::kdf::{self, Ctx, SALT_BYTES, SU_BYTES, label};
use crate::keyring::Keyring;
use crate::name::Lineage;
use crate::planted;
use crate::record::{RECORD_BYTES_MAX, RecordKey, Table, Version};
use crate::secret::SecretBytes;
use std::fmt;

/// Plaintexts are padded to a multiple of this many bytes, their length in front of them included.
pub const PAD_BYTES: usize = 64;
/// Longest plaintext of a sealed record, in bytes.
pub const RECORD_PLAINTEXT_BYTES_MAX: usize = RECORD_BYTES_MAX - CLEAR_BYTES - SU_BYTES - 4 - (PAD_BYTES - 1);

const FORMAT: u16 = 1;
/// format u16, term u32, replaces u64.
const CLEAR_BYTES: usize = 14;

/// A sealed record that does not open: an operator must look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RecordBroken {
    /// It is not what the format says.
    Malformed(Malformed),
    /// It is sealed under a term that the keyring does not know.
    Term(u32),
    /// It was changed, moved, or sealed in another cluster.
    Tampered,
}

impl fmt::Display for RecordBroken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RecordBroken::Malformed(malformed) => write!(f, "a sealed record is malformed: {malformed}"),
            RecordBroken::Term(term) => {
                write!(f, "a sealed record is of barrier term {term}, which the keyring has not")
            }
            RecordBroken::Tampered => f.write_str("a sealed record was changed, moved, or is of another cluster"),
        }
    }
}

impl std::error::Error for RecordBroken {}

impl From<Malformed> for RecordBroken {
    fn from(malformed: Malformed) -> Self {
        RecordBroken::Malformed(malformed)
    }
}

impl Keyring {
    /// The value for a put at `key` that replaces version `replaces` (0: there is neither record nor tombstone).
    ///
    /// # Panics
    /// Over [`RECORD_PLAINTEXT_BYTES_MAX`]: records are bounded where they are made.
    pub fn seal_record(
        &self,
        lineage: &Lineage,
        key: &RecordKey,
        replaces: Version,
        plaintext: &[u8],
        salt: Fresh<SALT_BYTES>,
    ) -> Vec<u8> {
        assert!(plaintext.len() <= RECORD_PLAINTEXT_BYTES_MAX, "records are bounded where they are made");
        let (term, barrier) = self.term();
        let padded = pad(plaintext);
        let mut w = Writer::with_room(CLEAR_BYTES + padded.expose().len() + SU_BYTES);
        w.u16(FORMAT).u32(term).u64(replaces);
        let mut value = w.into_bytes();
        let ctx = record_ctx(lineage, key, replaces, term);
        kdf::seal_onto(&mut value, barrier, label::RECORD, &ctx, padded.expose(), salt);
        if has_room(key) && planted!(RecordInClear) {
            append_clear(&mut value, plaintext);
        }
        value
    }

    /// The plaintext of the value at `key`.
    pub fn open_record(&self, lineage: &Lineage, key: &RecordKey, value: &[u8]) -> Result<SecretBytes, RecordBroken> {
        let value = if has_room(key) && planted!(RecordInClear) { strip_clear(value) } else { value };
        let mut r = Reader::new(value);
        if r.u16()? != FORMAT {
            return Err(Malformed::Unknown.into());
        }
        let (term, replaces) = (r.u32()?, r.u64()?);
        let barrier = self.term_key(term).ok_or(RecordBroken::Term(term))?;
        let ctx = record_ctx(lineage, key, replaces, term);
        let padded = kdf::open(barrier, label::RECORD, &ctx, &value[CLEAR_BYTES..]).ok_or(RecordBroken::Tampered)?;
        Ok(unpad(padded.expose())?)
    }
}

fn record_ctx(lineage: &Lineage, key: &RecordKey, replaces: Version, term: u32) -> Ctx {
    let place = Ctx::new().fixed(&lineage.0).u8(key.table as u8).fixed(&key.tenant.0).fixed(&key.tag);
    place.u64(replaces).u32(term)
}

/// LP(plaintext), then zeroes up to a multiple of [`PAD_BYTES`].
fn pad(plaintext: &[u8]) -> SecretBytes {
    let width = (4 + plaintext.len()).next_multiple_of(PAD_BYTES);
    let mut w = Writer::with_room(width);
    w.lp(plaintext);
    let mut padded = w.into_bytes();
    padded.resize(width, 0);
    SecretBytes::take(padded)
}

fn unpad(padded: &[u8]) -> Result<SecretBytes, Malformed> {
    let mut r = Reader::new(padded);
    let plaintext = r.lp(RECORD_PLAINTEXT_BYTES_MAX)?;
    let rest = r.raw(padded.len() - 4 - plaintext.len())?;
    let exact = padded.len() == (4 + plaintext.len()).next_multiple_of(PAD_BYTES) && rest.iter().all(|b| *b == 0);
    if exact { Ok(SecretBytes::take(plaintext.to_vec())) } else { Err(Malformed::Unknown) }
}

/// For a planted bug: whether a record's plaintext fits beside it. The bucket keys do not.
fn has_room(key: &RecordKey) -> bool {
    key.table != Table::Buckets
}

/// For a planted bug: the plaintext and its length, behind the sealed value.
fn append_clear(value: &mut Vec<u8>, plaintext: &[u8]) {
    let length = u32::try_from(plaintext.len()).expect("records are bounded where they are made");
    value.extend_from_slice(plaintext);
    value.extend_from_slice(&length.to_be_bytes());
}

/// For a planted bug: what stands before the plaintext.
fn strip_clear(value: &[u8]) -> &[u8] {
    let Some((rest, length)) = value.split_last_chunk::<4>() else { return value };
    let sealed = rest.len().checked_sub(u32::from_be_bytes(*length) as usize);
    sealed.map_or(value, |sealed| &value[..sealed])
}

#[cfg(test)]
mod tests;
