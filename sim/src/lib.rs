//! claviger-sim: the same node in a simulated world. Clock, entropy, disk and network are behind the seams; what is in
//! front of them is the code that runs in production. One seed, one run, every time.

pub mod bare;
pub mod clock;
pub mod disk;
pub mod entropy;
pub mod history;
pub mod network;
pub mod promises;
pub mod trace;
