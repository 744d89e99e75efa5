//! The backends: HTTP/1.1 servers at every address of their net, which echo the stamp and say who
//! they are.
//!
//! In: connections of routers. Out: answers, and what they saw for the ledger. Faults: slow, closed
//! while idle, cut in mid-body, reset, answered before the body came.

use crate::checkers::d7;
use crate::faults::{Fault, Injected};
use crate::http::{Message, Next, Reader};
use crate::ledger::{Arrival, Attempt, Ledger, body_of};
use crate::model::lookup::{FROM_BACKEND, Url};
use crate::model::object::EDITED;
use crate::network::{EndId, Event, MS, Network, Node, SECOND, SocketEvent, Time};
use crate::seed::Rate;
use crate::tunnel::{Side, Tunnel};
use serval::stdx::Prng;
use std::collections::BTreeMap;

struct Conn {
    reader: Reader,
    name: String,
    /// To be written, from when on.
    output: Vec<u8>,
    ready_at: Time,
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
                then: Then::GoOn,
                has_answered: false,
                ended: false,
                tunnel: None,
            };
            self.conns.insert(end, Box::new(conn));
        }
        self.serve(end, ledger, net);
    }

    /// Time passed.
    pub fn on_timer(&mut self, ledger: &mut Ledger, net: &mut Network) {
        let waits = |c: &Conn| !c.output.is_empty() || c.then != Then::GoOn || c.tunnel.is_some();
        let due = |c: &Conn| c.ready_at <= net.now && waits(c);
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
        }
        if conn.ended && conn.output.is_empty() {
            open = false;
        }
        match open {
            true => drop(self.conns.insert(end, conn)),
            false => net.close(end, conn.then == Then::Reset),
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
        if self.tunnels_at <= net.now {
            self.tunnels_at = net.now + self.prng.range(MS, 30 * MS);
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
             X-Backend: {}\r\nX-Stamp: {stamp}\r\n{EDITED}: {FROM_BACKEND}\r\n",
            conn.name
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
        conn.tunnel = Some(Tunnel::new(&stamp, Side::Backend, is_cut, &mut self.prng));
        ledger.tunnels.entry(stamp.clone()).or_default().backends += 1;
        let (backend, body) = (conn.name.clone(), Vec::new());
        let attempt =
            Attempt { backend, body, is_whole: true, truncated: false, is_trailed: false };
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
        let stamp = message.field("x-stamp").unwrap_or("").to_string();
        let meant = ledger.requests.get(&stamp);
        crate::checkers::d4::request_arrived(&stamp, message, meant, &conn.name, net);
        ledger.arrivals.push(Arrival {
            stamp: stamp.clone(),
            backend: conn.name.clone(),
            url: Url {
                host: message.field("host").unwrap_or("").to_string(),
                target: message.word(1).to_string(),
            },
            forwarded: ["x-forwarded-host", "x-forwarded-proto", "x-forwarded-port"]
                .map(|name| message.joined(name)),
            edited: message.joined(EDITED),
        });
        if core::mem::take(&mut conn.has_answered) {
            return;
        }
        crate::checkers::d5::attempted(&stamp, meant, ledger, net);
        let is_trailed = meant.is_some_and(|m| m.is_trailed);
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

    fn answer(
        &mut self,
        conn: &mut Conn,
        (message, is_whole): (&Message, bool),
        ledger: &mut Ledger,
        net: &mut Network,
    ) {
        let stamp = message.field("x-stamp").unwrap_or("").to_string();
        let long = self.prng.chance(1, 6);
        let len = self.prng.below(if long { 6000 } else { 200 }) as usize;
        let body = match message.word(0) {
            "POST" if self.prng.chance(1, 2) => message.body.clone(),
            _ => body_of(&stamp, &conn.name, len),
        };
        let is_head = message.word(0) == "HEAD";
        let mut out =
            format!("HTTP/1.1 200 OK\r\nX-Backend: {}\r\nX-Stamp: {stamp}\r\n", conn.name)
                .into_bytes();
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
                for piece in body.chunks(1 + self.prng.below(700) as usize) {
                    out.extend(format!("{:x}\r\n", piece.len()).bytes());
                    out.extend(piece);
                    out.extend(b"\r\n");
                }
                let section = if is_trailed { d7::section(&stamp) } else { String::new() };
                out.extend(format!("0\r\n{section}\r\n").bytes());
            }
            _ => out.extend(&body),
        }
        // Without a length a cut shows only by a reset.
        let mut truncated = false;
        if out.len() > head_len && self.faults.happens(&mut self.prng) {
            self.injected.add(Fault::BackendFaults);
            let cut = self.prng.range(0, out.len() as u64 - 1) as usize;
            conn.then =
                if framing == 3 || self.prng.chance(1, 2) { Then::Reset } else { Then::Close };
            out.truncate(cut);
            truncated = true;
        }
        if self.faults.happens(&mut self.prng) && self.prng.chance(1, 3) {
            self.injected.add(Fault::BackendFaults);
            if self.prng.chance(1, 2) {
                // What is no answer.
                let broken =
                    ["HTTP/1.1 abc\r\n\r\n", "SSH-2.0-x\r\n", "HTTP/1.1 200 OK\r\nA B: c\r\n\r\n"];
                out = broken[self.prng.below(3) as usize].as_bytes().to_vec();
                conn.then = Then::Close;
                truncated = true;
            } else {
                // It thinks for longer than anybody waits.
                out.clear();
                truncated = true;
            }
        }
        let backend = conn.name.clone();
        let attempts = ledger.attempts.entry(stamp).or_default();
        attempts.push(Attempt { backend, body, is_whole, truncated, is_trailed });
        conn.output = out;
        let slow = self.faults.happens(&mut self.prng);
        if slow {
            self.injected.add(Fault::BackendFaults);
        }
        let wait = if slow { self.prng.below(2 * SECOND) } else { self.prng.below(3 * MS) };
        conn.ready_at = net.now + wait;
        net.schedule(conn.ready_at, Event::Timer(Node::Backends, 0));
    }
}

/// Writes what fits; false when the connection is done.
fn write(conn: &mut Conn, end: EndId, net: &mut Network) -> bool {
    if !conn.output.is_empty() {
        let Some(taken) = net.write(end, &conn.output) else { return false };
        conn.output.drain(..taken);
    }
    !(conn.output.is_empty() && conn.then != Then::GoOn)
}
