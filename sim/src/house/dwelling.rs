//! What is known of one node, whether it is on or off.

use super::Life;
use crate::dice::number_of;
use crate::disk::SimDisk;
use crate::papers::node_papers;
use crate::plan::Plan;
use crate::trace::Trace;
use claviger_core::crypto::SigningKey;
use claviger_core::name::NodeId;
use claviger_world::runtime::Context;
use std::sync::Arc;

/// What outlives a crash.
pub(super) struct Dwelling {
    pub disk: SimDisk,
    pub key: SigningKey,
    pub der: Arc<[u8]>,
    pub life: Option<Life>,
    /// The tasks of a life that has not come to the end of its start.
    pub nascent: Option<Arc<Context>>,
    pub lives: u64,
    /// Why it stays off for good.
    pub lost: Option<String>,
    /// Whether its disk was wiped: whoever starts on it is nobody's member.
    pub wiped: bool,
    /// Whether its disk was put back to what it was before: it must end, and say why, as soon as it can ask anybody.
    pub set_back: bool,
    /// Whether somebody means it to be off for now.
    pub off: bool,
    /// Whether a fault has just given it a reason to end by itself, or not to start: until it has started well again.
    pub excused: bool,
    /// After which log entry a bit flipped in its memory: until it ends, or starts well again.
    pub astray: Option<u64>,
    /// Whether its disk was damaged: any reason not to start is a good one.
    pub hurt: bool,
    /// Whether it belongs to the cluster, or is on its way into it.
    pub belongs: bool,
    /// Whether it votes, as far as whoever changes the members knows: of these at most a minority may be lost.
    pub counts: bool,
    /// Its leave to join.
    pub ticket: Option<String>,
    /// Whether it may end to carry a mandate out.
    pub inherits: bool,
    /// Whether another node goes on alone too, which it can reach.
    pub torn: bool,
    /// Whether it was lost with others, and has come back: it must hear that it has left.
    pub back: bool,
    /// Whether it may refuse a snapshot: a bit flipped of one that it was taking in, or in the memory of whoever sends one.
    pub may_refuse: bool,
}

impl Dwelling {
    /// Of a node that is off, on a disk with nothing on it.
    pub fn new(plan: &Plan, trace: &Arc<Trace>, number: u64, belongs: bool) -> Dwelling {
        let (key, der) = node_papers(plan.seed, NodeId(number));
        let disk = SimDisk::seeded(trace.clone(), number_of(plan.seed, &format!("disk {number}")));
        Dwelling {
            disk,
            key,
            der,
            life: None,
            nascent: None,
            lives: 0,
            lost: None,
            wiped: false,
            set_back: false,
            off: false,
            excused: false,
            astray: None,
            hurt: false,
            belongs,
            counts: belongs,
            ticket: None,
            inherits: false,
            torn: false,
            back: false,
            may_refuse: false,
        }
    }

    /// Whether it stands on the disk that it should, as far as anybody knows.
    pub fn on_its_own_disk(&self) -> bool {
        !self.wiped && !self.set_back
    }
}
