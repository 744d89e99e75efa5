//! Snapshots written by hand, for tests: unit tests have it as a module, integration tests include
//! the file.
//!
//! In: names, addresses and matches as literals. Out: rows of a Snapshot, or a panic.

#![allow(dead_code, reason = "each user needs some of it")]
#![allow(missing_docs, reason = "the names are those of the Snapshot's fields")]

use core::net::SocketAddr;
use serval::config::filter::{Filter, HeaderEdit, UrlFilter};
use serval::config::snapshot::*;
use serval::stdx::{Span, Text};
use serval::wire::http1::edit::Action;

/// One match; empty fields match all.
#[derive(Clone, Debug, Default)]
pub struct MatchSpec<'a> {
    pub kind: PathKind,
    pub path: &'a str,
    pub method: Method,
    pub headers: &'a [(&'a str, &'a str)],
    pub queries: &'a [(&'a str, &'a str)],
}

impl<'a> MatchSpec<'a> {
    pub fn prefix(path: &'a str) -> Self {
        MatchSpec { path, ..Default::default() }
    }

    pub fn exact(path: &'a str) -> Self {
        MatchSpec { kind: PathKind::Exact, path, ..Default::default() }
    }
}

fn text(s: &mut Snapshot, text: &str) -> Text {
    s.text.push(text).expect("text fits")
}

pub fn bind(s: &mut Snapshot, address: SocketAddr) -> u32 {
    let (ip, port) = (address.ip(), address.port());
    let row = Bind { transport: Transport::Tcp, address: ip, port, is_tls: false };
    s.binds.push(row).expect("bind fits")
}

pub fn listener(s: &mut Snapshot, hostname: &str, port: u16, binds: &[u32]) -> u32 {
    let start = s.attachments.len();
    for &bind in binds {
        s.attachments.push(bind).expect("attachment fits");
    }
    let row = Listener {
        gateway: text(s, "default/gateway"),
        section: text(s, "http"),
        hostname: text(s, hostname),
        port,
        protocol: Protocol::Http,
        binds: s.attachments.span_from(start),
        certificates: Span::EMPTY,
    };
    s.listeners.push(row).expect("listener fits")
}

pub fn pool(s: &mut Snapshot, name: &str, addresses: &[SocketAddr]) -> u32 {
    let start = s.upstreams.len();
    for &address in addresses {
        s.upstreams.push(Upstream { address }).expect("upstream fits");
    }
    let row = Pool { name: text(s, name), upstreams: s.upstreams.span_from(start) };
    s.pools.push(row).expect("pool fits")
}

/// Adds filters; their index.
pub fn filter(
    s: &mut Snapshot,
    request: &[(Action, &str, &str)],
    response: &[(Action, &str, &str)],
    url: UrlFilter,
) -> u32 {
    let mut spans = [Span::EMPTY; 2];
    for (span, edits) in spans.iter_mut().zip([request, response]) {
        let start = s.edits.len();
        for &(action, name, value) in edits {
            let row = HeaderEdit { action, name: text(s, name), value: text(s, value) };
            s.edits.push(row).expect("edit fits");
        }
        *span = s.edits.span_from(start);
    }
    let row = Filter { request: spans[0], response: spans[1], url };
    s.filters.push(row).expect("filter fits")
}

/// A string of the Snapshot, for rows that the test writes itself.
pub fn string(s: &mut Snapshot, string: &str) -> Text {
    text(s, string)
}

fn conditions(s: &mut Snapshot, pairs: &[(&str, &str)]) -> Span {
    let start = s.conditions.len();
    for (name, value) in pairs {
        let row = Condition { name: text(s, name), value: text(s, value) };
        s.conditions.push(row).expect("condition fits");
    }
    s.conditions.span_from(start)
}

pub fn route(
    s: &mut Snapshot,
    name: &str,
    hosts: &[(u32, &str)],
    matches: &[MatchSpec<'_>],
    backends: &[(u32, u32)],
) -> u32 {
    let host_start = s.hosts.len();
    for &(listener, hostname) in hosts {
        let row = RouteHost { listener, hostname: text(s, hostname) };
        s.hosts.push(row).expect("host fits");
    }
    let match_start = s.matches.len();
    for m in matches {
        let row = Match {
            path_kind: m.kind,
            path: text(s, m.path),
            method: m.method,
            headers: conditions(s, m.headers),
            queries: conditions(s, m.queries),
        };
        s.matches.push(row).expect("match fits");
    }
    let backend_start = s.backends.len();
    for &(pool, weight) in backends {
        s.backends.push(Backend { pool, weight, filter: NO_FILTER }).expect("backend fits");
    }
    let row = Route {
        name: text(s, name),
        hosts: s.hosts.span_from(host_start),
        matches: s.matches.span_from(match_start),
        backends: s.backends.span_from(backend_start),
        filter: NO_FILTER,
        request_timeout_ms: 0,
        backend_timeout_ms: 0,
    };
    s.routes.push(row).expect("route fits")
}
