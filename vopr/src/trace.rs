//! The trace of a run: a hash over every event with its payload bytes, and lines for a reader.
//!
//! In: what happens, in order. Out: one number that two runs of a seed must share, and violations.

use crate::network::Time;
use crate::timeline::{Kind, Lane, Timeline};
use std::cell::RefCell;
use std::rc::Rc;

/// What a checker found.
#[derive(Clone, Debug)]
pub struct Violation {
    /// Its name in shared/faults.md.
    pub checker: &'static str,
    /// What is wrong.
    pub text: String,
}

/// A hash of eight bytes at a time: each byte of a run goes through it. Each step folds the 128
/// bits of a product.
#[derive(Clone, Copy, Debug)]
struct Mix(u64);

impl Mix {
    const FACTOR: u64 = 0x9e37_79b9_7f4a_7c15;

    fn word(&mut self, word: u64) {
        let product = u128::from(self.0 ^ word ^ Self::FACTOR) * u128::from(Self::FACTOR);
        self.0 = (product >> 64) as u64 ^ product as u64;
    }

    /// With their length, so that what is written one after the other has one reading.
    fn bytes(&mut self, bytes: &[u8]) {
        let (words, rest) = bytes.as_chunks::<8>();
        for &word in words {
            self.word(u64::from_le_bytes(word));
        }
        // A byte at a time: to copy so few of them costs a call.
        let last = rest.iter().rev().fold(0, |word, &byte| word << 8 | u64::from(byte));
        self.word(last);
        self.word(bytes.len() as u64);
    }
}

/// The trace.
#[derive(Debug)]
pub struct Trace {
    hash: Mix,
    /// The same without the bytes that a time of day may be in.
    timeless: Mix,
    /// Prints lines while it runs.
    pub verbose: bool,
    /// Events hashed.
    pub events: u64,
    /// What the checkers found, in order.
    pub violations: Vec<Violation>,
    /// What a page is made of, if one is wanted; no part of the hash.
    pub timeline: Option<Rc<RefCell<Timeline>>>,
}

impl Trace {
    /// An empty trace.
    pub fn new(verbose: bool) -> Trace {
        let (hash, timeless) = (Mix(0), Mix(0));
        Trace { hash, timeless, verbose, events: 0, violations: Vec::new(), timeline: None }
    }

    /// Takes an event with its bytes.
    pub fn event(&mut self, now: Time, what: &str, number: u64, bytes: &[u8]) {
        self.events += 1;
        for hash in [&mut self.hash, &mut self.timeless] {
            hash.word(now);
            hash.word(number);
            hash.bytes(what.as_bytes());
        }
        self.hash.bytes(bytes);
        // Stamps have a fixed length (RFC 3339).
        self.timeless.word(bytes.len() as u64);
        if !matches!(what, "bytes" | "say") {
            self.timeless.bytes(bytes);
        }
    }

    /// Says something to a reader; part of the hash.
    pub fn say(&mut self, now: Time, text: &str) {
        self.event(now, "say", 0, text.as_bytes());
        if self.verbose {
            println!("{:>10.4} {text}", now as f64 / 1e9);
        }
        if let Some(timeline) = &self.timeline {
            timeline.borrow_mut().said(now, text);
        }
    }

    /// Marks the timeline, if there is one.
    pub fn mark(&self, now: Time, lane: Lane, kind: Kind, text: impl FnOnce() -> String) {
        if let Some(timeline) = &self.timeline {
            timeline.borrow_mut().mark(lane, kind, now, &text());
        }
    }

    /// A checker found something.
    pub fn violated(&mut self, now: Time, checker: &'static str, text: String) {
        self.say(now, &format!("VIOLATED {checker}: {text}"));
        self.violations.push(Violation { checker, text });
    }

    /// The hash so far, blind to times of day.
    pub fn timeless(&self) -> u64 {
        self.timeless.0
    }

    /// The hash so far.
    pub fn hash(&self) -> u64 {
        self.hash.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hashes(events: &[(Time, &str, u64, &[u8])]) -> (u64, u64) {
        let mut trace = Trace::new(false);
        for (now, what, number, bytes) in events {
            trace.event(*now, what, *number, bytes);
        }
        (trace.hash(), trace.timeless())
    }

    #[test]
    fn all_of_an_event_is_in_the_hash_and_its_order() {
        let one: (Time, &str, u64, &[u8]) = (1, "bytes", 3, b"twelve bytes");
        let mut seen = vec![hashes(&[one, one]).0];
        for other in [
            (2, "bytes", 3, &b"twelve bytes"[..]),
            (1, "bytez", 3, b"twelve bytes"),
            (1, "bytes", 4, b"twelve bytes"),
            (1, "bytes", 3, b"twelve bytez"),
            (1, "bytes", 3, b"Twelve bytes"),
            (1, "bytes", 3, b"twelve bytes\0"),
            (1, "bytes", 3, b""),
        ] {
            seen.push(hashes(&[one, other]).0);
            seen.push(hashes(&[other, one]).0);
        }
        let all = seen.len();
        seen.sort_unstable();
        seen.dedup();
        assert_eq!(seen.len(), all);
    }

    #[test]
    fn the_timeless_hash_is_blind_to_bytes_of_streams_alone() {
        let timeless = |what, bytes| hashes(&[(1, what, 3, bytes)]).1;
        assert_eq!(timeless("bytes", b"10:00"), timeless("bytes", b"11:00"));
        assert_ne!(timeless("bytes", b"10:00"), timeless("bytes", b"10:00:00"));
        assert_ne!(timeless("end", b"0"), timeless("end", b"1"));
    }
}
