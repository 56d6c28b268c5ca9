//! What the process says: structured lines on the standard error, as text or JSON.

use crate::config::{Log, LogFormat};
use std::io::{IsTerminal, stderr};
use tracing_subscriber::EnvFilter;

/// Starts the log. Called once.
pub fn start(log: &Log) {
    // The libraries below tell of every frame at `debug`; they are held one level back, for a frame may carry a secret.
    let filter =
        EnvFilter::new(format!("{0},h2=warn,hyper=warn,rustls=warn,tower=warn,tonic=warn,openraft=warn", log.level));
    let lines = tracing_subscriber::fmt().with_env_filter(filter).with_writer(stderr);
    match log.format {
        LogFormat::Text => lines.with_ansi(stderr().is_terminal()).init(),
        LogFormat::Json => lines.json().flatten_event(true).init(),
    }
}
