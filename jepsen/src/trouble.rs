//! Why a step of the harness could not be done: text for a person who watches, each layer saying what it was about.

use std::fmt;

/// Something did not go as it must.
#[derive(Debug)]
pub struct Trouble(String);

/// What every step of the harness answers.
pub type Told<T> = Result<T, Trouble>;

impl Trouble {
    /// A trouble in words.
    pub fn new(what: impl Into<String>) -> Self {
        Trouble(what.into())
    }
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Trouble {}

macro_rules! from {
    ($($other:ty),+) => {
        $(impl From<$other> for Trouble {
            fn from(other: $other) -> Self {
                Trouble(other.to_string())
            }
        })+
    };
}
from!(std::io::Error, serde_json::Error, tonic::Status, tonic::transport::Error, rcgen::Error, claviger_client::Error);

/// Says what was being done when something failed.
pub trait About<T> {
    /// Puts `what` before the reason.
    fn about(self, what: impl fmt::Display) -> Told<T>;
}

impl<T, E: fmt::Display> About<T> for Result<T, E> {
    fn about(self, what: impl fmt::Display) -> Told<T> {
        self.map_err(|e| Trouble(format!("{what}: {e}")))
    }
}

impl<T> About<T> for Option<T> {
    fn about(self, what: impl fmt::Display) -> Told<T> {
        self.ok_or_else(|| Trouble(what.to_string()))
    }
}
