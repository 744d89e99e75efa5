//! Exchanges: one request and its response, from the request's head to the response's last byte.
//!
//! In: the decision that routing took, by value, so that no configuration slot is held. Out: the
//! state that client and upstream side of the worker share. The rendered head is kept beside it as
//! long as it may have to be sent again.

use super::connection::NONE;
use super::edits::{EditLists, Tag};
use super::io::Chunk;
use super::timers::Tick;
use super::trailers::{TrailerBlocks, Trailers};
use crate::limits::{Capacities, MAX_CONNECTIONS, MAX_ENDPOINT_CANDIDATES};
use crate::limits::{MAX_KEPT_HEAD_BYTES, MAX_LARGE_HEADS, SMALL_HEAD_BYTES};
use crate::stdx::Table;
use crate::wire::http1::edit::Packed;
use crate::wire::http1::{Decoded, Decoder, Edit};
use core::net::{IpAddr, Ipv4Addr, SocketAddr};
use core::ops::{Index, IndexMut};

/// An exchange has a client and, but for moments, an upstream: half of the connections.
pub const MAX_EXCHANGES: u32 = MAX_CONNECTIONS / 2;

/// Which body is meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// From the client.
    Request,
    /// From the upstream.
    Response,
}

/// How far an exchange is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// The upstream connection is opening; nothing was sent.
    Connecting,
    /// The request's head is out, the response's head is not whole.
    Waiting,
    /// The response's head went to the client.
    Responding,
    /// The response was 101: both sides have left HTTP.
    Tunnel,
}

/// How the response's body goes to the client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Coding {
    /// As it is, or there is none; its length is known.
    Plain,
    /// In chunks.
    Chunked,
    /// As it is, until we close.
    UntilClose,
}

/// Endpoints to try, the best first.
#[derive(Clone, Copy, Debug)]
pub struct Candidates {
    /// The first `count` are meant.
    pub addresses: [SocketAddr; MAX_ENDPOINT_CANDIDATES as usize],
    /// How many there are.
    pub count: u8,
    /// The next one to try.
    pub next: u8,
}

impl Candidates {
    /// No endpoint.
    pub const EMPTY: Candidates = Candidates {
        addresses: [SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0);
            MAX_ENDPOINT_CANDIDATES as usize],
        count: 0,
        next: 0,
    };

    /// Adds one, unless it is there or all places are taken.
    pub fn add(&mut self, address: SocketAddr) {
        let known = &self.addresses[..usize::from(self.count)];
        if !known.contains(&address) && usize::from(self.count) < self.addresses.len() {
            self.addresses[usize::from(self.count)] = address;
            self.count += 1;
        }
    }
}

/// One request on its way.
#[derive(Debug)]
pub struct Exchange {
    /// The client's connection.
    pub client: u32,
    /// The upstream's, or [`NONE`].
    pub upstream: u32,
    /// How far it is.
    pub phase: Phase,
    /// Of the response's body to the client.
    pub coding: Coding,
    /// Finds the end of the request's body.
    pub request: Decoder,
    /// Finds the end of the response's body.
    pub response: Decoder,
    /// The request's body goes to the upstream in chunks.
    pub is_request_chunked: bool,
    /// The client's connection ends with this exchange.
    pub close_client: bool,
    /// The upstream promised to keep its connection.
    pub is_persistent: bool,
    /// The method is HEAD.
    pub is_head: bool,
    /// It asks for WebSocket.
    pub is_websocket: bool,
    /// The client speaks HTTP/1.1.
    pub is_11: bool,
    /// The method is idempotent.
    pub is_idempotent: bool,
    /// Some byte of the request's body was sent: no replay.
    pub is_body_sent: bool,
    /// Some byte of a response has come: no replay.
    pub is_answered: bool,
    /// The one replay has been used.
    pub is_replayed: bool,
    /// Writing to the upstream failed; its response may still come.
    pub is_upstream_deaf: bool,
    /// The response is whole, but there was no buffer for the last chunk.
    pub owes_last_chunk: bool,
    /// Interim responses so far.
    pub interim: u8,
    /// Bytes of the rendered head.
    pub head_len: u32,
    /// Bytes of it in [`Exchanges::kept`]; 0 when it was not kept.
    pub kept: u16,
    /// Its place when it is a large one; [`Exchanges`] alone takes and gives it back.
    large_head: Option<u16>,
    /// Its response edits in [`EditLists`]; [`Exchanges`] alone takes and gives them back.
    edits: Option<u16>,
    /// Of the request's body, when it goes on in chunks; [`Exchanges`] alone takes and gives back.
    request_trailers: Trailers,
    /// Of the response's body, likewise.
    response_trailers: Trailers,
    /// Filters changed the request: the rule that they are of, so that it can be routed again in a
    /// configuration that routes alike, though its head is not what came.
    pub filtered: Filtered,
    /// What to send when the upstream is open: the head, and what came of the body.
    pub first: Option<Chunk>,
    /// Payload of the request's body so far.
    pub body_bytes: u64,
    /// The route's own request timeout, from head to end.
    pub deadline: Option<Tick>,
    /// From the request's last byte to the response's head; `u32::MAX`: for ever.
    pub backend_ms: u32,
    /// The configuration that decided.
    pub generation: u64,
    /// Where it may go.
    pub candidates: Candidates,
    /// Next free place.
    next_free: u32,
}

impl Exchange {
    /// A fresh exchange of a client.
    pub fn new(client: u32, request: Decoder, candidates: &Candidates) -> Exchange {
        Exchange {
            client,
            upstream: NONE,
            phase: Phase::Connecting,
            coding: Coding::Plain,
            request,
            response: Decoder::default(),
            is_request_chunked: false,
            close_client: false,
            is_persistent: false,
            is_head: false,
            is_websocket: false,
            is_11: true,
            is_idempotent: false,
            is_body_sent: false,
            is_answered: false,
            is_replayed: false,
            is_upstream_deaf: false,
            owes_last_chunk: false,
            interim: 0,
            head_len: 0,
            kept: 0,
            large_head: None,
            edits: None,
            request_trailers: Trailers::default(),
            response_trailers: Trailers::default(),
            filtered: Filtered::No,
            first: None,
            body_bytes: 0,
            deadline: None,
            backend_ms: 0,
            generation: 0,
            candidates: *candidates,
            next_free: NONE,
        }
    }

    /// Whether a reused connection that closes unanswered may be replaced by a fresh one.
    pub fn may_replay(&self) -> bool {
        self.is_idempotent
            && self.kept > 0
            && !self.is_replayed
            && !self.is_body_sent
            && !self.is_answered
    }
}

/// What filters did to a request before it was sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Filtered {
    /// Nothing.
    #[default]
    No,
    /// Those of a rule changed it.
    ByRule {
        /// Index of the rule in each configuration that routes alike.
        rule: u32,
        /// [`RouteTable::routing`](super::route_table::RouteTable::routing) of the configuration.
        routing: u64,
    },
    /// Those of a backend did: no other backend can have it.
    ByBackend,
}

type SmallHead = [u8; SMALL_HEAD_BYTES as usize];
type LargeHead = [u8; MAX_KEPT_HEAD_BYTES as usize];

/// All exchanges of a worker, with the heads they keep: a small one in the exchange's own place, a
/// large one in a place of a pool.
#[derive(Debug)]
pub struct Exchanges {
    slots: Table<Exchange, { MAX_EXCHANGES as usize }>,
    small: Table<SmallHead, { MAX_EXCHANGES as usize }>,
    large: Table<LargeHead, { MAX_LARGE_HEADS as usize }>,
    /// Places of `large` that nobody has.
    free_large: Table<u16, { MAX_LARGE_HEADS as usize }>,
    edits: EditLists,
    trailers: TrailerBlocks,
    /// First free place plus one; 0: none.
    free: u32,
    in_use: u32,
}

crate::zeroed_struct!(Exchanges {
    slots: Table<Exchange, { MAX_EXCHANGES as usize }>,
    small: Table<SmallHead, { MAX_EXCHANGES as usize }>,
    large: Table<LargeHead, { MAX_LARGE_HEADS as usize }>,
    free_large: Table<u16, { MAX_LARGE_HEADS as usize }>,
    edits: EditLists,
    trailers: TrailerBlocks,
    free: u32,
    in_use: u32,
});

impl Exchanges {
    /// How many there may be: see [`MAX_EXCHANGES`].
    fn cap(capacities: &Capacities) -> u32 {
        capacities.max_connections / 2
    }

    /// Bytes at these capacities, for the memory plan.
    pub fn bytes(capacities: &Capacities) -> u64 {
        let each = size_of::<Exchange>() + size_of::<SmallHead>();
        let large = size_of::<LargeHead>() + size_of::<u16>();
        u64::from(Exchanges::cap(capacities)) * each as u64
            + u64::from(capacities.max_large_heads) * large as u64
            + EditLists::bytes(capacities)
            + TrailerBlocks::bytes(capacities)
    }

    /// Makes room; must be empty.
    pub fn init(&mut self, capacities: &Capacities) {
        assert!(self.slots.is_empty());
        self.edits.init(capacities);
        self.trailers.init(capacities);
        let (cap, large) = (Exchanges::cap(capacities), capacities.max_large_heads);
        self.slots.set_cap(cap);
        self.small.set_cap(cap);
        self.small.resize(cap, [0; SMALL_HEAD_BYTES as usize]).expect("within the cap");
        self.large.set_cap(large);
        self.large.resize(large, [0; MAX_KEPT_HEAD_BYTES as usize]).expect("within the cap");
        self.free_large.set_cap(large);
        for place in (0..large as u16).rev() {
            self.free_large.push(place).expect("within the cap");
        }
    }

    /// Exchanges in use.
    pub fn in_use(&self) -> u32 {
        self.in_use
    }

    /// Takes a place; None when all are taken.
    pub fn insert(&mut self, exchange: Exchange) -> Option<u32> {
        let index = match self.free.checked_sub(1) {
            Some(index) => {
                self.free = self.slots[index].next_free.wrapping_add(1);
                self.slots[index] = exchange;
                index
            }
            None => self.slots.push(exchange).ok()?,
        };
        self.in_use += 1;
        Some(index)
    }

    /// Gives a place back; it must hold no buffer.
    pub fn remove(&mut self, index: u32) {
        let exchange = &mut self.slots[index];
        assert!(exchange.first.is_none() && exchange.client != NONE);
        if let Some(place) = exchange.large_head.take() {
            self.free_large.push(place).expect("as many as there are");
        }
        self.drop_edits(index);
        let exchange = &mut self.slots[index];
        self.trailers.release(&mut exchange.request_trailers);
        self.trailers.release(&mut exchange.response_trailers);
        (exchange.client, exchange.upstream) = (NONE, NONE);
        exchange.next_free = self.free.wrapping_sub(1);
        self.free = index + 1;
        self.in_use -= 1;
    }

    /// Keeps a rendered head, if it fits; once per exchange.
    pub fn keep(&mut self, index: u32, head: &[u8]) {
        let exchange = &mut self.slots[index];
        assert!(exchange.kept == 0 && exchange.large_head.is_none());
        let place = if head.len() <= SMALL_HEAD_BYTES as usize {
            &mut self.small[index][..]
        } else if head.len() <= MAX_KEPT_HEAD_BYTES as usize {
            exchange.large_head = self.free_large.pop();
            let Some(place) = exchange.large_head else { return };
            &mut self.large[place.into()][..]
        } else {
            return;
        };
        place[..head.len()].copy_from_slice(head);
        exchange.kept = head.len() as u16;
    }

    /// The head that was kept.
    pub fn kept(&self, index: u32) -> &[u8] {
        let exchange = &self.slots[index];
        let place = match exchange.large_head {
            None => &self.small[index][..],
            Some(place) => &self.large[place.into()][..],
        };
        &place[..usize::from(exchange.kept)]
    }

    /// Keeps the edits of a response, once per exchange; false when the pool is full.
    pub fn keep_edits<'e>(
        &mut self,
        index: u32,
        tag: Tag,
        edits: impl Iterator<Item = Edit<'e>>,
    ) -> bool {
        let exchange = &mut self.slots[index];
        assert!(exchange.edits.is_none());
        exchange.edits = self.edits.take(tag, edits);
        exchange.edits.is_some()
    }

    /// Gives the edits of a response back, if there are some.
    pub fn drop_edits(&mut self, index: u32) {
        if let Some(place) = self.slots[index].edits.take() {
            self.edits.release(place);
        }
    }

    /// The edits of a response, when there are some.
    pub fn edits(&self, index: u32) -> Option<Packed<'_>> {
        self.slots[index].edits.map(|place| self.edits.get(place))
    }

    /// Keeps what of a body's trailers is in a piece that was decoded; false when they are lost for
    /// want of a block.
    pub fn collect_trailers(
        &mut self,
        index: u32,
        way: Way,
        piece: &[u8],
        decoded: &Decoded,
    ) -> bool {
        let exchange = &mut self.slots[index];
        let (trailers, is_done) = match way {
            Way::Request => (&mut exchange.request_trailers, exchange.request.is_done()),
            Way::Response => (&mut exchange.response_trailers, exchange.response.is_done()),
        };
        if decoded.trailer_len == 0 && *trailers == Trailers::default() {
            return true;
        }
        let part = &piece[decoded.trailer_start..decoded.trailer_start + decoded.trailer_len];
        let kept = self.trailers.collect(trailers, part, decoded.trailer_begins);
        // The section's last LF may come alone.
        if is_done {
            self.trailers.finish(trailers);
        }
        kept
    }

    /// The trailers that follow a body; empty until it is whole.
    pub fn trailers(&self, index: u32, way: Way) -> &[u8] {
        let exchange = &self.slots[index];
        match way {
            Way::Request if exchange.request.is_done() => {
                self.trailers.get(exchange.request_trailers)
            }
            Way::Response if exchange.response.is_done() => {
                self.trailers.get(exchange.response_trailers)
            }
            _ => b"",
        }
    }

    /// Blocks of trailers in use, for tests.
    pub fn trailers_in_use(&self) -> u32 {
        self.trailers.in_use()
    }

    /// Lists of edits in use, for tests.
    pub fn edits_in_use(&self) -> u32 {
        self.edits.in_use()
    }

    /// Those in use.
    pub fn iter(&self) -> impl Iterator<Item = (u32, &Exchange)> {
        (0..).zip(self.slots.as_slice()).filter(|(_, e)| e.client != NONE)
    }
}

impl Index<u32> for Exchanges {
    type Output = Exchange;
    #[inline]
    fn index(&self, index: u32) -> &Exchange {
        &self.slots[index]
    }
}

impl IndexMut<u32> for Exchanges {
    #[inline]
    fn index_mut(&mut self, index: u32) -> &mut Exchange {
        &mut self.slots[index]
    }
}
