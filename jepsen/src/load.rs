//! Clients that keep asking while something breaks, each with a journal of its attempts.

use crate::attempts::{Attempt, Journal, now_us};
use crate::cluster::{Cluster, SETTLED_WITHIN};
use crate::pki::Credentials;
use crate::process::LOOK_EVERY;
use crate::trouble::{About, Told, Trouble};
use claviger_client::{Client, Config, Error, Files, v1};
use std::future::Future;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Instant;
use tokio::task::JoinHandle;

/// A client of the whole cluster, as a program would make one.
pub fn client(cluster: &Cluster, who: &Credentials) -> Told<Client> {
    let all: Vec<_> = cluster.nodes.iter().map(|node| node.id()).collect();
    client_of(cluster, &all, who)
}

/// A client that knows these nodes alone.
pub fn client_of(cluster: &Cluster, nodes: &[u64], who: &Credentials) -> Told<Client> {
    let known = nodes.iter().map(|id| Ok(cluster.node(*id)?.address().to_string()));
    let addresses = known.collect::<Told<Vec<_>>>()?;
    let files = Files { ca: cluster.callers.cert(), cert: who.cert.clone(), key: who.key.clone() };
    let endpoints = addresses.join(",").parse().about("addresses")?;
    Client::new(&Config::new(endpoints, files)).about("client")
}

/// One client at work.
pub struct Worker {
    /// Where its attempts stand.
    pub journal: PathBuf,
    stop: Arc<AtomicBool>,
    done: Arc<AtomicU64>,
    task: JoinHandle<Told<()>>,
}

impl Worker {
    /// Successes so far.
    pub fn successes(&self) -> u64 {
        self.done.load(Ordering::Acquire)
    }

    /// Waits for that many more successes.
    pub async fn more(&self, count: u64) -> Told<()> {
        let (started, wanted) = (Instant::now(), self.successes() + count);
        while self.successes() < wanted {
            if started.elapsed() > SETTLED_WITHIN || self.task.is_finished() {
                return Err(Trouble::new(format!("{}: no {count} more successes in time", self.journal.display())));
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
        Ok(())
    }

    /// Lets the attempt under way end, and ends.
    pub async fn stop(self) -> Told<PathBuf> {
        self.stop.store(true, Ordering::Release);
        self.task.await.about("client task")??;
        Ok(self.journal)
    }
}

/// A client that encrypts with one key, again and again.
pub fn keep_encrypting(client: Client, key: &str, journal: &Path) -> Told<Worker> {
    let key = key.to_owned();
    keep(journal, move |number| {
        let (client, key) = (client.clone(), key.clone());
        let plaintext = format!("message {number}").into_bytes();
        (key.clone(), async move { client.encrypt(&key, plaintext, &[]).await.map(drop) })
    })
}

/// A client that creates one key after the other: `{prefix}1`, `{prefix}2`.
pub fn keep_creating(client: Client, prefix: &str, journal: &Path) -> Told<Worker> {
    let prefix = prefix.to_owned();
    keep(journal, move |number| {
        let (client, name) = (client.clone(), format!("{prefix}{number}"));
        let ask = v1::CreateKeyRequest { name: name.clone(), ..Default::default() };
        (name, async move { client.create_key(ask).await.map(drop) })
    })
}

fn keep<Called>(journal: &Path, call: impl Fn(u64) -> (String, Called) + Send + 'static) -> Told<Worker>
where
    Called: Future<Output = Result<(), Error>> + Send + 'static,
{
    let mut lines = Journal::create(journal)?;
    let (stop, done) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let (ended, counted) = (stop.clone(), done.clone());
    let task = tokio::spawn(async move {
        let mut number = 0;
        while !ended.load(Ordering::Acquire) {
            number += 1;
            let attempt = tried(call(number)).await;
            lines.write(&attempt)?;
            counted.fetch_add(u64::from(attempt.ok), Ordering::AcqRel);
            if !attempt.ok {
                tokio::time::sleep(LOOK_EVERY).await;
            }
        }
        Ok(())
    });
    Ok(Worker { journal: journal.to_owned(), stop, done, task })
}

async fn tried<Called: Future<Output = Result<(), Error>>>((what, called): (String, Called)) -> Attempt {
    let asked_us = now_us();
    let answer = called.await;
    let why = answer.as_ref().err().map(ToString::to_string).unwrap_or_default();
    Attempt { what, asked_us, answered_us: now_us(), ok: answer.is_ok(), why }
}
