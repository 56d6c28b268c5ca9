//! Room for proven connections on one listener: so many in all, and for the bearers of one key no more than half of them.
//! Whoever has a certificate, and floods us with it, leaves room for whoever must seal.

use claviger_core::name::Digest;
use parking_lot::Mutex;
use std::{
    collections::{HashMap, hash_map::Entry},
    sync::Arc,
};

/// The places of one listener.
pub struct Places {
    most: usize,
    taken: Mutex<Taken>,
}

#[derive(Default)]
struct Taken {
    all: usize,
    /// By the digest of the certificate's key. Nobody is named here who has no place.
    of_one: HashMap<Digest, usize>,
}

/// Why there is no place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Full {
    /// All are taken.
    All,
    /// Half of them are taken with that key.
    OfOne,
}

impl Full {
    /// For the log.
    pub fn told(self) -> &'static str {
        match self {
            Full::All => "limits.connections is reached",
            Full::OfOne => "half of limits.connections are of this one certificate",
        }
    }
}

/// A place that is taken, until this is dropped.
pub struct Place {
    places: Arc<Places>,
    key: Digest,
}

impl Places {
    /// So many, none of them taken.
    pub fn new(most: usize) -> Arc<Places> {
        Arc::new(Places { most, taken: Mutex::default() })
    }

    /// Takes one for the bearer of that key.
    ///
    /// # Errors
    /// There is none.
    pub fn take(self: &Arc<Self>, key: Digest) -> Result<Place, Full> {
        let mut taken = self.taken.lock();
        if taken.all >= self.most {
            return Err(Full::All);
        }
        let of_one = taken.of_one.get(&key).copied().unwrap_or(0);
        if of_one >= self.most.div_ceil(2) {
            return Err(Full::OfOne);
        }
        taken.all += 1;
        taken.of_one.insert(key, of_one + 1);
        Ok(Place { places: self.clone(), key })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = self.places.taken.lock();
        taken.all -= 1;
        if let Entry::Occupied(mut of_one) = taken.of_one.entry(self.key) {
            *of_one.get_mut() -= 1;
            if *of_one.get() == 0 {
                of_one.remove();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_key_leaves_half_of_them_to_others() {
        let (places, one, other) = (Places::new(5), Digest([1; 32]), Digest([2; 32]));
        let mut held: Vec<Place> = (0..3).map(|_| places.take(one).unwrap()).collect();
        assert_eq!(places.take(one).err(), Some(Full::OfOne));
        let others: Vec<Place> = (0..2).map(|_| places.take(other).unwrap()).collect();
        assert_eq!((places.take(one).err(), places.take(other).err()), (Some(Full::All), Some(Full::All)));
        drop(held.pop());
        assert!(places.take(one).is_ok(), "it was given free, and is again");
        drop((held, others));
        let taken = places.taken.lock();
        assert_eq!((taken.all, taken.of_one.len()), (0, 0), "nobody is remembered");
    }

    #[test]
    fn a_single_place_is_anybodys() {
        let places = Places::new(1);
        let held = places.take(Digest([1; 32])).unwrap();
        assert_eq!(places.take(Digest([2; 32])).err(), Some(Full::All));
        drop(held);
        assert!(places.take(Digest([2; 32])).is_ok());
    }
}
