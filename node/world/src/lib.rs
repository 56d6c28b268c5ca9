//! claviger-world: the seams. What a node takes from the world it runs in, each a trait with its contract test: time,
//! chance, disk, network, and the runtime that both worlds share.
//!
//! The daemon puts the real world behind them, the simulator a seeded one; the node's code cannot tell.

pub mod clock;
pub mod contract;
pub mod disk;
pub mod entropy;
pub mod network;
pub mod runtime;
pub mod watch;
