//! What happens to a disk from outside: power cuts, failures, a full disk, damage while the node is off; and how the
//! oracle reads it, past every fault.

use super::files::FileBytes;
use super::platter::{Key, Platter, is_raw};
use super::{Honesty, NEWEST, SimDisk};
use crate::dice::Dice;
use bytes::Bytes;
use claviger_core::mark::MARK_BYTES;
use claviger_world::disk::{Pair, Space};
use std::collections::BTreeMap;
use std::fmt;

/// How a disk can be damaged while its node is off.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Damage {
    /// One bit of a value. In `Space::Records` and `Space::Machine` the value is read as it is, and the node itself must
    /// notice; elsewhere whatever touches the pair fails from then on, as with RocksDB's checksums.
    BitFlip,
    /// A record, or a pair of the machine's memory, is what it was before it was last written.
    LostWrite,
    /// The value of such a pair stands under another key of its space too.
    MisdirectedWrite,
    /// One bit of a value in the bank that is not the state: of a snapshot that is being taken in.
    StagedFlip,
    /// One bit of the marks of how far the log was durable, not in the last one: that could have been torn.
    MarkFlip,
    /// The file with those marks is gone.
    MarkLost,
    /// One bit of an audit file, not in its newest part where the file is long enough.
    AuditFlip,
}

/// What lay on a disk at one moment.
#[derive(Clone)]
pub struct Copy {
    values: BTreeMap<Key, Bytes>,
    files: BTreeMap<String, Vec<u8>>,
}

/// How much of a copy is put back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Extent {
    /// Everything: the disk is what it was.
    Whole,
    /// The tables, beside files that are newer.
    Tables,
}

/// What of a file is synced.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Synced {
    /// Its name.
    pub name: String,
    /// The bytes that were asked for.
    pub bytes: Vec<u8>,
    /// Whether nothing comes after them.
    pub whole: bool,
}

impl SimDisk {
    /// Power is cut: a random beginning of the waiting batches is kept, and of every file's unsynced tail; a file that
    /// was never synced may be gone. What had failed works again. Call it when the node's tasks are gone.
    pub fn crash(&self) {
        let (mut platter, dice) = (self.platter.lock(), &self.chances.crash);
        let kept = dice.roll(0..platter.waiting() + 1);
        platter.lose_waiting(kept);
        let kept = match self.honesty {
            Honesty::Honest => platter.stamp,
            Honesty::Lying => dice.roll(platter.durable..platter.stamp + 1),
        };
        platter.fall_back(kept);
        platter.files.retain(|_, file| file.named || dice.once_in(2));
        for file in platter.files.values_mut() {
            let unsynced = file.bytes.len() - file.synced;
            file.tear(dice.roll(0..unsynced as u64 + 1) as usize);
        }
    }

    /// How many batches all crashes so far have lost.
    pub fn lost_batches(&self) -> u64 {
        self.platter.lock().lost_batches
    }

    /// Lets the next batch or file sync of this life fail. Whether it came to be durable shows after a crash. As with
    /// the real disk no later batch succeeds, or nothing more is done to that file, until then.
    pub fn fail_next_write(&self) {
        self.platter.lock().fail_next = true;
    }

    /// No room is left: batches that put something, appends and syncs of new bytes fail.
    pub fn fill(&self) {
        self.platter.lock().full = true;
    }

    /// There is room again. A node whose batch has failed needs a new life all the same.
    pub fn free(&self) {
        self.platter.lock().full = false;
    }

    /// Empties the disk, as if another had been put in. Call it when the node's tasks are gone.
    pub fn wipe(&self) {
        self.platter.lock().wipe();
    }

    /// A copy of the disk of a node that is off.
    pub fn copy(&self) -> Copy {
        let platter = self.platter.lock();
        let values = platter.live().map(|(key, value)| (key.clone(), value.clone())).collect();
        Copy { values, files: platter.files.iter().map(|(name, file)| (name.clone(), file.bytes.clone())).collect() }
    }

    /// Puts a copy back under a node that is off.
    pub fn put_back(&self, copy: &Copy, extent: Extent) {
        self.platter.lock().put_back(copy, extent);
    }

    /// Damages the disk of a node that is off. What was damaged; nothing when there was nothing to damage.
    pub fn damage(&self, kind: Damage) -> Option<String> {
        let (platter, dice) = (&mut *self.platter.lock(), &self.chances.damage);
        match kind {
            Damage::BitFlip => flip_bit(platter, dice),
            Damage::LostWrite => lose_write(platter, dice),
            Damage::MisdirectedWrite => misdirect_write(platter, dice),
            Damage::StagedFlip => flip_staged(platter, dice),
            Damage::MarkFlip => flip_mark(platter, dice),
            Damage::MarkLost => lose_mark(platter),
            Damage::AuditFlip => flip_audit(platter, dice),
        }
    }

    /// All live pairs as they lie there, in order.
    pub fn image(&self) -> Vec<(Space, Bytes, Bytes)> {
        let live = self.platter.lock();
        live.live().map(|((space, key), value)| (*space, key.clone(), value.clone())).collect()
    }

    /// All files with their bytes, unsynced ones too, in order of name.
    pub fn file_bytes(&self) -> Vec<(String, Vec<u8>)> {
        self.platter.lock().files.iter().map(|(name, file)| (name.clone(), file.bytes.clone())).collect()
    }

    /// What a crash surely leaves of the files from `file` on, in order of name, of those whose names begin with `prefix`;
    /// of `file` itself what comes after `offset` bytes. Empty names come before all others.
    pub fn synced_from(&self, prefix: &str, file: &str, offset: usize) -> Vec<Synced> {
        let platter = self.platter.lock();
        let files = platter.files.range(file.to_owned()..).filter(|(name, _)| name.starts_with(prefix));
        let part = |(name, held): (&String, &FileBytes)| {
            let from = if name == file { offset.min(held.synced) } else { 0 };
            let whole = held.synced == held.bytes.len();
            Synced { name: name.clone(), bytes: held.bytes[from..held.synced].to_vec(), whole }
        };
        files.map(part).collect()
    }

    /// The newest value at a key, as it lies there.
    pub fn pair(&self, space: Space, key: &[u8]) -> Option<Bytes> {
        let platter = self.platter.lock();
        platter.newest(&(space, Bytes::copy_from_slice(key))).cloned()
    }

    /// Up to `limit` newest pairs with `from <= key < to`, as they lie there.
    pub fn scan_now(&self, space: Space, from: &[u8], to: Option<&[u8]>, limit: usize) -> Vec<Pair> {
        self.platter.lock().pairs(NEWEST, space, from, to, limit)
    }
}

impl Platter {
    fn put_back(&mut self, copy: &Copy, extent: Extent) {
        let files = std::mem::take(&mut self.files);
        self.wipe();
        self.stamp += 1;
        self.durable = self.stamp;
        let stamp = self.stamp;
        self.values =
            copy.values.iter().map(|(key, value)| (key.clone(), vec![(stamp, Some(value.clone()))])).collect();
        self.files = match extent {
            Extent::Whole => copy.files.iter().map(|(name, bytes)| (name.clone(), FileBytes::durable(bytes))).collect(),
            Extent::Tables => files,
        };
    }

    fn live(&self) -> impl Iterator<Item = (&Key, &Bytes)> {
        self.values.iter().filter_map(|(key, held)| Some((key, held.last()?.1.as_ref()?)))
    }

    fn newest(&self, key: &Key) -> Option<&Bytes> {
        self.values.get(key)?.last()?.1.as_ref()
    }

    /// The bank that is not the state: what is harmed there harms a snapshot at most.
    fn other_bank(&self) -> [Space; 2] {
        let count = self.newest(&(Space::Raft, Bytes::from_static(b"bank")));
        match count.and_then(|count| count.last()).is_some_and(|last| last % 2 == 1) {
            true => [Space::Records, Space::Machine],
            false => [Space::RecordsOdd, Space::MachineOdd],
        }
    }

    /// What had flipped while a snapshot was taken in, and is there yet, is right again. A bit that flips when all of it was read
    /// back already is a fault of another kind, which a start alone would notice.
    pub(super) fn heal(&mut self) {
        for (key, wrong, right) in std::mem::take(&mut self.flipped) {
            if self.newest(&key) == Some(&wrong) {
                self.forge(&key, Some(right));
            }
        }
    }

    /// Puts a value there, or takes it away, past every batch.
    fn forge(&mut self, key: &Key, value: Option<Bytes>) {
        match (value, self.values.get_mut(key).and_then(|held| held.last_mut())) {
            (Some(value), Some(newest)) => newest.1 = Some(value),
            (Some(_), None) => (),
            (None, _) => _ = self.values.remove(key),
        }
        self.previous.remove(key);
    }
}

fn flip_bit(platter: &mut Platter, dice: &Dice) -> Option<String> {
    let whole = |key: &Key, value: &Bytes| !value.is_empty() && !platter.mismatched.contains(key);
    let other = platter.other_bank();
    let inhabited = |space: &Space| platter.live().any(|(key, value)| key.0 == *space && whole(key, value));
    // The space first: else it would be the log's almost every time.
    let of_the_state = Space::ALL.into_iter().filter(|space| !other.contains(space));
    let space = one_of(of_the_state.filter(inhabited).collect(), dice)?;
    let keys = platter.live().filter(|(key, value)| key.0 == space && whole(key, value));
    let key = one_of(keys.map(|(key, _)| key.clone()).collect(), dice)?;
    let mut value = platter.newest(&key)?.to_vec();
    let (byte, bit) = flip(&mut value, dice);
    let told = format!("bit {bit} of byte {byte} of {} is flipped", Shown(&key));
    if is_raw(space) {
        platter.forge(&key, Some(value.into()));
    } else {
        platter.mismatched.insert(key);
    }
    Some(told)
}

fn flip_staged(platter: &mut Platter, dice: &Dice) -> Option<String> {
    let other = platter.other_bank();
    let staged = platter.live().filter(|(key, value)| other.contains(&key.0) && !value.is_empty());
    let (key, value) = one_of(staged.map(owned).collect(), dice)?;
    let mut value = value.to_vec();
    let (right, (byte, bit)) = (Bytes::from(value.clone()), flip(&mut value, dice));
    let told = format!("bit {bit} of byte {byte} of {} is flipped", Shown(&key));
    let wrong = Bytes::from(value);
    platter.forge(&key, Some(wrong.clone()));
    platter.flipped.push((key, wrong, right));
    Some(told)
}

fn lose_write(platter: &mut Platter, dice: &Dice) -> Option<String> {
    let other = platter.other_bank();
    let written = platter.previous.iter().filter(|(key, before)| {
        let now = platter.newest(key);
        now.is_some() && now != before.as_ref() && !other.contains(&key.0)
    });
    let (key, before) = one_of(written.map(|(key, before)| (key.clone(), before.clone())).collect(), dice)?;
    let told = match &before {
        Some(_) => format!("{} is what it was before its last write", Shown(&key)),
        None => format!("{} is gone, as before its first write", Shown(&key)),
    };
    platter.forge(&key, before);
    Some(told)
}

fn misdirect_write(platter: &mut Platter, dice: &Dice) -> Option<String> {
    let other = platter.other_bank();
    let raw = platter.live().filter(|(key, _)| is_raw(key.0) && !other.contains(&key.0));
    let raw: Vec<(Key, Bytes)> = raw.map(owned).collect();
    let (source, value) = one_of(raw.clone(), dice)?;
    let others = raw.into_iter().filter(|(key, held)| key.0 == source.0 && *held != value);
    let (target, _) = one_of(others.collect(), dice)?;
    platter.forge(&target, Some(value));
    Some(format!("{} has the value of {}", Shown(&target), Shown(&source)))
}

/// The file of marks, once it holds any.
fn marks(platter: &Platter) -> Option<String> {
    let marks = |(name, file): &(&String, &FileBytes)| name.starts_with("mark-") && file.synced > 0;
    platter.files.iter().find(marks).map(|(name, _)| name.clone())
}

fn flip_mark(platter: &mut Platter, dice: &Dice) -> Option<String> {
    let name = marks(platter)?;
    let file = platter.files.get_mut(&name)?;
    let old = file.bytes.len().checked_sub(MARK_BYTES).filter(|old| *old > 0).unwrap_or(file.bytes.len());
    let (byte, bit) = flip(&mut file.bytes[..old], dice);
    Some(format!("bit {bit} of byte {byte} of {name} is flipped"))
}

fn lose_mark(platter: &mut Platter) -> Option<String> {
    let name = marks(platter)?;
    platter.files.remove(&name);
    Some(format!("{name} is gone"))
}

fn flip_audit(platter: &mut Platter, dice: &Dice) -> Option<String> {
    let books = platter.files.iter().filter(|(name, file)| name.starts_with("audit-") && file.synced > 0);
    let name = one_of(books.map(|(name, _)| name.clone()).collect(), dice)?;
    let file = platter.files.get_mut(&name)?;
    let (old, place) = match file.synced.checked_sub(NEWEST_BYTES) {
        None | Some(0) => (file.synced, ", in its newest part"),
        Some(old) => (old, ""),
    };
    let (byte, bit) = flip(&mut file.bytes[..old], dice);
    Some(format!("bit {bit} of byte {byte} of {name} ({} bytes){place} is flipped", file.synced))
}

/// Flips a bit of bytes that are not empty. Which byte, and which bit of it.
fn flip(bytes: &mut [u8], dice: &Dice) -> (usize, u64) {
    let (byte, bit) = (dice.roll(0..bytes.len() as u64) as usize, dice.roll(0..8));
    bytes[byte] ^= 1 << bit;
    (byte, bit)
}

fn one_of<T>(mut from: Vec<T>, dice: &Dice) -> Option<T> {
    (!from.is_empty()).then(|| from.swap_remove(dice.roll(0..from.len() as u64) as usize))
}

fn owned((key, value): (&Key, &Bytes)) -> (Key, Bytes) {
    (key.clone(), value.clone())
}

/// A key, for people.
struct Shown<'a>(&'a Key);

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}/", self.0.0)?;
        self.0.1.iter().try_for_each(|b| write!(f, "{b:02x}"))
    }
}

/// The newest part of an audit file, in bytes: a crash could have torn it.
const NEWEST_BYTES: usize = 4 << 10;
