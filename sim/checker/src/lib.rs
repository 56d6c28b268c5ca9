//! claviger-checker.
