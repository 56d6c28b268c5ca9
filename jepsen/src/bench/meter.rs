//! What is measured: rate, percentiles of latency, and the servers' own processor time for each operation. Wall time on
//! shared processors says little; processor time says what an operation costs.

use crate::trouble::{About, Told};
use serde::Serialize;
use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// One tick of the kernel's accounting, in microseconds: `USER_HZ` is 100 wherever we build.
const TICK_US: u64 = 10_000;

/// One measurement.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Sample {
    /// Operations a second.
    pub rate: f64,
    /// Half of all operations took no longer, in microseconds.
    pub p50_us: f64,
    /// 99 of 100 took no longer, in microseconds.
    pub p99_us: f64,
    /// Processor time of all servers for one operation, in microseconds.
    pub cpu_us: f64,
    /// That of the server that was asked.
    pub target_cpu_us: f64,
}

/// The processes whose time counts: the first is the one that is asked.
#[derive(Clone, Debug)]
pub struct Servers(pub Vec<u32>);

impl Servers {
    /// Processor time so far of each, user and system, in microseconds.
    pub fn spent(&self) -> Told<Vec<u64>> {
        self.0.iter().map(|pid| cpu_us(*pid)).collect()
    }

    /// What each has spent since then.
    pub fn spent_since(&self, before: &[u64]) -> Told<Vec<u64>> {
        Ok(self.spent()?.iter().zip(before).map(|(after, before)| after.saturating_sub(*before)).collect())
    }
}

/// Processor time of a process and its threads so far (proc(5), fields 14 and 15 of `stat`).
pub fn cpu_us(pid: u32) -> Told<u64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).about("processor time")?;
    // The name of the program may hold anything, so what follows its last bracket is what counts.
    let fields: Vec<&str> = stat.rsplit_once(')').about("processor time")?.1.split_whitespace().collect();
    let ticks = |at: usize| fields.get(at).and_then(|field| field.parse::<u64>().ok()).about("processor time");
    Ok((ticks(11)? + ticks(12)?) * TICK_US)
}

/// Resident memory of a process, in bytes (proc(5), `VmRSS` of `status`).
pub fn resident_bytes(pid: u32) -> Told<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).about("memory")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).about("memory")?;
    let kib: u64 = line.trim().strip_suffix(" kB").about("memory")?.parse().about("memory")?;
    Ok(kib << 10)
}

/// Keeps `in_flight` operations going for a while. Each is made by `begin`, which is given the worker's number.
pub async fn measure<Op, Doing>(servers: &Servers, in_flight: usize, lasts: Duration, begin: Op) -> Told<Sample>
where
    Op: Fn(usize, u64) -> Doing + Send + Sync + 'static,
    Doing: Future<Output = Told<()>> + Send,
{
    let (begin, before, started) = (Arc::new(begin), servers.spent()?, Instant::now());
    let workers: Vec<_> = (0..in_flight)
        .map(|worker| {
            let begin = begin.clone();
            tokio::spawn(async move {
                let mut latencies = Vec::new();
                while started.elapsed() < lasts {
                    let asked = Instant::now();
                    begin(worker, latencies.len() as u64).await?;
                    latencies.push(asked.elapsed());
                }
                Told::Ok(latencies)
            })
        })
        .collect();
    let mut latencies = Vec::new();
    for worker in workers {
        latencies.extend(worker.await.about("a worker")??);
    }
    Ok(sample(latencies, started.elapsed(), &servers.spent_since(&before)?))
}

/// Of operations with these latencies, all within `lasted`, that took the servers so many microseconds.
pub fn sample(mut latencies: Vec<Duration>, lasted: Duration, spent_us: &[u64]) -> Sample {
    latencies.sort_unstable();
    let count = latencies.len().max(1);
    let us = |duration: Duration| duration.as_secs_f64() * 1e6;
    let at = |part: usize| latencies.get((count * part / 100).min(count - 1)).copied().map_or(0.0, us);
    let each_us = |spent_us: u64| spent_us as f64 / count as f64;
    Sample {
        rate: latencies.len() as f64 / lasted.as_secs_f64(),
        p50_us: at(50),
        p99_us: at(99),
        cpu_us: each_us(spent_us.iter().sum()),
        target_cpu_us: each_us(spent_us.first().copied().unwrap_or(0)),
    }
}

/// Keeps `in_flight` items on one stream for a while: each answer makes room for the next ask, and what is under way at the
/// end is waited for. `send` is given the number of the item, from 0, and `next` answers that of the item that came.
pub async fn flow(
    servers: &Servers,
    in_flight: usize,
    lasts: Duration,
    send: impl Fn(u64) -> Told<()>,
    mut next: impl AsyncFnMut() -> Told<u64>,
) -> Told<Sample> {
    let (before, started) = (servers.spent()?, Instant::now());
    let (mut asked, mut latencies) = (Vec::new(), Vec::new());
    while asked.len() < in_flight {
        asked.push(Instant::now());
        send(asked.len() as u64 - 1)?;
    }
    while latencies.len() < asked.len() {
        let at = usize::try_from(next().await?).about("no number of an item")?;
        latencies.push(asked.get(at).about("an answer to nothing")?.elapsed());
        if started.elapsed() < lasts {
            asked.push(Instant::now());
            send(asked.len() as u64 - 1)?;
        }
    }
    Ok(sample(latencies, started.elapsed(), &servers.spent_since(&before)?))
}

/// Of several measurements of one thing: each figure's own median.
pub fn median(samples: &[Sample]) -> Sample {
    let middle = |take: fn(&Sample) -> f64| {
        let mut all: Vec<f64> = samples.iter().map(take).collect();
        all.sort_by(f64::total_cmp);
        all.get(all.len() / 2).copied().unwrap_or(0.0)
    };
    Sample {
        rate: middle(|s| s.rate),
        p50_us: middle(|s| s.p50_us),
        p99_us: middle(|s| s.p99_us),
        cpu_us: middle(|s| s.cpu_us),
        target_cpu_us: middle(|s| s.target_cpu_us),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sample_is_made_of_what_was_measured() {
        let latencies = (1..=100).map(Duration::from_micros).collect();
        let sample = sample(latencies, Duration::from_secs(2), &[2_000, 1_000]);
        assert_eq!((sample.rate, sample.p50_us, sample.p99_us), (50.0, 51.0, 100.0));
        assert_eq!((sample.cpu_us, sample.target_cpu_us), (30.0, 20.0));
    }

    #[test]
    fn the_median_of_each_figure_is_its_own() {
        let sample = |rate: f64, cpu_us: f64| Sample { rate, cpu_us, ..Sample::default() };
        let middle = median(&[sample(1.0, 9.0), sample(3.0, 7.0), sample(2.0, 8.0)]);
        assert_eq!((middle.rate, middle.cpu_us), (2.0, 8.0));
    }

    #[tokio::test]
    async fn a_stream_is_kept_full_and_then_emptied_in_whatever_order_it_answers() {
        let under_way = std::cell::RefCell::new(Vec::new());
        let (most, last) = (std::cell::Cell::new(0), std::cell::Cell::new(0));
        let send = |id: u64| {
            under_way.borrow_mut().push(id);
            most.set(most.get().max(under_way.borrow().len()));
            last.set(id);
            Ok(())
        };
        let next = async || {
            tokio::time::sleep(Duration::from_millis(1)).await;
            under_way.borrow_mut().pop().about("nothing is under way")
        };
        let this = Servers(vec![std::process::id()]);
        let sample = flow(&this, 4, Duration::from_millis(40), send, next).await.unwrap();
        assert_eq!((most.get(), under_way.borrow().len()), (4, 0));
        assert!(last.get() > 4 && sample.rate > 4.0 && sample.p50_us >= 1_000.0, "{} asked, {sample:?}", last.get());
    }

    #[tokio::test]
    async fn an_answer_to_nothing_is_an_error() {
        let this = Servers(vec![std::process::id()]);
        assert!(flow(&this, 1, Duration::ZERO, |_| Ok(()), async || Ok(7)).await.is_err());
    }

    #[test]
    fn this_process_has_spent_time_and_memory() {
        assert!(cpu_us(std::process::id()).is_ok() && resident_bytes(std::process::id()).unwrap() > 1 << 20);
    }
}
