//! Seal, ceremony, audit book and read barrier, as they are at the moment of a scrape.

use super::{Now, figure, gauge};
use parking_lot::Mutex;
use prometheus_client::encoding::{EncodeMetric, MetricEncoder};
use prometheus_client::metrics::{MetricType, gauge::Gauge};
use prometheus_client::registry::{Registry, Unit};
use std::fmt;
use std::sync::Arc;

/// A gauge in seconds that is not told as long as there is nothing to tell.
#[derive(Clone, Debug, Default)]
struct Perhaps(Arc<Mutex<Option<f64>>>);

impl EncodeMetric for Perhaps {
    fn encode(&self, mut encoder: MetricEncoder<'_>) -> Result<(), fmt::Error> {
        let seconds = *self.0.lock();
        seconds.map_or(Ok(()), |seconds| encoder.encode_gauge(&seconds))
    }

    fn metric_type(&self) -> MetricType {
        MetricType::Gauge
    }

    fn is_empty(&self) -> bool {
        self.0.lock().is_none()
    }
}

pub(super) struct StateMetrics {
    open: Gauge,
    ceremony_open: Gauge,
    ceremony_shares: Gauge,
    audit_pages: Gauge,
    audit_unsigned_pages: Gauge,
    audit_book_failed: Gauge,
    barrier_age: Perhaps,
}

impl StateMetrics {
    pub fn register(r: &mut Registry) -> Self {
        let barrier_age = Perhaps::default();
        let help = "Since the last confirmed read barrier began; it grows while nobody asks";
        r.register_with_unit("barrier_age", help, Unit::Seconds, barrier_age.clone());
        let open_help = "1 while the node holds the root key, 0 while it is sealed";
        let ceremony_help = "1 while the node hosts an unseal ceremony that waits for shares";
        let shares_help = "Shares that have come to the ceremony that the node hosts";
        let unsigned_help = "Pages of this node's audit book that no signed head covers yet";
        StateMetrics {
            open: gauge(r, "seal_open", open_help),
            ceremony_open: gauge(r, "ceremony_open", ceremony_help),
            ceremony_shares: gauge(r, "ceremony_shares", shares_help),
            audit_pages: gauge(r, "audit_pages", "Pages in this node's audit book"),
            audit_unsigned_pages: gauge(r, "audit_unsigned_pages", unsigned_help),
            audit_book_failed: gauge(r, "audit_book_failed", "1 once the audit book cannot be written any more"),
            barrier_age,
        }
    }

    pub fn note(&self, now: &Now) {
        self.open.set(i64::from(now.open));
        self.ceremony_open.set(i64::from(now.ceremony_shares.is_some()));
        self.ceremony_shares.set(figure(now.ceremony_shares.unwrap_or(0) as u64));
        self.audit_pages.set(figure(now.audit_pages));
        self.audit_unsigned_pages.set(figure(now.audit_unsigned_pages));
        self.audit_book_failed.set(i64::from(now.audit_book_failed));
        *self.barrier_age.0.lock() = now.barrier_age.map(|age| age.as_secs_f64());
    }
}
