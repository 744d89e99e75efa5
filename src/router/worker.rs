//! The worker: one thread's share of the data plane as a machine without IO.
//!
//! In: a driver's events, each with a [`Turn`]. Out: calls of the driver's [`Io`]. This file holds
//! the worker's parts and takes the events apart by the state of their connection; what a request
//! does is in `client`, what a response does in `upstream`, how both end in `finish`.
//!
//! ```text
//! on_accept -> Idle -> (Head) -> Busy -> Idle ... -> Linger -> Closing -> on_closed
//!                                 |  exchange
//!                    Connecting -> Active -> Pooled ... -> Closing -> on_closed
//! ```

use super::binds::Binds;
use super::connection::{Connections, NONE, State};
use super::counters::Counters;
use super::endpoints::Endpoints;
use super::exchange::{Exchanges, Phase};
use super::io::{BindId, Chunk, Close, ConnId, End, Errno, Io, Sent};
use super::timers::{Tick, Wheel};
use crate::config::Snapshot;
use crate::config::storage::Slot;
use crate::limits::*;
use crate::stdx::fnv::Fnv;
use crate::stdx::marks::{Mark, sometimes};
use crate::stdx::{Instant, Prng, Table, touch};
use core::net::SocketAddr;

/// What a worker needs besides the event: its driver, the configuration of this turn, the time.
#[derive(Debug)]
pub struct Turn<'a, I> {
    /// The driver.
    pub io: &'a mut I,
    /// The configuration. Nothing of it outlives the turn.
    pub slot: &'a Slot,
    /// Rises with each configuration (`config::storage`).
    pub generation: u64,
    /// The time, read once for the turn.
    pub now: Instant,
}

/// What an operator chose.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    /// Endpoints on loopback may be connected to: standalone, tests.
    pub allow_loopback: bool,
    /// Where the process listens besides the binds: its admin port first, whose address also is
    /// the one that binds on any address are reached at.
    pub own: [Option<SocketAddr>; 2],
}

/// Tells a listener across configurations, by Gateway and section; never 0.
pub(super) fn listener_tag(snapshot: &Snapshot, listener: u32) -> u64 {
    let listener = &snapshot.listeners[listener];
    let mut hash = Fnv::new();
    hash.write(snapshot.text.bytes(listener.gateway));
    hash.write(b"/");
    hash.write(snapshot.text.bytes(listener.section));
    hash.finish() | 1
}

/// Whether another listener has this host than the one with the tag `shown`, whose certificate the
/// client was shown (GEP-3567); 0: it was shown none.
pub(super) fn is_misdirected(slot: &Slot, bind: u32, shown: u64, host: &[u8]) -> bool {
    let its = (shown != 0).then(|| slot.table().listener(&slot.snapshot, bind, host)).flatten();
    its.is_some_and(|its| listener_tag(&slot.snapshot, its) != shown)
}

/// A head as it came, what every head grows by, and what filters may add to it.
const HEAD_SCRATCH: usize = (MAX_HEAD_BYTES
    + IO_BUFFER_HEADROOM_BYTES
    + MAX_EDIT_BYTES
    + MAX_PATH_MATCH_BYTES
    + MAX_NAME_BYTES) as usize;

/// One worker. Megabytes: made of zeroed memory, then [`Worker::init`].
#[derive(Debug)]
pub struct Worker {
    pub(super) conns: Connections,
    pub(super) exchanges: Exchanges,
    pub(super) endpoints: Endpoints,
    pub(super) wheel: Wheel,
    pub(super) binds: Binds,
    pub(super) counters: Counters,
    pub(super) prng: Prng,
    /// Of the turn.
    pub(super) tick: Tick,
    /// Adopted last.
    generation: u64,
    has_configuration: bool,
    pub(super) allow_loopback: bool,
    pub(super) own: Table<SocketAddr, 2>,
    pub(super) max_body_bytes: u64,
    pub(super) is_draining: bool,
    drain_since: Tick,
    /// No eviction before.
    evict_at: Tick,
    /// Where the next idle connection to close is looked for.
    pub(super) idle_hand: u32,
    /// Where the next client to make way is looked for, and not before when.
    client_hand: u32,
    make_way_at: Tick,
    /// Where a canonical path is written.
    pub(super) path: [u8; MAX_URI_BYTES as usize],
    /// Where a head is rendered.
    pub(super) head: [u8; HEAD_SCRATCH],
}

crate::zeroed_struct!(Worker {
    conns: Connections,
    exchanges: Exchanges,
    endpoints: Endpoints,
    wheel: Wheel,
    binds: Binds,
    counters: Counters,
    prng: Prng,
    tick: Tick,
    generation: u64,
    has_configuration: bool,
    allow_loopback: bool,
    own: Table<SocketAddr, 2>,
    max_body_bytes: u64,
    is_draining: bool,
    drain_since: Tick,
    evict_at: Tick,
    idle_hand: u32,
    client_hand: u32,
    make_way_at: Tick,
    path: [u8; MAX_URI_BYTES as usize],
    head: [u8; HEAD_SCRATCH],
});

impl Worker {
    /// Makes zeroed memory a worker. Touches what the capacities need.
    pub fn init(&mut self, capacities: &Capacities, options: Options, seed: u64, now: Instant) {
        self.conns.init(capacities.max_connections);
        self.exchanges.init(capacities);
        self.endpoints.init(capacities.max_connections);
        self.binds.init();
        self.prng = Prng::new(seed);
        self.tick = Tick::of(now);
        touch(&mut self.wheel);
        self.wheel.start(self.tick);
        touch(&mut self.path);
        touch(&mut self.head);
        self.allow_loopback = options.allow_loopback;
        self.own.set_cap(2);
        for own in options.own.into_iter().flatten() {
            self.own.push(own).expect("as many as there may be");
        }
        self.max_body_bytes = u64::from(capacities.max_request_body_mib) << 20;
        self.evict_at = self.tick;
        self.make_way_at = self.tick;
    }

    /// Bytes at these capacities: the worker's line of the memory plan, without the driver's.
    pub fn bytes(capacities: &Capacities) -> u64 {
        let connections = capacities.max_connections;
        let fixed = size_of::<Wheel>() + size_of::<Binds>() + HEAD_SCRATCH + MAX_URI_BYTES as usize;
        Connections::bytes(connections)
            + Exchanges::bytes(capacities)
            + Endpoints::bytes(connections)
            + fixed as u64
    }

    /// Begins a turn: adopts the configuration when it is a new one. Before any event of the turn.
    pub fn begin<I: Io>(&mut self, turn: &mut Turn<'_, I>) {
        self.tick = Tick::of(turn.now);
        if self.has_configuration && self.generation == turn.generation {
            return;
        }
        assert!(!self.has_configuration || turn.generation > self.generation);
        self.has_configuration = true;
        self.generation = turn.generation;
        self.counters.swaps += 1;
        self.binds.adopt(turn.io, &turn.slot.snapshot, self.tick);
        // Idle connections to endpoints that nobody names any more have no further use.
        for index in 0..self.conns.cap() {
            if self.conns[index].state == State::Pooled {
                let address = self.endpoints.address(self.conns[index].endpoint);
                if !turn.slot.table().has_endpoint(&turn.slot.snapshot, &address) {
                    self.close(turn.io, index, Close::Now);
                }
            }
        }
    }

    /// Whether the driver may accept: there is a slot for another client.
    pub fn can_accept(&self) -> bool {
        self.conns.has_room_for_client()
    }

    /// A connection came in on a bind. None: there is no room, the driver closes it; it had better
    /// ask [`Worker::can_accept`] before it accepts.
    pub fn on_accept<I: Io>(
        &mut self,
        turn: &mut Turn<'_, I>,
        bind: BindId,
        from: SocketAddr,
    ) -> Option<ConnId> {
        debug_assert_eq!(self.tick, Tick::of(turn.now), "begin comes first");
        let Some(index) = self.conns.add_client(from.ip(), bind.0, self.tick) else {
            self.counters.exhausted += 1;
            return None;
        };
        assert!(self.binds.client_came(bind), "the driver listens only where it was told to");
        self.counters.accepted += 1;
        if self.binds.is_tls(bind) {
            self.conns[index].state = State::Handshake;
        }
        self.rearm(index);
        self.keep_room(turn.io);
        Some(self.conns.id(index))
    }

    /// A ClientHello came, with this server name (empty: none): the listener that it chooses, whose
    /// certificates to use. None: no listener has that name, and the driver ends the handshake.
    pub fn on_hello<I: Io>(
        &mut self,
        turn: &mut Turn<'_, I>,
        id: ConnId,
        name: &[u8],
    ) -> Option<u32> {
        let index = self.conns.live(id)?;
        assert!(self.conns[index].state == State::Handshake);
        let bind = self.binds.index(self.conns[index].bind)?;
        let snapshot = &turn.slot.snapshot;
        let listener = turn.slot.table().listener(snapshot, bind, name)?;
        self.conns.set_listener(index, listener_tag(snapshot, listener));
        Some(listener)
    }

    /// The driver has no TLS session for this one: another client that has one makes way, if there
    /// is any that may. Whether a session is free now.
    pub fn on_no_session<I: Io>(&mut self, turn: &mut Turn<'_, I>, id: ConnId) -> bool {
        let made =
            self.make_way(turn.io, |conns, index| conns.listener(index) != 0 && index != id.index);
        self.counters.exhausted += u64::from(!made);
        made
    }

    /// Closes a client that is between requests, or whose handshake does not end: of some that may
    /// go, the one that waits for longest. False: none may.
    fn make_way<I: Io>(&mut self, io: &mut I, may_go: impl Fn(&Connections, u32) -> bool) -> bool {
        const ENOUGH: usize = 8;
        let waits = |index: u32| {
            let conn = &self.conns[index];
            let least = match conn.state {
                State::Idle if !conn.is_queued && conn.held.is_none() => EVICT_IDLE_MS,
                State::Handshake => EVICT_HANDSHAKE_MS,
                _ => return None,
            };
            let ticks = self.tick.since(conn.since);
            let is_due = conn.since.plus_ms(least).is_due(self.tick);
            // The beginning of a request may have come already.
            let is_idle =
                conn.state == State::Handshake || io.input_since(self.conns.id(index)).is_none();
            (is_due && is_idle && may_go(&self.conns, index)).then_some((index, ticks))
        };
        let cap = self.conns.cap();
        // From where the last one was found: a full table is not searched each time.
        let places = (self.client_hand..cap).chain(0..self.client_hand);
        let some = places.filter_map(waits).take(ENOUGH);
        let Some((index, _)) = some.max_by_key(|(_, ticks)| *ticks) else { return false };
        self.client_hand = (index + 1) % cap;
        sometimes(Mark::ClientMakesWay);
        self.counters.idle_evictions += 1;
        self.close(io, index, Close::Now);
        true
    }

    /// The handshake is through: requests may come.
    pub fn on_secured<I: Io>(&mut self, turn: &mut Turn<'_, I>, id: ConnId) {
        debug_assert_eq!(self.tick, Tick::of(turn.now), "begin comes first");
        let Some(index) = self.conns.live(id) else { return };
        assert!(self.conns.listener(index) != 0, "a hello came first");
        self.counters.handshakes += 1;
        let conn = &mut self.conns[index];
        assert!(conn.state == State::Handshake);
        (conn.state, conn.since) = (State::Idle, self.tick);
        self.rearm(index);
    }

    /// A connection of [`Io::connect`] is open.
    pub fn on_connected<I: Io>(&mut self, turn: &mut Turn<'_, I>, id: ConnId) {
        let Some(index) = self.conns.live(id) else { return };
        if self.conns[index].state == State::Connecting {
            self.connected(turn, index);
            self.settle_client_of(turn, index);
        }
    }

    /// A connection of [`Io::connect`] will not open. The id is still closed by the core.
    pub fn on_connect_failed<I: Io>(&mut self, turn: &mut Turn<'_, I>, id: ConnId, _errno: Errno) {
        let Some(index) = self.conns.live(id) else { return };
        if self.conns[index].state == State::Connecting {
            let client = self.client_of(index);
            self.connect_failed(turn, index, 503);
            self.settle(turn, client);
        }
    }

    /// Bytes came.
    pub fn on_data<I: Io>(&mut self, turn: &mut Turn<'_, I>, id: ConnId, chunk: Chunk) {
        let Some(index) = self.conns.live(id) else {
            turn.io.put(chunk.buf);
            return;
        };
        if self.conns[index].is_client() {
            self.counters.client_bytes_in += u64::from(chunk.len);
            self.client_input(turn, index, chunk);
        } else {
            self.counters.upstream_bytes_in += u64::from(chunk.len);
            let client = self.client_of(index);
            self.upstream_input(turn, index, chunk);
            self.settle(turn, client);
        }
    }

    /// The peer ended its direction.
    pub fn on_end<I: Io>(&mut self, turn: &mut Turn<'_, I>, id: ConnId, end: End) {
        let Some(index) = self.conns.live(id) else { return };
        self.conns[index].has_ended = true;
        if self.conns[index].is_client() {
            self.client_ended(turn, index, end);
        } else {
            let client = self.client_of(index);
            self.upstream_ended(turn, index, end);
            self.settle(turn, client);
        }
    }

    /// Output was refused: the peer reads no more. What was queued is gone.
    pub fn on_write_failed<I: Io>(&mut self, turn: &mut Turn<'_, I>, id: ConnId) {
        let Some(index) = self.conns.live(id) else { return };
        self.conns[index].is_queued = false;
        if self.conns[index].is_client() {
            self.client_ended(turn, index, End::Reset);
        } else if self.conns[index].state == State::Active
            && self.exchanges[self.conns[index].exchange].phase == Phase::Tunnel
        {
            self.truncate(turn.io, self.conns[index].exchange);
        } else if self.conns[index].state == State::Active {
            sometimes(Mark::UpstreamDeaf);
            // Its response may still be there to read, or its end.
            self.exchanges[self.conns[index].exchange].is_upstream_deaf = true;
            self.settle_client_of(turn, index);
        } else {
            self.close(turn.io, index, Close::Now);
        }
    }

    /// All output of a connection is out.
    pub fn on_drained<I: Io>(&mut self, turn: &mut Turn<'_, I>, id: ConnId) {
        let Some(index) = self.conns.live(id) else { return };
        self.conns[index].is_queued = false;
        self.conns[index].since = self.tick;
        match self.conns[index].state {
            State::Linger if self.conns[index].has_ended => {
                self.close(turn.io, index, Close::Now);
            }
            State::Busy => {
                let upstream = self.exchanges[self.conns[index].exchange].upstream;
                if upstream != NONE {
                    self.settle_upstream(turn, upstream);
                }
                self.settle(turn, index);
            }
            State::Active => self.settle_client_of(turn, index),
            _ => self.settle(turn, index),
        }
    }

    /// The driver has let go of a closed connection.
    pub fn on_closed(&mut self, id: ConnId) {
        if self.conns.is_closing(id) {
            self.conns.release(id.index);
        }
    }

    /// A read found no buffer: the connection that has made no progress for longest is closed, at
    /// most one per tick.
    pub fn on_starved<I: Io>(&mut self, turn: &mut Turn<'_, I>) {
        sometimes(Mark::Starved);
        self.counters.exhausted += 1;
        if !self.evict_at.is_due(self.tick) {
            return;
        }
        self.evict_at = Tick(self.tick.0.wrapping_add(1));
        let least = (EVICT_STALLED_MS / TIMER_TICK_MS) as i32;
        let oldest = (0..self.conns.cap())
            .filter_map(|index| Some((index, self.stalled(turn.io, index)?)))
            .max_by_key(|(_, ticks)| *ticks);
        if let Some((index, _)) = oldest.filter(|(_, ticks)| *ticks >= least) {
            sometimes(Mark::StalledClientIsCut);
            self.counters.evictions += 1;
            self.cut_client(turn, index);
        }
    }

    /// For how many ticks a client has held buffers without progress; None: it holds none.
    fn stalled<I: Io>(&self, io: &I, index: u32) -> Option<i32> {
        let conn = &self.conns[index];
        if !conn.is_client() {
            return None;
        }
        let own = self.uses_buffers(index).then_some(conn.since);
        let drivers = io.input_since(self.conns.id(index)).map(Tick::of);
        own.into_iter().chain(drivers).map(|since| self.tick.since(since)).max()
    }

    /// Whether buffers are in use for a client, on either side.
    fn uses_buffers(&self, index: u32) -> bool {
        let conn = &self.conns[index];
        // The driver may hold the beginning of a head even after we have answered 408.
        let reads = matches!(conn.state, State::Head | State::Linger);
        let own = conn.is_queued || conn.held.is_some() || reads;
        if own || conn.state != State::Busy {
            return own;
        }
        let exchange = &self.exchanges[conn.exchange];
        exchange.first.is_some()
            || exchange.upstream != NONE && {
                let upstream = &self.conns[exchange.upstream];
                upstream.is_queued || upstream.held.is_some()
            }
    }

    /// Ends a turn: timers whose time has come, binds that are tried again.
    pub fn tick<I: Io>(&mut self, turn: &mut Turn<'_, I>) {
        while let Some(index) = self.wheel.pop(&mut self.conns, self.tick) {
            match self.deadline(index) {
                Some(deadline) if deadline.is_due(self.tick) => self.expire(turn, index),
                Some(deadline) => self.wheel.arm(&mut self.conns, index, deadline, self.tick),
                None => {}
            }
        }
        if self.binds.next_retry().is_some_and(|at| at.is_due(self.tick)) {
            self.binds.retry(turn.io, self.tick);
        }
        if self.make_way_due().is_some_and(|at| at.is_due(self.tick)) {
            let made = self.make_way(turn.io, |_, _| true);
            // One in a tick, so that a burst of new ones does not end all that rest.
            self.make_way_at = self.tick.plus_ms(if made { 0 } else { EVICT_IDLE_MS / 4 });
        }
    }

    /// When a client shall make way: while few more may come in.
    fn make_way_due(&self) -> Option<Tick> {
        (!self.conns.has_spare_clients()).then_some(self.make_way_at)
    }

    /// When the driver must call [`Worker::tick`] at the latest.
    pub fn timeout(&self, now: Instant) -> Instant {
        let ahead = |at: Tick| {
            let ticks = at.since(Tick::of(now)).max(0) as u64;
            Instant(now.0 + ticks * u64::from(TIMER_TICK_MS) * 1_000_000)
        };
        let others = [self.binds.next_retry(), self.make_way_due()];
        others.into_iter().flatten().map(ahead).fold(self.wheel.next(now), Instant::min)
    }

    /// Begins to drain: nothing is accepted any more, what runs finishes with `Connection: close`,
    /// idle clients may bring one more request for DRAIN_IDLE_MS.
    pub fn drain<I: Io>(&mut self, turn: &mut Turn<'_, I>) {
        if self.is_draining {
            return;
        }
        self.is_draining = true;
        self.drain_since = self.tick;
        self.binds.close_all(turn.io);
        for index in 0..self.conns.cap() {
            match self.conns[index].state {
                State::Pooled => self.close(turn.io, index, Close::Now),
                State::Idle => self.rearm(index),
                _ => {}
            }
        }
    }

    /// The deadline of a drain: what runs, or has output that waits, is cut so that nobody takes it
    /// for whole. The end of the process would look like the end of a stream.
    pub fn cut_all<I: Io>(&mut self, turn: &mut Turn<'_, I>) {
        for index in 0..self.conns.cap() {
            let conn = &self.conns[index];
            if conn.is_client() && (conn.state == State::Busy || conn.is_queued) {
                self.cut_client(turn, index);
            }
        }
    }

    /// Whether nothing is left to do after [`Worker::drain`].
    pub fn is_drained(&self) -> bool {
        self.is_draining && self.conns.in_use() == 0
    }

    /// The configuration generation whose binds are in force.
    pub fn generation(&self) -> Option<u64> {
        if self.has_configuration { Some(self.generation) } else { None }
    }

    /// Binds and what became of them.
    pub fn binds(&self) -> &Binds {
        &self.binds
    }

    /// What was counted.
    pub fn counters(&self) -> Counters {
        let clients = u64::from(self.conns.clients());
        let upstreams = u64::from(self.endpoints.connections());
        Counters { clients, upstreams, ..self.counters }
    }

    /// Sends, and remembers whether output waits.
    pub(super) fn send<I: Io>(&mut self, io: &mut I, index: u32, chunk: Chunk) {
        let len = u64::from(chunk.len);
        assert!(len > 0, "nothing to send");
        let conn = &mut self.conns[index];
        if conn.is_client() {
            self.counters.client_bytes_out += len;
        } else {
            self.counters.upstream_bytes_out += len;
        }
        let id = ConnId { index, generation: conn.generation };
        if io.send(id, chunk) == Sent::Queued {
            conn.is_queued = true;
        }
    }

    /// When a connection wants to be looked at, by its state.
    pub(super) fn deadline(&self, index: u32) -> Option<Tick> {
        let conn = &self.conns[index];
        if conn.is_stalled {
            return Some(self.tick);
        }
        match conn.state {
            State::Free | State::Closing => None,
            State::Idle if self.is_draining && !conn.is_queued => {
                let late = conn.since.since(self.drain_since) > 0;
                let from = if late { conn.since } else { self.drain_since };
                Some(from.plus_ms(DRAIN_IDLE_MS))
            }
            State::Idle => Some(conn.since.plus_ms(IDLE_TIMEOUT_MS)),
            State::Handshake => Some(conn.since.plus_ms(HANDSHAKE_TIMEOUT_MS)),
            State::Head => Some(conn.since.plus_ms(HEADER_TIMEOUT_MS)),
            State::Linger => Some(conn.since.plus_ms(LINGER_TIMEOUT_MS)),
            State::Connecting => Some(conn.since.plus_ms(CONNECT_TIMEOUT_MS)),
            State::Pooled => Some(conn.since.plus_ms(UPSTREAM_IDLE_TIMEOUT_MS)),
            State::Busy => {
                let exchange = &self.exchanges[conn.exchange];
                if exchange.phase == Phase::Tunnel {
                    return Some(conn.since.plus_ms(TUNNEL_IDLE_TIMEOUT_MS));
                }
                let flows = exchange.phase == Phase::Responding || !exchange.request.is_done();
                let idle = conn.since.plus_ms(IDLE_TIMEOUT_MS);
                match exchange.deadline {
                    Some(deadline) if flows => Some(deadline.min(idle)),
                    Some(deadline) => Some(deadline),
                    None if flows => Some(idle),
                    None => None,
                }
            }
            State::Active => {
                let exchange = &self.exchanges[conn.exchange];
                let waits = exchange.phase == Phase::Waiting && exchange.request.is_done();
                if waits && exchange.backend_ms != u32::MAX {
                    Some(conn.since.plus_ms(exchange.backend_ms))
                } else {
                    None
                }
            }
        }
    }

    /// Puts a connection into the wheel as its state asks.
    pub(super) fn rearm(&mut self, index: u32) {
        if let Some(deadline) = self.deadline(index) {
            self.wheel.arm(&mut self.conns, index, deadline, self.tick);
        }
    }

    /// The client of an upstream's exchange, or [`NONE`].
    pub(super) fn client_of(&self, upstream: u32) -> u32 {
        match self.conns[upstream].exchange {
            NONE => NONE,
            exchange => self.exchanges[exchange].client,
        }
    }

    /// Checks everything against everything; for tests and the simulator, after each event.
    pub fn check_invariants(&self) {
        let (mut clients, mut in_use, mut exchanges, mut closing) = (0, 0, 0, 0);
        for (index, conn) in self.conns.iter() {
            in_use += u32::from(conn.state != State::Free);
            clients += u32::from(conn.is_client());
            closing += u32::from(conn.state == State::Closing);
            let serves = matches!(conn.state, State::Busy | State::Connecting | State::Active);
            assert_eq!(serves, conn.exchange != NONE, "{conn:?}");
            let may_hold = matches!(conn.state, State::Idle | State::Busy | State::Active);
            assert!(conn.held.is_none() || may_hold, "{conn:?}");
            if matches!(conn.state, State::Busy) {
                let exchange = &self.exchanges[conn.exchange];
                assert_eq!(exchange.client, index);
                // Without an upstream it waits for a slot.
                assert_eq!(exchange.upstream == NONE, conn.is_stalled, "{conn:?}");
                exchanges += 1;
                if exchange.upstream != NONE {
                    assert_eq!(self.conns[exchange.upstream].exchange, conn.exchange);
                }
            }
            if matches!(conn.state, State::Connecting | State::Active) {
                assert_eq!(self.exchanges[conn.exchange].upstream, index);
            }
            if let Some(deadline) = self.deadline(index) {
                let timer = &conn.timer;
                assert!(timer.is_armed, "no timer: {conn:?}");
                assert!(timer.at.since(deadline) <= 1, "late timer: {conn:?}");
            }
        }
        assert_eq!(in_use, self.conns.in_use());
        assert_eq!(clients, self.conns.clients());
        assert_eq!(closing, self.conns.closing());
        assert_eq!(clients, self.binds.clients());
        assert_eq!(exchanges, self.exchanges.in_use());
        self.endpoints.check_invariants(&self.conns);
    }

    /// Requests on their way.
    pub fn exchanges_in_use(&self) -> u32 {
        self.exchanges.in_use()
    }

    /// Buffers that the core holds (not the driver), for tests that count them.
    pub fn buffers_held(&self) -> u32 {
        let held = self.conns.iter().filter(|(_, c)| c.held.is_some()).count();
        let first = self.exchanges.iter().filter(|(_, e)| e.first.is_some()).count();
        (held + first) as u32
    }
}
