//! The buffer pool of one driver: fixed, last in first out, so that one hot buffer does most work.
//!
//! In: rights to buffers given back. Out: rights to buffers. The output queue of each connection is
//! linked through here, so that queueing needs no memory of its own.

use crate::router::io::{Buf, Chunk, IO_BUFFER_BYTES};
use std::boxed::Box;
use std::vec;
use std::vec::Vec;

const SIZE: usize = IO_BUFFER_BYTES as usize;

/// A chunk waiting in an output queue.
#[derive(Clone, Copy, Debug, Default)]
struct Queued {
    start: u32,
    len: u32,
    /// Next buffer of the queue, plus one; 0: the last.
    next: u32,
}

/// An output queue: its first and last buffer, each plus one; 0: empty.
#[derive(Clone, Copy, Debug, Default)]
pub struct Queue {
    first: u32,
    last: u32,
}

impl Queue {
    /// Whether nothing waits.
    pub fn is_empty(self) -> bool {
        self.first == 0
    }
}

/// All buffers of a driver.
#[derive(Debug)]
pub struct Buffers {
    memory: Box<[u8]>,
    queued: Box<[Queued]>,
    free: Vec<Buf>,
}

impl Buffers {
    /// Makes `count` buffers and touches their pages.
    pub fn new(count: u32) -> Buffers {
        let mut memory = vec![0; count as usize * SIZE].into_boxed_slice();
        for page in memory.chunks_mut(4096) {
            // A write that is not optimised away: the page becomes resident.
            core::hint::black_box(&mut page[0]).clone_from(&1);
        }
        Buffers {
            memory,
            queued: vec![Queued::default(); count as usize].into_boxed_slice(),
            free: (0..count).rev().map(Buf::new).collect(),
        }
    }

    /// Bytes beside `count` buffers, for the memory plan.
    pub fn tables_bytes(count: u32) -> u64 {
        u64::from(count) * (size_of::<Queued>() + size_of::<Buf>()) as u64
    }

    /// Buffers that nobody has.
    pub fn free(&self) -> usize {
        self.free.len()
    }

    pub fn take(&mut self) -> Option<Buf> {
        self.free.pop()
    }

    pub fn put(&mut self, buf: Buf) {
        assert!(self.free.len() < self.queued.len(), "a buffer came back twice");
        self.free.push(buf);
    }

    #[inline]
    pub fn bytes_of(&self, buf: &Buf) -> &[u8] {
        let at = buf.index() as usize * SIZE;
        &self.memory[at..at + SIZE]
    }

    #[inline]
    pub fn bytes_of_mut(&mut self, buf: &mut Buf) -> &mut [u8] {
        let at = buf.index() as usize * SIZE;
        &mut self.memory[at..at + SIZE]
    }

    /// The bytes of two buffers.
    pub fn two_mut(&mut self, a: &mut Buf, b: &mut Buf) -> (&mut [u8], &mut [u8]) {
        let (a, b) = (a.index() as usize * SIZE, b.index() as usize * SIZE);
        assert!(a != b, "one right to each buffer");
        let (low, high) = self.memory.split_at_mut(a.max(b));
        let (low, high) = (&mut low[a.min(b)..a.min(b) + SIZE], &mut high[..SIZE]);
        if a < b { (low, high) } else { (high, low) }
    }

    /// Puts a chunk at the end of a queue, which then owns it.
    pub fn enqueue(&mut self, queue: &mut Queue, chunk: Chunk) {
        let link = chunk.buf.index() + 1;
        self.queued[chunk.buf.index() as usize] =
            Queued { start: chunk.start, len: chunk.len, next: 0 };
        match queue.last {
            0 => queue.first = link,
            last => self.queued[last as usize - 1].next = link,
        }
        queue.last = link;
    }

    /// Takes the first chunk out of a queue.
    pub fn dequeue(&mut self, queue: &mut Queue) -> Option<Chunk> {
        let index = queue.first.checked_sub(1)?;
        let Queued { start, len, next } = self.queued[index as usize];
        queue.first = next;
        if next == 0 {
            queue.last = 0;
        }
        Some(Chunk { buf: Buf::new(index), start, len })
    }

    /// Puts a chunk back in front, after a part of it went out.
    pub fn requeue(&mut self, queue: &mut Queue, chunk: Chunk) {
        let link = chunk.buf.index() + 1;
        self.queued[chunk.buf.index() as usize] =
            Queued { start: chunk.start, len: chunk.len, next: queue.first };
        if queue.last == 0 {
            queue.last = link;
        }
        queue.first = link;
    }

    /// Puts all chunks of a queue back into the pool.
    pub fn drop_queue(&mut self, queue: &mut Queue) {
        while let Some(chunk) = self.dequeue(queue) {
            self.put(chunk.buf);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_queue_keeps_its_order() {
        let mut buffers = Buffers::new(4);
        let mut queue = Queue::default();
        for start in 0..3 {
            let buf = buffers.take().unwrap();
            buffers.enqueue(&mut queue, Chunk { buf, start, len: 9 });
        }
        let mut first = buffers.dequeue(&mut queue).unwrap();
        assert_eq!(first.start, 0);
        first.start = 7;
        buffers.requeue(&mut queue, first);
        let starts: Vec<_> = core::iter::from_fn(|| {
            let chunk = buffers.dequeue(&mut queue)?;
            let start = chunk.start;
            buffers.put(chunk.buf);
            Some(start)
        })
        .collect();
        assert_eq!(starts, [7, 1, 2]);
        assert!(queue.is_empty() && buffers.free() == 4);
        assert!((0..4).all(|_| buffers.take().map(core::mem::forget).is_some()));
        assert!(buffers.take().is_none());
    }
}
