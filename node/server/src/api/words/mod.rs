//! Between protobuf's words and ours: parse at the door, exactly, and print.

mod audit;
mod cluster;
mod crypto;
mod keys;
mod roles;
mod seal;

pub(super) use audit::*;
pub(super) use cluster::*;
pub(super) use crypto::*;
pub(super) use keys::*;
pub(super) use roles::*;
pub(super) use seal::*;

use crate::service::{ReadAsk, RequestStamp};
use claviger_core::crypto::sha256;
use claviger_core::envelope::{CONTEXT_PAIRS_MAX, Context};
use claviger_core::failure::{Failure, Refused};
use claviger_core::key::{LABELS_MAX, Labels};
use claviger_core::name::{KeyName, RequestId};
use claviger_core::time::UnixMs;
use claviger_proto::v1;
use prost::Message;
use std::collections::BTreeMap;

type Parsed<T> = Result<T, Failure>;

/// Rows of a page, when the caller does not say.
const PAGE_ROWS: u32 = 100;
/// Rows of a page, at most.
const PAGE_ROWS_MAX: u32 = 256;

fn wanted(what: &'static str) -> Failure {
    Failure::Refused(Refused::BadRequest(what))
}

fn array<const N: usize>(bytes: &[u8], what: &'static str) -> Parsed<[u8; N]> {
    bytes.try_into().map_err(|_| wanted(what))
}

fn key_name(name: &str) -> Parsed<KeyName> {
    Ok(name.parse()?)
}

/// The names that come with many items: mostly one, again and again, which is then shared and not made anew.
#[derive(Default)]
pub(in crate::api) struct Names {
    last: Option<KeyName>,
}

impl Names {
    fn read(&mut self, name: &str) -> Parsed<KeyName> {
        if let Some(last) = self.last.as_ref().filter(|last| last.is_written(name)) {
            return Ok(last.clone());
        }
        Ok(self.last.insert(key_name(name)?).clone())
    }
}

fn read(read: Option<v1::ReadOptions>) -> ReadAsk {
    read.map_or_else(ReadAsk::default, |r| ReadAsk { min_revision: r.min_revision, allow_stale_ms: r.allow_stale_ms })
}

/// The caller's number for the call, with the digest of all of it: protobuf writes the fields that we know in one order.
fn stamp<M: Message>(id: &[u8], whole: &M) -> Parsed<RequestStamp> {
    if id.is_empty() {
        return Ok(None);
    }
    let id = RequestId(array(id, "a request id of 16 bytes, or none")?);
    Ok(Some((id, sha256(&[&whole.encode_to_vec()]))))
}

fn labels(given: BTreeMap<String, String>) -> Parsed<Labels> {
    if given.len() > LABELS_MAX {
        return Err(Refused::TooMany("labels: 32 at most").into());
    }
    given.iter().map(|(name, value)| Ok((name.parse()?, value.parse()?))).collect()
}

fn context(pairs: &[v1::ContextPair]) -> Parsed<Context> {
    if pairs.len() > CONTEXT_PAIRS_MAX {
        return Err(Refused::TooMany("context pairs: 64 at most").into());
    }
    let pairs: Vec<_> = pairs.iter().map(|p| (p.name.as_str(), p.value.as_str())).collect();
    Context::new(&pairs).map_err(|_| wanted("a context of at most 64 pairs and 8 KiB, each name once"))
}

fn rows(asked: u32) -> Parsed<usize> {
    match asked {
        0 => Ok(PAGE_ROWS as usize),
        1..=PAGE_ROWS_MAX => Ok(asked as usize),
        _ => Err(wanted("a page of at most 256")),
    }
}

fn timestamp(at: UnixMs) -> prost_types::Timestamp {
    let seconds = i64::try_from(at.0 / 1_000).unwrap_or(i64::MAX);
    let nanos = i32::try_from(at.0 % 1_000 * 1_000_000).unwrap_or(0);
    prost_types::Timestamp { seconds, nanos }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_comes_again_is_shared_and_another_is_itself() {
        let mut names = Names::default();
        for name in ["tenants/a/keys/b", "tenants/a/keys/b", "tenants/a/keys/c", "tenants/a/keys/b"] {
            assert_eq!(names.read(name).unwrap().to_string(), name);
        }
        assert!(names.read("tenants/a/keys/").is_err() && names.read("").is_err());
        let again = names.read("tenants/a/keys/b").unwrap();
        assert!(std::ptr::eq(again.key.as_str(), names.read("tenants/a/keys/b").unwrap().key.as_str()));
    }
}
