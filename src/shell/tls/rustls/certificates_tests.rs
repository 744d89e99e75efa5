//! Pairs that can be loaded and pairs that cannot; what is loaded when a Snapshot follows another.

use super::*;
use crate::config::snapshot::{Listener, Protocol};
use crate::limits::Capacities;
use crate::shell::place::boxed_zeroed;
use crate::stdx::{Span, Text};

const SERVER: &str = include_str!("../../../../tests/data/tls/server.crt");
const SERVER_KEY: &str = include_str!("../../../../tests/data/tls/server.key");
const CLIENT: &str = include_str!("../../../../tests/data/tls/client.crt");
const CLIENT_KEY: &str = include_str!("../../../../tests/data/tls/client.key");
const CLIENT_SEC1: &str = include_str!("../../../../tests/data/tls/client-sec1.key");

/// A Snapshot with one listener that has these certificates.
fn snapshot(pairs: &[(&str, &str)]) -> Box<Snapshot> {
    let mut s = boxed_zeroed::<Snapshot>();
    s.set_caps(&Capacities::DEFAULT);
    for (number, (chain, key)) in pairs.iter().enumerate() {
        let index = s.add_certificate(&std::format!("ns/c{number}"), chain, key).unwrap();
        s.certificate_refs.push(index).unwrap();
    }
    let listener = Listener {
        gateway: Text::EMPTY,
        section: Text::EMPTY,
        hostname: Text::EMPTY,
        port: 443,
        protocol: Protocol::Https,
        binds: Span::EMPTY,
        certificates: s.certificate_refs.span_from(0),
    };
    s.listeners.push(listener).unwrap();
    s
}

#[test]
fn pairs() {
    let broken = SERVER.replace("-----END", "-----AND");
    let flipped = SERVER.replacen('A', "B", 40);
    for (chain, key, expected) in [
        (SERVER, SERVER_KEY, PairProblem::None),
        (CLIENT, CLIENT_KEY, PairProblem::None),
        (CLIENT, CLIENT_SEC1, PairProblem::None),
        (SERVER, CLIENT_KEY, PairProblem::KeyMismatch),
        (broken.as_str(), SERVER_KEY, PairProblem::Malformed),
        (flipped.as_str(), SERVER_KEY, PairProblem::Malformed),
        ("", SERVER_KEY, PairProblem::Malformed),
        (SERVER, "", PairProblem::Malformed),
        (SERVER, SERVER, PairProblem::Malformed),
        (SERVER_KEY, SERVER_KEY, PairProblem::Malformed),
    ] {
        assert_eq!(vet(chain, key), expected, "{chain} {key}");
    }
}

#[test]
fn the_certificate_of_the_name_is_chosen_else_the_first() {
    let certificates = Certificates::new(4);
    let s = snapshot(&[(CLIENT, CLIENT_KEY), (SERVER, SERVER_KEY)]);
    certificates.load(&s, &s).unwrap();
    let leaf = |name: &[u8]| certificates.choose(&s, 0, name).unwrap().cert[0].clone();
    assert_ne!(leaf(b"localhost"), leaf(b"elsewhere.example"));
    assert_eq!(leaf(b"elsewhere.example"), leaf(b""));
    assert_eq!(leaf(b"\xff"), leaf(b""));
}

/// A rotation loads the new pair, keeps the one that connections of the old Snapshot may ask for,
/// and forgets it with the next one.
#[test]
fn loaded_while_some_snapshot_has_it() {
    let certificates = Certificates::new(1);
    let (old, new) = (snapshot(&[(CLIENT, CLIENT_KEY)]), snapshot(&[(SERVER, SERVER_KEY)]));
    certificates.load(&old, &snapshot(&[])).unwrap();
    let first = certificates.choose(&old, 0, b"").unwrap();
    certificates.load(&new, &old).unwrap();
    assert!(Arc::ptr_eq(&first, &certificates.choose(&old, 0, b"").unwrap()));
    assert!(certificates.choose(&new, 0, b"").is_some());
    certificates.load(&new, &new).unwrap();
    assert!(certificates.choose(&old, 0, b"").is_none());
    assert_eq!(Arc::strong_count(&first), 1, "held by us alone");
    // Back again: it is loaded anew.
    certificates.load(&old, &new).unwrap();
    assert!(certificates.choose(&old, 0, b"").is_some());
}

#[test]
fn one_that_cannot_be_loaded_is_named() {
    let s = snapshot(&[(SERVER, SERVER_KEY), (SERVER, CLIENT_KEY)]);
    let error = Certificates::new(4).load(&s, &s).unwrap_err();
    assert_eq!((error.index, error.problem), (1, PairProblem::KeyMismatch));
}
