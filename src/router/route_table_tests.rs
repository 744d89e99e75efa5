//! The lookup against examples of the Gateway API and against a naive reference: every rule of
//! every route looked at, the best one taken.

use super::*;
use crate::config::building::{self, MatchSpec};
use crate::stdx::{Prng, zeroed_box};
use crate::wire::http1::{RequestHead, field_space};
use std::boxed::Box;
use std::format;
use std::string::String;
use std::vec::Vec;

struct Config {
    snapshot: Box<Snapshot>,
    table: Box<RouteTable>,
}

fn empty() -> Config {
    let mut config = Config { snapshot: zeroed_box(), table: zeroed_box() };
    config.snapshot.set_caps(&Capacities::DEFAULT);
    config.table.set_caps(&Capacities::DEFAULT);
    config
}

impl Config {
    fn build(&mut self) {
        assert_eq!(self.snapshot.validate(), Ok(()));
        assert_eq!(self.table.build(&self.snapshot), Ok(()));
    }

    /// The name of the route, or why there is none.
    fn find(&self, bind: u32, request: &str) -> Result<&str, Miss> {
        with_head(request, |head| {
            let found = self.table.find(&self.snapshot, bind, head);
            assert_eq!(found, naive(&self.snapshot, bind, head), "{request}");
            found.map(|f| self.snapshot.text.get(self.snapshot.routes[f.route].name))
        })
    }
}

fn with_head<R>(request: &str, run: impl FnOnce(&RequestHead<'_, '_>) -> R) -> R {
    let (mut space, mut scratch) = (field_space(), [0; 1024]);
    let head = RequestHead::parse(request.as_bytes(), &mut space, &mut scratch);
    run(&head.expect("a good request").expect("a whole request"))
}

/// How specific a hostname is for a host it covers: exact, long wildcard, short wildcard, any.
fn rank(name: &str, host: &str) -> Option<(u8, usize)> {
    let host = host.to_ascii_lowercase();
    match name.strip_prefix('*') {
        _ if name.is_empty() => Some((0, 0)),
        Some(tail) if host.ends_with(tail) && host.len() > tail.len() => Some((1, name.len())),
        None if name == host => Some((2, 0)),
        _ => None,
    }
}

fn prefix_covers(prefix: &str, path: &str) -> bool {
    path.starts_with('/')
        && path.strip_prefix(prefix).is_some_and(|r| r.is_empty() || r.starts_with('/'))
}

fn naive(s: &Snapshot, bind: u32, head: &RequestHead<'_, '_>) -> Result<Found, Miss> {
    let host = core::str::from_utf8(head.host).unwrap();
    let path = core::str::from_utf8(head.path).unwrap();
    let on = |l: &crate::config::snapshot::Listener| s.attachments.span(l.binds).contains(&bind);
    let listeners = s.listeners.as_slice().iter().enumerate().rev();
    let listener = listeners
        .filter(|(_, l)| on(l))
        .filter_map(|(i, l)| Some((rank(s.text.get(l.hostname), host)?, i as u32)))
        .max_by_key(|&(rank, _)| rank)
        .ok_or(Miss::Listener)?
        .1;
    let mut best = None;
    for (number, route) in (0u32..).zip(s.routes.as_slice()) {
        for place in s.hosts.span(route.hosts).iter().filter(|p| p.listener == listener) {
            let Some(host_rank) = rank(s.text.get(place.hostname), host) else { continue };
            for (position, m) in s.matches.span(route.matches).iter().enumerate() {
                let value = s.text.get(m.path);
                let exact = m.path_kind == PathKind::Exact;
                let covers = if exact { value == path } else { prefix_covers(value, path) };
                if !covers || !conditions_hold(s, m, head) {
                    continue;
                }
                let later = core::cmp::Reverse((number, position));
                let method = m.method != Method::Any;
                let conditions = (m.headers.len, m.queries.len);
                let key = (host_rank, exact, value.len(), method, conditions, later);
                best = best.max(Some((key, number)));
            }
        }
    }
    best.map(|(_, route)| Found { listener, route }).ok_or(Miss::Route)
}

fn get(host: &str, target: &str) -> String {
    format!("GET {target} HTTP/1.1\r\nHost: {host}\r\n\r\n")
}

fn at(port: u16) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], port))
}

#[test]
fn hosts_from_the_most_specific_to_any() {
    let mut c = empty();
    let s = &mut *c.snapshot;
    let bind = building::bind(s, at(80));
    let all = building::listener(s, "", 80, &[bind]);
    let wild = building::listener(s, "*.example.com", 80, &[bind]);
    let root = [MatchSpec::prefix("")];
    building::route(s, "any", &[(all, "")], &root, &[]);
    building::route(s, "exact", &[(wild, "a.example.com")], &[MatchSpec::prefix("/x")], &[]);
    building::route(s, "deep", &[(wild, "*.b.example.com")], &root, &[]);
    building::route(s, "wide", &[(wild, "*.example.com")], &root, &[]);
    c.build();
    assert_eq!(c.find(bind, &get("other", "/")), Ok("any"));
    // The listener *.example.com does not cover its own suffix.
    assert_eq!(c.find(bind, &get("example.com", "/")), Ok("any"));
    assert_eq!(c.find(bind, &get("A.Example.com:8080", "/x/y")), Ok("exact"));
    // No rule under the exact name: the wildcard of the same listener, not the other listener.
    assert_eq!(c.find(bind, &get("a.example.com", "/y")), Ok("wide"));
    assert_eq!(c.find(bind, &get("x.y.b.example.com", "/")), Ok("deep"));
    assert_eq!(c.find(bind, &get("b.example.com", "/")), Ok("wide"));
}

#[test]
fn never_another_listener_and_never_another_bind() {
    let mut c = empty();
    let s = &mut *c.snapshot;
    let (one, two) = (building::bind(s, at(80)), building::bind(s, at(81)));
    let a = building::listener(s, "a.com", 80, &[one]);
    let wild = building::listener(s, "*.com", 80, &[one]);
    let root = [MatchSpec::prefix("")];
    building::route(s, "a", &[(a, "a.com")], &[MatchSpec::exact("/only")], &[]);
    building::route(s, "wild", &[(wild, "*.com")], &root, &[]);
    c.build();
    assert_eq!(c.find(one, &get("a.com", "/only")), Ok("a"));
    assert_eq!(c.find(one, &get("a.com", "/else")), Err(Miss::Route));
    assert_eq!(c.find(one, &get("b.com", "/else")), Ok("wild"));
    assert_eq!(c.find(one, &get("com", "/")), Err(Miss::Listener));
    assert_eq!(c.find(two, &get("a.com", "/only")), Err(Miss::Listener));
}

#[test]
fn precedence_inside_one_host() {
    let mut c = empty();
    let s = &mut *c.snapshot;
    let bind = building::bind(s, at(80));
    let l = [(building::listener(s, "", 80, &[bind]), "")];
    let prefix = MatchSpec::prefix;
    building::route(s, "older", &l, &[prefix("/a")], &[]);
    building::route(s, "newer", &l, &[prefix("/a")], &[]);
    building::route(s, "exact", &l, &[MatchSpec::exact("/a")], &[]);
    building::route(s, "longer", &l, &[prefix("/a/b")], &[]);
    let method = MatchSpec { method: Method::Post, ..prefix("/a") };
    building::route(s, "method", &l, &[method], &[]);
    let header = MatchSpec { headers: &[("v", "1, 2")], ..prefix("/a") };
    building::route(s, "header", &l, &[header], &[]);
    let query = MatchSpec { queries: &[("q", "x y")], ..prefix("/a") };
    building::route(s, "query", &l, &[query.clone(), prefix("/q")], &[]);
    let two = MatchSpec { headers: &[("v", "1, 2"), ("w", "")], ..query };
    building::route(s, "two", &l, &[two], &[]);
    c.build();
    for (request, route) in [
        ("GET /a HTTP/1.1\r\n", "exact"),
        ("GET /a/ HTTP/1.1\r\n", "older"),
        ("GET /a/b/c HTTP/1.1\r\n", "longer"),
        ("GET /a/bc HTTP/1.1\r\n", "older"),
        ("POST /a/x HTTP/1.1\r\nV: 1, 2\r\n", "method"),
        ("PUT /a/x HTTP/1.1\r\nV: 1\r\nv: 2\r\n", "header"),
        ("PUT /a/x HTTP/1.1\r\nV: 2\r\nv: 1\r\n", "older"),
        ("PUT /a/x?q=x%20y HTTP/1.1\r\nv: 1, 2\r\nw:\r\n", "two"),
        ("PUT /a/x?p&q=x%20y HTTP/1.1\r\n", "query"),
        ("PUT /q?q=z HTTP/1.1\r\n", "query"),
    ] {
        assert_eq!(c.find(bind, &format!("{request}Host: h\r\n\r\n")), Ok(route), "{request}");
    }
    assert_eq!(c.find(bind, &get("h", "/ab")), Err(Miss::Route));
    assert_eq!(c.find(bind, "OPTIONS * HTTP/1.1\r\nHost: h\r\n\r\n"), Err(Miss::Route));
}

/// A field that does not cross cannot choose the route either.
#[test]
fn stripped_fields_match_nothing() {
    let mut c = empty();
    let s = &mut *c.snapshot;
    let bind = building::bind(s, at(80));
    let l = [(building::listener(s, "", 80, &[bind]), "")];
    for (name, header) in [("xff", "x-forwarded-for"), ("named", "secret"), ("te", "te")] {
        let headers = &[(header, "1")];
        building::route(s, name, &l, &[MatchSpec { headers, ..MatchSpec::prefix("") }], &[]);
    }
    c.build();
    let fields = "X-Forwarded-For: 1\r\nSecret: 1\r\nTE: 1\r\nConnection: secret\r\n";
    let request = format!("GET / HTTP/1.1\r\nHost: h\r\n{fields}\r\n");
    assert_eq!(c.find(bind, &request), Err(Miss::Route));
}

#[test]
fn endpoints_of_the_snapshot() {
    let mut c = empty();
    building::pool(&mut c.snapshot, "p", &[at(1), at(2), at(1)]);
    building::pool(&mut c.snapshot, "q", &[at(2)]);
    c.build();
    let has = |port| c.table.has_endpoint(&c.snapshot, &at(port));
    assert!(has(1) && has(2) && !has(3));
}

#[test]
fn entries_at_max_and_one_more() {
    let mut c = empty();
    let mut capacities = Capacities::DEFAULT;
    capacities.max_config_entries = 6;
    c.table.set_caps(&capacities);
    let s = &mut *c.snapshot;
    let bind = building::bind(s, at(80));
    let l = building::listener(s, "", 80, &[bind]);
    let matches = [MatchSpec::prefix("/a"), MatchSpec::prefix("/b"), MatchSpec::exact("/c")];
    building::route(s, "r", &[(l, "a"), (l, "b")], &matches, &[]);
    c.build();
    building::route(&mut c.snapshot, "s", &[(l, "c")], &matches[..1], &[]);
    assert_eq!(c.table.build(&c.snapshot), Err(Full));
}

const HOSTS: [&str; 9] = ["", "a.x", "b.x", "b.a.x", "x", "*.x", "*.a.x", "*.b.a.x", "c.c.b.a.x"];
const PATHS: [&str; 8] = ["", "/a", "/a/b", "/a/b/a", "/ab", "/b", "/a//b", "/b/a"];

fn random_match(prng: &mut Prng) -> MatchSpec<'static> {
    let headers: [&'static [(&str, &str)]; 4] =
        [&[], &[], &[("h", "1")], &[("h", "1"), ("i", "2")]];
    let queries: [&'static [(&str, &str)]; 4] = [&[], &[], &[("q", "1")], &[("q", "1"), ("r", "")]];
    let mut m = MatchSpec::prefix(PATHS[prng.below(8) as usize]);
    if prng.chance(1, 3) {
        m.kind = PathKind::Exact;
        if m.path.is_empty() {
            m.path = "/";
        }
    }
    if prng.chance(1, 2) {
        m.method = [Method::Any, Method::Any, Method::Get, Method::Post][prng.below(4) as usize];
        m.headers = headers[prng.below(4) as usize];
        m.queries = queries[prng.below(4) as usize];
    }
    m
}

fn random_config(prng: &mut Prng) -> Config {
    let mut c = empty();
    let s = &mut *c.snapshot;
    for port in 1..=prng.range(1, 2) {
        building::bind(s, at(port as u16));
    }
    for _ in 0..prng.range(1, 5) {
        let binds: Vec<u32> = (0..s.binds.len()).filter(|_| prng.chance(2, 3)).collect();
        building::listener(s, HOSTS[prng.below(9) as usize], 80, &binds);
    }
    for number in 0..prng.range(0, 14) {
        let mut places = Vec::new();
        for _ in 0..prng.range(1, 2) {
            let listener = prng.below(u64::from(s.listeners.len())) as u32;
            places.push((listener, HOSTS[prng.below(9) as usize]));
        }
        let matches: Vec<_> = (0..prng.range(1, 2)).map(|_| random_match(prng)).collect();
        building::route(s, &format!("r{number}"), &places, &matches, &[]);
    }
    s.identity.checksum.0[..8].copy_from_slice(&prng.next_u64().to_le_bytes());
    c.build();
    c
}

fn random_request(prng: &mut Prng) -> String {
    let hosts = ["a.x", "b.x", "B.A.x:80", "x", "y", "c.b.a.x", "c.c.b.a.x", "c.x", "a.X."];
    let tails = ["", "/", "/a", "/c", "//b"];
    let queries = ["", "?q=1", "?q=1&r", "?q=%31&r=", "?r&q=2&q=1"];
    let fields = ["", "h: 1\r\n", "h: 1\r\ni: 2\r\n", "i: 2\r\nH: 1\r\nh: 1\r\n"];
    let mut pick = |of: &[&'static str]| of[prng.below(of.len() as u64) as usize];
    let path = format!("{}{}", pick(&PATHS), pick(&tails));
    let path = if path.is_empty() { "/" } else { &path };
    let (method, query) = (pick(&["GET", "POST", "PUT", "GREET"]), pick(&queries));
    let (host, fields) = (pick(&hosts), pick(&fields));
    format!("{method} {path}{query} HTTP/1.1\r\nHost: {host}\r\n{fields}\r\n")
}

/// `find` compares with the naive reference on every call.
#[test]
fn random_configurations_agree_with_the_naive_lookup() {
    let mut prng = Prng::new(2026);
    let (mut found, mut missed) = (0, 0);
    for _ in 0..1_000 {
        let c = random_config(&mut prng);
        for _ in 0..50 {
            let bind = prng.below(u64::from(c.snapshot.binds.len())) as u32;
            match c.find(bind, &random_request(&mut prng)) {
                Ok(_) => found += 1,
                Err(_) => missed += 1,
            }
        }
    }
    assert!(found > 5_000 && missed > 5_000, "{found} {missed}");
}

/// The cost of a lookup: probes, not routes. A table of 5,000 routes on one host is as quick as
/// the examples above, and each route is found.
#[test]
fn five_thousand_routes() {
    let mut c = empty();
    let s = &mut *c.snapshot;
    let bind = building::bind(s, at(80));
    let l = building::listener(s, "", 80, &[bind]);
    let count = s.routes.cap().min(5_000);
    for n in 0..count {
        let path = format!("/service-{n}/v1");
        building::route(s, &format!("r{n}"), &[(l, "h")], &[MatchSpec::prefix(&path)], &[]);
    }
    c.build();
    for n in 0..count {
        with_head(&get("h", &format!("/service-{n}/v1/x")), |head| {
            let found = c.table.find(&c.snapshot, bind, head);
            assert_eq!(found, Ok(Found { listener: l, route: n }));
        });
    }
}
