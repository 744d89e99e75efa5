//! The backends: HTTP/1.1 servers at every address of their net, which echo the stamp and say who
//! they are.
//!
//! In: connections of routers. Out: answers, and what they saw for the ledger. Faults: slow, closed
//! while idle, cut in mid-body, reset, answered before the body came.

use crate::faults::{Fault, Injected};
use crate::http::{Next, Reader};
use crate::ledger::{Arrival, Attempt, Ledger, body_of};
use crate::model::lookup::{FROM_BACKEND, Url};
use crate::model::object::EDITED;
use crate::network::{EndId, Event, MS, Network, Node, SECOND, SocketEvent, Time};
use crate::seed::Rate;
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
    conns: BTreeMap<EndId, Conn>,
    prng: Prng,
    pub faults: Rate,
    pub injected: Injected,
}

impl Backends {
    /// Nobody is connected.
    pub fn new(prng: Prng, faults: Rate) -> Backends {
        Backends { conns: BTreeMap::new(), prng, faults, injected: Injected::default() }
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
            };
            self.conns.insert(end, conn);
        }
        self.serve(end, ledger, net);
    }

    /// Time passed.
    pub fn on_timer(&mut self, ledger: &mut Ledger, net: &mut Network) {
        let due =
            |c: &Conn| c.ready_at <= net.now && (!c.output.is_empty() || c.then != Then::GoOn);
        let ends: Vec<EndId> = self.conns.iter().filter(|c| due(c.1)).map(|c| *c.0).collect();
        for end in ends {
            self.serve(end, ledger, net);
        }
    }

    fn serve(&mut self, end: EndId, ledger: &mut Ledger, net: &mut Network) {
        let Some(mut conn) = self.conns.remove(&end) else { return };
        let bytes = net.read(end, 1 << 20);
        conn.reader.feed(&bytes);
        conn.ended |= net.ended(end).is_some();
        let mut open = true;
        while open && conn.output.is_empty() && conn.then == Then::GoOn {
            match conn.reader.next(false, conn.ended) {
                Next::More => break,
                Next::Head(head) => {
                    let has_body = matches!(head.word(0), "POST" | "PUT");
                    if has_body && self.faults.happens(&mut self.prng) {
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

    /// A whole request came.
    fn request(
        &mut self,
        conn: &mut Conn,
        message: &crate::http::Message,
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
        self.answer(conn, (message, true), ledger, net);
        if message.field("connection") == Some("close") && conn.then == Then::GoOn {
            conn.then = Then::Close;
        }
    }

    fn answer(
        &mut self,
        conn: &mut Conn,
        (message, is_whole): (&crate::http::Message, bool),
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
        match framing {
            _ if is_head => {}
            2 => {
                for piece in body.chunks(1 + self.prng.below(700) as usize) {
                    out.extend(format!("{:x}\r\n", piece.len()).bytes());
                    out.extend(piece);
                    out.extend(b"\r\n");
                }
                out.extend(b"0\r\n\r\n");
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
        let backend = conn.name.clone();
        let attempts = ledger.attempts.entry(stamp).or_default();
        attempts.push(Attempt { backend, body, is_whole, truncated });
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
