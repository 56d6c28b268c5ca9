//! Where the cluster is and who we are: an option before the environment, that before the configuration file, that before
//! what holds when nothing is said.

use crate::args::Global;
use crate::failure::Failure;
use crate::files;
use crate::output::Format;
use claviger_client::{Client, Config, Files};
use claviger_core::name::{KeyName, Segment};
use serde::Deserialize;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Longest configuration file, in bytes.
const CONFIG_BYTES_MAX: usize = 64 << 10;
/// Longest that a call may be given, in milliseconds.
const DEADLINE_MS_MAX: u64 = 600_000;
/// What a call is given, if nothing else is said, that waits for nodes which may not answer.
const PATIENT: Duration = Duration::from_secs(30);

/// What holds for this run.
#[derive(Debug)]
pub struct Settings {
    /// How to answer.
    pub output: Format,
    addr: Option<String>,
    ca: Option<PathBuf>,
    cert: Option<PathBuf>,
    key_file: Option<PathBuf>,
    domain: Option<String>,
    deadline_ms: Option<u64>,
    tenant: Option<String>,
    /// The key that encrypt and decrypt use when none is named.
    pub key: Option<String>,
}

/// The configuration file.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Stored {
    addr: Option<String>,
    ca: Option<PathBuf>,
    cert: Option<PathBuf>,
    key_file: Option<PathBuf>,
    domain: Option<String>,
    tenant: Option<String>,
    key: Option<String>,
    output: Option<Format>,
    deadline_ms: Option<u64>,
}

impl Settings {
    /// Puts options, environment (which the options have taken in already) and file together.
    pub fn gather(global: &Global) -> Result<Self, Failure> {
        let stored = match &global.config {
            Some(path) => stored(path)?,
            None => {
                usual_place().filter(|path| path.exists()).map(|path| stored(&path)).transpose()?.unwrap_or_default()
            }
        };
        let deadline_ms = global.deadline_ms.or(stored.deadline_ms);
        if deadline_ms.is_some_and(|ms| ms == 0 || ms > DEADLINE_MS_MAX) {
            return Err(Failure::new("a deadline is 1 to 600000 milliseconds"));
        }
        Ok(Settings {
            output: global.output.or(stored.output).unwrap_or_default(),
            addr: global.addr.clone().or(stored.addr),
            ca: global.ca.clone().or(stored.ca),
            cert: global.cert.clone().or(stored.cert),
            key_file: global.key_file.clone().or(stored.key_file),
            domain: stored.domain,
            deadline_ms,
            tenant: stored.tenant,
            key: stored.key,
        })
    }

    /// A client for the cluster.
    pub fn client(&self) -> Result<Client, Failure> {
        self.client_within(None)
    }

    /// A client for what waits until every node has heard of it, or a few seconds: a third of a deadline, which is what one
    /// node is given to answer, must be longer than that.
    pub fn patient_client(&self) -> Result<Client, Failure> {
        self.client_within(Some(PATIENT))
    }

    fn client_within(&self, usual: Option<Duration>) -> Result<Client, Failure> {
        let addr = self.addr.as_deref().unwrap_or_default();
        let endpoints = if addr.is_empty() { Err(claviger_client::ConfigError::NoAddress) } else { addr.parse() }?;
        let files = Files {
            ca: wanted(&self.ca, "--tls-ca", "CLAVIGER_CA", "ca")?,
            cert: wanted(&self.cert, "--tls-cert", "CLAVIGER_CERT", "cert")?,
            key: wanted(&self.key_file, "--tls-key", "CLAVIGER_KEY_FILE", "key_file")?,
        };
        let mut config = Config::new(endpoints, files);
        config.domain = self.domain.clone();
        config.deadline = self.deadline_ms.map(Duration::from_millis).or(usual).unwrap_or(config.deadline);
        Ok(Client::new(&config)?)
    }

    /// The tenant of short key names.
    pub fn tenant(&self) -> Result<Segment, Failure> {
        let text = self.tenant.as_deref().unwrap_or("default");
        text.parse().map_err(|bad| Failure::new(format!("tenant: {bad}")))
    }

    /// A key's full name: `invoices` means `tenants/default/keys/invoices`.
    pub fn key_name(&self, given: &str) -> Result<KeyName, Failure> {
        let bad =
            |bad| Failure::new(format!("the key's name: {bad}")).next("as `invoices`, or `tenants/acme/keys/invoices`");
        if given.contains('/') {
            return given.parse().map_err(bad);
        }
        Ok(KeyName { tenant: self.tenant()?, key: given.parse().map_err(bad)? })
    }
}

fn wanted(path: &Option<PathBuf>, option: &str, variable: &str, key: &str) -> Result<PathBuf, Failure> {
    path.clone().ok_or_else(|| {
        Failure::new(format!("{option} is not given"))
            .next(format!("give {option} FILE, set {variable}, or write `{key}` into the configuration file"))
    })
}

fn usual_place() -> Option<PathBuf> {
    let set = |name: &str| std::env::var_os(name).filter(|v| !v.is_empty()).map(PathBuf::from);
    let folder = set("XDG_CONFIG_HOME").or_else(|| set("HOME").map(|home| home.join(".config")))?;
    Some(folder.join("claviger/config.toml"))
}

fn stored(path: &Path) -> Result<Stored, Failure> {
    let text = files::text(path, CONFIG_BYTES_MAX)?;
    let mut stored: Stored = toml::from_str(&text).map_err(|e| located(path, &text, &e))?;
    let folder = path.parent().unwrap_or(Path::new(""));
    for file in [&mut stored.ca, &mut stored.cert, &mut stored.key_file].into_iter().flatten() {
        *file = folder.join(&*file);
    }
    Ok(stored)
}

/// `file:line: what`, which names the key.
fn located(path: &Path, text: &str, error: &toml::de::Error) -> Failure {
    let before = error.span().and_then(|span| text.get(..span.start)).unwrap_or_default();
    let (line, key) = (before.matches('\n').count() + 1, error.span().and_then(|span| line_key(text, span.start)));
    let key = key.map(|key| format!("`{key}`: ")).unwrap_or_default();
    Failure::new(format!("{}:{line}: {key}{}", path.display(), error.message()))
}

/// The key of the line that the offset is in.
fn line_key(text: &str, offset: usize) -> Option<&str> {
    let start = text.get(..offset)?.rfind('\n').map_or(0, |at| at + 1);
    let key = text.get(start..)?.lines().next()?.split_once('=')?.0.trim();
    (!key.is_empty()).then_some(key)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with_file(text: &str, global: impl FnOnce(&mut Global)) -> Result<Settings, Failure> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("config.toml");
        std::fs::write(&path, text).unwrap();
        let mut options = Global { config: Some(path), ..Global::default() };
        global(&mut options);
        Settings::gather(&options)
    }

    #[test]
    fn an_option_goes_before_the_file_and_the_file_before_nothing() {
        let text = "addr = \"a:1\"\nca = \"ca.crt\"\ncert = \"/abs/me.crt\"\noutput = \"json\"\ntenant = \"acme\"\n";
        let settings = with_file(text, |_| ()).unwrap();
        assert_eq!((settings.addr.as_deref(), settings.output), (Some("a:1"), Format::Json));
        assert!(settings.ca.unwrap().is_absolute(), "paths are relative to the file");
        assert_eq!(settings.cert.unwrap(), Path::new("/abs/me.crt"));
        let over = |g: &mut Global| (g.addr, g.output) = (Some("b:2".into()), Some(Format::Table));
        let settings = with_file(text, over).unwrap();
        assert_eq!((settings.addr.as_deref(), settings.output), (Some("b:2"), Format::Table));
        assert_eq!(with_file("", |_| ()).unwrap().output, Format::Table);
    }

    #[test]
    fn a_short_key_name_is_of_the_tenant() {
        let settings = with_file("tenant = \"acme\"", |_| ()).unwrap();
        assert_eq!(settings.key_name("k").unwrap().to_string(), "tenants/acme/keys/k");
        assert_eq!(settings.key_name("tenants/b/keys/k").unwrap().to_string(), "tenants/b/keys/k");
        assert_eq!(with_file("", |_| ()).unwrap().key_name("k").unwrap().to_string(), "tenants/default/keys/k");
        assert!(settings.key_name("K").is_err() && settings.key_name("a/b").is_err());
    }

    #[test]
    fn refuses_a_mistake_by_file_line_and_key() {
        let told = |text: &str| with_file(text, |_| ()).unwrap_err().message;
        let unknown = told("addr = \"a:1\"\nkeyfile = \"x\"\n");
        assert!(unknown.contains("config.toml:2: ") && unknown.contains("`keyfile`"), "{unknown}");
        let kind = told("\n\ndeadline_ms = \"soon\"\n");
        assert!(kind.contains("config.toml:3: `deadline_ms`"), "{kind}");
        assert!(told("deadline_ms = 0").contains("deadline"));
        let missing = with_file("addr = \"a:1\"", |_| ()).unwrap().client().err().unwrap();
        assert!(missing.next.unwrap().contains("CLAVIGER_CA"));
        assert!(with_file("", |_| ()).unwrap().client().err().unwrap().next.unwrap().contains("CLAVIGER_ADDR"));
    }
}
