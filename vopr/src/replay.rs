//! Replayed, torn and broken pushes: what an old controller, or a network, may say again long
//! after.
//!
//! In: published Snapshots. Out: connections to admin ports that push one of them once more.

use crate::checkers::s2;
use crate::marks::sometimes;
use crate::network::{EndId, Event, Network, Node, SECOND, SocketEvent, Time};
use serval::config::Snapshot;
use serval::config::codec::Encoder;
use serval::limits::MAX_RECORD_SIZE_BYTES;
use serval::stdx::Prng;
use std::collections::BTreeMap;
use std::net::SocketAddr;

/// Of one that drips: so many bytes are left when it begins to.
const DRIPS_FROM: usize = 200;

/// What becomes of a push on its way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    Whole,
    /// It ends somewhere.
    Torn,
    /// A record is not there.
    Gap,
    /// A record is no JSON.
    Broken,
    /// A byte comes now and then.
    Drips,
}

#[derive(Debug)]
struct Push {
    rest: Vec<u8>,
    way: Way,
    next_at: Time,
    /// What was answered.
    answer: Vec<u8>,
}

/// Pushes of the past.
#[derive(Debug)]
pub struct Replays {
    /// The lines of each.
    known: Vec<Vec<Vec<u8>>>,
    running: BTreeMap<EndId, Push>,
    prng: Prng,
    pub sent: u64,
}

impl Replays {
    /// Nothing was published.
    pub fn new(prng: Prng) -> Replays {
        Replays { known: Vec::new(), running: BTreeMap::new(), prng, sent: 0 }
    }

    /// Remembers a Snapshot.
    pub fn remember(&mut self, snapshot: &Snapshot) {
        let mut buffer = vec![0; MAX_RECORD_SIZE_BYTES as usize];
        let mut encoder = Encoder::new();
        let mut lines = Vec::new();
        while let Some(Ok(line)) = encoder.next_line(snapshot, &mut buffer) {
            lines.push(line.to_vec());
        }
        self.known.push(lines);
        if self.known.len() > 20 {
            self.known.remove(0);
        }
    }

    /// Pushes one of them to a router, whole or not.
    pub fn replay(&mut self, router: usize, address: SocketAddr, net: &mut Network) {
        if self.known.is_empty() {
            return;
        }
        let at = self.prng.below(self.known.len() as u64) as usize;
        let mut lines = self.known[at].clone();
        let ways = [Way::Whole, Way::Whole, Way::Torn, Way::Gap, Way::Broken, Way::Drips];
        let way = ways[self.prng.below(ways.len() as u64) as usize];
        let line = self.prng.below(lines.len() as u64) as usize;
        match way {
            Way::Gap => drop(lines.remove(line)),
            Way::Broken => {
                let half = lines[line].len() / 2;
                lines[line].truncate(half);
            }
            _ => {}
        }
        if let Some(last) = lines.last_mut()
            && self.prng.chance(1, 2)
        {
            // The end of the last line is the end of the body.
            sometimes("a push's last line has no end of its own");
            last.truncate(last.trim_ascii_end().len());
        }
        let mut rest = self.request(&lines);
        if way == Way::Torn {
            rest.truncate(self.prng.below(rest.len() as u64) as usize);
        }
        self.sent += 1;
        let end = net.connect(Node::Past, Node::Router(router), address);
        self.running.insert(end, Push { rest, way, next_at: 0, answer: Vec::new() });
    }

    /// A push of these lines: a chunk a line, as the controller sends it, or cut anywhere, or not
    /// in chunks at all.
    fn request(&mut self, lines: &[Vec<u8>]) -> Vec<u8> {
        let head = "POST /routes/update HTTP/1.1\r\nHost: r\r\nConnection: close\r\n";
        let mut request = head.as_bytes().to_vec();
        let body = lines.concat();
        let mut chunks: Vec<&[u8]> = lines.iter().map(Vec::as_slice).collect();
        match self.prng.below(3) {
            0 => {}
            1 => {
                let most = 1 + self.prng.below(2 * u64::from(MAX_RECORD_SIZE_BYTES)) as usize;
                chunks = body.chunks(most).collect();
            }
            _ => {
                request.extend(format!("Content-Length: {}\r\n\r\n", body.len()).bytes());
                request.extend(body);
                return request;
            }
        }
        request.extend(b"Transfer-Encoding: chunked\r\n\r\n");
        for chunk in chunks {
            request.extend(format!("{:x}\r\n", chunk.len()).bytes());
            request.extend(chunk);
            request.extend(b"\r\n");
        }
        request.extend(b"0\r\n\r\n");
        request
    }

    /// Something happened at a socket.
    pub fn on_socket(&mut self, end: EndId, what: SocketEvent, net: &mut Network) {
        let Some(push) = self.running.get_mut(&end) else { return };
        push.answer.extend(net.read(end, 1 << 20));
        let mut over = what == SocketEvent::Refused || net.ended(end).is_some();
        let is_dripping = push.way == Way::Drips && push.rest.len() < DRIPS_FROM;
        if !over && !push.rest.is_empty() && net.now >= push.next_at {
            let most = match push.way {
                Way::Drips if is_dripping => 1,
                Way::Drips => push.rest.len() + 1 - DRIPS_FROM,
                _ => push.rest.len(),
            };
            match net.write(end, &push.rest[..most]) {
                Some(taken) => drop(push.rest.drain(..taken)),
                None => over = true,
            }
            if push.way == Way::Drips {
                push.next_at = net.now + SECOND;
                net.schedule(push.next_at, Event::Timer(Node::Past, 0));
            }
        }
        if over || push.rest.is_empty() && push.way == Way::Torn {
            if push.way == Way::Whole {
                s2::answered(&push.answer, net);
            }
            self.running.remove(&end);
            net.close(end, false);
        }
    }

    /// Time passed: those that drip go on.
    pub fn on_timer(&mut self, net: &mut Network) {
        let due = |push: &&Push| push.way == Way::Drips && push.next_at <= net.now;
        let ends: Vec<EndId> =
            self.running.iter().filter(|(_, push)| due(push)).map(|(end, _)| *end).collect();
        for end in ends {
            self.on_socket(end, SocketEvent::Readable, net);
        }
    }

    /// All that run are given up.
    pub fn stop(&mut self, net: &mut Network) {
        for end in core::mem::take(&mut self.running).into_keys() {
            net.close(end, false);
        }
    }
}
