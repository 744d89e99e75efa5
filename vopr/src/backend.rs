//! The backends: HTTP/1.1 servers at every address of their net, which echo the stamp and say who
//! they are.
//!
//! In: connections of routers. Out: answers, and what they saw for the ledger. Faults: slow, closed
//! while idle, cut in mid-body, reset, answered before the body came.

use crate::abuser;
use crate::checkers::{d4, d7, d8};
use crate::faults::{Fault, Injected};
use crate::http::{Message, Next, Reader, chunked};
use crate::ledger::{Arrival, Attempt, Ledger, Shed, body_of};
use crate::marks::sometimes;
use crate::model::lookup::{FROM_BACKEND, Url};
use crate::model::object::EDITED;
use crate::network::{EndId, Event, MS, Network, Node, SECOND, SocketEvent, Time};
use crate::pace::Pace;
use crate::seed::Rate;
use crate::tunnel::{Side, Tunnel};
use serval::stdx::Prng;
use std::collections::BTreeMap;
use std::net::SocketAddr;

struct Conn {
    reader: Reader,
    name: String,
    /// To be written, from when on.
    output: Vec<u8>,
    ready_at: Time,
    /// Behind the output: what is written when that has rested for so long.
    later: Vec<u8>,
    rest: Time,
    /// Nobody looked at it since its last request.
    is_new: bool,
    /// It came to rest behind an answer: it is kept.
    is_kept: bool,
    /// When it is closed, if it is idle then, and whether by a reset.
    closes_at: Time,
    resets: bool,
    /// What happens when the output is out.
    then: Then,
    /// The request that comes was answered early.
    has_answered: bool,
    ended: bool,
    /// What it is after a 101.
    tunnel: Option<Tunnel>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Then {
    GoOn,
    Close,
    Reset,
}

/// All backends.
#[expect(missing_debug_implementations, reason = "connections say nothing")]
pub struct Backends {
    conns: BTreeMap<EndId, Box<Conn>>,
    /// When tunnels go on.
    tunnels_at: Time,
    prng: Prng,
    pub faults: Rate,
    /// Kept connections end soon, as with a short keep-alive timeout.
    pub sheds: bool,
    pub injected: Injected,
}

impl Backends {
    /// Nobody is connected.
    pub fn new(prng: Prng, faults: Rate) -> Backends {
        Backends {
            conns: BTreeMap::new(),
            tunnels_at: 0,
            prng,
            faults,
            sheds: false,
            injected: Injected::default(),
        }
    }

    /// Something happened at a socket.
    pub fn on_socket(
        &mut self,
        end: EndId,
        what: SocketEvent,
        ledger: &mut Ledger,
        net: &mut Network,
    ) {
        if what == SocketEvent::Accepted {
            let name = net.address(end).map(|a| a.to_string()).unwrap_or_default();
            let reader = Reader::new(false);
            let conn = Conn {
                reader,
                name,
                output: Vec::new(),
                ready_at: 0,
                later: Vec::new(),
                rest: 0,
                is_new: false,
                is_kept: false,
                closes_at: Time::MAX,
                resets: false,
                then: Then::GoOn,
                has_answered: false,
                ended: false,
                tunnel: None,
            };
            self.conns.insert(end, Box::new(conn));
        }
        self.serve(end, ledger, net);
    }

    /// Who listens at an address ends: its connections are reset.
    pub fn end(&mut self, address: SocketAddr, net: &mut Network) {
        let name = address.to_string();
        let ends: Vec<EndId> =
            self.conns.iter().filter(|c| c.1.name == name).map(|c| *c.0).collect();
        for end in ends {
            self.conns.remove(&end);
            net.close(end, true);
        }
    }

    /// Time passed.
    pub fn on_timer(&mut self, ledger: &mut Ledger, net: &mut Network) {
        let waits = |c: &Conn| !c.output.is_empty() || c.then != Then::GoOn || c.tunnel.is_some();
        let due = |c: &Conn| c.ready_at <= net.now && waits(c) || c.closes_at <= net.now;
        let ends: Vec<EndId> = self.conns.iter().filter(|c| due(c.1)).map(|c| *c.0).collect();
        for end in ends {
            self.serve(end, ledger, net);
        }
    }

    fn serve(&mut self, end: EndId, ledger: &mut Ledger, net: &mut Network) {
        let Some(mut conn) = self.conns.remove(&end) else { return };
        if conn.tunnel.is_some() {
            match self.run_tunnel(&mut conn, end, ledger, net) {
                true => drop(self.conns.insert(end, conn)),
                false => net.close(end, false),
            }
            return;
        }
        let bytes = net.read(end, 1 << 20);
        conn.reader.feed(&bytes);
        conn.is_new |= !bytes.is_empty();
        conn.ended |= net.ended(end).is_some();
        let mut open = true;
        while open && conn.output.is_empty() && conn.then == Then::GoOn && conn.tunnel.is_none() {
            match conn.reader.next(false, conn.ended) {
                Next::More => break,
                Next::Head => {
                    let has_body = matches!(conn.reader.message().word(0), "POST" | "PUT");
                    if has_body && self.faults.happens(&mut self.prng) {
                        let head = conn.reader.message().clone();
                        self.injected.add(Fault::BackendFaults);
                        self.answer(&mut conn, (&head, false), ledger, net);
                        // Who goes on reads the rest of the body, for nothing. (A cut without a
                        // length must stay a reset.)
                        if conn.then == Then::GoOn && self.prng.chance(1, 2) {
                            conn.then = Then::Close;
                        }
                        conn.has_answered = true;
                    }
                }
                Next::Done(message) => self.request(&mut conn, &message, ledger, net),
                Next::Bad(why) => {
                    let text = format!("backend {} got what is not HTTP: {why}", conn.name);
                    net.trace.violated(net.now, "D6", text);
                    open = false;
                }
            }
        }
        d4::limited(&conn.name, conn.reader.message(), net);
        if conn.ready_at <= net.now {
            open &= write(&mut conn, end, net);
        }
        if conn.tunnel.is_some() {
            self.conns.insert(end, conn);
            return self.serve(end, ledger, net);
        }
        let idle = conn.output.is_empty() && conn.reader.is_idle();
        if open && idle && !bytes.is_empty() && self.faults.happens(&mut self.prng) {
            // Closed while idle in the router's pool: the race of reuse.
            self.injected.add(Fault::BackendFaults);
            open = false;
        } else if open && idle && conn.closes_at <= net.now {
            self.shed(&mut conn, end, ledger, net);
            open = false;
        } else if idle {
            self.keep_alive(&mut conn, net);
        }
        if conn.ended && conn.output.is_empty() {
            open = false;
        }
        match open {
            true => drop(self.conns.insert(end, conn)),
            false => net.close(end, conn.then == Then::Reset),
        }
    }

    /// A kept connection ends, perhaps by a reset.
    fn shed(&self, conn: &mut Conn, end: EndId, ledger: &mut Ledger, net: &Network) {
        sometimes("a backend closes what is idle");
        // In the calm an answer is not lost by that.
        if conn.resets && (!self.sheds || net.has_all(end.peer())) {
            conn.then = Then::Reset;
        }
        if let Some(Node::Router(router)) = net.owner(end.peer()).filter(|_| self.sheds) {
            ledger.sheds.push(Shed { router, backend: conn.name.clone(), at: net.now });
        }
    }

    /// One that came to rest is perhaps closed in a while.
    fn keep_alive(&mut self, conn: &mut Conn, net: &mut Network) {
        if !core::mem::take(&mut conn.is_new) {
            return;
        }
        conn.is_kept = true;
        let sheds = self.sheds && self.prng.chance(1, 2);
        if sheds || self.faults.happens(&mut self.prng) {
            let (least, most) = if sheds { (100 * MS, 400 * MS) } else { (0, 3 * SECOND) };
            conn.closes_at = net.now + self.prng.range(least, most);
            conn.resets = self.prng.chance(2, 3);
            net.schedule(conn.closes_at, Event::Timer(Node::Backends, 0));
        }
    }

    /// A router that is held up until then does not hear that what it keeps ends meanwhile.
    pub fn shed_unheard(&mut self, router: usize, until: Time, net: &mut Network) {
        for (end, conn) in self.conns.iter_mut().filter(|_| self.sheds) {
            let is_idle = conn.is_kept && conn.output.is_empty() && conn.reader.is_idle();
            let is_its = net.owner(end.peer()) == Some(Node::Router(router));
            if is_its && is_idle && conn.tunnel.is_none() && self.prng.chance(1, 3) {
                conn.closes_at = self.prng.range(net.now, until);
                conn.resets = true;
                net.schedule(conn.closes_at, Event::Timer(Node::Backends, 0));
            }
        }
    }

    /// Writes the answer, then goes on with what follows it; false when it is over.
    fn run_tunnel(
        &mut self,
        conn: &mut Conn,
        end: EndId,
        ledger: &mut Ledger,
        net: &mut Network,
    ) -> bool {
        let pace = if conn.tunnel.as_ref().is_some_and(Tunnel::is_slow) { 10 } else { 1 };
        if self.tunnels_at <= net.now || self.tunnels_at > net.now + pace * 30 * MS {
            self.tunnels_at = net.now + pace * self.prng.range(MS, 30 * MS);
            net.schedule(self.tunnels_at, Event::Timer(Node::Backends, 0));
        }
        if conn.ready_at > net.now {
            return true;
        }
        if !conn.output.is_empty() && !write(conn, end, net) {
            return false;
        }
        let Some(tunnel) = conn.tunnel.as_mut().filter(|_| conn.output.is_empty()) else {
            return true;
        };
        tunnel.take(&conn.reader.rest(), net);
        tunnel.run(end, ledger, &mut self.prng, net)
    }

    /// Answers 101.
    fn switch(&mut self, conn: &mut Conn, message: &Message, ledger: &mut Ledger, net: &Network) {
        let stamp = message.field("x-stamp").unwrap_or("").to_string();
        let mut out = format!(
            "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
             X-Backend: {}\r\nX-Stamp: {stamp}\r\n{EDITED}: {FROM_BACKEND}\r\n{}",
            conn.name,
            d8::lines(false, &mut self.prng),
        );
        if let Some(seen) = message.joined(EDITED) {
            out += &format!("X-Seen: {seen}\r\n");
        }
        conn.output = (out + "\r\n").into_bytes();
        conn.ready_at = net.now;
        let is_cut = self.faults.happens(&mut self.prng);
        if is_cut {
            self.injected.add(Fault::BackendFaults);
        }
        let mut tunnel = Tunnel::new(&stamp, Side::Backend, is_cut, &mut self.prng);
        if let Some(talker) = Pace::talker_of(message) {
            tunnel.only(talker, net.now);
        }
        conn.tunnel = Some(tunnel);
        ledger.tunnels.entry(stamp.clone()).or_default().backends += 1;
        let (backend, body) = (conn.name.clone(), Vec::new());
        let (status, described) = (101, None);
        let (is_whole, truncated, is_trailed) = (true, false, false);
        let url = url(message);
        let attempt =
            Attempt { backend, url, status, described, body, is_whole, truncated, is_trailed };
        ledger.attempts.entry(stamp).or_default().push(attempt);
    }

    /// A whole request came.
    fn request(
        &mut self,
        conn: &mut Conn,
        message: &Message,
        ledger: &mut Ledger,
        net: &mut Network,
    ) {
        if self.sheds {
            conn.closes_at = Time::MAX;
        }
        let stamp = message.field("x-stamp").unwrap_or("").to_string();
        let meant = ledger.requests.get(&stamp);
        d4::limited(&conn.name, message, net);
        d4::request_arrived(&stamp, message, meant, &conn.name, net);
        ledger.arrivals.push(Arrival {
            stamp: stamp.clone(),
            backend: conn.name.clone(),
            url: url(message),
            forwarded: ["x-forwarded-host", "x-forwarded-proto", "x-forwarded-port"]
                .map(|name| message.joined(name)),
            edited: message.joined(EDITED),
        });
        if core::mem::take(&mut conn.has_answered) {
            return;
        }
        crate::checkers::d5::attempted(&stamp, meant, ledger, net);
        let is_trailed = meant.is_some_and(|m| m.is_trailed);
        d8::asked(&stamp, &message.fields, net);
        if meant.is_some() && d7::crossed("a request", &stamp, &message.trailers, is_trailed, net) {
            ledger.trailed += 1;
        }
        if message.field("upgrade") == Some("websocket") && self.prng.chance(3, 4) {
            return self.switch(conn, message, ledger, net);
        }
        self.answer(conn, (message, true), ledger, net);
        if message.field("connection") == Some("close") && conn.then == Then::GoOn {
            conn.then = Then::Close;
        }
    }

    /// The status of an answer: mostly 200, else one without a body.
    fn status(&mut self, method: &str) -> u16 {
        match (self.prng.below(20), method) {
            (0, _) => 204,
            (1, "GET" | "HEAD") => 304,
            _ => 200,
        }
    }

    /// Interim answers, now and then.
    fn interim(&mut self, stamp: &str, is_whole: bool) -> String {
        let mut text = String::new();
        let most = if is_whole && self.prng.chance(1, 8) { 3 } else { 0 };
        for _ in 0..most {
            text += &match self.prng.chance(1, 2) {
                true => "HTTP/1.1 100 Continue\r\n\r\n".to_string(),
                false => {
                    let lines = d8::lines(false, &mut self.prng);
                    format!("HTTP/1.1 103 Early Hints\r\n{lines}X-Stamp: {stamp}\r\n\r\n")
                }
            };
        }
        text
    }

    /// How long an answer takes.
    fn wait(&mut self) -> Time {
        if !self.faults.happens(&mut self.prng) {
            return self.prng.below(3 * MS);
        }
        self.injected.add(Fault::BackendFaults);
        self.prng.below(2 * SECOND)
    }

    /// The body of an answer.
    fn body(&mut self, message: &Message, stamp: &str, name: &str) -> Vec<u8> {
        let long = if self.prng.chance(1, 6) { 6000 } else { 200 };
        let most = if stamp == abuser::STAMP { 20_000 } else { long };
        let len = self.prng.below(most) as usize;
        match message.word(0) {
            "POST" if self.prng.chance(1, 2) => message.body.clone(),
            _ => body_of(stamp, name, len),
        }
    }

    /// Sometimes cuts an answer: without a length only a reset shows that.
    fn cuts(&mut self, conn: &mut Conn, is_endless: bool, out: &mut Vec<u8>) -> bool {
        if !self.faults.happens(&mut self.prng) {
            return false;
        }
        self.injected.add(Fault::BackendFaults);
        let cut = self.prng.range(0, out.len() as u64 - 1) as usize;
        let resets = is_endless || self.prng.chance(1, 2);
        conn.then = if resets { Then::Reset } else { Then::Close };
        out.truncate(cut);
        true
    }

    /// Sometimes puts in the place of an answer what is none, or nothing: then it thinks for long,
    /// and ends. How long it thinks, if it does so.
    fn spoils(&mut self, conn: &mut Conn, out: &mut Vec<u8>) -> Option<Time> {
        if !self.faults.happens(&mut self.prng) || !self.prng.chance(1, 3) {
            return None;
        }
        self.injected.add(Fault::BackendFaults);
        out.clear();
        conn.then = Then::Close;
        let speaks = self.prng.chance(1, 2);
        if speaks {
            let broken =
                ["HTTP/1.1 abc\r\n\r\n", "SSH-2.0-x\r\n", "HTTP/1.1 200 OK\r\nA B: c\r\n\r\n"];
            out.extend(broken[self.prng.below(3) as usize].bytes());
        }
        Some(if speaks { 0 } else { 10 * SECOND })
    }

    /// Answers a request, or its head already.
    fn answer(
        &mut self,
        conn: &mut Conn,
        (message, is_whole): (&Message, bool),
        ledger: &mut Ledger,
        net: &mut Network,
    ) {
        let stamp = message.field("x-stamp").unwrap_or("").to_string();
        let body = self.body(message, &stamp, &conn.name);
        let (think, rest) = Pace::of(message);
        let status = if rest > 0 { 200 } else { self.status(message.word(0)) };
        let body = if rest > 0 && body.len() < 2 { body_of(&stamp, &conn.name, 200) } else { body };
        let is_head = message.word(0) == "HEAD" || status != 200;
        let mut out = self.interim(&stamp, is_whole).into_bytes();
        let (name, lines) = (&conn.name, d8::lines(false, &mut self.prng));
        out.extend(format!("HTTP/1.1 {status} Some\r\nX-Backend: {name}\r\n{lines}").bytes());
        out.extend(format!("X-Stamp: {stamp}\r\n").bytes());
        out.extend(format!("{EDITED}: {FROM_BACKEND}\r\n").bytes());
        if let Some(seen) = message.joined(EDITED) {
            out.extend(format!("X-Seen: {seen}\r\n").bytes());
        }
        let framing = self.prng.below(4);
        match framing {
            0 | 1 => out.extend(format!("Content-Length: {}\r\n\r\n", body.len()).bytes()),
            2 => out.extend(b"Transfer-Encoding: chunked\r\n\r\n"),
            _ => {
                out.extend(b"Connection: close\r\n\r\n");
                conn.then = Then::Close;
            }
        }
        let head_len = out.len();
        let is_trailed = framing == 2 && !is_head && self.prng.chance(1, 3);
        match framing {
            _ if is_head => {}
            2 => {
                let section = if is_trailed { d7::section(&stamp) } else { String::new() };
                let most = self.prng.range(1, 700);
                out.extend(chunked(&body, most, &section, &mut self.prng));
            }
            _ => out.extend(&body),
        }
        let mut truncated = out.len() > head_len && self.cuts(conn, framing == 3, &mut out);
        let spoilt = self.spoils(conn, &mut out);
        truncated |= spoilt.is_some();
        if rest > 0 && out.len() > head_len {
            conn.later = out.split_off((head_len + out.len()) / 2);
            conn.rest = Time::from(rest) * MS;
        }
        let backend = conn.name.clone();
        let attempts = ledger.attempts.entry(stamp).or_default();
        // RFC 9110 section 8.6: what a 204 says of a length means nothing.
        let described = (is_head && framing < 2 && status != 204).then_some(body.len() as u64);
        let body = if status == 200 { body } else { Vec::new() };
        let url = url(message);
        attempts.push(Attempt {
            backend,
            url,
            status,
            described,
            body,
            is_whole,
            truncated,
            is_trailed,
        });
        conn.output = out;
        let think = Time::from(think) * MS + spoilt.unwrap_or(0);
        conn.ready_at = net.now + self.wait() + think;
        net.schedule(conn.ready_at, Event::Timer(Node::Backends, 0));
    }
}

/// What a request asks for.
fn url(message: &Message) -> Url {
    let host = message.field("host").unwrap_or("").to_string();
    Url { host, target: message.word(1).to_string() }
}

/// Writes what fits; false when the connection is done.
fn write(conn: &mut Conn, end: EndId, net: &mut Network) -> bool {
    if !conn.output.is_empty() {
        let Some(taken) = net.write(end, &conn.output) else { return false };
        conn.output.drain(..taken);
    }
    if conn.output.is_empty() && !conn.later.is_empty() {
        conn.output = core::mem::take(&mut conn.later);
        conn.ready_at = net.now + conn.rest;
        net.schedule(conn.ready_at, Event::Timer(Node::Backends, 0));
    }
    !(conn.output.is_empty() && conn.then != Then::GoOn)
}
