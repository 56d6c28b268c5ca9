//! One caller, who uses keys by one reading. Each use is judged for itself; what all of them are judged by is looked up once,
//! since a reading does not change.

use super::{Reading, Service};
use crate::gate::Standing;
use crate::keyring::Bench;
use claviger_core::failure::Failure;
use claviger_core::policy::{Action, Caller, Permit};

/// Who judges what a caller does by one reading, and where it is done.
pub struct Judge<'a> {
    standing: Result<Standing, Failure>,
    bench: Result<Bench<'a>, Failure>,
}

impl<'a> Judge<'a> {
    /// For the uses of one caller. That the node is sealed is told to whoever would use a key.
    pub(super) fn new(service: &'a Service, caller: &Caller, reading: &'a Reading) -> Self {
        let standing = service.gate.standing(caller, &reading.view, reading.opened.as_deref());
        Judge { standing, bench: service.bench(reading) }
    }

    /// Leave to do `A`.
    pub(super) fn permit<A: Action>(&self, on: A::On) -> Result<Permit<A>, Failure> {
        self.standing.as_ref().map_err(Clone::clone)?.authorise(on)
    }

    /// Where keys are used: that the node is sealed, if it is.
    pub(super) fn bench(&self) -> Result<&Bench<'a>, Failure> {
        self.bench.as_ref().map_err(Clone::clone)
    }
}
