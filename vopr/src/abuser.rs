//! A peer that wants to keep a router busy, beside the honest ones: it pipelines without end, drips
//! single bytes, hardly reads, or sends a body that does not end.
//!
//! In: where a router listens, time. Out: bytes; nothing that it gets is looked at. It asks under
//! the stamp of nobody, and comes back when it is closed.

use crate::ledger::Ledger;
use crate::marks::sometimes;
use crate::model::table::Table;
use crate::network::{EndId, Event, MS, Network, Node, SocketEvent, Time};
use crate::target;
use crate::workload::is_tls_port;
use serval::stdx::Prng;
use std::collections::BTreeMap;
use std::net::SocketAddr;

/// The stamp of its requests.
pub const STAMP: &str = "abuse.0";

/// It acts so often.
const PACE: Time = 50 * MS;
/// Connections that it has at once.
const CONNECTIONS: usize = 5;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Floods,
    Drips,
    HardlyReads,
    EndlessBody,
}

#[derive(Debug, Default)]
struct Conn {
    is_open: bool,
    begun: bool,
    /// Not sent yet.
    output: Vec<u8>,
}

/// The peer.
#[derive(Debug)]
pub struct Abuser {
    kind: Kind,
    /// Whom it asks.
    pub router: usize,
    prng: Prng,
    conns: BTreeMap<EndId, Conn>,
    /// It has begun.
    pub is_on: bool,
}

impl Abuser {
    /// It has not begun.
    pub fn new(mut prng: Prng, routers: usize) -> Abuser {
        let kinds = [Kind::Floods, Kind::Drips, Kind::HardlyReads, Kind::EndlessBody];
        let kind = kinds[prng.below(4) as usize];
        let router = prng.below(routers as u64) as usize;
        Abuser { kind, router, prng, conns: BTreeMap::new(), is_on: false }
    }

    /// Begins.
    pub fn begin(&mut self, net: &mut Network) {
        self.is_on = true;
        sometimes(match self.kind {
            Kind::Floods => "a peer floods",
            Kind::Drips => "a peer drips",
            Kind::HardlyReads => "a peer hardly reads",
            Kind::EndlessBody => "a peer sends a body without end",
        });
        let text = format!("a peer of router {} is {:?}", self.router, self.kind);
        net.trace.say(net.now, &text);
        net.schedule(net.now, Event::Timer(Node::Abuser, 0));
    }

    /// Ends; whatever it has is reset.
    pub fn stop(&mut self, net: &mut Network) {
        self.is_on = false;
        for (end, _) in core::mem::take(&mut self.conns) {
            net.close(end, true);
        }
    }

    /// Something happened at a socket.
    pub fn on_socket(&mut self, end: EndId, what: SocketEvent, net: &mut Network) {
        let is_over = what == SocketEvent::Refused || net.ended(end).is_some();
        if is_over && self.conns.remove(&end).is_some() {
            net.close(end, false);
        } else if let Some(conn) = self.conns.get_mut(&end) {
            conn.is_open |= what == SocketEvent::Opened;
        }
    }

    /// Its time has come again.
    pub fn on_timer(&mut self, table: &Table, ledger: &mut Ledger, net: &mut Network) {
        ledger.attempts.remove(STAMP);
        if !self.is_on {
            return;
        }
        if self.conns.len() < CONNECTIONS {
            let binds = net.listening(Node::Router(self.router)).into_iter();
            let plain = |a: &SocketAddr| !is_tls_port(a.port()) && target::is_served(table, *a);
            if let Some(address) = binds.into_iter().find(plain) {
                let end = net.connect(Node::Abuser, Node::Router(self.router), address);
                self.conns.insert(end, Conn::default());
            }
        }
        let ends: Vec<EndId> = self.conns.keys().copied().collect();
        for end in ends {
            self.act(end, table, net);
        }
        net.schedule(net.now + PACE, Event::Timer(Node::Abuser, 0));
    }

    fn act(&mut self, end: EndId, table: &Table, net: &mut Network) {
        let Some(conn) = self.conns.get_mut(&end).filter(|c| c.is_open) else { return };
        let Some(address) = net.address(end) else { return };
        let most = if self.kind == Kind::HardlyReads { 1 } else { 1 << 20 };
        net.read(end, most);
        let target = target::pick(&mut self.prng, table, address);
        let fields = format!("HTTP/1.1\r\nHost: {}\r\nX-Stamp: {STAMP}\r\n", target.host);
        let get = format!("GET {} {fields}\r\n", target.path);
        if conn.output.is_empty() {
            conn.output = match self.kind {
                Kind::Floods => get.repeat(self.prng.range(20, 60) as usize).into_bytes(),
                Kind::HardlyReads => get.repeat(3).into_bytes(),
                Kind::Drips if !conn.begun => format!("GET / {fields}").into_bytes(),
                Kind::Drips => b"X-More: and more and more\r\n".to_vec(),
                Kind::EndlessBody if !conn.begun => {
                    format!("POST {} {fields}Transfer-Encoding: chunked\r\n\r\n", target.path)
                        .into_bytes()
                }
                Kind::EndlessBody => format!("400\r\n{}\r\n", "x".repeat(0x400)).into_bytes(),
            };
            conn.begun = true;
        }
        let most = if self.kind == Kind::Drips { 1 } else { 4096 };
        let piece = &conn.output[..conn.output.len().min(most)];
        if let Some(taken) = net.write(end, piece) {
            conn.output.drain(..taken);
        }
    }
}
