//! How many streams of chunks are open at once: each holds some memory for as long as its caller likes.

use super::Why;
use claviger_core::name::KeyHash;
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Streams of chunks that a node has open at once, at most.
pub(crate) const STREAMS_MAX: usize = 256;
/// Of these, streams of one caller, at most.
pub(crate) const STREAMS_OF_CALLER_MAX: usize = 64;

/// The streams that are open, by the key of their caller's certificate.
#[derive(Default)]
pub(crate) struct Berths(Mutex<BTreeMap<KeyHash, usize>>);

/// Room for one stream. Dropped, it is free again.
pub(crate) struct Berth {
    berths: Arc<Berths>,
    caller: KeyHash,
}

impl Berths {
    /// Room for one more.
    ///
    /// # Errors
    /// `Overloaded` when there is none.
    pub(crate) fn take(self: &Arc<Self>, caller: KeyHash) -> Result<Berth, Why> {
        let mut taken = self.0.lock();
        let of_caller = taken.get(&caller).copied().unwrap_or(0);
        if of_caller >= STREAMS_OF_CALLER_MAX || taken.values().sum::<usize>() >= STREAMS_MAX {
            return Err(Why::Overloaded);
        }
        taken.insert(caller, of_caller + 1);
        Ok(Berth { berths: self.clone(), caller })
    }
}

impl Drop for Berth {
    fn drop(&mut self) {
        let mut taken = self.berths.0.lock();
        let left = taken.get(&self.caller).map_or(0, |count| count - 1);
        if left == 0 {
            taken.remove(&self.caller);
        } else {
            taken.insert(self.caller, left);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn caller(number: usize) -> KeyHash {
        KeyHash([number as u8; 32])
    }

    #[test]
    fn one_caller_does_not_take_all_and_all_is_bounded() {
        let berths = Arc::new(Berths::default());
        let take = |number| berths.take(caller(number));
        let mut held: Vec<Berth> = (0..STREAMS_OF_CALLER_MAX).map(|_| take(1).ok().unwrap()).collect();
        assert_eq!(take(1).err(), Some(Why::Overloaded));
        held.extend((held.len()..STREAMS_MAX).map(|nth| take(2 + nth / STREAMS_OF_CALLER_MAX).ok().unwrap()));
        assert_eq!(take(9).err(), Some(Why::Overloaded));
        held.swap_remove(0);
        assert!(take(9).is_ok());
        drop(held);
        assert!(berths.0.lock().is_empty());
    }
}
