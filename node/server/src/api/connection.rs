//! What the listener knows of a connection: put into every request by its own accept loop.

use crate::gate;
use claviger_core::policy::{Caller, Unauthenticated};

/// Who is at the other end of a connection: worked out once. What they may do is looked at for every request.
#[derive(Clone, Debug)]
pub struct Connection(Result<Caller, Unauthenticated>);

impl Connection {
    /// Of whoever proved this leaf certificate, in DER, in the TLS handshake; none where the listener asked for none.
    pub fn of(leaf_der: Option<&[u8]>) -> Self {
        Connection(gate::authenticate(leaf_der))
    }

    /// Who that is, if we know them.
    pub(super) fn caller(&self) -> Result<Caller, Unauthenticated> {
        self.0.clone()
    }
}

impl Default for Connection {
    fn default() -> Self {
        Connection::of(None)
    }
}
