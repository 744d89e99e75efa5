//! Sockets for [`Client`]: connect, send, receive, on a mio poll of their owner.
//!
//! In: which routers are wanted, what to ask. Out: answers. Used by the controller thread to push
//! and by the endpoint-sync thread to ask for reports; each has its own.

use crate::config::Snapshot;
use crate::config::client::{Answer, Ask, Client};
use crate::config::fleet::Fleet;
use crate::shell::place::boxed_zeroed;
use crate::stdx::{Instant, Now, Prng};
use mio::net::TcpStream;
use mio::{Interest, Registry, Token};
use std::boxed::Box;
use std::io::{ErrorKind, Read, Write};
use std::net::SocketAddr;
use std::vec::Vec;

/// `SLOTS` sockets, each for one router at a time, with `OUTPUT` bytes to send from.
#[expect(missing_debug_implementations, reason = "sockets say nothing")]
pub struct RouterSockets<const OUTPUT: usize, const SLOTS: usize> {
    /// Whose turn it is.
    pub fleet: Box<Fleet<SLOTS>>,
    sockets: Vec<Socket<OUTPUT>>,
}

impl<const OUTPUT: usize, const SLOTS: usize> RouterSockets<OUTPUT, SLOTS> {
    /// Takes the memory it needs for good. Its tokens on the poll are 0 to `SLOTS` - 1.
    pub fn new() -> Self {
        let sockets = (0..SLOTS).map(|slot| Socket::new(Token(slot))).collect();
        RouterSockets { fleet: Box::new(Fleet::new()), sockets }
    }

    /// Bytes of all clients: the line of the memory plan.
    pub fn bytes() -> u64 {
        (SLOTS * size_of::<Client<OUTPUT>>() + size_of::<Fleet<SLOTS>>()) as u64
    }

    /// Begins to ask every router that is wanted and due, as far as there are slots.
    pub fn begin(
        &mut self,
        ask: Ask,
        wanted: impl Fn(SocketAddr) -> bool,
        registry: &Registry,
        now: Now,
        prng: &mut Prng,
    ) {
        while let Some((slot, address)) = self.fleet.begin(now, &wanted) {
            if self.sockets[slot].begin(ask, address, registry, now).is_err() {
                self.fleet.failed(slot, now, prng);
            }
        }
    }

    /// Goes on with a slot as far as its socket lets it. `published`: what is pushed; `secret`:
    /// the admin token. After an answer the owner says when the router is next talked to
    /// ([`Fleet::answered`]).
    pub fn drive(
        &mut self,
        slot: usize,
        published: Option<&Snapshot>,
        secret: &str,
        now: Now,
        prng: &mut Prng,
    ) -> Option<Answer> {
        match self.sockets[slot].drive(published, secret, now) {
            Ok(answer) => answer,
            Err(Failed) => {
                self.fleet.failed(slot, now, prng);
                None
            }
        }
    }

    /// The body of a slot's last answer.
    pub fn body(&self, slot: usize) -> &[u8] {
        self.sockets[slot].client.body()
    }

    /// When something is due without an event, if the same routers are wanted then.
    pub fn timeout(&self, wanted: impl Fn(SocketAddr) -> bool) -> Instant {
        let deadline = self.sockets.iter().map(|s| s.client.timeout()).min();
        deadline.unwrap_or(Instant::NEVER).min(self.fleet.timeout(wanted))
    }
}

/// The connection did not work out.
struct Failed;

struct Socket<const OUTPUT: usize> {
    client: Box<Client<OUTPUT>>,
    token: Token,
    stream: Option<TcpStream>,
    connected: bool,
}

impl<const OUTPUT: usize> Socket<OUTPUT> {
    fn new(token: Token) -> Self {
        Socket { client: boxed_zeroed(), token, stream: None, connected: false }
    }

    fn begin(
        &mut self,
        ask: Ask,
        address: SocketAddr,
        registry: &Registry,
        now: Now,
    ) -> Result<(), Failed> {
        assert!(self.stream.is_none());
        let connected = TcpStream::connect(address).and_then(|mut stream| {
            let both = Interest::READABLE | Interest::WRITABLE;
            registry.register(&mut stream, self.token, both)?;
            Ok(stream)
        });
        let stream = connected.map_err(|_| Failed)?;
        (self.stream, self.connected) = (Some(stream), false);
        self.client.begin(ask, address, now);
        Ok(())
    }

    fn drive(
        &mut self,
        published: Option<&Snapshot>,
        secret: &str,
        now: Now,
    ) -> Result<Option<Answer>, Failed> {
        if self.stream.is_none() {
            return Ok(None);
        }
        match self.exchange(published, secret, now) {
            Ok(None) if !self.client.is_late(now) => Ok(None),
            Ok(Some(answer)) => {
                self.stream = None;
                Ok(Some(answer))
            }
            Ok(None) | Err(Failed) => {
                self.stream = None;
                self.client.failed();
                Err(Failed)
            }
        }
    }

    fn exchange(
        &mut self,
        published: Option<&Snapshot>,
        secret: &str,
        now: Now,
    ) -> Result<Option<Answer>, Failed> {
        let stream = self.stream.as_mut().ok_or(Failed)?;
        if !self.connected {
            match (stream.take_error(), stream.peer_addr()) {
                (Ok(None), Ok(_)) => {}
                (Ok(None), Err(error)) if error.kind() == ErrorKind::NotConnected => {
                    return Ok(None);
                }
                _ => return Err(Failed),
            }
            self.connected = true;
            // Lines are written one by one; a delay would only cost time.
            let _ = stream.set_nodelay(true);
            self.client.connected(published, secret, now);
        }
        loop {
            let bytes = self.client.output(published).ok_or(Failed)?;
            if bytes.is_empty() {
                break;
            }
            match stream.write(bytes) {
                Ok(written) => self.client.sent(written, now),
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                // The router may have answered and closed before it took all: read that.
                Err(_) => break,
            }
        }
        loop {
            let room = self.client.room();
            if room.is_empty() {
                return Err(Failed);
            }
            match stream.read(room) {
                Ok(bytes) => {
                    if let Some(answer) = self.client.received(bytes) {
                        return Ok(Some(answer));
                    }
                    if bytes == 0 {
                        return Err(Failed);
                    }
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(None),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => return Err(Failed),
            }
        }
    }
}
