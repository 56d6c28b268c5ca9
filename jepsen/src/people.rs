//! Custodians: persons with a private file, a certificate, and a share file once the cluster is founded.

use crate::pki::{Authority, Credentials, path, uri};
use crate::tool::{Ran, Tool};
use crate::trouble::Told;
use std::path::PathBuf;

/// Somebody who holds a share.
#[derive(Clone)]
pub struct Custodian {
    /// The last part of their URI.
    pub name: String,
    /// Their age identity and signing key.
    pub private: PathBuf,
    /// What `init` needs to know of them.
    pub public: PathBuf,
    /// Their certificate.
    pub credentials: Credentials,
    tool: Tool,
}

impl Custodian {
    /// Makes their keys, as they would themselves, and has their certificate issued.
    pub fn create(tool: &Tool, callers: &Authority, folder: PathBuf, name: &str) -> Told<Custodian> {
        tool.must(&["custodian", "keygen", "--name", &uri("custodian", name), "--out", path(&folder)])?;
        let credentials = callers.issue("custodian", name)?;
        let file = |end: &str| folder.join(format!("{name}.{end}"));
        let tool = as_caller(tool, &credentials);
        Ok(Custodian {
            name: name.into(),
            private: file("custodian"),
            public: file("custodian.pub"),
            credentials,
            tool,
        })
    }

    /// Their URI.
    pub fn uri(&self) -> String {
        uri("custodian", &self.name)
    }

    /// Offers a share file to a node, by the command line.
    pub fn offer(&self, node: impl ToString, share: &std::path::Path) -> Told<Ran> {
        let tool = self.tool.clone().with("CLAVIGER_ADDR", node.to_string());
        tool.run(&["--output", "json", "custodian", "offer", path(share), "--identity", path(&self.private)])
    }
}

/// The tool with somebody's certificate.
pub fn as_caller(tool: &Tool, who: &Credentials) -> Tool {
    tool.clone().with("CLAVIGER_CERT", &who.cert).with("CLAVIGER_KEY_FILE", &who.key)
}
