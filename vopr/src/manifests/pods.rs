//! The endpoints of a user's Services: HTTP/1.1 servers that come and go.
//!
//! In: connections of routers. Out: 200 with who answered, a few milliseconds later. Who goes
//! closes its connections, and nobody listens there any more.

use crate::http::{Message, Next, Reader};
use crate::network::{EndId, Event, MS, Network, Node, SocketEvent, Time};
use serval::stdx::Prng;
use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

/// The slowest answer.
const SLOWEST: Time = 12 * MS;

struct Conn {
    reader: Reader,
    at: SocketAddr,
    output: Vec<u8>,
    ready_at: Time,
    /// What is being answered may be sent to another.
    is_safe: bool,
}

/// All of them.
#[expect(missing_debug_implementations, reason = "connections say nothing")]
pub struct Pods {
    conns: BTreeMap<EndId, Conn>,
    prng: Prng,
}

impl Pods {
    /// Nobody is connected.
    pub fn new(prng: Prng) -> Pods {
        Pods { conns: BTreeMap::new(), prng }
    }

    /// Whether a request is under way at an address, and one that must not be sent to another.
    pub fn under_way(&self, address: IpAddr) -> (bool, bool) {
        let here = self.conns.values().filter(|c| c.at.ip() == address && !c.output.is_empty());
        here.fold((false, false), |(_, unsafe_one), c| (true, unsafe_one || !c.is_safe))
    }

    /// A process ends: its ports are closed, with all connections.
    pub fn end(&mut self, address: IpAddr, ports: &[u16], net: &mut Network) {
        net.absent.extend(ports.iter().map(|&port| SocketAddr::new(address, port)));
        let gone: Vec<EndId> =
            self.conns.iter().filter(|c| c.1.at.ip() == address).map(|c| *c.0).collect();
        for end in gone {
            self.conns.remove(&end);
            net.close(end, false);
        }
    }

    /// Something happened at a socket.
    pub fn on_socket(&mut self, end: EndId, what: SocketEvent, net: &mut Network) {
        if what == SocketEvent::Accepted
            && let Some(at) = net.address(end)
        {
            let reader = Reader::new(false);
            let (output, is_safe) = (Vec::new(), true);
            self.conns.insert(end, Conn { reader, at, output, ready_at: 0, is_safe });
        }
        self.serve(end, net);
    }

    /// Time passed.
    pub fn on_timer(&mut self, net: &mut Network) {
        let is_due = |c: &Conn| !c.output.is_empty() && c.ready_at <= net.now;
        let due: Vec<EndId> = self.conns.iter().filter(|c| is_due(c.1)).map(|c| *c.0).collect();
        for end in due {
            self.serve(end, net);
        }
    }

    fn serve(&mut self, end: EndId, net: &mut Network) {
        let Some(mut conn) = self.conns.remove(&end) else { return };
        let bytes = net.read(end, 1 << 20);
        conn.reader.feed(&bytes);
        let ended = net.ended(end).is_some();
        while conn.output.is_empty() {
            match conn.reader.next(false, ended) {
                Next::Done(message) => {
                    conn.is_safe = matches!(message.word(0), "GET" | "HEAD" | "OPTIONS" | "PUT");
                    conn.output = answer(&message, conn.at);
                    conn.ready_at = net.now + MS + self.prng.below(SLOWEST);
                    net.schedule(conn.ready_at, Event::Timer(Node::Backends, 0));
                }
                Next::Head => {}
                Next::More => break,
                Next::Bad(why) => {
                    let text = format!("endpoint {} got what is not HTTP: {why}", conn.at);
                    net.trace.violated(net.now, "D6", text);
                    return net.close(end, true);
                }
            }
        }
        if conn.ready_at <= net.now && !conn.output.is_empty() {
            match net.write(end, &conn.output) {
                Some(taken) => drop(conn.output.drain(..taken)),
                None => return net.close(end, true),
            }
        }
        match ended && conn.output.is_empty() {
            true => net.close(end, false),
            false => drop(self.conns.insert(end, conn)),
        }
    }
}

fn answer(request: &Message, at: SocketAddr) -> Vec<u8> {
    let head = format!("HTTP/1.1 200 OK\r\nX-Backend: {at}\r\nContent-Length: 3\r\n\r\n");
    let body = if request.word(0) == "HEAD" { "" } else { "ok\n" };
    (head + body).into_bytes()
}
