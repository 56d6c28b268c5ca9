//! What a client needs to know: where the nodes are, which files prove who is who, and how long a call may take.

use crate::error::ConfigError;
use std::{fmt, path::PathBuf, str::FromStr, time::Duration};

/// How long one logical call may take, retries counted, in milliseconds, when nothing else is said.
pub const CALL_MS: u64 = 10_000;
/// How long a connection with its handshake may take, in milliseconds.
pub const CONNECT_MS: u64 = 2_000;
/// Addresses in one configuration, at most.
pub const ENDPOINTS_MAX: usize = 64;

/// One node's address for callers: `host:port`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Endpoint {
    authority: String,
}

impl Endpoint {
    /// `host:port`, an IPv6 address in brackets.
    pub fn authority(&self) -> &str {
        &self.authority
    }
}

impl FromStr for Endpoint {
    type Err = ConfigError;
    fn from_str(s: &str) -> Result<Self, ConfigError> {
        let authority = s.strip_prefix("https://").unwrap_or(s);
        let (host, port) = authority.rsplit_once(':').ok_or(ConfigError::BadAddress)?;
        let bracketed = host.starts_with('[') && host.ends_with(']');
        let plain = host.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_'));
        let host_good =
            (plain && !host.is_empty()) || (bracketed && host[1..host.len() - 1].parse::<std::net::Ipv6Addr>().is_ok());
        let port_good = port.bytes().all(|b| b.is_ascii_digit()) && port.parse::<u16>().is_ok_and(|p| p != 0);
        if host_good && port_good { Ok(Endpoint { authority: authority.into() }) } else { Err(ConfigError::BadAddress) }
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.authority)
    }
}

/// The nodes that may be asked: at least one, each once. Written as `host:port,host:port`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoints(Vec<Endpoint>);

impl Endpoints {
    /// All of them, in the order that they were given in.
    pub fn as_slice(&self) -> &[Endpoint] {
        &self.0
    }
}

impl FromStr for Endpoints {
    type Err = ConfigError;
    fn from_str(s: &str) -> Result<Self, ConfigError> {
        s.split(',').map(|part| part.trim().parse()).collect::<Result<Vec<Endpoint>, _>>()?.try_into()
    }
}

impl TryFrom<Vec<Endpoint>> for Endpoints {
    type Error = ConfigError;
    fn try_from(list: Vec<Endpoint>) -> Result<Self, ConfigError> {
        let mut unique: Vec<Endpoint> = Vec::with_capacity(list.len());
        for endpoint in list {
            if !unique.contains(&endpoint) {
                unique.push(endpoint);
            }
        }
        match unique.len() {
            0 => Err(ConfigError::NoAddress),
            1..=ENDPOINTS_MAX => Ok(Endpoints(unique)),
            _ => Err(ConfigError::TooManyAddresses),
        }
    }
}

/// The three files of mutual TLS, all PEM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Files {
    /// Certificates of the authority that vouches for nodes and callers.
    pub ca: PathBuf,
    /// The caller's own certificate, its intermediates after it.
    pub cert: PathBuf,
    /// The private key of that certificate (PKCS #8). Refused when its group or others may read it.
    pub key: PathBuf,
}

/// Everything that a [`Client`](crate::Client) is made from.
#[derive(Clone, Debug)]
pub struct Config {
    /// The nodes.
    pub endpoints: Endpoints,
    /// The files of mutual TLS.
    pub files: Files,
    /// How long one logical call may take, retries counted.
    pub deadline: Duration,
    /// How long a connection with its handshake may take.
    pub connect: Duration,
    /// The trust domain that a node's URI must be of; without one, any domain that the authority vouches for will do.
    pub domain: Option<String>,
}

impl Config {
    /// With a deadline of [`CALL_MS`] and any trust domain.
    pub fn new(endpoints: Endpoints, files: Files) -> Self {
        let (deadline, connect) = (Duration::from_millis(CALL_MS), Duration::from_millis(CONNECT_MS));
        Config { endpoints, files, deadline, connect, domain: None }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_list_is_read_in_order_and_each_once() {
        let list: Endpoints = "a:1, https://b.example:2,a:1,[::1]:3".parse().unwrap();
        let told: Vec<String> = list.as_slice().iter().map(Endpoint::to_string).collect();
        assert_eq!(told, ["a:1", "b.example:2", "[::1]:3"]);
    }

    #[test]
    fn refuses_addresses_that_only_look_right() {
        for bad in
            ["", "a", "a:", ":1", "a:0", "a:65536", "http://a:1", "a b:1", "a:1/x", "[::g]:1", "::1:7", "a:+1", "u@a:1"]
        {
            assert!(bad.parse::<Endpoints>().is_err(), "{bad:?}");
        }
    }
}
