//! claviger-jepsen: the promises, kept by real processes under real faults.
//!
//! Everything here is done from outside: nodes are `clavigerd` processes, people use `claviger`, faults are signals and
//! broken disks. What the simulator cannot run (tonic, TLS, HTTP/2 limits, RocksDB) is broken here.
//!
//! Must not contain: anything that reaches into a node other than through its ports, its files and its process id.

pub mod attempts;
pub mod bench;
pub mod book;
pub mod ceremony;
pub mod cluster;
pub mod demo;
pub mod development;
pub mod disk;
pub mod flood;
pub mod folder;
pub mod forge;
pub mod load;
pub mod node;
pub mod people;
pub mod pki;
pub mod ports;
pub mod power;
pub mod process;
pub mod stage;
pub mod tool;
pub mod trouble;
pub mod wire;

pub use cluster::Cluster;
pub use trouble::{About, Told, Trouble};
