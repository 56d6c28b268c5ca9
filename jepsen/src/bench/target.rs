//! What a case asks: one connection, the processes whose time counts, and for how long.

use super::Case;
use super::meter::{Servers, measure};
use crate::cluster::Cluster;
use crate::pki::Credentials;
use crate::trouble::Told;
use std::future::Future;
use std::time::Duration;
use tonic::transport::Channel;

/// A node, or a peer's, that is asked for a while.
#[derive(Clone)]
pub struct Target {
    /// The connection: one for all operations under way.
    pub channel: Channel,
    /// All processes that work for an answer; the first is the one that is asked.
    pub servers: Servers,
    /// How long one measurement lasts.
    pub lasts: Duration,
}

impl Target {
    /// One node of a cluster, asked by somebody.
    pub async fn node(cluster: &Cluster, id: u64, who: &Credentials, lasts: Duration) -> Told<Target> {
        Ok(Target { channel: cluster.line(id, who).await?.channel(), servers: servers(cluster, id), lasts })
    }

    /// A case that keeps as many operations under way. Each is made by `begin`, which is given the connection and a number
    /// that grows from one operation to the next of one worker.
    pub fn case<Doing>(
        &self,
        name: impl Into<String>,
        in_flight: usize,
        begin: impl Fn(Channel, u64) -> Doing + Clone + Send + Sync + 'static,
    ) -> Case
    where
        Doing: Future<Output = Told<()>> + Send + 'static,
    {
        let target = self.clone();
        Case::new(name, move || {
            let (Target { channel, servers, lasts }, begin) = (target.clone(), begin.clone());
            async move { measure(&servers, in_flight, lasts, move |_, n| begin(channel.clone(), n)).await }
        })
    }
}

/// The processes of a cluster, that of one node first.
pub fn servers(cluster: &Cluster, first: u64) -> Servers {
    let mut nodes: Vec<_> = cluster.nodes.iter().filter_map(|node| Some((node.id(), node.pid()?))).collect();
    nodes.sort_by_key(|(id, _)| (*id != first, *id));
    Servers(nodes.into_iter().map(|(_, pid)| pid).collect())
}
