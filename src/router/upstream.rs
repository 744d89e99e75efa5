//! The upstream's side of a worker: connections are found or opened, responses flow back.
//!
//! In: an exchange that wants an upstream, an upstream's bytes and its end. Out: the request sent,
//! the response's head written anew and its body passed on; or the next endpoint, the one replay,
//! or the failure that `finish` tells the client.

use super::balance;
use super::client::{chunk_of, make_room};
use super::connection::{NONE, State};
use super::exchange::{Coding, Filtered, Phase, Way};
use super::framing::{assemble, has_room};
use super::io::{Chunk, Close, End, IO_BUFFER_BYTES, IO_BUFFER_HEADROOM_BYTES, Io};
use super::worker::{Turn, Worker, is_misdirected};
use crate::config::snapshot::{NO_FILTER, Route};
use crate::limits::MAX_INTERIM_RESPONSES;
use crate::stdx::marks::{Mark, sometimes};
use crate::wire::http1::render::{self, Delivery};
use crate::wire::http1::{Asked, Decoder, Framing, RequestHead, ResponseHead};
use crate::wire::http1::{field_space, is_worth_parsing};
use core::net::SocketAddr;

/// What the bytes of a response head turned out to be.
enum Heading {
    /// Bytes are missing.
    Partial,
    /// It cannot be forwarded.
    Bad,
    /// 1xx, rendered into `Worker::head` when `rendered` is not 0.
    Interim { len: u32, rendered: usize },
    /// The final one, rendered into `Worker::head`.
    Final(Final),
}

/// Why a head does not go alone.
enum Alone {
    NoBuffer,
    TooLong,
}

struct Final {
    status: u16,
    len: u32,
    rendered: usize,
    framing: Framing,
    coding: Coding,
    close_client: bool,
    is_persistent: bool,
    switches: bool,
}

/// How a response's body goes to a client of HTTP/1.1, or of 1.0.
fn delivery_of(head: &ResponseHead<'_, '_>, is_11: bool) -> (Delivery, Coding) {
    match head.framing {
        Framing::None => (Delivery::None(head.described_length), Coding::Plain),
        Framing::Length(length) => (Delivery::Length(length), Coding::Plain),
        _ if head.switches => (Delivery::Switch, Coding::Plain),
        _ if is_11 => (Delivery::Chunked, Coding::Chunked),
        _ => (Delivery::UntilClose, Coding::UntilClose),
    }
}

impl Worker {
    /// Finds an upstream for an exchange, or tells the client why there is none.
    pub(super) fn assign<I: Io>(&mut self, turn: &mut Turn<'_, I>, index: u32) {
        match self.try_assign(turn, index) {
            Ok(()) => self.shed_first(turn.io, index),
            Err(status) => self.fail(turn.io, index, status),
        }
    }

    /// While a connection opens, a head that is kept needs no buffer.
    fn shed_first<I: Io>(&mut self, io: &mut I, index: u32) {
        let exchange = &mut self.exchanges[index];
        let is_kept = exchange.kept > 0 && u32::from(exchange.kept) == exchange.head_len;
        if is_kept && exchange.first.as_ref().is_some_and(|c| c.len == exchange.head_len) {
            let first = exchange.first.take().expect("just seen");
            io.put(first.buf);
        }
    }

    fn try_assign<I: Io>(&mut self, turn: &mut Turn<'_, I>, index: u32) -> Result<(), u16> {
        // Bounded by the number of candidates, twice when the configuration has changed.
        loop {
            let Some(address) = self.next_candidate(turn, index) else {
                self.route_again(turn, index)?;
                continue;
            };
            let Some(endpoint) = self.endpoints.get(&address, self.tick) else {
                self.counters.exhausted += 1;
                return Err(503);
            };
            let exchange = &self.exchanges[index];
            let may_reuse = !exchange.is_replayed && (exchange.kept > 0 || !exchange.is_idempotent);
            if may_reuse && let Some(conn) = self.endpoints.top_idle(endpoint) {
                self.reuse(turn, index, conn);
                return Ok(());
            }
            if self.open(turn, index, endpoint, &address) {
                return Ok(());
            }
        }
    }

    /// All candidates have failed or are gone. When the configuration has changed since they were
    /// picked, the request is routed again: a change of endpoints costs no request. Nothing of it
    /// was sent, or what was sent may be sent again.
    fn route_again<I: Io>(&mut self, turn: &Turn<'_, I>, index: u32) -> Result<(), u16> {
        let exchange = &self.exchanges[index];
        if exchange.generation == turn.generation {
            return Err(503);
        }
        sometimes(Mark::RoutedAgain);
        match exchange.filtered {
            Filtered::No => {}
            Filtered::ByRule { rule, routing } => {
                return self.route_by_rule(turn, index, (rule, routing));
            }
            Filtered::ByBackend => return Err(503),
        }
        let head = match &exchange.first {
            Some(first) => &turn.io.bytes(&first.buf)[first.range()],
            None => self.exchanges.kept(index),
        };
        let mut space = field_space();
        // What we rendered parses, and matches as what came did.
        let Ok(Some(head)) = RequestHead::parse(head, &mut space, &mut self.path) else {
            return Err(503);
        };
        let (snapshot, table) = (&turn.slot.snapshot, turn.slot.table());
        let bind = self.binds.index(self.conns[exchange.client].bind);
        let shown = self.conns.listener(exchange.client);
        if bind.is_some_and(|bind| is_misdirected(turn.slot, bind, shown, head.host)) {
            return Err(421);
        }
        let found = bind.and_then(|bind| table.find(snapshot, bind, &head).ok()).ok_or(404u16)?;
        let route = &snapshot.routes[found.route];
        if route.filter != NO_FILTER {
            // The head that was rendered has not undergone them.
            return Err(503);
        }
        self.pick_again(turn, index, route)
    }

    /// The candidates of a request from the configuration of this turn.
    fn pick_again<I: Io>(
        &mut self,
        turn: &Turn<'_, I>,
        index: u32,
        route: &Route,
    ) -> Result<(), u16> {
        let snapshot = &turn.slot.snapshot;
        let picked = balance::pick(snapshot, route, &self.endpoints, &mut self.prng, self.tick)?;
        if picked.filter != NO_FILTER {
            return Err(503);
        }
        let exchange = &mut self.exchanges[index];
        (exchange.candidates, exchange.generation) = (picked.candidates, turn.generation);
        Ok(())
    }

    /// [`Worker::route_again`] for a request that filters changed: its path and fields are not
    /// those that came. Where all is routed as it was its rule is known, and would do the same to
    /// it and to the response.
    fn route_by_rule<I: Io>(
        &mut self,
        turn: &Turn<'_, I>,
        index: u32,
        (rule, routing): (u32, u64),
    ) -> Result<(), u16> {
        if turn.slot.table().routing() != routing {
            sometimes(Mark::RoutedOtherwise);
            return Err(503);
        }
        sometimes(Mark::RoutedAgainByRule);
        self.pick_again(turn, index, &turn.slot.snapshot.routes[rule])
    }

    /// The next endpoint to try: one that is still configured, and that a router may connect to.
    fn next_candidate<I: Io>(&mut self, turn: &Turn<'_, I>, index: u32) -> Option<SocketAddr> {
        let exchange = &mut self.exchanges[index];
        let is_old = exchange.generation != turn.generation;
        while exchange.candidates.next < exchange.candidates.count {
            let address = exchange.candidates.addresses[usize::from(exchange.candidates.next)];
            exchange.candidates.next += 1;
            let is_gone = is_old && !turn.slot.table().has_endpoint(&turn.slot.snapshot, &address);
            if is_gone {
                sometimes(Mark::EndpointGone);
            }
            if !is_gone && balance::may_connect(&address, self.allow_loopback) {
                return Some(address);
            }
        }
        None
    }

    fn reuse<I: Io>(&mut self, turn: &mut Turn<'_, I>, index: u32, conn: u32) {
        self.endpoints.remove_idle(&mut self.conns, conn);
        self.endpoints.began(self.conns[conn].endpoint);
        let slot = &mut self.conns[conn];
        (slot.state, slot.exchange, slot.is_reused) = (State::Active, index, true);
        self.exchanges[index].upstream = conn;
        self.counters.reuses += 1;
        self.send_first(turn, index);
    }

    /// Whether this router itself listens there: a request would come back, again and again. Not
    /// asked in standalone, where the operator names the endpoints.
    fn is_own(&self, address: &SocketAddr) -> bool {
        let own = self.own.as_slice();
        let ip = address.ip().to_canonical();
        let any = own.first().map(|own| own.ip().to_canonical());
        let is_there = |own: &SocketAddr| own.ip().to_canonical() == ip;
        !self.allow_loopback
            && (own.iter().any(|own| own.port() == address.port() && is_there(own))
                || self.binds.listen_at(address, any))
    }

    /// Opens a connection, or waits for a slot; false when the endpoint refused at once, or is the
    /// router itself.
    fn open<I: Io>(
        &mut self,
        turn: &mut Turn<'_, I>,
        index: u32,
        endpoint: u32,
        address: &SocketAddr,
    ) -> bool {
        if self.is_own(address) {
            self.endpoints.forget_if_unused(endpoint, self.tick);
            self.counters.connects_failed += 1;
            return false;
        }
        let Some(conn) = self.conns.add_upstream(index, endpoint, self.tick) else {
            self.endpoints.forget_if_unused(endpoint, self.tick);
            self.wait_for_slot(turn.io, index);
            return true;
        };
        self.counters.connects += 1;
        if turn.io.connect(self.conns.id(conn), *address).is_err() {
            sometimes(Mark::ConnectRefusedAtOnce);
            self.conns[conn].exchange = NONE;
            self.conns.release(conn);
            self.counters.connects_failed += 1;
            self.endpoints.failed(endpoint, self.tick);
            return false;
        }
        self.endpoints.opened(endpoint);
        self.endpoints.began(endpoint);
        let exchange = &mut self.exchanges[index];
        (exchange.upstream, exchange.phase) = (conn, Phase::Connecting);
        self.rearm(conn);
        self.keep_room(turn.io);
        true
    }

    /// All slots are taken. Clients have half of them and each one upstream at most, this one none:
    /// some slot is of a connection that closes, or idles and is closed here. The driver lets go of
    /// it by the next tick, at which the request looks again, for the same endpoint first.
    fn wait_for_slot<I: Io>(&mut self, io: &mut I, index: u32) {
        sometimes(Mark::ConnectionsFull);
        self.counters.exhausted += 1;
        self.keep_room(io);
        assert!(self.conns.closing() > 0, "a slot will be free");
        let exchange = &mut self.exchanges[index];
        assert!(exchange.upstream == NONE && exchange.phase == Phase::Connecting);
        exchange.candidates.next -= 1;
        let client = exchange.client;
        self.conns[client].is_stalled = true;
        self.rearm(client);
    }

    /// The tick after [`Worker::wait_for_slot`], unless the request's time is over.
    pub(super) fn look_for_slot<I: Io>(&mut self, turn: &mut Turn<'_, I>, index: u32) {
        let exchange = &self.exchanges[index];
        assert!(exchange.upstream == NONE && exchange.phase == Phase::Connecting);
        match exchange.deadline {
            Some(deadline) if deadline.is_due(self.tick) => {
                self.counters.timeouts += 1;
                sometimes(Mark::RequestTimesOut);
                self.fail(turn.io, index, 504);
            }
            _ => self.assign(turn, index),
        }
    }

    /// A slot was taken: when few are left, an idle connection goes, so that the next request finds
    /// a slot. Not only once none is left: the driver lets go of a connection later.
    pub(super) fn keep_room<I: Io>(&mut self, io: &mut I) {
        if self.conns.has_spare_slots() {
            return;
        }
        let cap = self.conns.cap();
        // From where the last one was found: a table full of idle ones is not searched each time.
        let places = (self.idle_hand..cap).chain(0..self.idle_hand);
        let idle = places.into_iter().find(|&i| self.conns[i].state == State::Pooled);
        if let Some(idle) = idle {
            sometimes(Mark::UpstreamMakesWay);
            self.idle_hand = (idle + 1) % cap;
            self.close(io, idle, Close::Now);
        }
    }

    /// The connection of an exchange is open: its request goes out.
    pub(super) fn connected<I: Io>(&mut self, turn: &mut Turn<'_, I>, conn: u32) {
        self.endpoints.succeeded(self.conns[conn].endpoint);
        self.conns[conn].state = State::Active;
        self.send_first(turn, self.conns[conn].exchange);
    }

    /// The connection of an exchange will not open: the next endpoint, else an answer.
    pub(super) fn connect_failed<I: Io>(&mut self, turn: &mut Turn<'_, I>, conn: u32, status: u16) {
        let index = self.conns[conn].exchange;
        self.counters.connects_failed += 1;
        self.endpoints.failed(self.conns[conn].endpoint, self.tick);
        self.detach(index);
        self.close(turn.io, conn, Close::Now);
        match self.try_assign(turn, index) {
            Ok(()) => {}
            // What the last endpoint did is more to the point than that there are no more.
            Err(_) => self.fail(turn.io, index, status),
        }
    }

    /// Sends what is ready of the request: the prepared chunk, or the head that was kept.
    fn send_first<I: Io>(&mut self, turn: &mut Turn<'_, I>, index: u32) {
        let exchange = &mut self.exchanges[index];
        let conn = exchange.upstream;
        let chunk = match exchange.first.take() {
            Some(chunk) => chunk,
            None => {
                let Some(mut buf) = turn.io.take() else {
                    self.stall(conn);
                    return;
                };
                let head = self.exchanges.kept(index);
                let start = IO_BUFFER_HEADROOM_BYTES as usize;
                let range = start..start + head.len();
                turn.io.bytes_mut(&mut buf)[range.clone()].copy_from_slice(head);
                chunk_of(buf, range)
            }
        };
        let exchange = &mut self.exchanges[index];
        exchange.phase = Phase::Waiting;
        exchange.is_body_sent |= chunk.len > exchange.head_len;
        self.conns[conn].since = self.tick;
        self.send(turn.io, conn, chunk);
        self.steer(turn.io, conn, true);
        self.rearm(conn);
    }

    /// There was no buffer: look again at the next tick.
    fn stall(&mut self, conn: u32) {
        sometimes(Mark::UpstreamStalls);
        self.counters.exhausted += 1;
        self.conns[conn].is_stalled = true;
        self.rearm(conn);
    }

    /// The tick after a stall.
    pub(super) fn unstall_upstream<I: Io>(&mut self, turn: &mut Turn<'_, I>, conn: u32) {
        self.conns[conn].is_stalled = false;
        let index = self.conns[conn].exchange;
        if self.exchanges[index].phase == Phase::Connecting {
            self.send_first(turn, index);
        } else if self.exchanges[index].owes_last_chunk {
            self.end_until_close(turn, index);
        } else {
            self.settle_upstream(turn, conn);
        }
        if self.conns[conn].state == State::Active {
            self.rearm(conn);
        }
    }

    /// Goes on with an upstream after something it may have waited for.
    pub(super) fn settle_upstream<I: Io>(&mut self, turn: &mut Turn<'_, I>, conn: u32) {
        if self.wants_response(conn)
            && let Some(chunk) = self.conns[conn].take_held()
        {
            self.upstream_input(turn, conn, chunk);
        } else {
            self.steer_upstream(turn.io, conn);
        }
    }

    /// Whether the client takes more of the response.
    fn wants_response(&self, conn: u32) -> bool {
        match self.conns[conn].state {
            State::Pooled => true,
            State::Active => {
                let exchange = &self.exchanges[self.conns[conn].exchange];
                !self.conns[conn].is_stalled && !self.conns[exchange.client].is_queued
            }
            _ => false,
        }
    }

    fn steer_upstream<I: Io>(&mut self, io: &mut I, conn: u32) {
        let wants = self.wants_response(conn) && self.conns[conn].held.is_none();
        self.steer(io, conn, wants);
    }

    /// Works on an upstream's bytes.
    pub(super) fn upstream_input<I: Io>(
        &mut self,
        turn: &mut Turn<'_, I>,
        conn: u32,
        chunk: Chunk,
    ) {
        let mut input = Some(chunk);
        // Bounded: each round but the last consumes an interim response.
        while let Some(chunk) = input.take() {
            let (state, index) = (self.conns[conn].state, self.conns[conn].exchange);
            match state {
                State::Active if self.exchanges[index].phase == Phase::Responding => {
                    self.response_body(turn.io, index, chunk);
                }
                State::Active if self.exchanges[index].phase == Phase::Tunnel => {
                    self.tunnel_down(turn.io, index, chunk);
                }
                State::Active => {
                    self.exchanges[index].is_answered = true;
                    input = self.response_head(turn, index, chunk);
                }
                State::Pooled => {
                    // Nobody asked: what it would mean for the next request, nobody knows.
                    turn.io.put(chunk.buf);
                    self.close(turn.io, conn, Close::Now);
                }
                _ => turn.io.put(chunk.buf),
            }
        }
        self.steer_upstream(turn.io, conn);
    }

    /// Works on the bytes of a response head; what follows an interim one.
    fn response_head<I: Io>(
        &mut self,
        turn: &mut Turn<'_, I>,
        index: u32,
        mut chunk: Chunk,
    ) -> Option<Chunk> {
        match self.read_response_head(turn, index, &chunk) {
            Heading::Partial => {
                make_room(turn.io, &mut chunk);
                let conn = self.exchanges[index].upstream;
                self.conns[conn].scanned = chunk.len as u16;
                turn.io.read_more(self.conns.id(conn), chunk);
                None
            }
            Heading::Bad => {
                sometimes(Mark::AnswerBroken);
                turn.io.put(chunk.buf);
                self.fail(turn.io, index, 502);
                None
            }
            Heading::Interim { len, rendered } => {
                self.forward_interim(turn.io, index, chunk, len, rendered)
            }
            Heading::Final(head) => {
                self.forward_final(turn.io, index, chunk, &head);
                None
            }
        }
    }

    fn read_response_head<I: Io>(
        &mut self,
        turn: &Turn<'_, I>,
        index: u32,
        chunk: &Chunk,
    ) -> Heading {
        let exchange = &mut self.exchanges[index];
        let bytes = &turn.io.bytes(&chunk.buf)[chunk.range()];
        let scanned = usize::from(self.conns[exchange.upstream].scanned);
        if !is_worth_parsing(bytes, scanned) {
            return Heading::Partial;
        }
        let mut space = field_space();
        let asked = Asked { head: exchange.is_head, websocket: exchange.is_websocket };
        let head = match ResponseHead::parse(bytes, &mut space, asked) {
            Ok(Some(head)) => head,
            Ok(None) => return Heading::Partial,
            Err(_) => return Heading::Bad,
        };
        self.conns[exchange.upstream].scanned = 0;
        let len = head.len as u32;
        if head.is_interim() {
            exchange.interim += 1;
            if u32::from(exchange.interim) > MAX_INTERIM_RESPONSES {
                return Heading::Bad;
            }
            // RFC 9110 section 15.2: an HTTP/1.0 client gets none.
            let wanted = exchange.is_11;
            let rendered = if wanted {
                render::response(&head, Delivery::None(None), false, &mut self.head)
            } else {
                Some(0)
            };
            return rendered.map_or(Heading::Bad, |rendered| Heading::Interim { len, rendered });
        }
        let (delivery, coding) = delivery_of(&head, exchange.is_11);
        // A request that is not whole yet may never be: then its rest cannot be told from the next
        // request, so the connection ends with this response (CVE-2025-4366's class).
        let client = &self.conns[exchange.client];
        let close_client = !head.switches
            && (exchange.close_client
                || self.is_draining
                || client.has_ended
                || !exchange.request.is_done()
                || coding == Coding::UntilClose
                || self.binds.index(client.bind).is_none());
        let rendered = match self.exchanges.edits(index) {
            None => render::response(&head, delivery, close_client, &mut self.head),
            Some(edits) => {
                render::response_edited(&head, delivery, close_client, edits, &mut self.head)
            }
        };
        match rendered {
            None => Heading::Bad,
            Some(rendered) => Heading::Final(Final {
                status: head.status,
                len,
                rendered,
                framing: head.framing,
                coding,
                close_client,
                is_persistent: head.persistent,
                switches: head.switches,
            }),
        }
    }

    fn forward_interim<I: Io>(
        &mut self,
        io: &mut I,
        index: u32,
        chunk: Chunk,
        len: u32,
        rendered: usize,
    ) -> Option<Chunk> {
        let end = (chunk.start + len) as usize;
        let rest = end..chunk.range().end;
        if rendered == 0 {
            if rest.is_empty() {
                io.put(chunk.buf);
                return None;
            }
            return Some(chunk_of(chunk.buf, rest));
        }
        let (client, conn) = (self.exchanges[index].client, self.exchanges[index].upstream);
        let (mut out, rest) = if rest.is_empty() {
            (chunk.buf, None)
        } else if let Some(out) = io.take() {
            (out, Some(chunk_of(chunk.buf, rest)))
        } else {
            // Read it again when there is a buffer.
            self.exchanges[index].interim -= 1;
            self.conns[conn].hold(chunk);
            self.stall(conn);
            return None;
        };
        let head = &self.head[..rendered];
        let range = assemble(io.bytes_mut(&mut out), end..end, Coding::Plain, false, head, &[]);
        let range = range.expect("a head grows by less than the headroom");
        self.send(io, client, chunk_of(out, range));
        rest
    }

    fn forward_final<I: Io>(&mut self, io: &mut I, index: u32, mut chunk: Chunk, head: &Final) {
        let body = (chunk.start + head.len) as usize..chunk.range().end;
        let is_long = !has_room(body.start, head.rendered);
        let alone = match is_long.then(|| self.head_alone(io, head.rendered)).transpose() {
            Ok(alone) => alone,
            Err(Alone::NoBuffer) => {
                // Read it again when there is a buffer.
                let conn = self.exchanges[index].upstream;
                self.conns[conn].hold(chunk);
                self.stall(conn);
                return;
            }
            Err(Alone::TooLong) => {
                io.put(chunk.buf);
                self.fail(io, index, 502);
                return;
            }
        };
        let mut response = Decoder::new(head.framing);
        let piece = &mut io.bytes_mut(&mut chunk.buf)[body.clone()];
        let Ok(decoded) = response.decode(piece) else {
            io.put(chunk.buf);
            alone.into_iter().for_each(|alone| io.put(alone.buf));
            self.fail(io, index, 502);
            return;
        };
        let payload = body.start + decoded.start..body.start + decoded.start + decoded.len;
        let is_done = response.is_done();
        let exchange = &mut self.exchanges[index];
        exchange.phase = Phase::Responding;
        if head.switches {
            // The request was answered; how long what follows lasts is the peers' affair.
            (exchange.phase, exchange.deadline) = (Phase::Tunnel, None);
            self.counters.tunnels += 1;
        }
        exchange.coding = head.coding;
        exchange.response = response;
        exchange.close_client = head.close_client;
        // Bytes behind the response belong to nobody: the connection is not used again.
        exchange.is_persistent = head.is_persistent && decoded.consumed == body.len();
        let client = exchange.client;
        if head.coding == Coding::Chunked {
            let piece = &io.bytes(&chunk.buf)[body];
            self.keep_trailers(index, Way::Response, piece, &decoded);
        }
        let trailers = self.response_trailers(index, head.coding);
        let rendered = &self.head[..if is_long { 0 } else { head.rendered }];
        let (mut buf, coding) = (chunk.buf, head.coding);
        let range = assemble(io.bytes_mut(&mut buf), payload, coding, is_done, rendered, trailers);
        let range = range.expect("a head grows by less than the headroom");
        self.counters.response(head.status);
        self.conns[client].since = self.tick;
        if let Some(alone) = alone {
            self.send(io, client, alone);
        }
        if range.is_empty() {
            io.put(buf);
        } else {
            self.send(io, client, chunk_of(buf, range));
        }
        if is_done {
            self.complete(io, index);
        }
    }

    /// The trailers of a response that is whole, when it goes to the client in chunks.
    fn response_trailers(&self, index: u32, coding: Coding) -> &[u8] {
        match coding {
            Coding::Chunked => self.exchanges.trailers(index, Way::Response),
            _ => b"",
        }
    }

    /// A head that edits made longer than the headroom, in a buffer of its own.
    fn head_alone<I: Io>(&mut self, io: &mut I, len: usize) -> Result<Chunk, Alone> {
        if len > IO_BUFFER_BYTES as usize {
            return Err(Alone::TooLong);
        }
        let mut buf = io.take().ok_or(Alone::NoBuffer)?;
        io.bytes_mut(&mut buf)[..len].copy_from_slice(&self.head[..len]);
        Ok(chunk_of(buf, 0..len))
    }

    fn response_body<I: Io>(&mut self, io: &mut I, index: u32, mut chunk: Chunk) {
        let exchange = &mut self.exchanges[index];
        let range = chunk.range();
        let decoded = exchange.response.decode(&mut io.bytes_mut(&mut chunk.buf)[range.clone()]);
        let Ok(decoded) = decoded else {
            io.put(chunk.buf);
            self.truncate(io, index);
            return;
        };
        exchange.is_persistent &= decoded.consumed == range.len();
        let payload = range.start + decoded.start..range.start + decoded.start + decoded.len;
        let (client, coding) = (exchange.client, exchange.coding);
        let is_done = exchange.response.is_done();
        if coding == Coding::Chunked {
            let piece = &io.bytes(&chunk.buf)[range];
            self.keep_trailers(index, Way::Response, piece, &decoded);
        }
        let mut buf = chunk.buf;
        let trailers = self.response_trailers(index, coding);
        let out = assemble(io.bytes_mut(&mut buf), payload, coding, is_done, &[], trailers);
        let out = out.expect("room for chunk framing");
        if out.is_empty() {
            io.put(buf);
        } else {
            self.conns[client].since = self.tick;
            self.send(io, client, chunk_of(buf, out));
        }
        if is_done {
            self.complete(io, index);
        }
    }

    /// An upstream ended its direction, or its connection broke.
    pub(super) fn upstream_ended<I: Io>(&mut self, turn: &mut Turn<'_, I>, conn: u32, end: End) {
        let index = self.conns[conn].exchange;
        match self.conns[conn].state {
            State::Pooled => self.close(turn.io, conn, Close::Now),
            State::Connecting => self.connect_failed(turn, conn, 503),
            State::Active => {
                let exchange = &self.exchanges[index];
                let is_reused = self.conns[conn].is_reused;
                if exchange.phase == Phase::Tunnel {
                    self.tunnel_upstream_ended(turn.io, index, end);
                } else if exchange.phase == Phase::Responding {
                    if end == End::Eof && exchange.response.is_until_close() {
                        self.end_until_close(turn, index);
                    } else {
                        self.truncate(turn.io, index);
                    }
                } else if is_reused && exchange.may_replay() {
                    self.replay(turn, index);
                } else {
                    sometimes(Mark::BackendEndsEarly);
                    self.fail(turn.io, index, 502);
                }
            }
            _ => {}
        }
    }

    /// The one replay: the reused connection was closing as we sent. A fresh one, to the same
    /// endpoint first.
    fn replay<I: Io>(&mut self, turn: &mut Turn<'_, I>, index: u32) {
        sometimes(Mark::Replayed);
        self.counters.replays += 1;
        let conn = self.exchanges[index].upstream;
        self.detach(index);
        self.close(turn.io, conn, Close::Now);
        let exchange = &mut self.exchanges[index];
        assert!(!exchange.is_replayed && exchange.candidates.next > 0);
        exchange.is_replayed = true;
        exchange.is_upstream_deaf = false;
        exchange.phase = Phase::Connecting;
        exchange.candidates.next -= 1;
        self.assign(turn, index);
    }

    /// The end of a body that only the connection's end could tell.
    fn end_until_close<I: Io>(&mut self, turn: &mut Turn<'_, I>, index: u32) {
        let exchange = &mut self.exchanges[index];
        let (client, conn) = (exchange.client, exchange.upstream);
        if exchange.coding == Coding::Chunked {
            let Some(mut buf) = turn.io.take() else {
                sometimes(Mark::LastChunkOwed);
                exchange.owes_last_chunk = true;
                self.stall(conn);
                return;
            };
            let at = IO_BUFFER_HEADROOM_BYTES as usize;
            let bytes = turn.io.bytes_mut(&mut buf);
            let range = assemble(bytes, at..at, Coding::Chunked, true, &[], &[]);
            let range = range.expect("room for chunk framing");
            self.send(turn.io, client, chunk_of(buf, range));
        }
        self.exchanges[index].is_persistent = false;
        self.complete(turn.io, index);
    }
}
