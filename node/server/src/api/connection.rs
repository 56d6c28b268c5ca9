//! What the listener knows of a connection: put into every request by its own accept loop.

use std::sync::Arc;

/// The certificate that the other end proved in the TLS handshake.
#[derive(Clone, Debug, Default)]
pub struct Connection {
    /// The leaf certificate in DER; nothing where the listener asked for none.
    pub leaf_der: Option<Arc<[u8]>>,
}
