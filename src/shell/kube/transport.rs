//! One connection to the API server at a time: a socket, TLS over it, and a wait for both.
//!
//! In: connect, disconnect, plaintext to send. Out: that it is up or gone, plaintext that came. The
//! owner's thread blocks in `wait` only; other threads wake it through its [`Waker`].

use super::access::Access;
use super::hosts::HOSTS_BYTES;
use crate::kube::Trouble;
use crate::limits::{KUBE_BODY_BYTES, KUBE_KEEPALIVE_MS, KUBE_REQUEST_BYTES, TLS_PLAIN_BYTES};
use crate::shell::place::boxed_zeroed;
use crate::shell::tls::rustls::{ClientIdentity, ErrorText, TlsClient, TlsSlot, TlsState};
use crate::stdx::{Duration, Inline};
use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token, Waker};
use std::boxed::Box;
use std::io::{self, ErrorKind, Read, Write};
use std::os::fd::AsRawFd;
use std::sync::Arc;

const SOCKET: Token = Token(0);
const WAKER: Token = Token(1);

/// A whole request, head and body, waits to be encrypted.
type Outbox = Inline<{ (KUBE_REQUEST_BYTES + KUBE_BODY_BYTES) as usize }>;
type Inbox = Inline<{ TLS_PLAIN_BYTES as usize }>;

/// What became of the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Happened {
    /// Nothing new; plaintext may have come.
    Nothing,
    /// It is up, TLS included.
    Up,
    /// It is gone, or could not be made.
    Gone(Trouble),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Down,
    Connecting,
    /// TCP is up; the TLS handshake runs.
    Securing,
    Up,
    /// The peer ended it; plaintext may still wait to be taken.
    Ended,
}

/// The connection and its buffers.
#[expect(missing_debug_implementations, reason = "rustls' connection has none")]
pub struct Transport {
    poll: Poll,
    events: Events,
    waker: Arc<Waker>,
    state: State,
    stream: Option<TcpStream>,
    readable: bool,
    writable: bool,
    /// None: plain HTTP.
    tls: Option<TlsClient>,
    /// Plaintext that came without TLS.
    inbox: Box<Inbox>,
    outbox: Box<Outbox>,
    /// How much of the outbox is sent or encrypted.
    written: usize,
    hosts: Box<[u8; HOSTS_BYTES]>,
    /// Why the last connection failed, in words.
    error: ErrorText,
}

impl Transport {
    /// Built before the seal; `slot` is for its TLS connections.
    pub fn new(access: &Access, slot: TlsSlot) -> io::Result<Transport> {
        let poll = Poll::new()?;
        let waker = Arc::new(Waker::new(poll.registry(), WAKER)?);
        Ok(Transport {
            poll,
            events: Events::with_capacity(8),
            waker,
            state: State::Down,
            stream: None,
            readable: false,
            writable: false,
            tls: access.is_tls().then(|| TlsClient::new(slot)),
            inbox: boxed_zeroed(),
            outbox: boxed_zeroed(),
            written: 0,
            hosts: boxed_zeroed(),
            error: ErrorText::new(),
        })
    }

    /// Bytes of one connection's buffers: a line of the memory plan.
    pub fn bytes() -> u64 {
        let own = size_of::<Inbox>() + size_of::<Outbox>() + size_of::<[u8; HOSTS_BYTES]>();
        own as u64 + TlsClient::bytes()
    }

    /// Ends a `wait` from another thread.
    pub fn waker(&self) -> Arc<Waker> {
        self.waker.clone()
    }

    /// Why the last connection failed, in words, once; empty when there is nothing to add.
    pub fn take_error(&mut self) -> ErrorText {
        core::mem::replace(&mut self.error, ErrorText::new())
    }

    /// Begins a connection; `step` says when it is up, or gone.
    pub fn connect(&mut self, access: &Access) -> Result<(), Trouble> {
        self.disconnect();
        let address = access.address(&mut self.hosts[..]).ok_or(Trouble::Unreachable)?;
        let stream = TcpStream::connect(address).map_err(|_| Trouble::Unreachable)?;
        set_options(&stream);
        let stream = self.stream.insert(stream);
        let interest = Interest::READABLE | Interest::WRITABLE;
        let registered = self.poll.registry().register(stream, SOCKET, interest);
        registered.map_err(|_| Trouble::Unreachable)?;
        self.state = State::Connecting;
        Ok(())
    }

    /// Ends the connection and forgets what was on its way.
    pub fn disconnect(&mut self) {
        // Closing the descriptor takes it out of the poll.
        self.stream = None;
        self.state = State::Down;
        (self.readable, self.writable) = (false, false);
        if let Some(tls) = &mut self.tls {
            tls.end();
        }
        self.inbox.clear();
        self.outbox.wipe();
        self.written = 0;
    }

    /// Queues bytes of a request. Requests are one at a time: they fit.
    pub fn send(&mut self, bytes: &[u8]) {
        if self.written == self.outbox.len() {
            self.outbox.clear();
            self.written = 0;
        }
        let pushed = self.outbox.push(bytes);
        assert!(pushed.is_ok(), "the outbox holds the largest request");
    }

    /// Plaintext that came.
    pub fn plaintext(&self) -> &[u8] {
        match &self.tls {
            Some(tls) => tls.plaintext(),
            None => self.inbox.as_bytes(),
        }
    }

    /// `count` bytes of it were taken.
    pub fn consume(&mut self, count: usize) {
        match &mut self.tls {
            Some(tls) => tls.consume(count),
            None => self.inbox.drop_front(count),
        }
    }

    /// Moves bytes until plaintext waits or the socket has no more to give or take.
    pub fn step(&mut self, identity: Option<&ClientIdentity>) -> Happened {
        match self.state {
            State::Down => return Happened::Nothing,
            State::Ended if self.plaintext().is_empty() => return self.gone(Trouble::Closed),
            State::Ended => return Happened::Nothing,
            State::Connecting => {
                if !self.writable {
                    return Happened::Nothing;
                }
                if !self.is_connected() {
                    return self.gone(Trouble::Unreachable);
                }
                match (&mut self.tls, identity) {
                    (None, _) => {
                        self.state = State::Up;
                        return Happened::Up;
                    }
                    (Some(tls), Some(identity)) => tls.begin(identity),
                    (Some(_), None) => return self.gone(Trouble::Tls),
                }
                self.state = State::Securing;
            }
            State::Securing | State::Up => {}
        }
        match self.move_bytes() {
            Ok(()) => {}
            Err(trouble) => return self.gone(trouble),
        }
        let open = self.tls.as_ref().is_none_or(|tls| tls.state() != TlsState::Handshake);
        if self.state == State::Securing && open {
            self.state = State::Up;
            return Happened::Up;
        }
        Happened::Nothing
    }

    fn gone(&mut self, trouble: Trouble) -> Happened {
        self.disconnect();
        Happened::Gone(trouble)
    }

    fn is_connected(&self) -> bool {
        let Some(stream) = &self.stream else { return false };
        matches!(stream.take_error(), Ok(None)) && stream.peer_addr().is_ok()
    }

    /// Until nothing moves. Each turn takes bytes from the socket or gives it some.
    fn move_bytes(&mut self) -> Result<(), Trouble> {
        loop {
            let mut moved = self.advance_tls()?;
            moved |= self.encrypt();
            moved |= self.write_socket()?;
            if !self.plaintext().is_empty() {
                return Ok(());
            }
            moved |= self.read_socket()?;
            if self.state == State::Ended || !moved {
                return Ok(());
            }
        }
    }

    fn advance_tls(&mut self) -> Result<bool, Trouble> {
        let Some(tls) = &mut self.tls else { return Ok(false) };
        let worked = tls.advance();
        match tls.state() {
            TlsState::Failed => {
                let _ = self.error.set(tls.error().as_bytes());
                // The alert, as far as the socket takes it now.
                let _ = self.write_socket();
                Err(Trouble::Tls)
            }
            TlsState::PeerClosed => {
                self.state = State::Ended;
                if self.plaintext().is_empty() { Err(Trouble::Closed) } else { Ok(worked) }
            }
            _ => Ok(worked),
        }
    }

    fn encrypt(&mut self) -> bool {
        let Some(tls) = &mut self.tls else { return false };
        let count = tls.write(&self.outbox.as_bytes()[self.written..]);
        self.written += count;
        count > 0
    }

    fn write_socket(&mut self) -> Result<bool, Trouble> {
        let Some(stream) = &mut self.stream else { return Ok(false) };
        let mut moved = false;
        while self.writable {
            let bytes = match &self.tls {
                Some(tls) => tls.ciphertext(),
                None => &self.outbox.as_bytes()[self.written..],
            };
            if bytes.is_empty() {
                break;
            }
            match stream.write(bytes) {
                Ok(0) => return Err(Trouble::Closed),
                Ok(count) => {
                    moved = true;
                    match &mut self.tls {
                        Some(tls) => tls.sent(count),
                        None => self.written += count,
                    }
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => self.writable = false,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => return Err(Trouble::Closed),
            }
        }
        Ok(moved)
    }

    fn read_socket(&mut self) -> Result<bool, Trouble> {
        let Some(stream) = &mut self.stream else { return Ok(false) };
        if !self.readable {
            return Ok(false);
        }
        let mut place = [0; 4096];
        let room = match &mut self.tls {
            Some(tls) => tls.room(),
            None => &mut place[..],
        };
        if room.is_empty() {
            return Ok(false);
        }
        match stream.read(room) {
            // Without close_notify: for HTTP, whose framing tells a cut from an end, as good.
            Ok(0) => {
                self.state = State::Ended;
                if self.plaintext().is_empty() { Err(Trouble::Closed) } else { Ok(false) }
            }
            Ok(count) => {
                match &mut self.tls {
                    Some(tls) => tls.received(count),
                    // `plaintext` was empty: it fits.
                    None => self.inbox.set(&place[..count]).map_err(|_| Trouble::Closed)?,
                }
                Ok(true)
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                self.readable = false;
                Ok(false)
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => Ok(true),
            Err(_) => Err(Trouble::Closed),
        }
    }

    /// Blocks until the socket can move, the waker is used, or the time is over.
    pub fn wait(&mut self, timeout: Option<Duration>) {
        // Up to the next millisecond: epoll's grain; else a timer would spin.
        let timeout = timeout.map(|time| {
            std::time::Duration::from_nanos(time.0)
                .saturating_add(std::time::Duration::from_micros(1))
        });
        if let Err(error) = self.poll.poll(&mut self.events, timeout) {
            assert!(error.kind() == ErrorKind::Interrupted, "epoll_wait: {error}");
            return;
        }
        for event in &self.events {
            if event.token() == SOCKET {
                self.readable |= event.is_readable() || event.is_read_closed() || event.is_error();
                self.writable |= event.is_writable() || event.is_write_closed() || event.is_error();
            }
        }
    }
}

/// TCP_NODELAY, and an end to half-open connections: keepalive probes, and TCP_USER_TIMEOUT for
/// what was sent and is not acknowledged (tcp(7)).
fn set_options(stream: &TcpStream) {
    let seconds = (KUBE_KEEPALIVE_MS / 1000) as libc::c_int;
    let options = [
        (libc::SOL_SOCKET, libc::SO_KEEPALIVE, 1),
        (libc::IPPROTO_TCP, libc::TCP_NODELAY, 1),
        (libc::IPPROTO_TCP, libc::TCP_KEEPIDLE, seconds),
        (libc::IPPROTO_TCP, libc::TCP_KEEPINTVL, seconds),
        (libc::IPPROTO_TCP, libc::TCP_KEEPCNT, 2),
        (libc::IPPROTO_TCP, libc::TCP_USER_TIMEOUT, 2 * KUBE_KEEPALIVE_MS as libc::c_int),
    ];
    for (level, option, value) in options {
        let value: libc::c_int = value;
        // SAFETY: the descriptor is open; the pointer is to an int of the size given.
        let result = unsafe {
            let pointer = (&raw const value).cast();
            let size = size_of::<libc::c_int>() as libc::socklen_t;
            libc::setsockopt(stream.as_raw_fd(), level, option, pointer, size)
        };
        // An option that this kernel lacks costs only time to notice a dead peer.
        debug_assert!(result == 0);
    }
}
