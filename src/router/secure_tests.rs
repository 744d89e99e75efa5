//! Scripts of connections whose driver speaks TLS: which listener a server name chooses, what a
//! request may ask for then, and how a handshake ends that does not go on.

use super::script::Rig;
use crate::config::building::{self, MatchSpec};
use crate::config::snapshot::{Protocol, Snapshot};
use crate::limits::{EVICT_HANDSHAKE_MS, EVICT_IDLE_MS, HANDSHAKE_TIMEOUT_MS};
use core::net::SocketAddr;

/// HTTPS listeners at port 443 for these hostnames, each with a route to one endpoint.
fn secure(s: &mut Snapshot, hostnames: &[&str]) {
    let bind = building::bind(s, SocketAddr::from(([0, 0, 0, 0], 443)));
    s.binds[bind].is_tls = true;
    let certificate = s.add_certificate("ns/c", "chain", "key").unwrap();
    let pool = building::pool(s, "p", &[super::script::endpoint(1)]);
    for (number, hostname) in hostnames.iter().enumerate() {
        let listener = building::listener(s, hostname, 443, &[bind]);
        let start = s.certificate_refs.len();
        s.certificate_refs.push(certificate).unwrap();
        let section = s.text.push(&std::format!("l-{hostname}")).unwrap();
        let entry = &mut s.listeners[listener];
        (entry.protocol, entry.section) = (Protocol::Https, section);
        s.listeners[listener].certificates = s.certificate_refs.span_from(start);
        let all = [MatchSpec::prefix("")];
        building::route(s, &std::format!("r{number}"), &[(listener, "")], &all, &[(pool, 1)]);
    }
}

fn get(host: &str) -> std::string::String {
    std::format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n")
}

/// Without a session left, a client with one makes way: who is between requests, or does not end
/// its handshake; never who has just come, who is at work, or who has no session.
#[test]
fn who_has_a_session_and_rests_makes_way() {
    let mut rig = Rig::with(|s| secure(s, &["a"]));
    let [resting, working, shaking, without] = [0; 4].map(|_| rig.client_at(443).unwrap());
    for client in [resting, working, shaking] {
        assert!(rig.hello(client, "a").is_some());
    }
    rig.secured(resting);
    rig.secured(working);
    rig.send(working, get("a"));
    let backend = rig.backend();
    let fresh = rig.client_at(443).unwrap();
    rig.hello(fresh, "a");
    assert!(!rig.no_session(fresh), "nobody rests for long");
    rig.advance(u64::from(EVICT_IDLE_MS) + 100);
    assert!(rig.no_session(fresh));
    assert!(rig.closed(resting).is_some() && rig.closed(shaking).is_none());
    assert!(!rig.no_session(fresh));
    rig.advance(u64::from(EVICT_HANDSHAKE_MS));
    assert!(rig.no_session(fresh));
    assert!(rig.closed(shaking).is_some());
    assert!([without, working, fresh].iter().all(|&client| rig.closed(client).is_none()));
    rig.send(backend, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
    assert!(rig.got(working).ends_with("ok"));
    assert_eq!(rig.worker.counters().idle_evictions, 2);
}

#[test]
fn the_server_name_chooses_the_most_specific_listener() {
    let mut rig = Rig::with(|s| secure(s, &["", "a.example", "*.example"]));
    for (name, listener) in [
        ("a.example", Some(1)),
        ("A.Example", Some(1)),
        ("b.example", Some(2)),
        ("c.b.example", Some(2)),
        ("example", Some(0)),
        ("", Some(0)),
    ] {
        let client = rig.client_at(443).unwrap();
        assert_eq!(rig.hello(client, name), listener, "{name}");
    }
    let mut rig = Rig::with(|s| secure(s, &["a.example"]));
    let client = rig.client_at(443).unwrap();
    assert_eq!((rig.hello(client, "b.example"), rig.hello(client, "")), (None, None));
}

/// GEP-3567: a host of another listener is 421, one of none 404; a swap changes nothing about it.
#[test]
fn misdirected_requests() {
    let fill = |s: &mut Snapshot| secure(s, &["a.example", "b.example"]);
    let mut rig = Rig::with(fill);
    let client = rig.client_at(443).unwrap();
    rig.hello(client, "a.example").unwrap();
    rig.secured(client);
    rig.send(client, get("b.example"));
    assert!(rig.got(client).starts_with("HTTP/1.1 421 Misdirected Request\r\n"));
    rig.send(client, get("c.example"));
    assert!(rig.got(client).starts_with("HTTP/1.1 404 "));
    // Another order of listeners: the connection is still a.example's.
    rig.swap(|s| secure(s, &["c.example", "b.example", "a.example"]));
    rig.send(client, get("b.example"));
    assert!(rig.got(client).starts_with("HTTP/1.1 421 "));
    rig.send(client, get("a.example"));
    let backend = rig.backend();
    let got = rig.got(backend);
    assert!(got.contains("X-Forwarded-Proto: https\r\n"), "{got}");
    assert!(got.contains("X-Forwarded-Port: 443\r\n"), "{got}");
}

/// Routed again since its endpoints are gone, a request is not served by a listener that came
/// meanwhile and whose certificate the client was not shown.
#[test]
fn a_request_that_is_routed_again_stays_at_its_listener() {
    let mut rig = Rig::with(|s| secure(s, &["*.example"]));
    let client = rig.client_at(443).unwrap();
    rig.hello(client, "a.example").unwrap();
    rig.secured(client);
    rig.send(client, get("a.example"));
    let (first, _) = rig.opening();
    rig.swap(|s| secure(s, &["*.example", "a.example"]));
    rig.refused(first);
    assert!(rig.io.opened.is_empty());
    assert!(rig.got(client).starts_with("HTTP/1.1 503 "));
}

#[test]
fn a_handshake_that_does_not_go_on_is_closed() {
    let mut rig = Rig::with(|s| secure(s, &["a.example"]));
    let (silent, begun) = (rig.client_at(443).unwrap(), rig.client_at(443).unwrap());
    rig.hello(begun, "a.example").unwrap();
    rig.advance(u64::from(HANDSHAKE_TIMEOUT_MS) / 2);
    assert!(rig.closed(silent).is_none() && rig.closed(begun).is_none());
    rig.advance(u64::from(HANDSHAKE_TIMEOUT_MS));
    assert!(rig.closed(silent).is_some() && rig.closed(begun).is_some());
    rig.assert_at_rest();
}

#[test]
fn a_bind_that_is_gone_ends_the_handshake() {
    let mut rig = Rig::with(|s| secure(s, &["a.example"]));
    let client = rig.client_at(443).unwrap();
    rig.swap(|_| ());
    assert_eq!(rig.hello(client, "a.example"), None);
}
