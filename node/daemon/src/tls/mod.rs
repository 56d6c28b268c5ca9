//! TLS 1.3, both ends proven: files, what a certificate says, whom we believe, and credentials that renew themselves.
//!
//! No session is ever resumed: a ticket would carry yesterday's verdict on a certificate into today.

mod credentials;
mod facts;
mod files;
mod live;
mod verifier;

#[cfg(test)]
pub(crate) mod forge;
#[cfg(test)]
mod tests;

pub use credentials::{Credentials, identity_seed};
pub use facts::Facts;
pub use files::{FileMistake, static_slot, ticket};
pub use live::LiveTls;
pub use verifier::peer_certificate;
