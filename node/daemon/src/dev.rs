//! The development node: a folder of its own with authorities, certificates and a slot key that nobody had to ask for.

use crate::{
    config::{Config, Limits, Listen, Log, LogFormat, Node, Raft, TlsFiles, Unseal},
    entropy::MachineEntropy,
};
use claviger_core::{
    failure::{Failure, Refused},
    name::{Identity, NodeId, Segment},
    policy::{GrantRecord, KeyGrant},
};
use claviger_server::FoundAsk;
use claviger_world::entropy::Entropy;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
    PKCS_ECDSA_P256_SHA256, PKCS_ED25519, SanType, SignatureAlgorithm,
};
use std::{
    collections::BTreeMap,
    error::Error,
    fmt::Write as _,
    fs, io,
    io::Write as _,
    net::{Ipv4Addr, SocketAddr},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
};
use zeroize::Zeroizing;

/// Tells our folder from everybody else's.
const MARKER: &str = "claviger-development-node";
const MARKER_TEXT: &str =
    "This folder belongs to `clavigerd dev`. Its keys lie open in it: keep nothing of worth here.\n";
/// The trust domain, the tenant that may be used at once, and who may.
const DOMAIN: &str = "dev.claviger";
const TENANT: &str = "default";
const ME: &str = "spiffe://dev.claviger/claviger/operator/me";
const APP: &str = "spiffe://dev.claviger/claviger/service/app";
const NODE: &str = "spiffe://dev.claviger/claviger/node/1";
/// Names that a node on this machine is asked by.
const HERE: [&str; 3] = ["localhost", "127.0.0.1", "::1"];

type Oops = Box<dyn Error>;

/// A development node's folder, with the configuration that it makes.
pub struct Home {
    /// What the node runs with.
    pub config: Config,
    folder: PathBuf,
}

impl Home {
    /// Takes a folder: a new one, an empty one, or one that was made here before.
    ///
    /// # Errors
    /// When the folder is in use for something else, which is left as it is.
    pub fn take(folder: &Path, listen: SocketAddr) -> Result<Home, Oops> {
        if !listen.ip().is_loopback() {
            return Err("a development node listens on a loopback address only".into());
        }
        claim(folder)?;
        let folder = folder.canonicalize()?;
        if !folder.join("tls").exists() {
            furnish(&folder)?;
        }
        Ok(Home { config: config(&folder, listen)?, folder })
    }

    /// One administrator, who makes keys, and one program, which may use every key of the tenant `default`: nobody is
    /// both, not even here.
    pub fn founding(&self) -> FoundAsk {
        let tenant = TENANT.parse().expect("a constant name");
        let all = KeyGrant { tenant, key: None, encrypt: true, decrypt: true };
        let grants = vec![GrantRecord { identity: identity(APP), grants: vec![all] }];
        FoundAsk { threshold: 0, custodians: Vec::new(), administrators: vec![identity(ME)], grants }
    }

    /// Whether a refused founding means that this node was founded before.
    pub fn founded_before(failure: Failure) -> Result<(), Oops> {
        match failure {
            Failure::Refused(Refused::AlreadyFounded) => Ok(()),
            other => Err(format!("the development node cannot be founded: {other}; start with a new folder").into()),
        }
    }

    /// Says loudly what this is, and how to try it. The same lines for the shell stand in `env` and `env-app` in the
    /// folder.
    pub fn tell(&self, clients: SocketAddr, metrics: SocketAddr) -> Result<(), Oops> {
        let (me, app) = (self.env(clients, "me")?, self.env(clients, "app")?);
        fs::write(self.folder.join("env"), &me)?;
        fs::write(self.folder.join("env-app"), &app)?;
        let banner = format!(
            "\n\
             ==============================================================================\n\
             ==  DEVELOPMENT NODE. Its root key lies open in its folder, one process is  ==\n\
             ==  the whole cluster, and it opens itself. KEEP NOTHING OF WORTH IN IT.    ==\n\
             ==============================================================================\n\n\
             folder   {}\ncallers  {clients}\nmetrics  http://{metrics}/metrics\n\n\
             To try it, in another shell. As its administrator, who makes keys (or: . {}):\n\n{me}\n\
             \x20   claviger key create first\n\n\
             As a program, which may use the keys of the tenant `{TENANT}` (or: . {}):\n\n{app}\n\
             \x20   echo hello | claviger encrypt --key first | claviger decrypt --key first\n\n\
             Ctrl-C ends it; the folder stays.\n",
            self.folder.display(),
            quoted(&self.folder.join("env"))?,
            quoted(&self.folder.join("env-app"))?,
        );
        Ok(io::stdout().write_all(banner.as_bytes())?)
    }

    fn env(&self, clients: SocketAddr, who: &str) -> Result<String, Oops> {
        let mut lines = format!("    export CLAVIGER_ADDR={clients}\n");
        let files =
            [("CA", "callers-ca.pem".into()), ("CERT", format!("{who}.pem")), ("KEY_FILE", format!("{who}.key"))];
        for (name, file) in files {
            writeln!(lines, "    export CLAVIGER_{name}={}", quoted(&self.folder.join("tls").join(file))?)?;
        }
        Ok(lines)
    }
}

fn identity(uri: &str) -> Identity {
    uri.parse().expect("a constant identity")
}

/// A path as a word of the shell.
fn quoted(path: &Path) -> Result<String, Oops> {
    let text = path.to_str().ok_or("the development node's folder needs a name in UTF-8")?;
    Ok(format!("'{}'", text.replace('\'', r"'\''")))
}

fn claim(folder: &Path) -> Result<(), Oops> {
    match fs::DirBuilder::new().mode(0o700).create(folder) {
        Err(e) if e.kind() != io::ErrorKind::AlreadyExists => return Err(format!("{}: {e}", folder.display()).into()),
        Ok(()) | Err(_) => {}
    }
    let marker = folder.join(MARKER);
    match fs::read_to_string(&marker) {
        Ok(text) if text == MARKER_TEXT => return Ok(()),
        Err(e) if e.kind() == io::ErrorKind::NotFound && fs::read_dir(folder)?.next().is_none() => {}
        Ok(_) | Err(_) => {
            let what = "is in use for something else; name an empty or a new folder with --data";
            return Err(format!("{}: {what}", folder.display()).into());
        }
    }
    Ok(private(&marker, MARKER_TEXT)?)
}

/// Makes slot key, authorities and certificates: the folder `tls` stands when all of them do.
fn furnish(folder: &Path) -> Result<(), Oops> {
    private(&folder.join("slot.key"), &slot_key())?;
    let tls = folder.join("tls.new");
    if tls.exists() {
        fs::remove_dir_all(&tls)?;
    }
    fs::DirBuilder::new().mode(0o700).create(&tls)?;
    // Between nodes keys must be Ed25519; callers come with TLS libraries of all kinds, of which some believe none such.
    let callers = Authority::new("callers", &PKCS_ECDSA_P256_SHA256)?;
    let peers = Authority::new("peers", &PKCS_ED25519)?;
    private(&tls.join("callers-ca.pem"), &callers.pem)?;
    private(&tls.join("peers-ca.pem"), &peers.pem)?;
    let callers_of = |uri, name| (&callers, uri, name);
    for (authority, uri, name) in
        [callers_of(NODE, "server"), (&peers, NODE, "peer"), callers_of(ME, "me"), callers_of(APP, "app")]
    {
        let (cert, key) = authority.issue(uri)?;
        private(&tls.join(format!("{name}.pem")), &cert)?;
        private(&tls.join(format!("{name}.key")), &key)?;
    }
    Ok(fs::rename(&tls, folder.join("tls"))?)
}

fn slot_key() -> Zeroizing<String> {
    let mut bytes = Zeroizing::new([0; 32]);
    MachineEntropy.fill(&mut *bytes);
    let mut text = Zeroizing::new(String::with_capacity(64));
    // Writing to a string does not fail.
    bytes.iter().for_each(|b| _ = write!(text, "{b:02x}"));
    text
}

fn private(path: &Path, text: &str) -> io::Result<()> {
    let file = fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path);
    let mut file = file?;
    file.write_all(text.as_bytes())?;
    file.sync_all()
}

/// An authority that is forgotten when its certificates are made: nobody can have another from it.
struct Authority {
    pem: String,
    issuer: Issuer<'static, KeyPair>,
    algorithm: &'static SignatureAlgorithm,
}

impl Authority {
    fn new(name: &str, algorithm: &'static SignatureAlgorithm) -> Result<Authority, rcgen::Error> {
        let mut params = CertificateParams::new(Vec::new())?;
        params.distinguished_name.push(DnType::CommonName, format!("Claviger development: {name}"));
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let key = KeyPair::generate_for(algorithm)?;
        let pem = params.self_signed(&key)?.pem();
        Ok(Authority { pem, issuer: Issuer::new(params, key), algorithm })
    }

    fn issue(&self, uri: &str) -> Result<(String, Zeroizing<String>), rcgen::Error> {
        let key = KeyPair::generate_for(self.algorithm)?;
        // The node's alone with the names of this machine, which our own tools do not look at, and others insist on: whoever
        // had them could pass for the node.
        let names = if uri == NODE { &HERE[..] } else { &[] };
        let mut params = CertificateParams::new(names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>())?;
        params.subject_alt_names.push(SanType::URI(uri.try_into()?));
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        Ok((params.signed_by(&key, &self.issuer)?.pem(), Zeroizing::new(key.serialize_pem())))
    }
}

fn config(folder: &Path, listen: SocketAddr) -> Result<Config, Oops> {
    let file = |name: &str| folder.join("tls").join(name);
    let files = |ca: &str, cert: &str, key: &str| TlsFiles { ca: file(ca), cert: file(cert), key: file(key) };
    let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let name = |text: &str| text.parse::<Segment>();
    Ok(Config {
        node: Node { id: NodeId(1), data_dir: folder.join("data"), cluster: name(DOMAIN)?, region: name("dev")? },
        listen: Listen { clients: listen, peers: any, metrics: any, reflection: true },
        tls_clients: files("callers-ca.pem", "server.pem", "server.key"),
        tls_peers: files("peers-ca.pem", "peer.pem", "peer.key"),
        // Never dialled: it is the only node.
        peers: BTreeMap::from([(NodeId(1), any.to_string())]),
        administrators: vec![identity(ME)],
        unseal: Unseal::Static(folder.join("slot.key")),
        raft: Raft::default(),
        strict_audit: false,
        limits: Limits::default(),
        log: Log { format: LogFormat::Text, level: "info" },
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{clock::MachineClock, tls::Credentials};
    use claviger_world::clock::Clock;

    const LISTEN: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 7001);

    #[test]
    fn a_home_is_made_once_and_its_files_serve() {
        let outer = tempfile::tempdir().unwrap();
        let folder = outer.path().join("new");
        let home = Home::take(&folder, LISTEN).unwrap();
        let first = Credentials::load(&home.config, MachineClock.now()).unwrap();
        let Unseal::Static(slot) = &home.config.unseal else { panic!("a development slot") };
        let key = crate::tls::static_slot(slot).unwrap();
        let again = Home::take(&folder, LISTEN).unwrap();
        assert_eq!(Credentials::load(&again.config, MachineClock.now()).unwrap().identity, first.identity);
        assert_eq!(crate::tls::static_slot(slot).unwrap().expose(), key.expose());
        assert!(again.env(LISTEN, "me").unwrap().contains("export CLAVIGER_KEY_FILE='/"));
    }

    #[test]
    fn refuses_a_folder_that_is_not_its_own() {
        let folder = tempfile::tempdir().unwrap();
        let refused = |folder: &Path| Home::take(folder, LISTEN).err().map(|e| e.to_string()).unwrap_or_default();
        fs::write(folder.path().join("letters"), "dear").unwrap();
        assert!(refused(folder.path()).contains("in use for something else"));
        let names: Vec<_> = fs::read_dir(folder.path()).unwrap().map(|f| f.unwrap().file_name()).collect();
        assert_eq!(names, ["letters"], "and leaves it as it was");
        fs::write(folder.path().join(MARKER), "another text").unwrap();
        assert!(refused(folder.path()).contains("in use for something else"));
        assert!(!refused(&folder.path().join("letters")).is_empty());
        assert_eq!(refused(&folder.path().join("fresh")), "");
    }

    #[test]
    fn refuses_to_listen_to_the_world() {
        let folder = tempfile::tempdir().unwrap();
        let refused = Home::take(&folder.path().join("x"), "0.0.0.0:7001".parse().unwrap()).err().unwrap();
        assert!(refused.to_string().contains("loopback"));
        assert!(!folder.path().join("x").exists());
    }
}
