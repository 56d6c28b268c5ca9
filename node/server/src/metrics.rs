//! What the node counts, for Prometheus: names begin with `claviger_`, units are base units.

use claviger_core::page::OutcomeWord;
use claviger_core::policy::Operation;
use prometheus_client::encoding::{EncodeLabelSet, text};
use prometheus_client::metrics::{counter::Counter, family::Family, gauge::Gauge};
use prometheus_client::registry::Registry;
use std::sync::Mutex;

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Answered {
    operation: &'static str,
    outcome: String,
}

/// The node's counters and gauges.
pub struct Metrics {
    registry: Mutex<Registry>,
    requests: Family<Answered, Counter>,
    open: Gauge,
    leader: Gauge,
    applied: Gauge,
    term: Gauge,
    audit_pages: Gauge,
}

impl Default for Metrics {
    fn default() -> Self {
        let mut registry = Registry::with_prefix("claviger");
        let requests = Family::default();
        let help = "Requests, and items of batches and streams, answered, by operation and outcome";
        registry.register("requests", help, requests.clone());
        let mut gauge = |name: &str, help: &str| {
            let gauge = Gauge::default();
            registry.register(name, help, gauge.clone());
            gauge
        };
        let open = gauge("seal_open", "1 while the node holds the root key, 0 while it is sealed");
        let leader = gauge("raft_is_leader", "1 while this node leads");
        let applied = gauge("raft_applied_index", "Log index of the last entry applied");
        let term = gauge("raft_term", "The newest term that this node knows");
        let audit_pages = gauge("audit_pages", "Pages in this node's audit book");
        Metrics { registry: Mutex::new(registry), requests, open, leader, applied, term, audit_pages }
    }
}

impl Metrics {
    /// Counts answers that are alike.
    pub fn answered(&self, operation: Operation, outcome: OutcomeWord, count: u64) {
        let (operation, outcome) = (operation.word(), outcome.to_string());
        self.requests.get_or_create(&Answered { operation, outcome }).inc_by(count);
    }

    /// Notes whether the node is open.
    pub fn set_open(&self, open: bool) {
        self.open.set(i64::from(open));
    }

    /// Notes where Raft stands.
    pub fn set_raft(&self, leads: bool, term: u64, applied: u64) {
        self.leader.set(i64::from(leads));
        self.term.set(term.try_into().unwrap_or(i64::MAX));
        self.applied.set(applied.try_into().unwrap_or(i64::MAX));
    }

    /// Notes how long the audit book is.
    pub fn set_audit_pages(&self, pages: u64) {
        self.audit_pages.set(pages.try_into().unwrap_or(i64::MAX));
    }

    /// Lets another room register what it counts.
    pub fn register(&self, add: impl FnOnce(&mut Registry)) {
        add(&mut self.registry.lock().expect("no metric panics while it is registered"));
    }

    /// Everything in the OpenMetrics text format.
    pub fn text(&self) -> String {
        let mut out = String::new();
        let registry = self.registry.lock().expect("no metric panics while it is registered");
        text::encode(&mut out, &registry).expect("writing to a string does not fail");
        out
    }
}
