//! claviger-sim.
