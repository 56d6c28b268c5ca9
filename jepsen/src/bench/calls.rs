//! Small messages, in turns with empty ones of the same server.

use super::ceiling::{self, Load};
use super::meter::{Sample, flow};
use super::{Case, Target};
use crate::cluster::Cluster;
use crate::stage::create;
use crate::trouble::{About, Told, Trouble};
use bytes::Bytes;
use claviger_proto::v1::{
    BatchEncryptRequest, EncryptRequest, PipelineRequest, batch_encrypt_result, crypto_client::CryptoClient,
    pipeline_request, pipeline_response,
};
use futures_util::{Stream, StreamExt, stream};
use prost::Message;
use std::time::Duration;
use tokio::sync::mpsc;
use tonic::transport::Channel;

/// The key that is used.
pub const KEY: &str = "tenants/default/keys/bench";
/// Bytes of a plaintext: a key, or a token.
const SMALL_BYTES: usize = 32;
/// Items of a batch.
const ITEMS: usize = 100;
/// Batches under way.
const BATCHES: usize = 4;
/// Operations under way in unary cases.
const IN_FLIGHT: [usize; 4] = [1, 16, 64, 256];
/// Items under way on one stream.
const ON_STREAM: [usize; 2] = [64, 256];

/// Makes the key.
pub async fn create_key(cluster: &Cluster) -> Told<()> {
    create(cluster, KEY).await
}

/// Unary calls at leader and follower; streams and batches at the leader.
pub async fn cases(cluster: &Cluster, lasts: Duration) -> Told<Vec<Case>> {
    let (leader, _) = cluster.leader(None).await?;
    let follower = cluster.nodes.iter().map(|n| n.id()).find(|id| *id != leader).about("a follower")?;
    let mut cases = Vec::new();
    for (place, node) in [("leader", leader), ("follower", follower)] {
        let target = Target::node(cluster, node, &cluster.service, lasts).await?;
        for in_flight in IN_FLIGHT {
            cases.push(ping(&target, place, in_flight));
            cases.push(encrypt(&target, &format!("encrypt 32 B, {place}, {in_flight}"), SMALL_BYTES, in_flight));
        }
        if node == leader {
            cases.extend(ON_STREAM.iter().flat_map(|n| [pass(&target, *n), pipeline(&target, *n)]));
            cases.push(batch(&target));
        }
    }
    Ok(cases)
}

fn request(bytes: usize) -> EncryptRequest {
    EncryptRequest { name: KEY.into(), plaintext: vec![7; bytes].into(), ..Default::default() }
}

/// As long as the request that it stands beside.
fn load() -> Load {
    Load { body: Bytes::from(request(SMALL_BYTES).encode_to_vec()) }
}

fn ping(target: &Target, place: &str, in_flight: usize) -> Case {
    let asked = load();
    target.case(format!("empty call, {place}, {in_flight}"), in_flight, move |channel, _| {
        let asked = asked.clone();
        async move { ceiling::ping(&channel, asked).await }
    })
}

/// Unary encryptions of one size.
pub fn encrypt(target: &Target, name: &str, bytes: usize, in_flight: usize) -> Case {
    let asked = request(bytes);
    target.case(name, in_flight, move |channel, _| {
        let asked = asked.clone();
        async move {
            CryptoClient::new(channel).encrypt(asked).await?;
            Ok(())
        }
    })
}

/// Batches: the figures are of an item, but for the latencies.
fn batch(target: &Target) -> Case {
    let asked = BatchEncryptRequest { requests: vec![request(SMALL_BYTES); ITEMS], ..Default::default() };
    let name = format!("batch of {ITEMS} x 32 B, leader, {BATCHES}: of an item");
    let whole = target.case(name.clone(), BATCHES, move |channel, _| encrypt_batch(channel, asked.clone()));
    Case::new(name, move || {
        let measured = (whole.run)();
        async move { Ok(of_an_item(measured.await?)) }
    })
}

async fn encrypt_batch(channel: Channel, asked: BatchEncryptRequest) -> Told<()> {
    let results = CryptoClient::new(channel).batch_encrypt(asked).await?.into_inner().results;
    let good = |r: &batch_encrypt_result::Outcome| matches!(r, batch_encrypt_result::Outcome::Response(_));
    let all = results.len() == ITEMS && results.iter().all(|result| result.outcome.as_ref().is_some_and(good));
    all.then_some(()).about("an item of a batch was refused")
}

fn of_an_item(batch: Sample) -> Sample {
    let items = ITEMS as f64;
    let (cpu_us, target_cpu_us) = (batch.cpu_us / items, batch.target_cpu_us / items);
    Sample { rate: batch.rate * items, cpu_us, target_cpu_us, ..batch }
}

fn pass(target: &Target, in_flight: usize) -> Case {
    let target = target.clone();
    Case::new(format!("empty stream, leader, {in_flight}"), move || passing(target.clone(), in_flight))
}

async fn passing(target: Target, in_flight: usize) -> Told<Sample> {
    let (asks, frames) = mpsc::channel(in_flight);
    let asked = load();
    let mut answers = ceiling::pass(&target.channel, all_of(frames)).await?;
    let send = |_: u64| asks.try_send(asked.clone()).about("the stream is full");
    let mut came = 0;
    let next = async || -> Told<u64> {
        answers.next().await.about("the stream ended")??;
        came += 1;
        Ok(came - 1)
    };
    flow(&target.servers, in_flight, target.lasts, send, next).await
}

fn pipeline(target: &Target, in_flight: usize) -> Case {
    let target = target.clone();
    Case::new(format!("pipeline 32 B, leader, {in_flight}"), move || piped(target.clone(), in_flight))
}

async fn piped(target: Target, in_flight: usize) -> Told<Sample> {
    let (asks, frames) = mpsc::channel(in_flight);
    let mut answers = CryptoClient::new(target.channel).pipeline(all_of(frames)).await?.into_inner();
    let send = |id: u64| {
        let ask = Some(pipeline_request::Ask::Encrypt(request(SMALL_BYTES)));
        asks.try_send(PipelineRequest { id, ask }).about("the stream is full")
    };
    let next = async || -> Told<u64> {
        let answer = answers.next().await.about("the stream ended")??;
        match answer.outcome {
            Some(pipeline_response::Outcome::Encrypt(_)) => Ok(answer.id),
            other => Err(Trouble::new(format!("an item of a stream was refused: {other:?}"))),
        }
    };
    flow(&target.servers, in_flight, target.lasts, send, next).await
}

fn all_of<T: Send + 'static>(frames: mpsc::Receiver<T>) -> impl Stream<Item = T> + Send + 'static {
    stream::unfold(frames, |mut frames| async { frames.recv().await.map(|frame| (frame, frames)) })
}
