//! A short string by value: names, ids.

use super::Zeroed;
use super::pack::{Pack, Packer, Unpacker};
use super::table::Full;
use super::text::Truncating;
use core::fmt::{self, Write};

/// At most `N` bytes of UTF-8, by value.
#[derive(Clone, Copy)]
pub struct Short<const N: usize> {
    len: u16,
    bytes: [u8; N],
}

// SAFETY: integers and bytes; zero is the empty string.
unsafe impl<const N: usize> Zeroed for Short<N> {}

impl<const N: usize> Short<N> {
    /// The empty string.
    pub const EMPTY: Self = Short { len: 0, bytes: [0; N] };

    /// A copy of `text`, unless it is too long.
    pub fn new(text: &str) -> Result<Self, Full> {
        let mut short = Self::EMPTY;
        short.bytes.get_mut(..text.len()).ok_or(Full)?.copy_from_slice(text.as_bytes());
        short.len = text.len() as u16;
        Ok(short)
    }

    /// What `arguments` formats to, cut at a character boundary when too long.
    pub fn truncated(arguments: fmt::Arguments<'_>) -> Self {
        let mut short = Self::EMPTY;
        let mut out = Truncating::new(&mut short.bytes);
        // Truncating never fails.
        let _ = out.write_fmt(arguments);
        short.len = out.finish().len() as u16;
        short
    }

    /// The string.
    #[inline]
    pub fn as_str(&self) -> &str {
        core::str::from_utf8(self.as_bytes()).unwrap_or("")
    }

    /// Its bytes.
    #[inline]
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes[..usize::from(self.len)]
    }

    /// Whether it is empty.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }
}

impl<const N: usize> Default for Short<N> {
    fn default() -> Self {
        Self::EMPTY
    }
}

impl<const N: usize> PartialEq for Short<N> {
    fn eq(&self, other: &Self) -> bool {
        self.as_bytes() == other.as_bytes()
    }
}

impl<const N: usize> Eq for Short<N> {}

impl<const N: usize> PartialOrd for Short<N> {
    fn partial_cmp(&self, other: &Self) -> Option<core::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl<const N: usize> Ord for Short<N> {
    fn cmp(&self, other: &Self) -> core::cmp::Ordering {
        // The order of strings is that of their bytes.
        self.as_bytes().cmp(other.as_bytes())
    }
}

impl<const N: usize> fmt::Debug for Short<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), f)
    }
}

impl<const N: usize> fmt::Display for Short<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl<const N: usize> Pack for Short<N> {
    fn pack(&self, out: &mut Packer<'_>) -> Result<(), Full> {
        self.len.pack(out)?;
        out.put(self.as_bytes())
    }
    fn unpack(&mut self, from: &mut Unpacker<'_>) {
        self.len.unpack(from);
        let len = usize::from(self.len);
        self.bytes[..len].copy_from_slice(from.take(len));
    }
}
