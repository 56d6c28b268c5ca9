//! What is counted at the listeners, of strangers as of callers: connections, handshakes, requests under way.

use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, gauge::Gauge},
    registry::Registry,
};

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Listener {
    listener: &'static str,
}

/// The counts of one listener. A clone counts on in the same.
#[derive(Clone, Default)]
pub struct Traffic {
    /// Connections whose certificate is proven, and that are not closed.
    pub connections: Gauge,
    /// Proven connections that were closed at once, since there were too many.
    pub connections_refused: Counter,
    /// Handshakes that came to nothing: a certificate that is not believed, silence, a flood that pushed it out.
    pub handshakes_failed: Counter,
    /// Requests that are not answered to the end yet.
    pub requests: Gauge,
    /// Requests that were told to come again, since there were too many.
    pub requests_turned_away: Counter,
}

impl Traffic {
    /// Counts for each listener of `names`, in that order, told to whoever reads the registry.
    pub fn register<const N: usize>(r: &mut Registry, names: [&'static str; N]) -> [Traffic; N] {
        let connections = family(r, "connections_open", "Connections whose certificate is proven, open now");
        let help = "Proven connections that were closed at once: limits.connections was reached, or half of it with one certificate";
        let connections_refused = family(r, "connections_refused", help);
        let help = "TLS handshakes that came to nothing: not believed, too slow, or pushed out by newer ones";
        let handshakes_failed = family(r, "handshakes_failed", help);
        let requests = family(r, "requests_in_flight", "Requests that are not answered to the end yet");
        let help = "Requests that were told to come again: limits.requests_in_flight was reached";
        let requests_turned_away = family(r, "requests_turned_away", help);
        names.map(|listener| Traffic {
            connections: connections.get_or_create_owned(&Listener { listener }),
            connections_refused: connections_refused.get_or_create_owned(&Listener { listener }),
            handshakes_failed: handshakes_failed.get_or_create_owned(&Listener { listener }),
            requests: requests.get_or_create_owned(&Listener { listener }),
            requests_turned_away: requests_turned_away.get_or_create_owned(&Listener { listener }),
        })
    }

    /// One handshake, which has failed unless it is said to be done.
    pub fn handshake(&self) -> Handshake {
        Handshake { failed: self.handshakes_failed.clone(), done: false }
    }
}

fn family<M>(registry: &mut Registry, name: &str, help: &str) -> Family<Listener, M>
where
    M: Default + Clone,
    Family<Listener, M>: prometheus_client::registry::Metric + Clone,
{
    let family = Family::default();
    registry.register(name, help, family.clone());
    family
}

/// A handshake under way.
pub struct Handshake {
    failed: Counter,
    done: bool,
}

impl Handshake {
    /// It came to a proven certificate.
    pub fn done(mut self) {
        self.done = true;
    }
}

impl Drop for Handshake {
    fn drop(&mut self) {
        if !self.done {
            self.failed.inc();
        }
    }
}

/// One more in a gauge, until it is dropped.
pub struct Held(Gauge);

impl Held {
    /// Counts it.
    pub fn new(gauge: &Gauge) -> Held {
        gauge.inc();
        Held(gauge.clone())
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.0.dec();
    }
}
