//! What the node counts, for Prometheus: names begin with `claviger_`, units are base units.

mod durations;
mod raft;
mod state;

use claviger_core::page::OutcomeWord;
use claviger_core::policy::Operation;
use claviger_core::time::UnixMs;
use claviger_ledger::Figures;
use durations::{Durations, OPERATIONS};
use prometheus_client::encoding::{EncodeLabelSet, text};
use prometheus_client::metrics::{counter::Counter, family::Family, gauge::Gauge};
use prometheus_client::registry::{Registry, Unit};
use raft::RaftMetrics;
use state::StateMetrics;
use std::sync::atomic::AtomicU64;
use std::sync::{Mutex, OnceLock};
use std::time::Duration;

const PREFIX: &str = "claviger";

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Answered {
    operation: &'static str,
    outcome: String,
}

type Seconds = Gauge<f64, AtomicU64>;

/// The node's counters, gauges and histograms.
pub struct Metrics {
    registry: Mutex<Registry>,
    requests: Family<Answered, Counter>,
    /// Those of `requests` that count what was done, by the operation's number: found without a lock.
    done: [OnceLock<Counter>; OPERATIONS],
    durations: Durations,
    raft: RaftMetrics,
    state: StateMetrics,
}

/// A node as it is at the moment of a scrape.
pub(crate) struct Now {
    /// Raft, and what hangs on it.
    pub ledger: Figures,
    /// Whether it holds the root key.
    pub open: bool,
    /// Shares that have come to the ceremony that this node hosts; none when it hosts none.
    pub ceremony_shares: Option<usize>,
    /// Pages in the book.
    pub audit_pages: u64,
    /// Those that no signed head covers yet.
    pub audit_unsigned_pages: u64,
    /// Whether no more can be written.
    pub audit_book_failed: bool,
    /// How long ago the last confirmed barrier began; none before the first.
    pub barrier_age: Option<Duration>,
}

impl Metrics {
    /// Nothing counted yet, in a process that started at `started`.
    pub fn new(started: UnixMs) -> Self {
        let mut all = Registry::default();
        let process_start = Seconds::default();
        process_start.set(started.0 as f64 / 1e3);
        // Without our prefix: every process calls it so.
        let help = "When the process started, by its clock, since 1970";
        all.register_with_unit("process_start_time", help, Unit::Seconds, process_start);
        let registry = all.sub_registry_with_prefix(PREFIX);
        let (requests, durations) = (Family::default(), Durations::default());
        let help = "Requests, and items of batches and streams, answered, by operation and outcome";
        registry.register("requests", help, requests.clone());
        let help = "From a request's arrival to its answer, for a stream to its opening, by operation";
        registry.register_with_unit("request_duration", help, Unit::Seconds, durations.clone());
        let (raft, state) = (RaftMetrics::register(registry), StateMetrics::register(registry));
        let done = std::array::from_fn(|_| OnceLock::new());
        Metrics { registry: Mutex::new(all), requests, done, durations, raft, state }
    }

    /// Counts answers that are alike.
    pub fn answered(&self, operation: Operation, outcome: OutcomeWord, count: u64) {
        if outcome == OutcomeWord::Ok {
            self.done[operation as usize].get_or_init(|| self.counter(operation, outcome)).inc_by(count);
        } else {
            self.counter(operation, outcome).inc_by(count);
        }
    }

    fn counter(&self, operation: Operation, outcome: OutcomeWord) -> Counter {
        let (operation, outcome) = (operation.word(), outcome.to_string());
        self.requests.get_or_create_owned(&Answered { operation, outcome })
    }

    /// Counts how long an answer took.
    pub fn took(&self, operation: Operation, time: Duration) {
        self.durations.took(operation, time);
    }

    /// Lets another room register what it counts.
    pub fn register<T>(&self, add: impl FnOnce(&mut Registry) -> T) -> T {
        let mut registry = self.registry.lock().expect("no metric panics while it is registered");
        add(registry.sub_registry_with_prefix(PREFIX))
    }

    /// Everything in the OpenMetrics text format, of a node that is so now. One at a time, so that none sees half of
    /// another's.
    pub(crate) fn text(&self, now: &Now) -> String {
        let mut out = String::new();
        let registry = self.registry.lock().expect("no metric panics while it is registered");
        self.raft.note(&now.ledger);
        self.state.note(now);
        text::encode(&mut out, &registry).expect("writing to a string does not fail");
        out
    }
}

fn gauge(registry: &mut Registry, name: &str, help: &str) -> Gauge {
    let gauge = Gauge::default();
    registry.register(name, help, gauge.clone());
    gauge
}

fn counter(registry: &mut Registry, name: &str, help: &str) -> Counter {
    let counter = Counter::default();
    registry.register(name, help, counter.clone());
    counter
}

/// A gauge's value; what is too great for one is the greatest.
fn figure(value: u64) -> i64 {
    value.try_into().unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use claviger_core::name::NodeId;

    fn now(peers_lag: &[(u64, u64)], barrier_age: Option<Duration>) -> Now {
        let peers_lag = peers_lag.iter().map(|(node, lag)| (NodeId(*node), *lag)).collect();
        let ledger = Figures {
            leader: Some(NodeId(2)),
            last_log_index: 9,
            applied_index: 8,
            peers_lag,
            snapshots_taken: 3,
            snapshots_resumed: 5,
            snapshots_refused: 6,
            disputes: 1,
            ..Figures::default()
        };
        Now {
            ledger,
            open: true,
            ceremony_shares: Some(2),
            audit_pages: 40,
            audit_unsigned_pages: 4,
            audit_book_failed: false,
            barrier_age,
        }
    }

    /// The lines that are no comments and no zeros.
    fn told(metrics: &Metrics, now: &Now) -> Vec<String> {
        let text = metrics.text(now);
        text.lines().filter(|line| !line.starts_with('#') && !line.ends_with(" 0")).map(str::to_owned).collect()
    }

    #[test]
    fn a_node_in_figures() {
        let metrics = Metrics::new(UnixMs(1_500));
        let age = Some(Duration::from_millis(250));
        let lines = told(&metrics, &now(&[(1, 0), (3, 7)], age));
        for line in [
            "process_start_time_seconds 1.5",
            "claviger_raft_leader_id 2",
            "claviger_raft_last_log_index 9",
            "claviger_raft_applied_index 8",
            "claviger_raft_peer_lag_entries{peer=\"3\"} 7",
            "claviger_snapshots_taken_total 3",
            "claviger_snapshots_resumed_total 5",
            "claviger_snapshots_refused_total 6",
            "claviger_state_disputes_total 1",
            "claviger_ceremony_open 1",
            "claviger_ceremony_shares 2",
            "claviger_audit_unsigned_pages 4",
            "claviger_barrier_age_seconds 0.25",
        ] {
            assert!(lines.iter().any(|l| l == line), "{line} is not in {lines:#?}");
        }
    }

    #[test]
    fn what_is_no_more_is_not_told() {
        let metrics = Metrics::new(UnixMs(0));
        assert!(told(&metrics, &now(&[(3, 7)], None)).iter().all(|line| !line.contains("barrier_age")));
        let follows = told(&metrics, &now(&[], None));
        assert!(follows.iter().all(|line| !line.contains("peer_lag")), "{follows:#?}");
    }
}
