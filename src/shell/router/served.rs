//! What the router serves, as several threads see it: identity, source, and the file thread's bell.
//!
//! In: whoever swaps (admin thread, standalone's controller thread). Out: the report, /readyz, and
//! the file thread, which saves what is new.

use crate::config::{Identity, Source};
use std::sync::{Condvar, Mutex, MutexGuard};

/// What is served.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Served {
    /// Its identity.
    pub identity: Identity,
    /// Where it came from.
    pub source: Source,
    /// Rises with each change; the file thread compares.
    pub change: u64,
    /// The process ends.
    pub ending: bool,
}

/// [`Served`] behind a lock that is held for a copy only.
#[derive(Debug, Default)]
pub struct ServedCell {
    served: Mutex<Served>,
    changed: Condvar,
}

impl ServedCell {
    fn lock(&self) -> MutexGuard<'_, Served> {
        self.served.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// What is served.
    pub fn get(&self) -> Served {
        *self.lock()
    }

    /// Something new is served.
    pub fn set(&self, identity: Identity, source: Source) {
        let mut served = self.lock();
        (served.identity, served.source) = (identity, source);
        served.change += 1;
        self.changed.notify_all();
    }

    /// The process ends: waiters return.
    pub fn end(&self) {
        self.lock().ending = true;
        self.changed.notify_all();
    }

    /// Waits until the change is another one than `seen`, or the process ends.
    pub fn wait_beyond(&self, seen: u64) -> Served {
        let mut served = self.lock();
        while served.change == seen && !served.ending {
            served = self.changed.wait(served).unwrap_or_else(|poisoned| poisoned.into_inner());
        }
        *served
    }

    /// Waits for at most `ms`, or until the process ends.
    pub fn pause(&self, ms: u64) {
        let served = self.lock();
        let limit = core::time::Duration::from_millis(ms);
        if !served.ending {
            let waited = self.changed.wait_timeout_while(served, limit, |s| !s.ending);
            drop(waited.unwrap_or_else(|poisoned| poisoned.into_inner()));
        }
    }
}
