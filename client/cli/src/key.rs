//! `claviger key`: keys and their lives.

use crate::failure::Failure;
use crate::output::{Report, table};
use crate::settings::Settings;
use crate::words::{KEY_HEAD, key_json, key_row};
use clap::{ArgGroup, Args, Subcommand};
use claviger_client::v1;
use serde_json::json;
use std::collections::BTreeMap;

/// Help of `key`.
pub const EXAMPLES: &str = "\
A short name means a key of the default tenant: `invoices` is tenants/default/keys/invoices.

Examples:
  claviger key create invoices
  claviger key list
  claviger key rotate invoices";

const CREATE_EXAMPLES: &str = "\
Examples:
  claviger key create invoices
  claviger key create tenants/acme/keys/backup --label owner=ops --label env=prod";
const GET_EXAMPLES: &str = "Examples:\n  claviger key get invoices\n  claviger key get invoices --output json";
const LIST_EXAMPLES: &str = "Examples:\n  claviger key list\n  claviger key list --tenant acme --output json";
const UPDATE_EXAMPLES: &str = "\
Examples:
  claviger key update invoices --label owner=finance
  claviger key update invoices --no-labels
  claviger key update invoices --min-decrypt-version 3 --expected-revision 118";
const ROTATE_EXAMPLES: &str = "\
Adds a version, which encrypts from now on. What older versions encrypted still decrypts.

Examples:
  claviger key rotate invoices";
const ENABLE_EXAMPLES: &str = "Examples:\n  claviger key enable invoices";
const DISABLE_EXAMPLES: &str = "\
From the moment that this answers, every node refuses to encrypt and decrypt with the key.

Examples:
  claviger key disable invoices";

/// Keys that one page of a list has.
const PAGE_SIZE: u32 = 256;

/// What to do with keys.
#[derive(Subcommand)]
pub enum Verb {
    /// Make a key with its first version.
    #[command(after_help = CREATE_EXAMPLES)]
    Create(Create),
    /// Show a key; never its material.
    #[command(after_help = GET_EXAMPLES)]
    Get(Named),
    /// List the keys of a tenant that you may see.
    #[command(after_help = LIST_EXAMPLES)]
    List(List),
    /// Change labels, or the lowest version that still decrypts.
    #[command(after_help = UPDATE_EXAMPLES)]
    Update(Update),
    /// Add a version and encrypt with it from now on.
    #[command(after_help = ROTATE_EXAMPLES)]
    Rotate(Named),
    /// Make a disabled key work again.
    #[command(after_help = ENABLE_EXAMPLES)]
    Enable(Named),
    /// Stop a key on every node.
    #[command(after_help = DISABLE_EXAMPLES)]
    Disable(Named),
}

/// One key.
#[derive(Args)]
pub struct Named {
    /// The key: `invoices`, or tenants/acme/keys/invoices.
    #[arg(value_name = "KEY")]
    name: String,
}

/// A new key.
#[derive(Args)]
pub struct Create {
    /// The key: `invoices`, or tenants/acme/keys/invoices.
    #[arg(value_name = "KEY")]
    name: String,
    /// A label; may be repeated, 32 at most.
    #[arg(long = "label", value_name = "NAME=VALUE", value_parser = pair)]
    labels: Vec<(String, String)>,
}

/// Which keys.
#[derive(Args)]
pub struct List {
    /// The tenant [default: that of the configuration file, else `default`].
    #[arg(long, value_name = "TENANT")]
    tenant: Option<String>,
}

/// What to change.
#[derive(Args)]
#[command(group(ArgGroup::new("change").required(true).multiple(true).args(["labels", "no_labels", "min_decrypt_version"])))]
pub struct Update {
    /// The key: `invoices`, or tenants/acme/keys/invoices.
    #[arg(value_name = "KEY")]
    name: String,
    /// A label; may be repeated. Those that are given replace all that there are.
    #[arg(long = "label", value_name = "NAME=VALUE", value_parser = pair)]
    labels: Vec<(String, String)>,
    /// Take all labels away.
    #[arg(long, conflicts_with = "labels")]
    no_labels: bool,
    /// The lowest version that decrypts from now on.
    #[arg(long, value_name = "N")]
    min_decrypt_version: Option<u32>,
    /// Change nothing unless the key is still at this revision.
    #[arg(long, value_name = "REVISION", default_value_t = 0, hide_default_value = true)]
    expected_revision: u64,
}

/// Reads `name=value`.
pub fn pair(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or("wanted NAME=VALUE")?;
    if name.is_empty() { Err("the name is empty".into()) } else { Ok((name.into(), value.into())) }
}

/// Pairs as a map; a name twice is a mistake, not a choice.
fn unique(pairs: Vec<(String, String)>) -> Result<BTreeMap<String, String>, Failure> {
    let mut map = BTreeMap::new();
    for (name, value) in pairs {
        if map.insert(name, value).is_some() {
            return Err(Failure::new("a label is given twice"));
        }
    }
    Ok(map)
}

/// Does it.
pub async fn run(verb: Verb, settings: &Settings) -> Result<Report, Failure> {
    match verb {
        Verb::Create(ask) => create(ask, settings).await,
        Verb::Get(ask) => {
            let answer = settings.client()?.get_key(&full(&ask, settings)?).await?;
            shown(answer.key, answer.revision)
        }
        Verb::List(ask) => list(ask, settings).await,
        Verb::Update(ask) => update(ask, settings).await,
        Verb::Rotate(ask) => {
            let answer = settings.client()?.rotate_key(&full(&ask, settings)?).await?;
            shown(answer.key, answer.revision)
        }
        Verb::Enable(ask) => {
            let answer = settings.client()?.enable_key(&full(&ask, settings)?).await?;
            shown(answer.key, answer.revision)
        }
        Verb::Disable(ask) => {
            let answer = settings.client()?.disable_key(&full(&ask, settings)?).await?;
            shown(answer.key, answer.revision)
        }
    }
}

fn full(ask: &Named, settings: &Settings) -> Result<String, Failure> {
    Ok(settings.key_name(&ask.name)?.to_string())
}

fn shown(key: Option<v1::Key>, revision: u64) -> Result<Report, Failure> {
    let key = key.ok_or_else(|| Failure::new("the answer holds no key"))?;
    Ok(Report::new(json!({ "key": key_json(&key), "revision": revision }), table(&KEY_HEAD, &[key_row(&key)])))
}

async fn create(ask: Create, settings: &Settings) -> Result<Report, Failure> {
    let name = settings.key_name(&ask.name)?.to_string();
    let labels = unique(ask.labels)?;
    let algorithm = v1::Algorithm::Aes256Gcm.into();
    let request = v1::CreateKeyRequest { name, algorithm, labels, ..Default::default() };
    let answer = settings.client()?.create_key(request).await?;
    shown(answer.key, answer.revision)
}

async fn update(ask: Update, settings: &Settings) -> Result<Report, Failure> {
    let labels = (ask.no_labels || !ask.labels.is_empty()).then(|| unique(ask.labels)).transpose()?;
    let request = v1::UpdateKeyRequest {
        name: settings.key_name(&ask.name)?.to_string(),
        labels: labels.map(|labels| v1::Labels { labels }),
        min_decrypt_version: ask.min_decrypt_version,
        expected_revision: ask.expected_revision,
        ..Default::default()
    };
    let answer = settings.client()?.update_key(request).await?;
    shown(answer.key, answer.revision)
}

async fn list(ask: List, settings: &Settings) -> Result<Report, Failure> {
    let tenant = match ask.tenant {
        Some(text) => text.parse().map_err(|bad| Failure::new(format!("--tenant: {bad}")))?,
        None => settings.tenant()?,
    };
    let client = settings.client()?;
    let mut request =
        v1::ListKeysRequest { parent: format!("tenants/{tenant}"), page_size: PAGE_SIZE, ..Default::default() };
    let mut keys = Vec::new();
    let revision = loop {
        let page = client.list_keys(request.clone()).await?;
        keys.extend(page.keys);
        if page.next_page_token.is_empty() {
            break page.revision;
        }
        request.page_token = page.next_page_token;
    };
    let rows: Vec<Vec<String>> = keys.iter().map(key_row).collect();
    let json = json!({ "keys": keys.iter().map(key_json).collect::<Vec<_>>(), "revision": revision });
    Ok(Report::new(json, table(&KEY_HEAD, &rows)))
}
