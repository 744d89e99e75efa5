//! Sockets for [`Client`]: connect, prove who we are, send, receive, on a mio poll of their owner.
//!
//! In: which routers are wanted, what to ask, perhaps an identity: then mutual TLS only. Out:
//! answers. Used by the controller thread to push and by the endpoint-sync thread to ask for
//! reports; each has its own.

use crate::config::Snapshot;
use crate::config::client::{Answer, Ask, Client};
use crate::config::fleet::Fleet;
use crate::limits::{ADMIN_TLS_SLOT_BYTES, ADMIN_TLS_SLOT_SOFT_CAP_BYTES};
use crate::shell::log::log;
use crate::shell::memory::SlotPool;
use crate::shell::place::boxed_zeroed;
use crate::shell::tls::identity::Rotating;
use crate::shell::tls::rustls::peer::ControllerIdentity;
use crate::shell::tls::rustls::{ClientIdentity, TlsClient, TlsState};
use crate::stdx::{Duration, Instant, Now, Prng};
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
    identity: Option<Identity>,
    complained: Instant,
}

/// Who the controller is to routers.
pub type Identity = Rotating<ControllerIdentity>;

/// Of handshakes that fail one in this time is logged.
const COMPLAINT_PERIOD: Duration = Duration::from_secs(5);

impl<const OUTPUT: usize, const SLOTS: usize> RouterSockets<OUTPUT, SLOTS> {
    /// Takes the memory it needs for good. Its tokens on the poll are 0 to `SLOTS` - 1. With an
    /// identity its thread needs a reserve.
    pub fn new(identity: Option<Identity>) -> Self {
        let mut sockets: Vec<_> = (0..SLOTS).map(|slot| Socket::new(Token(slot))).collect();
        if identity.is_some() {
            let soft_cap = ADMIN_TLS_SLOT_SOFT_CAP_BYTES;
            // It lives as long as the process.
            let pool = SlotPool::new(SLOTS as u32, ADMIN_TLS_SLOT_BYTES as usize, soft_cap);
            let pool = Box::leak(Box::new(pool));
            for socket in &mut sockets {
                let handle = pool.take().expect("one for each");
                socket.tls = Some(TlsClient::new(Some(pool.slot(handle))));
            }
        }
        let (fleet, complained) = (Box::new(Fleet::new()), Instant::default());
        RouterSockets { fleet, sockets, identity, complained }
    }

    /// Bytes of all clients: the line of the memory plan.
    pub fn bytes() -> u64 {
        (SLOTS * size_of::<Client<OUTPUT>>() + size_of::<Fleet<SLOTS>>()) as u64
    }

    /// Bytes that an identity takes besides: a line of the memory plan.
    pub fn secure_bytes() -> u64 {
        SlotPool::bytes(SLOTS as u32, ADMIN_TLS_SLOT_BYTES as usize)
            + SLOTS as u64 * TlsClient::bytes()
            + Identity::bytes()
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
        if let Some(identity) = &mut self.identity {
            identity.refresh(now);
        }
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
        let identity = self.identity.as_ref().map(|identity| identity.current().client());
        match self.sockets[slot].drive(identity, published, secret, now) {
            Ok(answer) => answer,
            Err(Failed) => {
                self.complain(slot, now);
                self.fleet.failed(slot, now, prng);
                None
            }
        }
    }

    /// Says why TLS with a router failed, if it did.
    fn complain(&mut self, slot: usize, now: Now) {
        let (Some(tls), Some(identity)) = (&mut self.sockets[slot].tls, &mut self.identity) else {
            return;
        };
        // Idle: there was no connection to begin with.
        if tls.state() != TlsState::Idle {
            identity.suspect(now);
            if now.mono.since(self.complained) >= COMPLAINT_PERIOD {
                self.complained = now.mono;
                let router = self.fleet.address(slot).expect("it failed just now");
                let why = if tls.error().is_empty() { "no answer" } else { tls.error() };
                log!(Warn, "identity", "router {router}: mutual TLS: {why}");
            }
        }
        tls.end();
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
    /// None: plain HTTP.
    tls: Option<TlsClient>,
    connected: bool,
}

impl<const OUTPUT: usize> Socket<OUTPUT> {
    fn new(token: Token) -> Self {
        Socket { client: boxed_zeroed(), token, stream: None, tls: None, connected: false }
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
        identity: Option<&ClientIdentity>,
        published: Option<&Snapshot>,
        secret: &str,
        now: Now,
    ) -> Result<Option<Answer>, Failed> {
        if self.stream.is_none() {
            return Ok(None);
        }
        match self.exchange(identity, published, secret, now) {
            Ok(None) if !self.client.is_late(now) => Ok(None),
            Ok(Some(answer)) => {
                self.stream = None;
                if let Some(tls) = &mut self.tls {
                    tls.end();
                }
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
        identity: Option<&ClientIdentity>,
        published: Option<&Snapshot>,
        secret: &str,
        now: Now,
    ) -> Result<Option<Answer>, Failed> {
        let Socket { client, stream: Some(stream), tls, connected, .. } = self else {
            return Err(Failed);
        };
        if !*connected {
            match (stream.take_error(), stream.peer_addr()) {
                (Ok(None), Ok(_)) => {}
                (Ok(None), Err(error)) if error.kind() == ErrorKind::NotConnected => {
                    return Ok(None);
                }
                _ => return Err(Failed),
            }
            *connected = true;
            // Lines are written one by one; a delay would only cost time.
            let _ = stream.set_nodelay(true);
            match (&mut *tls, identity) {
                (Some(tls), Some(identity)) => tls.begin(identity),
                (Some(_), None) => return Err(Failed),
                (None, _) => client.connected(published, secret, now),
            }
        }
        match tls {
            Some(tls) => secure(client, stream, tls, (published, secret), now),
            None => plain(client, stream, published, now),
        }
    }
}

/// Moves bytes over TCP until the socket would block, or there is the answer.
fn plain<const OUTPUT: usize>(
    client: &mut Client<OUTPUT>,
    stream: &mut TcpStream,
    published: Option<&Snapshot>,
    now: Now,
) -> Result<Option<Answer>, Failed> {
    loop {
        let bytes = client.output(published).ok_or(Failed)?;
        if bytes.is_empty() {
            break;
        }
        match stream.write(bytes) {
            Ok(written) => client.sent(written, now),
            Err(error) if error.kind() == ErrorKind::WouldBlock => break,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            // The router may have answered and closed before it took all: read that.
            Err(_) => break,
        }
    }
    loop {
        let room = client.room();
        if room.is_empty() {
            return Err(Failed);
        }
        match stream.read(room) {
            Ok(bytes) => {
                if let Some(answer) = client.received(bytes) {
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

/// The same over TLS; the request begins when the handshake is through.
fn secure<const OUTPUT: usize>(
    client: &mut Client<OUTPUT>,
    stream: &mut TcpStream,
    tls: &mut TlsClient,
    (published, secret): (Option<&Snapshot>, &str),
    now: Now,
) -> Result<Option<Answer>, Failed> {
    // Each turn moves bytes one way or the other, or is the last.
    loop {
        let mut moved = tls.advance();
        if tls.state() == TlsState::Failed {
            // The alert, as far as the socket takes it now.
            let _ = flush(stream, tls);
            return Err(Failed);
        }
        if tls.state() == TlsState::Open {
            if client.is_connecting() {
                client.connected(published, secret, now);
            }
            let taken = tls.write(client.output(published).ok_or(Failed)?);
            if taken > 0 {
                client.sent(taken, now);
                moved = true;
            }
        }
        moved |= flush(stream, tls);
        while !tls.plaintext().is_empty() {
            let (plain, room) = (tls.plaintext(), client.room());
            let take = plain.len().min(room.len());
            if take == 0 {
                return Err(Failed);
            }
            room[..take].copy_from_slice(&plain[..take]);
            tls.consume(take);
            if let Some(answer) = client.received(take) {
                return Ok(Some(answer));
            }
            moved = true;
        }
        if tls.state() == TlsState::PeerClosed {
            return client.received(0).map(Some).ok_or(Failed);
        }
        let room = tls.room();
        if room.is_empty() {
            // What came waits until the socket takes what we have to say.
            return Ok(None);
        }
        match stream.read(room) {
            Ok(0) => return Err(Failed),
            Ok(bytes) => tls.received(bytes),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) if error.kind() != ErrorKind::WouldBlock => return Err(Failed),
            Err(_) if !moved => return Ok(None),
            Err(_) => {}
        }
    }
}

/// Sends ciphertext as far as the socket takes it; whether it took some.
fn flush(stream: &mut TcpStream, tls: &mut TlsClient) -> bool {
    let mut moved = false;
    while !tls.ciphertext().is_empty() {
        match stream.write(tls.ciphertext()) {
            Ok(bytes) => {
                tls.sent(bytes);
                moved = true;
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            // Blocked; or it failed, which reading tells, after what the router has said.
            Err(_) => return moved,
        }
    }
    moved
}
