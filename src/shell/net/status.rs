//! What a worker and the rest of the process tell each other: orders in, numbers out, all atomics.
//!
//! In: drain, stop and wake from any thread. Out: the generation whose binds are in force, a result
//! per bind, and the counters. The worker copies its counters once a turn with plain (relaxed)
//! stores: on the way of a request there is neither a lock nor a cache line that others write.

use crate::limits::MAX_CONFIG_BINDS;
use crate::router::counters::COUNTERS;
use crate::router::io::Errno;
use crate::router::{Counters, Worker};
use core::sync::atomic::{AtomicBool, AtomicI32, AtomicU64, Ordering};
use std::io;

/// The order book of one worker. Shared by reference for as long as the process runs.
#[derive(Debug)]
pub struct Control {
    waker: mio::Waker,
    drain: AtomicBool,
    stop: AtomicBool,
    status: Status,
}

/// What one worker shows.
#[derive(Debug)]
pub struct Status {
    /// Adopted generation plus one; 0: none yet.
    generation: AtomicU64,
    /// By index of the adopted Snapshot: 0 for a bind that is open, else the error number.
    binds: [AtomicI32; MAX_CONFIG_BINDS as usize],
    counters: [AtomicU64; COUNTERS],
    is_drained: AtomicBool,
    has_ended: AtomicBool,
}

impl Control {
    pub(super) fn new(waker: mio::Waker) -> Control {
        Control {
            waker,
            drain: AtomicBool::new(false),
            stop: AtomicBool::new(false),
            status: Status {
                generation: AtomicU64::new(0),
                binds: [const { AtomicI32::new(0) }; MAX_CONFIG_BINDS as usize],
                counters: [const { AtomicU64::new(0) }; COUNTERS],
                is_drained: AtomicBool::new(false),
                has_ended: AtomicBool::new(false),
            },
        }
    }

    /// Makes the worker run a turn: after a commit of ConfigStorage.
    pub fn wake(&self) {
        // An error would be EAGAIN of an eventfd that is full of wakes: it wakes all the same.
        let _: io::Result<()> = self.waker.wake();
    }

    /// Asks the worker to drain and then to end.
    pub fn drain(&self) {
        self.drain.store(true, Ordering::Release);
        self.wake();
    }

    /// Asks the worker to end at once, whatever runs.
    pub fn stop(&self) {
        self.stop.store(true, Ordering::Release);
        self.wake();
    }

    pub(super) fn shall_drain(&self) -> bool {
        self.drain.load(Ordering::Acquire)
    }

    pub(super) fn shall_stop(&self) -> bool {
        self.stop.load(Ordering::Acquire)
    }

    /// What the worker shows.
    pub fn status(&self) -> &Status {
        &self.status
    }
}

impl Status {
    /// The generation (of `ConfigStorage::generation`) whose binds are in force.
    pub fn generation(&self) -> Option<u64> {
        self.generation.load(Ordering::Acquire).checked_sub(1)
    }

    /// What became of a bind of the Snapshot of [`Status::generation`], by its index there. Read
    /// the generation before and after: when it is the same, the results are its own.
    pub fn bind(&self, index: u32) -> Result<(), Errno> {
        match self.binds[index as usize].load(Ordering::Acquire) {
            0 => Ok(()),
            errno => Err(Errno(errno)),
        }
    }

    /// One counter, by its place in [`Counters::NAMES`].
    pub fn counter(&self, place: usize) -> u64 {
        self.counters[place].load(Ordering::Relaxed)
    }

    /// A counter by its name in [`Counters::NAMES`]; None when there is none.
    pub fn counter_named(&self, name: &str) -> Option<u64> {
        let place = Counters::NAMES.iter().position(|n| *n == name)?;
        Some(self.counter(place))
    }

    /// Whether a drain is complete.
    pub fn is_drained(&self) -> bool {
        self.is_drained.load(Ordering::Acquire)
    }

    /// Whether the worker's loop has returned.
    pub fn has_ended(&self) -> bool {
        self.has_ended.load(Ordering::Acquire)
    }

    /// Copies the counters; the binds too when they changed since `seen`. The new version seen.
    pub(super) fn publish(&self, worker: &Worker, seen: u64) -> u64 {
        for (place, value) in self.counters.iter().zip(worker.counters().values()) {
            place.store(value, Ordering::Relaxed);
        }
        self.is_drained.store(worker.is_drained(), Ordering::Release);
        let version = worker.binds().version();
        if version == seen {
            return seen;
        }
        // Nothing is claimed while the results are being written.
        self.generation.store(0, Ordering::Release);
        for (place, result) in self.binds.iter().zip(worker.binds().results()) {
            place.store(result.err().map_or(0, |errno| errno.0), Ordering::Release);
        }
        self.generation.store(worker.generation().map_or(0, |g| g + 1), Ordering::Release);
        version
    }

    pub(super) fn ended(&self) {
        self.has_ended.store(true, Ordering::Release);
    }
}
