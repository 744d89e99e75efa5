//! How exchanges and connections of a worker end: complete, with an answer of the router's own, cut
//! short, by a timer.
//!
//! In: an exchange that is over and why. Out: the upstream pooled or closed, the client told the
//! truth: a whole response, an honest status, or a connection that visibly breaks.

use super::connection::{NONE, State};
use super::exchange::Phase;
use super::io::{Buf, Chunk, Close, IO_BUFFER_HEADROOM_BYTES, Io};
use super::worker::{Turn, Worker};
use crate::limits::IDLE_TIMEOUT_MS;
use crate::stdx::marks::{Mark, sometimes};
use crate::wire::http1::render;

/// The reason phrases of the router's own answers (RFC 9110 section 15).
pub fn reason(status: u16) -> &'static str {
    match status {
        301 => "Moved Permanently",
        302 => "Found",
        303 => "See Other",
        307 => "Temporary Redirect",
        308 => "Permanent Redirect",
        400 => "Bad Request",
        404 => "Not Found",
        408 => "Request Timeout",
        413 => "Content Too Large",
        414 => "URI Too Long",
        417 => "Expectation Failed",
        421 => "Misdirected Request",
        431 => "Request Header Fields Too Large",
        500 => "Internal Server Error",
        501 => "Not Implemented",
        502 => "Bad Gateway",
        503 => "Service Unavailable",
        504 => "Gateway Timeout",
        505 => "HTTP Version Not Supported",
        _ => "Error",
    }
}

impl Worker {
    /// The response is whole: the upstream goes back to its pool if it may, the client goes on.
    pub(super) fn complete<I: Io>(&mut self, io: &mut I, index: u32) {
        let exchange = &self.exchanges[index];
        assert!(exchange.phase == Phase::Responding);
        let (client, conn) = (exchange.client, exchange.upstream);
        let is_whole = exchange.request.is_done();
        let close_client = exchange.close_client || !is_whole || self.conns[client].has_ended;
        let upstream = &self.conns[conn];
        // Only an idle connection is pooled: nothing unsent, nothing unread, and room to spare.
        let is_reusable = exchange.is_persistent
            && is_whole
            && !exchange.is_upstream_deaf
            && !upstream.is_queued
            && !upstream.has_ended
            && upstream.held.is_none()
            && !self.is_draining
            && self.conns.has_spare_slots();
        self.detach(index);
        self.drop_exchange(io, index);
        if is_reusable {
            let conn_slot = &mut self.conns[conn];
            (conn_slot.state, conn_slot.since) = (State::Pooled, self.tick);
            self.endpoints.push_idle(&mut self.conns, conn);
            self.steer(io, conn, true);
            self.rearm(conn);
        } else {
            self.close(io, conn, Close::Now);
        }
        self.client_done(io, client, close_client);
    }

    /// A client whose request was answered: the next one, or the end.
    fn client_done<I: Io>(&mut self, io: &mut I, client: u32, close: bool) {
        if close {
            self.linger(io, client);
            return;
        }
        let conn = &mut self.conns[client];
        (conn.state, conn.since, conn.exchange) = (State::Idle, self.tick, NONE);
        self.rearm(client);
    }

    /// Takes an exchange apart from its upstream, which is then closed or pooled by the caller.
    pub(super) fn detach(&mut self, index: u32) {
        let conn = self.exchanges[index].upstream;
        assert!(conn != NONE);
        self.exchanges[index].upstream = NONE;
        self.conns[conn].exchange = NONE;
        self.conns[conn].is_stalled = false;
        self.endpoints.ended(self.conns[conn].endpoint);
    }

    /// Forgets an exchange without upstream.
    fn drop_exchange<I: Io>(&mut self, io: &mut I, index: u32) {
        let exchange = &mut self.exchanges[index];
        assert!(exchange.upstream == NONE);
        if let Some(first) = exchange.first.take() {
            io.put(first.buf);
        }
        self.conns[exchange.client].exchange = NONE;
        self.exchanges.remove(index);
    }

    /// Ends an exchange that is not complete; its upstream is closed. The client is left to the
    /// caller, in state Busy without an exchange.
    pub(super) fn end_exchange<I: Io>(&mut self, io: &mut I, index: u32) {
        self.end_exchange_by(io, index, Close::Now);
    }

    /// The same, with what the upstream is to see.
    fn end_exchange_by<I: Io>(&mut self, io: &mut I, index: u32, how: Close) {
        let conn = self.exchanges[index].upstream;
        if conn != NONE {
            self.detach(index);
            self.close(io, conn, how);
        }
        self.drop_exchange(io, index);
    }

    /// Ends an exchange whose client broke off. In a tunnel only the end of its stream would tell
    /// the backend, so that must not look like one in order.
    pub(super) fn abandon<I: Io>(&mut self, io: &mut I, index: u32) {
        let how = match self.exchanges[index].phase {
            Phase::Tunnel => Close::Reset,
            _ => Close::Now,
        };
        self.end_exchange_by(io, index, how);
    }

    /// Ends an exchange by an answer of our own; by a visible break when the response has begun.
    pub(super) fn fail<I: Io>(&mut self, io: &mut I, index: u32, status: u16) {
        let exchange = &self.exchanges[index];
        if matches!(exchange.phase, Phase::Responding | Phase::Tunnel) {
            self.truncate(io, index);
            return;
        }
        let (client, is_head) = (exchange.client, exchange.is_head);
        let close = exchange.close_client
            || !exchange.request.is_done()
            || self.is_draining
            || self.conns[client].has_ended;
        self.end_exchange(io, index);
        self.answer(io, client, status, close, is_head, None);
    }

    /// Cuts a response that has begun, so that nobody takes it for whole.
    pub(super) fn truncate<I: Io>(&mut self, io: &mut I, index: u32) {
        let client = self.exchanges[index].client;
        sometimes(Mark::AnswerCut);
        self.counters.truncated += 1;
        self.abandon(io, index);
        self.close(io, client, Close::Reset);
    }

    /// Cuts whatever a client is doing.
    pub(super) fn cut_client<I: Io>(&mut self, turn: &mut Turn<'_, I>, client: u32) {
        match self.conns[client].exchange {
            NONE => self.close(turn.io, client, Close::Reset),
            index => self.truncate(turn.io, index),
        }
    }

    /// Answers a client that has no exchange. `spare` is a buffer of its input that is not needed
    /// any more. Without any buffer the connection just breaks, which is honest too.
    pub(super) fn answer<I: Io>(
        &mut self,
        io: &mut I,
        client: u32,
        status: u16,
        close: bool,
        is_head: bool,
        spare: Option<Buf>,
    ) {
        assert!(self.conns[client].exchange == NONE && self.conns[client].is_client());
        let Some(mut buf) = spare.or_else(|| io.take()) else {
            sometimes(Mark::AnswerFindsNoBuffer);
            self.counters.exhausted += 1;
            self.close(io, client, Close::Reset);
            return;
        };
        let start = IO_BUFFER_HEADROOM_BYTES as usize;
        let room = &mut io.bytes_mut(&mut buf)[start..];
        let len = render::answer(status, reason(status), close, !is_head, room);
        let len = len.expect("an answer is small") as u32;
        self.counters.response(status);
        self.counters.answers += 1;
        self.send(io, client, Chunk { buf, start: start as u32, len });
        self.client_done(io, client, close);
    }

    /// Answers a client that has no exchange with what was rendered into `head`.
    pub(super) fn answer_rendered<I: Io>(
        &mut self,
        io: &mut I,
        client: u32,
        (status, close): (u16, bool),
        rendered: usize,
        spare: Option<Buf>,
    ) {
        assert!(self.conns[client].exchange == NONE && self.conns[client].is_client());
        let Some(mut buf) = spare.or_else(|| io.take()) else {
            self.counters.exhausted += 1;
            self.close(io, client, Close::Reset);
            return;
        };
        // From the buffer's very start: headroom is for what a body follows.
        match io.bytes_mut(&mut buf).get_mut(..rendered) {
            Some(room) => room.copy_from_slice(&self.head[..rendered]),
            None => {
                io.put(buf);
                self.close(io, client, Close::Reset);
                return;
            }
        }
        self.counters.response(status);
        self.counters.answers += 1;
        self.send(io, client, Chunk { buf, start: 0, len: rendered as u32 });
        self.client_done(io, client, close);
    }

    /// Ends our direction of a client's connection; what it still sends is read and dropped for a
    /// while, lest a reset destroy the response (RFC 9112 section 9.6).
    pub(super) fn linger<I: Io>(&mut self, io: &mut I, client: u32) {
        let id = self.conns.id(client);
        let conn = &mut self.conns[client];
        if let Some(held) = conn.take_held() {
            io.put(held.buf);
        }
        (conn.state, conn.since, conn.exchange) = (State::Linger, self.tick, NONE);
        conn.is_stalled = false;
        if conn.has_ended && !conn.is_queued {
            self.close(io, client, Close::Now);
            return;
        }
        io.shutdown(id);
        self.steer(io, client, true);
        self.rearm(client);
    }

    /// Closes a connection that has no exchange; its slot is free when the driver has let go.
    pub(super) fn close<I: Io>(&mut self, io: &mut I, index: u32, how: Close) {
        assert!(!matches!(self.conns[index].state, State::Free | State::Closing));
        assert!(self.conns[index].exchange == NONE, "an exchange is ended first");
        if self.conns[index].state == State::Pooled {
            self.endpoints.remove_idle(&mut self.conns, index);
        }
        self.wheel.disarm(&mut self.conns, index);
        let is_client = self.conns[index].is_client();
        let id = self.conns.id(index);
        let conn = &mut self.conns[index];
        if let Some(held) = conn.take_held() {
            io.put(held.buf);
        }
        let (bind, endpoint) = (conn.bind, conn.endpoint);
        conn.is_stalled = false;
        self.conns.begin_closing(index);
        if is_client {
            self.binds.client_went(bind);
        } else {
            self.endpoints.closed(endpoint, self.tick);
        }
        io.close(id, how);
    }

    /// A connection's deadline has come.
    pub(super) fn expire<I: Io>(&mut self, turn: &mut Turn<'_, I>, index: u32) {
        let is_client = self.conns[index].is_client();
        if self.conns[index].is_stalled {
            if is_client {
                self.conns[index].is_stalled = false;
                if self.conns[index].state == State::Busy {
                    self.look_for_slot(turn, self.conns[index].exchange);
                }
                self.settle(turn, index);
            } else {
                let client = self.client_of(index);
                self.unstall_upstream(turn, index);
                self.settle(turn, client);
            }
            return;
        }
        let is_queued = self.conns[index].is_queued;
        match self.conns[index].state {
            State::Handshake => {
                self.counters.timeouts += 1;
                self.close(turn.io, index, Close::Now);
            }
            State::Head => {
                self.counters.timeouts += 1;
                sometimes(Mark::HeadTimesOut);
                self.answer(turn.io, index, 408, true, false, None);
            }
            State::Busy => self.expire_exchange(turn, index),
            State::Idle | State::Linger if is_queued => {
                sometimes(Mark::ClientDoesNotRead);
                // The peer does not read: what it got is cut short.
                self.counters.timeouts += 1;
                self.close(turn.io, index, Close::Reset);
            }
            State::Connecting => {
                self.counters.timeouts += 1;
                let client = self.client_of(index);
                sometimes(Mark::ConnectTimesOut);
                self.connect_failed(turn, index, 504);
                self.settle(turn, client);
            }
            State::Active => {
                self.counters.timeouts += 1;
                let client = self.client_of(index);
                sometimes(Mark::BackendTimesOut);
                self.fail(turn.io, self.conns[index].exchange, 504);
                self.settle(turn, client);
            }
            _ => self.close(turn.io, index, Close::Now),
        }
    }

    /// The route's request timeout, or no byte moved for too long.
    fn expire_exchange<I: Io>(&mut self, turn: &mut Turn<'_, I>, client: u32) {
        self.counters.timeouts += 1;
        let index = self.conns[client].exchange;
        let exchange = &self.exchanges[index];
        if exchange.phase == Phase::Tunnel {
            sometimes(Mark::TunnelTimesOut);
            self.end_tunnel(turn.io, index);
            return;
        }
        let idle = self.conns[client].since.plus_ms(IDLE_TIMEOUT_MS).is_due(self.tick);
        // When the client is the one that does not go on, it is told so.
        let waits_for_client = !exchange.request.is_done() && self.takes_body(exchange);
        let status = if idle && waits_for_client { 408 } else { 504 };
        sometimes(if status == 408 { Mark::BodyTimesOut } else { Mark::RequestTimesOut });
        self.fail(turn.io, index, status);
        self.settle(turn, client);
    }
}
