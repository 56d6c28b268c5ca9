//! Why a verb did not do what was asked, what to do next, and the exit code that says so.

use claviger_client::{ConfigError, Error, StreamError, Tried, Why};
use std::io::Write;
use std::process::ExitCode;

/// The exit code of what failed.
pub const EXIT_FAILED: u8 = 1;
/// The exit code for a cluster that is sealed or was never founded.
pub const EXIT_SEALED: u8 = 2;

/// What went wrong, in words for people.
#[derive(Debug, PartialEq, Eq)]
pub struct Failure {
    /// What went wrong.
    pub message: String,
    /// What to do about it.
    pub next: Option<String>,
    /// 1, or 2 where the cluster is sealed.
    pub exit: u8,
}

impl Failure {
    /// A failure with nothing more to say.
    pub fn new(message: impl Into<String>) -> Self {
        Failure { message: message.into(), next: None, exit: EXIT_FAILED }
    }

    /// Says what to do about it.
    #[must_use]
    pub fn next(mut self, next: impl Into<String>) -> Self {
        self.next = Some(next.into());
        self
    }

    /// Prints it where errors go.
    pub fn tell(&self) -> ExitCode {
        let mut err = std::io::stderr().lock();
        let _ = writeln!(err, "claviger: {}", self.message); // nobody is left to tell when this fails
        if let Some(next) = &self.next {
            let _ = writeln!(err, "  next: {next}");
        }
        ExitCode::from(self.exit)
    }

    fn sealed(message: String, next: &str) -> Self {
        Failure { message, next: Some(next.into()), exit: EXIT_SEALED }
    }
}

impl From<std::io::Error> for Failure {
    fn from(cause: std::io::Error) -> Self {
        Failure::new(cause.to_string())
    }
}

impl From<ConfigError> for Failure {
    fn from(cause: ConfigError) -> Self {
        let next = match &cause {
            ConfigError::NoAddress | ConfigError::TooManyAddresses | ConfigError::BadAddress => {
                "name the nodes as --addr host:port,host:port, in CLAVIGER_ADDR, or as `addr` in the configuration file"
            }
            ConfigError::KeyTooOpen(_) => "take the rights of group and others from the file",
            ConfigError::NoIdentity(_) => {
                "issue another with `claviger cert issue`; `claviger cert show` shows what this one says"
            }
            ConfigError::Unreadable(..) | ConfigError::NotPem(..) | ConfigError::KeyMismatch(_) => {
                "check --tls-ca, --tls-cert and --tls-key, or CLAVIGER_CA, CLAVIGER_CERT and CLAVIGER_KEY_FILE"
            }
        };
        Failure::new(cause.to_string()).next(next)
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        let message = error.to_string();
        match error {
            Error::Refused { reason, .. } => refused(message, &reason),
            Error::Denied { .. } => Failure::new(message).next(
                "`claviger cert show FILE` shows who you are; an administrator gives rights with `claviger role set`",
            ),
            Error::Unavailable { why, tried, .. } => unavailable(message, why, &tried),
            Error::Broken { .. } => Failure::new(message).next("an operator should read the node's log"),
            Error::Config(cause) => cause.into(),
        }
    }
}

impl From<StreamError> for Failure {
    fn from(error: StreamError) -> Self {
        let message = error.to_string();
        match error {
            StreamError::NotBegun(error) => error.into(),
            StreamError::Midway { error, .. } => Failure { message, ..error.into() },
            StreamError::Read(_) | StreamError::Write(_) => Failure::new(message),
        }
    }
}

fn refused(message: String, reason: &str) -> Failure {
    let next = match reason {
        "disabled" => "`claviger key enable` makes it work again",
        "undecryptable" => "check the key's name, the --context pairs and that the file is whole",
        "stale" => "read the key again and repeat with its revision",
        "share" => "`claviger custodian verify` checks a share offline; `claviger operator status` shows the ceremony",
        _ => return Failure::new(message),
    };
    Failure::new(message).next(next)
}

fn unavailable(message: String, why: Why, tried: &[Tried]) -> Failure {
    let attempts = || tried.iter().map(|t| format!("{} ({})", t.endpoint, t.outcome)).collect::<Vec<_>>().join(", ");
    match why {
        Why::Sealed => Failure::sealed(
            message,
            "custodians open it: `claviger custodian offer SHARE_FILE --identity FILE`; `claviger operator status` shows progress",
        ),
        Why::NotFounded => Failure::sealed(message, "found it with `claviger operator init`"),
        Why::Unreachable => {
            Failure::new(message).next(format!("check --addr and that the nodes run; tried {}", attempts()))
        }
        Why::Unknown => Failure::new(message).next("look whether it was done before you do it again"),
        Why::NoQuorum => Failure::new(message).next("`claviger operator status` shows which nodes are missing"),
        Why::Overloaded | Why::Deadline | Why::Other => {
            Failure::new(message).next("try again, or give it longer with --deadline-ms")
        }
    }
}
