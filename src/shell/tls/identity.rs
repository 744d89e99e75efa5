//! Who this process is to its peers: the folder of `--identity`, read again and again.
//!
//! In: a folder with tls.crt, tls.key and ca.crt, time. Out: the identity to begin connections
//! with. Connections that have begun keep the one they began with, so that a rotation cuts none.
//! Files that do not fit together (a rotation at work) leave the old identity, and are said.

use super::rustls::{ErrorText, TlsSlot};
use super::source::{Parts, Sources};
use crate::limits::{IDENTITY_PEM_BYTES, IDENTITY_PERIOD_MS, IDENTITY_SLOT_BYTES};
use crate::metrics::Metrics;
use crate::shell::log::log;
use crate::shell::memory::SlotPool;
use crate::shell::place::boxed_zeroed;
use crate::stdx::{Duration, Instant, Now, Wall};
use core::sync::atomic::{AtomicU64, Ordering};
use std::boxed::Box;
use std::format;
use std::string::String;
use std::sync::Arc;

const PEM_BYTES: usize = IDENTITY_PEM_BYTES as usize;
/// After files that were no good, or a handshake that failed.
const RETRY_MS: u64 = 1000;

struct Buffers {
    parts: [[u8; PEM_BYTES]; 3],
    /// One block, decoded.
    scratch: [u8; PEM_BYTES],
}

crate::zeroed_struct!(Buffers { parts: [[u8; PEM_BYTES]; 3], scratch: [u8; PEM_BYTES] });

/// What an identity is built by.
pub trait Built: Sized {
    /// From PEM, into memory of `slot`; each block is decoded into `scratch`.
    fn build(slot: TlsSlot, parts: Parts<'_>, scratch: &mut [u8]) -> Result<Self, ErrorText>;
    /// The last second of the own certificate.
    fn until(&self) -> Wall;
}

/// The identity of one thread.
#[expect(missing_debug_implementations, reason = "keys are never printed")]
pub struct Rotating<I> {
    sources: Sources,
    slot: TlsSlot,
    buffers: Box<Buffers>,
    current: I,
    /// Changes with the files.
    number: u64,
    due: Instant,
    /// What was last said of files that are no good.
    complaint: ErrorText,
    until: Until,
}

/// The last second of the own certificate, for whoever shows it.
#[derive(Clone, Debug, Default)]
pub struct Until(Arc<AtomicU64>);

impl Until {
    /// As a Unix time; 0: there is no identity.
    pub fn seconds(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    /// Shows it as a metric.
    pub fn write(&self, metrics: &mut Metrics<'_>) {
        let what = "Unix time until which the own certificate is valid; 0: none";
        metrics.gauge("serval_identity_valid_until_seconds", what, self.seconds());
    }
}

impl<I: Built> Rotating<I> {
    /// Reads the folder for the first time, before the seal.
    pub fn new(folder: &str, now: Now) -> Result<Self, String> {
        let sources = Sources::of_folder(folder);
        let bytes = IDENTITY_SLOT_BYTES as usize;
        // It lives as long as the process, like its thread.
        let pool = Box::leak(Box::new(SlotPool::new(1, bytes, bytes as u32)));
        let slot = pool.take().map(|handle| pool.slot(handle));
        let mut buffers = boxed_zeroed::<Buffers>();
        let Buffers { parts, scratch } = &mut *buffers;
        let read = sources.read(parts.each_mut().map(|part| &mut part[..]), 0);
        let built = read.and_then(|read| {
            let (parts, number) = read.expect("no number is 0");
            Ok((I::build(slot, parts, scratch)?, number))
        });
        let (current, number) =
            built.map_err(|e| format!("--identity {folder}: {}", e.as_str()))?;
        let (until, complaint) = (Until::default(), ErrorText::new());
        let mut made =
            Rotating { sources, slot, buffers, current, number, due: now.mono, complaint, until };
        made.wipe();
        made.taken(now);
        Ok(made)
    }

    /// Bytes it holds: a line of the memory plan.
    pub const fn bytes() -> u64 {
        SlotPool::bytes(1, IDENTITY_SLOT_BYTES as usize) + size_of::<Buffers>() as u64
    }

    /// The identity to begin with.
    pub fn current(&self) -> &I {
        &self.current
    }

    /// Until when the current certificate is valid.
    pub fn until(&self) -> Until {
        self.until.clone()
    }

    /// A handshake failed: perhaps the files have changed.
    pub fn suspect(&mut self, now: Now) {
        self.due = self.due.min(now.mono + Duration::from_millis(RETRY_MS));
    }

    /// Reads the folder again when it is time.
    pub fn refresh(&mut self, now: Now) {
        if now.mono < self.due {
            return;
        }
        self.due = now.mono + Duration::from_millis(IDENTITY_PERIOD_MS.into());
        let Buffers { parts, scratch } = &mut *self.buffers;
        let read = self.sources.read(parts.each_mut().map(|part| &mut part[..]), self.number);
        let built = read.and_then(|read| {
            read.map(|(parts, n)| I::build(self.slot, parts, scratch).map(|i| (i, n))).transpose()
        });
        self.wipe();
        match built {
            Ok(None) => self.complaint.clear(),
            Ok(Some((identity, number))) => {
                (self.current, self.number) = (identity, number);
                self.complaint.clear();
                self.taken(now);
            }
            Err(error) => {
                self.due = now.mono + Duration::from_millis(RETRY_MS);
                if self.complaint.as_str() != error.as_str() {
                    log!(Error, "identity", "the old one stays: {}", error.as_str());
                }
                self.complaint = error;
            }
        }
    }

    fn taken(&mut self, now: Now) {
        self.due = now.mono + Duration::from_millis(IDENTITY_PERIOD_MS.into());
        let until = self.current.until();
        self.until.0.store(until.0, Ordering::Relaxed);
        let text = until.rfc3339();
        log!(Info, "identity", "valid until {}", core::str::from_utf8(&text).unwrap_or(""));
    }

    /// Keys stay nowhere but in the slot.
    fn wipe(&mut self) {
        self.buffers.parts.iter_mut().for_each(|part| part.fill(0));
        self.buffers.scratch.fill(0);
    }
}
