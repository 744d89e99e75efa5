//! A fixed buffer of bytes between a socket and TLS.

/// Bytes in an array, taken from the front.
#[derive(Debug)]
pub struct Buffer<const N: usize> {
    pub(super) start: usize,
    pub(super) end: usize,
    pub(super) bytes: [u8; N],
}

// SAFETY: integers; zero is the empty buffer.
unsafe impl<const N: usize> crate::stdx::Zeroed for Buffer<N> {}

impl<const N: usize> Buffer<N> {
    /// Forgets all of them.
    pub fn clear(&mut self) {
        (self.start, self.end) = (0, 0);
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.start == self.end
    }

    /// The bytes.
    pub fn filled(&self) -> &[u8] {
        &self.bytes[self.start..self.end]
    }

    /// All free bytes, in one piece; what is put there is added by [`Self::put`].
    pub fn free(&mut self) -> &mut [u8] {
        if self.start > 0 {
            self.bytes.copy_within(self.start..self.end, 0);
            (self.start, self.end) = (0, self.end - self.start);
        }
        &mut self.bytes[self.end..]
    }

    /// `count` bytes from the front are done with.
    pub fn take(&mut self, count: usize) {
        assert!(count <= self.end - self.start);
        self.start += count;
    }

    /// `count` bytes stand at the front of what was free.
    pub fn put(&mut self, count: usize) {
        assert!(count <= N - self.end);
        self.end += count;
    }
}
