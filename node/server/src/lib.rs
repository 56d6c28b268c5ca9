//! claviger-server: the node. Rooms: `api` (the gRPC door), `service` (the one core service behind all doors), `gate`
//! (who may), `keyring` (keys in use), `seal` (how keys come and go), `audit` (the book), `peers` (other nodes).
//! [`Node::start`] is the only wiring.

mod api;
mod audit;
#[cfg(any(test, feature = "fuzz"))]
#[doc(hidden)]
pub mod fuzz;
mod gate;
mod keeper;
mod keyring;
#[cfg(test)]
mod memory;
mod metrics;
mod node;
mod peers;
mod seal;
pub mod service;
mod watcher;

pub use api::Connection;
pub use audit::BookFailed;
pub use gate::{Leaf, read_leaf};
pub use keyring::{Decrypted, Encrypted, ReEncrypted};
pub use metrics::Metrics;
pub use node::{Ended, Node, NodeConfig, StartFailed, Timings, Unseal, World};
pub use seal::{FoundAsk, Founded};
