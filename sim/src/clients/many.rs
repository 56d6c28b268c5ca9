//! What a client asks many times at once: re-encryptions, batches with one bad item among them, streams. To the promises
//! each item is a deed of its own; a re-encryption is two, a decryption and an encryption at one moment.

use super::{Client, attempt, context, made, refused};
use crate::door::{Errand, ItemVisited, Line, Visited};
use crate::history::{Ask, Attempt, Moment, Seen};
use crate::house::Life;
use crate::promises::Promise;
use crate::promises::ciphertexts::Kept;
use claviger_core::failure::Failure;
use claviger_core::name::{KeyName, NodeId};
use claviger_core::page::OutcomeWord;
use claviger_core::policy::Operation;
use claviger_core::secret::SecretBytes;
use claviger_server::service::{
    BatchAsk, Batched, DecryptAsk, EncryptAsk, PipelineAsk, PipelineDone, PipelineItem, ReEncryptAsk, ReadAsk, Visit,
};
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

/// Items of one batch or of one burst on a stream, at most.
const ITEMS_MAX: u64 = 5;
/// Bursts on one stream, at most.
const BURSTS_MAX: u64 = 6;

/// One item, and what its asker knows of it.
#[derive(Clone)]
struct Item {
    /// The key, by the run's number.
    key: u64,
    name: KeyName,
    want: Want,
    began: Moment,
    read: ReadAsk,
}

#[derive(Clone)]
enum Want {
    Encrypt {
        plaintext: Vec<u8>,
        pair: Option<String>,
    },
    Decrypt {
        kept: Kept,
        elsewhere: bool,
    },
    ReEncrypt {
        kept: Kept,
        pair: Option<String>,
    },
    /// Encrypts with a key that nobody ever makes, or decrypts what is no ciphertext: refused, and alone.
    Bad {
        decrypts: bool,
    },
}

/// What is asked for in one batch.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Encrypt,
    Decrypt,
    ReEncrypt,
}

/// What came of an item, with the revision that it rests on.
type Came = Result<(PipelineDone, u64), Failure>;

/// Whether each item of a batch was served, also when the answer is lost on its way.
type Served = Arc<Mutex<Vec<bool>>>;

impl Client {
    /// One of the three.
    pub(super) async fn ask_many(&mut self, key: u64) {
        match self.many.roll(0..5) {
            0 => self.re_encrypt(key).await,
            1..3 => self.batch(key).await,
            _ => self.stream(key).await,
        }
    }

    fn many_patience(&self) -> Duration {
        Duration::from_millis(self.many.roll(500..self.scene.plan.patience_ms.max(1_000)))
    }

    fn many_node(&self) -> NodeId {
        *self.many.pick(&self.scene.house.all()).expect("a cluster has nodes")
    }

    fn many_errand(&self, operation: Operation) -> Errand<'_> {
        let guest = &self.scene.clients[self.number as usize];
        Errand { house: &self.scene.house, guest, operation, patience: self.many_patience(), dice: &self.many }
    }

    fn many_read(&self) -> ReadAsk {
        let allow_stale_ms = if self.many.once_in(8) { self.many.roll(1..2_000) as u32 } else { 0 };
        ReadAsk { min_revision: if self.many.once_in(2) { self.revision } else { 0 }, allow_stale_ms }
    }

    /// An item of that kind; an encryption where there is nothing to decrypt yet and any kind will do.
    fn item(&self, key: u64, kind: Kind, read: ReadAsk) -> Option<Item> {
        let pair = self.many.once_in(2).then(|| format!("context {}", self.many.roll(0..1_000)));
        let some = || self.scene.promises.ciphertexts.some(key, &self.many);
        let want = match kind {
            Kind::Encrypt => Want::Encrypt { plaintext: self.plaintext(&self.many), pair },
            Kind::Decrypt => Want::Decrypt { kept: some()?, elsewhere: self.many.once_in(10) },
            Kind::ReEncrypt => Want::ReEncrypt { kept: some()?, pair },
        };
        let name = self.scene.keys[key as usize].clone();
        Some(Item { key, name, want, began: self.scene.trace.moment(), read })
    }

    fn bad_item(&self, key: u64, decrypts: bool, read: ReadAsk) -> Item {
        let absent = "tenants/acme/keys/nobody-makes-this".parse().expect("a good name");
        let name = if decrypts { self.scene.keys[key as usize].clone() } else { absent };
        Item { key, name, want: Want::Bad { decrypts }, began: self.scene.trace.moment(), read }
    }

    /// Some, of the client's keys, often with a bad one among them.
    fn items(&self, key: u64, kind: Kind, read: ReadAsk) -> Vec<Item> {
        let keys = self.scene.keys_of(self.number);
        let count = self.many.roll(1..ITEMS_MAX + 1);
        let keys = (0..count).map(|nth| if nth == 0 { key } else { *self.many.pick(&keys).unwrap_or(&key) });
        let mut items: Vec<Item> = keys.filter_map(|key| self.item(key, kind, read)).collect();
        if !self.many.once_in(4) {
            let at = self.many.roll(0..items.len() as u64 + 1) as usize;
            items.insert(at, self.bad_item(key, kind != Kind::Encrypt, read));
        }
        items
    }

    async fn re_encrypt(&mut self, key: u64) {
        let Some(item) = self.item(key, Kind::ReEncrypt, self.many_read()) else { return };
        let (ask, scene) = (item.re_encrypt_ask(), self.scene.clone());
        let errand = self.many_errand(Operation::ReEncrypt);
        let visited = errand.run(self.many_node(), move |life, visit| {
            Box::pin(async move {
                let (done, revision) = life.node.service().re_encrypt(visit, ask).await?;
                made(&scene, &life, key, &done.ciphertext);
                Ok((PipelineDone::ReEncrypted(done), revision))
            })
        });
        let visited = visited.await;
        self.settle(item, visited.node, attempt(&visited), visited.answer);
    }

    async fn batch(&mut self, key: u64) {
        let kind = match self.many.roll(0..4) {
            0..2 => Kind::Encrypt,
            2 => Kind::Decrypt,
            _ => Kind::ReEncrypt,
        };
        let read = self.many_read();
        let items = self.items(key, kind, read);
        let operation = match kind {
            Kind::Encrypt => Operation::BatchEncrypt,
            Kind::Decrypt => Operation::BatchDecrypt,
            Kind::ReEncrypt => Operation::BatchReEncrypt,
        };
        let (job, served) = ((self.scene.clone(), items.clone(), kind, read), Served::default());
        let noted = served.clone();
        let errand = self.many_errand(operation);
        let visited = errand.run_items(
            self.many_node(),
            move |life, visit| Box::pin(async move { ask_batch(&life, visit, job, &noted).await }),
            paged_as,
        );
        let visited = visited.await;
        let served = std::mem::take(&mut *served.lock());
        self.settle_batch(items, visited, &served);
    }

    fn settle_batch(&mut self, items: Vec<Item>, visited: Visited<Answers>, served: &[bool]) {
        let of_call = attempt(&visited);
        let node = visited.node;
        let mut answers = match visited.answer {
            Some(Ok(Answers { came, .. })) => came.into_iter().map(Some).collect(),
            Some(Err(why)) => items.iter().map(|_| Some(Err(why.clone()))).collect(),
            None => Vec::new(),
        };
        answers.resize_with(items.len(), || None);
        for (nth, (item, answer)) in items.into_iter().zip(answers).enumerate() {
            let served = served.get(nth).copied().unwrap_or(false);
            let attempt = of_call.map(|of_call| Attempt { served: of_call.served && served, ..of_call });
            self.settle(item, node, attempt, answer);
        }
    }

    /// Opens a stream, asks in bursts, and leaves: by half-closing it, or as if the connection broke.
    async fn stream(&mut self, key: u64) {
        let (node, scene) = (self.many_node(), self.scene.clone());
        let asked: Arc<Mutex<BTreeMap<u64, Item>>> = Arc::default();
        let known = asked.clone();
        let look = move |life: &Life, id: u64, done: &PipelineDone| {
            if let (Some(item), Some(ciphertext)) = (known.lock().get(&id), ciphertext_of(done)) {
                made(&scene, life, item.key, ciphertext);
            }
        };
        let Some(mut line) = self.many_errand(Operation::Pipeline).open(node, look).await else { return };
        for _ in 0..self.many.roll(1..BURSTS_MAX + 1) {
            self.send_burst(key, &line, &asked);
            if !self.hear_burst(node, &mut line, &asked).await || self.scene.is_over() {
                break;
            }
            tokio::time::sleep(Duration::from_millis(self.many.roll(0..self.scene.plan.pause_ms * 2 + 1))).await;
        }
        if self.many.once_in(2) {
            line.break_off();
        }
        // What has no answer says nothing.
        for (_, item) in std::mem::take(&mut *asked.lock()) {
            self.settle(item, node, None, None);
        }
    }

    fn send_burst(&self, key: u64, line: &Line, asked: &Mutex<BTreeMap<u64, Item>>) {
        let kinds = [Kind::Encrypt, Kind::Decrypt, Kind::ReEncrypt];
        let kind = *self.many.pick(&kinds).unwrap_or(&Kind::Encrypt);
        for item in self.items(key, kind, self.many_read()) {
            let (id, ask) = (item.began.order, item.stream_ask());
            asked.lock().insert(id, item);
            // Nobody there: there will be no answer.
            line.asks.send(PipelineItem { id, ask }).ok();
        }
    }

    /// Hears answers until there is one for every item. Whether there is.
    async fn hear_burst(&mut self, node: NodeId, line: &mut Line, asked: &Mutex<BTreeMap<u64, Item>>) -> bool {
        let patience = self.many_patience();
        while !asked.lock().is_empty() {
            let Ok(Some(visited)) = tokio::time::timeout(patience, line.answers.recv()).await else { return false };
            let ItemVisited { id, received, handed, answer } = visited;
            let Some(item) = asked.lock().remove(&id) else {
                self.scene.board.broke(Promise::Sound, format!("node {node} answers an item twice, or one of nobody"));
                return false;
            };
            let attempt = Attempt { node, received, handed: Some(handed), served: answer.is_ok() };
            self.settle(item, node, Some(attempt), Some(answer));
        }
        true
    }

    /// Tells the promises what came of an item.
    fn settle(&mut self, item: Item, node: NodeId, attempt: Option<Attempt>, answer: Option<Came>) {
        let stale = Duration::from_millis(item.read.allow_stale_ms.into());
        if let Some(Attempt { received, handed, served, .. }) = attempt
            && (answer.is_some() || served)
        {
            self.scene.promises.sealed.asked(node, (received, handed), stale, served);
        }
        let attempts: Vec<Attempt> = attempt.into_iter().collect();
        match item.want.clone() {
            Want::Bad { .. } => self.settle_bad(node, &answer),
            Want::Encrypt { plaintext, pair } => self.settle_encrypt(&item, plaintext, pair, answer, attempts),
            Want::Decrypt { kept, elsewhere } => self.settle_decrypt(&item, node, &kept, elsewhere, answer, attempts),
            Want::ReEncrypt { kept, pair } => self.settle_re_encrypt(&item, node, &kept, pair, answer, attempts),
        }
    }

    fn settle_bad(&self, node: NodeId, answer: &Option<Came>) {
        let Some(answer) = answer else { return };
        self.scene.board.expect(Promise::Sound, answer.is_err(), || format!("node {node} served an item that is bad"));
    }

    fn settle_encrypt(
        &mut self,
        item: &Item,
        plaintext: Vec<u8>,
        pair: Option<String>,
        answer: Option<Came>,
        attempts: Vec<Attempt>,
    ) {
        let (seen, revision) = match answer {
            Some(Ok((PipelineDone::Encrypted(one), revision))) => {
                let (key, version, ciphertext) = (item.key, one.version, one.ciphertext);
                self.keep(Kept { key, version, ciphertext, plaintext, context: pair, revision })
            }
            other => self.came_to_nothing(other),
        };
        let ask = Ask::Encrypt { stale_ms: item.read.allow_stale_ms };
        self.finish(item.key, ask, item.began, seen, (revision, item.read), attempts);
    }

    fn settle_decrypt(
        &mut self,
        item: &Item,
        node: NodeId,
        kept: &Kept,
        elsewhere: bool,
        answer: Option<Came>,
        attempts: Vec<Attempt>,
    ) {
        let answer = answer.map(|came| came.map(|(done, revision)| (plaintext_of(done), revision)));
        let opened = answer.as_ref().map(|came| came.as_ref().map(|(plain, _)| plain.clone()).map_err(Clone::clone));
        self.told_opened(node, kept, elsewhere, item.read, opened);
        let (seen, revision) = match answer {
            Some(Ok((_, revision))) => (Seen::Decrypted, revision),
            Some(Err(why)) => (refused(&why), 0),
            None => (Seen::NotDone, 0),
        };
        let ask = Ask::Decrypt { version: kept.version, stale_ms: item.read.allow_stale_ms };
        self.finish(item.key, ask, item.began, seen, (revision, item.read), attempts);
    }

    fn settle_re_encrypt(
        &mut self,
        item: &Item,
        node: NodeId,
        kept: &Kept,
        pair: Option<String>,
        answer: Option<Came>,
        attempts: Vec<Attempt>,
    ) {
        let stale_ms = item.read.allow_stale_ms;
        let decrypts = Ask::Decrypt { version: kept.version, stale_ms };
        match answer {
            Some(Ok((PipelineDone::ReEncrypted(one), revision))) => {
                let (key, version, ciphertext) = (item.key, one.version, one.ciphertext);
                let plaintext = kept.plaintext.clone();
                // It is looked at when it is decrypted.
                let (seen, _) = self.keep(Kept { key, version, ciphertext, plaintext, context: pair, revision });
                let read = (revision, item.read);
                self.finish(item.key, decrypts, item.began, Seen::Decrypted, read, attempts.clone());
                self.finish(item.key, Ask::Encrypt { stale_ms }, item.began, seen, read, attempts);
            }
            other => {
                if let Some(Err(why)) = &other {
                    self.told_opened(node, kept, false, item.read, Some(Err(why.clone())));
                }
                let (seen, revision) = self.came_to_nothing(other);
                self.finish(item.key, decrypts, item.began, seen, (revision, item.read), attempts);
            }
        }
    }

    fn told_opened(
        &self,
        node: NodeId,
        kept: &Kept,
        elsewhere: bool,
        read: ReadAsk,
        opened: Option<Result<Vec<u8>, Failure>>,
    ) {
        let ciphertexts = &self.scene.promises.ciphertexts;
        match opened {
            Some(opened) if elsewhere => ciphertexts.opened_elsewhere(node, kept, &opened),
            // A stale reading may not know the version yet.
            Some(opened) if read.allow_stale_ms == 0 || opened.is_ok() => ciphertexts.opened(node, kept, &opened),
            Some(_) | None => {}
        }
    }

    /// What is seen of an item that brought nothing, or an answer to another question.
    fn came_to_nothing(&self, answer: Option<Came>) -> (Seen, u64) {
        match answer {
            Some(Err(why)) => (refused(&why), 0),
            Some(Ok(_)) => {
                self.scene.board.broke(Promise::Sound, "an item was answered with what another asked for".into());
                (Seen::NotDone, 0)
            }
            None => (Seen::NotDone, 0),
        }
    }
}

impl Item {
    fn encrypt_ask(&self) -> EncryptAsk {
        let (plaintext, pair) = match &self.want {
            Want::Encrypt { plaintext, pair } => (plaintext.clone(), pair.as_deref()),
            Want::Decrypt { .. } | Want::ReEncrypt { .. } | Want::Bad { .. } => (Vec::new(), None),
        };
        let plaintext = SecretBytes::take(plaintext);
        EncryptAsk { name: self.name.clone(), plaintext, context: context(pair), read: self.read }
    }

    fn decrypt_ask(&self) -> DecryptAsk {
        let (ciphertext, pair) = match &self.want {
            Want::Decrypt { kept, elsewhere: false } => (kept.ciphertext.clone(), kept.context.as_deref()),
            Want::Decrypt { kept, elsewhere: true } => (kept.ciphertext.clone(), Some("another context")),
            Want::Encrypt { .. } | Want::ReEncrypt { .. } | Want::Bad { .. } => (vec![7; 200], None),
        };
        DecryptAsk { name: self.name.clone(), ciphertext, context: context(pair), read: self.read }
    }

    fn re_encrypt_ask(&self) -> ReEncryptAsk {
        let (ciphertext, old, new) = match &self.want {
            Want::ReEncrypt { kept, pair } => (kept.ciphertext.clone(), kept.context.as_deref(), pair.as_deref()),
            Want::Encrypt { .. } | Want::Decrypt { .. } | Want::Bad { .. } => (vec![7; 200], None, None),
        };
        let (name, context, new_context) = (self.name.clone(), context(old), Some(context(new)));
        ReEncryptAsk { name, ciphertext, context, destination: None, new_context, read: self.read }
    }

    fn stream_ask(&self) -> PipelineAsk {
        match &self.want {
            Want::Encrypt { .. } | Want::Bad { decrypts: false } => PipelineAsk::Encrypt(Ok(self.encrypt_ask())),
            Want::Decrypt { .. } | Want::Bad { decrypts: true } => PipelineAsk::Decrypt(Ok(self.decrypt_ask())),
            Want::ReEncrypt { .. } => PipelineAsk::ReEncrypt(Ok(self.re_encrypt_ask())),
        }
    }
}

/// The answer to a batch, item by item, and as which call each is written down.
struct Answers {
    operation: Operation,
    came: Vec<Came>,
}

fn paged_as(answers: &Answers) -> Vec<(Operation, OutcomeWord)> {
    answers.came.iter().map(|came| (answers.operation, OutcomeWord::of(came))).collect()
}

type Job = (Arc<crate::scene::Scene>, Vec<Item>, Kind, ReadAsk);

/// One batch, as it happens on a node.
async fn ask_batch(life: &Life, visit: &Visit, job: Job, served: &Served) -> Result<Answers, Failure> {
    let (scene, items, kind, read) = job;
    let service = life.node.service();
    let (operation, came) = match kind {
        Kind::Encrypt => {
            let ask = BatchAsk::new(items.iter().map(|item| Ok(item.encrypt_ask())), read)?;
            (Operation::Encrypt, each(service.batch_encrypt(visit, ask).await?, PipelineDone::Encrypted))
        }
        Kind::Decrypt => {
            let ask = BatchAsk::new(items.iter().map(|item| Ok(item.decrypt_ask())), read)?;
            (Operation::Decrypt, each(service.batch_decrypt(visit, ask).await?, PipelineDone::Decrypted))
        }
        Kind::ReEncrypt => {
            let ask = BatchAsk::new(items.iter().map(|item| Ok(item.re_encrypt_ask())), read)?;
            (Operation::ReEncrypt, each(service.batch_re_encrypt(visit, ask).await?, PipelineDone::ReEncrypted))
        }
    };
    let whole = came.len() == items.len();
    scene.board.expect(Promise::Sound, whole, || format!("{} answers to {} items", came.len(), items.len()));
    for (item, came) in items.iter().zip(&came) {
        if let Some(ciphertext) = came.as_ref().ok().and_then(|(done, _)| ciphertext_of(done)) {
            made(&scene, life, item.key, ciphertext);
        }
    }
    *served.lock() = came.iter().map(Result::is_ok).collect();
    Ok(Answers { operation, came })
}

fn each<T>(batched: Batched<T>, done: fn(T) -> PipelineDone) -> Vec<Came> {
    let revision = batched.sequence;
    batched.answers.into_iter().map(|answer| answer.map(|one| (done(one), revision))).collect()
}

fn ciphertext_of(done: &PipelineDone) -> Option<&[u8]> {
    match done {
        PipelineDone::Encrypted(one) => Some(&one.ciphertext),
        PipelineDone::ReEncrypted(one) => Some(&one.ciphertext),
        PipelineDone::Decrypted(_) => None,
    }
}

fn plaintext_of(done: PipelineDone) -> Vec<u8> {
    match done {
        PipelineDone::Decrypted(one) => one.plaintext.expose().to_vec(),
        PipelineDone::Encrypted(one) => one.ciphertext,
        PipelineDone::ReEncrypted(one) => one.ciphertext,
    }
}
