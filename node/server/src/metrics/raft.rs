//! Raft and the state that it orders, in figures.

use super::{counter, figure, gauge};
use claviger_ledger::Figures;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::{counter::Counter, family::Family, gauge::Gauge};
use prometheus_client::registry::Registry;
use std::sync::atomic::Ordering::Relaxed;

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Peer {
    peer: u64,
}

pub(super) struct RaftMetrics {
    leads: Gauge,
    leader: Gauge,
    term: Gauge,
    last: Gauge,
    applied: Gauge,
    founded: Gauge,
    peers_lag: Family<Peer, Gauge>,
    snapshots_taken: Counter,
    snapshots_installed: Counter,
    snapshots_resumed: Counter,
    snapshots_refused: Counter,
    disputes: Counter,
}

impl RaftMetrics {
    pub fn register(r: &mut Registry) -> Self {
        let peers_lag = Family::default();
        let help = "Entries that another member is not known to have, told by the leader alone";
        r.register("raft_peer_lag_entries", help, peers_lag.clone());
        let leader_help = "The node that leads, as far as this one knows; 0 while it knows of none";
        let taken_help = "Snapshots that Raft has taken of this node's state";
        let installed_help = "Snapshots of other nodes that have replaced this node's state";
        let resumed_help = "Snapshots that went on where they were cut";
        let refused_help = "Snapshots that had come whole and were not what they should be";
        let disputes_help = "Times that a voter was heard to have another state than this node as of the same entry";
        RaftMetrics {
            leads: gauge(r, "raft_is_leader", "1 while this node leads"),
            leader: gauge(r, "raft_leader_id", leader_help),
            term: gauge(r, "raft_term", "The newest term that this node knows"),
            last: gauge(r, "raft_last_log_index", "Log index of the last entry that this node has"),
            applied: gauge(r, "raft_applied_index", "Log index of the last entry applied"),
            founded: gauge(r, "founded", "1 once the node has applied its cluster's founding"),
            peers_lag,
            snapshots_taken: counter(r, "snapshots_taken", taken_help),
            snapshots_installed: counter(r, "snapshots_installed", installed_help),
            snapshots_resumed: counter(r, "snapshots_resumed", resumed_help),
            snapshots_refused: counter(r, "snapshots_refused", refused_help),
            disputes: counter(r, "state_disputes", disputes_help),
        }
    }

    pub fn note(&self, now: &Figures) {
        self.leads.set(i64::from(now.leads));
        self.leader.set(now.leader.map_or(0, |node| figure(node.0)));
        self.term.set(figure(now.term));
        self.last.set(figure(now.last_log_index));
        self.applied.set(figure(now.applied_index));
        self.founded.set(i64::from(now.founded));
        // Made anew: of members that are gone, or that another leads now, nothing is told.
        self.peers_lag.clear();
        for (node, lag) in &now.peers_lag {
            self.peers_lag.get_or_create(&Peer { peer: node.0 }).set(figure(*lag));
        }
        self.snapshots_taken.inner().store(now.snapshots_taken, Relaxed);
        self.snapshots_installed.inner().store(now.snapshots_installed, Relaxed);
        self.snapshots_resumed.inner().store(now.snapshots_resumed, Relaxed);
        self.snapshots_refused.inner().store(now.snapshots_refused, Relaxed);
        self.disputes.inner().store(now.disputes, Relaxed);
    }
}
