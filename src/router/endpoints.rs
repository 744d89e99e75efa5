//! Endpoints that this worker knows: how busy each is, whether it rests, its idle connections.
//!
//! In: addresses that exchanges go to. Out: loads for balancing, idle connections last in first
//! out. Keyed by address and outside the configuration slots: a swap changes nothing here, except
//! that idle connections of endpoints that no Snapshot names any more are closed.
//!
//! An endpoint is here as long as it has a connection or rests after a failed connect.

use super::connection::{Connections, NONE, State};
use super::timers::Tick;
use crate::limits::{ENDPOINT_REST_MS, MAX_CONNECTIONS};
use crate::stdx::Table;
use crate::stdx::fnv::Fnv;
use crate::stdx::hash_index::{HashIndex, slots_for};
use core::net::{IpAddr, SocketAddr};

/// One endpoint.
#[derive(Debug)]
pub struct Endpoint {
    /// Where it is.
    pub address: SocketAddr,
    /// Connections of it: opening, active, idle.
    connections: u32,
    /// Exchanges it is serving.
    active: u32,
    /// The idle connection used last; they are linked through `Conn::next` and `Conn::prev`.
    idle: u32,
    /// Passed over until then.
    rests_until: Option<Tick>,
    /// In use, else in the list of free places.
    is_used: bool,
    next_free: u32,
}

/// All endpoints of a worker.
#[derive(Debug)]
pub struct Endpoints {
    slots: Table<Endpoint, { MAX_CONNECTIONS as usize }>,
    index: HashIndex<{ slots_for(MAX_CONNECTIONS) }>,
    /// First free place plus one; 0: none.
    free: u32,
    /// Of all endpoints.
    connections: u32,
}

crate::zeroed_struct!(Endpoints {
    slots: Table<Endpoint, { MAX_CONNECTIONS as usize }>,
    index: HashIndex<{ slots_for(MAX_CONNECTIONS) }>,
    free: u32,
    connections: u32,
});

fn hash(address: &SocketAddr) -> u64 {
    let mut hash = Fnv::new();
    match address.ip() {
        IpAddr::V4(ip) => hash.write(&ip.octets()),
        IpAddr::V6(ip) => hash.write(&ip.octets()),
    }
    hash.write(&address.port().to_le_bytes());
    hash.finish()
}

impl Endpoints {
    /// Bytes at this many, for the memory plan.
    pub fn bytes(cap: u32) -> u64 {
        u64::from(cap) * size_of::<Endpoint>() as u64 + slots_for(cap) as u64 * 8
    }

    /// Makes room for `cap`; must be empty.
    pub fn init(&mut self, cap: u32) {
        assert!(self.slots.is_empty());
        self.slots.set_cap(cap);
        self.index.reset(cap);
    }

    /// Endpoints known.
    pub fn len(&self) -> u32 {
        self.index.len()
    }

    /// Whether none is known.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Connections of all endpoints.
    pub fn connections(&self) -> u32 {
        self.connections
    }

    fn find(&self, address: &SocketAddr) -> Option<u32> {
        self.index.find(hash(address), |i| self.slots[i].address == *address)
    }

    /// How undesirable an endpoint is: one that rests comes after all that do not.
    pub fn load(&self, address: &SocketAddr, now: Tick) -> u32 {
        let Some(index) = self.find(address) else { return 0 };
        let endpoint = &self.slots[index];
        let rests = endpoint.rests_until.is_some_and(|until| !until.is_due(now));
        endpoint.active + if rests { 1 << 30 } else { 0 }
    }

    /// The place of an address, made if need be; None when all are taken.
    pub fn get(&mut self, address: &SocketAddr, now: Tick) -> Option<u32> {
        if let Some(index) = self.find(address) {
            return Some(index);
        }
        if self.len() == self.slots.cap() {
            self.forget_rested(now);
        }
        let endpoint = Endpoint {
            address: *address,
            connections: 0,
            active: 0,
            idle: NONE,
            rests_until: None,
            is_used: true,
            next_free: NONE,
        };
        let index = match self.free.checked_sub(1) {
            Some(index) => {
                self.free = self.slots[index].next_free.wrapping_add(1);
                self.slots[index] = endpoint;
                index
            }
            None => self.slots.push(endpoint).ok()?,
        };
        self.index.insert(hash(address), index).expect("as many places as slots");
        Some(index)
    }

    /// The address of a place.
    pub fn address(&self, index: u32) -> SocketAddr {
        self.slots[index].address
    }

    /// A connection of it is opening.
    pub fn opened(&mut self, index: u32) {
        self.slots[index].connections += 1;
        self.connections += 1;
    }

    /// A connection of it is gone, and is in no list.
    pub fn closed(&mut self, index: u32, now: Tick) {
        self.slots[index].connections -= 1;
        self.connections -= 1;
        self.forget_if_unused(index, now);
    }

    /// An exchange begins on it.
    pub fn began(&mut self, index: u32) {
        self.slots[index].active += 1;
    }

    /// An exchange ended on it.
    pub fn ended(&mut self, index: u32) {
        self.slots[index].active -= 1;
    }

    /// A connect failed: others go first for a while.
    pub fn failed(&mut self, index: u32, now: Tick) {
        self.slots[index].rests_until = Some(now.plus_ms(ENDPOINT_REST_MS));
    }

    /// A connect succeeded.
    pub fn succeeded(&mut self, index: u32) {
        self.slots[index].rests_until = None;
    }

    /// Forgets an endpoint that has no connection and does not rest.
    pub fn forget_if_unused(&mut self, index: u32, now: Tick) {
        let endpoint = &mut self.slots[index];
        let rests = endpoint.rests_until.is_some_and(|until| !until.is_due(now));
        if endpoint.connections > 0 || rests || !endpoint.is_used {
            return;
        }
        assert!(endpoint.idle == NONE && endpoint.active == 0, "no connection, nothing on it");
        endpoint.is_used = false;
        endpoint.next_free = self.free.wrapping_sub(1);
        let hash = hash(&endpoint.address);
        self.free = index + 1;
        self.index.remove(hash, index);
    }

    /// Forgets those that only rested. Each takes a failed connect, so this is rare.
    fn forget_rested(&mut self, now: Tick) {
        for index in 0..self.slots.len() {
            self.forget_if_unused(index, now);
        }
    }

    /// Puts an idle connection on top.
    pub fn push_idle(&mut self, conns: &mut Connections, conn: u32) {
        let endpoint = &mut self.slots[conns[conn].endpoint];
        assert!(conns[conn].state == State::Pooled);
        let below = endpoint.idle;
        (conns[conn].next, conns[conn].prev) = (below, NONE);
        if below != NONE {
            conns[below].prev = conn;
        }
        endpoint.idle = conn;
    }

    /// The idle connection used last, still in its list.
    pub fn top_idle(&self, index: u32) -> Option<u32> {
        let top = self.slots[index].idle;
        if top == NONE { None } else { Some(top) }
    }

    /// Takes an idle connection out of its list.
    pub fn remove_idle(&mut self, conns: &mut Connections, conn: u32) {
        let (endpoint, next, prev) = (conns[conn].endpoint, conns[conn].next, conns[conn].prev);
        if next != NONE {
            conns[next].prev = prev;
        }
        if prev != NONE {
            conns[prev].next = next;
        } else {
            assert!(self.slots[endpoint].idle == conn, "the top of its list");
            self.slots[endpoint].idle = next;
        }
        (conns[conn].next, conns[conn].prev) = (NONE, NONE);
    }

    /// Checks counts and lists against the connections.
    pub fn check_invariants(&self, conns: &Connections) {
        for (index, endpoint) in (0..).zip(self.slots.as_slice()).filter(|(_, e)| e.is_used) {
            let of = |state| {
                let mine = |c: &super::connection::Conn| c.endpoint == index && c.state == state;
                conns.iter().filter(|(_, c)| mine(c)).count() as u32
            };
            let (idle, active) = (of(State::Pooled), of(State::Active));
            let opening = of(State::Connecting);
            assert_eq!(endpoint.connections, idle + active + opening);
            assert_eq!(endpoint.active, active + opening);
            let mut listed = 0;
            let (mut at, mut above) = (endpoint.idle, NONE);
            while at != NONE {
                assert!(conns[at].state == State::Pooled && conns[at].prev == above);
                (listed, above, at) = (listed + 1, at, conns[at].next);
            }
            assert_eq!(listed, idle);
        }
    }
}
