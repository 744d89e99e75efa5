//! TLS under the driver's connections: hello, handshake, records. The worker sees plaintext.
//!
//! In: ciphertext as it is read, plaintext that the worker sends. Out: the worker's `on_hello`,
//! `on_secured`, `on_data`; ciphertext for the socket. Until its ClientHello is whole a connection
//! takes no slot; an idle one holds no buffer. Records are decrypted when the worker takes their
//! bytes, so that its back-pressure reaches the peer.
//!
//! ```text
//! Hello --(on_hello: listener)--> Session: Handshake --(on_secured)--> Open --> end
//! ```

use super::buffers::Buffers;
use super::driver::{Driver, Socket};
use crate::limits::*;
use crate::router::{Chunk, Close, ConnId, End, Turn, Worker};
use crate::shell::log::log;
use crate::shell::memory::{SlotHandle, SlotPool};
use crate::shell::tls::rustls::TlsState;
use crate::shell::tls::rustls::certificates::Certificates;
use crate::shell::tls::rustls::server::{
    ALERT_UNRECOGNIZED_NAME, FLIGHT_BYTES, RECORD_PLAIN_BYTES, ServerSetup, TlsServer,
    encrypted_bytes,
};
use crate::wire::client_hello::ClientHello;
use std::boxed::Box;
use std::io::{ErrorKind, Write as _};
use std::vec;
use std::vec::Vec;

/// Ciphertext of one call: of a whole buffer, or of a flight.
const OUTPUT_BYTES: usize = {
    let of_buffer = encrypted_bytes(IO_BUFFER_BYTES as usize);
    if of_buffer > FLIGHT_BYTES { of_buffer } else { FLIGHT_BYTES }
};

/// What the protocol says is queued in pieces of this size.
const SAY_BYTES: usize = (IO_BUFFER_BYTES - IO_BUFFER_HEADROOM_BYTES) as usize;

// All that the worker sends fits into its own buffer as ciphertext: a response must not end in its
// middle because there is no second one. Of the tailroom it uses FRAMING_BYTES at most.
const FRAMING_BYTES: u32 = 16;
const _: () = assert!(
    IO_BUFFER_BYTES < 1 << 16
        || encrypted_bytes((IO_BUFFER_BYTES - IO_BUFFER_TAILROOM_BYTES + FRAMING_BYTES) as usize)
            <= IO_BUFFER_BYTES as usize
);

// A record fits behind the longest head that waits for its rest. (The simulator has no TLS.)
const _: () = assert!(
    IO_BUFFER_BYTES < 1 << 16
        || (IO_BUFFER_BYTES - IO_BUFFER_HEADROOM_BYTES - IO_BUFFER_TAILROOM_BYTES - MAX_HEAD_BYTES)
            as usize
            >= RECORD_PLAIN_BYTES
);

/// What lies between a socket and the worker.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Layer {
    /// Nothing.
    #[default]
    Plain,
    /// TLS: the ClientHello is not whole.
    Hello,
    /// TLS: the session of this number.
    Session(u16),
}

/// A TLS connection and the slot it lives in.
struct Session {
    server: TlsServer,
    slot: Option<SlotHandle>,
}

/// The TLS sessions of one driver.
pub(super) struct Secure {
    sessions: Box<[Session]>,
    free: Vec<u16>,
    slots: SlotPool,
    setup: ServerSetup,
    certificates: &'static Certificates,
    output: Box<[u8]>,
}

impl Secure {
    /// Takes all memory it will need.
    pub(super) fn new(capacities: &Capacities, certificates: &'static Certificates) -> Secure {
        let count = capacities.max_tls_connections;
        let mut sessions = Vec::new();
        sessions.resize_with(count as usize, || Session { server: TlsServer::new(), slot: None });
        let mut output = vec![0; OUTPUT_BYTES].into_boxed_slice();
        // Written once, so that its pages are there.
        output.fill(1);
        Secure {
            sessions: sessions.into_boxed_slice(),
            free: (0..count as u16).rev().collect(),
            slots: SlotPool::new(count, TLS_SLOT_BYTES as usize, TLS_SLOT_SOFT_CAP_BYTES),
            setup: ServerSetup::new(),
            certificates,
            output,
        }
    }

    /// Bytes of one driver's tables and slots: a line of the memory plan.
    pub(super) fn bytes(capacities: &Capacities) -> u64 {
        let count = capacities.max_tls_connections;
        SlotPool::bytes(count, TLS_SLOT_BYTES as usize)
            + u64::from(count) * (size_of::<Session>() + size_of::<u16>()) as u64
            + OUTPUT_BYTES as u64
    }

    /// Ends a session; its number and slot are free again.
    fn release(&mut self, number: u16) {
        let session = &mut self.sessions[usize::from(number)];
        session.server.end();
        let handle = session.slot.take().expect("a session has its slot until it ends");
        if let Err(error) = self.slots.give_back(handle) {
            log!(Error, "tls", "{error}: out of use until it is empty");
        }
        self.free.push(number);
    }

    fn take(&mut self) -> Option<(u16, SlotHandle)> {
        self.slots.recheck();
        let slot = self.slots.take()?;
        let number = self.free.pop().expect("as many sessions as slots");
        Some((number, slot))
    }
}

/// What working on ciphertext came to.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Worked {
    /// Something moved: there may be more to do.
    On,
    /// More ciphertext is needed.
    Needs,
    /// No buffer, or the worker takes nothing now.
    Waits,
    /// The connection is gone.
    Gone,
}

impl Driver {
    /// As `read`, of a connection with TLS: at most one read, then what its bytes bring.
    pub(super) fn read_secure(turn: &mut Turn<'_, Driver>, worker: &mut Worker, id: ConnId) {
        let socket = &mut turn.io.sockets[id.index as usize];
        if socket.is_paused || socket.is_starved {
            return;
        }
        if core::mem::take(&mut socket.is_end_due) {
            return worker.on_end(turn, id, End::Eof);
        }
        let mut worked =
            if socket.cipher.is_some() { Driver::work(turn, worker, id) } else { Worked::Needs };
        // The worker may have paused it, and holds a chunk then.
        let socket = &turn.io.sockets[id.index as usize];
        if worked == Worked::Needs && socket.is_readable && !socket.is_paused {
            worked = Driver::receive_secure(turn, worker, id);
        }
        if worked == Worked::On {
            // Others get their turn before it goes on.
            turn.io.note_read(id.index);
        }
    }

    fn receive_secure(turn: &mut Turn<'_, Driver>, worker: &mut Worker, id: ConnId) -> Worked {
        let driver = &mut *turn.io;
        let socket = &mut driver.sockets[id.index as usize];
        let held = socket.cipher.take();
        let Some(mut chunk) = held.or_else(|| driver.begin_read()) else {
            driver.starve(id.index);
            return Worked::Waits;
        };
        driver.buffers.move_to_front(&mut chunk);
        if driver.buffers.room_behind(&chunk) == 0 {
            // A hello in tiny records, or a message of the handshake that no buffer holds.
            driver.buffers.put(chunk.buf);
            return Driver::fail(turn, worker, id);
        }
        let (before, received) = (chunk.len, driver.receive(id.index, &mut chunk));
        match received {
            Ok(len) if len > 0 => {
                let socket = &mut driver.sockets[id.index as usize];
                if before == 0 {
                    socket.cipher_since = driver.now;
                }
                socket.cipher = Some(chunk);
                Driver::work(turn, worker, id)
            }
            Ok(_) if before > 0 => {
                driver.sockets[id.index as usize].cipher = Some(chunk);
                Worked::Waits
            }
            Ok(_) => {
                driver.buffers.put(chunk.buf);
                Worked::Waits
            }
            Err(end) => {
                driver.buffers.put(chunk.buf);
                worker.on_end(turn, id, end);
                Worked::Gone
            }
        }
    }

    /// Works on the ciphertext at hand.
    fn work(turn: &mut Turn<'_, Driver>, worker: &mut Worker, id: ConnId) -> Worked {
        match turn.io.sockets[id.index as usize].layer {
            Layer::Plain => unreachable!("only connections with TLS come here"),
            Layer::Hello => Driver::hello(turn, worker, id),
            Layer::Session(number) => Driver::records(turn, worker, id, number),
        }
    }

    /// Looks for the server name, and begins a session with the certificate that it wants.
    fn hello(turn: &mut Turn<'_, Driver>, worker: &mut Worker, id: ConnId) -> Worked {
        let driver = &*turn.io;
        let chunk = driver.sockets[id.index as usize].cipher.as_ref().expect("ciphertext");
        let hello = match ClientHello::parse(&driver.buffers.bytes_of(&chunk.buf)[chunk.range()]) {
            Ok(Some(hello)) => hello,
            Ok(None) => return Worked::Needs,
            Err(_) => return Driver::fail(turn, worker, id),
        };
        let Some(listener) = worker.on_hello(turn, id, hello.name()) else {
            if turn.io.is_open(id) {
                let io = &mut *turn.io;
                if let Some(secure) = &mut io.secure {
                    secure.output[..ALERT_UNRECOGNIZED_NAME.len()]
                        .copy_from_slice(&ALERT_UNRECOGNIZED_NAME);
                    io.say(id.index, ALERT_UNRECOGNIZED_NAME.len());
                }
            }
            return Driver::fail(turn, worker, id);
        };
        let snapshot = &turn.slot.snapshot;
        let Some(secure) = &turn.io.secure else { return Driver::fail(turn, worker, id) };
        let certificate = secure.certificates.choose(snapshot, listener, hello.name());
        let Some(certificate) = certificate else { return Driver::fail(turn, worker, id) };
        let Some((number, slot)) = Driver::take_session(turn, worker, id) else {
            return Driver::fail(turn, worker, id);
        };
        let Some(secure) = &mut turn.io.secure else { return Driver::fail(turn, worker, id) };
        let session = &mut secure.sessions[usize::from(number)];
        session.server.begin(&secure.setup, Some(secure.slots.slot(slot)), certificate);
        session.slot = Some(slot);
        turn.io.sockets[id.index as usize].layer = Layer::Session(number);
        // At once: what is held meanwhile others would wait for.
        Driver::records(turn, worker, id, number)
    }

    /// A session and its slot; when there is none, that of a client that may make way.
    fn take_session(
        turn: &mut Turn<'_, Driver>,
        worker: &mut Worker,
        id: ConnId,
    ) -> Option<(u16, SlotHandle)> {
        let taken = turn.io.secure.as_mut()?.take();
        if taken.is_some() || !worker.on_no_session(turn, id) {
            return taken;
        }
        turn.io.secure.as_mut()?.take()
    }

    /// Shows a session its records: answers of the handshake go out, plaintext to the worker.
    fn records(
        turn: &mut Turn<'_, Driver>,
        worker: &mut Worker,
        id: ConnId,
        number: u16,
    ) -> Worked {
        let driver = &mut *turn.io;
        let socket = &mut driver.sockets[id.index as usize];
        let Some(mut plain) = socket.more.take().or_else(|| driver.buffers.take_chunk()) else {
            driver.starve(id.index);
            return Worked::Waits;
        };
        if driver.buffers.room_behind(&plain) < RECORD_PLAIN_BYTES {
            driver.buffers.move_to_front(&mut plain);
        }
        let secure = driver.secure.as_mut().expect("it began the session");
        let session = &mut secure.sessions[usize::from(number)];
        let mut cipher = socket.cipher.take().expect("ciphertext");
        let (had, was) = (plain.len, session.server.state());
        let (input, room) = driver.buffers.input_and_room(&mut cipher, &mut plain);
        let done = session.server.advance(&secure.setup, input, &mut secure.output, room);
        let state = session.server.state();
        plain.len += done.plain as u32;
        (cipher.start, cipher.len) =
            (cipher.start + done.consumed as u32, cipher.len - done.consumed as u32);
        socket.cipher = driver.buffers.keep_unless_empty(cipher);
        if done.consumed > 0 {
            socket.cipher_since = driver.now;
        }
        let is_said = done.output == 0 || driver.say(id.index, done.output);
        let socket = &mut driver.sockets[id.index as usize];
        let is_fresh = plain.len > had;
        let data = if is_fresh {
            Some(plain)
        } else {
            socket.more = driver.buffers.keep_unless_empty(plain);
            None
        };
        if was == TlsState::Handshake && matches!(state, TlsState::Open | TlsState::PeerClosed) {
            worker.on_secured(turn, id);
        }
        if let Some(chunk) = data {
            worker.on_data(turn, id, chunk);
        }
        if !turn.io.is_open(id) {
            return Worked::Gone;
        }
        match state {
            TlsState::Failed => return Driver::fail(turn, worker, id),
            _ if !is_said => return Driver::fail(turn, worker, id),
            TlsState::PeerClosed if was != TlsState::PeerClosed => {
                turn.io.sockets[id.index as usize].is_end_due = true;
                return Worked::On;
            }
            TlsState::PeerClosed => return Worked::Waits,
            _ => {}
        }
        let moved = done.consumed + done.output + done.plain > 0;
        if moved && turn.io.sockets[id.index as usize].cipher.is_some() {
            Worked::On
        } else {
            Worked::Needs
        }
    }

    /// The worker hears of a connection that cannot go on.
    fn fail(turn: &mut Turn<'_, Driver>, worker: &mut Worker, id: ConnId) -> Worked {
        worker.on_end(turn, id, End::Reset);
        Worked::Gone
    }

    /// Sends so many bytes of the output as they are. What the socket does not take at once needs
    /// buffers; false without.
    fn say(&mut self, index: u32, len: usize) -> bool {
        let Driver { buffers, secure, sockets, .. } = self;
        let (Some(secure), socket) = (secure, &mut sockets[index as usize]) else { return false };
        if socket.is_deaf {
            return true;
        }
        let stream = socket.stream.as_mut().expect("open");
        let written =
            if socket.queue.is_empty() { stream.write(&secure.output[..len]) } else { Ok(0) };
        let from = match written {
            Ok(from) => from,
            Err(error) if error.kind() == ErrorKind::WouldBlock => 0,
            Err(_) => {
                self.write_failed(index);
                return true;
            }
        };
        for piece in secure.output[from..len].chunks(SAY_BYTES) {
            let Some(mut chunk) = buffers.take_chunk() else { return false };
            let place = chunk.start as usize;
            buffers.bytes_of_mut(&mut chunk.buf)[place..place + piece.len()].copy_from_slice(piece);
            chunk.len = piece.len() as u32;
            // Back-pressure on what the protocol itself says is its own: there is little of it.
            buffers.enqueue(&mut socket.queue, chunk);
        }
        true
    }

    /// Encrypts what the worker sends: the ciphertext, in the chunk's own buffer. None: the session
    /// cannot send, and the buffer is back in the pool.
    pub(super) fn encrypt(&mut self, number: u16, mut chunk: Chunk) -> Option<Chunk> {
        let Driver { buffers, secure, .. } = self;
        let secure = secure.as_mut().expect("it began the session");
        let session = &mut secure.sessions[usize::from(number)];
        let plain = &buffers.bytes_of(&chunk.buf)[chunk.range()];
        let Some(len) = session.server.write(plain, &mut secure.output) else {
            buffers.put(chunk.buf);
            return None;
        };
        buffers.bytes_of_mut(&mut chunk.buf)[..len].copy_from_slice(&secure.output[..len]);
        (chunk.start, chunk.len) = (0, len as u32);
        Some(chunk)
    }

    /// Says that nothing more is sent.
    pub(super) fn end_session(&mut self, index: u32, number: u16) {
        let Some(secure) = &mut self.secure else { return };
        let session = &mut secure.sessions[usize::from(number)];
        let len = session.server.write_end(&mut secure.output);
        if len > 0 {
            self.say(index, len);
        }
    }

    /// Lets go of a session when its connection is closed. An orderly close is told if the socket
    /// takes it at once.
    pub(super) fn close_session(&mut self, index: u32, number: u16, how: Close) {
        let Driver { secure, sockets, .. } = self;
        let Some(secure) = secure else { return };
        let socket: &mut Socket = &mut sockets[index as usize];
        let is_orderly = how == Close::Now && !socket.is_deaf && !socket.shall_shut;
        if is_orderly && socket.queue.is_empty() {
            let session = &mut secure.sessions[usize::from(number)];
            let len = session.server.write_end(&mut secure.output);
            if let Some(stream) = &mut socket.stream {
                // Best effort: the connection ends either way.
                let _ = stream.write(&secure.output[..len]);
            }
        }
        secure.release(number);
    }
}

impl Buffers {
    /// A buffer to read into.
    pub(super) fn take_chunk(&mut self) -> Option<Chunk> {
        let start = IO_BUFFER_HEADROOM_BYTES;
        self.take().map(|buf| Chunk { buf, start, len: 0 })
    }

    /// The chunk, or its buffer back in the pool when nothing is in it.
    fn keep_unless_empty(&mut self, chunk: Chunk) -> Option<Chunk> {
        if chunk.len > 0 {
            return Some(chunk);
        }
        self.put(chunk.buf);
        None
    }

    /// Moves what a chunk holds to the front of its buffer, behind the headroom.
    fn move_to_front(&mut self, chunk: &mut Chunk) {
        let range = chunk.range();
        let front = IO_BUFFER_HEADROOM_BYTES;
        if range.start != front as usize {
            self.bytes_of_mut(&mut chunk.buf).copy_within(range, front as usize);
            chunk.start = front;
        }
    }

    /// Bytes that may be read behind a chunk.
    fn room_behind(&self, chunk: &Chunk) -> usize {
        (IO_BUFFER_BYTES - IO_BUFFER_TAILROOM_BYTES) as usize - chunk.range().end
    }

    /// The bytes of one chunk, and the room behind another.
    fn input_and_room(&mut self, input: &mut Chunk, room: &mut Chunk) -> (&mut [u8], &mut [u8]) {
        let end = (IO_BUFFER_BYTES - IO_BUFFER_TAILROOM_BYTES) as usize;
        let (from, behind) = (input.range(), room.range().end..end);
        let (input, room) = self.two_mut(&mut input.buf, &mut room.buf);
        (&mut input[from], &mut room[behind])
    }
}
