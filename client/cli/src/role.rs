//! `claviger role`: who may do what, and which certificates are refused.

use crate::failure::Failure;
use crate::output::{Report, table};
use crate::settings::Settings;
use crate::words::{ROLE_HEAD, ROLES, key_hash, role_json, role_row};
use crate::x509;
use clap::{Args, Subcommand};
use claviger_client::v1;
use claviger_core::name::{Identity, KeyHash};
use serde_json::json;
use std::path::PathBuf;

/// Help of `role`.
pub const EXAMPLES: &str = "\
Examples:
  claviger role set spiffe://example.org/claviger/service/app --grant invoices=encrypt,decrypt
  claviger role list
  claviger role deny --file pki/app.crt";

const SET_EXAMPLES: &str = "\
What is given replaces all that the identity had. --grant makes a key user; KEY may be `*` for all keys of the tenant. An \
administrator gives rights and never uses keys.

Examples:
  claviger role set spiffe://example.org/claviger/operator/olga --kind operator --kind auditor
  claviger role set spiffe://example.org/claviger/service/app \\
      --grant invoices=encrypt,decrypt --grant archive=decrypt
  claviger role set spiffe://example.org/claviger/service/batch \\
      --grant tenants/acme/keys/*=encrypt";
const GET_EXAMPLES: &str = "Examples:\n  claviger role get spiffe://example.org/claviger/service/app";
const LIST_EXAMPLES: &str = "Examples:\n  claviger role list\n  claviger role list --output json";
const DELETE_EXAMPLES: &str = "Examples:\n  claviger role delete spiffe://example.org/claviger/service/app";
const DENY_EXAMPLES: &str = "\
A certificate is named by the SHA-256 of its public key (`claviger cert show` prints it), so a renewed one with the same \
key is refused too.

Examples:
  claviger role deny --file pki/app.crt
  claviger role deny 9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08";
const ALLOW_EXAMPLES: &str = "\
Examples:
  claviger role allow --file pki/app.crt
  claviger role allow 9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08";
const DENIED_EXAMPLES: &str = "Examples:\n  claviger role denied";

/// Roles that one page of a list has.
const PAGE_SIZE: u32 = 256;

/// What to do with roles.
#[derive(Subcommand)]
pub enum Verb {
    /// Give an identity its roles and keys.
    #[command(after_help = SET_EXAMPLES)]
    Set(Set),
    /// Show what an identity may do.
    #[command(after_help = GET_EXAMPLES)]
    Get(Named),
    /// List all identities with their roles.
    #[command(after_help = LIST_EXAMPLES)]
    List,
    /// Take everything from an identity.
    #[command(after_help = DELETE_EXAMPLES)]
    Delete(Named),
    /// Refuse a certificate.
    #[command(after_help = DENY_EXAMPLES)]
    Deny(Hash),
    /// Take a denial back.
    #[command(after_help = ALLOW_EXAMPLES)]
    Allow(Hash),
    /// List the key hashes that are refused.
    #[command(after_help = DENIED_EXAMPLES)]
    Denied,
}

/// One identity.
#[derive(Args)]
pub struct Named {
    /// The identity.
    #[arg(value_name = "URI")]
    identity: String,
}

/// Rights to give.
#[derive(Args)]
pub struct Set {
    /// The identity.
    #[arg(value_name = "URI")]
    identity: String,
    /// A role: administrator, operator, custodian or auditor; may be repeated.
    #[arg(long = "kind", value_name = "KIND", required_unless_present = "grants")]
    kinds: Vec<String>,
    /// A key and what may be done with it: encrypt, decrypt or both; may be repeated, 256 at most.
    #[arg(long = "grant", value_name = "KEY=USES")]
    grants: Vec<String>,
}

/// One certificate's key.
#[derive(Args)]
#[group(id = "which", required = true, multiple = false)]
pub struct Hash {
    /// The key hash, 64 hexadecimal digits.
    #[arg(value_name = "KEY_HASH")]
    key_hash: Option<String>,
    /// The certificate, in PEM.
    #[arg(long = "file", value_name = "FILE")]
    file: Option<PathBuf>,
}

/// Does it.
pub async fn run(verb: Verb, settings: &Settings) -> Result<Report, Failure> {
    match verb {
        Verb::Set(ask) => {
            let role = role(&ask, settings)?;
            let answer = settings.client()?.set_role(role).await?;
            shown(answer.role, answer.revision)
        }
        Verb::Get(ask) => {
            let answer = settings.client()?.get_role(&identity(&ask.identity)?).await?;
            shown(answer.role, answer.revision)
        }
        Verb::List => list(settings).await,
        Verb::Delete(ask) => {
            let answer = settings.client()?.delete_role(&identity(&ask.identity)?).await?;
            Ok(Report::new(json!({ "revision": answer.revision }), format!("{} may do nothing now", ask.identity)))
        }
        Verb::Deny(ask) => {
            let hash = hash(&ask)?;
            let answer = settings.client()?.deny_certificate(hash.0).await?;
            Ok(Report::new(
                json!({ "revision": answer.revision }),
                format!("certificates with the key {hash} are refused"),
            ))
        }
        Verb::Allow(ask) => {
            let hash = hash(&ask)?;
            let answer = settings.client()?.allow_certificate(hash.0).await?;
            Ok(Report::new(
                json!({ "revision": answer.revision }),
                format!("certificates with the key {hash} are no longer refused"),
            ))
        }
        Verb::Denied => denied(settings).await,
    }
}

fn identity(text: &str) -> Result<String, Failure> {
    let parsed: Identity = text.parse().map_err(|bad| Failure::new(format!("the identity: {bad}")))?;
    Ok(parsed.to_string())
}

fn role(ask: &Set, settings: &Settings) -> Result<v1::Role, Failure> {
    let mut kinds = ask.kinds.iter().map(|word| kind(word)).collect::<Result<Vec<i32>, _>>()?;
    let keys = ask.grants.iter().map(|text| grant(text, settings)).collect::<Result<Vec<_>, _>>()?;
    if !keys.is_empty() {
        kinds.push(v1::RoleKind::KeyUser.into());
    }
    kinds.sort_unstable();
    kinds.dedup();
    Ok(v1::Role { identity: identity(&ask.identity)?, kinds, keys, revision: 0 })
}

fn kind(word: &str) -> Result<i32, Failure> {
    let found = ROLES.iter().find(|(kind, known)| *known == word && *kind != v1::RoleKind::KeyUser);
    let unknown = || {
        Failure::new("--kind is administrator, operator, custodian or auditor").next("a key user is made with --grant")
    };
    found.map(|(kind, _)| (*kind).into()).ok_or_else(unknown)
}

/// Reads `KEY=encrypt,decrypt`.
fn grant(text: &str, settings: &Settings) -> Result<v1::KeyGrant, Failure> {
    let bad = || Failure::new("--grant is KEY=encrypt, KEY=decrypt or KEY=encrypt,decrypt");
    let (key, uses) = text.rsplit_once('=').ok_or_else(bad)?;
    let mut grant = v1::KeyGrant { key: granted(key, settings)?, encrypt: false, decrypt: false };
    for word in uses.split(',') {
        let right = match word {
            "encrypt" => &mut grant.encrypt,
            "decrypt" => &mut grant.decrypt,
            _ => return Err(bad()),
        };
        if std::mem::replace(right, true) {
            return Err(bad());
        }
    }
    Ok(grant)
}

/// A key's full name, or all keys of a tenant.
fn granted(key: &str, settings: &Settings) -> Result<String, Failure> {
    if key == "*" {
        return Ok(format!("tenants/{}/keys/*", settings.tenant()?));
    }
    match key.strip_suffix("/keys/*") {
        Some(tenant) => Ok(format!(
            "{}/keys/*",
            settings.key_name(&format!("{tenant}/keys/x"))?.to_string().trim_end_matches("/keys/x")
        )),
        None => Ok(settings.key_name(key)?.to_string()),
    }
}

fn hash(ask: &Hash) -> Result<KeyHash, Failure> {
    match (&ask.key_hash, &ask.file) {
        (Some(text), _) => text.parse().map_err(|bad| Failure::new(format!("the key hash: {bad}"))),
        (None, Some(file)) => Ok(x509::read(file)?[0].key_hash),
        (None, None) => Err(Failure::new("give a key hash, or --file CERTIFICATE")),
    }
}

fn shown(role: Option<v1::Role>, revision: u64) -> Result<Report, Failure> {
    let role = role.ok_or_else(|| Failure::new("the answer holds no role"))?;
    Ok(Report::new(json!({ "role": role_json(&role), "revision": revision }), table(&ROLE_HEAD, &[role_row(&role)])))
}

async fn list(settings: &Settings) -> Result<Report, Failure> {
    let client = settings.client()?;
    let mut request = v1::ListRolesRequest { page_size: PAGE_SIZE, page_token: Default::default() };
    let mut roles = Vec::new();
    let revision = loop {
        let page = client.list_roles(request.clone()).await?;
        roles.extend(page.roles);
        if page.next_page_token.is_empty() {
            break page.revision;
        }
        request.page_token = page.next_page_token;
    };
    let rows: Vec<Vec<String>> = roles.iter().map(role_row).collect();
    let json = json!({ "roles": roles.iter().map(role_json).collect::<Vec<_>>(), "revision": revision });
    Ok(Report::new(json, table(&ROLE_HEAD, &rows)))
}

async fn denied(settings: &Settings) -> Result<Report, Failure> {
    let answer = settings.client()?.denied_certificates().await?;
    let hashes: Vec<String> = answer.key_hashes.iter().map(|h| key_hash(h)).collect();
    let rows: Vec<Vec<String>> = hashes.iter().map(|h| vec![h.clone()]).collect();
    Ok(Report::new(json!({ "key_hashes": hashes, "revision": answer.revision }), table(&["refused key"], &rows)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::args::Global;

    #[test]
    fn a_grant_is_read_exactly() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("c"), "").unwrap();
        let global = Global { config: Some(folder.path().join("c")), ..Global::default() };
        let settings = Settings::gather(&global).unwrap();
        let read = |text: &str| grant(text, &settings).map(|g| (g.key, g.encrypt, g.decrypt));
        assert_eq!(read("k=encrypt,decrypt").unwrap(), ("tenants/default/keys/k".into(), true, true));
        assert_eq!(read("*=decrypt").unwrap(), ("tenants/default/keys/*".into(), false, true));
        assert_eq!(read("tenants/a/keys/*=encrypt").unwrap(), ("tenants/a/keys/*".into(), true, false));
        for bad in [
            "k",
            "k=",
            "k=sign",
            "k=encrypt,encrypt",
            "=encrypt",
            "K=encrypt",
            "tenants/A/keys/*=encrypt",
            "a/*=encrypt",
        ] {
            assert!(read(bad).is_err(), "{bad}");
        }
    }
}
