//! claviger-server.
