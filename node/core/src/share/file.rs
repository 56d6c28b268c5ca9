//! The share file: what a custodian is handed and keeps. In clear, where the share belongs; then the share itself,
//! encrypted to the custodian with age, which this crate carries unread.

use super::{Share, ShareContext, ShareError};
use crate::crypto::equal;
use crate::name::{BadName, Digest, Identity, Lineage, Segment};
use std::{fmt, str::FromStr};

/// Longest share file, in bytes.
pub const SHARE_FILE_BYTES_MAX: usize = 16_384;

const TITLE: &str = "claviger share, format 1";
const ARMOR_BEGIN: &str = "-----BEGIN AGE ENCRYPTED FILE-----\n";
const ARMOR_END: &str = "-----END AGE ENCRYPTED FILE-----\n";
const BAD: BadName = BadName("a claviger share file of format 1, unchanged");

/// A share file. Its text form is exact: these lines, in this order, each ended by one line feed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShareFile {
    /// The cluster's name.
    pub cluster: Segment,
    /// Lineage, region, epoch, threshold and number of shares.
    pub context: ShareContext,
    /// The slot that the share helps to unlock.
    pub slot: u32,
    /// x of the share.
    pub index: u8,
    /// Who holds it.
    pub holder: Identity,
    /// d_i of the share.
    pub checksum: Digest,
    /// The payload ([`Share::to_payload`]) as an armored age file, encrypted to the holder.
    pub armor: String,
}

impl ShareFile {
    /// The share that was found inside, if it is the one that the clear lines speak of.
    pub fn accept(&self, payload: &[u8]) -> Result<Share, ShareError> {
        let share = Share::from_payload(payload).map_err(|_| ShareError::Forged(self.index))?;
        if *share.context() != self.context || share.index() != self.index {
            return Err(ShareError::Foreign(self.index));
        }
        if equal(&share.digest().0, &self.checksum.0) { Ok(share) } else { Err(ShareError::Forged(self.index)) }
    }
}

impl fmt::Display for ShareFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let c = &self.context;
        writeln!(f, "{TITLE}\ncluster: {}\nregion: {}\nlineage: {}", self.cluster, c.region(), c.lineage())?;
        writeln!(f, "epoch: {}\nslot: {}\nthreshold: {}\nshares: {}", c.epoch(), self.slot, c.threshold(), c.count())?;
        writeln!(f, "index: {}\nholder: {}\nchecksum: {}\n", self.index, self.holder, self.checksum)?;
        f.write_str(&self.armor)
    }
}

impl FromStr for ShareFile {
    type Err = BadName;
    fn from_str(text: &str) -> Result<Self, BadName> {
        if text.len() > SHARE_FILE_BYTES_MAX {
            return Err(BAD);
        }
        let mut lines = Lines(text);
        lines.exact(TITLE)?;
        let cluster = lines.field("cluster")?;
        let region: Segment = lines.field("region")?;
        let lineage: Lineage = lines.field("lineage")?;
        let (epoch, slot) = (lines.number("epoch")?, lines.number("slot")?);
        let (threshold, count, index) = (lines.number("threshold")?, lines.number("shares")?, lines.number("index")?);
        let (holder, checksum) = (lines.field("holder")?, lines.field("checksum")?);
        lines.exact("")?;
        let context = ShareContext::new(lineage, region, epoch, threshold, count).map_err(|_| BAD)?;
        let good = armored(lines.0) && (1..=count).contains(&index);
        let file = ShareFile { cluster, context, slot, index, holder, checksum, armor: lines.0.to_owned() };
        if good { Ok(file) } else { Err(BAD) }
    }
}

/// Whether the text is one armored file and nothing else. What is in it is age's to judge.
fn armored(text: &str) -> bool {
    let body = text.strip_prefix(ARMOR_BEGIN).and_then(|t| t.strip_suffix(ARMOR_END));
    let base64 = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'/' | b'=' | b'\n');
    body.is_some_and(|b| b.ends_with('\n') && b.bytes().all(base64))
}

/// The lines that are left.
struct Lines<'a>(&'a str);

impl<'a> Lines<'a> {
    fn next(&mut self) -> Result<&'a str, BadName> {
        let (line, rest) = self.0.split_once('\n').ok_or(BAD)?;
        self.0 = rest;
        Ok(line)
    }

    fn exact(&mut self, line: &str) -> Result<(), BadName> {
        if self.next()? == line { Ok(()) } else { Err(BAD) }
    }

    fn value(&mut self, name: &str) -> Result<&'a str, BadName> {
        self.next()?.strip_prefix(name).and_then(|l| l.strip_prefix(": ")).ok_or(BAD)
    }

    fn field<T: FromStr<Err = BadName>>(&mut self, name: &str) -> Result<T, BadName> {
        self.value(name)?.parse().map_err(|_| BAD)
    }

    /// A decimal number in its one form: no sign, no leading zero.
    fn number<T: FromStr + fmt::Display>(&mut self, name: &str) -> Result<T, BadName> {
        let text = self.value(name)?;
        let number: T = text.parse().map_err(|_| BAD)?;
        if number.to_string() == text { Ok(number) } else { Err(BAD) }
    }
}
