//! claviger-sim: the same node in a simulated world. Clock, entropy, disk and network are behind the seams; what is in
//! front of them is the code that runs in production. One seed, one run, every time.

pub mod bare;
pub mod clients;
pub mod clock;
pub mod command;
pub mod dice;
pub mod disk;
pub mod door;
pub mod entropy;
pub mod eye;
pub mod faults;
pub mod heir;
pub mod history;
pub mod house;
pub mod hunt;
mod last_file;
pub mod network;
pub mod papers;
pub mod people;
pub mod plan;
pub mod promises;
pub mod registrar;
pub mod report;
pub mod run;
pub mod scene;
pub mod shrink;
pub mod stranger;
pub mod swarm;
pub mod trace;
pub mod watch;
