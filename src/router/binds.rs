//! The worker's own table of binds: what it listens on, across configuration swaps.
//!
//! In: the binds of each new Snapshot. Out: sockets opened before others close (make before
//! break), a result per bind for the report, retries with backoff. A connection refers to a place
//! here, which stays as long as it does, so that a swap never changes what a connection came in on.

use super::connection::NONE;
use super::io::{BindId, Errno, Io};
use super::timers::Tick;
use crate::config::snapshot::{Bind, Snapshot};
use crate::limits::{BIND_RETRY_MAX_MS, BIND_RETRY_MIN_MS, MAX_CONFIG_BINDS};
use crate::stdx::Table;
use core::net::{IpAddr, SocketAddr};

/// Those of two Snapshots may be there at once.
pub const MAX_BIND_SLOTS: usize = 2 * MAX_CONFIG_BINDS as usize;

/// No place was left for a bind: all are held by connections of removed ones (EBUSY).
const NO_SLOT: Errno = Errno(16);

#[derive(Clone, Copy, Debug)]
struct BindSlot {
    bind: Bind,
    /// Its index in the current Snapshot, or [`NONE`]: removed.
    index: u32,
    is_open: bool,
    /// Connections that came in on it.
    clients: u32,
    backoff_ms: u32,
    retry_at: Tick,
}

/// What became of one bind of the current Snapshot.
pub type BindResult = Result<(), Errno>;

/// All binds of a worker.
#[derive(Debug)]
pub struct Binds {
    slots: Table<BindSlot, MAX_BIND_SLOTS>,
    /// By index of the current Snapshot.
    results: Table<BindResult, { MAX_CONFIG_BINDS as usize }>,
    /// Rises when a result changes.
    version: u64,
    /// Drain began: nothing is opened any more.
    is_closed: bool,
}

crate::zeroed_struct!(Binds {
    slots: Table<BindSlot, MAX_BIND_SLOTS>,
    results: Table<BindResult, { MAX_CONFIG_BINDS as usize }>,
    version: u64,
    is_closed: bool,
});

impl Binds {
    /// Makes room; must be empty.
    pub fn init(&mut self) {
        self.slots.set_cap(MAX_BIND_SLOTS as u32);
        self.results.set_cap(MAX_CONFIG_BINDS);
    }

    /// Results by index of the current Snapshot.
    pub fn results(&self) -> &[BindResult] {
        self.results.as_slice()
    }

    /// Rises whenever [`Binds::results`] changes.
    pub fn version(&self) -> u64 {
        self.version
    }

    /// Where a bind is in the current Snapshot; None when it was removed.
    pub fn index(&self, place: u16) -> Option<u32> {
        let index = self.slots[u32::from(place)].index;
        if index == NONE { None } else { Some(index) }
    }

    /// Opens what is new, then closes what is gone.
    pub fn adopt<I: Io>(&mut self, io: &mut I, snapshot: &Snapshot, now: Tick) {
        for slot in self.slots.as_mut_slice() {
            slot.index = NONE;
        }
        self.results.clear();
        self.version += 1;
        for (index, bind) in (0u32..).zip(snapshot.binds.as_slice()) {
            let place = self.place_for(bind);
            self.results.push(Err(NO_SLOT)).expect("as many as a Snapshot has");
            if let Some(place) = place {
                self.slots[u32::from(place)].index = index;
                self.open(io, place, now);
            }
        }
        for place in 0..self.slots.len() {
            let slot = &mut self.slots[place];
            if slot.index == NONE && slot.is_open {
                slot.is_open = false;
                io.unlisten(BindId(place as u16));
            }
        }
    }

    /// The place of the same bind, else one that nobody refers to.
    fn place_for(&mut self, bind: &Bind) -> Option<u16> {
        let slots = self.slots.as_slice();
        let same = slots.iter().position(|s| s.bind == *bind);
        let unused = |s: &BindSlot| s.index == NONE && !s.is_open && s.clients == 0;
        let fresh = BindSlot {
            bind: *bind,
            index: NONE,
            is_open: false,
            clients: 0,
            backoff_ms: BIND_RETRY_MIN_MS,
            retry_at: Tick(0),
        };
        match same.or_else(|| slots.iter().position(unused)) {
            Some(place) => {
                if self.slots[place as u32].bind != *bind {
                    self.slots[place as u32] = fresh;
                }
                Some(place as u16)
            }
            None => self.slots.push(fresh).ok().map(|place| place as u16),
        }
    }

    fn open<I: Io>(&mut self, io: &mut I, place: u16, now: Tick) {
        let slot = &mut self.slots[u32::from(place)];
        let mut result = Ok(());
        if !slot.is_open && !self.is_closed {
            result = io.listen(BindId(place), &slot.bind);
            slot.is_open = result.is_ok();
            if slot.is_open {
                slot.backoff_ms = BIND_RETRY_MIN_MS;
            } else {
                slot.retry_at = now.plus_ms(slot.backoff_ms);
                slot.backoff_ms = (slot.backoff_ms * 2).min(BIND_RETRY_MAX_MS);
            }
        }
        if self.results[slot.index] != result {
            self.results[slot.index] = result;
            self.version += 1;
        }
    }

    /// Tries again what failed and whose time has come.
    pub fn retry<I: Io>(&mut self, io: &mut I, now: Tick) {
        for place in 0..self.slots.len() {
            let slot = &self.slots[place];
            let failed = slot.index != NONE && !slot.is_open && !self.is_closed;
            if failed && slot.retry_at.is_due(now) {
                self.open(io, place as u16, now);
            }
        }
    }

    /// When [`Binds::retry`] has something to do.
    pub fn next_retry(&self) -> Option<Tick> {
        if self.is_closed {
            return None;
        }
        let failed = self.slots.as_slice().iter().filter(|s| s.index != NONE && !s.is_open);
        failed.map(|s| s.retry_at).reduce(Tick::min)
    }

    /// Closes all listeners and opens none again: drain begins.
    pub fn close_all<I: Io>(&mut self, io: &mut I) {
        self.is_closed = true;
        for place in 0..self.slots.len() {
            let slot = &mut self.slots[place];
            if slot.is_open {
                slot.is_open = false;
                io.unlisten(BindId(place as u16));
            }
        }
    }

    /// Whether a bind listens at an address. `any`: where those on any address are reached at.
    pub fn listen_at(&self, address: &SocketAddr, any: Option<IpAddr>) -> bool {
        let ip = address.ip().to_canonical();
        let at = |bind: &Bind| {
            let own = bind.address.to_canonical();
            bind.port == address.port() && (own == ip || own.is_unspecified() && any == Some(ip))
        };
        let slots = self.slots.as_slice().iter();
        slots.filter(|s| s.index != NONE || s.is_open).any(|s| at(&s.bind))
    }

    /// A client came in on it; false when no such bind was ever there.
    pub fn client_came(&mut self, bind: BindId) -> bool {
        if u32::from(bind.0) >= self.slots.len() {
            return false;
        }
        self.slots[u32::from(bind.0)].clients += 1;
        true
    }

    /// Whether its connections begin with a TLS handshake.
    pub fn is_tls(&self, bind: BindId) -> bool {
        self.slots[u32::from(bind.0)].bind.is_tls
    }

    /// A client that came in on it is gone.
    pub fn client_went(&mut self, place: u16) {
        self.slots[u32::from(place)].clients -= 1;
    }

    /// Clients that came in on all binds.
    pub fn clients(&self) -> u32 {
        self.slots.as_slice().iter().map(|s| s.clients).sum()
    }
}
