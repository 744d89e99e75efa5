//! Strings in a bounded arena, referred to by offset and length.

use super::Zeroed;
use super::table::Full;
use super::touch::touch_first;
use core::fmt;

/// A string of an [`Arena`]: only meaningful together with the arena it came from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Text {
    /// First byte.
    pub offset: u32,
    /// Number of bytes.
    pub len: u32,
}

crate::zeroed_struct!(Text { offset: u32, len: u32 });

impl Text {
    /// The empty string, of any arena.
    pub const EMPTY: Text = Text { offset: 0, len: 0 };

    /// Whether it has no bytes.
    pub fn is_empty(self) -> bool {
        self.len == 0
    }
}

/// At most `cap <= N` bytes of UTF-8, appended string by string.
pub struct Arena<const N: usize> {
    cap: u32,
    len: u32,
    bytes: [u8; N],
}

// SAFETY: integers and bytes; zero is the empty arena that admits nothing until `set_cap`.
unsafe impl<const N: usize> Zeroed for Arena<N> {}

/// Its size: the strings are long, and may be secret.
impl<const N: usize> fmt::Debug for Arena<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Arena").field("len", &self.len).field("cap", &self.cap).finish()
    }
}

impl<const N: usize> Arena<N> {
    /// An empty arena whose cap is its ceiling. For small arenas; large ones are [`Zeroed`].
    pub const fn new() -> Self {
        assert!(N <= u32::MAX as usize);
        Arena { cap: N as u32, len: 0, bytes: [0; N] }
    }

    /// Sets the soft cap of an empty arena; where it rises, the pages up to it become resident.
    pub fn set_cap(&mut self, cap: u32) {
        assert!(cap as usize <= N && self.len == 0);
        if cap > self.cap {
            touch_first(&mut self.bytes, cap as usize);
        }
        self.cap = cap;
    }

    /// Forgets all strings and sets the soft cap.
    pub fn set_cap_cleared(&mut self, cap: u32) {
        self.len = 0;
        self.set_cap(cap);
    }

    /// The soft cap in bytes.
    pub fn cap(&self) -> u32 {
        self.cap
    }

    /// The ceiling in bytes.
    pub fn ceiling(&self) -> u32 {
        N as u32
    }

    /// Bytes in use.
    pub fn len(&self) -> u32 {
        self.len
    }

    /// Whether nothing is stored.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Forgets all strings.
    pub fn clear(&mut self) {
        self.len = 0;
    }

    /// Forgets all bytes after the first `len`.
    pub fn truncate(&mut self, len: u32) {
        assert!(len <= self.len);
        self.len = len;
    }

    /// Appends a string.
    pub fn push(&mut self, text: &str) -> Result<Text, Full> {
        if text.is_empty() {
            return Ok(Text::EMPTY);
        }
        let offset = self.len;
        if text.len() > (self.cap - self.len) as usize {
            return Err(Full);
        }
        let end = offset as usize + text.len();
        self.bytes[offset as usize..end].copy_from_slice(text.as_bytes());
        self.len = end as u32;
        Ok(Text { offset, len: text.len() as u32 })
    }

    /// Appends what `fill` writes into the room that is left; it returns how many bytes. None when
    /// it gives up, or when that is not UTF-8.
    pub fn push_with(&mut self, fill: impl FnOnce(&mut [u8]) -> Option<usize>) -> Option<Text> {
        let offset = self.len;
        let room = &mut self.bytes[offset as usize..self.cap as usize];
        let len = fill(room)?;
        core::str::from_utf8(&room[..len]).ok()?;
        self.len += len as u32;
        Some(Text { offset, len: len as u32 })
    }

    /// Appends what `arguments` formats to.
    pub fn push_fmt(&mut self, arguments: fmt::Arguments<'_>) -> Result<Text, Full> {
        let offset = self.len;
        if fmt::write(&mut Appender(self), arguments).is_err() {
            self.len = offset;
            return Err(Full);
        }
        Ok(Text { offset, len: self.len - offset })
    }

    /// The string; empty when it does not lie inside (it came from another arena).
    #[inline]
    pub fn get(&self, text: Text) -> &str {
        let start = text.offset as usize;
        let end = start + text.len as usize;
        debug_assert!(end <= self.len as usize, "text of another arena");
        self.bytes.get(start..end).and_then(|b| core::str::from_utf8(b).ok()).unwrap_or("")
    }

    /// The string's bytes, without looking whether they are UTF-8 (they were, when pushed).
    #[inline]
    pub fn bytes(&self, text: Text) -> &[u8] {
        let start = text.offset as usize;
        self.bytes.get(start..start + text.len as usize).unwrap_or(&[])
    }

    /// All bytes in use.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes[..self.len as usize]
    }

    /// Whether a handle that came from outside lies inside, on character boundaries.
    pub fn contains(&self, text: Text) -> bool {
        let end = u64::from(text.offset) + u64::from(text.len);
        end <= u64::from(self.len) && core::str::from_utf8(self.bytes(text)).is_ok()
    }

    /// Replaces the content by another arena's bytes, so that its handles hold here too.
    pub fn copy_from(&mut self, bytes: &[u8]) -> Result<(), Full> {
        if bytes.len() > self.cap as usize {
            return Err(Full);
        }
        self.bytes[..bytes.len()].copy_from_slice(bytes);
        self.len = bytes.len() as u32;
        Ok(())
    }
}

impl<const N: usize> Default for Arena<N> {
    fn default() -> Self {
        Self::new()
    }
}

struct Appender<'a, const N: usize>(&'a mut Arena<N>);

impl<const N: usize> fmt::Write for Appender<'_, N> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.0.push(text).map(|_| ()).map_err(|Full| fmt::Error)
    }
}

/// A formatter into a byte slice that cuts at a character boundary instead of failing.
#[derive(Debug)]
pub struct Truncating<'a> {
    bytes: &'a mut [u8],
    len: usize,
    /// Whether something did not fit.
    pub truncated: bool,
}

impl<'a> Truncating<'a> {
    /// Writes into `bytes`, from its start.
    pub fn new(bytes: &'a mut [u8]) -> Self {
        Truncating { bytes, len: 0, truncated: false }
    }

    /// What was written.
    pub fn finish(self) -> &'a str {
        core::str::from_utf8(&self.bytes[..self.len]).unwrap_or("")
    }
}

impl fmt::Write for Truncating<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let room = self.bytes.len() - self.len;
        let mut take = text.len().min(room);
        while !text.is_char_boundary(take) {
            take -= 1;
        }
        self.truncated |= take < text.len();
        self.bytes[self.len..self.len + take].copy_from_slice(&text.as_bytes()[..take]);
        self.len += take;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::fmt::Write;

    #[test]
    fn arena_at_max_and_one_more() {
        let mut arena = Arena::<8>::new();
        let a = arena.push("four").unwrap();
        assert_eq!(arena.push("fiver"), Err(Full));
        let b = arena.push_fmt(format_args!("{}{}", "ab", 12)).unwrap();
        assert_eq!((arena.get(a), arena.get(b)), ("four", "ab12"));
        assert_eq!(arena.push_fmt(format_args!("{}", 1)), Err(Full));
        assert_eq!(arena.len(), 8);
        assert!(!arena.contains(Text { offset: 4, len: 5 }));
    }

    #[test]
    fn truncating_cuts_between_characters() {
        let mut bytes = [0; 5];
        let mut out = Truncating::new(&mut bytes);
        write!(out, "abcdäx").unwrap();
        assert!(out.truncated);
        assert_eq!(out.finish(), "abcd");
    }
}
