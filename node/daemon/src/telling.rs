//! What the process tells of itself and its host at each scrape, beside what the node counts.

use crate::{scrape, tls::LiveTls};
use claviger_rocks::Rocks;
use claviger_server::Node;
use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, gauge::Gauge, info::Info},
    registry::{Registry, Unit},
};
use std::sync::{Arc, atomic::Ordering::Relaxed};

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct CertificateLabel {
    certificate: &'static str,
}

struct Telling {
    expiry: Family<CertificateLabel, Gauge>,
    reload_failures: Counter,
    reload_successful: Gauge,
    disk_free: Gauge,
}

impl Telling {
    fn register(r: &mut Registry) -> Telling {
        let (expiry, reload_failures) = (Family::default(), Counter::default());
        let (reload_successful, disk_free) = (Gauge::default(), Gauge::default());
        r.register("build", "What runs here", Info::new([("version", env!("CARGO_PKG_VERSION"))]));
        let help = "Time until a certificate of this node expires, or of an authority that it believes; then negative";
        r.register_with_unit("tls_certificate_expiry", help, Unit::Seconds, Family::clone(&expiry));
        let help = "Times that changed certificate files could not be read, and the old ones stayed";
        r.register("tls_reload_failures", help, reload_failures.clone());
        let help = "1 unless the newest certificate files could not be read";
        r.register("tls_last_reload_successful", help, reload_successful.clone());
        r.register_with_unit("disk_free", "Room left on the disk of the data folder", Unit::Bytes, disk_free.clone());
        Telling { expiry, reload_failures, reload_successful, disk_free }
    }

    fn note(&self, tls: &LiveTls, disk: &Rocks) {
        for (certificate, seconds) in tls.seconds_left() {
            self.expiry.get_or_create(&CertificateLabel { certificate }).set(seconds);
        }
        let (failures, successful) = tls.reloads();
        self.reload_failures.inner().store(failures, Relaxed);
        self.reload_successful.set(i64::from(successful));
        if let Ok(bytes) = disk.free_bytes() {
            self.disk_free.set(i64::try_from(bytes).unwrap_or(i64::MAX));
        }
    }
}

/// All metrics of the process, made anew at each scrape.
pub fn page(node: Arc<Node>, tls: Arc<LiveTls>, disk: Arc<Rocks>) -> scrape::Page {
    let telling = node.metrics().register(Telling::register);
    Arc::new(move || {
        telling.note(&tls, &disk);
        node.metrics_text()
    })
}
