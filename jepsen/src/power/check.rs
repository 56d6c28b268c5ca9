//! After a cut: everything that was acknowledged is held against what each node shows.

use super::history::{History, Kept, Wrong};
use crate::book;
use crate::cluster::Cluster;
use crate::load;
use crate::pki::Credentials;
use crate::trouble::{About, Told};
use claviger_client::v1::{Key, ListKeysRequest};
use claviger_client::{Client, Error};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinSet;

/// Keys of one page: each brings all its versions.
const PAGE: u32 = 64;
/// Ciphertexts that are opened at the same time.
const AT_ONCE: usize = 16;
/// How often a node is asked again that could not answer, and how long is waited in between.
const TRIES: usize = 20;
const BETWEEN: Duration = Duration::from_millis(500);

/// What was looked at, and what was found wrong.
#[derive(Debug, Default)]
pub struct Verdict {
    /// Acknowledged versions, held against each node.
    pub versions: u64,
    /// Ciphertexts that were opened.
    pub ciphertexts: u64,
    /// Pages of all books.
    pub pages: u64,
    /// Empty when all is well.
    pub wrongs: Vec<Wrong>,
}

impl Verdict {
    /// Of nothing but what is wrong.
    pub fn wrong(wrongs: Vec<Wrong>) -> Verdict {
        Verdict { wrongs, ..Verdict::default() }
    }
}

/// Looks at everything, at these nodes, which are open. What is wrong with keys is told at once: the rest would follow
/// from it.
pub async fn everything(cluster: &Cluster, nodes: &[u64], histories: &[&History]) -> Told<Verdict> {
    let mut verdict = Verdict { versions: histories.iter().map(|h| h.versions()).sum(), ..Verdict::default() };
    for &node in nodes {
        let reader = only(cluster, &cluster.administrator, node)?;
        match all_keys(&reader).await {
            Ok(present) => verdict.wrongs.extend(histories.iter().flat_map(|h| h.compare(node, &present))),
            Err(why) => verdict.wrongs.push(Wrong::Stuck(format!("node {node} does not list its keys: {why}"))),
        }
    }
    if verdict.wrongs.is_empty() {
        ciphertexts(cluster, nodes, histories, &mut verdict).await?;
        books(cluster, &mut verdict);
    }
    Ok(verdict)
}

/// A client of one node.
fn only(cluster: &Cluster, who: &Credentials, node: u64) -> Told<Client> {
    let address = cluster.node(node)?.address().to_string();
    let found = load::client(cluster, who)?.each().into_iter().find(|(endpoint, _)| endpoint.authority() == address);
    found.map(|(_, client)| client).about("no such node")
}

/// Every key as one node shows it.
async fn all_keys(reader: &Client) -> Told<BTreeMap<String, Key>> {
    let mut ask = ListKeysRequest { parent: "tenants/default".into(), page_size: PAGE, ..Default::default() };
    let mut found = BTreeMap::new();
    loop {
        let page = patiently(|| reader.list_keys(ask.clone())).await.about("list of keys")?;
        found.extend(page.keys.into_iter().map(|key| (key.name.clone(), key)));
        if page.next_page_token.is_empty() {
            return Ok(found);
        }
        ask.page_token = page.next_page_token;
    }
}

/// Every kept ciphertext is opened by one node, by turns.
async fn ciphertexts(cluster: &Cluster, nodes: &[u64], histories: &[&History], verdict: &mut Verdict) -> Told<()> {
    let openers = nodes.iter().map(|&node| only(cluster, &cluster.service, node)).collect::<Told<Vec<_>>>()?;
    let openers = Arc::new(openers);
    let mut under_way = JoinSet::new();
    for (turn, kept) in histories.iter().flat_map(|h| &h.kept).cloned().enumerate() {
        if under_way.len() == AT_ONCE {
            verdict.note(under_way.join_next().await.about("no opener")?.about("opener")?);
        }
        let openers = openers.clone();
        under_way.spawn(async move { opened(&openers[turn % openers.len()], kept).await });
    }
    while let Some(done) = under_way.join_next().await {
        verdict.note(done.about("opener")?);
    }
    Ok(())
}

async fn opened(opener: &Client, kept: Kept) -> Option<Wrong> {
    let answer = patiently(|| opener.decrypt(&kept.key, kept.ciphertext.clone(), &[])).await;
    let what = String::from_utf8_lossy(&kept.plaintext).into_owned();
    match answer {
        Ok(answer) if answer.plaintext == kept.plaintext => None,
        Ok(_) => Some(Wrong::Twisted(format!("the ciphertext of {what:?} opens to something else"))),
        Err(why @ Error::Unavailable { .. }) => Some(Wrong::Stuck(format!("{what:?}: {why}"))),
        Err(why) => Some(Wrong::Lost(format!("the ciphertext of {what:?} does not open: {why}"))),
    }
}

/// A node that cannot answer yet is asked again: what it says then is what counts.
async fn patiently<T, Called: Future<Output = Result<T, Error>>>(call: impl Fn() -> Called) -> Result<T, Error> {
    for _ in 1..TRIES {
        match call().await {
            Err(Error::Unavailable { .. }) => tokio::time::sleep(BETWEEN).await,
            done => return done,
        }
    }
    call().await
}

fn books(cluster: &Cluster, verdict: &mut Verdict) {
    for node in &cluster.nodes {
        match book::verify(cluster, node.id()) {
            Ok(pages) => verdict.pages += pages,
            Err(why) => verdict.wrongs.push(Wrong::Twisted(format!("the book of node {}: {why}", node.id()))),
        }
    }
}

impl Verdict {
    fn note(&mut self, wrong: Option<Wrong>) {
        self.ciphertexts += 1;
        self.wrongs.extend(wrong);
    }
}
