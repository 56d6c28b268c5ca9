//! Programs that use keys, and an administrator who takes rights away and gives them back. Each writes down what it asked
//! and what it saw.

mod chunks;
mod many;

use crate::dice::Dice;
use crate::door::{Errand, Visited};
use crate::history::{Ask, Attempt, Deed, Moment, Seen};
use crate::house::Life;
use crate::papers::Guest;
use crate::promises::ciphertexts::Kept;
use crate::promises::revocation::RightsChange;
use crate::scene::Scene;
use claviger_core::crypto::sha256;
use claviger_core::decide::Role;
use claviger_core::envelope::{Ciphertext, Context, Header};
use claviger_core::failure::{Failure, Refused, Why};
use claviger_core::key::{Algorithm, KeyRecord, Labels};
use claviger_core::name::{KeyName, NodeId, RequestId};
use claviger_core::policy::{KeyGrant, Operation, RoleKind, RoleSet};
use claviger_core::secret::SecretBytes;
use claviger_server::service::{CreateAsk, DecryptAsk, EncryptAsk, KeyAsk, ReadAsk, RequestStamp, UpdateAsk, Visit};
use std::sync::Arc;
use std::time::Duration;

/// How often a call is tried under one request id.
const ATTEMPTS_MAX: usize = 6;
/// How often a client asks many things at once, among its other work.
const MANY_ONCE_IN: u64 = 10;
/// How often a client has a stream of chunks sealed or opened, among its other work.
const CHUNKS_ONCE_IN: u64 = 20;

/// One client.
pub struct Client {
    scene: Arc<Scene>,
    number: u64,
    dice: Dice,
    /// Of their own: they move nothing else.
    plaintexts: Dice,
    /// For what it asks beside its other work: batches and streams.
    many: Dice,
    /// For streams of chunks.
    chunks: Dice,
    /// The highest revision that any answer carried.
    revision: u64,
    /// Keys that this client has stopped, and means to start again.
    stopped: Vec<u64>,
}

/// What a change was answered.
type Changed = (KeyRecord, u64);

impl Client {
    /// The client of that number. `purpose` tells one life of it from the next.
    pub fn new(scene: &Arc<Scene>, number: u64, purpose: &str) -> Client {
        let dice = scene.dice(&format!("client {number}, {purpose}"));
        let plaintexts = scene.dice(&format!("plaintexts of client {number}, {purpose}"));
        let many = scene.dice(&format!("many items of client {number}, {purpose}"));
        let chunks = scene.dice(&format!("chunks of client {number}, {purpose}"));
        Client { scene: scene.clone(), number, dice, plaintexts, many, chunks, revision: 0, stopped: Vec::new() }
    }

    /// Works until the run is over.
    pub async fn work(mut self) {
        while !self.scene.is_over() {
            tokio::time::sleep(Duration::from_millis(self.dice.roll(0..self.scene.plan.pause_ms))).await;
            let keys = self.scene.keys_of(self.number);
            let Some(key) = self.dice.pick(&keys).copied() else { return };
            self.operate(key).await;
            if self.many.once_in(MANY_ONCE_IN) {
                self.ask_many(key).await;
            }
            if self.chunks.once_in(CHUNKS_ONCE_IN) {
                self.pass_chunks(key).await;
            }
        }
    }

    /// Does something; and after a change often looks at once, elsewhere, whether it is there.
    async fn operate(&mut self, key: u64) {
        let revision = self.revision;
        self.begin(key).await;
        if self.revision > revision && self.dice.once_in(2) {
            self.read(key).await;
        }
    }

    async fn begin(&mut self, key: u64) {
        if let Some(at) = self.stopped.iter().position(|k| *k == key)
            && !self.dice.once_in(4)
        {
            self.stopped.swap_remove(at);
            self.change(key, Ask::Enable).await;
            return;
        }
        match self.dice.roll(0..100) {
            0..8 => {
                let label = self.scene.label();
                self.change(key, Ask::Create { label }).await;
            }
            8..18 => {
                self.change(key, Ask::Rotate).await;
            }
            18..24 => {
                self.stopped.push(key);
                self.change(key, Ask::Disable).await;
            }
            24..32 => {
                let label = self.scene.label();
                self.change(key, Ask::Relabel { label }).await;
            }
            32..50 => self.read(key).await,
            50..78 => self.encrypt(key).await,
            _ => self.decrypt(key).await,
        }
    }

    fn node(&self) -> NodeId {
        *self.dice.pick(&self.scene.house.all()).expect("a cluster has nodes")
    }

    fn patience(&self) -> Duration {
        Duration::from_millis(self.dice.roll(500..self.scene.plan.patience_ms.max(1_000)))
    }

    fn errand<'a>(&'a self, guest: &'a Guest, operation: Operation) -> Errand<'a> {
        Errand { house: &self.scene.house, guest, operation, patience: self.patience(), dice: &self.dice }
    }

    fn read_ask(&self, stale_ms: u32) -> ReadAsk {
        let min_revision = if self.dice.once_in(2) { self.revision } else { 0 };
        ReadAsk { min_revision, allow_stale_ms: stale_ms }
    }

    fn stale_ms(&self) -> u32 {
        if self.dice.once_in(8) { self.dice.roll(1..2_000) as u32 } else { 0 }
    }

    /// A change, under a request id or without: without one it is not tried again once its outcome is unknown.
    pub async fn change(&mut self, key: u64, ask: Ask) -> Seen {
        let began = self.scene.trace.moment();
        let request: RequestStamp = (!self.dice.once_in(3))
            .then(|| (RequestId(self.dice.bytes()), sha256(&[format!("{key} {ask:?}").as_bytes()])));
        let (mut attempts, mut unknown) = (Vec::new(), false);
        let mut seen = Seen::NotDone;
        let mut revision = 0;
        for _ in 0..ATTEMPTS_MAX {
            let visited = self.ask_change(key, ask, request).await;
            attempts.extend(attempt(&visited));
            (seen, revision) = told(visited);
            unknown |= seen == Seen::Unknown;
            if !matches!(seen, Seen::Unknown | Seen::NotDone) || (unknown && request.is_none()) || self.scene.is_over()
            {
                break;
            }
            tokio::time::sleep(Duration::from_millis(self.dice.roll(50..1_500))).await;
        }
        if matches!(seen, Seen::NotDone | Seen::Denied) && unknown {
            seen = Seen::Unknown;
        }
        let ended = (seen != Seen::Unknown).then(|| self.scene.trace.moment());
        self.learn(key, &seen, revision);
        let left = self.scene.trace.moment();
        let deed = Deed { client: self.number, key, ask, began, ended, left, seen: seen.clone(), revision, attempts };
        self.scene.did(deed);
        seen
    }

    async fn ask_change(&self, key: u64, ask: Ask, request: RequestStamp) -> Visited<Changed> {
        let name = self.scene.keys[key as usize].clone();
        let operation = match ask {
            Ask::Create { .. } => Operation::CreateKey,
            Ask::Rotate => Operation::RotateKey,
            Ask::Disable => Operation::DisableKey,
            Ask::Enable => Operation::EnableKey,
            Ask::Relabel { .. } => Operation::UpdateKey,
            Ask::Get | Ask::Encrypt { .. } | Ask::Decrypt { .. } => unreachable!("these change nothing"),
        };
        let errand = self.errand(&self.scene.root, operation);
        let visited =
            errand.run(self.node(), move |life, visit| Box::pin(make_change(life, visit, name, ask, request))).await;
        self.asked_to_change(&visited);
        visited
    }

    async fn read(&mut self, key: u64) {
        let (began, read) = (self.scene.trace.moment(), self.read_ask(0));
        let name = self.scene.keys[key as usize].clone();
        let errand = self.errand(&self.scene.root, Operation::GetKey);
        let visited = errand.run(self.node(), move |life, visit| {
            Box::pin(
                async move { life.node.service().get_key(visit, (name, read)).await.map(|((key, _), r)| (key, r)) },
            )
        });
        let visited = visited.await;
        self.asked(&visited, 0);
        let attempts = attempt(&visited).into_iter().collect();
        let (seen, revision) = told(visited);
        self.finish(key, Ask::Get, began, seen, (revision, read), attempts);
    }

    /// Writes a call down that changes nothing.
    fn finish(&mut self, key: u64, ask: Ask, began: Moment, seen: Seen, read: (u64, ReadAsk), attempts: Vec<Attempt>) {
        let seen = if seen == Seen::Unknown { Seen::NotDone } else { seen };
        let (revision, asked) = read;
        if revision > 0 {
            self.scene.promises.time.answer(self.number, asked.min_revision, revision);
        }
        self.learn(key, &seen, revision);
        let left = self.scene.trace.moment();
        let ended = Some(left);
        self.scene.did(Deed { client: self.number, key, ask, began, ended, left, seen, revision, attempts });
    }

    fn learn(&mut self, key: u64, seen: &Seen, revision: u64) {
        self.revision = self.revision.max(revision);
        if let Seen::Key(record) = seen {
            self.scene.promises.versions.record(key, record);
        }
    }

    fn asked<T>(&self, visited: &Visited<T>, stale_ms: u32) {
        self.was_asked(visited, visited.handed, stale_ms);
    }

    /// That a change has happened may be told when the node is sealed meanwhile: it is made, and gives nothing away.
    fn asked_to_change<T>(&self, visited: &Visited<T>) {
        self.was_asked(visited, None, 0);
    }

    fn was_asked<T>(&self, visited: &Visited<T>, handed: Option<Moment>, stale_ms: u32) {
        if let (Some(received), true) = (visited.received, visited.answer.is_some() || visited.served) {
            let stale = Duration::from_millis(stale_ms.into());
            self.scene.promises.sealed.asked(visited.node, (received, handed), stale, visited.served);
        }
    }

    async fn encrypt(&mut self, key: u64) {
        let (began, stale_ms) = (self.scene.trace.moment(), self.stale_ms());
        let read = self.read_ask(stale_ms);
        let plaintext = self.plaintext(&self.dice);
        let pair = self.dice.once_in(2).then(|| format!("context {}", self.dice.roll(0..1_000)));
        let name = self.scene.keys[key as usize].clone();
        let job = Encryption { scene: self.scene.clone(), key, name, plaintext, pair, read };
        let errand = self.errand(&self.scene.clients[self.number as usize], Operation::Encrypt);
        let visited = errand.run(self.node(), move |life, visit| Box::pin(job.run(life, visit))).await;
        self.asked(&visited, stale_ms);
        let attempts = attempt(&visited).into_iter().collect();
        let (seen, revision) = match visited.answer {
            Some(Ok(kept)) => self.keep(kept),
            Some(Err(why)) => (refused(&why), 0),
            None => (Seen::NotDone, 0),
        };
        self.finish(key, Ask::Encrypt { stale_ms }, began, seen, (revision, read), attempts);
    }

    /// Keeps a ciphertext that it was given. What that says, and the revision that came with it.
    fn keep(&self, kept: Kept) -> (Seen, u64) {
        let header = *Ciphertext::parse(&kept.ciphertext).expect("looked at when it was made").header();
        let (version, revision) = (kept.version, kept.revision);
        self.scene.promises.clear.look("a ciphertext", &kept.ciphertext);
        self.scene.promises.ciphertexts.keep(kept);
        (Seen::Encrypted { id: header.key, version, material: header.material }, revision)
    }

    /// Bytes that occur nowhere else, to be found wherever they stand in the clear.
    fn plaintext(&self, dice: &Dice) -> Vec<u8> {
        let width = dice.spread(1, 300) as usize;
        let blocks = std::iter::repeat_with(|| self.plaintexts.bytes::<32>()).flatten();
        let plaintext: Vec<u8> = blocks.take(width).collect();
        self.scene.promises.clear.watch_briefly(&format!("a plaintext of client {}", self.number), &plaintext);
        plaintext
    }

    async fn decrypt(&mut self, key: u64) {
        let Some(kept) = self.scene.promises.ciphertexts.some(key, &self.dice) else { return };
        let (node, stale_ms) = (self.node(), self.stale_ms());
        let elsewhere = self.dice.once_in(10);
        self.decrypt_at(node, kept, stale_ms, elsewhere).await;
    }

    /// Decrypts one at a node, in its own context or in another.
    pub async fn decrypt_at(&mut self, node: NodeId, kept: Kept, stale_ms: u32, elsewhere: bool) -> Seen {
        let (key, began, read) = (kept.key, self.scene.trace.moment(), self.read_ask(stale_ms));
        let name = self.scene.keys[key as usize].clone();
        let pair = if elsewhere { Some("another context".to_owned()) } else { kept.context.clone() };
        let ask = DecryptAsk { name, ciphertext: kept.ciphertext.clone(), context: context(pair.as_deref()), read };
        let errand = self.errand(&self.scene.clients[self.number as usize], Operation::Decrypt);
        let visited = errand.run(node, move |life, visit| {
            Box::pin(async move {
                let (clear, revision) = life.node.service().decrypt(visit, ask).await?;
                Ok((clear.plaintext.expose().to_vec(), revision))
            })
        });
        let visited = visited.await;
        self.asked(&visited, stale_ms);
        let attempts = attempt(&visited).into_iter().collect();
        let (answer, revision) = match visited.answer {
            Some(Ok((plaintext, revision))) => (Some(Ok(plaintext)), revision),
            Some(Err(why)) => (Some(Err(why)), 0),
            None => (None, 0),
        };
        let ciphertexts = &self.scene.promises.ciphertexts;
        match &answer {
            Some(answer) if elsewhere => ciphertexts.opened_elsewhere(node, &kept, answer),
            // A stale reading may not know the version yet.
            Some(answer) if stale_ms == 0 || answer.is_ok() => ciphertexts.opened(node, &kept, answer),
            Some(_) | None => {}
        }
        let seen = match answer {
            Some(Ok(_)) => Seen::Decrypted,
            Some(Err(why)) => refused(&why),
            None => Seen::NotDone,
        };
        let ask = Ask::Decrypt { version: kept.version, stale_ms };
        self.finish(key, ask, began, seen.clone(), (revision, read), attempts);
        seen
    }
}

/// One encryption, as it happens on a node.
struct Encryption {
    scene: Arc<Scene>,
    key: u64,
    name: KeyName,
    plaintext: Vec<u8>,
    pair: Option<String>,
    read: ReadAsk,
}

impl Encryption {
    async fn run(self, life: Life, visit: &Visit) -> Result<Kept, Failure> {
        let Encryption { scene, key, name, plaintext, pair, read } = self;
        let ask = EncryptAsk {
            name,
            plaintext: SecretBytes::take(plaintext.clone()),
            context: context(pair.as_deref()),
            read,
        };
        let (sealed, revision) = life.node.service().encrypt(visit, ask).await?;
        made(&scene, &life, key, &sealed.ciphertext);
        Ok(Kept { key, version: sealed.version, ciphertext: sealed.ciphertext, plaintext, context: pair, revision })
    }
}

/// Tells the promises of a ciphertext, on the node that made it, the moment it did.
fn made(scene: &Scene, life: &Life, key: u64, ciphertext: &[u8]) {
    made_with(scene, life, key, Ciphertext::parse(ciphertext).expect("a ciphertext of ours has its form").header());
}

/// As [`made`], of a ciphertext with this header.
fn made_with(scene: &Scene, life: &Life, key: u64, header: &Header) {
    scene.promises.nonces.ciphertext(header);
    if let Some(eye) = scene.eye.get() {
        let committed = eye.key(&life.node.ledger().view(), &scene.keys[key as usize]);
        let (id, version, material) = (header.key, header.version, header.material);
        scene.promises.versions.encrypted(key, id, version, material, committed.as_ref());
    }
}

async fn make_change(
    life: Life,
    visit: &Visit,
    name: KeyName,
    ask: Ask,
    request: RequestStamp,
) -> Result<Changed, Failure> {
    let service = life.node.service();
    match ask {
        Ask::Create { label } => {
            let ask = CreateAsk { name, algorithm: Algorithm::Aes256Gcm, labels: labels(label), request };
            service.create_key(visit, ask).await
        }
        Ask::Rotate => service.rotate_key(visit, KeyAsk { name, request }).await,
        Ask::Disable => service.disable_key(visit, KeyAsk { name, request }).await,
        Ask::Enable => service.enable_key(visit, KeyAsk { name, request }).await,
        Ask::Relabel { label } => {
            let labels = Some(labels(label));
            let ask = UpdateAsk { name, labels, min_decrypt: None, expected: None, request };
            service.update_key(visit, ask).await
        }
        Ask::Get | Ask::Encrypt { .. } | Ask::Decrypt { .. } => unreachable!("these change nothing"),
    }
}

fn labels(label: u32) -> Labels {
    Labels::from([("n".parse().expect("a name"), label.to_string().parse().expect("digits are a name"))])
}

fn context(pair: Option<&str>) -> Context {
    pair.map_or_else(Context::empty, |value| Context::new(&[("what", value)]).expect("one short pair"))
}

fn attempt<T>(visited: &Visited<T>) -> Option<Attempt> {
    let received = visited.received?;
    Some(Attempt { node: visited.node, received, handed: visited.handed, served: visited.served })
}

/// What a client knows of a call about a key's metadata.
fn told(visited: Visited<Changed>) -> (Seen, u64) {
    match visited.answer {
        Some(Ok((key, revision))) => (Seen::Key(Box::new(key)), revision),
        Some(Err(why)) => (refused(&why), 0),
        None if visited.received.is_none() => (Seen::NotDone, 0),
        None => (Seen::Unknown, 0),
    }
}

/// What a refusal says of what happened.
fn refused(why: &Failure) -> Seen {
    match why {
        Failure::Refused(Refused::Disabled) => Seen::Disabled,
        Failure::Refused(Refused::NotFound) => Seen::NotFound,
        Failure::Refused(Refused::AlreadyExists) => Seen::Exists,
        Failure::Denied => Seen::Denied,
        // Surely not done, says the service.
        Failure::Unavailable(Why::Sealed | Why::NoQuorum | Why::NotFounded) => Seen::NotDone,
        Failure::Refused(_) | Failure::Unauthenticated(_) => Seen::NotDone,
        Failure::Unavailable(_) | Failure::Broken(_) => Seen::Unknown,
    }
}

/// Takes a client's rights away now and then, and gives them back.
pub async fn change_rights(scene: Arc<Scene>) {
    let dice = scene.dice("rights");
    while !scene.is_over() {
        tokio::time::sleep(Duration::from_millis(dice.roll(10_000..60_000))).await;
        let client = dice.roll(0..scene.clients.len() as u64);
        set_rights(&scene, client, false, &dice).await;
        tokio::time::sleep(Duration::from_millis(dice.roll(500..15_000))).await;
        while !set_rights(&scene, client, true, &dice).await {
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    }
}

/// One try. Whether it was acknowledged.
async fn set_rights(scene: &Arc<Scene>, client: u64, granted: bool, dice: &Dice) -> bool {
    let began = scene.trace.moment();
    let who = scene.clients[client as usize].identity.clone();
    let operation = if granted { Operation::SetRole } else { Operation::DeleteRole };
    let patience = Duration::from_secs(90);
    let errand = Errand { house: &scene.house, guest: &scene.root, operation, patience, dice };
    let node = *dice.pick(&scene.house.all()).expect("a cluster has nodes");
    let visited = errand.run(node, move |life, visit| {
        Box::pin(async move {
            let service = life.node.service();
            if !granted {
                return service.delete_role(visit, (who, None)).await;
            }
            let grant = KeyGrant { tenant: "acme".parse()?, key: None, encrypt: true, decrypt: true };
            let role = Role { identity: who, kinds: RoleSet::of(&[RoleKind::KeyUser]), grants: vec![grant] };
            service.set_role(visit, (role, None)).await.map(|(_, version)| version)
        })
    });
    let visited = visited.await;
    let sure = matches!(visited.answer, Some(Err(Failure::Unavailable(Why::Sealed | Why::NoQuorum))))
        || visited.received.is_none();
    let done = matches!(visited.answer, Some(Ok(_)));
    if !sure {
        let left = scene.trace.moment();
        let ended = done.then_some(left);
        scene.trace.tell(100 + client, &format!("rights {granted}: {}", if done { "done" } else { "unknown" }));
        for key in scene.keys_of(client) {
            scene.changed_rights(RightsChange { client, key, granted, began, ended, left });
        }
    }
    done
}
