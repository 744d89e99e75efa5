//! A driver in memory for tests that read as scripts: who sends what, what the other side got.
//!
//! In: what clients and backends do, word by word. Out: what they receive. Every event is followed
//! by a check of the worker's invariants and a count of the buffers.

use super::connection::State;
use super::io::*;
use super::worker::{Options, Turn, Worker};
use crate::config::building::{self, MatchSpec};
use crate::config::snapshot::{Bind, Snapshot};
use crate::config::storage::{ConfigStorage, Reader, Writer};
use crate::limits::Capacities;
use crate::stdx::{Duration, Instant, zeroed_box};
use core::net::SocketAddr;
use std::boxed::Box;
use std::collections::{BTreeMap, VecDeque};
use std::string::String;
use std::vec::Vec;

/// A connection as the script sees it.
pub type Handle = u32;

#[derive(Default)]
struct Wire {
    generation: u32,
    /// What the peer sent and the worker has not got.
    inbox: VecDeque<u8>,
    end: Option<End>,
    is_end_told: bool,
    /// What arrived at the peer.
    outbox: Vec<u8>,
    /// What waits for the peer's window.
    queue: VecDeque<Chunk>,
    window: usize,
    more: Option<Chunk>,
    is_paused: bool,
    is_shut: bool,
    closed: Option<Close>,
    to: Option<SocketAddr>,
}

#[derive(Default)]
pub struct ScriptIo {
    memory: Vec<Vec<u8>>,
    free: Vec<Buf>,
    wires: BTreeMap<u32, Wire>,
    /// Connections that the worker opened and the script has not seen.
    pub opened: VecDeque<Handle>,
    events: VecDeque<(ConnId, Event)>,
    /// Binds in the order of what happened to them: (true: opened, port).
    pub binds: Vec<(bool, u16)>,
    /// Ports at which listening fails.
    pub failing_ports: Vec<u16>,
    bound: BTreeMap<u16, u16>,
    /// Connects fail at once.
    pub no_descriptors: bool,
}

#[derive(Debug)]
enum Event {
    Drained,
    WriteFailed,
    Closed,
}

impl ScriptIo {
    fn wire(&mut self, id: ConnId) -> &mut Wire {
        let wire = self.wires.get_mut(&id.index).expect("a connection of the driver");
        assert_eq!(wire.generation, id.generation, "the core uses live handles");
        assert!(wire.closed.is_none(), "the core says nothing after close");
        wire
    }

    fn flush(&mut self, index: u32) {
        let wire = self.wires.get_mut(&index).unwrap();
        let had = !wire.queue.is_empty();
        while wire.window > 0 {
            let Some(chunk) = wire.queue.front_mut() else { break };
            let len = (chunk.len as usize).min(wire.window);
            let from = chunk.start as usize;
            let bytes = &self.memory[chunk.buf.index() as usize][from..from + len];
            wire.outbox.extend_from_slice(bytes);
            wire.window -= len;
            (chunk.start, chunk.len) = (chunk.start + len as u32, chunk.len - len as u32);
            if chunk.len == 0 {
                self.free.push(wire.queue.pop_front().unwrap().buf);
            }
        }
        if had && wire.queue.is_empty() {
            let id = ConnId { index, generation: wire.generation };
            self.events.push_back((id, Event::Drained));
        }
    }
}

impl Io for ScriptIo {
    fn bytes(&self, buf: &Buf) -> &[u8] {
        &self.memory[buf.index() as usize]
    }
    fn bytes_mut(&mut self, buf: &mut Buf) -> &mut [u8] {
        &mut self.memory[buf.index() as usize]
    }
    fn take(&mut self) -> Option<Buf> {
        self.free.pop()
    }
    fn put(&mut self, buf: Buf) {
        self.free.push(buf);
    }
    fn send(&mut self, id: ConnId, chunk: Chunk) -> Sent {
        let wire = self.wire(id);
        assert!(!wire.is_shut, "nothing is sent after shutdown");
        assert!(chunk.len > 0);
        wire.queue.push_back(chunk);
        let waited = wire.queue.len() > 1;
        self.flush(id.index);
        if !waited && matches!(self.events.back(), Some((i, Event::Drained)) if *i == id) {
            self.events.pop_back();
        }
        if self.wires[&id.index].queue.is_empty() { Sent::Out } else { Sent::Queued }
    }
    fn shutdown(&mut self, id: ConnId) {
        self.wire(id).is_shut = true;
    }
    fn read_more(&mut self, id: ConnId, chunk: Chunk) {
        let wire = self.wire(id);
        assert!(wire.more.is_none());
        wire.more = Some(chunk);
    }
    fn connect(&mut self, id: ConnId, to: SocketAddr) -> Result<(), Errno> {
        if self.no_descriptors {
            return Err(Errno(24));
        }
        let wire =
            Wire { generation: id.generation, window: usize::MAX, to: Some(to), ..Wire::default() };
        assert!(self.wires.insert(id.index, wire).is_none_or(|w| w.closed.is_some()));
        self.opened.push_back(id.index);
        Ok(())
    }
    fn close(&mut self, id: ConnId, how: Close) {
        let wire = self.wire(id);
        wire.closed = Some(how);
        let mut chunks: Vec<_> = wire.queue.drain(..).collect();
        chunks.extend(wire.more.take());
        self.free.extend(chunks.into_iter().map(|c| c.buf));
        self.events.push_back((id, Event::Closed));
    }
    fn pause(&mut self, id: ConnId) {
        let wire = self.wire(id);
        assert!(!wire.is_paused);
        wire.is_paused = true;
    }
    fn resume(&mut self, id: ConnId) {
        let wire = self.wire(id);
        assert!(wire.is_paused);
        wire.is_paused = false;
    }
    fn listen(&mut self, bind: BindId, at: &Bind) -> Result<(), Errno> {
        if self.failing_ports.contains(&at.port) {
            return Err(Errno(98));
        }
        self.binds.push((true, at.port));
        assert!(self.bound.insert(bind.0, at.port).is_none());
        Ok(())
    }
    fn unlisten(&mut self, bind: BindId) {
        let port = self.bound.remove(&bind.0).expect("was listening");
        self.binds.push((false, port));
    }
}

/// A worker with a driver, a configuration and a clock.
pub struct Rig {
    pub worker: Box<Worker>,
    pub io: ScriptIo,
    pub writer: Writer<'static>,
    reader: Reader<'static>,
    pub now: Instant,
    buffers: usize,
    /// Most bytes of one `on_data`.
    pub step: usize,
}

/// Endpoints of the scripts' pool.
pub fn endpoint(n: u8) -> SocketAddr {
    SocketAddr::from(([10, 0, 0, n], 80))
}

/// One listener for all hosts at port 80, one route for all paths, a pool of `endpoints`.
pub fn plain(snapshot: &mut Snapshot, endpoints: u8) {
    let bind = building::bind(snapshot, SocketAddr::from(([0, 0, 0, 0], 80)));
    let listener = building::listener(snapshot, "", 80, &[bind]);
    let addresses: Vec<_> = (1..=endpoints).map(endpoint).collect();
    let pool = building::pool(snapshot, "p", &addresses);
    let all = [MatchSpec::prefix("")];
    building::route(snapshot, "r", &[(listener, "")], &all, &[(pool, 1)]);
}

impl Rig {
    /// With [`plain`] and one endpoint.
    pub fn new() -> Rig {
        Rig::with(|snapshot| plain(snapshot, 1))
    }

    pub fn with(fill: impl FnOnce(&mut Snapshot)) -> Rig {
        Rig::sized(32, 24, fill)
    }

    pub fn sized(connections: u32, buffers: usize, fill: impl FnOnce(&mut Snapshot)) -> Rig {
        Rig::made(connections, buffers, None, fill)
    }

    /// With an admin port at this address.
    pub fn of(admin: Option<SocketAddr>, fill: impl FnOnce(&mut Snapshot)) -> Rig {
        Rig::made(32, 24, admin, fill)
    }

    fn made(
        connections: u32,
        buffers: usize,
        admin: Option<SocketAddr>,
        fill: impl FnOnce(&mut Snapshot),
    ) -> Rig {
        let mut capacities = Capacities::DEFAULT;
        capacities.max_connections = connections;
        capacities.max_request_body_mib = 1;
        let mut storage = zeroed_box::<ConfigStorage>();
        storage.set_caps(&capacities);
        let storage: &'static ConfigStorage = Box::leak(storage);
        let mut worker = zeroed_box::<Worker>();
        let now = Instant(1_000_000_000_000);
        worker.init(&capacities, Options { allow_loopback: false, own: [admin, None] }, 1, now);
        let io = ScriptIo {
            memory: (0..buffers).map(|_| std::vec![0xee; IO_BUFFER_BYTES as usize]).collect(),
            free: (0..buffers as u32).map(Buf::new).collect(),
            ..ScriptIo::default()
        };
        let (writer, reader) = (storage.writer().unwrap(), storage.reader().unwrap());
        let mut rig = Rig { worker, io, writer, reader, now, buffers, step: usize::MAX };
        rig.swap(fill);
        rig
    }

    /// Publishes another configuration and lets the worker adopt it.
    pub fn swap(&mut self, fill: impl FnOnce(&mut Snapshot)) {
        let snapshot = self.writer.begin().expect("all have passed");
        snapshot.clear();
        fill(snapshot);
        self.writer.commit().expect("a valid snapshot");
        self.run();
    }

    /// One turn of the worker around one event, then its checks.
    pub fn turn<R>(&mut self, event: impl FnOnce(&mut Worker, &mut Turn<'_, ScriptIo>) -> R) -> R {
        let (worker, io, now) = (&mut self.worker, &mut self.io, self.now);
        let result = self.reader.turn(|slot, generation| {
            let mut turn = Turn { io, slot, generation, now };
            worker.begin(&mut turn);
            let result = event(worker, &mut turn);
            worker.tick(&mut turn);
            result
        });
        self.reader.acknowledge();
        self.worker.check_invariants();
        let with_driver: usize =
            self.io.wires.values().map(|w| w.queue.len() + usize::from(w.more.is_some())).sum();
        let total = self.io.free.len() + with_driver + self.worker.buffers_held() as usize;
        assert_eq!(total, self.buffers, "buffers balance");
        result
    }

    /// Delivers all that can be delivered.
    pub fn run(&mut self) {
        self.turn(|_, _| ());
        let mut turns = 0;
        loop {
            turns += 1;
            assert!(turns < 1_000_000, "never quiet");
            if let Some((id, event)) = self.io.events.pop_front() {
                self.turn(|worker, turn| match event {
                    Event::Drained => worker.on_drained(turn, id),
                    Event::WriteFailed => worker.on_write_failed(turn, id),
                    Event::Closed => worker.on_closed(id),
                });
            } else if !self.deliver_one() {
                return;
            }
        }
    }

    /// Delivers bytes or an end to some connection that waits for them.
    fn deliver_one(&mut self) -> bool {
        let ready = self.io.wires.iter().find(|(_, w)| {
            let waits = !w.inbox.is_empty() || (w.end.is_some() && !w.is_end_told);
            waits && w.closed.is_none() && !w.is_paused
        });
        let Some((&index, _)) = ready else { return false };
        let wire = self.io.wires.get_mut(&index).unwrap();
        let id = ConnId { index, generation: wire.generation };
        if wire.inbox.is_empty() {
            let end = wire.end.unwrap();
            wire.is_end_told = true;
            self.turn(|worker, turn| worker.on_end(turn, id, end));
            return true;
        }
        let mut chunk = match wire.more.take() {
            Some(chunk) => chunk,
            None => match self.io.free.pop() {
                Some(buf) => Chunk { buf, start: IO_BUFFER_HEADROOM_BYTES, len: 0 },
                None => {
                    self.turn(|worker, turn| worker.on_starved(turn));
                    return false;
                }
            },
        };
        let end = (IO_BUFFER_BYTES - IO_BUFFER_TAILROOM_BYTES) as usize;
        let at = chunk.range().end;
        let len = wire.inbox.len().min(end - at).min(self.step);
        assert!(len > 0, "the core left no room to read into");
        for (place, byte) in self.io.memory[chunk.buf.index() as usize][at..at + len]
            .iter_mut()
            .zip(wire.inbox.drain(..len))
        {
            *place = byte;
        }
        chunk.len += len as u32;
        self.turn(|worker, turn| worker.on_data(turn, id, chunk));
        true
    }

    pub fn advance(&mut self, ms: u64) {
        self.now = self.now + Duration::from_millis(ms);
        self.run();
    }

    /// A client connects at port 80.
    pub fn client(&mut self) -> Handle {
        self.client_at(80).expect("room for a client")
    }

    /// The handshake of a client: its server name, and the listener that it gets.
    pub fn hello(&mut self, client: Handle, name: &str) -> Option<u32> {
        let id = ConnId { index: client, generation: self.io.wires[&client].generation };
        self.turn(|worker, turn| worker.on_hello(turn, id, name.as_bytes()))
    }

    /// The handshake of a client is through.
    pub fn secured(&mut self, client: Handle) {
        let id = ConnId { index: client, generation: self.io.wires[&client].generation };
        self.turn(|worker, turn| worker.on_secured(turn, id));
    }

    /// The driver has no TLS session for a client.
    pub fn no_session(&mut self, client: Handle) -> bool {
        let id = ConnId { index: client, generation: self.io.wires[&client].generation };
        self.turn(|worker, turn| worker.on_no_session(turn, id))
    }

    pub fn client_at(&mut self, port: u16) -> Option<Handle> {
        let bind = *self.io.bound.iter().find(|(_, p)| **p == port).expect("listening").0;
        self.client_on(bind)
    }

    /// A client out of the backlog of a bind that may be closed meanwhile.
    pub fn client_on(&mut self, bind: u16) -> Option<Handle> {
        let from = SocketAddr::from(([192, 0, 2, 7], 1234));
        let id = self.turn(|worker, turn| worker.on_accept(turn, BindId(bind), from))?;
        let wire = Wire { generation: id.generation, window: usize::MAX, ..Wire::default() };
        self.io.wires.insert(id.index, wire);
        Some(id.index)
    }

    /// Puts bytes on a connection; they arrive at once.
    pub fn send(&mut self, handle: Handle, bytes: impl AsRef<[u8]>) {
        self.io.wires.get_mut(&handle).unwrap().inbox.extend(bytes.as_ref());
        self.run();
    }

    /// The peer ends its direction, or resets.
    pub fn end(&mut self, handle: Handle, end: End) {
        self.io.wires.get_mut(&handle).unwrap().end = Some(end);
        self.run();
    }

    /// The peer reads no more.
    pub fn fail_writes(&mut self, handle: Handle) {
        let wire = self.io.wires.get_mut(&handle).unwrap();
        let id = ConnId { index: handle, generation: wire.generation };
        let chunks: Vec<_> = wire.queue.drain(..).collect();
        self.io.free.extend(chunks.into_iter().map(|c| c.buf));
        self.io.events.push_back((id, Event::WriteFailed));
        self.run();
    }

    /// The peer takes so many bytes more, and no others.
    pub fn window(&mut self, handle: Handle, bytes: usize) {
        self.io.wires.get_mut(&handle).unwrap().window = bytes;
        self.io.flush(handle);
        self.run();
    }

    /// What arrived at the peer since the last look.
    pub fn got(&mut self, handle: Handle) -> String {
        let bytes = core::mem::take(&mut self.io.wires.get_mut(&handle).unwrap().outbox);
        String::from_utf8(bytes).expect("text")
    }

    /// The connection that the worker opened next, and where to; it is still opening.
    pub fn opening(&mut self) -> (Handle, SocketAddr) {
        let handle = self.io.opened.pop_front().expect("a connection was opened");
        (handle, self.io.wires[&handle].to.unwrap())
    }

    /// Lets the connection that the worker opened next be accepted.
    pub fn backend(&mut self) -> Handle {
        let (handle, _) = self.opening();
        self.connected(handle);
        handle
    }

    pub fn connected(&mut self, handle: Handle) {
        let id = ConnId { index: handle, generation: self.io.wires[&handle].generation };
        self.turn(|worker, turn| worker.on_connected(turn, id));
        self.run();
    }

    pub fn refused(&mut self, handle: Handle) {
        let id = ConnId { index: handle, generation: self.io.wires[&handle].generation };
        self.turn(|worker, turn| worker.on_connect_failed(turn, id, Errno(111)));
        self.run();
    }

    /// How the worker closed a connection, if it did.
    pub fn closed(&self, handle: Handle) -> Option<Close> {
        self.io.wires[&handle].closed
    }

    /// Whether the worker ended its direction.
    pub fn is_shut(&self, handle: Handle) -> bool {
        self.io.wires[&handle].is_shut
    }

    pub fn is_paused(&self, handle: Handle) -> bool {
        self.io.wires[&handle].is_paused
    }

    /// Bytes that a connection holds back in the driver.
    pub fn unread(&self, handle: Handle) -> usize {
        self.io.wires[&handle].inbox.len()
    }

    /// At rest: no buffer is in use.
    pub fn assert_at_rest(&self) {
        assert_eq!(self.io.free.len(), self.buffers, "a buffer is in use at rest");
        assert_eq!(self.worker.exchanges_in_use(), 0);
    }

    /// The connections in use, for a failed assertion.
    pub fn describe(&self) -> String {
        let used = self.worker.conns.iter().filter(|(_, c)| c.state != State::Free);
        used.map(|(i, c)| std::format!("{i}: {c:?}\n")).collect()
    }

    /// No buffer is in use, whatever else is.
    pub fn assert_no_buffers(&self) {
        assert_eq!(self.io.free.len(), self.buffers);
    }

    /// Lets a connection be accepted if one is opening; else the pooled one is in use again.
    pub fn backend_or_reuse(&mut self, pooled: Handle) -> Handle {
        if self.io.opened.is_empty() { pooled } else { self.backend() }
    }

    /// One request and response over a fresh client connection, to have a pooled upstream.
    pub fn warm_up(&mut self) -> (Handle, Handle) {
        let client = self.client();
        self.send(client, "GET /warm HTTP/1.1\r\nHost: h\r\n\r\n");
        let backend = self.backend();
        self.got(backend);
        self.send(backend, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
        assert!(self.got(client).ends_with("\r\n\r\n"));
        (client, backend)
    }
}
