//! Shares of the unsealing secret U: dealt over GF(2^8), told apart by a digest, proven by a signature, put together
//! again only when every one of them is what its holder was given.
//!
//! The library shares bytes and nothing more: it answers Ok to too few, doubled or forged shares. Threshold,
//! distinctness, range and digests are enforced here, before it is asked.

mod file;

pub use file::{SHARE_FILE_BYTES_MAX, ShareFile};

use crate::chance::Chance;
use crate::codec::{Canonical, Malformed, Reader, Writer};
use crate::crypto::{self, SigningKey, equal, sha256};
use crate::kdf::{self, Ctx, label};
use crate::name::{Digest, Lineage, Segment, Signature, VerifyingKey};
use crate::planted;
use crate::roster::{Custodians, HOLDERS_MAX, Holder};
use crate::secret::{Secret32, SecretBytes};
use std::fmt;
use vsss_rs::Gf256;
use zeroize::Zeroizing;

/// Fewest shares that may open anything. One share that opens is no sharing.
pub const THRESHOLD_MIN: u8 = 2;

const PAYLOAD_FORMAT: u16 = 1;

/// Why shares were not dealt, taken or put together. Names the share by its index, so that its bearer can be named.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ShareError {
    /// Not 2 <= k <= n <= 64.
    Bounds,
    /// Fewer shares than the threshold.
    TooFew {
        /// Shares there are.
        have: usize,
        /// Shares that are needed.
        need: usize,
    },
    /// The share is of another cluster, region, epoch, threshold or number of shares.
    Foreign(u8),
    /// Nobody holds a share of that index.
    Unheld(u8),
    /// The share is not the one that was dealt under its index.
    Forged(u8),
    /// The share was given twice.
    Duplicate(u8),
}

impl fmt::Display for ShareError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ShareError::Bounds => {
                write!(f, "a threshold is at least 2, at most the number of shares, and that at most 64")
            }
            ShareError::TooFew { have, need } => write!(f, "{have} shares of the {need} that are needed"),
            ShareError::Foreign(i) => write!(f, "share {i} is of another cluster, region, epoch or sharing"),
            ShareError::Unheld(i) => write!(f, "nobody holds a share {i}"),
            ShareError::Forged(i) => write!(f, "share {i} is not the one that was dealt"),
            ShareError::Duplicate(i) => write!(f, "share {i} was given twice"),
        }
    }
}

impl std::error::Error for ShareError {}

/// Which sharing a share is of. Holds only what is possible: 2 <= k <= n <= 64.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShareContext {
    lineage: Lineage,
    region: Segment,
    epoch: u32,
    threshold: u8,
    count: u8,
}

impl ShareContext {
    /// A sharing of `count` shares, `threshold` of which open.
    pub fn new(lineage: Lineage, region: Segment, epoch: u32, threshold: u8, count: u8) -> Result<Self, ShareError> {
        let possible = THRESHOLD_MIN <= threshold && threshold <= count && usize::from(count) <= HOLDERS_MAX;
        if !possible {
            return Err(ShareError::Bounds);
        }
        Ok(ShareContext { lineage, region, epoch, threshold, count })
    }

    /// The sharing that a custodians record speaks of.
    pub fn of(lineage: Lineage, custodians: &Custodians) -> Result<Self, ShareError> {
        let count = u8::try_from(custodians.holders.len()).map_err(|_| ShareError::Bounds)?;
        ShareContext::new(lineage, custodians.region.clone(), custodians.epoch, custodians.threshold, count)
    }

    /// The cluster.
    pub fn lineage(&self) -> &Lineage {
        &self.lineage
    }
    /// The region whose unsealing secret is shared.
    pub fn region(&self) -> &Segment {
        &self.region
    }
    /// Raised by refresh and rekey, from 1.
    pub fn epoch(&self) -> u32 {
        self.epoch
    }
    /// k: shares that open.
    pub fn threshold(&self) -> u8 {
        self.threshold
    }
    /// n: shares that there are.
    pub fn count(&self) -> u8 {
        self.count
    }

    fn ctx(&self, index: u8) -> Ctx {
        let ctx = Ctx::new().fixed(&self.lineage.0).lp(self.region.as_str().as_bytes());
        ctx.u32(self.epoch).u8(self.threshold).u8(self.count).u8(index)
    }
}

/// One share: x and 32 y-bytes. Secret: no Debug, no Clone.
pub struct Share {
    context: ShareContext,
    index: u8,
    y: Secret32,
}

impl Share {
    /// The share of that index, 1..=n.
    pub fn new(context: ShareContext, index: u8, y: Secret32) -> Result<Self, ShareError> {
        if (1..=context.count).contains(&index) {
            Ok(Share { context, index, y })
        } else {
            Err(ShareError::Unheld(index))
        }
    }

    /// Which sharing it is of.
    pub fn context(&self) -> &ShareContext {
        &self.context
    }

    /// x: 1..=n.
    pub fn index(&self) -> u8 {
        self.index
    }

    /// d_i = SHA-256("claviger/v1/share" 00 ctx(lineage, region, epoch, k, n, i, y)). Public: y is 32 uniform bytes.
    pub fn digest(&self) -> Digest {
        let ctx = self.context.ctx(self.index);
        let (fields, rest) = ctx.as_slice().split_first().expect("a context starts with its field count");
        sha256(&[label::SHARE.as_str().as_bytes(), &[0, fields + 1], rest, self.y.expose()])
    }

    /// pk_i: whoever signs under it has the share.
    pub fn proof_key(&self) -> VerifyingKey {
        self.signing_key().public()
    }

    /// Shows possession: signs a challenge that the verifier drew.
    pub fn prove(&self, challenge: &[u8]) -> Signature {
        crypto::sign(&self.signing_key(), &proof_message(challenge))
    }

    /// Whether this is the share that its holder was given: alone, before any other is seen.
    pub fn check(&self, context: &ShareContext, holders: &[Holder]) -> Result<(), ShareError> {
        if self.context != *context {
            return Err(ShareError::Foreign(self.index));
        }
        let holder = holders.iter().find(|h| h.index == self.index).ok_or(ShareError::Unheld(self.index))?;
        let dealt = equal(&self.digest().0, &holder.digest.0) || planted!(ShareNotChecked);
        if dealt { Ok(()) } else { Err(ShareError::Forged(self.index)) }
    }

    /// What travels inside an encrypted share: format u16, lineage, LP(region), epoch u32, k, n, i, 32 y-bytes.
    pub fn to_payload(&self) -> SecretBytes {
        let mut w = Writer::with_room(2 + 32 + 4 + self.context.region.as_str().len() + 7 + 32);
        w.u16(PAYLOAD_FORMAT).raw(&self.context.lineage.0);
        self.context.region.write(&mut w);
        w.u32(self.context.epoch).u8(self.context.threshold).u8(self.context.count).u8(self.index);
        w.raw(self.y.expose());
        SecretBytes::take(w.into_bytes())
    }

    /// Reads what [`Share::to_payload`] wrote.
    pub fn from_payload(bytes: &[u8]) -> Result<Self, Malformed> {
        let mut r = Reader::new(bytes);
        if r.u16()? != PAYLOAD_FORMAT {
            return Err(Malformed::Unknown);
        }
        let (lineage, region, epoch) = (Lineage::read(&mut r)?, Segment::read(&mut r)?, r.u32()?);
        let context = ShareContext::new(lineage, region, epoch, r.u8()?, r.u8()?).map_err(|_| Malformed::Unknown)?;
        let index = r.u8()?;
        let y = Secret32::copy_from(r.raw(32)?).ok_or(Malformed::Short)?;
        r.end()?;
        Share::new(context, index, y).map_err(|_| Malformed::Unknown)
    }

    fn signing_key(&self) -> SigningKey {
        SigningKey::from_seed(kdf::derive(&self.y, label::SHARE_PROOF_KEY, &self.context.ctx(self.index)))
    }
}

/// Whether a signature over the challenge shows possession of the share whose proof key that is.
pub fn verify_proof(key: &VerifyingKey, challenge: &[u8], proof: &Signature) -> bool {
    crypto::verify(key, &proof_message(challenge), proof)
}

fn proof_message(challenge: &[u8]) -> Vec<u8> {
    let ctx = Ctx::new().lp(challenge);
    [label::SHARE_PROOF.as_str().as_bytes(), &[0], ctx.as_slice()].concat()
}

/// Deals a secret into the shares 1..=n of a sharing, k of which give it back; fewer say nothing of it.
///
/// For each byte of the secret, in order, the coefficients a_1 to a_(k-1) are the low bytes of as many u32 of `chance`.
pub fn deal(secret: &Secret32, context: &ShareContext, chance: &mut Chance) -> Vec<Share> {
    // The library leaves the last byte's polynomial behind in freed memory: so the last byte is a zero of no worth.
    let mut swept = Zeroizing::new([0; 33]);
    swept[..32].copy_from_slice(secret.expose());
    let (mut k, n) = (usize::from(context.threshold), usize::from(context.count));
    if k > 2 && planted!(LowDegree) {
        k -= 1;
    }
    let dealt =
        Gf256::split_bytes(k, n, swept.as_slice(), chance).expect("the bounds were kept when the context was made");
    Zeroizing::new(dealt).iter().map(|bytes| dealt_share(context, bytes)).collect()
}

/// A share as the library gives it: x, the y-bytes, and that of the sweep.
fn dealt_share(context: &ShareContext, bytes: &[u8]) -> Share {
    let (x, y) = bytes.split_first().expect("a share starts with its x");
    let y = Secret32::copy_from(&y[..32]).expect("a share has a y for every byte");
    Share::new(context.clone(), *x, y).expect("the library numbers shares from 1 to n")
}

/// Puts the secret together from at least k different shares of one sharing, each of which must be the one that its
/// holder was given.
pub fn combine(shares: &[Share], context: &ShareContext, holders: &[Holder]) -> Result<Secret32, ShareError> {
    let mut seen = [false; 256];
    for share in shares {
        share.check(context, holders)?;
        if std::mem::replace(&mut seen[usize::from(share.index)], true) {
            return Err(ShareError::Duplicate(share.index));
        }
    }
    let need = usize::from(context.threshold);
    if shares.len() < need {
        return Err(ShareError::TooFew { have: shares.len(), need });
    }
    Ok(interpolate(&shares[..need]))
}

/// The polynomials' value at 0, from checked shares.
fn interpolate(shares: &[Share]) -> Secret32 {
    let points = shares.iter().map(|s| [&[s.index], s.y.expose().as_slice()].concat()).collect::<Vec<_>>();
    let points = Zeroizing::new(points);
    let secret = Gf256::combine_bytes(points.as_slice()).expect("two or more distinct shares of one width");
    let secret = Zeroizing::new(secret);
    Secret32::copy_from(&secret).expect("a byte of the secret for every y")
}

#[cfg(test)]
mod tests;
