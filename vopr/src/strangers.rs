//! Strangers: clients that break the rules, or that neither send nor read on.
//!
//! In: where the routers listen. Out: bytes. Nobody looks at what they get: they are there for what
//! they hold and for what must not happen to others.

use crate::client::Served;
use crate::faults::{Fault, Injected};
use crate::model::table::Table;
use crate::network::{EndId, Event, MS, Network, Node, SECOND, SocketEvent, Time};
use crate::seed::{Options, Rate};
use crate::sim::ROUTERS;
use crate::target::{self, Target};
use crate::workload::is_tls_port;
use serval::limits::{MAX_HEAD_BYTES, MAX_HEADER_FIELDS, MAX_URI_BYTES};
use serval::stdx::Prng;
use std::collections::BTreeMap;
use std::net::SocketAddr;

/// The stamp of their requests: nobody's.
pub const STAMP: &str = "stranger.0";

/// At once, at most.
const MOST: usize = 20;
/// Larger than a body may be: `MAX_REQUEST_BODY_MIB` is 1 in `capacities`.
const TOO_LARGE: usize = (1 << 20) + 5000;

/// Bodies of a run that are too large and not announced to be: they take long.
const FLOODS: u32 = 2;

/// What one does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Manner {
    /// Sends no HTTP.
    BreaksTheHead,
    StopsInTheHead,
    AnnouncesTooMuch,
    SendsTooMuch,
    BreaksTheBody,
    StopsInTheBody,
    /// Its head is as long as it may be.
    NearlyTooLong,
    /// Asks again and again, and reads nothing.
    NeverReads,
    /// Makes a tunnel of it, through which nothing goes.
    KeepsATunnel,
    /// Says nothing, not even a hello.
    IsSilent,
    /// Ends its direction in the middle.
    EndsInTheMiddle,
}

const MANNERS: [Manner; 11] = [
    Manner::BreaksTheHead,
    Manner::StopsInTheHead,
    Manner::AnnouncesTooMuch,
    Manner::SendsTooMuch,
    Manner::BreaksTheBody,
    Manner::StopsInTheBody,
    Manner::NearlyTooLong,
    Manner::NeverReads,
    Manner::KeepsATunnel,
    Manner::IsSilent,
    Manner::EndsInTheMiddle,
];

struct Conn {
    manner: Manner,
    hello: bool,
    output: Vec<u8>,
    /// Of the output: what went out. It stays, since it may be a mebibyte.
    sent: usize,
    /// Of the output: what is sent a while after the rest.
    later: usize,
    goes_on: Time,
    until: Time,
}

/// All of them.
#[expect(missing_debug_implementations, reason = "connections say nothing")]
pub struct Strangers {
    conns: BTreeMap<EndId, Conn>,
    prng: Prng,
    rate: Rate,
    /// Bodies that were too large, and not announced to be.
    floods: u32,
    pub injected: Injected,
}

impl Strangers {
    /// Nobody is connected.
    pub fn new(options: &Options) -> Strangers {
        Strangers {
            conns: BTreeMap::new(),
            prng: options.child("strangers"),
            rate: options.strangers,
            floods: 0,
            injected: Injected::default(),
        }
    }

    /// Time passed: perhaps some come, others go on or leave.
    pub fn on_timer(&mut self, served: &Served<'_>, net: &mut Network) {
        if self.rate == Rate::Off {
            return;
        }
        let chance = if self.rate == Rate::Heavy { 2 } else { 6 };
        while self.conns.len() < MOST && self.prng.chance(1, chance) {
            let router = self.prng.below(ROUTERS as u64) as usize;
            let mut binds = net.listening(Node::Router(router));
            binds.retain(|at| at.port() != crate::router::ADMIN_PORT);
            if binds.is_empty() {
                break;
            }
            let at = binds[self.prng.below(binds.len() as u64) as usize];
            let manner = match self.prng.below(MANNERS.len() as u64 + 3) as usize {
                at if at < MANNERS.len() => MANNERS[at],
                _ => Manner::NeverReads,
            };
            // Alone, or as a crowd.
            let count = if self.prng.chance(1, 6) { MOST as u64 } else { 1 };
            for _ in 0..count {
                self.come(manner, (router, at), &served(router), net);
            }
        }
        let ends: Vec<EndId> = self.conns.keys().copied().collect();
        for end in ends {
            self.act(end, net);
        }
        let at = net.now + self.prng.range(50 * MS, 500 * MS);
        net.schedule(at, Event::Timer(Node::Strangers, 0));
    }

    fn come(
        &mut self,
        manner: Manner,
        (router, at): (usize, SocketAddr),
        table: &Table,
        net: &mut Network,
    ) {
        let mut target = target::pick(&mut self.prng, table, at);
        if manner == Manner::SendsTooMuch {
            if self.floods == FLOODS {
                return;
            }
            for _ in 0..8 {
                if !matches!(target.method, "POST" | "PUT") {
                    target = target::pick(&mut self.prng, table, at);
                }
            }
            self.floods += u32::from(matches!(target.method, "POST" | "PUT"));
        }
        self.injected.add(Fault::Strangers);
        let mut output = self.bytes(manner, &target);
        let later = if manner == Manner::BreaksTheBody { 5 } else { 0 };
        let goes_on = net.now + self.prng.below(SECOND);
        let hello = is_tls_port(at.port()) && manner != Manner::IsSilent;
        if hello {
            output.splice(..0, format!("{}\n", target.host).into_bytes());
        }
        let mut until = net.now + self.prng.range(SECOND / 2, 15 * SECOND);
        if manner == Manner::SendsTooMuch {
            until = net.now + 20 * SECOND;
        }
        let end = net.connect(Node::Strangers, Node::Router(router), at);
        self.conns.insert(end, Conn { manner, hello, output, sent: 0, later, goes_on, until });
    }

    /// Something happened at a socket.
    pub fn on_socket(&mut self, end: EndId, what: SocketEvent, net: &mut Network) {
        if what == SocketEvent::Refused {
            self.conns.remove(&end);
            return net.close(end, false);
        }
        self.act(end, net);
    }

    fn act(&mut self, end: EndId, net: &mut Network) {
        let Some(conn) = self.conns.get_mut(&end) else { return };
        let mut over = net.now >= conn.until;
        if conn.manner != Manner::NeverReads || conn.hello {
            let bytes = net.read(end, 1 << 20);
            conn.hello &= !bytes.contains(&b'\n');
            over |= net.ended(end).is_some();
        }
        if !over && conn.sent < conn.output.len() {
            let later = if net.now < conn.goes_on { conn.later } else { 0 };
            let now = conn.output.len().saturating_sub(later).max(conn.sent);
            match net.write(end, &conn.output[conn.sent..now]) {
                Some(taken) => conn.sent += taken,
                None => over = true,
            }
            if conn.sent == conn.output.len() && conn.manner == Manner::EndsInTheMiddle {
                net.shutdown(end);
            }
        }
        if over {
            self.conns.remove(&end);
            net.close(end, self.prng.chance(1, 2));
        }
    }

    /// All leave, and nobody comes any more.
    pub fn stop(&mut self, net: &mut Network) {
        self.rate = Rate::Off;
        for end in core::mem::take(&mut self.conns).into_keys() {
            net.close(end, true);
        }
    }

    /// What it sends, all of it.
    fn bytes(&mut self, manner: Manner, target: &Target) -> Vec<u8> {
        let Target { host, path, .. } = target;
        let mut fields = format!("Host: {host}\r\nX-Stamp: {STAMP}\r\n");
        for (name, value) in &target.headers {
            fields += &format!("{name}: {value}\r\n");
        }
        // What the route wants, if that has a body.
        let method = if target.method == "PUT" { "PUT" } else { "POST" };
        let head = |start: &str, more: &str| {
            format!("{start} {path} HTTP/1.1\r\n{fields}{more}\r\n").into_bytes()
        };
        let announced = |bytes: usize| head(method, &format!("Content-Length: {bytes}\r\n"));
        let chunked = || head(method, "Transfer-Encoding: chunked\r\n");
        match manner {
            Manner::IsSilent => Vec::new(),
            Manner::BreaksTheHead => self.broken(host, path),
            Manner::StopsInTheHead => {
                let mut bytes = head(target.method, "");
                bytes.truncate(1 + self.prng.below(bytes.len() as u64 - 3) as usize);
                bytes
            }
            Manner::AnnouncesTooMuch => announced(TOO_LARGE),
            Manner::SendsTooMuch => {
                let mut bytes = chunked();
                for _ in 0..TOO_LARGE.div_ceil(4096) {
                    bytes.extend(b"1000\r\n");
                    bytes.extend([b'x'; 4096]);
                    bytes.extend(b"\r\n");
                }
                bytes
            }
            Manner::BreaksTheBody => {
                let broken =
                    [&b"3\r\nabc\r\nzz\r\n"[..], b"3\r\nabcd\r\n", b"-1\r\n", b"5;a=\x01\r\n"];
                let broken = broken[self.prng.below(4) as usize];
                [&chunked()[..], b"1\r\na\r\n", broken].concat()
            }
            Manner::StopsInTheBody | Manner::EndsInTheMiddle => {
                [&announced(4000)[..], &vec![b'x'; self.prng.below(3999) as usize]].concat()
            }
            Manner::NearlyTooLong => {
                let bytes = head(target.method, "").len() + "Y: \r\n".len();
                let room = (MAX_HEAD_BYTES as usize).saturating_sub(bytes);
                head(
                    target.method,
                    &format!("Y: {}\r\n", "y".repeat(room - self.prng.below(40) as usize)),
                )
            }
            Manner::KeepsATunnel => {
                let upgrade =
                    "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: k\r\n";
                head("GET", upgrade)
            }
            Manner::NeverReads => head(target.method, "").repeat(60),
        }
    }

    /// What is no request head.
    fn broken(&mut self, host: &str, path: &str) -> Vec<u8> {
        let fields = "X: y\r\n".repeat(MAX_HEADER_FIELDS as usize + 1);
        let (uri, value) =
            ("u".repeat(MAX_URI_BYTES as usize), "v".repeat(MAX_HEAD_BYTES as usize));
        let heads = [
            "\0\r\n\r\n".to_string(),
            format!("GET {path}\r\n\r\n"),
            format!("GET {path} HTTP/1.1\r\n\r\n"),
            format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nHost: {host}\r\n\r\n"),
            format!("GET {path} HTTP/1.1\r\nHost : {host}\r\n\r\n"),
            format!("GET {path} HTTP/3.0\r\nHost: {host}\r\n\r\n"),
            format!("GET /{uri} HTTP/1.1\r\nHost: {host}\r\n\r\n"),
            format!("GET {path}%zz HTTP/1.1\r\nHost: {host}\r\n\r\n"),
            format!("GET {path} HTTP/1.1\r\nHost: {host}\r\n{fields}\r\n"),
            format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nX: {value}\r\n\r\n"),
            format!("CONNECT {host}:443 HTTP/1.1\r\nHost: {host}:443\r\n\r\n"),
            format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nExpect: more\r\n\r\n"),
            format!(
                "POST {path} HTTP/1.1\r\nHost: {host}\r\nContent-Length: 3\r\n\
                 Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n"
            ),
            format!("POST {path} HTTP/1.1\r\nHost: {host}\r\nTransfer-Encoding: gzip\r\n\r\n"),
            format!("POST {path} HTTP/1.1\r\nHost: {host}\r\nContent-Length: 3, 4\r\n\r\nabcd"),
        ];
        heads[self.prng.below(heads.len() as u64) as usize].clone().into_bytes()
    }
}
