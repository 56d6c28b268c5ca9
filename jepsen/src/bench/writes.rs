//! Durable writes, in turns with etcd's: three nodes on both sides, mutual TLS on both, each syncing as it does by default,
//! on the same disk, each asked at its leader.

use super::etcd::{self, Etcd};
use super::meter::Servers;
use super::{Case, Target};
use crate::cluster::Cluster;
use crate::trouble::Told;
use bytes::Bytes;
use claviger_proto::v1::{CreateKeyRequest, keys_client::KeysClient};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Writes under way.
const IN_FLIGHT: [usize; 4] = [1, 16, 64, 256];
/// Bytes of a value of etcd's: about what a new key leaves in the state, its record with material and the outcome.
const VALUE_BYTES: usize = 1_024;

/// Key creations, and puts where there is an etcd.
pub async fn cases(cluster: &Cluster, peer: Option<&Etcd>, lasts: Duration) -> Told<Vec<Case>> {
    let (leader, _) = cluster.leader(None).await?;
    let ours = Target::node(cluster, leader, &cluster.administrator, lasts).await?;
    let theirs = match peer {
        Some(etcd) => Some(etcd_leader(etcd, lasts).await?),
        None => None,
    };
    let pair = |in_flight| {
        let creating = creations(in_flight, &ours);
        std::iter::once(creating).chain(theirs.as_ref().map(|theirs| puts(in_flight, theirs)))
    };
    Ok(IN_FLIGHT.into_iter().flat_map(pair).collect())
}

async fn etcd_leader(etcd: &Etcd, lasts: Duration) -> Told<Target> {
    let leader = etcd.leader().await?;
    let mut pids = etcd.pids();
    pids.rotate_left(leader);
    Ok(Target { channel: etcd.channel(leader).await?, servers: Servers(pids), lasts })
}

fn creations(in_flight: usize, target: &Target) -> Case {
    let number = Arc::new(AtomicU64::new(0));
    target.case(format!("create key, {in_flight}"), in_flight, move |channel, _| {
        let name = format!("tenants/bench/keys/k{in_flight}-{}", number.fetch_add(1, Ordering::Relaxed));
        async move {
            KeysClient::new(channel).create_key(CreateKeyRequest { name, ..Default::default() }).await?;
            Ok(())
        }
    })
}

fn puts(in_flight: usize, target: &Target) -> Case {
    let (number, value) = (Arc::new(AtomicU64::new(0)), Bytes::from(vec![7; VALUE_BYTES]));
    target.case(format!("etcd put, {in_flight}"), in_flight, move |channel, _| {
        let key = format!("k{in_flight}-{}", number.fetch_add(1, Ordering::Relaxed));
        let value = value.clone();
        async move { etcd::put(&channel, key, value).await }
    })
}
