//! Credentials that follow their files. A reading that fails changes nothing but the log.

use super::{Credentials, FileMistake};
use crate::config::Config;
use arc_swap::ArcSwap;
use claviger_core::time::UnixMs;
use claviger_world::clock::Clock;
use rustls::ServerConfig;
use std::{
    fs,
    os::unix::fs::MetadataExt,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

/// Between two looks at the files.
const LOOK_MS: u64 = 5_000;

/// The credentials of now.
pub struct LiveTls {
    current: ArcSwap<Credentials>,
    config: Config,
    clock: Arc<dyn Clock>,
    reload_failures: AtomicU64,
    reload_failed: AtomicBool,
}

impl LiveTls {
    /// Reads the files for the first time.
    ///
    /// # Errors
    /// As [`Credentials::load`].
    pub fn load(config: &Config, clock: Arc<dyn Clock>) -> Result<Arc<LiveTls>, FileMistake> {
        let first = Credentials::load(config, clock.now())?;
        let (reload_failures, reload_failed) = (AtomicU64::new(0), AtomicBool::new(false));
        let (current, config) = (ArcSwap::from_pointee(first), config.clone());
        Ok(Arc::new(LiveTls { current, config, clock, reload_failures, reload_failed }))
    }

    /// What stands now.
    pub fn now(&self) -> Arc<Credentials> {
        self.current.load_full()
    }

    /// For the next connection of a caller.
    pub fn clients(&self) -> Arc<ServerConfig> {
        self.current.load().clients.clone()
    }

    /// For the next connection of a peer.
    pub fn peers(&self) -> Arc<ServerConfig> {
        self.current.load().peers.clone()
    }

    /// Each certificate's place in the configuration with the seconds that are left of it; negative when it has expired.
    pub fn seconds_left(&self) -> [(&'static str, i64); 4] {
        let now = self.clock.now();
        let left =
            |at: UnixMs| i64::try_from(at.0).unwrap_or(i64::MAX) / 1_000 - i64::try_from(now.0 / 1_000).unwrap_or(0);
        self.current.load().expiries.map(|(section, at)| (section, left(at)))
    }

    /// Reads the files again, and keeps what stands if they cannot serve.
    ///
    /// # Errors
    /// As [`Credentials::load`]; and another identity key is refused: that is a change of the roster, not a renewal.
    pub fn reload(&self) -> Result<(), FileMistake> {
        let read = self.read_again();
        self.reload_failed.store(read.is_err(), Relaxed);
        self.reload_failures.fetch_add(u64::from(read.is_err()), Relaxed);
        read
    }

    /// How often the files could not be read again, and whether the last time went well.
    pub fn reloads(&self) -> (u64, bool) {
        (self.reload_failures.load(Relaxed), !self.reload_failed.load(Relaxed))
    }

    fn read_again(&self) -> Result<(), FileMistake> {
        let next = Credentials::load(&self.config, self.clock.now())?;
        if next.identity != self.current.load().identity {
            let what = "is for another key; a renewed certificate keeps the node's key".to_owned();
            return Err(FileMistake { file: self.config.tls_peers.cert.clone(), what });
        }
        self.current.store(Arc::new(next));
        Ok(())
    }

    /// Follows the files for ever: when one has changed, or `hangup` says so.
    pub async fn follow(self: Arc<Self>, mut hangup: tokio::signal::unix::Signal) {
        let mut seen = self.marks();
        loop {
            tokio::select! {
                biased;
                _ = hangup.recv() => {}
                () = tokio::time::sleep(Duration::from_millis(LOOK_MS)) => if self.marks() == seen { continue },
            }
            seen = self.marks();
            match self.reload() {
                Ok(()) => tracing::info!("certificates read again"),
                Err(e) => tracing::error!(error = %e, "certificates could not be read again; the old ones stay"),
            }
        }
    }

    /// What tells that a file is another than it was.
    fn marks(&self) -> Vec<Option<(u64, i64, i64, u64)>> {
        let Config { tls_clients, tls_peers, .. } = &self.config;
        let files = [tls_clients, tls_peers].into_iter().flat_map(|t| [&t.ca, &t.cert, &t.key]);
        files.map(|f| mark(f)).collect()
    }
}

fn mark(file: &Path) -> Option<(u64, i64, i64, u64)> {
    let m = fs::metadata(file).ok()?;
    Some((m.ino(), m.ctime(), m.ctime_nsec(), m.size()))
}
