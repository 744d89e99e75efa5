//! Replayed and torn pushes: what an old controller, or a network, may say again long after.
//!
//! In: published Snapshots. Out: connections to admin ports that push one of them once more.

use crate::network::{EndId, Network, Node, SocketEvent};
use serval::config::Snapshot;
use serval::config::codec::Encoder;
use serval::limits::MAX_RECORD_SIZE_BYTES;
use serval::stdx::Prng;
use std::collections::BTreeMap;
use std::net::SocketAddr;

/// Pushes of the past.
#[derive(Debug)]
pub struct Replays {
    /// Whole requests.
    known: Vec<Vec<u8>>,
    /// What is still to be sent, and whether the connection is to be cut then.
    running: BTreeMap<EndId, (Vec<u8>, bool)>,
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
        let mut request = b"POST /routes/update HTTP/1.1\r\nHost: r\r\nConnection: close\r\n\
            Transfer-Encoding: chunked\r\n\r\n"
            .to_vec();
        let mut buffer = vec![0; MAX_RECORD_SIZE_BYTES as usize];
        let mut encoder = Encoder::new();
        while let Some(Ok(line)) = encoder.next_line(snapshot, &mut buffer) {
            request.extend(format!("{:x}\r\n", line.len()).bytes());
            request.extend(line);
            request.extend(b"\r\n");
        }
        request.extend(b"0\r\n\r\n");
        self.known.push(request);
        if self.known.len() > 20 {
            self.known.remove(0);
        }
    }

    /// Pushes one of them to a router, whole or torn.
    pub fn replay(&mut self, router: usize, address: SocketAddr, net: &mut Network) {
        if self.known.is_empty() {
            return;
        }
        let at = self.prng.below(self.known.len() as u64) as usize;
        let mut request = self.known[at].clone();
        let torn = self.prng.chance(1, 3);
        if torn {
            request.truncate(self.prng.below(request.len() as u64) as usize);
        }
        self.sent += 1;
        let end = net.connect(Node::Past, Node::Router(router), address);
        self.running.insert(end, (request, torn));
    }

    /// Something happened at a socket; false when it is none of these.
    pub fn on_socket(&mut self, end: EndId, what: SocketEvent, net: &mut Network) -> bool {
        let Some((rest, torn)) = self.running.get_mut(&end) else { return false };
        net.read(end, 1 << 20);
        let mut over = what == SocketEvent::Refused || net.ended(end).is_some();
        if !over && !rest.is_empty() {
            match net.write(end, rest) {
                Some(taken) => drop(rest.drain(..taken)),
                None => over = true,
            }
        }
        if over || rest.is_empty() && *torn {
            self.running.remove(&end);
            net.close(end, false);
        }
        true
    }
}
