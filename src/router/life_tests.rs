//! What a worker does over time, as scripts: timeouts, configuration swaps, drain, overload.

use super::io::{Close, End};
use super::script::{Rig, endpoint, plain};
use crate::config::building::{self, MatchSpec};
use crate::config::snapshot::Snapshot;
use crate::limits::*;
use core::net::SocketAddr;
use std::string::String;
use std::vec::Vec;

const GET: &str = "GET /a HTTP/1.1\r\nHost: h\r\n\r\n";
const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

fn status(response: &str) -> &str {
    response.get(9..12).unwrap_or("none")
}

/// Just before a timeout nothing, a little after it the consequence.
fn around(rig: &mut Rig, ms: u32, check: impl Fn(&mut Rig, bool)) {
    rig.advance(u64::from(ms) - 1);
    check(rig, false);
    rig.advance(3 * u64::from(TIMER_TICK_MS));
    check(rig, true);
}

#[test]
fn a_slow_head_is_408() {
    let mut rig = Rig::new();
    let client = rig.client();
    rig.advance(5000);
    rig.send(client, "GET / ");
    rig.advance(u64::from(HEADER_TIMEOUT_MS) / 2);
    // More bytes do not buy more time.
    rig.send(client, "HTTP");
    around(&mut rig, HEADER_TIMEOUT_MS / 2, |rig, is_over| {
        assert_eq!(status(&rig.got(client)), if is_over { "408" } else { "none" });
    });
    assert!(rig.is_shut(client));
    rig.advance(u64::from(LINGER_TIMEOUT_MS) + 50);
    assert_eq!(rig.closed(client), Some(Close::Now));
    rig.assert_at_rest();
}

#[test]
fn idle_connections_are_closed() {
    let mut rig = Rig::new();
    let (client, backend) = rig.warm_up();
    around(&mut rig, UPSTREAM_IDLE_TIMEOUT_MS, |rig, is_over| {
        assert_eq!(rig.closed(backend).is_some(), is_over);
    });
    let rest = IDLE_TIMEOUT_MS - UPSTREAM_IDLE_TIMEOUT_MS - 3 * TIMER_TICK_MS;
    around(&mut rig, rest, |rig, is_over| {
        assert_eq!(rig.closed(client).is_some(), is_over);
    });
    assert_eq!(rig.got(client), "");
}

#[test]
fn a_backend_that_does_not_answer_is_504() {
    let mut rig = Rig::new();
    let client = rig.client();
    rig.send(client, GET);
    let backend = rig.backend();
    around(&mut rig, REQUEST_TIMEOUT_MS, |rig, is_over| {
        assert_eq!(status(&rig.got(client)), if is_over { "504" } else { "none" });
        assert_eq!(rig.closed(backend).is_some(), is_over);
    });
    assert_eq!(rig.closed(client), None);
    rig.assert_at_rest();
}

fn with_timeouts(request_ms: u32, backend_ms: u32) -> Rig {
    Rig::with(|s| {
        plain(s, 1);
        let route = &mut s.routes.as_mut_slice()[0];
        (route.request_timeout_ms, route.backend_timeout_ms) = (request_ms, backend_ms);
    })
}

#[test]
fn timeouts_of_the_route() {
    for (request_ms, backend_ms) in [(300, 0), (0, 300), (300, 5000), (5000, 300)] {
        let mut rig = with_timeouts(request_ms, backend_ms);
        let client = rig.client();
        rig.send(client, GET);
        rig.backend();
        around(&mut rig, 300, |rig, is_over| {
            assert_eq!(status(&rig.got(client)), if is_over { "504" } else { "none" });
        });
    }
    // Disabled means disabled, and each disables the router's default of the other.
    for (request_ms, backend_ms) in [(u32::MAX, 0), (0, u32::MAX), (u32::MAX, u32::MAX)] {
        let mut rig = with_timeouts(request_ms, backend_ms);
        let client = rig.client();
        rig.send(client, GET);
        let backend = rig.backend();
        rig.advance(3_600_000);
        rig.send(backend, OK);
        assert_eq!(rig.got(client), OK);
    }
    // The request's timeout covers the response's body; then the only answer is a visible break.
    let mut rig = with_timeouts(300, 0);
    let client = rig.client();
    rig.send(client, GET);
    let backend = rig.backend();
    rig.send(backend, "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nabc");
    rig.advance(400);
    assert_eq!(rig.closed(client), Some(Close::Reset));
}

#[test]
fn bodies_that_stand_still() {
    // A client that stops in the middle of its body is told; a backend that does is cut.
    let mut rig = Rig::new();
    let client = rig.client();
    rig.send(client, "POST /a HTTP/1.1\r\nHost: h\r\nContent-Length: 9\r\n\r\nabc");
    rig.backend();
    rig.advance(u64::from(IDLE_TIMEOUT_MS) - 100);
    rig.send(client, "d");
    around(&mut rig, IDLE_TIMEOUT_MS, |rig, is_over| {
        assert_eq!(status(&rig.got(client)), if is_over { "408" } else { "none" });
    });
    let mut rig = Rig::new();
    let client = rig.client();
    rig.send(client, GET);
    let backend = rig.backend();
    rig.send(backend, "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nabc");
    around(&mut rig, IDLE_TIMEOUT_MS, |rig, is_over| {
        assert_eq!(rig.closed(client), if is_over { Some(Close::Reset) } else { None });
    });
    rig.assert_at_rest();
}

/// A client that does not read its response holds a buffer until the idle timeout, no longer.
#[test]
fn a_client_that_does_not_read() {
    let mut rig = Rig::new();
    let client = rig.client();
    rig.window(client, 0);
    rig.send(client, GET);
    let backend = rig.backend();
    rig.send(backend, OK);
    assert_eq!(rig.closed(backend), None);
    // The next request waits until the response is out.
    rig.send(client, GET);
    assert!(rig.is_paused(client) && rig.got(backend).matches("GET").count() == 1);
    rig.advance(u64::from(IDLE_TIMEOUT_MS) + 50);
    assert_eq!(rig.closed(client), Some(Close::Reset));
    rig.assert_at_rest();
}

fn two_hosts(s: &mut Snapshot, ports: &[u16], endpoints: &[u8]) {
    let binds: Vec<_> =
        ports.iter().map(|&p| building::bind(s, SocketAddr::from(([0, 0, 0, 0], p)))).collect();
    let listener = building::listener(s, "", ports[0], &binds);
    let addresses: Vec<_> = endpoints.iter().map(|&e| endpoint(e)).collect();
    let pool = building::pool(s, "p", &addresses);
    let all = [MatchSpec::prefix("")];
    building::route(s, "r", &[(listener, "")], &all, &[(pool, 1)]);
}

/// A request that runs does not notice a swap; the next one goes by the new configuration.
#[test]
fn a_swap_breaks_no_exchange() {
    let mut rig = Rig::with(|s| two_hosts(s, &[80], &[1]));
    let client = rig.client();
    rig.send(client, "POST /a HTTP/1.1\r\nHost: h\r\nContent-Length: 4\r\n\r\nab");
    let (old, to) = rig.opening();
    assert_eq!(to, endpoint(1));
    rig.connected(old);
    rig.swap(|s| two_hosts(s, &[80], &[2]));
    rig.send(client, "cd");
    assert!(rig.got(old).ends_with("abcd"));
    rig.send(old, OK);
    assert_eq!(rig.got(client), OK);
    // The old endpoint gets nothing new, not even over its idle connection.
    rig.send(client, GET);
    let (new, to) = rig.opening();
    assert_eq!(to, endpoint(2));
    rig.connected(new);
    rig.send(new, OK);
    assert_eq!(rig.got(client), OK);
    rig.swap(|s| two_hosts(s, &[80], &[3]));
    assert!(rig.closed(new).is_some(), "idle, and nobody names it any more");
    rig.assert_at_rest();
}

/// No new connection to an endpoint that was removed since; the request is routed again
/// and fails for no change of endpoints.
#[test]
fn a_retry_goes_by_the_new_configuration() {
    for request in [GET, "POST /a HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\n\r\nok"] {
        let mut rig = Rig::with(|s| two_hosts(s, &[80], &[1, 2]));
        let client = rig.client();
        rig.send(client, request);
        let (first, _) = rig.opening();
        rig.swap(|s| two_hosts(s, &[80], &[3]));
        rig.refused(first);
        let (second, to) = rig.opening();
        assert_eq!(to, endpoint(3));
        rig.connected(second);
        assert!(rig.got(second).contains(" /a HTTP/1.1\r\nHost: h\r\n"));
        rig.send(second, OK);
        assert_eq!(rig.got(client), OK);
        // Once per configuration: then it is told.
        rig.swap(|s| two_hosts(s, &[80], &[4]));
        rig.send(client, request);
        let (third, _) = rig.opening();
        rig.refused(third);
        assert!(rig.io.opened.is_empty());
        assert_eq!(status(&rig.got(client)), "503");
        rig.advance(5_000);
        rig.assert_at_rest();
    }
}

#[test]
fn binds_are_made_before_others_break() {
    let mut rig = Rig::with(|s| two_hosts(s, &[80, 81], &[1]));
    assert_eq!(rig.io.binds, [(true, 80), (true, 81)]);
    rig.swap(|s| two_hosts(s, &[81, 82], &[1]));
    assert_eq!(rig.io.binds[2..], [(true, 82), (false, 80)]);
    assert_eq!(rig.worker.binds().results(), [Ok(()), Ok(())]);
    // An equal set of binds touches nothing.
    rig.swap(|s| two_hosts(s, &[82, 81], &[1]));
    assert_eq!(rig.io.binds.len(), 4);
}

/// Connections of a removed bind: what runs finishes, what comes is told, all with a close.
#[test]
fn connections_of_a_removed_bind() {
    let mut rig = Rig::with(|s| two_hosts(s, &[80, 81], &[1]));
    let running = rig.client_at(80).unwrap();
    rig.send(running, GET);
    let backend = rig.backend();
    let idle = rig.client_at(80).unwrap();
    rig.swap(|s| two_hosts(s, &[81], &[1]));
    // From the backlog, as the driver accepted until it was empty.
    let late = rig.client_on(0).unwrap();
    rig.send(backend, OK);
    let got = rig.got(running);
    assert!(status(&got) == "200" && got.contains("Connection: close"), "{got}");
    for client in [idle, late] {
        rig.send(client, GET);
        let got = rig.got(client);
        assert!(status(&got) == "404" && got.contains("Connection: close"), "{got}");
    }
    // The bind comes back: the same place, the same connections.
    let again = rig.client_on(0).unwrap();
    rig.swap(|s| two_hosts(s, &[81, 80], &[1]));
    rig.send(again, GET);
    let backend = rig.io.opened.pop_front();
    assert!(backend.is_some() || status(&rig.got(again)) == "none");
}

#[test]
fn a_bind_that_fails_is_reported_and_tried_again() {
    let mut rig = Rig::with(|_| ());
    rig.io.failing_ports.push(81);
    rig.swap(|s| two_hosts(s, &[80, 81], &[1]));
    let results = rig.worker.binds().results();
    assert_eq!(results[0], Ok(()));
    assert_eq!(results[1].unwrap_err().0, 98);
    let version = rig.worker.binds().version();
    assert!(rig.client_at(80).is_some(), "the others serve");
    let next = rig.worker.timeout(rig.now);
    assert!(next.since(rig.now).as_millis() <= u64::from(BIND_RETRY_MIN_MS + 2 * TIMER_TICK_MS));
    rig.advance(1000);
    rig.io.failing_ports.clear();
    rig.advance(u64::from(BIND_RETRY_MAX_MS) + 50);
    assert_eq!(rig.worker.binds().results(), [Ok(()), Ok(())]);
    assert!(rig.worker.binds().version() > version);
}

#[test]
fn drain() {
    let mut rig = Rig::new();
    let (idle, pooled) = rig.warm_up();
    let running = rig.client();
    rig.send(running, GET);
    rig.backend_or_reuse(pooled);
    let last = rig.client();
    rig.turn(|worker, turn| worker.drain(turn));
    rig.run();
    assert_eq!(rig.io.binds.last(), Some(&(false, 80)));
    rig.send(pooled, OK);
    let got = rig.got(running);
    assert!(status(&got) == "200" && got.contains("Connection: close"));
    // An idle client may bring one more.
    rig.send(last, GET);
    let backend = rig.backend();
    rig.send(backend, OK);
    assert!(rig.got(last).contains("Connection: close"));
    assert!(rig.closed(backend).is_some());
    assert_eq!(rig.closed(idle), None);
    rig.advance(u64::from(DRAIN_IDLE_MS) + 50);
    assert_eq!(rig.closed(idle), Some(Close::Now));
    assert!(!rig.worker.is_drained());
    rig.end(running, End::Eof);
    rig.end(last, End::Eof);
    assert!(rig.worker.is_drained());
    rig.assert_at_rest();
}

/// Half of the slots at most are clients'; the others wait in the backlog.
#[test]
fn clients_at_max_and_one_more() {
    let mut rig = Rig::sized(16, 24, |s| plain(s, 1));
    for _ in 0..8 {
        assert!(rig.worker.can_accept());
        rig.client();
    }
    assert!(!rig.worker.can_accept());
    assert_eq!(rig.client_at(80), None);
    assert_eq!(rig.worker.counters().exhausted, 1);
}

/// Clients between requests make way while few more may come in, one in a tick, who was idle for
/// longest first; a request that runs does not, nor does who was idle for a moment only.
#[test]
fn idle_clients_make_way() {
    let mut rig = Rig::sized(32, 24, |s| plain(s, 1));
    let busy = rig.client();
    rig.send(busy, GET);
    let backend = rig.backend();
    let idle: Vec<_> = (0..15)
        .map(|_| {
            rig.advance(60);
            rig.client()
        })
        .collect();
    assert!(!rig.worker.can_accept());
    assert_eq!(rig.worker.counters().idle_evictions, 0, "none was idle for long");
    rig.advance(u64::from(EVICT_IDLE_MS));
    assert!(rig.worker.can_accept());
    // Room for one of eight.
    rig.advance(500);
    assert_eq!(rig.worker.counters().idle_evictions, 2);
    let closed: Vec<_> = idle.iter().map(|&client| rig.closed(client)).collect();
    assert_eq!(closed[..2], [Some(Close::Now); 2]);
    assert_eq!(closed[2..], [None; 13]);
    rig.send(backend, OK);
    assert_eq!(rig.got(busy), OK);
}

/// All connections busy at once: each client has its upstream, and all are served.
#[test]
fn every_slot_in_use() {
    let mut rig = Rig::sized(16, 24, |s| plain(s, 1));
    let clients: Vec<_> = (0..8).map(|_| rig.client()).collect();
    for &client in &clients {
        rig.send(client, GET);
    }
    let backends: Vec<_> = (0..8).map(|_| rig.backend()).collect();
    assert_eq!(rig.worker.counters().upstreams, 8);
    for &backend in &backends {
        rig.send(backend, OK);
    }
    for &client in &clients {
        assert_eq!(rig.got(client), OK);
    }
    // Some idle connections were not kept, so that there is room.
    assert!(rig.worker.counters().upstreams < 8);
    rig.assert_at_rest();
}

/// All slots in use, and connections fail: the next endpoint's waits for the slot of the one that
/// the driver has not let go of yet. No request fails for it.
#[test]
fn a_request_waits_for_a_slot_that_closes() {
    for slots in [4, 6, 16] {
        wait_for_a_slot(slots);
    }
}

fn wait_for_a_slot(slots: u32) {
    let mut rig = Rig::sized(slots, 24, |s| plain(s, 2));
    let clients: Vec<_> = (0..slots / 2).map(|_| rig.client()).collect();
    for &client in &clients {
        rig.send(client, GET);
    }
    let opening: Vec<_> = (0..slots / 2).map(|_| rig.opening().0).collect();
    rig.refused(opening[0]);
    assert!(rig.io.opened.is_empty(), "there is no slot yet");
    rig.advance(50);
    assert_eq!(rig.io.opened.len(), 1);
    opening[1..].iter().for_each(|&backend| rig.refused(backend));
    rig.advance(50);
    for _ in 0..slots / 2 {
        let backend = rig.backend();
        rig.send(backend, OK);
    }
    for &client in &clients {
        assert_eq!(rig.got(client), OK);
    }
    assert!(rig.worker.counters().exhausted >= 1);
    rig.assert_at_rest();
}

/// Who waits for a slot may leave, and its route's timeout counts.
#[test]
fn who_waits_for_a_slot_may_leave() {
    let mut rig = Rig::sized(16, 24, |s| {
        plain(s, 2);
        s.routes.as_mut_slice()[0].request_timeout_ms = 60;
    });
    let clients: Vec<_> = (0..8).map(|_| rig.client()).collect();
    for &client in &clients {
        rig.send(client, GET);
    }
    let opening: Vec<_> = (0..8).map(|_| rig.opening().0).collect();
    for &backend in &opening[..2] {
        rig.refused(backend);
    }
    rig.end(clients[0], End::Reset);
    rig.advance(1_000);
    assert!(rig.closed(clients[0]).is_some());
    for &client in &clients[1..] {
        assert_eq!(status(&rig.got(client)), "504");
    }
    rig.assert_at_rest();
}

/// Idle connections to many endpoints give way before the table is full: what comes next is served.
#[test]
fn idle_connections_cost_no_request_its_slot() {
    let mut rig = Rig::sized(16, 24, |s| {
        plain(s, 1);
        for n in 2..=30 {
            let pool = building::pool(s, "p", &[endpoint(n)]);
            let path = MatchSpec::prefix(std::format!("/{n}").leak());
            building::route(s, "r", &[(0, "")], &[path], &[(pool, 1)]);
        }
    });
    let mut client = rig.client();
    for n in 2..=30 {
        rig.send(client, std::format!("GET /{n} HTTP/1.1\r\nHost: h\r\n\r\n"));
        let backend = rig.backend();
        rig.send(backend, OK);
        assert_eq!(rig.got(client), OK, "request {n}");
        if n > 20 && rig.worker.can_accept() {
            client = rig.client();
        }
    }
    assert_eq!(rig.worker.counters().exhausted, 0);
    assert!(rig.worker.counters().upstreams > 1, "some are kept");
}

/// No buffer: heads that stand still lose theirs to those that wait, one per tick.
#[test]
fn slow_heads_are_evicted_when_buffers_run_out() {
    let mut rig = Rig::sized(32, 4, |s| plain(s, 1));
    let slow: Vec<_> = (0..4).map(|_| rig.client()).collect();
    for &client in &slow {
        rig.send(client, "GET /slow");
    }
    let honest = rig.client();
    rig.send(honest, GET);
    assert!(rig.io.opened.is_empty(), "no buffer yet, and none of them has stood still for long");
    rig.advance(u64::from(EVICT_STALLED_MS) + 50);
    rig.advance(50);
    let backend = rig.backend();
    rig.send(backend, OK);
    assert_eq!(rig.got(honest), OK);
    assert!(rig.worker.counters().evictions >= 1);
}

/// Without any buffer a request waits from tick to tick, and does not spin inside one.
#[test]
fn a_stall_waits_for_the_next_tick() {
    let mut rig = Rig::sized(16, 2, |s| plain(s, 1));
    let client = rig.client();
    rig.send(client, GET);
    let slow = [rig.client(), rig.client()];
    for &client in &slow {
        rig.send(client, "GET /slow");
    }
    let backend = rig.backend();
    assert_eq!(rig.got(backend), "");
    rig.advance(100);
    rig.end(slow[0], End::Eof);
    rig.advance(100);
    assert!(rig.got(backend).starts_with("GET /a"));
    rig.send(backend, OK);
    assert_eq!(rig.got(client), OK);
}

/// Opening connections hold no buffer when the head is kept: a black hole starves nobody.
#[test]
fn black_holes_hold_no_buffers() {
    let mut rig = Rig::sized(32, 4, |s| plain(s, 1));
    let clients: Vec<_> = (0..12).map(|_| rig.client()).collect();
    for &client in &clients {
        rig.send(client, GET);
    }
    assert_eq!(rig.io.opened.len(), 12);
    rig.assert_no_buffers();
    rig.advance(u64::from(CONNECT_TIMEOUT_MS) + 50);
    for &client in &clients {
        assert_eq!(status(&rig.got(client)), "504");
    }
    rig.assert_at_rest();
}

/// Random conversations: whatever clients and backends do, invariants hold, buffers balance, and at
/// the end everything is free again.
#[test]
fn random_conversations_end_clean() {
    for seed in 0..40 {
        let mut prng = crate::stdx::Prng::new(seed);
        let mut rig = Rig::sized(24, 8, |s| two_hosts(s, &[80], &[1, 2, 3]));
        rig.step = [1, 5, 100, usize::MAX][prng.below(4) as usize];
        let (mut clients, mut backends) = (Vec::new(), Vec::new());
        for _ in 0..300 {
            random_step(&mut rig, &mut prng, &mut clients, &mut backends);
            backends.extend(rig.io.opened.drain(..));
        }
        // Pipelined requests fail one after the other; then nothing is left.
        let mut rounds = 0;
        while rig.worker.counters().clients + rig.worker.counters().upstreams > 0 && rounds < 100 {
            rig.advance(100_000);
            rounds += 1;
        }
        assert_eq!(rig.worker.counters().clients, 0, "seed {seed}: {}", rig.describe());
        assert_eq!(rig.worker.counters().upstreams, 0, "seed {seed}: {}", rig.describe());
        rig.assert_at_rest();
    }
}

fn random_step(
    rig: &mut Rig,
    prng: &mut crate::stdx::Prng,
    clients: &mut Vec<u32>,
    backends: &mut [u32],
) {
    let requests = [
        GET.into(),
        GET.repeat(3),
        "POST /a HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\nabcde".into(),
        "POST /a HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n".into(),
        "0\r\n\r\n".into(),
        "PUT /a HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\n".into(),
        "abc".into(),
        "GET / HT".into(),
    ] as [String; 8];
    let responses = [
        OK,
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n",
        "0\r\n\r\n",
        "HTTP/1.1 200 OK\r\n\r\nuntil close",
        "HTTP/1.1 100 Continue\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc",
        "HTTP/1.1 20",
        "junk\r\n\r\n",
    ];
    let pick = |prng: &mut crate::stdx::Prng, of: &[u32]| {
        if of.is_empty() { None } else { Some(of[prng.below(of.len() as u64) as usize]) }
    };
    let (client, backend) = (pick(prng, clients), pick(prng, backends));
    let end = if prng.chance(1, 2) { End::Eof } else { End::Reset };
    let action = prng.below(12);
    let live = |rig: &Rig, handle: Option<u32>| handle.filter(|&h| rig.closed(h).is_none());
    match (action, live(rig, client), live(rig, backend)) {
        (0 | 1, _, _) if rig.worker.can_accept() => clients.push(rig.client()),
        (2 | 3, Some(client), _) => {
            let request = &requests[prng.below(8) as usize];
            rig.send(client, request);
        }
        (4, _, Some(backend)) => rig.connected(backend),
        (5, _, Some(backend)) => rig.send(backend, responses[prng.below(8) as usize]),
        (6, _, Some(backend)) => rig.send(backend, OK),
        (7, _, Some(backend)) if prng.chance(1, 3) => rig.refused(backend),
        (8, _, Some(backend)) if prng.chance(1, 3) => rig.end(backend, end),
        (8, Some(client), _) if prng.chance(1, 3) => rig.end(client, end),
        (9, Some(client), _) => {
            let window = [0, 1, 50, usize::MAX][prng.below(4) as usize];
            rig.window(client, window);
        }
        (10, _, _) if prng.chance(1, 4) => {
            let endpoints = [1 + prng.below(3) as u8];
            rig.swap(|s| two_hosts(s, &[80], &endpoints));
        }
        (11, _, _) => rig.advance(prng.below(3_000)),
        _ => {}
    }
}

#[test]
fn no_request_comes_back_to_the_router() {
    let own = [10, 0, 0, 9];
    // At the bind on any address, at one of its own, and at the admin port.
    let loops = [(own, 80), ([10, 240, 0, 1], 8080), (own, 9901)].map(SocketAddr::from);
    let mut rig = Rig::of(Some(loops[2]), |snapshot| {
        let any = building::bind(snapshot, SocketAddr::from(([0, 0, 0, 0], 80)));
        let literal = building::bind(snapshot, loops[1]);
        let listener = building::listener(snapshot, "", 80, &[any, literal]);
        for (path, endpoints) in [("/own", &loops[..]), ("/both", &[loops[0], endpoint(1)])] {
            let pool = building::pool(snapshot, path, endpoints);
            let path = [MatchSpec::prefix(path)];
            building::route(snapshot, path[0].path, &[(listener, "")], &path, &[(pool, 1)]);
        }
    });
    let client = rig.client();
    rig.send(client, "GET /own HTTP/1.1\r\nHost: h\r\n\r\n");
    assert_eq!(status(&rig.got(client)), "503");
    assert!(rig.io.opened.is_empty(), "it would have asked itself");
    rig.send(client, "GET /both HTTP/1.1\r\nHost: h\r\n\r\n");
    let (backend, to) = rig.opening();
    assert_eq!(to, endpoint(1));
    rig.connected(backend);
    rig.send(backend, OK);
    assert_eq!(status(&rig.got(client)), "200");
}
