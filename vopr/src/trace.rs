//! The trace of a run: a hash over every event with its payload bytes, and lines for a reader.
//!
//! In: what happens, in order. Out: one number that two runs of a seed must share, and violations.

use crate::network::Time;
use crate::timeline::{Kind, Lane, Timeline};
use serval::stdx::fnv::Fnv;
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

/// The trace.
#[derive(Debug)]
pub struct Trace {
    hash: Fnv,
    /// The same without the bytes that a time of day may be in.
    timeless: Fnv,
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
        let (hash, timeless) = (Fnv::new(), Fnv::new());
        Trace { hash, timeless, verbose, events: 0, violations: Vec::new(), timeline: None }
    }

    /// Takes an event with its bytes.
    pub fn event(&mut self, now: Time, what: &str, number: u64, bytes: &[u8]) {
        self.events += 1;
        self.hash.write(&now.to_le_bytes());
        self.hash.write(what.as_bytes());
        self.hash.write(&number.to_le_bytes());
        self.hash.write(bytes);
        // Stamps have a fixed length (RFC 3339).
        let place = [now, number, bytes.len() as u64].map(u64::to_le_bytes);
        self.timeless.write(what.as_bytes());
        self.timeless.write(place.as_flattened());
        self.timeless.write(if matches!(what, "bytes" | "say") { &[] } else { bytes });
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
        self.timeless.finish()
    }

    /// The hash so far.
    pub fn hash(&self) -> u64 {
        self.hash.finish()
    }
}
