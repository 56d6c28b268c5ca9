//! claviger-client: typed calls to a Claviger cluster.
//!
//! A [`Client`] knows the addresses of the nodes and proves who the caller is with a certificate. It finds a node that
//! answers, gives every call a deadline, repeats what may be repeated, and carries the newest revision that it has
//! seen, so that one caller never sees time go back, whichever node answers next.
//!
//! ```no_run
//! # async fn story() -> Result<(), claviger_client::Error> {
//! use claviger_client::{Client, Config, Files};
//!
//! let files = Files { ca: "ca.crt".into(), cert: "me.crt".into(), key: "me.key".into() };
//! let client = Client::new(&Config::new("127.0.0.1:7001,127.0.0.1:7002".parse()?, files))?;
//! let sealed = client.encrypt("tenants/default/keys/invoices", b"in confidence".to_vec(), &[]).await?;
//! let opened = client.decrypt("tenants/default/keys/invoices", sealed.ciphertext, &[]).await?;
//! assert_eq!(&opened.plaintext[..], b"in confidence");
//! # Ok(()) }
//! ```
//!
//! Many messages go in batches ([`Client::encrypt_batch`] and its like), or on one stream ([`Client::pipeline`]). Whoever just
//! makes many calls at once need not care: while eight or more that use keys are under way in a client and its clones, the
//! next ones share a stream by themselves, and what the stream does not answer is asked call by call.
//!
//! Files and pipes of any size pass by in constant memory ([`Client::encrypt_stream`], [`Client::decrypt_stream`]).
//!
//! Not here: what is true about keys (`claviger-core`), and anything that a server decides.

mod audit;
mod batch;
mod call;
mod channel;
mod cluster;
mod config;
mod crypto;
mod dated;
mod details;
mod error;
mod journey;
mod keys;
mod pipeline;
mod roles;
mod seal;
mod snapshot;
mod stream;
mod tls;
mod trunk;

pub use audit::AuditTail;
pub use batch::{BATCH_BYTES_MAX, BATCH_ITEMS_MAX, Each};
pub use call::Client;
pub use channel::ConnectFailed;
pub use claviger_proto::v1;
pub use config::{Config, Endpoint, Endpoints, Files};
pub use crypto::{CIPHERTEXT_EXTRA_BYTES, PLAINTEXT_BYTES_MAX};
pub use error::{ConfigError, Error, Tried, Why};
pub use pipeline::{Pipeline, PipelineAnswer, PipelineAnswers, PipelineAsks, PipelineDone};
pub use snapshot::SnapshotPieces;
pub use stream::{STREAM_HEADER_BYTES, StreamDone, StreamError};
pub use tls::{NodeIdentity, Refusal};
