//! Credentials that follow their files. A reading that fails changes nothing but the log.

use super::{Credentials, FileMistake};
use crate::config::Config;
use arc_swap::ArcSwap;
use claviger_core::time::UnixMs;
use claviger_world::clock::Clock;
use rustls::ServerConfig;
use std::{fs, os::unix::fs::MetadataExt, path::Path, sync::Arc, time::Duration};

/// Between two looks at the files.
const LOOK_MS: u64 = 5_000;

/// The credentials of now.
pub struct LiveTls {
    current: ArcSwap<Credentials>,
    config: Config,
    clock: Arc<dyn Clock>,
}

impl LiveTls {
    /// Reads the files for the first time.
    ///
    /// # Errors
    /// As [`Credentials::load`].
    pub fn load(config: &Config, clock: Arc<dyn Clock>) -> Result<Arc<LiveTls>, FileMistake> {
        let first = Credentials::load(config, clock.now())?;
        Ok(Arc::new(LiveTls { current: ArcSwap::from_pointee(first), config: config.clone(), clock }))
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

    /// Each certificate's section with the seconds that are left of it; negative when it has expired.
    pub fn seconds_left(&self) -> [(&'static str, i64); 2] {
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
