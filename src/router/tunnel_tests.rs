//! WebSocket as scripts: the upgrade, what flows, how it ends.

use super::io::{Close, End};
use super::script::{Handle, Rig};
use crate::limits::*;
use std::format;

const ASK: &str = "GET /ws HTTP/1.1\r\nHost: h\r\nConnection: keep-alive, Upgrade\r\n\
                   Upgrade: websocket\r\nSec-WebSocket-Key: k\r\n\r\n";
const SWITCH: &str = "HTTP/1.1 101 Switching Protocols\r\nSec-WebSocket-Accept: a\r\n\
                      Connection: Upgrade\r\nUpgrade: websocket\r\n\r\n";

/// A client and a backend behind a 101.
fn tunnel(rig: &mut Rig) -> (Handle, Handle) {
    let client = rig.client();
    rig.send(client, ASK);
    let backend = rig.backend();
    rig.got(backend);
    rig.send(backend, SWITCH);
    assert_eq!(rig.got(client), SWITCH);
    (client, backend)
}

#[test]
fn bytes_flow_both_ways_as_they_are() {
    for step in [1, 5, usize::MAX] {
        let mut rig = Rig::new();
        rig.step = step;
        let client = rig.client();
        // What a client says too early waits for the answer.
        rig.send(client, format!("{ASK}early"));
        let backend = rig.backend();
        let got = rig.got(backend);
        let fields = "Sec-WebSocket-Key: k\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n";
        assert!(got.starts_with(&format!("GET /ws HTTP/1.1\r\nHost: h\r\n{fields}X-F")), "{got}");
        assert!(got.ends_with("\r\n\r\n"), "{got}");
        rig.send(backend, format!("{SWITCH}hello"));
        assert_eq!(rig.got(client), format!("{SWITCH}hello"), "step {step}");
        assert_eq!(rig.got(backend), "early");
        for n in 0..3 {
            rig.send(client, format!("GET /{n} HTTP/1.1\r\n\r\n"));
            assert_eq!(rig.got(backend), format!("GET /{n} HTTP/1.1\r\n\r\n"));
            rig.send(backend, "0\r\n\r\n");
            assert_eq!(rig.got(client), "0\r\n\r\n");
        }
        rig.assert_no_buffers();
        assert_eq!(rig.worker.counters().tunnels, 1);
        rig.end(backend, End::Eof);
        assert!(rig.is_shut(client) && rig.closed(backend).is_some());
        rig.end(client, End::Eof);
        rig.assert_at_rest();
    }
}

#[test]
fn other_upgrades_and_answers_nobody_asked_for() {
    let mut rig = Rig::new();
    let client = rig.client();
    rig.send(client, ASK.replace("Upgrade: websocket", "Upgrade: h2c"));
    let backend = rig.backend();
    assert!(!rig.got(backend).contains("pgrade"), "it is hop-by-hop");
    rig.send(backend, SWITCH);
    assert!(rig.got(client).starts_with("HTTP/1.1 502 "));
    assert!(rig.closed(backend).is_some());
    // A backend that knows no WebSocket answers as always, and the connection goes on.
    let client = rig.client();
    rig.send(client, ASK);
    let backend = rig.backend();
    rig.got(backend);
    let plain = "HTTP/1.1 426 Upgrade Required\r\nContent-Length: 0\r\n\r\n";
    rig.send(backend, plain);
    assert_eq!(rig.got(client), plain);
    rig.assert_at_rest();
    rig.send(client, ASK);
    assert!(rig.got(backend).starts_with("GET /ws "), "both connections were kept");
}

#[test]
fn back_pressure_both_ways() {
    let mut rig = Rig::new();
    let (client, backend) = tunnel(&mut rig);
    for (from, to) in [(client, backend), (backend, client)] {
        rig.window(to, 3);
        rig.send(from, "abcdef");
        assert!(rig.is_paused(from));
        rig.send(from, "ghi");
        assert_eq!(rig.unread(from), 3, "it stays with the sender");
        assert_eq!(rig.got(to), "abc");
        rig.window(to, usize::MAX);
        assert_eq!(rig.got(to), "defghi");
        assert!(!rig.is_paused(from));
        rig.assert_no_buffers();
    }
}

#[test]
fn the_clients_end_reaches_the_backend_and_its_last_words_the_client() {
    let mut rig = Rig::new();
    let (client, backend) = tunnel(&mut rig);
    rig.send(client, "bye");
    rig.end(client, End::Eof);
    assert_eq!(rig.got(backend), "bye");
    assert!(rig.is_shut(backend) && rig.closed(backend).is_none());
    rig.send(backend, "last words");
    assert_eq!(rig.got(client), "last words");
    rig.end(backend, End::Eof);
    assert_eq!((rig.closed(client), rig.closed(backend)), (Some(Close::Now), Some(Close::Now)));
    rig.assert_at_rest();
}

#[test]
fn a_backends_end_waits_until_the_client_has_all() {
    let mut rig = Rig::new();
    let (client, backend) = tunnel(&mut rig);
    rig.window(client, 2);
    rig.send(backend, "abcdef");
    rig.end(backend, End::Eof);
    rig.window(client, usize::MAX);
    assert_eq!(rig.got(client), "abcdef");
    assert!(rig.is_shut(client));
    rig.end(client, End::Eof);
    rig.assert_at_rest();
}

#[test]
fn resets_and_deaf_sides_cut_both() {
    for case in 0..4 {
        let mut rig = Rig::new();
        let (client, backend) = tunnel(&mut rig);
        match case {
            0 => rig.end(client, End::Reset),
            1 => rig.end(backend, End::Reset),
            2 => rig.fail_writes(client),
            _ => rig.fail_writes(backend),
        }
        assert!(rig.closed(client).is_some() && rig.closed(backend).is_some(), "case {case}");
        // An end in order would say that all has come.
        let other = if matches!(case, 1 | 3) { client } else { backend };
        assert_eq!(rig.closed(other), Some(Close::Reset), "case {case}");
        rig.assert_at_rest();
    }
}

#[test]
fn an_idle_tunnel_is_closed_a_busy_one_is_not() {
    let mut rig = Rig::new();
    let (client, backend) = tunnel(&mut rig);
    let most = u64::from(TUNNEL_IDLE_TIMEOUT_MS);
    for n in 0..4 {
        rig.advance(most - 1000);
        let from = if n % 2 == 0 { client } else { backend };
        rig.send(from, "ping");
        assert!(rig.closed(backend).is_none());
    }
    rig.advance(most + 100);
    assert!(rig.closed(backend).is_some() && rig.is_shut(client));
    assert_eq!(rig.worker.counters().timeouts, 1);
    rig.end(client, End::Eof);
    rig.assert_at_rest();
}

/// And its deadline resets what runs: an end in order would say that all is there.
#[test]
fn a_drain_begins_no_tunnel_and_cuts_those_that_run_at_its_deadline() {
    let mut rig = Rig::new();
    let (client, backend) = tunnel(&mut rig);
    let late = rig.client();
    rig.turn(|worker, turn| worker.drain(turn));
    rig.send(
        late,
        "GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
    );
    let plain = rig.backend();
    assert!(!rig.got(plain).to_lowercase().contains("upgrade"));
    rig.turn(|worker, turn| worker.cut_all(turn));
    for cut in [client, backend, late] {
        assert_eq!(rig.closed(cut), Some(Close::Reset));
    }
    rig.run();
    assert!(rig.worker.is_drained());
}

/// The route's timeouts are for the answer; a change of configuration and a drain leave what runs.
#[test]
fn a_tunnel_outlives_timeouts_configurations_and_the_begin_of_a_drain() {
    let mut rig = Rig::with(|s| {
        super::script::plain(s, 1);
        s.routes[0].request_timeout_ms = 500;
    });
    let (client, backend) = tunnel(&mut rig);
    rig.advance(2_000);
    rig.swap(|_| ());
    rig.turn(|worker, turn| worker.drain(turn));
    rig.advance(u64::from(DRAIN_IDLE_MS) * 2);
    rig.send(client, "a");
    rig.send(backend, "b");
    assert_eq!((rig.got(backend).as_str(), rig.got(client).as_str()), ("a", "b"));
    rig.end(backend, End::Eof);
    rig.end(client, End::Eof);
    rig.run();
    assert!(rig.worker.is_drained());
}
