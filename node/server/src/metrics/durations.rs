//! How long requests took, by operation: fixed buckets of atomics, so that counting one allocates nothing and waits for
//! nobody.

use claviger_core::policy::Operation;
use prometheus_client::encoding::{EncodeMetric, MetricEncoder};
use prometheus_client::metrics::MetricType;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

/// Upper bounds of the buckets, in microseconds: from an encryption whose barrier is shared to a deadline that passed.
const BOUNDS_US: [u64; 16] = [
    100, 250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000, 1_000_000, 2_500_000,
    10_000_000, 30_000_000,
];

/// One for each [`Operation`], by its number there.
pub(super) const OPERATIONS: usize = {
    let (mut most, mut i) = (0, 0);
    while i < Operation::ALL.len() {
        let number = Operation::ALL[i] as usize;
        most = if number > most { number } else { most };
        i += 1;
    }
    most + 1
};

/// Histograms of all operations.
#[derive(Clone, Debug)]
pub(super) struct Durations(Arc<[Histogram; OPERATIONS]>);

#[derive(Debug, Default)]
struct Histogram {
    /// The last one is for what is longer than all bounds.
    buckets: [AtomicU64; BOUNDS_US.len() + 1],
    sum_us: AtomicU64,
}

impl Default for Durations {
    fn default() -> Self {
        Durations(Arc::new(std::array::from_fn(|_| Histogram::default())))
    }
}

impl Durations {
    /// Counts a request.
    pub fn took(&self, operation: Operation, time: Duration) {
        self.0[operation as usize].observe(time);
    }
}

impl Histogram {
    fn observe(&self, time: Duration) {
        let us = u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
        self.buckets[BOUNDS_US.partition_point(|bound| *bound < us)].fetch_add(1, Relaxed);
        self.sum_us.fetch_add(us, Relaxed);
    }

    /// Upper bounds in seconds, each with what is at most that and more than the one before.
    fn read(&self) -> Vec<(f64, u64)> {
        let bounds = BOUNDS_US.iter().map(|us| *us as f64 / 1e6).chain([f64::INFINITY]);
        bounds.zip(&self.buckets).map(|(bound, bucket)| (bound, bucket.load(Relaxed))).collect()
    }
}

impl EncodeMetric for Durations {
    /// Operations that nobody has asked for are left out.
    fn encode(&self, mut encoder: MetricEncoder<'_>) -> Result<(), fmt::Error> {
        for operation in Operation::ALL {
            let histogram = &self.0[*operation as usize];
            // The count is that of the buckets that were read: a request in between would make the two disagree.
            let buckets = histogram.read();
            let count = buckets.iter().map(|(_, count)| count).sum();
            if count > 0 {
                let labels = [("operation", operation.word())];
                let sum = histogram.sum_us.load(Relaxed) as f64 / 1e6;
                encoder.encode_family(&labels)?.encode_histogram::<[(&str, &str); 1]>(sum, count, &buckets, None)?;
            }
        }
        Ok(())
    }

    fn metric_type(&self) -> MetricType {
        MetricType::Histogram
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use prometheus_client::encoding::text;
    use prometheus_client::registry::Registry;

    fn text_of(durations: &Durations) -> String {
        let (mut registry, mut text) = (Registry::default(), String::new());
        registry.register("took", "How long", durations.clone());
        text::encode(&mut text, &registry).unwrap();
        text
    }

    #[test]
    fn a_request_is_in_the_bucket_whose_bound_it_does_not_exceed() {
        let durations = Durations::default();
        assert!(!text_of(&durations).contains("took_bucket"), "nothing was asked for yet");
        for us in [0, 100, 101, 30_000_000, 30_000_001] {
            durations.took(Operation::Encrypt, Duration::from_micros(us));
        }
        let text = text_of(&durations);
        let line = |rest: &str| assert!(text.contains(&format!("took_{rest}\n")), "{rest} is not in {text}");
        line("bucket{le=\"0.0001\",operation=\"Encrypt\"} 2");
        line("bucket{le=\"0.00025\",operation=\"Encrypt\"} 3");
        line("bucket{le=\"30.0\",operation=\"Encrypt\"} 4");
        line("bucket{le=\"+Inf\",operation=\"Encrypt\"} 5");
        line("count{operation=\"Encrypt\"} 5");
        line("sum{operation=\"Encrypt\"} 60.000202");
        assert!(!text.contains("Decrypt"));
    }

    #[test]
    fn every_operation_has_its_own() {
        let durations = Durations::default();
        for operation in Operation::ALL {
            durations.took(*operation, Duration::from_millis(1));
        }
        assert_eq!(text_of(&durations).matches("took_count").count(), Operation::ALL.len());
    }
}
