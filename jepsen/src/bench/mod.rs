//! `make bench`: what operations cost, against a ceiling or a peer in the same run. Ratios are what counts: every pair is
//! measured in turns, five times, and the medians are compared. Beside each rate stands the servers' own processor time.

pub mod bulk;
pub mod calls;
pub mod ceiling;
pub mod etcd;
pub mod failover;
pub mod growth;
pub mod meter;
pub mod table;
pub mod target;
pub mod writes;

use crate::cluster::Cluster;
use crate::demo::say;
use crate::trouble::{About, Told, Trouble};
use clap::ValueEnum;
use etcd::Etcd;
use meter::{Sample, median};
use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::time::Duration;
use table::Results;
use target::Target;

/// A part of the bench.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Part {
    /// Small messages: calls, streams, batches, against empty ones.
    Calls,
    /// The longest message, and whole files, against the cipher alone.
    Bulk,
    /// Durable writes, against etcd's.
    Writes,
    /// Leaders killed, against etcd's.
    Failover,
    /// Many keys.
    Growth,
}

/// How much is measured.
#[derive(Clone, Debug)]
pub struct Plan {
    /// How often each case is measured; the medians count.
    pub rounds: usize,
    /// How long one measurement of calls lasts.
    pub calls_last: Duration,
    /// How long one measurement of durable writes lasts.
    pub writes_last: Duration,
    /// Leaders that are killed on either side.
    pub kills: usize,
    /// How many keys there are at each look, in rising order; the first is what the others are compared with.
    pub keys: Vec<u64>,
    /// What is measured.
    pub parts: Vec<Part>,
    /// Cases whose names hold this; all of them hold nothing.
    pub named: String,
    /// Threads of every server process, ours and etcd's: three nodes and their callers share one machine. 0 leaves it to them.
    pub threads: usize,
}

/// One thing that is measured, under a name of its own.
pub struct Case {
    /// As it stands in the table and in `bench.json`.
    pub name: String,
    run: Run,
}

type Running = Pin<Box<dyn Future<Output = Told<Sample>>>>;
type Run = Box<dyn Fn() -> Running>;

impl Case {
    /// A case that is run again and again.
    pub fn new<Fut>(name: impl Into<String>, run: impl Fn() -> Fut + 'static) -> Case
    where
        Fut: Future<Output = Told<Sample>> + 'static,
    {
        Case { name: name.into(), run: Box::new(move || Box::pin(run())) }
    }
}

/// Measures all cases that are planned in turns, and tells their medians.
pub async fn in_turns(plan: &Plan, mut cases: Vec<Case>, results: &mut Results) -> Told<()> {
    cases.retain(|case| case.name.contains(&plan.named));
    let mut samples: BTreeMap<&str, Vec<Sample>> = BTreeMap::new();
    for _ in 0..plan.rounds {
        for case in &cases {
            samples.entry(&case.name).or_default().push((case.run)().await.about(&case.name)?);
        }
    }
    for case in &cases {
        results.add(&case.name, median(&samples[case.name.as_str()]));
    }
    Ok(())
}

/// Everything that is planned.
pub async fn run(plan: &Plan, results: &mut Results) -> Told<()> {
    let has = |part| plan.parts.contains(&part);
    if plan.parts.iter().any(|part| *part != Part::Growth) {
        let mut cluster = with_ceiling(plan.threads).await?;
        calls::create_key(&cluster).await?;
        if has(Part::Calls) {
            say(format_args!("bench: calls, in turns with empty ones"));
            in_turns(plan, calls::cases(&cluster, plan.calls_last).await?, results).await?;
        }
        if has(Part::Bulk) {
            say(format_args!("bench: long messages and files, in turns with the cipher alone"));
            in_turns(plan, bulk::cases(&cluster, plan.calls_last).await?, results).await?;
            bulk::speeds(results);
        }
        against_etcd(plan, &mut cluster, results).await?;
    }
    if has(Part::Growth) {
        say(format_args!("bench: many keys"));
        growth::keys(plan, results).await?;
    }
    Ok(())
}

/// Three open nodes that serve the ceiling beside their own services.
async fn with_ceiling(threads: usize) -> Told<Cluster> {
    let mut cluster = Cluster::prepare(3, "bench")?;
    for node in &mut cluster.nodes {
        node.program = "claviger-ceiling".into();
        node.environment.push(("CLAVIGERD_LIMITS_THREADS".into(), threads.to_string()));
    }
    cluster.start_nodes().await?;
    cluster.found()?;
    cluster.open().await?;
    cluster.give_roles().await?;
    Ok(cluster)
}

async fn against_etcd(plan: &Plan, cluster: &mut Cluster, results: &mut Results) -> Told<()> {
    let has = |part| plan.parts.contains(&part);
    if !has(Part::Writes) && !has(Part::Failover) {
        return Ok(());
    }
    let mut etcd = if Etcd::is_there() { Some(Etcd::start(plan.threads).await?) } else { None };
    if etcd.is_none() {
        if std::env::var("CI").is_ok_and(|word| word == "true") {
            return Err(Trouble::new("CI=true, and there is no etcd on the path"));
        }
        say(format_args!("bench: there is no etcd on the path: writes and failovers are compared with nothing"));
    }
    if has(Part::Writes) {
        say(format_args!("bench: durable writes, in turns with etcd's"));
        let cases = writes::cases(cluster, etcd.as_ref(), plan.writes_last).await?;
        in_turns(plan, cases, results).await?;
    }
    if has(Part::Failover) {
        say(format_args!("bench: leaders killed"));
        failover::kill_leaders(plan.kills, cluster, etcd.as_mut(), results).await?;
    }
    Ok(())
}

/// What is aimed at: ratios of what was measured, as far as it was.
pub fn compare(results: &mut Results) {
    let cpu = |name: &str| results.sample(name).map(|sample| sample.cpu_us);
    let rate = |name: &str| results.sample(name).map(|sample| sample.rate);
    let pairs = [
        ("encrypt_unary_vs_ping", cpu("empty call, leader, 64"), cpu("encrypt 32 B, leader, 64"), 0.8, 0.6),
        ("encrypt_stream_vs_empty", cpu("empty stream, leader, 64"), cpu("pipeline 32 B, leader, 64"), 0.33, 0.2),
        ("writes_vs_etcd", rate("create key, 64"), rate("etcd put, 64"), 1.0, 0.5),
    ];
    for (name, of, to, aim, floor) in pairs {
        results.ratio(name, of, to, aim, floor);
    }
}
