//! claviger-jepsen.
