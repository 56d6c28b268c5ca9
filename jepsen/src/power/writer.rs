//! Writers at full rate: each has keys of its own, which it creates, rotates and encrypts with, and a history of what it
//! was told.

use super::history::{History, Kept};
use super::lots::Lots;
use crate::cluster::Cluster;
use crate::pki::Credentials;
use crate::process::LOOK_EVERY;
use crate::trouble::{About, Told};
use claviger_client::v1::CreateKeyRequest;
use claviger_client::{Client, Config, Error, Files};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;
use tokio::task::JoinHandle;

/// Writers of a cluster.
pub const WRITERS: u64 = 8;
/// How long one call may take: without a majority the writers must not hang for long.
const CALL_MS_MAX: u64 = 2_000;
/// Keys that a writer goes on rotating: the last ones that it made.
const KEYS_IN_USE: usize = 8;

/// One writer at rest, with its memory.
pub struct Writer {
    /// What it was told.
    pub history: History,
    number: u64,
    made: u64,
    lots: Lots,
    in_use: Vec<String>,
}

impl Writer {
    /// One that knows nothing yet.
    pub fn new(number: u64, lots: Lots) -> Writer {
        Writer { history: History::default(), number, made: 0, lots, in_use: Vec::new() }
    }

    /// One call; whether it was answered with yes.
    async fn step(&mut self, hands: &Hands) -> bool {
        let lot = self.lots.below(10);
        let done = match self.in_use.is_empty() {
            true => self.create(hands).await,
            false if lot == 0 => self.create(hands).await,
            false if lot < 5 => self.rotate(hands).await,
            false => self.encrypt(hands).await,
        };
        self.history.failed += u64::from(done.is_err());
        done.is_ok()
    }

    async fn create(&mut self, hands: &Hands) -> Result<(), Error> {
        self.made += 1;
        let name = format!("tenants/default/keys/w{}-{}", self.number, self.made);
        let ask = CreateKeyRequest { name: name.clone(), ..Default::default() };
        let answer = hands.admin.create_key(ask).await?;
        self.history.acknowledge(&answer.key.unwrap_or_default());
        if self.in_use.len() == KEYS_IN_USE {
            self.in_use.remove(0);
        }
        self.in_use.push(name);
        Ok(())
    }

    async fn rotate(&mut self, hands: &Hands) -> Result<(), Error> {
        let name = self.some_key();
        self.history.asked(&name);
        let answer = hands.admin.rotate_key(&name).await?;
        self.history.acknowledge(&answer.key.unwrap_or_default());
        Ok(())
    }

    async fn encrypt(&mut self, hands: &Hands) -> Result<(), Error> {
        let key = self.some_key();
        let plaintext = format!("{key} {}", self.history.acknowledged).into_bytes();
        let answer = hands.service.encrypt(&key, plaintext.clone(), &[]).await?;
        let kept = Kept { key, plaintext, ciphertext: answer.ciphertext };
        let lot = self.lots.index(usize::MAX);
        self.history.keep(kept, answer.version, lot);
        Ok(())
    }

    fn some_key(&mut self) -> String {
        let index = self.lots.index(self.in_use.len());
        self.in_use[index].clone()
    }
}

/// What a writer asks with.
#[derive(Clone)]
struct Hands {
    admin: Client,
    service: Client,
}

/// Writers at work.
pub struct Crew {
    stop: Arc<AtomicBool>,
    done: Arc<AtomicU64>,
    tasks: Vec<JoinHandle<Writer>>,
}

impl Crew {
    /// Sets them to work.
    pub fn start(cluster: &Cluster, writers: Vec<Writer>) -> Told<Crew> {
        let (stop, done) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let mut tasks = Vec::new();
        for writer in writers {
            let hands = Hands {
                admin: impatient(cluster, &cluster.administrator)?,
                service: impatient(cluster, &cluster.service)?,
            };
            tasks.push(tokio::spawn(work(writer, hands, stop.clone(), done.clone())));
        }
        Ok(Crew { stop, done, tasks })
    }

    /// Calls that were answered with yes so far.
    pub fn acknowledged(&self) -> u64 {
        self.done.load(Ordering::Acquire)
    }

    /// Lets the calls under way end, and answers the writers with what they know.
    pub async fn stop(self) -> Told<Vec<Writer>> {
        self.stop.store(true, Ordering::Release);
        let mut writers = Vec::new();
        for task in self.tasks {
            writers.push(task.await.about("writer")?);
        }
        Ok(writers)
    }
}

async fn work(mut writer: Writer, hands: Hands, stop: Arc<AtomicBool>, done: Arc<AtomicU64>) -> Writer {
    while !stop.load(Ordering::Acquire) {
        match writer.step(&hands).await {
            true => _ = done.fetch_add(1, Ordering::AcqRel),
            false => tokio::time::sleep(LOOK_EVERY).await,
        }
    }
    writer
}

/// A client that gives up early.
fn impatient(cluster: &Cluster, who: &Credentials) -> Told<Client> {
    let addresses: Vec<_> = cluster.nodes.iter().map(|n| n.address().to_string()).collect();
    let files = Files { ca: cluster.callers.cert(), cert: who.cert.clone(), key: who.key.clone() };
    let mut config = Config::new(addresses.join(",").parse().about("addresses")?, files);
    config.deadline = Duration::from_millis(CALL_MS_MAX);
    Client::new(&config).about("client")
}
