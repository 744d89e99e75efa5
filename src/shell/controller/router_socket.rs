//! A socket for [`Client`]: connects, sends, receives, on a mio poll of its owner.
//!
//! In: which router, what to ask. Out: answers. Used by the controller thread to push and by the
//! endpoint-sync thread to ask for reports; each has its own.

use crate::config::Snapshot;
use crate::config::client::{Answer, Ask, Client};
use crate::shell::place::boxed_zeroed;
use crate::stdx::{Instant, Now, Prng};
use mio::net::TcpStream;
use mio::{Interest, Registry, Token};
use std::boxed::Box;
use std::io::{ErrorKind, Read, Write};
use std::net::SocketAddr;

/// One router's socket.
#[expect(missing_debug_implementations, reason = "sockets say nothing")]
pub struct RouterSocket {
    /// The machine.
    pub client: Box<Client>,
    address: SocketAddr,
    token: Token,
    stream: Option<TcpStream>,
    connected: bool,
}

impl RouterSocket {
    /// Takes the memory it needs for good. `token` is its own on the poll.
    pub fn new(address: SocketAddr, token: Token) -> RouterSocket {
        let mut client = boxed_zeroed::<Client>();
        client.clear(address);
        RouterSocket { client, address, token, stream: None, connected: false }
    }

    /// The router's admin address.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Begins to ask.
    pub fn begin(&mut self, ask: Ask, registry: &Registry, now: Now, prng: &mut Prng) {
        self.client.begin(ask, now);
        let connected = TcpStream::connect(self.address).and_then(|mut stream| {
            let both = Interest::READABLE | Interest::WRITABLE;
            registry.register(&mut stream, self.token, both)?;
            Ok(stream)
        });
        match connected {
            Ok(stream) => (self.stream, self.connected) = (Some(stream), false),
            Err(_) => self.client.failed(now, prng),
        }
    }

    /// When [`RouterSocket::drive`] is due without an event.
    pub fn timeout(&self) -> Instant {
        self.client.timeout()
    }

    /// Goes on as far as the socket lets it. `published`: what is pushed; `secret`: the admin
    /// token.
    pub fn drive(
        &mut self,
        published: Option<&Snapshot>,
        secret: &str,
        now: Now,
        prng: &mut Prng,
    ) -> Option<Answer> {
        self.stream.as_ref()?;
        let answer = self.exchange(published, secret, now);
        match answer {
            Ok(None) if self.client.is_late(now) => {}
            Ok(None) => return None,
            Ok(Some(answer)) => {
                self.stream = None;
                return Some(answer);
            }
            Err(()) => {}
        }
        self.stream = None;
        self.client.failed(now, prng);
        None
    }

    fn exchange(
        &mut self,
        published: Option<&Snapshot>,
        secret: &str,
        now: Now,
    ) -> Result<Option<Answer>, ()> {
        let stream = self.stream.as_mut().ok_or(())?;
        if !self.connected {
            match (stream.take_error(), stream.peer_addr()) {
                (Ok(None), Ok(_)) => {}
                (Ok(None), Err(error)) if error.kind() == ErrorKind::NotConnected => {
                    return Ok(None);
                }
                _ => return Err(()),
            }
            self.connected = true;
            // Lines are written one by one; a delay would only cost time.
            let _ = stream.set_nodelay(true);
            self.client.connected(published, secret, now);
        }
        loop {
            let bytes = self.client.output(published).ok_or(())?;
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
                return Err(());
            }
            match stream.read(room) {
                Ok(bytes) => {
                    if let Some(answer) = self.client.received(bytes, now) {
                        return Ok(Some(answer));
                    }
                    if bytes == 0 {
                        return Err(());
                    }
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(None),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => return Err(()),
            }
        }
    }
}
