//! The server's side of mutual TLS on one socket: plaintext in, plaintext out, never blocking.
//!
//! In: a socket's bytes, the identity to show. Out: like a socket's read and write. Everything lies
//! in fixed buffers and one slot; a connection holds the identity that it began with.

use super::buffer::Buffer;
use super::rustls::peer::RouterIdentity;
use super::rustls::server::{FLIGHT_BYTES, RECORD_PLAIN_BYTES, TlsServer};
use super::rustls::{TlsSlot, TlsState};
use crate::limits::{TLS_INPUT_BYTES, TLS_PLAIN_BYTES};
use crate::shell::place::boxed_zeroed;
use mio::net::TcpStream;
use std::boxed::Box;
use std::io::{Error, ErrorKind, Read, Result, Write};
use std::sync::Arc;

const _: () = assert!(TLS_PLAIN_BYTES as usize >= RECORD_PLAIN_BYTES);

struct Buffers {
    input: Buffer<{ TLS_INPUT_BYTES as usize }>,
    output: Buffer<FLIGHT_BYTES>,
    plain: Buffer<{ TLS_PLAIN_BYTES as usize }>,
}

crate::zeroed_struct!(Buffers {
    input: Buffer<{ TLS_INPUT_BYTES as usize }>,
    output: Buffer<FLIGHT_BYTES>,
    plain: Buffer<{ TLS_PLAIN_BYTES as usize }>,
});

/// TLS for one connection at a time, with buffers for ever.
#[expect(missing_debug_implementations, reason = "rustls' connection has none")]
pub struct SecureStream {
    server: TlsServer,
    identity: Option<Arc<RouterIdentity>>,
    buffers: Box<Buffers>,
    slot: TlsSlot,
    /// The peer's last byte was read from the socket.
    has_ended: bool,
}

impl SecureStream {
    /// No connection yet; `slot` is for all of them, one at a time.
    pub fn new(slot: TlsSlot) -> SecureStream {
        let (server, buffers) = (TlsServer::new(), boxed_zeroed());
        SecureStream { server, identity: None, buffers, slot, has_ended: false }
    }

    /// Bytes of its buffers: a line of the memory plan.
    pub const fn bytes() -> u64 {
        size_of::<Buffers>() as u64
    }

    /// A connection begins.
    pub fn begin(&mut self, identity: &Arc<RouterIdentity>) {
        self.end();
        let (setup, key) = identity.parts();
        self.server.begin(setup, self.slot, key.clone());
        self.identity = Some(identity.clone());
    }

    /// Forgets the connection and what was on its way.
    pub fn end(&mut self) {
        self.server.end();
        self.identity = None;
        self.has_ended = false;
        self.buffers.input.clear();
        self.buffers.output.clear();
        // The plaintext of a connection is not for the next one.
        self.buffers.plain.clear();
    }

    /// Whether the peer has proved who it is.
    pub fn is_open(&self) -> bool {
        matches!(self.server.state(), TlsState::Open | TlsState::PeerClosed)
    }

    /// Why it failed; empty when it did not.
    pub fn error(&self) -> &str {
        if self.server.state() == TlsState::Failed { self.server.error() } else { "" }
    }

    /// Plaintext that came, as from a socket: 0 at the peer's end.
    pub fn read(&mut self, socket: &mut TcpStream, room: &mut [u8]) -> Result<usize> {
        // Each turn takes bytes from the socket or from the input, or is the last.
        loop {
            let plain = self.buffers.plain.filled();
            if !plain.is_empty() {
                let take = plain.len().min(room.len());
                room[..take].copy_from_slice(&plain[..take]);
                self.buffers.plain.take(take);
                return Ok(take);
            }
            self.flush(socket)?;
            let worked = self.advance();
            match self.server.state() {
                TlsState::Failed | TlsState::Idle => {
                    // The alert, as far as the socket takes it now.
                    let _ = self.flush(socket);
                    return Err(Error::from(ErrorKind::InvalidData));
                }
                TlsState::PeerClosed if self.buffers.plain.is_empty() => return Ok(0),
                TlsState::PeerClosed | TlsState::Handshake | TlsState::Open => {}
            }
            if worked {
                continue;
            }
            if self.has_ended {
                return Err(Error::from(ErrorKind::UnexpectedEof));
            }
            let room = self.buffers.input.free();
            if room.is_empty() {
                // A record fits, so this is a handshake message beyond any that we take.
                return Err(Error::from(ErrorKind::InvalidData));
            }
            match socket.read(room) {
                Ok(0) => self.has_ended = true,
                Ok(count) => self.buffers.input.put(count),
                Err(error) => return Err(error),
            }
        }
    }

    /// Takes some of `plain` to send, as a socket does; what it took is on its way only after
    /// [`Self::flush`].
    pub fn write(&mut self, socket: &mut TcpStream, plain: &[u8]) -> Result<usize> {
        self.flush(socket)?;
        let take = plain.len().min(RECORD_PLAIN_BYTES);
        let Some(written) = self.server.write(&plain[..take], self.buffers.output.free()) else {
            // Handshakes go on with what is read.
            return Err(Error::from(ErrorKind::WouldBlock));
        };
        self.buffers.output.put(written);
        match self.flush(socket) {
            Err(error) if error.kind() != ErrorKind::WouldBlock => Err(error),
            _ => Ok(take),
        }
    }

    /// Says that nothing more will be sent.
    pub fn finish(&mut self, socket: &mut TcpStream) {
        if self.flush(socket).is_ok() {
            let written = self.server.write_end(self.buffers.output.free());
            self.buffers.output.put(written);
            // The last bytes of a connection that is closed now.
            let _ = self.flush(socket);
        }
    }

    /// Sends all that is ready; `WouldBlock` while the socket does not take it.
    pub fn flush(&mut self, socket: &mut TcpStream) -> Result<()> {
        while !self.buffers.output.is_empty() {
            match socket.write(self.buffers.output.filled()) {
                Ok(count) => self.buffers.output.take(count),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Whether anything came of what was received. All output is out, all plaintext is taken.
    fn advance(&mut self) -> bool {
        let Some(identity) = &self.identity else { return false };
        let Buffers { input, output, plain } = &mut *self.buffers;
        assert!(output.is_empty() && plain.is_empty());
        let (start, end) = (input.start, input.end);
        let bytes = &mut input.bytes[start..end];
        let (setup, _) = identity.parts();
        let before = self.server.state();
        let done = self.server.advance(setup, bytes, output.free(), plain.free());
        input.take(done.consumed);
        output.put(done.output);
        plain.put(done.plain);
        done.consumed + done.output + done.plain > 0 || self.server.state() != before
    }
}
