//! The longest message and whole files, in turns with the cipher alone: what transport, framing and audit take of its speed.

use super::calls::{KEY, encrypt};
use super::meter::{Sample, sample};
use super::table::Results;
use super::target::servers;
use super::{Case, Target};
use crate::cluster::Cluster;
use crate::load::client_of;
use crate::trouble::{About, Told};
use claviger_client::Client;
use claviger_core::crypto::AeadKey;
use claviger_core::secret::Secret32;
use rustix::time::{ClockId, clock_gettime};
use std::hint::black_box;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};
use tokio::io::{AsyncRead, ReadBuf};

/// Bytes of the longest plaintext of a message, and of a chunk of a file.
const CHUNK_BYTES: usize = 65_536;
/// Messages under way.
const IN_FLIGHT: usize = 16;

const ALONE: &str = "AES-256-GCM alone, 64 KiB, one thread";
const MESSAGE: &str = "encrypt 64 KiB, leader, 16";
const SEALED: &str = "file encrypted, leader: of 64 KiB";

/// The cipher alone, messages, and files, all at the leader.
pub async fn cases(cluster: &Cluster, lasts: Duration) -> Told<Vec<Case>> {
    let (leader, _) = cluster.leader(None).await?;
    let target = Target::node(cluster, leader, &cluster.service, lasts).await?;
    let client = client_of(cluster, &[leader], &cluster.service)?;
    Ok(vec![
        Case::new(ALONE, move || async move { alone(lasts) }),
        encrypt(&target, MESSAGE, CHUNK_BYTES, IN_FLIGHT),
        file(client, Target { servers: servers(cluster, leader), ..target.clone() }),
    ])
}

/// Seals in place, again and again, on this thread.
fn alone(lasts: Duration) -> Told<Sample> {
    let key = AeadKey::new(&Secret32::copy_from(&[7; 32]).about("32 bytes")?);
    let (mut chunk, mut latencies) = (vec![7; CHUNK_BYTES], Vec::new());
    let (began_us, started) = (thread_us(), Instant::now());
    while started.elapsed() < lasts {
        let (mut nonce, asked) = ([0; 12], Instant::now());
        nonce[..8].copy_from_slice(&latencies.len().to_be_bytes());
        black_box(key.seal_in_place(&nonce, &[], &mut chunk));
        latencies.push(asked.elapsed());
    }
    Ok(sample(latencies, started.elapsed(), &[thread_us() - began_us]))
}

/// Processor time of this thread so far, in microseconds.
fn thread_us() -> u64 {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    time.tv_sec as u64 * 1_000_000 + time.tv_nsec as u64 / 1_000
}

/// One file that is as long as a measurement lasts. It has no latencies: there is one operation.
fn file(client: Client, target: Target) -> Case {
    Case::new(SEALED, move || {
        let (client, target) = (client.clone(), target.clone());
        async move {
            let (before, started) = (target.servers.spent()?, Instant::now());
            let from = Lasting { ends: started + target.lasts };
            let done = client.encrypt_stream(KEY, &[], from, tokio::io::sink()).await.about("a file")?;
            let chunks = done.written_bytes as f64 / CHUNK_BYTES as f64;
            let spent = target.servers.spent_since(&before)?;
            let each_us = |spent_us: u64| spent_us as f64 / chunks;
            Ok(Sample {
                rate: chunks / started.elapsed().as_secs_f64(),
                cpu_us: each_us(spent.iter().sum()),
                target_cpu_us: each_us(spent.first().copied().unwrap_or(0)),
                ..Sample::default()
            })
        }
    })
}

/// Bytes without end, until a time has come.
struct Lasting {
    ends: Instant,
}

impl AsyncRead for Lasting {
    fn poll_read(self: Pin<&mut Self>, _: &mut Context<'_>, to: &mut ReadBuf<'_>) -> Poll<std::io::Result<()>> {
        if Instant::now() < self.ends {
            let room = to.initialize_unfilled();
            room.fill(7);
            let filled = room.len();
            to.advance(filled);
        }
        Poll::Ready(Ok(()))
    }
}

/// The same as speeds: on the clock, and for a second of the servers' processor time.
pub fn speeds(results: &mut Results) {
    let measured: Vec<_> =
        [ALONE, MESSAGE, SEALED].into_iter().filter_map(|name| Some((name, *results.sample(name)?))).collect();
    for (name, sample) in measured {
        results.figure(format!("{name}: on the clock"), sample.rate * CHUNK_BYTES as f64 / 1e9, "GB/s");
        let by_processor = CHUNK_BYTES as f64 / (sample.cpu_us * 1e3);
        results.figure(format!("{name}: for a second of processor time"), by_processor, "GB/s");
    }
}
