//! Why a call brought no answer, told by who must act next.

use crate::{channel::ConnectFailed, config::Endpoint, details};
use claviger_proto::v1;
use std::{fmt, path::PathBuf};
use tonic::{Code, Status};

/// Why a call brought no answer. The variant says who must act next.
#[derive(Debug)]
pub enum Error {
    /// The caller: ask otherwise. The same call will be refused again.
    Refused {
        /// The gRPC code: `NotFound`, `AlreadyExists`, `InvalidArgument`, `FailedPrecondition`, `Aborted`, `OutOfRange`, or
        /// `ResourceExhausted` where a bound says how many there may be.
        code: Code,
        /// The server's word for it, as `disabled`; empty where it gave none.
        reason: String,
        /// What the server said, for people.
        message: String,
    },
    /// An administrator: this certificate may not do that, or is not believed.
    Denied {
        /// What the server said, for people.
        message: String,
    },
    /// Nobody, or whoever opens the cluster: ask again later. Every node was tried while the deadline allowed it.
    Unavailable {
        /// The nearest cause.
        why: Why,
        /// What the last node said, for people.
        message: String,
        /// The nodes that were tried, with what became of it.
        tried: Vec<Tried>,
    },
    /// An operator: a node failed in a way that no call should make it fail.
    Broken {
        /// What the server said, for people.
        message: String,
    },
    /// Whoever wrote the caller's own configuration.
    Config(ConfigError),
}

/// Why nobody could answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// Custodians must open the cluster.
    Sealed,
    /// The cluster was never founded.
    NotFounded,
    /// Too few nodes see each other.
    NoQuorum,
    /// The nodes have too much to do.
    Overloaded,
    /// The time was up. Whether a change was made is unknown, unless the call is one that may be repeated: repeat it.
    Deadline,
    /// No node could be reached, or none proved to be one.
    Unreachable,
    /// The connection broke while a call that may not be repeated was under way: whether it was done is unknown.
    Unknown,
    /// A node said that it is unavailable, and nothing more.
    Other,
}

/// One attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tried {
    /// The node.
    pub endpoint: Endpoint,
    /// What became of it, for people.
    pub outcome: String,
}

/// What is wrong with the caller's own configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ConfigError {
    /// No node is named.
    NoAddress,
    /// More nodes are named than a cluster has.
    TooManyAddresses,
    /// An address is not `host:port`.
    BadAddress,
    /// A file cannot be read: the path, and what the system said.
    Unreadable(PathBuf, String),
    /// A private key that others than its owner may read.
    KeyTooOpen(PathBuf),
    /// A file that does not hold what it should.
    NotPem(PathBuf, &'static str),
    /// The key is not the certificate's, or of a kind that TLS 1.3 does not sign with.
    KeyMismatch(PathBuf),
    /// The caller's certificate has no URI, or more than one.
    NoIdentity(PathBuf),
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ConfigError::NoAddress => f.write_str("no node is named"),
            ConfigError::TooManyAddresses => f.write_str("more than 64 nodes are named"),
            ConfigError::BadAddress => f.write_str("an address is not host:port"),
            ConfigError::Unreadable(path, why) => write!(f, "{}: {why}", path.display()),
            ConfigError::KeyTooOpen(path) => {
                write!(f, "{}: others than its owner may read this private key; chmod 600 it", path.display())
            }
            ConfigError::NotPem(path, wanted) => write!(f, "{}: holds no {wanted} in PEM", path.display()),
            ConfigError::KeyMismatch(path) => write!(f, "{}: is not the key of the certificate", path.display()),
            ConfigError::NoIdentity(path) => {
                write!(f, "{}: has not exactly one URI that names its bearer", path.display())
            }
        }
    }
}

impl std::error::Error for ConfigError {}

impl From<ConfigError> for Error {
    fn from(cause: ConfigError) -> Self {
        Error::Config(cause)
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Refused { message, .. } => write!(f, "refused: {message}"),
            Error::Denied { message } => write!(f, "denied: {message}"),
            Error::Unavailable { why: Why::Other, message, .. } => write!(f, "unavailable: {message}"),
            Error::Unavailable { why, message, .. } => write!(f, "{why}: {message}"),
            Error::Broken { message } => write!(f, "a node failed: {message}"),
            Error::Config(cause) => cause.fmt(f),
        }
    }
}

impl std::error::Error for Error {}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Why::Sealed => "the cluster is sealed",
            Why::NotFounded => "the cluster was never founded",
            Why::NoQuorum => "the cluster has no quorum",
            Why::Overloaded => "the cluster has too much to do",
            Why::Deadline => "no answer came in time",
            Why::Unreachable => "no node can be reached",
            Why::Unknown => "the connection broke, and whether the call was done is unknown",
            Why::Other => "unavailable",
        })
    }
}

/// What one attempt came to, and so what the next step is.
pub(crate) enum Attempt {
    /// The answer is final.
    Final(Error),
    /// Another node may know better. `sent`: this one may have got the call. `broken`: the connection is of no more use.
    Elsewhere { why: Why, message: String, sent: bool, broken: bool },
}

impl Attempt {
    /// Sorts what tonic brought back. A status that tonic made itself has a source; one from the server has none.
    pub(crate) fn of(status: &Status) -> Attempt {
        let broken = std::error::Error::source(status).is_some();
        Attempt::sorted(status.code(), details::reason(status), told(status.message()), broken)
    }

    /// Sorts what came of one item among others.
    pub(crate) fn of_item(item: &v1::ItemError) -> Attempt {
        Attempt::sorted(Code::from(item.code), item.reason.clone(), told(&item.message), false)
    }

    fn sorted(code: Code, reason: String, message: String, broken: bool) -> Attempt {
        let elsewhere = |why, message| Attempt::Elsewhere { why, message, sent: true, broken };
        match code {
            Code::Unavailable if !broken => elsewhere(why_of(&reason), message),
            Code::ResourceExhausted if reason.is_empty() || reason == "overloaded" => {
                elsewhere(Why::Overloaded, message)
            }
            Code::DeadlineExceeded => elsewhere(Why::Deadline, message),
            Code::PermissionDenied | Code::Unauthenticated => Attempt::Final(Error::Denied { message }),
            code @ (Code::InvalidArgument
            | Code::NotFound
            | Code::AlreadyExists
            | Code::FailedPrecondition
            | Code::Aborted
            | Code::ResourceExhausted
            | Code::OutOfRange) => Attempt::Final(Error::Refused { code, reason, message }),
            _ if broken => elsewhere(Why::Unreachable, "the connection broke".into()),
            _ => Attempt::Final(Error::Broken { message }),
        }
    }

    /// There was no connection to send on.
    pub(crate) fn unconnected(failure: &ConnectFailed) -> Attempt {
        Attempt::Elsewhere { why: Why::Unreachable, message: failure.to_string(), sent: false, broken: false }
    }

    /// No answer came in time. The connection may hang with its node, so it counts as broken.
    pub(crate) fn late() -> Attempt {
        let message = "the node did not answer in time".into();
        Attempt::Elsewhere { why: Why::Deadline, message, sent: true, broken: true }
    }

    pub(crate) fn broke_the_connection(&self) -> bool {
        matches!(self, Attempt::Elsewhere { broken: true, .. })
    }

    /// What it is for who asks nobody else.
    pub(crate) fn end(self) -> Error {
        match self {
            Attempt::Final(error) => error,
            Attempt::Elsewhere { broken: true, message, .. } => {
                Error::Unavailable { why: Why::Unreachable, message, tried: Vec::new() }
            }
            Attempt::Elsewhere { why, message, .. } => Error::Unavailable { why, message, tried: Vec::new() },
        }
    }
}

impl Error {
    /// Of one item among others, as the call for it alone would have failed with.
    pub(crate) fn of_item(item: &v1::ItemError) -> Error {
        Attempt::of_item(item).end()
    }
}

/// What the server said, without the class in front, which the variant says already.
fn told(message: &str) -> String {
    let classes = ["refused: ", "denied: ", "not authenticated: ", "unavailable: ", "broken: "];
    classes.iter().find_map(|class| message.strip_prefix(class)).unwrap_or(message).to_owned()
}

fn why_of(reason: &str) -> Why {
    match reason {
        "sealed" => Why::Sealed,
        "not_founded" => Why::NotFounded,
        "no_quorum" => Why::NoQuorum,
        "overloaded" => Why::Overloaded,
        "deadline" => Why::Deadline,
        "unknown" => Why::Unknown,
        _ => Why::Other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_is_final_and_an_absence_is_not() {
        assert!(matches!(
            Attempt::of(&Status::not_found("x")),
            Attempt::Final(Error::Refused { code: Code::NotFound, .. })
        ));
        assert!(matches!(Attempt::of(&Status::permission_denied("x")), Attempt::Final(Error::Denied { .. })));
        assert!(matches!(Attempt::of(&Status::internal("x")), Attempt::Final(Error::Broken { .. })));
        let sealed = details::status_with_reason(Code::Unavailable, "unavailable: x", "sealed");
        assert!(matches!(Attempt::of(&sealed), Attempt::Elsewhere { why: Why::Sealed, broken: false, .. }));
        let many = details::status_with_reason(Code::ResourceExhausted, "refused: too many", "too_many");
        assert!(matches!(Attempt::of(&many), Attempt::Final(Error::Refused { message, .. }) if message == "too many"));
    }

    #[test]
    fn an_item_fails_as_its_call_would() {
        let item = |code: Code, reason: &str, message: &str| {
            let item = v1::ItemError { code: code as i32, reason: reason.into(), message: message.into() };
            Error::of_item(&item).to_string()
        };
        assert_eq!(
            item(Code::FailedPrecondition, "disabled", "refused: the key is disabled"),
            "refused: the key is disabled"
        );
        assert_eq!(item(Code::PermissionDenied, "denied", "denied: x"), "denied: x");
        assert_eq!(item(Code::Unavailable, "sealed", "unavailable: x"), "the cluster is sealed: x");
        assert_eq!(item(Code::Internal, "broken", "broken: x"), "a node failed: x");
    }
}
