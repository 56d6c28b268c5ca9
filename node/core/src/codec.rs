//! The one binary form of everything that is signed, hashed or stored: big-endian, fixed width, `LP` for the rest.
//!
//! `LP(x)` is a u32 length and then x. Reading is exact: a reader that is not at its end when its value is whole refuses
//! it, and no length is believed before the bytes are there.

use std::fmt;

/// The bytes are not what the format says. Carries no content: what a stranger sent is never echoed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Malformed {
    /// The value ends before its format does.
    Short,
    /// Something follows the end of the value.
    Trailing,
    /// A length or a count is over its bound.
    Oversize,
    /// A tag, a format number or a text is none that this release knows.
    Unknown,
}

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Malformed::Short => "the value is cut short",
            Malformed::Trailing => "something follows the end of the value",
            Malformed::Oversize => "a length is over its bound",
            Malformed::Unknown => "a format or tag is unknown to this release",
        })
    }
}

impl std::error::Error for Malformed {}

/// A value with one canonical byte form.
pub trait Canonical: Sized {
    /// Appends the value to `w`.
    fn write(&self, w: &mut Writer);

    /// Reads one value and leaves `r` behind it.
    fn read(r: &mut Reader<'_>) -> Result<Self, Malformed>;

    /// The whole byte form.
    fn to_bytes(&self) -> Vec<u8> {
        let mut w = Writer::default();
        self.write(&mut w);
        w.into_bytes()
    }

    /// Reads a value that must be all of `bytes`.
    fn from_bytes(bytes: &[u8]) -> Result<Self, Malformed> {
        let mut r = Reader::new(bytes);
        let value = Self::read(&mut r)?;
        r.end()?;
        Ok(value)
    }
}

/// Builds a canonical byte form.
#[derive(Default)]
pub struct Writer(Vec<u8>);

impl Writer {
    /// Room for `bytes` bytes at once: a secret must not leave copies behind in buffers that it outgrew.
    pub fn with_room(bytes: usize) -> Self {
        Writer(Vec::with_capacity(bytes))
    }
    /// One byte.
    pub fn u8(&mut self, x: u8) -> &mut Self {
        self.0.push(x);
        self
    }
    /// Two bytes, big-endian.
    pub fn u16(&mut self, x: u16) -> &mut Self {
        self.raw(&x.to_be_bytes())
    }
    /// Four bytes, big-endian.
    pub fn u32(&mut self, x: u32) -> &mut Self {
        self.raw(&x.to_be_bytes())
    }
    /// Eight bytes, big-endian.
    pub fn u64(&mut self, x: u64) -> &mut Self {
        self.raw(&x.to_be_bytes())
    }
    /// One byte, 0 or 1.
    pub fn bool(&mut self, x: bool) -> &mut Self {
        self.u8(u8::from(x))
    }
    /// The bytes as they are: for fixed widths only.
    pub fn raw(&mut self, x: &[u8]) -> &mut Self {
        self.0.extend_from_slice(x);
        self
    }
    /// `LP(x)`: u32 length, then the bytes.
    ///
    /// # Panics
    /// When `x` is 4 GiB or longer, which no bounded value of ours is.
    pub fn lp(&mut self, x: &[u8]) -> &mut Self {
        self.u32(u32::try_from(x.len()).expect("a bounded value is shorter than 4 GiB"));
        self.raw(x)
    }
    /// A u32 count, then each item.
    pub fn list<T: Canonical>(&mut self, items: &[T]) -> &mut Self {
        self.u32(u32::try_from(items.len()).expect("a bounded list has fewer than 2^32 items"));
        for item in items {
            item.write(self);
        }
        self
    }
    /// A presence byte, then the value if there is one.
    pub fn option<T: Canonical>(&mut self, value: Option<&T>) -> &mut Self {
        self.bool(value.is_some());
        if let Some(v) = value {
            v.write(self);
        }
        self
    }
    /// What was written.
    pub fn into_bytes(self) -> Vec<u8> {
        self.0
    }
    /// What was written so far.
    pub fn as_slice(&self) -> &[u8] {
        &self.0
    }
}

/// Walks over a canonical byte form.
pub struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    /// Starts at the first byte.
    pub fn new(bytes: &'a [u8]) -> Self {
        Reader(bytes)
    }
    /// Takes `n` bytes.
    pub fn raw(&mut self, n: usize) -> Result<&'a [u8], Malformed> {
        let (head, tail) = self.0.split_at_checked(n).ok_or(Malformed::Short)?;
        self.0 = tail;
        Ok(head)
    }
    /// Takes `N` bytes as an array.
    pub fn array<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        let (head, tail) = self.0.split_first_chunk::<N>().ok_or(Malformed::Short)?;
        self.0 = tail;
        Ok(*head)
    }
    /// One byte.
    pub fn u8(&mut self) -> Result<u8, Malformed> {
        Ok(self.array::<1>()?[0])
    }
    /// Two bytes, big-endian.
    pub fn u16(&mut self) -> Result<u16, Malformed> {
        Ok(u16::from_be_bytes(self.array()?))
    }
    /// Four bytes, big-endian.
    pub fn u32(&mut self) -> Result<u32, Malformed> {
        Ok(u32::from_be_bytes(self.array()?))
    }
    /// Eight bytes, big-endian.
    pub fn u64(&mut self) -> Result<u64, Malformed> {
        Ok(u64::from_be_bytes(self.array()?))
    }
    /// One byte that must be 0 or 1.
    pub fn bool(&mut self) -> Result<bool, Malformed> {
        match self.u8()? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(Malformed::Unknown),
        }
    }
    /// `LP(x)` of at most `bytes_max` bytes.
    pub fn lp(&mut self, bytes_max: usize) -> Result<&'a [u8], Malformed> {
        let n = self.u32()? as usize;
        if n > bytes_max {
            return Err(Malformed::Oversize);
        }
        self.raw(n)
    }
    /// `LP` of UTF-8 text of at most `bytes_max` bytes.
    pub fn text(&mut self, bytes_max: usize) -> Result<&'a str, Malformed> {
        std::str::from_utf8(self.lp(bytes_max)?).map_err(|_| Malformed::Unknown)
    }
    /// A u32 count of at most `count_max`, then that many items.
    pub fn list<T: Canonical>(&mut self, count_max: usize) -> Result<Vec<T>, Malformed> {
        let n = self.u32()? as usize;
        if n > count_max {
            return Err(Malformed::Oversize);
        }
        (0..n).map(|_| T::read(self)).collect()
    }
    /// A presence byte, then the value if there is one.
    pub fn option<T: Canonical>(&mut self) -> Result<Option<T>, Malformed> {
        Ok(if self.bool()? { Some(T::read(self)?) } else { None })
    }
    /// Refuses anything that is left.
    pub fn end(&self) -> Result<(), Malformed> {
        if self.0.is_empty() { Ok(()) } else { Err(Malformed::Trailing) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refuses_a_length_that_is_not_there() {
        assert_eq!(Reader::new(&[0, 0, 0, 9, 1]).lp(100), Err(Malformed::Short));
        assert_eq!(Reader::new(&[0xff; 8]).lp(100), Err(Malformed::Oversize));
        assert_eq!(Reader::new(&[2]).bool(), Err(Malformed::Unknown));
    }

    #[test]
    fn refuses_what_follows_the_end() {
        let mut r = Reader::new(&[1, 2]);
        assert_eq!(r.u8(), Ok(1));
        assert_eq!(r.end(), Err(Malformed::Trailing));
    }
}
