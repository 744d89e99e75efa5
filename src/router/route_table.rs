//! The lookup index of one Snapshot: from (bind, host, path, request) to a route.
//!
//! In: a Snapshot that passed `validate`. Out: [`RouteTable::find`], whose cost does not grow with
//! the number of routes. Built in place; holds indexes and hashes only, the strings stay in the
//! Snapshot, so a table is only meaningful together with the Snapshot it was built from.
//!
//! The order of precedence (Gateway API, HTTPRouteRule.matches and Listener.hostname):
//!
//! 1. the most specific listener of the bind that allows the host: exact, the longest wildcard,
//!    any; a host that none allows is a miss, and so is a miss inside: never another listener;
//! 2. the route's hostname: exact, wildcards from the longest to the shortest, any; a less specific
//!    one is tried when no rule under the more specific one matches;
//! 3. an Exact path, then prefixes by whole elements, the longest first;
//! 4. a match with a method, then the number of header conditions, of query conditions;
//! 5. the order of the Snapshot (creationTimestamp, name, rule), then of the rule's matches.
//!
//! `*.` stands for one or more labels. Only hostnames and prefixes of a depth (in labels, in
//! elements) that the configuration has are looked up, so hostile hosts and paths cost little.

use super::host_index::wildcard_suffixes;
use super::host_index::{HostScope, hash_host, name_hash, scoped, scoped_wildcard};
use super::routing;
use crate::config::snapshot::{Condition, Match, Method, PathKind, Snapshot};
use crate::limits::*;
use crate::stdx::fnv::Fnv;
use crate::stdx::hash_index::{HashIndex, slots_for};
use crate::stdx::{Full, Table, Text, touch};
use crate::wire::http1::RequestHead;
use crate::wire::url;
use core::cmp::Ordering;
use core::net::{IpAddr, SocketAddr};

/// Where a request goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Found {
    /// Index into `Snapshot::listeners`.
    pub listener: u32,
    /// Index into `Snapshot::routes`.
    pub route: u32,
}

/// Why a request goes nowhere. Both are answered 404.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Miss {
    /// No listener of the bind allows the host.
    Listener,
    /// No rule of the listener matches.
    Route,
}

/// One (listener, route hostname).
#[derive(Clone, Copy, Debug)]
struct Host {
    listener: u32,
    hostname: Text,
    /// Bit d: some prefix of d elements; bit 63: of 63 or more.
    prefix_depths: u64,
    /// Bytes of the longest prefix.
    prefix_longest: u32,
    /// Some path is Exact.
    has_exact: bool,
}

/// One match under one host.
#[derive(Clone, Copy, Debug)]
struct Entry {
    /// Of (host, kind of path, path): entries with the same three form a bucket.
    hash: u64,
    host: u32,
    route: u32,
    /// Index into `Snapshot::matches`.
    position: u32,
    /// Not the last of its bucket.
    more: bool,
}

const LISTENER_SLOTS: usize = slots_for(MAX_CONFIG_ATTACHMENTS);
const HOST_SLOTS: usize = slots_for(MAX_CONFIG_HOSTS);
const BUCKET_SLOTS: usize = slots_for(MAX_CONFIG_ENTRIES);
const ENDPOINT_SLOTS: usize = slots_for(MAX_CONFIG_UPSTREAMS);

/// The index. Megabytes: only ever built in place ([`crate::stdx::Zeroed`]).
#[derive(Debug)]
pub struct RouteTable {
    /// [`routing::digest`] of the Snapshot.
    routing: u64,
    /// Keeps the buckets of one table from colliding in all: hashes begin with it.
    seed: u64,
    bind_scopes: [HostScope; MAX_CONFIG_BINDS as usize],
    /// (bind, Listener.hostname) -> listener.
    listeners: HashIndex<LISTENER_SLOTS>,
    listener_scopes: [HostScope; MAX_CONFIG_LISTENERS as usize],
    hosts: Table<Host, { MAX_CONFIG_HOSTS as usize }>,
    /// (listener, route hostname) -> host.
    host_index: HashIndex<HOST_SLOTS>,
    entries: Table<Entry, { MAX_CONFIG_ENTRIES as usize }>,
    /// (host, kind, path) -> first entry of its bucket.
    buckets: HashIndex<BUCKET_SLOTS>,
    /// Address -> upstream.
    endpoints: HashIndex<ENDPOINT_SLOTS>,
}

crate::zeroed_struct!(RouteTable {
    routing: u64,
    seed: u64,
    bind_scopes: [HostScope; MAX_CONFIG_BINDS as usize],
    listeners: HashIndex<LISTENER_SLOTS>,
    listener_scopes: [HostScope; MAX_CONFIG_LISTENERS as usize],
    hosts: Table<Host, { MAX_CONFIG_HOSTS as usize }>,
    host_index: HashIndex<HOST_SLOTS>,
    entries: Table<Entry, { MAX_CONFIG_ENTRIES as usize }>,
    buckets: HashIndex<BUCKET_SLOTS>,
    endpoints: HashIndex<ENDPOINT_SLOTS>,
});

impl RouteTable {
    /// Sets the soft caps; the table must be empty.
    pub fn set_caps(&mut self, capacities: &Capacities) {
        touch(&mut self.bind_scopes);
        touch(&mut self.listener_scopes);
        self.listeners.set_cap(capacities.max_config_attachments);
        self.hosts.set_cap(capacities.max_config_hosts);
        self.host_index.set_cap(capacities.max_config_hosts);
        self.entries.set_cap(capacities.max_config_entries);
        self.buckets.set_cap(capacities.max_config_entries);
        self.endpoints.set_cap(capacities.max_config_upstreams);
    }

    /// Bytes at these capacities: the line of the memory plan for one table.
    pub fn bytes(capacities: &Capacities) -> u64 {
        let scopes = size_of::<[HostScope; (MAX_CONFIG_BINDS + MAX_CONFIG_LISTENERS) as usize]>();
        scopes as u64
            + u64::from(capacities.max_config_hosts) * size_of::<Host>() as u64
            + u64::from(capacities.max_config_entries) * size_of::<Entry>() as u64
            + HashIndex::<LISTENER_SLOTS>::bytes(capacities.max_config_attachments)
            + HashIndex::<HOST_SLOTS>::bytes(capacities.max_config_hosts)
            + HashIndex::<BUCKET_SLOTS>::bytes(capacities.max_config_entries)
            + HashIndex::<ENDPOINT_SLOTS>::bytes(capacities.max_config_upstreams)
    }

    /// Equal in two configurations that route each request to the rule of the same number.
    pub fn routing(&self) -> u64 {
        self.routing
    }

    /// Builds the index of a validated Snapshot. Full: it needs more hosts or entries than the
    /// capacities allow, and this table may not be used.
    pub fn build(&mut self, snapshot: &Snapshot) -> Result<(), Full> {
        let sum = snapshot.identity.checksum.0;
        // Not predictable by one who writes a single route of many, and the same on every router.
        self.seed =
            u64::from_le_bytes([sum[0], sum[1], sum[2], sum[3], sum[4], sum[5], sum[6], sum[7]]);
        self.routing = routing::digest(snapshot);
        self.index_listeners(snapshot)?;
        self.index_hosts(snapshot)?;
        self.index_entries(snapshot)?;
        self.index_endpoints(snapshot)
    }

    fn index_listeners(&mut self, snapshot: &Snapshot) -> Result<(), Full> {
        self.bind_scopes[..snapshot.binds.len() as usize].fill(HostScope::default());
        self.listeners.reset(snapshot.attachments.len());
        for (index, listener) in (0u32..).zip(snapshot.listeners.as_slice()) {
            for &bind in snapshot.attachments.span(listener.binds) {
                let name = snapshot.text.bytes(listener.hostname);
                // The first of two equal ones wins; reconcile has told the other.
                let hash = hash_host(self.seed, bind, name);
                if self.listener_with(snapshot, bind, name, hash).is_none() {
                    self.bind_scopes[bind as usize].add(name);
                    self.listeners.insert(hash, index)?;
                }
            }
        }
        Ok(())
    }

    fn index_hosts(&mut self, snapshot: &Snapshot) -> Result<(), Full> {
        self.listener_scopes[..snapshot.listeners.len() as usize].fill(HostScope::default());
        self.hosts.clear();
        self.entries.clear();
        self.host_index.reset(snapshot.hosts.len());
        for (number, route) in (0u32..).zip(snapshot.routes.as_slice()) {
            for place in snapshot.hosts.span(route.hosts) {
                let name = snapshot.text.bytes(place.hostname);
                let hash = hash_host(self.seed, place.listener, name);
                let host = match self.host_with(snapshot, place.listener, name, hash) {
                    Some(host) => host,
                    None => self.add_host(place.listener, place.hostname, name, hash)?,
                };
                for position in route.matches.range() {
                    self.add_entry(snapshot, host, number, position as u32)?;
                }
            }
        }
        Ok(())
    }

    fn add_host(
        &mut self,
        listener: u32,
        hostname: Text,
        name: &[u8],
        hash: u64,
    ) -> Result<u32, Full> {
        let host =
            Host { listener, hostname, prefix_depths: 0, prefix_longest: 0, has_exact: false };
        let index = self.hosts.push(host)?;
        self.listener_scopes[listener as usize].add(name);
        self.host_index.insert(hash, index)?;
        Ok(index)
    }

    fn add_entry(
        &mut self,
        snapshot: &Snapshot,
        host: u32,
        route: u32,
        position: u32,
    ) -> Result<(), Full> {
        let m = &snapshot.matches[position];
        let path = snapshot.text.bytes(m.path);
        if m.path_kind == PathKind::Prefix {
            let depth = path.iter().filter(|&&b| b == b'/').count().min(63);
            let host = &mut self.hosts[host];
            host.prefix_depths |= 1 << depth;
            host.prefix_longest = host.prefix_longest.max(path.len() as u32);
        } else {
            self.hosts[host].has_exact = true;
        }
        let mut hash = self.path_hash(host, m.path_kind);
        hash.write(path);
        let entry = Entry { hash: hash.finish(), host, route, position, more: false };
        self.entries.push(entry).map(|_| ())
    }

    /// Sorts the entries into buckets, each in the order of precedence, and indexes the buckets.
    fn index_entries(&mut self, snapshot: &Snapshot) -> Result<(), Full> {
        self.entries.as_mut_slice().sort_unstable_by(|a, b| order(snapshot, a, b));
        self.buckets.reset(self.entries.len());
        let mut first = 0;
        for index in 0..self.entries.len() {
            let more = index + 1 < self.entries.len()
                && same_bucket(snapshot, &self.entries[index], &self.entries[index + 1]);
            self.entries[index].more = more;
            if !more {
                self.buckets.insert(self.entries[first].hash, first)?;
                first = index + 1;
            }
        }
        Ok(())
    }

    fn index_endpoints(&mut self, snapshot: &Snapshot) -> Result<(), Full> {
        self.endpoints.reset(snapshot.upstreams.len());
        for (index, upstream) in (0u32..).zip(snapshot.upstreams.as_slice()) {
            if !self.has_endpoint(snapshot, &upstream.address) {
                self.endpoints.insert(hash_address(self.seed, &upstream.address), index)?;
            }
        }
        Ok(())
    }

    /// Whether some pool of the Snapshot has this endpoint: a removed one gets no new connections.
    pub fn has_endpoint(&self, snapshot: &Snapshot, address: &SocketAddr) -> bool {
        let equal = |index: u32| snapshot.upstreams[index].address == *address;
        self.endpoints.find(hash_address(self.seed, address), equal).is_some()
    }

    /// The route of a request that came in on a bind (an index into `Snapshot::binds`).
    pub fn find(
        &self,
        snapshot: &Snapshot,
        bind: u32,
        head: &RequestHead<'_, '_>,
    ) -> Result<Found, Miss> {
        let name = Name { name: head.host, hash: name_hash(self.seed, head.host) };
        let listener = self.find_listener(snapshot, bind, &name).ok_or(Miss::Listener)?;
        self.find_on(snapshot, listener, &name, head)
    }

    /// The most specific listener of a bind that allows a host (a server name, in TLS).
    pub fn listener(&self, snapshot: &Snapshot, bind: u32, host: &[u8]) -> Option<u32> {
        let name = Name { name: host, hash: name_hash(self.seed, host) };
        self.find_listener(snapshot, bind, &name)
    }

    /// The route of a request on a listener.
    fn find_on(
        &self,
        snapshot: &Snapshot,
        listener: u32,
        name: &Name<'_>,
        head: &RequestHead<'_, '_>,
    ) -> Result<Found, Miss> {
        let scope = &self.listener_scopes[listener as usize];
        let found = |route| Ok(Found { listener, route });
        let key = scoped(name.hash, listener);
        if scope.exact
            && let Some(host) = self.host_with(snapshot, listener, name.name, key)
            && let Some(route) = self.find_under(snapshot, host, head)
        {
            return found(route);
        }
        for suffix in wildcard_suffixes(scope, head.host) {
            if let Some(host) = self.host_with_wildcard(snapshot, listener, suffix)
                && let Some(route) = self.find_under(snapshot, host, head)
            {
                return found(route);
            }
        }
        let key = hash_host(self.seed, listener, b"");
        if scope.any
            && let Some(host) = self.host_with(snapshot, listener, b"", key)
            && let Some(route) = self.find_under(snapshot, host, head)
        {
            return found(route);
        }
        Err(Miss::Route)
    }

    /// The most specific listener of a bind that allows the host.
    fn find_listener(&self, snapshot: &Snapshot, bind: u32, host: &Name<'_>) -> Option<u32> {
        let scope = &self.bind_scopes[bind as usize];
        let key = scoped(host.hash, bind);
        if scope.exact
            && let Some(listener) = self.listener_with(snapshot, bind, host.name, key)
        {
            return Some(listener);
        }
        for suffix in wildcard_suffixes(scope, host.name) {
            let key = scoped_wildcard(name_hash(self.seed, suffix), bind);
            let found = self.listeners.find(key, |index| {
                let name = snapshot.text.bytes(snapshot.listeners[index].hostname);
                is_wildcard_of(name, suffix) && self.is_on(snapshot, index, bind)
            });
            if found.is_some() {
                return found;
            }
        }
        let key = hash_host(self.seed, bind, b"");
        if scope.any { self.listener_with(snapshot, bind, b"", key) } else { None }
    }

    fn is_on(&self, snapshot: &Snapshot, listener: u32, bind: u32) -> bool {
        snapshot.attachments.span(snapshot.listeners[listener].binds).contains(&bind)
    }

    fn listener_with(&self, snapshot: &Snapshot, bind: u32, name: &[u8], hash: u64) -> Option<u32> {
        self.listeners.find(hash, |index| {
            let hostname = snapshot.text.bytes(snapshot.listeners[index].hostname);
            hostname.eq_ignore_ascii_case(name) && self.is_on(snapshot, index, bind)
        })
    }

    fn host_with(&self, snapshot: &Snapshot, listener: u32, name: &[u8], hash: u64) -> Option<u32> {
        self.host_index.find(hash, |index| {
            let host = &self.hosts[index];
            host.listener == listener
                && snapshot.text.bytes(host.hostname).eq_ignore_ascii_case(name)
        })
    }

    fn host_with_wildcard(&self, snapshot: &Snapshot, listener: u32, suffix: &[u8]) -> Option<u32> {
        let hash = scoped_wildcard(name_hash(self.seed, suffix), listener);
        self.host_index.find(hash, |index| {
            let host = &self.hosts[index];
            host.listener == listener && is_wildcard_of(snapshot.text.bytes(host.hostname), suffix)
        })
    }

    /// The route under one host: Exact, then the longest prefix whose conditions hold.
    fn find_under(
        &self,
        snapshot: &Snapshot,
        host: u32,
        head: &RequestHead<'_, '_>,
    ) -> Option<u32> {
        let mut found = None;
        if self.hosts[host].has_exact {
            let mut hash = self.path_hash(host, PathKind::Exact);
            hash.write(head.path);
            let at = BucketKey { host, kind: PathKind::Exact, path: head.path };
            found = self.find_in_bucket(snapshot, hash.finish(), &at, head);
        }
        found.or_else(|| self.find_by_prefix(snapshot, host, head))
    }

    /// Goes through the path once, from its start; the last prefix that matches is the longest.
    fn find_by_prefix(
        &self,
        snapshot: &Snapshot,
        host: u32,
        head: &RequestHead<'_, '_>,
    ) -> Option<u32> {
        let (path, bounds) = (head.path, &self.hosts[host]);
        if path.first() != Some(&b'/') {
            return None;
        }
        let mut hash = self.path_hash(host, PathKind::Prefix);
        let (mut found, mut depth) = (None, 0u32);
        for end in 0..=path.len().min(bounds.prefix_longest as usize) {
            let boundary = end == path.len() || path[end] == b'/';
            if boundary && bounds.prefix_depths >> depth.min(63) & 1 == 1 {
                let key = BucketKey { host, kind: PathKind::Prefix, path: &path[..end] };
                found = self.find_in_bucket(snapshot, hash.finish(), &key, head).or(found);
            }
            if let Some(byte) = path.get(end) {
                hash.write_byte(*byte);
                depth += u32::from(*byte == b'/');
            }
        }
        found
    }

    fn find_in_bucket(
        &self,
        snapshot: &Snapshot,
        hash: u64,
        key: &BucketKey<'_>,
        head: &RequestHead<'_, '_>,
    ) -> Option<u32> {
        let first = self.buckets.find(hash, |index| {
            let entry = &self.entries[index];
            let m = &snapshot.matches[entry.position];
            entry.host == key.host
                && m.path_kind == key.kind
                && snapshot.text.bytes(m.path) == key.path
        })?;
        for entry in &self.entries.as_slice()[first as usize..] {
            if conditions_hold(snapshot, &snapshot.matches[entry.position], head) {
                return Some(entry.route);
            }
            if !entry.more {
                return None;
            }
        }
        unreachable!("the last entry of a bucket says so")
    }

    fn path_hash(&self, host: u32, kind: PathKind) -> Fnv {
        Fnv::of_family(self.seed ^ u64::from(host << 1 | u32::from(kind == PathKind::Exact)))
    }
}

/// A request's host and its hash, made once.
struct Name<'a> {
    name: &'a [u8],
    hash: u64,
}

struct BucketKey<'a> {
    host: u32,
    kind: PathKind,
    path: &'a [u8],
}

fn is_wildcard_of(name: &[u8], suffix: &[u8]) -> bool {
    name.strip_prefix(b"*.").is_some_and(|rest| rest.eq_ignore_ascii_case(suffix))
}

fn hash_address(seed: u64, address: &SocketAddr) -> u64 {
    let mut hash = Fnv::new();
    hash.write(&seed.to_le_bytes());
    match address.ip() {
        IpAddr::V4(ip) => hash.write(&ip.octets()),
        IpAddr::V6(ip) => hash.write(&ip.octets()),
    }
    hash.write_u32(u32::from(address.port()));
    hash.finish()
}

/// By bucket, then by precedence inside it.
fn order(snapshot: &Snapshot, a: &Entry, b: &Entry) -> Ordering {
    let (ma, mb) = (&snapshot.matches[a.position], &snapshot.matches[b.position]);
    let path = |m: &Match| snapshot.text.bytes(m.path);
    let any = |m: &Match| m.method == Method::Any;
    (a.hash, a.host, ma.path_kind)
        .cmp(&(b.hash, b.host, mb.path_kind))
        .then_with(|| path(ma).cmp(path(mb)))
        .then_with(|| any(ma).cmp(&any(mb)))
        .then_with(|| mb.headers.len.cmp(&ma.headers.len))
        .then_with(|| mb.queries.len.cmp(&ma.queries.len))
        .then_with(|| (a.route, a.position).cmp(&(b.route, b.position)))
}

fn same_bucket(snapshot: &Snapshot, a: &Entry, b: &Entry) -> bool {
    let (ma, mb) = (&snapshot.matches[a.position], &snapshot.matches[b.position]);
    a.hash == b.hash
        && a.host == b.host
        && ma.path_kind == mb.path_kind
        && snapshot.text.bytes(ma.path) == snapshot.text.bytes(mb.path)
}

/// Whether method, header and query conditions of a match hold; its path was looked up.
fn conditions_hold(snapshot: &Snapshot, m: &Match, head: &RequestHead<'_, '_>) -> bool {
    let name = |c: &Condition| snapshot.text.bytes(c.name);
    let value = |c: &Condition| snapshot.text.bytes(c.value);
    (m.method == Method::Any || m.method.name() == head.method)
        && snapshot.conditions.span(m.headers).iter().all(|c| head.field_equals(name(c), value(c)))
        && snapshot
            .conditions
            .span(m.queries)
            .iter()
            .all(|c| url::query_value_equals(head.query.unwrap_or(b""), name(c), value(c)))
}

#[cfg(test)]
#[path = "route_table_tests.rs"]
mod tests;
