//! The admin port on mio: sockets for [`crate::admin::Connection`], and what a service answers.
//!
//! In: a listener, a [`Service`], and perhaps an identity: then the port speaks mutual TLS only.
//! Out: answers. One thread; connections are few and slow ones are closed, so that nobody can keep
//! the port from a controller's push. Who has not proved who it is makes way for the next.

use crate::admin::{Connection, Request, Step};
use crate::limits::{
    ADMIN_HANDSHAKE_MS, ADMIN_INPUT_BYTES, ADMIN_TIMEOUT_MS, ADMIN_TLS_SLOT_BYTES,
    ADMIN_TLS_SLOT_SOFT_CAP_BYTES, Capacities, LIMITS, MAX_RECORD_SIZE_BYTES,
};
use crate::shell::clock;
use crate::shell::log::log;
use crate::shell::memory::SlotPool;
use crate::shell::place::boxed_zeroed;
use crate::shell::tls::identity::{Rotating, Until};
use crate::shell::tls::rustls::peer::RouterIdentity;
use crate::shell::tls::stream::SecureStream;
use crate::stdx::{Duration, Instant, Now};
use crate::wire::json::JsonWriter;
use core::sync::atomic::{AtomicU64, Ordering};
use mio::net::{TcpListener, TcpStream};
use mio::{Events, Interest, Poll, Token};
use std::boxed::Box;
use std::io::{ErrorKind, Read, Write};
use std::net::SocketAddr;
use std::sync::Arc;
use std::vec::Vec;

const ADMIN_INPUT: usize = ADMIN_INPUT_BYTES as usize;
const ADMIN_RECORD: usize = MAX_RECORD_SIZE_BYTES as usize;

/// What the requests of an admin port mean. `id` tells the connection.
pub trait Service<const INPUT: usize = ADMIN_INPUT, const RECORD: usize = ADMIN_RECORD> {
    /// A request begins; an error refuses it (status, text).
    fn begin(&mut self, id: usize, request: &Request, now: Now) -> Result<(), (u16, &'static str)>;

    /// A line of its body; false: the answer is clear already, and [`Service::end`] gives it.
    fn line(&mut self, id: usize, line: &[u8], now: Now) -> bool;

    /// The request is whole (or was cut short by `line`): answer it.
    fn end(&mut self, id: usize, connection: &mut Connection<INPUT, RECORD>, now: Now);

    /// An answer that `end` still owed: give it, or go on owing it.
    fn owed(&mut self, id: usize, connection: &mut Connection<INPUT, RECORD>, now: Now);

    /// The next piece of a streamed answer.
    fn piece(&mut self, id: usize, connection: &mut Connection<INPUT, RECORD>);

    /// The connection is gone.
    fn gone(&mut self, id: usize);
}

struct Place<const INPUT: usize, const RECORD: usize> {
    stream: Option<TcpStream>,
    /// None: plain HTTP.
    secure: Option<SecureStream>,
    seen: Seen,
    machine: Box<Connection<INPUT, RECORD>>,
    begun: Instant,
    active: Instant,
}

/// The sockets of one admin port.
#[expect(missing_debug_implementations, reason = "sockets say nothing")]
pub struct Server<const INPUT: usize = ADMIN_INPUT, const RECORD: usize = ADMIN_RECORD> {
    poll: Poll,
    events: Events,
    listener: TcpListener,
    places: Vec<Place<INPUT, RECORD>>,
    evicts: bool,
    identity: Option<Identity>,
    seen: Seen,
}

/// What a port with mutual TLS shows.
pub type Identity = Rotating<Arc<RouterIdentity>>;

/// What others may know of an admin port.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    refused: Arc<AtomicU64>,
    /// When a refused one was last logged: Instant's nanoseconds.
    complained: Arc<AtomicU64>,
    until: Until,
}

impl Seen {
    /// Connections that did not prove to be the controller's.
    pub fn refused(&self) -> u64 {
        self.refused.load(Ordering::Relaxed)
    }

    fn refuse(&self, why: &str, now: Now) {
        self.refused.fetch_add(1, Ordering::Relaxed);
        let last = Instant(self.complained.load(Ordering::Relaxed));
        if now.mono.since(last) >= COMPLAINT_PERIOD {
            self.complained.store(now.mono.0, Ordering::Relaxed);
            let why = if why.is_empty() { "no handshake" } else { why };
            log!(Warn, "admin", "a peer is refused: {why}");
        }
    }

    /// The last second of the port's certificate.
    pub fn until(&self) -> &Until {
        &self.until
    }
}

/// Whoever has not proved who it is after this may have to make way: a handshake takes two round
/// trips and a signature.
const UNPROVEN_AGE: Duration = Duration::from_millis(10);
/// Refused peers are counted, and one in this time is logged.
const COMPLAINT_PERIOD: Duration = Duration::from_secs(1);

/// The token by which others wake the thread: `mio::Waker::new(server.registry(), WAKE)`.
pub const WAKE: Token = Token(usize::MAX);
const LISTENER: Token = Token(usize::MAX - 1);

impl<const INPUT: usize, const RECORD: usize> Server<INPUT, RECORD> {
    /// Binds and takes the memory it needs for good, for so many connections at once. When all
    /// places are taken, a new client waits; or, where the port `evicts`, the one that was silent
    /// for longest makes way.
    pub fn bind(address: SocketAddr, connections: u32, evicts: bool) -> std::io::Result<Self> {
        let poll = Poll::new()?;
        let mut listener = TcpListener::bind(address)?;
        poll.registry().register(&mut listener, LISTENER, Interest::READABLE)?;
        let places = (0..connections).map(|_| Place::new()).collect();
        let (events, seen) = (Events::with_capacity(64), Seen::default());
        Ok(Server { poll, events, listener, places, evicts, identity: None, seen })
    }

    /// From now on only mutual TLS: before the seal. The thread needs a reserve.
    pub fn secure(&mut self, identity: Identity) {
        let count = self.places.len() as u32;
        let soft_cap = ADMIN_TLS_SLOT_SOFT_CAP_BYTES;
        // It lives as long as the process.
        let slots = SlotPool::new(count, ADMIN_TLS_SLOT_BYTES as usize, soft_cap);
        let slots = Box::leak(Box::new(slots));
        self.seen.until = identity.until();
        for place in &mut self.places {
            let handle = slots.take().expect("one for each");
            place.secure = Some(SecureStream::new(Some(slots.slot(handle))));
            place.seen = self.seen.clone();
        }
        self.identity = Some(identity);
    }

    /// Bytes of [`Self::secure`] for so many connections: a line of the memory plan.
    pub fn secure_bytes(connections: u32) -> u64 {
        SlotPool::bytes(connections, ADMIN_TLS_SLOT_BYTES as usize)
            + u64::from(connections) * SecureStream::bytes()
            + Identity::bytes()
    }

    /// What others may know of it.
    pub fn seen(&self) -> Seen {
        self.seen.clone()
    }

    /// Bytes it holds for so many connections: a line of the memory plan.
    pub fn bytes(connections: u32) -> u64 {
        u64::from(connections) * size_of::<Connection<INPUT, RECORD>>() as u64
    }

    /// The address bound.
    pub fn address(&self) -> std::io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// To register what the service waits for.
    pub fn registry(&self) -> &mio::Registry {
        self.poll.registry()
    }

    /// Waits for at most `timeout` (a moment only while answers are owed) and serves what came.
    pub fn turn(&mut self, service: &mut impl Service<INPUT, RECORD>, timeout: Duration) {
        let owes = self.places.iter().any(|p| p.stream.is_some() && p.machine.is_waiting());
        let is_full = self.places.iter().all(|p| p.stream.is_some());
        let timeout = match owes {
            true => Duration::from_millis(1),
            false if is_full && self.identity.is_some() => timeout.min(UNPROVEN_AGE),
            false => timeout,
        };
        let timeout = core::time::Duration::from_nanos(timeout.0);
        if self.poll.poll(&mut self.events, Some(timeout)).is_err() {
            return;
        }
        let now = clock::now();
        if let Some(identity) = &mut self.identity {
            identity.refresh(now);
        }
        for event in &self.events {
            match event.token() {
                Token(id) if id < self.places.len() => {
                    self.places[id].active = now.mono;
                    self.places[id].serve(id, service, now);
                }
                _ => {}
            }
        }
        for (id, place) in self.places.iter_mut().enumerate() {
            if place.stream.is_some() && place.machine.is_waiting() {
                service.owed(id, &mut place.machine, now);
                place.serve(id, service, now);
            }
            if place.is_late(now) {
                place.close(id, service, now);
            }
        }
        self.accept(service, now);
    }

    /// Takes clients while there is a place; the kernel keeps the others waiting.
    fn accept(&mut self, service: &mut impl Service<INPUT, RECORD>, now: Now) {
        for id in 0..self.places.len() {
            if self.places[id].stream.is_some() {
                continue;
            }
            let Ok((stream, _)) = self.listener.accept() else { return };
            self.place(id, stream, service, now);
        }
        // At most once around in a turn; whoever still waits is taken in the next.
        for _ in 0..self.places.len() {
            let Some(id) = self.evictable(now) else { return };
            let Ok((stream, _)) = self.listener.accept() else { return };
            self.places[id].close(id, service, now);
            self.place(id, stream, service, now);
        }
    }

    /// Who makes way for a client: on a port that evicts, the one that was silent for longest; with
    /// mutual TLS, the oldest that has not proved who it is.
    fn evictable(&self, now: Now) -> Option<usize> {
        let all = self.places.iter().enumerate();
        if self.evicts {
            return all.min_by_key(|(_, place)| place.active).map(|(id, _)| id);
        }
        let unproven =
            all.filter(|(_, p)| p.is_unproven() && now.mono.since(p.begun) >= UNPROVEN_AGE);
        unproven.min_by_key(|(_, place)| place.begun).map(|(id, _)| id)
    }

    /// Gives a client a free place.
    fn place(
        &mut self,
        id: usize,
        mut stream: TcpStream,
        service: &mut impl Service<INPUT, RECORD>,
        now: Now,
    ) {
        let both = Interest::READABLE | Interest::WRITABLE;
        let registered = self.poll.registry().register(&mut stream, Token(id), both);
        if registered.is_ok() && stream.set_nodelay(true).is_ok() {
            let place = &mut self.places[id];
            place.machine.clear();
            if let (Some(secure), Some(identity)) = (&mut place.secure, &self.identity) {
                secure.begin(identity.current());
            }
            (place.stream, place.begun, place.active) = (Some(stream), now.mono, now.mono);
            place.serve(id, service, now);
        }
    }
}

impl<const INPUT: usize, const RECORD: usize> Place<INPUT, RECORD> {
    fn new() -> Self {
        let (begun, active) = (Instant::default(), Instant::default());
        let (machine, seen) = (boxed_zeroed(), Seen::default());
        Place { stream: None, secure: None, seen, machine, begun, active }
    }

    /// Ends the connection.
    fn close(&mut self, id: usize, service: &mut impl Service<INPUT, RECORD>, now: Now) {
        let stream = self.stream.take();
        if let (Some(secure), Some(mut stream)) = (&mut self.secure, stream) {
            if !secure.is_open() {
                self.seen.refuse(secure.error(), now);
            }
            secure.finish(&mut stream);
            secure.end();
        }
        service.gone(id);
    }

    /// Whether its peer may be anybody.
    fn is_unproven(&self) -> bool {
        self.stream.is_some() && self.secure.as_ref().is_some_and(|secure| !secure.is_open())
    }

    fn is_late(&self, now: Now) -> bool {
        let passed = |since, ms: u32| now.mono.since(since) >= Duration::from_millis(ms.into());
        self.stream.is_some()
            && (passed(self.active, ADMIN_TIMEOUT_MS)
                || self.is_unproven() && passed(self.begun, ADMIN_HANDSHAKE_MS))
    }

    fn read(&mut self) -> std::io::Result<usize> {
        let Place { stream: Some(stream), secure, machine, .. } = self else { return Ok(0) };
        match secure {
            Some(secure) => secure.read(stream, machine.room()),
            None => stream.read(machine.room()),
        }
    }

    /// Sends some of the answer, or what TLS has left of it when all was taken.
    fn send(&mut self) -> std::io::Result<usize> {
        let Place { stream: Some(stream), secure, machine, .. } = self else { return Ok(0) };
        match secure {
            Some(secure) if machine.output().is_empty() => secure.flush(stream).map(|()| 0),
            Some(secure) => secure.write(stream, machine.output()),
            None if machine.output().is_empty() => Ok(0),
            None => stream.write(machine.output()),
        }
    }

    /// Reads, answers and writes until the socket would block.
    fn serve(&mut self, id: usize, service: &mut impl Service<INPUT, RECORD>, now: Now) {
        loop {
            if !self.write(id, service) {
                return self.close(id, service, now);
            }
            if self.machine.is_answering() {
                return;
            }
            if self.steps(id, service, now) {
                continue;
            }
            match self.read() {
                Ok(0) => return self.close(id, service, now),
                Ok(bytes) => self.machine.received(bytes),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                Err(_) => return self.close(id, service, now),
            }
        }
    }

    /// Takes what was received; true when there is an answer to write.
    fn steps(&mut self, id: usize, service: &mut impl Service<INPUT, RECORD>, now: Now) -> bool {
        loop {
            match self.machine.step() {
                Step::More => return false,
                Step::Request => {
                    let begun = service.begin(id, self.machine.request(), now);
                    if let Err((status, text)) = begun {
                        self.machine.answer_text(status, format_args!("{text}"));
                        return true;
                    }
                }
                Step::Line => {
                    if !service.line(id, self.machine.line(), now) {
                        service.end(id, &mut self.machine, now);
                        return true;
                    }
                }
                Step::End => {
                    service.end(id, &mut self.machine, now);
                    return true;
                }
                Step::Refuse(status) => {
                    self.machine.answer_text(status, format_args!("not a request for this port"));
                    return true;
                }
            }
        }
    }

    /// Writes the answer as far as it goes; false when the connection is done for.
    fn write(&mut self, id: usize, service: &mut impl Service<INPUT, RECORD>) -> bool {
        if self.stream.is_none() {
            return false;
        }
        loop {
            if self.machine.wants_piece() {
                service.piece(id, &mut self.machine);
            }
            let is_done = self.machine.output().is_empty();
            if is_done && self.machine.wants_piece() {
                continue;
            }
            match self.send() {
                Ok(_) if is_done => return !self.machine.is_finished(),
                Ok(bytes) => self.machine.sent(bytes),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => return true,
                Err(_) => return false,
            }
        }
    }
}

/// Writes every limit with the value in force as JSON.
pub fn write_limits(capacities: &Capacities, out: &mut [u8]) -> Option<usize> {
    let mut json = JsonWriter::new(out);
    json.begin_array();
    for limit in LIMITS {
        let value = capacities.get(limit.name).unwrap_or(limit.default);
        json.begin_object().member("name", limit.name).member("kind", limit.kind);
        json.member("unit", limit.unit).key("value").number(value);
        json.key("min").number(limit.min).key("max").number(limit.max);
        json.member("why", limit.why).end_object();
    }
    json.end_array();
    json.finish().ok().map(str::len)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::string::String;

    struct Echo(Vec<u8>);

    impl Service for Echo {
        fn begin(&mut self, _: usize, r: &Request, _: Now) -> Result<(), (u16, &'static str)> {
            self.0.clear();
            if r.path.as_str() == "/no" { Err((404, "no such page")) } else { Ok(()) }
        }
        fn line(&mut self, _: usize, line: &[u8], _: Now) -> bool {
            self.0.extend_from_slice(line);
            true
        }
        fn end(&mut self, _: usize, connection: &mut Connection, _: Now) {
            connection.answer_text(200, format_args!("{}", self.0.len()));
        }
        fn owed(&mut self, _: usize, _: &mut Connection, _: Now) {}
        fn piece(&mut self, _: usize, _: &mut Connection) {}
        fn gone(&mut self, _: usize) {}
    }

    #[test]
    fn requests_over_a_socket() {
        let mut server = <Server>::bind("127.0.0.1:0".parse().unwrap(), 8, false).unwrap();
        let address = server.address().unwrap();
        let client = std::thread::Builder::new().spawn(move || {
            let mut stream = std::net::TcpStream::connect(address).unwrap();
            let body = "x".repeat(200_000) + "\n" + &"y".repeat(7);
            let len = body.len();
            let text = std::format!("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {len}\r\n\r\n");
            stream.write_all(text.as_bytes()).unwrap();
            stream.write_all(body.as_bytes()).unwrap();
            let last = b"GET /no HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
            stream.write_all(last).unwrap();
            let mut out = String::new();
            stream.read_to_string(&mut out).unwrap();
            out
        });
        let (client, mut echo) = (client.unwrap(), Echo(Vec::new()));
        while !client.is_finished() {
            server.turn(&mut echo, Duration::from_millis(20));
        }
        let out = client.join().unwrap();
        assert!(out.contains("\r\n\r\n200007\n"), "{out}");
        assert!(out.contains("HTTP/1.1 404 Not Found"), "{out}");
        assert!(out.ends_with("no such page\n"), "{out}");
    }
}
