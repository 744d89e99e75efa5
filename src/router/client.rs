//! The client's side of a worker: request heads are judged and become exchanges, bodies flow on.
//!
//! In: a client connection's bytes and its end. Out: an exchange with its decision by value and its
//! first bytes ready to be sent, or an answer of the router's own.

use super::balance;
use super::connection::{NONE, State};
use super::decision::{Answer, Decision, Forward, Verdict, both};
use super::edits::Tag;
use super::exchange::{Coding, Exchange, Filtered, Phase, Way};
use super::framing::{assemble, has_room};
use super::io::{Buf, IO_BUFFER_TAILROOM_BYTES};
use super::io::{Chunk, Close, End, IO_BUFFER_BYTES, IO_BUFFER_HEADROOM_BYTES, Io};
use super::worker::{Turn, Worker, is_misdirected};
use crate::config::filter::NO_FILTER;
use crate::limits::{MAX_HEAD_BYTES, MAX_REQUESTS_PER_INPUT};
use crate::stdx::marks::{Mark, sometimes};
use crate::wire::http1::render::Forwarded;
use crate::wire::http1::{Decoded, Decoder, Framing, RequestHead, field_space, is_worth_parsing};
use core::ops::Range;

impl Worker {
    /// Works on a client's input until it is used up or has to wait for something.
    pub(super) fn client_input<I: Io>(
        &mut self,
        turn: &mut Turn<'_, I>,
        client: u32,
        chunk: Chunk,
    ) {
        let mut input = Some(chunk);
        let mut heads = 0;
        while let Some(chunk) = input.take() {
            let conn = &mut self.conns[client];
            input = match conn.state {
                State::Idle if conn.is_queued => {
                    conn.hold(chunk);
                    None
                }
                State::Idle | State::Head if heads == MAX_REQUESTS_PER_INPUT => {
                    // Others get their turn; this one goes on at the next tick.
                    conn.is_stalled = true;
                    conn.hold(chunk);
                    None
                }
                State::Idle | State::Head => {
                    heads += 1;
                    self.request_head(turn, client, chunk)
                }
                State::Busy => {
                    self.request_body(turn, client, chunk);
                    None
                }
                _ => {
                    turn.io.put(chunk.buf);
                    None
                }
            };
        }
        self.steer_client(turn.io, client);
        self.rearm(client);
    }

    /// Pauses or resumes reading as the state asks.
    fn steer_client<I: Io>(&mut self, io: &mut I, client: u32) {
        let wants = self.wants_input(client) && self.conns[client].held.is_none();
        self.steer(io, client, wants);
    }

    /// Pauses or resumes reading, when it is not so already.
    pub(super) fn steer<I: Io>(&mut self, io: &mut I, index: u32, wants: bool) {
        let id = self.conns.id(index);
        let conn = &mut self.conns[index];
        if matches!(conn.state, State::Free | State::Closing) || conn.is_paused != wants {
            return;
        }
        conn.is_paused = !wants;
        if wants { io.resume(id) } else { io.pause(id) }
    }

    /// Whether input of a client can be worked on now.
    fn wants_input(&self, client: u32) -> bool {
        let conn = &self.conns[client];
        match conn.state {
            State::Idle => !conn.is_queued && !conn.is_stalled,
            State::Handshake | State::Head | State::Linger => true,
            State::Busy => {
                let exchange = &self.exchanges[conn.exchange];
                if exchange.phase == Phase::Tunnel {
                    return self.takes_body(exchange);
                }
                !exchange.request.is_done()
                    && (exchange.is_upstream_deaf || self.takes_body(exchange))
            }
            _ => false,
        }
    }

    /// Whether the upstream takes more of the request's body.
    pub(super) fn takes_body(&self, exchange: &Exchange) -> bool {
        exchange.phase != Phase::Connecting
            && exchange.upstream != NONE
            && !self.conns[exchange.upstream].is_queued
    }

    /// Goes on with a client after something it may have waited for.
    pub(super) fn settle<I: Io>(&mut self, turn: &mut Turn<'_, I>, client: u32) {
        if client == NONE || !self.conns[client].is_client() {
            return;
        }
        if self.wants_input(client)
            && let Some(chunk) = self.conns[client].take_held()
        {
            self.client_input(turn, client, chunk);
        } else {
            self.steer_client(turn.io, client);
            self.rearm(client);
        }
    }

    /// [`Worker::settle`] for the client of an upstream.
    pub(super) fn settle_client_of<I: Io>(&mut self, turn: &mut Turn<'_, I>, upstream: u32) {
        let client = self.client_of(upstream);
        self.settle(turn, client);
    }

    /// Works on the bytes of a request head; what follows the request, if anything does.
    fn request_head<I: Io>(
        &mut self,
        turn: &mut Turn<'_, I>,
        client: u32,
        chunk: Chunk,
    ) -> Option<Chunk> {
        let conn = &mut self.conns[client];
        if conn.state == State::Idle {
            (conn.state, conn.since, conn.scanned) = (State::Head, self.tick, 0);
        }
        match self.judge(turn, client, &chunk) {
            Verdict::Partial => {
                self.wait_for_head(turn.io, client, chunk);
                None
            }
            Verdict::Answer(answer) => self.answer_head(turn.io, client, chunk, &answer),
            Verdict::Forward(forward) => self.forward_head(turn, client, chunk, &forward),
        }
    }

    /// Parses and routes. The head, when it is to be forwarded, is then in `self.head`.
    fn judge<I: Io>(&mut self, turn: &Turn<'_, I>, client: u32, chunk: &Chunk) -> Verdict {
        let bytes = &turn.io.bytes(&chunk.buf)[chunk.range()];
        let scanned = usize::from(self.conns[client].scanned);
        if !is_worth_parsing(bytes, scanned) {
            return Verdict::Partial;
        }
        let mut space = field_space();
        let head = match RequestHead::parse(bytes, &mut space, &mut self.path) {
            Ok(Some(mut head)) => {
                // Nobody could tell a tunnel that begins now of the drain. An Upgrade may be left
                // (RFC 9110, 7.8).
                head.websocket &= !self.is_draining;
                head
            }
            Ok(None) => return Verdict::Partial,
            Err(refusal) => {
                self.counters.requests += 1;
                sometimes(Mark::RequestRefused);
                let status = refusal.status();
                let (close, is_head, len, rendered) = (true, false, 0, 0);
                return Verdict::Answer(Answer { status, close, is_head, len, rendered });
            }
        };
        self.counters.requests += 1;
        let is_head = head.method == "HEAD";
        let conn = &self.conns[client];
        let bind = self.binds.index(conn.bind);
        let close = ends_connection(&head) || self.is_draining || bind.is_none();
        let (len, rendered) = (head.len as u32, 0);
        let answer = |mark, status| {
            sometimes(mark);
            Verdict::Answer(Answer { status, close, is_head, len, rendered })
        };
        let (snapshot, table) = (&turn.slot.snapshot, turn.slot.table());
        let secured = self.conns.listener(client);
        if bind.is_some_and(|bind| is_misdirected(turn.slot, bind, secured, head.host)) {
            return answer(Mark::Misdirected, 421);
        }
        let Some(Ok(found)) = bind.map(|bind| table.find(snapshot, bind, &head)) else {
            return answer(Mark::RouteNotFound, 404);
        };
        if matches!(head.framing, Framing::Length(n) if n > self.max_body_bytes) {
            return answer(Mark::BodyTooLarge, 413);
        }
        let port = snapshot.listeners[found.listener].port;
        let proto: &[u8] = if secured == 0 { b"http" } else { b"https" };
        let forwarded = Forwarded { client: self.conns.peer(client), proto, port };
        let out = &mut self.head;
        let mut decision = Decision { snapshot, found, head: &head, forwarded, close, out };
        let route = &snapshot.routes[found.route];
        if route.filter != NO_FILTER
            && let Some(elsewhere) = decision.redirect(route.filter)
        {
            return elsewhere;
        }
        let picked = balance::pick(snapshot, route, &self.endpoints, &mut self.prng, self.tick);
        match picked {
            Err(status) => answer(Mark::NothingToPick, status),
            Ok(picked) if picked.filter == NO_FILTER => decision.forward(&picked),
            Ok(picked) => {
                decision.redirect(picked.filter).unwrap_or_else(|| decision.forward(&picked))
            }
        }
    }

    /// Lets the driver read the rest of a head behind what is there.
    fn wait_for_head<I: Io>(&mut self, io: &mut I, client: u32, mut chunk: Chunk) {
        make_room(io, &mut chunk);
        let id = self.conns.id(client);
        let conn = &mut self.conns[client];
        assert!(conn.state == State::Head);
        conn.scanned = chunk.len as u16;
        io.read_more(id, chunk);
    }

    /// Answers a request; what follows it is given back when the connection goes on.
    fn answer_head<I: Io>(
        &mut self,
        io: &mut I,
        client: u32,
        mut chunk: Chunk,
        answer: &Answer,
    ) -> Option<Chunk> {
        let rest = chunk.len - answer.len;
        if answer.close || rest == 0 {
            self.give_answer(io, client, answer, Some(chunk.buf));
            return None;
        }
        (chunk.start, chunk.len) = (chunk.start + answer.len, rest);
        self.give_answer(io, client, answer, None);
        Some(chunk)
    }

    /// The usual answer of a status, or the one that was rendered.
    fn give_answer<I: Io>(&mut self, io: &mut I, client: u32, a: &Answer, spare: Option<Buf>) {
        if a.rendered == 0 {
            self.answer(io, client, a.status, a.close, a.is_head, spare);
        } else {
            self.answer_rendered(io, client, (a.status, a.close), a.rendered, spare);
        }
    }

    /// Makes a routed request an exchange and sends it on; what follows the request.
    fn forward_head<I: Io>(
        &mut self,
        turn: &mut Turn<'_, I>,
        client: u32,
        mut chunk: Chunk,
        forward: &Forward,
    ) -> Option<Chunk> {
        let body = (chunk.start + forward.len) as usize..chunk.range().end;
        let mut request = Decoder::new(forward.framing);
        // A head that filters made long goes alone; what follows it waits as input.
        let is_long = !has_room(body.start, forward.rendered);
        let piece = match is_long {
            true => body.start..body.start,
            false => body.clone(),
        };
        let piece = &mut turn.io.bytes_mut(&mut chunk.buf)[piece];
        let Ok(decoded) = request.decode(piece) else {
            self.answer(turn.io, client, 400, true, forward.is_head, Some(chunk.buf));
            return None;
        };
        let exchange = Exchange::new(client, request, &forward.candidates);
        let Some(index) = self.exchanges.insert(exchange) else {
            self.counters.exhausted += 1;
            self.answer(turn.io, client, 503, true, forward.is_head, Some(chunk.buf));
            return None;
        };
        if forward.framing == Framing::Chunked {
            let piece = &turn.io.bytes(&chunk.buf)[body.clone()];
            self.keep_trailers(index, Way::Request, piece, &decoded);
        }
        if !self.keep_filters(turn, index, forward) {
            sometimes(Mark::EditsFull);
            self.counters.edits_exhausted += 1;
            return self.refuse(turn, (client, index), forward, chunk.buf);
        }
        let payload = match is_long {
            true => forward.rendered..forward.rendered,
            false => body.start + decoded.start..body.start + decoded.start + decoded.len,
        };
        let rest = body.start + decoded.consumed..body.end;
        let (out, rest, is_lost) = split(turn.io, chunk, &payload, &rest);
        if is_lost && is_long && !self.exchanges[index].request.is_done() {
            self.counters.exhausted += 1;
            return self.refuse(turn, (client, index), forward, out);
        }
        let close = forward.close || is_lost;
        if forward.is_idempotent || payload.is_empty() {
            self.exchanges.keep(index, &self.head[..forward.rendered]);
        }
        self.describe(turn, index, forward, close);
        self.exchanges[index].body_bytes = decoded.len as u64;
        self.enter(client, index);
        if self.prepare_first(turn.io, index, out, payload, forward.rendered) {
            self.assign(turn, index);
        } else {
            self.fail(turn.io, index, 431);
        }
        rest
    }

    /// There is no room for what a new exchange needs.
    fn refuse<I: Io>(
        &mut self,
        turn: &mut Turn<'_, I>,
        (client, index): (u32, u32),
        forward: &Forward,
        buf: Buf,
    ) -> Option<Chunk> {
        turn.io.put(buf);
        self.describe(turn, index, forward, true);
        self.enter(client, index);
        self.fail(turn.io, index, 503);
        None
    }

    /// The client is busy with an exchange.
    fn enter(&mut self, client: u32, index: u32) {
        let conn = &mut self.conns[client];
        (conn.state, conn.exchange, conn.since) = (State::Busy, index, self.tick);
    }

    /// Keeps what filters have to do with the response, and which rule they were of; false when
    /// there is no room.
    fn keep_filters<I: Io>(&mut self, turn: &Turn<'_, I>, index: u32, forward: &Forward) -> bool {
        let (route, backend) = (forward.filter, forward.backend_filter);
        if route == NO_FILTER && backend == NO_FILTER {
            return true;
        }
        let snapshot = &turn.slot.snapshot;
        let routing = turn.slot.table().routing();
        self.exchanges[index].filtered = match backend {
            NO_FILTER => Filtered::ByRule { rule: forward.route, routing },
            _ => Filtered::ByBackend,
        };
        let edits = both(snapshot, route, backend, |f| f.response);
        let tag = Tag { generation: turn.generation, route, backend };
        edits.clone().next().is_none() || self.exchanges.keep_edits(index, tag, edits)
    }

    /// Keeps the trailers in a piece of a chunked body.
    pub(super) fn keep_trailers(&mut self, index: u32, way: Way, piece: &[u8], decoded: &Decoded) {
        if !self.exchanges.collect_trailers(index, way, piece, decoded) {
            sometimes(Mark::TrailersFull);
            self.counters.exhausted += 1;
        }
    }

    /// Fills in what routing found out.
    fn describe<I: Io>(&mut self, turn: &Turn<'_, I>, index: u32, forward: &Forward, close: bool) {
        let exchange = &mut self.exchanges[index];
        exchange.is_request_chunked = forward.framing == Framing::Chunked;
        exchange.close_client = close;
        exchange.is_head = forward.is_head;
        exchange.is_websocket = forward.is_websocket;
        exchange.is_11 = forward.is_11;
        exchange.is_idempotent = forward.is_idempotent;
        exchange.head_len = forward.rendered as u32;
        exchange.backend_ms = forward.backend_ms;
        exchange.generation = turn.generation;
        if forward.request_ms != 0 && forward.request_ms != u32::MAX {
            exchange.deadline = Some(self.tick.plus_ms(forward.request_ms));
        }
    }

    /// Puts head and first payload together; false when they do not fit.
    fn prepare_first<I: Io>(
        &mut self,
        io: &mut I,
        index: u32,
        mut out: Buf,
        payload: Range<usize>,
        rendered: usize,
    ) -> bool {
        let exchange = &self.exchanges[index];
        let coding = if exchange.is_request_chunked { Coding::Chunked } else { Coding::Plain };
        let (is_done, head) = (exchange.request.is_done(), &self.head[..rendered]);
        let trailers = match coding {
            Coding::Chunked => self.exchanges.trailers(index, Way::Request),
            _ => b"",
        };
        match assemble(io.bytes_mut(&mut out), payload, coding, is_done, head, trailers) {
            Some(range) => {
                self.exchanges[index].first = Some(chunk_of(out, range));
                true
            }
            None => {
                io.put(out);
                false
            }
        }
    }

    /// Sends a piece of a request's body on, or keeps it until it can be.
    fn request_body<I: Io>(&mut self, turn: &mut Turn<'_, I>, client: u32, mut chunk: Chunk) {
        let index = self.conns[client].exchange;
        let exchange = &mut self.exchanges[index];
        if exchange.phase == Phase::Tunnel {
            self.tunnel_up(turn.io, client, chunk);
            return;
        }
        if exchange.is_upstream_deaf && !exchange.request.is_done() {
            // Nobody hears it. The connection ends with the response, or with its timeout.
            exchange.close_client = true;
            turn.io.put(chunk.buf);
            return;
        }
        if exchange.request.is_done() || !self.takes_body(&self.exchanges[index]) {
            self.conns[client].hold(chunk);
            return;
        }
        let exchange = &mut self.exchanges[index];
        let range = chunk.range();
        let decoded =
            exchange.request.decode(&mut turn.io.bytes_mut(&mut chunk.buf)[range.clone()]);
        let Ok(decoded) = decoded else {
            turn.io.put(chunk.buf);
            sometimes(Mark::BodyBroken);
            self.fail(turn.io, index, 400);
            return;
        };
        if exchange.is_request_chunked {
            let piece = &turn.io.bytes(&chunk.buf)[range.clone()];
            self.keep_trailers(index, Way::Request, piece, &decoded);
        }
        let exchange = &mut self.exchanges[index];
        exchange.body_bytes += decoded.len as u64;
        if exchange.body_bytes > self.max_body_bytes {
            turn.io.put(chunk.buf);
            sometimes(Mark::BodyGrowsTooLarge);
            self.fail(turn.io, index, 413);
            return;
        }
        let payload = range.start + decoded.start..range.start + decoded.start + decoded.len;
        let rest = range.start + decoded.consumed..range.end;
        let (out, rest, is_lost) = split(turn.io, chunk, &payload, &rest);
        self.exchanges[index].close_client |= is_lost;
        if let Some(rest) = rest {
            self.conns[client].hold(rest);
        }
        self.conns[client].since = self.tick;
        self.send_body(turn.io, index, out, payload);
    }

    fn send_body<I: Io>(&mut self, io: &mut I, index: u32, mut out: Buf, payload: Range<usize>) {
        let exchange = &self.exchanges[index];
        let (upstream, is_done) = (exchange.upstream, exchange.request.is_done());
        let coding = if exchange.is_request_chunked { Coding::Chunked } else { Coding::Plain };
        let trailers = match coding {
            Coding::Chunked => self.exchanges.trailers(index, Way::Request),
            _ => b"",
        };
        let range = assemble(io.bytes_mut(&mut out), payload, coding, is_done, &[], trailers);
        // Input lies between headroom and tailroom, which are made for this.
        let range = range.expect("room for chunk framing");
        if range.is_empty() {
            io.put(out);
        } else {
            self.exchanges[index].is_body_sent = true;
            self.send(io, upstream, chunk_of(out, range));
        }
        if is_done {
            // From here on the backend's time counts.
            self.conns[upstream].since = self.tick;
            self.rearm(upstream);
        }
    }

    /// A client ended its direction, or its connection broke.
    pub(super) fn client_ended<I: Io>(&mut self, turn: &mut Turn<'_, I>, client: u32, end: End) {
        let (state, is_queued) = (self.conns[client].state, self.conns[client].is_queued);
        let tunnels = state == State::Busy
            && self.exchanges[self.conns[client].exchange].phase == Phase::Tunnel;
        if tunnels && end == End::Eof {
            self.tunnel_client_ended(turn.io, client);
            return;
        }
        let is_over = match state {
            _ if end == End::Reset => true,
            State::Handshake | State::Head => true,
            State::Idle | State::Linger => !is_queued,
            // Half-closed after a whole request: it may still read the response.
            State::Busy => !self.exchanges[self.conns[client].exchange].request.is_done(),
            _ => false,
        };
        if is_over {
            if state == State::Busy {
                self.abandon(turn.io, self.conns[client].exchange);
            }
            self.close(turn.io, client, Close::Now);
        } else if state == State::Idle {
            self.linger(turn.io, client);
        }
    }
}

/// Whether an answer of our own to a request ends its connection.
fn ends_connection(head: &RequestHead<'_, '_>) -> bool {
    head.close || !matches!(head.framing, Framing::None | Framing::Length(0))
}

pub(super) fn chunk_of(buf: Buf, range: Range<usize>) -> Chunk {
    Chunk { buf, start: range.start as u32, len: range.len() as u32 }
}

/// Moves a partial head to the front of its buffer when the rest of it might not fit behind.
pub(super) fn make_room<I: Io>(io: &mut I, chunk: &mut Chunk) {
    let end = IO_BUFFER_BYTES - IO_BUFFER_TAILROOM_BYTES;
    // One byte more than a head may have, so that one that is too long shows.
    if chunk.start + MAX_HEAD_BYTES < end {
        return;
    }
    let range = chunk.range();
    io.bytes_mut(&mut chunk.buf).copy_within(range, IO_BUFFER_HEADROOM_BYTES as usize);
    chunk.start = IO_BUFFER_HEADROOM_BYTES;
}

/// Parts what is sent on from the bytes of the next message behind it: those stay in their buffer,
/// the payload moves to another, at the same place. Without another buffer the rest is lost, which
/// is honest when the connection then ends: the client sends it again.
pub(super) fn split<I: Io>(
    io: &mut I,
    chunk: Chunk,
    payload: &Range<usize>,
    rest: &Range<usize>,
) -> (Buf, Option<Chunk>, bool) {
    if rest.is_empty() {
        return (chunk.buf, None, false);
    }
    let Some(mut out) = io.take() else {
        return (chunk.buf, None, true);
    };
    copy_between(io, &chunk.buf, &mut out, payload);
    (out, Some(chunk_of(chunk.buf, rest.clone())), false)
}

/// Copies a range to the same place of another buffer, by way of a small array: an [`Io`] lends one
/// buffer at a time.
fn copy_between<I: Io>(io: &mut I, from: &Buf, to: &mut Buf, range: &Range<usize>) {
    let mut piece = [0u8; 512];
    let mut at = range.start;
    while at < range.end {
        let len = piece.len().min(range.end - at);
        piece[..len].copy_from_slice(&io.bytes(from)[at..at + len]);
        io.bytes_mut(to)[at..at + len].copy_from_slice(&piece[..len]);
        at += len;
    }
}
