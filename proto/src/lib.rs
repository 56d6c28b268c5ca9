//! claviger-proto: the words on the wire. `v1` is what callers say, `peer::v1` what nodes say to each other.
//!
//! Generated from the files under `proto/`, where the documentation stands. Nothing else lives here.

#![allow(missing_docs, reason = "generated code; its documentation stands in the .proto files")]
#![allow(clippy::all, reason = "generated code")]

/// The API for callers.
pub mod v1 {
    tonic::include_proto!("claviger.v1");
}

/// Between nodes.
pub mod peer {
    /// Format 1.
    pub mod v1 {
        tonic::include_proto!("claviger.peer.v1");
    }
}

/// The encoded `FileDescriptorSet` of everything here, for reflection and for tests that walk the RPCs.
pub const DESCRIPTOR_SET: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptor.bin"));
