//! What many keys cost: memory for each, the time from unsealing to the first answer, and whether calls become slower.

use super::Plan;
use super::meter::{Sample, median, resident_bytes};
use super::table::Results;
use super::target::Target;
use crate::cluster::{Cluster, SETTLED_WITHIN, THRESHOLD};
use crate::load::client;
use crate::node::READY_WITHIN;
use crate::process::LOOK_EVERY;
use crate::stage::encrypt;
use crate::trouble::{About, Told, Trouble};
use claviger_client::v1;
use std::sync::Arc;
use std::time::Instant;

/// Creations under way while keys are made.
const MAKERS: u64 = 256;
/// Encryptions under way.
const IN_FLIGHT: usize = 16;

/// What was seen at one number of keys.
struct Look {
    keys: u64,
    encrypt: Sample,
    resident_bytes: u64,
    opened_ms: f64,
}

/// Makes keys, and looks at each step.
pub async fn keys(plan: &Plan, results: &mut Results) -> Told<()> {
    let mut cluster = Cluster::start_open(1, "growth").await?;
    let (mut made, mut looks) = (0, Vec::new());
    for &keys in &plan.keys {
        make(&cluster, made, keys).await?;
        made = keys;
        looks.push(look(&mut cluster, plan, keys).await?);
    }
    for look in &looks {
        tell(look, &looks[0], results);
    }
    Ok(())
}

/// Calls before the node starts again, so that memory afterwards is of keys and not of what calls left behind.
async fn look(cluster: &mut Cluster, plan: &Plan, keys: u64) -> Told<Look> {
    let mut samples = Vec::new();
    for _ in 0..plan.rounds {
        samples.push(encrypt_all_over(cluster, plan, keys).await?);
    }
    cluster.node_mut(1)?.stop(READY_WITHIN)?;
    cluster.restart(1).await?;
    let opened_ms = opened_ms(cluster).await?;
    let resident_bytes = resident_bytes(cluster.node(1)?.pid().about("a process")?)?;
    Ok(Look { keys, encrypt: median(&samples), resident_bytes, opened_ms })
}

fn tell(look: &Look, first: &Look, results: &mut Results) {
    let Look { keys, encrypt, resident_bytes, opened_ms } = look;
    results.add(&format!("encrypt 32 B, one node of {keys} keys, {IN_FLIGHT}"), *encrypt);
    results.figure(format!("{keys} keys: resident"), *resident_bytes as f64 / f64::from(1 << 20), "MiB");
    results.figure(format!("{keys} keys: from the last share to the first answer"), *opened_ms, "ms");
    if *keys > first.keys {
        let more = resident_bytes.saturating_sub(first.resident_bytes) as f64 / (keys - first.keys) as f64;
        results.figure(format!("{keys} keys: resident, for each more"), more, "bytes");
        let slower = encrypt.p99_us / first.encrypt.p99_us;
        results.figure(format!("{keys} keys: p99 of encrypt, of that with {}", first.keys), slower, "times");
    }
}

fn name(n: u64) -> String {
    format!("tenants/default/keys/g{n}")
}

async fn make(cluster: &Cluster, from: u64, to: u64) -> Told<()> {
    let client = Arc::new(client(cluster, &cluster.administrator)?);
    let makers: Vec<_> = (0..MAKERS)
        .map(|maker| {
            let client = client.clone();
            tokio::spawn(async move {
                for n in (from + maker..to).step_by(MAKERS as usize) {
                    client.create_key(v1::CreateKeyRequest { name: name(n), ..Default::default() }).await?;
                }
                Told::Ok(())
            })
        })
        .collect();
    for maker in makers {
        maker.await.about("a maker")??;
    }
    Ok(())
}

/// Encryptions with keys all over the place.
async fn encrypt_all_over(cluster: &Cluster, plan: &Plan, keys: u64) -> Told<Sample> {
    let target = Target::node(cluster, 1, &cluster.service, plan.calls_last).await?;
    let case = target.case("all over", IN_FLIGHT, move |channel, n| {
        // A step that has no divisor with the number of keys: each is met as often.
        let at = n.wrapping_mul(104_729) % keys;
        async move {
            let ask = v1::EncryptRequest { name: name(at), plaintext: vec![7; 32].into(), ..Default::default() };
            v1::crypto_client::CryptoClient::new(channel).encrypt(ask).await?;
            Ok(())
        }
    });
    (case.run)().await
}

/// Opens the node, and asks it until it answers: milliseconds from when the last share was offered.
async fn opened_ms(cluster: &Cluster) -> Told<f64> {
    let mut began = Instant::now();
    for custodian in &cluster.custodians[..THRESHOLD] {
        began = Instant::now();
        let ran = custodian.offer(cluster.node(1)?.address(), &cluster.share(custodian))?;
        (ran.code == 0).then_some(()).about(format!("{} offers a share: {}", custodian.name, ran.stderr))?;
    }
    while began.elapsed() < SETTLED_WITHIN {
        if encrypt(cluster, 1, &name(0), b"first").await.is_ok() {
            return Ok(began.elapsed().as_secs_f64() * 1e3);
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
    Err(Trouble::new("the opened node does not answer in time"))
}
