//! A single-producer, single-consumer ring of byte records between two threads.
//!
//! In: records of any length up to half the ring. Out: the same records, in order, each contiguous.
//! Neither side ever blocks: a full ring is a value ([`Full`]), and nothing is lost that was taken.
//!
//! A record is a u32 length and its bytes, padded to 4. One that does not fit before the end of the
//! array begins at its start; a marker says so. Positions count bytes since the beginning, modulo
//! 2^32; the array's length is a power of two, so that they also give the place in it.

use super::Zeroed;
use super::table::Full;
use core::cell::UnsafeCell;
use core::sync::atomic::{AtomicU32, Ordering};
use crossbeam_utils::CachePadded;

/// Bytes before each record.
const HEADER: u32 = 4;
/// In place of a length: the record begins at the array's start.
const WRAP: u32 = u32::MAX;

/// `N` bytes of ring; a power of two. Built in place when large ([`Zeroed`]).
#[derive(Debug)]
#[repr(C)]
pub struct Ring<const N: usize> {
    /// Bytes read; only the consumer writes it.
    head: CachePadded<AtomicU32>,
    /// Bytes written; only the producer writes it.
    tail: CachePadded<AtomicU32>,
    store: UnsafeCell<[u8; N]>,
}

// SAFETY: atomics and bytes; zero is the empty ring.
unsafe impl<const N: usize> Zeroed for Ring<N> {}

// SAFETY: `split` gives out one producer and one consumer; `head` and `tail` say which bytes belong
// to which of them (release on handing over, acquire on taking).
unsafe impl<const N: usize> Sync for Ring<N> {}

/// The writing end.
#[derive(Debug)]
pub struct Producer<'r, const N: usize> {
    ring: &'r Ring<N>,
    tail: u32,
}

/// The reading end.
#[derive(Debug)]
pub struct Consumer<'r, const N: usize> {
    ring: &'r Ring<N>,
    head: u32,
}

impl<const N: usize> Ring<N> {
    /// The longest record: two of them fit, wherever the first begins.
    pub const MAX_RECORD: u32 = {
        assert!(N.is_power_of_two() && N >= 64 && N <= 1 << 30);
        N as u32 / 2 - HEADER
    };

    /// An empty ring. For small rings; large ones are [`Zeroed`].
    pub const fn new() -> Self {
        Ring {
            head: CachePadded::new(AtomicU32::new(0)),
            tail: CachePadded::new(AtomicU32::new(0)),
            store: UnsafeCell::new([0; N]),
        }
    }

    /// Both ends, one for each thread.
    pub fn split(&mut self) -> (Producer<'_, N>, Consumer<'_, N>) {
        let (head, tail) = (*self.head.get_mut(), *self.tail.get_mut());
        assert!(tail.wrapping_sub(head) as usize <= N);
        let ring = &*self;
        (Producer { ring, tail }, Consumer { ring, head })
    }

    fn at(&self, position: u32) -> *mut u8 {
        self.store.get().cast::<u8>().wrapping_add(position as usize & (N - 1))
    }

    fn to_end(position: u32) -> u32 {
        N as u32 - (position & (N as u32 - 1))
    }
}

impl<const N: usize> Default for Ring<N> {
    fn default() -> Self {
        Self::new()
    }
}

const fn padded(len: u32) -> u32 {
    HEADER + len.next_multiple_of(HEADER)
}

impl<const N: usize> Producer<'_, N> {
    /// Appends a record.
    pub fn push(&mut self, record: &[u8]) -> Result<(), Full> {
        self.push_with(record.len() as u32, |place| {
            place.copy_from_slice(record);
            record.len() as u32
        })
    }

    /// Appends a record of at most `max` bytes, written in place by `fill`, which returns how many
    /// bytes it used. More than [`Ring::MAX_RECORD`] is a bug of the caller.
    pub fn push_with(&mut self, max: u32, fill: impl FnOnce(&mut [u8]) -> u32) -> Result<(), Full> {
        assert!(max <= Ring::<N>::MAX_RECORD, "record longer than half the ring");
        let head = self.ring.head.load(Ordering::Acquire);
        let free = N as u32 - self.tail.wrapping_sub(head);
        let to_end = Ring::<N>::to_end(self.tail);
        let skip = if padded(max) > to_end { to_end } else { 0 };
        if skip + padded(max) > free {
            return Err(Full);
        }
        let start = self.tail.wrapping_add(skip);
        // SAFETY: `skip` and the record together are free bytes (checked above), which are the
        // producer's alone until the tail moves; positions are multiples of 4, so that a header
        // fits before the end, and so does the record, or it begins at the start.
        let used = unsafe {
            if skip > 0 {
                self.ring.at(self.tail).cast::<[u8; 4]>().write(WRAP.to_ne_bytes());
            }
            let place = self.ring.at(start.wrapping_add(HEADER));
            let used = fill(core::slice::from_raw_parts_mut(place, max as usize));
            assert!(used <= max);
            self.ring.at(start).cast::<[u8; 4]>().write(used.to_ne_bytes());
            used
        };
        self.tail = start.wrapping_add(padded(used));
        self.ring.tail.store(self.tail, Ordering::Release);
        Ok(())
    }

    /// Whether the consumer has taken everything.
    pub fn is_empty(&self) -> bool {
        self.ring.head.load(Ordering::Acquire) == self.tail
    }
}

impl<const N: usize> Consumer<'_, N> {
    /// The oldest record; it stays until [`Consumer::pop`].
    pub fn peek(&mut self) -> Option<&[u8]> {
        let tail = self.ring.tail.load(Ordering::Acquire);
        if tail == self.head {
            return None;
        }
        let mut len = self.header();
        if len == WRAP {
            self.head = self.head.wrapping_add(Ring::<N>::to_end(self.head));
            len = self.header();
        }
        assert!(padded(len) <= tail.wrapping_sub(self.head), "ring corrupted");
        let bytes = self.ring.at(self.head.wrapping_add(HEADER));
        // SAFETY: the producer handed these bytes over and leaves them alone until the head moves,
        // which needs `&mut self`.
        Some(unsafe { core::slice::from_raw_parts(bytes, len as usize) })
    }

    /// Drops the oldest record; there must be one.
    pub fn pop(&mut self) {
        let len = self.peek().expect("pop without a record").len() as u32;
        self.head = self.head.wrapping_add(padded(len));
        self.ring.head.store(self.head, Ordering::Release);
    }

    fn header(&self) -> u32 {
        // SAFETY: only called where the tail says that a header was written.
        u32::from_ne_bytes(unsafe { self.ring.at(self.head).cast::<[u8; 4]>().read() })
    }
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;
    use crate::stdx::Prng;

    #[test]
    fn at_max_and_one_more() {
        let mut ring = Ring::<64>::new();
        let (mut p, mut c) = ring.split();
        assert_eq!(Ring::<64>::MAX_RECORD, 28);
        // Wherever it begins, the longest record fits an empty ring.
        for start in 0..40u8 {
            assert_eq!(p.push(&[start; 28]), Ok(()));
            assert_eq!(c.peek(), Some(&[start; 28][..]));
            c.pop();
            assert!(p.is_empty());
            p.push(&[1; 4]).unwrap();
            c.pop();
        }
        let mut taken = 0;
        while p.push(&[]).is_ok() {
            taken += 1;
        }
        assert_eq!(taken, 16);
        (0..16).for_each(|_| c.pop());
        assert_eq!(c.peek(), None);
    }

    #[test]
    #[should_panic(expected = "longer than half")]
    fn a_record_that_never_fits_is_a_bug() {
        let _ = Ring::<64>::new().split().0.push(&[0; 29]);
    }

    #[test]
    fn shorter_than_announced() {
        let mut ring = Ring::<64>::new();
        let (mut p, mut c) = ring.split();
        p.push_with(20, |place| {
            place[..3].copy_from_slice(b"abc");
            3
        })
        .unwrap();
        p.push(b"next").unwrap();
        assert_eq!(c.peek(), Some(&b"abc"[..]));
        c.pop();
        assert_eq!(c.peek(), Some(&b"next"[..]));
    }

    /// The n-th record of a seed: what both threads agree on.
    fn record(prng: &mut Prng, buffer: &mut [u8; 60]) -> usize {
        let len = prng.below(61) as usize;
        let byte = prng.next_u64() as u8;
        (0..len).for_each(|i| buffer[i] = byte.wrapping_add(i as u8));
        len
    }

    #[test]
    fn two_threads_agree_over_wraps_of_the_array_and_of_the_positions() {
        const RECORDS: u32 = 200_000;
        let mut ring = Ring::<128>::new();
        // Close to the end of u32, so that positions wrap too.
        *ring.head.get_mut() = u32::MAX - 127;
        *ring.tail.get_mut() = u32::MAX - 127;
        let (mut p, mut c) = ring.split();
        std::thread::scope(|threads| {
            threads.spawn(move || {
                let (mut prng, mut buffer) = (Prng::new(1), [0; 60]);
                for _ in 0..RECORDS {
                    let len = record(&mut prng, &mut buffer);
                    while p.push(&buffer[..len]).is_err() {
                        std::thread::yield_now();
                    }
                }
            });
            let (mut prng, mut buffer) = (Prng::new(1), [0; 60]);
            for _ in 0..RECORDS {
                let len = record(&mut prng, &mut buffer);
                while c.peek().is_none() {
                    std::thread::yield_now();
                }
                assert_eq!(c.peek(), Some(&buffer[..len]));
                c.pop();
            }
            assert_eq!(c.peek(), None);
        });
    }
}
