//! The context of a message: name and value pairs that its ciphertext is bound to, and that whoever decrypts must know.

use crate::codec::Writer;
use std::borrow::Cow;
use std::fmt;

/// Pairs of one context, at most.
pub const CONTEXT_PAIRS_MAX: usize = 64;
/// Names and values of one context together, in bytes, at most.
pub const CONTEXT_BYTES_MAX: usize = 8_192;

/// Why pairs are no context. Echoes nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BadContext {
    /// More pairs than [`CONTEXT_PAIRS_MAX`].
    TooMany,
    /// More bytes than [`CONTEXT_BYTES_MAX`].
    TooLong,
    /// A name stands there twice.
    Duplicate,
}

impl fmt::Display for BadContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            BadContext::TooMany => write!(f, "a context has at most {CONTEXT_PAIRS_MAX} pairs"),
            BadContext::TooLong => write!(f, "a context has at most {CONTEXT_BYTES_MAX} bytes in names and values"),
            BadContext::Duplicate => f.write_str("a name stands twice in the context"),
        }
    }
}

impl std::error::Error for BadContext {}

/// A context in its one form: u32 count, then LP(name) LP(value) sorted by the bytes of the names, UTF-8 as given.
#[derive(Clone, PartialEq, Eq)]
pub struct Context(Cow<'static, [u8]>);

impl Context {
    /// No pairs.
    pub fn empty() -> Self {
        Context(Cow::Borrowed(&[0; 4]))
    }

    /// Takes pairs in any order.
    pub fn new<N: AsRef<str>, V: AsRef<str>>(pairs: &[(N, V)]) -> Result<Self, BadContext> {
        if pairs.len() > CONTEXT_PAIRS_MAX {
            return Err(BadContext::TooMany);
        }
        let mut sorted: Vec<(&str, &str)> = pairs.iter().map(|(n, v)| (n.as_ref(), v.as_ref())).collect();
        if sorted.iter().map(|(n, v)| n.len() + v.len()).sum::<usize>() > CONTEXT_BYTES_MAX {
            return Err(BadContext::TooLong);
        }
        sorted.sort_unstable();
        if sorted.windows(2).any(|w| w[0].0 == w[1].0) {
            return Err(BadContext::Duplicate);
        }
        Ok(if sorted.is_empty() { Context::empty() } else { Context(encode(&sorted).into()) })
    }

    /// The byte form.
    pub(super) fn encoded(&self) -> &[u8] {
        &self.0
    }
}

fn encode(sorted: &[(&str, &str)]) -> Vec<u8> {
    let mut w = Writer::default();
    w.u32(u32::try_from(sorted.len()).expect("64 pairs at most"));
    for (name, value) in sorted {
        w.lp(name.as_bytes()).lp(value.as_bytes());
    }
    w.into_bytes()
}
