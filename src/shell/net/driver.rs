//! The mio driver of one worker: sockets, readiness and partial writes behind [`Io`].
//!
//! In: readiness from epoll, the worker's calls. Out: the worker's events. Connections are
//! registered once, for both directions and edges only; a read that comes back short has emptied
//! the socket, so a request costs two reads and two writes and no other call. What follows from a
//! call of the worker (drained, closed, bytes that wait) goes into a list of work that the loop
//! takes up after the worker has returned.

use super::buffers::{Buffers, Queue};
use super::secure::{Layer, Secure};
use super::sockets;
use crate::config::snapshot::Bind;
use crate::limits::*;
use crate::router::binds::MAX_BIND_SLOTS;
use crate::router::{BindId, Buf, Chunk, Close, ConnId, End, Errno, Io, Sent, Turn, Worker};
use crate::shell::tls::rustls::certificates::Certificates;
use crate::stdx::{Duration, Instant, touch};
use core::net::SocketAddr;
use mio::net::{TcpListener, TcpStream};
use mio::{Interest, Token};
use std::boxed::Box;
use std::io::{self, Read, Write};
use std::net::Shutdown;
use std::vec::Vec;

const BOTH: Interest = Interest::READABLE.add(Interest::WRITABLE);
/// Token of the waker.
pub(super) const WAKE: Token = Token(usize::MAX);
/// In a token: this is a listener.
const LISTENER: usize = 1 << 31;

const READ: u8 = 1;
const DRAINED: u8 = 2;
const WRITE_FAILED: u8 = 4;
const CLOSED: u8 = 8;

/// The driver's half of a connection.
#[derive(Debug, Default)]
pub(super) struct Socket {
    pub(super) stream: Option<TcpStream>,
    generation: u32,
    /// Bits: what the worker is to be told, or is to be done, after its call.
    work: u8,
    /// In the list of work.
    is_listed: bool,
    /// In the list of those that wait for a buffer.
    pub(super) is_starved: bool,
    is_connecting: bool,
    pub(super) is_paused: bool,
    /// The kernel may have bytes, or the end, for us.
    pub(super) is_readable: bool,
    /// The peer has ended its direction: the end is behind the bytes.
    is_ending: bool,
    /// A write failed; nothing is written any more.
    pub(super) is_deaf: bool,
    /// End our direction once the queue is out.
    pub(super) shall_shut: bool,
    pub(super) queue: Queue,
    /// The beginning of a head that the next read goes behind.
    pub(super) more: Option<Chunk>,
    /// TLS or nothing.
    pub(super) layer: Layer,
    /// Ciphertext that is not decrypted yet.
    pub(super) cipher: Option<Chunk>,
    /// Since when it has been there without progress.
    pub(super) cipher_since: Instant,
    /// TLS: the peer has ended, which the worker is to be told.
    pub(super) is_end_due: bool,
}

#[derive(Debug)]
struct Listener {
    socket: TcpListener,
    at: SocketAddr,
    is_tls: bool,
    is_ready: bool,
    /// Accept what waits, until then at the latest, then close.
    closes_at: Option<Instant>,
}

/// A first-in first-out list of connection indexes; each is in it at most once.
#[derive(Debug)]
struct List {
    places: Box<[u32]>,
    first: usize,
    len: usize,
}

impl List {
    fn new(cap: u32) -> List {
        let mut places = std::vec![0; cap as usize].into_boxed_slice();
        touch(&mut *places);
        List { places, first: 0, len: 0 }
    }

    fn push(&mut self, index: u32) {
        assert!(self.len < self.places.len(), "each connection is listed at most once");
        let at = (self.first + self.len) % self.places.len();
        self.places[at] = index;
        self.len += 1;
    }

    fn pop(&mut self) -> Option<u32> {
        if self.len == 0 {
            return None;
        }
        let index = self.places[self.first];
        self.first = (self.first + 1) % self.places.len();
        self.len -= 1;
        Some(index)
    }
}

/// Sockets, buffers and lists of one worker.
#[expect(missing_debug_implementations, reason = "TLS sessions have none")]
pub struct Driver {
    registry: mio::Registry,
    pub(super) buffers: Buffers,
    pub(super) sockets: Box<[Socket]>,
    /// None: connections of binds with TLS are refused.
    pub(super) secure: Option<Secure>,
    listeners: Box<[Option<Listener>]>,
    /// Places of `listeners` that were ever used: the first so many.
    places: usize,
    work: List,
    starved: List,
    socket_bytes: u32,
    /// The system had no descriptor for us: no accepts before.
    rests_until: Option<Instant>,
    pub(super) now: Instant,
}

impl Driver {
    /// Takes all memory the driver will ever need. The registry is of the poll that
    /// [`super::run_worker`] waits on.
    pub(super) fn new(
        capacities: &Capacities,
        certificates: Option<&'static Certificates>,
        registry: mio::Registry,
    ) -> Driver {
        let connections = capacities.max_connections;
        let mut sockets = Vec::new();
        sockets.resize_with(connections as usize, Socket::default);
        let mut listeners = Vec::new();
        listeners.resize_with(MAX_BIND_SLOTS, || None);
        Driver {
            registry,
            buffers: Buffers::new(capacities.max_io_buffers),
            sockets: sockets.into_boxed_slice(),
            secure: certificates.map(|certificates| Secure::new(capacities, certificates)),
            listeners: listeners.into_boxed_slice(),
            places: 0,
            work: List::new(connections),
            starved: List::new(connections),
            socket_bytes: capacities.socket_buffer_bytes,
            rests_until: None,
            now: Instant::default(),
        }
    }

    /// Bytes at these capacities, for the memory plan: all but the buffers themselves.
    pub fn tables_bytes(capacities: &Capacities) -> u64 {
        let per_connection = (size_of::<Socket>() + 2 * size_of::<u32>()) as u64;
        Buffers::tables_bytes(capacities.max_io_buffers)
            + u64::from(capacities.max_connections) * per_connection
            + (MAX_BIND_SLOTS * size_of::<Option<Listener>>()) as u64
            + u64::from(MAX_EVENTS_PER_TURN) * size_of::<libc::epoll_event>() as u64
    }

    /// Bytes of the TLS sessions at these capacities, for the memory plan.
    pub fn secure_bytes(capacities: &Capacities) -> u64 {
        Secure::bytes(capacities)
    }

    /// Buffers nobody holds, for tests.
    pub fn free_buffers(&self) -> usize {
        self.buffers.free()
    }

    pub(super) fn set_now(&mut self, now: Instant) {
        self.now = now;
    }

    /// Whether the next turn has something to do without waiting.
    pub(super) fn has_work(&self) -> bool {
        self.work.len > 0 || (self.starved.len > 0 && self.may_begin_read())
    }

    /// Whether there is a buffer for a read that has none. With TLS the last one is for those that
    /// hold ciphertext and need it to go on: else as many hellos as buffers wait for each other.
    fn may_begin_read(&self) -> bool {
        self.buffers.free() > usize::from(self.secure.is_some())
    }

    /// A buffer for a read, if there is one to begin with.
    pub(super) fn begin_read(&mut self) -> Option<Chunk> {
        if self.may_begin_read() { self.buffers.take_chunk() } else { None }
    }

    fn open_listeners(&self) -> impl Iterator<Item = &Listener> {
        self.listeners[..self.places].iter().flatten()
    }

    /// Whether no listener is left: after a drain.
    pub(super) fn is_quiet(&self) -> bool {
        self.open_listeners().next().is_none()
    }

    /// When accepting goes on after a rest, a listener closes for good, or reads that wait for a
    /// buffer ask the worker for one again.
    pub(super) fn timeout(&self) -> Instant {
        if self.starved.len > 0 {
            return self.now + Duration::from_millis(u64::from(TIMER_TICK_MS));
        }
        let closing = self.open_listeners().filter_map(|l| l.closes_at);
        closing.chain(self.rests_until).min().unwrap_or(Instant::NEVER)
    }

    fn note(&mut self, index: u32, work: u8) {
        let socket = &mut self.sockets[index as usize];
        socket.work |= work;
        if !socket.is_listed {
            socket.is_listed = true;
            self.work.push(index);
        }
    }

    fn id(&self, index: u32) -> ConnId {
        ConnId { index, generation: self.sockets[index as usize].generation }
    }

    pub(super) fn is_open(&self, id: ConnId) -> bool {
        let socket = &self.sockets[id.index as usize];
        socket.generation == id.generation && socket.stream.is_some()
    }

    fn socket(&mut self, id: ConnId) -> &mut Socket {
        let socket = &mut self.sockets[id.index as usize];
        assert!(socket.generation == id.generation, "the worker uses live handles");
        socket
    }

    /// Takes a stream over and registers it.
    fn adopt(
        &mut self,
        id: ConnId,
        mut stream: TcpStream,
        is_connecting: bool,
        layer: Layer,
    ) -> io::Result<()> {
        let token = Token((id.generation as usize) << 32 | id.index as usize);
        self.registry.register(&mut stream, token, BOTH)?;
        let socket = &mut self.sockets[id.index as usize];
        assert!(socket.stream.is_none() && socket.queue.is_empty() && socket.more.is_none());
        *socket = Socket {
            stream: Some(stream),
            generation: id.generation,
            is_connecting,
            is_listed: socket.is_listed,
            is_starved: socket.is_starved,
            layer,
            ..Socket::default()
        };
        Ok(())
    }

    /// One event of the poll.
    pub(super) fn handle(
        turn: &mut Turn<'_, Driver>,
        worker: &mut Worker,
        event: &mio::event::Event,
    ) {
        let token = event.token().0;
        if token == WAKE.0 {
            return;
        }
        let index = (token & 0xffff_ffff) as u32;
        if token & LISTENER != 0 {
            if let Some(listener) = &mut turn.io.listeners[index as usize & !LISTENER] {
                listener.is_ready = true;
            }
            return;
        }
        let id = ConnId { index, generation: (token >> 32) as u32 };
        if !turn.io.is_open(id) {
            return;
        }
        if turn.io.sockets[index as usize].is_connecting {
            Driver::finish_connect(turn, worker, id, event);
        } else if event.is_writable() {
            Driver::flush(turn, worker, id);
        }
        if !turn.io.is_open(id) || turn.io.sockets[index as usize].is_connecting {
            return;
        }
        let socket = &mut turn.io.sockets[index as usize];
        socket.is_ending |= event.is_read_closed();
        socket.is_readable |= event.is_readable() || event.is_read_closed() || event.is_error();
        Driver::read(turn, worker, id);
        // A reset, of which a paused connection would not hear.
        if event.is_error() && turn.io.is_open(id) && !turn.io.sockets[index as usize].is_deaf {
            turn.io.write_failed(index);
        }
    }

    fn finish_connect(
        turn: &mut Turn<'_, Driver>,
        worker: &mut Worker,
        id: ConnId,
        event: &mio::event::Event,
    ) {
        let socket = &mut turn.io.sockets[id.index as usize];
        let stream = socket.stream.as_ref().expect("open");
        if !event.is_writable() && !event.is_error() {
            return;
        }
        match stream.take_error() {
            Ok(None) => {
                socket.is_connecting = false;
                worker.on_connected(turn, id);
            }
            Ok(Some(error)) | Err(error) => {
                worker.on_connect_failed(turn, id, sockets::errno_of(&error));
            }
        }
    }

    /// Works off what worker calls left to do, those of this work too, up to a bound: the rest has
    /// its turn after the kernel was asked again.
    pub(super) fn run_work(turn: &mut Turn<'_, Driver>, worker: &mut Worker) {
        let is_short = turn.io.starved.len > 0 && !turn.io.may_begin_read();
        while turn.io.starved.len > 0 && turn.io.buffers.free() > turn.io.work.len {
            let index = turn.io.starved.pop().expect("not empty");
            turn.io.sockets[index as usize].is_starved = false;
            turn.io.note(index, READ);
        }
        if is_short {
            worker.on_starved(turn);
        }
        for _ in 0..2 * MAX_EVENTS_PER_TURN {
            let Some(index) = turn.io.work.pop() else { return };
            let id = turn.io.id(index);
            let socket = &mut turn.io.sockets[index as usize];
            let work = core::mem::take(&mut socket.work);
            socket.is_listed = false;
            if work & CLOSED != 0 {
                worker.on_closed(id);
                continue;
            }
            if work & WRITE_FAILED != 0 && turn.io.is_open(id) {
                worker.on_write_failed(turn, id);
            }
            if work & DRAINED != 0 && turn.io.is_open(id) {
                worker.on_drained(turn, id);
            }
            if work & READ != 0 && turn.io.is_open(id) {
                Driver::read(turn, worker, id);
            }
        }
    }

    /// Reads once, if there may be something and it is wanted. A full buffer means that there is
    /// more: the connection is listed again, behind the others.
    fn read(turn: &mut Turn<'_, Driver>, worker: &mut Worker, id: ConnId) {
        let driver = &mut *turn.io;
        let socket = &mut driver.sockets[id.index as usize];
        if socket.layer != Layer::Plain {
            return Driver::read_secure(turn, worker, id);
        }
        if socket.is_paused || !socket.is_readable || socket.is_starved {
            return;
        }
        let more = socket.more.take();
        let Some(mut chunk) = more.or_else(|| driver.begin_read()) else {
            return driver.starve(id.index);
        };
        let had = chunk.len;
        match driver.receive(id.index, &mut chunk) {
            Ok(len) if len > 0 => worker.on_data(turn, id, chunk),
            Ok(_) if had > 0 => {
                driver.sockets[id.index as usize].more = Some(chunk);
            }
            Ok(_) => driver.buffers.put(chunk.buf),
            Err(end) => {
                driver.buffers.put(chunk.buf);
                worker.on_end(turn, id, end);
            }
        }
    }

    /// There is no buffer for a read: it is tried again when there is one.
    pub(super) fn starve(&mut self, index: u32) {
        self.sockets[index as usize].is_starved = true;
        self.starved.push(index);
    }

    /// The connection is read once more, after the others.
    pub(super) fn note_read(&mut self, index: u32) {
        self.note(index, READ);
    }

    /// One read behind what the chunk holds: how many bytes came, 0 for none yet, or the end.
    pub(super) fn receive(&mut self, index: u32, chunk: &mut Chunk) -> Result<u32, End> {
        let end = (IO_BUFFER_BYTES - IO_BUFFER_TAILROOM_BYTES) as usize;
        let socket = &mut self.sockets[index as usize];
        let stream = socket.stream.as_mut().expect("open");
        let room =
            &mut self.buffers.bytes_of_mut(&mut chunk.buf)[(chunk.start + chunk.len) as usize..end];
        assert!(!room.is_empty(), "the worker made room");
        let result = loop {
            match stream.read(room) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                result => break result,
            }
        };
        match result {
            Ok(0) => {
                socket.is_readable = false;
                Err(End::Eof)
            }
            Ok(len) => {
                // Short: the socket is empty, unless the end is right behind.
                socket.is_readable = len == room.len() || socket.is_ending;
                chunk.len += len as u32;
                if socket.is_readable {
                    self.note(index, READ);
                }
                Ok(len as u32)
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                socket.is_readable = false;
                Ok(0)
            }
            Err(_) => {
                socket.is_readable = false;
                Err(End::Reset)
            }
        }
    }

    /// Writes what waits, when the socket takes more.
    fn flush(turn: &mut Turn<'_, Driver>, worker: &mut Worker, id: ConnId) {
        let driver = &mut *turn.io;
        if driver.sockets[id.index as usize].queue.is_empty() {
            return;
        }
        // Bounded by the queue.
        loop {
            let socket = &mut driver.sockets[id.index as usize];
            let Some(chunk) = driver.buffers.dequeue(&mut socket.queue) else { break };
            match driver.write(id.index, chunk) {
                Written::All => {}
                Written::Part(chunk) => {
                    let socket = &mut driver.sockets[id.index as usize];
                    driver.buffers.requeue(&mut socket.queue, chunk);
                    return;
                }
                Written::Failed => return,
            }
        }
        let socket = &mut driver.sockets[id.index as usize];
        if socket.shall_shut {
            socket.shut();
        }
        worker.on_drained(turn, id);
    }

    /// Writes a chunk as far as the socket takes it.
    fn write(&mut self, index: u32, mut chunk: Chunk) -> Written {
        let socket = &mut self.sockets[index as usize];
        let stream = socket.stream.as_mut().expect("open");
        let bytes = &self.buffers.bytes_of(&chunk.buf)[chunk.range()];
        let result = loop {
            match stream.write(bytes) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                result => break result,
            }
        };
        match result {
            Ok(len) if len == bytes.len() => {
                self.buffers.put(chunk.buf);
                Written::All
            }
            Ok(len) => {
                // Short: the socket is full and tells when it is not.
                chunk.start += len as u32;
                chunk.len -= len as u32;
                Written::Part(chunk)
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Written::Part(chunk),
            Err(_) => {
                self.buffers.put(chunk.buf);
                self.write_failed(index);
                Written::Failed
            }
        }
    }

    /// Sends bytes as they are, behind what is queued.
    pub(super) fn send_raw(&mut self, index: u32, chunk: Chunk) -> Sent {
        let socket = &self.sockets[index as usize];
        if socket.is_deaf {
            self.buffers.put(chunk.buf);
            return Sent::Out;
        }
        let chunk = if socket.queue.is_empty() {
            match self.write(index, chunk) {
                Written::All | Written::Failed => return Sent::Out,
                Written::Part(chunk) => chunk,
            }
        } else {
            chunk
        };
        let queue = &mut self.sockets[index as usize].queue;
        self.buffers.enqueue(queue, chunk);
        Sent::Queued
    }

    /// Nothing is written any more; the worker hears of it, then of what can still be read.
    pub(super) fn write_failed(&mut self, index: u32) {
        let socket = &mut self.sockets[index as usize];
        socket.is_deaf = true;
        socket.is_readable = true;
        self.buffers.drop_queue(&mut socket.queue);
        self.note(index, WRITE_FAILED | READ);
    }

    /// Whether some listener has connections waiting that may be accepted now.
    pub(super) fn may_accept(&self, worker: &Worker) -> bool {
        let is_resting = self.rests_until.is_some_and(|until| self.now < until);
        !is_resting
            && worker.can_accept()
            && self.open_listeners().any(|l| l.is_ready || l.closes_at.is_some())
    }

    /// Accepts from every listener that has connections waiting, some from each.
    pub(super) fn accept(turn: &mut Turn<'_, Driver>, worker: &mut Worker) {
        if turn.io.rests_until.is_some_and(|until| turn.now >= until) {
            turn.io.rests_until = None;
            turn.io.listeners.iter_mut().flatten().for_each(|l| l.is_ready = true);
        }
        for bind in 0..turn.io.places {
            let Some(listener) = &turn.io.listeners[bind] else { continue };
            let closes_at = listener.closes_at;
            let mut is_empty = false;
            if (listener.is_ready || closes_at.is_some()) && turn.io.rests_until.is_none() {
                is_empty = Driver::accept_some(turn, worker, bind);
            }
            if closes_at.is_some_and(|at| is_empty || turn.now >= at) {
                turn.io.listeners[bind] = None;
            }
        }
    }

    /// Accepts from one listener; whether it has nothing more.
    fn accept_some(turn: &mut Turn<'_, Driver>, worker: &mut Worker, bind: usize) -> bool {
        for _ in 0..MAX_ACCEPTS_PER_TURN {
            if !worker.can_accept() {
                return false;
            }
            let Some(listener) = &mut turn.io.listeners[bind] else { return true };
            let layer = if listener.is_tls { Layer::Hello } else { Layer::Plain };
            match listener.socket.accept() {
                Ok((stream, from)) => {
                    if let Some(id) = worker.on_accept(turn, BindId(bind as u16), from)
                        && turn.io.adopt(id, stream, false, layer).is_err()
                    {
                        // No room in epoll: as if the peer had gone at once.
                        turn.io.sockets[id.index as usize].generation = id.generation;
                        worker.on_write_failed(turn, id);
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    listener.is_ready = false;
                    return true;
                }
                Err(error) if is_exhausted(&error) => {
                    let rest = Duration::from_millis(u64::from(ACCEPT_REST_MS));
                    turn.io.rests_until = Some(turn.now + rest);
                    return false;
                }
                // Of the one connection, not of the listener (accept(2)).
                Err(_) => {}
            }
        }
        false
    }
}

/// Whether the system, not the connection, is what failed.
fn is_exhausted(error: &io::Error) -> bool {
    let errno = error.raw_os_error();
    matches!(errno, Some(libc::EMFILE | libc::ENFILE | libc::ENOBUFS | libc::ENOMEM))
}

enum Written {
    All,
    Part(Chunk),
    Failed,
}

impl Socket {
    fn shut(&mut self) {
        if let Some(stream) = &self.stream {
            // It fails when the connection is gone, which reading tells.
            let _: io::Result<()> = stream.shutdown(Shutdown::Write);
        }
    }
}

impl Io for Driver {
    #[inline]
    fn bytes(&self, buf: &Buf) -> &[u8] {
        self.buffers.bytes_of(buf)
    }

    #[inline]
    fn bytes_mut(&mut self, buf: &mut Buf) -> &mut [u8] {
        self.buffers.bytes_of_mut(buf)
    }

    fn take(&mut self) -> Option<Buf> {
        self.buffers.take()
    }

    fn put(&mut self, buf: Buf) {
        self.buffers.put(buf);
    }

    fn send(&mut self, id: ConnId, chunk: Chunk) -> Sent {
        let socket = self.socket(id);
        assert!(!socket.shall_shut && !socket.is_connecting);
        if socket.is_deaf {
            self.buffers.put(chunk.buf);
            return Sent::Out;
        }
        let Layer::Session(number) = socket.layer else { return self.send_raw(id.index, chunk) };
        let Some(chunk) = self.encrypt(number, chunk) else {
            self.write_failed(id.index);
            return Sent::Out;
        };
        self.send_raw(id.index, chunk)
    }

    fn shutdown(&mut self, id: ConnId) {
        if let Layer::Session(number) = self.socket(id).layer {
            self.end_session(id.index, number);
        }
        let socket = self.socket(id);
        socket.shall_shut = true;
        if socket.queue.is_empty() {
            socket.shut();
        }
    }

    fn read_more(&mut self, id: ConnId, chunk: Chunk) {
        let socket = self.socket(id);
        assert!(socket.more.is_none());
        socket.more = Some(chunk);
    }

    fn connect(&mut self, id: ConnId, to: SocketAddr) -> Result<(), Errno> {
        let stream = sockets::connect(&to, self.socket_bytes)?;
        self.adopt(id, stream, true, Layer::Plain).map_err(|error| sockets::errno_of(&error))
    }

    fn close(&mut self, id: ConnId, how: Close) {
        let socket = &mut self.sockets[id.index as usize];
        assert!(socket.generation == id.generation);
        if let Layer::Session(number) = core::mem::take(&mut socket.layer) {
            self.close_session(id.index, number, how);
        }
        let socket = &mut self.sockets[id.index as usize];
        self.buffers.drop_queue(&mut socket.queue);
        for chunk in [socket.more.take(), socket.cipher.take()].into_iter().flatten() {
            self.buffers.put(chunk.buf);
        }
        if let Some(stream) = socket.stream.take()
            && how == Close::Reset
        {
            sockets::reset_on_close(&stream);
        }
        socket.work = 0;
        // A descriptor is free again.
        self.rests_until = self.rests_until.map(|_| self.now);
        self.note(id.index, CLOSED);
    }

    fn pause(&mut self, id: ConnId) {
        self.socket(id).is_paused = true;
    }

    fn resume(&mut self, id: ConnId) {
        let socket = self.socket(id);
        socket.is_paused = false;
        if socket.is_readable || socket.cipher.is_some() || socket.is_end_due {
            self.note(id.index, READ);
        }
    }

    fn input_since(&self, id: ConnId) -> Option<Instant> {
        let socket = &self.sockets[id.index as usize];
        socket.cipher.as_ref()?;
        // What waits for a buffer, not for its peer, has time after the others.
        let more = if socket.is_starved { u64::from(EVICT_STALLED_MS) } else { 0 };
        Some(socket.cipher_since + Duration::from_millis(more))
    }

    fn listen(&mut self, bind: BindId, at: &Bind) -> Result<(), Errno> {
        let address = SocketAddr::new(at.address, at.port);
        let place = &mut self.listeners[usize::from(bind.0)];
        if let Some(closing) = place
            && (closing.at, closing.is_tls) == (address, at.is_tls)
        {
            // It was closing and is wanted again.
            assert!(closing.closes_at.is_some(), "a bind is opened once");
            closing.closes_at = None;
            closing.is_ready = true;
            return Ok(());
        }
        self.places = self.places.max(usize::from(bind.0) + 1);
        let mut socket = sockets::listen(&address, self.socket_bytes)?;
        let token = Token(LISTENER | usize::from(bind.0));
        self.registry
            .register(&mut socket, token, Interest::READABLE)
            .map_err(|error| sockets::errno_of(&error))?;
        let is_tls = at.is_tls;
        *place = Some(Listener { socket, at: address, is_tls, is_ready: true, closes_at: None });
        Ok(())
    }

    fn unlisten(&mut self, bind: BindId) {
        let patience = Duration::from_millis(u64::from(LINGER_TIMEOUT_MS));
        let listener = self.listeners[usize::from(bind.0)].as_mut().expect("it was listening");
        listener.closes_at = Some(self.now + patience);
    }
}
