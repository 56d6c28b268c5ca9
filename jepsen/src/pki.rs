//! Certificates, made as a newcomer makes them: by the command line.

use crate::tool::Tool;
use crate::trouble::{About, Told};
use std::path::{Path, PathBuf};

/// The trust domain of every cluster that is started here.
pub const DOMAIN: &str = "example.org";

/// A certificate and its key, in two files.
#[derive(Clone, Debug)]
pub struct Credentials {
    /// The certificate, PEM.
    pub cert: PathBuf,
    /// Its private key, PEM.
    pub key: PathBuf,
}

impl Credentials {
    /// The certificate's text.
    pub fn read_cert(&self) -> Told<String> {
        std::fs::read_to_string(&self.cert).about(self.cert.display())
    }

    /// The key's text.
    pub fn read_key(&self) -> Told<String> {
        std::fs::read_to_string(&self.key).about(self.key.display())
    }
}

/// A certificate authority in a folder of its own.
#[derive(Clone)]
pub struct Authority {
    folder: PathBuf,
    tool: Tool,
}

impl Authority {
    /// Makes one.
    pub fn create(tool: &Tool, folder: PathBuf) -> Told<Authority> {
        tool.must(&["cert", "create-ca", "--out", path(&folder)])?;
        Ok(Authority { folder, tool: tool.clone() })
    }

    /// Its certificate.
    pub fn cert(&self) -> PathBuf {
        self.folder.join("ca.crt")
    }

    /// Its private key.
    pub fn key(&self) -> PathBuf {
        self.folder.join("ca.key")
    }

    /// Issues a certificate for `spiffe://example.org/claviger/{kind}/{name}`.
    pub fn issue(&self, kind: &str, name: &str) -> Told<Credentials> {
        let (uri, prefix) = (uri(kind, name), self.folder.join(format!("{kind}-{name}")));
        let mut arguments = vec!["cert", "issue", "--ca", path(&self.folder), "--uri", &uri, "--out", path(&prefix)];
        if kind == "node" {
            arguments.extend(["--ip", "127.0.0.1"]);
        }
        self.tool.must(&arguments)?;
        Ok(Credentials { cert: prefix.with_extension("crt"), key: prefix.with_extension("key") })
    }
}

/// Who somebody is.
pub fn uri(kind: &str, name: &str) -> String {
    format!("spiffe://{DOMAIN}/claviger/{kind}/{name}")
}

/// A path as an argument: ours are all text.
pub fn path(path: &Path) -> &str {
    path.to_str().unwrap_or("?")
}
