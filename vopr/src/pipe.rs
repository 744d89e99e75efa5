//! The bytes of one direction of a stream, in the order they were sent in: those that arrived and
//! wait to be read, and behind them those that fly.
//!
//! In: what is sent, how much of it arrives. Out: what is read. Bytes are copied when they are sent
//! and when they are read, not on the way.

/// What was read stays until so much of it lies there.
const READ_KEPT_BYTES: usize = 16 << 10;

/// One direction.
#[derive(Debug, Default)]
pub struct Pipe {
    bytes: Vec<u8>,
    /// Those before this place were read.
    read: usize,
    /// Those from this place on fly.
    arrived: usize,
}

impl Pipe {
    /// Bytes that were sent and not read.
    pub fn len(&self) -> usize {
        self.bytes.len() - self.read
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Bytes that arrived and were not read.
    pub fn readable(&self) -> usize {
        self.arrived - self.read
    }

    /// Bytes are sent.
    pub fn send(&mut self, bytes: &[u8]) {
        if self.is_empty() || self.read > READ_KEPT_BYTES {
            self.bytes.drain(..self.read);
            self.arrived -= self.read;
            self.read = 0;
        }
        self.bytes.extend_from_slice(bytes);
    }

    /// The first so many of those that fly arrive.
    pub fn arrive(&mut self, len: usize) -> &[u8] {
        let from = self.arrived;
        self.arrived += len;
        &self.bytes[from..self.arrived]
    }

    /// The first so many of those that fly are lost.
    pub fn lose(&mut self, len: usize) {
        self.bytes.drain(self.arrived..self.arrived + len);
    }

    /// What arrived is gone, unread.
    pub fn drop_arrived(&mut self) {
        self.read = self.arrived;
    }

    /// Reads at most so many bytes.
    pub fn read(&mut self, most: usize) -> &[u8] {
        let from = self.read;
        self.read += self.readable().min(most);
        &self.bytes[from..self.read]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_read_in_order_once_they_arrived() {
        let mut pipe = Pipe::default();
        pipe.send(b"one");
        pipe.send(b"two");
        assert_eq!((pipe.len(), pipe.readable()), (6, 0));
        assert_eq!(pipe.arrive(4), b"onet");
        assert_eq!(pipe.read(2), b"on");
        assert_eq!(pipe.read(9), b"et");
        pipe.lose(1);
        pipe.send(b"three");
        assert_eq!(pipe.arrive(3), b"oth");
        pipe.drop_arrived();
        assert_eq!(pipe.arrive(3), b"ree");
        assert_eq!(pipe.read(9), b"ree");
        assert!(pipe.is_empty());
    }

    #[test]
    fn what_was_read_does_not_pile_up() {
        let mut pipe = Pipe::default();
        for _ in 0..4 * READ_KEPT_BYTES {
            // One byte flies always, so that it is never empty.
            pipe.send(b"abc");
            pipe.arrive(3 - usize::from(pipe.bytes.len() == 3));
            pipe.read(3);
            assert!(pipe.bytes.len() <= READ_KEPT_BYTES + 8 && pipe.len() == 1);
        }
    }
}
