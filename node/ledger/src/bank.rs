//! The state's two banks: each a pair of tables, of which one is the state and the other takes a snapshot in, chunk by
//! chunk, until one small batch makes it the state.
//!
//! The machine knows of one state in `Space::Records` and `Space::Machine`; only what is behind these names changes.

use crate::machine::LoadFailed;
use bytes::Bytes;
use claviger_world::disk::{Batch, Change, DiskFailed, Pair, Reading, Space};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// In `Space::Raft`: how often a snapshot was made the state. Absent on a disk that never took one.
const COUNT: &[u8] = b"bank";
/// Greater than every key of the tables, and than every key that an image could bring.
pub(crate) const AFTER_ALL_KEYS: [u8; 160] = [0xff; 160];

/// One of the banks: counted up each time that a snapshot is made the state, and of two banks the even or the odd one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Bank(u64);

impl Bank {
    /// The bank that is the state on this disk.
    pub fn current(disk: &dyn Reading) -> Result<Bank, LoadFailed> {
        let Some(stored) = disk.read(Space::Raft, COUNT)? else { return Ok(Bank(0)) };
        let count = stored[..].try_into().map_err(|_| LoadFailed::Damaged("which bank is the state"))?;
        Ok(Bank(u64::from_be_bytes(count)))
    }

    /// The one that is the state after this one.
    pub fn next(self) -> Bank {
        Bank(self.0.wrapping_add(1))
    }

    /// Adds to a batch that this bank is the state from it on.
    pub fn select(self, batch: &mut Batch) {
        batch.put(Space::Raft, COUNT, self.0.to_be_bytes().to_vec());
    }

    /// Adds to a batch that nothing is left in this bank.
    pub fn clear(self, batch: &mut Batch) {
        for space in [self.space(Space::Records), self.space(Space::Machine)] {
            batch.delete_range(space, &[][..], &AFTER_ALL_KEYS[..]);
        }
    }

    /// Where this bank has what the machine calls by that name. All else is where it is.
    pub fn space(self, space: Space) -> Space {
        match (space, self.0 % 2) {
            (Space::Records, 1) => Space::RecordsOdd,
            (Space::Machine, 1) => Space::MachineOdd,
            (other, _) => other,
        }
    }

    /// A batch of the machine's, as it has to be written for this bank.
    pub fn place(self, batch: Batch) -> Batch {
        let placed = |change| match change {
            Change::Put(space, key, value) => Change::Put(self.space(space), key, value),
            Change::Delete(space, key) => Change::Delete(self.space(space), key),
            Change::DeleteRange(space, from, to) => Change::DeleteRange(self.space(space), from, to),
        };
        Batch(batch.0.into_iter().map(placed).collect())
    }

    /// The disk, or a view of it, as the machine reads it when this bank is the state.
    pub fn of(self, reading: Arc<dyn Reading>) -> Banked {
        Banked { bank: self, reading }
    }

    /// Whether there is nothing in this bank.
    pub fn is_empty(self, disk: &dyn Reading) -> Result<bool, DiskFailed> {
        for space in [Space::Records, Space::Machine] {
            if !disk.scan(self.space(space), &[], None, 1)?.is_empty() {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

/// A bank, read by the machine's names.
pub(crate) struct Banked {
    bank: Bank,
    reading: Arc<dyn Reading>,
}

impl Reading for Banked {
    fn read(&self, space: Space, key: &[u8]) -> Result<Option<Bytes>, DiskFailed> {
        self.reading.read(self.bank.space(space), key)
    }

    fn scan(&self, space: Space, from: &[u8], to: Option<&[u8]>, limit: usize) -> Result<Vec<Pair>, DiskFailed> {
        self.reading.scan(self.bank.space(space), from, to, limit)
    }
}

/// Which bank is the state now, as everything in a running node knows it.
pub(crate) struct Banks(AtomicU64);

impl Banks {
    /// Begins with the bank that the disk names.
    pub fn new(current: Bank) -> Banks {
        Banks(AtomicU64::new(current.0))
    }

    /// The bank that is the state.
    pub fn current(&self) -> Bank {
        Bank(self.0.load(Ordering::SeqCst))
    }

    /// From here on it is this one: the disk says so already.
    pub fn switch(&self, to: Bank) {
        self.0.store(to.0, Ordering::SeqCst);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machine::Memory;
    use crate::machine::tests::store;

    fn write(disk: &mut Memory, batch: Batch) {
        batch.0.into_iter().for_each(|change| store(disk, change));
    }

    fn record(value: &'static [u8]) -> Batch {
        let mut batch = Batch::default();
        batch.put(Space::Records, &b"key"[..], value).put(Space::Log, &b"key"[..], &b"entry"[..]);
        batch
    }

    #[test]
    fn banks_take_turns_and_are_apart() {
        let mut disk = Memory::default();
        let old = Bank::current(&disk).unwrap();
        let new = old.next();
        write(&mut disk, old.place(record(b"old")));
        write(&mut disk, new.place(record(b"new")));
        assert_eq!((new.next().space(Space::Records), old), (Space::Records, Bank(0)));
        let read = |bank: Bank, disk: &Memory| {
            bank.of(Arc::new(Memory(disk.0.clone()))).read(Space::Records, b"key").unwrap().map(|v| v.to_vec())
        };
        assert_eq!((read(old, &disk), read(new, &disk)), (Some(b"old".to_vec()), Some(b"new".to_vec())));
        let mut switch = Batch::default();
        new.select(&mut switch);
        old.clear(&mut switch);
        write(&mut disk, switch);
        assert_eq!(Bank::current(&disk), Ok(new));
        assert_eq!((read(old, &disk), read(new, &disk)), (None, Some(b"new".to_vec())));
        assert_eq!((old.is_empty(&disk), new.is_empty(&disk)), (Ok(true), Ok(false)));
        assert!(disk.read(Space::Log, b"key").unwrap().is_some(), "all else is in no bank");
    }
}
