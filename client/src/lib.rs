//! claviger-client.
