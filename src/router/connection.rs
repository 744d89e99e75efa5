//! The connection table of a worker: one line of 64 bytes each, clients and upstreams alike.
//!
//! In: connections accepted or opened. Out: slots by index, handles with generations. What a
//! request rarely needs (the client's address as text) lies apart.

use super::io::{Buf, Chunk, ConnId};
use super::timers::Tick;
use crate::limits::MAX_CONNECTIONS;
use crate::stdx::Table;
use crate::stdx::text::Truncating;
use core::fmt::Write;
use core::net::IpAddr;
use core::ops::{Index, IndexMut};
use static_assertions::const_assert_eq;

/// No index.
pub const NONE: u32 = u32::MAX;

/// What a connection is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Not in use.
    Free,
    /// Client: the TLS handshake runs; the driver has it.
    Handshake,
    /// Client: between requests.
    Idle,
    /// Client: part of a request's head has arrived; the driver holds it for the next read.
    Head,
    /// Client: a request is with an exchange.
    Busy,
    /// Client: everything is said and our direction ended; what still comes is dropped.
    Linger,
    /// Upstream: opening, for an exchange.
    Connecting,
    /// Upstream: serves an exchange.
    Active,
    /// Upstream: idle in its endpoint's pool.
    Pooled,
    /// Closed on our side; the driver has not let go yet.
    Closing,
}

/// A connection's place in the timer wheel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timer {
    /// The tick at which it comes up.
    pub at: Tick,
    /// Next in the list of that tick.
    pub next: u32,
    /// Previous in the list of that tick.
    pub prev: u32,
    /// Whether it is in the wheel.
    pub is_armed: bool,
}

/// One connection, in one cache line.
#[derive(Debug)]
#[repr(C, align(64))]
pub struct Conn {
    /// Of the handle.
    pub generation: u32,
    /// What it is doing.
    pub state: State,
    /// Reading is paused at the driver.
    pub is_paused: bool,
    /// The driver has output of ours that is not out.
    pub is_queued: bool,
    /// The peer has ended its direction.
    pub has_ended: bool,
    /// Upstream: had served another exchange before this one.
    pub is_reused: bool,
    /// Look at the held input again at the next tick: there was no buffer, or it was enough.
    pub is_stalled: bool,
    /// Client: number of its bind in the worker's table.
    pub bind: u16,
    /// Its exchange, or [`NONE`].
    pub exchange: u32,
    /// Upstream: its endpoint.
    pub endpoint: u32,
    /// Input received but not worked on, because what it needs is not ready.
    pub held: Option<Buf>,
    /// Where it begins.
    pub held_start: u16,
    /// Bytes of it.
    pub held_len: u16,
    /// Client: bytes of an incomplete head that were looked at already.
    pub scanned: u16,
    /// When the state began, or when a byte last moved in a body.
    pub since: Tick,
    /// Next in the pool of its endpoint, or in the list of free slots.
    pub next: u32,
    /// Previous in the pool.
    pub prev: u32,
    /// In the timer wheel.
    pub timer: Timer,
}

const_assert_eq!(size_of::<Conn>(), 64);

impl Conn {
    const FREE: Conn = Conn {
        generation: 0,
        state: State::Free,
        is_paused: false,
        is_queued: false,
        has_ended: false,
        is_reused: false,
        is_stalled: false,
        bind: 0,
        exchange: NONE,
        endpoint: NONE,
        held: None,
        held_start: 0,
        held_len: 0,
        scanned: 0,
        since: Tick(0),
        next: NONE,
        prev: NONE,
        timer: Timer { at: Tick(0), next: NONE, prev: NONE, is_armed: false },
    };

    /// Whether it is a client's.
    pub fn is_client(&self) -> bool {
        matches!(
            self.state,
            State::Handshake | State::Idle | State::Head | State::Busy | State::Linger
        )
    }

    /// Keeps input for later; there must be none yet.
    pub fn hold(&mut self, chunk: Chunk) {
        assert!(self.held.is_none(), "one chunk is held at most");
        // Buffers are at most 64 KiB (limits.rs), so places in them fit.
        (self.held_start, self.held_len) = (chunk.start as u16, chunk.len as u16);
        self.held = Some(chunk.buf);
    }

    /// The input kept for later.
    pub fn take_held(&mut self) -> Option<Chunk> {
        let buf = self.held.take()?;
        let (start, len) = (u32::from(self.held_start), u32::from(self.held_len));
        Some(Chunk { buf, start, len })
    }
}

/// A client's address as X-Forwarded-For has it, and what its TLS handshake settled.
#[derive(Clone, Copy, Debug)]
struct Peer {
    /// Tells the listener that the server name chose; 0: without TLS.
    listener: u64,
    len: u8,
    text: [u8; 47],
}

const_assert_eq!(size_of::<Peer>(), 56);

/// All connections of a worker. Clients take at most half of the slots, so that each can have an
/// upstream.
#[derive(Debug)]
pub struct Connections {
    slots: Table<Conn, { MAX_CONNECTIONS as usize }>,
    peers: Table<Peer, { MAX_CONNECTIONS as usize }>,
    /// First free slot plus one; 0: none.
    free: u32,
    in_use: u32,
    clients: u32,
    closing: u32,
}

crate::zeroed_struct!(Connections {
    slots: Table<Conn, { MAX_CONNECTIONS as usize }>,
    peers: Table<Peer, { MAX_CONNECTIONS as usize }>,
    free: u32,
    in_use: u32,
    clients: u32,
    closing: u32,
});

impl Connections {
    /// Bytes at this capacity, for the memory plan.
    pub fn bytes(cap: u32) -> u64 {
        u64::from(cap) * (size_of::<Conn>() + size_of::<Peer>()) as u64
    }

    /// Makes `cap` free slots; the table must be empty. Touches their memory.
    pub fn init(&mut self, cap: u32) {
        assert!(self.slots.is_empty() && cap >= 4);
        self.slots.set_cap(cap);
        self.peers.set_cap(cap);
        for index in 0..cap {
            let next = if index + 1 < cap { index + 2 } else { 0 };
            let free = Conn { next: next.wrapping_sub(1), ..Conn::FREE };
            self.slots.push(free).expect("within the cap");
            let peer = Peer { listener: 0, len: 0, text: [0; 47] };
            self.peers.push(peer).expect("within the cap");
        }
        self.free = 1;
    }

    /// Slots.
    pub fn cap(&self) -> u32 {
        self.slots.len()
    }

    /// Slots in use.
    pub fn in_use(&self) -> u32 {
        self.in_use
    }

    /// Slots that hold clients.
    pub fn clients(&self) -> u32 {
        self.clients
    }

    /// Slots that wait for the driver to let go.
    pub fn closing(&self) -> u32 {
        self.closing
    }

    /// Whether so many slots are free, one of eight, that idle connections may keep theirs.
    pub fn has_spare_slots(&self) -> bool {
        self.cap() - self.in_use >= (self.cap() / 8).max(1)
    }

    /// Whether another client may come in.
    pub fn has_room_for_client(&self) -> bool {
        self.clients < self.cap() / 2 && self.free != 0
    }

    /// Whether so many more clients may come in, one of eight, that idle ones may stay.
    pub fn has_spare_clients(&self) -> bool {
        let most = self.cap() / 2;
        most - self.clients >= (most / 8).max(1)
    }

    /// A slot for a client; None when there is no room.
    pub fn add_client(&mut self, address: IpAddr, bind: u16, now: Tick) -> Option<u32> {
        if !self.has_room_for_client() {
            return None;
        }
        let index = self.take(State::Idle, now)?;
        self.clients += 1;
        self[index].bind = bind;
        let peer = &mut self.peers[index];
        peer.listener = 0;
        let mut text = Truncating::new(&mut peer.text);
        // An IPv4 client of a socket bound to `::` is an IPv4 client.
        write!(text, "{}", address.to_canonical()).expect("truncates");
        peer.len = text.finish().len() as u8;
        Some(index)
    }

    /// A slot for an upstream; None when there is none.
    pub fn add_upstream(&mut self, exchange: u32, endpoint: u32, now: Tick) -> Option<u32> {
        let index = self.take(State::Connecting, now)?;
        (self[index].exchange, self[index].endpoint) = (exchange, endpoint);
        Some(index)
    }

    fn take(&mut self, state: State, now: Tick) -> Option<u32> {
        let index = self.free.checked_sub(1)?;
        let conn = &mut self.slots[index];
        assert!(conn.state == State::Free && conn.held.is_none());
        self.free = conn.next.wrapping_add(1);
        let generation = conn.generation.wrapping_add(1);
        *conn = Conn { generation, state, since: now, ..Conn::FREE };
        self.in_use += 1;
        Some(index)
    }

    /// Closes a slot until it is released. A client's no longer counts as a client's.
    pub fn begin_closing(&mut self, index: u32) {
        self.clients -= u32::from(self.slots[index].is_client());
        self.slots[index].state = State::Closing;
        self.closing += 1;
    }

    /// Gives a slot back. It must hold nothing and be out of every list.
    pub fn release(&mut self, index: u32) {
        let next = self.free.wrapping_sub(1);
        let conn = &mut self.slots[index];
        assert!(matches!(conn.state, State::Closing | State::Connecting));
        assert!(conn.held.is_none() && !conn.timer.is_armed && conn.exchange == NONE);
        self.closing -= u32::from(conn.state == State::Closing);
        (conn.state, conn.next) = (State::Free, next);
        self.free = index + 1;
        self.in_use -= 1;
    }

    /// The handle of a slot.
    pub fn id(&self, index: u32) -> ConnId {
        ConnId { index, generation: self.slots[index].generation }
    }

    /// The index of a live handle; None when the slot has moved on.
    pub fn live(&self, id: ConnId) -> Option<u32> {
        let conn = self.slots.get(id.index)?;
        let gone = matches!(conn.state, State::Free | State::Closing);
        if conn.generation == id.generation && !gone { Some(id.index) } else { None }
    }

    /// Whether the handle is of a slot that waits for the driver to let go.
    pub fn is_closing(&self, id: ConnId) -> bool {
        let conn = self.slots.get(id.index);
        conn.is_some_and(|c| c.generation == id.generation && c.state == State::Closing)
    }

    /// A client's address as text.
    pub fn peer(&self, index: u32) -> &[u8] {
        let peer = &self.peers[index];
        &peer.text[..usize::from(peer.len)]
    }

    /// What tells the listener that a client's server name chose; 0: without TLS.
    pub fn listener(&self, index: u32) -> u64 {
        self.peers[index].listener
    }

    /// The server name of a client chose this listener.
    pub fn set_listener(&mut self, index: u32, listener: u64) {
        self.peers[index].listener = listener;
    }

    /// All slots, free ones too.
    pub fn iter(&self) -> impl Iterator<Item = (u32, &Conn)> {
        (0..).zip(self.slots.as_slice())
    }
}

impl Index<u32> for Connections {
    type Output = Conn;
    #[inline]
    fn index(&self, index: u32) -> &Conn {
        &self.slots[index]
    }
}

impl IndexMut<u32> for Connections {
    #[inline]
    fn index_mut(&mut self, index: u32) -> &mut Conn {
        &mut self.slots[index]
    }
}
