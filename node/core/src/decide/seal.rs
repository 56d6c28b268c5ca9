//! Sealing a whole region: a link of the header chain with a higher seal epoch.

use super::draft::Draft;
use super::{Decision, Desk, Stamp};
use crate::books;
use crate::chance::Chance;
use crate::codec::{Canonical, Writer};
use crate::crypto;
use crate::failure::{Cause, Failure};
use crate::header::{Header, HeaderLink};
use crate::policy::{Permit, SealAll};
use crate::record::{RecordKey, Table, Version, View};

/// Seals every node that applies it. The outcome is the seal epoch from then on.
///
/// # Errors
/// A header chain that cannot be read.
pub fn seal_all(
    desk: &Desk<'_>,
    permit: Permit<SealAll>,
    stamp: Stamp,
    chance: &mut Chance,
) -> Result<Decision<u64>, Failure> {
    let (newest, _) = newest_header(desk.view)?.ok_or(Cause("an open node has no header"))?;
    let header = Header { seal_epoch: newest.header.seal_epoch + 1, ..following(&newest) };
    let epoch = header.seal_epoch;
    let mut draft = Draft::by(desk, &permit);
    draft.rely(&place(newest.header.number));
    draft.put_open(place(header.number), &desk.keyring.sign_header(header));
    let mut answer = Writer::default();
    answer.u64(epoch);
    Ok(draft.finish(stamp, answer.as_slice(), epoch, chance))
}

/// The newest link of the header chain, if the cluster has been founded, with the version of its record.
///
/// # Errors
/// A link that cannot be read.
pub fn newest_header(view: &dyn View) -> Result<Option<(HeaderLink, Version)>, Cause> {
    books::read_open(view, &place(newest_number(view)))
}

/// The link that changes nothing.
pub(super) fn following(link: &HeaderLink) -> Header {
    let previous = crypto::sha256(&[&link.to_bytes()]);
    Header { number: link.header.number + 1, previous, mandate: None, ..link.header.clone() }
}

pub(super) fn place(number: u64) -> RecordKey {
    RecordKey::numbered(Table::Header, number)
}

/// Links have numbers without gaps and are never deleted, so the last is found by doubling, then halving.
fn newest_number(view: &dyn View) -> u64 {
    let there = |number| view.version(&place(number)) != 0;
    let mut beyond = 1;
    while there(beyond) {
        beyond *= 2;
    }
    let mut last = beyond / 2;
    while last + 1 < beyond {
        let middle = last + (beyond - last) / 2;
        if there(middle) { last = middle } else { beyond = middle }
    }
    last
}
