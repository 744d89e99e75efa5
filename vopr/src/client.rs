//! The clients: HTTP/1.1 connections that stamp every request, pipeline, read slowly, give up.
//!
//! In: where the routers listen, and what they serve. Out: requests for the ledger, answers for the
//! checkers.

use crate::checkers::d16::{self, Half};
use crate::checkers::{d7, d8};
use crate::faults::{Fault, Injected};
use crate::http::{Message, Next, Reader, chunked};
use crate::ledger::{Greeting, Ledger, Request, Response, body_of};
use crate::marks::sometimes;
use crate::model::lookup::FROM_CLIENT;
use crate::model::object::EDITED;
use crate::model::table::Table;
use crate::network::{EndId, Ended, Event, MS, Network, Node, SECOND, SocketEvent, Time};
use crate::pace::{Pace, Rests};
use crate::seed::{Options, Rate};
use crate::sim::ROUTERS;
use crate::target;
use crate::tunnel::{self, Side, Tunnel};
use crate::workload;
use serval::stdx::Prng;
use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::rc::Rc;

/// A client waits for so long at most.
const PATIENCE: Time = 24 * SECOND;
/// Clients beside the others whose requests take their time.
const PATIENT: usize = 4;

/// Hosts that requests name; routes and listeners choose from them too.
pub const HOSTS: [&str; 6] =
    ["a.example.com", "b.example.com", "x.y.example.com", "a.other.org", "other.org", "c.net"];
/// Paths of requests.
pub const PATHS: [&str; 9] =
    ["/", "/a", "/a/", "/a/b", "/a/b/c", "/ab", "/b", "/b/x", "/deep/er/path"];

/// When a client ends its direction behind its last request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Shuts {
    AtOnce,
    /// So long after it asked.
    Later(Time),
    /// When it sees an answer's head.
    BehindTheHead,
}

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
    /// Its last request takes its time.
    is_patient: bool,
    /// Of the last request: what is sent behind the rest, and when.
    later: Vec<u8>,
    later_at: Time,
    /// When it ends its direction behind its last request, if it does, and whether it has.
    shuts: Option<Shuts>,
    is_shut: bool,
    /// When its last request was sent, and the last answer was whole.
    asked_at: Time,
    answered_at: Time,
    /// An answer said that the connection closes.
    was_told: bool,
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
        (stamp, pace): (&str, Option<Pace>),
        is_cut: bool,
        ledger: &mut Ledger,
        (prng, net): (&mut Prng, &mut Network),
    ) {
        let mut tunnel = Tunnel::new(stamp, Side::Client, is_cut, prng);
        if let Some(talker) = pace.and_then(|pace| pace.talker()) {
            tunnel.only(talker, net.now);
        }
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

    /// Whether it ends its direction now.
    fn ends_now(&self, now: Time) -> bool {
        let said = self.left == 0 && self.output.is_empty() && self.later.is_empty();
        let wants = match self.shuts {
            None => false,
            Some(Shuts::AtOnce) => true,
            Some(Shuts::Later(after)) => now >= self.asked_at + after,
            Some(Shuts::BehindTheHead) => self.head_at.is_some() || self.waiting.is_empty(),
        };
        said && wants && !self.is_shut && self.is_ready()
    }

    /// Takes a request that is to be sent: its body perhaps a while behind its head.
    fn put(
        &mut self,
        head: Vec<u8>,
        body: Vec<u8>,
        prng: &mut Prng,
        (now, pace): (Time, Option<Pace>),
    ) {
        self.asked_at = now;
        self.output.extend(head);
        let rests = pace.filter(|pace| pace.rests == Rests::InTheRequest);
        let (at, pause) = match rests {
            Some(pace) => (body.len() / 2, Time::from(pace.ms) * MS),
            None if body.is_empty() || prng.chance(1, 2) => (body.len(), 0),
            None if prng.chance(1, 2) => (0, prng.below(60 * MS)),
            None => (prng.below(body.len() as u64) as usize, prng.below(60 * MS)),
        };
        self.output.extend(&body[..at]);
        (self.later, self.later_at) = (body[at..].to_vec(), now + pause);
    }

    /// Sends what is there, and what is due; then perhaps the end.
    fn send(&mut self, end: EndId, ledger: &mut Ledger, net: &mut Network) {
        if self.output.is_empty() && net.now >= self.later_at {
            self.output = core::mem::take(&mut self.later);
        }
        if !self.output.is_empty()
            && let Some(taken) = net.write(end, &self.output)
        {
            self.output.drain(..taken);
            if self.output.is_empty()
                && self.later.is_empty()
                && let Some((stamp, _)) = self.waiting.back()
                && let Some(request) = ledger.requests.get_mut(stamp)
            {
                request.whole_at = net.now;
            }
        }
        if self.ends_now(net.now) {
            self.is_shut = true;
            net.shutdown(end);
        }
    }

    /// It is over: what is known of one that ended its direction.
    fn settle(&self, end: EndId, was_told: bool, (ledger, net): (&mut Ledger, &Network)) {
        let is_answered = self.waiting.is_empty();
        if self.is_shut && (is_answered || !was_told && !self.is_patient) {
            ledger.halves.push(Half {
                router: self.router,
                stream: end.stream,
                sent_at: self.asked_at,
                answered_at: is_answered.then_some(self.answered_at),
                ended_at: net.now,
            });
        }
    }

    /// It waits for longer than anybody does.
    fn gives_up(&self, now: Time) -> bool {
        !self.waiting.is_empty() && now > self.asked_at + PATIENCE
    }

    /// Nothing is left to be asked or answered.
    fn is_done(&self, now: Time) -> bool {
        now >= self.stays_until
            && (!self.is_shut || now >= self.answered_at + d16::WITHIN + SECOND)
            && self.left == 0
            && self.waiting.is_empty()
            && self.output.is_empty()
            && self.later.is_empty()
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
        // With those that are patient as many as a router serves at once.
        self.most = if self.is_tight { 2 } else { self.most.saturating_sub(PATIENT).max(3) };
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
        let patient = self.conns.values().filter(|c| c.is_patient).count();
        if !self.stopped && self.conns.len() - patient < self.most && self.prng.chance(1, 3) {
            self.connect(false, served, net);
        }
        let most = if self.is_tight { 1 } else { PATIENT };
        if !self.stopped && patient < most && self.prng.chance(1, 12) {
            self.connect(true, served, net);
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

    fn connect(&mut self, is_patient: bool, served: &Served<'_>, net: &mut Network) {
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
        let aborts = self.faults.happens(&mut self.prng) && !is_patient;
        let is_slow = self.faults.happens(&mut self.prng) && !is_patient;
        if aborts || is_slow {
            self.injected.add(Fault::ClientFaults);
        }
        let is_old = self.prng.chance(1, 12) && !is_patient;
        let mut conn = Conn {
            router,
            address,
            reader: Reader::new(true),
            is_open: false,
            output: server_name.iter().flat_map(|n| format!("{n}\n").into_bytes()).collect(),
            server_name,
            secured: None,
            greeting: Vec::new(),
            upgrades: self.prng.chance(1, 5) && !is_old && !(is_patient && self.is_tight),
            is_old,
            tunnel: None,
            waiting: VecDeque::new(),
            head_at: None,
            left: self.prng.range(1, 12) as u32,
            depth: if self.prng.chance(1, 3) { self.prng.range(2, 5) as usize } else { 1 },
            is_patient,
            later: Vec::new(),
            later_at: 0,
            shuts: None,
            is_shut: false,
            asked_at: net.now,
            answered_at: net.now,
            was_told: false,
            is_slow,
            abort_at: if aborts { net.now + self.prng.below(3 * SECOND) } else { Time::MAX },
            think_until: 0,
            stays_until: if self.prng.chance(1, 12) { net.now + 20 * SECOND } else { 0 },
            began: net.now,
        };
        self.choose(&mut conn);
        self.conns.insert(end, conn);
    }

    /// How many requests it asks, and how it ends, by its kind.
    fn choose(&mut self, conn: &mut Conn) {
        if conn.is_old {
            (conn.left, conn.depth) = (1, 1);
        }
        if conn.is_patient {
            // The first request finds it a place.
            (conn.left, conn.depth, conn.stays_until) = (2, 1, 0);
        }
        if self.prng.chance(1, if conn.is_patient { 3 } else { 6 }) && !conn.upgrades {
            let later = Shuts::Later(self.prng.below(20 * MS));
            let all = [Shuts::AtOnce, later, Shuts::BehindTheHead];
            conn.shuts = Some(all[self.prng.below(3) as usize]);
        }
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
        let too_long = net.now - conn.began > 30 * SECOND || self.stopped && !conn.is_shut;
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
            && conn.later.is_empty()
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
            if conn.is_patient && conn.left == 0 {
                request.pace = Some(Pace::pick(request.method, self.is_tight, &mut self.prng));
                if matches!(request.method, "POST" | "PUT") {
                    request.body = body_of(&stamp, "request", 300);
                }
            }
            if conn.upgrades && conn.left == 0 {
                request.pace = conn.is_patient.then(|| Pace::tunnel(&mut self.prng));
                (request.is_upgrade, request.method) = (true, "GET");
                (request.is_chunked, request.is_trailed) = (false, false);
                request.closes = false;
                request.body.clear();
            }
            let (head, body) = bytes_of(&request, &mut self.prng);
            conn.put(head, body, &mut self.prng, (net.now, request.pace));
            conn.waiting.push_back((stamp.clone(), request.method == "HEAD"));
            conn.think_until = net.now + self.prng.below(self.think);
            ledger.stamped = self.next - 1;
            ledger.requests.insert(stamp, request);
        }
        conn.send(end, ledger, net);
    }

    fn receive(&mut self, end: EndId, ledger: &mut Ledger, net: &mut Network) -> Vec<Outcome> {
        let mut outcomes = Vec::new();
        let Some(conn) = self.conns.get_mut(&end).filter(|c| c.tunnel.is_none()) else {
            return outcomes;
        };
        let (ended, gives_up) = (net.ended(end), conn.gives_up(net.now));
        if net.readable(end) == 0 && ended.is_none() && !conn.is_done(net.now) && !gives_up {
            return outcomes;
        }
        let most = if conn.is_slow { 40 } else { 1 << 20 };
        let bytes = net.read(end, most);
        conn.feed(&bytes, ledger);
        let ended = net.ended(end);
        let mut over = gives_up;
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
                    conn.was_told |= message.field("connection") == Some("close");
                    conn.answered_at = net.now;
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
                        conn.switch((&stamp, request.pace), is_cut, ledger, (&mut self.prng, net));
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
        over |= conn.was_told && !conn.is_shut;
        if over || conn.is_done(net.now) || ended.is_some() {
            let was_told = over && !gives_up || conn.was_told || conn.is_slow;
            conn.settle(end, was_told, (ledger, net));
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
        pace: None,
        whole_at: Time::MAX,
        closes: false,
        sent_at: 0,
    }
}

/// Head and body.
fn bytes_of(request: &Request, prng: &mut Prng) -> (Vec<u8>, Vec<u8>) {
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
    if let Some(pace) = request.pace {
        text += &pace.line();
    }
    let mut out = Vec::new();
    if request.is_chunked {
        text += "Transfer-Encoding: chunked\r\n\r\n";
        let section = if request.is_trailed { d7::section(stamp) } else { String::new() };
        let most = prng.range(1, 900);
        out.extend(chunked(&request.body, most, &section, prng));
    } else {
        if matches!(*method, "POST" | "PUT") {
            text += &format!("Content-Length: {}\r\n", request.body.len());
        }
        text += "\r\n";
        out.extend(&request.body);
    }
    (text.into_bytes(), out)
}
