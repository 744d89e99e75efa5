//! A short string of bytes held in place: names, versions, tokens, request heads.

use super::Zeroed;
use super::table::Full;
use core::fmt;

/// At most `N` bytes.
#[derive(Clone, Copy)]
pub struct Inline<const N: usize> {
    len: u32,
    bytes: [u8; N],
}

// SAFETY: integers; zero is the empty string.
unsafe impl<const N: usize> Zeroed for Inline<N> {}

impl<const N: usize> Inline<N> {
    /// The empty string.
    pub const fn new() -> Self {
        assert!(N <= u32::MAX as usize);
        Inline { len: 0, bytes: [0; N] }
    }

    /// Replaces the content; unchanged when `bytes` does not fit.
    pub fn set(&mut self, bytes: &[u8]) -> Result<(), Full> {
        self.bytes.get_mut(..bytes.len()).ok_or(Full)?.copy_from_slice(bytes);
        self.len = bytes.len() as u32;
        Ok(())
    }

    /// Appends; unchanged when `bytes` does not fit.
    pub fn push(&mut self, bytes: &[u8]) -> Result<(), Full> {
        let (start, end) = (self.len as usize, self.len as usize + bytes.len());
        self.bytes.get_mut(start..end).ok_or(Full)?.copy_from_slice(bytes);
        self.len = end as u32;
        Ok(())
    }

    /// Forgets the content.
    pub fn clear(&mut self) {
        self.len = 0;
    }

    /// Forgets the content and overwrites its bytes: tokens and keys.
    pub fn wipe(&mut self) {
        self.bytes.fill(0);
        self.len = 0;
    }

    /// Forgets the first `count` bytes.
    pub fn drop_front(&mut self, count: usize) {
        let len = self.len as usize;
        assert!(count <= len);
        self.bytes.copy_within(count..len, 0);
        self.len = (len - count) as u32;
    }

    /// The content.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes[..self.len as usize]
    }

    /// The content, or nothing when it is not UTF-8.
    pub fn as_str(&self) -> &str {
        core::str::from_utf8(self.as_bytes()).unwrap_or("")
    }

    /// Number of bytes.
    pub fn len(&self) -> usize {
        self.len as usize
    }

    /// Whether there is no byte.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }
}

impl<const N: usize> fmt::Write for Inline<N> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.push(text.as_bytes()).map_err(|Full| fmt::Error)
    }
}

impl<const N: usize> fmt::Debug for Inline<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Length only: tokens are held in this.
        write!(f, "Inline({} of {N} bytes)", self.len)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn at_max_and_one_more() {
        let mut text = Inline::<4>::new();
        assert_eq!((text.set(b"abcde"), text.len()), (Err(Full), 0));
        assert_eq!(
            (text.set(b"abc"), text.push(b"d"), text.push(b"e")),
            (Ok(()), Ok(()), Err(Full))
        );
        assert_eq!(text.as_str(), "abcd");
        text.drop_front(3);
        assert_eq!(text.as_bytes(), b"d");
        text.wipe();
        assert!(text.is_empty());
    }
}
