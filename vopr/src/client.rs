//! The clients: HTTP/1.1 connections that stamp every request, pipeline, read slowly, give up.
//!
//! In: where the routers listen, and what they serve. Out: requests for the ledger, answers for the
//! checkers.

use crate::checkers::{d7, d8};
use crate::faults::{Fault, Injected};
use crate::http::{Message, Next, Reader};
use crate::ledger::{Greeting, Ledger, Request, Response, body_of};
use crate::marks::sometimes;
use crate::model::lookup::FROM_CLIENT;
use crate::model::object::EDITED;
use crate::model::table::Table;
use crate::network::{EndId, Ended, Event, MS, Network, Node, SECOND, SocketEvent, Time};
use crate::seed::{Options, Rate};
use crate::sim::ROUTERS;
use crate::target;
use crate::tunnel::{self, Side, Tunnel};
use crate::workload;
use serval::stdx::Prng;
use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::rc::Rc;

/// Hosts that requests name; routes and listeners choose from them too.
pub const HOSTS: [&str; 6] =
    ["a.example.com", "b.example.com", "x.y.example.com", "a.other.org", "other.org", "c.net"];
/// Paths of requests.
pub const PATHS: [&str; 9] =
    ["/", "/a", "/a/", "/a/b", "/a/b/c", "/ab", "/b", "/b/x", "/deep/er/path"];

struct Conn {
    router: usize,
    address: SocketAddr,
    reader: Reader,
    is_open: bool,
    /// Of a TLS connection: the server name of its hello, then what that chose.
    server_name: Option<String>,
    secured: Option<(String, String)>,
    greeting: Vec<u8>,
    /// Its last request asks for WebSocket.
    upgrades: bool,
    /// It speaks HTTP/1.0, for one request.
    is_old: bool,
    tunnel: Option<Tunnel>,
    output: Vec<u8>,
    /// Stamps that wait for their answer, in order, and whether they are HEAD.
    waiting: VecDeque<(String, bool)>,
    /// The answer whose head was read, and when.
    head_at: Option<Time>,
    left: u32,
    depth: usize,
    is_slow: bool,
    abort_at: Time,
    think_until: Time,
    /// It stays open so long, whether it asks or not.
    stays_until: Time,
    began: Time,
}

impl Conn {
    /// Requests may go.
    fn is_ready(&self) -> bool {
        self.is_open && (self.server_name.is_none() || self.secured.is_some())
    }

    /// What follows a 101.
    fn switch(
        &mut self,
        stamp: &str,
        is_cut: bool,
        ledger: &mut Ledger,
        (prng, net): (&mut Prng, &mut Network),
    ) {
        let mut tunnel = Tunnel::new(stamp, Side::Client, is_cut, prng);
        tunnel.take(&self.reader.rest(), net);
        ledger.tunnels.entry(stamp.to_string()).or_default().is_open = true;
        self.tunnel = Some(tunnel);
    }

    /// Takes bytes: the answer to a hello, then those of HTTP.
    fn feed(&mut self, bytes: &[u8], ledger: &mut Ledger) {
        if self.server_name.is_none() || self.secured.is_some() {
            self.reader.feed(bytes);
        } else if let Some((greeting, rest)) = self.greet(bytes) {
            ledger.greetings.push(greeting);
            self.reader.feed(&rest);
        }
    }

    /// Takes bytes of the answer to a hello; that answer when it is whole, and what is behind it.
    fn greet(&mut self, bytes: &[u8]) -> Option<(Greeting, Vec<u8>)> {
        self.greeting.extend(bytes);
        let end = self.greeting.iter().position(|&b| b == b'\n')?;
        let rest = self.greeting.split_off(end + 1);
        let line = String::from_utf8_lossy(&self.greeting).trim_end().to_string();
        let mut words = line.splitn(3, ' ').map(str::to_string);
        let mut word = || words.next().unwrap_or_default();
        let (listener, chain) = ((word(), word()), word());
        self.secured = Some(listener.clone());
        let (router, address, began) = (self.router, self.address, self.began);
        let name = self.server_name.clone().unwrap_or_default();
        Some((Greeting { router, address, began, name, listener, chain }, rest))
    }

    /// The head of an answer is read.
    fn headed(&mut self, net: &mut Network) {
        self.head_at = Some(net.now);
        let head = self.reader.message();
        if let Some((stamp, _)) = self.waiting.front() {
            d7::headed(stamp, head, self.is_old, net);
            d8::answered(stamp, head.status(), &head.fields, net);
        }
    }

    /// Nothing is left to be asked or answered.
    fn is_done(&self, now: Time) -> bool {
        now >= self.stays_until
            && self.left == 0
            && self.waiting.is_empty()
            && self.output.is_empty()
    }
}

/// An answer, or the end of one that was not whole.
#[derive(Debug)]
pub struct Outcome {
    pub request: Request,
    /// None: the connection ended before it was whole.
    pub response: Option<Response>,
    /// An answer before said that the connection closes, so that what was sent behind it is lost;
    /// or the client reads so slowly that it may be there, unread.
    pub was_told: bool,
}

/// What a router serves.
pub type Served<'a> = dyn Fn(usize) -> Rc<Table> + 'a;

/// All clients.
#[expect(missing_debug_implementations, reason = "connections say nothing")]
pub struct Clients {
    conns: BTreeMap<EndId, Conn>,
    prng: Prng,
    pub faults: Rate,
    pub injected: Injected,
    most: usize,
    /// Routers are tight: few come once all is to succeed.
    is_tight: bool,
    think: Time,
    next: u64,
    pub requests: u64,
    pub answered: u64,
    pub stopped: bool,
}

impl Clients {
    /// Nobody is connected.
    pub fn new(options: &Options) -> Clients {
        Clients {
            conns: BTreeMap::new(),
            prng: options.child("clients"),
            faults: options.client_faults,
            injected: Injected::default(),
            most: options.clients,
            is_tight: options.tight,
            think: options.think_ms * MS,
            next: 1,
            requests: 0,
            answered: 0,
            stopped: false,
        }
    }

    /// From now on they ask more often.
    pub fn hurry(&mut self) {
        self.think = self.think.min(100 * MS);
    }

    /// From now on requests are to succeed.
    pub fn heal(&mut self) {
        if self.is_tight {
            self.most = 2;
        }
    }

    /// Connections open.
    pub fn open(&self) -> usize {
        self.conns.len()
    }

    /// Time passed: new connections, next requests; what was answered.
    pub fn on_timer(
        &mut self,
        served: &Served<'_>,
        ledger: &mut Ledger,
        net: &mut Network,
    ) -> Vec<Outcome> {
        let mut outcomes = Vec::new();
        if !self.stopped && self.conns.len() < self.most && self.prng.chance(1, 3) {
            self.connect(served, net);
        }
        let ends: Vec<EndId> = self.conns.keys().copied().collect();
        for end in ends {
            self.act(end, served, ledger, net);
            outcomes.extend(self.receive(end, ledger, net));
        }
        if !self.stopped || !self.conns.is_empty() {
            let at = net.now + self.prng.range(MS, 30 * MS);
            net.schedule(at, Event::Timer(Node::Clients, 0));
        }
        outcomes
    }

    fn connect(&mut self, served: &Served<'_>, net: &mut Network) {
        let router = self.prng.below(ROUTERS as u64) as usize;
        let mut binds: Vec<SocketAddr> = net
            .listening(Node::Router(router))
            .into_iter()
            .filter(|a| a.port() != crate::router::ADMIN_PORT)
            .collect();
        if binds.is_empty() {
            return;
        }
        let table = served(router);
        if !self.prng.chance(1, 8) && binds.iter().any(|&a| target::is_served(&table, a)) {
            binds.retain(|&a| target::is_served(&table, a));
        }
        let address = binds[self.prng.below(binds.len() as u64) as usize];
        let server_name = workload::is_tls_port(address.port()).then(|| {
            let host = target::pick(&mut self.prng, &table, address).host;
            let random = self.prng.below(8) == 0;
            if random { ["", "nobody.net"][self.prng.below(2) as usize].to_string() } else { host }
        });
        let end = net.connect(Node::Clients, Node::Router(router), address);
        let aborts = self.faults.happens(&mut self.prng);
        let is_slow = self.faults.happens(&mut self.prng);
        if aborts || is_slow {
            self.injected.add(Fault::ClientFaults);
        }
        let is_old = self.prng.chance(1, 12);
        let mut conn = Conn {
            router,
            address,
            reader: Reader::new(true),
            is_open: false,
            output: server_name.iter().flat_map(|n| format!("{n}\n").into_bytes()).collect(),
            server_name,
            secured: None,
            greeting: Vec::new(),
            upgrades: self.prng.chance(1, 5) && !is_old,
            is_old,
            tunnel: None,
            waiting: VecDeque::new(),
            head_at: None,
            left: self.prng.range(1, 12) as u32,
            depth: if self.prng.chance(1, 3) { self.prng.range(2, 5) as usize } else { 1 },
            is_slow,
            abort_at: if aborts { net.now + self.prng.below(3 * SECOND) } else { Time::MAX },
            think_until: 0,
            stays_until: if self.prng.chance(1, 12) { net.now + 20 * SECOND } else { 0 },
            began: net.now,
        };
        if is_old {
            (conn.left, conn.depth) = (1, 1);
        }
        self.conns.insert(end, conn);
    }

    /// Something happened at a socket; what was answered.
    pub fn on_socket(
        &mut self,
        end: EndId,
        what: SocketEvent,
        served: &Served<'_>,
        ledger: &mut Ledger,
        net: &mut Network,
    ) -> Vec<Outcome> {
        match what {
            SocketEvent::Opened => {
                if let Some(conn) = self.conns.get_mut(&end) {
                    conn.is_open = true;
                }
            }
            SocketEvent::Refused => {
                self.conns.remove(&end);
                net.close(end, false);
                return Vec::new();
            }
            _ => {}
        }
        self.act(end, served, ledger, net);
        self.receive(end, ledger, net)
    }

    /// Sends what is to be sent.
    fn act(&mut self, end: EndId, served: &Served<'_>, ledger: &mut Ledger, net: &mut Network) {
        let Some(conn) = self.conns.get_mut(&end) else { return };
        let too_long =
            net.now - conn.began > 30 * SECOND || self.stopped && conn.waiting.is_empty();
        if net.now >= conn.abort_at || too_long && conn.waiting.is_empty() {
            let conn = self.conns.remove(&end).expect("just looked at");
            let reset = self.prng.chance(1, 2);
            let stamps = conn.waiting.iter().map(|(stamp, _)| stamp);
            for stamp in stamps.chain(conn.tunnel.as_ref().map(|t| &t.stamp)).filter(|_| !reset) {
                tunnel::leave(stamp, ledger);
            }
            return net.close(end, reset);
        }
        if let Some(tunnel) = &mut conn.tunnel {
            if !tunnel.run(end, ledger, &mut self.prng, net) {
                self.conns.remove(&end);
            }
            return;
        }
        if !conn.is_open {
            return;
        }
        if conn.is_ready()
            && conn.waiting.len() < conn.depth
            && conn.left > 0
            && net.now >= conn.think_until
        {
            conn.left -= 1;
            let stamp = format!("{}.{}", end.stream, self.next);
            self.next += 1;
            self.requests += 1;
            let table = served(conn.router);
            let request = request(&mut self.prng, &stamp, conn, &table);
            let closes = conn.left == 0 && self.prng.chance(1, 4);
            let mut request = Request { sent_at: net.now, closes, ..request };
            if conn.upgrades && conn.left == 0 {
                (request.is_upgrade, request.method) = (true, "GET");
                (request.is_chunked, request.is_trailed) = (false, false);
                request.closes = false;
                request.body.clear();
            }
            conn.output.extend(bytes_of(&request, &mut self.prng));
            conn.waiting.push_back((stamp.clone(), request.method == "HEAD"));
            conn.think_until = net.now + self.prng.below(self.think);
            ledger.stamped = self.next - 1;
            ledger.requests.insert(stamp, request);
        }
        if !conn.output.is_empty()
            && let Some(taken) = net.write(end, &conn.output)
        {
            conn.output.drain(..taken);
        }
    }

    fn receive(&mut self, end: EndId, ledger: &mut Ledger, net: &mut Network) -> Vec<Outcome> {
        let mut outcomes = Vec::new();
        let Some(conn) = self.conns.get_mut(&end).filter(|c| c.tunnel.is_none()) else {
            return outcomes;
        };
        let ended = net.ended(end);
        if net.readable(end) == 0 && ended.is_none() && !conn.is_done(net.now) {
            return outcomes;
        }
        let most = if conn.is_slow { 40 } else { 1 << 20 };
        let bytes = net.read(end, most);
        conn.feed(&bytes, ledger);
        let ended = net.ended(end);
        let mut over = false;
        loop {
            let bodiless = conn.waiting.front().is_some_and(|w| w.1);
            match conn.reader.next(bodiless, ended == Some(Ended::Eof)) {
                Next::More => break,
                Next::Head => conn.headed(net),
                Next::Done(message) if message.status() < 200 && message.status() != 101 => {
                    sometimes("an interim answer arrives");
                }
                Next::Done(message) => {
                    let at = conn.head_at.take().unwrap_or(net.now);
                    over |= message.field("connection") == Some("close");
                    let Some((stamp, _)) = conn.waiting.pop_front() else {
                        let text = format!("an answer without a request: {}", message.start);
                        // 408 may come to a connection that never finished its head.
                        if message.status() != 408 {
                            net.trace.violated(net.now, "D3", text);
                        }
                        over = true;
                        break;
                    };
                    let Some(request) = ledger.requests.remove(&stamp) else { continue };
                    self.answered += 1;
                    if message.status() == 101 {
                        let is_cut = self.faults.happens(&mut self.prng);
                        conn.switch(&stamp, is_cut, ledger, (&mut self.prng, net));
                    }
                    let response = response(message, at);
                    outcomes.push(Outcome { request, response: Some(response), was_told: false });
                }
                Next::Bad(why) => {
                    net.trace.violated(net.now, "D4", format!("a client got no HTTP: {why}"));
                    over = true;
                    break;
                }
            }
        }
        if conn.tunnel.is_some() {
            return outcomes;
        }
        if over || conn.is_done(net.now) || ended.is_some() {
            let was_told = over || conn.is_slow;
            for (stamp, _) in core::mem::take(&mut conn.waiting) {
                tunnel::leave(&stamp, ledger);
                if let Some(request) = ledger.requests.remove(&stamp) {
                    outcomes.push(Outcome { request, response: None, was_told });
                }
            }
            self.conns.remove(&end);
            net.close(end, false);
        }
        outcomes
    }
}

/// An answer whose head came then.
fn response(message: Message, at: Time) -> Response {
    Response {
        status: message.status(),
        length: message.field("content-length").and_then(|length| length.parse().ok()),
        stamp: message.field("x-stamp").map(str::to_string),
        backend: message.field("x-backend").map(str::to_string),
        location: message.field("location").map(str::to_string),
        seen: message.field("x-seen").map(str::to_string),
        edited: message.joined(EDITED),
        closes: message.field("connection") == Some("close"),
        trailers: message.trailers,
        body: message.body,
        at,
    }
}

fn request(prng: &mut Prng, stamp: &str, conn: &Conn, table: &Table) -> Request {
    let (router, address) = (conn.router, conn.address);
    let mut target = target::pick(prng, table, address);
    if let Some(name) = &conn.server_name {
        // Mostly for the host that the hello named.
        let mut tries = prng.below(5);
        while target.host != *name && tries > 0 {
            tries -= 1;
            target = target::pick(prng, table, address);
        }
        if prng.chance(1, 8) {
            target.host = HOSTS[prng.below(HOSTS.len() as u64) as usize].to_string();
        }
    }
    let has_body = matches!(target.method, "POST" | "PUT");
    let is_chunked = has_body && prng.chance(1, 2) && !conn.is_old;
    let len = if has_body { [0, 10, 300, 5000][prng.below(4) as usize] } else { 0 };
    Request {
        stamp: stamp.to_string(),
        router,
        address,
        secured: conn.secured.clone(),
        method: target.method,
        host: target.host,
        path: target.path,
        query: target.query,
        headers: target.headers,
        body: body_of(stamp, "request", len),
        is_chunked,
        is_trailed: is_chunked && prng.chance(1, 2),
        is_upgrade: false,
        is_old: conn.is_old,
        closes: false,
        sent_at: 0,
    }
}

fn bytes_of(request: &Request, prng: &mut Prng) -> Vec<u8> {
    let Request { method, host, path, query, stamp, .. } = request;
    let mark = if query.is_empty() { "" } else { "?" };
    let version = if request.is_old { "HTTP/1.0" } else { "HTTP/1.1" };
    let mut text =
        format!("{method} {path}{mark}{query} {version}\r\nHost: {host}\r\nX-Stamp: {stamp}\r\n");
    text += &format!("{EDITED}: {FROM_CLIENT}\r\n");
    for (name, value) in &request.headers {
        text += &format!("{name}: {value}\r\n");
    }
    if request.is_upgrade {
        text += "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: key\r\n";
    } else {
        text += &d8::lines(true, prng);
    }
    if request.closes {
        text += "Connection: close\r\n";
    }
    let mut out;
    if request.is_chunked {
        text += "Transfer-Encoding: chunked\r\n\r\n";
        out = text.into_bytes();
        for piece in request.body.chunks(1 + prng.below(900) as usize) {
            out.extend(format!("{:x}\r\n", piece.len()).bytes());
            out.extend(piece);
            out.extend(b"\r\n");
        }
        let section = if request.is_trailed { d7::section(stamp) } else { String::new() };
        out.extend(format!("0\r\n{section}\r\n").bytes());
    } else {
        if matches!(*method, "POST" | "PUT") {
            text += &format!("Content-Length: {}\r\n", request.body.len());
        }
        text += "\r\n";
        out = text.into_bytes();
        out.extend(&request.body);
    }
    out
}
