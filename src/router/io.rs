//! The face between a worker and its driver: what the driver must do, and who owns what when.
//!
//! The worker (the core) never sees a socket, a system call or a partial write; the driver never
//! sees HTTP. `shell::net` implements [`Io`] with mio, `vopr` with simulated streams, the tests
//! with a script. A completion driver (io_uring) fits the same face.
//!
//! # Calls in both directions
//!
//! Driver to core, each with a [`super::Turn`]: `begin` once a turn, then events, then `tick`. The
//! events: `on_accept`, `on_connected`, `on_connect_failed`, `on_data`, `on_end`,
//! `on_write_failed`, `on_drained`, `on_closed`, `on_starved`. Core to driver: the methods of
//! [`Io`]. The driver must not call the core from inside a method of `Io`; what follows from one
//! (drained, closed, data that waits) it notes and delivers as an event, in the same turn or the
//! next.
//!
//! # Connections
//!
//! A [`ConnId`] is made by the core, which hands it out in `on_accept` or gives it to
//! [`Io::connect`]. The driver keeps the socket in a table of its own by `index`. After
//! [`Io::close`] the driver delivers exactly one event more for that id, `on_closed`, once nothing
//! of it is in flight; only then may the index be used again. Events for an older generation are
//! ignored by the core, and buffers they carry are put back.
//!
//! # Buffers
//!
//! All buffers are [`IO_BUFFER_BYTES`] long and belong to the driver's pool; a [`Buf`] is the right
//! to one, moves with it, and cannot be copied. A [`Chunk`] is a buffer with the part in use.
//!
//! - `on_data` passes a chunk to the core. The driver reads into
//!   `IO_BUFFER_HEADROOM_BYTES .. IO_BUFFER_BYTES - IO_BUFFER_TAILROOM_BYTES`, so that the core can
//!   write a head in front of it and the end of a chunk behind it, in place.
//! - [`Io::send`] passes a chunk to the driver, which puts the buffer back itself when all is out.
//! - [`Io::read_more`] passes a chunk to the driver for its next read: the bytes go behind those
//!   that are there, and come back with them in one `on_data`.
//! - [`Io::close`] makes the driver put back whatever buffers it holds for the connection.
//! - Everything else the core holds it puts back with [`Io::put`].
//!
//! # Flow control
//!
//! A connection is readable from its start. [`Io::pause`] stops `on_data` for it (and `on_end` of
//! an orderly end, which waits behind the data); [`Io::resume`] lets it go on, and what arrived
//! meanwhile is delivered. A driver that finds no buffer for a read waits until one is put back; as
//! long as reads wait it calls `on_starved` once a turn, and makes a turn at least every
//! TIMER_TICK_MS: the core then closes who has held a buffer for long without progress.

use crate::config::snapshot::Bind;
pub use crate::limits::{IO_BUFFER_BYTES, IO_BUFFER_HEADROOM_BYTES, IO_BUFFER_TAILROOM_BYTES};
use crate::stdx::Instant;
use core::net::SocketAddr;
use core::num::NonZeroU32;

/// A connection: an index into the tables of core and driver, and which use of it is meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConnId {
    /// Below the capacity MAX_CONNECTIONS.
    pub index: u32,
    /// Rises each time the index is used anew.
    pub generation: u32,
}

/// A place of the worker's own table of binds, below [`super::binds::MAX_BIND_SLOTS`]. Stays the
/// same for a bind as long as any Snapshot has it or any connection came in on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BindId(pub u16);

/// The right to one buffer of the driver's pool. Losing it loses the buffer: tests count them.
#[derive(Debug, PartialEq, Eq)]
#[must_use = "a buffer that is dropped is lost to the pool"]
pub struct Buf(NonZeroU32);

impl Buf {
    /// The driver's: the right to its buffer `index`.
    pub fn new(index: u32) -> Buf {
        Buf(NonZeroU32::MIN.saturating_add(index))
    }

    /// The driver's number of the buffer.
    pub fn index(&self) -> u32 {
        self.0.get() - 1
    }
}

/// Bytes `start .. start + len` of a buffer.
#[derive(Debug, PartialEq, Eq)]
#[must_use = "a chunk that is dropped loses its buffer"]
pub struct Chunk {
    /// The buffer.
    pub buf: Buf,
    /// First byte in use.
    pub start: u32,
    /// Bytes in use.
    pub len: u32,
}

impl Chunk {
    /// The part in use, as indexes into the buffer.
    pub fn range(&self) -> core::ops::Range<usize> {
        self.start as usize..(self.start + self.len) as usize
    }
}

/// What became of a [`Io::send`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use = "queued output asks for back-pressure"]
pub enum Sent {
    /// All is out.
    Out,
    /// Some of it waits in the driver; `on_drained` follows when the queue is empty, or
    /// `on_write_failed`.
    Queued,
}

/// How the peer's direction of a connection ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// In order (FIN), after all its bytes.
    Eof,
    /// By a reset or another failure.
    Reset,
}

/// How [`Io::close`] ends a connection. Queued output is dropped either way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Close {
    /// As `close(2)` does it: the peer sees an orderly end, unless it sent what nobody read.
    Now,
    /// By a reset, so that a truncated message cannot pass for a complete one.
    Reset,
}

/// The error number of the system call that failed (`ECONNREFUSED`, `EADDRINUSE`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Errno(pub i32);

/// What a driver does for a worker.
pub trait Io {
    /// All bytes of a buffer.
    fn bytes(&self, buf: &Buf) -> &[u8];

    /// All bytes of a buffer, to write.
    fn bytes_mut(&mut self, buf: &mut Buf) -> &mut [u8];

    /// A buffer from the pool; None when it is empty.
    fn take(&mut self) -> Option<Buf>;

    /// Gives a buffer back.
    fn put(&mut self, buf: Buf);

    /// Sends, behind what is queued already. A failure is not reported here: the bytes count as
    /// out and `on_write_failed` follows.
    fn send(&mut self, id: ConnId, chunk: Chunk) -> Sent;

    /// Ends our direction (FIN) once the queue is out. Reading goes on.
    fn shutdown(&mut self, id: ConnId);

    /// The next read goes behind this chunk, which comes back whole in `on_data`. The core has made
    /// sure that there is room. Not while another chunk is with the driver for reading.
    fn read_more(&mut self, id: ConnId, chunk: Chunk);

    /// Opens a connection; `on_connected` or `on_connect_failed` follows. On an error here the
    /// driver has kept nothing, and no event follows.
    fn connect(&mut self, id: ConnId, to: SocketAddr) -> Result<(), Errno>;

    /// Ends a connection in both directions; `on_closed` follows.
    fn close(&mut self, id: ConnId, how: Close);

    /// No `on_data` for this connection until [`Io::resume`].
    fn pause(&mut self, id: ConnId);

    /// The opposite of [`Io::pause`].
    fn resume(&mut self, id: ConnId);

    /// Since when the driver itself holds a buffer with bytes of this connection that are no input
    /// yet (ciphertext whose rest is missing). None: it holds none.
    fn input_since(&self, _id: ConnId) -> Option<Instant> {
        None
    }

    /// Listens; connections come by `on_accept`. An error is reported and tried again later.
    fn listen(&mut self, bind: BindId, at: &Bind) -> Result<(), Errno>;

    /// Stops listening, after everything that waits in the backlog was accepted: calls of
    /// `on_accept` for it may follow, in this turn or the next.
    fn unlisten(&mut self, bind: BindId);
}
