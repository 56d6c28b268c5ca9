//! claviger-sim: the same node in a simulated world. Clock, entropy, disk and network are behind the seams; what is in
//! front of them is the code that runs in production. One seed, one run, every time.

pub mod clock;
pub mod cluster;
pub mod disk;
pub mod entropy;
pub mod load;
pub mod network;
pub mod smoke;
pub mod trace;
