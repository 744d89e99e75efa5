//! Tunnels: what an exchange is after 101 (Switching Protocols), RFC 9110 section 7.8.
//!
//! In: bytes and ends of a client and an upstream that have left HTTP (WebSocket, RFC 6455). Out:
//! the same bytes on the other side, with back-pressure both ways; the end of one side on the
//! other. Nothing here looks into them.
//!
//! ```text
//! client ends    -> the upstream's direction is shut; what it still says flows on
//! upstream ends  -> all of it is with the client: its connection lingers, the upstream is closed
//! either resets  -> both are cut
//! no byte moves  -> after TUNNEL_IDLE_TIMEOUT_MS both are closed
//! ```
//!
//! A drain begins no new ones and leaves those that run alone: they are cut at its deadline.

use super::exchange::Phase;
use super::io::{Chunk, End, Io};
use super::worker::Worker;

impl Worker {
    /// Bytes of the client, on to the upstream.
    pub(super) fn tunnel_up<I: Io>(&mut self, io: &mut I, client: u32, chunk: Chunk) {
        let upstream = self.exchanges[self.conns[client].exchange].upstream;
        if self.conns[upstream].is_queued {
            self.conns[client].hold(chunk);
            return;
        }
        self.conns[client].since = self.tick;
        self.send(io, upstream, chunk);
    }

    /// Bytes of the upstream, on to the client.
    pub(super) fn tunnel_down<I: Io>(&mut self, io: &mut I, index: u32, chunk: Chunk) {
        let client = self.exchanges[index].client;
        self.conns[client].since = self.tick;
        self.send(io, client, chunk);
    }

    /// The client ended its direction in order: so does ours to the upstream, once all is out.
    pub(super) fn tunnel_client_ended<I: Io>(&mut self, io: &mut I, client: u32) {
        let exchange = &self.exchanges[self.conns[client].exchange];
        assert!(exchange.phase == Phase::Tunnel);
        let id = self.conns.id(exchange.upstream);
        self.conns[client].since = self.tick;
        io.shutdown(id);
        self.rearm(client);
    }

    /// The upstream ended its direction, or its connection broke.
    pub(super) fn tunnel_upstream_ended<I: Io>(&mut self, io: &mut I, index: u32, end: End) {
        if end == End::Reset {
            self.truncate(io, index);
        } else {
            self.end_tunnel(io, index);
        }
    }

    /// Closes the upstream, and the client once all is with it.
    pub(super) fn end_tunnel<I: Io>(&mut self, io: &mut I, index: u32) {
        let client = self.exchanges[index].client;
        self.end_exchange(io, index);
        self.linger(io, client);
    }
}
