//! claviger-rocks.
